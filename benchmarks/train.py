"""Does augmentation keep up with the network? How long the device waits for photos: prints two Markdown tables.

    python benchmarks/train.py [--workers 0 1 2] [--device auto] [--batches 40]

Photos are phantoms, the network and its step are those of `train`. The peer is the same kind of augmentation put
together from MONAI's own dictionary transforms, as its tutorials do.
"""

import os
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
import torch
from cyclopts import App, Parameter
from monai.data import DataLoader, Dataset
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
)

from common import print_table
from napari_skinseg.device import choose_device
from napari_skinseg.events import NeverCancelled
from napari_skinseg.models.network import DEFAULT_NETWORK, build
from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.training.augment import MARGIN, training_transform
from napari_skinseg.training.fit import Learner
from napari_skinseg.training.options import TrainOptions
from napari_skinseg.training.run import MEAN, STD
from segment import load_now, machine

app = App(help="How long the device waits for photos while a network learns.")


@app.default
def main(
    *,
    workers: Annotated[list[int] | None, Parameter(consume_multiple=True)] = None,
    device: str = "auto",
    batches: int = 40,
) -> None:
    """Print the tables.

    Args:
        workers: Numbers of processes that prepare photos, each measured.
        device: auto, cuda, mps or cpu.
        batches: Steps per measurement.
    """
    busy = load_now()
    options = TrainOptions()
    size = (options.input_height, options.input_width)
    larger = (round(size[0] * MARGIN), round(size[1] * MARGIN))
    seen = [phantom(seed, larger) for seed in range(64)]
    samples = [{"image": item.image, "mask": item.mask} for item in seen] * (batches * options.batch_size // 64 + 1)
    samples = samples[: batches * options.batch_size]
    ours = training_transform(size, options.artefacts, options.plain)
    rates = [_per_second(transform, samples[:256]) for transform in (ours, _peer(size))]
    print(f"{machine()}{busy}\n{batches} batches of {options.batch_size} photos at {size[1]}x{size[0]}.\n")
    print_table(
        ["one process prepares", "ours", "MONAI's transforms", "ratio"],
        [["photos per second", *(f"{rate:.0f}" for rate in rates), f"{rates[0] / rates[1]:.1f}x"]],
    )
    print()
    choice = choose_device(device)
    rows = []
    for count in workers or sorted({0, 1, 2, min(16, os.cpu_count() or 1)}):
        waited, whole = _learn(samples, ours, options, device, count)
        rows.append([str(count), f"{len(samples) / whole:.1f}", f"{100 * waited / whole:.0f} %"])
    print(f"{choice.reason}\n")
    print_table(["workers", "photos per second learned from", "device waits for photos"], rows)


def _learn(
    samples: list[dict[str, Any]], transform: Compose, options: TrainOptions, device: str, workers: int
) -> tuple[float, float]:
    """Seconds waited for batches, and seconds in all, of one pass after a first one to warm up."""
    steps = len(samples) // options.batch_size
    learner = Learner(
        build(DEFAULT_NETWORK),
        choose_device(device),
        (MEAN, STD),
        steps_per_pass=steps,
        passes=2,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        ema=options.ema,
        clicks=options.clicks,
        seed=0,
        on_step=lambda step, loss: None,
    )
    loader = DataLoader(Dataset(samples, transform), batch_size=options.batch_size, drop_last=True, num_workers=workers)
    for number in range(2):
        feed = _Timed(loader)
        start = time.perf_counter()
        learner.one_pass(number, feed, NeverCancelled())
        whole = time.perf_counter() - start
    learner.close()
    return feed.waited, whole


class _Timed:
    """A loader that adds up how long it was waited for.

    A CUDA step only returns once its loss was read, so nothing of the device's own work hides in the waiting.
    """

    def __init__(self, loader: DataLoader) -> None:
        self.loader, self.waited = loader, 0.0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch


def _per_second(transform: Callable[[Any], Any], samples: list[dict[str, Any]]) -> float:
    torch.set_num_threads(1)  # as in a worker
    transform(samples[0])
    start = time.perf_counter()
    for sample in samples:
        transform(sample)
    seconds = time.perf_counter() - start
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return len(samples) / seconds


def _peer(size: tuple[int, int]) -> Compose:
    """Geometry, exposure, gamma, noise and blur; MONAI has no hair, rulers or dark rims to draw."""
    both = ["image", "mask"]
    return Compose(
        [
            _AsFloat(),
            EnsureChannelFirstd("image", channel_dim=-1),
            EnsureChannelFirstd("mask", channel_dim="no_channel"),
            RandFlipd(both, prob=0.5, spatial_axis=0),
            RandAffined(
                both,
                prob=1.0,
                spatial_size=size,
                rotate_range=np.pi,
                shear_range=0.1,
                scale_range=0.5,
                translate_range=(0.3 * size[0], 0.3 * size[1]),
                mode=("bilinear", "nearest"),
                padding_mode="reflection",
            ),
            RandScaleIntensityd("image", 0.2, prob=1.0, channel_wise=True),
            RandAdjustContrastd("image", prob=1.0, gamma=(0.7, 1.4)),
            RandGaussianNoised("image", prob=0.2, std=0.04),
            RandGaussianSmoothd("image", prob=0.25, sigma_x=(0.3, 1.6), sigma_y=(0.3, 1.6)),
        ]
    )


class _AsFloat:
    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        return {"image": sample["image"].astype(np.float32) / 255, "mask": sample["mask"].astype(np.float32)}


if __name__ == "__main__":
    app()
