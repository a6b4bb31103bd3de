"""Validation of the rows of a project at opening: a project may come from a stranger, so no value is trusted.

Ids and file names become parts of the paths that are written. Without these checks, a path in their place makes the
program overwrite files outside the project.
"""

import json
import math
import os
import re
from collections.abc import Callable
from typing import get_args

from napari_skinseg.pixels.image import MAX_PIXELS

from .mask_files import MASK_ENDING, is_plain_name
from .records import Status
from .store import Store, damaged

_HASH = re.compile(r"[0-9a-f]{64}")
_MAX_ID = 400  # bytes
_MAX_PATH = 2000  # characters

Check = Callable[[object], bool]


def validate_rows(store: Store) -> None:
    """Check every value in the tables of a project.

    Raises:
        ProjectDamaged: a value cannot come from this program; the sentence names the first one.
        BadInput: the tables cannot be read.
    """
    for table, checks in _TABLES.items():
        for row in store.rows(f"SELECT * FROM {table}"):  # noqa: S608 - our names
            for column, is_valid in checks.items():
                if not is_valid(row[column]):
                    raise damaged(store.path, f"the table {table} holds an invalid {column}: {row[column]!r:.80}")
            if table == "photos":
                if row["height"] * row["width"] > MAX_PIXELS:
                    raise damaged(store.path, f"{row['id']} has an invalid size: {row['height']} x {row['width']}")
                predicted = rf"{re.escape(row['id'])}-[0-9a-f]{{8}}{re.escape(MASK_ENDING)}"
                if row["predicted_file"] and not re.fullmatch(predicted, row["predicted_file"]):
                    raise damaged(
                        store.path, f"{row['id']} has an invalid predicted_file: {row['predicted_file']!r:.80}"
                    )
            elif table == "facts" and not _is_fact(row["name"], row["value"]):
                raise damaged(store.path, f"the fact {row['name']!r:.80} has an invalid value: {row['value']!r:.80}")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_integer(value: object) -> bool:
    return isinstance(value, int)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and value > 0


def _is_flag(value: object) -> bool:
    return value in (0, 1)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


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


def _is_hash_or_empty(value: object) -> bool:
    return value == "" or _is_hash(value)


def _is_fraction_or_null(value: object) -> bool:
    return value is None or (_is_number(value) and 0 <= value <= 1)  # type: ignore[operator]


def _is_number_or_null(value: object) -> bool:
    return value is None or _is_number(value)


def _is_scale(value: object) -> bool:
    return value is None or (_is_number(value) and value > 0)  # type: ignore[operator]


def _is_status(value: object) -> bool:
    return value in get_args(Status)


def _is_status_or_empty(value: object) -> bool:
    return value == "" or _is_status(value)


def _is_scale_line(value: object) -> bool:
    """Whether a value is "" or JSON [[row, column], [row, column], mm]."""
    if value == "":
        return True
    try:
        start, end, mm = json.loads(value)  # type: ignore[arg-type]
        (row, column), (end_row, end_column) = start, end
    except (TypeError, ValueError, RecursionError):
        return False
    return all(map(_is_number, (row, column, end_row, end_column, mm))) and mm > 0


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
        "number": _is_integer,
        "id": _is_id,
        "path": _is_photo_path,
        "sha256": _is_hash,
        "bytes": _is_count,
        "mtime_ns": _is_integer,
        "height": _is_positive,
        "width": _is_positive,
        "state": lambda value: value in ("here", "missing", "replaced"),
        "lesion_group": _is_text,
        "diagnosis": _is_text,
        "status": _is_status,
        "note": _is_text,
        "reader": _is_text,
        "changed_at": _is_text,
        "seconds": _is_number,
        "seen": _is_flag,
        "blind": _is_flag,
        "mask_sha256": _is_hash_or_empty,
        "mask_bytes": _is_count,
        "mask_mtime_ns": _is_integer,
        "dice": _is_fraction_or_null,
        "predicted_file": _is_text,
        "model": _is_text,
        "model_version": _is_text,
        "confidence": _is_fraction_or_null,
        "doubt": _is_number_or_null,
        "doubt_reason": _is_text,
        "lesion_share": _is_fraction_or_null,
        "stale": _is_text,
        "mm_per_px": _is_scale,
        "scale_line": _is_scale_line,
        "scale_from": _is_text,
    },
    "log": {
        "number": _is_integer,
        "photo": _is_text,
        "time": _is_text,
        "reader": _is_text,
        "action": _is_text,
        "status_before": _is_status_or_empty,
        "status": _is_status,
        "note_before": _is_text,
        "note": _is_text,
        "model": _is_text,
        "model_version": _is_text,
        "seconds": _is_number,
        "takes_back": lambda value: value is None or isinstance(value, int),
    },
}
