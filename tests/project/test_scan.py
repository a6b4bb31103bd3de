"""Tests of the scan: photos are added, moved, replaced and removed; the project recognises them by content."""

import shutil
import threading

import numpy as np
import pytest

from napari_skinseg.datasets.dataset import EXPORT_MARK
from napari_skinseg.errors import BadInput, Cancelled
from napari_skinseg.pixels.mask import write_mask
from napari_skinseg.project import scan as project_scan
from napari_skinseg.project.project import Project


def test_a_scan_finds_photos_and_ignores_masks(project, album, draw):
    write_mask(album / "north" / "b_segmentation.png", draw(8))
    (album / "masks").mkdir()
    write_mask(album / "masks" / "c.png", draw(8))
    outcome = project.scan(album)
    assert (len(outcome.known), outcome.added, outcome.missing, outcome.unreadable) == (5, (), (), ())
    assert project.roots() == [project.folder / "../photos"]


def test_a_project_inside_its_photo_folder_adds_none_of_its_own_files(album, draw):
    with Project.open(album, create=True) as project:
        assert len(project.scan(album).added) == 5
        for photo in project.photos():
            project.set_prediction(photo.id, draw(9), model="unet")
            project.accept(photo.id, draw(10))
            project.save_mask(photo.id, draw(11))
        (album / "export" / "images").mkdir(parents=True)
        (album / "export" / EXPORT_MARK).write_text("{}")
        shutil.copy(album / "north" / "a.png", album / "export" / "images" / "a.png")
        assert len(project.scan(album).known) == 5
        assert project.counts()["total"] == 5


def test_unreadable_files_are_listed_and_the_other_photos_added(project, album):
    (album / "empty.jpg").touch()
    (album / "text.png").write_text("not a picture")
    outcome = project.scan(album)
    assert [path.name for path, _ in outcome.unreadable] == ["empty.jpg", "text.png"]
    assert "zero bytes" in outcome.unreadable[0][1]
    assert len(outcome.known) == 5
    assert "2 unreadable" in outcome.in_words()


def test_the_project_keeps_every_unreadable_file_with_its_reason(project, album, take_photo):
    for number in range(40):
        (album / f"{number:02}.png").touch()
    project.scan(album)
    (album.parent / "loose.jpg").touch()
    project.add([album.parent / "loose.jpg"])
    project.close()
    with Project.open(project.folder) as again:
        files = {path.resolve().name: reason for path, reason in again.unreadable()}
        assert sorted(files) == [*(f"{number:02}.png" for number in range(40)), "loose.jpg"]
        assert all("zero bytes" in reason for reason in files.values())
        for number in range(39):
            take_photo(album / f"{number:02}.png", 100 + number)
        again.scan(album)
        assert sorted(path.name for path, _ in again.unreadable()) == ["39.png", "loose.jpg"], (
            "each file is listed once"
        )
        (album / "39.png").unlink()
        take_photo(album.parent / "loose.jpg", 7)
        again.scan(album)
        again.add([album.parent / "loose.jpg"])
        assert again.unreadable() == []


def test_a_cancelled_scan_keeps_its_batches_and_the_next_continues(tmp_path, album, monkeypatch):
    monkeypatch.setattr(project_scan, "BATCH_SIZE", 2)
    cancel = threading.Event()
    with Project.open(tmp_path / "review", create=True) as project:
        seen = []

        def stop_early(event):
            seen.append((event.done, project.counts()["total"]))
            if event.done >= 2:
                cancel.set()

        with pytest.raises(Cancelled):
            project.scan(album, stop_early, cancel)
        assert seen == [(0, 0), (2, 2)]
        outcome = project.scan(album)
        assert (len(outcome.known), len(outcome.added)) == (2, 3)


def test_a_moved_photo_folder_is_linked_again_with_its_masks(project, album, draw):
    ids = [photo.id for photo in project.photos()]
    for photo in ids:
        project.accept(photo, draw(9))
    moved = album.rename(album.with_name("elsewhere"))
    (moved / "north" / "b.png").rename(moved / "renamed.png")
    with pytest.raises(BadInput, match="is missing"):
        project.read_photo(ids[0])
    outcome = project.relink(moved)
    assert sorted(outcome.relinked) == sorted(ids)
    assert project.counts()["corrected"] == 5
    assert {photo.path.name for photo in project.photos()} == {"a.png", "renamed.png", "c.jpg", "d.tif"}
    assert all(project.read_photo(photo).shape == (48, 64, 3) for photo in ids)


def test_relinking_adds_no_new_photo(project, album, take_photo):
    moved = album.rename(album.with_name("elsewhere"))
    take_photo(moved / "other.png", 99)
    assert len(project.relink(moved).relinked) == 5
    assert project.counts()["total"] == 5


def test_a_project_moved_with_its_photos_needs_no_repair(project, album, draw, tmp_path):
    photo = project.photos()[0].id
    project.accept(photo, draw(9))
    project.close()
    shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}-copy")
    with Project.open(tmp_path.parent / f"{tmp_path.name}-copy" / "review") as copy:
        assert copy.repairs == ()
        assert np.array_equal(copy.mask(photo), draw(9))
        assert copy.read_photo(photo).shape == (48, 64, 3)


def test_a_removed_photo_is_missing_until_it_returns(project, album, draw):
    photo = project.find(album / "north" / "b.png").id
    project.accept(photo, draw(9))
    aside = (album / "north" / "b.png").rename(album.parent / "b.png")
    assert project.scan(album).missing == (photo,)
    assert project.photo(photo).state == "missing"
    assert photo not in [item.photo for item in project.queue().items]
    aside.rename(album / "north" / "b.png")
    assert project.scan(album).missing == ()
    assert project.photo(photo).state == "here"
    assert np.array_equal(project.mask(photo), draw(9))


def test_a_replaced_photo_is_added_and_the_old_mask_kept(project, album, take_photo, draw):
    path = album / "north" / "b.png"
    old = project.find(path).id
    project.accept(old, draw(9))
    original = path.read_bytes()
    take_photo(path, 77)
    with pytest.raises(BadInput, match="another picture"):
        project.read_photo(old)
    outcome = project.scan(album)
    assert (outcome.replaced, len(outcome.added)) == ((old,), 1)
    new = project.find(path)
    assert (new.id != old, new.status, project.counts()["total"]) == (True, "new", 5)
    assert np.array_equal(project.mask(old), draw(9))
    path.write_bytes(original)
    project.scan(album)
    assert project.find(path).id == old, "the old picture has its old mask again"


def test_a_copied_photo_is_added_and_listed_as_duplicate(project, album):
    shutil.copy(album / "north" / "a.png", album / "copy.png")
    outcome = project.scan(album)
    assert (len(outcome.added), outcome.added) == (1, outcome.duplicates)
    assert project.counts()["total"] == 6


def test_single_files_are_added_and_found_by_path(tmp_path, album):
    with Project.open(tmp_path / "review", create=True) as project:
        outcome = project.add([album / "north" / "a.png", album / "south" / "a.png"])
        assert len(outcome.added) == 2
        assert project.find(album / "south" / "a.png").relative == "../photos/south/a.png"
        assert project.find(album / "south" / "d.tif") is None
        assert outcome.added[0] in [photo.id for photo in project.photos()]
        assert len(project.scan(album).added) == 3
        assert project.add([album / "nothing.png"]).unreadable[0][1]


def test_groups_and_diagnoses_come_from_the_metadata_table(tmp_path, album):
    (album / "metadata.csv").write_text("image_id,lesion_id,dx\nb,L1,nv\nc,L1,nv\n")
    with Project.open(tmp_path / "review", create=True) as project:
        project.scan(album)
        known = {photo.name: (photo.lesion_group, photo.diagnosis) for photo in project.photos()}
    assert known["b.png"] == known["c.jpg"] == ("L1", "nv")
    assert known["d.tif"] == ("", "")


def test_a_folder_without_photos_is_refused(project, tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(BadInput, match="no photo"):
        project.scan(tmp_path / "nothing")
