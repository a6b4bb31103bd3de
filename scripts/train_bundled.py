"""Train `lesion-unet` again, from the weights of ImageNet, as version 0.7.0 was made.

    python scripts/train_bundled.py ../shared/data --out runs/bundled

Three trainings follow one another: from ImageNet, then with whole frames, then a long one with large batches. The model
is the mean of the last two. The same command continues after a stop. The versions were made with small differences,
which are in docs/development/model-history.md.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from average_models import average
from cyclopts import App

from napari_skinseg.cli.terminal import progress
from napari_skinseg.datasets.dataset import Case, apply_splits, find_cases
from napari_skinseg.training.options import IMAGENET, TrainOptions
from napari_skinseg.training.train import train

COMMON = TrainOptions(
    name="lesion-unet",
    network="FlexibleUNet",
    balance=0.3,
    licence="CC-BY-NC-4.0",
    training_data="HAM10000 (CC BY-NC 4.0) and ISIC 2018 Task 1 (CC0), train split",
)
WHOLE_FRAMES = replace(COMMON, small_first=0.0, small=0.7, plain=0.06)
CROPS = ("ham10000", "ham10000_crop256", "isic2018", "isic2018")
ALL = ("ham10000", "ham10000_crop256", "isic2018", "isic_whole", "isic_whole")
TRAININGS = {
    "imagenet": (
        CROPS,
        replace(COMMON, start=IMAGENET, passes=8, small_first=0.23, learning_rate=7e-4, plain=0.08, clicks=0.35),
    ),
    "whole-frames": (
        ALL,
        replace(WHOLE_FRAMES, passes=2, learning_rate=3e-4, clicks=0.15, loss="dice_ce_boundary"),
    ),
    "long": (
        ALL,
        replace(WHOLE_FRAMES, passes=3, batch_size=64, learning_rate=8e-4, clicks=0.2, ema=0.998, seed=11),
    ),
}
"""For each training its folders and options. It starts from the model of the training before."""

app = App(help="Train the bundled model again.")


@app.default
def main(data: Path, *, out: Path = Path("runs/bundled"), most: int = 0) -> None:
    """Train and average.

    Args:
        data: Folder with the data sets and splits.csv.
        out: Folder of the trainings and of the new model.
        most: Largest number of photos of each folder, to check the script; 0 takes all.
    """
    models: list[Path] = []
    validation = _cases(data, dict.fromkeys(ALL), "val", most)
    with progress(quiet=False, keep_messages=True) as on_event:
        for name, (folders, options) in TRAININGS.items():
            folder, finished = out / name, out / name / "finished"
            if not finished.exists():
                start = str(models[-1]) if models else IMAGENET
                cases = _cases(data, folders, "train", most)
                train(cases, validation, replace(options, start=start), folder, on_event)
                finished.touch()
            models.append(folder / options.name)
        average(out / COMMON.name, models[-2:], _cases(data, dict.fromkeys(ALL), "train", most), validation, on_event)


def _cases(data: Path, folders: Iterable[str], split: str, most: int) -> list[Case]:
    found = [apply_splits(find_cases(data / name), data / "splits.csv", split)[: most or None] for name in folders]
    return [case for cases in found for case in cases]


if __name__ == "__main__":
    app()
