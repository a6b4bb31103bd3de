"""Keeping what is drawn: every change is on disk within about a second, and nobody leaves a photo that is not."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from qtpy.QtCore import QObject, QTimer, Signal

from napari_skinseg.pixels.mask import write_mask
from napari_skinseg.plugin.background import Outcome
from napari_skinseg.plugin.session import report_failure
from napari_skinseg.project.project import Photo, Project

from .current_photo import Desk
from .write_queue import Writes

PAUSE = 0.8
"""Seconds from a change to its saving. Counted from the first change: somebody may paint without ever resting."""

_AWAY = 300.0  # s; who does nothing for longer is not at work on the photo


@dataclass(frozen=True)
class SaveState:
    """What is shown of the saving; `text` is for the line, `sentence` for what went wrong."""

    kind: Literal["none", "saving", "saved", "failed", "elsewhere"]
    text: str
    sentence: str = ""


class Saver(QObject):
    """Watches the desk and writes to the project.

    Attributes:
        state: what is shown.
    """

    told = Signal(object)
    """The `SaveState` changed."""

    learned = Signal(object)
    """The project has news of a `Photo`."""

    def __init__(self, desk: Desk, writes: Writes) -> None:
        super().__init__()
        self.state = SaveState("none", "")
        self._desk, self._writes = desk, writes
        self._project: Project | None = None
        self._kept = 0  # state of the mask in hand that the project holds
        self._again: Callable[[], None] | None = None
        self._since = time.monotonic()
        self._timer = QTimer(self, singleShot=True, interval=round(1000 * PAUSE))
        self._timer.timeout.connect(self.save)
        desk.changed.connect(self._on_changed)
        desk.painted.connect(lambda: self._tell(SaveState("saving", "Saving…")))

    def open(self, project: Project | None) -> None:
        """Write to another project; None: to none, as when it is read only."""
        self._project = project
        self._tell(SaveState("none", ""))

    def begin(self) -> None:
        """A photo was put on the desk: from here on, changes are its."""
        self._timer.stop()
        self._kept, self._again, self._since = self._desk.shown_as, None, time.monotonic()
        photo = self._desk.photo
        drawn = photo is not None and photo.has_mask
        self._tell(SaveState("saved", f"Saved {_when(photo.changed_at)}") if photo and drawn else SaveState("none", ""))

    @property
    def is_saved(self) -> bool:
        """Whether the mask in hand is on disk."""
        return self._desk.photo is None or self._project is None or self._desk.state == self._kept

    def save(self, then: Callable[[], None] = lambda: None, otherwise: Callable[[], None] = lambda: None) -> None:
        """Save the mask in hand if it changed, and go on with `then` once it is on disk; else with `otherwise`."""
        self._timer.stop()
        project, photo = self._project, self._desk.photo
        if project is None or photo is None or self.is_saved:
            self._again = None
            if self.state.kind in ("saving", "failed"):
                self._tell(SaveState("saved", f"Saved {_now()}"))
            then()
            return
        mask, seconds = self._desk.mask(), self.seconds()
        self.write(
            f"saving {photo.name}",
            lambda: project.save_mask(photo.id, mask, seconds=seconds),
            lambda _: self.save(then, otherwise),  # there may be a stroke more by now
            otherwise,
            after_retry=lambda _: self.save(),  # whoever had to stay decides anew where to go
        )

    def write(
        self,
        title: str,
        work: Callable[[], Photo],
        then: Callable[[Photo], None],
        otherwise: Callable[[], None] = lambda: None,
        after_retry: Callable[[Photo], None] | None = None,
    ) -> None:
        """Have `work` keep the mask in hand in its turn. If it fails, that is shown, and `retry` does it again.

        Args:
            title: what is done, beginning with a verb.
            work: done in a worker; returns what the project says of the photo then.
            then: told that.
            otherwise: called if it failed.
            after_retry: told instead of `then` if it was done by `retry` only.
        """
        photo, state = self._desk.photo, self._desk.state
        self._tell(SaveState("saving", "Saving…"))

        def on_end(outcome: Outcome) -> None:
            if outcome.state != "done":
                assert outcome.error is not None
                self._again = lambda: self.write(title, work, after_retry or then, otherwise, after_retry)
                self._tell(
                    SaveState("failed", "NOT SAVED", report_failure(outcome.error, title[0].upper() + title[1:]))
                )
                otherwise()
                return
            self._again = None
            self._desk.learn(outcome.result)
            if self._desk.photo is not None and photo is not None and self._desk.photo.id == photo.id:
                self._kept = state
            self._tell(SaveState("saved", f"Saved {_now()}"))
            self.learned.emit(outcome.result)
            then(outcome.result)

        self._writes.ask(title, work, on_end)

    def retry(self) -> None:
        """Do again what failed."""
        again, self._again = self._again, None
        (again or self.save)()

    def save_elsewhere(self, path: Path) -> None:
        """Write the mask in hand to a file of the person's choice; then the photo may be left."""
        mask, state = self._desk.mask(), self._desk.state

        def on_end(outcome: Outcome) -> None:
            if outcome.error is not None:
                sentence = report_failure(outcome.error, f"Writing {path.name}")
                self._tell(SaveState("failed", "NOT SAVED", sentence))
                return
            self._kept, self._again = state, None
            self._tell(SaveState("elsewhere", f"In {path.name}, not in the project"))

        self._writes.ask(f"writing {path.name}", lambda: write_mask(path, mask), on_end)

    def finish(self) -> str:
        """Save on the spot, for a window that closes; a sentence if that failed."""
        self._timer.stop()
        with self._writes.on_the_spot():
            if not self.is_saved:
                self.save()
            elif self._again is not None:
                self.retry()
        return self.state.sentence if self.state.kind == "failed" else ""

    def seconds(self) -> float:
        """Seconds at work on the photo in hand since they were asked for last."""
        now = time.monotonic()
        spent, self._since = now - self._since, now
        return min(spent, _AWAY)

    def _on_changed(self) -> None:
        if self._project is not None and not self._timer.isActive():
            self._timer.start()

    def _tell(self, state: SaveState) -> None:
        if self._project is None and state.kind == "saving":
            return
        if state != self.state:
            self.state = state
            self.told.emit(state)


def _now() -> str:
    return f"{datetime.now():%H:%M}"


def _when(changed_at: str) -> str:
    """The time of day, with the day unless it is today."""
    day, _, clock = changed_at.partition(" ")
    return clock[:5] if day == f"{datetime.now():%Y-%m-%d}" else f"{day} {clock[:5]}"
