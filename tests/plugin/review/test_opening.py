"""Opening a folder for review, without Qt."""

import json
import platform
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime
from threading import Event as Token

import numpy as np
import pytest
from PIL import Image

from napari_skinseg.errors import BadInput, Cancelled
from napari_skinseg.plugin.review.opening import (
    FolderNotWritable,
    OpenedProject,
    OpenOptions,
    may_take_over,
    open_folder,
)
from napari_skinseg.project.project import Owner, Project, ProjectInUse, project_folder

NOW = datetime(2026, 2, 3, 14, 2)


def owner(**values):
    known = {"host": "elsewhere", "pid": 1, "started": 0.0, "name": "Marie", "since": "2026-02-03 09:00", "token": "x"}
    return Owner(**(known | values))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"photo_{number}.png")
    return folder


@pytest.fixture
def opening() -> Iterator[Callable]:
    """Open a folder; close its project after the test."""
    projects = []

    def open_one(folder, options=None, cancel=None):
        reports = []
        contents = open_folder(
            folder, options or OpenOptions(), "least certain", reports.append, cancel or Token(), projects
        )
        return contents, [item for item in reports if isinstance(item, OpenedProject)], reports

    yield open_one
    for project in projects:
        project.close()


@pytest.mark.parametrize(
    ("holder", "may_take"),
    [
        (None, True),
        (owner(since="2026-02-03 09:00"), False),
        (owner(since="2026-02-02 21:00"), True),
        (owner(since="2026-02-02 21:00", host=platform.node()), False),
        (owner(since="some day"), True),
    ],
)
def test_only_an_old_lock_of_another_computer_may_be_taken_over(holder, may_take):
    assert may_take_over(holder, lambda: NOW) == may_take


def test_a_folder_of_photos_keeps_its_project_in_a_sub_folder(folder, opening):
    contents, (opened,), _ = opening(folder)
    assert opened.project.folder == folder / "skinseg-review"
    assert opened.is_new
    assert [photo.name for photo in contents.photos] == ["photo_0.png", "photo_1.png", "photo_2.png"]


def test_a_project_can_be_opened_by_its_own_folder(folder, opening):
    _, (opened,), _ = opening(folder)
    opened.project.close()
    contents, (again,), _ = opening(folder / "skinseg-review")
    assert not again.is_new
    assert len(contents.photos) == 3
    assert len(again.contents.photos) == 3  # before the scan


def test_a_folder_that_is_a_project_is_its_own_project_folder(folder):
    Project.open(folder, create=True).close()
    assert project_folder(folder) == folder


def test_new_photos_are_found_at_the_next_opening(folder, opening):
    _, (opened,), _ = opening(folder)
    opened.project.close()
    Image.fromarray(np.full((40, 50, 3), 7, np.uint8)).save(folder / "photo_3.png")
    contents, (again,), _ = opening(folder)
    assert (len(again.contents.photos), len(contents.photos)) == (3, 4)


def test_an_unreadable_file_is_named_and_the_others_are_added(folder, opening):
    (folder / "broken.jpg").write_bytes(b"no photo")
    contents, _, _ = opening(folder)
    assert len(contents.photos) == 3
    ((path, reason),) = contents.unreadable
    assert path.name == "broken.jpg"
    assert reason


def test_a_cancelled_opening_leaves_an_open_project(folder, opening):
    cancel = Token()
    cancel.set()
    with pytest.raises(Cancelled):
        opening(folder, cancel=cancel)
    assert Project.exists(folder / "skinseg-review")


def test_nothing_is_created_in_a_folder_without_photos(tmp_path, opening):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BadInput):
        opening(empty)
    assert not list(empty.iterdir())


def test_a_read_only_folder_needs_another_location(folder, opening, tmp_path):
    (folder / "skinseg-review").write_text("a file is in the way")
    with pytest.raises(FolderNotWritable, match="Choose another folder"):
        opening(folder)
    location = tmp_path / "location"
    contents, (opened,), _ = opening(folder, OpenOptions(location=location))
    assert opened.project.folder == location
    assert len(contents.photos) == 3


def test_a_lock_of_another_computer_can_be_taken_over(folder, opening):
    _, (opened,), _ = opening(folder)
    opened.project.close()
    lock = folder / "skinseg-review" / "skinseg-project.lock"
    lock.write_text(json.dumps(asdict(owner())))
    with pytest.raises(ProjectInUse) as caught:
        opening(folder)
    assert caught.value.owner.name == "Marie"
    contents, (again,), _ = opening(folder, OpenOptions(take_over=True))
    assert len(contents.photos) == 3
    assert "taken over" in again.messages[0]


def test_a_read_only_opening_does_not_scan(folder, opening):
    opening(folder)
    Image.fromarray(np.full((40, 50, 3), 7, np.uint8)).save(folder / "photo_3.png")
    contents, (again,), _ = opening(folder, OpenOptions(read_only=True))
    assert contents is None
    assert again.read_only
    assert len(again.contents.photos) == 3


def test_a_project_from_a_stranger_searches_other_folders_on_request_only(folder, opening, tmp_path):
    _, (opened,), _ = opening(folder)
    opened.project.close()
    received = tmp_path / "received" / "skinseg-review"
    shutil.copytree(folder / "skinseg-review", received)
    private = tmp_path / "private"
    private.mkdir()
    Image.fromarray(np.full((40, 50, 3), 7, np.uint8)).save(private / "passport.png")
    with sqlite3.connect(received / "skinseg-project.sqlite") as store:
        store.execute("UPDATE facts SET value = ? WHERE name = 'roots'", (json.dumps([str(private)]),))
    contents, (again,), _ = opening(received)
    assert contents.not_searched == (private,)
    assert "passport.png" not in [photo.name for photo in contents.photos]
    again.project.close()
    contents, _, _ = opening(received, OpenOptions(search_elsewhere=True))
    assert contents.not_searched == ()
    assert "passport.png" in [photo.name for photo in contents.photos]
