"""`napari-skinseg segment`."""

import json
import signal
import time
from pathlib import Path

import numpy as np
from PIL import Image

from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.pixels.metrics import dice


def test_segment_writes_one_mask_per_photo_and_prints_the_folder(run, photos, spot_finder, tmp_path):
    code, out, _ = run("segment", tmp_path / "photos", "--model", spot_finder, "--out", tmp_path / "out")
    assert code == 0
    assert f"3 masks in {tmp_path / 'out'}" in out
    for photo, truth in photos.items():
        folder = tmp_path / "out" / photo.parent.name
        assert dice(read_mask(folder / f"{photo.stem}_segmentation.png"), truth) > 0.9


def test_json_prints_only_one_document_on_standard_output(run, photos, spot_finder, tmp_path):
    out = tmp_path / "out"
    code, text, _ = run("segment", *photos, "--model", spot_finder, "--out", out, "--measure", "--json")
    document = json.loads(text)
    assert code == 0
    assert document["model"] == "spot-finder"
    assert [Path(entry["photo"]) for entry in document["done"]] == sorted(photos)
    assert document["done"][0]["measures"]["area_px"] > 0
    assert document["table"] == str(out / "measurements.csv")


def test_quiet_prints_nothing_without_errors(run, photos, spot_finder, tmp_path):
    assert run("segment", *photos, "--model", spot_finder, "--out", tmp_path / "out", "--quiet") == (0, "", "")


def test_flags_set_the_options_of_the_action(run, photos, spot_finder, tmp_path):
    out = tmp_path / "out"
    flags = ("--threshold", 0.3, "--keep", "all", "--no-fill-holes", "--smooth", 0, "--tta")
    code, _, _ = run("segment", *photos, "--model", spot_finder, "--out", out, *flags)
    record = json.loads((out / "segmentations.json").read_text())["masks"]["north/a_segmentation.png"]
    assert code == 0
    assert (record["threshold"], record["tta"]) == (0.3, True)
    assert record["clean_up"] == {"keep": "all", "min_area": 0.0005, "fill_holes": False, "smooth": 0.0}


def test_photos_without_a_lesion_are_named_with_the_option_to_outline_them(run, photos, doubting_model, tmp_path):
    command = ("segment", *photos, "--model", doubting_model, "--out", tmp_path / "out")
    code, out, _ = run(*command)
    assert code == 0
    assert "No lesion found in north/a.png (" in out
    assert "--always-outline --overwrite" in out
    code, out, _ = run(*command, "--always-outline", "--overwrite")
    assert code == 0
    assert "No lesion found" not in out
    assert "Likely wrong, check these first: north/a.png" in out
    for photo, truth in photos.items():
        mask = tmp_path / "out" / photo.parent.name / f"{photo.stem}_segmentation.png"
        assert dice(read_mask(mask), truth) > 0.9


def test_a_failed_photo_is_named_and_gives_exit_code_1(run, photos, spot_finder, tmp_path):
    broken = tmp_path / "photos" / "zero.jpg"
    broken.touch()
    code, out, messages = run("segment", tmp_path / "photos", "--model", spot_finder, "--out", tmp_path / "out")
    assert code == 1
    assert str(broken) in messages
    assert "3 masks" in out


def test_only_failed_photos_give_exit_code_2(run, spot_finder, tmp_path):
    (tmp_path / "notes.jpg").write_text("no photo")
    code, _, messages = run("segment", tmp_path / "notes.jpg", "--model", spot_finder, "--out", tmp_path / "out")
    assert code == 2
    assert "notes.jpg" in messages


def test_ctrl_c_keeps_complete_masks_and_gives_exit_code_130(start, spot_finder, tmp_path):
    folder, out = tmp_path / "many", tmp_path / "out"
    folder.mkdir()
    rng = np.random.default_rng(0)
    pixels = Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)).resize((1200, 900))
    pixels.save(folder / "000.jpg")
    for number in range(1, 300):
        (folder / f"{number:03}.jpg").hardlink_to(folder / "000.jpg")
    process = start("segment", folder, "--model", spot_finder, "--out", out, "--measure", "--batch-size", 2)
    deadline = time.monotonic() + 180
    while not list(out.glob("*_segmentation.png")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    text, messages = process.communicate(timeout=180)
    assert process.returncode == 130, messages
    assert "Stopped before the end" in text
    masks = list(out.glob("*_segmentation.png"))
    assert 0 < len(masks) < 300
    assert all(read_mask(mask).shape == (900, 1200) for mask in masks)
    assert len((out / "measurements.csv").read_text().splitlines()) == 1 + len(masks)


def test_an_output_folder_that_cannot_be_created_is_named(run, photos, spot_finder, tmp_path):
    (tmp_path / "taken").write_text("a file")
    code, _, messages = run("segment", *photos, "--model", spot_finder, "--out", tmp_path / "taken" / "out")
    assert code == 2
    assert str(tmp_path / "taken") in messages
    assert (tmp_path / "taken").read_text() == "a file"


def test_parts_are_merged_and_bad_parts_give_one_sentence(run, photos, spot_finder, tmp_path):
    out = tmp_path / "out"
    command = ("segment", tmp_path / "photos", "--model", spot_finder, "--out", out)
    assert run(*command, "--part", "1/2")[0] == 0
    code, _, messages = run("segment", "--merge", out)
    assert code == 2
    assert "2 did not end" in messages
    assert run(*command, "--part", "2/2")[0] == 0
    code, text, _ = run("segment", "--merge", out)
    assert (code, text) == (0, f"3 masks in {out}\n")
    assert "There is no part 5 of 4" in run(*command, "--part", "5/4")[2]
    assert "without PATHS" in run(*command, "--merge", out)[2]
