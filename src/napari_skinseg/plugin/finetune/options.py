"""The fields for `FineTuneOptions`: the name first, the other fields hidden until *More* is pressed."""

from typing import Any

from qtpy.QtWidgets import QFormLayout, QVBoxLayout, QWidget

from napari_skinseg.finetuning.options import FineTuneOptions
from napari_skinseg.finetuning.runs import suggest_name
from napari_skinseg.plugin.forms import Collapsible, create_editors
from napari_skinseg.plugin.session import preferred_device

_SETTINGS: dict[str, dict[str, Any]] = {
    "passes": {"max": 100_000},
    "learning_rate": {"max": 1.0, "step": 1e-6},
    "batch_size": {"max": 100_000},
    "folds": {"max": 100_000},
    "seed": {"max": 100_000},
    "device": {"choices": ["auto", "cuda", "mps", "cpu"]},
}
"""`FineTuneOptions.validate` checks the ranges; its messages say more than a number that cannot be typed."""
_LABELS = {"folds": "Parts for judging"}


class FineTuneFields(QWidget):
    """Values and tooltips come from the dataclass, as in the command line."""

    def __init__(self) -> None:
        super().__init__()
        self.editors = create_editors(FineTuneOptions(device=preferred_device()), _SETTINGS, leave_out=("border_only",))
        self.editors["learning_rate"].adaptive_step = True  # a tenth of the value; the step above sets the decimals
        self._others = QWidget()
        self.more = Collapsible("More", self._others)
        self._lay_out()

    def value(self) -> FineTuneOptions:
        """Return the options that the fields show.

        Raises:
            BadInput: a value is out of its range.
        """
        values = {name: editor.value for name, editor in self.editors.items()}
        options = FineTuneOptions(**{**values, "name": values["name"].strip()})
        options.validate()
        return options

    def show_value(self, options: FineTuneOptions) -> None:
        """Show other values in the fields."""
        for name, editor in self.editors.items():
            editor.value = getattr(options, name)

    def suggest_name(self, base: str) -> None:
        """Show the name that the new model gets if the field stays empty."""
        self.editors["name"].native.setPlaceholderText(suggest_name(base))

    def _lay_out(self) -> None:
        first, others = QFormLayout(), QFormLayout(self._others)
        for name, editor in self.editors.items():
            label = _LABELS.get(name, name.replace("_", " ").capitalize())
            (first if name == "name" else others).addRow(label, editor.native)
        for form in (first, others):
            form.setContentsMargins(0, 0, 0, 0)
            form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(first)
        layout.addWidget(self.more)
        layout.addWidget(self._others)
