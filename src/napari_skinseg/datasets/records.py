"""Read which masks in a folder were made by a model: the records that `batch` writes beside its masks."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_STEM = "segmentations"

RECORDS = f"{_STEM}.json"
"""Record of each mask that a model made; the keys are mask paths relative to the folder of the file."""

JOURNAL = f"{_STEM}.jsonl"
"""Records of a run that has not ended, a JSON object per line: `mask`, `record`, and `row` of the table or null."""


def find_model_masks(folder: Path) -> Iterator[Path]:
    """Yield the masks below `folder` that are byte for byte what a model made, by the records in `folder`.

    Every record of a mask counts: a run that was killed may have recorded a mask that it did not write.
    """
    for name, records in read_records(folder).items():
        mask = folder / name
        if mask.is_file() and sha256(mask) in {record.get("mask_sha256") for record in records}:
            yield mask


def has_records(names: Iterable[str]) -> bool:
    """Return whether a file of records is among the file names of a folder."""
    return any(name.startswith(_STEM) and name.endswith((".json", ".jsonl")) for name in names)


def read_records(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Mask -> its records, from all files of records in `folder`; a damaged file or line is ignored.

    The parts of a large run have separate files, `segmentations.part-3-of-40.json` and `.jsonl`, and the journal of a
    run into a bucket is in `segmentations.shard-000001.jsonl` and so on. The records of a journal follow those of the
    other files.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for path in _files(folder, ".json"):
        for name, record in read_finished(path).items():
            found.setdefault(name, []).append(record)
    for path in _files(folder, ".jsonl"):
        for line in read_journal(path):
            found.setdefault(line["mask"], []).append(line["record"])
    return found


def read_finished(path: Path) -> dict[str, dict[str, Any]]:
    """Mask -> its record, from the file of a run that ended; empty if the file is missing or damaged."""
    try:
        masks = json.loads(path.read_text(encoding="utf-8"))["masks"]
        return {name: record for name, record in masks.items() if isinstance(record, dict)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a journal; the last line is incomplete if the process was killed."""
    try:
        lines = path.read_bytes().splitlines()
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


def _files(folder: Path, suffix: str) -> list[Path]:
    return [folder / f"{_STEM}{suffix}", *sorted(folder.glob(f"{_STEM}.*{suffix}"))]


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
