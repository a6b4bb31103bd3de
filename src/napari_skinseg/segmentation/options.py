"""Options and result of segmentation."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels.cleaning import CleanUp

from .border import Border


@dataclass(frozen=True)
class SegmentOptions:
    """Options of the segmentation of a photo.

    Attributes:
        threshold: A pixel with at least this probability is lesion, between 0 and 1; the default is the threshold of
            the model.
        tta: Average the results for the photo and its mirror image (test-time augmentation). The network takes twice as
            long; the bundled model gets no more accurate, another model may.
        clean_up: Clean-up of the mask after the threshold.
        second_look: Segment a small lesion again in a closer crop.
        always_outline: Outline the most likely region even if the model doubts that the photo shows a lesion; without
            this option the mask of such a photo is empty.
        border: Style of the border, after the clean-up; the default is that of the model.
    """

    threshold: float | None = None
    tta: bool = False
    clean_up: CleanUp = field(default_factory=CleanUp)
    second_look: bool = True
    always_outline: bool = False
    border: Border | None = None

    def validate(self) -> None:
        """Raise `BadInput` if a value is out of its range."""
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise BadInput(f"The threshold is {self.threshold}; it is a probability between 0 and 1, such as 0.5.")
        self.clean_up.validate()
        if self.border is not None:
            self.border.validate()


@dataclass(frozen=True)
class Segmentation:
    """Result for one image of height H and width W.

    Attributes:
        probability: float32 `[H, W]` in [0, 1], at the size of the image.
        mask: bool `[H, W]`, lesion = True; `binarise(probability, threshold, clean_up)`, or empty if no lesion was
            found.
        confidence: the Jaccard that the model expects for the outline, in [0, 1].
        withheld: there is an outline with this confidence, but `mask` is empty, because the model doubts that the photo
            shows a lesion; see `SegmentOptions.always_outline` and `ModelSpec.no_lesion`.
        presence: the probability that the photo shows a lesion; see `ModelSpec.no_lesion`.
        threshold: the threshold that was used.
        model: name of the model.
        guarded: the mask is that of the base, because a fine-tuned model disagreed with its base and was less
            confident; see `ModelSpec.guarded`.
        timings: seconds for "prepare" (input), "network" and "finish" (mask).
    """

    probability: NDArray[np.float32]
    mask: NDArray[np.bool_]
    confidence: float
    withheld: bool
    presence: float
    threshold: float
    model: str
    timings: dict[str, float]
    guarded: bool = False
