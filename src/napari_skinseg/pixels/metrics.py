"""Agreement between two lesion masks, and statistics over many images.

Masks are `[H, W]` arrays of the same shape, lesion = True (or non-zero). Every number that the project publishes
follows these conventions: Dice and Jaccard of two empty masks are 1; Dice and Jaccard of an empty mask and a lesion are
0; a boundary distance is `None` (not measured) if one of the masks is empty.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from napari_skinseg.errors import BadInput

from .mask import bounding_box

FAILURE_JACCARD = 0.65
"""A mask with a lower Jaccard counts as a failure (ISIC 2018 challenge, Task 1)."""

POOLED_SHAPE = (256, 256)
"""The mask size for which many papers report the pooled Dice."""


@dataclass(frozen=True)
class Agreement:
    """Agreement between two masks; percentages are of the image diagonal, `None` means "not measured".

    Attributes:
        thresholded_jaccard: the Jaccard, or 0 if it is below 0.65 (ISIC 2018 Task 1).
        hausdorff95_px: the larger of the two directed 95th percentiles of boundary-to-boundary distance.
        boundary_px: mean distance from the points of each boundary to the other boundary.
    """

    dice: float
    jaccard: float
    thresholded_jaccard: float
    failure: bool
    hausdorff95_px: float | None
    hausdorff95_percent: float | None
    boundary_px: float | None
    boundary_percent: float | None


def agreement(predicted: ArrayLike, truth: ArrayLike) -> Agreement:
    """Compute every measure of agreement for one image.

    Raises:
        BadInput: the masks differ in shape or are not two-dimensional.
    """
    a, b = _pair(predicted, truth)
    overlap = jaccard(a, b)
    hausdorff95, mean = boundary_distances(a, b)
    to_percent = 100 / float(np.hypot(*a.shape))
    return Agreement(
        dice=dice(a, b),
        jaccard=overlap,
        thresholded_jaccard=overlap if overlap >= FAILURE_JACCARD else 0.0,
        failure=overlap < FAILURE_JACCARD,
        hausdorff95_px=hausdorff95,
        hausdorff95_percent=None if hausdorff95 is None else hausdorff95 * to_percent,
        boundary_px=mean,
        boundary_percent=None if mean is None else mean * to_percent,
    )


def dice(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Return twice the number of shared pixels divided by the sum of both areas, in [0, 1] (Dice 1945)."""
    a, b = _pair(predicted, truth)
    return _dice(int(np.count_nonzero(a & b)), int(np.count_nonzero(a) + np.count_nonzero(b)))


def jaccard(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Return intersection over union, in [0, 1] (Jaccard 1901)."""
    a, b = _pair(predicted, truth)
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 1.0


def boundary_distances(predicted: ArrayLike, truth: ArrayLike) -> tuple[float | None, float | None]:
    """Return the 95 % Hausdorff distance and the mean boundary distance in pixels, `None` if a mask is empty.

    The boundary consists of the pixels that an erosion with 4 neighbours removes, and of mask pixels on the frame. The
    values equal MONAI's `compute_hausdorff_distance(percentile=95)` and symmetric `compute_average_surface_distance`.
    """
    a, b = _pair(predicted, truth)
    if not a.any() or not b.any():
        return None, None
    edge_a, edge_b = _boundary(a), _boundary(b)
    # Nearest-neighbour search is as exact as a distance transform and 30 times faster on a 12-megapixel photo. Its cost
    # depends on the length of the boundary and not on the area.
    from scipy.spatial import cKDTree  # takes a quarter of a second, which `segment` does not need

    from_a, _ = cKDTree(edge_b).query(edge_a)
    from_b, _ = cKDTree(edge_a).query(edge_b)
    hausdorff95 = max(float(np.percentile(from_a, 95)), float(np.percentile(from_b, 95)))
    return hausdorff95, float(np.concatenate([from_a, from_b]).mean())


def pooled_counts(predicted: ArrayLike, truth: ArrayLike) -> tuple[int, int]:
    """Return (shared pixels, sum of both areas) of masks resized to 256x256 (nearest pixel), for `pooled_dice`."""
    a, b = (_nearest(mask, POOLED_SHAPE) for mask in _pair(predicted, truth))
    return int(np.count_nonzero(a & b)), int(np.count_nonzero(a) + np.count_nonzero(b))


def pooled_dice(counts: Iterable[tuple[int, int]]) -> float:
    """Return the Dice over the pixels of all images, as many papers report it; large lesions have more weight."""
    shared, total = np.sum([(0, 0), *counts], axis=0)
    return _dice(int(shared), int(total))


@dataclass(frozen=True)
class Summary:
    """One measure over `n` images; `low` and `high` are the 95 % interval of the mean. `None` means "not measured"."""

    n: int
    mean: float | None
    sd: float | None
    median: float | None
    low: float | None
    high: float | None


def summarise(values: Iterable[float | None], n: int = 2000, seed: int = 0) -> Summary:
    """Return mean, sample standard deviation, median and the bootstrap interval of the mean.

    Args:
        values: one value per image; `None` (not measured) is left out.
        n: number of bootstrap resamples.
        seed: seed of the resampling.
    """
    measured = np.array([value for value in values if value is not None], dtype=float)
    if measured.size == 0:
        return Summary(0, None, None, None, None, None)
    low, high = bootstrap_interval(measured, n=n, seed=seed)
    sd = float(measured.std(ddof=1)) if measured.size > 1 else None
    return Summary(measured.size, float(measured.mean()), sd, float(np.median(measured)), low, high)


def bootstrap_interval(values: Sequence[float] | NDArray[Any], n: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean (Efron 1979).

    Args:
        values: one value per image.
        n: number of bootstrap resamples.
        seed: seed of the resampling.

    Raises:
        BadInput: `values` is empty.
    """
    data = np.asarray(values, dtype=float)
    if len(data) == 0:
        raise BadInput("The list of values is empty, so the mean has no interval; measure at least one image.")
    rng = np.random.default_rng(seed)
    at_once = max(1, 200_000 // len(data))  # many resamples in one array: tens of times faster for few values
    sizes = [min(at_once, n - start) for start in range(0, n, at_once)]
    means = np.concatenate([data[rng.integers(0, len(data), (size, len(data)))].mean(axis=1) for size in sizes])
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return Pearson's correlation, or `None` for fewer than 3 values or a constant list."""
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _pair(predicted: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    a, b = np.asarray(predicted).astype(bool, copy=False), np.asarray(truth).astype(bool, copy=False)
    if a.ndim != 2 or a.shape != b.shape:
        raise BadInput(f"The masks are {a.shape} and {b.shape}; compare two masks of one image, both [height, width].")
    return a, b


def _dice(shared: int, total: int) -> float:
    return 2 * shared / total if total else 1.0


def _boundary(mask: NDArray[np.bool_]) -> NDArray[np.int_]:
    box = bounding_box(mask)
    assert box is not None  # callers exclude empty masks
    inside = mask[box]
    origin = np.array([side.start for side in box])
    return np.argwhere(inside & ~np.asarray(scipy.ndimage.binary_erosion(inside))) + origin


def _nearest(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    rows, columns = (((np.arange(n) + 0.5) * size / n).astype(int) for n, size in zip(shape, mask.shape, strict=True))
    return np.asarray(mask[np.ix_(rows, columns)])
