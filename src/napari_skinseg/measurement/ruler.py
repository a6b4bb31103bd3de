"""Millimetres per pixel from a line that a person drew along a ruler in the photo."""

import math
from dataclasses import dataclass

from napari_skinseg.errors import BadInput

LEAST_PX = 20
"""A shorter line says too little: each end is placed to about a pixel."""

_USUAL_VIEW = (10.0, 40.0)  # mm; what handheld 10x dermoscopes show is 15-30, and people crop and use extension rings


@dataclass(frozen=True)
class RulerLine:
    """A line of known length.

    Attributes:
        ends: ((row, column), (row, column)) in pixels of the photo.
        mm: its length on the ruler.

    Raises:
        BadInput: shorter than `LEAST_PX` pixels, or `mm` is not a length.
    """

    ends: tuple[tuple[float, float], tuple[float, float]]
    mm: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mm) and self.mm > 0):
            raise BadInput(f"The line stands for {self.mm} mm; type how many millimetres lie between the two ticks.")
        if not self.pixels >= LEAST_PX:
            raise BadInput(f"The line is {self.pixels:.0f} pixels long; draw it from one tick to one far from it.")

    @property
    def pixels(self) -> float:
        """Its length in the photo."""
        return math.dist(*self.ends)

    @property
    def mm_per_px(self) -> float:
        """The photo's scale, if the ruler lies flat on the skin."""
        return self.mm / self.pixels

    @property
    def uncertainty(self) -> float:
        """By what fraction the scale is off when each end is a pixel off; areas are off by twice that."""
        return 2 / self.pixels

    def doubt(self, shape: tuple[int, int]) -> str:
        """A sentence if this scale is implausible for a dermoscopic photo of `shape` (height, width), else empty."""
        width = max(shape) * self.mm_per_px
        if _USUAL_VIEW[0] <= width <= _USUAL_VIEW[1]:
            return ""
        return (
            f"This makes the photo {width:.3g} mm wide; handheld 10x dermoscopes show 15–30 mm. "
            "Check the line and its length."
        )
