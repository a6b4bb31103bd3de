"""Read and write one trained model, stored in the layout of a MONAI bundle, as data only.

    <folder>/configs/metadata.json     MONAI bundle metadata plus our section "napari_skinseg" (see `ModelSpec`)
    <folder>/models/model.safetensors  weights in float16
    <folder>/models/base.safetensors   weights before fine-tuning, of a model with `ModelSpec.guarded`
    <folder>/models/model.onnx         graph for ONNX Runtime, see `onnx_file`; not every model has it
    <folder>/docs/README.md            model card

Nothing in the folder is executed: the metadata is read as plain JSON and never passed to MONAI's `ConfigParser`, which
evaluates `$expressions`; weights are safetensors, never pickles.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_skinseg.errors import BadInput
from napari_skinseg.files import atomic, make_output_folder, write_json, write_text

from .network import IN_CHANNELS, build, stride
from .onnx_file import ONNX

if TYPE_CHECKING:
    import torch

    from .presence import PresenceHead

BUNDLED_MODELS = Path(__file__).resolve().parents[1] / "weights"
"""The folder of the models in the package."""

METADATA = Path("configs") / "metadata.json"
WEIGHTS = Path("models") / "model.safetensors"
BASE_WEIGHTS = Path("models") / "base.safetensors"
CARD = Path("docs") / "README.md"

FORMAT = 2
"""Version of the section "napari_skinseg" of the metadata; a model with a higher version is refused. A model without
the entries of version 2, `border`, base weights and `presence`, is written as version 1, so that earlier releases can
use it."""

PRESENCE = "presence."
"""Prefix of the names of the tensors of the presence head."""

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""Allowed names of models; a name is also a folder name on every operating system."""

MAX_WEIGHT_BYTES = 200 * 2**20
MAX_METADATA_BYTES = 2**20
_SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"


@dataclass(frozen=True)
class ModelSpec:
    """The description of a model: everything except its weights.

    Attributes:
        name: lower-case letters, digits, dot, dash and underscore.
        version: version of this model, "major.minor.patch".
        network: a name from `network.NETWORKS`.
        network_arguments: keyword arguments with which the network is built.
        input_size: (height, width) in pixels to which every image is resized.
        mean: per RGB channel, subtracted after scaling to [0, 1].
        std: per RGB channel, the divisor after subtracting the mean.
        threshold: a pixel with at least this probability is lesion, in (0, 1).
        confidence: (intercept, slope) of the calibration of `Segmentation.confidence`; see
            `segmentation.confidence.confidence_of`.
        no_lesion: an outline with a lower presence is withheld, because there is probably no lesion; in [0, 1), 0 = no
            outline is withheld. Presence is the probability of the presence head; without a head, the confidence. An
            outline with a high confidence is not withheld, see `segmentation.confidence.SURE`.
        presence: the model has a presence head, see `presence.PresenceHead`.
        border: (threshold, offset, smoothing) that change the mask to the style of a person, see
            `segmentation.border.Border`; None changes nothing.
        guarded: each mask is compared with that of the base weights in the same folder; see `Segmenter.segment`.
        description: one sentence for lists.
        licence: SPDX identifier or a sentence; depends on the training data.
        training_data: the training data in words.
        metrics: measured values shown in the model card, e.g. {"ham10000 test Dice": 0.93}.
        provenance: command, package versions, date, base model.
    """

    name: str
    network: str
    network_arguments: Mapping[str, Any]
    input_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    version: str = "0.1.0"
    threshold: float = 0.5
    confidence: tuple[float, float] = (0.0, 1.0)
    no_lesion: float = 0.4
    border: tuple[float, float, float] | None = None
    guarded: bool = False
    presence: bool = False
    description: str = ""
    licence: str = "unknown"
    training_data: str = "unknown"
    metrics: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)

    @property
    def doubt(self) -> float:
        """An outline with a lower presence is shown as doubtful."""
        return max(self.no_lesion, 0.5) if self.presence else self.no_lesion


@dataclass(frozen=True)
class Model:
    """A model in memory.

    Attributes:
        spec: description of the model.
        network: float32 module in evaluation mode, on the CPU.
        sha256: hexadecimal hash of the weights file; identifies the weights in every table.
        base: the network before fine-tuning, of a model with `ModelSpec.guarded`; else None.
        presence: the presence head, on the CPU; None for a model without one.
    """

    spec: ModelSpec
    network: "torch.nn.Module"
    sha256: str
    base: "torch.nn.Module | None" = None
    presence: "PresenceHead | None" = None

    @property
    def with_presence(self) -> "torch.nn.Module":
        """The network that also gives the presence, see `NetworkWithPresence`; without a head, the network."""
        if self.presence is None:
            return self.network
        from .presence import NetworkWithPresence

        return NetworkWithPresence(self.network, self.presence).eval()


def read_spec(folder: str | Path) -> ModelSpec:
    """Read a bundle's metadata without importing torch.

    Raises:
        BadInput: the folder is not a napari-skinseg model, or its metadata is damaged or from a newer version.
    """
    path = Path(folder) / METADATA
    try:
        if path.stat().st_size > MAX_METADATA_BYTES:
            raise BadInput(f"{path} is larger than the metadata of any napari-skinseg model; it is refused.")
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{folder} is not a model: it has no {METADATA}; choose the folder that contains it.") from None
    except BadInput:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} cannot be read as JSON ({error}); get the model again.") from error
    section = metadata.get("napari_skinseg") if isinstance(metadata, dict) else None
    if not isinstance(section, dict):
        raise BadInput(f"{path} does not describe a napari-skinseg model; only models of napari-skinseg can be used.")
    if type(section.get("format")) is not int or section["format"] > FORMAT:
        raise BadInput(f"{folder} was made by a newer napari-skinseg; update napari-skinseg to use it.")
    return _spec_from(section, path)


def load(folder: str | Path) -> Model:
    """Load a bundle; nothing in it is executed.

    Raises:
        BadInput: see `read_spec`; also if the weights are missing, not safetensors, truncated, not finite, or do not
            have the shapes of the network.
    """
    spec = read_spec(folder)
    network, head, sha256 = _load_network(spec, Path(folder) / WEIGHTS)
    base = _load_network(spec, Path(folder) / BASE_WEIGHTS)[0] if spec.guarded else None
    return Model(spec, network, sha256, base, head)


def _load_network(spec: ModelSpec, path: Path) -> tuple["torch.nn.Module", "PresenceHead | None", str]:
    """Build the network of `spec` and its presence head with the weights in `path`; return the hash of the file too."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load as parse

    content, sha256 = read_weights(path)
    try:
        weights = parse(content)
    except (SafetensorError, KeyError) as error:  # KeyError: torch does not have this number format
        raise BadInput(
            f"{path} is not a complete safetensors file ({error}); other formats such as pickles are refused."
        ) from error
    network = build(spec.network, spec.network_arguments)
    head = _build_head(network.eval(), spec, path) if spec.presence else None
    expected = {name: tensor.shape for name, tensor in _state(network, head).items()}
    if {name: tensor.shape for name, tensor in weights.items()} != expected:
        raise BadInput(f"{path} does not fit the network {spec.network} named in its metadata; get the model again.")
    if not all(tensor.dtype in (torch.float16, torch.float32, torch.int64) for tensor in weights.values()):
        raise BadInput(f"{path} contains weights in an unknown number format; get the model again.")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
        raise BadInput(f"{path} contains weights that are not finite numbers; get the model again.")
    for name, tensor in _state(network, head).items():
        tensor.copy_(weights[name])
    return network.float().eval(), head, sha256


def read_weights(path: Path) -> tuple[bytes, str]:
    """Return the content of a file of weights, and its hexadecimal hash; works without torch.

    Raises:
        BadInput: the file is missing, cannot be read or is too large.
    """
    try:
        if path.stat().st_size > MAX_WEIGHT_BYTES:
            raise BadInput(f"{path} is larger than the limit of {MAX_WEIGHT_BYTES >> 20} MiB; it is refused.")
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}); get the model again.") from error
    return content, hashlib.sha256(content).hexdigest()


def _build_head(network: "torch.nn.Module", spec: ModelSpec, path: Path) -> "PresenceHead":
    from .presence import PresenceHead, count_features

    features = count_features(network, spec.input_size)
    if features is None:
        raise BadInput(f"{path} has a presence head, which a {spec.network} cannot have; get the model again.")
    return PresenceHead(features).eval()


def _state(network: "torch.nn.Module", head: "PresenceHead | None") -> "dict[str, torch.Tensor]":
    """Return the tensors of a network and of its presence head, by name."""
    tensors = {} if head is None else {f"{PRESENCE}{name}": tensor for name, tensor in head.state_dict().items()}
    return {**network.state_dict(), **tensors}


def save(
    folder: str | Path,
    spec: ModelSpec,
    network: "torch.nn.Module",
    card: str | None = None,
    base: "torch.nn.Module | None" = None,
    presence: "PresenceHead | None" = None,
) -> Path:
    """Write a bundle; each file is written atomically.

    Args:
        folder: created if it does not exist.
        spec: description of the model.
        network: the network; floating-point weights are stored in float16.
        card: Markdown text of the model card; None creates the card from `spec`.
        base: the network before fine-tuning, if `spec.guarded`.
        presence: the presence head; needed if `spec.presence`.

    Raises:
        BadInput: the spec is not valid, or the folder cannot be written to.
    """
    import torch
    from safetensors.torch import save as serialise

    _spec_from(_section(spec), Path(spec.name))
    if spec.presence != (presence is not None):
        raise BadInput(f"{spec.name} has a presence head in its description or in its weights, but not in both.")
    files = {
        path: serialise(
            {
                name: (tensor.to(torch.float16) if tensor.is_floating_point() else tensor).cpu().contiguous()
                for name, tensor in _state(module, presence).items()
            }
        )
        for path, module in ((WEIGHTS, network), (BASE_WEIGHTS, base))
        if module is not None
    }
    return _write(Path(folder), files, spec, card)


def save_copy(source: Path, folder: Path, spec: ModelSpec) -> Path:
    """Write a bundle with the weights of the bundle `source` and another description; torch is not imported.

    Args:
        source: folder of the bundle; its ONNX file, if it has one, is copied too.
        folder: folder of the new bundle; created if it does not exist.
        spec: description of the new model.

    Raises:
        BadInput: the spec is not valid, the weights cannot be read, or the folder cannot be written to.
    """
    _spec_from(_section(spec), Path(spec.name))
    files = {path: read_weights(source / path)[0] for path in (WEIGHTS, *[BASE_WEIGHTS] * spec.guarded)}
    if (source / ONNX).exists():
        files[ONNX] = (source / ONNX).read_bytes()
    return _write(folder, files, spec)


def _write(folder: Path, files: Mapping[Path, bytes], spec: ModelSpec, card: str | None = None) -> Path:
    """Write the files of a bundle, each one atomically, and return its folder."""
    for path in (*files, METADATA, CARD):
        make_output_folder((folder / path).parent)
    for path, content in files.items():
        with atomic(folder / path) as temporary:
            temporary.write_bytes(content)
    write_spec(folder, spec)
    write_text(folder / CARD, card if card is not None else model_card(spec))
    return folder


def write_spec(folder: str | Path, spec: ModelSpec) -> None:
    """Write only the metadata, e.g. with new measured values or a new name."""
    write_json(Path(folder) / METADATA, _metadata(spec))


def model_card(spec: ModelSpec) -> str:
    """Return a model card in Markdown with the values of the spec."""
    figures = "\n".join(f"| {name} | {value:.4g} |" for name, value in spec.metrics.items()) or "| not measured | – |"
    origin = "\n".join(f"- {key}: {value}" for key, value in spec.provenance.items()) or "- unknown"
    height, width = spec.input_size
    return (
        f"# {spec.name} {spec.version}\n\n{spec.description}\n\n"
        "A research tool, not a medical device: it outlines lesions and diagnoses nothing.\n\n"
        f"- Network: MONAI `{spec.network}` {dict(spec.network_arguments)}, input {width}x{height} RGB\n"
        f"- Training data: {spec.training_data}\n- Licence: {spec.licence}\n\n"
        f"## Figures\n\n| what | value |\n|---|---|\n{figures}\n\n## Where it comes from\n\n{origin}\n"
    )


def _section(spec: ModelSpec) -> dict[str, Any]:
    section = asdict(spec)
    if spec.border is None and not spec.guarded and not spec.presence:
        del section["border"], section["guarded"], section["presence"]
        return {"format": 1, **section}
    return {"format": FORMAT, **section}


def _spec_from(section: Mapping[str, Any], path: Path) -> ModelSpec:
    try:
        spec = ModelSpec(
            name=str(section["name"]),
            version=str(section["version"]),
            network=str(section["network"]),
            network_arguments=dict(section["network_arguments"]),
            input_size=_numbers(section["input_size"], int, 2),
            mean=_numbers(section["mean"], float, 3),
            std=_numbers(section["std"], float, 3),
            threshold=float(section["threshold"]),
            confidence=_numbers(section["confidence"], float, 2),
            no_lesion=float(section.get("no_lesion", ModelSpec.no_lesion)),  # older models do not have these entries
            border=None if section.get("border") is None else _numbers(section["border"], float, 3),
            guarded=bool(section.get("guarded", False)),
            presence=section.get("presence", False) is True,
            description=str(section["description"]),
            licence=str(section["licence"]),
            training_data=str(section["training_data"]),
            metrics={str(key): _numbers([value], float, 1)[0] for key, value in dict(section["metrics"]).items()},
            provenance={str(key): str(value) for key, value in dict(section["provenance"]).items()},
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{path} has a missing or invalid entry ({str(error)[:200]}); get the model again.") from error
    if not NAME_PATTERN.fullmatch(spec.name):
        raise BadInput(f"{spec.name!r} is not a valid model name; use up to 64 of a-z, 0-9, dot, dash and underscore.")
    step = stride(spec.network, spec.network_arguments)
    if not all(2 * step <= side <= 2048 and side % step == 0 for side in spec.input_size):
        allowed = f"a multiple of {step} from {2 * step} to 2048"
        raise BadInput(f"{path} has the input size {spec.input_size}; each side must be {allowed}.")
    if not (0 < spec.threshold < 1 and min(spec.std) > 0):
        raise BadInput(f"{path} has a threshold outside (0, 1) or a zero standard deviation; get the model again.")
    if not 0 <= spec.no_lesion < 1:
        raise BadInput(f"{path} has a no-lesion limit outside [0, 1), {spec.no_lesion}; get the model again.")
    threshold, offset, smoothing = spec.border or (0.5, 0.0, 0.0)
    if not (0 < threshold < 1 and abs(offset) <= 0.2 and 0 <= smoothing <= 0.1):
        raise BadInput(f"{path} has a border that is out of range, {spec.border}; get the model again.")
    return spec


def _numbers(values: Any, kind: type, length: int) -> Any:
    numbers = tuple(kind(value) for value in values)
    if len(numbers) != length or not all(abs(number) < float("inf") for number in numbers):
        raise ValueError(f"{values!r} is not {length} numbers")
    return numbers


def _metadata(spec: ModelSpec) -> dict[str, Any]:
    """Return MONAI bundle metadata (bundle specification, "metadata.json file") with the section "napari_skinseg"."""
    height, width = spec.input_size
    plane = {"type": "image", "num_channels": IN_CHANNELS, "spatial_shape": [height, width], "dtype": "float32"}
    return {
        "schema": _SCHEMA,
        "version": spec.version,
        "changelog": {spec.version: "see docs/README.md"},
        "monai_version": package_version("monai"),
        "pytorch_version": package_version("torch").split("+")[0],
        "numpy_version": package_version("numpy"),
        "required_packages_version": {"safetensors": package_version("safetensors")},
        "name": spec.name,
        "task": "Skin lesion segmentation in dermoscopic photographs",
        "description": spec.description or spec.name,
        "authors": "napari-skinseg contributors",
        "copyright": "napari-skinseg contributors",
        "license": spec.licence,
        "data_source": spec.training_data,
        "intended_use": "Research only. Not a medical device.",
        "network_data_format": {
            "inputs": {
                "image": {
                    **plane,
                    "format": "rgb",
                    "modality": "dermoscopy",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {
                        "0": "red",
                        "1": "green",
                        "2": "blue",
                        "3": "previous mask",
                        "4": "include clicks",
                        "5": "exclude clicks",
                    },
                }
            },
            "outputs": {
                "pred": {
                    **plane,
                    "format": "segmentation",
                    "modality": "n/a",
                    "num_channels": 1,
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {"0": "lesion (logit)"},
                }
            },
        },
        "napari_skinseg": _section(spec),
    }
