"""An annotation project: a person's review of a folder of photos.

    <project>/skinseg-project.sqlite            one row per photo, and a log of every decision
    <project>/skinseg-project.backup.sqlite     copy of it from the last opening or closing
    <project>/skinseg-project.lock              who has the project open
    <project>/masks/…                           see `mask_files`

The project refers to the photos where they are; it never copies or changes them. When a method returns, its result is
on disk. A mask is written before its row: a process that is killed in a call loses at most that call, and the next
opening repairs the project and says what it found.

Threads: any thread may call any method of an open `Project`. Reads do not wait for writes. Writes run one after the
other and wait for the disk (about 10 ms, more for large photos), so a window calls them from a worker.
"""

import json
import math
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.datasets.dataset import Case, find_cases
from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, NeverCancelled, OnEvent, ignore_event
from napari_skinseg.files import make_output_folder
from napari_skinseg.measurement.ruler import RulerLine
from napari_skinseg.pixels.image import read_image
from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.pixels.metrics import dice

from .blind_sample import is_sampled
from .lock import Lock, Owner, ProjectInUse, user_name
from .mask_files import Mask, MaskFiles, fingerprint
from .queue import Candidate, Order, Queue, QueueItem, arrange, doubt
from .records import (
    REVIEWED,
    UNFINISHED,
    Line,
    Photo,
    Status,
    is_below,
    mask_columns,
    now,
    photo_of,
    relative_path,
    set_fact,
    update,
    write_log,
)
from .repair import Repair
from .scan import Scan, ScanOutcome
from .store import STORE_NAME, ProjectDamaged, Store, check_header, restore_backup
from .validation import STATUSES

__all__ = [
    "LEAST_MM", "REVIEWED", "Line", "Order", "Owner", "Photo", "Project", "ProjectDamaged", "ProjectInUse",
    "Queue", "QueueItem", "ScanOutcome", "Status", "restore_backup",
]  # fmt: skip

SUBFOLDER = "skinseg-review"
"""Name of the project's folder inside the folder of photos."""

LEAST_MM = 5.0
"""Shortest line in mm that may set a scale: on a shorter line, one pixel at each end is too large an error."""

_SELECT = f"SELECT *, {UNFINISHED} AS unfinished FROM photos"  # noqa: S608 - our names


class Project:
    """An open project; see the module. Get one with `Project.open`, and `close` it or use it in a `with` block.

    Attributes:
        folder: of the project, absolute.
        reader: the person's name, for the log.
        repairs: a sentence for each finding of the repair at opening.
    """

    def __init__(self, folder: Path, reader: str, store: Store, lock: Lock | None, repairs: tuple[str, ...]) -> None:
        self.folder = folder
        self.reader = reader
        self.repairs = repairs
        self._store = store
        self._files = MaskFiles(folder)
        self._lock = lock
        self._closing = threading.Lock()
        # Each photo as it was before the first change since its last decision: undoing all changes restores it.
        self._before_changes: dict[str, Photo] = {}
        # The prediction read last, with its file name: every autosave compares the mask with it.
        self._cached_prediction: tuple[str, Mask] | None = None

    # Opening and closing

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
        """Open the project in `folder` and repair what a stopped session left.

        Args:
            folder: of the project.
            reader: the person's name for the log; the user name of the computer if empty.
            create: make a new project if there is none.
            take_over: open the project even if another session seems to have it open.
            read_only: lock, repair and write nothing, as for an export during a review.

        Raises:
            ProjectInUse: another session has the project open; `owner` says which.
            ProjectDamaged: the SQLite file is damaged or holds invalid values; `restore_backup(folder)` restores the
                last intact copy.
            BadInput: there is no project, a newer version wrote it, or the folder cannot be written to.
        """
        folder = Path(folder).expanduser().resolve()
        check_header(folder / STORE_NAME)
        if not cls.exists(folder):
            if not create or read_only:
                raise BadInput(f"{folder} holds no project ({STORE_NAME}); choose a project folder or make a new one.")
            make_output_folder(folder)
        reader = reader or user_name()
        if read_only:
            return cls(folder, reader, Store(folder, read_only=True), None, ())
        lock = Lock(folder, reader)
        last_session = lock.acquire(take_over=take_over)
        opened: Store | None = None
        try:
            opened = store = Store(folder, guard=lock.check)
            repairs = Repair(store, MaskFiles(folder), reader).run()
            try:
                store.backup()
            except BadInput as error:  # a disk without space for a second index still has space for masks
                repairs = (*repairs, f"The index was not backed up: {error}")
        except BaseException as error:
            if opened is not None:
                opened.close()
            lock.release()
            if isinstance(error, OSError):
                raise BadInput(
                    f"{error.filename or folder} cannot be read or written ({error.strerror or error}); "
                    "check the disk and the permissions."
                ) from error
            raise
        return cls(folder, reader, store, lock, (last_session, *repairs) if last_session else repairs)

    def close(self) -> None:
        """Back up the index, close it and release the lock; a second call does nothing."""
        with self._closing:
            lock, self._lock = self._lock, None
            if lock is not None:
                try:
                    lock.check()
                    self._store.backup()
                except BadInput:
                    pass  # the index itself is intact; a full disk or a lost lock must not keep a window open
            self._store.close()
            if lock is not None:
                lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Adding photos

    def scan(
        self, folder: str | Path, on_event: OnEvent = ignore_event, cancel: CancelToken | None = None
    ) -> ScanOutcome:
        """Add every photo below `folder`; photos that were moved or renamed keep all their work.

        Threads read the files, and rows are written in batches: a cancelled or killed scan keeps the written batches,
        and the next scan continues there. Photos whose size and time are unchanged are not read again.

        Args:
            folder: of photos, in any layout that `dataset.find_cases` knows.
            on_event: stage "scan", `done` out of `total`, after each batch is in the project.
            cancel: read before each photo.

        Raises:
            BadInput: `folder` is not a folder or holds no photo.
            Cancelled: `cancel` was set.
        """
        root = Path(folder).expanduser().resolve()
        outcome = self._scan(add=True).run(find_cases(root), on_event, cancel or NeverCancelled(), root)
        with self._store.write() as connection:
            roots = self._list_fact("roots")
            if (name := relative_path(root, self.folder)) not in roots:
                set_fact(connection, "roots", json.dumps([*roots, name]))
        self._remember_unreadable(outcome, lambda file: is_below(file, self.folder, root))
        return outcome

    def add(self, photos: Iterable[str | Path]) -> ScanOutcome:
        """Add single photo files, such as those of the open layers; otherwise as `scan`."""
        paths = [Path(path).expanduser() for path in photos]
        cases = [Case(path.stem, path.parent.resolve() / path.name) for path in paths]
        outcome = self._scan(add=True).run(cases, ignore_event, NeverCancelled())
        files = {relative_path(case.image, self.folder) for case in cases}
        self._remember_unreadable(outcome, lambda file: file in files)
        return outcome

    def relink(
        self, folder: str | Path, on_event: OnEvent = ignore_event, cancel: CancelToken | None = None
    ) -> ScanOutcome:
        """Find the missing photos below `folder` by their content, and add no others; otherwise as `scan`."""
        root = Path(folder).expanduser().resolve()
        return self._scan(add=False).run(find_cases(root), on_event, cancel or NeverCancelled(), root)

    def roots(self) -> list[Path]:
        """The folders that were scanned."""
        return [self.folder / name for name in self._list_fact("roots")]

    def unreadable(self) -> list[tuple[Path, str]]:
        """The files that the last scans could not read as photos, and a sentence each that says why."""
        return [(self.folder / name, reason) for name, reason in self._list_fact("unreadable")]

    def _remember_unreadable(self, outcome: ScanOutcome, was_scanned: Callable[[str], bool]) -> None:
        before = self._list_fact("unreadable")
        found = [[relative_path(path, self.folder), reason] for path, reason in outcome.unreadable]
        files = sorted([*(file for file in before if not was_scanned(file[0])), *found])
        if files != before:
            with self._store.write() as connection:
                set_fact(connection, "unreadable", json.dumps(files))

    def _scan(self, *, add: bool) -> Scan:
        return Scan(self._store, self._files, self.folder, self.reader, add=add)

    # Reading rows

    def photo(self, photo: str) -> Photo:
        """The photo with this id; raises `BadInput` if the project has no such photo."""
        row = self._store.one(f"{_SELECT} WHERE id = ?", photo)
        if row is None:
            raise BadInput(f"{photo} is not in the project {self.folder}; scan its folder first.")
        return photo_of(row, self.folder)

    def photos(self, *statuses: Status, replaced: bool = False) -> list[Photo]:
        """The photos in file order, all or with these statuses; `replaced` includes those with state "replaced"."""
        marks = ", ".join("?" * len(statuses))
        where = [*(["state != 'replaced'"] if not replaced else []), *([f"status IN ({marks})"] if statuses else [])]
        condition = f"WHERE {' AND '.join(where)}" if where else ""
        rows = self._store.rows(f"{_SELECT} {condition} ORDER BY path, number", *statuses)
        return [photo_of(row, self.folder) for row in rows]

    def find(self, path: str | Path) -> Photo | None:
        """The photo at `path`; None if it is not in the project."""
        path = Path(path).expanduser()
        relative = relative_path(path.parent.resolve() / path.name, self.folder)
        row = self._store.one(f"{_SELECT} WHERE path = ? AND state != 'replaced'", relative)
        return photo_of(row, self.folder) if row else None

    def counts(self) -> dict[str, int]:
        """The number of photos by status, and "total", "unfinished" and "reviewed", see `Photo`."""
        counts = dict.fromkeys(get_args(Status), 0)
        for row in self._store.rows("SELECT status, count(*) FROM photos WHERE state != 'replaced' GROUP BY status"):
            counts[row[0]] = row[1]
        condition = f"state != 'replaced' AND {UNFINISHED}"
        unfinished = self._store.rows(f"SELECT count(*) FROM photos WHERE {condition}")[0][0]  # noqa: S608
        reviewed = sum(counts[status] for status in REVIEWED) - unfinished
        return {**counts, "total": sum(counts.values()), "unfinished": unfinished, "reviewed": reviewed}

    def queue(self, order: Order = "least certain", seed: int = 0) -> Queue:
        """The existing photos in an order of review, with reasons; later changes do not alter this queue."""
        rows = self._store.rows(
            f"SELECT id, status, doubt, doubt_reason, lesion_share, {UNFINISHED} AS unfinished FROM photos "  # noqa: S608
            "WHERE state = 'here' ORDER BY path, number"
        )
        candidates = [
            Candidate(
                row["id"],
                row["status"] in REVIEWED and not row["unfinished"],
                row["doubt"],
                row["doubt_reason"],
                row["lesion_share"],
            )
            for row in rows
        ]
        return arrange(candidates, order, seed)

    def visit(self, photo: str) -> None:
        """Remember that a person opened this photo; `resume` returns to it."""
        with self._store.write() as connection:
            update(connection, self.photo(photo).id, seen=1)
            set_fact(connection, "last_photo", photo)

    def resume(self, queue: Queue) -> str | None:
        """The photo where the review continues: the one opened last if it is not reviewed, else the first such one."""
        rows = self._store.rows(
            f"SELECT id FROM photos WHERE state = 'here' AND (status IN ('new', 'predicted') OR {UNFINISHED})"  # noqa: S608
        )
        not_reviewed = {row[0] for row in rows}
        last = self._fact("last_photo")
        return last if last in not_reviewed else queue.first(not_reviewed)

    def _fact(self, name: str) -> str | None:
        row = self._store.one("SELECT value FROM facts WHERE name = ?", name)
        return row[0] if row else None

    def _list_fact(self, name: str) -> list[Any]:
        return list(json.loads(self._fact(name) or "[]"))

    # Reading pixels

    def read_photo(self, photo: str) -> NDArray[np.uint8]:
        """The picture, uint8 `[H, W, 3]`, after a check that it is still the one that was reviewed.

        Raises:
            BadInput: the file is missing, is another picture now, or cannot be read.
        """
        known = self.photo(photo)
        row = self._store.rows("SELECT bytes, mtime_ns FROM photos WHERE id = ?", photo)[0]
        try:
            entry = known.path.stat()
            same = stat.S_ISREG(entry.st_mode) and entry.st_size == row["bytes"]
            same = same and (entry.st_mtime_ns == row["mtime_ns"] or fingerprint(known.path).sha256 == known.sha256)
        except OSError as error:
            raise BadInput(
                f"{known.path} is missing ({error.strerror or error}); put it back, or choose its new folder."
            ) from error
        if not same:
            raise BadInput(
                f"{known.path} is another picture than the one that was reviewed, whose masks are kept; "
                "put the old picture back, or scan the folder to add the new one."
            )
        return read_image(known.path)

    def mask(self, photo: str) -> Mask | None:
        """The mask to edit, bool `[H, W]`: the person's, else the model's unless it must stay hidden, else None."""
        known = self.photo(photo)
        if known.has_mask:
            return read_mask(known.mask_path, known.shape)
        return self._read_prediction(known) if not known.hides_prediction else None

    def prediction(self, photo: str) -> Mask | None:
        """The model's mask, bool `[H, W]`; None without one or if it must stay hidden."""
        known = self.photo(photo)
        return None if known.hides_prediction else self._read_prediction(known)

    def model_mask(self, photo: str) -> Mask | None:
        """The model's mask even of a photo of the blind sample: for reports, never for the person who draws it."""
        return self._read_prediction(self.photo(photo))

    def _read_prediction(self, photo: Photo) -> Mask | None:
        if not photo.predicted_file:
            return None
        cached = self._cached_prediction
        if cached is None or cached[0] != photo.predicted_file:
            cached = (photo.predicted_file, read_mask(self._files.predicted_path(photo.predicted_file), photo.shape))
            self._cached_prediction = cached
        return cached[1].copy()

    # Writing masks and decisions: always the file first, its row second

    def save_mask(self, photo: str, mask: Mask, *, seconds: float = 0.0) -> Photo:
        """Save a mask that a person changed, bool `[H, W]`; when this returns, it is on disk and was read back.

        The status becomes *corrected* (an *issue* stays an issue). If the mask is the same as before the first change
        since the last decision, the earlier status comes back: a stroke and its undo change nothing.

        Args:
            photo: id.
            mask: of the photo's size.
            seconds: spent since the last call; they are added up.

        Raises:
            BadInput: the mask has another size, or cannot be written; the earlier mask is unchanged.
        """
        with self._store.exclusive():
            return self._save(self.photo(photo), mask, seconds)

    def accept(self, photo: str, mask: Mask | None = None, *, seconds: float = 0.0) -> Photo:
        """Approve a mask: the photo becomes *accepted*, or *corrected* if the person changed the model's mask.

        Args:
            photo: id.
            mask: the mask that is shown, bool `[H, W]`; it is saved first. Without it, the mask in the project is
                approved. An empty mask means that there is no lesion.
            seconds: spent since the last call.

        Raises:
            BadInput: there is no mask yet, or it cannot be written; then nothing is decided.
        """
        with self._store.exclusive():
            known = self.photo(photo)
            # Without a visible mask, even an empty mask is the person's answer: no lesion.
            nothing_visible = not known.has_mask and (known.blind or not known.predicted_file)
            if mask is not None and (nothing_visible or not np.array_equal(mask, self._visible_mask(known))):
                known = self._save(known, mask, 0.0, even_if_unchanged=True)
            return self._decide(known, "corrected" if known.changed else "accepted", "", seconds, "accept")

    def decide(self, photo: str, status: Status, note: str = "", *, seconds: float = 0.0) -> Photo:
        """Give a photo a status, with a note; its mask stays.

        Raises:
            BadInput: there is no such status, or the photo has no mask although the status needs one.
        """
        with self._store.exclusive():
            return self._decide(self.photo(photo), status, note, seconds, "decide")

    def take_back(self, photo: str | None = None) -> Photo | None:
        """Undo the last decision, on `photo` or on any, and return its photo; None if there is no decision.

        A mask that a person changed stays; a mask that was only accepted is the model's mask again.
        """
        with self._store.exclusive():
            row = self._store.one(
                "SELECT * FROM log WHERE action IN ('accept', 'decide') AND (photo = ?1 OR ?1 IS NULL) "
                "AND number NOT IN (SELECT takes_back FROM log WHERE takes_back IS NOT NULL) "
                "ORDER BY number DESC LIMIT 1",
                photo,
            )
            if row is None:
                return None
            known = self.photo(row["photo"])
            status, remove_mask = row["status_before"], False
            if status in ("new", "predicted") and known.has_mask:
                status, remove_mask = ("corrected", False) if known.changed else (status, True)
            with self._store.write() as connection:
                note = row["note_before"]
                self._log(connection, known, "take back", status=status, note=note, takes_back=row["number"])
                columns = mask_columns(None) | {"dice": None} if remove_mask else {}
                update(connection, known.id, status=status, note=note, changed_at=now(), **columns)
            if remove_mask:
                self._files.remove(known.id)
            self._before_changes.pop(known.id, None)
            return self.photo(known.id)

    def _save(self, known: Photo, mask: Mask, seconds: float, *, even_if_unchanged: bool = False) -> Photo:
        """`save_mask`; with `even_if_unchanged`, a mask equal to the model's is saved as a person's mask too."""
        mask = _checked(mask, known)
        self._store.check_writable()
        is_first, before = known.id not in self._before_changes, self._before_changes.get(known.id, known)
        # Compare with what is visible without this mask: a prediction may be newer than the first change.
        visible = None if even_if_unchanged or before.has_mask else self._visible_mask(replace(known, mask_sha256=""))
        if visible is not None and np.array_equal(mask, visible):
            status = "predicted" if before.status == "new" and known.predicted_file else before.status
            with self._store.write() as connection:
                if known.has_mask:
                    self._log(connection, known, "undo", status=status)
                update(
                    connection, known.id, status=status, dice=None, seconds=known.seconds + seconds,
                    **mask_columns(None),
                )  # fmt: skip
            self._files.remove(known.id)
            return self.photo(known.id)
        saved = self._files.save(known.id, mask, keep_previous=is_first)
        self._before_changes[known.id] = before
        prediction = self._read_prediction(known)
        is_restored = before.has_mask and saved.sha256 == before.mask_sha256
        status = before.status if is_restored or before.status == "issue" else "corrected"
        with self._store.write() as connection:
            if is_first:
                self._log(connection, known, "paint", status=status)
            update(
                connection, known.id, status=status, reader=self.reader, changed_at=now(),
                seconds=known.seconds + seconds, dice=None if prediction is None else dice(mask, prediction),
                **mask_columns(saved),
            )  # fmt: skip
        return self.photo(known.id)

    def _decide(self, known: Photo, status: str, note: str, seconds: float, action: str) -> Photo:
        if status not in STATUSES:
            raise BadInput(f"{status!r} is not a status; give one of {', '.join(STATUSES)}.")
        if status == "predicted" and not known.predicted_file:
            raise BadInput(f"{known.name} has no model's mask; predict it first.")
        if status == "corrected" and not known.has_mask:
            raise BadInput(f"{known.name} has no mask that a person drew; draw one first.")
        self._store.check_writable()
        columns: dict[str, object] = {}
        if status == "accepted" and not known.has_mask:
            if not known.predicted_file or known.hides_prediction:
                raise BadInput(f"{known.name} has no mask to accept yet; draw one first, or skip the photo.")
            columns = mask_columns(self._files.accept(known.id, known.predicted_file)) | {"dice": 1.0}
        with self._store.write() as connection:
            self._log(connection, known, action, status=status, note=note, seconds=known.seconds + seconds)
            update(
                connection, known.id, status=status, note=note, reader=self.reader, changed_at=now(),
                seconds=known.seconds + seconds, **columns,
            )  # fmt: skip
        self._before_changes.pop(known.id, None)
        return self.photo(known.id)

    def _log(self, connection: sqlite3.Connection, known: Photo, action: str, **values: object) -> None:
        before = {"model": known.model, "model_version": known.model_version, "note_before": known.note}
        write_log(connection, known.id, self.reader, action, **before | values)

    def _visible_mask(self, known: Photo) -> Mask:
        """The mask that a person sees; empty without a mask, or while the prediction must stay hidden."""
        if known.has_mask:
            return read_mask(known.mask_path, known.shape)
        prediction = None if known.hides_prediction else self._read_prediction(known)
        return np.zeros(known.shape, dtype=bool) if prediction is None else prediction

    # Writing predictions

    def set_prediction(
        self,
        photo: str,
        mask: Mask,
        *,
        model: str,
        model_version: str = "",
        confidence: float | None = None,
        probability: NDArray[np.float32] | None = None,
    ) -> bool:
        """Save a model's mask, bool `[H, W]`. It never replaces a person's mask.

        Args:
            photo: id.
            mask: of the photo's size.
            model: name of the model.
            model_version: its version.
            confidence: expected Jaccard in [0, 1], None if the model gives none.
            probability: float32 `[H, W]`, for the doubt score.

        Returns:
            Whether the mask was saved. If a person worked on the photo with an earlier prediction, that prediction
            stays; the photo's `stale` then names the other model.

        Raises:
            BadInput: the mask has another size, or cannot be written.
        """
        with self._store.exclusive():
            known = self.photo(photo)
            mask = _checked(mask, known)
            if (known.has_mask or known.status in ("corrected", "accepted")) and known.predicted_file:
                if (model, model_version) != (known.model, known.model_version):
                    with self._store.write() as connection:
                        update(connection, photo, stale=" ".join(filter(None, (model, model_version))))
                return False
            self._store.check_writable()
            found = doubt(mask, confidence, probability)
            file = self._files.save_prediction(photo, mask)
            status = "predicted" if known.status == "new" else known.status
            agreement = dice(mask, read_mask(known.mask_path, known.shape)) if known.has_mask else None
            with self._store.write() as connection:
                by = {"model": model, "model_version": model_version}
                self._log(connection, known, "predict", status=status, note=known.note, **by)
                update(
                    connection, photo, status=status, predicted_file=file, model=model, model_version=model_version,
                    confidence=confidence, doubt=found.score, doubt_reason=found.reason,
                    lesion_share=float(mask.mean()), dice=agreement, stale="",
                )  # fmt: skip
            if known.predicted_file not in ("", file):
                self._files.remove_prediction(known.predicted_file)
            return True

    # Scale and blind sample

    def set_scale(self, photo: str, line: Line, mm: float) -> Photo:
        """Set millimetres per pixel from a line of known length, ((row, column), (row, column)) in pixels.

        Raises:
            BadInput: the line is shorter than 5 mm or than `ruler.MIN_LINE_PX` pixels.
        """
        if not (math.isfinite(mm) and mm >= LEAST_MM):
            raise BadInput(f"The line is {mm:g} mm long; draw one of at least {LEAST_MM:g} mm for an exact scale.")
        ruler = RulerLine(line, mm)
        scale = json.dumps([*line, mm])
        with self._store.write() as connection:
            update(connection, self.photo(photo).id, mm_per_px=ruler.mm_per_px, scale_line=scale, scale_from="")
        return self.photo(photo)

    def clear_scale(self, photo: str) -> Photo:
        """Remove the scale of one photo."""
        with self._store.write() as connection:
            update(connection, self.photo(photo).id, mm_per_px=None, scale_line="", scale_from="")
        return self.photo(photo)

    def spread_scale(self, photo: str) -> int:
        """Copy a photo's scale to all photos of its size without a ruler line; return their number.

        Raises:
            BadInput: the photo has no scale.
        """
        known = self.photo(photo)
        if known.mm_per_px is None:
            raise BadInput(f"{known.name} has no scale; draw a line on its ruler first.")
        with self._store.write() as connection:
            return connection.execute(
                "UPDATE photos SET mm_per_px = ?, scale_from = ?, scale_line = '' "
                "WHERE height = ? AND width = ? AND id != ? AND scale_line = ''",
                (known.mm_per_px, known.scale_from or known.id, *known.shape, known.id),
            ).rowcount

    def set_blind_sample(self, share: float, seed: int = 0) -> int:
        """Choose a share of the photos for the blind sample and return how many photos are in it.

        The choice depends on the seed and the id, among photos that nobody has opened or given a status. Photos added
        later are chosen in the same way. Photos whose mask is drawn already stay in the sample; 0 removes the others.

        Raises:
            BadInput: `share` is not in [0, 1].
        """
        if not 0 <= share <= 1:
            raise BadInput(f"The blind sample is {share}; give a share from 0 (none) to 1, such as 0.05.")
        with self._store.write() as connection:
            set_fact(connection, "blind_share", str(share))
            set_fact(connection, "blind_seed", str(seed))
            untouched = "status IN ('new', 'predicted') AND seen = 0 AND mask_sha256 = ''"
            for row in connection.execute(f"SELECT id FROM photos WHERE {untouched}").fetchall():  # noqa: S608
                update(connection, row[0], blind=int(is_sampled(row[0], share, seed)))
        count = self._store.one("SELECT count(*) FROM photos WHERE blind = 1")
        return int(count[0]) if count else 0


def project_folder(folder: Path) -> Path:
    """The folder of the project for `folder`: itself if it is a project, else its sub-folder `SUBFOLDER`."""
    return folder if Project.exists(folder) or folder.name == SUBFOLDER else folder / SUBFOLDER


def _checked(mask: Mask, photo: Photo) -> Mask:
    """`mask` as bool; raises `BadInput` if it has another size than the photo."""
    mask = np.asarray(mask)
    if mask.shape != photo.shape:
        raise BadInput(f"The mask is {mask.shape} and {photo.name} {photo.shape}; give a mask of the photo's size.")
    return mask.astype(bool, copy=False)
