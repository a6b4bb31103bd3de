"""Card, features table and provenance describe the present mask."""

import json
import math

import napari
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
    mask.redo()
    settled(panel)
    assert mask.metadata["napari_skinseg"]["threshold"] == 0.9
    assert area(mask) == np.count_nonzero(mask.data)


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
