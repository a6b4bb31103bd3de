"""Judge the base and the candidate: on photos that the candidate was not trained on, and on generated photos.

`verdict` decides from these results whether the candidate is better.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.events import CancelToken, Event, OnEvent, raise_if_cancelled
from napari_skinseg.models.bundle import Model
from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.pixels.image import read_image
from napari_skinseg.pixels.mask import read_mask, write_mask
from napari_skinseg.pixels.metrics import FAILURE_JACCARD, dice, jaccard
from napari_skinseg.segmentation.options import SegmentOptions
from napari_skinseg.segmentation.segmenter import Segmenter

from .verdict import ComparedPhoto

OUTLINED = SegmentOptions(always_outline=True)
"""The outlines are compared, also where a model would find no lesion: that limit belongs to calibration."""
LONGEST_SIDE = 1024
"""Larger photos are reduced to this longer side; the network's input is much smaller."""
PHANTOMS = 12
FIRST_SEED = 1000


def segment_cases(
    model: Model, cases: Mapping[int, Case], device: str, cancel: CancelToken
) -> Iterator[tuple[int, NDArray[np.bool_], float]]:
    """Segment cases with a model; yield the number of the case, the mask `[H, W]`, and its Dice with the true mask.

    Args:
        model: the model.
        cases: the cases by number.
        device: one of `device.DEVICES`.
        cancel: is read before each photo.
    """
    segmenter = Segmenter(model, device)
    try:
        for number, case in cases.items():
            raise_if_cancelled(cancel)
            image, truth = read_reduced(case)
            mask = segmenter.segment(image, OUTLINED).mask
            yield number, mask, dice(mask, truth)
    finally:
        segmenter.close()


def compare_masks(
    number: int,
    case: Case,
    status: Literal["corrected", "accepted"],
    masks: Mapping[Literal["base", "candidate"], NDArray[np.bool_]],
    folder: Path,
) -> ComparedPhoto:
    """Compare the masks of both models with the true mask of a case, and write both masks into `folder`."""
    assert case.mask is not None
    _, truth = read_reduced(case)
    paths = {model: folder / f"{number:04d}_{model}.png" for model in masks}
    for model, mask in masks.items():
        write_mask(paths[model], mask)
    return ComparedPhoto(
        id=case.id,
        image=case.image,
        mask=case.mask,
        status=status,
        base_dice=dice(masks["base"], truth),
        candidate_dice=dice(masks["candidate"], truth),
        base_failed=jaccard(masks["base"], truth) < FAILURE_JACCARD,
        candidate_failed=jaccard(masks["candidate"], truth) < FAILURE_JACCARD,
        base_mask=paths["base"],
        candidate_mask=paths["candidate"],
    )


def dice_on_phantoms(model: Model, device: str, on_event: OnEvent, cancel: CancelToken) -> list[float]:
    """Dice on each of the same `PHANTOMS` generated photos, to see whether fine-tuning made the model forget."""
    segmenter = Segmenter(model, device)
    scores = []
    try:
        for number in range(PHANTOMS):
            raise_if_cancelled(cancel)
            generated = phantom(FIRST_SEED + number, (300, 400))
            scores.append(dice(segmenter.segment(generated.image).mask, generated.mask))
            on_event(Event("phantoms", number + 1, PHANTOMS))
    finally:
        segmenter.close()
    return scores


def read_reduced(case: Case) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Photo uint8 `[H, W, 3]` and mask bool `[H, W]`, reduced to a longer side of `LONGEST_SIDE` if they are larger."""
    image = read_image(case.image)
    assert case.mask is not None
    truth = read_mask(case.mask, image.shape)
    scale = LONGEST_SIDE / max(truth.shape)
    if scale >= 1:
        return image, truth
    size = (round(truth.shape[1] * scale), round(truth.shape[0] * scale))
    reduced = Image.fromarray(image).resize(size, Image.Resampling.BOX)
    covered = Image.fromarray(truth.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    return np.asarray(reduced), np.asarray(covered) >= 128
