"""Folders of fine-tuning runs, and the models that came out of them: find, adopt, revert, discard."""

import hashlib
import json
import shutil
from datetime import datetime
from pathlib import Path

from napari_skinseg.errors import BadInput
from napari_skinseg.models import store
from napari_skinseg.models.bundle import NAME_PATTERN
from napari_skinseg.models.store import StoredModel
from napari_skinseg.training.checkpoint import CHECKPOINT

from .options import FineTuneOutcome
from .snapshot import MASKS
from .verdict import Verdict

LOG = "log.json"
VERDICT = "verdict.json"
HELD_OUT_MASKS = "held-out"
"""Names in the folder of a run; see `finetuning.finetune`."""


def suggest_name(base: str) -> str:
    """Return the first of "<base>-tuned", "<base>-tuned-2", … that is not the name of a stored model."""
    taken = {model.name for model in store.list_models()}
    stem = base if base.endswith("-tuned") else f"{base.rpartition('-tuned-')[0] or base}-tuned"
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, 10_000))
    return next(name for name in names if name not in taken)


def adopt(candidate: str | Path, name: str | None = None) -> StoredModel:
    """Add a candidate to the user's models and make it the default model; the base is not changed.

    Raises:
        BadInput: see `store.add`.
    """
    model = store.add(candidate, name)
    store.set_default(model.name)
    return model


def list_fine_tuned() -> list[StoredModel]:
    """Return the stored models that were fine-tuned, newest first."""
    tuned = [model for model in store.list_models() if model.spec and "base" in model.spec.provenance]
    return sorted(tuned, key=lambda model: model.spec.provenance.get("date", "") if model.spec else "", reverse=True)


def revert(name: str) -> StoredModel:
    """Make the base of a fine-tuned model the default model again; the fine-tuned model is kept.

    Returns:
        The base.

    Raises:
        BadInput: the model does not exist, was not fine-tuned, or its base does not exist any more.
    """
    model = store.find(name)
    base = model.spec.provenance.get("base") if model.spec else None
    if base is None:
        raise BadInput(f"{name} was not fine-tuned, so there is nothing to revert to; choose a model instead.")
    store.set_default(base)
    return store.find(base)


def discard(folder: str | Path) -> None:
    """Delete the candidate, the masks and the checkpoint of a run; its logs and its curve are kept."""
    folder = Path(folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    for masks in (HELD_OUT_MASKS, MASKS):
        shutil.rmtree(folder / masks, ignore_errors=True)
    candidate = _candidate_of(folder)
    if candidate is not None:
        shutil.rmtree(candidate, ignore_errors=True)


def find_undecided(path: str | Path) -> FineTuneOutcome | None:
    """Return the outcome of the last run on a project or folder if its candidate is neither adopted nor discarded."""
    folder = max((log.parent for log in _runs_of(path).glob(f"*/{LOG}")), default=None)
    if folder is None or (folder / CHECKPOINT).exists():
        return None
    candidate = _candidate_of(folder)
    if candidate is None or any(model.name == candidate.name for model in store.list_models()):
        return None
    try:
        verdict = Verdict.from_json(json.loads((folder / VERDICT).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # the file is missing or damaged
    return FineTuneOutcome(folder, candidate, verdict, cancelled=False)


def choose_run_folder(path: str | Path) -> Path:
    """Return the folder for the next run on a project or folder: that of an unfinished run, or a new one.

    It is in the user's data folder.
    """
    runs = _runs_of(path)
    unfinished = sorted(runs.glob(f"*/{CHECKPOINT}"))
    return unfinished[-1].parent if unfinished else runs / datetime.now().strftime("%Y-%m-%d-%H%M%S")


def _runs_of(path: str | Path) -> Path:
    place = Path(path).expanduser().resolve()
    key = hashlib.sha256(str(place).encode()).hexdigest()[:12]
    return store.user_folder() / "runs" / f"{place.name}-{key}"


def _candidate_of(folder: Path) -> Path | None:
    """The bundle of the candidate in the folder of a complete run, or None."""
    try:
        log = json.loads((folder / LOG).read_text(encoding="utf-8"))
        # Only a complete run has written a candidate; another model in this folder does not belong to the run.
        name = str(log["options"]["name"]) if "better" in log else ""
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return folder / name if NAME_PATTERN.fullmatch(name) and (folder / name).is_dir() else None
