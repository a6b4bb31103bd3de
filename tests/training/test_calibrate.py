"""Calibration of threshold, confidence and the limit for "no lesion"."""

import shutil

import numpy as np
import pytest

from napari_skinseg.datasets.dataset import find_cases
from napari_skinseg.models.bundle import ModelSpec, read_spec
from napari_skinseg.pixels.image import read_image
from napari_skinseg.pixels.mask import write_mask
from napari_skinseg.pixels.metrics import jaccard
from napari_skinseg.segmentation.segmenter import Segmenter
from napari_skinseg.training.calibrate import HIGHEST_LIMIT, calibrate, equal_weights, no_lesion_limit


def test_the_limit_hides_at_most_three_lesions_in_a_thousand_of_each_data_set():
    random = np.random.default_rng(0)
    presence = [random.permutation(np.linspace(low, 0.95, 1000)) for low in (0.1, 0.2)]
    limit = no_lesion_limit(presence)
    assert [(one < limit).sum() for one in presence] == [2, 0]


def test_the_limit_hides_none_of_a_few_lesions():
    assert no_lesion_limit([np.array([0.9, 0.31, 0.8])]) == 0.31


def test_the_limit_is_never_above_its_highest_value():
    assert no_lesion_limit([np.full(300, 0.93)]) == HIGHEST_LIMIT


def test_without_lesions_the_limit_keeps_its_default():
    assert no_lesion_limit([np.array([])]) == ModelSpec.no_lesion


def test_each_data_set_has_the_same_weight():
    weights = equal_weights(["a", "b", "b", "b"])
    assert weights.tolist() == pytest.approx([1 / 2, 1 / 6, 1 / 6, 1 / 6])


def test_calibration_uses_outlines_that_were_hidden_before(doubting_model, photos, tmp_path):
    folder = shutil.copytree(doubting_model, tmp_path / "doubting")
    for photo, truth in photos.items():
        write_mask(photo.with_name(f"{photo.stem}_segmentation.png"), truth)
    assert not any(Segmenter(folder, "cpu").segment(read_image(photo)).mask.any() for photo in photos)
    spec = calibrate(folder, find_cases(tmp_path / "photos"), device="cpu")
    assert read_spec(folder) == spec
    assert 0 < spec.no_lesion <= HIGHEST_LIMIT
    assert spec.metrics["validation Dice"] > 0.9
    segmenter = Segmenter(folder, "cpu")
    for photo, truth in photos.items():
        found = segmenter.segment(read_image(photo))
        assert found.confidence == pytest.approx(jaccard(found.mask, truth), abs=0.1)
