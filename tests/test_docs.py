"""The documentation is correct: every Python example runs, every link has a target."""

import re
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from napari_skinseg.datasets.dataset import find_cases
from napari_skinseg.datasets.splits import SplitOptions, divide, write_splits
from napari_skinseg.models import store
from napari_skinseg.pixels.mask import write_mask

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = {page: re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL) for page in PAGES}

REPLACEMENTS = {
    "lesion-unet": "spot-finder",
    "passes=12": "network='FlexibleUNet', passes=1, small_first=0, batch_size=2",
    "FineTuneOptions()": "FineTuneOptions(border_only=True)",
}
"""Text of an example, and the text that is run instead, so that it takes seconds."""


@pytest.fixture
def folder_of_examples(tmp_path, monkeypatch, spot, spot_finder) -> Path:
    """Current folder with all the files that the examples name."""
    monkeypatch.setenv("NAPARI_SKINSEG_HOME", str(tmp_path / "home"))
    store.add(spot_finder)
    store.set_default("spot-finder")
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "ham10000", "data/ham10000"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(9 if "ham10000" in folder else 2):
            image, mask = spot(40 + number, 60, 20 + number, (96, 128))
            Image.fromarray(image).save(tmp_path / folder / f"{number}.png")
            if "ham10000" in folder:
                write_mask(tmp_path / folder / f"{number}_segmentation.png", mask)
    for folder in (tmp_path, tmp_path / "data"):
        cases = divide(find_cases(folder / "ham10000"), SplitOptions(val=0.3, test=0.3))
        write_splits(folder / "splits.csv", cases)
    image, mask = spot(48, 64, 25, (96, 128))
    Image.fromarray(image).save(tmp_path / "mole.jpg")
    write_mask(tmp_path / "mole_segmentation.png", mask)
    return tmp_path


@pytest.mark.usefixtures("short_presence_training")
@pytest.mark.parametrize("page", [page for page in PAGES if EXAMPLES[page]], ids=lambda page: page.name)
def test_python_examples_of_a_page_run_in_order(page, folder_of_examples):
    names: dict[str, object] = {}
    for number, example in enumerate(EXAMPLES[page], start=1):
        for text, replacement in REPLACEMENTS.items():
            example = example.replace(text, replacement)
        exec(compile(example, f"{page.name}, example {number}", "exec"), names)


@pytest.mark.slow
def test_the_tutorial_trains_a_model_and_compares_it(tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("NAPARI_SKINSEG_HOME", str(tmp_path / "home"))
    notebook = nbformat.read(ROOT / "docs" / "tutorial.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "40 pairs of photo and mask, 40 usable" in printed
    assert "tutorial 0.1.0 minus lesion-unet" in printed, "tables are printed as text, also in a notebook"
    assert sum("image/jpeg" in output.get("data", {}) for output in outputs) == 3
    assert (tmp_path / "tutorial" / "run" / "tutorial" / "models" / "model.safetensors").exists()


def test_every_link_between_pages_has_a_target():
    broken = [
        f"{page.name} -> {target}"
        for page in PAGES
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_links_of_the_readme_are_absolute_and_have_a_target():
    # So they also work on the page of the package index, which shows the README without the repository.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    repository = project["urls"]["Homepage"]
    places = (f"{repository}/blob/main/", repository.replace("github.com", "raw.githubusercontent.com") + "/main/")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"(?:\]\(|^\[.+\]: )([^)\s]+)", text, re.MULTILINE)
    assert [target for target in targets if not target.startswith("https://")] == []
    assert set(re.findall(r"\]\[([^\]]+)\]", text)) <= set(re.findall(r"^\[(.+)\]: ", text, re.MULTILINE))
    ours = [target.removeprefix(place) for target in targets for place in places if target.startswith(place)]
    assert len(ours) > 15
    assert [target for target in ours if not (ROOT / target).exists()] == []
