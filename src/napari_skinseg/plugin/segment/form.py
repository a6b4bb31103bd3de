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
    QWidget,
)

from napari_skinseg.plugin.correct.refine_tool import RefineTool
from napari_skinseg.plugin.correct.scale_tool import ScaleTool
from napari_skinseg.plugin.forms import Collapsible, MessageArea, RunForm, WrappingText

from .options import MaskOptions
from .result_card import ResultCard


class SegmentForm(RunForm):
    """The fields, buttons and messages, from top to bottom in the order of use."""

    def __init__(self, photos: Callable[[Any], list[Layer]], refine: RefineTool, scale: ScaleTool) -> None:
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
        self.segment_button = QPushButton("&Segment", toolTip="Outline the lesion in the chosen photo. (Alt+S)")
        self.segment_button.setStyleSheet("QPushButton { font-weight: bold; padding: 6px; }")
        self.all_button = QPushButton("Segment &all open", toolTip="Outline the lesion in every open photo. (Alt+A)")
        self.folder_button = QPushButton(
            "Segment fol&der…",
            toolTip="Outline the lesions in all photos of a folder, and write masks and a table. (Alt+D)",
        )
        self.save_button = QPushButton(
            "Save &mask…", toolTip="Save the mask of the chosen photo as a PNG file. (Alt+M)"
        )
        self.card = ResultCard()
        self.refine, self.scale = refine, scale
        self.replace_button = QPushButton(
            "Replace my changes", toolTip="Ctrl+Z on the mask layer restores your changes."
        )
        self._started_by: QPushButton | None = None
        self._lay_out()
        self.show_running(False)
        self.say("")
        self.ask("")

    def show_running(self, running: bool) -> None:
        """Enable either the buttons that start a run, or Cancel; the keyboard goes to Cancel and back."""
        starts = (self.segment_button, self.all_button, self.folder_button, self.card.uncertain_button)
        if running:
            self._started_by = next((start for start in starts if start.hasFocus()), None)
        returns_to = self._started_by if self.cancel_button.hasFocus() else None
        super().show_running(running)
        if running and self._started_by is not None:
            self.cancel_button.setFocus()
        for start in starts:
            start.setEnabled(not running)
        if not running and returns_to is not None:
            returns_to.setFocus()

    def _lay_out(self) -> None:
        choice = QFormLayout()
        choice.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        choice.addRow("&Image", self.photo.native)
        for box in (self.photo.native, self.model):
            # A long file name must not widen the dock.
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(12)
            box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        start = QHBoxLayout()
        start.addWidget(self.segment_button, 2)
        start.addWidget(self.cancel_button, 1)
        many = QHBoxLayout()
        many.addWidget(self.all_button)
        many.addWidget(self.folder_button)
        results = QHBoxLayout()
        results.addWidget(self.save_button, 2)
        results.addWidget(self.scale.button, 1)
        self.question_layout.addWidget(self.replace_button)
        messages = MessageArea(self.progress, self.message, self.refine.message, self.question, lines=5)
        layout = QVBoxLayout(self)
        layout.addLayout(choice)
        layout.addLayout(start)
        layout.addWidget(self.refine)
        layout.addLayout(results)
        collapsed = self._collapsed()
        for widget in (messages, self.card, self.options, Collapsible("&Options", collapsed), collapsed):
            layout.addWidget(widget)
        layout.addLayout(many)
        layout.addStretch(1)

    def _collapsed(self) -> QWidget:
        """Return the part that is hidden at first: check boxes, model and device."""
        model = QFormLayout()
        model.setContentsMargins(0, 0, 0, 0)
        model.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        model.addRow("Mod&el", self.model)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.options.switches)
        layout.addWidget(self.keep_probability)
        layout.addLayout(model)
        layout.addWidget(self.device)
        return content
