"""The networks a model may be built from: MONAI U-Nets, by a closed list of names.

A model file names its network; only the names in `NETWORKS` with arguments inside stated bounds are ever built, so that
a model from a stranger can neither run code nor ask for a terabyte.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import BadInput

if TYPE_CHECKING:
    import torch

IMAGE_CHANNELS = 3
GUIDANCE_CHANNELS = 3
IN_CHANNELS = IMAGE_CHANNELS + GUIDANCE_CHANNELS

DEFAULT_NETWORK = "UNet"


def build(name: str, arguments: Mapping[str, Any] | None = None) -> "torch.nn.Module":
    """Build a network with random weights.

    Args:
        name: one of `NETWORKS`.
        arguments: see the function of that name; what is absent takes its default.

    Returns:
        A module from float `[N, 6, H, W]` (RGB, previous mask, include clicks, exclude clicks) to logits
        `[N, 1, H, W]`; H and W must be multiples of `stride(name, arguments)`.

    Raises:
        BadInput: the name or an argument is not on the list.
    """
    if name not in NETWORKS:
        raise _unknown(name)
    try:
        return NETWORKS[name](**dict(arguments or {}))
    except (TypeError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"Network {name} does not take these arguments ({error}); remove or correct them.") from error


def stride(name: str, arguments: Mapping[str, Any] | None = None) -> int:
    """The factor by which the network shrinks its input at the deepest level, which must divide the input size."""
    arguments = arguments or {}
    if name == "UNet":
        return 2 ** (len(_unet_channels(arguments.get("channels", _UNET_CHANNELS))) - 1)
    if name == "SegResNet":
        return 2 ** (len(_segresnet_blocks(arguments.get("blocks_down", _SEGRESNET_BLOCKS))) - 1)
    if name in NETWORKS:
        return 32
    raise _unknown(name)


_UNET_CHANNELS = (16, 32, 64, 128, 256, 384)
_SEGRESNET_BLOCKS = (1, 2, 2, 2, 4)
_FLEXIBLE_DECODER = (128, 64, 32, 16, 16)


def _unet(channels: Sequence[int] = _UNET_CHANNELS, num_res_units: int = 2) -> "torch.nn.Module":
    """MONAI `UNet` with residual units (Kerfoot et al. 2019) and instance normalisation: 5.0 M parameters."""
    from monai.networks.nets import UNet

    levels = _unet_channels(channels)
    (units,) = _integers("num_res_units", [num_res_units], length=(1, 1), bounds=(0, 4))
    return UNet(2, IN_CHANNELS, 1, channels=levels, strides=(2,) * (len(levels) - 1), num_res_units=units)


def _segresnet(init_filters: int = 16, blocks_down: Sequence[int] = _SEGRESNET_BLOCKS) -> "torch.nn.Module":
    """MONAI `SegResNet`, a residual encoder with a light decoder (Myronenko 2018): 6.3 M parameters by default."""
    from monai.networks.nets import SegResNet

    (filters,) = _integers("init_filters", [init_filters], length=(1, 1), bounds=(8, 64))
    blocks = _segresnet_blocks(blocks_down)
    return SegResNet(2, filters, IN_CHANNELS, 1, blocks_down=blocks, blocks_up=(1,) * (len(blocks) - 1))


def _flexible_unet(
    backbone: str = "resnet10", decoder_channels: Sequence[int] = _FLEXIBLE_DECODER
) -> "torch.nn.Module":
    """MONAI `FlexibleUNet`: a ResNet or EfficientNet encoder, never pretrained: 6.0 M parameters by default."""
    from monai.networks.nets import FlexibleUNet

    if backbone not in (allowed := ("resnet10", "resnet18", "efficientnet-b0")):
        raise BadInput(f"FlexibleUNet's backbone {backbone!r} is not known; use one of {', '.join(allowed)}.")
    decoder = _integers("decoder_channels", decoder_channels, length=(5, 5), bounds=(1, 512))
    return FlexibleUNet(IN_CHANNELS, 1, backbone, spatial_dims=2, decoder_channels=decoder, pretrained=False)


NETWORKS: dict[str, Callable[..., "torch.nn.Module"]] = {
    "UNet": _unet,
    "SegResNet": _segresnet,
    "FlexibleUNet": _flexible_unet,
}


def _unet_channels(values: Any) -> tuple[int, ...]:
    return _integers("channels", values, length=(2, 8), bounds=(1, 512))


def _segresnet_blocks(values: Any) -> tuple[int, ...]:
    return _integers("blocks_down", values, length=(2, 7), bounds=(1, 8))


def _unknown(name: str) -> BadInput:
    return BadInput(f"Network {name[:80]!r} is not one this version knows; use one of {', '.join(NETWORKS)}.")


def _integers(name: str, values: Any, *, length: tuple[int, int], bounds: tuple[int, int]) -> tuple[int, ...]:
    good = (
        isinstance(values, (list, tuple))
        and length[0] <= len(values) <= length[1]
        and all(type(value) is int and bounds[0] <= value <= bounds[1] for value in values)
    )
    if not good:
        takes = f"{length[0]} to {length[1]} whole numbers from {bounds[0]} to {bounds[1]}"
        raise BadInput(f"Network argument {name} is {repr(values)[:80]}; it takes {takes}.")
    return tuple(values)
