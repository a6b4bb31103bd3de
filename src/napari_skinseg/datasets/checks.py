"""Looking a folder over before a long run: what is there, what is missing, what would fail hours later."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, Event, NeverCancelled, OnEvent, ignore_event, raise_if_cancelled
from napari_skinseg.pixels.image import check_readable, read_size
from napari_skinseg.pixels.mask import read_mask

from .dataset import Case, search

Result = TypeVar("Result")

_EXAMPLES = 3
_BATCH = 64


@dataclass(frozen=True)
class Preflight:
    """What `preflight` found.

    Attributes:
        pairs: photos with a mask, all of them.
        usable: the pairs that can be trained on and measured: both files readable and of one size.
        without_mask: photos that have none.
        without_image: masks that belong to no photo.
        wrong_size: masks that differ from their photo in size.
        unreadable: a sentence for each photo or mask that cannot be read.
        empty, full: masks without a lesion, or with nothing else; usable, because some datasets mean them.
        duplicates: photos with the same content under different names, by content; usable, but one split should have
            them all.
    """

    pairs: int
    usable: tuple[Case, ...]
    without_mask: tuple[Path, ...]
    without_image: tuple[Path, ...]
    wrong_size: tuple[Path, ...]
    unreadable: tuple[str, ...]
    empty: tuple[Path, ...]
    full: tuple[Path, ...]
    duplicates: tuple[tuple[Path, ...], ...]

    def in_words(self) -> str:
        """A line for each finding with up to three examples; what is in order is not mentioned."""
        lines = [f"{_number(self.pairs, 'pair')} of photo and mask, {len(self.usable):,} usable."]
        findings = [
            ("photo", "without a mask", _names(self.without_mask)),
            ("mask", "without a photo", _names(self.without_image)),
            ("mask", "of another size than the photo", _names(self.wrong_size)),
            ("file", "that cannot be read", list(self.unreadable)),
            ("mask", "without any lesion", _names(self.empty)),
            ("mask", "covering the whole frame", _names(self.full)),
            ("photo", "present more than once", [" = ".join(_names(same)) for same in self.duplicates]),
        ]
        for noun, what, examples in findings:
            if examples:
                more = ", …" if len(examples) > _EXAMPLES else ""
                lines.append(f"{_number(len(examples), noun)} {what}: {', '.join(examples[:_EXAMPLES])}{more}")
        return "\n".join(lines)


def preflight(
    folder: str | Path,
    *,
    contents: bool = True,
    on_event: OnEvent = ignore_event,
    cancel: CancelToken | None = None,
) -> Preflight:
    """Look `folder` over: pairs by name, sizes by header and, unless `contents` is False, every file by its content.

    Headers of 10,000 photos take seconds, contents (600x450) about half a minute on two cores.

    Raises:
        BadInput: `folder` is no folder or holds no photo.
        Cancelled: `cancel` was set.
    """
    found = search(folder)
    return check_cases(found.cases, found.orphans, contents=contents, on_event=on_event, cancel=cancel)


def check_cases(
    cases: Sequence[Case],
    orphans: Iterable[Path] = (),
    *,
    contents: bool = True,
    on_event: OnEvent = ignore_event,
    cancel: CancelToken | None = None,
) -> Preflight:
    """As `preflight`, for cases that were found already; `orphans` are masks without a photo."""
    cancel = cancel or NeverCancelled()
    look = _look_inside if contents else _look_at_headers
    looks = list(_in_threads(look, cases, on_event, cancel))
    return Preflight(
        pairs=sum(case.mask is not None for case in cases),
        usable=tuple(look.case for look in looks if look.case.mask and not look.problems and not look.wrong_size),
        without_mask=tuple(case.image for case in cases if case.mask is None),
        without_image=tuple(orphans),
        wrong_size=tuple(_masks(look for look in looks if look.wrong_size)),
        unreadable=tuple(problem for look in looks for problem in look.problems),
        empty=tuple(_masks(look for look in looks if look.share == 0)),
        full=tuple(_masks(look for look in looks if look.share == 1)),
        duplicates=_duplicates([case.image for case in cases], cancel) if contents else (),
    )


@dataclass(frozen=True)
class _Look:
    """One case looked at; `share` of the frame that is lesion is None where it was not looked at."""

    case: Case
    problems: tuple[str, ...] = ()
    wrong_size: bool = False
    share: float | None = None


def _look_at_headers(case: Case) -> _Look:
    sizes, problems = [], []
    for path in filter(None, (case.image, case.mask)):
        try:
            sizes.append(read_size(path))
        except BadInput as error:
            problems.append(str(error))
    return _Look(case, tuple(problems), wrong_size=len(set(sizes)) > 1)


def _look_inside(case: Case) -> _Look:
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
    return _Look(
        case,
        tuple(problems),
        wrong_size=size is not None and mask is not None and mask.shape != size,
        share=None if mask is None else float(mask.mean()),
    )


def _in_threads(
    look: Callable[[Case], Result], cases: Sequence[Case], on_event: OnEvent, cancel: CancelToken
) -> Iterator[Result]:
    """`look` at each case, in order; decoding and reading release the GIL, so threads are enough."""
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        for start in range(0, len(cases), _BATCH):
            raise_if_cancelled(cancel)
            on_event(Event("check", done=start, total=len(cases)))
            yield from pool.map(look, cases[start : start + _BATCH])
        on_event(Event("check", done=len(cases), total=len(cases)))
    finally:
        pool.shutdown(cancel_futures=True)


def _duplicates(photos: Iterable[Path], cancel: CancelToken) -> tuple[tuple[Path, ...], ...]:
    """Groups of files with the same bytes; only files of the same length are read."""
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
        return os.fsencode(path)  # reported as unreadable already; equal to nothing


def _masks(looks: Iterable[_Look]) -> Iterator[Path]:
    return (look.case.mask for look in looks if look.case.mask is not None)


def _names(paths: Iterable[Path]) -> list[str]:
    return [path.name for path in paths]


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
