"""Choice of the device, reduced precision, and recovery when memory runs out."""

import gc
import os
import subprocess
import sys
import weakref

import pytest
import torch
from torch import nn

from napari_skinseg import device
from napari_skinseg.device import DeviceChoice, Runner, choose_device
from napari_skinseg.errors import BadInput

CPU = DeviceChoice("cpu", "float32", "for the test")

gpu = pytest.mark.gpu
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="this computer has no CUDA device")


class LimitedNetwork(nn.Module):
    """A network that raises an out-of-memory error for batches of more than `most` images."""

    def __init__(self, most: int, error: Exception | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 1, 3, padding=1)
        self.most, self.error = most, error or torch.OutOfMemoryError("out of memory")
        self.sizes: list[int] = []

    def forward(self, batch):
        self.sizes.append(len(batch))
        if len(batch) > self.most:
            raise self.error
        return self.conv(batch)


def batch_of(count: int) -> torch.Tensor:
    return torch.randn(count, 6, 32, 48, generator=torch.Generator().manual_seed(1))


def test_a_choice_has_a_reason_in_words():
    choice = choose_device("cpu")
    assert choice.device == "cpu"
    assert choice.reason.startswith("CPU (")
    assert choice.precision in choice.reason
    assert choice.reason.endswith("chosen by the user")


@pytest.mark.skipif(torch.version.cuda is not None or torch.backends.mps.is_built(), reason="this torch has a GPU part")
def test_without_a_gpu_the_cpu_is_chosen_with_a_reason():
    assert choose_device().reason.endswith(": torch was installed without support for NVIDIA GPUs")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this computer has a CUDA device")
def test_choosing_an_absent_gpu_raises_and_says_what_to_install():
    with pytest.raises(BadInput, match=r"'cuda' cannot be used: .*install .*or choose 'cpu'"):
        choose_device("cuda")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this computer has an Apple GPU")
def test_choosing_an_absent_apple_gpu_raises_and_says_what_is_needed():
    with pytest.raises(BadInput, match=r"'mps' cannot be used: no Apple GPU.*or choose 'cpu'"):
        choose_device("mps")


def test_the_cpu_uses_float32_unless_training_or_the_user_asks_for_more_speed(monkeypatch):
    pretend(monkeypatch, native=True, seconds=0.1)
    assert choose_device("cpu").precision == "float32"
    assert choose_device("cpu", fast_cpu=True).precision == "bfloat16"
    assert choose_device("cpu", "bfloat16").precision == "bfloat16"
    assert choose_device("cpu", "float32", fast_cpu=True).precision == "float32"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, sys.maxsize),
        ({"cpu.max": "max 100000"}, sys.maxsize),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, sys.maxsize),
        ({"cpu.max": "damaged"}, sys.maxsize),
    ],
)
def test_the_limit_of_a_container_is_read(tmp_path, files, cores):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert device._cgroup_cores(tmp_path) == cores


def test_the_number_of_threads_that_the_user_set_is_a_limit(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert device.granted_cores() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "not a number")
    assert device.granted_cores() >= 1


@pytest.mark.parametrize(("given", "expected"), [({}, "PASSIVE 0"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE 0")])
def test_waiting_threads_sleep_unless_the_user_wants_otherwise(given, expected):
    unset = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME")}
    code = "import os, napari_skinseg; print(os.environ['OMP_WAIT_POLICY'], os.environ['KMP_BLOCKTIME'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**unset, **given}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected


def test_an_unknown_device_raises():
    with pytest.raises(BadInput, match="'tpu' is not known; choose one of auto, cuda, mps, cpu"):
        choose_device("tpu")


def pretend(monkeypatch, native: bool, seconds: float, error: float = 0.0) -> None:
    """Pretend that the CPU has bfloat16 instructions or not, and replace the trial of bfloat16."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    probability = torch.full((4, 4), 0.5)
    trials = {"float32": device._Trial(probability, 1.0), "bfloat16": device._Trial(probability + error, seconds)}
    monkeypatch.setattr(device, "_trial", lambda name, precision: trials[precision])


@pytest.mark.parametrize("seconds", [0.1, 0.9, 10.0], ids=["faster", "equal", "slower"])
@pytest.mark.parametrize(("native", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_the_hardware_and_not_a_timing_decides_the_cpu_precision(monkeypatch, native, precision, seconds):
    pretend(monkeypatch, native, seconds)
    assert choose_device("cpu", fast_cpu=True).precision == precision


def test_bfloat16_with_wrong_numbers_is_not_used(monkeypatch):
    pretend(monkeypatch, native=True, seconds=0.1, error=2 * device.TOLERANCE)
    assert choose_device("cpu", fast_cpu=True).precision == "float32"


def test_the_trial_does_not_change_the_global_random_generator():
    device._trial.cache_clear()
    state = torch.get_rng_state()
    choose_device("cpu")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_trial_with_nan_counts_as_wrong():
    good = device._trial("cpu", "float32")
    broken = device._Trial(torch.full_like(good.probability, float("nan")), 0.0)
    assert device._difference(good, broken) == float("inf")


def test_the_runner_returns_the_output_of_the_network():
    network, batch = LimitedNetwork(most=8), batch_of(3)
    with torch.no_grad():
        expected = network.conv(batch)
    torch.testing.assert_close(Runner(network, CPU)(batch), expected)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_output_is_float32_on_the_cpu_without_gradients(precision):
    output = Runner(LimitedNetwork(most=8), DeviceChoice("cpu", precision, ""))(batch_of(2))
    assert (output.dtype, output.device.type, output.requires_grad) == (torch.float32, "cpu", False)


def test_a_chosen_bfloat16_is_used():
    dtypes = []
    network = LimitedNetwork(most=8)
    network.conv.register_forward_hook(lambda module, given, output: dtypes.append(output.dtype))
    Runner(network, DeviceChoice("cpu", "bfloat16", ""))(batch_of(1))
    assert dtypes == [torch.bfloat16]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to …"),
        MemoryError(),
    ],
)
def test_out_of_memory_halves_the_batch_with_a_message(error):
    network, batch, messages = LimitedNetwork(most=2, error=error), batch_of(7), []
    runner = Runner(network, CPU, messages.append)
    with torch.no_grad():
        torch.testing.assert_close(runner(batch), network.conv(batch))
    assert network.sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert messages == [
        "This computer ran out of memory with 7 images at a time; continuing with 3.",
        "This computer ran out of memory with 3 images at a time; continuing with 1.",
    ]


def test_a_batch_size_that_did_not_fit_is_not_tried_again():
    network = LimitedNetwork(most=2)
    runner = Runner(network, CPU)
    runner(batch_of(4))
    runner(batch_of(4))
    assert network.sizes == [4, 2, 2, 2, 2]


def test_one_image_that_does_not_fit_raises():
    with pytest.raises(BadInput, match="does not fit into this computer's memory"):
        Runner(LimitedNetwork(most=0), CPU)(batch_of(2))


def test_other_errors_of_the_network_are_raised():
    with pytest.raises(RuntimeError, match="channels"):
        Runner(LimitedNetwork(most=8), CPU)(torch.zeros(1, 5, 32, 32))


def test_a_closed_runner_can_be_used_again_and_keeps_no_reference():
    network = LimitedNetwork(most=8)
    runner = Runner(network, CPU)
    first = runner(batch_of(1))
    runner.close()
    torch.testing.assert_close(runner(batch_of(1)), first)
    runner.close()
    gone = weakref.ref(network)
    del runner, network
    gc.collect()
    assert gone() is None


class CpuOnlyNetwork(LimitedNetwork):
    """A network that fits only on the CPU."""

    def forward(self, batch):
        if batch.device.type != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(batch)


@gpu
@needs_cuda
def test_cuda_is_chosen_automatically_and_described():
    choice = choose_device()
    assert choice.device == "cuda"
    assert torch.cuda.get_device_name() in choice.reason
    assert choice.precision in choice.reason


@gpu
@needs_cuda
def test_gpu_and_cpu_outputs_nearly_agree():
    network, batch = LimitedNetwork(most=8), batch_of(4)
    expected = Runner(network, CPU)(batch)
    torch.testing.assert_close(Runner(network, choose_device("cuda"))(batch), expected, atol=0.03, rtol=0.03)


@gpu
@needs_cuda
def test_a_gpu_too_small_for_one_image_continues_on_the_cpu():
    messages = []
    runner = Runner(CpuOnlyNetwork(most=8), choose_device("cuda"), messages.append)
    assert len(runner(batch_of(2))) == 2
    assert runner.choice.device == "cpu"
    assert runner.choice.reason.endswith("the GPU ran out of memory")
    assert "continuing on the CPU" in messages[-1]


@gpu
@needs_cuda
def test_full_gpu_memory_halves_the_batch():
    network = nn.Sequential(nn.Conv2d(6, 512, 3, padding=1), nn.AdaptiveAvgPool2d(1))
    held = torch.empty(int(torch.cuda.mem_get_info()[0] * 0.9), dtype=torch.uint8, device="cuda")
    free = torch.cuda.mem_get_info()[0]
    side, count = 512, max(2, 2 * free // (512 * 512 * 512 * 4))
    messages = []
    Runner(network, DeviceChoice("cuda", "float32", ""), messages.append)(torch.zeros(count, 6, side, side))
    del held
    assert any("continuing with" in message for message in messages)


@gpu
@needs_cuda
def test_closing_frees_the_gpu_memory():
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    runner = Runner(nn.Conv2d(6, 512, 3, padding=1), choose_device("cuda"))
    runner(torch.zeros(1, 6, 512, 512))
    assert torch.cuda.memory_reserved() > before
    runner.close()
    assert torch.cuda.memory_reserved() <= before
