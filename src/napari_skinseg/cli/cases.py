"""The photos with masks that a command names."""

from collections.abc import Sequence
from pathlib import Path

from napari_skinseg.datasets.dataset import Case, apply_splits, find_cases


def cases_in(folders: Sequence[Path], splits: Path | None = None, split: str = "") -> list[Case]:
    """Return the cases in the folders; with a split file, only those of one split."""
    cases = [case for folder in folders for case in find_cases(folder)]
    return apply_splits(cases, splits, split) if splits else cases
