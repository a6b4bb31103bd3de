"""Masks are saved as PNG with a JSON file, through napari."""

import json

import napari
import numpy as np
import pytest
from napari.components import ViewerModel
from PIL import Image
from qtpy.QtWidgets import QFileDialog

from napari_skinseg.plugin.layers import photo_from_layer
from napari_skinseg.plugin.manifest.writers import write_mask_and_record, write_mask_layer
from napari_skinseg.plugin.mask_layers import mask_checksum, show_mask, show_measurements

MASK = np.zeros((60, 80), bool)
MASK[20:40, 30:60] = True


@pytest.fixture
def model():
    return ViewerModel()


def predicted(viewer):
    photo = viewer.add_image(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8), rgb=True, name="arm")
    image = photo_from_layer(photo, viewer.dims.point)
    layer, _ = show_mask(viewer.layers, image, MASK, {"photo": "arm", "model": "some", "threshold": 0.5})
    show_measurements(layer, mask_checksum(MASK), {1: {"area_px": 600, "area_mm2": None, "flags": ""}})
    return layer


def test_a_saved_mask_opens_unchanged(model, tmp_path):
    layer = predicted(model)
    path = tmp_path / "arm_segmentation.png"
    assert layer.save(str(path), plugin="napari-skinseg") == [str(path)]
    with Image.open(path) as saved:
        assert saved.mode == "L"
        assert sorted(set(np.asarray(saved).ravel().tolist())) == [0, 255]
    (again,) = model.open(path, plugin="napari-skinseg")
    np.testing.assert_array_equal(again.data, MASK.astype(np.uint8))
    assert again.data.dtype == np.uint8
    assert again.name == "arm_segmentation [1]"
    facts = again.metadata["napari_skinseg"]
    assert facts["model"] == "some"
    assert facts["status"] == "predicted"
    assert facts["measurements"] == {"area_px": 600, "area_mm2": None, "flags": ""}


def test_the_json_file_keeps_the_status_corrected(model, tmp_path):
    layer = predicted(model)
    layer.paint((5, 5), 1)
    first, second = tmp_path / "a_segmentation.png", tmp_path / "b_segmentation.png"
    layer.save(str(first), plugin="napari-skinseg")
    facts = json.loads(first.with_suffix(".json").read_text())["napari_skinseg"]
    assert facts["status"] == "corrected"
    assert facts["model"] == "some"
    assert facts["measurements"] == {}
    assert "image_id" not in facts
    (again,) = model.open(first, plugin="napari-skinseg")
    again.save(str(second), plugin="napari-skinseg")
    assert json.loads(second.with_suffix(".json").read_text())["napari_skinseg"]["status"] == "corrected"


def test_a_labels_layer_made_in_napari_is_saved(model, tmp_path):
    layer = model.add_labels(MASK * 7, name="mine")
    layer.save(str(tmp_path / "mine.png"), plugin="napari-skinseg")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "mine.png")) == 255, MASK)
    assert json.loads((tmp_path / "mine.json").read_text())["napari_skinseg"]["status"] == "drawn"


def test_a_missing_suffix_is_added(model, tmp_path):
    written = predicted(model).save(str(tmp_path / "arm"), plugin="napari-skinseg")
    assert written == [str(tmp_path / "arm.png")]
    assert write_mask_layer(str(tmp_path / "leg.v2"), MASK, {}) == [str(tmp_path / "leg.v2.png")]
    assert {path.name for path in tmp_path.glob("*.png")} == {"arm.png", "leg.v2.png"}


def test_an_added_suffix_never_replaces_a_file(model, tmp_path):
    (tmp_path / "arm.png").write_bytes(b"precious")
    attributes = predicted(model).as_layer_data_tuple()[1]
    assert write_mask_layer(str(tmp_path / "arm"), MASK, attributes) == [str(tmp_path / "arm-2.png")]
    assert (tmp_path / "arm.png").read_bytes() == b"precious"


def test_a_failed_save_leaves_the_old_file_and_no_other(model, tmp_path, monkeypatch):
    path = tmp_path / "arm.png"
    path.write_bytes(b"precious")
    monkeypatch.setattr(Image.Image, "save", lambda self, file, **options: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="could not be written"):
        predicted(model).save(str(path), plugin="napari-skinseg")
    assert path.read_bytes() == b"precious"
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["arm.png"]


@pytest.mark.parametrize("several", [3, 300])
def test_several_labels_of_another_layer_are_kept(model, tmp_path, several):
    cells = np.arange(several).repeat(10).reshape(-1, 10)
    layer = model.add_labels(cells, name="cells")
    layer.save(str(tmp_path / "cells.png"), plugin="napari-skinseg")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "cells.png")), cells)
    assert not (tmp_path / "cells.json").exists()


def test_the_save_dialog_of_napari_offers_the_mask_file_first(viewer, panel, tmp_path, monkeypatch):
    """A PNG that napari's own type cannot write, and a name without suffix, both with the type that comes first."""
    layer = predicted(viewer)
    viewer.layers.selection = {layer}
    qt_viewer = napari.current_viewer().window._qt_viewer
    for typed in ("x.png", "y"):
        monkeypatch.setattr(
            QFileDialog,
            "getSaveFileName",
            lambda *arguments, filter, typed=typed, **options: (str(tmp_path / typed), filter.split(";;")[0]),  # noqa: A006
        )
        qt_viewer._save_layers_dialog(selected=True)
    for name in ("x.png", "y.png"):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / name)) == 255, MASK)
    assert {file.suffix for file in tmp_path.glob("[xy].*")} == {".png", ".json"}


def test_a_stack_of_masks_is_refused_and_nothing_is_written(model, tmp_path):
    layer = model.add_labels(np.zeros((2, 60, 80), np.uint8), name="visits")
    with pytest.raises(OSError, match="visits is not the mask of one photo"):
        layer.save(str(tmp_path / "visits.png"), plugin="napari-skinseg")
    assert not list(tmp_path.glob("visits*"))


def test_an_error_names_the_folder_that_cannot_be_written(model, tmp_path):
    layer = predicted(model)
    with pytest.raises(OSError, match="could not be written"):
        layer.save(str(tmp_path / "not there" / "arm_segmentation.png"), plugin="napari-skinseg")


def test_save_as_png_uses_the_writer_of_the_plugin(model, tmp_path):
    layer = predicted(model)
    assert layer.save(str(tmp_path / "arm_segmentation.png")) == [str(tmp_path / "arm_segmentation.png")]
    assert (tmp_path / "arm_segmentation.json").exists()


def test_several_lesions_are_white_in_the_mask_and_have_a_record_each(model, tmp_path):
    labels = MASK.astype(np.uint8)
    labels[45:55, 5:15] = 2
    layer = predicted(model)
    layer.data = labels
    show_measurements(layer, mask_checksum(labels), {1: {"area_px": 600}, 2: {"area_px": 100}})
    layer.save(str(tmp_path / "arm_segmentation.png"), plugin="napari-skinseg")
    with Image.open(tmp_path / "arm_segmentation.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), np.where(labels, 255, 0))
    facts = json.loads((tmp_path / "arm_segmentation.json").read_text())["napari_skinseg"]
    assert {label: values["area_px"] for label, values in facts["lesions"].items()} == {"1": 600, "2": 100}
    assert facts["measurements"] == facts["lesions"]["1"]
    (again,) = model.open(tmp_path / "arm_segmentation.png", plugin="napari-skinseg")
    np.testing.assert_array_equal(again.data, labels > 0)


def test_labels_that_are_kept_apart_open_unchanged(model, tmp_path):
    labels = MASK.astype(np.uint8)
    labels[45:55, 5:15] = 2
    path = tmp_path / "arm_segmentation.png"
    measurements = {1: {"area_px": 600}, 2: {"area_px": 100}}
    write_mask_and_record(path, labels, {"photo": "arm", "written": {"": {"0": {}}}}, measurements, keep_labels=True)
    (again,) = model.open(path, plugin="napari-skinseg")
    np.testing.assert_array_equal(again.data, labels)
