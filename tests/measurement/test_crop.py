"""Colour conversions: equal to those of scikit-image, which are slower."""

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from napari_skinseg.measurement.crop import colour_difference, to_lab, to_lightness

COLOURS = np.random.default_rng(0).integers(0, 256, (20_000, 3)).astype(np.uint8)
GRAYS_AND_OPPOSITES = np.array(
    [[50, 2.5, 0], [50, -2.5, 0], [50, 0, 0], [50, 0, 3], [50, 0, -3], [10, 1, 1], [10, -1, -1], [0, 0, 0], [100, 0, 0]]
)


def test_cielab_equals_that_of_scikit_image():
    expected = rgb2lab(COLOURS)
    assert to_lab(COLOURS) == pytest.approx(expected, abs=1e-10)
    assert to_lightness(COLOURS) == pytest.approx(expected[:, 0], abs=1e-10)


def test_the_colour_difference_equals_that_of_scikit_image():
    first, second = np.split(rgb2lab(COLOURS), 2)
    assert colour_difference(first, second) == pytest.approx(deltaE_ciede2000(first, second), abs=1e-8)
    assert (colour_difference(first, first) == 0).all()


def test_the_colour_difference_of_grays_and_opposite_hues_equals_that_of_scikit_image():
    one, other = np.mgrid[:9, :9].reshape(2, -1)
    first, second = GRAYS_AND_OPPOSITES[one], GRAYS_AND_OPPOSITES[other]
    assert colour_difference(first, second) == pytest.approx(deltaE_ciede2000(first, second), abs=1e-10)
