"""The presence head: the probability that a photo shows a lesion, from the encoder of the segmentation network.

A low confidence of an outline does not mean that there is no lesion: its border may be faint. So the presence has an
output of its own, a small classifier on the deepest feature maps, which are computed for the outline anyway.
"""

import torch
from monai.networks.layers import SkipConnection
from monai.networks.nets import FlexibleUNet, SegResNet, UNet
from torch import nn

from .network import IN_CHANNELS

HIDDEN = 32
"""Number of hidden units of the head."""

WITH_ENCODER = (FlexibleUNet, SegResNet, UNet)
"""Networks whose encoder can be run apart from the decoder; others have no presence head."""


def encode(network: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the feature maps `[N, C, H, W]` of the encoder of a network in `WITH_ENCODER`, the deepest one last."""
    if isinstance(network, FlexibleUNet):
        return list(network.encoder(x))
    if isinstance(network, SegResNet):
        return list(network.encode(x)[1])
    maps = []
    for down, _ in _levels(network):
        x = down(x)
        maps.append(x)
    return maps


def decode(network: nn.Module, maps: list[torch.Tensor]) -> torch.Tensor:
    """Return the logits `[N, 1, H, W]` for the result of `encode`."""
    if isinstance(network, FlexibleUNet):
        return network.segmentation_head(network.decoder(maps, network.skip_connect))
    if isinstance(network, SegResNet):
        return network.decode(maps[-1], maps[::-1])
    x = maps[-1]
    for level, (_, up) in reversed(list(zip(maps, _levels(network), strict=True))[:-1]):
        x = up(torch.cat([level, x], dim=1))
    return x


def _levels(network: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """Return (down, up) of each level of MONAI's UNet; the deepest level has only `down`."""
    levels: list[tuple[nn.Module, nn.Module]] = []
    (block,) = network.children()
    while True:
        parts = list(block.children())
        if len(parts) != 3 or not isinstance(parts[1], SkipConnection):
            return [*levels, (block, nn.Identity())]
        levels.append((parts[0], parts[2]))
        (block,) = parts[1].children()


def pool_features(maps: list[torch.Tensor]) -> torch.Tensor:
    """Return the features `[N, F]` of the head: mean and maximum of each channel of the two deepest maps."""
    return torch.cat([pool for one in maps[-2:] for pool in (one.mean((2, 3)), one.amax((2, 3)))], dim=1)


def count_features(network: nn.Module, size: tuple[int, int]) -> int | None:
    """Return the number of features of a network for inputs of (height, width); None if it can have no head."""
    if not isinstance(network, WITH_ENCODER):
        return None
    with torch.inference_mode():
        return pool_features(encode(network, torch.zeros(1, IN_CHANNELS, *size))).shape[1]


class PresenceHead(nn.Sequential):
    """Features `[N, F]` of `pool_features` -> logit `[N]` that the photo shows a lesion."""

    def __init__(self, features: int) -> None:
        super().__init__(nn.Linear(features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1), nn.Flatten(0))


class NetworkWithPresence(nn.Module):
    """A network and its presence head: input `[N, 6, H, W]` -> (logits `[N, 1, H, W]`, presence logit `[N]`)."""

    def __init__(self, network: nn.Module, head: PresenceHead) -> None:
        super().__init__()
        self.network, self.head = network, head

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits of the network and of the head."""
        maps = encode(self.network, x)
        return decode(self.network, maps), self.head(pool_features(maps))
