"""`napari-skinseg evaluate`."""

import json


def test_evaluate_prints_dice_and_writes_table_summary_and_report(run, labelled, spot_finder, tmp_path):
    code, text, _ = run("evaluate", labelled, "--model", spot_finder, "--out", tmp_path / "report")
    assert code == 0
    assert "Dice" in text
    assert {path.suffix for path in (tmp_path / "report").iterdir()} == {".csv", ".json", ".html"}
    code, text, _ = run("evaluate", labelled, "--model", spot_finder, "--json")
    assert json.loads(text)["summary"]["dice"]["mean"] > 0.9


def test_evaluate_compares_several_models_and_simulates_clicks(run, labelled, spot_finder):
    both = ("evaluate", labelled, "--models", spot_finder, spot_finder)
    code, text, messages = run(*both, "--clicks", 1, "--json")
    assert code == 0, messages
    document = json.loads(text)
    assert len(document["models"]) == 2
    assert document["differences"][0]["figures"]["dice"]["mean"] == 0
    assert all(len(one["clicks"]["nothing_centre"]["jaccard"]) == 2 for one in document["models"].values())
    code, _, messages = run(*both, "--model", spot_finder)
    assert code == 2
    assert "give one of them" in messages
