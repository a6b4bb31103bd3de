"""Tests of the review order: doubt scores, reasons and random choices."""

import numpy as np
import pytest

from napari_skinseg.project.queue import Candidate, Queue, QueueItem, arrange, border_entropy, doubt


def candidates(*scores: float | None, reviewed: tuple[int, ...] = ()) -> list[Candidate]:
    return [Candidate(f"p{i}", i in reviewed, score, f"reason {i}", 0.1) for i, score in enumerate(scores)]


def names(queue: Queue) -> list[str]:
    return [item.photo for item in queue.items]


def test_the_reason_is_the_largest_part_of_the_doubt_score(draw):
    two = draw(8) | np.roll(draw(4), 24, axis=1)
    assert doubt(draw(10), 0.95).reason == "expected overlap 95 %"
    assert doubt(two, 0.95).reason == "2 pieces"
    assert doubt(two, 0.4).reason == "expected overlap 40 %"
    assert doubt(draw(40), 0.95).reason == "touches the frame"
    assert doubt(np.zeros((48, 64), bool), 0.99).reason == "no lesion found"
    assert doubt(draw(10), None).reason == "no confidence given"
    assert doubt(two, 0.9).score > doubt(draw(10), 0.9).score


def test_masks_without_a_lesion_are_most_doubtful_highest_confidence_first(draw):
    nothing = np.zeros((48, 64), bool)
    undecided = np.full((48, 64), 0.5, np.float32)
    worst = doubt(draw(40) | np.roll(draw(4), 30, axis=1), 0.01, undecided)
    assert doubt(nothing, 0.4).score > doubt(nothing, 0.1).score > worst.score + 0.4
    assert doubt(nothing, None).score > worst.score + 0.4


def test_an_uncertain_border_adds_to_the_doubt_score(draw):
    rows, columns = np.mgrid[:48, :64]
    inside = 10 - np.hypot(rows - 24, columns - 32)
    sharp, soft = (1 / (1 + np.exp(-inside * k)) for k in (8.0, 0.3))
    assert border_entropy(sharp.astype(np.float32), draw(10)) < 0.3
    assert border_entropy(soft.astype(np.float32), draw(10)) > 0.7
    assert doubt(draw(10), 0.9, soft.astype(np.float32)).reason.startswith("uncertain border")
    assert border_entropy(np.zeros((48, 64), np.float32), np.zeros((48, 64), bool)) == 0


def test_order_is_doubtful_then_unpredicted_then_reviewed():
    queue = arrange(candidates(0.1, None, 0.9, 0.5, 0.7, reviewed=(4,)))
    assert names(queue) == ["p2", "p3", "p0", "p1", "p4"]
    assert [item.reason for item in queue.items] == [
        "reason 2", "reason 3", "reason 0", "not predicted yet", "reviewed already"
    ]  # fmt: skip


def test_in_mixed_order_every_second_photo_is_random():
    photos = candidates(*np.linspace(0, 1, 40))
    queue = arrange(photos, "mixed", seed=4)
    assert sorted(names(queue)) == sorted(one.photo for one in photos)
    assert sum(item.reason == "random choice" for item in queue.items[:10]) >= 4
    assert sum(item.reason != "random choice" for item in queue.items[:10]) >= 4
    assert queue == arrange(photos, "mixed", seed=4)
    assert queue != arrange(photos, "mixed", seed=5)


def test_random_and_file_order_contain_every_photo():
    photos = candidates(*np.linspace(0, 1, 20), reviewed=(3,))
    assert names(arrange(photos, "file")) == [one.photo for one in photos]
    drawn = names(arrange(photos, "random", seed=1))
    assert sorted(drawn) == sorted(one.photo for one in photos)
    assert drawn[-1] == "p3"
    assert drawn[:-1] != sorted(drawn[:-1], key=lambda name: int(name[1:]))


def test_a_lesion_of_unusual_size_comes_first_with_that_reason():
    photos = [Candidate(f"p{i}", False, 0.1, "expected overlap 90 %", 0.1 + 0.001 * i) for i in range(30)]
    photos.append(Candidate("huge", False, 0.1, "expected overlap 90 %", 0.9))
    first = arrange(photos).items[0]
    assert first == QueueItem("huge", "unusually large (90 % of the photo)")


@pytest.mark.parametrize("order", ["least certain", "mixed", "random", "file"])
def test_an_empty_project_has_an_empty_queue(order):
    queue = arrange([], order)
    assert len(queue) == 0
    assert queue.first({"p"}) is None


def test_photos_added_later_come_at_the_end():
    queue = arrange(candidates(0.9, 0.8))
    longer = queue.with_more(["p1", "p7"])
    assert names(longer) == ["p0", "p1", "p7"]
    assert names(queue) == ["p0", "p1"]
