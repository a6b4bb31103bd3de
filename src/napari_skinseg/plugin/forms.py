"""Shared parts of the tabs: texts, the form around a run (message, question, progress), and forms from dataclasses."""

import re
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from docstring_parser import parse
from magicgui.widgets import create_widget
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import (
    QFrame,
    QLabel,
    QLayout,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

PROBLEM = "QLabel { color: #d96a00; font-weight: bold; }"
"""Orange, readable in the dark and the light theme; red and green show how good a result is."""


class WrappingText(QLabel):
    """A label for sentences: wraps, also within long file names, does not widen the dock, and can be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)

    def setText(self, text: str) -> None:  # noqa: N802, the name is Qt's
        """Show `text`; words of more than 24 characters may break anywhere."""
        super().setText(re.sub(r"\S{25,}", lambda word: "\u200b".join(word[0]), text))

    def text(self) -> str:
        """Return the text that was set, without the invisible break characters."""
        return str(super().text()).replace("\u200b", "")


class Message(WrappingText):
    """A label for one message; hidden while there is none."""

    def say(self, text: str, *, is_problem: bool = False) -> None:
        """Show `text` in place of the last message; an empty text hides the label."""
        self.setText(text)
        self.setStyleSheet(PROBLEM if is_problem else "")
        self.setVisible(bool(text))


class MessageArea(QScrollArea):
    """Holds all that appears and disappears, in a space of fixed height, so that no button moves under the mouse.

    Args:
        parts: layouts and widgets, from top to bottom.
        lines: height in lines of text.
    """

    def __init__(self, *parts: QWidget | QLayout, lines: int) -> None:
        super().__init__()
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setSpacing(2)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in parts:
            if isinstance(part, QLayout):
                layout.addLayout(part)
            else:
                layout.addWidget(part)
        layout.addStretch(1)
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._lines = lines

    def event(self, event: QEvent) -> bool:
        """Keep the height when the theme or the size of the text changes."""
        if event.type() in (QEvent.Type.Polish, QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self.setFixedHeight(self._lines * self.fontMetrics().lineSpacing())
        return bool(super().event(event))


class Collapsible(QToolButton):
    """A button that shows and hides `content`; hidden at first."""

    def __init__(self, text: str, content: QWidget) -> None:
        super().__init__()
        self._content = content
        self.setText(text)
        self.setCheckable(True)
        self.setAutoRaise(True)
        self.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.toggled.connect(self._show)
        self._show(False)

    def _show(self, shown: bool) -> None:
        self.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)
        self._content.setVisible(shown)


class RunForm(QWidget):
    """The widgets of a form that starts a run; subclasses put them into a layout.

    Args:
        cancel_tooltip: tooltip of the Cancel button.
    """

    def __init__(self, cancel_tooltip: str) -> None:
        super().__init__()
        self.cancel_button = QPushButton()
        self.cancel_button.setToolTip(cancel_tooltip)
        self.progress = QProgressBar()
        self.message = Message()
        self.say = self.message.say
        self.question = QFrame()
        self.question_text = WrappingText()
        self.question_layout = QVBoxLayout(self.question)
        self.question_layout.setContentsMargins(0, 0, 0, 0)
        self.question_layout.addWidget(self.question_text)

    def ask(self, text: str) -> None:
        """Show the question and its buttons; an empty text hides them."""
        self.question_text.setText(text)
        self.question.setVisible(bool(text))

    def show_running(self, running: bool) -> None:
        """Enable Cancel and show the progress bar while a run is going on."""
        self.cancel_button.setEnabled(running)
        self.cancel_button.setText("Cancel")
        self.progress.setVisible(running)
        self.show_progress(0, 0)

    def show_cancelling(self) -> None:
        """Show that the run will stop; the network first finishes its present step."""
        self.cancel_button.setEnabled(False)
        self.cancel_button.setText("Cancelling…")

    def show_progress(self, done: int, total: int, text: str = "%p%") -> None:
        """Show the progress of a run; a moving bar if there is nothing to count."""
        self.progress.setRange(0, total if total > 1 else 0)
        self.progress.setValue(done)
        self.progress.setFormat(text)


def create_editors(
    options: Any, settings: Mapping[str, Mapping[str, Any]], leave_out: Collection[str] = ()
) -> dict[str, Any]:
    """Create a magicgui widget for each field of a dataclass.

    Args:
        options: instance of the dataclass. The widgets show its values; the texts of its docstring are the tooltips.
        settings: by field name, arguments of the magicgui widget, such as `min` or `choices`; `value` and `annotation`
            replace those of the field.
        leave_out: names of fields that get no widget.

    Returns:
        The widgets by field name, in the order of the fields.
    """
    tooltips = field_tooltips(options)
    editors = {}
    for field in fields(options):
        if field.name in leave_out:
            continue
        arguments = {"tooltip": tooltips[field.name], **settings.get(field.name, {})}
        value = arguments.pop("value", getattr(options, field.name))
        annotation = arguments.pop("annotation", field.type)
        editors[field.name] = create_widget(value, annotation=annotation, name=field.name, options=arguments)
    return editors


def field_tooltips(options: Any) -> dict[str, str]:
    """The description of each field in the docstring of a dataclass."""
    return {documented.arg_name: documented.description or "" for documented in parse(options.__doc__ or "").params}
