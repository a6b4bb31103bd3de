"""The look over a folder: everything that would fail hours later is named before."""

import threading
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from napari_skinseg.datasets.checks import preflight
from napari_skinseg.errors import Cancelled
from napari_skinseg.pixels.mask import write_mask

SHAPE = (40, 60)


def lesion(shape=SHAPE):
    mask = np.zeros(shape, dtype=bool)
    mask[10:20, 10:30] = True
    return mask


@pytest.fixture
def folder(tmp_path):
    """Two good pairs; `photo` and `mask` add what is wrong."""
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


def test_a_folder_in_order_is_one_line(folder):
    report = preflight(folder)
    assert [case.id for case in report.usable] == ["good1", "good2"]
    assert report.in_words() == "2 pairs of photo and mask, 2 usable."


def test_photos_without_mask_and_masks_without_photo_are_named(folder):
    alone, orphan = photo(folder, "alone"), mask(folder, "orphan")
    report = preflight(folder)
    assert (report.pairs, report.without_mask, report.without_image) == (2, (alone,), (orphan,))
    assert "1 photo without a mask: alone.jpg" in report.in_words()
    assert "1 mask without a photo: orphan_segmentation.png" in report.in_words()


@pytest.mark.parametrize("contents", [True, False])
def test_a_mask_of_another_size_is_named_and_not_used(folder, contents):
    photo(folder, "odd")
    odd = mask(folder, "odd", lesion((60, 40)))
    report = preflight(folder, contents=contents)
    assert report.wrong_size == (odd,)
    assert len(report.usable) == 2
    assert report.pairs == 3


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_truncated_photo_is_named_and_not_used(folder, suffix):
    path = photo(folder, "cut", suffix=suffix)
    mask(folder, "cut")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    report = preflight(folder)
    assert len(report.usable) == 2
    (sentence,) = report.unreadable
    assert str(path) in sentence


def test_what_is_no_image_and_what_is_no_mask_is_named_and_not_used(folder):
    photo(folder, "text").write_text("not a photo")
    mask(folder, "text")
    photo(folder, "gray")
    Image.fromarray(np.tile(np.arange(60, dtype=np.uint8), (40, 1))).save(folder / "masks" / "gray_segmentation.png")
    report = preflight(folder)
    assert len(report.usable) == 2
    assert len(report.unreadable) == 2
    assert "2 files that cannot be read" in report.in_words()


def test_a_black_photo_is_found_at_an_eighth_of_its_size_too(folder):
    Image.fromarray(np.zeros((*SHAPE, 3), dtype=np.uint8)).save(folder / "images" / "black.jpg")
    mask(folder, "black")
    assert "single colour" in preflight(folder).unreadable[0]


def test_empty_and_full_masks_are_named_but_used(folder):
    for name in ("none", "all"):
        photo(folder, name)
    none, everything = mask(folder, "none", ~lesion() & lesion()), mask(folder, "all", np.ones(SHAPE, dtype=bool))
    report = preflight(folder)
    assert (report.empty, report.full) == ((none,), (everything,))
    assert len(report.usable) == 4


def test_photos_of_the_same_content_are_found_whatever_they_are_called(folder):
    copy = folder / "images" / "copy.jpg"
    copy.write_bytes((folder / "images" / "good1.jpg").read_bytes())
    report = preflight(folder)
    assert {frozenset(path.name for path in same) for same in report.duplicates} == {
        frozenset({"copy.jpg", "good1.jpg"})
    }
    assert "1 photo present more than once: copy.jpg = good1.jpg" in report.in_words()


def test_only_a_few_of_many_findings_are_named(folder):
    for number in range(5):
        photo(folder, f"alone{number}")
    assert "5 photos without a mask: alone0.jpg, alone1.jpg, alone2.jpg, …" in preflight(folder).in_words()


def test_headers_alone_do_not_look_inside(folder):
    photo(folder, "none")
    mask(folder, "none", np.zeros(SHAPE, dtype=bool))
    report = preflight(folder, contents=False)
    assert (report.empty, report.duplicates, len(report.usable)) == ((), (), 3)


def test_it_tells_how_far_it_is_and_stops_when_asked(folder):
    events = []
    preflight(folder, on_event=events.append)
    assert [(event.done, event.total) for event in events] == [(0, 2), (2, 2)]
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        preflight(folder, cancel=cancel)
