"""With the keyboard alone: Tab reaches every enabled control from top to bottom, and a frame shows where it is."""

import itertools

import numpy as np
import pytest
from napari._qt.qt_resources import get_stylesheet
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QHeaderView,
    QLineEdit,
    QMainWindow,
    QPushButton,
    QScrollBar,
    QWidget,
)
from superqt import QLabeledDoubleSlider

from napari_skinseg.plugin.widget import SkinSegWidget

CONTROLS = (QAbstractButton, QAbstractItemView, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit)
PARTS = (QHeaderView, QLabeledDoubleSlider, QScrollBar)
"""Parts of controls, and the frame around a slider and its number."""


@pytest.fixture
def widget(qtbot, spot):
    window = QMainWindow()
    qtbot.addWidget(window)
    window.setStyleSheet(get_stylesheet("dark"))
    viewer = ViewerModel()
    viewer.add_image(spot(60, 80, 30, (120, 160))[0], rgb=True, name="arm")
    widget = SkinSegWidget(viewer)
    window.setCentralWidget(widget)
    window.resize(400, 760)
    window.show()
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    qtbot.waitUntil(lambda: not widget.session.background.is_busy, timeout=60_000)
    yield widget
    widget.session.close()


def picture(widget: QWidget) -> np.ndarray:
    image = widget.grab().toImage()
    image = image.convertToFormat(image.Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).astype(int)


def by_tab(widget: SkinSegWidget) -> list[QWidget]:
    """The widgets that Tab reaches, from the first one until the first one again."""
    widget.tabs.tabBar().setFocus(Qt.FocusReason.TabFocusReason)
    reached: list[QWidget] = []
    while (focused := QApplication.focusWidget()) not in reached:
        reached.append(focused)
        QTest.keyClick(focused, Qt.Key.Key_Tab)
    return reached


@pytest.mark.parametrize("tab", [0, 1, 2])
def test_tab_reaches_every_enabled_control_from_top_to_bottom(qtbot, widget, tab):
    widget.tabs.setCurrentIndex(tab)
    panel = widget.panels[tab]
    for fold in panel.findChildren(QAbstractButton):
        if fold.isCheckable() and fold.text() in ("&Options", "More"):
            QTest.keyClick(fold, Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: not widget.session.training.is_busy, timeout=60_000)
    reached = by_tab(widget)
    controls = {
        one
        for one in panel.findChildren(QWidget)
        if isinstance(one, CONTROLS)
        and one.isVisible()
        and one.isEnabled()
        and not isinstance(one, PARTS)
        # The numbers of sliders, spin boxes and lists are reached with the control that they belong to.
        and not isinstance(one.parentWidget(), (QLabeledDoubleSlider, QAbstractSpinBox, QComboBox))
    }
    missing = [f"{type(one).__name__} {one.accessibleName() or one.toolTip()}" for one in controls - set(reached)]
    assert not missing
    tops = [one.mapTo(widget, one.rect().topLeft()).y() for one in reached if panel.isAncestorOf(one)]
    assert all(later > earlier - 40 for earlier, later in itertools.pairwise(tops)), tops


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_a_frame_shows_which_widget_has_the_keyboard(widget, theme):
    widget.window().setStyleSheet(get_stylesheet(theme))
    for tab in range(3):
        widget.tabs.setCurrentIndex(tab)
        for one in by_tab(widget):
            widget.focus_frame._leave()
            without = picture(widget)
            one.clearFocus()
            one.setFocus(Qt.FocusReason.TabFocusReason)
            changed = np.abs(picture(widget) - without).max(axis=2) > 60
            assert changed.sum() > one.width() + one.height(), f"{type(one).__name__} {one.toolTip()}"


def test_the_frame_goes_with_its_widget(widget):
    field = widget.panels[0].save_button
    field.setFocus(Qt.FocusReason.TabFocusReason)
    assert widget.focus_frame.isVisible()
    field.move(field.x(), field.y() + 50)
    assert widget.focus_frame.geometry().contains(field.geometry())
    widget.tabs.setCurrentIndex(1)
    assert not widget.focus_frame.isVisible() or not widget.panels[0].isAncestorOf(widget.focus_frame)


def test_a_widget_that_is_deleted_leaves_no_frame(qtbot, widget):
    button = QPushButton("Answer", widget.panels[0])
    button.show()
    button.setFocus(Qt.FocusReason.TabFocusReason)
    assert widget.focus_frame.isVisible()
    button.deleteLater()
    qtbot.wait(10)
    assert not widget.focus_frame.isVisible()
    widget.panels[0].save_button.setFocus(Qt.FocusReason.TabFocusReason)
    assert widget.focus_frame.isVisible()


def test_a_click_moves_no_focus_and_a_run_started_by_key_moves_it_to_cancel_and_back(qtbot, widget):
    panel = widget.panels[0]
    chooser = panel.photo.native
    chooser.setFocus()
    qtbot.mouseClick(panel.save_button, Qt.MouseButton.LeftButton)
    assert chooser.hasFocus()
    panel.segment_button.setFocus(Qt.FocusReason.TabFocusReason)
    panel.show_running(True)
    assert panel.cancel_button.hasFocus()
    panel.show_running(False)
    assert panel.segment_button.hasFocus()
    panel.show_running(True)
    chooser.setFocus()
    panel.show_running(False)
    assert chooser.hasFocus()


def test_tab_and_escape_in_the_menu_of_whole_mask_changes(qtbot, widget):
    widget.tabs.setCurrentIndex(1)
    tools = widget.panels[1].tools
    for button in tools._edits:
        button.setEnabled(True)
    menu = tools.edit_button.menu()
    menu.popup(tools.mapToGlobal(tools.rect().center()))
    qtbot.waitUntil(lambda: tools.fill_button.hasFocus())
    reached = []
    for _ in range(7):
        reached.append(QApplication.focusWidget())
        QTest.keyClick(reached[-1], Qt.Key.Key_Tab)
    assert set(reached) == {*tools._edits, tools.pixels}
    assert tools.fill_button.hasFocus()
    QTest.keyClick(tools.fill_button, Qt.Key.Key_Escape)
    assert not menu.isVisible()
