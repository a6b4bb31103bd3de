"""Speed and memory of segmentation, compared with a plain U-Net in the same run: prints two Markdown tables.

    python benchmarks/segment.py [--model NAME_OR_FOLDER] [--quick]

The peer is the plain U-Net of many tutorials (Ronneberger et al. 2015; channels 64 to 1024, two 3 x 3 convolutions per
level, 31 M parameters) at 512 x 512 in float32; its mask is enlarged to the size of the photo. Its weights are random,
which does not change its speed. The second table compares the programs that can run our network on a CPU. All photos
are phantoms, so that the benchmark needs no data.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from cyclopts import App
from PIL import Image

from napari_skinseg.phantoms.phantom import phantom

if TYPE_CHECKING:
    import torch

SMALL, LARGE = (450, 600), (2848, 4288)
PEER_SIZE = (512, 512)

app = App(help="Speed and memory of segmentation, compared with a plain U-Net of 31 M parameters.")


@app.default
def main(*, model: str | None = None, quick: bool = False) -> None:
    """Print the table; `quick` runs everything only a few times, to check the script."""
    few, many, photos, distinct = (2, 3, 12, 3) if quick else (5, 30, 500, 25)
    busy = load_warning()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        small = phantom(1, SMALL, ("hair", "dark_field")).image
        large = phantom(2, LARGE, ("ruler",)).image
        np.save(work / "large.npy", large)
        Image.fromarray(small).save(work / "small.png")
        gallery = _gallery(work / "gallery", photos, distinct)

        # Child processes first: their memory and start are measured while this process has no network in memory.
        rows: list[Row] = [
            _seconds_row("cold start, one 600x450 file to its mask", _cold_start(work, model, few), "s"),
            ("peak memory, 4288x2848", _peak(work, "ours", model), _peak(work, "peer", model), "MB", False),
        ]
        ours, line = _ours(model)
        peer = _peer()
        rows += _latency_rows("600x450", small, ours, peer, many, few)
        rows += _latency_rows("4288x2848", large, ours, peer, max(few, many // 3), few)
        rates = _folder_rate(gallery, work / "out", model), _peer_rate(gallery, peer, few)
        rows.append((f"folder of {photos} JPEGs of 600x450 to PNG masks", *rates, "photos/s", True))
    print(f"{machine()}{busy}; napari-skinseg on {line}\n")
    print(f"| measure{' (quick run: too few repeats)' * quick} | napari-skinseg | plain U-Net | ratio |")
    print("|---|--:|--:|--:|")
    for name, mine, other, unit, more_is_better in rows:
        ratio = mine / other if more_is_better else other / mine
        print(f"| {name} | {_number(mine)} {unit} | {_number(other)} {unit} | {ratio:.1f}x |")
    engines(model=model, times=many)


@app.command
def engines(*, model: str | None = None, times: int = 30) -> None:
    """Print only the table of the programs that run the network on a CPU; the rounds alternate between them."""
    from napari_skinseg import Segmenter

    photo = phantom(1, SMALL, ("hair", "dark_field")).image
    ours = Segmenter(model, "cpu")
    loaded = ours.model
    segmenters = [ours, Segmenter(loaded, "cpu"), Segmenter(loaded, "cpu", precision="bfloat16")]
    runs: list[Run] = [lambda rgb, one=one: one.segment(rgb).mask for one in segmenters]  # type: ignore[misc]
    runs.append(_peer())
    names = [
        " ".join((one.engine["engine"], one.engine["engine_version"], one.engine["precision"])) for one in segmenters
    ]
    seconds: list[list[float]] = [[] for _ in runs]
    for number in range(times + 1):
        for run, taken in zip(runs, seconds, strict=True):
            if run is not runs[-1] or number <= max(2, times // 6):
                taken.append(_timed(lambda run=run: run(photo)))  # type: ignore[misc]
    medians = [statistics.median(taken[1:]) for taken in seconds]
    print(
        f"\n{machine()}{load_warning()}\n\n| 600x450 array to mask, CPU | median | plain U-Net / this |\n|---|--:|--:|"
    )
    for name, median in zip([*names, "plain U-Net, torch float32, 512x512"], medians, strict=True):
        print(f"| {name} | {_number(1000 * median)} ms | {medians[-1] / median:.0f}x |")


@app.command
def folder(*, model: str | None = None, photos: int = 100, rounds: int = 3) -> None:
    """Print only the rates of a folder of 600x450 JPEGs: reading, network, both with writing, and with all options."""
    from napari_skinseg import Segmenter
    from napari_skinseg.batch.folder import BatchOptions, segment_files
    from napari_skinseg.pixels.image import read_image
    from napari_skinseg.read_ahead import read_ahead

    segmenter, busy = Segmenter(model, "cpu"), load_warning()
    with tempfile.TemporaryDirectory() as place:
        paths = _gallery(Path(place) / "gallery", photos, 25)
        images = [read_image(path) for path in paths]
        out = Path(place) / "out"

        def run(measure: bool = False, overlay: bool = False) -> None:
            segment_files(paths, out, segmenter, BatchOptions(overwrite=True, measure=measure, overlay=overlay))

        works: dict[str, Callable[[], object]] = {
            "reading only": lambda: [future.result() for _, future in read_ahead(read_image, paths)],
            "network only, batches of 8": lambda: list(segmenter.segment_many(images, batch_size=8)),
            "segment": run,
            "segment --measure --overlay": lambda: run(measure=True, overlay=True),
        }
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
        for number in range(rounds + 1):  # the first round warms up
            for name, work in works.items():
                cpu = time.process_time()
                wall = _timed(work)
                if number:
                    rates[name].append((photos / wall, 1000 * (time.process_time() - cpu) / photos))
    plain = statistics.median(rate for rate, _ in rates["segment"])
    print(f"{machine()}{busy}; {segmenter.device_line}; {photos} photos, median of {rounds} rounds\n")
    print("| 600x450 JPEGs, one process | photos/s | CPU ms per photo | rate / rate of segment |\n|---|--:|--:|--:|")
    for name, measured in rates.items():
        rate, cpu = (statistics.median(values) for values in zip(*measured, strict=True))
        print(f"| {name} | {_number(rate)} | {_number(cpu)} | {rate / plain:.2f} |")


@app.command(show=False)
def child(who: str, photo: Path, model: str | None = None) -> None:
    """Segment one photo in this new process, and print the peak memory in MB."""
    run = _ours(model)[0] if who == "ours" else _peer()
    if photo.suffix == ".npy":
        run(np.load(photo))
    else:
        Image.fromarray(run(np.asarray(Image.open(photo).convert("RGB")))).save(photo.with_suffix(".peer.png"))
    print(json.dumps({"peak_mb": peak_of_this_process() / 1e6}))


Run = Callable[[np.ndarray], np.ndarray]
Row = tuple[str, float, float, str, bool]


def _ours(model: str | None) -> tuple[Run, str]:
    """Return a function from uint8 [H, W, 3] to bool [H, W], and the description of the device."""
    from napari_skinseg import Segmenter

    segmenter = Segmenter(model)
    return lambda rgb: segmenter.segment(rgb).mask, segmenter.device_line


def plain_unet() -> "torch.nn.Module":
    """Plain U-Net: channels 64 to 1024, two convolutions per level, batch normalisation, 31 M parameters."""
    from monai.networks.nets import BasicUNet

    return BasicUNet(2, 3, 1, features=(64, 128, 256, 512, 1024, 64), act="relu", norm="batch")


def _peer() -> Run:
    import torch

    network = plain_unet().eval()

    def run(rgb: np.ndarray) -> np.ndarray:
        resized = np.asarray(Image.fromarray(rgb).resize(PEER_SIZE[::-1], Image.Resampling.BILINEAR), np.float32) / 255
        with torch.inference_mode():
            probability = torch.sigmoid(network(torch.from_numpy(resized.transpose(2, 0, 1)[None].copy())))[0, 0]
        mask = Image.fromarray((probability > 0.5).numpy())
        return np.asarray(mask.resize(rgb.shape[1::-1], Image.Resampling.NEAREST))

    return run


def _latency_rows(size: str, photo: np.ndarray, ours: Run, peer: Run, many: int, few: int) -> list[Row]:
    mine, other = _times(ours, photo, many), _times(peer, photo, few)
    return [
        _seconds_row(f"{size} array to mask, warm: median", (statistics.median(mine), statistics.median(other)), "ms"),
        _seconds_row(f"{size} array to mask, warm: p95", (_p95(mine), _p95(other)), "ms"),
    ]


def _times(run: Run, photo: np.ndarray, count: int) -> list[float]:
    run(photo)
    return [_timed(lambda: run(photo)) for _ in range(count)]


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _p95(seconds: list[float]) -> float:
    return float(np.quantile(seconds, 0.95))


def _seconds_row(name: str, seconds: tuple[float, float], unit: str) -> Row:
    mine, other = (value * {"s": 1, "ms": 1000}[unit] for value in seconds)
    return name, mine, other, unit, False


def _cold_start(work: Path, model: str | None, count: int) -> tuple[float, float]:
    """Median wall time in seconds of our command line, and of a short script with the peer."""
    chosen = ["--model", model] if model else []
    command = [sys.executable, "-m", "napari_skinseg", "segment", str(work / "small.png"), *chosen, "--overwrite"]
    ours = [_timed(lambda: _run([*command, "--out", str(work / "cold")])) for _ in range(count)]
    script = [sys.executable, __file__, "child", "peer", str(work / "small.png")]
    peer = [_timed(lambda: _run(script)) for _ in range(count)]
    return statistics.median(ours), statistics.median(peer)


def _peak(work: Path, who: str, model: str | None) -> float:
    arguments = ["child", who, str(work / "large.npy"), *(["--model", model] if model else [])]
    return float(json.loads(_run([sys.executable, __file__, *arguments]).splitlines()[-1])["peak_mb"])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr or done.stdout}")
    return done.stdout


def peak_of_this_process() -> float:
    """Peak memory in bytes. On Linux from VmHWM, because `ru_maxrss` of a child includes memory of its parent."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _gallery(folder: Path, count: int, distinct: int) -> list[Path]:
    """Write `count` JPEGs of 600x450. Only `distinct` different phantoms are generated, to save time."""
    folder.mkdir()
    for number in range(count):
        path = folder / f"photo-{number:04}.jpg"
        if number < distinct:
            Image.fromarray(phantom(number, SMALL).image).save(path, quality=92)
        else:
            path.write_bytes((folder / f"photo-{number % distinct:04}.jpg").read_bytes())
    return sorted(folder.iterdir())


def _folder_rate(gallery: list[Path], out: Path, model: str | None) -> float:
    """Photos per second from JPEG files to PNG masks, with the function that `napari-skinseg segment` calls."""
    from napari_skinseg import Segmenter
    from napari_skinseg.batch.folder import segment_files

    segmenter = Segmenter(model)
    segmenter.segment(np.asarray(Image.open(gallery[0])))
    return len(gallery) / _timed(lambda: segment_files(gallery, out, segmenter))


def _peer_rate(gallery: list[Path], peer: Run, count: int) -> float:
    """Photos per second of the peer in a plain loop over the first `count` photos."""

    def loop() -> None:
        for path in gallery[:count]:
            Image.fromarray(peer(np.asarray(Image.open(path)))).save(path.with_suffix(".png"))

    return min(count, len(gallery)) / _timed(loop)


def machine() -> str:
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{cpu}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {versions}"


def load_warning() -> str:
    """Warning if other programs use the machine; empty if not, or if the system does not report its load."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return f" (load {load:.1f} at the start: other programs ran, do not use these numbers)" if load > 0.5 else ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    app()
