"""What base and candidate are judged on: a person's photos that were held out, and generated ones."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .cases.dataset import Case
from .events import CancelToken, Event, OnEvent, check
from .pixels.image import read_image
from .pixels.mask import read_mask
from .pixels.metrics import dice
from .pixels.phantom import phantom
from .segment import Segmenter

JUDGED_AT = 1024
"""Larger photos are shrunk to this longer side for judging; the network sees less of them anyway."""
PHANTOMS = 12
FIRST_SEED = 1000


def dice_on_phantoms(segmenter: Segmenter, on_event: OnEvent, cancel: CancelToken) -> list[float]:
    """Dice on each of the same `PHANTOMS` generated photos: what a model must not forget while it learns a style."""
    scores = []
    for number in range(PHANTOMS):
        check(cancel)
        made = phantom(FIRST_SEED + number, (300, 400))
        scores.append(dice(segmenter.segment(made.image).mask, made.mask))
        on_event(Event("phantoms", number + 1, PHANTOMS))
    return scores


def photo_to_judge(case: Case) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Photo uint8 `[H, W, 3]` and mask bool `[H, W]`, shrunk to a longer side of `JUDGED_AT` if they are larger."""
    image = read_image(case.image)
    assert case.mask is not None
    truth = read_mask(case.mask, image.shape)
    scale = JUDGED_AT / max(truth.shape)
    if scale >= 1:
        return image, truth
    size = (round(truth.shape[1] * scale), round(truth.shape[0] * scale))
    small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
    part = Image.fromarray(truth.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    return np.asarray(small), np.asarray(part) >= 128
