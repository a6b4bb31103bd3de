"""Write a network as ONNX: the file `models/model.onnx` of a model, and a file for other programs.

torch's exporter needs the extra `onnx`. A model with the network and the input size of a bundled model, such as every
fine-tuned one, needs no exporter: it gets the graph of that model.
"""

import json
import logging
import struct
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_skinseg.errors import BadInput
from napari_skinseg.files import atomic

from . import bundle, onnx_file
from .click_channels import Click, encode_clicks
from .network import CLICK_CHANNELS, IMAGE_CHANNELS, build

if TYPE_CHECKING:
    import torch

TOLERANCE = 1e-3
"""Largest allowed difference in probability between an exported network and the model."""


def write_onnx(folder: Path) -> str | None:
    """Write the ONNX file of a model, after comparing its output with that of torch; a correct file is kept.

    Args:
        folder: folder of the model.

    Returns:
        None, or a sentence why the model has no ONNX file; then torch runs the model.

    Raises:
        BadInput: the model is damaged or its folder cannot be written.
    """
    model, path = bundle.load(folder), folder / onnx_file.ONNX
    try:
        _compare(model, folder, path)
        return None
    except BadInput:
        path.unlink(missing_ok=True)
    try:
        weights, sha256 = bundle.read_weights(folder / bundle.WEIGHTS)
        graph = _graph(model.spec, weights[: _header_end(weights)])
        hashes = {onnx_file.HASHES[0]: sha256}
        if model.base is not None:
            hashes[onnx_file.HASHES[1]] = bundle.read_weights(folder / bundle.BASE_WEIGHTS)[1]
        with atomic(path) as temporary:
            temporary.write_bytes(onnx_file.with_metadata(graph, hashes))
            _compare(model, folder, temporary)
    except BadInput as error:
        return f"{model.spec.name} has no ONNX file and is run by torch: {error}"
    return None


def export_network(network: "torch.nn.Module", inputs: "torch.Tensor", optimise: bool) -> Any:
    """Return the `torch.onnx.ONNXProgram` of a network for any number of photos.

    Raises:
        BadInput: the extra `onnx` is not installed.
    """
    try:
        import onnxscript  # noqa: F401  (the exporter of torch needs it)
    except ImportError as error:
        raise BadInput(
            f"ONNX needs more packages ({error}); install them: pip install 'napari-skinseg[onnx]'"
        ) from error
    import torch

    from .presence import NetworkWithPresence

    log = logging.getLogger("torch.onnx")
    level = log.level
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)  # torch's
        log.setLevel(logging.ERROR)  # it logs each missing operator of torchvision
        try:
            return torch.onnx.export(
                network,
                (inputs,),
                input_names=[onnx_file.INPUT],
                output_names=list(onnx_file.OUTPUTS[: 2 if isinstance(network, NetworkWithPresence) else 1]),
                dynamic_shapes=({0: torch.export.Dim("photos")},),
                dynamo=True,
                verbose=False,
                optimize=optimise,
            )
        finally:
            log.setLevel(level)


def example(spec: bundle.ModelSpec) -> "torch.Tensor":
    """Return an input float32 `[2, 6, h, w]`: one photo without clicks, and one with a mask and clicks."""
    random = np.random.default_rng(0)
    height, width = spec.input_size
    images = random.normal(size=(2, IMAGE_CHANNELS, height, width)).astype(np.float32)
    channels = np.zeros((2, CLICK_CHANNELS, height, width), np.float32)
    clicks = [Click(height / 3, width / 3), Click(height / 2, width / 2, include=False)]
    channels[1] = encode_clicks(spec.input_size, spec.input_size, clicks, random.random((height, width), np.float32))
    import torch

    return torch.from_numpy(np.concatenate([images, channels], axis=1))


def check_outputs(model: bundle.Model, inputs: "torch.Tensor", outputs: "Sequence[torch.Tensor]", target: Path) -> None:
    """Raise `BadInput` if `outputs`, the logits and perhaps the presence, are not those of the model for `inputs`."""
    import torch

    with torch.inference_mode():
        wanted = model.with_presence(inputs)
    for one, output in zip(wanted if isinstance(wanted, tuple) else (wanted,), outputs, strict=False):
        difference = float((one.sigmoid() - output.sigmoid()).abs().max())
        if not difference <= TOLERANCE:  # the negation also refuses NaN
            raise BadInput(
                f"{target} was not written: in this format the probabilities of {model.spec.name} differ by "
                f"{difference:.3g}; choose another format."
            )


def network_json(model: bundle.Model) -> str:
    """Return JSON with the values that a program needs to use the network."""
    spec = model.spec
    facts = {
        "name": spec.name,
        "version": spec.version,
        "weights_sha256": model.sha256,
        "licence": spec.licence,
        "training_data": spec.training_data,
        "input": "float32 [N, 6, h, w]: RGB / 255 at input_size, minus mean, over std; previous mask; discs of include "
        "clicks; discs of exclude clicks. The last three are zero for automatic use.",
        "output": "float32 [N, 1, h, w]: logits; a pixel is lesion where sigmoid(logit) >= threshold",
        "presence": "float32 [N], the second output in ONNX files of a model with a presence head: logit that a photo "
        "shows a lesion; none is outlined where sigmoid(presence) < no_lesion",
        "input_size": spec.input_size,
        "mean": spec.mean,
        "std": spec.std,
        "threshold": spec.threshold,
        "no_lesion": spec.no_lesion,
    }
    return json.dumps(facts, ensure_ascii=False)


def _compare(model: bundle.Model, folder: Path, path: Path) -> None:
    """Raise `BadInput` if the ONNX file `path` cannot be used or gives other results than torch."""
    import torch

    inputs = example(model.spec)
    for file, network in ((bundle.WEIGHTS, model.network), (bundle.BASE_WEIGHTS, model.base)):
        if network is not None:
            outputs = onnx_file.OnnxNetwork(path, *bundle.read_weights(folder / file))(inputs.numpy())
            check_outputs(replace(model, network=network), inputs, list(map(torch.from_numpy, outputs)), path)


def _graph(spec: bundle.ModelSpec, header: bytes) -> bytes:
    """Return an ONNX file for weights with this safetensors header; of a bundled model if one has the same network."""
    for folder in sorted(bundle.BUNDLED_MODELS.iterdir()):
        known = bundle.read_spec(folder)
        same = (known.network, known.network_arguments, known.input_size) == (
            spec.network,
            spec.network_arguments,
            spec.input_size,
        )
        weights = folder / bundle.WEIGHTS
        if same and (folder / onnx_file.ONNX).is_file() and weights.read_bytes().startswith(header):
            return onnx_file.read(folder / onnx_file.ONNX)
    return _export_graph(spec.network, json.dumps(dict(spec.network_arguments)), spec.input_size, header)


@cache
def _export_graph(name: str, arguments: str, size: tuple[int, int], header: bytes) -> bytes:
    """Return an ONNX file whose weights are external data in a safetensors file with this header."""
    network = build(name, json.loads(arguments)).eval()
    entries = json.loads(header[8:])
    if any(key.startswith(bundle.PRESENCE) for key in entries):
        from .presence import NetworkWithPresence, PresenceHead, count_features

        network = NetworkWithPresence(network, PresenceHead(count_features(network, size) or 1)).eval()
    inputs = example(bundle.ModelSpec("example", name, {}, size, (0, 0, 0), (1, 1, 1)))
    model = export_network(network, inputs, optimise=False).model
    import onnx_ir as ir
    from onnxscript import optimizer

    graph = model.graph
    named = {value: _stored_name(value.name or "") for value in graph.initializers.values()}
    weights = {value: key for value, key in named.items() if key in entries}
    # The optimiser must not compute with the weights, so they are inputs while it runs.
    for value in weights:
        del graph.initializers[value.name or ""]
        value.const_value = None
        graph.inputs.append(value)
    optimizer.optimize(model)
    for value, key in weights.items():
        graph.inputs.remove(value)
        entry = entries[key]
        start, end = (len(header) + offset for offset in entry["data_offsets"])
        kind = {"F16": ir.DataType.FLOAT16, "F32": ir.DataType.FLOAT}[entry["dtype"]]
        data = ir.ExternalTensor(
            onnx_file.WEIGHTS_FILE, start, end - start, kind, shape=ir.Shape(entry["shape"]), name=key
        )
        stored = ir.Value(name=key, type=ir.TensorType(kind), shape=data.shape, const_value=data)
        value.name = f"{key}/float32"
        cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT.value})
        ir.convenience.replace_all_uses_with(value, cast.outputs[0])
        graph.insert_before(graph[0], cast)
        graph.initializers[key] = stored
    for node in graph:  # the exporter's notes are twenty times larger than the graph
        node.metadata_props.clear()
        node.doc_string = None
        for output in node.outputs:
            output.metadata_props.clear()
    return bytes(ir.to_proto(model).SerializeToString())


def _stored_name(name: str) -> str:
    """Return the name in the weights file for a tensor of a `NetworkWithPresence`; names without it stay the same."""
    head = name.removeprefix("head.")
    return name.removeprefix("network.") if head == name else f"{bundle.PRESENCE}{head}"


def _header_end(weights: bytes) -> int:
    """Return the length of the header of a safetensors file: a number of 8 bytes, and as many bytes of JSON."""
    return 8 + int(struct.unpack("<Q", weights[:8])[0])
