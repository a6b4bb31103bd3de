"""The widgets of the Fine-tune tab and their layout; `panel` holds their behaviour."""

from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
)

from napari_skinseg.plugin.background import Background
from napari_skinseg.plugin.forms import RunForm, WrappingText

from .curve import LearningCurve
from .history import ModelHistory
from .options import FineTuneFields
from .verdict_card import VerdictCard


class FineTuneForm(RunForm):
    """The widgets in the order of their use: photos, base, run, verdict, fine-tuned models."""

    def __init__(self, background: Background) -> None:
        super().__init__("Stop. No model is changed.")
        _let_shrink(self.cancel_button)
        self.source, self.base = _combo_box(), _combo_box()
        self.source.setToolTip("The project, or the folder, with your corrected and accepted masks.")
        self.source.setPlaceholderText("Open a folder in Review")
        self.base.setToolTip("The model to start from. It is not changed.")
        self.folder_button = QToolButton()
        self.folder_button.setText("…")
        self.folder_button.setToolTip("Choose another project, or a folder of photos with masks.")
        self.evidence = WrappingText()
        self.options = FineTuneFields()
        self.border_button = _button(
            "1. Match my border", "Fit the border of the base to your masks, in seconds and without training."
        )
        self.start_button = _button(
            "2. Fine-tune", "Match the border, and then train a copy of the base on your masks: some minutes."
        )
        self.border_button.setStyleSheet("QPushButton { font-weight: bold; padding: 6px; }")
        self.start_button.setStyleSheet("QPushButton { font-weight: bold; padding: 6px; }")
        self.resume_button = _button("Continue", "Continue the stopped run with its own settings.")
        self.restart_button = _button("Start again", "Delete the stopped run; start a new one with the settings above.")
        self.curve = LearningCurve(background)
        self.pause_button = _button("Pause", "Let the run wait, so that the computer is free; nothing is lost.")
        self.border = VerdictCard(
            background, "1. Border", "Use my border", "Use the base with your border in all tabs. One press reverts it."
        )
        self.verdict = VerdictCard(
            background, "2. Fine-tuned model", "Adopt", "Use the new model from now on. One press reverts it."
        )
        self.keep_button = _button("Keep base", "Use neither, and delete them. Your corrections are kept.")
        self.keep_button.hide()  # until a run waits for a decision
        self.off_button = _button("", "")
        self.history = ModelHistory()
        self._lay_out()
        self.show_running(False)
        self.say("")
        self.ask("")

    def ask(self, text: str) -> None:
        """Ask whether to continue an unfinished run, and hide the start buttons; an empty text asks nothing."""
        super().ask(text)
        for button in (self.border_button, self.start_button):
            button.setVisible(not text)

    def show_running(self, running: bool) -> None:
        """Enable Cancel during a run, and all other widgets otherwise."""
        super().show_running(running)
        for widget in (self.border_button, self.start_button, self.source, self.folder_button, self.base, self.options):
            widget.setEnabled(not running)
        self.cancel_button.setVisible(running)
        self.pause_button.setVisible(running)
        self.show_paused(False)

    def show_paused(self, paused: bool) -> None:
        """Show whether the run waits."""
        self.pause_button.setText("Resume" if paused else "Pause")

    def show_verdict_in_view(self) -> None:
        """Scroll to the first verdict, which a small screen does not show."""
        parent = self.parentWidget()
        while parent is not None and not isinstance(parent, QScrollArea):
            parent = parent.parentWidget()
        if parent is not None:
            card = self.border if self.border.isVisible() else self.verdict
            parent.ensureWidgetVisible(card, 0, 0)

    def _lay_out(self) -> None:
        source = QHBoxLayout()
        source.addWidget(self.source, 1)
        source.addWidget(self.folder_button)
        choices = QFormLayout()
        choices.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        choices.addRow("Learn from", source)
        choices.addRow(self.evidence)
        choices.addRow("Start from", self.base)
        answers = QHBoxLayout()
        answers.addWidget(self.resume_button)
        answers.addWidget(self.restart_button)
        self.question_layout.addLayout(answers)
        running = QHBoxLayout()
        running.addWidget(self.progress, 2)
        running.addWidget(self.pause_button, 1)
        running.addWidget(self.cancel_button, 1)
        layout = QVBoxLayout(self)
        layout.addLayout(choices)
        layout.addWidget(self.options)
        for widget in (self.border_button, self.start_button, self.off_button, self.question):
            layout.addWidget(widget)
        layout.addLayout(running)
        for widget in (self.message, self.curve, self.border, self.verdict, self.keep_button, self.history):
            layout.addWidget(widget)
        layout.addStretch(1)


def _button(text: str, tooltip: str) -> QPushButton:
    button = QPushButton(text, toolTip=tooltip)
    _let_shrink(button)
    return button


def _let_shrink(button: QPushButton) -> None:
    """Let the button be narrower than its text, so that a long text does not widen the dock."""
    button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)


def _combo_box() -> QComboBox:
    box = QComboBox()
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    return box
