"""Figures over photos, and over groups of them, from results whose figures are known."""

from dataclasses import replace

import numpy as np
import pytest

from napari_skinseg.evaluation.statistics import CaseResult, detection, differences, reliability, scores_of, strata
from napari_skinseg.pixels.metrics import agreement


def result(overlap=0.8, confidence=0.8, lesion=0.1, found=0.1, **facts) -> CaseResult:
    """A photo of 1x1000 pixels on which the model's mask has a Jaccard of `overlap`."""
    truth = np.zeros((1, 1000), dtype=bool)
    truth[:, :100] = True
    mask = np.zeros_like(truth)
    mask[:, : round(100 * overlap)] = True
    facts = {"id": "a", "source": "here", "diagnosis": "nv", "touches_edge": False, **facts}
    return CaseResult(
        width=1000,
        height=1,
        lesion_fraction=lesion,
        confidence=confidence,
        seconds=0.1,
        agreement=agreement(mask, truth),
        pooled=(1, 2),
        found_fraction=found,
        **facts,
    )


def test_photos_are_grouped_by_what_sets_them_apart_and_by_nothing_else():
    results = [
        result(0.9, source="north", lesion=0.0499),
        result(0.5, source="south", lesion=0.05, touches_edge=True),
        result(0.7, source="south", lesion=0.2),
        result(1.0, source="south", lesion=1.0, diagnosis="nv"),
    ]
    groups = strata(results, bootstrap=100)
    assert {name: {group: scores.photos for group, scores in found.items()} for name, found in groups.items()} == {
        "dataset": {"north": 1, "south": 3},
        "lesion's share of the frame": {"under 5 %": 1, "5 to 20 %": 1, "20 to 50 %": 1, "50 % and more": 1},
        "frame's edge": {"touches the edge": 1, "within the frame": 3},
    }
    assert groups["frame's edge"]["touches the edge"].jaccard.mean == 0.5
    assert strata(results[:1], bootstrap=100) == {}


def test_photos_without_a_lesion_are_a_group_of_their_own():
    groups = strata([result(), result(lesion=0.0), result(diagnosis="")], bootstrap=100)
    assert list(groups["lesion's share of the frame"]) == ["no lesion", "5 to 20 %"]
    assert groups["frame's edge"]["no lesion"].photos == 1
    assert list(groups["diagnosis"]) == ["not known", "nv"]


def test_the_calibration_error_weighs_each_step_of_confidence_by_its_photos():
    results = [result(0.8, 0.91), result(0.9, 0.99), result(0.5, 0.70), result(0.6, 1.0)]
    last, first = reliability(results)[::-1]
    assert (first.low, first.photos, first.confidence, first.jaccard) == (0.7, 1, 0.70, 0.5)
    assert (last.low, last.high, last.photos) == (0.9, 1.0, 3)
    assert last.jaccard == pytest.approx(2.3 / 3)
    assert scores_of(results, bootstrap=100).calibration_error == pytest.approx((0.2 + (2.9 - 2.3)) / 4)


def test_a_photo_rightly_left_empty_and_a_lesion_missed_are_counted_apart():
    results = [result(lesion=0, found=0), result(lesion=0, found=0.1), result(found=0), *[result()] * 3]
    found = detection(results, bootstrap=100)
    assert (found.without_lesion, found.left_empty.mean) == (2, 0.5)
    assert (found.with_lesion, found.missed.mean) == (4, 0.25)
    assert detection([result()], bootstrap=100).left_empty.mean is None


def test_differences_are_taken_photo_by_photo():
    first = [result(0.3), result(0.6), result(0.9)]
    better = [result(0.4), result(0.7), result(1.0)]
    jaccard = differences(first, better, bootstrap=200)["jaccard"]
    assert jaccard.mean == pytest.approx(0.1)
    assert (jaccard.low, jaccard.high) == (pytest.approx(0.1), pytest.approx(0.1)), "photos differ, the gain does not"
    failure = differences(first, better, bootstrap=200)["failure"]
    assert failure.mean == pytest.approx(-1 / 3)


def test_a_distance_that_one_model_has_not_is_in_no_difference():
    one, other = result(), result()
    other = replace(other, agreement=replace(other.agreement, boundary_px=None))
    assert differences([one, one], [one, other], bootstrap=100)["boundary_px"].n == 1


def test_the_row_of_a_photo_holds_what_clicks_did():
    row = result(clicks={"nothing_centre": (0.0, 0.5)}).row()
    assert (row["nothing_centre_0"], row["nothing_centre_1"]) == (0.0, 0.5)
    assert row["dice"] == pytest.approx(2 * 0.8 / 1.8)
    assert not {"clicks", "agreement", "pooled"} & set(row)
