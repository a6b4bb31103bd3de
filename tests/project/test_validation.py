"""Tests of projects from strangers: whatever the SQLite file holds, nothing outside the project is written."""

import itertools
import json
import os
import random
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from napari_skinseg.errors import BadInput
from napari_skinseg.project.export import ExportOptions, export_project
from napari_skinseg.project.mask_files import MaskFiles
from napari_skinseg.project.project import Project, ProjectDamaged
from napari_skinseg.project.store import Store

STORE = "skinseg-project.sqlite"
MUTATIONS = int(os.environ.get("SKINSEG_MUTATIONS", "200"))
NASTY = (
    "", " ", ".", "..", "/", "../../evil", "../evil", "/dev/zero", "C:\\evil", "a/b", "a\0b", "~root/x", "x" * 300,
    "ä" * 200, "x" * 5000, "a\nb", "nan", "1e999", "[]", "{}", "[[1, 2], [3, 4]]", "[[1, 2], [3, 4], 5]", "[null]",
    '["/"]', "[" * 5000, "new", "here", 0, 1, -1, 2, 10**9, 2**62, -(2**62), 0.5, 1.5, -1e308, float("inf"), b"bytes",
    b"\xff\xfe", None,
)  # fmt: skip


@pytest.fixture
def sandbox(take_photo, draw, tmp_path, monkeypatch) -> Path:
    """A folder with a closed project of two photos, and files that must not change."""
    connect = Store._connect

    def connect_without_sync(store: Store) -> sqlite3.Connection:
        connection = connect(store)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    # These tests open hundreds of projects and are not about power cuts.
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(Store, "_connect", connect_without_sync)
    for seed in (1, 2):
        take_photo(tmp_path / "photos" / f"{seed}.png", seed)
    (tmp_path / "photos" / "empty.png").touch()
    with Project.open(tmp_path / "review", create=True) as project:
        project.scan(tmp_path / "photos")
        one, two = (photo.id for photo in project.photos())
        for photo in (one, two):
            project.set_prediction(photo, draw(9), model="unet", confidence=0.8)
        project.accept(one)
        project.save_mask(two, draw(12))
        project.set_scale(two, ((0.0, 0.0), (0.0, 40.0)), 10)
        project.visit(one)
        project.set_blind_sample(0.1)
    monkeypatch.setattr(Store, "backup", lambda store: None)
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("evil_segmentation.png", "evil", "notes.txt"):
        for folder in (outside, tmp_path):
            (folder / name).write_text("keep")
    return tmp_path


def content(folder: Path, *but: str) -> dict[str, bytes]:
    """All files below a folder with their content, without the sub-folders `but`."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] not in but
    }


def mutate(store: Path, table: str, column: str, value: object, *, one_row: bool = True) -> None:
    with sqlite3.connect(store, isolation_level=None) as direct:
        triggers = direct.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        direct.execute("PRAGMA ignore_check_constraints = ON")
        for name, _ in triggers:
            direct.execute(f"DROP TRIGGER {name}")
        where = f"WHERE {column} IN (SELECT {column} FROM {table} LIMIT 1)" if one_row else ""
        with suppress(sqlite3.Error):
            direct.execute(f"UPDATE {table} SET {column} = ? {where}", (value,))
        for _, sql in triggers:
            direct.execute(sql)
    direct.close()


def review(project: Project, out: Path) -> None:
    """Call everything that a window calls; every call may refuse with a sentence."""
    mask = np.zeros((48, 64), bool)
    mask[10:30, 10:40] = True
    calls = [
        project.photos, project.counts, project.roots, project.take_back, project.unreadable,
        lambda: project.resume(project.queue("mixed")), lambda: project.scan(project.folder.parent / "photos"),
    ]  # fmt: skip
    for photo in project.photos(replaced=True):
        calls += [
            lambda photo=photo: project.read_photo(photo.id), lambda photo=photo: project.mask(photo.id),
            lambda photo=photo: project.accept(photo.id), lambda photo=photo: project.save_mask(photo.id, mask),
            lambda photo=photo: project.set_prediction(photo.id, mask, model="other"),
            lambda photo=photo: project.decide(photo.id, "accepted"), lambda photo=photo: project.visit(photo.id),
            lambda photo=photo: project.spread_scale(photo.id),
        ]  # fmt: skip
    options = ExportOptions(overlays=False, measure=False, coco=False)
    for call in (*calls, lambda: export_project(project, out, options)):
        with suppress(BadInput):
            call()


def test_mutated_projects_are_refused_or_work_and_write_nothing_outside(sandbox):
    before = content(sandbox, "review", "out")
    shutil.copytree(sandbox / "review", sandbox / "review-0")
    with sqlite3.connect(sandbox / "review" / STORE) as direct:
        columns = [
            (table, row[1])
            for table in ("photos", "log", "facts")
            for row in direct.execute(f"PRAGMA table_info({table})")
        ]
    direct.close()
    outside = sandbox / "outside"
    nasty = [*NASTY, str(outside / "evil"), "../../outside/evil", json.dumps([[str(outside), 3]]), f'["{outside}"]']
    every = list(itertools.product(columns, nasty))
    rng = random.Random(7)
    paths = [(("photos", "id"), value) for value in (str(outside / "evil"), "../../outside/evil", "../outside/evil")]
    refused = 0
    for (table, column), value in (*paths, *rng.sample(every, MUTATIONS)):
        shutil.rmtree(sandbox / "review")
        shutil.rmtree(sandbox / "out", ignore_errors=True)
        shutil.copytree(sandbox / "review-0", sandbox / "review")
        mutate(sandbox / "review" / STORE, table, column, value, one_row=rng.random() < 0.5)
        try:
            with Project.open(sandbox / "review") as project:
                review(project, sandbox / "out")
        except BadInput:
            refused += 1
        except Exception as error:
            pytest.fail(f"{table}.{column} = {value!r:.100} raised {error!r}")
        changed = content(sandbox, "review", "review-0", "out").items() ^ before.items()
        assert not changed, f"{table}.{column} = {value!r:.100} wrote outside: {sorted(changed)[0][0]}"
    assert refused > MUTATIONS / 4


@pytest.mark.parametrize("column", ["id", "predicted_file"])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_photo_whose_name_is_a_path_is_refused(sandbox, column, read_only):
    mutate(sandbox / "review" / STORE, "photos", column, "../../outside/evil")
    before = content(sandbox)
    with pytest.raises(ProjectDamaged, match=rf"{column}.*restore the backup") as refused:
        Project.open(sandbox / "review", read_only=read_only)
    assert refused.value.backup is not None
    changed = {path for path, _ in content(sandbox).items() ^ before.items()}
    assert changed <= {f"review/{STORE}"}, "SQLite changes its file at opening, nothing else changes"


def test_mask_files_refuse_names_that_are_paths(tmp_path):
    files = MaskFiles(tmp_path)
    for name in ("../evil", "/evil", "a/b", "a\\b", ".hidden", "a\0b", "", "C:x"):
        with pytest.raises(BadInput, match="not a file name"):
            files.path(name) if name else files.predicted_path(name)


def test_a_trigger_in_the_index_is_refused(sandbox):
    with sqlite3.connect(sandbox / "review" / STORE) as direct:
        direct.execute("CREATE TRIGGER evil AFTER UPDATE ON photos BEGIN UPDATE photos SET id = '../evil'; END")
    direct.close()
    with pytest.raises(ProjectDamaged, match="tables are not those of this program"):
        Project.open(sandbox / "review")


@pytest.mark.skipif(os.name != "posix", reason="making links needs rights on Windows")
@pytest.mark.parametrize("name", ["masks", "masks/damaged", STORE, f"{STORE}-wal"])
def test_a_project_with_links_to_other_places_is_refused(sandbox, name):
    path = sandbox / "review" / name
    if path.exists():
        path.rename(sandbox / "outside" / path.name)
    path.symlink_to(sandbox / "outside" / path.name)
    before = content(sandbox / "outside")
    with pytest.raises(BadInput, match="is a link"):
        Project.open(sandbox / "review")
    assert content(sandbox / "outside") == before


def test_a_journal_that_names_another_file_is_refused(sandbox):
    (sandbox / "review" / f"{STORE}-journal").write_bytes(b"evil" + bytes.fromhex("d9d505f920a163d7"))
    with pytest.raises(ProjectDamaged, match="refers to other files"):
        Project.open(sandbox / "review")


def test_damaged_bytes_are_refused_or_work(sandbox):
    store = (sandbox / "review" / STORE).read_bytes()
    rng = random.Random(3)
    before = content(sandbox, "review", "out")
    for _ in range(30):
        changed = bytearray(store)
        for place in rng.sample(range(100, len(store)), rng.choice([1, 10, 200])):
            changed[place] = rng.randrange(256)
        (sandbox / "review" / STORE).write_bytes(changed)
        with suppress(BadInput), Project.open(sandbox / "review") as project:
            review(project, sandbox / "out")
        assert content(sandbox, "review", "out") == before
