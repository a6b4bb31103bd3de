"""Accuracy of the model, compared with two common recipes on the same photos: prints one Markdown table.

    python benchmarks/peers.py [--passes 8] [--photos 0] [--height 256] [--width 256] [--split val]

This script trains both peers on the same split for the same number of passes, and uses the weights after the last pass:

* plain U-Net, as in public notebooks: 31 M parameters, binary cross-entropy, Adam at 1e-4, no augmentation. The
  notebooks use 512x512; the default here is 256x256, which needs a quarter of the compute.
* MONAI's `UNet` as in its tutorials: Dice plus cross-entropy, Adam at 1e-3, random flips.

The probability of the peers is enlarged to the size of the photo before the threshold. This is better than to enlarge
the mask, as the notebooks do. A run that was stopped continues after its last pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from cyclopts import App, Parameter
from monai.data import DataLoader, Dataset
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.utils import set_determinism
from PIL import Image

from common import DATA, JUDGE, TRAIN, Predict, figures, jaccards, latency, parameters, photos, print_table
from napari_skinseg import Segmenter
from napari_skinseg.cli.terminal import progress
from napari_skinseg.datasets.dataset import Case
from napari_skinseg.device import Runner, autocast, choose_device, move_to_device
from napari_skinseg.events import Event
from napari_skinseg.files import atomic, make_output_folder
from napari_skinseg.pixels.image import read_image
from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.segmentation.preprocess import enlarge, resize_to_input
from segment import load_warning, machine, plain_unet

app = App(help="Accuracy, compared with the plain U-Net of notebooks and with a plain MONAI UNet.")


@dataclass(frozen=True)
class Recipe:
    """How a peer is built and trained."""

    build: Callable[[], torch.nn.Module]
    loss: Callable[[], torch.nn.Module]
    learning_rate: float
    flips: bool


PEERS = {
    "notebook's U-Net": Recipe(plain_unet, torch.nn.BCEWithLogitsLoss, 1e-4, flips=False),
    "plain MONAI UNet": Recipe(
        lambda: UNet(2, 3, 1, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2),
        lambda: DiceCELoss(sigmoid=True),
        1e-3,
        flips=True,
    ),
}


@Parameter(name="*")
@dataclass(frozen=True)
class Budget:
    """Settings of training, the same for both peers.

    Attributes:
        photos_: Number of training photos, of the split train; 0 takes all.
        passes: How often each photo is seen.
        height: Height of the network's input.
        width: Width of the network's input.
        batch_size: Photos per training step.
        seed: Seed for weights, order and flips.
    """

    photos_: int = 0
    passes: int = 8
    height: int = 256
    width: int = 256
    batch_size: int = 16
    seed: int = 0


@app.default
def main(
    *,
    data: Path = DATA,
    out: Path = Path("runs/peers"),
    split: str = "val",
    judges: int = 0,
    model: str | None = None,
    budget: Budget = Budget(),
) -> None:
    """Train the peers if they are missing, evaluate them and our model, and print the table.

    Args:
        data: Folder with the datasets and splits.csv.
        out: Folder of the runs.
        split: Split for the evaluation: val, or test for published results.
        judges: Number of photos for the evaluation; 0 takes all.
        model: Our model, by name or folder; the default one when not given.
    """
    busy = load_warning()
    size = (budget.height, budget.width)
    cases = photos(data, TRAIN, "train", budget.photos_, budget.seed)
    seen = {name: photos(data, [name], split, judges) for name in JUDGE}
    ours = Segmenter(model)
    rows = _rows(ours.spec.name, ours.model.network, ours.spec.input_size, lambda rgb: ours.segment(rgb).mask, seen)
    for name, recipe in PEERS.items():
        network = _trained(name, recipe, cases, budget, out)
        rows += _rows(name, network, size, _predictor(network, size), seen)
    print(
        f"{machine()}{busy}\nPeers: {len(cases)} photos, {budget.passes} passes at {budget.width}x{budget.height}. "
        f"Evaluated on {split}, each photo at its own resolution; intervals: 95 %, over photos.\n"
    )
    head = [
        "model",
        "parameters",
        "one photo, 2 CPU threads",
        "photos",
        "Dice",
        "Jaccard",
        "thresholded Jaccard",
        "failures",
    ]
    print_table(head, rows)


def _rows(
    name: str, network: torch.nn.Module, size: tuple[int, int], predict: Predict, seen: dict[str, list[Case]]
) -> list[list[str]]:
    cost = [f"{parameters(network) / 1e6:.1f} M", f"{latency(network, size):.0f} ms"]
    return [
        [name, *cost, f"{len(cases)} {source}", *figures(jaccards(predict, cases))] for source, cases in seen.items()
    ]


def _trained(name: str, recipe: Recipe, cases: list[Case], budget: Budget, out: Path) -> torch.nn.Module:
    """Train a peer, or continue from its checkpoint; return it after the last pass."""
    size = (budget.height, budget.width)
    folder = make_output_folder(out / f"{name.replace(' ', '-').replace(chr(39), '')}-{budget.width}x{budget.height}")
    checkpoint = folder / "checkpoint.pt"
    identity = {**asdict(budget), "cases": len(cases)}
    choice = choose_device()
    set_determinism(budget.seed, use_deterministic_algorithms=None)
    network = move_to_device(recipe.build(), choice)
    optimiser, loss = torch.optim.Adam(network.parameters(), recipe.learning_rate), recipe.loss()
    finished = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=choice.device, weights_only=True)
        if state["identity"] != identity:
            raise SystemExit(f"{folder} was trained with another budget; choose another --out.")
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        finished = state["finished"]
    with progress(quiet=False, keep_messages=True) as on_event:
        for number in range(finished, budget.passes):
            losses = []
            for batch in _batches(cases, size, recipe.flips, budget, number):
                optimiser.zero_grad()
                with autocast(choice):
                    logits = network(batch["image"].to(choice.device))
                value = loss(logits.float(), batch["mask"].to(choice.device))
                value.backward()
                optimiser.step()
                losses.append(value.item())
                on_event(Event("train", len(losses), len(cases) // budget.batch_size))
            message = f"{name}, pass {number + 1} of {budget.passes}: loss {np.mean(losses):.4f}"
            on_event(Event("pass", number + 1, budget.passes, message))
            state = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
            with atomic(checkpoint) as temporary:
                torch.save({**state, "identity": identity, "finished": number + 1}, temporary)
    return network.eval()


def _batches(cases: Sequence[Case], size: tuple[int, int], flips: bool, budget: Budget, number: int) -> DataLoader:
    """Batches of one pass in random order. The seed depends on the pass, so that a resumed run has the same batches."""
    random = np.random.default_rng((budget.seed, number))

    def sample(case: Case) -> dict[str, torch.Tensor]:
        rgb = read_image(case.image)
        assert case.mask is not None
        truth = Image.fromarray(read_mask(case.mask, rgb.shape)).resize(size[::-1], Image.Resampling.NEAREST)
        image, mask = _input(rgb, size), torch.from_numpy(np.array(truth, np.float32))[None]
        axes = [axis for axis in (1, 2) if flips and random.random() < 0.5]
        return {"image": image.flip(axes), "mask": mask.flip(axes)}

    order = torch.Generator().manual_seed(budget.seed * 100_003 + number)
    size_of_batch = min(budget.batch_size, len(cases))
    return DataLoader(Dataset(cases, sample), batch_size=size_of_batch, shuffle=True, drop_last=True, generator=order)


def _input(rgb: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """float32 [3, h, w] in [0, 1]."""
    return torch.from_numpy(resize_to_input(rgb, size).transpose(2, 0, 1).astype(np.float32) / 255)


def _predictor(network: torch.nn.Module, size: tuple[int, int]) -> Predict:
    runner = Runner(network, choose_device())
    return lambda rgb: enlarge(runner(_input(rgb, size)[None]).sigmoid()[0, 0].numpy(), rgb.shape[:2]) >= 0.5


if __name__ == "__main__":
    app()
