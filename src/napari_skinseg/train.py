"""Cases in, a new model out, with MONAI's engine: checkpointed after every pass, resumable, cancellable.

A run lives in its own folder:

    <out>/checkpoint.pt   everything needed to go on after a kill (read with `weights_only=True`)
    <out>/log.csv         one row per pass: size, loss, validation Dice, failure rate, seconds
    <out>/<name>/         the best model so far by validation Dice, a bundle like any other
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import date
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .cases.dataset import Case
from .errors import BadInput, Cancelled
from .events import CancelToken, Event, NeverCancelled, OnEvent, check, ignore
from .files import atomic, output_folder, write_text
from .models.bundle import Model, ModelSpec, load, save, write_spec
from .models.device import autocast, choose_device, prepare
from .models.network import DEFAULT_NETWORK, GUIDANCE_CHANNELS, build
from .pixels.image import read_image
from .pixels.mask import CleanUp, binarise, read_mask
from .pixels.metrics import FAILURE_JACCARD, dice, jaccard
from .segment import Segmenter, expected_jaccard

if TYPE_CHECKING:
    import torch

MEAN = (0.70, 0.55, 0.53)
STD = (0.16, 0.17, 0.18)
"""Of dermoscopic photos scaled to [0, 1], per RGB channel; any similar numbers do, as long as a model keeps its own."""

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class TrainOptions:
    """How a model is trained.

    Attributes:
        name: Name of the new model.
        network: Network to train: UNet, SegResNet or FlexibleUNet.
        input_height: Height in pixels that every photo is resized to.
        input_width: Width in pixels that every photo is resized to.
        passes: How often every photo is seen.
        small_first: Share of the passes done at half size, and again at three quarters; much faster, as accurate.
        batch_size: Photos per step.
        learning_rate: Highest learning rate; it rises for 2 % of the steps and falls along a cosine.
        weight_decay: Of AdamW.
        ema: Decay per step of the averaged weights, which are what is validated and kept.
        artefacts: Probability that a photo gets artefacts drawn onto it, between 0 and 1.
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
    artefacts: float = 0.5
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
        for name, value in {"small_first": 2 * self.small_first, "ema": self.ema, "artefacts": self.artefacts}.items():
            if not 0 <= value <= 1:
                raise BadInput(f"{name} is {getattr(self, name)}; it must be between 0 and {'0.5' if name == 'small_first' else '1'}.")
        if self.workers < 0:
            raise BadInput(f"workers is {self.workers}; it must be 0 or more.")

    def size_of(self, number: int) -> tuple[int, int]:
        """(height, width) of the network's input in pass `number` (0 is the first)."""
        share = number / self.passes
        scale = 0.5 if share < self.small_first else 0.75 if share < 2 * self.small_first else 1.0
        step = 2**5
        return tuple(max(step, round(side * scale / step) * step) for side in (self.input_height, self.input_width))  # type: ignore[return-value]


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
    run = _Run(_with_masks(cases, "train"), _with_masks(validation, "validate"), options, output_folder(out), on_event)
    token = cancel or NeverCancelled()
    run.restore()
    try:
        for number in range(run.finished, options.passes):
            run.one_pass(number, token)
        if run.best_dice is not None:
            calibrate(run.model_folder, run.validation, options.device, on_event, token)
    except Cancelled:
        pass
    finally:
        run.close()
    done = run.finished >= options.passes and not token.is_set()
    return TrainOutcome(run.model_folder if run.best_dice is not None else None, run.best_dice, run.finished, not done)


def calibrate(
    folder: str | Path,
    validation: Sequence[Case],
    device: str = "auto",
    on_event: OnEvent = ignore,
    cancel: CancelToken | None = None,
) -> ModelSpec:
    """Choose a model's threshold and fit its confidence on validation cases, and store both in its bundle.

    The threshold is the one of five with the best mean Dice of the cleaned-up mask. The confidence is a logistic
    function of the logit of `segment.expected_jaccard`, fitted to the Jaccard that was reached, by least squares.
    """
    from scipy.optimize import least_squares

    model = load(folder)
    segmenter = Segmenter(model, device)
    thresholds = np.array([0.4, 0.45, 0.5, 0.55, 0.6])
    scores, expected, reached = [], [], []
    for number, (case, image, truth) in enumerate(_read_ahead(validation), start=1):
        check(cancel or NeverCancelled())
        probability = segmenter.segment(image, name=str(case.image)).probability
        masks = [binarise(probability, threshold, CleanUp()) for threshold in thresholds]
        scores.append([dice(mask, truth) for mask in masks])
        expected.append([expected_jaccard(probability, mask) for mask in masks])
        reached.append([jaccard(mask, truth) for mask in masks])
        on_event(Event("calibrate", number, len(validation)))
    best = int(np.mean(scores, axis=0).argmax())
    logits = np.array(expected)[:, best]
    logits = np.log(logits / (1 - logits))
    goal = np.array(reached)[:, best]
    fit = least_squares(lambda ab: 1 / (1 + np.exp(-(ab[0] + ab[1] * logits))) - goal, x0=(0.0, 1.0), loss="soft_l1")
    figures = {
        "validation Dice": float(np.mean(scores, axis=0)[best]),
        "validation failure rate": float(np.mean(goal < FAILURE_JACCARD)),
    }
    spec = replace(
        model.spec,
        threshold=float(thresholds[best]),
        confidence=(float(fit.x[0]), float(fit.x[1])),
        metrics={**model.spec.metrics, **figures},
    )
    write_spec(folder, spec)
    return spec


class _Run:
    """The moving parts of one training run."""

    def __init__(
        self, cases: list[Case], validation: list[Case], options: TrainOptions, out: Path, on_event: OnEvent
    ) -> None:
        import torch
        from ignite.engine import Events
        from ignite.handlers import EMAHandler
        from monai.engines import SupervisedTrainer
        from monai.losses import DiceCELoss
        from monai.optimizers import WarmupCosineSchedule
        from monai.utils import set_determinism

        set_determinism(options.seed, use_deterministic_algorithms=None)
        self.cases, self.validation, self.options, self.out, self.on_event = cases, validation, options, out, on_event
        self.model_folder = out / options.name
        self.finished = 0
        self.best_dice: float | None = None
        self.choice = choose_device(options.device)
        self.network = prepare(build(options.network), self.choice)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), options.learning_rate, weight_decay=options.weight_decay
        )
        self.steps_per_pass = max(1, len(cases) // options.batch_size)
        steps = self.steps_per_pass * options.passes
        self.schedule = WarmupCosineSchedule(self.optimizer, warmup_steps=max(1, steps // 50), t_total=steps)
        self.scaler = torch.amp.GradScaler(self.choice.device, enabled=self.choice.precision == "float16")
        self.loss = DiceCELoss(sigmoid=True)
        self.samples: list[dict[str, Any]] = []
        self.size = (0, 0)
        self.token: CancelToken = NeverCancelled()
        self.losses: list[float] = []
        self.trainer = SupervisedTrainer(
            device=torch.device(self.choice.device),
            max_epochs=options.passes,
            train_data_loader=[None] * self.steps_per_pass,
            network=self.network,
            optimizer=self.optimizer,
            loss_function=self.loss,
            iteration_update=self._step,
        )
        # A new average would lag far behind quickly moving weights, so it starts fast and slows down.
        self.ema = EMAHandler(
            self.network, momentum=1 - options.ema, momentum_warmup=0.1, warmup_iters=min(1000, max(1, steps // 5))
        )
        self.ema.attach(self.trainer, event=Events.ITERATION_COMPLETED)
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self._after_step)

    def one_pass(self, number: int, token: CancelToken) -> None:
        """Train one pass over all cases, validate the averaged weights and store what came of it."""
        self.token = token
        start = time.perf_counter()
        self._read(self.options.size_of(number), token)
        self.losses = []
        self.trainer.data_loader = self._loader(number)
        state = self.trainer.state
        state.epoch, state.epoch_length, state.max_epochs = number, self.steps_per_pass, number + 1
        state.iteration = number * self.steps_per_pass
        self.trainer.run()
        check(token)
        score, failures = self._validate(token)
        self.finished = number + 1
        if self.best_dice is None or score > self.best_dice:
            self.best_dice = score
            save(self.model_folder, self._spec(number, score, failures), self.ema.ema_model)
        self._log(
            {
                "pass": number + 1,
                "height": self.size[0],
                "width": self.size[1],
                "loss": f"{np.mean(self.losses):.5f}",
                "validation_dice": f"{score:.5f}",
                "validation_failure_rate": f"{failures:.5f}",
                "seconds": f"{time.perf_counter() - start:.1f}",
            }
        )
        self._store()
        values = {"loss": float(np.mean(self.losses)), "validation_dice": score, "validation_failure_rate": failures}
        message = f"pass {number + 1}: loss {values['loss']:.3f}, validation Dice {score:.4f}, best {self.best_dice:.4f}"
        self.on_event(Event("validated", number + 1, self.options.passes, message, values))

    def restore(self) -> None:
        """Take up the run that a checkpoint in the folder tells of."""
        import torch

        path = self.out / CHECKPOINT
        if not path.exists():
            return
        try:
            state = torch.load(path, map_location=self.choice.device, weights_only=True)
        except Exception as error:
            raise BadInput(f"{path} cannot be read ({error}); delete it to start again.") from error
        if state["identity"] != self._identity():
            raise BadInput(f"{self.out} holds a run with other options or photos; choose another folder for this run.")
        self.network.load_state_dict(state["network"])
        self.ema.ema_model.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.finished, self.best_dice = state["finished"], state["best_dice"]
        self.on_event(Event("resumed", self.finished, self.options.passes, f"going on after pass {self.finished}"))

    def close(self) -> None:
        """Give the device's memory back."""
        self.samples = []
        self.network.cpu()
        self.ema.ema_model.cpu()

    def _step(self, engine: Any, batch: "dict[str, torch.Tensor]") -> dict[str, float]:
        import torch

        self.network.train()
        image = batch["image"].to(self.choice.device, non_blocking=True)
        truth = batch["mask"].to(self.choice.device, non_blocking=True).float()
        mean, std = (torch.tensor(values, device=image.device).view(1, 3, 1, 1) for values in (MEAN, STD))
        normal = (image.float() / 255 - mean) / std
        silent = torch.zeros(len(image), GUIDANCE_CHANNELS, *image.shape[2:], device=image.device)
        inputs = torch.cat([normal, silent], dim=1).contiguous(memory_format=torch.channels_last)
        self.optimizer.zero_grad(set_to_none=True)
        try:
            with autocast(self.choice):
                logits = self.network(inputs)
            loss = self.loss(logits.float(), truth)
            self.scaler.scale(loss).backward()
        except torch.OutOfMemoryError as error:
            raise BadInput(
                f"The GPU has too little memory for {len(image)} photos at a time; use a smaller batch size."
            ) from error
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        return {"loss": float(loss.detach())}

    def _after_step(self, engine: Any) -> None:
        loss = engine.state.output["loss"]
        if not np.isfinite(loss):
            raise BadInput("The loss is no longer a number; the run stopped at its last checkpoint. Lower the learning rate.")
        self.losses.append(loss)
        total = self.steps_per_pass * self.options.passes
        self.on_event(Event("train", engine.state.iteration, total, values={"loss": loss}))
        if self.token.is_set():
            engine.terminate()

    def _read(self, size: tuple[int, int], token: CancelToken) -> None:
        """Keep all photos in memory, a little larger than `size`; a change of size reads them again."""
        from .augment import Read

        if size == self.size:
            return
        self.samples = []
        read = Read(size)
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(self.cases), 64):
                check(token)
                self.samples.extend(pool.map(read, self.cases[start : start + 64]))
                self.on_event(Event("read", len(self.samples), len(self.cases)))
        self.size = size

    def _loader(self, number: int) -> Any:
        import torch
        from monai.data import DataLoader, Dataset

        from .augment import training_transform

        # Seeded by the pass, so that a resumed run sees what the uninterrupted one would have seen.
        return DataLoader(
            Dataset(self.samples, training_transform(self.size, self.options.artefacts)),
            batch_size=min(self.options.batch_size, len(self.samples)),
            shuffle=True,
            drop_last=True,
            num_workers=self.options.workers,
            generator=torch.Generator().manual_seed(self.options.seed * 100_003 + number),
        )

    def _validate(self, token: CancelToken) -> tuple[float, float]:
        """Mean Dice and failure rate of the averaged weights, by the path that a user's photo takes."""
        segmenter = Segmenter(Model(self._spec(0, 0, 0), self.ema.ema_model, ""), self.options.device)
        scores, failures = [], 0
        for number, (case, image, truth) in enumerate(_read_ahead(self.validation), start=1):
            check(token)
            mask = segmenter.segment(image, name=str(case.image)).mask
            scores.append(dice(mask, truth))
            failures += jaccard(mask, truth) < FAILURE_JACCARD
            self.on_event(Event("validate", number, len(self.validation)))
        prepare(self.ema.ema_model, self.choice)
        return float(np.mean(scores)), failures / len(scores)

    def _spec(self, number: int, score: float, failures: float) -> ModelSpec:
        options = self.options
        return ModelSpec(
            name=options.name,
            network=options.network,
            network_arguments={},
            input_size=(options.input_height, options.input_width),
            mean=MEAN,
            std=STD,
            description=f"{options.network} trained on {len(self.cases)} photos",
            licence=options.licence,
            training_data=options.training_data,
            metrics={"validation Dice": score, "validation failure rate": failures},
            provenance={
                "options": str(asdict(options)),
                "photos": f"{len(self.cases)} to train, {len(self.validation)} to validate",
                "best pass": str(number + 1),
                "device": self.choice.reason,
                "date": date.today().isoformat(),
                "versions": ", ".join(f"{name} {package_version(name)}" for name in ("napari-skinseg", "torch", "monai")),
            },
        )

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a run to be taken up; where it runs, what it is called and its length may change."""
        free = ("name", "device", "workers", "licence", "training_data", "passes")
        options = {key: value for key, value in asdict(self.options).items() if key not in free}
        return {**options, "cases": len(self.cases), "validation": len(self.validation)}

    def _store(self) -> None:
        import torch

        state = {
            "identity": self._identity(),
            "network": self.network.state_dict(),
            "ema": self.ema.ema_model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "finished": self.finished,
            "best_dice": self.best_dice,
        }
        with atomic(self.out / CHECKPOINT) as temporary:
            torch.save(state, temporary)

    def _log(self, row: dict[str, Any]) -> None:
        path = self.out / "log.csv"
        earlier = path.read_text(encoding="utf-8").splitlines()[1 : self.finished] if path.exists() else []
        write_text(path, "\n".join([",".join(row), *earlier, ",".join(str(value) for value in row.values())]) + "\n")


def _with_masks(cases: Sequence[Case], purpose: str) -> list[Case]:
    usable = [case for case in cases if case.mask is not None]
    if not usable:
        raise BadInput(f"There is no photo with a mask to {purpose} on; check the folders and the split file.")
    return usable


def _read_ahead(cases: Sequence[Case]) -> Any:
    """Yield (case, rgb, truth), decoding a few cases ahead of the network in threads."""
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(cases), 32):
            yield from pool.map(_read_case, cases[start : start + 32])


def _read_case(case: Case) -> tuple[Case, np.ndarray, np.ndarray]:
    image = read_image(case.image)
    assert case.mask is not None
    return case, image, read_mask(case.mask, image.shape[:2])
