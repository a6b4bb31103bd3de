"""Parts of a large run: several processes or computers each segment one part of the photos into the same folder."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from napari_skinseg.errors import BadInput


@dataclass(frozen=True)
class Part:
    """One part of a run, numbered from 1 to `count`."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the part that "3/40" names.

        Raises:
            BadInput: the text has another form, or the number is not between 1 and the count.
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if match is None:
            raise BadInput(f"The part {text!r} is not of the form NUMBER/COUNT; give for example 3/40.")
        part = cls(int(match[1]), int(match[2]))
        if not 1 <= part.number <= part.count:
            raise BadInput(f"There is no part {part.number} of {part.count}; give a number from 1 to {part.count}.")
        return part

    def contains(self, name: str) -> bool:
        """Return whether a photo belongs to this part, by the SHA-256 of its name: the same on every computer."""
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % self.count == self.number - 1

    def file_name(self, name: str) -> str:
        """Return the name of this part's own file: "segmentations.json" becomes "segmentations.part-3-of-40.json"."""
        path = Path(name)
        return f"{path.stem}.part-{self.number}-of-{self.count}{path.suffix}"

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def find_parts(folder: Path, name: str) -> dict[Part, Path]:
    """Return the files that parts wrote into `folder` in place of the file `name`, by their parts."""
    stem, suffix = Path(name).stem, Path(name).suffix
    found = {}
    for path in sorted(folder.glob(f"{stem}.part-*{suffix}")):
        if match := re.fullmatch(rf"{re.escape(stem)}\.part-(\d+)-of-(\d+){re.escape(suffix)}", path.name):
            found[Part(int(match[1]), int(match[2]))] = path
    return found
