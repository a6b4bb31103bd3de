"""Segment a folder on a local Ray cluster: photos per second by the number of workers, and a run that loses workers.

    python benchmarks/cluster.py --photos 200 --workers 1 --workers 2 --workers 4
    python benchmarks/cluster.py kill --photos 2000 --kills 5

The cluster runs on this computer, so more workers than cores cannot be faster. Compared with a run without a cluster.
"""

import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from cyclopts import App

from napari_skinseg.batch.cluster import ClusterOptions, segment_on_cluster
from napari_skinseg.batch.folder import BatchOptions, segment_files
from napari_skinseg.segmentation.segmenter import Segmenter
from scale import link_photos, make_model
from segment import load_warning, machine

MEASURE = BatchOptions(measure=True)

app = App(help="Segment a folder on a local Ray cluster.")


@app.default
def main(*, photos: int = 200, workers: list[int] = [1, 2, 4], model: str | None = None, rounds: int = 3) -> None:  # noqa: B006 - cyclopts shows the default
    """Print the rates without a cluster and with each number of workers."""
    busy = load_warning()
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        link_photos(work / "photos", photos, distinct=25, shape=(450, 600))
        segmenter = Segmenter(model, "cpu")
        seconds = [_time(lambda: segment_files([work / "photos"], work / "local", segmenter, MEASURE))]
        rows = [("no cluster", seconds[0])]
        for count in workers:
            with _cluster(count) as address:
                # The first round starts the workers, which import the package and read the model.
                taken = [_cluster_run(work, f"ray-{count}-{number}", address, model) for number in range(rounds + 1)]
            name = f"{count} worker{'s' * (count > 1)}"
            rows += [(f"{name}, first run", taken[0]), (name, statistics.median(taken[1:]))]
    print(
        f"{machine()}{busy}; {photos} photos of 600x450, --measure\n\n| run | seconds | photos/s | no cluster / this |"
    )
    print("|---|--:|--:|--:|")
    for name, one in rows:
        print(f"| {name} | {one:.1f} | {photos / one:.2f} | {seconds[0] / one:.2f} |")


@app.command
def kill(*, photos: int = 2000, kills: int = 5, seed: int = 0) -> None:
    """Kill random workers with SIGKILL, and compare the files with those of a run without a cluster.

    The model is the small one of `scale.py`, because this is about the files.
    """
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        link_photos(work / "photos", photos)
        make_model(work / "tiny")
        model = str(work / "tiny")
        segment_files([work / "photos"], work / "local", Segmenter(model, "cpu"), MEASURE)
        killed: list[int] = []
        ended = threading.Event()

        def kill_workers() -> None:
            while len(killed) < kills and not ended.wait(chance.uniform(1, 8)):
                if found := _workers():
                    killed.append(chance.choice(found))
                    with suppress(ProcessLookupError):
                        os.kill(killed[-1], signal.SIGKILL)

        with _cluster(2) as address:
            thread = threading.Thread(target=kill_workers)
            thread.start()
            start = time.monotonic()
            outcome = segment_on_cluster(
                [work / "photos"], work / "ray", ClusterOptions(address, model, "cpu"), MEASURE
            )
            seconds = time.monotonic() - start
            ended.set()
            thread.join()
        names = [result.name for result in outcome.done]
        expected, found = _content(work / "local"), _content(work / "ray")
        differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    print(f"{machine()}; {photos} photos of 64x48, --measure, 2 workers, {seconds:.0f} s")
    print(
        f"{len(killed)} workers killed; {len(names)} photos done, {len(names) - len(set(names))} of them twice, "
        f"{len(outcome.failed)} failed; {len(differing)} of {len(expected)} files differ from those without a cluster"
    )
    print("\n".join(differing[:20]))
    sys.exit(bool(differing) or len(killed) < kills or len(set(names)) != photos)


def _cluster_run(work: Path, out: str, address: str, model: str | None) -> float:
    options = ClusterOptions(address, model, "cpu")
    return _time(lambda: segment_on_cluster([work / "photos"], work / out, options, MEASURE))


def _time(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _workers() -> list[int]:
    """The processes that segment a part now."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if "_segment_part" in " ".join(process.info["cmdline"] or ())
    ]


@contextmanager
def _cluster(workers: int) -> Iterator[str]:
    """Start a Ray cluster of its own processes, and yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--num-cpus={workers}"]
    command += [f"--port={address.rpartition(':')[2]}", "--include-dashboard=false", "--object-store-memory=100000000"]
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as head:
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))):
                break
            time.sleep(0.2)
        try:
            yield address
        finally:
            head.terminate()


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


if __name__ == "__main__":
    app()
