"""The copy of the masks that a fine-tuning run makes at its start.

The run reads only this copy. So both models are judged on the same masks, also if the user corrects photos during the
run or before a stopped run is continued.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.errors import BadInput
from napari_skinseg.files import write_json

from .evidence import Evidence

MASKS = "masks"
"""Name of the folder with the copy, in the folder of a run."""
CASES = "cases.json"


def take_snapshot(evidence: Evidence, run: Path) -> Evidence:
    """Copy the masks into the folder of a run, instead of an earlier copy.

    Returns:
        The same cases with the copied masks.

    Raises:
        BadInput: a mask could not be copied.
    """
    folder = run / MASKS
    shutil.rmtree(folder, ignore_errors=True)
    copied = []
    try:
        folder.mkdir()
        for number, case in enumerate(evidence.cases):
            assert case.mask is not None
            mask = folder / f"{number:04d}{case.mask.suffix}"
            shutil.copyfile(case.mask, mask)
            copied.append(replace(case, image=case.image.absolute(), mask=mask))
    except OSError as error:
        raise BadInput(f"The masks could not be copied to {folder} ({error}); check the disk and try again.") from error
    snapshot = _divide(copied, len(evidence.corrected), evidence.left_out, evidence.unlabelled)
    # This file is written last: a copy without it is incomplete.
    write_json(
        folder / CASES,
        {
            "corrected": len(snapshot.corrected),
            "cases": [{**asdict(case), "image": str(case.image), "mask": mask.name} for case, mask in _masks(snapshot)],
            "unlabelled": [str(photo.absolute()) for photo in snapshot.unlabelled],
            "left out": [[str(photo), why] for photo, why in snapshot.left_out],
        },
    )
    return snapshot


def read_snapshot(run: Path) -> Evidence | None:
    """Read the cases that `take_snapshot` copied into the folder of a run; None if there is no complete copy."""
    folder = run / MASKS
    try:
        document: dict[str, Any] = json.loads((folder / CASES).read_text(encoding="utf-8"))
        cases = [
            Case(**{**row, "image": Path(row["image"]), "mask": folder / row["mask"]}) for row in document["cases"]
        ]
        left_out = tuple((Path(photo), str(why)) for photo, why in document["left out"])
        unlabelled = tuple(Path(photo) for photo in document.get("unlabelled", ()))
        snapshot = _divide(cases, int(document["corrected"]), left_out, unlabelled)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return snapshot if all(mask.is_file() for _, mask in _masks(snapshot)) else None


def _divide(
    cases: Sequence[Case], corrected: int, left_out: tuple[tuple[Path, str], ...], unlabelled: tuple[Path, ...]
) -> Evidence:
    return Evidence(tuple(cases[:corrected]), tuple(cases[corrected:]), left_out, unlabelled)


def _masks(evidence: Evidence) -> list[tuple[Case, Path]]:
    return [(case, case.mask) for case in evidence.cases if case.mask is not None]
