"""Photos for folder runs."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def make_photos(tmp_path, spot) -> Callable[[int], Path]:
    """Write photos of a spot into two sub-folders, and return their folder."""

    def make(count: int) -> Path:
        for number in range(count):
            place = tmp_path / "photos" / ("north", "south")[number % 2] / f"{number:02}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(spot(40, 50 + number, 20, (96, 128))[0]).save(place)
        return tmp_path / "photos"

    return make
