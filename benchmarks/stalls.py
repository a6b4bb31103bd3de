"""How long the window waits: the longest time between two turns of the event loop, and what ran meanwhile.

python benchmarks/stalls.py               # 600x450 and 4000x3000
"""

import faulthandler
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import napari
from cyclopts import App
from qtpy.QtCore import QCoreApplication, QTimer

from napari_skinseg.phantoms.phantom import phantom

app = App(help="Stalls of the window in the Segment tab.")


class StallWatcher:
    """Beats in the event loop; a thread looks at the stack of the GUI thread while a beat is late.

    Attributes:
        longest: seconds between two beats.
        busiest: most seconds that the GUI thread computed between two beats; other programs do not change it.
        where: how often the thread saw each place, as "innermost frame < innermost frame of napari_skinseg".
    """

    def __init__(self, late: float = 0.05) -> None:
        self.longest, self.busiest, self.where = 0.0, 0.0, Counter[str]()
        self._computed = time.thread_time()
        self._late, self._last, self._is_on = late, time.perf_counter(), True
        self._main = threading.main_thread().ident
        self._timer = QTimer(interval=5)
        self._timer.timeout.connect(self._beat)
        self._timer.start()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._beat()
        self._timer.stop()
        self._is_on = False
        self._thread.join()

    def _beat(self) -> None:
        now, computed = time.perf_counter(), time.thread_time()
        self.longest, self._last = max(self.longest, now - self._last), now
        self.busiest, self._computed = max(self.busiest, computed - self._computed), computed

    def _watch(self) -> None:
        while self._is_on:
            time.sleep(0.01)
            if time.perf_counter() - self._last > self._late:
                self.where[_place(sys._current_frames()[self._main or 0])] += 1


@contextmanager
def watch(what: str) -> Iterator[StallWatcher]:
    """Print the longest stall of a block and the three places seen most often."""
    watcher = StallWatcher()
    yield watcher
    watcher.stop()
    longest, busiest = 1000 * watcher.longest, 1000 * watcher.busiest
    print(f"{what}: longest stall {longest:.0f} ms, of which computing {busiest:.0f} ms", flush=True)
    for place, count in watcher.where.most_common(4):
        print(f"    {10 * count:5d} ms  {place}", flush=True)


def wait(until: Callable[[], bool], seconds: float = 120) -> None:
    end = time.perf_counter() + seconds
    while not until():
        if time.perf_counter() > end:
            raise TimeoutError("the window did not become idle")
        QCoreApplication.processEvents()
        time.sleep(0.001)


@app.default
def main(*, sizes: tuple[tuple[int, int], ...] = ((450, 600), (3000, 4000))) -> None:
    """Segment, slider, stroke and Refine on one generated photo of each size (height, width)."""
    viewer = napari.Viewer()
    viewer.window.resize(1366, 768)
    images = [phantom(3, size).image for size in sizes]
    start = time.perf_counter()
    with watch("widget opens"):
        _, widget = viewer.window.add_plugin_dock_widget("napari-skinseg")
        panel = widget.panels[0]
        wait(lambda: panel.device.text().startswith("Runs"))
    print(f"widget open to model ready: {time.perf_counter() - start:.2f} s")

    def idle() -> bool:
        return not panel._pause.isActive() and not panel._session.background.is_busy and panel._monitor.is_idle

    for (height, width), image in zip(sizes, images, strict=True):
        size = f"{width}x{height}"
        with watch(f"{size} photo added"):
            viewer.add_image(image, rgb=True, name=size)
            wait(idle)
        for turn in ("first", "second"):
            start = time.perf_counter()
            with watch(f"{size} {turn} Segment"):
                panel.segment_selected()
                wait(lambda: panel._run is None)
                shown = time.perf_counter() - start
                wait(idle)
            print(f"{size} {turn} Segment: {shown:.2f} s from click to outline")
        with watch(f"{size} slider"):
            panel.options.threshold.setValue(0.7)
            panel._pause.start()
            wait(idle)
        with watch(f"{size} stroke"):
            viewer.layers.selection.active.paint((height // 2, width // 2), 1)
            wait(idle)
        with watch(f"{size} Refine on and off"):
            panel.refine.switch(True)
            wait(idle)
            panel.refine.switch(False)
            wait(idle)
        viewer.layers.clear()
    widget.session.close()
    viewer.close()


def _place(frame: object) -> str:
    stack = traceback.extract_stack(frame)  # type: ignore[arg-type]
    ours = [line for line in stack if "napari_skinseg" in line.filename]
    own = f" < {Path(ours[-1].filename).stem}.{ours[-1].name}:{ours[-1].lineno}" if ours else ""
    return f"{Path(stack[-1].filename).stem}.{stack[-1].name}{own}"


if __name__ == "__main__":
    faulthandler.enable()  # a crash in OpenGL says where
    app()
