"""Photos and masks in layers, as arrays, without a window."""

import json

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_skinseg.errors import BadInput
from napari_skinseg.plugin.layers import is_photo, photo_from_layer
from napari_skinseg.plugin.mask_layers import (
    find_mask,
    is_edited,
    is_photo_open,
    outline_style,
    show_mask,
    show_probability,
)

PHOTO = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
DISC = (np.ogrid[:60, :80][0] - 30) ** 2 + (np.ogrid[:60, :80][1] - 40) ** 2 < 200


def opened(data=PHOTO, **options):
    viewer = ViewerModel()
    layer = viewer.add_image(data, name="arm", **{"rgb": True, **options})
    return viewer, photo_from_layer(layer, viewer.dims.point)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_every_kind_of_photo_becomes_the_same_bytes(dtype):
    data = PHOTO / np.float32(255) if dtype is np.float32 else PHOTO.astype(dtype)
    _, image = opened(data)
    np.testing.assert_array_equal(image.read(), PHOTO)


def test_alpha_gray_and_multiscale_are_photos_too():
    assert opened(np.dstack([PHOTO, np.full((60, 80), 255, np.uint8)]))[1].read().shape == (60, 80, 3)
    assert opened(PHOTO[..., 0], rgb=False)[1].read().shape == (60, 80, 3)
    assert opened([PHOTO, PHOTO[::2, ::2]], multiscale=True)[1].shape == (60, 80)


def test_a_lazy_photo_that_cannot_be_read_says_so():
    from dask import array, delayed

    fine = [True]

    def load():
        if not fine[0]:
            raise OSError("the disk has gone")
        return PHOTO

    _, image = opened(array.from_delayed(delayed(load, pure=False)(), PHOTO.shape, np.uint8), cache=False)
    fine[0] = False
    with pytest.raises(BadInput, match=r"^arm cannot be read \(the disk has gone\)"):
        image.read()


@pytest.mark.parametrize("kind", ["labels", "points"])
def test_another_kind_of_layer_is_refused_by_name(kind):
    viewer = ViewerModel()
    layer = viewer.add_labels(DISC, name="mine") if kind == "labels" else viewer.add_points(name="mine")
    with pytest.raises(BadInput, match=f"^mine is a {kind} layer; choose"):
        photo_from_layer(layer, viewer.dims.point)


def test_a_photo_opened_as_a_stack_is_refused_with_a_solution():
    with pytest.raises(BadInput, match="rgb=True"):
        opened(PHOTO, rgb=False)
    with pytest.raises(BadInput, match="Merge to RGB"):
        opened(PHOTO.transpose(2, 0, 1), rgb=False)


def test_a_stack_gives_the_plane_that_is_shown_and_none_outside_it():
    stack = np.stack([PHOTO, PHOTO[::-1], PHOTO[:, ::-1]])
    viewer, _ = opened(stack, scale=(2, 1, 1))
    viewer.dims.set_current_step(0, 1)
    image = photo_from_layer(viewer.layers[0], viewer.dims.point)
    assert image.plane == (1,)
    np.testing.assert_array_equal(image.read(), PHOTO[::-1])
    with pytest.raises(BadInput, match="move the slider"):
        photo_from_layer(viewer.layers[0], (20, 0, 0))


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ({}, None),
        ({"scale": (0.02, 0.02)}, None),
        ({"scale": (0.02, 0.02), "units": ("mm", "mm")}, 0.02),
        ({"scale": (20, 20), "units": ("um", "um")}, 0.02),
        ({"scale": (0.02, 0.03), "units": ("mm", "mm")}, None),
        ({"scale": (0.02, 0.02), "units": ("mm", "mm"), "rotate": 40}, 0.02),
        ({"scale": (0.02, 0.02), "units": ("mm", "mm"), "affine": np.diag([2, 2, 1])}, 0.04),
    ],
)
def test_millimetres_come_from_the_layer_or_not_at_all(place, expected):
    found = opened(**place)[1].mm_per_px
    assert found == (None if expected is None else pytest.approx(expected))


def test_the_mask_is_a_layer_right_above_its_photo():
    viewer, image = opened()
    viewer.add_image(PHOTO, rgb=True, name="leg")
    layer, edit = show_mask(viewer.layers, image, DISC, {"model": "some"})
    assert [layer.name for layer in viewer.layers] == ["arm", "arm_segmentation", "leg"]
    assert edit is None
    assert layer.contour >= 2
    np.testing.assert_array_equal(layer.data, DISC.astype(np.uint8))
    assert not np.shares_memory(layer.data, DISC)
    json.dumps(layer.metadata["napari_skinseg"], allow_nan=False)


def test_the_mask_of_a_large_photo_is_filled_because_its_outline_would_block_the_window():
    assert outline_style((3000, 4000))["opacity"] < 0.5
    assert "contour" not in outline_style((3000, 4000))
    assert outline_style((450, 600))["contour"] == 2
    assert outline_style((1500, 2000))["contour"] == 4


def test_the_mask_of_a_hidden_photo_is_hidden_and_can_be_changed():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((60, 80, 3), np.uint8), rgb=True, name="arm", visible=False)
    photo = photo_from_layer(layer, viewer.dims.point)
    first, second = np.zeros((2, 60, 80), bool)
    first[20:40, 20:60], second[10:50, 10:70] = True, True
    mask, _ = show_mask(viewer.layers, photo, first, {})
    assert not mask.visible
    _, edit = show_mask(viewer.layers, photo, second, {})
    show_mask(viewer.layers, photo, first, {}, edit)
    np.testing.assert_array_equal(mask.data != 0, first)
    mask.visible = True
    np.testing.assert_array_equal(mask._slice.image.raw != 0, first)


def test_an_edit_is_one_step_and_can_be_taken_back_only_while_it_is_the_last():
    viewer, image = opened()
    layer, _ = show_mask(viewer.layers, image, DISC, {})
    _, first = show_mask(viewer.layers, image, ~DISC, {})
    _, second = show_mask(viewer.layers, image, np.roll(DISC, 9), {}, previous_edit=first)
    layer.undo()
    np.testing.assert_array_equal(layer.data, DISC)
    layer.redo()
    layer.paint((3, 3), 1)
    painted = layer.data.copy()
    second.undo()
    np.testing.assert_array_equal(layer.data, painted)


def test_only_a_person_makes_an_edit():
    viewer, image = opened()
    layer, _ = show_mask(viewer.layers, image, DISC, {})
    show_mask(viewer.layers, image, ~DISC, {})
    assert not is_edited(layer, image)
    layer.undo()  # back to an earlier mask of ours
    assert not is_edited(layer, image)
    layer.paint((3, 3), 1)
    assert is_edited(layer, image)
    layer.undo()
    assert not is_edited(layer, image)


def test_planes_of_a_stack_are_edited_one_by_one():
    viewer, first = opened(np.stack([PHOTO, PHOTO[::-1]]))
    viewer.dims.set_current_step(0, 0)
    first = photo_from_layer(viewer.layers[0], viewer.dims.point)
    viewer.dims.set_current_step(0, 1)
    second = photo_from_layer(viewer.layers[0], viewer.dims.point)
    layer, _ = show_mask(viewer.layers, first, DISC, {})
    assert layer.data.shape == (2, 60, 80)
    layer.data_setitem((np.array([1]), np.array([5]), np.array([5])), 1)
    assert not is_edited(layer, first)
    assert is_edited(layer, second)


def test_a_photo_of_another_size_in_the_same_layer_is_not_taken_for_the_old_one():
    viewer, image = opened()
    show_mask(viewer.layers, image, DISC, {})
    viewer.layers[0].data = PHOTO[:40]
    assert not is_photo_open(viewer.layers, image)
    replaced = photo_from_layer(viewer.layers[0], viewer.dims.point)
    assert find_mask(viewer.layers, replaced) is None


def test_a_probability_is_made_once_and_is_no_photo():
    viewer, image = opened()
    probability = DISC.astype(np.float32)
    layer = show_probability(viewer.layers, image, probability)
    assert show_probability(viewer.layers, image, 1 - probability) is layer
    np.testing.assert_array_equal(layer.data, 1 - probability)
    assert not is_photo(layer)
    with pytest.raises(BadInput, match="choose a photo of your own"):
        photo_from_layer(layer, viewer.dims.point)
