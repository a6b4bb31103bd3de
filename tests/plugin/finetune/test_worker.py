"""The work of the Fine-tune tab, in a process of its own."""

import subprocess
import sys

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation

from napari_skinseg.models import bundle, store
from napari_skinseg.models.onnx_file import ONNX
from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.pixels.mask import write_mask
from napari_skinseg.segmentation.segmenter import Segmenter

MATCH_BORDER = """
import sys, threading
from pathlib import Path
from napari_skinseg.finetuning.options import FineTuneOptions
from napari_skinseg.plugin.finetune.worker import Pause, run
from napari_skinseg.plugin.session import Segmenters
options = FineTuneOptions(border_only=True, device="cpu")
outcome = run(
    Path(sys.argv[1]),
    "lesion-unet",
    options,
    None,
    Segmenters(print),
    lambda event: None,
    threading.Event(),
    Pause(),
    lambda: False,
)
print(*{"torch", "monai"} & set(sys.modules), outcome.candidate)
"""


def test_matching_the_border_needs_neither_torch_nor_monai(tmp_path, models_here):
    for number in range(3):
        photo = phantom(number, (225, 300))
        Image.fromarray(photo.image).save(tmp_path / f"{number}.png")
        write_mask(tmp_path / f"{number}_segmentation.png", binary_dilation(photo.mask, iterations=8))
    output = subprocess.check_output([sys.executable, "-c", MATCH_BORDER, str(tmp_path)], text=True)
    matched = output.splitlines()[-1]
    base = store.find("lesion-unet").folder
    assert matched.endswith("lesion-unet-border")
    assert " " not in matched, "torch or monai was imported"
    spec = bundle.read_spec(matched)
    assert spec.border is not None
    assert (base / ONNX).read_bytes() == (store.find(matched).folder / ONNX).read_bytes()
    ours = Segmenter(matched, "cpu")
    assert ours.engine["engine"] == "onnxruntime"
    assert ours.sha256 == Segmenter(base, "cpu").sha256
    image = phantom(5, (225, 300)).image
    torch = Segmenter(bundle.load(matched), "cpu")
    np.testing.assert_allclose(ours.segment(image).probability, torch.segment(image).probability, atol=1e-3)
