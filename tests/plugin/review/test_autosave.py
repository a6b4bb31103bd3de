"""What the label of the Review tab promises: a mask shown as saved is on disk.

Eight moments of one window by default; `SKINSEG_KILLS=200` for the long form.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from napari_skinseg.plugin.mask_layers import mask_checksum
from napari_skinseg.project.project import Project

MOMENTS = int(os.environ.get("SKINSEG_KILLS", "5"))
SHAPE = (120, 160)

# A person paints, undoes, accepts and goes on in a real window. Before each event and after each change, the process
# writes what the window shows: the photo, the label, and the checksum of the mask.
WINDOW = """
import json, os, random, sys, time
import napari
from pathlib import Path
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

folder, log, seed = Path(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND), int(sys.argv[3])
rng = random.Random(seed)
viewer = napari.Viewer()
_, widget = viewer.window.add_plugin_dock_widget("napari-skinseg")
panel = widget.panels[1]
widget.tabs.setCurrentIndex(1)
current, application = panel.navigator.current, QApplication.instance()
last = None

def report(*_):
    global last
    if current.photo is not None:
        shown = {"photo": current.photo.id, "label": panel.saved.text(), "mask": current.checksum}
        if shown != last:
            os.write(log, (json.dumps(shown) + "\\n").encode())
            last = shown

def run_events(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        application.processEvents()
        report()
        time.sleep(0.002)

def wait_for(condition):
    while not condition():
        application.processEvents()
        time.sleep(0.01)

panel.open_folder(folder)
wait_for(lambda: panel.navigator.current.photo is not None and panel._job is None)
panel.predict_all()
wait_for(lambda: panel._job is None and not panel._session.background.is_busy)
assert all(photo.predicted_file for photo in panel.photos.list.existing())
panel.navigator.autosave.state_changed.connect(report)
canvas = viewer.window._qt_viewer.canvas.native
canvas.setFocus()

def send(kind, place, buttons):
    button = Qt.MouseButton.NoButton if kind == QEvent.Type.MouseMove else Qt.MouseButton.LeftButton
    event = QMouseEvent(kind, place, canvas.mapToGlobal(place), button, buttons, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(canvas, event)

def stroke():
    left = Qt.MouseButton.LeftButton
    place = QPointF(rng.uniform(.3, .7) * canvas.width(), rng.uniform(.3, .7) * canvas.height())
    current.labels.mode = rng.choice(["paint", "paint", "erase"])
    send(QEvent.Type.MouseMove, place, Qt.MouseButton.NoButton)
    send(QEvent.Type.MouseButtonPress, place, left)
    for _ in range(rng.randrange(6)):
        place = place + QPointF(rng.uniform(-20, 20), rng.uniform(-20, 20))
        send(QEvent.Type.MouseMove, place, left)
        run_events(rng.choice([0, 0.01, 0.3]))
    send(QEvent.Type.MouseButtonRelease, place, Qt.MouseButton.NoButton)

while True:
    action = rng.choice(["stroke"] * 5 + ["undo"] * 3 + ["W", "N", "N", "J"])
    if action == "stroke" and current.labels.editable and current.photo is not None:
        stroke()
    elif action == "undo":
        QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    elif action != "stroke":
        QTest.keyClick(canvas, getattr(Qt.Key, f"Key_{action}"))
    run_events(rng.choice([0, 0.05, 0.3, 1.2]))
"""


@pytest.fixture
def folder(tmp_path, spot) -> Path:
    """Six photos of a dark spot."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        Image.fromarray(spot(50 + 4 * number, 70 + 5 * number, 15 + 3 * number, SHAPE)[0]).save(
            folder / f"photo_{number}.png"
        )
    return folder


def read_lines(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def check_promises(folder: Path, lines: list[dict]) -> None:
    """Compare the masks that the next opening finds with those that the window showed."""
    with Project.open(folder / "skinseg-review", take_over=True) as project:
        for photo in {line["photo"] for line in lines}:
            own = [line for line in lines if line["photo"] == photo]
            saved = [number for number, line in enumerate(own) if line["label"].startswith("Saved")]
            later = own[saved[-1] if saved else 0 :]
            mask = project.mask(photo)
            found = mask_checksum(np.zeros(SHAPE, bool) if mask is None else mask)
            assert found in [line["mask"] for line in later], (photo, found, own[-5:], project.repairs)
            if own[-1]["label"].startswith("Saved"):
                assert found == own[-1]["mask"], (photo, own[-5:], project.repairs)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP is POSIX")
def test_a_mask_shown_as_saved_is_on_disk_whenever_the_window_is_killed(folder, models_here, tmp_path):
    """A stopped process has left on disk what a killed one leaves, so one window gives many moments; the last kills."""
    log, rng = tmp_path / "log", random.Random(0)
    process = subprocess.Popen([sys.executable, "-c", WINDOW, str(folder), str(log), "0"])
    try:
        until = time.monotonic() + 240
        while len(read_lines(log)) < 5:
            assert process.poll() is None
            assert time.monotonic() < until, "the window did not open in time"
            time.sleep(0.2)
        for moment in range(MOMENTS):
            time.sleep(rng.uniform(0.1, 1.5))
            assert process.poll() is None
            process.send_signal(signal.SIGSTOP)
            while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
                time.sleep(0.01)
            copy = tmp_path / f"moment-{moment}"
            shutil.copytree(folder, copy)
            lines = read_lines(log)
            process.send_signal(signal.SIGCONT)
            check_promises(copy, lines)
            shutil.rmtree(copy)
    finally:
        process.kill()
        process.wait()
    lines = read_lines(log)
    check_promises(folder, lines)
    labels = {line["label"].split()[0] for line in lines if line["label"]}
    assert labels == {"Saved", "Saving…"}
    assert len({(line["photo"], line["mask"]) for line in lines}) > MOMENTS / 2
