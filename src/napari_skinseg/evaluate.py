"""Model x cases -> how well its masks agree with those that people drew: a row per photo and a summary with intervals.

Each photo counts once, at its own resolution, with the mask that a user would get. Photos that cannot be used are
named and left out, never scored. Conventions of the figures: `pixels.metrics`, and docs/evaluate.md in words.
"""

import csv
import io
import os
import shlex
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cases.dataset import Case
from .errors import BadInput
from .events import CancelToken, Event, NeverCancelled, OnEvent, check, ignore
from .files import output_folder, write_json, write_text
from .models.bundle import Model
from .pixels import metrics
from .pixels.image import read_image
from .pixels.mask import read_mask
from .pixels.metrics import Agreement, Summary
from .segment import Segmentation, Segmenter, SegmentOptions

_PIXELS_AT_ONCE = 24_000_000  # large photos go through by fewer than the batch size, so that memory holds out
_Loaded = tuple[Case, NDArray[np.uint8], NDArray[np.bool_]]  # photo and person's mask


@dataclass(frozen=True)
class EvaluateOptions:
    """How a model is evaluated.

    Attributes:
        batch_size: Photos that go through the network together.
        bootstrap: Resamples behind each 95 % interval.
        seed: Seed of the resampling.
        segment: How each mask is made; as a user gets it when not given.
    """

    batch_size: int = 8
    bootstrap: int = 2000
    seed: int = 0
    segment: SegmentOptions = field(default_factory=SegmentOptions)

    def validate(self) -> None:
        """Raise `BadInput` if a value is out of its range."""
        if self.batch_size < 1:
            raise BadInput(f"The batch size is {self.batch_size}; it is a number of photos, at least 1.")
        if not 100 <= self.bootstrap <= 100_000:
            raise BadInput(f"The bootstrap has {self.bootstrap} resamples; choose from 100 to 100000, such as 2000.")
        if self.seed < 0:
            raise BadInput(f"The seed is {self.seed}; choose a whole number from 0.")
        self.segment.validate()


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

    def row(self) -> dict[str, str | int | float | bool | None]:
        """The photo's line of the table, in column order; None is "not measured"."""
        columns = asdict(self)
        del columns["pooled"]
        return columns | columns.pop("agreement")


@dataclass(frozen=True)
class Scores:
    """Every figure over a set of photos; see `Summary` for what each consists of.

    Attributes:
        failure: 1 for a photo with Jaccard < 0.65, else 0: its mean is the failure rate.
        pooled_dice_256: Dice of all pixels of all photos together at 256x256, for comparison with other papers only.
        confidence_correlation: Pearson's, of confidence with Jaccard.
        confidence_error: mean absolute difference of confidence and Jaccard.
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


@dataclass(frozen=True)
class Evaluation:
    """What came out.

    Attributes:
        header: data, photos, split, resolution, mask, device, model, its weights' sha256, command, versions.
        results: one per photo, in the order of the cases.
        summary: over all photos.
        by_source: the same per dataset, where there are several; else empty.
        left_out: (photo, sentence) of every case that could not be used.
    """

    header: dict[str, str | int]
    results: tuple[CaseResult, ...]
    summary: Scores
    by_source: dict[str, Scores]
    left_out: tuple[tuple[Path, str], ...]

    @property
    def rows(self) -> list[dict[str, str | int | float | bool | None]]:
        """The per-photo table."""
        return [result.row() for result in self.results]

    def write(self, folder: str | Path) -> None:
        """Write the per-photo table (evaluation.csv) and the report (evaluation.json) into `folder`."""
        folder = output_folder(folder)
        self.to_csv(folder / "evaluation.csv")
        self.to_json(folder / "evaluation.json")

    def to_csv(self, path: str | Path) -> None:
        """Write the per-photo table; a blank cell is "not measured". Every row names the split and the weights."""
        about = {"split": self.header["split"], "model": self.header["model"], "sha256": self.header["sha256"]}
        text = io.StringIO()
        writer = csv.DictWriter(text, [*self.rows[0], *about], lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({name: _cell(value) for name, value in {**row, **about}.items()})
        write_text(path, text.getvalue())

    def to_json(self, path: str | Path | None = None) -> dict[str, Any]:
        """The header, every summary and what was left out as one JSON document, written to `path` if given."""
        document = {
            "header": self.header,
            "summary": asdict(self.summary),
            "by_source": {source: asdict(scores) for source, scores in self.by_source.items()},
            "left_out": [{"photo": str(photo), "why": why} for photo, why in self.left_out],
        }
        if path is not None:
            write_json(path, document)
        return document

    def to_text(self) -> str:
        """The report as a person reads it."""
        lines = [f"{name:<11}{value}" for name, value in self.header.items()]
        lines += ["", *_table(self.summary)]
        if self.by_source:
            lines += ["", f"{'':<24}{'photos':>8}{'Dice':>9}{'Jaccard':>9}{'thr. J':>9}{'failures':>10}"]
            for source, scores in self.by_source.items():
                figures = (scores.dice, scores.jaccard, scores.thresholded_jaccard)
                means = "".join(f"{_figure(figure.mean):>9}" for figure in figures)
                lines.append(f"{source:<24}{scores.photos:>8}{means}{_percent(scores.failure.mean):>10}")
        if self.left_out:
            lines += ["", f"Left out, {len(self.left_out)}:", *(f"  {why}" for _, why in self.left_out)]
        return "\n".join(lines)


def evaluate(
    model: str | Path | Model | Segmenter | None,
    cases: Sequence[Case],
    options: EvaluateOptions | None = None,
    on_event: OnEvent = ignore,
    cancel: CancelToken | None = None,
) -> Evaluation:
    """Segment every case and compare the mask with the person's, both at the photo's own resolution.

    Args:
        model: as `Segmenter` takes it, then run on the best device here; or a `Segmenter` on a device of one's choice.
        cases: photos with masks, such as `apply_splits(find_cases(folder), "splits.csv", "test")`.
        options: see `EvaluateOptions`.
        on_event: told after every photo; `values` holds its Dice.
        cancel: looked at before each batch.

    Raises:
        BadInput: there is no such model, an option is out of range, or not one case can be used.
        Cancelled: `cancel` was set.
    """
    options = options or EvaluateOptions()
    options.validate()
    if not cases:
        raise BadInput("There is no photo to evaluate on; give a folder of photos with masks.")
    segmenter = model if isinstance(model, Segmenter) else Segmenter(model)
    run = _Run(segmenter, options, len(cases), on_event, cancel or NeverCancelled())
    run(cases)
    if not run.results:
        raise BadInput(f"None of the {len(cases)} photos could be used; the first: {run.left_out[0][1]}")
    results = tuple(run.results)
    sources = dict.fromkeys(result.source for result in results)
    parts = {source: [result for result in results if result.source == source] for source in sources}
    return Evaluation(
        header=_header(segmenter, cases, results, options),
        results=results,
        summary=_scores(results, options),
        by_source={source: _scores(part, options) for source, part in parts.items()} if len(parts) > 1 else {},
        left_out=tuple(run.left_out),
    )


class _Run:
    """Decoding before and comparing after the network in threads, so that neither keeps it waiting.

    A few batches of photos are in memory at most: some read ahead, one between network and comparison.
    """

    def __init__(
        self, segmenter: Segmenter, options: EvaluateOptions, total: int, on_event: OnEvent, cancel: CancelToken
    ) -> None:
        self.segmenter, self.options, self.total = segmenter, options, total
        self.on_event, self.cancel = on_event, cancel
        self.results: list[CaseResult] = []
        self.left_out: list[tuple[Path, str]] = []

    def __call__(self, cases: Sequence[Case]) -> None:
        comparing: deque[Future[CaseResult]] = deque()
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            for batch in self._batches(pool, cases):
                done = 0
                try:
                    images = (rgb for _, rgb, _ in batch)
                    for answer in self.segmenter.segment_many(images, self.options.segment, batch_size=len(batch)):
                        case, _, truth = batch[done]
                        comparing.append(pool.submit(_compare, case, truth, answer))
                        done += 1
                except BadInput as error:  # memory that did not suffice, which reading the photo cannot foresee
                    for case, _, _ in batch[done:]:
                        self._leave_out(case, f"{case.image} could not be segmented: {error}")
                while len(comparing) > len(batch):
                    self._collect(comparing.popleft().result())
            while comparing:
                self._collect(comparing.popleft().result())

    def _batches(self, pool: ThreadPoolExecutor, cases: Sequence[Case]) -> Iterator[list[_Loaded]]:
        """Read ahead and hand on batches in order, smaller ones of large photos."""
        waiting: deque[tuple[Case, Future[_Loaded]]] = deque()
        rest = iter(cases)
        at_once = 1  # until the size of the first photo is known
        try:
            while True:
                while len(waiting) < 2 * at_once and (case := next(rest, None)):
                    waiting.append((case, pool.submit(_load, case)))
                if not waiting:
                    return
                check(self.cancel)
                batch = []
                for _ in range(min(at_once, len(waiting))):
                    case, future = waiting.popleft()
                    try:
                        batch.append(future.result())
                    except (BadInput, OSError) as error:
                        self._leave_out(case, str(error))
                if batch:
                    yield batch
                    largest = max(truth.size for _, _, truth in batch)
                    at_once = max(1, min(self.options.batch_size, _PIXELS_AT_ONCE // largest))
        finally:
            for _, future in waiting:
                future.cancel()

    def _collect(self, result: CaseResult) -> None:
        self.results.append(result)
        self._tell(f"{result.id}: Dice {result.agreement.dice:.3f}", {"dice": result.agreement.dice})

    def _leave_out(self, case: Case, sentence: str) -> None:
        self.left_out.append((case.image, sentence))
        self._tell(sentence, {})

    def _tell(self, message: str, values: dict[str, float]) -> None:
        self.on_event(Event("evaluate", len(self.results) + len(self.left_out), self.total, message, values))


def _load(case: Case) -> _Loaded:
    if case.mask is None:
        raise BadInput(f"{case.image} has no mask, so there is nothing to compare with; add one or leave it out.")
    rgb = read_image(case.image)
    return case, rgb, read_mask(case.mask, rgb.shape)


def _compare(case: Case, truth: NDArray[np.bool_], answer: Segmentation) -> CaseResult:
    return CaseResult(
        id=case.id,
        source=case.source,
        diagnosis=case.diagnosis,
        width=truth.shape[1],
        height=truth.shape[0],
        agreement=metrics.agreement(answer.mask, truth),
        confidence=answer.confidence,
        lesion_fraction=float(truth.mean()),
        pooled=metrics.pooled_counts(answer.mask, truth),
        seconds=sum(answer.timings.values()),
    )


def _scores(results: Sequence[CaseResult], options: EvaluateOptions) -> Scores:
    columns = {name: [getattr(result.agreement, name) for result in results] for name in Agreement.__annotations__}
    jaccards, confidences = columns["jaccard"], [result.confidence for result in results]
    return Scores(
        photos=len(results),
        **{name: metrics.summarise(values, options.bootstrap, options.seed) for name, values in columns.items()},
        pooled_dice_256=metrics.pooled_dice([result.pooled for result in results]),
        confidence_correlation=metrics.correlation(confidences, jaccards),
        confidence_error=float(np.abs(np.subtract(confidences, jaccards)).mean()),
    )


def _header(
    segmenter: Segmenter, cases: Sequence[Case], results: Sequence[CaseResult], options: EvaluateOptions
) -> dict[str, str | int]:
    counts = Counter(result.source or "unnamed" for result in results)
    sizes = sorted({(result.width * result.height, f"{result.width}x{result.height}") for result in results})
    resolution = sizes[0][1] if len(sizes) == 1 else f"{sizes[0][1]} to {sizes[-1][1]}"
    spec, how = segmenter.spec, options.segment
    clean = how.clean_up
    return {
        "data": ", ".join(f"{source} ({count})" for source, count in counts.items()),
        "photos": len(results),
        "left out": len(cases) - len(results),
        "split": ", ".join(sorted({case.split for case in cases if case.split})) or "none (all photos given)",
        "resolution": f"each photo's own, {resolution}",
        "mask": f"threshold {how.threshold or spec.threshold:g}, "
        f"{'mirror images averaged' if how.tta else 'one pass'}, pieces kept: {clean.keep}, "
        f"least area {clean.min_area:g}, holes {'filled' if clean.fill_holes else 'kept'}, smoothing {clean.smooth:g}",
        "device": segmenter.device_line,
        "model": f"{spec.name} {spec.version}",
        "sha256": segmenter.model.sha256,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "version": f"napari-skinseg {version('napari-skinseg')}",
    }


def _table(scores: Scores) -> list[str]:
    lines = [f"{'':36}{'mean ± sd':>15}{'median':>9}   95 % interval of the mean"]
    for label, figure, digits in (
        ("Dice", scores.dice, 3),
        ("Jaccard", scores.jaccard, 3),
        ("Thresholded Jaccard", scores.thresholded_jaccard, 3),
        ("Hausdorff 95 %, % of the diagonal", scores.hausdorff95_percent, 2),
        ("Hausdorff 95 %, px", scores.hausdorff95_px, 1),
        ("Boundary distance, % of the diagonal", scores.boundary_percent, 2),
        ("Boundary distance, px", scores.boundary_px, 1),
    ):
        values = (figure.mean, figure.sd, figure.median, figure.low, figure.high)
        mean, sd, median, low, high = (_figure(value, digits) for value in values)
        missing = scores.photos - figure.n
        note = f"   ({missing} not measured: a mask is empty)" if missing else ""
        lines.append(f"{label:36}{f'{mean} ± {sd}':>15}{median:>9}   {low} to {high}{note}")
    rate, low, high = (_percent(value) for value in (scores.failure.mean, scores.failure.low, scores.failure.high))
    pooled, error = _figure(scores.pooled_dice_256), _figure(scores.confidence_error)
    return [
        *lines,
        f"{f'Failures (Jaccard < {metrics.FAILURE_JACCARD})':36}{rate:>15}{'':9}   {low} to {high}",
        f"{'Pooled Dice at 256x256':36}{pooled:>15}{'':9}   all pixels together; only to compare with papers",
        f"Confidence: correlation with Jaccard {_figure(scores.confidence_correlation)}, mean absolute error {error}",
    ]


def _figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _cell(value: str | int | float | bool | None) -> str:
    """A cell of the table: blank for "not measured", at most six digits."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
