"""What fools a model, and whether it sees a lesion where there is none: prints two Markdown tables.

    python benchmarks/robustness.py [--models lesion-unet …] [--phantoms 200] [--photos 200]

The first table is of generated photos: the same ones without and with each artefact that fools networks. The second
counts outlines on pictures without a lesion: generated skin, bare and with artefacts, and skin beside the lesion of
real photos of the split test, mirrored until it fills the frame, bare and with artefacts.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import App, Parameter

from common import DATA, JUDGE, photos, print_table
from napari_skinseg import Segmenter
from napari_skinseg.augment import RandomPlainSkin
from napari_skinseg.calibrate import read_ahead
from napari_skinseg.pixels.artefacts import ARTEFACTS, add_artefact
from napari_skinseg.pixels.metrics import dice, summarise
from napari_skinseg.pixels.phantom import phantom
from segment import load_now, machine

SHAPE = (450, 600)
NAMES = {
    "dark_field": "black rim",
    "sticker": "sticker",
    "ruler": "ruler",
    "ink": "ink",
    "hair": "hair",
    "glare": "glare",
}

app = App(help="Artefacts, and pictures without a lesion.")


@app.default
def main(
    *,
    models: Annotated[list[str], Parameter(consume_multiple=True)] = ["lesion-unet"],  # noqa: B006
    data: Path = DATA,
    phantoms: int = 200,
    photos_: int = 200,
) -> None:
    """Print both tables; a model is a name or a folder."""
    print(f"{machine()}{load_now()}; {phantoms} generated photos of 600x450\n")
    segmenters = {name: Segmenter(name) for name in models}
    rows, bare = [], []
    skin = _skin(data, photos_)
    for name, segmenter in segmenters.items():
        plain = _dices(segmenter, phantoms, ())
        row = [Path(name).name, f"{plain.mean():.4f}"]
        for artefact in NAMES:
            change = summarise(_dices(segmenter, phantoms, (artefact,)) - plain)
            row.append(f"{change.mean:+.4f} [{change.low:+.4f}, {change.high:+.4f}]")
        rows.append(row)
        made = [phantom(seed, SHAPE, lesion=False).image for seed in range(phantoms)]
        bare.append(
            [Path(name).name, *(_outlined(segmenter, items) for items in (made, _spoilt(made), skin, _spoilt(skin)))]
        )
    print_table(["model", "Dice, no artefact", *NAMES.values()], rows)
    print()
    head = [f"generated skin ({phantoms})", "with artefacts", f"real skin ({len(skin)})", "with artefacts"]
    print_table(["model: share outlined", *head], bare)


def _dices(segmenter: Segmenter, count: int, artefacts: tuple[str, ...]) -> np.ndarray:
    made = (phantom(seed, SHAPE, artefacts) for seed in range(count))
    return np.array([dice(segmenter.segment(item.image).mask, item.mask) for item in made])


def _outlined(segmenter: Segmenter, images: list[np.ndarray]) -> str:
    found = [segmenter.segment(image).mask.any() for image in images]
    return f"{100 * np.mean(found):.0f} %"


def _skin(data: Path, count: int) -> list[np.ndarray]:
    cut = RandomPlainSkin(1.0)
    cut.set_random_state(0)
    pieces = (
        cut({"image": image, "mask": truth}) for _, image, truth in read_ahead(photos(data, JUDGE, "test", count))
    )
    return [piece["image"] for piece in pieces if not piece["mask"].any()]


def _spoilt(images: list[np.ndarray]) -> list[np.ndarray]:
    """Each with one artefact, in turn."""
    nothing = [np.zeros(image.shape[:2], dtype=bool) for image in images]
    return [
        add_artefact(ARTEFACTS[number % len(ARTEFACTS)], image, mask, np.random.default_rng(number))[0]
        for number, (image, mask) in enumerate(zip(images, nothing, strict=True))
    ]


if __name__ == "__main__":
    app()
