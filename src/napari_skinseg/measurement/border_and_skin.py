"""Abruptness of the border, tone of the skin, and shares of six named colours."""

from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from napari_skinseg.pixels.mask import bounding_box, distance_within, grow

from .crop import Crop, colour_difference, sample_pixels, to_lab, to_lightness

SECTORS = 8
_NAMES = ("white", "red", "light_brown", "dark_brown", "blue_grey", "black")

BORDER_COLUMNS: dict[str, str] = {
    **{
        f"abruptness_{sector + 1}": "slope of the lightness outwards across the border, "
        f"{45 * sector}-{45 * (sector + 1)}° counter-clockwise from the right [L* per % of the equivalent diameter]"
        for sector in range(SECTORS)
    },
    "abruptness_mean": "mean over the measured segments [L* per % of the equivalent diameter]",
    "abruptness_mm_mean": "the same, fitted over half a millimetre on each side of the border [L*/mm]",
}
SKIN_COLUMNS: dict[str, str] = {
    "ita_deg": "apparent skin tone in this image: individual typology angle of the surrounding skin [°]",
    "skin_tone": "apparent skin tone in this image, not a Fitzpatrick type [very light … dark]",
}
EXPERIMENTAL_COLUMNS: dict[str, str] = {
    **{f"colour_{name}": f"EXPERIMENTAL share of the lesion that is {name.replace('_', ' ')} [0-1]" for name in _NAMES},
    "colour_unclassified": "EXPERIMENTAL share of the lesion that is none of the six colours [0-1]",
    "colour_count": "EXPERIMENTAL number of the six colours with at least 5 % of the lesion [count]",
}
"""The six colours of the ABCD rule, by the nearest of our own prototypes; the result depends on the camera."""

_HALF_WIDTH = 0.05  # of the equivalent diameter, on each side of the border
_HALF_WIDTH_MM = 0.5
_MIN_VALID_SHARE = 0.6  # of the samples of one profile

# Upper bounds of the angle, as coded in derm_ita after Del Bino; other published tables differ below 10 degrees.
_TONES = ((-30, "dark"), (10, "brown"), (28, "tan"), (41, "intermediate"), (55, "light"), (np.inf, "very light"))

_PROTOTYPES = np.array(
    [[88, 2, 4], [47, 45, 24], [58, 16, 27], [34, 15, 18], [50, -1, -7], [14, 3, 3]], dtype=float
)  # CIELAB, in the order of the names
_MAX_DIFFERENCE = 20.0  # ΔE2000; a pixel farther from every prototype has none of the six colours
_MIN_COLOUR_SHARE = 0.05  # of the lesion, for `colour_count`

Value = float | int | bool | str | None


def abruptness(crop: Crop, mm_per_px: float | None = None) -> tuple[dict[str, Value], list[str]]:
    """Return the slope of L* along outward normals in eight 45° segments around the centroid, and remarks for `flags`.

    The slope along each normal is fitted by least squares over 5 % of the diameter on each side of the border; the
    value of a segment is the median of its slopes. The segments are those of the ABCD rule (Nachbar 1994). The rule
    asks for yes or no; the slope is given instead, because published thresholds are valid for one magnification only. A
    segment at the frame or under hair is not measured.
    """
    found: dict[str, Value] = dict.fromkeys(BORDER_COLUMNS)
    points, normals, sectors = _border_points(crop.lesion)
    per_percent = crop.diameter / crop.factor / 100  # pixels of the crop in 1 % of the diameter
    slopes = _slopes(crop, points, normals, _HALF_WIDTH * crop.diameter / crop.factor) * per_percent
    values = [_segment_median(slopes[sectors == sector]) for sector in range(SECTORS)]
    found |= {f"abruptness_{sector + 1}": value for sector, value in enumerate(values)}
    measured = [value for value in values if value is not None]
    if measured:
        found["abruptness_mean"] = float(np.mean(measured))
    if mm_per_px is not None:
        pixel = mm_per_px * crop.factor
        if _HALF_WIDTH_MM / pixel >= 2:
            slopes = _slopes(crop, points, normals, _HALF_WIDTH_MM / pixel) / pixel
            by_mm = [_segment_median(slopes[sectors == sector]) for sector in range(SECTORS)]
            measured_mm = [value for value in by_mm if value is not None]
            found["abruptness_mm_mean"] = float(np.mean(measured_mm)) if measured_mm else None
    missing = SECTORS - len(measured)
    return found, [f"abruptness is not measured in {missing} of {SECTORS} border segments"] if missing else []


def skin_tone(crop: Crop) -> dict[str, Value]:
    """Return the individual typology angle atan2(L* - 50, b*) of the skin in degrees, and the name of the tone.

    L* and b* are medians over the skin ring, without pixels farther than 1 standard deviation from the mean. The angle
    is that of Chardon 1991, computed on segmented skin, which arXiv 2504.04494 found more stable under changing light.
    The colours are not corrected, because a correction would change the angle.
    """
    if not crop.enough_skin:
        return dict.fromkeys(SKIN_COLUMNS)
    skin = crop.skin_lab[:, [0, 2]]
    typical = (np.abs(skin - skin.mean(axis=0)) <= skin.std(axis=0) + 1e-9).all(axis=1)
    lightness, yellow = np.median(skin[typical] if typical.any() else skin, axis=0)
    angle = float(np.degrees(np.arctan2(lightness - 50, yellow)))
    return {"ita_deg": angle, "skin_tone": next(name for bound, name in _TONES if angle <= bound)}


def six_colours(crop: Crop) -> dict[str, Value]:
    """Return the shares of white, red, light brown, dark brown, blue-grey and black; see `EXPERIMENTAL_COLUMNS`."""
    valid = sample_pixels(crop.valid)
    if len(valid) < 20:
        return dict.fromkeys(EXPERIMENTAL_COLUMNS)
    colours = to_lab(crop.colours(valid))
    distances = np.stack([colour_difference(colours, np.broadcast_to(one, colours.shape)) for one in _PROTOTYPES])
    nearest = np.where(distances.min(axis=0) <= _MAX_DIFFERENCE, distances.argmin(axis=0), len(_NAMES))
    shares = np.bincount(nearest, minlength=len(_NAMES) + 1) / len(nearest)
    found: dict[str, Value] = {f"colour_{name}": float(share) for name, share in zip(_NAMES, shares, strict=False)}
    found["colour_unclassified"] = float(shares[-1])
    found["colour_count"] = int((shares[:-1] >= _MIN_COLOUR_SHARE).sum())
    return found


def _border_points(inside: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the border pixels `[N, 2]`, their outward normals `[N, 2]` and their 45° segments `[N]`."""
    box = bounding_box(inside, margin=8)
    assert box is not None
    # Pixels outside the frame are not lesion; they are excluded when profiles are sampled. Pixels and distances beyond
    # the reach of the filter, whose radius is 8 px in rows and columns, do not change the normals.
    padded = np.pad(inside[box], 2)
    depth = np.asarray(scipy.ndimage.gaussian_filter(distance_within(~padded, 13) - distance_within(padded, 13), 2))
    edge = np.argwhere(padded & grow(~padded))
    normals = -np.stack([slope[tuple(edge.T)] for slope in np.gradient(depth)], axis=1)
    lengths = np.linalg.norm(normals, axis=1)
    edge, normals = edge[lengths > 1e-6], normals[lengths > 1e-6] / lengths[lengths > 1e-6, None]
    rows, columns = np.divmod(np.flatnonzero(inside), inside.shape[1])
    centre = rows.mean(), columns.mean()
    points = edge - 2.0 + [side.start for side in box]
    offset = points - centre
    angle = np.degrees(np.arctan2(-offset[:, 0], offset[:, 1])) % 360
    return points, normals, (angle // (360 / SECTORS)).astype(int)


def _slopes(crop: Crop, points: NDArray[Any], normals: NDArray[Any], reach: float) -> NDArray[np.float64]:
    """Return the slope of L* per pixel at each point; NaN where less than 60 % of the profile is valid."""
    half = max(2, round(reach))
    # The border is half a pixel outside the centre of a border pixel.
    steps = np.linspace(-reach, reach, 2 * half + 1) + 0.5
    at = np.moveaxis(points[:, None] + steps[None, :, None] * normals[:, None], -1, 0)
    used = np.zeros(crop.lesion.shape, dtype=bool)
    rows, columns = (np.clip(at[axis], 0, used.shape[axis] - 1).astype(np.intp) for axis in (0, 1))
    used[rows, columns] = True
    used[1:] |= used[:-1]  # the interpolation also uses the next row and column
    used[:, 1:] |= used[:, :-1]
    lightness = np.zeros(used.shape)
    lightness[used] = to_lightness(crop.photo[used])
    values = scipy.ndimage.map_coordinates(lightness, at, order=1, mode="nearest")
    # Samples outside the frame are excluded, too.
    valid = (
        scipy.ndimage.map_coordinates(crop.excluded.astype(np.float32), at, order=1, mode="constant", cval=1.0) < 0.01
    )
    weight = valid.astype(float)
    powers = np.stack([np.ones_like(steps), steps, steps**2], axis=1)
    count, sum_x, sum_xx = (weight @ powers).T
    sum_y, sum_xy = ((weight * values) @ powers[:, :2]).T
    mean_x = sum_x / np.maximum(count, 1)
    slopes = (sum_xy - mean_x * sum_y) / np.maximum(sum_xx - mean_x * sum_x, 1e-9)
    return np.where(count / len(steps) >= _MIN_VALID_SHARE, slopes, np.nan)


def _segment_median(slopes: NDArray[np.float64]) -> float | None:
    known = slopes[np.isfinite(slopes)]
    return float(np.median(known)) if len(known) >= max(3, 0.5 * len(slopes)) else None
