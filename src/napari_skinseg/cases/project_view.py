"""What can be read of a project: photos, masks, counts, the log, and the order of review."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput
from ..pixels.image import read_image
from ..pixels.mask import read_mask
from .project_masks import MaskFiles, fingerprint
from .project_rows import REVIEWED, Decision, Photo, Status, decision_of, photo_of
from .project_scan import relative_path
from .project_store import Store
from .review_queue import Candidate, Order, Queue, arrange

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
