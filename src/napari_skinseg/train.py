"""Cases in, a new model out, with MONAI's engine: checkpointed after every pass, resumable, cancellable.

A run lives in its own folder:

    <out>/checkpoint.pt   everything needed to go on after a kill (read with `weights_only=True`)
    <out>/log.csv         one row per pass: size, loss, validation Dice, failure rate, seconds
    <out>/<name>/         the best model so far by validation Dice, a bundle like any other
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .cases.dataset import Case
from .errors import BadInput, Cancelled
from .events import CancelToken, NeverCancelled, OnEvent, ignore
from .files import output_folder
from .losses import DEFAULT_LOSS, LOSSES
from .models.network import DEFAULT_NETWORK

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


def train(
    cases: Sequence[Case],
    validation: Sequence[Case],
    options: TrainOptions,
    out: str | Path,
    on_event: OnEvent = ignore,
    cancel: CancelToken | None = None,
) -> TrainOutcome:
    """Train a model; an unfinished run in `out` is taken up again.

    Under torchrun all processes learn together; the first one validates, keeps the model and tells of it.

    Args:
        cases: photos with masks to learn from.
        validation: photos with masks that choose the best pass, the threshold and the calibration.
        options: see `TrainOptions`.
        out: folder of the run.
        on_event: told about reading, every training step and every validation.
        cancel: looked at before every step; a cancelled run keeps its checkpoint of the last full pass.

    Raises:
        BadInput: an option, a case or the folder cannot be used, or the loss stopped being a number.
    """
    options.validate()
    from .calibrate import calibrate
    from .trainer import Trainer

    run = Trainer(
        _with_masks(cases, "train"), _with_masks(validation, "validate"), options, output_folder(out), on_event
    )
    token = cancel or NeverCancelled()
    run.restore()
    try:
        for number in range(run.finished, options.passes):
            run.one_pass(number, token)
        if run.first and run.best_dice is not None:
            calibrate(run.model_folder, run.validation, options.device, on_event, token)
    except Cancelled:
        pass
    finally:
        run.close()
    done = run.finished >= options.passes and not token.is_set()
    return TrainOutcome(run.model_folder if run.best_dice is not None else None, run.best_dice, run.finished, not done)


def drawn(diagnoses: Sequence[str], balance: float, seed: int) -> list[int]:
    """The numbers of the photos that one pass shows, as many as there are, rare diagnoses more often than they occur.

    A diagnosis with n photos weighs n^-balance per photo: 0 takes each photo once, 0.5 evens out by the square root, 1
    shows all diagnoses equally often (as for languages in Conneau and Lample 2019). A photo whose share is 2.3 is shown
    twice, or thrice with probability 0.3. A diagnosis that is not known counts as one of its own.
    """
    count = Counter(diagnoses)
    weights = np.array([count[diagnosis] ** -balance for diagnosis in diagnoses])
    shares = weights * (len(weights) / weights.sum())
    # Cutting the running sum at whole numbers, from a random start, draws each share exactly and the total too.
    ends = np.floor(np.cumsum(shares) + np.random.default_rng(seed).random() + 1e-9).astype(int)
    return np.repeat(np.arange(len(shares)), np.diff(ends, prepend=0)).tolist()


def _with_masks(cases: Sequence[Case], purpose: str) -> list[Case]:
    usable = [case for case in cases if case.mask is not None]
    if not usable:
        raise BadInput(f"There is no photo with a mask to {purpose} on; check the folders and the split file.")
    return usable
