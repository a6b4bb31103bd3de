"""What the tabs of one widget share: the viewer, the workers, the loaded models and the preferences."""

import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from napari.settings import get_plugin_settings
from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QObject, Signal

from napari_skinseg.errors import BadInput
from napari_skinseg.models import store

from .background import Background

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_skinseg.segmentation.segmenter import Segmenter

PLUGIN = "napari-skinseg"

SECONDS_OF_ACTIVITY = 20.0
"""The user counts as active for this time after the last action. Most people look at a photo for a shorter time."""

_log = logging.getLogger(__name__)


class Session(QObject):
    """One per widget; call `close` when the widget is destroyed.

    Attributes:
        viewer: the napari viewer.
        background: the jobs of the Segment and the Review tab.
        training: the jobs of the Fine-tune tab, which run for minutes while the user works in the other tabs.
        project: folder of the project that is open in the Review tab; None if there is none.
        activity: whether the user works in the viewer.
        segmenters: the loaded models.
        is_closed: the widget is destroyed; start no more jobs.
    """

    models_changed = Signal(str)
    """The models of this computer changed; the value is the name of the model to use from now on."""

    def __init__(self, viewer: "ViewerModel") -> None:
        super().__init__()
        self.viewer = viewer
        self.background, self.training = Background(), Background()
        self.project: Path | None = None
        self.activity = UserActivity(viewer)
        self.segmenters = Segmenters(on_message=show_info)
        self.is_closed = False

    def close(self) -> None:
        """Cancel all jobs and wait until they have ended."""
        self.is_closed = True
        self.training.close()
        self.background.close()


class UserActivity:
    """Tells whether the user works in the viewer: moves the mouse over a photo, or goes to another photo in Review."""

    def __init__(self, viewer: "ViewerModel") -> None:
        self._last_action = -math.inf
        viewer.cursor.events.position.connect(self.note)

    def note(self, event: object = None) -> None:
        """Note that the user did something now."""
        self._last_action = time.monotonic()

    def is_recent(self) -> bool:
        """Whether the last action was at most `SECONDS_OF_ACTIVITY` ago; any thread may ask."""
        return time.monotonic() - self._last_action <= SECONDS_OF_ACTIVITY


class Segmenters:
    """Loaded models, one per name and device. Only workers may use it: loading takes seconds and imports torch."""

    def __init__(self, on_message: Callable[[str], None]) -> None:
        self._on_message = on_message
        self._loaded: dict[tuple[str, str], Segmenter] = {}
        # Opening the tab loads a model; a run that starts before it is loaded waits, and does not load it again.
        self._lock = threading.Lock()

    def import_monai(self) -> None:
        """Import MONAI while no other thread can: two threads that import MONAI at the same time fail."""
        with self._lock:
            import monai  # noqa: F401

    def get(self, model: str, device: str) -> "Segmenter":
        """Return the segmenter of the stored `model` on `device` ("auto", "cuda", "mps", "cpu"); load it if needed."""
        from napari_skinseg.segmentation.segmenter import Segmenter

        with self._lock:
            if (model, device) not in self._loaded:
                self._loaded[model, device] = Segmenter(model, device, on_message=self._on_message)
            return self._loaded[model, device]


def preferred_model() -> str:
    """Return the name of the default model in napari's preferences; empty if the user chose none there."""
    return str(get_plugin_settings(PLUGIN).segment.model).strip()


def preferred_device() -> str:
    """Return the device in napari's preferences: "auto", "cuda", "mps" or "cpu"."""
    return str(get_plugin_settings(PLUGIN).segment.device)


def report_failure(error: Exception, what: str) -> str:
    """Show a notification that `what` failed, and return its sentence; the traceback goes to the log."""
    if isinstance(error, BadInput):
        sentence = str(error)
    else:
        _log.error("%s failed", what, exc_info=error)
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        sentence = f"{what} failed with an unexpected error ({reason}); please report it."
    show_warning(sentence)
    return sentence


def usable_model() -> str:
    """Return the preferred model if it can be used here, else the first model that can; empty if none can."""
    usable = [stored.name for stored in store.list_models() if stored.problem is None]
    preferred = preferred_model() or store.default_name()
    return preferred if preferred in usable else usable[0] if usable else ""
