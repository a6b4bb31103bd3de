"""Effect of artefacts on a model, and false lesions on plain skin: prints two Markdown tables.

    python benchmarks/robustness.py [--models lesion-unet …] [--phantoms 200] [--photos 200]

The first table is about generated photos: Dice without artefacts, and the change with each artefact. The second table
has the share of photos in which the model outlines a lesion: real photos of the test split, which all have a lesion;
generated skin without a lesion; and real skin, cut from beside the lesions and mirrored until it fills the frame. Both
kinds of skin are tested without and with artefacts. In brackets: the share if outlines that the model withholds count.
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
from napari_skinseg.training.calibrate import read_cases
from segment import load_warning, machine

SHAPE = (450, 600)
NAMES = {
    "dark_field": "black rim",
    "sticker": "sticker",
    "ruler": "ruler",
    "ink": "ink",
    "hair": "hair",
    "glare": "glare",
}

app = App(help="Artefacts, and photos without a lesion.")


@app.default
def main(
    *,
    models: Annotated[list[str], Parameter(consume_multiple=True)] = ["lesion-unet"],  # noqa: B006
    data: Path = DATA,
    phantoms: int = 200,
    photos_: int = 200,
) -> None:
    """Print both tables; a model is a name or a folder."""
    print(f"{machine()}{load_warning()}; {phantoms} generated photos of 600x450\n")
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
        shown = (lesions, made, _with_artefacts(made), skin, _with_artefacts(skin))
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
    results = [segmenter.segment(image) for image in images]
    outlined = np.array([bool(result.mask.any()) for result in results])
    withheld = np.array([result.withheld for result in results])
    return f"{100 * outlined.mean():.1f} % ({100 * (outlined | withheld).mean():.1f} %)"


def _lesions_and_skin(data: Path, count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    cut = RandomPlainSkin(1.0)
    cut.set_random_state(0)
    lesions, skin = [], []
    for _, image, truth in read_cases(photos(data, JUDGE, "test", count)):
        lesions.append(image)
        piece = cut({"image": image, "mask": truth})
        if not piece["mask"].any():
            skin.append(piece["image"])
    return lesions, skin


def _with_artefacts(images: list[np.ndarray]) -> list[np.ndarray]:
    """Add one artefact to each image; all kinds in turn."""
    nothing = [np.zeros(image.shape[:2], dtype=bool) for image in images]
    return [
        add_artefact(ARTEFACTS[number % len(ARTEFACTS)], image, mask, np.random.default_rng(number))[0]
        for number, (image, mask) in enumerate(zip(images, nothing, strict=True))
    ]


if __name__ == "__main__":
    app()
