"""The curve of a running fine-tuning: loss on the training photos and Dice on the held-out photos.

A worker plots it with matplotlib, so that the window does not freeze: the import takes a second, and each plot takes 20
to 60 ms, more while a network is trained.
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

_INTERVAL = 1000  # ms between two plots
_HEIGHT = 150
_MOST_POINTS = 200  # of the loss; more cannot be distinguished
_GRAY, _BLUE, _ORANGE = "#909090", "#4aa3df", "#e08a1e"  # readable in the dark and the light theme


@dataclass(frozen=True)
class CurvePoints:
    """The plotted values: (per cent of the run, loss), and by fold (per cent of the run, Dice, Dice of the base)."""

    losses: Sequence[tuple[float, float]]
    dices: Mapping[int, Sequence[tuple[float, float, float]]]


class LearningCurve(QLabel):
    """A plot of the whole run, fold by fold; hidden until there is a first plot."""

    def __init__(self, background: Background) -> None:
        super().__init__()
        self.setFixedHeight(_HEIGHT)
        self.setMinimumWidth(40)
        self.setToolTip(
            "Gray: the loss on the training photos.\n"
            "Blue: Dice on the held-out photos of each fold. Orange: Dice of the base on the same photos."
        )
        self.losses: list[tuple[float, float]] = []
        self.dices: dict[int, list[tuple[float, float, float]]] = {}
        self._plotter = LatestJob(background, "plotting the curve", self._on_plotted)
        self._timer = QTimer(self, singleShot=True, interval=_INTERVAL)
        self._timer.timeout.connect(self._plot)
        self.clear_points()

    def clear_points(self) -> None:
        """Remove the points of the last run, and hide the plot."""
        self.losses.clear()
        self.dices.clear()
        self._percent = 0.0
        self._timer.stop()
        self.hide()

    def add(self, event: Event) -> None:
        """Add a point: the loss of a "train" event, or the Dice of a "validated" event."""
        values = event.values
        if event.stage == "train" and event.total:
            self._percent = 100 * event.done / event.total
            self.losses.append((self._percent, values["loss"]))
        elif event.stage == "validated":
            self.dices.setdefault(int(values["fold"]), []).append((self._percent, values["dice"], values["base_dice"]))
        else:
            return
        self._plot_soon()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Plot again in the new width."""
        super().resizeEvent(event)
        if self.losses:
            self._plot_soon()

    def _plot_soon(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def _plot(self) -> None:
        points = CurvePoints(tuple(self.losses), {fold: tuple(values) for fold, values in self.dices.items()})
        # A widget that was never shown does not have its final width yet.
        width = self.width() if self.isVisible() else self.parentWidget().width() - 24
        ratio = self.devicePixelRatio()
        self._plotter.request(lambda report, cancel: plot_points(points, (max(200, width), _HEIGHT), ratio))

    def _on_plotted(self, outcome: Outcome) -> None:
        if outcome.state == "done" and self.losses:  # without points, another run has started
            self.setPixmap(QPixmap.fromImage(outcome.result))
            self.show()


def plot_points(points: CurvePoints, size: tuple[int, int], ratio: float) -> QImage:
    """Plot the curve, `size` = (width, height) in points, on a transparent background; for workers."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((size[0] / 100, size[1] / 100), dpi=100 * ratio, facecolor="none")
    canvas = FigureCanvasAgg(figure)
    loss, dice = _axes(figure)
    loss.plot(*_reduce(points.losses).T, color=_GRAY, linewidth=1)
    for found in points.dices.values():
        at, tuned, base = np.array(found).T
        dice.plot(at, base, color=_ORANGE, linewidth=1.2, linestyle="--")
        dice.plot(at, tuned, color=_BLUE, linewidth=1.5, marker=".", markersize=4)
    if not points.dices:
        dice.set_yticks([])  # an axis without values has a meaningless scale
    canvas.draw()
    pixels = np.ascontiguousarray(canvas.buffer_rgba())
    height, width = pixels.shape[:2]
    image = QImage(pixels.data, width, height, pixels.strides[0], QImage.Format.Format_RGBA8888).copy()
    image.setDevicePixelRatio(ratio)
    return image


def _axes(figure: Any) -> "tuple[Axes, Axes]":
    """Create axes for the loss (left) and Dice (right) over per cent of the run."""
    loss = figure.add_axes((0.12, 0.22, 0.75, 0.66))
    dice = loss.twinx()
    loss.set(xlim=(0, 100), xlabel="% of the run")
    loss.set_title("training loss", loc="left", color=_GRAY, fontsize=8, pad=3)
    loss.set_title("base", loc="center", color=_ORANGE, fontsize=8, pad=3)
    dice.set_title("held-out Dice", loc="right", color=_BLUE, fontsize=8, pad=3)
    for axes in (loss, dice):
        axes.patch.set_alpha(0)
        axes.tick_params(colors=_GRAY, labelsize=7, length=2)
        axes.locator_params(axis="y", nbins=4)
        axes.spines[:].set_color(_GRAY)
        axes.xaxis.label.set(color=_GRAY, fontsize=8)
    return loss, dice


def _reduce(points: Sequence[tuple[float, float]]) -> Any:
    """Return the points as `[N, 2]`; means of neighbouring points if there are too many."""
    if not points:
        return np.empty((0, 2))
    return np.array([part.mean(axis=0) for part in np.array_split(np.array(points), min(len(points), _MOST_POINTS))])
