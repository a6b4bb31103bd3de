"""Figures as tables of words: the same ones for print and for the HTML report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from napari_skinseg.pixels.metrics import FAILURE_JACCARD, Summary

from .click_curves import CURVES, MOST_CLICKS, ClickCurve
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
"""What a figure is called and how many digits it has; None for a share, given in percent."""


@dataclass(frozen=True)
class Table:
    """Words in rows; the first of `columns` names the table, and the first of each row what the row is about."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def lines(self) -> list[str]:
        """The table as it is printed: first column to the left, all others to the right."""
        cells = (self.columns, *self.rows)
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.columns))]
        lines = [
            "   ".join(
                cell.rjust(width) if column else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        ]
        return [*lines, self.note] if self.note else lines


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
        lines += ["", *table.lines()]
    if results.left_out:
        lines += ["", f"Left out, {len(results.left_out)}:", *(f"  {why}" for _, why in results.left_out)]
    return "\n".join(lines)


def _header_lines(header: Mapping[str, str | int]) -> list[str]:
    return [f"{name:<11}{value}" for name, value in header.items()]


def summary_table(scores: Scores) -> Table:
    """Every figure over all photos."""
    rows = []
    for name, (label, digits) in FIGURES.items():
        figure: Summary = getattr(scores, name)
        mean, sd, median, low, high = (
            in_words(value, digits) for value in (figure.mean, figure.sd, figure.median, figure.low, figure.high)
        )
        missing = scores.photos - figure.n
        note = f"{missing} not measured: a mask is empty" if missing else ""
        share = digits is None
        rows.append((label, mean if share else f"{mean} ± {sd}", "" if share else median, f"{low} to {high}", note))
    pooled = ("Pooled Dice at 256x256", in_words(scores.pooled_dice_256), "", "", "only to compare with papers")
    return Table(("Figure", "mean ± sd", "median", "95 % interval of the mean", ""), (*rows, pooled))


def strata_table(stratum: str, groups: Mapping[str, Scores]) -> Table:
    """The most telling figures of each group."""
    rows = (
        (
            group,
            str(scores.photos),
            *(in_words(figure.mean) for figure in (scores.dice, scores.jaccard, scores.thresholded_jaccard)),
            f"{in_words(scores.dice.low)} to {in_words(scores.dice.high)}" if scores.photos > 1 else in_words(None),
            in_words(scores.failure.mean, None),
        )
        for group, scores in groups.items()
    )
    columns = ("photos", "Dice", "Jaccard", "thr. J", "95 % interval of Dice", "failures")
    return Table((_titled(stratum), *columns), tuple(rows))


def confidence_table(scores: Scores, steps: Sequence[ReliabilityBin]) -> Table:
    """What confidence was stated and what Jaccard was reached."""
    rows = (
        (
            f"{step.low:.1f} to {step.high:.1f}",
            str(step.photos),
            in_words(step.confidence),
            in_words(step.jaccard),
            f"{step.jaccard - step.confidence:+.3f}",
        )
        for step in steps
    )
    return Table(
        ("Confidence", "photos", "mean stated", "mean Jaccard reached", "difference"),
        tuple(rows),
        f"Confidence: correlation with Jaccard {in_words(scores.confidence_correlation)}, "
        f"mean absolute error {in_words(scores.confidence_error)}, "
        f"expected calibration error {in_words(scores.calibration_error)}",
    )


def detection_table(found: Detection) -> Table | None:
    """How often no lesion was found, rightly and wrongly; None if there was no occasion for either."""
    rows = [
        (what, str(photos), in_words(share.mean, None), f"{in_words(share.low, None)} to {in_words(share.high, None)}")
        for what, photos, share, shown in (
            ("Without lesion, rightly left empty", found.without_lesion, found.left_empty, found.without_lesion),
            ("With a lesion, wrongly left empty", found.with_lesion, found.missed, found.missed.mean),
        )
        if shown
    ]
    return Table(("No lesion found", "photos", "share", "95 % interval"), tuple(rows)) if rows else None


def click_tables(curves: Mapping[str, ClickCurve]) -> list[Table]:
    """Jaccard after each click, and how many clicks it took; nothing if none were simulated."""
    if not curves:
        return []
    first = next(iter(curves.values()))
    most = len(first.jaccard) - 1
    after = tuple(
        (CURVES[name], *(in_words(figure.mean) for figure in curve.jaccard)) for name, curve in curves.items()
    )
    needed = tuple(
        (CURVES[name], *(cell for goal in curve.to for cell in _needed(goal.clicks, goal.not_reached)))
        for name, curve in curves.items()
    )
    goals = tuple(cell for goal in first.to for cell in (f"to {goal.goal:.2f}", "95 % interval", "never there"))
    photos = f"{first.photos} photo{'s' * (first.photos != 1)} with a lesion"
    return [
        Table(("Mean Jaccard after … clicks", *map(str, range(most + 1))), after),
        Table(("Mean clicks to a Jaccard", *goals), needed, f"{photos}. {_never_there(most)}"),
    ]


def side_by_side(models: Mapping[str, Scores]) -> Table:
    """The figures of several models over the same photos."""
    rows = (
        (
            model,
            *(in_words(getattr(scores, name).mean, FIGURES[name][1]) for name in _COMPARED),
            in_words(scores.confidence_correlation),
            in_words(scores.calibration_error),
        )
        for model, scores in models.items()
    )
    columns = (
        "Dice",
        "Jaccard",
        "thr. J",
        "failures",
        "HD95 %",
        "boundary %",
        "conf. correlation",
        "calibration error",
    )
    return Table(("Model", *columns), tuple(rows))


def difference_table(model: str, first: str, differences: Mapping[str, Summary]) -> Table:
    """How one model differs from the first, photo by photo."""
    rows = []
    for name in _COMPARED:
        figure, (label, digits) = differences[name], FIGURES[name]
        mean, low, high = (_signed(value, digits) for value in (figure.mean, figure.low, figure.high))
        rows.append((label, mean, f"{low} to {high}", _verdict(figure), str(figure.n)))
    return Table((f"{model} minus {first}", "mean difference", "95 % interval", "told apart", "photos"), tuple(rows))


def strata_side_by_side(stratum: str, models: Mapping[str, Mapping[str, Scores]]) -> Table:
    """Mean Dice of each group with each model."""
    groups = next(iter(models.values()))
    rows = (
        (
            group,
            str(scores.photos),
            *(in_words(model[group].dice.mean) if group in model else in_words(None) for model in models.values()),
        )
        for group, scores in groups.items()
    )
    return Table((f"Dice by {stratum}", "photos", *models), tuple(rows))


def clicks_side_by_side(models: Mapping[str, Mapping[str, ClickCurve]]) -> Table | None:
    """Mean clicks to each goal with each model; None if none were simulated."""
    first = next(iter(models.values()))
    if not first:
        return None
    rows = (
        (
            f"{CURVES[name]}, to {goal.goal:.2f}",
            *(in_words(curves[name].to[number].clicks.mean, 2) if curves else "–" for curves in models.values()),
        )
        for name, curve in first.items()
        for number, goal in enumerate(curve.to)
    )
    most = len(next(iter(first.values())).jaccard) - 1
    return Table(("Mean clicks to a Jaccard", *models), tuple(rows), _never_there(most))


def in_words(value: float | None, digits: int | None = 3) -> str:
    """A figure with so many digits, a share in percent if `digits` is None, or "–" where it was not measured."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if digits is None else f"{value:.{digits}f}"


_COMPARED = ("dice", "jaccard", "thresholded_jaccard", "failure", "hausdorff95_percent", "boundary_percent")


def _needed(clicks: Summary, not_reached: float) -> tuple[str, str, str]:
    interval = f"{in_words(clicks.low, 2)} to {in_words(clicks.high, 2)}"
    return in_words(clicks.mean, 2), interval, in_words(not_reached, None)


def _never_there(most: int) -> str:
    papers = "" if most == MOST_CLICKS else f" (with {MOST_CLICKS} in most papers)"
    return f"Photos that never get there count with {most} clicks{papers}."


def _signed(value: float | None, digits: int | None) -> str:
    if value is None:
        return in_words(value)
    return f"{100 * value:+z.1f} %" if digits is None else f"{value:+z.{digits}f}"


def _verdict(difference: Summary) -> str:
    """Whether the interval leaves out 0."""
    if difference.low is None or difference.high is None:
        return "–"
    return "yes" if difference.low > 0 or difference.high < 0 else "no"


def _titled(name: str) -> str:
    return name[:1].upper() + name[1:]
