"""One training run: passes over the photos, validation, checkpoints, and the best model so far.

`training.train` imports this module only when a training starts, because it imports torch and MONAI.
"""

import time
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import DataLoader, Dataset, DistributedSampler
from monai.utils import set_determinism

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.device import choose_device, move_to_device
from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, Event, OnEvent, ignore_event
from napari_skinseg.files import write_text
from napari_skinseg.models.bundle import Model, ModelSpec, save
from napari_skinseg.models.network import LITE, build
from napari_skinseg.models.store import load_model
from napari_skinseg.pixels.metrics import FAILURE_JACCARD, dice, jaccard
from napari_skinseg.read_ahead import read_ahead
from napari_skinseg.segmentation.options import SegmentOptions
from napari_skinseg.segmentation.segmenter import Segmenter

from .augment import Read, training_transform
from .calibrate import read_cases
from .checkpoint import hash_cases, library_versions, read_checkpoint, write_checkpoint
from .distributed import join_processes, leave_processes, process_count, process_rank, wait_for_processes
from .loop import TrainingLoop
from .options import IMAGENET, TrainOptions
from .sampling import sample_photos

MEAN = (0.70, 0.55, 0.53)
STD = (0.16, 0.17, 0.18)
"""Mean and standard deviation of dermoscopic photos scaled to [0, 1], per RGB channel. A model keeps the values that it
was trained with; other similar values would train as well."""


class TrainingRun:
    """The state of one training run; see `training.train.train`."""

    def __init__(
        self, cases: list[Case], validation: list[Case], options: TrainOptions, out: Path, on_event: OnEvent
    ) -> None:
        self.joined = join_processes(options.device)
        self.is_first_process = process_rank() == 0
        set_determinism(options.seed, use_deterministic_algorithms=None)
        on_event = on_event if self.is_first_process else ignore_event
        self.cases, self.validation, self.options, self.out, self.on_event = cases, validation, options, out, on_event
        self.photos = hash_cases([*cases, *validation])
        self.model_folder = out / options.name
        self.finished = 0
        self.best_dice: float | None = None
        self.choice = choose_device(options.device, fast_cpu=True)
        imagenet = options.start == IMAGENET
        start = load_model(options.start) if options.start and not imagenet else None
        if start and start.spec.network != options.network:
            raise BadInput(f"{options.start} is a {start.spec.network}, not a {options.network}; give that as network.")
        encoder = {"backbone": options.encoder} if options.encoder else {}
        self.arguments = dict(start.spec.network_arguments) if start else encoder
        if encoder and self.arguments.get("backbone", LITE[0]) != options.encoder:
            raise BadInput(f"{options.start} does not have the encoder {options.encoder}; leave the encoder out.")
        self.mean, self.std = (start.spec.mean, start.spec.std) if start else (MEAN, STD)
        network = start.network if start else build(options.network, self.arguments)
        if imagenet:
            from napari_skinseg.models.imagenet import IMAGENET_MEAN, IMAGENET_STD, start_from_imagenet

            start_from_imagenet(network)
            self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD
        self.steps_per_pass = max(1, len(cases) // (options.batch_size * process_count()))
        self.loop = TrainingLoop(
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

    def run_pass(self, number: int, cancel: CancelToken) -> None:
        """Train pass `number` (0 is the first) on all cases, validate the averaged weights and write the checkpoint."""
        start = time.perf_counter()
        self._read(self.options.size_of(number), cancel)
        try:
            loss = self.loop.run_pass(number, self._loader(number), cancel)
        except torch.OutOfMemoryError as error:
            raise BadInput(
                f"The GPU has too little memory for {self.options.batch_size} photos at a time; "
                "use a smaller batch size."
            ) from error
        if self.is_first_process:
            self._finish_pass(number, loss, start, cancel)
        wait_for_processes()
        self.finished = number + 1

    def _finish_pass(self, number: int, loss: float, start: float, cancel: CancelToken) -> None:
        """Validate the averaged weights, keep the best model, and write the log and the checkpoint."""
        score, failures = self._validate(cancel)
        self.finished = number + 1
        if self.best_dice is None or score > self.best_dice:
            self.best_dice = score
            save(self.model_folder, self._spec(number, score, failures), self.loop.averaged)
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
        self._write_checkpoint()
        values = {"loss": loss, "validation_dice": score, "validation_failure_rate": failures}
        message = (
            f"pass {number + 1}: loss {values['loss']:.3f}, validation Dice {score:.4f} (best {self.best_dice:.4f})"
        )
        self.on_event(Event("validated", number + 1, self.options.passes, message, values))

    def resume(self) -> None:
        """Continue from the checkpoint in the folder of the run, if there is one.

        Raises:
            BadInput: the checkpoint is damaged, or belongs to a run with other options or photos.
        """
        state = read_checkpoint(self.out, self.choice.device)
        if state is None:
            return
        # An option that did not exist when the checkpoint was written had its default value. Checkpoints of version 0.1
        # hold the numbers of photos, but not the photos.
        identity = self._identity()
        if {**_identity(TrainOptions()), "photos": identity["photos"], **state["identity"]} != identity:
            raise BadInput(f"{self.out} holds a run with other options or photos; choose another folder for this run.")
        self.loop.restore(state)
        self.finished, self.best_dice = state["finished"], state["best_dice"]
        self.on_event(Event("resumed", self.finished, self.options.passes, f"continuing after pass {self.finished}"))

    def close(self) -> None:
        """Free the memory of the device, and disconnect from other processes."""
        self.samples = []
        self.loop.close()
        if self.joined:
            leave_processes()

    def _after_step(self, number: int, loss: float) -> None:
        total = self.steps_per_pass * self.options.passes
        self.on_event(Event("train", number, total, values={"loss": loss}))

    def _read(self, size: tuple[int, int], cancel: CancelToken) -> None:
        """Read all photos into memory, a little larger than `size`; read them again when the size has changed."""
        if size == self.size:
            return
        self.samples = []
        for _, sample in read_ahead(Read(size), self.cases, cancel=cancel):
            self.samples.append(sample.result())
            self.on_event(Event("read", len(self.samples), len(self.cases)))
        self.size = size

    def _loader(self, number: int) -> Any:
        # The seed depends on the pass, so that a resumed run shows the same photos as an uninterrupted one.
        seed = self.options.seed * 100_003 + number
        diagnoses = [case.diagnosis for case in self.cases]
        areas = [float(sample["mask"].mean()) for sample in self.samples] if self.options.small > 0 else []
        chosen = sample_photos(diagnoses, self.options.balance, seed, areas, self.options.small)
        samples = [self.samples[photo] for photo in chosen]
        dataset = Dataset(samples, training_transform(self.size, self.options.artefacts, self.options.plain))
        sampler = None
        if process_count() > 1:
            sampler = DistributedSampler(dataset, shuffle=True, seed=seed, drop_last=True)
        return DataLoader(
            dataset,
            batch_size=max(1, min(self.options.batch_size, len(samples) // process_count())),
            shuffle=sampler is None,
            sampler=sampler,
            drop_last=True,
            num_workers=self.options.workers,
            generator=torch.Generator().manual_seed(seed + 7919 * process_rank()),
        )

    def _validate(self, cancel: CancelToken) -> tuple[float, float]:
        """Mean Dice and failure rate of the averaged weights, each photo segmented as a user's photo.

        Every photo gets an outline, because the limit for "no lesion" is not known before `calibrate`.
        """
        segmenter = Segmenter(Model(self._spec(0, 0, 0), self.loop.averaged, ""), self.options.device)
        scores, failures = [], 0
        for number, (case, image, truth) in enumerate(read_cases(self.validation, cancel), start=1):
            mask = segmenter.segment(image, SegmentOptions(always_outline=True), name=str(case.image)).mask
            scores.append(dice(mask, truth))
            failures += jaccard(mask, truth) < FAILURE_JACCARD
            self.on_event(Event("validate", number, len(self.validation)))
        move_to_device(self.loop.averaged, self.choice)
        return float(np.mean(scores)), failures / len(scores)

    def _spec(self, number: int, score: float, failures: float) -> ModelSpec:
        options = self.options
        return ModelSpec(
            name=options.name,
            network=options.network,
            network_arguments=self.arguments,
            input_size=self.size,  # weights of a pass at half size are best at that size
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
                "versions": library_versions(),
            },
        )

    def _identity(self) -> dict[str, Any]:
        """The options and photos that a resumed run must share with its checkpoint."""
        counts = {"cases": len(self.cases), "validation": len(self.validation)}
        return {**_identity(self.options), **counts, "photos": self.photos}

    def _write_checkpoint(self) -> None:
        state = {
            "identity": self._identity(),
            **self.loop.state(),
            "finished": self.finished,
            "best_dice": self.best_dice,
        }
        write_checkpoint(self.out, state)

    def _log(self, row: dict[str, Any]) -> None:
        path = self.out / "log.csv"
        earlier = path.read_text(encoding="utf-8").splitlines()[1 : self.finished] if path.exists() else []
        write_text(path, "\n".join([",".join(row), *earlier, ",".join(str(value) for value in row.values())]) + "\n")


def _identity(options: TrainOptions) -> dict[str, Any]:
    """The options that a resumed run must share with its checkpoint."""
    free = ("name", "device", "workers", "licence", "training_data", "passes")
    return {key: value for key, value in asdict(options).items() if key not in free}
