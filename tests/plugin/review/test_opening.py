"""Opening a folder for review, without Qt."""

import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime
from threading import Event as Token

import numpy as np
import pytest
from PIL import Image

from napari_skinseg.errors import BadInput, Cancelled
from napari_skinseg.plugin.review.opening import How, NoPlace, Opened, may_be_gone, open_folder
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
    """Open a folder; what is opened is closed at the end."""
    projects = []

    def open_it(folder, how=None, cancel=None):
        told = []
        listing = open_folder(folder, how or How(), "least certain", told.append, cancel or Token(), projects)
        return listing, [item for item in told if isinstance(item, Opened)], told

    yield open_it
    for project in projects:
        project.close()


@pytest.mark.parametrize(
    ("who", "gone"),
    [
        (None, True),
        (owner(since="2026-02-03 09:00"), False),
        (owner(since="2026-02-02 21:00"), True),
        (owner(since="2026-02-02 21:00", host=platform.node()), False),
        (owner(since="some day"), True),
    ],
)
def test_only_who_began_long_ago_on_another_computer_may_be_passed_over(who, gone):
    assert may_be_gone(who, lambda: NOW) == gone


def test_a_folder_of_photos_keeps_its_project_in_a_sub_folder(folder, opening):
    listing, (opened,), _ = opening(folder)
    assert opened.project.folder == folder / "skinseg-review"
    assert opened.is_new
    assert [photo.name for photo in listing.photos] == ["photo_0.png", "photo_1.png", "photo_2.png"]


def test_a_project_can_be_opened_by_its_own_folder_too(folder, opening):
    _, (opened,), _ = opening(folder)
    opened.project.close()
    listing, (again,), _ = opening(folder / "skinseg-review")
    assert not again.is_new
    assert len(listing.photos) == 3
    assert len(again.listing.photos) == 3  # before it was scanned


def test_a_project_among_the_photos_is_found(folder):
    Project.open(folder, create=True).close()
    assert project_folder(folder) == folder


def test_new_photos_are_found_at_the_next_opening(folder, opening):
    _, (opened,), _ = opening(folder)
    opened.project.close()
    Image.fromarray(np.full((40, 50, 3), 7, np.uint8)).save(folder / "photo_3.png")
    listing, (again,), _ = opening(folder)
    assert (len(again.listing.photos), len(listing.photos)) == (3, 4)


def test_a_file_that_is_no_photo_is_named_and_the_others_are_taken(folder, opening):
    (folder / "broken.jpg").write_bytes(b"no photo")
    listing, _, told = opening(folder)
    assert len(listing.photos) == 3
    assert "broken.jpg" in told[-1]


def test_a_cancelled_opening_leaves_an_open_project(folder, opening):
    cancel = Token()
    cancel.set()
    with pytest.raises(Cancelled):
        opening(folder, cancel=cancel)
    assert Project.exists(folder / "skinseg-review")


def test_a_folder_without_photos_is_left_as_it_is(tmp_path, opening):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BadInput):
        opening(empty)
    assert not list(empty.iterdir())


def test_where_nothing_can_be_written_another_place_is_asked_for(folder, opening, tmp_path):
    (folder / "skinseg-review").write_text("a file is in the way")
    with pytest.raises(NoPlace, match="choose a folder"):
        opening(folder)
    place = tmp_path / "place"
    listing, (opened,), _ = opening(folder, How(place=place))
    assert opened.project.folder == place
    assert len(listing.photos) == 3


def test_a_lock_that_was_left_on_another_computer_can_be_taken_over(folder, opening):
    _, (opened,), _ = opening(folder)
    opened.project.close()
    lock = folder / "skinseg-review" / "skinseg-project.lock"
    lock.write_text(json.dumps(asdict(owner())))
    with pytest.raises(ProjectInUse) as caught:
        opening(folder)
    assert caught.value.owner.name == "Marie"
    listing, (again,), _ = opening(folder, How(take_over=True))
    assert len(listing.photos) == 3
    assert "taken over" in again.news[0]


def test_read_only_lists_the_photos_and_scans_nothing(folder, opening):
    opening(folder)
    Image.fromarray(np.full((40, 50, 3), 7, np.uint8)).save(folder / "photo_3.png")
    listing, (again,), _ = opening(folder, How(read_only=True))
    assert listing is None
    assert again.read_only
    assert len(again.listing.photos) == 3
