"""What is said about one mask: the confidence in words and colour, and the figures a person looks for first."""

from collections.abc import Mapping

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QFrame, QLabel, QVBoxLayout, QWidget

from ..pixels.measure import NOTE, Value, three_digits
from ..segment import Verdict

_COLOURS: dict[Verdict, str] = {"good": "#1b7a45", "check": "#8a5a00", "poor": "#b3261e", "empty": "#b3261e"}
"""White text is legible on each, in napari's dark and light themes."""


def wrapping_text() -> QLabel:
    """A label for sentences: it wraps, and can be copied from."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


class ResultCard(QFrame):
    """Empty until `show_verdict`."""

    def __init__(self) -> None:
        super().__init__()
        self.verdict = wrapping_text()
        self.area, self.diameter, self.remarks = wrapping_text(), wrapping_text(), wrapping_text()
        self._figures = QWidget()
        form = QFormLayout(self._figures)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Area", self.area)
        form.addRow("Longest diameter", self.diameter)
        form.addRow(self.remarks)
        self._figures.setToolTip(f"{NOTE} All measurements are in the mask layer's features table.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.verdict)
        layout.addWidget(self._figures)
        self.clear()

    def clear(self) -> None:
        """Say nothing."""
        self.hide()
        self._figures.hide()

    def show_verdict(self, words: str, verdict: Verdict, tooltip: str) -> None:
        """Say how good the mask is expected to be; earlier figures go."""
        self.verdict.setText(words)
        self.verdict.setToolTip(tooltip)
        self.verdict.setStyleSheet(
            f"QLabel {{ background: {_COLOURS[verdict]}; color: white; border-radius: 4px; padding: 6px; }}"
        )
        self._figures.hide()
        self.show()

    def show_figures(self, values: Mapping[str, Value]) -> None:
        """Show the lesion's size; millimetres only where the scale of the layer gave them."""
        self.area.setText(_sizes(values, ("area_px", "px"), ("area_percent", "% of the photo"), ("area_mm2", "mm²")))
        self.diameter.setText(_sizes(values, ("longest_diameter_px", "px"), ("longest_diameter_mm", "mm")))
        remarks = str(values["flags"] or "")
        self.remarks.setText(remarks[:1].upper() + remarks[1:])
        self.remarks.setVisible(bool(remarks))
        self._figures.setVisible(values["area_px"] is not None)


def _sizes(values: Mapping[str, Value], *columns: tuple[str, str]) -> str:
    return " · ".join(f"{three_digits(values[name])} {unit}" for name, unit in columns if values[name] is not None)
