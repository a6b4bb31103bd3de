"""Open mask files: a PNG of 0 and 255 becomes a Labels layer in which the lesion is label 1."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from napari.types import LayerDataTuple
from numpy.typing import NDArray

from napari_skinseg.pixels.image import read_pixels
from napari_skinseg.pixels.mask import MASK_ENDING, read_mask
from napari_skinseg.plugin.layers import KEY
from napari_skinseg.plugin.mask_layers import FILLED_STYLE, LESION, mask_checksum

from .writers import sidecar_of


def get_reader(path: str | Sequence[str]) -> Callable[[str], list[LayerDataTuple]] | None:
    """Return the reader for one file whose name ends with `MASK_ENDING`, else None."""
    return read_mask_layer if isinstance(path, str) and path.lower().endswith(MASK_ENDING) else None


def read_mask_layer(path: str) -> list[LayerDataTuple]:
    """Return one Labels layer, with the provenance from the JSON record beside the file.

    Raises:
        BadInput: the file is damaged or holds no mask.
    """
    provenance = _provenance(path)
    mask = _read_labels(path, provenance)
    facts = {**provenance, "written": {"": {str(mask_checksum(mask)): provenance}}}
    options = {"name": Path(path).stem, "metadata": {KEY: facts}, **FILLED_STYLE}
    return [(mask, options, "labels")]


def _read_labels(path: str, provenance: dict[str, Any]) -> NDArray[np.uint8]:
    """Return the labels of the file if its record lists several lesions and the file keeps them apart, else 0 and 1."""
    lesions = provenance.get("lesions")
    if isinstance(lesions, dict):
        pixels = read_pixels(path)
        if pixels.ndim == 2 and {str(value) for value in np.unique(pixels[pixels != 0])} <= set(lesions):
            return pixels.astype(np.uint8)
    return read_mask(path).astype(np.uint8) * np.uint8(LESION)


def _provenance(path: str) -> dict[str, Any]:
    """Return what the JSON record says; empty if there is none, or if it is damaged or comes from another program."""
    try:
        content = json.loads(sidecar_of(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    section = content.get(KEY) if isinstance(content, dict) else None
    return section if isinstance(section, dict) else {}
