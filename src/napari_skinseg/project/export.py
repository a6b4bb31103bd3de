"""Export of a reviewed project: masks, overlays, one table, COCO files, and a folder that `train` reads.

    <out>/masks/<photo>_segmentation.png       0/255, in ISIC naming; the photo's id where two photos have one name
    <out>/overlays/<photo>_overlay.png         the photo with its outline
    <out>/cases.csv                            a row per photo of the project: status, model, agreement, measurements
    <out>/unreadable.csv                       files that a scan could not read, each with a reason; if any
    <out>/coco_polygons.json, coco_rle.json    the outlines for labelling tools, and the exact masks
    <out>/training/images, masks, metadata.csv photos with their masks, as `train` and `evaluate` read them
    <out>/skinseg-export.json                  the source and the files of this export, and the blind sample

The project is only read, and photos are never changed. A second export into the same folder replaces its files and
removes those that no longer belong to it; a folder with any other file is refused.
"""

import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from napari_skinseg.datasets.dataset import EXPORT_MARK
from napari_skinseg.errors import BadInput, Cancelled
from napari_skinseg.events import CancelToken, Event, OnEvent, ignore_event
from napari_skinseg.files import Cell, atomic, escape_formula, make_output_folder, target_of, write_csv, write_json
from napari_skinseg.measurement.measure import COLUMNS, EXPERIMENTAL_COLUMNS, NOTE, Value, measure
from napari_skinseg.pixels.mask import MASK_ENDING, draw_overlay, write_mask
from napari_skinseg.read_ahead import read_ahead

from .blind_sample import BlindSample, compare_blind_sample
from .coco import polygons, run_lengths
from .project import Photo, Project, Status
from .records import relative_path

TABLE = "cases.csv"
UNREADABLE = "unreadable.csv"

_OUR_FILES = re.compile(
    r"(masks|overlays|training/images|training/masks)/[^/\\\0]*\w[^/\\\0]*|training/metadata\.csv|[a-z_]+\.(csv|json)"
)
_TEMPORARY_AGE = 60.0  # s; a younger file may belong to an export that is running
_CATEGORIES = [{"id": 1, "name": "lesion", "supercategory": "skin"}]


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export.

    Attributes:
        statuses: Export photos with these statuses and a mask, but no unfinished corrections; add "predicted" for masks
            that nobody has reviewed.
        overlays: Write a picture of each photo with its outline.
        measure: Measure each lesion, into the table. Measurement only, not a diagnosis.
        experimental: Also measure the six colours, which are experimental.
        coco: Write COCO files with polygons and with run lengths.
        training: Write a folder with photos and masks that train reads.
        images: How to put photos into that folder: "copy", or "link" (hard links need no disk space, but photo and link
            are the same file).
    """

    statuses: tuple[Status, ...] = ("corrected", "accepted")
    overlays: bool = True
    measure: bool = True
    experimental: bool = False
    coco: bool = True
    training: bool = True
    images: Literal["copy", "link"] = "copy"

    def validate(self) -> None:
        """Raise `BadInput` if `statuses` is empty or `images` has an unknown value."""
        if not self.statuses:
            raise BadInput("No status is chosen, so nothing would be exported; choose 'corrected' and 'accepted'.")
        if self.images not in ("copy", "link"):
            raise BadInput(f"images is {self.images!r}; choose 'copy' or 'link'.")


@dataclass(frozen=True)
class ExportOutcome:
    """The result of an export.

    Attributes:
        folder: of the export.
        done: ids of the photos whose mask was exported.
        failed: (file, sentence) for each failure; a missing photo has no overlay and measurements, but its mask is
            exported.
        table: path of the table, None if cancelled.
        training: the folder for `train`, None if switched off or cancelled.
        unfinished: ids of the photos with a correction that is not finished, and so not exported.
        blind: see `BlindSample`.
        cancelled: whether the export was stopped; masks written before are complete, tables of an earlier export stay.
    """

    folder: Path
    done: tuple[str, ...]
    failed: tuple[tuple[Path, str], ...]
    table: Path | None
    training: Path | None
    unfinished: tuple[str, ...]
    blind: BlindSample
    cancelled: bool

    def in_words(self) -> str:
        """A summary in one line."""
        sentences = [f"{len(self.done):,} masks are in {self.folder}."]
        if self.unfinished:
            number = f"{len(self.unfinished):,}"
            sentences.append(f"Corrections that are not finished, and so not exported: {number}; accept them first.")
        if self.cancelled:
            sentences.append("Cancelled: the export is incomplete.")
        return " ".join([*sentences, self.blind.in_words()]).strip()


@dataclass(frozen=True)
class _Job:
    """A photo to export, and the name of its files."""

    photo: Photo
    name: str

    @property
    def mask(self) -> str:
        return f"masks/{self.name}{MASK_ENDING}"

    @property
    def overlay(self) -> str:
        return f"overlays/{self.name}_overlay.png"

    @property
    def training_mask(self) -> str:
        return f"training/masks/{self.name}{MASK_ENDING}"

    @property
    def image(self) -> str:
        return f"training/images/{self.name}{self.photo.path.suffix.lower()}"

    def files(self, options: ExportOptions) -> list[str]:
        """All files of the photo, relative to the folder of the export."""
        overlays = [self.overlay] * options.overlays
        return [self.mask, *overlays, *[self.image, self.training_mask] * options.training]


@dataclass
class _Exported:
    """What one photo adds to the tables; `trainable` = its pair is in the training folder."""

    measures: dict[str, Value] = field(default_factory=dict)
    polygons: dict[str, Any] | None = None
    rle: dict[str, Any] | None = None
    written: bool = False
    trainable: bool = False
    failed: list[tuple[Path, str]] = field(default_factory=list)


def export_project(
    project: Project,
    out: str | Path,
    options: ExportOptions | None = None,
    on_event: OnEvent = ignore_event,
    cancel: CancelToken | None = None,
) -> ExportOutcome:
    """Export a project into the folder `out`, which is made if needed; see the module for the files.

    Args:
        project: open; it may be open for reading only.
        out: new, empty, or the folder of an earlier export.
        options: see `ExportOptions`.
        on_event: stage "export"; the message is the photo's name, or the sentence that says what failed.
        cancel: read before each photo.

    Raises:
        BadInput: an option is invalid, no photo has one of the statuses and a mask, or `out` holds other files or
            cannot be written to.
    """
    options = options or ExportOptions()
    options.validate()
    return _Export(project, Path(out).expanduser().absolute(), options, on_event, cancel).run()


class _Export:
    def __init__(
        self, project: Project, out: Path, options: ExportOptions, on_event: OnEvent, cancel: CancelToken | None
    ) -> None:
        self.project, self.out, self.options = project, out, options
        self.on_event, self.cancel = on_event, cancel
        self.photos = project.photos(replaced=True)
        self.unreadable = [(relative_path(path, project.folder), reason) for path, reason in project.unreadable()]
        self.jobs = _named([photo for photo in self.photos if self._is_wanted(photo)])
        if not self.jobs:
            raise BadInput(
                f"{project.folder} has no mask with status {' or '.join(options.statuses)}; review some photos first."
            )
        self.failed: list[tuple[Path, str]] = []
        self.done: dict[str, _Exported] = {}

    def run(self) -> ExportOutcome:
        earlier = _earlier_files(self.out)
        planned = [name for job in self.jobs for name in job.files(self.options)]
        planned += [TABLE, *["coco_polygons.json", "coco_rle.json"] * self.options.coco]
        planned += ["training/metadata.csv"] * self.options.training
        planned += [UNREADABLE] * bool(self.unreadable)
        make_output_folder(self.out)
        # Before anything else: a scan of a folder above must not add the photos that this export copies.
        self._mark(sorted({*earlier, *planned}), finished=False)
        for folder in {Path(name).parent for name in planned}:
            make_output_folder(self.out / folder)
        _remove_temporary_files(self.out, {*earlier, *planned, EXPORT_MARK})
        blind = compare_blind_sample(self.photos)
        try:
            self._export_all()
        except Cancelled:
            return self._outcome(blind, cancelled=True)
        self._write_cases()
        if self.unreadable:
            _write_table(self.out / UNREADABLE, ["file", "reason"], self.unreadable)
        if self.options.coco:
            for kind in ("polygons", "rle"):
                write_json(self.out / f"coco_{kind}.json", self._coco(kind))
        if self.options.training:
            self._write_metadata()
        obsolete = [name for name in earlier if name not in set(planned)]
        for job in self.jobs:  # a photo that cannot be read must not leave an incomplete pair of an earlier export
            if not self.done[job.photo.id].trainable:
                obsolete += [name for name in job.files(self.options) if name.startswith("training/")]
        for name in obsolete:
            (self.out / name).unlink(missing_ok=True)
        self._mark(sorted(set(planned) - set(obsolete)), finished=True, blind=blind)
        return self._outcome(blind, cancelled=False)

    def _outcome(self, blind: BlindSample, *, cancelled: bool) -> ExportOutcome:
        return ExportOutcome(
            folder=self.out,
            done=tuple(photo for photo, found in self.done.items() if found.written),
            failed=tuple(self.failed),
            table=None if cancelled else self.out / TABLE,
            training=self.out / "training" if self.options.training and not cancelled else None,
            unfinished=tuple(photo.id for photo in self.photos if photo.unfinished),
            blind=blind,
            cancelled=cancelled,
        )

    def _is_wanted(self, photo: Photo) -> bool:
        has_mask = photo.has_mask or (photo.predicted_file and photo.status == "predicted")
        return photo.status in self.options.statuses and bool(has_mask) and not photo.unfinished

    def _export_all(self) -> None:
        for job, future in read_ahead(self._export, self.jobs, cancel=self.cancel):
            exported = self.done[job.photo.id] = future.result()
            self.failed += exported.failed
            message = exported.failed[0][1] if exported.failed else job.photo.name
            self.on_event(Event("export", len(self.done), len(self.jobs), message))

    def _export(self, job: _Job) -> _Exported:
        """Export one photo; runs in a thread."""
        photo, exported, options = job.photo, _Exported(), self.options
        try:
            mask = self.project.mask(photo.id) if photo.has_mask else self.project.model_mask(photo.id)
        except BadInput as error:
            exported.failed.append((photo.mask_path, str(error)))
            return exported
        assert mask is not None
        write_mask(self.out / job.mask, mask)
        exported.written = True
        if options.coco:
            exported.polygons, exported.rle = polygons(mask), run_lengths(mask)
        if not (options.overlays or options.measure or options.training):
            return exported
        try:
            rgb = self.project.read_photo(photo.id)
        except BadInput as error:
            exported.failed.append((photo.path, str(error)))
            return exported
        if options.overlays:
            with atomic(self.out / job.overlay) as temporary:
                Image.fromarray(draw_overlay(rgb, mask)).save(temporary, compress_level=1)
        if options.measure:
            exported.measures = measure(rgb, mask, photo.mm_per_px, experimental=options.experimental)
        if options.training:
            _place(photo.path, self.out / job.image, link=options.images == "link")
            write_mask(self.out / job.training_mask, mask)
            exported.trainable = True
        return exported

    def _write_cases(self) -> None:
        measured = [*COLUMNS, *(EXPERIMENTAL_COLUMNS if self.options.experimental else ())] * self.options.measure
        masks = {job.photo.id: job.mask for job in self.jobs}
        rows = []
        for photo in self.photos:
            row = self._columns(photo, masks.get(photo.id, ""))
            measures = self.done.get(photo.id, _Exported()).measures
            rows.append([*row.values(), *(measures.get(name) for name in measured), ""])
        _write_table(self.out / TABLE, [*row, *measured, NOTE], rows)

    def _columns(self, photo: Photo, mask: str) -> dict[str, Value]:
        return {
            "photo": photo.relative,
            "id": photo.id,
            "mask": mask,
            "state": photo.state,
            "status": photo.status,
            "reviewed": photo.reviewed,
            "changed": photo.changed if photo.has_mask else None,
            "correction_dice": photo.dice,
            "confidence": photo.confidence,
            "model": photo.model,
            "model_version": photo.model_version,
            "stale": photo.stale,
            "blind": photo.blind,
            "note": photo.note,
            "reader": photo.reader,
            "changed_at": photo.changed_at,
            "seconds": photo.seconds,
            "lesion_group": photo.lesion_group,
            "diagnosis": photo.diagnosis,
        }

    def _coco(self, kind: str) -> dict[str, Any]:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, job in enumerate(self.jobs, 1):
            found = self.done[job.photo.id]
            height, width = job.photo.shape
            file = Path(job.image).name if self.options.training else job.photo.relative
            images.append({"id": number, "file_name": file, "height": height, "width": width})
            shape = found.polygons if kind == "polygons" else found.rle
            if shape is not None:  # in COCO, an empty mask has no annotation
                annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": 1, **shape})
        info = {"description": f"napari-skinseg {version('napari-skinseg')}", "date_created": _now()}
        return {"info": info, "images": images, "annotations": annotations, "categories": _CATEGORIES}

    def _write_metadata(self) -> None:
        """Write the groups for `train`: photos with equal content are one lesion, even without metadata."""
        contents = Counter(job.photo.sha256 for job in self.jobs)
        rows = []
        for job in self.jobs:
            photo = job.photo
            same = f"same-{photo.sha256[:12]}" if contents[photo.sha256] > 1 else ""
            rows.append((job.name, photo.lesion_group or same, photo.diagnosis, photo.status))
        _write_table(self.out / "training" / "metadata.csv", ["id", "lesion_group", "diagnosis", "status"], rows)

    def _mark(self, files: list[str], *, finished: bool, blind: BlindSample | None = None) -> None:
        write_json(
            self.out / EXPORT_MARK,
            {
                "napari_skinseg": version("napari-skinseg"),
                "project": str(self.project.folder),
                "time": _now(),
                "finished": finished,
                "options": asdict(self.options),
                "counts": self.project.counts(),
                "blind_sample": blind and {**asdict(blind), "in_words": blind.in_words()},
                "files": files,
            },
        )


def _named(photos: Sequence[Photo]) -> list[_Job]:
    """Each photo with the name of its files: the photo's name, or its id if another photo has the same name."""
    names = Counter(photo.path.stem.casefold() for photo in photos)
    jobs = [_Job(photo, photo.path.stem if names[photo.path.stem.casefold()] == 1 else photo.id) for photo in photos]
    # `train` finds a photo by its name in metadata.csv, so the table must not change the name; no id begins with _.
    return [replace(job, name=f"_{job.photo.id}") if escape_formula(job.name) != job.name else job for job in jobs]


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a CSV table in which no text is a formula: spreadsheets calculate cells that begin with =, +, - or @."""
    write_csv(
        path, columns, [[escape_formula(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    )


def _earlier_files(out: Path) -> list[str]:
    """The files of an earlier export in `out`; raises `BadInput` if `out` holds other files."""
    try:
        if not out.exists() or all(target_of(path) == out / EXPORT_MARK for path in out.iterdir()):
            return []  # no export, or one that was killed at its first step
        names = json.loads((out / EXPORT_MARK).read_text(encoding="utf-8"))["files"]
        # Only files of an export: a changed list must not cause the removal of other files.
        return [name for name in names if _OUR_FILES.fullmatch(name)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{out} holds other files than those of an export; choose a new or empty folder.") from error


def _remove_temporary_files(out: Path, names: set[str]) -> None:
    """Remove the temporary files that a killed export left for the files `names` in `out`."""
    targets = {out / name for name in names}
    for folder in {target.parent for target in targets}:
        for path in folder.iterdir() if folder.is_dir() else ():
            if target_of(path) in targets and time.time() - path.lstat().st_mtime > _TEMPORARY_AGE:
                path.unlink(missing_ok=True)


def _place(photo: Path, target: Path, *, link: bool) -> None:
    """Copy or link a photo to `target`, completely or not at all."""
    if link:
        # Not with `atomic`: it sets the permissions of the file, which for a link is the photo itself.
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(photo)
            return
        except OSError:
            pass  # the target is on another disk, or the file system has no hard links
    with atomic(target) as temporary:
        shutil.copyfile(photo, temporary)


def _now() -> str:
    return f"{datetime.now():%Y-%m-%d %H:%M:%S}"
