"""EfficientNet-Lite0 as an encoder of MONAI's FlexibleUNet; importing this module registers the encoder in MONAI.

MONAI has EfficientNet but not its Lite variant (Liu, "Higher accuracy on vision models with EfficientNet-Lite", 2020).
Lite has no squeeze-and-excitation, and ReLU6 instead of swish, so it is faster on CPUs. Its ImageNet weights are
available as a Python package. This module imports only torch and MONAI, because `export` copies it into MONAI bundles,
which other people run without napari-skinseg.
"""

from typing import Any

from monai.networks.blocks import BaseEncoder
from monai.networks.nets.efficientnet import EfficientNet, EfficientNetBNFeatures
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
from torch import nn

NAME = "efficientnet-lite0"

_STAGES = [
    "r1_k3_s11_e1_i32_o16",
    "r2_k3_s22_e6_i16_o24",
    "r2_k5_s22_e6_i24_o40",
    "r3_k3_s22_e6_i40_o80",
    "r3_k5_s11_e6_i80_o112",
    "r4_k5_s22_e6_i112_o192",
    "r1_k3_s11_e6_i192_o320",
]
"""Stages of EfficientNet-B0 (Tan and Le 2019, table 1), without squeeze-and-excitation."""


class EfficientNetLiteEncoder(EfficientNet, BaseEncoder):
    """Computes five feature maps of `[N, C, H, W]`, each half the size of the last; H and W are multiples of 32."""

    def __init__(
        self, spatial_dims: int = 2, in_channels: int = 3, pretrained: bool = False, drop_connect_rate: float = 0.2
    ) -> None:
        if pretrained:
            raise ValueError("weights are loaded by `imagenet.start_from_imagenet`, never by the network")
        # EfficientNet's momentum of 0.01 averages over hundreds of steps, which is too slow for a few hundred photos.
        norm = ("batch", {"eps": 1e-3, "momentum": 0.1})
        super().__init__(_STAGES, spatial_dims, in_channels, norm=norm, drop_connect_rate=drop_connect_rate)
        del self._conv_head, self._conv_head_padding, self._bn1, self._avg_pooling, self._dropout, self._fc
        self._swish = nn.ReLU6()
        for stage in self._blocks:
            for block in stage:
                block._swish = nn.ReLU6()

    forward = EfficientNetBNFeatures.forward

    @classmethod
    def get_encoder_parameters(cls) -> list[dict[str, Any]]:
        """Return the arguments of the encoder; FlexibleUNet sets their values."""
        return [{"spatial_dims": 2, "in_channels": 3, "pretrained": False}]

    @classmethod
    def num_channels_per_output(cls) -> list[tuple[int, ...]]:
        """Return the number of channels of the five feature maps."""
        return [(16, 24, 40, 112, 320)]

    @classmethod
    def num_outputs(cls) -> list[int]:
        """Return the number of feature maps."""
        return [5]

    @classmethod
    def get_encoder_names(cls) -> list[str]:
        """Return the name of this encoder in FlexibleUNet."""
        return [NAME]


FLEXUNET_BACKBONE.register_class(EfficientNetLiteEncoder)
