"""The clicks and boxes of Refine on one mask: their markers, and undo and redo of prompts and strokes in one order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from napari.layers import Labels, Points
from numpy.typing import NDArray
from qtpy.QtWidgets import QApplication

from napari_skinseg.models.click_channels import Click
from napari_skinseg.plugin.layers import LayerPhoto, placement
from napari_skinseg.plugin.mask_layers import undo_or_redo
from napari_skinseg.segmentation.box import Box

from .mask_edit import Tile, lesion_label, write_tiles
from .tool_layer import ToolLayer

Prompt = Click | Box
"""What the user gives to the model."""

_GREEN, _RED, _YELLOW = (0.1, 0.9, 0.2), (1.0, 0.15, 0.1), (1.0, 0.9, 0.1)
_SCREEN_SIZE = 13
"""Size of a marker at any zoom, in the pixels in which Qt measures widgets; a dense screen has more."""

_PENDING_OPACITY = 0.45

_DOTS = 24
"""Dots on each side of a box."""


class PromptMarkers:
    """Shows clicks, and boxes as dotted lines, in a Points layer on the photo."""

    def __init__(self, viewer: Any) -> None:
        self.on_photo = ToolLayer(viewer, _make_points)
        self._prompts: list[Prompt] = []

    def show(self, photo: LayerPhoto, answered: Sequence[Prompt], pending: Sequence[Prompt]) -> None:
        """Show the prompts on `photo`; `pending` ones, which the model has not answered yet, are paler."""
        layer, prompts = self.on_photo.layer, [*answered, *pending]
        if layer is None:
            return
        markers = [_markers_of(prompt) for prompt in prompts]
        with layer.events.blocker_all():  # else napari redraws after each line; a new colour redraws in any case
            if prompts != self._prompts or len(layer.data) == 0:
                self._prompts = prompts
                places = np.concatenate([np.zeros((0, 2)), *(marker.places for marker in markers)])
                planes = np.tile(np.array(photo.plane, float), (len(places), 1))
                layer.data = np.concatenate([planes, places], axis=1)
                layer.symbol = [marker.symbol for marker in markers for _ in marker.places] or "disc"
                layer.size = [marker.size * max(photo.shape) for marker in markers for _ in marker.places] or 1
            if prompts:
                opacity = [1.0] * len(answered) + [_PENDING_OPACITY] * len(pending)
                layer.face_color = np.concatenate(
                    [
                        np.tile((*marker.colour, alpha), (len(marker.places), 1))
                        for marker, alpha in zip(markers, opacity, strict=True)
                    ]
                )
        if not prompts:
            layer.refresh()


def _make_points(photo: LayerPhoto) -> Points:
    points = Points(
        ndim=photo.layer.ndim,
        name="· clicks",
        canvas_size_limits=(1, _SCREEN_SIZE * QApplication.instance().devicePixelRatio()),
        border_color="white",
        border_width=0.12,
        **placement(photo.layer),
    )
    points.editable = False
    return points


@dataclass(frozen=True)
class _Marker:
    """How a prompt is shown: `places` `[N, 2]` in pixels of the photo; `size` as a share of the photo's longer side."""

    places: NDArray[np.float64]
    symbol: str
    colour: tuple[float, float, float]
    size: float


def _markers_of(prompt: Prompt) -> _Marker:
    if isinstance(prompt, Click):
        # The symbols differ too, for users who cannot tell red from green. The upper limit of the size applies always.
        symbol, colour = ("disc", _GREEN) if prompt.include else ("x", _RED)
        return _Marker(np.array([[prompt.row, prompt.column]]), symbol, colour, 1 / 20)
    rows, columns = (
        np.linspace(*ends, _DOTS) for ends in ((prompt.row, prompt.other_row), (prompt.column, prompt.other_column))
    )
    sides = [np.stack([rows, np.full(_DOTS, column)], axis=1) for column in (prompt.column, prompt.other_column)]
    sides += [np.stack([np.full(_DOTS, row), columns], axis=1) for row in (prompt.row, prompt.other_row)]
    return _Marker(np.concatenate(sides), "disc", _YELLOW, 1 / 150)


@dataclass(frozen=True)
class _Step:
    """One step of the mask's history during a session.

    Attributes:
        prompt: the prompt that the step answers; None for a change by the user's brush or another tool.
        kind: "written": the mask changed. "unchanged": the model's answer was the mask as it was. "pending": the prompt
            was undone before its answer.
    """

    prompt: Prompt | None
    kind: Literal["written", "unchanged", "pending"]


class RefineSession:
    """The prompts on one lesion, from the moment that Refine is switched on; the session starts from the mask as it is.

    napari keeps the undo history of the mask. This object keeps which of those steps belong to a prompt, so that undo
    removes the prompt's marker together with its change, and redo restores both.

    Attributes:
        photo: the photo that the user clicks on.
        labels: the layer of its mask.
        label: the label of the lesion that is refined.
        pending: the prompts that have no answer yet, oldest first.
    """

    def __init__(self, photo: LayerPhoto, labels: Labels, markers: PromptMarkers) -> None:
        self.photo, self.labels = photo, labels
        self.label = lesion_label(labels)
        self.pending: list[Prompt] = []
        self._markers = markers
        self._done: list[_Step] = []
        self._undone: list[_Step] = []
        self._writing: Prompt | None = None
        labels.events.paint.connect(self._on_paint)
        labels.events.visible.connect(self._on_visible)
        markers.on_photo.place_on(photo, labels)
        self.show()

    @property
    def answered(self) -> list[Prompt]:
        """The prompts whose answers are in the mask, oldest first."""
        return [step.prompt for step in self._done if step.prompt is not None]

    @property
    def clicks(self) -> list[Click]:
        """The answered clicks since the last box, oldest first, because a box replaces the lesion."""
        clicks: list[Click] = []
        for prompt in self.answered:
            clicks = [*clicks, prompt] if isinstance(prompt, Click) else []
        return clicks

    @property
    def current_labels(self) -> NDArray[np.integer]:
        """The mask's labels `[H, W]`; not a copy."""
        return np.asarray(self.labels.data[self.photo.plane])

    def add(self, prompt: Prompt) -> None:
        """Add a prompt to the end of `pending`; `show` shows its marker."""
        self._undone.clear()
        self.pending.append(prompt)

    def write_answer(self, tiles: list[Tile]) -> None:
        """Write the answer to the first pending prompt as one undoable step."""
        prompt = self._writing = self.pending.pop(0)
        try:
            write_tiles(self.labels, tiles, self.photo.plane)
        finally:
            self._writing = None
        if not tiles:
            self._done.append(_Step(prompt, "unchanged"))
        self.show()

    def drop_first_pending(self) -> None:
        """Remove the first pending prompt."""
        self.pending.pop(0)
        self.show()

    def undo(self) -> None:
        """Undo the last step: a prompt with its change, a prompt without a change, or a stroke."""
        if self.pending:
            self._undone.append(_Step(self.pending.pop(), "pending"))
        elif not self._done:  # a step from before this session
            if self._changes_mask():
                self._undone.append(_Step(None, "written"))
        elif self._done[-1].kind == "unchanged" or self._changes_mask():
            self._undone.append(self._done.pop())
        self.show()

    def redo(self) -> None:
        """Redo the last undone step; a prompt that had no answer becomes pending again."""
        if not self._undone:
            if not self._done:
                undo_or_redo(self.labels, redo=True)  # a step from before this session
        elif self._undone[-1].kind == "pending":
            prompt = self._undone.pop().prompt
            assert prompt is not None
            self.pending.append(prompt)
        elif self._undone[-1].kind == "unchanged" or self._changes_mask(redo=True):
            self._done.append(self._undone.pop())
        self.show()

    def show(self, *, unfinished: Sequence[Box] = ()) -> None:
        """Show the markers, and an `unfinished` box that the user drags; all are hidden while the mask is hidden."""
        is_visible = self.labels.visible
        pending = [*self.pending, *unfinished]
        self._markers.show(self.photo, self.answered if is_visible else [], pending if is_visible else [])

    def close(self) -> None:
        """End the session: the mask stays, the markers disappear."""
        self.labels.events.paint.disconnect(self._on_paint)
        self.labels.events.visible.disconnect(self._on_visible)
        self._markers.show(self.photo, [], [])

    def _on_visible(self) -> None:
        self.show()

    def _on_paint(self) -> None:
        """Record a new step of napari's history: an answer, or a change by the user."""
        if self._writing is None:
            self._undone.clear()
        self._done.append(_Step(self._writing, "written"))

    def _changes_mask(self, *, redo: bool = False) -> bool:
        """Undo or redo one step of napari's history and return whether the mask changed."""
        before = np.array(self.labels.data)
        undo_or_redo(self.labels, redo=redo)
        return not np.array_equal(before, self.labels.data)
