"""The order of review, without Qt."""

from dataclasses import fields
from pathlib import Path

import pytest

from napari_skinseg.plugin.review.photo_list import ReviewList
from napari_skinseg.project.project import Photo, Queue, QueueItem


def photo(name, status="predicted", **values):
    """A photo of which only a few things matter."""
    blank = {field.name: "" for field in fields(Photo)} | {
        "shape": (2, 2),
        "project": Path(),
        "relative": name,
        "state": "here",
    }
    return Photo(**(blank | {"id": name, "status": status, "blind": False} | values))


def listed(*statuses):
    photos = [photo(name, status) for name, status in zip("abcdefgh", statuses, strict=False)]
    return ReviewList(photos, Queue(tuple(QueueItem(one.id, f"why {one.id}") for one in photos), "least certain"))


def test_a_decision_leads_to_the_next_open_photo_and_round_to_what_was_passed_by():
    photos = listed("predicted", "accepted", "predicted", "skipped")
    assert photos.next_open("a") == "c"
    assert photos.next_open("c") == "a"
    assert listed("accepted", "issue").next_open("a") is None


def test_next_goes_through_every_photo_whatever_was_decided():
    photos = listed("predicted", "accepted", "predicted")
    assert [photos.step("a", 1), photos.step("b", 1), photos.step("c", 1)] == ["b", "c", None]
    assert [photos.step("c", -1), photos.step("a", -1)] == ["b", None]


def test_next_finds_its_way_from_a_photo_that_the_filter_no_longer_shows():
    photos = listed("predicted", "predicted", "predicted")
    photos.show("predicted")
    photos.put(photo("b", "accepted", changed_at="2026-02-03 14:02:09"))
    photos.show("predicted")
    assert photos.shown == ["a", "c"]
    assert photos.step("b", 1) == "c"
    assert photos.step("b", -1) == "a"
    assert photos.next_open("b") == "c"


def test_among_reviewed_photos_a_decision_leads_to_the_next_of_them():
    photos = listed("accepted", "predicted", "accepted")
    photos.show("accepted")
    assert photos.next_open("a") == "c"
    assert photos.next_open("c") is None


def test_older_news_never_replace_newer_ones():
    photos = listed("predicted")
    assert photos.put(photo("a", "accepted", changed_at="2026-02-03 14:02:09"))
    assert not photos.put(photo("a", "predicted", changed_at=""))
    assert photos["a"].status == "accepted"


def test_counts_add_up():
    counts = listed("new", "predicted", "corrected", "accepted", "skipped", "issue").counts()
    assert (counts["all"], counts["to do"], counts["reviewed"]) == (6, 2, 4)


def test_what_is_got_ready_is_where_decisions_lead_and_where_next_does():
    photos = listed("predicted", "accepted", "predicted", "predicted", "predicted")
    assert photos.ahead("a") == ["c", "b", "d", "e"]


def test_photos_that_were_not_found_come_last():
    photos = ReviewList([photo("a"), photo("b", state="missing")], Queue((QueueItem("a", ""),), "file"))
    assert photos.shown == ["a", "b"]
    assert photos.reason("b") == "not found"
    assert photos.to_predict() == ["a"]


@pytest.mark.parametrize("wanted", ["all", "to do", "accepted"])
def test_the_row_of_a_photo_is_where_the_filter_shows_it(wanted):
    photos = listed("accepted", "predicted", "accepted", "new", "accepted")
    photos.show(wanted)
    assert [photos.row(one) for one in photos.shown] == list(range(len(photos.shown)))
