"""The package as a whole: imports, wheel, manifest, layout and words."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import npe2
import pytest

import napari_skinseg

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "napari_skinseg"
INTERFACES = ["napari_skinseg"] + [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for folder in ("cli", "plugin")
    for path in sorted((PACKAGE / folder).rglob("*.py"))
    if path.stem != "__init__"
]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Iterator[tuple[zipfile.ZipFile, set[str]]]:
    """A wheel built from this source tree, and the names of all files of the package."""
    out = tmp_path_factory.mktemp("wheel")
    files = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    with zipfile.ZipFile(next(out.glob("*.whl"))) as archive:
        yield archive, files


def test_importing_plugin_and_command_line_does_not_import_torch_or_monai():
    # One process for all modules, to save time. The first assertion that fails names the module.
    program = "\n".join(
        ["import importlib, sys"]
        + [
            f"importlib.import_module({name!r}); assert not {{'torch', 'monai'}} & set(sys.modules), {name!r}"
            for name in INTERFACES
        ]
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_importing_the_widget_imports_no_slow_part_of_scipy_and_scikit_image():
    program = (
        "import sys, napari_skinseg.plugin.widget\n"
        "slow = {'scipy.ndimage', 'scipy.signal', 'skimage.measure._polygon', 'skimage.color.colorconv'}\n"
        "loaded = {*slow, 'pandas'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_short_commands_do_not_import_torch_or_monai():
    program = (
        "import sys; from napari_skinseg.cli.main import main\n"
        "for command in ('--help', '--version', 'segment --help', 'models list'):\n"
        "    assert main(command.split()) == 0\n"
        "    assert not {'torch', 'monai'} & set(sys.modules), command"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_onnx_runtime_reports_nothing_to_its_makers(tmp_path):
    """The wheels for Linux look up Microsoft's server when they are imported, and write the file .ses before."""
    code = "import napari_skinseg, onnxruntime, time; time.sleep(1)"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code], env=environment | {"TMPDIR": str(tmp_path)}, check=True)
    assert not list(tmp_path.iterdir())


def test_all_public_names_can_be_imported():
    assert napari_skinseg.__all__ == ["Segmenter", "evaluate", "fine_tune", "load_model", "measure", "train"]
    assert all(callable(getattr(napari_skinseg, name)) for name in napari_skinseg.__all__)
    with pytest.raises(AttributeError, match="diagnose"):
        napari_skinseg.diagnose  # noqa: B018


def test_version_is_that_of_pyproject():
    assert napari_skinseg.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_manifest_is_valid_and_its_commands_exist():
    manifest = npe2.PluginManifest.from_file(PACKAGE / "napari.yaml")
    manifest.validate_imports()
    titles = [command.title for command in manifest.contributions.commands]
    assert len(set(titles)) == len(titles)
    menus = manifest.contributions.menus
    assert [item.submenu for item in menus["napari/layers/segment"]] == ["napari-skinseg.menu"]
    actions = {item.command for item in menus["napari-skinseg.menu"]}
    assert actions == {
        command.id
        for command in manifest.contributions.commands
        if command.python_name.startswith(("napari_skinseg.plugin.commands:", "napari_skinseg.plugin.widget:"))
    }


def test_napari_finds_the_installed_plugin():
    found = npe2.PluginManifest.from_distribution("napari-skinseg")
    assert found.contributions.widgets


def test_wheel_contains_code_manifest_and_models_but_no_tests(wheel):
    archive, files = wheel
    names = set(archive.namelist())
    (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    assert files - names == set(), "every file of the package is in its wheel"
    assert {
        "napari_skinseg/napari.yaml",
        "napari_skinseg/py.typed",
        "napari_skinseg/weights/lesion-unet/configs/metadata.json",
        "napari_skinseg/weights/lesion-unet/models/model.safetensors",
        "napari_skinseg/weights/lesion-unet/docs/README.md",
        "napari_skinseg/weights/lesion-unet-cc0/models/model.safetensors",
    } <= names
    assert "Classifier: Framework :: napari" in metadata
    assert not [name for name in names if name.startswith("tests/") or "__pycache__" in name]


NO_MODULE = {
    "walk/test_walk": "the whole widget, in a window on the screen",
    "test_docs": "README and docs/",
    "test_gpu": "the whole engine on a CUDA GPU",
    "test_old_files": "files that earlier versions wrote",
    "test_package": "the package as a whole",
    "project/test_faults": "all modules of a project, on disks that fail",
    "batch/test_kills": "all modules of batch, in processes that are killed",
    "project/test_kills": "all modules of a project, in processes that are killed",
}
"""Files of tests without a module of that name, and what they test."""


def test_each_file_of_tests_has_a_module_of_that_name():
    modules = {path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py")}
    tests = {path.relative_to(ROOT / "tests").with_suffix("") for path in (ROOT / "tests").rglob("test_*.py")}
    without = {path for path in tests if path.with_name(path.name.removeprefix("test_")) not in modules}
    assert {path.as_posix() for path in without} == set(NO_MODULE)


def test_import_rules_cover_each_package_and_ignore_no_import():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    assert [contract["name"] for contract in contracts if "ignore_imports" in contract] == []
    names = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    names -= {"__init__", "__main__"}
    rules = {contract["name"]: contract for contract in contracts}
    layers = rules["Imports go down only; packages of one layer do not import each other"]["layers"]
    assert {name.strip() for layer in layers for name in layer.split("|")} == names
    without_napari = rules["Only plugin/ imports napari and Qt"]["source_modules"]
    assert {name.removeprefix("napari_skinseg.") for name in without_napari} == names - {"plugin"}


FORBIDDEN_WORDS = (
    "aloud", "desk", "door", "grave", "honest", "loudly", "outlook", "shutter", "swayed", "told", "verb", "walk"
)  # fmt: skip
"""Metaphors that once were names in src; `CONTRIBUTING.md` lists the words to use instead."""


def test_source_code_has_no_forbidden_words():
    # Parts of identifiers count as words: `review_door`, `ReviewDoor`. The function os.walk of Python is allowed.
    pattern = re.compile(rf"(?<![a-z])(?:{'|'.join(FORBIDDEN_WORDS)})(?:s|ed|ing)?(?![a-z])", re.IGNORECASE)
    lines = [
        f"{path.relative_to(PACKAGE).as_posix()}:{number}: write another word than {match[0]!r} in: {line.strip()}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        for text in [re.sub(r"(?<=[a-z])(?=[A-Z])", " ", line.replace("os.walk(", "").replace("_", " "))]
        if (match := pattern.search(text))
    ]
    assert lines == [], "\n" + "\n".join(lines)
