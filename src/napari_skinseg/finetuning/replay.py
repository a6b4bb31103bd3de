"""Photos that are shown with the masks of the base during fine-tuning, so that the copy forgets less.

Half of them are generated; the others are photos of the project that nobody has reviewed, where the base is confident.
The masks of the base are the targets (distillation; Li and Hoiem, "Learning without forgetting", 2016).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.errors import BadInput
from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.pixels.image import read_image
from napari_skinseg.segmentation.preprocess import resize_to_input
from napari_skinseg.segmentation.segmenter import Segmenter
from napari_skinseg.training.augment import Read, Sample

from .judging import OUTLINE_ONLY

FIRST_SEED = 2000
"""Other phantoms than those that judge."""


def replayed_samples(
    model: Path, input_size: tuple[int, int], unlabelled: Sequence[Path], most: int, min_confidence: float, device: str
) -> list[Sample]:
    """Return up to `most` samples, of photos and of phantoms in turn, as `training.augment.Read` returns them.

    Args:
        model: folder of the base.
        input_size: (height, width) of the network's input.
        unlabelled: photos without a mask; one that cannot be read is left out.
        most: number of samples.
        min_confidence: lowest confidence of the base on a photo.
        device: one of `device.DEVICES`.
    """
    segmenter, size = Segmenter(model, device), Read(input_size).size
    phantoms = (phantom(FIRST_SEED + number, size).image for number in range(most))
    photos = (image for path in unlabelled if (image := _read(path, size)) is not None)
    samples: list[Sample] = []
    try:
        while len(samples) < most:
            for image in (next(photos, None), next(phantoms, None)):
                if image is None:
                    continue
                found = segmenter.segment(image, OUTLINE_ONLY)
                if found.confidence >= min_confidence:
                    samples.append({"image": image, "mask": found.mask})
            if image is None:  # there are no phantoms any more
                break
    finally:
        segmenter.close()
    return samples[:most]


def _read(path: Path, size: tuple[int, int]) -> NDArray[np.uint8] | None:
    try:
        return resize_to_input(read_image(path), size)
    except BadInput:
        return None
