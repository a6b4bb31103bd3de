"""EfficientNet-Lite as encoders of MONAI's FlexibleUNet; importing this module registers the encoders in MONAI.

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

_STAGES = {
    "efficientnet-lite0": [
        "r1_k3_s11_e1_i32_o16",
        "r2_k3_s22_e6_i16_o24",
        "r2_k5_s22_e6_i24_o40",
        "r3_k3_s22_e6_i40_o80",
        "r3_k5_s11_e6_i80_o112",
        "r4_k5_s22_e6_i112_o192",
        "r1_k3_s11_e6_i192_o320",
    ],
    "efficientnet-lite2": [
        "r1_k3_s11_e1_i32_o16",
        "r3_k3_s22_e6_i16_o24",
        "r3_k5_s22_e6_i24_o48",
        "r4_k3_s22_e6_i48_o88",
        "r4_k5_s11_e6_i88_o120",
        "r5_k5_s22_e6_i120_o208",
        "r1_k3_s11_e6_i208_o352",
    ],
}
"""Stages of EfficientNet-B0 (Tan and Le 2019, table 1), without squeeze-and-excitation, and the same with 1.1 times the
channels and 1.2 times the blocks. Lite does not change the blocks of the first and last stage."""
_OUTPUTS = (0, 1, 2, 4, 6)
"""The stages whose outputs are the five feature maps."""


class EfficientNetLiteEncoder(EfficientNet, BaseEncoder):
    """Computes five feature maps of `[N, C, H, W]`, each half the size of the last; H and W are multiples of 32."""

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        pretrained: bool = False,
        drop_connect_rate: float = 0.2,
        name: str = "efficientnet-lite0",
    ) -> None:
        if pretrained:
            raise ValueError("weights are loaded by `imagenet.start_from_imagenet`, never by the network")
        # EfficientNet's momentum of 0.01 averages over hundreds of steps, which is too slow for a few hundred photos.
        norm = ("batch", {"eps": 1e-3, "momentum": 0.1})
        super().__init__(_STAGES[name], spatial_dims, in_channels, norm=norm, drop_connect_rate=drop_connect_rate)
        del self._conv_head, self._conv_head_padding, self._bn1, self._avg_pooling, self._dropout, self._fc
        self._swish = nn.ReLU6()
        for stage in self._blocks:
            for block in stage:
                block._swish = nn.ReLU6()

    forward = EfficientNetBNFeatures.forward

    @classmethod
    def get_encoder_parameters(cls) -> list[dict[str, Any]]:
        """Return the arguments of each encoder; FlexibleUNet sets the values of the first three."""
        return [{"spatial_dims": 2, "in_channels": 3, "pretrained": False, "name": name} for name in _STAGES]

    @classmethod
    def num_channels_per_output(cls) -> list[tuple[int, ...]]:
        """Return the number of channels of the five feature maps of each encoder."""
        return [tuple(int(stages[number].split("_o")[1]) for number in _OUTPUTS) for stages in _STAGES.values()]

    @classmethod
    def num_outputs(cls) -> list[int]:
        """Return the number of feature maps of each encoder."""
        return [len(_OUTPUTS) for _ in _STAGES]

    @classmethod
    def get_encoder_names(cls) -> list[str]:
        """Return the names of the encoders in FlexibleUNet."""
        return list(_STAGES)


FLEXUNET_BACKBONE.register_class(EfficientNetLiteEncoder)
