"""Validation of the rows of a project at opening: a project may come from an unknown person, so no value is trusted.

Ids and file names become parts of the paths that are written. Without these checks, a path in their place makes the
program overwrite files outside the project.
"""

import json
import math
import os
import re
import sqlite3
from collections.abc import Callable

from napari_skinseg.pixels.image import MAX_PIXELS
from napari_skinseg.pixels.mask import MASK_ENDING

from .mask_files import is_plain_name

STATUSES = ("new", "predicted", "corrected", "accepted", "skipped", "issue")

_HASH = re.compile(r"[0-9a-f]{64}")
_PREDICTED = re.compile(rf"[0-9a-f]{{8}}{re.escape(MASK_ENDING)}")
_MAX_ID = 400  # bytes
_MAX_PATH = 2000  # characters

Check = Callable[[object], bool]


def find_invalid(connection: sqlite3.Connection) -> str:
    """Check every value in the tables of a project; describe the first one that this program never writes, else ""."""
    for table, checks in _TABLES.items():
        for column, is_valid in checks.items():
            for (value,) in connection.execute(f"SELECT DISTINCT {column} FROM {table}"):  # noqa: S608 - our names
                if not is_valid(value):
                    return f"the table {table} holds an invalid {column}: {value!r:.80}"
    for photo, height, width, file in connection.execute("SELECT id, height, width, predicted_file FROM photos"):
        if height * width > MAX_PIXELS:
            return f"{photo} has an invalid size: {height} x {width}"
        if file and not (file.startswith(f"{photo}-") and _PREDICTED.fullmatch(file, len(photo) + 1)):
            return f"{photo} has an invalid predicted_file: {file!r:.80}"
    for name, value in connection.execute("SELECT name, value FROM facts"):
        if not _is_fact(name, value):
            return f"the fact {name!r:.80} has an invalid value: {value!r:.80}"
    return ""


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and is_plain_name(value) and len(value.encode()) <= _MAX_ID


def _is_path(value: object) -> bool:
    """Whether a value can be a path; photos are only read, so they may lie outside the project."""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_PATH or "\0" in value:
        return False
    if all(len(part.encode()) <= 255 for part in value.split("/")):
        return True
    try:  # some file systems take longer names
        os.stat(value)  # noqa: PTH116 - not a path of this process's folder
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _is_photo_path(value: object) -> bool:
    return _is_path(value) and str(value).rpartition("/")[2] not in ("", ".", "..")


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and bool(_HASH.fullmatch(value))


def _integer(low: float = -math.inf) -> Check:
    return lambda value: isinstance(value, int) and value >= low


def _number(low: float = -math.inf, high: float = math.inf) -> Check:
    return lambda value: isinstance(value, int | float) and math.isfinite(value) and low <= value <= high


def _one_of(*values: object) -> Check:
    return lambda value: value in values


def _either(value: object, check: Check) -> Check:
    """The check that a value is `value`, or passes `check`."""
    return lambda found: found == value or check(found)


def _is_scale_line(value: object) -> bool:
    """Whether a value is "" or JSON [[row, column], [row, column], mm]."""
    if value == "":
        return True
    try:
        start, end, mm = json.loads(value)  # type: ignore[arg-type]
        (row, column), (end_row, end_column) = start, end
    except (TypeError, ValueError, RecursionError):
        return False
    return all(map(_number(), (row, column, end_row, end_column, mm))) and mm > 0


def _is_fact(name: str, value: str) -> bool:
    try:
        if name == "roots":
            roots = json.loads(value)
            return isinstance(roots, list) and all(map(_is_path, roots))
        if name == "blind_share":
            return 0 <= float(value) <= 1
        if name == "blind_seed":
            int(value)
        if name == "unreadable":
            files = json.loads(value)
            return isinstance(files, list) and all(_is_photo_path(path) and _is_text(reason) for path, reason in files)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


_TABLES: dict[str, dict[str, Check]] = {
    "facts": {"name": _is_text, "value": _is_text},
    "photos": {
        "number": _integer(),
        "id": _is_id,
        "path": _is_photo_path,
        "sha256": _is_hash,
        "bytes": _integer(0),
        "mtime_ns": _integer(),
        "height": _integer(1),
        "width": _integer(1),
        "state": _one_of("here", "missing", "replaced"),
        "lesion_group": _is_text,
        "diagnosis": _is_text,
        "status": _one_of(*STATUSES),
        "note": _is_text,
        "reader": _is_text,
        "changed_at": _is_text,
        "seconds": _number(),
        "seen": _one_of(0, 1),
        "blind": _one_of(0, 1),
        "mask_sha256": _either("", _is_hash),
        "mask_bytes": _integer(0),
        "mask_mtime_ns": _integer(),
        "dice": _either(None, _number(0, 1)),
        "predicted_file": _is_text,
        "model": _is_text,
        "model_version": _is_text,
        "confidence": _either(None, _number(0, 1)),
        "doubt": _either(None, _number()),
        "doubt_reason": _is_text,
        "lesion_share": _either(None, _number(0, 1)),
        "stale": _is_text,
        "mm_per_px": _either(None, _number(1e-9)),
        "scale_line": _is_scale_line,
        "scale_from": _is_text,
    },
    "log": {
        "number": _integer(),
        "photo": _is_text,
        "time": _is_text,
        "reader": _is_text,
        "action": _is_text,
        "status_before": _one_of("", *STATUSES),
        "status": _one_of(*STATUSES),
        "note_before": _is_text,
        "note": _is_text,
        "model": _is_text,
        "model_version": _is_text,
        "seconds": _number(),
        "takes_back": _either(None, _integer()),
    },
}
