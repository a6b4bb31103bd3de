"""A folder of photos is reviewed through the real tab: real files, real workers, a real network."""

import itertools
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QCloseEvent, QShowEvent
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_skinseg.models.bundle import read_spec, write_spec
from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.pixels.metrics import dice
from napari_skinseg.project.project import Project

SHAPE = (120, 160)
PLACES = [(60, 80, 30), (50, 60, 20), (70, 100, 25), (60, 50, 35)]


@pytest.fixture
def folder(tmp_path, spot):
    """Four photos of a dark spot, and one mask that somebody put there."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, place in enumerate(PLACES):
        Image.fromarray(spot(*place, SHAPE)[0]).save(folder / f"photo_{number}.png")
    return folder


@pytest.fixture
def truths(spot):
    return [spot(*place, SHAPE)[1] for place in PLACES]


@pytest.fixture
def tab(empty_viewer, settle) -> Iterator[object]:
    """The Review tab of the widget, opened as the Plugins menu does."""
    _, widget = empty_viewer.window.add_plugin_dock_widget("napari-skinseg")
    (panel,) = (panel for panel in widget.panels if panel.title == "Review")
    panel.widget = widget
    yield panel
    settle(panel)
    panel.close_project()
    settle(panel)
    widget.session.close()
    QApplication.processEvents()


@pytest.fixture
def settle(qtbot):
    """Wait until nothing runs, nothing is about to, and the photo that was asked for is in hand."""

    def is_settled(panel) -> bool:
        walk = panel.walk
        busy = (
            panel._session.background.is_busy
            or walk.writes.is_busy
            or walk.saver._timer.isActive()
            or walk._soon.isActive()
        )
        return not busy and not walk._is_leaving and panel._job is None

    def wait(panel, timeout: int = 60_000) -> None:
        for _ in range(3):  # what ends may begin something else
            QApplication.processEvents()
            qtbot.waitUntil(lambda: is_settled(panel), timeout=timeout)

    return wait


@pytest.fixture
def opened(tab, folder, settle):
    """The tab with the folder open, its first photo in hand."""
    tab.open_folder(folder)
    settle(tab)
    assert tab.walk.desk.photo is not None, tab.message.text()
    return tab


def press(qtbot, button):
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def paint(tab, place=(10, 10)):
    """What a person does with the brush."""
    layer = tab.walk.desk.labels
    layer.brush_size = 6
    layer.paint(place, 1)


def in_hand(tab):
    return tab.walk.desk.photo.name


def go_to(tab, settle, name):
    tab.walk.go(next(one for one in tab.photos.list.shown if tab.photos.list[one].name == name))
    settle(tab)


def stored(folder, name) -> tuple[str, np.ndarray | None]:
    """Status and person's mask of a photo, as another program reads them."""
    project = Project.open(folder / "skinseg-review", read_only=True)
    try:
        photo = project.find(folder / name)
        return photo.status, read_mask(photo.mask_path, SHAPE) if photo.has_mask else None
    finally:
        project.close()


def test_a_folder_becomes_a_project_and_the_photos_stay_as_they_are(opened, folder, truths):
    before = {path.name for path in folder.iterdir()}
    assert before == {*(f"photo_{number}.png" for number in range(4)), "skinseg-review"}
    assert "skinseg-review" in opened.message.text()
    assert "not changed" in opened.message.text()
    assert in_hand(opened) == "photo_0.png"
    assert dice(opened.walk.desk.mask(), truths[0]) > 0.9
    assert opened.counts.text() == "<b>0 of 4</b> reviewed"
    assert opened.walk.desk.labels.mode == "paint"
    assert opened.walk.desk.labels.selected_label == 1
    assert opened._viewer.layers.selection.active == opened.walk.desk.labels


def test_a_review_from_end_to_end_loses_nothing(qtbot, opened, folder, settle, truths, tmp_path):
    paint(opened)
    drawn = opened.walk.desk.mask()
    paint(opened, (100, 150))
    opened.walk.desk.labels.undo()
    press(qtbot, opened.next_button)
    settle(opened)
    assert in_hand(opened) == "photo_1.png"
    press(qtbot, opened.accept_button)
    settle(opened)
    assert in_hand(opened) == "photo_2.png"
    opened.close_project()
    settle(opened)
    assert len(opened._viewer.layers) == 0
    assert opened.project is None

    opened.open_folder(folder)
    settle(opened)
    assert in_hand(opened) == "photo_2.png"
    assert opened.counts.text() == "<b>2 of 4</b> reviewed"
    status, mask = stored(folder, "photo_0.png")
    assert status == "corrected"
    np.testing.assert_array_equal(mask, drawn)
    status, mask = stored(folder, "photo_1.png")
    assert status == "accepted"
    assert dice(mask, truths[1]) > 0.9
    go_to(opened, settle, "photo_0.png")
    np.testing.assert_array_equal(opened.walk.desk.mask(), drawn)
    opened.export(tmp_path / "export")
    settle(opened)
    assert f"2 masks are in {tmp_path / 'export'}" in opened.message.text()
    np.testing.assert_array_equal(read_mask(tmp_path / "export/masks/photo_0_segmentation.png"), drawn)


def test_a_stroke_is_on_disk_a_second_later_without_anybody_asking(qtbot, opened, folder):
    paint(opened)
    assert opened.saved.text() == "Saving…"
    qtbot.waitUntil(lambda: stored(folder, "photo_0.png")[0] == "corrected", timeout=60_000)
    np.testing.assert_array_equal(stored(folder, "photo_0.png")[1], opened.walk.desk.mask())
    qtbot.waitUntil(lambda: opened.saved.text().startswith("Saved "), timeout=60_000)


def test_painting_without_a_rest_is_saved_all_the_same(qtbot, opened, folder):
    columns = itertools.cycle(range(10, 150))

    def paints_until_it_is_saved():
        paint(opened, (10, next(columns)))
        return stored(folder, "photo_0.png")[0] == "corrected"

    qtbot.waitUntil(paints_until_it_is_saved, timeout=60_000)


def test_an_undo_is_saved_too(opened, folder, settle):
    paint(opened)
    settle(opened)
    assert stored(folder, "photo_0.png")[0] == "corrected"
    opened.walk.desk.labels.undo()
    settle(opened)
    assert stored(folder, "photo_0.png") == ("predicted", None)


def test_no_undo_reaches_into_the_photo_before_or_after(qtbot, opened, settle):
    paint(opened)
    settle(opened)
    press(qtbot, opened.next_button)
    settle(opened)
    layer, before = opened.walk.desk.labels, opened.walk.desk.mask()
    layer.undo()
    np.testing.assert_array_equal(opened.walk.desk.mask(), before)
    paint(opened)
    layer.undo()
    layer.redo()
    layer.undo()
    layer.undo()
    np.testing.assert_array_equal(opened.walk.desk.mask(), before)
    assert layer.mode == "paint"
    assert layer.editable


def test_next_and_previous_keep_what_was_drawn(qtbot, opened, settle):
    paint(opened)
    drawn = opened.walk.desk.mask()
    for button, name in ((opened.next_button, "photo_1.png"), (opened.previous_button, "photo_0.png")):
        press(qtbot, button)
        settle(opened)
        assert in_hand(opened) == name
    np.testing.assert_array_equal(opened.walk.desk.mask(), drawn)


def test_a_photo_got_ready_is_shown_at_once(qtbot, opened, settle):
    press(qtbot, opened.next_button)
    assert in_hand(opened) == "photo_1.png"  # no event was waited for


def test_choosing_a_row_saves_and_shows(qtbot, opened, folder, settle):
    paint(opened)
    opened.table.clicked.emit(opened.photos.index(2, 1))
    settle(opened)
    assert in_hand(opened) == "photo_2.png"
    assert stored(folder, "photo_0.png")[0] == "corrected"
    assert opened.table.selectionModel().currentIndex().row() == 2


def test_when_saving_fails_nobody_leaves(qtbot, opened, folder, settle):
    masks = folder / "skinseg-review" / "masks"
    masks.rename(folder / "away")
    masks.write_text("in the way")
    paint(opened)
    press(qtbot, opened.next_button)
    settle(opened)
    assert in_hand(opened) == "photo_0.png"
    assert opened.saved.text() == "NOT SAVED"
    assert "masks" in opened.message.text()
    assert not opened.retry_button.isHidden()
    assert not opened.elsewhere_button.isHidden()
    opened.table.clicked.emit(opened.photos.index(2, 1))
    settle(opened)
    assert in_hand(opened) == "photo_0.png"
    assert opened.table.selectionModel().currentIndex().row() == 0

    masks.unlink()
    (folder / "away").rename(masks)
    press(qtbot, opened.retry_button)
    settle(opened)
    assert opened.saved.text().startswith("Saved ")
    assert opened.retry_button.isHidden()
    np.testing.assert_array_equal(stored(folder, "photo_0.png")[1], opened.walk.desk.mask())
    press(qtbot, opened.next_button)
    settle(opened)
    assert in_hand(opened) == "photo_1.png"


def test_a_mask_that_was_saved_elsewhere_may_be_left(qtbot, opened, folder, settle, tmp_path):
    masks = folder / "skinseg-review" / "masks"
    masks.rename(folder / "away")
    masks.write_text("in the way")
    paint(opened)
    drawn = opened.walk.desk.mask()
    settle(opened)
    assert opened.saved.text() == "NOT SAVED"
    opened.walk.saver.save_elsewhere(tmp_path / "mine.png")
    settle(opened)
    np.testing.assert_array_equal(read_mask(tmp_path / "mine.png"), drawn)
    assert "mine.png" in opened.saved.text()
    masks.unlink()
    (folder / "away").rename(masks)
    press(qtbot, opened.next_button)
    settle(opened)
    assert in_hand(opened) == "photo_1.png"


def test_an_acceptance_that_fails_is_not_shown_as_one(qtbot, opened, folder, settle):
    masks = folder / "skinseg-review" / "masks"
    masks.rename(folder / "away")
    masks.write_text("in the way")
    press(qtbot, opened.accept_button)
    settle(opened)
    assert in_hand(opened) == "photo_0.png"
    assert opened.saved.text() == "NOT SAVED"
    masks.unlink()
    (folder / "away").rename(masks)
    press(qtbot, opened.retry_button)
    settle(opened)
    assert stored(folder, "photo_0.png")[0] == "accepted"
    assert in_hand(opened) == "photo_1.png"


def test_a_prediction_never_takes_the_place_of_what_was_drawn(qtbot, tab, folder, settle, truths):
    lock = tab.walk.ahead._network
    lock.acquire()  # the model takes its time
    tab.open_folder(folder)
    qtbot.waitUntil(lambda: tab.walk.desk.photo is not None, timeout=60_000)
    assert tab.walk.desk.ready.awaits_model
    assert not tab.walk.desk.mask().any()
    press(qtbot, tab.accept_button)
    assert "still at photo_0.png" in tab.message.text()
    paint(tab)
    drawn = tab.walk.desk.mask()
    lock.release()
    settle(tab)
    np.testing.assert_array_equal(tab.walk.desk.mask(), drawn)
    assert stored(folder, "photo_0.png")[0] == "corrected"
    press(qtbot, tab.model_button)
    settle(tab)
    assert dice(tab.walk.desk.mask(), truths[0]) > 0.9
    tab.walk.desk.labels.undo()
    np.testing.assert_array_equal(tab.walk.desk.mask(), drawn)


def test_decisions_move_on_and_can_be_taken_back(qtbot, opened, folder, settle):
    press(qtbot, opened.skip_button)
    settle(opened)
    press(qtbot, opened.issue_button)
    opened.note.setText("out of focus")
    qtbot.keyPress(opened.note, Qt.Key.Key_Return)
    settle(opened)
    assert in_hand(opened) == "photo_2.png"
    assert stored(folder, "photo_0.png")[0] == "skipped"
    assert stored(folder, "photo_1.png")[0] == "issue"
    assert "out of focus" in opened.photos.data(opened.photos.index(1, 1), Qt.ItemDataRole.ToolTipRole)
    press(qtbot, opened.back_button)
    settle(opened)
    assert in_hand(opened) == "photo_1.png"
    assert stored(folder, "photo_1.png")[0] == "predicted"
    press(qtbot, opened.back_button)
    settle(opened)
    assert in_hand(opened) == "photo_0.png"
    assert opened.counts.text() == "<b>0 of 4</b> reviewed"
    press(qtbot, opened.back_button)
    settle(opened)
    assert "no decision" in opened.message.text()


def test_at_the_end_the_tab_says_what_was_done(qtbot, opened, settle):
    for _ in range(4):
        press(qtbot, opened.accept_button)
        settle(opened)
    assert "All 4 photos are reviewed: 4 accepted, 0 corrected" in opened.message.text()
    press(qtbot, opened.next_button)
    settle(opened)
    assert "All 4 photos" in opened.message.text()


def test_an_empty_mask_is_accepted_as_no_lesion_and_said_so(qtbot, opened, folder, settle):
    labels = opened.walk.desk.labels
    labels.data_setitem(np.nonzero(labels.data), 0)
    press(qtbot, opened.accept_button)
    settle(opened)
    assert "without a lesion" in opened.message.text()
    status, mask = stored(folder, "photo_0.png")
    assert status == "corrected"
    assert not mask.any()


def test_the_filter_shows_what_it_says_with_counts(qtbot, opened, settle):
    press(qtbot, opened.accept_button)
    settle(opened)
    opened.filter.setCurrentIndex(5)
    opened.filter.activated.emit(5)
    assert opened.filter.currentText() == "Accepted (1)"
    assert opened.photos.rowCount() == 1
    opened.filter.setCurrentIndex(1)
    opened.filter.activated.emit(1)
    assert opened.filter.currentText() == "To do (3)"
    assert opened.photos.rowCount() == 3
    press(qtbot, opened.accept_button)
    settle(opened)
    assert opened.photos.rowCount() == 2
    assert opened.counts.text() == "<b>2 of 4</b> reviewed"


def test_predict_all_sorts_the_least_certain_first(qtbot, tab, folder, spot, settle):
    ground = np.full((*SHAPE, 3), (225, 180, 165), np.uint8)
    ground[40:80, 40:120] = (190, 145, 132)  # hardly a spot
    Image.fromarray(ground).save(folder / "photo_9.png")
    tab.open_folder(folder)
    settle(tab)
    press(qtbot, tab.predict_button)
    settle(tab)
    assert "least certain come first" in tab.message.text()
    assert tab.photos.list.to_predict() == []
    doubts = [tab.photos.list[one].doubt for one in tab.photos.list.shown]
    assert doubts == sorted(doubts, reverse=True)
    assert doubts[0] > doubts[-1]
    reason = tab.photos.data(tab.photos.index(0, 1), Qt.ItemDataRole.ToolTipRole)
    assert "Why here:" in reason
    assert tab.walk.photo == tab.photos.list.shown[0]


def test_predicting_all_can_be_stopped(qtbot, opened, settle):
    opened.ask_project("forgetting", lambda project: None, lambda _: None)
    press(qtbot, opened.predict_button)
    opened.cancel()
    settle(opened)
    assert opened.cancel_button.isHidden()
    assert opened.progress.isHidden()


def test_a_photo_that_vanished_is_said_and_keeps_its_status(qtbot, opened, folder, settle):
    (folder / "photo_3.png").unlink()
    opened.walk.ahead.forget(opened.photos.list.shown[3])
    go_to(opened, settle, "photo_3.png")
    assert "photo_3.png is missing" in opened.message.text()
    assert opened.walk.desk.photo is None
    assert stored(folder, "photo_3.png")[0] in ("new", "predicted")
    press(qtbot, opened.previous_button)
    settle(opened)
    assert in_hand(opened) == "photo_0.png"
    assert not opened.message.text()


def test_a_photo_that_was_replaced_is_said_and_its_mask_kept(qtbot, opened, folder, settle, spot):
    go_to(opened, settle, "photo_3.png")
    press(qtbot, opened.accept_button)
    settle(opened)
    Image.fromarray(spot(60, 80, 10, SHAPE)[0]).save(folder / "photo_3.png")
    opened.walk.ahead.forget(next(one for one in opened.photos.list.shown if "photo_3" in one))
    go_to(opened, settle, "photo_3.png")
    assert "another picture" in opened.message.text()
    assert stored(folder, "photo_3.png")[0] == "accepted"


def test_of_a_project_that_someone_else_has_open_one_is_told_who(qtbot, tab, folder, settle):
    holder = "; ".join((
        "import sys",
        "from napari_skinseg.project.project import Project",
        "project = Project.open(sys.argv[1], create=True, reader='Marie')",
        "project.scan(sys.argv[2])",
        "print('open', flush=True)",
        "input()",
        "project.close()",
    ))  # fmt: skip
    command = [sys.executable, "-c", holder, str(folder / "skinseg-review"), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        tab.open_folder(folder)
        settle(tab)
        assert "Marie" in tab.question_text.text()
        assert tab.project is None
        buttons = {button.text(): button for button in tab.question.findChildren(type(tab.open_button))}
        assert set(buttons) == {"Open read-only", "Leave it"}  # it is known to live
        buttons["Open read-only"].click()
        settle(tab)
        assert in_hand(tab) == "photo_0.png"
        assert "Read only" in tab.message.text()
        assert not tab.accept_button.isEnabled()
        assert not tab.walk.desk.labels.editable
        tab.walk.accept()
        tab.walk.skip()
        settle(tab)
        tab.walk.next()
        settle(tab)
        assert in_hand(tab) == "photo_1.png"
        other.communicate("\n")
    assert stored(folder, "photo_0.png")[0] == "new"


def test_of_a_damaged_project_the_backup_is_offered(qtbot, opened, folder, settle):
    press(qtbot, opened.accept_button)
    settle(opened)
    opened.close_project()
    settle(opened)
    store = folder / "skinseg-review" / "skinseg-project.sqlite"
    store.write_bytes(b"\0" * 100 + store.read_bytes()[100:])
    opened.open_folder(folder)
    settle(opened)
    assert "damaged" in opened.question_text.text()
    buttons = {button.text(): button for button in opened.question.findChildren(type(opened.open_button))}
    buttons["Restore the backup"].click()
    settle(opened)
    assert opened.counts.text() == "<b>1 of 4</b> reviewed"


def test_a_folder_without_photos_gets_a_sentence_and_nothing_is_made_in_it(tab, tmp_path, settle):
    empty = tmp_path / "empty"
    empty.mkdir()
    tab.open_folder(empty)
    settle(tab)
    assert tab.message.text()
    assert "Traceback" not in tab.message.text()
    assert list(empty.iterdir()) == []
    assert tab.project is None


def test_the_blind_sample_hides_the_prediction_until_it_is_drawn(qtbot, opened, folder, settle):
    opened.ask_project("Drawing", lambda project: project.set_blind_sample(1.0), lambda _: opened.list_again())
    settle(opened)
    press(qtbot, opened.next_button)
    settle(opened)
    if not opened.walk.desk.photo.blind:  # looked at already
        go_to(opened, settle, "photo_3.png")
    assert opened.walk.desk.photo.blind
    assert not opened.walk.desk.mask().any()
    assert "Blind sample" in opened.message.text()
    assert not opened.model_button.isEnabled()
    assert not opened.look["difference"].isEnabled()
    row = opened.photos.list.row(opened.walk.photo)
    assert "blind" in opened.photos.data(opened.photos.index(row, 2), Qt.ItemDataRole.DisplayRole)
    paint(opened)
    settle(opened)
    assert not opened.model_button.isEnabled()  # not while it is in hand


def test_removing_the_layers_saves_first(opened, folder, settle):
    paint(opened)
    drawn = opened.walk.desk.mask()
    opened._viewer.layers.clear()
    settle(opened)
    np.testing.assert_array_equal(stored(folder, "photo_0.png")[1], drawn)
    assert "layers were removed" in opened.message.text()
    go_to(opened, settle, "photo_0.png")
    np.testing.assert_array_equal(opened.walk.desk.mask(), drawn)


def test_closing_the_window_saves_the_last_stroke(opened, folder, settle):
    paint(opened)
    drawn = opened.walk.desk.mask()
    opened.showEvent(QShowEvent())  # as when the window is on the screen
    opened._viewer.close()
    np.testing.assert_array_equal(stored(folder, "photo_0.png")[1], drawn)


@pytest.mark.parametrize(("answer", "closes"), [("Cancel", False), ("Discard", True)])
def test_a_window_with_something_not_saved_asks_before_it_closes(opened, folder, settle, answer, closes):
    masks = folder / "skinseg-review" / "masks"
    masks.rename(folder / "away")
    masks.write_text("in the way")
    paint(opened)
    opened.showEvent(QShowEvent())
    asked = []

    def press_it():
        box = QApplication.activeModalWidget()
        if box is None:
            QTimer.singleShot(20, press_it)
        else:
            asked.append(box.text())
            box.button(getattr(QMessageBox.StandardButton, answer)).click()

    QTimer.singleShot(0, press_it)
    event = QCloseEvent()
    stopped = opened._door.eventFilter(opened._door.window, event)
    assert "The last strokes are not on disk" in asked[0]
    assert stopped != closes
    assert event.isAccepted() == closes
    masks.unlink()
    (folder / "away").rename(masks)


def test_a_widget_that_goes_saves_the_last_stroke_and_gives_the_lock_back(opened, folder, settle):
    from napari_skinseg.plugin.review.shutdown import Shutter

    paint(opened)
    drawn = opened.walk.desk.mask()
    Shutter(opened.walk, opened._opened)()  # what `destroyed` calls
    np.testing.assert_array_equal(stored(folder, "photo_0.png")[1], drawn)
    assert not (folder / "skinseg-review" / "skinseg-project.lock").exists()


def test_the_photo_of_an_open_layer_joins_the_project_with_its_mask(opened, tmp_path, spot, settle):
    path = tmp_path / "single.png"
    rgb, truth = spot(60, 80, 20, SHAPE)
    Image.fromarray(rgb).save(path)
    viewer = opened._viewer
    (layer,) = viewer.open(path, plugin="napari")
    viewer.layers.selection.active = layer
    opened.add_current_layer()
    settle(opened)
    assert in_hand(opened) == "single.png"
    assert opened.counts.text() == "<b>0 of 5</b> reviewed"
    assert dice(opened.walk.desk.mask(), truth) > 0.9


def test_the_scale_of_a_photo_is_kept(opened, folder, settle):
    opened.tools.scale.scale_set.emit(0.05, ((10.0, 10.0), (10.0, 110.0)), 0.02)
    settle(opened)
    assert opened.walk.desk.photo.mm_per_px == pytest.approx(0.05)
    opened.use_scale_for_all()
    settle(opened)
    assert all(opened.photos.list[one].mm_per_px == pytest.approx(0.05) for one in opened.photos.list.shown)


def test_photos_that_were_moved_are_found_again(opened, folder, tmp_path, settle):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(folder / "photo_2.png", elsewhere / "renamed.png")
    opened.find_moved(elsewhere)
    settle(opened)
    assert "1 of the missing photos" in opened.message.text()
    opened.walk.ahead.forget(opened.photos.list.shown[2])
    go_to(opened, settle, "renamed.png")
    assert in_hand(opened) == "renamed.png"


def test_the_zoom_is_fitted_or_kept_as_the_person_wishes(qtbot, opened, settle):
    camera = opened._viewer.scene.camera
    fitted = camera.zoom
    camera.zoom = 3 * fitted
    press(qtbot, opened.next_button)
    assert camera.zoom == pytest.approx(fitted)
    opened.menu.keep_zoom.setChecked(True)
    camera.zoom = 3 * fitted
    press(qtbot, opened.next_button)
    assert camera.zoom == pytest.approx(3 * fitted)


def test_other_layers_are_out_of_sight_and_come_back(tab, folder, settle, spot):
    other = tab._viewer.add_image(spot(60, 80, 20, (200, 300))[0], rgb=True)
    hidden = tab._viewer.add_image(spot(60, 80, 20, (200, 300))[0], rgb=True, visible=False)
    tab.open_folder(folder)
    settle(tab)
    assert not other.visible
    tab.close_project()
    settle(tab)
    assert other.visible
    assert not hidden.visible


def test_ten_thousand_photos_are_shown_by_touching_those_in_view(opened, settle):
    project = opened.project
    with sqlite3.connect(project.folder / "skinseg-project.sqlite") as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(photos)") if row[1] not in ("number", "id")]
        for number in range(9_996):
            connection.execute(
                f"INSERT INTO photos (id, {', '.join(columns)}) "
                f"SELECT 'copy_{number}', {', '.join(columns)} FROM photos WHERE number = 1"
            )
    connection.close()
    opened.list_again(keep_order=False)
    settle(opened)
    asked = []
    data = opened.photos.data
    opened.photos.data = lambda index, role=0: asked.append(index.row()) or data(index, role)
    opened.filter.setCurrentIndex(2)
    opened.filter.activated.emit(2)
    opened.filter.setCurrentIndex(0)
    opened.filter.activated.emit(0)
    opened.table.resize(300, 400)
    opened.table.grab()
    del opened.photos.data
    assert opened.photos.rowCount() == 10_000
    assert 0 < len(set(asked)) < 40


def test_the_segment_tab_leaves_the_photo_under_review_alone(opened):
    segment = opened.widget.panels[0]
    assert len(segment.photo.choices) == 0


def test_a_stroke_under_way_ends_with_its_photo(qtbot, opened, settle):
    layer = opened.walk.desk.labels
    before = [opened.walk.ahead.get(one).mask.copy() for one in opened.photos.list.shown[:2]]
    layer._begin_stroke()  # the mouse button is down
    paint(opened)
    opened.walk.next()
    settle(opened)
    layer._commit_stroke()  # and comes up
    assert in_hand(opened) == "photo_1.png"
    layer.undo()
    np.testing.assert_array_equal(opened.walk.desk.mask(), before[1])
    opened.walk.previous()
    settle(opened)
    assert opened.walk.desk.mask()[10, 10]
    assert (opened.walk.desk.mask() != before[0]).any()


def test_closing_the_dock_saves_and_gives_the_project_back(empty_viewer, qtbot, folder, settle):
    viewer = empty_viewer
    dock, widget = viewer.window.add_plugin_dock_widget("napari-skinseg")
    (panel,) = (panel for panel in widget.panels if panel.title == "Review")
    panel.open_folder(folder)
    settle(panel)
    paint(panel)
    drawn = panel.walk.desk.mask()
    lock = folder / "skinseg-review" / "skinseg-project.lock"
    assert lock.exists()
    panel.showEvent(QShowEvent())  # as when the window is on the screen
    viewer.window.remove_dock_widget(dock)
    QApplication.processEvents()
    settle(panel)
    assert not lock.exists()
    assert len(viewer.layers) == 0
    assert not viewer.keymap
    np.testing.assert_array_equal(stored(folder, "photo_0.png")[1], drawn)
    widget.deleteLater()


def test_a_photo_in_which_no_lesion_was_found_comes_first_and_says_so(qtbot, tab, folder, settle, spot, models_here):
    finder = models_here / "models" / "spot-finder"
    write_spec(finder, replace(read_spec(finder), no_lesion=0.1))  # of ground it is sure by 0.00, of spots by 0.5
    Image.fromarray(spot(-100, 0, 10, SHAPE)[0]).save(folder / "skin.png")
    tab.open_folder(folder)
    settle(tab)
    press(qtbot, tab.predict_button)
    settle(tab)
    assert in_hand(tab) == "skin.png"
    assert not tab.walk.desk.mask().any()
    assert tab.name.text() == "Model: no lesion – skin.png"
    cell = tab.photos.index(tab.photos.list.row(tab.walk.photo), 2)
    assert tab.photos.data(cell, Qt.ItemDataRole.DisplayRole) == "predicted\nno lesion"
    go_to(tab, settle, "photo_0.png")
    assert tab.name.text() == "photo_0.png"
