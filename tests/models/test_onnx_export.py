"""A model gets an ONNX file that gives the same output as torch, or no file."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_skinseg.models import bundle, network, onnx_export, onnx_file, store
from napari_skinseg.models.bundle import ModelSpec
from napari_skinseg.models.onnx_export import write_onnx
from napari_skinseg.models.onnx_file import ONNX, OnnxNetwork

TINY = ModelSpec("tiny", "UNet", {"channels": [2, 4], "num_res_units": 0}, (32, 48), (0.7,) * 3, (0.2,) * 3)


@pytest.fixture
def tuned(tmp_path) -> Path:
    """A model with the network of the bundled one and other weights, as fine-tuning makes it; without ONNX file."""
    model = bundle.load(store.find("lesion-unet").folder)
    for weights in model.network.parameters():
        weights.data *= 1.01
    return bundle.save(tmp_path / "tuned", replace(model.spec, name="tuned"), model.network, presence=model.presence)


def difference(folder: Path) -> float:
    """The greatest difference in probability between torch and the ONNX file, with and without clicks."""
    model = bundle.load(folder)
    inputs = onnx_export.example(model.spec)
    ours = OnnxNetwork(folder / ONNX, *bundle.read_weights(folder / bundle.WEIGHTS))(inputs.numpy())[0]
    with torch.inference_mode():
        return float((torch.from_numpy(ours).sigmoid() - model.network(inputs).sigmoid()).abs().max())


@pytest.mark.parametrize("name", ["lesion-unet", "lesion-unet-cc0"])
def test_the_file_of_a_bundled_model_gives_what_torch_gives(name):
    assert difference(store.find(name).folder) < 1e-3


def test_a_fine_tuned_model_gets_its_file_without_the_exporter(tuned, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # how Python marks what cannot be imported
    assert write_onnx(tuned) is None
    assert difference(tuned) < 1e-5
    assert onnx_file.metadata((tuned / ONNX).read_bytes())["weights_sha256"] == bundle.load(tuned).sha256


def test_a_correct_file_is_kept_and_one_for_other_weights_is_replaced(tuned):
    write_onnx(tuned)
    before = (tuned / ONNX).stat().st_mtime_ns
    assert write_onnx(tuned) is None
    assert (tuned / ONNX).stat().st_mtime_ns == before
    shutil.copyfile(store.find("lesion-unet").folder / ONNX, tuned / ONNX)
    assert write_onnx(tuned) is None
    assert difference(tuned) < 1e-5


def test_a_file_with_the_right_hash_and_another_graph_is_replaced(tuned):
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    write_onnx(tuned)
    model = onnx.load(tuned / ONNX, load_external_data=False)
    clip = next(node for node in model.graph.node if node.op_type == "Relu")
    clip.op_type = "Abs"
    (tuned / ONNX).write_bytes(model.SerializeToString())
    assert difference(tuned) > 1e-3
    assert write_onnx(tuned) is None
    assert difference(tuned) < 1e-5


def test_the_weights_before_fine_tuning_use_the_same_file(tuned, tmp_path):
    model, base = bundle.load(tuned), bundle.load(store.find("lesion-unet").folder)
    spec = replace(model.spec, name="guarded", guarded=True)
    folder = bundle.save(tmp_path / "guarded", spec, model.network, base=base.network, presence=model.presence)
    assert write_onnx(folder) is None
    weights = bundle.read_weights(folder / bundle.BASE_WEIGHTS)
    inputs = onnx_export.example(spec)
    with torch.inference_mode():
        expected = base.network(inputs).sigmoid().numpy()
    found, *_ = OnnxNetwork(folder / ONNX, *weights)(inputs.numpy())
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), expected, atol=1e-5)


def test_without_the_exporter_a_new_network_has_no_file_and_a_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    folder = bundle.save(tmp_path / "tiny", TINY, network.build(TINY.network, TINY.network_arguments))
    onnx_export._export_graph.cache_clear()
    sentence = write_onnx(folder)
    assert sentence is not None
    assert "tiny has no ONNX file and is run by torch" in sentence
    assert "pip install 'napari-skinseg[onnx]'" in sentence
    assert not (folder / ONNX).exists()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("UNet", {"channels": [2, 4], "num_res_units": 1}),
        ("SegResNet", {"init_filters": 8, "blocks_down": [1, 2]}),
    ],
)
def test_every_network_gets_a_file_with_the_exporter(tmp_path, name, arguments):
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    torch.manual_seed(0)
    spec = replace(TINY, network=name, network_arguments=arguments)
    folder = bundle.save(tmp_path / "model", spec, network.build(name, arguments))
    assert write_onnx(folder) is None
    assert difference(folder) < 1e-4
    assert (folder / ONNX).stat().st_size < 50_000


def test_an_added_model_has_a_file_and_its_zip_contains_it(tuned, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SKINSEG_HOME", str(tmp_path / "home"))
    added = store.add(tuned)
    assert difference(added.folder) < 1e-5
    archive = store.export("tuned", tmp_path / "tuned.zip")
    store.remove("tuned")
    assert (store.add(archive).folder / ONNX).is_file()
