"""`napari-skinseg demo`."""

import json


def test_demo_measures_four_phantoms_and_prints_their_dice(run, spot_finder, tmp_path):
    out = tmp_path / "demo"
    code, text, _ = run("demo", "--out", out, "--model", spot_finder)
    assert code == 0
    assert "Measurement only, not a diagnosis" in text
    assert "Dice" in text
    assert len(list(out.glob("*_segmentation.png"))) == len(list(out.glob("*_overlay.jpg"))) == 4
    assert (out / "measurements.csv").exists()


def test_demo_can_be_repeated_with_the_photos_of_a_user(run, photos, spot_finder, tmp_path):
    arguments = ("demo", "--images", tmp_path / "photos", "--out", tmp_path / "demo", "--model", spot_finder, "--json")
    for _ in range(2):
        code, text, _ = run(*arguments)
        document = json.loads(text)
        assert code == 0
        assert [entry["kept"] for entry in document["done"]] == [False] * 3
