"""Devices: the choice is explained, reduced precision is earned, and a lack of memory is survived."""

import gc
import os
import platform
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
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


class Hungry(nn.Module):
    """A network that runs out of memory, as torch does, above `most` images, or wherever `room` is not."""

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


def test_a_choice_gives_its_reason_in_words():
    choice = choose_device("cpu")
    assert choice.device == "cpu"
    assert choice.reason.startswith("CPU (")
    assert choice.precision in choice.reason
    assert choice.reason.endswith("as asked")


@pytest.mark.skipif(torch.version.cuda is not None or torch.backends.mps.is_built(), reason="this torch has a GPU part")
def test_without_a_gpu_the_choice_is_the_cpu_and_says_why():
    assert choose_device().reason.endswith(": this torch build has no CUDA")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_asking_for_an_absent_gpu_says_what_to_install():
    with pytest.raises(BadInput, match=r"'cuda' cannot be used: .*install .*or choose 'cpu'"):
        choose_device("cuda")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="an Apple GPU is here")
def test_asking_for_an_absent_apple_gpu_says_what_is_needed():
    with pytest.raises(BadInput, match=r"'mps' cannot be used: no Apple GPU.*or choose 'cpu'"):
        choose_device("mps")


def test_an_unknown_device_is_refused():
    with pytest.raises(BadInput, match="'tpu' is not known; choose one of auto, cuda, mps, cpu"):
        choose_device("tpu")


def test_reduced_precision_is_used_only_where_it_is_faster_and_right():
    reference, reduced = device._trial("cpu", "float32"), device._trial("cpu", "bfloat16")
    earned = reduced.seconds * device.WORTH_IT <= reference.seconds
    assert device._difference(reference, reduced) < device.TOLERANCE
    assert choose_device("cpu").precision == ("bfloat16" if earned else "float32")


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="the switch is for x86 processors")
def test_a_processor_that_only_emulates_bfloat16_keeps_float32():
    code = "from napari_skinseg.device import choose_device; print(choose_device('cpu').precision)"
    old = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    result = subprocess.run([sys.executable, "-c", code], env=old, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "float32"


def test_the_trial_leaves_the_global_random_numbers_alone():
    device._trial.cache_clear()
    state = torch.get_rng_state()
    choose_device("cpu")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_trial_that_gives_nan_counts_as_wrong():
    good = device._trial("cpu", "float32")
    broken = device._Trial(torch.full_like(good.probability, float("nan")), 0.0)
    assert device._difference(good, broken) == float("inf")


def test_a_network_gives_the_same_numbers_through_the_runner():
    network, batch = Hungry(most=8), batch_of(3)
    with torch.no_grad():
        expected = network.conv(batch)
    torch.testing.assert_close(Runner(network, CPU)(batch), expected)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_output_is_float32_on_the_cpu_without_a_graph(precision):
    output = Runner(Hungry(most=8), DeviceChoice("cpu", precision, ""))(batch_of(2))
    assert (output.dtype, output.device.type, output.requires_grad) == (torch.float32, "cpu", False)


def test_bfloat16_is_really_used_when_it_was_chosen():
    seen = []
    network = Hungry(most=8)
    network.conv.register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    Runner(network, DeviceChoice("cpu", "bfloat16", ""))(batch_of(1))
    assert seen == [torch.bfloat16]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to …"),
        MemoryError(),
    ],
)
def test_out_of_memory_halves_the_batch_says_so_and_loses_no_image(error):
    network, batch, said = Hungry(most=2, error=error), batch_of(7), []
    runner = Runner(network, CPU, said.append)
    with torch.no_grad():
        torch.testing.assert_close(runner(batch), network.conv(batch))
    assert network.sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert said == [
        "This computer ran out of memory with 7 images at a time; going on with 3.",
        "This computer ran out of memory with 3 images at a time; going on with 1.",
    ]


def test_a_batch_that_once_did_not_fit_is_not_tried_again():
    network = Hungry(most=2)
    runner = Runner(network, CPU)
    runner(batch_of(4))
    runner(batch_of(4))
    assert network.sizes == [4, 2, 2, 2, 2]


def test_one_image_that_does_not_fit_is_refused_with_a_sentence():
    with pytest.raises(BadInput, match="does not fit into this computer's memory"):
        Runner(Hungry(most=0), CPU)(batch_of(2))


def test_any_other_error_of_the_network_is_not_swallowed():
    with pytest.raises(RuntimeError, match="channels"):
        Runner(Hungry(most=8), CPU)(torch.zeros(1, 5, 32, 32))


def test_a_closed_runner_can_be_used_again_and_holds_nothing():
    network = Hungry(most=8)
    runner = Runner(network, CPU)
    first = runner(batch_of(1))
    runner.close()
    torch.testing.assert_close(runner(batch_of(1)), first)
    runner.close()
    gone = weakref.ref(network)
    del runner, network
    gc.collect()
    assert gone() is None


class Homesick(Hungry):
    """A network that fits only on the CPU."""

    def forward(self, batch):
        if batch.device.type != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(batch)


@gpu
@needs_cuda
def test_cuda_is_chosen_by_itself_and_described_by_name_memory_and_precision():
    choice = choose_device()
    assert choice.device == "cuda"
    assert torch.cuda.get_device_name() in choice.reason
    assert choice.precision in choice.reason


@gpu
@needs_cuda
def test_the_gpu_gives_nearly_the_numbers_of_the_cpu():
    network, batch = Hungry(most=8), batch_of(4)
    expected = Runner(network, CPU)(batch)
    torch.testing.assert_close(Runner(network, choose_device("cuda"))(batch), expected, atol=0.03, rtol=0.03)


@gpu
@needs_cuda
def test_a_gpu_without_room_for_one_image_hands_over_to_the_cpu_and_says_so():
    said = []
    runner = Runner(Homesick(most=8), choose_device("cuda"), said.append)
    assert len(runner(batch_of(2))) == 2
    assert runner.choice.device == "cpu"
    assert runner.choice.reason.endswith("the GPU ran out of memory")
    assert "going on with the CPU" in said[-1]


@gpu
@needs_cuda
def test_real_exhaustion_of_gpu_memory_is_survived_by_halving():
    network = nn.Sequential(nn.Conv2d(6, 512, 3, padding=1), nn.AdaptiveAvgPool2d(1))
    held = torch.empty(int(torch.cuda.mem_get_info()[0] * 0.9), dtype=torch.uint8, device="cuda")
    free = torch.cuda.mem_get_info()[0]
    side, count = 512, max(2, 2 * free // (512 * 512 * 512 * 4))
    said = []
    Runner(network, DeviceChoice("cuda", "float32", ""), said.append)(torch.zeros(count, 6, side, side))
    del held
    assert any("going on with" in message for message in said)


@gpu
@needs_cuda
def test_closing_gives_the_gpu_memory_back():
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    runner = Runner(nn.Conv2d(6, 512, 3, padding=1), choose_device("cuda"))
    runner(torch.zeros(1, 6, 512, 512))
    assert torch.cuda.memory_reserved() > before
    runner.close()
    assert torch.cuda.memory_reserved() <= before
