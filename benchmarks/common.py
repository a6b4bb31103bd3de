"""Shared by the benchmarks of accuracy: choice of photos, agreement of masks, cost of a network, and tables."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from napari_skinseg.datasets.dataset import Case, apply_splits, find_cases
from napari_skinseg.device import Runner, choose_device
from napari_skinseg.pixels.metrics import FAILURE_JACCARD, jaccard, summarise
from napari_skinseg.training.calibrate import read_cases

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
TRAIN = ("ham10000", "ham10000_crop256", "isic2018", "isic_whole")
JUDGE = ("ham10000", "isic2018", "isic_whole")

Predict = Callable[[np.ndarray], np.ndarray]
"""uint8 [H, W, 3] -> bool [H, W]"""


def photos(data: Path, datasets: Sequence[str], split: str, count: int, seed: int = 0) -> list[Case]:
    """Return up to `count` random cases of a split, from all datasets together; 0 returns all."""
    cases = [case for name in datasets for case in find_cases(data / name)]
    cases = apply_splits(cases, data / "splits.csv", split)
    if not 0 < count < len(cases):
        return cases
    chosen = np.random.default_rng(seed).choice(len(cases), count, replace=False)
    return [cases[number] for number in sorted(chosen)]


def jaccards(predict: Predict, cases: Sequence[Case]) -> list[float]:
    """Jaccard of predicted and true mask of each photo, at the resolution of the photo."""
    return [jaccard(predict(image), truth) for _, image, truth in read_cases(cases)]


def dices(values: Sequence[float]) -> np.ndarray:
    """Dice from Jaccard: 2J / (1 + J)."""
    overlap = np.asarray(values)
    return 2 * overlap / (1 + overlap)


def figures(values: Sequence[float]) -> list[str]:
    """Table cells: mean Dice with 95 % interval, mean Jaccard, mean thresholded Jaccard, share of failures."""
    overlap, score = np.asarray(values), summarise(dices(values))
    good = np.where(overlap >= FAILURE_JACCARD, overlap, 0)
    return [
        f"{score.mean:.4f} [{score.low:.4f}, {score.high:.4f}]",
        f"{overlap.mean():.4f}",
        f"{good.mean():.4f}",
        f"{100 * np.mean(overlap < FAILURE_JACCARD):.1f} %",
    ]


def means(values: Sequence[float], cases: Sequence[Case]) -> list[str]:
    """Table cells: mean Dice of the photos of each data set in `JUDGE`, and the mean over these data sets."""
    sources = np.array([case.source for case in cases])
    found = [float(dices(values)[sources == name].mean()) for name in JUDGE]
    return [f"{value:.4f}" for value in (*found, float(np.mean(found)))]


def difference(values: Sequence[float], reference: Sequence[float]) -> str:
    """Mean paired difference of Dice with its 95 % interval; a dash for the reference itself."""
    if values == reference:
        return "–"
    paired = summarise(dices(values) - dices(reference))
    return f"{paired.mean:+.4f} [{paired.low:+.4f}, {paired.high:+.4f}]"


def parameters(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def latency(network: torch.nn.Module, size: tuple[int, int], times: int = 20) -> float:
    """Median milliseconds of the network for one photo, on the CPU with two threads, after one run to warm up."""
    torch.set_num_threads(2)
    runner = Runner(network, choose_device("cpu"))
    channels = next(network.parameters()).shape[1]
    photo = torch.rand(1, channels, *size)
    runner(photo)
    measured = []
    for _ in range(times):
        start = time.perf_counter()
        runner(photo)
        measured.append(time.perf_counter() - start)
    return 1000 * statistics.median(measured)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table with right-aligned numbers."""
    print(f"| {' | '.join(head)} |\n|---|{'--:|' * (len(head) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
