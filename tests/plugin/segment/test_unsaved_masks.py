"""Closing the window with unsaved changes of a mask."""

import time
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.plugin.segment import panel as panel_module

SAVE, DISCARD, CANCEL = (getattr(QMessageBox.StandardButton, name) for name in ("Save", "Discard", "Cancel"))


@pytest.fixture
def edited(make_napari_viewer, qtbot, settled, spot, tmp_path, monkeypatch):
    """A window with a mask that was changed by hand; its path when it is saved; and the list of questions asked."""
    viewer = make_napari_viewer(show=True)
    viewer.add_image(spot(60, 80, 30, (120, 160))[0], rgb=True, name="arm")
    _, widget = viewer.window.add_plugin_dock_widget("napari-skinseg")
    panel, path = widget.panels[0], tmp_path / "arm_segmentation.png"
    qtbot.waitUntil(panel.isVisible, timeout=60_000)
    settled(panel)
    panel.segment_selected()
    settled(panel)
    viewer.layers["arm_segmentation"].paint((10, 10), 1)
    monkeypatch.setattr(panel_module, "free_mask_path", lambda photo: path)
    asked = []
    yield viewer, panel, path, asked
    monkeypatch.setattr(QMessageBox, "question", lambda *arguments: DISCARD)
    widget.session.close()
    QApplication.processEvents()


def close(viewer, monkeypatch, asked, answer):
    """Close the window, answer the question, and return whether the window closed."""

    def question(parent, title, text, buttons):
        asked.append(text)
        return answer

    monkeypatch.setattr(QMessageBox, "question", question)
    window = viewer.window._qt_window
    window._close_dialog = False
    return window.close()


def test_cancel_keeps_the_window_save_writes_the_mask(edited, settled, monkeypatch):
    viewer, panel, path, asked = edited
    mask = viewer.layers["arm_segmentation"]
    assert not close(viewer, monkeypatch, asked, CANCEL)
    assert "arm_segmentation" in asked[0]
    assert not path.exists()
    mask.paint((20, 20), 1)
    data = mask.data == 1
    panel._close_guard._confirm()
    assert len(asked) == 2
    monkeypatch.setattr(QMessageBox, "question", lambda *arguments: SAVE)
    assert panel._close_guard._confirm()
    assert (read_mask(path) == data).all()
    monkeypatch.setattr(QMessageBox, "question", lambda *arguments: CANCEL)
    assert panel._close_guard._confirm(), "saved masks are not asked about"


def test_a_failed_save_keeps_the_window_open(edited, monkeypatch, tmp_path):
    viewer, _, _, asked = edited
    monkeypatch.setattr(panel_module, "free_mask_path", lambda photo: tmp_path / "missing" / "arm.png")
    shown = []
    monkeypatch.setattr(QMessageBox, "critical", lambda parent, title, text: shown.append(text))
    assert not close(viewer, monkeypatch, asked, SAVE)
    assert "could not be written" in shown[0]


def test_hidden_planes_of_a_stack_are_asked_about_and_saved(viewer, panel, settled, spot, tmp_path, monkeypatch):
    stack = np.stack([spot(60, column, 30, (120, 160))[0] for column in (50, 80, 110)])
    viewer.add_image(stack, rgb=True, name="visits")
    for plane in (0, 2):
        viewer.dims.set_current_step(0, plane)
        panel.segment_selected()
        settled(panel)
        viewer.layers["visits_segmentation"].paint((plane, 10, 10), 1)
    mask = viewer.layers["visits_segmentation"]
    viewer.dims.set_current_step(0, 1)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    ticks = []
    timer = QTimer(interval=1)
    timer.timeout.connect(lambda: ticks.append(time.perf_counter()))
    timer.start()
    monkeypatch.setattr(QMessageBox, "question", lambda parent, title, text, buttons: SAVE)
    assert panel._close_guard._confirm()
    for plane in (0, 2):
        assert (read_mask(tmp_path / f"visits_{plane}_segmentation.png") == (mask.data[plane] == 1)).all()
    assert len(list(tmp_path.glob("*.png"))) == 2
    assert ticks, "the window is alive while masks are measured and saved"
    monkeypatch.setattr(QMessageBox, "question", lambda *arguments: CANCEL)
    assert panel._close_guard._confirm(), "saved masks are not asked about"
    mask.paint((0, 20, 20), 1)
    assert not panel._close_guard._confirm()
    mask.undo()
