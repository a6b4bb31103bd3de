"""Segmenting: the mask has the place of the lesion in the image, and depends only on the probability."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from napari_skinseg.errors import BadInput, Cancelled
from napari_skinseg.models import bundle
from napari_skinseg.models.click_channels import Click
from napari_skinseg.pixels.cleaning import CleanUp, binarise
from napari_skinseg.pixels.image import read_image, to_rgb
from napari_skinseg.pixels.metrics import jaccard
from napari_skinseg.segmentation.confidence import (
    SURE,
    MaskDecision,
    confidence_of,
    decide_mask,
    describe_confidence,
    expected_jaccard,
)
from napari_skinseg.segmentation.options import SegmentOptions
from napari_skinseg.segmentation.preprocess import enlarge, network_input
from napari_skinseg.segmentation.segmenter import Segmenter

RAW = CleanUp(keep="all", min_area=0, fill_holes=False, smooth=0)


@pytest.fixture(scope="module")
def segmenter(spot_finder) -> Segmenter:
    return Segmenter(spot_finder, device="cpu")


@pytest.fixture
def photo(photos):
    """A photo that is wider than high, and the true mask of its lesion."""
    path, truth = next(iter(photos.items()))
    return read_image(path), truth


def similar(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two probability maps agree as well as bfloat16 allows."""
    return float(np.abs(first - second).max()) < 0.03


def test_the_lesion_is_found(segmenter, photos):
    for path, truth in photos.items():
        assert jaccard(segmenter.segment(read_image(path)).mask, truth) > 0.8


def test_results_have_the_size_of_the_image_and_the_documented_types(segmenter, photo):
    result = segmenter.segment(photo[0])
    assert result.probability.shape == result.mask.shape == photo[0].shape[:2]
    assert (result.probability.dtype, result.mask.dtype) == (np.float32, np.bool_)
    assert 0 <= result.probability.min() <= result.probability.max() <= 1
    assert 0 <= result.confidence <= 1
    assert result.model == "spot-finder"
    assert set(result.timings) == {"prepare", "network", "finish"}


def test_a_lesion_near_a_corner_stays_in_that_corner(segmenter):
    image = np.full((150, 400, 3), (225, 180, 165), np.uint8)
    rows, columns = np.ogrid[:150, :400]
    truth = ((rows - 40) / 28) ** 2 + ((columns - 320) / 75) ** 2 <= 1
    image[truth] = (110, 60, 50)
    found_rows, found_columns = np.nonzero(segmenter.segment(image).mask)
    assert abs(found_rows.mean() - 40) < 4
    assert abs(found_columns.mean() - 320) < 10


def test_the_mask_is_the_binarised_probability(segmenter, photo):
    result = segmenter.segment(photo[0])
    assert np.array_equal(result.mask, binarise(result.probability, result.threshold, CleanUp()))


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_a_new_threshold_on_the_probability_equals_a_new_run(segmenter, photo, threshold):
    kept = segmenter.segment(photo[0])
    options = SegmentOptions(threshold=threshold, clean_up=RAW)
    again = segmenter.segment(photo[0], options)
    assert again.threshold == threshold
    assert np.array_equal(again.mask, binarise(kept.probability, threshold, RAW))
    assert np.array_equal(again.mask, kept.probability >= threshold)


def test_the_default_threshold_is_that_of_the_model(spot_finder, photo):
    model = bundle.load(spot_finder)
    strict = Segmenter(replace(model, spec=replace(model.spec, threshold=0.9)), device="cpu")
    assert strict.segment(photo[0]).threshold == 0.9
    assert strict.segment(photo[0], SegmentOptions(threshold=0.2)).threshold == 0.2


def test_the_border_in_a_large_photo_has_no_steps(segmenter, photo):
    large = np.kron(photo[0], np.ones((10, 10, 1), np.uint8))
    mask = segmenter.segment(large, SegmentOptions(clean_up=RAW)).mask
    top = mask[:, mask.any(0)].argmax(0)
    # A mask made at the network's size and enlarged afterwards could have no more heights than the network has rows.
    assert len(np.unique(top)) > 2 * 64


def test_with_tta_a_mirrored_image_gives_a_mirrored_result(segmenter, photo):
    options = SegmentOptions(tta=True, second_look=False)
    straight = segmenter.segment(photo[0], options)
    mirrored = segmenter.segment(photo[0][:, ::-1], options)
    assert similar(mirrored.probability[:, ::-1], straight.probability)
    assert jaccard(straight.mask, photo[1]) > 0.8


def test_tta_is_the_mean_of_two_runs(segmenter, photo):
    averaged = segmenter.segment(photo[0], SegmentOptions(tta=True, second_look=False)).probability
    once = SegmentOptions(tta=False, second_look=False)
    straight = segmenter.segment(photo[0], once).probability
    mirrored = segmenter.segment(photo[0][:, ::-1], once).probability[:, ::-1]
    assert similar(averaged, (straight + mirrored) / 2)
    assert not similar(averaged, straight)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_segment_many_equals_single_calls_in_order(segmenter, photos, batch_size):
    images = [read_image(path) for path in photos]
    together = list(segmenter.segment_many(iter(images), batch_size=batch_size))
    assert len(together) == len(images)
    for image, result in zip(images, together, strict=True):
        alone = segmenter.segment(image)
        assert similar(result.probability, alone.probability)
        assert jaccard(result.mask, alone.mask) > 0.98
        assert result.confidence == pytest.approx(alone.confidence, abs=0.02)


def test_segment_many_reads_images_lazily(segmenter, photo):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield photo[0]

    results = segmenter.segment_many(endless(), batch_size=2)
    next(results)
    assert len(taken) == 2


def test_cancel_stops_before_the_next_batch(segmenter, photo):
    stop = threading.Event()
    results = segmenter.segment_many([photo[0]] * 4, batch_size=2, cancel=stop)
    next(results)
    stop.set()
    next(results)  # the second image of the batch that was started
    with pytest.raises(Cancelled):
        next(results)


def test_no_images_give_no_results(segmenter):
    assert list(segmenter.segment_many([])) == []


def test_segmenting_twice_gives_the_same_result_and_keeps_the_image(segmenter, photo):
    before = photo[0].copy()
    first, second = segmenter.segment(photo[0]), segmenter.segment(photo[0])
    assert np.array_equal(first.probability, second.probability)
    assert np.array_equal(photo[0], before)


def test_a_closed_segmenter_can_be_used_again(spot_finder, photo):
    segmenter = Segmenter(spot_finder, device="cpu")
    first = segmenter.segment(photo[0])
    segmenter.close()
    assert np.array_equal(segmenter.segment(photo[0]).mask, first.mask)


def test_the_device_is_described_in_words(segmenter):
    assert segmenter.device_line.startswith("CPU (")
    assert segmenter.spec.name == "spot-finder"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (SegmentOptions(threshold=0.0), "threshold is 0.0"),
        (SegmentOptions(threshold=1.5), "threshold is 1.5"),
        (SegmentOptions(threshold=float("nan")), "threshold is nan"),
        (SegmentOptions(clean_up=CleanUp(smooth=-1)), "smooth is -1"),
    ],
)
def test_options_out_of_range_raise(segmenter, photo, options, sentence):
    with pytest.raises(BadInput, match=sentence):
        segmenter.segment(photo[0], options)


def test_a_stack_raises_with_its_name(segmenter):
    with pytest.raises(BadInput, match=r"^Scan 7 "):
        segmenter.segment(np.zeros((5, 64, 64), np.uint8), name="Scan 7")


def test_the_input_is_normalised_and_click_channels_are_zero(segmenter, photo):
    made = network_input(photo[0], segmenter.spec)
    assert (made.shape, made.dtype) == ((6, 64, 64), np.float32)
    assert not made[3:].any()
    mean = photo[0].reshape(-1, 3).mean(0) / 255
    expected = (mean - np.array(segmenter.spec.mean)) / np.array(segmenter.spec.std)
    assert made[:3].mean((1, 2)) == pytest.approx(expected, abs=0.05)


def test_enlarging_keeps_the_positions_of_pixel_centres():
    ramp = np.tile(np.arange(8, dtype=np.float32), (4, 1))
    large = enlarge(ramp, (40, 80))
    assert large.shape == (40, 80)
    assert large[20, 40] == pytest.approx(3.55)  # centre of column 40 of 80 is at (40 + 0.5) / 10 - 0.5 of 8


def test_the_expected_jaccard_is_high_for_clear_probabilities():
    truth = np.zeros((20, 20), bool)
    truth[5:15, 5:15] = True
    sure = np.where(truth, 0.99, 0.01).astype(np.float32)
    vague = np.where(truth, 0.6, 0.4).astype(np.float32)
    # 100 pixels of 0.99 inside; 100 + 300 x 0.01 in the union.
    assert expected_jaccard(sure, truth) == pytest.approx(99 / 103, abs=1e-4)
    assert expected_jaccard(vague, truth) == pytest.approx(60 / 220, abs=1e-4)


def test_the_calibration_changes_the_confidence():
    probability = np.full((20, 20), 0.1, np.float32)
    probability[5:15, 5:15] = 0.9
    plain = confidence_of(probability, 0.5, RAW, (0.0, 1.0))
    assert plain == pytest.approx(expected_jaccard(probability, probability > 0.5), abs=1e-6)
    assert confidence_of(probability, 0.5, RAW, (1.0, 1.0)) > plain > confidence_of(probability, 0.5, RAW, (-1.0, 1.0))
    assert confidence_of(probability, 0.5, RAW, (0.3, 0.0)) == pytest.approx(1 / (1 + np.exp(-0.3)))


def test_confidence_is_lower_for_an_unclear_photo(segmenter, photo):
    clear = segmenter.segment(photo[0]).confidence
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    assert clear > 0.8 > segmenter.segment(noise).confidence


def description(
    confidence: float, lesion: bool = True, withheld: bool = False, presence: float = 0.99
) -> tuple[str, str]:
    return describe_confidence(MaskDecision(np.full((4, 4), lesion), confidence, withheld, presence), doubt=0.4)


@pytest.mark.parametrize(
    ("confidence", "lesion", "verdict"),
    [(0.9, True, "good"), (0.8, True, "good"), (0.7, True, "check"), (0.64, True, "poor"), (0.99, False, "empty")],
)
def test_confidence_is_described_in_words(confidence, lesion, verdict):
    words, given = description(confidence, lesion)
    assert given == verdict
    assert words.endswith(".")


def test_a_low_presence_says_perhaps_no_lesion_even_with_a_sure_outline():
    for confidence in (0.3, 0.9):
        words, level = description(confidence, presence=0.39)
        assert (words.split(":")[0], level) == ("Perhaps no lesion here", "poor")
    assert description(0.45)[0].startswith("Likely wrong")


def test_a_withheld_outline_is_described_as_no_lesion():
    words = "No lesion found: the most likely outline has an expected overlap of 31 %."
    assert description(0.312, lesion=False, withheld=True) == (words, "empty")


def test_a_doubtful_outline_is_withheld(spot_finder, photo):
    model = bundle.load(spot_finder)
    sure = Segmenter(model, device="cpu").segment(photo[0])
    for limit, withheld in ((sure.confidence - 0.01, False), (sure.confidence + 0.01, True)):
        found = Segmenter(replace(model, spec=replace(model.spec, no_lesion=limit)), device="cpu").segment(photo[0])
        assert found.withheld is withheld
        assert np.array_equal(found.mask, np.zeros_like(sure.mask) if withheld else sure.mask)
        assert found.confidence == sure.confidence
        assert np.array_equal(found.probability, sure.probability)


def test_always_outline_keeps_a_doubtful_outline(doubting_model, segmenter, photo):
    doubting = Segmenter(doubting_model, device="cpu")
    assert not doubting.segment(photo[0]).mask.any()
    found = doubting.segment(photo[0], SegmentOptions(always_outline=True))
    assert not found.withheld
    assert np.array_equal(found.mask, segmenter.segment(photo[0]).mask)


@pytest.mark.parametrize("threshold", [0.1, 0.9])
def test_withholding_does_not_depend_on_the_threshold(spot_finder, photo, threshold):
    model = bundle.load(spot_finder)
    limit = Segmenter(model, device="cpu").segment(photo[0]).confidence
    for no_lesion, withheld in ((limit - 0.01, False), (limit + 0.01, True)):
        picky = Segmenter(replace(model, spec=replace(model.spec, no_lesion=no_lesion)), device="cpu")
        assert picky.segment(photo[0], SegmentOptions(threshold=threshold)).withheld is withheld


@pytest.mark.parametrize(
    ("lesion", "presence", "withheld"), [(0.99, 0.05, False), (0.6, 0.05, True), (0.6, 0.15, False)]
)
def test_a_low_presence_alone_does_not_withhold_a_sure_outline(spot_finder, lesion, presence, withheld):
    spec = replace(bundle.load(spot_finder).spec, no_lesion=0.1, presence=True)
    probability = np.full((64, 64), 0.01, np.float32)
    probability[20:44, 20:44] = lesion
    found = decide_mask(probability, spec, 0.5, CleanUp(), presence=presence)
    assert found.withheld is withheld
    assert found.mask.any() is not withheld
    assert (found.confidence >= SURE) is (lesion > 0.9)


def test_an_empty_mask_is_not_withheld(doubting_model):
    plain = np.full((120, 160, 3), (225, 180, 165), np.uint8)
    plain[0, 0] = 0
    found = Segmenter(doubting_model, device="cpu").segment(plain, SegmentOptions(threshold=0.99))
    assert not found.mask.any()
    assert not found.withheld


def test_refining_never_withholds_the_mask(doubting_model, photo):
    inside = np.argwhere(photo[1]).mean(axis=0)
    found = Segmenter(doubting_model, device="cpu").refine(photo[0], [Click(*inside)])
    assert found.confidence < 0.45
    assert not found.withheld
    assert jaccard(found.mask, photo[1]) > 0.5


DTYPES = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int64", "float16", "float32", "float64", "complex64"]
SIDES = st.integers(32, 70)
ODD_SIDES = st.integers(0, 40)
SHAPES = st.one_of(
    st.tuples(SIDES, SIDES),
    st.tuples(SIDES, SIDES, st.integers(1, 4)),
    st.tuples(SIDES, SIDES, st.just(3)),
    st.tuples(ODD_SIDES, ODD_SIDES, st.integers(0, 6)),
    st.lists(ODD_SIDES, max_size=3).map(tuple),
)
USUAL = {"bool": (0, 2), "uint8": (0, 255), "uint16": (0, 65535), "int16": (0, 4095), "float64": (0, 255)}
RANGES = [(0, 1), (0, 255), (0, 4095), (0, 65535), (0, 0.001), (-1, 1), (-1000, 1000), (7, 7), (0, 1e30)]


@st.composite
def arrays(draw) -> np.ndarray:
    """Any array that a caller may pass as an image: any shape, dtype and values, also NaN and infinity."""
    shape, dtype, (low, high) = draw(SHAPES), draw(st.sampled_from(DTYPES)), draw(st.sampled_from(RANGES))
    if draw(st.booleans()):
        low, high = USUAL.get(dtype, (0, 1 if "float" in dtype else 127))
    array = np.random.default_rng(draw(st.integers(0, 99))).uniform(low, high, shape)
    if np.dtype(dtype).kind in "iu":
        array = array.clip(max(np.iinfo(dtype).min, -(2**53)), min(np.iinfo(dtype).max, 2**53))
    if dtype == "float16":
        array = array.clip(-60_000, 60_000)
    array = array.astype(dtype)
    if array.size and array.dtype.kind == "f" and draw(st.integers(0, 5)) == 5:
        array.flat[draw(st.integers(0, array.size - 1))] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    return array[::-1] if array.ndim and draw(st.booleans()) else array


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(array=arrays(), threshold=st.floats(0.01, 0.99), tta=st.booleans())
def test_every_array_is_segmented_or_raises_bad_input(segmenter, array, threshold, tta):
    refusal = refusal_of(lambda: to_rgb(array, name="thing"))
    event("segmented" if refusal is None else "refused")
    options = SegmentOptions(threshold=threshold, tta=tta)
    if refusal is not None:
        assert refusal.startswith("thing ")
        assert "\n" not in refusal
        assert refusal_of(lambda: segmenter.segment(array, options, name="thing")) == refusal
    else:
        result = segmenter.segment(array, options)
        assert result.probability.shape == result.mask.shape == array.shape[:2]
        assert np.isfinite(result.probability).all()
        assert 0 <= result.probability.min() <= result.probability.max() <= 1
        assert 0 <= result.confidence <= 1


def refusal_of(action) -> str | None:
    """The sentence with which `action` is refused, or None."""
    try:
        action()
    except BadInput as error:
        return str(error)
    return None


def test_a_small_lesion_is_segmented_again_in_a_closer_crop(segmenter, spot):
    image, truth = spot(150, 420, 25, (450, 600))
    once = segmenter.segment(image, SegmentOptions(second_look=False))
    twice = segmenter.segment(image)
    assert jaccard(twice.mask, truth) > jaccard(once.mask, truth)
    far = np.s_[300:, :300]
    assert np.array_equal(once.probability[far], twice.probability[far])  # outside the window nothing changes


def test_a_large_lesion_is_segmented_once(segmenter, spot):
    image, _ = spot(60, 80, 50, (120, 160))
    once, twice = (segmenter.segment(image, SegmentOptions(second_look=again)) for again in (False, True))
    assert np.array_equal(once.probability, twice.probability)


def test_a_small_photo_is_segmented_once(segmenter, spot):
    image, _ = spot(30, 60, 8, (72, 96))  # the network sees 64 x 64
    once, twice = (segmenter.segment(image, SegmentOptions(second_look=again)) for again in (False, True))
    assert np.array_equal(once.probability, twice.probability)


def test_closer_crops_in_a_batch_equal_those_of_single_images(segmenter, spot):
    images = [spot(150, 420, 25, (450, 600))[0], spot(60, 80, 50, (120, 160))[0], spot(70, 60, 12, (200, 240))[0]]
    for batched, image in zip(segmenter.segment_many(images), images, strict=True):
        assert similar(batched.probability, segmenter.segment(image).probability)


def test_clicks_always_change_the_mask(segmenter, photo):
    image, truth = photo
    inside, outside = np.argwhere(truth)[len(np.argwhere(truth)) // 2], (5, 5)
    clicks = [Click(float(inside[0]), float(inside[1]), include=False), Click(*outside, include=True)]
    mask = segmenter.refine(image, clicks, truth).mask
    assert not mask[tuple(inside)]
    assert mask[outside]


def test_a_later_click_overrides_an_earlier_click(segmenter, photo):
    clicks = [Click(5, 5, include=True), Click(5, 5, include=False)]
    assert not segmenter.refine(photo[0], clicks, photo[1]).mask[5, 5]
    assert segmenter.refine(photo[0], clicks[::-1], photo[1]).mask[5, 5]


def test_a_refiner_equals_single_calls_and_keeps_its_input(segmenter, photo):
    image, truth = photo
    before = truth.copy()
    refiner = segmenter.refiner(image)
    clicks = [Click(40, 50), Click(100, 20, include=False)]
    for number in (1, 2):
        assert np.array_equal(
            refiner.refine(clicks[:number], truth).mask, segmenter.refine(image, clicks[:number], truth).mask
        )
    assert np.array_equal(truth, before)


def test_clicks_outside_the_frame_are_moved_to_its_border(segmenter, photo):
    mask = segmenter.refine(photo[0], [Click(-50, 1e6, include=True)], photo[1]).mask
    assert mask[0, -1]


def test_refining_without_a_click_raises(segmenter, photo):
    with pytest.raises(BadInput, match=r"no click on eye\.png"):
        segmenter.refine(photo[0], [], name="eye.png")


def test_refining_the_mask_of_another_image_raises(segmenter, photo):
    with pytest.raises(BadInput, match="10 x 20 pixels"):
        segmenter.refine(photo[0], [Click(1, 1)], np.zeros((20, 10), bool))
