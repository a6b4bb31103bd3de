"""Dividing cases into train, val and test so that no lesion is on two sides, and writing that down for others."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_skinseg.errors import BadInput
from napari_skinseg.events import Event, OnEvent, ignore_event
from napari_skinseg.files import write_text

from .dataset import Case

COLUMNS = ("dataset", "id", "lesion_group", "split", "diagnosis")


@dataclass(frozen=True)
class SplitOptions:
    """How cases are divided; what is neither `val` nor `test` is `train`.

    Attributes:
        val: share of the photos that chooses checkpoints and thresholds.
        test: share of the photos that is reported and nothing else; 0 = none.
        seed: the same cases and seed give the same split on every computer.
    """

    val: float = 0.1
    test: float = 0.1
    seed: int = 0

    def validate(self) -> None:
        """Raise `BadInput` with a sentence if a value makes no sense."""
        if not (0 <= self.val < 1 and 0 <= self.test < 1 and self.val + self.test < 1):
            raise BadInput(
                f"val is {self.val} and test {self.test}; give shares from 0 that leave some photos to train on."
            )
        if self.seed < 0:
            raise BadInput(f"seed is {self.seed}; give a whole number from 0.")

    @property
    def shares(self) -> dict[str, float]:
        """Split -> share of the photos, of the splits that are wanted; train comes first."""
        shares = {"train": 1 - self.val - self.test, "val": self.val, "test": self.test}
        return {split: share for split, share in shares.items() if share > 0}


def divide(
    cases: Iterable[Case], options: SplitOptions = SplitOptions(), on_event: OnEvent = ignore_event
) -> list[Case]:
    """The cases in their order, each with its `split`.

    All photos of one group (lesion, patient) come into one split, every diagnosis is divided in the wanted shares as
    far as whole groups allow, and no wanted split is empty. A photo without a group is its own: `on_event` then gets a
    message that says that photos of one lesion may be on two sides.

    Raises:
        BadInput: there are fewer groups than splits.
    """
    options.validate()
    cases = list(cases)
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        # The prefix keeps a photo named like someone's lesion apart from that lesion.
        groups[f"group {case.group}" if case.group else f"photo {case.source}/{case.id}"].append(case)
    shares = options.shares
    if len(groups) < len(shares):
        raise BadInput(
            f"{len(cases)} photos of {len(groups)} lesions cannot be divided into {', '.join(shares)}; "
            "add photos or ask for fewer splits."
        )
    alone = sum(not case.group for case in cases)
    if alone:
        on_event(Event("split", message=_warning(alone, len(cases))))
    chosen = _assign(groups, shares, np.random.default_rng(options.seed))
    split_of = {id(case): chosen[name] for name, members in groups.items() for case in members}
    return [replace(case, split=split_of[id(case)]) for case in cases]


def write_splits(path: str | Path, cases: Iterable[Case]) -> None:
    """Write the split of each case as a CSV that `read_splits` and `apply_splits` take, whole or not at all."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for case in sorted(cases, key=lambda case: (case.source, case.id)):
        writer.writerow((case.source, case.id, case.group, case.split, case.diagnosis))
    write_text(path, table.getvalue())


def _assign(groups: dict[str, list[Case]], shares: dict[str, float], rng: np.random.Generator) -> dict[str, str]:
    """Group -> split."""
    strata: dict[str, list[str]] = defaultdict(list)
    for name in sorted(groups):  # not in the order of the cases, so that the same cases always give the same split
        strata[min(case.diagnosis for case in groups[name])].append(name)
    chosen: dict[str, str] = {}
    # What a stratum could not divide evenly is owed to the next, so that many rare diagnoses do not all go to train.
    owed = dict.fromkeys(shares, 0.0)
    for _, names in sorted(strata.items()):
        photos = sum(len(groups[name]) for name in names)
        for split, share in shares.items():
            owed[split] += share * photos
        # Largest groups first: the small ones then even out what the large ones left.
        for name in sorted(rng.permutation(names), key=lambda name: -len(groups[name])):
            split = max(owed, key=lambda split: owed[split])
            chosen[str(name)] = split
            owed[split] -= len(groups[name])
    _fill_empty(chosen, shares)
    return chosen


def _fill_empty(chosen: dict[str, str], shares: dict[str, float]) -> None:
    """Give every split that went out empty-handed a group of the split that has the most."""
    for split in shares:
        while split not in chosen.values():
            held = {other: [name for name, its in chosen.items() if its == other] for other in shares}
            chosen[max(held.values(), key=len)[-1]] = split


def _warning(alone: int, total: int) -> str:
    which = "The photos" if alone == total else f"{alone:,} of {total:,} photos"
    return (
        f"{which} have no lesion or patient id, so each was divided on its own: photos of one lesion may be on both "
        "sides and flatter the result. Put a table with the columns image_id and lesion_id beside the photos."
    )
