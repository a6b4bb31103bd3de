"""The verdict: when a candidate is recommended, and the reason when it is not."""

from pathlib import Path

import numpy as np
import pytest

from napari_skinseg.finetuning.verdict import ComparedPhoto, Verdict, judge_candidate, trimmed_interval

PHANTOMS = ([0.95] * 12, [0.94] * 12)


def rows(base, candidate, status="corrected", failed=(False, False)):
    return [
        ComparedPhoto(
            f"{status}-{n}", Path("a.png"), Path("m.png"), status, b, c, *failed, Path("b.png"), Path("c.png")
        )
        for n, (b, c) in enumerate(zip(base, candidate, strict=True))
    ]


def twenty_photos(fallen, failed):
    """Twenty photos: the Dice of 16 increases by 0.03, and that of one changes from 0.846 to `fallen`."""
    base = np.linspace(0.88, 0.95, 19)
    gains = np.array([0.028, 0.032] * 8 + [0.0, 0.001, -0.006])
    return [*rows(base, base + gains), *rows([0.846], [fallen], failed=(False, failed))]


def test_one_photo_does_not_hide_the_gain_on_the_others():
    compared = twenty_photos(0.407, failed=True)
    verdict = judge_candidate(compared, PHANTOMS, 0.5, 20)
    assert np.mean([row.gain for row in compared]) < 0.005  # one photo decides the mean
    assert verdict.low > 0.02
    assert "better on 16, worse on 2" in verdict.sentence
    assert [row.base_dice for row in verdict.compared if row.newly_failed] == [0.846]
    assert not verdict.better
    assert "fails on 1 photo where" in verdict.sentence


def test_a_guarded_failure_does_not_prevent_the_gain():
    verdict = judge_candidate(twenty_photos(0.846, failed=False), PHANTOMS, 0.5, 20)
    assert verdict.better
    assert "Adopt it" in verdict.sentence


def test_a_border_is_judged_from_three_photos():
    compared = rows([0.80, 0.82, 0.84], [0.85, 0.868, 0.893])
    assert judge_candidate(compared, ((), ()), 0, 0, step="border").better
    assert not judge_candidate(compared, PHANTOMS, 0.5, 20).measured


def test_the_trimmed_mean_is_that_of_scipy():
    from scipy.stats import trim_mean

    gains = np.random.default_rng(0).normal(0.01, 0.02, 23)
    mean, low, high = trimmed_interval(gains.tolist())
    assert mean == pytest.approx(trim_mean(gains, 0.2))
    assert low < mean < high


def test_a_steady_gain_is_recommended():
    verdict = judge_candidate(rows(np.linspace(0.8, 0.9, 12), np.linspace(0.84, 0.93, 12)), PHANTOMS, 0.5, 20)
    assert verdict.better
    assert verdict.difference == pytest.approx(0.035, abs=1e-3)
    assert verdict.low > 0
    assert "Adopt it" in verdict.sentence


def test_a_gain_within_chance_is_not_recommended():
    gains = np.array([0.1, -0.08, 0.05, -0.06, 0.09, -0.05])
    verdict = judge_candidate(rows(0.8 + 0 * gains, 0.8 + gains), PHANTOMS, 0.5, 20)
    assert verdict.measured
    assert not verdict.better
    assert verdict.low < 0 < verdict.high
    assert "may be chance" in verdict.sentence


def test_trained_weights_need_more_certainty_than_a_border():
    # As in a simulated clinic: the weights gained 0.015 on 20 photos, and lost 0.004 on 120 others.
    gains = np.linspace(-0.02, 0.05, 20)
    _, low, _ = trimmed_interval(gains.tolist(), 0.95)
    assert 0 < low < 0.005
    compared = rows(0.8 + 0 * gains, 0.8 + gains)
    assert "may be chance" in judge_candidate(compared, PHANTOMS, 0.5, 20).sentence
    assert judge_candidate(compared, ((), ()), 0, 0, step="border").better


def test_four_lucky_photos_are_not_enough():
    # The bootstrap of four positive numbers never reaches zero; Student's t with three degrees of freedom does.
    verdict = judge_candidate(rows([0.8] * 4, [0.81, 0.88, 0.805, 0.95]), PHANTOMS, 0.5, 20)
    assert min(row.candidate_dice - row.base_dice for row in verdict.compared) > 0
    assert not verdict.better


def test_a_worse_candidate_is_called_worse():
    verdict = judge_candidate(rows(np.linspace(0.9, 0.95, 10), np.linspace(0.85, 0.9, 10)), PHANTOMS, 0.5, 20)
    assert not verdict.better
    assert "It is worse" in verdict.sentence


def test_three_photos_are_not_measured():
    verdict = judge_candidate(rows([0.8] * 3, [0.95] * 3), PHANTOMS, 0.5, 20)
    assert not verdict.measured
    assert not verdict.better
    assert verdict.difference is None
    assert verdict.base.dice is None
    assert verdict.sentence.startswith("Not measured: 3 photos")


def test_masks_of_other_photos_are_rejected_in_spite_of_a_gain():
    verdict = judge_candidate(rows(np.linspace(0.3, 0.4, 20), np.linspace(0.5, 0.6, 20)), PHANTOMS, 0.5, 20)
    assert verdict.low > 0
    assert not verdict.better
    assert "belongs to its photo" in verdict.sentence


def test_a_candidate_that_forgot_is_not_recommended():
    verdict = judge_candidate(
        rows([0.8] * 12, np.linspace(0.88, 0.9, 12)), ([0.95] * 12, [0.95] * 7 + [0.3] * 5), 1.0, 20
    )
    assert verdict.low > 0
    assert not verdict.better
    assert "forgotten" in verdict.sentence


def test_a_candidate_must_not_change_accepted_masks_much():
    gained = rows([0.8] * 12, np.linspace(0.88, 0.9, 12))
    kept = judge_candidate([*gained, *rows([1.0] * 30, [0.96] * 30, "accepted")], PHANTOMS, 0.5, 20)
    spoilt = judge_candidate([*gained, *rows([1.0] * 30, [0.85] * 30, "accepted")], PHANTOMS, 0.5, 20)
    assert kept.better
    assert kept.difference == pytest.approx(0.09, abs=1e-3)  # of the corrected photos alone
    assert not spoilt.better
    assert "accepted" in spoilt.sentence


def test_new_failures_prevent_a_recommendation():
    verdict = judge_candidate(
        [*rows([0.8] * 19, np.linspace(0.9, 0.92, 19)), *rows([0.8], [0.7], failed=(False, True))], PHANTOMS, 1, 9
    )
    assert verdict.low > 0
    assert not verdict.better
    assert "fails on 1" in verdict.sentence


@pytest.mark.parametrize(("failures", "better"), [(1, True), (2, False)])
def test_a_border_may_make_one_photo_in_twenty_fail(failures, better):
    gaining = 20 - failures
    compared = [
        *rows([0.8] * gaining, np.linspace(0.9, 0.92, gaining)),
        *rows([0.8] * failures, [0.7] * failures, failed=(False, True)),
    ]
    assert judge_candidate(compared, ((), ()), 0, 0, step="border").better == better


def test_a_verdict_survives_json():
    import json

    verdict = judge_candidate(rows([0.8] * 5, [0.9] * 5), PHANTOMS, 0.5, 20)
    document = json.loads(json.dumps(verdict.to_json()))
    assert document["compared"][0]["image"] == "a.png"
    assert Verdict.from_json(document) == verdict


def test_a_certain_but_tiny_gain_is_not_recommended():
    base = np.linspace(0.8, 0.9, 12)
    verdict = judge_candidate(rows(base, base + 0.002), PHANTOMS, 0.5, 20)
    assert verdict.low > 0
    assert not verdict.better
    assert "too little" in verdict.sentence
