"""What an evaluation returns: the results of one model, or of several models on the same photos."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from napari_skinseg.files import Cell
from napari_skinseg.pixels.metrics import Summary

from .click_curves import ClickCurve
from .statistics import CaseResult, Detection, ReliabilityBin, Scores


@dataclass(frozen=True)
class WorstPhoto:
    """A photo on which the model has a low Jaccard.

    Attributes:
        result: the figures of the photo.
        picture: a small JPEG of the photo with both outlines.
    """

    result: CaseResult
    picture: bytes = field(repr=False)


@dataclass(frozen=True)
class Evaluation:
    """The results of one model.

    Attributes:
        header: data, photos, split, resolution, mask, device, model, sha256 of its weights, command, version.
        results: one per photo, in the order of the cases.
        summary: the scores over all photos.
        strata: stratum -> group -> scores of the photos of that group, for each stratum with several groups.
        reliability: the photos in bins of confidence.
        detection: how often the model found no lesion, correctly and wrongly.
        clicks: curve -> Jaccard after each simulated click, see `click_curves.CURVES`; empty without simulation.
        worst: the photos with the lowest Jaccard, lowest first.
        left_out: (photo, sentence) of each case that could not be used.
    """

    header: dict[str, str | int]
    results: tuple[CaseResult, ...]
    summary: Scores
    strata: dict[str, dict[str, Scores]]
    reliability: tuple[ReliabilityBin, ...]
    detection: Detection
    clicks: dict[str, ClickCurve]
    worst: tuple[WorstPhoto, ...] = field(repr=False)
    left_out: tuple[tuple[Path, str], ...]

    @property
    def rows(self) -> list[dict[str, Cell]]:
        """Column -> value for each photo; None means "not measured"."""
        return [result.row() for result in self.results]

    def to_json(self) -> dict[str, Any]:
        """Return the header, all scores and the photos left out as one JSON document."""
        return {
            "header": self.header,
            "summary": asdict(self.summary),
            "by_source": _groups_as_json(self.strata.get("dataset", {})),
            "strata": {stratum: _groups_as_json(groups) for stratum, groups in self.strata.items()},
            "reliability": [asdict(step) for step in self.reliability],
            "detection": asdict(self.detection),
            "clicks": {name: asdict(curve) for name, curve in self.clicks.items()},
            "worst": [worst.result.id for worst in self.worst],
            "left_out": [{"photo": str(photo), "why": why} for photo, why in self.left_out],
        }


@dataclass(frozen=True)
class Comparison:
    """The results of several models on the same photos.

    Attributes:
        evaluations: one per model.
        differences: for each model except the first one: figure -> this model minus the first model, paired by photo,
            over the photos that both models could use.
    """

    evaluations: tuple[Evaluation, ...]
    differences: tuple[dict[str, Summary], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """A different name for each model."""
        headers = [evaluation.header for evaluation in self.evaluations]
        counts = Counter(header["model"] for header in headers)
        names = [
            f"{h['model']}" if counts[h["model"]] == 1 else f"{h['model']} ({str(h['sha256'])[:8]})" for h in headers
        ]
        return tuple(name if names.count(name) == 1 else f"{name} #{n}" for n, name in enumerate(names, start=1))

    @property
    def shared_header(self) -> dict[str, str | int]:
        """The lines of the header that are the same for all models."""
        headers = [evaluation.header for evaluation in self.evaluations]
        return {key: value for key, value in headers[0].items() if all(other.get(key) == value for other in headers)}

    @property
    def left_out(self) -> tuple[tuple[Path, str], ...]:
        """(photo, sentence) of each case that at least one model could not use."""
        return tuple(dict.fromkeys(entry for evaluation in self.evaluations for entry in evaluation.left_out))

    def to_json(self) -> dict[str, Any]:
        """Return the document of each model and the differences as one JSON document."""
        first, *others = self.names
        return {
            "models": {
                name: evaluation.to_json() for name, evaluation in zip(self.names, self.evaluations, strict=True)
            },
            "differences": [
                {"model": name, "minus": first, "figures": {figure: asdict(value) for figure, value in values.items()}}
                for name, values in zip(others, self.differences, strict=True)
            ],
        }


def as_comparison(results: Evaluation | Comparison) -> Comparison:
    """Return the results of one model as a comparison of one model."""
    return results if isinstance(results, Comparison) else Comparison((results,), ())


def _groups_as_json(groups: dict[str, Scores]) -> dict[str, Any]:
    return {group: asdict(scores) for group, scores in groups.items()}
