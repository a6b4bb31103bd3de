"""Refine in a real window, with real clicks, drags and keys: the mask, the markers, undo, and every way to leave."""

import gc
import time
from unittest.mock import patch

import numpy as np
import pytest
from napari.layers import Labels
from napari.utils.key_bindings import coerce_keybinding
from PIL import Image as PillowImage
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_skinseg.models.click_channels import Click
from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.pixels.metrics import jaccard
from napari_skinseg.plugin.correct.refine_tool import RefineTool
from napari_skinseg.plugin.keys import preferred_keys
from napari_skinseg.project.project import Project
from napari_skinseg.segmentation.segmenter import Segmenter

SHAPE = (120, 160)
LEFT, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton
CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
NONE = Qt.KeyboardModifier.NoModifier
SKIN, CORNER, MIDDLE = (20, 20), (100, 140), (60, 80)
"""Places of a photo of a spot in the middle: two on bare ground, one in the spot."""


def traces(window):
    """Return what Refine left in the viewer."""
    viewer, tool = window.viewer, window.tool
    found = ["on"] * tool.is_on
    found += ["markers"] * any(len(layer.data) for layer in viewer.layers if layer.name == "· clicks")
    found += ["no zoom"] * (len(viewer.mouse_double_click_callbacks) != 1)
    for mask in (layer for layer in viewer.layers if isinstance(layer, Labels)):
        found += ["double click"] * (tool._on_second_press in mask.mouse_double_click_callbacks)
        found += ["click"] * (tool._on_press in mask.mouse_drag_callbacks)
        undo = mask.keymap.get(coerce_keybinding("Control-Z"))
        found += ["undo"] * (getattr(undo, "__module__", "") == RefineTool.__module__)
    return found


# --- clicks ----------------------------------------------------------------------------------------------------------


def test_left_clicks_add_right_and_shift_clicks_remove_and_each_is_one_undoable_step(window):
    mask = window.mask
    before = mask.data.copy()
    assert before[MIDDLE] == 1
    assert before[SKIN] == 0
    window.refine()
    states = []
    for place, button, modifier in (
        (SKIN, LEFT, NONE),
        (MIDDLE, RIGHT, NONE),
        (MIDDLE, LEFT, NONE),
        (SKIN, LEFT, SHIFT),
    ):
        states.append(mask.data.copy())
        window.click(place, button, modifier)
        assert mask.data[place] == (button == LEFT and modifier == NONE)
    assert window.markers == [(*SKIN, True), (*MIDDLE, False), (*MIDDLE, True), (*SKIN, False)]
    assert window.tool.state.text().startswith("Left: +")
    for number, state in reversed(list(enumerate(states))):
        window.press_key(Qt.Key.Key_Z, CTRL)
        np.testing.assert_array_equal(mask.data, state)
        assert len(window.markers) == number
    np.testing.assert_array_equal(mask.data, before)


def test_the_mask_equals_that_of_the_segmenter_for_all_clicks(window):
    mask, segmenter = window.mask, Segmenter("spot-finder", "auto")
    photo, options = window.viewer.layers["arm"].data, window.segment.options.value()
    window.refine()
    mask.brush_size = 9
    mask.paint((100, 20), 1)
    painted = mask.data == 1
    window.click(CORNER)
    first = Click(*window.tool._refinement.answered[0].__dict__.values())
    expected = segmenter.refine(photo, [first], painted, options).mask
    np.testing.assert_array_equal(mask.data == 1, expected)
    window.click(SKIN)
    expected = segmenter.refine(photo, window.tool._refinement.answered, expected, options).mask
    np.testing.assert_array_equal(mask.data == 1, expected)


def test_other_labels_stay_as_they_are(window):
    mask = window.mask
    mask.data[10:14, 100:110] = 3
    window.refine()
    window.click((12, 120))
    window.click((12, 95))
    assert np.count_nonzero(mask.data == 3) == 40
    assert mask.data[12, 120] == 1


def test_a_drag_moves_the_photo_and_is_no_click(window):
    window.refine()
    before, centre = window.mask.data.copy(), window.viewer.scene.camera.center
    window.click(SKIN, by=(40, 0))
    assert window.markers == []
    window.qtbot.waitUntil(lambda: window.viewer.scene.camera.center != centre, timeout=60_000)
    np.testing.assert_array_equal(window.mask.data, before)
    window.click(SKIN, by=(2, 1))
    assert len(window.markers) == 1
    assert window.mask.data[SKIN] == 1


def test_many_quick_clicks_are_answered_in_their_order_and_none_is_lost(window):
    mask = window.mask
    window.refine()
    seen = []
    mask.events.paint.connect(lambda: seen.append(mask.data.copy()))
    places = [(20, 20), (20, 60), (100, 20), (100, 140), (20, 140)]
    for place in places:
        window.click(place, wait=False)
    assert "Computing" in window.tool.state.text()
    assert window.markers == [(*place, True) for place in places], "shown at once"
    window.settle()
    assert [click.include for click in window.tool._refinement.answered] == [True] * 5
    assert all(mask.data[place] == 1 for place in places)
    assert len(seen) == 5
    for number, place in enumerate(places):
        assert seen[number][place] == 1


def test_the_second_of_a_double_click_counts_and_does_not_zoom(window):
    window.refine()
    zoom, at = window.viewer.scene.camera.zoom, window.on_screen(SKIN)
    window.click(SKIN, wait=False)
    window.qtbot.mouseDClick(window.canvas, LEFT, NONE, at)
    window.settle()
    assert len(window.markers) == 2
    assert window.viewer.scene.camera.zoom == zoom
    window.press_key(Qt.Key.Key_K)
    window.qtbot.mouseDClick(window.canvas, LEFT, NONE, at)
    assert window.viewer.scene.camera.zoom > zoom


def test_a_click_outside_the_photo_is_refused_with_a_sentence(window):
    window.refine()
    before = window.mask.data.copy()
    window.click((-8, 80))
    assert "outside the photo" in window.tool.message.text()
    assert window.markers == []
    np.testing.assert_array_equal(window.mask.data, before)
    window.click(SKIN)
    assert not window.tool.message.text()


def test_without_a_mask_the_first_click_makes_one(window):
    window.viewer.layers.remove(window.mask)
    window.refine()
    assert not window.mask.data.any()
    window.click(MIDDLE)
    assert window.mask.data[MIDDLE] == 1
    window.press_key(Qt.Key.Key_Z, CTRL)
    assert not window.mask.data.any()


def test_markers_lie_at_their_pixels_of_a_rotated_and_scaled_photo(window):
    photo = window.viewer.layers["arm"]
    window.viewer.layers.remove(window.mask)
    photo.scale, photo.rotate, photo.translate = (0.5, 0.5), 30, (7, 9)
    window.viewer.reset_view()
    window.refine()
    window.click(SKIN)
    assert window.mask.data[SKIN] == 1
    (marker,) = window.markers
    # A pixel of the screen is larger than a pixel of the photo.
    assert np.abs(np.subtract(marker[:2], SKIN)).max() <= 1
    markers = window.viewer.layers["· clicks"]
    np.testing.assert_allclose(markers.data_to_world(SKIN), photo.data_to_world(SKIN))


def test_in_a_stack_clicks_change_the_visible_plane(window, spot):
    window.viewer.layers.clear()
    stack = np.stack([spot(60, 60 + 10 * number, 25, SHAPE)[0] for number in range(3)])
    window.viewer.add_image(stack, rgb=True, name="stack")
    window.viewer.dims.set_point(0, 1)
    window.refine()
    window.click((1, *SKIN))
    assert window.mask.data[1][SKIN] == 1
    assert not window.mask.data[[0, 2]].any()
    window.viewer.dims.set_point(0, 2)
    window.settle()
    assert traces(window) == []


def test_a_marker_has_the_same_size_on_a_dense_screen(window, monkeypatch):
    window.refine()
    (usual,) = (layer.canvas_size_limits[1] for layer in window.viewer.layers if layer.name == "· clicks")
    window.press_key(Qt.Key.Key_K)
    window.viewer.layers.remove("· clicks")
    monkeypatch.setattr(QApplication, "devicePixelRatio", lambda application: 2.0)
    window.refine()
    assert window.viewer.layers["· clicks"].canvas_size_limits[1] == 2 * usual


def test_a_marker_is_visible_until_its_click_is_undone(window):
    window.refine()

    def at(place):
        picture, spot = window.canvas.grabFramebuffer(), window.on_screen(place)
        return picture.pixelColor(spot).getRgb()[:3]

    bare = at(SKIN)
    window.click(SKIN)
    red, green, blue = at(SKIN)
    assert green > 200
    assert max(red, blue) < 80
    window.press_key(Qt.Key.Key_Z, CTRL)
    assert at(SKIN) == bare


# --- undo and redo ---------------------------------------------------------------------------------------------------


def test_clicks_and_strokes_are_undone_and_redone_in_one_order_with_their_markers(window):
    mask = window.mask
    mask.brush_size = 5
    mask.paint((100, 20), 1)
    window.refine()
    window.click(SKIN)
    mask.paint((100, 60), 1)
    window.click(CORNER)
    seen = []
    for _ in range(4):
        seen.append((mask.data.copy(), len(window.markers)))
        window.press_key(Qt.Key.Key_Z, CTRL)
    assert [number for _, number in seen] == [2, 1, 1, 0]
    assert mask.data[100, 20] == 0, "a stroke from before goes too"
    for state, number in reversed(seen):
        window.press_key(Qt.Key.Key_Z, CTRL | SHIFT)
        np.testing.assert_array_equal(mask.data, state)
        assert len(window.markers) == number
    window.press_key(Qt.Key.Key_Z, CTRL | SHIFT)
    assert len(window.markers) == 2


def test_a_click_without_a_change_can_be_undone(window):
    mask = window.mask
    window.refine()
    window.click(SKIN)
    first = mask.data.copy()
    window.tool._refinement.pending.append(Click(*SKIN))
    window.tool._refinement.write_answer([])  # as when the model sees it like that already
    assert len(window.markers) == 2
    window.press_key(Qt.Key.Key_Z, CTRL)
    assert len(window.markers) == 1
    np.testing.assert_array_equal(mask.data, first)
    window.press_key(Qt.Key.Key_Z, CTRL)
    assert window.markers == []
    assert mask.data[SKIN] == 0
    for number in (1, 2, 2):
        window.press_key(Qt.Key.Key_Z, CTRL | SHIFT)
        assert len(window.markers) == number
    np.testing.assert_array_equal(mask.data, first)


def test_a_click_undone_before_its_answer_can_be_redone(window):
    before = window.mask.data.copy()
    window.refine()
    window.click(SKIN, wait=False)
    window.press_key(Qt.Key.Key_Z, CTRL, wait=False)
    window.settle()
    assert window.markers == []
    np.testing.assert_array_equal(window.mask.data, before)
    window.press_key(Qt.Key.Key_Z, CTRL | SHIFT)
    assert len(window.markers) == 1
    assert window.mask.data[SKIN] == 1


def test_a_stroke_before_the_answer_stays_and_the_click_is_answered(window):
    mask = window.mask
    photo, options = window.viewer.layers["arm"].data, window.segment.options.value()
    window.refine()
    mask.brush_size = 5
    window.click(SKIN, wait=False)
    mask.paint(CORNER, 1)
    painted = mask.data == 1
    window.settle()
    (click,) = window.tool._refinement.answered
    expected = Segmenter("spot-finder", "auto").refine(photo, [click], painted, options).mask
    np.testing.assert_array_equal(mask.data == 1, expected)
    window.press_key(Qt.Key.Key_Z, CTRL)
    np.testing.assert_array_equal(mask.data == 1, painted)


def test_a_new_mask_of_the_model_starts_without_markers(window):
    window.refine()
    window.click(SKIN)
    window.press_key(Qt.Key.Key_Z, CTRL)
    window.segment.segment_selected()
    window.settle()
    assert window.tool.is_on
    assert window.markers == []
    window.click(CORNER)
    assert window.mask.data[CORNER] == 1


# --- several lesions -------------------------------------------------------------------------------------------------


def test_clicks_boxes_and_buttons_act_on_the_selected_label(window):
    mask = window.mask
    first = mask.data == 1
    mask.selected_label = 2
    window.refine()
    window.click(SKIN)
    assert mask.data[SKIN] == 2
    np.testing.assert_array_equal(mask.data == 1, first)
    mask.selected_label = 1
    window.settle()
    assert window.tool.is_on
    assert window.markers == [], "the clicks on another lesion do not count"
    window.click(CORNER)
    assert mask.data[CORNER] == 1
    assert mask.data[SKIN] == 2


# --- box -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end"),
    [((25, 45), (95, 115)), ((95, 115), (25, 45)), ((95, 45), (25, 115)), ((25, 115), (95, 45))],
    ids=["down right", "up left", "up right", "down left"],
)
def test_a_box_in_any_direction_outlines_the_lesion_in_it(window, spot, start, end):
    window.viewer.layers.remove(window.mask)
    window.press_key(Qt.Key.Key_K, SHIFT)
    assert window.tool.is_on
    assert "Drag a box" in window.tool.state.text()
    centre = window.viewer.scene.camera.center
    window.drag(start, end)
    assert window.viewer.scene.camera.center == centre, "the box does not move the photo"
    assert jaccard(window.mask.data == 1, spot(*MIDDLE, 30, SHAPE)[1]) > 0.8
    assert not window.tool.box_button.isChecked(), "the next drag moves the photo again"
    assert len(window.markers) > 50, "the box is shown as a dotted line"
    window.press_key(Qt.Key.Key_Z, CTRL)
    assert not window.mask.data.any()
    assert window.markers == []
    window.press_key(Qt.Key.Key_Z, CTRL | SHIFT)
    assert window.mask.data.any()


def test_a_box_replaces_a_wrong_mask_and_clicks_refine_it_further(window, spot):
    mask = window.mask
    mask.data_setitem(np.nonzero(np.ones(SHAPE, bool)), 1)
    window.settle()
    window.qtbot.mouseClick(window.tool.box_button, LEFT)
    window.settle()
    window.drag((25, 45), (95, 115))
    boxed = mask.data == 1
    assert jaccard(boxed, spot(*MIDDLE, 30, SHAPE)[1]) > 0.8
    window.click(CORNER)
    assert mask.data[CORNER] == 1, "a click outside the box counts"
    assert [type(prompt).__name__ for prompt in window.tool._refinement.answered] == ["Box", "Click"]
    window.press_key(Qt.Key.Key_Z, CTRL)
    np.testing.assert_array_equal(mask.data == 1, boxed)


def test_a_box_partly_outside_the_photo_is_cut_at_its_edge(window):
    window.refine()
    window.press_key(Qt.Key.Key_K, SHIFT)
    window.drag((-8, 45), (95, 115))
    assert len(window.tool._refinement.answered) == 1
    assert window.mask.data[MIDDLE] == 1


def test_a_tiny_box_is_refused_with_a_sentence_and_the_next_drag_is_a_box(window):
    before = window.mask.data.copy()
    window.press_key(Qt.Key.Key_K, SHIFT)
    window.drag((60, 80), (61, 81))
    assert "too small" in window.tool.message.text()
    np.testing.assert_array_equal(window.mask.data, before)
    assert window.markers == []
    window.drag((25, 45), (95, 115))
    assert not window.tool.message.text()
    assert len(window.tool._refinement.answered) == 1


def test_leaving_before_the_box_is_dragged_lets_a_drag_move_the_photo(window):
    window.mask.mode = "pan_zoom"
    window.press_key(Qt.Key.Key_K, SHIFT)
    assert not window.mask.mouse_pan
    window.press_key(Qt.Key.Key_K)
    assert not window.tool.is_on
    assert not window.tool.box_button.isChecked()
    assert window.mask.mouse_pan


# --- leaving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "leave",
    [
        lambda window: window.press_key(Qt.Key.Key_K, wait=False),
        lambda window: window.press_key(Qt.Key.Key_P, wait=False),
        lambda window: setattr(window.viewer.layers.selection, "active", window.viewer.layers["arm"]),
        lambda window: window.viewer.layers.remove(window.mask),
        lambda window: window.viewer.layers.remove("· clicks"),
        lambda window: window.viewer.layers.remove("arm"),
        lambda window: window.viewer.layers.clear(),
        lambda window: window.widget.tabs.setCurrentIndex(1),
        lambda window: window.segment.refine.use_model(""),
    ],
    ids=["key", "brush", "layer", "no mask", "no markers", "no photo", "nothing", "tab", "no model"],
)
def test_every_way_to_leave_refine_leaves_nothing_behind(window, leave):
    mask, before = window.mask, window.mask.data.copy()
    window.refine()
    window.click(SKIN, wait=False)
    leave(window)
    window.settle()
    window.widget.tabs.setCurrentIndex(0)
    assert traces(window) == []
    np.testing.assert_array_equal(mask.data, before)


def test_the_card_describes_the_present_mask_after_a_click_and_its_undo(window):
    card = window.segment.card
    window.refine()
    before = card.verdict.text()
    assert "expected overlap" in before
    window.click(SKIN)
    assert "Changed by hand" in card.verdict.text()
    window.press_key(Qt.Key.Key_Z, CTRL)
    assert card.verdict.text() == before


def test_leaving_refine_restores_the_previous_tool(window):
    window.mask.mode = "erase"
    window.refine()
    assert window.mask.mode == "pan_zoom"
    window.press_key(Qt.Key.Key_K)
    assert window.mask.mode == "erase"


def test_the_brush_works_right_after_refine_is_left(window):
    mask = window.mask
    window.refine()
    window.click(SKIN)
    start = time.thread_time()  # of the GUI thread, on a computer of any load
    with patch.object(gc, "collect") as collect:
        window.tool.switch(False)
    assert not collect.called, "napari collects garbage when a layer is removed, for up to a second"
    assert time.thread_time() - start < 0.05
    window.refine()
    window.press_key(Qt.Key.Key_P)
    assert mask.mode == "paint"
    assert traces(window) == []
    before = mask.data.copy()
    window.click(CORNER, by=(10, 0))
    assert mask.data[CORNER] == 1
    assert not np.array_equal(mask.data, before)


def test_closing_the_dock_leaves_nothing_behind(window):
    window.refine()
    window.click(SKIN, wait=False)
    dock = next(iter(window.viewer.window.dock_widgets.values())).parent()
    dock.destroyOnClose()
    QApplication.processEvents()
    window.settle()
    assert traces(window) == []
    assert not window.viewer.keymap


def test_an_error_is_shown_and_the_mask_stays(window):
    window.refine()
    window.mask.data = np.zeros((50, 60), np.uint8)
    window.viewer.layers.selection.active = window.mask
    window.click((10, 10))
    assert "50 pixels" in window.tool.message.text() or "60 x 50" in window.tool.message.text()
    assert window.markers == []
    assert not window.mask.data.any()


def test_a_photo_that_cannot_be_read_is_named(window):
    window.viewer.layers.clear()
    window.viewer.add_image(np.full((*SHAPE, 3), np.nan), rgb=True, name="broken")
    window.press_key(Qt.Key.Key_K)
    assert "broken" in window.tool.message.text()
    assert traces(window) == []


def test_without_a_photo_a_message_says_so(window):
    window.viewer.layers.clear()
    window.press_key(Qt.Key.Key_K)
    assert "There is no photo" in window.tool.message.text()
    assert traces(window) == []


# --- review ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def review_tab(window, tmp_path, spot):
    """The Review tab, three photos open."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        PillowImage.fromarray(spot(60, 60 + 10 * number, 30, SHAPE)[0]).save(folder / f"photo_{number}.png")
    window.viewer.layers.clear()
    window.widget.tabs.setCurrentIndex(1)
    window.review.open_folder(folder)
    window.settle()
    assert window.review.navigator.current.photo.name == "photo_0.png"
    return folder


def stored(folder, name):
    project = Project.open(folder / "skinseg-review", read_only=True)
    try:
        photo = project.find(folder / name)
        return photo.status, read_mask(photo.mask_path, SHAPE) if photo.has_mask else None
    finally:
        project.close()


def test_in_review_refined_masks_are_saved_as_corrections(window, review_tab):
    window.refine()
    window.click(SKIN)
    refined = window.mask.data == 1
    assert stored(review_tab, "photo_0.png")[0] == "corrected"
    np.testing.assert_array_equal(stored(review_tab, "photo_0.png")[1], refined)
    window.press_key(Qt.Key.Key_N)
    assert window.review.navigator.current.photo.name == "photo_1.png"
    assert window.tool.is_on
    assert window.markers == []
    before = window.mask.data.copy()
    window.press_key(Qt.Key.Key_Z, CTRL)
    np.testing.assert_array_equal(window.mask.data, before)
    window.click(CORNER)
    assert window.markers == [(*CORNER, True)]
    assert window.mask.data[CORNER] == 1
    window.press_key(Qt.Key.Key_N, SHIFT)
    assert window.markers == []
    np.testing.assert_array_equal(window.mask.data == 1, refined)


def test_accepting_right_after_a_click_waits_for_its_answer(window, review_tab):
    window.refine()
    window.click(SKIN, wait=False)
    window.press_key(Qt.Key.Key_W)
    assert window.review.navigator.current.photo.name == "photo_1.png"
    assert stored(review_tab, "photo_0.png")[1][SKIN]


def test_the_undo_and_redo_buttons_remove_and_restore_markers(window, review_tab):
    before = window.mask.data.copy()
    window.refine()
    window.click(SKIN)
    window.qtbot.mouseClick(window.review.tools.undo_button, LEFT)
    assert window.markers == []
    np.testing.assert_array_equal(window.mask.data, before)
    window.qtbot.mouseClick(window.review.tools.redo_button, LEFT)
    assert window.markers == [(*SKIN, True)]
    assert window.mask.data[SKIN] == 1


@pytest.mark.slow
def test_hiding_the_mask_hides_the_markers_and_display_modes_keep_refine_on(qtbot, window, review_tab):
    window.refine()
    window.click(SKIN)
    window.press_key(Qt.Key.Key_G)
    window.press_key(Qt.Key.Key_G)
    assert "· model" in window.viewer.layers
    assert window.tool.is_on
    for number in (0, 1):
        qtbot.keyPress(window.main, Qt.Key.Key_H)
        window.review.navigator.display._pressed_at += 60  # a tap, on however slow a machine
        qtbot.keyRelease(window.main, Qt.Key.Key_H)
        window.settle()
        assert len(window.markers) == number


def test_a_photo_of_the_blind_sample_cannot_be_refined(window, review_tab):
    window.review.project.set_blind_sample(1.0)
    window.review.reload_list()
    window.settle()
    window.press_key(Qt.Key.Key_N)
    window.press_key(Qt.Key.Key_K)
    assert not window.tool.is_on
    assert "blind sample" in window.tool.message.text()


def test_closing_the_project_switches_refine_off(window, review_tab):
    window.refine()
    window.click(SKIN)
    window.review.close_project()
    window.settle()
    assert len(window.viewer.layers) == 0
    window.widget.tabs.setCurrentIndex(0)
    assert traces(window) == []
    assert set(map(str, window.viewer.keymap)) == {"K", "Shift+K", "Shift+O"}


# --- key -------------------------------------------------------------------------------------------------------------


def test_the_key_is_in_the_tooltip_and_in_the_key_list(window):
    assert f"({preferred_keys()['refine'].text})" in window.segment.refine.button.toolTip()
    assert "<b>K</b>&nbsp;refine" in window.review.keys_label.text()
