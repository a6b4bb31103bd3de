"""Folders of photos and masks -> `Case` rows, whatever the folder is called.

Known without any setting: HAM10000 (Kaggle and Dataverse), ISIC 2016/2017/2018, PH2 (a folder per image, BMP), plain
`images/` + `masks/`, and image and mask side by side. All of them come down to two rules: a file is a mask by its name
(`<id>_segmentation.png`) or by the folder it is in (`masks/`), and a mask belongs to the photo of the same id that is
nearest to it.
"""

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import BadInput
from ..pixels.image import IMAGE_SUFFIXES

_MASK_NAME = re.compile(r"^(?P<id>.+?)[_-](segmentation|lesion|mask|gt|groundtruth)$", re.IGNORECASE)
_MASK_FOLDER = re.compile(r"mask|segmentation|ground_?-?truth|^(gt|labels?|annotations?)$", re.IGNORECASE)
# Not photos and not lesion masks: our own overlays, ISIC's superpixels and attribute maps, PH2's colour regions.
_NEITHER = re.compile(r"(_overlay|_probability|_superpixels|_attribute_\w+|_R\d+_Label\d+)$", re.IGNORECASE)

_ID_COLUMNS = ("id", "image_id", "isic_id", "image_name", "image")
_GROUP_COLUMNS = ("lesion_group", "group", "lesion_id", "patient_id")
_DIAGNOSIS_COLUMNS = ("diagnosis", "dx")
_SOURCE_COLUMNS = ("dataset", "source")


@dataclass(frozen=True)
class Case:
    """One photo, perhaps its mask, and where it came from.

    Attributes:
        id: the photo's name without suffix, unique among the cases found together (else with its folders, "a/b/name").
        mask: 0/255 file of the photo's size, or None.
        group: photos of one group (lesion or patient) never fall into two splits; empty if not known.
        source: name of the folder that was searched, e.g. "ham10000".
        diagnosis: as the metadata has it, e.g. "mel"; empty if not known.
        split: "train", "val", "test"… once a split file was applied; else empty.
    """

    id: str
    image: Path
    mask: Path | None = None
    group: str = ""
    source: str = ""
    diagnosis: str = ""
    split: str = ""


@dataclass(frozen=True)
class SplitRow:
    """One line of a split file; see `read_splits`."""

    id: str
    split: str
    dataset: str = ""
    group: str = ""
    diagnosis: str = ""


def find_cases(folder: str | Path) -> list[Case]:
    """Every photo below `folder`, paired with its mask where there is one, sorted by id.

    `group` and `diagnosis` come from a metadata CSV in the folder (HAM10000's or ISIC's) where one is found.

    Raises:
        BadInput: `folder` is no folder or holds no photo.
    """
    root = Path(folder)
    if not root.is_dir():
        raise BadInput(f"{root} is not a folder; give the folder that holds the photos and their masks.")
    photos, masks = _sort_files(root)
    if not photos:
        raise BadInput(f"{root} holds no photo (JPEG, PNG, TIFF, BMP or WebP); give the folder that holds the photos.")
    source = root.resolve().name
    facts = {row.id: row for row in _metadata(root)}
    cases = []
    for name, paths in photos.items():
        for path in paths:
            case_id = name if len(paths) == 1 else path.relative_to(root).with_suffix("").as_posix()
            mask = _nearest(path, masks.get(name, []))
            fact = facts.get(name)
            cases.append(
                Case(
                    id=case_id,
                    image=path,
                    mask=mask,
                    group=fact.group if fact else "",
                    source=source,
                    diagnosis=fact.diagnosis if fact else "",
                )
            )
    return sorted(cases, key=lambda case: case.id)


def read_splits(path: str | Path) -> list[SplitRow]:
    """The rows of a split file: a CSV with `id` and `split`, and perhaps `dataset`, `lesion_group` and `diagnosis`.

    Raises:
        BadInput: no such file, no CSV, or a column is missing.
    """
    path = Path(path)
    rows = list(_rows(path))
    if any(not row.split for row in rows) or not rows:
        raise BadInput(f"{path} is not a split file; it needs the columns 'id' and 'split', filled in every row.")
    return rows


def apply_splits(cases: Iterable[Case], splits: str | Path, split: str = "train") -> list[Case]:
    """The cases that the file `splits` puts into `split`, with its group, diagnosis and split filled in.

    A case is looked up by its id; where the file has the id in several datasets, by the dataset whose name the case's
    source is or starts with ("ham10000" serves "ham10000_crop256"). Cases that the file does not name are left out.

    Raises:
        BadInput: the file names none of the cases for `split`.
    """
    by_id: dict[str, list[SplitRow]] = defaultdict(list)
    for row in read_splits(splits):
        by_id[row.id].append(row)
    chosen = []
    for case in cases:
        its = _row_of(case, by_id.get(case.id) or by_id.get(case.image.stem) or [])
        if its is not None and its.split == split:
            chosen.append(
                replace(case, split=split, group=its.group or case.group, diagnosis=its.diagnosis or case.diagnosis)
            )
    if not chosen:
        known = ", ".join(sorted({row.split for rows in by_id.values() for row in rows}))
        raise BadInput(
            f"{splits} puts none of these photos into the split {split!r} (it has: {known}); choose another."
        )
    return chosen


def _row_of(case: Case, rows: list[SplitRow]) -> SplitRow | None:
    """The row that speaks of `case`, out of all rows of its id."""
    if len(rows) <= 1:
        return rows[0] if rows else None
    names = [row for row in rows if row.dataset and case.source.startswith(row.dataset)]
    # The longest name wins, so that "ham10000_crop256" beats "ham10000" where a file has both.
    return max(names, key=lambda row: len(row.dataset), default=None)


def _sort_files(root: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """All image files below `root` as photos and masks, each by id."""
    photos: dict[str, list[Path]] = defaultdict(list)
    masks: dict[str, list[Path]] = defaultdict(list)
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        here = Path(folder)
        # Only folders below the root count: someone's "masks_project/" as a root says nothing about its files.
        in_masks = any(_MASK_FOLDER.search(part) for part in here.relative_to(root).parts)
        for name in sorted(names):
            stem, dot, suffix = name.rpartition(".")
            if not stem or dot + suffix.lower() not in IMAGE_SUFFIXES or _NEITHER.search(stem):
                continue
            named = _MASK_NAME.match(stem)
            if named:
                masks[named["id"]].append(here / name)
            elif in_masks:
                masks[stem].append(here / name)
            else:
                photos[stem].append(here / name)
    return photos, masks


def _nearest(photo: Path, masks: list[Path]) -> Path | None:
    """The mask that shares the most folders with `photo`; `masks` all have its id."""
    return max(masks, key=lambda mask: len(os.path.commonpath([photo, mask])), default=None)


def _metadata(root: Path) -> Iterator[SplitRow]:
    """What the CSV files beside the photos say of each image; files without an id column are not metadata."""
    for path in sorted(root.glob("*.csv")):
        try:
            yield from _rows(path)
        except BadInput:
            continue


def _rows(path: Path) -> Iterator[SplitRow]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns = table.fieldnames or []
            id_column = _first(_ID_COLUMNS, columns)
            if not id_column:
                raise BadInput(f"{path} has no column 'id' or 'image_id'; add one with the photos' names.")
            group, diagnosis = _first(_GROUP_COLUMNS, columns), _first(_DIAGNOSIS_COLUMNS, columns)
            source = _first(_SOURCE_COLUMNS, columns)
            for row in table:
                yield SplitRow(
                    id=row[id_column] or "",
                    split=row.get("split") or "",
                    dataset=row.get(source) or "",
                    group=row.get(group) or "",
                    diagnosis=row.get(diagnosis) or "",
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read as a CSV table ({error}); give a CSV file in UTF-8.") from error


def _first(candidates: tuple[str, ...], columns: Iterable[str]) -> str:
    present = set(columns)
    return next((name for name in candidates if name in present), "")
