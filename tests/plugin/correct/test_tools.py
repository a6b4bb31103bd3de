"""The tools that change a mask, on real napari layers, with real buttons, workers and undo."""

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication

from napari_skinseg.pixels import cleaning
from napari_skinseg.plugin.correct import mask_edit
from napari_skinseg.plugin.correct.mask_edit import write_tiles
from napari_skinseg.plugin.correct.tools import CorrectTools
from napari_skinseg.plugin.session import Session


def disc(row=60, column=80, radius=30.0, shape=(240, 320)):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def add(viewer, mask, name="arm"):
    """A photo with its mask, as layers."""
    photo = Image(np.full((*mask.shape, 3), 200, np.uint8), rgb=True, name=name)
    labels = Labels(mask.astype(np.uint8), name=f"{name}_segmentation")
    viewer.layers.extend([photo, labels])
    return labels, photo


def press(qtbot, button):
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def settle(qtbot, tools):
    qtbot.waitUntil(lambda: not tools._session.background.is_busy and not tools._is_running, timeout=60_000)


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def tools(qtbot, viewer):
    tools = CorrectTools(Session(viewer))
    qtbot.addWidget(tools)
    yield tools
    tools._session.close()
    QApplication.processEvents()


def ragged():
    """A lesion with a hole, a spike and a second piece."""
    mask = disc() & ~disc(radius=8)
    mask[59:61, 110:130] = True
    mask[5:9, 5:9] = True
    return mask


# --- edits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("button", "change"),
    [
        ("fill_button", cleaning.fill_holes),
        ("smooth_button", cleaning.smooth_border),
        ("largest_button", cleaning.keep_largest),
        ("grow_button", lambda mask: cleaning.grow(mask, 7)),
        ("shrink_button", lambda mask: cleaning.shrink(mask, 7)),
        ("clear_button", np.zeros_like),
    ],
)
def test_each_button_makes_one_undoable_step(qtbot, viewer, tools, button, change):
    labels, photo = add(viewer, ragged())
    tools.set_layer(labels, photo)
    labels.paint((100, 20), 1)
    painted = labels.data.copy()
    seen = []
    labels.events.paint.connect(lambda: seen.append(labels.data.copy()))
    tools.pixels.setValue(7)
    press(qtbot, getattr(tools, button))
    settle(qtbot, tools)
    expected = change(painted == 1)
    np.testing.assert_array_equal(labels.data == 1, expected)
    assert len(seen) == 1, "one event, after the whole change"
    np.testing.assert_array_equal(seen[0], labels.data)
    assert viewer.layers.selection.active is labels
    labels.undo()
    np.testing.assert_array_equal(labels.data, painted)
    labels.redo()
    np.testing.assert_array_equal(labels.data == 1, expected)
    press(qtbot, tools.undo_button)
    press(qtbot, tools.undo_button)
    np.testing.assert_array_equal(labels.data == 1, ragged())
    press(qtbot, tools.redo_button)
    np.testing.assert_array_equal(labels.data, painted)


def test_other_labels_stay(qtbot, viewer, tools):
    labels, photo = add(viewer, disc())
    labels.data[60, 112:120] = 7
    labels.data[60:62, 80:84] = 3
    before = labels.data.copy()
    tools.set_layer(labels, photo)
    for button in (tools.grow_button, tools.fill_button, tools.clear_button):
        press(qtbot, button)
        settle(qtbot, tools)
        np.testing.assert_array_equal(labels.data > 1, before > 1)
        np.testing.assert_array_equal(labels.data[before > 1], before[before > 1])
    assert set(np.unique(labels.data)) == {0, 3, 7}


def test_an_edit_without_a_change_says_so_and_adds_no_step(qtbot, viewer, tools):
    labels, photo = add(viewer, disc())
    tools.set_layer(labels, photo)
    labels.paint((10, 10), 1)
    press(qtbot, tools.fill_button)
    settle(qtbot, tools)
    assert "nothing to change" in tools.message.text()
    labels.undo()
    np.testing.assert_array_equal(labels.data == 1, disc())


def test_a_mask_that_becomes_empty_is_reported_and_can_be_undone(qtbot, viewer, tools):
    labels, photo = add(viewer, disc())
    tools.set_layer(labels, photo)
    tools.pixels.setValue(40)
    press(qtbot, tools.shrink_button)
    settle(qtbot, tools)
    assert not labels.data.any()
    assert "no lesion is left" in tools.message.text()
    labels.undo()
    np.testing.assert_array_equal(labels.data == 1, disc())


def test_a_stroke_before_the_result_stays_and_the_result_is_dropped(qtbot, viewer, tools):
    labels, photo = add(viewer, disc())
    tools.set_layer(labels, photo)
    press(qtbot, tools.grow_button)
    labels.paint((10, 10), 1)
    painted = labels.data.copy()
    settle(qtbot, tools)
    np.testing.assert_array_equal(labels.data, painted)
    assert "You changed arm_segmentation before" in tools.message.text()
    assert tools.grow_button.isEnabled()


def test_a_layer_removed_before_the_result_stays_unchanged(qtbot, viewer, tools):
    labels, photo = add(viewer, disc())
    tools.set_layer(labels, photo)
    press(qtbot, tools.grow_button)
    viewer.layers.remove(labels)
    settle(qtbot, tools)
    np.testing.assert_array_equal(labels.data == 1, disc())
    assert "arm_segmentation was closed before" in tools.message.text()


def test_a_result_is_written_into_the_mask_it_was_computed_for(qtbot, viewer, tools):
    first, photo = add(viewer, disc())
    second, other = add(viewer, disc(radius=20), "leg")
    tools.set_layer(first, photo)
    press(qtbot, tools.grow_button)
    tools.set_layer(second, other)
    settle(qtbot, tools)
    np.testing.assert_array_equal(second.data == 1, disc(radius=20))
    np.testing.assert_array_equal(first.data == 1, cleaning.grow(disc(), 3))


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda viewer, labels: setattr(labels, "editable", False), "locked"),
        (lambda viewer, labels: viewer.layers.remove(labels), "was removed"),
        (lambda viewer, labels: setattr(labels, "data", np.zeros((2, 240, 320), np.uint8)), "not a mask of one photo"),
    ],
)
def test_a_layer_that_cannot_be_edited_is_refused_with_a_reason(qtbot, viewer, tools, spoil, part):
    labels, photo = add(viewer, disc())
    tools.set_layer(labels, photo)
    spoil(viewer, labels)
    before = labels.data.copy()
    press(qtbot, tools.clear_button)
    settle(qtbot, tools)
    assert part in tools.message.text()
    np.testing.assert_array_equal(labels.data, before)


def test_without_a_layer_all_buttons_are_disabled(tools):
    for button in (*tools._edits, tools.undo_button, tools.redo_button, tools.smaller_button, tools.larger_button):
        assert not button.isEnabled()
    tools.brush_larger()
    tools.brush_smaller()
    tools.show_filled(True)


def test_the_window_responds_while_twelve_megapixels_are_written(qtbot, viewer, tools, monkeypatch):
    monkeypatch.setattr(mask_edit, "_REDRAW_INTERVAL", 0.0)  # after every tile, however fast the machine is
    labels, photo = add(viewer, disc(1500, 2000, 900, (3000, 4000)))
    labels.contour = 4
    tools.set_layer(labels, photo)
    before = int(labels.data.sum())
    seen = []
    timer = QTimer(interval=1)
    timer.timeout.connect(lambda: seen.append(np.count_nonzero(labels.data)))
    timer.start()
    press(qtbot, tools.clear_button)
    settle(qtbot, tools)
    timer.stop()
    assert not labels.data.any()
    midst = [area for area in seen if 0 < area < before]
    assert len(midst) >= 5, "in one go this takes napari up to a second"
    labels.undo()
    assert labels.data.sum() == before


# --- the brush -------------------------------------------------------------------------------------------------------


def test_the_brush_starts_at_a_twentieth_of_the_lesion(viewer, tools):
    labels, photo = add(viewer, disc(600, 800, 300, (1200, 1600)))
    tools.set_layer(labels, photo)
    assert labels.brush_size == 30
    assert tools.brush_size.text() == "30 px"


def test_on_an_empty_mask_the_brush_fits_the_photo(viewer, tools):
    labels, photo = add(viewer, np.zeros((450, 600), bool))
    tools.set_layer(labels, photo)
    assert labels.brush_size == 15


def test_the_brush_keeps_its_size_on_the_screen(viewer, tools):
    labels, photo = add(viewer, disc(600, 800, 300, (1200, 1600)))
    camera = viewer.scene.camera
    camera.zoom = 0.5
    tools.set_layer(labels, photo)
    camera.zoom = 1
    assert labels.brush_size == 15
    camera.zoom = 50
    assert labels.brush_size == 1
    camera.zoom = 0.001
    assert labels.brush_size == 600, "never more than half the photo's shorter side"
    camera.zoom = 0.5
    assert labels.brush_size == 30
    tools.same_on_screen.setChecked(False)
    camera.zoom = 2
    assert labels.brush_size == 30


def test_each_brush_step_is_a_quarter_and_at_least_one_pixel(viewer, tools):
    labels, photo = add(viewer, disc(600, 800, 300, (1200, 1600)))
    tools.set_layer(labels, photo)
    tools.brush_larger()
    assert labels.brush_size == 38
    tools.brush_smaller()
    assert labels.brush_size == 30
    for _ in range(40):
        tools.brush_smaller()
    assert labels.brush_size == 1
    tools.brush_larger()
    assert labels.brush_size == 2
    for _ in range(60):
        tools.brush_larger()
    assert labels.brush_size == 600


def test_a_chosen_brush_size_applies_to_the_next_photo(viewer, tools):
    labels, photo = add(viewer, disc(600, 800, 300, (1200, 1600)))
    tools.set_layer(labels, photo)
    labels.brush_size = 60  # by napari's own slider or keys
    assert tools.brush_size.text() == "60 px"
    viewer.scene.camera.zoom *= 2
    assert labels.brush_size == 30
    half, other = add(viewer, disc(600, 800, 150, (1200, 1600)), "leg")
    tools.set_layer(half, other)
    assert half.brush_size == 30, "a tenth of this lesion, too"
    labels.brush_size = 5
    assert half.brush_size == 30


# --- how the mask is drawn -------------------------------------------------------------------------------------------


def test_outline_or_filled_applies_to_the_next_photo(viewer, tools):
    labels, photo = add(viewer, disc())
    tools.set_layer(labels, photo)
    assert labels.contour == 2
    tools.show_filled(True)
    assert labels.contour == 0
    assert labels.opacity < 0.5
    second, other = add(viewer, disc(radius=20), "leg")
    tools.set_layer(second, other)
    assert second.contour == 0
    tools.show_filled(False)
    assert second.contour == 2
    assert second.opacity > 0.8
    assert labels.contour == 0


def test_writing_no_tiles_adds_no_step(viewer):
    labels, _ = add(viewer, disc())
    seen = []
    labels.events.paint.connect(lambda: seen.append(1))
    write_tiles(labels, [])
    assert not seen


@pytest.mark.parametrize(("attribute", "part"), [("editable", "is locked"), ("visible", "is hidden")])
def test_a_stroke_on_a_locked_or_hidden_mask_says_why_it_paints_nothing(qtbot, window, attribute, part):
    mask = window.mask
    mask.mode = "paint"
    setattr(mask, attribute, False)
    before = mask.data.copy()
    window.click((20, 20), by=(15, 0))
    np.testing.assert_array_equal(mask.data, before)
    assert part in window.segment.message.text()
    setattr(mask, attribute, True)
    mask.mode = "paint"
    window.segment.say("")
    window.click((20, 20), by=(15, 0))
    assert mask.data[20, 20] == 1
    assert not window.segment.message.text()
