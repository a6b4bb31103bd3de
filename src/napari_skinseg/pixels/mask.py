"""Binary lesion masks, `[H, W]` bool with lesion = True: clean-up, outline, and 0/255 PNG files.

Everything stays under half a second on a 12-megapixel mask, because the widget's threshold slider runs through here:
work is done inside the lesion's bounding box, and blurs are Pillow's, whose cost does not grow with the radius.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage
from skimage.measure import find_contours

from napari_skinseg.errors import BadInput
from napari_skinseg.files import atomic

from .image import read_pixels

CYAN = (0, 220, 255)
"""The outline's colour: no skin, hair or ink has it."""

Window = tuple[slice, slice]


@dataclass(frozen=True)
class CleanUp:
    """What is done to a mask after thresholding, in this order; each step can be switched off.

    Attributes:
        smooth: sigma of the Gaussian that smooths the border, as a fraction of the frame's diagonal; 0 = off.
        min_area: pieces smaller than this fraction of the frame are dropped; 0 = off.
        keep: "largest" keeps the largest piece only, "all" all of them.
        fill_holes: fill what the lesion encloses.
    """

    keep: Literal["largest", "all"] = "largest"
    min_area: float = 0.0005
    fill_holes: bool = True
    smooth: float = 0.002

    def validate(self) -> None:
        """Raise `BadInput` with a sentence if a value makes no sense."""
        if self.keep not in ("largest", "all"):
            raise BadInput(f"keep is {self.keep!r}; choose 'largest' or 'all'.")
        if not 0 <= self.min_area < 1:
            raise BadInput(f"min_area is {self.min_area}; give a fraction of the frame from 0 (off) to below 1.")
        if not 0 <= self.smooth <= 0.05:
            raise BadInput(f"smooth is {self.smooth}; give a fraction of the diagonal from 0 (off) to 0.05.")


def binarise(probability: NDArray[np.float32], threshold: float, clean_up: CleanUp = CleanUp()) -> NDArray[np.bool_]:
    """The mask of a probability map `[H, W]` in [0, 1]: at least `threshold`, cleaned up."""
    return clean_mask(probability >= threshold, clean_up)


def clean_mask(mask: NDArray[np.bool_], clean_up: CleanUp = CleanUp()) -> NDArray[np.bool_]:
    """A new mask `[H, W]`, cleaned as `CleanUp` says.

    Smoothing never takes the last piece away: a lesion too small for it is kept as it is. `min_area` may.
    """
    clean_up.validate()
    result = np.zeros(mask.shape, dtype=bool)
    sigma = clean_up.smooth * math.hypot(*mask.shape)
    window = bounding_box(mask, margin=1 + math.ceil(3 * sigma))
    if window is None:
        return result
    part = mask[window].astype(bool)
    min_pixels = clean_up.min_area * mask.size
    # Smooth first: it can split a piece or close a bay, and what leaves here shall have no stray piece and no hole.
    cleaned = _tidy(_blur(part, sigma) >= 128, clean_up, min_pixels) if sigma else None
    if cleaned is None or not cleaned.any():
        cleaned = _tidy(part, clean_up, min_pixels)
    result[window] = cleaned
    return result


def keep_pieces(mask: NDArray[np.bool_], places: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
    """A new mask of the largest piece of `mask` `[H, W]`, and of those pieces that hold one of the places.

    Args:
        mask: bool `[H, W]`.
        places: rows and columns in pixels; those outside the frame are taken to its border.
    """
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if count < 2:
        return mask.copy()
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    wanted = np.arange(sizes.size) == sizes.argmax()
    for place in places:
        row, column = (int(np.clip(round(at), 0, side - 1)) for at, side in zip(place, mask.shape, strict=True))
        wanted[labels[row, column]] = True
    wanted[0] = False
    kept: NDArray[np.bool_] = wanted[labels]
    return kept


def contours(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Closed outlines `[N, 2]` (row, column; pixel centres are whole numbers), longest first; holes have their own.

    At the frame's edge the outline follows the edge, half a pixel outside the outermost centres.
    """
    window = bounding_box(mask, margin=1)
    if window is None:
        return []
    corner = [side.start - 1 for side in window]
    lines = find_contours(np.pad(mask[window].astype(np.float32), 1), 0.5)
    return sorted((line + corner for line in lines), key=len, reverse=True)


def overlay(rgb: NDArray[np.uint8], mask: NDArray[np.bool_], color: tuple[int, int, int] = CYAN) -> NDArray[np.uint8]:
    """A copy of `rgb` `[H, W, 3]` with the mask's outline drawn on it, as wide as 1/500 of the diagonal.

    Raises:
        BadInput: image and mask differ in size.
    """
    if rgb.shape[:2] != mask.shape:
        raise BadInput(
            f"The mask is {_size(mask.shape)} but the image {_size(rgb.shape)}; give the mask of this image."
        )
    image = Image.fromarray(np.ascontiguousarray(rgb))
    sigma = max(2.0, math.hypot(*mask.shape) / 500) / 3
    margin = math.ceil(3 * sigma) + 1
    padded = np.pad(mask.astype(bool), margin)  # so that a lesion cut by the frame is outlined there too
    window = bounding_box(padded, margin)
    if window is not None:
        # The blurred mask is 1/2 on the border and 0 or 1 away from it: a soft line of even width at any angle.
        inside = np.arange(256) / 255
        opacity = np.clip(6 * inside * (1 - inside), 0, 1) * 255
        line = opacity.astype(np.uint8)[_blur(padded[window], sigma)]
        image.paste(color, (window[1].start - margin, window[0].start - margin), Image.fromarray(line))
    return np.array(image)


def read_mask(path: str | Path, shape: tuple[int, ...] | None = None) -> NDArray[np.bool_]:
    """Read a mask file as bool `[H, W]`.

    Taken are files of black and one other value or colour (0/255, 0/1, 1-bit, palette, red on black), and files with at
    least 95 % of their gray levels in the outer eighths, as JPEG compression and resizing leave them: those are cut at
    the middle.

    Args:
        path: PNG, TIFF, BMP, WebP or JPEG.
        shape: (height, width) of the photo; what follows, such as the colour channels, is not looked at.

    Raises:
        BadInput: unreadable, not a mask (many gray levels or labels), or not of the given size.
    """
    pixels = read_pixels(path)
    if shape is not None and pixels.shape[:2] != tuple(shape[:2]):
        raise BadInput(
            f"{path} is {_size(pixels.shape)} but its photo {_size(shape)}; give the mask that was drawn on this photo."
        )
    if pixels.ndim == 3:
        has_alpha = pixels.shape[2] in (2, 4)
        if has_alpha:
            pixels = pixels[..., :-1] * (pixels[..., -1:] > 0)  # what is transparent shows as black
        pixels = pixels.max(axis=2)
    return _two_valued(pixels, str(path))


def write_mask(path: str | Path, mask: NDArray[np.bool_]) -> None:
    """Write `mask` `[H, W]` as an 8-bit PNG of 0 and 255, whole or not at all.

    Raises:
        BadInput: the place cannot be written to; what was there stays.
    """
    image = Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0)))
    with atomic(path) as temporary:
        image.save(temporary, format="PNG")


def _tidy(part: NDArray[np.bool_], clean_up: CleanUp, min_pixels: float) -> NDArray[np.bool_]:
    part = _pieces(part, clean_up.keep == "largest", min_pixels)
    return _filled(part) if clean_up.fill_holes else part


def _pieces(part: NDArray[np.bool_], largest: bool, min_pixels: float) -> NDArray[np.bool_]:
    # Pixels that touch at a corner are one piece; holes below are taken with straight neighbours, as topology asks.
    labels, count = ndimage.label(part, structure=np.ones((3, 3)))
    if count == 0:
        return part
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    wanted = sizes >= max(1.0, min_pixels)
    if largest:
        wanted &= np.arange(sizes.size) == sizes.argmax()
    if wanted[1:].all():
        return part
    return wanted[labels]


def _filled(part: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`part` without holes; four times as fast as `scipy.ndimage.binary_fill_holes`."""
    labels, count = ndimage.label(~part)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    outside = np.zeros(count + 1, dtype=bool)
    outside[edge] = True
    outside[0] = False
    return ~outside[labels] if count > outside.sum() else part


def _blur(part: NDArray[np.bool_], sigma: float) -> NDArray[np.uint8]:
    """0…255; the frame's edge is continued outwards, so that a lesion cut by it is not rounded off there."""
    image = Image.fromarray(np.where(part, np.uint8(255), np.uint8(0)))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(sigma)))


def bounding_box(mask: NDArray[np.bool_], margin: int) -> Window | None:
    """The bounding box of the mask, `margin` pixels wider within the frame; None if the mask is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    low = [max(0, int(found[0]) - margin) for found in (rows, columns)]
    high = [int(found[-1]) + 1 + margin for found in (rows, columns)]
    return slice(low[0], high[0]), slice(low[1], high[1])


def _two_valued(gray: NDArray[Any], name: str) -> NDArray[np.bool_]:
    if gray.dtype == bool:
        return gray
    if gray.dtype == np.uint8:
        counts = np.bincount(gray.ravel(), minlength=256)
        values = np.flatnonzero(counts)
        ends = (counts[:32].sum() + counts[224:].sum()) / gray.size
        if values.size > 2 and values[-1] >= 224 and ends >= 0.95:
            return gray >= 128
    else:
        values = np.unique(gray)
    if values.size > 2 or (values.size == 2 and values[0] != 0):
        raise BadInput(
            f"{name} is not a lesion mask: it holds {values.size} values ({_some(values)}); "
            "give a file that is black (0) outside and white (255) inside the lesion."
        )
    return gray != 0


def _some(values: NDArray[Any]) -> str:
    shown = [f"{value:g}" for value in values[:4]]
    return ", ".join(shown) + (", …" if values.size > len(shown) else "")


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]} pixels"
