"""What is written to a project from the window: in a worker, one after the other, in the order it was asked for."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from napari_skinseg.errors import BadInput
from napari_skinseg.plugin.background import Background, Job, Outcome


class Writes:
    """A queue of writes. Nothing in it is dropped: `on_the_spot` does what the worker has not got to."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._waiting: deque[_Write] = deque()
        self._running: tuple[_Write, Job] | None = None
        self._is_on_the_spot = False

    @property
    def is_busy(self) -> bool:
        """Whether anything is being written or waits for it."""
        return self._running is not None or bool(self._waiting)

    def ask(self, title: str, work: Callable[[], Any], on_end: Callable[[Outcome], None]) -> None:
        """Have `work` done when its turn comes; `on_end` is told on the GUI thread, exactly once."""
        self._waiting.append(_Write(title, work, on_end))
        (self._do_waiting if self._is_on_the_spot else self._start)()

    @contextmanager
    def on_the_spot(self, seconds: float = 30.0) -> Iterator[None]:
        """For a window that closes: finish what runs, and do on this thread what waits and what is asked for inside."""
        self._is_on_the_spot = True
        try:
            if self._running is not None:
                write, job = self._running
                job.wait(seconds)
                self._running = None
                write.tell()
            self._do_waiting()
            yield
        finally:
            self._is_on_the_spot = False

    def _do_waiting(self) -> None:
        while self._waiting:
            write = self._waiting.popleft()
            write.run()
            write.tell()

    def _start(self) -> None:
        if self._running is None and self._waiting:
            write = self._waiting.popleft()
            # The token is not looked at: a write that was asked for is done, even while the window closes.
            job = self._background.start(write.title, lambda report, cancel: write.run(), lambda _: self._end(write))
            self._running = write, job

    def _end(self, write: "_Write") -> None:
        if self._running is not None and self._running[0] is write:
            self._running = None
            write.tell()
            self._start()


class _Write:
    def __init__(self, title: str, work: Callable[[], Any], on_end: Callable[[Outcome], None]) -> None:
        self.title, self._work, self._on_end = title, work, on_end
        self._outcome: Outcome | None = None

    def run(self) -> None:
        try:
            self._outcome = Outcome("done", self._work())
        except Exception as error:
            self._outcome = Outcome("failed", error=error)

    def tell(self) -> None:
        hangs = BadInput(
            "The disk does not answer, and nobody knows what is on it; check it and open the project again."
        )
        self._on_end(self._outcome or Outcome("failed", error=hangs))
