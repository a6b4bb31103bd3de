"""Masks to files and back, and the samples, through napari as people use it."""

import json

import numpy as np
import pytest
from napari.components import ViewerModel
from PIL import Image

from napari_skinseg.plugin.layers import photo_from_layer
from napari_skinseg.plugin.manifest.readers import get_reader
from napari_skinseg.plugin.manifest.writers import write_mask_layer
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
    show_measurements(layer, mask_checksum(MASK), {"area_px": 600, "area_mm2": None, "flags": ""})
    return layer


def test_a_mask_survives_a_round_trip(model, tmp_path):
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


def test_the_sidecar_tells_a_corrected_mask_and_keeps_telling(model, tmp_path):
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


def test_a_mask_drawn_in_napari_alone_is_saved_too(model, tmp_path):
    layer = model.add_labels(MASK * 7, name="mine")
    layer.save(str(tmp_path / "mine.png"), plugin="napari-skinseg")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "mine.png")) == 255, MASK)
    assert json.loads((tmp_path / "mine.json").read_text())["napari_skinseg"]["status"] == "drawn"


def test_a_missing_suffix_is_added(model, tmp_path):
    written = predicted(model).save(str(tmp_path / "arm"), plugin="napari-skinseg")
    assert written == [str(tmp_path / "arm.png")]
    assert write_mask_layer(str(tmp_path / "leg.v2"), MASK, {}) == [str(tmp_path / "leg.v2.png")]
    assert {path.name for path in tmp_path.glob("*.png")} == {"arm.png", "leg.v2.png"}


def test_a_stack_of_masks_is_refused_and_nothing_is_written(model, tmp_path):
    layer = model.add_labels(np.zeros((2, 60, 80), np.uint8), name="visits")
    with pytest.raises(OSError, match="visits is not the mask of one photo"):
        layer.save(str(tmp_path / "visits.png"), plugin="napari-skinseg")
    assert not list(tmp_path.glob("visits*"))


def test_a_place_that_cannot_be_written_to_is_named_and_the_old_mask_stays(model, tmp_path):
    layer = predicted(model)
    with pytest.raises(OSError, match="could not be written"):
        layer.save(str(tmp_path / "not there" / "arm_segmentation.png"), plugin="napari-skinseg")


def test_saving_as_png_in_the_usual_way_takes_our_writer(model, tmp_path):
    layer = predicted(model)
    assert layer.save(str(tmp_path / "arm_segmentation.png")) == [str(tmp_path / "arm_segmentation.png")]
    assert (tmp_path / "arm_segmentation.json").exists()


@pytest.mark.parametrize("path", ["photo.png", "photo_segmentation.jpg", "segmentation.png", "photo_overlay.png"])
def test_the_reader_claims_masks_alone(path):
    assert get_reader(path) is None
    assert get_reader([path]) is None


def test_a_damaged_sidecar_does_not_keep_the_mask_from_opening(model, tmp_path):
    path = tmp_path / "arm_segmentation.png"
    Image.fromarray(MASK.astype(np.uint8) * 255).save(path)
    path.with_suffix(".json").write_text("{")
    (layer,) = model.open(path, plugin="napari-skinseg")
    np.testing.assert_array_equal(layer.data, MASK)


def test_an_opened_mask_is_drawn_as_an_outline_once_the_widget_is_there(viewer, panel, tmp_path):
    path = tmp_path / "leg_segmentation.png"
    Image.fromarray(MASK.astype(np.uint8) * 255).save(path)
    (layer,) = viewer.open(path, plugin="napari-skinseg")
    assert layer.contour >= 2


@pytest.mark.parametrize("key", ["clear", "hair", "ruler", "dark_field", "everything", "no_lesion"])
def test_every_sample_opens_as_a_photo_with_its_true_mask(model, key):
    model.open_sample("napari-skinseg", key)
    photo = model.layers[0]
    assert photo.rgb
    assert photo_from_layer(photo, model.dims.point).read().shape[2] == 3
    if key == "no_lesion":
        assert len(model.layers) == 1
    else:
        truth = model.layers[1]
        assert truth.data.shape == photo.data.shape[:2]
        assert 0 < truth.data.mean() < 0.9
