"""Evaluate models: segment photos that have a mask made by a person, and compare both masks.

Each photo counts once, in its original size, with the mask that a user would get. Photos that cannot be used are named
and left out. `pixels.metrics` defines each figure; docs/evaluate.md explains it.
"""

import csv
import heapq
import io
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, Event, NeverCancelled, OnEvent, ignore_event, raise_if_cancelled
from napari_skinseg.models.bundle import Model
from napari_skinseg.pixels import metrics
from napari_skinseg.pixels.image import read_image
from napari_skinseg.pixels.mask import CYAN, draw_overlay, read_mask
from napari_skinseg.read_ahead import in_batches, read_ahead
from napari_skinseg.segmentation.options import Segmentation, SegmentOptions
from napari_skinseg.segmentation.segmenter import Segmenter

from .click_curves import CURVES, MAX_CLICKS, Trace, simulate_clicks, summarise_traces
from .results import Comparison, Evaluation, WorstPhoto
from .statistics import (
    CaseResult,
    compute_detection,
    compute_differences,
    compute_reliability,
    compute_scores,
    compute_strata,
)

YELLOW = (255, 225, 0)
"""Colour of the outline of the person in the pictures of the worst photos; the outline of the model is cyan."""

_PICTURE_SIDE = 360  # px, the longer side of a picture
_PICTURES = 12


@dataclass(frozen=True)
class EvaluateOptions:
    """How a model is evaluated.

    Attributes:
        batch_size: Number of photos that go through the network together.
        bootstrap: Number of resamples for each 95 % interval.
        seed: Seed of the resampling and of the jitter of clicks.
        clicks: Simulate a person who corrects each mask with up to this number of clicks; 0 simulates no clicks.
        segment: How each mask is made; as a user gets it when not given.
        flags: CSV file with the id of each photo and a column of 0 and 1 for each artefact, such as hair or ruler; the
            results are also given for the photos with each artefact.
    """

    batch_size: int = 8
    bootstrap: int = 2000
    seed: int = 0
    clicks: int = 0
    segment: SegmentOptions = field(default_factory=SegmentOptions)
    flags: Path | None = None

    def validate(self) -> None:
        """Raise `BadInput` if a value is out of its range."""
        if self.batch_size < 1:
            raise BadInput(f"The batch size is {self.batch_size}; it is a number of photos, at least 1.")
        if not 100 <= self.bootstrap <= 100_000:
            raise BadInput(f"The bootstrap has {self.bootstrap} resamples; choose from 100 to 100000, such as 2000.")
        if self.seed < 0:
            raise BadInput(f"The seed is {self.seed}; choose a whole number from 0.")
        if not 0 <= self.clicks <= MAX_CLICKS:
            raise BadInput(f"The number of clicks is {self.clicks}; choose from 0 (none) to {MAX_CLICKS}.")
        self.segment.validate()


def evaluate(
    model: str | Path | Model | Segmenter | None,
    cases: Sequence[Case],
    options: EvaluateOptions | None = None,
    on_event: OnEvent = ignore_event,
    cancel: CancelToken | None = None,
) -> Evaluation:
    """Segment every case and compare the mask with the mask of the person, in the original size of the photo.

    Args:
        model: as in `Segmenter`, on the automatic device; or a `Segmenter` on another device.
        cases: photos with masks, for example `apply_splits(find_cases(folder), "splits.csv", "test")`.
        options: see `EvaluateOptions`.
        on_event: receives the progress after each photo, stage "evaluate"; `values` holds the Dice of the photo.
        cancel: is read before each batch, and before each simulated click.

    Raises:
        BadInput: the model does not exist, an option is out of range, or no case can be used.
        Cancelled: `cancel` was set.
    """
    return evaluate_many([model], cases, options, on_event, cancel).evaluations[0]


def evaluate_many(
    models: Sequence[str | Path | Model | Segmenter | None],
    cases: Sequence[Case],
    options: EvaluateOptions | None = None,
    on_event: OnEvent = ignore_event,
    cancel: CancelToken | None = None,
) -> Comparison:
    """Evaluate several models on the same cases and compare them, paired by photo. Each photo is read once.

    Args:
        models: at least one, each as in `evaluate`; the others are compared with the first model.
        cases: as in `evaluate`.
        options: the same for all models.
        on_event: receives the progress after each photo and model.
        cancel: as in `evaluate`.

    Raises:
        BadInput: as in `evaluate`.
        Cancelled: `cancel` was set.
    """
    options = options or EvaluateOptions()
    options.validate()
    if not cases:
        raise BadInput("There is no photo to evaluate on; give a folder of photos with masks.")
    if not models:
        raise BadInput("There is no model to evaluate; give at least one.")
    flags = read_flags(options.flags) if options.flags else {}
    runs = [_ModelRun(model if isinstance(model, Segmenter) else Segmenter(model)) for model in models]
    _Evaluator(runs, options, len(cases), on_event, cancel or NeverCancelled()).run(cases)
    for run in runs:
        if not run.results:
            raise BadInput(f"None of the {len(cases)} photos could be used; the first: {run.left_out[0][1]}")
        run.results = {
            number: replace(result, flags=flags.get(cases[number].image.stem)) for number, result in run.results.items()
        }
    first, *others = (run.results for run in runs)
    paired = [[(first[n], result) for n, result in sorted(other.items()) if n in first] for other in others]
    return Comparison(
        tuple(_evaluation(run, cases, options) for run in runs),
        tuple(
            compute_differences([a for a, _ in pairs], [b for _, b in pairs], options.bootstrap, options.seed)
            for pairs in paired
        ),
    )


def read_flags(path: Path) -> dict[str, tuple[str, ...]]:
    """Read the table of `EvaluateOptions.flags`: id of a photo -> names of the columns with a 1.

    Raises:
        BadInput: the file cannot be read, has no column `id`, or has other values than 0 and 1.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        flags = {row.pop("id"): row for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read as a table ({error}); give a CSV file in UTF-8.") from error
    except KeyError:
        raise BadInput(f"{path} has no column 'id'; add a column with the names of the photos.") from None
    for photo, row in flags.items():
        if not set(row.values()) <= {"0", "1"}:
            raise BadInput(f"{path} has another value than 0 and 1 in the row of {photo}; correct it.")
    return {photo: tuple(name for name, value in row.items() if value == "1") for photo, row in flags.items()}


class _ModelRun:
    """The results of one model so far; `results` by the number of the case."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        self.results: dict[int, CaseResult] = {}
        self.left_out: list[tuple[Path, str]] = []
        self.worst: list[tuple[float, int, bytes]] = []  # a heap of (-Jaccard, -case number, picture)

    @property
    def picture_limit(self) -> float:
        """A photo with a lower Jaccard than this is one of the worst so far and needs a picture."""
        return 2.0 if len(self.worst) < _PICTURES else -self.worst[0][0]

    def add(self, number: int, result: CaseResult, picture: bytes | None) -> None:
        self.results[number] = result
        if picture is not None:
            heapq.heappush(self.worst, (-result.agreement.jaccard, -number, picture))
            if len(self.worst) > _PICTURES:
                heapq.heappop(self.worst)


@dataclass(frozen=True)
class _Photo:
    """A case with its number, its photo uint8 `[H, W, 3]` and the mask of the person, bool `[H, W]`."""

    number: int
    case: Case
    rgb: NDArray[np.uint8]
    truth: NDArray[np.bool_]


@dataclass(frozen=True)
class _SegmentedPhoto:
    """A photo and the answer of one model."""

    run: _ModelRun
    photo: _Photo
    answer: Segmentation
    clicks: dict[str, Trace]
    picture_limit: float


class _Evaluator:
    """Three stages: threads read photos, this thread runs the networks, threads compare the masks."""

    def __init__(
        self, runs: Sequence[_ModelRun], options: EvaluateOptions, cases: int, on_event: OnEvent, cancel: CancelToken
    ) -> None:
        self.runs, self.options, self.total = runs, options, cases * len(runs)
        self.on_event, self.cancel = on_event, cancel

    def run(self, cases: Sequence[Case]) -> None:
        comparisons = read_ahead(
            _compare, self._segment(cases), ahead=self.options.batch_size, pixels=lambda done: done[0].pixels
        )
        for segmented, future in comparisons:
            result, picture = future.result()
            segmented.run.add(segmented.photo.number, result, picture)
            self._report(f"{result.id}: Dice {result.agreement.dice:.3f}", {"dice": result.agreement.dice})

    def _read(self, cases: Sequence[Case]) -> Iterator[_Photo]:
        photos = read_ahead(
            _read_photo,
            enumerate(cases),
            ahead=2 * self.options.batch_size,
            pixels=lambda photo: photo.truth.size,
            cancel=self.cancel,
        )
        for (_, case), future in photos:
            try:
                photo = future.result()
            except (BadInput, OSError) as error:
                self._leave_out(self.runs, case, str(error))
            else:
                yield photo

    def _segment(self, cases: Sequence[Case]) -> Iterator[_SegmentedPhoto]:
        for batch in in_batches(self._read(cases), self.options.batch_size, lambda photo: photo.truth.size):
            for run in self.runs:
                raise_if_cancelled(self.cancel)
                yield from self._segment_batch(run, batch)

    def _segment_batch(self, run: _ModelRun, batch: list[_Photo]) -> Iterator[_SegmentedPhoto]:
        done = 0
        try:
            images = (photo.rgb for photo in batch)
            for answer in run.segmenter.segment_many(images, self.options.segment, batch_size=len(batch)):
                photo = batch[done]
                yield _SegmentedPhoto(run, photo, answer, self._click(run, photo, answer), run.picture_limit)
                done += 1
        except BadInput as error:  # too little memory, which cannot be known when the photo is read
            for photo in batch[done:]:
                self._leave_out([run], photo.case, f"{photo.case.image} could not be segmented: {error}")

    def _click(self, run: _ModelRun, photo: _Photo, answer: Segmentation) -> dict[str, Trace]:
        options = self.options
        if not (options.clicks and photo.truth.any()):
            return {}
        refiner = run.segmenter.refiner(photo.rgb, name=str(photo.case.image))
        seed = (options.seed, photo.number)
        return simulate_clicks(refiner, photo.truth, answer.mask, options.clicks, seed, options.segment, self.cancel)

    def _leave_out(self, runs: Sequence[_ModelRun], case: Case, sentence: str) -> None:
        for run in runs:
            run.left_out.append((case.image, sentence))
            self._report(sentence, {})

    def _report(self, message: str, values: dict[str, float]) -> None:
        done = sum(len(run.results) + len(run.left_out) for run in self.runs)
        self.on_event(Event("evaluate", done, self.total, message, values))


def _read_photo(numbered: tuple[int, Case]) -> _Photo:
    number, case = numbered
    if case.mask is None:
        raise BadInput(f"{case.image} has no mask, so there is nothing to compare with; add a mask or leave it out.")
    rgb = read_image(case.image)
    return _Photo(number, case, rgb, read_mask(case.mask, rgb.shape))


def _compare(segmented: _SegmentedPhoto) -> tuple[CaseResult, bytes | None]:
    case, truth, answer = segmented.photo.case, segmented.photo.truth, segmented.answer
    result = CaseResult(
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
        found_fraction=float(answer.mask.mean()),
        touches_edge=bool(truth[[0, -1]].any() or truth[:, [0, -1]].any()),
        clicks=segmented.clicks,
    )
    needs_picture = result.agreement.jaccard < segmented.picture_limit
    return result, _picture(segmented.photo, answer.mask) if needs_picture else None


def _picture(photo: _Photo, mask: NDArray[np.bool_]) -> bytes:
    """A small JPEG of the photo with both outlines; the outline of the model is on top."""
    image = Image.fromarray(photo.rgb)
    image.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    pixels = np.asarray(image)
    for outlined, color in ((photo.truth, YELLOW), (mask, CYAN)):
        small = np.asarray(Image.fromarray(outlined).resize(image.size, Image.Resampling.NEAREST))
        pixels = draw_overlay(pixels, small, color)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format="JPEG", quality=85, subsampling=0)  # thin lines keep their colour
    return encoded.getvalue()


def _evaluation(run: _ModelRun, cases: Sequence[Case], options: EvaluateOptions) -> Evaluation:
    results = tuple(result for _, result in sorted(run.results.items()))
    resampling = (options.bootstrap, options.seed)
    traces = [result.clicks for result in results if result.clicks]
    return Evaluation(
        header=_header(run.segmenter, cases, results, options),
        results=results,
        summary=compute_scores(results, *resampling),
        strata=compute_strata(results, *resampling),
        reliability=compute_reliability(results),
        detection=compute_detection(results, *resampling),
        clicks={name: summarise_traces([one[name] for one in traces], *resampling) for name in CURVES if traces},
        worst=tuple(
            WorstPhoto(run.results[-number], picture) for _, number, picture in sorted(run.worst, reverse=True)
        ),
        left_out=tuple(run.left_out),
    )


def _header(
    segmenter: Segmenter, cases: Sequence[Case], results: Sequence[CaseResult], options: EvaluateOptions
) -> dict[str, str | int]:
    counts = Counter(result.source or "unnamed" for result in results)
    sizes = sorted({(result.pixels, f"{result.width}x{result.height}") for result in results})
    resolution = sizes[0][1] if len(sizes) == 1 else f"{sizes[0][1]} to {sizes[-1][1]}"
    spec, segment = segmenter.spec, options.segment
    clean = segment.clean_up
    clicks = f"up to {options.clicks} simulated, protocol of RITM, jitter from seed {options.seed}"
    no_lesion = f"no lesion below a {'presence' if spec.presence else 'confidence'} of {spec.no_lesion:.2g}"
    return {
        "data": ", ".join(f"{source} ({count})" for source, count in counts.items()),
        "photos": len(results),
        "left out": len(cases) - len(results),
        "split": ", ".join(sorted({case.split for case in cases if case.split})) or "none (all photos given)",
        "resolution": f"each photo's own, {resolution}",
        "mask": f"threshold {segment.threshold or spec.threshold:g}, "
        f"{'mirror images averaged' if segment.tta else 'one pass'}, "
        f"{'closer second pass, ' if segment.second_look else ''}"
        f"pieces kept: {clean.keep}, minimum area {clean.min_area:g}, "
        f"holes {'filled' if clean.fill_holes else 'kept'}, smoothing {clean.smooth:g}, "
        f"{'always outlined' if segment.always_outline else no_lesion}",
        **({"clicks": clicks} if options.clicks else {}),
        "device": segmenter.device_line,
        "model": f"{spec.name} {spec.version}",
        "sha256": segmenter.sha256,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "version": f"napari-skinseg {version('napari-skinseg')}",
    }
