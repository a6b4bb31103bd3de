"""A folder run that is killed at random instants: every mask has a record, and a later run completes the folder."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from napari_skinseg.batch.folder import BatchOptions, segment_files
from napari_skinseg.batch.records import FolderRecords
from napari_skinseg.datasets.dataset import find_cases
from napari_skinseg.errors import BadInput
from napari_skinseg.pixels.image import find_images
from napari_skinseg.segmentation.segmenter import Segmenter

PROGRAM = """
import sys
from pathlib import Path
from napari_skinseg.batch.folder import BatchOptions, segment_files
from napari_skinseg.pixels.image import find_images
from napari_skinseg.segmentation.segmenter import Segmenter

photos, out, model = map(Path, sys.argv[1:])
segmenter = Segmenter(model, "cpu")
print("ready", flush=True)
options = BatchOptions(measure=True, batch_size=2, overwrite=True)
while True:
    segment_files(find_images(photos), out, segmenter, options, lambda event: print(event.done, flush=True))
"""


@pytest.fixture
def folder(tmp_path, spot):
    """Twelve photos of a spot."""
    (tmp_path / "photos").mkdir()
    for number in range(12):
        image, _ = spot(40, 50 + number, 20, (96, 128))
        Image.fromarray(image).save(tmp_path / "photos" / f"{number:02}.png")
    return tmp_path / "photos"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_kill_leaves_no_mask_that_counts_as_made_by_a_person(folder, spot_finder):
    out = folder / "results"
    pause = random.Random(0)
    masks_seen = 0
    for _ in range(2):  # benchmarks/kills.py makes 200
        command = [sys.executable, "-c", PROGRAM, str(folder), str(out), str(spot_finder)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert process.stdout.readline() == "ready\n"
        for _ in range(pause.randrange(20)):
            process.stdout.readline()
        time.sleep(pause.uniform(0, 0.05))
        process.kill()
        process.communicate()
        masks_seen += len(list(out.rglob("*_segmentation.png")))
        assert [case.mask for case in find_cases(folder)] == [None] * 12
    assert masks_seen > 0, "the kills hit runs that had written masks"

    photos = find_images(folder)
    outcome = segment_files(photos, out, Segmenter(spot_finder, "cpu"), BatchOptions(measure=True))
    assert [result.photo for result in outcome.done] == photos
    assert all(result.confidence is not None for result in outcome.done)
    records = json.loads((out / "segmentations.json").read_text(encoding="utf-8"))["masks"]
    assert sorted(records) == [f"{number:02}_segmentation.png" for number in range(12)]
    assert not (out / "segmentations.jsonl").exists()
    assert not (out / "segmentations.lock").exists()
    assert [case.mask for case in find_cases(folder)] == [None] * 12


def test_a_second_run_into_the_same_folder_is_refused_in_one_sentence(folder, spot_finder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    segmenter = Segmenter(spot_finder, "cpu")
    with FolderRecords(out), pytest.raises(BadInput, match=f"in use: process {os.getpid()} on"):
        segment_files(find_images(folder), out, segmenter)
    assert len(segment_files(find_images(folder), out, segmenter).done) == 12


def test_a_later_run_keeps_the_rows_of_photos_of_earlier_runs(folder, spot_finder, tmp_path):
    out, photos, segmenter = tmp_path / "out", find_images(folder), Segmenter(spot_finder, "cpu")
    options = BatchOptions(measure=True)
    segment_files(photos[:5], out, segmenter, options)
    outcome = segment_files(photos[3:], out, segmenter, options)
    names = [line.split(",")[0] for line in outcome.table.read_text(encoding="utf-8").splitlines()[1:]]
    assert names == [photo.name for photo in photos]


def test_a_journal_line_cut_by_a_kill_is_ignored_and_the_next_line_is_whole(tmp_path):
    (tmp_path / "segmentations.jsonl").write_bytes(b'{"mask": "a_segm')
    mask = tmp_path / "b_segmentation.png"
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(mask)
    with FolderRecords(tmp_path) as records:
        records.add(mask, {"mask_sha256": "0"}, None)
        records.confirm(mask)
        records.write(table=False)
    masks = json.loads((tmp_path / "segmentations.json").read_text(encoding="utf-8"))["masks"]
    assert masks == {"b_segmentation.png": {"mask_sha256": "0"}}
