"""Ask before the window closes while masks of the Segment tab have unsaved changes."""

from collections.abc import Callable

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QMessageBox, QWidget

from napari_skinseg.plugin.close_guard import CloseGuard


class UnsavedMasksGuard(CloseGuard):
    """Asks *Save*, *Discard* or *Cancel* before the window of a panel closes.

    Args:
        panel: the panel.
        list_unsaved: returns the names of the masks with unsaved changes.
        save: saves them; returns an error message, or an empty text if everything is saved.
    """

    def __init__(self, panel: QWidget, list_unsaved: Callable[[], list[str]], save: Callable[[], str]) -> None:
        super().__init__(panel)
        self._list_unsaved, self._save_masks = list_unsaved, save

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Keep the window open on *Cancel*, and if saving fails."""
        if watched is self.window and event.type() == QEvent.Type.Close and not self._confirm():
            event.ignore()
            return True
        return bool(super().eventFilter(watched, event))

    def _confirm(self) -> bool:
        names, buttons = self._list_unsaved(), QMessageBox.StandardButton
        if not names:
            return True
        answer = QMessageBox.question(
            self._panel,
            "Save your changes?",
            f"You changed {', '.join(names)} by hand, and the changes are not saved.\n\n"
            "Save writes each mask to a new file beside its photo.",
            buttons.Save | buttons.Discard | buttons.Cancel,
        )
        if answer == buttons.Save:
            message = self._save_masks()
            if message:
                QMessageBox.critical(self._panel, "Not saved", message)
            return not message
        return bool(answer == buttons.Discard)
