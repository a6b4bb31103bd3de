"""Runs on a Ray cluster: a real one on this computer, with the files of a run without a cluster."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from napari_skinseg.batch import cluster
from napari_skinseg.batch.cluster import ClusterOptions, segment_on_cluster
from napari_skinseg.batch.folder import BatchOptions, segment_files
from napari_skinseg.cli.main import main
from napari_skinseg.errors import BadInput
from napari_skinseg.segmentation.segmenter import Segmenter

pytest.importorskip("ray", reason="the extra ray is not installed")
FILES = ("segmentations.json", "measurements.csv")
MEASURE = BatchOptions(measure=True)


@pytest.fixture
def folder(make_photos) -> Path:
    """Twenty-four photos, and a file that is no photo."""
    folder = make_photos(24)
    (folder / "broken.jpg").write_bytes(b"no photo")
    return folder


@pytest.fixture(scope="module")
def address():
    """The address of a cluster with two workers on this computer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    start = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--num-cpus=2"]
    start += [f"--port={address.rpartition(':')[2]}", "--include-dashboard=false", "--object-store-memory=100000000"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # tests have another home folder, without the token
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        with subprocess.Popen(start, stdout=subprocess.DEVNULL) as head:
            deadline = time.monotonic() + 300
            while time.monotonic() < deadline:
                with suppress(OSError), socket.create_connection(address.split(":")):
                    break
                time.sleep(0.2)
            yield address
            head.terminate()


@pytest.fixture
def whole(folder, spot_finder, tmp_path) -> Path:
    """The output of a run without a cluster."""
    segment_files([folder], tmp_path / "whole", Segmenter(spot_finder, "cpu"), MEASURE)
    return tmp_path / "whole"


def same_files(one: Path, other: Path) -> bool:
    masks = sorted(path.relative_to(one) for path in one.rglob("*.png"))
    assert masks == sorted(path.relative_to(other) for path in other.rglob("*.png"))
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in (*masks, *FILES))


def options(address, model) -> ClusterOptions:
    return ClusterOptions(address, str(model), "cpu")


@pytest.mark.slow
def test_the_command_line_uses_a_cluster(address, folder, whole, spot_finder, tmp_path, capsys):
    command = ["segment", str(folder), "--out", str(tmp_path / "out"), "--model", str(spot_finder), "--device", "cpu"]
    assert main([*command, "--measure", "--ray", address]) == 1  # one file is no photo
    assert same_files(whole, tmp_path / "out")
    assert main([*command, "--part", "1/2", "--ray", address]) == 2
    assert "use it without --part" in capsys.readouterr().err


@pytest.mark.slow
def test_a_cluster_writes_the_files_of_one_computer(address, folder, whole, spot_finder, tmp_path):
    events = []
    outcome = segment_on_cluster(
        [folder], tmp_path / "out", options(address, spot_finder), MEASURE, on_event=events.append
    )
    assert same_files(whole, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*part*"))
    assert [result.name for result in outcome.done] == sorted(result.name for result in outcome.done)
    assert len(outcome.done) == 24
    assert outcome.table == tmp_path / "out" / "measurements.csv"
    assert [path.name for path, _ in outcome.failed] == ["broken.jpg"]
    assert events[-1].done == events[-1].total == outcome.total == 25


def test_a_killed_worker_loses_no_photo(address, folder, whole, spot_finder, tmp_path):
    messages = []

    def kill_a_worker(event):
        messages.append(event.message)
        if len(messages) == 1:
            for process in psutil.process_iter(["cmdline"]):
                if "_segment_part" in " ".join(process.info["cmdline"] or ()):
                    os.kill(process.pid, signal.SIGKILL)

    segment_on_cluster([folder], tmp_path / "out", options(address, spot_finder), MEASURE, on_event=kill_a_worker)
    assert any("it is started again" in message for message in messages)
    assert same_files(whole, tmp_path / "out")


@pytest.mark.slow
def test_a_cancelled_run_is_continued(address, folder, whole, spot_finder, tmp_path):
    cancel = threading.Event()
    outcome = segment_on_cluster(
        [folder],
        tmp_path / "out",
        options(address, spot_finder),
        MEASURE,
        on_event=lambda event: cancel.set(),
        cancel=cancel,
    )
    assert outcome.cancelled
    assert outcome.table is None
    assert not segment_on_cluster([folder], tmp_path / "out", options(address, spot_finder), MEASURE).cancelled
    assert same_files(whole, tmp_path / "out")


def test_a_worker_with_another_version_or_model_is_named(folder, spot_finder, tmp_path):
    task = cluster._Task(
        (folder,), tmp_path / "out", MEASURE, options("local", spot_finder), "0" * 64, version("napari-skinseg")
    )
    with pytest.raises(BadInput, match=r"The worker .* has napari-skinseg .* instead of 0\.0\.1; install"):
        cluster._segment_part(replace(task, version="0.0.1"), "1/2")
    with pytest.raises(BadInput, match=r"On the worker .* the model spot-finder has other weights"):
        cluster._segment_part(task, "1/2")


@pytest.mark.slow
def test_a_worker_that_lacks_the_folders_is_named(address, folder, spot_finder, tmp_path):
    def remove_folder(event):
        if folder.exists():
            folder.rename(tmp_path / "elsewhere")

    with pytest.raises(BadInput, match=r"On the worker .* does not exist"):
        segment_on_cluster([folder], tmp_path / "out", options(address, spot_finder), MEASURE, on_event=remove_folder)


def test_an_address_where_nothing_answers_is_named(folder, spot_finder, tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    for text, words in ((f"127.0.0.1:{port}", "cannot be reached"), ("my cluster", "is no address of a Ray cluster")):
        with pytest.raises(BadInput, match=words):
            segment_on_cluster([folder], tmp_path / "out", options(text, spot_finder))
