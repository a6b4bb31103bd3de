"""The widgets and the layout of the Segment tab; `panel` connects them to actions."""

from collections.abc import Callable
from typing import Any

from magicgui.widgets import create_widget
from napari.layers import Layer
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
)

from napari_skinseg.plugin.correct.refine_tool import RefineTool
from napari_skinseg.plugin.forms import RunForm, WrappingText

from .options import MaskOptions
from .result_card import ResultCard


class SegmentForm(RunForm):
    """The fields, buttons and messages, from top to bottom in the order of use."""

    def __init__(self, photos: Callable[[Any], list[Layer]], refine: RefineTool) -> None:
        super().__init__("Stop after the present photo; finished masks stay.")
        # This chooser of magicgui holds layer objects and shows their present names.
        self.photo = create_widget(annotation="napari.layers.Image", options={"choices": photos, "nullable": False})
        self.photo.native.setPlaceholderText("Open a photo first")
        self.photo.native.setToolTip("The photo to segment. Of a stack, the visible plane is segmented.")
        self.model = QComboBox()
        self.device = WrappingText()
        self.options = MaskOptions()
        self.keep_probability = QCheckBox("Show probability")
        self.keep_probability.setToolTip("Also add a layer with the probability of lesion for each pixel.")
        self.segment_button = _button("Segment", "Outline the lesion in the chosen photo.")
        self.segment_button.setStyleSheet("QPushButton { font-weight: bold; padding: 6px; }")
        self.all_button = _button("Segment all open images", "Outline the lesion in every open photo.")
        self.save_button = _button("Save mask…", "Save the mask of the chosen photo as a PNG file.")
        self.card = ResultCard()
        self.refine = refine
        self.replace_button = _button("Replace my changes", "Ctrl+Z on the mask layer restores your changes.")
        self._lay_out()
        self.show_running(False)
        self.say("")
        self.ask("")

    def show_running(self, running: bool) -> None:
        """Enable either the buttons that start a run, or Cancel."""
        super().show_running(running)
        for start in (self.segment_button, self.all_button, self.card.uncertain_button):
            start.setEnabled(not running)

    def _lay_out(self) -> None:
        choices = QFormLayout()
        choices.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        choices.addRow("Image", self.photo.native)
        choices.addRow("Model", self.model)
        choices.addRow(self.device)
        for box in (self.photo.native, self.model):
            # A long file name must not widen the dock.
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(12)
            box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        extras = QHBoxLayout()
        extras.addWidget(self.options.tta)
        extras.addWidget(self.keep_probability)
        buttons = QHBoxLayout()
        buttons.addWidget(self.segment_button, 2)
        buttons.addWidget(self.cancel_button, 1)
        self.question_layout.addWidget(self.replace_button)
        layout = QVBoxLayout(self)
        layout.addLayout(choices)
        layout.addWidget(self.options)
        layout.addLayout(extras)
        layout.addLayout(buttons)
        for widget in (
            self.all_button,
            self.refine,
            self.save_button,
            self.card,
            self.progress,
            self.message,
            self.question,
        ):
            layout.addWidget(widget)
        layout.addStretch(1)


def _button(text: str, tooltip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tooltip)
    return button
