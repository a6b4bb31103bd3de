"""The Fine-tune tab in a real viewer: corrections, training of a small network, and the store of models."""

from collections.abc import Iterator

import numpy as np
import pytest
from napari.utils._proxies import PublicOnlyProxy
from napari.utils.notifications import notification_manager
from PIL import Image
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QMessageBox
from scipy.ndimage import binary_dilation

from napari_skinseg.finetuning.evidence import collect
from napari_skinseg.finetuning.finetune import fine_tune as fine_tune_directly
from napari_skinseg.finetuning.options import FineTuneOptions
from napari_skinseg.finetuning.runs import choose_run_folder
from napari_skinseg.finetuning.verdict import ComparedPhoto
from napari_skinseg.models import store
from napari_skinseg.pixels.mask import write_mask
from napari_skinseg.pixels.metrics import dice
from napari_skinseg.plugin.background import Background, RemainingTime
from napari_skinseg.plugin.finetune.comparison_strip import BASE, CANDIDATE, YOURS, ComparisonStrip
from napari_skinseg.training.checkpoint import CHECKPOINT

SHAPE = (96, 128)
PLACES = [(40, 50, 20), (50, 70, 26), (45, 60, 16), (52, 66, 22), (44, 76, 18), (48, 58, 24)]
QUICK = FineTuneOptions(passes=12, learning_rate=0.02, folds=2)
IDLE = FineTuneOptions(passes=1, learning_rate=1e-6, folds=2)
SHORT = FineTuneOptions(passes=2, folds=2)
ENDLESS = FineTuneOptions(passes=1000, folds=6)  # takes minutes on any computer, so that it does not end during a test


@pytest.fixture
def wide(spot):
    """Photos of dark spots, with masks that are four pixels wider than the spots."""

    def draw(place):
        image, truth = spot(*place, SHAPE)
        return image, binary_dilation(truth, iterations=4)

    return draw


@pytest.fixture
def folder(tmp_path, wide):
    """Photos with masks beside them."""
    folder = tmp_path / "clinic"
    folder.mkdir()
    for number, place in enumerate(PLACES):
        image, mask = wide(place)
        Image.fromarray(image).save(folder / f"photo_{number}.png")
        write_mask(folder / f"photo_{number}_segmentation.png", mask)
    return folder


@pytest.fixture
def widget(shown_viewer) -> Iterator[object]:
    """The widget, opened as the Plugins menu does."""
    viewer = PublicOnlyProxy(shown_viewer)
    _, widget = viewer.window.add_plugin_dock_widget("napari-skinseg")
    widget.viewer = viewer
    yield widget
    widget.session.close()
    QApplication.processEvents()


@pytest.fixture
def panels(widget):
    return {panel.title: panel for panel in widget.panels}


@pytest.fixture
def tab(widget, panels):
    """The Fine-tune tab, shown."""
    widget.tabs.setCurrentIndex(widget.panels.index(panels["Fine-tune"]))
    return panels["Fine-tune"]


@pytest.fixture
def settle(qtbot, widget):
    """Wait until nothing runs."""

    def wait(timeout: int = 300_000) -> None:
        session = widget.session
        for _ in range(3):  # a job that ends may start another one
            QApplication.processEvents()
            qtbot.waitUntil(lambda: not session.training.is_busy and not session.background.is_busy, timeout=timeout)

    return wait


@pytest.fixture
def notified() -> Iterator[list[str]]:
    """The notifications of napari."""
    messages: list[str] = []

    def take(notification):
        messages.append(notification.message)

    notification_manager.notification_ready.connect(take)
    yield messages
    notification_manager.notification_ready.disconnect(take)


def press(qtbot, button):
    assert button.isEnabled()
    assert not button.isHidden()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def answer(button):
    """Press `button` in the next question; return a list that gets the text of the question."""
    asked = []

    def press_it():
        box = QApplication.activeModalWidget()
        if box is None:
            QTimer.singleShot(20, press_it)
            return
        asked.append(box.text())
        box.button(button).click()

    QTimer.singleShot(0, press_it)
    return asked


def fine_tune(qtbot, tab, settle, folder, options):
    tab.use_folder(folder)
    settle()
    tab.options.show_value(options)
    press(qtbot, tab.start_button)
    settle()


@pytest.fixture
def learning(qtbot, tab, settle, folder):
    """The tab with a run that has finished some passes and is far from its end."""
    tab.use_folder(folder)
    settle()
    tab.options.show_value(ENDLESS)
    press(qtbot, tab.start_button)
    qtbot.waitUntil(lambda: "left" in tab.progress.format(), timeout=300_000)
    return tab


def correct(qtbot, review, wide):
    """Draw the wide mask on the current photo, and accept it."""
    layer, mask = review.navigator.current.labels, wide(PLACES[int(review.navigator.current.photo.name[6])])[1]
    differing = np.nonzero((layer.data > 0) != mask)
    layer.data_setitem(differing, mask[differing].astype(np.uint8))
    press(qtbot, review.accept_button)


def test_corrections_lead_to_an_adopted_model_that_can_be_reverted(qtbot, widget, panels, tab, settle, tmp_path, wide):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, place in enumerate(PLACES):
        Image.fromarray(wide(place)[0]).save(folder / f"photo_{number}.png")
    review, segment = panels["Review"], panels["Segment"]
    widget.tabs.setCurrentIndex(widget.panels.index(review))
    review.open_folder(folder)
    qtbot.waitUntil(lambda: review.navigator.current.photo is not None, timeout=300_000)
    settle()
    for done in range(1, len(PLACES) + 1):
        correct(qtbot, review, wide)
        qtbot.waitUntil(lambda words=f"<b>{done} of 6</b>": words in review.counts.text(), timeout=100_000)
        settle()

    widget.tabs.setCurrentIndex(widget.panels.index(tab))
    settle()
    assert tab.source.currentText() == "photos (in Review)"
    assert tab.evidence.text() == "6 corrected, 0 accepted, judged in 4 parts."
    tab.options.show_value(QUICK)
    assert tab.evidence.text() == "6 corrected, 0 accepted, judged in 2 parts."
    press(qtbot, tab.border_button)
    settle()
    assert tab.border.isVisible(), tab.message.text()
    assert tab.verdict.isHidden()
    assert tab.border.sentence.text().startswith("Your border is wider than that of the model: Dice 0.")
    assert tab.border.strip.list.count() == 6
    press(qtbot, tab.border.adopt_button)
    settle()
    assert store.default_name() == segment.model.currentText() == review.model == "spot-finder-border"
    assert tab.off_button.isVisible()
    press(qtbot, tab.off_button)
    settle()
    assert store.default_name() == segment.model.currentText() == "spot-finder"
    assert tab.off_button.isHidden()

    press(qtbot, tab.start_button)
    qtbot.waitUntil(lambda: not tab.curve.isHidden() and not tab.curve.pixmap().isNull(), timeout=300_000)
    settle()
    assert tab.border.isVisible(), tab.message.text()
    assert tab.verdict.isVisible()
    assert len(tab.curve.dices) == 2
    assert "6 photos" in tab.verdict.sentence.text()
    first, matched = (float(cell.text()) for cell in tab.border.cells["Dice"])
    below, new = (float(cell.text()) for cell in tab.verdict.cells["Dice"])
    assert first < matched == below
    assert new > first
    assert tab.verdict.names[0].text() == "<b>your border</b>"
    assert tab.verdict.strip.list.count() == 6
    assert store.default_name() == "spot-finder"

    answer(QMessageBox.StandardButton.Yes) if "anyway" in tab.verdict.adopt_button.text() else None
    press(qtbot, tab.verdict.adopt_button)
    settle()
    assert store.default_name() == segment.model.currentText() == review.model == "spot-finder-tuned"
    assert tab.verdict.isHidden()
    image, mask = wide((50, 60, 21))
    widget.viewer.add_image(image, rgb=True, name="next patient")
    press(qtbot, segment.segment_button)
    settle()
    drawn = widget.viewer.layers["next patient_segmentation"]
    assert drawn.metadata["napari_skinseg"]["model"] == "spot-finder-tuned"
    as_the_clinic = dice(drawn.data > 0, mask)

    press(qtbot, tab.history.buttons["spot-finder-tuned"])
    settle()
    assert store.default_name() == segment.model.currentText() == "spot-finder"
    press(qtbot, segment.segment_button)
    settle()
    assert dice(drawn.data > 0, mask) < as_the_clinic
    assert tab.history.buttons["spot-finder-tuned"].text() == "Use"


@pytest.mark.slow
def test_a_candidate_that_is_not_better_is_adopted_only_after_a_question(qtbot, tab, settle, folder, models_here):
    fine_tune(qtbot, tab, settle, folder, IDLE)
    assert tab.verdict.isVisible(), tab.message.text()
    assert "Keep the base" in tab.verdict.sentence.text()
    assert tab.verdict.adopt_button.text() == "Adopt anyway…"
    assert "bold" not in tab.verdict.adopt_button.styleSheet()
    assert ("bold" in tab.keep_button.styleSheet()) != ("bold" in tab.border.adopt_button.styleSheet())
    asked = answer(QMessageBox.StandardButton.No)
    press(qtbot, tab.verdict.adopt_button)
    settle()
    assert tab.verdict.sentence.text() in asked[0]
    assert [model.name for model in store.list_models() if model.origin == "user"] == ["spot-finder"]
    press(qtbot, tab.keep_button)
    settle()
    assert tab.verdict.isHidden()
    assert store.default_name() == "spot-finder"
    (run,) = (models_here / "runs").glob("*/*")
    assert {path.name for path in run.iterdir()} == {"log.csv", "log.json", "curve.png", "verdict.json"}


def test_a_held_out_photo_is_enlarged_with_three_outlines(qtbot, tmp_path, spot):
    background, compared = Background(), []
    strip = ComparisonStrip(background)
    qtbot.addWidget(strip)
    for number, gain in enumerate((0.01, 0.2, -0.1)):
        image, mask = spot(*PLACES[number], SHAPE)
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        paths = [tmp_path / f"{number}_{who}.png" for who in ("person", "base", "candidate")]
        for path, wider in zip(paths, (6, 1, 12), strict=True):
            write_mask(path, binary_dilation(mask, iterations=wider)[:: 1 + number])  # masks of models have other sizes
        compared.append(ComparedPhoto(
            "", tmp_path / f"{number}.png", paths[0], "corrected", 0.7, 0.7 + gain, False, False, *paths[1:]
        ))  # fmt: skip
    strip.show_cases(compared)
    shown = [strip.list.item(row) for row in range(3)]
    assert [item.text() for item in shown] == ["0.70 → 0.90", "0.70 → 0.60", "0.70 → 0.71"]
    blank = [item.icon().cacheKey() for item in shown]
    qtbot.waitUntil(lambda: not background.is_busy, timeout=60_000)
    assert not {item.icon().cacheKey() for item in shown} & set(blank)
    strip.list.itemClicked.emit(shown[0])
    qtbot.waitUntil(lambda: strip.large.isVisible(), timeout=60_000)
    picture = strip.large.picture.pixmap().toImage()
    pixels = {picture.pixelColor(x, y).getRgb()[:3] for x in range(picture.width()) for y in range(picture.height())}
    assert {YOURS, BASE, CANDIDATE} <= pixels
    background.close()


def test_other_tabs_work_during_a_run_and_cancel_changes_nothing(
    qtbot, widget, panels, learning, settle, models_here, wide
):
    models = [model.name for model in store.list_models()]
    widget.viewer.add_image(wide(PLACES[0])[0], rgb=True, name="arm")
    press(qtbot, panels["Segment"].segment_button)
    qtbot.waitUntil(lambda: "arm_segmentation" in widget.viewer.layers, timeout=300_000)
    assert learning._run is not None
    press(qtbot, learning.cancel_button)
    assert learning.cancel_button.text() == "Cancelling…"
    settle()
    assert learning._run is None
    assert "Cancelled" in learning.message.text()
    assert learning.start_button.isEnabled()
    assert learning.verdict.isHidden()
    assert store.default_name() == "spot-finder"
    assert [model.name for model in store.list_models()] == models


def test_a_run_is_paused_and_goes_on(qtbot, learning):
    press(qtbot, learning.pause_button)
    assert learning.pause_button.text() == "Resume"
    assert "paused" in learning.progress.format()
    qtbot.wait(500)
    at = learning._last_event
    qtbot.wait(500)
    assert learning._last_event is at
    press(qtbot, learning.pause_button)
    assert learning.pause_button.text() == "Pause"
    qtbot.waitUntil(lambda: learning._last_event is not at, timeout=60_000)
    press(qtbot, learning.pause_button)
    press(qtbot, learning.cancel_button)  # also of a paused run
    qtbot.waitUntil(lambda: learning._run is None, timeout=60_000)


@pytest.mark.slow
def test_closing_the_dock_cancels(qtbot, widget, learning, settle, folder):
    widget.viewer.window.remove_dock_widget(widget)
    settle()
    assert learning._run is None
    assert (choose_run_folder(folder) / CHECKPOINT).exists()  # so that it can be continued


def test_closing_the_widget_waits_for_the_training_to_stop(widget, learning):
    call = learning._run._call
    widget.session.close()
    assert call.ended.is_set()


@pytest.mark.slow
def test_a_killed_run_can_be_continued_from_the_tab(qtbot, tab, settle, folder, models_here):
    run = choose_run_folder(folder)

    def kill(event):  # as in a power cut, without any cleaning up
        if event.stage == "train" and event.values and (run / CHECKPOINT).exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune_directly("spot-finder", collect(folder), SHORT, run, kill)
    tab.use_folder(folder)
    settle()
    assert not tab.question.isHidden()
    assert tab.start_button.isHidden()
    assert f"{run.name[11:13]}:{run.name[13:15]}" in tab.question_text.text()
    press(qtbot, tab.resume_button)
    settle()
    assert tab.verdict.isVisible(), tab.message.text()
    assert tab.options.value().passes == SHORT.passes
    assert [path.name for path in (models_here / "runs").glob("*/*")] == [run.name]


def test_a_source_without_masks_is_reported_in_tab_and_notification(qtbot, tab, settle, tmp_path, spot, notified):
    press(qtbot, tab.start_button)
    assert "open a folder in Review" in tab.message.text()
    Image.fromarray(spot(*PLACES[0], SHAPE)[0]).save(tmp_path / "only.png")
    tab.use_folder(tmp_path)
    settle()
    assert "holds no photo with a mask" in tab.evidence.text()
    press(qtbot, tab.start_button)
    settle()
    assert "holds no photo with a mask" in tab.message.text()
    assert sum("holds no photo with a mask" in sentence for sentence in notified) == 2
    assert not any("unexpected" in sentence for sentence in notified)


def test_one_correction_starts_nothing_and_says_what_is_missing(qtbot, tab, settle, tmp_path, wide):
    image, mask = wide(PLACES[0])
    Image.fromarray(image).save(tmp_path / "only.png")
    write_mask(tmp_path / "only_segmentation.png", mask)
    tab.use_folder(tmp_path)
    settle()
    assert "too few to be judged. 1 corrected photo" in tab.evidence.text()
    assert tab.keep_button.isHidden()  # there is nothing to keep yet
    for button in (tab.border_button, tab.start_button):
        press(qtbot, button)
        assert "Correct at least 3 to match the border, and 4 to fine-tune" in tab.message.text()
        assert tab._run is None


def test_a_wrong_option_or_a_used_name_is_reported_before_the_run(qtbot, tab, settle, folder):
    tab.use_folder(folder)
    settle()
    for options, words in (
        (FineTuneOptions(folds=1), "folds is 1"),
        (FineTuneOptions(name="My Model"), "'My Model' is no model name"),
        (FineTuneOptions(name="spot-finder"), "There is a model named spot-finder already"),
    ):
        tab.options.show_value(options)
        press(qtbot, tab.start_button)
        assert words in tab.message.text()
        assert tab._run is None


def test_the_options_are_those_of_the_dataclass(tab):
    assert tab.options.value() == FineTuneOptions()
    assert all(editor.tooltip for editor in tab.options.editors.values())
    tab.options.show_value(ENDLESS)
    assert tab.options.value() == ENDLESS


def test_the_remaining_time_is_shown_after_the_first_pass():
    now = iter([0.0, 10.0, 100.0])
    remaining = RemainingTime(50, lambda: next(now))
    assert remaining.describe(200, 1000) == ""  # starts at 200, as a resumed run does
    assert remaining.describe(210, 1000) == ""
    assert remaining.describe(300, 1000) == "about 70 s left"
    assert remaining.describe(500, 1000) == "about 3 min left"


@pytest.mark.slow
def test_an_undecided_verdict_is_shown_again_in_the_next_session(qtbot, widget, tab, settle, folder):
    fine_tune(qtbot, tab, settle, folder, IDLE)
    sentence = tab.verdict.sentence.text()
    later = type(tab)(widget.session)
    qtbot.addWidget(later)
    later.use_folder(folder)
    settle()
    assert not later.verdict.isHidden()
    assert later.verdict.sentence.text() == sentence
    assert later.verdict.strip.list.count() == 6
    assert "waits for your decision" in later.message.text()
    later.keep_base()
    settle()
    assert later.verdict.isHidden()
    later.use_folder(folder)
    settle()
    assert later.verdict.isHidden()
