"""The store of models: new models are checked, and existing models stay unchanged."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from napari_skinseg.errors import BadInput
from napari_skinseg.models import bundle, network, onnx_file, store
from napari_skinseg.models.bundle import ModelSpec

TINY = ModelSpec("tiny", "UNet", {"channels": [2, 4], "num_res_units": 0}, (32, 32), (0.5,) * 3, (0.25,) * 3)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A separate store for each test."""
    monkeypatch.setenv("NAPARI_SKINSEG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def tiny(tmp_path) -> Path:
    """The folder of a sound model that is not in the store."""
    return bundle.save(tmp_path / "somewhere" / "tiny", TINY, network.build(TINY.network, TINY.network_arguments))


def names(origin="user"):
    return [model.name for model in store.list_models() if model.origin == origin]


def unchanged(path: str, content: bytes):
    return path, content


def repacked(source: Path, target: Path, change=unchanged, extra: tuple[str, ...] = ()) -> Path:
    """Write a zip of the model in `source`: its entries as `change` gives them, and some more of the names `extra`."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in (bundle.METADATA, bundle.WEIGHTS, bundle.CARD):
            archive.writestr(*change(f"tiny/{file.as_posix()}", (source / file).read_bytes()))
        for path in extra:
            archive.writestr(path, b"evil")
    return target


def test_an_added_folder_is_listed_found_and_loaded_by_its_name(tiny):
    added = store.add(tiny)
    assert added.origin == "user"
    assert names() == ["tiny"]
    assert store.find("tiny") == added
    assert store.load_model("tiny").sha256 == bundle.load(tiny).sha256


def test_an_exported_model_can_be_added_unchanged(tiny, tmp_path):
    store.add(tiny)
    packed = store.export("tiny", tmp_path / "out" / "tiny.zip")
    store.remove("tiny")
    assert names() == []
    back = store.add(packed)
    assert replace(back.spec, provenance={}) == TINY
    assert (back.folder / bundle.WEIGHTS).read_bytes() == (tiny / bundle.WEIGHTS).read_bytes()
    assert (back.folder / bundle.CARD).read_bytes() == (tiny / bundle.CARD).read_bytes()


def test_exporting_twice_gives_the_same_bytes(tiny, tmp_path):
    first = store.export(tiny, tmp_path / "a.zip").read_bytes()
    os.utime(tiny / bundle.WEIGHTS, (1_000_000_000, 1_000_000_000))
    assert store.export(tiny, tmp_path / "b.zip").read_bytes() == first


def test_exporting_into_a_folder_names_the_zip_after_the_model(tiny, tmp_path):
    (tmp_path / "out").mkdir()
    assert store.export(tiny, tmp_path / "out") == tmp_path / "out" / "tiny.zip"


def test_a_zip_without_an_outer_folder_can_be_added(tiny, tmp_path):
    flat = repacked(tiny, tmp_path / "flat.zip", lambda path, content: (path.removeprefix("tiny/"), content))
    assert store.add(flat).name == "tiny"


def test_a_new_name_is_written_into_the_model(tiny):
    added = store.add(tiny, name="mine-2")
    assert added.name == added.spec.name == bundle.read_spec(added.folder).name == "mine-2"


def test_a_used_name_raises_and_the_existing_model_stays(tiny):
    before = store.add(tiny)
    stamp = (before.folder / bundle.WEIGHTS).stat().st_mtime_ns
    with pytest.raises(BadInput, match="exists already"):
        store.add(tiny)
    assert (before.folder / bundle.WEIGHTS).stat().st_mtime_ns == stamp
    assert store.add(tiny, name="other").name == "other"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../up", "a/b", "a\\b", "C:", "Größe", "UPPER", "con", "nul.txt", "a.", "x" * 65]
)
def test_a_name_that_is_not_a_folder_name_everywhere_raises(tiny, name):
    with pytest.raises(BadInput, match="is not a valid model name"):
        store.add(tiny, name=name)
    assert names() == []


@pytest.mark.parametrize(
    "path", ["/etc/evil", "../evil", "tiny/../../evil", "C:/evil", "c:evil", "tiny\\..\\..\\evil", "//host/share/evil"]
)
def test_an_archive_with_an_outside_path_raises(tiny, tmp_path, path):
    bad = repacked(tiny, tmp_path / "bad.zip", extra=(path,))
    with pytest.raises(BadInput, match="leads outside"):
        store.add(bad)
    assert names() == []
    assert not list(tmp_path.rglob("evil"))


def test_an_archive_with_a_link_raises(tiny, tmp_path):
    def link(path, content):
        entry = zipfile.ZipInfo(path)
        entry.external_attr = 0o120777 << 16
        return (entry, b"/etc/passwd") if path.endswith(".md") else (path, content)

    with pytest.raises(BadInput, match="contains a link"):
        store.add(repacked(tiny, tmp_path / "link.zip", link))


@pytest.mark.skipif(not hasattr(os, "symlink") or sys.platform == "win32", reason="links need rights on Windows")
def test_a_folder_with_a_link_raises(tiny):
    (tiny / bundle.CARD).unlink()
    (tiny / bundle.CARD).symlink_to("/etc/passwd")
    with pytest.raises(BadInput, match="is a link"):
        store.add(tiny)


def test_a_zip_that_unpacks_to_a_huge_file_raises(tiny, tmp_path):
    def inflate(path, content):
        return path, b"{" * 50_000_000 if path.endswith(".json") else content

    bomb = repacked(tiny, tmp_path / "bomb.zip", inflate)
    assert bomb.stat().st_size < 200_000
    with pytest.raises(BadInput, match=r"metadata\.json\) is larger"):
        store.add(bomb)
    assert not list((tmp_path / "home").rglob("*.json"))


def test_only_the_files_of_a_model_are_extracted(tiny, tmp_path):
    extra = repacked(tiny, tmp_path / "extra.zip", extra=("tiny/scripts/run.py", "tiny/models/model.pt"))
    folder = store.add(extra).folder
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert files - {onnx_file.ONNX} == {bundle.METADATA, bundle.WEIGHTS, bundle.CARD}  # the ONNX file is made here


@pytest.mark.parametrize("length", [0, 10, 1000, -100])
def test_a_truncated_zip_raises(tiny, tmp_path, length):
    whole = store.export(tiny, tmp_path / "whole.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:length])
    with pytest.raises(BadInput, match="not a complete zip"):
        store.add(tmp_path / "cut.zip")


def test_a_zip_with_one_changed_byte_raises(tiny, tmp_path):
    content = bytearray(store.export(tiny, tmp_path / "whole.zip").read_bytes())
    content[content.index((tiny / bundle.WEIGHTS).read_bytes()) + 500] ^= 1
    (tmp_path / "flipped.zip").write_bytes(content)
    with pytest.raises(BadInput, match="not a complete zip"):
        store.add(tmp_path / "flipped.zip")


@pytest.mark.parametrize(("extra", "count"), [((), "no"), (("a/configs/metadata.json", "configs/metadata.json"), "2")])
def test_a_zip_without_exactly_one_model_raises(tiny, tmp_path, extra, count):
    odd = repacked(tiny, tmp_path / "odd.zip", lambda path, content: (f"much/deeper/{path}", content), extra)
    with pytest.raises(BadInput, match=f"contains {count} models"):
        store.add(odd)


def test_a_model_with_damaged_weights_is_not_added(tiny, home):
    (tiny / bundle.WEIGHTS).write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(BadInput, match="safetensors"):
        store.add(tiny)
    assert list((home / "models").iterdir()) == []


def test_a_missing_path_raises(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        store.add(tmp_path / "nothing")


def test_a_model_without_a_card_gets_a_card(tiny):
    (tiny / bundle.CARD).unlink()
    assert (store.add(tiny).folder / bundle.CARD).read_text().startswith("# tiny")


def test_a_damaged_model_is_listed_with_its_problem(tiny):
    store.add(tiny, name="good")
    broken = store.add(tiny, name="broken").folder
    (broken / bundle.METADATA).write_text("{")
    by_name = {model.name: model for model in store.list_models()}
    assert by_name["broken"].spec is None
    assert "JSON" in by_name["broken"].problem
    assert by_name["good"].problem is None
    with pytest.raises(BadInput, match="JSON"):
        store.find("broken")
    store.remove("broken")
    assert names() == ["good"]


def test_a_model_without_weights_is_listed_with_its_problem(tiny):
    (store.add(tiny).folder / bundle.WEIGHTS).unlink()
    (model,) = [model for model in store.list_models() if model.name == "tiny"]
    assert "has no weights" in model.problem


def test_a_model_is_found_by_the_path_of_its_folder(tiny):
    found = store.find(tiny)
    assert (found.name, found.folder, found.origin) == ("tiny", tiny, "folder")


def test_a_zip_must_be_added_before_use(tiny, tmp_path):
    packed = store.export(tiny, tmp_path / "tiny.zip")
    with pytest.raises(BadInput, match="models add"):
        store.find(packed)


def test_an_unknown_name_raises_with_the_known_names(tiny):
    store.add(tiny)
    with pytest.raises(BadInput, match=r"'tinny'; .*tiny"):
        store.find("tinny")


def test_the_chosen_default_is_used_until_it_is_removed(tiny):
    fallback = store.default_name()
    store.add(tiny, name="mine")
    store.set_default("mine")
    assert store.default_name() == "mine"
    assert store.load_model().spec.name == "mine"
    store.remove("mine")
    assert store.default_name() == fallback == store.BUNDLED_DEFAULT


def test_only_a_stored_model_can_be_the_default(tiny, home):
    for choice, why in [(str(tiny), "add it"), ("nothing", "no model")]:
        with pytest.raises(BadInput, match=why):
            store.set_default(choice)
    assert not (home / "settings.json").exists()


def test_damaged_settings_are_ignored(tiny, home):
    store.add(tiny, name="another")
    store.add(tiny, name="mine")
    (home / "settings.json").write_text("{broken")
    fallback = store.default_name()
    store.set_default("mine")
    assert store.default_name() == "mine" != fallback
    assert json.loads((home / "settings.json").read_text()) == {"default_model": "mine"}


def test_a_bundled_model_cannot_be_removed_or_replaced(tiny):
    bundled = names("bundled")
    if not bundled:
        pytest.skip("this tree holds no bundled weights")
    with pytest.raises(BadInput, match="comes with napari-skinseg"):
        store.remove(bundled[0])
    with pytest.raises(BadInput, match="exists already"):
        store.add(tiny, name=bundled[0])
    assert names("bundled") == bundled


def test_removing_an_unknown_model_raises():
    with pytest.raises(BadInput, match="no model 'ghost'"):
        store.remove("ghost")


def test_an_incompletely_added_model_is_not_listed(home):
    (home / "models" / ".adding-x").mkdir(parents=True)
    assert names() == []


def test_listing_needs_neither_torch_nor_a_writable_folder(tiny, home):
    store.add(tiny)
    code = (
        "import sys; from napari_skinseg.models.store import list_models, default_name;"
        "print([m.name for m in list_models() if m.origin == 'user'], default_name() != '');"
        "assert not {'torch', 'monai', 'safetensors'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split()[0] == "['tiny']"


def test_errors_name_the_file_that_the_user_gave(spot_finder, tmp_path):
    shutil.copytree(spot_finder, tmp_path / "given")
    (tmp_path / "given" / "models" / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(BadInput, match="given") as refused:
        store.add(tmp_path / "given")
    assert ".adding-" not in str(refused.value)
