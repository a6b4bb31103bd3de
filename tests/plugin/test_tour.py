"""The tour leads through five steps, works offline, and can be left at any time."""

import socket
from pathlib import Path

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_skinseg.pixels.mask import read_mask


@pytest.fixture
def widget(empty_viewer, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("the tour works offline")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    _, widget = empty_viewer.window.add_plugin_dock_widget("napari-skinseg")
    yield widget
    widget.session.close()
    QApplication.processEvents()


def test_the_tour_segments_refines_saves_reviews_and_fine_tunes(
    qtbot, empty_viewer, widget, settled, tmp_path, monkeypatch
):
    tour, (segment, review, _) = widget.tour, widget.panels

    def press(button):
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
        settled(segment)

    press(widget.tour_button)
    assert not tour.isHidden()
    assert [layer.name for layer in empty_viewer.layers] == ["lesion"]
    assert "step 1 of 5: Segment" in tour.text.text()
    press(tour.show_button)
    assert "lesion_segmentation" in empty_viewer.layers
    press(tour.next_button)
    assert "step 2 of 5: Refine" in tour.text.text()
    press(tour.show_button)
    assert segment.refine.is_on
    press(tour.next_button)
    assert "step 3 of 5: Save" in tour.text.text()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *arguments: (str(tmp_path / "mask.png"), ""))
    press(tour.show_button)
    assert read_mask(tmp_path / "mask.png").shape == (900, 1200)
    press(tour.next_button)
    assert "step 4 of 5: Review" in tour.text.text()
    assert widget.tabs.currentIndex() == 1
    qtbot.mouseClick(tour.show_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: review.project is not None and len(review.photos.list or ()) == 6, timeout=60_000)
    folder = widget.session.project
    assert Path(folder).exists()
    press(tour.next_button)
    assert "step 5 of 5: Fine-tune" in tour.text.text()
    assert widget.tabs.currentIndex() == 2
    press(tour.next_button)
    assert tour.isHidden()
    assert "lesion" in empty_viewer.layers


def test_the_tour_can_be_left_and_starts_again(qtbot, widget, settled):
    for _ in range(2):
        qtbot.mouseClick(widget.tour_button, Qt.MouseButton.LeftButton)
        qtbot.mouseClick(widget.tour.next_button, Qt.MouseButton.LeftButton)
        qtbot.mouseClick(widget.tour.leave_button, Qt.MouseButton.LeftButton)
        assert widget.tour.isHidden()
    settled(widget.panels[0])
