"""An annotation project: a person's review of a folder of photos, kept so that nothing is ever lost.

    <project>/skinseg-project.sqlite            one row per photo, and a log of every decision
    <project>/skinseg-project.backup.sqlite     the same as of the last opening or closing
    <project>/skinseg-project.lock              who has it open
    <project>/masks/…                           see `project_masks`

Photos are referenced where they are, never copied or changed. What a call that returned has written is on disk, whole,
whatever happens next; a kill in the middle of a call loses that call at most, and the next opening says what it found.

Threads: every method of an open `Project` may be called from any thread. Reads do not wait for writes; writes go one
after the other and wait for the disk (some 10 ms, more for large photos), so a window calls them from a worker.
"""

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from napari_skinseg.datasets.dataset import Case, find_cases
from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, NeverCancelled, OnEvent, ignore_event
from napari_skinseg.files import make_output_folder

from .annotations import LEAST_MM, ProjectWork
from .lock import Lock, Owner, ProjectInUse, person
from .mask_files import MaskFiles
from .queue import Order, Queue, QueueItem
from .records import REVIEWED, Decision, Line, Photo, Status, set_fact
from .repair import repair
from .scan import Scan, ScanOutcome, relative_path
from .store import STORE_NAME, ProjectDamaged, Store, check_header, restore_backup

__all__ = [
    "LEAST_MM", "REVIEWED", "Decision", "Line", "Order", "Owner", "Photo", "Project", "ProjectDamaged", "ProjectInUse",
    "Queue", "QueueItem", "ScanOutcome", "Status", "restore_backup",
]  # fmt: skip


class Project(ProjectWork):
    """An open project; see the module. Use `Project.open`, and `close` it (or use it in a `with`).

    Attributes:
        folder: of the project, absolute.
        reader: the person's name, for the log.
        repairs: what the opening found and put right, a sentence each.
    """

    def __init__(self, folder: Path, reader: str, store: Store, lock: Lock | None, repairs: tuple[str, ...]) -> None:
        super().__init__(folder, reader, store)
        self.repairs = repairs
        self._lock = lock
        self._closing = threading.Lock()

    @classmethod
    def exists(cls, folder: str | Path) -> bool:
        """Whether there is a project in `folder`."""
        return (Path(folder) / STORE_NAME).exists()

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        reader: str = "",
        create: bool = False,
        take_over: bool = False,
        read_only: bool = False,
    ) -> Self:
        """Open the project in `folder`, repairing what a stopped session left.

        Args:
            folder: of the project.
            reader: name for the log; the name of the computer's user if it is empty.
            create: make a project where there is none.
            take_over: open it although someone else seems to have it open.
            read_only: for an export while someone reviews: nothing is locked, repaired or written.

        Raises:
            ProjectInUse: someone has it open; `owner` says who.
            ProjectDamaged: its index is corrupt; `restore_backup(folder)` brings the last good one back.
            BadInput: there is no project, it is a newer version's, or the folder cannot be written to.
        """
        folder = Path(folder).expanduser().resolve()
        check_header(folder / STORE_NAME)
        if not cls.exists(folder):
            if not create or read_only:
                raise BadInput(f"{folder} holds no project ({STORE_NAME}); choose a project folder or make a new one.")
            make_output_folder(folder)
        reader = reader or person()
        if read_only:
            return cls(folder, reader, Store(folder, read_only=True), None, ())
        lock = Lock(folder, reader)
        left = lock.acquire(take_over=take_over)
        store: Store | None = None
        try:
            store = Store(folder, guard=lock.check)
            repairs = repair(store, MaskFiles(folder), reader)
            try:
                store.backup()
            except BadInput as error:  # a disk too full for a second index still has room for masks
                repairs = (*repairs, f"The index was not backed up: {error}")
        except BaseException:
            if store is not None:
                store.close()
            lock.release()
            raise
        return cls(folder, reader, store, lock, (left, *repairs) if left else repairs)

    def close(self) -> None:
        """Back the index up, close it and give the lock back; a second call does nothing."""
        with self._closing:
            lock, self._lock = self._lock, None
            if lock is not None:
                try:
                    lock.check()
                    self._store.backup()
                except BadInput:
                    pass  # the index itself is whole; a full disk or a lost lock must not keep a window open
            self._store.close()
            if lock is not None:
                lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def scan(
        self, folder: str | Path, on_event: OnEvent = ignore_event, cancel: CancelToken | None = None
    ) -> ScanOutcome:
        """Take up every photo below `folder`; ones that were moved or renamed since keep all their work.

        Reads headers and contents by threads and writes in batches: what a cancelled or killed scan found stays, and
        the next one goes on from there; photos whose length and time are unchanged are not read again.

        Args:
            folder: of photos, in any layout that `dataset.find_cases` knows.
            on_event: stage "scan", with `done` out of `total`; told after each batch, whose photos are in the project.
            cancel: looked at before each batch.

        Raises:
            BadInput: `folder` is no folder or holds no photo.
            Cancelled: `cancel` was set.
        """
        root = Path(folder).expanduser().resolve()
        outcome = self._scan(add=True).run(find_cases(root), on_event, cancel or NeverCancelled(), root)
        with self._store.write() as connection:
            roots = json.loads(self._fact("roots") or "[]")
            if (name := relative_path(root, self.folder)) not in roots:
                set_fact(connection, "roots", json.dumps([*roots, name]))
        return outcome

    def add(self, photos: Iterable[str | Path]) -> ScanOutcome:
        """Take up single photo files, such as those of the layers that are open; as `scan` otherwise."""
        paths = [Path(path).expanduser() for path in photos]
        cases = [Case(path.stem, path.parent.resolve() / path.name) for path in paths]
        return self._scan(add=True).run(cases, ignore_event, NeverCancelled())

    def relink(
        self, folder: str | Path, on_event: OnEvent = ignore_event, cancel: CancelToken | None = None
    ) -> ScanOutcome:
        """Look below `folder` for the photos that are missing, by content, and take up no others."""
        root = Path(folder).expanduser().resolve()
        return self._scan(add=False).run(find_cases(root), on_event, cancel or NeverCancelled(), root)

    def _scan(self, *, add: bool) -> Scan:
        return Scan(self._store, self._files, self.folder, self.reader, add=add)


SUBFOLDER = "skinseg-review"
"""Where the project of a folder of photos is kept, inside that folder: one thing to copy along, or to delete."""


def project_folder(folder: Path) -> Path:
    """The project of `folder`: itself if it is one, else the sub-folder of ours."""
    return folder if Project.exists(folder) or folder.name == SUBFOLDER else folder / SUBFOLDER
