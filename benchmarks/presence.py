"""Lesions left empty and plain skin outlined, by the default options, for each data set: prints a Markdown table.

    python benchmarks/presence.py ../shared/data --split val [--model NAME_OR_FOLDER]

Plain skin is a rectangle of a quarter to half of a photo's sides, away from its lesion: as it is, or continued by
mirror images to the size of the photo. Generated skin is a phantom without a lesion, with and without an artefact.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from cyclopts import App
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from napari_skinseg.datasets.dataset import Case, apply_splits, find_cases
from napari_skinseg.phantoms.artefacts import ARTEFACTS
from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.pixels.image import read_image
from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.segmentation.segmenter import Segmenter

Image = NDArray[np.uint8]
SETS = ("ham10000", "isic2018", "isic_whole")
DISTANCE = 8 / 150
"""Smallest distance of the skin from the lesion, as a share of the height of the photo."""

app = App(help="Lesions left empty and plain skin outlined, for each data set.")


@app.default
def main(data: Path, *, split: str = "val", model: str | None = None, skins: int = 40, generated: int = 60) -> None:
    """Print the tables; `data` is the folder of the data sets with `splits.csv`."""
    segmenter = Segmenter(model, "cpu")
    print(f"{segmenter.spec.name} {segmenter.spec.version}, no lesion below {segmenter.spec.no_lesion:g}; {split}\n")
    print("| lesions | photos | left empty | lowest presence | below 0.5, called doubtful |\n|---|--:|--:|--:|--:|")
    pieces: dict[str, list[Image]] = {}
    for name in SETS:
        cases = apply_splits(find_cases(data / name), data / "splits.csv", split)
        found = [segmenter.segment(image) for image, truth in _read(cases) if truth.any()]
        presence = np.array([one.presence for one in found])
        empty = np.mean([one.withheld or not one.mask.any() for one in found])
        cells = f"{len(found)} | {100 * empty:.1f} % | {presence.min():.2f} | {100 * np.mean(presence < 0.5):.1f} %"
        print(f"| {name} | {cells} |", flush=True)
        skin = list(islice(_find_skin(cases), skins))
        pieces[f"beside lesions of {name}, cut out"] = [piece for piece, _ in skin]
        pieces[f"beside lesions of {name}, mirrored"] = [_mirror(piece, shape) for piece, shape in skin]
    # Other phantoms for each split.
    first, kinds = (9_000_000 if split == "val" else 9_005_000), list(ARTEFACTS)
    for name, start, marked in (("generated", first, False), ("generated, with an artefact", first + 500_000, True)):
        pieces[name] = [
            phantom(start + number, (450, 600), (kinds[number % len(kinds)],) * marked, lesion=False).image
            for number in range(generated)
        ]
    print("\n| plain skin | pieces | outlined |\n|---|--:|--:|")
    for name, images in pieces.items():
        outlined = np.mean([segmenter.segment(image).mask.any() for image in images])
        print(f"| {name} | {len(images)} | {100 * outlined:.0f} % |", flush=True)


def _read(cases: Sequence[Case]) -> Iterator[tuple[Image, NDArray[np.bool_]]]:
    for case in cases:
        if case.mask is not None:
            image = read_image(case.image)
            yield image, read_mask(case.mask, image.shape[:2])


def _find_skin(cases: Sequence[Case]) -> Iterator[tuple[Image, tuple[int, int]]]:
    """Yield pieces of skin away from the lesion, and the size of their photo; at most one of each photo."""
    random = np.random.default_rng(0)
    for image, truth in _read(cases):
        height, width = truth.shape
        near = distance_transform_edt(~truth) < DISTANCE * height if truth.any() else truth
        for _ in range(30):
            share = random.uniform(0.25, 0.55)
            rows, columns = int(height * share), int(width * share)
            top, left = random.integers(height - rows), random.integers(width - columns)
            place = np.s_[top : top + rows, left : left + columns]
            if not near[place].any():
                yield image[place].copy(), (height, width)
                break


def _mirror(piece: Image, shape: tuple[int, int]) -> Image:
    missing = [(0, side - length) for side, length in zip(shape, piece.shape[:2], strict=True)]
    return np.pad(piece, [*missing, (0, 0)], mode="symmetric")


if __name__ == "__main__":
    app()
