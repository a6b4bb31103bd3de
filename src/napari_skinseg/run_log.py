"""What a fine-tuning run tells about its course: a table of passes, and the same as a picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from .files import atomic, write_text

COLUMNS = ("fit", "pass", "loss", "base_dice", "dice", "seconds")

Row = Mapping[str, str | int | float]
"""One pass of a fit; "base_dice" and "dice" on the photos held out are there where they were measured."""


def write_rows(path: str | Path, rows: Sequence[Row]) -> None:
    """Write the rows as CSV; a blank cell is "not measured"."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def draw_curve(path: str | Path, rows: Sequence[Row]) -> None:
    """Draw loss and held-out Dice over the passes, a line for each fit, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    losses, dices = figure.subplots(1, 2)
    for name in dict.fromkeys(row["fit"] for row in rows):
        fit = [row for row in rows if row["fit"] == name]
        losses.plot([int(row["pass"]) for row in fit], [float(row["loss"]) for row in fit], label=name)
        if measured := [row for row in fit if "dice" in row]:
            passes = [0, *(int(row["pass"]) for row in measured)]
            dices.plot(passes, [float(measured[0]["base_dice"]), *(float(row["dice"]) for row in measured)], "o-")
    losses.set(xlabel="pass", ylabel="loss")
    losses.legend(fontsize="x-small")
    dices.set(xlabel="pass (0: the base)", ylabel="Dice on photos held out")
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)
