import numpy as np

from napari_skinseg.models.click_channels import CLICK_RADIUS, Click, encode_clicks


def test_without_clicks_the_channels_are_zero():
    assert not encode_clicks((64, 96), (640, 960)).any()


def test_a_click_is_a_disc_at_the_scaled_position():
    channels = encode_clicks((64, 96), (640, 960), [Click(320, 480)])
    rows, columns = np.nonzero(channels[1])
    assert abs(rows.mean() - 32) < 0.6
    assert abs(columns.mean() - 48) < 0.6
    assert abs(len(rows) - np.pi * CLICK_RADIUS**2) < 10
    assert not channels[0].any()
    assert not channels[2].any()


def test_exclude_clicks_have_a_separate_channel():
    channels = encode_clicks((64, 96), (64, 96), [Click(10, 10, include=False)])
    assert channels[2, 10, 10] == 1
    assert not channels[1].any()


def test_a_click_outside_the_frame_is_moved_to_its_border():
    assert encode_clicks((64, 96), (64, 96), [Click(-50, 500)])[1, 0, 95] == 1


def test_the_previous_mask_is_the_first_channel():
    previous = np.random.default_rng(0).random((64, 96), dtype=np.float32)
    np.testing.assert_array_equal(encode_clicks((64, 96), (64, 96), previous=previous)[0], previous)
