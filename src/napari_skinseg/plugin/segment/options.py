"""The fields of `SegmentOptions`: the threshold, the clean-up and how the network runs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractSlider, QGridLayout, QLabel, QToolButton, QVBoxLayout, QWidget
from superqt import QLabeledDoubleSlider
from superqt.utils import signals_blocked

from napari_skinseg.pixels.cleaning import CleanUp
from napari_skinseg.plugin.forms import create_editors, field_tooltips
from napari_skinseg.segmentation.border import Border
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
        self._model = Border(0.5)
        tooltips = field_tooltips(SegmentOptions) | {"offset": field_tooltips(Border)["offset"]}
        self.threshold = _slider((0.05, 0.95), 0.01, decimals=2)
        self.threshold.setToolTip(
            tooltips["threshold"] + "\nA lower threshold gives a larger mask. The mask changes at once."
        )
        self.offset = _slider((-12, 12), 0.5, decimals=1)
        self.offset.setToolTip("In % of the diameter of the lesion. The mask changes at once.\n" + tooltips["offset"])
        self.reset, self.reset_offset = _reset_button(), _reset_button()
        for slider, reset, own in (
            (self.threshold, self.reset, lambda: self._model.threshold),
            (self.offset, self.reset_offset, lambda: 100 * self._model.offset),
        ):
            slider.valueChanged.connect(self.changed)
            reset.clicked.connect(lambda pressed=False, slider=slider, own=own: slider.setValue(own()))
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
        self.show_style()
        self.set_model_border(self._model)

    def set_model_border(self, model: Border) -> None:
        """Set the border of the model, which has a threshold; the sliders follow unless the user moved them."""
        follows = abs(self.threshold.value() - (self._model.threshold or 0.5)) < 0.005 and (
            abs(self.offset.value() / 100 - self._model.offset) < 0.0005
        )
        self._model = model
        self.reset.setToolTip(f"Reset to the model's own threshold, {model.threshold:.2f}")
        self.reset_offset.setToolTip(f"Reset to the model's own border, {100 * model.offset:+.1f} %")
        if follows:
            self.show_style()

    def show_style(
        self,
        threshold: float | None = None,
        offset: float | None = None,
        clean_up: Mapping[str, str | float | bool] | None = None,
    ) -> None:
        """Set the sliders and switches without changing a mask.

        Args:
            threshold: None: the model's own value.
            offset: the same, as a part of the lesion's diameter.
            clean_up: the fields of a `CleanUp`; None leaves the switches as they are.
        """
        offset = self._model.offset if offset is None else offset
        for slider, value in ((self.threshold, threshold or self._model.threshold), (self.offset, 100 * offset)):
            with signals_blocked(slider):
                slider.setValue(value)
        for name, step in (clean_up or {}).items():
            with signals_blocked(self.clean_up[name]):
                self.clean_up[name].setChecked(step != _OFF[name])

    def value(self) -> SegmentOptions:
        """Return the options, always with a threshold."""
        return SegmentOptions(
            threshold=self.threshold_value(),
            tta=self.tta.isChecked(),
            clean_up=self.clean_up_value(),
            second_look=self.second_look.isChecked(),
            always_outline=self.always_outline.isChecked(),
            border=replace(self._model, offset=round(float(self.offset.value()) / 100, 4)),
        )

    def threshold_value(self) -> float:
        """Return the threshold that the slider shows."""
        return round(float(self.threshold.value()), 3)

    def clean_up_value(self) -> CleanUp:
        """Return the clean-up with default values for the steps that are switched on."""
        own, switches = CleanUp(), self.clean_up
        return CleanUp(**{name: getattr(own, name) if switches[name].isChecked() else _OFF[name] for name in switches})

    def _lay_out(self) -> None:
        sliders = QGridLayout()
        sliders.setColumnStretch(1, 1)
        for number, row in enumerate(
            (
                ("&Threshold", self.threshold, self.reset),
                ("Bo&rder: tighter ↔ wider", self.offset, self.reset_offset),
            )
        ):
            label = QLabel(row[0])
            label.setBuddy(row[1].findChild(QAbstractSlider))
            for column, widget in enumerate((label, *row[1:])):
                sliders.addWidget(widget, number, column)
        grid = QGridLayout(self.switches)
        grid.setContentsMargins(0, 0, 0, 0)
        for index, switch in enumerate((*self.clean_up.values(), self.second_look, self.always_outline, self.tta)):
            grid.addWidget(switch, index // 2, index % 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(sliders)


def _slider(limits: tuple[float, float], step: float, decimals: int) -> QLabeledDoubleSlider:
    slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
    slider.setRange(*limits)
    slider.setSingleStep(step)
    slider.setDecimals(decimals)
    slider.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the slider in it takes the keys
    return slider


def _reset_button() -> QToolButton:
    button = QToolButton()
    button.setText("↺")
    return button
