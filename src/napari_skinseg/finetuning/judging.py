"""Judge models on photos that they were not trained on, and on generated photos.

`verdict` decides from these results what is better.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.events import CancelToken, Event, OnEvent, raise_if_cancelled
from napari_skinseg.models.bundle import Model
from napari_skinseg.phantoms.phantom import Phantom, phantom
from napari_skinseg.pixels.cleaning import CleanUp, binarise
from napari_skinseg.pixels.image import read_image
from napari_skinseg.pixels.mask import read_mask, resize_mask, write_mask
from napari_skinseg.pixels.metrics import FAILURE_JACCARD, dice, jaccard
from napari_skinseg.segmentation.border import NO_CHANGE, Border, change_border
from napari_skinseg.segmentation.options import SegmentOptions
from napari_skinseg.segmentation.segmenter import GROSS_DISAGREEMENT, Segmenter

from .border import Map, small_map
from .verdict import ComparedPhoto

OUTLINE_ONLY = SegmentOptions(always_outline=True, border=NO_CHANGE)
"""The outline is judged also where a model would find no lesion, because calibration chooses that limit; the border of
the model is applied afterwards."""
LONGEST_SIDE = 512
"""Larger photos are reduced to this longer side; the network's input is much smaller."""
PHANTOMS = 12
FIRST_SEED = 1000


@dataclass(frozen=True)
class JudgedPhoto:
    """A photo, uint8 `[H, W, 3]`, and the mask of a person, bool `[H, W]`, with a longer side of `LONGEST_SIDE`."""

    image: NDArray[np.uint8]
    truth: NDArray[np.bool_]

    @classmethod
    def read(cls, case: Case) -> "JudgedPhoto":
        """Read photo and mask of a case, and reduce them."""
        image = read_image(case.image)
        assert case.mask is not None
        truth = read_mask(case.mask, image.shape)
        scale = LONGEST_SIDE / max(truth.shape)
        if scale >= 1:
            return cls(image, truth)
        height, width = (round(side * scale) for side in truth.shape)
        reduced = Image.fromarray(image).resize((width, height), Image.Resampling.BOX)
        return cls(np.asarray(reduced), resize_mask(truth, (height, width)))


@dataclass(frozen=True)
class Prediction:
    """The output of a network for a photo; a threshold and a border make a mask from it.

    Attributes:
        probability: uint8 `[H, W]`, from 0 to 255.
        confidence: see `Segmentation.confidence`.
    """

    probability: NDArray[np.uint8]
    confidence: float

    def mask(self, border: Border) -> NDArray[np.bool_]:
        """Return the mask with a border, which has a threshold."""
        assert border.threshold is not None
        return change_border(binarise(self._values(), border.threshold, CleanUp()), border)

    def guarded_mask(self, border: Border, base: "Prediction", base_border: Border) -> NDArray[np.bool_]:
        """Return the mask as a guarded model gives it; see `segmentation.segmenter.choose_guarded`."""
        own, other = self.mask(border), base.mask(base_border)
        is_lost = jaccard(own, other) < GROSS_DISAGREEMENT and base.confidence > self.confidence
        return other if is_lost else own

    def map(self, photo: JudgedPhoto, border: Border) -> Map:
        """Return the part with the lesion, in which a border is fitted."""
        return small_map(self._values(), photo.truth, border)

    def _values(self) -> NDArray[np.float32]:
        return np.asarray(self.probability, np.float32) / np.float32(255)


def segment_photos(
    segmenter: Segmenter, photos: Mapping[int, JudgedPhoto], cancel: CancelToken
) -> Iterator[tuple[int, Prediction]]:
    """Segment photos, by number, and free the memory of the device.

    Args:
        segmenter: its model's border is not applied.
        photos: the photos by number.
        cancel: is read before each photo.
    """
    try:
        for number, photo in photos.items():
            raise_if_cancelled(cancel)
            found = segmenter.segment(photo.image, OUTLINE_ONLY)
            yield number, Prediction(np.round(255 * found.probability).astype(np.uint8), found.confidence)
    finally:
        segmenter.close()


def compare_masks(
    number: int,
    case: Case,
    status: Literal["corrected", "accepted"],
    truth: NDArray[np.bool_],
    masks: Sequence[tuple[str, NDArray[np.bool_]]],
    folder: Path,
) -> ComparedPhoto:
    """Compare two masks with the true mask of a case, and write both into `folder`.

    Args:
        number: number of the case.
        case: the case.
        status: see `ComparedPhoto`.
        truth: the true mask, reduced.
        masks: (name for the file, mask) of what is used now, and of what may replace it.
        folder: folder for the files.
    """
    assert case.mask is not None
    paths = [folder / f"{number:04d}_{name}.png" for name, _ in masks]
    for path, (_, mask) in zip(paths, masks, strict=True):
        write_mask(path, mask)
    (_, base), (_, candidate) = masks
    return ComparedPhoto(
        id=case.id,
        image=case.image,
        mask=case.mask,
        status=status,
        base_dice=dice(base, truth),
        candidate_dice=dice(candidate, truth),
        base_failed=jaccard(base, truth) < FAILURE_JACCARD,
        candidate_failed=jaccard(candidate, truth) < FAILURE_JACCARD,
        base_mask=paths[0],
        candidate_mask=paths[1],
    )


def dice_on_phantoms(model: Model | Path, device: str, on_event: OnEvent, cancel: CancelToken) -> list[float]:
    """Dice on each of the same `PHANTOMS` generated photos, to see whether fine-tuning made the model forget.

    The border of a person is not applied: it is a style, and no sign that the model forgot anything.
    """
    segmenter = Segmenter(model, device)
    scores = []
    try:
        for number in range(PHANTOMS):
            raise_if_cancelled(cancel)
            generated = _phantom(number)
            scores.append(
                dice(segmenter.segment(generated.image, SegmentOptions(border=NO_CHANGE)).mask, generated.mask)
            )
            on_event(Event("phantoms", number + 1, PHANTOMS))
    finally:
        segmenter.close()
    return scores


@lru_cache(PHANTOMS)
def _phantom(number: int) -> Phantom:
    """Return a photo of `dice_on_phantoms`, which each run needs for the base and the new model."""
    return phantom(FIRST_SEED + number, (300, 400))
