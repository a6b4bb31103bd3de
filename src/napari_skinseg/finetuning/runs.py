"""TODO."""

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from napari_skinseg.errors import BadInput
from napari_skinseg.files import atomic, write_text
from napari_skinseg.finetuning.options import FineTuneOutcome
from napari_skinseg.models import store
from napari_skinseg.models.bundle import NAME_PATTERN
from napari_skinseg.models.store import StoredModel

from .verdict import Verdict

COLUMNS = ("fit", "pass", "loss", "base_dice", "dice", "seconds")

Row = Mapping[str, str | int | float]
"""One pass of a fit; "base_dice" and "dice" on the photos held out are there where they were measured."""


def write_rows(path: str | Path, rows: Sequence[Row]) -> None:
    """Write the rows as CSV; a blank cell is "not measured"."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def draw_curve(path: str | Path, rows: Sequence[Row]) -> None:
    """Draw loss and held-out Dice over the passes, a line for each fit, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    losses, dices = figure.subplots(1, 2)
    for name in dict.fromkeys(row["fit"] for row in rows):
        fit = [row for row in rows if row["fit"] == name]
        losses.plot([int(row["pass"]) for row in fit], [float(row["loss"]) for row in fit], label=name)
        if measured := [row for row in fit if "dice" in row]:
            passes = [0, *(int(row["pass"]) for row in measured)]
            dices.plot(passes, [float(measured[0]["base_dice"]), *(float(row["dice"]) for row in measured)], "o-")
    losses.set(xlabel="pass", ylabel="loss")
    losses.legend(fontsize="x-small")
    dices.set(xlabel="pass (0: the base)", ylabel="Dice on photos held out")
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)


CHECKPOINT = "checkpoint.pt"


LOG = "log.json"


VERDICT = "verdict.json"


HELD_OUT_MASKS = "held-out"


def free_name(base: str) -> str:
    """The first of "<base>-tuned", "<base>-tuned-2", … that no stored model has."""
    taken = {model.name for model in store.list_models()}
    stem = base if base.endswith("-tuned") else f"{base.rpartition('-tuned-')[0] or base}-tuned"
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, 10_000))
    return next(name for name in names if name not in taken)


def adopt(candidate: str | Path, name: str | None = None) -> StoredModel:
    """Store a candidate among the user's models and make it the default; the base stays as it is.

    Raises:
        BadInput: see `store.add`.
    """
    model = store.add(candidate, name)
    store.set_default(model.name)
    return model


def history() -> list[StoredModel]:
    """The stored models that were fine-tuned, newest first."""
    tuned = [model for model in store.list_models() if model.spec and "base" in model.spec.provenance]
    return sorted(tuned, key=lambda model: model.spec.provenance.get("date", "") if model.spec else "", reverse=True)


def revert(name: str) -> StoredModel:
    """Make the base of a fine-tuned model the default again; the fine-tuned model stays in the list.

    Raises:
        BadInput: there is no such model, it was not fine-tuned, or its base is gone.
    """
    model = store.find(name)
    base = model.spec.provenance.get("base") if model.spec else None
    if base is None:
        raise BadInput(f"{name} was not fine-tuned, so there is nothing to revert to; choose a model instead.")
    store.set_default(base)
    return store.find(base)


def discard(folder: str | Path) -> None:
    """Delete what a run left but its logs and its curve: the candidate, the masks held out and the checkpoint."""
    folder = Path(folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    shutil.rmtree(folder / HELD_OUT_MASKS, ignore_errors=True)
    candidate = _candidate_of(folder)
    if candidate is not None:
        shutil.rmtree(candidate, ignore_errors=True)


def undecided(path: str | Path) -> FineTuneOutcome | None:
    """The outcome of the last run on a project or folder, if its candidate was neither adopted nor discarded."""
    folder = max((log.parent for log in _runs_of(path).glob(f"*/{LOG}")), default=None)
    if folder is None or (folder / CHECKPOINT).exists():
        return None
    candidate = _candidate_of(folder)
    if candidate is None or any(model.name == candidate.name for model in store.list_models()):
        return None
    try:
        verdict = Verdict.from_json(json.loads((folder / VERDICT).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # of a damaged verdict nothing can be told
    return FineTuneOutcome(folder, candidate, verdict, cancelled=False)


def default_run_folder(path: str | Path) -> Path:
    """Where the next run on a project or folder is kept in the user's data folder: the unfinished one, or a new one."""
    runs = _runs_of(path)
    unfinished = sorted(runs.glob(f"*/{CHECKPOINT}"))
    return unfinished[-1].parent if unfinished else runs / datetime.now().strftime("%Y-%m-%d-%H%M%S")


def _runs_of(path: str | Path) -> Path:
    place = Path(path).expanduser().resolve()
    key = hashlib.sha256(str(place).encode()).hexdigest()[:12]
    return store.user_folder() / "runs" / f"{place.name}-{key}"


def _candidate_of(folder: Path) -> Path | None:
    """The candidate that a judged run left in its folder, if it is there still."""
    try:
        log = json.loads((folder / LOG).read_text(encoding="utf-8"))
        # Only a run that was judged has written a candidate; any other model in the folder is somebody else's.
        name = str(log["options"]["name"]) if "better" in log else ""
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return folder / name if NAME_PATTERN.fullmatch(name) and (folder / name).is_dir() else None
