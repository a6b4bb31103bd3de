"""Review a folder of photos in the real tab, with real files, real workers and a real network."""

import csv
import gc
import itertools
import math
import shutil
import sqlite3
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from napari.utils.history import update_open_history
from PIL import Image
from qtpy.QtCore import QPoint, QSize, Qt, QTimer
from qtpy.QtGui import QCloseEvent, QShowEvent
from qtpy.QtWidgets import QApplication, QFileDialog, QMessageBox, QPushButton, QStyleOptionViewItem

from napari_skinseg.models.bundle import read_spec, write_spec
from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.pixels.metrics import dice
from napari_skinseg.plugin.review.thumbnails import SIZE
from napari_skinseg.plugin.review.unreadable import UnreadableFiles
from napari_skinseg.project.project import Project

SHAPE = (120, 160)
PLACES = [(60, 80, 30), (50, 60, 20), (70, 100, 25), (60, 50, 35)]


@pytest.fixture
def folder(tmp_path, spot):
    """Four photos of a dark spot."""
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
    """The Review tab of the widget, opened as from the Plugins menu."""
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
    """Wait until no job runs or waits, and the requested photo is shown."""

    def is_idle(panel) -> bool:
        navigator = panel.navigator
        busy = panel._session.background.is_busy or navigator.autosave._timer.isActive() or navigator._soon.isActive()
        return not busy and not navigator._is_leaving and panel._job is None

    def wait(panel, timeout: int = 60_000) -> None:
        for _ in range(3):  # a job that ends may start another one
            QApplication.processEvents()
            qtbot.waitUntil(lambda: is_idle(panel), timeout=timeout)

    return wait


@pytest.fixture
def opened(tab, folder, settle):
    """The tab with the folder open and its first photo shown."""
    tab.open_folder(folder)
    settle(tab)
    assert tab.navigator.current.photo is not None, tab.message.text()
    return tab


def press(qtbot, button):
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def press_answer(qtbot, tab, text):
    """Press the button of an answer to the question that is shown."""
    (button,) = (button for button in tab.question.findChildren(QPushButton) if button.text() == text)
    press(qtbot, button)


def paint(tab, place=(10, 10)):
    """Paint a dot with the brush."""
    layer = tab.navigator.current.labels
    layer.brush_size = 6
    layer.paint(place, 1)


def current(tab):
    return tab.navigator.current.photo.name


def find(tab, name):
    return next(one for one in tab.photos.list.shown if tab.photos.list[one].name == name)


def go_to(tab, settle, name):
    tab.navigator.go_to(find(tab, name))
    settle(tab)


def stored(folder, name) -> tuple[str, np.ndarray | None]:
    """Status and corrected mask of a photo, read by another project object."""
    project = Project.open(folder / "skinseg-review", read_only=True)
    try:
        photo = project.find(folder / name)
        return photo.status, read_mask(photo.mask_path, SHAPE) if photo.has_mask else None
    finally:
        project.close()


def test_opening_a_folder_creates_a_project_and_changes_no_photo(opened, folder, truths):
    before = {path.name for path in folder.iterdir()}
    assert before == {*(f"photo_{number}.png" for number in range(4)), "skinseg-review"}
    assert "skinseg-review" in opened.message.text()
    assert "not changed" in opened.message.text()
    assert current(opened) == "photo_0.png"
    assert dice(opened.navigator.current.mask(), truths[0]) > 0.9
    assert opened.counts.text() == "<b>0 of 4</b> reviewed"
    assert opened.navigator.current.labels.mode == "paint"
    assert opened.navigator.current.labels.selected_label == 1
    assert opened._viewer.layers.selection.active == opened.navigator.current.labels


def test_everything_is_there_after_closing_and_reopening(qtbot, opened, folder, settle, truths, tmp_path):
    paint(opened)
    painted = opened.navigator.current.mask()
    paint(opened, (100, 150))
    opened.navigator.current.labels.undo()
    press(qtbot, opened.next_button)
    settle(opened)
    assert current(opened) == "photo_1.png"
    press(qtbot, opened.accept_button)
    settle(opened)
    assert current(opened) == "photo_2.png"
    opened.close_project()
    settle(opened)
    assert len(opened._viewer.layers) == 0
    assert opened.project is None

    opened.open_folder(folder)
    settle(opened)
    assert current(opened) == "photo_2.png"
    assert opened.counts.text() == "<b>1 of 4</b> reviewed", "the correction of photo_0 was not accepted"
    cell = opened.photos.index(opened.photos.list.row(find(opened, "photo_0.png")), 2)
    assert opened.photos.data(cell, Qt.ItemDataRole.DisplayRole).startswith("not finished")
    status, mask = stored(folder, "photo_0.png")
    assert status == "corrected"
    np.testing.assert_array_equal(mask, painted)
    status, mask = stored(folder, "photo_1.png")
    assert status == "accepted"
    assert dice(mask, truths[1]) > 0.9
    go_to(opened, settle, "photo_0.png")
    np.testing.assert_array_equal(opened.navigator.current.mask(), painted)
    press(qtbot, opened.accept_button)
    settle(opened)
    opened.export(tmp_path / "export")
    settle(opened)
    assert f"2 masks are in {tmp_path / 'export'}" in opened.message.text()
    np.testing.assert_array_equal(read_mask(tmp_path / "export/masks/photo_0_segmentation.png"), painted)


def test_a_stroke_is_saved_automatically(qtbot, opened, folder):
    paint(opened)
    assert opened.saved.text() == "Saving…"
    qtbot.waitUntil(lambda: stored(folder, "photo_0.png")[0] == "corrected", timeout=60_000)
    np.testing.assert_array_equal(stored(folder, "photo_0.png")[1], opened.navigator.current.mask())
    qtbot.waitUntil(lambda: opened.saved.text().startswith("Saved "), timeout=60_000)


def test_continuous_painting_is_saved(qtbot, opened, folder):
    columns = itertools.cycle(range(10, 150))

    def paint_until_saved():
        paint(opened, (10, next(columns)))
        return stored(folder, "photo_0.png")[0] == "corrected"

    qtbot.waitUntil(paint_until_saved, timeout=60_000)


def test_an_undo_is_saved(opened, folder, settle):
    paint(opened)
    settle(opened)
    assert stored(folder, "photo_0.png")[0] == "corrected"
    opened.navigator.current.labels.undo()
    settle(opened)
    assert stored(folder, "photo_0.png") == ("predicted", None)


def test_undo_does_not_reach_into_another_photo(qtbot, opened, settle):
    paint(opened)
    settle(opened)
    press(qtbot, opened.next_button)
    settle(opened)
    layer, before = opened.navigator.current.labels, opened.navigator.current.mask()
    layer.undo()
    np.testing.assert_array_equal(opened.navigator.current.mask(), before)
    paint(opened)
    layer.undo()
    layer.redo()
    layer.undo()
    layer.undo()
    np.testing.assert_array_equal(opened.navigator.current.mask(), before)
    assert layer.mode == "paint"
    assert layer.editable


def test_next_and_previous_keep_the_strokes(qtbot, opened, settle):
    paint(opened)
    painted = opened.navigator.current.mask()
    for button, name in ((opened.next_button, "photo_1.png"), (opened.previous_button, "photo_0.png")):
        press(qtbot, button)
        settle(opened)
        assert current(opened) == name
    np.testing.assert_array_equal(opened.navigator.current.mask(), painted)


def test_going_to_another_photo_counts_as_activity_of_the_user(qtbot, opened, settle):
    activity = opened._session.activity
    activity._last_action = -math.inf
    press(qtbot, opened.next_button)
    settle(opened)
    assert activity.is_recent()


def test_a_prefetched_photo_is_shown_at_once(qtbot, opened, settle):
    press(qtbot, opened.next_button)
    assert current(opened) == "photo_1.png"  # without waiting for any event


def test_clicking_a_row_saves_and_shows_its_photo(qtbot, opened, folder, settle):
    paint(opened)
    opened.table.clicked.emit(opened.photos.index(2, 1))
    settle(opened)
    assert current(opened) == "photo_2.png"
    assert stored(folder, "photo_0.png")[0] == "corrected"
    assert opened.table.selectionModel().currentIndex().row() == 2


def test_arrows_and_enter_choose_a_photo(qtbot, opened, settle):
    for key in (Qt.Key.Key_Down, Qt.Key.Key_Down, Qt.Key.Key_W):  # W is no key of the table
        qtbot.keyClick(opened.table, key)
    assert current(opened) == "photo_0.png"
    qtbot.keyClick(opened.table, Qt.Key.Key_Return)
    settle(opened)
    assert current(opened) == "photo_2.png"


def test_the_photo_stays_if_saving_fails(qtbot, opened, folder, settle):
    masks = folder / "skinseg-review" / "masks"
    masks.rename(folder / "away")
    masks.write_text("in the way")
    paint(opened)
    press(qtbot, opened.next_button)
    settle(opened)
    assert current(opened) == "photo_0.png"
    assert opened.saved.text() == "NOT SAVED"
    assert "masks" in opened.message.text()
    assert not opened.retry_button.isHidden()
    assert not opened.elsewhere_button.isHidden()
    opened.table.clicked.emit(opened.photos.index(2, 1))
    settle(opened)
    assert current(opened) == "photo_0.png"
    assert opened.table.selectionModel().currentIndex().row() == 0

    masks.unlink()
    (folder / "away").rename(masks)
    press(qtbot, opened.retry_button)
    settle(opened)
    assert opened.saved.text().startswith("Saved ")
    assert opened.retry_button.isHidden()
    assert not opened.message.text()
    np.testing.assert_array_equal(stored(folder, "photo_0.png")[1], opened.navigator.current.mask())
    press(qtbot, opened.next_button)
    settle(opened)
    assert current(opened) == "photo_1.png"


def test_the_photo_can_be_left_after_saving_elsewhere(qtbot, opened, folder, settle, tmp_path):
    masks = folder / "skinseg-review" / "masks"
    masks.rename(folder / "away")
    masks.write_text("in the way")
    paint(opened)
    painted = opened.navigator.current.mask()
    settle(opened)
    assert opened.saved.text() == "NOT SAVED"
    opened.navigator.autosave.save_elsewhere(tmp_path / "mine.png")
    settle(opened)
    np.testing.assert_array_equal(read_mask(tmp_path / "mine.png"), painted)
    assert "mine.png" in opened.saved.text()
    masks.unlink()
    (folder / "away").rename(masks)
    press(qtbot, opened.next_button)
    settle(opened)
    assert current(opened) == "photo_1.png"


def test_a_failed_acceptance_is_not_shown_as_accepted(qtbot, opened, folder, settle):
    masks = folder / "skinseg-review" / "masks"
    masks.rename(folder / "away")
    masks.write_text("in the way")
    press(qtbot, opened.accept_button)
    settle(opened)
    assert current(opened) == "photo_0.png"
    assert opened.saved.text() == "NOT SAVED"
    masks.unlink()
    (folder / "away").rename(masks)
    press(qtbot, opened.retry_button)
    settle(opened)
    assert stored(folder, "photo_0.png")[0] == "accepted"
    assert current(opened) == "photo_1.png"


def test_a_prediction_does_not_replace_strokes(qtbot, tab, folder, settle, truths):
    lock = tab.navigator.prefetch._network_lock
    lock.acquire()  # the prediction waits
    tab.open_folder(folder)
    qtbot.waitUntil(lambda: tab.navigator.current.photo is not None, timeout=60_000)
    assert tab.navigator.current.loaded.awaits_prediction
    assert not tab.navigator.current.mask().any()
    press(qtbot, tab.accept_button)
    assert "has not finished photo_0.png" in tab.message.text()
    paint(tab)
    painted = tab.navigator.current.mask()
    lock.release()
    settle(tab)
    np.testing.assert_array_equal(tab.navigator.current.mask(), painted)
    assert stored(folder, "photo_0.png")[0] == "corrected"
    press(qtbot, tab.prediction_button)
    settle(tab)
    assert dice(tab.navigator.current.mask(), truths[0]) > 0.9
    tab.navigator.current.labels.undo()
    np.testing.assert_array_equal(tab.navigator.current.mask(), painted)


def test_a_decision_shows_the_next_photo_and_can_be_taken_back(qtbot, opened, folder, settle):
    press(qtbot, opened.skip_button)
    settle(opened)
    press(qtbot, opened.issue_button)
    opened.note.setText("out of focus")
    qtbot.keyPress(opened.note, Qt.Key.Key_Return)
    settle(opened)
    assert current(opened) == "photo_2.png"
    assert stored(folder, "photo_0.png")[0] == "skipped"
    assert stored(folder, "photo_1.png")[0] == "issue"
    assert "out of focus" in opened.photos.data(opened.photos.index(1, 1), Qt.ItemDataRole.ToolTipRole)
    press(qtbot, opened.back_button)
    settle(opened)
    assert current(opened) == "photo_1.png"
    assert stored(folder, "photo_1.png")[0] == "predicted"
    press(qtbot, opened.back_button)
    settle(opened)
    assert current(opened) == "photo_0.png"
    assert opened.counts.text() == "<b>0 of 4</b> reviewed"
    press(qtbot, opened.back_button)
    settle(opened)
    assert "no decision" in opened.message.text()


def test_the_end_of_the_list_shows_a_summary(qtbot, opened, settle):
    for _ in range(4):
        press(qtbot, opened.accept_button)
        settle(opened)
    assert "All 4 photos are reviewed: 4 accepted, 0 corrected" in opened.message.text()
    press(qtbot, opened.next_button)
    settle(opened)
    assert "All 4 photos" in opened.message.text()


def test_an_empty_mask_is_accepted_with_a_message(qtbot, opened, folder, settle):
    labels = opened.navigator.current.labels
    labels.data_setitem(np.nonzero(labels.data), 0)
    press(qtbot, opened.accept_button)
    settle(opened)
    assert "without a lesion" in opened.message.text()
    status, mask = stored(folder, "photo_0.png")
    assert status == "corrected"
    assert not mask.any()


def test_the_filter_shows_its_photos_and_their_number(qtbot, opened, settle):
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


def test_after_predict_all_the_least_certain_photo_is_offered(qtbot, tab, folder, spot, settle):
    ground = np.full((*SHAPE, 3), (225, 180, 165), np.uint8)
    ground[40:80, 40:120] = (190, 145, 132)  # a faint spot
    Image.fromarray(ground).save(folder / "photo_9.png")
    tab.open_folder(folder)
    settle(tab)
    press(qtbot, tab.predict_button)
    settle(tab)
    assert current(tab) == "photo_0.png"
    press_answer(qtbot, tab, "Go to least certain")
    settle(tab)
    assert all(photo.predicted_file for photo in tab.photos.list.existing())
    doubts = [tab.photos.list[one].doubt for one in tab.photos.list.shown]
    assert doubts == sorted(doubts, reverse=True)
    assert doubts[0] > doubts[-1]
    reason = tab.photos.data(tab.photos.index(0, 1), Qt.ItemDataRole.ToolTipRole)
    assert "Why here:" in reason
    assert tab.navigator.photo == tab.photos.list.shown[0]


def test_predict_all_can_be_cancelled(qtbot, opened, settle):
    opened.write_to_project("waiting", lambda project: None, lambda _: None)
    press(qtbot, opened.predict_button)
    opened.cancel()
    settle(opened)
    assert opened.cancel_button.isHidden()
    assert opened.progress.isHidden()


def test_a_deleted_photo_is_reported_and_keeps_its_status(qtbot, opened, folder, settle):
    (folder / "photo_3.png").unlink()
    opened.navigator.prefetch.discard(opened.photos.list.shown[3])
    go_to(opened, settle, "photo_3.png")
    assert "photo_3.png is missing" in opened.message.text()
    assert opened.navigator.current.photo is None
    assert stored(folder, "photo_3.png")[0] in ("new", "predicted")
    press(qtbot, opened.previous_button)
    settle(opened)
    assert current(opened) == "photo_0.png"
    assert not opened.message.text()


def test_a_replaced_photo_is_reported_and_keeps_its_mask(qtbot, opened, folder, settle, spot):
    go_to(opened, settle, "photo_3.png")
    press(qtbot, opened.accept_button)
    settle(opened)
    Image.fromarray(spot(60, 80, 10, SHAPE)[0]).save(folder / "photo_3.png")
    opened.navigator.prefetch.discard(next(one for one in opened.photos.list.shown if "photo_3" in one))
    go_to(opened, settle, "photo_3.png")
    assert "another picture" in opened.message.text()
    assert stored(folder, "photo_3.png")[0] == "accepted"


def test_a_project_in_use_names_its_user_and_opens_read_only(qtbot, tab, folder, settle):
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
        assert set(buttons) == {"Open read-only", "Do not open"}  # its process is running
        buttons["Open read-only"].click()
        settle(tab)
        assert current(tab) == "photo_0.png"
        assert "Read only" in tab.message.text()
        assert not tab.accept_button.isEnabled()
        assert not tab.navigator.current.labels.editable
        tab.navigator.accept()
        tab.navigator.skip()
        settle(tab)
        tab.navigator.next()
        settle(tab)
        assert current(tab) == "photo_1.png"
        other.communicate("\n")
    assert stored(folder, "photo_0.png")[0] == "new"


def test_layers_are_removed_after_the_event_that_opens_another_folder(opened, tmp_path, folder, settle, empty_viewer):
    other = tmp_path / "other"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("skinseg-review"))
    opened.tools.refine.switch(True)
    opened.tools.refine.switch(False)
    layers = set(empty_viewer.layers)
    opened.open_folder(other)
    assert set(empty_viewer.layers) == layers, "an event of the canvas may still be handled"
    settle(opened)
    assert opened.project.folder.parent == other
    assert not layers & set(empty_viewer.layers)


def test_repainting_the_table_makes_no_new_pixmaps(qtbot, opened, settle):
    rows = range(len(PLACES))
    thumbnails = [opened.table.model().index(row, 0) for row in rows]
    for index in thumbnails:
        index.data(Qt.ItemDataRole.DecorationRole)  # the first time, it is requested
    settle(opened)
    icons = []
    for _ in range(2):
        for index in thumbnails:
            option = QStyleOptionViewItem()
            opened.table.itemDelegate().initStyleOption(option, index)
            icons.append(option.icon.pixmap(QSize(*SIZE)).cacheKey())
    assert len(set(icons)) == len(rows)


def test_a_closed_project_is_freed(qtbot, opened, settle):
    project = weakref.ref(opened.project)
    opened.close_project()
    settle(opened)

    def is_freed() -> bool:
        gc.collect()
        return project() is None

    qtbot.waitUntil(is_freed, timeout=60_000)


def test_a_recent_folder_opens_from_the_menu(opened, folder, tmp_path, settle):
    (tmp_path / "without project").mkdir()
    update_open_history(str(tmp_path / "without project" / "file"))
    opened.close_project()
    settle(opened)
    opened.menu.aboutToShow.emit()
    entry = opened.menu.recent.actions()[0]
    assert (entry.text(), entry.toolTip()) == ("photos", str(folder))
    entry.trigger()
    settle(opened)
    assert opened.project.folder.parent == folder


def test_no_button_moves_when_tools_and_messages_appear(qtbot, make_napari_viewer, folder, settle):
    viewer = make_napari_viewer(show=True)
    window = viewer.window._qt_window
    window.resize(1366, 740)
    _, widget = viewer.window.add_plugin_dock_widget("napari-skinseg")
    widget.tabs.setCurrentIndex(1)
    panel = widget.panels[1]
    panel.open_folder(folder)
    settle(panel)
    buttons = [panel.accept_button, panel.skip_button, panel.next_button, panel.hide_button, panel.tools.undo_button]

    def places():
        QApplication.processEvents()
        return [button.mapTo(window, QPoint()) for button in buttons]

    before = places()
    press(qtbot, panel.tools.scale.button)
    assert panel.tools.scale.isVisible()
    panel.say("A long message. " * 20)
    assert places() == before
    panel.close_project()
    settle(panel)
    widget.session.close()


def test_a_damaged_project_offers_its_backup(qtbot, opened, folder, settle):
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


def test_a_folder_without_photos_gets_a_message_and_no_project(tab, tmp_path, settle):
    empty = tmp_path / "empty"
    empty.mkdir()
    tab.open_folder(empty)
    settle(tab)
    assert tab.message.text()
    assert "Traceback" not in tab.message.text()
    assert list(empty.iterdir()) == []
    assert tab.project is None


def test_the_blind_sample_hides_the_prediction(qtbot, opened, folder, settle):
    opened.write_to_project("Choosing", lambda project: project.set_blind_sample(1.0), lambda _: opened.reload_list())
    settle(opened)
    press(qtbot, opened.next_button)
    settle(opened)
    if not opened.navigator.current.photo.blind:  # a photo that was shown before is not in the sample
        go_to(opened, settle, "photo_3.png")
    assert opened.navigator.current.photo.blind
    assert not opened.navigator.current.mask().any()
    assert "Blind sample" in opened.message.text()
    assert not opened.prediction_button.isEnabled()
    assert not opened.display_modes["difference"].isEnabled()
    row = opened.photos.list.row(opened.navigator.photo)
    assert "blind" in opened.photos.data(opened.photos.index(row, 2), Qt.ItemDataRole.DisplayRole)
    paint(opened)
    settle(opened)
    assert not opened.prediction_button.isEnabled()  # also after a stroke


def test_removing_the_layers_saves_the_mask(opened, folder, settle):
    paint(opened)
    painted = opened.navigator.current.mask()
    opened._viewer.layers.clear()
    settle(opened)
    np.testing.assert_array_equal(stored(folder, "photo_0.png")[1], painted)
    assert "layers of the photo were removed" in opened.message.text()
    go_to(opened, settle, "photo_0.png")
    np.testing.assert_array_equal(opened.navigator.current.mask(), painted)


def test_closing_the_window_saves_the_last_stroke(opened, folder, settle):
    paint(opened)
    painted = opened.navigator.current.mask()
    opened.showEvent(QShowEvent())  # as in a visible window
    opened._viewer.close()
    np.testing.assert_array_equal(stored(folder, "photo_0.png")[1], painted)


@pytest.mark.parametrize(("answer", "closes"), [("Cancel", False), ("Discard", True)])
def test_a_window_with_an_unsaved_mask_asks_before_it_closes(opened, folder, settle, answer, closes):
    masks = folder / "skinseg-review" / "masks"
    masks.rename(folder / "away")
    masks.write_text("in the way")
    paint(opened)
    opened.showEvent(QShowEvent())
    texts = []

    def answer_box():
        box = QApplication.activeModalWidget()
        if box is None:
            QTimer.singleShot(20, answer_box)
        else:
            texts.append(box.text())
            box.button(getattr(QMessageBox.StandardButton, answer)).click()

    QTimer.singleShot(0, answer_box)
    event = QCloseEvent()
    stopped = opened._close_guard.eventFilter(opened._close_guard.window, event)
    assert "The last strokes are not saved" in texts[0]
    assert stopped != closes
    assert event.isAccepted() == closes
    masks.unlink()
    (folder / "away").rename(masks)


def test_a_deleted_widget_saves_the_last_stroke_and_releases_the_lock(opened, folder, settle):
    paint(opened)
    painted = opened.navigator.current.mask()
    opened._closer()  # the signal `destroyed` calls it
    np.testing.assert_array_equal(stored(folder, "photo_0.png")[1], painted)
    assert not (folder / "skinseg-review" / "skinseg-project.lock").exists()


def test_an_open_layer_is_added_to_the_project(opened, tmp_path, spot, settle):
    path = tmp_path / "single.png"
    rgb, truth = spot(60, 80, 20, SHAPE)
    Image.fromarray(rgb).save(path)
    viewer = opened._viewer
    (layer,) = viewer.open(path, plugin="napari")
    viewer.layers.selection.active = layer
    opened.add_current_layer()
    settle(opened)
    assert current(opened) == "single.png"
    assert opened.counts.text() == "<b>0 of 5</b> reviewed"
    assert dice(opened.navigator.current.mask(), truth) > 0.9


def test_the_scale_is_saved_and_used_for_all_photos(opened, folder, settle):
    opened.tools.scale.scale_set.emit(0.05, ((10.0, 10.0), (10.0, 110.0)), 0.02)
    settle(opened)
    assert opened.navigator.current.photo.mm_per_px == pytest.approx(0.05)
    opened.use_scale_for_all()
    settle(opened)
    assert all(opened.photos.list[one].mm_per_px == pytest.approx(0.05) for one in opened.photos.list.shown)


def test_moved_photos_are_found(opened, folder, tmp_path, settle):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(folder / "photo_2.png", elsewhere / "renamed.png")
    opened.find_moved(elsewhere)
    settle(opened)
    assert "Missing photos found: 1" in opened.message.text()
    opened.navigator.prefetch.discard(opened.photos.list.shown[2])
    go_to(opened, settle, "renamed.png")
    assert current(opened) == "renamed.png"


def test_the_zoom_is_fitted_or_kept(qtbot, opened, settle):
    camera = opened._viewer.scene.camera
    fitted = camera.zoom
    camera.zoom = 3 * fitted
    press(qtbot, opened.next_button)
    assert camera.zoom == pytest.approx(fitted)
    opened.menu.keep_zoom.setChecked(True)
    camera.zoom = 3 * fitted
    press(qtbot, opened.next_button)
    assert camera.zoom == pytest.approx(3 * fitted)


def test_other_layers_are_hidden_during_the_review(tab, folder, settle, spot):
    tab.widget.tabs.setCurrentIndex(tab.widget.panels.index(tab))
    other = tab._viewer.add_image(spot(60, 80, 20, (200, 300))[0], rgb=True)
    hidden = tab._viewer.add_image(spot(60, 80, 20, (200, 300))[0], rgb=True, visible=False)
    tab.open_folder(folder)
    settle(tab)
    assert not other.visible
    tab.close_project()
    settle(tab)
    assert other.visible
    assert not hidden.visible


def test_only_the_current_photo_is_visible_in_the_review(opened, settle, spot):
    opened.widget.tabs.setCurrentIndex(opened.widget.panels.index(opened))
    other = opened._viewer.add_image(spot(60, 80, 20, (200, 300))[0], rgb=True, name="other")
    assert not other.visible
    assert "other" in opened.message.text()
    opened.navigator.set_active(False)  # as for another tab
    assert other.visible
    assert not opened.navigator.current.image.visible
    assert not opened.navigator.current.labels.visible
    later = opened._viewer.add_image(spot(60, 80, 20, (200, 300))[0], rgb=True, name="later")
    assert later.visible
    opened.navigator.set_active(True)
    visible = [layer for layer in opened._viewer.layers if layer.visible]
    assert visible == [opened.navigator.current.image, opened.navigator.current.labels]
    opened.close_project()
    settle(opened)
    assert other.visible
    assert later.visible


def test_a_layer_that_was_removed_meanwhile_is_not_shown_again(opened, empty_viewer):
    opened.tools.refine.switch(True)
    opened.tools.refine.switch(False)
    (markers,) = (layer for layer in empty_viewer.layers if layer.name == "· clicks")
    opened.navigator.set_active(False)
    empty_viewer.layers.remove(markers)
    shown = []
    markers.events.visible.connect(lambda: shown.append(markers.visible))
    opened.navigator.set_active(True)
    assert shown == []


def test_a_finished_project_shows_the_last_photo_and_a_summary(qtbot, opened, folder, settle):
    for _ in range(4):
        press(qtbot, opened.accept_button)
        settle(opened)
    opened.close_project()
    settle(opened)
    opened.open_folder(folder)
    settle(opened)
    assert current(opened) == "photo_3.png"
    assert "All 4 photos are reviewed" in opened.message.text()


def test_every_unreadable_file_is_listed_with_its_reason(qtbot, tab, folder, settle, tmp_path, monkeypatch):
    for number in range(40):
        (folder / f"broken_{number}.jpg").write_bytes(b"no photo")
    tab.open_folder(folder)
    settle(tab)
    assert "40" in tab.question_text.text()
    press_answer(qtbot, tab, "Show unreadable files…")
    (dialog,) = tab.findChildren(UnreadableFiles)
    names = {dialog.table.item(row, 0).text() for row in range(dialog.table.rowCount())}
    assert names == {f"broken_{number}.jpg" for number in range(40)}
    assert all(dialog.table.item(row, 1).text() for row in range(40))
    target = tmp_path / "not there" / "list.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *arguments: (str(target), ""))
    qtbot.mouseClick(dialog.save_button, Qt.MouseButton.LeftButton)
    assert "could not be written" in dialog.message.text()
    target = tmp_path / "list.csv"
    qtbot.mouseClick(dialog.save_button, Qt.MouseButton.LeftButton)
    rows = list(csv.reader(target.read_text(encoding="utf-8").splitlines()))
    assert rows[0] == ["file", "reason"]
    assert {Path(row[0]).name for row in rows[1:]} == names
    assert all(row[1] for row in rows[1:])
    dialog.close()


def test_only_visible_rows_of_ten_thousand_photos_are_read(opened, settle):
    project = opened.project
    with sqlite3.connect(project.folder / "skinseg-project.sqlite") as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(photos)") if row[1] not in ("number", "id")]
        for number in range(9_996):
            connection.execute(
                f"INSERT INTO photos (id, {', '.join(columns)}) "
                f"SELECT 'copy_{number}', {', '.join(columns)} FROM photos WHERE number = 1"
            )
    connection.close()
    opened.reload_list(keep_order=False)
    settle(opened)
    texts = []
    data = opened.photos.data
    opened.photos.data = lambda index, role=0: texts.append(index.row()) or data(index, role)
    opened.filter.setCurrentIndex(2)
    opened.filter.activated.emit(2)
    opened.filter.setCurrentIndex(0)
    opened.filter.activated.emit(0)
    opened.table.resize(300, 400)
    opened.table.grab()
    del opened.photos.data
    assert opened.photos.rowCount() == 10_000
    assert 0 < len(set(texts)) < 40


def test_the_segment_tab_does_not_offer_the_reviewed_photo(opened):
    segment = opened.widget.panels[0]
    assert len(segment.photo.choices) == 0


def test_a_stroke_ends_when_its_photo_is_left(qtbot, opened, settle):
    layer = opened.navigator.current.labels
    before = [opened.navigator.prefetch.get(one).mask.copy() for one in opened.photos.list.shown[:2]]
    layer._begin_stroke()  # the mouse button is pressed
    paint(opened)
    opened.navigator.next()
    settle(opened)
    layer._commit_stroke()  # and released
    assert current(opened) == "photo_1.png"
    layer.undo()
    np.testing.assert_array_equal(opened.navigator.current.mask(), before[1])
    opened.navigator.previous()
    settle(opened)
    assert opened.navigator.current.mask()[10, 10]
    assert (opened.navigator.current.mask() != before[0]).any()


def test_closing_the_dock_saves_and_releases_the_project(empty_viewer, qtbot, folder, settle):
    viewer = empty_viewer
    dock, widget = viewer.window.add_plugin_dock_widget("napari-skinseg")
    (panel,) = (panel for panel in widget.panels if panel.title == "Review")
    panel.open_folder(folder)
    settle(panel)
    paint(panel)
    painted = panel.navigator.current.mask()
    lock = folder / "skinseg-review" / "skinseg-project.lock"
    assert lock.exists()
    panel.showEvent(QShowEvent())  # as in a visible window
    viewer.window.remove_dock_widget(dock)
    QApplication.processEvents()
    settle(panel)
    assert not lock.exists()
    assert len(viewer.layers) == 0
    assert not viewer.keymap
    np.testing.assert_array_equal(stored(folder, "photo_0.png")[1], painted)
    widget.deleteLater()


def test_a_photo_without_a_predicted_lesion_is_the_least_certain(qtbot, tab, folder, settle, spot, models_here):
    finder = models_here / "models" / "spot-finder"
    write_spec(finder, replace(read_spec(finder), no_lesion=0.1))  # confidence of plain skin: 0.00, of spots: 0.5
    Image.fromarray(spot(-100, 0, 10, SHAPE)[0]).save(folder / "skin.png")
    tab.open_folder(folder)
    settle(tab)
    press(qtbot, tab.predict_button)
    settle(tab)
    press_answer(qtbot, tab, "Go to least certain")
    settle(tab)
    assert current(tab) == "skin.png"
    assert not tab.navigator.current.mask().any()
    assert tab.name.text() == "Model: no lesion – skin.png"
    cell = tab.photos.index(tab.photos.list.row(tab.navigator.photo), 2)
    assert tab.photos.data(cell, Qt.ItemDataRole.DisplayRole) == "predicted\nno lesion"
    go_to(tab, settle, "photo_0.png")
    assert tab.name.text() == "photo_0.png"


def test_predict_all_replaces_untouched_masks_of_another_model(qtbot, opened, folder, settle, blind_model):
    press(qtbot, opened.predict_button)
    settle(opened)
    go_to(opened, settle, "photo_1.png")
    paint(opened)
    press(qtbot, opened.accept_button)
    settle(opened)
    mask = stored(folder, "photo_1.png")[1]
    opened.menu.model_chosen.emit(blind_model)
    assert "3 photos that you have not worked on have a mask of another model" in opened.message.text()
    press(qtbot, opened.predict_button)
    settle(opened)
    photos = {photo.name: photo for photo in opened.photos.list.existing()}
    assert photos["photo_1.png"].model == "spot-finder"
    np.testing.assert_array_equal(stored(folder, "photo_1.png")[1], mask)
    assert {photos[f"photo_{number}.png"].model for number in (0, 2, 3)} == {blind_model}
    assert not opened.navigator.current.mask().any()  # the photo in view shows its new mask
    press(qtbot, opened.predict_button)  # nothing is left to predict
    settle(opened)
    assert "All photos have a prediction" in opened.question_text.text()
