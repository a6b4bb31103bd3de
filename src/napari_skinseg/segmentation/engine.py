"""The program that runs the network of a model: ONNX Runtime on a CPU, torch on a GPU and for models without ONNX file.

ONNX Runtime starts in a fraction of the time of torch and is faster on a CPU; both give the same probabilities within
0.001.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.device import DeviceChoice, Runner, choose_device, cpu_in_words, why_no_gpu
from napari_skinseg.errors import BadInput
from napari_skinseg.models.bundle import BASE_WEIGHTS, WEIGHTS, Model, load, read_weights
from napari_skinseg.models.onnx_file import ONNX, OnnxNetwork

if TYPE_CHECKING:
    import torch


class Engine(Protocol):
    """Runs the network on the input float32 `[N, 6, h, w]`.

    Its outputs are float32: the logits `[N, 1, h, w]`, and `[N]` of a presence head if the model has one.
    """

    def __call__(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]: ...

    @property
    def in_words(self) -> str:
        """The device, the program, the precision and the reason for the choice."""

    @property
    def facts(self) -> Mapping[str, str]:
        """The values for records: "engine", "engine_version", "device" and "precision"."""

    def close(self) -> None:
        """Free the memory of the device; a later call allocates it again."""


def open_engine(
    model: Model | Path, device: str, precision: str, on_message: Callable[[str], None], base: bool = False
) -> tuple[Engine, str]:
    """Return the engine for a loaded model or the folder of a model, and the hash of its weights.

    A loaded model is always run by torch: its network may have changed since it was loaded.

    Args:
        model: the model.
        device: one of `device.DEVICES`.
        precision: one of `device.PRECISIONS`; for "auto" see `device.choose_device`.
        on_message: called with a sentence when the ONNX file of the model cannot be used, and by `device.Runner`.
        base: run the network before fine-tuning, of a model with `ModelSpec.guarded`.

    Raises:
        BadInput: the model, the device or the precision cannot be used.
    """
    if isinstance(model, Model):
        return TorchEngine(Runner(_network(model, base), choose_device(device, precision), on_message)), model.sha256
    note = ""
    why_cpu, choice = _why_cpu(device, precision)
    if why_cpu is not None and precision != "bfloat16":
        weights, sha256 = read_weights(model / (BASE_WEIGHTS if base else WEIGHTS))
        path = model / ONNX
        try:
            return OnnxEngine(OnnxNetwork(path, weights, sha256), why_cpu), sha256
        except BadInput as error:
            note = f"; the model has no ONNX file, {ONNX}"
            if path.exists():
                note = f"; the ONNX file of the model, {ONNX}, cannot be used"
                on_message(f"{error} Torch runs the model, which takes longer; add the model again to repair it.")
    loaded = load(model)
    network = _network(loaded, base)
    return TorchEngine(Runner(network, choice or choose_device(device, precision), on_message), note), loaded.sha256


def _network(model: Model, base: bool) -> "torch.nn.Module":
    if base:
        assert model.base is not None
        model = replace(model, network=model.base)
    return model.with_presence


def _why_cpu(device: str, precision: str) -> tuple[str | None, DeviceChoice | None]:
    """Return why the CPU is used, or None if it is not; and the result of `choose_device`, if it was called."""
    why = {"cpu": "chosen by the user", "auto": why_no_gpu()}.get(device)
    if why is not None:
        return why, None
    choice = choose_device(device, precision)
    return (choice.reason.partition(": ")[2] if choice.device == "cpu" else None), choice


class OnnxEngine:
    """ONNX Runtime on the CPU, in float32; `why` is the reason for the CPU in words."""

    def __init__(self, network: OnnxNetwork, why: str) -> None:
        self._network = network
        self.in_words = cpu_in_words("ONNX Runtime, float32", why)
        self.facts = _facts("onnxruntime", "cpu", "float32")

    def __call__(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        return self._network(batch)

    def close(self) -> None:
        """Do nothing: the network uses no memory but that of its weights."""


class TorchEngine:
    """Torch on any device; `note` is added to the reason for the device."""

    def __init__(self, runner: Runner, note: str = "") -> None:
        self._runner, self._note = runner, note

    @property
    def in_words(self) -> str:
        return self._runner.choice.reason + self._note

    @property
    def facts(self) -> Mapping[str, str]:
        return _facts("torch", self._runner.choice.device, self._runner.choice.precision)

    def __call__(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        import torch

        return tuple(np.asarray(output.numpy()) for output in self._runner.run(torch.from_numpy(batch)))

    def close(self) -> None:
        self._runner.close()


def _facts(engine: str, device: str, precision: str) -> dict[str, str]:
    return {"engine": engine, "engine_version": version(engine), "device": device, "precision": precision}
