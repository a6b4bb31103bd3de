"""The fits of a fine-tuning run, and how much of their weights the candidate gets.

A fit trains a copy of the base on some of the cases. The candidate's weights lie between those of the base and those of
a fit: base + mixing coefficient * (fit - base).
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .options import FineTuneOptions

MIXING_COEFFICIENTS = (0.25, 0.5, 0.75)
"""The mixing coefficients that are tried. With 0.75 a style is learned as well as with 1, and the masks of photos from
other clinics are better."""
UNMEASURED_COEFFICIENT = 0.5
"""The mixing coefficient if there are too few cases to choose one."""


@dataclass
class Fit:
    """One fit: its cases and its results.

    Attributes:
        name: name for the user, such as "fold 1 of 4".
        train: numbers of the cases that it is trained on.
        held_out: numbers of the cases that it is judged on.
        passes: number of passes.
        dice: by held-out case, Dice with each of `MIXING_COEFFICIENTS`.
        masks: by held-out case, the mask with each of `MIXING_COEFFICIENTS`, as bits (`numpy.packbits`).
        weights: the weights after the last pass; empty if the candidate does not come from this fit.
        finished: whether the fit is complete.
    """

    name: str
    train: list[int]
    held_out: list[int]
    passes: int
    dice: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    masks: dict[int, list[NDArray[np.uint8]]] = field(default_factory=dict)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    finished: bool = False

    def state(self) -> dict[str, Any]:
        """Return the results as tensors and plain values, for a checkpoint."""
        return {
            "finished": self.finished,
            "scores": {number: torch.from_numpy(dice) for number, dice in self.dice.items()},
            "masks": {number: [torch.from_numpy(bits) for bits in masks] for number, masks in self.masks.items()},
            "weights": self.weights,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the results from what `state` returned."""
        self.finished, self.weights = state["finished"], state["weights"]
        self.dice = {number: dice.numpy() for number, dice in state["scores"].items()}
        self.masks = {number: [bits.numpy() for bits in masks] for number, masks in state["masks"].items()}


def plan_fits(cases: int, parts: Sequence[Sequence[int]], options: FineTuneOptions) -> list[Fit]:
    """Create a fit for each held-out part, and then one on all cases unless there is a single part.

    Args:
        cases: number of cases.
        parts: see `Evidence.split_folds`.
        options: for the number of passes.
    """
    everything = list(range(cases))
    fits = []
    for number, part in enumerate(parts, start=1):
        train = [case for case in everything if case not in part]
        name = "judged fit" if len(parts) == 1 else f"fold {number} of {len(parts)}"
        fits.append(Fit(name, train, list(part), options.passes_for(len(train))))
    if len(parts) != 1:
        fits.append(Fit("candidate", everything, [], options.passes_for(cases)))
    return fits


def choose_coefficient(dice: Mapping[int, NDArray[np.float64]], without: Sequence[int] = ()) -> int:
    """Choose the mixing coefficient by Dice on held-out photos.

    Coefficients whose mean Dice is at most one standard error (of the differences by photo) below the best mean count
    as equal to the best. The largest of them is taken: with twenty photos, the smallest is nearly always among them,
    but it has learned half as much of the style.

    Args:
        dice: by case, Dice with each of `MIXING_COEFFICIENTS`.
        without: numbers of cases that must not influence the choice.

    Returns:
        Index in `MIXING_COEFFICIENTS`.
    """
    rows = [row for number, row in dice.items() if number not in without]
    if not rows:
        return MIXING_COEFFICIENTS.index(UNMEASURED_COEFFICIENT)
    table = np.array(rows)
    loss = table[:, [table.mean(axis=0).argmax()]] - table
    standard_error = loss.std(axis=0) / np.sqrt(len(table))
    return int(np.flatnonzero(loss.mean(axis=0) <= standard_error).max())


def mix_weights(base: torch.nn.Module, weights: Mapping[str, torch.Tensor], coefficient: float) -> torch.nn.Module:
    """Return a copy of the network with the weights base + `coefficient` * (`weights` - base), in evaluation mode."""
    network = copy.deepcopy(base)
    mixed = {
        name: tensor + coefficient * (weights[name] - tensor) if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    network.load_state_dict(mixed)
    return network.eval()
