"""The ONNX file of a model, by which ONNX Runtime runs the network on a CPU without torch.

`models/model.onnx` holds the graph of the network. Its weights are ONNX external data in `model.safetensors` beside it,
float16, and become float32 when the file is loaded: so no weight is stored twice. The metadata properties `HASHES` name
the weights for which the file was made and compared with torch by `onnx_export`; with other weights it is not used.

The file is data: the graph must consist of standard operators without sub-graphs, and no tensor may be in any other
file. The bytes of the file are checked (protobuf, https://protobuf.dev/programming-guides/encoding; field numbers from
onnx.proto3), because ONNX Runtime names external data only after it has opened them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.device import granted_cores
from napari_skinseg.errors import BadInput

ONNX = Path("models") / "model.onnx"
WEIGHTS_FILE = "model.safetensors"
MAX_BYTES = 2**23
HASHES = ("weights_sha256", "base_sha256")
"""Hashes of the weights of the model, and of those before fine-tuning, to which the same graph belongs."""
INPUT = "image"
OUTPUTS = ("logits", "presence")
"""The second output is that of a presence head; not every model has one."""


class OnnxNetwork:
    """A network in ONNX Runtime, on the CPU in float32.

    Photos run one by one, because a batch is not faster on a CPU; so the output for a photo does not depend on the
    photos beside it.

    Args:
        path: the ONNX file.
        weights: content of the weights file of the model.
        sha256: hash of this content.

    Raises:
        BadInput: the file is missing, damaged, made for other weights, or contains what no model needs; torch can run
            the model without this file.
    """

    def __init__(self, path: Path, weights: bytes, sha256: str) -> None:
        content = read(path)
        if sha256 not in map(metadata(content).get, HASHES):
            raise BadInput(f"{path} was made for other weights than those of the model.")
        self._session = _session(content, weights, path)

    def __call__(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Return the outputs for the input float32 `[N, 6, h, w]`: logits `[N, 1, h, w]`, perhaps presence `[N]`."""
        outputs = zip(*(self._session.run(None, {INPUT: photo[None]}) for photo in batch), strict=True)
        return tuple(map(np.concatenate, outputs))


def read(path: Path) -> bytes:
    """Return the content of an ONNX file after checking that it holds only what the file of a model may hold.

    Raises:
        BadInput: the file is missing, too large, damaged, or refers to other files or operators.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadInput(f"{path} is larger than the limit of {MAX_BYTES >> 20} MiB.")
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}).") from error
    try:
        problem = _problem(content)
    except (IndexError, ValueError) as error:
        raise BadInput(f"{path} is not a complete ONNX file.") from error
    if problem:
        raise BadInput(f"{path} is refused: it has {problem}.")
    return content


def metadata(content: bytes) -> dict[str, str]:
    """Return the metadata properties of an ONNX file."""
    return {_text(entry, 1): _text(entry, 2) for entry in _parts(memoryview(content), 14)}


def with_metadata(content: bytes, values: dict[str, str]) -> bytes:
    """Return the content of an ONNX file with these metadata properties and no others."""
    fields = [raw for number, raw, _ in _fields(memoryview(content)) if number != 14]
    entries = [_field(1, key.encode()) + _field(2, value.encode()) for key, value in values.items()]
    return b"".join([*fields, *(_field(14, entry) for entry in entries)])


def _session(content: bytes, weights: bytes, path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = granted_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised
    # Waiting threads sleep, because polling threads take processor time from other programs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_external_initializers_from_files_in_memory([WEIGHTS_FILE], [weights], [len(weights)])
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common class but this
        raise BadInput(f"{path} cannot be loaded ({str(error).splitlines()[0][:200]}).") from error
    names = [value.name for value in session.get_inputs()], [value.name for value in session.get_outputs()]
    if names not in (([INPUT], list(OUTPUTS[:1])), ([INPUT], list(OUTPUTS))):
        raise BadInput(f"{path} has other inputs and outputs than a model of napari-skinseg.")
    return session


def _problem(content: bytes) -> str | None:
    """Return what a model file must not contain and this one does, or None."""
    model = memoryview(content)
    graphs = _parts(model, 7)
    if len(graphs) != 1:
        return "no graph"
    if _parts(model, 20) or _parts(model, 25):
        return "functions or training steps"
    if any(_text(operators, 1) for operators in _parts(model, 8)):
        return "operators that are not of ONNX itself"
    tensors = _parts(graphs[0], 5)
    for node in _parts(graphs[0], 1):
        if _text(node, 7):
            return "operators that are not of ONNX itself"
        for attribute in _parts(node, 5):
            if _parts(attribute, 6) or _parts(attribute, 11) or _parts(attribute, 22) or _parts(attribute, 23):
                return "sub-graphs or sparse tensors"
            tensors += _parts(attribute, 5) + _parts(attribute, 10)
    if _parts(graphs[0], 15):
        return "sparse tensors"
    for tensor in tensors:
        for entry in _parts(tensor, 13):
            if _text(entry, 1) == "location" and _text(entry, 2) != WEIGHTS_FILE:
                return "data in another file"
    return None


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Yield the number, the whole bytes and the content of each field of a protobuf message; raise if it is damaged."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        kind = tag & 7
        length = 0
        if kind == 2:
            length, at = _varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        elif kind == 0:
            length = _varint(message, at)[1] - at
        else:
            raise ValueError("a field has an unknown type")
        if at + length > len(message):
            raise ValueError("a field is longer than the message")
        yield tag >> 3, message[start : at + length], message[at : at + length]
        at += length


def _parts(message: memoryview, number: int) -> list[memoryview]:
    return [content for found, _, content in _fields(message) if found == number]


def _text(message: memoryview, number: int) -> str:
    """Return a text field; the last one counts, and a missing one is empty."""
    return bytes((_parts(message, number) or [memoryview(b"")])[-1]).decode()


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return the number of variable length at `at`, and the place after it."""
    value = shift = 0
    while True:
        if shift > 63:
            raise ValueError("a number is too long")
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _field(number: int, content: bytes) -> bytes:
    """Return a field of bytes."""
    return _as_varint(number << 3 | 2) + _as_varint(len(content)) + content


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
