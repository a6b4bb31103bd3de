"""Checkpoints: files from which a stopped run of training or fine-tuning continues."""

import hashlib
import io
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.errors import BadInput
from napari_skinseg.files import atomic
from napari_skinseg.read_ahead import read_ahead

CHECKPOINT = "checkpoint.pt"
"""File name in the folder of a run."""


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, whole or not at all."""
    import torch

    content = io.BytesIO()  # torch writes to a full disk without a clear error
    torch.save(state, content)
    with atomic(folder / CHECKPOINT) as temporary:
        temporary.write_bytes(content.getbuffer())


def read_checkpoint(folder: Path, device: str) -> dict[str, Any] | None:
    """Read the checkpoint of a run with its tensors on `device`; None if there is none.

    Raises:
        BadInput: the file is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    import torch

    try:
        return dict(torch.load(path, map_location=device, weights_only=True))
    except (OSError, EOFError, RuntimeError, UnpicklingError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is damaged; delete it to start again.") from error


def hash_file(path: Path) -> str:
    """The SHA-256 of the content of a file, as 64 hexadecimal digits.

    Raises:
        BadInput: the file cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error}); restore it and start again.") from error


def hash_cases(cases: Sequence[Case]) -> str:
    """The SHA-256 of the ids and the mask files of cases with masks; the folders that they are in do not matter."""
    total = hashlib.sha256()
    for case, mask in read_ahead(_hash_mask, cases):
        total.update(f"{case.id}\n{mask.result()}\n".encode())
    return total.hexdigest()


def _hash_mask(case: Case) -> str:
    assert case.mask is not None
    return hash_file(case.mask)


def library_versions() -> str:
    """The versions that a trained model records, such as "napari-skinseg 0.1.0, torch 2.8.0, monai 1.6.0"."""
    return ", ".join(f"{name} {version(name)}" for name in ("napari-skinseg", "torch", "monai"))
