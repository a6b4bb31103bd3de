"""Many photos: each gets its own complete mask, failed photos are named, and no mask of a person is overwritten."""

import csv
import json
import os
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_skinseg.batch.folder import BatchOptions, find_photos, segment_files
from napari_skinseg.datasets.dataset import find_cases
from napari_skinseg.errors import BadInput
from napari_skinseg.measurement.measure import COLUMNS, NOTE
from napari_skinseg.pixels.image import find_images, read_image
from napari_skinseg.pixels.mask import read_mask, write_mask
from napari_skinseg.pixels.metrics import dice
from napari_skinseg.segmentation.options import SegmentOptions
from napari_skinseg.segmentation.segmenter import Segmenter


@pytest.fixture(scope="session")
def segmenter(spot_finder) -> Segmenter:
    return Segmenter(spot_finder, "cpu")


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def make_many_photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(count):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(folder / f"{number:02}.png")
    return folder


def test_each_mask_has_the_size_of_its_photo(segmenter, photos, out):
    outcome = segment_files(sorted(photos), out, segmenter)
    assert [result.photo for result in outcome.done] == sorted(photos)
    for result in outcome.done:
        mask = read_mask(result.mask)
        assert mask.shape == photos[result.photo].shape
        assert dice(mask, photos[result.photo]) > 0.9


def test_photos_of_the_same_name_in_two_folders_get_two_masks(segmenter, photos, out):
    segment_files(sorted(photos), out, segmenter)
    masks = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert masks == ["north/a_segmentation.png", "north/b_segmentation.png", "south/a_segmentation.png"]


def test_the_names_are_those_below_the_named_folder(segmenter, photos, tmp_path):
    folder = tmp_path / "photos"
    assert list(find_photos([folder]).values()) == ["north/a.png", "north/b.png", "south/a.png"]
    assert list(find_photos([folder / "north"]).values()) == ["a.png", "b.png"]
    assert list(find_photos([folder / "north", folder / "south"]).values()) == ["a.png", "b.png", "a.png"]


def test_masks_lie_below_the_named_folder_whichever_others_are_named(segmenter, photos, out, tmp_path):
    north, south = tmp_path / "photos" / "north", tmp_path / "photos" / "south"
    (alone,) = segment_files([south], out, segmenter).done
    assert alone.mask == out / "a_segmentation.png"
    options = BatchOptions(measure=True)
    together = segment_files([north, south], out, segmenter, options)
    assert [result.mask.relative_to(out).as_posix() for result in together.done] == [
        "north/a_segmentation.png",
        "b_segmentation.png",
        "a_segmentation.png",
    ]
    assert [row["photo"] for row in table_of(together.table)] == ["a.png", "b.png", "north/a.png"]
    for result in together.done:
        assert dice(read_mask(result.mask), photos[result.photo]) > 0.9
    again = segment_files([north], out, segmenter, options)
    assert [result.kept for result in again.done] == [True, True]
    assert again.table.read_bytes() == together.table.read_bytes()


def test_a_recorded_photo_keeps_the_place_that_an_earlier_version_gave_it(segmenter, photos, out, tmp_path):
    photo = tmp_path / "photos" / "south" / "a.png"
    segment_files([photo], out, segmenter)  # the place below the common folder of the photos, as in version 0.1
    outcome = segment_files([tmp_path / "photos"], out, segmenter)
    assert [(result.name, result.kept) for result in outcome.done] == [
        ("north/a.png", False),
        ("north/b.png", False),
        ("a.png", True),
    ]


def test_a_repeated_run_reads_no_photo_and_changes_no_file(segmenter, photos, out, monkeypatch):
    options = BatchOptions(measure=True, overlay=True)
    first = segment_files([*photos], out, segmenter, options)
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    times = [result.mask.stat().st_mtime_ns for result in first.done]
    monkeypatch.setattr("napari_skinseg.batch.folder.read_image", None)  # a call would fail
    again = segment_files([*photos], out, segmenter, options)
    assert not again.failed
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before
    assert [result.mask.stat().st_mtime_ns for result in again.done] == times
    assert again.done[0].measures["area_px"] == pytest.approx(first.done[0].measures["area_px"])


def test_a_mask_is_made_again_if_its_photo_or_the_options_changed(segmenter, photos, out, tmp_path):
    photo = min(photos)
    segment_files([photo], out, segmenter)
    assert segment_files([photo], out, segmenter).done[0].kept
    other = BatchOptions(segment=SegmentOptions(threshold=0.3))
    assert not segment_files([photo], out, segmenter, other).done[0].kept
    Image.fromarray(read_image(tmp_path / "photos" / "south" / "a.png")).save(photo)
    (result,) = segment_files([photo], out, segmenter, other).done
    assert not result.kept
    assert dice(read_mask(result.mask), photos[tmp_path / "photos" / "south" / "a.png"]) > 0.9


def test_an_overwritten_mask_that_was_not_measured_has_no_row(segmenter, photos, out):
    segment_files([*photos], out, segmenter, BatchOptions(measure=True))
    segment_files([*photos], out, segmenter, BatchOptions(overwrite=True))
    assert table_of(out / "measurements.csv") == []


def test_a_resumed_run_writes_the_same_table_as_an_uninterrupted_one(segmenter, photos, out, tmp_path):
    options = BatchOptions(measure=True)
    segment_files([tmp_path / "photos"], out, segmenter, options)
    expected = {name: (out / name).read_bytes() for name in ("measurements.csv", "segmentations.json")}
    resumed = tmp_path / "resumed"
    cancel = threading.Event()
    first = BatchOptions(measure=True, batch_size=1)
    segment_files([tmp_path / "photos"], resumed, segmenter, first, lambda event: cancel.set(), cancel)
    assert len(list(resumed.rglob("*.png"))) < 3
    segment_files([tmp_path / "photos"], resumed, segmenter, options)
    assert {name: (resumed / name).read_bytes() for name in expected} == expected


def test_results_equal_those_of_single_photos(segmenter, photos, out):
    photo = min(photos)
    outcome = segment_files(sorted(photos), out, segmenter)
    alone = segmenter.segment(read_image(photo))
    result = next(result for result in outcome.done if result.photo == photo)
    assert dice(read_mask(result.mask), alone.mask) > 0.99
    assert result.confidence == pytest.approx(alone.confidence, abs=0.01)


def test_a_damaged_photo_is_named_and_the_others_are_segmented(segmenter, photos, out, tmp_path):
    broken = tmp_path / "photos" / "north" / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 cut short")
    outcome = segment_files(sorted([*photos, broken]), out, segmenter, BatchOptions(batch_size=2))
    assert len(outcome.done) == len(photos)
    ((path, sentence),) = outcome.failed
    assert path == broken
    assert str(broken) in sentence


def test_the_second_of_two_photos_with_the_same_mask_file_fails(segmenter, photos, out, tmp_path):
    second = tmp_path / "photos" / "north" / "a.png"
    first = second.with_suffix(".bmp")
    Image.fromarray(read_image(second)).save(first)
    outcome = segment_files([first, second], out, segmenter)
    assert [result.photo for result in outcome.done] == [first]
    assert str(second) in outcome.failed[0][1]
    assert dice(read_mask(out / "a_segmentation.png"), photos[second]) > 0.9


def test_the_table_has_one_row_per_photo_and_blanks_for_unknown_values(segmenter, photos, out):
    outcome = segment_files(sorted(photos), out, segmenter, BatchOptions(measure=True))
    rows = table_of(outcome.table)
    assert [row["photo"] for row in rows] == ["north/a.png", "north/b.png", "south/a.png"]
    assert list(rows[0]) == ["photo", "confidence", "empty", "mask_kept", *COLUMNS, NOTE]
    assert float(rows[0]["area_px"]) == pytest.approx(photos[outcome.done[0].photo].sum(), rel=0.15)
    assert rows[0]["area_mm2"] == ""


def test_a_known_scale_fills_the_millimetre_columns(segmenter, photos, out):
    outcome = segment_files(sorted(photos), out, segmenter, BatchOptions(measure=True, mm_per_px=0.1))
    row = table_of(outcome.table)[0]
    assert float(row["area_mm2"]) == pytest.approx(float(row["area_px"]) * 0.01, rel=1e-3)


def test_overlays_are_optional_and_not_read_as_photos(segmenter, photos, tmp_path):
    folder = tmp_path / "photos"
    outcome = segment_files(find_images(folder), folder, segmenter, BatchOptions(overlay=True))
    assert all(read_image(result.overlay).shape == read_image(result.photo).shape for result in outcome.done)
    assert find_images(folder) == sorted(photos)


def test_an_overlay_of_an_earlier_version_is_kept_until_a_new_one_replaces_it(segmenter, photos, out):
    options = BatchOptions(overlay=True)
    (result,) = segment_files([min(photos)], out, segmenter, options).done
    earlier = result.overlay.with_suffix(".png")
    result.overlay.rename(earlier)
    assert segment_files([min(photos)], out, segmenter, options).done[0].overlay == earlier
    assert sorted(path.name for path in out.glob("*_overlay*")) == ["a_overlay.png"]
    segment_files([min(photos)], out, segmenter, BatchOptions(overlay=True, overwrite=True))
    assert sorted(path.name for path in out.glob("*_overlay*")) == ["a_overlay.jpg"]


def test_a_corrected_mask_is_kept_and_measured(segmenter, photos, out):
    photo = min(photos)
    first = segment_files(sorted(photos), out, segmenter)
    corrected = np.zeros_like(photos[photo])
    corrected[10:30, 10:40] = True
    write_mask(first.done[0].mask, corrected)

    again = segment_files(sorted(photos), out, segmenter, BatchOptions(measure=True))
    assert np.array_equal(read_mask(again.done[0].mask), corrected)
    rows = table_of(again.table)
    assert float(rows[0]["area_px"]) == corrected.sum()
    assert rows[0]["confidence"] == ""
    assert rows[1]["confidence"] != "", "a mask that nobody touched is still the model's"
    assert all(result.kept for result in again.done)


def test_a_photo_without_a_lesion_stays_empty_until_overwritten(doubting_model, photos, out):
    photo, doubting = min(photos), Segmenter(doubting_model, "cpu")
    for _ in ("new", "kept"):
        (result,) = segment_files([photo], out, doubting, BatchOptions(measure=True)).done
        assert (result.empty, result.withheld) == (True, True)
        assert 0 < result.confidence < 0.45
        assert not read_mask(result.mask).any()
    (row,) = table_of(out / "measurements.csv")
    assert (row["empty"], row["area_px"]) == ("true", "")
    assert float(row["confidence"]) == pytest.approx(result.confidence)
    anyway = BatchOptions(overwrite=True, segment=SegmentOptions(always_outline=True))
    (result,) = segment_files([photo], out, doubting, anyway).done
    assert (result.empty, result.withheld) == (False, False)
    assert dice(read_mask(result.mask), photos[photo]) > 0.9


def test_overwrite_replaces_the_masks(segmenter, photos, out):
    first = segment_files(sorted(photos), out, segmenter)
    write_mask(first.done[0].mask, np.zeros_like(photos[min(photos)]))
    again = segment_files(sorted(photos), out, segmenter, BatchOptions(overwrite=True))
    assert not again.done[0].kept
    assert dice(read_mask(again.done[0].mask), photos[min(photos)]) > 0.9


def test_each_mask_is_recorded_with_its_model_and_options(segmenter, photos, out):
    options = BatchOptions(segment=SegmentOptions(threshold=0.4))
    segment_files(sorted(photos), out, segmenter, options)
    records = json.loads((out / "segmentations.json").read_text())["masks"]
    record = records["north/a_segmentation.png"]
    assert record["model"] == "spot-finder"
    assert record["weights_sha256"] == segmenter.sha256
    assert record["computed_by"] == dict(segmenter.engine)
    assert record["threshold"] == 0.4
    assert len(records) == len(photos)


def test_an_empty_mask_is_reported_as_empty(segmenter, out, bare_photo):
    options = BatchOptions(measure=True, segment=SegmentOptions(threshold=0.9))
    outcome = segment_files([bare_photo], out, segmenter, options)
    assert outcome.done[0].empty
    assert table_of(outcome.table)[0]["empty"] == "true"


def test_a_cancelled_run_keeps_complete_masks_and_can_be_continued(segmenter, tmp_path, out):
    folder = make_many_photos(tmp_path / "many", 12)
    paths, cancel = find_images(folder), threading.Event()
    options = BatchOptions(measure=True, batch_size=2)

    stopped = segment_files(paths, out, segmenter, options, lambda event: cancel.set(), cancel)
    assert stopped.cancelled
    assert 0 < len(stopped.done) < 12
    assert len(table_of(stopped.table)) == len(stopped.done) == len(list(out.rglob("*_segmentation.png")))
    assert not list(out.rglob(".*")), "nothing half written is left"

    finished = segment_files(paths, out, segmenter, options)
    assert not finished.cancelled
    assert [result.photo for result in finished.done] == paths
    assert sum(result.kept for result in finished.done) == len(stopped.done)
    assert all(row["confidence"] for row in table_of(finished.table))


def test_no_cell_of_the_table_is_a_formula(segmenter, photos, out, tmp_path):
    for name in ("=cmd().png", "-1.png", "'=a.png"):
        Image.fromarray(read_image(min(photos))).save(tmp_path / "photos" / "south" / name)
    options = BatchOptions(measure=True)
    table = segment_files([tmp_path / "photos" / "south"], out, segmenter, options).table
    assert {row["photo"] for row in table_of(table)} == {"'=cmd().png", "'-1.png", "''=a.png", "a.png"}
    before = table.read_bytes()
    again = segment_files([tmp_path / "photos" / "south"], out, segmenter, options)
    assert all(result.kept for result in again.done)
    assert table.read_bytes() == before
    segment_files([tmp_path / "photos" / "south" / "a.png"], out, segmenter, options)
    assert table.read_bytes() == before, "the rows of earlier photos are kept"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_stops_the_run_with_one_sentence(segmenter, tmp_path, out):
    make_many_photos(tmp_path / "many", 12)
    journal = out / "segmentations.jsonl"

    def fill_disk(event):
        if event.done == 1:
            (out / "full").symlink_to("/dev/full")
            (out / "full").replace(journal)  # in one step, because other threads write

    outcome = segment_files([tmp_path / "many"], out, segmenter, BatchOptions(batch_size=1), fill_disk)
    ((_, sentence),) = outcome.failed
    assert "disk is full; free some space" in sentence
    assert not outcome.cancelled
    assert 0 < len(outcome.done) < 11
    assert len(list(out.glob("*_segmentation.png"))) == len(outcome.done)
    assert len(segment_files([tmp_path / "many"], out, segmenter).done) == 12


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="Windows has other permissions")
def test_a_folder_that_cannot_be_read_is_named_and_the_other_photos_are_segmented(segmenter, spot):
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place) / "photos", Path(place) / "out"
        for sub in ("closed", "open"):
            (folder / sub).mkdir(parents=True)
            Image.fromarray(spot(40, 50, 20, (96, 128))[0]).save(folder / sub / "a.png")
        out.mkdir()
        for path, mode in ((Path(place), 0o755), (out, 0o777), (folder / "closed", 0o000)):
            path.chmod(mode)
        user = os.geteuid()
        os.seteuid(user or 65534)  # root may read everything
        try:
            outcome = segment_files([folder], out, segmenter)
            with pytest.raises(BadInput, match=r"closed cannot be read \(Permission denied\)"):
                find_cases(folder)
        finally:
            os.seteuid(user)
            (folder / "closed").chmod(0o755)
    assert [result.name for result in outcome.done] == ["open/a.png"]
    ((path, sentence),) = outcome.failed
    assert path == folder / "closed"
    assert "closed cannot be read (Permission denied), so its photos are missing" in sentence


def test_temporary_files_of_a_killed_run_are_removed_and_those_of_others_stay(segmenter, photos, out):
    segment_files(sorted(photos), out, segmenter, BatchOptions(measure=True))
    left = [".measurements-abcd_f12.csv", ".segmentations-abcdefgh.json", "north/.a_segmentation-01234567.png"]
    others = [".measurements-abcdefghi.csv", "north/.c_segmentation-01234567.png", "north/.a_segmentation.png"]
    for name in left + others:
        (out / name).write_bytes(b"half")
    segment_files(sorted(photos), out, segmenter)
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob(".*")) == sorted(others)


def test_events_count_every_photo_once(segmenter, photos, out, tmp_path):
    broken = tmp_path / "photos" / "zero.png"
    broken.touch()
    events = []
    segment_files([*sorted(photos), broken], out, segmenter, on_event=events.append)
    assert [event.done for event in events] == [1, 2, 3, 4]
    assert {event.total for event in events} == {4}
    assert any(event.values.get("seconds_left", -1) >= 0 for event in events)


@pytest.mark.parametrize(
    "options",
    [BatchOptions(batch_size=0), BatchOptions(mm_per_px=-1.0), BatchOptions(segment=SegmentOptions(threshold=2.0))],
)
def test_options_out_of_range_are_refused_before_writing(segmenter, photos, out, options):
    with pytest.raises(BadInput):
        segment_files(sorted(photos), out, segmenter, options)
    assert not out.exists()


def test_an_output_folder_that_is_a_file_is_named(segmenter, photos, out):
    out.write_text("mine")
    with pytest.raises(BadInput, match="out"):
        segment_files(sorted(photos), out, segmenter)
    assert out.read_text() == "mine"


def test_masks_of_paths_with_a_parent_folder_stay_in_the_output_folder(segmenter, photos, out, tmp_path):
    winding = [tmp_path / "photos" / "north" / ".." / "south" / "a.png", tmp_path / "photos" / "north" / "a.png"]
    outcome = segment_files(winding, out, segmenter)
    assert len(outcome.done) == 2
    assert all(out in result.mask.resolve().parents for result in outcome.done)


def test_masks_of_a_model_are_no_reference_until_a_user_changes_them(photos, spot_finder, tmp_path):
    out = tmp_path / "photos" / "results"
    segment_files(list(photos), out, Segmenter(spot_finder))
    assert [case.mask for case in find_cases(tmp_path / "photos")] == [None, None, None]
    corrected = out / "north" / "b_segmentation.png"
    write_mask(corrected, ~read_mask(corrected))
    assert [case.mask for case in find_cases(tmp_path / "photos") if case.mask] == [corrected]
