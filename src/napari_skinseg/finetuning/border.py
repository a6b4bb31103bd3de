"""Fit the border of a model to the masks of a person, in a second and without training.

A grid of thresholds, smoothings and offsets is searched on small maps of the lesions. Each case is judged with the
border that the other cases choose (leave-one-out), so that no case influences its own result.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_skinseg.pixels.cleaning import CleanUp, clean_mask
from napari_skinseg.pixels.mask import bounding_box, signed_distance
from napari_skinseg.segmentation.border import Border, change_border

from .verdict import LEVELS, TRIMMED, trimmed_interval

FEWEST_CASES = 3
"""With fewer cases, a style cannot be distinguished from chance."""
MAP_SIDE = 96
"""Longer side in pixels of the map in which a lesion is fitted; a lesion takes about 65 of them."""
MARGIN = 0.25
"""The map shows this share of the lesion's sides around it."""
THRESHOLDS = (0.2, 0.4, 0.7, 0.85, 0.95)
SMOOTHINGS = (0.0, 0.02, 0.05)
OFFSETS = tuple(np.round(np.arange(-0.12, 0.1201, 0.01), 2).tolist())
COST_OF_CHANGE = 0.12
"""A `USUAL_CHANGE` of the border must gain this in Dice, divided by the number of cases: with few cases, a large change
is more often chance. Of 0.1, 0.12, 0.15 and 0.2, this value gave the most gain on the validation photos of the
simulation with less than 5 % false adoptions."""
USUAL_CHANGE = (0.75, 0.04, 0.03)
"""A usual change of the logit of the threshold, of the offset and of the smoothing. A threshold far from that of the
model leaves little of a faint lesion; with 1.5, one such border lost 0.028 in a simulated clinic."""

Map = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""A part of a photo around the lesion: probability from 0 to 255 and the person's mask, both `[h, w]`."""


def small_map(probability: NDArray[np.float32], truth: NDArray[np.bool_], model: Border) -> Map:
    """Return the part of a photo with the lesion, in `MAP_SIDE` pixels.

    Args:
        probability: float32 `[H, W]` in [0, 1].
        truth: mask of the person, bool `[H, W]`.
        model: border of the model.
    """
    box = bounding_box((probability >= 0.1) | truth | (probability >= (model.threshold or 0.5)))
    if box is None:
        box = slice(0, truth.shape[0]), slice(0, truth.shape[1])
    margins = [round(MARGIN * (side.stop - side.start)) + 1 for side in box]
    window = tuple(
        slice(max(0, side.start - margin), side.stop + margin) for side, margin in zip(box, margins, strict=True)
    )
    part, mask = probability[window], truth[window]
    scale = MAP_SIDE / max(part.shape)
    size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    small = Image.fromarray(part).resize(size, Image.Resampling.BILINEAR)
    covered = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    return np.round(255 * np.asarray(small)).astype(np.uint8), np.asarray(covered) >= 128


@dataclass(frozen=True)
class BorderTable:
    """Dice of every border of the grid for every case.

    Attributes:
        borders: the borders; the first one is that of the model.
        dice: float `[cases, borders]`.
    """

    borders: tuple[Border, ...]
    dice: NDArray[np.float64]

    @classmethod
    def measure(cls, maps: Sequence[Map], model: Border) -> "BorderTable":
        """Measure the borders on the maps of `small_map`: all offsets with all thresholds, then all smoothings.

        The smoothings are tried at the threshold that is best for all cases, because the two hardly depend on each
        other; that takes a third of the time of the whole grid.
        """
        assert model.threshold is not None
        thresholds = [model.threshold, *(one for one in THRESHOLDS if abs(one - model.threshold) > 0.05)]
        offsets = [model.offset, *(one for one in OFFSETS if one != model.offset)]
        table = _measure(maps, [Border(one, model.offset, model.smoothing) for one in thresholds], offsets)
        best = table.borders[table.choose()]
        smoothings = [Border(best.threshold, 0.0, one) for one in SMOOTHINGS if one != model.smoothing]
        smoothed = _measure(maps, smoothings, offsets)
        return cls(table.borders + smoothed.borders, np.concatenate([table.dice, smoothed.dice], axis=1))

    def choose(self, without: NDArray[np.bool_] | None = None) -> int:
        """Return the index of the border with the best trimmed mean of Dice.

        The mean is trimmed, because a lesion that was not found says nothing about the border.
        A change costs `COST_OF_CHANGE`.

        Args:
            without: cases that must not influence the choice, bool `[cases]`.
        """
        used = np.sort(self.dice if without is None else self.dice[~without], axis=0)
        cut = int(TRIMMED * len(used))
        typical = used[cut : len(used) - cut].mean(axis=0)
        return int((typical - COST_OF_CHANGE / len(used) * _change(self.borders)).argmax())

    def choose_leave_one_out(self, groups: Sequence[Hashable]) -> list[int]:
        """Return for each case the index of the border that the cases of other groups choose; 0 if there are none.

        Args:
            groups: the group of each case; cases of one lesion are in one group.
        """
        names = np.array([hash(group) for group in groups])
        same = names[:, None] == names
        return [0 if row.all() else self.choose(without=row) for row in same]

    def is_certain(self, chosen: Sequence[int]) -> bool:
        """Whether the gain of the borders `chosen`, one for each case, over that of the model is more than chance."""
        if len(chosen) < FEWEST_CASES:
            return False
        gains = self.dice[np.arange(len(chosen)), list(chosen)] - self.dice[:, 0]
        return trimmed_interval(gains.tolist(), LEVELS["border"])[1] > 0


def _change(borders: Sequence[Border]) -> NDArray[np.float64]:
    """Return the difference of each border from the first one, in units of `USUAL_CHANGE`."""
    values = np.array([[one.threshold, one.offset, one.smoothing] for one in borders], dtype=float)
    values[:, 0] = np.log(values[:, 0] / (1 - values[:, 0]))
    return np.asarray((np.abs(values - values[0]) / USUAL_CHANGE).sum(axis=1))


def _measure(maps: Sequence[Map], styles: Sequence[Border], offsets: Sequence[float]) -> BorderTable:
    dice = [[_dice_of_offsets(one, style, offsets) for style in styles] for one in maps]
    borders = tuple(replace(style, offset=offset) for style, offset in product(styles, offsets))
    return BorderTable(borders, np.array(dice).reshape(len(maps), len(borders)))


def _dice_of_offsets(one: Map, style: Border, offsets: Sequence[float]) -> NDArray[np.float64]:
    """Return the Dice for each offset, from one distance transform; see `segmentation.border.change_border`."""
    probability, truth = one
    assert style.threshold is not None
    mask = clean_mask(probability >= 255 * style.threshold, _IN_MAP)
    diameter = np.sqrt(4 * np.count_nonzero(mask) / np.pi)
    mask = change_border(mask, Border(smoothing=style.smoothing))
    if not mask.any() or mask.all():
        total = int(mask.sum()) + int(truth.sum())
        return np.full(len(offsets), 2 * int((mask & truth).sum()) / total if total else 1.0)
    distance = signed_distance(mask)
    distance -= 0.5 * np.sign(distance)  # from the border, which lies between the pixel centres
    # The mask of an offset holds the pixels whose distance is at least -offset: one histogram gives all areas.
    edges = np.sort(-np.array(offsets) * diameter)
    bins = np.searchsorted(edges, distance.ravel(), side="right")
    counts = (np.bincount(bins, weights, minlength=len(edges) + 1) for weights in (None, truth.ravel()))
    areas, shared = (count[::-1].cumsum()[::-1][1:] for count in counts)
    values = np.where(areas > 0, 2 * shared / (areas + int(truth.sum())), 0.0)
    values = np.interp(-np.array(offsets) * diameter, edges, values)
    none = values == 0  # a mask is never removed
    if none.any():
        kept = 2 * int((mask & truth).sum()) / (int(mask.sum()) + int(truth.sum()))
        values[none] = kept
    return np.asarray(values)


_IN_MAP = CleanUp(smooth=0.004)
