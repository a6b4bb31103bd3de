"""What a person sees at the end of the demo."""

import numpy as np
from napari.layers import Image, Labels
from PIL import Image as PillowImage

from napari_skinseg.pixels.mask import write_mask
from napari_skinseg.plugin.view import open_photo_and_mask


def test_the_demo_ends_with_the_photo_its_mask_and_the_widget(make_napari_viewer, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    mask = np.zeros((60, 80), dtype=bool)
    mask[20:40, 20:50] = True
    PillowImage.fromarray(pixels).save(tmp_path / "lesion.png")
    write_mask(tmp_path / "lesion_segmentation.png", mask)

    viewer = make_napari_viewer()
    open_photo_and_mask(viewer, tmp_path / "lesion.png", tmp_path / "lesion_segmentation.png")

    (photo,) = (layer for layer in viewer.layers if isinstance(layer, Image))
    (shown,) = (layer for layer in viewer.layers if isinstance(layer, Labels))
    assert photo.rgb
    assert np.array_equal(shown.data == 1, mask)
    assert any("napari-skinseg" in name for name in viewer.window.dock_widgets)
