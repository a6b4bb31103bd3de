"""Workers: run a function in a thread; its reports and its outcome arrive on the GUI thread."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from napari.qt.threading import FunctionWorker, create_worker
from qtpy.QtCore import QObject, Signal

from napari_skinseg.errors import Cancelled
from napari_skinseg.events import CancelToken

Report = Callable[[Any], None]
"""Sends an `Event` or a partial result from the worker to the GUI thread."""

Work = Callable[[Report, CancelToken], Any]


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        state: "done", "cancelled" or "failed".
        result: the value that the work returned, if it is done.
        error: the exception that the work raised, if it failed.
    """

    state: Literal["done", "cancelled", "failed"]
    result: Any = None
    error: Exception | None = None


class Job(QObject):
    """One run of one function; the callbacks are called on the GUI thread, `on_end` exactly once."""

    _reported = Signal(object)
    _unfinished: ClassVar[set["Job"]] = set()
    """The jobs whose thread may still be running. They are freed on the GUI thread, when the thread has ended."""

    def __init__(
        self, title: str, work: Work, on_end: Callable[[Outcome], None], on_report: Callable[[Any], None] | None = None
    ) -> None:
        super().__init__()
        self._on_end: Callable[[Outcome], None] | None = on_end
        self._on_report = on_report
        self._call = _Call(title, work, self._reported.emit)
        # The slots belong to this object, which lives on the GUI thread, so that Qt queues the calls to that thread.
        self._reported.connect(self._take_report)
        self._worker = create_worker(self._call, _worker_class=_Worker, _start_thread=False)
        self._worker.returned.connect(self._take_outcome)
        self._worker.finished.connect(self._finish)

    @property
    def is_running(self) -> bool:
        """Whether the outcome has not been delivered yet."""
        return self._on_end is not None

    def start(self) -> None:
        """Start the work in a thread."""
        self._unfinished.add(self)
        self._worker.start()

    def cancel(self) -> None:
        """Ask the work to stop; it ends as "cancelled" when it next checks the token."""
        self._call.cancel.set()

    def wait(self, seconds: float) -> bool:
        """Block until the thread has ended; return False if it has not after `seconds`."""
        return self._call.ended.wait(seconds)

    def abandon(self) -> None:
        """Cancel, and call no callback any more."""
        self._on_end = self._on_report = None
        self.cancel()

    def _take_report(self, item: Any) -> None:
        if self._on_report is not None:
            self._on_report(item)

    def _take_outcome(self, outcome: Outcome) -> None:
        on_end, self._on_end, self._on_report = self._on_end, None, None
        if on_end is not None:
            on_end(outcome)

    def _finish(self) -> None:
        self._worker.thread.join()  # the thread sends this signal as its last action
        self._unfinished.discard(self)


class Background:
    """The jobs of one widget."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []

    def start(
        self, title: str, work: Work, on_end: Callable[[Outcome], None], on_report: Callable[[Any], None] | None = None
    ) -> Job:
        """Run `work(report, cancel)` in a thread.

        napari shows `title` when it asks before closing. An exception in the work becomes an outcome, because napari
        shows an exception of a worker as a traceback, and with PySide6 raises another one.
        """
        self._jobs = [job for job in self._jobs if job.is_running]
        job = Job(title, work, on_end, on_report)
        self._jobs.append(job)
        job.start()
        return job

    @property
    def is_busy(self) -> bool:
        """Whether any job has not delivered its outcome yet."""
        return any(job.is_running for job in self._jobs)

    def close(self, seconds: float = 5.0) -> None:
        """Cancel all jobs and wait until their threads have ended, so that none reports to a deleted window."""
        for job in self._jobs:
            job.abandon()
        for job in self._jobs:
            job.wait(seconds)
        self._jobs.clear()


class LatestJob:
    """Runs one request at a time and then the newest one; older requests are dropped. For sliders."""

    def __init__(self, background: Background, title: str, on_end: Callable[[Outcome], None]) -> None:
        self._background, self._title, self._on_end = background, title, on_end
        self._is_running = False
        self._waiting: Work | None = None

    def request(self, work: Work) -> None:
        """Run `work` when the present request has ended, unless a newer request comes before."""
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


class RemainingTime:
    """Estimates the remaining time of a run from the time of the steps so far, after one of `parts` equal parts."""

    def __init__(self, parts: int, now: Callable[[], float] = time.monotonic) -> None:
        self.parts, self._now = parts, now
        self._first: tuple[float, int] | None = None

    def describe(self, done: int, total: int) -> str:
        """Return a text such as "about 4 min left"; empty while there is no estimate."""
        if self._first is None:
            self._first = self._now(), done  # a resumed run does not start at 0
        start_time, first = self._first
        if done - first < max(3, total / self.parts):
            return ""
        left = (self._now() - start_time) / (done - first) * (total - done)
        return f"about {max(10, round(left, -1)):.0f} s left" if left < 90 else f"about {left / 60:.0f} min left"


class _Call:
    """What the worker calls: never raises; its `repr` is the title that napari shows before closing."""

    def __init__(self, title: str, work: Work, report: Report) -> None:
        self._title, self._work, self._report = title, work, report
        self.cancel, self.ended = threading.Event(), threading.Event()

    def __call__(self) -> Outcome:
        try:
            return Outcome("done", self._work(self._report, self.cancel))
        except Cancelled:
            return Outcome("cancelled")
        except Exception as error:
            return Outcome("failed", error=error)
        finally:
            del self._work, self._report  # the data of the work, too
            self.ended.set()

    def __repr__(self) -> str:
        return f"napari-skinseg: {self._title}"


class _Worker(FunctionWorker):
    """A worker with a thread of its own. Its `quit` sets the job's cancel token; napari's own flag would not stop the
    work and would drop its outcome.

    `quit` is the token's method and not the worker's, because napari keeps the `quit` of each worker until its window
    closes: the worker would stay in memory with its work and the data of its work.

    The thread is not one of Qt's pool. PySide frees a worker of the pool in the thread of the pool, where deleting its
    signals can crash, and never frees it if its work ends before the call that starts the thread returns.
    """

    def __init__(self, call: _Call) -> None:
        super().__init__(call)
        self.quit = call.cancel.set
        self.thread = threading.Thread(target=self.run, name=repr(call))

    def start(self) -> None:
        self.thread.start()

    def run(self) -> None:
        """Do the work, which never raises.

        The method of superqt changes how the whole process shows warnings until the work has ended. Of two workers that
        overlap, the one that ends last would leave its change in place.
        """
        self.started.emit()
        self.returned.emit(self.work())
        self.finished.emit()
