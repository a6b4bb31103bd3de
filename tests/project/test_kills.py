"""Tests of kills (SIGKILL) during a review: no saved mask is lost or damaged.

Twelve kills by default; `SKINSEG_KILLS=200` for the long form.
"""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.project.project import Project

KILLS = int(os.environ.get("SKINSEG_KILLS", "12"))
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")

# A person reviews while a model predicts. The process reports each step before and after it, so that the test knows
# the confirmed steps and the one that was running. `stroke` makes the same mask from the same number in both processes.
# One process imports everything once and forks a reviewer for each line it reads.
REVIEW = """
import itertools, json, os, random, sys
import numpy as np
import scipy.ndimage  # otherwise each fork imports it
from PIL import Image
from napari_skinseg.project.project import Project
from napari_skinseg.errors import BadInput

Image.preinit()

def stroke(number, shape=(200, 260)):
    return np.random.default_rng(number).random(shape) < 0.5

def report(**what):
    os.write(1, (json.dumps(what) + "\\n").encode())

def review(folder, seed):
    rng = random.Random(seed)
    report(kind="starting", pid=os.getpid())
    project = Project.open(folder)
    report(kind="opened", repairs=project.repairs)
    photos = [photo.id for photo in project.photos()]
    for number in itertools.count(seed * 100000):
        photo = rng.choice(photos)
        act = rng.choice(["save", "save", "save", "accept", "draw and accept", "skip", "take back", "predict"])
        report(kind="begin", act=act, photo=photo, number=number)
        if act == "save":
            project.save_mask(photo, stroke(number))
        elif act == "accept":
            try:
                project.accept(photo)
            except BadInput:
                pass  # nothing to accept yet
        elif act == "draw and accept":
            project.accept(photo, stroke(number))
        elif act == "skip":
            project.decide(photo, "skipped", note=str(number))
        elif act == "take back":
            project.take_back(photo)
        else:
            project.set_prediction(photo, stroke(number), model=f"model{rng.randrange(3)}", confidence=rng.random())
        report(kind="done", act=act, photo=photo, number=number, status=project.photo(photo).status)
        if rng.random() < 0.02:
            project.close()
            project = Project.open(folder)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        review(*json.loads(line))
    os.waitpid(child, 0)
    report(kind="ended")
"""


def stroke(number: int, shape: tuple[int, int] = (200, 260)) -> np.ndarray:
    return np.random.default_rng(number).random(shape) < 0.5


class ReviewProcess:
    """The process that forks a reviewer for each kill."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", REVIEW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def kill_after(self, folder: Path, seed: int, seconds: float) -> list[dict]:
        """Start a reviewer, kill it `seconds` later, and return its reports."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(folder), seed]) + "\n")
        starting = json.loads(self.process.stdout.readline())
        time.sleep(seconds)
        os.kill(starting["pid"], signal.SIGKILL)
        reports = []
        for line in self.process.stdout:
            reports.append(json.loads(line))
            if reports[-1]["kind"] == "ended":
                return reports[:-1]
        raise AssertionError("the review process ended without a kill")

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)


class Confirmed:
    """The confirmed masks and statuses, which must be in the project after the kill."""

    def __init__(self) -> None:
        self.strokes_by_photo: dict[str, int] = {}  # photo -> number of the stroke in its file
        self.status: dict[str, str] = {}
        self.strokes = 0

    def enter(self, reports: list[dict]) -> dict | None:
        """Enter the confirmed steps and return the step that was running."""
        running = None
        for line in reports:
            if line["kind"] == "begin":
                running = line
            elif line["kind"] == "done":
                running = None
                self.status[line["photo"]] = line["status"]
                if line["act"] in ("save", "draw and accept"):
                    self.strokes_by_photo[line["photo"]] = line["number"]
                    self.strokes += 1
        return running

    def check(self, project: Project, running: list[dict]) -> None:
        """Check that every confirmed mask is in the project; only the running steps may have changed it since."""
        for photo in project.photos():
            ours = [line for line in running if line["photo"] == photo.id]
            if photo.has_mask:
                mask = read_mask(photo.mask_path, photo.shape)  # raises if torn
            allowed = {line["number"] for line in ours if line["act"] in ("save", "draw and accept")}
            allowed |= {self.strokes_by_photo[photo.id]} if photo.id in self.strokes_by_photo else set()
            if photo.id in self.strokes_by_photo or photo.changed:
                assert photo.has_mask, f"the mask of {photo.id} is lost"
                found = [number for number in allowed if np.array_equal(mask, stroke(number, photo.shape))]
                assert found, f"the mask of {photo.id} is another"
                self.strokes_by_photo[photo.id] = found[0]
            if not ours:
                assert photo.status == self.status.get(photo.id, "new"), f"a decision on {photo.id} is lost"
            self.status[photo.id] = photo.status
            if photo.predicted_file:
                assert project.model_mask(photo.id) is not None


def test_kills_at_random_times_lose_or_damage_no_saved_mask(tmp_path, take_photo):
    for number in range(6):
        take_photo(tmp_path / "photos" / f"p{number}.png", number, (200, 260))
    review = tmp_path / "review"
    with Project.open(review, create=True) as project:
        project.scan(tmp_path / "photos")
    confirmed, rng, repaired, reviewer = Confirmed(), random.Random(1), [], ReviewProcess()
    try:
        for kill in range(5 * KILLS):
            if kill >= KILLS and confirmed.strokes >= KILLS:
                break  # on a slow computer, more kills are needed to hit as many strokes
            # Some reviewers are killed while they open and repair, and a second one before the check.
            reports = reviewer.kill_after(review, 2 * kill, rng.random() * rng.choice([0.1, 1.0]))
            running = [confirmed.enter(reports)]
            if rng.random() < 0.3:
                more = reviewer.kill_after(review, 2 * kill + 1, rng.random() * 0.1)
                running.append(confirmed.enter(more))
                reports += more
            repaired += [sentence for line in reports if line["kind"] == "opened" for sentence in line["repairs"]]
            with Project.open(review) as project:
                repaired += project.repairs
                confirmed.check(project, [line for line in running if line])
                assert not list(review.rglob(".*_segmentation-*")), "a temporary file was left"
    finally:
        reviewer.close()
    assert confirmed.strokes >= KILLS, "too few strokes for a meaningful test"
    print(f"\n{kill} kills and more, {confirmed.strokes} strokes confirmed, none lost or damaged; repairs:")
    for what in sorted({sentence.split(":")[0] for sentence in repaired}):
        print(f"{sum(sentence.startswith(what) for sentence in repaired):6}", what)


# Kills before each step of one call. A step is a change of a file (an audit event of Python) or a commit.
ONE_CALL = """
import json, os, sys
from contextlib import contextmanager
import numpy as np
import scipy.ndimage  # otherwise each fork imports it
from PIL import Image
from napari_skinseg.project.project import Project
from napari_skinseg.project.store import Store

Image.preinit()
STEPS = {"os.rename", "os.link", "os.remove", "commit"}
remaining = None

def count(event, arguments):
    global remaining
    if remaining is not None and event in STEPS:
        if remaining == 0:
            os._exit(9)
        remaining -= 1

sys.addaudithook(count)
write = Store.write

@contextmanager
def audited_write(store):
    with write(store) as connection:
        yield connection
        sys.audit("commit")

Store.write = audited_write

def mask(number, shape=(200, 260)):
    return np.random.default_rng(number).random(shape) < 0.5

def call(folder, before, after, step):
    global remaining
    project = Project.open(folder)
    photo = project.photos()[0].id
    for name, *numbers in before:
        run(project, photo, name, *numbers)
    remaining = step
    run(project, photo, *after)
    remaining = None
    os._exit(0)

def run(project, photo, name, *numbers):
    if name == "predict":
        project.set_prediction(photo, mask(numbers[0]), model=str(numbers[0]), confidence=0.9)
    elif name == "save":
        project.save_mask(photo, mask(numbers[0]))
    elif name == "accept":
        project.accept(photo, *map(mask, numbers))
    else:
        project.take_back(photo)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        call(*json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

PREDICTED = [["predict", 1]]
CORRECTED = [*PREDICTED, ["save", 2]]


@pytest.fixture(scope="module")
def calls() -> Iterator[subprocess.Popen[str]]:
    """The process that forks one call for each line, and prints its exit code."""
    command = [sys.executable, "-c", ONE_CALL]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        yield process
        process.stdin.close()


@pytest.mark.parametrize(
    ("before", "call", "masks"),
    [
        ([], ["save", 2], (None, 2)),
        (PREDICTED, ["save", 2], (1, 2)),
        (CORRECTED, ["save", 3], (2, 3)),
        (CORRECTED, ["save", 1], (2, 1)),  # undo: the prediction again
        ([*CORRECTED, ["save", 1]], ["save", 3], (1, 3)),
        ([*CORRECTED, ["accept"]], ["save", 3], (2, 3)),
        ([*CORRECTED, ["accept"], ["save", 3]], ["save", 2], (3, 2)),  # undo: the accepted mask again
        (PREDICTED, ["accept"], (1, 1)),
        (CORRECTED, ["accept", 3], (2, 3)),
        ([*PREDICTED, ["accept"]], ["take back"], (1, 1)),
        ([*CORRECTED, ["save", 1], ["accept"]], ["take back"], (1, 1)),
        ([], ["predict", 1], (None, 1)),
        (PREDICTED, ["predict", 4], (1, 4)),
    ],
    ids=str,
)
def test_a_kill_at_any_step_leaves_the_mask_before_or_after_the_call(calls, tmp_path, take_photo, before, call, masks):
    take_photo(tmp_path / "photos" / "p.png", 1, (200, 260))
    with Project.open(tmp_path / "empty", create=True) as project:
        project.scan(tmp_path / "photos")
    expected = [None if number is None else stroke(number) for number in masks]
    steps = 0
    for step in itertools.count():
        review = tmp_path / f"review{step}"
        shutil.copytree(tmp_path / "empty", review)
        calls.stdin.write(json.dumps([str(review), before, call, step]) + "\n")
        code = int(calls.stdout.readline())
        with Project.open(review) as project:
            photo = project.photos()[0]
            found = project.mask(photo.id)
            which = [np.array_equal(found, mask) if mask is not None else found is None for mask in expected]
            assert any(which), f"step {step}: another mask"
            assert which[1] or code, "the call was confirmed and its mask is missing"
            assert photo.has_mask == (photo.status in ("corrected", "accepted")), f"step {step}: {photo.status}"
            assert [path.name for path in (review / "masks").glob(".*")] == []
        with Project.open(review) as project:
            assert project.repairs == (), "one repair is enough"
        if code == 0:
            break
        steps += 1
    assert steps >= 2
