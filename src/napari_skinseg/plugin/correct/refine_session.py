"""The clicks of Refine on one mask: their markers, and undo and redo of clicks and strokes in one order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from napari.layers import Image, Labels, Points
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_skinseg.models.click_channels import Click
from napari_skinseg.plugin.layers import LayerPhoto, placement

from .mask_edit import Tile, write_tiles

_GREEN, _RED = (0.1, 0.9, 0.2), (1.0, 0.15, 0.1)
_SYMBOLS = {True: "disc", False: "x"}  # shapes differ too, for users who cannot tell red from green
_SCREEN_SIZE = 13
"""Size of a marker in pixels of the screen, at any zoom."""

_PENDING_OPACITY = 0.45


class ClickMarkers:
    """Shows clicks in a Points layer on the photo.

    The layer stays, without markers, when Refine is switched off, because napari takes up to a second to remove a layer
    (it collects garbage). The layer is removed after its photo, and never hidden: napari 0.9.2 can crash after a hidden
    layer was removed (segmentation fault in OpenGL, seen with Mesa).
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self.layer: Points | None = None
        self._photo_layer: Image | None = None
        self._clicks: list[Click] = []
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def is_in_viewer(self) -> bool:
        """Whether the layer exists and is in the viewer; a user may remove it."""
        return self.layer is not None and self.layer in self._viewer.layers

    def place_on(self, photo: LayerPhoto, mask: Labels) -> None:
        """Place the layer on `photo`, right above its `mask`, without markers."""
        if self.is_in_viewer and self._photo_layer is photo.layer:
            self.show(photo, [], [])
            return
        self.remove()
        self._photo_layer = photo.layer
        self.layer = Points(
            ndim=photo.layer.ndim,
            name="· clicks",
            size=max(photo.shape) / 20,  # always too large, so that the upper limit applies
            canvas_size_limits=(1, _SCREEN_SIZE),
            border_color="white",
            border_width=0.12,
            **placement(photo.layer),
        )
        self.layer.editable = False
        self._viewer.layers.insert(self._viewer.layers.index(mask) + 1, self.layer)

    def show(self, photo: LayerPhoto, answered: Sequence[Click], pending: Sequence[Click]) -> None:
        """Show the clicks on `photo`; `pending` clicks, which the model has not answered yet, are paler."""
        layer, clicks = self.layer, [*answered, *pending]
        if layer is None:
            return
        with layer.events.blocker_all():  # else napari redraws after each line; a new colour redraws in any case
            if clicks != self._clicks:
                self._clicks = clicks
                places = [(*photo.plane, click.row, click.column) for click in clicks]
                layer.data = np.array(places).reshape(-1, layer.ndim)
                layer.symbol = [_SYMBOLS[click.include] for click in clicks] or "disc"
            if clicks:
                opacity = [1.0] * len(answered) + [_PENDING_OPACITY] * len(pending)
                colours = [_GREEN if click.include else _RED for click in clicks]
                layer.face_color = np.array([(*colour, alpha) for colour, alpha in zip(colours, opacity, strict=True)])
        if not clicks:
            layer.refresh()

    def remove(self) -> None:
        """Remove the layer."""
        layer, self.layer, self._photo_layer, self._clicks = self.layer, None, None, []
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _on_removed(self, event: Any) -> None:
        if event.value is self._photo_layer:
            QTimer.singleShot(0, self.remove)  # later, because napari is still removing the photo


@dataclass(frozen=True)
class _Step:
    """One step of the mask's history during a session.

    Attributes:
        click: the click that the step answers; None for a change by the user's brush or another tool.
        kind: "written": the mask changed. "unchanged": the model's answer was the mask as it was. "pending": the click
            was undone before its answer.
    """

    click: Click | None
    kind: Literal["written", "unchanged", "pending"]


class RefineSession:
    """The clicks on one mask, from the moment that Refine is switched on; the session starts from the mask as it is.

    napari keeps the undo history of the mask. This object keeps which of those steps belong to a click, so that undo
    removes the click's marker together with its change, and redo restores both.

    Attributes:
        photo: the photo that the user clicks on.
        labels: the layer of its mask.
        pending: the clicks that have no answer yet, oldest first.
    """

    def __init__(self, photo: LayerPhoto, labels: Labels, markers: ClickMarkers) -> None:
        self.photo, self.labels = photo, labels
        self.pending: list[Click] = []
        self._markers = markers
        self._done: list[_Step] = []
        self._undone: list[_Step] = []
        self._writing: Click | None = None
        labels.events.paint.connect(self._on_paint)
        labels.events.visible.connect(self.show)
        markers.place_on(photo, labels)

    @property
    def answered(self) -> list[Click]:
        """The clicks whose answers are in the mask, oldest first."""
        return [step.click for step in self._done if step.click is not None]

    @property
    def current_labels(self) -> NDArray[np.integer]:
        """The mask's labels `[H, W]`; not a copy."""
        return np.asarray(self.labels.data[self.photo.plane])

    def add_click(self, click: Click) -> None:
        """Add a click to the end of `pending`; `show` shows its marker."""
        self._undone.clear()
        self.pending.append(click)

    def write_answer(self, tiles: list[Tile]) -> None:
        """Write the answer to the first pending click as one undoable step."""
        click = self._writing = self.pending.pop(0)
        try:
            write_tiles(self.labels, tiles, self.photo.plane)
        finally:
            self._writing = None
        if not tiles:
            self._done.append(_Step(click, "unchanged"))
        self.show()

    def drop_first_pending(self) -> None:
        """Remove the first pending click."""
        self.pending.pop(0)
        self.show()

    def undo(self) -> None:
        """Undo the last step: a click with its change, a click without a change, or a stroke."""
        if self.pending:
            self._undone.append(_Step(self.pending.pop(), "pending"))
        elif not self._done:  # a step from before this session
            if self._changes_mask(self.labels.undo):
                self._undone.append(_Step(None, "written"))
        elif self._done[-1].kind == "unchanged" or self._changes_mask(self.labels.undo):
            self._undone.append(self._done.pop())
        self.show()

    def redo(self) -> None:
        """Redo the last undone step; a click that had no answer becomes pending again."""
        if not self._undone:
            if not self._done:
                self.labels.redo()  # a step from before this session
        elif self._undone[-1].kind == "pending":
            click = self._undone.pop().click
            assert click is not None
            self.pending.append(click)
        elif self._undone[-1].kind == "unchanged" or self._changes_mask(self.labels.redo):
            self._done.append(self._undone.pop())
        self.show()

    def show(self) -> None:
        """Show the markers; they are hidden while the mask is hidden."""
        is_visible = self.labels.visible
        self._markers.show(self.photo, self.answered if is_visible else [], self.pending if is_visible else [])

    def close(self) -> None:
        """End the session: the mask stays, the markers disappear."""
        self.labels.events.paint.disconnect(self._on_paint)
        self.labels.events.visible.disconnect(self.show)
        self._markers.show(self.photo, [], [])

    def _on_paint(self) -> None:
        """Record a new step of napari's history: an answer, or a change by the user."""
        if self._writing is None:
            self._undone.clear()
        self._done.append(_Step(self._writing, "written"))

    def _changes_mask(self, action: Callable[[], object]) -> bool:
        """Call `action` and return whether the mask changed."""
        before = np.array(self.labels.data)
        action()
        return not np.array_equal(before, self.labels.data)
