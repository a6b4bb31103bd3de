"""The fields of `SegmentOptions`: the threshold, the clean-up and how the network runs."""

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QToolButton, QVBoxLayout, QWidget
from superqt import QLabeledDoubleSlider

from napari_skinseg.pixels.cleaning import CleanUp
from napari_skinseg.plugin.forms import create_editors, field_tooltips
from napari_skinseg.segmentation.options import SegmentOptions

_LABELS = {
    "keep": "Largest lesion only",
    "min_area": "Remove small pieces",
    "fill_holes": "Fill holes",
    "smooth": "Smooth border",
    "tta": "Average with mirror image",
    "second_look": "Enlarge small lesions",
    "always_outline": "Outline in any case",
}
_OFF: dict[str, Any] = {"keep": "all", "min_area": 0.0, "fill_holes": False, "smooth": 0.0}


class MaskOptions(QWidget):
    """Takes defaults and tooltips from the dataclasses, as the command line does.

    Attributes:
        switches: the check boxes, which the form shows apart from the threshold.
    """

    changed = Signal()
    """The user changed an option that can be applied without running the network."""

    def __init__(self) -> None:
        super().__init__()
        self._model_threshold = 0.5
        self.threshold = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.threshold.setRange(0.05, 0.95)
        self.threshold.setSingleStep(0.01)
        self.threshold.setDecimals(2)
        self.threshold.setValue(self._model_threshold)
        self.threshold.setToolTip(
            field_tooltips(SegmentOptions)["threshold"]
            + "\nA lower threshold gives a larger mask. The mask changes at once."
        )
        self.threshold.valueChanged.connect(self.changed)
        self.reset = QToolButton()
        self.reset.setText("↺")
        self.reset.clicked.connect(lambda: self.threshold.setValue(self._model_threshold))
        clean_up = {
            name: {"text": _LABELS[name], "annotation": bool, "value": getattr(CleanUp(), name) != off}
            for name, off in _OFF.items()
        }
        self.clean_up = {name: editor.native for name, editor in create_editors(CleanUp(), clean_up).items()}
        switches = {name: {"text": _LABELS[name]} for name in ("tta", "second_look", "always_outline")}
        editors = create_editors(SegmentOptions(), switches, leave_out=("threshold", "clean_up", "border"))
        self.tta, self.second_look, self.always_outline = (editors[name].native for name in switches)
        for switch in self.clean_up.values():
            switch.toggled.connect(self.changed)
        self.always_outline.toggled.connect(self.changed)
        self.switches = QWidget()
        self._lay_out()
        self.set_model_threshold(self._model_threshold)

    def set_model_threshold(self, threshold: float) -> None:
        """Set the model's own threshold; the slider follows unless the user moved it."""
        follows = abs(self.threshold.value() - self._model_threshold) < 0.005
        self._model_threshold = threshold
        self.reset.setToolTip(f"Reset to the model's own threshold, {threshold:.2f}")
        if follows:
            self.show_threshold(threshold)

    def show_threshold(self, threshold: float | None = None) -> None:
        """Set the slider without changing a mask; None: to the model's own threshold."""
        self.threshold.blockSignals(True)
        self.threshold.setValue(self._model_threshold if threshold is None else threshold)
        self.threshold.blockSignals(False)

    def value(self) -> SegmentOptions:
        """Return the options, always with a threshold."""
        return SegmentOptions(
            threshold=self.threshold_value(),
            tta=self.tta.isChecked(),
            clean_up=self.clean_up_value(),
            second_look=self.second_look.isChecked(),
            always_outline=self.always_outline.isChecked(),
        )

    def threshold_value(self) -> float:
        """Return the threshold that the slider shows."""
        return round(float(self.threshold.value()), 3)

    def clean_up_value(self) -> CleanUp:
        """Return the clean-up with default values for the steps that are switched on."""
        own, switches = CleanUp(), self.clean_up
        return CleanUp(**{name: getattr(own, name) if switches[name].isChecked() else _OFF[name] for name in switches})

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        label = QLabel("&Threshold")
        label.setBuddy(self.threshold)
        row.addWidget(label)
        row.addWidget(self.threshold, 1)
        row.addWidget(self.reset)
        grid = QGridLayout(self.switches)
        grid.setContentsMargins(0, 0, 0, 0)
        for index, switch in enumerate((*self.clean_up.values(), self.second_look, self.always_outline, self.tta)):
            grid.addWidget(switch, index // 2, index % 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
