"""Runs in parts, as on a cluster: each part writes its own records, and merging gives the files of one run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_skinseg.batch.folder import BatchOptions, segment_files
from napari_skinseg.batch.parts import Part
from napari_skinseg.batch.records import FolderRecords, merge_parts
from napari_skinseg.datasets.dataset import find_cases
from napari_skinseg.errors import BadInput
from napari_skinseg.segmentation.segmenter import Segmenter

DOCS = Path(__file__).parents[2] / "docs" / "scale.md"
FILES = ("segmentations.json", "measurements.csv")


@pytest.fixture
def folder(make_photos) -> Path:
    return make_photos(9)


@given(name=st.text(min_size=1), count=st.integers(1, 50))
def test_each_photo_is_in_exactly_one_part(name, count):
    assert sum(Part(number, count).contains(name) for number in range(1, count + 1)) == 1


@pytest.mark.parametrize("text", ["5/4", "0/4", "3", "a/b", "-1/4", "3/0"])
def test_a_part_that_does_not_exist_is_refused(text):
    with pytest.raises(BadInput, match="give"):
        Part.parse(text)


@pytest.mark.slow
def test_parts_in_separate_processes_merge_to_the_files_of_one_run(folder, spot_finder, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    segment_files([folder], whole, Segmenter(spot_finder, "cpu"), BatchOptions(measure=True))
    command = [sys.executable, "-m", "napari_skinseg", "segment", str(folder), "--model", str(spot_finder)]
    command += ["--device", "cpu", "--measure", "--quiet", "--out", str(out)]
    parts = [subprocess.Popen([*command, "--part", f"{number}/3"]) for number in (1, 2, 3)]
    assert [part.wait(timeout=300) for part in parts] == [0, 0, 0]
    assert not any((out / name).exists() for name in FILES)
    assert [case.mask for case in find_cases(out.parent)] == [None] * 9, (
        "a mask of a part is never taken for a person's"
    )

    assert merge_parts(out) == 9
    assert all((out / name).read_bytes() == (whole / name).read_bytes() for name in FILES)
    assert not list(out.glob("*part*"))
    masks = sorted(path.relative_to(out) for path in out.rglob("*.png"))
    assert all((out / mask).read_bytes() == (whole / mask).read_bytes() for mask in masks)


def test_the_slurm_script_of_the_docs_segments_every_photo(folder, tmp_path):
    (script,) = re.findall(r"```bash\n(#!/bin/bash\n#SBATCH.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    commands = Path(sys.executable).parent
    for number in (1, 2):
        environment = {
            **os.environ,
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "PHOTOS": str(folder),
            "OUT": str(tmp_path / "out"),
            "SLURM_ARRAY_TASK_ID": str(number),
            "SLURM_ARRAY_TASK_COUNT": "2",
        }
        subprocess.run(["bash", "-c", script], env=environment, check=True, timeout=300)
    assert merge_parts(tmp_path / "out") == 9
    assert len((tmp_path / "out" / "measurements.csv").read_text(encoding="utf-8").splitlines()) == 10


def test_a_merge_names_the_parts_that_did_not_end(folder, spot_finder, tmp_path):
    out, segmenter = tmp_path / "out", Segmenter(spot_finder, "cpu")
    with pytest.raises(BadInput, match="holds no part"):
        merge_parts(tmp_path)
    segment_files([folder], out, segmenter, BatchOptions(part="2/4"))
    with pytest.raises(BadInput, match=r"of 4 parts, 1, 3, 4 did not end.*--part 1/4"):
        merge_parts(out)
    with pytest.raises(BadInput, match="holds a run in 4 parts"):
        segment_files([folder], out, segmenter, BatchOptions(part="2/5"))


def test_the_next_whole_run_takes_over_the_parts(folder, spot_finder, tmp_path):
    whole, out, segmenter = tmp_path / "whole", tmp_path / "out", Segmenter(spot_finder, "cpu")
    options = BatchOptions(measure=True)
    segment_files([folder], whole, segmenter, options)
    segment_files([folder], out, segmenter, BatchOptions(measure=True, part="1/2"))
    outcome = segment_files([folder], out, segmenter, options)
    assert 0 < sum(result.kept for result in outcome.done) < 9
    assert all((out / name).read_bytes() == (whole / name).read_bytes() for name in FILES)
    assert not list(out.glob("*part*"))


def test_the_lock_of_a_computer_that_crashed_says_which_file_to_delete(folder, spot_finder, tmp_path):
    out, segmenter = tmp_path / "out", Segmenter(spot_finder, "cpu")
    out.mkdir()
    lock = out / "segmentations.part-1-of-2.lock"
    owner = {"host": "node-17", "pid": 1, "started": 1.0, "name": "ann", "since": "2026-02-03 14:02", "token": "0"}
    lock.write_text(json.dumps(owner))
    for part in ("1/2", None):
        with pytest.raises(BadInput, match=r"process 1 on node-17, since 2026-02-03 14:02.* delete .*1-of-2\.lock"):
            segment_files([folder], out, segmenter, BatchOptions(part=part))
    assert segment_files([folder], out, segmenter, BatchOptions(part="2/2")).done, "other parts can run"
    lock.unlink()
    assert segment_files([folder], out, segmenter, BatchOptions(part="1/2")).done


def test_a_whole_run_and_a_part_do_not_write_at_the_same_time(folder, spot_finder, tmp_path):
    out, segmenter = tmp_path / "out", Segmenter(spot_finder, "cpu")
    out.mkdir()
    with FolderRecords(out, Part(1, 2)):
        with pytest.raises(BadInput, match="in use"):
            segment_files([folder], out, segmenter)
        assert segment_files([folder], out, segmenter, BatchOptions(part="2/2")).done
    with FolderRecords(out), pytest.raises(BadInput, match="in use"):
        segment_files([folder], out, segmenter, BatchOptions(part="1/2"))
    assert json.loads((out / "segmentations.part-2-of-2.json").read_text())["masks"]
