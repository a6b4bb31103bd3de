"""What is written to a project: masks, decisions, predictions, scales. Always the file first, its row second."""

import json
import math
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.errors import BadInput
from napari_skinseg.measurement.ruler import RulerLine
from napari_skinseg.pixels.image import read_image
from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.pixels.metrics import dice

from .mask_files import MaskFiles, fingerprint
from .queue import Candidate, Order, Queue, arrange, doubt
from .records import (
    REVIEWED,
    Decision,
    Line,
    Photo,
    Status,
    decision_of,
    mask_columns,
    now,
    photo_of,
    set_fact,
    update,
    write_log,
)
from .scan import is_drawn, relative_path
from .store import STATUSES, Store

LEAST_MM = 5.0
"""Shortest line that may set a scale: on a shorter one the pixel at each end weighs too much."""


Mask = NDArray[np.bool_]


class ProjectView:
    """The reading half of `project.Project`; every method may be called from any thread.

    Attributes:
        folder: of the project, absolute.
    """

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self._store = store
        self._files = MaskFiles(folder)

    def photo(self, photo: str) -> Photo:
        """One photo by its id; raises `BadInput` if the project has no such photo."""
        row = self._store.one("SELECT * FROM photos WHERE id = ?", photo)
        if row is None:
            raise BadInput(f"{photo} is not in the project {self.folder}; scan its folder first.")
        return photo_of(row, self.folder)

    def photos(self, *statuses: Status, replaced: bool = False) -> list[Photo]:
        """Photos in file order, all or of the given statuses; with `replaced` also those whose picture is gone."""
        marks = ", ".join("?" * len(statuses))
        where = [*(["state != 'replaced'"] if not replaced else []), *([f"status IN ({marks})"] if statuses else [])]
        sql = f"SELECT * FROM photos {'WHERE ' + ' AND '.join(where) if where else ''} ORDER BY path, number"  # noqa: S608
        return [photo_of(row, self.folder) for row in self._store.rows(sql, *statuses)]

    def find(self, path: str | Path) -> Photo | None:
        """The photo at `path`, None if the project does not have it."""
        path = Path(path).expanduser()
        relative = relative_path(path.parent.resolve() / path.name, self.folder)
        row = self._store.one("SELECT * FROM photos WHERE path = ? AND state != 'replaced'", relative)
        return photo_of(row, self.folder) if row else None

    def counts(self) -> dict[str, int]:
        """Number of photos by status, and "total" and "reviewed"."""
        found = dict.fromkeys(get_args(Status), 0)
        for row in self._store.rows("SELECT status, count(*) FROM photos WHERE state != 'replaced' GROUP BY status"):
            found[row[0]] = row[1]
        return {**found, "total": sum(found.values()), "reviewed": sum(found[status] for status in REVIEWED)}

    def log(self, photo: str | None = None) -> list[Decision]:
        """Every decision, or those on one photo, the oldest first."""
        where, values = ("WHERE photo = ?", (photo,)) if photo else ("", ())
        return [decision_of(row) for row in self._store.rows(f"SELECT * FROM log {where} ORDER BY number", *values)]  # noqa: S608

    def queue(self, order: Order = "least certain", seed: int = 0) -> Queue:
        """An order of the photos that are there, with reasons; it stays as it is until another is asked for."""
        rows = self._store.rows(
            "SELECT id, status, doubt, doubt_reason, lesion_share FROM photos "
            "WHERE state = 'here' ORDER BY path, number"
        )
        candidates = [
            Candidate(row["id"], row["status"] in REVIEWED, row["doubt"], row["doubt_reason"], row["lesion_share"])
            for row in rows
        ]
        return arrange(candidates, order, seed)

    def first_unreviewed(self, queue: Queue, after: str | None = None) -> str | None:
        """The first photo of the queue (behind `after`, then from its start) that nobody has dealt with."""
        return self.next_of(("new", "predicted"), queue, after)

    def next_of(self, statuses: Iterable[Status], queue: Queue, after: str | None = None) -> str | None:
        """The next photo of the queue with one of these statuses, None if there is no other."""
        statuses = tuple(statuses)
        marks = ", ".join("?" * len(statuses))
        sql = f"SELECT id FROM photos WHERE state = 'here' AND status IN ({marks})"  # noqa: S608
        return queue.first((row[0] for row in self._store.rows(sql, *statuses)), after)

    def resume(self, queue: Queue) -> str | None:
        """Where a person left off: the photo looked at last if it is still open, else the first that is."""
        last = self._fact("last_photo")
        row = self._store.one("SELECT status FROM photos WHERE id = ? AND state = 'here'", last or "")
        return last if row and row[0] not in REVIEWED else self.first_unreviewed(queue)

    def read_photo(self, photo: str) -> NDArray[np.uint8]:
        """The picture, uint8 `[H, W, 3]`, after making sure that it still is the one that the masks belong to.

        Raises:
            BadInput: it is gone, was replaced by another picture, or cannot be read.
        """
        row = self._store.one("SELECT * FROM photos WHERE id = ?", photo)
        known = self.photo(photo)
        try:
            found = known.path.stat()
            same = row is not None and (found.st_size, found.st_mtime_ns) == (row["bytes"], row["mtime_ns"])
            same = same or fingerprint(known.path).sha256 == known.sha256
        except OSError as error:
            raise BadInput(
                f"{known.path} is gone ({error.strerror or error}); put it back, or link the folder it was moved to."
            ) from error
        if not same:
            raise BadInput(
                f"{known.path} is another picture than the one that was reviewed; its masks are kept: "
                "put the old picture back, or scan the folder to take up the new one."
            )
        return read_image(known.path)

    def mask(self, photo: str) -> Mask | None:
        """The mask to work on, bool `[H, W]`: the person's, else the model's unless it must be hidden, else None."""
        known = self.photo(photo)
        if known.has_mask:
            return read_mask(known.mask_path, known.shape)
        return self._predicted(known) if not known.hides_prediction else None

    def prediction(self, photo: str) -> Mask | None:
        """The model's mask, None if there is none or it must not be seen yet."""
        known = self.photo(photo)
        return None if known.hides_prediction else self._predicted(known)

    def previous_mask(self, photo: str) -> Mask | None:
        """The person's mask as it was at the opening or before the last decision, None if there is none."""
        known = self.photo(photo)
        path = self._files.previous / known.mask_path.name
        return read_mask(path, known.shape) if path.exists() else None

    def model_mask(self, photo: str) -> Mask | None:
        """The model's mask even of a photo of the blind sample: for reports, never for the person who draws it."""
        return self._predicted(self.photo(photo))

    def roots(self) -> list[Path]:
        """The folders that were scanned."""
        return [self.folder / name for name in json.loads(self._fact("roots") or "[]")]

    def _predicted(self, photo: Photo) -> Mask | None:
        return read_mask(self._files.predicted / photo.predicted_file, photo.shape) if photo.predicted_file else None

    def _fact(self, name: str) -> str | None:
        row = self._store.one("SELECT value FROM facts WHERE name = ?", name)
        return row[0] if row else None


class ProjectWork(ProjectView):
    """The writing half of `project.Project`; every method may be called from any thread and waits for the disk.

    Attributes:
        reader: the person's name, for the log.
    """

    def __init__(self, folder: Path, reader: str, store: Store) -> None:
        super().__init__(folder, store)
        self.reader = reader
        # Photos as they were before the first stroke since their last decision: what undo comes back to.
        self._before: dict[str, Photo] = {}
        self._kept: tuple[str, Mask] | None = None  # the prediction read last; every autosave compares with it

    def visit(self, photo: str) -> None:
        """Remember that a person looks at a photo: it is where they come back to."""
        with self._store.write() as connection:
            update(connection, self.photo(photo).id, seen=1)
            set_fact(connection, "last_photo", photo)

    def save_mask(self, photo: str, mask: Mask, *, seconds: float = 0.0) -> Photo:
        """Keep a mask that a person changed, bool `[H, W]`; when this returns, it is on disk and was read back.

        The status becomes *corrected* (an *issue* stays one). A mask that is as it was before the first stroke since
        the last decision brings the earlier status back: a stroke and its undo change nothing.

        Args:
            photo: id.
            mask: of the photo's size.
            seconds: spent since the last call, added up.

        Raises:
            BadInput: the mask has another size, or could not be written; the earlier mask stands.
        """
        with self._store.exclusive():
            return self._save(self.photo(photo), mask, seconds)

    def accept(self, photo: str, mask: Mask | None = None, *, seconds: float = 0.0) -> Photo:
        """Approve the mask in hand: the photo becomes *accepted* as it is, or *corrected* if the person changed it.

        Args:
            photo: id.
            mask: what is shown, bool `[H, W]`; saved first. Without it, what is in the project is approved. An empty
                mask says that there is no lesion.
            seconds: spent since the last call.

        Raises:
            BadInput: there is no mask yet, or it could not be written; nothing is decided then.
        """
        with self._store.exclusive():
            known = self.photo(photo)
            if mask is not None and not np.array_equal(mask, self._shown(known)):
                known = self._save(known, mask, 0.0, as_drawn=True)
            elif mask is not None and not known.has_mask and (known.blind or not known.predicted_file):
                known = self._save(
                    known, mask, 0.0, as_drawn=True
                )  # nothing was shown, and nothing is meant: no lesion
            return self._decide(known, "corrected" if known.changed else "accepted", "", seconds, "accept")

    def decide(self, photo: str, status: Status, note: str = "", *, seconds: float = 0.0) -> Photo:
        """Give a photo any status, with a note; what is drawn stays.

        Raises:
            BadInput: there is no such status, or no mask that the status speaks of.
        """
        with self._store.exclusive():
            return self._decide(self.photo(photo), status, note, seconds, "decide")

    def take_back(self, photo: str | None = None) -> Photo | None:
        """Undo the last decision (on `photo`, or on any), and return its photo; None if there is none to undo.

        The mask stays if a person changed it; one that was only accepted is the model's again.
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
            status, withdraw = row["status_before"], False
            if status in ("new", "predicted") and known.has_mask:
                status, withdraw = ("corrected", False) if known.changed else (status, True)
            with self._store.write() as connection:
                note = row["note_before"]
                self._log(connection, known, "take back", status=status, note=note, takes_back=row["number"])
                columns = mask_columns(None) | {"dice": None} if withdraw else {}
                update(connection, known.id, status=status, note=note, changed_at=now(), **columns)
            if withdraw:
                self._files.remove(known.id)
            self._before.pop(known.id, None)
            return self.photo(known.id)

    def set_scale(self, photo: str, line: Line, mm: float) -> Photo:
        """Set millimetres per pixel from a line of known length, ((row, column), (row, column)) in pixels.

        Raises:
            BadInput: the line is under 5 mm or hardly any pixels long.
        """
        if not (math.isfinite(mm) and mm >= LEAST_MM):
            raise BadInput(
                f"The line stands for {mm:g} mm; draw one of at least {LEAST_MM:g} mm, shorter ones mislead."
            )
        ruler = RulerLine(line, mm)
        scale = json.dumps([*line, mm])
        with self._store.write() as connection:
            update(connection, self.photo(photo).id, mm_per_px=ruler.mm_per_px, scale_line=scale, scale_from="")
        return self.photo(photo)

    def clear_scale(self, photo: str) -> Photo:
        """Forget the scale of one photo."""
        with self._store.write() as connection:
            update(connection, self.photo(photo).id, mm_per_px=None, scale_line="", scale_from="")
        return self.photo(photo)

    def spread_scale(self, photo: str) -> int:
        """Give a photo's scale to all photos of its size that have no line of their own; how many that were.

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
        """Have a share of the photos drawn without seeing the prediction; returns how many photos that are.

        Drawn by seed and id, among photos that nobody has looked at or decided on; photos added later are drawn too.
        Ones that were drawn blind already stay in the sample. 0 switches it off for the photos still open.
        """
        if not 0 <= share <= 1:
            raise BadInput(f"The blind sample is {share}; give a share from 0 (none) to 1, such as 0.05.")
        with self._store.write() as connection:
            set_fact(connection, "blind_share", str(share))
            set_fact(connection, "blind_seed", str(seed))
            still_open = "status IN ('new', 'predicted') AND seen = 0 AND mask_sha256 = ''"
            for row in connection.execute(f"SELECT id FROM photos WHERE {still_open}").fetchall():  # noqa: S608
                update(connection, row[0], blind=int(is_drawn(row[0], share, seed)))
        found = self._store.one("SELECT count(*) FROM photos WHERE blind = 1")
        return int(found[0]) if found else 0

    # What a model does

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
        """Keep what a model drew, bool `[H, W]`. It never takes the place of a person's mask.

        Returns:
            Whether it was taken. On a photo that a person worked on, with the prediction they worked from, another
            model's is not: the photo gets the badge `stale` instead.

        Raises:
            BadInput: the mask has another size, or could not be written.
        """
        with self._store.exclusive():
            known = self.photo(photo)
            mask = _of_size(mask, known)
            if (known.has_mask or known.status in ("corrected", "accepted")) and known.predicted_file:
                if (model, model_version) != (known.model, known.model_version):
                    with self._store.write() as connection:
                        update(connection, photo, stale=" ".join(filter(None, (model, model_version))))
                return False
            self._store.check_writable()
            found = doubt(mask, confidence, probability)
            file = self._files.predict(photo, mask)
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
                (self._files.predicted / known.predicted_file).unlink(missing_ok=True)
            return True

    def _save(self, known: Photo, mask: Mask, seconds: float, *, as_drawn: bool = False) -> Photo:
        """`save_mask`; with `as_drawn` a mask that is as before is a drawing all the same."""
        mask = _of_size(mask, known)
        self._store.check_writable()
        first, before = known.id not in self._before, self._before.get(known.id, known)
        if not as_drawn and not before.has_mask and np.array_equal(mask, self._shown(before)):
            with self._store.write() as connection:
                if known.has_mask:
                    self._log(connection, known, "undo", status=before.status)
                update(
                    connection, known.id, status=before.status, dice=None, seconds=known.seconds + seconds,
                    **mask_columns(None),
                )  # fmt: skip
            self._files.remove(known.id)
            return self.photo(known.id)
        saved = self._files.save(known.id, mask, keep_previous=first)
        self._before[known.id] = before
        prediction = self._predicted(known)
        as_before = before.has_mask and saved.sha256 == before.mask_sha256
        status = before.status if as_before or before.status == "issue" else "corrected"
        with self._store.write() as connection:
            if first:
                self._log(connection, known, "paint", status=status)
            update(
                connection, known.id, status=status, reader=self.reader, changed_at=now(),
                seconds=known.seconds + seconds, dice=None if prediction is None else dice(mask, prediction),
                **mask_columns(saved),
            )  # fmt: skip
        return self.photo(known.id)

    def _decide(self, known: Photo, status: str, note: str, seconds: float, action: str) -> Photo:
        if status not in STATUSES:
            raise BadInput(f"{status!r} is no status; give one of {', '.join(STATUSES)}.")
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
        self._before.pop(known.id, None)
        return self.photo(known.id)

    def _log(self, connection: sqlite3.Connection, known: Photo, action: str, **values: object) -> None:
        by = {"model": known.model, "model_version": known.model_version, "note_before": known.note}
        write_log(connection, known.id, self.reader, action, **by | values)

    def _shown(self, known: Photo) -> Mask:
        """The mask that a person has before them; blank where there is none, or none may be seen."""
        if known.has_mask:
            return read_mask(known.mask_path, known.shape)
        prediction = None if known.hides_prediction else self._predicted(known)
        return np.zeros(known.shape, dtype=bool) if prediction is None else prediction

    def _predicted(self, photo: Photo) -> Mask | None:
        kept = self._kept
        if kept is not None and kept[0] == photo.predicted_file:
            return kept[1].copy()
        found = super()._predicted(photo)
        if found is not None:
            self._kept = (photo.predicted_file, found.copy())
        return found


def _of_size(mask: Mask, photo: Photo) -> Mask:
    mask = np.asarray(mask)
    if mask.shape != photo.shape:
        raise BadInput(f"The mask is {mask.shape} and {photo.name} {photo.shape}; give a mask of the photo's size.")
    return mask.astype(bool, copy=False)
