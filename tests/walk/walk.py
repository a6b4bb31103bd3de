"""Walk through the tour of README.md in a real napari window, with phantoms and the bundled model.

    xvfb-run -a python tests/walk/walk.py FOLDER [--theme light] [--size 1366x768] [--last save] [--keys-only]

Writes photos, results and a screenshot of each step into FOLDER. The environment variable QT_SCALE_FACTOR=2 shows the
window as on a screen with twice the pixels per inch. Ends with an exception at the first step that does not work.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hands import CTRL, FINE_TUNE, REVIEW, RIGHT, Hands, use_own_folders
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_skinseg.models import store
from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.pixels.metrics import dice
from napari_skinseg.project.project import Project

SHAPE = (300, 400)
SEEDS = (3, 5, 7, 8, 11, 12)


def walk(folder: Path, theme: str, size: tuple[int, int], last: str, *, keys_only: bool) -> None:
    """Do the tour up to the step `last`; raise at the first step that does not work."""
    masks = write_photos(folder / "photos")
    hands = Hands(theme, size, folder / "screenshots", keys_only=keys_only)
    for step in STEPS[: [step.__name__ for step in STEPS].index(last) + 1]:
        start = time.monotonic()
        step(hands, folder, masks)
        hands.picture(step.__name__)
        print(
            f"{step.__name__}: {time.monotonic() - start:.1f} s, {time.process_time():.1f} s of processor", flush=True
        )
    hands.close()
    assert hands.problems == [], hands.problems


def write_photos(folder: Path) -> dict[str, np.ndarray]:
    """Write phantoms; return their true masks by the name of the file."""
    folder.mkdir(parents=True)
    masks = {}
    for number, seed in enumerate(SEEDS):
        made = phantom(seed, shape=SHAPE)
        Image.fromarray(made.image).save(folder / f"lesion_{number}.png")
        masks[f"lesion_{number}.png"] = made.mask
    return masks


def segment(hands: Hands, folder: Path, masks: dict[str, np.ndarray]) -> None:
    hands.viewer.open(folder / "photos" / "lesion_0.png", plugin="napari")
    hands.press("Segment")
    hands.until(lambda: len(hands.viewer.layers) > 1, "no mask appears")
    overlap = dice(hands.mask().data > 0, masks["lesion_0.png"])
    assert overlap > 0.8, f"Dice {overlap:.2f}"
    assert not hands.segment.card.isHidden()
    # The threshold by keys, and undo.
    before = hands.mask().data.copy()
    hands.type_threshold("0.9")
    assert not np.array_equal(hands.mask().data, before), "the threshold changes the outline"
    hands.key(Qt.Key.Key_Z, CTRL)
    np.testing.assert_array_equal(hands.mask().data, before)


def refine(hands: Hands, folder: Path, masks: dict[str, np.ndarray]) -> None:
    skin, lesion = place_beside(hands.mask().data > 0), place_inside(hands.mask().data > 0)
    hands.key(Qt.Key.Key_K)
    hands.click(skin)
    assert hands.mask().data[skin] == 1, "a left click includes"
    hands.click(lesion, RIGHT)
    assert hands.mask().data[lesion] == 0, "a right click excludes"
    hands.picture("refine-clicks")
    for _ in range(2):
        hands.key(Qt.Key.Key_Z, CTRL)
    assert hands.mask().data[lesion] == 1
    hands.key(Qt.Key.Key_K)


def brush(hands: Hands, folder: Path, masks: dict[str, np.ndarray]) -> None:
    hands.viewer.layers.selection.active = hands.mask()
    skin = place_beside(hands.mask().data > 0)
    hands.key(Qt.Key.Key_P)
    stroke(hands, skin)


def stroke(hands: Hands, place: tuple[int, int]) -> None:
    """Paint from one pixel a short way down."""
    hands.mask().selected_label, hands.mask().brush_size = 1, 12
    hands.until(lambda: hands.mask().mode == "paint", "P chooses the brush")
    hands.drag(place, (place[0] + 6, place[1]), (place[0] + 12, place[1]))
    assert hands.mask().data[place] == 1, "the brush paints"


def save(hands: Hands, folder: Path, masks: dict[str, np.ndarray]) -> None:
    shown = hands.mask().data > 0
    timer = hands.answering()
    hands.press("Save mask")
    timer.stop()
    saved = folder / "photos" / "lesion_0_segmentation.png"
    hands.until(saved.exists, "the mask is saved beside its photo")
    hands.until(lambda: any("saved" in text for text in hands.messages()), "a message says where the mask is")
    np.testing.assert_array_equal(read_mask(saved, SHAPE), shown)
    record = json.loads(saved.with_suffix(".json").read_text(encoding="utf-8"))["napari_skinseg"]
    assert (record["model"], record["status"]) == ("lesion-unet", "corrected"), record
    assert record["measurements"]["area_percent"] == pytest.approx(100 * largest_piece(shown).mean(), rel=1e-3)
    saved.unlink()
    saved.with_suffix(".json").unlink()  # so that Review begins without masks


def review(hands: Hands, folder: Path, masks: dict[str, np.ndarray]) -> None:
    hands.tab(REVIEW)
    timer = hands.answering(folder / "photos")
    hands.press("Open folder")
    timer.stop()
    hands.until(lambda: hands.review.navigator.current.photo is not None, "the first photo opens")
    hands.until(lambda: hands.review.navigator.current.labels.data.max() != 0, "the model outlines the lesion")
    hands.wait()
    hands.picture("review-opened")

    def name() -> str:
        return hands.review.navigator.current.photo.name

    def decide(key: Qt.Key) -> str:
        before = name()
        hands.key(key)
        hands.until(lambda: hands.review.navigator.current.photo is None or name() != before, f"{key} goes on")
        hands.wait()
        return before

    # Correct two photos with the brush, one with a click; accept, skip, and note an issue.
    corrected = []
    for _ in range(2):
        hands.key(Qt.Key.Key_P)
        stroke(hands, place_beside(hands.mask().data > 0))
        hands.until(lambda: hands.review.saved.text().startswith("Saved"), "the stroke is saved")
        corrected.append(decide(Qt.Key.Key_W))
    hands.key(Qt.Key.Key_K)
    skin = place_beside(hands.mask().data > 0)
    hands.click(skin)
    assert hands.mask().data[skin] == 1
    hands.picture("review-refine")
    hands.key(Qt.Key.Key_K)
    corrected.append(decide(Qt.Key.Key_W))
    accepted = [decide(Qt.Key.Key_W)]
    skipped = decide(Qt.Key.Key_Q)
    hands.key(Qt.Key.Key_U)
    note = hands.review.note
    QTest.keyClicks(note, "blurred")
    issue = name()
    hands.key(Qt.Key.Key_Return, on=note)
    hands.until(lambda: "6 of 6" in hands.review.counts.text(), "all photos are reviewed")
    hands.wait()
    with Project.open(folder / "photos" / "skinseg-review", read_only=True) as project:
        statuses = {photo.name: photo.status for photo in project.photos()}
        notes = [photo.note for photo in project.photos() if photo.note]
    expected = dict.fromkeys(corrected, "corrected") | dict.fromkeys(accepted, "accepted")
    assert statuses == expected | {skipped: "skipped", issue: "issue"}, statuses
    assert notes == ["blurred"]


def fine_tune(hands: Hands, folder: Path, masks: dict[str, np.ndarray]) -> None:
    models = [model.name for model in store.list_models()]
    hands.tab(FINE_TUNE)
    training = hands.widget.session.training
    hands.until(lambda: not training.is_busy, "the corrections are read")
    assert "3 corrected" in hands.fine_tune.evidence.text(), hands.fine_tune.evidence.text()
    # Three corrections are enough to match the border, and too few to train.
    hands.press("2. Fine-tune")
    hands.until(lambda: any("Correct at least" in text for text in hands.messages()), "too few corrections are refused")
    (problem,) = hands.problems
    assert "Correct at least" in problem
    hands.problems.clear()
    hands.press("1. Match my border")
    hands.until(lambda: not training.is_busy, "the border is fitted")
    assert hands.fine_tune.border.isVisible(), hands.messages()
    hands.picture("fine-tune")
    hands.press("Keep base")
    hands.until(lambda: any("The base is kept" in text for text in hands.messages()), "the base is kept")
    hands.until(lambda: not training.is_busy, "the run is deleted")
    assert [model.name for model in store.list_models()] == models


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece of the mask."""
    from skimage.measure import label

    pieces = label(mask)
    return pieces == np.bincount(pieces.ravel())[1:].argmax() + 1


def place_beside(mask: np.ndarray) -> tuple[int, int]:
    """The pixel (row, column) outside the mask that is farthest from it, and not near the frame."""
    from scipy.ndimage import distance_transform_edt

    far = distance_transform_edt(~mask)
    far[:30], far[-30:], far[:, :30], far[:, -30:] = 0, 0, 0, 0
    row, column = np.unravel_index(far.argmax(), mask.shape)
    return int(row), int(column)


def place_inside(mask: np.ndarray) -> tuple[int, int]:
    """The pixel (row, column) of the mask that is farthest from its border."""
    from scipy.ndimage import distance_transform_edt

    row, column = np.unravel_index(distance_transform_edt(mask).argmax(), mask.shape)
    return int(row), int(column)


STEPS = (segment, refine, brush, save, review, fine_tune)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--theme", default="dark", choices=["dark", "light"])
    parser.add_argument("--size", default="1366x768")
    parser.add_argument("--last", default="fine_tune", choices=[step.__name__ for step in STEPS])
    parser.add_argument("--keys-only", action="store_true")
    arguments = parser.parse_args()
    use_own_folders(arguments.folder / "home")
    width, height = map(int, arguments.size.split("x"))
    walk(arguments.folder, arguments.theme, (width, height), arguments.last, keys_only=arguments.keys_only)
    sys.stdout.flush()
