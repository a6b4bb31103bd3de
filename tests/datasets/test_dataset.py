"""Folders in the layouts of known data sets give cases; split files select some of them."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_skinseg.datasets.dataset import Case, apply_splits, find_cases, read_splits
from napari_skinseg.errors import BadInput

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def lay(tmp_path):
    """Makes files of the given names (photos and masks alike: here only names count) and returns their folder."""

    def lay(*names):
        for number, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((32, 32), number, dtype=np.uint8)).save(path)
        return tmp_path

    return lay


def table(path, *rows, delimiter=","):
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def pairs(folder):
    """Photo -> mask as relative names."""
    return {
        case.image.relative_to(folder).as_posix(): case.mask and case.mask.relative_to(folder).as_posix()
        for case in find_cases(folder)
    }


# --- layouts ---------------------------------------------------------------------------------------------------------


def test_ham10000_from_dataverse_is_read(lay):
    masks = "HAM10000_segmentations_lesion_tschandl"
    folder = lay(
        "HAM10000_images_part_1/ISIC_0024306.jpg",
        "HAM10000_images_part_2/ISIC_0029306.jpg",
        f"{masks}/{masks}/ISIC_0024306_segmentation.png",
        f"{masks}/{masks}/ISIC_0029306_segmentation.png",
        f"{masks}/__MACOSX/{masks}/._ISIC_0029306_segmentation.png",
    )
    header = ("lesion_id", "image_id", "dx", "dx_type")
    rows = [("HAM_0000118", "ISIC_0024306", "bkl", "histo"), ("HAM_0002730", "ISIC_0029306", "mel", "histo")]
    table(folder / "HAM10000_metadata", header, *rows, delimiter="\t")
    found = find_cases(folder)
    assert [(case.id, case.group, case.diagnosis) for case in found] == [
        ("ISIC_0024306", "HAM_0000118", "bkl"),
        ("ISIC_0029306", "HAM_0002730", "mel"),
    ]
    assert all(case.mask.stem == f"{case.id}_segmentation" for case in found)


def test_identical_copies_of_a_photo_are_left_out(lay):
    folder = lay("HAM10000_images_part_1/ISIC_1.jpg", "masks/ISIC_1_segmentation.png")
    copy = folder / "copy" / "ham10000_images_part_1" / "ISIC_1.jpg"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((folder / "HAM10000_images_part_1" / "ISIC_1.jpg").read_bytes())
    assert [case.id for case in find_cases(folder)] == ["ISIC_1"]


@pytest.mark.parametrize(
    ("photos", "masks", "suffix"),
    [
        ("ISBI2016_ISIC_Part1_Training_Data", "ISBI2016_ISIC_Part1_Training_GroundTruth", "_Segmentation.png"),
        ("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth", "_segmentation.png"),
        ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth", "_segmentation.png"),
        ("images", "masks", "_segmentation.png"),
        ("images", "masks", ".png"),
        ("Images", "lesion_masks", "_mask.png"),
        ("photos", "labels", ".tif"),
        ("train/images", "train/masks", ".png"),
        ("skin-segmentation/images", "skin-segmentation/masks", ".png"),
    ],
)
def test_photos_in_one_folder_and_masks_in_another_are_paired(lay, photos, masks, suffix):
    folder = lay(f"{photos}/ISIC_1.jpg", f"{photos}/ISIC_2.jpg", f"{masks}/ISIC_1{suffix}")
    assert pairs(folder) == {f"{photos}/ISIC_1.jpg": f"{masks}/ISIC_1{suffix}", f"{photos}/ISIC_2.jpg": None}


@pytest.mark.parametrize("mask", ["a_segmentation.png", "a_mask.png", "a-mask.bmp", "a_gt.png", "a_Segmentation.PNG"])
def test_photo_and_mask_side_by_side_are_paired(lay, mask):
    assert pairs(lay("a.jpg", "b.jpg", mask)) == {"a.jpg": mask, "b.jpg": None}


def test_ph2_with_a_folder_per_photo_is_read(lay):
    folder = lay(
        "PH2 Dataset images/IMD003/IMD003_Dermoscopic_Image/IMD003.bmp",
        "PH2 Dataset images/IMD003/IMD003_lesion/IMD003_lesion.bmp",
        "PH2 Dataset images/IMD003/IMD003_roi/IMD003_R1_Label3.bmp",
    )
    (case,) = find_cases(folder)
    assert (case.id, case.image.name, case.mask.name) == ("IMD003", "IMD003.bmp", "IMD003_lesion.bmp")


def test_a_photo_with_lesion_in_its_name_is_a_photo(lay):
    assert pairs(lay("back_lesion.jpg", "arm.jpg")) == {"arm.jpg": None, "back_lesion.jpg": None}


def test_our_overlays_and_other_isic_files_are_ignored(lay):
    folder = lay(
        "a.jpg", "a_overlay.png", "a_superpixels.png", "GroundTruth/a_attribute_globules.png", "a_segmentation.png"
    )
    assert pairs(folder) == {"a.jpg": "a_segmentation.png"}


def test_photos_with_equal_names_get_their_own_mask_and_an_id_with_folder(lay):
    folder = lay("p1/images/1.jpg", "p1/masks/1.png", "p2/images/1.jpg", "p3/images/1.jpg", "p3/masks/1.png")
    assert pairs(folder) == {
        "p1/images/1.jpg": "p1/masks/1.png",
        "p2/images/1.jpg": None,
        "p3/images/1.jpg": "p3/masks/1.png",
    }
    assert [case.id for case in find_cases(folder)] == ["p1/images/1", "p2/images/1", "p3/images/1"]


def test_the_name_of_the_searched_folder_does_not_make_files_masks(lay, tmp_path):
    lay("masks/a.jpg", "masks/a_segmentation.png")
    assert pairs(tmp_path / "masks") == {"a.jpg": "a_segmentation.png"}


@pytest.mark.parametrize("name", ["nothing", "table.csv"])
def test_a_path_that_is_not_a_folder_is_refused(tmp_path, name):
    (tmp_path / "table.csv").touch()
    with pytest.raises(BadInput, match="is not a folder"):
        find_cases(tmp_path / name)


def test_a_folder_without_photos_is_refused(lay):
    with pytest.raises(BadInput, match="holds no photo"):
        find_cases(lay("masks/a.png"))


# --- metadata --------------------------------------------------------------------------------------------------------


def test_metadata_in_a_subfolder_with_file_suffixes_is_read(lay):
    folder = lay("data/a.jpg", "data/b.jpg")
    table(folder / "data" / "meta.csv", ("image", "patient_id", "diagnosis"), ("a.jpg", "p1", "mel"))
    assert [(case.group, case.diagnosis) for case in find_cases(folder)] == [("p1", "mel"), ("", "")]


def test_several_metadata_tables_are_merged_and_other_tables_ignored(lay):
    folder = lay("a.jpg")
    table(folder / "1.csv", ("image_id", "dx"), ("a", "nv"))
    table(folder / "2.csv", ("image_id", "lesion_id"), ("a", "L1"))
    table(folder / "3.csv", ("price", "amount"), (1, 2))
    (folder / "4.csv").write_bytes(b"\xff\xfe\x00\x81")
    assert [(case.group, case.diagnosis) for case in find_cases(folder)] == [("L1", "nv")]


# --- splits ----------------------------------------------------------------------------------------------------------

HEADER = ("dataset", "id", "lesion_group", "split", "diagnosis")


def cases(*ids, source="ham10000"):
    return [Case(name, Path(f"{name}.jpg"), source=source) for name in ids]


def test_a_split_file_selects_cases_and_adds_group_and_diagnosis(tmp_path):
    splits = table(tmp_path / "s.csv", HEADER, ("d", "a", "L1", "train", "nv"), ("d", "b", "L2", "val", "mel"))
    (case,) = apply_splits(cases("a", "b", "c"), splits, "val")
    assert (case.id, case.group, case.split, case.diagnosis) == ("b", "L2", "val", "mel")
    assert [row.id for row in read_splits(splits)] == ["a", "b"]


def test_the_folder_name_selects_the_dataset_of_an_ambiguous_id(tmp_path):
    splits = table(
        tmp_path / "s.csv",
        HEADER,
        ("ham10000", "a", "", "train", "one"),
        ("ham10000_crop256", "a", "", "train", "two"),
        ("isic2018", "a", "", "train", "three"),
    )
    for source, diagnosis in [("ham10000", "one"), ("ham10000_crop256", "two"), ("ham10000_x", "one")]:
        assert [case.diagnosis for case in apply_splits(cases("a", source=source), splits)] == [diagnosis]
    with pytest.raises(BadInput, match="none of these photos"):
        apply_splits(cases("a", source="mine"), splits)


def test_a_split_without_cases_is_refused_and_the_existing_splits_named(tmp_path):
    splits = table(tmp_path / "s.csv", HEADER, ("d", "a", "", "train", ""), ("d", "b", "", "val", ""))
    with pytest.raises(BadInput, match=r"'tset' \(it has: train, val\)"):
        apply_splits(cases("a", "b"), splits, "tset")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([("name", "split"), ("a", "train")], "no column 'id'"),
        ([("id", "dx"), ("a", "nv")], "needs the columns"),
        ([("id", "split"), ("a", "train"), ("b", "")], "filled in every row"),
        ([("id", "split")], "not a split file"),
        ([], "no column 'id'"),
    ],
)
def test_a_file_that_is_not_a_split_file_is_refused_by_name(tmp_path, rows, says):
    path = table(tmp_path / "s.csv", *rows)
    with pytest.raises(BadInput, match=says) as caught:
        read_splits(path)
    assert str(path) in str(caught.value)


def test_a_missing_split_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match="No such file"):
        read_splits(tmp_path / "none.csv")


# --- the real folders ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not DATA.is_dir(), reason="the real photos (../shared/data) are not on this computer")
@pytest.mark.parametrize(
    ("folder", "counts"),
    [
        ("ham10000", {"train": 7870, "val": 549, "test": 650}),
        ("ham10000_crop256", {"train": 7870, "val": 549, "test": 650}),
        ("isic2018", {"train": 2017, "val": 151, "test": 158}),
        ("isic_whole", {"train": 2202, "val": 151, "test": 158}),
        ("isic_fullres", {"fullres": 41}),
    ],
)
def test_every_photo_of_the_real_datasets_has_its_mask_and_split(folder, counts):
    found = find_cases(DATA / folder)
    assert all(case.mask and case.mask.stem == f"{case.image.stem}_segmentation" for case in found)
    for split, count in counts.items():
        assert len(apply_splits(found, DATA / "splits.csv", split)) == count
