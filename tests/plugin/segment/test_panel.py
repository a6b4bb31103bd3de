"""The Segment tab does its job in a real viewer: real buttons, real workers, a real network."""

import json
import shutil
import subprocess
import sys
import threading

import dask
import numpy as np
import pytest
from dask import array, delayed
from PIL import Image
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QFileDialog, QMessageBox

from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.pixels.metrics import dice


def press(qtbot, button):
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def segment(qtbot, panel, settled):
    press(qtbot, panel.segment_button)
    settled(panel)


def paint(layer, label=1):
    """What a person does with the brush in the upper left corner."""
    layer.selected_label = label
    layer.paint((10, 10), label)


def answer(button):
    """Press `button` in the question that is about to come up; the list says what was asked."""
    asked = []

    def press_it():
        box = QApplication.activeModalWidget()
        if box is None:
            QTimer.singleShot(20, press_it)
            return
        asked.append(box.text())
        box.button(button).click()

    QTimer.singleShot(0, press_it)
    return asked


FIRST_MASK = """
import sys, time, napari
from napari_skinseg.phantoms.phantom import phantom
viewer = napari.Viewer(show=False)
viewer.add_image(phantom(0, (225, 300)).image, rgb=True, name="arm")
_, widget = viewer.window.add_plugin_dock_widget("napari-skinseg")
panel = widget.panels[0]
panel.model.setCurrentText("lesion-unet")
panel.segment_button.click()
end = time.monotonic() + 120
while ("arm_segmentation" not in viewer.layers or not panel.device.text()) and time.monotonic() < end:
    napari.qt.get_qapp().processEvents()
    time.sleep(0.01)
assert viewer.layers["arm_segmentation"].data.any()
print(sorted({"torch", "monai"} & set(sys.modules)), panel.device.text())
widget.session.close()
viewer.close()
"""


def test_the_first_mask_in_napari_needs_neither_torch_nor_monai(models_here):
    shutil.rmtree(models_here / "models")
    output = subprocess.check_output([sys.executable, "-c", FIRST_MASK], text=True)
    assert output.splitlines()[-1].startswith("[] Runs on the processor (ONNX Runtime).")


def test_one_press_gives_an_outline_of_the_lesion(qtbot, viewer, panel, settled, truth):
    segment(qtbot, panel, settled)
    mask = viewer.layers["arm_segmentation"]
    assert dice(mask.data > 0, truth) > 0.95
    assert set(np.unique(mask.data)) == {0, 1}
    assert mask.data.dtype == np.uint8
    assert mask.contour > 0
    assert viewer.layers.selection.active == mask
    assert "Good" in panel.card.verdict.text() or "Check" in panel.card.verdict.text()
    facts = mask.metadata["napari_skinseg"]
    assert facts["model"] == "spot-finder"
    assert len(facts["weights_sha256"]) == 64
    row = mask.features.iloc[0]
    assert row["index"] == 1
    assert row["area_px"] == pytest.approx(truth.sum(), rel=0.1)
    assert "px" in panel.card.figures.text()
    assert "mm" not in panel.card.figures.text()
    assert not panel.message.text()


def test_the_mask_lies_on_its_photo_in_the_world(qtbot, viewer, panel, settled, spot):
    place = {
        "scale": (0.02, 0.02),
        "translate": (5, -3),
        "rotate": 30,
        "shear": [0.1],
        "affine": [[0, 1, 7], [1, 0, 2], [0, 0, 1]],
        "units": ("mm", "mm"),
        "axis_labels": ("down", "right"),
    }
    photo = viewer.add_image(spot(60, 80, 30, (120, 160))[0], rgb=True, name="placed", **place)
    panel.keep_probability.setChecked(True)
    segment(qtbot, panel, settled)
    mask = viewer.layers["placed_segmentation"]
    probability = viewer.layers["placed_probability"]
    for corner in [(0, 0), (119, 0), (0, 159), (60, 80)]:
        np.testing.assert_allclose(mask.data_to_world(corner), photo.data_to_world(corner))
        np.testing.assert_allclose(probability.data_to_world(corner), photo.data_to_world(corner))
    np.testing.assert_allclose(mask.scale, photo.scale)
    assert mask.units == photo.units
    assert mask.axis_labels == photo.axis_labels
    assert "mm²" in panel.card.figures.text()


def test_running_again_is_one_undoable_step(qtbot, viewer, panel, settled):
    segment(qtbot, panel, settled)
    mask = viewer.layers["arm_segmentation"]
    first = mask.data.copy()
    panel.options.threshold.setValue(0.9)
    settled(panel)
    moved = mask.data.copy()
    panel.options.tta.setChecked(True)
    panel.options.threshold.blockSignals(True)
    panel.options.threshold.setValue(0.2)
    panel.options.threshold.blockSignals(False)
    segment(qtbot, panel, settled)
    again = mask.data.copy()
    assert again.sum() > first.sum() > moved.sum()
    mask.undo()
    np.testing.assert_array_equal(mask.data, moved)
    mask.redo()
    np.testing.assert_array_equal(mask.data, again)
    assert len([layer for layer in viewer.layers if layer.name.startswith("arm")]) == 2


def test_the_slider_moves_the_mask_without_the_network_and_is_one_step(qtbot, viewer, panel, settled):
    segment(qtbot, panel, settled)
    mask = viewer.layers["arm_segmentation"]
    first = mask.data.copy()
    panel._session.segmenters.get = None  # whoever reaches for the network now fails
    areas = []
    for threshold in (0.6, 0.8, 0.95):
        panel.options.threshold.setValue(threshold)
        settled(panel)
        areas.append(int(mask.data.sum()))
        assert mask.metadata["napari_skinseg"]["threshold"] == threshold
    assert first.sum() > areas[0] > areas[1] > areas[2]
    assert mask.features["area_px"].iloc[0] <= areas[2]
    mask.undo()
    np.testing.assert_array_equal(mask.data, first)
    del panel._session.segmenters.get


def test_the_slider_back_at_its_place_gives_the_first_mask_back(qtbot, viewer, panel, settled):
    segment(qtbot, panel, settled)
    mask = viewer.layers["arm_segmentation"]
    first, words = mask.data.copy(), panel.card.verdict.text()
    panel.options.threshold.setValue(0.9)
    settled(panel)
    assert panel.card.verdict.text() != words
    press(qtbot, panel.options.reset)
    settled(panel)
    np.testing.assert_array_equal(mask.data, first)


def test_clean_up_switches_act_at_once(qtbot, viewer, panel, settled, spot):
    rgb = spot(60, 60, 30, (120, 260))[0]
    rgb[20:50, 200:230] = (110, 60, 50)  # a second, smaller spot
    viewer.add_image(rgb, rgb=True, name="two")
    segment(qtbot, panel, settled)
    mask = viewer.layers["two_segmentation"]
    assert not mask.data[:, 180:].any()
    panel.options.clean_up["keep"].setChecked(False)
    settled(panel)
    assert mask.data[:, 180:].any()
    assert mask.metadata["napari_skinseg"]["clean_up"]["keep"] == "all"


def test_save_mask_writes_png_and_record_beside_the_photo(qtbot, viewer, panel, settled, tmp_path, monkeypatch):
    Image.fromarray(viewer.layers["arm"].data).save(tmp_path / "leg.png")
    viewer.open(tmp_path / "leg.png", plugin="napari")
    suggested = []

    def choose(parent, title, path, types):
        suggested.append(path)
        return path, types

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    press(qtbot, panel.save_button)
    assert "no mask to save" in panel.message.text()
    segment(qtbot, panel, settled)
    mask = viewer.layers["leg_segmentation"]
    paint(mask)
    for name in ("leg_segmentation.png", "leg-2_segmentation.png"):
        press(qtbot, panel.save_button)
        settled(panel)
        assert name in panel.message.text()
        np.testing.assert_array_equal(read_mask(tmp_path / name), mask.data == 1)
        record = json.loads((tmp_path / name).with_suffix(".json").read_text())["napari_skinseg"]
        assert record["status"] == "corrected"
        assert record["measurements"]["n_components"] == 2
    assert suggested == [str(tmp_path / "leg_segmentation.png"), str(tmp_path / "leg-2_segmentation.png")]


def test_a_failed_save_is_said_and_leaves_the_old_file(qtbot, viewer, panel, settled, tmp_path, monkeypatch):
    segment(qtbot, panel, settled)
    target = tmp_path / "missing" / "arm.png"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *arguments: (str(target), ""))
    press(qtbot, panel.save_button)
    settled(panel)
    assert "could not be written" in panel.message.text()
    assert not target.parent.exists()


def shown(viewer):
    return {layer.name for layer in viewer.layers if layer.visible}


def test_only_the_chosen_photo_is_shown(qtbot, viewer, panel, settled, spot):
    panel.keep_probability.setChecked(True)
    segment(qtbot, panel, settled)
    leg = viewer.add_image(spot(30, 40, 12, (60, 80))[0], rgb=True, name="leg")  # smaller than the photo below it
    assert shown(viewer) == {"leg"}
    assert "because in the same place: arm." in panel.message.text()
    segment(qtbot, panel, settled)
    assert shown(viewer) == {"leg", "leg_segmentation", "leg_probability"}
    viewer.layers.selection.active = viewer.layers["arm"]
    assert shown(viewer) == {"arm", "arm_segmentation", "arm_probability"}
    assert "covers" not in panel.card.figures.text()
    viewer.layers.selection.active = viewer.layers["leg_segmentation"]
    assert shown(viewer) == {"leg", "leg_segmentation", "leg_probability"}
    viewer.layers["arm"].visible = True  # the eye of another photo shows both, until the choice changes
    assert leg.visible
    panel.photo.value = viewer.layers["arm"]
    press(qtbot, panel.segment_button)
    settled(panel)
    assert shown(viewer) == {"arm", "arm_segmentation", "arm_probability"}


def test_segment_all_changes_neither_the_choice_nor_what_is_shown(qtbot, viewer, panel, settled, spot):
    viewer.add_image(spot(60, 80, 20, (120, 160))[0], rgb=True, name="leg")
    panel.photo.value = viewer.layers["arm"]
    press(qtbot, panel.all_button)
    settled(panel)
    assert panel.photo.value.name == "arm"
    assert shown(viewer) == {"arm", "arm_segmentation"}
    assert viewer.layers.selection.active.name == "arm_segmentation"
    panel.photo.value = viewer.layers["leg"]
    assert shown(viewer) == {"leg", "leg_segmentation"}


def test_a_transparent_image_and_a_grid_hide_no_photo(viewer, panel, spot):
    heat = viewer.add_image(spot(60, 80, 20, (120, 160))[0], rgb=True, name="heat", opacity=0.5)
    viewer.canvas.grid.enabled = True
    viewer.add_image(spot(60, 80, 20, (120, 160))[0], rgb=True, name="leg")
    assert shown(viewer) == {"arm", "heat", "leg"}
    viewer.canvas.grid.enabled = False
    heat.opacity = 1
    panel.photo.value = heat
    assert shown(viewer) == {"heat"}


def test_photos_side_by_side_stay_visible(viewer, panel, settled, spot):
    leg = viewer.add_image(spot(60, 80, 20, (120, 160))[0], rgb=True, name="leg", translate=(0, 200))
    panel.photo.value = viewer.layers["arm"]
    panel.segment_selected()
    settled(panel)
    assert leg.visible


def test_a_threshold_does_not_carry_over_to_the_next_photo(qtbot, viewer, panel, settled, spot):
    segment(qtbot, panel, settled)
    panel.options.threshold.setValue(0.9)
    settled(panel)
    viewer.add_image(spot(60, 80, 20, (120, 160))[0], rgb=True, name="leg")
    assert panel.options.threshold_value() == 0.5
    panel.photo.value = viewer.layers["arm"]
    assert panel.options.threshold_value() == 0.9


def test_the_border_slider_makes_the_mask_wider_or_tighter_without_the_network(qtbot, viewer, panel, settled):
    segment(qtbot, panel, settled)
    mask = viewer.layers["arm_segmentation"]
    first = mask.data.copy()
    panel.options.offset.setValue(5)
    settled(panel)
    assert panel.options.value().border.offset == 0.05
    assert (mask.data > 0).sum() / (first > 0).sum() == pytest.approx(1.1**2, abs=0.05)
    assert mask.metadata["napari_skinseg"]["border"] == {"threshold": 0.5, "offset": 0.05, "smoothing": 0.0}
    panel.options.offset.setValue(-5)
    settled(panel)
    assert (mask.data > 0).sum() / (first > 0).sum() == pytest.approx(0.9**2, abs=0.05)
    press(qtbot, panel.options.reset_offset)
    settled(panel)
    assert np.array_equal(mask.data, first)


def test_a_mask_changed_by_hand_is_replaced_only_after_a_yes(qtbot, viewer, panel, settled):
    segment(qtbot, panel, settled)
    mask = viewer.layers["arm_segmentation"]
    first = mask.data.copy()
    paint(mask)
    by_hand = mask.data.copy()
    asked = answer(QMessageBox.StandardButton.No)
    segment(qtbot, panel, settled)
    assert len(asked) == 1
    assert "arm_segmentation" in asked[0]
    np.testing.assert_array_equal(mask.data, by_hand)
    answer(QMessageBox.StandardButton.Yes)
    segment(qtbot, panel, settled)
    np.testing.assert_array_equal(mask.data, first)
    mask.undo()
    np.testing.assert_array_equal(mask.data, by_hand)


def test_a_stroke_that_was_undone_is_no_change(qtbot, viewer, panel, settled):
    segment(qtbot, panel, settled)
    mask = viewer.layers["arm_segmentation"]
    paint(mask)
    mask.undo()
    segment(qtbot, panel, settled)  # a question would block here
    assert not panel.message.text()


def test_the_slider_never_touches_a_mask_changed_by_hand_unasked(qtbot, viewer, panel, settled):
    segment(qtbot, panel, settled)
    mask = viewer.layers["arm_segmentation"]
    paint(mask)
    by_hand = mask.data.copy()
    panel.options.threshold.setValue(0.9)
    settled(panel)
    np.testing.assert_array_equal(mask.data, by_hand)
    assert not panel.question.isHidden()
    assert "arm_segmentation" in panel.question_text.text()
    press(qtbot, panel.replace_button)
    settled(panel)
    assert mask.data.sum() < by_hand.sum()
    assert panel.question.isHidden()
    mask.undo()
    np.testing.assert_array_equal(mask.data, by_hand)


def test_a_mask_changed_while_the_network_runs_is_kept(qtbot, viewer, panel, settled):
    segment(qtbot, panel, settled)
    mask = viewer.layers["arm_segmentation"]
    press(qtbot, panel.segment_button)
    paint(mask)
    by_hand = mask.data.copy()
    settled(panel)
    np.testing.assert_array_equal(mask.data, by_hand)
    assert "by hand" in panel.message.text()


def test_a_photo_removed_during_the_run_drops_its_result_with_a_sentence(qtbot, viewer, panel, settled):
    press(qtbot, panel.segment_button)
    viewer.layers.remove("arm")
    settled(panel)
    assert len(viewer.layers) == 0
    assert "arm was removed" in panel.message.text()
    assert panel.segment_button.isEnabled()
    assert panel.photo.value is None


def test_a_mask_removed_before_the_slider_moves_stays_removed(qtbot, viewer, panel, settled):
    segment(qtbot, panel, settled)
    viewer.layers.remove("arm_segmentation")
    panel.options.threshold.setValue(0.9)
    settled(panel)
    assert [layer.name for layer in viewer.layers] == ["arm"]
    assert "press Segment" in panel.message.text()


def test_renamed_layers_are_still_known(qtbot, viewer, panel, settled):
    segment(qtbot, panel, settled)
    viewer.layers["arm"].name = "left arm"
    viewer.layers["arm_segmentation"].name = "mine"
    assert panel.photo.native.currentText() == "left arm"
    panel.options.threshold.setValue(0.9)
    settled(panel)
    segment(qtbot, panel, settled)
    assert [layer.name for layer in viewer.layers] == ["left arm", "mine"]


def test_the_chooser_follows_the_layer_list(viewer, panel, spot):
    leg = viewer.add_image(spot(50, 50, 20, (100, 120))[0], rgb=True, name="leg")
    assert panel.photo.value == leg
    viewer.layers.selection.active = viewer.layers["arm"]
    assert panel.photo.value.name == "arm"
    viewer.add_labels(np.zeros((100, 120), int), name="someone's labels")
    assert panel.photo.value.name == "arm"
    assert len(panel.photo.choices) == 2


def test_all_open_photos_are_done_and_the_bad_one_is_named(qtbot, viewer, panel, settled, spot):
    viewer.add_image(spot(50, 50, 20, (100, 120))[0], rgb=True, name="leg")
    broken = viewer.add_image(np.full((60, 70, 3), np.nan), rgb=True, name="broken")
    viewer.add_image(np.zeros((5, 60, 70), np.uint8), name="volume")
    press(qtbot, panel.all_button)
    settled(panel)
    names = [layer.name for layer in viewer.layers]
    assert names == ["arm", "arm_segmentation", "leg", "leg_segmentation", "broken", "volume"]
    assert "broken" in panel.message.text()
    assert "volume" in panel.message.text()
    assert broken in viewer.layers


def test_cancel_keeps_what_is_done_and_frees_the_buttons(qtbot, viewer, panel, settled, spot):
    cancelled = threading.Event()
    rgb = spot(60, 80, 30, (120, 160))[0]

    def load():
        if threading.current_thread() is not threading.main_thread():  # napari draws it on the GUI thread
            cancelled.wait(60)
        return rgb

    slow = array.from_delayed(delayed(load, pure=False)(), rgb.shape, np.uint8)
    with dask.config.set(scheduler="synchronous"):  # each thread loads for itself
        viewer.add_image(slow, rgb=True, name="slow", cache=False)
        viewer.add_image(rgb, rgb=True, name="leg")
        press(qtbot, panel.all_button)
        qtbot.waitUntil(lambda: "arm_segmentation" in viewer.layers, timeout=60_000)
        press(qtbot, panel.cancel_button)
        assert panel.cancel_button.text() == "Cancelling…"
        cancelled.set()
        settled(panel)
    assert "arm_segmentation" in viewer.layers
    assert "leg_segmentation" not in viewer.layers
    assert "Cancelled" in panel.message.text()
    assert panel.segment_button.isEnabled()
    assert not panel.cancel_button.isEnabled()


def test_an_empty_mask_shows_the_highest_probability(qtbot, viewer, panel, settled, blind_model):
    panel.refresh_models()
    panel.model.setCurrentText(blind_model)
    segment(qtbot, panel, settled)
    assert not viewer.layers["arm_segmentation"].data.any()
    assert "No lesion found" in panel.card.verdict.text()
    assert "highest probability is 0.05" in panel.card.verdict.text()
    assert "Area" not in panel.card.figures.text()


@pytest.fixture
def doubted(qtbot, viewer, panel, settled, models_here, doubting_model):
    """The mask of a photo in which the model found no lesion; whoever reaches for the network from now on fails."""
    shutil.copytree(doubting_model, models_here / "models" / "doubting")
    panel.refresh_models()
    panel.model.setCurrentText("doubting")
    segment(qtbot, panel, settled)
    panel._session.segmenters.get = None
    yield viewer.layers["arm_segmentation"]
    del panel._session.segmenters.get


def test_an_uncertain_outline_is_shown_by_its_button_without_the_network(qtbot, panel, settled, truth, doubted):
    assert not doubted.data.any()
    words = panel.card.verdict.text()
    assert words.startswith("No lesion found: the most likely outline has an expected overlap of")
    assert not panel.card.uncertain_button.isHidden()
    assert doubted.metadata["napari_skinseg"]["withheld"]
    press(qtbot, panel.card.uncertain_button)
    settled(panel)
    assert dice(doubted.data > 0, truth) > 0.95
    assert panel.card.verdict.text().startswith("Perhaps no lesion here")
    assert panel.card.uncertain_button.isHidden()
    assert "px" in panel.card.figures.text()
    assert not doubted.metadata["napari_skinseg"]["withheld"]
    doubted.undo()
    assert not doubted.data.any()


def test_a_moved_threshold_shows_a_withheld_outline(panel, settled, doubted):
    panel.options.clean_up["smooth"].setChecked(False)
    settled(panel)
    assert not doubted.data.any(), "the clean-up says nothing about whether there is a lesion"
    panel.options.threshold.setValue(0.4)
    settled(panel)
    assert doubted.data.any()
    panel.options.clean_up["smooth"].setChecked(True)
    settled(panel)
    assert doubted.data.any(), "what is drawn stays drawn"


def test_always_outline_acts_at_once(panel, settled, doubted):
    panel.options.always_outline.setChecked(True)
    settled(panel)
    assert doubted.data.any()


def test_a_mask_drawn_by_hand_is_replaced_by_the_uncertain_outline_only_after_a_yes(
    qtbot, panel, settled, truth, doubted
):
    paint(doubted)
    by_hand = doubted.data.copy()
    asked = answer(QMessageBox.StandardButton.No)
    press(qtbot, panel.card.uncertain_button)
    settled(panel)
    assert len(asked) == 1
    np.testing.assert_array_equal(doubted.data, by_hand)
    answer(QMessageBox.StandardButton.Yes)
    press(qtbot, panel.card.uncertain_button)
    settled(panel)
    assert dice(doubted.data > 0, truth) > 0.95


@pytest.mark.parametrize(
    ("name", "data", "options", "part"),
    [
        ("not numbers", np.full((60, 70, 3), np.nan), {"rgb": True}, "NaN"),
        ("volume", np.zeros((5, 60, 70), np.uint8), {}, "gray stack"),
        ("one colour", np.zeros((60, 70, 3), np.uint8), {"rgb": True}, "one colour"),
        ("negative", np.random.default_rng(0).normal(size=(60, 70, 3)), {"rgb": True}, "egative"),
        ("split", np.random.default_rng(0).random((3, 60, 70)), {}, "Merge to RGB"),
    ],
)
def test_a_layer_that_is_no_photo_gets_one_sentence(qtbot, viewer, panel, settled, name, data, options, part):
    viewer.add_image(data, name=name, contrast_limits=(0, 1), **options)
    segment(qtbot, panel, settled)
    assert panel.message.text().startswith(name)
    assert part in panel.message.text()
    assert panel.message.text().count("Traceback") == 0
    assert panel.message.text().endswith(".")
    assert f"{name}_segmentation" not in viewer.layers


def test_without_a_photo_the_panel_says_what_to_do(qtbot, viewer, panel, settled):
    viewer.layers.clear()
    segment(qtbot, panel, settled)
    assert "File > Open" in panel.message.text()


def test_one_plane_of_a_stack_is_segmented_in_place(qtbot, viewer, panel, settled, spot):
    stack = np.stack([spot(60, column, 30, (120, 160))[0] for column in (50, 80, 110)])
    layer = viewer.add_image(stack, rgb=True, name="visits", scale=(2, 1, 1), translate=(10, 0, 0))
    viewer.dims.set_current_step(0, 0)
    segment(qtbot, panel, settled)
    viewer.dims.set_point(0, 14)  # plane 2 of 0, 1, 2
    segment(qtbot, panel, settled)
    mask = viewer.layers["visits_segmentation"]
    assert mask.data.shape == (3, 120, 160)
    assert dice(mask.data[0] > 0, spot(60, 50, 30, (120, 160))[1]) > 0.9
    assert not mask.data[1].any()
    assert dice(mask.data[2] > 0, spot(60, 110, 30, (120, 160))[1]) > 0.9
    np.testing.assert_allclose(mask.extent.world, layer.extent.world)


def test_a_lazy_photo_is_computed_in_the_worker(qtbot, viewer, panel, settled, truth, spot):
    threads = []

    def load():
        threads.append(threading.current_thread())
        return spot(60, 80, 30, (120, 160))[0]

    lazy = array.from_delayed(delayed(load)(), (120, 160, 3), np.uint8)
    viewer.add_image(lazy, rgb=True, name="lazy")
    threads.clear()  # napari draws it on the GUI thread, which is its own business
    segment(qtbot, panel, settled)
    assert dice(viewer.layers["lazy_segmentation"].data > 0, truth) > 0.9
    assert threads
    assert threading.main_thread() not in threads


def test_a_multiscale_photo_gets_a_mask_of_its_full_size(qtbot, viewer, panel, settled, truth, spot):
    rgb = spot(60, 80, 30, (120, 160))[0]
    viewer.add_image([rgb, rgb[::2, ::2]], rgb=True, multiscale=True, name="pyramid")
    segment(qtbot, panel, settled)
    assert dice(viewer.layers["pyramid_segmentation"].data > 0, truth) > 0.9


def test_a_model_that_went_away_is_named(qtbot, viewer, panel, settled, models_here):
    (models_here / "models" / "spot-finder" / "models" / "model.safetensors").write_bytes(b"not a model")
    segment(qtbot, panel, settled)
    assert "model.safetensors" in panel.message.text()
    assert "arm_segmentation" not in viewer.layers
    assert panel.segment_button.isEnabled()


def test_every_option_of_the_command_line_has_its_field(panel):
    from dataclasses import fields

    from napari_skinseg.pixels.cleaning import CleanUp
    from napari_skinseg.segmentation.border import Border
    from napari_skinseg.segmentation.options import SegmentOptions

    names = {field.name for field in fields(SegmentOptions)}
    assert names == {"threshold", "tta", "clean_up", "second_look", "always_outline", "border"}
    assert set(panel.options.clean_up) == {field.name for field in fields(CleanUp)}
    assert panel.options.value() == SegmentOptions(threshold=0.5, border=Border(0.5))
    own = (panel.options.tta, panel.options.second_look, panel.options.always_outline)
    switches = (*own, *panel.options.clean_up.values())
    for widget in (panel.options.threshold, panel.options.offset, *switches):
        assert widget.toolTip()


def test_no_button_moves_when_messages_progress_and_questions_appear(qtbot, viewer, panel, settled):
    """The buttons above the result: those that are pressed again and again."""
    panel.window().show()
    qtbot.waitUntil(panel.isVisible)
    settled(panel)
    buttons = (panel.segment_button, panel.refine.button, panel.save_button)

    def places():
        QApplication.processEvents()
        return [(button.mapTo(panel, button.rect().topLeft()).y(), panel.card.y()) for button in buttons]

    before = places()
    panel.say("A long sentence that takes more than one line, such as the name of a layer and the reason. " * 3)
    panel.ask("You changed arm by hand, so your mask stays.")
    panel.show_running(True)
    panel.refine.message.say("Refine works in the 2D view only; switch the viewer back to 2D.", is_problem=True)
    assert places() == before
    panel.show_running(False)


def test_the_view_fits_a_second_photo_of_another_size(qtbot, viewer, panel, spot):
    zoom = viewer.scene.camera.zoom
    viewer.add_image(spot(60, 80, 30, (480, 640))[0], rgb=True, name="large")
    qtbot.waitUntil(lambda: viewer.scene.camera.zoom < 0.5 * zoom)
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], (239.5, 319.5), atol=1)
    viewer.scene.camera.zoom = 7.0
    viewer.add_image(spot(60, 80, 30, (480, 640))[0], rgb=True, name="same size")
    QApplication.processEvents()
    assert viewer.scene.camera.zoom == 7.0, "the zoom is kept among photos of one size"


def test_the_note_of_a_hidden_mask_follows_the_eye(qtbot, viewer, panel, settled):
    segment(qtbot, panel, settled)
    mask = viewer.layers["arm_segmentation"]
    assert "hidden" not in panel.card.figures.text()
    mask.visible = False
    assert "hidden" in panel.card.figures.text()
    mask.visible = True
    assert "hidden" not in panel.card.figures.text()


def test_the_message_of_a_failed_model_goes_when_the_model_loads(qtbot, viewer, panel, settled, models_here):
    weights = models_here / "models" / "spot-finder" / "models" / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(b"not a model")
    panel._load_model()
    settled(panel)
    assert "model.safetensors" in panel.message.text()
    weights.write_bytes(good)
    panel._load_model()
    settled(panel)
    assert not panel.message.text()


def test_all_lesions_get_a_label_and_a_row_of_measurements_each(viewer, panel, settled, spot, tmp_path, qtbot):
    left, right = spot(60, 40, 24, (120, 160)), spot(60, 120, 16, (120, 160))
    photo = viewer.layers["arm"]
    photo.data = np.where(right[1][..., None], right[0], left[0])
    panel.options.clean_up["keep"].setChecked(False)
    panel.segment_selected()
    settled(panel)
    (mask,) = (layer for layer in viewer.layers if layer.name == "arm_segmentation")
    assert (mask.data[60, 40], mask.data[60, 120]) == (1, 2)
    assert list(mask.features["index"]) == [1, 2]
    assert mask.features["area_px"][0] > mask.features["area_px"][1]
    assert "2 lesions" in panel.card.figures.text()
    mask.data_setitem((np.array([60]), np.array([120])), 1)
    settled(panel)
    assert "Changed by hand" in panel.card.verdict.text(), "another label is another mask"
