"""The figures of an evaluation: of each photo, over all photos and over groups of photos, with intervals.

`pixels.metrics` defines each figure; docs/evaluate.md explains it.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from napari_skinseg.files import Cell
from napari_skinseg.pixels import metrics
from napari_skinseg.pixels.metrics import Agreement, Summary

BINS = 10
"""Number of equal bins of confidence for the comparison of confidence and Jaccard."""

SIZES = ((0.05, "under 5 %"), (0.20, "5 to 20 %"), (0.50, "20 to 50 %"), (1.01, "50 % and more"))
"""Groups by the fraction of the frame that is lesion: upper bound (exclusive) and name of each group."""


@dataclass(frozen=True)
class CaseResult:
    """The figures of one photo.

    Attributes:
        width, height: size of the photo in pixels.
        lesion_fraction: fraction of the frame that is lesion in the mask of the person.
        confidence: the Jaccard that the model expects, in [0, 1].
        seconds: time from the decoded photo to the mask; the time of the network is divided by the batch size.
        agreement: agreement of the mask of the model with the mask of the person.
        pooled: number of shared pixels, and sum of both areas, at 256x256 pixels.
        found_fraction: fraction of the frame that is lesion in the mask of the model.
        touches_edge: the mask of the person reaches the edge of the frame.
        clicks: curve -> Jaccard after 0, 1, … simulated clicks, see `click_curves.CURVES`; empty without simulation.
        flags: what else the photo shows, e.g. ("hair", "ruler"); None if the photo is not in the table of flags.
    """

    id: str
    source: str
    diagnosis: str
    width: int
    height: int
    lesion_fraction: float
    confidence: float
    seconds: float
    agreement: Agreement
    pooled: tuple[int, int]
    found_fraction: float
    touches_edge: bool
    clicks: dict[str, tuple[float, ...]] = field(default_factory=dict)
    flags: tuple[str, ...] | None = None

    @property
    def pixels(self) -> int:
        """Number of pixels of the photo."""
        return self.width * self.height

    def row(self) -> dict[str, Cell]:
        """Column -> value, in the order of the table; None means "not measured"."""
        columns = asdict(self)
        del columns["pooled"]
        columns["flags"] = None if self.flags is None else " ".join(self.flags)
        clicks, agreement = columns.pop("clicks"), columns.pop("agreement")
        after = {f"{curve}_{n}": value for curve, trace in clicks.items() for n, value in enumerate(trace)}
        return columns | agreement | after


@dataclass(frozen=True)
class Scores:
    """All figures over a set of photos.

    Attributes:
        failure: 1 for a photo with Jaccard < 0.65, else 0; the mean is the failure rate.
        pooled_dice_256: Dice of the pixels of all photos together at 256x256, only for comparison with papers.
        confidence_correlation: Pearson correlation of confidence and Jaccard.
        confidence_error: mean absolute difference of confidence and Jaccard.
        calibration_error: expected calibration error (Guo et al. 2017): the absolute difference of mean confidence
            and mean Jaccard, averaged over the bins of `compute_reliability` with the number of photos as weight.
        missed: fraction of the photos with a lesion in which the model found none.
    """

    photos: int
    dice: Summary
    jaccard: Summary
    thresholded_jaccard: Summary
    failure: Summary
    hausdorff95_px: Summary
    hausdorff95_percent: Summary
    boundary_px: Summary
    boundary_percent: Summary
    pooled_dice_256: float
    confidence_correlation: float | None
    confidence_error: float
    calibration_error: float
    missed: Summary


@dataclass(frozen=True)
class ReliabilityBin:
    """The photos with a confidence in [low, high): their number, mean confidence and mean Jaccard."""

    low: float
    high: float
    photos: int
    confidence: float
    jaccard: float


@dataclass(frozen=True)
class Detection:
    """How often the model found no lesion, correctly and wrongly.

    Attributes:
        without_lesion: number of photos without a lesion in the mask of the person.
        left_empty: fraction of these photos in which the model found no lesion.
        with_lesion: number of photos with a lesion in the mask of the person.
        missed: fraction of these photos in which the model found no lesion.
    """

    without_lesion: int
    left_empty: Summary
    with_lesion: int
    missed: Summary


def compute_scores(results: Sequence[CaseResult], bootstrap: int = 2000, seed: int = 0) -> Scores:
    """Compute all figures over the photos; each interval is from `bootstrap` resamples with `seed`."""
    columns = {name: [getattr(result.agreement, name) for result in results] for name in Agreement.__annotations__}
    jaccards, confidences = columns["jaccard"], [result.confidence for result in results]
    bins = compute_reliability(results)
    return Scores(
        photos=len(results),
        **{name: metrics.summarise(values, bootstrap, seed) for name, values in columns.items()},
        pooled_dice_256=metrics.pooled_dice([result.pooled for result in results]),
        confidence_correlation=metrics.correlation(confidences, jaccards),
        confidence_error=float(np.abs(np.subtract(confidences, jaccards)).mean()),
        calibration_error=sum(one.photos * abs(one.confidence - one.jaccard) for one in bins) / len(results),
        missed=compute_detection(results, bootstrap, seed).missed,
    )


def compute_strata(results: Sequence[CaseResult], bootstrap: int = 2000, seed: int = 0) -> dict[str, dict[str, Scores]]:
    """Stratum -> group -> scores, for each stratum with more than one group; a photo may be in several groups."""
    strata = {}
    for name, groups_of in _STRATA.items():
        groups: dict[str, list[CaseResult]] = {}
        for result in results:
            for group in groups_of(result):
                groups.setdefault(group, []).append(result)
        if len(groups) > 1:
            order = _order(name, groups)
            strata[name] = {group: compute_scores(groups[group], bootstrap, seed) for group in order}
    return strata


def compute_reliability(results: Sequence[CaseResult]) -> tuple[ReliabilityBin, ...]:
    """Return the bins of confidence that contain photos, out of `BINS` equal bins."""
    confidence = np.array([result.confidence for result in results])
    jaccard = np.array([result.agreement.jaccard for result in results])
    number = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return tuple(
        ReliabilityBin(
            low=index / BINS,
            high=(index + 1) / BINS,
            photos=int(np.count_nonzero(number == index)),
            confidence=float(confidence[number == index].mean()),
            jaccard=float(jaccard[number == index].mean()),
        )
        for index in np.unique(number)
    )


def compute_detection(results: Sequence[CaseResult], bootstrap: int = 2000, seed: int = 0) -> Detection:
    """Compute how often the model found no lesion in photos without and with a lesion."""
    found_none = {
        lesion: [float(r.found_fraction == 0) for r in results if (r.lesion_fraction > 0) == lesion]
        for lesion in (False, True)
    }
    left_empty, missed = (metrics.summarise(found_none[lesion], bootstrap, seed) for lesion in (False, True))
    return Detection(left_empty.n, left_empty, missed.n, missed)


def compute_differences(
    first: Sequence[CaseResult], other: Sequence[CaseResult], bootstrap: int = 2000, seed: int = 0
) -> dict[str, Summary]:
    """Figure -> mean of `other` minus `first`, paired by photo, with its bootstrap interval.

    Args:
        first: one result per photo.
        other: results of another model, for the same photos in the same order.
        bootstrap: number of resamples of photos.
        seed: seed of the resampling.
    """
    pairs = [(a.agreement, b.agreement) for a, b in zip(first, other, strict=True)]
    return {
        name: metrics.summarise([_minus(getattr(b, name), getattr(a, name)) for a, b in pairs], bootstrap, seed)
        for name in Agreement.__annotations__
    }


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else float(a) - float(b)


def _size_group(result: CaseResult) -> list[str]:
    if result.lesion_fraction == 0:
        return ["no lesion"]
    return [next(name for bound, name in SIZES if result.lesion_fraction < bound)]


def _edge_group(result: CaseResult) -> list[str]:
    if result.lesion_fraction == 0:
        return ["no lesion"]
    return ["touches the edge" if result.touches_edge else "within the frame"]


def _flag_groups(result: CaseResult) -> list[str]:
    if result.flags is None:
        return []
    return list(result.flags) or ["none of these"]


_STRATA: dict[str, Callable[[CaseResult], list[str]]] = {
    "dataset": lambda result: [result.source or "unnamed"],
    "diagnosis": lambda result: [result.diagnosis or "not known"],
    "lesion's share of the frame": _size_group,
    "frame's edge": _edge_group,
    "artefact": _flag_groups,
}


def _order(stratum: str, groups: dict[str, list[CaseResult]]) -> list[str]:
    """Groups in the order of the table: datasets as given, sizes by size, others by name."""
    if stratum == "dataset":
        return list(groups)
    if stratum == "lesion's share of the frame":
        return [name for name in ("no lesion", *(name for _, name in SIZES)) if name in groups]
    return sorted(groups)
