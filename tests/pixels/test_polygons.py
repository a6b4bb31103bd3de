"""Masks as polygons with few corners, with holes and pieces, and masks from polygons."""

import numpy as np
import pytest

from napari_skinseg.pixels.metrics import jaccard
from napari_skinseg.pixels.polygons import Polygon, changed_window, mask_to_polygons, polygons_to_mask

SHAPE = (240, 320)


def disc(row, column, radius, shape=SHAPE):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def test_a_mask_with_pieces_holes_and_an_island_is_restored():
    mask = disc(120, 120, 90) & ~disc(120, 120, 60) | disc(120, 120, 30) | disc(60, 280, 20)
    polygons = mask_to_polygons(mask)
    assert sorted(polygon.is_hole for polygon in polygons) == [False, False, False, True]
    assert max(len(polygon.corners) for polygon in polygons) < 40
    assert jaccard(polygons_to_mask(polygons, SHAPE), mask) > 0.96


def test_a_lesion_that_the_frame_cuts_reaches_the_edge():
    mask = disc(0, 0, 100)
    found = polygons_to_mask(mask_to_polygons(mask), SHAPE)
    assert jaccard(found, mask) > 0.97
    assert found[0, :90].all()
    assert found[:90, 0].all()


def test_an_empty_mask_has_no_polygon():
    assert mask_to_polygons(np.zeros(SHAPE, bool)) == []
    assert not polygons_to_mask([], SHAPE).any()


def test_pixels_are_inside_if_their_centres_are():
    square = Polygon(np.array([[9.5, 19.5], [9.5, 29.5], [19.5, 29.5], [19.5, 19.5]]))
    mask = polygons_to_mask([square], SHAPE)
    expected = np.zeros(SHAPE, bool)
    expected[10:20, 20:30] = True
    np.testing.assert_array_equal(mask, expected)


def test_polygons_may_reach_beyond_the_frame():
    square = Polygon(np.array([[-50.0, -50], [-50, 10.5], [10.5, 10.5], [10.5, -50]]))
    expected = np.zeros(SHAPE, bool)
    expected[:11, :11] = True
    np.testing.assert_array_equal(polygons_to_mask([square], SHAPE), expected)


@pytest.mark.parametrize("window", [(slice(30, 90), slice(100, 180)), (slice(0, 5), slice(0, 320))])
def test_a_window_is_the_same_as_that_part_of_the_whole(window):
    polygons = mask_to_polygons(disc(60, 140, 50) & ~disc(60, 140, 20))
    np.testing.assert_array_equal(polygons_to_mask(polygons, SHAPE, window), polygons_to_mask(polygons, SHAPE)[window])


def test_the_changed_window_holds_every_pixel_that_changes():
    before = mask_to_polygons(disc(120, 120, 90) & ~disc(120, 120, 60))
    corners = before[0].corners.copy()
    corners[0] += 15
    after = [Polygon(corners), *before[1:]]
    window = changed_window(before, after, SHAPE)
    differs = polygons_to_mask(before, SHAPE) ^ polygons_to_mask(after, SHAPE)
    inside = np.zeros(SHAPE, bool)
    inside[window] = True
    assert differs.any()
    assert not (differs & ~inside).any()
    assert inside.sum() < 0.3 * inside.size, "only the surroundings of the moved corner"
    assert changed_window(before, before, SHAPE) is None
