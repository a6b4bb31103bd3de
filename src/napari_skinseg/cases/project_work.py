"""What is written to a project: masks, decisions, predictions, scales. Always the file first, its row second."""

import json
import math
import sqlite3
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput
from ..pixels.mask import read_mask
from ..pixels.metrics import dice
from ..pixels.ruler import RulerLine
from .project_rows import Line, Photo, Status, mask_columns, now, set_fact, update, write_log
from .project_scan import is_drawn
from .project_schema import STATUSES
from .project_store import Store
from .project_view import Mask, ProjectView
from .review_queue import doubt

LEAST_MM = 5.0
"""Shortest line that may set a scale: on a shorter one the pixel at each end weighs too much."""


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
