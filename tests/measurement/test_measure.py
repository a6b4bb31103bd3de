"""Measurements of shapes and colours with known values."""

import json
from pathlib import Path

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.measure import label, regionprops
from skimage.morphology import convex_hull_image

from napari_skinseg.errors import BadInput
from napari_skinseg.measurement.measure import COLUMNS, NOTE, measure, measure_labels, three_digits
from napari_skinseg.phantoms.phantom import phantom

STORED = Path(__file__).parents[1] / "data" / "measurements-0.1.json"

SHAPE = (450, 600)
SKIN, LESION = (225, 185, 165), (120, 80, 60)


def ellipse(half_long, half_short, degrees=0.0, shape=SHAPE):
    """An ellipse in the centre, and the coordinates along and across its major axis."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    right, up = columns - shape[1] / 2 - 0.3, -(rows - shape[0] / 2 - 0.1)
    angle = np.radians(degrees)
    along = right * np.cos(angle) + up * np.sin(angle)
    across = up * np.cos(angle) - right * np.sin(angle)
    return (along / half_long) ** 2 + (across / half_short) ** 2 <= 1, along, across


def paint(mask, lesion=LESION, skin=SKIN):
    return np.where(mask[..., None], np.uint8(lesion), np.uint8(skin))


def measured(mask, **options):
    return measure(paint(mask), mask, **options)


@pytest.mark.parametrize("radius", [20, 50, 200])
def test_a_disc_has_the_size_and_regularity_of_a_disc(radius):
    mask, *_ = ellipse(radius, radius)
    found = measured(mask)
    assert found["area_px"] == mask.sum()
    assert found["area_percent"] == pytest.approx(100 * mask.mean())
    assert found["perimeter_px"] == pytest.approx(2 * np.pi * radius, rel=0.01)
    for name in ("equivalent_diameter", "longest_diameter", "perpendicular_width", "major_axis", "minor_axis"):
        assert found[f"{name}_px"] == pytest.approx(2 * radius, abs=1.1), name
    assert found["circularity"] == pytest.approx(1, abs=0.01)
    assert found["border_irregularity"] == pytest.approx(1, abs=0.01)
    assert found["asymmetry_lowest"] < 0.02
    assert "nearly round" in found["flags"]
    assert not found["touches_edge"]


@pytest.mark.parametrize("degrees", [0, 30, 75, 120, 163])
def test_a_rotated_ellipse_keeps_its_sizes_and_has_its_orientation(degrees):
    found = measured(ellipse(150, 90, degrees)[0])
    assert found["longest_diameter_px"] == pytest.approx(300, abs=1)
    assert found["perpendicular_width_px"] == pytest.approx(180, abs=1.1)
    assert (found["major_axis_px"], found["minor_axis_px"]) == pytest.approx((300, 180), abs=0.3)
    assert (found["orientation_deg"] - degrees + 90) % 180 == pytest.approx(90, abs=0.3)
    for axis in ("major", "minor", "lowest"):
        assert found[f"asymmetry_{axis}"] < 0.006
        assert axis == "lowest" or found[f"colour_asymmetry_{axis}"] == pytest.approx(0, abs=1e-3)


def test_the_perpendicular_width_is_perpendicular_to_the_longest_diameter():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[100:160, 100:180] = True
    found = measured(mask)
    assert found["longest_diameter_px"] == pytest.approx(100, abs=1)
    assert found["perpendicular_width_px"] == pytest.approx(96, abs=1)  # 2 · 60 · 80 / 100, where the least width is 60


def test_cutting_one_end_changes_only_the_symmetry_about_the_minor_axis():
    mask, along, _ = ellipse(150, 80, 20)
    found = measured(mask & (along < 60))
    assert found["asymmetry_major"] < 0.006
    assert found["asymmetry_minor"] > 0.05
    assert found["asymmetry_lowest"] <= (found["asymmetry_major"] + found["asymmetry_minor"]) / 2 + 1e-9


def test_asymmetry_is_the_share_without_a_counterpart():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[150:300, 200:400] = True
    mask[150:200, 200:250] = False
    found = measured(mask)
    major = np.radians(found["orientation_deg"])
    at = np.argwhere(mask)
    offset = at - at.mean(axis=0)
    axis = np.array([-np.sin(major), np.cos(major)])
    partner = np.rint(2 * np.outer(offset @ axis, axis) - offset + at.mean(axis=0)).astype(int)
    assert found["asymmetry_major"] == pytest.approx(1 - mask[tuple(partner.T)].mean(), abs=0.01)


def test_notches_increase_irregularity_and_the_hull_equals_scikit_image():
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    angle = np.arctan2(rows - 225, columns - 300)
    star = np.hypot(rows - 225, columns - 300) < 120 * (1 + 0.25 * np.cos(8 * angle))
    found = measured(star)
    assert found["border_irregularity"] > 1.2
    assert found["solidity"] == pytest.approx(star.sum() / convex_hull_image(star).sum(), abs=1e-6)
    assert found["circularity"] < 0.6


def test_the_largest_piece_is_measured_with_holes_filled():
    mask, *_ = ellipse(100, 60)
    holed = mask.copy()
    holed[220:230, 290:310] = False
    holed[10:15, 10:15] = True
    found = measured(holed)
    assert (found["n_components"], found["filled_px"], found["area_px"]) == (2, 200, mask.sum())
    assert "2 pieces" in found["flags"]


def test_millimetres_are_blank_without_a_scale_and_exact_with_one():
    mask, *_ = ellipse(100, 60)
    without, found = measured(mask), measured(mask, mm_per_px=0.05)
    millimetre = [name for name in COLUMNS if name.endswith(("_mm", "_mm2"))]
    assert len(millimetre) == 7
    assert all(without[name] is None for name in millimetre)
    assert found["area_mm2"] == pytest.approx(found["area_px"] * 0.0025)
    assert all(
        found[name] == pytest.approx(0.05 * found[name[:-2] + "px"]) for name in millimetre if name != "area_mm2"
    )
    assert found["mm_per_px"] == 0.05


def test_a_lesion_cut_by_the_frame_has_size_but_no_shape():
    mask, *_ = ellipse(120, 120)
    found = measured(np.roll(mask, -150, axis=0) & (np.arange(450)[:, None] < 300))
    assert found["touches_edge"]
    assert found["area_px"] > 0
    blank = (
        "circularity",
        "solidity",
        "border_irregularity",
        "orientation_deg",
        "asymmetry_major",
        "colour_asymmetry_minor",
    )
    assert all(found[name] is None for name in blank)
    assert "lower bound" in found["flags"]
    assert found["contrast"] is not None


def test_a_lesion_at_the_dark_field_counts_as_cut():
    mask, *_ = ellipse(60, 60)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    outside = np.hypot(rows - 225, columns - 300) > 260
    moved = np.roll(mask, (-130, 170), axis=(0, 1)) & ~outside
    for lesion, expected in ((mask, False), (moved, True)):
        rgb = paint(lesion)
        rgb[outside] = 8
        found = measure(rgb, lesion)
        assert found["touches_edge"] is expected
        assert found["contrast"] == pytest.approx(measured(mask)["contrast"], abs=0.1)


def test_colour_and_contrast_equal_the_painted_values():
    mask, *_ = ellipse(100, 60)
    found = measured(mask)
    lesion, skin = rgb2lab(np.uint8([LESION, SKIN]))
    assert [found[f"{name}_mean"] for name in ("red", "green", "blue")] == list(LESION)
    assert [found[f"lab_{name}_median"] for name in "lab"] == pytest.approx(list(lesion))
    assert (found["red_sd"], found["variegation"]) == (0, pytest.approx(0, abs=1e-6))
    assert found["contrast"] == pytest.approx(float(deltaE_ciede2000(lesion, skin)), abs=1e-3)
    assert found["contrast_l"] == pytest.approx(skin[0] - lesion[0])
    assert found["valid_fraction"] == 1


def test_two_colours_are_variegated_and_asymmetric_across_their_border():
    mask, along, _ = ellipse(100, 60)
    rgb = paint(mask)
    rgb[mask & (along > 0)] = (180, 130, 100)
    found = measure(rgb, mask)
    difference = float(deltaE_ciede2000(*rgb2lab(np.uint8([LESION, (180, 130, 100)]))))
    assert found["colour_asymmetry_minor"] == pytest.approx(difference, rel=0.03)
    assert found["colour_asymmetry_major"] < 0.03 * difference
    assert found["variegation"] == pytest.approx(difference / 2, rel=0.05)


def test_glare_is_excluded_from_colour_but_not_from_area():
    mask, *_ = ellipse(100, 60)
    rgb = paint(mask)
    rgb[210:230, 290:310] = 255
    found = measure(rgb, mask)
    assert found["red_mean"] == LESION[0]
    assert 0.95 < found["valid_fraction"] < 0.99
    assert found["area_px"] == mask.sum()


def test_without_visible_skin_contrast_is_not_measured():
    mask = np.ones((60, 80), dtype=bool)
    found = measured(mask)
    assert (found["contrast"], found["contrast_l"]) == (None, None)
    assert "too little skin" in found["flags"]


def test_an_empty_mask_gives_no_values_and_a_flag():
    found = measured(np.zeros(SHAPE, dtype=bool))
    assert list(found) == list(COLUMNS)
    assert found.pop("flags") == "no lesion in the mask"
    assert set(found.values()) == {None}


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_a_tiny_lesion_is_measured_without_shape(size):
    mask = np.zeros((60, 80), dtype=bool)
    mask[20 : 20 + size, 30 : 30 + size] = True
    found = measured(mask)
    assert found["area_px"] == size**2
    assert found["longest_diameter_px"] == pytest.approx(np.hypot(size, size), abs=1)
    assert found["asymmetry_major"] is None
    assert "under 100 pixels" in found["flags"]


def test_every_column_has_a_plain_python_value_in_order():
    found = measured(ellipse(100, 60)[0], mm_per_px=0.1)
    assert list(found) == list(COLUMNS)
    assert {type(value) for value in found.values()} <= {int, float, bool, str}
    assert all("[" in text for text in COLUMNS.values())
    assert "not a diagnosis" in NOTE


@pytest.mark.parametrize("factor", [1, 6])
def test_a_larger_copy_gives_the_same_colour_and_shape(factor):
    mask, along, _ = ellipse(120 * factor, 70 * factor, 30, (450 * factor, 600 * factor))
    rgb = paint(mask)
    rgb[mask & (along > 0)] = (150, 100, 80)
    found = measure(rgb, mask, mm_per_px=0.05 / factor)
    assert found["longest_diameter_mm"] == pytest.approx(12, abs=0.06)
    assert found["asymmetry_lowest"] < 0.006
    assert found["red_mean"] == pytest.approx(135, abs=1)
    assert found["skin_ring_px"] == pytest.approx(19_000 * factor**2, rel=0.1)


def test_random_shapes_agree_with_scikit_image():
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(4).standard_normal((200, 260)), 14)
    mask = np.pad(noise > np.quantile(noise, 0.85), 30)
    region = max(regionprops(label(mask)), key=lambda region: region.area)
    found = measured(mask)
    assert found["area_px"] == region.area_filled
    assert found["longest_diameter_px"] == pytest.approx(region.feret_diameter_max, abs=1.5)
    assert found["major_axis_px"] == pytest.approx(region.axis_major_length, rel=0.01)


def test_a_photo_and_a_mask_of_different_sizes_raise():
    mask, *_ = ellipse(100, 60)
    with pytest.raises(BadInput, match=r"the mask \(450, 500\)"):
        measure(paint(mask), mask[:, :500])
    with pytest.raises(BadInput, match="millimetres per pixel"):
        measured(mask, mm_per_px=0)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.0, "0"),
        (0.012345, "0.0123"),
        (0.9996, "1.00"),
        (9.996, "10.0"),
        (123.4, "123"),
        (123456, "123000"),
        (2, "2"),
        (-41.26, "-41.3"),
        (True, "yes"),
        ("a flag", "a flag"),
    ],
)
def test_values_are_shown_with_at_most_three_digits(value, shown):
    assert three_digits(value) == shown


def test_each_label_is_measured_and_other_lesions_are_no_skin():
    rows, columns = np.ogrid[:200, :300]
    labels = np.zeros((200, 300), np.uint8)
    labels[(rows - 100) ** 2 + (columns - 90) ** 2 <= 40**2] = 1
    labels[(rows - 100) ** 2 + (columns - 160) ** 2 <= 25**2] = 3
    rgb = np.full((200, 300, 3), (225, 180, 165), np.uint8)
    rgb[labels > 0] = (110, 60, 50)
    found = measure_labels(rgb, labels, 0.1)
    assert list(found) == [1, 3]
    assert found[1]["area_px"] == np.count_nonzero(labels == 1)
    assert found[3]["area_mm2"] == pytest.approx(0.01 * np.count_nonzero(labels == 3))
    alone = measure(rgb, labels == 3)
    assert found[3]["skin_ring_px"] < alone["skin_ring_px"]
    assert found[3]["n_components"] == 1
    assert measure_labels(rgb, np.zeros((200, 300), bool))[1]["flags"] == "no lesion in the mask"


@pytest.mark.parametrize(
    ("number", "artefacts"), [(1, ("hair",)), (2, ("dark_field",)), (5, ("hair", "ruler", "dark_field"))]
)
def test_a_photo_is_measured_as_before_the_calculation_became_faster(number, artefacts):
    made = phantom(number, SHAPE, artefacts)
    stored = json.loads(STORED.read_text(encoding="utf-8"))[str(number)]
    found = measure(made.image, made.mask, 0.03, experimental=True)
    numbers = [name for name, value in stored.items() if isinstance(value, float)]
    assert [found[name] for name in numbers] == pytest.approx([stored[name] for name in numbers], rel=1e-7, abs=1e-7)
    assert {name: value for name, value in found.items() if name not in numbers} == {
        name: value for name, value in stored.items() if name not in numbers
    }
