"""Average the weights of models that were trained from one another, as `lesion-unet` 0.7.0 was made.

    python scripts/average_models.py OUT MODEL MODEL... --data FOLDER FOLDER... --splits splits.csv

The mean of several trainings from one start is often better than each of them (Wortsman et al. 2022, "Model soups").
The running statistics of batch normalisation do not fit averaged weights, so they are computed again, from training
views of the photos. Then the mean gets a presence head and a calibration of its own.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from cyclopts import App, Parameter
from torch.nn.modules.batchnorm import _BatchNorm

from napari_skinseg.cli.cases import cases_in
from napari_skinseg.cli.terminal import progress
from napari_skinseg.datasets.dataset import Case
from napari_skinseg.events import OnEvent
from napari_skinseg.models.bundle import save
from napari_skinseg.models.network import CLICK_CHANNELS
from napari_skinseg.models.onnx_export import write_onnx
from napari_skinseg.models.store import load_model
from napari_skinseg.training.augment import Read, training_transform
from napari_skinseg.training.calibrate import calibrate
from napari_skinseg.training.presence import add_presence_head

BATCHES, BATCH_SIZE = 48, 16

app = App(help="Average the weights of models that were trained from one another.")


@app.default
def main(
    out: Path,
    models: list[str],
    /,
    *,
    data: Annotated[list[Path], Parameter(consume_multiple=True)],
    splits: Path,
    seed: int = 0,
) -> None:
    """Write the mean of `models` to the folder `out`.

    Args:
        out: Folder of the new model.
        models: Names or folders of models with the same network.
        data: Folders of photos with masks.
        splits: CSV file with the split of each photo: those of train give the statistics and the presence head, those
            of val the threshold and the calibration.
        seed: Seed of the views and of the presence head.
    """
    with progress(quiet=False, keep_messages=True) as on_event:
        average(out, models, cases_in(data, splits, "train"), cases_in(data, splits, "val"), on_event, seed)


def average(
    out: Path,
    models: Sequence[str | Path],
    cases: Sequence[Case],
    validation: Sequence[Case],
    on_event: OnEvent,
    seed: int = 0,
) -> None:
    """Write the mean of `models`, with statistics, presence head and calibration of its own, to the folder `out`."""
    loaded = [load_model(model) for model in models]
    spec, network = loaded[0].spec, loaded[0].network.float()
    states = [model.network.state_dict() for model in loaded]
    network.load_state_dict(
        {
            name: torch.stack([state[name].float() for state in states]).mean(dim=0)
            if value.is_floating_point()
            else value
            for name, value in states[0].items()
        }
    )
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            layer.reset_running_stats()
            layer.momentum = None  # the mean over all batches
    random = np.random.default_rng(seed)
    read, change = Read(spec.input_size), training_transform(spec.input_size, artefacts=0.5, plain=0.06)
    change.set_random_state(seed)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.mean, spec.std))
    network.train()
    with torch.no_grad():
        for _ in range(BATCHES):
            views = [change(read(cases[number]))["image"] for number in random.choice(len(cases), BATCH_SIZE)]
            photos = (torch.stack(views).float() / 255 - mean) / std
            network(torch.cat([photos, torch.zeros(BATCH_SIZE, CLICK_CHANNELS, *spec.input_size)], dim=1))
    save(out, replace(spec, presence=False, no_lesion=0.0), network.eval())
    add_presence_head(out, cases, on_event=on_event, seed=seed)
    calibrate(out, validation, on_event=on_event)
    print(write_onnx(out) or f"{out}: the mean of {', '.join(str(model) for model in models)}.")


if __name__ == "__main__":
    app()
