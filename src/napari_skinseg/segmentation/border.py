"""Change the border of a mask to the style of a person: farther outwards or inwards, and smoother."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.errors import BadInput
from napari_skinseg.models.bundle import ModelSpec
from napari_skinseg.pixels.cleaning import grow, shrink
from napari_skinseg.pixels.mask import blur, bounding_box

LARGEST_OFFSET = 0.2
LARGEST_SMOOTHING = 0.1


@dataclass(frozen=True)
class Border:
    """How a mask is changed to the style of a person; `Border()` changes nothing.

    Attributes:
        threshold: A pixel with at least this probability is lesion, between 0 and 1; the default is the threshold of
            the model.
        offset: Distance by which the border moves outwards, as a share of the diameter of the lesion; below 0 it moves
            inwards.
        smoothing: Sigma of the Gaussian that smooths the border, as a share of the diameter of the lesion.
    """

    threshold: float | None = None
    offset: float = 0.0
    smoothing: float = 0.0

    @classmethod
    def of_model(cls, spec: ModelSpec) -> "Border":
        """Return the border of a model, always with a threshold."""
        return cls(spec.threshold) if spec.border is None else cls(*spec.border)

    def validate(self) -> None:
        """Raise `BadInput` if a value is out of its range."""
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise BadInput(f"The threshold is {self.threshold}; it is a probability between 0 and 1, such as 0.5.")
        if not abs(self.offset) <= LARGEST_OFFSET:
            raise BadInput(f"The border's offset is {self.offset}; give a share of the diameter from -0.2 to 0.2.")
        if not 0 <= self.smoothing <= LARGEST_SMOOTHING:
            raise BadInput(f"The border's smoothing is {self.smoothing}; give a share of the diameter from 0 to 0.1.")


NO_CHANGE = Border()


def change_border(mask: NDArray[np.bool_], border: Border) -> NDArray[np.bool_]:
    """Smooth the border of the mask `[H, W]`, and then move it; the threshold of `border` is not used.

    The diameter is that of a circle with the area of the mask. A step that would remove the whole mask is left out.
    """
    diameter = math.sqrt(4 * np.count_nonzero(mask) / math.pi)
    mask = _smooth(mask, border.smoothing * diameter)
    pixels = border.offset * diameter
    if abs(pixels) < 0.5:  # a shift of less than half a pixel changes no pixel
        return mask
    # The border lies half a pixel outside the centres of the outermost pixels.
    moved = grow(mask, pixels + 0.5) if pixels > 0 else shrink(mask, 0.5 - pixels)
    return moved if moved.any() else mask


def _smooth(mask: NDArray[np.bool_], sigma: float) -> NDArray[np.bool_]:
    box = bounding_box(mask, margin=1 + math.ceil(3 * sigma))
    if box is None or sigma < 0.3:  # a narrower Gaussian changes no pixel
        return mask
    smooth = np.zeros_like(mask)
    smooth[box] = blur(mask[box], sigma) >= 128
    return smooth if smooth.any() else mask
