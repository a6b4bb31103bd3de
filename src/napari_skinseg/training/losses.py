"""Loss functions by name, made from those of MONAI."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Loss = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]
"""float32 logits `[N, 1, H, W]` and truth of the same shape in {0, 1} -> loss, a scalar."""

DEFAULT_LOSS = "dice_ce"
BOUNDARY_WEIGHT = 0.1
"""Weight of the boundary term. The sum of Dice and cross-entropy is about a tenth of it."""


def build_loss(name: str) -> Loss:
    """Create the loss with this name in `LOSSES`."""
    return LOSSES[name]()


def _dice_ce() -> Loss:
    """Dice of each photo plus cross-entropy."""
    from monai.losses import DiceCELoss

    return DiceCELoss(sigmoid=True)


def _dice_focal() -> Loss:
    """Dice of each photo plus focal loss (Lin et al. 2017), which gives little weight to correct pixels."""
    from monai.losses import DiceFocalLoss

    return DiceFocalLoss(sigmoid=True)


def _dice_ce_boundary() -> Loss:
    """Dice, cross-entropy and the logarithm of a Hausdorff distance loss (Karimi and Salcudean 2019)."""
    from monai.losses import LogHausdorffDTLoss

    overlap, distance = _dice_ce(), LogHausdorffDTLoss(include_background=True, sigmoid=True)
    return lambda logits, truth: overlap(logits, truth) + BOUNDARY_WEIGHT * distance(logits, truth)


LOSSES: dict[str, Callable[[], Loss]] = {
    "dice_ce": _dice_ce,
    "dice_focal": _dice_focal,
    "dice_ce_boundary": _dice_ce_boundary,
}
