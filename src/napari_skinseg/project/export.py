"""A reviewed project -> what others take: masks, overlays, one table, COCO files, and a folder that `train` takes.

    <out>/masks/<photo>_segmentation.png       0/255, in ISIC naming; the photo's id where two photos have one name
    <out>/overlays/<photo>_overlay.png         the photo with its outline
    <out>/cases.csv                            a row per photo of the project: status, model, agreement, measurements
    <out>/coco_polygons.json, coco_rle.json    the outlines for labelling tools, and the masks exactly
    <out>/training/images, masks, metadata.csv photos with their masks, as `train` and `evaluate` take them
    <out>/skinseg-export.json                  what this folder is, where it came from, and the blind sample

The project is only read, and photos are never changed. Exporting again into the same folder replaces what is there and
removes what does not belong to it any more; a folder with anything else in it is refused.
"""

import csv
import io
import json
import os
import shutil
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from napari_skinseg.datasets.dataset import EXPORT_MARK
from napari_skinseg.errors import BadInput, Cancelled
from napari_skinseg.events import CancelToken, Event, NeverCancelled, OnEvent, ignore_event, raise_if_cancelled
from napari_skinseg.files import atomic, make_output_folder, write_json, write_text
from napari_skinseg.measurement.measure import COLUMNS, EXPERIMENTAL_COLUMNS, NOTE, Value, measure
from napari_skinseg.pixels.mask import draw_overlay, write_mask

from .blind_sample import BlindSample, blind_sample
from .coco import polygons, run_lengths
from .project import Photo, Project, Status

TABLE = "cases.csv"

_CATEGORIES = [{"id": 1, "name": "lesion", "supercategory": "skin"}]


@dataclass(frozen=True)
class ExportOptions:
    """What is exported.

    Attributes:
        statuses: Photos with these statuses and a mask; add "predicted" for masks that nobody has looked at.
        overlays: A picture of each photo with its outline drawn in.
        measure: Measure each lesion, into the table. Measurement only, not a diagnosis.
        experimental: Also the six colours, which are experimental.
        coco: COCO files with polygons and with run lengths.
        training: A folder with photos and masks that train takes as it is.
        images: How photos come into that folder: "copy", or "link" (hard links: no space, but one file under two
            names).
    """

    statuses: tuple[Status, ...] = ("corrected", "accepted")
    overlays: bool = True
    measure: bool = True
    experimental: bool = False
    coco: bool = True
    training: bool = True
    images: Literal["copy", "link"] = "copy"

    def validate(self) -> None:
        """Raise `BadInput` if nothing would be exported or there is no such way."""
        if not self.statuses:
            raise BadInput("No status is chosen, so nothing would be exported; choose 'corrected' and 'accepted'.")
        if self.images not in ("copy", "link"):
            raise BadInput(f"images is {self.images!r}; choose 'copy' or 'link'.")


@dataclass(frozen=True)
class ExportOutcome:
    """What was exported.

    Attributes:
        folder: where.
        done: ids of the photos whose mask was exported.
        failed: (file, sentence) each; a photo that is gone costs its overlay and measurements, not its mask.
        table: the table, None if cancelled.
        training: the folder for `train`, None if not asked for or cancelled.
        blind: see `BlindSample`.
        cancelled: stopped on request; masks written so far are whole, tables of an earlier export stand.
    """

    folder: Path
    done: tuple[str, ...]
    failed: tuple[tuple[Path, str], ...]
    table: Path | None
    training: Path | None
    blind: BlindSample
    cancelled: bool


@dataclass(frozen=True)
class _Job:
    photo: Photo
    name: str

    @property
    def image(self) -> str:
        return f"training/images/{self.name}{self.photo.path.suffix.lower()}"

    def files(self, options: ExportOptions) -> list[str]:
        found = [f"masks/{self.name}_segmentation.png"]
        found += [f"overlays/{self.name}_overlay.png"] * options.overlays
        return found + [self.image, f"training/masks/{self.name}_segmentation.png"] * options.training


@dataclass
class _Exported:
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
    """Export a project into the folder `out`, made if needed; see the module for the files.

    Args:
        project: open, perhaps for reading only.
        out: new, empty, or from an earlier export.
        options: see `ExportOptions`.
        on_event: stage "export", a message per photo: its name, or the sentence of what failed.
        cancel: looked at before each photo.

    Raises:
        BadInput: an option is out of range, no photo has such a status and a mask, or `out` holds other files or cannot
            be written to.
    """
    options = options or ExportOptions()
    options.validate()
    return _Export(project, Path(out).expanduser().absolute(), options, on_event, cancel or NeverCancelled()).run()


class _Export:
    def __init__(
        self, project: Project, out: Path, options: ExportOptions, on_event: OnEvent, cancel: CancelToken
    ) -> None:
        self.project, self.out, self.options = project, out, options
        self.on_event, self.cancel = on_event, cancel
        self.photos = project.photos(replaced=True)
        self.jobs = _named([photo for photo in self.photos if self._is_wanted(photo)])
        if not self.jobs:
            raise BadInput(
                f"{project.folder} has no mask that is {' or '.join(options.statuses)}; review some photos first."
            )
        self.failed: list[tuple[Path, str]] = []
        self.done: dict[str, _Exported] = {}

    def run(self) -> ExportOutcome:
        earlier = _earlier_files(self.out)
        planned = [name for job in self.jobs for name in job.files(self.options)]
        planned += [TABLE, *["coco_polygons.json", "coco_rle.json"] * self.options.coco]
        planned += ["training/metadata.csv"] * self.options.training
        for folder in ("", *sorted({os.path.dirname(name) for name in planned})):  # noqa: PTH120 - a part of a name
            make_output_folder(self.out / folder)
        # Before the first photo: a scan of a folder above must not take up what this export has copied so far.
        self._mark(sorted({*earlier, *planned}), finished=False)
        blind = blind_sample(self.photos)
        try:
            self._export_all()
        except Cancelled:
            return ExportOutcome(self.out, self._written(), tuple(self.failed), None, None, blind, cancelled=True)
        write_text(self.out / TABLE, self._table())
        if self.options.coco:
            for kind in ("polygons", "rle"):
                write_json(self.out / f"coco_{kind}.json", self._coco(kind))
        if self.options.training:
            write_text(self.out / "training" / "metadata.csv", self._metadata())
        gone = [name for name in earlier if name not in set(planned)]
        for job in self.jobs:  # a photo that is gone leaves no half pair
            if not self.done[job.photo.id].trainable:
                gone += [name for name in job.files(self.options) if name.startswith("training/")]
        for name in gone:
            (self.out / name).unlink(missing_ok=True)
        self._mark(sorted(set(planned) - set(gone)), finished=True, blind=blind)
        training = self.out / "training" if self.options.training else None
        return ExportOutcome(
            self.out, self._written(), tuple(self.failed), self.out / TABLE, training, blind, cancelled=False
        )

    def _written(self) -> tuple[str, ...]:
        return tuple(photo for photo, found in self.done.items() if found.written)

    def _is_wanted(self, photo: Photo) -> bool:
        has_mask = photo.has_mask or (photo.predicted_file and photo.status == "predicted")
        return photo.status in self.options.statuses and bool(has_mask)

    def _export_all(self) -> None:
        workers = min(4, os.cpu_count() or 1)
        with ThreadPoolExecutor(workers) as pool:
            waiting: deque[tuple[_Job, Future[_Exported]]] = deque()
            try:
                for job in self.jobs:
                    raise_if_cancelled(self.cancel)
                    waiting.append((job, pool.submit(self._export, job)))
                    if len(waiting) > workers:
                        self._collect(*waiting.popleft())
                while waiting:
                    raise_if_cancelled(self.cancel)
                    self._collect(*waiting.popleft())
            finally:
                for _, future in waiting:
                    future.cancel()

    def _collect(self, job: _Job, future: "Future[_Exported]") -> None:
        found = future.result()
        self.done[job.photo.id] = found
        self.failed += found.failed
        message = found.failed[0][1] if found.failed else job.photo.name
        self.on_event(Event("export", len(self.done), len(self.jobs), message))

    def _export(self, job: _Job) -> _Exported:
        """Everything of one photo; runs in the pool."""
        photo, found, options = job.photo, _Exported(), self.options
        try:
            mask = self.project.mask(photo.id) if photo.has_mask else self.project.model_mask(photo.id)
        except BadInput as error:
            found.failed.append((photo.mask_path, str(error)))
            return found
        assert mask is not None
        write_mask(self.out / "masks" / f"{job.name}_segmentation.png", mask)
        found.written = True
        if options.coco:
            found.polygons, found.rle = polygons(mask), run_lengths(mask)
        if not (options.overlays or options.measure or options.training):
            return found
        try:
            rgb = self.project.read_photo(photo.id)
        except BadInput as error:
            found.failed.append((photo.path, str(error)))
            return found
        if options.overlays:
            with atomic(self.out / "overlays" / f"{job.name}_overlay.png") as temporary:
                Image.fromarray(draw_overlay(rgb, mask)).save(temporary, compress_level=1)
        if options.measure:
            found.measures = measure(rgb, mask, photo.mm_per_px, experimental=options.experimental)
        if options.training:
            _place(photo.path, self.out / job.image, link=options.images == "link")
            write_mask(self.out / "training" / "masks" / f"{job.name}_segmentation.png", mask)
            found.trainable = True
        return found

    def _table(self) -> str:
        measured = [*COLUMNS, *(EXPERIMENTAL_COLUMNS if self.options.experimental else ())] * self.options.measure
        names = {job.photo.id: f"masks/{job.name}_segmentation.png" for job in self.jobs}
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        rows = [self._facts(photo, names.get(photo.id, "")) for photo in self.photos]
        writer.writerow([*rows[0], *measured, NOTE])
        for photo, row in zip(self.photos, rows, strict=True):
            found = self.done.get(photo.id, _Exported()).measures
            writer.writerow([*map(_cell, [*row.values(), *(found.get(name) for name in measured)]), ""])
        return text.getvalue()

    def _facts(self, photo: Photo, mask: str) -> dict[str, Value]:
        return {
            "photo": photo.relative,
            "id": photo.id,
            "mask": mask,
            "state": photo.state,
            "status": photo.status,
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
            if shape is not None:  # an empty mask has no annotation, as COCO has it
                annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": 1, **shape})
        info = {"description": f"napari-skinseg {version('napari-skinseg')}", "date_created": _now()}
        return {"info": info, "images": images, "annotations": annotations, "categories": _CATEGORIES}

    def _metadata(self) -> str:
        """Groups for `train`: photos with one content are one lesion, whatever the metadata knows."""
        contents = Counter(job.photo.sha256 for job in self.jobs)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["id", "lesion_group", "diagnosis", "status"])
        for job in self.jobs:
            photo = job.photo
            same = f"same-{photo.sha256[:12]}" if contents[photo.sha256] > 1 else ""
            writer.writerow([job.name, photo.lesion_group or same, photo.diagnosis, photo.status])
        return text.getvalue()

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
    """Each photo with a name for its files: its own, or its id where that would not be unique."""
    names = Counter(photo.path.stem.casefold() for photo in photos)
    return [_Job(photo, photo.path.stem if names[photo.path.stem.casefold()] == 1 else photo.id) for photo in photos]


def _earlier_files(out: Path) -> list[str]:
    """What an earlier export wrote into `out`; raises `BadInput` if anybody else did."""
    try:
        inside = list(out.iterdir()) if out.exists() else []
        if not inside:
            return []
        names = json.loads((out / EXPORT_MARK).read_text(encoding="utf-8"))["files"]
        # Only plain names below the folder: a mark from elsewhere must not have files removed from elsewhere.
        return [name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{out} holds other files than an export's; choose a new or empty folder.") from error


def _place(photo: Path, target: Path, *, link: bool) -> None:
    """Put a photo at `target`, whole or not at all."""
    if link:
        # Not through `atomic`, which would set the rights of the file: of a link, that is the photo itself.
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(photo)
            return
        except OSError:
            pass  # another disk, or a file system without hard links
    with atomic(target) as temporary:
        shutil.copyfile(photo, temporary)


def _cell(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)


def _now() -> str:
    return f"{datetime.now():%Y-%m-%d %H:%M:%S}"
