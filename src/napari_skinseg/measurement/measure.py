"""Measure a lesion: size, shape, symmetry, border, colour, and contrast with the surrounding skin.

Lengths are in pixels, and also in millimetres if the scale is known. `None` means "not measured" and is a blank cell in
a table. Pixel centres have whole coordinates; angles are in degrees, counter-clockwise, 0 = horizontal.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy
from numpy.typing import NDArray

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels.mask import Window, bounding_box, distance_within

from .artefact_pixels import downsample_mask, find_dark_field
from .border_and_skin import (  # fmt: skip
    BORDER_COLUMNS,
    EXPERIMENTAL_COLUMNS,
    SKIN_COLUMNS,
    Value,
    abruptness,
    six_colours,
    skin_tone,
)
from .crop import Crop, colour_difference, crop_around, sample_pixels, to_lab

if TYPE_CHECKING:
    from scipy.spatial import ConvexHull

__all__ = ["COLUMNS", "EXPERIMENTAL_COLUMNS", "NOTE", "Value", "measure", "measure_labels", "three_digits"]

NOTE = "Measurement only, not a diagnosis."

_SIZES = {
    "perimeter": "length of the outline (Crofton, 4 directions)",
    "equivalent_diameter": "diameter of the disc of the same area",
    "longest_diameter": "largest distance between two points of the outline",
    "perpendicular_width": "extent at right angles to the longest diameter",
    "major_axis": "long axis of the ellipse with the same second moments",
    "minor_axis": "short axis of that ellipse",
}
_CHANNELS = {"red": "red", "green": "green", "blue": "blue", "lab_l": "lightness L*", "lab_a": "a*", "lab_b": "b*"}
_STATISTICS: dict[str, Callable[[NDArray[Any]], Any]] = {"mean": np.mean, "median": np.median, "sd": np.std}
_RANGES = {"red": "0-255", "green": "0-255", "blue": "0-255", "lab_l": "0-100", "lab_a": "CIELAB", "lab_b": "CIELAB"}

COLUMNS: dict[str, str] = {
    "flags": "remarks on the measurement [text]",
    "n_components": "pieces of the mask; the largest is measured [count]",
    "filled_px": "area of the holes that were filled before measuring [px]",
    "touches_edge": "the lesion is cut by the frame or the dark field; its size is a lower bound [yes/no]",
    "valid_fraction": "share of the lesion without hair, glare, ink and dark field, used for colour [0-1]",
    "mm_per_px": "scale given by the user [mm/px]",
    "area_percent": "area as a percentage of the photo [%]",
    "area_px": "area [px]",
    "area_mm2": "area [mm²]",
    **{f"{name}_{unit}": f"{text} [{unit}]" for name, text in _SIZES.items() for unit in ("px", "mm")},
    "orientation_deg": "direction of the major axis [°, 0-180]",
    "circularity": "4π·area/perimeter²; 1 = disc [0-1]",
    "solidity": "area divided by the area of the convex hull [0-1]",
    "border_irregularity": "perimeter divided by the perimeter of the convex hull; 1 = no notches [ratio]",
    "asymmetry_major": "share of the lesion without a counterpart when it is folded along the major axis [0-1]",
    "asymmetry_minor": "the same along the minor axis [0-1]",
    "asymmetry_lowest": "mean over two perpendicular axes, for the pair of axes with the lowest mean [0-1]",
    "asymmetry_lowest_deg": "direction of the first axis of that pair [°, 0-90]",
    "colour_asymmetry_major": "mean colour difference between mirrored pixels across the major axis [ΔE2000]",
    "colour_asymmetry_minor": "the same across the minor axis [ΔE2000]",
    **{
        f"{channel}_{statistic}": f"{statistic} {text} of the lesion [{_RANGES[channel]}]"
        for channel, text in _CHANNELS.items()
        for statistic in _STATISTICS
    },
    "variegation": "mean colour difference between the pixels of the lesion and their median [ΔE2000]",
    "skin_ring_px": "area of the surrounding skin that the lesion is compared with [px]",
    "contrast": "colour difference between the medians of lesion and skin [ΔE2000]",
    "contrast_l": "lightness of the skin minus lightness of the lesion [L*]",
    **BORDER_COLUMNS,
    **SKIN_COLUMNS,
}
"""Meaning and unit of every key of `measure`, in order."""

_SHAPE_SIDE = 256  # px; a finer mask does not change the asymmetry
_MIN_AREA = 100  # px; the shape of a smaller piece is that of its pixels
_ROUND = 0.95  # minor / major axis; above it the direction of the axes is unreliable


def measure(
    rgb: NDArray[np.uint8],
    mask: NDArray[Any],
    mm_per_px: float | None = None,
    *,
    experimental: bool = False,
    others: NDArray[np.bool_] | None = None,
) -> dict[str, Value]:
    """Measure the largest piece of a mask, with its holes filled.

    Colour is measured on at most 20,000 evenly spaced pixels; a crop of more than 800 px is downsampled first.

    Args:
        rgb: the photo, uint8 `[H, W, 3]`, sRGB, in its original resolution.
        mask: `[H, W]`, lesion = True or non-zero.
        mm_per_px: the scale, if it is known; without it every millimetre column is `None`.
        experimental: also measure the six colours, `EXPERIMENTAL_COLUMNS`.
        others: bool `[H, W]`, other lesions in the photo; they are not skin.

    Returns:
        A value for each key of `COLUMNS` (and of `EXPERIMENTAL_COLUMNS`), in their order. For an empty mask every value
        is `None` except `flags`.

    Raises:
        BadInput: photo and mask do not fit each other, or the scale is not a positive number.
    """
    lesion = np.asarray(mask).astype(bool, copy=False)
    rgb = np.asarray(rgb)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.shape[:2] != lesion.shape:
        raise BadInput(
            f"The image is {rgb.dtype} {rgb.shape} and the mask {lesion.shape}; "
            "give a uint8 [height, width, 3] photo and a mask of the same height and width."
        )
    if mm_per_px is not None and not (np.isfinite(mm_per_px) and mm_per_px > 0):
        raise BadInput(f"The scale {mm_per_px} is not a positive number; give millimetres per pixel, or no scale.")
    found: dict[str, Value] = dict.fromkeys([*COLUMNS, *(EXPERIMENTAL_COLUMNS if experimental else ())])
    if not lesion.any():
        return found | {"flags": "no lesion in the mask"}
    flags = []

    piece, box, n_components, filled = _largest_piece(lesion)
    if n_components > 1:
        flags.append(f"{n_components} pieces, the largest is measured")
    largest = np.zeros_like(lesion)
    largest[box] = piece
    field = find_dark_field(rgb, largest)
    cut = _touches_frame(box, lesion.shape) or _touches_dark_field(largest, field)
    found |= {"n_components": n_components, "filled_px": filled, "touches_edge": cut, "mm_per_px": mm_per_px}

    shape = _geometry(piece)
    found |= {"area_px": int(shape["area"]), "area_percent": 100 * shape["area"] / lesion.size}
    found |= {f"{name}_px": shape[name] for name in _SIZES}
    if mm_per_px is not None:
        found |= {"area_mm2": shape["area"] * mm_per_px**2}
        found |= {f"{name}_mm": shape[name] * mm_per_px for name in _SIZES}
    if cut:
        flags.append("touches the edge: size is a lower bound, shape and border are not measured")
    elif shape["area"] < _MIN_AREA:
        flags.append(f"under {_MIN_AREA} pixels: shape and border are not measured")
    else:
        found |= {name: shape[name] for name in ("orientation_deg", "circularity", "solidity", "border_irregularity")}
        found |= _asymmetry(piece)
        if shape["minor_axis"] > _ROUND * shape["major_axis"]:
            flags.append("nearly round: the direction of its axes is unreliable")

    no_skin = lesion | largest if others is None else lesion | largest | others
    crop = crop_around(rgb, largest, box, no_skin, field, shape["equivalent_diameter"])
    colour, colour_flags = _colour(crop, symmetric=not cut)
    found |= colour | skin_tone(crop)
    if shape["area"] >= _MIN_AREA:
        border, border_flags = abruptness(crop, mm_per_px)
        found |= border
        colour_flags += border_flags
    if experimental:
        found |= six_colours(crop)
    found["flags"] = "; ".join(flags + colour_flags)
    return found


def measure_labels(
    rgb: NDArray[np.uint8], labels: NDArray[Any], mm_per_px: float | None = None
) -> dict[int, dict[str, Value]]:
    """Measure each lesion of a photo.

    Args:
        rgb: the photo, uint8 `[H, W, 3]`.
        labels: `[H, W]`, 0 is the background and every other number one lesion; a bool mask is one lesion.
        mm_per_px: the scale, if it is known.

    Returns:
        What `measure` returns, by label in rising order; for an empty mask, that of label 1.
    """
    labels = np.asarray(labels)
    numbers = np.unique(labels[labels != 0]).astype(int).tolist()
    return {
        label: measure(rgb, labels == label, mm_per_px, others=labels != 0 if len(numbers) > 1 else None)
        for label in numbers or [1]
    }


def three_digits(value: Value) -> str:
    """Format a value with at most three significant digits, because experts who outline the same lesion differ.

    A value that was not measured is "–", a bool is "yes" or "no", and text is unchanged.
    """
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if value == 0:
        return "0"
    decimals = 2 - int(np.floor(np.log10(abs(value))))
    rounded = round(float(value), decimals)
    # Rounding can add a digit (9.996 -> 10.00), so the number of decimals is computed again.
    decimals = 2 - int(np.floor(np.log10(abs(rounded))))
    return f"{rounded:.{0 if isinstance(value, int | np.integer) else max(0, decimals)}f}"


def _largest_piece(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], Window, int, int]:
    """Return the largest 8-connected piece, filled and cropped; its box; the number of pieces; the filled pixels."""
    whole = bounding_box(mask)
    assert whole is not None
    labels, n = scipy.ndimage.label(mask[whole], structure=np.ones((3, 3)))
    largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    part = scipy.ndimage.find_objects(labels)[largest - 1]
    piece = labels[part] == largest
    rows, columns = (slice(a.start + b.start, a.start + b.stop) for a, b in zip(whole, part, strict=True))
    filled = np.asarray(scipy.ndimage.binary_fill_holes(piece))
    return filled, (rows, columns), int(n), int(filled.sum() - piece.sum())


def _touches_frame(box: Window, shape: tuple[int, ...]) -> bool:
    return any(side.start == 0 or side.stop == size for side, size in zip(box, shape, strict=True))


def _touches_dark_field(lesion: NDArray[np.bool_], field: NDArray[np.bool_]) -> bool:
    """Return whether the dark field is within 0.5 % of the diagonal; outlines end a little before its soft rim."""
    if not field.any():
        return False
    margin = max(2, round(0.005 * float(np.hypot(*lesion.shape))))
    near = scipy.ndimage.uniform_filter(field.astype(np.float32), 2 * margin + 1, mode="constant") > 1e-6
    return bool((near & lesion).any())


def _geometry(piece: NDArray[np.bool_]) -> dict[str, float]:
    """Return lengths in pixels and shape ratios of one filled piece.

    Perimeters are computed by Crofton's formula in 4 directions; counting border pixels gives discs a 4-5 % too long
    perimeter. Axes come from second moments (scikit-image `regionprops`). Diameters are measured on the convex hull of
    the midpoints of pixel edges: the distance of the farthest pair, and the extent of the hull perpendicular to it,
    which is not the minimum Feret diameter. Circularity after Cox 1927, limited to 1, because the estimate exceeds 1 by
    up to 1 % on discs.
    """
    # Imported here, because `segment` imports this module and does not always measure.
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist, squareform
    from skimage.measure import perimeter_crofton, regionprops

    padded = np.pad(piece, 1)
    region = regionprops(padded.astype(np.uint8))[0]
    area = float(region.area)
    perimeter = float(perimeter_crofton(padded, 4))
    hull = ConvexHull(_edge_midpoints(padded))
    corners = hull.points[hull.vertices]
    distances = squareform(pdist(corners))
    first, second = np.unravel_index(int(distances.argmax()), distances.shape)
    along = (corners[second] - corners[first]) / distances.max()
    across = corners @ np.array([-along[1], along[0]])
    convex = _hull_mask(hull, padded.shape)
    return {
        "area": area,
        "perimeter": perimeter,
        "equivalent_diameter": float(np.sqrt(4 * area / np.pi)),
        "longest_diameter": float(distances.max()),
        "perpendicular_width": float(np.ptp(across)),
        "major_axis": float(region.axis_major_length),
        "minor_axis": float(region.axis_minor_length),
        "orientation_deg": float((90 + np.degrees(region.orientation)) % 180),
        "circularity": min(1.0, 4 * np.pi * area / perimeter**2),
        "solidity": area / float(convex.sum()),
        "border_irregularity": perimeter / float(perimeter_crofton(convex, 4)),
    }


def _edge_midpoints(padded: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the midpoints of the outer pixel edges of every row and column; they define the convex hull.

    Pixel corners would make the diameter of a disc up to 1.4 px too long, pixel centres 1 px too short.
    """
    points = []
    for axis, image in enumerate((padded, padded.T)):
        lines = np.flatnonzero(image.any(axis=1))
        first = image[lines].argmax(axis=1) - 0.5
        last = image.shape[1] - 0.5 - image[lines, ::-1].argmax(axis=1)
        for ends in (first, last):
            points.append(np.stack([lines, ends] if axis == 0 else [ends, lines], axis=1))
    return np.concatenate(points).astype(float)


def _hull_mask(hull: "ConvexHull", shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels whose centre is in the hull: in each row, those between the bounds that the edges set."""
    row_part, column_part, offset = hull.equations.T
    rows = np.arange(shape[0])[:, None]
    left, right = (
        -(rows * row_part[side] + offset[side]) / column_part[side]
        for side in (column_part < -1e-9, column_part > 1e-9)
    )
    columns = np.arange(shape[1])
    between = (columns >= left.max(axis=1, keepdims=True) - 1e-9) & (columns <= right.min(axis=1, keepdims=True) + 1e-9)
    return np.asarray(between & (rows > hull.min_bound[0] - 1e-9) & (rows < hull.max_bound[0] + 1e-9))


def _asymmetry(piece: NDArray[np.bool_]) -> dict[str, Value]:
    """Return the folding index |M xor M'| / (2|M|) = 1 - |M and M'| / |M|, where M' is the mask mirrored about an axis.

    The axes go through the centroid: the two axes of inertia, and the perpendicular pair with the lowest mean index,
    searched in steps of 2 degrees, as the ABCD rule places its axes (Stolz & Kunz, dermoscopedia).
    """
    padded = np.pad(downsample_mask(piece, -(-max(piece.shape) // _SHAPE_SIDE)), 4)
    # The border is the zero line of the smoothed signed distance: the steps of pixels would change the index by 1 %.
    # Distances beyond the reach of the filter, whose radius is 4 px in rows and columns, do not move the zero line.
    depth = np.asarray(scipy.ndimage.gaussian_filter(distance_within(~padded, 12) - distance_within(padded, 12), 1))
    points = np.argwhere(depth > 0).astype(float)
    centre = points.mean(axis=0)
    major = _direction(points - centre)
    along, across = _folding_indices(depth, points - centre, centre, np.array([major]))[0].tolist()
    # The axes of inertia are also tried, because the axis of a thin ellipse can lie between two steps.
    pairs = {float(np.degrees(major) % 90): (along + across) / 2}
    steps, some = np.arange(0.0, 90.0, 2.0), points[:: max(1, len(points) // 3000)]
    means = _folding_indices(depth, some - centre, centre, np.radians(steps)).mean(axis=1)
    pairs |= dict(zip(steps.tolist(), means.tolist(), strict=True))
    lowest = min(pairs, key=pairs.__getitem__)
    return {
        "asymmetry_major": along,
        "asymmetry_minor": across,
        "asymmetry_lowest": pairs[lowest],
        "asymmetry_lowest_deg": lowest,
    }


def _folding_indices(
    depth: NDArray[np.float64], offsets: NDArray[np.float64], centre: NDArray[np.float64], radians: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the share of points that are mirrored to `depth` <= 0, about each axis and its perpendicular: `[N, 2]`."""
    cosines, sines = np.cos(2 * radians)[:, None], np.sin(2 * radians)[:, None]
    down, right = np.ascontiguousarray(offsets.T)
    across, along = cosines * down + sines * right, cosines * right - sines * down
    at = np.empty((2, 2, *across.shape))  # row and column, axis and its perpendicular, N, points
    for place, start, offset in zip(at, centre, (across, -along), strict=True):
        np.subtract(start, offset, out=place[0])
        np.add(start, offset, out=place[1])
    # Where the four pixels around a position have one sign, the interpolated depth has it, too.
    inside = (depth > 0).astype(np.uint8)
    four = inside[:-1, :-1] + inside[1:, :-1] + inside[:-1, 1:] + inside[1:, 1:]
    row, column = (np.clip(place, 0, side - 1).astype(np.int32) for place, side in zip(at, four.shape, strict=True))
    kind = four.ravel().take(row * np.int32(four.shape[1]) + column)
    outside = (kind == 0).ravel()
    near = np.flatnonzero((kind > 0) & (kind < 4))
    outside[near] = (
        scipy.ndimage.map_coordinates(depth, at.reshape(2, -1).take(near, axis=1), order=1, mode="nearest") <= 0
    )
    return np.asarray(outside.reshape(kind.shape).mean(axis=2).T)


def _direction(offsets: NDArray[np.float64]) -> float:
    """Return the angle of the major axis of inertia of points `[N, 2]` relative to their centroid, in radians."""
    rows, columns = np.ascontiguousarray(offsets.T)
    return float(0.5 * np.arctan2(-2 * (rows @ columns), columns @ columns - rows @ rows))


def _colour(crop: Crop, *, symmetric: bool) -> tuple[dict[str, Value], list[str]]:
    """Return colour values of the lesion and their difference from the surrounding skin, and remarks for `flags`."""
    valid = crop.valid
    found: dict[str, Value] = {"valid_fraction": float(valid.sum() / crop.lesion.sum())}
    if valid.sum() < 20:
        return found, ["nearly all of the lesion is covered by hair, glare or ink: colour is not measured"]

    pixels = sample_pixels(valid)
    pairs = _mirrored_pairs(crop.lesion, valid, pixels) if symmetric else {}
    used = np.zeros(valid.size, dtype=bool)
    for some in (pixels, *(partners for _, partners in pairs.values())):
        used[some] = True
    at = np.flatnonzero(used)
    lab = np.empty((3, valid.size))
    lab[:, at] = to_lab(crop.colours(at)).T
    in_lab = lab.take(pixels, axis=1).T
    for name, values in zip(_CHANNELS, [*crop.colours(pixels).T, *in_lab.T], strict=True):
        found |= {f"{name}_{statistic}": float(compute(values)) for statistic, compute in _STATISTICS.items()}
    median = np.array([[found[f"{name}_median"] for name in _CHANNELS if name.startswith("lab")]], dtype=float)
    found["variegation"] = float(colour_difference(in_lab, median).mean())
    for name, (some, partners) in pairs.items():
        if len(some):
            difference = colour_difference(lab.take(some, axis=1).T, lab.take(partners, axis=1).T)
            found[f"colour_asymmetry_{name}"] = float(difference.mean())
    found["skin_ring_px"] = crop.skin_px
    if not crop.enough_skin:
        return found, ["too little skin visible around the lesion: contrast and skin tone are not measured"]
    skin = np.median(crop.skin_lab, axis=0, keepdims=True)
    return found | {
        "contrast": float(colour_difference(median, skin)[0]),
        "contrast_l": float(skin[0, 0] - median[0, 0]),
    }, []


def _mirrored_pairs(
    lesion: NDArray[np.bool_], valid: NDArray[np.bool_], pixels: NDArray[np.int_]
) -> dict[str, tuple[NDArray[np.int_], NDArray[np.int_]]]:
    """Return those of `pixels` whose mirror image is also valid, and the mirror images, for each axis; flat indices."""
    points = np.stack(np.divmod(np.flatnonzero(lesion), valid.shape[1]), axis=1)
    centre = points.mean(axis=0)
    major = _direction(points - centre)
    offset = np.stack(np.divmod(pixels, valid.shape[1]), axis=1) - centre
    axis = np.array([-np.sin(major), np.cos(major)])  # row numbers increase downwards, angles counter-clockwise
    mirrored = 2 * np.outer(offset @ axis, axis) - offset
    found = {}
    for name, partners in (("major", centre + mirrored), ("minor", centre - mirrored)):
        rows, columns = np.rint(partners.T).astype(int)
        inside = (rows >= 0) & (rows < valid.shape[0]) & (columns >= 0) & (columns < valid.shape[1])
        within = np.flatnonzero(inside)
        at = rows[within] * valid.shape[1] + columns[within]
        both = valid.ravel().take(at)
        found[name] = pixels[within[both]], at[both]
    return found
