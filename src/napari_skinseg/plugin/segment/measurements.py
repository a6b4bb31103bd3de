"""The features table of a mask tells of the mask as it is: what a person painted, clicked or undid is measured anew."""

from typing import Any

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from napari_skinseg.errors import BadInput
from napari_skinseg.measurement.measure import measure
from napari_skinseg.plugin.background import LatestJob, Outcome
from napari_skinseg.plugin.layers import LayerPhoto, find_photo_layer, photo_from_layer
from napari_skinseg.plugin.mask_layers import LESION, find_mask, is_edited, layer_checksum, show_measurements
from napari_skinseg.plugin.session import Session, report_failure


class MaskFigures:
    """Watches the masks of photos; those that the model drew are measured by whoever had them drawn."""

    def __init__(self, session: Session, parent: QWidget) -> None:
        self._session, self._viewer = session, session.viewer
        self._touched: Labels | None = None
        self._measured: dict[str, int] = {}  # the last state measured here of each photo's mask
        self._measurer = LatestJob(session.background, "measuring", self._on_end)
        self._pause = QTimer(parent, singleShot=True, interval=800)  # until the person rests
        self._pause.timeout.connect(self._measure)
        for layer in self._viewer.layers:
            self._watch(layer)
        self._viewer.layers.events.inserted.connect(self._on_inserted)

    def _on_inserted(self, event: Any) -> None:
        self._watch(event.value)

    def _watch(self, layer: Any) -> None:
        if isinstance(layer, Labels):
            layer.events.paint.connect(self._on_change)
            layer.events.set_data.connect(self._on_change)  # undo tells no more than that

    def _on_change(self, event: Any) -> None:
        if not self._session.is_closed:
            self._touched = event.source
            self._pause.start()

    def _measure(self) -> None:
        layers = self._viewer.layers
        try:
            image = photo_from_layer(find_photo_layer(layers, self._touched), self._viewer.dims.point)
        except BadInput:
            return  # it belongs to no photo, or to none that is shown
        mask = find_mask(layers, image)
        if self._session.is_closed or mask is None or mask != self._touched:
            return
        is_persons = is_edited(mask, image) or image.key in self._measured
        state = layer_checksum(mask, image)
        if is_persons and self._measured.get(image.key) != state:
            lesion = np.equal(mask.data[image.plane], LESION)
            self._measurer.request(
                lambda report, cancel: (mask, image, state, measure(image.read(), lesion, image.mm_per_px))
            )

    def _on_end(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            report_failure(outcome.error, "Measuring")
        elif outcome.state == "done":
            self._show(*outcome.result)

    def _show(self, layer: Labels, image: LayerPhoto, state: int, values: dict[str, Any]) -> None:
        if layer in self._viewer.layers and layer_checksum(layer, image) == state:
            self._measured[image.key] = state
            show_measurements(layer, values)
