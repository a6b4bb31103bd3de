"""Masks: clean-up, outlines, files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels.cleaning import CleanUp, binarise, clean_mask, keep_pieces
from napari_skinseg.pixels.mask import CYAN, draw_overlay, read_mask, trace_contours, write_mask

OFF = CleanUp(keep="all", min_area=0, fill_holes=False, smooth=0)


def disc(row=100, column=150, radius=60, shape=(200, 300)):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def untidy():
    """A disc with a hole, a second lesion, and dust."""
    mask = disc() & ~disc(radius=20)
    mask |= disc(20, 20, 15)
    mask[190, ::20] = True
    return mask


def pieces(mask):
    return ndimage.label(mask, structure=np.ones((3, 3)))[1]


# --- clean-up --------------------------------------------------------------------------------------------------------


def test_with_every_step_off_a_mask_stays_as_it_is_and_is_a_copy():
    mask = untidy()
    cleaned = clean_mask(mask, OFF)
    assert np.array_equal(cleaned, mask)
    assert not np.shares_memory(cleaned, mask)


def test_by_default_one_lesion_without_holes_is_left():
    cleaned = clean_mask(untidy())
    assert pieces(cleaned) == 1
    assert cleaned[100, 150], "the hole is filled"
    assert not cleaned[20, 20], "the second lesion is gone"
    assert (cleaned ^ disc()).mean() < 0.002


def test_dust_goes_and_a_second_lesion_stays_when_all_are_kept():
    cleaned = clean_mask(untidy(), CleanUp(keep="all", smooth=0))
    assert np.array_equal(cleaned, disc() | disc(20, 20, 15))


def test_each_step_can_be_taken_alone():
    mask = untidy()
    ring, dot = disc() & ~disc(radius=20), disc(20, 20, 15)
    dust = mask & ~ring & ~dot
    assert np.array_equal(clean_mask(mask, CleanUp("largest", 0, False, 0)), ring)
    assert np.array_equal(clean_mask(mask, CleanUp("all", 0.0005, False, 0)), ring | dot)
    assert np.array_equal(clean_mask(mask, CleanUp("all", 0, True, 0)), disc() | dot | dust)


def test_smoothing_takes_a_spike_off_and_leaves_the_lesion_its_size():
    mask = disc()
    mask[100, 210:260] = True
    cleaned = clean_mask(mask, CleanUp("all", 0, False, 0.005))
    assert not cleaned[100, 220:].any()
    assert abs(cleaned.sum() / disc().sum() - 1) < 0.01


def test_smoothing_does_not_round_a_lesion_off_where_the_frame_cuts_it():
    mask = disc(row=0)
    assert clean_mask(mask)[0].sum() == pytest.approx(mask[0].sum(), abs=2)
    assert clean_mask(np.ones((60, 80), dtype=bool)).all()


def test_a_lesion_too_small_to_be_smoothed_is_kept_as_it_is():
    mask = np.zeros((2000, 3000), dtype=bool)
    mask[1000, 1000:1004] = True
    assert np.array_equal(clean_mask(mask, CleanUp(min_area=0)), mask)


def test_a_lesion_below_the_smallest_area_is_dropped():
    mask = np.zeros((200, 300), dtype=bool)
    mask[50:55, 50:55] = True
    assert not clean_mask(mask).any()


def test_an_empty_mask_stays_empty():
    assert not clean_mask(np.zeros((50, 60), dtype=bool)).any()


def test_a_hole_open_to_the_frame_is_no_hole():
    mask = np.ones((60, 80), dtype=bool)
    mask[:30, 40] = False
    assert np.array_equal(clean_mask(mask, CleanUp(smooth=0)), mask)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(32, 90), st.integers(32, 90)),
    share=st.floats(0, 1),
    sigma=st.sampled_from([0, 1, 4]),
)
def test_whatever_the_mask_the_default_leaves_at_most_one_piece_and_no_hole(seed, shape, share, sigma):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    cleaned = clean_mask(noise >= np.quantile(noise, share))
    assert pieces(cleaned) <= 1
    assert np.array_equal(ndimage.binary_fill_holes(cleaned), cleaned)


@settings(max_examples=60, deadline=None)
@given(mask=hnp.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_without_a_smallest_area_clean_up_never_empties_a_mask(mask):
    assert clean_mask(mask, CleanUp(min_area=0)).any() == mask.any()


def test_a_probability_at_the_threshold_is_lesion():
    probability = np.full((40, 50), 0.2, dtype=np.float32)
    probability[10:30, 10:30] = 0.5
    assert binarise(probability, 0.5, OFF).sum() == 400
    assert binarise(probability, 0.51, OFF).sum() == 0


@pytest.mark.parametrize(
    "clean_up", [CleanUp(keep="some"), CleanUp(min_area=1), CleanUp(min_area=-1), CleanUp(smooth=1)]
)
def test_a_setting_that_makes_no_sense_is_refused(clean_up):
    with pytest.raises(BadInput, match=";"):
        clean_mask(disc(), clean_up)


# --- outline ---------------------------------------------------------------------------------------------------------


def test_the_outline_of_a_disc_lies_on_its_circle_and_is_closed():
    (line,) = trace_contours(disc())
    assert np.abs(np.hypot(*(line - (100, 150)).T) - 60).max() < 1
    assert np.array_equal(line[0], line[-1])


def test_a_lesion_cut_by_the_frame_has_a_closed_outline_and_a_hole_its_own():
    (line,) = trace_contours(np.ones((40, 50), dtype=bool))
    assert line.min(axis=0) == pytest.approx([-0.5, -0.5])
    assert line.max(axis=0) == pytest.approx([39.5, 49.5])
    assert [len(line) > 300 for line in trace_contours(disc() & ~disc(radius=20))] == [True, False]
    assert trace_contours(np.zeros((40, 50), dtype=bool)) == []


def test_an_overlay_draws_the_border_in_cyan_and_leaves_the_rest_and_the_photo_alone():
    rgb = np.full((200, 300, 3), 90, dtype=np.uint8)
    drawn = draw_overlay(rgb, disc())
    assert (rgb == 90).all()
    assert (drawn[100, 90] == CYAN).all()
    distance = np.abs(np.hypot(*(np.indices((200, 300)) - np.array([100, 150])[:, None, None])) - 60)
    assert (drawn[distance > 4] == 90).all()


@pytest.mark.parametrize(("shape", "low", "high"), [((450, 600), 2, 4), ((2848, 4288), 8, 14)])
def test_the_outline_is_as_wide_as_the_photo_is_large(shape, low, high):
    mask = np.zeros(shape, dtype=bool)
    mask[:, : shape[1] // 2] = True
    drawn = draw_overlay(np.zeros((*shape, 3), dtype=np.uint8), mask)
    assert low <= (drawn[shape[0] // 2, 50:-50, 2] > 127).sum() <= high


def test_a_mask_of_the_whole_frame_is_outlined_at_its_edge_and_an_empty_one_not_at_all():
    rgb = np.zeros((60, 80, 3), dtype=np.uint8)
    assert (draw_overlay(rgb, np.ones((60, 80), dtype=bool))[0, :, 2] > 200).all()
    assert np.array_equal(draw_overlay(rgb, np.zeros((60, 80), dtype=bool)), rgb)


def test_an_overlay_of_another_size_is_refused():
    with pytest.raises(BadInput, match="300 x 200 pixels, but the photo has 80 x 60"):
        draw_overlay(np.zeros((60, 80, 3), dtype=np.uint8), disc())


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_mask_survives_a_round_trip_as_0_and_255_in_one_channel(tmp_path):
    write_mask(tmp_path / "a_segmentation.png", disc())
    assert np.array_equal(read_mask(tmp_path / "a_segmentation.png", (200, 300, 3)), disc())
    with Image.open(tmp_path / "a_segmentation.png") as image:
        assert (image.format, image.mode, image.getextrema()) == ("PNG", "L", (0, 255))


@pytest.mark.parametrize("mask", [np.zeros((60, 80), bool), np.ones((60, 80), bool), disc()[::2, ::-1]])
def test_empty_full_and_strided_masks_survive_too(tmp_path, mask):
    write_mask(tmp_path / "a.png", mask)
    assert np.array_equal(read_mask(tmp_path / "a.png"), mask)


def test_a_failing_write_leaves_the_old_mask_whole_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_mask(path, disc())

    def disk_full(image, file, **options):
        file.write_bytes(b"half a mask")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", disk_full)
    with pytest.raises(BadInput, match="No space left"):
        write_mask(path, ~disc())
    assert np.array_equal(read_mask(path), disc())
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_refused_by_name(tmp_path):
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
def test_every_way_to_store_black_and_white_is_read(tmp_path, name, image):
    image.save(tmp_path / name)
    assert np.array_equal(read_mask(tmp_path / name), disc())


def test_what_is_transparent_in_a_mask_is_not_lesion(tmp_path):
    pixels = np.full((200, 300, 4), 255, dtype=np.uint8)
    pixels[..., 3] = disc() * 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read_mask(tmp_path / "a.png"), disc())


def test_a_resized_mask_with_gray_borders_is_cut_at_the_middle(tmp_path):
    Image.fromarray(disc().astype(np.uint8) * 255).resize((600, 400), Image.Resampling.BICUBIC).save(tmp_path / "a.png")
    mask = read_mask(tmp_path / "a.png")
    assert mask.mean() == pytest.approx(disc().mean(), rel=0.01)


@pytest.mark.parametrize(
    "pixels",
    [
        np.tile(np.arange(100, dtype=np.uint8), (60, 1)),
        np.repeat(np.arange(4, dtype=np.uint8), 800).reshape(40, 80),
        np.repeat(np.arange(1, 3, dtype=np.uint8), 1600).reshape(40, 80),
        np.repeat(np.arange(4, dtype=np.uint16), 800).reshape(40, 80) * 1000,
    ],
    ids=["photo", "labels", "no background", "16-bit labels"],
)
def test_a_file_that_is_no_mask_is_refused_by_name(tmp_path, pixels):
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    with pytest.raises(BadInput, match="is not a lesion mask") as caught:
        read_mask(path)
    assert str(path) in str(caught.value)


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path):
    write_mask(tmp_path / "a.png", disc())
    with pytest.raises(BadInput, match="300 x 200 pixels, but its photo has 300 x 201 pixels"):
        read_mask(tmp_path / "a.png", (201, 300))


def test_the_largest_piece_and_the_clicked_ones_are_kept():
    mask = np.zeros((20, 30), bool)
    mask[2:10, 2:10] = True
    mask[12:15, 20:23] = True
    mask[17:19, 2:4] = True
    kept = keep_pieces(mask, [(13, 21), (0, 29), (99, 99)])
    assert kept[5, 5]
    assert kept[13, 21]
    assert not kept[18, 3]
    assert not keep_pieces(np.zeros((4, 4), bool), [(1, 1)]).any()
