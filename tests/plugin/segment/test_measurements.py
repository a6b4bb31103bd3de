"""The features table of a mask follows what a person does to it."""

import numpy as np
import pytest

from napari_skinseg.plugin.correct.mask_edit import write_tiles


@pytest.fixture
def mask(qtbot, viewer, panel, settled):
    """The mask that the model drew of the viewer's photo, measured."""
    panel.segment_selected()
    settled(panel)
    return viewer.layers["arm_segmentation"]


def area(mask) -> float:
    return float(mask.features["area_px"].iloc[0])


def test_a_stroke_and_its_undoing_are_measured(qtbot, mask):
    before = area(mask)
    mask.brush_size = 20
    mask.paint((60, 80 + 32), 1)  # at the lesion's right border
    assert np.count_nonzero(mask.data) > before
    qtbot.waitUntil(lambda: area(mask) == np.count_nonzero(mask.data), timeout=60_000)
    mask.undo()
    qtbot.waitUntil(lambda: area(mask) == before, timeout=60_000)


def test_what_a_click_changed_is_measured(qtbot, mask):
    rows, columns = np.nonzero(mask.data[:60])
    write_tiles(mask, [(rows, columns, np.zeros(rows.size, np.uint8))])  # as the answer to a click is written
    qtbot.waitUntil(lambda: area(mask) == np.count_nonzero(mask.data), timeout=60_000)


def test_a_mask_that_was_removed_meanwhile_is_let_go(qtbot, viewer, panel, settled, mask):
    mask.paint((60, 112), 1)
    viewer.layers.remove(mask)
    qtbot.waitUntil(lambda: not panel._figures._pause.isActive(), timeout=60_000)
    settled(panel)
    assert not panel.message.text()
