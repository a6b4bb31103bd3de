"""Boxes as prompts: corners in any order, partly outside, too small, and the masks of a real model."""

import numpy as np
import pytest

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels.metrics import jaccard
from napari_skinseg.segmentation.box import Box
from napari_skinseg.segmentation.segmenter import Segmenter

SHAPE = (120, 160)


@pytest.mark.parametrize("box", [Box(20, 30, 59, 79), Box(59, 79, 20, 30), Box(59, 30, 20, 79)])
def test_corners_may_be_in_any_order(box):
    assert box.window(SHAPE) == (slice(20, 60), slice(30, 80))


def test_a_box_is_cut_at_the_edge_of_the_image():
    assert Box(-50, -50, 20, 30).window(SHAPE) == (slice(0, 21), slice(0, 31))
    assert Box(100, 100, 900, 900).window(SHAPE) == (slice(100, 120), slice(100, 160))


@pytest.mark.parametrize("box", [Box(20, 20, 22, 60), Box(-40, 20, -10, 60), Box(20, 200, 60, 300), Box(5, 5, 5, 5)])
def test_a_box_that_is_too_small_or_outside_is_refused(box):
    with pytest.raises(BadInput, match="too small or outside the photo"):
        box.window(SHAPE)


def test_the_mask_is_the_lesion_in_the_box_whatever_the_previous_mask(spot_finder, spot):
    left, mask = spot(60, 40, 22, SHAPE)
    right, other = spot(60, 120, 22, SHAPE)
    image = np.where(other[..., None], right, left)
    refiner = Segmenter(spot_finder, "cpu").refiner(image)
    box = Box(35, 15, 85, 65)
    for previous in (None, np.zeros(SHAPE, bool), other, np.ones(SHAPE, bool)):
        found = refiner.refine([], previous, box=box).mask
        assert jaccard(found, mask) > 0.75
        assert not (found & other).any()


def test_neither_click_nor_box_is_refused(spot_finder, spot):
    with pytest.raises(BadInput, match="There is no click"):
        Segmenter(spot_finder, "cpu").refine(spot(60, 80, 30, SHAPE)[0], [])
