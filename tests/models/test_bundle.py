"""Model files are data: nothing in them runs, and a damaged or foreign one is refused with one sentence."""

import json
import os
import pickle
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_skinseg.errors import BadInput
from napari_skinseg.models import bundle, network
from napari_skinseg.models.bundle import METADATA, WEIGHTS, ModelSpec

TINY = ModelSpec(
    name="tiny",
    network="UNet",
    network_arguments={"channels": [2, 4], "num_res_units": 0},
    input_size=(32, 48),
    mean=(0.7, 0.55, 0.5),
    std=(0.1, 0.2, 0.3),
    version="1.2.3",
    threshold=0.4,
    confidence=(-0.1, 1.2),
    no_lesion=0.3,
    description="A tiny model for tests.",
    licence="CC-BY-NC-4.0",
    training_data="none",
    metrics={"ham10000 test Dice": 0.5},
    provenance={"command": "pytest"},
)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A sound model on disk."""
    torch.manual_seed(0)
    return bundle.save(tmp_path / "tiny", TINY, network.build(TINY.network, TINY.network_arguments))


def edit(folder: Path, **entries) -> None:
    """Change entries of our section of the metadata; None as a value removes the entry."""
    metadata = json.loads((folder / METADATA).read_text())
    section = metadata["napari_skinseg"] | entries
    metadata["napari_skinseg"] = {key: value for key, value in section.items() if value is not None}
    (folder / METADATA).write_text(json.dumps(metadata))


def refusal(folder: Path) -> str:
    """Load what must be refused and return the sentence, which is one line that says what to do."""
    with pytest.raises(BadInput) as refused:
        bundle.load(folder)
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert len(sentence) < 400
    return sentence


def test_a_saved_model_is_loaded_unchanged(folder):
    model = bundle.load(folder)
    assert replace(model.spec, network_arguments=dict(TINY.network_arguments)) == TINY
    assert not model.network.training
    stored = load_file(folder / WEIGHTS)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    for name, tensor in model.network.state_dict().items():
        torch.testing.assert_close(tensor, stored[name].float())


@pytest.mark.parametrize("name", network.NETWORKS)
def test_every_network_gives_the_same_output_after_loading(tmp_path, name):
    torch.manual_seed(0)
    built = network.build(name).half().float().eval()
    spec = replace(TINY, network=name, network_arguments={}, input_size=(64, 96))
    loaded = bundle.load(bundle.save(tmp_path / "model", spec, built)).network
    image = torch.randn(1, network.IN_CHANNELS, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), built(image))


def test_the_hash_identifies_the_weights(folder):
    before = bundle.load(folder).sha256
    weights = load_file(folder / WEIGHTS)
    next(iter(weights.values())).flatten()[0] += 0.5
    save_file(weights, folder / WEIGHTS)
    assert bundle.load(folder).sha256 != before


class Evil:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.environ["EVIL_MARK"],)


@pytest.mark.parametrize("write", [pickle.dump, torch.save], ids=["pickle", "torch.save"])
def test_a_pickle_renamed_to_safetensors_raises_and_is_not_run(folder, tmp_path, monkeypatch, write):
    monkeypatch.setenv("EVIL_MARK", str(tmp_path / "evil"))
    with (folder / WEIGHTS).open("wb") as file:
        write(Evil(), file)
    assert "pickles" in refusal(folder)
    assert not (tmp_path / "evil").exists()
    os_mkdir_of_the_pickle_works = pickle.dumps(Evil())
    pickle.loads(os_mkdir_of_the_pickle_works)
    assert (tmp_path / "evil").exists()


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights_raise(folder, keep):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:keep])
    assert "not a complete safetensors file" in refusal(folder)


def test_weights_with_extra_bytes_raise(folder):
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"tail")
    assert "not a complete safetensors file" in refusal(folder)


def test_missing_weights_raise(folder):
    (folder / WEIGHTS).unlink()
    assert "cannot be read" in refusal(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_raise(folder, value):
    weights = load_file(folder / WEIGHTS)
    next(iter(weights.values())).flatten()[-1] = value
    save_file(weights, folder / WEIGHTS)
    assert "not finite" in refusal(folder)


@pytest.mark.parametrize(
    ("kind", "size"), [("F8_E4M3", 1), ("F8_E8M0", 1), ("C64", 8), ("BOOL", 1), ("U16", 2), ("F64", 8)]
)
def test_weights_in_an_unknown_number_format_raise(folder, kind, size):
    header, end = {}, 0
    for name, tensor in load_file(folder / WEIGHTS).items():
        start, end = end, end + tensor.numel() * size
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
    packed = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(packed)) + packed + b"\x01" * end)
    refusal(folder)


def wrong_shape(weights):
    name = next(iter(weights))
    return weights | {name: torch.zeros(7, 7)}


def one_missing(weights):
    return dict(list(weights.items())[1:])


def one_more(weights):
    return weights | {"backdoor": torch.zeros(1)}


@pytest.mark.parametrize("change", [wrong_shape, one_missing, one_more, lambda weights: {"x": torch.zeros(1)}])
def test_weights_of_another_network_raise(folder, change):
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)
    assert "does not fit the network UNet" in refusal(folder)


@pytest.mark.parametrize("name", ["ResNet", "os.system", "monai.networks.nets.UNet", "$__import__('os')", "", "_unet"])
def test_an_unknown_network_raises(folder, name):
    edit(folder, network=name)
    assert "unknown to this version" in refusal(folder)


@pytest.mark.parametrize(
    "arguments",
    [
        {"channels": [2, 10**9]},
        {"channels": [2] * 10**5},
        {"channels": "abc"},
        {"channels": [2.0, 4.0]},
        {"channels": [True, 4]},
        {"num_res_units": -1},
        {"in_channels": 3},
        {"act": "$__import__('os').system('true')"},
        {"channels": 5},
        {"channels": None},
    ],
    ids=lambda arguments: str(arguments)[:30],
)
def test_network_arguments_out_of_range_raise(folder, arguments):
    edit(folder, network_arguments=arguments)
    assert "argument" in refusal(folder)


def test_network_arguments_that_monai_refuses_raise(folder):
    edit(folder, network="SegResNet", network_arguments={"init_filters": 9, "blocks_down": [1, 1]})
    assert "does not accept these arguments" in refusal(folder)


@pytest.mark.parametrize("version", [3, 10**6, "1", None, 1.0, True])
def test_a_newer_or_invalid_format_version_raises(folder, version):
    edit(folder, format=version)
    assert "newer" in refusal(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b'{"napari_skinseg": 3}', b"[" * 200_000, b" " * 2_000_000 + b"{}"],
    ids=lambda content: repr(content[:10]),
)
def test_damaged_or_other_metadata_raises(folder, content):
    (folder / METADATA).write_bytes(content)
    refusal(folder)


@pytest.mark.parametrize(
    "entries",
    [
        {"input_size": [33, 48]},
        {"input_size": [32]},
        {"input_size": [0, 0]},
        {"input_size": [10**6, 10**6]},
        {"input_size": "large"},
        {"mean": [0.5, 0.5]},
        {"mean": [0.5, 0.5, float("nan")]},
        {"std": [0.1, 0.1, 0.0]},
        {"std": [0.1, 0.1, float("inf")]},
        {"threshold": 0},
        {"threshold": float("nan")},
        {"threshold": "half"},
        {"confidence": [0.0]},
        {"no_lesion": 1.0},
        {"no_lesion": -0.01},
        {"no_lesion": float("nan")},
        {"no_lesion": "never"},
        {"metrics": [1, 2]},
        {"metrics": {"Dice": float("nan")}},
        {"input_size": [float("inf"), 32]},
        {"threshold": 10**400},
        {"name": "../../evil"},
        {"name": ""},
        {"mean": None},
    ],
    ids=lambda entries: str(entries)[:40],
)
def test_invalid_metadata_entries_raise(folder, entries):
    edit(folder, **entries)
    refusal(folder)


def test_an_old_model_gets_the_default_no_lesion_limit(folder):
    edit(folder, no_lesion=None)
    assert bundle.load(folder).spec == replace(TINY, no_lesion=ModelSpec.no_lesion)


def test_expressions_in_the_metadata_are_not_evaluated(folder, tmp_path, monkeypatch):
    mark = tmp_path / "evil"
    expression = f"$__import__('os').mkdir({str(mark)!r})"
    edit(folder, description=expression, licence="%evil.json", training_data="@network", provenance={"run": expression})
    metadata = json.loads((folder / METADATA).read_text())
    metadata |= {"task": expression, "imports": ["$import os"], "_target_": "os.mkdir", "path": str(mark)}
    (folder / METADATA).write_text(json.dumps(metadata))
    spec = bundle.load(folder).spec
    assert (spec.description, spec.licence, spec.training_data) == (expression, "%evil.json", "@network")
    assert not mark.exists()


def test_reading_the_metadata_imports_neither_torch_nor_monai(folder):
    code = (
        "import sys; from napari_skinseg.models.bundle import read_spec; print(read_spec(sys.argv[1]).name);"
        "assert not {'torch', 'monai', 'safetensors'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "tiny"


def test_a_name_that_is_not_a_folder_name_raises(tmp_path):
    built = network.build(TINY.network, TINY.network_arguments)
    with pytest.raises(BadInput, match="is not a valid model name"):
        bundle.save(tmp_path / "model", replace(TINY, name="a/b"), built)
    assert not (tmp_path / "model").exists()


def test_the_metadata_follows_the_monai_bundle_specification(folder):
    metadata = json.loads((folder / METADATA).read_text())
    jsonschema.validate(metadata, MONAI_METADATA)
    for tensor in ("inputs", "outputs"):
        for specifier in metadata["network_data_format"][tensor].values():
            channels = {str(index) for index in range(specifier["num_channels"])}
            assert set(specifier["channel_def"]) == channels


def test_monai_can_read_the_metadata(folder):
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_meta(folder / METADATA)
    assert parser["_meta_::network_data_format::inputs::image::num_channels"] == network.IN_CHANNELS
    assert parser["_meta_::version"] == "1.2.3"


# MONAI publishes its metadata schema as a release file only, which cannot be had offline. This one is written from the
# text of the MONAI Bundle Specification, section "metadata.json file": its mandatory keys with their types, and the
# keys that every tensor format specifier must have, but for "modality", which has a default.
# "required_packages_version" is the newer name (MONAI 1.4, and the schema of 2024-07-25 that the file names) of
# "optional_packages_version".
_TEXT = {"type": "string", "minLength": 1}
_VERSION = {"type": "string", "pattern": r"^\d+\.\d+\.\d+"}
_TENSOR = {
    "type": "object",
    "required": [
        "type",
        "format",
        "num_channels",
        "spatial_shape",
        "dtype",
        "value_range",
        "is_patch_data",
        "channel_def",
    ],
    "properties": {
        "type": _TEXT,
        "format": _TEXT,
        "modality": _TEXT,
        "num_channels": {"type": "integer", "minimum": 1},
        "spatial_shape": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": ["integer", "string"]}},
        "dtype": {"type": "string", "pattern": r"^u?(int|float)\d+$"},
        "value_range": {"type": "array", "items": {"type": "number"}, "maxItems": 2},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object", "additionalProperties": _TEXT},
    },
}
_TENSORS = {"type": "object", "minProperties": 1, "additionalProperties": _TENSOR}
MONAI_METADATA = {
    "type": "object",
    "required": [
        "schema",
        "version",
        "monai_version",
        "pytorch_version",
        "numpy_version",
        "task",
        "description",
        "authors",
        "copyright",
        "network_data_format",
    ],
    "anyOf": [{"required": ["required_packages_version"]}, {"required": ["optional_packages_version"]}],
    "properties": {
        "schema": {"type": "string", "pattern": "meta_schema_"},
        "version": _VERSION,
        "monai_version": _VERSION,
        "pytorch_version": _VERSION,
        "numpy_version": _VERSION,
        "required_packages_version": {"type": "object", "additionalProperties": _VERSION},
        "optional_packages_version": {"type": "object", "additionalProperties": _VERSION},
        "changelog": {"type": "object", "additionalProperties": _TEXT},
        "task": _TEXT,
        "description": _TEXT,
        "authors": _TEXT,
        "copyright": _TEXT,
        "intended_use": _TEXT,
        "data_source": _TEXT,
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "properties": {"inputs": _TENSORS, "outputs": _TENSORS},
        },
    },
}
