import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_skinseg.segmentation.preprocess import window_around


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy computer is no failure
@given(
    shape=st.tuples(st.integers(16, 400), st.integers(16, 400)),
    places=st.lists(st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)), min_size=1, max_size=6),
    share=st.floats(0.1, 1),
)
def test_a_window_contains_its_points_and_has_the_aspect_ratio_of_the_frame(shape, places, share):
    points = np.floor(np.array(places) * shape)
    rows, columns = window_around(points, shape, share)
    for side, along, length in zip((rows, columns), points.T, shape, strict=True):
        assert 0 <= side.start <= along.min()
        assert along.max() < side.stop <= length
    scales = (rows.stop - rows.start) / shape[0], (columns.stop - columns.start) / shape[1]
    assert scales[0] == pytest.approx(scales[1], abs=1.01 / min(shape))


def test_points_take_the_given_share_of_the_window():
    points = np.array([[90, 140], [109, 159]])  # 20 x 20
    assert window_around(points, (200, 300), 0.5) == (slice(80, 120), slice(120, 180))


def test_a_window_at_the_corner_is_moved_inside():
    assert window_around(np.array([[0, 0], [9, 9]]), (100, 100), 0.5) == (slice(0, 20), slice(0, 20))


def test_points_everywhere_give_the_whole_frame():
    assert window_around(np.array([[5, 5], [95, 50]]), (100, 100), 0.5) == (slice(0, 100), slice(0, 100))
