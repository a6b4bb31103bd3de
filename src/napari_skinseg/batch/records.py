"""The records and the table of all runs into one folder. One run at a time writes them, or several parts of one run.

A part (see `parts`) has a separate file for its records and one for its table. `merge_parts`, or the next run without
parts, puts the content of these files into the common ones.

A record is appended to a journal, and flushed to disk, before its mask gets its name. So a process that is killed at
any instant leaves no mask without a record, and no later step mistakes a mask of the model for a mask of a person.
"""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from threading import Lock as ThreadLock
from typing import Any, Self

from napari_skinseg.datasets.records import JOURNAL, RECORDS, read_finished, read_journal, read_records, sha256
from napari_skinseg.errors import BadInput
from napari_skinseg.files import (
    Cell,
    atomic,
    escape_formula,
    target_of,
    to_cell,
    unescape_formula,
    write_csv,
)
from napari_skinseg.measurement.measure import COLUMNS, NOTE
from napari_skinseg.pixels.mask import MASK_ENDING
from napari_skinseg.project.lock import Lock, ProjectInUse

from .parquet import PARQUET, check_parquet, write_parquet
from .parts import Part, find_parts
from .storage import Disk, Place, open_storage

TABLE = "measurements.csv"
TABLE_COLUMNS = ("photo", "confidence", "empty", "mask_kept", *COLUMNS, NOTE)
"""The last column has no values; its header says what the numbers are not, in every program that shows the table."""

LOCK = "segmentations.lock"
_FILES = (RECORDS, JOURNAL, TABLE)

Record = dict[str, Any]
Row = Sequence[Cell]


class StoredRow:
    """A row of the table, kept as one text: a sixth of the memory, for many thousands of photos.

    Args:
        cells: values in the order of `TABLE_COLUMNS`; numbers are kept with the six significant digits of the table.
    """

    __slots__ = ("_text",)

    def __init__(self, cells: Row) -> None:
        self._text = "\0".join(map(to_cell, cells))  # no file name contains this character

    @property
    def cells(self) -> list[str]:
        """The cells as text."""
        return self._text.split("\0")

    @property
    def measures(self) -> dict[str, Cell]:
        """The values of `measurement.measure.COLUMNS`."""
        by_column = dict(zip(TABLE_COLUMNS, self.cells, strict=True))
        return {column: _parse(by_column[column]) for column in COLUMNS}


def _parse(cell: str) -> Cell:
    """Return the value of a cell of the table."""
    if cell in ("", "true", "false"):
        return None if not cell else cell == "true"
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


class FolderRecords:
    """The records and table rows in an output folder, open for one run: use it in a `with` statement.

    Args:
        folder: the output folder.
        part: the part of the run that writes, or None for a whole run, which also takes over the files of all parts.
        storage: where the folder is.

    Raises:
        BadInput: another run writes into the folder, or it holds files of parts of another count.
    """

    def __init__(self, folder: Path, part: Part | None = None, storage: Disk | None = None) -> None:
        self.folder, self.part, self.storage = folder, part, storage or Disk()
        self._journal, self._table, self._finished = (
            folder / (part.file_name(name) if part else name) for name in (JOURNAL, TABLE, RECORDS)
        )
        self._lock = self.storage.lock(folder, part.file_name(LOCK) if part else LOCK)
        self._thread_lock = ThreadLock()

    @property
    def table(self) -> Path:
        """The path of the table that this run writes."""
        return self._table

    def __enter__(self) -> Self:
        self._acquire(self._lock)
        try:
            self.storage.fetch_records(self.folder)
            self._refuse_other_parts()
            others = [self.folder / LOCK] if self.part else [*find_parts(self.folder, LOCK).values()]
            for path in filter(Path.exists, others):  # after the own lock is held: of two runs at most one continues
                lock = self.storage.lock(self.folder, path.name)
                self._acquire(lock)
                lock.release()
                self.storage.fetch_records(self.folder)  # that run may have ended just now
            self._read()
        except BaseException:
            self._lock.release()
            raise
        return self

    def _acquire(self, lock: Lock) -> None:
        try:
            lock.acquire()
        except ProjectInUse as error:
            owner = error.owner
            process = f"process {owner.pid} on {owner.host}, since {owner.since}" if owner else "another process"
            raise BadInput(
                f"{self.folder} is in use: {process}, writes masks into it; wait until that run ends or choose another "
                f"folder. If that computer was switched off or the process no longer runs there, delete {lock.path}."
            ) from error

    def _refuse_other_parts(self) -> None:
        counts = {part.count for name in (RECORDS, JOURNAL) for part in find_parts(self.folder, name)}
        if self.part and (other := counts - {self.part.count}):
            raise BadInput(
                f"{self.folder} holds a run in {other.pop()} parts, so part {self.part} cannot be written there; "
                f"merge those parts first (napari-skinseg segment --merge {self.folder}), or choose another folder."
            )

    def _read(self) -> None:
        """Read the files of this run and, without a part, those of all parts."""
        # Records are kept as JSON, which takes a third of the memory.
        self._all_records = {
            name: [_to_json(record) for record in records] for name, records in read_records(self.folder).items()
        }
        parts = {} if self.part else {name: [*find_parts(self.folder, name).values()] for name in _FILES}
        self._taken_over = [path for paths in parts.values() for path in paths]
        finished, journals, tables = (
            [own, *parts.get(name, [])]
            for name, own in zip(_FILES, (self._finished, self._journal, self._table), strict=True)
        )
        journal = [line for path in journals for line in read_journal(path)]
        names = {name for path in finished for name in read_finished(path)} | {line["mask"] for line in journal}
        self._records = {name: self._all_records[name] for name in names}
        self._unconfirmed = {entry["mask"] for entry in journal}
        self._rows: dict[str, StoredRow] = {}
        for path in tables:
            self._rows |= self._read_table(path)
        self._has_new_rows = bool(parts.get(TABLE))
        for entry in journal:
            cells = entry.get("row")
            self._set_row(entry["mask"], entry["record"], StoredRow(cells) if cells else None)

    def _set_row(self, mask: str, record: Record, row: StoredRow | None) -> None:
        """Add the row of a new mask; without one, remove the row of an earlier mask of the same photo."""
        if row is not None:
            self.set_row(row)
        elif self._rows.pop(_photo_name(mask, record), None) is not None:
            self._has_new_rows = True

    def set_row(self, row: StoredRow) -> None:
        """Add the row of a photo to the table, or replace it."""
        self._rows[row.cells[0]] = row
        self._has_new_rows = True

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def remove_temporary_files(self, written: Iterable[Path]) -> None:
        """Remove the temporary files that a killed run left for the files `written` and for the files of this class."""
        own = (self._journal, self._table, self._finished)
        targets = {*written, *own}
        for folder in {target.parent for target in targets}:
            for path in folder.glob(".*") if folder.is_dir() else ():
                if target_of(path) in targets:
                    path.unlink(missing_ok=True)

    def find(self, mask: Path) -> Record:
        """The record of a mask file that nobody changed since a model made it; else an empty record.

        A record that was found is confirmed, so that `write` need not read this mask again.
        """
        digest, name = sha256(mask), self._name(mask)
        records = map(json.loads, self._all_records.get(name, []))
        found: Record = next((record for record in records if record.get("mask_sha256") == digest), {})
        with self._thread_lock:
            if found and name in self._unconfirmed:
                self._records[name] = [_to_json(found)]
                self._unconfirmed.discard(name)
        return found

    def places(self) -> dict[str, str]:
        """The name of each photo that has a record, by its absolute path: that of its mask, with the photo's suffix."""
        return {
            record["photo"]: _photo_name(mask, record)
            for mask, records in self._all_records.items()
            for record in map(json.loads, records)
            if isinstance(record.get("photo"), str)
        }

    def photo_of(self, name: str) -> Path | None:
        """The photo that the mask of this name was made from; None if there is no record or no mask."""
        mask = PurePosixPath(name).with_suffix("").as_posix() + MASK_ENDING
        photo = next((json.loads(record).get("photo") for record in reversed(self._all_records.get(mask, []))), None)
        return self.storage.path(photo) if isinstance(photo, str) and self.storage.exists(self.folder / mask) else None

    def row(self, photo: str) -> StoredRow | None:
        """The row of the table that an earlier run wrote for a photo, by its name."""
        return self._rows.get(photo)

    def add(self, mask: Path, record: Record, row: StoredRow | None) -> None:
        """Append the record of a mask to the journal and flush it to disk, before the mask gets its name."""
        name = self._name(mask)
        entry = {"mask": name, "record": record, "row": row and row.cells}
        line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        with self._thread_lock:
            self.storage.append(self._journal, line)
            self._set_row(name, record, row)
            records = self._all_records.setdefault(name, [])
            records.append(_to_json(record))
            self._records[name] = records
            self._unconfirmed.add(name)

    def confirm(self, mask: Path) -> None:
        """Note that the mask of the last record was written."""
        name = self._name(mask)
        with self._thread_lock:
            del self._records[name][:-1]
            self._unconfirmed.discard(name)

    def write(self, table: bool, parquet: bool = False) -> int:
        """Write segmentations.json and, if `table` is set, measurements.csv; then remove the journal.

        The table has a row for each photo that has a mask and was measured, in this run or an earlier one.

        Args:
            table: whether this run measured.
            parquet: also write measurements.parquet. If it exists, it is always written with measurements.csv.

        Returns:
            The number of masks with a record.

        Raises:
            BadInput: a file cannot be written; the journal is kept.
        """
        self.storage.flush()
        is_new = table or self._has_new_rows
        if is_new:
            names = sorted(filter(self._has_mask, self._rows), key=lambda name: name.replace("/", "\0"))
            cells = (self._rows[name].cells for name in names)
            write_csv(self._table, TABLE_COLUMNS, ([escape_formula(name), *others] for name, *others in cells))
        other_table = self.folder / PARQUET
        if not self.part and (parquet or (is_new and self.storage.exists(other_table))):
            write_parquet(other_table, self._table)
            self.storage.put(other_table)
        if is_new:
            self.storage.put(self._table)
        count = self._write_records()
        self.storage.put(self._finished)
        self.storage.flush()
        self.storage.remove(self._journal, *self._taken_over)
        return count

    def _write_records(self) -> int:
        """Write segmentations.json, one record after the other."""
        count = 0
        with atomic(self._finished) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write('{\n  "masks": {')
            for name in sorted(self._records):
                if record := self._current(name):
                    lines = json.dumps({name: record}, indent=2, ensure_ascii=False, allow_nan=False).split("\n")[1:-1]
                    file.write(("," if count else "") + "".join(f"\n  {line}" for line in lines))
                    count += 1
            file.write(("\n  " if count else "") + "}\n}\n")
        return count

    def _current(self, name: str) -> Record | None:
        """The record of the mask that is in the folder; None if a killed run recorded a mask and did not write it."""
        last: Record = json.loads(self._records[name][-1])
        if name not in self._unconfirmed:
            return last
        mask = self.folder / name
        if not self.storage.exists(mask):
            return None
        with self.storage.local(mask):
            return self.find(mask) or last

    def _name(self, mask: Path) -> str:
        return mask.relative_to(self.folder).as_posix()

    def _has_mask(self, photo: str) -> bool:
        path = self.folder / photo
        return self.storage.exists(path.with_name(path.stem + MASK_ENDING))

    @staticmethod
    def _read_table(path: Path) -> dict[str, StoredRow]:
        """Photo -> row of the table of earlier runs; empty if there is none, or its columns differ."""
        try:
            with path.open(newline="", encoding="utf-8") as file:
                columns, *rows = csv.reader(file)
        except (OSError, ValueError, csv.Error):
            return {}
        if tuple(columns) != TABLE_COLUMNS:
            return {}
        return {
            (name := unescape_formula(row[0])): StoredRow([name, *row[1:]])
            for row in rows
            if len(row) == len(TABLE_COLUMNS)
        }


def _to_json(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False)


def _photo_name(mask: str, record: Record) -> str:
    """The name of the photo in the table: that of its mask, with the suffix of the photo."""
    return mask.removesuffix(MASK_ENDING) + Path(str(record.get("photo", ""))).suffix


def merge_parts(out: Place, parquet: bool = False) -> int:
    """Put the records and tables of all parts in `out` into the common files, and return the number of masks.

    Args:
        out: the output folder of the parts, or its address in a bucket.
        parquet: also write measurements.parquet.

    Raises:
        BadInput: there are no parts, a part is missing, was stopped or still runs, or a file cannot be written.
    """
    if parquet:
        check_parquet()
    with open_storage(out) as storage:
        folder = storage.path(out)
        storage.fetch_records(folder)
        _check_parts(folder)
        with FolderRecords(folder, storage=storage) as records:
            return records.write(table=False, parquet=parquet)


def _check_parts(folder: Path) -> None:
    """Raise `BadInput` unless all parts of one run have ended."""
    parts = find_parts(folder, RECORDS) | find_parts(folder, JOURNAL)
    if not parts:
        raise BadInput(f"{folder} holds no part of a run; give the folder that the parts wrote to with --out.")
    counts = sorted({part.count for part in parts})
    if len(counts) > 1:
        raise BadInput(f"{folder} holds parts of different runs, in {counts[0]} and in {counts[1]} parts.")
    finished = set(find_parts(folder, RECORDS)) - set(find_parts(folder, JOURNAL))
    missing = [number for number in range(1, counts[0] + 1) if Part(number, counts[0]) not in finished]
    if missing:
        numbers = ", ".join(map(str, missing[:10])) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        raise BadInput(
            f"{folder} cannot be merged: of {counts[0]} parts, {numbers} did not end; run "
            f"napari-skinseg segment … --part {missing[0]}/{counts[0]} again."
        )
