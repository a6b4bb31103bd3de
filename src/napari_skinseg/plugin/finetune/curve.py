"""The live curve of a fine-tuning run: how the loss falls, and how Dice rises on photos that were not learned from.

matplotlib draws it in a worker: its import takes a second, and a drawing 20 to 60 ms, more while the network has the
processor; the window would stutter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtGui import QImage, QPixmap, QResizeEvent
from qtpy.QtWidgets import QLabel

from napari_skinseg.events import Event
from napari_skinseg.plugin.background import Background, LatestJob, Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PAUSE = 1000  # ms between two drawings
_HEIGHT = 150
_MOST = 200  # points of the loss; more cannot be told apart
_GRAY, _BLUE, _ORANGE = "#909090", "#4aa3df", "#e08a1e"  # legible on napari's dark and light


@dataclass(frozen=True)
class Points:
    """What is drawn: (per cent of the run, loss), and by fold (per cent of the run, Dice, the base model's Dice)."""

    losses: Sequence[tuple[float, float]]
    dices: Mapping[int, Sequence[tuple[float, float, float]]]


class Curve(QLabel):
    """Hidden until the first drawing. From left to right is the whole run, fold by fold."""

    def __init__(self, background: Background) -> None:
        super().__init__()
        self.setFixedHeight(_HEIGHT)
        self.setMinimumWidth(40)
        self.setToolTip(
            "Gray: the loss, on photos that are learned from.\n"
            "Blue: Dice on the photos held out from each fold. Orange: the base model on the same photos."
        )
        self.losses: list[tuple[float, float]] = []
        self.dices: dict[int, list[tuple[float, float, float]]] = {}
        self._drawer = LatestJob(background, "drawing the curve", self._on_drawn)
        self._pause = QTimer(self, singleShot=True, interval=_PAUSE)
        self._pause.timeout.connect(self._draw)
        self.clear_points()

    def clear_points(self) -> None:
        """Forget the last run."""
        self.losses.clear()
        self.dices.clear()
        self._now = 0.0
        self._pause.stop()
        self.hide()

    def add(self, event: Event) -> None:
        """Take a point: of the loss from "train", of Dice from "validated"."""
        values = event.values
        if event.stage == "train" and event.total:
            self._now = 100 * event.done / event.total
            self.losses.append((self._now, values["loss"]))
        elif event.stage == "validated":
            self.dices.setdefault(int(values["fold"]), []).append((self._now, values["dice"], values["base_dice"]))
        else:
            return
        self._draw_soon()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Draw as wide as there is place."""
        super().resizeEvent(event)
        if self.losses:
            self._draw_soon()

    def _draw_soon(self) -> None:
        if not self._pause.isActive():
            self._pause.start()

    def _draw(self) -> None:
        points = Points(tuple(self.losses), {fold: tuple(found) for fold, found in self.dices.items()})
        # Before it is first shown it has no width of its own.
        width = self.width() if self.isVisible() else self.parentWidget().width() - 24
        ratio = self.devicePixelRatio()
        self._drawer.request(lambda report, cancel: drawn(points, (max(200, width), _HEIGHT), ratio))

    def _on_drawn(self, outcome: Outcome) -> None:
        if outcome.state == "done" and self.losses:  # else another run has begun
            self.setPixmap(QPixmap.fromImage(outcome.result))
            self.show()


def drawn(points: Points, size: tuple[int, int], ratio: float) -> QImage:
    """The curve, `size` (width, height) points large, on nothing; for workers."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((size[0] / 100, size[1] / 100), dpi=100 * ratio, facecolor="none")
    canvas = FigureCanvasAgg(figure)
    loss, dice = _axes(figure)
    loss.plot(*_thinned(points.losses).T, color=_GRAY, linewidth=1)
    for found in points.dices.values():
        at, tuned, base = np.array(found).T
        dice.plot(at, base, color=_ORANGE, linewidth=1.2, linestyle="--")
        dice.plot(at, tuned, color=_BLUE, linewidth=1.5, marker=".", markersize=4)
    canvas.draw()
    pixels = np.ascontiguousarray(canvas.buffer_rgba())
    height, width = pixels.shape[:2]
    image = QImage(pixels.data, width, height, pixels.strides[0], QImage.Format.Format_RGBA8888).copy()
    image.setDevicePixelRatio(ratio)
    return image


def _axes(figure: Any) -> "tuple[Axes, Axes]":
    """Axes for the loss (left) and Dice (right) over per cent of the run."""
    loss = figure.add_axes((0.12, 0.22, 0.75, 0.66))
    dice = loss.twinx()
    loss.set(xlim=(0, 100), xlabel="% of the run")
    loss.set_title("loss", loc="left", color=_GRAY, fontsize=8, pad=3)
    loss.set_title("base", loc="center", color=_ORANGE, fontsize=8, pad=3)
    dice.set_title("Dice held out", loc="right", color=_BLUE, fontsize=8, pad=3)
    for axes in (loss, dice):
        axes.patch.set_alpha(0)
        axes.tick_params(colors=_GRAY, labelsize=7, length=2)
        axes.locator_params(axis="y", nbins=4)
        axes.spines[:].set_color(_GRAY)
        axes.xaxis.label.set(color=_GRAY, fontsize=8)
    return loss, dice


def _thinned(points: Sequence[tuple[float, float]]) -> Any:
    """`[N, 2]`, means of neighbours where there are too many."""
    if not points:
        return np.empty((0, 2))
    return np.array([part.mean(axis=0) for part in np.array_split(np.array(points), min(len(points), _MOST))])
