"""A dialog that lists the unreadable files of a folder."""

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtWidgets import (
    QApplication,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_skinseg.errors import BadInput
from napari_skinseg.files import write_csv
from napari_skinseg.plugin.forms import Message


class UnreadableFiles(QDialog):
    """Lists files that cannot be read as photos, each with the reason.

    Args:
        files: (path, reason) of each file.
        parent: the panel.
    """

    def __init__(self, files: Sequence[tuple[Path, str]], parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Unreadable files: {len(files):,}")
        self.resize(800, 400)
        self.table = QTableWidget(len(files), 2)
        self.table.setHorizontalHeaderLabels(["File", "Reason"])
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        for row, (path, reason) in enumerate(files):
            for column, text in enumerate((path.name, reason)):
                item = QTableWidgetItem(text)
                item.setToolTip(f"{path}\n{reason}")
                self.table.setItem(row, column, item)
        self.table.resizeColumnToContents(0)
        self.table.horizontalHeader().setStretchLastSection(True)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        self.copy_button = buttons.addButton("Copy list", QDialogButtonBox.ButtonRole.ActionRole)
        self.save_button = buttons.addButton("Save…", QDialogButtonBox.ButtonRole.ActionRole)
        self.message = Message()
        self._files = files
        lines = "\n".join(f"{path}\t{reason}" for path, reason in files)
        self.copy_button.clicked.connect(lambda: QApplication.clipboard().setText(lines))
        self.save_button.clicked.connect(self._save)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(self.table)
        layout.addWidget(self.message)
        layout.addWidget(buttons)

    def _save(self) -> None:
        """Let the user choose a file, and write the list as a table."""
        path, _ = QFileDialog.getSaveFileName(self, "Save list", "unreadable.csv", "Table (*.csv)")
        if path:
            try:
                write_csv(Path(path), ["file", "reason"], [[str(file), reason] for file, reason in self._files])
            except BadInput as error:
                self.message.say(str(error), is_problem=True)
            else:
                self.message.say(f"The list is saved as {path}.")
