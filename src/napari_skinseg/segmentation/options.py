"""TODO."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels.cleaning import CleanUp

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class SegmentOptions:
    """How a mask is made from an image.

    Attributes:
        threshold: Probability from which a pixel is lesion, between 0 and 1; the model's own when not given.
        tta: Average with the answer for the mirror image (test-time augmentation): a little more accurate, and the
            network takes twice as long.
        clean_up: What is done to the mask after the threshold.
        second_look: Look again, and closer, at a lesion that takes little of the photo.
        always_outline: Outline the likeliest place even where the model doubts that there is a lesion; the mask of such
            a photo is left empty otherwise.
    """

    threshold: float | None = None
    tta: bool = True
    clean_up: CleanUp = field(default_factory=CleanUp)
    second_look: bool = True
    always_outline: bool = False

    def validate(self) -> None:
        """Raise `BadInput` if a value is out of its range."""
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise BadInput(f"The threshold is {self.threshold}; it is a probability between 0 and 1, such as 0.5.")
        self.clean_up.validate()


@dataclass(frozen=True)
class Segmentation:
    """What the model found in one image of height H and width W.

    Attributes:
        probability: float32 `[H, W]` in [0, 1], at the image's own size.
        mask: bool `[H, W]`, lesion = True; `binarise(probability, threshold, clean_up)`, or empty: no lesion found.
        confidence: the Jaccard that the model expects the outline to have, in [0, 1].
        withheld: there is an outline of that confidence, but the model doubts that it is a lesion's, so that `mask` is
            empty; see `SegmentOptions.always_outline` and `ModelSpec.no_lesion`.
        threshold: the one that was used.
        model: name of the model.
        timings: seconds spent to "prepare" the input, in the "network", and to "finish" the mask.
    """

    probability: NDArray[np.float32]
    mask: NDArray[np.bool_]
    confidence: float
    withheld: bool
    threshold: float
    model: str
    timings: dict[str, float]
