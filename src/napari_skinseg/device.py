"""Where a network runs: which device, in which precision, and what happens when its memory runs out.

Every choice carries its reason in words, because "why is it slow?" is answered by "CPU: this torch build has no CUDA".
Reduced precision and Apple's GPU are used only after a short trial on this very machine, kept for the process's life.
"""

import gc
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Literal

from .errors import BadInput

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cuda", "mps", "cpu")
WORTH_IT = 1.15
"""How many times faster than float32 a reduced precision must be on a CPU before it is used."""
TOLERANCE = 0.02
"""Largest difference in probability that a device or a precision may make in the trial."""

Device = Literal["cuda", "mps", "cpu"]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class DeviceChoice:
    """A device, the precision of its convolutions, and the reason, fit to be shown: "CPU (2 cores, bfloat16): …"."""

    device: Device
    precision: Precision
    reason: str


def choose_device(prefer: str = "auto") -> DeviceChoice:
    """Choose the fastest device that gives the right numbers, or check the one that a person asked for.

    Args:
        prefer: one of `DEVICES`; "auto" takes CUDA, else Apple's GPU when it is faster than the CPU, else the CPU.

    Raises:
        BadInput: the device is unknown, absent or computes wrong numbers; the sentence says what to install.
    """
    if prefer not in DEVICES:
        raise BadInput(f"The device {prefer!r} is not known; choose one of {', '.join(DEVICES)}.")
    if prefer == "cpu":
        return _cpu("as asked")
    missing = []
    for device in ("cuda", "mps") if prefer == "auto" else (prefer,):
        problem = _why_not_cuda() if device == "cuda" else _why_not_mps(must_be_faster=prefer == "auto")
        if problem is None:
            return _cuda() if device == "cuda" else DeviceChoice("mps", "float32", "Apple GPU (MPS), float32")
        missing.append(problem)
    if prefer != "auto":
        raise BadInput(f"The device {prefer!r} cannot be used: {missing[0]}; {_REMEDY[prefer]}, or choose 'cpu'.")
    return _cpu(missing[-1] if sys.platform == "darwin" else missing[0])


def autocast(choice: DeviceChoice) -> AbstractContextManager[object]:
    """Run what is inside in the chosen precision; outside and for float32 nothing changes."""
    import torch

    dtype = torch.float16 if choice.precision == "float16" else torch.bfloat16
    return torch.autocast(choice.device, dtype=dtype, enabled=choice.precision != "float32")


def for_learning(choice: DeviceChoice) -> DeviceChoice:
    """The same device, in the precision to learn in there.

    On a CPU that computes bfloat16 itself, mixed precision makes a step a third shorter; where that is emulated it is
    several times longer, and the short trial of `choose_device` says nothing about gradients. Told by the hardware and
    not by a clock, so that a seed gives the same weights again.
    """
    import torch

    if choice.device != "cpu":
        return choice
    native = any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return replace(choice, precision="bfloat16" if native else "float32")


def move_to_device(network: "torch.nn.Module", choice: DeviceChoice) -> "torch.nn.Module":
    """Move `network` to the device, with the channels last in memory: the layout that convolutions are fastest in."""
    import torch

    return network.to(torch.device(choice.device), memory_format=torch.channels_last)  # type: ignore[call-overload]


class Runner:
    """Runs a network over batches wherever it was decided to, and goes on when memory runs out.

    Out of memory, it halves the batch, down to a single image, then moves to the CPU; each step is told to `say` and
    kept for the batches that follow. `choice` is always the one in force.
    """

    def __init__(
        self, network: "torch.nn.Module", choice: DeviceChoice, say: Callable[[str], None] = lambda message: None
    ) -> None:
        self.choice = choice
        self._network = network.eval()
        self._say = say
        self._placed = False
        self._most = sys.maxsize

    def __call__(self, batch: "torch.Tensor") -> "torch.Tensor":
        """Return the network's output for float32 [B, C, H, W], as float32 [B, C', H', W'] on the CPU.

        Raises:
            BadInput: not even one image fits into the computer's memory.
        """
        import torch

        done: list[torch.Tensor] = []
        start = 0
        while start < len(batch):
            part = batch[start : start + self._most]
            output = self._try(part)
            if output is None:
                # Here the failed attempt's frames, and with them its tensors, are gone, so the memory can be returned.
                self._step_down(len(part))
            else:
                done.append(output)
                start += len(part)
        return torch.cat(done) if len(done) > 1 else done[0]

    def close(self) -> None:
        """Take the network off the device and give its memory back; a later call places it there again."""
        import torch

        if self._placed:
            self._network.to(torch.device("cpu"))
            self._placed = False
        _empty_cache(self.choice.device)

    def _try(self, batch: "torch.Tensor") -> "torch.Tensor | None":
        """Return the output in float32 on the CPU, or None when the memory did not suffice."""
        import torch

        try:
            if not self._placed:
                move_to_device(self._network, self.choice)
                self._placed = True
            with torch.inference_mode(), autocast(self.choice):
                placed = batch.to(self.choice.device, memory_format=torch.channels_last)
                output: torch.Tensor = self._network(placed)
                return output.float().cpu()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return None

    def _step_down(self, failed: int) -> None:
        """Ask for less after a batch of `failed` images did not fit."""
        where = {"cuda": "The GPU", "mps": "The Apple GPU", "cpu": "This computer"}[self.choice.device]
        if failed > 1:
            self._most = failed // 2
            self._say(f"{where} ran out of memory with {failed} images at a time; going on with {self._most}.")
            _empty_cache(self.choice.device)
        elif self.choice.device != "cpu":
            self.close()
            self.choice = _cpu(f"{where[0].lower()}{where[1:]} ran out of memory")
            self._most = sys.maxsize
            self._say(f"{where} has too little free memory for one image; going on with the CPU, which is slower.")
        else:
            raise BadInput(
                "One image does not fit into this computer's memory; close other programs or choose a smaller model."
            )


_REMEDY = {
    "cuda": "install an NVIDIA driver and the CUDA build of torch (docs/gpu.md has the line)",
    "mps": "an Apple-silicon Mac with macOS 13 or newer and the usual torch from pip is needed (docs/gpu.md)",
}


def _cpu(why: str) -> DeviceChoice:
    precision = _cpu_precision()
    cores = _cores()
    return DeviceChoice("cpu", precision, f"CPU ({cores} core{'s' * (cores != 1)}, {precision}): {why}")


def _cuda() -> DeviceChoice:
    import torch

    card = torch.cuda.get_device_properties(torch.cuda.current_device())
    precision = _cuda_precision()
    return DeviceChoice("cuda", precision, f"{card.name}, {card.total_memory / 1e9:.0f} GB, {precision}")


def _why_not_cuda() -> str | None:
    """Say why CUDA cannot be used, or return None when it can."""
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return "this torch build has no CUDA"
    if not torch.cuda.is_available():
        return "no NVIDIA GPU with a working driver was found"
    return _fault("cuda", "float32", torch.cuda.get_device_name())


def _why_not_mps(must_be_faster: bool) -> str | None:
    """Say why Apple's GPU cannot be used, or return None when it can."""
    import torch

    if not torch.backends.mps.is_available():
        return "no Apple GPU (MPS) that torch can use was found"
    fault = _fault("mps", "float32", "the Apple GPU (MPS)")
    if fault is None and must_be_faster and _trial("mps", "float32").seconds > _trial("cpu", _cpu_precision()).seconds:
        return "it is faster here than the Apple GPU (MPS)"
    return fault


def _cpu_precision() -> Precision:
    reference, reduced = _trial("cpu", "float32"), _trial("cpu", "bfloat16")
    gains = reduced.seconds * WORTH_IT <= reference.seconds
    return "bfloat16" if gains and _difference(reference, reduced) <= TOLERANCE else "float32"


def _cuda_precision() -> Precision:
    """Take what the tensor cores are fast in, unless this card gets it wrong (some GTX 16 cards do in float16)."""
    import torch

    precision: Precision = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return precision if _fault("cuda", precision, "") is None else "float32"


def _cores() -> int:
    """CPU cores this process may use and torch does use: what a cluster granted, not what the machine has."""
    import torch

    granted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(granted, torch.get_num_threads())


@dataclass(frozen=True)
class _Trial:
    probability: "torch.Tensor"
    seconds: float


def _fault(device: Device, precision: Precision, name: str) -> str | None:
    """Run the trial on `device` and say what went wrong, or return None."""
    try:
        trial = _trial(device, precision)
    except RuntimeError as error:
        return f"{name} failed a short trial ({str(error).splitlines()[0]})"
    if _difference(_trial("cpu", "float32"), trial) > TOLERANCE:
        return f"{name} gave wrong numbers in a short trial"
    return None


def _difference(reference: _Trial, other: _Trial) -> float:
    """Return the largest difference in probability; a NaN counts as infinitely different."""
    return float((reference.probability - other.probability).abs().nan_to_num(nan=float("inf")).max())


@cache
def _trial(device: Device, precision: Precision) -> _Trial:
    """Time a few 3x3 convolutions of 32 and 64 channels, the bread of every U-Net here, at 96x128.

    Takes about 30 ms, and not much over 0.2 s where the precision is emulated.
    """
    import torch
    from torch.nn import functional

    # Own generator: whoever seeded torch's global one must not notice the trial.
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
    """Whether an error says that memory ran out, on whatever device."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return any(sign in text for sign in ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed"))


def _empty_cache(device: Device) -> None:
    import torch

    if device == "cpu":
        return  # nothing is cached there, and a collection takes a tenth of a second
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    else:
        torch.mps.empty_cache()
