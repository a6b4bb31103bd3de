"""Lesion masks, bool `[H, W]` with lesion = True: read and write mask files, draw the outline, find the bounding box.

Functions that change a mask are in `cleaning`.
"""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from napari_skinseg.errors import BadInput
from napari_skinseg.files import atomic

from .image import read_pixels

MASK_ENDING = "_segmentation.png"
"""End of the name of a mask file, as in ISIC; the start is the name of the photo."""

CYAN = (0, 220, 255)
"""The colour of outlines: skin, hair and ink do not have it."""

Window = tuple[slice, slice]
"""A rectangle in an image, as slices of rows and columns."""


def bounding_box(mask: NDArray[np.bool_], margin: int = 0) -> Window | None:
    """Return the smallest rectangle that contains the mask, extended by `margin` pixels; None for an empty mask.

    The rectangle starts inside the frame, but the margin can make it end outside; indexing cuts it there.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    first = [max(0, int(indices[0]) - margin) for indices in (rows, columns)]
    last = [int(indices[-1]) + margin for indices in (rows, columns)]
    return slice(first[0], last[0] + 1), slice(first[1], last[1] + 1)


def resize_mask(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask in `shape` (height, width); a pixel is lesion if lesion covers at least half of it."""
    covered = Image.fromarray(mask.astype(np.uint8) * 255).resize(shape[::-1], Image.Resampling.BOX)
    return np.asarray(covered) >= 128


def signed_distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the distance of each pixel to the border in pixels: positive inside the mask, negative outside."""
    inside, outside = (np.asarray(scipy.ndimage.distance_transform_edt(part)) for part in (mask, ~mask))
    return inside - outside


def grow(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask and the four neighbours of each of its pixels."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def distance_within(mask: NDArray[np.bool_], reach: int) -> NDArray[np.float64]:
    """Return the distance of each pixel to the nearest pixel of the mask: exact up to `reach`, `reach` + 1 beyond.

    For a small reach this is several times as fast as the complete Euclidean distance transform. The squared distance
    is the smallest sum of a squared number of rows and a squared number of columns (Saito & Toriwaki 1994).
    """
    beyond = (reach + 1) ** 2
    kind = np.uint16 if 2 * beyond < 2**16 else np.int32
    squared = np.where(mask, kind(0), kind(beyond))
    by_way = np.empty_like(squared)
    for _ in range(2):  # along the rows, then along the columns
        start = squared.copy()
        for k in range(1, min(reach + 1, len(squared))):
            np.add(start, kind(k**2), out=by_way)
            np.minimum(squared[k:], by_way[:-k], out=squared[k:])
            np.minimum(squared[:-k], by_way[k:], out=squared[:-k])
        squared, by_way = np.ascontiguousarray(squared.T), by_way.reshape(by_way.shape[::-1])
    return np.sqrt(squared, dtype=np.float64)


def blur(mask: NDArray[np.bool_], sigma: float) -> NDArray[np.uint8]:
    """Return the mask, 0 or 255, after a Gaussian blur of `sigma` pixels.

    Values on the edge of the array are repeated outside, so that a lesion cut by the frame is not rounded there.
    """
    image = Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0)))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(sigma)))


def trace_contours(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return the closed contours of pieces and holes, each `[N, 2]` (row, column), the longest first.

    Pixel centres have whole coordinates. Where the frame cuts the lesion, the contour runs half a pixel outside the
    centres of the outermost pixels.
    """
    box = bounding_box(mask, margin=1)
    if box is None:
        return []
    corner = [side.start - 1 for side in box]
    from skimage.measure import find_contours

    lines = find_contours(np.pad(mask[box].astype(np.float32), 1), 0.5)
    return sorted((line + corner for line in lines), key=len, reverse=True)


def draw_overlay(
    rgb: NDArray[np.uint8], mask: NDArray[np.bool_], color: tuple[int, int, int] = CYAN
) -> NDArray[np.uint8]:
    """Return a copy of the photo `[H, W, 3]` with the outline of the mask drawn on it.

    The line is 1/500 of the diagonal wide.

    Raises:
        BadInput: photo and mask differ in size.
    """
    if rgb.shape[:2] != mask.shape:
        raise BadInput(
            f"The mask has {_size(mask.shape)}, but the photo has {_size(rgb.shape)}; give the mask of this photo."
        )
    image = Image.fromarray(np.ascontiguousarray(rgb))
    sigma = max(2.0, math.hypot(*mask.shape) / 500) / 3
    margin = math.ceil(3 * sigma) + 1
    padded = np.pad(mask.astype(bool), margin)  # also draws the line along the frame where the frame cuts the lesion
    box = bounding_box(padded, margin)
    if box is not None:
        # The blurred mask is 1/2 on the border and 0 or 1 away from it: a soft line of even width at any angle.
        inside = np.arange(256) / 255
        opacity = np.clip(6 * inside * (1 - inside), 0, 1) * 255
        line = opacity.astype(np.uint8)[blur(padded[box], sigma)]
        image.paste(color, (box[1].start - margin, box[0].start - margin), Image.fromarray(line))
    return np.array(image)


def write_overlay(path: str | Path, rgb: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """Write the photo with its outline as a JPEG, ten times as fast as a PNG; the file appears whole or not at all.

    Raises:
        BadInput: photo and mask differ in size, or the file cannot be written; an earlier file of this name is kept.
    """
    image = Image.fromarray(draw_overlay(rgb, mask))
    with atomic(path) as temporary:
        image.save(temporary, format="JPEG", quality=92, subsampling=0)  # colours at full resolution: a sharp line


def read_mask(path: str | Path, shape: tuple[int, ...] | None = None) -> NDArray[np.bool_]:
    """Read a mask file as bool `[H, W]`.

    The values in the file decide what is lesion:

    * two values: the higher value is lesion, in any encoding: 0/255, 0/1, 1/2, 30/220, 1-bit, palette;
    * one value: an empty mask if it is 0, else the whole frame is lesion;
    * more values, 8 bits: the threshold is the middle of the range, if at least 95 % of the pixels are in its outer
      eighths, as JPEG compression and resizing produce them.

    The value of a colour is that of its brightest channel (red on black is a mask), and of a transparent pixel 0.

    Args:
        path: PNG, TIFF, BMP, WebP or JPEG.
        shape: shape of the photo; only (height, width), its first two numbers, is compared.

    Raises:
        BadInput: the file cannot be read, is not a mask (many gray levels or labels, or several colours of the same
            value), or has another size than `shape`.
    """
    pixels = read_pixels(path)
    if shape is not None and pixels.shape[:2] != tuple(shape[:2]):
        raise BadInput(
            f"{path} has {_size(pixels.shape)}, but its photo has {_size(shape)}; give the mask of this photo."
        )
    if pixels.ndim == 3:
        has_alpha = pixels.shape[2] in (2, 4)
        if has_alpha:
            pixels = pixels[..., :-1] * (pixels[..., -1:] > 0)  # transparent pixels count as black
        values = pixels.max(axis=2)
        # Red on white would be read as all lesion.
        if values.min() == values.max() and (pixels != pixels[0, 0]).any():
            raise BadInput(
                f"{path} is not a lesion mask: its colours are equally bright; "
                "give a file that is black (0) outside and white (255) inside the lesion."
            )
        pixels = values
    return _to_bool(pixels, str(path))


def write_mask(path: str | Path, mask: NDArray[np.bool_]) -> None:
    """Write the mask `[H, W]` as an 8-bit PNG of 0 and 255; the file appears whole or not at all.

    Raises:
        BadInput: the file cannot be written; an earlier file of this name is kept.
    """
    with atomic(path) as temporary:
        temporary.write_bytes(encode_mask(mask))


def encode_mask(mask: NDArray[np.bool_]) -> bytes:
    """Return the content of the file that `write_mask` writes."""
    content = io.BytesIO()
    Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).save(content, format="PNG")
    return content.getvalue()


def write_labels(path: str | Path, labels: NDArray[np.integer]) -> None:
    """Write labels `[H, W]` as a gray PNG of these values, 8 or 16 bits; the file appears whole or not at all.

    Raises:
        BadInput: a label is below 0 or above 65535, or the file cannot be written; an earlier file is kept.
    """
    highest = int(labels.max(initial=0))
    if labels.min(initial=0) < 0 or highest > 65535:
        raise BadInput(f"{path} cannot hold labels below 0 or above 65535; save the layer as TIFF.")
    image = Image.fromarray(labels.astype(np.uint8 if highest < 256 else np.uint16))
    with atomic(path) as temporary:
        image.save(temporary, format="PNG")


def _to_bool(gray: NDArray[Any], name: str) -> NDArray[np.bool_]:
    if gray.dtype == bool:
        return gray
    if gray.dtype == np.uint8:
        counts = np.bincount(gray.ravel(), minlength=256)
        values = np.flatnonzero(counts)
        in_outer_eighths = (counts[:32].sum() + counts[224:].sum()) / gray.size
        if values.size > 2 and values[-1] >= 224 and in_outer_eighths >= 0.95:
            return gray >= 128
    else:
        values = np.unique(gray)
    if values.size > 2:
        raise BadInput(
            f"{name} is not a lesion mask: it contains {values.size} values ({_first_values(values)}); "
            "give a file that is black (0) outside and white (255) inside the lesion."
        )
    return gray == values[-1] if values[-1] else np.zeros(gray.shape, dtype=bool)


def _first_values(values: NDArray[Any]) -> str:
    shown = [f"{value:g}" for value in values[:4]]
    return ", ".join(shown) + (", …" if values.size > len(shown) else "")


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]} pixels"
