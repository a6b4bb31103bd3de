"""The ONNX file of a model is data: only for its own weights, without other files and operators."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_skinseg.errors import BadInput
from napari_skinseg.models import bundle, onnx_file, store
from napari_skinseg.models.onnx_file import ONNX, OnnxNetwork


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the bundled model."""
    return Path(shutil.copytree(store.find("lesion-unet").folder, tmp_path / "model"))


def opened(folder: Path) -> OnnxNetwork:
    return OnnxNetwork(folder / ONNX, *bundle.read_weights(folder / bundle.WEIGHTS))


def proto(folder: Path):
    """The file as the package onnx reads it, with its weights left where they are."""
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    return onnx.load(folder / ONNX, load_external_data=False)


def write(folder: Path, model) -> None:
    (folder / ONNX).write_bytes(model.SerializeToString())


@pytest.mark.parametrize("name", ["lesion-unet", "lesion-unet-cc0"])
def test_a_bundled_model_has_a_small_onnx_file_made_for_its_weights(name):
    folder = store.find(name).folder
    assert (folder / ONNX).stat().st_size < 200_000
    assert onnx_file.metadata(onnx_file.read(folder / ONNX))["weights_sha256"] == bundle.load(folder).sha256


def test_the_file_is_what_the_package_onnx_accepts(folder):
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    onnx.checker.check_model(str(folder / ONNX))  # with the weights beside it


def test_the_output_for_a_photo_has_the_same_bytes_in_every_batch(folder):
    network = opened(folder)
    photos = np.random.default_rng(0).normal(size=(5, 6, 192, 256)).astype(np.float32)
    alone = [network(photo[None])[0] for photo in photos]
    for order in ([0, 1, 2, 3, 4], [4, 2, 0], [3, 3, 1]):
        assert network(photos[order])[0].tobytes() == np.concatenate([alone[number] for number in order]).tobytes()


def test_a_file_for_other_weights_is_not_used(folder):
    weights = folder / bundle.WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BadInput, match=r"model.onnx was made for other weights"):
        opened(folder)


@pytest.mark.parametrize("keep", [0, 1, 100, 5_000, 100_000])
def test_a_truncated_file_is_refused(folder, keep):
    path = folder / ONNX
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadInput, match=r"model\.onnx"):
        opened(folder)


def test_random_bytes_are_refused_in_a_sentence(folder):
    for seed in range(50):
        (folder / ONNX).write_bytes(np.random.default_rng(seed).bytes(300))
        with pytest.raises(BadInput, match=r"model\.onnx"):
            opened(folder)


@pytest.mark.parametrize("place", ["/etc/passwd", "../../secret", "other.bin", "models/../../x"])
def test_weights_in_another_file_are_refused(folder, place):
    model = proto(folder)
    next(entry for entry in model.graph.initializer[-1].external_data if entry.key == "location").value = place
    write(folder, model)
    with pytest.raises(BadInput, match="data in another file"):
        opened(folder)


def test_weights_in_another_file_are_refused_in_a_constant_too(folder):
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    model = proto(folder)
    tensor = onnx.helper.make_tensor("c", onnx.TensorProto.FLOAT, [1], [0.0])
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["c"], value=tensor))
    write(folder, model)
    with pytest.raises(BadInput, match="data in another file"):
        opened(folder)


def test_weights_beyond_the_end_of_the_file_are_refused(folder):
    model = proto(folder)
    next(entry for entry in model.graph.initializer[-1].external_data if entry.key == "offset").value = str(2**40)
    write(folder, model)
    with pytest.raises(BadInput, match="cannot be loaded"):
        opened(folder)


def test_operators_that_are_not_of_onnx_are_refused(folder):
    model = proto(folder)
    model.graph.node[-1].domain = "com.microsoft"
    write(folder, model)
    with pytest.raises(BadInput, match="operators that are not of ONNX itself"):
        opened(folder)


def test_sub_graphs_are_refused(folder):
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    model = proto(folder)
    inner = onnx.helper.make_graph([], "inner", [], [])
    model.graph.node.append(onnx.helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner))
    write(folder, model)
    with pytest.raises(BadInput, match="sub-graphs"):
        opened(folder)


def test_another_input_is_refused(folder):
    model = proto(folder)
    model.graph.output.append(model.graph.output[0])
    model.graph.output[1].name = model.graph.node[-2].output[0]
    write(folder, model)
    with pytest.raises(BadInput, match=r"other inputs and outputs|cannot be loaded"):
        opened(folder)


def test_a_missing_or_huge_file_is_refused(folder):
    (folder / ONNX).write_bytes(b"\0" * (onnx_file.MAX_BYTES + 1))
    with pytest.raises(BadInput, match="larger than the limit"):
        opened(folder)
    (folder / ONNX).unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        opened(folder)


def test_metadata_is_replaced_and_the_rest_of_the_file_kept(folder):
    content = (folder / ONNX).read_bytes()
    changed = onnx_file.with_metadata(content, {"weights_sha256": "0" * 64, "ä": "x" * 300})
    assert onnx_file.metadata(changed) == {"weights_sha256": "0" * 64, "ä": "x" * 300}
    assert onnx_file.with_metadata(changed, onnx_file.metadata(content)) == onnx_file.with_metadata(
        content, onnx_file.metadata(content)
    )
