"""Choose the device and the precision of a network, run the network on it by torch, and recover when memory runs out.

Every choice has a reason in words, which answers the question "why is it slow?".
A reduced precision or an Apple GPU is used only if a short trial on this computer gives correct numbers, and the Apple
GPU only if it is also faster than the CPU.
"""

import ctypes
import gc
import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .errors import BadInput

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cuda", "mps", "cpu")
PRECISIONS = ("auto", "float32", "bfloat16")
NO_CUDA = "torch was installed without support for NVIDIA GPUs"
TOLERANCE = 0.02
"""Largest allowed difference in probability between a device or precision and float32 on the CPU."""

Device = Literal["cuda", "mps", "cpu"]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class DeviceChoice:
    """A device, the precision of its convolutions, and the reason as text for users: "CPU (2 cores, bfloat16): …"."""

    device: Device
    precision: Precision
    reason: str


def check_choice(device: str, precision: str) -> None:
    """Raise `BadInput` if a device or a precision is not known."""
    if device not in DEVICES:
        raise BadInput(f"The device {device!r} is not known; choose one of {', '.join(DEVICES)}.")
    if precision not in PRECISIONS:
        raise BadInput(f"The precision {precision!r} is not known; choose one of {', '.join(PRECISIONS)}.")


def choose_device(prefer: str = "auto", precision: str = "auto", *, fast_cpu: bool = False) -> DeviceChoice:
    """Choose the fastest device that computes correct numbers with torch, or check the device that the user chose.

    Args:
        prefer: one of `DEVICES`; "auto" chooses CUDA, else an Apple GPU that is faster than the CPU, else the CPU.
        precision: one of `PRECISIONS`; "auto" chooses the fastest format with correct numbers on a GPU, and float32 on
            the CPU.
        fast_cpu: "auto" chooses the fastest format on the CPU, too; for training, where no two computers give the same
            weights.

    Raises:
        BadInput: the device or the precision is unknown, absent or gives wrong numbers; the sentence says what to do.
    """
    check_choice(prefer, precision)
    use_granted_cores()
    on_cpu = "fast" if precision == "auto" and fast_cpu else precision
    if prefer == "cpu":
        return _cpu("chosen by the user", on_cpu)
    missing = []
    for device in ("cuda", "mps") if prefer == "auto" else (prefer,):
        problem = _why_not_cuda() if device == "cuda" else _why_not_mps(must_be_faster=prefer == "auto")
        if problem is None:
            return _cuda(precision) if device == "cuda" else _mps(precision)
        missing.append(problem)
    if prefer != "auto":
        raise BadInput(f"The device {prefer!r} cannot be used: {missing[0]}; {_REMEDY[prefer]}, or choose 'cpu'.")
    return _cpu(missing[-1] if sys.platform == "darwin" else missing[0], on_cpu)


def why_no_gpu() -> str | None:
    """Return why there is no GPU for "auto", found without importing torch; None if only torch can tell.

    On a Mac the answer is always a sentence: with ONNX Runtime the processor needs some 20 ms for a photo, which an
    Apple GPU does not make up for after the seconds that torch needs to start.
    """
    if sys.platform == "darwin":
        return "torch is needed to use an Apple GPU; choose the device mps for it"
    if version("torch").endswith("+cpu"):
        return NO_CUDA
    driver = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    with suppress(OSError):
        ctypes.CDLL(driver)
        return None
    return None if Path("/dev/kfd").exists() else "no NVIDIA GPU with a working driver was found"  # kfd: AMD


def granted_cores() -> int:
    """Return the number of CPU cores that this process may use.

    It is the least of the processor's cores, those that a cluster pinned the process to, the limit of its container
    (cgroup), and `OMP_NUM_THREADS` if the user set it.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores, _cgroup_cores(), int(wanted) if wanted.isdecimal() else cores))


def use_granted_cores() -> None:
    """Limit the threads of torch to `granted_cores`; torch does not know the limit of a container."""
    import torch

    if torch.get_num_threads() > granted_cores():
        torch.set_num_threads(granted_cores())


def _cgroup_cores(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the limit of CPU cores of this container, rounded up; a very large number if there is none."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with suppress(OSError, ValueError):  # ValueError: "max", no limit
            quota, period = (int(word) for name in names for word in (root / name).read_text().split())
            if quota > 0 and period > 0:
                return math.ceil(quota / period)
    return sys.maxsize


def autocast(choice: DeviceChoice) -> AbstractContextManager[object]:
    """Return a context that runs torch operations in the chosen precision; float32 changes nothing."""
    import torch

    dtype = torch.float16 if choice.precision == "float16" else torch.bfloat16
    return torch.autocast(choice.device, dtype=dtype, enabled=choice.precision != "float32")


def move_to_device(network: "torch.nn.Module", choice: DeviceChoice) -> "torch.nn.Module":
    """Move `network` to the device, in the memory layout "channels last", in which convolutions are fastest."""
    import torch

    return network.to(torch.device(choice.device), memory_format=torch.channels_last)  # type: ignore[call-overload]


class Runner:
    """Runs a network on batches on the chosen device, and continues when memory runs out.

    When memory runs out, the runner halves the batch, down to a single image, and then moves the network to the CPU. It
    passes a message about each step to `on_message` and uses the smaller batch from then on. `choice` is the current
    device.
    """

    def __init__(
        self, network: "torch.nn.Module", choice: DeviceChoice, on_message: Callable[[str], None] = lambda message: None
    ) -> None:
        self.choice = choice
        self._network = network.eval()
        self._on_message = on_message
        self._is_on_device = False
        self._max_batch = sys.maxsize

    def __call__(self, batch: "torch.Tensor") -> "torch.Tensor":
        """Return the first output of the network, see `run`."""
        return self.run(batch)[0]

    def run(self, batch: "torch.Tensor") -> "tuple[torch.Tensor, ...]":
        """Return all outputs of the network for float32 [B, C, H, W], each as float32 [B, ...] on the CPU.

        Raises:
            BadInput: not even one image fits into the computer's memory.
        """
        import torch

        done: list[tuple[torch.Tensor, ...]] = []
        start = 0
        while start < len(batch):
            part = batch[start : start + self._max_batch]
            output = self._try(part)
            if output is None:
                # `_try` has returned, so its tensors are deleted and their memory can be freed.
                self._use_less_memory(len(part))
            else:
                done.append(output)
                start += len(part)
        return tuple(map(torch.cat, zip(*done, strict=True)))

    def close(self) -> None:
        """Move the network to the CPU and free the memory of the device; a later call moves the network back."""
        import torch

        if self._is_on_device:
            self._network.to(torch.device("cpu"))
            self._is_on_device = False
        _empty_cache(self.choice.device)

    def _try(self, batch: "torch.Tensor") -> "tuple[torch.Tensor, ...] | None":
        """Return the outputs in float32 on the CPU, or None if memory ran out."""
        import torch

        try:
            if not self._is_on_device:
                move_to_device(self._network, self.choice)
                self._is_on_device = True
            with torch.inference_mode(), autocast(self.choice):
                placed = batch.to(self.choice.device, memory_format=torch.channels_last)
                outputs = self._network(placed)
                return tuple(one.float().cpu() for one in (outputs if isinstance(outputs, tuple) else (outputs,)))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return None

    def _use_less_memory(self, failed: int) -> None:
        """Reduce the batch size, or move to the CPU, after a batch of `failed` images did not fit."""
        where = {"cuda": "The GPU", "mps": "The Apple GPU", "cpu": "This computer"}[self.choice.device]
        if failed > 1:
            self._max_batch = failed // 2
            self._on_message(
                f"{where} ran out of memory with {failed} images at a time; continuing with {self._max_batch}."
            )
            _empty_cache(self.choice.device)
        elif self.choice.device != "cpu":
            self.close()
            self.choice = _cpu(f"{where[0].lower()}{where[1:]} ran out of memory", "auto")
            self._max_batch = sys.maxsize
            self._on_message(
                f"{where} has too little free memory for one image; continuing on the CPU, which is slower."
            )
        else:
            raise BadInput(
                "One image does not fit into this computer's memory; close other programs or choose a smaller model."
            )


_REMEDY = {
    "cuda": "install an NVIDIA driver and the CUDA build of torch (docs/gpu.md lists the commands)",
    "mps": "an Apple-silicon Mac with macOS 13 or newer and the usual torch from pip is needed (docs/gpu.md)",
}


def cpu_in_words(engine: str, why: str) -> str:
    """Return the text for the CPU with an engine and a precision: "CPU (2 cores, torch, float32): …"."""
    cores = granted_cores()
    return f"CPU ({cores} core{'s' * (cores != 1)}, {engine}): {why}"


def _cpu(why: str, wanted: str) -> DeviceChoice:
    precision: Precision = _cpu_precision() if wanted == "fast" else "bfloat16" if wanted == "bfloat16" else "float32"
    return DeviceChoice("cpu", precision, cpu_in_words(f"torch, {precision}", why))


def _mps(wanted: str) -> DeviceChoice:
    if wanted == "bfloat16":
        raise BadInput("The precision bfloat16 was not tested on Apple GPUs; choose float32.")
    return DeviceChoice("mps", "float32", "Apple GPU (MPS), float32")


def _cuda(wanted: str) -> DeviceChoice:
    import torch

    card = torch.cuda.get_device_properties(torch.cuda.current_device())
    precision: Precision = _cuda_precision()
    if wanted != "auto":
        precision = "bfloat16" if wanted == "bfloat16" else "float32"
    if precision == "bfloat16" and _fault("cuda", precision, ""):
        raise BadInput(f"{card.name} gives wrong numbers in bfloat16; choose the precision float32.")
    return DeviceChoice("cuda", precision, f"{card.name}, {card.total_memory / 1e9:.0f} GB, {precision}")


def _why_not_cuda() -> str | None:
    """Return why CUDA cannot be used, or None if it can."""
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return NO_CUDA
    if not torch.cuda.is_available():
        return "no NVIDIA GPU with a working driver was found"
    return _fault("cuda", "float32", torch.cuda.get_device_name())


def _why_not_mps(must_be_faster: bool) -> str | None:
    """Return why the Apple GPU is not used, or None if it is."""
    import torch

    if not torch.backends.mps.is_available():
        return "no Apple GPU (MPS) that torch can use was found"
    fault = _fault("mps", "float32", "the Apple GPU (MPS)")
    if fault is None and must_be_faster and _trial("mps", "float32").seconds > _trial("cpu", _cpu_precision()).seconds:
        return "faster than the Apple GPU (MPS) on this computer"
    return fault


def _cpu_precision() -> Precision:
    """Return bfloat16 if the CPU has bfloat16 instructions and computes correct numbers with them, else float32.

    The hardware decides, not a timing, so that a busy computer gives the same masks and a seed gives the same weights.
    Without these instructions, bfloat16 is emulated, which is several times slower.
    """
    import torch

    supported = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # older versions of torch do not have both
    native = any(getattr(torch.cpu, name, bool)() for name in supported)
    correct = native and _difference(_trial("cpu", "float32"), _trial("cpu", "bfloat16")) <= TOLERANCE
    return "bfloat16" if correct else "float32"


def _cuda_precision() -> Precision:
    """Choose the fast format of the tensor cores, or float32 if this GPU computes wrong numbers in that format.

    Some GTX 16 GPUs compute wrong numbers in float16.
    """
    import torch

    precision: Precision = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return precision if _fault("cuda", precision, "") is None else "float32"


@dataclass(frozen=True)
class _Trial:
    probability: "torch.Tensor"
    seconds: float


def _fault(device: Device, precision: Precision, name: str) -> str | None:
    """Run the trial on `device` and return what went wrong, or None."""
    try:
        trial = _trial(device, precision)
    except RuntimeError as error:
        return f"{name} failed a short trial ({str(error).splitlines()[0]})"
    if _difference(_trial("cpu", "float32"), trial) > TOLERANCE:
        return f"{name} gave wrong numbers in a short trial"
    return None


def _difference(reference: _Trial, other: _Trial) -> float:
    """Return the largest difference in probability; infinity if one of them is NaN."""
    return float((reference.probability - other.probability).abs().nan_to_num(nan=float("inf")).max())


@cache
def _trial(device: Device, precision: Precision) -> _Trial:
    """Time 3x3 convolutions with 32 and 64 channels on 96x128 pixels, the typical work of the networks.

    The trial takes about 30 ms, and a little over 0.2 s where the precision is emulated.
    """
    import torch
    from torch.nn import functional

    # A separate generator, so that the trial does not change the state of torch's global generator.
    random = torch.Generator().manual_seed(0)
    sizes = [(32, 6), (64, 32), (64, 64), (1, 64)]
    kernels = [torch.randn(*size, 3, 3, generator=random) * (2 / (9 * size[1])) ** 0.5 for size in sizes]
    kernels = [kernel.to(device, memory_format=torch.channels_last) for kernel in kernels]
    image = torch.randn(1, 6, 96, 128, generator=random).to(device, memory_format=torch.channels_last)

    def run() -> torch.Tensor:
        features = image
        for kernel in kernels[:-1]:
            features = functional.relu(functional.conv2d(features, kernel, padding=1))
        return functional.conv2d(features, kernels[-1], padding=1).float().sigmoid().cpu()

    times: list[float] = []
    with torch.inference_mode(), autocast(DeviceChoice(device, precision, "")):
        probability = run()
        begin = time.perf_counter()
        while len(times) < 8 and time.perf_counter() - begin < 0.2:
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    return _Trial(probability, min(times))


def out_of_memory(error: BaseException) -> bool:
    """Return whether the error means that memory ran out, on any device."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return any(sign in text for sign in ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed"))


def _empty_cache(device: Device) -> None:
    import torch

    if device == "cpu":
        return  # torch has no cache on the CPU, and a garbage collection takes a tenth of a second
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    else:
        torch.mps.empty_cache()
