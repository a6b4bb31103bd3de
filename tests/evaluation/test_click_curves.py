"""Simulated clicks on a small trained network."""

import numpy as np
import pytest

from napari_skinseg.errors import Cancelled
from napari_skinseg.evaluation.click_curves import CURVES, simulate_clicks, summarise_traces
from napari_skinseg.pixels.metrics import jaccard
from napari_skinseg.segmentation.segmenter import Segmenter
from napari_skinseg.segmentation.simulated_clicks import next_click


@pytest.fixture
def refiner(spot_finder, spot):
    """A photo of a spot, ready for clicks, and the spot."""
    image, truth = spot(50, 70, 25, (110, 150))
    return Segmenter(spot_finder).refiner(image), truth


def wrong_mask(truth):
    """The true mask, moved to the right and with an extra piece."""
    mask = np.roll(truth, 12, axis=1)
    mask[90:100, 10:30] = True
    return mask


@pytest.mark.parametrize(("curve", "number"), [("automatic_centre", None), ("automatic_jittered", 1)])
def test_each_click_corrects_the_largest_error_of_the_previous_mask(refiner, curve, number):
    refiner, truth = refiner
    random = None if number is None else np.random.default_rng([3, number])
    mask, clicks = wrong_mask(truth), []
    expected = [jaccard(mask, truth)]
    for _ in range(3):
        clicks.append(next_click(mask, truth, random))
        mask = refiner.refine(clicks, mask).mask
        expected.append(jaccard(mask, truth))
    assert simulate_clicks(refiner, truth, wrong_mask(truth), 3, seed=(3,))[curve] == tuple(expected)


def test_curves_start_from_their_mask_and_have_a_value_per_click(refiner):
    refiner, truth = refiner
    automatic = wrong_mask(truth)
    traces = simulate_clicks(refiner, truth, automatic, 2)
    assert list(traces) == list(CURVES)
    assert all(len(trace) == 3 for trace in traces.values())
    assert traces["automatic_centre"][0] == traces["automatic_jittered"][0] == jaccard(automatic, truth)
    assert traces["nothing_centre"][0] == traces["nothing_jittered"][0] == 0
    assert traces["nothing_centre"][1] > 0, "the click itself is in the mask"


def test_a_mask_without_error_keeps_its_jaccard(refiner):
    refiner, truth = refiner
    assert simulate_clicks(refiner, truth, truth, 4)["automatic_centre"] == (1, 1, 1, 1, 1)


def test_the_seed_changes_jittered_clicks_only(refiner):
    refiner, truth = refiner
    one, same, other = (simulate_clicks(refiner, truth, wrong_mask(truth), 3, seed=(seed,)) for seed in (0, 0, 1))
    assert one == same
    assert one["nothing_centre"] == other["nothing_centre"]
    assert one["nothing_jittered"] != other["nothing_jittered"]


def test_cancel_stops_between_two_clicks(refiner):
    refiner, truth = refiner

    class CancelledAtThirdRead:
        reads = 0

        def is_set(self):
            self.reads += 1
            return self.reads > 2

    token = CancelledAtThirdRead()
    with pytest.raises(Cancelled):
        simulate_clicks(refiner, truth, wrong_mask(truth), 20, cancel=token)
    assert token.reads == 3


def test_clicks_to_a_goal_count_until_first_reached_or_the_maximum():
    curve = summarise_traces([(0.9, 0.8, 0.95), (0.2, 0.86, 0.5), (0.1, 0.2, 0.3)], bootstrap=200)
    assert curve.photos == 3
    assert [after.mean for after in curve.jaccard] == pytest.approx([0.4, 0.62, 1.75 / 3])
    low, high = curve.to
    assert (low.goal, low.clicks.mean, low.not_reached) == (0.85, 1.0, pytest.approx(1 / 3))  # 0, 1 and 2 clicks
    assert (high.goal, high.clicks.mean, high.not_reached) == (0.90, pytest.approx(4 / 3), pytest.approx(2 / 3))
