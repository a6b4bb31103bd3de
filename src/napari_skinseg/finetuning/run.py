"""One fine-tuning run: the fits, the choice of the mixing coefficient, the candidate, checkpoints.

`finetuning.finetune` imports this module only when a fine-tuning starts, because it imports torch and MONAI. The models
are judged in `judging`, and `verdict` decides.
"""

import copy
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import DataLoader, Dataset
from numpy.typing import NDArray

from napari_skinseg.device import choose_device, out_of_memory
from napari_skinseg.errors import BadInput, Cancelled
from napari_skinseg.events import CancelToken, Event, OnEvent, raise_if_cancelled
from napari_skinseg.files import make_output_folder, write_json
from napari_skinseg.models.bundle import Model, ModelSpec, load, save
from napari_skinseg.models.store import StoredModel
from napari_skinseg.training.augment import Read, training_transform
from napari_skinseg.training.checkpoint import (
    CHECKPOINT,
    hash_file,
    library_versions,
    read_checkpoint,
    write_checkpoint,
)
from napari_skinseg.training.loop import TrainingLoop

from .evidence import Evidence
from .fits import MIXING_COEFFICIENTS, Fit, choose_coefficient, mix_weights, plan_fits
from .judging import compare_masks, dice_on_phantoms, segment_cases
from .options import FineTuneOptions, FineTuneOutcome
from .run_log import plot_curve, write_log
from .runs import HELD_OUT_MASKS, LOG, VERDICT, discard
from .snapshot import read_snapshot, take_snapshot
from .verdict import ComparedPhoto, judge_candidate

EMA = 0.9
"""Decay of the averaged weights: an average over about ten steps. A fit has about sixty steps, so a longer average
would keep too much of the base."""
WEIGHT_DECAY = 1e-2
ARTEFACTS = 0.3
MILD_VIEWS = 1.0
"""All views are mild changes: the position of a border is learned better from them, and the model forgets less."""
CLICKS = 0.25
"""Share of each batch with clicks, so that the model still reacts to clicks."""
SECONDS_BETWEEN_CHECKPOINTS = 5.0


class FineTuningRun:
    """The state of one fine-tuning run; see `finetuning.finetune.fine_tune`."""

    def __init__(
        self,
        base: StoredModel,
        evidence: Evidence,
        options: FineTuneOptions,
        out: Path,
        on_event: OnEvent,
        cancel: CancelToken,
    ) -> None:
        self.stored, self.base = base, load(base.folder)
        self.evidence, self.options, self.out = evidence, options, out
        self.on_event, self.cancel = on_event, cancel
        self.choice = choose_device(options.device, fast_cpu=True)
        self.batch_size = options.batch_size
        self.rows: list[dict[str, str | int]] = []
        self.samples: list[dict[str, Any]] = []
        self.base_dice: dict[int, float] = {}
        self.base_masks: dict[int, NDArray[np.bool_]] = {}
        self.unfinished_fit: dict[str, Any] | None = None
        self.checkpoint_time = 0.0

    def run(self) -> FineTuneOutcome:
        """Make the whole run."""
        try:
            self._start()
            self._write_log_json({})
            self._read()
            self._judge_base()
            for fit in self.fits:
                if not fit.finished:
                    self._make_fit(fit)
            return self._finish()
        except Cancelled:
            return FineTuneOutcome(self.out, None, None, cancelled=True)
        except BadInput:
            discard(self.out)
            raise
        finally:
            self.samples = []

    # The steps of a run

    def _start(self) -> None:
        """Continue the unfinished run in the folder, or start a new one with a new copy of the masks."""
        try:
            state = read_checkpoint(self.out, "cpu")
        except BadInput:
            state = {}
        given, snapshot = self.evidence, read_snapshot(self.out) if state else None
        if snapshot is not None and not _photos(snapshot) <= _photos(given):
            snapshot = None
        self._use_evidence(snapshot or take_snapshot(given, self.out))
        if state is None:
            return
        if state.get("identity") != self.identity:
            discard(self.out)
            self._use_evidence(take_snapshot(given, self.out))
            self.on_event(
                Event("message", message="The unfinished run was of other photos or options; a new run starts.")
            )
            return
        for fit, fit_state in zip(self.fits, state["fits"], strict=True):
            fit.restore(fit_state)
        self.rows, self.unfinished_fit, self.batch_size = state["rows"], state["current"], state["batch_size"]
        done = sum(fit.finished for fit in self.fits)
        self.on_event(
            Event("resumed", done, len(self.fits), f"continuing with {self.fits[min(done, len(self.fits) - 1)].name}")
        )
        if [hash_file(case.mask) for case in given.cases if case.mask] != self.identity["masks"]:
            self.on_event(
                Event(
                    "message", message="The run continues with its own masks; newer corrections count in the next run."
                )
            )

    def _use_evidence(self, evidence: Evidence) -> None:
        options = {key: value for key, value in asdict(self.options).items() if key not in ("name", "device")}
        self.evidence = evidence
        self.parts = evidence.split_folds(self.options.folds, self.options.seed)
        self.fits = plan_fits(len(evidence.cases), self.parts, self.options)
        self.photo_hashes = [hash_file(case.image) for case in evidence.cases]
        # What a resumed run must share with its checkpoint.
        self.identity = {
            **options,
            "mixes": list(MIXING_COEFFICIENTS),
            "base": self.base.sha256,
            "photos": self.photo_hashes,
            "masks": [hash_file(case.mask) for case in evidence.cases if case.mask],
        }

    def _read(self) -> None:
        read = Read(self.base.spec.input_size)
        for case in self.evidence.cases:
            raise_if_cancelled(self.cancel)
            self.samples.append(read(case))
            self.on_event(Event("read", len(self.samples), len(self.evidence.cases)))

    def _judge_base(self) -> None:
        cases = {number: self.evidence.cases[number] for part in self.parts for number in part}
        for number, mask, dice in segment_cases(self.base, cases, self.choice.device, self.cancel):
            self.base_dice[number], self.base_masks[number] = dice, mask
            self.on_event(Event("judge", len(self.base_dice), len(cases)))

    def _make_fit(self, fit: Fit) -> None:
        """Make one fit, with smaller batches or on the CPU if memory runs out."""
        while True:
            loop = self._training_loop(fit)
            try:
                self._run_passes(fit, loop)
                break
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                self._use_less_memory(len(fit.train))
                self.unfinished_fit = None
            finally:
                loop.close()
        fit.finished, self.unfinished_fit = True, None
        self._write_checkpoint()

    def _run_passes(self, fit: Fit, loop: TrainingLoop) -> None:
        start = 0
        if self.unfinished_fit is not None:
            loop.restore(self.unfinished_fit["learner"])
            start = self.unfinished_fit["passes"]
        for number in range(start, fit.passes):
            start_time = time.perf_counter()
            loss = loop.run_pass(number, self._loader(fit, number), self.cancel)
            row: dict[str, str | int] = {"fit": fit.name, "pass": number + 1, "loss": f"{loss:.5f}"}
            if number + 1 == fit.passes:
                weights = loop.averaged.state_dict()
                fit.weights = {name: tensor.detach().float().cpu().clone() for name, tensor in weights.items()}
                row |= self._judge_fit(fit, loss)
            self.rows.append({**row, "seconds": f"{time.perf_counter() - start_time:.2f}"})
            write_log(self.out / "log.csv", self.rows)
            self.unfinished_fit = {"passes": number + 1, "learner": loop.state()}
            if time.perf_counter() - self.checkpoint_time > SECONDS_BETWEEN_CHECKPOINTS:
                self._write_checkpoint()

    def _judge_fit(self, fit: Fit, loss: float) -> dict[str, str]:
        """Segment the held-out photos of a fit with each mixing coefficient, and keep the masks and their Dice.

        Returns:
            Columns for the log.
        """
        if not fit.held_out:
            return {}
        for number in fit.held_out:
            fit.dice[number], fit.masks[number] = np.zeros(len(MIXING_COEFFICIENTS)), []
        cases = {number: self.evidence.cases[number] for number in fit.held_out}
        for column, coefficient in enumerate(MIXING_COEFFICIENTS):
            model = self._mixed_model(fit, coefficient)
            for number, mask, dice in segment_cases(model, cases, self.choice.device, self.cancel):
                fit.dice[number][column] = dice
                fit.masks[number].append(np.packbits(mask))
        if len(self.parts) > 1:
            fit.weights = {}  # the candidate comes from another fit
        base = float(np.mean([self.base_dice[number] for number in fit.held_out]))
        tuned = float(np.mean([fit.dice[number][-1] for number in fit.held_out]))
        values = {"fold": self.fits.index(fit) + 1, "pass": fit.passes, "loss": loss, "base_dice": base, "dice": tuned}
        message = f"{fit.name}, pass {fit.passes}: held-out Dice {tuned:.4f}, base {base:.4f}"
        self.on_event(Event("validated", fit.passes, fit.passes, message, values))
        return {"base_dice": f"{base:.5f}", "dice": f"{tuned:.5f}"}

    def _finish(self) -> FineTuneOutcome:
        """Compare candidate and base, and write the candidate, the verdict and the logs."""
        fit = self.fits[-1]
        dice = {number: row for fit in self.fits for number, row in fit.dice.items()}
        coefficient = MIXING_COEFFICIENTS[choose_coefficient(dice)]
        candidate = self._mixed_model(fit, coefficient)
        phantoms = [
            dice_on_phantoms(model, self.choice.device, self.on_event, self.cancel) for model in (self.base, candidate)
        ]
        verdict = judge_candidate(self._compare_held_out(dice), (phantoms[0], phantoms[1]), coefficient, fit.passes)
        figures = {
            "held-out Dice, base": verdict.base.dice,
            "held-out Dice": verdict.candidate.dice,
            "gain in Dice": verdict.difference,
            "gain in Dice, at least": verdict.low,
            "gain in Dice, at most": verdict.high,
        }
        spec = self._spec({name: value for name, value in figures.items() if value is not None}, coefficient)
        folder = save(self.out / self.options.name, spec, candidate.network, presence=candidate.presence)
        write_json(self.out / VERDICT, verdict.to_json())
        self._write_log_json(
            {"better": verdict.better, "sentence": verdict.sentence, "passes": fit.passes, "mix": coefficient}
        )
        plot_curve(self.out / "curve.png", self.rows)
        (self.out / CHECKPOINT).unlink(missing_ok=True)
        return FineTuneOutcome(self.out, folder, verdict, cancelled=False)

    def _compare_held_out(self, dice: Mapping[int, NDArray[np.float64]]) -> list[ComparedPhoto]:
        """Compare the masks of both models for every held-out photo.

        The mixing coefficient for a photo is chosen on the other parts, so that no photo influences its own result.
        """
        folder = make_output_folder(self.out / HELD_OUT_MASKS)
        parts = self.parts if len(self.parts) > 1 else [self.parts[0][::2], self.parts[0][1::2]] if self.parts else []
        tuned_masks = {number: masks for fit in self.fits for number, masks in fit.masks.items()}
        compared = []
        for part in parts:
            chosen = choose_coefficient(dice, without=part)
            for number in part:
                base = self.base_masks[number]
                candidate = np.unpackbits(tuned_masks[number][chosen], count=base.size).reshape(base.shape).astype(bool)
                compared.append(
                    compare_masks(
                        number,
                        self.evidence.cases[number],
                        "corrected" if number < len(self.evidence.corrected) else "accepted",
                        {"base": base, "candidate": candidate},
                        folder,
                    )
                )
        return compared

    # The parts of a fit

    def _training_loop(self, fit: Fit) -> TrainingLoop:
        steps = [other.passes * len(self._loader(other, 0)) for other in self.fits]
        earlier, total = sum(steps[: self.fits.index(fit)]), sum(steps)
        return TrainingLoop(
            copy.deepcopy(self.base.network),
            self.choice,
            (self.base.spec.mean, self.base.spec.std),
            steps_per_pass=len(self._loader(fit, 0)),
            passes=fit.passes,
            learning_rate=self.options.learning_rate,
            weight_decay=WEIGHT_DECAY,
            ema=EMA,
            clicks=CLICKS,
            seed=self.options.seed,
            on_step=lambda step, loss: self.on_event(Event("train", earlier + step, total, values={"loss": loss})),
            frozen_statistics=True,
        )

    def _loader(self, fit: Fit, number: int) -> Any:
        # The seed depends on fit and pass, so that a resumed run shows the same photos as an uninterrupted one.
        seed = (self.options.seed * 1009 + self.fits.index(fit)) * 100_003 + number
        return DataLoader(
            Dataset(
                [self.samples[case] for case in fit.train],
                training_transform(self.base.spec.input_size, ARTEFACTS, mild=MILD_VIEWS),
            ),
            batch_size=min(self.batch_size, len(fit.train)),
            shuffle=True,
            generator=torch.Generator().manual_seed(seed),
        )

    def _mixed_model(self, fit: Fit, coefficient: float) -> Model:
        network = mix_weights(self.base.network, fit.weights, coefficient)
        # The encoder changes little, so the presence head of the base still fits.
        return Model(replace(self.base.spec, name=self.options.name), network, "", presence=self.base.presence)

    def _use_less_memory(self, photos: int) -> None:
        if min(self.batch_size, photos) > 1:
            self.batch_size = min(self.batch_size, photos) // 2
            sentence = f"Memory ran out; continuing with {self.batch_size} photos at a time."
        elif self.choice.device != "cpu":
            self.choice = choose_device("cpu", fast_cpu=True)
            sentence = "The GPU has too little memory for one photo; continuing with the CPU, which is slower."
        else:
            raise BadInput("One photo does not fit into this computer's memory; close other programs.")
        self.on_event(Event("message", message=sentence))

    # What a run writes

    def _spec(self, metrics: dict[str, float], coefficient: float) -> ModelSpec:
        base, count = self.base.spec, len(self.evidence.cases)
        return replace(
            base,
            name=self.options.name,
            version="0.1.0",
            description=f"{base.name} fine-tuned on {count} photos",
            training_data=f"{base.training_data}; fine-tuned on {count} photos of {self.evidence.cases[0].source}",
            metrics=metrics,
            provenance={
                "base": self.stored.name if self.stored.origin != "folder" else str(self.stored.folder),
                "base sha256": self.base.sha256,
                "cases": f"{len(self.evidence.corrected)} corrected, {len(self.evidence.accepted)} accepted",
                "photos": ", ".join(digest[:16] for digest in self.photo_hashes),
                "options": str(asdict(self.options)),
                "chosen": f"{self.fits[-1].passes} passes, {coefficient:g} of the fine-tuned weights",
                "device": self.choice.reason,
                "date": datetime.now().isoformat(timespec="seconds"),
                "versions": library_versions(),
            },
        )

    def _write_checkpoint(self) -> None:
        state = {
            "identity": self.identity,
            "fits": [fit.state() for fit in self.fits],
            "rows": self.rows,
            "current": self.unfinished_fit,
            "batch_size": self.batch_size,
        }
        write_checkpoint(self.out, state)
        self.checkpoint_time = time.perf_counter()

    def _write_log_json(self, result: dict[str, Any]) -> None:
        document = {
            "base": self.stored.name,
            "base sha256": self.base.sha256,
            "options": asdict(self.options),
            "evidence": self.evidence.describe(self.options),
            "photos": {case.id: digest for case, digest in zip(self.evidence.cases, self.photo_hashes, strict=True)},
            "left out": {str(photo): why for photo, why in self.evidence.left_out},
            "device": self.choice.reason,
            **result,
        }
        write_json(self.out / LOG, document)


def _photos(evidence: Evidence) -> set[Path]:
    return {case.image.absolute() for case in evidence.cases}
