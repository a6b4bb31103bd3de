"""Confidence of a mask: the Jaccard that the model expects, and its description in words."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_skinseg.models.bundle import ModelSpec
from napari_skinseg.pixels.cleaning import CleanUp, binarise

from .border import NO_CHANGE, Border, change_border

ConfidenceLevel = Literal["good", "check", "poor", "empty"]

SURE = 0.7
"""Confidence from which an outline is shown even if the presence is low. Chosen on the validation split: with it,
`lesion-unet` outlines 10 % of the pieces of real skin instead of 8 %, and with 0.6 14 %. Of the photos of HAM10000,
which `lesion-unet-cc0` has never seen, a lesion that fills the frame had a presence of 0.01 and a confidence of 0.97.
"""


class MaskDecision(NamedTuple):
    """The mask of a probability map, and its confidence.

    Attributes:
        mask: bool `[H, W]`.
        confidence: the Jaccard that the model expects for the outline, also if the outline is withheld.
        withheld: there is an outline, but `mask` is empty, because the model doubts that it shows a lesion.
        presence: the probability that the photo shows a lesion, see `ModelSpec.no_lesion`.
    """

    mask: NDArray[np.bool_]
    confidence: float
    withheld: bool
    presence: float


def decide_mask(
    probability: NDArray[np.float32],
    spec: ModelSpec,
    threshold: float,
    clean_up: CleanUp,
    always: bool = False,
    small: NDArray[np.float32] | None = None,
    border: Border = NO_CHANGE,
    presence: float | None = None,
) -> MaskDecision:
    """Return the mask of a probability map; the mask is empty if the model doubts that the photo shows a lesion.

    Args:
        probability: float32 `[H, W]` in [0, 1].
        spec: description of the model; an outline with a presence below `spec.no_lesion` and a confidence below `SURE`
            is withheld.
        threshold: a pixel with at least this probability is lesion.
        clean_up: clean-up of the mask after the threshold.
        always: never withhold the outline.
        small: the same probability in the input size of the network, if the caller has it.
        border: style of the border. If `threshold` is that of the style, the confidence is computed at the threshold of
            the model, because it is the expected overlap with the mask of a person of the same style.
        presence: the probability that the photo shows a lesion; None for a model without a presence head.
    """
    mask = change_border(binarise(probability, threshold, clean_up), border)
    if small is None:
        small = np.asarray(Image.fromarray(probability).resize(spec.input_size[::-1], Image.Resampling.BILINEAR))

    def own_confidence() -> float:
        # The mask at the model's own threshold decides: the user's threshold must not change whether there is a lesion.
        return confidence_of(small, spec.threshold, CleanUp(), spec.confidence)

    if presence is None:
        presence = own_confidence()
        is_doubtful = presence < spec.no_lesion
    else:
        is_doubtful = presence < spec.no_lesion and own_confidence() < SURE
    withheld = is_doubtful and not always and bool(mask.any())
    at = spec.threshold if threshold == border.threshold else threshold
    confidence = confidence_of(small, at, clean_up, spec.confidence)
    return MaskDecision(np.zeros_like(mask) if withheld else mask, confidence, withheld, presence)


def expected_jaccard(probability: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Return the Jaccard to expect for `mask` if each pixel is lesion with its `probability`.

    It is the ratio of expectations: the sum of p inside the mask, divided by the area of the mask plus the sum of p
    outside. It is limited to [0.0001, 0.9999], so that its logit is finite; an empty mask has the lowest value.
    """
    inside = float(probability[mask].sum())
    union = float(mask.sum()) + float(probability[~mask].sum())
    return float(np.clip(inside / max(union, 1e-6), 1e-4, 1 - 1e-4))


def confidence_of(
    probability: NDArray[np.float32], threshold: float, clean_up: CleanUp, calibration: tuple[float, float]
) -> float:
    """Return the calibrated expected Jaccard of a mask, from the probability in the input size of the network.

    `calibration` is (intercept, slope) of a linear function of the logit of `expected_jaccard`, fitted on validation
    photos by `training.calibrate`; (0, 1) changes nothing.
    """
    expected = expected_jaccard(probability, binarise(probability, threshold, clean_up))
    logit = calibration[0] + calibration[1] * np.log(expected / (1 - expected))
    return float(1 / (1 + np.exp(-logit)))


def describe_confidence(found: MaskDecision, doubt: float) -> tuple[str, ConfidenceLevel]:
    """Return a sentence for the user and the level of confidence; `doubt` as in `ModelSpec`."""
    percent = f"{100 * found.confidence:.0f} %"
    if found.withheld:
        return f"No lesion found: the most likely outline has an expected overlap of {percent}.", "empty"
    if not found.mask.any():
        return "No lesion found. Check the photo, or lower the threshold.", "empty"
    if found.presence < doubt:
        return f"Perhaps no lesion here: expected overlap {percent}. Check the photo.", "poor"
    if found.confidence >= 0.8:
        return f"Good: expected overlap {percent}.", "good"
    if found.confidence >= 0.65:
        return f"Check the border: expected overlap {percent}.", "check"
    return f"Likely wrong: expected overlap {percent}. Correct it by hand.", "poor"
