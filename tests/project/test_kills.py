"""A review is killed (SIGKILL) at random instants, again and again, and no mask that was saved is ever lost or torn.

Twelve kills by default; `SKINSEG_KILLS=200` for the long form.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.project.project import Project

KILLS = int(os.environ.get("SKINSEG_KILLS", "12"))
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")

# A person reviews while a model predicts. Each step is told before and after, so that the test knows what was
# acknowledged and what was under way; `stroke` draws the same mask for the same number in both processes. One process
# imports everything once and forks a reviewer for each line it is given.
REVIEW = """
import itertools, json, os, random, sys
import numpy as np
from napari_skinseg.project.project import Project
from napari_skinseg.errors import BadInput

def stroke(number, shape=(200, 260)):
    return np.random.default_rng(number).random(shape) < 0.5

def tell(**what):
    os.write(1, (json.dumps(what) + "\\n").encode())

def review(folder, seed):
    rng = random.Random(seed)
    tell(kind="starting", pid=os.getpid())
    project = Project.open(folder)
    tell(kind="opened", repairs=project.repairs)
    photos = [photo.id for photo in project.photos()]
    for number in itertools.count(seed * 100000):
        photo = rng.choice(photos)
        act = rng.choice(["save", "save", "save", "accept", "draw and accept", "skip", "take back", "predict"])
        tell(kind="begin", act=act, photo=photo, number=number)
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
        tell(kind="done", act=act, photo=photo, number=number, status=project.photo(photo).status)
        if rng.random() < 0.02:
            project.close()
            project = Project.open(folder)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        review(*json.loads(line))
    os.waitpid(child, 0)
    tell(kind="ended")
"""


def stroke(number: int, shape: tuple[int, int] = (200, 260)) -> np.ndarray:
    return np.random.default_rng(number).random(shape) < 0.5


class Reviewers:
    """The process that forks reviewers."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", REVIEW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def killed_after(self, folder: Path, seed: int, seconds: float) -> list[dict]:
        """Have a reviewer open the project, kill it `seconds` later, and return what it told."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(folder), seed]) + "\n")
        starting = json.loads(self.process.stdout.readline())
        time.sleep(seconds)
        os.kill(starting["pid"], signal.SIGKILL)
        told = []
        for line in self.process.stdout:
            told.append(json.loads(line))
            if told[-1]["kind"] == "ended":
                return told[:-1]
        raise AssertionError("the reviewers' process ended by itself")

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)


class Ledger:
    """What must be true, from what was acknowledged before the kill."""

    def __init__(self) -> None:
        self.drawn: dict[str, int] = {}  # photo -> number of the stroke that its file must show
        self.status: dict[str, str] = {}
        self.strokes = 0

    def enter(self, told: list[dict]) -> dict | None:
        """Enter what was acknowledged and return what was under way."""
        under_way = None
        for line in told:
            if line["kind"] == "begin":
                under_way = line
            elif line["kind"] == "done":
                under_way = None
                self.status[line["photo"]] = line["status"]
                if line["act"] in ("save", "draw and accept"):
                    self.drawn[line["photo"]] = line["number"]
                    self.strokes += 1
        return under_way

    def check(self, project: Project, under_way: list[dict]) -> None:
        """Every acknowledged mask is there, whole; only what was under way may be one step further."""
        for photo in project.photos():
            ours = [line for line in under_way if line["photo"] == photo.id]
            if photo.has_mask:
                mask = read_mask(photo.mask_path, photo.shape)  # raises if torn
            allowed = {line["number"] for line in ours if line["act"] in ("save", "draw and accept")}
            allowed |= {self.drawn[photo.id]} if photo.id in self.drawn else set()
            if photo.id in self.drawn or photo.changed:
                assert photo.has_mask, f"the mask of {photo.id} is lost"
                found = [number for number in allowed if np.array_equal(mask, stroke(number, photo.shape))]
                assert found, f"the mask of {photo.id} is another"
                self.drawn[photo.id] = found[0]
            if not ours:
                assert photo.status == self.status.get(photo.id, "new"), f"a decision on {photo.id} is lost"
            self.status[photo.id] = photo.status
            if photo.predicted_file:
                assert project.model_mask(photo.id) is not None


def test_no_mask_is_lost_or_torn_by_kills_at_random_instants(tmp_path, take_photo):
    for number in range(6):
        take_photo(tmp_path / "photos" / f"p{number}.png", number, (200, 260))
    review = tmp_path / "review"
    with Project.open(review, create=True) as project:
        project.scan(tmp_path / "photos")
    ledger, rng, repaired, reviewers = Ledger(), random.Random(1), [], Reviewers()
    try:
        for kill in range(KILLS):
            # Some are killed while they open and repair, and then another is, before anyone looks.
            told = reviewers.killed_after(review, 2 * kill, rng.random() * rng.choice([0.1, 1.0]))
            under_way = [ledger.enter(told)]
            if rng.random() < 0.3:
                more = reviewers.killed_after(review, 2 * kill + 1, rng.random() * 0.1)
                under_way.append(ledger.enter(more))
                told += more
            repaired += [sentence for line in told if line["kind"] == "opened" for sentence in line["repairs"]]
            with Project.open(review) as project:
                repaired += project.repairs
                ledger.check(project, [line for line in under_way if line])
                assert not list(review.rglob(".*_segmentation-*")), "a stray file was left"
    finally:
        reviewers.close()
    assert ledger.strokes >= KILLS, "the review hardly got to draw, so the test says nothing"
    print(f"\n{KILLS} kills and more, {ledger.strokes} strokes acknowledged, none lost or torn; repairs:")
    for what in sorted({sentence.split(":")[0] for sentence in repaired}):
        print(f"{sum(sentence.startswith(what) for sentence in repaired):6}", what)
