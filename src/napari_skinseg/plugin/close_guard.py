"""Save before the window or the dock of a panel closes."""

from collections.abc import Callable

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QMessageBox, QWidget


class CloseGuard(QObject):
    """Watches the window and the dock that contain a panel.

    Args:
        panel: the panel.
        save: saves at once; returns an error message, or an empty text if everything is saved.
        save_elsewhere: lets the person write the mask to another file.
        on_dock_closed: called after the dock was closed.

    Attributes:
        window: the window of the panel; None before `watch` and after the window was closed.
    """

    def __init__(
        self,
        panel: QWidget,
        save: Callable[[], str] = lambda: "",
        save_elsewhere: Callable[[], None] = lambda: None,
        on_dock_closed: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(panel)
        self._panel, self._save, self._save_elsewhere = panel, save, save_elsewhere
        self._on_dock_closed = on_dock_closed
        self.window: QMainWindow | None = None
        self._docked: QWidget | None = None

    def watch(self) -> None:
        """Find the window and the dock; call this each time the panel is shown."""
        parent: QWidget | None = self._panel
        while parent is not None and not isinstance(parent, QMainWindow):
            if isinstance(parent.parentWidget(), QDockWidget) and parent is not self._docked:
                self._docked = parent
                parent.installEventFilter(self)
            parent = parent.parentWidget()
        if parent is not None and parent is not self.window:
            self.window = parent
            parent.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Save before the window closes. If saving fails, ask the person, and keep the window open on *Cancel*."""
        if watched is self._docked and event.type() == QEvent.Type.ParentChange:
            # napari removes the widget from a dock that closes, but does not delete the widget.
            QTimer.singleShot(0, self._check_dock)
        if watched is self.window and event.type() == QEvent.Type.Close:
            while message := self._save():
                buttons = QMessageBox.StandardButton
                answer = QMessageBox.critical(
                    self._panel,
                    "NOT SAVED",
                    f"{message}\n\nThe last strokes are not saved.",
                    buttons.Retry | buttons.Save | buttons.Discard | buttons.Cancel,
                )
                if answer == buttons.Save:
                    self._save_elsewhere()
                elif answer == buttons.Discard:
                    break
                elif answer != buttons.Retry:
                    event.ignore()
                    return True
            self.window = None
        return False

    def _check_dock(self) -> None:
        if self._docked is not None and self._docked.parentWidget() is None:
            self._docked = self.window = None
            self._on_dock_closed()
