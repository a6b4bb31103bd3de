"""The tour of README.md in a real napari window, in a process of its own, and where each known fault has its test."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("walk.py")
STEPS = ("segment", "refine-clicks", "refine", "brush", "save", "review-opened", "review-refine", "review")
PICTURES = (*STEPS, "fine-tune-runs", "fine_tune")


@pytest.mark.parametrize(("theme", "scale"), [("dark", 1), ("light", 2)])
def test_the_tour_works_without_a_problem(tmp_path, theme, scale):
    command = [sys.executable, str(PROGRAM), str(tmp_path / "walk"), "--theme", theme, "--size", "1366x768"]
    if shutil.which("xvfb-run"):  # a screen of its own: windows of other tests would take the keyboard
        command = ["xvfb-run", "-a", "-s", f"-screen 0 {1400 * scale}x{800 * scale}x24", *command]
    environment = {**os.environ, "QT_SCALE_FACTOR": str(scale), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    screenshots = tmp_path / "walk" / "screenshots"
    assert {path.stem for path in screenshots.iterdir()} == set(PICTURES)
