"""What the panels of one widget share: the viewer, the workers, the loaded models, and a way to speak to the person."""

import logging
import threading
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

_log = logging.getLogger(__name__)


class Session(QObject):
    """One per widget; `close` when the widget goes.

    Attributes:
        project: folder of the project that is open for review, if any.
        training: the jobs of the Fine-tune tab, which run for minutes while the other tabs are used.
        is_closed: the widget has gone; begin nothing more.
    """

    models_changed = Signal(str)
    """A model came into use, or went out of it; the name of the one to use from now on."""

    def __init__(self, viewer: "ViewerModel") -> None:
        super().__init__()
        self.viewer = viewer
        self.background, self.training = Background(), Background()
        self.project: Path | None = None
        self.segmenters = Segmenters(on_message=show_info)
        self.is_closed = False

    def close(self) -> None:
        """Stop what runs and wait for it."""
        self.is_closed = True
        self.training.close()
        self.background.close()


class Segmenters:
    """Loaded models, one per name and device. Only for workers: loading takes seconds and imports torch."""

    def __init__(self, on_message: Callable[[str], None]) -> None:
        self._on_message = on_message
        self._loaded: dict[tuple[str, str], Segmenter] = {}
        # Opening the panel loads a model; a run that starts meanwhile waits for it instead of loading another.
        self._lock = threading.Lock()

    def import_monai(self) -> None:
        """Import MONAI before other work does: two threads that import it at once break each other."""
        with self._lock:
            import monai  # noqa: F401

    def get(self, model: str, device: str) -> "Segmenter":
        """The segmenter of the stored model `model` on `device` ("auto", "cuda", "mps", "cpu"), loaded if need be."""
        from napari_skinseg.segmentation.segmenter import Segmenter

        with self._lock:
            if (model, device) not in self._loaded:
                self._loaded[model, device] = Segmenter(model, device, on_message=self._on_message)
            return self._loaded[model, device]


def preferred_model() -> str:
    """The default model from napari's preferences; empty when the person chose none there."""
    return str(get_plugin_settings(PLUGIN).segment.model).strip()


def preferred_device() -> str:
    """The device from napari's preferences: "auto", "cuda", "mps" or "cpu"."""
    return str(get_plugin_settings(PLUGIN).segment.device)


def report_failure(error: Exception, what: str) -> str:
    """Notify the person that `what` went wrong and return the sentence; never a traceback, which goes to the log."""
    if isinstance(error, BadInput):
        sentence = str(error)
    else:
        _log.error("%s failed", what, exc_info=error)
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        sentence = f"{what} failed by an unexpected error ({reason}); please report it."
    show_warning(sentence)
    return sentence


def usable_model() -> str:
    """The model that the person prefers if it can be used here, else the first that can; empty if none can."""
    usable = [stored.name for stored in store.list_models() if stored.problem is None]
    wished = preferred_model() or store.default_name()
    return wished if wished in usable else usable[0] if usable else ""
