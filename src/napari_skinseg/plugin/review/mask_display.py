"""How the mask in hand is seen: outline, filled, difference from the model's, the model's line; hidden while held."""

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

_MODEL, _ADDED, _REMOVED = 1, 2, 3
_COLOURS: dict[int | None, Any] = {
    _MODEL: (1.0, 0.85, 0.0, 1.0),
    _ADDED: (0.2, 0.9, 0.3, 1.0),
    _REMOVED: (1.0, 0.2, 0.6, 1.0),
    0: "transparent",
    None: "transparent",
}
_TAP = 0.25
"""Seconds: a key or button held for less was tapped."""


class Look:
    """Draws beneath the mask what the model drew, in a layer that nobody edits.

    Args:
        viewer: whose layers these are.
        background: where the difference is worked out.
        show_filled: draws the mask itself filled or as an outline.
        on_mode: told how it is drawn from now on.
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
        self._differ = LatestJob(background, "comparing with the model", self._on_compared)
        self.mode: Mode = "outline"
        self.shows_model = False
        self._held_since = 0.0
        self._was_visible = True

    def take(self, labels: Labels | None, prediction: NDArray[np.bool_] | None) -> None:
        """Look at another mask; the mode stays."""
        self._labels, self._prediction = labels, prediction
        self.refresh()

    def set_mode(self, mode: Mode) -> None:
        """Choose how the mask is drawn; a difference needs something to differ from."""
        self.mode = "outline" if mode == "difference" and self._prediction is None else mode
        self._show_filled(self.mode == "filled")
        self._on_mode(self.mode)
        self.refresh()

    def cycle(self) -> None:
        """Outline, filled, difference, and again."""
        self.set_mode(MODES[(MODES.index(self.mode) + 1) % len(MODES)])

    def show_model(self, shows: bool) -> None:
        """Draw the model's own outline beneath the mask, or not."""
        self.shows_model = shows
        self.refresh()

    def refresh(self) -> None:
        """Draw beneath the mask what is to be seen now; call it after the mask changed."""
        labels, prediction, differs = self._labels, self._prediction, self.mode == "difference"
        if labels is None or prediction is None or not (differs or self.shows_model):
            if self._layer is not None:
                self._layer.visible = False
            return
        mask = np.array(labels.data) if differs else None
        self._differ.request(lambda report, cancel: (labels, prediction, _beneath(prediction, mask), differs))

    def hold(self, is_down: bool) -> None:
        """Hide the mask while a key or button is held; a tap hides it until the next."""
        if self._labels is None:
            return
        if is_down:
            self._held_since, self._was_visible = time.monotonic(), self._labels.visible
            self._set_visible(False)
        else:
            tapped = time.monotonic() - self._held_since < _TAP
            self._set_visible(not self._was_visible if tapped else self._was_visible)

    def remove(self) -> None:
        """Take our layer away."""
        self._labels = self._prediction = None
        layer, self._layer = self._layer, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _set_visible(self, visible: bool) -> None:
        assert self._labels is not None
        self._labels.visible = visible
        if self._layer is not None and self._prediction is not None:
            self._layer.visible = visible and (self.shows_model or self.mode == "difference")

    def _on_compared(self, outcome: Outcome) -> None:
        if outcome.state != "done":
            return
        labels, prediction, beneath, differs = outcome.result
        is_old = prediction is not self._prediction or self._labels is not labels
        if is_old or differs != (self.mode == "difference") or labels not in self._viewer.layers:
            return
        known = self._layer
        layer: Labels = (
            known if known is not None and known in self._viewer.layers else self._make_layer(beneath, labels)
        )
        if not np.array_equal(layer.data, beneath):
            layer.data = beneath
        layer.contour = 0 if differs else outline_style(beneath.shape)["contour"]
        layer.opacity = 0.5 if differs else 0.9
        layer.visible = labels.visible

    def _make_layer(self, beneath: NDArray[np.uint8], labels: Labels) -> Labels:
        colormap = DirectLabelColormap(color_dict=_COLOURS)
        layer = Labels(beneath, name="· model", colormap=colormap)
        self._layer = layer
        layer.editable = False
        layers = self._viewer.layers
        active = layers.selection.active
        layers.insert(layers.index(labels), layer)
        layers.selection.active = active
        return layer


def _beneath(prediction: NDArray[np.bool_], mask: NDArray[Any] | None) -> NDArray[np.uint8]:
    """The labels to draw: the model's mask itself, or what `mask` adds to it and takes from it."""
    if mask is None:
        return np.where(prediction, np.uint8(_MODEL), np.uint8(0))
    drawn = mask != 0
    added, removed = drawn & ~prediction, prediction & ~drawn
    return np.where(added, np.uint8(_ADDED), np.where(removed, np.uint8(_REMOVED), np.uint8(0)))
