"""Masks in napari's Labels layers: show a mask on its photo, know whether a user changed it, and style it."""

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from app_model.types import KeyCode, KeyMod
from napari.components import LayerList
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_skinseg.pixels.mask import bounding_box

from .layers import KEY, LayerPhoto, axes_in_world, placement

LESION = 1
"""The label of the lesion; the largest one, if there are several."""

_CYAN, _MAGENTA = (0.0, 0.9, 1.0, 1.0), (1.0, 0.0, 1.0, 1.0)
_YELLOW, _GREEN = (1.0, 0.85, 0.0, 1.0), (0.4, 1.0, 0.3, 1.0)

FILLED_STYLE = {
    "colormap": DirectLabelColormap(
        color_dict={None: _MAGENTA, 0: "transparent", LESION: _CYAN, 2: _YELLOW, 3: _GREEN}
    ),
    "opacity": 0.4,
}
"""How a new mask layer is shown. Readers and samples use it, because a reader cannot return a contour width.

Skin is never cyan; napari's own colour of label 1 is a brown that is invisible on skin. The labels of further lesions
are yellow (2), green (3) and magenta (all others).
"""


UNDO_KEYS = {KeyMod.CtrlCmd | KeyCode.KeyZ: False, KeyMod.CtrlCmd | KeyMod.Shift | KeyCode.KeyZ: True}
"""napari's keys for undo (False) and redo (True)."""

_LARGE = 3_000_000
"""Pixels of a photo above which its mask is shown filled."""


def find_mask(layers: Iterable[Layer], photo: LayerPhoto) -> Labels | None:
    """Return the Labels layer that holds the mask of `photo`, whatever its name; None if there is none."""
    for layer in layers:
        is_its_mask = layer.metadata.get(KEY, {}).get("image_id") == str(photo.layer.unique_id)
        if is_its_mask and not layer.multiscale and layer.data.shape == _mask_shape(photo):
            return layer
    return None


def written_provenance(mask_layer: Labels, photo: LayerPhoto) -> dict[str, Any] | None:
    """Return the provenance of the present mask of `photo` if the plugin wrote it, None if a user changed it since.

    The contents are compared, so that Ctrl+Z back to a mask of the plugin gives the provenance of that mask.
    """
    written: dict[str, dict[str, Any]] | None = mask_layer.metadata[KEY].get("written", {}).get(_plane_name(photo))
    if written is None:
        return None if np.any(mask_layer.data[photo.plane]) else {}
    return written.get(str(layer_checksum(mask_layer, photo)))


def is_edited(mask_layer: Labels, photo: LayerPhoto) -> bool:
    """Return whether a user changed the mask of `photo` since the plugin wrote it."""
    return written_provenance(mask_layer, photo) is None


def is_photo_open(layers: Iterable[Layer], photo: LayerPhoto) -> bool:
    """Return whether the layer of `photo` is still in the viewer and has the same size."""
    return any(layer is photo.layer for layer in layers) and _mask_shape(photo)[-2:] == photo.shape


def is_unsaved(mask_layer: Labels, photo: LayerPhoto) -> bool:
    """Return whether a user changed the mask of `photo` since the plugin wrote it, and did not save it."""
    saved = mask_layer.metadata[KEY].get("saved", {}).get(_plane_name(photo))
    return is_edited(mask_layer, photo) and saved != layer_checksum(mask_layer, photo)


def mark_saved(mask_layer: Labels, photo: LayerPhoto, checksum: int) -> None:
    """Remember that a file holds the mask of `photo` with this checksum."""
    saved = {**mask_layer.metadata[KEY].get("saved", {}), _plane_name(photo): checksum}
    update_facts(mask_layer, saved=saved)


def layer_checksum(mask_layer: Labels, photo: LayerPhoto) -> int:
    """Return `mask_checksum` of the mask of `photo`."""
    return mask_checksum(mask_layer.data[photo.plane])


def mask_checksum(mask: NDArray[Any]) -> int:
    """Return a number that changes when a mask `[H, W]`, bool or with one or several labels, changes."""
    checksum = zlib.crc32(np.packbits(mask if mask.dtype == np.uint8 else mask != 0).tobytes())
    has_several = mask.dtype != bool and mask.max(initial=0) > 1
    return zlib.crc32(mask.astype(np.uint8).tobytes(), checksum) if has_several else checksum


class MaskEdit:
    """One change that the plugin made to a mask layer; `undo` reverts it while it is the last change of the layer."""

    def __init__(self, layer: Labels, photo: LayerPhoto) -> None:
        self.layer, self._photo = layer, photo
        self._checksum = layer_checksum(layer, photo)
        self._is_last = True
        layer.events.paint.connect(self._on_paint)

    def undo(self) -> None:
        """Undo the change, unless the layer changed since."""
        self.layer.events.paint.disconnect(self._on_paint)
        if self._is_last and layer_checksum(self.layer, self._photo) == self._checksum:
            self.layer.undo()

    def _on_paint(self) -> None:
        self._is_last = False


def show_mask(
    layers: LayerList,
    photo: LayerPhoto,
    mask: NDArray[np.bool_] | NDArray[np.uint8],
    provenance: Mapping[str, Any],
    previous_edit: MaskEdit | None = None,
) -> tuple[Labels, MaskEdit | None]:
    """Show `mask` `[H, W]` in the Labels layer of `photo`.

    If there is no such layer, this makes one, right above the photo and in the same place of the world. Else the layer
    changes in one undoable step, which is returned; None is returned for a new layer and for a mask without change.

    Args:
        layers: the viewer's layer list, which holds the photo's layer.
        photo: the photo.
        mask: bool `[H, W]`, or uint8 with a label for each lesion.
        provenance: plain JSON types to keep in the layer's metadata.
        previous_edit: an earlier edit to undo first, so that dragging a slider is one step of the undo history.
    """
    layer = find_mask(layers, photo)
    is_new = layer is None
    if layer is None:
        layer = _new_mask_layer(photo, mask)
        layers.insert(layers.index(photo.layer) + 1, layer)
        show_as_outline(layer)  # after the insertion: before it, napari would compute the outline twice
    if previous_edit is not None and previous_edit.layer is layer:
        contour, layer.contour = layer.contour, 0  # so that napari does not compute the outline of the undone mask
        previous_edit.undo()
        changed = _write(layer, photo, mask)
        layer.contour = contour
    else:
        changed = _write(layer, photo, mask)
    # Earlier masks stay in "written", so that Ctrl+Z back to one of them does not count as a user's edit.
    written = dict(layer.metadata[KEY].get("written", {}))
    states = list(written.get(_plane_name(photo), {}).items())[-99:]
    written[_plane_name(photo)] = {**dict(states), str(mask_checksum(mask)): dict(provenance)}
    update_facts(layer, **provenance, written=written)
    return layer, MaskEdit(layer, photo) if changed and not is_new else None


def undo_or_redo(mask_layer: Labels, *, redo: bool = False) -> None:
    """Undo or redo one step; also of a hidden mask, for which napari sends no event to those who follow the mask."""
    (mask_layer.redo if redo else mask_layer.undo)()
    if not mask_layer.visible:
        mask_layer.events.set_data()


def update_facts(mask_layer: Labels, **facts: Any) -> None:
    """Change some facts in the layer's metadata, see `KEY`."""
    mask_layer.metadata = {**mask_layer.metadata, KEY: {**mask_layer.metadata[KEY], **facts}}


def show_measurements(mask_layer: Labels, checksum: int, measurements: Mapping[int, Mapping[str, Any]]) -> None:
    """Put the measurements of the mask with this `mask_checksum` into the features table, in a row for each label."""
    columns = next(iter(measurements.values()))
    values = {name: [of_label[name] for of_label in measurements.values()] for name in columns}
    mask_layer.features = {"index": list(measurements), **values}
    update_facts(mask_layer, measured=checksum)


def clear_measurements(mask_layer: Labels) -> None:
    """Empty the features table, because its measurements are those of another mask."""
    if len(mask_layer.features.columns) > 1:
        mask_layer.features = None


def show_probability(layers: LayerList, photo: LayerPhoto, probability: NDArray[np.float32]) -> Image:
    """Show `probability` float32 `[H, W]` as an Image layer above its photo, or update the existing layer."""
    plane = probability.reshape((1,) * len(photo.plane) + photo.shape)
    for layer in layers:
        if isinstance(layer, Image) and layer.metadata.get(KEY, {}).get("probability_of") == photo.key:
            layer.data = plane
            return layer
    # Of a stack, the layer holds this plane alone and is moved to its place: a float32 stack could be gigabytes.
    matrix = np.eye(photo.layer.ndim + 1)
    matrix[:-1, :-1] = axes_in_world(photo.layer)
    matrix[:-1, -1] = photo.layer.data_to_world((*photo.plane, 0, 0))
    layer = Image(
        plane,
        name=f"{photo.name}_probability",
        metadata={KEY: {"probability_of": photo.key}},
        colormap="magma",
        contrast_limits=(0, 1),
        opacity=0.4,
        visible=photo.layer.visible,
        blending="additive",  # black, where the probability is 0, leaves the photo unchanged
        affine=matrix,
        units=photo.layer.units,
        axis_labels=photo.layer.axis_labels,
    )
    layers.insert(layers.index(photo.layer) + 1, layer)
    return layer


def show_as_outline(layer: Layer) -> None:
    """Show a mask of this plugin as an outline, unless it is shown as one already."""
    if isinstance(layer, Labels) and KEY in layer.metadata and layer.contour == 0:
        for name, value in outline_style(layer.data.shape).items():
            setattr(layer, name, value)


def outline_style(shape: Sequence[int]) -> dict[str, Any]:
    """Return the layer attributes of a mask of `shape` (…, height, width) as an outline, wider on larger photos.

    Above `_LARGE` pixels the mask is filled: napari computes outlines on the GUI thread (1.1 s for 12 megapixels), and
    a line that it computes in time is dashed when the whole photo is in view.
    """
    if math.prod(shape[-2:]) > _LARGE:
        return FILLED_STYLE
    contour = min(4, max(2, round(math.hypot(*shape[-2:]) / 500)))
    return {"colormap": FILLED_STYLE["colormap"], "contour": contour, "opacity": 0.9}


def _new_mask_layer(photo: LayerPhoto, mask: NDArray[np.bool_] | NDArray[np.uint8]) -> Labels:
    """Return a layer with the mask; for a stack, an empty layer whose planes are written as undoable edits."""
    return Labels(
        np.zeros(_mask_shape(photo), np.uint8) if photo.plane else mask.astype(np.uint8),
        name=f"{photo.name}_segmentation",
        metadata={KEY: {"photo": photo.name, "image_id": str(photo.layer.unique_id)}},
        visible=photo.layer.visible,
        **placement(photo.layer),
        **FILLED_STYLE,
    )


def _write(layer: Labels, photo: LayerPhoto, mask: NDArray[np.bool_] | NDArray[np.uint8]) -> bool:
    """Change `layer` to `mask` where it differs, as one step of its undo history; False if nothing differed."""
    new = mask.view(np.uint8)
    differs = layer.data[photo.plane] != new
    box = bounding_box(differs)
    if box is None:
        return False
    inside = np.nonzero(differs[box])
    where = inside[0] + box[0].start, inside[1] + box[1].start
    planes = tuple(np.full(where[0].size, index) for index in photo.plane)
    if not layer.visible:
        layer.set_view_slice()  # napari cannot change a layer that it never showed
    layer.data_setitem((*planes, *where), new[where])
    return True


def _mask_shape(photo: LayerPhoto) -> tuple[int, ...]:
    layer = photo.layer
    data = layer.data[0] if layer.multiscale else layer.data
    return tuple(int(side) for side in data.shape[: layer.ndim])


def _plane_name(photo: LayerPhoto) -> str:
    return " ".join(map(str, photo.plane))
