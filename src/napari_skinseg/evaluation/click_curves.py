"""Simulate clicks that correct a mask, and measure the Jaccard after each click.

The protocol is that of RITM (Sofiiuk et al. 2021): each click corrects the largest error; the network receives all
previous clicks and the previous mask; a photo that does not reach the goal counts with the maximum number of clicks.
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
    "nothing_centre": "Empty mask, clicks in the centre",
    "nothing_jittered": "Empty mask, jittered clicks",
}
"""Name -> label of each curve: the mask before the first click, and where in the error the clicks are."""

GOALS = (0.85, 0.90)
"""Jaccard values for which the number of clicks is counted."""

MAX_CLICKS = 20
"""Maximum number of clicks, as in RITM and later papers."""

Mask = NDArray[np.bool_]
Trace = tuple[float, ...]


@dataclass(frozen=True)
class ClicksToGoal:
    """The number of clicks to a Jaccard of `goal`.

    Attributes:
        clicks: number of clicks; a photo that does not reach the goal counts with the maximum.
        not_reached: fraction of the photos that do not reach the goal.
    """

    goal: float
    clicks: Summary
    not_reached: float


@dataclass(frozen=True)
class ClickCurve:
    """The Jaccard after 0, 1, … clicks, and the clicks to each of `GOALS`, over photos with a lesion."""

    photos: int
    jaccard: tuple[Summary, ...]
    to: tuple[ClicksToGoal, ...]


def simulate_clicks(
    refiner: "Refiner",
    truth: Mask,
    automatic: Mask,
    clicks: int,
    seed: Sequence[int] = (0,),
    options: "SegmentOptions | None" = None,
    cancel: CancelToken | None = None,
) -> dict[str, Trace]:
    """Correct the mask of one photo with up to `clicks` clicks, once for each of `CURVES`.

    Args:
        refiner: of the photo; see `Segmenter.refiner`.
        truth: bool `[H, W]`, the mask of the person; at least one pixel is lesion.
        automatic: bool `[H, W]`, the mask of the model without clicks.
        clicks: maximum number of clicks.
        seed: seed of the jitter.
        options: see `Refiner.refine`.
        cancel: is read before each click.

    Returns:
        Curve -> Jaccard after 0 … `clicks` clicks. A mask without error keeps its Jaccard.

    Raises:
        Cancelled: `cancel` was set.
    """
    traces = {}
    for number, curve in enumerate(CURVES):
        start = automatic if curve.startswith("automatic") else np.zeros_like(truth)
        random = np.random.default_rng([*seed, number]) if curve.endswith("jittered") else None
        reached = _trace(refiner, truth, start, clicks, random, options, cancel or NeverCancelled())
        traces[curve] = (*reached, *[reached[-1]] * (clicks + 1 - len(reached)))
    return traces


def summarise_traces(traces: Sequence[Trace], bootstrap: int = 2000, seed: int = 0) -> ClickCurve:
    """Summarise the traces of all photos for one curve; all traces have the same length."""
    reached = np.array(traces)
    maximum = reached.shape[1] - 1
    goals = []
    for goal in GOALS:
        at_goal = reached >= goal
        clicks = np.where(at_goal.any(axis=1), at_goal.argmax(axis=1), maximum)
        not_reached = float(1 - at_goal.any(axis=1).mean())
        goals.append(ClicksToGoal(goal, metrics.summarise(clicks, bootstrap, seed), not_reached))
    jaccards = tuple(metrics.summarise(after, bootstrap, seed) for after in reached.T)
    return ClickCurve(len(traces), jaccards, tuple(goals))


def _trace(
    refiner: "Refiner",
    truth: Mask,
    mask: Mask,
    maximum: int,
    random: Generator | None,
    options: "SegmentOptions | None",
    cancel: CancelToken,
) -> list[float]:
    reached, clicks = [jaccard(mask, truth)], list[Click]()
    while len(clicks) < maximum and (click := _next_click(mask, truth, random)):
        raise_if_cancelled(cancel)
        clicks.append(click)
        mask = refiner.refine(clicks, mask, options).mask
        reached.append(jaccard(mask, truth))
    return reached


def _next_click(mask: Mask, truth: Mask, random: Generator | None) -> Click | None:
    """The same click as `next_click`, computed only in the box around the errors: ten times faster."""
    box = bounding_box(mask ^ truth)
    if box is None:
        return None
    rows, columns = box
    click = next_click(mask[rows, columns], truth[rows, columns], random)
    assert click is not None
    return Click(click.row + rows.start, click.column + columns.start, click.include)
