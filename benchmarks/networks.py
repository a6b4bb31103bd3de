"""Which network and which ingredients of training are worth it, under one small budget: prints one Markdown table.

    python benchmarks/networks.py [--photos 2000] [--passes 8] [--height 96] [--width 128]
    python benchmarks/networks.py --ingredients [the same]

Every run is `train` with the same photos, passes and seed; either the network is another, or one ingredient is left out
of the full recipe. Cost is measured at the size that the bundled model has, 192x256. A run is kept in its own folder
below `--out`: a second call goes on where the first was stopped, and never trains what is done.
"""

import csv
import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from cyclopts import App

from common import DATA, JUDGE, TRAIN, dices, difference, figures, jaccards, latency, parameters, photos, print_table
from napari_skinseg import Segmenter
from napari_skinseg.cases.dataset import Case
from napari_skinseg.files import write_json
from napari_skinseg.models.bundle import load
from napari_skinseg.models.network import NETWORKS
from napari_skinseg.pixels.metrics import dice
from napari_skinseg.pixels.phantom import Phantom, phantom
from napari_skinseg.terminal import progress
from napari_skinseg.train import TrainOptions, train
from segment import load_now, machine

BUNDLE_SIZE = (192, 256)
ARTEFACTS = ("dark_field", "sticker", "ruler")
INGREDIENTS = {
    "full recipe": {},
    "without artefacts": {"artefacts": 0.0},
    "without clicks": {"clicks": 0.0},
    "without plain skin": {"plain": 0.0},
}

app = App(help="Networks, or ingredients of training, under one small budget.")


@dataclass(frozen=True)
class Result:
    """A finished run: its bundle, Jaccard per photo of validation, seconds of its passes with their validation."""

    model: Path
    jaccards: list[float]
    seconds: float


@app.default
def main(
    *,
    ingredients: bool = False,
    data: Path = DATA,
    out: Path = Path("runs/networks"),
    photos_: int = 2000,
    validation: int = 0,
    passes: int = 8,
    height: int = 96,
    width: int = 128,
    phantoms: int = 100,
    seed: int = 0,
) -> None:
    """Train what is missing and print the table.

    Args:
        ingredients: Leave out one ingredient of the recipe at a time, instead of comparing networks.
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
    base = TrainOptions(name="model", passes=passes, input_height=height, input_width=width, small_first=0.0, seed=seed)
    print(
        f"{machine()}{busy}\n{len(cases)} photos to learn from, {len(judges)} to judge by, {passes} passes at "
        f"{width}x{height}, seed {seed}. Intervals: 95 %, over photos.\n"
    )
    run = partial(_run, cases=cases, judges=judges, out=out)
    if ingredients:
        # The full recipe is the UNet of the other table, so it is trained once for both.
        runs = {
            name: run(name if changes else "UNet", replace(base, **changes)) for name, changes in INGREDIENTS.items()
        }
        _print_ingredients(runs, phantoms)
    else:
        _print_networks({name: run(name, replace(base, network=name)) for name in NETWORKS})


def _run(name: str, options: TrainOptions, cases: list[Case], judges: list[Case], out: Path) -> Result:
    """Train, or go on with, one run; what is done is read."""
    budget = f"{len(cases)}-photos-{len(judges)}-{options.passes}-passes-{options.input_width}x{options.input_height}"
    folder = out / f"{budget}-{options.seed}" / name.replace(" ", "-")
    done = folder / "result.json"
    if not done.exists():
        with progress(quiet=False, keep_messages=True) as on_event:
            outcome = train(cases, judges, options, folder, on_event)
        with (folder / "log.csv").open() as log:
            seconds = sum(float(row["seconds"]) for row in csv.DictReader(log))
        segmenter = Segmenter(outcome.model)
        values = jaccards(lambda image: segmenter.segment(image).mask, judges)
        write_json(done, {"options": asdict(options), "jaccards": values, "seconds": seconds})
    kept = json.loads(done.read_text())
    if kept["options"] != asdict(options):
        raise SystemExit(f"{folder} was trained with other options; choose another --out.")
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
