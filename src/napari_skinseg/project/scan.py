"""The scan of photo folders: it finds the new, known, moved, replaced and missing photos of a project."""

import hashlib
import os
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, Event, OnEvent
from napari_skinseg.pixels.image import read_size
from napari_skinseg.read_ahead import in_batches, read_ahead

from .blind_sample import is_sampled, sample_settings
from .mask_files import MaskFiles, fingerprint
from .records import insert, is_below, mask_columns, relative_path, update, write_log
from .store import Store

BATCH_SIZE = 256
"""Photos per transaction."""


@dataclass(frozen=True)
class ScanOutcome:
    """The result of a scan. Every field but `unreadable` holds ids of photos.

    Attributes:
        unreadable: (file, sentence) for each file that cannot be read as a photo.
        added: new in the project.
        known: unchanged since the last scan.
        relinked: moved or renamed; recognised by their content, with all their work.
        replaced: another picture has their name now; their masks are kept, and the new picture was added.
        missing: in the project, but not found.
        adopted: added, and their mask was in the project's folder already.
        duplicates: added, although another photo has the same content.
    """

    unreadable: tuple[tuple[Path, str], ...]
    added: tuple[str, ...]
    known: tuple[str, ...]
    relinked: tuple[str, ...]
    replaced: tuple[str, ...]
    missing: tuple[str, ...]
    adopted: tuple[str, ...]
    duplicates: tuple[str, ...]

    def in_words(self) -> str:
        """A summary in one line."""
        parts = [f"{len(self.added) + len(self.known) + len(self.relinked):,} photos"]
        for name in ("added", "relinked", "replaced", "missing", "adopted", "duplicates", "unreadable"):
            if number := len(getattr(self, name)):
                parts.append(f"{number:,} {name}")
        return ", ".join(parts) + "."


class _PhotoFile(NamedTuple):
    """A file as a thread read it; `problem` says why it cannot be read as a photo, else it is empty."""

    case: Case
    relative: str
    shape: tuple[int, int] = (0, 0)
    sha256: str = ""
    bytes: int = 0
    mtime_ns: int = 0
    problem: str = ""


class Scan:
    """One scan. Threads read the files, and rows are written in batches: a cancelled scan keeps the written batches.

    Args:
        store, files, folder: of the project.
        reader: name for the log.
        add: add photos that the project does not know; without it, only known photos are linked again.
    """

    def __init__(self, store: Store, files: MaskFiles, folder: Path, reader: str, *, add: bool = True) -> None:
        self.store, self.files, self.folder, self.reader, self.add = store, files, folder, reader, add
        self.rows = {row["id"]: row for row in store.rows("SELECT * FROM photos ORDER BY number")}
        self.by_path: dict[str, list[sqlite3.Row]] = defaultdict(list)
        self.by_content: dict[str, list[sqlite3.Row]] = defaultdict(list)
        for row in self.rows.values():
            self.by_path[row["path"]].append(row)
            self.by_content[row["sha256"]].append(row)
        self.found: set[str] = set()  # ids of the photos whose file this scan found
        self.result: dict[str, list[str]] = defaultdict(list)
        self.unreadable: list[tuple[Path, str]] = []

    def run(
        self, cases: Iterable[Case], on_event: OnEvent, cancel: CancelToken, root: Path | None = None
    ) -> ScanOutcome:
        """Scan the photos `cases`; with `root`, photos below it that are not among them become missing."""
        cases = list(cases)
        total = len(cases)
        to_read = self._skip_unchanged(cases)
        self.without_file = {row["id"] for row in self.rows.values() if self._has_no_file(row)}
        self.masks = self.files.photos_with_mask() if self.add else {}
        if not self.add:  # only a file of the same length can be a photo that is missing
            lengths = {self.rows[photo]["bytes"] for photo in self.without_file}
            to_read = [(case, relative) for case, relative in to_read if _length(case.image) in lengths]
        done = total - len(to_read)
        on_event(Event("scan", done, total))
        files = (future.result() for _, future in read_ahead(_read, to_read, ahead=BATCH_SIZE, cancel=cancel))
        for batch in in_batches(files, BATCH_SIZE):
            with self.store.write() as connection:
                for file in batch:
                    self._take(connection, file)
            done += len(batch)
            on_event(Event("scan", done, total, batch[-1].relative))
        if self.add:
            self._mark_missing(root)
        names = ("added", "known", "relinked", "replaced", "missing", "adopted", "duplicates")
        return ScanOutcome(tuple(self.unreadable), **{name: tuple(self.result[name]) for name in names})

    def _skip_unchanged(self, cases: list[Case]) -> list[tuple[Case, str]]:
        """The files that must be read: all whose size or time is not the one in the project."""
        to_read, returned = [], []
        for case in cases:
            relative = relative_path(case.image, self.folder)
            rows = [row for row in self.by_path.get(relative, ()) if row["state"] != "replaced"]
            try:
                entry = case.image.stat()
            except OSError:
                entry = None
            if entry and rows and (entry.st_size, entry.st_mtime_ns) == (rows[0]["bytes"], rows[0]["mtime_ns"]):
                self.found.add(rows[0]["id"])
                self.result["known"].append(rows[0]["id"])
                if rows[0]["state"] != "here":
                    returned.append(rows[0]["id"])
            else:
                to_read.append((case, relative))
        if returned:
            with self.store.write() as connection:
                for photo in returned:
                    update(connection, photo, state="here")
        return to_read

    def _has_no_file(self, row: sqlite3.Row) -> bool:
        return row["id"] not in self.found and (
            row["state"] == "replaced" or not os.path.exists(self.folder / row["path"])  # noqa: PTH110 - never raises
        )

    def _take(self, connection: sqlite3.Connection, file: _PhotoFile) -> None:
        if file.problem:
            self.unreadable.append((file.case.image, file.problem))
            return
        same_content = [row for row in self.by_content.get(file.sha256, ()) if row["id"] not in self.found]
        in_place = next((row for row in same_content if row["path"] == file.relative), None)
        moved = next((row for row in same_content if row["id"] in self.without_file), None)
        row = in_place or moved
        if row is None and not self.add:
            return
        for old in self.by_path.get(file.relative, ()):
            if old["id"] != (row["id"] if row else "") and old["state"] != "replaced" and old["id"] not in self.found:
                update(connection, old["id"], state="replaced")
                self.result["replaced"].append(old["id"])
                self.without_file.add(old["id"])
        if row is None:
            self._insert(connection, file)
            return
        self.found.add(row["id"])
        self.result["known" if in_place else "relinked"].append(row["id"])
        values = {"path": file.relative, "bytes": file.bytes, "mtime_ns": file.mtime_ns, "state": "here"}
        update(connection, row["id"], **values)
        if not in_place:
            write_log(connection, row["id"], self.reader, "relinked", note=f"{row['path']} -> {file.relative}")

    def _insert(self, connection: sqlite3.Connection, file: _PhotoFile) -> None:
        photo = self._new_id(file)
        has_mask = photo in self.masks and self.files.is_readable(photo, file.shape)
        mask = fingerprint(self.files.path(photo)) if has_mask else None
        columns: dict[str, object] = {
            "id": photo,
            "path": file.relative,
            "sha256": file.sha256,
            "bytes": file.bytes,
            "mtime_ns": file.mtime_ns,
            "height": file.shape[0],
            "width": file.shape[1],
            "lesion_group": file.case.group,
            "diagnosis": file.case.diagnosis,
            "status": "corrected" if has_mask else "new",
            "blind": is_sampled(photo, *sample_settings(connection)) and not has_mask,
        }
        insert(connection, "photos", columns | mask_columns(mask))
        write_log(connection, photo, self.reader, "added", status_before="")
        if self.by_content.get(file.sha256):
            self.result["duplicates"].append(photo)
        row = connection.execute("SELECT * FROM photos WHERE id = ?", (photo,)).fetchone()
        self.rows[photo] = row
        self.by_path[file.relative].append(row)
        self.by_content[file.sha256].append(row)
        self.found.add(photo)
        self.result["added"].append(photo)
        if has_mask:
            self.result["adopted"].append(photo)

    def _new_id(self, file: _PhotoFile) -> str:
        """A readable id that depends only on the path and the content, and is unique in the project."""
        stem = re.sub(r"[^\w.-]+", "_", file.case.image.stem)[:80].strip("._") or "photo"
        stem = stem.encode()[:160].decode(errors="ignore")  # file names are limited to 255 bytes
        digest = hashlib.sha256(f"{file.relative}\0{file.sha256}".encode()).hexdigest()
        return next(photo for length in range(8, 65, 8) if (photo := f"{stem}-{digest[:length]}") not in self.rows)

    def _mark_missing(self, root: Path | None) -> None:
        missing = [
            photo
            for photo in sorted(self.without_file - self.found)
            if self.rows[photo]["state"] == "here"
            and photo not in self.result["replaced"]
            and (root is not None and is_below(self.rows[photo]["path"], self.folder, root))
        ]
        if missing:
            with self.store.write() as connection:
                for photo in missing:
                    update(connection, photo, state="missing")
        self.result["missing"] += missing


def _read(item: tuple[Case, str]) -> _PhotoFile:
    case, relative = item
    try:
        shape = read_size(case.image)
        with case.image.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            entry = os.fstat(file.fileno())
    except BadInput as error:
        return _PhotoFile(case, relative, problem=str(error))
    except OSError as error:
        return _PhotoFile(case, relative, problem=f"{case.image} cannot be opened ({error.strerror or error}).")
    return _PhotoFile(case, relative, shape, sha256, entry.st_size, entry.st_mtime_ns)


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
