"""Encode clicks and a previous mask as extra input channels of the network.

The encoding is that of RITM (Sofiiuk et al. 2021, "Reviving Iterative Training with Mask Guidance"): the previous mask,
and one channel for each kind of click, with a disc for each click. All three channels are zero without clicks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLICK_RADIUS = 5
"""Radius of the disc of a click in pixels of the network's input (RITM uses 5 on crops of 320x480)."""


@dataclass(frozen=True)
class Click:
    """A point that the user marked as lesion (`include`) or as background.

    Attributes:
        row: in pixels of the image, 0 at the top.
        column: in pixels of the image, 0 at the left.
        include: True for lesion, False for background.
    """

    row: float
    column: float
    include: bool = True


def encode_clicks(
    shape: tuple[int, int],
    image_shape: tuple[int, int],
    clicks: Sequence[Click] = (),
    previous: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return the three click channels.

    Args:
        shape: (height, width) of the network's input.
        image_shape: (height, width) of the image on which the user clicked.
        clicks: clicks in pixels of the image; a click outside the image is moved to its border.
        previous: probability or mask `[h, w]` in [0, 1], or None.

    Returns:
        float32 `[3, h, w]` in [0, 1]: previous mask, include clicks, exclude clicks.
    """
    channels = np.zeros((3, *shape), dtype=np.float32)
    if previous is not None:
        channels[0] = previous
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    for click in clicks:
        row = np.clip((click.row + 0.5) * shape[0] / image_shape[0] - 0.5, 0, shape[0] - 1)
        column = np.clip((click.column + 0.5) * shape[1] / image_shape[1] - 0.5, 0, shape[1] - 1)
        disc = (rows - row) ** 2 + (columns - column) ** 2 <= CLICK_RADIUS**2
        channels[1 if click.include else 2][disc] = 1
    return channels
