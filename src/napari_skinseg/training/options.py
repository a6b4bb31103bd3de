"""TODO."""

from dataclasses import dataclass
from pathlib import Path

from napari_skinseg.errors import BadInput
from napari_skinseg.models.network import DEFAULT_NETWORK

from .losses import DEFAULT_LOSS, LOSSES

STRIDE = 32
"""What every network's input must be a multiple of; the deepest level is this many times smaller."""


IMAGENET = "imagenet"
"""As `TrainOptions.start`: the encoder's weights from ImageNet, the rest random."""


SMALLEST = 2 * STRIDE
"""Instance normalisation needs more than one pixel at the deepest level."""


@dataclass(frozen=True)
class TrainOptions:
    """How a model is trained.

    Attributes:
        name: Name of the new model.
        network: Network to train: UNet, SegResNet, FlexibleUNet or AttentionUnet.
        input_height: Height in pixels that every photo is resized to.
        input_width: Width in pixels that every photo is resized to.
        passes: How often every photo is seen.
        small_first: Share of the passes done at half size, and again at three quarters; much faster, as accurate.
        batch_size: Photos per step.
        learning_rate: Highest learning rate; it rises for 2 % of the steps and falls along a cosine.
        weight_decay: Of AdamW.
        ema: Decay per step of the averaged weights, which are what is validated and kept.
        loss: dice_ce (Dice and cross-entropy), dice_focal, or dice_ce_boundary (by distance from the border as well).
        artefacts: Probability that a photo gets artefacts drawn onto it, between 0 and 1.
        plain: Probability that skin beside the lesion is shown alone, so that "no lesion" is learned; between 0 and 1.
        clicks: Share of each batch that is corrected with simulated clicks, between 0 and 1.
        balance: How far rare diagnoses are evened out: 0 shows every photo once a pass, 1 all diagnoses equally often.
        start: Model (name or folder) to go on from, of the same network, or imagenet; random weights when not given.
        seed: Seed of everything random.
        device: auto, cuda, mps or cpu.
        workers: Processes that prepare photos; 0 prepares them in the training process.
        licence: Licence of the new model, which follows its training data.
        training_data: What it is trained on, in words, for the model card.
    """

    name: str = "my-model"
    network: str = DEFAULT_NETWORK
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
        }
        for name, (value, most) in shares.items():
            if not 0 <= value <= most:
                raise BadInput(f"{name} is {value}; it must be between 0 and {most}.")
        if self.loss not in LOSSES:
            raise BadInput(f"The loss {self.loss!r} is not known; choose one of {', '.join(LOSSES)}.")
        if not 0 < self.ema < 1:
            raise BadInput(f"ema is {self.ema}; it must be above 0 (hardly averaged) and below 1, such as 0.999.")
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
    """What a training run left.

    Attributes:
        model: folder of the best model, or None if no pass was finished.
        best_dice: its mean validation Dice, or None.
        passes: passes finished, those of earlier runs in the same folder included.
        cancelled: whether it was stopped before its last pass; the same call goes on from there.
    """

    model: Path | None
    best_dice: float | None
    passes: int
    cancelled: bool
