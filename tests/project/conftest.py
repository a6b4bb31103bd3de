"""A folder of photos to review, and a project that has them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_skinseg.project.project import Project

SHAPE = (48, 64)


@pytest.fixture
def draw() -> Callable[..., np.ndarray]:
    """draw(radius) is a mask: the disc of this radius in the middle of the frame."""

    def disc(radius: float, shape: tuple[int, int] = SHAPE) -> np.ndarray:
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        return (rows - shape[0] / 2) ** 2 + (columns - shape[1] / 2) ** 2 < radius**2

    return disc


@pytest.fixture
def take_photo() -> Callable[..., Path]:
    """take_photo(path, seed) writes a small photo with another content for each seed."""

    def write(path: Path, seed: int, shape: tuple[int, int] = SHAPE) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def album(tmp_path: Path, take_photo) -> Path:
    """Five photos in two folders; two have one name."""
    for seed, name in enumerate(("north/a.png", "north/b.png", "north/c.jpg", "south/a.png", "south/d.tif")):
        take_photo(tmp_path / "photos" / name, seed)
    return tmp_path / "photos"


@pytest.fixture
def project(tmp_path: Path, album: Path) -> Iterator[Project]:
    """An open project beside the album, scanned."""
    with Project.open(tmp_path / "review", reader="Ada", create=True) as opened:
        opened.scan(album)
        yield opened
