"""The HTML report, parsed like in a browser."""

import base64
import io
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.evaluation.evaluate import EvaluateOptions, evaluate, evaluate_many
from napari_skinseg.evaluation.report import write_report
from napari_skinseg.evaluation.tables import evaluation_tables
from napari_skinseg.pixels.mask import write_mask

QUICK = EvaluateOptions(bootstrap=200)
HTML_NAME = '<script>alert("1")</script> & $\\frac{1}{0}$'


class Page(HTMLParser):
    """Elements, their attributes, and all text outside the style sheet."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.found and self.found[-1][0] != "style":
            self.texts.append(data)

    def pictures(self, kind):
        sources = [attributes["src"] for tag, attributes in self.found if tag == "img"]
        start = f"data:image/{kind};base64,"
        return [
            Image.open(io.BytesIO(base64.b64decode(source.removeprefix(start), validate=True)))
            for source in sources
            if source.startswith(start)
        ]


@pytest.fixture(scope="module")
def cases(spot, tmp_path_factory) -> list[Case]:
    """Fourteen photos of a spot; the outline of the person is smaller from photo to photo."""
    found, folder = [], tmp_path_factory.mktemp("cases")
    for number in range(14):
        image, _ = spot(300, 400, 150, (600, 800))
        _, truth = spot(300, 400, 150 - 7 * number, (600, 800))
        mask = folder / f"{number}_segmentation.png"
        Image.fromarray(image).save(folder / f"{number}.png")
        write_mask(mask, truth)
        found.append(Case(f"photo {number}", folder / f"{number}.png", mask, source=f"hospital {number % 2}"))
    return found


def page(comparison, folder) -> Page:
    """The report of an evaluation, written into a folder."""
    write_report(comparison, folder / "report.html")
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def evaluation(spot_finder, cases):
    """The evaluation of the cases."""
    return evaluate(spot_finder, cases, QUICK)


@pytest.fixture(scope="module")
def one(evaluation, tmp_path_factory) -> Page:
    """The report of the evaluation."""
    return page(evaluation, tmp_path_factory.mktemp("report"))


def test_the_report_loads_no_other_file_and_runs_no_script(one):
    found = one.found
    assert not {"script", "link", "iframe", "object", "a", "form"} & {tag for tag, _ in found}
    assert all(attributes["src"].startswith("data:image/") for tag, attributes in found if tag == "img")
    names = {name for _, attributes in found for name in attributes}
    assert not [name for name in names if name.startswith("on") or name == "href"]
    policy = next(a["content"] for tag, a in found if tag == "meta" and "Security" in a.get("http-equiv", ""))
    assert "default-src 'none'" in policy


def test_the_report_has_every_table_cell_and_the_privacy_warning(evaluation, one):
    text = " ".join(one.texts)
    assert "holds photographs of people. Keep it on this computer" in text
    assert evaluation.header["sha256"] in text
    for table in evaluation_tables(evaluation):
        for cell in (cell for row in table.rows for cell in row):
            assert cell in text
        assert table.note in text


def test_the_twelve_worst_photos_are_shown_with_both_outlines(one):
    pictures = one.pictures("jpeg")
    captions = re.findall(r"photo (\d+) · hospital", " ".join(one.texts))
    assert captions == [str(number) for number in range(13, 1, -1)]
    assert [picture.size for picture in pictures] == [(360, 270)] * 12
    pixels = np.asarray(pictures[0]).astype(int)
    spot_radius, truth_radius = 150 * 0.45, (150 - 7 * 13) * 0.45
    assert _is_like(pixels[135, 180 - round(truth_radius) - 2 : 180 - round(truth_radius) + 3], (255, 225, 0))
    assert _is_like(pixels[135, 180 - round(spot_radius) - 6 : 180 - round(spot_radius) + 7], (0, 220, 255))


def test_there_is_a_plot_for_each_kind_of_result(one, spot_finder, cases, tmp_path):
    assert len(one.pictures("png")) == 2
    with_clicks = page(evaluate(spot_finder, cases[:3], replace(QUICK, clicks=1)), tmp_path).pictures("png")
    assert len(with_clicks) == 3
    assert all(np.asarray(plot.convert("L")).std() > 10 for plot in with_clicks), "none is blank"
    two = page(evaluate_many([spot_finder, spot_finder], cases[:3], QUICK), tmp_path)
    assert len(two.pictures("png")) == 2 + 2 * 2
    assert len(two.pictures("jpeg")) == 2 * 3
    assert "Side by side" in two.texts


def test_names_with_html_are_escaped(spot_finder, cases, tmp_path):
    from napari_skinseg.models import bundle

    model = bundle.load(spot_finder)
    html_model = replace(model, spec=replace(model.spec, name=HTML_NAME))
    named = [replace(case, id=HTML_NAME, source=HTML_NAME, diagnosis=HTML_NAME) for case in cases[:2]]
    named.append(replace(cases[2], image=tmp_path / HTML_NAME.replace("/", "")))
    found = page(evaluate_many([html_model, spot_finder, html_model], named, QUICK), tmp_path)
    assert "script" not in {tag for tag, _ in found.found}
    assert any(HTML_NAME in text for text in found.texts)


def test_plots_do_not_import_pyplot():
    program = """
import sys
import numpy as np
from napari_skinseg.pixels.metrics import agreement
from napari_skinseg.evaluation.report import dice_plot, reliability_plot
from napari_skinseg.evaluation.statistics import CaseResult, compute_reliability
assert "matplotlib" not in sys.modules
half = np.arange(16).reshape(4, 4) < 8
photo = CaseResult("a", "", "", 4, 4, 0.5, 0.7, 0.1, agreement(half, half), (8, 16), 0.5, True)
dice_plot([photo]).savefig(sys.stdout.buffer, format="png")
reliability_plot([photo], compute_reliability([photo]))
assert "matplotlib.figure" in sys.modules
assert not {"matplotlib.pyplot", "torch"} & set(sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout.startswith(b"\x89PNG")


def _is_like(pixels, color) -> bool:
    """Whether one of the pixels has nearly this colour; JPEG changes colours a little."""
    return bool((np.abs(pixels - np.array(color)).sum(axis=-1) < 150).any())
