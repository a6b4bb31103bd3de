"""Memory and time of folder runs of 100 to 20,000 photos: a run of each size in a new process, started and repeated.

    python benchmarks/scale.py --sizes 100 --sizes 1000 --sizes 20000

The photos are links to eight small phantoms, and the network is small and has random weights: this benchmark is about
what grows with the number of photos, not about the network. It uses --measure, which keeps most for each photo.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cyclopts import App
from PIL import Image

from napari_skinseg.batch.folder import BatchOptions, segment_files
from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.segmentation.segmenter import Segmenter
from segment import load_warning, machine, peak_of_this_process

app = App(help="Memory and time of folder runs of many photos.")


@app.default
def main(*, sizes: list[int] = [100, 1000, 5000, 20000]) -> None:  # noqa: B006 - cyclopts shows the default
    """Print the table."""
    busy = load_warning()
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        make_model(work / "tiny")
        rows = []
        for size in sizes:
            link_photos(work / f"photos-{size}", size)
            rows.append([_run(work, size) for _ in ("new", "repeated")])
            print(f"{size} photos: {rows[-1]}", file=sys.stderr, flush=True)
    print(f"{machine()}{busy}\n")
    print(
        "| photos | seconds | peak memory, MB | seconds, repeated | peak memory, repeated, MB |\n|--:|--:|--:|--:|--:|"
    )
    for size, runs in zip(sizes, rows, strict=True):
        print(f"| {size:,} | " + " | ".join(f"{run['seconds']:.0f} | {run['peak_mb']:.0f}" for run in runs) + " |")


@app.command(show=False)
def child(photos: Path, out: Path, model: Path) -> None:
    """Segment a folder in this new process, and print its time and peak memory."""
    segmenter = Segmenter(str(model), "cpu")
    start = time.perf_counter()
    outcome = segment_files([photos], out, segmenter, BatchOptions(measure=True))
    if len(outcome.done) != outcome.total:
        sys.exit("\n".join(sentence for _, sentence in outcome.failed[:5]))
    print(json.dumps({"seconds": time.perf_counter() - start, "peak_mb": peak_of_this_process() / 1e6}))


@app.command(name="model", show=False)
def make_model(folder: Path) -> None:
    """Write a small model with random weights, and its ONNX file."""
    from napari_skinseg.models import bundle, network
    from napari_skinseg.models.onnx_export import write_onnx

    spec = bundle.ModelSpec(
        name=folder.name,
        network="UNet",
        network_arguments={"channels": [4, 8], "num_res_units": 0},
        input_size=(32, 32),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        no_lesion=0.0,
        licence="BSD-3-Clause",
        training_data="none",
    )
    bundle.save(folder, spec, network.build(spec.network, spec.network_arguments).eval())
    if problem := write_onnx(folder):
        sys.exit(problem)


def link_photos(folder: Path, count: int, distinct: int = 8, shape: tuple[int, int] = (48, 64)) -> None:
    """Make `count` links to `distinct` phantoms of (height, width) `shape`, in sub-folders of 1000."""
    folder.mkdir()
    for number in range(count):
        path = folder / f"{number // 1000:03}" / f"{number:06}.png"
        path.parent.mkdir(exist_ok=True)
        if number < distinct:
            Image.fromarray(phantom(number, shape).image).save(path)
        else:
            os.link(folder / "000" / f"{number % distinct:06}.png", path)


def _run(work: Path, size: int) -> dict[str, float]:
    command = [
        sys.executable,
        __file__,
        "child",
        *map(str, (work / f"photos-{size}", work / f"out-{size}", work / "tiny")),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr or done.stdout)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    app()
