"""How the Review tab looks; what it does is in `review_panel`."""

from collections.abc import Callable, Mapping
from pathlib import Path

from qtpy.QtCore import Qt
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
from napari_skinseg.plugin import keys as review_keys
from napari_skinseg.plugin.correct.tools import CorrectTools
from napari_skinseg.plugin.forms import PROBLEM, Message, WrappingText
from napari_skinseg.plugin.session import Session

from .autosave import SaveState
from .mask_display import MODES
from .menu import ReviewMenu
from .photo_list import FILTERS
from .prefetch import Ready
from .table import PhotoModel, PhotoTable
from .thumbnails import Thumbnails

_FAILED = "QLabel { background: #b3261e; color: white; font-weight: bold; border-radius: 3px; padding: 2px 6px; }"


class ReviewForm(QWidget):
    """From top to bottom: which folder, how far, the photos, the photo in hand, its tools, the keys."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.keys = review_keys.chosen()
        self.open_button = _button(
            "Open folder…",
            "A folder of photos, or a project. Masks and decisions are kept in its sub-folder skinseg-review;\n"
            "the photos themselves are never changed.",
        )
        self.menu = ReviewMenu(self)
        self.more = _button("More", "Model, order, blind sample, moved photos, scale, export, closing…")
        self.predict_button = _button("Predict all", "Have the model outline every photo that it has not seen yet.")
        self.cancel_button = _button("Cancel", "Stop; what is done stays.")
        self.progress = QProgressBar()
        self.message = Message()
        self.say = self.message.say
        self.question = QFrame()
        self.question_text = WrappingText()
        self.counts = QLabel()
        self.filter = _chooser("Which photos the table shows, and Next goes through.")
        self.thumbnails = Thumbnails(session.background)
        self.photos = PhotoModel(self.thumbnails)
        self.table = PhotoTable(self.photos)
        self.name, self.saved = QLabel(), QLabel()
        self.retry_button = _button("Retry", "Save again.")
        self.elsewhere_button = _button("Save elsewhere…", "Write this mask to a file of your choice.")
        self.accept_button = self._key_button("Accept", "accept", "The mask is right: approve it and go on.")
        self.skip_button = self._key_button("Skip", "skip", "Leave this photo out and go on.")
        self.issue_button = self._key_button(
            "Issue…", "issue", "Something is wrong with this photo: note what, and go on."
        )
        self.previous_button = self._key_button("◀ Previous", "previous", "Back to the photo looked at before.")
        self.next_button = self._key_button("Next ▶", "next", "On to the next photo of the table, deciding nothing.")
        self.back_button = self._key_button("Take back", "take back", "Undo the last decision.")
        self.note = _Note()
        self.hide_button = self._key_button(
            "Hide", "hide", "Hide the mask while held; a click hides it until the next."
        )
        self.look = {mode: self._key_button(mode.capitalize(), "look", _LOOKS[mode]) for mode in MODES}
        self.model_outline = _button("Model’s line", "Show the model's own outline, yellow, beneath the mask.")
        self.model_button = self._key_button(
            "Model’s mask", "model", "Put the model's own mask back. Ctrl+Z undoes it."
        )
        self.tools = CorrectTools(session)
        self.strip = QLabel()
        self.strip.setWordWrap(True)
        self._dress()
        self._lay_out()
        self.show_running("")
        self.say("")
        self.ask("", {})
        self.show_state(SaveState("none", ""))
        self.show_counts(None)
        self.show_photo(None, may_edit=False)
        self.show_project(False, may_edit=False)

    def ask(self, text: str, answers: Mapping[str, Callable[[], object]]) -> None:
        """Put a question with a button for each answer, in nobody's way; an empty text takes it back."""
        self.question_text.setText(text)
        row = self._answers
        while row.count():
            item = row.takeAt(0)
            if item.widget() is not None:
                item.widget().deleteLater()
        for words, action in answers.items():
            button = _button(words, "")
            button.clicked.connect(lambda _=False, action=action: self._answer(action))
            row.addWidget(button)
        self.question.setVisible(bool(text))

    def show_running(self, title: str) -> None:
        """Show that something long runs, and the button that stops it; an empty title: nothing does."""
        self.progress.setVisible(bool(title))
        self.cancel_button.setVisible(bool(title))
        self.progress.setRange(0, 0)
        self.progress.setFormat(title)

    def show_progress(self, event: Event) -> None:
        """Follow a run."""
        self.progress.setRange(0, event.total)
        self.progress.setValue(event.done)

    def show_counts(self, counts: Mapping[str, int] | None) -> None:
        """Say how far one is, here and in the filter."""
        self.counts.setText("" if counts is None else f"<b>{counts['reviewed']:,} of {counts['all']:,}</b> reviewed")
        for index, wanted in enumerate(FILTERS):
            words = wanted.capitalize()
            self.filter.setItemText(index, words if counts is None else f"{words} ({counts[wanted]:,})")

    def show_state(self, state: SaveState) -> None:
        """Say whether the mask in hand is on disk."""
        failed = state.kind == "failed"
        if state.kind in ("saved", "elsewhere") and not self.retry_button.isHidden():
            self.say("")  # what was said of the failure is over
        self.saved.setText(state.text)
        self.saved.setStyleSheet(_FAILED if failed else PROBLEM if state.kind == "elsewhere" else "")
        self.saved.setToolTip(state.sentence or "Every change is saved by itself, and read back.")
        self.retry_button.setVisible(failed)
        self.elsewhere_button.setVisible(failed)
        if failed:
            self.say(state.sentence, is_problem=True)

    def show_look(self, mode: str) -> None:
        """Mark the button of how the mask is drawn."""
        for name, button in self.look.items():
            button.setChecked(name == mode)

    def show_photo(self, ready: Ready | None, *, may_edit: bool) -> None:
        """Name the photo in hand and offer what can be done with it."""
        photo = None if ready is None else ready.photo
        self.name.setText("" if photo is None else photo.name)
        self.name.setToolTip("" if photo is None else str(photo.path))
        if ready is not None and ready.awaits_model:
            self.name.setText(f"{ready.photo.name} – the model is drawing…")
        elif photo is not None and photo.hides_prediction:
            self.say("Blind sample: draw the lesion yourself. What the model drew is hidden, lest it sway you.")
        elif photo is not None and photo.lesion_share == 0:
            self.name.setText(f"Model: no lesion – {photo.name}")
            self.name.setToolTip(
                f"{photo.path}\nIf there is one, click on it with Refine, or draw it. If there is none, accept or skip."
            )
        has_model = ready is not None and ready.prediction is not None
        for button in (self.hide_button, *self.look.values()):
            button.setEnabled(photo is not None)
        for button in (self.accept_button, self.skip_button, self.issue_button):
            button.setEnabled(photo is not None and may_edit)
        self.model_button.setEnabled(has_model and may_edit)
        self.model_outline.setEnabled(has_model)
        self.look["difference"].setEnabled(has_model)

    def show_project(self, is_open: bool, *, may_edit: bool) -> None:
        """Offer what can be done with a project."""
        for button in (self.next_button, self.previous_button, self.filter):
            button.setEnabled(is_open)
        self.back_button.setEnabled(is_open and may_edit)

    def say_end(self, counts: Mapping[str, int], wanted: str, folder: Path) -> None:
        """Say what was done, at the end of the queue."""
        if counts["to do"]:
            self.say(f"That was the last photo that the filter “{wanted}” shows; {counts['to do']:,} are still to do.")
            return
        parts = [f"{counts[status]:,} {status}" for status in ("accepted", "corrected", "skipped", "issue")]
        self.say(f"All {counts['all']:,} photos are reviewed: {', '.join(parts)}. The masks are in {folder / 'masks'}.")

    def _key_button(self, text: str, action: str, tooltip: str) -> QPushButton:
        return _button(text, f"{tooltip} ({self.keys[action].shown})")

    def _answer(self, action: Callable[[], object]) -> None:
        self.ask("", {})
        action()

    def _dress(self) -> None:
        self.more.setMenu(self.menu)
        self.filter.addItems([wanted.capitalize() for wanted in FILTERS])
        self.accept_button.setStyleSheet("QPushButton { font-weight: bold; }")
        for button in (*self.look.values(), self.model_outline):
            button.setCheckable(True)
        self.look["outline"].setChecked(True)
        self.name.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.name.setMinimumWidth(40)
        self.name.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.strip.setText(review_keys.strip(self.keys.values()))
        self.strip.setStyleSheet("QLabel { font-size: 11px; }")
        self.setStyleSheet("QPushButton { padding: 3px 2px; }")
        self.strip.setToolTip("These keys hold while this tab is shown. napari's own keys work as ever.")

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
            tuple(self.look.values()),
            (self.hide_button, self.model_outline, self.model_button),
        )
        for row, widgets in enumerate(rows):
            for column, widget in enumerate(widgets):
                decisions.addWidget(widget, row, column)
                decisions.setColumnStretch(column, 1)
        decisions.setVerticalSpacing(4)
        layout = QVBoxLayout(self)
        layout.setSpacing(4)
        layout.setContentsMargins(6, 6, 6, 4)
        layout.addLayout(_row((self.open_button, 4), (self.predict_button, 4), (self.more, 3)))
        layout.addLayout(_row((self.progress, 3), (self.cancel_button, 1)))
        layout.addWidget(self.message)
        layout.addWidget(self.question)
        layout.addLayout(_row((self.counts, 1), (self.filter, 1)))
        layout.addWidget(self.table, 1)
        layout.addLayout(_row((self.name, 1), (self.saved, 0)))
        layout.addLayout(_row((self.retry_button, 1), (self.elsewhere_button, 1)))
        layout.addLayout(decisions)
        layout.addWidget(self.note)
        layout.addWidget(self.tools)
        layout.addLayout(_row((self.strip, 1)))


_LOOKS = {
    "outline": "Draw the mask as an outline.",
    "filled": "Draw the mask filled and see-through.",
    "difference": "Show what you changed of the model's mask: green is added, pink is taken away.",
}


class _Note(QLineEdit):
    """Where the note of an issue is typed: Enter keeps it, Escape leaves it."""

    def __init__(self) -> None:
        super().__init__()
        self.setPlaceholderText("What is wrong? Enter keeps it, Escape leaves.")
        self.hide()
        self._before: QWidget | None = None

    def open(self, text: str) -> None:
        """Show the field and take the keys."""
        self._before = self.window().focusWidget()
        self.setText(text)
        self.show()
        self.setFocus()
        self.selectAll()

    def close_field(self) -> None:
        """Hide the field and give the keys back."""
        self.hide()
        before, self._before = self._before, None
        if before is not None and before is not self:
            before.setFocus()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.close_field()
        else:
            super().keyPressEvent(event)


def _button(text: str, tooltip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tooltip)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the keys stay with the photo
    # As wide as its column: a long word must not widen the whole dock.
    button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    return button


def _chooser(tooltip: str) -> QComboBox:
    box = QComboBox()
    box.setToolTip(tooltip)
    box.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(4)
    box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    return box


def _row(*widgets: tuple[QWidget, int]) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget, stretch in widgets:
        row.addWidget(widget, stretch)
    return row
