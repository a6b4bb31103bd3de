"""The fits of a fine-tuning run, and what is chosen from them: how many passes, and how much of the new weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .finetune import FineTuneOptions

if TYPE_CHECKING:
    import torch

MIXES = (0.25, 0.5, 0.75)
"""Shares of the fine-tuned weights that are tried, the rest being the base's. With a quarter of the base a style is
learned as well as with none of it, and photos of other clinics are drawn better."""
POINTS = (0.5, 1.0)
"""Shares of the passes after which it is measured whether more of them help."""
UNMEASURED_MIX = 0.5

Scores = NDArray[np.float64]
"""Dice `[points, mixes]` of one held-out photo."""


@dataclass
class Fit:
    """One fit: what it learns from, what it is judged by, and what came of it."""

    name: str
    learn: list[int]
    held_out: list[int]
    passes: int
    scores: dict[int, Scores] = field(default_factory=dict)
    masks: dict[int, dict[tuple[int, int], NDArray[np.uint8]]] = field(default_factory=dict)
    weights: "dict[int, dict[str, torch.Tensor]]" = field(default_factory=dict)
    finished: bool = False

    @property
    def points(self) -> list[int]:
        """Numbers of passes after which it is measured; as many as `POINTS`, so the last may repeat."""
        return [max(1, round(self.passes * share)) for share in POINTS]


@dataclass(frozen=True)
class Choice:
    """How long and how much to learn: passes, the number of that one of `POINTS`, and the mix, with its number."""

    passes: int
    point: int
    mix: float
    column: int


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


def choose(fit: Fit, judged: Mapping[int, Scores], without: Sequence[int] = ()) -> Choice:
    """What has the best mean Dice on the judged photos but for those `without`, as passes of `fit`.

    What is no more than one standard error (of the differences, photo by photo) behind the best counts as good as it;
    of those the one with most of the style is taken, that is most new weights and most passes. With twenty photos the
    one nearest to the base nearly always counts as good, too, and has learned half as much.
    """
    scores = [table for number, table in judged.items() if number not in without]
    if not scores:
        return Choice(fit.points[-1], len(POINTS) - 1, UNMEASURED_MIX, MIXES.index(UNMEASURED_MIX))
    tables = np.array(scores)
    best = np.unravel_index(int(tables.mean(axis=0).argmax()), tables.shape[1:])
    behind = tables[:, best[0], best[1]][:, None, None] - tables
    error = behind.std(axis=0) / np.sqrt(len(tables))
    column, point = max((int(column), int(point)) for point, column in np.argwhere(behind.mean(axis=0) <= error))
    return Choice(fit.points[point], point, MIXES[column], column)
