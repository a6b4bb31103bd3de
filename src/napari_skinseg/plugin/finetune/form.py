"""How the Fine-tune tab looks; what it does is in `finetune_panel`."""

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

from .curve import Curve
from .history import History
from .options import FineTuneFields
from .verdict_card import VerdictCard


class FineTuneForm(RunForm):
    """From top to bottom in the order of work: what to learn from, the run, its verdict, the models so far."""

    def __init__(self, background: Background) -> None:
        super().__init__("Stop; the model you have stays as it is.")
        _narrow(self.cancel_button)
        self.source, self.base = _chooser(), _chooser()
        self.source.setToolTip("Where your corrected and accepted masks are.")
        self.source.setPlaceholderText("Open a folder in Review")
        self.base.setToolTip("The model to start from. It stays as it is.")
        self.folder_button = QToolButton()
        self.folder_button.setText("…")
        self.folder_button.setToolTip("Choose another project, or a folder of photos with masks.")
        self.evidence = WrappingText()
        self.options = FineTuneFields()
        self.start_button = _button("Fine-tune", "Teach a copy of the base model how you draw, and judge it.")
        self.start_button.setStyleSheet("QPushButton { font-weight: bold; padding: 6px; }")
        self.go_on_button = _button("Go on", "Take the run up where it was stopped, with the settings it had.")
        self.anew_button = _button("Begin anew", "Drop that run and start another with the settings above.")
        self.curve = Curve(background)
        self.verdict = VerdictCard(background)
        self.history = History()
        self._lay_out()
        self.show_running(False)
        self.say("")
        self.ask("")

    def ask(self, text: str) -> None:
        """Ask what shall become of an unfinished run, in place of the button that starts one; "": nothing."""
        super().ask(text)
        self.start_button.setVisible(not text)

    def show_running(self, running: bool) -> None:
        """Switch between what starts a run and what stops it."""
        super().show_running(running)
        for widget in (self.start_button, self.source, self.folder_button, self.base, self.options):
            widget.setEnabled(not running)
        self.cancel_button.setVisible(running)

    def show_verdict_in_view(self) -> None:
        """Scroll to the verdict, which is below what is seen on a small screen."""
        above = self.parentWidget()
        while above is not None and not isinstance(above, QScrollArea):
            above = above.parentWidget()
        if above is not None:
            above.ensureWidgetVisible(self.verdict, 0, 0)

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
        answers.addWidget(self.go_on_button)
        answers.addWidget(self.anew_button)
        self.question_layout.addLayout(answers)
        running = QHBoxLayout()
        running.addWidget(self.progress, 2)
        running.addWidget(self.cancel_button, 1)
        layout = QVBoxLayout(self)
        layout.addLayout(choices)
        layout.addWidget(self.options)
        for widget in (self.start_button, self.question):
            layout.addWidget(widget)
        layout.addLayout(running)
        for widget in (self.message, self.curve, self.verdict, self.history):
            layout.addWidget(widget)
        layout.addStretch(1)


def _button(text: str, tooltip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tooltip)
    _narrow(button)
    return button


def _narrow(button: QPushButton) -> None:
    """As wide as its place: the dock must not grow wider with the words."""
    button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)


def _chooser() -> QComboBox:
    box = QComboBox()
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    return box
