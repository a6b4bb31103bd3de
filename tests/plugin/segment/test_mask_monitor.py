"""Card, features table and provenance describe the present mask."""

import json
import math

import napari
import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_skinseg.plugin.correct.mask_edit import write_tiles


@pytest.fixture
def mask(qtbot, viewer, panel, settled):
    """The mask that the model drew of the viewer's photo, measured."""
    panel.segment_selected()
    settled(panel)
    return viewer.layers["arm_segmentation"]


def area(mask) -> float:
    """The area in the features table; NaN while the table is empty."""
    return float(mask.features["area_px"].iloc[0]) if "area_px" in mask.features else math.nan


def test_a_stroke_and_its_undo_are_measured(qtbot, mask):
    before = area(mask)
    mask.brush_size = 20
    mask.paint((60, 80 + 32), 1)  # at the lesion's right border
    assert np.count_nonzero(mask.data) > before
    qtbot.waitUntil(lambda: area(mask) == np.count_nonzero(mask.data), timeout=60_000)
    mask.undo()
    qtbot.waitUntil(lambda: area(mask) == before, timeout=60_000)


def test_the_answer_to_a_click_is_measured(qtbot, mask):
    rows, columns = np.nonzero(mask.data[:60])
    write_tiles(mask, [(rows, columns, np.zeros(rows.size, np.uint8))])  # as the answer to a click is written
    qtbot.waitUntil(lambda: area(mask) == np.count_nonzero(mask.data), timeout=60_000)


def test_a_removed_mask_is_not_measured(qtbot, viewer, panel, settled, mask):
    mask.paint((60, 112), 1)
    viewer.layers.remove(mask)
    qtbot.waitUntil(lambda: not panel._monitor._pause.isActive(), timeout=60_000)
    settled(panel)
    assert not panel.message.text()


def saved(mask, path):
    mask.save(str(path), plugin="napari-skinseg")
    return json.loads(path.with_suffix(".json").read_text())["napari_skinseg"]


def test_undo_of_the_slider_restores_card_figures_and_record(viewer, panel, settled, mask, tmp_path, monkeypatch):
    monkeypatch.setattr(napari, "current_viewer", lambda: viewer)
    words, figures, first = panel.card.verdict.text(), panel.card.figures.text(), area(mask)
    panel.options.threshold.setValue(0.9)
    settled(panel)
    assert panel.card.verdict.text() != words
    assert area(mask) < first
    mask.undo()
    record = saved(mask, tmp_path / "at_once.png")
    assert record["threshold"] == 0.5
    assert record["measurements"]["area_px"] == np.count_nonzero(mask.data)
    settled(panel)
    assert mask.metadata["napari_skinseg"]["threshold"] == 0.5
    assert (panel.card.verdict.text(), panel.card.figures.text(), area(mask)) == (words, figures, first)
    assert panel.options.threshold_value() == 0.5
    mask.redo()
    settled(panel)
    assert mask.metadata["napari_skinseg"]["threshold"] == 0.9
    assert area(mask) == np.count_nonzero(mask.data)
    assert panel.options.threshold_value() == 0.9


def test_undo_of_the_border_and_of_a_switch_moves_both_back_and_changes_no_mask(panel, settled, mask):
    first = mask.data.copy()
    panel.options.offset.setValue(6)
    settled(panel)
    panel.options.clean_up["keep"].setChecked(False)
    settled(panel)
    panel.options.threshold.setValue(0.9)
    settled(panel)
    mask.undo()
    settled(panel)
    np.testing.assert_array_equal(mask.data, first)
    assert panel.options.offset.value() == 0
    assert panel.options.clean_up["keep"].isChecked()


def test_undo_of_a_hidden_mask_is_followed_too(qtbot, viewer, panel, settled, mask):
    first = area(mask)
    panel.options.threshold.setValue(0.9)
    settled(panel)
    mask.visible = False
    viewer.layers.selection.active = mask
    qtbot.keyClick(napari.current_viewer().window._qt_window, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    settled(panel)
    assert panel.options.threshold_value() == 0.5
    assert area(mask) == first


def test_the_slider_stays_where_the_user_moved_it_while_the_facts_of_the_old_mask_are_updated(panel, settled, mask):
    panel.options.threshold.setValue(0.9)
    panel._monitor.refresh(mask)
    panel._show_card()
    assert panel.options.threshold_value() == 0.9
    settled(panel)
    assert mask.metadata["napari_skinseg"]["threshold"] == 0.9


def test_a_stroke_removes_the_expected_overlap_and_the_record_has_measurements(
    viewer, panel, settled, mask, tmp_path, monkeypatch
):
    monkeypatch.setattr(napari, "current_viewer", lambda: viewer)
    mask.brush_size = 20
    mask.paint((60, 80 + 32), 1)
    record = saved(mask, tmp_path / "at_once.png")
    assert record["status"] == "corrected"
    assert record["confidence"] is None
    assert record["measurements"]["area_px"] == np.count_nonzero(mask.data)
    settled(panel)
    assert "Changed by hand" in panel.card.verdict.text()
    assert saved(mask, tmp_path / "later.png") == record
