"""ONNX Runtime runs models on the CPU without torch, with the same results; torch runs what it cannot."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_skinseg import Segmenter
from napari_skinseg.cli.main import main
from napari_skinseg.errors import BadInput
from napari_skinseg.models import bundle, store
from napari_skinseg.models.click_channels import Click
from napari_skinseg.models.onnx_file import ONNX
from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.segmentation.options import SegmentOptions

NO_TORCH = "import sys; assert not {'torch', 'monai'} & set(sys.modules), 'torch was imported'"


@pytest.fixture
def photos() -> list[np.ndarray]:
    return [phantom(seed, (225, 300)).image for seed in range(3)]


@pytest.fixture
def copied(tmp_path) -> Path:
    """A copy of the folder of the bundled model."""
    return Path(shutil.copytree(store.find("lesion-unet").folder, tmp_path / "lesion-unet"))


@pytest.mark.parametrize("name", ["lesion-unet", "lesion-unet-cc0"])
def test_onnx_runtime_gives_what_torch_gives_on_photos_and_clicks(name, photos):
    ours, torch = Segmenter(name, "cpu"), Segmenter(bundle.load(store.find(name).folder), "cpu")
    assert (ours.engine["engine"], torch.engine["engine"]) == ("onnxruntime", "torch")
    assert ours.engine["precision"] == torch.engine["precision"] == "float32"
    assert ours.sha256 == torch.sha256
    for photo in photos:
        found, expected = ours.segment(photo), torch.segment(photo)
        np.testing.assert_allclose(found.probability, expected.probability, atol=1e-3)
        assert abs(found.confidence - expected.confidence) < 1e-3
        clicks = [Click(100, 150), Click(20, 30, include=False)]
        found, expected = (each.refine(photo, clicks, expected.mask) for each in (ours, torch))
        np.testing.assert_allclose(found.probability, expected.probability, atol=1e-3)


def test_a_photo_gives_the_same_bytes_alone_and_in_every_batch_and_order(photos):
    segmenter = Segmenter("lesion-unet", "cpu")
    alone = [segmenter.segment(photo).probability.tobytes() for photo in photos]
    for size, order in ((3, [0, 1, 2]), (2, [2, 0, 1]), (8, [1, 1, 2, 0])):
        many = segmenter.segment_many([photos[number] for number in order], batch_size=size)
        assert [found.probability.tobytes() for found in many] == [alone[number] for number in order]


def test_two_processes_give_the_same_bytes(photos, tmp_path):
    np.save(tmp_path / "photo.npy", photos[0])
    code = (
        "import sys, hashlib, numpy; from napari_skinseg import Segmenter; photo = numpy.load(sys.argv[1]);"
        "print(hashlib.sha256(Segmenter('lesion-unet').segment(photo).probability.tobytes()).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "photo.npy")]
    together = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    assert len({process.communicate()[0] for process in together}) == 1


def test_segmenting_and_refining_on_the_cpu_import_neither_torch_nor_monai():
    code = (
        "import numpy; from napari_skinseg import Segmenter; segmenter = Segmenter('lesion-unet');"
        "photo = numpy.full((60, 80, 3), 200, numpy.uint8); photo[20:40, 30:50] = 60;"
        "segmenter.segment(photo);"
        "from napari_skinseg.models.click_channels import Click;"
        "segmenter.refine(photo, [Click(30, 40)]); segmenter.close();"
    )
    subprocess.run([sys.executable, "-c", code + NO_TORCH], check=True)


def test_the_command_segment_imports_neither_torch_nor_monai(tmp_path, photos):
    Image.fromarray(photos[0]).save(tmp_path / "a.png")
    code = "import sys; from napari_skinseg.cli.main import main; assert main(sys.argv[1:]) == 0;"
    command = ["segment", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--json", "--model", "lesion-unet"]
    done = subprocess.run([sys.executable, "-c", code + NO_TORCH, *command], check=True, capture_output=True, text=True)
    assert (tmp_path / "out" / "a_segmentation.png").is_file()
    document = json.loads(done.stdout)
    assert "ONNX Runtime, float32" in document["device"]
    assert document["computed_by"]["engine"] == "onnxruntime"


def test_the_command_segment_uses_bfloat16_if_it_is_asked_for(tmp_path, photos, capsys):
    Image.fromarray(photos[0]).save(tmp_path / "a.png")
    command = ["segment", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--json", "--precision", "bfloat16"]
    assert main([*command, "--model", "lesion-unet", "--device", "cpu"]) == 0
    computed_by = json.loads(capsys.readouterr().out)["computed_by"]
    assert (computed_by["engine"], computed_by["precision"]) == ("torch", "bfloat16")


def test_a_model_without_onnx_file_is_run_by_torch_and_the_device_line_says_so(copied, photos):
    expected = Segmenter(copied, "cpu").segment(photos[0]).probability
    (copied / ONNX).unlink()
    messages: list[str] = []
    segmenter = Segmenter(copied, "cpu", messages.append)
    assert "torch, float32" in segmenter.device_line
    assert "no ONNX file" in segmenter.device_line
    assert not messages
    np.testing.assert_allclose(segmenter.segment(photos[0]).probability, expected, atol=1e-3)


def test_a_stale_onnx_file_is_not_used_and_a_sentence_says_so(copied, photos):
    """The weights were replaced; the graph would run with them, but nobody has compared it."""
    model = bundle.load(copied)
    for weights in model.network.parameters():
        weights.data *= 0.9
    bundle.save(copied, model.spec, model.network, presence=model.presence)
    messages: list[str] = []
    segmenter = Segmenter(copied, "cpu", messages.append)
    assert segmenter.engine["engine"] == "torch"
    assert len(messages) == 1
    assert "was made for other weights" in messages[0]
    assert segmenter.sha256 == bundle.load(copied).sha256
    expected = Segmenter(bundle.load(copied), "cpu").segment(photos[0]).probability
    assert segmenter.segment(photos[0]).probability.tobytes() == expected.tobytes()


def test_a_damaged_onnx_file_is_not_used(copied):
    (copied / ONNX).write_bytes(b"not ONNX")
    messages: list[str] = []
    assert Segmenter(copied, "cpu", messages.append).engine["engine"] == "torch"
    assert "is not a complete ONNX file" in messages[0]


def test_damaged_weights_are_refused_with_and_without_onnx_file(copied):
    weights = copied / bundle.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(BadInput, match="not a complete safetensors file"):
        Segmenter(copied, "cpu")


def test_bfloat16_is_used_only_if_it_is_asked_for(photos):
    assert Segmenter("lesion-unet", "cpu").engine["precision"] == "float32"
    asked = Segmenter("lesion-unet", "cpu", precision="bfloat16")
    assert (asked.engine["engine"], asked.engine["precision"]) == ("torch", "bfloat16")
    assert "bfloat16" in asked.device_line
    with pytest.raises(BadInput, match="precision 'int4' is not known; choose one of auto, float32, bfloat16"):
        Segmenter("lesion-unet", precision="int4")


def test_a_guarded_model_runs_without_torch(tmp_path, photos):
    """Its base finds a lesion where the model is less confident."""
    from napari_skinseg.models.onnx_export import write_onnx

    base = bundle.load(store.find("lesion-unet").folder)
    blind = bundle.load(store.find("lesion-unet").folder)
    list(blind.network.parameters())[-1].data.fill_(-20)
    spec = replace(base.spec, name="guarded", guarded=True)
    folder = bundle.save(tmp_path / "guarded", spec, blind.network, base=base.network, presence=base.presence)
    assert write_onnx(folder) is None
    segmenter = Segmenter(folder, "cpu")
    found = segmenter.segment(photos[0], SegmentOptions())
    assert segmenter.engine["engine"] == "onnxruntime"
    assert found.guarded
    np.testing.assert_allclose(found.probability, Segmenter("lesion-unet", "cpu").segment(photos[0]).probability)


def test_the_command_segment_does_not_import_what_only_measuring_and_plots_need():
    code = "import sys, napari_skinseg.cli.segment; print(*sorted(sys.modules))"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert not {"scipy.spatial", "skimage.measure", "matplotlib", "pandas", "torch", "monai", "onnxruntime"} & loaded
