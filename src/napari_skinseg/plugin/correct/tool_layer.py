"""A layer of a tool on a photo, such as the markers of clicks."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from napari.layers import Image, Labels, Layer
from qtpy.QtCore import QTimer

from napari_skinseg.plugin.layers import LayerPhoto

LayerType = TypeVar("LayerType", bound=Layer)


class ToolLayer(Generic[LayerType]):
    """Makes the layer when it is needed, and removes it after its photo.

    The layer stays, empty, when its tool is switched off, because napari takes up to a second to remove a layer (it
    collects garbage). The layer is never hidden: napari 0.9.2 can crash after a hidden layer was removed (segmentation
    fault in OpenGL, seen with Mesa).

    Args:
        viewer: the napari viewer.
        make: makes the layer of a photo.
    """

    def __init__(self, viewer: Any, make: Callable[[LayerPhoto], LayerType]) -> None:
        self._viewer, self._make = viewer, make
        self.layer: LayerType | None = None
        self._photo_layer: Image | None = None
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def is_in_viewer(self) -> bool:
        """Whether the layer exists and is in the viewer; a user may remove it."""
        return self.layer is not None and self.layer in self._viewer.layers

    def place_on(self, photo: LayerPhoto, mask: Labels) -> LayerType:
        """Return the layer on `photo`, which is new unless it was there, right above its `mask`."""
        if self.layer is None or not self.is_in_viewer or self._photo_layer is not photo.layer:
            self.remove()
            self.layer, self._photo_layer = self._make(photo), photo.layer
            self._viewer.layers.insert(self._viewer.layers.index(mask) + 1, self.layer)
        return self.layer

    def remove(self) -> None:
        """Remove the layer."""
        layer, self.layer, self._photo_layer = self.layer, None, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _on_removed(self, event: Any) -> None:
        if event.value is self._photo_layer:
            QTimer.singleShot(0, self.remove)  # later, because napari is still removing the photo
