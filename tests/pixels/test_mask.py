"""Contours, overlays and files of masks."""

import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels.mask import (
    CYAN,
    distance_within,
    draw_overlay,
    grow,
    read_mask,
    resize_mask,
    trace_contours,
    write_mask,
    write_overlay,
)


def disc(row=100, column=150, radius=60, shape=(200, 300)):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


# --- distance --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reach", [1, 7, 200])
@pytest.mark.parametrize("share", [0.001, 0.3])
def test_distances_up_to_the_reach_are_euclidean_and_larger_ones_are_one_more(reach, share):
    mask = np.random.default_rng(1).random((90, 130)) < share
    expected = np.minimum(ndimage.distance_transform_edt(~mask), reach + 1)
    assert np.array_equal(distance_within(mask, reach), expected)


def test_without_a_pixel_of_the_mask_every_distance_is_beyond_the_reach():
    assert (distance_within(np.zeros((9, 12), dtype=bool), 5) == 6).all()


def test_growing_adds_the_four_neighbours():
    mask = np.random.default_rng(1).random((40, 30)) < 0.1
    assert np.array_equal(grow(mask), ndimage.binary_dilation(mask))


# --- outline ---------------------------------------------------------------------------------------------------------


def test_the_contour_of_a_disc_is_a_closed_circle():
    (line,) = trace_contours(disc())
    assert np.abs(np.hypot(*(line - (100, 150)).T) - 60).max() < 1
    assert np.array_equal(line[0], line[-1])


def test_contours_at_the_frame_are_closed_and_holes_have_contours():
    (line,) = trace_contours(np.ones((40, 50), dtype=bool))
    assert line.min(axis=0) == pytest.approx([-0.5, -0.5])
    assert line.max(axis=0) == pytest.approx([39.5, 49.5])
    assert [len(line) > 300 for line in trace_contours(disc() & ~disc(radius=20))] == [True, False]
    assert trace_contours(np.zeros((40, 50), dtype=bool)) == []


def test_a_resized_mask_holds_the_pixels_that_lesion_covers_by_half():
    mask = np.zeros((4, 6), dtype=bool)
    mask[:2, :2] = mask[2, 2:4] = mask[3, 4] = True  # a whole block, half a block and a quarter of a block
    assert resize_mask(mask, (2, 3)).tolist() == [[True, False, False], [False, True, False]]
    assert resize_mask(disc(), (400, 600)).mean() == pytest.approx(disc().mean(), abs=0.002)


def test_an_overlay_changes_only_the_border_and_not_the_input():
    rgb = np.full((200, 300, 3), 90, dtype=np.uint8)
    drawn = draw_overlay(rgb, disc())
    assert (rgb == 90).all()
    assert (drawn[100, 90] == CYAN).all()
    distance = np.abs(np.hypot(*(np.indices((200, 300)) - np.array([100, 150])[:, None, None])) - 60)
    assert (drawn[distance > 4] == 90).all()


@pytest.mark.parametrize(("shape", "low", "high"), [((450, 600), 2, 4), ((2848, 4288), 8, 14)])
def test_the_outline_width_is_proportional_to_the_photo(shape, low, high):
    mask = np.zeros(shape, dtype=bool)
    mask[:, : shape[1] // 2] = True
    drawn = draw_overlay(np.zeros((*shape, 3), dtype=np.uint8), mask)
    assert low <= (drawn[shape[0] // 2, 50:-50, 2] > 127).sum() <= high


def test_the_overlay_of_a_full_mask_follows_the_frame():
    rgb = np.zeros((60, 80, 3), dtype=np.uint8)
    assert (draw_overlay(rgb, np.ones((60, 80), dtype=bool))[0, :, 2] > 200).all()
    assert np.array_equal(draw_overlay(rgb, np.zeros((60, 80), dtype=bool)), rgb)


def test_an_overlay_file_shows_the_photo_and_a_sharp_line(tmp_path):
    rgb = np.full((200, 300, 3), 90, dtype=np.uint8)
    write_overlay(tmp_path / "a_overlay.jpg", rgb, disc())
    with Image.open(tmp_path / "a_overlay.jpg") as image:
        assert image.format == "JPEG"
        change = np.abs(np.asarray(image).astype(int) - draw_overlay(rgb, disc()))
    assert change.max() < 60, "of one channel of a pixel beside the line"
    assert change.mean() < 1


def test_an_overlay_of_another_size_raises():
    with pytest.raises(BadInput, match="300 x 200 pixels, but the photo has 80 x 60"):
        draw_overlay(np.zeros((60, 80, 3), dtype=np.uint8), disc())


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_written_mask_has_one_channel_with_0_and_255(tmp_path):
    write_mask(tmp_path / "a_segmentation.png", disc())
    assert np.array_equal(read_mask(tmp_path / "a_segmentation.png", (200, 300, 3)), disc())
    with Image.open(tmp_path / "a_segmentation.png") as image:
        assert (image.format, image.mode, image.getextrema()) == ("PNG", "L", (0, 255))


@pytest.mark.parametrize("mask", [np.zeros((60, 80), bool), np.ones((60, 80), bool), disc()[::2, ::-1]])
def test_empty_full_and_strided_masks_are_read_back(tmp_path, mask):
    write_mask(tmp_path / "a.png", mask)
    assert np.array_equal(read_mask(tmp_path / "a.png"), mask)


def test_a_failed_write_keeps_the_old_mask_and_leaves_no_temporary_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_mask(path, disc())

    def disk_full(file, content):
        file.write_text("half a mask")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", disk_full)
        with pytest.raises(BadInput, match="the disk is full; free some space"):
            write_mask(path, ~disc())
    assert np.array_equal(read_mask(path), disc())
    assert list(tmp_path.iterdir()) == [path]


def test_writing_to_a_missing_folder_raises(tmp_path):
    with pytest.raises(BadInput, match=r"none.a\.png could not be written"):
        write_mask(tmp_path / "none" / "a.png", disc())


def paletted():
    image = Image.fromarray(disc().astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 128, 0, 0])
    return image


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("zero_one.png", Image.fromarray(disc().astype(np.uint8))),
        ("one_bit.png", Image.fromarray(disc())),
        ("one_bit.tif", Image.fromarray(disc())),
        ("bmp.bmp", Image.fromarray(disc().astype(np.uint8) * 255)),
        ("rgb.png", Image.fromarray(disc().astype(np.uint8) * 255).convert("RGB")),
        ("rgba.png", Image.fromarray(disc().astype(np.uint8) * 255).convert("RGBA")),
        ("red_palette.png", paletted()),
        ("16_bit.png", Image.fromarray(disc().astype(np.uint16) * 65535)),
        ("jpeg.jpg", Image.fromarray(disc().astype(np.uint8) * 255)),
    ],
)
def test_every_encoding_of_black_and_white_is_read(tmp_path, name, image):
    image.save(tmp_path / name)
    assert np.array_equal(read_mask(tmp_path / name), disc())


def test_transparent_pixels_are_not_lesion(tmp_path):
    pixels = np.full((200, 300, 4), 255, dtype=np.uint8)
    pixels[..., 3] = disc() * 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read_mask(tmp_path / "a.png"), disc())


def test_a_resized_mask_with_gray_borders_is_thresholded(tmp_path):
    Image.fromarray(disc().astype(np.uint8) * 255).resize((600, 400), Image.Resampling.BICUBIC).save(tmp_path / "a.png")
    mask = read_mask(tmp_path / "a.png")
    assert mask.mean() == pytest.approx(disc().mean(), rel=0.01)


@pytest.mark.parametrize("values", [(1, 2), (30, 220), (254, 255), (1000, 60000)])
def test_the_higher_of_two_values_is_lesion(tmp_path, values):
    dtype = np.uint8 if values[1] < 256 else np.uint16
    Image.fromarray(np.where(disc(), values[1], values[0]).astype(dtype)).save(tmp_path / "a.png")
    assert np.array_equal(read_mask(tmp_path / "a.png"), disc())


def test_a_colour_mask_on_a_dark_coloured_background_is_read(tmp_path):
    pixels = np.where(disc()[..., None], np.array([255, 255, 0]), np.array([0, 0, 80])).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read_mask(tmp_path / "a.png"), disc())


def test_two_colours_of_the_same_value_raise(tmp_path):
    pixels = np.where(disc()[..., None], np.array([255, 0, 0]), np.array([255, 255, 255])).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(BadInput, match=r"a\.png is not a lesion mask: its colours are equally bright"):
        read_mask(tmp_path / "a.png")


@pytest.mark.parametrize(("value", "lesion"), [(0, False), (1, True), (255, True)])
def test_a_mask_of_one_value_is_empty_or_full(tmp_path, value, lesion):
    Image.fromarray(np.full((60, 80), value, dtype=np.uint8)).save(tmp_path / "a.png")
    assert (read_mask(tmp_path / "a.png") == lesion).all()


@pytest.mark.parametrize(
    "pixels",
    [
        np.tile(np.arange(100, dtype=np.uint8), (60, 1)),
        np.repeat(np.arange(4, dtype=np.uint8), 800).reshape(40, 80),
        np.repeat(np.arange(4, dtype=np.uint16), 800).reshape(40, 80) * 1000,
    ],
    ids=["photo", "labels", "16-bit labels"],
)
def test_a_file_that_is_not_a_mask_raises(tmp_path, pixels):
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    with pytest.raises(BadInput, match="is not a lesion mask") as caught:
        read_mask(path)
    assert str(path) in str(caught.value)


def test_a_mask_of_another_size_raises_with_both_sizes(tmp_path):
    write_mask(tmp_path / "a.png", disc())
    with pytest.raises(BadInput, match="300 x 200 pixels, but its photo has 300 x 201 pixels"):
        read_mask(tmp_path / "a.png", (201, 300))
