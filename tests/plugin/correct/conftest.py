"""A window on the screen with the widget and a photo of a spot with its mask, used by mouse and keys."""

from collections.abc import Iterator

import numpy as np
import pytest
from napari.layers import Labels
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

SHAPE = (120, 160)
LEFT, RIGHT, NO_BUTTON = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton, Qt.MouseButton.NoButton
CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
NONE = Qt.KeyboardModifier.NoModifier
SKIN, CORNER, MIDDLE = (20, 20), (100, 140), (60, 80)
"""Places of a photo of a spot in the middle: two on bare ground, one in the spot."""


class Window:
    """The widget in a window on the screen, and the mouse and the keys of a user."""

    def __init__(self, qtbot, viewer):
        self.qtbot, self.viewer = qtbot, viewer
        _, self.widget = viewer.window.add_plugin_dock_widget("napari-skinseg")
        self.segment, self.review = self.widget.panels[:2]
        self.settle()

    @property
    def main(self):
        return self.viewer.window._qt_window

    @property
    def canvas(self):
        return self.viewer.window._qt_viewer.canvas.native

    @property
    def tool(self):
        return self.review.tools.refine if self.review.isVisible() else self.segment.refine

    @property
    def mask(self) -> Labels:
        (mask,) = (layer for layer in self.viewer.layers if layer.name.endswith("_segmentation"))
        return mask

    @property
    def markers(self):
        """(row, column, is green) of each visible marker."""
        (layer,) = (layer for layer in self.viewer.layers if layer.name == "· clicks")
        return [
            (*map(round, place[-2:]), colour[1] > colour[0])
            for place, colour in zip(layer.data, layer.face_color, strict=True)
        ]

    def settle(self):
        """Wait until no job runs and no timer is active."""

        def is_settled():
            navigator, busy = self.review.navigator, self.widget.session.background.is_busy
            later = (
                navigator.autosave._timer.isActive()
                or navigator._soon.isActive()
                or self.segment._pause.isActive()
                or not self.segment._monitor.is_idle
            )
            return not busy and not later and not navigator._is_leaving

        for _ in range(3):
            QApplication.processEvents()
            self.qtbot.waitUntil(is_settled, timeout=120_000)

    def on_screen(self, place, layer=None):
        """Return the place in the window of a pixel of the photo."""
        world = np.array((layer or self.viewer.layers[0]).data_to_world(place))[-2:]
        camera, size = self.viewer.scene.camera, self.canvas.size()
        row, column = (world - np.array(camera.center)[-2:]) * camera.zoom
        return QPoint(round(column + size.width() / 2), round(row + size.height() / 2))

    def click(self, place, button=LEFT, modifier=NONE, *, wait=True, by=(0, 0)):
        start = self.on_screen(place)
        end = start + QPoint(*by)
        self.qtbot.mousePress(self.canvas, button, modifier, start)
        if by != (0, 0):  # pytest-qt moves the mouse without its button
            move = QMouseEvent(QEvent.Type.MouseMove, end, self.canvas.mapToGlobal(end), NO_BUTTON, button, modifier)
            QApplication.sendEvent(self.canvas, move)
            self.qtbot.wait(20)
        self.qtbot.mouseRelease(self.canvas, button, modifier, end)
        if wait:
            self.settle()

    def press_key(self, key, modifier=NONE, *, wait=True):
        self.qtbot.keyClick(self.main, key, modifier)
        if wait:
            self.settle()

    def refine(self):
        self.press_key(Qt.Key.Key_K)
        assert self.tool.is_on, self.tool.message.text()

    def drag(self, start, end, *, wait=True):
        """Drag with the left button from one place of the photo to another, over a place in between."""
        first, last = self.on_screen(start), self.on_screen(end)
        self.qtbot.mousePress(self.canvas, LEFT, NONE, first)
        for point in ((first + last) / 2, last):
            at = self.canvas.mapToGlobal(point)
            QApplication.sendEvent(self.canvas, QMouseEvent(QEvent.Type.MouseMove, point, at, NO_BUTTON, LEFT, NONE))
            self.qtbot.wait(20)
        self.qtbot.mouseRelease(self.canvas, LEFT, NONE, last)
        if wait:
            self.settle()


@pytest.fixture
def window(shown_viewer, qtbot, spot) -> Iterator[Window]:
    """A photo of a spot, outlined."""
    viewer = shown_viewer
    viewer.add_image(spot(*MIDDLE, 30, SHAPE)[0], rgb=True, name="arm")
    window = Window(qtbot, viewer)
    window.segment.segment_selected()
    window.settle()
    viewer.reset_view()
    yield window
    window.settle()
    window.review.close_project()
    window.settle()
    window.widget.session.close()
    QApplication.processEvents()
