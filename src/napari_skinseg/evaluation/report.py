"""The HTML report of an evaluation: one file with tables, plots and the worst photos, that loads and runs nothing.

It holds photos of people, so it is for the computer that it was made on; it says so itself.
"""

import base64
import io
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_skinseg.files import write_text

from .click_curves import CURVES, GOALS, ClickCurve
from .results import Comparison, Evaluation, WorstPhoto, as_comparison
from .statistics import CaseResult, ReliabilityBin
from .tables import Table, comparison_tables, evaluation_tables, in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1c2326; background: #fff; max-width: 75rem; margin: 2rem auto;
  padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.3rem; margin-top: 2.5rem; border-bottom: 1px solid #ccd3d6 }
h3 { font-size: 1.05rem; margin-top: 2rem }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #e4e9eb }
th:first-child, td:first-child, .header td { text-align: left }
.header td { overflow-wrap: anywhere } .note { color: #566268; margin-top: -.6rem }
.keep { background: #fff4d6; border-left: 4px solid #e0a100; padding: .6rem 1rem }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem } .pictures img { max-width: 100% }
figure { margin: 0; max-width: 25rem } figcaption { color: #566268; overflow-wrap: anywhere; font-size: .9rem }
.model { color: #007f99; font-weight: 600 } .person { color: #8a6d00; font-weight: 600 }
.wide { overflow-x: auto }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito 2008
_TEAL = "#007f99"


def write_report(results: Evaluation | Comparison, path: str | Path) -> None:
    """Write one HTML file with all tables, plots and the worst photos: it contains photos, so keep it private.

    Raises:
        BadInput: `path` cannot be written.
    """
    write_text(path, html_report(as_comparison(results)))


def html_report(found: Comparison) -> str:
    """The whole page, for one model or several."""
    several = len(found.evaluations) > 1
    title = f"Evaluation of {' and '.join(found.names)}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        '<p class="keep">This file holds photographs of people. Keep it on this computer and do not pass it on unless '
        "the photos may be. A research tool, not a medical device.</p>",
        _header(found.shared_header),
    ]
    if several:
        parts += ["<h2>Side by side</h2>", *map(_table, comparison_tables(found)), _pictures(_comparing_plots(found))]
    for name, evaluation in zip(found.names, found.evaluations, strict=True):
        parts += [*([f"<h2>{escape(name)}</h2>"] if several else []), *_about(evaluation, found.shared_header)]
    if found.left_out:
        sentences = "".join(f"<li>{escape(why)}</li>" for _, why in found.left_out)
        parts.append(f"<h2>Left out, {len(found.left_out)}</h2><ul>{sentences}</ul>")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def dice_plot(results: Iterable[CaseResult]) -> "Figure":
    """Histogram of the Dice of the photos."""
    figure, axes = _plot()
    dice = [result.agreement.dice for result in results]
    axes.hist(dice, bins=list(np.linspace(0, 1, 41)), color=_TEAL)
    axes.axvline(float(np.median(dice)), color="black", lw=1, ls="--", label=f"median {np.median(dice):.3f}")
    axes.set(xlabel="Dice", ylabel="photos", xlim=(0, 1), title="How the photos do")
    axes.locator_params(axis="y", integer=True)
    axes.legend(frameon=False, loc="upper left")
    return figure


def reliability_plot(results: Iterable[CaseResult], steps: Iterable[ReliabilityBin]) -> "Figure":
    """Confidence against the Jaccard that was reached: each photo, and the mean of each step."""
    figure, axes = _plot()
    confidence, jaccard = zip(*((result.confidence, result.agreement.jaccard) for result in results), strict=True)
    axes.plot([0, 1], [0, 1], color="black", lw=1, ls="--", label="as stated")
    axes.scatter(confidence, jaccard, s=14, color=_TEAL, alpha=0.5, lw=0, label="a photo")
    stated, reached = zip(*((step.confidence, step.jaccard) for step in steps), strict=True)
    axes.plot(stated, reached, "o-", color=_COLOURS[1], ms=5, label="mean of a step")
    axes.set(xlabel="confidence", ylabel="Jaccard", xlim=(0, 1), ylim=(0, 1), title="Whether its confidence holds")
    axes.legend(frameon=False, loc="upper left")
    return figure


def clicks_plot(curves: Mapping[str, ClickCurve]) -> "Figure":
    """Mean Jaccard after each click, with its interval."""
    figure, axes = _plot()
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
    lowest = min(0.6, np.floor(clicked * 10) / 10)  # not 0, where "from nothing" starts: all else would be one line
    axes.set(xlabel="clicks", ylabel="mean Jaccard", ylim=(lowest, 1), title="What clicks do")
    axes.locator_params(axis="x", integer=True)
    axes.legend(frameon=False, loc="lower right")
    return figure


def shares_plot(models: Mapping[str, Iterable[CaseResult]]) -> "Figure":
    """For each model the share of photos up to each Dice: the lower the line, the better."""
    figure, axes = _plot()
    for number, (name, results) in enumerate(models.items()):
        dice = [result.agreement.dice for result in results]
        axes.ecdf(dice, color=_COLOURS[number % len(_COLOURS)], label=_plain(name))
    axes.set(xlabel="Dice", ylabel="share of photos up to it", xlim=(0, 1), ylim=(0, 1), title="How the photos do")
    axes.legend(frameon=False, loc="upper left")
    return figure


def differences_plot(found: Comparison) -> "Figure":
    """Mean difference of Dice of each model from the first, with its interval."""
    figure, axes = _plot()
    others = list(zip(found.names[1:], (difference["dice"] for difference in found.differences), strict=True))
    for row, (_, dice) in enumerate(others):
        if dice.mean is not None and dice.low is not None and dice.high is not None:
            axes.plot([dice.low, dice.high], [row, row], color=_TEAL, lw=2)
            axes.plot(dice.mean, row, "o", color=_TEAL)
    axes.axvline(0, color="black", lw=1, ls="--")
    axes.set_yticks(range(len(others)), [_plain(name) for name, _ in others])
    axes.set(
        xlabel=f"Dice minus that of {_plain(found.names[0])}",
        ylim=(len(others) - 0.5, -0.5),
        title="Paired differences",
    )
    return figure


def _about(evaluation: Evaluation, said: Mapping[str, str | int]) -> list[str]:
    """What there is to see of one model."""
    own = {key: value for key, value in evaluation.header.items() if key not in said}
    plots = {
        "Histogram of Dice": dice_plot(evaluation.results),
        "Confidence against Jaccard": reliability_plot(evaluation.results, evaluation.reliability),
        **({"Jaccard after clicks": clicks_plot(evaluation.clicks)} if evaluation.clicks else {}),
    }
    worst = "".join(_worst(one) for one in evaluation.worst)
    return [
        *([_header(own)] if own else []),
        _pictures(plots),
        *map(_table, evaluation_tables(evaluation)),
        f"<h3>The {len(evaluation.worst)} photos with the lowest Jaccard</h3>",
        '<p>Outlines: <span class="model">cyan, the model</span>; <span class="person">yellow, the person</span>.</p>',
        f'<div class="pictures">{worst}</div>',
    ]


def _comparing_plots(found: Comparison) -> "dict[str, Figure]":
    models = {name: one.results for name, one in zip(found.names, found.evaluations, strict=True)}
    return {"Share of photos up to each Dice": shares_plot(models), "Differences of Dice": differences_plot(found)}


def _header(lines: Mapping[str, str | int]) -> str:
    rows = "".join(f"<tr><td>{escape(key)}</td><td>{escape(str(value))}</td></tr>" for key, value in lines.items())
    return f'<table class="header">{rows}</table>'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}'


def _worst(worst: WorstPhoto) -> str:
    result = worst.result
    about = " · ".join(filter(None, (result.id, result.source, result.diagnosis)))
    agreement = result.agreement
    figures = (
        f"Dice {in_words(agreement.dice)}, Jaccard {in_words(agreement.jaccard)}, "
        f"confidence {in_words(result.confidence)}, lesion {in_words(result.lesion_fraction, None)} of the frame"
    )
    caption = f"<figcaption>{escape(about)}<br>{escape(figures)}</figcaption>"
    return f"<figure>{_image(worst.picture, 'jpeg', about)}{caption}</figure>"


def _pictures(plots: "Mapping[str, Figure]") -> str:
    images = "".join(_image(_png(figure), "png", about) for about, figure in plots.items())
    return f'<div class="pictures">{images}</div>'


def _image(content: bytes, kind: str, about: str) -> str:
    data = base64.b64encode(content).decode("ascii")
    return f'<img src="data:image/{kind};base64,{data}" alt="{escape(about)}">'


def _png(figure: "Figure") -> bytes:
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png", dpi=100)
    return encoded.getvalue()


def _plot() -> "tuple[Figure, Axes]":
    # Never pyplot: it would choose a window system and keep every figure alive, in napari's own process too.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _plain(name: str) -> str:
    """A name as it is: Matplotlib would take dollar signs for formulas."""
    return name.replace("$", r"\$")
