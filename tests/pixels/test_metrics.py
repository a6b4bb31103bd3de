"""Agreement of masks, against MONAI's metrics and against answers known by hand."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels import metrics


def blob(seed, shape=(60, 80), sigma=6):
    """A random smooth mask, often of several pieces and often cut by the frame."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    return noise > np.quantile(noise, 0.7)


def square(top, left, size=20, shape=(100, 100)):
    mask = np.zeros(shape, dtype=bool)
    mask[top : top + size, left : left + size] = True
    return mask


@pytest.mark.filterwarnings("ignore::FutureWarning")  # MONAI calls a function of its own in a way it deprecated
@pytest.mark.parametrize("seed", range(12))
def test_every_measure_equals_that_of_monai(seed):
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    a, b = blob(seed), blob(seed + 100)
    one_hot = [torch.from_numpy(mask)[None, None].float() for mask in (a, b)]
    found = metrics.agreement(a, b)
    assert found.dice == pytest.approx(float(monai.DiceMetric()(*one_hot)), abs=1e-6)
    assert found.jaccard == pytest.approx(float(monai.MeanIoU()(*one_hot)), abs=1e-6)
    hausdorff = monai.compute_hausdorff_distance(*one_hot, include_background=True, percentile=95)
    assert found.hausdorff95_px == pytest.approx(float(hausdorff), abs=1e-4)
    mean = monai.compute_average_surface_distance(*one_hot, include_background=True, symmetric=True)
    assert found.boundary_px == pytest.approx(float(mean), abs=1e-4)


def test_dice_and_jaccard_of_two_shifted_squares():
    a, b = square(10, 10), square(10, 20)
    assert metrics.dice(a, b) == pytest.approx(0.5)
    assert metrics.jaccard(a, b) == pytest.approx(1 / 3)
    assert metrics.agreement(a, b).thresholded_jaccard == 0
    assert metrics.agreement(a, b).failure


def test_boundary_distances_in_percent_of_the_diagonal():
    shape = (300, 400)
    found = metrics.agreement(square(10, 10, shape=shape), square(10, 15, shape=shape))
    assert found.hausdorff95_px == pytest.approx(5)
    assert found.hausdorff95_percent == pytest.approx(1)
    assert found.boundary_percent == pytest.approx(found.boundary_px / 5)


def test_a_jaccard_equal_to_the_threshold_is_not_a_failure():
    truth, found = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    truth.flat[:100], found.flat[:65] = True, True
    assert metrics.agreement(found, truth).thresholded_jaccard == pytest.approx(0.65)
    assert not metrics.agreement(found, truth).failure


def test_two_empty_masks_agree_and_have_no_boundary_distance():
    nothing = np.zeros((20, 30), dtype=bool)
    assert metrics.agreement(nothing, nothing) == metrics.Agreement(1.0, 1.0, 1.0, False, None, None, None, None)


@pytest.mark.parametrize("swap", [False, True])
def test_an_empty_mask_and_a_lesion_have_dice_0_and_no_distance(swap):
    pair = (np.zeros((100, 100), dtype=bool), square(10, 10))
    assert metrics.agreement(*(reversed(pair) if swap else pair)) == metrics.Agreement(
        0.0, 0.0, 0.0, True, None, None, None, None
    )


def test_equal_masks_have_distance_0_and_integer_labels_are_accepted():
    mask = blob(3)
    found = metrics.agreement(mask.astype(np.uint8) * 255, mask)
    assert (found.dice, found.hausdorff95_px, found.boundary_px) == (1.0, 0.0, 0.0)


def test_masks_of_different_shapes_raise():
    with pytest.raises(BadInput, match=r"\(10, 10\) and \(10, 12\)"):
        metrics.agreement(np.zeros((10, 10), bool), np.zeros((10, 12), bool))


def test_the_pooled_dice_weights_images_by_lesion_size():
    large = (square(0, 0, 200, (256, 256)), square(0, 0, 200, (256, 256)))
    small = (square(0, 0, 10, (256, 256)), square(100, 100, 10, (256, 256)))
    counts = [metrics.pooled_counts(*large), metrics.pooled_counts(*small)]
    assert counts == [(40_000, 80_000), (0, 200)]
    assert metrics.pooled_dice(counts) == pytest.approx(80_000 / 80_200)
    assert np.mean([metrics.dice(*large), metrics.dice(*small)]) == pytest.approx(0.5)


def test_pooling_keeps_the_lesion_share_at_every_size():
    for shape in [(128, 64), (300, 400), (1000, 700)]:
        mask = np.zeros(shape, dtype=bool)
        mask[: shape[0] // 2] = True
        assert metrics.pooled_counts(mask, mask) == (256 * 128, 256 * 256)


def test_the_bootstrap_interval_agrees_with_normal_theory_and_is_reproducible():
    values = np.random.default_rng(0).normal(0.9, 0.1, 1000)
    low, high = metrics.bootstrap_interval(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(1000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=half / 10)
    assert metrics.bootstrap_interval(values, seed=0) == (low, high) != metrics.bootstrap_interval(values, seed=1)


@pytest.mark.parametrize("size", [1, 7, 500])
def test_resampling_in_blocks_equals_resampling_one_by_one(size):
    values, rng = np.random.default_rng(1).random(size), np.random.default_rng(0)
    means = [values[rng.integers(0, size, size)].mean() for _ in range(2000)]
    assert metrics.bootstrap_interval(values) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=1e-12)


def test_a_bootstrap_interval_of_no_values_raises():
    with pytest.raises(BadInput, match="empty"):
        metrics.bootstrap_interval([])


def test_a_summary_ignores_values_that_were_not_measured():
    summary = metrics.summarise([0.5, None, 1.0])
    assert (summary.n, summary.mean, summary.median) == (2, 0.75, 0.75)
    assert summary.sd == pytest.approx(0.35355, abs=1e-5)
    assert metrics.summarise([None]) == metrics.Summary(0, None, None, None, None, None)
    assert metrics.summarise([0.5]).sd is None


def test_an_undefined_correlation_is_none():
    assert metrics.correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1)
    assert metrics.correlation([1, 2], [2, 4]) is None
    assert metrics.correlation([1, 1, 1], [2, 4, 5]) is None
