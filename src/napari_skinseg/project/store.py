"""The SQLite file of a project: opening, schema, transactions, backup.

Every commit is synchronised to disk. On local disks SQLite uses a write-ahead log, so that readers never wait for the
writer. On network shares it uses the rollback journal, because the index of a write-ahead log is shared memory.
"""

import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from napari_skinseg.errors import BadInput
from napari_skinseg.files import atomic

from .validation import find_invalid

STORE_NAME = "skinseg-project.sqlite"
BACKUP_NAME = "skinseg-project.backup.sqlite"

APPLICATION_ID = 0x736B7367
""""sksg" in the file's header, which other SQLite files do not have."""

_FIRST = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE photos (
        number INTEGER PRIMARY KEY,          -- in the order of adding
        id TEXT NOT NULL UNIQUE,             -- its files have this name; unique by path and content
        path TEXT NOT NULL,                  -- relative to the project, with forward slashes
        sha256 TEXT NOT NULL,                -- of the photo's file
        bytes INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,           -- equal time and bytes: the photo is unchanged
        height INTEGER NOT NULL,
        width INTEGER NOT NULL,
        state TEXT NOT NULL DEFAULT 'here' CHECK (state IN ('here', 'missing', 'replaced')),
        lesion_group TEXT NOT NULL DEFAULT '',
        diagnosis TEXT NOT NULL DEFAULT '',
        status TEXT NOT NULL DEFAULT 'new'
            CHECK (status IN ('new', 'predicted', 'corrected', 'accepted', 'skipped', 'issue')),
        note TEXT NOT NULL DEFAULT '',
        reader TEXT NOT NULL DEFAULT '',     -- who changed or decided something last
        changed_at TEXT NOT NULL DEFAULT '', -- and when
        seconds REAL NOT NULL DEFAULT 0,     -- time that persons spent on it
        seen INTEGER NOT NULL DEFAULT 0,
        blind INTEGER NOT NULL DEFAULT 0,    -- drawn without seeing the prediction
        mask_sha256 TEXT NOT NULL DEFAULT '',-- of the person's mask file; '' = no mask
        mask_bytes INTEGER NOT NULL DEFAULT 0,
        mask_mtime_ns INTEGER NOT NULL DEFAULT 0,
        dice REAL,                           -- between the prediction and the person's mask
        predicted_file TEXT NOT NULL DEFAULT '',
        model TEXT NOT NULL DEFAULT '',
        model_version TEXT NOT NULL DEFAULT '',
        confidence REAL,
        doubt REAL,                          -- see `queue`
        doubt_reason TEXT NOT NULL DEFAULT '',
        lesion_share REAL,                   -- fraction of the photo that the prediction covers
        stale TEXT NOT NULL DEFAULT '',      -- newer model whose mask was refused: a person worked on it
        mm_per_px REAL,
        scale_line TEXT NOT NULL DEFAULT '', -- JSON [[row, column], [row, column], mm]
        scale_from TEXT NOT NULL DEFAULT ''  -- id of the photo with the line, '' = this one
    )""",
    "CREATE INDEX photos_by_status ON photos (status)",
    "CREATE INDEX photos_by_path ON photos (path)",
    "CREATE INDEX photos_by_content ON photos (sha256)",
    """CREATE TABLE log (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        photo TEXT NOT NULL REFERENCES photos (id),
        time TEXT NOT NULL,
        reader TEXT NOT NULL,
        action TEXT NOT NULL,
        status_before TEXT NOT NULL,
        status TEXT NOT NULL,
        note_before TEXT NOT NULL DEFAULT '',
        note TEXT NOT NULL DEFAULT '',
        model TEXT NOT NULL DEFAULT '',
        model_version TEXT NOT NULL DEFAULT '',
        seconds REAL NOT NULL DEFAULT 0,
        takes_back INTEGER REFERENCES log (number)
    )""",
    "CREATE INDEX log_by_photo ON log (photo)",
    "CREATE TRIGGER log_is_kept BEFORE DELETE ON log BEGIN SELECT RAISE(ABORT, 'the log is never shortened'); END",
    "CREATE TRIGGER log_is_final BEFORE UPDATE ON log BEGIN SELECT RAISE(ABORT, 'the log is never changed'); END",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST,)
"""Statements that bring the schema from version n to n + 1; the version is `user_version` in the file's header."""

_MAGIC = b"SQLite format 3\0"
_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")
_BESIDE = ("-wal", "-shm", "-journal")
_REMOTE = (
    "nfs", "cifs", "smb", "afp", "webdav", "davfs", "sshfs", "9p", "fuse.", "ncpfs", "vboxsf", "prl_fs", "lustre"
)  # fmt: skip
_ERRORS = (sqlite3.Error, UnicodeDecodeError)  # of a damaged file; SQLite's own messages quote its text
_TIMEOUT = 10.0  # s to wait for another connection's write
_WRITES_PER_BACKUP = 200


class ProjectDamaged(BadInput):
    """The SQLite file of a project is damaged; `backup` is the last intact copy, None if there is none."""

    def __init__(self, sentence: str, backup: Path | None) -> None:
        super().__init__(sentence)
        self.backup = backup


class Store:
    """The open SQLite file of a project.

    Thread-safe: any thread may read or write. Reads take a connection from a pool; writes run one after the other.

    Args:
        folder: of the project.
        guard: called before each write; raises an error to forbid the write.
        read_only: write and create nothing, not even a journal.

    Raises:
        ProjectDamaged: the file is damaged, is not an SQLite file, or holds invalid values.
        BadInput: another program or a newer version wrote it, or it cannot be opened.
    """

    def __init__(self, folder: Path, guard: Callable[[], None] = lambda: None, *, read_only: bool = False) -> None:
        self.path = folder / STORE_NAME
        self.read_only = read_only
        self._guard = guard
        self._pool: list[sqlite3.Connection] = []
        self._pool_lock = threading.Lock()
        self._write_lock = threading.RLock()
        self._writes = 0
        self._closed = False
        check_header(self.path)
        try:
            self._writer = self._open_writer()
        except _ERRORS as error:
            raise self._as_bad_input(error) from error

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: when the block ends, all of it is on disk; if the block raises, nothing of it is.

        Raises:
            BadInput: the project is read-only or closed, another session took it over, or the disk is full or missing.
        """
        with self._write_lock:
            self.check_writable()
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException as error:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                if isinstance(error, _ERRORS):
                    raise self._as_bad_input(error) from error
                raise
            self._writes += 1
            if self._writes % _WRITES_PER_BACKUP == 0:
                with suppress(BadInput):  # this write succeeded; a failed backup must not hide that
                    self.backup()

    def check_writable(self) -> None:
        """Raise `BadInput` if the project is read-only or closed, or another session took it over."""
        self._check_open()
        if self.read_only:
            raise BadInput(f"{self.path.parent} is open for reading only; open it for review to change it.")
        self._guard()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Block other writers of this process while files and rows are changed together."""
        with self._write_lock:
            yield

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Every row of a query."""
        self._check_open()
        with self._pool_lock:
            connection = self._pool.pop() if self._pool else None
        try:
            connection = connection or self._connect()
            found = connection.execute(sql, values).fetchall()
        except _ERRORS as error:
            if connection:
                connection.close()
            raise self._as_bad_input(error) from error
        with self._pool_lock:
            if not self._closed:
                self._pool.append(connection)
                return found
        connection.close()
        return found

    def one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        """The first row of a query, None if there is none."""
        found = self.rows(sql, *values)
        return found[0] if found else None

    def backup(self) -> None:
        """Write a copy of the file beside it, completely or not at all."""
        with self._write_lock, atomic(self.path.with_name(BACKUP_NAME)) as temporary:
            try:
                with closing(sqlite3.connect(temporary)) as copy:
                    self._writer.backup(copy)
                    copy.execute("PRAGMA journal_mode = DELETE")  # the copy is one file without a log
            except _ERRORS as error:
                raise self._as_bad_input(error) from error

    def close(self) -> None:
        """Close every connection; later calls raise `BadInput`."""
        with self._write_lock, self._pool_lock:
            if self._closed:
                return
            self._closed = True
            for connection in self._pool:
                connection.close()
            self._pool.clear()
            if not self.read_only:
                # A closed project is one plain file: it can be copied, and read in a read-only folder.
                with suppress(sqlite3.Error):  # another process is reading it
                    self._writer.execute("PRAGMA busy_timeout = 0")
                    self._writer.execute("PRAGMA journal_mode = DELETE")
            self._writer.close()

    def _open_writer(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            problem = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if problem != "ok":
                raise _damaged(self.path, problem)
            self._migrate(connection)
            if problem := _find_foreign(connection):
                raise _damaged(self.path, problem)
            if not self.read_only:  # last, because this writes: a damaged file must not change
                wanted = "WAL" if is_local(self.path.parent) else "DELETE"
                connection.execute(f"PRAGMA journal_mode = {wanted}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> sqlite3.Connection:
        # One thread makes a connection and others use it, one at a time: SQLite allows this (threadsafety 3).
        target: str | Path = f"{self.path.absolute().as_uri()}?mode=ro" if self.read_only else self.path
        connection = sqlite3.connect(
            target, timeout=_TIMEOUT, isolation_level=None, check_same_thread=False, uri=self.read_only
        )
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            # EXTRA = FULL, and SQLite synchronises the folder after it deletes a journal: power loss undoes no commit.
            connection.execute("PRAGMA synchronous = EXTRA")
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Bring the schema to the present version, each step in one transaction with its version number."""
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise _newer(self.path, version)
        if version == len(MIGRATIONS):
            return
        if self.read_only:
            raise BadInput(f"{self.path} is of an older version; open the project for review once to update it.")
        if version == 0 and _schema(connection):
            raise BadInput(f"{self.path} belongs to another program; choose another folder for the project.")
        for number, statements in enumerate(MIGRATIONS[version:], version + 1):
            connection.execute("BEGIN IMMEDIATE")
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")

    def _check_open(self) -> None:
        if self._closed:
            raise BadInput(f"{self.path.parent} was closed; open the project again.")

    def _as_bad_input(self, error: sqlite3.Error | UnicodeDecodeError) -> BadInput:
        if isinstance(error, UnicodeDecodeError):
            return _damaged(self.path, "it holds text that is not UTF-8")
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return _damaged(self.path, error)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return BadInput(f"{self.path} is in use by another program; close that program and try again.")
        return BadInput(f"{self.path} could not be read or written ({error}); check the disk and try again.")


def check_header(path: Path) -> None:
    """Check a project's SQLite file and the files that SQLite keeps beside it, without opening it as a database.

    Raises:
        ProjectDamaged: it is not an SQLite file, or is missing or empty although there is a backup.
        BadInput: another program or a newer version wrote it, it is a link, or it cannot be read.
    """
    for ending in ("", *_BESIDE):
        if path.with_name(path.name + ending).is_symlink():
            raise BadInput(f"{path}{ending} is a link to another file; put the file itself in its place.")
    try:
        journal = path.with_name(path.name + "-journal")
        # Such a journal names another file, which SQLite deletes. We never write one.
        if journal.exists() and journal.read_bytes().endswith(_SUPER_JOURNAL):
            raise _damaged(path, f"{journal.name} refers to other files")
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        if path.with_name(BACKUP_NAME).exists():
            raise _damaged(path, "it is missing") from None
        return
    except OSError as error:
        raise BadInput(f"{path} cannot be opened ({error.strerror or error}); check its permissions.") from error
    if not head and not path.with_name(BACKUP_NAME).exists():
        return  # a process was killed while it created the file
    if len(head) < 100 or not head.startswith(_MAGIC):
        raise _damaged(path, "it is not an SQLite file")
    # Big-endian numbers in the header (sqlite.org/fileformat.html, section 1.3).
    version, application = (int.from_bytes(head[at : at + 4], "big") for at in (60, 68))
    if application not in (0, APPLICATION_ID):
        raise BadInput(f"{path} belongs to another program; choose another folder for the project.")
    if version > len(MIGRATIONS):
        raise _newer(path, version)


def restore_backup(folder: Path) -> Path:
    """Replace a damaged SQLite file by its backup and return the path that the damaged file was moved to.

    Raises:
        BadInput: there is no intact backup; nothing is changed.
    """
    path, backup = folder / STORE_NAME, folder / BACKUP_NAME
    if not _is_intact(backup):
        raise BadInput(f"{folder} has no intact backup; scan the photos into a new project in another folder.")
    kept = path.with_name(f"{path.stem}.damaged-{datetime.now():%Y%m%d-%H%M%S}.sqlite")
    if path.exists():
        shutil.copyfile(path, kept)
    # Move the old log first: SQLite would apply it to the restored file.
    for ending in _BESIDE:
        stray = path.with_name(path.name + ending)
        if stray.exists():
            os.replace(stray, kept.with_name(kept.name + ending))
    with atomic(path) as temporary:
        shutil.copyfile(backup, temporary)
    return kept


def is_local(folder: Path) -> bool:
    """Whether a folder is on a disk of this computer, by the innermost mount point above it."""
    folder = folder.resolve()
    above = []
    for disk in psutil.disk_partitions(all=True):
        try:
            if folder.is_relative_to(disk.mountpoint):
                above.append((len(disk.mountpoint), disk))
        except (OSError, ValueError):
            continue
    if not above:
        return not str(folder).startswith("\\\\")  # a Windows share with a UNC name has no mount point
    disk = max(above, key=lambda found: found[0])[1]
    return "remote" not in disk.opts.split(",") and not disk.fstype.lower().startswith(_REMOTE)


def _is_intact(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return False
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        is_intact = connection.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok"
        return is_intact and not _find_foreign(connection)
    except _ERRORS:
        return False
    finally:
        connection.close()


def _damaged(path: Path, detail: object) -> ProjectDamaged:
    """The error for a damaged SQLite file, with the way to restore it."""
    backup = path.with_name(BACKUP_NAME)
    if not _is_intact(backup):
        return ProjectDamaged(f"{path} is damaged ({detail}) and has no backup; restore it from a copy.", None)
    when = f"{datetime.fromtimestamp(backup.stat().st_mtime):%Y-%m-%d %H:%M}"
    return ProjectDamaged(
        f"{path} is damaged ({detail}); restore the backup of {when}: the masks are separate files and are kept.",
        backup,
    )


def _find_foreign(connection: sqlite3.Connection) -> str:
    """Describe what this program did not write into an intact file, else ""."""
    if _schema(connection) != _our_schema():  # triggers or other tables could change what we write
        return "its tables are not those of this program"
    return find_invalid(connection)


def _schema(connection: sqlite3.Connection) -> set[tuple[str, str, str]]:
    """Type, name and SQL of everything in the schema, without comments and line breaks."""
    rows = connection.execute(
        "SELECT type, name, sql FROM sqlite_master "
        "WHERE sql IS NOT NULL AND name NOT IN ('sqlite_sequence', 'sqlite_stat1', 'sqlite_stat4')"
    )
    return {(row[0], row[1], " ".join(re.sub("--.*", "", row[2]).split())) for row in rows}


@cache
def _our_schema() -> set[tuple[str, str, str]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for statements in MIGRATIONS:
            for statement in statements:
                connection.execute(statement)
        return _schema(connection)


def _newer(path: Path, version: int) -> BadInput:
    return BadInput(
        f"{path} was written by a newer napari-skinseg (project version {version}, this program reads up to "
        f"{len(MIGRATIONS)}); update napari-skinseg to open it. Nothing was changed."
    )
