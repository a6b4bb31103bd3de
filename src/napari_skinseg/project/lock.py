"""The lock file of a project: one person at a time has it open for writing."""

import getpass
import json
import os
import platform
import uuid
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import psutil

from napari_skinseg.errors import BadInput

LOCK_NAME = "skinseg-project.lock"


@dataclass(frozen=True)
class Owner:
    """Who has a project open.

    Attributes:
        host, pid, started: the process; a later process with the same number has another `started`.
        name: of the person.
        since: when it was opened, "2026-02-03 14:02".
        token: unique for each opening.
    """

    host: str
    pid: int
    started: float
    name: str
    since: str
    token: str

    @property
    def is_dead(self) -> bool:
        """Whether the process has ended; False if that is not known, as for a process on another computer."""
        if self.host != platform.node():
            return False
        try:
            process = psutil.Process(self.pid)
            return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - self.started) > 2
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False


class ProjectInUse(BadInput):
    """Another session has the project open; `owner` says which, None if the lock cannot be read."""

    def __init__(self, sentence: str, owner: Owner | None) -> None:
        super().__init__(sentence)
        self.owner = owner


class Lock:
    """The lock of one project folder, held from `acquire` to `release`."""

    def __init__(self, folder: Path, name: str = "", file_name: str = LOCK_NAME) -> None:
        self.path = folder / file_name
        self.owner = Owner(
            host=platform.node(),
            pid=os.getpid(),
            started=psutil.Process().create_time(),
            name=name or user_name(),
            since=f"{datetime.now():%Y-%m-%d %H:%M}",
            token=uuid.uuid4().hex,
        )

    def acquire(self, *, take_over: bool = False) -> str:
        """Take the lock; return a sentence if it belonged to another session before, else "".

        Args:
            take_over: take the lock even if another session holds it; only a person can know that session has ended.

        Raises:
            ProjectInUse: another session holds it.
            BadInput: the folder cannot be written to.
        """
        for _ in range(5):  # try again if the other session gives the lock back in between
            try:
                self._create()
                return ""
            except FileExistsError:
                pass
            except OSError as error:
                raise BadInput(
                    f"{self.path.parent} cannot be written to ({error.strerror or error}); "
                    "give a project folder that can be changed."
                ) from error
            content = self._content()
            if content is None:
                continue
            holder = _read(content)
            dead = holder is not None and holder.is_dead
            if not dead and not take_over:
                raise ProjectInUse(self._in_use(holder), holder)
            if self._remove(content):
                self._create_over()
                who = f"by {holder.name} on {holder.host}" if holder else "by someone unknown"
                return (
                    f"The last session ({who}) ended without closing the project."
                    if dead
                    else f"This session has taken over the project, which was open {who}."
                )
        raise ProjectInUse(self._in_use(None), None)

    def check(self) -> None:
        """Raise `ProjectInUse` if another session took the project over since `acquire`: only one may write."""
        content = self._content()
        holder = _read(content) if content else None
        if holder is None or holder.token != self.owner.token:
            raise ProjectInUse(self._in_use(holder), holder)

    def release(self) -> None:
        """Remove the lock if it is still the one of this session."""
        content = self._content()
        holder = _read(content) if content else None
        if content and holder is not None and holder.token == self.owner.token:
            self._remove(content)

    def _create(self) -> None:
        # Write a temporary file and link it, so that no process reads an incomplete lock; a link never replaces a file.
        own = self.path.with_name(f".{self.path.name}-{self.owner.token}")
        own.write_text(json.dumps(asdict(self.owner)), encoding="utf-8")
        try:
            os.link(own, self.path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links (FAT, some shares)
            with self.path.open("x", encoding="utf-8") as file:
                json.dump(asdict(self.owner), file)
        finally:
            own.unlink(missing_ok=True)

    def _create_over(self) -> None:
        try:
            self._create()
        except FileExistsError as error:
            raise ProjectInUse(self._in_use(None), None) from error

    def _content(self) -> str | None:
        try:
            return self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError):
            return ""

    def _remove(self, expected: str) -> bool:
        """Remove the lock if its content is `expected`; return False if another process has replaced it."""
        moved = self.path.with_name(f".{self.path.name}-{self.owner.token}")
        try:
            os.replace(self.path, moved)
        except FileNotFoundError:
            return False
        same = moved.read_text(encoding="utf-8", errors="replace") == expected or not expected
        if not same:
            os.replace(moved, self.path)
            return False
        moved.unlink()
        return True

    def _in_use(self, holder: Owner | None) -> str:
        if holder is None:
            return f"{self.path.parent} is open in another session; close it there first."
        return (
            f"{self.path.parent} is open: {holder.name} has it on {holder.host} since {holder.since}; "
            "close it there first."
        )


def user_name() -> str:
    """The name of the user account; "unknown" if there is none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no such user, as in some containers
        return "unknown"


def _read(content: str) -> Owner | None:
    try:
        return Owner(**json.loads(content))
    except (ValueError, TypeError):
        return None
