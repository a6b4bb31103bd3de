"""The order of review, without Qt."""

from dataclasses import fields
from pathlib import Path

import pytest

from napari_skinseg.plugin.review.photo_list import PhotoList
from napari_skinseg.project.project import Photo, Queue, QueueItem


def photo(name, status="predicted", **values):
    """A photo with only the fields that matter here."""
    blank = {field.name: "" for field in fields(Photo)} | {
        "shape": (2, 2),
        "project": Path(),
        "relative": name,
        "state": "here",
    }
    return Photo(**(blank | {"id": name, "status": status, "blind": False} | values))


def photo_list(*statuses):
    photos = [photo(name, status) for name, status in zip("abcdefgh", statuses, strict=False)]
    return PhotoList(photos, Queue(tuple(QueueItem(one.id, f"why {one.id}") for one in photos), "least certain"))


def test_a_decision_leads_to_the_next_open_photo_and_then_from_the_start():
    photos = photo_list("predicted", "accepted", "predicted", "skipped")
    assert photos.next_open("a") == "c"
    assert photos.next_open("c") == "a"
    assert photo_list("accepted", "issue").next_open("a") is None


def test_next_visits_every_photo_of_any_status():
    photos = photo_list("predicted", "accepted", "predicted")
    assert [photos.step("a", 1), photos.step("b", 1), photos.step("c", 1)] == ["b", "c", None]
    assert [photos.step("c", -1), photos.step("a", -1)] == ["b", None]


def test_next_works_from_a_photo_that_the_filter_hides():
    photos = photo_list("predicted", "predicted", "predicted")
    photos.set_filter("predicted")
    photos.update(photo("b", "accepted", changed_at="2026-02-03 14:02:09"))
    photos.set_filter("predicted")
    assert photos.shown == ["a", "c"]
    assert photos.step("b", 1) == "c"
    assert photos.step("b", -1) == "a"
    assert photos.next_open("b") == "c"


def test_with_a_filter_of_reviewed_photos_a_decision_leads_to_the_next_one():
    photos = photo_list("accepted", "predicted", "accepted")
    photos.set_filter("accepted")
    assert photos.next_open("a") == "c"
    assert photos.next_open("c") is None


def test_an_older_record_does_not_replace_a_newer_one():
    photos = photo_list("predicted")
    assert photos.update(photo("a", "accepted", changed_at="2026-02-03 14:02:09"))
    assert not photos.update(photo("a", "predicted", changed_at=""))
    assert photos["a"].status == "accepted"


def test_counts_add_up():
    counts = photo_list("new", "predicted", "corrected", "accepted", "skipped", "issue").counts()
    assert (counts["all"], counts["to do"], counts["reviewed"]) == (6, 2, 4)


def test_prefetched_are_the_photos_that_decisions_and_next_lead_to():
    photos = photo_list("predicted", "accepted", "predicted", "predicted", "predicted")
    assert photos.likely_next("a") == ["c", "b", "d", "e"]


def test_missing_photos_come_last():
    photos = PhotoList([photo("a"), photo("b", state="missing")], Queue((QueueItem("a", ""),), "file"))
    assert photos.shown == ["a", "b"]
    assert photos.reason("b") == "file not found"
    assert [one.id for one in photos.existing()] == ["a"]


@pytest.mark.parametrize("name", ["all", "to do", "accepted"])
def test_row_is_the_index_among_the_shown_photos(name):
    photos = photo_list("accepted", "predicted", "accepted", "new", "accepted")
    photos.set_filter(name)
    assert [photos.row(one) for one in photos.shown] == list(range(len(photos.shown)))
