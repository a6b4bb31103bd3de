"""How long the window waits: the longest time between two turns of the event loop, and what ran meanwhile.

python benchmarks/stalls.py               # 600x450 and 4000x3000
"""

import faulthandler
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import napari
from cyclopts import App
from PIL import Image
from qtpy.QtCore import QCoreApplication, QEvent, QTimer

from napari_skinseg.phantoms.phantom import phantom

app = App(help="Stalls of the window in the Segment tab.")


class StallWatcher:
    """Beats in the event loop; a thread looks at the stack of the GUI thread while a beat is late.

    Attributes:
        longest: seconds between two beats.
        busiest: most seconds that the GUI thread computed between two beats; other programs do not change it.
        where: what the thread saw between these two beats: how often each place, as "innermost function < innermost
            function of napari_skinseg", and whether napari, vispy or Qt was at work there.
    """

    def __init__(self, late: float = 0.03) -> None:
        self.longest, self.busiest = 0.0, 0.0
        self.where: Counter[tuple[str, bool]] = Counter()
        self._seen: list[tuple[str, bool]] = []
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

    @property
    def share_of_napari(self) -> float:
        """The part of the busiest time in which napari, vispy or Qt was at work, at most 1."""
        return sum(count for (_, is_napari), count in self.where.items() if is_napari) / max(1, self.where.total())

    def _beat(self) -> None:
        now, computed = time.perf_counter(), time.thread_time()
        seen, self._seen = self._seen, []
        if computed - self._computed > self.busiest:
            self.busiest, self.where = computed - self._computed, Counter(seen)
        self.longest = max(self.longest, now - self._last)
        self._last, self._computed = now, computed

    def _watch(self) -> None:
        while self._is_on:
            time.sleep(0.005)
            if time.perf_counter() - self._last > self._late:
                self._seen.append(_place(_stack(self._main or 0)))


@contextmanager
def watch(what: str) -> Iterator[StallWatcher]:
    """Print the longest stall of a block, whose work it was, and the places seen most often."""
    watcher = StallWatcher()
    yield watcher
    watcher.stop()
    longest, busiest, share = 1000 * watcher.longest, 1000 * watcher.busiest, watcher.share_of_napari
    parts = f"napari, vispy, Qt {busiest * share:.0f} ms, others {busiest * (1 - share):.0f} ms"
    print(f"{what}: longest stall {longest:.0f} ms, computing {busiest:.0f} ms ({parts})", flush=True)
    for (place, _), count in watcher.where.most_common(3):
        print(f"    {100 * count / watcher.where.total():3.0f} %  {place}", flush=True)


def wait(until: Callable[[], bool], seconds: float = 120) -> None:
    end = time.perf_counter() + seconds
    while not until():
        if time.perf_counter() > end:
            raise TimeoutError("the window did not become idle")
        QCoreApplication.processEvents()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)  # as Qt's event loop does
        time.sleep(0.001)


@app.default
def main(*, sizes: tuple[tuple[int, int], ...] = ((450, 600), (3000, 4000))) -> None:
    """Segment, slider, stroke and Refine on one generated photo of each size (height, width); Review; Fine-tune."""
    viewer = napari.Viewer()
    viewer.window.resize(1366, 768)
    images = [phantom(3, size).image for size in sizes]
    start = time.perf_counter()
    with watch("widget opens"):
        _, widget = viewer.window.add_plugin_dock_widget("napari-skinseg")
        panel = widget.panels[0]
        wait(lambda: panel.device.text().startswith("Runs"))
    print(f"widget open to model ready: {time.perf_counter() - start:.2f} s")
    with watch("preparing the first photo"):
        wait(lambda: not panel._session.background.is_busy)

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
    with tempfile.TemporaryDirectory() as folder:
        _review_and_finetune(widget, Path(folder))
    widget.session.close()
    viewer.close()


def _review_and_finetune(widget: Any, folder: Path) -> None:
    """Open six photos of 600x450 in Review, go from one to the next, use Refine, and open Fine-tune."""
    for number in range(6):
        Image.fromarray(phantom(number, (450, 600)).image).save(folder / f"{number}.png")
    review = widget.panels[1]
    navigator, session = review.navigator, widget.session

    def idle() -> bool:
        timers = (navigator.autosave._timer, navigator._soon)
        is_busy = session.background.is_busy or session.training.is_busy or navigator._is_leaving
        return not is_busy and not any(timer.isActive() for timer in timers)

    with watch("Review opens a folder"):
        widget.tabs.setCurrentIndex(1)
        review.open_folder(folder)
        wait(lambda: navigator.current.photo is not None)
        wait(idle)
    for turn in ("first", "second", "third"):
        with watch(f"Review {turn} Next"):
            start, before = time.perf_counter(), navigator.photo
            navigator.next()
            wait(partial(_is_other_photo, navigator, before))
            shown = time.perf_counter() - start
            wait(idle)
        print(f"Review {turn} Next: {1000 * shown:.0f} ms to the photo")
    with watch("Review accept"):
        navigator.accept()
        wait(idle)
    for turn in ("first", "second"):
        with watch(f"Review {turn} Refine on"):
            review.tools.refine.switch(True)
            wait(idle)
        with watch(f"Review {turn} Refine off"):
            review.tools.refine.switch(False)
            wait(idle)
    with watch("Fine-tune opens"):
        widget.tabs.setCurrentIndex(2)
        wait(idle)
    widget.tabs.setCurrentIndex(1)
    review.close_project()
    wait(lambda: review.project is None and idle())


def _is_other_photo(navigator: Any, before: str) -> bool:
    return navigator.current.photo is not None and navigator.current.photo.id != before


def _stack(thread: int) -> list[tuple[str, str, int | None]]:
    """Return file, function and line of each frame of a thread, the innermost first.

    This lets go of each frame at once: a held frame of a paint event keeps its painter alive, and Qt crashes.
    """
    frame, stack = sys._current_frames().get(thread), []
    while frame is not None:
        stack.append((frame.f_code.co_filename, frame.f_code.co_name, frame.f_lineno))
        frame = frame.f_back
    return stack


def _place(stack: list[tuple[str, str, int | None]]) -> tuple[str, bool]:
    """Return where the GUI thread is, and whether napari, vispy or Qt's event loop is at work and not this package."""
    packages = [
        next((name for name in ("napari_skinseg", "site-packages/napari/", "vispy") if name in file), "")
        for file, _, _ in stack
    ]
    names = [f"{Path(file).stem}.{function}" for file, function, _ in stack]
    known = [package for package in packages if package]
    own = packages.index("napari_skinseg") if "napari_skinseg" in packages else None
    inner = "" if own is None else f" < {names[own]}:{stack[own][2]}"
    return f"{names[0] if names else ''}{inner}", not known or known[0] != "napari_skinseg"


if __name__ == "__main__":
    faulthandler.enable()  # a crash in OpenGL says where
    app()
