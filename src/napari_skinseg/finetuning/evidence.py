"""The photos with corrected or accepted masks on which a model is fine-tuned and judged."""

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
from .verdict import FEWEST_PHOTOS, fewest_photos

FIXED_SHARE_FROM = 60
"""With this number of cases or more, a quarter is held out once; fewer cases are judged by cross-validation."""
HELD_OUT_SHARE, MOST_HELD_OUT = 0.25, 100
MOST_UNLABELLED = 12
"""Largest number of unlabelled photos of a project."""


@dataclass(frozen=True)
class Evidence:
    """The cases of a fine-tuning.

    Attributes:
        corrected: cases whose mask a person drew or changed.
        accepted: cases whose mask a person accepted without a change.
        left_out: (photo, sentence that says why) of each photo that cannot be used.
        unlabelled: photos of the project that nobody has reviewed; a few of them are shown with the masks of the base,
            so that fine-tuning changes little on photos like these.
    """

    corrected: tuple[Case, ...]
    accepted: tuple[Case, ...] = ()
    left_out: tuple[tuple[Path, str], ...] = ()
    unlabelled: tuple[Path, ...] = ()

    @property
    def cases(self) -> tuple[Case, ...]:
        """All cases; the corrected ones come first."""
        return self.corrected + self.accepted

    def split_folds(self, folds: int, seed: int) -> list[list[int]]:
        """Divide the cases into parts, each to be held out from one fit.

        Cases of one lesion (`Case.group`) stay in one part. The corrected and the accepted cases are both spread over
        all parts.

        Returns:
            Numbers of `cases` in each part: a single part with a share of the cases if there are many, and no part if
            there are too few cases to judge a model.
        """
        groups: dict[str, list[int]] = {}
        order = np.random.default_rng(seed).permutation(len(self.cases)).tolist()
        for number in sorted(order, key=lambda number: number >= len(self.corrected)):
            groups.setdefault(lesion_of(self.cases[number]), []).append(number)
        if len(self.cases) < FEWEST_PHOTOS or len(groups) < 2:
            return []
        fixed = len(self.cases) >= FIXED_SHARE_FROM
        count = round(1 / HELD_OUT_SHARE) if fixed else min(folds, len(groups))
        parts: list[list[int]] = [[] for _ in range(count)]
        for members in groups.values():  # each group goes to the smallest part; of equal parts to the first
            min(parts, key=len).extend(members)
        return [sorted(parts[0][:MOST_HELD_OUT])] if fixed else [sorted(part) for part in parts]

    def describe(self, options: FineTuneOptions) -> str:
        """Return a summary such as "23 corrected, 41 accepted, judged in 4 parts"."""
        parts = self.split_folds(options.folds, options.seed)
        how = "too few to be judged" if not parts else f"judged in {len(parts)} parts"
        if len(parts) == 1:
            how = f"judged on {len(parts[0])} of them"
        out = f"; {len(self.left_out)} left out" if self.left_out else ""
        return f"{len(self.corrected)} corrected, {len(self.accepted)} accepted, {how}{out}"

    def missing(self, options: FineTuneOptions) -> str:
        """Return a sentence that says which photos are missing for a verdict; empty if there are enough."""
        judged = self.corrected or self.accepted
        fewest = fewest_photos("border" if options.border_only else "weights")
        if len(judged) >= fewest and len({lesion_of(case) for case in self.cases}) > 1:
            return ""
        lesions = len({lesion_of(case) for case in judged})
        return (
            f"{len(judged)} corrected photo{'s' * (len(judged) != 1)} of {lesions} lesion{'s' * (lesions != 1)} "
            f"cannot show whether a change is better. Correct at least {fewest_photos('border')} to match the "
            f"border, and {FEWEST_PHOTOS} to fine-tune; twenty are a good start."
        )

    def check_enough(self, options: FineTuneOptions) -> None:
        """Raise `BadInput` if there are too few photos for a verdict."""
        if missing := self.missing(options):
            raise BadInput(missing)


def lesion_of(case: Case) -> str:
    """Return the same text for all cases of one lesion."""
    return f"{case.source}/{case.group}" if case.group else str(case.image)


def collect(path: str | Path, on_event: OnEvent = ignore_event, cancel: CancelToken | None = None) -> Evidence:
    """Find the usable cases of a project, or of a folder of photos with masks, which all count as corrected.

    Args:
        path: folder of the project, or of the photos.
        on_event: receives an event for each photo that is checked.
        cancel: is read before each photo.

    Raises:
        BadInput: there is no usable case; the message says why.
        Cancelled: `cancel` was set.
    """
    path = Path(path).expanduser()
    if Project.exists(path):
        with Project.open(path, read_only=True) as project:
            photos = [photo for photo in project.photos("corrected", "accepted") if photo.has_mask and photo.reviewed]
            waiting = project.photos("new", "predicted")
        cases = {
            status: [
                Case(photo.id, photo.path, photo.mask_path, photo.lesion_group, path.name, photo.diagnosis)
                for photo in photos
                if photo.status == status
            ]
            for status in ("corrected", "accepted")
        }
        if not photos:
            raise BadInput(f"{path} has no corrected photo yet; correct and accept a few in the Review tab first.")
    else:
        cases = {"corrected": [case for case in find_cases(path) if case.mask is not None], "accepted": []}
        waiting = []
        if not cases["corrected"]:
            raise BadInput(f"{path} holds no photo with a mask; correct some masks first, or choose another folder.")
    left_out: list[tuple[Path, str]] = []
    kept = {status: _usable_cases(found, left_out, on_event, cancel) for status, found in cases.items()}
    every = max(1, len(waiting) // MOST_UNLABELLED)
    unlabelled = tuple(photo.path for photo in waiting[::every][:MOST_UNLABELLED])
    evidence = Evidence(tuple(kept["corrected"]), tuple(kept["accepted"]), tuple(left_out), unlabelled)
    if not evidence.cases:
        raise BadInput(f"None of the masks of {path} can be used; the first: {left_out[0][1]}")
    if not any(_has_lesion(case) for case in evidence.cases):
        raise BadInput(f"All masks of {path} are empty; correct some photos that show a lesion.")
    return evidence


def _usable_cases(
    cases: Sequence[Case], left_out: list[tuple[Path, str]], on_event: OnEvent, cancel: CancelToken | None
) -> list[Case]:
    """The cases whose photo and mask can be read, have one size, and whose mask does not cover the whole photo.

    The other cases are added to `left_out`.
    """
    existing = [case for case in cases if case.image.is_file() and case.mask is not None and case.mask.is_file()]
    for case in cases:
        if case not in existing:
            missing = case.mask if case.image.is_file() else case.image
            left_out.append((case.image, f"{missing} does not exist any more; restore it, or scan the folder again."))
    report = check_cases(existing, on_event=on_event, cancel=cancel)
    full = set(report.full)
    usable = [case for case in report.usable if case.mask not in full]
    for case in existing:
        if case not in usable:
            why = (
                "covers the whole photo" if case.mask in full else "cannot be read, or has another size than its photo"
            )
            left_out.append((case.image, f"{case.mask} {why}; correct the mask to use this photo."))
    return usable


def _has_lesion(case: Case) -> bool:
    assert case.mask is not None
    return bool(read_mask(case.mask).any())
