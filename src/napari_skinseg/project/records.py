"""The rows of the table of photos as `Photo`, and the SQL statements that several modules use."""

import json
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from napari_skinseg.pixels.mask import MASK_ENDING

from .mask_files import Fingerprint
from .validation import STATUSES

Status = Literal["new", "predicted", "corrected", "accepted", "skipped", "issue"]
REVIEWED = STATUSES[2:]
"""The statuses that a person gives; *new* and *predicted* photos are not reviewed yet."""

Line = tuple[tuple[float, float], tuple[float, float]]
"""The ends of a line, each (row, column) in pixels."""

UNFINISHED = """status = 'corrected' AND ifnull((
    SELECT action FROM log WHERE log.photo = photos.id AND action IN ('paint', 'accept', 'decide', 'take back')
    ORDER BY number DESC LIMIT 1
), '') IN ('paint', 'take back')"""
"""SQL condition on the table `photos`, see `Photo.unfinished`: the six statuses of a photo do not say this."""


@dataclass(frozen=True)
class Photo:
    """A photo of a project, as its row was when it was read.

    Attributes:
        id: unique; the names of the photo's files begin with it.
        project: the project's folder.
        relative: path of the photo relative to the project's folder, with forward slashes; `path` is the full path.
        shape: (height, width) in pixels.
        state: "here"; "missing" if the last scan did not find it; "replaced" if another picture has its name now.
        mask_sha256: SHA-256 of the mask that a person drew or accepted, the file `mask_path`; empty without a mask.
        dice: Dice between the model's mask and the person's; None unless there are both.
        model, model_version, confidence: of the stored prediction; empty or None without one.
        doubt, doubt_reason: see `queue.doubt`; None without a prediction.
        lesion_share: fraction of the photo that the model's mask covers; 0 = it found no lesion, None without a
            prediction.
        stale: name of a newer model whose mask was refused because a person worked on this photo; else empty.
        reader: who changed or decided something last.
        changed_at: when that was, "2026-02-03 14:02:09"; empty if never.
        seconds: time that persons spent on the photo.
        seen: whether a person has opened it.
        blind: whether it is in the blind sample: its mask is drawn without seeing the prediction.
        mm_per_px: scale, None if not known.
        scale_line, scale_mm: the line that the scale comes from, in pixels, and its length in mm; None without one.
        scale_from: id of the photo on which the line was drawn; empty if it was this one.
        lesion_group, diagnosis: from the metadata table; empty if not known.
        sha256: of the photo's file.
        predicted_file: name of the model's mask below `masks/predicted`; empty without one.
        unfinished: whether a person changed the mask after the last decision, so that the photo is still open.
    """

    id: str
    project: Path
    relative: str
    shape: tuple[int, int]
    state: str
    status: Status
    note: str
    mask_sha256: str
    dice: float | None
    model: str
    model_version: str
    confidence: float | None
    doubt: float | None
    doubt_reason: str
    lesion_share: float | None
    stale: str
    reader: str
    changed_at: str
    seconds: float
    seen: bool
    blind: bool
    mm_per_px: float | None
    scale_line: Line | None
    scale_mm: float | None
    scale_from: str
    lesion_group: str
    diagnosis: str
    sha256: str
    predicted_file: str
    unfinished: bool

    # Paths are built on request: building ten thousand of them takes half a second, and a table needs none.

    @property
    def path(self) -> Path:
        """Full path of the photo."""
        return self.project / self.relative

    @property
    def mask_path(self) -> Path:
        """Path of the person's mask; the file exists if `has_mask`."""
        return self.project / "masks" / f"{self.id}{MASK_ENDING}"

    @property
    def name(self) -> str:
        """File name of the photo."""
        return self.relative.rpartition("/")[2]

    @property
    def has_mask(self) -> bool:
        """Whether a person drew or accepted a mask."""
        return bool(self.mask_sha256)

    @property
    def reviewed(self) -> bool:
        """Whether a person has finished with it."""
        return self.status in REVIEWED and not self.unfinished

    @property
    def changed(self) -> bool:
        """Whether a person's mask exists that is not exactly the model's mask."""
        return self.has_mask and self.dice != 1.0

    def awaits_prediction(self, model: str, version: str) -> bool:
        """Whether this model shall predict the photo.

        True without a prediction, and if another model predicted it and nobody has worked on it since.
        """
        untouched = self.status == "predicted" and not self.has_mask
        return not self.predicted_file or (untouched and (self.model, self.model_version) != (model, version))

    @property
    def hides_prediction(self) -> bool:
        """Whether the prediction must stay hidden: the photo is in the blind sample and has no person's mask yet."""
        return self.blind and not self.has_mask


_CONVERTED = ("project", "relative", "shape", "seen", "blind", "unfinished", "scale_line", "scale_mm")
_AS_STORED = tuple(name for name in Photo.__dataclass_fields__ if name not in _CONVERTED)


def photo_of(row: sqlite3.Row, folder: Path) -> Photo:
    """The `Photo` of a row of the table `photos`."""
    line = json.loads(row["scale_line"]) if row["scale_line"] else None
    return Photo(
        **{name: row[name] for name in _AS_STORED},
        project=folder,
        relative=row["path"],
        shape=(row["height"], row["width"]),
        seen=bool(row["seen"]),
        blind=bool(row["blind"]),
        unfinished=bool(row["unfinished"]),
        scale_line=((line[0][0], line[0][1]), (line[1][0], line[1][1])) if line else None,
        scale_mm=line[2] if line else None,
    )


def now() -> str:
    """Local time as text that sorts by time, e.g. "2026-02-03 14:02:09"."""
    return f"{datetime.now():%Y-%m-%d %H:%M:%S}"


def update(connection: sqlite3.Connection, photo: str, **values: object) -> None:
    """Set columns of a photo's row."""
    names = ", ".join(f"{name} = :{name}" for name in values)
    connection.execute(f"UPDATE photos SET {names} WHERE id = :id", {**values, "id": photo})  # noqa: S608 - our names


def mask_columns(found: Fingerprint | None) -> dict[str, object]:
    """The values of the columns that describe the mask file of a photo; None = no mask."""
    if found is None:
        return {"mask_sha256": "", "mask_bytes": 0, "mask_mtime_ns": 0}
    return {"mask_sha256": found.sha256, "mask_bytes": found.bytes, "mask_mtime_ns": found.mtime_ns}


def write_log(connection: sqlite3.Connection, photo: str, reader: str, action: str, **values: object) -> None:
    """Add a row to the log; `status_before` and `status` default to the photo's present status."""
    status = connection.execute("SELECT status FROM photos WHERE id = ?", (photo,)).fetchone()[0]
    row = {"status_before": status, "status": status, **values}
    row |= {"photo": photo, "reader": reader, "action": action, "time": now()}
    insert(connection, "log", row)


def insert(connection: sqlite3.Connection, table: str, row: Mapping[str, object]) -> None:
    """Add a row to a table."""
    marks = ", ".join(f":{name}" for name in row)
    connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", row)  # noqa: S608 - our names


def set_fact(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Set a fact: a named value of the whole project, e.g. the folders that were scanned."""
    connection.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (name, value))


def relative_path(path: Path, folder: Path) -> str:
    """`path` relative to `folder`, with forward slashes; absolute if both are on different drives of Windows."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return path.as_posix()


def is_below(relative: str, folder: Path, root: Path) -> bool:
    """Whether the path `relative` to `folder` lies below the folder `root`; both folders are absolute."""
    return Path(os.path.normpath(folder / relative)).is_relative_to(root)
