"""`napari-skinseg train`."""

import pytest


@pytest.mark.usefixtures("short_presence_training")
def test_train_writes_a_model_that_segment_can_use(run, labelled, photos, tmp_path):
    # The network and the input size of the bundled models, whose ONNX graph it gets.
    flags = ("--network", "FlexibleUNet", "--passes", 1, "--small-first", 0, "--batch-size", 2)
    code, text, messages = run("train", labelled, "--out", tmp_path / "run", *flags)
    assert code == 0, messages
    assert "1 pair of photo and mask, 1 usable" in messages
    assert (tmp_path / "run" / "splits.csv").exists()
    assert str(tmp_path / "run" / "my-model") in text
    model = tmp_path / "run" / "my-model"
    assert run("segment", min(photos), "--model", model, "--out", tmp_path / "out")[0] == 0
