"""Sample data: generated photos, each with its true mask as a hidden layer."""

import numpy as np
from napari.types import LayerDataTuple

from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.plugin.layers import KEY
from napari_skinseg.plugin.mask_layers import FILLED_STYLE

_SHAPE = (900, 1200)


def clear_lesion() -> list[LayerDataTuple]:
    """A lesion without artefacts."""
    return _sample("lesion", seed=3)


def hair() -> list[LayerDataTuple]:
    """A lesion under hair."""
    return _sample("lesion_hair", 5, "hair")


def ruler() -> list[LayerDataTuple]:
    """A lesion with a millimetre ruler and gel bubbles."""
    return _sample("lesion_ruler", 7, "ruler", "bubbles")


def dark_field() -> list[LayerDataTuple]:
    """A lesion in a round field of view that is black outside."""
    return _sample("lesion_dark_field", 11, "dark_field")


def everything() -> list[LayerDataTuple]:
    """A lesion with ink, a sticker, glare and hair."""
    return _sample("lesion_difficult", 13, "ink", "sticker", "glare", "hair")


def no_lesion() -> list[LayerDataTuple]:
    """Skin without a lesion; the correct mask is empty."""
    made = phantom(17, _SHAPE, ("hair",), lesion=False)
    return [(made.image, {"name": "skin", "rgb": True}, "image")]


def _sample(name: str, seed: int, *artefacts: str) -> list[LayerDataTuple]:
    made = phantom(seed, _SHAPE, artefacts)
    truth = {
        "name": f"{name}_truth",
        "metadata": {KEY: {"photo": name, "seed": seed}},
        "visible": False,
        **FILLED_STYLE,
    }
    return [(made.image, {"name": name, "rgb": True}, "image"), (made.mask.astype(np.uint8), truth, "labels")]
