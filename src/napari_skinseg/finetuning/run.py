"""One fine-tuning run: fits that judge, the choice of a mix, the candidate, checkpoints.

Apart from `finetune` because it imports torch and MONAI, which `finetune` must not do before somebody fine-tunes.
"""

import copy
import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from importlib.metadata import version as package_version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from monai.data import DataLoader, Dataset
from numpy.typing import NDArray
from PIL import Image

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.device import choose_device, out_of_memory
from napari_skinseg.errors import BadInput, Cancelled
from napari_skinseg.events import CancelToken, Event, OnEvent, raise_if_cancelled
from napari_skinseg.files import atomic, make_output_folder, write_json
from napari_skinseg.models.bundle import Model, ModelSpec, load, save
from napari_skinseg.models.store import StoredModel
from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.pixels.image import read_image
from napari_skinseg.pixels.mask import read_mask, write_mask
from napari_skinseg.pixels.metrics import FAILURE_JACCARD, dice, jaccard
from napari_skinseg.segmentation.options import SegmentOptions
from napari_skinseg.segmentation.segmenter import Segmenter
from napari_skinseg.training.augment import Read, training_transform
from napari_skinseg.training.fit import Learner

from .evidence import Evidence
from .fits import MIXES, Fit, Scores, choose, plan
from .options import FineTuneOptions, FineTuneOutcome
from .runs import CHECKPOINT, HELD_OUT_MASKS, discard, draw_curve, write_rows
from .verdict import Compared, judge

EMA = 0.9
"""Over about ten steps: a fit has some sixty, and an average over more of them lags behind what was learned."""
WEIGHT_DECAY = 1e-2
ARTEFACTS = 0.3
CALM = 1.0
"""Share of views that keep to the frame: where a border is drawn is learned better from them, and less is forgotten."""
CLICKS = 0.25
"""Share of clicks in each batch: enough that the model goes on listening to them."""
SECONDS_BETWEEN_CHECKPOINTS = 5.0
OUTLINED = SegmentOptions(always_outline=True)
"""Both models are judged by what they outline: how far each trusts itself is another question."""
VERSIONS = ("napari-skinseg", "torch", "monai")


class FineTuner:
    """The moving parts of one fine-tuning run; see `finetune.fine_tune` for what they are used for."""

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
        self.on_event, self.token = on_event, cancel
        self.choice = choose_device(options.device)
        self.batch_size = options.batch_size
        self.parts = evidence.held_out(options.folds, options.seed)
        self.hashes = [hashlib.sha256(case.image.read_bytes()).hexdigest() for case in evidence.cases]
        self.fits = plan(len(evidence.cases), self.parts, options)
        self.rows: list[dict[str, str | int | float]] = []
        self.samples: list[dict[str, Any]] = []
        self.base_dice: dict[int, float] = {}
        self.base_masks: dict[int, NDArray[np.bool_]] = {}
        self.current: dict[str, Any] | None = None
        self.stored_at = 0.0

    def run(self) -> FineTuneOutcome:
        """All of it."""
        try:
            self._restore()
            self._log_json({})
            self._read()
            self._judge_base()
            for fit in self.fits:
                if not fit.finished:
                    self._fit(fit)
            return self._conclude()
        except Cancelled:
            return FineTuneOutcome(self.out, None, None, cancelled=True)
        except BadInput:
            discard(self.out)
            raise
        finally:
            self.samples = []

    def _read(self) -> None:
        read = Read(self.base.spec.input_size)
        for case in self.evidence.cases:
            raise_if_cancelled(self.token)
            self.samples.append(read(case))
            self.on_event(Event("read", len(self.samples), len(self.evidence.cases)))

    def _judge_base(self) -> None:
        numbers = [number for part in self.parts for number in part]
        segmenter = Segmenter(self.base, self.choice.device)
        for done, number in enumerate(numbers, start=1):
            raise_if_cancelled(self.token)
            image, truth = photo_to_judge(self.evidence.cases[number])
            mask = segmenter.segment(image, OUTLINED).mask
            self.base_dice[number], self.base_masks[number] = dice(mask, truth), mask
            self.on_event(Event("judge", done, len(numbers)))
        segmenter.close()

    def _fit(self, fit: Fit) -> None:
        """Run one fit to its end, with less memory if it must be."""
        while True:
            learner = self._learner(fit)
            try:
                self._passes(fit, learner)
                break
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                self._step_down(len(fit.learn))
                self.current = None
            finally:
                learner.close()
        fit.finished, self.current = True, None
        self._store()

    def _passes(self, fit: Fit, learner: Learner) -> None:
        start = 0
        if self.current is not None:
            learner.restore(self.current["learner"])
            start = self.current["passes"]
        for number in range(start, fit.passes):
            began = time.perf_counter()
            loss = learner.one_pass(number, self._loader(fit, number), self.token)
            raise_if_cancelled(self.token)
            row: dict[str, str | int | float] = {"fit": fit.name, "pass": number + 1, "loss": f"{loss:.5f}"}
            if number + 1 == fit.passes:
                fit.weights = self._weights(learner.averaged)
                row |= self._measure(fit, loss)
            self.rows.append({**row, "seconds": f"{time.perf_counter() - began:.2f}"})
            write_rows(self.out / "log.csv", self.rows)
            self.current = {"passes": number + 1, "learner": learner.state()}
            if time.perf_counter() - self.stored_at > SECONDS_BETWEEN_CHECKPOINTS:
                self._store()

    def _learner(self, fit: Fit) -> Learner:
        steps = len(self._loader(fit, 0))
        before = sum(other.passes * len(self._loader(other, 0)) for other in self.fits[: self.fits.index(fit)])
        total = sum(other.passes * len(self._loader(other, 0)) for other in self.fits)
        return Learner(
            copy.deepcopy(self.base.network),
            self.choice,
            (self.base.spec.mean, self.base.spec.std),
            steps_per_pass=steps,
            passes=fit.passes,
            learning_rate=self.options.learning_rate,
            weight_decay=WEIGHT_DECAY,
            ema=EMA,
            clicks=CLICKS,
            seed=self.options.seed,
            on_step=lambda step, loss: self.on_event(Event("train", before + step, total, values={"loss": loss})),
            frozen_statistics=True,
        )

    def _loader(self, fit: Fit, number: int) -> Any:
        # Seeded by the fit and the pass, so that a resumed run sees what the uninterrupted one would have seen.
        seed = (self.options.seed * 1009 + self.fits.index(fit)) * 100_003 + number
        return DataLoader(
            Dataset(
                [self.samples[case] for case in fit.learn],
                training_transform(self.base.spec.input_size, ARTEFACTS, calm=CALM),
            ),
            batch_size=min(self.batch_size, len(fit.learn)),
            shuffle=True,
            generator=torch.Generator().manual_seed(seed),
        )

    def _measure(self, fit: Fit, loss: float) -> dict[str, str]:
        """Segment the held-out photos with every mix of the fit's weights and the base's, and keep masks and Dice."""
        if not fit.held_out:
            return {}
        for number in fit.held_out:
            fit.scores[number], fit.masks[number] = np.zeros(len(MIXES)), []
        for column, mix in enumerate(MIXES):
            segmenter = Segmenter(self._mixed(fit.weights, mix), self.choice.device)
            for number in fit.held_out:
                raise_if_cancelled(self.token)
                image, truth = photo_to_judge(self.evidence.cases[number])
                mask = segmenter.segment(image, OUTLINED).mask
                fit.scores[number][column] = dice(mask, truth)
                fit.masks[number].append(np.packbits(mask))
            segmenter.close()
        if len(self.parts) > 1:
            fit.weights = {}  # the candidate is another fit
        base = float(np.mean([self.base_dice[number] for number in fit.held_out]))
        reached = float(np.mean([fit.scores[number][-1] for number in fit.held_out]))
        values = {"fold": self.fits.index(fit) + 1, "pass": fit.passes, "loss": loss}
        message = f"{fit.name}, pass {fit.passes}: held-out Dice {reached:.4f}, base {base:.4f}"
        self.on_event(
            Event("validated", fit.passes, fit.passes, message, {**values, "base_dice": base, "dice": reached})
        )
        return {"base_dice": f"{base:.5f}", "dice": f"{reached:.5f}"}

    def _conclude(self) -> FineTuneOutcome:
        judged = self._judged()
        fit = self.fits[-1]
        mix = MIXES[choose(judged)]
        candidate = self._mixed(fit.weights, mix)
        base, new = (self._on_phantoms(model) for model in (self.base, candidate))
        verdict = judge(self._compared(judged), (base, new), mix, fit.passes)
        figures = {
            "held-out Dice, base": verdict.base.dice,
            "held-out Dice": verdict.candidate.dice,
            "gain in Dice": verdict.difference,
            "gain in Dice, at least": verdict.low,
            "gain in Dice, at most": verdict.high,
        }
        spec = self._spec({name: value for name, value in figures.items() if value is not None}, mix)
        folder = save(self.out / self.options.name, spec, candidate.network)
        write_json(self.out / "verdict.json", verdict.to_json())
        self._log_json({"better": verdict.better, "sentence": verdict.sentence, "passes": fit.passes, "mix": mix})
        draw_curve(self.out / "curve.png", self.rows)
        (self.out / CHECKPOINT).unlink(missing_ok=True)
        return FineTuneOutcome(self.out, folder, verdict, cancelled=False)

    def _judged(self) -> dict[int, Scores]:
        return {number: scores for fit in self.fits for number, scores in fit.scores.items()}

    def _compared(self, judged: Mapping[int, Scores]) -> list[Compared]:
        """Every held-out photo, with the mix as chosen on the others: no photo chooses what it is judged by."""
        folder = make_output_folder(self.out / HELD_OUT_MASKS)
        parts = self.parts if len(self.parts) > 1 else [self.parts[0][::2], self.parts[0][1::2]] if self.parts else []
        masks = {number: kept for fit in self.fits for number, kept in fit.masks.items()}
        compared = []
        for part in parts:
            chosen = choose(judged, without=part)
            for number in part:
                case = self.evidence.cases[number]
                assert case.mask is not None
                _, truth = photo_to_judge(self.evidence.cases[number])
                bits = masks[number][chosen]
                found = {
                    "base": self.base_masks[number],
                    "candidate": np.unpackbits(bits, count=truth.size).reshape(truth.shape).astype(bool),
                }
                paths = {who: folder / f"{number:04d}_{who}.png" for who in found}
                for who, mask in found.items():
                    write_mask(paths[who], mask)
                compared.append(
                    Compared(
                        id=case.id,
                        image=case.image,
                        mask=case.mask,
                        status="corrected" if number < len(self.evidence.corrected) else "accepted",
                        base_dice=self.base_dice[number],
                        candidate_dice=float(judged[number][chosen]),
                        base_failed=jaccard(found["base"], truth) < FAILURE_JACCARD,
                        candidate_failed=jaccard(found["candidate"], truth) < FAILURE_JACCARD,
                        base_mask=paths["base"],
                        candidate_mask=paths["candidate"],
                    )
                )
        return compared

    def _on_phantoms(self, model: Model) -> list[float]:
        segmenter = Segmenter(model, self.choice.device)
        try:
            return dice_on_phantoms(segmenter, self.on_event, self.token)
        finally:
            segmenter.close()

    def _weights(self, network: torch.nn.Module) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().float().cpu().clone() for name, tensor in network.state_dict().items()}

    def _mixed(self, weights: Mapping[str, torch.Tensor], mix: float) -> Model:
        network = copy.deepcopy(self.base.network)
        base = network.state_dict()
        network.load_state_dict(
            {
                name: tensor + mix * (weights[name] - tensor) if tensor.is_floating_point() else tensor
                for name, tensor in base.items()
            }
        )
        return Model(replace(self.base.spec, name=self.options.name), network.eval(), "")

    def _step_down(self, photos: int) -> None:
        if min(self.batch_size, photos) > 1:
            self.batch_size = min(self.batch_size, photos) // 2
            sentence = f"Memory ran out; going on with {self.batch_size} photos at a time."
        elif self.choice.device != "cpu":
            self.choice = choose_device("cpu")
            sentence = "The GPU has too little memory for one photo; going on with the CPU, which is slower."
        else:
            raise BadInput("One photo does not fit into this computer's memory; close other programs.")
        self.on_event(Event("message", message=sentence))

    def _spec(self, metrics: dict[str, float], mix: float) -> ModelSpec:
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
                "photos": ", ".join(digest[:16] for digest in self.hashes),
                "options": str(asdict(self.options)),
                "chosen": f"{self.fits[-1].passes} passes, {mix:g} of the fine-tuned weights",
                "device": self.choice.reason,
                "date": datetime.now().isoformat(timespec="seconds"),
                "versions": ", ".join(f"{name} {package_version(name)}" for name in VERSIONS),
            },
        )

    def _identity(self) -> dict[str, Any]:
        options = {key: value for key, value in asdict(self.options).items() if key not in ("name", "device")}
        masks = [hashlib.sha256(case.mask.read_bytes()).hexdigest() for case in self.evidence.cases if case.mask]
        return {**options, "mixes": list(MIXES), "base": self.base.sha256, "photos": self.hashes, "masks": masks}

    def _restore(self) -> None:
        """Take up a killed run; one of other photos or options is told of, and not taken up."""
        path = self.out / CHECKPOINT
        if not path.exists():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if state["identity"] != self._identity():
                raise ValueError("other photos or options")
        except (OSError, EOFError, RuntimeError, UnpicklingError, KeyError, ValueError):
            discard(self.out)
            self.on_event(Event("message", message="The unfinished run was of other photos or options; starting anew."))
            return
        for fit, kept in zip(self.fits, state["fits"], strict=True):
            fit.finished = kept["finished"]
            fit.scores = {number: table.numpy() for number, table in kept["scores"].items()}
            fit.masks = {number: [bits.numpy() for bits in masks] for number, masks in kept["masks"].items()}
            fit.weights = kept["weights"]
        self.rows, self.current, self.batch_size = state["rows"], state["current"], state["batch_size"]
        done = sum(fit.finished for fit in self.fits)
        self.on_event(
            Event("resumed", done, len(self.fits), f"going on with {self.fits[min(done, len(self.fits) - 1)].name}")
        )

    def _store(self) -> None:
        state = {
            "identity": self._identity(),
            "fits": [
                {
                    "finished": fit.finished,
                    "scores": {number: torch.from_numpy(table) for number, table in fit.scores.items()},
                    "masks": {
                        number: [torch.from_numpy(bits) for bits in masks] for number, masks in fit.masks.items()
                    },
                    "weights": fit.weights,
                }
                for fit in self.fits
            ],
            "rows": self.rows,
            "current": self.current,
            "batch_size": self.batch_size,
        }
        with atomic(self.out / CHECKPOINT) as temporary:
            torch.save(state, temporary)
        self.stored_at = time.perf_counter()

    def _log_json(self, outcome: dict[str, Any]) -> None:
        document = {
            "base": self.stored.name,
            "base sha256": self.base.sha256,
            "options": asdict(self.options),
            "evidence": self.evidence.in_words(self.options),
            "photos": {case.id: digest for case, digest in zip(self.evidence.cases, self.hashes, strict=True)},
            "left out": {str(photo): why for photo, why in self.evidence.left_out},
            "device": self.choice.reason,
            **outcome,
        }
        write_json(self.out / "log.json", document)


JUDGED_AT = 1024
"""Larger photos are shrunk to this longer side for judging; the network sees less of them anyway."""
PHANTOMS = 12
FIRST_SEED = 1000


def dice_on_phantoms(segmenter: Segmenter, on_event: OnEvent, cancel: CancelToken) -> list[float]:
    """Dice on each of the same `PHANTOMS` generated photos: what a model must not forget while it learns a style."""
    scores = []
    for number in range(PHANTOMS):
        raise_if_cancelled(cancel)
        made = phantom(FIRST_SEED + number, (300, 400))
        scores.append(dice(segmenter.segment(made.image).mask, made.mask))
        on_event(Event("phantoms", number + 1, PHANTOMS))
    return scores


def photo_to_judge(case: Case) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Photo uint8 `[H, W, 3]` and mask bool `[H, W]`, shrunk to a longer side of `JUDGED_AT` if they are larger."""
    image = read_image(case.image)
    assert case.mask is not None
    truth = read_mask(case.mask, image.shape)
    scale = JUDGED_AT / max(truth.shape)
    if scale >= 1:
        return image, truth
    size = (round(truth.shape[1] * scale), round(truth.shape[0] * scale))
    small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
    part = Image.fromarray(truth.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    return np.asarray(small), np.asarray(part) >= 128
