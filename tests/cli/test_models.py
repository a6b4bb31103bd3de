"""`napari-skinseg models`."""

import json


def test_a_model_is_added_chosen_shared_and_removed(run, spot_finder, tmp_path):
    assert run("models", "add", spot_finder)[0] == 0
    assert run("models", "default", "spot-finder")[1].strip() == "spot-finder"
    code, listed, _ = run("models", "list", "--json")
    assert code == 0
    assert [model["name"] for model in json.loads(listed) if model["default"]] == ["spot-finder"]
    assert run("models", "export", "spot-finder", tmp_path / "shared.zip")[0] == 0
    assert run("models", "remove", "spot-finder")[0] == 0
    assert run("models", "info", "spot-finder")[0] == 2
    assert run("models", "add", tmp_path / "shared.zip", "--name", "again")[0] == 0
    assert "BSD-3-Clause" in run("models", "info", "again")[1]
