import pytest

from napari_skinseg.errors import BadInput
from napari_skinseg.models.network import IN_CHANNELS, build


@pytest.mark.parametrize(
    ("encoder", "last"), [("efficientnet-lite0", (320, 1152)), ("efficientnet-lite2", (352, 1248))]
)
def test_the_encoder_gets_imagenet_weights_and_zero_click_channels(encoder, last):
    import torch

    from napari_skinseg.models.imagenet import start_from_imagenet

    network = build("FlexibleUNet", {"backbone": encoder}).eval()
    start_from_imagenet(network)
    photo = torch.rand(1, IN_CHANNELS, 64, 64, generator=torch.Generator().manual_seed(0))
    other = photo.clone()
    other[:, 3:] = 0
    with torch.inference_mode():
        features, silent = network.encoder(photo), network.encoder(other)
    assert all(torch.equal(a, b) for a, b in zip(features, silent, strict=True))
    # The first filters of ImageNet weights are edges: neighbouring values are similar. In random weights they are not.
    stem = network.encoder._conv_stem.weight.detach()[:, :3].mean(dim=1).flatten(1)
    assert stem.std() > 0.1
    assert network.encoder._blocks[6][0]._project_conv.weight.shape == (*last, 1, 1)


def test_another_encoder_cannot_start_from_imagenet():
    from napari_skinseg.models.imagenet import start_from_imagenet

    for network in (build("UNet"), build("FlexibleUNet", {"backbone": "resnet10"})):
        with pytest.raises(BadInput, match="choose that network"):
            start_from_imagenet(network)
