"""Write the table of a run as Parquet, with a type for each column; pyarrow, of the extra `parquet`, is imported."""

from importlib.util import find_spec
from pathlib import Path

from napari_skinseg.errors import BadInput
from napari_skinseg.files import atomic, unescape_formula
from napari_skinseg.measurement.measure import COLUMNS, NOTE

PARQUET = "measurements.parquet"

_UNITS = {"[text]": "string", "[count]": "int64", "[yes/no]": "bool"}
_TYPES = {
    "photo": "string",
    "confidence": "float64",
    "empty": "bool",
    "mask_kept": "bool",
    **{name: _UNITS.get(f"[{text.rpartition('[')[2]}", "float64") for name, text in COLUMNS.items()},
    "skin_tone": "string",
    NOTE: "string",
}


def check_parquet() -> None:
    """Raise `BadInput` if pyarrow is not installed."""
    if find_spec("pyarrow") is None:
        raise BadInput("Parquet needs pyarrow; install it with: pip install 'napari-skinseg[parquet]'")


def write_parquet(path: Path, table: Path) -> None:
    """Write the rows of measurements.csv as Parquet, atomically; a blank cell becomes null.

    Raises:
        BadInput: pyarrow is not installed, or the file cannot be written; an earlier file is kept.
    """
    check_parquet()
    import pyarrow
    from pyarrow import csv, parquet

    # One block of rows after the other, so that the table never fills the memory.
    rows = csv.open_csv(
        table,
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types={name: pyarrow.type_for_alias(kind) for name, kind in _TYPES.items()},
            null_values=[""],
            true_values=["true"],
            false_values=["false"],
            strings_can_be_null=True,
        ),
    )
    with atomic(path) as temporary, parquet.ParquetWriter(temporary, rows.schema) as file:
        for block in rows:
            names = [unescape_formula(name) for name in block.column("photo").to_pylist()]
            file.write_batch(block.set_column(0, rows.schema.field("photo"), pyarrow.array(names, pyarrow.string())))
