"""Folders of photos and masks -> `Case` rows, whatever the folder is called.

Known without any setting: HAM10000 (Kaggle and Dataverse), ISIC 2016/2017/2018, PH2 (a folder per image, BMP), plain
`images/` + `masks/`, and image and mask side by side. All of them come down to two rules: a file is a mask by its name
(`<id>_segmentation.png`) or by the folder it is in (`masks/`), and a mask belongs to the photo of the same id that is
nearest to it.
"""

import csv
import filecmp
import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels.image import IMAGE_SUFFIXES

_MASK_NAME = re.compile(r"^(?P<id>.+?)[_-](segmentation|mask|gt|groundtruth)$", re.IGNORECASE)
_MASK_FOLDER = re.compile(r"(^|[\W_])masks?($|[\W_])|segmentation|ground_?-?truth|^(gt|labels?)$", re.IGNORECASE)
_PHOTO_FOLDER = re.compile(r"image|photo|(^|[\W_])(input|data)$", re.IGNORECASE)
_PH2_MASK = re.compile(r"^(?P<id>.+)_lesion$")
# Not photos and not lesion masks: our own results, ISIC's superpixels and dermoscopic features, PH2's colour regions.
_NEITHER = re.compile(
    r"_(overlay|probability|superpixels|attribute_\w+|globules|streaks|R\d+_Label\d+)$", re.IGNORECASE
)

_ID_COLUMNS = ("id", "image_id", "isic_id", "image_name", "image")
_GROUP_COLUMNS = ("lesion_group", "group", "lesion_id", "patient_id", "patient")
_DIAGNOSIS_COLUMNS = ("diagnosis", "dx")
_SOURCE_COLUMNS = ("dataset", "source")

EXPORT_MARK = "skinseg-export.json"
"""A folder below the one searched that holds this file was written by an export: its photos are copies, and skipped."""

RECORDS = "segmentations.json"
"""What `batch` leaves beside the masks that a model drew; one that nobody changed since is no truth, and skipped."""


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


@dataclass(frozen=True)
class Found:
    """What a folder holds: the photos as cases, and the masks that belong to none of them."""

    cases: tuple[Case, ...]
    orphans: tuple[Path, ...]


def find_cases(folder: str | Path, group_column: str = "") -> list[Case]:
    """Every photo below `folder`, paired with its mask where there is one, sorted by id; see `search`."""
    return list(search(folder, group_column).cases)


def search(folder: str | Path, group_column: str = "") -> Found:
    """Every photo below `folder`, paired with its mask where there is one, sorted by id, and the masks left over.

    `group` and `diagnosis` come from the metadata tables (CSV, or Dataverse's tab files) in the folder or one level
    below. The group is the lesion, else the patient, or the column named `group_column`.

    Raises:
        BadInput: `folder` is no folder, holds no photo, or no table in it has the column `group_column`.
    """
    root = Path(folder)
    if not root.is_dir():
        raise BadInput(f"{root} is not a folder; give the folder that holds the photos and their masks.")
    photos, masks = _sort_files(root)
    if not photos:
        raise BadInput(f"{root} holds no photo (JPEG, PNG, TIFF, BMP or WebP); give the folder that holds the photos.")
    source = root.resolve().name
    facts = _metadata(root, group_column)
    cases: list[Case] = []
    paired: set[Path] = set()
    for name, paths in photos.items():
        partners = _pair(paths, masks.get(name, []))
        paired.update(partners.values())
        fact = facts.get(name, SplitRow(name, ""))
        for path in paths:
            cases.append(
                Case(
                    id=name if len(paths) == 1 else path.relative_to(root).with_suffix("").as_posix(),
                    image=path,
                    mask=partners.get(path),
                    group=fact.group,
                    source=source,
                    diagnosis=fact.diagnosis,
                )
            )
    orphans = sorted(mask for found in masks.values() for mask in found if mask not in paired)
    return Found(tuple(sorted(cases, key=lambda case: case.id)), tuple(orphans))


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
    drawn: set[Path] = set()
    for folder, subfolders, names in os.walk(root):
        here = Path(folder)
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith((".", "__MACOSX")) and not (here / name / EXPORT_MARK).exists()
        )
        if RECORDS in names:
            drawn.update(_drawn_by_a_model(here))
        holds_masks = _holds_masks(here.relative_to(root))
        for name in sorted(names):
            stem, dot, suffix = name.rpartition(".")
            if name.startswith(".") or dot + suffix.lower() not in IMAGE_SUFFIXES or _NEITHER.search(stem):
                continue
            named = _MASK_NAME.match(stem) or (_PH2_MASK.match(stem) if here.name == stem else None)
            if named:
                masks[named["id"]].append(here / name)
            elif holds_masks:
                masks[stem].append(here / name)
            else:
                photos[stem].append(here / name)
    if drawn:
        truths = {name: [path for path in paths if path not in drawn] for name, paths in masks.items()}
        masks = defaultdict(list, {name: paths for name, paths in truths.items() if paths})
    return {name: _distinct(paths) for name, paths in photos.items()}, masks


def _drawn_by_a_model(folder: Path) -> Iterator[Path]:
    """The masks below `folder` that are, byte for byte, what a model drew: comparing with them would flatter it."""
    try:
        records = json.loads((folder / RECORDS).read_text(encoding="utf-8"))["masks"]
        known = {folder / name: record["mask_sha256"] for name, record in records.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # somebody else's file of that name
    for path, digest in known.items():
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
            yield path


def _holds_masks(folder: Path) -> bool:
    """Whether `folder`, relative to the root, is for masks; its innermost telling name decides."""
    for part in reversed(folder.parts):
        if _MASK_FOLDER.search(part):
            return True
        if _PHOTO_FOLDER.search(part):
            return False
    return False


def _distinct(paths: list[Path]) -> list[Path]:
    """Photos of one name without true copies: Kaggle's HAM10000 holds every photo twice."""
    kept: list[Path] = []
    for path in paths:
        if not any(filecmp.cmp(path, other, shallow=False) for other in kept):
            kept.append(path)
    return kept


def _pair(photos: list[Path], masks: list[Path]) -> dict[Path, Path]:
    """Photo -> mask, all of one id: the two that share the most folders first, each used once."""
    near = sorted(
        ((photo, mask) for photo in photos for mask in masks),
        key=lambda two: -len(Path(os.path.commonpath(two)).parts),
    )
    partners: dict[Path, Path] = {}
    for photo, mask in near:
        if photo not in partners and mask not in partners.values():
            partners[photo] = mask
    return partners


def _metadata(root: Path, group_column: str) -> dict[str, SplitRow]:
    """What the tables beside the photos say of each photo, by its id; several tables complete each other."""
    facts: dict[str, SplitRow] = {}
    column_seen = not group_column
    patterns = ("*.csv", "*.tab", "*.tsv", "HAM10000_metadata")
    tables = [path for pattern in patterns for path in (*root.glob(pattern), *root.glob(f"*/{pattern}"))]
    for path in sorted(tables, key=lambda path: (len(path.parts), path)):
        try:
            rows = list(_rows(path, group_column))
        except BadInput:
            continue  # a table of something else
        column_seen |= any(row.group for row in rows)
        for row in rows:
            known = facts.get(row.id, row)
            facts[row.id] = replace(known, group=known.group or row.group, diagnosis=known.diagnosis or row.diagnosis)
    if not column_seen:
        raise BadInput(f"No table in {root} has a column {group_column!r} beside the photos' ids; check its name.")
    return facts


def _rows(path: Path, group_column: str = "") -> Iterator[SplitRow]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            delimiter = "\t" if "\t" in file.readline() else ","
            file.seek(0)
            table = csv.DictReader(file, delimiter=delimiter)
            columns = table.fieldnames or []
            name = _first(_ID_COLUMNS, columns)
            if not name:
                raise BadInput(f"{path} has no column 'id' or 'image_id'; add one with the photos' names.")
            group = group_column or _first(_GROUP_COLUMNS, columns)
            diagnosis, source = _first(_DIAGNOSIS_COLUMNS, columns), _first(_SOURCE_COLUMNS, columns)
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
