"""The scale tool: a line on a ruler in a real Shapes layer, and the measurements in millimetres."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_skinseg.plugin.correct.scale_tool import ScaleTool
from napari_skinseg.plugin.layers import is_photo, mm_per_px, photo_from_layer, store_scale
from napari_skinseg.plugin.session import Session


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    viewer.layers.append(Image(np.full((600, 1000, 3), 200, np.uint8), rgb=True, name="arm"))
    viewer.layers.append(Labels(np.zeros((600, 1000), np.uint8), name="arm_segmentation"))
    return viewer


@pytest.fixture
def tool(qtbot, viewer):
    tool = ScaleTool(Session(viewer))
    qtbot.addWidget(tool)
    tool.show()
    tool.set_layer(viewer.layers["arm"])
    seen = tool.seen = []
    tool.scale_set.connect(lambda *values: seen.append(values))
    tool.scale_cleared.connect(lambda: seen.append("cleared"))
    return tool


def press(qtbot, button):
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def drag(viewer, layer, start, end):
    """What napari's canvas makes of a drag with the left button, from and to (row, column) of the photo."""
    event = SimpleNamespace(
        type="mouse_press", button=1, buttons=[1], modifiers=[], is_dragging=False, handled=False, pos=np.array([0, 0]),
        position=layer.data_to_world(start), view_direction=None, up_direction=None, dims_displayed=[0, 1],
        dims_point=[0, 0], camera_zoom=1.0, inverted=False, viewer=viewer,
    )  # fmt: skip
    mouse_press_callbacks(layer, event)
    event.type, event.is_dragging, event.pos = "mouse_move", True, np.array([50, 50])
    event.position = layer.data_to_world(end)
    mouse_move_callbacks(layer, event)
    event.type, event.is_dragging = "mouse_release", False
    mouse_release_callbacks(layer, event)
    QApplication.processEvents()


def draw(qtbot, viewer, tool, start=(500, 100), end=(500, 600)):
    press(qtbot, tool.draw_button)
    drag(viewer, viewer.layers["↔ ruler"], start, end)


def test_a_line_and_its_length_give_the_scale(qtbot, viewer, tool):
    photo = viewer.layers["arm"]
    viewer.layers.selection.active = viewer.layers["arm_segmentation"]
    draw(qtbot, viewer, tool)
    assert "500 px" in tool.preview.text()
    assert "±0.4%" in tool.preview.text()
    assert tool.warning.isHidden()
    press(qtbot, tool.set_button)
    ((scale, line, uncertainty),) = tool.seen
    assert scale == pytest.approx(0.02, rel=1e-3)
    np.testing.assert_allclose(line, ((500, 100), (500, 600)), atol=3)
    assert uncertainty == pytest.approx(0.004, rel=1e-3)
    assert mm_per_px(photo) == scale
    assert photo_from_layer(photo, (0, 0)).mm_per_px == scale
    assert [layer.name for layer in viewer.layers] == ["arm", "arm_segmentation"]
    assert viewer.layers.selection.active.name == "arm_segmentation", "the mask is the active layer again"
    assert "0.02 mm per pixel" in tool.state.text()
    assert "20 mm wide" in tool.state.text()


def test_setting_the_scale_does_not_move_the_photo(qtbot, viewer, tool):
    photo = viewer.layers["arm"]
    photo.metadata = {"mine": 1}
    draw(qtbot, viewer, tool)
    press(qtbot, tool.set_button)
    assert is_photo(photo)
    np.testing.assert_array_equal(photo.scale, (1, 1))
    assert photo.metadata["mine"] == 1
    json.dumps(photo.metadata)


def test_clear_scale_removes_the_scale(qtbot, viewer, tool):
    photo = viewer.layers["arm"]
    assert tool.clear_button.isHidden()
    draw(qtbot, viewer, tool)
    press(qtbot, tool.set_button)
    press(qtbot, tool.clear_button)
    assert tool.seen[-1] == "cleared"
    assert mm_per_px(photo) is None
    assert photo.metadata == {}
    assert tool.clear_button.isHidden()
    assert "in pixels" in tool.state.text()


def test_the_ruler_has_priority_over_the_scale_of_the_layer(qtbot, viewer, tool):
    photo = Image(np.zeros((60, 100, 3), np.uint8), rgb=True, scale=(0.5, 0.5), units=("mm", "mm"), translate=(7, 9))
    viewer.layers.append(photo)
    tool.set_layer(photo)
    assert "0.5 mm per pixel" in tool.state.text()
    assert "layer's own" in tool.state.text()
    tool.distance.setValue(20)
    draw(qtbot, viewer, tool, (10, 0), (10, 80))
    press(qtbot, tool.set_button)
    assert mm_per_px(photo) == pytest.approx(0.25, rel=5e-3), "the line is in pixels, wherever the layer lies"
    press(qtbot, tool.clear_button)
    assert mm_per_px(photo) == pytest.approx(0.5)


def test_the_ends_of_the_line_can_be_dragged(qtbot, viewer, tool):
    draw(qtbot, viewer, tool)
    ruler = viewer.layers["↔ ruler"]
    assert ruler.mode == "direct"
    drag(viewer, ruler, (500, 600), (500, 900))
    assert "800 px" in tool.preview.text()
    assert len(ruler.data) == 1


def test_cancel_keeps_the_scale_and_removes_the_line(qtbot, viewer, tool):
    photo = viewer.layers["arm"]
    store_scale(photo, 0.03)
    draw(qtbot, viewer, tool)
    press(qtbot, tool.cancel_button)
    assert mm_per_px(photo) == 0.03
    assert len(viewer.layers) == 2
    assert not tool.seen
    assert "ruler in another photo" in tool.state.text()


def test_deleting_the_layer_of_the_line_cancels(qtbot, viewer, tool):
    draw(qtbot, viewer, tool)
    viewer.layers.remove("↔ ruler")
    assert tool.set_button.isHidden() or not tool.set_button.isVisible()
    assert tool.draw_button.isVisible()
    draw(qtbot, viewer, tool)
    assert tool.set_button.isEnabled()


def test_another_photo_removes_an_unfinished_line(qtbot, viewer, tool):
    other = Image(np.zeros((60, 100, 3), np.uint8), rgb=True, name="leg")
    viewer.layers.append(other)
    draw(qtbot, viewer, tool)
    tool.set_layer(other)
    assert "↔ ruler" not in viewer.layers
    assert mm_per_px(other) is None
    assert mm_per_px(viewer.layers["arm"]) is None


def test_a_line_that_is_too_short_is_refused_with_a_reason(qtbot, viewer, tool):
    press(qtbot, tool.draw_button)
    assert not tool.set_button.isEnabled()
    drag(viewer, viewer.layers["↔ ruler"], (500, 100), (500, 110))
    assert not tool.set_button.isEnabled()
    assert "10 pixels long" in tool.warning.text()


def test_an_implausible_scale_gives_a_warning_and_can_be_set(qtbot, viewer, tool):
    draw(qtbot, viewer, tool)
    tool.distance.setValue(100)
    assert "200 mm wide" in tool.warning.text()
    assert tool.warning.isVisible()
    assert tool.set_button.isEnabled()
    assert tool.distance.minimum() == 5


def test_without_a_photo_no_line_can_be_drawn(tool, viewer):
    tool.set_layer(None)
    assert not tool.draw_button.isEnabled()
    tool.start_line()
    assert len(viewer.layers) == 2


def test_in_the_segment_tab_a_ruler_line_gives_sizes_in_millimetres_and_no_button_moves(qtbot, window):
    panel = window.segment
    buttons = (panel.segment_button, panel.refine.button, panel.save_button)
    before = [button.pos() for button in buttons]
    press(qtbot, panel.scale.button)
    assert panel.scale.isVisible()
    assert panel.scale.isWindow()
    press(qtbot, panel.scale.draw_button)
    window.drag((20, 30), (20, 130))
    pixels = panel.scale.line.pixels
    assert 40 < pixels < 105
    assert f"{pixels:.0f} px" in panel.scale.preview.text()
    press(qtbot, panel.scale.set_button)
    window.settle()
    assert [button.pos() for button in buttons] == before
    assert mm_per_px(window.viewer.layers["arm"]) == pytest.approx(10 / pixels)
    assert "mm²" in panel.card.figures.text()
    assert window.viewer.layers.selection.active is not None
    press(qtbot, panel.scale.clear_button)
    window.settle()
    assert "mm²" not in panel.card.figures.text()
    press(qtbot, panel.scale.draw_button)
    window.widget.tabs.setCurrentIndex(1)
    assert not panel.scale.isVisible()
    assert "↔ ruler" not in window.viewer.layers
