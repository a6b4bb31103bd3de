"""One person at a time: the file that says who has a project open."""

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
        host, pid, started: the process; `started` tells it from a later one that was given the same number.
        name: the person.
        since: when it was opened, "2026-02-03 14:02".
        token: differs for each opening.
    """

    host: str
    pid: int
    started: float
    name: str
    since: str
    token: str

    @property
    def is_dead(self) -> bool:
        """Whether the process is known to have ended; of another computer nobody can tell."""
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
    """Someone else has the project open; `owner` is who, None if the lock cannot be read."""

    def __init__(self, sentence: str, owner: Owner | None) -> None:
        super().__init__(sentence)
        self.owner = owner


class Lock:
    """The lock of one project folder, held from `acquire` to `release`."""

    def __init__(self, folder: Path, name: str = "") -> None:
        self.path = folder / LOCK_NAME
        self.owner = Owner(
            host=platform.node(),
            pid=os.getpid(),
            started=psutil.Process().create_time(),
            name=name or person(),
            since=f"{datetime.now():%Y-%m-%d %H:%M}",
            token=uuid.uuid4().hex,
        )

    def acquire(self, *, take_over: bool = False) -> str:
        """Take the lock; a sentence if it was left by a process that died, else nothing.

        Args:
            take_over: take it whoever holds it; only a person can know that the other is gone.

        Raises:
            ProjectInUse: someone else holds it.
            BadInput: the folder cannot be written to.
        """
        for _ in range(5):  # a lock that goes away between two looks is tried again
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
                    else f"The project was taken over; it was open {who}."
                )
        raise ProjectInUse(self._in_use(None), None)

    def check(self) -> None:
        """Raise `ProjectInUse` if someone took the project over since `acquire`: two must never write."""
        content = self._content()
        holder = _read(content) if content else None
        if holder is None or holder.token != self.owner.token:
            raise ProjectInUse(self._in_use(holder), holder)

    def release(self) -> None:
        """Give the lock back, if it is still ours."""
        content = self._content()
        holder = _read(content) if content else None
        if holder is not None and holder.token == self.owner.token:
            self.path.unlink(missing_ok=True)

    def _create(self) -> None:
        # Written aside and linked into place, so that nobody ever reads half a lock; a link never replaces a file.
        own = self.path.with_name(f".{LOCK_NAME}-{self.owner.token}")
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
        """Remove the lock that holds `expected`; False if another process put its own there meanwhile."""
        aside = self.path.with_name(f".{LOCK_NAME}-{self.owner.token}")
        try:
            os.replace(self.path, aside)
        except FileNotFoundError:
            return False
        same = aside.read_text(encoding="utf-8", errors="replace") == expected or not expected
        if not same:
            os.replace(aside, self.path)
            return False
        aside.unlink()
        return True

    def _in_use(self, holder: Owner | None) -> str:
        if holder is None:
            return f"{self.path.parent} is open elsewhere; close it there first."
        return (
            f"{self.path.parent} is open: {holder.name} has it on {holder.host} since {holder.since}; "
            "close it there first, or take it over if that session is gone."
        )


def person() -> str:
    """The name that the computer knows the person by; "unknown" where it knows none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no such user, as in some containers
        return "unknown"


def _read(content: str) -> Owner | None:
    try:
        return Owner(**json.loads(content))
    except (ValueError, TypeError):
        return None
