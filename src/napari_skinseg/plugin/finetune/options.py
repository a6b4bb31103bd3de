"""The fields of `FineTuneOptions`: the name in sight, the others behind *More*."""

from dataclasses import fields
from typing import Any

from docstring_parser import parse
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLineEdit,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_skinseg.finetuning.options import FineTuneOptions
from napari_skinseg.finetuning.runs import free_name
from napari_skinseg.plugin.session import preferred_device

_DEVICES = ["auto", "cuda", "mps", "cpu"]


class TuneOptions(QWidget):
    """Defaults and tooltips come from the dataclass, as those of the command line do."""

    def __init__(self) -> None:
        super().__init__()
        own = FineTuneOptions(device=preferred_device())
        self.editors = {field.name: _editor(field.name, getattr(own, field.name)) for field in fields(FineTuneOptions)}
        for documented in parse(FineTuneOptions.__doc__ or "").params:
            self.editors[documented.arg_name].setToolTip(documented.description or "")
        self.more = QToolButton()
        self.more.setText("More")
        self.more.setCheckable(True)
        self.more.setAutoRaise(True)
        self.more.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._others = QWidget()
        self.more.toggled.connect(self._unfold)
        self._lay_out()
        self._unfold(False)

    def value(self) -> FineTuneOptions:
        """What the fields say.

        Raises:
            BadInput: something is out of its range.
        """
        options = FineTuneOptions(**{name: _value(editor) for name, editor in self.editors.items()})
        options.validate()
        return options

    def show_value(self, options: FineTuneOptions) -> None:
        """Put other values into the fields."""
        for name, editor in self.editors.items():
            value = getattr(options, name)
            if isinstance(editor, QComboBox):
                editor.setCurrentText(value)
            elif isinstance(editor, QLineEdit):
                editor.setText(value)
            else:
                editor.setValue(value)

    def suggest_name(self, base: str) -> None:
        """Show what the new model will be called if the person gives no name."""
        self.editors["name"].setPlaceholderText(free_name(base))

    def _unfold(self, unfolded: bool) -> None:
        self.more.setArrowType(Qt.ArrowType.DownArrow if unfolded else Qt.ArrowType.RightArrow)
        self._others.setVisible(unfolded)

    def _lay_out(self) -> None:
        first, others = QFormLayout(), QFormLayout(self._others)
        for name, editor in self.editors.items():
            (first if name == "name" else others).addRow(name.replace("_", " ").capitalize(), editor)
        for form in (first, others):
            form.setContentsMargins(0, 0, 0, 0)
            form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(first)
        layout.addWidget(self.more)
        layout.addWidget(self._others)


def _editor(name: str, default: Any) -> Any:
    editor: Any
    if name == "device":
        editor = QComboBox()
        editor.addItems(_DEVICES)
        editor.setCurrentText(default)
    elif isinstance(default, str):
        editor = QLineEdit(default)
    elif isinstance(default, int):
        editor = QSpinBox()
        editor.setRange(0, 100_000)
        editor.setValue(default)
    else:
        editor = QDoubleSpinBox()
        editor.setDecimals(6)
        editor.setSingleStep(default / 3)
        editor.setRange(0, 1)
        editor.setValue(default)
    return editor


def _value(editor: Any) -> Any:
    if isinstance(editor, QComboBox):
        return editor.currentText()
    return editor.text().strip() if isinstance(editor, QLineEdit) else editor.value()
