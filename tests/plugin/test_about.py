"""About, and the bug report that it copies."""

from importlib.metadata import version

import numpy as np
import pytest
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_skinseg.plugin.about import bug_report


@pytest.fixture
def widget(viewer):
    _, widget = viewer.window.add_plugin_dock_widget("napari-skinseg")
    yield widget
    widget.session.close()
    QApplication.processEvents()


def test_about_shows_versions_and_copies_a_report_without_names(qtbot, viewer, widget):
    viewer.layers["arm"].name = "Jane Doe"
    viewer.layers["Jane Doe"].metadata["file"] = "/home/jane/photo.png"
    seen = []

    def press_copy():
        box = QApplication.activeModalWidget()
        seen.append(f"{box.text()} {box.informativeText()}")
        (copy,) = (button for button in box.buttons() if "Copy" in button.text())
        qtbot.mouseClick(copy, Qt.MouseButton.LeftButton)
        seen.append(QApplication.clipboard().text())
        seen.append(box.isVisible())
        box.button(QMessageBox.StandardButton.Close).click()

    QTimer.singleShot(100, press_copy)
    qtbot.mouseClick(widget.about_button, Qt.MouseButton.LeftButton)
    about, report, stayed = seen
    assert f"napari-skinseg {version('napari-skinseg')}" in about
    assert "spot-finder, licence BSD-3-Clause" in about
    assert "not a medical device" in about
    assert "image (120, 160, 3) uint8" in report
    assert stayed
    for secret in ("Jane", "jane", "arm", "/home"):
        assert secret not in report


def test_every_kind_of_layer_is_reported(viewer):
    viewer.add_points(np.zeros((4, 2)))
    viewer.add_shapes([np.array([[0, 0], [0, 9], [9, 9]])], shape_type="polygon")
    viewer.add_image([np.zeros((64, 64)), np.zeros((32, 32))], multiscale=True)
    assert "points (4, 2) float" in bug_report([], viewer.layers)
    assert "shapes 1" in bug_report([], viewer.layers)
    assert "image (64, 64) float64" in bug_report([], viewer.layers)
