"""Where the photos and the masks of a run are: on a disk, or in a bucket with an address such as s3://bucket/photos.

A run works with paths on the disk. For a bucket, these paths are in a temporary folder, which holds little at a time:

* A photo, or an earlier mask, is downloaded when it is read, and its copy is removed at once.
* Masks and overlays are uploaded in groups, after the records of the group, which are one object:
  <out>/segmentations.shard-000001.jsonl. So a process that is killed at any instant leaves no mask without a record.
* At the end the records and the table are uploaded, and the shards are removed.

fsspec knows the kinds of addresses. It is imported, and the network is used, only if the user gave such an address.
"""

import glob
import inspect
import json
import os
import platform
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import psutil

from napari_skinseg.datasets.records import JOURNAL
from napari_skinseg.errors import BadInput
from napari_skinseg.files import DiskFull, not_written
from napari_skinseg.pixels.image import OnUnreadable, find_images, is_photo_name
from napari_skinseg.project.lock import Lock

Place = str | Path
"""A path, or the address of a bucket or of something in it."""

FILES_PER_UPLOAD, SECONDS_PER_UPLOAD = 128, 15.0
"""Masks and overlays are uploaded when there are this many, or after this time; a kill loses no more."""

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
# Five times 10 s instead of 60 s to connect; and one request for a photo, not another one for its size.
_OPTIONS: dict[str, dict[str, Any]] = {"s3": {"config_kwargs": {"connect_timeout": 10}, "max_concurrency": 1}}
_CONNECTIONS = 8
"""Requests at the same time."""
_RECORD_FILE = re.compile(
    r"(segmentations|measurements)(\.part-\d+-of-\d+)?(\.shard-(?P<shard>\d+))?\.(jsonl?|csv|lock)"
)
_SHARD = re.compile(r"\.shard-(\d+)(?=\.jsonl$)")

Item = TypeVar("Item")
Result = TypeVar("Result")


class StorageFailed(Exception):
    """The bucket, or the temporary folder for it, can no longer be used; so the run ends."""


class Disk:
    """Photos and masks on a disk, which are read and written in their places."""

    def path(self, place: Place) -> Path:
        """Return the path that the run uses for a place."""
        return Path(place)

    def place(self, path: Path) -> Place:
        """Return the place that the user knows for a path of the run."""
        return path

    def address(self, path: Path) -> str:
        """Return the absolute path without "..", or the address in a bucket."""
        return os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links out of the folder

    def in_words(self, sentence: str) -> str:
        """Return a sentence with the places that the user knows."""
        return sentence

    def exists(self, path: Path) -> bool:
        return path.is_file()

    def is_dir(self, path: Path) -> bool:
        return path.is_dir()

    def find_images(self, paths: Iterable[Path], on_unreadable: OnUnreadable) -> list[Path]:
        """Return the photos among `paths`, as `pixels.image.find_images`."""
        return find_images(paths, on_unreadable)

    def lock(self, folder: Path, file_name: str) -> Lock:
        """Return the lock of an output folder."""
        return Lock(folder, file_name=file_name)

    def fetch_records(self, folder: Path) -> None:
        """Make the records, tables and locks of the output folder readable; call it again to see changes."""

    @contextmanager
    def local(self, *paths: Path) -> Iterator[None]:
        """Make files readable within a `with` statement.

        Raises:
            BadInput: a file cannot be downloaded.
        """
        yield

    def append(self, path: Path, line: bytes) -> None:
        """Append a line to a journal so that it is kept if the process is killed before the next `put` succeeds.

        Raises:
            BadInput: the file cannot be written.
        """
        try:
            with path.open("ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    file.write(b"" if file.read(1) == b"\n" else b"\n")
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise not_written(path, error) from error

    def put(self, *paths: Path) -> None:
        """Note that files of the output folder were written."""

    def flush(self) -> None:
        """Return when everything that was appended and put is in the output folder."""

    def remove(self, *paths: Path) -> None:
        """Remove files of the output folder, if they exist."""
        for path in paths:
            path.unlink(missing_ok=True)

    def delete(self, path: Path) -> None:
        """Remove a file that another run may have written."""
        path.unlink(missing_ok=True)


class Bucket(Disk):
    """Photos or masks in a bucket; other paths are on the disk.

    Args:
        root: an empty temporary folder; <root>/s3/bucket/a.jpg stands for s3://bucket/a.jpg.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._filesystems: dict[str, Any] = {}
        self._out = ""  # address of the output folder, if it is in a bucket
        self._objects: set[str] = set()  # addresses of what is in it
        self._journal = Path()
        self._lines: list[bytes] = []
        self._files: list[Path] = []
        self._shards: dict[str, int] = {}
        self._failure: StorageFailed | None = None
        self._last_upload = time.monotonic()
        self._mutex, self._uploading = threading.Lock(), threading.Lock()

    def path(self, place: Place) -> Path:
        if not is_url(place):
            return Path(place)
        protocol, _, name = str(place).partition("://")
        name = name.strip("/")
        if protocol in ("file", "local"):
            raise BadInput(f"{place} is a folder on this computer; give its path without {protocol}://.")
        if not _can_be_path(name) or "::" in str(place):
            raise BadInput(f"{place} is no address of a folder in a bucket; give one such as s3://bucket/photos.")
        return Path(self.root, protocol, *name.split("/"))

    def place(self, path: Path) -> Place:
        return self._url(path) or path

    def address(self, path: Path) -> str:
        return self._url(path) or super().address(path)

    def in_words(self, sentence: str) -> str:
        return re.sub(re.escape(str(self.root)) + r"[\\/]([\w+.-]+)[\\/]", r"\1://", sentence)

    def exists(self, path: Path) -> bool:
        url = self._url(path)
        if url is None:
            return super().exists(path)
        if self._out and url.startswith(f"{self._out}/"):
            return url in self._objects
        with _requests(url):
            return bool(self._filesystem(url).exists(self._key(url)))

    def is_dir(self, path: Path) -> bool:
        url = self._url(path)
        if url is None:
            return super().is_dir(path)
        try:
            with _requests(url):
                return bool(self._filesystem(url).info(self._key(url))["type"] == "directory")
        except FileNotFoundError:
            return False

    def find_images(self, paths: Iterable[Path], on_unreadable: OnUnreadable) -> list[Path]:
        by_url = {path: self._url(path) for path in paths}
        on_disk = [path for path, url in by_url.items() if url is None]
        if on_disk and len(on_disk) < len(by_url):
            raise BadInput("Photos of a bucket and of this computer were named one by one; name their folders instead.")
        found = super().find_images(on_disk, on_unreadable) if on_disk else []
        for path, url in by_url.items():
            if url is not None:
                found += self._find_images(path, url, on_unreadable)
        return sorted(set(found))

    def _find_images(self, folder: Path, url: str, on_unreadable: OnUnreadable) -> Iterator[Path]:
        names = self._list(url)
        photos = sorted(filter(is_photo_name, names))
        if not photos and names != [""]:
            raise BadInput(f"{url} does not exist, or contains no photo; check the address.")
        for name in photos or names:
            if not name or _can_be_path(name):
                yield folder / name
            else:
                on_unreadable(folder / name, f"{url}/{name} is skipped, because no file can have this name; rename it.")

    def lock(self, folder: Path, file_name: str) -> Lock:
        return super().lock(folder, file_name) if self._url(folder) is None else _ObjectLock(self, folder, file_name)

    def fetch_records(self, folder: Path) -> None:
        url = self._url(folder)
        if url is None:
            return
        contents: list[bytes | None] = [None]
        while None in contents:  # again if another part ended meanwhile, and removed its shards
            names = self._list(url)
            records = sorted(filter(_RECORD_FILE.fullmatch, names))
            contents = self._in_threads(self.read, [folder / name for name in records])
        self._out, self._objects = url, {f"{url}/{name}" for name in names}
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, content in zip(records, contents, strict=True):
            assert content is not None
            with (folder / _SHARD.sub("", name)).open("ab") as file:  # the shards of a journal become one file
                file.write(content)
            if shard := _SHARD.search(name):
                self._shards[_SHARD.sub("", name)] = int(shard[1])

    @contextmanager
    def local(self, *paths: Path) -> Iterator[None]:
        copies = [path for path in paths if self._url(path) and not path.exists()]
        try:
            for path in copies:
                self._download(path)
            yield
        finally:
            for path in copies:
                path.unlink(missing_ok=True)

    def append(self, path: Path, line: bytes) -> None:
        if self._url(path) is None:
            super().append(path, line)
            return
        with self._mutex:
            self._journal = path
            self._lines.append(line)

    def put(self, *paths: Path) -> None:
        with self._mutex:
            self._files += [path for path in paths if self._url(path)]
            seconds = time.monotonic() - self._last_upload
            is_due = len(self._files) >= FILES_PER_UPLOAD or (self._files and seconds > SECONDS_PER_UPLOAD)
        if is_due:
            self.flush()

    def flush(self) -> None:
        with self._uploading:  # one group after the other, so that no mask overtakes its record
            if self._failure is not None:  # the records of a later mask may be lost
                raise self._failure
            with self._mutex:
                lines, self._lines = self._lines, []
                files, self._files = self._files, []
                self._last_upload = time.monotonic()
            if lines:
                name = self._journal.name
                self._shards[name] = self._shards.get(name, 0) + 1
                shard = self._journal.with_suffix(f".shard-{self._shards[name]:06}{self._journal.suffix}")
                self._upload({self._address(shard): b"".join(lines)})
            self._upload({self._address(path): path.read_bytes() for path in files})
            for path in files:
                path.unlink()

    def remove(self, *paths: Path) -> None:
        super().remove(*paths)
        removed = {url for path in paths if (url := self._url(path))}
        if any(url.endswith(Path(JOURNAL).suffix) for url in removed):
            removed |= {url for url in self._objects if _SHARD.sub("", url) in removed}
        self._in_threads(self._delete, removed & self._objects)
        self._objects -= removed

    def read(self, path: Path) -> bytes | None:
        """Return the content of an object; None if it does not exist."""
        url = self._address(path)
        try:
            with _requests(url):
                return bytes(self._filesystem(url).cat_file(self._key(url)))
        except FileNotFoundError:
            return None

    def create(self, path: Path, content: bytes) -> None:
        """Write an object that must not exist.

        Raises:
            FileExistsError: it exists.
        """
        url = self._address(path)
        if self.read(path) is not None:  # not every server knows exclusive writes
            raise FileExistsError(url)
        pipe_file = self._filesystem(url).pipe_file
        has_overwrite = "overwrite" in inspect.signature(pipe_file).parameters  # adlfs
        try:
            with _requests(url, is_output=True):
                pipe_file(self._key(url), content, **{"overwrite": False} if has_overwrite else {"mode": "create"})
        except FileExistsError:
            if self.read(path) != content:  # the same request, sent again because its answer was lost
                raise

    def delete(self, path: Path) -> None:
        super().delete(path)
        if url := self._url(path):
            self._delete(url)

    def _delete(self, url: str) -> None:
        with _requests(url), suppress(FileNotFoundError):
            self._filesystem(url).rm_file(self._key(url))

    def _upload(self, contents: dict[str, bytes]) -> None:
        """Write objects, each as a whole."""
        if not contents:
            return
        try:
            with _requests(self._out, is_output=True):
                self._filesystem(self._out).pipe({self._key(url): content for url, content in contents.items()})
        except StorageFailed as error:
            self._failure = error
            raise
        self._objects |= contents.keys()

    def _list(self, url: str) -> list[str]:
        """Return the names of all objects below an address, relative to it; "" is the object itself."""
        key = self._key(url)
        try:
            with _requests(url):
                return [name.removeprefix(key).removeprefix("/") for name in self._filesystem(url).find(key)]
        except FileNotFoundError:
            return []

    def _url(self, path: Path) -> str | None:
        """Return the address that a path stands for; None if the path is on the disk."""
        if not path.is_relative_to(self.root):
            return None
        protocol, *parts = path.relative_to(self.root).parts
        return f"{protocol}://{'/'.join(parts)}"

    def _address(self, path: Path) -> str:
        url = self._url(path)
        assert url is not None, path
        return url

    def _key(self, url: str) -> str:
        return str(self._filesystem(url)._strip_protocol(url)).rstrip("/")

    def _filesystem(self, url: str) -> Any:
        server = "/".join(url.split("/")[:3])
        with self._mutex:
            if server not in self._filesystems:
                self._filesystems[server] = _connect(url)
            return self._filesystems[server]

    def _download(self, path: Path) -> None:
        try:
            content = self.read(path)
        except StorageFailed as error:
            if isinstance(error.__cause__, PermissionError) and "expired" not in str(error).lower():
                raise BadInput(str(error)) from error  # one photo may have other permissions
            raise
        if content is None:
            raise BadInput(f"{path} does not exist any more; start the command again.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            if isinstance(refused := not_written(self.root, error), DiskFull):
                raise StorageFailed(f"{refused} TMPDIR can name another folder for temporary files.") from error
            raise BadInput(f"{path} cannot be copied to this computer ({error.strerror}).") from error

    @staticmethod
    def _in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            return list(pool.map(function, items))


class _ObjectLock(Lock):
    """A lock that is an object in a bucket."""

    _not_released: ClassVar[set[str | None]] = set()
    """Locks of this process that stayed because the connection was lost. A later process sees that the owner ended."""

    def __init__(self, bucket: Bucket, folder: Path, file_name: str) -> None:
        super().__init__(folder, file_name=file_name)
        self._bucket = bucket

    def release(self) -> None:
        try:
            super().release()
        except StorageFailed:
            self._not_released.add(self._text())

    def _text(self) -> str:
        return json.dumps(asdict(self.owner))

    def _create(self) -> None:
        if self._not_released and (content := self._content()) in self._not_released:
            self._remove(content or "")
        self._bucket.create(self.path, self._text().encode())

    def _content(self) -> str | None:
        content = self._bucket.read(self.path)
        return None if content is None else content.decode(errors="replace")

    def _remove(self, expected: str) -> bool:
        if self._content() != expected:
            return False
        self._bucket.delete(self.path)
        return True


@contextmanager
def open_storage(*places: Place) -> Iterator[Disk]:
    """Yield the storage of a run that uses these places; the temporary folder of a bucket is removed afterwards.

    Raises:
        BadInput: a bucket cannot be used, or can no longer be used; its files stay whole.
    """
    if not any(map(is_url, places)):
        yield Disk()
        return
    prefix = f"napari-skinseg-{platform.node()}-"
    _remove_old_folders(prefix)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-", ignore_cleanup_errors=True) as folder:
        bucket = Bucket(Path(folder))
        try:
            yield bucket
        except (BadInput, StorageFailed) as error:
            raise BadInput(bucket.in_words(str(error))) from error


def is_url(place: Place) -> bool:
    """Return whether a place is an address such as s3://bucket/photos, not a path on the disk."""
    return isinstance(place, str) and "://" in place


def absolute(place: Place) -> Place:
    """Return a place that is the same in every folder and on every computer."""
    return place if is_url(place) else Path(place).absolute()


def below(folder: Place, name: str) -> Place:
    """Return the place of a file in a folder."""
    return f"{str(folder).rstrip('/')}/{name}" if is_url(folder) else Path(folder, name)


def _can_be_path(name: str) -> bool:
    """Return whether the name of an object can be that of a file below a folder; "a//b" and "../a" cannot."""
    parts = name.split("/")
    return not {"", ".", ".."} & set(parts) and Path(name).parts == tuple(parts)


def _remove_old_folders(prefix: str) -> None:
    """Remove the temporary folders of processes on this computer that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{glob.escape(prefix)}*"):
        process = folder.name.removeprefix(prefix).partition("-")[0]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _connect(url: str) -> Any:
    """Return the file system of fsspec for an address.

    Raises:
        BadInput: a package is missing, or fsspec does not know this kind of address.
    """
    protocol = url.partition("://")[0]
    extra = _EXTRAS.get(protocol)
    try:
        import fsspec

        options = _OPTIONS.get(protocol, {}) | fsspec.config.conf.get(protocol, {})
        return fsspec.core.url_to_fs(url, use_listings_cache=False, **options)[0]
    except ImportError as error:
        package = f"'napari-skinseg[{extra or 's3'}]'" if extra or error.name == "fsspec" else "the package it needs"
        raise BadInput(f"{url} cannot be used ({error}); install it with: pip install {package}") from error
    except ValueError as error:
        raise BadInput(f"{url} cannot be used ({error}); give an address such as s3://bucket/photos.") from error


@contextmanager
def _requests(url: str, is_output: bool = False) -> Iterator[None]:
    """Convert the errors of all file systems, except those of an object that is missing or exists already."""
    try:
        yield
    except (BadInput, FileExistsError):
        raise
    except Exception as error:  # each file system has its own errors
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, FileNotFoundError):
            if not is_output:
                raise
            sentence = f"{url} cannot be written ({reason}); check the address, and create the bucket."
        elif isinstance(error, PermissionError):
            sentence = f"{url}: access was refused ({reason}); check your credentials and their permissions."
        elif "Credential" in type(error).__name__:
            sentence = (
                f"{url} cannot be used without credentials ({reason}); docs/scale.md says where they are searched."
            )
        else:
            sentence = (
                f"{url} cannot be reached ({reason}); check the address and the connection. "
                "What is finished stays, and the same command continues."
            )
        raise StorageFailed(sentence) from error
