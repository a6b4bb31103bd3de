"""The fits of a fine-tuning run, and how much of their weights the candidate gets.

A fit trains a copy of the base on some of the cases. The candidate's weights lie between those of the base and those of
a fit: base + mixing coefficient * (fit - base).
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .judging import JudgedPhoto, Prediction
from .options import FineTuneOptions

if TYPE_CHECKING:
    import torch

MIXING_COEFFICIENTS = (0.25, 0.5, 0.75)
"""The mixing coefficients that are tried. With 0.75 the masks of photos from other clinics are better than with 1."""
UNMEASURED_COEFFICIENT = 0.5
"""The mixing coefficient if there are too few cases to choose one."""
_EARLY_STAGES = ("encoder._conv_stem", "encoder._bn0", "encoder._blocks.0.", "encoder._blocks.1.", "encoder._blocks.2.")
"""The first stages of the encoder of a `FlexibleUNet`: edges and colours, which are the same in every clinic."""


@dataclass
class Fit:
    """One fit: its cases and its results.

    Attributes:
        name: name for the user, such as "part 1 of 4".
        train: numbers of the cases that it is trained on.
        held_out: numbers of the cases that it is judged on.
        passes: number of passes.
        predictions: by held-out case, the prediction with each of `MIXING_COEFFICIENTS`.
        weights: the weights after the last pass; empty if the candidate does not come from this fit.
        finished: whether the fit is complete.
        unfinished: where a stopped fit continues: the passes that it made, its batch size and the state of its
            `TrainingLoop`; None if the fit is complete or did not reach its first checkpoint.
    """

    name: str
    train: list[int]
    held_out: list[int]
    passes: int
    predictions: dict[int, list[Prediction]] = field(default_factory=dict)
    weights: "dict[str, torch.Tensor]" = field(default_factory=dict)
    finished: bool = False
    unfinished: dict[str, Any] | None = None

    @property
    def passes_made(self) -> int:
        """The passes that need not be made again: all of a complete fit, and those of `unfinished`."""
        if self.finished:
            return self.passes
        return self.unfinished["passes"] if self.unfinished else 0

    def state(self) -> dict[str, Any]:
        """Return the results as tensors and plain values, for a checkpoint."""
        import torch

        if not self.finished:
            return {"finished": False, "unfinished": self.unfinished}
        return {
            "finished": True,
            "predictions": {
                number: [(torch.from_numpy(one.probability), one.confidence) for one in row]
                for number, row in self.predictions.items()
            },
            "weights": self.weights,
        }

    def restore(self, state: Mapping[str, Any], photos: Mapping[int, JudgedPhoto]) -> None:
        """Take the results from what `state` returned; version 0.1 stored masks as bits instead of predictions."""
        self.finished, self.unfinished = state["finished"], state.get("unfinished")
        self.weights = state.get("weights", {})
        for number, row in state.get("predictions", {}).items():
            self.predictions[number] = [Prediction(values.numpy(), confidence) for values, confidence in row]
        for number, row in state.get("masks", {}).items():
            shape = photos[number].truth.shape
            if any(len(bits) != -(-shape[0] * shape[1] // 8) for bits in row):  # a large photo, reduced differently
                self.finished = False
                return
            masks = [np.unpackbits(bits.numpy(), count=shape[0] * shape[1]).reshape(shape) for bits in row]
            self.predictions[number] = [Prediction(255 * mask, 1.0) for mask in masks]


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
        name = "judged fit" if len(parts) == 1 else f"part {number} of {len(parts)}"
        fits.append(Fit(name, train, list(part), options.passes_for(len(train))))
    if len(parts) != 1:
        fits.append(Fit("candidate", everything, [], options.passes_for(cases)))
    return fits


def choose_coefficient(dice: Mapping[int, NDArray[np.float64]], without: Sequence[int] = ()) -> int:
    """Choose the mixing coefficient by Dice on held-out photos.

    Coefficients whose mean Dice is at most one standard error (of the differences by photo) below the best mean count
    as equal to the best. The largest of them is taken: with twenty photos, the smallest is nearly always among them,
    but with it the model learns half as much.

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
    below_best = table[:, [table.mean(axis=0).argmax()]] - table
    standard_error = below_best.std(axis=0) / np.sqrt(len(table))
    return int(np.flatnonzero(below_best.mean(axis=0) <= standard_error).max())


def mix_weights(
    base: "torch.nn.Module", weights: "Mapping[str, torch.Tensor]", coefficient: float
) -> "torch.nn.Module":
    """Return a copy of the network with the weights base + `coefficient` * (`weights` - base), in evaluation mode."""
    network = copy.deepcopy(base)
    mixed = {
        name: tensor + coefficient * (weights[name] - tensor) if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    network.load_state_dict(mixed)
    return network.eval()


def freeze_early_stages(network: "torch.nn.Module") -> None:
    """Freeze the first stages of the encoder: a step is faster, and the model forgets less."""
    for name, parameter in network.named_parameters():
        if name.startswith(_EARLY_STAGES):
            parameter.requires_grad_(False)
