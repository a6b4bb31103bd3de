"""The result card: the confidence of one mask in words and colour, and its most important measurements."""

from collections.abc import Mapping
from typing import Literal

from qtpy.QtWidgets import QFrame, QPushButton, QVBoxLayout

from napari_skinseg.measurement.measure import NOTE, Value, three_digits
from napari_skinseg.plugin.forms import WrappingText
from napari_skinseg.segmentation.confidence import ConfidenceLevel

_COLOURS: dict[ConfidenceLevel | Literal["edited"], str] = {
    "good": "#1b7a45",
    "check": "#8a5a00",
    "poor": "#b3261e",
    "empty": "#4d5b73",
    "edited": "#4d5b73",
}
"""White text is readable on each colour."""


class ResultCard(QFrame):
    """Hidden while there is no mask."""

    def __init__(self) -> None:
        super().__init__()
        self.verdict, self.figures = WrappingText(), WrappingText()
        self.figures.setToolTip(f"{NOTE} All measurements are in the mask layer's features table.")
        self.uncertain_button = QPushButton("Show the uncertain outline")
        self.uncertain_button.setToolTip(
            "Show the outline that the model considers unlikely to be a lesion. Ctrl+Z undoes this."
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.verdict)
        layout.addWidget(self.uncertain_button)
        layout.addWidget(self.figures)
        self.clear()

    def clear(self) -> None:
        """Hide the card."""
        self.hide()
        self._set_figures("")

    def show_result(
        self, words: str, level: ConfidenceLevel | Literal["edited", ""], tooltip: str = "", *, withheld: bool = False
    ) -> None:
        """Show how good the mask is expected to be; hide the measurements until `show_figures`.

        Args:
            words: one or two sentences; may be empty.
            level: sets the colour.
            tooltip: tooltip of the sentences.
            withheld: offer to show an outline that the model considers unlikely to be a lesion.
        """
        self.verdict.setText(words.replace(" %", "\u00a0%"))
        self.verdict.setToolTip(tooltip)
        if level:
            self.verdict.setStyleSheet(
                f"QLabel {{ background: {_COLOURS[level]}; color: white; border-radius: 4px; padding: 6px; }}"
            )
        self.verdict.setVisible(bool(words))
        self._set_figures("")
        self.uncertain_button.setVisible(withheld)
        self.show()

    def show_figures(self, values: Mapping[str, Value]) -> None:
        """Show the lesion's size, in millimetres only if the scale is known."""
        area = _sizes(values, ("area_mm2", "mm²"), ("area_px", "px"), ("area_percent", "% of photo"))
        diameter = _sizes(values, ("longest_diameter_mm", "mm"), ("longest_diameter_px", "px"))
        notes = str(values["flags"] or "") if area else ""
        lines = [area and f"Area: {area}", diameter and f"Longest diameter: {diameter}"]
        lines.append(notes and f"{notes[0].upper()}{notes[1:]}.")
        self._set_figures("\n".join(line for line in lines if line))

    def add_note(self, note: str) -> None:
        """Add a sentence below the measurements."""
        self._set_figures("\n".join(text for text in (self.figures.text(), note) if text))

    def _set_figures(self, text: str) -> None:
        self.figures.setText(text)
        self.figures.setVisible(bool(text))  # an empty label takes space, too


def _sizes(values: Mapping[str, Value], *columns: tuple[str, str]) -> str:
    return " · ".join(f"{_grouped(values[name])} {unit}" for name, unit in columns if values[name] is not None)


def _grouped(value: Value) -> str:
    """Return three significant digits, with a narrow space between thousands."""
    text = three_digits(value)
    return f"{int(text):,}".replace(",", "\u202f") if text.isdigit() else text
