"""Find the pixels of a dermoscopic photo that show no skin: dark field, hair, ruler, glare and ink.

Simple rules on colour and shape exclude the worst pixels from colour averages; they are not a segmentation of hair.
"""

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image

from napari_skinseg.pixels.mask import grow

_FIELD_SIDE = 600  # px; the dark field is large and smooth, so a small copy of the photo is enough
_BLACK = 50  # a pixel of the dark field is darker in each channel


def find_dark_field(rgb: NDArray[np.uint8], lesion: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find the black corners that the round field of view of a dermoscope leaves.

    The dark field consists of nearly black pixels connected to a corner of the frame, and of the soft rim around them.
    A single dark corner that is mostly covered by the mask counts as lesion.

    Args:
        rgb: uint8 `[H, W, 3]`.
        lesion: the mask, bool `[H, W]`.

    Returns:
        bool `[H, W]`.
    """
    factor = max(1, -(-max(lesion.shape) // _FIELD_SIDE))
    small = downsample(rgb, factor)
    # Also test pixels a little inside the frame, because some photos have a bright line along the frame.
    inset = round(0.02 * min(small.shape[:2]))
    ends = ((0, inset), (-1, -1 - inset))
    corner_pixels = [list(zip(down, right, strict=True)) for down in ends for right in ends]
    if all(small[at].max() >= _BLACK for pixels in corner_pixels for at in pixels):
        return np.zeros_like(lesion)
    brightest = _over_channels(np.maximum, small)
    black = brightest < _BLACK
    labels, _ = scipy.ndimage.label(black)
    inside = downsample_mask(lesion, factor)
    corners = [max(int(labels[at]) for at in pixels) for pixels in corner_pixels]
    dark_corners = np.count_nonzero(corners)
    field = np.zeros_like(black)
    for corner in set(corners) - {0}:
        piece = labels == corner
        if dark_corners > 1 or inside[piece].mean() < 0.5:
            field |= piece
    if not field.any():
        return np.zeros_like(lesion)
    # The rim fades into skin over a few per cent of the frame. The field grows no farther, and never into the lesion.
    skin = brightest[~black & ~inside]
    faded = (brightest < 0.6 * np.median(skin)) & ~inside if skin.size else black
    reach = max(2, round(0.03 * float(np.hypot(*black.shape))))
    field = scipy.ndimage.binary_dilation(field, mask=faded | field, iterations=reach)
    return np.repeat(np.repeat(field, factor, axis=0), factor, axis=1)[: lesion.shape[0], : lesion.shape[1]]


def find_artefact_pixels(rgb: NDArray[np.uint8], lesion: NDArray[np.bool_], diagonal: float) -> NDArray[np.bool_]:
    """Find hair, ruler ticks, glare and ink, each with a margin of one pixel.

    Args:
        rgb: uint8 `[H, W, 3]`, a photo or a part of it.
        lesion: the mask, bool `[H, W]`.
        diagonal: diagonal of the whole photo in pixels of `rgb`; hair is about 1/200 of the diagonal wide.

    Returns:
        bool `[H, W]`.
    """
    red, green, blue = (rgb[..., channel].astype(np.int16) for channel in range(3))
    glare = _over_channels(np.minimum, rgb) > 235
    # Gentian violet ink, and green or blue stickers. A blue-white veil is paler, and ink is rarely only on the lesion.
    ink = np.zeros_like(glare)
    for cold in (blue - red, green - red):
        # The whole photo may be bluish, so the median of the skin is the reference.
        reference = 0.0 if lesion.all() else max(0.0, _median(cold[~lesion]))
        ink |= cold > reference + 25
    ink &= _mostly_outside(ink, lesion)
    return grow(_thin_dark_lines(rgb[..., 0], lesion, diagonal) | glare | ink)


def downsample(rgb: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return the mean of each block of `factor` x `factor` pixels."""
    return rgb if factor == 1 else np.asarray(Image.fromarray(rgb).reduce(factor))


def downsample_mask(mask: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """Return the majority of each block of `factor` x `factor` pixels."""
    return mask if factor == 1 else np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).reduce(factor)) >= 128


def _thin_dark_lines(gray: NDArray[np.uint8], lesion: NDArray[np.bool_], diagonal: float) -> NDArray[np.bool_]:
    """Find dark lines by a black-hat filter on the red channel, where pigment is pale and hair is dark.

    Only long lines are kept. On a lesion, lines must also be thin, because the connected meshes of a pigment network
    fill their bounding box; outside the lesion, such a shape is tangled hair.
    """
    width = max(3, round(0.012 * diagonal) | 1)
    half = width // 2
    # The dilation and then the erosion take a margin of `half` each; both repeat the photo mirrored at its frame.
    closed = _over_square(np.minimum, _over_square(np.maximum, np.pad(gray, 2 * half, mode="symmetric"), width), width)
    hat = closed - gray  # at least 0
    labels, n = scipy.ndimage.label(hat > 20, structure=np.ones((3, 3)))
    if n == 0:
        return np.zeros(gray.shape, dtype=bool)
    boxes = scipy.ndimage.find_objects(labels)
    lengths = np.array(
        [0.0, *(np.hypot(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in boxes)]
    )
    areas, on_lesion = np.bincount(labels.ravel()), np.bincount(labels[lesion], minlength=n + 1)
    keep = (lengths > 0.05 * diagonal) & ((areas < 0.45 * width * lengths) | (on_lesion < 0.5 * areas))
    keep[0] = False
    return np.asarray(keep[labels])


def _over_square(function: np.ufunc, gray: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Return the maximum or minimum of each complete square of `width` pixels; the array is `width` - 1 px smaller.

    Each step doubles the length over which the function is taken, so that few steps reach the width.
    """
    for _ in range(2):
        length = 1
        while length < width:
            shift = min(length, width - length)
            gray = function(gray[:-shift], gray[shift:])
            length += shift
        gray = np.ascontiguousarray(gray.T)
    return gray


def _median(differences: NDArray[np.int16]) -> float:
    """Return the median of differences of 8-bit values, from their histogram."""
    up_to = np.cumsum(np.bincount(differences + 255, minlength=511))
    middle = [(len(differences) - 1) // 2, len(differences) // 2]
    return float(np.searchsorted(up_to, middle, side="right").mean() - 255)


def _over_channels(function: np.ufunc, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the maximum or minimum of the three channels: faster than along the short last axis."""
    return np.asarray(function(function(rgb[..., 0], rgb[..., 1]), rgb[..., 2]))


def _mostly_outside(pixels: NDArray[np.bool_], lesion: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the connected pieces of `pixels` that are mostly outside the lesion."""
    if not pixels.any():
        return pixels
    labels, n = scipy.ndimage.label(pixels)
    areas, on_lesion = np.bincount(labels.ravel()), np.bincount(labels[lesion], minlength=n + 1)
    return np.asarray((on_lesion < 0.5 * areas)[labels])
