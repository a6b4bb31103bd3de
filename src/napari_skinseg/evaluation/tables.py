"""The results of an evaluation as tables of text, for the terminal and for the HTML report."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from napari_skinseg.pixels.metrics import FAILURE_JACCARD, Summary

from .click_curves import CURVES, MAX_CLICKS, ClickCurve
from .results import Comparison, Evaluation
from .statistics import Detection, ReliabilityBin, Scores

FIGURES = {
    "dice": ("Dice", 3),
    "jaccard": ("Jaccard", 3),
    "thresholded_jaccard": ("Thresholded Jaccard", 3),
    "failure": (f"Failures (Jaccard < {FAILURE_JACCARD})", None),
    "hausdorff95_percent": ("Hausdorff 95 %, % of the diagonal", 2),
    "hausdorff95_px": ("Hausdorff 95 %, px", 1),
    "boundary_percent": ("Boundary distance, % of the diagonal", 2),
    "boundary_px": ("Boundary distance, px", 1),
}
"""Figure -> label and number of digits; None for a fraction, which is shown in percent."""


@dataclass(frozen=True)
class Table:
    """Cells of text in rows; the first column names the row. The note stands below the table."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def as_text(self) -> str:
        """The table as lines of plain text, never wrapped: it stays readable in a file or a pipe."""
        table = RichTable(box=None, padding=(0, 3, 0, 0), pad_edge=False)
        for number, column in enumerate(self.columns):
            table.add_column(Text(column), justify="right" if number else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*map(Text, row))
        text = io.StringIO()
        Console(file=text, width=10_000, color_system=None, force_jupyter=False).print(table)
        lines = [line.rstrip() for line in text.getvalue().splitlines()]
        return "\n".join([*lines, self.note] if self.note else lines)


def evaluation_tables(evaluation: Evaluation) -> list[Table]:
    """All tables of one model."""
    detected = detection_table(evaluation.detection)
    return [
        summary_table(evaluation.summary),
        *([detected] if detected else []),
        *(strata_table(name, groups) for name, groups in evaluation.strata.items()),
        confidence_table(evaluation.summary, evaluation.reliability),
        *click_tables(evaluation.clicks),
    ]


def comparison_tables(comparison: Comparison) -> list[Table]:
    """The tables that compare several models."""
    models = dict(zip(comparison.names, comparison.evaluations, strict=True))
    clicks = clicks_side_by_side({name: one.clicks for name, one in models.items()})
    return [
        side_by_side({name: one.summary for name, one in models.items()}),
        *(
            difference_table(name, comparison.names[0], differences)
            for name, differences in zip(comparison.names[1:], comparison.differences, strict=True)
        ),
        *(
            strata_side_by_side(stratum, {name: one.strata.get(stratum, {}) for name, one in models.items()})
            for stratum in comparison.evaluations[0].strata
        ),
        *([clicks] if clicks else []),
    ]


def as_text(results: Evaluation | Comparison) -> str:
    """All results as text for a terminal."""
    if isinstance(results, Evaluation):
        lines = _header_lines(results.header)
        tables = evaluation_tables(results)
    else:
        shared = results.shared_header
        lines = _header_lines(shared)
        for name, evaluation in zip(results.names, results.evaluations, strict=True):
            own = (f"  {key} {value}" for key, value in evaluation.header.items() if key not in shared)
            lines += ["", name, *own]
        tables = comparison_tables(results)
    for table in tables:
        lines += ["", table.as_text()]
    if results.left_out:
        lines += ["", f"Left out, {len(results.left_out)}:", *(f"  {why}" for _, why in results.left_out)]
    return "\n".join(lines)


def _header_lines(header: Mapping[str, str | int]) -> list[str]:
    return [f"{name:<11}{value}" for name, value in header.items()]


def summary_table(scores: Scores) -> Table:
    """All figures over all photos."""
    rows = []
    for name, (label, digits) in FIGURES.items():
        figure: Summary = getattr(scores, name)
        mean, sd, median, low, high = (
            format_value(value, digits) for value in (figure.mean, figure.sd, figure.median, figure.low, figure.high)
        )
        missing = scores.photos - figure.n
        note = f"{missing} not measured: a mask is empty" if missing else ""
        mean, median = (mean, "") if digits is None else (f"{mean} ± {sd}", median)
        rows.append((label, mean, median, f"{low} to {high}", note))
    pooled = ("Pooled Dice at 256x256", format_value(scores.pooled_dice_256), "", "", "only to compare with papers")
    return Table(("Figure", "mean ± sd", "median", "95 % interval of the mean", ""), (*rows, pooled))


def strata_table(stratum: str, groups: Mapping[str, Scores]) -> Table:
    """The main figures of each group of photos."""
    return _scores_table(stratum[:1].upper() + stratum[1:], groups, _GROUP_COLUMNS)


def confidence_table(scores: Scores, bins: Sequence[ReliabilityBin]) -> Table:
    """Mean confidence and mean Jaccard in each bin of confidence."""
    rows = (
        (
            f"{one.low:.1f} to {one.high:.1f}",
            str(one.photos),
            format_value(one.confidence),
            format_value(one.jaccard),
            f"{one.jaccard - one.confidence:+.3f}",
        )
        for one in bins
    )
    return Table(
        ("Confidence", "photos", "mean confidence", "mean Jaccard", "difference"),
        tuple(rows),
        f"Confidence: correlation with Jaccard {format_value(scores.confidence_correlation)}, "
        f"mean absolute error {format_value(scores.confidence_error)}, "
        f"expected calibration error {format_value(scores.calibration_error)}",
    )


def detection_table(detection: Detection) -> Table | None:
    """How often the model found no lesion, correctly and wrongly; None if the photos show neither."""
    rows = [
        (label, str(photos), format_value(fraction.mean, None), _interval(fraction, None))
        for label, photos, fraction, shown in (
            (
                "Without lesion, correctly left empty",
                detection.without_lesion,
                detection.left_empty,
                detection.without_lesion,
            ),
            ("With a lesion, wrongly left empty", detection.with_lesion, detection.missed, detection.missed.mean),
        )
        if shown
    ]
    return Table(("No lesion found", "photos", "fraction", "95 % interval"), tuple(rows)) if rows else None


def click_tables(curves: Mapping[str, ClickCurve]) -> list[Table]:
    """The Jaccard after each click, and the number of clicks to each goal; empty without simulated clicks."""
    if not curves:
        return []
    first = next(iter(curves.values()))
    maximum = len(first.jaccard) - 1
    after = tuple(
        (CURVES[name], *(format_value(figure.mean) for figure in curve.jaccard)) for name, curve in curves.items()
    )
    needed = tuple(
        (
            CURVES[name],
            *(
                cell
                for goal in curve.to
                for cell in (
                    format_value(goal.clicks.mean, 2),
                    _interval(goal.clicks, 2),
                    format_value(goal.not_reached, None),
                )
            ),
        )
        for name, curve in curves.items()
    )
    goals = tuple(cell for goal in first.to for cell in (f"to {goal.goal:.2f}", "95 % interval", "not reached"))
    photos = f"{first.photos} photo{'s' * (first.photos != 1)} with a lesion"
    return [
        Table(("Mean Jaccard after … clicks", *map(str, range(maximum + 1))), after),
        Table(("Mean clicks to a Jaccard", *goals), needed, f"{photos}. {_not_reached_note(maximum)}"),
    ]


def side_by_side(models: Mapping[str, Scores]) -> Table:
    """The figures of several models over the same photos."""
    return _scores_table("Model", models, _MODEL_COLUMNS)


def difference_table(model: str, first: str, differences: Mapping[str, Summary]) -> Table:
    """The differences of a model from the first model, paired by photo."""
    rows = []
    for name in _COMPARED:
        figure, (label, digits) = differences[name], FIGURES[name]
        mean, low, high = (_signed(value, digits) for value in (figure.mean, figure.low, figure.high))
        rows.append((label, mean, f"{low} to {high}", _excludes_zero(figure), str(figure.n)))
    columns = ("mean difference", "95 % interval", "interval excludes 0", "photos")
    return Table((f"{model} minus {first}", *columns), tuple(rows))


def strata_side_by_side(stratum: str, models: Mapping[str, Mapping[str, Scores]]) -> Table:
    """The mean Dice of each group of photos with each model."""
    groups = next(iter(models.values()))
    rows = (
        (
            group,
            str(scores.photos),
            *(format_value(model[group].dice.mean if group in model else None) for model in models.values()),
        )
        for group, scores in groups.items()
    )
    return Table((f"Dice by {stratum}", "photos", *models), tuple(rows))


def clicks_side_by_side(models: Mapping[str, Mapping[str, ClickCurve]]) -> Table | None:
    """The mean number of clicks to each goal with each model; None without simulated clicks."""
    first = next(iter(models.values()))
    if not first:
        return None
    rows = (
        (
            f"{CURVES[name]}, to {goal.goal:.2f}",
            *(format_value(curves[name].to[number].clicks.mean if curves else None, 2) for curves in models.values()),
        )
        for name, curve in first.items()
        for number, goal in enumerate(curve.to)
    )
    maximum = len(next(iter(first.values())).jaccard) - 1
    return Table(("Mean clicks to a Jaccard", *models), tuple(rows), _not_reached_note(maximum))


def format_value(value: float | None, digits: int | None = 3) -> str:
    """A figure with `digits` digits; a fraction in percent if `digits` is None; "–" if not measured."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if digits is None else f"{value:.{digits}f}"


_COMPARED = ("dice", "jaccard", "thresholded_jaccard", "failure", "hausdorff95_percent", "boundary_percent")


def _scores_table(title: str, rows: Mapping[str, Scores], columns: Mapping[str, Callable[[Scores], str]]) -> Table:
    cells = ((name, *(column(scores) for column in columns.values())) for name, scores in rows.items())
    return Table((title, *columns), tuple(cells))


_OVERLAPS: dict[str, Callable[[Scores], str]] = {
    "Dice": lambda scores: format_value(scores.dice.mean),
    "Jaccard": lambda scores: format_value(scores.jaccard.mean),
    "thr. Jaccard": lambda scores: format_value(scores.thresholded_jaccard.mean),
}
_CONFIDENCE: dict[str, Callable[[Scores], str]] = {
    "conf. correlation": lambda scores: format_value(scores.confidence_correlation),
    "calibration error": lambda scores: format_value(scores.calibration_error),
}
_GROUP_COLUMNS: dict[str, Callable[[Scores], str]] = {
    "photos": lambda scores: str(scores.photos),
    **_OVERLAPS,
    "95 % interval of Dice": lambda scores: _interval(scores.dice) if scores.photos > 1 else format_value(None),
    "failures": lambda scores: format_value(scores.failure.mean, None),
    "lesions left empty": lambda scores: format_value(scores.missed.mean, None),
    **_CONFIDENCE,
}
_MODEL_COLUMNS: dict[str, Callable[[Scores], str]] = {
    **_OVERLAPS,
    "failures": lambda scores: format_value(scores.failure.mean, None),
    "HD95 %": lambda scores: format_value(scores.hausdorff95_percent.mean, 2),
    "boundary %": lambda scores: format_value(scores.boundary_percent.mean, 2),
    **_CONFIDENCE,
}
"""Title of a column -> text of its cell."""


def _interval(figure: Summary, digits: int | None = 3) -> str:
    return f"{format_value(figure.low, digits)} to {format_value(figure.high, digits)}"


def _not_reached_note(maximum: int) -> str:
    papers = "" if maximum == MAX_CLICKS else f" (with {MAX_CLICKS} in most papers)"
    return f"Photos that do not reach the goal count with {maximum} clicks{papers}."


def _signed(value: float | None, digits: int | None) -> str:
    if value is None:
        return format_value(value)
    return f"{100 * value:+z.1f} %" if digits is None else f"{value:+z.{digits}f}"


def _excludes_zero(difference: Summary) -> str:
    if difference.low is None or difference.high is None:
        return "–"
    return "yes" if difference.low > 0 or difference.high < 0 else "no"
