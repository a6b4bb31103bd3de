"""Figures over photos and groups of photos, computed from known results."""

from dataclasses import replace

import numpy as np
import pytest

from napari_skinseg.evaluation.statistics import (
    CaseResult,
    compute_detection,
    compute_differences,
    compute_reliability,
    compute_scores,
    compute_strata,
)
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


def test_strata_are_those_with_several_groups():
    results = [
        result(0.9, source="north", lesion=0.0499),
        result(0.5, source="south", lesion=0.05, touches_edge=True),
        result(0.7, source="south", lesion=0.2),
        result(1.0, source="south", lesion=1.0, diagnosis="nv"),
    ]
    groups = compute_strata(results, bootstrap=100)
    assert {name: {group: scores.photos for group, scores in found.items()} for name, found in groups.items()} == {
        "dataset": {"north": 1, "south": 3},
        "lesion's share of the frame": {"under 5 %": 1, "5 to 20 %": 1, "20 to 50 %": 1, "50 % and more": 1},
        "frame's edge": {"touches the edge": 1, "within the frame": 3},
    }
    assert groups["frame's edge"]["touches the edge"].jaccard.mean == 0.5
    assert compute_strata(results[:1], bootstrap=100) == {}


def test_photos_without_a_lesion_are_a_separate_group():
    groups = compute_strata([result(), result(lesion=0.0), result(diagnosis="")], bootstrap=100)
    assert list(groups["lesion's share of the frame"]) == ["no lesion", "5 to 20 %"]
    assert groups["frame's edge"]["no lesion"].photos == 1
    assert list(groups["diagnosis"]) == ["not known", "nv"]


def test_a_photo_is_in_the_group_of_each_of_its_flags():
    flags = (("hair", "ruler"), ("hair",), (), None)
    results = [result(overlap, flags=those) for overlap, those in zip((0.2, 0.4, 0.6, 0.8), flags, strict=True)]
    groups = compute_strata(results, bootstrap=100)["artefact"]
    assert {name: scores.photos for name, scores in groups.items()} == {"hair": 2, "none of these": 1, "ruler": 1}
    assert groups["hair"].jaccard.mean == pytest.approx(0.3)


def test_a_group_says_how_many_lesions_were_left_empty():
    groups = compute_strata([result(source="north", found=0.0), result(source="north"), result(source="south")], 100)
    assert [groups["dataset"][name].missed.mean for name in ("north", "south")] == [0.5, 0.0]


def test_calibration_error_weights_each_bin_by_its_photos():
    results = [result(0.8, 0.91), result(0.9, 0.99), result(0.5, 0.70), result(0.6, 1.0)]
    last, first = compute_reliability(results)[::-1]
    assert (first.low, first.photos, first.confidence, first.jaccard) == (0.7, 1, 0.70, 0.5)
    assert (last.low, last.high, last.photos) == (0.9, 1.0, 3)
    assert last.jaccard == pytest.approx(2.3 / 3)
    assert compute_scores(results, bootstrap=100).calibration_error == pytest.approx((0.2 + (2.9 - 2.3)) / 4)


def test_empty_masks_with_and_without_lesion_are_counted_separately():
    results = [result(lesion=0, found=0), result(lesion=0, found=0.1), result(found=0), *[result()] * 3]
    found = compute_detection(results, bootstrap=100)
    assert (found.without_lesion, found.left_empty.mean) == (2, 0.5)
    assert (found.with_lesion, found.missed.mean) == (4, 0.25)
    assert compute_detection([result()], bootstrap=100).left_empty.mean is None


def test_differences_are_paired_by_photo():
    first = [result(0.3), result(0.6), result(0.9)]
    better = [result(0.4), result(0.7), result(1.0)]
    jaccard = compute_differences(first, better, bootstrap=200)["jaccard"]
    assert jaccard.mean == pytest.approx(0.1)
    assert (jaccard.low, jaccard.high) == (pytest.approx(0.1), pytest.approx(0.1)), "photos differ, the gain does not"
    failure = compute_differences(first, better, bootstrap=200)["failure"]
    assert failure.mean == pytest.approx(-1 / 3)


def test_a_distance_missing_for_one_model_is_in_no_difference():
    one, other = result(), result()
    other = replace(other, agreement=replace(other.agreement, boundary_px=None))
    assert compute_differences([one, one], [one, other], bootstrap=100)["boundary_px"].n == 1


def test_the_row_of_a_photo_has_the_jaccard_after_each_click():
    row = result(clicks={"nothing_centre": (0.0, 0.5)}).row()
    assert (row["nothing_centre_0"], row["nothing_centre_1"]) == (0.0, 0.5)
    assert row["dice"] == pytest.approx(2 * 0.8 / 1.8)
    assert not {"clicks", "agreement", "pooled"} & set(row)
