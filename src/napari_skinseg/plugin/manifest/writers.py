"""Save lesion masks: a Labels layer becomes a 0/255 PNG, with a sidecar that says where the mask comes from.

napari's own writer cannot: it leaves a broken PNG.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.errors import BadInput
from napari_skinseg.files import write_json
from napari_skinseg.pixels.mask import write_mask
from napari_skinseg.plugin.layers import KEY
from napari_skinseg.plugin.mask_layers import LESION, mask_checksum


def write_mask_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write one Labels layer; every label but 0 is lesion. The PNG first, so that a sidecar never lies alone.

    Raises:
        OSError: the layer is not one flat mask, or the place cannot be written to; with our sentence. From a
            `ValueError`, as `BadInput` is one, napari concludes that there is no such writer, and drops the sentence.
    """
    name = attributes.get("name", "The mask")
    if attributes.get("multiscale") or np.ndim(data) != 2:
        raise OSError(f"{name} is not one flat mask [height, width]; save the plane of one photo at a time.")
    mask = np.asarray(data) != 0
    try:
        write_mask(path, mask)
        write_json(sidecar_of(path), {KEY: _facts(mask, attributes)})
    except BadInput as error:
        raise OSError(str(error)) from error
    return [path]


def sidecar_of(path: str | Path) -> Path:
    """The JSON file that belongs to a mask file."""
    return Path(path).with_suffix(".json")


def _facts(mask: NDArray[np.bool_], attributes: dict[str, Any]) -> dict[str, Any]:
    """Where the mask comes from, whether a person changed it since, and its measurements if nobody did."""
    known = attributes.get("metadata", {}).get(KEY, {})
    facts = {name: value for name, value in known.items() if name not in ("image_id", "written")}
    states = [state for plane in known.get("written", {}).values() for state in plane]
    if not states:
        return {"napari_skinseg": version("napari-skinseg"), "status": "drawn"}
    if mask_checksum(mask) not in states:
        return {**facts, "status": "corrected", "measurements": {}}
    measurements = _measurements(attributes.get("features")) or facts.get("measurements", {})
    return {"status": "predicted", **facts, "measurements": measurements}


def _measurements(features: Any) -> dict[str, Any]:
    """The row of the lesion in a features table, as plain JSON types; what was not measured is null."""
    rows = [] if features is None else features.to_dict("records")
    values: dict[str, Any] = next((row for row in rows if row.pop("index", None) == LESION), {})
    return {name: None if value != value else value for name, value in values.items()}  # only NaN is unequal to itself
