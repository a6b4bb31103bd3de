"""Model x cases -> how well its masks agree with those that people drew: a row per photo and a summary with intervals.

Each photo counts once, at its own resolution, with the mask that a user would get. Photos that cannot be used are
named and left out, never scored. Conventions of the figures: `pixels.metrics`, and docs/evaluate.md in words.
"""

import heapq
import io
import os
import shlex
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
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
from napari_skinseg.segmentation.options import Segmentation, SegmentOptions
from napari_skinseg.segmentation.segmenter import Segmenter

from .click_curves import CURVES, MOST_CLICKS, Trace, curve_of, simulate
from .results import Comparison, Evaluation, WorstPhoto
from .statistics import CaseResult, detection, differences, reliability, scores_of, strata

YELLOW = (255, 225, 0)
"""The person's outline in the pictures of the worst photos; the model's has its usual colour."""

_PIXELS_AT_ONCE = 24_000_000  # large photos go through by fewer than the batch size, so that memory holds out
_PICTURE = 360  # px, the longer side of a picture
_PICTURES = 12  # of the worst photos


@dataclass(frozen=True)
class EvaluateOptions:
    """How a model is evaluated.

    Attributes:
        batch_size: Photos that go through the network together.
        bootstrap: Resamples behind each 95 % interval.
        seed: Seed of the resampling and of the jitter of clicks.
        clicks: Simulate a person who corrects each mask with up to so many clicks; 0 simulates none.
        segment: How each mask is made; as a user gets it when not given.
    """

    batch_size: int = 8
    bootstrap: int = 2000
    seed: int = 0
    clicks: int = 0
    segment: SegmentOptions = field(default_factory=SegmentOptions)

    def validate(self) -> None:
        """Raise `BadInput` if a value is out of its range."""
        if self.batch_size < 1:
            raise BadInput(f"The batch size is {self.batch_size}; it is a number of photos, at least 1.")
        if not 100 <= self.bootstrap <= 100_000:
            raise BadInput(f"The bootstrap has {self.bootstrap} resamples; choose from 100 to 100000, such as 2000.")
        if self.seed < 0:
            raise BadInput(f"The seed is {self.seed}; choose a whole number from 0.")
        if not 0 <= self.clicks <= MOST_CLICKS:
            raise BadInput(f"The number of clicks is {self.clicks}; choose from 0 (none) to {MOST_CLICKS}.")
        self.segment.validate()


def evaluate(
    model: str | Path | Model | Segmenter | None,
    cases: Sequence[Case],
    options: EvaluateOptions | None = None,
    on_event: OnEvent = ignore_event,
    cancel: CancelToken | None = None,
) -> Evaluation:
    """Segment every case and compare the mask with the person's, both at the photo's own resolution.

    Args:
        model: as `Segmenter` takes it, then run on the best device here; or a `Segmenter` on a device of one's choice.
        cases: photos with masks, such as `apply_splits(find_cases(folder), "splits.csv", "test")`.
        options: see `EvaluateOptions`.
        on_event: told after every photo; `values` holds its Dice.
        cancel: looked at before each batch, and before each simulated click.

    Raises:
        BadInput: there is no such model, an option is out of range, or not one case can be used.
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
    """Evaluate several models on the same cases, reading each photo once, and compare them photo by photo.

    Args:
        models: at least one, each as in `evaluate`; the others are compared with the first.
        cases: as in `evaluate`.
        options: the same for all models.
        on_event: told after every photo and model.
        cancel: as in `evaluate`.

    Raises:
        BadInput, Cancelled: as in `evaluate`.
    """
    options = options or EvaluateOptions()
    options.validate()
    if not cases:
        raise BadInput("There is no photo to evaluate on; give a folder of photos with masks.")
    if not models:
        raise BadInput("There is no model to evaluate; give at least one.")
    segmenters = [model if isinstance(model, Segmenter) else Segmenter(model) for model in models]
    runs = [_Found(segmenter) for segmenter in segmenters]
    _Run(runs, options, len(cases), on_event, cancel or NeverCancelled())(cases)
    for found in runs:
        if not found.results:
            raise BadInput(f"None of the {len(cases)} photos could be used; the first: {found.left_out[0][1]}")
    first, *others = (found.results for found in runs)
    pairs = [[(first[n], result) for n, result in sorted(other.items()) if n in first] for other in others]
    return Comparison(
        tuple(_evaluation(found, cases, options) for found in runs),
        tuple(differences([a for a, _ in two], [b for _, b in two], options.bootstrap, options.seed) for two in pairs),
    )


class _Found:
    """What is known so far of one model; results by the number of the case."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        self.results: dict[int, CaseResult] = {}
        self.left_out: list[tuple[Path, str]] = []
        self.worst: list[
            tuple[float, int, bytes]
        ] = []  # (-Jaccard, -case, picture): a heap with the best of them first

    def pictured_below(self) -> float:
        """The Jaccard from which a photo is no longer among the worst."""
        return 2.0 if len(self.worst) < _PICTURES else -self.worst[0][0]

    def add(self, number: int, result: CaseResult, picture: bytes | None) -> None:
        self.results[number] = result
        if picture is not None:
            heapq.heappush(self.worst, (-result.agreement.jaccard, -number, picture))
            if len(self.worst) > _PICTURES:
                heapq.heappop(self.worst)


@dataclass(frozen=True)
class _Loaded:
    """A case that was read: its number, the photo and the person's mask."""

    number: int
    case: Case
    rgb: NDArray[np.uint8]
    truth: NDArray[np.bool_]


_Comparing = tuple[_Found, int, Future[tuple[CaseResult, bytes | None]]]


class _Run:
    """Decoding before and comparing after the network in threads, so that neither keeps it waiting.

    A few batches of photos are in memory at most: some read ahead, one between network and comparison.
    """

    def __init__(
        self, models: Sequence[_Found], options: EvaluateOptions, cases: int, on_event: OnEvent, cancel: CancelToken
    ) -> None:
        self.models, self.options, self.total = models, options, cases * len(models)
        self.on_event, self.cancel = on_event, cancel
        self.comparing: deque[_Comparing] = deque()

    def __call__(self, cases: Sequence[Case]) -> None:
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            for batch in self._batches(pool, cases):
                for found in self.models:
                    self._segment(pool, found, batch)
                    self._collect(leave=len(batch))
            self._collect(leave=0)

    def _batches(self, pool: ThreadPoolExecutor, cases: Sequence[Case]) -> Iterator[list[_Loaded]]:
        """Read ahead and hand on batches in order, smaller ones of large photos."""
        waiting: deque[tuple[Case, Future[_Loaded]]] = deque()
        rest = iter(enumerate(cases))
        at_once = 1  # until the size of the first photo is known
        try:
            while True:
                while len(waiting) < 2 * at_once and (entry := next(rest, None)):
                    waiting.append((entry[1], pool.submit(_load, *entry)))
                if not waiting:
                    return
                batch = []
                for _ in range(min(at_once, len(waiting))):
                    case, future = waiting.popleft()
                    try:
                        batch.append(future.result())
                    except (BadInput, OSError) as error:
                        self._leave_out(self.models, case, str(error))
                if batch:
                    yield batch
                    largest = max(loaded.truth.size for loaded in batch)
                    at_once = max(1, min(self.options.batch_size, _PIXELS_AT_ONCE // largest))
        finally:
            for _, future in waiting:
                future.cancel()

    def _segment(self, pool: ThreadPoolExecutor, found: _Found, batch: list[_Loaded]) -> None:
        raise_if_cancelled(self.cancel)
        done = 0
        try:
            images = (loaded.rgb for loaded in batch)
            for answer in found.segmenter.segment_many(images, self.options.segment, batch_size=len(batch)):
                loaded = batch[done]
                clicks = self._clicks(found.segmenter, loaded, answer)
                future = pool.submit(_compare, loaded, answer, clicks, found.pictured_below())
                self.comparing.append((found, loaded.number, future))
                done += 1
        except BadInput as error:  # memory that did not suffice, which reading the photo cannot foresee
            for loaded in batch[done:]:
                self._leave_out([found], loaded.case, f"{loaded.case.image} could not be segmented: {error}")

    def _clicks(self, segmenter: Segmenter, loaded: _Loaded, answer: Segmentation) -> dict[str, Trace]:
        if not (self.options.clicks and loaded.truth.any()):
            return {}
        refiner = segmenter.refiner(loaded.rgb, name=str(loaded.case.image))
        seed = (self.options.seed, loaded.number)
        return simulate(
            refiner, loaded.truth, answer.mask, self.options.clicks, seed, self.options.segment, self.cancel
        )

    def _collect(self, leave: int) -> None:
        while len(self.comparing) > leave:
            found, number, future = self.comparing.popleft()
            result, picture = future.result()
            found.add(number, result, picture)
            self._tell(f"{result.id}: Dice {result.agreement.dice:.3f}", {"dice": result.agreement.dice})

    def _leave_out(self, models: Sequence[_Found], case: Case, sentence: str) -> None:
        for found in models:
            found.left_out.append((case.image, sentence))
            self._tell(sentence, {})

    def _tell(self, message: str, values: dict[str, float]) -> None:
        done = sum(len(found.results) + len(found.left_out) for found in self.models)
        self.on_event(Event("evaluate", done, self.total, message, values))


def _load(number: int, case: Case) -> _Loaded:
    if case.mask is None:
        raise BadInput(f"{case.image} has no mask, so there is nothing to compare with; add one or leave it out.")
    rgb = read_image(case.image)
    return _Loaded(number, case, rgb, read_mask(case.mask, rgb.shape))


def _compare(
    loaded: _Loaded, answer: Segmentation, clicks: dict[str, Trace], pictured_below: float
) -> tuple[CaseResult, bytes | None]:
    case, truth = loaded.case, loaded.truth
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
        clicks=clicks,
    )
    return result, _picture(loaded, answer.mask) if result.agreement.jaccard < pictured_below else None


def _picture(loaded: _Loaded, mask: NDArray[np.bool_]) -> bytes:
    """A small JPEG of the photo with both outlines, the model's on top."""
    image = Image.fromarray(loaded.rgb)
    image.thumbnail((_PICTURE, _PICTURE))
    drawn = np.asarray(image)
    for outlined, color in ((loaded.truth, YELLOW), (mask, CYAN)):
        drawn = draw_overlay(
            drawn, np.asarray(Image.fromarray(outlined).resize(image.size, Image.Resampling.NEAREST)), color
        )
    encoded = io.BytesIO()
    Image.fromarray(drawn).save(encoded, format="JPEG", quality=85, subsampling=0)  # thin lines keep their colour
    return encoded.getvalue()


def _evaluation(found: _Found, cases: Sequence[Case], options: EvaluateOptions) -> Evaluation:
    results = tuple(result for _, result in sorted(found.results.items()))
    drawn = (options.bootstrap, options.seed)
    clicked = [result.clicks for result in results if result.clicks]
    return Evaluation(
        header=_header(found.segmenter, cases, results, options),
        results=results,
        summary=scores_of(results, *drawn),
        strata=strata(results, *drawn),
        reliability=reliability(results),
        detection=detection(results, *drawn),
        clicks={name: curve_of([traces[name] for traces in clicked], *drawn) for name in CURVES} if clicked else {},
        worst=tuple(
            WorstPhoto(found.results[-number], picture) for _, number, picture in sorted(found.worst, reverse=True)
        ),
        left_out=tuple(found.left_out),
    )


def _header(
    segmenter: Segmenter, cases: Sequence[Case], results: Sequence[CaseResult], options: EvaluateOptions
) -> dict[str, str | int]:
    counts = Counter(result.source or "unnamed" for result in results)
    sizes = sorted({(result.width * result.height, f"{result.width}x{result.height}") for result in results})
    resolution = sizes[0][1] if len(sizes) == 1 else f"{sizes[0][1]} to {sizes[-1][1]}"
    spec, how = segmenter.spec, options.segment
    clean = how.clean_up
    clicks = f"up to {options.clicks} simulated, RITM's protocol, jitter from seed {options.seed}"
    return {
        "data": ", ".join(f"{source} ({count})" for source, count in counts.items()),
        "photos": len(results),
        "left out": len(cases) - len(results),
        "split": ", ".join(sorted({case.split for case in cases if case.split})) or "none (all photos given)",
        "resolution": f"each photo's own, {resolution}",
        "mask": f"threshold {how.threshold or spec.threshold:g}, "
        f"{'mirror images averaged' if how.tta else 'one pass'}{', second look' if how.second_look else ''}, "
        f"pieces kept: {clean.keep}, "
        f"least area {clean.min_area:g}, holes {'filled' if clean.fill_holes else 'kept'}, smoothing {clean.smooth:g}, "
        f"{'always outlined' if how.always_outline else f'no lesion below a confidence of {spec.no_lesion:.2g}'}",
        **({"clicks": clicks} if options.clicks else {}),
        "device": segmenter.device_line,
        "model": f"{spec.name} {spec.version}",
        "sha256": segmenter.model.sha256,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "version": f"napari-skinseg {version('napari-skinseg')}",
    }
