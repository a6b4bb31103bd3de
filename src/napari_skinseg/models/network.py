"""The networks of models: a fixed list of MONAI U-Nets.

A model file names its network. Only names in `NETWORKS` with arguments inside fixed bounds are built, so that a model
from an unknown source can neither run code nor allocate a terabyte.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from napari_skinseg.errors import BadInput

if TYPE_CHECKING:
    import torch

IMAGE_CHANNELS = 3
CLICK_CHANNELS = 3
"""Previous mask, include clicks, exclude clicks; see `click_channels`."""
IN_CHANNELS = IMAGE_CHANNELS + CLICK_CHANNELS

DEFAULT_NETWORK = "UNet"

LITE = ("efficientnet-lite0", "efficientnet-lite2")
"""The encoders of FlexibleUNet that `efficientnet_lite` registers in MONAI; the first is the default."""


def build(name: str, arguments: Mapping[str, Any] | None = None) -> "torch.nn.Module":
    """Build a network with random weights.

    Args:
        name: one of `NETWORKS`.
        arguments: keyword arguments of the function in `NETWORKS`; missing ones have defaults.

    Returns:
        A module from float `[N, 6, H, W]` (RGB, previous mask, include clicks, exclude clicks) to logits
        `[N, 1, H, W]`; H and W must be multiples of `stride(name, arguments)`.

    Raises:
        BadInput: the name or an argument is not on the list.
    """
    checked = monai_arguments(name, arguments)
    from monai.networks import nets

    if checked.get("backbone") in LITE:
        from . import efficientnet_lite  # noqa: F401  (registers these encoders in MONAI)
    try:
        network: torch.nn.Module = getattr(nets, name)(**checked)
    except (TypeError, ValueError) as error:
        raise _refused(name, error) from error
    return network


def monai_arguments(name: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Check the arguments and return those of the class of this name in `monai.networks.nets`, as JSON values.

    Raises:
        BadInput: the name or an argument is not on the list.
    """
    if name not in NETWORKS:
        raise _unknown(name)
    try:
        return NETWORKS[name](**dict(arguments or {}))
    except TypeError as error:
        raise _refused(name, error) from error


def stride(name: str, arguments: Mapping[str, Any] | None = None) -> int:
    """Return the downsampling factor at the deepest level of the network; it must divide the input size."""
    arguments = arguments or {}
    if name in ("UNet", "AttentionUnet"):
        return 2 ** (len(_channels(arguments.get("channels", _UNET_CHANNELS))) - 1)
    if name == "SegResNet":
        return 2 ** (len(_segresnet_blocks(arguments.get("blocks_down", _SEGRESNET_BLOCKS))) - 1)
    if name in NETWORKS:
        return 32
    raise _unknown(name)


_UNET_CHANNELS = (16, 32, 64, 128, 256, 384)
_SEGRESNET_BLOCKS = (1, 2, 2, 2, 4)
_FLEXIBLE_DECODER = (128, 64, 32, 16, 16)
_PLANE = {"spatial_dims": 2, "in_channels": IN_CHANNELS, "out_channels": 1}


def _unet(channels: Sequence[int] = _UNET_CHANNELS, num_res_units: int = 2) -> dict[str, Any]:
    """MONAI `UNet` with residual units (Kerfoot et al. 2019) and instance normalisation: 5.0 M parameters."""
    levels = _channels(channels)
    (units,) = _integers("num_res_units", [num_res_units], length=(1, 1), bounds=(0, 4))
    return {**_PLANE, "channels": levels, "strides": [2] * (len(levels) - 1), "num_res_units": units}


def _attention_unet(channels: Sequence[int] = _UNET_CHANNELS) -> dict[str, Any]:
    """MONAI `AttentionUnet`: attention gates (Oktay et al. 2018), batch normalisation: 6.3 M parameters."""
    levels = _channels(channels)
    return {**_PLANE, "channels": levels, "strides": [2] * (len(levels) - 1)}


def _segresnet(init_filters: int = 16, blocks_down: Sequence[int] = _SEGRESNET_BLOCKS) -> dict[str, Any]:
    """MONAI `SegResNet`, a residual encoder with a light decoder (Myronenko 2018): 6.3 M parameters by default."""
    (filters,) = _integers("init_filters", [init_filters], length=(1, 1), bounds=(8, 64))
    blocks = _segresnet_blocks(blocks_down)
    return {**_PLANE, "init_filters": filters, "blocks_down": blocks, "blocks_up": [1] * (len(blocks) - 1)}


def _flexible_unet(backbone: str = LITE[0], decoder_channels: Sequence[int] = _FLEXIBLE_DECODER) -> dict[str, Any]:
    """MONAI `FlexibleUNet`: a ResNet or EfficientNet encoder, batch normalisation: 3.6 M parameters by default."""
    if backbone not in (allowed := (*LITE, "efficientnet-b0", "resnet10", "resnet18")):
        raise BadInput(f"FlexibleUNet's backbone {backbone!r} is unknown; use one of {', '.join(allowed)}.")
    decoder = _integers("decoder_channels", decoder_channels, length=(5, 5), bounds=(1, 512))
    return {**_PLANE, "backbone": backbone, "decoder_channels": decoder, "pretrained": False}


NETWORKS: dict[str, Callable[..., dict[str, Any]]] = {
    "UNet": _unet,
    "AttentionUnet": _attention_unet,
    "SegResNet": _segresnet,
    "FlexibleUNet": _flexible_unet,
}
"""For each class name in MONAI, a function that checks a model's arguments and returns those of the class."""


def _channels(values: Any) -> list[int]:
    return _integers("channels", values, length=(2, 8), bounds=(2, 512))


def _segresnet_blocks(values: Any) -> list[int]:
    return _integers("blocks_down", values, length=(2, 7), bounds=(1, 8))


def _unknown(name: str) -> BadInput:
    return BadInput(f"Network {name[:80]!r} is unknown to this version; use one of {', '.join(NETWORKS)}.")


def _refused(name: str, error: Exception) -> BadInput:
    return BadInput(f"Network {name} does not accept these arguments ({error}); remove or correct them.")


def _integers(name: str, values: Any, *, length: tuple[int, int], bounds: tuple[int, int]) -> list[int]:
    good = (
        isinstance(values, (list, tuple))
        and length[0] <= len(values) <= length[1]
        and all(type(value) is int and bounds[0] <= value <= bounds[1] for value in values)
    )
    if not good:
        allowed = f"{length[0]} to {length[1]} whole numbers from {bounds[0]} to {bounds[1]}"
        raise BadInput(f"Network argument {name} is {repr(values)[:80]}; it must be {allowed}.")
    return list(values)
