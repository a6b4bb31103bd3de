"""Opening a folder for review, in a worker: find or make its project, list its photos, look for new ones. No Qt."""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from napari_skinseg.datasets.dataset import find_cases
from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, Event
from napari_skinseg.files import make_output_folder
from napari_skinseg.plugin.background import Report
from napari_skinseg.project.project import (
    Order,
    Owner,
    Photo,
    Project,
    Queue,
    project_folder,
    restore_backup,
)

_STALE = timedelta(hours=12)


@dataclass(frozen=True)
class Listing:
    """What a project holds, in an order of review; `last` is where the person left off."""

    photos: list[Photo]
    queue: Queue
    last: str | None


@dataclass(frozen=True)
class Opened:
    """An open project, told before its photos are looked for; `news` are sentences for the person."""

    project: Project
    listing: Listing
    is_new: bool
    read_only: bool
    news: tuple[str, ...]


@dataclass(frozen=True)
class How:
    """What the person agreed to about a project that cannot simply be opened."""

    take_over: bool = False
    read_only: bool = False
    restore: bool = False
    place: Path | None = None


class NoPlace(BadInput):
    """The folder of photos cannot be written to; the project needs another place, `How.place`."""


def open_folder(
    folder: Path, how: How, order: Order, report: Report, cancel: CancelToken, opened: list[Project]
) -> Listing | None:
    """Open the project of a folder of photos, or make it: reports `Opened`, then `Event` while it scans.

    The open project is put into `opened` too, for whoever must close it if nobody hears the report any more.

    Returns:
        The listing after the scan; None if there was nothing to scan (read only).

    Raises:
        ProjectInUse, ProjectDamaged: see `Project.open`; ask the person how.
        NoPlace: the folder of photos is read-only; ask the person for another place.
        BadInput: no photos, or a folder that cannot be read or written to.
        Cancelled: what was found by then is in the project.
    """
    place = how.place or project_folder(folder)
    if how.restore:
        restore_backup(place)
    is_new = not Project.exists(place)
    if is_new and not (place / "masks").exists():
        report(Event("scan", message=f"Looking for photos in {folder.name}…"))
        find_cases(folder)  # says so if there are none, before anything is made there
        _make(place)
    project = Project.open(place, create=True, take_over=how.take_over, read_only=how.read_only)
    opened.append(project)
    try:
        roots = [folder] if is_new or place != folder else project.roots()
        listing = listed(project, order)
    except BaseException:
        opened.remove(project)
        project.close()
        raise
    report(Opened(project, listing, is_new, how.read_only, project.repairs))
    if how.read_only:
        return None
    problems = []
    for root in roots:
        try:
            outcome = project.scan(root, report, cancel)
            problems += [sentence for _, sentence in outcome.unreadable[:3]]
            if outcome.missing or outcome.replaced:
                problems.append(f"{root.name}: {outcome.in_words()}")
        except BadInput as error:
            problems.append(str(error))
    if problems:
        report("\n".join(problems))
    return listed(project, order)


def listed(project: Project, order: Order) -> Listing:
    """The photos of a project in an order of review."""
    queue = project.queue(order)
    return Listing(project.photos(), queue, project.resume(queue))


def may_be_gone(owner: Owner | None, now: Callable[[], datetime] = datetime.now) -> bool:
    """Whether whoever holds a project may be offered to be passed over.

    Of a process on this computer it is known that it lives; of another computer's only that it began long ago.
    """
    if owner is None:
        return True
    try:
        began = datetime.strptime(owner.since, "%Y-%m-%d %H:%M")
    except ValueError:
        return True
    return owner.host != platform.node() and now() - began > _STALE


def _make(place: Path) -> None:
    try:
        make_output_folder(place)
    except BadInput as error:
        raise NoPlace(
            f"{place.parent} cannot be written to, so masks cannot be kept beside the photos; choose a folder for them."
        ) from error
