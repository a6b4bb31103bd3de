"""What is said about one mask: the confidence in words and colour, and the figures a person looks for first."""

from collections.abc import Mapping

from qtpy.QtWidgets import QFrame, QPushButton, QVBoxLayout

from napari_skinseg.measurement.measure import NOTE, Value, three_digits
from napari_skinseg.plugin.forms import WrappingText
from napari_skinseg.segmentation.confidence import ConfidenceLevel

_COLOURS: dict[ConfidenceLevel, str] = {"good": "#1b7a45", "check": "#8a5a00", "poor": "#b3261e", "empty": "#4d5b73"}
"""White text is legible on each, in napari's dark and light themes."""


class ResultCard(QFrame):
    """Empty until `show_verdict`."""

    def __init__(self) -> None:
        super().__init__()
        self.verdict, self.figures = WrappingText(), WrappingText()
        self.figures.setToolTip(f"{NOTE} All measurements are in the mask layer's features table.")
        self.anyway = QPushButton("Outline it anyway")
        self.anyway.setToolTip("Draw the outline that the model itself doubts. Ctrl+Z takes it back.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.verdict)
        layout.addWidget(self.anyway)
        layout.addWidget(self.figures)
        self.clear()

    def clear(self) -> None:
        """Say nothing."""
        self.hide()
        self._say_figures("")

    def show_verdict(self, words: str, verdict: ConfidenceLevel, tooltip: str, *, withheld: bool = False) -> None:
        """Say how good the mask is expected to be, and offer an outline that was withheld; earlier figures go."""
        self.verdict.setText(words.replace(" %", "\u00a0%"))
        self.verdict.setToolTip(tooltip)
        self.verdict.setStyleSheet(
            f"QLabel {{ background: {_COLOURS[verdict]}; color: white; border-radius: 4px; padding: 6px; }}"
        )
        self._say_figures("")
        self.anyway.setVisible(withheld)
        self.show()

    def show_figures(self, values: Mapping[str, Value]) -> None:
        """Show the lesion's size; millimetres only where the scale of the layer gave them."""
        area = _sizes(values, ("area_mm2", "mm²"), ("area_px", "px"), ("area_percent", "% of photo"))
        diameter = _sizes(values, ("longest_diameter_mm", "mm"), ("longest_diameter_px", "px"))
        remarks = str(values["flags"] or "") if area else ""
        lines = [area and f"Area: {area}", diameter and f"Longest diameter: {diameter}"]
        lines.append(remarks and f"{remarks[0].upper()}{remarks[1:]}.")
        self._say_figures("\n".join(line for line in lines if line))

    def _say_figures(self, text: str) -> None:
        self.figures.setText(text)
        self.figures.setVisible(bool(text))  # an empty label takes room, too


def _sizes(values: Mapping[str, Value], *columns: tuple[str, str]) -> str:
    return " · ".join(f"{_grouped(values[name])} {unit}" for name, unit in columns if values[name] is not None)


def _grouped(value: Value) -> str:
    """Three significant digits, whole thousands set apart by a narrow space."""
    text = three_digits(value)
    return f"{int(text):,}".replace(",", "\u202f") if text.isdigit() else text
