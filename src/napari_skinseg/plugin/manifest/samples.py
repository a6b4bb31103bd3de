"""Sample data: generated photos, each with its exactly known mask as a layer."""

from typing import Any

import numpy as np

from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.plugin.layers import KEY
from napari_skinseg.plugin.mask_layers import FILLED_STYLE

LayerData = tuple[Any, dict[str, Any], str]

_SHAPE = (900, 1200)


def clear_lesion() -> list[LayerData]:
    """Nothing in the way."""
    return _sample("lesion", seed=3)


def hair() -> list[LayerData]:
    """Hair across the lesion."""
    return _sample("lesion_hair", 5, "hair")


def ruler() -> list[LayerData]:
    """A ruler with millimetre ticks, and gel bubbles."""
    return _sample("lesion_ruler", 7, "ruler", "bubbles")


def dark_field() -> list[LayerData]:
    """A round field of view, black outside."""
    return _sample("lesion_dark_field", 11, "dark_field")


def everything() -> list[LayerData]:
    """Ink, a sticker, glare and hair at once."""
    return _sample("lesion_difficult", 13, "ink", "sticker", "glare", "hair")


def no_lesion() -> list[LayerData]:
    """Skin without a lesion: the right answer is an empty mask."""
    made = phantom(17, _SHAPE, ("hair",), lesion=False)
    return [(made.image, {"name": "skin", "rgb": True}, "image")]


def _sample(name: str, seed: int, *artefacts: str) -> list[LayerData]:
    made = phantom(seed, _SHAPE, artefacts)
    truth = {
        "name": f"{name}_truth",
        "metadata": {KEY: {"photo": name, "seed": seed}},
        "visible": False,
        **FILLED_STYLE,
    }
    return [(made.image, {"name": name, "rgb": True}, "image"), (made.mask.astype(np.uint8), truth, "labels")]
