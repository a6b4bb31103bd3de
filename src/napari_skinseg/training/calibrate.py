"""Calibrate a trained model on validation photos: its threshold, its confidence and its limit for "no lesion"."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.events import CancelToken, Event, OnEvent, ignore_event
from napari_skinseg.models.bundle import ModelSpec, load, write_spec
from napari_skinseg.pixels.cleaning import CleanUp, binarise
from napari_skinseg.pixels.image import read_image
from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.pixels.metrics import FAILURE_JACCARD, dice, jaccard
from napari_skinseg.read_ahead import read_ahead
from napari_skinseg.segmentation.confidence import expected_jaccard
from napari_skinseg.segmentation.segmenter import Segmenter

THRESHOLDS = (0.4, 0.45, 0.5, 0.55, 0.6)
MOST_MISSED = 0.005
"""Largest share of the lesions that the limit for "no lesion" may hide."""
HIGHEST_LIMIT = 0.4
"""Highest limit for "no lesion", also for a model that is confident on all lesions. On the validation photos, a limit
of 0.5 found at most a tenth more of the plain skin and hid one lesion in three hundred."""


def calibrate(
    folder: str | Path,
    validation: Sequence[Case],
    device: str = "auto",
    on_event: OnEvent = ignore_event,
    cancel: CancelToken | None = None,
) -> ModelSpec:
    """Choose a model's threshold and fit its confidence on validation cases, and store both in its bundle.

    The threshold is the one of `THRESHOLDS` with the best mean Dice of the cleaned mask. The confidence is a logistic
    function of the logit of `confidence.expected_jaccard`, fitted to the Jaccard with the true mask by robust least
    squares. The limit for "no lesion" is as high as `MOST_MISSED` and `HIGHEST_LIMIT` allow.

    Args:
        folder: the model's bundle.
        validation: cases with masks that the model was not trained on.
        device: one of `device.DEVICES`.
        on_event: receives an event for each photo.
        cancel: is read before each photo.
    """
    from scipy.optimize import least_squares

    model = load(folder)
    segmenter = Segmenter(model, device)
    scores, expected, reached, has_lesion = [], [], [], []
    for number, (case, image, truth) in enumerate(read_cases(validation, cancel), start=1):
        probability = segmenter.segment(image, name=str(case.image)).probability
        masks = [binarise(probability, threshold, CleanUp()) for threshold in THRESHOLDS]
        scores.append([dice(mask, truth) for mask in masks])
        expected.append([expected_jaccard(probability, mask) for mask in masks])
        reached.append([jaccard(mask, truth) for mask in masks])
        has_lesion.append(bool(truth.any()))
        on_event(Event("calibrate", number, len(validation)))
    best = int(np.mean(scores, axis=0).argmax())
    logits = np.array(expected)[:, best]
    logits = np.log(logits / (1 - logits))
    reached_jaccard = np.array(reached)[:, best]

    def confidence(ab: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1 / (1 + np.exp(-(ab[0] + ab[1] * logits))))

    fit = least_squares(lambda ab: confidence(ab) - reached_jaccard, x0=(0.0, 1.0), loss="soft_l1")
    figures = {
        "validation Dice": float(np.mean(scores, axis=0)[best]),
        "validation failure rate": float(np.mean(reached_jaccard < FAILURE_JACCARD)),
    }
    spec = replace(
        model.spec,
        threshold=THRESHOLDS[best],
        confidence=(float(fit.x[0]), float(fit.x[1])),
        no_lesion=no_lesion_limit(confidence(fit.x)[has_lesion]),
        metrics={**model.spec.metrics, **figures},
    )
    write_spec(folder, spec)
    return spec


def no_lesion_limit(confidences: NDArray[np.float64]) -> float:
    """Choose `ModelSpec.no_lesion` from the confidences of outlines of lesions: it hides at most `MOST_MISSED`."""
    if not len(confidences):
        return ModelSpec.no_lesion
    return min(HIGHEST_LIMIT, float(np.quantile(confidences, MOST_MISSED, method="lower")))


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
