"""Write to a project in the background: one write after the other, in the order of the requests."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from napari_skinseg.errors import BadInput
from napari_skinseg.plugin.background import Background, Job, Outcome


class WriteQueue:
    """A queue of writes. No write is dropped: `synchronous` does the writes that the worker has not started."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._waiting: deque[_Write] = deque()
        self._running: tuple[_Write, Job] | None = None
        self._is_synchronous = False

    def add(self, title: str, work: Callable[[], Any], on_end: Callable[[Outcome], None]) -> None:
        """Run `work` after all earlier writes; `on_end` is called once, on the GUI thread."""
        self._waiting.append(_Write(title, work, on_end))
        (self._run_waiting if self._is_synchronous else self._start_next)()

    @contextmanager
    def synchronous(self) -> Iterator[None]:
        """Before a window closes: finish all writes on this thread, also those that are added inside the `with`.

        Waits at most 30 seconds for the write that is running in the worker.
        """
        self._is_synchronous = True
        try:
            if self._running is not None:
                write, job = self._running
                job.wait(30.0)
                self._running = None
                write.deliver()
            self._run_waiting()
            yield
        finally:
            self._is_synchronous = False

    def _run_waiting(self) -> None:
        while self._waiting:
            write = self._waiting.popleft()
            write.run()
            write.deliver()

    def _start_next(self) -> None:
        if self._running is None and self._waiting:
            write = self._waiting.popleft()
            # The cancel token is ignored: a requested write is always done, even while the window closes.
            job = self._background.start(write.title, lambda report, cancel: write.run(), lambda _: self._end(write))
            self._running = write, job

    def _end(self, write: "_Write") -> None:
        if self._running is not None and self._running[0] is write:
            self._running = None
            write.deliver()
            self._start_next()


class _Write:
    def __init__(self, title: str, work: Callable[[], Any], on_end: Callable[[Outcome], None]) -> None:
        self.title, self._work, self._on_end = title, work, on_end
        self._outcome: Outcome | None = None

    def run(self) -> None:
        try:
            self._outcome = Outcome("done", self._work())
        except Exception as error:
            self._outcome = Outcome("failed", error=error)

    def deliver(self) -> None:
        """Pass the outcome on; a write that has not ended in time counts as failed."""
        timeout = BadInput(
            "The disk does not respond, so it is unknown whether the last change was saved. "
            "Check the disk and open the project again."
        )
        self._on_end(self._outcome or Outcome("failed", error=timeout))
