"""One change of a whole mask: worked out beside the GUI, written in pieces so that the window never stalls."""

import time
from collections.abc import Callable

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtCore import QEventLoop
from qtpy.QtWidgets import QApplication

from napari_skinseg.pixels.mask import bounding_box
from napari_skinseg.plugin.mask_layers import LESION

Tile = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]
"""Rows, columns and new labels of the pixels of one tile that change."""

_TILE = 128
_DRAWN_EVERY = 0.04
"""Seconds; drawing the window itself takes a quarter of that."""
_WITHOUT_INPUT = QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents


def changed_tiles(
    labels: NDArray[np.integer], change: Callable[[NDArray[np.bool_]], NDArray[np.bool_]]
) -> tuple[list[Tile], bool]:
    """What `change` does to the lesion in `labels` `[H, W]`, and whether any lesion is left. For workers.

    Only the lesion's own label and bare ground change: what a person marked with another label stays.
    """
    lesion = labels == LESION
    after = change(lesion)
    differs = (after != lesion) & (lesion | (labels == 0))
    box = bounding_box(differs, margin=0)
    pieces = []
    if box is not None:
        tops, lefts = (range(side.start, side.stop, _TILE) for side in box)
        for top in tops:
            for left in lefts:
                rows, columns = np.nonzero(differs[top : top + _TILE, left : left + _TILE])
                if rows.size:
                    where = rows + top, columns + left
                    pieces.append((*where, after[where].astype(np.uint8)))
    return pieces, bool(after.any())


def write_tiles(layer: Labels, pieces: list[Tile], plane: tuple[int, ...] = ()) -> None:
    """Write `pieces` into `layer`, of a stack into one `plane`, as one step of its undo history. For the GUI thread.

    napari draws outlines in Python on the GUI thread, about a second for the border of a large lesion on 12 megapixels.
    So it is given a tile at a time, and the window is drawn in between. Clicks and keys wait until the end: no stroke
    and no Ctrl+Z comes in the midst of the step.
    """
    drawn = time.thread_time()
    with layer.block_history():
        for rows, columns, values in pieces:
            layer.data_setitem((*(np.full(rows.size, index) for index in plane), rows, columns), values)
            if time.thread_time() - drawn > _DRAWN_EVERY:
                QApplication.processEvents(_WITHOUT_INPUT)
                drawn = time.thread_time()
