"""The table and the figure that show how a fine-tuning run went: `log.csv` and `curve.png`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from napari_skinseg.files import atomic, write_csv

COLUMNS = ("fit", "pass", "loss", "base_dice", "dice", "seconds")

Row = Mapping[str, str | int]
"""One pass of a fit. "base_dice" and "dice", both on the held-out photos, are absent where they were not measured."""


def write_log(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as CSV; a blank cell means "not measured"."""
    write_csv(path, COLUMNS, ([row.get(column) for column in COLUMNS] for row in rows))


def plot_curve(path: Path, rows: Sequence[Row]) -> None:
    """Plot loss and held-out Dice over the passes, with a line for each fit, and write the figure as PNG."""
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
    dices.set(xlabel="pass (0: the base)", ylabel="Dice on held-out photos")
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)
