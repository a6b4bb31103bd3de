"""Find cases: the photos below a folder, each with its mask if there is one.

Known layouts: HAM10000 (Kaggle and Dataverse), ISIC 2016/2017/2018, PH2 (a folder per photo, BMP), `images/` beside
`masks/`, and mask beside photo. Two rules cover all of them. A file is a mask if its name says so
(`<id>_segmentation.png`) or its folder does (`masks/`). A mask belongs to the photo with the same id that shares the
most parent folders with the mask.
"""

import csv
import filecmp
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels.image import IMAGE_SUFFIXES

from .records import find_model_masks, has_records

_MASK_NAME = re.compile(r"^(?P<id>.+?)[_-](segmentation|mask|gt|groundtruth)$", re.IGNORECASE)
_MASK_FOLDER = re.compile(r"(^|[\W_])masks?($|[\W_])|segmentation|ground_?-?truth|^(gt|labels?)$", re.IGNORECASE)
_PHOTO_FOLDER = re.compile(r"image|photo|(^|[\W_])(input|data)$", re.IGNORECASE)
_PH2_MASK = re.compile(r"^(?P<id>.+)_lesion$")
# Neither photos nor lesion masks: our own results, superpixels and dermoscopic features of ISIC, colour regions of PH2.
_IGNORED_NAME = re.compile(
    r"_(overlay|probability|superpixels|attribute_\w+|globules|streaks|R\d+_Label\d+)$", re.IGNORECASE
)

_ID_COLUMNS = ("id", "image_id", "isic_id", "image_name", "image")
_GROUP_COLUMNS = ("lesion_group", "group", "lesion_id", "patient_id", "patient")
_DIAGNOSIS_COLUMNS = ("diagnosis", "dx")
_SOURCE_COLUMNS = ("dataset", "source")

EXPORT_MARK = "skinseg-export.json"
"""A subfolder with this file was written by an export. Its photos are copies, so the search skips it."""


@dataclass(frozen=True)
class Case:
    """One photo with its mask and metadata.

    Attributes:
        id: name of the photo without suffix; with its folders ("a/b/name") if several photos have the same name.
        mask: file with the values 0 and 255, in the size of the photo; None if there is no mask.
        group: lesion or patient; a split never separates photos of one group. Empty if not known.
        source: name of the folder that was searched, for example "ham10000".
        diagnosis: as in the metadata, for example "mel". Empty if not known.
        split: "train", "val", "test", … after `apply_splits` or `divide`; else empty.
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
    """One row of a split file; see `read_splits`."""

    id: str
    split: str
    dataset: str = ""
    group: str = ""
    diagnosis: str = ""


def find_cases(folder: str | Path) -> list[Case]:
    """Find all photos below `folder`, each with its mask if there is one, sorted by id.

    `group` and `diagnosis` come from metadata tables (CSV, or the tab-separated files of Dataverse) in the folder or
    its direct subfolders; the group is the lesion, or the patient if no lesion is given. A mask that a model made and
    nobody changed is ignored, see `records`.

    Raises:
        BadInput: `folder` is not a folder, or has no photo.
    """
    root = Path(folder)
    if not root.is_dir():
        raise BadInput(f"{root} is not a folder; give the folder that holds the photos and their masks.")
    photos, masks = _photos_and_masks(root)
    if not photos:
        raise BadInput(f"{root} holds no photo (JPEG, PNG, TIFF, BMP or WebP); give the folder that holds the photos.")
    source = root.resolve().name
    metadata = _read_metadata(root)
    cases: list[Case] = []
    for name, paths in photos.items():
        mask_of = _pair(paths, masks.get(name, []))
        row = metadata.get(name, SplitRow(name, ""))
        for path in paths:
            cases.append(
                Case(
                    id=name if len(paths) == 1 else path.relative_to(root).with_suffix("").as_posix(),
                    image=path,
                    mask=mask_of.get(path),
                    group=row.group,
                    source=source,
                    diagnosis=row.diagnosis,
                )
            )
    return sorted(cases, key=lambda case: case.id)


def read_splits(path: str | Path) -> list[SplitRow]:
    """Read a split file: a CSV file with `id` and `split`, and optionally `dataset`, `lesion_group` and `diagnosis`.

    Raises:
        BadInput: the file does not exist, is not a CSV file, or lacks a column.
    """
    path = Path(path)
    rows = list(_read_rows(path))
    if any(not row.split for row in rows) or not rows:
        raise BadInput(f"{path} is not a split file; it needs the columns 'id' and 'split', filled in every row.")
    return rows


def apply_splits(cases: Iterable[Case], splits: str | Path, split: str = "train") -> list[Case]:
    """Return the cases that the file `splits` assigns to `split`, with group, diagnosis and split filled in.

    The id selects the row of a case. If the file has the id in several datasets, the dataset name decides: it is equal
    to the source of the case, or the source starts with it ("ham10000" matches "ham10000_crop256"). Cases without a row
    are left out.

    Raises:
        BadInput: the file assigns none of the cases to `split`.
    """
    rows_of: dict[str, list[SplitRow]] = defaultdict(list)
    for row in read_splits(splits):
        rows_of[row.id].append(row)
    chosen = []
    for case in cases:
        match = _row_of(case, rows_of.get(case.id) or rows_of.get(case.image.stem) or [])
        if match is not None and match.split == split:
            chosen.append(
                replace(case, split=split, group=match.group or case.group, diagnosis=match.diagnosis or case.diagnosis)
            )
    if not chosen:
        known = ", ".join(sorted({row.split for rows in rows_of.values() for row in rows}))
        raise BadInput(
            f"{splits} puts none of these photos into the split {split!r} (it has: {known}); choose another split."
        )
    return chosen


def _row_of(case: Case, rows: list[SplitRow]) -> SplitRow | None:
    """The row of `case`, from all rows with its id."""
    if len(rows) <= 1:
        return rows[0] if rows else None
    matching = [row for row in rows if row.dataset and case.source.startswith(row.dataset)]
    # The longest name is used: "ham10000_crop256" before "ham10000" if the file has both.
    return max(matching, key=lambda row: len(row.dataset), default=None)


def _photos_and_masks(root: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Find all image files below `root` and return photos and masks, each by id."""
    photos: dict[str, list[Path]] = defaultdict(list)
    masks: dict[str, list[Path]] = defaultdict(list)
    model_masks: set[Path] = set()

    def refuse(error: OSError) -> None:
        raise BadInput(f"{error.filename} cannot be read ({error.strerror}); allow reading it, or move it elsewhere.")

    for path, subfolders, names in os.walk(root, onerror=refuse):
        folder = Path(path)
        if EXPORT_MARK in names and folder != root:
            subfolders.clear()
            continue
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__MACOSX")))
        if has_records(names):
            model_masks.update(find_model_masks(folder))
        holds_masks = _holds_masks(folder.relative_to(root))
        for name in sorted(names):
            stem, dot, suffix = name.rpartition(".")
            if name.startswith(".") or dot + suffix.lower() not in IMAGE_SUFFIXES or _IGNORED_NAME.search(stem):
                continue
            mask_name = _MASK_NAME.match(stem) or (_PH2_MASK.match(stem) if folder.name == stem else None)
            if mask_name:
                masks[mask_name["id"]].append(folder / name)
            elif holds_masks:
                masks[stem].append(folder / name)
            else:
                photos[stem].append(folder / name)
    truths = {name: [path for path in paths if path not in model_masks] for name, paths in masks.items()}
    return {name: _without_copies(paths) for name, paths in photos.items()}, truths


def _holds_masks(folder: Path) -> bool:
    """Whether `folder`, relative to the root, holds masks; the innermost name that says so decides."""
    for part in reversed(folder.parts):
        if _MASK_FOLDER.search(part):
            return True
        if _PHOTO_FOLDER.search(part):
            return False
    return False


def _without_copies(paths: list[Path]) -> list[Path]:
    """Photos of one name without identical copies: HAM10000 on Kaggle holds each photo twice."""
    kept: list[Path] = []
    for path in paths:
        if not any(filecmp.cmp(path, other, shallow=False) for other in kept):
            kept.append(path)
    return kept


def _pair(photos: list[Path], masks: list[Path]) -> dict[Path, Path]:
    """Photo -> mask, for photos and masks of one id: pairs that share the most folders first, each file used once."""
    pairs = sorted(
        ((photo, mask) for photo in photos for mask in masks),
        key=lambda pair: -len(Path(os.path.commonpath(pair)).parts),
    )
    mask_of: dict[Path, Path] = {}
    for photo, mask in pairs:
        if photo not in mask_of and mask not in mask_of.values():
            mask_of[photo] = mask
    return mask_of


def _read_metadata(root: Path) -> dict[str, SplitRow]:
    """Id -> group and diagnosis, from all tables in `root` and its direct subfolders together."""
    metadata: dict[str, SplitRow] = {}
    patterns = ("*.csv", "*.tab", "*.tsv", "HAM10000_metadata")
    tables = [path for pattern in patterns for path in (*root.glob(pattern), *root.glob(f"*/{pattern}"))]
    for path in sorted(tables, key=lambda path: (len(path.parts), path)):
        try:
            rows = list(_read_rows(path))
        except BadInput:
            continue  # a table without photo ids
        for row in rows:
            known = metadata.get(row.id, row)
            metadata[row.id] = replace(
                known, group=known.group or row.group, diagnosis=known.diagnosis or row.diagnosis
            )
    return metadata


def _read_rows(path: Path) -> Iterator[SplitRow]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            delimiter = "\t" if "\t" in file.readline() else ","
            file.seek(0)
            table = csv.DictReader(file, delimiter=delimiter)
            columns = table.fieldnames or []
            name = _first(_ID_COLUMNS, columns)
            if not name:
                raise BadInput(f"{path} has no column 'id' or 'image_id'; add a column with the names of the photos.")
            group, diagnosis = _first(_GROUP_COLUMNS, columns), _first(_DIAGNOSIS_COLUMNS, columns)
            source = _first(_SOURCE_COLUMNS, columns)
            for row in table:
                yield SplitRow(
                    id=_without_suffix(row[name] or ""),
                    split=row.get("split") or "",
                    dataset=row.get(source) or "",
                    group=row.get(group) or "",
                    diagnosis=row.get(diagnosis) or "",
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read as a table ({error}); give a CSV file in UTF-8.") from error


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if dot + suffix.lower() in IMAGE_SUFFIXES else name


def _first(candidates: tuple[str, ...], columns: Iterable[str]) -> str:
    present = set(columns)
    return next((name for name in candidates if name in present), "")
