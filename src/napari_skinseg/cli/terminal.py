"""How a run looks from a terminal: progress, Ctrl+C, and what is said when something breaks. For `cli` alone.

Results go to standard output; everything else goes to standard error, so that output can be piped.
"""

import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

from platformdirs import user_log_path
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from napari_skinseg.events import Event, OnEvent, ignore_event

_SECONDS_BETWEEN_LINES = 10.0


def say(message: str, *, quiet: bool = False) -> None:
    """Print a line on standard error, as it is: no markup, no wrapping."""
    if not quiet:
        print(message, file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """Print a document on standard output; paths and NumPy's scalars become plain."""

    def plain(value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value.item()

    print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=plain))


@contextmanager
def progress(quiet: bool, *, keep_messages: bool = False) -> Iterator[OnEvent]:
    """Yield an `on_event` that shows a bar per stage with count, rate and time left.

    Args:
        quiet: show nothing.
        keep_messages: print each event's message on a line of its own, as for the passes of a training run.

    Where standard error is no terminal, as in a cluster's log, a line every ten seconds takes the place of the bars.
    """
    console = Console(stderr=True)
    if quiet:
        yield ignore_event
    elif console.is_terminal:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        ) as bars:
            yield _Bars(bars, keep_messages)
    else:
        yield _Lines(keep_messages)


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Yield a cancel token that Ctrl+C (or a cluster's SIGTERM) sets; a second one stops at once."""
    token = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        if token.is_set():
            raise KeyboardInterrupt
        token.set()
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"Stopping after the current batch; what is done is kept. Press Ctrl+C again to stop at once.\n")

    before = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield token
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def report_crash(error: BaseException) -> None:
    """Say in one sentence that something of ours broke, and leave the details in a file to send."""
    details = "".join(traceback.format_exception(error))
    text = f"napari-skinseg {version('napari-skinseg')}, Python {sys.version}\n{' '.join(sys.argv)}\n\n{details}"
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}.txt"
    try:
        path = user_log_path("napari-skinseg", appauthor=False, ensure_exists=True) / name
        path.write_text(text, encoding="utf-8")
    except OSError:
        path = Path(tempfile.mkdtemp(prefix="napari-skinseg-")) / name
        path.write_text(text, encoding="utf-8")
    say(f"Something in napari-skinseg broke ({type(error).__name__}: {error}). Please report it with the file {path}")


class _Rate(ProgressColumn):
    """Units per second, or seconds per unit where they are slow."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each", style="progress.data.speed")


class _Bars:
    def __init__(self, bars: Progress, keep_messages: bool) -> None:
        self.bars, self.keep_messages = bars, keep_messages

    def __call__(self, event: Event) -> None:
        if self.keep_messages and event.message:
            self.bars.console.print(event.message, markup=False, highlight=False)
        task = next((task for task in self.bars.tasks if task.description == event.stage), None)
        if task is None:
            self.bars.add_task(event.stage, total=event.total or None, completed=event.done)
            return
        if event.done < task.completed:  # the stage came round again, as validation does after every pass
            self.bars.reset(task.id)
        self.bars.update(task.id, total=event.total or None, completed=event.done)


class _Lines:
    def __init__(self, keep_messages: bool) -> None:
        self.keep_messages = keep_messages
        self.last = time.monotonic()

    def __call__(self, event: Event) -> None:
        if self.keep_messages and event.message:
            say(event.message)
        elif time.monotonic() - self.last > _SECONDS_BETWEEN_LINES:
            self.last = time.monotonic()
            say(f"{event.stage} {event.done} of {event.total or '?'}")
