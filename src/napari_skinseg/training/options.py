"""The options of a training, and what a training returns."""

from dataclasses import dataclass
from pathlib import Path

from napari_skinseg.errors import BadInput
from napari_skinseg.models.network import DEFAULT_NETWORK, LITE

from .losses import DEFAULT_LOSS, LOSSES

STRIDE = 32
"""The sides of a network's input are multiples of this number: its deepest level is smaller by this factor."""

IMAGENET = "imagenet"
"""Value of `TrainOptions.start`: the encoder starts with weights from ImageNet, the rest with random weights."""

SMALLEST = 2 * STRIDE
"""Shortest side of an input: instance normalisation needs more than one pixel at the deepest level."""


@dataclass(frozen=True)
class TrainOptions:
    """How a model is trained.

    Attributes:
        name: Name of the new model.
        network: Network to train: UNet, SegResNet, FlexibleUNet or AttentionUnet.
        encoder: Encoder of a FlexibleUNet: efficientnet-lite0, or the larger efficientnet-lite2. When not given, that
            of the model to start from, or efficientnet-lite0.
        input_height: Height in pixels that every photo is resized to.
        input_width: Width in pixels that every photo is resized to.
        passes: Number of passes; a pass (an epoch) shows every photo once on average.
        small_first: Share of the passes at half size, and again at three quarters of the size; faster, as accurate.
        batch_size: Photos per step.
        learning_rate: Highest learning rate; it rises for 2 % of the steps and then falls along a cosine.
        weight_decay: Weight decay of AdamW.
        ema: Decay per step of the averaged weights, which are validated and kept as the model.
        loss: dice_ce (Dice and cross-entropy), dice_focal, or dice_ce_boundary (also the distance from the border).
        artefacts: Probability that artefacts such as hair or a ruler are added to a photo, between 0 and 1.
        plain: Probability that only skin beside the lesion is shown, to learn "no lesion"; between 0 and 1.
        clicks: Share of each batch that gets simulated clicks which correct a mask, between 0 and 1.
        balance: How much more often rare diagnoses are shown: 0 shows every photo equally often, 1 every diagnosis.
        small: How much more often small lesions are shown: 0 equally often, 1 up to three times as often.
        start: Model (name or folder) of the same network to start from, or imagenet; random weights when not given.
        seed: Seed of all random numbers.
        device: auto, cuda, mps or cpu.
        workers: Processes that prepare photos; with 0 the training process prepares them.
        licence: Licence of the new model, which follows from the licences of its training data.
        training_data: Description of the training data for the model card.
    """

    name: str = "my-model"
    network: str = DEFAULT_NETWORK
    encoder: str | None = None
    input_height: int = 192
    input_width: int = 256
    passes: int = 12
    small_first: float = 0.4
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    ema: float = 0.999
    loss: str = DEFAULT_LOSS
    artefacts: float = 0.5
    plain: float = 0.04
    clicks: float = 0.5
    balance: float = 0.0
    small: float = 0.0
    start: str | None = None
    seed: int = 0
    device: str = "auto"
    workers: int = 0
    licence: str = "unknown"
    training_data: str = "unknown"

    def validate(self) -> None:
        """Raise `BadInput` if a value is out of its range."""
        positive = {"passes": self.passes, "batch_size": self.batch_size, "learning_rate": self.learning_rate}
        for name, value in positive.items():
            if not value > 0:
                raise BadInput(f"{name} is {value}; it must be above 0.")
        shares = {
            "small_first": (self.small_first, 0.5),
            "artefacts": (self.artefacts, 1),
            "plain": (self.plain, 1),
            "clicks": (self.clicks, 1),
            "balance": (self.balance, 1),
            "small": (self.small, 1),
        }
        for name, (value, most) in shares.items():
            if not 0 <= value <= most:
                raise BadInput(f"{name} is {value}; it must be between 0 and {most}.")
        if self.encoder not in (None, *LITE):
            raise BadInput(f"The encoder {self.encoder!r} is not known; choose one of {', '.join(LITE)}.")
        if self.encoder and self.network != "FlexibleUNet":
            raise BadInput(f"A {self.network} has no encoder {self.encoder}; give FlexibleUNet as network.")
        if self.loss not in LOSSES:
            raise BadInput(f"The loss {self.loss!r} is not known; choose one of {', '.join(LOSSES)}.")
        if not 0 < self.ema < 1:
            raise BadInput(f"ema is {self.ema}; it must be above 0 (no average) and below 1, such as 0.999.")
        for name, side in {"input_height": self.input_height, "input_width": self.input_width}.items():
            if side % STRIDE or not SMALLEST <= side <= 1024:
                raise BadInput(f"{name} is {side}; it must be a multiple of {STRIDE} from {SMALLEST} to 1024.")
        if self.workers < 0:
            raise BadInput(f"workers is {self.workers}; it must be 0 or more.")

    def size_of(self, number: int) -> tuple[int, int]:
        """(height, width) of the network's input in pass `number` (0 is the first)."""
        share = number / self.passes
        scale = 0.5 if share < self.small_first else 0.75 if share < 2 * self.small_first else 1.0
        height, width = (
            max(SMALLEST, round(side * scale / STRIDE) * STRIDE) for side in (self.input_height, self.input_width)
        )
        return height, width


@dataclass(frozen=True)
class TrainOutcome:
    """The result of a training.

    Attributes:
        model: folder of the best model, or None if no pass was completed.
        best_dice: mean validation Dice of this model, or None.
        passes: number of complete passes, with those of earlier runs in the same folder.
        cancelled: whether the run stopped before its last pass; the same call continues it.
    """

    model: Path | None
    best_dice: float | None
    passes: int
    cancelled: bool
