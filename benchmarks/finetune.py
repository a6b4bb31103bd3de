"""Gain, cost and forgetting of fine-tuning on a few corrected photos: prints Markdown tables.

    python benchmarks/finetune.py border     the border alone: its gain, and the rule of the verdict (minutes)
    python benchmarks/finetune.py clinics    both steps with the bundled model, and its verdicts (minutes each)
    python benchmarks/finetune.py cameras    both steps where the cameras are new to the model (minutes each)
    python benchmarks/finetune.py weights --base runs/ham-base/ham-base     trained weights of a small model (hours)

`border` uses the photos of the splits val and test of `isic_whole` and the bundled model, which was not trained on them
(its threshold was chosen on some of those of val). A rule is chosen on val; all is reported on test. A style changes
all masks: the border moves by a share of the diameter of the lesion, with a standard deviation of 1 % from photo to
photo, or it becomes smoother. A clinic is a random sample of the photos, or of those with one artefact; the gain is
measured on all its other photos.

`clinics` runs whole fine-tunings of 20 cases, as a user does. It takes the photos and styles of `border`, val and test.
The base, the border and the trained weights are compared on other photos of the same clinic.

`cameras` does the same with `lesion-unet-cc0`, which was trained on ISIC alone, and with photos and masks of HAM10000:
its cases are of val, and the gain is measured on photos of test.

For `weights`, the base must not be trained on the photos of the simulated clinics. This command trains one in ten
minutes:

    napari-skinseg train ../shared/data/ham10000 --splits ../shared/data/splits.csv --name ham-base --passes 3 \\
        --input-height 96 --input-width 128 --small-first 0 --clicks 0.25 --workers 1 --device cpu --out runs/ham-base

Clinic 1 outlines as `isic2018` does: its cases are of isic2018 train. The models are tested on isic2018 test and, for
forgetting, on ham10000 test. Clinic 2 has masks that are wider by 4 % of the lesion's diameter: its cases are of
ham10000 val, and the models are tested on the rest of val with masks widened in the same way. The peer is plain fine-
tuning: the same learning rate, photos and passes, the augmentation of training, all weights, no averaging and no
mixing with the base.

Seconds are CPU seconds, the sum of all cores, so that other programs do not change them. Finished cells are kept in the
output folder, so that a stopped run continues.
"""

import copy
import csv
import json
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import App, Parameter
from numpy.typing import NDArray
from scipy.special import stdtrit

from common import DATA, print_table
from napari_skinseg.datasets.dataset import Case, apply_splits, find_cases
from napari_skinseg.events import NeverCancelled
from napari_skinseg.finetuning.border import BorderTable
from napari_skinseg.finetuning.evidence import Evidence
from napari_skinseg.finetuning.finetune import fine_tune
from napari_skinseg.finetuning.options import FineTuneOptions
from napari_skinseg.finetuning.verdict import (
    LEAST_GAIN,
    LEVELS,
    NEW_FAILURE_DROP,
    NEW_FAILURES,
    Verdict,
    trimmed_interval,
)
from napari_skinseg.models.click_channels import Click
from napari_skinseg.pixels.cleaning import grow
from napari_skinseg.pixels.image import read_image
from napari_skinseg.pixels.mask import read_mask, write_mask
from napari_skinseg.pixels.metrics import FAILURE_JACCARD, bootstrap_interval, dice, jaccard
from napari_skinseg.segmentation.border import Border, change_border
from napari_skinseg.segmentation.options import SegmentOptions
from napari_skinseg.segmentation.segmenter import Segmenter
from segment import machine

app = App(help="Gain, cost and forgetting of fine-tuning on a few photos, compared with plain fine-tuning.")

STYLES = {
    "none": (0.0, 0.0),
    "tighter, 2 %": (-0.02, 0.0),
    "tighter, 4 %": (-0.04, 0.0),
    "tighter, 6 %": (-0.06, 0.0),
    "wider, 2 %": (0.02, 0.0),
    "wider, 4 %": (0.04, 0.0),
    "smoother": (0.0, 0.05),
}
"""Offset and smoothing, as shares of the diameter of the lesion."""
GOAL = 0.9
"""Jaccard at which the simulated person is content."""
MOST_CLICKS = 3
"""Largest number of clicks of the simulated person on one photo."""
SECONDS_LOOK, SECONDS_CLICK, SECONDS_STROKE = 3.0, 2.0, 1.5
"""Assumed: to look at a photo, to make a click, and to begin a stroke."""
STROKE_SPEED = 0.25
"""Assumed: widths of the photo per second."""
EFFORT_PHOTOS = 20
"""Photos of a clinic that the simulated person corrects, with the base and with what was advised."""
ARTEFACTS_OF_CLINICS = ("hair", "ruler", "dark_corner")
WIDER = 0.04
"""Clinic 2: each mask is grown on every side by this share of the lesion's diameter."""


@app.command
def weights(
    *,
    base: Path,
    data: Path = Path("../shared/data"),
    out: Path = Path("runs/finetune-bench"),
    shots: Annotated[list[int] | None, Parameter(consume_multiple=True)] = None,
    most: int = 0,
) -> None:
    """Print the table; `most` limits the number of test photos, to check the script."""
    out.mkdir(parents=True, exist_ok=True)
    limit = most or None
    isic = _shuffled(_cases(data, "isic2018", "train"))
    judges = {
        "isic2018 test": _cases(data, "isic2018", "test")[:limit],
        "ham10000 test": _cases(data, "ham10000", "test")[:limit],
    }
    val = _shuffled(_cases(data, "ham10000", "val"))
    wide = [_wider(case, out / "wide") for case in val[: None if limit is None else 20 + limit]]
    cells: list[dict[str, Any]] = []
    for count in shots or [3, 5, 10, 20, 50]:
        for method in ("ours", "plain"):
            cells.append(_cell(out, f"isic2018, {count} cases", method, base, isic[:count], judges))
    for method in ("ours", "plain"):
        cells.append(_cell(out, "masks 4 % wider, 20 cases", method, base, wide[:20], {"rest of val": wide[20:]}))
    print(f"{machine()}\n")
    print("| clinic | method | test photos | base | after | gain (95 % interval) | adopt? | CPU s | peak MB |")
    print("|---|---|---|--:|--:|--:|---|--:|--:|")
    for cell in cells:
        for number, (name, judged) in enumerate(cell["judged"].items()):
            interval = f"{judged['gain']:+.3f} ({judged['low']:+.3f} to {judged['high']:+.3f})"
            figures = f"| {judged['base']:.3f} | {judged['after']:.3f} | {interval} "
            rest = f"| {cell['verdict']} | {cell['seconds']:.0f} | {cell['peak_mb']:.0f} |" if not number else "| | | |"
            print(f"| {cell['clinic']} | {cell['method']} | {name} ({judged['photos']}) {figures}{rest}")


@dataclass(frozen=True)
class Clinic:
    """The photos of one clinic, with the Dice of each border for each photo; the first border is that of the model."""

    name: str
    table: BorderTable

    def draw(self, count: int, seed: int) -> tuple[BorderTable, NDArray[np.int_]]:
        """Return the table of `count` random photos, and the numbers of all others."""
        order = np.random.default_rng(seed).permutation(len(self.table.dice))
        return BorderTable(self.table.borders, self.table.dice[order[:count]]), order[count:]


@app.command
def border(*, data: Path = DATA, most: int = 0) -> None:
    """Print the gain of the border (five seeds), and how often each rule for adopting it is right (50 clinics).

    `most` limits the number of photos of each split, to check the script.
    """
    val, test = (_clinics(data, split, most) for split in ("val", "test"))
    print(f"{machine()}\n")
    _print_gains(test)
    print()
    _print_decisions(*(_decisions(clinics) for clinics in (val, test)))


@app.command
def clinics(
    *,
    base: str = "lesion-unet",
    data: Path = DATA,
    out: Path = Path("runs/finetune-clinics"),
    count: int = 50,
    cases: int = 20,
    others: int = 120,
    first: int = 0,
    at_once: int = 1,
    plot: Path | None = None,
) -> None:
    """Print the true gain of each step in the clinics below `count`, how often the verdicts were right, the work saved.

    `others` is the largest number of photos that the true gain is measured on. `first` is the first clinic. `at_once`
    clinics run at the same time; set OMP_NUM_THREADS to the cores of each. `plot` is a picture of the minutes of
    correction per 100 photos.
    """
    from napari_skinseg.models.store import find

    folder, rows, efforts = find(base).folder, [], []

    def measure(number: int) -> tuple[str, str, dict[str, Any]]:
        style, group = list(STYLES)[number % len(STYLES)], ("all", *ARTEFACTS_OF_CLINICS)[number % 4]
        photos = [_styled(one, style, number, out / f"clinic-{number}") for one in _of_group(data, group, number)]
        judges = {"others": photos[cases : cases + others]}
        cell = _cell(out, f"clinic {number}", "ours", folder, photos[:cases], judges, effort=EFFORT_PHOTOS)
        return style, group, cell

    with ThreadPoolExecutor(at_once) as pool:
        measured = list(pool.map(measure, range(first, count)))
    for style, group, cell in measured:
        minutes = cell["judged"]["others"]["minutes"]
        efforts.append((minutes["base"], minutes[cell["advised"]], style))
        dices, outcome = _figures(cell, "others")
        rows.append([cell["clinic"], group, style, str(cell["judged"]["others"]["photos"]), *dices, *outcome])
    print(f"{machine()}\n")
    head = [
        "clinic",
        "photos",
        "style",
        "judged on",
        "base",
        "border",
        "weights",
        "advised",
        "its gain",
        "minutes",
        "CPU s",
    ]
    print_table(head, rows)
    cells = [cell for _, _, cell in measured]
    print()
    _print_styles([(style, cell) for style, _, cell in measured])
    print(f"\n{_count_right(cells, [cell['advised'] for cell in cells])}\n")
    _print_rules_of_weights(cells)
    if plot is not None:
        _plot_efforts(efforts, plot)


@app.command
def cameras(
    *,
    base: str = "lesion-unet-cc0",
    data: Path = DATA,
    out: Path = Path("runs/finetune-cameras"),
    count: int = 5,
    cases: int = 20,
    others: int = 100,
) -> None:
    """Print the gain of each step on photos of HAM10000, in `count` clinics of photos that the base has never seen."""
    from napari_skinseg.models.store import find

    folder, rows = find(base).folder, []
    for number in range(count):
        taught, judges = (
            [found[row] for row in np.random.default_rng(number).permutation(len(found))]
            for found in (_cases(data, "ham10000", split) for split in ("val", "test"))
        )
        name, test = f"camera {number}", {"test": judges[:others]}
        cell = _cell(out, name, "ours", folder, taught[:cases], test, effort=EFFORT_PHOTOS)
        plain = _cell(out, name, "plain", folder, taught[:cases], test)["judged"]["test"]["after"]
        dices, outcome = _figures(cell, "test")
        rows.append([str(number), *dices, f"{plain:.3f}", *outcome])
    print(f"{machine()}\n")
    head = ["clinic", "base", "border", "weights", "plain fine-tuning", "advised", "its gain", "minutes", "CPU s"]
    print_table(head, rows)


def _figures(cell: Mapping[str, Any], judges: str) -> tuple[list[str], list[str]]:
    """Table cells: Dice of base, border and weights; the advice, its gain, minutes before and after, CPU seconds."""
    means, minutes = (cell["judged"][judges][key] for key in ("means", "minutes"))
    dices = [f"{means[step]:.3f}" if step in means else "–" for step in ("base", "border", "weights")]
    gain = f"{means[cell['advised']] - means['base']:+.3f}"
    saved = f"{minutes['base']:.0f} → {minutes[cell['advised']]:.0f}"
    return dices, [cell["advised"], gain, saved, f"{cell['seconds']:.0f}"]


def _print_styles(measured: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Print the gain of what was advised, and the minutes of correction, as means over the clinics of each style."""
    rows = []
    for style in STYLES:
        cells = [cell for name, cell in measured if name == style]
        if not cells:
            continue
        others = [(cell["judged"]["others"], cell["advised"]) for cell in cells]
        base = np.array([judged["means"]["base"] for judged, _ in others])
        gains = np.array([judged["means"][advised] for judged, advised in others]) - base
        minutes = np.mean(
            [(judged["minutes"]["base"], judged["minutes"][advised]) for judged, advised in others], axis=0
        )
        rows.append(
            [
                style,
                str(len(cells)),
                f"{base.mean():.3f}",
                f"{(base + gains).mean():.3f}",
                f"{gains.mean():+.3f} ({gains.min():+.3f} to {gains.max():+.3f})",
                "{:.0f} → {:.0f}".format(*minutes),
                _count_right(cells, [advised for _, advised in others]),
            ]
        )
    print_table(["style", "clinics", "base", "as advised", "gain (range)", "minutes", "decisions"], rows)


def _count_right(cells: Sequence[Mapping[str, Any]], advice: Sequence[str]) -> str:
    """As in `_print_decisions`: right if the advice does not lose, and leaves at most `LEAST_GAIN` to another step."""
    right = false = 0
    for cell, advised in zip(cells, advice, strict=True):
        means = cell["judged"]["others"]["means"]
        false += means[advised] < means["base"]
        right += means[advised] >= means["base"] and max(means.values()) - means[advised] <= LEAST_GAIN
    return f"{right} of {len(cells)} right, {false} false"


def _print_rules_of_weights(cells: Sequence[Mapping[str, Any]]) -> None:
    """Print how often the advice is right with other rules for the trained weights; the border is used where it was."""
    rows = []
    for level, least in product((0.8, 0.95, 0.99), (LEAST_GAIN, 0.01, 0.015)):
        advice = ["weights" if _is_adopted(cell, level, least) else _step_before(cell) for cell in cells]
        halves = [_count_right(cells[half::2], advice[half::2]) for half in (0, 1)]
        rows.append([f"{100 * level:g} %", f"{least:g}", *halves, str(advice.count("weights"))])
    halves = [_count_right(cells[half::2], [_step_before(cell) for cell in cells[half::2]]) for half in (0, 1)]
    rows.append(["never adopted", "", *halves, "0"])
    print_table(["level", "gain, at least", "even clinics", "odd clinics", "adopted"], rows)


def _step_before(cell: Mapping[str, Any]) -> str:
    return "border" if "border" in cell["held_out"] else "base"


def _is_adopted(cell: Mapping[str, Any], level: float, least: float) -> bool:
    """Whether the trained weights are adopted; see `verdict`."""
    found = {name: np.array(values) for name, values in cell["held_out"]["weights"].items()}
    gains = found["candidate_dice"] - found["base_dice"]
    failed, before = found["candidate_failed"], found["base_failed"]
    typical, low, _ = trimmed_interval(gains.tolist(), level)
    new = (failed & ~before & (gains <= -NEW_FAILURE_DROP)).sum() - (before & ~failed).sum()
    return bool(low > 0 and typical >= least and new <= NEW_FAILURES["weights"] * len(gains))


def _plot_efforts(efforts: Sequence[tuple[float, float, str]], path: Path) -> None:
    """Draw the minutes of correction per 100 photos before and after, one line for each clinic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 1 + 0.12 * (len(efforts) + 2 * len(STYLES))), layout="constrained")
    axes = figure.subplots()
    rows = sorted(efforts, key=lambda one: (list(STYLES).index(one[2]), one[0]))
    heights = [row + 2 * list(STYLES).index(style) for row, (_, _, style) in enumerate(rows)]  # a gap between styles
    for height, (before, after, _) in zip(heights, rows, strict=True):
        axes.plot([before, after], [height, height], color="0.6", zorder=1)
    for column, marker, name in ((0, "o", "base"), (1, "s", "after, as advised")):
        axes.scatter([row[column] for row in rows], heights, 18, marker=marker, label=name, zorder=2)
    styles = [style for style in STYLES if any(row[2] == style for row in rows)]
    middles = [np.mean([at for at, row in zip(heights, rows, strict=True) if row[2] == style]) for style in styles]
    axes.set_yticks(middles, styles)
    axes.invert_yaxis()
    axes.set_xlim(0)
    axes.set_xlabel("minutes of correction per 100 photos (simulated)")
    axes.legend()
    figure.savefig(path, dpi=110)


def _of_group(data: Path, group: str, seed: int) -> list[Case]:
    """All photos of val and test of `isic_whole` with this artefact, in random order."""
    with (data / "isic_artefacts.csv").open() as stream:
        flagged = {row["id"] for row in csv.DictReader(stream) if group == "all" or row[group] == "1"}
    found = [one for split in ("val", "test") for one in _cases(data, "isic_whole", split) if one.id in flagged]
    return [found[number] for number in np.random.default_rng(seed).permutation(len(found))]


def _styled(case: Case, style: str, seed: int, folder: Path) -> Case:
    """Return the case with its mask in a style; see `STYLES`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{case.id}_segmentation.png"
    if not path.exists():
        assert case.mask is not None
        random = np.random.default_rng([seed, *case.id.encode()])
        write_mask(path, change_border(read_mask(case.mask), _border_of(style, random)))
    return replace(case, mask=path)


def _border_of(style: str, random: np.random.Generator) -> Border:
    """The border of one photo in a style; see `STYLES`."""
    offset, smoothing = STYLES[style]
    varied = 0.01 * float(random.standard_normal()) if style != "none" else 0.0
    return Border(offset=offset + varied, smoothing=smoothing)


def _print_gains(clinics: Mapping[tuple[str, str], Clinic]) -> None:
    counts = (3, 5, 10, 20, 50)
    print_table(
        ["clinic", "style", "photos", "base", *(f"{n} cases" for n in counts)],
        [
            [name, style, str(len(clinic.table.dice)), f"{clinic.table.dice[:, 0].mean():.3f}"]
            + [_gain(clinic, n) for n in counts]
            for (name, style), clinic in clinics.items()
        ],
    )


@dataclass(frozen=True)
class Decision:
    """One clinic: Dice of base and border on its cases, `[cases]` each, and the mean gain on all other photos."""

    base: NDArray[np.float64]
    border: NDArray[np.float64]
    true: float

    @property
    def gains(self) -> NDArray[np.float64]:
        return self.border - self.base

    @property
    def failed(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        return jaccards_of(self.base) < FAILURE_JACCARD, jaccards_of(self.border) < FAILURE_JACCARD


def _mean(gains: NDArray[np.float64], level: float) -> bool:
    half = float(stdtrit(len(gains) - 1, (1 + level) / 2)) * gains.std(ddof=1) / np.sqrt(len(gains))
    return bool(gains.mean() - half > 0 and gains.mean() >= LEAST_GAIN)


def _trimmed_mean(gains: NDArray[np.float64], level: float) -> bool:
    typical, low, _ = trimmed_interval(gains.tolist(), level)
    return low > 0 and typical >= LEAST_GAIN


def _no_new_failure(one: Decision) -> bool:
    before, after = one.failed
    return not (after & ~before).any()


def _harmless(one: Decision) -> bool:
    """As in `verdict`: hardly more new failures, with a loss of `NEW_FAILURE_DROP` or more, than repaired ones."""
    before, after = one.failed
    new, repaired = (after & ~before & (one.gains <= -NEW_FAILURE_DROP)).sum(), (before & ~after).sum()
    return bool(new <= repaired + NEW_FAILURES["border"] * len(after))


TESTS = {"mean": _mean, "trimmed mean": _trimmed_mean}
HARMS = {"no new failure": _no_new_failure, "hardly more new failures": _harmless, "any failures": lambda one: True}
CASES_OF_DECISIONS = (5, 10, 20)


def _decisions(clinics: Mapping[tuple[str, str], Clinic]) -> dict[int, list[Decision]]:
    """Draw 50 clinics of each style and number of cases from all photos."""
    found: dict[int, list[Decision]] = {}
    for count in CASES_OF_DECISIONS:
        for (name, _), clinic in clinics.items():
            for seed in range(50) if name == "all" else ():
                table, others = clinic.draw(count, seed)
                after = table.dice[np.arange(count), table.choose_leave_one_out(range(count))]
                held_out = clinic.table.dice[others]
                true = float((held_out[:, table.choose()] - held_out[:, 0]).mean())
                found.setdefault(count, []).append(Decision(table.dice[:, 0], after, true))
    return found


def _print_decisions(val: Mapping[int, list[Decision]], test: Mapping[int, list[Decision]]) -> None:
    rows = []
    for count, (name, is_certain), level in product(CASES_OF_DECISIONS, TESTS.items(), (0.95, 0.8, 0.6, 0.4)):
        certain = [np.array([is_certain(one.gains, level) for one in decisions[count]]) for decisions in (val, test)]
        for harm, harmless in HARMS.items():
            used = name == "trimmed mean" and level == LEVELS["border"] and harmless is _harmless
            cells = [str(count), name, f"{100 * level:.0f} %", harm + " (in use)" * used]
            for decisions, sure in zip((val[count], test[count]), certain, strict=True):
                adopted = sure & np.array([harmless(one) for one in decisions])
                gained = np.array([one.true for one in decisions])
                right = np.where(adopted, gained >= 0, gained <= LEAST_GAIN)
                cells += [f"{100 * values.mean():.1f} %" for values in (right, adopted & (gained < 0))]
                cells.append(f"{np.where(adopted, gained, 0).mean():+.4f}")
            rows.append(cells)
    head = [
        "cases",
        "test of the gains",
        "level",
        "and",
        "right, val",
        "false, val",
        "gain, val",
        "right",
        "false",
        "gain",
    ]
    print_table(head, rows)


def jaccards_of(dices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Jaccard from Dice."""
    return dices / (2 - dices)


def _gain(clinic: Clinic, count: int) -> str:
    """Mean and range over five seeds of the gain on the other photos of the clinic, with the rule in use."""
    if len(clinic.table.dice) < count + 20:
        return "–"
    gains = []
    for seed in range(5):
        table, others = clinic.draw(count, seed)
        after = table.dice[np.arange(count), table.choose_leave_one_out(range(count))]
        decision = Decision(table.dice[:, 0], after, 0.0)
        used = _trimmed_mean(decision.gains, LEVELS["border"]) and _harmless(decision)
        held_out = clinic.table.dice[others]
        gains.append(float((held_out[:, table.choose() if used else 0] - held_out[:, 0]).mean()))
    return f"{np.mean(gains):+.3f} ({min(gains):+.3f} to {max(gains):+.3f})"


def _clinics(data: Path, split: str, most: int) -> dict[tuple[str, str], Clinic]:
    """Segment the photos once, and measure all borders for each style and artefact."""
    from napari_skinseg.finetuning.judging import JudgedPhoto, segment_photos
    from napari_skinseg.models.store import find

    cases = _cases(data, "isic_whole", split)[: most or None]
    with (data / "isic_artefacts.csv").open() as stream:
        artefacts = {row["id"]: row for row in csv.DictReader(stream)}
    model = find("lesion-unet")
    assert model.spec is not None
    own, random = Border.of_model(model.spec), np.random.default_rng(0)
    photos = {number: JudgedPhoto.read(case) for number, case in enumerate(cases)}
    found = dict(segment_photos(Segmenter(model.folder), photos, NeverCancelled()))
    clinics = {}
    for style in STYLES:
        maps = []
        for number, photo in photos.items():
            truth = change_border(photo.truth, _border_of(style, random))
            maps.append(found[number].map(replace(photo, truth=truth), own))
        table = BorderTable.measure(maps, own)
        clinics["all", style] = Clinic("all", table)
        for artefact in ARTEFACTS_OF_CLINICS:
            rows = [n for n, case in enumerate(cases) if artefacts.get(case.id, {}).get(artefact) == "1"]
            if rows:
                clinics[artefact, style] = Clinic(artefact, BorderTable(table.borders, table.dice[rows]))
    return clinics


@app.command(show=False)
def child(job: Path) -> None:
    """Run one cell in a separate process, to measure its memory."""
    task = json.loads(job.read_text())
    cases = tuple(
        Case(row["id"], Path(row["image"]), Path(row["mask"]), row["group"], row["source"]) for row in task["cases"]
    )
    start, start_wall = time.process_time(), time.perf_counter()
    models: dict[str, Any] = {"base": Path(task["base"])}
    advised, verdict, steps_judged = "base", "–", {}
    if task["method"] == "ours":
        outcome = fine_tune(task["base"], Evidence(cases), FineTuneOptions(), task["run"])
        assert outcome.candidate is not None
        assert outcome.verdict is not None
        verdict = "yes" if outcome.verdict.better else "no"
        verdict += f" ({outcome.verdict.passes} passes, mix {outcome.verdict.mixing_coefficient:g})"
        if outcome.border is not None:
            models["border"] = outcome.border.model
            steps_judged["border"] = _held_out(outcome.border.verdict)
        steps_judged["weights"] = _held_out(outcome.verdict)
        models["weights"] = outcome.candidate
        steps = {outcome.candidate: "weights", None: "base"}
        advised = steps.get(outcome.recommended, "border")
    else:
        models["weights"] = _plain(Path(task["base"]), cases)
    seconds, wall = time.process_time() - start, time.perf_counter() - start_wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    segmenters, judged = {step: Segmenter(model) for step, model in models.items()}, {}
    for name, rows in task["judges"].items():
        scores = {step: np.array([_dice(one, row) for row in rows]) for step, one in segmenters.items()}
        minutes = {
            step: float(100 / 60 * np.mean([_seconds(segmenters[step], row) for row in rows[: task["effort"]]]))
            for step in {"base", advised}
            if task["effort"]
        }
        gains = scores["weights"] - scores["base"]
        low, high = bootstrap_interval(gains)
        means = {step: float(values.mean()) for step, values in scores.items()}
        judged[name] = {
            "photos": len(rows),
            "means": means,
            "minutes": minutes,
            "dice": {step: values.tolist() for step, values in scores.items()},
            "base": means["base"],
            "after": means["weights"],
            "gain": gains.mean(),
            "low": low,
            "high": high,
        }
    result = {"seconds": seconds, "wall": wall, "peak_mb": peak, "verdict": verdict, "advised": advised}
    job.with_suffix(".done.json").write_text(json.dumps({**result, "held_out": steps_judged, "judged": judged}))


def _held_out(verdict: Verdict) -> dict[str, list[Any]]:
    """What a verdict was decided on, so that other rules can be compared without a new fine-tuning."""
    names = ("base_dice", "candidate_dice", "base_failed", "candidate_failed")
    return {name: [getattr(row, name) for row in verdict.compared] for name in names}


def _cell(
    out: Path,
    clinic: str,
    method: str,
    base: Path,
    cases: Sequence[Case],
    judges: dict[str, list[Case]],
    effort: int = 0,
) -> dict[str, Any]:
    import subprocess

    out.mkdir(parents=True, exist_ok=True)
    job = out / f"{clinic.replace(' ', '-').replace(',', '').replace('%', 'percent')}-{method}.json"
    done = job.with_suffix(".done.json")
    if not done.exists():
        print(f"{clinic}, {method} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as run:
            task = {"base": str(base), "method": method, "run": run, "cases": _plain_rows(cases), "effort": effort}
            job.write_text(json.dumps({**task, "judges": {name: _plain_rows(rows) for name, rows in judges.items()}}))
            subprocess.run([sys.executable, __file__, "child", str(job)], check=True)
    return {"clinic": clinic, "method": method, **json.loads(done.read_text())}


def _plain_rows(cases: Sequence[Case]) -> list[dict[str, str]]:
    return [
        {"id": case.id, "image": str(case.image), "mask": str(case.mask), "group": case.group, "source": case.source}
        for case in cases
    ]


def _dice(segmenter: Segmenter, row: Mapping[str, str]) -> float:
    image, truth, options = _photo(row)
    return dice(segmenter.segment(image, options).mask, truth)


def _photo(row: Mapping[str, str]) -> tuple[NDArray[np.uint8], NDArray[np.bool_], SegmentOptions]:
    """Photo, true mask and options: the outline is measured also where the model finds no lesion."""
    image = read_image(row["image"])
    return image, read_mask(row["mask"], image.shape), SegmentOptions(always_outline=True)


def _seconds(segmenter: Segmenter, row: Mapping[str, str]) -> float:
    """The seconds in which a simulated person corrects the mask of a photo to the Jaccard `GOAL`.

    The person makes up to three clicks, as long as each helps, then strokes. Each stroke corrects one whole error, the
    largest first.
    """
    from skimage.measure import label, regionprops

    from napari_skinseg.segmentation.simulated_clicks import next_click

    image, truth, options = _photo(row)
    mask, refiner = segmenter.segment(image, options).mask, segmenter.refiner(image)
    seconds, clicks = SECONDS_LOOK, list[Click]()
    while jaccard(mask, truth) < GOAL and len(clicks) < MOST_CLICKS:
        click = next_click(mask, truth)
        assert click is not None
        clicks.append(click)
        seconds += SECONDS_CLICK
        clicked = refiner.refine(clicks, mask, options).mask
        if jaccard(clicked, truth) <= jaccard(mask, truth):
            break  # the person takes it back
        mask = clicked
    errors = label(mask.astype(np.uint8) + 2 * truth.astype(np.uint8) * ~mask - (mask & truth), connectivity=1)
    for error in sorted(regionprops(errors), key=lambda one: -one.area):
        if jaccard(mask, truth) >= GOAL:
            break
        mask = np.where(errors == error.label, truth, mask)
        # A stroke along a long error is half as long as the outline of the error.
        seconds += SECONDS_STROKE + error.perimeter / 2 / (STROKE_SPEED * mask.shape[1])
    return seconds


def _plain(base: Path, cases: Sequence[Case]) -> Any:
    """Plain fine-tuning."""
    import torch
    from monai.data import DataLoader, Dataset

    from napari_skinseg.device import choose_device
    from napari_skinseg.finetuning.run import ARTEFACT_PROBABILITY, WEIGHT_DECAY
    from napari_skinseg.models.bundle import load
    from napari_skinseg.training.augment import Read, training_transform
    from napari_skinseg.training.loop import TrainingLoop

    model, options = load(base), FineTuneOptions()
    read = Read(model.spec.input_size)
    samples = [read(case) for case in cases]
    passes = options.passes_for(len(cases))

    def loader(number: int) -> Any:
        return DataLoader(
            Dataset(samples, training_transform(model.spec.input_size, ARTEFACT_PROBABILITY)),
            batch_size=min(options.batch_size, len(samples)),
            shuffle=True,
            generator=torch.Generator().manual_seed(number),
        )

    loop = TrainingLoop(
        copy.deepcopy(model.network),
        choose_device(),
        (model.spec.mean, model.spec.std),
        steps_per_pass=len(loader(0)),
        passes=passes,
        learning_rate=options.learning_rate,
        weight_decay=WEIGHT_DECAY,
        ema=0.001,
        clicks=0.0,
        seed=0,
        on_step=lambda step, loss: None,
    )
    for number in range(passes):
        loop.run_pass(number, loader(number), NeverCancelled())
    loop.close()
    return replace(model, network=loop.network.eval())


def _cases(data: Path, dataset: str, split: str) -> list[Case]:
    return apply_splits(find_cases(data / dataset), data / "splits.csv", split)


def _shuffled(cases: list[Case]) -> list[Case]:
    return [cases[number] for number in np.random.default_rng(0).permutation(len(cases))]


def _wider(case: Case, folder: Path) -> Case:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{case.id}_segmentation.png"
    if not path.exists():
        assert case.mask is not None
        mask = read_mask(case.mask)
        diameter = 2 * np.sqrt(mask.sum() / np.pi)
        write_mask(path, grow(mask, max(1.0, WIDER * diameter)) if mask.any() else mask)
    return replace(case, mask=path)


if __name__ == "__main__":
    app()
