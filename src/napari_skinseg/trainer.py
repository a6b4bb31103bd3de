"""One training run with MONAI's engine: passes, validation, averaged weights, checkpoints.

Apart from `train` because it imports torch and MONAI, which `train` must not do before somebody trains.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import date
from importlib.metadata import version as package_version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from ignite.handlers import EMAHandler
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.losses import DiceCELoss
from monai.optimizers import WarmupCosineSchedule
from monai.utils import set_determinism

from .augment import Read, training_transform
from .calibrate import read_ahead
from .cases.dataset import Case
from .errors import BadInput
from .events import CancelToken, Event, NeverCancelled, OnEvent, check
from .files import atomic, write_text
from .models.bundle import Model, ModelSpec, save
from .models.device import autocast, choose_device, prepare
from .models.network import GUIDANCE_CHANNELS, build
from .pixels.metrics import FAILURE_JACCARD, dice, jaccard
from .segment import Segmenter
from .train import TrainOptions

MEAN = (0.70, 0.55, 0.53)
STD = (0.16, 0.17, 0.18)
"""Of dermoscopic photos scaled to [0, 1], per RGB channel; any similar numbers do, as long as a model keeps its own."""

CHECKPOINT = "checkpoint.pt"
VERSIONS = ("napari-skinseg", "torch", "monai")


class Trainer:
    """The moving parts of one training run; see `train.train` for what they are used for."""

    def __init__(
        self, cases: list[Case], validation: list[Case], options: TrainOptions, out: Path, on_event: OnEvent
    ) -> None:
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
        message = (
            f"pass {number + 1}: loss {values['loss']:.3f}, validation Dice {score:.4f} (best {self.best_dice:.4f})"
        )
        self.on_event(Event("validated", number + 1, self.options.passes, message, values))

    def restore(self) -> None:
        """Take up the run that a checkpoint in the folder tells of."""
        path = self.out / CHECKPOINT
        if not path.exists():
            return
        try:
            state = torch.load(path, map_location=self.choice.device, weights_only=True)
        except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
            raise BadInput(f"{path} is damaged; delete it to start again.") from error
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

    def _step(self, engine: Any, batch: dict[str, torch.Tensor]) -> dict[str, float]:
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
            raise BadInput(
                "The loss is no longer a number; the run stopped at its last checkpoint. Lower the learning rate."
            )
        self.losses.append(loss)
        total = self.steps_per_pass * self.options.passes
        self.on_event(Event("train", engine.state.iteration, total, values={"loss": loss}))
        if self.token.is_set():
            engine.terminate()

    def _read(self, size: tuple[int, int], token: CancelToken) -> None:
        """Keep all photos in memory, a little larger than `size`; a change of size reads them again."""
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
        for number, (case, image, truth) in enumerate(read_ahead(self.validation), start=1):
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
                "versions": ", ".join(f"{name} {package_version(name)}" for name in VERSIONS),
            },
        )

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a run to be taken up; where it runs, its name and its length may change."""
        free = ("name", "device", "workers", "licence", "training_data", "passes")
        options = {key: value for key, value in asdict(self.options).items() if key not in free}
        return {**options, "cases": len(self.cases), "validation": len(self.validation)}

    def _store(self) -> None:
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
