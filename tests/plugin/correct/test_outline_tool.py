"""The Outline tool in a real window: a drag of a corner changes the mask, and every way out keeps it."""

import time

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_skinseg.plugin.correct.outline_tool import OutlineTool
from napari_skinseg.plugin.layers import photo_from_layer
from napari_skinseg.plugin.mask_layers import show_mask
from napari_skinseg.plugin.session import Session

LEFT = Qt.MouseButton.LeftButton
CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


def start(window):
    window.press_key(Qt.Key.Key_O, SHIFT)
    tool = window.tool.outline
    assert tool.isChecked(), window.tool.message.text()
    window.qtbot.waitUntil(lambda: tool.is_ready, timeout=60_000)
    return tool, window.viewer.layers["· outline"]


def drag_corner(window, by=(-12, 0)):
    """Drag the uppermost corner; return where it was."""
    shapes = window.viewer.layers["· outline"]
    corners = np.array(shapes.data[0])
    corner = corners[corners[:, 0].argmin()]
    window.drag(corner, corner + np.array(by))
    window.qtbot.waitUntil(lambda: window.tool.outline.is_ready, timeout=60_000)
    return corner


def test_dragging_a_corner_changes_the_mask_there_as_one_step_and_undo_restores_both(window):
    mask = window.mask
    before = mask.data.copy()
    _, shapes = start(window)
    assert 6 <= len(shapes.data[0]) <= 40
    np.testing.assert_array_equal(mask.data, before)
    first = np.array(shapes.data[0])
    corner = drag_corner(window)
    after = mask.data.copy()
    changed = after != before
    assert after[round(corner[0]) - 6, round(corner[1])] == 1
    assert changed.any()
    assert not changed[round(corner[0]) + 20 :].any(), "the rest of the outline keeps every pixel"
    window.press_key(Qt.Key.Key_Z, CTRL)
    np.testing.assert_array_equal(mask.data, before)
    np.testing.assert_allclose(shapes.data[0], first)
    window.press_key(Qt.Key.Key_Z, CTRL | SHIFT)
    np.testing.assert_array_equal(mask.data, after)
    assert not np.allclose(shapes.data[0], first)


def test_a_polygon_that_is_not_finished_disturbs_nothing(window):
    mask = window.mask
    _, shapes = start(window)
    before, number = mask.data.copy(), len(shapes.data)
    window.press_key(Qt.Key.Key_P)
    assert shapes.mode == "add_polygon"
    window.click((10, 10))
    window.press_key(Qt.Key.Key_Escape)
    assert (len(shapes.data), len(shapes.features)) == (number, number + 1), "napari keeps the row of the polygon"
    np.testing.assert_array_equal(mask.data, before)
    shapes.mode = "direct"
    shapes.selected_data = set(range(number))
    drag_corner(window)
    assert not np.array_equal(mask.data, before)


def test_the_tool_is_left_with_an_unfinished_polygon(window):
    mask = window.mask
    tool, _ = start(window)
    before = mask.data.copy()
    window.press_key(Qt.Key.Key_P)
    for corner in ((10, 10), (10, 40), (40, 40)):
        window.click(corner)
    tool.switch(False)
    assert "· outline" not in window.viewer.layers or not window.viewer.layers["· outline"].data
    assert mask.data.sum() >= before.sum()
    start(window)
    drag_corner(window)


def test_undo_of_a_hidden_mask_restores_the_corners_too(window):
    mask = window.mask
    before = mask.data.copy()
    _, shapes = start(window)
    first = np.array(shapes.data[0])
    drag_corner(window)
    mask.visible = False
    window.press_key(Qt.Key.Key_Z, CTRL)
    window.qtbot.waitUntil(lambda: window.tool.outline.is_ready, timeout=60_000)
    np.testing.assert_array_equal(mask.data, before)
    np.testing.assert_allclose(shapes.data[0], first)


@pytest.mark.parametrize(
    "leave",
    [
        lambda window: window.press_key(Qt.Key.Key_O, SHIFT),
        lambda window: setattr(window.viewer.layers.selection, "active", window.viewer.layers["arm"]),
        lambda window: window.press_key(Qt.Key.Key_K),
        lambda window: window.widget.tabs.setCurrentIndex(1),
        lambda window: window.viewer.layers.remove("· outline"),
        lambda window: window.viewer.layers.remove("arm"),
    ],
    ids=["key", "layer", "refine", "tab", "removed", "photo"],
)
def test_every_way_to_leave_keeps_the_edited_mask(window, leave):
    mask = window.mask
    tool, _ = start(window)
    drag_corner(window)
    after = mask.data.copy()
    leave(window)
    window.settle()
    assert not tool.isChecked()
    np.testing.assert_array_equal(mask.data, after)
    assert all(len(layer.data) == 0 for layer in window.viewer.layers if layer.name == "· outline")
    window.widget.tabs.setCurrentIndex(0)


def test_holes_and_pieces_are_polygons_of_their_own_and_other_labels_stay(window):
    mask = window.mask
    mask.data[50:70, 70:90] = 0
    mask.data[10:30, 10:40] = 1
    mask.data[100:115, 100:150] = 3
    mask.refresh()
    before = mask.data.copy()
    _, shapes = start(window)
    assert list(shapes.features["is_hole"]) == [False, True, False] or sorted(shapes.features["is_hole"]) == [
        False,
        False,
        True,
    ]
    shapes.selected_data = {int(np.flatnonzero(shapes.features["is_hole"])[0])}
    shapes.remove_selected()  # napari's Delete key
    window.qtbot.waitUntil(lambda: window.tool.outline.is_ready, timeout=60_000)
    assert mask.data[60, 80] == 1, "without its outline, the hole is filled"
    np.testing.assert_array_equal(mask.data[before == 3], 3)
    assert (mask.data[10:30, 10:40] == 1).all()


def test_a_change_by_another_tool_is_shown_in_the_outline(window):
    mask = window.mask
    _, shapes = start(window)
    number = len(shapes.data)
    mask.brush_size = 12
    mask.paint((100, 20), 1)
    window.qtbot.waitUntil(lambda: window.tool.outline.is_ready, timeout=60_000)
    window.settle()
    assert len(shapes.data) == number + 1


def test_without_a_photo_a_message_says_so(window):
    window.viewer.layers.clear()
    window.press_key(Qt.Key.Key_O, SHIFT)
    assert "There is no photo" in window.tool.message.text()
    assert not window.tool.outline.isChecked()


def test_a_moved_corner_on_twelve_megapixels_is_written_within_the_limit(qtbot):
    viewer = ViewerModel()
    viewer.layers.append(Image(np.full((3000, 4000, 3), 200, np.uint8), rgb=True, name="large"))
    rows, columns = np.ogrid[:3000, :4000]
    photo = photo_from_layer(viewer.layers["large"], viewer.dims.point)
    mask, _ = show_mask(viewer.layers, photo, (rows - 1500) ** 2 + (columns - 2000) ** 2 <= 900**2, {})
    messages = []
    tool = OutlineTool(Session(viewer), lambda: (photo, mask), lambda *text, **kind: messages.append(text))
    qtbot.addWidget(tool)
    tool.switch(True)
    qtbot.waitUntil(lambda: tool.is_ready, timeout=60_000)
    before = mask.data.copy()
    shapes = viewer.layers["· outline"]
    corners = np.array(shapes.data[0])
    corners[corners[:, 0].argmin()] -= (60, 0)
    with shapes.events.data.blocker():
        shapes.data = [corners]
    start = time.thread_time()  # of the GUI thread, on a computer of any load
    tool.apply()
    assert time.thread_time() - start < 0.15
    assert np.count_nonzero(mask.data != before) > 1000
    mask.undo()
    np.testing.assert_array_equal(mask.data, before)
    tool.switch(False)
    tool._session.close()
    QApplication.processEvents()
