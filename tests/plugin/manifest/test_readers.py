"""Mask files open as Labels layers, through napari."""

import numpy as np
import pytest
from napari.components import ViewerModel
from PIL import Image

from napari_skinseg.plugin.manifest.readers import get_reader

MASK = np.zeros((60, 80), bool)
MASK[20:40, 30:60] = True


@pytest.mark.parametrize("path", ["photo.png", "photo_segmentation.jpg", "segmentation.png", "photo_overlay.png"])
def test_the_reader_accepts_only_masks(path):
    assert get_reader(path) is None
    assert get_reader([path]) is None


def test_a_mask_with_a_damaged_json_file_opens(tmp_path):
    path = tmp_path / "arm_segmentation.png"
    Image.fromarray(MASK.astype(np.uint8) * 255).save(path)
    path.with_suffix(".json").write_text("{")
    (layer,) = ViewerModel().open(path, plugin="napari-skinseg")
    np.testing.assert_array_equal(layer.data, MASK)


def test_an_opened_mask_is_shown_as_an_outline_if_the_widget_is_open(viewer, panel, tmp_path):
    path = tmp_path / "leg_segmentation.png"
    Image.fromarray(MASK.astype(np.uint8) * 255).save(path)
    (layer,) = viewer.open(path, plugin="napari-skinseg")
    assert layer.contour >= 2
