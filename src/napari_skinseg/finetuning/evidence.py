"""TODO."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_skinseg.datasets.checks import check_cases
from napari_skinseg.datasets.dataset import Case, find_cases
from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, OnEvent, ignore_event
from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.project.project import Project

from .options import FineTuneOptions
from .verdict import FEWEST

FIXED_SHARE_FROM = 60
"""From so many cases on a quarter of them is held out once; fewer are judged by cross-fitting."""


HELD_OUT, MOST_HELD_OUT = 0.25, 100


@dataclass(frozen=True)
class Evidence:
    """What there is to learn from.

    Attributes:
        corrected: cases whose mask a person drew or changed.
        accepted: cases whose mask a person approved as the model drew it.
        left_out: (photo, sentence) of what cannot be used.
    """

    corrected: tuple[Case, ...]
    accepted: tuple[Case, ...] = ()
    left_out: tuple[tuple[Path, str], ...] = ()

    @property
    def cases(self) -> tuple[Case, ...]:
        """All of them, corrected first."""
        return self.corrected + self.accepted

    def held_out(self, folds: int, seed: int) -> list[list[int]]:
        """Numbers of the `cases` that each judging fit does not see; none if there are too few to judge.

        Cases of one lesion (`Case.group`) stay together, and each part has its share of corrected and accepted ones.
        """
        groups: dict[str, list[int]] = {}
        order = np.random.default_rng(seed).permutation(len(self.cases)).tolist()
        for number in sorted(order, key=lambda number: number >= len(self.corrected)):
            case = self.cases[number]
            groups.setdefault(f"{case.source}/{case.group}" if case.group else str(case.image), []).append(number)
        if len(self.cases) < FEWEST or len(groups) < 2:
            return []
        fixed = len(self.cases) >= FIXED_SHARE_FROM
        count = round(1 / HELD_OUT) if fixed else min(folds, len(groups))
        parts: list[list[int]] = [[] for _ in range(count)]
        for members in groups.values():  # dealt to the smallest part; Python's sort and min keep it deterministic
            min(parts, key=len).extend(members)
        return [sorted(parts[0][:MOST_HELD_OUT])] if fixed else [sorted(part) for part in parts]

    def in_words(self, options: FineTuneOptions) -> str:
        """Such as "23 corrected, 41 accepted, judged in 4 folds"."""
        parts = self.held_out(options.folds, options.seed)
        how = "too few to be judged" if not parts else f"judged in {len(parts)} folds"
        if len(parts) == 1:
            how = f"{len(parts[0])} of them held out to judge by"
        out = f"; {len(self.left_out)} left out" if self.left_out else ""
        return f"{len(self.corrected)} corrected, {len(self.accepted)} accepted, {how}{out}"


def collect(path: str | Path, on_event: OnEvent = ignore_event, cancel: CancelToken | None = None) -> Evidence:
    """Find what can be learned from in a project, or in a folder of photos with masks (all taken as corrected).

    Raises:
        BadInput: there is nothing to learn from; the sentence says why.
        Cancelled: `cancel` was set.
    """
    path = Path(path).expanduser()
    if Project.exists(path):
        with Project.open(path, read_only=True) as project:
            photos = [photo for photo in project.photos("corrected", "accepted") if photo.has_mask]
        cases = {
            status: [
                Case(photo.id, photo.path, photo.mask_path, photo.lesion_group, path.name, photo.diagnosis)
                for photo in photos
                if photo.status == status
            ]
            for status in ("corrected", "accepted")
        }
        if not photos:
            raise BadInput(f"{path} has no corrected photo yet; correct or accept a few in the Review tab first.")
    else:
        cases = {"corrected": [case for case in find_cases(path) if case.mask is not None], "accepted": []}
        if not cases["corrected"]:
            raise BadInput(f"{path} holds no photo with a mask; correct some masks first, or choose another folder.")
    left_out: list[tuple[Path, str]] = []
    kept = {status: _sound(found, left_out, on_event, cancel) for status, found in cases.items()}
    evidence = Evidence(tuple(kept["corrected"]), tuple(kept["accepted"]), tuple(left_out))
    if not evidence.cases:
        raise BadInput(f"Of {path} no photo can be learned from; the first: {left_out[0][1]}")
    if not any(_lesion(case) for case in evidence.cases):
        raise BadInput(f"All masks of {path} are empty; correct some photos that show a lesion.")
    return evidence


def _sound(
    cases: Sequence[Case], left_out: list[tuple[Path, str]], on_event: OnEvent, cancel: CancelToken | None
) -> list[Case]:
    """The cases whose photo and mask can be read, are of one size and do not call the whole frame a lesion."""
    there = [case for case in cases if case.image.is_file() and case.mask is not None and case.mask.is_file()]
    for case in cases:
        if case not in there:
            gone = case.mask if case.image.is_file() else case.image
            left_out.append((case.image, f"{gone} is gone; bring it back, or scan the folder again."))
    look = check_cases(there, on_event=on_event, cancel=cancel)
    full = set(look.full)
    usable = [case for case in look.usable if case.mask not in full]
    for case in there:
        if case not in usable:
            why = (
                "covers the whole photo" if case.mask in full else "cannot be read, or has another size than its photo"
            )
            left_out.append((case.image, f"{case.mask} {why}; correct it to have it used."))
    return usable


def _lesion(case: Case) -> bool:
    assert case.mask is not None
    return bool(read_mask(case.mask).any())
