"""Cut a lesion and the skin around it out of a photo, and compute colour differences."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_skinseg.pixels.mask import Window

from .artefact_pixels import downsample, downsample_mask, find_artefact_pixels

_SIDE = 800  # px; larger crops are downsampled before colour is measured
_MAX_PIXELS = 20_000  # for colour statistics


@dataclass(frozen=True)
class Crop:
    """A lesion and the skin around it, downsampled by `factor`; all arrays have the same height and width.

    Attributes:
        photo: uint8 `[h, w, 3]`.
        lesion: bool `[h, w]`.
        excluded: hair, glare, ink and dark field, bool `[h, w]`; their colour is not measured.
        skin: bool `[h, w]`, the skin in a ring around the lesion. The ring starts 2 % of the lesion's diameter (at
            least 3 px) outside the border and is 15 % of the diameter (at least 10 px) wide.
        skin_px: area of `skin` in pixels of the photo.
        enough_skin: `skin_px` is at least 500 and at least 30 % of the complete ring.
        factor: side of the square of photo pixels that one pixel of the crop averages.
        diameter: equivalent diameter of the lesion in pixels of the photo.
    """

    photo: NDArray[np.uint8]
    lesion: NDArray[np.bool_]
    excluded: NDArray[np.bool_]
    skin: NDArray[np.bool_]
    skin_px: int
    enough_skin: bool
    factor: int
    diameter: float

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Pixels of the lesion whose colour is measured."""
        return self.lesion & ~self.excluded


def crop_around(
    rgb: NDArray[np.uint8],
    lesion: NDArray[np.bool_],
    lesion_box: Window,
    every_piece: NDArray[np.bool_],
    field: NDArray[np.bool_],
    diameter: float,
) -> Crop:
    """Cut a lesion and the skin around it out of a photo.

    Args:
        rgb: uint8 `[H, W, 3]`.
        lesion: the piece that is measured, bool `[H, W]`, not empty.
        lesion_box: bounding box of `lesion`.
        every_piece: all pieces of the mask, bool `[H, W]`; they are not counted as skin.
        field: the dark field, bool `[H, W]`.
        diameter: equivalent diameter of `lesion` in pixels.
    """
    gap, width = max(3.0, 0.02 * diameter), max(10.0, 0.15 * diameter)
    box = tuple(
        slice(max(0, side.start - int(gap + width) - 2), min(size, side.stop + int(gap + width) + 2))
        for side, size in zip(lesion_box, lesion.shape, strict=True)
    )
    factor = -(-max(side.stop - side.start for side in box) // _SIDE)
    photo, small_lesion = downsample(np.ascontiguousarray(rgb[box]), factor), downsample_mask(lesion[box], factor)
    excluded = find_artefact_pixels(photo, small_lesion, float(np.hypot(*lesion.shape)) / factor)
    excluded |= downsample_mask(field[box], factor)
    distance = np.asarray(ndimage.distance_transform_edt(~small_lesion)) * factor
    ring = (distance > gap) & (distance <= gap + width)
    skin = ring & ~excluded & ~downsample_mask(every_piece[box], factor)
    skin_px = int(skin.sum()) * factor**2
    # The complete ring, with parts outside the frame, has about the area of a band around a disc (Steiner's formula).
    complete = np.pi * width * (diameter + 2 * gap + width)
    enough = skin_px >= 500 and skin_px >= 0.3 * complete
    return Crop(photo, small_lesion, excluded, skin, skin_px, bool(enough), factor, diameter)


def sample_pixels(pixels: NDArray[np.int_]) -> NDArray[np.int_]:
    """Return at most 20,000 of the pixels `[N, 2]`, evenly spaced in their order and always the same."""
    if len(pixels) <= _MAX_PIXELS:
        return pixels
    return pixels[np.linspace(0, len(pixels) - 1, _MAX_PIXELS).astype(int)]


def to_lab(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Convert sRGB uint8 `[…, 3]` to CIELAB (D65)."""
    from skimage.color import rgb2lab

    return np.asarray(rgb2lab(colours), dtype=np.float64)


def colour_difference(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return the CIEDE2000 difference of two CIELAB arrays `[…, 3]` (Sharma 2005)."""
    from skimage.color import deltaE_ciede2000

    return np.asarray(deltaE_ciede2000(a, b))
