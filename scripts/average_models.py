"""Average the weights of models that were trained from one another, as `lesion-unet` 0.7.0 was made.

    python scripts/average_models.py OUT MODEL MODEL... --data FOLDER FOLDER... --splits splits.csv

The mean of several trainings from one start is often better than each of them (Wortsman et al. 2022, "Model soups").
The running statistics of batch normalisation do not fit averaged weights, so they are computed again, from
training views of the photos. OUT then lacks a presence head and a calibration: `training.presence.add_presence_head`
and `training.calibrate.calibrate` add them.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from cyclopts import App, Parameter
from torch.nn.modules.batchnorm import _BatchNorm

from napari_skinseg.cli.cases import cases_in
from napari_skinseg.models.bundle import save
from napari_skinseg.models.network import CLICK_CHANNELS
from napari_skinseg.models.onnx_export import write_onnx
from napari_skinseg.models.store import load_model
from napari_skinseg.training.augment import Read, training_transform

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
        splits: CSV file with the split of each photo; those of the split train give the statistics.
        seed: Seed of the views.
    """
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
    cases = cases_in(data, splits, "train")
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
    print(write_onnx(out) or f"{out}: the mean of {', '.join(models)}.")


if __name__ == "__main__":
    app()
