"""Speed of augmentation, and the time that the device waits for photos in training: prints two Markdown tables.

    python benchmarks/train.py [--workers 0 1 2] [--device auto] [--batches 40]

The photos are phantoms; the network and the training step are those of `train`. The peer is the same kind of
augmentation, composed of MONAI's dictionary transforms as in its tutorials.
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
from napari_skinseg.training.loop import TrainingLoop
from napari_skinseg.training.options import TrainOptions
from napari_skinseg.training.run import MEAN, STD
from segment import load_warning, machine

app = App(help="Time that the device waits for photos in training.")


@app.default
def main(
    *,
    workers: Annotated[list[int] | None, Parameter(consume_multiple=True)] = None,
    device: str = "auto",
    batches: int = 40,
) -> None:
    """Print the tables.

    Args:
        workers: Numbers of worker processes; each number is measured.
        device: auto, cuda, mps or cpu.
        batches: Training steps per measurement.
    """
    busy = load_warning()
    options = TrainOptions()
    size = (options.input_height, options.input_width)
    larger = (round(size[0] * MARGIN), round(size[1] * MARGIN))
    generated = [phantom(seed, larger) for seed in range(64)]
    samples = [{"image": item.image, "mask": item.mask} for item in generated] * (
        batches * options.batch_size // 64 + 1
    )
    samples = samples[: batches * options.batch_size]
    ours = training_transform(size, options.artefacts, options.plain)
    rates = [_per_second(transform, samples[:256]) for transform in (ours, _peer(size))]
    print(f"{machine()}{busy}\n{batches} batches of {options.batch_size} photos at {size[1]}x{size[0]}.\n")
    print_table(
        ["augmentation in one process", "napari-skinseg", "MONAI's transforms", "ratio"],
        [["photos per second", *(f"{rate:.0f}" for rate in rates), f"{rates[0] / rates[1]:.1f}x"]],
    )
    print()
    choice = choose_device(device, fast_cpu=True)
    rows = []
    for count in workers or sorted({0, 1, 2, min(16, os.cpu_count() or 1)}):
        waited, whole = _measure_training(samples, ours, options, device, count)
        rows.append([str(count), f"{len(samples) / whole:.1f}", f"{100 * waited / whole:.0f} %"])
    print(f"{choice.reason}\n")
    print_table(["workers", "photos per second in training", "device waits for photos"], rows)


def _measure_training(
    samples: list[dict[str, Any]], transform: Compose, options: TrainOptions, device: str, workers: int
) -> tuple[float, float]:
    """Seconds of waiting for batches and seconds in total, of one pass after one pass to warm up."""
    steps = len(samples) // options.batch_size
    loop = TrainingLoop(
        build(DEFAULT_NETWORK),
        choose_device(device, fast_cpu=True),
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
        loop.run_pass(number, feed, NeverCancelled())
        whole = time.perf_counter() - start
    loop.close()
    return feed.waited, whole


class _Timed:
    """A loader that measures how long the training step waits for it.

    A CUDA step returns after its loss was read, so that the waiting time contains no work of the device.
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
    torch.set_num_threads(1)  # as in a worker process
    transform(samples[0])
    start = time.perf_counter()
    for sample in samples:
        transform(sample)
    seconds = time.perf_counter() - start
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return len(samples) / seconds


def _peer(size: tuple[int, int]) -> Compose:
    """Geometry, exposure, gamma, noise and blur; MONAI has no transforms for hair, rulers or dark rims."""
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
