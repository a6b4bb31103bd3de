"""Files that version 0.1 wrote are read by this version; `data/version-0.1/README.md` says how they were made."""

import collections
import csv
import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_skinseg import Segmenter
from napari_skinseg.cli.main import main
from napari_skinseg.datasets.dataset import find_cases
from napari_skinseg.finetuning.evidence import collect
from napari_skinseg.finetuning.runs import adopt, find_undecided, list_fine_tuned, revert
from napari_skinseg.project.project import Project
from napari_skinseg.project.store import STORE_NAME

OLD = Path(__file__).parent / "data" / "version-0.1"
TRAIN = (
    *("train", "photos", "--out", "training-run", "--name", "old-run", "--start", "old-tiny", "--passes", "3"),
    *("--input-height", "64", "--input-width", "64", "--batch-size", "2", "--device", "cpu"),
)
FINE_TUNE = (
    *("finetune", "photos", "--out", "finetune-stopped", "--folds", "2", "--passes", "2"),
    *("--adopt", "never", "--device", "cpu"),
)
"""The commands that were stopped in version 0.1."""


@pytest.fixture
def old_files(tmp_path, monkeypatch) -> Path:
    """The current folder: a copy of the old files, whose old model is the default one."""
    folder = tmp_path / "old_files"
    shutil.copytree(OLD, folder)
    shutil.copytree(OLD / "bundle", folder / "home" / "models" / "old-tiny")
    shutil.copy(OLD / "settings.json", folder / "home")
    monkeypatch.setenv("NAPARI_SKINSEG_HOME", str(folder / "home"))
    monkeypatch.chdir(folder)
    return folder


def mask_in(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)) > 127


def differing(mask: np.ndarray, other: np.ndarray) -> int:
    """Pixels in which two masks differ; another processor may round a few of them differently."""
    return int(np.count_nonzero(mask != other))


def test_an_old_model_draws_the_same_mask(old_files):
    photo = np.asarray(Image.open(old_files / "photos" / "0.png"))
    found = Segmenter(old_files / "bundle", "cpu").segment(photo)
    assert found.model == "old-tiny"
    assert found.mask.any()
    assert differing(found.mask, mask_in(old_files / "bundle-mask.png")) <= 20


def test_an_old_choice_of_the_default_model_is_kept(old_files, capsys):
    assert main(["models", "default"]) == 0
    assert capsys.readouterr().out.strip() == "old-tiny"


def test_the_command_line_segments_with_an_old_model(old_files):
    assert main(["segment", "photos/0.png", "--out", "new", "--model", "bundle", "--device", "cpu", "--quiet"]) == 0
    assert differing(mask_in(old_files / "new" / "0_segmentation.png"), mask_in(old_files / "bundle-mask.png")) <= 20


def test_an_old_training_run_is_continued(old_files, capsys):
    before = (old_files / "training-run" / "log.csv").read_text(encoding="utf-8")
    splits = (old_files / "training-run" / "splits.csv").read_text(encoding="utf-8")
    assert before.count("\n") == 3  # a header and two passes of three
    assert main([*TRAIN]) == 0
    assert "after 3 passes" in capsys.readouterr().out
    after = (old_files / "training-run" / "log.csv").read_text(encoding="utf-8")
    assert after.startswith(before)
    assert after.count("\n") == 4
    assert (old_files / "training-run" / "splits.csv").read_text(encoding="utf-8") == splits
    assert Segmenter(old_files / "training-run" / "old-run", "cpu").spec.network_arguments["channels"] == [4, 8, 16]


def test_an_old_training_run_refuses_other_options(old_files, capsys):
    assert main([*TRAIN, "--loss", "dice_focal"]) == 2
    assert "other options" in capsys.readouterr().err


def test_an_old_fine_tuning_is_continued(old_files, capsys):
    before = (old_files / "finetune-stopped" / "log.csv").read_text(encoding="utf-8")
    first_fold = before.splitlines()[:3]
    assert main([*FINE_TUNE, "--json"]) == 0
    printed = capsys.readouterr()
    assert "a new run starts" not in printed.err
    assert len(json.loads(printed.out)["compared"]) == 6
    assert (old_files / "finetune-stopped" / "log.csv").read_text(encoding="utf-8").splitlines()[:3] == first_fold
    assert not (old_files / "finetune-stopped" / "checkpoint.pt").exists()


def test_an_old_verdict_is_shown_adopted_and_reverted(old_files):
    photos = (old_files / "photos").resolve()
    key = hashlib.sha256(str(photos).encode()).hexdigest()[:12]
    run = old_files / "home" / "runs" / f"photos-{key}" / "2026-01-01-120000"
    shutil.copytree(old_files / "finetune-run", run)

    outcome = find_undecided(photos)
    assert outcome is not None
    assert outcome.folder == run
    written = json.loads((run / "verdict.json").read_text(encoding="utf-8"))
    read = json.loads(json.dumps(outcome.verdict.to_json()))
    assert {name: read[name] for name in written} == written
    assert len(outcome.verdict.compared) == 6
    for row in outcome.verdict.compared:
        assert mask_in(row.base_mask).shape == mask_in(row.candidate_mask).shape == mask_in(row.mask).shape

    assert list_fine_tuned() == []
    assert adopt(outcome.candidate).name == "old-tiny-tuned"
    assert find_undecided(photos) is None
    (listed,) = list_fine_tuned()
    assert listed.name == "old-tiny-tuned"
    assert listed.spec.metrics["held-out Dice"] == pytest.approx(outcome.verdict.candidate.dice)
    assert Segmenter(device="cpu").spec.name == "old-tiny-tuned"
    assert revert("old-tiny-tuned").name == "old-tiny"
    assert Segmenter(device="cpu").spec.name == "old-tiny"


def what_it_holds(project: Project) -> dict[str, object]:
    """A project in the form of `expected.json`."""
    log = collections.defaultdict(list)
    with closing(sqlite3.connect(project.folder / STORE_NAME)) as connection:
        for photo, *line in connection.execute("SELECT photo, reader, action, status FROM log ORDER BY number"):
            log[photo].append(line)
    photos = {}
    for photo in project.photos():
        mask = project.mask(photo.id)
        photos[photo.name] = {
            "status": photo.status,
            "note": photo.note,
            "mask": None if mask is None else hashlib.sha256(np.packbits(mask)).hexdigest(),
            "drawn by a person": photo.has_mask,
            "mm_per_px": photo.mm_per_px,
            "seconds": photo.seconds,
            "log": log[photo.id],
        }
    last = project.resume(project.queue())
    return {"last": last and project.photo(last).name, "photos": photos}


def test_an_old_project_opens_elsewhere_with_all_masks_and_decisions(old_files):
    expected = json.loads((old_files / "expected.json").read_text(encoding="utf-8"))
    statuses = {photo["status"] for photo in expected["photos"].values()}
    assert statuses == {"new", "predicted", "corrected", "accepted", "skipped", "issue"}
    with Project.open(old_files / "project" / "skinseg-review", read_only=True) as project:
        assert what_it_holds(project) == expected
    with Project.open(old_files / "project" / "skinseg-review", reader="Reader B") as project:
        assert project.repairs == ()
        assert what_it_holds(project) == expected
        assert [root.resolve() for root in project.roots()] == [(old_files / "project").resolve()]
        outcome = project.scan(old_files / "project")
        assert len(outcome.known) == len(expected["photos"])
        assert {*outcome.added, *outcome.missing, *outcome.replaced, *outcome.unreadable} == set()
        assert what_it_holds(project) == expected


def test_an_old_project_can_be_changed(old_files):
    with Project.open(old_files / "project" / "skinseg-review", reader="Reader B") as project:
        photo = {photo.name: photo for photo in project.photos()}["2.jpg"]
        assert photo.scale_line == ((10.0, 8.0), (10.0, 88.0))
        assert photo.scale_mm == 10.0
        mask = project.mask(photo.id)
        earlier = mask_in(project.folder / "masks" / "previous" / f"{photo.id}_segmentation.png")
        assert differing(earlier, mask) > 0
        assert project.prediction(photo.id).shape == mask.shape
        project.save_mask(photo.id, ~mask)
        assert project.accept(photo.id).status == "corrected"
        assert project.take_back().id == photo.id
    with Project.open(old_files / "project" / "skinseg-review") as project:
        assert project.repairs == ()
        assert differing(project.mask(photo.id), ~mask) == 0


def test_an_old_project_is_exported_and_used_for_fine_tuning(old_files, capsys):
    evidence = collect(old_files / "project" / "skinseg-review")
    assert [case.image.name for case in evidence.corrected] == ["2.jpg", "6.jpg"]
    assert [case.image.name for case in evidence.accepted] == ["3.jpg"]
    assert main(["export", "project/skinseg-review", "--out", "exported"]) == 0
    assert capsys.readouterr().out.startswith("3 masks are in ")


def test_masks_of_an_old_model_do_not_count_as_masks_of_a_person(old_files, capsys):
    shutil.copytree(old_files / "results", old_files / "clinic" / "results")
    for name in ("0.png", "1.png"):
        shutil.copy(old_files / "photos" / name, old_files / "clinic")
    assert [(case.id, case.mask) for case in find_cases("clinic")] == [("0", None), ("1", None)]
    assert main(["evaluate", "clinic", "--device", "cpu"]) == 2
    assert "no mask" in capsys.readouterr().err

    changed = old_files / "clinic" / "results" / "1_segmentation.png"
    mask = mask_in(changed)
    Image.fromarray(np.where(np.roll(mask, 3, axis=0), np.uint8(255), np.uint8(0))).save(changed)
    assert [case.mask for case in find_cases("clinic")] == [None, Path("clinic/results/1_segmentation.png")]


def test_old_results_keep_their_masks_and_confidence(old_files):
    records = json.loads((old_files / "results" / "segmentations.json").read_text(encoding="utf-8"))
    with (old_files / "results" / "measurements.csv").open(newline="", encoding="utf-8") as file:
        before = list(csv.DictReader(file))
    command = ("segment", "photos/0.png", "photos/1.png", "--out", "results", "--measure", "--device", "cpu", "--quiet")
    assert main([*command]) == 0
    with (old_files / "results" / "measurements.csv").open(newline="", encoding="utf-8") as file:
        after = list(csv.DictReader(file))
    for old, new in zip(before, after, strict=True):
        assert [new[name] for name in ("photo", "empty", "area_px")] == [
            old[name] for name in ("photo", "empty", "area_px")
        ]
        assert float(new["confidence"]) == pytest.approx(float(old["confidence"]), abs=1e-4)
        assert (old["mask_kept"], new["mask_kept"]) == ("false", "false")
    assert json.loads((old_files / "results" / "segmentations.json").read_text(encoding="utf-8")) == records
    for name in ("0_segmentation.png", "1_segmentation.png"):
        assert (old_files / "results" / name).read_bytes() == (OLD / "results" / name).read_bytes()
