"""How far a mask can be trusted: the Jaccard that the model expects of it, and how to say so to a person."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .pixels.mask import CleanUp, binarise

Verdict = Literal["good", "check", "poor", "empty"]

NO_LESION = 0.45
"""On val, three quarters of the outlines on plain skin are less sure than this, and 0.5 % of those on lesions."""


def expected_jaccard(probability: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """The Jaccard that `mask` would have if each pixel were lesion with its own `probability`.

    Ratio of expectations: sum of p inside, over the mask's area plus the sum of p outside. In (0, 1), never 0 or 1, so
    that its logit is finite; an empty mask scores as low as can be.
    """
    inside = float(probability[mask].sum())
    union = float(mask.sum()) + float(probability[~mask].sum())
    return float(np.clip(inside / max(union, 1e-6), 1e-4, 1 - 1e-4))


def confidence_of(
    probability: NDArray[np.float32], threshold: float, clean_up: CleanUp, calibration: tuple[float, float]
) -> float:
    """The calibrated expected Jaccard of a mask, from the probability at the network's size.

    `calibration` = (intercept, slope) act on the logit of `expected_jaccard`, fitted on validation photos by
    `train.calibrate`; (0, 1) leaves it as it is.
    """
    expected = expected_jaccard(probability, binarise(probability, threshold, clean_up))
    logit = calibration[0] + calibration[1] * np.log(expected / (1 - expected))
    return float(1 / (1 + np.exp(-logit)))


def confidence_in_words(
    confidence: float, mask: NDArray[np.bool_], highest: float | None = None
) -> tuple[str, Verdict]:
    """What to tell a person about a mask, and how loudly.

    Args:
        confidence: see `Segmentation.confidence`.
        mask: bool `[H, W]`.
        highest: largest probability in the image, told when the mask is empty.
    """
    if not mask.any():
        seen = "" if highest is None else f" (highest probability seen: {highest:.2f})"
        return f"No lesion found{seen}. Check the photo, or lower the threshold.", "empty"
    percent = f"{100 * confidence:.0f} %"
    if confidence >= 0.8:
        return f"Good: expected overlap {percent}.", "good"
    if confidence >= 0.65:
        return f"Check the border: expected overlap {percent}.", "check"
    if confidence < NO_LESION:
        return f"Perhaps no lesion here: expected overlap {percent}. Check the photo.", "poor"
    return f"Likely wrong: expected overlap {percent}. Correct it by hand.", "poor"
