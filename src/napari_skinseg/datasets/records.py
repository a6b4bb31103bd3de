"""Read which masks in a folder were made by a model: the records that `batch` writes beside its masks."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECORDS = "segmentations.json"
"""Record of each mask that a model made; the keys are mask paths relative to the folder of the file."""

JOURNAL = "segmentations.jsonl"
"""Records of a run that has not ended, a JSON object per line: `mask`, `record`, and `row` of the table or null."""


def find_model_masks(folder: Path) -> Iterator[Path]:
    """Yield the masks below `folder` that are byte for byte what a model made, by the records in `folder`.

    Every record of a mask counts: a run that was killed may have recorded a mask that it did not write.
    """
    for name, records in read_records(folder).items():
        mask = folder / name
        if mask.is_file() and sha256(mask) in {record.get("mask_sha256") for record in records}:
            yield mask


def read_records(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Mask -> its records, oldest first, from both files in `folder`; a damaged file or line is ignored."""
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        masks = json.loads((folder / RECORDS).read_text(encoding="utf-8"))["masks"]
        found = {name: [record] for name, record in masks.items() if isinstance(record, dict)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    for line in read_journal(folder):
        found.setdefault(line["mask"], []).append(line["record"])
    return found


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """The complete lines of the journal; a kill can cut the last line."""
    try:
        lines = (folder / JOURNAL).read_bytes().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            entry = json.loads(line)
            if isinstance(entry["mask"], str) and isinstance(entry["record"], dict):
                found.append(entry)
        except (ValueError, KeyError, TypeError):
            continue
    return found


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
