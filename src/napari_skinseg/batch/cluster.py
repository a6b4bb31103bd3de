"""Segment photos on the computers of a Ray cluster; each task segments one part of the photos.

A task does the work of `BatchOptions.part`, and `merge_parts` ends the run. So the files are those of a run on one
computer, and the same command continues a run that was stopped. All computers need the photos and the output folder
under the same paths, or in a bucket that they can use, the same version of this package, and the model.
"""

import logging
import os
import platform
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from types import ModuleType
from typing import Any

from napari_skinseg.datasets.records import JOURNAL, RECORDS
from napari_skinseg.device import granted_cores
from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, Event, NeverCancelled, OnEvent, ignore_event
from napari_skinseg.files import make_output_folder
from napari_skinseg.segmentation.segmenter import Segmenter

from .folder import BatchOptions, BatchOutcome, find_photos, segment_files
from .parts import Part, find_parts
from .records import LOCK, TABLE, FolderRecords, merge_parts
from .storage import Place, absolute, below, open_storage

PHOTOS_PER_PART, MOST_PARTS = 10, 400
"""Each task searches the folders, so a part of a large run has more photos."""
TRIES = 3
"""Number of attempts for a part whose worker dies."""
SECONDS_TO_CONNECT = 10.0
_OBJECT_STORE_BYTES = 100_000_000  # tasks return results in words and numbers, no pixels


@dataclass(frozen=True)
class ClusterOptions:
    """Which cluster runs the model, and how.

    Attributes:
        address: "local" starts a cluster on this computer, "auto" joins the one that runs on it; "host:port" and
            "ray://host:port" join one on other computers.
        model, device, precision: see `Segmenter`; each worker chooses its own device for "auto".
    """

    address: str
    model: str | None = None
    device: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True)
class _Task:
    """What is the same for all parts of a run."""

    paths: tuple[Place, ...]
    out: Place
    options: BatchOptions
    cluster: ClusterOptions
    weights_sha256: str
    version: str


def segment_on_cluster(
    paths: Sequence[Place],
    out: Place,
    cluster: ClusterOptions,
    options: BatchOptions | None = None,
    on_event: OnEvent = ignore_event,
    cancel: CancelToken | None = None,
) -> BatchOutcome:
    """Segment photos as `segment_files` does, on a Ray cluster.

    If a worker dies, its part is continued on another one.

    Args:
        paths: photos, and folders with their subfolders, which every computer must have under these paths; or their
            addresses in a bucket.
        out: output folder, which every computer must have under this path; or its address in a bucket.
        cluster: see `ClusterOptions`.
        options: see `BatchOptions`; without a part.
        on_event: receives an event for each finished part.
        cancel: stops the run; masks that are finished stay, and the same call continues the run.

    Raises:
        BadInput: the cluster cannot be used, or a worker has another version of the package, another model or other
            folders; then masks that are finished stay.
    """
    options, cancel = options or BatchOptions(), cancel or NeverCancelled()
    options.validate()
    paths, out = [absolute(path) for path in paths], absolute(out)
    with open_storage(*paths) as storage:
        found = find_photos([storage.path(path) for path in paths], storage)
        photos = [storage.place(photo) for photo in found]
    model = Segmenter(cluster.model, "cpu", precision=cluster.precision)  # checks the model before the cluster is used
    task = _Task(tuple(paths), out, options, cluster, model.sha256, version("napari-skinseg"))
    count = min(MOST_PARTS, -(-len(photos) // PHOTOS_PER_PART))
    _take_over_other_parts(out, count)
    with _connection(cluster.address) as ray:
        outcomes = list(_run_parts(ray, task, count, len(photos), on_event, cancel))
    order = {photo: number for number, photo in enumerate(photos)}
    complete = len(outcomes) == count
    if complete:
        merge_parts(out, options.parquet)
    return BatchOutcome(
        done=tuple(
            sorted(
                (result for outcome in outcomes for result in outcome.done),
                key=lambda result: order.get(result.photo, len(order)),
            )
        ),
        # Each part reports the same unreadable folders.
        failed=tuple(dict.fromkeys(failure for outcome in outcomes for failure in outcome.failed)),
        table=below(out, TABLE) if options.measure and complete else None,
        total=len(photos),
        cancelled=not complete,
    )


def _take_over_other_parts(out: Place, count: int) -> None:
    """Put the files of an earlier run in another number of parts into the common files."""
    with open_storage(out) as storage:
        folder = make_output_folder(storage.path(out))
        storage.fetch_records(folder)
        parts = {part for name in (RECORDS, JOURNAL) for part in find_parts(folder, name)}
        if any(part.count != count for part in parts):
            with FolderRecords(folder, storage=storage) as records:
                records.write(table=False)


def _run_parts(
    ray: Any, task: _Task, count: int, total: int, on_event: OnEvent, cancel: CancelToken
) -> Iterator[BatchOutcome]:
    """Yield the outcome of each part; fewer outcomes if the run is cancelled.

    Only as many tasks are submitted as the cluster can soon start, so that it stays usable for others.
    """
    gpus = int(task.cluster.device in ("auto", "cuda") and ray.cluster_resources().get("GPU", 0) >= 1)
    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_segment_part)
    waiting = deque((Part(number, count), 1) for number in range(1, count + 1))
    running: dict[Any, tuple[Part, int]] = {}
    done = 0
    try:
        while (waiting or running) and not cancel.is_set():
            while waiting and len(running) < 2 * max(1, int(ray.cluster_resources().get("CPU", 1))):
                part, tries = waiting.popleft()
                running[remote.remote(task, str(part))] = part, tries
            for ref in ray.wait(list(running), timeout=0.5)[0]:
                part, tries = running.pop(ref)
                outcome = _result(ray, ref, task.out, part, tries)
                if outcome is None:
                    waiting.append((part, tries + 1))
                    on_event(Event("segment", done, total, f"The worker of part {part} ended; it is started again."))
                else:
                    done += outcome.total
                    on_event(Event("segment", done, total, f"part {part}"))
                    yield outcome
    finally:
        for ref in running:
            ray.cancel(ref)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=10)


def _result(ray: Any, ref: Any, out: Place, part: Part, tries: int) -> BatchOutcome | None:
    """Return the outcome of a task, or None if its worker died and the part must be started again."""
    try:
        outcome: BatchOutcome = ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, BadInput):
            raise error.cause from None
        if isinstance(error.cause, ImportError):
            raise BadInput(
                f"A worker of the Ray cluster cannot import napari-skinseg ({error.cause}); install the same version "
                "on all computers of the cluster."
            ) from error
        raise
    except ray.exceptions.RayError as error:
        if tries == TRIES:
            raise BadInput(
                f"Part {part} was started {TRIES} times, and each time its worker ended ({type(error).__name__}); the "
                "computers of the cluster may be short of memory. Finished masks stay; the same command continues."
            ) from error
        # On another computer, nobody can see that the process is dead.
        with open_storage(out) as storage:
            storage.delete(storage.path(out) / part.file_name(LOCK))
        return None
    return outcome


def _segment_part(task: _Task, part: str) -> BatchOutcome:
    """Segment one part of the photos; runs on a worker."""
    host, installed = platform.node(), version("napari-skinseg")
    if installed != task.version:
        raise BadInput(
            f"The worker {host} has napari-skinseg {installed} instead of {task.version}; install the same version on "
            "all computers of the cluster."
        )
    try:
        segmenter = _open_segmenter(task.cluster)
        if segmenter.sha256 != task.weights_sha256:
            raise BadInput(f"the model {segmenter.spec.name} has other weights here; add the same model everywhere.")
        return segment_files(task.paths, task.out, segmenter, replace(task.options, part=part, parquet=False))
    except BadInput as error:
        raise BadInput(f"On the worker {host}: {error}") from error


@lru_cache(maxsize=1)
def _open_segmenter(cluster: ClusterOptions) -> Segmenter:
    """A worker keeps its model for the next part."""
    return Segmenter(cluster.model, cluster.device, precision=cluster.precision)


@contextmanager
def _connection(address: str) -> Iterator[ModuleType]:
    """Connect to a cluster, or start one on this computer; yields the module `ray`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise BadInput("Ray is not installed; install it with: pip install 'napari-skinseg[ray]'") from error
    _check_reachable(address)
    is_new = address == "local"
    try:
        ray.init(
            address,
            num_cpus=granted_cores() if is_new else None,
            object_store_memory=_OBJECT_STORE_BYTES if is_new else None,
            include_dashboard=False if is_new else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        reason = str(error).partition("\n")[0]
        raise BadInput(f"The Ray cluster {address!r} cannot be used ({reason}); check that it runs.") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise `BadInput` if nothing answers at "host:port"; Ray itself waits much longer."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if address in ("local", "auto"):
        return
    if not (colon and host and port.isdecimal()):
        raise BadInput(f"{address!r} is no address of a Ray cluster; give local, auto, HOST:PORT or ray://HOST:PORT.")
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_CONNECT).close()
    except OSError as error:
        raise BadInput(
            f"The Ray cluster {address!r} cannot be reached ({error.strerror or error}); check the address, and that "
            "the cluster runs."
        ) from error
