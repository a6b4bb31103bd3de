"""Generate dermoscopic photos with an exactly known lesion mask, for samples and tests.

Colours follow the absorption of light by melanin and blood (Beer-Lambert law), so that a lesion is darker than its skin
for every skin tone. Skin, lesion, camera and each artefact have separate random generators made from the seed, so that
adding or removing an artefact changes nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
import skimage
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from napari_skinseg.errors import BadInput

from .artefacts import ARTEFACTS, add_artefact, log_uniform

__all__ = ["ARTEFACTS", "Phantom", "add_artefact", "phantom"]

Field = NDArray[np.floating[Any]]  # float32

# Absorption of red, green and blue per unit of melanin and of blood, and the colour of melanin deep in the dermis,
# relative to the brightness of the skin.
_MELANIN = np.array([0.50, 0.92, 1.25])
_BLOOD = np.array([0.10, 0.80, 0.62])
_VEIL = np.array([0.62, 0.67, 0.75], np.float32)[:, None, None]


@dataclass(frozen=True, eq=False)
class Phantom:
    """A generated photo: `image` uint8 `[H, W, 3]`, and `mask` bool `[H, W]`, True where the lesion is visible."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    seed: int
    artefacts: tuple[str, ...]


def phantom(
    seed: int, shape: tuple[int, int] = (450, 600), artefacts: tuple[str, ...] = (), lesion: bool = True
) -> Phantom:
    """Generate a photo.

    The lesion covers about 1 to 60 % of the frame, and the frame cuts some lesions. At a soft edge, the border of the
    mask is where half of the pigment is reached.

    Args:
        seed: the same seed always gives the same photo.
        shape: (height, width) in pixels, at least 16 each.
        artefacts: names from `ARTEFACTS`, drawn in this order.
        lesion: False gives skin without a lesion and an empty mask.

    Raises:
        BadInput: an artefact is unknown or the shape is too small.
    """
    if min(shape) < 16:
        raise BadInput(f"A phantom of {shape[0]} x {shape[1]} px is too small; ask for at least 16 x 16.")
    if unknown := [name for name in artefacts if name not in ARTEFACTS]:
        raise BadInput(f"{unknown[0]!r} is not an artefact; choose one of {', '.join(ARTEFACTS)}.")
    skin_rng, lesion_rng, camera_rng = (np.random.default_rng([seed, stream]) for stream in range(3))
    light, relief = _skin(shape, skin_rng)
    level = float(light.mean())
    mask = np.zeros(shape, bool)
    if lesion:
        inside, radius = _lesion_shape(shape, lesion_rng)
        mask = inside > 0
        light = _add_lesion(light, inside, radius, lesion_rng)
    image = _photograph(light * relief, level, camera_rng)
    for name in artefacts:
        own = np.random.default_rng([seed, 3, ARTEFACTS.index(name)])
        image, mask = add_artefact(name, image, mask, own)
    return Phantom(image, mask, seed, tuple(artefacts))


def _skin(shape: tuple[int, int], rng: Generator) -> tuple[Field, Field]:
    """Return the light `[3, H, W]` in [0, 1] that skin reflects, and the shading `[H, W]` of its furrows (mean 1).

    The individual typology angle is uniform from dark to very light skin: tan(ITA) = (L* - 50) / b*.
    """
    ita = np.radians(rng.uniform(-60, 66))
    b = rng.uniform(10, 18)
    tone = np.clip(50 + 0.8 * b * np.tan(ita), 26, 80)
    base = skimage.color.lab2rgb([[[tone, rng.uniform(10, 21), b]]])[0, 0].astype(np.float32)
    blotch = _noise(shape, rng, 0.35) + 0.6 * _noise(shape, rng, 0.1) + 0.4 * _noise(shape, rng, 0.03)
    flush = _noise(shape, rng, 0.2) + 0.7 * _noise(shape, rng, 0.05) + 0.5 * _noise(shape, rng, 0.02)
    vessels = np.exp(-((_noise(shape, rng, 0.04) / 0.12) ** 2)) * np.clip(_noise(shape, rng, 0.12) - 0.3, 0, 1)
    freckles = (
        0.7 * _noise(shape, rng, 0.026)
        + 0.7 * _noise(shape, rng, 0.019)
        + 0.8 * _noise(shape, rng, 0.15)
        - rng.uniform(1.8, 5.0)
    )
    freckles = np.clip(freckles, 0, 2) ** 2 * rng.uniform(0.02, 0.15)
    melanin = rng.uniform(0.005, 0.04) * blotch + freckles
    blood = rng.uniform(0.01, 0.045) * flush + rng.uniform(0, 0.6) ** 2 * vessels
    lines = [np.abs(_noise(shape, rng, grain, stretch)) for grain, stretch in ((0.03, 0.3), (0.01, 2.5), (0.012, 1.0))]
    furrows = rng.uniform(0, 0.09) * (np.minimum(np.minimum(lines[0], lines[1]) + 0.3 * lines[2], 0.9) - 0.6)
    return _absorb(base, melanin, _MELANIN, blood), 1 + furrows + rng.uniform(0, 0.03) * _noise(shape, rng, 0.004)


def _lesion_shape(shape: tuple[int, int], rng: Generator) -> tuple[Field, float]:
    """Return the depth of each pixel in the lesion in radii `[H, W]` (< 0 outside), and the radius in diagonals.

    The shape is a rotated ellipse with lobes (low Fourier orders) and an irregular border (noise of several scales), in
    one piece without holes.
    """
    size = np.array(shape)
    share = np.exp(np.clip(rng.normal(np.log(0.12), 0.95), np.log(0.011), np.log(0.55)))
    mean = float(np.sqrt(share * size.prod() / np.pi))
    radius = mean / float(np.hypot(*shape))
    middle = size * (0.5 + rng.normal(0, 0.07, 2))
    if rng.random() < 0.12:  # cut by the frame
        axis, side = int(rng.integers(2)), int(rng.integers(2))
        middle[axis] = side * size[axis] + (1 - 2 * side) * mean * rng.uniform(0.1, 0.8)
    row, column = np.clip(middle, 0.06 * size, 0.94 * size).tolist()
    slim, tilt = float(np.exp(abs(rng.normal(0, 0.22)) / 2)), rng.uniform(0, np.pi)
    cos, sin = float(np.cos(tilt)) / mean, float(np.sin(tilt)) / mean
    y, x = np.arange(shape[0], dtype=np.float32)[:, None] - row, np.arange(shape[1], dtype=np.float32) - column
    along, across = (x * cos + y * sin) / slim, (y * cos - x * sin) * slim
    lobed, rough = (log_uniform(rng, 0.03, 0.4) for _ in range(2))
    angle = np.linspace(-np.pi, np.pi, 721)
    order = np.arange(1, 9)[:, None]
    lobes = rng.normal(0, lobed, order.shape) / (1 + order) * np.cos(order * angle + rng.uniform(0, 7, order.shape))
    reach = np.maximum(1 + lobes.sum(0), 0.4)
    reach /= np.sqrt(np.mean(reach**2))
    inside = np.interp(np.arctan2(across, along), angle, reach).astype(np.float32) - np.hypot(along, across)
    near_border = np.exp(-((inside / 0.35) ** 2))  # noise elsewhere would make islands and holes
    for grain, depth in ((0.6, 0.35), (0.22, 0.2), (0.09, 0.1), (0.035, 0.05)):
        inside += _noise(shape, rng, grain * radius) * near_border * (depth * min(rough, 0.3))
    magnitude = np.maximum(np.abs(inside), np.float32(1e-6))
    return np.where(_in_one_piece(inside > 0), magnitude, -magnitude), radius


def _add_lesion(skin: Field, inside: Field, radius: float, rng: Generator) -> Field:
    """Add the lesion where `inside` > 0 to `skin` `[3, H, W]`: gradient, spots, network, globules and rare colours."""
    shape = (inside.shape[0], inside.shape[1])
    softness = log_uniform(rng, 0.03, 0.3) * np.exp(0.4 * _noise(shape, rng, 0.8 * radius))
    cover = 1 / (1 + np.exp(-np.clip(3 * inside / softness, -30, 30)))
    depth = np.clip(inside, 0, 1)
    zone_a, zone_b, zone_c, patchy, speckled = (_noise(shape, rng, g * radius) for g in (0.9, 0.9, 0.7, 0.45, 0.2))
    fine = _noise(shape, rng, min(0.1 * radius, 0.012))
    uneven = rng.uniform(0.3, 1.2)
    melanin = np.exp(uneven * (0.3 * zone_a + 0.25 * patchy + 0.22 * speckled + 0.14 * fine))
    # The middle may be darker or lighter than the rim.
    melanin *= float(np.exp(rng.normal(np.log(0.62), 0.5))) * (1 + rng.normal(0.25, 0.6) * depth)
    blotches = np.clip(zone_b + 0.5 * patchy + 0.35 * speckled - rng.uniform(0.3, 2.6), 0, 1.5)
    melanin += rng.uniform(0.1, 0.9) * blotches
    if rng.random() < 0.6:  # pigment network: brown lines around lighter holes, in some zones
        mesh = _mesh(shape, rng, float(np.clip(radius * rng.uniform(0.04, 0.1), 0.006, 0.016)))
        melanin *= 1 + rng.uniform(0.15, 0.55) * np.clip(0.5 + 0.8 * zone_c, 0, 1) * (2 * mesh - 0.9)
    if rng.random() < 0.35:  # globules: round clods, crowded in some zones
        clods = _noise(shape, rng, float(np.clip(radius * rng.uniform(0.06, 0.12), 0.006, 0.02)))
        melanin += rng.uniform(0.2, 0.8) * np.clip(clods + 0.6 * zone_c - 1.1, 0, 1.4)
    blood = rng.uniform(0.0, 0.3) * np.exp(0.5 * zone_c + 0.3 * speckled)
    if rng.random() < 0.2:  # pink, with little pigment
        melanin *= rng.uniform(0.15, 0.5)
        blood += rng.uniform(0.15, 0.5) * np.exp(0.3 * zone_b)
    blood *= cover
    if rng.random() < 0.4:  # red skin around the lesion
        blood += rng.uniform(0, 0.15) * np.exp(np.minimum(inside, 0) / 0.25)
    brown = _MELANIN * np.exp(rng.normal(0, 0.1, 3))
    light = _absorb(skin, np.maximum(melanin, 0.03) * cover, brown, blood)
    # Blue-white veil, and regression to pale skin.
    for colour, probability in ((_VEIL * skin.mean(), 0.3), (1.08 * skin, 0.2)):
        if rng.random() < probability:
            patch = _noise(shape, rng, 0.6 * radius) + 0.3 * speckled + 0.2 * fine - rng.uniform(0.0, 1.0)
            patch = np.clip(0.6 * patch, 0, 1) * cover * np.clip(depth * 4, 0, 1) * rng.uniform(0.3, 0.8)
            light += (colour * (1 + 0.1 * fine) - light) * patch
    return light


def _photograph(light: Field, level: float, rng: Generator) -> NDArray[np.uint8]:
    """Return a photo uint8 `[H, W, 3]` of `light` `[3, H, W]`, exposed for skin with the mean brightness `level`."""
    _, height, width = light.shape
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    down, right = rng.normal(0, 0.06, 2).tolist()
    lamp = 1 + down * y + right * x - rng.uniform(0, 0.16) * (y**2 + x**2)
    # Cameras brighten dark skin, and many cameras make it pink.
    lamp *= float(rng.uniform(0.72, 0.9) / level) ** 0.42
    cast = np.exp(rng.normal(0, (0.05, 0.025, 0.05)) + rng.choice([0, 0.12], p=(0.6, 0.4)) * np.array([0.7, -0.6, 0.1]))
    blur, grain = rng.uniform(0.4, 1.1) * max(1.0, width / 900), rng.uniform(0.002, 0.008)
    photo = np.empty((height, width, 3), np.uint8)
    for channel, gain in enumerate(cast.tolist()):
        seen = scipy.ndimage.gaussian_filter(np.minimum(light[channel] * lamp * gain, 1), blur, truncate=2.5)
        seen += grain * rng.standard_normal(seen.shape, dtype=np.float32)
        photo[..., channel] = np.clip(seen, 0, 1) * 255 + 0.5
    return photo


def _in_one_piece(lesion: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest piece of `lesion` with its holes filled; background that reaches the frame is not a hole."""
    pieces, count = scipy.ndimage.label(lesion)
    if count > 1:
        lesion = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    around, count = scipy.ndimage.label(~lesion)
    frame = np.concatenate([around[0], around[-1], around[:, 0], around[:, -1]])
    open_to_frame = np.isin(np.arange(count + 1), frame)
    open_to_frame[0] = False
    return ~open_to_frame[around]


def _mesh(shape: tuple[int, int], rng: Generator, period: float) -> Field:
    """Return a distorted honeycomb `[H, W]` from three plane waves, 1 on lines, 0 in cells; `period` in diagonals."""
    scale = float(2 * np.pi / (period * np.hypot(*shape)))
    y, x = (
        np.arange(n, dtype=np.float32).reshape(axis) * scale
        + 2.4 * _noise(shape, rng, period * 4)
        + 1.1 * _noise(shape, rng, period * 1.5)
        for n, axis in zip(shape, ((-1, 1), (1, -1)), strict=True)
    )
    turn = rng.uniform(0, np.pi)
    waves = np.zeros(shape, np.float32)
    for angle in (turn, turn + np.pi / 3, turn + 2 * np.pi / 3):
        waves += np.cos(x * float(np.cos(angle)) + y * float(np.sin(angle)))
    return np.clip((1.2 - waves) / 2.4, 0, 1)


def _noise(shape: tuple[int, int], rng: Generator, grain: float, stretch: float = 1.0) -> Field:
    """Return smooth noise `[H, W]` of variance 1 (about); spots are `grain` diagonals wide, `stretch` times as high."""
    cell = max(1.0, grain * float(np.hypot(*shape)))
    high, wide = shape[0] / max(1.0, cell * stretch), shape[1] / cell
    knots = rng.standard_normal((int(high) + 2, int(wide) + 2), dtype=np.float32) * np.float32(1.5)
    smooth = Image.fromarray(knots).resize((shape[1], shape[0]), Image.Resampling.BICUBIC, box=(0, 0, wide, high))
    return np.asarray(smooth)


def _absorb(light: Sequence[float] | Field, melanin: Field, brown: NDArray[np.float64], blood: Field) -> Field:
    """Return the part `[3, H, W]` of `light` that densities `[H, W]` do not absorb; `brown` is the melanin spectrum."""
    return np.stack([
        part * np.exp(-float(m) * melanin - float(b) * blood) for part, m, b in zip(light, brown, _BLOOD, strict=True)
    ])  # fmt: skip
