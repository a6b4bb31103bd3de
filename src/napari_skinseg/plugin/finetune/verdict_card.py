"""The verdict on one step of a run: a sentence, a table of both models, the photos, and a button to use the result."""

from qtpy.QtWidgets import QFrame, QGridLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout

from napari_skinseg.finetuning.verdict import STEP_NAMES, ModelResult, Verdict
from napari_skinseg.plugin.background import Background
from napari_skinseg.plugin.forms import WrappingText

from .comparison_strip import ComparisonStrip

_BETTER, _NOT_BETTER = "#1b7a45", "#8a5a00"  # white text is readable on both
CHOSEN = "QPushButton { background: #1b6ec2; color: white; font-weight: bold; padding: 6px; }"
OTHER = "QPushButton { padding: 6px; }"

_ROWS = {
    "Dice": "Overlap with your outlines, from 0 to 1; the mean of all held-out photos.",
    "95 % interval": "The interval of this mean; it is narrower with more photos.",
    "Worst photo": "Lowest Dice of each model.",
    "Failures": "Photos with an outline so wrong (Jaccard below 0.65) that it is of no use.",
    "Generated photos": "Dice on generated photos; a lower value means that the new model has forgotten other lesions.",
}


class VerdictCard(QFrame):
    """Hidden until `show_verdict`.

    Args:
        background: draws the photos.
        title: heading of the step.
        adopt: text of the button that uses the result.
        tooltip: of this button.
    """

    def __init__(self, background: Background, title: str, adopt: str, tooltip: str) -> None:
        super().__init__()
        self.title, self.sentence = QLabel(f"<b>{title}</b>"), WrappingText()
        self.names = QLabel(), QLabel()
        self.cells = {row: (QLabel(), QLabel()) for row in _ROWS}
        self.strip = ComparisonStrip(background)
        self._adopt, self.adopt_button = adopt, QPushButton(adopt)
        self.adopt_button.setToolTip(tooltip)
        self._lay_out()
        self.hide()

    def show_verdict(self, verdict: Verdict) -> None:
        """Show the results of both models and recommend one."""
        colour = _BETTER if verdict.better else _NOT_BETTER
        self.sentence.setText(verdict.sentence)
        self.sentence.setStyleSheet(
            f"QLabel {{ background: {colour}; color: white; border-radius: 4px; padding: 6px; }}"
        )
        names = STEP_NAMES[verdict.previous], STEP_NAMES[verdict.step]
        for label, name in zip(self.names, names, strict=True):
            label.setText(f"<b>{name}</b>")
        phantoms = (verdict.phantoms_base, verdict.phantoms_candidate)
        for column, result in enumerate((verdict.base, verdict.candidate)):
            texts = (*_cell_texts(result, verdict.measured), _format(phantoms[column]))
            for cells, text in zip(self.cells.values(), texts, strict=True):
                cells[column].setText(text)
        for label in (self._phantoms_title, *self.cells["Generated photos"]):
            label.setVisible(verdict.step == "weights")  # a border forgets nothing
        self.adopt_button.setText(self._adopt if verdict.better else f"{self._adopt} anyway…")
        self.adopt_button.setStyleSheet(CHOSEN if verdict.better else OTHER)
        self.strip.show_cases(verdict.compared, *names)
        self.show()

    def clear(self) -> None:
        """Hide the verdict."""
        self.strip.clear_cases()
        self.hide()

    def _lay_out(self) -> None:
        table = QGridLayout()
        table.setColumnStretch(2, 1)
        for column, name in enumerate(self.names, start=1):
            table.addWidget(name, 0, column)
        for number, (row, cells) in enumerate(self.cells.items(), start=1):
            title = QLabel(row)
            for column, label in enumerate((title, *cells)):
                label.setToolTip(_ROWS[row])
                table.addWidget(label, number, column)
        self._phantoms_title = title
        self.adopt_button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.title)
        layout.addWidget(self.sentence)
        layout.addLayout(table)
        layout.addWidget(self.strip)
        layout.addWidget(self.adopt_button)


def _cell_texts(result: ModelResult, measured: bool) -> tuple[str, str, str, str]:
    if not measured:
        return "–", "–", "–", "–"
    interval = "–" if result.low is None or result.high is None else f"{result.low:.2f} to {result.high:.2f}"
    return _format(result.dice), interval, _format(result.worst), f"{result.failures} of {result.cases}"


def _format(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
