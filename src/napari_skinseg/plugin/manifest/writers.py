"""Save a Labels layer as a mask file: a PNG of 0 and 255, with a JSON record beside it.

napari's own writer of labels cannot write PNG: it leaves a broken file.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import napari
import numpy as np
from numpy.typing import NDArray

from napari_skinseg.errors import BadInput
from napari_skinseg.files import write_json
from napari_skinseg.measurement.measure import measure
from napari_skinseg.pixels.mask import write_mask
from napari_skinseg.plugin.layers import KEY, photo_from_layer
from napari_skinseg.plugin.mask_layers import LESION, mask_checksum

_SESSION_FACTS = ("image_id", "written", "measured")
"""Facts that have a meaning only while napari runs."""


def write_mask_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write one Labels layer; every label except 0 is lesion. A path without ".png" gets this suffix.

    The PNG is written first, so that no JSON record exists without its mask. Both are written to a temporary file and
    then renamed, so that an existing file stays whole if writing fails.

    Returns:
        The path of the PNG.

    Raises:
        OSError: the layer is not the mask of one photo, or the file cannot be written. This is no `BadInput`, because
            that is a `ValueError`, from which napari concludes that there is no writer, and drops the message.
    """
    name = attributes.get("name", "The mask")
    if attributes.get("multiscale") or np.ndim(data) != 2:
        raise OSError(f"{name} is not the mask of one photo [height, width]; save one plane at a time.")
    mask = np.asarray(data) != 0
    if Path(path).suffix.lower() != ".png":
        path = f"{path}.png"
    try:
        write_mask(path, mask)
        write_json(sidecar_of(path), {KEY: _record(mask, attributes)})
    except BadInput as error:
        raise OSError(str(error)) from error
    return [path]


def sidecar_of(path: str | Path) -> Path:
    """Return the path of the JSON record of a mask file."""
    return Path(path).with_suffix(".json")


def _record(mask: NDArray[np.bool_], attributes: dict[str, Any]) -> dict[str, Any]:
    """Return where the mask comes from, whether a user changed it, and its measurements."""
    known = attributes.get("metadata", {}).get(KEY, {})
    facts = {name: value for name, value in known.items() if name not in _SESSION_FACTS}
    written = {key: value for plane in known.get("written", {}).values() for key, value in plane.items()}
    checksum = mask_checksum(mask)
    if not written:
        return {"napari_skinseg": version("napari-skinseg"), "status": "drawn"}
    provenance = written.get(str(checksum))
    if provenance is None:
        # The model's confidence says nothing about a mask that a user changed.
        facts |= {"confidence": None, "withheld": False} if "confidence" in facts else {}
        return {**facts, "status": "corrected", "measurements": _measurements(mask, checksum, known, attributes)}
    measurements = _measurements(mask, checksum, known, attributes) or provenance.get("measurements", {})
    return {"status": "predicted", **facts, **provenance, "measurements": measurements}


def _measurements(
    mask: NDArray[np.bool_], checksum: int, known: dict[str, Any], attributes: dict[str, Any]
) -> dict[str, Any]:
    """Return the measurements of `mask` as plain JSON types, from the features table or measured now.

    Empty if the mask belongs to no open photo.
    """
    features = attributes.get("features")
    if known.get("measured") != checksum or features is None:
        return _measure_now(mask, known)
    rows = features.to_dict("records")
    values: dict[str, Any] = next((row for row in rows if row.pop("index", None) == LESION), {})
    return {name: None if value != value else value for name, value in values.items()}  # only NaN differs from itself


def _measure_now(mask: NDArray[np.bool_], known: dict[str, Any]) -> dict[str, Any]:
    """Measure `mask` on its photo in the viewer; napari gives a writer neither the photo nor the viewer."""
    viewer = napari.current_viewer()
    for layer in () if viewer is None else viewer.layers:
        if str(layer.unique_id) == known.get("image_id"):
            photo = photo_from_layer(layer, viewer.dims.point)
            return dict(measure(photo.read(), mask, photo.mm_per_px))
    return {}
