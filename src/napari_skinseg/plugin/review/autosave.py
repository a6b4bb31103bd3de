"""Save each stroke to the project within about a second, and keep the person on a photo that could not be saved."""

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

from .current_photo import CurrentPhoto
from .write_queue import WriteQueue

DELAY = 0.8
"""Seconds from a change to its saving. The first change starts the delay, so continuous painting is saved too."""

_LONGEST_PAUSE = 300.0
"""Seconds; a longer time without a change does not count as work on the photo."""


@dataclass(frozen=True)
class SaveState:
    """Whether the current mask is saved.

    Attributes:
        kind: "elsewhere" means saved to a file that the person chose.
        text: short text for the panel.
        error: what went wrong; empty otherwise.
    """

    kind: Literal["none", "saving", "saved", "failed", "elsewhere"]
    text: str
    error: str = ""


class Autosave(QObject):
    """Writes the changes of the current photo to the project.

    Attributes:
        state: whether the current mask is saved.
    """

    state_changed = Signal(object)
    """The new `SaveState`."""

    photo_saved = Signal(object)
    """The new record (`Photo`) of a photo after a write."""

    def __init__(self, current: CurrentPhoto, write_queue: WriteQueue) -> None:
        super().__init__()
        self.state = SaveState("none", "")
        self._current, self._write_queue = current, write_queue
        self._project: Project | None = None
        self._saved_checksum = 0
        self._writes = 0  # requested and not ended
        self._waiting: list[tuple[Callable[[], None], Callable[[], None]]] = []  # calls of `save` during a write
        self._retry: Callable[[], None] | None = None
        self._since = time.monotonic()
        self._timer = QTimer(self, singleShot=True, interval=round(1000 * DELAY))
        self._timer.timeout.connect(self.save)
        current.mask_changed.connect(self._on_mask_changed)

    def open(self, project: Project | None) -> None:
        """Write to another project; None: write nothing, because the project is closed or read-only."""
        self._project = project
        self._set_state(SaveState("none", ""))

    def start_photo(self) -> None:
        """Watch the photo that was just shown."""
        self._timer.stop()
        self._saved_checksum, self._retry = self._current.shown_checksum, None
        self._since = time.monotonic()
        photo = self._current.photo
        if photo is not None and photo.has_mask:
            self._set_state(SaveState("saved", f"Saved {_time_of(photo.changed_at)}"))
        else:
            self._set_state(SaveState("none", ""))

    @property
    def is_saved(self) -> bool:
        """Whether the current mask is on disk, and no write is going to replace it there."""
        is_closed = self._current.photo is None or self._project is None
        return is_closed or (not self._writes and self._current.checksum == self._saved_checksum)

    def save(self, then: Callable[[], None] = lambda: None, on_failure: Callable[[], None] = lambda: None) -> None:
        """Save the current mask if it changed; call `then` when it is on disk, or `on_failure`."""
        self._timer.stop()
        project, photo = self._project, self._current.photo
        if self._writes:
            self._waiting.append((then, on_failure))
            return
        if project is None or photo is None or self.is_saved:
            self._retry = None
            if self.state.kind in ("saving", "failed"):
                self._set_state(SaveState("saved", f"Saved {_time()}"))
            then()
            return
        mask, seconds = self._current.mask(), self.take_seconds()
        self.write(
            f"saving {photo.name}",
            lambda: project.save_mask(photo.id, mask, seconds=seconds),
            lambda _: self.save(then, on_failure),  # another stroke may have followed
            on_failure,
            retry=self.save,  # the mask as it is then; the person decides again where to go
        )

    def write(
        self,
        title: str,
        work: Callable[[], Photo],
        then: Callable[[Photo], None],
        on_failure: Callable[[], None] = lambda: None,
        retry: Callable[[], None] | None = None,
        checksum: int | None = None,
    ) -> None:
        """Run `work`, which stores a mask of the current photo, in the write queue.

        Args:
            title: shown for the work, such as "saving the mask".
            work: runs in a worker; returns the new record of the photo.
            then: called with that record.
            on_failure: called after an error, which is shown.
            retry: what *Retry* calls after an error; by default, `work` runs again.
            checksum: of the mask that `work` stores; by default, that of the current mask.
        """
        photo = self._current.photo
        stored = self._current.checksum if checksum is None else checksum
        self._writes += 1
        self._set_state(SaveState("saving", "Saving…"))

        def on_end(outcome: Outcome) -> None:
            self._writes -= 1
            if outcome.state != "done":
                assert outcome.error is not None
                self._retry = retry or (lambda: self.write(title, work, then, on_failure, checksum=stored))
                error = report_failure(outcome.error, title[0].upper() + title[1:])
                self._set_state(SaveState("failed", "NOT SAVED", error))
                on_failure()
            else:
                self._retry = None
                self._current.update_photo(outcome.result)
                if self._current.photo is not None and photo is not None and self._current.photo.id == photo.id:
                    self._saved_checksum = stored
                if self.is_saved:
                    self._set_state(SaveState("saved", f"Saved {_time()}"))
                self.photo_saved.emit(outcome.result)
                then(outcome.result)
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                self.save(*one)

        self._write_queue.add(title, work, on_end)

    def retry(self) -> None:
        """Run the failed write again."""
        retry, self._retry = self._retry, None
        (retry or self.save)()

    def save_elsewhere(self, path: Path) -> None:
        """Write the current mask to a file that the person chose; then the person may leave the photo."""
        mask, checksum = self._current.mask(), self._current.checksum

        def on_end(outcome: Outcome) -> None:
            if outcome.error is not None:
                error = report_failure(outcome.error, f"Writing {path.name}")
                self._set_state(SaveState("failed", "NOT SAVED", error))
                return
            self._saved_checksum, self._retry = checksum, None
            self._set_state(SaveState("elsewhere", f"Saved in {path.name}, not in the project"))

        self._write_queue.add(f"writing {path.name}", lambda: write_mask(path, mask), on_end)

    def save_now(self) -> str:
        """Save before returning, for a window that closes; return the error message, empty if all is saved."""
        self._timer.stop()
        with self._write_queue.synchronous():
            if not self.is_saved:
                self.save()
            elif self._retry is not None:
                self.retry()
        return self.state.error if self.state.kind == "failed" else ""

    def take_seconds(self) -> float:
        """Seconds of work on the current photo since the last call."""
        now = time.monotonic()
        spent, self._since = now - self._since, now
        return min(spent, _LONGEST_PAUSE)

    def _on_mask_changed(self) -> None:
        if self._project is None:
            return
        if not self._timer.isActive():
            self._timer.start()
        if self.state.kind not in ("saving", "failed") and not self.is_saved:
            self._set_state(SaveState("saving", "Saving…"))

    def _set_state(self, state: SaveState) -> None:
        if self._project is None and state.kind == "saving":
            return
        if state != self.state:
            self.state = state
            self.state_changed.emit(state)


def _time() -> str:
    return f"{datetime.now():%H:%M}"


def _time_of(changed_at: str) -> str:
    """The time of day; with the date unless it is today."""
    day, _, clock = changed_at.partition(" ")
    return clock[:5] if day == f"{datetime.now():%Y-%m-%d}" else f"{day} {clock[:5]}"
