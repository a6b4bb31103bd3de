"""The only place that starts a worker: work goes to a thread, reports and outcome come back to the GUI thread."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from napari.qt.threading import FunctionWorker, create_worker
from qtpy.QtCore import QObject, Signal

from napari_skinseg.errors import Cancelled
from napari_skinseg.events import CancelToken

Report = Callable[[Any], None]
"""What work calls, from its own thread, to tell the GUI something: an `Event` or a partial result."""

Work = Callable[[Report, CancelToken], Any]


@dataclass(frozen=True)
class Outcome:
    """How a job ended; `result` is what the work returned when done, `error` what it raised when failed."""

    state: Literal["done", "cancelled", "failed"]
    result: Any = None
    error: Exception | None = None


class Job(QObject):
    """One run of some work; the callbacks are called on the GUI thread, `on_end` exactly once."""

    _reported = Signal(object)

    def __init__(
        self, title: str, work: Work, on_end: Callable[[Outcome], None], on_report: Callable[[Any], None] | None = None
    ) -> None:
        super().__init__()
        self._on_end: Callable[[Outcome], None] | None = on_end
        self._on_report = on_report
        self._call = _Call(title, work, self._reported.emit)
        # The slots belong to this object, which lives on the GUI thread: so Qt queues the calls over to it.
        self._reported.connect(self._take_report)
        self._worker = create_worker(self._call, _worker_class=_Worker, _start_thread=False)
        self._worker.returned.connect(self._take_outcome)

    @property
    def is_running(self) -> bool:
        """Whether the outcome has not been delivered yet."""
        return self._on_end is not None

    def start(self) -> None:
        """Hand the work to a thread."""
        self._worker.start()

    def cancel(self) -> None:
        """Ask the work to stop; it ends as "cancelled" at its next look at the token."""
        self._call.cancel.set()

    def wait(self, seconds: float) -> bool:
        """Block until the work has left its thread; False when it had not after `seconds`."""
        return self._call.left.wait(seconds)

    def abandon(self) -> None:
        """Cancel and deliver nothing any more."""
        self._on_end = self._on_report = None
        self.cancel()

    def _take_report(self, item: Any) -> None:
        if self._on_report is not None:
            self._on_report(item)

    def _take_outcome(self, outcome: Outcome) -> None:
        on_end, self._on_end, self._on_report = self._on_end, None, None
        if on_end is not None:
            on_end(outcome)


class Background:
    """The jobs of one widget."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []

    def start(
        self, title: str, work: Work, on_end: Callable[[Outcome], None], on_report: Callable[[Any], None] | None = None
    ) -> Job:
        """Run `work(report, cancel)` in a thread.

        `title` is what napari shows when it asks before closing. The outcome is delivered even when the work raised:
        an exception that escapes a worker is shown by napari as a traceback, and with PySide6 followed by another.
        """
        self._jobs = [job for job in self._jobs if job.is_running]
        job = Job(title, work, on_end, on_report)
        self._jobs.append(job)
        job.start()
        return job

    @property
    def is_busy(self) -> bool:
        """Whether any job has an outcome still to come."""
        return any(job.is_running for job in self._jobs)

    def close(self, seconds: float = 5.0) -> None:
        """Cancel everything and wait for the threads to be left, so that none outlives the window it reports to."""
        for job in self._jobs:
            job.abandon()
        for job in self._jobs:
            job.wait(seconds)
        self._jobs.clear()


class Latest:
    """Of many requests runs one at a time, and always the newest next: for sliders."""

    def __init__(self, background: Background, title: str, on_end: Callable[[Outcome], None]) -> None:
        self._background, self._title, self._on_end = background, title, on_end
        self._is_running = False
        self._waiting: Work | None = None

    def ask(self, work: Work) -> None:
        """Run `work` as soon as nothing runs, unless something newer is asked for until then."""
        self._waiting = work
        self._run_waiting()

    def _run_waiting(self) -> None:
        if self._waiting is not None and not self._is_running:
            work, self._waiting, self._is_running = self._waiting, None, True
            self._background.start(self._title, work, self._ended)

    def _ended(self, outcome: Outcome) -> None:
        self._is_running = False
        self._on_end(outcome)
        self._run_waiting()


class _Call:
    """The work as the worker sees it: never raises, and reads as its title in napari's question before closing."""

    def __init__(self, title: str, work: Work, report: Report) -> None:
        self._title, self._work, self._report = title, work, report
        self.cancel, self.left = threading.Event(), threading.Event()

    def __call__(self) -> Outcome:
        try:
            return Outcome("done", self._work(self._report, self.cancel))
        except Cancelled:
            return Outcome("cancelled")
        except Exception as error:
            return Outcome("failed", error=error)
        finally:
            self.left.set()

    def __repr__(self) -> str:
        return f"napari-skinseg: {self._title}"


class _Worker(FunctionWorker):
    def __init__(self, call: _Call) -> None:
        super().__init__(call)
        self._cancel = call.cancel

    def quit(self) -> None:
        """Set our token instead of napari's flag, which would stop nothing and drop the outcome."""
        self._cancel.set()
