"""Random actions in a real window: an exception, a Qt warning or growing memory ends with exit code 1.

xvfb-run -a python benchmarks/soak.py --minutes 20 --seed 1
"""

import ctypes
import faulthandler
import gc
import logging
import random
import statistics
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import psutil
from cyclopts import App
from napari._qt.dialogs.qt_notification import NapariQtNotification
from napari.utils.notifications import NotificationSeverity, notification_manager
from PIL import Image
from qtpy.QtCore import QCoreApplication, QEvent, QPoint, Qt, QtMsgType, qInstallMessageHandler
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QApplication, QFileDialog, QMessageBox

from napari_skinseg.phantoms.phantom import phantom

RESTS = 20
"""How often all photos are closed and the memory is measured: open photos take memory, about 6 MB each."""
GROWTH = 60
"""MB that memory may grow from the second to the last quarter of the time."""

app = App(help="Random actions in a real window.")


class Soak:
    """One window, and the actions on it."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random, self.folder = random.Random(seed), folder
        self.problems: list[str] = []
        self.counts: dict[str, int] = {}
        self.photos = [phantom(number, size).image for number, size in enumerate([(300, 400), (450, 600), (600, 450)])]
        (folder / "photos").mkdir()
        for number, image in enumerate(self.photos * 2):
            Image.fromarray(image).save(folder / "photos" / f"{number}.png")
        self._catch()
        # What the first fine-tuning imports is no growth, so it is imported before.
        import napari_skinseg.finetuning.replay
        import napari_skinseg.finetuning.run
        import napari_skinseg.training.loop  # noqa: F401

        self.viewer = napari.Viewer(show_welcome_screen=False)
        self.viewer.window.resize(1366, 768)
        self.window = self.viewer.window._qt_window
        _, self.widget = self.viewer.window.add_plugin_dock_widget("napari-skinseg")
        self.canvas = self.viewer.window._qt_viewer.canvas.native
        self.actions: list[tuple[int, Callable[[], object]]] = [
            (6, self.press_button),
            (3, self.choose_tab),
            (4, self.drag),
            (4, self.click_photo),
            (4, self.press_key),
            (3, self.undo),
            (2, self.add_photo),
            (2, self.remove_layer),
            (2, self.choose_layer),
            (2, self.move_slider),
            (1, self.change_theme),
            (1, self.resize),
            (1, self.hide_layer),
        ]

    def step(self) -> None:
        (action,) = self.random.choices([call for _, call in self.actions], [weight for weight, _ in self.actions])
        self.counts[action.__name__] = self.counts.get(action.__name__, 0) + 1
        self.last = action.__name__
        action()
        end = time.perf_counter() + self.random.choice((0.0, 0.02, 0.3))
        _process_events()
        while time.perf_counter() < end:
            _process_events()
            time.sleep(0.005)

    def press_button(self) -> None:
        panel = self.widget.panels[self.widget.tabs.currentIndex()]
        buttons = [
            button
            for button in (*panel.findChildren(QAbstractButton), *self.widget.tour.findChildren(QAbstractButton))
            if button.isVisible() and button.isEnabled() and not getattr(button, "menu", lambda: None)()
        ]
        if buttons:
            button = self.random.choice(buttons)
            self.last = f"press {button.text()!r}"
            QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    def choose_tab(self) -> None:
        # Less often Fine-tune: a training uses both cores.
        self.widget.tabs.setCurrentIndex(self.random.choice((0, 0, 0, 1, 1, 2)))

    def drag(self) -> None:
        layer = self.viewer.layers.selection.active
        if isinstance(layer, napari.layers.Labels) and layer.editable:
            layer.mode = self.random.choice(("paint", "erase", "pan_zoom"))
        start, end = self._point(), self._point()
        QTest.mousePress(self.canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, start)
        for share in (0.3, 0.6, 1.0):
            between = start + (end - start) * share
            QTest.mouseMove(self.canvas, QPoint(round(between.x()), round(between.y())))
        QTest.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, end)
        self._move_mouse()

    def click_photo(self) -> None:
        button = self.random.choice((Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton))
        QTest.mouseClick(self.canvas, button, Qt.KeyboardModifier.NoModifier, self._point())
        self._move_mouse()

    def _move_mouse(self) -> None:
        """Move the mouse without a button, as every person does between two strokes: until then, vispy keeps all its
        mouse events."""
        QTest.mouseMove(self.canvas, self._point())

    def press_key(self) -> None:
        self.canvas.setFocus()
        key = self.random.choice("KWNQHJG,.PE")
        self.last = f"key {key}"
        QTest.keyClick(
            self.canvas,
            key,
            self.random.choice((Qt.KeyboardModifier.NoModifier,) * 3 + (Qt.KeyboardModifier.ShiftModifier,)),
        )

    def undo(self) -> None:
        modifiers = Qt.KeyboardModifier.ControlModifier
        if self.random.random() < 0.3:
            modifiers |= Qt.KeyboardModifier.ShiftModifier
        QTest.keyClick(self.canvas, Qt.Key.Key_Z, modifiers)

    def add_photo(self) -> None:
        photos = [layer for layer in self.viewer.layers if isinstance(layer, napari.layers.Image)]
        if len(photos) < 4:
            number = self.random.randrange(len(self.photos))
            self.viewer.add_image(self.photos[number], rgb=True, name=f"photo {number}")

    def remove_layer(self) -> None:
        if len(self.viewer.layers) > 1:
            self.viewer.layers.remove(self.random.choice(list(self.viewer.layers)))

    def choose_layer(self) -> None:
        if self.viewer.layers:
            self.viewer.layers.selection.active = self.random.choice(list(self.viewer.layers))

    def hide_layer(self) -> None:
        if self.viewer.layers:
            layer = self.random.choice(list(self.viewer.layers))
            layer.visible = not layer.visible

    def move_slider(self) -> None:
        self.widget.panels[0].options.threshold.setValue(self.random.uniform(0.1, 0.9))

    def change_theme(self) -> None:
        self.viewer.theme = self.random.choice(("dark", "light"))

    def resize(self) -> None:
        self.window.resize(*self.random.choice(((1366, 768), (1000, 700), (1280, 900))))

    def rest(self) -> None:
        """Close the project, all layers and all notifications, and wait for the workers; a training goes on.

        napari starts the timer that closes a notification only in an active window, and without a window manager no
        window is active.
        """
        self.widget.panels[1].close_project()
        end = time.monotonic() + 30
        while time.monotonic() < end and (self.widget.panels[1].project or self.widget.session.background.is_busy):
            _process_events()
            time.sleep(0.005)
        self.viewer.layers.clear()
        for notification in list(NapariQtNotification._instances):
            notification.close()
        _process_events()

    def close(self) -> None:
        QMessageBox.question = lambda *arguments, **options: QMessageBox.StandardButton.Discard
        self.widget.session.close()
        self.viewer.close()
        QCoreApplication.processEvents()

    def _point(self) -> QPoint:
        area = self.canvas.rect()
        return QPoint(self.random.randint(5, area.width() - 5), self.random.randint(5, area.height() - 5))

    def _catch(self) -> None:
        """Note every exception and every warning of Qt, and answer every dialog."""
        sys.excepthook = lambda kind, error, trace: self._note("".join(traceback.format_exception(kind, error, trace)))
        notification_manager.notification_ready.connect(self._on_notification)
        qInstallMessageHandler(self._on_qt)
        logging.getLogger("napari_skinseg").addHandler(_Handler(self._note))
        number = iter(range(10**9))
        QFileDialog.getSaveFileName = lambda *a, **k: (str(self.folder / f"mask-{next(number) % 5}.png"), "")
        QFileDialog.getExistingDirectory = lambda *a, **k: str(self.folder / "photos")
        QFileDialog.getOpenFileName = lambda *a, **k: ("", "")

        def question(*arguments: Any, **options: Any) -> Any:
            allowed = (
                arguments[3] if len(arguments) > 3 else QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No
            )
            return self.random.choice(
                [button for button in QMessageBox.StandardButton if button & allowed and button.value]
            )

        for name in ("question", "critical", "warning", "information"):
            setattr(QMessageBox, name, question)
        QMessageBox.exec = lambda box: None

    def _on_notification(self, notification: Any) -> None:
        if notification.severity >= NotificationSeverity.ERROR:
            self._note(str(notification))

    def _on_qt(self, kind: QtMsgType, context: Any, message: str) -> None:
        if kind != QtMsgType.QtDebugMsg:
            self._note(f"Qt: {message}")

    def _note(self, problem: str) -> None:
        self.problems.append(f"after {getattr(self, 'last', 'start')}: {problem}")
        print(self.problems[-1], flush=True)


def _process_events() -> None:
    """Process events as Qt's event loop does: `processEvents` alone never deletes what waits for `deleteLater`."""
    QCoreApplication.processEvents()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def _memory() -> float:
    """Return the memory of this process in MB, without what the C library keeps for later (glibc)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
    return psutil.Process().memory_info().rss / 2**20


class _Handler(logging.Handler):
    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        self._note(self.format(record))


@app.default
def main(*, minutes: float = 20.0, seed: int = 0) -> None:
    """Print the number of actions, the memory at rest in each part of the time, and what went wrong."""
    memory: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(seed, Path(folder))
        start, steps = time.monotonic(), 0
        while (passed := time.monotonic() - start) < 60 * minutes:
            soak.step()
            steps += 1
            if passed > (len(memory) + 1) * 60 * minutes / RESTS:
                soak.rest()
                memory.append((passed, _memory()))
            if steps % 10 == 0:
                for widget in QApplication.topLevelWidgets():
                    if widget.isModal() and widget.isVisible():
                        soak._note(f"a dialog stayed open: {widget.windowTitle()}")
                        widget.close()
        windows = Counter(type(widget).__name__ for widget in QApplication.topLevelWidgets())
        soak.close()
    quarters = [
        [size for passed, size in memory if part / 4 <= passed / (60 * minutes) < (part + 1) / 4] for part in range(4)
    ]
    medians = [statistics.median(sizes) if sizes else float("nan") for sizes in quarters]
    print(f"{steps} actions in {minutes} minutes (seed {seed}): {soak.counts}")
    print(f"top-level widgets at the end: {dict(windows.most_common(12))}")
    print("memory at rest by quarter, MB: " + ", ".join(f"{median:.0f}" for median in medians))
    if medians[3] - medians[1] > GROWTH:
        soak.problems.append(f"memory grew by {medians[3] - medians[1]:.0f} MB")
    print(f"{len(soak.problems)} problems")
    for problem in dict.fromkeys(soak.problems):
        print(problem)
    sys.exit(bool(soak.problems))


if __name__ == "__main__":
    faulthandler.enable()  # a crash in OpenGL says where
    app()
