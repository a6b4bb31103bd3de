"""Write the results of an evaluation to files: table, JSON document, HTML report."""

from pathlib import Path

from napari_skinseg.files import make_output_folder, write_csv, write_json

from .report import write_report
from .results import Comparison, Evaluation, as_comparison

TABLE, DOCUMENT, REPORT = "evaluation.csv", "evaluation.json", "evaluation.html"
"""Names of the files of `write_results`; the report contains photos."""

_MODEL_COLUMNS = ("split", "model", "sha256")


def write_results(results: Evaluation | Comparison, folder: str | Path) -> None:
    """Write evaluation.csv, evaluation.json and evaluation.html into `folder`. The HTML report contains photos.

    Raises:
        BadInput: `folder` cannot be written to.
    """
    folder, comparison = make_output_folder(folder), as_comparison(results)
    write_table(comparison, folder / TABLE)
    document = comparison if len(comparison.evaluations) > 1 else comparison.evaluations[0]
    write_json(folder / DOCUMENT, document.to_json())
    write_report(comparison, folder / REPORT)


def write_table(results: Evaluation | Comparison, path: str | Path) -> None:
    """Write a CSV file with a row per photo and model. Each row names the split and the model's weights.

    A blank cell means "not measured".

    Raises:
        BadInput: `path` cannot be written.
    """
    rows = [
        row | {name: one.header[name] for name in _MODEL_COLUMNS}
        for one in as_comparison(results).evaluations
        for row in one.rows
    ]
    names = dict.fromkeys(name for row in rows for name in row)  # photos without a lesion have no clicks
    columns = [*(name for name in names if name not in _MODEL_COLUMNS), *_MODEL_COLUMNS]
    write_csv(path, columns, ([row.get(name) for name in columns] for row in rows))
