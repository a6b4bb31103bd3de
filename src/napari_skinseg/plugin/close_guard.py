"""Every way out of the Review tab leads past here: the window closes, the dock closes, the program ends."""

from collections.abc import Callable

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QMessageBox, QWidget


class Door(QObject):
    """Watches the window and the dock that a panel is in.

    Args:
        panel: the panel.
        finish: saves on the spot; returns a sentence if that failed.
        save_elsewhere: lets the person write the mask to another file.
        leave: saves and closes the project.
    """

    def __init__(
        self,
        panel: QWidget,
        finish: Callable[[], str],
        save_elsewhere: Callable[[], None],
        leave: Callable[[], None],
    ) -> None:
        super().__init__(panel)
        self._panel, self._finish, self._save_elsewhere, self._leave = panel, finish, save_elsewhere, leave
        self.window: QMainWindow | None = None
        self._docked: QWidget | None = None

    def watch(self) -> None:
        """Find the window and the dock; call it whenever the panel is shown."""
        above: QWidget | None = self._panel
        while above is not None and not isinstance(above, QMainWindow):
            if isinstance(above.parentWidget(), QDockWidget) and above is not self._docked:
                self._docked = above
                above.installEventFilter(self)
            above = above.parentWidget()
        if above is not None and above is not self.window:
            self.window = above
            above.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Save before the window closes, and keep it open if that fails, unless the person gives the mask up."""
        if watched is self._docked and event.type() == QEvent.Type.ParentChange:
            # napari takes the widget out of a dock that closes; what holds layers and keys would live on for ever.
            QTimer.singleShot(0, self._leave_dock)
        if watched is self.window and event.type() == QEvent.Type.Close:
            while sentence := self._finish():
                buttons = QMessageBox.StandardButton
                answer = QMessageBox.critical(
                    self._panel,
                    "NOT SAVED",
                    f"{sentence}\n\nThe last strokes are not on disk.",
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

    def _leave_dock(self) -> None:
        if self._docked is not None and self._docked.parentWidget() is None:
            self._docked = self.window = None
            self._leave()
