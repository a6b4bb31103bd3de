"""The mask files of a project. A process that is killed leaves no incomplete file under one of these names.

masks/<id>_segmentation.png                    the mask that a person drew or accepted
masks/previous/<id>_segmentation.png           the mask before the last decision
masks/predicted/<id>-<hash>_segmentation.png   the model's mask; a new prediction is a new file
masks/damaged/                                 masks that could not be read, moved here
"""

import hashlib
import io
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_skinseg.errors import BadInput
from napari_skinseg.files import atomic, make_output_folder
from napari_skinseg.pixels.mask import MASK_ENDING, read_mask

# Names that `files.atomic`, SQLite and the lock give to their temporary files; no other file is ever removed.
_TEMPORARY = re.compile(
    r"^\.(.+_segmentation-.{8}\.png|skinseg-project.*-.{8}\.sqlite(-journal|-wal|-shm)?|skinseg-project\.lock-.+)$"
)
_NOT_IN_NAMES = r'\x00-\x1f/\\:*?"<>|'
_PLAIN_NAME = re.compile(rf"[^.{_NOT_IN_NAMES}][^{_NOT_IN_NAMES}]*")
_LOCK_AGE = 60.0  # s; another process may be creating a younger temporary lock at this moment

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Fingerprint:
    """The content of a file; an equal size and time show, without reading, that the content is unchanged."""

    sha256: str
    bytes: int
    mtime_ns: int


class MaskFiles:
    """The folder `masks` of the project in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.masks = folder / "masks"
        self.previous = self.masks / "previous"
        self.predicted = self.masks / "predicted"
        self.damaged = self.masks / "damaged"

    def make_folders(self) -> None:
        """Make the folders that are missing.

        Raises:
            BadInput: a folder cannot be made, or is a link: masks are written inside the project only.
        """
        for folder in (self.masks, self.previous, self.predicted, self.damaged):
            if folder.is_symlink():
                raise BadInput(f"{folder} is a link to another folder; put a folder in its place to open the project.")
            if folder != self.damaged and not folder.is_dir():
                make_output_folder(folder)

    def path(self, photo: str) -> Path:
        """The person's mask of the photo with this id."""
        return self.masks / _checked_name(f"{photo}{MASK_ENDING}")

    def previous_path(self, photo: str) -> Path:
        """The person's mask before the last decision."""
        return self.previous / self.path(photo).name

    def predicted_path(self, name: str) -> Path:
        """The model's mask with this file name."""
        return self.predicted / _checked_name(name)

    def save(self, photo: str, mask: Mask, *, keep_previous: bool) -> Fingerprint:
        """Write a person's mask, bool `[H, W]`, read it back, and only then replace the earlier mask.

        Args:
            photo: id.
            mask: bool `[H, W]`.
            keep_previous: keep the earlier mask as the previous one.

        Raises:
            BadInput: the mask cannot be written, or reads back differently; the earlier mask is unchanged.
        """
        path = self.path(photo)
        if keep_previous and path.exists():
            _link_or_copy(path, self.previous_path(photo))
        return _write(path, mask)

    def accept(self, photo: str, predicted: str) -> Fingerprint:
        """Copy the model's mask to the person's mask."""
        path = self.path(photo)
        _copy(self.predicted_path(predicted), path)
        return fingerprint(path)

    def save_prediction(self, photo: str, mask: Mask) -> str:
        """Write a model's mask, bool `[H, W]`, and return the name of the file."""
        name = f"{photo}-{hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()[:8]}{MASK_ENDING}"
        if not self.predicted_path(name).exists():
            _write(self.predicted_path(name), mask)
        return name

    def remove_prediction(self, name: str) -> None:
        """Remove a model's mask that no photo refers to."""
        self.predicted_path(name).unlink(missing_ok=True)

    def restore_previous(self, photo: str) -> None:
        """Copy the previous mask to the place of a mask that is missing or damaged."""
        _copy(self.previous_path(photo), self.path(photo))

    def move_to_damaged(self, photo: str) -> None:
        """Move a mask that cannot be read to `masks/damaged`, under a name that is free there."""
        path = self.path(photo)
        make_output_folder(self.damaged)
        target = self.damaged / path.name
        number = 1
        while target.exists():
            number += 1
            target = self.damaged / f"{photo}-{number}{MASK_ENDING}"
        os.replace(path, target)

    def remove(self, photo: str) -> None:
        """Remove a person's mask and keep it as the previous one."""
        path = self.path(photo)
        if path.exists():
            os.replace(path, self.previous_path(photo))
            path.unlink(missing_ok=True)  # renaming does nothing if both names are the same file

    def is_readable(self, photo: str, shape: tuple[int, ...]) -> bool:
        """Whether the person's mask can be read and has the shape (height, width) of its photo."""
        try:
            read_mask(self.path(photo), shape)
        except BadInput:
            return False
        return True

    def photos_with_mask(self) -> dict[str, os.stat_result]:
        """Size and time of every person's mask, by the id of its photo."""
        return {name.removesuffix(MASK_ENDING): entry for name, entry in _mask_files(self.masks)}

    def predicted_names(self) -> set[str]:
        """The file names of all models' masks."""
        return {name for name, _ in _mask_files(self.predicted)}

    def remove_temporary_files(self) -> int:
        """Remove the temporary files that a killed process left in the project, and return their number."""
        removed = 0
        for folder in (self.masks.parent, self.masks, self.previous, self.predicted):
            for entry in os.scandir(folder) if folder.is_dir() else ():
                if not _TEMPORARY.match(entry.name) or not entry.is_file(follow_symlinks=False):
                    continue
                is_lock = entry.name.startswith(".skinseg-project.lock-")
                if is_lock and time.time() - entry.stat().st_mtime < _LOCK_AGE:
                    continue
                with suppress(FileNotFoundError):
                    Path(entry.path).unlink()
                    removed += 1
        return removed


def is_plain_name(name: str) -> bool:
    """Whether `name` is a file name on every system, not a path and not hidden."""
    return bool(_PLAIN_NAME.fullmatch(name))


def fingerprint(path: Path) -> Fingerprint:
    """The fingerprint of a file; raises `OSError` if it cannot be read."""
    found = path.stat()
    return Fingerprint(hashlib.sha256(path.read_bytes()).hexdigest(), found.st_size, found.st_mtime_ns)


def _checked_name(name: str) -> str:
    if not is_plain_name(name):
        raise BadInput(f"{name!r} is not a file name, so no mask is read or written there; check the project.")
    return name


def _write(path: Path, mask: Mask) -> Fingerprint:
    encoded = io.BytesIO()
    Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).save(encoded, format="PNG", compress_level=3)
    content = encoded.getvalue()
    with atomic(path) as temporary:
        temporary.write_bytes(content)
        # Check before the earlier mask is replaced, so that a faulty disk does not destroy both.
        if not np.array_equal(read_mask(temporary), mask):
            raise BadInput(f"{path} reads back differently than it was written; check the disk and save again.")
    _sync(path.parent)
    found = path.stat()
    return Fingerprint(hashlib.sha256(content).hexdigest(), found.st_size, found.st_mtime_ns)


def _link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, or a copy of it where the file system has no hard links.

    Mask files are replaced and never written into, so a link is as safe as a copy, and costs no time.
    """
    temporary = target.with_name(f".{target.stem}-_linked_.png")
    try:
        temporary.unlink(missing_ok=True)
        os.link(source, temporary)
        os.replace(temporary, target)
        temporary.unlink(missing_ok=True)  # renaming does nothing if both names are the same file already
    except OSError:
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)
    _sync(target.parent)


def _sync(folder: Path) -> None:
    """Write the folder's entries to disk, so that a rename survives a power cut; Windows does this itself."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # some network shares cannot do this
    finally:
        os.close(handle)


def _mask_files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    for entry in os.scandir(folder) if folder.is_dir() else ():
        if entry.name.endswith(MASK_ENDING) and not entry.name.startswith(".") and entry.is_file():
            yield entry.name, entry.stat()
