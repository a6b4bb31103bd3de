"""Shared fixtures: photos of a dark spot, and a real, small model that finds it."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_skinseg.models import bundle, network
from napari_skinseg.models.bundle import ModelSpec

os.environ["NAPARI_CONFIG"] = ""  # napari neither reads nor writes the settings of the person who runs the tests

MODELS = Path(__file__).parent / "data"
SPOT_FINDER = ModelSpec(
    name="spot-finder",
    network="UNet",
    network_arguments={"channels": [8, 16, 32], "num_res_units": 1},
    input_size=(64, 64),
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    no_lesion=0.0,  # withhold no outline, because the confidence is not calibrated
    licence="BSD-3-Clause",
    training_data="dark discs on light ground",
)


def spot(row: float, column: float, radius: float, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A dark disc on light ground, uint8 `[H, W, 3]`, and its mask."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    mask = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    rgb = np.where(mask[..., None], (110, 60, 50), (225, 180, 165)).astype(np.int16)
    rgb += np.random.default_rng(int(abs(row) * 1000 + column)).integers(-8, 9, rgb.shape, dtype=np.int16)
    return rgb.clip(0, 255).astype(np.uint8), mask


@pytest.fixture(name="spot", scope="session")
def spot_drawer():
    """The function `spot`, for tests that make photos."""
    return spot


@pytest.fixture(scope="session")
def spot_finder(tmp_path_factory) -> Path:
    """The folder of a model that finds dark discs, a copy of `data/spot-finder`."""
    return shutil.copytree(MODELS / SPOT_FINDER.name, tmp_path_factory.mktemp("models") / SPOT_FINDER.name)


@pytest.fixture(scope="session")
def doubting_model(tmp_path_factory, spot_finder) -> Path:
    """The folder of a model that outlines dark discs as the spot finder does, and withholds all outlines."""
    model = bundle.load(spot_finder)
    spec = replace(model.spec, name="doubting", confidence=(-5.0, 1.0), no_lesion=0.45)
    return bundle.save(tmp_path_factory.mktemp("models") / spec.name, spec, model.network)


@pytest.fixture(scope="module")
def short_presence_training() -> Iterator[None]:
    """Few steps for the presence head of a new model, in tests that do not ask how good it is."""
    from napari_skinseg.training import presence

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presence, "STEPS", 20)
        yield


@pytest.fixture
def photos(tmp_path) -> dict[Path, np.ndarray]:
    """Three photos of a dark spot, in two folders and two sizes, with their true masks; two have one name."""
    truths = {}
    for name, row, column, shape in (
        ("north/a.png", 60, 80, (120, 160)),
        ("north/b.png", 50, 60, (120, 160)),
        ("south/a.png", 90, 100, (200, 240)),
    ):
        image, truths[tmp_path / "photos" / name] = spot(row, column, 30, shape)
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "photos" / name)
    return truths


@pytest.fixture
def bare_photo(tmp_path) -> Path:
    """A photo without a spot."""
    ground, _ = spot(-100, 0, 10, (100, 120))
    Image.fromarray(ground).save(tmp_path / "bare.png")
    return tmp_path / "bare.png"


def train_spot_finder() -> None:
    """Train a MONAI U-Net on 48 dark discs, and store it where `spot_finder` finds it: `python tests/conftest.py`."""
    import torch

    from napari_skinseg.models.onnx_export import write_onnx
    from napari_skinseg.segmentation.preprocess import network_input

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    samples = [spot(*rng.uniform(20, 44, 2), rng.uniform(6, 18), (64, 64)) for _ in range(48)]
    samples += [spot(-100, column, 10, (64, 64)) for column in range(16)]  # no spot
    samples = [samples[index] for index in rng.permutation(len(samples))]
    images = torch.from_numpy(np.stack([network_input(image, SPOT_FINDER) for image, _ in samples]))
    masks = torch.from_numpy(np.stack([mask for _, mask in samples])).float()
    unet = network.build(SPOT_FINDER.network, SPOT_FINDER.network_arguments).train()
    optimiser = torch.optim.Adam(unet.parameters(), lr=0.02)
    for step in range(60):
        chosen = slice(step % 4 * 16, step % 4 * 16 + 16)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(unet(images[chosen])[:, 0], masks[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert write_onnx(bundle.save(MODELS / SPOT_FINDER.name, SPOT_FINDER, unet)) is None


if __name__ == "__main__":
    train_spot_finder()
