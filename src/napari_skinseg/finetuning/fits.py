"""The fits of a fine-tuning run, and what is chosen from them: how much of the new weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .options import FineTuneOptions

if TYPE_CHECKING:
    import torch

MIXES = (0.25, 0.5, 0.75)
"""Shares of the fine-tuned weights that are tried, the rest being the base's. With a quarter of the base a style is
learned as well as with none of it, and photos of other clinics are drawn better."""
UNMEASURED_MIX = 0.5

Scores = NDArray[np.float64]
"""Dice `[mixes]` of one held-out photo."""


@dataclass
class Fit:
    """One fit: what it learns from, what it is judged by, and what came of it."""

    name: str
    learn: list[int]
    held_out: list[int]
    passes: int
    scores: dict[int, Scores] = field(default_factory=dict)
    masks: dict[int, list[NDArray[np.uint8]]] = field(default_factory=dict)
    weights: "dict[str, torch.Tensor]" = field(default_factory=dict)
    finished: bool = False


def plan(cases: int, parts: Sequence[Sequence[int]], options: FineTuneOptions) -> list[Fit]:
    """A fit for each held-out part, and one on all cases unless a single part was held out."""
    everything = list(range(cases))
    fits = []
    for number, part in enumerate(parts, start=1):
        learn = [case for case in everything if case not in part]
        name = "judged fit" if len(parts) == 1 else f"fold {number} of {len(parts)}"
        fits.append(Fit(name, learn, list(part), options.passes_for(len(learn))))
    if len(parts) != 1:
        fits.append(Fit("candidate", everything, [], options.passes_for(cases)))
    return fits


def choose(judged: Mapping[int, Scores], without: Sequence[int] = ()) -> int:
    """The number of that one of `MIXES` that has the best mean Dice on the judged photos but for those `without`.

    What is no more than one standard error (of the differences, photo by photo) behind the best counts as good as it;
    of those the one with most new weights is taken. The one with fewest nearly always counts as good, too, with twenty
    photos, and has learned half as much of the style.
    """
    scores = [table for number, table in judged.items() if number not in without]
    if not scores:
        return MIXES.index(UNMEASURED_MIX)
    tables = np.array(scores)
    behind = tables[:, [tables.mean(axis=0).argmax()]] - tables
    error = behind.std(axis=0) / np.sqrt(len(tables))
    return int(np.flatnonzero(behind.mean(axis=0) <= error).max())
