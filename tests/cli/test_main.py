"""The command line, mostly in this process and, where the process itself matters, in one of its own."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_skinseg.cli import main as cli
from napari_skinseg.pixels.mask import read_mask, write_mask
from napari_skinseg.pixels.metrics import dice
from napari_skinseg.project.project import Project


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """Models, settings and crash reports of this test's own."""
    monkeypatch.setenv("NAPARI_SKINSEG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "home"


@pytest.fixture
def run(capsys):
    """Run a command in this process and return its exit code, output and messages."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def labelled(photos, tmp_path) -> Path:
    """The folder of `photos`, each with its true mask beside it."""
    for photo, truth in photos.items():
        write_mask(photo.with_name(f"{photo.stem}_segmentation.png"), truth)
    return tmp_path / "photos"


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
    flags = ("--threshold", 0.3, "--keep", "all", "--no-fill-holes", "--smooth", 0, "--no-tta")
    code, _, _ = run("segment", *photos, "--model", spot_finder, "--out", out, *flags)
    record = json.loads((out / "segmentations.json").read_text())["masks"]["north/a_segmentation.png"]
    assert code == 0
    assert (record["threshold"], record["tta"]) == (0.3, False)
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


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("segment", "nowhere"), "nowhere"),
        (("segment",), "PATHS"),
        (("segment", "PHOTO", "--model", "nobody"), "nobody"),
        (("segment", "PHOTO", "--threshold", "1.5"), "threshold"),
        (("segment", "PHOTO", "--threshold", "high"), "high"),
        (("segment", "PHOTO", "--device", "abacus", "--model", "MODEL"), "abacus"),
        (("segment", "PHOTO", "--colour"), "--colour"),
        (("evaluate", "nowhere"), "nowhere"),
        (("train", "nowhere", "--out", "run"), "nowhere"),
        (("export", "nowhere", "--out", "shared"), "nowhere"),
        (("models", "info", "nobody"), "nobody"),
        (("fly",), "fly"),
    ],
)
def test_bad_input_gives_exit_code_2_and_one_sentence(
    run, photos, spot_finder, tmp_path, monkeypatch, arguments, named
):
    monkeypatch.chdir(tmp_path)
    given = {"PHOTO": str(min(photos)), "MODEL": str(spot_finder)}
    before = set(tmp_path.rglob("*.png"))
    code, out, messages = run(*(given.get(argument, argument) for argument in arguments))
    assert code == 2
    assert out == ""
    assert named in messages
    assert "Traceback" not in messages
    assert set(tmp_path.rglob("*.png")) == before


def test_demo_measures_four_phantoms_and_prints_their_dice(run, spot_finder, tmp_path):
    out = tmp_path / "demo"
    code, text, _ = run("demo", "--out", out, "--model", spot_finder)
    assert code == 0
    assert "Measurement only, not a diagnosis" in text
    assert "Dice" in text
    assert len(list(out.glob("*_segmentation.png"))) == len(list(out.glob("*_overlay.png"))) == 4
    assert (out / "measurements.csv").exists()


def test_demo_can_be_repeated_with_the_photos_of_a_user(run, photos, spot_finder, tmp_path):
    arguments = ("demo", "--images", tmp_path / "photos", "--out", tmp_path / "demo", "--model", spot_finder, "--json")
    for _ in range(2):
        code, text, _ = run(*arguments)
        document = json.loads(text)
        assert code == 0
        assert [entry["kept"] for entry in document["done"]] == [False] * 3


def test_a_model_is_added_chosen_shared_and_removed(run, spot_finder, tmp_path):
    assert run("models", "add", spot_finder)[0] == 0
    assert run("models", "default", "spot-finder")[1].strip() == "spot-finder"
    code, listed, _ = run("models", "list", "--json")
    assert code == 0
    assert [model["name"] for model in json.loads(listed) if model["default"]] == ["spot-finder"]
    assert run("models", "export", "spot-finder", tmp_path / "shared.zip")[0] == 0
    assert run("models", "remove", "spot-finder")[0] == 0
    assert run("models", "info", "spot-finder")[0] == 2
    assert run("models", "add", tmp_path / "shared.zip", "--name", "again")[0] == 0
    assert "BSD-3-Clause" in run("models", "info", "again")[1]


def test_evaluate_prints_dice_and_writes_table_summary_and_report(run, labelled, spot_finder, tmp_path):
    code, text, _ = run("evaluate", labelled, "--model", spot_finder, "--out", tmp_path / "report")
    assert code == 0
    assert "Dice" in text
    assert {path.suffix for path in (tmp_path / "report").iterdir()} == {".csv", ".json", ".html"}
    code, text, _ = run("evaluate", labelled, "--model", spot_finder, "--json")
    assert json.loads(text)["summary"]["dice"]["mean"] > 0.9


def test_evaluate_compares_several_models_and_simulates_clicks(run, labelled, spot_finder):
    both = ("evaluate", labelled, "--models", spot_finder, spot_finder)
    code, text, messages = run(*both, "--clicks", 1, "--json")
    assert code == 0, messages
    document = json.loads(text)
    assert len(document["models"]) == 2
    assert document["differences"][0]["figures"]["dice"]["mean"] == 0
    assert all(len(one["clicks"]["nothing_centre"]["jaccard"]) == 2 for one in document["models"].values())
    code, _, messages = run(*both, "--model", spot_finder)
    assert code == 2
    assert "give one of them" in messages


def test_export_writes_the_masks_of_a_project_that_is_open(run, photos, tmp_path):
    with Project.open(tmp_path / "review", create=True) as project:
        project.scan(tmp_path / "photos")
        for path, truth in photos.items():
            project.accept(project.find(path).id, truth)
        code, out, _ = run("export", tmp_path / "review", "--out", tmp_path / "shared")
    assert code == 0
    assert f"3 masks in {tmp_path / 'shared'}" in out
    assert len(list((tmp_path / "shared" / "masks").iterdir())) == 3


def test_train_writes_a_model_that_segment_can_use(run, labelled, photos, tmp_path):
    flags = ("--passes", 1, "--small-first", 0, "--batch-size", 2, "--input-height", 64, "--input-width", 64)
    code, text, messages = run("train", labelled, "--out", tmp_path / "run", *flags)
    assert code == 0, messages
    assert "1 pair of photo and mask, 1 usable" in messages
    assert (tmp_path / "run" / "splits.csv").exists()
    assert str(tmp_path / "run" / "my-model") in text
    model = tmp_path / "run" / "my-model"
    assert run("segment", min(photos), "--model", model, "--out", tmp_path / "out")[0] == 0


def test_a_bug_prints_one_sentence_and_writes_a_file_with_details(run, photos, spot_finder, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "find_images", lambda paths: 1 / 0)
    code, out, messages = run("segment", tmp_path / "photos")
    assert code == 70
    assert out == ""
    assert "division by zero" in messages
    assert "Traceback" not in messages
    (report,) = (tmp_path / "state").rglob("crash-*.txt")
    assert str(report) in messages
    assert "ZeroDivisionError" in report.read_text()


def start(*arguments: object) -> subprocess.Popen[str]:
    """The command as a person starts it: a process of its own."""
    command = [sys.executable, "-m", "napari_skinseg", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_ctrl_c_keeps_complete_masks_and_gives_exit_code_130(spot_finder, tmp_path):
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


def test_a_reader_that_closes_the_pipe_is_no_error(spot_finder):
    process = start("models", "info", spot_finder)
    process.stdout.close()
    assert process.wait(timeout=180) == 0
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


def test_version_is_printed_and_help_names_every_command():
    for flag, expected in (("--version", "."), ("--help", "evaluate")):
        process = start(flag)
        text, messages = process.communicate(timeout=180)
        assert process.returncode == 0, messages
        assert expected in text


def test_an_output_folder_that_cannot_be_created_is_named(run, photos, spot_finder, tmp_path):
    (tmp_path / "taken").write_text("a file")
    code, _, messages = run("segment", *photos, "--model", spot_finder, "--out", tmp_path / "taken" / "out")
    assert code == 2
    assert str(tmp_path / "taken") in messages
    assert (tmp_path / "taken").read_text() == "a file"
