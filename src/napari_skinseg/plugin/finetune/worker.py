"""The work that the Fine-tune tab does in a worker thread, and the estimate of its time; without Qt."""

import gc
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from napari_skinseg.events import CancelToken, Event
from napari_skinseg.finetuning.evidence import Evidence, collect
from napari_skinseg.finetuning.finetune import fine_tune
from napari_skinseg.finetuning.options import FineTuneOptions, FineTuneOutcome
from napari_skinseg.finetuning.runs import adopt, choose_run_folder, discard, find_undecided
from napari_skinseg.models.store import StoredModel
from napari_skinseg.plugin.background import Report
from napari_skinseg.plugin.session import Segmenters
from napari_skinseg.project.project import SUBFOLDER, Project
from napari_skinseg.training.checkpoint import CHECKPOINT


@dataclass(frozen=True)
class Unfinished:
    """A stopped run: its folder, its start time for the user, its base and its options."""

    folder: Path
    started: str
    base: str
    options: FineTuneOptions


@dataclass(frozen=True)
class SourceState:
    """The photos of a source, and its last run.

    Attributes:
        evidence: the usable photos.
        unfinished: the last run, if it was stopped.
        undecided: the outcome of the last run, if its candidate is neither adopted nor discarded.
    """

    evidence: Evidence
    unfinished: Unfinished | None
    undecided: FineTuneOutcome | None


def find_project(folder: Path) -> Path:
    """Return the project that the Review tab made in a folder of photos, or the folder itself if there is none."""
    return folder / SUBFOLDER if Project.exists(folder / SUBFOLDER) else folder


def read_source(source: Path, cancel: CancelToken) -> SourceState:
    """Collect the usable photos of `source`, and find its last run.

    Raises:
        BadInput: there is no usable photo.
    """
    return SourceState(collect(source, cancel=cancel), _unfinished(source), find_undecided(source))


class Pause:
    """Lets a run wait between two batches, without using the processor."""

    def __init__(self) -> None:
        self._may_run = threading.Event()
        self._may_run.set()

    @property
    def is_set(self) -> bool:
        """Whether the run waits."""
        return not self._may_run.is_set()

    def set(self, paused: bool) -> None:
        """Pause the run, or let it go on."""
        (self._may_run.clear if paused else self._may_run.set)()

    def after(self, report: Report, cancel: CancelToken) -> Report:
        """Return a function that reports an event, and then waits until the run may go on or is cancelled."""

        def report_and_wait(event: Event) -> None:
            report(event)
            while not self._may_run.wait(0.1) and not cancel.is_set():
                pass

        return report_and_wait


def run(
    source: Path,
    base: str,
    options: FineTuneOptions,
    drop: Path | None,
    segmenters: Segmenters,
    report: Report,
    cancel: CancelToken,
    pause: Pause,
    user_is_active: Callable[[], bool],
) -> FineTuneOutcome:
    """Match the border and fine-tune on the photos that `source` holds now.

    Args:
        source: project, or folder of photos with masks.
        base: name of a model.
        options: see `FineTuneOptions`.
        drop: folder of an earlier run to discard first, or None.
        segmenters: those of the session, because another tab may load a model at the same time.
        report: receives every `Event`.
        cancel: is read before each batch.
        pause: the run waits while it is set.
        user_is_active: while it returns True, the run leaves one core of the processor free.

    Raises:
        BadInput: see `collect` and `fine_tune`.
        Cancelled: `cancel` was set before the training started.
    """
    if drop is not None:
        discard(drop)
    evidence = collect(source, report, cancel)
    evidence.check_enough(options)
    if options.border_only:
        segmenters.get(base, options.device)  # imports what the base needs, while no other thread can
    else:
        segmenters.import_monai()
    with _rare_garbage_collection():
        return fine_tune(
            base, evidence, options, choose_run_folder(source), pause.after(report, cancel), cancel, user_is_active
        )


def adopt_and_discard(outcome: FineTuneOutcome, model: Path) -> StoredModel:
    """Adopt one of the new models of a run, and delete all files of the run except its logs.

    Raises:
        BadInput: see `runs.adopt`; no file is deleted.
    """
    adopted = adopt(model)
    discard(outcome.folder)
    return adopted


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Make full garbage collections rare.

    A full collection visits the 600,000 objects of napari and torch and blocks the window for a third of a second.
    """
    usual = gc.get_threshold()
    gc.set_threshold(*usual[:2], 1000)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def _unfinished(source: Path) -> Unfinished | None:
    folder = choose_run_folder(source)
    if not (folder / CHECKPOINT).exists():
        return None
    try:
        log = json.loads((folder / "log.json").read_text(encoding="utf-8"))
        start = datetime.strptime(folder.name, "%Y-%m-%d-%H%M%S")
        options = FineTuneOptions(**log["options"])
        today = start.date() == datetime.now().date()
        return Unfinished(folder, f"{start:%H:%M}" if today else f"{start:%Y-%m-%d %H:%M}", log["base"], options)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # the next run in this folder checks its files itself
