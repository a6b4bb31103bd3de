"""What a network is blamed for while it learns: MONAI's losses, by a closed list of names."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Loss = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]
"""float32 logits `[N, 1, H, W]` and truth in {0, 1} of that shape -> one number."""

DEFAULT_LOSS = "dice_ce"
BOUNDARY = 0.1
"""Weight of the boundary's term beside Dice and cross-entropy, which are about ten times smaller."""


def build_loss(name: str) -> Loss:
    """The loss of that name in `LOSSES`."""
    return LOSSES[name]()


def _dice_ce() -> Loss:
    """Dice per photo plus cross-entropy."""
    from monai.losses import DiceCELoss

    return DiceCELoss(sigmoid=True)


def _dice_focal() -> Loss:
    """Dice per photo plus focal loss (Lin et al. 2017), which hardly counts what is right already."""
    from monai.losses import DiceFocalLoss

    return DiceFocalLoss(sigmoid=True)


def _dice_ce_boundary() -> Loss:
    """Dice and cross-entropy, and the logarithm of errors by their distance (Karimi and Salcudean 2019)."""
    from monai.losses import LogHausdorffDTLoss

    overlap, distance = _dice_ce(), LogHausdorffDTLoss(include_background=True, sigmoid=True)
    return lambda logits, truth: overlap(logits, truth) + BOUNDARY * distance(logits, truth)


LOSSES: dict[str, Callable[[], Loss]] = {
    "dice_ce": _dice_ce,
    "dice_focal": _dice_focal,
    "dice_ce_boundary": _dice_ce_boundary,
}
