"""Split cases into train, val and test so that all photos of a lesion are in the same split; write split files."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_skinseg.errors import BadInput
from napari_skinseg.events import Event, OnEvent, ignore_event
from napari_skinseg.files import write_csv

from .dataset import Case

COLUMNS = ("dataset", "id", "lesion_group", "split", "diagnosis")


@dataclass(frozen=True)
class SplitOptions:
    """How cases are split. Photos that are in neither `val` nor `test` are in `train`.

    Attributes:
        val: fraction of the photos for the choice of checkpoints and thresholds.
        test: fraction of the photos for the reported figures only; 0 = none.
        seed: the same cases and seed give the same split on every computer.
    """

    val: float = 0.1
    test: float = 0.1
    seed: int = 0

    def validate(self) -> None:
        """Raise `BadInput` if a value is out of its range."""
        if not (0 <= self.val < 1 and 0 <= self.test < 1 and self.val + self.test < 1):
            raise BadInput(
                f"val is {self.val} and test {self.test}; give fractions from 0 that leave some photos to train on."
            )
        if self.seed < 0:
            raise BadInput(f"seed is {self.seed}; give a whole number from 0.")

    @property
    def fractions(self) -> dict[str, float]:
        """Split -> fraction of the photos, for the splits that are not empty; train is first."""
        fractions = {"train": 1 - self.val - self.test, "val": self.val, "test": self.test}
        return {split: fraction for split, fraction in fractions.items() if fraction > 0}


def divide(
    cases: Iterable[Case], options: SplitOptions = SplitOptions(), on_event: OnEvent = ignore_event
) -> list[Case]:
    """Return the cases in their order, each with its `split`.

    All photos of one group (lesion or patient) are in the same split. Each diagnosis is split in the given fractions
    as far as whole groups allow, and no split is empty. A photo without a group is a group alone; `on_event` then
    receives a message: photos of one lesion may be in two splits.

    Raises:
        BadInput: there are fewer groups than splits.
    """
    options.validate()
    cases = list(cases)
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        # The prefix separates a photo from a group with the same name.
        groups[f"group {case.group}" if case.group else f"photo {case.source}/{case.id}"].append(case)
    fractions = options.fractions
    if len(groups) < len(fractions):
        raise BadInput(
            f"{len(cases)} photos of {len(groups)} lesions cannot be divided into {', '.join(fractions)}; "
            "add photos or ask for fewer splits."
        )
    ungrouped = sum(not case.group for case in cases)
    if ungrouped:
        on_event(Event("split", message=_warning(ungrouped, len(cases))))
    split_of = _assign(groups, fractions, np.random.default_rng(options.seed))
    split_of_case = {id(case): split_of[name] for name, members in groups.items() for case in members}
    return [replace(case, split=split_of_case[id(case)]) for case in cases]


def write_splits(path: str | Path, cases: Iterable[Case]) -> None:
    """Write the split of each case to a CSV file for `read_splits` and `apply_splits`.

    Raises:
        BadInput: `path` cannot be written.
    """
    ordered = sorted(cases, key=lambda case: (case.source, case.id))
    write_csv(path, COLUMNS, ((case.source, case.id, case.group, case.split, case.diagnosis) for case in ordered))


def _assign(groups: dict[str, list[Case]], fractions: dict[str, float], rng: np.random.Generator) -> dict[str, str]:
    """Group -> split."""
    strata: dict[str, list[str]] = defaultdict(list)
    for name in sorted(groups):  # not in the order of the cases: the same cases then always give the same split
        strata[min(case.diagnosis for case in groups[name])].append(name)
    split_of: dict[str, str] = {}
    # What a split still needs is added to the next diagnosis; else all photos of rare diagnoses would go to train.
    needed = dict.fromkeys(fractions, 0.0)
    for _, names in sorted(strata.items()):
        photos = sum(len(groups[name]) for name in names)
        for split, fraction in fractions.items():
            needed[split] += fraction * photos
        # Large groups first: small groups can then fill what remains.
        for name in sorted(rng.permutation(names), key=lambda name: -len(groups[name])):
            split = max(needed, key=lambda split: needed[split])
            split_of[str(name)] = split
            needed[split] -= len(groups[name])
    _fill_empty_splits(split_of, fractions)
    return split_of


def _fill_empty_splits(split_of: dict[str, str], splits: Iterable[str]) -> None:
    """Move a group of the largest split into each empty split."""
    for split in splits:
        while split not in split_of.values():
            members = {other: [name for name, its in split_of.items() if its == other] for other in splits}
            split_of[max(members.values(), key=len)[-1]] = split


def _warning(ungrouped: int, total: int) -> str:
    photos = "The photos" if ungrouped == total else f"{ungrouped:,} of {total:,} photos"
    return (
        f"{photos} have no lesion or patient id, so each photo was assigned separately: photos of one lesion may be in "
        "two splits, and results may look better than they are. To prevent this, put a table with the columns image_id "
        "and lesion_id beside the photos."
    )
