"""After training: choose a model's threshold and teach it how far to trust itself, on photos it did not learn from.

All of it judges outlines, also those that would be withheld because there is perhaps no lesion.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.events import CancelToken, Event, NeverCancelled, OnEvent, ignore_event, raise_if_cancelled
from napari_skinseg.models.bundle import ModelSpec, load, write_spec
from napari_skinseg.pixels.cleaning import CleanUp, binarise
from napari_skinseg.pixels.image import read_image
from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.pixels.metrics import FAILURE_JACCARD, dice, jaccard
from napari_skinseg.segmentation.confidence import expected_jaccard
from napari_skinseg.segmentation.segmenter import Segmenter

THRESHOLDS = (0.4, 0.45, 0.5, 0.55, 0.6)
MISSED = 0.005
"""At most this share of the lesions is withheld as no lesion."""
HIGHEST_LIMIT = 0.4
"""A likelier outline is always drawn, however sure the model is of all others: 0.5 found no more than a tenth more of
the plain skin on val, and withheld a lesion in three hundred."""


def calibrate(
    folder: str | Path,
    validation: Sequence[Case],
    device: str = "auto",
    on_event: OnEvent = ignore_event,
    cancel: CancelToken | None = None,
) -> ModelSpec:
    """Choose a model's threshold and fit its confidence on validation cases, and store both in its bundle.

    The threshold is the one of `THRESHOLDS` with the best mean Dice of the cleaned-up mask. The confidence is a
    logistic function of the logit of `confidence.expected_jaccard`, fitted to the Jaccard that was reached, by robust
    least squares. The limit below which no lesion is found is as high as `MISSED` and `HIGHEST_LIMIT` allow.
    """
    from scipy.optimize import least_squares

    model = load(folder)
    segmenter = Segmenter(model, device)
    scores, expected, reached, has_lesion = [], [], [], []
    for number, (case, image, truth) in enumerate(read_ahead(validation), start=1):
        raise_if_cancelled(cancel or NeverCancelled())
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
    goal = np.array(reached)[:, best]

    def confidence(ab: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1 / (1 + np.exp(-(ab[0] + ab[1] * logits))))

    fit = least_squares(lambda ab: confidence(ab) - goal, x0=(0.0, 1.0), loss="soft_l1")
    figures = {
        "validation Dice": float(np.mean(scores, axis=0)[best]),
        "validation failure rate": float(np.mean(goal < FAILURE_JACCARD)),
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
    """The `ModelSpec.no_lesion` that withholds at most `MISSED` of outlines of lesions, given their confidences."""
    if not len(confidences):
        return ModelSpec.no_lesion
    return min(HIGHEST_LIMIT, float(np.quantile(confidences, MISSED, method="lower")))


def read_ahead(cases: Sequence[Case]) -> Iterator[tuple[Case, NDArray[np.uint8], NDArray[np.bool_]]]:
    """Yield (case, uint8 rgb [H, W, 3], bool truth [H, W]) of cases with masks, decoding ahead in threads."""
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(cases), 32):
            yield from pool.map(_read_case, cases[start : start + 32])


def _read_case(case: Case) -> tuple[Case, NDArray[np.uint8], NDArray[np.bool_]]:
    image = read_image(case.image)
    assert case.mask is not None
    return case, image, read_mask(case.mask, (image.shape[0], image.shape[1]))
