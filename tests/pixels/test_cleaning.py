"""Cleaning of masks: exact results on discs, and properties on random masks."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels import cleaning
from napari_skinseg.pixels.cleaning import (
    CleanUp,
    binarise,
    clean_mask,
    fill_holes,
    grow,
    keep_largest,
    keep_pieces,
    shrink,
    smooth_border,
)

OFF = CleanUp(keep="all", min_area=0, fill_holes=False, smooth=0)
MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24))
DISTANCES = st.floats(0.5, 30)


def disc(row=100, column=150, radius=60.0, shape=(200, 300)):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def untidy():
    """A disc with a hole, a second lesion, and small pieces."""
    mask = disc() & ~disc(radius=20)
    mask |= disc(20, 20, 15)
    mask[190, ::20] = True
    return mask


def pieces(mask):
    return ndimage.label(mask, structure=np.ones((3, 3)))[1]


def by_hand(mask, pixels):
    """Pixels at most `pixels` away from the mask, computed pair by pair."""
    everywhere, inside = np.argwhere(np.ones_like(mask)), np.argwhere(mask)
    squares = ((everywhere[:, None] - inside[None]) ** 2).sum(axis=2)
    return (squares.min(axis=1, initial=10**9) <= pixels**2).reshape(mask.shape)


# --- clean_mask ------------------------------------------------------------------------------------------------------


def test_with_every_step_off_the_result_is_a_copy():
    mask = untidy()
    cleaned = clean_mask(mask, OFF)
    assert np.array_equal(cleaned, mask)
    assert not np.shares_memory(cleaned, mask)


def test_the_default_keeps_one_lesion_without_holes():
    cleaned = clean_mask(untidy())
    assert pieces(cleaned) == 1
    assert cleaned[100, 150], "the hole is filled"
    assert not cleaned[20, 20], "the second lesion is gone"
    assert (cleaned ^ disc()).mean() < 0.002


def test_keep_all_drops_small_pieces_and_keeps_a_second_lesion():
    cleaned = clean_mask(untidy(), CleanUp(keep="all", smooth=0))
    assert np.array_equal(cleaned, disc() | disc(20, 20, 15))


def test_each_step_works_alone():
    mask = untidy()
    ring, dot = disc() & ~disc(radius=20), disc(20, 20, 15)
    dust = mask & ~ring & ~dot
    assert np.array_equal(clean_mask(mask, CleanUp("largest", 0, False, 0)), ring)
    assert np.array_equal(clean_mask(mask, CleanUp("all", 0.0005, False, 0)), ring | dot)
    assert np.array_equal(clean_mask(mask, CleanUp("all", 0, True, 0)), disc() | dot | dust)


def test_smoothing_removes_a_spike_and_keeps_the_area():
    mask = disc()
    mask[100, 210:260] = True
    cleaned = clean_mask(mask, CleanUp("all", 0, False, 0.005))
    assert not cleaned[100, 220:].any()
    assert abs(cleaned.sum() / disc().sum() - 1) < 0.01


def test_smoothing_does_not_round_a_lesion_at_the_frame():
    mask = disc(row=0)
    assert clean_mask(mask)[0].sum() == pytest.approx(mask[0].sum(), abs=2)
    assert clean_mask(np.ones((60, 80), dtype=bool)).all()


def test_a_lesion_too_small_for_smoothing_is_unchanged():
    mask = np.zeros((2000, 3000), dtype=bool)
    mask[1000, 1000:1004] = True
    assert np.array_equal(clean_mask(mask, CleanUp(min_area=0)), mask)


def test_a_lesion_smaller_than_min_area_is_dropped():
    mask = np.zeros((200, 300), dtype=bool)
    mask[50:55, 50:55] = True
    assert not clean_mask(mask).any()


def test_an_empty_mask_stays_empty():
    assert not clean_mask(np.zeros((50, 60), dtype=bool)).any()


def test_a_hole_open_to_the_frame_is_not_filled():
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
def test_the_default_never_leaves_two_pieces_or_a_hole(seed, shape, share, sigma):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    cleaned = clean_mask(noise >= np.quantile(noise, share))
    assert pieces(cleaned) <= 1
    assert np.array_equal(ndimage.binary_fill_holes(cleaned), cleaned)


@settings(max_examples=60, deadline=None)
@given(mask=hnp.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_without_min_area_a_lesion_is_never_removed(mask):
    assert clean_mask(mask, CleanUp(min_area=0)).any() == mask.any()


def test_a_probability_at_the_threshold_is_lesion():
    probability = np.full((40, 50), 0.2, dtype=np.float32)
    probability[10:30, 10:30] = 0.5
    assert binarise(probability, 0.5, OFF).sum() == 400
    assert binarise(probability, 0.51, OFF).sum() == 0


@pytest.mark.parametrize(
    "clean_up", [CleanUp(keep="some"), CleanUp(min_area=1), CleanUp(min_area=-1), CleanUp(smooth=1)]
)
def test_a_value_out_of_range_raises(clean_up):
    with pytest.raises(BadInput, match=";"):
        clean_mask(disc(), clean_up)


def test_keep_pieces_keeps_the_largest_and_the_chosen_pieces():
    mask = np.zeros((20, 30), bool)
    mask[2:10, 2:10] = True
    mask[12:15, 20:23] = True
    mask[17:19, 2:4] = True
    kept = keep_pieces(mask, [(13, 21), (0, 29), (99, 99)])
    assert kept[5, 5]
    assert kept[13, 21]
    assert not kept[18, 3]
    assert not keep_pieces(np.zeros((4, 4), bool), [(1, 1)]).any()


# --- single steps ------------------------------------------------------------------------------------


def test_filling_restores_the_disc():
    assert np.array_equal(fill_holes(disc() & ~disc(radius=20)), disc())


def test_filling_does_not_change_other_pieces_and_notches():
    mask = disc() & ~disc(radius=20)
    mask[100, 150:] = False  # the hole is open to the outside now
    mask[5, 5] = True
    assert np.array_equal(fill_holes(mask), mask)


def test_keep_largest_keeps_the_hole_of_the_piece():
    ring = disc() & ~disc(radius=20)
    assert np.array_equal(keep_largest(ring | disc(20, 20, 15)), ring)


def test_smoothing_removes_a_spike_and_a_notch():
    ragged = disc()
    ragged[99:101, 210:240] = True
    ragged[40:70, 149:151] = False
    smooth = smooth_border(ragged)
    assert not smooth[100, 220:].any()
    assert smooth[46:70, 150].all()
    assert (smooth ^ disc()).sum() < 0.01 * disc().sum()


def test_smooth_border_keeps_a_very_small_lesion():
    speck = np.zeros((200, 300), bool)
    speck[50, 60] = True
    assert np.array_equal(smooth_border(speck), speck)


# --- growing and shrinking -------------------------------------------------------------------------------------------


def test_a_point_grows_to_an_exact_disc():
    point = np.zeros((200, 300), bool)
    point[100, 150] = True
    for radius in (1, 2.5, 7, 60):
        assert np.array_equal(grow(point, radius), disc(radius=radius))


def test_the_border_of_a_disc_moves_by_the_given_pixels():
    assert (grow(disc(), 10) ^ disc(radius=70)).sum() < 0.005 * disc().sum()
    assert (shrink(disc(), 10) ^ disc(radius=50)).sum() < 0.02 * disc().sum()
    # Along the row of its centre the border is exactly there.
    assert np.flatnonzero(grow(disc(), 10)[100]).tolist() == list(range(80, 221))
    assert np.flatnonzero(shrink(disc(), 10)[100]).tolist() == list(range(100, 201))


def test_a_lesion_at_the_frame_does_not_shrink_from_the_frame():
    mask = np.zeros((50, 80), bool)
    mask[:20, :30] = True
    assert np.array_equal(grow(mask, 1), by_hand(mask, 1))
    expected = np.zeros_like(mask)
    expected[:15, :25] = True
    assert np.array_equal(shrink(mask, 5), expected)


def test_empty_and_full_masks_are_unchanged():
    for mask in (np.zeros((20, 30), bool), np.ones((20, 30), bool)):
        for edited in (fill_holes(mask), smooth_border(mask), keep_largest(mask), grow(mask, 5), shrink(mask, 5)):
            assert np.array_equal(edited, mask)
            assert not np.shares_memory(edited, mask)


@pytest.mark.parametrize("pixels", [0, -2, float("nan"), float("inf")])
def test_a_distance_out_of_range_raises(pixels):
    for move in (grow, shrink):
        with pytest.raises(BadInput, match="give a number above 0"):
            move(disc(), pixels)


@given(MASKS, DISTANCES)
@settings(max_examples=60, deadline=None)
def test_growing_adds_exactly_the_pixels_within_the_distance(mask, pixels):
    grown = grow(mask, pixels)
    assert grown.shape == mask.shape
    assert grown.dtype == bool
    assert np.array_equal(grown, by_hand(mask, pixels))


@given(MASKS, DISTANCES)
@settings(max_examples=60, deadline=None)
def test_shrinking_equals_growing_the_background(mask, pixels):
    assert np.array_equal(shrink(mask, pixels), ~grow(~mask, pixels))


@given(MASKS, DISTANCES)
@settings(max_examples=60, deadline=None)
def test_growing_and_shrinking_is_a_closing(mask, pixels):
    assert (shrink(grow(mask, pixels), pixels) >= mask).all()
    assert (grow(shrink(mask, pixels), pixels) <= mask).all()


@given(MASKS)
@settings(max_examples=60, deadline=None)
def test_filling_only_adds_and_repeating_a_step_changes_nothing(mask):
    filled, largest = fill_holes(mask), keep_largest(mask)
    assert (filled >= mask).all()
    assert np.array_equal(fill_holes(filled), filled)
    assert (largest <= mask).all()
    assert np.array_equal(keep_largest(largest), largest)
    assert largest.any() == mask.any()


@given(MASKS, DISTANCES)
@settings(max_examples=30, deadline=None)
def test_the_input_mask_is_not_changed(mask, pixels):
    before = mask.copy()
    for edited in (fill_holes(mask), smooth_border(mask), keep_largest(mask), grow(mask, pixels), shrink(mask, pixels)):
        assert edited.dtype == bool
        assert edited.shape == mask.shape
        assert not np.shares_memory(edited, mask)
    assert np.array_equal(mask, before)


def test_a_small_lesion_on_a_large_photo_is_fast():
    mask = disc(1500, 2000, 150, (3000, 4000))
    start = time.thread_time()
    grow(mask, 5)
    shrink(mask, 5)
    assert time.thread_time() - start < 0.5


def test_pieces_get_labels_from_the_largest_to_the_smallest():
    mask = np.zeros((40, 60), bool)
    mask[2:5, 2:5] = True
    mask[10:30, 10:30] = True
    mask[30, 30] = True  # touches at a corner
    mask[5:12, 40:50] = True
    labels = cleaning.label_pieces(mask)
    assert (labels[15, 15], labels[30, 30], labels[6, 45], labels[3, 3], labels[0, 0]) == (1, 1, 2, 3, 0)
    np.testing.assert_array_equal(labels > 0, mask)
    assert not cleaning.label_pieces(np.zeros((5, 5), bool)).any()
