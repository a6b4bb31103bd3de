"""The table of fine-tuned models, newest first, with buttons to use a model or to go back to its base."""

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHeaderView, QLabel, QPushButton, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

from napari_skinseg.models.store import StoredModel

_COLUMNS = ("Model", "Dice", "")
_SHOWN = 4  # rows; a scroll bar reaches more


class ModelHistory(QWidget):
    """Hidden while there is no fine-tuned model."""

    revert_requested = Signal(str)
    """Revert was pressed; the value is the name of the model whose base shall be the default."""
    use_requested = Signal(str)
    """Use was pressed; the value is the name of the model that shall be the default."""

    def __init__(self) -> None:
        super().__init__()
        self.buttons: dict[str, QPushButton] = {}
        self.table = QTableWidget(0, len(_COLUMNS))
        self.table.setHorizontalHeaderLabels(_COLUMNS)
        self.table.verticalHeader().hide()
        self.table.setShowGrid(False)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setSelectionMode(QTableWidget.SelectionMode.NoSelection)
        self.table.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # to scroll; Tab goes on to the buttons
        self.table.setTabKeyNavigation(False)
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(QLabel("<b>Fine-tuned models</b>"))
        layout.addWidget(self.table)

    def show_models(self, models: list[StoredModel], in_use: str) -> None:
        """List `models`; `in_use` is the name of the default model."""
        self.setVisible(bool(models))
        self.table.setRowCount(len(models))
        self.buttons.clear()
        for row, model in enumerate(models):
            self._fill(row, model, model.name == in_use)
        self.table.resizeRowsToContents()
        rows = sum(self.table.rowHeight(row) for row in range(min(_SHOWN, len(models))))
        self.table.setFixedHeight(self.table.horizontalHeader().sizeHint().height() + rows + 4)

    def _fill(self, row: int, model: StoredModel, in_use: bool) -> None:
        provenance: dict[str, Any] = {} if model.spec is None else dict(model.spec.provenance)
        base, date = provenance.get("base", "?"), provenance.get("date", "")[:16].replace("T", " ")
        cells = (f"{model.name}\n{date}, from {base}", _dice(model))
        for column, text in enumerate(cells):
            item = QTableWidgetItem(text)
            item.setToolTip(f"{cells[0]}\n{provenance.get('cases', '')}".rstrip())
            self.table.setItem(row, column, item)
        button = QPushButton("Revert" if in_use else "Use")
        signal = self.revert_requested if in_use else self.use_requested
        button.setToolTip(f"Go back to {base}; {model.name} stays in this list." if in_use else f"Use {model.name}.")
        button.clicked.connect(lambda: signal.emit(model.name))
        self.table.setCellWidget(row, 2, button)
        self.buttons[model.name] = button


def _dice(model: StoredModel) -> str:
    """Dice of the base and of the model on held-out photos; "–" means "not measured"."""
    metrics = {} if model.spec is None else model.spec.metrics
    figures = [metrics.get(name) for name in ("held-out Dice, base", "held-out Dice")]
    return " → ".join("–" if figure is None else f"{figure:.2f}" for figure in figures)
