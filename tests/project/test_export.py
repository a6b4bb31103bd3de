"""Tests of the export: other tools (ISIC, COCO, spreadsheets, `train`) can read its files."""

import csv
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from pycocotools.coco import COCO

from napari_skinseg.datasets.dataset import find_cases
from napari_skinseg.errors import BadInput
from napari_skinseg.measurement.measure import COLUMNS, EXPERIMENTAL_COLUMNS, NOTE
from napari_skinseg.pixels.image import read_image
from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.pixels.metrics import dice, jaccard
from napari_skinseg.project.coco import polygons, run_lengths
from napari_skinseg.project.export import ExportOptions, export_project
from napari_skinseg.project.project import Project


@pytest.fixture
def project(tmp_path, photos) -> Iterator[Project]:
    """Three photos: north/a accepted as the model drew it, north/b corrected, south/a only predicted."""
    with Project.open(tmp_path / "review", reader="Ada", create=True) as opened:
        opened.scan(tmp_path / "photos")
        for path, truth in photos.items():
            photo = opened.find(path).id
            opened.set_prediction(photo, truth, model="unet", model_version="1", confidence=0.9)
        one, two, _ = photos
        opened.accept(opened.find(one).id, seconds=5)
        opened.accept(opened.find(two).id, np.roll(photos[two], 4, axis=1), seconds=9)
        yield opened


def mask_of(project: Project, name: str) -> np.ndarray:
    photo = next(photo for photo in project.photos() if photo.relative.endswith(name))
    return project.mask(photo.id)


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_exported_masks_have_isic_names_and_equal_pixels(project, tmp_path):
    outcome = export_project(project, tmp_path / "out")
    assert outcome.failed == ()
    assert sorted(path.name for path in (tmp_path / "out" / "masks").iterdir()) == [
        "a_segmentation.png", "b_segmentation.png"
    ]  # fmt: skip
    assert np.array_equal(read_mask(tmp_path / "out" / "masks" / "b_segmentation.png"), mask_of(project, "north/b.png"))
    assert {path.name for path in (tmp_path / "out" / "overlays").iterdir()} == {"a_overlay.png", "b_overlay.png"}


def test_an_unfinished_correction_is_not_exported(project, tmp_path, photos):
    unfinished = project.find(list(photos)[2]).id
    project.save_mask(unfinished, np.roll(mask_of(project, "south/a.png"), 3, axis=0))
    outcome = export_project(project, tmp_path / "out")
    assert unfinished not in outcome.done
    assert outcome.unfinished == (unfinished,)
    assert "not finished, and so not exported: 1" in outcome.in_words()
    rows = {row["id"]: row for row in rows_of(outcome.table)}
    assert (rows[unfinished]["status"], rows[unfinished]["reviewed"]) == ("corrected", "false")
    assert json.loads((tmp_path / "out" / "skinseg-export.json").read_text())["counts"]["reviewed"] == 2


def test_no_cell_is_a_formula_of_a_spreadsheet(tmp_path, spot):
    formula = '=HYPERLINK("http://example.org")'
    rgb, mask = spot(30, 40, 12, (60, 80))
    (tmp_path / "photos").mkdir()
    Image.fromarray(rgb).save(tmp_path / "photos" / "@SUM(1).png")
    (tmp_path / "photos" / "metadata.csv").write_text("isic_id,diagnosis\n@SUM(1),+cmd\n")
    with Project.open(tmp_path / "review", reader="-1+1", create=True) as project:
        project.scan(tmp_path / "photos")
        (photo,) = project.photos()
        project.accept(photo.id, mask)
        project.decide(photo.id, "corrected", formula)
        outcome = export_project(project, tmp_path / "out")
    tables = [outcome.table, tmp_path / "out" / "training" / "metadata.csv"]
    cells = [cell for table in tables for row in csv.reader(table.read_text("utf-8").splitlines()) for cell in row]
    assert f"'{formula}" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    (case,) = find_cases(tmp_path / "out" / "training")
    assert case.diagnosis == "'+cmd"


def test_photos_with_equal_names_are_exported_under_their_ids(project, tmp_path):
    out = export_project(project, tmp_path / "out", ExportOptions(statuses=("accepted", "predicted"))).folder
    ids = [photo.id for photo in project.photos("accepted", "predicted")]
    assert {path.name for path in (out / "masks").iterdir()} == {f"{photo}_segmentation.png" for photo in ids}


def test_the_table_has_a_row_per_photo_and_all_measurements(project, tmp_path):
    outcome = export_project(project, tmp_path / "out")
    rows = rows_of(outcome.table)
    assert [row["status"] for row in rows] == ["accepted", "corrected", "predicted"]
    assert list(rows[0])[-len(COLUMNS) - 1 :] == [*COLUMNS, NOTE]
    accepted, corrected, predicted = rows
    assert (accepted["correction_dice"], accepted["changed"], accepted["confidence"]) == ("1", "false", "0.9")
    assert float(corrected["correction_dice"]) < 1
    assert (corrected["changed"], corrected["reader"], corrected["seconds"]) == ("true", "Ada", "9")
    assert int(accepted["area_px"]) == mask_of(project, "north/a.png").sum()
    assert predicted["area_px"] == predicted["mask"] == "", "a photo without a review is listed and not measured"
    assert accepted["area_mm2"] == "", "millimetres are never guessed"


def test_lengths_in_mm_use_the_scale_of_the_photo(project, tmp_path):
    photo = project.photos("accepted")[0]
    project.set_scale(photo.id, ((0, 0), (0, 100)), 10)
    row = rows_of(export_project(project, tmp_path / "out").table)[0]
    assert float(row["mm_per_px"]) == pytest.approx(0.1)
    assert float(row["area_mm2"]) == pytest.approx(int(row["area_px"]) * 0.01, rel=1e-4)


def test_experimental_colours_are_exported_only_on_request(project, tmp_path):
    plain = rows_of(export_project(project, tmp_path / "plain").table)
    asked = rows_of(export_project(project, tmp_path / "asked", ExportOptions(experimental=True)).table)
    assert not set(EXPERIMENTAL_COLUMNS) & set(plain[0])
    assert all(asked[0][name] for name in EXPERIMENTAL_COLUMNS)


# NumPy's, of pycocotools' own decoder.
from_pycocotools = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


@from_pycocotools
def test_pycocotools_reads_the_coco_files_and_restores_the_masks(project, tmp_path, capsys):
    out = export_project(project, tmp_path / "out").folder
    for kind, least in (("rle", 1.0), ("polygons", 0.985)):
        data = COCO(str(out / f"coco_{kind}.json"))
        assert len(data.anns) == 2
        for annotation in data.anns.values():
            image = data.imgs[annotation["image_id"]]
            mask = read_mask(out / "masks" / f"{Path(image['file_name']).stem}_segmentation.png")
            assert jaccard(data.annToMask(annotation).astype(bool), mask) >= least
            assert annotation["area"] == mask.sum()
            x, y, width, height = annotation["bbox"]
            assert mask[y : y + height, x : x + width].sum() == mask.sum()
            assert (out / "training" / "images" / image["file_name"]).exists()


@from_pycocotools
def test_coco_keeps_holes_pieces_and_lesions_at_the_frame():
    mask = np.zeros((80, 100), bool)
    mask[10:50, 10:60] = True
    mask[20:30, 20:40] = False
    mask[60:80, 90:100] = True
    exact = run_lengths(mask)
    assert np.array_equal(
        coco.decode({**exact["segmentation"], "counts": exact["segmentation"]["counts"].encode()}), mask
    )
    filled = mask.copy()
    filled[20:30, 20:40] = True
    outlines = polygons(mask)
    drawn = coco.decode(coco.merge(coco.frPyObjects(outlines["segmentation"], *mask.shape))).astype(bool)
    assert len(outlines["segmentation"]) == 2
    assert dice(drawn, filled) > 0.99
    assert polygons(np.zeros_like(mask)) is None
    assert run_lengths(np.zeros_like(mask)) is None


@pytest.mark.parametrize("images", ["copy", "link"])
def test_find_cases_reads_the_training_folder_and_photos_are_unchanged(project, tmp_path, photos, images):
    (tmp_path / "photos" / "metadata.csv").write_text("image_id,lesion_id,dx\nb,L7,nv\n")
    with Project.open(tmp_path / "second", create=True) as second:
        second.scan(tmp_path / "photos")
        for path, truth in photos.items():
            second.accept(second.find(path).id, truth)
        before = {path: (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns) for path in photos}
        outcome = export_project(second, tmp_path / "out", ExportOptions(images=images))
        export_project(second, tmp_path / "out", ExportOptions(images=images))
        cases = find_cases(outcome.training)
        assert len(cases) == 3
        for case in cases:
            assert np.array_equal(
                read_mask(case.mask, read_image(case.image).shape[:2]), case.mask and read_mask(case.mask)
            )
        assert {(case.group, case.diagnosis) for case in cases} == {("L7", "nv"), ("", "")}
    assert {path: (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns) for path in photos} == before
    linked = {path.stat().st_nlink > 1 for path in photos}
    assert linked == {images == "link"}


def test_a_scan_ignores_an_export_inside_the_photo_folder(project, tmp_path):
    export_project(project, tmp_path / "photos" / "export")
    outcome = project.scan(tmp_path / "photos")
    assert (len(outcome.known), outcome.added) == (3, ())


def test_a_second_export_replaces_files_and_removes_obsolete_ones(project, tmp_path):
    out = export_project(project, tmp_path / "out").folder
    photo = next(photo for photo in project.photos() if photo.name == "b.png")
    project.decide(photo.id, "issue", "ink in the way")
    export_project(project, out)
    assert [path.name for path in (out / "masks").iterdir()] == ["a_segmentation.png"]
    assert [path.name for path in (out / "training" / "images").iterdir()] == ["a.png"]
    assert [row["note"] for row in rows_of(out / "cases.csv")] == ["", "ink in the way", ""]


def test_the_export_lists_unreadable_files_with_their_reasons(project, tmp_path):
    (tmp_path / "photos" / "north" / "empty.png").touch()
    project.scan(tmp_path / "photos")
    out = export_project(project, tmp_path / "out").folder
    (row,) = rows_of(out / "unreadable.csv")
    assert row["file"] == "../photos/north/empty.png"
    assert "zero bytes" in row["reason"]
    (tmp_path / "photos" / "north" / "empty.png").unlink()
    project.scan(tmp_path / "photos")
    export_project(project, out)
    assert not (out / "unreadable.csv").exists()


def test_a_second_export_removes_temporary_files_of_a_killed_one(project, tmp_path):
    out = export_project(project, tmp_path / "out").folder
    ours = [".cases-abcdefgh.csv", "overlays/.a_overlay-abcd_fgh.png", "training/images/.a-abcdefgh.png"]
    others = [".DS_Store", ".notes-abcdefgh.txt", "masks/.other_segmentation-abcdefgh.png"]
    for name in (*ours, *others):
        (out / name).touch()
    export_project(project, out)
    assert all((out / name).exists() for name in ours), "they may belong to an export that is running"
    for name in (*ours, *others):
        os.utime(out / name, (0, 0))
    export_project(project, out)
    assert not any((out / name).exists() for name in ours)
    assert all((out / name).exists() for name in others)


def test_an_export_killed_at_its_first_step_can_be_repeated(project, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".skinseg-export-abcdefgh.json").touch()
    assert export_project(project, tmp_path / "out").table is not None


@pytest.mark.parametrize("name", ["../keep.txt", "/keep.txt", "notes.txt", "masks/../../keep.txt", "masks/.."])
def test_a_changed_list_of_files_removes_no_other_files(project, tmp_path, name):
    out = export_project(project, tmp_path / "out").folder
    mark = json.loads((out / "skinseg-export.json").read_text())
    name = str(tmp_path / "keep.txt") if name.startswith("/") else name
    (out / "skinseg-export.json").write_text(json.dumps(mark | {"files": [*mark["files"], name]}))
    for path in (tmp_path / "keep.txt", out / "notes.txt"):
        path.touch()
    export_project(project, out)
    assert (tmp_path / "keep.txt").exists()
    assert (out / "notes.txt").exists()


def test_export_refuses_a_folder_with_other_files_and_does_not_change_it(project, tmp_path):
    before = {path: path.read_bytes() for path in (tmp_path / "photos").rglob("*.png")}
    with pytest.raises(BadInput, match="other files"):
        export_project(project, tmp_path / "photos")
    with pytest.raises(BadInput, match="other files"):
        export_project(project, project.folder)
    assert {path: path.read_bytes() for path in (tmp_path / "photos").rglob("*.*")} == before


def test_export_reports_a_missing_photo_and_still_exports_its_mask(project, tmp_path):
    photo = project.photos("corrected")[0]
    photo.path.unlink()
    outcome = export_project(project, tmp_path / "out")
    assert [path for path, _ in outcome.failed] == [photo.path]
    assert "is missing" in outcome.failed[0][1]
    assert len(outcome.done) == 2
    assert (outcome.folder / "masks" / "b_segmentation.png").exists()
    assert [case.id for case in find_cases(outcome.training)] == ["a"], "the training folder holds complete pairs only"


def test_a_cancelled_export_keeps_the_earlier_table(project, tmp_path):
    out = export_project(project, tmp_path / "out").folder
    table = (out / "cases.csv").read_bytes()
    project.decide(project.photos("corrected")[0].id, "accepted")
    cancel = threading.Event()
    outcome = export_project(project, out, cancel=cancel, on_event=lambda event: cancel.set())
    assert outcome.cancelled
    assert (outcome.table, outcome.training) == (None, None)
    assert (out / "cases.csv").read_bytes() == table


def test_the_export_compares_the_blind_sample_with_the_other_photos(tmp_path, photos):
    with Project.open(tmp_path / "review", create=True) as project:
        project.scan(tmp_path / "photos")
        project.set_blind_sample(0.5, seed=1)
        ids = {photo.id: photo.blind for photo in project.photos()}
        assert set(ids.values()) == {True, False}, "the seed chooses some photos and not all"
        for path, truth in photos.items():
            photo = project.find(path)
            project.set_prediction(photo.id, truth, model="unet", confidence=0.9)
            project.accept(photo.id, np.roll(truth, 12 if photo.blind else 1, axis=0))
        outcome = export_project(project, tmp_path / "out")
    assert outcome.blind.blind.n + outcome.blind.shown.n == 3
    assert outcome.blind.blind.mean < outcome.blind.shown.mean
    mark = json.loads((tmp_path / "out" / "skinseg-export.json").read_text())
    assert mark["blind_sample"]["in_words"] == outcome.blind.in_words()
    assert outcome.blind.in_words().startswith("Blind sample: ")
    assert sorted(row["blind"] for row in rows_of(outcome.table)) == sorted(
        "true" if blind else "false" for blind in ids.values()
    )


def test_an_export_without_masks_is_refused_before_it_writes_files(tmp_path, photos):
    with Project.open(tmp_path / "review", create=True) as project:
        project.scan(tmp_path / "photos")
        with pytest.raises(BadInput, match="review some photos first"):
            export_project(project, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_project_can_be_exported_during_a_review(project, tmp_path):
    with Project.open(project.folder, read_only=True) as view:
        assert len(export_project(view, tmp_path / "out").done) == 2
