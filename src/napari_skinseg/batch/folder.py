"""A folder, or a cluster's worth of folders, through `Segmenter`: a mask per photo and one table for all.

    <out>/<sub-folder>/<photo>_segmentation.png   mask, 0/255, in the photo's own size
    <out>/<sub-folder>/<photo>_overlay.png        the photo with its outline, if asked for
    <out>/measurements.csv                        a row per photo, if asked for
    <out>/segmentations.json                      where each mask comes from: model, weights, options, confidence

Sub-folders are those of the photos below their common folder, so equal names in two folders never meet. A photo that
fails is named and the others go on. Photos are decoded ahead and masks written behind the network by threads: Pillow,
NumPy and torch work outside Python's lock.
"""

import csv
import hashlib
import io
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_skinseg.datasets.records import RECORDS
from napari_skinseg.errors import BadInput, Cancelled
from napari_skinseg.events import CancelToken, Event, NeverCancelled, OnEvent, ignore_event, raise_if_cancelled
from napari_skinseg.files import atomic, make_output_folder, write_json, write_text
from napari_skinseg.measurement.measure import COLUMNS, NOTE, measure
from napari_skinseg.pixels.image import read_image
from napari_skinseg.pixels.mask import draw_overlay, read_mask, write_mask
from napari_skinseg.segmentation.options import Segmentation, SegmentOptions
from napari_skinseg.segmentation.segmenter import Segmenter

TABLE = "measurements.csv"

_PIXELS_AT_ONCE = 24_000_000
"""Large photos go through by fewer at a time than the batch size, so that memory holds out."""

R = TypeVar("R")
Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class BatchOptions:
    """What is done with many photos, and what is written.

    Attributes:
        overlay: Also write a picture of each photo with its outline drawn in.
        measure: Also measure each lesion, into one table (measurements.csv). Measurement only, not a diagnosis.
        mm_per_px: Millimetres per pixel, if it is known and the same for all photos; without it sizes stay in pixels.
        overwrite: Replace masks that exist already; otherwise they are kept, and measured as they stand.
        batch_size: Photos that go through the network together.
        segment: How each mask is made.
    """

    overlay: bool = False
    measure: bool = False
    mm_per_px: float | None = None
    overwrite: bool = False
    batch_size: int = 8
    segment: SegmentOptions = field(default_factory=SegmentOptions)

    def validate(self) -> None:
        """Raise `BadInput` if a value is out of its range."""
        if self.batch_size < 1:
            raise BadInput(f"The batch size is {self.batch_size}; it is a number of photos, at least 1.")
        if self.mm_per_px is not None and not 0 < self.mm_per_px < 10:
            raise BadInput(f"The scale is {self.mm_per_px} mm per pixel; give millimetres per pixel, such as 0.02.")
        self.segment.validate()


@dataclass(frozen=True)
class PhotoResult:
    """One photo that was done.

    Attributes:
        name: the photo's path below the common folder of all photos, with forward slashes.
        confidence: the Jaccard that the model expects of its outline; None for a kept mask that is not the model's any
            more.
        empty: no lesion was found.
        withheld: there is an outline of that confidence, but the mask was left empty, see `Segmentation.withheld`.
        kept: the mask was there before and was left as it is.
        measures: values for `pixels.measure.COLUMNS`; empty unless asked for.
    """

    name: str
    photo: Path
    mask: Path
    overlay: Path | None
    confidence: float | None
    empty: bool
    withheld: bool
    kept: bool
    measures: Mapping[str, float | int | bool | str | None]


@dataclass(frozen=True)
class BatchOutcome:
    """What became of the photos.

    Attributes:
        done: in the order of the photos.
        failed: (file, sentence) each; a table that could not be written counts too.
        table: the measurements, None unless asked for.
        cancelled: stopped on request; what is in `done` is whole and in the table, the rest was not begun.
    """

    done: tuple[PhotoResult, ...]
    failed: tuple[tuple[Path, str], ...]
    table: Path | None
    cancelled: bool


@dataclass(frozen=True)
class _Job:
    order: int
    name: str
    photo: Path
    mask: Path
    overlay: Path


def segment_files(
    photos: Sequence[Path],
    out: Path,
    segmenter: Segmenter,
    options: BatchOptions | None = None,
    on_event: OnEvent = ignore_event,
    cancel: CancelToken | None = None,
) -> BatchOutcome:
    """Segment photos into masks, overlays and one table below `out`; see the module for the files.

    Args:
        photos: files, see `pixels.image.find_images`.
        out: folder, made if needed.
        segmenter: runs the model.
        options: see `BatchOptions`.
        on_event: told of each photo as it is finished or fails: stage "segment", `done` out of `total`, `message` the
            photo's name or the sentence of its failure, `values` {"confidence": …} where there is one.
        cancel: looked at before each batch; what is finished by then is kept, and the table written for it.

    Raises:
        BadInput: an option is out of range, or `out` cannot be written to; nothing is done then.
    """
    options = options or BatchOptions()
    options.validate()
    return _Batch(photos, make_output_folder(out), segmenter, options, on_event, cancel or NeverCancelled()).run()


class _Batch:
    """The state of one run: what is done, what failed, and what was recorded of the masks before."""

    def __init__(
        self,
        photos: Sequence[Path],
        out: Path,
        segmenter: Segmenter,
        options: BatchOptions,
        on_event: OnEvent,
        cancel: CancelToken,
    ) -> None:
        self.out, self.segmenter, self.options = out, segmenter, options
        self.on_event, self.cancel = on_event, cancel
        self.total = len(photos)
        self.done: list[tuple[_Job, PhotoResult]] = []
        self.failed: list[tuple[Path, str]] = []
        self.records = _read_records(out / RECORDS)
        self.jobs = list(self._plan(photos))

    def run(self) -> BatchOutcome:
        cancelled = False
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            try:
                kept = [] if self.options.overwrite else [job for job in self.jobs if job.mask.exists()]
                for batch in self._batches(pool, self._revisit, kept):
                    for job, result in batch:
                        self._count(job, result)
                there = {job.order for job in kept}
                self._segment(pool, [job for job in self.jobs if job.order not in there])
            except Cancelled:
                cancelled = True
        self.done.sort(key=lambda item: item[0].order)
        return BatchOutcome(
            done=tuple(result for _, result in self.done),
            failed=tuple(self.failed),
            table=self._write_reports(),
            cancelled=cancelled,
        )

    def _plan(self, photos: Sequence[Path]) -> Iterator[_Job]:
        """A job per photo; of two photos whose masks would be one file, the second fails."""
        root = _common_folder(photos)
        taken: dict[str, Path] = {}
        for order, photo in enumerate(photos):
            name = _absolute(photo).relative_to(root) if root else Path(photo.name)
            stem = self.out / name.parent / photo.stem
            # On Windows and macOS the masks of A.jpg and a.png are one file too.
            first = taken.setdefault(str(stem).casefold(), photo)
            if first is not photo:
                self._fail(photo, f"{photo} differs from {first} only in suffix or letter case; rename one of them.")
                continue
            mask, picture = (stem.with_name(stem.name + ending) for ending in ("_segmentation.png", "_overlay.png"))
            yield _Job(order, name.as_posix(), photo, mask, picture)

    def _segment(self, pool: ThreadPoolExecutor, jobs: list[_Job]) -> None:
        """Network in this thread; decoding before it and everything after it in the pool."""
        writing: deque[tuple[_Job, Future[PhotoResult]]] = deque()
        try:
            for batch in self._batches(pool, lambda job: read_image(job.photo), jobs):
                segmented = 0
                try:
                    images = (rgb for _, rgb in batch)
                    for answer in self.segmenter.segment_many(images, self.options.segment, batch_size=len(batch)):
                        job, rgb = batch[segmented]
                        writing.append((job, pool.submit(self._finish, job, rgb, answer)))
                        segmented += 1
                except BadInput as error:  # out of memory, which reading the photo cannot foresee
                    for job, _ in batch[segmented:]:
                        self._fail(job.photo, f"{job.photo} could not be segmented: {error}")
                # No more than one batch waits to be written, or memory would fill with masks.
                while len(writing) > len(batch):
                    self._collect(*writing.popleft())
        finally:
            while writing:
                self._collect(*writing.popleft())

    def _batches(
        self, pool: ThreadPoolExecutor, work: Callable[[_Job], R], jobs: list[_Job]
    ) -> Iterator[list[tuple[_Job, R]]]:
        """Do `work` ahead in the pool and hand its results on in order, several at a time; failures are named."""
        waiting: deque[tuple[_Job, Future[R]]] = deque()
        rest = iter(jobs)
        at_once = 1  # until the size of the first photo is known
        try:
            while True:
                while len(waiting) < 2 * at_once and (job := next(rest, None)):
                    waiting.append((job, pool.submit(work, job)))
                if not waiting:
                    return
                raise_if_cancelled(self.cancel)
                batch = []
                for _ in range(min(at_once, len(waiting))):
                    job, future = waiting.popleft()
                    try:
                        batch.append((job, future.result()))
                    except Exception as error:
                        self._fail(job.photo, _sentence(job.photo, error))
                if batch:
                    yield batch
                    at_once = self._at_once(batch[-1][1])
        finally:
            for _, future in waiting:
                future.cancel()

    def _at_once(self, result: object) -> int:
        pixels = result.shape[0] * result.shape[1] if isinstance(result, np.ndarray) else 1
        return max(1, min(self.options.batch_size, _PIXELS_AT_ONCE // pixels))

    def _finish(self, job: _Job, rgb: Rgb, answer: Segmentation) -> PhotoResult:
        """Write the mask of a photo that was just segmented, and what follows from it; runs in the pool."""
        options = self.options.segment
        make_output_folder(job.mask.parent)
        write_mask(job.mask, answer.mask)
        self.records[job.mask.relative_to(self.out).as_posix()] = {
            "photo": str(_absolute(job.photo)),
            "model": self.segmenter.spec.name,
            "weights_sha256": self.segmenter.model.sha256,
            "threshold": answer.threshold,
            "tta": options.tta,
            "clean_up": asdict(options.clean_up),
            "always_outline": options.always_outline,
            "confidence": round(answer.confidence, 4),
            "withheld": answer.withheld,
            "mask_sha256": _sha256(job.mask),
            "napari_skinseg": version("napari-skinseg"),
        }
        return self._result(job, rgb, answer.mask, answer.confidence, answer.withheld, kept=False)

    def _revisit(self, job: _Job) -> PhotoResult:
        """Take a mask that is there already, perhaps corrected by a person, as it stands; runs in the pool."""
        rgb = read_image(job.photo)
        mask = read_mask(job.mask, rgb.shape[:2])
        record = self.records.get(job.mask.relative_to(self.out).as_posix(), {})
        if record.get("mask_sha256") != _sha256(job.mask):
            record = {}
        return self._result(job, rgb, mask, record.get("confidence"), bool(record.get("withheld")), kept=True)

    def _result(
        self, job: _Job, rgb: Rgb, mask: Mask, confidence: float | None, withheld: bool, kept: bool
    ) -> PhotoResult:
        if self.options.overlay:
            with atomic(job.overlay) as temporary:
                Image.fromarray(draw_overlay(rgb, mask)).save(temporary, compress_level=1)
        return PhotoResult(
            name=job.name,
            photo=job.photo,
            mask=job.mask,
            overlay=job.overlay if self.options.overlay else None,
            confidence=confidence,
            empty=not mask.any(),
            withheld=withheld,
            kept=kept,
            measures=measure(rgb, mask, self.options.mm_per_px) if self.options.measure else {},
        )

    def _collect(self, job: _Job, future: "Future[PhotoResult]") -> None:
        try:
            self._count(job, future.result())
        except Exception as error:
            self._fail(job.photo, _sentence(job.photo, error))

    def _count(self, job: _Job, result: PhotoResult) -> None:
        self.done.append((job, result))
        values = {} if result.confidence is None else {"confidence": result.confidence}
        self.on_event(Event("segment", self._so_far(), self.total, result.name, values))

    def _fail(self, file: Path, sentence: str) -> None:
        self.failed.append((file, sentence))
        self.on_event(Event("segment", self._so_far(), self.total, sentence))

    def _so_far(self) -> int:
        return len(self.done) + len(self.failed)

    def _write_reports(self) -> Path | None:
        """The table and the records; a disk that is full by now costs these, not the outcome."""
        table = self.out / TABLE if self.options.measure else None
        try:
            if table:
                write_text(table, to_csv([result for _, result in self.done]))
            write_json(self.out / RECORDS, {"masks": dict(sorted(self.records.items()))})
        except BadInput as error:
            self.failed.append((table or self.out / RECORDS, str(error)))
            return None
        return table


def to_csv(results: Sequence[PhotoResult]) -> str:
    """The table of measurements: what was not measured is blank, never 0.

    The last column has no values; its header says what the numbers are not, where every reader of the file sees it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["photo", "confidence", "empty", "mask_kept", *COLUMNS, NOTE])
    for result in results:
        values = [result.confidence, result.empty, result.kept, *(result.measures.get(name) for name in COLUMNS)]
        writer.writerow([result.name, *map(_cell, values), ""])
    return text.getvalue()


def _cell(value: float | int | bool | str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)


def _common_folder(photos: Sequence[Path]) -> Path | None:
    """The deepest folder above all photos; None if there is none, as on two drives of Windows."""
    try:
        return Path(os.path.commonpath([_absolute(photo).parent for photo in photos]))
    except ValueError:
        return None


def _absolute(path: Path) -> Path:
    """`path` from the root, without "..", so that nothing is ever written above the output folder."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links out of the folder


def _read_records(path: Path) -> dict[str, dict[str, Any]]:
    """What earlier runs recorded of the masks in the folder; a damaged file only costs the confidences."""
    try:
        masks = json.loads(path.read_text(encoding="utf-8"))["masks"]
        return {name: record for name, record in masks.items() if isinstance(record, dict)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _sentence(photo: Path, error: Exception) -> str:
    if isinstance(error, BadInput):
        return str(error)
    if isinstance(error, MemoryError):
        return f"{photo} does not fit into this computer's memory; close other programs or give a smaller photo."
    return f"{photo} could not be finished ({type(error).__name__}: {error}); please report this with the photo's size."


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
