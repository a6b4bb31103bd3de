"""Cut a lesion and the skin around it out of a photo, and compute colour differences."""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.pixels.mask import Window, distance_within

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

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """Pixels of the lesion whose colour is measured."""
        return self.lesion & ~self.excluded

    @cached_property
    def skin_lab(self) -> NDArray[np.float64]:
        """CIELAB `[N, 3]` of at most 20,000 pixels of `skin`."""
        return to_lab(self.colours(sample_pixels(self.skin)))

    def colours(self, pixels: NDArray[np.int_]) -> NDArray[np.uint8]:
        """The colours `[N, 3]` of pixels of the flattened photo."""
        return self.photo.reshape(-1, 3).take(pixels, axis=0)


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
    distance = distance_within(small_lesion, int((gap + width) / factor) + 1) * factor
    ring = (distance > gap) & (distance <= gap + width)
    skin = ring & ~excluded & ~downsample_mask(every_piece[box], factor)
    skin_px = int(skin.sum()) * factor**2
    # The complete ring, with parts outside the frame, has about the area of a band around a disc (Steiner's formula).
    complete = np.pi * width * (diameter + 2 * gap + width)
    enough = skin_px >= 500 and skin_px >= 0.3 * complete
    return Crop(photo, small_lesion, excluded, skin, skin_px, bool(enough), factor, diameter)


def sample_pixels(mask: NDArray[np.bool_]) -> NDArray[np.int_]:
    """Return at most 20,000 pixels of a mask as indices of the flattened array, evenly spaced and always the same."""
    pixels = np.flatnonzero(mask)
    if len(pixels) <= _MAX_PIXELS:
        return pixels
    return pixels[np.linspace(0, len(pixels) - 1, _MAX_PIXELS).astype(int)]


def to_lab(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Convert sRGB uint8 `[N, 3]` to CIELAB (D65)."""
    x, y, z = (_response(colours, axis) for axis in range(3))
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)]).T  # each channel is contiguous in memory


def to_lightness(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Convert sRGB uint8 `[N, 3]` to the L* of CIELAB (D65)."""
    return 116 * _response(colours, 1) - 16


def _response(colours: NDArray[np.uint8], axis: int) -> NDArray[np.float64]:
    """Return f(X/Xn), f(Y/Yn) or f(Z/Zn) of CIELAB for sRGB uint8 `[N, 3]`."""
    red, green, blue = np.ascontiguousarray(colours.T)
    of_red, of_green, of_blue = _tables()[axis]
    value = of_red.take(red) + of_green.take(green) + of_blue.take(blue)
    return np.where(value > 0.008856, np.cbrt(value), 7.787 * value + 16 / 116)


@cache
def _tables() -> NDArray[np.float64]:
    """The share of each 8-bit value in X/Xn, Y/Yn and Z/Zn, `[3, channel, 256]`: no power is computed per pixel."""
    from skimage.color import rgb2xyz, xyz_tristimulus_values

    ramps = np.zeros((3, 256, 3), dtype=np.uint8)
    for channel in range(3):
        ramps[channel, :, channel] = np.arange(256)
    shares = rgb2xyz(ramps) / xyz_tristimulus_values(illuminant="D65", observer="2")
    return np.ascontiguousarray(np.moveaxis(shares, 2, 0))


def colour_difference(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return the CIEDE2000 difference of two CIELAB arrays `[N, 3]` (Sharma, Wu & Dalal 2005).

    Equal to `skimage.color.deltaE_ciede2000`, and several times as fast: hues are unit vectors here, and the cosines of
    the multiples of the mean hue follow from its vector, so that only one angle is computed.
    """
    (l1, a1, b1), (l2, a2, b2) = a.T, b.T
    stretch = 1.5 - 0.5 * _chroma_weight((np.sqrt(a1**2 + b1**2) + np.sqrt(a2**2 + b2**2)) / 2)
    a1, a2 = stretch * a1, stretch * a2
    c1, c2 = np.sqrt(a1**2 + b1**2), np.sqrt(a2**2 + b2**2)
    of_1, of_2 = np.maximum(c1, 1e-300), np.maximum(c2, 1e-300)  # a gray has no hue: its vector is 0
    x1, y1, x2, y2 = a1 / of_1, b1 / of_1, a2 / of_2, b2 / of_2
    # The hue difference as the chord between the unit vectors, with its sign.
    hue = np.sqrt(c1 * c2 * ((x2 - x1) ** 2 + (y2 - y1) ** 2)) * np.where(x1 * y2 < y1 * x2, -1, 1)

    side = np.where((y1 < 0) | ((y1 == 0) & (x1 < 0)), -1, 1)  # for opposite hues, whose sum is 0
    x, y = x1 + x2, y1 + y2
    opposite = x**2 + y**2 < 1e-24
    x, y = np.where(opposite, -side * y1, x), np.where(opposite, side * x1, y)
    length = np.maximum(np.sqrt(x**2 + y**2), 1e-300)
    cos1, sin1 = x / length, y / length
    cos2, sin2 = cos1**2 - sin1**2, 2 * cos1 * sin1
    cos3, sin3 = cos2 * cos1 - sin2 * sin1, sin2 * cos1 + cos2 * sin1
    cos4, sin4 = cos2**2 - sin2**2, 2 * cos2 * sin2
    weight = 1 + 0.24 * cos2
    for factor, cosine, sine, degrees in ((-0.17, cos1, sin1, 30), (0.32, cos3, sin3, -6), (-0.2, cos4, sin4, 63)):
        angle = np.radians(degrees)
        weight = weight + factor * (cosine * np.cos(angle) + sine * np.sin(angle))

    chroma = (c1 + c2) / 2
    from_middle = ((l1 + l2) / 2 - 50) ** 2
    lightness_term = (l2 - l1) / (1 + 0.015 * from_middle / np.sqrt(20 + from_middle))
    chroma_term = (c2 - c1) / (1 + 0.045 * chroma)
    hue_term = hue / (1 + 0.015 * chroma * weight)
    rotation = np.zeros_like(chroma)
    # Only of blue and red hues: for hues from 0 to 125 degrees the exponential is below 1e-15.
    blue = np.nonzero((sin1 < 0) | (cos1 < -0.57))
    from_blue = (np.degrees(np.arctan2(sin1[blue], cos1[blue])) % 360 - 275) / 25
    rotation[blue] = -2 * _chroma_weight(chroma[blue]) * np.sin(np.radians(60 * np.exp(-(from_blue**2))))
    squared = lightness_term**2 + chroma_term**2 + hue_term**2 + rotation * chroma_term * hue_term
    return np.sqrt(np.maximum(squared, 0))


def _chroma_weight(chroma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the square root of C^7 / (C^7 + 25^7)."""
    power = chroma**2 * chroma
    power = power**2 * chroma
    return np.sqrt(power / (power + 25.0**7))
