"""Tests of a review: masks, decisions, predictions and scales, with real files and SQLite."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.pixels.metrics import dice
from napari_skinseg.project.project import Project


def reopened(project: Project) -> Project:
    project.close()
    return Project.open(project.folder, reader="Ada")


def predict(project: Project, photo: str, mask: np.ndarray, confidence: float = 0.9, model: str = "unet") -> bool:
    return project.set_prediction(photo, mask, model=model, model_version="1", confidence=confidence)


def test_a_saved_mask_has_an_isic_name_and_is_read_after_reopening(project, draw):
    photo = project.photos()[0]
    saved = project.save_mask(photo.id, draw(10), seconds=4)
    pixels = np.asarray(Image.open(project.folder / "masks" / f"{photo.id}_segmentation.png"))
    assert (pixels.dtype, set(np.unique(pixels))) == (np.uint8, {0, 255})
    assert (saved.status, saved.seconds, saved.reader) == ("corrected", 4, "Ada")
    with reopened(project) as again:
        assert again.repairs == ()
        assert again.photo(photo.id) == saved
        assert np.array_equal(again.mask(photo.id), draw(10))


def test_two_photos_with_equal_names_have_separate_masks(project, draw):
    one, other = (photo for photo in project.photos() if photo.name == "a.png")
    project.save_mask(one.id, draw(5))
    project.save_mask(other.id, draw(15))
    assert one.id.startswith("a-")
    assert other.id.startswith("a-")
    assert np.array_equal(project.mask(one.id), draw(5))
    assert np.array_equal(project.mask(other.id), draw(15))


def test_photos_are_referenced_by_relative_paths_and_never_changed(project, album, draw):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in album.rglob("*.*")}
    for photo in project.photos():
        predict(project, photo.id, draw(9))
        project.accept(photo.id, draw(8))
        assert not Path(photo.relative).is_absolute()
        assert photo.path.samefile(album / Path(photo.relative).relative_to("../photos"))
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in album.rglob("*.*")} == before


def test_prediction_and_correction_are_both_kept_with_their_dice(project, draw):
    photo = project.photos()[0].id
    assert predict(project, photo, draw(10))
    assert project.photo(photo).status == "predicted"
    assert np.array_equal(project.mask(photo), draw(10))
    corrected = project.save_mask(photo, draw(12))
    assert corrected.dice == pytest.approx(dice(draw(10), draw(12)))
    assert (corrected.model, corrected.model_version, corrected.confidence) == ("unet", "1", 0.9)
    assert np.array_equal(project.prediction(photo), draw(10))
    assert np.array_equal(project.mask(photo), draw(12))


def test_a_new_prediction_replaces_an_old_one_but_no_persons_mask(project, draw):
    untouched, corrected, accepted, skipped = (photo.id for photo in project.photos()[:4])
    for photo in (untouched, corrected, accepted, skipped):
        predict(project, photo, draw(10))
    project.save_mask(corrected, draw(12))
    project.accept(accepted)
    project.decide(skipped, "skipped")
    taken = {
        photo: predict(project, photo, draw(20), model="newer") for photo in (untouched, corrected, accepted, skipped)
    }
    assert taken == {untouched: True, corrected: False, accepted: False, skipped: True}
    assert np.array_equal(project.mask(untouched), draw(20))
    assert np.array_equal(project.mask(corrected), draw(12))
    assert np.array_equal(project.prediction(corrected), draw(10))
    assert np.array_equal(project.mask(accepted), draw(10))
    assert [project.photo(photo).stale for photo in (untouched, corrected, accepted)] == ["", "newer 1", "newer 1"]
    assert [project.photo(photo).status for photo in taken] == ["predicted", "corrected", "accepted", "skipped"]
    assert len(list((project.folder / "masks" / "predicted").iterdir())) == 4, "a replaced prediction is removed"


def test_accepting_a_changed_mask_makes_the_photo_corrected(project, draw):
    as_it_is, changed, drawn, nothing = (photo.id for photo in project.photos()[:4])
    predict(project, as_it_is, draw(10))
    predict(project, changed, draw(10))
    assert project.accept(as_it_is, draw(10)).status == "accepted"
    assert project.accept(changed, draw(12)).status == "corrected"
    assert project.accept(drawn, draw(7)).status == "corrected"
    assert np.array_equal(read_mask(project.photo(as_it_is).mask_path), draw(10))
    with pytest.raises(BadInput, match="no mask to accept"):
        project.accept(nothing)
    assert project.accept(nothing, np.zeros((48, 64), bool)).has_mask, "an empty mask means no lesion"


def test_a_stroke_and_its_undo_restore_status_and_mask(project, draw):
    predicted, accepted, blank = (photo.id for photo in project.photos()[:3])
    for photo in (predicted, accepted):
        predict(project, photo, draw(10))
    project.accept(accepted)
    for photo, before in ((predicted, draw(10)), (accepted, draw(10)), (blank, np.zeros((48, 64), bool))):
        status = project.photo(photo).status
        assert project.save_mask(photo, draw(14)).status == "corrected"
        assert project.save_mask(photo, before).status == status
    assert not project.photo(predicted).mask_path.exists()
    assert predict(project, predicted, draw(11), model="newer"), "an unchanged mask is not a person's work"


def test_an_undone_stroke_is_not_replaced_by_a_prediction_that_came_later(project, draw):
    empty, same = (photo.id for photo in project.photos()[:2])
    for photo in (empty, same):
        project.save_mask(photo, draw(10))
        assert predict(project, photo, draw(12)), "the prediction comes after the first stroke"
    undone = project.save_mask(empty, np.zeros((48, 64), bool))
    assert (undone.status, undone.has_mask) == ("corrected", True)
    assert not project.mask(empty).any(), "the saved mask is the one that the person saw"
    assert project.save_mask(same, draw(12)).status == "predicted"
    assert not project.photo(same).has_mask


def test_removing_a_mask_works_while_the_previous_one_is_the_same_file(project, draw):
    photo = project.photos()[0].id
    project.save_mask(photo, draw(10))
    files = project._files
    files.previous_path(photo).hardlink_to(files.path(photo))  # as a kill in the middle of saving leaves it
    files.remove(photo)
    assert not files.path(photo).exists()
    assert files.previous_path(photo).exists()


def test_the_mask_before_the_last_decision_is_kept(project, draw):
    photo = project.photos()[0].id
    project.accept(photo, draw(10))
    for radius in (11, 12, 13):
        project.save_mask(photo, draw(radius))
    assert np.array_equal(read_mask(project._files.previous_path(photo)), draw(10))
    assert np.array_equal(project.mask(photo), draw(13))


def test_any_status_can_become_any_other_and_all_decisions_are_logged(project, draw):
    photo = project.photos()[0].id
    predict(project, photo, draw(10))
    project.save_mask(photo, draw(12))
    statuses = ("new", "predicted", "corrected", "accepted", "skipped", "issue")
    for before in statuses:
        for after in statuses:
            project.decide(photo, before)
            assert project.decide(photo, after, "blurred" if after == "issue" else "", seconds=1).status == after
    assert np.array_equal(project.mask(photo), draw(12)), "no decision removes a mask"
    with sqlite3.connect(project.folder / "skinseg-project.sqlite") as direct:
        columns = "status, reader, model, note"
        decided = direct.execute(f"SELECT {columns} FROM log WHERE action = 'decide' ORDER BY number").fetchall()
        assert [row[0] for row in decided] == [status for a in statuses for b in statuses for status in (a, b)]
        assert {row[1:3] for row in decided} == {("Ada", "unet")}
        assert {note for status, _, _, note in decided if status == "issue"} == {"blurred", ""}
        for forbidden in ("DELETE FROM log", "UPDATE log SET reader = 'Eve'"):
            with pytest.raises(sqlite3.IntegrityError, match="the log is never"):
                direct.execute(forbidden)
    direct.close()


def test_decisions_are_undone_in_reverse_order(project, draw):
    first, second = (photo.id for photo in project.photos()[:2])
    predict(project, first, draw(10))
    project.accept(first)
    project.decide(second, "issue", "ink")
    project.decide(second, "skipped")
    assert (project.take_back().id, project.photo(second).status, project.photo(second).note) == (
        second,
        "issue",
        "ink",
    )
    assert (project.take_back().id, project.photo(second).status, project.photo(second).note) == (second, "new", "")
    assert (project.take_back().id, project.photo(first).status) == (first, "predicted")
    assert not project.photo(first).has_mask, "a mask that was only accepted is the model's again"
    assert project.take_back() is None
    project.accept(first, draw(12))
    assert project.take_back().status == "corrected", "a mask that a person drew stays"
    assert np.array_equal(project.mask(first), draw(12))


@pytest.mark.parametrize("status", ["accepted", "corrected", "predicted", "done"])
def test_an_impossible_status_is_refused_with_a_sentence(project, status):
    photo = project.photos()[0].id
    with pytest.raises(BadInput, match=r"not a status|no model's mask|no mask"):
        project.decide(photo, status)
    assert project.photo(photo).status == "new"


def test_a_mask_of_another_size_is_refused_and_the_earlier_one_stays(project, draw):
    photo = project.photos()[0].id
    project.save_mask(photo, draw(10))
    for call in (project.save_mask, project.accept):
        with pytest.raises(BadInput, match="size"):
            call(photo, draw(10, (64, 48)))
    with pytest.raises(BadInput, match="size"):
        predict(project, photo, draw(10, (64, 48)))
    assert np.array_equal(project.mask(photo), draw(10))


def test_counts_and_photo_lists_follow_decisions(project, draw):
    queue = project.queue("file")
    a, b, c, d, e = (item.photo for item in queue.items)
    project.accept(a, draw(10))
    project.decide(b, "skipped")
    project.decide(d, "issue", "out of focus")
    counts = project.counts()
    assert (counts["total"], counts["reviewed"], counts["new"], counts["issue"]) == (5, 3, 2, 1)
    project.save_mask(c, draw(8))
    counts = project.counts()
    assert (counts["corrected"], counts["unfinished"], counts["reviewed"]) == (2, 1, 3), "a stroke is no decision"
    assert [photo.id for photo in project.photos("skipped", "issue")] == [b, d]
    assert project.resume(queue) == c
    assert queue.first({d, e}) == d


def test_a_review_resumes_at_the_photo_opened_last(project):
    order = [item.photo for item in project.queue("file").items]
    project.visit(order[3])
    with reopened(project) as again:
        assert again.resume(again.queue("file")) == order[3]
        again.decide(order[3], "skipped")
        assert again.resume(again.queue("file")) == order[0]


def test_the_queue_starts_with_doubtful_masks_and_does_not_change(project, draw):
    sure, unsure, empty = (photo.id for photo in project.photos()[:3])
    predict(project, sure, draw(10), confidence=0.95)
    predict(project, unsure, draw(10), confidence=0.55)
    predict(project, empty, np.zeros((48, 64), bool), confidence=0.9)
    queue = project.queue()
    assert [item.photo for item in queue.items[:3]] == [empty, unsure, sure]
    assert [item.reason for item in queue.items] == [
        "no lesion found", "expected overlap 55 %", "expected overlap 95 %", "not predicted yet", "not predicted yet"
    ]  # fmt: skip
    project.accept(unsure)
    predict(project, sure, draw(10), confidence=0.1, model="newer")
    assert [item.photo for item in queue.items[:3]] == [empty, unsure, sure]
    assert project.queue().items[-1].reason == "reviewed already"


def test_a_blind_photo_hides_its_prediction_until_a_mask_is_drawn(project, draw):
    assert project.set_blind_sample(1.0, seed=3) == 5
    photo = project.photos()[0].id
    predict(project, photo, draw(10))
    assert project.mask(photo) is None
    assert project.prediction(photo) is None
    with pytest.raises(BadInput, match="no mask to accept"):
        project.accept(photo)
    drawn = project.accept(photo, draw(11))
    assert drawn.blind
    assert drawn.dice == pytest.approx(dice(draw(10), draw(11)))
    assert np.array_equal(project.prediction(photo), draw(10))
    late = project.photos()[1].id
    project.accept(late, draw(9))
    assert predict(project, late, draw(12)), "a prediction may come after the mask"
    assert project.photo(late).dice == pytest.approx(dice(draw(9), draw(12)))


def test_the_blind_sample_depends_on_the_seed_and_omits_opened_photos(project, draw):
    project.visit(project.photos()[0].id)
    project.save_mask(project.photos()[1].id, draw(9))
    assert project.set_blind_sample(1.0) == 3
    assert project.set_blind_sample(0.5, seed=1) == project.set_blind_sample(0.5, seed=1)
    drawn = {seed: project.set_blind_sample(0.5, seed) and [photo.id for photo in project.photos() if photo.blind]
             for seed in range(8)}  # fmt: skip
    assert len({tuple(ids or ()) for ids in drawn.values()}) > 1, "another seed chooses other photos"
    assert project.set_blind_sample(0.0) == 0


def test_a_scale_is_set_by_a_line_and_copied_to_photos_of_equal_size(project, album, take_photo, draw):
    take_photo(album / "large.png", 9, (96, 128))
    project.scan(album)
    one, *others = (photo for photo in project.photos() if photo.shape == (48, 64))
    line = ((10.0, 10.0), (40.0, 50.0))
    scaled = project.set_scale(one.id, line, 10)
    assert (scaled.mm_per_px, scaled.scale_line, scaled.scale_mm) == (pytest.approx(0.2), line, 10)
    own = project.set_scale(others[0].id, line, 20)
    assert project.spread_scale(one.id) == len(others) - 1
    assert project.photo(own.id).mm_per_px == pytest.approx(0.4), "a photo's own line stays"
    assert project.photo(others[1].id).scale_from == one.id
    assert next(photo for photo in project.photos() if photo.name == "large.png").mm_per_px is None
    for wrong in ((line, 4.0), (((0.0, 0.0), (0.0, 3.0)), 10.0), (line, float("nan"))):
        with pytest.raises(BadInput, match="draw"):
            project.set_scale(one.id, *wrong)
    assert project.clear_scale(one.id).mm_per_px is None


def test_many_threads_read_and_write_one_project(project, draw):
    ids = [photo.id for photo in project.photos()]
    stop = threading.Event()

    def read() -> int:
        reads = 0
        while not stop.is_set():
            counts = project.counts()
            assert counts["new"] + counts["corrected"] == counts["total"] == 5
            reads += len(project.photos())
        return reads

    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        list(pool.map(lambda n: project.save_mask(ids[n % 5], draw(5 + n)), range(40)))
        stop.set()
        assert all(reader.result() > 0 for reader in readers)
    assert all(project.mask(photo) is not None for photo in ids)
    assert reopened(project).repairs == ()


def test_a_read_only_project_changes_nothing_during_a_review(project, draw):
    photo = project.photos()[0].id
    project.accept(photo, draw(10))
    with Project.open(project.folder, read_only=True) as view:
        assert np.array_equal(view.mask(photo), draw(10))
        with pytest.raises(BadInput, match="reading only"):
            view.save_mask(photo, draw(12))
        with pytest.raises(BadInput, match="reading only"):
            view.decide(photo, "skipped")
    assert np.array_equal(project.mask(photo), draw(10))
    project.save_mask(photo, draw(11))


def test_a_closed_project_refuses_every_call(project, draw):
    photo = project.photos()[0].id
    project.close()
    project.close()
    for call in (project.counts, lambda: project.save_mask(photo, draw(3)), lambda: project.photo(photo)):
        with pytest.raises(BadInput, match="was closed"):
            call()
