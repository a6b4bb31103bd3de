"""Read which masks in a folder were made by a model: the records that `batch` writes beside its masks."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

RECORDS = "segmentations.json"
"""File with a record of each mask that a model made; its keys are mask paths relative to the folder of the file."""


def find_model_masks(folder: Path) -> Iterator[Path]:
    """Yield the masks below `folder` that are byte for byte what a model made, by the records in `folder`."""
    try:
        records = json.loads((folder / RECORDS).read_text(encoding="utf-8"))["masks"]
        recorded = {folder / name: record["mask_sha256"] for name, record in records.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # another program's file of the same name
    for mask, digest in recorded.items():
        if mask.is_file() and sha256(mask) == digest:
            yield mask


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
