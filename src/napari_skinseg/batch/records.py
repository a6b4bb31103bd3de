"""The records and the table of all runs into one folder. One run at a time writes them.

A record is appended to a journal, and flushed to disk, before its mask gets its name. So a process that is killed at
any instant leaves no mask without a record, and no later step mistakes a mask of the model for a mask of a person.
"""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from threading import Lock as ThreadLock
from typing import Any, Self

from napari_skinseg.datasets.records import JOURNAL, RECORDS, read_journal, read_records, sha256
from napari_skinseg.errors import BadInput
from napari_skinseg.files import Cell, write_csv, write_json
from napari_skinseg.measurement.measure import COLUMNS, NOTE
from napari_skinseg.project.lock import Lock, ProjectInUse

TABLE = "measurements.csv"
TABLE_COLUMNS = ("photo", "confidence", "empty", "mask_kept", *COLUMNS, NOTE)
"""The last column has no values; its header says what the numbers are not, in every program that shows the table."""

MASK_SUFFIX = "_segmentation.png"

_LOCK = "segmentations.lock"

Record = dict[str, Any]
Row = Sequence[Cell]


class FolderRecords:
    """The records and table rows in an output folder, open for one run: use it in a `with` statement.

    Raises:
        BadInput: another run writes into the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = Lock(folder, file_name=_LOCK)
        self._thread_lock = ThreadLock()

    def __enter__(self) -> Self:
        try:
            self._lock.acquire()
        except ProjectInUse as error:
            owner = error.owner
            process = f"process {owner.pid} on {owner.host}" if owner else "another process"
            raise BadInput(
                f"{self.folder} is in use: {process} writes masks into it; wait until that run ends or choose another "
                f"folder. If no run is active, delete {self._lock.path}."
            ) from error
        self._records = read_records(self.folder)
        journal = read_journal(self.folder)
        self._unconfirmed = {entry["mask"] for entry in journal}
        self._rows: dict[str, Row] = self._read_table()
        killed_rows = {entry["row"][0]: entry["row"] for entry in journal if entry.get("row")}
        self._rows |= killed_rows
        self._has_new_rows = bool(killed_rows)
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def find(self, mask: Path) -> Record:
        """The record of a mask file that nobody changed since a model made it; else an empty record."""
        digest = sha256(mask)
        records = self._records.get(self._name(mask), [])
        return next((record for record in records if record.get("mask_sha256") == digest), {})

    def add(self, mask: Path, record: Record, row: Row | None) -> None:
        """Append the record of a mask to the journal and flush it to disk, before the mask gets its name."""
        name = self._name(mask)
        line = json.dumps({"mask": name, "record": record, "row": row}, ensure_ascii=False).encode() + b"\n"
        with self._thread_lock:
            try:
                with (self.folder / JOURNAL).open("ab") as file:
                    if file.tell() and not self._ends_with_newline():
                        file.write(b"\n")
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise BadInput(
                    f"{self.folder / JOURNAL} could not be written ({error.strerror or error}); choose another folder."
                ) from error
            self._records.setdefault(name, []).append(record)
            self._unconfirmed.add(name)

    def confirm(self, mask: Path) -> None:
        """Note that the mask of the last record was written."""
        name = self._name(mask)
        with self._thread_lock:
            self._records[name] = self._records[name][-1:]
            self._unconfirmed.discard(name)

    def write(self, rows: Mapping[str, Row], table: bool) -> None:
        """Write segmentations.json and, if `table` is set, measurements.csv; then remove the journal.

        Args:
            rows: photo -> row of the table, of this run; earlier runs add the rows of other photos that have a mask.
            table: whether this run measured.

        Raises:
            BadInput: a file cannot be written; the journal is kept.
        """
        if table or self._has_new_rows:
            earlier = {name: row for name, row in self._rows.items() if name not in rows and self._has_mask(name)}
            all_rows = list(rows.values())
            if earlier:
                all_rows = sorted([*earlier.values(), *all_rows], key=lambda row: PurePosixPath(str(row[0])))
            write_csv(self.folder / TABLE, TABLE_COLUMNS, all_rows)
        records = {name: record for name in sorted(self._records) if (record := self._current(name))}
        write_json(self.folder / RECORDS, {"masks": records})
        (self.folder / JOURNAL).unlink(missing_ok=True)

    def _current(self, name: str) -> Record | None:
        """The record of the mask that is in the folder; None if a killed run recorded a mask and did not write it."""
        last = self._records[name][-1]
        if name not in self._unconfirmed:
            return last
        mask = self.folder / name
        return (self.find(mask) or last) if mask.is_file() else None

    def _name(self, mask: Path) -> str:
        return mask.relative_to(self.folder).as_posix()

    def _has_mask(self, photo: str) -> bool:
        path = self.folder / photo
        return path.with_name(path.stem + MASK_SUFFIX).is_file()

    def _ends_with_newline(self) -> bool:
        with (self.folder / JOURNAL).open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _read_table(self) -> dict[str, Row]:
        """Photo -> row of the table of earlier runs; empty if there is none, or its columns differ."""
        try:
            with (self.folder / TABLE).open(newline="", encoding="utf-8") as file:
                columns, *rows = csv.reader(file)
        except (OSError, ValueError, csv.Error):
            return {}
        if tuple(columns) != TABLE_COLUMNS:
            return {}
        return {row[0]: row for row in rows if len(row) == len(TABLE_COLUMNS)}
