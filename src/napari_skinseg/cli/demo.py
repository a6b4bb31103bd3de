"""`napari-skinseg demo`: segment sample photos, print a table of measurements, and open the first result in napari."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_skinseg.batch.folder import BatchOptions, PhotoResult
from napari_skinseg.batch.storage import Place
from napari_skinseg.files import atomic, make_output_folder
from napari_skinseg.measurement.measure import NOTE, three_digits
from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.pixels.metrics import dice

from .options import ModelChoice, Output
from .segment import describe_run, exit_code, run_segment, to_json
from .terminal import print_json, say

SAMPLES = ((3, ("hair",)), (8, ("ruler", "glare")), (12, ("dark_field",)), (21, ("sticker", "ink")))
"""Seed and artefacts of each sample photo."""

COLUMNS = {
    "area_percent": "Area, %",
    "longest_diameter_px": "Length, px",
    "asymmetry_lowest": "Asymmetry",
    "border_irregularity": "Border",
    "contrast": "Contrast",
}
"""The measures of the printed table, which has room for few; the CSV has all."""


def demo(
    *,
    images: Path | None = None,
    out: Path = Path("demo-output"),
    view: bool = False,
    using: ModelChoice = ModelChoice(),
    output: Output = Output(),
) -> int:
    """Segment and measure your photos, or four generated ones, and print a table.

    Args:
        images: A photo or a folder of photos; generated photos with known masks when not given.
        out: Folder for masks, overlays and the table.
        view: Open the first result in napari afterwards, if there is a screen.
    """
    truths = {} if images else write_samples(make_output_folder(out / "photos"))
    photos = [images] if images else sorted(truths)
    options = BatchOptions(overlay=True, measure=True, overwrite=True)
    outcome, segmenter = run_segment(photos, out, using, options, output)
    agreement = {
        result.photo: dice(read_mask(result.mask), truth)
        for result in outcome.done
        if (truth := truths.get(Path(result.photo))) is not None
    }
    if output.json:
        document = to_json(outcome, segmenter)
        for entry, result in zip(document["done"], outcome.done, strict=True):
            entry["dice"] = agreement.get(result.photo)
        print_json(document)
    elif not output.quiet:
        print_table(outcome.done, agreement)
        print(describe_run(outcome, out))
    if view and outcome.done and not open_in_napari(outcome.done[0]):
        say("napari was not opened: there is no screen, or napari is not installed.", quiet=output.quiet)
    return exit_code(outcome)


def write_samples(folder: Path) -> dict[Path, NDArray[np.bool_]]:
    """Write the sample photos, uint8 RGB PNG, and return the true mask `[H, W]` of each by its path."""
    truths = {}
    for number, (seed, artefacts) in enumerate(SAMPLES, start=1):
        sample = phantom(seed, artefacts=artefacts)
        path = folder / f"phantom-{number}.png"
        with atomic(path) as temporary:
            Image.fromarray(sample.image).save(temporary)
        truths[path] = sample.mask
    return truths


def print_table(results: Sequence[PhotoResult], agreement: Mapping[Place, float]) -> None:
    """Print a row per photo on standard output; `agreement` holds the Dice of photos whose true mask is known."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=NOTE, box=SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("Photo", overflow="fold", min_width=13)
    for title in ("Expected overlap", *["Dice"] * bool(agreement), *COLUMNS.values()):
        table.add_column(title, justify="right")
    for result in results:
        expected = "–" if result.confidence is None else f"{100 * result.confidence:.0f} %"
        true = [three_digits(agreement.get(result.photo))] if agreement else []
        figures = [three_digits(result.measures.get(name)) for name in COLUMNS]
        table.add_row(escape(result.name), "no lesion" if result.empty else expected, *true, *figures)
    Console().print(table)
    if agreement:
        print("Dice: overlap with the true mask, which is known for generated photos; 1 is perfect.")


def open_in_napari(result: PhotoResult) -> bool:
    """Show a photo with its mask and the widget until the window is closed; return False if this is not possible."""
    has_screen = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if not has_screen or importlib.util.find_spec("napari") is None:
        return False
    view = [sys.executable, "-m", "napari_skinseg.plugin.view", str(result.photo), str(result.mask)]
    return subprocess.run(view, check=False).returncode == 0
