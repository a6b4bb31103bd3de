"""`napari-skinseg train`: train a new model."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_skinseg.datasets.checks import check_cases
from napari_skinseg.datasets.splits import divide, write_splits
from napari_skinseg.files import make_output_folder
from napari_skinseg.training.options import TrainOptions
from napari_skinseg.training.train import train as run_training

from .cases import cases_in
from .exit_codes import DONE, INTERRUPTED
from .options import Output, remove_prefix
from .terminal import interruptible, print_json, progress, say

remove_prefix(TrainOptions)


def train(
    folders: list[Path],
    /,
    *,
    out: Path,
    splits: Path | None = None,
    validation: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    options: TrainOptions = TrainOptions(),
    output: Output = Output(),
) -> int:
    """Train a new model on photos with masks. The same command continues a run that was stopped.

    Args:
        folders: Folders of photos with masks to train on.
        out: Folder of the run; the new model is written into it.
        splits: CSV file with the split of each photo: train, val or another. When neither this nor --validation is
            given, a tenth of the lesions becomes val and a tenth test, and the file is written to the run folder.
        validation: Folders of photos with masks for choosing the best pass: all photos, or with --splits those of the
            split val.
    """
    options.validate()
    if os.environ.get("RANK", "0") != "0":  # of the processes of torchrun, only the first prints
        output = Output(quiet=True)
    if splits is None and not validation:
        splits = _default_splits(folders, make_output_folder(out), output)
    with interruptible() as cancel, progress(output.quiet, keep_messages=True) as on_event:
        cases, judges = (
            check_cases(cases_in(*where), on_event=on_event, cancel=cancel)
            for where in ((folders, splits, "train"), (validation or folders, splits, "val"))
        )
        say(f"Training: {cases.as_text()}\nValidation: {judges.as_text()}", quiet=output.quiet)
        outcome = run_training(cases.usable, judges.usable, options, out, on_event, cancel)
    if output.json:
        print_json(asdict(outcome))
    elif outcome.model and not output.quiet:
        print(f"{outcome.model}: validation Dice {outcome.best_dice:.4f} after {outcome.passes} passes.")
        print(f"To use it: napari-skinseg models add {outcome.model}")
    return INTERRUPTED if outcome.cancelled else DONE


def _default_splits(folders: Sequence[Path], out: Path, output: Output) -> Path:
    """Return the split file of a run without --splits; it is written once, so that a continued run uses the same."""
    path = out / "splits.csv"
    if not path.exists():
        write_splits(path, divide(cases_in(folders), on_event=lambda event: say(event.message, quiet=output.quiet)))
    return path
