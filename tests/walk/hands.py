"""A napari window with the widget, and the hands of a person: mouse, keys and dialogs, by real Qt events.

All names and texts of widgets that the walk and the screenshots use are in this file.
"""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from napari import Viewer
from napari.layers import Labels
from napari.settings import get_settings
from napari.utils.notifications import Notification, NotificationSeverity, notification_manager
from qtpy.QtCore import QEvent, QPoint, Qt, QTimer, qInstallMessageHandler
from qtpy.QtGui import QMouseEvent, QPixmap
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QFileDialog,
    QLineEdit,
    QMessageBox,
    QScrollArea,
    QWidget,
)

LEFT, RIGHT, NO_BUTTON = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton, Qt.MouseButton.NoButton
NONE, CTRL, SHIFT = (
    Qt.KeyboardModifier.NoModifier,
    Qt.KeyboardModifier.ControlModifier,
    Qt.KeyboardModifier.ShiftModifier,
)
SEGMENT, REVIEW, FINE_TUNE = range(3)
LONG = 120.0
"""Seconds to wait before a step has failed; a slow computer needs many of them."""


class Hands:
    """Opens napari with the widget; every method returns when its effect is visible.

    Args:
        theme: "dark" or "light".
        size: width and height of the window in logical pixels.
        pictures: folder for screenshots.
        keys_only: press buttons and choose tabs with Tab, the arrows and Space; only the photo gets mouse events.
    """

    def __init__(self, theme: str, size: tuple[int, int], pictures: Path, *, keys_only: bool = False) -> None:
        self.pictures, self.problems, self.asked = pictures, [], []
        self.keys_only = keys_only
        pictures.mkdir(parents=True, exist_ok=True)
        qInstallMessageHandler(self._on_qt_message)
        notification_manager.notification_ready.connect(self._on_notification)
        get_settings().appearance.theme = theme
        self.viewer = Viewer(show=True, show_welcome_screen=False)
        self.viewer.theme = theme
        self.main = self.viewer.window._qt_window
        self.main.resize(*size)
        _, self.widget = self.viewer.window.add_plugin_dock_widget("napari-skinseg")
        self.segment, self.review, self.fine_tune = self.widget.panels
        self.main.activateWindow()
        self.until(self.main.isActiveWindow, "the window gets no keys")
        self.wait()

    # Waiting

    def until(self, is_true: Callable[[], object], what: str, seconds: float = LONG) -> None:
        """Process events until `is_true()`."""
        end = time.monotonic() + seconds
        while not is_true():
            if time.monotonic() > end:
                self.picture("stopped")
                raise TimeoutError(f"{what}; messages: {self.messages()}; problems: {self.problems}")
            QTest.qWait(10)

    def wait(self) -> None:
        """Wait until nothing runs in the background, except a training, and nothing waits to run."""
        navigator = self.review.navigator

        def is_idle() -> bool:
            timers = (self.segment._pause, navigator.autosave._timer, navigator._soon)
            is_busy = self.widget.session.background.is_busy or navigator._is_leaving
            return not is_busy and self.segment._monitor.is_idle and not any(timer.isActive() for timer in timers)

        for _ in range(3):  # a job that ends may start another one
            QTest.qWait(20)
            self.until(is_idle, "the widget is busy for too long")

    # Widgets

    def panel(self) -> QWidget:
        """The panel of the tab that is shown."""
        return self.widget.panels[self.widget.tabs.currentIndex()]

    def button(self, text: str) -> QAbstractButton:
        """The visible button of the widget whose text, or name for screen readers, begins so; the shortest text."""
        names = {
            button: plain(button.text()) or button.accessibleName()
            for button in self.widget.findChildren(QAbstractButton)
            if button.isVisible()
        }
        found = sorted((button for button in names if names[button].startswith(text)), key=lambda one: len(names[one]))
        assert found, f"no visible button {text!r}"
        return found[0]

    def messages(self) -> list[str]:
        """The sentences that the tabs show."""
        panels = (self.segment, self.review, self.fine_tune)
        return [panel.message.text() for panel in panels if panel.message.isVisible() and panel.message.text()]

    def mask(self) -> Labels:
        """The mask layer that is visible."""
        (mask,) = (one for one in self.viewer.layers if isinstance(one, Labels) and one.visible)
        return mask

    # Mouse and keys

    def press(self, text: str) -> None:
        """Click on a button."""
        button = self.button(text)
        self.bring_into_view(button)
        assert button.isEnabled(), f"the button {text!r} is disabled; messages: {self.messages()}"
        if self.keys_only:
            self.go_by_tab(button)
            QTest.keyClick(button, Qt.Key.Key_Space)
            self.canvas().setFocus()  # as Escape or a click on the photo would
        else:
            QTest.mouseClick(button, LEFT)
        self.wait()

    def go_by_tab(self, widget: QWidget) -> None:
        """Press Tab until the widget has the keyboard."""
        for _ in range(150):
            focused = QApplication.focusWidget() or self.canvas()
            if focused is widget:
                return
            QTest.keyClick(focused, Qt.Key.Key_Tab)
        raise AssertionError(f"Tab does not reach {widget.accessibleName() or widget.toolTip()}")

    def tab(self, index: int) -> None:
        """Click on a tab."""
        bar = self.widget.tabs.tabBar()
        if self.keys_only:
            self.go_by_tab(bar)
            for _ in range(index - bar.currentIndex()):
                QTest.keyClick(bar, Qt.Key.Key_Right)
        else:
            QTest.mouseClick(bar, LEFT, NONE, bar.tabRect(index).center())
        self.until(lambda: self.widget.tabs.currentIndex() == index, "the tab does not open")
        self.wait()

    def key(self, key: Qt.Key, modifier: Qt.KeyboardModifier = NONE, *, on: QWidget | None = None) -> None:
        """Press a key in the window, or in a widget."""
        QTest.keyClick(on or self.main, key, modifier)
        self.wait()

    def type_threshold(self, text: str) -> None:
        """Type a threshold into the field beside the slider."""
        (field,) = self.segment.options.threshold.findChildren(QLineEdit)
        field.setFocus()
        field.selectAll()
        QTest.keyClicks(field, text)
        self.key(Qt.Key.Key_Return, on=field)

    def click(self, place: tuple[int, int], button: Qt.MouseButton = LEFT, modifier=NONE) -> None:
        """Click on a pixel (row, column) of the photo."""
        QTest.mouseClick(self.canvas(), button, modifier, self.on_canvas(place))
        self.wait()

    def drag(self, *places: tuple[int, int]) -> None:
        """Drag with the left button over pixels (row, column) of the photo."""
        canvas, (first, *rest) = self.canvas(), [self.on_canvas(place) for place in places]
        QTest.mouseMove(canvas, first)
        QTest.mousePress(canvas, LEFT, NONE, first)
        for point in rest:
            at = canvas.mapToGlobal(point)
            QApplication.sendEvent(canvas, QMouseEvent(QEvent.Type.MouseMove, point, at, NO_BUTTON, LEFT, NONE))
            QTest.qWait(20)
        QTest.mouseRelease(canvas, LEFT, NONE, rest[-1])
        self.wait()

    def canvas(self) -> QWidget:
        """The widget in which napari draws."""
        return self.viewer.window._qt_viewer.canvas.native

    def on_canvas(self, place: tuple[int, int]) -> QPoint:
        """Where a pixel of the visible photo is on the canvas."""
        layer = next(one for one in self.viewer.layers if one.visible)
        world = np.array(layer.data_to_world(place))[-2:]
        camera, size = self.viewer.scene.camera, self.canvas().size()
        row, column = (world - np.array(camera.center)[-2:]) * camera.zoom
        return QPoint(round(column + size.width() / 2), round(row + size.height() / 2))

    def bring_into_view(self, widget: QWidget) -> None:
        """Scroll to a widget of the panel."""
        parent = widget.parentWidget()
        while parent is not None:
            if isinstance(parent, QScrollArea):
                parent.ensureWidgetVisible(widget)
            parent = parent.parentWidget()
        QTest.qWait(20)

    # Dialogs

    def answering(self, file: Path | None = None) -> QTimer:
        """Answer the next dialogs: type `file` into a file dialog, or press its default; say Yes to questions."""
        timer = QTimer(interval=50)

        def answer() -> None:
            dialog = QApplication.activeModalWidget()
            if isinstance(dialog, QFileDialog):
                self.asked.append(dialog.windowTitle())
                field = dialog.findChildren(QLineEdit)[0]
                if file is not None:
                    field.setText(str(file))  # as pasted; typed letters open a list of suggestions
                QTest.keyClick(field, Qt.Key.Key_Return)
            elif isinstance(dialog, QMessageBox):
                self.asked.append(f"{dialog.windowTitle()} {dialog.text()}")
                buttons = [one for one in dialog.buttons() if dialog.buttonRole(one) in _AGREE]
                QTest.mouseClick((buttons or dialog.buttons())[0], LEFT)

        timer.timeout.connect(answer)
        timer.start()
        return timer

    # Pictures

    def picture(self, name: str) -> Path:
        """Write a picture of the window, with the canvas as it is on the screen."""
        QTest.qWait(100)
        picture: QPixmap = self.main.grab()
        if picture.isNull() or not picture.save(str(self.pictures / f"{name}.png")):
            raise OSError(f"the picture {name} was not written")
        return self.pictures / f"{name}.png"

    def close(self) -> None:
        """Close the project, then the window."""
        self.wait()
        self.review.close_project()
        self.wait()
        self.viewer.close()
        for _ in range(5):
            QTest.qWait(20)

    # Problems

    def _on_notification(self, notification: Notification) -> None:
        if notification.severity >= NotificationSeverity.WARNING:
            self.problems.append(f"{notification.severity}: {notification.message}")

    def _on_qt_message(self, kind: object, context: object, message: str) -> None:
        if not any(re.search(known, message) for known in _OF_VIRTUAL_SCREENS):
            self.problems.append(f"Qt: {message}")


_AGREE = (QMessageBox.ButtonRole.YesRole, QMessageBox.ButtonRole.AcceptRole)
_OF_VIRTUAL_SCREENS = ("propagateSizeHints", "XDG_RUNTIME_DIR", "does not support", "QDBusTrayIcon", "qt.qpa")
"""Messages of Qt on a virtual screen without window manager and session bus."""


def plain(text: str) -> str:
    """The text of a button without the mark of its Alt key."""
    return text.replace("&", "")


def use_own_folders(home: Path) -> None:
    """Keep settings, models and runs of this process in `home`; call it before napari starts."""
    os.environ["NAPARI_CONFIG"] = ""
    os.environ["NAPARI_SKINSEG_HOME"] = str(home)
