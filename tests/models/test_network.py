import json

import pytest

from napari_skinseg.errors import BadInput
from napari_skinseg.models.network import IN_CHANNELS, NETWORKS, build, monai_arguments, stride


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_maps_six_channels_to_one_logit(name):
    import torch

    side = 2 * stride(name)
    network = build(name).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, IN_CHANNELS, side, side * 2)).shape == (2, 1, side, side * 2)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_fits_into_twenty_megabytes_of_float16(name):
    assert 2 * sum(weight.numel() for weight in build(name).parameters()) < 20 * 10**6


def test_an_unknown_network_raises():
    with pytest.raises(BadInput, match=r"'os\.system' is unknown to this version; use one of UNet"):
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
        ("AttentionUnet", {"channels": [16, 1]}),
        ("AttentionUnet", {"num_res_units": 2}),
        ("SegResNet", {"init_filters": 4096}),
        ("FlexibleUNet", {"backbone": "resnet152"}),
        ("FlexibleUNet", {"decoder_channels": [16]}),
    ],
)
def test_arguments_out_of_range_raise(name, arguments):
    with pytest.raises(BadInput):
        build(name, arguments)


@pytest.mark.parametrize("channels", [(4, 8), (4, 8, 16, 32)])
@pytest.mark.parametrize("name", ["UNet", "AttentionUnet"])
def test_the_stride_follows_the_number_of_levels(name, channels):
    import torch

    step = stride(name, {"channels": channels})
    assert step == 2 ** (len(channels) - 1)
    network = build(name, {"channels": channels}).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, IN_CHANNELS, 3 * step, 2 * step)).shape == (1, 1, 3 * step, 2 * step)


@pytest.mark.parametrize("name", NETWORKS)
def test_monai_arguments_are_json_values_that_build_the_network(name):
    from monai.networks import nets

    import napari_skinseg.models.efficientnet_lite  # noqa: F401  (registers this encoder in MONAI)

    built = getattr(nets, name)(**json.loads(json.dumps(monai_arguments(name))))
    shapes = {key: weight.shape for key, weight in build(name).state_dict().items()}
    assert {key: weight.shape for key, weight in built.state_dict().items()} == shapes
