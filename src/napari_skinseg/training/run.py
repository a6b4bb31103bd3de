"""One training run with MONAI's engine: passes, validation, averaged weights, checkpoints.

Apart from `train` because it imports torch and MONAI, which `train` must not do before somebody trains.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import date
from importlib.metadata import version as package_version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from monai.data import DataLoader, Dataset, DistributedSampler
from monai.utils import set_determinism

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.device import choose_device, move_to_device
from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, Event, OnEvent, ignore_event, raise_if_cancelled
from napari_skinseg.files import atomic, write_text
from napari_skinseg.models.bundle import Model, ModelSpec, save
from napari_skinseg.models.network import build
from napari_skinseg.models.store import load_model
from napari_skinseg.pixels.metrics import FAILURE_JACCARD, dice, jaccard
from napari_skinseg.segmentation.options import SegmentOptions
from napari_skinseg.segmentation.segmenter import Segmenter

from .augment import Read, training_transform
from .calibrate import read_ahead
from .fit import Learner
from .options import IMAGENET, TrainOptions
from .sampling import drawn

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
        self.joined = join_others(options.device)
        self.first = idist.get_rank() == 0
        set_determinism(options.seed, use_deterministic_algorithms=None)
        on_event = on_event if self.first else ignore_event
        self.cases, self.validation, self.options, self.out, self.on_event = cases, validation, options, out, on_event
        self.model_folder = out / options.name
        self.finished = 0
        self.best_dice: float | None = None
        self.choice = choose_device(options.device)
        imagenet = options.start == IMAGENET
        start = load_model(options.start) if options.start and not imagenet else None
        if start and start.spec.network != options.network:
            raise BadInput(f"{options.start} is a {start.spec.network}, not a {options.network}; give that as network.")
        self.arguments = dict(start.spec.network_arguments) if start else {}
        self.mean, self.std = (start.spec.mean, start.spec.std) if start else (MEAN, STD)
        network = start.network if start else build(options.network)
        if imagenet:
            from napari_skinseg.models.imagenet import IMAGENET_MEAN, IMAGENET_STD, start_from_imagenet

            start_from_imagenet(network)
            self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD
        self.steps_per_pass = max(1, len(cases) // (options.batch_size * idist.get_world_size()))
        self.learner = Learner(
            network,
            self.choice,
            (self.mean, self.std),
            steps_per_pass=self.steps_per_pass,
            passes=options.passes,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            ema=options.ema,
            clicks=options.clicks,
            seed=options.seed,
            on_step=self._after_step,
            loss=options.loss,
        )
        self.samples: list[dict[str, Any]] = []
        self.size = (0, 0)

    def one_pass(self, number: int, token: CancelToken) -> None:
        """Train one pass over all cases, validate the averaged weights and store what came of it."""
        start = time.perf_counter()
        self._read(self.options.size_of(number), token)
        try:
            loss = self.learner.one_pass(number, self._loader(number), token)
        except torch.OutOfMemoryError as error:
            raise BadInput(
                f"The GPU has too little memory for {self.options.batch_size} photos at a time; "
                "use a smaller batch size."
            ) from error
        raise_if_cancelled(token)
        if self.first:
            self._conclude(number, loss, start, token)
        idist.barrier()
        self.finished = number + 1

    def _conclude(self, number: int, loss: float, start: float, token: CancelToken) -> None:
        """Validate the averaged weights after a pass, keep the best and the checkpoint, and tell of it."""
        score, failures = self._validate(token)
        self.finished = number + 1
        if self.best_dice is None or score > self.best_dice:
            self.best_dice = score
            save(self.model_folder, self._spec(number, score, failures), self.learner.averaged)
        self._log(
            {
                "pass": number + 1,
                "height": self.size[0],
                "width": self.size[1],
                "loss": f"{loss:.5f}",
                "validation_dice": f"{score:.5f}",
                "validation_failure_rate": f"{failures:.5f}",
                "seconds": f"{time.perf_counter() - start:.1f}",
            }
        )
        self._store()
        values = {"loss": loss, "validation_dice": score, "validation_failure_rate": failures}
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
        # An option that is younger than the checkpoint had its default then.
        if {**_identity(TrainOptions()), **state["identity"]} != self._identity():
            raise BadInput(f"{self.out} holds a run with other options or photos; choose another folder for this run.")
        self.learner.restore(state)
        self.finished, self.best_dice = state["finished"], state["best_dice"]
        self.on_event(Event("resumed", self.finished, self.options.passes, f"going on after pass {self.finished}"))

    def close(self) -> None:
        """Give the device's memory back."""
        self.samples = []
        self.learner.close()
        if self.joined:
            idist.finalize()

    def _after_step(self, number: int, loss: float) -> None:
        total = self.steps_per_pass * self.options.passes
        self.on_event(Event("train", number, total, values={"loss": loss}))

    def _read(self, size: tuple[int, int], token: CancelToken) -> None:
        """Keep all photos in memory, a little larger than `size`; a change of size reads them again."""
        if size == self.size:
            return
        self.samples = []
        read = Read(size)
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(self.cases), 64):
                raise_if_cancelled(token)
                self.samples.extend(pool.map(read, self.cases[start : start + 64]))
                self.on_event(Event("read", len(self.samples), len(self.cases)))
        self.size = size

    def _loader(self, number: int) -> Any:
        # Seeded by the pass, so that a resumed run sees what the uninterrupted one would have seen.
        seed = self.options.seed * 100_003 + number
        chosen = drawn([case.diagnosis for case in self.cases], self.options.balance, seed)
        samples = [self.samples[number] for number in chosen]
        dataset = Dataset(samples, training_transform(self.size, self.options.artefacts, self.options.plain))
        sampler = None
        if idist.get_world_size() > 1:
            sampler = DistributedSampler(dataset, shuffle=True, seed=seed, drop_last=True)
        return DataLoader(
            dataset,
            batch_size=min(self.options.batch_size, len(self.samples)),
            shuffle=sampler is None,
            sampler=sampler,
            drop_last=True,
            num_workers=self.options.workers,
            generator=torch.Generator().manual_seed(seed + 7919 * idist.get_rank()),
        )

    def _validate(self, token: CancelToken) -> tuple[float, float]:
        """Mean Dice and failure rate of the averaged weights, by the path that a user's photo takes.

        Doubt withholds nothing: how far these weights can be trusted is not known before `calibrate`.
        """
        segmenter = Segmenter(Model(self._spec(0, 0, 0), self.learner.averaged, ""), self.options.device)
        scores, failures = [], 0
        for number, (case, image, truth) in enumerate(read_ahead(self.validation), start=1):
            raise_if_cancelled(token)
            mask = segmenter.segment(image, SegmentOptions(always_outline=True), name=str(case.image)).mask
            scores.append(dice(mask, truth))
            failures += jaccard(mask, truth) < FAILURE_JACCARD
            self.on_event(Event("validate", number, len(self.validation)))
        move_to_device(self.learner.averaged, self.choice)
        return float(np.mean(scores)), failures / len(scores)

    def _spec(self, number: int, score: float, failures: float) -> ModelSpec:
        options = self.options
        return ModelSpec(
            name=options.name,
            network=options.network,
            network_arguments=self.arguments,
            input_size=self.size,  # weights of a pass at half size are at their best there
            mean=self.mean,
            std=self.std,
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
        return {**_identity(self.options), "cases": len(self.cases), "validation": len(self.validation)}

    def _store(self) -> None:
        state = {
            "identity": self._identity(),
            **self.learner.state(),
            "finished": self.finished,
            "best_dice": self.best_dice,
        }
        with atomic(self.out / CHECKPOINT) as temporary:
            torch.save(state, temporary)

    def _log(self, row: dict[str, Any]) -> None:
        path = self.out / "log.csv"
        earlier = path.read_text(encoding="utf-8").splitlines()[1 : self.finished] if path.exists() else []
        write_text(path, "\n".join([",".join(row), *earlier, ",".join(str(value) for value in row.values())]) + "\n")


def _identity(options: TrainOptions) -> dict[str, Any]:
    """What must be the same for a run to be taken up; where it runs, its name and its length may change."""
    free = ("name", "device", "workers", "licence", "training_data", "passes")
    return {key: value for key, value in asdict(options).items() if key not in free}


def join_others(device: str) -> bool:
    """Under torchrun, meet the other processes: by NCCL on CUDA, each on its own GPU, else by Gloo on the CPU.

    Returns:
        Whether there are others that were met here, so that `idist.finalize` is due in the end.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1 or idist.get_world_size() > 1:
        return False
    cuda = device in ("auto", "cuda") and torch.cuda.is_available()
    idist.initialize("nccl" if cuda else "gloo")
    return True
