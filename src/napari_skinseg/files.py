"""Write files atomically: a crash, a full disk or a cancelled action never leaves an incomplete file."""

import csv
import errno
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import BadInput

_TEMPORARY = re.compile(r"\.(?P<stem>.+)-[a-z0-9_]{8}(?P<suffix>\.\w+)")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # owasp.org/www-community/attacks/CSV_Injection


class DiskFull(BadInput):
    """A file could not be written, because the disk or the quota of the user is full."""


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`.

    On success the temporary file is flushed to disk and renamed to `path`; after an error it is removed. Its name keeps
    the suffix of `path`, because image writers choose the format by the suffix, and starts with a dot, so that programs
    which list the folder ignore the file.

    Raises:
        BadInput: the folder is missing, read-only or full.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # mkstemp creates private files; the finished file gets the permissions of the user's umask.
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def not_written(path: str | Path, error: OSError) -> BadInput:
    """Return the error of a file that could not be written; the caller raises it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"{path} could not be written, because the disk is full; free some space, then try again.")
    return BadInput(f"{path} could not be written ({error.strerror or error}); choose another folder.")


def target_of(path: Path) -> Path | None:
    """Return the file that a temporary file of `atomic` was made for; None if `path` is another file."""
    parts = _TEMPORARY.fullmatch(path.name)
    return path.with_name(parts["stem"] + parts["suffix"]) if parts else None


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically.

    Raises:
        BadInput: the file cannot be written; an earlier file of this name is kept.
    """
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically.

    Raises:
        BadInput: the file cannot be written; an earlier file of this name is kept.
        ValueError: `content` contains NaN or infinity, which JSON does not have.
    """
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


Cell = str | int | float | bool | None
"""A value in a table; None means "not measured"."""


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a table as CSV in UTF-8, atomically.

    None is written as a blank cell, a bool as "true" or "false", a float with six significant digits.

    Raises:
        BadInput: the file cannot be written; an earlier file of this name is kept.
    """
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([to_cell(value) for value in row] for row in rows)


def to_cell(value: Cell) -> str:
    """Return the text of a value in a table, see `write_csv`."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def escape_formula(text: str) -> str:
    """Return a text for a cell: spreadsheets calculate what begins with =, +, - or @, but not with an apostrophe."""
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) else text


def unescape_formula(cell: str) -> str:
    """Return the text of a cell that `escape_formula` made."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA) else cell


def make_output_folder(path: str | Path) -> Path:
    """Create the folder `path` if it does not exist, check that it is writable, and return it.

    Raises:
        BadInput: `path` is a file, or the folder cannot be created or written to.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise not_written(path, error) from error
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
