"""Simulated clicks of a user, for training and for measuring how many clicks a mask needs.

A click corrects an error of a mask. Its place is chosen as in RITM (Sofiiuk et al. 2021): in the middle of the error
with the largest inner radius, or at random in the inner half of this error. In training the error is chosen with a
probability proportional to its area, which improved six methods on dermoscopic photos (BehaviorClick, Zhao et al.
2025).
"""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt, label

from napari_skinseg.models.click_channels import Click
from napari_skinseg.pixels.mask import bounding_box, signed_distance

Mask = NDArray[np.bool_]


def next_click(mask: Mask, truth: Mask, random: Generator | None = None, by_area: bool = False) -> Click | None:
    """Return the click that corrects the largest error of a mask.

    Args:
        mask: bool `[H, W]`, the mask of the model.
        truth: bool `[H, W]`, the correct mask.
        random: None clicks in the middle of the error. With a generator, the place is random, but farther from the
            border of the error than half its inner radius, because users do not click exactly in the middle.
        by_area: choose the error with a probability proportional to its area, instead of the error with the largest
            inner radius.

    Returns:
        A click in pixels of the mask, or None if mask and truth are equal.
    """
    missing, extra = truth & ~mask, mask & ~truth
    if not (missing.any() or extra.any()):
        return None
    if by_area and random is not None:
        include = bool(random.random() * (missing.sum() + extra.sum()) < missing.sum())
        wrong, _ = label(missing if include else extra)
        row, column = _random_place(np.argwhere(wrong), random)
        inside = _depth(wrong == wrong[row, column])
    else:
        depths = _depth(missing), _depth(extra)
        include = bool(depths[0].max() >= depths[1].max())
        inside = depths[0 if include else 1]
    if random is None:
        row, column = (int(at) for at in np.unravel_index(int(inside.argmax()), inside.shape))
    else:
        row, column = _random_place(np.argwhere(inside > inside.max() / 2), random)
    return Click(float(row), float(column), include)


def distorted(truth: Mask, random: Generator) -> Mask:
    """Return a mask with typical errors: too large or too small, an irregular border, a piece too many or too few.

    Args:
        truth: the correct mask, bool `[H, W]`.
        random: generator of the errors.
    """
    if not truth.any():
        return truth
    height, width = truth.shape
    radius = float(np.sqrt(truth.sum() / np.pi))
    depth = signed_distance(truth)
    coarse = Image.fromarray(random.normal(0, 1, (6, 8)).astype(np.float32))
    noise = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    result: Mask = depth + noise * radius * random.uniform(0, 0.25) > radius * random.normal(0, 0.2)
    near_border = np.argwhere(np.abs(depth) <= max(1.0, radius * 0.7))  # the pixels at the border have a depth of 1
    if random.random() < 0.5 and len(near_border):
        centre = _random_place(near_border, random)
        size = radius * random.uniform(0.3, 1.0, 2)
        rows, columns = np.ogrid[:height, :width]
        piece = ((rows - centre[0]) / size[0]) ** 2 + ((columns - centre[1]) / size[1]) ** 2 < 1
        result = result | piece if random.random() < 0.5 else result & ~piece
    return result


def several_clicks(mask: Mask, truth: Mask, most: int, random: Generator) -> Sequence[Click]:
    """Return one to `most` clicks for training; each further click has a probability of 0.6."""
    clicks: list[Click] = []
    while len(clicks) < most and (not clicks or random.random() < 0.6):
        click = next_click(mask, truth, random, by_area=True)
        if click is None:
            break
        clicks.append(click)
    return clicks


def _depth(wrong: Mask) -> NDArray[np.float64]:
    """Return the distance to the border of the error; the frame counts as border, because users do not click on it."""
    depth = np.zeros(wrong.shape)
    box = bounding_box(wrong)
    if box is not None:  # outside the rectangle the distance is 0; most errors are much smaller than the frame
        depth[box] = distance_transform_edt(np.pad(wrong[box], 1))[1:-1, 1:-1]
    return depth


def _random_place(places: NDArray[np.intp], random: Generator) -> tuple[int, int]:
    row, column = places[random.integers(len(places))]
    return int(row), int(column)
