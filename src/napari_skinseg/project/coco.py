"""Masks as COCO annotations, a format of labelling tools."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.pixels.mask import trace_contours

_TOLERANCE = 0.5  # px; greatest distance of a polygon from the mask's outline


def polygons(mask: NDArray[np.bool_]) -> dict[str, Any] | None:
    """COCO polygons [x, y, …] of a mask, bool `[H, W]`; pixel corners are whole numbers, and holes are filled.

    Returns:
        None for an empty mask.
    """
    from skimage.measure import approximate_polygon

    found = []
    for line in trace_contours(mask):
        row, column = line.T
        if np.sum(row[:-1] * column[1:] - row[1:] * column[:-1]) > 0:
            continue  # a hole: its outline runs in the other direction
        points = approximate_polygon(line, _TOLERANCE)[:-1, ::-1] + 0.5
        if len(points) >= 3:
            found.append([round(float(value), 2) for value in points.ravel()])
    return {"segmentation": found, **_extent(mask), "iscrowd": 0} if found else None


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any] | None:
    """COCO's compressed run lengths of a mask, bool `[H, W]`: exact, with holes; None for an empty mask."""
    from pycocotools import mask as coco

    if not mask.any():
        return None
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    segmentation = {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}
    return {"segmentation": segmentation, **_extent(mask), "iscrowd": 0}


def _extent(mask: NDArray[np.bool_]) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return {"area": int(mask.sum()), "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]}
