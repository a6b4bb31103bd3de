"""Gain, cost and forgetting of fine-tuning on a few corrected photos: prints one Markdown table.

    python benchmarks/finetune.py --base runs/ham-base/ham-base [--data ../shared/data] [--out runs/finetune-bench]

The base must not be trained on the photos of the simulated clinics. This command trains one in ten minutes:

    napari-skinseg train ../shared/data/ham10000 --splits ../shared/data/splits.csv --name ham-base --passes 3 \\
        --input-height 96 --input-width 128 --small-first 0 --clicks 0.25 --workers 1 --device cpu --out runs/ham-base

Clinic 1 outlines as `isic2018` does: its cases are of isic2018 train. The models are tested on isic2018 test and, for
forgetting, on ham10000 test. Clinic 2 has masks that are wider by 4 % of the lesion's diameter: its cases are of
ham10000 val, and the models are tested on the rest of val with masks widened in the same way. The peer is plain fine-
tuning: the same learning rate, photos and passes, the augmentation of training, all weights, no averaging and no
mixing with the base.

Seconds are CPU seconds, the sum of all cores, so that other programs do not change them. Finished cells are kept in the
output folder, so that a stopped run continues.
"""

import copy
import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import App, Parameter

from napari_skinseg.datasets.dataset import Case, apply_splits, find_cases
from napari_skinseg.finetuning.evidence import Evidence
from napari_skinseg.finetuning.finetune import fine_tune
from napari_skinseg.finetuning.options import FineTuneOptions
from napari_skinseg.pixels.cleaning import grow
from napari_skinseg.pixels.mask import read_mask, write_mask
from napari_skinseg.pixels.metrics import bootstrap_interval, dice
from segment import machine

app = App(help="Gain, cost and forgetting of fine-tuning on a few photos, compared with plain fine-tuning.")

WIDER = 0.04
"""Clinic 2: each mask is grown on every side by this share of the lesion's diameter."""


@app.default
def main(
    *,
    base: Path,
    data: Path = Path("../shared/data"),
    out: Path = Path("runs/finetune-bench"),
    shots: Annotated[list[int] | None, Parameter(consume_multiple=True)] = None,
    most: int = 0,
) -> None:
    """Print the table; `most` limits the number of test photos, to check the script."""
    out.mkdir(parents=True, exist_ok=True)
    limit = most or None
    isic = _shuffled(_cases(data, "isic2018", "train"))
    judges = {
        "isic2018 test": _cases(data, "isic2018", "test")[:limit],
        "ham10000 test": _cases(data, "ham10000", "test")[:limit],
    }
    val = _shuffled(_cases(data, "ham10000", "val"))
    wide = [_wider(case, out / "wide") for case in val[: None if limit is None else 20 + limit]]
    cells: list[dict[str, Any]] = []
    for count in shots or [3, 5, 10, 20, 50]:
        for method in ("ours", "plain"):
            cells.append(_cell(out, f"isic2018, {count} cases", method, base, isic[:count], judges))
    for method in ("ours", "plain"):
        cells.append(_cell(out, "masks 4 % wider, 20 cases", method, base, wide[:20], {"rest of val": wide[20:]}))
    print(f"{machine()}\n")
    print("| clinic | method | test photos | base | after | gain (95 % interval) | adopt? | CPU s | peak MB |")
    print("|---|---|---|--:|--:|--:|---|--:|--:|")
    for cell in cells:
        for number, (name, judged) in enumerate(cell["judged"].items()):
            interval = f"{judged['gain']:+.3f} ({judged['low']:+.3f} to {judged['high']:+.3f})"
            figures = f"| {judged['base']:.3f} | {judged['after']:.3f} | {interval} "
            rest = f"| {cell['verdict']} | {cell['seconds']:.0f} | {cell['peak_mb']:.0f} |" if not number else "| | | |"
            print(f"| {cell['clinic']} | {cell['method']} | {name} ({judged['photos']}) {figures}{rest}")


@app.command(show=False)
def child(job: Path) -> None:
    """Run one cell in a separate process, to measure its memory."""
    from napari_skinseg.models.bundle import load
    from napari_skinseg.segmentation.segmenter import Segmenter

    task = json.loads(job.read_text())
    cases = tuple(
        Case(row["id"], Path(row["image"]), Path(row["mask"]), row["group"], row["source"]) for row in task["cases"]
    )
    start = time.process_time()
    if task["method"] == "ours":
        outcome = fine_tune(task["base"], Evidence(cases), FineTuneOptions(), task["run"])
        assert outcome.candidate is not None
        assert outcome.verdict is not None
        verdict, model = ("yes" if outcome.verdict.better else "no"), load(outcome.candidate)
        verdict += f" ({outcome.verdict.passes} passes, mix {outcome.verdict.mixing_coefficient:g})"
    else:
        verdict, model = "–", _plain(Path(task["base"]), cases)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    segmenters = Segmenter(task["base"]), Segmenter(model)
    judged = {}
    for name, rows in task["judges"].items():
        scores = np.array([[_dice(segmenter, row) for segmenter in segmenters] for row in rows])
        gains = scores[:, 1] - scores[:, 0]
        low, high = bootstrap_interval(gains)
        judged[name] = {
            "photos": len(rows),
            "base": scores[:, 0].mean(),
            "after": scores[:, 1].mean(),
            "gain": gains.mean(),
            "low": low,
            "high": high,
        }
    result = {"seconds": seconds, "peak_mb": peak, "verdict": verdict, "judged": judged}
    job.with_suffix(".done.json").write_text(json.dumps(result))


def _cell(
    out: Path, clinic: str, method: str, base: Path, cases: Sequence[Case], judges: dict[str, list[Case]]
) -> dict[str, Any]:
    import subprocess

    job = out / f"{clinic.replace(' ', '-').replace(',', '').replace('%', 'percent')}-{method}.json"
    done = job.with_suffix(".done.json")
    if not done.exists():
        print(f"{clinic}, {method} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as run:
            task = {"base": str(base), "method": method, "run": run, "cases": _plain_rows(cases)}
            job.write_text(json.dumps({**task, "judges": {name: _plain_rows(rows) for name, rows in judges.items()}}))
            subprocess.run([sys.executable, __file__, "child", str(job)], check=True)
    return {"clinic": clinic, "method": method, **json.loads(done.read_text())}


def _plain_rows(cases: Sequence[Case]) -> list[dict[str, str]]:
    return [
        {"id": case.id, "image": str(case.image), "mask": str(case.mask), "group": case.group, "source": case.source}
        for case in cases
    ]


def _dice(segmenter: Any, row: dict[str, str]) -> float:
    from napari_skinseg.finetuning.judging import OUTLINED
    from napari_skinseg.pixels.image import read_image

    image = read_image(row["image"])
    return dice(segmenter.segment(image, OUTLINED).mask, read_mask(row["mask"], image.shape))


def _plain(base: Path, cases: Sequence[Case]) -> Any:
    """Plain fine-tuning."""
    import torch
    from monai.data import DataLoader, Dataset

    from napari_skinseg.device import choose_device
    from napari_skinseg.events import NeverCancelled
    from napari_skinseg.finetuning.run import ARTEFACTS, WEIGHT_DECAY
    from napari_skinseg.models.bundle import load
    from napari_skinseg.training.augment import Read, training_transform
    from napari_skinseg.training.loop import TrainingLoop

    model, options = load(base), FineTuneOptions()
    read = Read(model.spec.input_size)
    samples = [read(case) for case in cases]
    passes = options.passes_for(len(cases))

    def loader(number: int) -> Any:
        return DataLoader(
            Dataset(samples, training_transform(model.spec.input_size, ARTEFACTS)),
            batch_size=min(options.batch_size, len(samples)),
            shuffle=True,
            generator=torch.Generator().manual_seed(number),
        )

    loop = TrainingLoop(
        copy.deepcopy(model.network),
        choose_device(),
        (model.spec.mean, model.spec.std),
        steps_per_pass=len(loader(0)),
        passes=passes,
        learning_rate=options.learning_rate,
        weight_decay=WEIGHT_DECAY,
        ema=0.001,
        clicks=0.0,
        seed=0,
        on_step=lambda step, loss: None,
    )
    for number in range(passes):
        loop.run_pass(number, loader(number), NeverCancelled())
    loop.close()
    return replace(model, network=loop.network.eval())


def _cases(data: Path, dataset: str, split: str) -> list[Case]:
    return apply_splits(find_cases(data / dataset), data / "splits.csv", split)


def _shuffled(cases: list[Case]) -> list[Case]:
    return [cases[number] for number in np.random.default_rng(0).permutation(len(cases))]


def _wider(case: Case, folder: Path) -> Case:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{case.id}_segmentation.png"
    if not path.exists():
        assert case.mask is not None
        mask = read_mask(case.mask)
        diameter = 2 * np.sqrt(mask.sum() / np.pi)
        write_mask(path, grow(mask, max(1.0, WIDER * diameter)) if mask.any() else mask)
    return replace(case, mask=path)


if __name__ == "__main__":
    app()
