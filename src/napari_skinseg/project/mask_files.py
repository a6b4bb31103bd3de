"""The mask files of an annotation project. Every file is whole at any instant, and what it replaces is kept.

masks/<id>_segmentation.png                    what a person drew or accepted
masks/previous/<id>_segmentation.png           the one before
masks/predicted/<id>-<hash>_segmentation.png   what the model drew; never rewritten, only replaced by another file
masks/damaged/                                 what could not be read, moved out of the way
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
from napari_skinseg.pixels.mask import read_mask

ENDING = "_segmentation.png"

# Names that `files.atomic` and the lock give to files under way; only these are ever removed as left over.
_UNDER_WAY = re.compile(r"^\.(.+_segmentation-.{8}\.png|skinseg-project.*-.{8}\.sqlite|skinseg-project\.lock-.+)$")
_A_MOMENT = 60.0  # s; a lock this young may be one that another process is taking at this instant

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Fingerprint:
    """A file's content; size and time tell without reading that it is still the same."""

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

    def make(self) -> None:
        """Make the folders that are missing; raises `BadInput` where that cannot be."""
        for folder in (self.masks, self.previous, self.predicted):
            if not folder.is_dir():
                make_output_folder(folder)

    def path(self, photo: str) -> Path:
        """The file of a person's mask of the photo with this id."""
        return self.masks / f"{photo}{ENDING}"

    def save(self, photo: str, mask: Mask, *, keep_previous: bool) -> Fingerprint:
        """Write a person's mask, read it back, and only then let it take the place of the one before.

        Raises:
            BadInput: it cannot be written, or does not read back as it was; the earlier mask stands.
        """
        path = self.path(photo)
        if keep_previous and path.exists():
            _duplicate(path, self.previous / path.name)
        return _write(path, mask)

    def accept(self, photo: str, predicted: str) -> Fingerprint:
        """Make the model's mask the person's, as a file of its own."""
        path = self.path(photo)
        _duplicate(self.predicted / predicted, path, link=False)
        return fingerprint(path)

    def predict(self, photo: str, mask: Mask) -> str:
        """Write what a model drew and return the file's name."""
        name = f"{photo}-{hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()[:8]}{ENDING}"
        if not (self.predicted / name).exists():
            _write(self.predicted / name, mask)
        return name

    def go_back(self, photo: str) -> None:
        """Put the previous version back in place of a mask that is gone or damaged."""
        path = self.path(photo)
        _duplicate(self.previous / path.name, path, link=False)

    def set_aside(self, photo: str) -> Path:
        """Move a mask that cannot be read out of the way and return where to."""
        path = self.path(photo)
        make_output_folder(self.damaged)
        target = self.damaged / path.name
        number = 1
        while target.exists():
            number += 1
            target = self.damaged / f"{photo}-{number}{ENDING}"
        os.replace(path, target)
        return target

    def remove(self, photo: str) -> None:
        """Take a person's mask away, keeping it as the previous version."""
        path = self.path(photo)
        if path.exists():
            os.replace(path, self.previous / path.name)

    def is_whole(self, photo: str, shape: tuple[int, ...]) -> bool:
        """Whether a person's mask can be read and has the photo's size."""
        try:
            read_mask(self.path(photo), shape)
        except BadInput:
            return False
        return True

    def ids(self) -> dict[str, os.stat_result]:
        """Every photo that has a person's mask file."""
        return {name.removesuffix(ENDING): entry for name, entry in _files(self.masks) if name.endswith(ENDING)}

    def predicted_names(self) -> set[str]:
        """Every file with a model's mask."""
        return {name for name, _ in _files(self.predicted)}

    def sweep(self) -> int:
        """Remove what a killed process left half written, and return how many files that were."""
        swept = 0
        for folder in (self.masks.parent, self.masks, self.previous, self.predicted):
            for entry in os.scandir(folder) if folder.is_dir() else ():
                if not _UNDER_WAY.match(entry.name) or not entry.is_file(follow_symlinks=False):
                    continue
                if not entry.name.endswith((".png", ".sqlite")) and time.time() - entry.stat().st_mtime < _A_MOMENT:
                    continue
                with suppress(FileNotFoundError):
                    Path(entry.path).unlink()
                    swept += 1
        return swept


def fingerprint(path: Path) -> Fingerprint:
    """The fingerprint of a file; raises `OSError`."""
    found = path.stat()
    return Fingerprint(hashlib.sha256(path.read_bytes()).hexdigest(), found.st_size, found.st_mtime_ns)


def _write(path: Path, mask: Mask) -> Fingerprint:
    encoded = io.BytesIO()
    Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).save(encoded, format="PNG", compress_level=3)
    content = encoded.getvalue()
    with atomic(path) as temporary:
        temporary.write_bytes(content)
        # Before the earlier mask is gone: a disk that lies is found out while there is still something to keep.
        if not np.array_equal(read_mask(temporary), mask):
            raise BadInput(f"{path} did not read back as it was written; check the disk and save again.")
    _sync(path.parent)
    found = path.stat()
    return Fingerprint(hashlib.sha256(content).hexdigest(), found.st_size, found.st_mtime_ns)


def _duplicate(source: Path, target: Path, *, link: bool = True) -> None:
    """Put a second name for `source`, or a copy of it, at `target`, whole or not at all."""
    if link:  # a replaced file is never written into, so two names for one content are as good as a copy, and free
        aside = target.with_name(f".{target.stem}-_linked_.png")
        try:
            aside.unlink(missing_ok=True)
            os.link(source, aside)
            os.replace(aside, target)
            aside.unlink(missing_ok=True)  # both names were one file already: then a rename does nothing
            return
        except OSError:
            pass  # a file system without hard links
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)
    _sync(target.parent)


def _sync(folder: Path) -> None:
    """Have the folder's entries on disk too, so that a rename outlives a power cut; Windows does that itself."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # some shares have no such call
    finally:
        os.close(handle)


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    for entry in os.scandir(folder) if folder.is_dir() else ():
        if not entry.name.startswith(".") and entry.is_file():
            yield entry.name, entry.stat()
