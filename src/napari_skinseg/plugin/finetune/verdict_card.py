"""The verdict on a candidate: a sentence, the figures of both models, and the two ways to go on."""

from qtpy.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout

from napari_skinseg.finetuning.verdict import ModelResult, Verdict
from napari_skinseg.plugin.background import Background
from napari_skinseg.plugin.forms import WrappingText

from .comparison_strip import Strip

_BETTER, _NOT_BETTER = "#1b7a45", "#8a5a00"  # white text is legible on each
_CHOSEN = "QPushButton { background: #1b6ec2; color: white; font-weight: bold; padding: 6px; }"
_OTHER = "QPushButton { padding: 6px; }"

_ROWS = {
    "Dice": "Overlap with your outlines, from 0 to 1; the mean of all photos.",
    "95 % range": "Where that mean lies with 95 % certainty; narrower with more photos.",
    "Worst photo": "Dice of the photo that each model draws worst.",
    "Failures": "Photos drawn so far off (Jaccard below 0.65) that the outline is of no use.",
    "Phantoms": "Dice on generated photos: a model that got worse there has forgotten what it knew.",
}


class VerdictCard(QFrame):
    """Hidden until `show_verdict`."""

    def __init__(self, background: Background) -> None:
        super().__init__()
        self.sentence = WrappingText()
        self.cells = {row: (QLabel(), QLabel()) for row in _ROWS}
        self.strip = Strip(background)
        self.adopt_button, self.keep_button = QPushButton("Adopt"), QPushButton("Keep base")
        self._lay_out()
        self.hide()

    def show_verdict(self, verdict: Verdict) -> None:
        """Show the figures of both models and recommend one."""
        colour = _BETTER if verdict.better else _NOT_BETTER
        self.sentence.setText(verdict.sentence)
        self.sentence.setStyleSheet(
            f"QLabel {{ background: {colour}; color: white; border-radius: 4px; padding: 6px; }}"
        )
        phantoms = (verdict.phantoms_base, verdict.phantoms_candidate)
        for column, judged in enumerate((verdict.base, verdict.candidate)):
            texts = (*_figures(judged, verdict.measured), _number(phantoms[column]))
            for cells, text in zip(self.cells.values(), texts, strict=True):
                cells[column].setText(text)
        self.adopt_button.setText("Adopt" if verdict.better else "Adopt anyway…")
        self.adopt_button.setStyleSheet(_CHOSEN if verdict.better else _OTHER)
        self.keep_button.setStyleSheet(_OTHER if verdict.better else _CHOSEN)
        self.strip.show_cases(verdict.compared)
        self.show()

    def clear(self) -> None:
        """Say nothing."""
        self.strip.clear_cases()
        self.hide()

    def _lay_out(self) -> None:
        self.adopt_button.setToolTip("Use the new model from now on. The base stays; one press below goes back to it.")
        self.keep_button.setToolTip("Go on as before and drop the new model. Your corrections stay.")
        table = QGridLayout()
        table.setColumnStretch(2, 1)
        for column, name in enumerate(("<b>base</b>", "<b>new</b>"), start=1):
            table.addWidget(QLabel(name), 0, column)
        for number, (row, cells) in enumerate(self.cells.items(), start=1):
            title = QLabel(row)
            for column, label in enumerate((title, *cells)):
                label.setToolTip(_ROWS[row])
                table.addWidget(label, number, column)
        buttons = QHBoxLayout()
        for button in (self.adopt_button, self.keep_button):
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.sentence)
        layout.addLayout(table)
        layout.addWidget(self.strip)
        layout.addLayout(buttons)


def _figures(judged: ModelResult, measured: bool) -> tuple[str, str, str, str]:
    if not measured:
        return "–", "–", "–", "–"
    interval = "–" if judged.low is None or judged.high is None else f"{judged.low:.2f} to {judged.high:.2f}"
    return _number(judged.dice), interval, _number(judged.worst), f"{judged.failures} of {judged.cases}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
