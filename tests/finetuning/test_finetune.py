"""Fine-tuning of a small network, on generated spots with masks that are wider than the spots."""

import csv
import errno
import itertools
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.errors import BadInput
from napari_skinseg.finetuning.evidence import Evidence, collect
from napari_skinseg.finetuning.finetune import fine_tune
from napari_skinseg.finetuning.fits import MIXING_COEFFICIENTS, choose_coefficient
from napari_skinseg.finetuning.options import FineTuneOptions
from napari_skinseg.finetuning.runs import adopt, choose_run_folder, discard, find_undecided, list_fine_tuned, revert
from napari_skinseg.models import bundle, store
from napari_skinseg.pixels.mask import write_mask
from napari_skinseg.pixels.metrics import dice
from napari_skinseg.project.project import Project
from napari_skinseg.segmentation.segmenter import Segmenter

SHORT = FineTuneOptions(passes=12, learning_rate=3e-3, batch_size=8)


@pytest.fixture(autouse=True)
def _own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SKINSEG_HOME", str(tmp_path / "home"))


@pytest.fixture
def clinic(tmp_path, spot):
    """Makes a folder of photos whose masks are drawn `wider` pixels wider than the spots are."""

    def make(count: int, wider: int = 5, shape: tuple[int, int] = (96, 128), name: str = "clinic") -> Path:
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        (folder / "masks").mkdir()
        rng = np.random.default_rng(count)
        for number in range(count):
            place = rng.uniform(35, 60), rng.uniform(40, 90)
            radius = rng.uniform(12, 20)
            image, _ = spot(*place, radius, shape)
            _, mask = spot(*place, radius + wider, shape)
            Image.fromarray(image).save(folder / "images" / f"{number:02d}.png")
            write_mask(folder / "masks" / f"{number:02d}_segmentation.png", mask)
        return folder

    return make


def sorted_like(verdict, other):
    """The photos of a verdict in the order of another verdict."""
    order = [row.id for row in other.compared]
    return sorted(verdict.compared, key=lambda row: order.index(row.id))


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_style_is_learned_judged_adopted_and_reverted(tmp_path, clinic, spot_finder, spot):
    store.add(spot_finder)
    store.set_default("spot-finder")
    base = everything_in(store.find("spot-finder").folder)
    seen = []
    outcome = fine_tune(None, collect(clinic(12)), SHORT, tmp_path / "run", seen.append)

    border, verdict = outcome.border.verdict, outcome.verdict
    assert border.better, border.sentence
    assert border.low > 0.02
    assert outcome.recommended == (outcome.candidate if verdict.better else outcome.border.model)
    assert verdict.previous == "border"
    assert [row.base_dice for row in verdict.compared] == [row.candidate_dice for row in sorted_like(border, verdict)]
    assert len(verdict.compared) == verdict.base.cases == 12  # each case was judged by a model that had not seen it
    assert {"read", "train", "validated", "phantoms"} <= {event.stage for event in seen}
    assert [event.done for event in seen if event.stage == "train"] == sorted(
        event.done for event in seen if event.stage == "train"
    )
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
    assert all(
        (tmp_path / "run" / name).stat().st_size for name in ("log.csv", "log.json", "curve.png", "verdict.json")
    )

    adopted = adopt(outcome.candidate)
    assert adopted.name == store.default_name() == "spot-finder-tuned"
    assert [model.name for model in list_fine_tuned()] == ["spot-finder-tuned"]
    provenance = list_fine_tuned()[0].spec.provenance
    assert provenance["base"] == "spot-finder"
    assert len(provenance["photos"].split(", ")) == 12
    image, _ = spot(48, 64, 16, (96, 128))
    _, wide = spot(48, 64, 21, (96, 128))
    assert dice(Segmenter().segment(image).mask, wide) > dice(Segmenter("spot-finder").segment(image).mask, wide)

    assert revert("spot-finder-tuned").name == store.default_name() == "spot-finder"
    assert everything_in(store.find("spot-finder").folder) == base


def test_the_largest_mixing_coefficient_is_chosen_unless_clearly_worse():
    def choice(*gains: float) -> float:
        noise = np.outer(np.tile([0.02, -0.02], 10), MIXING_COEFFICIENTS)
        return MIXING_COEFFICIENTS[choose_coefficient(dict(enumerate(0.85 + np.array(gains) + noise)))]

    assert choice(0.01, 0.02, 0.0195) == 0.75
    assert choice(0.00, -0.01, -0.03) == 0.25
    assert MIXING_COEFFICIENTS[choose_coefficient({})] == 0.5


@pytest.mark.slow
def test_shuffled_masks_are_rejected(tmp_path, spot_finder, spot):
    folder = tmp_path / "mixed-up"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    places = [(row, column) for row in (24, 72) for column in (24, 64, 104)] * 2
    for number, place in enumerate(places):
        image, _ = spot(*place, 16, (96, 128))
        _, mask = spot(*places[(number + 1) % len(places)], 16, (96, 128))
        Image.fromarray(image).save(folder / "images" / f"{number:02d}.png")
        write_mask(folder / "masks" / f"{number:02d}_segmentation.png", mask)
    verdict = fine_tune(spot_finder, collect(folder), SHORT, tmp_path / "run").verdict
    assert verdict.measured
    assert not verdict.better
    assert "Keep the base" in verdict.sentence


@pytest.mark.slow
def test_a_resumed_run_ends_like_an_uninterrupted_run(tmp_path, clinic, spot_finder, monkeypatch):
    from napari_skinseg.finetuning import run as finetuner

    monkeypatch.setattr(finetuner, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    evidence, options = collect(clinic(6)), replace(SHORT, passes=6, folds=2)
    whole = fine_tune(spot_finder, evidence, options, tmp_path / "whole")
    cancel = threading.Event()

    def stop(event):
        if event.stage == "train" and event.done == 9:
            cancel.set()

    assert fine_tune(spot_finder, evidence, options, tmp_path / "halved", stop, cancel).cancelled
    seen = []
    outcome = fine_tune(spot_finder, evidence, options, tmp_path / "halved", seen.append)
    assert min(event.done for event in seen if event.stage == "train") >= 7  # no fit started again
    with (outcome.folder / "log.csv").open() as stream:
        passes = [(row["fit"], int(row["pass"])) for row in csv.DictReader(stream)]
    fits = {"part 1 of 2", "part 2 of 2", "candidate"}
    assert sorted(passes) == sorted((fit, number) for fit in fits for number in range(1, 7))
    ours, theirs = (bundle.load(done.candidate).network.state_dict() for done in (outcome, whole))
    assert all(np.allclose(ours[name], theirs[name], atol=1e-3) for name in theirs)
    assert [row.candidate_dice for row in outcome.verdict.compared] == pytest.approx(
        [row.candidate_dice for row in whole.verdict.compared], abs=0.01
    )


def overwrite_masks(folder: Path) -> None:
    """Replace all masks, as a person does who reviews during a run."""
    for path in (folder / "masks").iterdir():
        mask = np.zeros((96, 128), dtype=bool)
        mask[2:20, 2:20] = True
        write_mask(path, mask)


def test_masks_changed_during_a_run_do_not_change_its_verdict(tmp_path, clinic, spot_finder):
    options = replace(SHORT, passes=2, folds=2)
    undisturbed = fine_tune(spot_finder, collect(clinic(6)), options, tmp_path / "undisturbed")
    folder = clinic(6, name="reviewed")
    before = {path.name: path.read_bytes() for path in (folder / "masks").iterdir()}

    def review(event):
        if event.stage == "train":
            overwrite_masks(folder)

    outcome = fine_tune(spot_finder, collect(folder), options, tmp_path / "run", review)
    for row, expected in zip(outcome.verdict.compared, undisturbed.verdict.compared, strict=True):
        assert row.base_dice == expected.base_dice
        assert row.candidate_dice == pytest.approx(expected.candidate_dice, abs=0.02)
        assert row.mask.read_bytes() == before[f"{row.id}_segmentation.png"]


@pytest.mark.slow
def test_a_run_continues_with_the_masks_of_its_start(tmp_path, clinic, spot_finder, monkeypatch):
    from napari_skinseg.finetuning import run

    monkeypatch.setattr(run, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    folder, options, cancel = clinic(6), replace(SHORT, passes=4, folds=2), threading.Event()
    before = {path.name: path.read_bytes() for path in (folder / "masks").iterdir()}

    def review_and_stop(event):
        if event.stage == "train" and event.done == 2:
            overwrite_masks(folder)
        if event.stage == "train" and event.done == 5:
            cancel.set()

    assert fine_tune(spot_finder, collect(folder), options, tmp_path / "run", review_and_stop, cancel).cancelled
    clinic(2, name="more")
    for path in (tmp_path / "more").glob("*/*"):  # two more photos are corrected before the run is continued
        path.rename(folder / path.parent.name / f"more-{path.name}")
    seen = []
    outcome = fine_tune(spot_finder, collect(folder), options, tmp_path / "run", seen.append)
    messages = [event.message for event in seen if event.stage == "message"]
    assert messages == ["The run continues with its own masks; newer corrections count in the next run."]
    assert min(event.done for event in seen if event.stage == "train") >= 5
    masks = {f"{row.id}_segmentation.png": row.mask.read_bytes() for row in outcome.verdict.compared}
    assert masks == before


def test_a_photo_deleted_during_a_run_does_not_stop_it(tmp_path, clinic, spot_finder):
    folder = clinic(6)

    def delete(event):
        if event.stage == "train" and event.done == 1:
            (folder / "images" / "03.png").unlink()
            (folder / "masks" / "03_segmentation.png").unlink()

    outcome = fine_tune(spot_finder, collect(folder), replace(SHORT, passes=2, folds=2), tmp_path / "run", delete)
    assert len(outcome.verdict.compared) == 6


def test_a_full_disk_stops_with_a_message_and_keeps_the_last_checkpoint(tmp_path, clinic, spot_finder, monkeypatch):
    from napari_skinseg.finetuning import run

    monkeypatch.setattr(run, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    evidence, options = collect(clinic(6)), replace(SHORT, passes=4, folds=2)
    write_bytes, written = Path.write_bytes, []

    def full(path, content):
        if "checkpoint" in path.name:
            written.append(path)
            if len(written) > 2:
                raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, content)

    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_bytes", full)
        with pytest.raises(BadInput, match=r"checkpoint\.pt could not be written, because the disk is full"):
            fine_tune(spot_finder, evidence, options, tmp_path / "run")
    seen = []
    outcome = fine_tune(spot_finder, evidence, options, tmp_path / "run", seen.append)
    assert "resumed" in [event.stage for event in seen]
    assert len(outcome.verdict.compared) == 6


def test_a_photo_deleted_before_the_start_is_named(tmp_path, clinic, spot_finder):
    evidence = collect(clinic(4))
    evidence.cases[1].image.unlink()
    with pytest.raises(BadInput, match=r"01\.png cannot be read"):
        fine_tune(spot_finder, evidence, SHORT, tmp_path / "run")


def test_a_run_of_other_photos_is_not_continued(tmp_path, clinic, spot_finder, monkeypatch):
    from napari_skinseg.finetuning import run

    monkeypatch.setattr(run, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    folder, options, cancel = clinic(6), replace(SHORT, passes=2, folds=2), threading.Event()
    stop = lambda event: (tmp_path / "run" / "checkpoint.pt").exists() and cancel.set()  # noqa: E731
    assert fine_tune(spot_finder, collect(folder), options, tmp_path / "run", stop, cancel).cancelled
    next((folder / "images").iterdir()).unlink()
    seen = []
    outcome = fine_tune(spot_finder, collect(folder), options, tmp_path / "run", seen.append)
    assert [event.message for event in seen if event.stage == "message"] == [
        "The unfinished run was of other photos or options; a new run starts."
    ]
    assert len(outcome.verdict.compared) == 5
    assert all(row.mask.is_file() for row in outcome.verdict.compared)


def test_a_killed_run_is_continued(tmp_path, clinic, spot_finder):
    folder = clinic(6)
    options = replace(SHORT, passes=6, folds=2)
    script = (
        "import sys; from napari_skinseg.finetuning import run; from napari_skinseg.finetuning.finetune import *\n"
        "from napari_skinseg.finetuning.evidence import collect\nrun.SECONDS_BETWEEN_CHECKPOINTS = 0\n"
        "tell = lambda event: print(event.stage, event.done, flush=True)\n"
        f"fine_tune({str(spot_finder)!r}, collect({str(folder)!r}), {options!r}, {str(tmp_path / 'killed')!r}, tell)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout:
            if line.startswith("train 9"):  # in the second fit
                run.send_signal(signal.SIGKILL)
                break
    assert (tmp_path / "killed" / "checkpoint.pt").exists()

    seen = []
    outcome = fine_tune(spot_finder, collect(folder), options, tmp_path / "killed", seen.append)
    assert "resumed" in [event.stage for event in seen]
    assert min(event.done for event in seen if event.stage == "train") > 6  # the first fit was not repeated
    assert len(outcome.verdict.compared) == 6
    assert not (tmp_path / "killed" / "checkpoint.pt").exists()


def test_cancel_stops_after_one_batch_and_keeps_the_base(tmp_path, clinic, spot_finder):
    import torch

    before = everything_in(spot_finder)
    cancel, steps = threading.Event(), []

    def stop(event):
        if event.stage == "train":
            steps.append(event.done)
            cancel.set()

    outcome = fine_tune(spot_finder, collect(clinic(8)), SHORT, tmp_path / "run", stop, cancel)
    assert outcome.cancelled
    assert outcome.candidate is None
    assert 1 <= len(steps) <= torch.get_num_threads()  # the fits run in as many threads, and each ends its step
    assert everything_in(spot_finder) == before


def test_on_a_cpu_the_fits_run_at_the_same_time(tmp_path, clinic, spot_finder):
    import torch

    threads, where = torch.get_num_threads(), set()

    def note(event):
        if event.stage == "train":
            where.add((threading.current_thread().name, torch.get_num_threads()))

    options = replace(SHORT, passes=2, folds=2, device="cpu")  # three fits
    fine_tune(spot_finder, collect(clinic(6)), options, tmp_path / "run", note)
    at_once = min(3, threads)
    assert {count for _, count in where} == {threads // at_once}
    assert len(where) == at_once
    assert torch.get_num_threads() == threads


def test_while_the_user_works_one_core_is_left_free(tmp_path, clinic, spot_finder):
    import torch

    steps = []

    def note(event):
        if event.stage == "train":
            steps.append(threading.current_thread().name)

    options = replace(SHORT, passes=6, folds=2, device="cpu")  # three fits
    outcome = fine_tune(spot_finder, collect(clinic(6)), options, tmp_path / "run", note, user_is_active=lambda: True)
    assert outcome.candidate is not None
    at_once, free = min(3, torch.get_num_threads()), max(1, torch.get_num_threads() - 1)
    assert len(set(steps)) == at_once
    if free == 1:  # a fit that starts beside another makes one step, and then waits until the other has ended
        assert sum(one != other for one, other in itertools.pairwise(steps)) <= 6


def test_a_fit_that_waits_for_the_user_is_cancelled_at_once(tmp_path, clinic, spot_finder):
    import torch

    cancel, steps = threading.Event(), []

    def stop_later(event):
        if event.stage == "train":
            steps.append(event.done)
            if len(steps) == 5:
                cancel.set()

    outcome = fine_tune(spot_finder, collect(clinic(6)), SHORT, tmp_path / "run", stop_later, cancel, lambda: True)
    assert outcome.cancelled
    assert len(steps) <= 5 + torch.get_num_threads()  # each fit that does not wait ends its step


def test_a_fit_that_fails_stops_the_others(tmp_path, clinic, spot_finder):
    shares = []

    def fail(event):
        if event.stage == "train":
            shares.append(event.done / event.total)
            if len(shares) == 1:
                raise BadInput("The log cannot be written.")

    with pytest.raises(BadInput, match="log cannot be written"):
        fine_tune(spot_finder, collect(clinic(6)), replace(SHORT, passes=40), tmp_path / "run", fail)
    assert max(shares) < 0.5


def test_a_discarded_run_leaves_only_its_logs(tmp_path, clinic, spot_finder):
    outcome = fine_tune(spot_finder, collect(clinic(4)), replace(SHORT, passes=1), tmp_path / "run")
    discard(outcome.folder)
    assert sorted(path.name for path in outcome.folder.iterdir()) == [
        "curve.png",
        "log.csv",
        "log.json",
        "verdict.json",
    ]


@pytest.mark.slow
def test_an_outcome_is_undecided_until_its_candidate_is_adopted_or_discarded(clinic, spot_finder):
    source, once = clinic(4), replace(SHORT, passes=1)
    assert find_undecided(source) is None
    first = fine_tune(spot_finder, collect(source), once, choose_run_folder(source))
    assert find_undecided(source) == first
    discard(first.folder)
    assert find_undecided(source) is None
    time.sleep(1.1)  # runs are named after the second in which they began
    second = fine_tune(spot_finder, collect(source), once, choose_run_folder(source))
    assert find_undecided(source) == second
    adopt(second.candidate)
    assert find_undecided(source) is None


def test_other_models_in_the_folder_of_a_run_are_kept(tmp_path, clinic, spot_finder):
    other = bundle.save(tmp_path / "run" / "other", bundle.read_spec(spot_finder), bundle.load(spot_finder).network)
    before = everything_in(other)
    outcome = fine_tune(spot_finder, collect(clinic(4)), replace(SHORT, passes=1), tmp_path / "run")
    discard(outcome.folder)
    assert not outcome.candidate.exists()
    assert everything_in(other) == before
    (tmp_path / "models0").mkdir()
    with pytest.raises(BadInput, match="exists and does not belong to a run"):
        fine_tune(spot_finder, collect(tmp_path / "clinic"), replace(SHORT, name="models0"), tmp_path)


def test_three_cases_match_the_border_but_train_no_weights(tmp_path, clinic, spot_finder):
    evidence = collect(clinic(3))
    assert "too few" in evidence.describe(SHORT)
    with pytest.raises(BadInput, match="Correct at least 3 to match the border, and 4 to fine-tune"):
        fine_tune(spot_finder, evidence, SHORT, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    outcome = fine_tune(spot_finder, evidence, replace(SHORT, border_only=True), tmp_path / "run")
    assert outcome.candidate.name == "spot-finder-border"
    assert outcome.verdict.better, outcome.verdict.sentence
    assert outcome.verdict.sentence.startswith("Your border is wider than that of the model: Dice 0.")
    assert outcome.border.border[1] > 0.04 or outcome.border.border[0] < 0.5
    with pytest.raises(BadInput, match="1 corrected photo of 1 lesion cannot"):
        fine_tune(spot_finder, collect(clinic(1, name="one")), replace(SHORT, border_only=True), tmp_path / "one")


@pytest.mark.slow
def test_many_cases_have_one_held_out_part(tmp_path, clinic, spot_finder):
    evidence = collect(clinic(64))
    parts = evidence.split_folds(4, 0)
    assert [len(part) for part in parts] == [16]
    outcome = fine_tune(spot_finder, evidence, replace(SHORT, passes=1), tmp_path / "run")
    assert outcome.verdict.base.cases == 16
    assert bundle.load(outcome.candidate).spec.name == "spot-finder-tuned"


@given(
    groups=st.lists(st.integers(0, 12), min_size=4, max_size=59),
    accepted=st.integers(0, 59),
    folds=st.integers(2, 8),
    seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_photos_of_one_lesion_are_in_one_fold(groups, accepted, folds, seed):
    cases = tuple(Case(str(n), Path(f"{n}.png"), Path("m.png"), group=str(g)) for n, g in enumerate(groups))
    accepted = min(accepted, len(cases))
    evidence = Evidence(cases[accepted:], cases[:accepted])
    parts = evidence.split_folds(folds, seed)
    if len(set(groups)) < 2:
        assert parts == []
        return
    assert sorted(number for part in parts for number in part) == list(range(len(cases)))
    assert all(parts)
    lesions = [{evidence.cases[number].group for number in part} for part in parts]
    assert sum(len(found) for found in lesions) == len(set(groups))


def test_photos_of_different_sizes_train_one_model(tmp_path, clinic, spot_finder, spot):
    folder = clinic(3)
    for name, shape in (("small", (150, 200)), ("large", (2400, 3200))):
        image, mask = spot(shape[0] / 2, shape[1] / 2, shape[0] / 5, shape)
        Image.fromarray(image).save(folder / "images" / f"{name}.jpg")
        write_mask(folder / "masks" / f"{name}_segmentation.png", mask)
    outcome = fine_tune(spot_finder, collect(folder), replace(SHORT, passes=1), tmp_path / "run")
    assert outcome.verdict.base.cases == 5


def test_a_project_gives_its_corrected_and_accepted_photos(tmp_path, clinic):
    folder = clinic(5)
    with Project.open(tmp_path / "project", create=True) as project:
        project.scan(folder / "images")
        photos = project.photos()
        mask = np.zeros((96, 128), dtype=bool)
        mask[30:60, 40:80] = True
        project.accept(photos[0].id, mask)
        project.set_prediction(photos[1].id, mask, model="m", model_version="1", confidence=0.9)
        project.accept(photos[1].id)
        project.save_mask(photos[2].id, mask)  # not finished
    evidence = collect(tmp_path / "project")
    assert [case.id for case in evidence.corrected] == [photos[0].id]
    assert [case.id for case in evidence.accepted] == [photos[1].id]


def test_a_folder_without_masks_is_refused(clinic):
    folder = clinic(2)
    for mask in (folder / "masks").iterdir():
        mask.unlink()
    with pytest.raises(BadInput, match="holds no photo with a mask"):
        collect(folder)


def test_a_project_without_corrections_is_refused(tmp_path, clinic):
    with Project.open(tmp_path / "project", create=True) as project:
        project.scan(clinic(2) / "images")
    with pytest.raises(BadInput, match="no corrected photo yet"):
        collect(tmp_path / "project")


@pytest.mark.parametrize(("value", "sentence"), [(False, "masks of .* are empty"), (True, "covers the whole photo")])
def test_masks_that_are_all_empty_or_all_full_are_refused(clinic, value, sentence):
    folder = clinic(3)
    for mask in (folder / "masks").iterdir():
        write_mask(mask, np.full((96, 128), value))
    with pytest.raises(BadInput, match=sentence):
        collect(folder)


def test_a_deleted_photo_is_left_out_and_named(tmp_path, clinic):
    folder = clinic(4)
    with Project.open(tmp_path / "project", create=True) as project:
        project.scan(folder / "images")
        for photo in project.photos():
            mask = np.zeros((96, 128), dtype=bool)
            mask[30:60, 40:80] = True
            project.accept(photo.id, mask)
    (folder / "images" / "02.png").unlink()
    evidence = collect(tmp_path / "project")
    assert len(evidence.corrected) == 3
    ((path, sentence),) = evidence.left_out
    assert path.name == "02.png"
    assert "does not exist any more" in sentence


def test_a_loss_that_is_not_finite_stops_with_a_message(tmp_path, clinic, spot_finder):
    import torch

    model = bundle.load(spot_finder)
    for parameter in model.network.parameters():
        torch.nn.init.constant_(parameter, 6e4)
    wild = bundle.save(tmp_path / "wild", replace(model.spec, name="wild"), model.network, presence=model.presence)
    before = everything_in(wild)
    with pytest.raises(BadInput, match="no longer a number"):
        fine_tune(wild, collect(clinic(4)), SHORT, tmp_path / "run")
    assert everything_in(wild) == before
    assert not list((tmp_path / "run").glob("*/configs"))


def test_when_memory_runs_out_the_batch_is_halved_with_a_message(tmp_path, clinic, spot_finder):
    import torch

    from napari_skinseg.events import NeverCancelled
    from napari_skinseg.finetuning.run import FineTuningRun

    def little_memory(layer, inputs):
        if layer.training and len(inputs[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    said = []
    options = replace(SHORT, passes=1, name="tuned", folds=2)
    run = FineTuningRun(
        store.find(spot_finder),
        collect(clinic(8)),
        options,
        tmp_path / "run",
        said.append,
        NeverCancelled(),
        lambda: False,
    )
    (tmp_path / "run").mkdir()
    run.base.network.register_forward_pre_hook(little_memory)
    outcome = run.run()
    assert outcome.verdict is not None
    # The fit on all eight photos and those on four start at the same time; each size is reported once.
    messages = [event.message for event in said if event.stage == "message"]
    sizes = [int(message.removeprefix("Memory ran out; continuing with ").split()[0]) for message in messages]
    assert sizes in ([2], [4, 2])


def test_the_next_run_uses_the_folder_of_an_unfinished_run(tmp_path):
    first = choose_run_folder(tmp_path / "project")
    first.mkdir(parents=True)
    (first / "checkpoint.pt").write_bytes(b"")
    time.sleep(1.1)
    assert choose_run_folder(tmp_path / "project") == first
    (first / "checkpoint.pt").unlink()
    assert choose_run_folder(tmp_path / "project") != first


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (FineTuneOptions(name="No Spaces"), "name"),
        (FineTuneOptions(passes=0), "passes"),
        (FineTuneOptions(learning_rate=2), "learning_rate"),
        (FineTuneOptions(batch_size=0), "batch_size"),
        (FineTuneOptions(folds=1), "folds"),
    ],
)
def test_options_out_of_range_are_named(options, word):
    with pytest.raises(BadInput, match=word):
        options.validate()
