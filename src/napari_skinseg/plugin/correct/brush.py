"""The brush of the mask in hand: as wide as the lesion asks for, and of one size on the screen at any zoom."""

import math
from collections.abc import Callable

import numpy as np
from napari.components import Camera
from napari.layers import Labels

from napari_skinseg.plugin.mask_layers import LESION

STEP = 1.25
_SHARE = 0.05


class Brush:
    """Holds what a person likes: the brush's share of the lesion's diameter, 5 % at first, kept from photo to photo."""

    def __init__(self, camera: Camera, on_change: Callable[[], None]) -> None:
        self.keeps_on_screen = True
        self._camera, self._on_change = camera, on_change
        self._layer: Labels | None = None
        self._share = _SHARE
        # napari's brush is a whole number of photo pixels; this is what it would be on the screen, unrounded.
        self._on_screen = 0.0
        self._known = 0
        camera.events.zoom.connect(self._on_zoom)

    @property
    def size(self) -> int | None:
        """Diameter in pixels of the photo."""
        return None if self._layer is None else self._layer.brush_size

    def follow(self, layer: Labels | None) -> None:
        """Take the brush of `layer` in hand from now on; call it once the view is where the photo is shown."""
        if self._layer is not None:
            self._layer.events.brush_size.disconnect(self._on_brush)
        self._layer = layer
        if layer is not None:
            layer.events.brush_size.connect(self._on_brush)
            self._put(self._share * _diameter(layer))
        self._on_change()

    def smaller(self) -> None:
        """One step down; the least is one pixel."""
        if self._layer is not None:
            self._layer.brush_size = max(1, min(round(self._layer.brush_size / STEP), self._layer.brush_size - 1))

    def larger(self) -> None:
        """One step up; the most is half the photo's shorter side."""
        if self._layer is not None:
            size = max(round(self._layer.brush_size * STEP), self._layer.brush_size + 1)
            self._layer.brush_size = min(size, self._most())

    def _put(self, size: float) -> None:
        assert self._layer is not None
        self._on_screen = size * self._camera.zoom
        self._known = min(max(1, round(size)), self._most())
        self._layer.brush_size = self._known

    def _on_brush(self) -> None:
        """Follow a person who changes the size, by our keys or by napari's."""
        assert self._layer is not None
        if self._layer.brush_size != self._known:
            self._share *= self._layer.brush_size / self._known
            self._known = self._layer.brush_size
            self._on_screen = self._known * self._camera.zoom
        self._on_change()

    def _on_zoom(self) -> None:
        if self._layer is not None and self.keeps_on_screen:
            on_screen = self._on_screen
            self._put(on_screen / self._camera.zoom)
            self._on_screen = on_screen  # where the size met its limits, zooming back gives it again

    def _most(self) -> int:
        assert self._layer is not None
        return max(1, min(self._layer.data.shape[-2:]) // 2)


def _diameter(layer: Labels) -> float:
    """The lesion's, from its area; where there is none yet, that of a usual one: two fifths of the diagonal."""
    area = np.count_nonzero(np.asarray(layer.data) == LESION)
    return math.sqrt(4 * area / math.pi) if area else 0.4 * math.hypot(*layer.data.shape[-2:])
