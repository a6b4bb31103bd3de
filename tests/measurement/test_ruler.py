"""Millimetres from a line along a ruler."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_skinseg.errors import BadInput
from napari_skinseg.measurement.ruler import LEAST_PX, RulerLine


def test_a_slanted_line_gives_its_scale_and_how_far_off_it_may_be():
    line = RulerLine(((10, 20), (310, 420)), 10)
    assert line.pixels == 500
    assert line.mm_per_px == 0.02
    assert line.uncertainty == 0.004


@given(st.floats(LEAST_PX + 1e-6, 5000), st.floats(5, 50), st.floats(0, 2 * math.pi))
def test_ends_a_pixel_off_never_change_the_scale_by_more_than_is_said(pixels, mm, angle):
    end = (pixels * math.sin(angle), pixels * math.cos(angle))
    line = RulerLine(((0, 0), end), mm + 1e-9)
    if line.pixels < 2 * LEAST_PX:
        return
    longer = RulerLine(((0, 0), (end[0] * (1 + 2 / pixels), end[1] * (1 + 2 / pixels))), line.mm)
    assert abs(longer.mm_per_px / line.mm_per_px - 1) <= line.uncertainty


@pytest.mark.parametrize("mm", [0, -5, math.nan, math.inf])
def test_a_length_that_is_none_is_refused(mm):
    with pytest.raises(BadInput, match="type how many millimetres"):
        RulerLine(((0, 0), (0, 100)), mm)


@pytest.mark.parametrize("end", [(0, 0), (0, 19), (math.nan, 3)])
def test_a_line_that_is_too_short_is_refused(end):
    with pytest.raises(BadInput, match="from one tick to one far from it"):
        RulerLine(((0, 0), end), 10)


def test_only_an_implausible_view_is_doubted():
    shape = (1500, 2000)
    for width in (15, 20, 30):
        assert not RulerLine(((0, 0), (0, 1000)), width / 2).doubt(shape)
    for width, said in ((5, "5 mm"), (200, "200 mm")):
        assert said in RulerLine(((0, 0), (0, 1000)), width / 2).doubt(shape)
