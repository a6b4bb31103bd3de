"""Edits of a whole mask: exact on discs, and true of whatever hypothesis draws."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels.cleaning import fill_holes, grow, keep_largest, shrink, smooth_border

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24))
DISTANCES = st.floats(0.5, 30)


def disc(row=100, column=150, radius=60.0, shape=(200, 300)):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def by_hand(mask, pixels):
    """All that is at most `pixels` away from the mask, pair by pair."""
    everywhere, inside = np.argwhere(np.ones_like(mask)), np.argwhere(mask)
    squares = ((everywhere[:, None] - inside[None]) ** 2).sum(axis=2)
    return (squares.min(axis=1, initial=10**9) <= pixels**2).reshape(mask.shape)


# --- filling, smoothing, choosing ------------------------------------------------------------------------------------


def test_filling_gives_the_disc_back():
    assert np.array_equal(fill_holes(disc() & ~disc(radius=20)), disc())


def test_filling_leaves_other_pieces_and_bays_alone():
    mask = disc() & ~disc(radius=20)
    mask[100, 150:] = False  # the hole is open to the outside now
    mask[5, 5] = True
    assert np.array_equal(fill_holes(mask), mask)


def test_the_largest_piece_is_kept_with_its_hole():
    ring = disc() & ~disc(radius=20)
    assert np.array_equal(keep_largest(ring | disc(20, 20, 15)), ring)


def test_smoothing_takes_a_spike_and_a_notch_away_and_leaves_the_disc():
    ragged = disc()
    ragged[99:101, 210:240] = True
    ragged[40:70, 149:151] = False
    smooth = smooth_border(ragged)
    assert not smooth[100, 220:].any()
    assert smooth[46:70, 150].all()
    assert (smooth ^ disc()).sum() < 0.01 * disc().sum()


def test_smoothing_keeps_a_lesion_too_small_for_it():
    speck = np.zeros((200, 300), bool)
    speck[50, 60] = True
    assert np.array_equal(smooth_border(speck, 0.05), speck)


@pytest.mark.parametrize("strength", [0, -1, 0.06, float("nan")])
def test_a_senseless_strength_is_refused(strength):
    with pytest.raises(BadInput, match=r"give a fraction of the diagonal"):
        smooth_border(disc(), strength)


# --- growing and shrinking -------------------------------------------------------------------------------------------


def test_a_point_grows_into_the_exact_disc():
    point = np.zeros((200, 300), bool)
    point[100, 150] = True
    for radius in (1, 2.5, 7, 60):
        assert np.array_equal(grow(point, radius), disc(radius=radius))


def test_a_disc_moves_by_the_pixels_asked_for():
    assert (grow(disc(), 10) ^ disc(radius=70)).sum() < 0.005 * disc().sum()
    assert (shrink(disc(), 10) ^ disc(radius=50)).sum() < 0.02 * disc().sum()
    # Along the row of its centre the border is exactly there.
    assert np.flatnonzero(grow(disc(), 10)[100]).tolist() == list(range(80, 221))
    assert np.flatnonzero(shrink(disc(), 10)[100]).tolist() == list(range(100, 201))


def test_a_lesion_cut_by_the_frame_grows_within_it_and_shrinks_only_from_its_border():
    mask = np.zeros((50, 80), bool)
    mask[:20, :30] = True
    assert np.array_equal(grow(mask, 1), by_hand(mask, 1))
    expected = np.zeros_like(mask)
    expected[:15, :25] = True
    assert np.array_equal(shrink(mask, 5), expected)


def test_empty_and_full_masks_stay_what_they_are():
    for mask in (np.zeros((20, 30), bool), np.ones((20, 30), bool)):
        for edited in (fill_holes(mask), smooth_border(mask), keep_largest(mask), grow(mask, 5), shrink(mask, 5)):
            assert np.array_equal(edited, mask)
            assert not np.shares_memory(edited, mask)


@pytest.mark.parametrize("pixels", [0, -2, float("nan"), float("inf")])
def test_a_senseless_distance_is_refused(pixels):
    for move in (grow, shrink):
        with pytest.raises(BadInput, match="give a number above 0"):
            move(disc(), pixels)


@given(MASKS, DISTANCES)
@settings(max_examples=60, deadline=None)
def test_growing_is_exactly_all_within_the_distance(mask, pixels):
    grown = grow(mask, pixels)
    assert grown.shape == mask.shape
    assert grown.dtype == bool
    assert np.array_equal(grown, by_hand(mask, pixels))


@given(MASKS, DISTANCES)
@settings(max_examples=60, deadline=None)
def test_shrinking_the_lesion_is_growing_the_rest(mask, pixels):
    assert np.array_equal(shrink(mask, pixels), ~grow(~mask, pixels))


@given(MASKS, DISTANCES)
@settings(max_examples=60, deadline=None)
def test_there_and_back_closes_and_back_and_there_opens(mask, pixels):
    assert (shrink(grow(mask, pixels), pixels) >= mask).all()
    assert (grow(shrink(mask, pixels), pixels) <= mask).all()


@given(MASKS)
@settings(max_examples=60, deadline=None)
def test_filling_only_adds_choosing_only_takes_and_twice_is_once(mask):
    filled, largest = fill_holes(mask), keep_largest(mask)
    assert (filled >= mask).all()
    assert np.array_equal(fill_holes(filled), filled)
    assert (largest <= mask).all()
    assert np.array_equal(keep_largest(largest), largest)
    assert largest.any() == mask.any()


@given(MASKS, DISTANCES)
@settings(max_examples=30, deadline=None)
def test_the_mask_that_was_given_is_left_alone(mask, pixels):
    before = mask.copy()
    for edited in (fill_holes(mask), smooth_border(mask), keep_largest(mask), grow(mask, pixels), shrink(mask, pixels)):
        assert edited.dtype == bool
        assert edited.shape == mask.shape
        assert not np.shares_memory(edited, mask)
    assert np.array_equal(mask, before)


def test_a_small_lesion_on_a_large_photo_costs_what_the_lesion_costs():
    mask = disc(1500, 2000, 150, (3000, 4000))
    start = time.thread_time()
    grow(mask, 5)
    shrink(mask, 5)
    assert time.thread_time() - start < 0.5
