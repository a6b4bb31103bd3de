"""Open a folder for review, in a worker: open or create its project, list the photos, search for new ones. No Qt."""

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from napari.settings import get_settings
from napari.utils.history import update_open_history

from napari_skinseg.datasets.dataset import find_cases
from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, Event
from napari_skinseg.files import make_output_folder
from napari_skinseg.plugin.background import Report
from napari_skinseg.plugin.first_layer import prepare_first_layer
from napari_skinseg.project.project import (
    SUBFOLDER,
    Order,
    Owner,
    Photo,
    Project,
    Queue,
    project_folder,
    restore_backup,
)

_ABANDONED_AFTER = timedelta(hours=12)


@dataclass(frozen=True)
class ProjectContents:
    """The photos of a project and their order of review.

    Attributes:
        photos: all photos.
        queue: their order.
        resume_at: id of the photo to start with; None if all photos are reviewed.
        unreadable: the files that cannot be read as photos, each with the reason.
        not_searched: folders that the project names, but that lie outside the folder of the project: the project of an
            unknown person may name any folder of this computer.
    """

    photos: list[Photo]
    queue: Queue
    resume_at: str | None
    unreadable: list[tuple[Path, str]]
    not_searched: tuple[Path, ...] = ()


@dataclass(frozen=True)
class OpenedProject:
    """An open project, reported before the folder is searched for new photos.

    Attributes:
        project: the open project.
        contents: its photos before the search.
        is_new: whether this opening created the project.
        read_only: whether nothing may be written.
        messages: sentences to show to the person.
    """

    project: Project
    contents: ProjectContents
    is_new: bool
    read_only: bool
    messages: tuple[str, ...]


@dataclass(frozen=True)
class OpenOptions:
    """The answers of the person about a project that cannot simply be opened.

    Attributes:
        take_over: open the project although another person's lock file is there.
        read_only: open the project without writing.
        restore: first replace the damaged index by its backup.
        location: folder for the project if the folder of photos is read-only; None for the usual sub-folder.
        search_elsewhere: search the folders that `ProjectContents.not_searched` names, too.
    """

    take_over: bool = False
    read_only: bool = False
    restore: bool = False
    location: Path | None = None
    search_elsewhere: bool = False


class FolderNotWritable(BadInput):
    """The folder of photos is read-only; the project needs another folder, `OpenOptions.location`."""


def open_folder(
    folder: Path,
    options: OpenOptions,
    order: Order,
    report: Report,
    cancel: CancelToken,
    open_projects: list[Project],
) -> ProjectContents | None:
    """Open or create the project of a folder of photos; report an `OpenedProject`, then `Event`s of the scan.

    Args:
        folder: of photos, or of a project.
        options: see `OpenOptions`.
        order: order of review.
        report: receives the `OpenedProject`, the `Event`s and sentences about problems.
        cancel: stops the scan.
        open_projects: the opened project is appended, so that it can be closed even if the report is not received.

    Returns:
        The contents after the scan; None without a scan (read-only).

    Raises:
        ProjectInUse, ProjectDamaged: see `Project.open`; ask the person for `OpenOptions`.
        FolderNotWritable: ask the person for another folder.
        BadInput: no photos, or a folder that cannot be read or written to.
        Cancelled: the photos found so far are in the project.
    """
    location = options.location or project_folder(folder)
    if options.restore:
        restore_backup(location)
    is_new = not Project.exists(location)
    if is_new and not (location / "masks").exists():
        report(Event("scan", message=f"Searching for photos in {folder.name}…"))
        find_cases(folder)  # raises `BadInput` if there are no photos, before any folder is created
        _create_folder(location)
    project = Project.open(location, create=True, take_over=options.take_over, read_only=options.read_only)
    open_projects.append(project)
    try:
        roots = [folder] if is_new or location != folder else [root.resolve() for root in project.roots()]
        elsewhere = [root for root in roots if location == folder and not root.is_relative_to(project.folder.parent)]
        contents = read_contents(project, order)
    except BaseException:
        open_projects.remove(project)
        project.close()
        raise
    prepare_first_layer()
    report(OpenedProject(project, contents, is_new, options.read_only, project.repairs))
    if options.read_only:
        return None
    problems = []
    not_searched = () if options.search_elsewhere else tuple(elsewhere)
    for root in roots:
        if root in not_searched:
            continue
        try:
            outcome = project.scan(root, report, cancel)
            if outcome.missing or outcome.replaced:
                problems.append(f"{root.name}: {outcome.in_words()}")
        except BadInput as error:
            problems.append(str(error))
    if problems:
        report("\n".join(problems))
    return replace(read_contents(project, order), not_searched=not_searched)


def read_contents(project: Project, order: Order) -> ProjectContents:
    """The photos of a project in an order of review."""
    queue = project.queue(order)
    return ProjectContents(project.photos(), queue, project.resume(queue), project.unreadable())


def recent_folders() -> list[Path]:
    """The folders with a project among those that were opened last in napari, the last one first."""
    folders = map(Path, get_settings().application.open_history)
    return [folder for folder in folders if Project.exists(project_folder(folder))]


def remember_folder(project: Project) -> None:
    """Add the folder of photos of a project to those that were opened last in napari."""
    folder = project.folder.parent if project.folder.name == SUBFOLDER else project.folder
    update_open_history(str(folder / "*"))  # napari remembers the folder of a file


def may_take_over(owner: Owner | None, now: Callable[[], datetime] = datetime.now) -> bool:
    """Whether the person may take over a project that `owner` has locked.

    On this computer, the lock says that the process of the owner is running. On another computer only the start time is
    known; a lock older than 12 hours may be taken over.
    """
    if owner is None:
        return True
    try:
        since = datetime.strptime(owner.since, "%Y-%m-%d %H:%M")
    except ValueError:
        return True
    return owner.host != platform.node() and now() - since > _ABANDONED_AFTER


def _create_folder(location: Path) -> None:
    try:
        make_output_folder(location)
    except BadInput as error:
        raise FolderNotWritable(
            f"{location.parent} is read-only, so the masks cannot be kept beside the photos. "
            "Choose another folder for the masks."
        ) from error
