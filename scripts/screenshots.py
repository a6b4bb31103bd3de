"""Make the pictures of docs/images from the real widget, with generated photos; `make screenshots` runs this.

    xvfb-run -a python scripts/screenshots.py [overlays] [segment-tab refine] [review-tab] [finetune-tab]


Needs a screen, which may be a virtual one. Look at each picture before you commit it.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "walk"))

from hands import FINE_TUNE, REVIEW, RIGHT, Hands, use_own_folders  # noqa: E402

from napari_skinseg.finetuning.options import FineTuneOptions  # noqa: E402
from napari_skinseg.phantoms.phantom import phantom  # noqa: E402
from napari_skinseg.pixels.cleaning import grow  # noqa: E402
from napari_skinseg.pixels.mask import draw_overlay, write_mask  # noqa: E402
from napari_skinseg.segmentation.segmenter import Segmenter  # noqa: E402

IMAGES = ROOT / "docs" / "images"
SIZE = (1366, 768)


def main(names: list[str]) -> None:
    """Make the pictures with these names, or all."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        use_own_folders(folder / "home")
        if "overlays" in names or not names:
            make_overlays()
        hands = Hands("dark", SIZE, IMAGES)
        for name, make in PICTURES.items():
            if name in names or not names:
                make(hands, folder / name)
        hands.close()
    print("Problems:", hands.problems or "none")


def make_overlays() -> None:
    """Four phantoms in a row, with the outlines of the model."""
    segmenter = Segmenter("lesion-unet")
    photos = [
        phantom(seed, (300, 400), names).image for seed, names in ((3, ()), (5, ("hair",)), (8, ("ruler",)), (11, ()))
    ]
    row = np.concatenate([draw_overlay(photo, segmenter.segment(photo).mask) for photo in photos], axis=1)
    Image.fromarray(row).save(IMAGES / "overlays.jpg", quality=90)


def make_segment_tab(hands: Hands, folder: Path) -> None:
    """A photo, outlined."""
    hands.viewer.add_image(phantom(16, (450, 600), ("hair",)).image, rgb=True, name="lesion_hair")
    hands.press("Segment")
    hands.viewer.reset_view()
    hands.picture("segment-tab")


def make_refine(hands: Hands, folder: Path) -> None:
    """A wrong mask, and the same mask after a click on lesion and a click on skin, side by side."""
    mask = hands.mask()
    rows, columns = np.indices(mask.data.shape)
    found = np.argwhere(mask.data > 0)
    top, bottom = (tuple(map(int, found[index])) for index in (found[:, 0].argmin(), found[:, 0].argmax()))

    def disc(row: int, column: int, radius: float) -> NDArray[np.bool_]:
        return np.hypot(rows - row, columns - column) < radius

    wrong = mask.data.copy()
    wrong[disc(top[0] + 10, top[1], 70)] = 0
    wrong[disc(bottom[0] + 10, bottom[1] + 60, 60)] = 1
    mask.data = wrong
    hands.wait()
    before = hands.viewer.screenshot(canvas_only=True, flash=False)
    hands.key(Qt.Key.Key_K)
    hands.click((top[0] + 30, top[1]))
    hands.click((bottom[0] + 20, bottom[1] + 80), RIGHT)
    after = hands.viewer.screenshot(canvas_only=True, flash=False)
    hands.key(Qt.Key.Key_K)
    is_photo = before[..., :3].any(axis=(1, 2))  # not the black rows above and below
    before, after = before[is_photo], after[is_photo]
    gap = np.full((len(before), 8, 4), 255, np.uint8)
    Image.fromarray(np.concatenate([before, gap, after], axis=1)[..., :3]).save(IMAGES / "refine.png", optimize=True)


def make_review_tab(hands: Hands, photos: Path) -> None:
    """A folder in which some photos are reviewed."""
    photos.mkdir()
    for number, seed in enumerate((3, 5, 7, 8, 11, 12, 16, 18)):
        Image.fromarray(phantom(seed, (450, 600), ("hair",) * (number % 2)).image).save(
            photos / f"IMG_{210 + number}.jpg"
        )
    hands.tab(REVIEW)
    hands.review.open_folder(photos)
    hands.until(lambda: hands.review.navigator.current.photo is not None, "the folder opens")
    hands.press("Predict all")
    hands.until(lambda: hands.review._job is None, "all photos are predicted")
    hands.wait()
    hands.press("Stay on this photo")
    for key in (Qt.Key.Key_W, Qt.Key.Key_W, Qt.Key.Key_Q, Qt.Key.Key_W):
        hands.key(key)
    hands.viewer.reset_view()
    hands.picture("review-tab")


def make_finetune_tab(hands: Hands, folder: Path) -> None:
    """The verdict of a short run on masks that are wider than those of the model."""
    folder.mkdir()
    for number in range(8):
        made = phantom(number + 20, (225, 300))
        Image.fromarray(made.image).save(folder / f"{number}.png")
        write_mask(folder / f"{number}_segmentation.png", grow(made.mask, 6))
    hands.tab(FINE_TUNE)
    hands.fine_tune.use_folder(folder)
    training = hands.widget.session.training
    hands.until(lambda: not training.is_busy, "the masks are read")
    hands.fine_tune.options.show_value(FineTuneOptions(passes=6, learning_rate=1e-3, folds=2))
    timer = hands.answering()
    QTest.mouseClick(hands.button("2. Fine-tune"), Qt.MouseButton.LeftButton)
    hands.until(lambda: training.is_busy, "the run starts")
    hands.until(lambda: not training.is_busy, "the run ends", seconds=900)
    timer.stop()
    hands.fine_tune.show_verdict_in_view()
    hands.widget.grab().save(str(IMAGES / "finetune-tab.png"))  # without the canvas, which shows nothing of the run


PICTURES = {
    "segment-tab": make_segment_tab,
    "refine": make_refine,
    "review-tab": make_review_tab,
    "finetune-tab": make_finetune_tab,
}

if __name__ == "__main__":
    main(sys.argv[1:])
