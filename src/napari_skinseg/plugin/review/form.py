"""The widgets and the layout of the Review tab; `panel` connects them to their actions."""

from collections.abc import Callable, Mapping
from pathlib import Path

from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_skinseg.events import Event
from napari_skinseg.plugin.correct.tools import CorrectTools
from napari_skinseg.plugin.forms import PROBLEM, Message, MessageArea, WrappingText
from napari_skinseg.plugin.keys import key_list, preferred_keys
from napari_skinseg.plugin.session import Session

from .autosave import SaveState
from .icons import IconName, icon
from .mask_display import MODES
from .menu import ReviewMenu
from .photo_list import FILTERS
from .prefetch import LoadedPhoto
from .table import PhotoModel, PhotoTable
from .thumbnails import Thumbnails

_FAILED = "QLabel { background: #b3261e; color: white; font-weight: bold; border-radius: 3px; padding: 2px 6px; }"


class ReviewForm(QWidget):
    """From top to bottom: folder, decisions on the current photo, its tools, photo list, messages, keys.

    Only the photo list grows and shrinks with the window and with the tools, so that no button moves under the mouse.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.keys = preferred_keys()
        self.open_button = _button(
            "Open folder…",
            "Open a folder of photos, or a project. Masks and decisions are saved in its sub-folder skinseg-review.\n"
            "The photos are never changed.",
        )
        self.menu = ReviewMenu(self)
        self.more = _button("More", "Model, order, blind sample, moved photos, scale, export, close…")
        self.predict_button = _button("Predict all", "Predict the masks of all photos.")
        self.cancel_button = _button("Cancel", "Stop. Finished photos are kept.")
        self.progress = QProgressBar()
        self.message = Message()
        self.say = self.message.say
        self.question = QFrame()
        self.question_text = WrappingText()
        self.counts = QLabel()
        self.filter = _combo_box("The photos that the table shows and that Next visits.")
        self.thumbnails = Thumbnails(session.background)
        self.photos = PhotoModel(self.thumbnails)
        self.table = PhotoTable(self.photos)
        self.name, self.saved = QLabel(), QLabel()
        self.retry_button = _button("Retry", "Try to save again.")
        self.elsewhere_button = _button("Save elsewhere…", "Write this mask to a file of your choice.")
        self.accept_button = self._key_button("Accept", "accept", "Accept the mask and go on.")
        self.skip_button = self._key_button("Skip", "skip", "Exclude this photo and go on.")
        self.issue_button = self._key_button("Issue…", "issue", "Note a problem with this photo and go on.")
        self.previous_button = self._key_button("◀ Previous", "previous", "Go back to the photo that was shown before.")
        self.next_button = self._key_button("Next ▶", "next", "Go to the next photo of the table without a decision.")
        self.back_button = self._key_button("Take back", "take_back", "Undo the last decision.")
        self.note = _Note()
        self.hide_button = self._key_button(
            "Hide", "hide", "Hide the mask while pressed. A short press hides it until the next one."
        )
        self.display_modes = {mode: self._key_button(mode.capitalize(), "look", _MODE_TOOLTIPS[mode]) for mode in MODES}
        self.prediction_outline = _button("Model’s outline", "Show the outline of the model in yellow below the mask.")
        self.prediction_button = self._key_button(
            "Model’s mask", "model", "Replace the mask by the mask of the model. Ctrl+Z undoes this."
        )
        self.tools = CorrectTools(session)
        self._save_error = ""
        self.keys_label = QLabel()
        self.keys_label.setWordWrap(True)
        self._style()
        self._lay_out()
        self.show_running("")
        self.say("")
        self.ask("", {})
        self.show_save_state(SaveState("none", ""))
        self.show_counts(None)
        self.show_photo(None, may_edit=False)
        self.show_project(False, may_edit=False)

    def ask(self, text: str, answers: Mapping[str, Callable[[], object]]) -> None:
        """Show a question with a button for each answer; an empty text hides it."""
        self.question_text.setText(text)
        row = self._answers
        while row.count():
            item = row.takeAt(0)
            if item.widget() is not None:
                item.widget().deleteLater()
        for label, action in answers.items():
            button = _button(label, "")
            button.clicked.connect(lambda _=False, action=action: self._answer(action))
            row.addWidget(button)
        self.question.setVisible(bool(text))

    def show_running(self, title: str) -> None:
        """Show the progress bar with `title`, and Cancel; an empty title hides both."""
        self.progress.setVisible(bool(title))
        self.cancel_button.setVisible(bool(title))
        self.progress.setRange(0, 0)
        self.progress.setFormat(title)

    def show_progress(self, event: Event) -> None:
        """Show the progress of the run."""
        self.progress.setRange(0, event.total)
        self.progress.setValue(event.done)

    def show_counts(self, counts: Mapping[str, int] | None) -> None:
        """Show how many photos are reviewed, and the number of photos of each filter."""
        self.counts.setText("" if counts is None else f"<b>{counts['reviewed']:,} of {counts['all']:,}</b> reviewed")
        for index, name in enumerate(FILTERS):
            label = name.capitalize()
            self.filter.setItemText(index, label if counts is None else f"{label} ({counts[name]:,})")

    def show_save_state(self, state: SaveState) -> None:
        """Show whether the current mask is saved."""
        failed = state.kind == "failed"
        if state.kind in ("saved", "elsewhere") and self.message.text() == self._save_error:
            self.say("")
        self._save_error = state.error or self._save_error
        self.saved.setText(state.text)
        self.saved.setStyleSheet(_FAILED if failed else PROBLEM if state.kind == "elsewhere" else "")
        self.saved.setToolTip(state.error or "Every change is saved automatically and verified.")
        self.retry_button.setVisible(failed)
        self.elsewhere_button.setVisible(failed)
        if failed:
            self.say(state.error, is_problem=True)

    def show_display_mode(self, mode: str) -> None:
        """Mark the button of the display mode."""
        for name, button in self.display_modes.items():
            button.setChecked(name == mode)

    def show_photo(self, loaded: LoadedPhoto | None, *, may_edit: bool) -> None:
        """Show the name of the current photo and enable its buttons; None for no photo."""
        photo = None if loaded is None else loaded.photo
        self.name.setText("" if photo is None else photo.name)
        self.name.setToolTip("" if photo is None else str(photo.path))
        if loaded is not None and loaded.awaits_prediction:
            self.name.setText(f"{loaded.photo.name} – predicting…")
        elif photo is not None and photo.hides_prediction:
            self.say("Blind sample: outline the lesion yourself. The mask of the model is hidden.")
        elif photo is not None and photo.lesion_share == 0:
            self.name.setText(f"Model: no lesion – {photo.name}")
            self.name.setToolTip(
                f"{photo.path}\nIf there is a lesion, use Refine or paint it. If there is none, accept or skip."
            )
        has_prediction = loaded is not None and loaded.prediction is not None
        for button in (self.hide_button, *self.display_modes.values()):
            button.setEnabled(photo is not None)
        for button in (self.accept_button, self.skip_button, self.issue_button):
            button.setEnabled(photo is not None and may_edit)
        self.prediction_button.setEnabled(has_prediction and may_edit)
        self.prediction_outline.setEnabled(has_prediction)
        self.display_modes["difference"].setEnabled(has_prediction)

    def show_project(self, is_open: bool, *, may_edit: bool) -> None:
        """Enable the buttons that need an open project."""
        for button in (self.next_button, self.previous_button, self.filter):
            button.setEnabled(is_open)
        self.back_button.setEnabled(is_open and may_edit)

    def show_summary(self, counts: Mapping[str, int], filter_name: str, folder: Path) -> None:
        """Show the numbers of decisions at the end of the list."""
        if counts["to do"]:
            self.say(f"The filter “{filter_name}” shows no further photo. {counts['to do']:,} photos are still to do.")
            return
        parts = [f"{counts[status]:,} {status}" for status in ("accepted", "corrected", "skipped", "issue")]
        self.say(f"All {counts['all']:,} photos are reviewed: {', '.join(parts)}. The masks are in {folder / 'masks'}.")

    def changeEvent(self, event: QEvent) -> None:
        """Draw the icons in the colours of the new theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange:
            self._draw_icons()

    def _draw_icons(self) -> None:
        for button, name in self._icons.items():
            button.setIcon(icon(name, button.palette().buttonText().color()))

    def _key_button(self, text: str, action: str, tooltip: str) -> QPushButton:
        return _button(text, f"{tooltip} ({self.keys[action].text})")

    def _answer(self, action: Callable[[], object]) -> None:
        self.ask("", {})
        action()

    def _style(self) -> None:
        self.more.setMenu(self.menu)
        self.filter.addItems([name.capitalize() for name in FILTERS])
        self.accept_button.setStyleSheet("QPushButton { font-weight: bold; }")
        for button in (*self.display_modes.values(), self.prediction_outline):
            button.setCheckable(True)
        self._icons: dict[QPushButton, IconName] = {
            **{button: mode for mode, button in self.display_modes.items()},
            self.hide_button: "hide",
            self.prediction_outline: "prediction_outline",
            self.prediction_button: "prediction_mask",
        }
        for button in self._icons:
            button.setAccessibleName(button.text())
            button.setToolTip(f"{button.text()}: {button.toolTip()}")
            button.setText("")
        self._draw_icons()
        self.display_modes["outline"].setChecked(True)
        self.name.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.name.setMinimumWidth(40)
        self.name.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.keys_label.setText(key_list(self.keys.values()))
        self.keys_label.setStyleSheet("QLabel { font-size: 11px; }")
        self.setStyleSheet("QPushButton { padding: 3px 2px; }")
        self.keys_label.setToolTip("These keys work while this tab is shown. The keys of napari work as usual.")

    def _message_area(self) -> MessageArea:
        return MessageArea(
            _row((self.progress, 3), (self.cancel_button, 1)), self.note,
            _row((self.retry_button, 1), (self.elsewhere_button, 1)), self.question,
            self.message, self.tools.refine.message, self.tools.message, lines=5,
        )  # fmt: skip

    def _lay_out(self) -> None:
        question = QVBoxLayout(self.question)
        question.setContentsMargins(0, 0, 0, 0)
        question.addWidget(self.question_text)
        self._answers = QHBoxLayout()
        question.addLayout(self._answers)
        decisions = QGridLayout()
        rows = (
            (self.accept_button, self.skip_button, self.issue_button),
            (self.previous_button, self.next_button, self.back_button),
        )
        for row, widgets in enumerate(rows):
            for column, widget in enumerate(widgets):
                decisions.addWidget(widget, row, column)
                decisions.setColumnStretch(column, 1)
        decisions.setVerticalSpacing(4)
        display = _row(
            *((button, 1) for button in self.display_modes.values()),
            (self.hide_button, 1), (self.prediction_outline, 1), (self.prediction_button, 1),
        )  # fmt: skip
        layout = QVBoxLayout(self)
        layout.setSpacing(4)
        layout.setContentsMargins(6, 6, 6, 4)
        layout.addLayout(_row((self.open_button, 4), (self.predict_button, 4), (self.more, 3)))
        layout.addLayout(_row((self.name, 1), (self.saved, 0)))
        layout.addLayout(decisions)
        layout.addLayout(display)
        layout.addWidget(self.tools)
        layout.addLayout(_row((self.counts, 1), (self.filter, 1)))
        layout.addWidget(self.table, 1)
        layout.addWidget(self._message_area())
        layout.addLayout(_row((self.keys_label, 1)))


_MODE_TOOLTIPS = {
    "outline": "Show the mask as an outline.",
    "filled": "Show the mask filled and transparent.",
    "difference": "Show your changes of the mask of the model: green was added, pink was removed.",
}


class _Note(QLineEdit):
    """The text field for the note of an issue: Enter saves the note, Escape cancels."""

    def __init__(self) -> None:
        super().__init__()
        self.setPlaceholderText("What is the problem? Enter: save, Escape: cancel.")
        self.hide()
        self._earlier_focus: QWidget | None = None

    def open(self, text: str) -> None:
        """Show the field and give it the focus."""
        self._earlier_focus = self.window().focusWidget()
        self.setText(text)
        self.show()
        self.setFocus()
        self.selectAll()

    def close_field(self) -> None:
        """Hide the field and return the focus."""
        self.hide()
        widget, self._earlier_focus = self._earlier_focus, None
        if widget is not None and widget is not self:
            widget.setFocus()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.close_field()
        else:
            super().keyPressEvent(event)


def _button(text: str, tooltip: str) -> QPushButton:
    button = QPushButton(text, toolTip=tooltip)
    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # after a click, the canvas keeps the keyboard
    # As wide as its column: a long text must not widen the dock.
    button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    return button


def _combo_box(tooltip: str) -> QComboBox:
    box = QComboBox(toolTip=tooltip)
    box.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(4)
    box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    return box


def _row(*widgets: tuple[QWidget, int]) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget, stretch in widgets:
        row.addWidget(widget, stretch)
    return row
