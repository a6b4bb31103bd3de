"""The part of a photo round a lesion, no larger than colour needs, with what may be read there: lesion and skin."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_skinseg.pixels.mask import Window

from .artefact_pixels import downsample, downsample_mask, find_artefact_pixels

_SIDE = 800  # px; larger crops are averaged down before colour is read
_PIXELS = 20_000  # pixels drawn evenly for colour statistics


@dataclass(frozen=True)
class Crop:
    """A lesion and the skin round it, averaged down by `factor`; all arrays have one height and width.

    Attributes:
        photo: uint8 `[h, w, 3]`.
        inside: the lesion, bool `[h, w]`.
        bad: hair, glare, ink and dark field.
        skin: the ring round the lesion that shows skin and nothing else: from a gap of 2 % of the lesion's diameter (at
            least 3 px) outwards by 15 % (at least 10 px).
        skin_px: its area in pixels of the photo.
        enough_skin: it is at least 500 px and 30 % of the whole ring.
        diameter: equivalent diameter of the lesion in pixels of the photo.
    """

    photo: NDArray[np.uint8]
    inside: NDArray[np.bool_]
    bad: NDArray[np.bool_]
    skin: NDArray[np.bool_]
    skin_px: int
    enough_skin: bool
    factor: int
    diameter: float

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Pixels of the lesion whose colour counts."""
        return self.inside & ~self.bad


def crop_around(
    rgb: NDArray[np.uint8],
    lesion: NDArray[np.bool_],
    lesion_box: Window,
    every_piece: NDArray[np.bool_],
    field: NDArray[np.bool_],
    diameter: float,
) -> Crop:
    """Cut a lesion out of a photo.

    Args:
        rgb: uint8 `[H, W, 3]`.
        lesion: the piece that is measured, bool `[H, W]`, not empty.
        lesion_box: its bounding box.
        every_piece: what is lesion at all, so that no other piece is taken for skin.
        field: the dark field.
        diameter: equivalent diameter of `lesion` in pixels.
    """
    gap, width = max(3.0, 0.02 * diameter), max(10.0, 0.15 * diameter)
    box = tuple(
        slice(max(0, side.start - int(gap + width) - 2), min(size, side.stop + int(gap + width) + 2))
        for side, size in zip(lesion_box, lesion.shape, strict=True)
    )
    factor = -(-max(side.stop - side.start for side in box) // _SIDE)
    photo, inside = downsample(np.ascontiguousarray(rgb[box]), factor), downsample_mask(lesion[box], factor)
    bad = find_artefact_pixels(photo, inside, float(np.hypot(*lesion.shape)) / factor)
    bad |= downsample_mask(field[box], factor)
    distance = np.asarray(ndimage.distance_transform_edt(~inside)) * factor
    ring = (distance > gap) & (distance <= gap + width)
    skin = ring & ~bad & ~downsample_mask(every_piece[box], factor)
    skin_px = int(skin.sum()) * factor**2
    # The whole ring, frame or no frame, has about the area of a band along the outline of a disc (Steiner's formula).
    expected = np.pi * width * (diameter + 2 * gap + width)
    enough = skin_px >= 500 and skin_px >= 0.3 * expected
    return Crop(photo, inside, bad, skin, skin_px, bool(enough), factor, diameter)


def sample_pixels(pixels: NDArray[np.int_]) -> NDArray[np.int_]:
    """At most 20,000 of the pixels `[N, 2]`, evenly: the same ones every time."""
    if len(pixels) <= _PIXELS:
        return pixels
    return pixels[np.linspace(0, len(pixels) - 1, _PIXELS).astype(int)]


def to_lab(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    """CIELAB (D65) of sRGB bytes `[…, 3]`."""
    from skimage.color import rgb2lab

    return np.asarray(rgb2lab(colours), dtype=np.float64)


def colour_difference(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """CIEDE2000 of two CIELAB arrays `[…, 3]` (Sharma 2005)."""
    from skimage.color import deltaE_ciede2000

    return np.asarray(deltaE_ciede2000(a, b))
