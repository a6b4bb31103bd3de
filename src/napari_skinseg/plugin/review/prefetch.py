"""Getting photos ready before they are looked at: decoded, and outlined by the model, in workers."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, Event, raise_if_cancelled
from napari_skinseg.plugin.background import Outcome, Report, Work
from napari_skinseg.plugin.session import Session, preferred_device
from napari_skinseg.project.project import Photo, Project

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Ready:
    """A photo as it can be put on the desk.

    Attributes:
        photo: what the project says of it.
        rgb: uint8 `[H, W, 3]`; None if it cannot be shown.
        mask: bool `[H, W]`, to work on; blank where there is none yet.
        prediction: the model's mask; None if there is none or it must not be seen.
        awaits_model: the model's mask is still to come.
        problem: a sentence on why there is no picture, or no model's mask.
    """

    photo: Photo
    rgb: NDArray[np.uint8] | None
    mask: Mask
    prediction: Mask | None
    awaits_model: bool = False
    problem: str = ""

    def is_current(self, now: Photo) -> bool:
        """Whether this is what the project holds by now, as `now` says, and can be shown."""
        then = self.photo
        held = (now.mask_sha256, now.predicted_file, now.blind)
        return self.rgb is not None and held == (then.mask_sha256, then.predicted_file, then.blind)


@dataclass(frozen=True)
class ModelChoice:
    """Which model draws and where; an empty name means that there is none."""

    name: str
    device: str


class Ahead:
    """Keeps the photos that were asked for last, one worker at a time getting them ready in the order of the wish."""

    def __init__(self, session: Session, on_ready: Callable[[Ready], None]) -> None:
        self._session, self._on_ready = session, on_ready
        self._project: Project | None = None
        self._model = ModelChoice("", "cpu")
        self._wanted: list[str] = []
        self._ready: dict[str, Ready] = {}
        self._is_running = False
        self._lock = threading.Lock()
        self._network = threading.Lock()  # *Predict all* runs beside: one photo of it at most is waited for

    def open(self, project: Project | None) -> None:
        """Work on another project, or on none."""
        with self._lock:
            self._project, self._wanted, self._ready = project, [], {}

    def use_model(self, name: str) -> None:
        """Predict with another model from now on; an empty name: with none."""
        self._model = ModelChoice(name, preferred_device())

    def want(self, photos: Sequence[str]) -> None:
        """Get these photos ready, the first first, and forget all others."""
        with self._lock:
            self._wanted = list(photos)
            self._ready = {one: ready for one, ready in self._ready.items() if one in self._wanted}
            start = not self._is_running and self._next_task() is not None
            self._is_running = self._is_running or start
        if start:
            self._session.background.start("getting the next photos ready", self._work, self._ended, self._take)

    def get(self, photo: str) -> Ready | None:
        """The photo, if it is ready to be shown."""
        return self._ready.get(photo)

    def put(self, ready: Ready) -> None:
        """Keep what a photo became on the desk, so that coming back to it needs no reading."""
        with self._lock:
            if ready.photo.id in self._ready:
                self._ready[ready.photo.id] = ready

    def forget(self, photo: str) -> None:
        """Read a photo anew when it is wanted next."""
        with self._lock:
            self._ready.pop(photo, None)

    def prediction_of(self, photos: Sequence[str]) -> Work:
        """The work of having the model draw these photos: reports an `Event` before each, then its `Photo` or why."""
        project, model = self._project, self._model
        assert project is not None

        def work(report: Report, cancel: CancelToken) -> None:
            for done, one in enumerate(photos):
                photo = project.photo(one)
                report(Event("predict", done, len(photos), photo.name))
                raise_if_cancelled(cancel)
                if photo.predicted_file:
                    continue
                try:
                    _, photo = self._predict(project, model, photo, project.read_photo(one))
                    report(photo)
                except BadInput as error:
                    report(str(error))

        return work

    def _work(self, report: Report, cancel: CancelToken) -> None:
        for project, ready in self._tasks(cancel):
            with self._lock:
                if project is self._project and ready.photo.id in self._wanted:
                    self._ready[ready.photo.id] = ready
            report((project, ready))

    def _take(self, item: tuple[Project, Ready]) -> None:
        if item[0] is self._project:  # else it was closed meanwhile
            self._on_ready(item[1])

    def _ended(self, outcome: Outcome) -> None:
        self._is_running = False
        if outcome.state == "done":
            self.want(self._wanted)  # what was wished for since the worker looked last

    def _tasks(self, cancel: CancelToken) -> Iterator[tuple[Project, Ready]]:
        while True:
            raise_if_cancelled(cancel)
            with self._lock:
                task, project, model = self._next_task(), self._project, self._model
            if task is None or project is None:
                return
            if isinstance(task, Ready):
                yield project, self._draw(project, model, task)
            else:
                yield project, self._read(project, model, task)

    def _next_task(self) -> str | Ready | None:
        """The photo to read, or the one to have drawn, that is wanted most."""
        for one in self._wanted:
            ready = self._ready.get(one)
            if ready is None:
                return one
            if ready.awaits_model:
                return ready
        return None

    def _read(self, project: Project, model: ModelChoice, one: str) -> Ready:
        photo = project.photo(one)
        try:
            rgb = project.read_photo(one)
            mask = project.mask(one)
            prediction = project.prediction(one)
        except BadInput as error:
            return Ready(photo, None, np.zeros(photo.shape, bool), None, problem=str(error))
        awaits = bool(model.name) and not photo.predicted_file
        blank = np.zeros(photo.shape, bool)
        return Ready(photo, rgb, blank if mask is None else mask, prediction, awaits_model=awaits)

    def _draw(self, project: Project, model: ModelChoice, ready: Ready) -> Ready:
        rgb, ready = ready.rgb, replace(ready, awaits_model=False)
        assert rgb is not None
        try:
            drawn, photo = self._predict(project, model, ready.photo, rgb)
        except Exception as error:
            return replace(ready, problem=f"The model {model.name} did not draw {ready.photo.name}: {error}")
        if photo.hides_prediction:
            return replace(ready, photo=photo)
        # Whoever drew meanwhile has the last word, and what they drew last is in the project.
        mask = project.mask(photo.id) if photo.has_mask else drawn
        return replace(
            ready, photo=photo, mask=drawn if mask is None else mask, prediction=project.prediction(photo.id)
        )

    def _predict(
        self, project: Project, model: ModelChoice, photo: Photo, rgb: NDArray[np.uint8]
    ) -> tuple[Mask, Photo]:
        with self._network:
            segmenter = self._session.segmenters.get(model.name, model.device)
            found = segmenter.segment(rgb, name=photo.name)
        spec = segmenter.spec
        project.set_prediction(
            photo.id, found.mask, model=spec.name, model_version=spec.version, confidence=found.confidence,
            probability=found.probability,
        )  # fmt: skip
        return found.mask, project.photo(photo.id)
