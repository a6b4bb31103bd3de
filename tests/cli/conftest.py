"""Fixtures of the tests of the command line."""

import subprocess
import sys
from pathlib import Path

import pytest

from napari_skinseg.cli.main import main
from napari_skinseg.pixels.mask import write_mask


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """Separate models, settings and crash reports for each test."""
    monkeypatch.setenv("NAPARI_SKINSEG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "home"


@pytest.fixture
def run(capsys):
    """Run a command in this process and return its exit code, output and messages."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def labelled(photos, tmp_path) -> Path:
    """The folder of `photos`, each with its true mask beside it."""
    for photo, truth in photos.items():
        write_mask(photo.with_name(f"{photo.stem}_segmentation.png"), truth)
    return tmp_path / "photos"


@pytest.fixture
def start():
    """Start the command in a separate process, as a person does."""

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "napari_skinseg", *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start
