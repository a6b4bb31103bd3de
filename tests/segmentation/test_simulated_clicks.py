"""The positions of simulated clicks, and the distorted masks from which training starts."""

import numpy as np
import pytest

from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.pixels.metrics import jaccard
from napari_skinseg.segmentation.simulated_clicks import distorted, next_click, several_clicks

SHAPE = (60, 80)


def disc(row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def test_a_missing_piece_gets_an_include_click_in_its_middle():
    click = next_click(np.zeros(SHAPE, bool), disc(30, 40, 12))
    assert (click.row, click.column, click.include) == (30, 40, True)


def test_an_extra_piece_gets_an_exclude_click_in_its_middle():
    truth = disc(20, 20, 10)
    click = next_click(truth | disc(45, 60, 8), truth)
    assert (click.row, click.column, click.include) == (45, 60, False)


def test_the_error_with_the_largest_inner_radius_is_clicked():
    thin = np.zeros(SHAPE, bool)
    thin[:4] = True  # more pixels than the disc, but nowhere deep
    click = next_click(thin, disc(40, 40, 8))
    assert thin.sum() > disc(40, 40, 8).sum()
    assert click.include


def test_equal_masks_need_no_click():
    assert next_click(disc(30, 30, 9), disc(30, 30, 9)) is None
    assert several_clicks(disc(30, 30, 9), disc(30, 30, 9), 3, np.random.default_rng(0)) == []


@pytest.mark.parametrize("by_area", [False, True])
def test_random_clicks_stay_in_the_inner_half_of_an_error(by_area):
    truth, random = disc(30, 40, 16), np.random.default_rng(0)
    clicks = [next_click(np.zeros(SHAPE, bool), truth, random, by_area) for _ in range(40)]
    assert all((click.row - 30) ** 2 + (click.column - 40) ** 2 <= 9**2 for click in clicks)
    assert len({(click.row, click.column) for click in clicks}) > 20


def test_training_chooses_errors_by_area():
    truth, random = disc(20, 20, 16), np.random.default_rng(1)
    mask = disc(45, 65, 8)
    share = np.mean([next_click(mask, truth, random, by_area=True).include for _ in range(400)])
    assert share == pytest.approx(truth.sum() / (truth.sum() + mask.sum()), abs=0.06)


def test_distorted_masks_have_errors_of_many_sizes():
    truth, random = phantom(3, (96, 128)).mask, np.random.default_rng(0)
    overlaps = [jaccard(distorted(truth, random), truth) for _ in range(60)]
    assert min(overlaps) < 0.6
    assert max(overlaps) > 0.85
    assert max(overlaps) < 1
    assert np.mean(overlaps) > 0.5


def test_an_empty_mask_stays_empty():
    assert not distorted(np.zeros(SHAPE, bool), np.random.default_rng(0)).any()


@pytest.mark.parametrize("side", [1, 2, 64])
def test_a_lesion_of_a_few_pixels_or_of_the_whole_frame_can_be_distorted(side):
    truth = np.zeros((64, 64), dtype=bool)
    truth[:side, :side] = True
    for seed in range(20):
        assert distorted(truth, np.random.default_rng(seed)).shape == truth.shape
