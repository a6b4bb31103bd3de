"""The only bridge between layers and arrays: a photo out of an Image layer, a mask into a Labels layer."""

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.components import LayerList
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels.image import to_rgb
from napari_skinseg.project.records import Line

KEY = "napari_skinseg"
"""Where our facts about a layer are kept in `layer.metadata`, as plain JSON types.

A mask's are where it comes from, with the keys that the command line records; "image_id", which ties it to its Image
layer while napari runs; and "written", the fingerprints of every state that we gave it. A photo's are its scale, if a
person read it off a ruler: "mm_per_px", "scale_line" and "scale_mm".
"""

LESION = 1

_SCALE = ("mm_per_px", "scale_line", "scale_mm")
_CYAN, _MAGENTA = (0.0, 0.9, 1.0, 1.0), (1.0, 0.0, 1.0, 1.0)

FILLED = {
    "colormap": DirectLabelColormap(color_dict={None: _MAGENTA, 0: "transparent", LESION: _CYAN}),
    "opacity": 0.4,
}
"""How a mask is drawn at first: readers and samples cannot ask napari for an outline.

Cyan, which skin never has; napari's own colour of label 1 is a brown that disappears on it. Any other label is
magenta, so that a stroke with the wrong label is seen.
"""


@dataclass(frozen=True)
class LayerImage:
    """One photo in an Image layer: the whole layer, or one plane of a stack.

    The layer is held as an object, because people rename and delete layers; `name` is only for sentences.

    Attributes:
        layer: the Image layer.
        name: what the layer was called.
        plane: index of the photo along the leading axes of a stack; () for a layer that is one photo.
        shape: (height, width) in pixels.
        pixels: the photo as the layer holds it, perhaps lazily.
    """

    layer: Image
    name: str
    plane: tuple[int, ...]
    shape: tuple[int, int]
    pixels: Any

    @property
    def mm_per_px(self) -> float | None:
        """Millimetres per pixel as the layer says now, if it does: a person may read it off a ruler at any time."""
        return mm_per_px(self.layer)

    @property
    def key(self) -> str:
        """Name this photo among all others, in any layer, as plain text."""
        return " ".join([str(self.layer.unique_id), *map(str, self.plane)])

    def read(self) -> NDArray[np.uint8]:
        """uint8 `[H, W, 3]`; call it in a worker, because a dask array is computed here.

        Raises:
            BadInput: the values are not those of a photo (NaN, negative, one colour…).
        """
        try:
            values = np.asarray(self.pixels)
        except Exception as error:  # whatever a lazy array raises when its file has gone or is damaged
            raise BadInput(f"{self.name} cannot be read ({error}); open the photo again.") from error
        return to_rgb(values, name=self.name)


def image_from_layer(layer: Layer | None, point: Sequence[float]) -> LayerImage:
    """The photo that `layer` shows while the viewer's sliders are at the world coordinates `point`.

    Quick and lazy, fit for the GUI thread. A multiscale layer gives its full resolution.

    Raises:
        BadInput: the layer is no photo.
    """
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
    plane = _plane_at(layer, data.shape[:leading], point)
    height, width = data.shape[leading : leading + 2]
    pixels = data[plane] if plane else data
    return LayerImage(layer, layer.name, plane, (int(height), int(width)), pixels)


def is_photo(layer: Layer) -> bool:
    """Whether `layer` is offered as a photo: any Image layer but our own probabilities and the one under review.

    That one shows another photo every few seconds, so nothing that is known about a layer is true of it for long.
    """
    facts = layer.metadata.get(KEY, {})
    return isinstance(layer, Image) and "probability_of" not in facts and "reviewed" not in facts


def photo_of(layers: Iterable[Layer], layer: Layer | None) -> Layer | None:
    """The photo that `layer` is, or is the mask of."""
    if layer is None or is_photo(layer):
        return layer
    image_id = layer.metadata.get(KEY, {}).get("image_id")
    return next((other for other in layers if str(other.unique_id) == image_id), None)


def mm_per_px(layer: Image) -> float | None:
    """Millimetres per pixel, never guessed: read off a ruler, or else from square pixels with a unit of length."""
    from_ruler = layer.metadata.get(KEY, {}).get("mm_per_px")
    if from_ruler is not None:
        return float(from_ruler)
    sides = []
    for column in _axes_in_world(layer)[:, -2:].T:
        used = np.abs(column) > 1e-9 * np.abs(column).max()
        steps = [step * unit for step, unit, along in zip(column, layer.units, used, strict=True) if along]
        if not all(step.is_compatible_with("mm") for step in steps):
            return None
        sides.append(math.hypot(*(step.to("mm").magnitude for step in steps)))
    return sum(sides) / 2 if math.isclose(*sides, rel_tol=0.01) else None


def keep_scale(layer: Image, mm_per_px: float | None, line: Line | None = None, mm: float | None = None) -> None:
    """Keep a photo's scale, and the ruler line of `mm` that it was read off, with its layer; None takes it away.

    The layer's own scale stays: it is where the photo lies in the world, and other layers lie on it.
    """
    facts = {name: value for name, value in layer.metadata.get(KEY, {}).items() if name not in _SCALE}
    if mm_per_px is not None:
        facts["mm_per_px"] = mm_per_px
    if line is not None:
        facts |= {"scale_line": [list(map(float, end)) for end in line], "scale_mm": mm}
    others = {name: value for name, value in layer.metadata.items() if name != KEY}
    layer.metadata = {**others, KEY: facts} if facts else others


def find_mask(layers: Iterable[Layer], image: LayerImage) -> Labels | None:
    """The Labels layer that holds the mask of `image`, whatever it is called by now; None if there is none."""
    for layer in layers:
        is_its_mask = layer.metadata.get(KEY, {}).get("image_id") == str(image.layer.unique_id)
        if is_its_mask and not layer.multiscale and layer.data.shape == _mask_shape(image):
            return layer
    return None


def is_edited(mask_layer: Labels, image: LayerImage) -> bool:
    """Whether a person changed the mask of `image` since it was written; Ctrl+Z back to ours counts as unchanged.

    Compared by content, because undo and redo tell nobody that they painted.
    """
    ours = mask_layer.metadata[KEY].get("written", {}).get(_plane_name(image))
    if ours is None:
        return bool(np.any(mask_layer.data[image.plane]))
    return mask_state(mask_layer, image) not in ours


def is_still_there(layers: Iterable[Layer], image: LayerImage) -> bool:
    """Whether the layer of `image` is still in the viewer and of the same size."""
    return any(layer is image.layer for layer in layers) and _mask_shape(image)[-2:] == image.shape


def mask_state(mask_layer: Labels, image: LayerImage) -> int:
    """A number that changes with the mask of `image`, to tell later whether it is still what it was."""
    return fingerprint(mask_layer.data[image.plane])


def fingerprint(mask: NDArray[Any]) -> int:
    """A number that changes when a mask `[H, W]`, lesion non-zero, does."""
    return zlib.crc32(np.packbits(mask != 0).tobytes())


class MaskEdit:
    """One change of a mask layer by us, which can be taken back while nothing else happened to the layer."""

    def __init__(self, layer: Labels, image: LayerImage) -> None:
        self.layer, self._image = layer, image
        self._state = mask_state(layer, image)
        self._is_last = True
        layer.events.paint.connect(self._on_paint)

    def take_back(self) -> None:
        """Undo it, unless the layer changed since."""
        self.layer.events.paint.disconnect(self._on_paint)
        if self._is_last and mask_state(self.layer, self._image) == self._state:
            self.layer.undo()

    def _on_paint(self) -> None:
        self._is_last = False


def show_mask(
    layers: LayerList,
    image: LayerImage,
    mask: NDArray[np.bool_],
    provenance: Mapping[str, Any],
    in_place_of: MaskEdit | None = None,
) -> tuple[Labels, MaskEdit | None]:
    """Show `mask` bool `[H, W]` as the Labels layer of `image`.

    The layer is made if there is none, right above its image and in the same place of the world; else it changes by
    one undoable step, which is returned (None if the layer is new, or nothing differs).

    Args:
        layers: the viewer's layer list, which holds the image's layer.
        image: the photo.
        mask: bool `[H, W]`.
        provenance: plain JSON types, kept in the layer's metadata.
        in_place_of: an earlier edit to take back first, so that dragging a slider stays one step.
    """
    layer = find_mask(layers, image)
    is_new = layer is None
    if layer is None:
        layer = _new_mask_layer(image, mask)
        layers.insert(layers.index(image.layer) + 1, layer)
        draw_as_outline(layer)  # once it is in place: else napari computes the outline twice
    if in_place_of is not None and in_place_of.layer is layer:
        contour, layer.contour = layer.contour, 0  # else napari computes the outline for the step back, too
        in_place_of.take_back()
        changed = _write(layer, image, mask)
        layer.contour = contour
    else:
        changed = _write(layer, image, mask)
    written = dict(layer.metadata[KEY].get("written", {}))
    # Every state we wrote stays on the list, so that Ctrl+Z back to an earlier prediction is no edit by a person.
    written[_plane_name(image)] = [*written.get(_plane_name(image), [])[-99:], fingerprint(mask)]
    layer.metadata = {**layer.metadata, KEY: {**layer.metadata[KEY], **provenance, "written": written}}
    return layer, MaskEdit(layer, image) if changed and not is_new else None


def show_measurements(mask_layer: Labels, measurements: Mapping[str, Any]) -> None:
    """Put the lesion's measurements into the layer's features table, in a row for label 1."""
    mask_layer.features = {"index": [LESION], **{name: [value] for name, value in measurements.items()}}


def show_probability(layers: LayerList, image: LayerImage, probability: NDArray[np.float32]) -> Image:
    """Show `probability` float32 `[H, W]` as an Image layer above its photo, or update the one that is there."""
    plane = probability.reshape((1,) * len(image.plane) + image.shape)
    for layer in layers:
        if isinstance(layer, Image) and layer.metadata.get(KEY, {}).get("probability_of") == image.key:
            layer.data = plane
            return layer
    # Of a stack only this plane is made, and put where it belongs: a stack of float32 could be gigabytes.
    matrix = np.eye(image.layer.ndim + 1)
    matrix[:-1, :-1] = _axes_in_world(image.layer)
    matrix[:-1, -1] = image.layer.data_to_world((*image.plane, 0, 0))
    layer = Image(
        plane,
        name=f"{image.name}_probability",
        metadata={KEY: {"probability_of": image.key}},
        colormap="magma",
        contrast_limits=(0, 1),
        opacity=0.4,
        blending="additive",  # black, where there is no lesion, leaves the photo as it is
        affine=matrix,
        units=image.layer.units,
        axis_labels=image.layer.axis_labels,
    )
    layers.insert(layers.index(image.layer) + 1, layer)
    return layer


def draw_as_outline(layer: Layer) -> None:
    """Draw a mask that we made or read as an outline, unless it is one already."""
    if isinstance(layer, Labels) and KEY in layer.metadata and layer.contour == 0:
        for name, value in mask_style(layer.data.shape).items():
            setattr(layer, name, value)


def mask_style(shape: Sequence[int]) -> dict[str, Any]:
    """The attributes of a mask of `shape` (…, height, width) that is drawn as an outline, as wide as its photo asks."""
    return {
        "colormap": FILLED["colormap"],
        # At most 4, because napari computes outlines on the GUI thread, in a time that grows with their width squared.
        "contour": min(4, max(2, round(math.hypot(*shape[-2:]) / 500))),
        "opacity": 0.9,
    }


def _new_mask_layer(image: LayerImage, mask: NDArray[np.bool_]) -> Labels:
    """The mask itself for a photo; for a stack an empty one, whose planes are written as undoable edits."""
    source = image.layer
    return Labels(
        np.zeros(_mask_shape(image), np.uint8) if image.plane else mask.astype(np.uint8),
        name=f"{image.name}_segmentation",
        metadata={KEY: {"photo": image.name, "image_id": str(source.unique_id)}},
        scale=source.scale,
        translate=source.translate,
        rotate=source.rotate,
        shear=source.shear,
        affine=source.affine.affine_matrix,
        units=source.units,
        axis_labels=source.axis_labels,
        **FILLED,
    )


def _write(layer: Labels, image: LayerImage, mask: NDArray[np.bool_]) -> bool:
    """Change `layer` to `mask` where it differs, as one step of its undo history; False if nothing differed."""
    new = mask.view(np.uint8)
    differs = layer.data[image.plane] != new
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    if not rows.size:
        return False
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside = np.nonzero(differs[box])
    where = inside[0] + rows[0], inside[1] + columns[0]
    planes = tuple(np.full(where[0].size, index) for index in image.plane)
    layer.data_setitem((*planes, *where), new[where])
    return True


def _mask_shape(image: LayerImage) -> tuple[int, ...]:
    layer = image.layer
    data = layer.data[0] if layer.multiscale else layer.data
    return tuple(int(side) for side in data.shape[: layer.ndim])


def _plane_at(layer: Image, leading: tuple[int, ...], point: Sequence[float]) -> tuple[int, ...]:
    if not leading:
        return ()
    # A viewer with more axes than the layer shows it along the last ones.
    position = layer.world_to_data(tuple(point)[-layer.ndim :])
    plane = tuple(round(float(value)) for value in position[: len(leading)])
    if not all(0 <= index < length for index, length in zip(plane, leading, strict=True)):
        raise BadInput(f"{layer.name} shows no photo at this position of the slider; move the slider to one.")
    return plane


def _plane_name(image: LayerImage) -> str:
    return " ".join(map(str, image.plane))


def _axes_in_world(layer: Layer) -> NDArray[np.float64]:
    """Column i is how far one step along data axis i goes in the world, `[ndim, ndim]`."""
    origin = np.array(layer.data_to_world(np.zeros(layer.ndim)))
    return np.array([np.array(layer.data_to_world(step)) - origin for step in np.eye(layer.ndim)]).T


def _why_no_photo(name: str, shape: tuple[int, ...]) -> str:
    if shape[-1] in (3, 4):
        return f"{name} is a colour photo that was added as a gray stack; open its file, or add it with rgb=True."
    if shape[0] in (3, 4):
        return f"{name} is a photo in separate colours; right-click it and choose Split Stack, then Merge to RGB."
    sizes = " x ".join(map(str, shape))
    return f"{name} is a gray stack ({sizes}), not a dermoscopic photo; choose a colour photo, or one gray plane."
