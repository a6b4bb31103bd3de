"""Folders of fine-tuning runs, and the models that came out of them: find, adopt, revert, discard."""

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from napari_skinseg.errors import BadInput
from napari_skinseg.files import write_json
from napari_skinseg.models import store
from napari_skinseg.models.bundle import NAME_PATTERN
from napari_skinseg.models.store import StoredModel
from napari_skinseg.training.checkpoint import CHECKPOINT

from .options import BorderOutcome, FineTuneOutcome
from .snapshot import MASKS
from .verdict import Verdict

LOG = "log.json"
VERDICT = "verdict.json"
HELD_OUT_MASKS = "held-out"
"""Names in the folder of a run; see `finetuning.finetune`."""


def suggest_name(base: str, ending: str = "tuned") -> str:
    """Return the first of "<base>-<ending>", "<base>-<ending>-2", … that is not the name of a stored model."""
    taken = {model.name for model in store.list_models()}
    stem = re.sub(r"-(tuned|border)(-\d+)?$", "", base) + f"-{ending}"
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, 10_000))
    return next(name for name in names if name not in taken)


def adopt(candidate: str | Path) -> StoredModel:
    """Add a candidate to the user's models and make it the default model; the base is not changed.

    Raises:
        BadInput: see `store.add`.
    """
    model = store.add(candidate)
    store.set_default(model.name)
    return model


def list_fine_tuned(models: Sequence[StoredModel] | None = None) -> list[StoredModel]:
    """Return the fine-tuned ones of `models`, by default of all stored models, newest first."""
    models = store.list_models() if models is None else models
    tuned = [model for model in models if model.spec and "base" in model.spec.provenance]
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
    """Delete the new models, the masks and the checkpoint of a run; its logs and its curve are kept."""
    folder = Path(folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    for masks in (HELD_OUT_MASKS, MASKS):
        shutil.rmtree(folder / masks, ignore_errors=True)
    for model in _models_of(folder):
        shutil.rmtree(model, ignore_errors=True)


def find_undecided(path: str | Path) -> FineTuneOutcome | None:
    """Return the outcome of the last run on a project or folder if its candidate is neither adopted nor discarded."""
    folder = max((log.parent for log in _runs_of(path).glob(f"*/{LOG}")), default=None)
    if folder is None or (folder / CHECKPOINT).exists():
        return None
    models = _models_of(folder)
    stored = {model.name for model in store.list_models()}
    if not models or any(model.name in stored for model in models):
        return None
    try:
        document = json.loads((folder / VERDICT).read_text(encoding="utf-8"))
        found = document.get("border")  # runs of version 0.1 have none
        border = found and BorderOutcome(
            tuple(found["border"]), folder / str(found["model"]), Verdict.from_json(found["verdict"])
        )
        verdict = Verdict.from_json(document)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # the file is missing or damaged
    return FineTuneOutcome(folder, models[0], verdict, cancelled=False, border=border)


def write_verdict(outcome: FineTuneOutcome) -> None:
    """Write the verdicts of a complete run, for `find_undecided`."""
    assert outcome.verdict is not None
    border = outcome.border and {
        "border": outcome.border.border,
        "model": outcome.border.model.name,
        "verdict": outcome.border.verdict.to_json(),
    }
    write_json(outcome.folder / VERDICT, {**outcome.verdict.to_json(), "border": border})


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


def _models_of(folder: Path) -> list[Path]:
    """The bundles in the folder of a complete run: first the candidate, then the base with the matched border."""
    try:
        log = json.loads((folder / LOG).read_text(encoding="utf-8"))
        # Only a complete run has written these names; another model in this folder does not belong to the run.
        names = [str(log["options"]["name"]), str(log.get("border model", ""))] if "better" in log else []
    except (OSError, ValueError, KeyError, TypeError):
        return []
    names = list(dict.fromkeys(name for name in names if NAME_PATTERN.fullmatch(name)))
    return [folder / name for name in names if (folder / name).is_dir()]
