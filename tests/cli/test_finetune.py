"""`napari-skinseg finetune`, as a person types it."""

import json

import numpy as np
import pytest
from PIL import Image

from napari_skinseg.cli.main import main
from napari_skinseg.models import store
from napari_skinseg.pixels.mask import write_mask

QUICK = ("--passes", "1", "--folds", "2", "--quiet")


@pytest.fixture
def clinic(tmp_path, monkeypatch, spot, spot_finder):
    """A folder of eight photos whose masks are drawn five pixels too wide; the spot finder is the default model."""
    monkeypatch.setenv("NAPARI_SKINSEG_HOME", str(tmp_path / "home"))
    store.add(spot_finder)
    store.set_default("spot-finder")
    folder = tmp_path / "clinic"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(8):
        place, radius = (rng.uniform(35, 60), rng.uniform(40, 90)), rng.uniform(12, 20)
        Image.fromarray(spot(*place, radius, (96, 128))[0]).save(folder / f"{number}.png")
        write_mask(folder / f"{number}_segmentation.png", spot(*place, radius + 5, (96, 128))[1])
    return folder


def test_the_verdict_is_printed_and_a_better_model_adopted(clinic, capsys):
    assert main(["finetune", str(clinic), "--passes", "12", "--learning-rate", "0.003"]) == 0
    printed = capsys.readouterr()
    assert "Dice on 8 held-out photos" in printed.out
    assert "Your border is wider than that of the model: Dice 0." in printed.out
    assert "Compared with the base with your border: Dice 0." in printed.out
    assert "8 corrected, 0 accepted, judged in 4 parts" in printed.err
    assert store.default_name() in ("spot-finder-border", "spot-finder-tuned")
    assert "To go back: napari-skinseg models default spot-finder" in printed.out


def test_border_only_trains_nothing_and_adopts_the_border(clinic, capsys):
    assert main(["finetune", str(clinic), "--border-only"]) == 0
    printed = capsys.readouterr().out
    assert "Use it." in printed
    assert "Compared with" not in printed
    assert store.default_name() == "spot-finder-border"
    spec = store.find("spot-finder-border").spec
    assert spec.border[1] > 0.03 or spec.border[0] < 0.5
    assert main(["models", "default", "spot-finder"]) == 0
    assert store.default_name() == "spot-finder"


def test_never_adopts_nothing_and_prints_complete_json(clinic, capsys):
    assert main(["finetune", str(clinic), *QUICK, "--adopt", "never", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["adopted"] is None
    assert len(document["compared"]) == 8
    assert store.default_name() == "spot-finder"


def test_always_adopts_a_model_that_is_not_better(clinic, capsys):
    assert main(["finetune", str(clinic), *QUICK, "--adopt", "always", "--name", "mine"]) == 0
    assert store.default_name() == "mine"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--base", "nobody"], "There is no model"),
        (["--passes", "0"], "passes is 0"),
        (["--name", "Not A Name"], "no model name"),
    ],
)
def test_bad_input_gives_one_sentence_and_exit_code_2(clinic, capsys, arguments, sentence):
    assert main(["finetune", str(clinic), *arguments]) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert "Traceback" not in printed


def test_a_folder_without_masks_is_named(clinic, capsys):
    for mask in clinic.glob("*_segmentation.png"):
        mask.unlink()
    assert main(["finetune", str(clinic)]) == 2
    assert "holds no photo with a mask" in capsys.readouterr().err
