"""What a project says of a photo and of a decision, and the few SQL statements that rooms of the project share."""

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from .mask_files import Fingerprint
from .store import STATUSES

Status = Literal["new", "predicted", "corrected", "accepted", "skipped", "issue"]
REVIEWED = STATUSES[2:]
"""The statuses that a person gave; *new* and *predicted* are still open."""

Line = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Photo:
    """A photo of a project as it stands.

    Attributes:
        id: name of its files, unique.
        project: the project's folder.
        relative: where the photo is from there, with forward slashes; `path` is the same as a path.
        state: "missing" if it was not found by the last scan, "replaced" if another picture took its name.
        mask_sha256: of the mask that a person drew or accepted, in the file `mask_path`; empty if there is none.
        dice: agreement of the model's mask with the person's; None without both.
        model, model_version, confidence: of the stored prediction; empty without one.
        doubt, doubt_reason: see `review_queue.doubt`; None without a prediction.
        lesion_share: of the photo that the model's mask takes; 0 = it found no lesion, None without a prediction.
        stale: name of a newer model whose mask was not let near a person's work, else empty.
        changed_at: when a person last changed or decided something, "2026-02-03 14:02:09"; empty if never.
        seconds: that persons spent on it.
        blind: to be drawn without seeing the prediction.
        mm_per_px: None if not known; `scale_line` is the line that says so, and `scale_mm` its length.
        scale_from: id of the photo on which the line was drawn; empty if it was this one.
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

    # Paths are made when asked for: ten thousand of them cost half a second, and a table needs none.

    @property
    def path(self) -> Path:
        """Where the photo is."""
        return self.project / self.relative

    @property
    def mask_path(self) -> Path:
        """Where the person's mask is, if there is one."""
        return self.project / "masks" / f"{self.id}_segmentation.png"

    @property
    def name(self) -> str:
        """The file's name."""
        return self.relative.rpartition("/")[2]

    @property
    def has_mask(self) -> bool:
        """Whether a person drew or accepted a mask."""
        return bool(self.mask_sha256)

    @property
    def reviewed(self) -> bool:
        """Whether a person has dealt with it."""
        return self.status in REVIEWED

    @property
    def changed(self) -> bool:
        """Whether the person's mask differs from the model's, or there is no model's."""
        return self.has_mask and self.dice != 1.0

    @property
    def hides_prediction(self) -> bool:
        """Whether the prediction must not be shown yet: the photo is of the blind sample and not drawn."""
        return self.blind and not self.has_mask


@dataclass(frozen=True)
class Decision:
    """One line of the log: who did what to a photo, and when."""

    number: int
    photo: str
    time: str
    reader: str
    action: str
    status_before: str
    status: str
    note: str
    model: str
    model_version: str
    seconds: float
    takes_back: int | None


def photo_of(row: sqlite3.Row, folder: Path) -> Photo:
    """The `Photo` of a row of the table `photos`."""
    line = json.loads(row["scale_line"]) if row["scale_line"] else None
    return Photo(
        id=row["id"],
        project=folder,
        relative=row["path"],
        shape=(row["height"], row["width"]),
        state=row["state"],
        status=row["status"],
        note=row["note"],
        mask_sha256=row["mask_sha256"],
        dice=row["dice"],
        model=row["model"],
        model_version=row["model_version"],
        confidence=row["confidence"],
        doubt=row["doubt"],
        doubt_reason=row["doubt_reason"],
        lesion_share=row["lesion_share"],
        stale=row["stale"],
        reader=row["reader"],
        changed_at=row["changed_at"],
        seconds=row["seconds"],
        seen=bool(row["seen"]),
        blind=bool(row["blind"]),
        mm_per_px=row["mm_per_px"],
        scale_line=((line[0][0], line[0][1]), (line[1][0], line[1][1])) if line else None,
        scale_mm=line[2] if line else None,
        scale_from=row["scale_from"],
        lesion_group=row["lesion_group"],
        diagnosis=row["diagnosis"],
        sha256=row["sha256"],
        predicted_file=row["predicted_file"],
    )


def decision_of(row: sqlite3.Row) -> Decision:
    """The `Decision` of a row of the table `log`."""
    return Decision(**{name: row[name] for name in Decision.__dataclass_fields__})


def now() -> str:
    """Local time as it is stored: it sorts and a person can read it."""
    return f"{datetime.now():%Y-%m-%d %H:%M:%S}"


def update(connection: sqlite3.Connection, photo: str, **values: object) -> None:
    """Set columns of a photo's row."""
    names = ", ".join(f"{name} = :{name}" for name in values)
    connection.execute(f"UPDATE photos SET {names} WHERE id = :id", {**values, "id": photo})  # noqa: S608 - our names


def mask_columns(found: Fingerprint | None) -> dict[str, object]:
    """The columns that say which mask file belongs to a row; None: there is none."""
    if found is None:
        return {"mask_sha256": "", "mask_bytes": 0, "mask_mtime_ns": 0}
    return {"mask_sha256": found.sha256, "mask_bytes": found.bytes, "mask_mtime_ns": found.mtime_ns}


def write_log(connection: sqlite3.Connection, photo: str, reader: str, action: str, **values: object) -> None:
    """Add a line to the log; `status_before` and `status` are looked up where they are not given."""
    status = connection.execute("SELECT status FROM photos WHERE id = ?", (photo,)).fetchone()[0]
    line = {"status_before": status, "status": status, **values}
    line |= {"photo": photo, "reader": reader, "action": action, "time": now()}
    names = ", ".join(line)
    marks = ", ".join(f":{name}" for name in line)
    connection.execute(f"INSERT INTO log ({names}) VALUES ({marks})", line)  # noqa: S608 - our names


def set_fact(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Set one of the project's facts."""
    connection.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (name, value))
