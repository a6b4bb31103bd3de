"""Speed of a review with many photos, compared with the same work by hand in napari: prints one Markdown table.

    xvfb-run -a -s "-screen 0 1366x768x24" python benchmarks/review.py [--photos N] [--quick]

The real widget in a real window, with the default model. All photos are phantoms of 600x450. A few are generated and
saved many times, each time with other pixels in one corner, so that all files differ. The peer is the same work by hand
in napari: open the file, add a Labels layer, paint, save it (as TIFF, because napari cannot save labels as PNG), and
remove both layers.
"""

import gc
import itertools
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
import psutil
from cyclopts import App
from PIL import Image
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_skinseg.phantoms.phantom import phantom
from segment import load_warning

SHAPE = (450, 600)
GENERATED = 12
Row = tuple[str, str, str]

app = App(help="Time to open and step, memory and stalls of the Review tab.")


@app.default
def main(*, photos: int = 10_000, quick: bool = False) -> None:
    """Print the table; `quick` uses 60 photos and few repeats, to check the script."""
    photos, steps, seconds = (60, 40, 5.0) if quick else (photos, 500, 60.0)
    busy = load_warning()
    with tempfile.TemporaryDirectory() as folder:
        gallery = _gallery(Path(folder) / "photos", photos)
        bench = Bench()
        peer = bench.by_hand(sorted(gallery.glob("*.jpg"))[: 5 if quick else 30])
        rows: list[Row] = [(f"open {photos:,} photos, first time (scan)", _s(bench.open(gallery)), "-")]
        bench.close()
        again = bench.open(gallery, until_photo=True)
        rows.append(("open again, until the first photo is shown", _s(again), "-"))
        bench.settle()
        latencies = bench.step(min(steps, photos - 2))
        rows.append(("Next, prefetched photo: median", _ms(statistics.median(latencies)), "-"))
        rows.append(("Next, prefetched photo: 95th percentile", _ms(_p95(latencies)), "-"))
        corrected = bench.correct(20 if quick else 100)
        rows.append(
            (
                "paint, Accept, until everything is on disk: median",
                _ms(statistics.median(corrected)),
                _ms(statistics.median(peer)),
            )
        )
        learning = bench.step_while_learning(20 if quick else 100)
        rows.append(("Next while a model is fine-tuned: median", _ms(statistics.median(learning)), "-"))
        rows.append(("Next while a model is fine-tuned: 95th percentile", _ms(_p95(learning)), "-"))
        rows.append((f"growth of memory over {steps} Next", f"{bench.growth(steps):+.0f} MB", "-"))
        rows.append(("longest stall of the window during prediction", _ms(bench.stall(seconds)), "-"))
        rows.append(("longest stall when nothing runs", _ms(bench.stall(seconds, predict=False)), "-"))
        bench.end()
    print(f"{_machine()}{busy}\n")
    print(f"| measure{' (quick run: too few repeats)' * quick} | napari-skinseg | napari by hand |")
    print("|---|--:|--:|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


class Bench:
    """The widget in a window, with the Review tab selected."""

    def __init__(self) -> None:
        self.viewer = napari.Viewer()
        self.viewer.window.resize(1366, 768)
        _, self.widget = self.viewer.window.add_plugin_dock_widget("napari-skinseg")
        (self.tab,) = (panel for panel in self.widget.panels if panel.title == "Review")
        self.widget.tabs.setCurrentIndex(self.widget.panels.index(self.tab))

    def open(self, folder: Path, *, until_photo: bool = False) -> float:
        start = time.perf_counter()
        self.tab.open_folder(folder)
        self._until(lambda: self.tab.project is not None and self.tab.navigator.current.photo is not None)
        if not until_photo:
            self.settle()
        return time.perf_counter() - start

    def close(self) -> None:
        self.tab.close_project()
        self._until(lambda: self.tab.project is None)
        self.settle()

    def step(self, steps: int) -> list[float]:
        """Seconds from *Next* until the prefetched photo and its mask are shown."""
        taken = []
        for _ in range(steps):
            self.settle()
            start = time.perf_counter()
            self._go_on(self.tab.navigator.next)
            taken.append(time.perf_counter() - start)
        return taken

    def correct(self, steps: int) -> list[float]:
        """Seconds from a brush stroke until the stroke is on disk and the next photo is shown."""
        taken = []
        for step in range(steps):
            self.settle()
            start = time.perf_counter()
            self.tab.navigator.current.labels.paint((20 + step, 20), 1)
            self._go_on(self.tab.navigator.accept)
            taken.append(time.perf_counter() - start)
        return taken

    def step_while_learning(self, steps: int) -> list[float]:
        """Seconds of *Next* while a model is fine-tuned on the corrected photos; the person looks a second at each."""
        (tab,) = (panel for panel in self.widget.panels if panel.title == "Fine-tune")
        self.widget.tabs.setCurrentIndex(self.widget.panels.index(tab))
        self._until(lambda: tab._evidence is not None)
        tab.start()
        self.widget.tabs.setCurrentIndex(self.widget.panels.index(self.tab))
        self._until(lambda: tab._last_event is not None and tab._last_event.stage == "train")
        taken = []
        for _ in range(steps):
            taken += self.step(1)
            end = time.perf_counter() + 1
            self._until(lambda: time.perf_counter() > end)  # noqa: B023
        assert tab._run is not None, "the run ended too early"
        tab.cancel()
        self._until(lambda: tab._run is None)
        return taken

    def by_hand(self, files: list[Path]) -> list[float]:
        """Seconds for the same work with napari alone, without the time a person needs in its dialogs."""
        viewer, taken = self.viewer, []
        for file in files:
            start = time.perf_counter()
            viewer.open(file, plugin="napari")
            labels = viewer.add_labels(np.zeros(SHAPE, np.uint8))
            labels.paint((20, 20), 1)
            labels.save(str(file.with_suffix(".tif")), plugin="napari")
            viewer.layers.clear()
            QApplication.processEvents()
            taken.append(time.perf_counter() - start)
        for file in files:
            file.with_suffix(".tif").unlink()
        return taken

    def growth(self, steps: int) -> float:
        """Growth of memory in megabytes over `steps` *Next*, after a few to warm up."""
        process = psutil.Process()
        self.step(20)
        gc.collect()
        before = process.memory_info().rss
        self.step(steps)
        gc.collect()
        return (process.memory_info().rss - before) / 2**20

    def stall(self, seconds: float, *, predict: bool = True) -> float:
        """Longest time between two signals of a timer with an interval of 5 ms, while the model predicts photos."""
        self.settle()
        beats: list[float] = []
        timer = QTimer(interval=5)
        timer.timeout.connect(lambda: beats.append(time.perf_counter()))
        if predict:
            self.tab.predict_all()
        timer.start()
        self._until(lambda: bool(beats) and beats[-1] - beats[0] > seconds, seconds + 60)
        timer.stop()
        self.tab.cancel()
        self.settle()
        return max(later - earlier for earlier, later in itertools.pairwise(beats))

    def _go_on(self, action: Callable[[], None]) -> None:
        """Do what leads to another photo, and wait until that photo is shown."""
        navigator = self.tab.navigator
        before = navigator.photo
        action()
        self._until(lambda: navigator.current.photo is not None and navigator.photo != before)
        QApplication.processEvents()  # renders

    def settle(self) -> None:
        """Wait until everything is prefetched and saved."""
        self._until(self._is_idle)

    def end(self) -> None:
        self.close()
        self.widget.session.close()
        self.viewer.close()

    def _is_idle(self) -> bool:
        navigator = self.tab.navigator
        busy = (
            self.widget.session.background.is_busy or navigator.autosave._timer.isActive() or navigator._soon.isActive()
        )
        return not busy and self.tab._job is None and not navigator._is_leaving

    def _until(self, condition: Callable[[], Any], seconds: float = 300.0) -> None:
        end = time.perf_counter() + seconds
        while not condition():
            QApplication.processEvents()
            time.sleep(0.001)
            if time.perf_counter() > end:
                raise TimeoutError(f"condition not met after {seconds:.0f} s: {self.tab.message.text()}")


def _gallery(folder: Path, number: int) -> Path:
    folder.mkdir()
    generated = [phantom(seed, SHAPE, ("hair",) if seed % 2 else ()).image for seed in range(GENERATED)]
    for index in range(number):
        pixels = generated[index % GENERATED]
        pixels[:8, :8] = np.random.default_rng(index).integers(0, 255, 3, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"photo_{index:05d}.jpg", quality=90)
    return folder


def _p95(values: list[float]) -> float:
    return float(np.percentile(values, 95))


def _s(seconds: float) -> str:
    return f"{seconds:.2f} s"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def _machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{cpu}, {os.cpu_count()} cores, napari {napari.__version__}, Python {platform.python_version()}"


if __name__ == "__main__":
    app()
