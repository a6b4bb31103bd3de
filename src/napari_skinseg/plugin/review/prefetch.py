"""Load photos in a worker before they are shown, and predict their masks."""

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
class LoadedPhoto:
    """A photo with its pixels and masks.

    Attributes:
        photo: its record in the project.
        rgb: uint8 `[H, W, 3]`; None if the photo cannot be shown.
        mask: bool `[H, W]`, the mask to correct; empty if there is none yet.
        prediction: the mask of the model; None if there is none, or if it must stay hidden (blind sample).
        awaits_prediction: whether the model will still predict a mask.
        problem: a sentence that says why there is no picture, or no prediction.
    """

    photo: Photo
    rgb: NDArray[np.uint8] | None
    mask: Mask
    prediction: Mask | None
    awaits_prediction: bool = False
    problem: str = ""

    def is_current(self, now: Photo) -> bool:
        """Whether the photo can be shown and the project still holds the same masks, according to its record `now`."""
        then = self.photo
        masks_now = (now.mask_sha256, now.predicted_file, now.blind)
        return self.rgb is not None and masks_now == (then.mask_sha256, then.predicted_file, then.blind)


@dataclass(frozen=True)
class PredictingModel:
    """The model that predicts, and its device; an empty name means no model."""

    name: str
    device: str


class Prefetch:
    """Keeps the requested photos loaded; one worker loads them in the order of the request.

    Args:
        session: workers and models.
        on_loaded: called on the GUI thread with each loaded photo, and again with its prediction.
    """

    def __init__(self, session: Session, on_loaded: Callable[[LoadedPhoto], None]) -> None:
        self._session, self._on_loaded = session, on_loaded
        self._project: Project | None = None
        self._model = PredictingModel("", "cpu")
        self._requested: list[str] = []
        self._loaded: dict[str, LoadedPhoto] = {}
        self._is_running = False
        self._lock = threading.Lock()
        self._network_lock = threading.Lock()  # shared with *Predict all*: wait for one photo of that run at most

    def open(self, project: Project | None) -> None:
        """Load photos of another project; None for no project."""
        with self._lock:
            self._project, self._requested, self._loaded = project, [], {}

    def use_model(self, name: str) -> None:
        """Predict with the model `name`; an empty name means no model."""
        self._model = PredictingModel(name, preferred_device())

    def request(self, photos: Sequence[str]) -> None:
        """Load these photos, the first one first, and discard all others."""
        with self._lock:
            self._requested = list(photos)
            self._loaded = {one: loaded for one, loaded in self._loaded.items() if one in self._requested}
            must_start = not self._is_running and self._next_task() is not None
            self._is_running = self._is_running or must_start
        if must_start:
            self._session.background.start("loading the next photos", self._work, self._ended, self._deliver)

    def get(self, photo: str) -> LoadedPhoto | None:
        """The photo, if it is loaded."""
        return self._loaded.get(photo)

    def put(self, loaded: LoadedPhoto) -> None:
        """Replace a loaded photo by its present state, so that returning to the photo needs no reading."""
        with self._lock:
            if loaded.photo.id in self._loaded:
                self._loaded[loaded.photo.id] = loaded

    def discard(self, photo: str) -> None:
        """Read a photo from disk again when it is requested next."""
        with self._lock:
            self._loaded.pop(photo, None)

    def prediction_work(self, photos: Sequence[Photo]) -> Work:
        """The work of *Predict all*: predict the photos that await a prediction of the present model.

        It reports an `Event` before each photo, then its `Photo` or an error message.
        """
        project, model = self._project, self._model
        assert project is not None

        def work(report: Report, cancel: CancelToken) -> None:
            spec = self._session.segmenters.get(model.name, model.device).spec
            waiting = [photo for photo in photos if photo.awaits_prediction(spec.name, spec.version)]
            for done, listed in enumerate(waiting):
                photo = project.photo(listed.id)  # a person may have worked on it since
                report(Event("predict", done, len(waiting), photo.name))
                raise_if_cancelled(cancel)
                if not photo.awaits_prediction(spec.name, spec.version):
                    continue
                try:
                    _, photo = self._predict(project, model, photo, project.read_photo(photo.id))
                    report(photo)
                except BadInput as error:
                    report(str(error))

        return work

    def _work(self, report: Report, cancel: CancelToken) -> None:
        for project, loaded in self._load_all(cancel):
            with self._lock:
                if project is self._project and loaded.photo.id in self._requested:
                    self._loaded[loaded.photo.id] = loaded
            report((project, loaded))

    def _deliver(self, item: tuple[Project, LoadedPhoto]) -> None:
        if item[0] is self._project:  # false if the project was closed during the loading
            self._on_loaded(item[1])

    def _ended(self, outcome: Outcome) -> None:
        self._is_running = False
        if outcome.state == "done":
            self.request(self._requested)  # photos that were requested after the last check of the worker

    def _load_all(self, cancel: CancelToken) -> Iterator[tuple[Project, LoadedPhoto]]:
        while True:
            raise_if_cancelled(cancel)
            with self._lock:
                task, project, model = self._next_task(), self._project, self._model
            if task is None or project is None:
                return
            if isinstance(task, LoadedPhoto):
                yield project, self._add_prediction(project, model, task)
            else:
                yield project, self._read(project, model, task)

    def _next_task(self) -> str | LoadedPhoto | None:
        """The first requested photo that must be read (an id) or predicted (a `LoadedPhoto`)."""
        for one in self._requested:
            loaded = self._loaded.get(one)
            if loaded is None:
                return one
            if loaded.awaits_prediction:
                return loaded
        return None

    def _read(self, project: Project, model: PredictingModel, one: str) -> LoadedPhoto:
        photo = project.photo(one)
        try:
            rgb = project.read_photo(one)
            mask = project.mask(one)
            prediction = project.prediction(one)
        except BadInput as error:
            return LoadedPhoto(photo, None, np.zeros(photo.shape, bool), None, problem=str(error))
        awaits = bool(model.name) and not photo.predicted_file
        empty = np.zeros(photo.shape, bool)
        return LoadedPhoto(photo, rgb, empty if mask is None else mask, prediction, awaits_prediction=awaits)

    def _add_prediction(self, project: Project, model: PredictingModel, loaded: LoadedPhoto) -> LoadedPhoto:
        rgb, loaded = loaded.rgb, replace(loaded, awaits_prediction=False)
        assert rgb is not None
        try:
            predicted, photo = self._predict(project, model, loaded.photo, rgb)
        except Exception as error:
            return replace(
                loaded, problem=f"The model {model.name} could not predict a mask of {loaded.photo.name}: {error}"
            )
        if photo.hides_prediction:
            return replace(loaded, photo=photo)
        # A person may have drawn a mask during the prediction: that mask is kept.
        mask = project.mask(photo.id) if photo.has_mask else predicted
        return replace(
            loaded, photo=photo, mask=predicted if mask is None else mask, prediction=project.prediction(photo.id)
        )

    def _predict(
        self, project: Project, model: PredictingModel, photo: Photo, rgb: NDArray[np.uint8]
    ) -> tuple[Mask, Photo]:
        with self._network_lock:
            segmenter = self._session.segmenters.get(model.name, model.device)
            result = segmenter.segment(rgb, name=photo.name)
        spec = segmenter.spec
        project.set_prediction(
            photo.id, result.mask, model=spec.name, model_version=spec.version, confidence=result.confidence,
            probability=result.probability,
        )  # fmt: skip
        return result.mask, project.photo(photo.id)
