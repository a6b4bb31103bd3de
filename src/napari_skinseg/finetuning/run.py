"""One fine-tuning run: the border, the fits, the choice of the mixing coefficient, the candidate, checkpoints.

The models are judged in `judging`, and `verdict` decides. torch and MONAI are imported when a training starts; a run
that only matches the border does not need them where ONNX Runtime serves.
"""

import copy
import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.device import DeviceChoice, choose_device, out_of_memory
from napari_skinseg.errors import BadInput, Cancelled
from napari_skinseg.events import AnyToken, CancelToken, Event, OnEvent, raise_if_cancelled
from napari_skinseg.files import make_output_folder, write_json
from napari_skinseg.models.bundle import Model, ModelSpec, load, save, save_copy
from napari_skinseg.models.store import StoredModel
from napari_skinseg.pixels.metrics import dice
from napari_skinseg.segmentation.border import Border, change_border
from napari_skinseg.segmentation.segmenter import Segmenter
from napari_skinseg.training.checkpoint import (
    CHECKPOINT,
    hash_file,
    library_versions,
    read_checkpoint,
    write_checkpoint,
)

from .border import BorderTable
from .evidence import Evidence, lesion_of
from .fits import MIXING_COEFFICIENTS, Fit, choose_coefficient, freeze_early_stages, mix_weights, plan_fits
from .judging import JudgedPhoto, Prediction, compare_masks, dice_on_phantoms, segment_photos
from .options import BorderOutcome, FineTuneOptions, FineTuneOutcome
from .run_log import plot_curve, write_log
from .runs import HELD_OUT_MASKS, LOG, discard, suggest_name, write_verdict
from .snapshot import read_snapshot, take_snapshot
from .verdict import ComparedPhoto, Step, Verdict, judge_candidate

if TYPE_CHECKING:
    from napari_skinseg.training.loop import TrainingLoop

EMA = 0.9
"""Decay of the averaged weights: an average over about ten steps. A fit has about sixty steps, so a longer average
would keep too much of the base."""
WEIGHT_DECAY = 1e-2
ARTEFACT_PROBABILITY = 0.3
"""Probability that artefacts are added to a photo."""
MILD_VIEWS = 1.0
"""All views are mild changes of the photo: the border is learned better from them, and the model forgets less."""
REPLAY = 1 / 3
"""Photos with the masks of the base, for each photo with a mask of the person, so that less is forgotten: generated
photos, and photos of the project that nobody has reviewed."""
MOST_REPLAYED = 24
MOST_FORGOTTEN = 0.01
"""Mean Dice on generated photos that a candidate may lose; otherwise it gets less of the trained weights."""
MIN_CONFIDENCE = 0.85
"""Confidence of the base from which an unlabelled photo is shown with its mask."""
CLICKS = 0.25
"""Share of each batch with clicks, so that the model still reacts to clicks."""
SECONDS_BETWEEN_CHECKPOINTS = 15.0
"""Shortest time between two checkpoints of one fit."""
SECONDS_BETWEEN_LOOKS = 0.05
"""Time after which a fit that waits looks again whether it may go on."""


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
        user_is_active: Callable[[], bool],
    ) -> None:
        self.stored = base
        self.evidence, self.options, self.out = evidence, options, out
        self._report, self.cancel, self.user_is_active = on_event, cancel, user_is_active
        self.segmenter = Segmenter(base.folder, options.device if options.border_only else self.choice.device)
        self.batch_size = options.batch_size
        self.rows: list[dict[str, str | int]] = []
        self.samples: list[dict[str, Any]] = []
        self.replay: list[dict[str, Any]] = []
        self.photos: dict[int, JudgedPhoto] = {}
        self.found: dict[int, Prediction] = {}
        self.own_border = Border.of_model(self.segmenter.spec)
        self.border: BorderOutcome | None = None
        self.previous_borders: dict[int, Border] = {}
        self.state: dict[str, Any] = {}
        self.steps: dict[str, int] = {}
        # Fits run in threads: one of them at a time reports, changes shared values or writes a file of the run.
        self.report_lock, self.state_lock = threading.Lock(), threading.RLock()
        self.running: list[Fit] = []  # in the order of their start
        self.most_beside_user = 1  # number of fits that go on while the user works
        self.failed = threading.Event()
        self.stop = AnyToken(cancel, self.failed)

    @cached_property
    def base(self) -> Model:
        """The base in torch."""
        return load(self.stored.folder)

    @cached_property
    def choice(self) -> DeviceChoice:
        """The device of the training."""
        return choose_device(self.options.device, fast_cpu=True)

    def run(self) -> FineTuneOutcome:
        """Make the whole run."""
        try:
            self._start()
            self._write_log_json({})
            self._read()
            self._judge_base()
            self._match_border()
            if self.options.border_only:
                return self._finish_border()
            self._make_samples()
            self._make_fits()
            return self._finish()
        except Cancelled:
            return FineTuneOutcome(self.out, None, None, cancelled=True)
        finally:
            self.samples, self.replay, self.photos, self.found = [], [], {}, {}

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
        if self.options.border_only or state.get("identity") != self.identity:
            discard(self.out)
            self._use_evidence(take_snapshot(given, self.out))
            self.on_event(
                Event("message", message="The unfinished run was of other photos or options; a new run starts.")
            )
            return
        self.state = state
        if [hash_file(case.mask) for case in given.cases if case.mask] != self.identity["masks"]:
            self.on_event(
                Event(
                    "message", message="The run continues with its own masks; newer corrections count in the next run."
                )
            )

    def _use_evidence(self, evidence: Evidence) -> None:
        options = {
            key: value for key, value in asdict(self.options).items() if key not in ("name", "device", "border_only")
        }
        self.evidence = evidence
        self.parts = evidence.split_folds(self.options.folds, self.options.seed)
        self.fits = plan_fits(len(evidence.cases), self.parts, self.options)
        self.photo_hashes = [hash_file(case.image) for case in evidence.cases]
        # A resumed run must have the same values as its checkpoint.
        self.identity = {
            **options,
            "mixes": list(MIXING_COEFFICIENTS),
            "base": self.segmenter.sha256,
            "photos": self.photo_hashes,
            "masks": [hash_file(case.mask) for case in evidence.cases if case.mask],
        }

    def _read(self) -> None:
        """Keep the photos in memory, so that the run does not need their files any more, and restore finished fits."""
        judged = {number for part in self.parts for number in part} or range(len(self.evidence.cases))
        if not self.options.border_only:
            from napari_skinseg.training.augment import Read

            read = Read(self.segmenter.spec.input_size)
        for number, case in enumerate(self.evidence.cases):
            raise_if_cancelled(self.cancel)
            if not self.options.border_only:
                self.samples.append(read(case))
            if number in judged:
                self.photos[number] = JudgedPhoto.read(case)
            self.on_event(Event("read", number + 1, len(self.evidence.cases)))
        if not self.state:
            return
        for fit, state in zip(self.fits, self.state["fits"], strict=True):
            fit.restore(state, self.photos)
        self.batch_size = self.state["batch_size"]
        made = {fit.name: fit.passes_made for fit in self.fits}  # a fit may have logged later passes, which are lost
        # Version 0.1 gave the fits other names.
        self.rows = [row for row in self.state["rows"] if int(row["pass"]) <= made.get(str(row["fit"]), math.inf)]
        done = sum(fit.finished for fit in self.fits)
        self.on_event(
            Event("resumed", done, len(self.fits), f"The run continues; {done} of {len(self.fits)} fits are complete.")
        )

    def _judge_base(self) -> None:
        for number, found in segment_photos(self.segmenter, self.photos, self.cancel):
            self.found[number] = found
            self.on_event(Event("judge", len(self.found), len(self.photos)))

    def _match_border(self) -> None:
        """Fit the border of the base; each photo is judged with the border that the other photos choose."""
        borders, chosen = self._fit_border(self.found, self.own_border)
        compared = [
            self._compare(number, ("base", self._base_mask(number)), ("border", self.found[number].mask(border)))
            for number, border in borders.items()
        ]
        areas = np.array([[self._base_mask(n).sum(), self.found[n].mask(one).sum()] for n, one in borders.items()])
        growth = float(np.median(areas[:, 1] / np.maximum(1, areas[:, 0])))
        style = "as wide as" if abs(growth - 1) < 0.01 else "wider than" if growth > 1 else "tighter than"
        verdict = judge_candidate(
            compared, ((), ()), 0, 0, step="border", what=f"Your border is {style} that of the model"
        )
        self.previous_borders = borders if verdict.better else dict.fromkeys(borders, self.own_border)
        name = self.options.name if self.options.border_only else suggest_name(self.stored.name, "border")
        changed = chosen if verdict.better or self.options.border_only else self.own_border
        spec = self._spec(name, verdict, "the weights of the base", changed, guarded=False)
        if changed != self.own_border or self.options.border_only:
            model = save_copy(self.stored.folder, self.out / name, spec)
            self.border = BorderOutcome(_numbers(changed), model, verdict)
        self.on_event(Event("border", 1, 1, verdict.sentence, {"difference": verdict.difference or 0.0}))

    def _fit_border(self, found: Mapping[int, Prediction], own: Border) -> tuple[dict[int, Border], Border]:
        """Fit a border to the corrected cases.

        Returns:
            For each judged case the border that the cases of other lesions choose, and the border that all choose;
            the present border if the gain may be chance.
        """
        corrected = [number for number in found if number < len(self.evidence.corrected)] or list(found)
        table = BorderTable.measure([found[number].map(self.photos[number], own) for number in corrected], own)
        lesions = [lesion_of(self.evidence.cases[number]) for number in corrected]
        rows = table.choose_leave_one_out(lesions)
        chosen = table.choose() if table.is_certain(rows) else 0
        borders = dict.fromkeys(found, table.borders[chosen])
        if chosen:
            borders |= {number: table.borders[row] for number, row in zip(corrected, rows, strict=True)}
        return borders, table.borders[chosen]

    def _base_mask(self, number: int) -> NDArray[np.bool_]:
        return self.found[number].mask(self.own_border)

    def _compare(self, number: int, *masks: tuple[str, NDArray[np.bool_]]) -> ComparedPhoto:
        folder = make_output_folder(self.out / HELD_OUT_MASKS)
        status: Literal["corrected", "accepted"] = "corrected" if number < len(self.evidence.corrected) else "accepted"
        return compare_masks(number, self.evidence.cases[number], status, self.photos[number].truth, masks, folder)

    def _make_samples(self) -> None:
        """Give the masks the style of the base, so that the weights do not learn the border again; add the replay."""
        from .replay import replayed_samples

        border = self._better_border
        if border is not None:
            areas = [(self._base_mask(n).sum(), one.mask(border).sum()) for n, one in self.found.items()]
            ratio = float(np.median([np.sqrt(base / max(1, other)) for base, other in areas if base]))
            back = Border(offset=float(np.clip((ratio - 1) / 2, -0.2, 0.2)))
            self.samples = [{**one, "mask": change_border(one["mask"], back)} for one in self.samples]
        self.replay = replayed_samples(
            self.stored.folder,
            self.base.spec.input_size,
            self.evidence.unlabelled,
            MOST_REPLAYED,
            MIN_CONFIDENCE,
            self.choice.device,
        )

    def _make_fits(self) -> None:
        """Make the fits that are not finished; on a CPU, as many at the same time as there are threads.

        A step is so small that two threads of torch are only a tenth faster than one. Two fits with one thread each
        take half the time. While the user works, one fit less goes on, so that one core is free for the window.
        """
        import torch

        self.steps = {fit.name: fit.passes_made * self._steps_per_pass(fit, self.batch_size) for fit in self.fits}
        waiting = sorted((fit for fit in self.fits if not fit.finished), key=lambda fit: len(fit.train), reverse=True)
        threads = torch.get_num_threads()
        at_once = max(1, min(len(waiting), threads)) if self.choice.device == "cpu" else 1
        self.most_beside_user = max(1, threads - 1)
        with ThreadPoolExecutor(at_once, "fit", torch.set_num_threads, (threads // at_once,)) as pool:
            futures = [pool.submit(self._make_fit, fit) for fit in waiting]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self.failed.set()  # the other fits stop, too
                raise
            finally:
                torch.set_num_threads(threads)  # torch gives new threads the number that was set last

    def _make_fit(self, fit: Fit) -> None:
        """Make one fit, with smaller batches or on the CPU if memory runs out."""
        with self.state_lock:
            self.running.append(fit)
        try:
            self._make_fit_with_enough_memory(fit)
        finally:
            with self.state_lock:
                self.running.remove(fit)
        self._write_checkpoint()

    def _make_fit_with_enough_memory(self, fit: Fit) -> None:
        while not fit.finished:
            raise_if_cancelled(self.stop)
            batch_size = fit.unfinished["batch_size"] if fit.unfinished else self.batch_size
            loop = self._training_loop(fit, batch_size)
            try:
                self._run_passes(fit, loop, batch_size)
                fit.finished, fit.unfinished = True, None
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                fit.unfinished = None
                self._use_less_memory(min(batch_size, len(fit.train)), loop.choice.device)
            finally:
                loop.close()

    def _wait_for_user(self, fit: Fit) -> None:
        """While the user works and the cores are taken, let only the fits go on that were started first."""
        while self.user_is_active() and not self.stop.is_set():
            with self.state_lock:
                if fit in self.running[: self.most_beside_user]:
                    return
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _run_passes(self, fit: Fit, loop: "TrainingLoop", batch_size: int) -> None:
        start, checkpoint_time = 0, -math.inf
        if fit.unfinished is not None:
            loop.restore(fit.unfinished["learner"])
            start = fit.unfinished["passes"]
        for number in range(start, fit.passes):
            start_time = time.perf_counter()
            loss = loop.run_pass(number, self._loader(fit, number, batch_size), self.stop)
            row: dict[str, str | int] = {"fit": fit.name, "pass": number + 1, "loss": f"{loss:.5f}"}
            if number + 1 == fit.passes:
                weights = loop.averaged.state_dict()
                fit.weights = {name: tensor.detach().float().cpu().clone() for name, tensor in weights.items()}
                row |= self._judge_fit(fit, loss)
            with self.state_lock:
                self.rows.append({**row, "seconds": f"{time.perf_counter() - start_time:.2f}"})
                write_log(self.out / "log.csv", self.rows)
            if number + 1 < fit.passes and time.perf_counter() - checkpoint_time > SECONDS_BETWEEN_CHECKPOINTS:
                # A copy, because another fit may write it while this one changes its weights.
                learner = copy.deepcopy(loop.state())
                fit.unfinished = {"passes": number + 1, "batch_size": batch_size, "learner": learner}
                self._write_checkpoint()
                checkpoint_time = time.perf_counter()

    def on_event(self, event: Event) -> None:
        """Report an event, one at a time; while the user pauses the run, this waits."""
        with self.report_lock:
            self._report(event)

    def _judge_fit(self, fit: Fit, loss: float) -> dict[str, str]:
        """Segment the held-out photos of a fit with each mixing coefficient, and keep the masks and their Dice.

        Returns:
            Columns for the log.
        """
        if not fit.held_out:
            return {}
        photos = {number: self.photos[number] for number in fit.held_out}
        predictions: dict[int, list[Prediction]] = {number: [] for number in fit.held_out}
        for coefficient in MIXING_COEFFICIENTS:
            model = self._mixed_model(fit, coefficient)
            for number, found in segment_photos(Segmenter(model, self.choice.device), photos, self.stop):
                predictions[number].append(found)
        fit.predictions = predictions
        if len(self.parts) > 1:
            fit.weights = {}  # the candidate comes from another fit
        borders = {number: self.previous_borders[number] for number in fit.held_out}
        base, tuned = (
            float(
                np.mean(
                    [dice(found[number].mask(border), self.photos[number].truth) for number, border in borders.items()]
                )
            )
            for found in (self.found, {number: row[-1] for number, row in predictions.items()})
        )
        values = {"fold": self.fits.index(fit) + 1, "pass": fit.passes, "loss": loss, "base_dice": base, "dice": tuned}
        message = f"{fit.name}, pass {fit.passes}: held-out Dice {tuned:.4f}, base {base:.4f}"
        self.on_event(Event("validated", fit.passes, fit.passes, message, values))
        return {"base_dice": f"{base:.5f}", "dice": f"{tuned:.5f}"}

    def _finish_border(self) -> FineTuneOutcome:
        assert self.border is not None
        outcome = FineTuneOutcome(self.out, self.border.model, self.border.verdict, cancelled=False, border=self.border)
        write_verdict(outcome)
        self._write_result(outcome, self.border.border, 0)
        return outcome

    def _finish(self) -> FineTuneOutcome:
        """Compare candidate and base, and write the candidate, the verdict and the logs."""
        fit = self.fits[-1]
        predictions = {number: row for fit in self.fits for number, row in fit.predictions.items()}
        borders, chosen, dices = [], [], []
        for column in range(len(MIXING_COEFFICIENTS)):
            found = {number: row[column] for number, row in predictions.items()}
            by_case, of_all = self._fit_border(found, self._better_border or self.own_border)
            borders.append(by_case)
            chosen.append(of_all)
            dices.append([dice(one.mask(by_case[n]), self.photos[n].truth) for n, one in found.items()])
        table = dict(zip(predictions, np.array(dices).T, strict=True))
        base_phantoms = dice_on_phantoms(self.stored.folder, self.choice.device, self.on_event, self.cancel)
        for best in range(choose_coefficient(table), -1, -1):  # the largest that has not forgotten
            candidate = self._mixed_model(fit, MIXING_COEFFICIENTS[best])
            phantoms = dice_on_phantoms(candidate, self.choice.device, self.on_event, self.cancel)
            if np.mean(phantoms) >= np.mean(base_phantoms) - MOST_FORGOTTEN:
                break
        compared = []
        parts = self.parts if len(self.parts) > 1 else [self.parts[0][::2], self.parts[0][1::2]]
        for part in parts:
            # No photo influences the coefficient of its own result.
            column = min(best, choose_coefficient(table, without=part))
            for number in part:
                base, previous = self._base_mask(number), self.found[number].mask(self.previous_borders[number])
                tuned = predictions[number][column].guarded_mask(
                    borders[column][number], self.found[number], self.own_border
                )
                before = ("base", base) if np.array_equal(base, previous) else ("below", previous)
                compared.append(self._compare(number, before, ("candidate", tuned)))
        coefficient = MIXING_COEFFICIENTS[best]
        previous_step: Step = "border" if self._better_border else "base"
        verdict = judge_candidate(compared, (base_phantoms, phantoms), coefficient, fit.passes, previous=previous_step)
        how = f"{fit.passes} passes, {coefficient:g} of the fine-tuned weights"
        spec = self._spec(self.options.name, verdict, how, chosen[best], guarded=True)
        folder = save(
            self.out / self.options.name, spec, candidate.network, base=self.base.network, presence=candidate.presence
        )
        outcome = FineTuneOutcome(self.out, folder, verdict, cancelled=False, border=self.border)
        write_verdict(outcome)
        self._write_result(outcome, _numbers(chosen[best]), coefficient)
        plot_curve(self.out / "curve.png", self.rows)
        (self.out / CHECKPOINT).unlink(missing_ok=True)
        return outcome

    @property
    def _better_border(self) -> Border | None:
        """The matched border, if it is better than that of the base."""
        return Border(*self.border.border) if self.border is not None and self.border.verdict.better else None

    def _write_result(self, outcome: FineTuneOutcome, border: tuple[float, float, float], coefficient: float) -> None:
        verdict = outcome.verdict
        assert verdict is not None
        result = {"better": verdict.better, "sentence": verdict.sentence, "passes": verdict.passes, "mix": coefficient}
        names = {} if self.border is None else {"border model": self.border.model.name}
        self._write_log_json({**result, **names, "border": border})

    # The parts of a fit

    def _training_loop(self, fit: Fit, batch_size: int) -> "TrainingLoop":
        from napari_skinseg.training.loop import TrainingLoop

        def report(step: int, loss: float) -> None:
            total = sum(other.passes * self._steps_per_pass(other, self.batch_size) for other in self.fits)
            with self.report_lock:  # count and report together, so that the progress never goes back
                self.steps[fit.name] = step
                self._report(Event("train", sum(self.steps.values()), total, values={"loss": loss}))
            self._wait_for_user(fit)

        network = copy.deepcopy(self.base.network)
        freeze_early_stages(network)
        return TrainingLoop(
            network,
            self.choice,
            (self.base.spec.mean, self.base.spec.std),
            steps_per_pass=self._steps_per_pass(fit, batch_size),
            passes=fit.passes,
            learning_rate=self.options.learning_rate,
            weight_decay=WEIGHT_DECAY,
            ema=EMA,
            clicks=CLICKS,
            seed=self.options.seed,
            on_step=report,
            frozen_statistics=True,
        )

    def _steps_per_pass(self, fit: Fit, batch_size: int) -> int:
        return -(-len(self._samples_of(fit)) // min(batch_size, len(fit.train)))

    def _samples_of(self, fit: Fit) -> list[dict[str, Any]]:
        photos = [self.samples[case] for case in fit.train]
        return photos + self.replay[: round(REPLAY * len(photos))]

    def _loader(self, fit: Fit, number: int, batch_size: int) -> Any:
        import torch
        from monai.data import DataLoader, Dataset

        from napari_skinseg.training.augment import training_transform

        # The seed depends on fit and pass, so that a resumed run shows the same photos as an uninterrupted one.
        seed = (self.options.seed * 1009 + self.fits.index(fit)) * 100_003 + number
        transform = training_transform(self.base.spec.input_size, ARTEFACT_PROBABILITY, mild=MILD_VIEWS)
        return DataLoader(
            Dataset(self._samples_of(fit), transform),
            batch_size=min(batch_size, len(fit.train)),
            shuffle=True,
            generator=torch.Generator().manual_seed(seed),
        )

    def _mixed_model(self, fit: Fit, coefficient: float) -> Model:
        network = mix_weights(self.base.network, fit.weights, coefficient)
        # The encoder changes little, so the presence head of the base still fits.
        return Model(replace(self.base.spec, name=self.options.name), network, "", presence=self.base.presence)

    def _use_less_memory(self, batch_size: int, device: str) -> None:
        """Use smaller batches or the CPU after memory ran out; only once if several fits failed alike."""
        with self.state_lock:
            if self.batch_size < batch_size or self.choice.device != device:
                return
            if batch_size > 1:
                self.batch_size = batch_size // 2
                sentence = f"Memory ran out; continuing with {self.batch_size} photos at a time."
            elif device != "cpu":
                self.choice = choose_device("cpu", fast_cpu=True)
                sentence = "The GPU has too little memory for one photo; continuing with the CPU, which is slower."
            else:
                raise BadInput("One photo does not fit into this computer's memory; close other programs.")
        self.on_event(Event("message", message=sentence))

    # What a run writes

    def _spec(self, name: str, verdict: Verdict, how: str, border: Border, *, guarded: bool) -> ModelSpec:
        base, count = self.segmenter.spec, len(self.evidence.cases)
        figures = {
            "held-out Dice, base": verdict.base.dice,
            "held-out Dice": verdict.candidate.dice,
            "gain in Dice": verdict.difference,
            "gain in Dice, at least": verdict.low,
            "gain in Dice, at most": verdict.high,
        }
        matched = f"border matched to {count} photos of {self.evidence.cases[0].source}"
        return replace(
            base,
            name=name,
            version="0.1.0",
            description=f"{base.name} fine-tuned on {count} photos" if guarded else f"{base.name}, {matched}",
            training_data=f"{base.training_data}; fine-tuned on {count} photos of {self.evidence.cases[0].source}"
            if guarded
            else f"{base.training_data}; {matched}",
            border=base.border if border == self.own_border else _numbers(border),
            guarded=guarded,
            metrics={label: value for label, value in figures.items() if value is not None},
            provenance={
                "base": self.stored.name if self.stored.origin != "folder" else str(self.stored.folder),
                "base sha256": self.segmenter.sha256,
                "cases": f"{len(self.evidence.corrected)} corrected, {len(self.evidence.accepted)} accepted",
                "photos": ", ".join(digest[:16] for digest in self.photo_hashes),
                "options": str(asdict(self.options)),
                "chosen": how,
                "device": self._device_line,
                "date": datetime.now().isoformat(timespec="seconds"),
                "versions": library_versions(),
            },
        )

    @property
    def _device_line(self) -> str:
        return self.segmenter.device_line if self.options.border_only else self.choice.reason

    def _write_checkpoint(self) -> None:
        with self.state_lock:
            state = {
                "identity": self.identity,
                "fits": [fit.state() for fit in self.fits],
                "rows": self.rows,
                "batch_size": self.batch_size,
            }
            write_checkpoint(self.out, state)

    def _write_log_json(self, result: dict[str, Any]) -> None:
        document = {
            "base": self.stored.name,
            "base sha256": self.segmenter.sha256,
            "options": asdict(self.options),
            "evidence": self.evidence.describe(self.options),
            "photos": {case.id: digest for case, digest in zip(self.evidence.cases, self.photo_hashes, strict=True)},
            "left out": {str(photo): why for photo, why in self.evidence.left_out},
            "device": self._device_line,
            **result,
        }
        write_json(self.out / LOG, document)


def _numbers(border: Border) -> tuple[float, float, float]:
    assert border.threshold is not None
    return border.threshold, border.offset, border.smoothing


def _photos(evidence: Evidence) -> set[Path]:
    return {case.image.absolute() for case in evidence.cases}
