"""Finding the photos of a project: new ones, known ones, moved ones, replaced ones."""

import hashlib
import os
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, Event, OnEvent, raise_if_cancelled
from napari_skinseg.pixels.image import read_size

from .mask_files import MaskFiles, fingerprint
from .records import mask_columns, update, write_log
from .store import STATUSES, Store

_BATCH = 256  # photos per transaction, and per look at the cancel token


@dataclass(frozen=True)
class ScanOutcome:
    """What a scan found; every field but `unreadable` holds ids.

    Attributes:
        unreadable: (file, sentence) of what is no photo.
        added: new to the project.
        known: unchanged since the last scan.
        relinked: moved or renamed since; found by their content, with all their work.
        replaced: another picture has their name now; they keep their masks, the new picture was added.
        missing: in the project, but not to be found.
        adopted: added, with a mask that was lying in the project already.
        duplicates: added although another photo has the same content.
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
        """One line for a person."""
        parts = [f"{len(self.added) + len(self.known) + len(self.relinked):,} photos"]
        for name in ("added", "relinked", "replaced", "missing", "adopted", "duplicates", "unreadable"):
            if number := len(getattr(self, name)):
                parts.append(f"{number:,} {name}")
        return ", ".join(parts) + "."


class _Found(NamedTuple):
    """What a file is, read in a thread; `sentence` says why it is no photo."""

    case: Case
    relative: str
    shape: tuple[int, int] = (0, 0)
    sha256: str = ""
    bytes: int = 0
    mtime_ns: int = 0
    sentence: str = ""


class Scan:
    """One scan. Photos are read by threads, rows written in batches; a cancelled scan keeps what it found.

    Args:
        store, files, folder: of the project.
        reader: for the log.
        add: take up photos that the project does not know; without it only known ones are linked again.
    """

    def __init__(self, store: Store, files: MaskFiles, folder: Path, reader: str, *, add: bool = True) -> None:
        self.store, self.files, self.folder, self.reader, self.add = store, files, folder, reader, add
        self.rows = {row["id"]: row for row in store.rows("SELECT * FROM photos ORDER BY number")}
        self.by_path: dict[str, list[sqlite3.Row]] = defaultdict(list)
        self.by_content: dict[str, list[sqlite3.Row]] = defaultdict(list)
        for row in self.rows.values():
            self.by_path[row["path"]].append(row)
            self.by_content[row["sha256"]].append(row)
        self.placed: set[str] = set()  # ids whose file was found in this scan
        self.result: dict[str, list[str]] = defaultdict(list)
        self.unreadable: list[tuple[Path, str]] = []

    def run(
        self, cases: Iterable[Case], on_event: OnEvent, cancel: CancelToken, root: Path | None = None
    ) -> ScanOutcome:
        """Take up `cases`; with `root`, what the project has below it and was not found becomes missing."""
        cases = list(cases)
        total = len(cases)
        todo = self._known(cases)
        self.gone = {row["id"] for row in self.rows.values() if self._is_gone(row)}
        self.masks = self.files.ids() if self.add else {}
        if not self.add:  # only a file of the same length can be one that is looked for
            lengths = {self.rows[one]["bytes"] for one in self.gone}
            todo = [(case, relative) for case, relative in todo if _length(case.image) in lengths]
        done = total - len(todo)
        on_event(Event("scan", done, total))
        pool = ThreadPoolExecutor(max_workers=min(8, 2 * (os.cpu_count() or 1)))
        try:
            work = iter(todo)
            ahead = [pool.submit(_look, *one) for one in islice(work, _BATCH)]
            while ahead:
                raise_if_cancelled(cancel)
                # The next batch is read while this one is written.
                batch, ahead = ahead, [pool.submit(_look, *one) for one in islice(work, _BATCH)]
                found = [future.result() for future in batch]
                with self.store.write() as connection:
                    for one in found:
                        self._take(connection, one)
                done += len(found)
                on_event(Event("scan", done, total, found[-1].relative))
        finally:
            pool.shutdown(cancel_futures=True)
        if self.add:
            self._mark_missing(root)
        names = ("added", "known", "relinked", "replaced", "missing", "adopted", "duplicates")
        return ScanOutcome(tuple(self.unreadable), **{name: tuple(self.result[name]) for name in names})

    def _known(self, cases: list[Case]) -> list[tuple[Case, str]]:
        """What must be read: all but the files whose length and time are as they were."""
        todo, back = [], []
        for case in cases:
            relative = relative_path(case.image, self.folder)
            rows = [row for row in self.by_path.get(relative, ()) if row["state"] != "replaced"]
            try:
                found = case.image.stat()
            except OSError:
                found = None
            if found and rows and (found.st_size, found.st_mtime_ns) == (rows[0]["bytes"], rows[0]["mtime_ns"]):
                self.placed.add(rows[0]["id"])
                self.result["known"].append(rows[0]["id"])
                if rows[0]["state"] != "here":
                    back.append(rows[0]["id"])
            else:
                todo.append((case, relative))
        if back:
            with self.store.write() as connection:
                for one in back:
                    update(connection, one, state="here")
        return todo

    def _is_gone(self, row: sqlite3.Row) -> bool:
        return row["id"] not in self.placed and (row["state"] == "replaced" or not (self.folder / row["path"]).exists())

    def _take(self, connection: sqlite3.Connection, found: _Found) -> None:
        if found.sentence:
            self.unreadable.append((found.case.image, found.sentence))
            return
        same = [row for row in self.by_content.get(found.sha256, ()) if row["id"] not in self.placed]
        here = next((row for row in same if row["path"] == found.relative), None)
        moved = next((row for row in same if row["id"] in self.gone), None)
        row = here or moved
        if row is None and not self.add:
            return
        for old in self.by_path.get(found.relative, ()):
            if old["id"] != (row["id"] if row else "") and old["state"] != "replaced" and old["id"] not in self.placed:
                update(connection, old["id"], state="replaced")
                self.result["replaced"].append(old["id"])
                self.gone.add(old["id"])
        if row is None:
            self._insert(connection, found)
            return
        self.placed.add(row["id"])
        self.result["known" if here else "relinked"].append(row["id"])
        values = {"path": found.relative, "bytes": found.bytes, "mtime_ns": found.mtime_ns, "state": "here"}
        update(connection, row["id"], **values)
        if not here:
            write_log(connection, row["id"], self.reader, "relinked", note=f"{row['path']} -> {found.relative}")

    def _insert(self, connection: sqlite3.Connection, found: _Found) -> None:
        photo = self._new_id(found)
        whole = photo in self.masks and self.files.is_whole(photo, found.shape)
        adopted = fingerprint(self.files.path(photo)) if whole else None
        columns: dict[str, object] = {
            "id": photo,
            "path": found.relative,
            "sha256": found.sha256,
            "bytes": found.bytes,
            "mtime_ns": found.mtime_ns,
            "height": found.shape[0],
            "width": found.shape[1],
            "lesion_group": found.case.group,
            "diagnosis": found.case.diagnosis,
            "status": STATUSES[2] if adopted else STATUSES[0],
            "blind": is_drawn(photo, *blind_sample(connection)) and not adopted,
        } | mask_columns(adopted)
        marks = ", ".join(f":{name}" for name in columns)
        connection.execute(f"INSERT INTO photos ({', '.join(columns)}) VALUES ({marks})", columns)  # noqa: S608
        write_log(connection, photo, self.reader, "added", status_before="")
        if self.by_content.get(found.sha256):
            self.result["duplicates"].append(photo)
        row = connection.execute("SELECT * FROM photos WHERE id = ?", (photo,)).fetchone()
        self.rows[photo] = row
        self.by_path[found.relative].append(row)
        self.by_content[found.sha256].append(row)
        self.placed.add(photo)
        self.result["added"].append(photo)
        if adopted:
            self.result["adopted"].append(photo)

    def _new_id(self, found: _Found) -> str:
        """Readable, the same on every computer, and of its own for every path and content."""
        stem = re.sub(r"[^\w.-]+", "_", found.case.image.stem)[:80].strip("._") or "photo"
        digest = hashlib.sha256(f"{found.relative}\0{found.sha256}".encode()).hexdigest()
        return next(photo for length in range(8, 65, 8) if (photo := f"{stem}-{digest[:length]}") not in self.rows)

    def _mark_missing(self, root: Path | None) -> None:
        below = "" if root is None else relative_path(root, self.folder)
        prefix = "" if below == "." else f"{below}/"
        missing = [
            one
            for one in sorted(self.gone - self.placed)
            if self.rows[one]["state"] == "here"
            and one not in self.result["replaced"]
            and self.rows[one]["path"].startswith(prefix)
        ]
        if missing:
            with self.store.write() as connection:
                for one in missing:
                    update(connection, one, state="missing")
        self.result["missing"] += missing


def relative_path(path: Path, folder: Path) -> str:
    """`path` from `folder` with forward slashes; as it is where there is no way, as between two drives of Windows."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return path.as_posix()


def blind_sample(connection: sqlite3.Connection) -> tuple[float, int]:
    """The share of photos drawn blind in this project, and the seed."""
    facts = dict(iter_facts(connection, ("blind_share", "blind_seed")))
    return float(facts.get("blind_share", 0)), int(facts.get("blind_seed", 0))


def iter_facts(connection: sqlite3.Connection, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Name and value of the project's facts that are there."""
    for name in names:
        for row in connection.execute("SELECT value FROM facts WHERE name = ?", (name,)):
            yield name, row[0]


def is_drawn(photo: str, share: float, seed: int) -> bool:
    """Whether a photo is of the blind sample; it depends on its id and the seed alone, not on when it was added."""
    draw = int.from_bytes(hashlib.sha256(f"{seed}:{photo}".encode()).digest()[:8], "big") / 2**64
    return draw < share


def _look(case: Case, relative: str) -> _Found:
    try:
        shape = read_size(case.image)
        with case.image.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            found = os.fstat(file.fileno())
    except BadInput as error:
        return _Found(case, relative, sentence=str(error))
    except OSError as error:
        return _Found(case, relative, sentence=f"{case.image} cannot be opened ({error.strerror or error}).")
    return _Found(case, relative, shape, sha256, found.st_size, found.st_mtime_ns)


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
