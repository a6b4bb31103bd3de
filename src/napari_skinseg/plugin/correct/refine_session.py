"""The clicks on one mask: their dots, and their steps to and fro together with the steps of the mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from napari.layers import Image, Labels, Points
from numpy.typing import NDArray

from napari_skinseg.models.guidance import Click
from napari_skinseg.plugin.layers import LayerPhoto, placement

from .mask_edit import Tile, write_tiles

_GREEN, _RED = (0.1, 0.9, 0.2), (1.0, 0.15, 0.1)
_SYMBOLS = {True: "disc", False: "x"}  # red and green alone are one colour to some
_ON_SCREEN = 13
"""Pixels of the screen, at any zoom."""

_ASKED = 0.45
"""Opacity of a dot whose click is not answered yet."""


class Dots:
    """Shows clicks in a layer of ours, which lies on the photo.

    From photo to photo it is emptied: napari takes a tenth of a second to make or remove a layer. It is never hidden,
    because napari 0.9.2 can crash after a hidden layer was removed (segmentation fault in OpenGL, seen with Mesa).
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self.layer: Points | None = None
        self._under: Image | None = None
        self._clicks: list[Click] = []

    @property
    def are_there(self) -> bool:
        """Whether the layer is in the viewer; a person may remove it."""
        return self.layer is not None and self.layer in self._viewer.layers

    def lie_on(self, photo: LayerPhoto, mask: Labels) -> None:
        """Have the layer where `photo` is, right above its `mask`, without dots."""
        if self.are_there and self._under is photo.layer:
            self.show(photo, [], [])
            return
        self.remove()
        source = self._under = photo.layer
        self.layer = Points(
            ndim=source.ndim,
            name="· clicks",
            size=max(photo.shape) / 20,  # always too large, so that the limit holds
            canvas_size_limits=(1, _ON_SCREEN),
            border_color="white",
            border_width=0.12,
            **placement(source),
        )
        self.layer.editable = False
        self._viewer.layers.insert(self._viewer.layers.index(mask) + 1, self.layer)

    def show(self, photo: LayerPhoto, answered: Sequence[Click], asked: Sequence[Click]) -> None:
        """Draw the clicks on `photo`: those that are `answered`, and fainter those that are only `asked`."""
        layer, clicks = self.layer, [*answered, *asked]
        if layer is None:
            return
        with layer.events.blocker_all():  # napari would draw after each line; new colours alone are drawn all the same
            if clicks != self._clicks:
                self._clicks = clicks
                places = [(*photo.plane, click.row, click.column) for click in clicks]
                layer.data = np.array(places).reshape(-1, layer.ndim)
                layer.symbol = [_SYMBOLS[click.include] for click in clicks] or "disc"
            if clicks:
                opacity = [1.0] * len(answered) + [_ASKED] * len(asked)
                colours = [_GREEN if click.include else _RED for click in clicks]
                layer.face_color = np.array([(*colour, alpha) for colour, alpha in zip(colours, opacity, strict=True)])
        if not clicks:
            layer.refresh()

    def remove(self) -> None:
        """Take the layer away."""
        layer, self.layer, self._under, self._clicks = self.layer, None, None, []
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)


@dataclass(frozen=True)
class _Step:
    """One thing that happened to the mask, or was to happen.

    Attributes:
        click: whose answer it is; None for a change that is none of ours.
        kind: "written" into the mask; "quiet", where the answer was the mask as it is; "asked", when it was taken back
            before the answer.
    """

    click: Click | None
    kind: Literal["written", "quiet", "asked"]


class Round:
    """The clicks on one mask, from the moment that Refine is on; what was drawn before is the mask to begin with.

    napari keeps the steps of the mask. Beside them this keeps which of them belong to a click, so that its dot goes and
    comes back with them.

    Attributes:
        photo: what was clicked on.
        labels: the layer of its mask.
        asked: the clicks that wait for an answer, oldest first.
    """

    def __init__(self, photo: LayerPhoto, labels: Labels, dots: Dots) -> None:
        self.photo, self.labels = photo, labels
        self.asked: list[Click] = []
        self._dots = dots
        self._done: list[_Step] = []
        self._undone: list[_Step] = []
        self._writing: Click | None = None
        labels.events.paint.connect(self._on_paint)
        labels.events.visible.connect(self.show)
        dots.lie_on(photo, labels)

    @property
    def answered(self) -> list[Click]:
        """The clicks that are in the mask, oldest first."""
        return [step.click for step in self._done if step.click is not None]

    @property
    def labels_now(self) -> NDArray[np.integer]:
        """The mask's labels `[H, W]` as they are now; not a copy."""
        return np.asarray(self.labels.data[self.photo.plane])

    def ask(self, click: Click) -> None:
        """Take a click in, to be answered after those before it; `show` draws its dot."""
        self._undone.clear()
        self.asked.append(click)

    def write(self, pieces: list[Tile]) -> None:
        """Write the answer to the click that was asked first, as one step."""
        click = self._writing = self.asked.pop(0)
        try:
            write_tiles(self.labels, pieces, self.photo.plane)
        finally:
            self._writing = None
        if not pieces:
            self._done.append(_Step(click, "quiet"))
        self.show()

    def drop(self) -> None:
        """Forget the click that was asked first."""
        self.asked.pop(0)
        self.show()

    def step_back(self) -> None:
        """Take back what happened last: a click with its change, a click alone, or a stroke."""
        if self.asked:
            self._undone.append(_Step(self.asked.pop(), "asked"))
        elif not self._done:  # a step from before this round
            if self._happens(self.labels.undo):
                self._undone.append(_Step(None, "written"))
        elif self._done[-1].kind == "quiet" or self._happens(self.labels.undo):
            self._undone.append(self._done.pop())
        self.show()

    def step_forward(self) -> None:
        """Make what was taken back last happen again; a click that had no answer yet is asked again."""
        if not self._undone:
            if not self._done:
                self.labels.redo()  # a step from before this round
        elif self._undone[-1].kind == "asked":
            click = self._undone.pop().click
            assert click is not None
            self.asked.append(click)
        elif self._undone[-1].kind == "quiet" or self._happens(self.labels.redo):
            self._done.append(self._undone.pop())
        self.show()

    def show(self) -> None:
        """Draw the dots; with the mask, they hide."""
        seen = self.labels.visible
        self._dots.show(self.photo, self.answered if seen else [], self.asked if seen else [])

    def end(self) -> None:
        """Leave the mask as it is; the dots go."""
        self.labels.events.paint.disconnect(self._on_paint)
        self.labels.events.visible.disconnect(self.show)
        self._dots.show(self.photo, [], [])

    def _on_paint(self) -> None:
        """A step more in napari's history: ours, or a person's."""
        if self._writing is None:
            self._undone.clear()
        self._done.append(_Step(self._writing, "written"))

    def _happens(self, step: Any) -> bool:
        """Do `step`; False if there was nothing to do."""
        before = np.array(self.labels.data)
        step()
        return not np.array_equal(before, self.labels.data)
