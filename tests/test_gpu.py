"""The whole engine on a CUDA GPU. `python -m pytest -m gpu` runs these tests; elsewhere they are skipped."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt

from napari_skinseg.datasets.dataset import find_cases
from napari_skinseg.device import choose_device
from napari_skinseg.finetuning.evidence import collect
from napari_skinseg.finetuning.finetune import fine_tune
from napari_skinseg.finetuning.options import FineTuneOptions
from napari_skinseg.models.click_channels import Click
from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.pixels.mask import write_mask
from napari_skinseg.pixels.metrics import jaccard
from napari_skinseg.segmentation.options import SegmentOptions
from napari_skinseg.segmentation.segmenter import Segmenter
from napari_skinseg.training.options import TrainOptions
from napari_skinseg.training.train import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this computer has no CUDA device"),
]

PHOTOS = [phantom(seed, (225, 300), ("hair",)) for seed in range(6)]
OPTIONS = TrainOptions(
    name="tiny", input_height=128, input_width=128, passes=2, batch_size=4, small_first=0.0, workers=2, device="cuda"
)


@pytest.fixture
def cases(tmp_path):
    folder = tmp_path / "cases"
    folder.mkdir()
    for number, made in enumerate([*PHOTOS, *(phantom(seed, (225, 300)) for seed in range(6, 12))]):
        Image.fromarray(made.image).save(folder / f"p{number:02}.png")
        write_mask(folder / f"p{number:02}_segmentation.png", made.mask)
    return find_cases(folder)


def test_masks_of_gpu_and_cpu_are_nearly_equal():
    gpu, cpu = Segmenter(device="cuda"), Segmenter(device="cpu")
    images = [made.image for made in PHOTOS]
    options = SegmentOptions(always_outline=True)
    pairs = zip(gpu.segment_many(images, options=options), cpu.segment_many(images, options=options), strict=True)
    for one, other in pairs:
        assert jaccard(one.mask, other.mask) > 0.97
        assert abs(one.confidence - other.confidence) < 0.05


def test_a_click_on_the_gpu_corrects_the_mask_as_on_the_cpu():
    image, truth = PHOTOS[0].image, PHOTOS[0].mask
    # Next to the lesion, as a person clicks. A click that removes the middle of a lesion gives another mask on the CPU
    # alone when the values of the photo change by 1.
    row, column = np.unravel_index(np.abs(distance_transform_edt(~truth) - 10).argmin(), truth.shape)
    clicks = [Click(int(row), int(column), include=True)]
    masks = []
    for device in ("cuda", "cpu"):
        segmenter = Segmenter(device=device)
        before = segmenter.segment(image, SegmentOptions(always_outline=True))
        masks.append(segmenter.refine(image, clicks, before.mask).mask)
        assert masks[-1][row, column] > before.mask[row, column]
    assert jaccard(*masks) > 0.97


@pytest.mark.parametrize("network", ["UNet", "FlexibleUNet"])
def test_a_training_on_the_gpu_is_stopped_continued_and_used_on_the_cpu(cases, tmp_path, network):
    cancel = threading.Event()
    options = replace(OPTIONS, network=network)
    first = train(
        cases[:8], cases[8:], options, tmp_path, lambda event: cancel.set() if event.done == 3 else None, cancel
    )
    assert first.cancelled
    second = train(cases[:8], cases[8:], options, tmp_path)
    assert (second.passes, second.cancelled) == (2, False)
    found = Segmenter(second.model, "cpu").segment(PHOTOS[0].image)
    assert found.mask.shape == (225, 300)


def test_training_uses_the_precision_of_the_gpu():
    assert choose_device("cuda", fast_cpu=True).precision in ("bfloat16", "float16")


def test_a_style_is_learned_on_the_gpu(cases, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SKINSEG_HOME", str(tmp_path / "home"))
    options = FineTuneOptions(passes=2, device="cuda")
    outcome = fine_tune(None, collect(tmp_path / "cases"), options, tmp_path / "run")
    assert len(outcome.verdict.compared) == len(cases)
    # Each thread that used cuBLAS keeps its workspace, 33 MiB on an H200; fits run in a thread of their own. A fit that
    # is not freed keeps its network, the averaged weights and the state of the optimizer, another 80 MB or more.
    assert torch.cuda.memory_allocated() < 100e6
