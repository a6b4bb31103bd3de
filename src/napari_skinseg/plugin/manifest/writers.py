"""Save a Labels layer as a mask file: a PNG of 0 and 255, with a JSON record beside it.

napari's own writer of labels cannot write PNG: it leaves a broken file, also in place of a mask that was there. So this
plugin's file type is offered first, see `offer_masks_first`.
"""

import itertools
from importlib.metadata import version
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Image, Labels, Layer
from napari.utils.notifications import show_info
from npe2 import PluginManager
from numpy.typing import NDArray

from napari_skinseg.errors import BadInput
from napari_skinseg.files import write_json
from napari_skinseg.measurement.measure import Value, measure_labels
from napari_skinseg.pixels.mask import write_labels, write_mask
from napari_skinseg.plugin.layers import KEY, photo_from_layer
from napari_skinseg.plugin.mask_layers import mask_checksum, update_facts

_SESSION_FACTS = ("image_id", "written", "measured", "saved")
"""Facts that have a meaning only while napari runs."""


def write_mask_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write one Labels layer. A path without ".png" gets this suffix; an existing file that has it is not replaced.

    In a mask of this plugin and in a layer with one label, every label except 0 is lesion, 255 in the file. Another
    layer with several labels keeps them: a gray PNG of the labels, without a JSON record.

    Returns:
        The path of the PNG.

    Raises:
        OSError: the layer is not the mask of one photo, or the file cannot be written. This is no `BadInput`, because
            that is a `ValueError`, from which napari concludes that there is no writer, and drops the message.
    """
    name = attributes.get("name", "The mask")
    if attributes.get("multiscale") or np.ndim(data) != 2:
        raise OSError(f"{name} is not the mask of one photo [height, width]; save one plane at a time.")
    if Path(path).suffix.lower() != ".png":
        path = _free_path(path)
        show_info(f"{name} is saved as {path}.")
    labels = np.asarray(data)
    if KEY not in attributes.get("metadata", {}) and np.unique(labels).size > 2:
        return [_write_labels(path, labels)]
    known = attributes.get("metadata", {}).get(KEY, {})
    measurements = _table_rows(labels, known, attributes.get("features"))
    try:
        path = write_mask_and_record(
            path, labels, known, _measure_now(labels, known) if measurements is None else measurements
        )
    except BadInput as error:
        raise OSError(str(error)) from error
    for layer in _layers_of_photo(known):
        if isinstance(layer, Labels):
            update_facts(layer, saved={**layer.metadata[KEY].get("saved", {}), "": mask_checksum(labels)})
    return [path]


def write_mask_and_record(
    path: str | Path,
    labels: NDArray[Any],
    known: dict[str, Any],
    measurements: dict[int, dict[str, Value]],
    *,
    keep_labels: bool = False,
) -> str:
    """Write a mask and its JSON record. Workers may call this.

    The PNG is written first, so that no JSON record exists without its mask. Both are written to a temporary file and
    then renamed, so that an existing file stays whole if writing fails.

    Args:
        path: a path without ".png" gets this suffix.
        labels: `[H, W]`, 0 is the background and every other number one lesion.
        known: the facts in the layer's metadata, see `napari_skinseg.plugin.layers.KEY`.
        measurements: of each label, as plain JSON types; empty if they are unknown.
        keep_labels: write the labels as they are, instead of 255 for each lesion.

    Returns:
        The path of the PNG.

    Raises:
        BadInput: the file cannot be written.
    """
    path = str(path) if Path(path).suffix.lower() == ".png" else f"{path}.png"
    if keep_labels:
        write_labels(path, labels)
    else:
        write_mask(path, labels != 0)
    write_json(sidecar_of(path), {KEY: _record(labels, known, measurements)})
    return path


def offer_masks_first() -> None:
    """Make the mask file the first type of labels in napari's save dialog, and the type of a name without suffix.

    The manifest cannot say this: of writers for the same layers, napari takes its own first.
    """
    writers = PluginManager.instance()._contrib._writers
    writers.sort(key=lambda entry: entry[-1].command != "napari-skinseg.write_mask")


def sidecar_of(path: str | Path) -> Path:
    """Return the path of the JSON record of a mask file."""
    return Path(path).with_suffix(".json")


def _free_path(path: str) -> str:
    """Return `path` with ".png", or with a number and ".png" if that file exists: napari did not ask to replace it."""
    names = itertools.chain([path], (f"{path}-{number}" for number in itertools.count(2)))
    return next(f"{name}.png" for name in names if not Path(f"{name}.png").exists())


def _write_labels(path: str, labels: NDArray[Any]) -> str:
    try:
        write_labels(path, labels)
    except BadInput as error:
        raise OSError(str(error)) from error
    return path


def _record(labels: NDArray[Any], known: dict[str, Any], measurements: dict[int, dict[str, Value]]) -> dict[str, Any]:
    """Return where the mask comes from, whether a user changed it, and its measurements.

    "measurements" are those of the first label; with several labels, "lesions" holds those of each, by label.
    """
    facts = {name: value for name, value in known.items() if name not in _SESSION_FACTS}
    written = {key: value for plane in known.get("written", {}).values() for key, value in plane.items()}
    if not written:
        return {"napari_skinseg": version("napari-skinseg"), "status": "drawn"}
    provenance = written.get(str(mask_checksum(labels)))
    facts.pop("lesions", None)
    measured: dict[str, Any] = {"measurements": next(iter(measurements.values()), {})}
    if len(measurements) > 1:
        measured["lesions"] = {str(label): values for label, values in measurements.items()}
    if provenance is None:
        # The model's confidence says nothing about a mask that a user changed.
        facts |= {"confidence": None, "withheld": False} if "confidence" in facts else {}
        return {**facts, "status": "corrected", **measured}
    if not measurements:
        measured = {"measurements": provenance.get("measurements", {})}
    return {"status": "predicted", **facts, **provenance, **measured}


def _table_rows(labels: NDArray[Any], known: dict[str, Any], features: Any) -> dict[int, dict[str, Value]] | None:
    """Return the measurements in the features table as plain JSON types; None if they are not those of `labels`."""
    if features is None or known.get("measured") != mask_checksum(labels):
        return None
    return {
        int(row.pop("index")): {name: None if value != value else value for name, value in row.items()}  # NaN != NaN
        for row in features.to_dict("records")
    }


def _measure_now(labels: NDArray[Any], known: dict[str, Any]) -> dict[int, dict[str, Value]]:
    """Measure each lesion on its photo; empty if the photo is not open."""
    for layer in _layers_of_photo(known):
        if isinstance(layer, Image):
            photo = photo_from_layer(layer, napari.current_viewer().dims.point)
            return measure_labels(photo.read(), labels, photo.mm_per_px)
    return {}


def _layers_of_photo(known: dict[str, Any]) -> list[Layer]:
    """Return the layers of the photo and of its mask; napari gives a writer neither the layers nor the viewer."""
    viewer, image_id = napari.current_viewer(), known.get("image_id")
    if viewer is None or image_id is None:
        return []
    ids = [(layer, str(layer.unique_id), layer.metadata.get(KEY, {}).get("image_id")) for layer in viewer.layers]
    return [layer for layer, own_id, photo_id in ids if image_id in (own_id, photo_id)]
