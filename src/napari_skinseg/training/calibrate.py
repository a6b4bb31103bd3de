"""Calibrate a trained model on validation photos: its threshold, its confidence and its limit for "no lesion".

The model must also work for cameras of no data set, so each data set has the same weight, however many photos it has.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.events import CancelToken, Event, OnEvent, ignore_event
from napari_skinseg.models.bundle import ModelSpec, load, write_spec
from napari_skinseg.pixels.cleaning import binarise
from napari_skinseg.pixels.image import read_image
from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.pixels.metrics import FAILURE_JACCARD, dice, jaccard
from napari_skinseg.read_ahead import read_ahead
from napari_skinseg.segmentation.options import SegmentOptions
from napari_skinseg.segmentation.segmenter import Segmenter

THRESHOLDS = (0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
MOST_MISSED = 0.003
"""Largest share of the lesions of each data set that the limit for "no lesion" may hide."""
HIGHEST_LIMIT = 0.4
"""Highest limit for "no lesion", also for a model with a high confidence on all lesions."""
HIGHEST_PRESENCE_LIMIT = 0.1
"""The same for a model with a presence head. Of 346 lesions of the validation split, none had a presence below 0.47; of
the pieces of real skin, 6 % had one above 0.1. In doubt it is better to outline skin than to lose a lesion."""


def calibrate(
    folder: str | Path,
    validation: Sequence[Case],
    device: str = "auto",
    on_event: OnEvent = ignore_event,
    cancel: CancelToken | None = None,
) -> ModelSpec:
    """Choose a model's threshold and fit its confidence on validation cases, and store both in its bundle.

    The photos are segmented twice. The first time, the threshold of `THRESHOLDS` with the best Dice is chosen; the
    second time, with this threshold, the confidence is fitted. It is a logistic function of the logit of
    `confidence.expected_jaccard`, fitted to the Jaccard with the true mask by robust least squares. Every mask is made
    as a user gets it, with the closer second pass and the clean-up. The limit for "no lesion" is as high as
    `MOST_MISSED` and `HIGHEST_LIMIT` allow. In all means each data set, which is `Case.source`, has the same weight.

    Args:
        folder: the model's bundle.
        validation: cases with masks that the model was not trained on.
        device: one of `device.DEVICES`.
        on_event: receives an event for each photo.
        cancel: is read before each photo.
    """
    from scipy.optimize import least_squares

    model = load(folder)
    weights = equal_weights([case.source for case in validation])
    always = SegmentOptions(always_outline=True)

    segmenter = Segmenter(model, device)
    scores = []
    for number, (case, image, truth) in enumerate(read_cases(validation, cancel), start=1):
        probability = segmenter.segment(image, always, name=str(case.image)).probability
        scores.append([dice(binarise(probability, threshold), truth) for threshold in THRESHOLDS])
        on_event(Event("calibrate", number, 2 * len(validation)))
    threshold = THRESHOLDS[int((weights @ np.array(scores)).argmax())]

    # An uncalibrated confidence is the expected Jaccard.
    uncalibrated = replace(model.spec, threshold=threshold, confidence=(0.0, 1.0))
    segmenter = Segmenter(replace(model, spec=uncalibrated), device)
    rows = []
    for number, (case, image, truth) in enumerate(read_cases(validation, cancel), start=1):
        found = segmenter.segment(image, always, name=str(case.image))
        overlap = (dice(found.mask, truth), jaccard(found.mask, truth))
        rows.append((*overlap, found.confidence, found.presence, truth.any()))
        on_event(Event("calibrate", len(validation) + number, 2 * len(validation)))
    dices, jaccards, expected, presence, has_lesion = np.array(rows, dtype=float).T
    logits = np.log(expected / (1 - expected))

    def confidence(ab: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1 / (1 + np.exp(-(ab[0] + ab[1] * logits))))

    share = np.sqrt(weights * len(weights))
    fit = least_squares(lambda ab: share * (confidence(ab) - jaccards), x0=(0.0, 1.0), loss="soft_l1")
    if not model.spec.presence:
        presence = confidence(fit.x)
    figures = {
        "validation Dice": float(weights @ dices),
        "validation failure rate": float(weights @ (jaccards < FAILURE_JACCARD)),
    }
    spec = replace(
        model.spec,
        threshold=threshold,
        confidence=(float(fit.x[0]), float(fit.x[1])),
        no_lesion=no_lesion_limit(
            [
                presence[[has_lesion[n] > 0 and case.source == source for n, case in enumerate(validation)]]
                for source in dict.fromkeys(case.source for case in validation)
            ],
            HIGHEST_PRESENCE_LIMIT if model.spec.presence else HIGHEST_LIMIT,
        ),
        metrics={**model.spec.metrics, **figures},
    )
    write_spec(folder, spec)
    return spec


def equal_weights(groups: Sequence[str]) -> NDArray[np.float64]:
    """Return a weight for each photo, with the sum 1 over all photos and the same sum over each group."""
    _, group, sizes = np.unique(np.array(groups), return_inverse=True, return_counts=True)
    return np.asarray(1 / (len(sizes) * sizes[group]))


def no_lesion_limit(presence: Sequence[NDArray[np.float64]], highest: float = HIGHEST_LIMIT) -> float:
    """Choose `ModelSpec.no_lesion` from the presence of the lesions of each data set; see `MOST_MISSED`."""
    limits = [float(np.quantile(one, MOST_MISSED, method="lower")) for one in presence if len(one)]
    return min([highest, *limits]) if limits else ModelSpec.no_lesion


def read_cases(
    cases: Sequence[Case], cancel: CancelToken | None = None
) -> Iterator[tuple[Case, NDArray[np.uint8], NDArray[np.bool_]]]:
    """Yield (case, rgb uint8 `[H, W, 3]`, truth bool `[H, W]`) of cases with masks; threads read the next photos."""
    for case, pair in read_ahead(_read_case, cases, pixels=lambda pair: pair[1].size, cancel=cancel):
        yield case, *pair.result()


def _read_case(case: Case) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    image = read_image(case.image)
    assert case.mask is not None
    return image, read_mask(case.mask, (image.shape[0], image.shape[1]))
