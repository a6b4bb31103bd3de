"""What an evaluation found, of one model or of several side by side, and how it is written: text, CSV, JSON, HTML."""

import csv
import io
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from napari_skinseg.files import output_folder, write_json, write_text
from napari_skinseg.pixels.metrics import Summary

from .click_curves import ClickCurve
from .statistics import CaseResult, Cell, Detection, Scores, Step
from .tables import (
    Table,
    click_tables,
    clicks_side_by_side,
    confidence_table,
    detection_table,
    difference_table,
    side_by_side,
    strata_side_by_side,
    strata_table,
    summary_table,
)

TABLE, DOCUMENT, REPORT = "evaluation.csv", "evaluation.json", "evaluation.html"
"""What `write` writes; the last holds photos."""


@dataclass(frozen=True)
class Worst:
    """A photo that the model did badly on: its figures, and a small JPEG of it with both outlines."""

    result: CaseResult
    picture: bytes = field(repr=False)


@dataclass(frozen=True)
class Evaluation:
    """What came out.

    Attributes:
        header: data, photos, split, resolution, mask, device, model, its weights' sha256, command, versions.
        results: one per photo, in the order of the cases.
        summary: over all photos.
        strata: the same per group of photos: stratum -> group -> figures, where there are several groups.
        reliability: the photos by their confidence.
        detection: whether photos without a lesion were known as such.
        clicks: curve -> how clicks improve the mask, see `click_curves.CURVES`; empty if none were simulated.
        worst: the photos with the lowest Jaccard, lowest first.
        left_out: (photo, sentence) of every case that could not be used.
    """

    header: dict[str, str | int]
    results: tuple[CaseResult, ...]
    summary: Scores
    strata: dict[str, dict[str, Scores]]
    reliability: tuple[Step, ...]
    detection: Detection
    clicks: dict[str, ClickCurve]
    worst: tuple[Worst, ...] = field(repr=False)
    left_out: tuple[tuple[Path, str], ...]

    @property
    def by_source(self) -> dict[str, Scores]:
        """The figures per dataset, where there are several; else empty."""
        return self.strata.get("dataset", {})

    @property
    def rows(self) -> list[dict[str, Cell]]:
        """The per-photo table."""
        return [result.row() for result in self.results]

    def tables(self) -> list[Table]:
        """Every figure in words."""
        detected = detection_table(self.detection)
        return [
            summary_table(self.summary),
            *([detected] if detected else []),
            *(strata_table(name, groups) for name, groups in self.strata.items()),
            confidence_table(self.summary, self.reliability),
            *click_tables(self.clicks),
        ]

    def write(self, folder: str | Path) -> None:
        """Write evaluation.csv (per photo), evaluation.json and evaluation.html, which holds photos, into `folder`."""
        Comparison((self,), ()).write(folder)

    def to_csv(self, path: str | Path) -> None:
        """Write the per-photo table; a blank cell is "not measured". Every row names the split and the weights."""
        Comparison((self,), ()).to_csv(path)

    def to_json(self, path: str | Path | None = None) -> dict[str, Any]:
        """The header, every summary and what was left out as one JSON document, written to `path` if given."""
        document = {
            "header": self.header,
            "summary": asdict(self.summary),
            "by_source": _groups_as_json(self.by_source),
            "strata": {stratum: _groups_as_json(groups) for stratum, groups in self.strata.items()},
            "reliability": [asdict(step) for step in self.reliability],
            "detection": asdict(self.detection),
            "clicks": {name: asdict(curve) for name, curve in self.clicks.items()},
            "worst": [worst.result.id for worst in self.worst],
            "left_out": [{"photo": str(photo), "why": why} for photo, why in self.left_out],
        }
        if path is not None:
            write_json(path, document)
        return document

    def to_html(self, path: str | Path) -> None:
        """Write the report as one HTML file with plots and the worst photos: do not pass it on without asking."""
        Comparison((self,), ()).to_html(path)

    def to_text(self) -> str:
        """The report as a person reads it."""
        lines = [f"{name:<11}{value}" for name, value in self.header.items()]
        for table in self.tables():
            lines += ["", *table.lines()]
        if self.left_out:
            lines += ["", f"Left out, {len(self.left_out)}:", *(f"  {why}" for _, why in self.left_out)]
        return "\n".join(lines)


@dataclass(frozen=True)
class Comparison:
    """Several models on the same photos.

    Attributes:
        evaluations: one per model.
        differences: for each model but the first: figure -> this model minus the first, photo by photo, over those
            photos that both could use.
    """

    evaluations: tuple[Evaluation, ...]
    differences: tuple[dict[str, Summary], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What to call each model: no two alike."""
        headers = [evaluation.header for evaluation in self.evaluations]
        counts = Counter(header["model"] for header in headers)
        names = [
            f"{h['model']}" if counts[h["model"]] == 1 else f"{h['model']} ({str(h['sha256'])[:8]})" for h in headers
        ]
        return tuple(name if names.count(name) == 1 else f"{name} #{n}" for n, name in enumerate(names, start=1))

    @property
    def left_out(self) -> tuple[tuple[Path, str], ...]:
        """(photo, sentence) of every case that one of the models could not be evaluated on."""
        return tuple(dict.fromkeys(entry for evaluation in self.evaluations for entry in evaluation.left_out))

    def tables(self) -> list[Table]:
        """What sets the models apart, in words."""
        models = dict(zip(self.names, self.evaluations, strict=True))
        first = self.evaluations[0]
        clicks = clicks_side_by_side({name: one.clicks for name, one in models.items()})
        return [
            side_by_side({name: one.summary for name, one in models.items()}),
            *(
                difference_table(name, self.names[0], differences)
                for name, differences in zip(self.names[1:], self.differences, strict=True)
            ),
            *(
                strata_side_by_side(stratum, {name: one.strata.get(stratum, {}) for name, one in models.items()})
                for stratum in first.strata
            ),
            *([clicks] if clicks else []),
        ]

    def write(self, folder: str | Path) -> None:
        """Write evaluation.csv (per photo), evaluation.json and evaluation.html, which holds photos, into `folder`."""
        folder = output_folder(folder)
        self.to_csv(folder / TABLE)
        document = self.to_json() if len(self.evaluations) > 1 else self.evaluations[0].to_json()
        write_json(folder / DOCUMENT, document)
        self.to_html(folder / REPORT)

    def to_csv(self, path: str | Path) -> None:
        """Write the per-photo table, a row per photo and model; a blank cell is "not measured"."""
        rows: list[dict[str, Cell]] = []
        about = ("split", "model", "sha256")
        for one in self.evaluations:
            rows += [{**row, **{name: one.header[name] for name in about}} for row in one.rows]
        found = dict.fromkeys(name for row in rows for name in row)  # photos without a lesion have no clicks
        columns = [*(name for name in found if name not in about), *about]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) for name, value in row.items()})
        write_text(path, text.getvalue())

    def to_json(self, path: str | Path | None = None) -> dict[str, Any]:
        """Every model's document and the differences as one JSON document, written to `path` if given."""
        first, *others = self.names
        document = {
            "models": {
                name: evaluation.to_json() for name, evaluation in zip(self.names, self.evaluations, strict=True)
            },
            "differences": [
                {"model": name, "minus": first, "figures": {figure: asdict(value) for figure, value in found.items()}}
                for name, found in zip(others, self.differences, strict=True)
            ],
        }
        if path is not None:
            write_json(path, document)
        return document

    def to_html(self, path: str | Path) -> None:
        """Write the report as one HTML file with plots and the worst photos: do not pass it on without asking."""
        from .report import html_report  # draws, and matplotlib takes a second to import

        write_text(path, html_report(self))

    def to_text(self) -> str:
        """The report as a person reads it."""
        lines = [f"{name:<11}{value}" for name, value in self.shared_header().items()]
        for name, evaluation in zip(self.names, self.evaluations, strict=True):
            own = (f"{key} {value}" for key, value in evaluation.header.items() if key not in self.shared_header())
            lines += ["", name, *(f"  {line}" for line in own)]
        for table in self.tables():
            lines += ["", *table.lines()]
        if self.left_out:
            lines += ["", f"Left out, {len(self.left_out)}:", *(f"  {why}" for _, why in self.left_out)]
        return "\n".join(lines)

    def shared_header(self) -> dict[str, str | int]:
        """The lines of the header that are the same for all models."""
        headers = [evaluation.header for evaluation in self.evaluations]
        return {key: value for key, value in headers[0].items() if all(other.get(key) == value for other in headers)}


def _groups_as_json(groups: dict[str, Scores]) -> dict[str, Any]:
    return {group: asdict(scores) for group, scores in groups.items()}


def _cell(value: Cell) -> str:
    """A cell of the table: blank for "not measured", at most six digits."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
