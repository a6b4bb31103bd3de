"""The HTML report of an evaluation: one file with tables, plots and the worst photos, without scripts or links.

The report contains photos of people and says so: it should stay on the computer where it was made.
"""

import base64
import io
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_skinseg.files import write_text

from .click_curves import CURVES, GOALS, ClickCurve
from .results import Comparison, Evaluation, WorstPhoto, as_comparison
from .statistics import CaseResult, ReliabilityBin
from .tables import comparison_tables, evaluation_tables, format_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito 2008
_TEAL = "#007f99"


def write_report(results: Evaluation | Comparison, path: str | Path) -> None:
    """Write the report as one HTML file. It contains photos of people.

    Raises:
        BadInput: `path` cannot be written.
    """
    from jinja2 import Environment, StrictUndefined

    comparison = as_comparison(results)
    template = files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(template).render(
        title=f"Evaluation of {' and '.join(comparison.names)}",
        header=comparison.shared_header,
        comparison=_compared(comparison) if len(comparison.evaluations) > 1 else None,
        models=[
            _model(name, evaluation, comparison.shared_header)
            for name, evaluation in zip(comparison.names, comparison.evaluations, strict=True)
        ],
        left_out=[sentence for _, sentence in comparison.left_out],
    )
    write_text(path, page)


def dice_plot(results: Iterable[CaseResult]) -> "Figure":
    """Histogram of the Dice of the photos."""
    figure, axes = _empty_plot()
    dice = [result.agreement.dice for result in results]
    axes.hist(dice, bins=list(np.linspace(0, 1, 41)), color=_TEAL)
    axes.axvline(float(np.median(dice)), color="black", lw=1, ls="--", label=f"median {np.median(dice):.3f}")
    axes.set(xlabel="Dice", ylabel="photos", xlim=(0, 1), title="Dice of the photos")
    axes.locator_params(axis="y", integer=True)
    axes.legend(frameon=False, loc="upper left")
    return figure


def reliability_plot(results: Iterable[CaseResult], bins: Iterable[ReliabilityBin]) -> "Figure":
    """Confidence and Jaccard of each photo, and their means in each bin of confidence."""
    figure, axes = _empty_plot()
    confidence, jaccard = zip(*((result.confidence, result.agreement.jaccard) for result in results), strict=True)
    axes.plot([0, 1], [0, 1], color="black", lw=1, ls="--", label="confidence = Jaccard")
    axes.scatter(confidence, jaccard, s=14, color=_TEAL, alpha=0.5, lw=0, label="photo")
    confidence, jaccard = zip(*((one.confidence, one.jaccard) for one in bins), strict=True)
    axes.plot(confidence, jaccard, "o-", color=_COLOURS[1], ms=5, label="mean of a bin")
    axes.set(xlabel="confidence", ylabel="Jaccard", xlim=(0, 1), ylim=(0, 1), title="Confidence and Jaccard")
    axes.legend(frameon=False, loc="upper left")
    return figure


def clicks_plot(curves: Mapping[str, ClickCurve]) -> "Figure":
    """Mean Jaccard after each click, with its interval."""
    figure, axes = _empty_plot()
    for name, curve in curves.items():
        clicks = range(len(curve.jaccard))
        low, mean, high = np.array([(s.low, s.mean, s.high) for s in curve.jaccard], dtype=float).T
        color = _COLOURS[0 if name.startswith("automatic") else 1]
        axes.fill_between(clicks, low, high, color=color, alpha=0.12, lw=0)
        style = "-" if name.endswith("centre") else "--"
        axes.plot(clicks, mean, style, marker="o", ms=4, color=color, label=CURVES[name])
    for goal in GOALS:
        axes.axhline(goal, color="grey", lw=0.8, ls=":")
    clicked = min(s.low for curve in curves.values() for s in curve.jaccard[1:] if s.low is not None)
    # The curves of the empty mask start at 0; with 0 on the axis, all other values would look like one line.
    lowest = min(0.6, np.floor(clicked * 10) / 10)
    axes.set(xlabel="clicks", ylabel="mean Jaccard", ylim=(lowest, 1), title="Jaccard after clicks")
    axes.locator_params(axis="x", integer=True)
    axes.legend(frameon=False, loc="lower right")
    return figure


def distribution_plot(models: Mapping[str, Iterable[CaseResult]]) -> "Figure":
    """Cumulative distribution of the Dice for each model: the lower line is better."""
    figure, axes = _empty_plot()
    for number, (name, results) in enumerate(models.items()):
        dice = [result.agreement.dice for result in results]
        axes.ecdf(dice, color=_COLOURS[number % len(_COLOURS)], label=_escape(name))
    axes.set(
        xlabel="Dice", ylabel="fraction of photos up to this Dice", xlim=(0, 1), ylim=(0, 1), title="Dice of the photos"
    )
    axes.legend(frameon=False, loc="upper left")
    return figure


def differences_plot(comparison: Comparison) -> "Figure":
    """Mean difference of the Dice of each model from the first model, with its interval."""
    figure, axes = _empty_plot()
    others = list(zip(comparison.names[1:], (one["dice"] for one in comparison.differences), strict=True))
    for row, (_, dice) in enumerate(others):
        if dice.mean is not None and dice.low is not None and dice.high is not None:
            axes.plot([dice.low, dice.high], [row, row], color=_TEAL, lw=2)
            axes.plot(dice.mean, row, "o", color=_TEAL)
    axes.axvline(0, color="black", lw=1, ls="--")
    axes.set_yticks(range(len(others)), [_escape(name) for name, _ in others])
    axes.set(
        xlabel=f"Dice minus that of {_escape(comparison.names[0])}",
        ylim=(len(others) - 0.5, -0.5),
        title="Paired differences",
    )
    return figure


def _compared(comparison: Comparison) -> dict[str, object]:
    """The values of the template for several models side by side."""
    models = {name: one.results for name, one in zip(comparison.names, comparison.evaluations, strict=True)}
    plots = {"Distribution of Dice": distribution_plot(models), "Differences of Dice": differences_plot(comparison)}
    return {"tables": comparison_tables(comparison), "plots": _plots(plots)}


def _model(name: str, evaluation: Evaluation, shared: Mapping[str, str | int]) -> dict[str, object]:
    """The values of the template for one model."""
    plots = {
        "Histogram of Dice": dice_plot(evaluation.results),
        "Confidence against Jaccard": reliability_plot(evaluation.results, evaluation.reliability),
        **({"Jaccard after clicks": clicks_plot(evaluation.clicks)} if evaluation.clicks else {}),
    }
    return {
        "name": name,
        "header": {key: value for key, value in evaluation.header.items() if key not in shared},
        "plots": _plots(plots),
        "tables": evaluation_tables(evaluation),
        "worst": [_worst(photo) for photo in evaluation.worst],
    }


def _worst(photo: WorstPhoto) -> dict[str, str]:
    result, agreement = photo.result, photo.result.agreement
    return {
        "source": _data_url(photo.picture, "jpeg"),
        "name": " · ".join(filter(None, (result.id, result.source, result.diagnosis))),
        "figures": f"Dice {format_value(agreement.dice)}, Jaccard {format_value(agreement.jaccard)}, "
        f"confidence {format_value(result.confidence)}, "
        f"lesion {format_value(result.lesion_fraction, None)} of the frame",
    }


def _plots(figures: "Mapping[str, Figure]") -> list[dict[str, str]]:
    return [{"source": _data_url(_png(figure), "png"), "name": name} for name, figure in figures.items()]


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _png(figure: "Figure") -> bytes:
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png", dpi=100)
    return encoded.getvalue()


def _empty_plot() -> "tuple[Figure, Axes]":
    # Not pyplot: it selects a window system and keeps every figure in memory, also in the process of napari.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _escape(name: str) -> str:
    """Escape dollar signs: Matplotlib would read the text between them as a formula."""
    return name.replace("$", r"\$")
