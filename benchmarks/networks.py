"""Compare networks, input sizes and parts of the training recipe under one small budget: prints a Markdown table.

    python benchmarks/networks.py networks [--photos 1500] [--passes 4] [--height 96] [--width 128]
    python benchmarks/networks.py sizes [the same, without height and width]
    python benchmarks/networks.py ingredients [the same as networks]

Every run calls `train` with the same photos, passes and seed. The runs differ in the network, in the size of its input,
or in one part of the recipe of the bundled model. The latency of networks is measured at 192x256. Each run has its own
folder below `--out`: a second call continues a run that was stopped, and reads the result of a run that is finished.
"""

import csv
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from cyclopts import App

from common import DATA, JUDGE, TRAIN, difference, jaccards, latency, means, parameters, photos, print_table
from napari_skinseg import Segmenter
from napari_skinseg.cli.terminal import progress
from napari_skinseg.datasets.dataset import Case
from napari_skinseg.files import write_json
from napari_skinseg.models.bundle import load
from napari_skinseg.models.network import NETWORKS
from napari_skinseg.phantoms.phantom import Phantom, phantom
from napari_skinseg.pixels.metrics import dice
from napari_skinseg.training.options import IMAGENET, TrainOptions
from napari_skinseg.training.train import train
from segment import load_warning, machine

BUNDLE_SIZE = (192, 256)
ARTEFACTS = ("dark_field", "sticker", "ruler")
RECIPE: dict[str, Any] = {
    "network": "FlexibleUNet",
    "start": IMAGENET,
    "learning_rate": 7e-4,
    "balance": 0.3,
    "plain": 0.08,
    "clicks": 0.35,
}
INGREDIENTS: dict[str, dict[str, Any]] = {
    "full recipe": {},
    "without ImageNet": {"start": None},
    "without rare diagnoses more often": {"balance": 0.0},
    "without artefacts": {"artefacts": 0.0},
    "without clicks": {"clicks": 0.0},
    "without plain skin": {"plain": 0.0},
    "with focal loss for cross-entropy": {"loss": "dice_focal"},
    "with a loss for the boundary as well": {"loss": "dice_ce_boundary"},
}
CHOOSING = 7
"""Every seventh validation photo is used to choose pass and threshold. With all photos, validation after each pass
would take half as long as the training."""
HEIGHTS = (96, 192)
FIRST = "FlexibleUNet from ImageNet"
LARGER = "FlexibleUNet with EfficientNet-Lite2 from ImageNet"
CONTINUED = "FlexibleUNet from lesion-unet"
DICE = [*(f"{name} val, Dice" for name in JUDGE), "mean"]

app = App(help="Networks, input sizes, or parts of the training recipe, under one small budget.")


@dataclass(frozen=True)
class Result:
    """A finished run: bundle, Jaccard of each validation photo, seconds of all passes with their validation."""

    model: Path
    jaccards: list[float]
    seconds: float


@app.default
def main(
    what: Literal["networks", "sizes", "ingredients"],
    *,
    data: Path = DATA,
    out: Path = Path("runs/networks"),
    photos_: int = 1500,
    validation: int = 0,
    passes: int = 4,
    height: int = 96,
    width: int = 128,
    phantoms: int = 100,
    seed: int = 0,
) -> None:
    """Train the runs that are missing and print the table.

    Args:
        what: What differs between the runs: the network, the input size, or one part of the recipe.
        data: Folder with the datasets and splits.csv.
        out: Folder of the runs.
        photos_: Number of training photos, of the split train.
        validation: Number of validation photos, of the split val; 0 takes all.
        passes: How often each photo is seen.
        height: Height of the network's input in training.
        width: Width of the network's input in training.
        phantoms: Number of generated lesions for the table of ingredients, each without and with every artefact.
        seed: Seed for the choice of photos and for training.
    """
    busy = load_warning()
    cases, judges = photos(data, TRAIN, "train", photos_, seed), photos(data, JUDGE, "val", validation, seed)
    # `small_first` would reduce such a small input to 64 pixels for most of the passes.
    full = TrainOptions(
        name="model", passes=passes, input_height=height, input_width=width, small_first=0.0, seed=seed, **RECIPE
    )
    print(
        f"{machine()}{busy}\n{len(cases)} training photos, {len(judges)} validation photos, {passes} passes, "
        f"seed {seed}. Intervals: 95 %, over photos.\n"
    )
    run = partial(train_run, cases=cases, judges=judges, out=out)
    if what == "networks":
        starts = {
            FIRST: run(full),
            LARGER: run(replace(full, encoder="efficientnet-lite2")),
            CONTINUED: run(replace(full, start="lesion-unet")),
        }
        _print_networks(starts | {name: run(replace(full, network=name, start=None)) for name in NETWORKS}, judges)
    elif what == "sizes":
        sizes = [(height, round(height * BUNDLE_SIZE[1] / BUNDLE_SIZE[0] / 32) * 32) for height in HEIGHTS]
        _print_sizes({size: run(replace(full, input_height=size[0], input_width=size[1])) for size in sizes}, judges)
    else:
        results = {name: run(replace(full, **changes)) for name, changes in INGREDIENTS.items()}
        _print_ingredients(results, judges, phantoms)


def train_run(
    options: TrainOptions, cases: list[Case], judges: list[Case], out: Path, validation: list[Case] | None = None
) -> Result:
    """Train one run, continue it, or read its result if it is finished.

    `validation` chooses pass and threshold: every seventh of the `judges` if not given.
    """
    chosen = judges[::CHOOSING] if validation is None else validation
    identity = {"options": asdict(options), "photos": _names(cases), "validation": _names(chosen)}
    # The names of folder and file are checksums, so that two tables share equal runs, and two groups of judges one run.
    folder = out / _checksum(identity)
    trained, done = folder / "trained.json", folder / f"judged-{_checksum(_names(judges))}.json"
    if not trained.exists():
        with progress(quiet=False, keep_messages=True) as on_event:
            train(cases, chosen, options, folder, on_event)
        with (folder / "log.csv").open() as log:
            write_json(trained, {**identity, "seconds": sum(float(row["seconds"]) for row in csv.DictReader(log))})
    model = folder / options.name
    if not done.exists():
        segmenter = Segmenter(model)
        write_json(done, {"jaccards": jaccards(lambda image: segmenter.segment(image).mask, judges)})
    values, seconds = json.loads(done.read_text())["jaccards"], json.loads(trained.read_text())["seconds"]
    return Result(model, values, seconds)


def _names(cases: list[Case]) -> list[str]:
    return [f"{case.source}/{case.id}" for case in cases]


def _checksum(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _print_networks(results: dict[str, Result], judges: list[Case]) -> None:
    networks = {name: load(result.model).network for name, result in results.items()}
    # All networks are measured at the end, one after the other, so that the conditions are the same.
    milliseconds = {name: latency(network, BUNDLE_SIZE) for name, network in networks.items()}
    first = next(iter(results))
    head = ["network", "parameters", "float16", "one photo, 2 CPU threads", "training", *DICE]
    head += [f"latency against {first}", f"paired difference of Dice to {first}"]
    rows = []
    for name, result in results.items():
        count = parameters(networks[name])
        rows.append(
            [
                name,
                f"{count / 1e6:.1f} M",
                f"{2 * count / 1e6:.1f} MB",
                f"{milliseconds[name]:.1f} ms",
                f"{result.seconds:,.0f} s",
                *means(result.jaccards, judges),
                f"{milliseconds[name] / milliseconds[first]:.2f}x",
                difference(result.jaccards, results[first].jaccards),
            ]
        )
    print_table(head, rows)


def _print_sizes(results: dict[tuple[int, int], Result], judges: list[Case]) -> None:
    milliseconds = {size: latency(load(result.model).network, size) for size, result in results.items()}
    largest = max(results)
    rows = [
        [
            f"{size[1]}x{size[0]}",
            f"{milliseconds[size]:.1f} ms",
            f"{result.seconds:,.0f} s",
            *means(result.jaccards, judges),
            difference(result.jaccards, results[largest].jaccards),
        ]
        for size, result in results.items()
    ]
    head = ["input", "one photo, 2 CPU threads", "training", *DICE]
    print_table([*head, f"paired difference of Dice to {largest[1]}x{largest[0]}"], rows)


def _print_ingredients(results: dict[str, Result], judges: list[Case], count: int) -> None:
    shape = (225, 300)
    plain = [phantom(seed, shape) for seed in range(count)]
    with_artefact = {name: [phantom(seed, shape, (name,)) for seed in range(count)] for name in ARTEFACTS}
    skin = [phantom(seed, shape, lesion=False) for seed in range(count)]
    first = next(iter(results))
    rows = []
    for name, result in results.items():
        segmenter = Segmenter(result.model)
        without = _dices(segmenter, plain)
        changes = [_dices(segmenter, items).mean() - without.mean() for items in with_artefact.values()]
        false_lesions = np.mean([segmenter.segment(item.image).mask.any() for item in skin])
        rows.append(
            [
                name,
                *means(result.jaccards, judges),
                difference(result.jaccards, results[first].jaccards),
                f"{without.mean():.4f}",
                *(f"{change:+.4f}" for change in changes),
                f"{100 * false_lesions:.0f} %",
            ]
        )
    head = ["recipe", *DICE, "minus full", f"{count} phantoms", *(f"with {name}" for name in ARTEFACTS)]
    print_table([*head, "false lesions on plain skin"], rows)


def _dices(segmenter: Segmenter, items: list[Phantom]) -> np.ndarray:
    return np.array([dice(segmenter.segment(item.image).mask, item.mask) for item in items])


if __name__ == "__main__":
    app()
