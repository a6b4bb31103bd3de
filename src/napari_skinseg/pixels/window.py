"""Windows: the part of a photo to look at more closely, of the photo's own proportions."""

import numpy as np
from numpy.typing import NDArray

Window = tuple[slice, slice]


def window_around(points: NDArray[np.generic], shape: tuple[int, int], share: float) -> Window:
    """The smallest window in which the points' bounding box takes at most `share` of each side.

    Args:
        points: `[N, 2]` rows and columns in pixels, at least one.
        shape: (height, width) of the frame; the window keeps to it and to its proportions.
        share: of the window's sides, in (0, 1].

    Returns:
        A pair of slices; the whole frame where the box is too large for less.
    """
    low, high = points.min(axis=0).astype(float), points.max(axis=0).astype(float) + 1
    size = np.array(shape, dtype=float)
    sides = np.ceil(size * min(1.0, float(((high - low) / size).max()) / share)).astype(int).clip(1, shape)
    start = np.round((low + high - sides) / 2).astype(int).clip(0, np.array(shape) - sides)
    rows, columns = (slice(int(first), int(first + side)) for first, side in zip(start, sides, strict=True))
    return rows, columns
