"""Photos in napari's Image layers: find them, read their pixels, know their scale, and place other layers on them."""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import LayerList
from napari.layers import Image, Layer
from numpy.typing import NDArray

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels.image import to_rgb
from napari_skinseg.pixels.mask import MASK_ENDING
from napari_skinseg.project.records import Line

KEY = "napari_skinseg"
"""The key of `layer.metadata` under which this plugin keeps its facts about a layer, as plain JSON types.

Facts about a mask: where the mask comes from, with the keys that the command line records; "image_id", the unique id of
the photo's Image layer in this napari session; "written", the provenance of each mask that the plugin wrote, by plane
and checksum; "measured", the checksum of the mask in the features table; "saved", by plane the checksum of the mask in
the last file.
Facts about a photo whose scale was read off a ruler: "mm_per_px", "scale_line" and "scale_mm".
"""

_OPAQUE = ("translucent", "translucent_no_depth", "opaque")
"""Blending modes of a layer that hides what lies below it."""

_SCALE = ("mm_per_px", "scale_line", "scale_mm")


@dataclass(frozen=True)
class LayerPhoto:
    """One photo in an Image layer: the whole layer, or one plane of a stack.

    This holds the layer object and not its name, because users rename layers.

    Attributes:
        layer: the Image layer.
        name: the name of the layer when this object was made; only for messages.
        plane: index of the photo along the leading axes of a stack; () if the layer is one photo.
        shape: (height, width) in pixels.
        pixels: the pixels as the layer holds them, perhaps a lazy array.
    """

    layer: Image
    name: str
    plane: tuple[int, ...]
    shape: tuple[int, int]
    pixels: Any

    @property
    def mm_per_px(self) -> float | None:
        """Millimetres per pixel as the layer gives them now; None if they are unknown."""
        return mm_per_px(self.layer)

    @property
    def key(self) -> str:
        """Text that identifies this photo among all photos in all layers."""
        return " ".join([str(self.layer.unique_id), *map(str, self.plane)])

    def read(self) -> NDArray[np.uint8]:
        """Return the photo as uint8 `[H, W, 3]`; call this in a worker, because it computes lazy arrays.

        Raises:
            BadInput: the values are not those of a photo (NaN, negative, one colour…), or a lazy array cannot be read.
        """
        try:
            values = np.asarray(self.pixels)
        except Exception as error:  # a lazy array raises anything when its file is missing or damaged
            raise BadInput(f"{self.name} cannot be read ({error}); open the photo again.") from error
        return to_rgb(values, name=self.name)


def photo_from_layer(layer: Layer | None, point: Sequence[float]) -> LayerPhoto:
    """Return the photo that `layer` shows while the viewer's sliders are at the world coordinates `point`.

    This reads no pixels, so that the GUI thread may call it. A multiscale layer gives its full resolution.

    Raises:
        BadInput: the layer is no photo.
    """
    data, leading = _photo_data(layer)
    assert layer is not None
    return _photo_at(layer, data, _plane_at(layer, leading, point))


def photos_in_layer(layer: Layer) -> Iterator[LayerPhoto]:
    """Yield the photos of all planes of a stack, or the one photo of `layer`.

    Raises:
        BadInput: the layer is no photo.
    """
    data, leading = _photo_data(layer)
    for plane in np.ndindex(leading):
        yield _photo_at(layer, data, plane)


def _photo_data(layer: Layer | None) -> tuple[Any, tuple[int, ...]]:
    """Return the pixels of a photo's layer in full resolution, and the lengths of its leading axes."""
    if layer is None:
        raise BadInput("There is no photo; open one with File > Open, or a sample with File > Open Sample.")
    if not isinstance(layer, Image):
        kind = type(layer).__name__.lower()
        raise BadInput(f"{layer.name} is a {kind} layer; choose the image layer that holds the photo.")
    if not is_photo(layer):
        raise BadInput(f"{layer.name} belongs to napari-skinseg; choose a photo of your own.")
    data = layer.data[0] if layer.multiscale else layer.data
    leading = layer.ndim - 2
    if leading and not layer.rgb:
        raise BadInput(_why_no_photo(layer.name, data.shape))
    return data, tuple(data.shape[:leading])


def _photo_at(layer: Layer, data: Any, plane: tuple[int, ...]) -> LayerPhoto:
    height, width = data.shape[len(plane) : len(plane) + 2]
    return LayerPhoto(layer, layer.name, plane, (int(height), int(width)), data[plane] if plane else data)


def is_photo(layer: Layer) -> bool:
    """Return whether the user may choose `layer` as a photo.

    Probability layers of this plugin are no photos. The layer of the Review tab is none either: it shows another photo
    every few seconds, so that facts about the layer would soon be facts about another photo.
    """
    facts = layer.metadata.get(KEY, {})
    return isinstance(layer, Image) and "probability_of" not in facts and "reviewed" not in facts


def find_photo_layer(layers: Iterable[Layer], layer: Layer | None) -> Layer | None:
    """Return `layer` if it is a photo, the photo's layer if `layer` is its mask, else None."""
    if layer is None or is_photo(layer):
        return layer
    image_id = layer.metadata.get(KEY, {}).get("image_id")
    return next((other for other in layers if str(other.unique_id) == image_id), None)


def mm_per_px(layer: Image) -> float | None:
    """Return millimetres per pixel, from the ruler line or from the layer's scale; None if they are unknown.

    The scale of the layer counts if its units are lengths and its pixels are square within 1 %.
    """
    from_ruler = layer.metadata.get(KEY, {}).get("mm_per_px")
    if from_ruler is not None:
        return float(from_ruler)
    sides = []
    for column in axes_in_world(layer)[:, -2:].T:
        used = np.abs(column) > 1e-9 * np.abs(column).max()
        steps = [step * unit for step, unit, along in zip(column, layer.units, used, strict=True) if along]
        if not all(step.is_compatible_with("mm") for step in steps):
            return None
        sides.append(math.hypot(*(step.to("mm").magnitude for step in steps)))
    return sum(sides) / 2 if math.isclose(*sides, rel_tol=0.01) else None


def store_scale(layer: Image, mm_per_px: float | None, line: Line | None = None, mm: float | None = None) -> None:
    """Store a photo's scale in its layer's metadata, with the ruler line and its length in `mm`; None removes it.

    `layer.scale` does not change: it places the photo in the world, and other layers are placed on the photo.
    """
    facts = {name: value for name, value in layer.metadata.get(KEY, {}).items() if name not in _SCALE}
    if mm_per_px is not None:
        facts["mm_per_px"] = mm_per_px
    if line is not None:
        facts |= {"scale_line": [list(map(float, end)) for end in line], "scale_mm": mm}
    others = {name: value for name, value in layer.metadata.items() if name != KEY}
    layer.metadata = {**others, KEY: facts} if facts else others


def free_mask_path(photo: LayerPhoto) -> Path:
    """Return a path for the mask of `photo`, beside the photo's file if it has one, that no file has yet."""
    source = photo.layer.source.path
    folder = Path(source).parent if source and Path(source).exists() else Path.home()
    stem = "_".join([re.sub(r'[\\/:*?"<>|]', "_", photo.name), *map(str, photo.plane)])
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    paths = (folder / f"{name}{MASK_ENDING}" for name in names)
    return next(path for path in paths if not path.exists())


def covering_photos(layers: LayerList, layer: Layer) -> list[Layer]:
    """Return the visible photos above `layer` that hide a part of it."""
    # Not `layers[…:]`, for which napari makes another layer list in 20 ms.
    return [other for other in list(layers)[layers.index(layer) + 1 :] if overlaps(layer, other)]


def overlaps(layer: Layer, other: Layer) -> bool:
    """Return whether `other` is a visible photo in the place of a part of the photo `layer`, above or below it.

    A transparent image, such as a map of another program, may lie on a photo.
    """
    if layer is other or not (is_photo(layer) and is_photo(other) and other.visible):
        return False
    if any(one.opacity < 1 or one.blending not in _OPAQUE for one in (layer, other)):
        return False
    first, second = layer.extent.world[:, -2:], other.extent.world[:, -2:]
    return bool(np.all(np.maximum(first[0], second[0]) < np.minimum(first[1], second[1])))


def show_alone(layers: LayerList, layer: Layer) -> list[Layer]:
    """Show the photo in `layer`, and hide the photos in its place, with their masks and probabilities.

    Returns:
        The layers of the hidden photos.
    """
    hidden = [other for other in layers if overlaps(layer, other)]
    for other in layers:
        photo_id = other.metadata.get(KEY, {}).get("probability_of", "").split(" ")[0]
        photo = next((one for one in layers if str(one.unique_id) == photo_id), find_photo_layer(layers, other))
        if photo is layer and not other.visible:
            other.visible = True
        elif photo in hidden:
            other.visible = False
    return hidden


def placement(layer: Layer) -> dict[str, Any]:
    """Return the arguments that place a new layer exactly where `layer` is in the world."""
    return {
        "scale": layer.scale,
        "translate": layer.translate,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine.affine_matrix,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }


def axes_in_world(layer: Layer) -> NDArray[np.float64]:
    """Return `[ndim, ndim]`; column i is the world vector of one step along data axis i."""
    origin = np.array(layer.data_to_world(np.zeros(layer.ndim)))
    return np.array([np.array(layer.data_to_world(step)) - origin for step in np.eye(layer.ndim)]).T


def _plane_at(layer: Image, leading: tuple[int, ...], point: Sequence[float]) -> tuple[int, ...]:
    if not leading:
        return ()
    # In a viewer with more axes than the layer has, the layer lies along the last axes.
    position = layer.world_to_data(tuple(point)[-layer.ndim :])
    plane = tuple(round(float(value)) for value in position[: len(leading)])
    if not all(0 <= index < length for index, length in zip(plane, leading, strict=True)):
        raise BadInput(f"{layer.name} shows no photo at this position of the slider; move the slider to one.")
    return plane


def _why_no_photo(name: str, shape: tuple[int, ...]) -> str:
    if shape[-1] in (3, 4):
        return f"{name} is a colour photo that was added as a gray stack; open its file, or add it with rgb=True."
    if shape[0] in (3, 4):
        return f"{name} is a photo in separate colours; right-click it and choose Split Stack, then Merge to RGB."
    sizes = " x ".join(map(str, shape))
    return f"{name} is a gray stack ({sizes}), not a dermoscopic photo; choose a colour photo, or one gray plane."
