"""How much a model loses on photos of a source that it never saw: prints a Markdown table.

    python benchmarks/generalisation.py [--photos 800] [--passes 3] [--height 96] [--width 128] [--seed 0]

New cameras are what users bring. For each source, HAM10000 and ISIC, two models are trained with the same number of
photos, the same passes and the same seed: one on photos of both sources, and one on photos of the other source alone.
Threshold and calibration also come from the photos that the model may see. Both are judged on the validation photos of
the source. The difference is the figure to choose parts of a recipe by: `--recipe` names the part that changes, as in
`networks.py`. A run that was stopped continues, and a finished one is read.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from cyclopts import App

from common import DATA, difference, figures, photos, print_table
from napari_skinseg.training.options import TrainOptions
from networks import INGREDIENTS, RECIPE, train_run
from segment import load_warning, machine

SOURCES = {"ham10000": ("ham10000",), "isic": ("isic2018", "isic_whole")}

app = App(help="Loss on photos of a source that the model never saw.")


@app.default
def main(
    *,
    data: Path = DATA,
    out: Path = Path("runs/generalisation"),
    recipe: Literal[tuple(INGREDIENTS)] = "full recipe",  # type: ignore[valid-type]
    photos_: int = 800,
    judges: int = 150,
    passes: int = 3,
    height: int = 96,
    width: int = 128,
    seed: int = 0,
) -> None:
    """Train the models that are missing and print the table.

    Args:
        data: Folder with the datasets and splits.csv.
        out: Folder of the runs.
        recipe: The recipe of the bundled model, or the part of it that changes.
        photos_: Number of training photos of each model.
        judges: Number of validation photos of each source.
        passes: How often each photo is seen.
        height: Height of the network's input.
        width: Width of the network's input.
        seed: Seed for the choice of photos and for training.
    """
    busy = load_warning()
    options = replace(
        TrainOptions(name="model", passes=passes, input_height=height, input_width=width, small_first=0.0, seed=seed),
        **{**RECIPE, **INGREDIENTS[recipe]},
    )
    names = [name for folders in SOURCES.values() for name in folders]
    rows = []
    for source, folders in SOURCES.items():
        judged = photos(data, folders, "val", judges, seed)
        results = []
        for seen in (names, [name for name in names if name not in folders]):
            cases, validation = photos(data, seen, "train", photos_, seed), photos(data, seen, "val", 100, seed)
            results.append(train_run(options, cases, judged, out, validation).jaccards)
        with_source, without = results
        for label, values in (("seen", with_source), ("never seen", without)):
            rows.append([f"{source}, {label}", str(len(judged)), *figures(values), difference(values, with_source)])
    print(
        f"{machine()}{busy}\n{recipe}, {photos_} training photos, {passes} passes at {width}x{height}, seed {seed}. "
        "Intervals: 95 %, over photos.\n"
    )
    head = ["photos of", "photos", "Dice", "Jaccard", "thresholded Jaccard", "failures", "minus seen, photo by photo"]
    print_table(head, rows)


if __name__ == "__main__":
    app()
