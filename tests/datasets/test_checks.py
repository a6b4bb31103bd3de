"""Checks of cases: every file that would fail later is named."""

import threading
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from napari_skinseg.datasets.checks import check_cases
from napari_skinseg.datasets.dataset import find_cases
from napari_skinseg.errors import Cancelled
from napari_skinseg.pixels.mask import write_mask

SHAPE = (40, 60)


def lesion(shape=SHAPE):
    mask = np.zeros(shape, dtype=bool)
    mask[10:20, 10:30] = True
    return mask


@pytest.fixture
def folder(tmp_path):
    """Two good pairs; `photo` and `mask` add files with problems."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for name in ("good1", "good2"):
        photo(tmp_path, name)
        mask(tmp_path, name)
    return tmp_path


def photo(folder, name, shape=SHAPE, suffix="jpg"):
    noise = np.random.default_rng(crc32(name.encode())).integers(0, 255, (*shape, 3), dtype=np.uint8)
    path = folder / "images" / f"{name}.{suffix}"
    Image.fromarray(noise).save(path)
    return path


def mask(folder, name, pixels=None):
    path = folder / "masks" / f"{name}_segmentation.png"
    write_mask(path, lesion() if pixels is None else pixels)
    return path


def test_a_folder_without_problems_is_one_line(folder):
    report = check_cases(find_cases(folder))
    assert [case.id for case in report.usable] == ["good1", "good2"]
    assert report.as_text() == "2 pairs of photo and mask, 2 usable."


def test_photos_without_mask_are_named(folder):
    alone = photo(folder, "alone")
    report = check_cases(find_cases(folder))
    assert (report.pairs, report.without_mask) == (2, (alone,))
    assert "1 photo without a mask: alone.jpg" in report.as_text()


def test_a_mask_of_another_size_is_named_and_not_usable(folder):
    photo(folder, "odd")
    odd = mask(folder, "odd", lesion((60, 40)))
    report = check_cases(find_cases(folder))
    assert report.wrong_size == (odd,)
    assert len(report.usable) == 2
    assert report.pairs == 3


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_truncated_photo_is_named_and_not_usable(folder, suffix):
    path = photo(folder, "cut", suffix=suffix)
    mask(folder, "cut")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    report = check_cases(find_cases(folder))
    assert len(report.usable) == 2
    (sentence,) = report.unreadable
    assert str(path) in sentence


def test_files_that_are_no_image_or_no_mask_are_named_and_not_usable(folder):
    photo(folder, "text").write_text("not a photo")
    mask(folder, "text")
    photo(folder, "gray")
    Image.fromarray(np.tile(np.arange(60, dtype=np.uint8), (40, 1))).save(folder / "masks" / "gray_segmentation.png")
    report = check_cases(find_cases(folder))
    assert len(report.usable) == 2
    assert len(report.unreadable) == 2
    assert "2 files that cannot be read" in report.as_text()


def test_a_photo_of_one_colour_is_reported_as_unreadable(folder):
    Image.fromarray(np.zeros((*SHAPE, 3), dtype=np.uint8)).save(folder / "images" / "black.jpg")
    mask(folder, "black")
    assert "single colour" in check_cases(find_cases(folder)).unreadable[0]


def test_empty_and_full_masks_are_named_and_usable(folder):
    for name in ("none", "all"):
        photo(folder, name)
    none, everything = mask(folder, "none", ~lesion() & lesion()), mask(folder, "all", np.ones(SHAPE, dtype=bool))
    report = check_cases(find_cases(folder))
    assert (report.empty, report.full) == ((none,), (everything,))
    assert len(report.usable) == 4


def test_photos_with_identical_content_are_found_under_different_names(folder):
    copy = folder / "images" / "copy.jpg"
    copy.write_bytes((folder / "images" / "good1.jpg").read_bytes())
    report = check_cases(find_cases(folder))
    assert {frozenset(path.name for path in same) for same in report.duplicates} == {
        frozenset({"copy.jpg", "good1.jpg"})
    }
    assert "1 photo present more than once: copy.jpg = good1.jpg" in report.as_text()


def test_at_most_three_examples_of_a_problem_are_named(folder):
    for number in range(5):
        photo(folder, f"alone{number}")
    assert "5 photos without a mask: alone0.jpg, alone1.jpg, alone2.jpg, …" in check_cases(find_cases(folder)).as_text()


def test_progress_is_reported_and_cancel_raises(folder):
    events = []
    cases = find_cases(folder)
    check_cases(cases, events.append)
    assert [(event.done, event.total) for event in events] == [(0, 2), (1, 2), (2, 2)]
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        check_cases(cases, cancel=cancel)
