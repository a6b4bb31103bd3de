"""Segment many photos: one mask per photo, and one table for all.

    <out>/<sub-folder>/<photo>_segmentation.png   mask, 0/255, in the size of the photo
    <out>/<sub-folder>/<photo>_overlay.jpg        the photo with its outline, if `BatchOptions.overlay`
    <out>/measurements.csv                        one row per photo, if `BatchOptions.measure`
    <out>/measurements.parquet                    the same rows, if `BatchOptions.parquet`
    <out>/segmentations.json                      source of each mask: model, weights, options, confidence

The sub-folders are those of the folder that the user named, or of the common folder of photos that were named one by
one. A photo that has a record in <out> keeps its place. If the mask of another photo has the place, the photo gets one
below the name of its own folder: <out>/<named folder>/<sub-folder>/. If a photo fails, its name is reported and the
others continue. Threads read photos before the network needs them, and write masks after it. Photos and <out> can be in
a bucket, see `storage`.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.datasets.records import RECORDS, sha256
from napari_skinseg.errors import BadInput, Cancelled
from napari_skinseg.events import CancelToken, Event, NeverCancelled, OnEvent, ignore_event
from napari_skinseg.files import Cell, DiskFull, atomic, make_output_folder
from napari_skinseg.measurement.measure import COLUMNS, measure
from napari_skinseg.pixels.image import OnUnreadable, read_image
from napari_skinseg.pixels.mask import MASK_ENDING, encode_mask, read_mask, write_overlay
from napari_skinseg.read_ahead import in_batches, read_ahead
from napari_skinseg.segmentation.options import Segmentation, SegmentOptions
from napari_skinseg.segmentation.segmenter import Segmenter

from .parquet import check_parquet
from .parts import Part
from .records import FolderRecords, Record, StoredRow
from .storage import Disk, Place, StorageFailed, open_storage

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class BatchOptions:
    """How many photos are segmented, and which files are written.

    Attributes:
        overlay: Also write a copy of each photo with the outline of the lesion.
        measure: Also measure each lesion and write one table (measurements.csv). Measurement only, not a diagnosis.
        parquet: With measure or merge, also write the table as Parquet (measurements.parquet).
        mm_per_px: Millimetres per pixel, if known and the same for all photos; without this value, sizes are in pixels.
        overwrite: Replace existing masks, also those that a person corrected. Without it, a mask is made again only if
            nobody changed it and its photo, the weights of the model or the options are others than when it was made.
        batch_size: Photos per batch of the network.
        part: Segment only one part of the photos, such as 3/40, for a job array of a cluster. The parts may run at the
            same time on several computers, with the same paths and the same output folder; merge them at the end.
        segment: How each mask is made.
    """

    overlay: bool = False
    measure: bool = False
    parquet: bool = False
    mm_per_px: float | None = None
    overwrite: bool = False
    batch_size: int = 8
    part: str | None = None
    segment: SegmentOptions = field(default_factory=SegmentOptions)

    def validate(self) -> None:
        """Raise `BadInput` if a value is out of its range."""
        if self.batch_size < 1:
            raise BadInput(f"The batch size is {self.batch_size}; it is a number of photos, at least 1.")
        if self.mm_per_px is not None and not 0 < self.mm_per_px < 10:
            raise BadInput(f"The scale is {self.mm_per_px} mm per pixel; give millimetres per pixel, such as 0.02.")
        if self.part is not None:
            Part.parse(self.part)
        if self.parquet:
            if self.part is not None or not self.measure:
                raise BadInput(
                    "--parquet is for a whole table; use it with --measure and without --part, or with --merge."
                )
            check_parquet()
        self.segment.validate()


@dataclass(frozen=True, slots=True)
class PhotoResult:
    """Result of one photo.

    Attributes:
        name: path of the photo below the folder that the user named, with forward slashes; see the module.
        photo: path or address of the photo.
        mask: path or address of the mask.
        overlay: path or address of the overlay, or None.
        confidence: the Jaccard that the model expects; None if an existing mask was kept that is not the model's mask.
        empty: whether the mask is empty.
        withheld: whether an outline of that confidence was withheld, see `Segmentation.withheld`.
        kept: whether the mask existed before and was kept.
        row: the row of the table; None if `BatchOptions.measure` is off.
    """

    name: str
    photo: Place
    mask: Place
    overlay: Place | None
    confidence: float | None
    empty: bool
    withheld: bool
    kept: bool
    row: StoredRow | None

    @property
    def measures(self) -> Mapping[str, Cell]:
        """The values of `measurement.measure.COLUMNS` as in the table; empty if `BatchOptions.measure` is off."""
        return self.row.measures if self.row else {}


@dataclass(frozen=True)
class BatchOutcome:
    """Result of a run.

    Attributes:
        done: results in the order of the photos.
        failed: (file, error sentence) of each folder that cannot be read, of each failed photo, and of the table if it
            could not be written. After the disk is full, no more photos are segmented.
        table: path or address of the table, or None if there is none.
        total: number of photos of the run.
        cancelled: whether the run was cancelled.
    """

    done: tuple[PhotoResult, ...]
    failed: tuple[tuple[Place, str], ...]
    table: Place | None
    total: int
    cancelled: bool


@dataclass(frozen=True, slots=True)
class _Job:
    order: int
    name: str
    photo: Path
    mask: Path
    overlay: Path

    @property
    def earlier_overlay(self) -> Path:
        """The overlay of an earlier version, which wrote a PNG."""
        return self.overlay.with_suffix(".png")


_Segmented = tuple[_Job, Rgb, str, Segmentation]
"""Photo, its pixels, the checksum of all that decides its mask, and its segmentation."""
_Result = tuple[PhotoResult, int]
"""Result of a photo, and its number of pixels."""


def segment_files(
    paths: Sequence[Place],
    out: Place,
    segmenter: Segmenter,
    options: BatchOptions | None = None,
    on_event: OnEvent = ignore_event,
    cancel: CancelToken | None = None,
) -> BatchOutcome:
    """Segment photos and write masks, overlays and one table below `out`; the module describes the files.

    Args:
        paths: photos, and folders, which are searched with their subfolders; or their addresses in a bucket.
        out: output folder, created if it does not exist; or its address in a bucket, such as "s3://bucket/masks".
        segmenter: the model on its device.
        options: see `BatchOptions`.
        on_event: receives an event for each photo: stage "segment", `done` out of `total`, `message` the name of the
            photo or the error sentence, `values` {"confidence": …} if known, and {"seconds_left": …}, the time that the
            remaining photos take at the speed of this run.
        cancel: checked before each photo; photos that were segmented before are written and are in the table.

    Raises:
        BadInput: a path does not exist, an option is out of range, `out` cannot be written, or another run writes into
            it; then no photo is segmented. Or the connection to a bucket is lost; then masks that were uploaded stay.
    """
    options = options or BatchOptions()
    options.validate()
    part = Part.parse(options.part) if options.part else None
    unreadable: list[tuple[Place, str]] = []
    with open_storage(*paths, out) as storage:
        found = find_photos(
            [storage.path(path) for path in paths],
            storage,
            lambda folder, sentence: unreadable.append((storage.place(folder), storage.in_words(sentence))),
        )
        with FolderRecords(make_output_folder(storage.path(out)), part, storage) as records:
            names = _keep_places(found, records)
            # The name that was found decides, because a place can depend on what other parts have written.
            photos = {photo: names[photo] for photo, name in found.items() if part is None or part.contains(name)}
            outcome = _Batch(photos, records, segmenter, options, on_event, cancel or NeverCancelled()).run()
    return replace(outcome, failed=(*unreadable, *outcome.failed))


class _Batch:
    """One run."""

    def __init__(
        self,
        photos: Mapping[Path, str],
        records: FolderRecords,
        segmenter: Segmenter,
        options: BatchOptions,
        on_event: OnEvent,
        cancel: CancelToken,
    ) -> None:
        self.records, self.segmenter, self.options = records, segmenter, options
        self.storage = records.storage
        self.on_event, self.user_cancel = on_event, cancel
        self.disk_is_full = False
        self.total = len(photos)
        self.done: list[tuple[int, PhotoResult]] = []
        self.failed: list[tuple[Place, str]] = []
        self.cancelled = False
        self.settings = json.dumps([segmenter.sha256, asdict(options.segment)], sort_keys=True, default=str)
        self.started, self.count_at_start = time.monotonic(), 0
        self.jobs = list(self._plan(photos))

    def run(self) -> BatchOutcome:
        self.records.remove_temporary_files(path for job in self.jobs for path in (job.mask, job.overlay))
        kept = [] if self.options.overwrite else [job for job in self.jobs if self.storage.exists(job.mask)]
        kept_orders = {job.order for job in kept}
        new = [job for job in self.jobs if job.order not in kept_orders]
        try:
            for job, existing in read_ahead(self._keep, kept, cancel=self):
                if existing.exception() is None and existing.result() is None:
                    new.append(job)
                else:
                    self._collect(job, existing)
        except Cancelled:
            self.cancelled = self.user_cancel.is_set()
        self.started, self.count_at_start = time.monotonic(), self._count()
        segmented = self._segment(sorted(new, key=lambda job: job.order))
        ahead = 2 * self.options.batch_size
        for (job, *_), written in read_ahead(self._write, segmented, ahead=ahead, pixels=lambda result: result[1]):
            self._collect(job, written)
        self.done.sort(key=lambda item: item[0])
        return BatchOutcome(
            done=tuple(result for _, result in self.done),
            failed=tuple(self.failed),
            table=self._write_reports(),
            total=self.total,
            cancelled=self.cancelled,
        )

    def _plan(self, photos: Mapping[Path, str]) -> Iterator[_Job]:
        """Yield one job per photo. If two photos would have the same mask file, the second fails."""
        taken: dict[str, Path] = {}
        for order, (photo, name) in enumerate(photos.items()):
            stem = self.records.folder / Path(name).with_suffix("")
            # On Windows and macOS the masks of A.jpg and a.png are the same file, too.
            first = taken.setdefault(str(stem).casefold(), photo)
            if first is not photo:
                self._fail(photo, f"{photo} and {first} would have the same mask; rename one of them.")
                continue
            mask, picture = (stem.with_name(stem.name + ending) for ending in (MASK_ENDING, "_overlay.jpg"))
            yield _Job(order, name, photo, mask, picture)

    def _segment(self, jobs: list[_Job]) -> Iterator[_Segmented]:
        """Yield photos and their segmentations; the network runs in the calling thread, threads read the photos.

        Ends without an error if the run is cancelled, so that the photos segmented so far are written.
        """
        if self.is_set():
            return
        try:
            for batch in in_batches(self._read(jobs), self.options.batch_size, lambda item: item[1][..., 0].size):
                segmented = 0
                images = (rgb for _, rgb, _ in batch)
                try:
                    for result in self.segmenter.segment_many(images, self.options.segment, batch_size=len(batch)):
                        yield (*batch[segmented], result)
                        segmented += 1
                except BadInput as error:  # the memory of the device is full
                    for job, *_ in batch[segmented:]:
                        self._fail(job.photo, f"{job.photo} could not be segmented: {error}")
        except Cancelled:
            self.cancelled = self.user_cancel.is_set()

    def is_set(self) -> bool:
        """Whether no more photos are segmented: the user stopped the run, or the disk is full."""
        return self.disk_is_full or self.user_cancel.is_set()

    def _read(self, jobs: list[_Job]) -> Iterator[tuple[_Job, Rgb, str]]:
        photos = read_ahead(
            self._read_one,
            jobs,
            ahead=2 * self.options.batch_size,
            pixels=lambda photo: photo[0][..., 0].size,
            cancel=self,
        )
        for job, future in photos:
            if error := future.exception():
                self._fail(job.photo, _sentence(job.photo, error))
            else:
                yield job, *future.result()

    def _read_one(self, job: _Job) -> tuple[Rgb, str]:
        """Return a photo, and the checksum of all that decides its mask; runs in a thread."""
        with self.storage.local(job.photo):
            return read_image(job.photo), self._inputs_sha256(job.photo)

    def _write(self, segmented: _Segmented) -> _Result:
        """Write the mask of a new segmentation, its overlay and, before the mask, its record; runs in a thread."""
        job, rgb, inputs_sha256, result = segmented
        options = self.options.segment
        make_output_folder(job.mask.parent)
        confidence = round(result.confidence, 4)
        photo, pixels = self._result(job, rgb, result.mask, confidence, result.withheld, kept=False)
        record = {
            "photo": self.storage.address(job.photo),
            "model": self.segmenter.spec.name,
            "weights_sha256": self.segmenter.sha256,
            "computed_by": dict(self.segmenter.engine),
            "threshold": result.threshold,
            "tta": options.tta,
            "clean_up": asdict(options.clean_up),
            "always_outline": options.always_outline,
            "confidence": confidence,
            "withheld": result.withheld,
            **({"guarded": True} if result.guarded else {}),
            "inputs_sha256": inputs_sha256,
            **({"measured_with": self._measured_with()} if self.options.measure else {}),
            "empty": photo.empty,
            "mask_sha256": "",  # set below; the order of the keys is that of earlier records
            "napari_skinseg": version("napari-skinseg"),
        }
        content = encode_mask(result.mask)
        record["mask_sha256"] = hashlib.sha256(content).hexdigest()
        with atomic(job.mask) as temporary:
            temporary.write_bytes(content)
            self.records.add(job.mask, record, photo.row)
        self.records.confirm(job.mask)
        self.storage.put(job.mask)
        return photo, pixels

    def _keep(self, job: _Job) -> _Result | None:
        """Return the result of an existing mask, or None if it must be made again; runs in a thread."""
        with self.storage.local(job.photo, job.mask):
            return self._keep_local(job)

    def _keep_local(self, job: _Job) -> _Result | None:
        record = self.records.find(job.mask)  # empty if a person changed the mask
        if record.get("inputs_sha256"):
            if record["inputs_sha256"] != self._inputs_sha256(job.photo):
                return None
            if known := self._known(job, record):
                return known, 0
        rgb = read_image(job.photo)
        mask = read_mask(job.mask, rgb.shape[:2])
        return self._result(job, rgb, mask, record.get("confidence"), bool(record.get("withheld")), kept=True)

    def _known(self, job: _Job, record: Record) -> PhotoResult | None:
        """Return the result of an unchanged mask without reading the photo; None if it must be measured or drawn."""
        row = self.records.row(job.name) if self.options.measure else None
        if self.options.measure and (row is None or record.get("measured_with") != self._measured_with()):
            return None
        if self.options.overlay and not self.storage.exists(job.overlay):
            if not self.storage.exists(job.earlier_overlay):
                return None
            job = replace(job, overlay=job.earlier_overlay)
        return self._photo_result(
            job, record["confidence"], empty=record["empty"], withheld=record["withheld"], kept=True, row=row
        )

    def _photo_result(
        self, job: _Job, confidence: float | None, empty: bool, withheld: bool, kept: bool, row: StoredRow | None
    ) -> PhotoResult:
        return PhotoResult(
            name=job.name,
            photo=self.storage.place(job.photo),
            mask=self.storage.place(job.mask),
            overlay=self.storage.place(job.overlay) if self.options.overlay else None,
            confidence=confidence,
            empty=empty,
            withheld=withheld,
            kept=kept,
            row=row,
        )

    def _inputs_sha256(self, photo: Path) -> str:
        """Return a checksum of all that decides a mask: the photo, the weights and the options."""
        return hashlib.sha256((self.settings + sha256(photo)).encode()).hexdigest()

    def _measured_with(self) -> dict[str, Any]:
        return {"mm_per_px": self.options.mm_per_px, "napari_skinseg": version("napari-skinseg")}

    def _result(self, job: _Job, rgb: Rgb, mask: Mask, confidence: float | None, withheld: bool, kept: bool) -> _Result:
        if self.options.overlay:
            write_overlay(job.overlay, rgb, mask)
            self.storage.put(job.overlay)
            self.storage.remove(job.earlier_overlay)
        row = None
        if self.options.measure:
            measures = measure(rgb, mask, self.options.mm_per_px)
            # The mask of a model that an earlier run wrote is in the table as if this run had written it.
            values: list[Cell] = [confidence, not mask.any(), kept and confidence is None]
            values += [measures[name] for name in COLUMNS]
            row = StoredRow([job.name, *(v.item() if isinstance(v, np.generic) else v for v in values), ""])
        empty = not mask.any()
        return self._photo_result(job, confidence, empty=empty, withheld=withheld, kept=kept, row=row), mask.size

    def _collect(self, job: _Job, future: Future[_Result] | Future[_Result | None]) -> None:
        if error := future.exception():
            if not (isinstance(error, DiskFull) and self.disk_is_full):  # one sentence is enough
                self._fail(job.photo, _sentence(job.photo, error))
            self.disk_is_full |= isinstance(error, DiskFull)
            return
        written = future.result()
        assert written is not None
        result, _ = written
        self.done.append((job.order, result))
        if result.row:
            self.records.set_row(result.row)
        values = {} if result.confidence is None else {"confidence": result.confidence}
        if new := self._count() - self.count_at_start:
            seconds = (time.monotonic() - self.started) / new
            values["seconds_left"] = round(seconds * (self.total - self._count()), 1)
        self.on_event(Event("segment", self._count(), self.total, result.name, values))

    def _fail(self, file: Path, sentence: str) -> None:
        sentence = self.storage.in_words(sentence)
        self.failed.append((self.storage.place(file), sentence))
        self.on_event(Event("segment", self._count(), self.total, sentence))

    def _count(self) -> int:
        return len(self.done) + len(self.failed)

    def _write_reports(self) -> Place | None:
        """Write the table and the records; if this fails, the masks and the outcome stay valid."""
        table = self.records.table if self.options.measure else None
        try:
            self.records.write(table=table is not None, parquet=self.options.parquet)
        except BadInput as error:
            if not self.disk_is_full:
                self.failed.append((table or self.records.folder / RECORDS, str(error)))
            return None
        return table and self.storage.place(table)


def find_photos(
    paths: Sequence[Path],
    storage: Disk | None = None,
    on_unreadable: OnUnreadable = lambda folder, sentence: None,
) -> dict[Path, str]:
    """Return the photos among `paths`, sorted, and the name of each: its path below the folder that was named.

    The names of photos that were named one by one are their paths below their common folder.

    Raises:
        BadInput: a path does not exist, or there is no photo.
    """
    storage = storage or Disk()
    names: dict[Path, str] = {}
    folders = sorted(filter(storage.is_dir, paths))
    files = [path for path in paths if path not in folders]
    root = _common_folder(files) if files else None
    for photo in storage.find_images(files, on_unreadable) if files else ():
        names[photo] = _absolute(photo).relative_to(root).as_posix() if root else photo.name
    for folder in folders:
        for photo in storage.find_images([folder], on_unreadable):
            names.setdefault(photo, photo.relative_to(folder).as_posix())
    if not names:
        raise BadInput("No photo was named; give photos or folders of photos.")
    return dict(sorted(names.items()))


def _keep_places(photos: Mapping[Path, str], records: FolderRecords) -> dict[Path, str]:
    """Return the name of each photo, so that it keeps its place in the folder and no two share one if possible."""
    places = records.places()
    names = {photo: name for photo in photos if (name := places.get(records.storage.address(photo)))}
    owners = {_stem(name): photo for photo, name in names.items()}
    for photo, name in photos.items():
        if names.get(photo) and owners[_stem(names[photo])] == photo:
            continue
        names[photo] = name
        owner = owners.setdefault(_stem(name), photo)
        if owner == photo:
            owner = _earlier_owner(records, name, photo) or photo
        if owner != photo and owner.parent != photo.parent:
            root = _absolute(photo).parents[len(Path(name).parts) - 1]
            names[photo] = f"{root.name}/{name}"
            owners.setdefault(_stem(names[photo]), photo)
    return {photo: names[photo] for photo in photos}


def _stem(name: str) -> str:
    # On Windows and macOS the masks of A.jpg and a.png are the same file, too.
    return Path(name).with_suffix("").as_posix().casefold()


def _earlier_owner(records: FolderRecords, name: str, photo: Path) -> Path | None:
    """Return the photo whose mask has this place in the folder, if it still exists and has another content."""
    earlier, storage = records.photo_of(name), records.storage
    if earlier is None or not storage.exists(earlier) or not storage.exists(photo):
        return None
    with storage.local(earlier, photo):
        return None if sha256(earlier) == sha256(photo) else earlier


def _common_folder(photos: Sequence[Path]) -> Path | None:
    """Return the deepest folder that contains all photos; None if there is none, as on two drives of Windows."""
    try:
        return Path(os.path.commonpath([_absolute(photo).parent for photo in photos]))
    except ValueError:
        return None


def _absolute(path: Path) -> Path:
    """Return the absolute path without "..", so that no file is written outside the output folder."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links out of the folder


def _sentence(photo: Path, error: BaseException) -> str:
    if isinstance(error, StorageFailed):
        raise error
    if isinstance(error, BadInput):
        return str(error)
    if isinstance(error, MemoryError):
        return f"{photo} does not fit into the memory of this computer; close other programs or use a smaller photo."
    return f"{photo} could not be segmented ({type(error).__name__}: {error}); please report this with its size."
