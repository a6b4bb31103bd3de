"""Repair of a project whose mask files and rows do not match, after a kill, a power cut or a change by other programs.

A mask file is written before its row, and a row names only files that are complete. So a killed process leaves one of
a few states. Repair keeps every mask that a person drew and makes no decision that a person did not make.
"""

import sqlite3

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels.mask import read_mask

from .mask_files import MaskFiles, fingerprint
from .records import mask_columns, update, write_log
from .store import Store

_IDS_SHOWN = 3


class Repair:
    """Repair of one project; `reader` is the name for its log."""

    def __init__(self, store: Store, files: MaskFiles, reader: str) -> None:
        self.store, self.files, self.reader = store, files, reader
        self.photos_by_finding: dict[str, list[str]] = {}

    def run(self) -> tuple[str, ...]:
        """Repair the project and return a sentence for each kind of finding; empty if there was nothing to repair."""
        self.files.make_folders()
        sentences = []
        if removed := self.files.remove_temporary_files():
            files = "1 temporary file" if removed == 1 else f"{removed} temporary files"
            sentences.append(f"Removed {files} that a stopped session left.")
        rows = {row["id"]: row for row in self.store.rows("SELECT * FROM photos")}
        self._check_predictions(rows)
        masks = self.files.photos_with_mask()
        for photo, entry in masks.items():
            if photo not in rows:
                self._report("Kept a mask whose photo is not in the project yet", photo)
            elif (entry.st_size, entry.st_mtime_ns) != (rows[photo]["mask_bytes"], rows[photo]["mask_mtime_ns"]):
                self._repair_changed(rows[photo])
        for photo, row in rows.items():
            if row["mask_sha256"] and photo not in masks:
                self._repair_missing(row)
        return (*sentences, *(_sentence(finding, photos) for finding, photos in self.photos_by_finding.items()))

    def _repair_changed(self, row: sqlite3.Row) -> None:
        """Repair a mask file that changed without its row: by a killed process, or by another program."""
        photo = row["id"]
        current = fingerprint(self.files.path(photo))
        if current.sha256 == row["mask_sha256"]:  # copied or restored: only its time is different
            self._set(photo, "", **mask_columns(current))
        elif not self.files.is_readable(photo, (row["height"], row["width"])):
            self.files.move_to_damaged(photo)
            self._report("Moved a mask that is unreadable, or has another size than its photo, to masks/damaged", photo)
            self._repair_missing(row)
        elif not row["mask_sha256"] and self._equals_prediction(row):
            # An acceptance that was not finished, or a correction that was undone: neither is a decision.
            self.files.remove(photo)
            self._report("A decision was not finished, decide again", photo)
        else:
            status = row["status"] if row["status"] in ("issue", "corrected") else "corrected"
            self._set(photo, "mask found", status=status, dice=None, **mask_columns(current))
            self._report("Took over a mask that was newer than the index", photo)

    def _repair_missing(self, row: sqlite3.Row) -> None:
        """Repair a missing mask file: use the model's mask if the mask was equal to it, else the previous mask."""
        photo = row["id"]
        if row["mask_sha256"] and row["predicted_file"] and row["dice"] == 1.0:  # it was exactly the model's mask
            found = self.files.accept(photo, row["predicted_file"])
            self._set(photo, "mask from prediction", **mask_columns(found))
            self._report("An accepted mask was missing, restored it from the model's mask", photo)
            return
        if self.files.previous_path(photo).exists():
            self.files.restore_previous(photo)
            if self.files.is_readable(photo, (row["height"], row["width"])):
                found = fingerprint(self.files.path(photo))
                self._set(photo, "previous version", dice=None, **mask_columns(found))
                self._report("A mask was missing, restored the previous one", photo)
                return
            self.files.move_to_damaged(photo)
        if not row["mask_sha256"]:
            return
        status = row["status"]
        if status in ("corrected", "accepted"):
            status = "predicted" if row["predicted_file"] else "new"
        self._set(photo, "mask lost", status=status, dice=None, **mask_columns(None))
        self._report("A mask is missing and has no previous version, draw it again", photo)

    def _check_predictions(self, rows: dict[str, sqlite3.Row]) -> None:
        files = self.files.predicted_names()
        used = {row["predicted_file"]: row for row in rows.values() if row["predicted_file"]}
        for name in files - used.keys():
            self.files.remove_prediction(name)
            self._report("Removed a model's mask that was replaced or not finished", name)
        for name in used.keys() - files:
            row = used[name]
            status = "new" if row["status"] == "predicted" else row["status"]
            self._set(
                row["id"], "prediction lost", status=status, predicted_file="", model="", model_version="",
                confidence=None, doubt=None, doubt_reason="", lesion_share=None, dice=None,
            )  # fmt: skip
            self._report("A model's mask is missing, predict again", row["id"])
            rows[row["id"]] = self.store.rows("SELECT * FROM photos WHERE id = ?", row["id"])[0]

    def _equals_prediction(self, row: sqlite3.Row) -> bool:
        if not row["predicted_file"]:
            return False
        try:
            predicted = read_mask(self.files.predicted_path(row["predicted_file"]))
        except BadInput:
            return False
        return bool((predicted == read_mask(self.files.path(row["id"]))).all())

    def _set(self, photo: str, action: str, **values: object) -> None:
        with self.store.write() as connection:
            if action:
                after = {"status": values["status"]} if "status" in values else {}
                write_log(connection, photo, self.reader, f"repair: {action}", **after)
            update(connection, photo, **values)

    def _report(self, finding: str, photo: str) -> None:
        self.photos_by_finding.setdefault(finding, []).append(photo)


def _sentence(finding: str, photos: list[str]) -> str:
    more = ", …" if len(photos) > _IDS_SHOWN else ""
    return f"{finding}: {', '.join(photos[:_IDS_SHOWN])}{more} ({len(photos)})."
