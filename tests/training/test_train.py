import csv
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from napari_skinseg.datasets.dataset import find_cases
from napari_skinseg.errors import BadInput
from napari_skinseg.events import Event
from napari_skinseg.models.bundle import CARD, load, read_spec
from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.pixels.mask import read_mask, write_mask
from napari_skinseg.segmentation.segmenter import Segmenter
from napari_skinseg.training.options import TrainOptions
from napari_skinseg.training.sampling import sample_photos
from napari_skinseg.training.train import train

OPTIONS = TrainOptions(
    name="tiny", input_height=128, input_width=128, passes=2, batch_size=4, small_first=0.5, learning_rate=3e-3, ema=0.5
)


pytestmark = pytest.mark.usefixtures("short_presence_training")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    for seed in range(12):
        made = phantom(seed, shape=(96, 128))
        Image.fromarray(made.image).save(folder / f"p{seed:02}.png")
        write_mask(folder / f"p{seed:02}_segmentation.png", made.mask)
    return find_cases(folder)


@pytest.fixture(scope="module")
def finished(cases, tmp_path_factory):
    """A whole run: its outcome, its folder and its events."""
    out = tmp_path_factory.mktemp("run")
    events: list[Event] = []
    return train(cases[:8], cases[8:], OPTIONS, out, events.append), out, events


def test_a_run_leaves_a_model_that_segments(finished, cases):
    outcome, _, _ = finished
    assert outcome.passes == 2
    assert not outcome.cancelled
    segmentation = Segmenter(outcome.model).segment(np.asarray(Image.open(cases[0].image)))
    assert segmentation.mask.shape == (96, 128)
    assert segmentation.model == "tiny"


def test_the_model_records_its_training_and_its_results(finished):
    spec = read_spec(finished[0].model)
    assert "8 to train, 4 to validate" in spec.provenance["photos"]
    assert "'passes': 2" in spec.provenance["options"]
    assert 0 <= spec.metrics["validation Dice"] <= 1
    assert spec.provenance["options"] in (finished[0].model / CARD).read_text(encoding="utf-8")


def test_passes_start_at_half_size_then_three_quarters(finished):
    with (finished[1] / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["pass"], row["height"]) for row in rows] == [("1", "64"), ("2", "96")]
    assert OPTIONS.size_of(1) == (96, 96)
    assert replace(OPTIONS, small_first=0).size_of(0) == (128, 128)


def test_every_step_and_every_pass_is_reported(finished):
    events = finished[2]
    assert [event.done for event in events if event.stage == "train"] == [1, 2, 3, 4]
    assert [event.done for event in events if event.stage == "validated"] == [1, 2]
    assert all(np.isfinite(event.values["loss"]) for event in events if event.stage == "train")


@pytest.mark.slow
def test_a_cancelled_run_stops_after_the_step_and_can_be_resumed(cases, tmp_path):
    cancel = threading.Event()
    steps = []

    def stop_in_the_second_pass(event: Event) -> None:
        if event.stage == "train":
            steps.append(event.done)
            if event.done == 3:
                cancel.set()

    first = train(cases[:8], cases[8:], OPTIONS, tmp_path, stop_in_the_second_pass, cancel)
    assert first.cancelled
    assert steps[-1] == 3
    assert first.passes == 1
    kept = load(first.model).sha256
    assert read_spec(first.model).input_size == OPTIONS.size_of(0)

    seen: list[Event] = []
    second = train(cases[:8], cases[8:], OPTIONS, tmp_path, seen.append)
    assert not second.cancelled
    assert second.passes == 2
    assert [event.done for event in seen if event.stage == "train"] == [3, 4]
    assert second.best_dice >= first.best_dice
    assert second.best_dice > first.best_dice or load(second.model).sha256 == kept


@pytest.mark.slow
def test_a_resumed_run_sees_the_same_photos_as_an_uninterrupted_one(finished, cases, tmp_path):
    def losses(events: list[Event]) -> list[float]:
        return [event.values["loss"] for event in events if event.stage == "train"]

    cancel = threading.Event()
    train(cases[:8], cases[8:], OPTIONS, tmp_path, lambda event: event.stage == "validated" and cancel.set(), cancel)
    rest: list[Event] = []
    train(cases[:8], cases[8:], OPTIONS, tmp_path, rest.append)
    # bfloat16 and threads change the last digits; another order of photos changes much more.
    np.testing.assert_allclose(losses(rest), losses(finished[2])[2:], rtol=0.02)


def test_a_folder_with_another_run_is_not_overwritten(finished, cases):
    with pytest.raises(BadInput, match="holds a run with other options or photos; choose another folder"):
        train(cases[:8], cases[8:], replace(OPTIONS, seed=1), finished[1])


def test_a_checkpoint_without_a_new_option_is_continued(finished, cases, tmp_path):
    shutil.copytree(finished[1], tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    del state["identity"]["loss"]
    torch.save(state, tmp_path / "run" / "checkpoint.pt")
    assert train(cases[:8], cases[8:], OPTIONS, tmp_path / "run").passes == 2
    with pytest.raises(BadInput, match="other options"):
        train(cases[:8], cases[8:], replace(OPTIONS, loss="dice_focal"), tmp_path / "run")


@pytest.mark.slow
def test_a_run_with_another_mask_or_photo_is_not_continued(finished, cases, tmp_path):
    shutil.copytree(finished[1], tmp_path / "run")
    edited = tmp_path / "edited_segmentation.png"
    write_mask(edited, np.roll(read_mask(cases[0].mask), 3, axis=0))
    for changed in (replace(cases[0], mask=edited), replace(cases[0], id="other")):
        with pytest.raises(BadInput, match="other options or photos"):
            train([changed, *cases[1:8]], cases[8:], OPTIONS, tmp_path / "run")
        with pytest.raises(BadInput, match="other options or photos"):
            train(cases[:8], [changed, *cases[9:]], OPTIONS, tmp_path / "run")
    assert train(cases[:8], cases[8:], OPTIONS, tmp_path / "run").passes == 2


@pytest.mark.slow
def test_a_checkpoint_that_holds_only_counts_is_continued(finished, cases, tmp_path):
    shutil.copytree(finished[1], tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    del state["identity"]["photos"]
    torch.save(state, tmp_path / "run" / "checkpoint.pt")
    assert train(cases[:8], cases[8:], OPTIONS, tmp_path / "run").passes == 2
    with pytest.raises(BadInput, match="other options or photos"):
        train(cases[:7], cases[8:], OPTIONS, tmp_path / "run")


def test_a_damaged_checkpoint_is_named(finished, cases, tmp_path):
    shutil.copytree(finished[1], tmp_path / "run")
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(BadInput, match=r"checkpoint\.pt is damaged; delete it to start again"):
        train(cases[:8], cases[8:], OPTIONS, tmp_path / "run")


def test_an_infinite_loss_stops_with_a_message(cases, tmp_path):
    with pytest.raises(BadInput, match="loss is no longer a number"):
        train(cases[:8], cases[8:], replace(OPTIONS, learning_rate=1e30, passes=6), tmp_path)


def test_photos_without_masks_are_refused(cases, tmp_path):
    bare = [replace(case, mask=None) for case in cases]
    with pytest.raises(BadInput, match="no photo with a mask to train on"):
        train(bare, cases, OPTIONS, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"passes": 0},
        {"batch_size": 0},
        {"learning_rate": -1.0},
        {"artefacts": 1.5},
        {"loss": "boundary"},
        {"encoder": "resnet99"},
        {"encoder": "efficientnet-lite2"},  # the network is a UNet
        {"small_first": 0.7},
        {"small": 1.5},
        {"workers": -1},
        {"input_width": 250},
    ],
)
def test_options_out_of_range_are_refused(change):
    with pytest.raises(BadInput, match=next(iter(change))):
        replace(OPTIONS, **change).validate()


def test_augmentation_is_the_same_for_the_same_seed(cases):
    from napari_skinseg.training.augment import Read, training_transform

    sample = Read((64, 64))(cases[0])
    views = []
    for _ in range(2):
        transform = training_transform((64, 64), artefacts=1.0)
        transform.set_random_state(seed=5)
        views.append([transform(sample)["image"].numpy() for _ in range(4)])
    np.testing.assert_array_equal(views[0], views[1])
    assert not np.array_equal(views[0][0], views[0][1])


@pytest.mark.slow
def test_a_training_can_start_from_a_model(finished, cases, tmp_path):
    options = replace(OPTIONS, passes=1, small_first=0, start=str(finished[0].model), learning_rate=1e-9)
    outcome = train(cases[:8], cases[8:], options, tmp_path)
    before, after = (load(model).network.state_dict() for model in (finished[0].model, outcome.model))
    assert all(np.allclose(before[name], after[name], atol=1e-3) for name in before)


def test_a_start_of_another_network_is_refused(finished, cases, tmp_path):
    with pytest.raises(BadInput, match="is a UNet, not a SegResNet"):
        train(cases[:8], cases[8:], replace(OPTIONS, network="SegResNet", start=str(finished[0].model)), tmp_path)


def test_a_start_with_another_encoder_is_refused(cases, tmp_path):
    options = replace(OPTIONS, network="FlexibleUNet", encoder="efficientnet-lite2", start="lesion-unet")
    with pytest.raises(BadInput, match="lesion-unet does not have the encoder efficientnet-lite2"):
        train(cases[:8], cases[8:], options, tmp_path)


def test_plain_skin_shows_no_lesion(cases):
    from napari_skinseg.training.augment import RandomPlainSkin, Read

    samples = [Read((96, 128))(case) for case in cases]
    never, always = RandomPlainSkin(0.0), RandomPlainSkin(1.0)
    always.set_random_state(0)
    assert all(never(sample)["mask"].sum() == sample["mask"].sum() for sample in samples)
    bare = [always(sample) for sample in samples if sample["mask"].mean() < 0.15]
    assert bare
    assert not any(sample["mask"].any() for sample in bare)
    assert all(sample["image"].shape == samples[0]["image"].shape for sample in bare)


def test_a_share_of_each_batch_gets_clicks_on_the_lesion(cases):
    import torch

    from napari_skinseg.device import choose_device
    from napari_skinseg.models.network import build
    from napari_skinseg.training.loop import TrainingLoop

    torch.manual_seed(0)
    loop = TrainingLoop(
        build("UNet", {"channels": [8, 16], "num_res_units": 0}), choose_device("cpu"), ((0.5,) * 3, (0.2,) * 3),
        steps_per_pass=1, passes=1, learning_rate=1e-3, weight_decay=0, ema=0.9, clicks=0.5, seed=0,
        on_step=lambda step, loss: None,
    )  # fmt: skip
    truth = torch.zeros(40, 1, 64, 64)
    truth[:, :, 20:44, 20:44] = 1
    sizes = []
    loop.network.register_forward_pre_hook(lambda network, inputs: sizes.append(len(inputs[0])))
    channels = loop._click_channels(torch.randn(40, 3, 64, 64), truth)
    assert sizes == [20]  # a GPU needs seconds to prepare for each new number of photos
    clicked = channels[:, 1:].amax(dim=(1, 2, 3)) > 0
    assert 10 <= int(clicked.sum()) <= 30
    assert not channels[~clicked].any()
    included = channels[clicked, 1].bool()
    # A click's disc reaches five pixels beyond the lesion at most, so an include click is on it.
    wide = torch.zeros(64, 64, dtype=torch.bool)
    wide[15:49, 15:49] = True
    assert not (included & ~wide).any()


@pytest.mark.slow
def test_two_processes_train_one_model(cases, tmp_path):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "napari_skinseg",
        "train", str(cases[0].image.parent), "--validation", str(cases[0].image.parent), "--out", str(tmp_path),
        "--name", "together", "--passes", "2", "--batch-size", "2", "--input-height", "64", "--input-width", "64",
        "--small-first", "0", "--device", "cpu",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation Dice") == 1  # only one process prints
    with (tmp_path / "log.csv").open(newline="") as file:
        assert [row["pass"] for row in csv.DictReader(file)] == ["1", "2"]
    assert "12 to train" in read_spec(tmp_path / "together").provenance["photos"]


@pytest.mark.slow
def test_a_training_from_imagenet_is_recorded_in_the_model(cases, tmp_path):
    options = replace(OPTIONS, network="FlexibleUNet", encoder="efficientnet-lite2", start="imagenet", passes=1)
    outcome = train(cases, cases[:2], options, tmp_path)
    spec = load(outcome.model).spec
    assert spec.network == "FlexibleUNet"
    assert spec.network_arguments == {"backbone": "efficientnet-lite2"}
    assert "'start': 'imagenet'" in spec.provenance["options"]
    assert spec.mean == (127 / 255,) * 3


@given(
    st.lists(st.sampled_from(["nv", "mel", "df", ""]), min_size=1, max_size=60),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_a_pass_shows_rare_diagnoses_at_least_as_often_as_they_occur(diagnoses, balance, seed):
    chosen = sample_photos(diagnoses, balance, seed)
    assert len(chosen) == len(diagnoses)
    assert all(0 <= number < len(diagnoses) for number in chosen)
    assert balance > 0 or chosen == list(range(len(diagnoses)))
    rarest = min(set(diagnoses), key=diagnoses.count)
    assert sum(diagnoses[number] == rarest for number in chosen) >= diagnoses.count(rarest) - 1


def test_full_balance_shows_each_diagnosis_equally_often():
    diagnoses = ["nv"] * 90 + ["df"] * 10
    shown = [diagnoses[number] for number in sample_photos(diagnoses, 1.0, 0)]
    assert (shown.count("nv"), shown.count("df")) == (50, 50)


def test_small_lesions_are_shown_up_to_three_times_as_often():
    areas = [0.3] * 40 + [0.05] * 20 + [0.01] * 20 + [0.0] * 20  # the last ones show no lesion
    shown = sample_photos([""] * 100, 0.0, 0, areas, small=1.0)
    often = np.bincount(shown, minlength=100)
    large, half, tiny, none = (often[part].mean() for part in np.split(np.arange(100), [40, 60, 80]))
    assert len(shown) == 100
    assert half / large == pytest.approx(2, abs=0.15)
    assert tiny / large == pytest.approx(3, abs=0.2)
    assert none / large == pytest.approx(1, abs=0.1)
    assert sample_photos([""] * 100, 0.0, 0, areas, small=0.0) == list(range(100))


@pytest.mark.slow
def test_a_training_can_show_small_lesions_more_often(cases, tmp_path):
    outcome = train(cases[:8], cases[8:], replace(OPTIONS, small=0.7, passes=1), tmp_path)
    assert "'small': 0.7" in read_spec(outcome.model).provenance["options"]
