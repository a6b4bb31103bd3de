"""Which network, which input size and which ingredients of training are worth it, under one small budget: a table.

    python benchmarks/networks.py networks [--photos 1500] [--passes 4] [--height 96] [--width 128]
    python benchmarks/networks.py sizes [the same, without height and width]
    python benchmarks/networks.py ingredients [the same as networks]

Every run is `train` with the same photos, passes and seed; either the network is another, or the size of its input, or
one ingredient is left out of the recipe of the bundled model. Networks are compared by their cost at 192x256 too. A run
is kept in its own folder below `--out`: a second call goes on where the first was stopped, and never trains what is
done.
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

from common import DATA, JUDGE, TRAIN, dices, difference, figures, jaccards, latency, parameters, photos, print_table
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
from segment import load_now, machine

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
"""Every seventh of the photos to judge by chooses pass and threshold: to look at all of them after every pass took half
as long as the training."""
HEIGHTS = (96, 192)
FIRST = "FlexibleUNet from ImageNet"

app = App(help="Networks, input sizes, or ingredients of training, under one small budget.")


@dataclass(frozen=True)
class Result:
    """A finished run: its bundle, Jaccard per photo of validation, seconds of its passes with their validation."""

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
    """Train what is missing and print the table.

    Args:
        what: Another network at a time, another size of the input, or one ingredient of the recipe left out.
        data: Folder with the datasets and splits.csv.
        out: Folder of the runs.
        photos_: Photos to learn from, of the split train.
        validation: Photos to judge by, of the split val; 0 takes all.
        passes: How often each photo is seen.
        height: Height of the network's input in training.
        width: Width of the network's input in training.
        phantoms: Generated lesions that ingredients are judged by, each without and with every artefact.
        seed: Of the choice of photos and of training.
    """
    busy = load_now()
    cases, judges = photos(data, TRAIN, "train", photos_, seed), photos(data, JUDGE, "val", validation, seed)
    # `small_first` would shrink an input this small to 64 pixels for most of the passes.
    full = TrainOptions(
        name="model", passes=passes, input_height=height, input_width=width, small_first=0.0, seed=seed, **RECIPE
    )
    print(
        f"{machine()}{busy}\n{len(cases)} photos to learn from, {len(judges)} to judge by, {passes} passes, "
        f"seed {seed}. Intervals: 95 %, over photos.\n"
    )
    run = partial(_run, cases=cases, judges=judges, out=out)
    if what == "networks":
        _print_networks({FIRST: run(full)} | {name: run(replace(full, network=name, start=None)) for name in NETWORKS})
    elif what == "sizes":
        sizes = [(height, round(height * BUNDLE_SIZE[1] / BUNDLE_SIZE[0] / 32) * 32) for height in HEIGHTS]
        _print_sizes({size: run(replace(full, input_height=size[0], input_width=size[1])) for size in sizes})
    else:
        _print_ingredients({name: run(replace(full, **changes)) for name, changes in INGREDIENTS.items()}, phantoms)


def _run(options: TrainOptions, cases: list[Case], judges: list[Case], out: Path) -> Result:
    """Train, or go on with, one run; what is done is read."""
    told = {"options": asdict(options), "photos": len(cases), "judges": len(judges)}
    # The name of the folder says which run it is, so that two tables share those they have in common.
    folder = out / hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
    done = folder / "result.json"
    if not done.exists():
        with progress(quiet=False, keep_messages=True) as on_event:
            outcome = train(cases, judges[::CHOOSING], options, folder, on_event)
        with (folder / "log.csv").open() as log:
            seconds = sum(float(row["seconds"]) for row in csv.DictReader(log))
        segmenter = Segmenter(outcome.model)
        values = jaccards(lambda image: segmenter.segment(image).mask, judges)
        write_json(done, {**told, "jaccards": values, "seconds": seconds})
    kept = json.loads(done.read_text())
    return Result(folder / options.name, kept["jaccards"], kept["seconds"])


def _print_networks(results: dict[str, Result]) -> None:
    networks = {name: load(result.model).network for name, result in results.items()}
    # All one after the other, at the end: while one trains, the others could not be measured alike.
    milliseconds = {name: latency(network, BUNDLE_SIZE) for name, network in networks.items()}
    first = next(iter(results))
    head = ["network", "parameters", "float16", "one photo, 2 CPU threads", "to train", "val Dice"]
    head += [f"latency against {first}", f"Dice minus {first}, photo by photo"]
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
                figures(result.jaccards)[0],
                f"{milliseconds[name] / milliseconds[first]:.2f}x",
                difference(result.jaccards, results[first].jaccards),
            ]
        )
    print_table(head, rows)


def _print_sizes(results: dict[tuple[int, int], Result]) -> None:
    milliseconds = {size: latency(load(result.model).network, size) for size, result in results.items()}
    largest = max(results)
    rows = [
        [
            f"{size[1]}x{size[0]}",
            f"{milliseconds[size]:.1f} ms",
            f"{result.seconds:,.0f} s",
            figures(result.jaccards)[0],
            difference(result.jaccards, results[largest].jaccards),
        ]
        for size, result in results.items()
    ]
    head = ["input", "one photo, 2 CPU threads", "to train", "val Dice"]
    print_table([*head, f"Dice minus {largest[1]}x{largest[0]}, photo by photo"], rows)


def _print_ingredients(results: dict[str, Result], count: int) -> None:
    shape = (225, 300)
    plain = [phantom(seed, shape) for seed in range(count)]
    spoilt = {name: [phantom(seed, shape, (name,)) for seed in range(count)] for name in ARTEFACTS}
    bare = [phantom(seed, shape, lesion=False) for seed in range(count)]
    first = next(iter(results))
    rows = []
    for name, result in results.items():
        segmenter = Segmenter(result.model)
        without = _dices(segmenter, plain)
        losses = [_dices(segmenter, items).mean() - without.mean() for items in spoilt.values()]
        invented = np.mean([segmenter.segment(item.image).mask.any() for item in bare])
        rows.append(
            [
                name,
                f"{dices(result.jaccards).mean():.4f}",
                difference(result.jaccards, results[first].jaccards),
                f"{without.mean():.4f}",
                *(f"{loss:+.4f}" for loss in losses),
                f"{100 * invented:.0f} %",
            ]
        )
    head = ["recipe", "val Dice", "minus full", f"{count} phantoms", *(f"with {name}" for name in ARTEFACTS)]
    print_table([*head, "bare skin outlined"], rows)


def _dices(segmenter: Segmenter, items: list[Phantom]) -> np.ndarray:
    return np.array([dice(segmenter.segment(item.image).mask, item.mask) for item in items])


if __name__ == "__main__":
    app()
