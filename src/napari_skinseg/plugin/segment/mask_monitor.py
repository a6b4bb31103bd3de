"""Keep the facts about each mask up to date: provenance, features table and card follow the data of the layer."""

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from napari_skinseg.errors import BadInput
from napari_skinseg.measurement.measure import Value, measure_labels
from napari_skinseg.plugin.background import Outcome
from napari_skinseg.plugin.layers import KEY, LayerPhoto, find_photo_layer, photo_from_layer
from napari_skinseg.plugin.mask_layers import (
    UNDO_KEYS,
    clear_measurements,
    find_mask,
    layer_checksum,
    show_measurements,
    undo_or_redo,
    update_facts,
    written_provenance,
)
from napari_skinseg.plugin.session import Session, report_failure

_SOON, _PAUSE = 100, 400
"""Milliseconds after a change until the facts are updated, and after the last change until the mask is measured."""


class MaskMonitor:
    """Follows the data of every mask in the viewer: strokes, clicks, new predictions, undo and redo.

    Soon after a change, the layer's metadata get the provenance of the present mask, old measurements disappear, and
    `on_change` is called. When the changes pause, a worker measures the mask.

    Args:
        session: viewer and workers.
        parent: the widget that owns the timers.
        on_change: called when the facts about a mask changed.
    """

    def __init__(self, session: Session, parent: QWidget, on_change: Callable[[], None]) -> None:
        self._session, self._viewer, self._on_change = session, session.viewer, on_change
        self._changed: list[Labels] = []
        self._to_measure: list[Labels] = []
        self._is_measuring = False
        self._measured: dict[str, tuple[int, float | None, dict[int, dict[str, Value]]]] = {}  # by the photo's key
        self._soon = QTimer(parent, singleShot=True)
        self._soon.timeout.connect(self._update)
        self._pause = QTimer(parent, singleShot=True)
        self._pause.timeout.connect(self._measure_next)
        for layer in self._viewer.layers:
            self._watch(layer)
        # Methods, which napari holds weakly: a function would keep this object alive after the widget was closed.
        self._viewer.layers.events.inserted.connect(self._on_inserted)

    @property
    def is_idle(self) -> bool:
        """Whether all facts about all masks are up to date."""
        return not (self._soon.isActive() or self._pause.isActive() or self._is_measuring)

    def measurements(self, mask: Labels, photo: LayerPhoto) -> dict[int, dict[str, Value]] | None:
        """Return the measurements of each label of the present mask of `photo`; None while they are not known."""
        checksum, mm_per_px, values = self._measured.get(photo.key, (None, None, None))
        is_current = checksum == layer_checksum(mask, photo) and mm_per_px == photo.mm_per_px
        return values if is_current else None

    def refresh(self, mask: Labels, *, at_once: bool = False) -> None:
        """Update the facts about `mask`, which changed, or of which another plane is shown.

        Args:
            mask: the mask layer.
            at_once: do not wait for a pause, because no further change is expected.
        """
        if self._session.is_closed:
            return
        if mask not in self._changed:
            self._changed.append(mask)
        if at_once or not self._soon.isActive():
            self._soon.start(0 if at_once else _SOON)
        self._pause.start(0 if at_once else _PAUSE)

    def _on_inserted(self, event: Any) -> None:
        self._watch(event.value)

    def _watch(self, layer: Any) -> None:
        if isinstance(layer, Labels):
            layer.events.paint.connect(self._on_data)
            layer.events.set_data.connect(self._on_data)  # undo and redo send no other event
            if KEY in layer.metadata:
                for key, redo in UNDO_KEYS.items():
                    layer.bind_key(key, lambda layer, redo=redo: undo_or_redo(layer, redo=redo), overwrite=True)
            self.refresh(layer)

    def _on_data(self, event: Any) -> None:
        self.refresh(event.source)

    def _update(self) -> None:
        changed, self._changed = self._changed, []
        if self._session.is_closed:
            return
        for mask in changed:
            photo = self._photo_of(mask)
            if photo is None:
                continue
            provenance = written_provenance(mask, photo)
            known = mask.metadata[KEY]
            if provenance and any(known.get(name) != value for name, value in provenance.items()):
                update_facts(mask, **provenance)
            self._show_measurements(mask, photo)
        self._on_change()
        if not self._pause.isActive():
            self._measure_next()

    def _show_measurements(self, mask: Labels, photo: LayerPhoto) -> None:
        values = self.measurements(mask, photo)
        if values is None:
            clear_measurements(mask)
            if mask not in self._to_measure:
                self._to_measure.append(mask)
        elif mask.metadata[KEY].get("measured") != self._measured[photo.key][0] or len(mask.features.columns) < 2:
            show_measurements(mask, self._measured[photo.key][0], values)

    def _measure_next(self) -> None:
        while self._to_measure and not self._is_measuring and not self._session.is_closed:
            mask = self._to_measure.pop(0)
            photo = self._photo_of(mask)
            if photo is not None and self.measurements(mask, photo) is None:
                self._measure(mask, photo)

    def _measure(self, mask: Labels, photo: LayerPhoto) -> None:
        checksum, mm_per_px = layer_checksum(mask, photo), photo.mm_per_px
        labels = np.array(mask.data[photo.plane])

        def on_end(outcome: Outcome) -> None:
            self._is_measuring = False
            if outcome.error is not None:
                report_failure(outcome.error, f"Measuring {photo.name}")
            elif outcome.state == "done":
                self._measured[photo.key] = checksum, mm_per_px, outcome.result
                if self._photo_of(mask) is not None and layer_checksum(mask, photo) == checksum:
                    show_measurements(mask, checksum, outcome.result)
                    self._on_change()
            if not self._pause.isActive():
                self._measure_next()

        self._is_measuring = True
        self._session.background.start(
            f"measuring {photo.name}", lambda report, cancel: measure_labels(photo.read(), labels, mm_per_px), on_end
        )

    def _photo_of(self, mask: Labels) -> LayerPhoto | None:
        """Return the photo of `mask` that is shown; None if the mask belongs to no photo in the viewer."""
        layers = self._viewer.layers
        layer = find_photo_layer(layers, mask)
        if not isinstance(layer, Image) or mask not in layers:
            return None
        try:
            photo = photo_from_layer(layer, self._viewer.dims.point)
        except BadInput:
            return None
        return photo if find_mask(layers, photo) is mask else None
