"""The keys of the Review tab act on the current photo, in a visible window, and only while the tab is shown."""

import time
from collections.abc import Iterator

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Points, Shapes
from napari.settings import get_plugin_settings
from napari.utils.key_bindings import coerce_keybinding
from npe2 import PluginManifest
from PIL import Image as PillowImage
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_skinseg.plugin import keys as review_keys
from napari_skinseg.plugin.keys import KEYS

SHIFT = Qt.KeyboardModifier.ShiftModifier


@pytest.fixture
def tab(shown_viewer, qtbot, tmp_path, spot) -> Iterator[object]:
    """The Review tab in a visible window, with three photos."""
    for number in range(3):
        PillowImage.fromarray(spot(60, 60 + 10 * number, 30, (120, 160))[0]).save(tmp_path / f"photo_{number}.png")
    _, widget = shown_viewer.window.add_plugin_dock_widget("napari-skinseg")
    (panel,) = (panel for panel in widget.panels if panel.title == "Review")
    widget.tabs.setCurrentIndex(widget.panels.index(panel))
    panel.widget = widget
    panel.open_folder(tmp_path)
    settle(qtbot, panel)
    yield panel
    settle(qtbot, panel)
    panel.close_project()
    settle(qtbot, panel)
    widget.session.close()
    QApplication.processEvents()


def settle(qtbot, panel):
    def is_settled():
        navigator = panel.navigator
        busy = panel._session.background.is_busy or navigator.autosave._timer.isActive() or navigator._soon.isActive()
        return not busy and not navigator._is_leaving and panel._job is None

    for _ in range(3):
        QApplication.processEvents()
        qtbot.waitUntil(is_settled, timeout=60_000)


def press_key(qtbot, panel, key, modifiers=Qt.KeyboardModifier.NoModifier):
    """Press a key in the window, which passes it to the viewer."""
    qtbot.keyClick(panel._close_guard.window, key, modifiers)
    settle(qtbot, panel)


def name(panel):
    return panel.navigator.current.photo.name


def test_letters_decide_and_change_the_photo(qtbot, tab):
    press_key(qtbot, tab, Qt.Key.Key_W)
    assert name(tab) == "photo_1.png"
    assert tab.counts.text() == "<b>1 of 3</b> reviewed"
    press_key(qtbot, tab, Qt.Key.Key_N, SHIFT)
    assert name(tab) == "photo_0.png"
    press_key(qtbot, tab, Qt.Key.Key_N)
    press_key(qtbot, tab, Qt.Key.Key_Q)
    assert name(tab) == "photo_2.png"
    assert tab.counts.text() == "<b>2 of 3</b> reviewed"
    press_key(qtbot, tab, Qt.Key.Key_W, SHIFT)
    assert name(tab) == "photo_1.png"
    assert tab.counts.text() == "<b>1 of 3</b> reviewed"
    press_key(qtbot, tab, Qt.Key.Key_J, SHIFT)
    assert name(tab) == "photo_2.png"


def test_the_note_of_an_issue_takes_letters_until_enter_or_escape(qtbot, tab):
    press_key(qtbot, tab, Qt.Key.Key_U)
    assert tab.note.isVisible()
    qtbot.keyClicks(tab.note, "wqn blurred")  # not decisions
    assert name(tab) == "photo_0.png"
    qtbot.keyClick(tab.note, Qt.Key.Key_Return)
    settle(qtbot, tab)
    assert name(tab) == "photo_1.png"
    assert not tab.note.isVisible()
    assert tab.photos.list[tab.photos.list.shown[0]].note == "wqn blurred"
    press_key(qtbot, tab, Qt.Key.Key_U)
    qtbot.keyClick(tab.note, Qt.Key.Key_Escape)
    assert not tab.note.isVisible()
    assert name(tab) == "photo_1.png"


def test_h_hides_while_pressed_and_a_short_press_switches(qtbot, tab):
    layer = tab.navigator.current.labels

    def hold(seconds):
        qtbot.keyPress(tab._close_guard.window, Qt.Key.Key_H)
        assert not layer.visible
        tab.navigator.display._pressed_at = time.monotonic() - seconds
        qtbot.keyRelease(tab._close_guard.window, Qt.Key.Key_H)
        return layer.visible

    assert hold(10)
    assert not hold(-10)  # a short press, on a machine of any speed
    assert hold(-10)


def test_g_changes_the_display_mode_and_shows_the_difference(qtbot, tab):
    layer = tab.navigator.current.labels
    model = tab.navigator.current.mask()
    layer.brush_size = 6
    layer.paint((10, 10), 1)
    layer.paint((60, 60), 0)
    press_key(qtbot, tab, Qt.Key.Key_G)
    assert layer.contour == 0
    assert tab.display_modes["filled"].isChecked()
    press_key(qtbot, tab, Qt.Key.Key_G)
    assert layer.contour > 0
    assert tab.display_modes["difference"].isChecked()
    comparison = tab._viewer.layers["· model"]
    np.testing.assert_array_equal(comparison.data == 2, tab.navigator.current.mask() & ~model)
    np.testing.assert_array_equal(comparison.data == 3, model & ~tab.navigator.current.mask())
    assert comparison.data[10, 10] == 2
    assert comparison.data[60, 60] == 3
    assert tab._viewer.layers.selection.active == layer
    assert tab._viewer.layers.index(comparison) < tab._viewer.layers.index(layer)
    layer.undo()
    qtbot.waitUntil(lambda: comparison.data[60, 60] == 0, timeout=60_000)
    press_key(qtbot, tab, Qt.Key.Key_G)
    assert not comparison.visible
    assert tab.display_modes["outline"].isChecked()


def test_j_restores_the_prediction_as_one_undoable_step(qtbot, tab):
    layer, model = tab.navigator.current.labels, tab.navigator.current.mask()
    layer.paint((10, 10), 1)
    drawn = tab.navigator.current.mask()
    press_key(qtbot, tab, Qt.Key.Key_J)
    np.testing.assert_array_equal(tab.navigator.current.mask(), model)
    press_key(qtbot, tab, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    np.testing.assert_array_equal(tab.navigator.current.mask(), drawn)


def test_comma_and_period_change_the_brush_size(qtbot, tab):
    layer = tab.navigator.current.labels
    layer.brush_size = 20
    press_key(qtbot, tab, Qt.Key.Key_Period)
    assert layer.brush_size == 25
    press_key(qtbot, tab, Qt.Key.Key_Comma)
    assert layer.brush_size == 20


def test_the_keys_work_only_while_the_tab_is_shown(qtbot, tab):
    tab.widget.tabs.setCurrentIndex(0)
    press_key(qtbot, tab, Qt.Key.Key_W)
    assert name(tab) == "photo_0.png"
    tab.widget.tabs.setCurrentIndex(tab.widget.panels.index(tab))
    press_key(qtbot, tab, Qt.Key.Key_W)
    assert name(tab) == "photo_1.png"
    before = dict(tab._viewer.keymap)
    tab.close_project()
    settle(qtbot, tab)
    assert len(before) == len(KEYS)
    assert not tab._viewer.keymap


def test_the_keys_work_with_any_active_layer(qtbot, tab):
    tab._viewer.layers.selection.active = tab.navigator.current.image
    press_key(qtbot, tab, Qt.Key.Key_W)
    assert name(tab) == "photo_1.png"


def test_no_key_is_used_by_napari():
    from napari.utils.action_manager import action_manager

    taken = {str(coerce_keybinding(key)) for keys in action_manager._shortcuts.values() for key in keys}
    for provider in (ViewerModel, Labels, Image, Shapes, Points):
        taken |= {str(key) for key in provider.class_keymap}
    assert not taken & {str(coerce_keybinding(key.binding)) for key in KEYS}


@pytest.fixture
def preferences(plugin_settings, npe2pm):
    npe2pm.register(PluginManifest.from_distribution("napari-skinseg"))
    return get_plugin_settings("napari-skinseg").review


def test_every_key_is_a_preference_with_the_same_default(preferences):
    assert {key.action: key.binding for key in KEYS} == dict(preferences)
    assert review_keys.preferred_keys() == {key.action: key for key in KEYS}


def test_a_preferred_key_is_used_and_an_invalid_one_is_ignored(preferences):
    preferences.accept, preferences.skip = "Shift-K", "no key at all"
    keys = review_keys.preferred_keys()
    assert keys["accept"].binding == "Shift-K"
    assert keys["skip"].binding == "Q"
    assert "<b>⇧K</b>&nbsp;accept" in review_keys.key_list(keys.values())
    pressed = []
    layer = Labels(np.zeros((4, 4), int))
    actions = dict.fromkeys(keys, lambda: pressed.append(True))
    bindings = review_keys.KeyBindings(keys, actions, lambda down: None)
    bindings.bind(layer)
    layer.keymap[coerce_keybinding("Shift-K")](layer)
    assert pressed
    bindings.release()
    assert not layer.keymap


def test_the_key_list_names_every_key():
    text = review_keys.key_list(KEYS)
    assert all(f"<b>{key.text}</b>" in text for key in KEYS)
