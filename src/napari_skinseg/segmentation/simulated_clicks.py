"""Clicks as a person would make them, simulated: to train on, and to measure how many a mask needs.

A click answers the error of a mask. Where, is that of RITM (Sofiiuk et al. 2021): in the middle of the error that
reaches deepest, or anywhere in its inner half. In training the error is drawn by its area instead, which helped six
methods on dermoscopic photos (BehaviorClick, Zhao et al. 2025).
"""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt, label

from napari_skinseg.models.click_channels import Click
from napari_skinseg.pixels.mask import signed_distance

Mask = NDArray[np.bool_]


def next_click(mask: Mask, truth: Mask, random: Generator | None = None, by_area: bool = False) -> Click | None:
    """The click that answers the largest error of a mask.

    Args:
        mask: bool `[H, W]`, what the model has drawn.
        truth: bool `[H, W]`, what the person wants.
        random: None clicks in the middle of the error; a generator anywhere farther from the error's border than half
            of its inner radius, because people do not aim as well as that.
        by_area: draw the error with a probability proportional to its area, instead of the one that reaches deepest.

    Returns:
        A click in pixels of the mask, or None where mask and truth are the same.
    """
    missing, extra = truth & ~mask, mask & ~truth
    if not (missing.any() or extra.any()):
        return None
    if by_area and random is not None:
        include = bool(random.random() * (missing.sum() + extra.sum()) < missing.sum())
        wrong, _ = label(missing if include else extra)
        row, column = _at(np.argwhere(wrong), random)
        inside = _depth(wrong == wrong[row, column])
    else:
        depths = _depth(missing), _depth(extra)
        include = bool(depths[0].max() >= depths[1].max())
        inside = depths[0 if include else 1]
    if random is None:
        row, column = (int(at) for at in np.unravel_index(int(inside.argmax()), inside.shape))
    else:
        row, column = _at(np.argwhere(inside > inside.max() / 2), random)
    return Click(float(row), float(column), include)


def distorted(truth: Mask, random: Generator) -> Mask:
    """A mask as wrong as models and people draw them: too wide or too tight, wobbly, with a piece too much or too few.

    Args:
        truth: bool `[H, W]`.
        random: where the mistakes come from.
    """
    if not truth.any():
        return truth
    height, width = truth.shape
    radius = float(np.sqrt(truth.sum() / np.pi))
    outward = signed_distance(truth)
    coarse = Image.fromarray(random.normal(0, 1, (6, 8)).astype(np.float32))
    wobble = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    drawn: Mask = outward + wobble * radius * random.uniform(0, 0.25) > radius * random.normal(0, 0.2)
    if random.random() < 0.5:
        centre = _at(np.argwhere(np.abs(outward) < radius * 0.7), random)
        size = radius * random.uniform(0.3, 1.0, 2)
        rows, columns = np.ogrid[:height, :width]
        piece = ((rows - centre[0]) / size[0]) ** 2 + ((columns - centre[1]) / size[1]) ** 2 < 1
        drawn = drawn | piece if random.random() < 0.5 else drawn & ~piece
    return drawn


def several_clicks(mask: Mask, truth: Mask, most: int, random: Generator) -> Sequence[Click]:
    """One to `most` training clicks at once, fewer being likelier (each further one with probability 0.6)."""
    clicks: list[Click] = []
    while len(clicks) < most and (not clicks or random.random() < 0.6):
        click = next_click(mask, truth, random, by_area=True)
        if click is None:
            break
        clicks.append(click)
    return clicks


def _depth(wrong: Mask) -> NDArray[np.float64]:
    """Distance to the error's border; the frame's edge counts as border, because nobody clicks right on it."""
    return np.asarray(distance_transform_edt(np.pad(wrong, 1))[1:-1, 1:-1])


def _at(places: NDArray[np.intp], random: Generator) -> tuple[int, int]:
    row, column = places[random.integers(len(places))]
    return int(row), int(column)
