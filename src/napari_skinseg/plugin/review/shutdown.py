"""TODO."""

import weakref
from contextlib import suppress

from qtpy.QtWidgets import QApplication, QWidget

from napari_skinseg.plugin.review.navigator import Walk
from napari_skinseg.project.project import Project


class Shutter:
    """Saves and closes whatever is left when the widget has gone; for those who have no window any more."""

    def __init__(self, walk: Walk, projects: list[Project]) -> None:
        self._walk, self._projects = walk, projects

    def __call__(self) -> None:
        with suppress(RuntimeError):  # at the very end Qt may have deleted all; the closing window has saved before
            self._walk.shut()
        for project in self._projects:
            project.close()
        self._projects.clear()


def close_at_end(widget: QWidget, shutter: Shutter) -> None:
    """Call `shutter` when `widget` is destroyed, or when the program ends before."""
    widget.destroyed.connect(shutter)  # not a method of the widget: by then its own methods are gone
    known = weakref.ref(shutter)

    def at_end() -> None:
        found = known()
        if found is not None:
            found()

    application = QApplication.instance()
    if application is not None:
        application.aboutToQuit.connect(at_end)
