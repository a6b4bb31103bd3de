"""One undoable change of a whole mask: computed in a worker, written in tiles so that the window stays responsive."""

import time
from collections.abc import Callable

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtCore import QEventLoop
from qtpy.QtWidgets import QApplication

from napari_skinseg.pixels.mask import bounding_box
from napari_skinseg.plugin.mask_layers import LESION

Tile = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.integer]]
"""Rows, columns and new labels of the pixels that change in one tile of the mask."""

_TILE_SIDE = 128
_REDRAW_INTERVAL = 0.04
"""Seconds between two redraws of the window; one redraw takes about a quarter of this."""
_WITHOUT_INPUT = QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents


def lesion_label(layer: Labels) -> int:
    """Return the label of the lesion that the tools of this package change: the selected one, or 1 for background."""
    return int(layer.selected_label) or LESION


def changed_tiles(
    labels: NDArray[np.integer], change: Callable[[NDArray[np.bool_]], NDArray[np.bool_]], label: int = LESION
) -> tuple[list[Tile], bool]:
    """Apply `change` to the lesion in `labels` `[H, W]` and return the changed pixels. Call this in a worker.

    Only pixels of this `label` and of the background change; other labels stay.

    Returns:
        The changed pixels as tiles, and whether any lesion is left.
    """
    lesion = labels == label
    after = change(lesion)
    differs = (after != lesion) & (lesion | (labels == 0))
    box = bounding_box(differs)
    tiles = []
    if box is not None:
        tops, lefts = (range(side.start, side.stop, _TILE_SIDE) for side in box)
        for top in tops:
            for left in lefts:
                rows, columns = np.nonzero(differs[top : top + _TILE_SIDE, left : left + _TILE_SIDE])
                if rows.size:
                    where = rows + top, columns + left
                    tiles.append((*where, np.where(after[where], label, 0).astype(labels.dtype)))
    return tiles, bool(after.any())


def write_tiles(layer: Labels, tiles: list[Tile], plane: tuple[int, ...] = ()) -> None:
    """Write `tiles` into `layer`, or into one `plane` of a stack, as one undoable step. Call this on the GUI thread.

    napari computes outlines in Python on the GUI thread, about a second for a large lesion on 12 megapixels. So this
    writes one tile at a time and lets the window redraw in between. User input waits until the end, so that no stroke
    and no Ctrl+Z gets into the middle of the step.
    """
    redrawn = time.thread_time()
    with layer.block_history():
        for rows, columns, values in tiles:
            layer.data_setitem((*(np.full(rows.size, index) for index in plane), rows, columns), values)
            if time.thread_time() - redrawn > _REDRAW_INTERVAL:
                QApplication.processEvents(_WITHOUT_INPUT)
                redrawn = time.thread_time()
