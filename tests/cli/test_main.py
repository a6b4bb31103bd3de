"""The entry point: exit codes, errors, Ctrl+C, closed pipes."""

import inspect
import subprocess
import sys
from importlib import import_module

import pytest

from napari_skinseg.cli import segment
from napari_skinseg.cli.app import COMMANDS, app


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("segment", "nowhere"), "nowhere"),
        (("segment",), "PATHS"),
        (("segment", "PHOTO", "--model", "nobody"), "nobody"),
        (("segment", "PHOTO", "--threshold", "1.5"), "threshold"),
        (("segment", "PHOTO", "--threshold", "high"), "high"),
        (("segment", "PHOTO", "--device", "abacus", "--model", "MODEL"), "abacus"),
        (("segment", "PHOTO", "--colour"), "--colour"),
        (("evaluate", "nowhere"), "nowhere"),
        (("train", "nowhere", "--out", "run"), "nowhere"),
        (("export", "nowhere", "--out", "shared"), "nowhere"),
        (("models", "info", "nobody"), "nobody"),
        (("fly",), "fly"),
    ],
)
def test_bad_input_gives_exit_code_2_and_one_sentence(
    run, photos, spot_finder, tmp_path, monkeypatch, arguments, named
):
    monkeypatch.chdir(tmp_path)
    given = {"PHOTO": str(min(photos)), "MODEL": str(spot_finder)}
    before = set(tmp_path.rglob("*.png"))
    code, out, messages = run(*(given.get(argument, argument) for argument in arguments))
    assert code == 2
    assert out == ""
    assert named in messages
    assert "Traceback" not in messages
    assert set(tmp_path.rglob("*.png")) == before


def test_a_bug_prints_one_sentence_and_writes_a_file_with_details(run, photos, spot_finder, tmp_path, monkeypatch):
    monkeypatch.setattr(segment, "segment_files", lambda *arguments: 1 / 0)
    code, out, messages = run(
        "segment", tmp_path / "photos", "--model", spot_finder, "--out", tmp_path / "out", "--quiet"
    )
    assert code == 70
    assert out == ""
    assert "division by zero" in messages
    assert "Traceback" not in messages
    (report,) = (tmp_path / "state").rglob("crash-*.txt")
    assert str(report) in messages
    assert "ZeroDivisionError" in report.read_text()


def test_a_reader_that_closes_the_pipe_is_no_error(start, spot_finder):
    process = start("models", "info", spot_finder)
    process.stdout.close()
    assert process.wait(timeout=180) == 0
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


def test_version_is_printed_and_help_names_every_command(start):
    for flag, expected in (("--version", "."), ("--help", "evaluate")):
        process = start(flag)
        text, messages = process.communicate(timeout=180)
        assert process.returncode == 0, messages
        assert expected in text


def test_the_list_of_commands_repeats_their_first_sentences():
    for name, sentence in COMMANDS.items():
        module = import_module(f"napari_skinseg.cli.{name}")
        command = getattr(module, name)
        assert (command.help if name == "models" else inspect.cleandoc(command.__doc__)).startswith(sentence)
    assert set(COMMANDS) == {name for name in app if not name.startswith("-")}


INTERRUPTED_IMPORT = """
import os, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # a program in the background ignores it
from napari_skinseg.cli.main import main

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.exit(main(["segment", {photo!r}, "--out", {out!r}]))
"""


@pytest.mark.parametrize("name", ["cyclopts", "napari_skinseg.cli.app", "napari_skinseg.cli.segment", "numpy", "PIL"])
def test_ctrl_c_while_modules_are_imported_gives_one_word_and_exit_code_130(name, photos, tmp_path):
    program = INTERRUPTED_IMPORT.format(name=name, photo=str(min(photos)), out=str(tmp_path / "out"))
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 130, result.stderr
    assert result.stderr == "Interrupted.\n"
    assert not (tmp_path / "out").exists()
