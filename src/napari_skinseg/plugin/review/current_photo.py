"""The current photo of the review: its image layer and its mask layer.

napari takes 0.3 s to add and remove two layers, because it collects garbage at each removal. So the two layers are made
once, and each photo gets their data replaced and their undo history cleared.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_skinseg.plugin.layers import KEY, store_scale
from napari_skinseg.plugin.mask_layers import FILLED_STYLE, LESION, mask_checksum, show_as_outline
from napari_skinseg.project.project import Photo

from .prefetch import LoadedPhoto

_PREFIX = "· "
"""When the layer list has the focus, a letter selects a layer whose name begins with that letter (napari issue 7551).
The prefix prevents this."""


def is_review_layer(layer: Any) -> bool:
    """Whether a layer belongs to the Review tab, or is a tool layer of ours, such as the clicks of Refine."""
    return "reviewed" in layer.metadata.get(KEY, {}) or layer.name.startswith(_PREFIX)


class CurrentPhoto(QObject):
    """The photo that is shown, or none.

    Attributes:
        loaded: the photo as it was shown first, with its latest record in the project; None if no photo is shown.
        image, labels: its layers; None before the first photo and after `remove_layers`.
        shown_checksum: `checksum` of the mask when the photo was shown.
    """

    mask_changed = Signal()
    """The mask may have changed. Undo and redo cause this signal, and also changes of the display."""

    layers_removed = Signal()
    """A person removed a layer of the photo; the mask can still be read."""

    other_layer_hidden = Signal(str)
    """The name of a photo or mask that was opened during the review, and was hidden."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self.loaded: LoadedPhoto | None = None
        self.image: Image | None = None
        self.labels: Labels | None = None
        self.shown_checksum = 0
        self._ignores_events = self._is_locked = self._is_touched = False
        self._tool: Any = "paint"
        self._is_active = False
        self._hidden: list[Any] = []  # layers of the other tabs that were visible
        self._own_visible: list[Any] = []
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def photo(self) -> Photo | None:
        """The project's record of the photo."""
        return None if self.loaded is None else self.loaded.photo

    @property
    def checksum(self) -> int:
        """A number that changes with the mask."""
        return mask_checksum(self.mask())  # the file holds no labels

    @property
    def is_unchanged(self) -> bool:
        """Whether the mask is the same as when the photo was shown."""
        return self.checksum == self.shown_checksum

    def mask(self) -> NDArray[np.bool_]:
        """A copy of the mask, bool `[H, W]`."""
        return self._data() != 0

    def show(self, loaded: LoadedPhoto, *, keep_zoom: bool, may_edit: bool) -> None:
        """Show a photo in place of the last one, with the brush or the tool that was chosen last."""
        assert loaded.rgb is not None
        mask = loaded.mask.astype(np.uint8)
        self._ignores_events = True
        try:
            if self.image is None or self.labels is None or not {self.image, self.labels} <= set(self._viewer.layers):
                self._make_layers(loaded.rgb, mask)
                keep_zoom = False
            else:
                keep_zoom = keep_zoom and self.image.data.shape == loaded.rgb.shape
                if self._is_touched:
                    self.lock()
                self.image.data = loaded.rgb
                self.labels.data = mask
            self._prepare_layers(loaded.photo, may_edit)
        finally:
            self._ignores_events = False
        self.loaded, self.shown_checksum = loaded, mask_checksum(mask)
        if not keep_zoom:
            # Without a list of layers it takes half the time, but it fits the hidden layers, too.
            is_alone = all(map(is_review_layer, self._viewer.layers))
            self._viewer.reset_view(**({} if is_alone else {"layers": [self.image]}))

    def update_photo(self, photo: Photo) -> None:
        """Replace the record of the photo, if `photo` is the current one."""
        if self.loaded is not None and self.loaded.photo.id == photo.id:
            self.loaded = replace(self.loaded, photo=photo)

    def add_prediction(self, loaded: LoadedPhoto) -> None:
        """Add the prediction of the current photo for comparison; the mask stays as it is."""
        if self.loaded is not None and self.loaded.photo.id == loaded.photo.id:
            self.loaded = replace(
                self.loaded, photo=loaded.photo, prediction=loaded.prediction, awaits_prediction=False
            )

    def unload(self) -> LoadedPhoto | None:
        """Have no current photo until the next one is loaded; return this one with its present mask."""
        left = None if self.loaded is None else replace(self.loaded, mask=self.mask())
        self.loaded = None
        return left

    def lock(self) -> None:
        """Prevent painting on a photo that was left, while the next one is loading.

        Setting `editable` also makes napari clear the undo history and end a stroke; assigning data does not.
        """
        if self.labels is not None and self.labels.editable:
            self._tool, self._is_locked = self.labels.mode, True
            self.labels.editable = False

    def clear(self) -> None:
        """Have no current photo, and hide its layers."""
        self.loaded = None
        for layer in (self.image, self.labels):
            if layer is not None:
                layer.visible = False

    def show_only_review(self) -> None:
        """Show the layers of the review, and hide those of the other tabs: only the current photo can be decided on."""
        self._is_active = True
        for layer in self._viewer.layers:
            if not is_review_layer(layer) and layer.visible:
                self._hidden.append(layer)
                layer.visible = False
        for layer in self._own_visible:
            if layer in self._viewer.layers:
                layer.visible = True
        self._own_visible = []
        if self.loaded is not None and self.labels in self._viewer.layers:
            self._viewer.layers.selection.active = self.labels

    def hide_review(self) -> None:
        """Hide the layers of the review, and show those of the other tabs again."""
        if self._is_active:
            self._own_visible = [layer for layer in self._viewer.layers if is_review_layer(layer) and layer.visible]
            for layer in self._own_visible:
                layer.visible = False
            self._show_others()

    def stop_watching(self) -> None:
        """Ignore the viewer from now on: the widget is deleted, and the viewer stays."""
        self._viewer.layers.events.inserted.disconnect(self._on_inserted)
        self._viewer.layers.events.removed.disconnect(self._on_removed)

    def remove_layers(self) -> None:
        """Remove the two layers and show the other layers again."""
        self.loaded = None
        self._ignores_events = True
        try:
            for layer in (self.labels, self.image):
                if layer is not None and layer in self._viewer.layers:
                    self._viewer.layers.remove(layer)
        finally:
            self._ignores_events = False
        self.image = self.labels = None
        self._own_visible = []
        self._show_others()

    def _show_others(self) -> None:
        self._is_active = False
        for layer in self._hidden:
            if layer in self._viewer.layers:  # a removed layer cannot be shown
                layer.visible = True
        self._hidden = []

    def _data(self) -> NDArray[Any]:
        assert self.labels is not None
        return np.asarray(self.labels.data)

    def _make_layers(self, rgb: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
        for layer in (self.labels, self.image):
            if layer is not None and layer in self._viewer.layers:
                self._viewer.layers.remove(layer)  # the person removed the other one
        self.image, self.labels = (
            Image(rgb, rgb=True, metadata={KEY: {"reviewed": ""}}),
            Labels(mask, metadata={KEY: {"reviewed": ""}}, **FILLED_STYLE),
        )
        self._viewer.layers.append(self.image)
        self._viewer.layers.append(self.labels)
        self.labels.mode = self._tool
        show_as_outline(self.labels)
        events = self.labels.events
        for event in (events.paint, events.set_data, events.labels_update, events.data):
            event.connect(self._forward_to(self.mask_changed.emit))

    def _prepare_layers(self, photo: Photo, may_edit: bool) -> None:
        image, labels = self.image, self.labels
        assert image is not None
        assert labels is not None
        if not may_edit:
            self.lock()
        elif self._is_locked:
            labels.editable, labels.mode = True, self._tool
            self._is_locked = False
        self._is_touched = False
        image.name, labels.name = f"{_PREFIX}{photo.path.stem}", f"{_PREFIX}{photo.path.stem}_segmentation"
        labels.selected_label = LESION
        labels.metadata = {KEY: {"photo": photo.name, "reviewed": photo.id}}
        image.metadata = {KEY: {"reviewed": photo.id}}
        store_scale(image, photo.mm_per_px, photo.scale_line, photo.scale_mm)
        if self._is_active:
            for layer in (image, labels):
                if not layer.visible:
                    layer.visible = True
        else:
            self._own_visible = [image, labels]
            image.visible = labels.visible = False
        if self._is_active:
            self._viewer.layers.selection.active = labels

    def _forward_to(self, emit: Callable[[], None]) -> Callable[[Any], None]:
        def forward(event: Any) -> None:
            if not self._ignores_events:
                self._is_touched = True
                if self.loaded is not None:
                    emit()

        return forward

    def _on_inserted(self, event: Any) -> None:
        layer = event.value
        if self._is_active and isinstance(layer, Image | Labels) and not is_review_layer(layer) and layer.visible:
            self._hidden.append(layer)
            layer.visible = False
            self.other_layer_hidden.emit(layer.name)

    def _on_removed(self, event: Any) -> None:
        if self._ignores_events or event.value not in (self.image, self.labels):
            return
        if self.loaded is not None:
            self.layers_removed.emit()
            self.loaded = None
