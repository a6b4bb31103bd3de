"""Train the presence head of a model: photos with lesions of all sizes against skin without a lesion.

The network is not changed: the head learns from its pooled feature maps (`models.presence`). Each photo gives
up to five examples: itself, a changed view, a wide view in which its lesion is small, and two pieces of skin beside its
lesion, one enlarged and one mirrored until it fills the frame. In some views the lesion is faint. Generated skin is
added.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from monai.transforms import Compose
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image as Pillow
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.device import Runner, choose_device
from napari_skinseg.events import CancelToken, Event, OnEvent, ignore_event
from napari_skinseg.models.bundle import ModelSpec, load, save
from napari_skinseg.models.presence import PresenceHead, count_features, encode, pool_features
from napari_skinseg.phantoms.artefacts import ARTEFACTS
from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.pixels.mask import bounding_box
from napari_skinseg.read_ahead import in_batches, read_ahead
from napari_skinseg.segmentation.preprocess import network_input, resize_to_input

from .augment import RandomArtefacts, RandomColour, RandomPlainSkin, RandomView, Read, Sample

Image = NDArray[np.uint8]

MOST_PHOTOS = 1000
"""Number of training photos that give examples."""
GENERATED = 0.2
"""Number of generated photos of skin, as a share of the number of photos."""
SMALLEST_AREA = 0.002
"""A view that shows a smaller lesion, as a share of the frame, is left out: it may be the edge of a lesion."""
STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 800, 256, 2e-3, 0.1


def add_presence_head(
    folder: str | Path,
    cases: Sequence[Case],
    device: str = "auto",
    on_event: OnEvent = ignore_event,
    cancel: CancelToken | None = None,
    seed: int = 0,
) -> ModelSpec:
    """Train a presence head for the model in a bundle, and store both in the bundle; the network stays unchanged.

    The bundle stays unchanged if its network can have no head (`count_features`), or if the photos show only lesions or
    only skin. Afterwards the limit for "no lesion" is unknown: `calibrate` chooses it.

    Args:
        folder: the model's bundle.
        cases: photos with masks of the training split.
        device: one of `device.DEVICES`.
        on_event: receives an event for each photo, stage "presence".
        cancel: is read before each photo.
        seed: seed of the choice of photos, of their changes and of the first weights.
    """
    model = load(folder)
    if count_features(model.network, model.spec.input_size) is None:
        return model.spec
    chosen = np.random.default_rng(seed).permutation(len(cases))[:MOST_PHOTOS]
    runner = Runner(_Features(model.network), choose_device(device))
    features, labels = [], []
    examples = _examples([cases[number] for number in chosen], model.spec.input_size, seed, on_event, cancel)
    for batch in in_batches(examples, 16):
        inputs = np.stack([network_input(image, model.spec) for image, _ in batch])
        features.append(runner(torch.from_numpy(inputs)))
        labels += [lesion for _, lesion in batch]
    runner.close()
    if len(set(labels)) < 2:
        return model.spec
    head = fit_head(torch.cat(features), torch.tensor(labels), seed)
    spec = replace(model.spec, presence=True, no_lesion=0.0)
    save(folder, spec, model.network, presence=head)
    return spec


class _Features(torch.nn.Module):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pool_features(encode(self.network, x))


def _examples(
    cases: Sequence[Case], size: tuple[int, int], seed: int, on_event: OnEvent, cancel: CancelToken | None
) -> Iterator[tuple[Image, bool]]:
    """Yield (photo uint8 `[h, w, 3]` of the size, whether it shows a lesion)."""

    def read(numbered: tuple[int, Case]) -> list[tuple[Image, bool]]:
        number, case = numbered
        examples = _examples_of(Read(size)(case), size, np.random.default_rng((seed, number)))
        return [(sample["image"], lesion) for sample, lesion in examples]

    for done, (_, examples) in enumerate(read_ahead(read, enumerate(cases), cancel=cancel), start=1):
        yield from examples.result()
        on_event(Event("presence", done, len(cases)))
    random = np.random.default_rng((seed, len(cases)))
    for _ in range(round(GENERATED * len(cases))):
        names = tuple(str(name) for name in random.choice(list(ARTEFACTS), random.integers(3), replace=False))
        skin = phantom(int(random.integers(2**31)), size, names, lesion=False)
        yield skin.image, False


def _examples_of(sample: Sample, size: tuple[int, int], random: Generator) -> Iterator[tuple[Sample, bool]]:
    """Yield the examples of one photo; see the module."""
    seed = int(random.integers(2**31))
    view = Compose([RandomView(size), RandomArtefacts(0.4), RandomColour()]).set_random_state(seed)
    if not sample["mask"].any():
        yield _resized(sample, size), False
        return
    yield _resized(sample, size), True
    faint = _faint(sample, random.uniform(0.4, 0.9)) if random.random() < 0.4 else sample
    views = [view(faint)]
    if (wide := show_small(faint, random.uniform(0.006, 0.05))) is not None:
        views.append(_resized(wide, size))
    yield from ((one, True) for one in views if one["mask"].mean() >= SMALLEST_AREA)
    for fill in ("enlarge", "mirror"):
        skin = RandomPlainSkin(1.0, fill).set_random_state(seed)(sample)
        if not skin["mask"].any():
            yield (_resized(skin, size) if random.random() < 0.3 else view(skin)), False


def _resized(sample: Sample, size: tuple[int, int]) -> Sample:
    mask = Pillow.fromarray(sample["mask"]).resize(size[::-1], Pillow.Resampling.NEAREST)
    return {"image": resize_to_input(sample["image"], size), "mask": np.asarray(mask)}


def _faint(sample: Sample, contrast: float) -> Sample:
    """Multiply the contrast of the lesion to the median colour of the skin around it."""
    image, mask = sample["image"], sample["mask"]
    if mask.all():
        return sample
    skin = np.median(image[~mask], axis=0)
    weight = gaussian_filter(mask.astype(np.float32), len(mask) / 40)[..., None] * (1 - contrast)
    return {"image": (image + (skin - image) * weight).clip(0, 255).astype(np.uint8), "mask": mask}


def show_small(sample: Sample, area: float) -> Sample | None:
    """Extend the skin around a lesion, by mirror images without the lesion, until the lesion takes the share `area`.

    Returns:
        A larger photo with its mask, or None if the lesion is too near to the edge of the photo.
    """
    image, mask = sample["image"], sample["mask"]
    while mask.mean() > 1.1 * area:
        box = bounding_box(mask)
        assert box is not None
        growth = (np.sqrt(mask.mean() / area) - 1) / 2
        gaps = [(part.start, side - part.stop) for part, side in zip(box, mask.shape, strict=True)]
        if min(min(gap) for gap in gaps) < 0.03 * len(mask):
            return None
        edges = [
            tuple(int(min(0.9 * gap, max(1, growth * side))) for gap in pair)
            for pair, side in zip(gaps, mask.shape, strict=True)
        ]
        image, mask = np.pad(image, [*edges, (0, 0)], mode="symmetric"), np.pad(mask, edges)
    return {"image": image, "mask": mask}


def fit_head(features: torch.Tensor, lesion: torch.Tensor, seed: int) -> PresenceHead:
    """Fit the head to features `[N, F]` and labels bool `[N]`; both labels have the same weight."""
    mean, std = features.mean(dim=0), features.std(dim=0).clamp_min(1e-3)
    normal, wanted = (features - mean) / std, lesion.float()
    weight = torch.where(lesion, 0.5 / wanted.mean(), 0.5 / (1 - wanted.mean()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = PresenceHead(features.shape[1])
        optimizer = torch.optim.AdamW(head.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        for _ in range(STEPS):
            optimizer.zero_grad()
            batch = torch.randint(len(normal), (BATCH,))
            output = head(functional.dropout(normal[batch], 0.2))
            loss = functional.binary_cross_entropy_with_logits(output, wanted[batch], weight[batch])
            loss.backward()
            optimizer.step()
    first = head[0]
    assert isinstance(first, torch.nn.Linear)
    with torch.no_grad():  # the normalisation becomes part of the first layer
        first.weight.div_(std)
        first.bias.sub_(first.weight @ mean)
    return head.eval().requires_grad_(False)
