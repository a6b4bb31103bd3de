"""What fools a model, and whether it sees a lesion where there is none: prints two Markdown tables.

    python benchmarks/robustness.py [--models lesion-unet …] [--phantoms 200] [--photos 200]

The first table is of generated photos: the same ones without and with each artefact that fools networks. The second
counts on how many pictures a lesion is outlined: on real photos of the split test, which all have one, and on pictures
without: generated skin, bare and with artefacts, and skin beside the lesion of the same photos, mirrored until it fills
the frame, bare and with artefacts. In brackets: with the outlines that the model doubts too much to draw them.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import App, Parameter

from common import DATA, JUDGE, photos, print_table
from napari_skinseg import Segmenter
from napari_skinseg.phantoms.artefacts import ARTEFACTS, add_artefact
from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.pixels.metrics import dice, summarise
from napari_skinseg.training.augment import RandomPlainSkin
from napari_skinseg.training.calibrate import read_ahead
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
    lesions, skin = _lesions_and_skin(data, photos_)
    for name, segmenter in segmenters.items():
        plain = _dices(segmenter, phantoms, ())
        row = [Path(name).name, f"{plain.mean():.4f}"]
        for artefact in NAMES:
            change = summarise(_dices(segmenter, phantoms, (artefact,)) - plain)
            row.append(f"{change.mean:+.4f} [{change.low:+.4f}, {change.high:+.4f}]")
        rows.append(row)
        made = [phantom(seed, SHAPE, lesion=False).image for seed in range(phantoms)]
        shown = (lesions, made, _spoilt(made), skin, _spoilt(skin))
        bare.append([Path(name).name, *(_outlined(segmenter, items) for items in shown)])
    print_table(["model", "Dice, no artefact", *NAMES.values()], rows)
    print()
    generated, real = f"generated skin ({phantoms})", f"real skin ({len(skin)})"
    head = [f"lesions ({len(lesions)})", generated, "with artefacts", real, "with artefacts"]
    print_table(["model: share outlined", *head], bare)


def _dices(segmenter: Segmenter, count: int, artefacts: tuple[str, ...]) -> np.ndarray:
    made = (phantom(seed, SHAPE, artefacts) for seed in range(count))
    return np.array([dice(segmenter.segment(item.image).mask, item.mask) for item in made])


def _outlined(segmenter: Segmenter, images: list[np.ndarray]) -> str:
    found = [segmenter.segment(image) for image in images]
    drawn, seen = ([answer.mask.any() or also * answer.withheld for answer in found] for also in (False, True))
    return f"{100 * np.mean(drawn):.1f} % ({100 * np.mean(seen):.1f} %)"


def _lesions_and_skin(data: Path, count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    cut = RandomPlainSkin(1.0)
    cut.set_random_state(0)
    lesions, skin = [], []
    for _, image, truth in read_ahead(photos(data, JUDGE, "test", count)):
        lesions.append(image)
        piece = cut({"image": image, "mask": truth})
        if not piece["mask"].any():
            skin.append(piece["image"])
    return lesions, skin


def _spoilt(images: list[np.ndarray]) -> list[np.ndarray]:
    """Each with one artefact, in turn."""
    nothing = [np.zeros(image.shape[:2], dtype=bool) for image in images]
    return [
        add_artefact(ARTEFACTS[number % len(ARTEFACTS)], image, mask, np.random.default_rng(number))[0]
        for number, (image, mask) in enumerate(zip(images, nothing, strict=True))
    ]


if __name__ == "__main__":
    app()
