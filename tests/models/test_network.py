import pytest

from napari_skinseg.errors import BadInput
from napari_skinseg.models.network import IN_CHANNELS, NETWORKS, build, stride


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_turns_six_channels_into_one_logit_of_the_same_size(name):
    import torch

    side = 2 * stride(name)
    network = build(name).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, IN_CHANNELS, side, side * 2)).shape == (2, 1, side, side * 2)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_fits_into_twenty_megabytes_of_float16(name):
    assert 2 * sum(weight.numel() for weight in build(name).parameters()) < 20 * 10**6


def test_a_network_off_the_list_is_refused_by_name():
    with pytest.raises(BadInput, match=r"'os\.system' is not one this version knows; use one of UNet"):
        build("os.system")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("UNet", {"channels": [16, 100_000]}),
        ("UNet", {"channels": [16]}),
        ("UNet", {"channels": "16,32"}),
        ("UNet", {"channels": [16, 32.0]}),
        ("UNet", {"num_res_units": True}),
        ("UNet", {"strides": [2, 2]}),
        ("SegResNet", {"init_filters": 4096}),
        ("FlexibleUNet", {"backbone": "resnet152"}),
        ("FlexibleUNet", {"decoder_channels": [16]}),
    ],
)
def test_arguments_outside_their_bounds_are_refused(name, arguments):
    with pytest.raises(BadInput):
        build(name, arguments)
