"""Masks as polygons with few corners, and back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import skimage
from numpy.typing import NDArray

from .mask import Window, trace_contours

_TOLERANCE = 0.006
"""Farthest distance of a polygon from the contour, as a share of the diameter of a disc with the same area."""


@dataclass(frozen=True)
class Polygon:
    """A piece of a mask, or a hole in it.

    Attributes:
        corners: float `[N, 2]` (row, column), at least 3; the last one is joined to the first. Pixel centres have whole
            coordinates.
        is_hole: whether the polygon is a hole.
    """

    corners: NDArray[np.float64]
    is_hole: bool = False


def mask_to_polygons(mask: NDArray[np.bool_]) -> list[Polygon]:
    """Return the pieces and holes of a mask `[H, W]` as polygons with few corners, the longest outline first.

    Corners are left out as long as the polygon stays within 0.6 % of the lesion's diameter (at least 0.7 pixels) of the
    contour (Douglas and Peucker 1973). Pieces and holes that are smaller than this tolerance are left out.
    """
    tolerance = max(0.7, _TOLERANCE * 2 * math.sqrt(np.count_nonzero(mask) / math.pi))
    polygons = []
    for contour in trace_contours(mask):
        corners = skimage.measure.approximate_polygon(contour, tolerance)[:-1]
        if len(corners) >= 3 and abs(_signed_area(corners)) > 4 * tolerance**2:
            # `find_contours` runs counter-clockwise around pieces, and clockwise around holes.
            polygons.append(Polygon(corners, is_hole=_signed_area(contour) > 0))
    return polygons


def polygons_to_mask(
    polygons: Sequence[Polygon], shape: tuple[int, int], window: Window | None = None
) -> NDArray[np.bool_]:
    """Return the pixels whose centres are in the polygons; later polygons override earlier ones.

    Args:
        polygons: pieces and holes.
        shape: (height, width) of the mask.
        window: return only this part of the mask.
    """
    rows, columns = window or (slice(0, shape[0]), slice(0, shape[1]))
    mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
    for polygon in polygons:
        mask[_fill(polygon.corners - (rows.start, columns.start), mask.shape)] = not polygon.is_hole
    return mask


def changed_window(before: Sequence[Polygon], after: Sequence[Polygon], shape: tuple[int, int]) -> Window | None:
    """Return the part of a mask of `shape` outside which both lists give the same pixels; None if they are equal."""
    edges = _edges(before) ^ _edges(after)
    if not edges:
        return None
    ends = np.array([end for edge, _ in edges for end in edge])
    sides = zip(np.floor(ends.min(axis=0)), np.ceil(ends.max(axis=0)) + 1, shape, strict=True)
    rows, columns = (slice(*(int(np.clip(end, 0, size)) for end in (first, last))) for first, last, size in sides)
    return rows, columns


def _edges(polygons: Sequence[Polygon]) -> set[tuple[frozenset[tuple[float, ...]], bool]]:
    """Return the edges of all polygons, each as its two ends and whether it belongs to a hole."""
    return {
        (frozenset((tuple(corner), tuple(following))), polygon.is_hole)
        for polygon in polygons
        for corner, following in zip(polygon.corners, np.roll(polygon.corners, -1, axis=0), strict=True)
    }


def _fill(corners: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the pixels inside a polygon by the even-odd rule, at (row, column) of its corners.

    Every edge switches between outside and inside at its first pixel in each row.
    """
    switches = np.zeros((shape[0], shape[1] + 1), dtype=bool)
    for (row, column), (other_row, other_column) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        first, last = (math.ceil(end) for end in sorted((row, other_row)))
        crossed = np.arange(max(first, 0), min(last, shape[0]))
        if crossed.size:
            at = column + (crossed - row) * (other_column - column) / (other_row - row)
            switches[crossed, np.clip(np.ceil(at), 0, shape[1]).astype(int)] ^= True
    return np.asarray(np.logical_xor.accumulate(switches, axis=1)[:, :-1])


def _signed_area(corners: NDArray[np.float64]) -> float:
    """Return the area by the shoelace formula; its sign says in which direction the corners run."""
    rows, columns = corners.T
    return float(np.dot(rows, np.roll(columns, -1)) - np.dot(columns, np.roll(rows, -1))) / 2
