"""The Outline tool: the user drags the corners of the lesion's outline, and the mask follows."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Labels, Shapes
from qtpy.QtCore import QTimer
from qtpy.QtGui import QHideEvent
from qtpy.QtWidgets import QPushButton

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels.polygons import Polygon, changed_window, mask_to_polygons, polygons_to_mask
from napari_skinseg.plugin.background import Outcome
from napari_skinseg.plugin.keys import preferred_keys
from napari_skinseg.plugin.layers import LayerPhoto, placement
from napari_skinseg.plugin.mask_layers import UNDO_KEYS, mask_checksum, undo_or_redo
from napari_skinseg.plugin.session import Session, report_failure

from .mask_edit import changed_tiles, lesion_label, write_tiles
from .tool_layer import ToolLayer


class OutlineTool(QPushButton):
    """The Outline button. While it is on, the outline of one lesion is a polygon in a Shapes layer.

    Each drag changes the mask at once, in one undoable step, and only where the polygon moved. So nothing is lost when
    the tool is switched off. If something else changes the mask, the polygons are made from it again.

    Args:
        session: viewer and workers.
        get_target: returns the photo and its mask layer; raises `BadInput` if there is none.
        say: shows a message; `is_problem=True` for a problem.
    """

    def __init__(
        self, session: Session, get_target: Callable[[], tuple[LayerPhoto, Labels]], say: Callable[..., None]
    ) -> None:
        super().__init__("Outline")
        self._session, self._viewer, self._get_target, self._say = session, session.viewer, get_target, say
        self._shapes = ToolLayer(session.viewer, _make_shapes)
        self._photo: LayerPhoto | None = None
        self._labels: Labels | None = None
        self._label = 0
        self._polygons: list[Polygon] = []
        self._known: dict[int, list[Polygon]] = {}  # the polygons of each mask of this session, by checksum
        self._job_id: object | None = None
        self._followed: Shapes | None = None  # the layer while it shows the polygons
        self._is_writing = False
        self._soon = QTimer(self, singleShot=True, interval=0)
        self._soon.timeout.connect(self.apply)
        self._leave_check = QTimer(self, singleShot=True, interval=0)
        self._leave_check.timeout.connect(self._switch_off_if_left)
        self._mask_check = QTimer(self, singleShot=True, interval=30)
        self._mask_check.timeout.connect(self._follow_mask)
        self.setCheckable(True)
        self.setToolTip(
            "Drag the corners of the outline. Key 2 and a click adds a corner, 1 removes one, P draws a new piece.\n"
            f"Each change is one step for Ctrl+Z. ({preferred_keys()['edit_outline'].text})"
        )
        self.toggled.connect(self._switch)

    @property
    def is_ready(self) -> bool:
        """Whether the polygons are shown and every drag is in the mask."""
        return self.isChecked() and self._job_id is None and not (self._soon.isActive() or self._mask_check.isActive())

    def switch(self, on: bool) -> None:
        """Switch the tool on or off; if there is no mask, a message says why, and it stays off."""
        self.setChecked(on)

    def apply(self) -> None:
        """Write what the user changed in the polygons into the mask, as one undoable step."""
        self._soon.stop()
        photo, labels, shapes = self._photo, self._labels, self._followed
        if photo is None or labels is None or shapes is None or labels not in self._viewer.layers:
            return
        before, after = self._polygons, _read_polygons(shapes)
        window = changed_window(before, after, photo.shape)
        if window is None:
            return
        if not labels.editable:
            self._say(f"{labels.name} is locked; unlock it to change it.", is_problem=True)
            self._show(before)
            return
        fill = polygons_to_mask(after, photo.shape, window)
        moved = fill ^ polygons_to_mask(before, photo.shape, window)
        part = np.asarray(labels.data[photo.plane])[window]
        tiles, _ = changed_tiles(part, lambda lesion: np.where(moved, fill, lesion), self._label)
        self._is_writing = True
        try:
            write_tiles(
                labels,
                [(rows + window[0].start, columns + window[1].start, values) for rows, columns, values in tiles],
                photo.plane,
            )
        finally:
            self._is_writing = False
        self._polygons = after
        self._known[self._checksum()] = after

    def hideEvent(self, event: QHideEvent) -> None:
        """Switch off when the tab is left, and remove the layer."""
        super().hideEvent(event)
        if not event.spontaneous():
            self.switch(False)
            self._shapes.remove()

    # On and off

    def _switch(self, on: bool) -> None:
        if not on:
            self._stop()
            return
        try:
            self._photo, self._labels = self._get_target()
        except BadInput as error:
            self._say(str(error), is_problem=True)
            self.switch(False)
            return
        self._say("")
        self._label, self._known = lesion_label(self._labels), {}
        self._trace()

    def _stop(self) -> None:
        """Write the last drag, empty the layer and return to the mask."""
        self.apply()
        for timer in (self._soon, self._mask_check):
            timer.stop()
        shapes, labels = self._followed, self._labels
        self._photo = self._labels = self._followed = self._job_id = None
        if labels is not None and shapes is not None:
            for event in self._mask_events(labels):
                event.disconnect(self._on_mask)
            for event in self._leave_events():
                event.disconnect(self._check_soon)
            shapes.events.data.disconnect(self._on_shapes)
            if self._shapes.is_in_viewer:
                _set_polygons(shapes, [], ())
                shapes.mode = "pan_zoom"
                if self._viewer.layers.selection.active == shapes and labels in self._viewer.layers:
                    self._viewer.layers.selection.active = labels

    def _begin(self, photo: LayerPhoto, labels: Labels) -> None:
        """Show the layer and follow it, the mask and the viewer."""
        shapes = self._shapes.place_on(photo, labels)
        for key, redo in UNDO_KEYS.items():
            shapes.bind_key(key, lambda layer, redo=redo: undo_or_redo(labels, redo=redo), overwrite=True)
        for event in self._mask_events(labels):
            event.connect(self._on_mask)
        self._viewer.layers.selection.active = shapes
        for event in self._leave_events():
            event.connect(self._check_soon)
        shapes.events.data.connect(self._on_shapes)
        shapes.mode = "direct"
        self._followed = shapes

    def _mask_events(self, labels: Labels) -> tuple[Any, ...]:
        return labels.events.paint, labels.events.set_data

    def _leave_events(self) -> tuple[Any, ...]:
        return self._viewer.layers.selection.events.active, self._viewer.layers.events.removed

    def _check_soon(self) -> None:
        # Later, because the active layer changes for a moment while napari inserts a layer.
        self._leave_check.start()

    def _switch_off_if_left(self) -> None:
        """Switch off if the user chose another layer, or removed one."""
        layers = self._viewer.layers
        if self._labels is not None and (
            self._labels not in layers or not self._shapes.is_in_viewer or layers.selection.active != self._shapes.layer
        ):
            self.switch(False)

    # Polygons

    def _trace(self) -> None:
        """Make the polygons from the present mask in a worker."""
        photo, labels, label = self._photo, self._labels, self._label
        assert photo is not None
        assert labels is not None
        job_id = self._job_id = object()
        lesion, checksum = np.array(labels.data[photo.plane] == label), self._checksum()

        def on_end(outcome: Outcome) -> None:
            if job_id is not self._job_id:
                return  # the tool was switched off, or the mask changed again
            self._job_id = None
            if outcome.error is not None:
                self._say(report_failure(outcome.error, "Reading the outline"), is_problem=True)
                self.switch(False)
            elif labels not in self._viewer.layers:
                self.switch(False)
            elif self._checksum() != checksum:
                self._trace()
            else:
                if self._followed is None:
                    self._begin(photo, labels)
                self._show(outcome.result)
                if not outcome.result:
                    self._say("There is no outline to edit yet; press P and click around the lesion.")

        self._session.background.start(
            f"reading the outline of {photo.name}", lambda report, cancel: mask_to_polygons(lesion), on_end
        )

    def _show(self, polygons: list[Polygon]) -> None:
        shapes, photo = self._followed, self._photo
        assert shapes is not None
        assert photo is not None
        self._polygons = self._known[self._checksum()] = polygons
        _set_polygons(shapes, polygons, photo.plane)
        shapes.selected_data = set(range(len(polygons)))  # napari shows the corners of selected polygons

    def _on_shapes(self, event: Any) -> None:
        if event.action in ("added", "changed", "removed"):
            self._soon.start()  # later, because napari is still changing the shape

    def _on_mask(self) -> None:
        if not self._is_writing:
            self._mask_check.start()

    def _follow_mask(self) -> None:
        """Show the polygons of the present mask if something else than this tool changed it."""
        checksum = self._checksum()
        if checksum in self._known:
            if self._known[checksum] is not self._polygons:
                self._show(self._known[checksum])
        else:
            self._trace()

    def _checksum(self) -> int:
        assert self._photo is not None
        assert self._labels is not None
        return mask_checksum(self._labels.data[self._photo.plane] == self._label)


def _make_shapes(photo: LayerPhoto) -> Shapes:
    return Shapes(
        ndim=photo.layer.ndim,
        name="· outline",
        edge_color="yellow",
        face_color="transparent",
        edge_width=max(1.0, math.hypot(*photo.shape) / 700),
        features={"is_hole": np.zeros(0, dtype=bool)},
        **placement(photo.layer),
    )


def _set_polygons(shapes: Shapes, polygons: list[Polygon], plane: tuple[int, ...]) -> None:
    """Replace the polygons of the layer."""
    with shapes.events.data.blocker():
        shapes.data = []  # ends the drawing of an unfinished polygon first; `remove_selected` would fail then
        if polygons:
            shapes.add_polygons(
                [
                    np.concatenate([np.tile(np.array(plane, float), (len(one.corners), 1)), one.corners], axis=1)
                    for one in polygons
                ]
            )
            shapes.features = {"is_hole": [one.is_hole for one in polygons]}
            shapes.feature_defaults = {"is_hole": False}


def _read_polygons(shapes: Shapes) -> list[Polygon]:
    """Return the polygons of the layer; a rectangle or an ellipse that the user drew is the polygon of its corners."""
    # When napari drops a polygon that was not finished, the last one, its row of the features stays.
    holes = shapes.features["is_hole"][: len(shapes.data)]
    return [
        Polygon(np.array(corners, float)[:, -2:], is_hole=bool(is_hole))  # a copy: napari moves corners in place
        for corners, is_hole in zip(shapes.data, holes, strict=True)
        if len(corners) >= 3
    ]
