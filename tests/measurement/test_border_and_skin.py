"""Abruptness of the border, skin tone and six colours on painted photos with known values."""

import numpy as np
import pytest
from skimage.color import lab2rgb

from napari_skinseg.measurement.measure import COLUMNS, EXPERIMENTAL_COLUMNS, measure

SHAPE, RADIUS = (300, 400), 60.0
DIAMETER = 2 * RADIUS


def painted(lab: np.ndarray) -> np.ndarray:
    return (lab2rgb(np.clip(lab, [2, -60, -60], [98, 60, 60])) * 255).round().astype(np.uint8)


def outward(centre: tuple[float, float] = (150, 200)) -> np.ndarray:
    """Distance from the border of the disc, negative inside."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(rows - centre[0], columns - centre[1]) - RADIUS


def ramped(slope: np.ndarray | float, distance: np.ndarray) -> np.ndarray:
    """A dark disc whose lightness rises by `slope` L* per pixel across its border, between 30 and 70."""
    lightness = np.clip(50 + slope * distance, 30, 70)
    return painted(np.stack([lightness, np.full(SHAPE, 12.0), np.full(SHAPE, 15.0)], axis=-1))


@pytest.mark.parametrize("slope", [0.5, 1.0, 2.0])
def test_abruptness_equals_the_painted_slope(slope):
    distance = outward()
    found = measure(ramped(slope, distance), distance < 0, mm_per_px=0.05)
    for sector in range(1, 9):
        assert found[f"abruptness_{sector}"] == pytest.approx(slope * DIAMETER / 100, rel=0.02)
    assert found["abruptness_mean"] == pytest.approx(slope * DIAMETER / 100, rel=0.02)
    assert found["abruptness_mm_mean"] == pytest.approx(slope / 0.05, rel=0.15)
    assert "abruptness" not in found["flags"]


def test_segments_are_counted_counter_clockwise_from_the_right():
    distance = outward()
    soft_on_the_right = np.where(np.arange(SHAPE[1]) > 200, 0.5, 4.0)
    found = measure(ramped(soft_on_the_right, distance), distance < 0)
    values = [found[f"abruptness_{sector}"] for sector in range(1, 9)]
    assert max(values[i] for i in (0, 1, 6, 7)) < 0.8
    assert min(values[i] for i in (2, 3, 4, 5)) > 1.6


def test_only_segments_at_the_frame_are_blank():
    distance = outward((150, 30))
    found = measure(ramped(1.0, distance), distance < 0)
    values = [found[f"abruptness_{sector}"] for sector in range(1, 9)]
    assert values[3] is None
    assert values[4] is None
    assert [values[i] for i in (0, 1, 6, 7)] == pytest.approx([found["equivalent_diameter_px"] / 100] * 4, rel=0.02)
    assert "abruptness is not measured in 2 of 8" in found["flags"]


def test_a_too_large_mask_gives_a_less_abrupt_border():
    distance = outward()
    image = ramped(4.0, distance)
    tight, wide = measure(image, distance < 0), measure(image, distance < 15)
    assert wide["abruptness_mean"] < 0.5 * tight["abruptness_mean"]


def test_abruptness_is_equal_on_a_larger_copy():
    distance = outward()
    image = ramped(1.0, distance)
    small = measure(image, distance < 0, mm_per_px=0.1)
    enlarged = (part.repeat(8, axis=0).repeat(8, axis=1) for part in (image, distance < 0))
    large = measure(*enlarged, mm_per_px=0.1 / 8)
    assert large["abruptness_mean"] == pytest.approx(small["abruptness_mean"], rel=0.1)


TONES = {80: "very light", 65: "light", 60: "intermediate", 55: "tan", 50: "brown", 35: "dark"}


@pytest.mark.parametrize(("lightness", "tone"), TONES.items())
def test_skin_tone_follows_the_angle_of_the_surrounding_skin(lightness, tone):
    yellow = 14.0
    distance = outward()
    skin = np.broadcast_to([lightness, 12.0, yellow], (*SHAPE, 3))
    found = measure(painted(np.where(distance[..., None] < 0, [25.0, 15.0, 15.0], skin)), distance < 0)
    assert found["ita_deg"] == pytest.approx(np.degrees(np.arctan2(lightness - 50, yellow)), abs=2)
    assert found["skin_tone"] == tone


def test_a_few_outliers_do_not_change_the_skin_tone():
    distance = outward()
    image = ramped(4.0, distance)
    plain = measure(image, distance < 0)["ita_deg"]
    rng = np.random.default_rng(0)
    image[rng.random(SHAPE) < 0.05] = (150, 40, 40)
    assert measure(image, distance < 0)["ita_deg"] == pytest.approx(plain, abs=1)


def test_without_visible_skin_the_tone_is_blank_with_a_flag():
    image = ramped(1.0, outward())
    found = measure(image, np.ones(SHAPE, bool))
    assert found["ita_deg"] is None
    assert found["skin_tone"] is None
    assert "skin tone" in found["flags"]


def test_six_colours_are_experimental_and_optional():
    distance = outward()
    image, mask = ramped(1.0, distance), distance < 0
    assert list(measure(image, mask)) == list(COLUMNS)
    assert list(measure(image, mask, experimental=True)) == [*COLUMNS, *EXPERIMENTAL_COLUMNS]
    assert all("EXPERIMENTAL" in text for text in EXPERIMENTAL_COLUMNS.values())
    empty = measure(image, np.zeros(SHAPE, bool), experimental=True)
    assert list(empty) == [*COLUMNS, *EXPERIMENTAL_COLUMNS]


def test_six_painted_colours_are_recognised():
    distance = outward()
    lab = np.empty((*SHAPE, 3))
    lab[:] = (72, 12, 16)
    columns = np.broadcast_to(np.arange(SHAPE[1]), SHAPE)
    lesion = distance < 0
    lab[lesion] = (34, 15, 18)  # dark brown
    lab[lesion & (columns > 200)] = (58, 16, 27)  # light brown, the right half
    found = measure(painted(lab), lesion, experimental=True)
    assert found["colour_dark_brown"] == pytest.approx(0.5, abs=0.03)
    assert found["colour_light_brown"] == pytest.approx(0.5, abs=0.03)
    assert found["colour_count"] == 2
    lab[lesion] = (60, -50, 50)  # green is none of them
    found = measure(painted(lab), lesion, experimental=True)
    assert (found["colour_unclassified"], found["colour_count"]) == (1.0, 0)
