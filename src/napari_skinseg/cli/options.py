"""Options that several commands have: the model and the output."""

from dataclasses import dataclass

from cyclopts import Parameter


def remove_prefix(*options: type) -> None:
    """Make an option of each field without the name of its group: --threshold, not --options.threshold."""
    for one in options:
        if "__cyclopts__" not in vars(one):  # two commands may share these options
            Parameter(name="*")(one)


@dataclass(frozen=True)
class ModelChoice:
    """Model and device.

    Attributes:
        model: Name of a model (see `models list`) or its folder; the default model when not given.
        device: auto, cuda, mps or cpu.
        precision: auto, float32 or bfloat16; auto is float32 on a CPU, and on a GPU the fastest that is correct.
    """

    model: str | None = None
    device: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True)
class Output:
    """Options of the output.

    Attributes:
        quiet: Print errors only.
        json: Print the result as one JSON document on standard output.
    """

    quiet: bool = False
    json: bool = False


remove_prefix(ModelChoice, Output)
