"""How the current mask is displayed: outline, filled, difference from the prediction, prediction outline, hidden."""

import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_skinseg.plugin.background import Background, LatestJob, Outcome
from napari_skinseg.plugin.mask_layers import outline_style

Mode = Literal["outline", "filled", "difference"]
MODES: tuple[Mode, ...] = ("outline", "filled", "difference")

_PREDICTED, _ADDED, _REMOVED = 1, 2, 3
_COLOURS: dict[int | None, Any] = {
    _PREDICTED: (1.0, 0.85, 0.0, 1.0),
    _ADDED: (0.2, 0.9, 0.3, 1.0),
    _REMOVED: (1.0, 0.2, 0.6, 1.0),
    0: "transparent",
    None: "transparent",
}
_SHORT_PRESS = 0.25
"""Seconds; a shorter press of the Hide key or button switches the mask off or on."""


class MaskDisplay:
    """Shows the prediction, or the difference from it, in a read-only layer below the mask.

    Args:
        viewer: the viewer with the layers.
        background: computes the difference.
        show_filled: shows the mask filled (True) or as an outline (False).
        on_mode: called with each new mode.

    Attributes:
        mode: the display mode; it stays from photo to photo.
        shows_prediction: whether the outline of the prediction is shown.
    """

    def __init__(
        self,
        viewer: Any,
        background: Background,
        show_filled: Callable[[bool], None],
        on_mode: Callable[[Mode], None],
    ) -> None:
        self._viewer, self._show_filled, self._on_mode = viewer, show_filled, on_mode
        self._labels: Labels | None = None
        self._prediction: NDArray[np.bool_] | None = None
        self._layer: Labels | None = None
        self._comparison = LatestJob(background, "comparing with the prediction", self._on_compared)
        self.mode: Mode = "outline"
        self.shows_prediction = False
        self._pressed_at = 0.0
        self._was_visible = True

    def set_mask(self, labels: Labels | None, prediction: NDArray[np.bool_] | None) -> None:
        """Display another mask and prediction bool `[H, W]`; None for none."""
        self._labels, self._prediction = labels, prediction
        self.refresh()

    def set_mode(self, mode: Mode) -> None:
        """Set the display mode; without a prediction, "difference" becomes "outline"."""
        self.mode = "outline" if mode == "difference" and self._prediction is None else mode
        self._show_filled(self.mode == "filled")
        self._on_mode(self.mode)
        self.refresh()

    def next_mode(self) -> None:
        """Switch to the next mode of `MODES`, from the start again at the end."""
        self.set_mode(MODES[(MODES.index(self.mode) + 1) % len(MODES)])

    def show_prediction(self, shows: bool) -> None:
        """Show or hide the outline of the prediction."""
        self.shows_prediction = shows
        self.refresh()

    def refresh(self) -> None:
        """Update the layer below the mask; call this after the mask changed."""
        labels, prediction, differs = self._labels, self._prediction, self.mode == "difference"
        if labels is None or prediction is None or not (differs or self.shows_prediction):
            if self._layer is not None:
                self._layer.visible = False
            return
        mask = np.array(labels.data) if differs else None
        self._comparison.request(lambda report, cancel: (labels, prediction, _compare(prediction, mask), differs))

    def hide_while_pressed(self, is_down: bool) -> None:
        """Hide the mask while a key or button is pressed; a short press switches the mask off or on."""
        if self._labels is None:
            return
        if is_down:
            self._pressed_at, self._was_visible = time.monotonic(), self._labels.visible
            self._set_visible(False)
        else:
            is_short = time.monotonic() - self._pressed_at < _SHORT_PRESS
            self._set_visible(not self._was_visible if is_short else self._was_visible)

    def remove_layer(self) -> None:
        """Remove the layer below the mask."""
        self._labels = self._prediction = None
        layer, self._layer = self._layer, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _set_visible(self, visible: bool) -> None:
        assert self._labels is not None
        self._labels.visible = visible
        if self._layer is not None and self._prediction is not None:
            self._layer.visible = visible and (self.shows_prediction or self.mode == "difference")

    def _on_compared(self, outcome: Outcome) -> None:
        if outcome.state != "done":
            return
        labels, prediction, comparison, differs = outcome.result
        is_outdated = prediction is not self._prediction or self._labels is not labels
        if is_outdated or differs != (self.mode == "difference") or labels not in self._viewer.layers:
            return
        layer = self._layer
        if layer is None or layer not in self._viewer.layers:
            layer = self._layer = self._make_layer(comparison, labels)
        if not np.array_equal(layer.data, comparison):
            layer.data = comparison
        layer.contour = 0 if differs else outline_style(comparison.shape).get("contour", 0)
        layer.opacity = 0.5 if differs else 0.9
        layer.visible = labels.visible

    def _make_layer(self, comparison: NDArray[np.uint8], labels: Labels) -> Labels:
        layer = Labels(comparison, name="· model", colormap=DirectLabelColormap(color_dict=_COLOURS))
        layer.editable = False
        layers = self._viewer.layers
        active = layers.selection.active
        layers.insert(layers.index(labels), layer)
        layers.selection.active = active
        return layer


def _compare(prediction: NDArray[np.bool_], mask: NDArray[Any] | None) -> NDArray[np.uint8]:
    """The labels of the layer below the mask: the prediction, or the pixels that `mask` adds to it and removes."""
    if mask is None:
        return np.where(prediction, np.uint8(_PREDICTED), np.uint8(0))
    lesion = mask != 0
    added, removed = lesion & ~prediction, prediction & ~lesion
    return np.where(added, np.uint8(_ADDED), np.where(removed, np.uint8(_REMOVED), np.uint8(0)))
