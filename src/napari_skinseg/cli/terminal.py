"""Output on the terminal, for `cli` only: messages, progress, Ctrl+C and crash reports.

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
    """Print a line on standard error, without markup and wrapping."""
    if not quiet:
        print(message, file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """Print a JSON document on standard output; paths become strings, and NumPy scalars numbers."""

    def plain(value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value.item()

    print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=plain))


@contextmanager
def progress(quiet: bool, *, keep_messages: bool = False) -> Iterator[OnEvent]:
    """Yield an `on_event` that shows a progress bar for each stage, with count, rate and remaining time.

    If standard error is not a terminal, as in the log of a cluster, a line every ten seconds replaces the bars.

    Args:
        quiet: show nothing.
        keep_messages: also print the message of each event on a separate line, as for the passes of a training.
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
    """Yield a cancel token that Ctrl+C (or SIGTERM, as from a cluster) sets; a second Ctrl+C stops at once."""
    token = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        if token.is_set():
            raise KeyboardInterrupt
        token.set()
        # Not print: the signal may interrupt a call of print.
        os.write(2, b"Stopping after the current batch; finished files are kept. Press Ctrl+C again to stop at once.\n")

    before = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield token
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def report_crash(error: BaseException) -> None:
    """Print one sentence about an unexpected error, and write the details to a file that the user can send."""
    details = "".join(traceback.format_exception(error))
    text = f"napari-skinseg {version('napari-skinseg')}, Python {sys.version}\n{' '.join(sys.argv)}\n\n{details}"
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}.txt"
    try:
        path = user_log_path("napari-skinseg", appauthor=False, ensure_exists=True) / name
        path.write_text(text, encoding="utf-8")
    except OSError:
        path = Path(tempfile.mkdtemp(prefix="napari-skinseg-")) / name
        path.write_text(text, encoding="utf-8")
    say(f"Error in napari-skinseg ({type(error).__name__}: {error}). Please report it with the file {path}")


class _Rate(ProgressColumn):
    """Units per second, or seconds per unit if one unit takes longer than a second."""

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
        if event.done < task.completed:  # the stage starts again, as validation does after each pass
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
