"""Training in several processes that `torchrun` started, with `torch.distributed`."""

import os

import torch
from torch import distributed


def process_count() -> int:
    """The number of processes that train together; 1 without torchrun."""
    return distributed.get_world_size() if _is_joined() else 1


def process_rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if _is_joined() else 0


def join_processes(device: str) -> bool:
    """Under torchrun, connect to the other processes: with NCCL and one GPU each on CUDA, otherwise with Gloo.

    Returns:
        Whether this call connected them, so that `leave_processes` is necessary at the end.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1 or _is_joined():
        return False
    cuda = device in ("auto", "cuda") and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if cuda else "gloo")
    return True


def leave_processes() -> None:
    """Undo `join_processes`."""
    distributed.destroy_process_group()


def wait_for_processes() -> None:
    """Return when every process has called this function."""
    if process_count() > 1:
        distributed.barrier()


def is_true_anywhere(value: bool, device: str) -> bool:
    """Whether `value` is true in one process or more; all of them must call this function.

    Args:
        value: the value in this process.
        device: the device that this process trains on; NCCL exchanges only what is on a GPU.
    """
    if process_count() == 1:
        return value
    shared = torch.tensor(int(value), device=device)
    distributed.all_reduce(shared, distributed.ReduceOp.MAX)
    return bool(shared.item())


def _is_joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()
