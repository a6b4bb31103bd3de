"""How many clicks a mask needs: a person who corrects it is simulated, the Jaccard noted after every click.

The protocol is RITM's (Sofiiuk et al. 2021): each click answers the largest error, the network is told all clicks so
far and the mask so far, and a photo that never reaches the goal counts with as many clicks as were allowed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from napari_skinseg.events import CancelToken, NeverCancelled, raise_if_cancelled
from napari_skinseg.models.click_channels import Click
from napari_skinseg.pixels import metrics
from napari_skinseg.pixels.mask import bounding_box
from napari_skinseg.pixels.metrics import Summary, jaccard
from napari_skinseg.segmentation.simulated_clicks import next_click

if TYPE_CHECKING:
    from napari_skinseg.segmentation.options import SegmentOptions
    from napari_skinseg.segmentation.segmenter import Refiner

CURVES = {
    "automatic_centre": "Automatic mask, clicks in the centre",
    "automatic_jittered": "Automatic mask, jittered clicks",
    "nothing_centre": "From nothing, clicks in the centre",
    "nothing_jittered": "From nothing, jittered clicks",
}
"""Where a curve starts and how well the person aims; name -> words."""

GOALS = (0.85, 0.90)
"""Jaccards to which clicks are counted."""

MOST_CLICKS = 20
"""Clicks after which RITM and those who follow it give up."""

Mask = NDArray[np.bool_]
Trace = tuple[float, ...]


@dataclass(frozen=True)
class ClicksTo:
    """How many clicks it takes to the Jaccard `goal`.

    Attributes:
        clicks: number of clicks; photos that never got there count with all that were allowed.
        not_reached: share of the photos that never got there.
    """

    goal: float
    clicks: Summary
    not_reached: float


@dataclass(frozen=True)
class ClickCurve:
    """The Jaccard after 0, 1, … clicks and the clicks to each of `GOALS`, over photos with a lesion."""

    photos: int
    jaccard: tuple[Summary, ...]
    to: tuple[ClicksTo, ...]


def simulate(
    refiner: "Refiner",
    truth: Mask,
    automatic: Mask,
    clicks: int,
    seed: Sequence[int] = (0,),
    options: "SegmentOptions | None" = None,
    cancel: CancelToken | None = None,
) -> dict[str, Trace]:
    """Correct one photo's mask with up to `clicks` clicks, in each of the ways of `CURVES`.

    Args:
        refiner: of the photo; see `Segmenter.refiner`.
        truth: bool `[H, W]`, what the simulated person wants; with at least one pixel.
        automatic: bool `[H, W]`, the mask that the model drew on its own.
        clicks: how many at most.
        seed: of the jitter.
        options: see `Refiner.refine`.
        cancel: looked at before each click.

    Returns:
        For each curve the Jaccard after 0 … `clicks` clicks. A mask that needs no more clicks keeps its Jaccard.
    """
    traces = {}
    for number, curve in enumerate(CURVES):
        start = automatic if curve.startswith("automatic") else np.zeros_like(truth)
        random = np.random.default_rng([*seed, number]) if curve.endswith("jittered") else None
        reached = _trace(refiner, truth, start, clicks, random, options, cancel or NeverCancelled())
        traces[curve] = (*reached, *[reached[-1]] * (clicks + 1 - len(reached)))
    return traces


def curve_of(traces: Sequence[Trace], bootstrap: int = 2000, seed: int = 0) -> ClickCurve:
    """One curve over many photos, from one trace of equal length each."""
    reached = np.array(traces)
    most = reached.shape[1] - 1
    goals = []
    for goal in GOALS:
        there = reached >= goal
        clicks = np.where(there.any(axis=1), there.argmax(axis=1), most)
        goals.append(ClicksTo(goal, metrics.summarise(clicks, bootstrap, seed), float(1 - there.any(axis=1).mean())))
    return ClickCurve(
        len(traces), tuple(metrics.summarise(after, bootstrap, seed) for after in reached.T), tuple(goals)
    )


def _trace(
    refiner: "Refiner",
    truth: Mask,
    mask: Mask,
    most: int,
    random: Generator | None,
    options: "SegmentOptions | None",
    cancel: CancelToken,
) -> list[float]:
    reached, clicks = [jaccard(mask, truth)], list[Click]()
    while len(clicks) < most and (click := _next(mask, truth, random)):
        raise_if_cancelled(cancel)
        clicks.append(click)
        mask = refiner.refine(clicks, mask, options).mask
        reached.append(jaccard(mask, truth))
    return reached


def _next(mask: Mask, truth: Mask, random: Generator | None) -> Click | None:
    """`next_click`, looking only where the masks differ: the same click, found in a tenth of the time."""
    wrong = mask ^ truth
    box = bounding_box(wrong)
    if box is None:
        return None
    rows, columns = box
    click = next_click(mask[rows, columns], truth[rows, columns], random)
    assert click is not None
    return Click(click.row + rows.start, click.column + columns.start, click.include)
