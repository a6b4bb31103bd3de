"""Folder runs with photos and masks in a bucket, on a real S3 server on this computer."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from napari_skinseg.batch import storage
from napari_skinseg.batch.cluster import ClusterOptions, segment_on_cluster
from napari_skinseg.batch.folder import BatchOptions, segment_files
from napari_skinseg.batch.parts import Part
from napari_skinseg.batch.records import FolderRecords, merge_parts
from napari_skinseg.batch.storage import open_storage
from napari_skinseg.cli.main import main
from napari_skinseg.datasets.dataset import find_cases
from napari_skinseg.datasets.records import read_records, sha256
from napari_skinseg.errors import BadInput
from napari_skinseg.segmentation.segmenter import Segmenter

MEASURE = BatchOptions(measure=True)
FILES = ("segmentations.json", "measurements.csv")
PROGRAM = """
import sys
from napari_skinseg.batch import storage
from napari_skinseg.batch.folder import BatchOptions, segment_files
from napari_skinseg.segmentation.segmenter import Segmenter

storage.FILES_PER_UPLOAD = 2
photos, out = sys.argv[1:]
options = BatchOptions(measure=True, batch_size=2)
segment_files([photos], out, Segmenter(None, "cpu"), options, lambda event: print(event.done, flush=True))
"""


def start_server(port: int = 0) -> ThreadedMotoServer:
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    return server


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadedMotoServer]:
    """An S3 server that keeps its buckets in this process."""
    server = start_server()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def environment(server, monkeypatch, tmp_path) -> None:
    """The address and the credentials of the server, and a separate folder for temporary files."""
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def bucket(environment) -> Iterator[str]:
    """The address of an empty bucket."""
    filesystem = fsspec.filesystem("s3")
    filesystem.mkdir("clinic")
    yield "s3://clinic"
    fsspec.filesystem("s3").rm("clinic", recursive=True)


@pytest.fixture
def folder(make_photos) -> Path:
    """Six photos in two sub-folders, and a file that is no photo."""
    folder = make_photos(6)
    (folder / "broken.jpg").write_bytes(b"no photo")
    return folder


@pytest.fixture
def photos(bucket, folder) -> str:
    """The address of the files of `folder` in the bucket."""
    fsspec.filesystem("s3").put(str(folder), f"{bucket}/photos", recursive=True)
    return f"{bucket}/photos"


@pytest.fixture
def segmenter(spot_finder) -> Segmenter:
    return Segmenter(spot_finder, "cpu")


@pytest.fixture
def whole(folder, segmenter, tmp_path) -> Path:
    """The output of a run without a bucket."""
    segment_files([folder], tmp_path / "whole", segmenter, MEASURE)
    return tmp_path / "whole"


def download(url: str, folder: Path) -> Path:
    filesystem, key = fsspec.core.url_to_fs(url, skip_instance_cache=True)
    filesystem.get(key, str(folder), recursive=True)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def with_address(files: dict[str, bytes], folder: Path, url: str) -> dict[str, bytes]:
    """The files of a run on `folder`, whose records name photos in a bucket instead."""
    records = files["segmentations.json"].replace(str(folder).encode(), url.encode())
    return files | {"segmentations.json": records}


def test_a_bucket_gets_the_files_of_a_folder_byte_for_byte(bucket, photos, folder, spot_finder, tmp_path, capsys):
    options = ["--model", str(spot_finder), "--device", "cpu", "--measure", "--overlay"]
    assert main(["segment", str(folder), "--out", str(tmp_path / "whole"), *options]) == 1
    capsys.readouterr()
    assert main(["segment", photos, "--out", f"{bucket}/masks", *options]) == 1
    text, messages = capsys.readouterr()
    assert "6 masks in s3://clinic/masks" in text
    assert "Table: s3://clinic/masks/measurements.csv" in text
    assert "s3://clinic/photos/broken.jpg is not a photo that can be read" in messages
    files = contents(download(f"{bucket}/masks", tmp_path / "masks"))
    assert len(files) == 6 + 6 + 2
    assert files == with_address(contents(tmp_path / "whole"), folder, photos)
    assert not list((tmp_path / "tmp").glob("napari-skinseg-*"))

    assert main(["segment", photos, "--out", f"{bucket}/masks", *options, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert all(result["kept"] for result in document["done"])
    first = document["done"][0]
    assert (first["photo"], first["mask"]) == (
        "s3://clinic/photos/north/00.png",
        "s3://clinic/masks/north/00_segmentation.png",
    )
    assert contents(download(f"{bucket}/masks", tmp_path / "again")) == files


def test_photos_or_masks_can_be_on_the_disk(bucket, photos, folder, whole, segmenter, tmp_path):
    segment_files([folder], f"{bucket}/masks", segmenter, MEASURE)
    assert contents(download(f"{bucket}/masks", tmp_path / "masks")) == contents(whole)
    segment_files([photos], tmp_path / "out", segmenter, MEASURE)
    assert contents(tmp_path / "out") == with_address(contents(whole), folder, photos)


def test_another_kind_of_bucket_works_too(folder, whole, segmenter, tmp_path):
    segment_files([folder], "memory://masks", segmenter, MEASURE)
    assert contents(download("memory://masks", tmp_path / "masks")) == contents(whole)


def test_the_disk_holds_few_files_at_a_time(bucket, photos, segmenter, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "FILES_PER_UPLOAD", 2)
    copies = []

    def count(event):
        copies.append(sum(path.suffix == ".png" for path in (tmp_path / "tmp").rglob("*")))

    segment_files([photos], f"{bucket}/masks", segmenter, BatchOptions(batch_size=1), count)
    assert len(copies) == 7
    assert max(copies) <= 5


def test_a_run_that_was_killed_is_continued(bucket, photos, folder, tmp_path):
    out, segmenter = f"{bucket}/masks", Segmenter(None, "cpu")  # the model that starts without torch
    segment_files([folder], tmp_path / "whole", segmenter, MEASURE)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, photos, out], stdout=subprocess.PIPE, text=True)
    while process.stdout.readline() not in ("5\n", ""):
        pass
    process.kill()
    process.communicate()

    left = download(out, tmp_path / "left")
    records = read_records(left)
    masks = [path.relative_to(left).as_posix() for path in left.rglob("*.png")]
    assert masks, "the kill hit a run that had written masks"
    assert list(left.glob("segmentations.shard-*.jsonl"))
    for mask in masks:
        assert sha256(left / mask) in {record["mask_sha256"] for record in records[mask]}
    for path in (folder / "north").iterdir():
        (left / "north" / path.name).write_bytes(path.read_bytes())
    assert {case.mask for case in find_cases(left)} == {None}, "no mask is taken for a person's"

    assert list((tmp_path / "tmp").glob("napari-skinseg-*/s3"))
    outcome = segment_files([photos], out, segmenter, MEASURE)
    assert sum(result.kept for result in outcome.done) == len(masks)
    assert contents(download(out, tmp_path / "masks")) == with_address(contents(tmp_path / "whole"), folder, photos)
    assert not list((tmp_path / "tmp").glob("napari-skinseg-*")), "the files of the killed run are removed, too"


def test_a_lost_connection_ends_the_run_and_the_same_command_continues(
    server, bucket, photos, folder, whole, segmenter, tmp_path, monkeypatch
):
    monkeypatch.setattr(storage, "FILES_PER_UPLOAD", 2)
    _, port = server.get_host_and_port()

    def stop(event):
        if event.done == 4:
            server.stop()

    try:
        with pytest.raises(BadInput, match=r"s3://clinic/\S+ cannot be reached .*the same command continues"):
            segment_files([photos], f"{bucket}/masks", segmenter, BatchOptions(measure=True, batch_size=1), stop)
    finally:
        server._server_ready_event.clear()
        server._port = port
        server.start()
    outcome = segment_files([photos], f"{bucket}/masks", segmenter, MEASURE)
    assert any(result.kept for result in outcome.done)
    assert contents(download(f"{bucket}/masks", tmp_path / "masks")) == with_address(contents(whole), folder, photos)


def test_parts_in_a_bucket_merge_to_the_files_of_one_run(bucket, photos, folder, whole, segmenter, tmp_path):
    out = f"{bucket}/masks"
    segment_files([photos], out, segmenter, BatchOptions(measure=True, part="1/2"))
    with pytest.raises(BadInput, match=r"s3://clinic/masks cannot be merged: of 2 parts, 2 did not end"):
        merge_parts(out)
    segment_files([photos], out, segmenter, BatchOptions(measure=True, part="2/2"))
    assert merge_parts(out) == 6
    assert contents(download(out, tmp_path / "masks")) == with_address(contents(whole), folder, photos)


def test_two_runs_do_not_write_into_one_folder_of_a_bucket(bucket, photos, segmenter):
    out = f"{bucket}/masks"
    with open_storage(out) as disk:
        path = disk.path(out)
        with FolderRecords(path, storage=disk):
            with pytest.raises(
                BadInput, match=rf"s3://clinic/masks is in use: process {os.getpid()} on .* delete s3://"
            ):
                segment_files([photos], out, segmenter)
            with pytest.raises(BadInput, match="in use"):
                segment_files([photos], out, segmenter, BatchOptions(part="1/2"))
        with FolderRecords(path, Part(2, 2), disk):
            with pytest.raises(BadInput, match="in use"):
                segment_files([photos], out, segmenter)
            assert segment_files([photos], out, segmenter, BatchOptions(part="1/2")).done


@pytest.mark.slow
def test_a_ray_cluster_uses_a_bucket(bucket, photos, folder, whole, spot_finder, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="the extra ray is not installed")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("TMPDIR", "/tmp")  # Ray's sockets need a short path
    outcome = segment_on_cluster([photos], f"{bucket}/masks", ClusterOptions("local", str(spot_finder), "cpu"), MEASURE)
    assert outcome.table == "s3://clinic/masks/measurements.csv"
    assert contents(download(f"{bucket}/masks", tmp_path / "masks")) == with_address(contents(whole), folder, photos)


def test_a_name_that_no_file_can_have_is_named_and_skipped(bucket, photos, segmenter, tmp_path):
    for name in ("north/../../../evil.png", "north//empty.png"):
        fsspec.filesystem("s3").pipe_file(f"clinic/photos/{name}", b"")
    outcome = segment_files([photos], tmp_path / "out", segmenter)
    assert len(outcome.done) == 6
    assert [sentence.partition(",")[0] for _, sentence in outcome.failed] == [
        "s3://clinic/photos/north//empty.png is skipped",
        "s3://clinic/photos/broken.jpg is not a photo that can be read; save it as JPEG",
    ]
    assert not list(tmp_path.rglob("evil.png"))


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class _Refuse(BaseHTTPRequestHandler):
    """Answers every request as S3 does without permission."""

    def refuse(self):
        body = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = refuse  # noqa: N815

    def log_message(self, *arguments):
        pass


def sentence(capsys, *arguments: object) -> str:
    assert main(["segment", *map(str, arguments)]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "Traceback" not in message
    return message


def test_addresses_that_cannot_be_used_give_one_sentence(bucket, folder, spot_finder, monkeypatch, capsys, tmp_path):
    using = ("--model", spot_finder, "--device", "cpu", "--quiet")

    def segment(photos: object, out: object) -> str:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        return sentence(capsys, photos, "--out", out, *using)

    out = tmp_path / "out"
    assert "s3://nowhere/a does not exist, or contains no photo" in segment("s3://nowhere/a", out)
    assert "s3://clinic/empty does not exist, or contains no photo" in segment("s3://clinic/empty", out)
    assert re.search(r"s3://nowhere/m\S+ cannot be written .* create the bucket", segment(folder, "s3://nowhere/m"))
    assert "give its path without file://" in segment("file:///photos", out)
    assert "is no address of a folder in a bucket" in segment("s3://clinic/../a", out)
    assert "Protocol not known: nothing" in segment("nothing://a/b", out)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port()}")
        assert "s3://clinic/photos cannot be reached" in segment("s3://clinic/photos", out)
        assert "cannot be reached" in segment(folder, "s3://clinic/masks")
    with monkeypatch.context() as patch:
        patch.delenv("AWS_ACCESS_KEY_ID")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        patch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        assert "s3://clinic/photos cannot be used without credentials" in segment("s3://clinic/photos", out)
    with monkeypatch.context() as patch:
        server = HTTPServer(("127.0.0.1", 0), _Refuse)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        assert "s3://clinic/photos: access was refused" in segment("s3://clinic/photos", out)
        server.shutdown()
        server.server_close()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "gcsfs", None)
        assert "pip install 'napari-skinseg[gs]'" in segment("gs://clinic/photos", out)


def test_the_packages_for_buckets_are_imported_only_for_an_address(tmp_path):
    program = (
        "import sys, napari_skinseg.cli.segment; from napari_skinseg.batch.storage import open_storage\n"
        f"with open_storage({str(tmp_path)!r}): pass\n"
        "assert not {'fsspec', 's3fs', 'botocore', 'aiohttp', 'pyarrow'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
