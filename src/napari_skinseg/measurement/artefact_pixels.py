"""Which pixels of a dermoscopic photo show skin: not the dark field round it, hair, ruler, glare or ink.

Rules of thumb on colour and shape, made to keep the worst out of colour averages; they are not a segmentation of hair.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

_FIELD_SIDE = 600  # px; the dark field is large and smooth, so it is looked for in a small copy


def find_dark_field(rgb: NDArray[np.uint8], lesion: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The black surround that a dermoscope's round field of view leaves in the corners, `[H, W]`.

    It is what is nearly black and connected to a corner of the frame, grown through its soft rim. One dark corner that
    lies mostly under the lesion's mask is taken for lesion.

    Args:
        rgb: uint8 `[H, W, 3]`.
        lesion: the mask, bool `[H, W]`.
    """
    factor = max(1, -(-max(lesion.shape) // _FIELD_SIDE))
    brightest, inside = downsample(rgb, factor).max(axis=2), downsample_mask(lesion, factor)
    black = brightest < 50
    labels, _ = ndimage.label(black)
    # Also a little inwards, because some photos carry a bright line along the frame.
    inset = round(0.02 * min(black.shape))
    ends = ((0, inset), (-1, -1 - inset))
    corners = [max(int(labels[at]) for at in zip(down, right, strict=True)) for down in ends for right in ends]
    dark_corners = np.count_nonzero(corners)
    field = np.zeros_like(black)
    for corner in set(corners) - {0}:
        piece = labels == corner
        if dark_corners > 1 or inside[piece].mean() < 0.5:
            field |= piece
    if not field.any():
        return np.zeros_like(lesion)
    # The rim fades into skin over a few per cent of the frame; grown no further than that, and never into the lesion.
    skin = brightest[~black & ~inside]
    faded = (brightest < 0.6 * np.median(skin)) & ~inside if skin.size else black
    reach = max(2, round(0.03 * float(np.hypot(*black.shape))))
    field = ndimage.binary_dilation(field, mask=faded | field, iterations=reach)
    return np.repeat(np.repeat(field, factor, axis=0), factor, axis=1)[: lesion.shape[0], : lesion.shape[1]]


def find_artefact_pixels(rgb: NDArray[np.uint8], lesion: NDArray[np.bool_], diagonal: float) -> NDArray[np.bool_]:
    """Hair, ruler ticks, glare and ink, `[H, W]`, each with a margin of a pixel.

    Args:
        rgb: uint8 `[H, W, 3]`, a photo or a part of it.
        lesion: bool `[H, W]`.
        diagonal: of the whole photo, in the pixels of `rgb`; hair is about a two-hundredth of it wide.
    """
    red, green, blue = (rgb[..., channel].astype(np.int16) for channel in range(3))
    glare = rgb.min(axis=2) > 235
    # Gentian violet and green or blue stickers; a blue-white veil is fainter, and ink is seldom only on the lesion.
    ink = np.zeros_like(glare)
    for cold in (blue - red, green - red):
        usual = (
            max(0.0, float(np.median(cold[~lesion]))) if not lesion.all() else 0.0
        )  # a photo may be bluish throughout
        ink |= cold > usual + 25
    ink &= _mostly_outside(ink, lesion)
    return np.asarray(ndimage.binary_dilation(_thin_dark_lines(rgb[..., 0], lesion, diagonal) | glare | ink))


def downsample(rgb: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Mean of every `factor` x `factor` pixels."""
    return rgb if factor == 1 else np.asarray(Image.fromarray(rgb).reduce(factor))


def downsample_mask(mask: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """Majority of every `factor` x `factor` pixels."""
    return mask if factor == 1 else np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).reduce(factor)) >= 128


def _thin_dark_lines(gray: NDArray[np.uint8], lesion: NDArray[np.bool_], diagonal: float) -> NDArray[np.bool_]:
    """Black-hat in the red channel, where pigment is faint and hair is not, then what is long and, on a lesion, thin.

    The last rule spares a pigment network, whose meshes hang together and fill their bounding box; off the lesion that
    is how tangled hair looks.
    """
    width = max(3, round(0.012 * diagonal) | 1)
    hat = ndimage.grey_closing(gray, size=(width, width)).astype(np.int16) - gray
    labels, n = ndimage.label(hat > 20, structure=np.ones((3, 3)))
    if n == 0:
        return np.zeros(gray.shape, dtype=bool)
    boxes = ndimage.find_objects(labels)
    lengths = np.array(
        [0.0, *(np.hypot(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in boxes)]
    )
    areas, on_lesion = np.bincount(labels.ravel()), np.bincount(labels[lesion], minlength=n + 1)
    keep = (lengths > 0.05 * diagonal) & ((areas < 0.45 * width * lengths) | (on_lesion < 0.5 * areas))
    keep[0] = False
    return np.asarray(keep[labels])


def _mostly_outside(pixels: NDArray[np.bool_], lesion: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pieces of `pixels` with more of their area off the lesion than on it."""
    labels, n = ndimage.label(pixels)
    areas, on_lesion = np.bincount(labels.ravel()), np.bincount(labels[lesion], minlength=n + 1)
    return np.asarray((on_lesion < 0.5 * areas)[labels])
