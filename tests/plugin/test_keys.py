"""The keys of review act on the photo in hand, in a window that is on the screen, and only while the tab is seen."""

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
def tab(make_napari_viewer, qtbot, tmp_path, spot) -> Iterator[object]:
    """The Review tab in a window on the screen, three photos open."""
    for number in range(3):
        PillowImage.fromarray(spot(60, 60 + 10 * number, 30, (120, 160))[0]).save(tmp_path / f"photo_{number}.png")
    viewer = make_napari_viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-skinseg")
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
        walk = panel.walk
        busy = (
            panel._session.background.is_busy
            or walk.writes.is_busy
            or walk.saver._timer.isActive()
            or walk._soon.isActive()
        )
        return not busy and not walk._is_leaving and panel._job is None

    for _ in range(3):
        QApplication.processEvents()
        qtbot.waitUntil(is_settled, timeout=60_000)


def strike(qtbot, panel, key, modifiers=Qt.KeyboardModifier.NoModifier):
    """A key as it comes from the keyboard to the window, which hands it on to the viewer."""
    qtbot.keyClick(panel._door.window, key, modifiers)
    settle(qtbot, panel)


def name(panel):
    return panel.walk.desk.photo.name


def test_letters_decide_and_walk(qtbot, tab):
    strike(qtbot, tab, Qt.Key.Key_W)
    assert name(tab) == "photo_1.png"
    assert tab.counts.text() == "<b>1 of 3</b> reviewed"
    strike(qtbot, tab, Qt.Key.Key_N, SHIFT)
    assert name(tab) == "photo_0.png"
    strike(qtbot, tab, Qt.Key.Key_N)
    strike(qtbot, tab, Qt.Key.Key_Q)
    assert name(tab) == "photo_2.png"
    assert tab.counts.text() == "<b>2 of 3</b> reviewed"
    strike(qtbot, tab, Qt.Key.Key_W, SHIFT)
    assert name(tab) == "photo_1.png"
    assert tab.counts.text() == "<b>1 of 3</b> reviewed"
    strike(qtbot, tab, Qt.Key.Key_J, SHIFT)
    assert name(tab) == "photo_2.png"


def test_an_issue_takes_its_note_from_the_keyboard_and_gives_the_keys_back(qtbot, tab):
    strike(qtbot, tab, Qt.Key.Key_U)
    assert tab.note.isVisible()
    qtbot.keyClicks(tab.note, "wqn blurred")  # letters, not decisions
    assert name(tab) == "photo_0.png"
    qtbot.keyClick(tab.note, Qt.Key.Key_Return)
    settle(qtbot, tab)
    assert name(tab) == "photo_1.png"
    assert not tab.note.isVisible()
    assert tab.photos.list[tab.photos.list.shown[0]].note == "wqn blurred"
    strike(qtbot, tab, Qt.Key.Key_U)
    qtbot.keyClick(tab.note, Qt.Key.Key_Escape)
    assert not tab.note.isVisible()
    assert name(tab) == "photo_1.png"


def test_h_hides_while_held_and_a_tap_hides_until_the_next(qtbot, tab):
    layer = tab.walk.desk.labels

    def hold(seconds):
        qtbot.keyPress(tab._door.window, Qt.Key.Key_H)
        assert not layer.visible
        tab.walk.look._held_since = time.monotonic() - seconds
        qtbot.keyRelease(tab._door.window, Qt.Key.Key_H)
        return layer.visible

    assert hold(10)
    assert not hold(-10)  # quicker than any machine, so that none is too slow for a tap
    assert hold(-10)


def test_g_goes_through_the_looks_and_shows_what_was_changed(qtbot, tab):
    layer = tab.walk.desk.labels
    model = tab.walk.desk.mask()
    layer.brush_size = 6
    layer.paint((10, 10), 1)
    layer.paint((60, 60), 0)
    strike(qtbot, tab, Qt.Key.Key_G)
    assert layer.contour == 0
    assert tab.look["filled"].isChecked()
    strike(qtbot, tab, Qt.Key.Key_G)
    assert layer.contour > 0
    assert tab.look["difference"].isChecked()
    beneath = tab._viewer.layers["· model"]
    np.testing.assert_array_equal(beneath.data == 2, tab.walk.desk.mask() & ~model)
    np.testing.assert_array_equal(beneath.data == 3, model & ~tab.walk.desk.mask())
    assert beneath.data[10, 10] == 2
    assert beneath.data[60, 60] == 3
    assert tab._viewer.layers.selection.active == layer
    assert tab._viewer.layers.index(beneath) < tab._viewer.layers.index(layer)
    layer.undo()
    qtbot.waitUntil(lambda: beneath.data[60, 60] == 0, timeout=60_000)
    strike(qtbot, tab, Qt.Key.Key_G)
    assert not beneath.visible
    assert tab.look["outline"].isChecked()


def test_j_brings_the_models_mask_back_as_one_step(qtbot, tab):
    layer, model = tab.walk.desk.labels, tab.walk.desk.mask()
    layer.paint((10, 10), 1)
    drawn = tab.walk.desk.mask()
    strike(qtbot, tab, Qt.Key.Key_J)
    np.testing.assert_array_equal(tab.walk.desk.mask(), model)
    strike(qtbot, tab, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    np.testing.assert_array_equal(tab.walk.desk.mask(), drawn)


def test_comma_and_period_change_the_brush(qtbot, tab):
    layer = tab.walk.desk.labels
    layer.brush_size = 20
    strike(qtbot, tab, Qt.Key.Key_Period)
    assert layer.brush_size == 25
    strike(qtbot, tab, Qt.Key.Key_Comma)
    assert layer.brush_size == 20


def test_the_keys_hold_only_while_the_tab_is_seen(qtbot, tab):
    tab.widget.tabs.setCurrentIndex(0)
    strike(qtbot, tab, Qt.Key.Key_W)
    assert name(tab) == "photo_0.png"
    tab.widget.tabs.setCurrentIndex(tab.widget.panels.index(tab))
    strike(qtbot, tab, Qt.Key.Key_W)
    assert name(tab) == "photo_1.png"
    before = dict(tab._viewer.keymap)
    tab.close_project()
    settle(qtbot, tab)
    assert len(before) == len(KEYS)
    assert not tab._viewer.keymap


def test_the_keys_act_whichever_layer_is_chosen(qtbot, tab):
    tab._viewer.layers.selection.active = tab.walk.desk.image
    strike(qtbot, tab, Qt.Key.Key_W)
    assert name(tab) == "photo_1.png"


def test_no_key_is_a_default_of_napari():
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
    assert {key.preference: key.binding for key in KEYS} == dict(preferences)
    assert review_keys.chosen() == {key.action: key for key in KEYS}


def test_a_key_can_be_chosen_and_what_is_none_stays_ours(preferences):
    preferences.accept, preferences.skip = "Shift-K", "no key at all"
    keys = review_keys.chosen()
    assert keys["accept"].binding == "Shift-K"
    assert keys["skip"].binding == "Q"
    assert "<b>⇧K</b>&nbsp;accept" in review_keys.strip(keys.values())
    pressed = []
    layer = Labels(np.zeros((4, 4), int))
    actions = dict.fromkeys(keys, lambda: pressed.append(True))
    bindings = review_keys.Bindings(keys, actions, lambda down: None)
    bindings.bind(layer)
    layer.keymap[coerce_keybinding("Shift-K")](layer)
    assert pressed
    bindings.release()
    assert not layer.keymap


def test_the_strip_names_every_key():
    strip = review_keys.strip(KEYS)
    assert all(f"<b>{key.shown}</b>" in strip for key in KEYS)
