"""Segment folder: the photos of a folder are segmented in the background, into a sub-folder."""

import pytest
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.pixels.metrics import dice


@pytest.fixture
def folder(tmp_path, photos, monkeypatch):
    """A folder of three photos and one file that is none, which the dialog returns."""
    chosen = tmp_path / "photos"
    (chosen / "broken.png").write_bytes(b"no photo")
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *arguments: str(chosen))
    return chosen


def test_a_folder_is_segmented_with_progress_and_a_final_sentence(qtbot, panel, settled, folder, photos):
    qtbot.mouseClick(panel.folder_button, Qt.MouseButton.LeftButton)
    assert panel.cancel_button.isEnabled()
    assert not panel.folder_button.isEnabled()
    settled(panel)
    results = folder / "skinseg-results"
    words = panel.message.text()
    assert f"3 of 4 photos have a mask. Masks, overlays and the table are in {results}." in words
    assert "broken.png" in words
    for photo, truth in photos.items():
        mask = results / photo.parent.name / f"{photo.stem}_segmentation.png"
        assert dice(read_mask(mask), truth) > 0.9
    assert (results / "measurements.csv").exists()
    assert panel.folder_button.isEnabled()
    qtbot.mouseClick(panel.folder_button, Qt.MouseButton.LeftButton)
    settled(panel)
    assert "3 of the masks existed before and were kept" in panel.message.text()


def test_cancel_keeps_finished_masks(qtbot, panel, settled, folder, spot):
    for number in range(30):
        Image.fromarray(spot(60, 80, 30, (120, 160))[0]).save(folder / f"{number}.png")
    qtbot.mouseClick(panel.folder_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "of 34" in panel.progress.text(), timeout=60_000)
    qtbot.mouseClick(panel.cancel_button, Qt.MouseButton.LeftButton)
    settled(panel)
    masks = len(list(folder.rglob("*_segmentation.png")))
    assert panel.message.text().startswith("Cancelled; finished masks stay.")
    assert f"{masks} of 34 photos have a mask" in panel.message.text()
    assert masks < 33


def test_a_folder_without_photos_is_named(qtbot, panel, settled, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *arguments: str(tmp_path / "empty"))
    qtbot.mouseClick(panel.folder_button, Qt.MouseButton.LeftButton)
    settled(panel)
    assert "contains no photo" in panel.message.text()
