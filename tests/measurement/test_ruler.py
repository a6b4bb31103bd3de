"""Scale from a line along a ruler."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_skinseg.errors import BadInput
from napari_skinseg.measurement.ruler import MIN_LINE_PX, RulerLine


def test_scale_and_uncertainty_of_a_slanted_line():
    line = RulerLine(((10, 20), (310, 420)), 10)
    assert line.pixels == 500
    assert line.mm_per_px == 0.02
    assert line.uncertainty == 0.004


@given(st.floats(MIN_LINE_PX + 1e-6, 5000), st.floats(5, 50), st.floats(0, 2 * math.pi))
def test_an_error_of_one_pixel_at_each_end_stays_within_the_uncertainty(pixels, mm, angle):
    end = (pixels * math.sin(angle), pixels * math.cos(angle))
    line = RulerLine(((0, 0), end), mm + 1e-9)
    if line.pixels < 2 * MIN_LINE_PX:
        return
    longer = RulerLine(((0, 0), (end[0] * (1 + 2 / pixels), end[1] * (1 + 2 / pixels))), line.mm)
    assert abs(longer.mm_per_px / line.mm_per_px - 1) <= line.uncertainty


@pytest.mark.parametrize("mm", [0, -5, math.nan, math.inf])
def test_an_impossible_length_raises(mm):
    with pytest.raises(BadInput, match="type how many millimetres"):
        RulerLine(((0, 0), (0, 100)), mm)


@pytest.mark.parametrize("end", [(0, 0), (0, 19), (math.nan, 3)])
def test_a_too_short_line_raises(end):
    with pytest.raises(BadInput, match="two ticks that are far apart"):
        RulerLine(((0, 0), end), 10)


def test_only_an_implausible_scale_gives_a_warning():
    shape = (1500, 2000)
    for width in (15, 20, 30):
        assert not RulerLine(((0, 0), (0, 1000)), width / 2).plausibility_warning(shape)
    for width, text in ((5, "5 mm"), (200, "200 mm")):
        assert text in RulerLine(((0, 0), (0, 1000)), width / 2).plausibility_warning(shape)
