"""The photo in hand: its picture and its mask as layers, ready to paint.

napari takes 0.3 s to make and remove the two layers of a photo (it collects garbage at each removal), so they are made
once and emptied for the next photo, of the undo history too: nothing of one photo may leak into another.
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

from .prefetch import Ready

_PREFIX = "· "
"""A letter typed while the layer list has the focus jumps to a layer that begins with it (napari 7551)."""


class Desk(QObject):
    """One photo at a time.

    Attributes:
        ready: the photo in hand as it was put here, with what the project said of it last; None if there is none.
        image, labels: its layers; None before the first photo and after the last.
        shown_as: `state` of the mask as it was put here.
    """

    changed = Signal()
    """Something happened to the mask, perhaps only to how it is drawn: undo and redo tell no more than that."""

    painted = Signal()
    """A person changed the mask."""

    lost = Signal()
    """A person removed a layer of the photo in hand; the mask can still be read."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self.ready: Ready | None = None
        self.image: Image | None = None
        self.labels: Labels | None = None
        self.shown_as = 0
        self._is_ours = self._is_frozen = self._is_touched = False
        self._tool: Any = "paint"
        self._hidden: list[Any] = []
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def photo(self) -> Photo | None:
        """What the project says of the photo in hand."""
        return None if self.ready is None else self.ready.photo

    @property
    def state(self) -> int:
        """A number that changes with the mask."""
        return mask_checksum(self._data())

    @property
    def is_untouched(self) -> bool:
        """Whether the mask is as it was put here."""
        return self.state == self.shown_as

    def mask(self) -> NDArray[np.bool_]:
        """The mask as it is now, bool `[H, W]`, a copy."""
        return self._data() != 0

    def show(self, ready: Ready, *, keep_zoom: bool, may_edit: bool) -> None:
        """Put a photo here instead of the last one, with the brush (or whatever tool was chosen) in hand."""
        assert ready.rgb is not None
        mask = ready.mask.astype(np.uint8)
        self._is_ours = True
        try:
            if self.image is None or self.labels is None or not self._has_layers():
                self._make_layers(ready.rgb, mask)
                keep_zoom = False
            else:
                keep_zoom = keep_zoom and self.image.data.shape == ready.rgb.shape
                if self._is_touched:
                    self.freeze()
                self.image.data = ready.rgb
                self.labels.data = mask
            self._equip(ready.photo, may_edit)
        finally:
            self._is_ours = False
        self.ready, self.shown_as = ready, mask_checksum(mask)
        if not keep_zoom:
            self._viewer.reset_view(layers=[self.image])

    def learn(self, photo: Photo) -> None:
        """Take the news that the project has of the photo in hand."""
        if self.ready is not None and self.ready.photo.id == photo.id:
            self.ready = replace(self.ready, photo=photo)

    def learn_prediction(self, ready: Ready) -> None:
        """Take the model's mask of the photo in hand, for comparing; the mask in hand stays."""
        if self.ready is not None and self.ready.photo.id == ready.photo.id:
            self.ready = replace(self.ready, photo=ready.photo, prediction=ready.prediction, awaits_model=False)

    def put_away(self) -> Ready | None:
        """Have no photo in hand until the next is here, and return this one as it is now, for coming back to it."""
        left = None if self.ready is None else replace(self.ready, mask=self.mask())
        self.ready = None
        return left

    def freeze(self) -> None:
        """Keep the brush off a photo that was left, while the next one is on its way.

        This is what makes napari forget the undo history, and a stroke that is under way; assigning data does not.
        """
        if self.labels is not None and self.labels.editable:
            self._tool, self._is_frozen = self.labels.mode, True
            self.labels.editable = False

    def clear(self) -> None:
        """Have no photo in hand; the layers stay, out of sight."""
        self.ready = None
        for layer in (self.image, self.labels):
            if layer is not None:
                layer.visible = False

    def hide_others(self) -> None:
        """Take the other layers out of sight while photos are reviewed."""
        self._hidden = [layer for layer in self._viewer.layers if layer.visible]
        for layer in self._hidden:
            layer.visible = False

    def remove(self) -> None:
        """Take our layers away and show the others again."""
        self.ready = None
        self._is_ours = True
        try:
            for layer in (self.labels, self.image):
                if layer is not None and layer in self._viewer.layers:
                    self._viewer.layers.remove(layer)
        finally:
            self._is_ours = False
        self.image = self.labels = None
        for layer in self._hidden:
            layer.visible = True
        self._hidden = []

    def _data(self) -> NDArray[Any]:
        assert self.labels is not None
        return np.asarray(self.labels.data)

    def _make_layers(self, rgb: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
        for layer in (self.labels, self.image):
            if layer is not None and layer in self._viewer.layers:
                self._viewer.layers.remove(layer)  # the person removed the other one
        self.image, self.labels = Image(rgb, rgb=True, metadata={KEY: {"reviewed": ""}}), Labels(mask, **FILLED_STYLE)
        self._viewer.layers.append(self.image)
        self._viewer.layers.append(self.labels)
        self.labels.mode = self._tool
        self.labels.metadata = {KEY: {}}
        show_as_outline(self.labels)
        events = self.labels.events
        for event in (events.paint, events.set_data, events.labels_update, events.data):
            event.connect(self._tell(self.changed.emit))
        events.paint.connect(self._tell(self.painted.emit))

    def _equip(self, photo: Photo, may_edit: bool) -> None:
        image, labels = self.image, self.labels
        assert image is not None
        assert labels is not None
        if not may_edit:
            self.freeze()
        elif self._is_frozen:
            labels.editable, labels.mode = True, self._tool
            self._is_frozen = False
        self._is_touched = False
        image.name, labels.name = f"{_PREFIX}{photo.path.stem}", f"{_PREFIX}{photo.path.stem}_segmentation"
        labels.selected_label = LESION
        labels.metadata = {KEY: {"photo": photo.name, "reviewed": photo.id}}
        image.metadata = {KEY: {"reviewed": photo.id}}
        store_scale(image, photo.mm_per_px, photo.scale_line, photo.scale_mm)
        for layer in (image, labels):
            if not layer.visible:
                layer.visible = True
        self._viewer.layers.selection.active = labels

    def _tell(self, emit: Callable[[], None]) -> Callable[[Any], None]:
        def tell(event: Any) -> None:
            if not self._is_ours:
                self._is_touched = True
                if self.ready is not None:
                    emit()

        return tell

    def _on_removed(self, event: Any) -> None:
        if self._is_ours or event.value not in (self.image, self.labels):
            return
        if self.ready is not None:
            self.lost.emit()
            self.ready = None

    def _has_layers(self) -> bool:
        return self.image in self._viewer.layers and self.labels in self._viewer.layers
