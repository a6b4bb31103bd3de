"""Tests of faults: kills, a damaged index, a full disk, other sessions and versions. No mask is lost."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.project.project import Project, ProjectDamaged, ProjectInUse, restore_backup

STORE, BACKUP, LOCK = "skinseg-project.sqlite", "skinseg-project.backup.sqlite", "skinseg-project.lock"


@pytest.fixture
def closed(project, draw) -> Path:
    """The folder of a closed project whose first photo is corrected."""
    photo = project.photos()[0].id
    project.set_prediction(photo, draw(9), model="unet", confidence=0.8)
    project.save_mask(photo, draw(10))
    project.close()
    return project.folder


def first(project: Project) -> str:
    return project.photos()[0].id


# After a kill


def test_repair_takes_over_a_mask_whose_row_was_not_written(closed, draw):
    with Project.open(closed) as project:
        photo = first(project)
        project._files.save(photo, draw(14), keep_previous=True)
    with Project.open(closed) as project:
        assert project.repairs == (f"Took over a mask that was newer than the index: {photo} (1).",)
        assert np.array_equal(project.mask(photo), draw(14))
        assert np.array_equal(read_mask(project._files.previous_path(photo)), draw(10))
        assert project.photo(photo).status == "corrected"
    with Project.open(closed) as project:
        assert project.repairs == ()


def test_repair_removes_the_mask_of_an_unfinished_acceptance(closed, draw):
    with Project.open(closed) as project:
        photo = project.photos()[1].id
        project.set_prediction(photo, draw(9), model="unet")
        project._files.accept(photo, project.photo(photo).predicted_file)
    with Project.open(closed) as project:
        assert project.repairs == (f"A decision was not finished, decide again: {photo} (1).",)
        assert project.photo(photo).status == "predicted"
        assert not project.photo(photo).mask_path.exists()


def test_repair_restores_a_missing_mask_from_the_previous_or_the_models_mask(closed, draw):
    with Project.open(closed) as project:
        drawn, accepted, lost = (photo.id for photo in project.photos()[:3])
        project.accept(drawn)
        project.save_mask(drawn, draw(12))
        project.set_prediction(accepted, draw(9), model="unet")
        project.accept(accepted)
        project.save_mask(lost, draw(7))
        for photo in (drawn, accepted, lost):
            project.photo(photo).mask_path.unlink()
    with Project.open(closed) as project:
        assert len(project.repairs) == 3
        assert np.array_equal(project.mask(drawn), draw(10))
        assert np.array_equal(project.mask(accepted), draw(9))
        assert project.photo(accepted).status == "accepted"
        assert (project.mask(lost), project.photo(lost).status) == (None, "new")
        assert any("draw it again" in sentence and lost in sentence for sentence in project.repairs)


def test_repair_moves_a_damaged_mask_and_restores_the_previous_one(closed, draw):
    with Project.open(closed) as project:
        photo = first(project)
        project.accept(photo)
        project.save_mask(photo, draw(12))
        path = project.photo(photo).mask_path
        path.write_bytes(path.read_bytes()[:40])
    with Project.open(closed) as project:
        assert "to masks/damaged" in project.repairs[0]
        assert (closed / "masks" / "damaged" / path.name).stat().st_size == 40
        assert np.array_equal(project.mask(photo), draw(10))


def test_repair_removes_our_temporary_files_and_keeps_all_others(closed, draw):
    for name in (".a-1_segmentation-k3jd_9xa.png", "predicted/.b_segmentation-abcdefgh.png"):
        (closed / "masks" / name).touch()
    for ending in ("", "-journal", "-wal"):
        (closed / f".skinseg-project.backup-abcdefgh.sqlite{ending}").touch()
    (closed / "masks" / "predicted" / "a-0-12345678_segmentation.png").touch()
    for name in (".DS_Store", "notes.txt", "unknown_segmentation.png"):
        (closed / "masks" / name).touch()
    with Project.open(closed) as project:
        assert "Removed 5 temporary files that a stopped session left." in project.repairs
        assert any("replaced or not finished" in sentence for sentence in project.repairs)
        assert any("not in the project yet: unknown" in sentence for sentence in project.repairs)
    assert {path.name for path in (closed / "masks").iterdir()} >= {
        ".DS_Store",
        "notes.txt",
        "unknown_segmentation.png",
    }


def test_a_scan_adopts_a_mask_file_that_has_no_row(closed, album, draw):
    with Project.open(closed) as project:
        photo = first(project)
    for name in (STORE, BACKUP):
        (closed / name).unlink()
    with Project.open(closed, create=True) as project:
        assert project.scan(album).adopted == (photo,)
        assert project.photo(photo).status == "corrected"
        assert np.array_equal(project.mask(photo), draw(10))


def test_a_missing_prediction_can_be_predicted_again(closed, draw):
    with Project.open(closed) as project:
        corrected, predicted = (photo.id for photo in project.photos()[:2])
        project.set_prediction(predicted, draw(9), model="unet")
    shutil.rmtree(closed / "masks" / "predicted")
    with Project.open(closed) as project:
        assert project.photo(predicted).status == "new"
        assert project.photo(corrected).status == "corrected"
        assert np.array_equal(project.mask(corrected), draw(10))
        assert project.set_prediction(predicted, draw(9), model="unet")


# The index


@pytest.mark.parametrize("how", ["overwritten", "cut", "emptied", "gone"])
def test_a_damaged_index_is_refused_and_its_backup_restores_all_work(closed, draw, how):
    store = closed / STORE
    content = store.read_bytes()
    damaged = {
        "overwritten": content[:4096] + np.random.default_rng(0).bytes(len(content) - 4096),
        "cut": content[: len(content) // 2],
        "emptied": b"",
        "gone": None,
    }[how]
    if damaged is None:
        store.unlink()
    else:
        store.write_bytes(damaged)
    with pytest.raises(ProjectDamaged, match="restore the backup") as refused:
        Project.open(closed)
    assert refused.value.backup == closed / BACKUP
    assert (store.read_bytes() if store.exists() else None) == damaged, "the damaged file is unchanged"
    assert not (closed / LOCK).exists()
    kept = restore_backup(closed)
    assert (kept.read_bytes() if kept.exists() else None) == damaged
    with Project.open(closed) as project:
        assert project.repairs == ()
        assert project.counts()["corrected"] == 1
        assert np.array_equal(project.mask(first(project)), draw(10))


def test_work_after_the_backup_survives_a_damaged_index(closed, draw):
    with Project.open(closed) as project:
        backup = (closed / BACKUP).read_bytes()
        other = project.photos()[1].id
        project.save_mask(other, draw(13))
    (closed / BACKUP).write_bytes(backup)
    (closed / STORE).write_bytes(b"SQLite format 3\0" + b"?" * 5000)
    restore_backup(closed)
    with Project.open(closed) as project:
        assert project.photo(other).status == "corrected"
        assert np.array_equal(project.mask(other), draw(13))


def test_without_an_intact_backup_nothing_is_restored(closed):
    for name in (STORE, BACKUP):
        (closed / name).write_bytes(b"nonsense" * 100)
    with pytest.raises(ProjectDamaged, match="no backup"):
        Project.open(closed)
    with pytest.raises(BadInput, match="no intact backup"):
        restore_backup(closed)
    assert (closed / STORE).read_bytes() == b"nonsense" * 100


def test_a_backup_with_the_same_invalid_row_is_not_offered(closed):
    for name in (STORE, BACKUP):
        with sqlite3.connect(closed / name) as direct:
            direct.execute("UPDATE photos SET sha256 = 'none' WHERE number = 1")
    with pytest.raises(ProjectDamaged, match=r"invalid sha256: 'none'.* no backup") as caught:
        Project.open(closed)
    assert caught.value.backup is None
    with pytest.raises(BadInput, match="no intact backup"):
        restore_backup(closed)


def test_a_project_of_a_newer_version_is_refused_and_unchanged(closed):
    with sqlite3.connect(closed / STORE) as direct:
        direct.execute("PRAGMA journal_mode = DELETE")
        direct.execute("PRAGMA user_version = 99")
    direct.close()
    before = {path: path.read_bytes() for path in closed.rglob("*") if path.is_file()}
    for read_only in (False, True):
        with pytest.raises(BadInput, match=r"newer napari-skinseg .*version 99.*update"):
            Project.open(closed, read_only=read_only)
    assert {path: path.read_bytes() for path in closed.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("application", [7, 0])
def test_another_programs_database_is_refused_and_unchanged(tmp_path, application):
    with sqlite3.connect(tmp_path / STORE) as direct:
        direct.execute(f"PRAGMA application_id = {application}")
        direct.execute("CREATE TABLE theirs (x)")
    direct.close()
    before = (tmp_path / STORE).read_bytes()
    with pytest.raises(BadInput, match="another program"):
        Project.open(tmp_path, create=True)
    assert (tmp_path / STORE).read_bytes() == before


def test_a_locked_index_is_reported_and_saving_again_works(closed, draw, monkeypatch):
    monkeypatch.setattr("napari_skinseg.project.store._TIMEOUT", 0.1)
    with Project.open(closed) as project:
        photo = project.photos()[1].id
        holder = sqlite3.connect(closed / STORE, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(BadInput, match="in use by another program"):
            project.save_mask(photo, draw(11))
        holder.execute("ROLLBACK")
        holder.close()
        assert project.save_mask(photo, draw(11)).status == "corrected", "the same call works now"


def test_a_wrong_folder_name_makes_no_project(tmp_path):
    with pytest.raises(BadInput, match="holds no project"):
        Project.open(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="file"):
        Project.open(tmp_path / "file", create=True)


# Another session


def test_a_second_opening_is_refused_and_names_the_owner(project):
    with pytest.raises(ProjectInUse, match=r"Ada has it on .* since") as refused:
        Project.open(project.folder, reader="Eve")
    assert refused.value.owner is not None
    assert refused.value.owner.pid == os.getpid()
    project.close()
    with Project.open(project.folder, reader="Eve") as again:
        assert again.repairs == ()


def test_the_lock_of_a_dead_process_is_taken_over_and_reported(closed):
    code = f"import os; from napari_skinseg.project.project import Project; Project.open({str(closed)!r}); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert (closed / LOCK).exists()
    with Project.open(closed) as project:
        assert "ended without closing the project" in project.repairs[0]


def test_another_computers_lock_is_taken_over_on_request_only_and_blocks_its_writes(project, draw):
    lock = project.folder / LOCK
    theirs = json.loads(lock.read_text()) | {"host": "elsewhere", "name": "Eve", "token": "other"}
    photo = first(project)
    project.save_mask(photo, draw(10))
    lock.write_text(json.dumps(theirs))
    with pytest.raises(ProjectInUse, match="Eve has it on elsewhere"):
        Project.open(project.folder)
    with Project.open(project.folder, take_over=True) as taken:
        assert "taken over" in taken.repairs[0]
        with pytest.raises(ProjectInUse):
            project.save_mask(photo, draw(12))
        with pytest.raises(ProjectInUse):
            project.decide(photo, "skipped")
        assert np.array_equal(taken.mask(photo), draw(10))
        project.close()
        assert lock.exists(), "closing the old session keeps the lock of the new one"


# The disk


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_full_disk_is_reported_and_earlier_masks_stay(closed, draw, tmp_path):
    script = """
import resource, sys
import numpy as np
from napari_skinseg.project.project import Project
from napari_skinseg.errors import BadInput
project = Project.open(sys.argv[1])
photo = project.photos()[0].id
noise = np.random.default_rng(0).random((48, 64)) < 0.5
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
for call in (project.save_mask, project.accept, lambda photo, mask: project.decide(photo, "skipped")):
    try:
        call(photo, noise)
        print("written")
    except BadInput as error:
        print("refused", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
project.save_mask(photo, noise)
print("room again")
project.close()
"""
    for limit, refusals in ((100, 3), (0, 3)):
        copy = tmp_path / f"copy{limit}"
        shutil.copytree(closed, copy / "review")
        shutil.copytree(closed.parent / "photos", copy / "photos")
        ran = subprocess.run(
            [sys.executable, "-c", script, copy / "review", str(limit)], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.count("refused") == refusals, ran.stdout
        assert ran.stdout.endswith("room again\n"), ran.stdout
        with Project.open(copy / "review") as project:
            assert project.repairs == ()
            assert np.array_equal(project.mask(first(project)), np.random.default_rng(0).random((48, 64)) < 0.5)


@pytest.fixture
def unwritable() -> Iterator[Path]:
    """A folder in which this process may read and not write, even where tests run as root."""
    if sys.platform == "win32":
        pytest.skip("folder rights are POSIX")
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    folder.chmod(0o755)
    yield folder
    if os.geteuid() != os.getuid():
        os.seteuid(os.getuid())
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_folder_is_reported_and_saving_works_once_it_is_writable(unwritable, take_photo, draw):
    take_photo(unwritable / "photos" / "a.png", 1)
    with Project.open(unwritable / "review", create=True) as project:
        project.scan(unwritable / "photos")
        photo = first(project)
        project.save_mask(photo, draw(10))
        folders = [unwritable / "review", *(path for path in (unwritable / "review").rglob("*") if path.is_dir())]
        for path in folders:
            path.chmod(0o555)
        if os.getuid() == 0:
            os.seteuid(65534)
        with pytest.raises(BadInput, match="could not be written"):
            project.save_mask(photo, draw(12))
        with pytest.raises(BadInput, match="could not be written"):
            project.set_prediction(first(project), draw(9), model="unet") or project.save_mask(photo, draw(13))
        assert np.array_equal(project.mask(photo), draw(10))
        if os.getuid() == 0:
            os.seteuid(0)
        for path in folders:
            path.chmod(0o755)
        assert project.save_mask(photo, draw(12)).status == "corrected"


def test_a_project_in_a_read_only_folder_opens_for_reading_only(unwritable, take_photo, draw):
    take_photo(unwritable / "photos" / "a.png", 1)
    with Project.open(unwritable / "review", create=True) as project:
        project.scan(unwritable / "photos")
        project.save_mask(first(project), draw(10))
    (unwritable / "review").chmod(0o555)
    if os.getuid() == 0:
        os.seteuid(65534)
    with pytest.raises(BadInput, match="cannot be written to"):
        Project.open(unwritable / "review")
    with Project.open(unwritable / "review", read_only=True) as project:
        assert np.array_equal(project.mask(first(project)), draw(10))


def test_a_deleted_photo_keeps_its_mask_and_accepts_new_masks(project, draw):
    photo = project.photos()[0]
    project.save_mask(photo.id, draw(10))
    photo.path.unlink()
    with pytest.raises(BadInput, match="is missing"):
        project.read_photo(photo.id)
    assert project.save_mask(photo.id, draw(11)).status == "corrected"
    assert np.array_equal(project.mask(photo.id), draw(11))


def test_a_project_on_a_network_share_uses_a_rollback_journal(tmp_path, album, draw, monkeypatch):
    monkeypatch.setattr("napari_skinseg.project.store.is_local", lambda folder: False)
    with Project.open(tmp_path / "review", create=True) as project:
        project.scan(album)
        project.save_mask(first(project), draw(10))
        assert project._store.one("PRAGMA journal_mode")[0] == "delete"
    with Project.open(tmp_path / "review") as project:
        assert np.array_equal(project.mask(first(project)), draw(10))
