"""A base model and corrected cases in, a candidate out, judged against the base before it is trusted.

<run>/checkpoint.pt     everything needed to go on after a kill (read with `weights_only=True`); gone when it is done
<run>/log.csv           a row per pass of each fit: loss, and Dice on photos held out where it was measured
<run>/log.json          base, options, photos and what came of it
<run>/curve.png         loss and Dice over the passes
<run>/held-out/         both models' masks of every photo held out
<run>/verdict.json      see `verdict.Verdict`
<run>/<name>/           the candidate, a bundle like any other
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from .cases.dataset import Case, find_cases
from .cases.preflight import check_cases
from .cases.project import Project
from .errors import BadInput
from .events import CancelToken, NeverCancelled, OnEvent, ignore
from .files import output_folder
from .models import store
from .models.bundle import NAME_PATTERN
from .models.store import StoredModel
from .pixels.mask import read_mask
from .verdict import FEWEST, Verdict

CHECKPOINT = "checkpoint.pt"
LOG = "log.json"
VERDICT = "verdict.json"
HELD_OUT_MASKS = "held-out"

FIXED_SHARE_FROM = 60
"""From so many cases on a quarter of them is held out once; fewer are judged by cross-fitting."""
HELD_OUT, MOST_HELD_OUT = 0.25, 100
FEW = 20
"""More photos than these get fewer passes, so that fine-tuning takes no longer."""
LEAST_PASSES = 10


@dataclass(frozen=True)
class FineTuneOptions:
    """How a model is fine-tuned.

    Attributes:
        name: Name of the new model; the base's with "-tuned" when not given.
        passes: How often each photo is seen, up to 20 photos; more photos are seen less often, but ten times.
        learning_rate: Highest learning rate; low, because the base knows nearly everything already.
        batch_size: Photos per step; few, because many small steps learn a style better than few large ones.
        folds: Parts that up to 60 cases are divided into; each is judged by a model that did not see it.
        seed: Seed of everything random.
        device: auto, cuda, mps or cpu.
    """

    name: str = ""
    passes: int = 20
    learning_rate: float = 3e-4
    batch_size: int = 4
    folds: int = 4
    seed: int = 0
    device: str = "auto"

    def validate(self) -> None:
        """Raise `BadInput` if a value is out of its range."""
        if self.name and not NAME_PATTERN.fullmatch(self.name):
            raise BadInput(f"{self.name!r} is no model name; use up to 64 of a-z, 0-9, dot, dash and underscore.")
        if not 1 <= self.passes <= 1000:
            raise BadInput(f"passes is {self.passes}; it must be from 1 to 1000.")
        if not 0 < self.learning_rate <= 0.1:
            raise BadInput(f"learning_rate is {self.learning_rate}; it must be above 0 and at most 0.1.")
        if not 1 <= self.batch_size <= 256:
            raise BadInput(f"batch_size is {self.batch_size}; it must be from 1 to 256.")
        if not 2 <= self.folds <= 20:
            raise BadInput(f"folds is {self.folds}; it must be from 2 to 20.")

    def passes_for(self, photos: int) -> int:
        """Passes over so many photos."""
        return max(min(self.passes, LEAST_PASSES), round(self.passes * min(1.0, FEW / max(photos, 1))))


@dataclass(frozen=True)
class Evidence:
    """What there is to learn from.

    Attributes:
        corrected: cases whose mask a person drew or changed.
        accepted: cases whose mask a person approved as the model drew it.
        left_out: (photo, sentence) of what cannot be used.
    """

    corrected: tuple[Case, ...]
    accepted: tuple[Case, ...] = ()
    left_out: tuple[tuple[Path, str], ...] = ()

    @property
    def cases(self) -> tuple[Case, ...]:
        """All of them, corrected first."""
        return self.corrected + self.accepted

    def held_out(self, folds: int, seed: int) -> list[list[int]]:
        """Numbers of the `cases` that each judging fit does not see; none if there are too few to judge.

        Cases of one lesion (`Case.group`) stay together, and each part has its share of corrected and accepted ones.
        """
        groups: dict[str, list[int]] = {}
        order = np.random.default_rng(seed).permutation(len(self.cases)).tolist()
        for number in sorted(order, key=lambda number: number >= len(self.corrected)):
            case = self.cases[number]
            groups.setdefault(f"{case.source}/{case.group}" if case.group else str(case.image), []).append(number)
        if len(self.cases) < FEWEST or len(groups) < 2:
            return []
        fixed = len(self.cases) >= FIXED_SHARE_FROM
        count = round(1 / HELD_OUT) if fixed else min(folds, len(groups))
        parts: list[list[int]] = [[] for _ in range(count)]
        for members in groups.values():  # dealt to the smallest part; Python's sort and min keep it deterministic
            min(parts, key=len).extend(members)
        return [sorted(parts[0][:MOST_HELD_OUT])] if fixed else [sorted(part) for part in parts]

    def in_words(self, options: FineTuneOptions = FineTuneOptions()) -> str:
        """Such as "23 corrected, 41 accepted, judged in 4 folds"."""
        parts = self.held_out(options.folds, options.seed)
        how = "too few to be judged" if not parts else f"judged in {len(parts)} folds"
        if len(parts) == 1:
            how = f"{len(parts[0])} of them held out to judge by"
        out = f"; {len(self.left_out)} left out" if self.left_out else ""
        return f"{len(self.corrected)} corrected, {len(self.accepted)} accepted, {how}{out}"


@dataclass(frozen=True)
class FineTuneOutcome:
    """What a run left.

    Attributes:
        folder: of the run.
        candidate: bundle of the candidate, None if the run was cancelled.
        verdict: None if the run was cancelled.
        cancelled: whether it was stopped; the same call goes on from its last checkpoint, unless `discard` deletes it.
    """

    folder: Path
    candidate: Path | None
    verdict: Verdict | None
    cancelled: bool


def collect(path: str | Path, on_event: OnEvent = ignore, cancel: CancelToken | None = None) -> Evidence:
    """Find what can be learned from in a project, or in a folder of photos with masks (all taken as corrected).

    Raises:
        BadInput: there is nothing to learn from; the sentence says why.
        Cancelled: `cancel` was set.
    """
    path = Path(path).expanduser()
    if Project.exists(path):
        with Project.open(path, read_only=True) as project:
            photos = [photo for photo in project.photos("corrected", "accepted") if photo.has_mask]
        cases = {
            status: [
                Case(photo.id, photo.path, photo.mask_path, photo.lesion_group, path.name, photo.diagnosis)
                for photo in photos
                if photo.status == status
            ]
            for status in ("corrected", "accepted")
        }
        if not photos:
            raise BadInput(f"{path} has no corrected photo yet; correct or accept a few in the Review tab first.")
    else:
        cases = {"corrected": [case for case in find_cases(path) if case.mask is not None], "accepted": []}
        if not cases["corrected"]:
            raise BadInput(f"{path} holds no photo with a mask; correct some masks first, or choose another folder.")
    left_out: list[tuple[Path, str]] = []
    kept = {status: _sound(found, left_out, on_event, cancel) for status, found in cases.items()}
    evidence = Evidence(tuple(kept["corrected"]), tuple(kept["accepted"]), tuple(left_out))
    if not evidence.cases:
        raise BadInput(f"Of {path} no photo can be learned from; the first: {left_out[0][1]}")
    if not any(_lesion(case) for case in evidence.cases):
        raise BadInput(f"All masks of {path} are empty; correct some photos that show a lesion.")
    return evidence


def fine_tune(
    base: str | Path | None,
    evidence: Evidence,
    options: FineTuneOptions,
    out: str | Path,
    on_event: OnEvent = ignore,
    cancel: CancelToken | None = None,
) -> FineTuneOutcome:
    """Teach a model a person's style; an unfinished run of the same base, photos and options in `out` is taken up.

    One fit for each part of `Evidence.held_out` shows what fine-tuning is worth, and how much of the fine-tuned weights
    is best; the rest are the base's (WiSE-FT, Wortsman et al. 2022). With cross-fitting the candidate is then fitted on
    all cases; with a fixed share held out, the fit that was judged is the candidate. How each part is judged was chosen
    on the others.

    Args:
        base: name or folder of a model, None for the default one; it is only read.
        evidence: see `collect`.
        options: see `FineTuneOptions`.
        out: folder of the run.
        on_event: told of every batch, of what was measured and of what had to change (less memory).
        cancel: looked at before every batch and photo.

    Raises:
        BadInput: there is no such model, an option is out of range, or the loss stopped being a number.
    """
    options.validate()
    if not evidence.cases:
        raise BadInput("There is nothing to fine-tune on; correct or accept some photos first.")
    model = store.find(store.default_name() if base is None else base)
    options = replace(options, name=options.name or free_name(model.name))
    if (Path(out) / options.name).exists() and not (Path(out) / LOG).exists():
        raise BadInput(f"{Path(out) / options.name} exists and is of no run; choose another folder or another name.")
    from .finetuner import FineTuner

    tuner = FineTuner(model, evidence, options, output_folder(out), on_event, cancel or NeverCancelled())
    return tuner.run()


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
    return store.home() / "runs" / f"{place.name}-{key}"


def _candidate_of(folder: Path) -> Path | None:
    """The candidate that a judged run left in its folder, if it is there still."""
    try:
        log = json.loads((folder / LOG).read_text(encoding="utf-8"))
        # Only a run that was judged has written a candidate; any other model in the folder is somebody else's.
        name = str(log["options"]["name"]) if "better" in log else ""
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return folder / name if NAME_PATTERN.fullmatch(name) and (folder / name).is_dir() else None


def _sound(
    cases: Sequence[Case], left_out: list[tuple[Path, str]], on_event: OnEvent, cancel: CancelToken | None
) -> list[Case]:
    """The cases whose photo and mask can be read, are of one size and do not call the whole frame a lesion."""
    there = [case for case in cases if case.image.is_file() and case.mask is not None and case.mask.is_file()]
    for case in cases:
        if case not in there:
            gone = case.mask if case.image.is_file() else case.image
            left_out.append((case.image, f"{gone} is gone; bring it back, or scan the folder again."))
    look = check_cases(there, on_event=on_event, cancel=cancel)
    full = set(look.full)
    usable = [case for case in look.usable if case.mask not in full]
    for case in there:
        if case not in usable:
            why = (
                "covers the whole photo" if case.mask in full else "cannot be read, or has another size than its photo"
            )
            left_out.append((case.image, f"{case.mask} {why}; correct it to have it used."))
    return usable


def _lesion(case: Case) -> bool:
    assert case.mask is not None
    return bool(read_mask(case.mask).any())
