"""How far a mask can be trusted: the Jaccard that the model expects of it, whether it is drawn, and how to say so."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_skinseg.models.bundle import ModelSpec
from napari_skinseg.pixels.cleaning import CleanUp, binarise

ConfidenceLevel = Literal["good", "check", "poor", "empty"]


class MaskDecision(NamedTuple):
    """What is drawn of a probability `[H, W]`, and how far it can be trusted.

    Attributes:
        mask: bool `[H, W]`.
        confidence: the Jaccard that the model expects of the outline, also of one that is withheld.
        withheld: the model sees an outline, but doubts so much that it is a lesion's that `mask` is left empty.
    """

    mask: NDArray[np.bool_]
    confidence: float
    withheld: bool


def decide_mask(
    probability: NDArray[np.float32],
    spec: ModelSpec,
    threshold: float,
    clean_up: CleanUp,
    always: bool = False,
    small: NDArray[np.float32] | None = None,
) -> MaskDecision:
    """Draw the outline in a probability, unless the model doubts that there is a lesion at all.

    Args:
        probability: float32 `[H, W]` in [0, 1].
        spec: the model's; its `no_lesion` says how much doubt is too much.
        threshold: from which a pixel is lesion.
        clean_up: what is done to the mask then.
        always: draw it whatever the doubt.
        small: the same probability at the network's size, if it is at hand.
    """
    mask = binarise(probability, threshold, clean_up)
    if small is None:
        small = np.asarray(Image.fromarray(probability).resize(spec.input_size[::-1], Image.Resampling.BILINEAR))
    # Whether there is a lesion must not depend on where a person wants its border: the model's own mask decides.
    doubted = confidence_of(small, spec.threshold, CleanUp(), spec.confidence) < spec.no_lesion
    withheld = doubted and not always and bool(mask.any())
    confidence = confidence_of(small, threshold, clean_up, spec.confidence)
    return MaskDecision(np.zeros_like(mask) if withheld else mask, confidence, withheld)


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
    `calibrate.calibrate`; (0, 1) leaves it as it is.
    """
    expected = expected_jaccard(probability, binarise(probability, threshold, clean_up))
    logit = calibration[0] + calibration[1] * np.log(expected / (1 - expected))
    return float(1 / (1 + np.exp(-logit)))


def describe_confidence(found: MaskDecision, no_lesion: float) -> tuple[str, ConfidenceLevel]:
    """What to tell a person about an outline, and how loudly; `no_lesion` as in `ModelSpec`."""
    percent = f"{100 * found.confidence:.0f} %"
    if found.withheld:
        return f"No lesion found: the likeliest outline has an expected overlap of {percent}.", "empty"
    if not found.mask.any():
        return "No lesion found. Check the photo, or lower the threshold.", "empty"
    if found.confidence >= 0.8:
        return f"Good: expected overlap {percent}.", "good"
    if found.confidence >= 0.65:
        return f"Check the border: expected overlap {percent}.", "check"
    if found.confidence < no_lesion:
        return f"Perhaps no lesion here: expected overlap {percent}. Check the photo.", "poor"
    return f"Likely wrong: expected overlap {percent}. Correct it by hand.", "poor"
