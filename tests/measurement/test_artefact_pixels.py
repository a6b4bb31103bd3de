"""Detection of dark field, hair, glare and ink on painted photos."""

import numpy as np
import pytest
from skimage.draw import disk, line

from napari_skinseg.measurement.artefact_pixels import find_artefact_pixels, find_dark_field

SHAPE = (450, 600)
DIAGONAL = float(np.hypot(*SHAPE))
SKIN, LESION = (225, 185, 165), (120, 80, 60)


def photo(radius=80):
    rgb = np.full((*SHAPE, 3), SKIN, dtype=np.uint8)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[disk((225, 300), radius)] = True
    rgb[mask] = LESION
    return rgb, mask


def with_black_surround(rgb, radius=290):
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    outside = np.hypot(rows - 225, columns - 300) > radius
    rgb[outside] = 8
    return outside


def test_a_photo_without_dark_corners_has_no_dark_field():
    assert not find_dark_field(*photo()).any()


@pytest.mark.parametrize("scale", [1, 3])
def test_dark_corners_are_found_at_every_resolution(scale):
    rgb, mask = photo()
    outside = with_black_surround(rgb)
    rgb, mask, outside = (np.repeat(np.repeat(a, scale, axis=0), scale, axis=1) for a in (rgb, mask, outside))
    found = find_dark_field(rgb, mask)
    assert found.shape == mask.shape
    assert (found & outside).sum() > 0.99 * outside.sum()
    assert (found & ~outside).sum() < 0.05 * outside.sum()


def test_a_bright_line_along_the_frame_does_not_hide_the_dark_field():
    rgb, mask = photo()
    outside = with_black_surround(rgb)
    rgb[[0, 1, -1, -2]] = 255
    rgb[:, [0, 1, -1, -2]] = 255
    assert (find_dark_field(rgb, mask) & outside).sum() > 0.9 * outside[2:-2, 2:-2].sum()


def test_a_black_lesion_in_one_corner_is_not_a_dark_field():
    rgb, mask = photo()
    mask[:120, :160] = True
    rgb[:120, :160] = 10
    assert not find_dark_field(rgb, mask).any()


def test_hair_glare_and_ink_are_found_and_the_lesion_is_not():
    rgb, mask = photo()
    hair = np.zeros(SHAPE, dtype=bool)
    for offset in range(3):
        hair[line(100 + offset, 100, 330 + offset, 500)] = True
    glare, ink = np.zeros(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
    glare[disk((240, 270), 6)], ink[disk((80, 500), 30)] = True, True
    rgb[hair], rgb[glare], rgb[ink] = (40, 30, 25), 255, (90, 50, 160)
    found = find_artefact_pixels(rgb, mask, DIAGONAL)
    for thing in (hair, glare, ink):
        assert (found & thing).sum() > 0.95 * thing.sum()
    wanted = hair | glare | ink
    assert (found & ~wanted).sum() < wanted.sum()


def test_blue_grey_pigment_and_a_bluish_photo_are_not_ink():
    rgb, mask = photo()
    rgb[disk((225, 300), 30)] = (80, 90, 125)
    assert not find_artefact_pixels(rgb, mask, DIAGONAL).any()
    bluish = np.full((*SHAPE, 3), (150, 160, 230), dtype=np.uint8)
    assert not find_artefact_pixels(bluish, mask, DIAGONAL).any()


def test_a_pigment_network_is_not_hair():
    rgb, mask = photo()
    grid = np.zeros(SHAPE, dtype=bool)
    grid[::8], grid[:, ::8] = True, True
    rgb[grid & mask] = (70, 45, 35)
    assert find_artefact_pixels(rgb, mask, DIAGONAL).sum() < 0.01 * mask.sum()


def test_a_lesion_that_fills_the_frame_is_accepted():
    rgb = np.full((40, 50, 3), LESION, dtype=np.uint8)
    everything = np.ones((40, 50), dtype=bool)
    assert not find_artefact_pixels(rgb, everything, 64.0).any()
    assert not find_dark_field(rgb, everything).any()
