"""The table of a folder run as Parquet."""

import csv
import sys

import pytest
from PIL import Image

from napari_skinseg.batch.folder import BatchOptions, segment_files
from napari_skinseg.batch.parquet import write_parquet
from napari_skinseg.batch.records import TABLE_COLUMNS, merge_parts
from napari_skinseg.cli.main import main
from napari_skinseg.errors import BadInput
from napari_skinseg.files import to_cell, unescape_formula, write_csv
from napari_skinseg.measurement.measure import COLUMNS
from napari_skinseg.segmentation.segmenter import Segmenter

parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
WITH_PARQUET = BatchOptions(measure=True, parquet=True)


@pytest.fixture
def segmenter(spot_finder) -> Segmenter:
    return Segmenter(spot_finder, "cpu")


def rows_of(out) -> list[dict[str, str]]:
    """The rows of measurements.csv, which must be those of measurements.parquet."""
    with (out / "measurements.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table = parquet.read_table(out / "measurements.parquet")
    assert table.column_names == list(TABLE_COLUMNS)
    assert [{name: to_cell(value) for name, value in row.items()} for row in table.to_pylist()] == [
        row | {"photo": unescape_formula(row["photo"])} for row in rows
    ]
    return rows


def test_parquet_holds_the_values_of_the_csv_with_types(make_photos, bare_photo, segmenter, tmp_path):
    folder = make_photos(4)
    bare_photo.rename(folder / "=bare.png")  # in the CSV, its name has an apostrophe
    segment_files([folder], tmp_path / "out", segmenter, WITH_PARQUET)
    rows = rows_of(tmp_path / "out")
    assert rows[0]["photo"] == "'=bare.png"
    schema = parquet.read_schema(tmp_path / "out" / "measurements.parquet")
    types = {field.name: str(field.type) for field in schema}
    assert {types[name] for name in ("photo", "flags")} == {"string"}
    assert {types[name] for name in ("empty", "mask_kept", "touches_edge")} == {"bool"}
    assert types["n_components"] == "int64"
    assert {types[name] for name in ("confidence", "area_px", "mm_per_px", "circularity")} == {"double"}


def test_every_column_has_a_type_that_its_values_have(tmp_path):
    """A column may be blank in all rows of one folder and not in those of the next."""
    samples = {"[text]": "hair; glare", "[count]": 3, "[yes/no]": True}
    values = [samples.get(f"[{text.rpartition('[')[2]}", 0.125) for text in COLUMNS.values()]
    for rows in ([["a.png", 0.9, False, True, *values, ""]], [["a.png", *[None] * (len(values) + 4)]]):
        write_csv(tmp_path / "measurements.csv", TABLE_COLUMNS, rows)
        write_parquet(tmp_path / "measurements.parquet", tmp_path / "measurements.csv")
        rows_of(tmp_path)


def test_a_later_run_and_a_merge_write_parquet_again(make_photos, segmenter, tmp_path):
    folder, out = make_photos(4), tmp_path / "out"
    for part in ("1/2", "2/2"):
        segment_files([folder], out, segmenter, BatchOptions(measure=True, part=part))
    merge_parts(out, parquet=True)
    assert len(rows_of(out)) == 4
    Image.open(folder / "north" / "00.png").save(folder / "new.png")
    segment_files([folder], out, segmenter, BatchOptions(measure=True))
    assert len(rows_of(out)) == 5, "a table that exists never becomes older than the CSV"


def test_bad_combinations_and_a_missing_package_give_one_sentence(
    make_photos, spot_finder, segmenter, tmp_path, monkeypatch, capsys
):
    command = ["segment", str(make_photos(2)), "--model", str(spot_finder), "--out", str(tmp_path / "out"), "--parquet"]
    assert main(command) == 2
    assert main([*command, "--measure", "--part", "1/2"]) == 2
    assert capsys.readouterr().err.count("--parquet is for a whole table") == 2
    assert not (tmp_path / "out").exists()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for call in (lambda: WITH_PARQUET.validate(), lambda: merge_parts(tmp_path, parquet=True)):
        with pytest.raises(BadInput, match=r"pip install 'napari-skinseg\[parquet\]'"):
            call()
