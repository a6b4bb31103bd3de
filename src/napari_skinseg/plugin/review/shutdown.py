"""Save and close the open projects when the widget is deleted or the program exits."""

import weakref
from collections.abc import Callable
from contextlib import suppress

from qtpy.QtWidgets import QApplication, QWidget

from napari_skinseg.project.project import Project


class ProjectCloser:
    """Saves the current photo and closes all `projects`; calling it again does nothing.

    Args:
        save: saves the current photo.
        projects: the open projects; the list is emptied.
    """

    def __init__(self, save: Callable[[], None], projects: list[Project]) -> None:
        self._save, self._projects = save, projects

    def __call__(self) -> None:
        with suppress(RuntimeError):  # at exit, Qt may have deleted the objects; `CloseGuard` has saved before
            self._save()
        for project in self._projects:
            project.close()
        self._projects.clear()


def close_project_at_exit(widget: QWidget, closer: ProjectCloser) -> None:
    """Call `closer` when `widget` is deleted or the program exits, whichever comes first."""
    widget.destroyed.connect(closer)  # not a method of the widget: Qt has deleted those before `destroyed`
    reference = weakref.ref(closer)

    def on_exit() -> None:
        if (known := reference()) is not None:
            known()

    application = QApplication.instance()
    if application is not None:
        application.aboutToQuit.connect(on_exit)
