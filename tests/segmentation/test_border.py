"""The border of a mask moves by a share of the lesion's diameter, and a model with a border segments with it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_skinseg.errors import BadInput
from napari_skinseg.models import bundle, store
from napari_skinseg.models.click_channels import Click
from napari_skinseg.pixels.image import read_image
from napari_skinseg.pixels.metrics import jaccard
from napari_skinseg.segmentation.border import NO_CHANGE, Border, change_border
from napari_skinseg.segmentation.options import SegmentOptions
from napari_skinseg.segmentation.segmenter import Segmenter, choose_guarded


def diameter(mask: np.ndarray) -> float:
    return float(np.sqrt(4 * mask.sum() / np.pi))


@pytest.mark.parametrize("offset", [-0.1, -0.04, 0.02, 0.1])
def test_the_border_moves_by_a_share_of_the_diameter(spot, offset):
    mask = spot(150, 200, 80, (300, 400))[1]
    moved = change_border(mask, Border(offset=offset))
    assert diameter(moved) / diameter(mask) == pytest.approx(1 + 2 * offset, abs=0.01)


def test_smoothing_removes_a_spike_and_keeps_the_lesion(spot):
    mask = spot(150, 200, 80, (300, 400))[1]
    spiky = mask.copy()
    spiky[148:152, 280:320] = True
    smooth = change_border(spiky, Border(smoothing=0.05))
    assert not smooth[:, 290:].any()
    assert jaccard(smooth, mask) > 0.97


@given(
    row=st.integers(-10, 70),
    radius=st.integers(0, 60),
    offset=st.floats(-0.2, 0.2),
    smoothing=st.floats(0, 0.1),
)
@settings(max_examples=60, deadline=None)
def test_a_mask_is_never_lost_and_an_empty_one_stays_empty(spot, row, radius, offset, smoothing):
    mask = spot(row, 40, radius, (60, 80))[1]
    assert change_border(mask, Border(0.5, offset, smoothing)).any() == mask.any()
    assert np.array_equal(change_border(mask, NO_CHANGE), mask)


@pytest.mark.parametrize(
    ("border", "words"),
    [
        (Border(threshold=1.0), "between 0 and 1"),
        (Border(offset=0.3), "from -0.2 to 0.2"),
        (Border(offset=float("nan")), "from -0.2 to 0.2"),
        (Border(smoothing=-0.1), "from 0 to 0.1"),
    ],
)
def test_values_out_of_range_are_refused(border, words):
    with pytest.raises(BadInput, match=words):
        SegmentOptions(border=border).validate()


@pytest.fixture
def wide_model(tmp_path, spot_finder, monkeypatch):
    """The spot finder with a border that is wider by a tenth of the diameter, added to the models of the user."""
    monkeypatch.setenv("NAPARI_SKINSEG_HOME", str(tmp_path / "home"))
    model = bundle.load(spot_finder)
    spec = replace(model.spec, name="wide", border=(0.5, 0.1, 0.0))
    return store.add(bundle.save(tmp_path / "wide", spec, model.network, presence=model.presence)).folder


def test_the_border_of_a_model_is_used_everywhere_and_can_be_switched_off(photos, spot_finder, wide_model):
    image = read_image(next(iter(photos)))
    base, wide = Segmenter(spot_finder, "cpu"), Segmenter(wide_model, "cpu")
    plain, moved = base.segment(image), wide.segment(image)
    assert diameter(moved.mask) / diameter(plain.mask) == pytest.approx(1.2, abs=0.04)
    assert moved.confidence == pytest.approx(plain.confidence, abs=1e-5)  # torch rounds by chance
    assert np.array_equal(wide.segment(image, SegmentOptions(border=NO_CHANGE)).mask, plain.mask)
    assert np.array_equal(next(wide.segment_many([image])).mask, moved.mask)
    click = [Click(60, 80, include=True)]
    assert wide.refine(image, click).mask.sum() > 1.2 * base.refine(image, click).mask.sum()


def test_a_model_without_a_border_is_written_for_earlier_releases(spot_finder, wide_model):
    assert '"format": 1' in (spot_finder / bundle.METADATA).read_text()
    assert '"format": 2' in (wide_model / bundle.METADATA).read_text()


def test_a_guarded_model_uses_the_mask_of_its_base_where_both_disagree(tmp_path, photos, spot_finder, monkeypatch):
    monkeypatch.setenv("NAPARI_SKINSEG_HOME", str(tmp_path / "home"))
    image = read_image(next(iter(photos)))
    base, lost = bundle.load(spot_finder), bundle.load(spot_finder)
    for parameter in lost.network.parameters():
        parameter.data.zero_()
    spec = replace(base.spec, name="guarded", guarded=True)
    saved = bundle.save(tmp_path / "guarded", spec, lost.network, base=base.network, presence=base.presence)
    guarded = Segmenter(store.add(saved).name, "cpu")
    result, expected = guarded.segment(image), Segmenter(spot_finder, "cpu").segment(image)
    assert result.guarded
    assert np.array_equal(result.mask, expected.mask)
    assert not choose_guarded(expected, expected).guarded
    sure = replace(expected, mask=np.zeros_like(expected.mask), confidence=expected.confidence + 0.01)
    assert not choose_guarded(sure, expected).guarded
