"""The brush of a mask layer: its size follows the lesion, and stays the same on the screen at any zoom."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from napari.components import Camera
from napari.layers import Labels

from .mask_edit import lesion_label

STEP = 1.25
_SHARE = 0.05


class Brush:
    """Sets the brush size of one Labels layer after another.

    The size is a share of the lesion's diameter, 5 % at first. If the user changes the size, the share changes with it
    and applies to the next photos.

    Attributes:
        keeps_on_screen: keep the size on the screen when the zoom changes; else the size in pixels of the photo.
    """

    def __init__(self, camera: Camera, on_change: Callable[[], None]) -> None:
        self.keeps_on_screen = True
        self._camera, self._on_change = camera, on_change
        self._layer: Labels | None = None
        self._share = _SHARE
        # napari rounds the brush size to whole pixels of the photo; this is the size on the screen before rounding.
        self._screen_size = 0.0
        self._own_size = 0  # the last size that this object set, to recognise changes by the user
        camera.events.zoom.connect(self._on_zoom)

    @property
    def size(self) -> int | None:
        """Diameter in pixels of the photo; None without a layer."""
        return None if self._layer is None else self._layer.brush_size

    def set_layer(self, layer: Labels | None) -> None:
        """Set the brush of `layer` from now on; call this when the view already shows the photo."""
        if self._layer is not None:
            self._layer.events.brush_size.disconnect(self._on_brush_size)
        self._layer = layer
        if layer is not None:
            layer.events.brush_size.connect(self._on_brush_size)
            self._set_size(self._share * _lesion_diameter(layer))
        self._on_change()

    def make_smaller(self) -> None:
        """Make the brush a fifth smaller, at least by one pixel; the smallest size is one pixel."""
        if self._layer is not None:
            self._layer.brush_size = max(1, min(round(self._layer.brush_size / STEP), self._layer.brush_size - 1))

    def make_larger(self) -> None:
        """Make the brush a quarter larger, at least by one pixel; the largest size is half the photo's shorter side."""
        if self._layer is not None:
            size = max(round(self._layer.brush_size * STEP), self._layer.brush_size + 1)
            self._layer.brush_size = min(size, self._largest_size())

    def _set_size(self, size: float) -> None:
        assert self._layer is not None
        self._screen_size = size * self._camera.zoom
        self._own_size = min(max(1, round(size)), self._largest_size())
        self._layer.brush_size = self._own_size

    def _on_brush_size(self) -> None:
        """Take over a size that the user chose, with the keys of this plugin or of napari."""
        assert self._layer is not None
        if self._layer.brush_size != self._own_size:
            self._share *= self._layer.brush_size / self._own_size
            self._own_size = self._layer.brush_size
            self._screen_size = self._own_size * self._camera.zoom
        self._on_change()

    def _on_zoom(self) -> None:
        if self._layer is not None and self.keeps_on_screen:
            screen_size = self._screen_size
            self._set_size(screen_size / self._camera.zoom)
            self._screen_size = screen_size  # if the size met a limit, zooming back restores it

    def _largest_size(self) -> int:
        assert self._layer is not None
        return max(1, min(self._layer.data.shape[-2:]) // 2)


def explain_blocked_strokes(layer: Labels, say: Callable[..., None]) -> None:
    """Say why a stroke on `layer` paints nothing; napari moves the photo instead, without a message.

    Args:
        layer: a mask.
        say: shows a message; `is_problem=True` for a problem.
    """

    def explain(layer: Labels, event: Any) -> None:
        if event.button == 1 and not (layer.editable and layer.visible):
            reason = "locked; unlock it (the pencil in the layer list)" if layer.visible else "hidden; show it"
            say(f"{layer.name} is {reason} to paint. Until then, a drag moves the photo.", is_problem=True)

    layer.mouse_drag_callbacks.append(explain)


def _lesion_diameter(layer: Labels) -> float:
    """Return the diameter of a disc with the lesion's area, in pixels; without a lesion, 2/5 of the diagonal."""
    area = np.count_nonzero(np.asarray(layer.data) == lesion_label(layer))
    return math.sqrt(4 * area / math.pi) if area else 0.4 * math.hypot(*layer.data.shape[-2:])
