"""Millimetres per pixel from a line that the user drew along a ruler in the photo."""

import math
from dataclasses import dataclass

from napari_skinseg.errors import BadInput

MIN_LINE_PX = 20
"""A shorter line is too inaccurate, because users place each end with an error of about one pixel."""

_USUAL_WIDTH_MM = (10.0, 40.0)  # handheld 10x dermoscopes show 15-30 mm; some users crop photos or use extension rings


@dataclass(frozen=True)
class RulerLine:
    """A line of known length.

    Attributes:
        ends: ((row, column), (row, column)) in pixels of the photo.
        mm: length of the line on the ruler.

    Raises:
        BadInput: the line is shorter than `MIN_LINE_PX` pixels, or `mm` is not a positive number.
    """

    ends: tuple[tuple[float, float], tuple[float, float]]
    mm: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mm) and self.mm > 0):
            raise BadInput(f"The line is {self.mm} mm long; type how many millimetres lie between the two ticks.")
        if not self.pixels >= MIN_LINE_PX:
            raise BadInput(f"The line is {self.pixels:.0f} pixels long; draw it between two ticks that are far apart.")

    @property
    def pixels(self) -> float:
        """Length of the line in pixels of the photo."""
        return math.dist(*self.ends)

    @property
    def mm_per_px(self) -> float:
        """Scale of the photo in mm per pixel, if the ruler lies flat on the skin."""
        return self.mm / self.pixels

    @property
    def uncertainty(self) -> float:
        """Relative error of the scale if each end is one pixel wrong; the relative error of areas is twice as large."""
        return 2 / self.pixels

    def plausibility_warning(self, shape: tuple[int, int]) -> str:
        """Return a warning if the scale is implausible for a dermoscopic photo of `shape` (height, width), or ""."""
        width = max(shape) * self.mm_per_px
        if _USUAL_WIDTH_MM[0] <= width <= _USUAL_WIDTH_MM[1]:
            return ""
        return (
            f"With this scale the photo is {width:.3g} mm wide; handheld 10x dermoscopes show 15–30 mm. "
            "Check the line and its length."
        )
