"""Check cases before a long run: pairs, sizes, files that cannot be read, duplicates."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, Event, NeverCancelled, OnEvent, ignore_event, raise_if_cancelled
from napari_skinseg.pixels.image import check_readable
from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.read_ahead import read_ahead

from .dataset import Case

_EXAMPLES = 3


@dataclass(frozen=True)
class CheckReport:
    """The result of `check_cases`.

    Attributes:
        pairs: number of photos with a mask.
        usable: pairs for training and evaluation: both files can be read and have the same size.
        without_mask: photos without a mask.
        wrong_size: masks whose size differs from the size of their photo.
        unreadable: a sentence for each photo or mask that cannot be read.
        empty, full: masks without a lesion, or without skin. They are usable: some datasets contain them on purpose.
        duplicates: groups of photos with identical content. They are usable, but must be in the same split.
    """

    pairs: int
    usable: tuple[Case, ...]
    without_mask: tuple[Path, ...]
    wrong_size: tuple[Path, ...]
    unreadable: tuple[str, ...]
    empty: tuple[Path, ...]
    full: tuple[Path, ...]
    duplicates: tuple[tuple[Path, ...], ...]

    def as_text(self) -> str:
        """A line with the counts, then a line for each kind of problem with up to three examples."""
        lines = [f"{_count(self.pairs, 'pair')} of photo and mask, {len(self.usable):,} usable."]
        problems = [
            ("photo", "without a mask", _names(self.without_mask)),
            ("mask", "of another size than the photo", _names(self.wrong_size)),
            ("file", "that cannot be read", list(self.unreadable)),
            ("mask", "without any lesion", _names(self.empty)),
            ("mask", "covering the whole frame", _names(self.full)),
            ("photo", "present more than once", [" = ".join(_names(same)) for same in self.duplicates]),
        ]
        for noun, problem, examples in problems:
            if examples:
                more = ", …" if len(examples) > _EXAMPLES else ""
                lines.append(f"{_count(len(examples), noun)} {problem}: {', '.join(examples[:_EXAMPLES])}{more}")
        return "\n".join(lines)


def check_cases(
    cases: Sequence[Case], on_event: OnEvent = ignore_event, cancel: CancelToken | None = None
) -> CheckReport:
    """Read every photo and mask and report what can be used.

    Args:
        cases: from `find_cases`.
        on_event: receives the progress, stage "check".
        cancel: is read before each case.

    Raises:
        Cancelled: `cancel` was set.
    """
    cancel = cancel or NeverCancelled()
    on_event(Event("check", done=0, total=len(cases)))
    checked = []
    for done, (_, future) in enumerate(read_ahead(_check, cases, cancel=cancel), start=1):
        checked.append(future.result())
        on_event(Event("check", done=done, total=len(cases)))
    return CheckReport(
        pairs=sum(case.mask is not None for case in cases),
        usable=tuple(one.case for one in checked if one.case.mask and not one.problems and not one.wrong_size),
        without_mask=tuple(case.image for case in cases if case.mask is None),
        wrong_size=_masks(one for one in checked if one.wrong_size),
        unreadable=tuple(problem for one in checked for problem in one.problems),
        empty=_masks(one for one in checked if one.lesion_fraction == 0),
        full=_masks(one for one in checked if one.lesion_fraction == 1),
        duplicates=_duplicates([case.image for case in cases], cancel),
    )


@dataclass(frozen=True)
class _CheckedCase:
    """One case; `lesion_fraction` of its mask is None if the mask could not be read."""

    case: Case
    problems: tuple[str, ...]
    wrong_size: bool
    lesion_fraction: float | None


def _check(case: Case) -> _CheckedCase:
    size, mask, problems = None, None, []
    try:
        size = check_readable(case.image)
    except BadInput as error:
        problems.append(str(error))
    if case.mask is not None:
        try:
            mask = read_mask(case.mask)
        except BadInput as error:
            problems.append(str(error))
    return _CheckedCase(
        case,
        tuple(problems),
        wrong_size=size is not None and mask is not None and mask.shape != size,
        lesion_fraction=None if mask is None else float(mask.mean()),
    )


def _duplicates(photos: Iterable[Path], cancel: CancelToken) -> tuple[tuple[Path, ...], ...]:
    """Groups of files with the same bytes. Only files of equal length are read."""
    by_length: dict[int, list[Path]] = defaultdict(list)
    for path in photos:
        if path.exists():
            by_length[path.stat().st_size].append(path)
    same: dict[tuple[int, bytes], list[Path]] = defaultdict(list)
    for length, paths in by_length.items():
        raise_if_cancelled(cancel)
        for path in paths if len(paths) > 1 else ():
            same[length, _digest(path)].append(path)
    return tuple(tuple(paths) for paths in same.values() if len(paths) > 1)


def _digest(path: Path) -> bytes:
    try:
        return blake2b(path.read_bytes()).digest()
    except OSError:
        return os.fsencode(path)  # already reported as unreadable; equal to no other file


def _masks(checked: Iterable[_CheckedCase]) -> tuple[Path, ...]:
    return tuple(one.case.mask for one in checked if one.case.mask is not None)


def _names(paths: Iterable[Path]) -> list[str]:
    return [path.name for path in paths]


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
