"""Atomic writing of tables and other files."""

import numpy as np
import pytest

from napari_skinseg.errors import BadInput
from napari_skinseg.files import write_csv


def test_none_is_written_as_a_blank_cell(tmp_path):
    rows = [["a, b", 3, 0.1234567, True, None], ["c", 4, np.float64(2.0), False, 1e9]]
    write_csv(tmp_path / "table.csv", ["photo", "count", "share", "empty", "area"], rows)
    assert (tmp_path / "table.csv").read_text(encoding="utf-8") == (
        'photo,count,share,empty,area\n"a, b",3,0.123457,true,\nc,4,2,false,1e+09\n'
    )


def test_a_failed_table_keeps_the_old_file(tmp_path):
    write_csv(tmp_path / "table.csv", ["a"], [[1]])

    def broken():
        yield [2]
        raise BadInput("a row that cannot be made")

    with pytest.raises(BadInput):
        write_csv(tmp_path / "table.csv", ["a"], broken())
    assert (tmp_path / "table.csv").read_text(encoding="utf-8") == "a\n1\n"
