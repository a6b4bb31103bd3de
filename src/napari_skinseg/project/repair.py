"""Bringing the files and the rows of a project together again after a kill, a power cut or a change from outside.

A mask is written before its row and a row names only files that are whole, so a kill leaves one of few things; each is
put right in the person's favour: what was drawn counts, what was not decided is not invented.
"""

import sqlite3

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels.mask import read_mask

from .mask_files import MaskFiles, fingerprint
from .records import mask_columns, update, write_log
from .store import Store

_NAMED = 3


def repair(store: Store, files: MaskFiles, reader: str) -> tuple[str, ...]:
    """Repair what can be repaired and say, a sentence each, what was found and done; nothing if all was well."""
    return _Repair(store, files, reader).run()


class _Repair:
    def __init__(self, store: Store, files: MaskFiles, reader: str) -> None:
        self.store, self.files, self.reader = store, files, reader
        self.found: dict[str, list[str]] = {}

    def run(self) -> tuple[str, ...]:
        files = self.files
        files.make()
        if swept := files.sweep():
            self._note(f"{_files(swept)} left half written by a stopped session removed", "")
        rows = {row["id"]: row for row in self.store.rows("SELECT * FROM photos")}
        self._predictions(rows)
        there = files.ids()
        for photo, entry in there.items():
            if photo not in rows:
                self._note("Mask file of a photo that the project does not know (yet), kept", photo)
            elif (entry.st_size, entry.st_mtime_ns) != (rows[photo]["mask_bytes"], rows[photo]["mask_mtime_ns"]):
                self._differs(rows[photo])
        for photo, row in rows.items():
            if row["mask_sha256"] and photo not in there:
                self._vanished(row)
        return tuple(_sentence(what, photos) for what, photos in self.found.items())

    def _differs(self, row: sqlite3.Row) -> None:
        """The file is not the one that the row speaks of: a kill came between the two, or someone else wrote it."""
        photo = row["id"]
        current = fingerprint(self.files.path(photo))
        if current.sha256 == row["mask_sha256"]:  # copied or restored: only its time is new
            self._set(photo, "", **mask_columns(current))
        elif not self.files.is_whole(photo, (row["height"], row["width"])):
            self.files.set_aside(photo)
            self._note(
                "Mask file that cannot be read or has another size than its photo, moved to masks/damaged", photo
            )
            self._vanished(row)
        elif not row["mask_sha256"] and self._is_prediction(row):
            # An acceptance that was not finished, or a painting that was taken back: neither is a decision.
            self.files.remove(photo)
            self._note("Decision that was not finished, to be made again", photo)
        else:
            status = row["status"] if row["status"] in ("issue", "corrected") else "corrected"
            self._set(photo, "mask found", status=status, dice=None, **mask_columns(current))
            self._note("Mask newer than the project knew, taken up", photo)

    def _vanished(self, row: sqlite3.Row) -> None:
        """A row speaks of a mask that is gone: the version before it, else the model's, takes its place."""
        photo = row["id"]
        if (self.files.previous / self.files.path(photo).name).exists():
            self.files.go_back(photo)
            if self.files.is_whole(photo, (row["height"], row["width"])):
                found = fingerprint(self.files.path(photo))
                self._set(photo, "previous version", dice=None, **mask_columns(found))
                self._note("Mask file gone, the version before it put back", photo)
                return
            self.files.set_aside(photo)
        if not row["mask_sha256"]:
            return
        if row["predicted_file"] and row["dice"] == 1.0:
            found = self.files.accept(photo, row["predicted_file"])
            self._set(photo, "mask from prediction", **mask_columns(found))
            self._note("Mask file gone, made again from the model's mask that it was", photo)
            return
        status = row["status"]
        if status in ("corrected", "accepted"):
            status = "predicted" if row["predicted_file"] else "new"
        self._set(photo, "mask lost", status=status, dice=None, **mask_columns(None))
        self._note("Mask file gone and no earlier version of it there, to be drawn again", photo)

    def _predictions(self, rows: dict[str, sqlite3.Row]) -> None:
        there = self.files.predicted_names()
        wanted = {row["predicted_file"]: row for row in rows.values() if row["predicted_file"]}
        for stray in there - wanted.keys():
            (self.files.predicted / stray).unlink(missing_ok=True)
            self._note("Model's mask that was replaced or not finished, removed", stray)
        for name in wanted.keys() - there:
            row = wanted[name]
            status = "new" if row["status"] == "predicted" else row["status"]
            self._set(
                row["id"], "prediction lost", status=status, predicted_file="", model="", model_version="",
                confidence=None, doubt=None, doubt_reason="", lesion_share=None, dice=None,
            )  # fmt: skip
            self._note("Model's mask gone, to be predicted again", row["id"])
            rows[row["id"]] = self.store.rows("SELECT * FROM photos WHERE id = ?", row["id"])[0]

    def _is_prediction(self, row: sqlite3.Row) -> bool:
        if not row["predicted_file"]:
            return False
        try:
            predicted = read_mask(self.files.predicted / row["predicted_file"])
        except BadInput:
            return False
        return bool((predicted == read_mask(self.files.path(row["id"]))).all())

    def _set(self, photo: str, action: str, **values: object) -> None:
        with self.store.write() as connection:
            if action:
                after = {"status": values["status"]} if "status" in values else {}
                write_log(connection, photo, self.reader, f"repair: {action}", **after)
            update(connection, photo, **values)

    def _note(self, what: str, photo: str) -> None:
        self.found.setdefault(what, []).append(photo)


def _sentence(what: str, photos: list[str]) -> str:
    if photos == [""]:
        return f"{what}."
    more = ", …" if len(photos) > _NAMED else ""
    return f"{what}: {', '.join(photos[:_NAMED])}{more} ({len(photos)})."


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number} files"
