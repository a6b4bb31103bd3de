"""An exported model gives the same output as the original, or is not written."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from napari_skinseg import Segmenter
from napari_skinseg.cli import main as cli
from napari_skinseg.errors import BadInput
from napari_skinseg.models import bundle, network, onnx_export
from napari_skinseg.models import export as convert
from napari_skinseg.models.bundle import ModelSpec
from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.pixels.metrics import dice

TINY = ModelSpec(
    "tiny", "UNet", {"channels": [2, 4], "num_res_units": 0}, (32, 48), (0.7, 0.5, 0.5), (0.1, 0.2, 0.3), threshold=0.4
)
SMALL = {
    "UNet": {"channels": [4, 8, 16], "num_res_units": 1},
    "AttentionUnet": {"channels": [4, 8, 16]},
    "SegResNet": {"init_filters": 8, "blocks_down": [1, 2]},
    "FlexibleUNet": {"decoder_channels": [8, 8, 8, 8, 8]},
}
KINDS = {"torchscript": convert.to_torchscript, "onnx": convert.to_onnx}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A separate store for each test."""
    monkeypatch.setenv("NAPARI_SKINSEG_HOME", str(tmp_path / "home"))


@pytest.fixture
def tiny(tmp_path) -> Path:
    """The folder of a small model."""
    torch.manual_seed(0)
    return bundle.save(tmp_path / "models" / "tiny", TINY, network.build(TINY.network, TINY.network_arguments))


def saved(folder: Path, name: str) -> Path:
    """A model with a small network of this name, in `folder`."""
    torch.manual_seed(0)
    spec = replace(TINY, network=name, network_arguments=SMALL[name], input_size=(64, 96))
    return bundle.save(folder, spec, network.build(name, SMALL[name]))


def logits_of(file: Path, inputs: torch.Tensor) -> torch.Tensor:
    """The output of the network in a file, run as other programs run it."""
    if file.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(None, {"image": inputs.numpy()})[0])
    with pytest.deprecated_call():
        loaded = torch.jit.load(str(file))
    return loaded(inputs).detach()


def values_in(file: Path) -> dict:
    """The values that a program needs to use the exported network, as the file contains them."""
    if file.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        return json.loads(session.get_modelmeta().custom_metadata_map["napari_skinseg"])
    extra = {"napari_skinseg.json": ""}
    with pytest.deprecated_call():
        torch.jit.load(str(file), _extra_files=extra)
    return json.loads(extra["napari_skinseg.json"])


def run_by_monai(folder: Path, photos: Path, masks: Path) -> None:
    """The command that the card of the bundle names."""
    card = (folder / "docs" / "README.md").read_text()
    words = card[card.index("-m monai.bundle run") :].split()
    words[words.index("PHOTOS")], words[words.index("MASKS")] = str(photos), str(masks)
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "kind"),
    # test_onnx_export makes ONNX files, too
    [
        pytest.param(name, kind, marks=[pytest.mark.slow] * (kind == "onnx" and name != "SegResNet"))
        for name in network.NETWORKS
        for kind in KINDS
    ],
)
def test_every_exported_network_gives_the_same_output(tmp_path, kind, name):
    if kind == "onnx":
        pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
        pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    folder = saved(tmp_path / "model", name)
    file = KINDS[kind](folder, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["model", file.name])
    ours = bundle.load(folder).network
    for photos in (1, 3):
        inputs = torch.randn(photos, network.IN_CHANNELS, 64, 96)
        with torch.no_grad():
            torch.testing.assert_close(logits_of(file, inputs), ours(inputs), atol=1e-4, rtol=1e-4)


def test_an_export_with_another_output_raises(tiny):
    model = bundle.load(tiny)
    example = onnx_export.example(model.spec)
    answer = model.network(example).detach()
    onnx_export.check_outputs(model, example, [answer], tiny / "a.onnx")
    for wrong in (answer + 0.1, answer * torch.nan):
        with pytest.raises(BadInput, match="was not written"):
            onnx_export.check_outputs(model, example, [wrong], tiny / "a.onnx")


def test_a_missing_extra_raises_and_says_what_to_install(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # how Python marks what cannot be imported
    assert cli.main(["models", "export", str(tiny), str(tmp_path), "--format", "onnx"]) == 2
    assert "pip install 'napari-skinseg[onnx]'" in capsys.readouterr().err
    assert not (tmp_path / "tiny.onnx").exists()


@pytest.mark.slow
def test_monai_runs_the_bundle_with_masks_like_those_of_segment(tmp_path):
    """One photo upright and with an opacity channel, one gray."""
    upright = phantom(2, (600, 450)).image
    gray = np.repeat(phantom(0, (300, 400)).image[..., 1:2], 3, axis=2)
    (tmp_path / "photos").mkdir()
    Image.fromarray(upright).convert("RGBA").save(tmp_path / "photos" / "a.PNG")
    Image.fromarray(gray[..., 0]).save(tmp_path / "photos" / "b.png")
    folder = convert.to_monai_bundle("lesion-unet", tmp_path)
    run_by_monai(folder, tmp_path / "photos", tmp_path / "masks")
    segmenter = Segmenter("lesion-unet", "cpu")
    for name, image in (("a", upright), ("b", gray)):
        mask = read_mask(tmp_path / "masks" / f"{name}_segmentation.png", image.shape)
        assert mask.any()
        assert dice(mask, segmenter.segment(image).mask) > 0.98
    assert (folder / "LICENSE").read_text().strip().endswith("CC-BY-NC-4.0")


@pytest.mark.parametrize("name", network.NETWORKS)
def test_every_bundle_follows_the_specification_and_builds_its_network(tmp_path, name, monkeypatch):
    from monai.bundle import ConfigWorkflow

    folder = convert.to_monai_bundle(saved(tmp_path / "model", name), tmp_path / "out")
    monkeypatch.syspath_prepend(folder)  # as Python does where the card says to start it
    configs = folder / "configs"
    files = str(configs / "inference.json"), str(configs / "metadata.json")
    workflow = ConfigWorkflow(*files, logging_file=False, workflow_type="inference")
    workflow.parser["dataset_dir"] = str(tmp_path)
    workflow.initialize()
    assert workflow.check_properties() == []
    original = json.loads((tmp_path / "model" / "configs" / "metadata.json").read_text())
    metadata = json.loads((configs / "metadata.json").read_text())
    assert original.keys() - metadata.keys() == {"napari_skinseg"}
    assert metadata["network_data_format"] == original["network_data_format"]
    built = workflow.network_def.eval()
    built.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    inputs = torch.randn(1, network.IN_CHANNELS, 64, 96)
    # It runs without this package.
    assert not any("napari_skinseg" in path.read_text() for path in folder.rglob("*.py"))
    with torch.no_grad():
        torch.testing.assert_close(built(inputs), bundle.load(tmp_path / "model").network(inputs))


@pytest.mark.parametrize("prefix", ["$", "@$", " $", "%", "@@#:$"])
def test_monai_does_not_evaluate_texts_of_the_model(tmp_path, tiny, prefix):
    from monai.bundle import ConfigParser

    mark = tmp_path / "evil"
    evil = f"{prefix}__import__('os').mkdir({str(mark)!r})"
    spec = replace(TINY, description=evil, licence=evil, training_data=evil, version=evil, provenance={"run": evil})
    bundle.write_spec(tiny, spec)
    folder = convert.to_monai_bundle(tiny, tmp_path / "out")
    parser = ConfigParser()
    parser.read_config(folder / "configs" / "inference.json")
    parser.read_meta(folder / "configs" / "metadata.json")
    parser.get_parsed_content("_meta_")
    assert not mark.exists()
    assert "__import__" in parser["_meta_::description"]


def test_a_bundle_never_replaces_a_folder(tiny, tmp_path):
    with pytest.raises(BadInput, match="exists already; choose a new folder"):
        convert.to_monai_bundle(tiny, tiny.parent)
    assert bundle.load(tiny).spec.name == "tiny"
    assert [path.name for path in tiny.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize("kind", ["zip", "bundle", "torchscript", "onnx"])
def test_the_command_line_writes_each_format_into_the_current_folder(kind, tiny, tmp_path, monkeypatch, capsys):
    if kind == "onnx":
        pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["models", "export", str(tiny), "--format", kind]) == 0
    name = {"zip": "tiny.zip", "bundle": "tiny", "torchscript": "tiny.pt", "onnx": "tiny.onnx"}[kind]
    assert capsys.readouterr().out.strip() == name
    assert Path(name).exists()
    if kind in KINDS:
        values = values_in(Path(name))
        assert (values["mean"], values["threshold"], values["input_size"]) == ([0.7, 0.5, 0.5], 0.4, [32, 48])
        assert values["weights_sha256"] == bundle.load(tiny).sha256


@pytest.mark.parametrize("kind", ["zip", "bundle", "torchscript", "onnx", "pickle"])
@pytest.mark.parametrize(("model", "target"), [("nobody", "out"), ("MODEL", "file.txt/out")])
def test_a_wrong_name_path_or_format_gives_exit_code_2(kind, model, target, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file.txt").write_text("here before")
    before = sorted(tmp_path.rglob("*"))
    model = str(tiny) if model == "MODEL" else model
    assert cli.main(["models", "export", model, target, "--format", kind]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert "Traceback" not in written.err
    assert kind == "pickle" or written.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
