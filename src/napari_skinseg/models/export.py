"""Export a model for other programs: a MONAI bundle that MONAI can run, TorchScript, ONNX.

TorchScript and ONNX files are loaded again and compared with the model before they get their final name. napari-skinseg
itself never uses exported files; the ONNX file that it uses is written by `onnx_export`.

TorchScript and ONNX contain only the network, in float32, for the input size of the model and any number N of photos:
input `[N, 6, h, w]` (see `network.build`), output logits `[N, 1, h, w]`. ONNX files of a model with a presence head
have a second output, its logit `[N]`. The other values that a program needs are in the file as JSON: the extra file
`napari_skinseg.json` in TorchScript, the metadata property `napari_skinseg` in ONNX.
"""

import json
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_skinseg.errors import BadInput
from napari_skinseg.files import atomic, make_output_folder, write_json, write_text

from . import bundle
from .network import CLICK_CHANNELS, LITE, monai_arguments
from .onnx_export import check_outputs, example, export_network, network_json
from .store import find

if TYPE_CHECKING:
    import torch


def to_monai_bundle(name: str | Path, target: str | Path) -> Path:
    """Write a bundle that `python -m monai.bundle run` executes: it reads photos and writes masks.

    Args:
        name: name or folder of the model.
        target: a new folder; or an existing folder, for a new folder `<name>` in it.

    Returns:
        The path of the bundle.

    Raises:
        BadInput: the model does not exist, the folder exists already or cannot be written.
    """
    import torch

    model, title = _model(name)
    target = Path(target)
    target = target / title if target.is_dir() else target
    if target.exists():
        raise BadInput(f"{target} exists already; choose a new folder for the bundle.")
    staging = Path(tempfile.mkdtemp(prefix=".exporting-", dir=make_output_folder(target.parent)))
    try:
        for folder in ("configs", "models", "docs"):
            (staging / folder).mkdir()
        bundle.write_spec(staging, model.spec)
        write_json(staging / bundle.METADATA, _monai_metadata(staging / bundle.METADATA))
        if _has_lite_encoder(model.spec):
            (staging / "scripts").mkdir()
            shutil.copyfile(_ENCODER, staging / "scripts" / _ENCODER.name)
        write_json(staging / "configs" / "inference.json", _inference(model.spec))
        with atomic(staging / "models" / "model.pt") as temporary:
            torch.save(model.network.state_dict(), temporary)
        card = find(name).folder / bundle.CARD
        text = card.read_text(encoding="utf-8") if card.is_file() else bundle.model_card(model.spec)
        write_text(staging / bundle.CARD, text.rstrip() + _HOW_TO_RUN)
        write_text(staging / "LICENSE", f"Licence of the weights in this folder: {model.spec.licence}\n")
        staging.chmod(0o755)  # mkdtemp creates a private folder
        staging.rename(target)
    except OSError as error:
        raise BadInput(f"{target} could not be written ({error.strerror or error}); choose another folder.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def to_torchscript(name: str | Path, target: str | Path) -> Path:
    """Write the network as one TorchScript file (.pt), for C++ and mobile devices; an existing file is replaced.

    Args:
        name: name or folder of the model.
        target: path of the file, or a folder, for `<name>.pt` in it.

    Returns:
        The path of the file.

    Raises:
        BadInput: the model does not exist, the file cannot be written, or the exported network gives other results.
    """
    return _write_network(name, target, ".pt", _write_torchscript)


def to_onnx(name: str | Path, target: str | Path) -> Path:
    """Write the network as one ONNX file, compared with the model in ONNX Runtime; an existing file is replaced.

    Args:
        name: name or folder of the model.
        target: path of the file, or a folder, for `<name>.onnx` in it.

    Returns:
        The path of the file.

    Raises:
        BadInput: the extra `onnx` is not installed, the model does not exist, the file cannot be written, or the
            exported network gives other results.
    """
    return _write_network(name, target, ".onnx", _write_onnx)


def _write_network(
    name: str | Path,
    target: str | Path,
    suffix: str,
    write: Callable[[bundle.Model, "torch.Tensor", Path], "list[torch.Tensor]"],
) -> Path:
    """Write a file by `write`, which returns the outputs of the network in the file, and compare these outputs."""
    model, title = _model(name)
    target = Path(target)
    target = target / f"{title}{suffix}" if target.is_dir() else target
    make_output_folder(target.parent)
    inputs = example(model.spec)
    with atomic(target) as temporary:
        check_outputs(model, inputs, write(model, inputs, temporary), target)
    return target


def _write_torchscript(model: bundle.Model, inputs: "torch.Tensor", path: Path) -> "list[torch.Tensor]":
    import torch

    with warnings.catch_warnings():
        # PyTorch recommends torch.export, but only PyTorch for Python can read its files.
        warnings.filterwarnings("ignore", "`torch.jit.", DeprecationWarning)
        # Networks check the shape of the input, which is always the same here.
        warnings.filterwarnings("ignore", "Converting a tensor to a Python boolean")
        with torch.no_grad():
            traced = torch.jit.trace(model.network, inputs, check_trace=False)
        torch.jit.save(traced, str(path), _extra_files={"napari_skinseg.json": network_json(model)})
        return [torch.jit.load(str(path), map_location="cpu")(inputs).detach()]


def _write_onnx(model: bundle.Model, inputs: "torch.Tensor", path: Path) -> "list[torch.Tensor]":
    import onnxruntime
    import torch

    program = export_network(model.with_presence, inputs, optimise=True)
    program.model.metadata_props["napari_skinseg"] = network_json(model)
    program.save(str(path), external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [torch.from_numpy(output) for output in session.run(None, {"image": inputs.numpy()})]


def _model(name: str | Path) -> tuple[bundle.Model, str]:
    """Return the model and the name for its files."""
    found = find(name)
    model = bundle.load(found.folder)
    return model, model.spec.name if found.origin == "folder" else found.name


def _monai_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata without the section "napari_skinseg", with texts that MONAI does not evaluate."""
    metadata = json.loads(path.read_text(encoding="utf-8"))
    del metadata["napari_skinseg"]
    metadata["required_packages_version"] = {name: version(name) for name in _RUNS_WITH}
    return {key: _plain_text(value) for key, value in metadata.items()}


def _plain_text(value: Any) -> Any:
    """Remove what MONAI would evaluate: text after $ is executed, and text after @ or % is a reference."""
    if isinstance(value, dict):
        return {key: _plain_text(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain_text(entry) for entry in value]
    return re.sub(r"[@%]+(?=[#:])", "", value).lstrip("$@% \n") if isinstance(value, str) else value


def _has_lite_encoder(spec: bundle.ModelSpec) -> bool:
    """Return whether the network has the encoder that MONAI does not contain."""
    return monai_arguments(spec.network, spec.network_arguments).get("backbone") in LITE


def _inference(spec: bundle.ModelSpec) -> dict[str, Any]:
    """Return configs/inference.json of the bundle: the steps of `segment` as transforms of MONAI."""
    height, width = spec.input_size
    endings = "('.jpg', '.jpeg', '.png', '.bmp')"
    return {
        "imports": ["$import glob", "$import os", *[f"$import scripts.{_ENCODER.stem}"] * _has_lite_encoder(spec)],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/photos'",
        "output_dir": "$@bundle_root + '/masks'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "photos": f"$sorted(p for p in glob.glob(os.path.join(@dataset_dir, '*')) if p.lower().endswith({endings}))",
        "network_def": {"_target_": spec.network, **monai_arguments(spec.network, spec.network_arguments)},
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": "LoadImaged",
                    "keys": "image",
                    "reader": "$monai.data.PILReader(lambda image: image.convert('RGB'))",
                },
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                # MONAI loads and saves images as [width, height]; transposed here and transposed back by Invertd.
                {"_target_": "Transposed", "keys": "image", "indices": [0, 2, 1]},
                {
                    "_target_": "Resized",
                    "keys": "image",
                    "spatial_size": [height, width],
                    "mode": "bilinear",
                    "anti_aliasing": True,
                },
                {
                    "_target_": "NormalizeIntensityd",
                    "keys": "image",
                    "subtrahend": [255 * value for value in spec.mean],
                    "divisor": [255 * value for value in spec.std],
                    "channel_wise": True,
                },
                {
                    "_target_": "Lambdad",
                    "keys": "image",
                    "func": f"$lambda x: torch.cat([x, torch.zeros_like(x[:{CLICK_CHANNELS}])])",
                },
            ],
        },
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': p} for p in @photos]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
                {
                    "_target_": "Invertd",
                    "keys": "pred",
                    "orig_keys": "image",
                    "transform": "@preprocessing",
                    "nearest_interp": False,
                },
                {"_target_": "AsDiscreted", "keys": "pred", "threshold": spec.threshold},
                {"_target_": "KeepLargestConnectedComponentd", "keys": "pred"},
                {"_target_": "FillHolesd", "keys": "pred"},
                {
                    "_target_": "SaveImaged",
                    "keys": "pred",
                    "output_dir": "@output_dir",
                    "output_postfix": "segmentation",
                    "output_ext": ".png",
                    "output_dtype": "$np.uint8",
                    "scale": 255,
                    "resample": False,
                    "separate_folder": False,
                },
            ],
        },
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": "@network"},
                "map_location": "@device",
            }
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "run": ["$@evaluator.run()"],
    }


_ENCODER = Path(__file__).with_name("efficientnet_lite.py")
"""The module that registers the encoder in MONAI; always the file of this package."""
_RUNS_WITH = ("pytorch-ignite", "scikit-image", "scipy", "pillow")
_COMMAND = (
    "python -m monai.bundle run --config_file configs/inference.json --bundle_root . "
    "--dataset_dir PHOTOS --output_dir MASKS"
)
_HOW_TO_RUN = f"""

## As a MONAI bundle

In this folder, to segment a folder of photos (JPEG, PNG, BMP), after `pip install monai fire {" ".join(_RUNS_WITH)}`:

    {_COMMAND}
"""
