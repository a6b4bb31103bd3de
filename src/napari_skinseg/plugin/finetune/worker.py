"""What the Fine-tune tab has done in a worker, and how long it will take; without any Qt."""

import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from napari_skinseg.events import CancelToken
from napari_skinseg.finetuning.evidence import Evidence, collect
from napari_skinseg.finetuning.finetune import fine_tune
from napari_skinseg.finetuning.options import FineTuneOptions, FineTuneOutcome
from napari_skinseg.finetuning.runs import adopt, default_run_folder, discard, undecided
from napari_skinseg.models.store import StoredModel
from napari_skinseg.plugin.background import Report
from napari_skinseg.plugin.session import Segmenters
from napari_skinseg.project.project import SUBFOLDER, Project
from napari_skinseg.training.checkpoint import CHECKPOINT


@dataclass(frozen=True)
class Unfinished:
    """A run that was killed: its folder, when it began in words, and what it was started with."""

    folder: Path
    began: str
    base: str
    options: FineTuneOptions


@dataclass(frozen=True)
class Outlook:
    """What there is to learn from, and what is left of the last run of it.

    Attributes:
        unfinished: that run, if it was killed.
        undecided: its outcome, if the person has neither adopted nor dropped the candidate.
    """

    evidence: Evidence
    unfinished: Unfinished | None
    undecided: FineTuneOutcome | None


def project_in(folder: Path) -> Path:
    """The project that the Review tab keeps for a folder of photos if there is one, else the folder itself."""
    return folder / SUBFOLDER if Project.exists(folder / SUBFOLDER) else folder


def look(source: Path, cancel: CancelToken) -> Outlook:
    """See what `source` holds.

    Raises:
        BadInput: nothing that can be learned from.
    """
    return Outlook(collect(source, cancel=cancel), _unfinished(source), undecided(source))


def run(
    source: Path,
    base: str,
    options: FineTuneOptions,
    drop: Path | None,
    segmenters: Segmenters,
    report: Report,
    cancel: CancelToken,
) -> FineTuneOutcome:
    """Fine-tune with what `source` holds by now; reports every `Event`.

    Args:
        source: project, or folder of photos with masks.
        base: name of a model.
        options: see `FineTuneOptions`.
        drop: folder of an earlier run that the person does not want any more.
        segmenters: the session's; another tab may be loading a model just now.
        report: told every `Event`.
        cancel: looked at before every batch.

    Raises:
        BadInput: see `collect` and `fine_tune`.
        Cancelled: before the training began.
    """
    if drop is not None:
        discard(drop)
    evidence = collect(source, report, cancel)
    segmenters.import_monai()
    with _few_full_collections():
        return fine_tune(base, evidence, options, default_run_folder(source), report, cancel)


def adopt_and_tidy(outcome: FineTuneOutcome) -> StoredModel:
    """Adopt the candidate; of the run only its log is kept.

    Raises:
        BadInput: see `adopt`; then nothing is lost.
    """
    assert outcome.candidate is not None
    model = adopt(outcome.candidate)
    discard(outcome.folder)
    return model


class Clock:
    """Estimates how long a run still takes, from the batches since it began, once one pass's worth of them is done."""

    def __init__(self, options: FineTuneOptions, now: Callable[[], float] = time.monotonic) -> None:
        self._parts, self._now = options.passes * (options.folds + 1), now
        self._first: tuple[float, int] | None = None

    def in_words(self, done: int, total: int) -> str:
        """Such as "about 4 min left"; empty while it cannot be said."""
        if self._first is None:
            self._first = self._now(), done  # a run that was taken up again does not begin at 0
        began, first = self._first
        if done - first < max(3, total / self._parts):
            return ""
        left = (self._now() - began) / (done - first) * (total - done)
        return f"about {max(10, round(left, -1)):.0f} s left" if left < 90 else f"about {left / 60:.0f} min left"


@contextmanager
def _few_full_collections() -> Iterator[None]:
    """Let Python look for garbage among new objects only.

    A full search goes through the 600,000 objects of napari and torch, and the window waits for a third of a second.
    """
    usual = gc.get_threshold()
    gc.set_threshold(*usual[:2], 1000)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def _unfinished(source: Path) -> Unfinished | None:
    folder = default_run_folder(source)
    if not (folder / CHECKPOINT).exists():
        return None
    try:
        log = json.loads((folder / "log.json").read_text(encoding="utf-8"))
        began = datetime.strptime(folder.name, "%Y-%m-%d-%H%M%S")
        options = FineTuneOptions(**log["options"])
        today = began.date() == datetime.now().date()
        return Unfinished(folder, f"{began:%H:%M}" if today else f"{began:%Y-%m-%d %H:%M}", log["base"], options)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # the next run in this folder finds out what can be used
