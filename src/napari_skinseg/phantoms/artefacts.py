"""Draw artefacts that mislead networks onto a photo: hair, rulers, dark fields, ink, stickers, glare and gel bubbles.

The phantoms (documentation, samples, tests) and the augmentation of training use the same artefacts. Each artefact
takes a few milliseconds at the input size of the network, scales with the photo, and is reproducible from its random
generator. The artefacts imitate those in HAM10000 and ISIC photos.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from napari_skinseg.errors import BadInput

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Points = NDArray[np.float64]
Colour = tuple[int, int, int]
T = TypeVar("T")


def add_artefact(name: str, rgb: Rgb, mask: Mask, rng: Generator) -> tuple[Rgb, Mask]:
    """Return a copy of a photo with an artefact, and the visible part of its mask.

    Args:
        name: one of `ARTEFACTS`. Only "dark_field" changes the mask: hidden pixels are no longer lesion.
        rgb: uint8 `[H, W, 3]`.
        mask: bool `[H, W]`.
        rng: random generator of the artefact.

    Raises:
        BadInput: the name is unknown.
    """
    if name == "dark_field":
        return _dark_field(rgb, mask, rng)
    if name not in _DRAW_FUNCTIONS:
        raise BadInput(f"{name!r} is not an artefact; choose one of {', '.join(ARTEFACTS)}.")
    photo = Image.fromarray(rgb)
    _DRAW_FUNCTIONS[name](photo, mask, rng)
    return np.array(photo), mask


class _OpacityLayer:
    """An opacity image over a photo. For a small photo it has twice the resolution, because hair is thin."""

    def __init__(self, photo: Image.Image) -> None:
        self.photo = photo
        self.scale = 2 if max(photo.size) <= 1024 else 1
        self.width, self.height = photo.width * self.scale, photo.height * self.scale
        self.diagonal = float(np.hypot(self.width, self.height))
        self.image = Image.new("L", (self.width, self.height))
        self.draw = ImageDraw.Draw(self.image)

    def line(self, points: Points, thickness: float, opacity: float) -> None:
        """Draw a polyline through `points` `[N, 2]` (x, y); `thickness` is a fraction of the diagonal."""
        # A line thinner than a pixel is drawn one pixel wide and more transparent.
        width = thickness * self.diagonal
        self.draw.line(points.ravel().tolist(), _byte(opacity * min(1.0, width)), max(1, round(width)))

    def fill(self, outline: Points, opacity: float) -> None:
        """Draw a filled polygon with the corners `outline` `[N, 2]` (x, y)."""
        self.draw.polygon(outline.ravel().tolist(), _byte(opacity))

    def paint(self, colour: Colour, blur: float = 0.0, texture: Image.Image | None = None) -> None:
        """Paint `colour` on the photo with the opacity of this layer.

        `blur` is in pixels of the photo; a dark `texture` reduces the opacity.
        """
        opacity = self.image.reduce(self.scale) if self.scale > 1 else self.image
        if blur > 0.25:
            opacity = opacity.filter(ImageFilter.GaussianBlur(blur))
        if texture is not None:
            opacity = ImageChops.multiply(opacity, texture)
        self.photo.paste(colour, (0, 0), opacity)


def _hair(photo: Image.Image, mask: Mask, rng: Generator) -> None:
    """Draw curved hairs, few or many, thick or thin, dark or fair, or the stubble after shaving."""
    colour = _choose(rng, _HAIR_COLOURS, (0.45, 0.2, 0.15, 0.1, 0.1))
    stubble = rng.random() < 0.2
    count = rng.uniform(8, 35) if stubble else log_uniform(rng, 1, 28)
    length = rng.uniform(0.02, 0.07) if stubble else rng.uniform(0.25, 1.1)
    thickness = rng.uniform(0.0025, 0.006) if stubble else log_uniform(rng, 0.0012, 0.007)
    spread = rng.choice([0.15, 0.5, 2.0])
    curl = rng.uniform(0.05, 0.8) * (0.2 if stubble else 1.0)
    opacity = rng.uniform(0.55, 0.98)
    for _ in range(2):
        layer = _OpacityLayer(photo)
        hairs = _curves(layer, rng, round(count), length, rng.normal(0, 3), spread, curl)
        widths = thickness * np.exp(rng.normal(0, 0.35, len(hairs)))
        for hair, wide, dark in zip(hairs, widths, opacity * rng.uniform(0.6, 1.0, len(hairs)), strict=True):
            layer.line(hair, wide, dark)
            layer.line(hair[:8], wide * 1.3, dark)
        layer.paint(_vary(rng, colour, 18), blur=rng.uniform(0.0, 0.0022) * max(photo.size) * rng.random())


_HAIR_COLOURS: tuple[Colour, ...] = ((28, 20, 18), (62, 36, 24), (96, 62, 38), (40, 40, 52), (205, 185, 160))


def _curves(
    layer: _OpacityLayer, rng: Generator, count: int, length: float, heading: float, spread: float, curl: float
) -> Points:
    """Return `count` smooth curves `[count, 13, 2]` (x, y) that bend steadily, with small irregularities."""
    steps = np.linspace(0, 1, 13)
    angle = rng.normal(heading, spread, (count, 1)) + rng.normal(0, curl, (count, 1)) * 2 * (steps - 0.5)
    angle = angle + rng.normal(0, curl, (count, 1)) * np.sin(2 * np.pi * (steps + rng.random((count, 1)))) * 0.5
    stride = layer.diagonal * length * rng.uniform(0.5, 1.2, (count, 1)) / steps.size
    curve = np.cumsum(np.stack([np.cos(angle), np.sin(angle)], -1) * stride[..., None], axis=1)
    middle = rng.uniform(-0.05, 1.05, (count, 1, 2)) * (layer.width, layer.height)
    return curve - curve[:, 6:7] + middle


def _ruler(photo: Image.Image, mask: Mask, rng: Generator) -> None:
    """Draw a millimetre scale: ticks along a side of the glass plate, or a printed bar with its unit."""
    layer = _OpacityLayer(photo)
    size = np.array([layer.width, layer.height])
    printed = rng.random() < 0.45
    tilt = rng.normal(0, 0.12) if rng.random() < 0.8 else rng.uniform(-np.pi, np.pi)
    side = int(rng.integers(4))
    along = side * np.pi / 2 + tilt
    inward = np.array([-np.sin(along), np.cos(along)]) if not printed else np.array([np.sin(along), -np.cos(along)])
    out = np.array([np.sin(side * np.pi / 2), -np.cos(side * np.pi / 2)])
    start = size * (0.5 + out * rng.uniform(0.36, 0.5)) + size * out[::-1] * rng.normal(0, 0.1)
    direction = np.array([np.cos(along), np.sin(along)])
    span = size @ np.abs(direction) * (rng.uniform(0.5, 0.75) if printed else rng.uniform(0.3, 1.3))
    gap = layer.diagonal * log_uniform(rng, 0.012, 0.06)
    count = min(120, int(span / gap) + 1)
    major = int(_choose(rng, (5, 10, 100), (0.5, 0.3, 0.2)))
    short, thickness = rng.uniform(0.008, 0.022), rng.uniform(0.0012, 0.0035)
    bend = rng.normal(0, 0.1) if not printed and rng.random() < 0.3 else 0.0
    opacity = rng.uniform(0.5, 0.95)
    places = (np.arange(count) - (count - 1) / 2) * gap
    feet = start + direction * places[:, None] + inward * (bend * places**2 / max(span, 1))[:, None]
    for i, foot in enumerate(feet):
        tick = short * (1.0 if i % major else 1.7) * layer.diagonal
        layer.line(np.stack([foot, foot + inward * tick]), thickness, opacity)
    if printed or rng.random() < 0.2:
        layer.line(feet, thickness, opacity)
    if printed or rng.random() < 0.3:
        _draw_numbers(layer, feet, inward, short * layer.diagonal, major, along, opacity, printed, rng)
    light = rng.random() < 0.15
    colour = _vary(rng, (235, 235, 235) if light else (38, 32, 34), 20)
    layer.paint(colour, blur=rng.uniform(0.0, 0.0012) * max(photo.size))


def _draw_numbers(
    layer: _OpacityLayer, feet: Points, inward: Points, tick: float, major: int, along: float, opacity: float,
    printed: bool, rng: Generator,
) -> None:  # fmt: skip
    """Draw the unit below a printed bar, or the number at every long tick."""
    height = max(6, round(rng.uniform(0.9, 1.6) * tick))
    labels = [(0, "MM")] if printed else [(i, str(i // major)) for i in range(0, len(feet), major)][:8]
    for i, text in labels:
        x, y = feet[i] + inward * (-1.2 * height if printed else 2.0 * tick + 0.7 * height)
        patch = Image.new("L", (height * 2, height * 2))
        ImageDraw.Draw(patch).text((height, height), text, _byte(opacity), _font(height), anchor="mm")
        patch = patch.rotate(-np.degrees(along), Image.Resampling.BILINEAR, expand=True)
        layer.image.paste(_byte(opacity), (int(x - patch.width / 2), int(y - patch.height / 2)), patch)


@lru_cache(maxsize=64)
def _font(height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(height)


def _dark_field(rgb: Rgb, mask: Mask, rng: Generator) -> tuple[Rgb, Mask]:
    """Draw the black area around the field of view of a dermoscope, or the frame of a scan; this cuts the mask."""
    height, width = mask.shape
    step = max(1, min(height, width) // 64)
    coarse = mask[::step, ::step]
    for attempt in range(6):
        distance = _field_of_view(height, width, mild=attempt == 5, rng=rng)
        hidden = (coarse & (distance[::step, ::step] >= 1)).sum()
        if hidden <= coarse.sum() * (0.65 if rng.random() < 0.05 else 0.25):
            break
    softness = log_uniform(rng, 0.004, 0.12)
    vignette = rng.uniform(0, 0.45) * (rng.random() < 0.7)
    # Lenses refract blue more than red, so the rim of a real field of view has a coloured fringe.
    fringe = softness * (rng.normal(0, 0.06, 3) + np.array([0.0, 0.1, 0.25]) * rng.uniform(-0.5, 1))
    black = rng.uniform(0, 28) * (rng.random() < 0.6) * np.array([1.0, 0.85, 0.8]) + rng.uniform(0, 6, 3)
    shade = 1 - np.float32(vignette) * np.minimum(distance, 1) ** 4
    out = np.empty_like(rgb)
    for c in range(3):
        light = np.clip((1 + fringe[c] - distance) * np.float32(1 / softness) + np.float32(0.5), 0, 1) * shade
        out[..., c] = rgb[..., c] * light + np.float32(black[c]) * (1 - light)
    return out, mask & (distance < 1)


def _field_of_view(height: int, width: int, mild: bool, rng: Generator) -> NDArray[np.float32]:
    """Return the distance `[H, W]` from the centre of the view, 1 at its rim; the rim is a superellipse."""
    kind = (
        "corners" if mild else _choose(rng, ("corners", "round", "disc", "frame", "bars"), (0.3, 0.36, 0.14, 0.1, 0.1))
    )
    half = np.array([height, width]) / 2
    corner = float(np.hypot(*half))
    power, offset = 2.0, rng.normal(0, 0.05, 2) * half
    if kind == "corners":
        radius = np.full(2, corner * rng.uniform(0.86, 0.99))
    elif kind == "round":
        radius = np.full(2, half.max() * rng.uniform(0.8, 1.05))
        offset *= 1.5
    elif kind == "disc":
        radius = np.full(2, half.min() * rng.uniform(0.65, 1.02))
        offset *= 2.5
    elif kind == "frame":
        radius, power = half * rng.uniform(0.85, 1.02, 2), rng.uniform(4, 30)
    else:
        radius, power = half * 50, 8.0
        axis = int(rng.integers(2))
        radius[axis] = half[axis] * rng.uniform(0.75, 0.99)
        offset[axis] += rng.choice([-1, 0, 1]) * (half[axis] - radius[axis]) * 1.1
    radius *= 1 + rng.normal(0, 0.015, 2)
    y = np.abs((np.arange(height) + 0.5 - half[0] - offset[0]) / radius[0]) ** power
    x = np.abs((np.arange(width) + 0.5 - half[1] - offset[1]) / radius[1]) ** power
    total = y.astype(np.float32)[:, None] + x.astype(np.float32)[None]
    return np.sqrt(total) if power == 2.0 else np.power(total, np.float32(1 / power))


def _ink(photo: Image.Image, mask: Mask, rng: Generator) -> None:
    """Draw a surgical marker: scribbles, dots, rings and arrows, with gaps where furrows of the skin have no ink."""
    layer = _OpacityLayer(photo)
    centre, extent = _lesion(mask, layer)
    colour = _vary(rng, _choose(rng, _INKS, (0.55, 0.2, 0.1, 0.15)), 22)
    thickness = rng.uniform(0.006, 0.02)
    opacity = rng.uniform(0.55, 0.95)
    turn = rng.uniform(0, 2 * np.pi)
    kind = _choose(rng, ("scribble", "marks", "ring", "arrow", "lines"), (0.42, 0.22, 0.14, 0.1, 0.12))
    if kind == "ring":
        t = np.linspace(0, 2 * np.pi * rng.choice([0.4, 0.8, 1.0, 1.05]), 49) + turn
        around = extent * rng.uniform(1.25, 1.9) + layer.diagonal * 0.02
        wobble = 1 + 0.06 * rng.normal() * np.sin(2 * t) + 0.04 * rng.normal() * np.sin(3 * t + turn)
        ring = centre + np.stack([np.cos(t), np.sin(t)], -1) * around * wobble[:, None]
        dash = int(_choose(rng, (48, 4, 2), (0.6, 0.2, 0.2)))
        for i in range(0, 48, dash * 2 if dash < 48 else 48):
            layer.line(ring[i : i + dash + 1], thickness, opacity)
    elif kind == "arrow":
        way = np.array([np.cos(turn), np.sin(turn)])
        tip = centre + way * (extent * rng.uniform(1.1, 1.6) + layer.diagonal * 0.02)
        tail = tip + way * layer.diagonal * rng.uniform(0.08, 0.3)
        layer.line(np.stack([tip, tail]), thickness, opacity)
        for barb in (turn - 0.5, turn + 0.5):
            end = tip + np.array([np.cos(barb), np.sin(barb)]) * layer.diagonal * 0.06
            layer.line(np.stack([tip, end]), thickness, opacity)
    elif kind == "lines":
        for line in _curves(layer, rng, int(rng.integers(1, 4)), rng.uniform(0.15, 0.6), turn, 0.4, 0.2):
            layer.line(line, thickness, opacity)
    else:
        marks = 4 if kind == "marks" else int(rng.integers(1, 4))
        reach = layer.diagonal * (rng.uniform(0.02, 0.045) if kind == "marks" else rng.uniform(0.04, 0.12))
        for i in range(marks):
            angle = turn + 2 * np.pi * i / marks + rng.normal(0, 0.2)
            away = np.array([np.cos(angle), np.sin(angle)])
            spot = centre + away * (extent * rng.uniform(1.1, 1.5) + reach + layer.diagonal * abs(rng.normal(0, 0.12)))
            spot = np.clip(spot, 0, (layer.width, layer.height))
            strokes = int(rng.integers(5, 22))
            zigzag = np.stack([np.linspace(-0.5, 0.5, strokes), 0.4 * (-1.0) ** np.arange(strokes)], -1)
            zigzag = (zigzag + rng.normal(0, 0.13, zigzag.shape)) * (rng.uniform(0.6, 2.2), 1) * reach
            cos, sin = np.cos(angle * 3), np.sin(angle * 3)
            layer.line(zigzag @ np.array([[cos, sin], [-sin, cos]]) + spot, thickness * rng.uniform(0.4, 1.0), opacity)
    dryness = rng.uniform(0.2, 0.95)
    layer.paint(
        colour, rng.uniform(0.001, 0.004) * max(photo.size) * 0.7, _patchy_opacity(photo.size, rng, 0.008, dryness)
    )


_INKS: tuple[Colour, ...] = ((78, 52, 150), (58, 70, 160), (36, 34, 48), (112, 66, 138))


def _sticker(photo: Image.Image, mask: Mask, rng: Generator) -> None:
    """Draw coloured stickers: discs, some with a second colour, or rectangles, mostly cut by the frame."""
    for _ in range(int(_choose(rng, (1, 2, 3), (0.65, 0.28, 0.07)))):
        layer = _OpacityLayer(photo)
        colour = _vary(rng, _choose(rng, _STICKERS, (0.28, 0.22, 0.14, 0.12, 0.1, 0.09, 0.05)), 22)
        disc = rng.random() < 0.8
        outline = _sticker_outline(layer, mask, disc, rng)
        layer.fill(outline, 0.5)
        layer.paint((30, 20, 20), blur=rng.uniform(0.002, 0.008) * max(photo.size))
        layer.fill(outline, rng.uniform(0.9, 1.0))
        felt = _patchy_opacity(photo.size, rng, 0.004, rng.uniform(0, 0.25))
        layer.paint(colour, rng.uniform(0, 0.002) * max(photo.size), felt)
        if rng.random() < 0.35:
            inner, middle = _OpacityLayer(photo), outline.mean(0)
            inner.fill(middle + (outline - middle) * rng.uniform(0.35, 0.85), 0.95)
            inner.paint(_vary(rng, _choose(rng, _STICKERS), 25), blur=0.5)


_STICKERS: tuple[Colour, ...] = (
    (28, 128, 196), (240, 130, 30), (78, 186, 176), (245, 205, 70), (196, 40, 44), (226, 224, 216), (70, 150, 70),
)  # fmt: skip


def _sticker_outline(layer: _OpacityLayer, mask: Mask, disc: bool, rng: Generator) -> Points:
    """Return the outline `[N, 2]` (x, y) of a sticker near the frame; 19 of 20 stickers do not cover the lesion."""
    step = max(1, min(mask.shape) // 48)
    lesion = np.argwhere(mask[::step, ::step])[:, ::-1] * step * layer.scale
    allowed = 0.3 if rng.random() < 0.05 else 0.02
    size = np.array([layer.width, layer.height])
    reach = layer.diagonal * log_uniform(rng, 0.05, 0.28)
    for _ in range(12):
        middle = rng.random(2) * size
        axis = int(rng.integers(2))
        middle[axis] = size[axis] * rng.integers(2) + rng.normal(0, 0.6) * reach
        if (np.hypot(*(lesion - middle).T) < reach).sum() <= allowed * len(lesion):
            break
        reach *= 0.85
    else:
        middle = size * (lesion.mean(0) < size / 2)
    tilt = rng.uniform(0, 2 * np.pi)
    t = np.linspace(0, 2 * np.pi, 73)[:-1] + tilt
    power, slim = (2.0, 1.0) if disc else (rng.uniform(6, 30), rng.uniform(1.0, 3.0))  # superellipse: disc or card
    ray = (np.abs(np.cos(t - tilt)) ** power + np.abs(slim * np.sin(t - tilt)) ** power) ** (-1 / power)
    return middle + np.stack([np.cos(t), np.sin(t)], -1) * (ray * reach)[:, None]


def _glare(photo: Image.Image, mask: Mask, rng: Generator) -> None:
    """Draw reflections of light on the skin: spots, bands at the sides, or streaks."""
    layer = _OpacityLayer(photo)
    kind = _choose(rng, ("flecks", "bands", "streaks"), (0.5, 0.25, 0.25))
    opacity = rng.uniform(0.35, 1.0)
    if kind == "bands":
        tilt = rng.choice([0, np.pi / 2], p=(0.8, 0.2)) + rng.normal(0, 0.1)
        x, y = np.linspace(-1, 1, photo.width), np.linspace(-1, 1, photo.height)[:, None]
        across = np.abs(x * np.cos(tilt) + y * np.sin(tilt) - rng.normal(0, 0.25))
        band = np.clip((across - rng.uniform(0.35, 0.9)) / rng.uniform(0.2, 0.8), 0, 1)
        ramp = Image.fromarray((band ** rng.uniform(0.7, 2) * opacity * 235).astype(np.uint8))
        layer.image = ImageChops.multiply(ramp, _patchy_opacity(photo.size, rng, 0.12, rng.uniform(0, 0.5)))
        layer.scale, blur = 1, 0.0
    elif kind == "streaks":
        length, heading = rng.uniform(0.03, 0.15), rng.normal(0, 2)
        for streak in _curves(layer, rng, int(rng.integers(4, 40)), length, heading, 0.3, 0.3):
            layer.line(streak, rng.uniform(0.001, 0.005), opacity * rng.uniform(0.4, 1.0))
        blur = rng.uniform(0.0005, 0.003) * max(photo.size)
    else:
        centre, extent = _lesion(mask, layer)
        if rng.random() < 0.4:
            centre, extent = rng.random(2) * (layer.width, layer.height), np.full(2, layer.diagonal * 0.3)
        for spot in centre + rng.normal(0, 0.5, (int(rng.integers(3, 45)), 2)) * extent:
            blob = rng.normal(0, 1, (6, 2)) * layer.diagonal * log_uniform(rng, 0.0012, 0.008)
            blob = blob[np.argsort(np.arctan2(blob[:, 1], blob[:, 0]))] + spot
            layer.fill(blob, opacity * rng.uniform(0.5, 1.0))
        blur = rng.uniform(0.0005, 0.002) * max(photo.size)
    layer.paint(_choose(rng, ((255, 255, 255), (235, 242, 255), (255, 244, 232))), blur)


def _bubbles(photo: Image.Image, mask: Mask, rng: Generator) -> None:
    """Draw air bubbles in the immersion gel: a dark line inside a bright ring, with a reflection of the lamp."""
    dark, bright = _OpacityLayer(photo), _OpacityLayer(photo)
    size = np.array([dark.width, dark.height])
    centre = rng.random(2) if rng.random() < 0.6 else rng.uniform(0.0, 0.15, 2) + 0.85 * rng.integers(0, 2, 2)
    spread = rng.choice([0.1, 0.25, 0.6])
    largest = log_uniform(rng, 0.008, 0.08)
    lamp = rng.uniform(0, 360)
    strength = rng.uniform(0.4, 1.0)
    for _ in range(round(log_uniform(rng, 1, 40))):
        # Bubbles outside the frame are mirrored at the frame.
        x, y = np.abs((centre + rng.normal(0, spread, 2) + 1) % 2 - 1) * size
        r = max(2.0, dark.diagonal * largest * rng.uniform(0.1, 1.0) ** 1.5)
        rim = max(1, round(r * rng.uniform(0.08, 0.2)))
        box, inside = (x - r, y - r, x + r, y + r), (x - r + rim, y - r + rim, x + r - rim, y + r - rim)
        bright.draw.ellipse(box, _byte(0.12 * strength), _byte(0.65 * strength), rim)
        dark.draw.ellipse(inside, None, _byte(0.35 * strength), max(1, rim // 2))
        bright.draw.arc(inside, lamp - 35, lamp + 35, _byte(strength), rim + 1)
        glint = r * rng.uniform(0.1, 0.2)
        gx, gy = np.array([x, y]) + 0.5 * r * np.array([np.cos(np.radians(lamp)), np.sin(np.radians(lamp))])
        bright.draw.ellipse((gx - glint, gy - glint, gx + glint, gy + glint), _byte(strength))
    dark.paint((50, 30, 28), blur=0.001 * max(photo.size))
    bright.paint((255, 250, 245), blur=rng.uniform(0.0003, 0.0015) * max(photo.size))


_DRAW_FUNCTIONS: dict[str, Callable[[Image.Image, Mask, Generator], None]] = {
    "hair": _hair, "ruler": _ruler, "ink": _ink, "sticker": _sticker, "glare": _glare, "bubbles": _bubbles,
}  # fmt: skip
ARTEFACTS = ("hair", "ruler", "dark_field", "ink", "sticker", "glare", "bubbles")


def _lesion(mask: Mask, layer: _OpacityLayer) -> tuple[Points, Points]:
    """Return centre and half size (x, y) of the lesion in pixels of the layer; typical values for an empty mask."""
    if not mask.any():
        size = np.array([layer.width, layer.height])
        return size / 2, size * 0.15
    spans = [np.flatnonzero(mask.any(axis))[[0, -1]] for axis in (0, 1)]
    low, high = np.array(spans, float).T * layer.scale
    return (low + high) / 2, (high - low) / 2


def _patchy_opacity(size: tuple[int, int], rng: Generator, grain: float, depth: float) -> Image.Image:
    """Return an opacity image from 1 - `depth` to 1 with soft spots; `grain` is their share of the longer side."""
    cell = max(1.5, grain * max(size))
    cells = (max(2, round(size[1] / cell)), max(2, round(size[0] / cell)))
    noise = 1 - depth * np.clip(rng.normal(0.5, 0.4, cells), 0, 1)
    return Image.fromarray((noise * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


def _choose(rng: Generator, options: tuple[T, ...], weights: tuple[float, ...] | None = None) -> T:
    return options[int(rng.choice(len(options), p=weights))]


def log_uniform(rng: Generator, low: float, high: float) -> float:
    """Return a random number whose logarithm is uniform between those of `low` and `high`."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _vary(rng: Generator, colour: Colour, by: float) -> Colour:
    r, g, b = (int(v) for v in np.clip(np.array(colour) + rng.normal(0, by, 3), 0, 255))
    return r, g, b


def _byte(opacity: float) -> int:
    return int(255 * min(1.0, max(0.0, opacity)))
