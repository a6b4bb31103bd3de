"""The figures of an evaluation: of each photo, over all photos and over groups of them, with intervals.

What each figure is: `pixels.metrics`, and docs/evaluate.md in words.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from napari_skinseg.files import Cell
from napari_skinseg.pixels import metrics
from napari_skinseg.pixels.metrics import Agreement, Summary

BINS = 10
"""Equal steps of the confidence in which it is held against the Jaccard that was reached."""

SIZES = ((0.05, "under 5 %"), (0.20, "5 to 20 %"), (0.50, "20 to 50 %"), (1.01, "50 % and more"))
"""Groups by the lesion's share of the frame: each group's upper bound, not included, and its name."""


@dataclass(frozen=True)
class CaseResult:
    """One photo.

    Attributes:
        width, height: of the photo, in pixels.
        lesion_fraction: share of the frame that the person's mask covers.
        confidence: the Jaccard that the model expected, in [0, 1].
        seconds: from the decoded photo to the mask, its share of the batch.
        agreement: of the model's mask with the person's.
        pooled: shared pixels and sum of both areas at 256x256.
        found_fraction: share of the frame that the model's mask covers.
        touches_edge: the person's mask reaches the frame's edge.
        clicks: Jaccard after 0, 1, … simulated clicks, for each of `click_curves.CURVES`; empty if none were simulated.
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

    def row(self) -> dict[str, Cell]:
        """The photo's line of the table, in column order; None is "not measured"."""
        columns = asdict(self)
        del columns["pooled"]
        clicks, agreement = columns.pop("clicks"), columns.pop("agreement")
        after = {f"{curve}_{n}": value for curve, trace in clicks.items() for n, value in enumerate(trace)}
        return columns | agreement | after


@dataclass(frozen=True)
class Scores:
    """Every figure over a set of photos; see `Summary` for what each consists of.

    Attributes:
        failure: 1 for a photo with Jaccard < 0.65, else 0: its mean is the failure rate.
        pooled_dice_256: Dice of all pixels of all photos together at 256x256, for comparison with other papers only.
        confidence_correlation: Pearson's, of confidence with Jaccard.
        confidence_error: mean absolute difference of confidence and Jaccard.
        calibration_error: expected calibration error (Guo et al. 2017): over `reliability`'s steps, the mean absolute
            difference of mean confidence and mean Jaccard, each step weighted by its photos.
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


@dataclass(frozen=True)
class ReliabilityBin:
    """The photos whose confidence is in [low, high): what was expected of them on average, and what was reached."""

    low: float
    high: float
    photos: int
    confidence: float
    jaccard: float


@dataclass(frozen=True)
class Detection:
    """Whether the model knows a photo without a lesion.

    Attributes:
        without_lesion: photos in which the person found no lesion.
        left_empty: share of these in which the model found none either.
        with_lesion: photos in which the person found one.
        missed: share of these in which the model found none.
    """

    without_lesion: int
    left_empty: Summary
    with_lesion: int
    missed: Summary


def scores_of(results: Sequence[CaseResult], bootstrap: int = 2000, seed: int = 0) -> Scores:
    """Every figure over the photos; `bootstrap` resamples from `seed` are behind each interval."""
    columns = {name: [getattr(result.agreement, name) for result in results] for name in Agreement.__annotations__}
    jaccards, confidences = columns["jaccard"], [result.confidence for result in results]
    steps = reliability(results)
    return Scores(
        photos=len(results),
        **{name: metrics.summarise(values, bootstrap, seed) for name, values in columns.items()},
        pooled_dice_256=metrics.pooled_dice([result.pooled for result in results]),
        confidence_correlation=metrics.correlation(confidences, jaccards),
        confidence_error=float(np.abs(np.subtract(confidences, jaccards)).mean()),
        calibration_error=sum(s.photos * abs(s.confidence - s.jaccard) for s in steps) / len(results),
    )


def strata(results: Sequence[CaseResult], bootstrap: int = 2000, seed: int = 0) -> dict[str, dict[str, Scores]]:
    """Stratum -> group -> its figures, for each stratum that the photos divide into more than one group."""
    found = {}
    for name, group_of in _STRATA.items():
        groups: dict[str, list[CaseResult]] = {}
        for result in results:
            groups.setdefault(group_of(result), []).append(result)
        if len(groups) > 1:
            order = _order(name, groups)
            found[name] = {group: scores_of(groups[group], bootstrap, seed) for group in order}
    return found


def reliability(results: Sequence[CaseResult]) -> tuple[ReliabilityBin, ...]:
    """The photos by their confidence, in `BINS` equal steps without those that hold no photo."""
    confidence = np.array([result.confidence for result in results])
    jaccard = np.array([result.agreement.jaccard for result in results])
    number = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return tuple(
        ReliabilityBin(
            low=step / BINS,
            high=(step + 1) / BINS,
            photos=int(np.count_nonzero(number == step)),
            confidence=float(confidence[number == step].mean()),
            jaccard=float(jaccard[number == step].mean()),
        )
        for step in np.unique(number)
    )


def detection(results: Sequence[CaseResult], bootstrap: int = 2000, seed: int = 0) -> Detection:
    """How often the model rightly and wrongly found no lesion."""
    found_none = {
        lesion: [float(r.found_fraction == 0) for r in results if (r.lesion_fraction > 0) == lesion]
        for lesion in (False, True)
    }
    left_empty, missed = (metrics.summarise(found_none[lesion], bootstrap, seed) for lesion in (False, True))
    return Detection(left_empty.n, left_empty, missed.n, missed)


def differences(
    first: Sequence[CaseResult], other: Sequence[CaseResult], bootstrap: int = 2000, seed: int = 0
) -> dict[str, Summary]:
    """Figure -> mean of `other` minus `first`, photo by photo, with its paired bootstrap interval.

    Args:
        first: one result per photo.
        other: those of another model, of the same photos in the same order.
        bootstrap: resamples of photos.
        seed: of the resampling.
    """
    pairs = [(a.agreement, b.agreement) for a, b in zip(first, other, strict=True)]
    return {
        name: metrics.summarise([_minus(getattr(b, name), getattr(a, name)) for a, b in pairs], bootstrap, seed)
        for name in Agreement.__annotations__
    }


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else float(a) - float(b)


def _size(result: CaseResult) -> str:
    if result.lesion_fraction == 0:
        return "no lesion"
    return next(name for bound, name in SIZES if result.lesion_fraction < bound)


def _edge(result: CaseResult) -> str:
    if result.lesion_fraction == 0:
        return "no lesion"
    return "touches the edge" if result.touches_edge else "within the frame"


_STRATA: dict[str, Callable[[CaseResult], str]] = {
    "dataset": lambda result: result.source or "unnamed",
    "diagnosis": lambda result: result.diagnosis or "not known",
    "lesion's share of the frame": _size,
    "frame's edge": _edge,
}


def _order(stratum: str, groups: dict[str, list[CaseResult]]) -> list[str]:
    """Groups as a person would list them: by size where they are sizes, datasets as given, else by name."""
    if stratum == "dataset":
        return list(groups)
    if stratum == "lesion's share of the frame":
        return [name for name in ("no lesion", *(name for _, name in SIZES)) if name in groups]
    return sorted(groups)
