"""Sample photos open in napari."""

import pytest
from napari.components import ViewerModel

from napari_skinseg.plugin.layers import photo_from_layer


@pytest.mark.parametrize("key", ["clear", "hair", "ruler", "dark_field", "everything", "no_lesion"])
def test_each_sample_opens_as_a_photo_with_its_true_mask(key):
    model = ViewerModel()
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
