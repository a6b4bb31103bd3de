"""Splits: each lesion is in one split, fractions are as given, results are reproducible."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_skinseg.datasets.dataset import Case, apply_splits, read_splits
from napari_skinseg.datasets.splits import SplitOptions, divide, write_splits
from napari_skinseg.errors import BadInput


def cohort(photos, photos_per_lesion=2, seed=0, source="mine"):
    rng = np.random.default_rng(seed)
    lesions = max(1, photos // photos_per_lesion)
    diagnosis = rng.choice(["nv", "mel", "bkl", "df"], size=lesions, p=[0.7, 0.15, 0.1, 0.05])
    lesion = rng.integers(lesions, size=photos)
    return [
        Case(f"p{i}", Path(f"p{i}.jpg"), group=f"L{lesion[i]}", source=source, diagnosis=str(diagnosis[lesion[i]]))
        for i in range(photos)
    ]


@settings(max_examples=80, deadline=None)
@given(
    photos=st.integers(20, 300),
    per_lesion=st.integers(1, 6),
    seed=st.integers(0, 1000),
    val=st.floats(0.05, 0.4),
    test=st.sampled_from([0, 0.1, 0.3]),
)
def test_no_lesion_is_in_two_splits_and_no_split_is_empty(photos, per_lesion, seed, val, test):
    cases = cohort(photos, per_lesion, seed)
    splits = {"train", "val", "test"} if test else {"train", "val"}
    if len({case.group for case in cases}) < len(splits):
        return
    divided = divide(cases, SplitOptions(val, test, seed))
    sides = defaultdict(set)
    for case in divided:
        sides[case.group].add(case.split)
    assert all(len(side) == 1 for side in sides.values())
    assert {case.split for case in divided} == splits
    assert [case.id for case in divided] == [case.id for case in cases]


def test_splits_have_the_given_fractions_in_every_diagnosis():
    divided = divide(cohort(3000), SplitOptions(val=0.1, test=0.2))
    for diagnosis in ("nv", "mel", "bkl", "df"):
        counts = Counter(case.split for case in divided if case.diagnosis == diagnosis)
        total = counts.total()
        assert counts["val"] / total == pytest.approx(0.1, abs=0.02 + 3 / total)
        assert counts["test"] / total == pytest.approx(0.2, abs=0.02 + 3 / total)


def test_many_rare_diagnoses_do_not_all_go_to_train():
    cases = [Case(f"p{i}", Path(f"p{i}.jpg"), group=f"L{i}", diagnosis=f"rare {i}") for i in range(100)]
    assert Counter(case.split for case in divide(cases)) == {"train": 80, "val": 10, "test": 10}


def test_the_split_depends_on_the_seed_and_not_on_the_order():
    cases = cohort(200)
    first = {case.id: case.split for case in divide(cases)}
    assert {case.id: case.split for case in divide(cases[::-1])} == first
    assert {case.id: case.split for case in divide(cases, SplitOptions(seed=1))} != first


def test_photos_without_lesion_id_are_split_separately_with_a_warning():
    events = []
    cases = [Case(f"p{i}", Path(f"p{i}.jpg")) for i in range(50)]
    assert Counter(case.split for case in divide(cases, on_event=events.append)) == {"train": 40, "val": 5, "test": 5}
    (event,) = events
    assert event.message.startswith("The photos have no lesion or patient id")


def test_there_is_no_warning_if_every_photo_has_a_lesion_id():
    events = []
    divide(cohort(50), on_event=events.append)
    assert events == []


def test_a_written_split_file_is_applied_again_without_change(tmp_path):
    divided = divide(cohort(100) + cohort(100, seed=1, source="other"))
    write_splits(tmp_path / "splits.csv", divided)
    assert len(read_splits(tmp_path / "splits.csv")) == 200
    undivided = cohort(100) + cohort(100, seed=1, source="other")
    for split in ("train", "val", "test"):
        assert apply_splits(undivided, tmp_path / "splits.csv", split) == [c for c in divided if c.split == split]


def test_too_few_lesions_are_refused():
    cases = [Case(f"p{i}", Path(f"p{i}.jpg"), group="L1") for i in range(10)]
    with pytest.raises(BadInput, match="10 photos of 1 lesions cannot be divided into train, val, test"):
        divide(cases)


@pytest.mark.parametrize(
    "options", [SplitOptions(val=1), SplitOptions(0.5, 0.5), SplitOptions(-0.1), SplitOptions(seed=-1)]
)
def test_fractions_out_of_range_are_refused(options):
    with pytest.raises(BadInput, match="; give"):
        divide(cohort(20), options)
