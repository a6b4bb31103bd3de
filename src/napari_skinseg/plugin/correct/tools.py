"""Tools for the mask in hand: clicks that refine it, whole-mask edits, the brush's size, and the photo's scale."""

from collections.abc import Callable
from functools import partial

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels import edit
from napari_skinseg.plugin.background import Outcome
from napari_skinseg.plugin.forms import Message
from napari_skinseg.plugin.layers import LayerPhoto
from napari_skinseg.plugin.mask_layers import FILLED_STYLE, outline_style
from napari_skinseg.plugin.session import Session, report_failure

from .brush import Brush
from .mask_edit import Tile, changed_tiles, write_tiles
from .refine_tool import RefineTool
from .scale_tool import ScaleTool

Change = Callable[[NDArray[np.bool_]], NDArray[np.bool_]]


class CorrectTools(QWidget):
    """Works on the layer given to `set_layer`, on the lesion's label alone; each edit is one step for Ctrl+Z."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session, self._viewer = session, session.viewer
        self._labels: Labels | None = None
        self._is_running = self._is_filled = False
        self._image: Image | None = None
        self._is_blind = False
        self.refine = RefineTool(session, self._in_hand)
        self.fill_button = _button("Fill holes", "Fill what the lesion encloses.")
        self.smooth_button = _button("Smooth", "Smooth the border; press again for more.")
        self.largest_button = _button("Keep largest", "Remove every piece of the lesion but the largest.")
        self.grow_button = _button("Grow", "Move the border outwards by this many pixels.")
        self.shrink_button = _button("Shrink", "Move the border inwards by this many pixels.")
        self.clear_button = _button("Clear", "Remove the whole lesion, to draw it anew.")
        self.undo_button = _button("Undo", "Take the last change of this mask back (Ctrl+Z).")
        self.redo_button = _button("Redo", "Make it again (Ctrl+Shift+Z).")
        self.pixels = QSpinBox()
        self.pixels.setRange(1, 200)
        self.pixels.setValue(3)
        self.pixels.setSuffix(" px")
        self.pixels.setToolTip("By how many pixels of the photo Grow and Shrink move the border.")
        self.smaller_button = _small_button("−", "Smaller brush (,)")
        self.larger_button = _small_button("+", "Larger brush (.)")
        self.brush_size = QLabel()
        self.same_on_screen = QCheckBox("Same on screen")
        self.same_on_screen.setToolTip("Zooming in makes the brush finer: it keeps its size on the screen.")
        self.same_on_screen.setChecked(True)
        self.message = Message()
        self.say = self.message.say
        self.scale = ScaleTool(session)
        self.brush = Brush(self._viewer.scene.camera, self._show_brush)
        self._lay_out()
        self._connect()
        self.set_layer(None, None)

    def set_layer(self, labels: Labels | None, image: Image | None, *, is_blind: bool = False) -> None:
        """Work on the mask `labels` of the photo `image` from now on; None for none.

        Call it once the photo is shown as it shall be: the brush starts at a size for this zoom. The model has no
        say in a mask that `is_blind`.
        """
        self._labels, self._image, self._is_blind = labels, image, is_blind
        self.refine.restart()
        self.brush.follow(labels)
        self.scale.set_layer(image)
        if labels is not None:
            self.show_filled(self._is_filled)
        self.say("")
        self._enable()

    def brush_smaller(self) -> None:
        """One step down, for a key."""
        self.brush.smaller()

    def brush_larger(self) -> None:
        """One step up, for a key."""
        self.brush.larger()

    def show_filled(self, filled: bool) -> None:
        """Draw the mask filled and see-through, or as an outline; the next masks too."""
        self._is_filled = filled
        if self._labels is not None:
            set_mask_style(self._labels, filled)

    def edit_mask(self, what: str, change: Change) -> None:
        """Have `change` worked out in a worker and write it as one undoable step; `what` is its name in sentences."""
        labels = self._labels
        if labels is None or self._is_running:
            return
        if labels not in self._viewer.layers:
            self.say(f"{labels.name} was removed; choose another photo.", is_problem=True)
        elif labels.ndim != 2 or labels.multiscale:
            self.say(f"{labels.name} is not one flat mask; these tools work on one photo at a time.", is_problem=True)
        elif not labels.editable:
            self.say(f"{labels.name} is locked; unlock it to change it.", is_problem=True)
        else:
            before = np.array(labels.data)
            self._is_running = True
            self._enable()
            self._session.background.start(
                what.lower(),
                lambda report, cancel: changed_tiles(before, change),
                partial(self._on_worked_out, what, labels, before),
            )

    def _on_worked_out(self, what: str, labels: Labels, before: NDArray[np.integer], outcome: Outcome) -> None:
        self._is_running = False
        if outcome.error is not None:
            self.say(report_failure(outcome.error, what), is_problem=True)
        elif outcome.state == "done":
            self._write(what, labels, before, *outcome.result)
        self._enable()

    def _write(
        self, what: str, labels: Labels, before: NDArray[np.integer], pieces: list[Tile], has_lesion: bool
    ) -> None:
        if labels not in self._viewer.layers:
            self.say(f"{labels.name} was closed meanwhile; {what} was dropped.", is_problem=True)
        elif not np.array_equal(labels.data, before):
            self.say(f"{labels.name} was changed meanwhile; {what} was dropped, press it again.", is_problem=True)
        elif not pieces:
            self.say(f"{what} found nothing to change.")
        else:
            write_tiles(labels, pieces)
            if labels is self._labels:
                self._viewer.layers.selection.active = labels  # so that Ctrl+Z is for it
            self.say(f"{what}: done." if has_lesion else f"{what}: no lesion is left. Ctrl+Z brings it back.")

    def _step_back(self, forwards: bool) -> None:
        if self._labels is not None:
            self.say("")
            if not self.refine.step(forwards):
                (self._labels.redo if forwards else self._labels.undo)()

    def _in_hand(self) -> tuple[LayerPhoto, Labels]:
        labels, image = self._labels, self._image
        if labels is None or image is None:
            raise BadInput("There is no photo in hand to refine the mask of; choose one.")
        if self._is_blind:
            raise BadInput("This photo is of the blind sample; draw the lesion by hand, without the model.")
        height, width = image.data.shape[:2]
        return LayerPhoto(image, image.name.lstrip("· "), (), (height, width), image.data), labels

    def _show_brush(self) -> None:
        self.brush_size.setText("" if self.brush.size is None else f"{self.brush.size} px")

    def _keep_on_screen(self, keeps: bool) -> None:
        self.brush.keeps_on_screen = keeps

    def _enable(self) -> None:
        for button in (*self._edits, self.undo_button, self.redo_button):
            button.setEnabled(self._labels is not None and not self._is_running)
        for widget in (self.smaller_button, self.larger_button):
            widget.setEnabled(self._labels is not None)

    def _connect(self) -> None:
        by_pixels = {self.grow_button: edit.grow, self.shrink_button: edit.shrink}
        whole = {
            self.fill_button: edit.fill_holes,
            self.smooth_button: edit.smooth_border,
            self.largest_button: edit.keep_largest,
            self.clear_button: np.zeros_like,
        }
        self._edits = (*by_pixels, *whole)
        for button, move in by_pixels.items():
            button.clicked.connect(lambda _=False, button=button, move=move: self._move_border(button.text(), move))
        for button, change in whole.items():
            button.clicked.connect(lambda _=False, button=button, change=change: self.edit_mask(button.text(), change))
        self.undo_button.clicked.connect(lambda: self._step_back(forwards=False))
        self.redo_button.clicked.connect(lambda: self._step_back(forwards=True))
        self.smaller_button.clicked.connect(self.brush_smaller)
        self.larger_button.clicked.connect(self.brush_larger)
        self.same_on_screen.toggled.connect(self._keep_on_screen)
        # A field that keeps the focus would take Ctrl+Z for its own text.
        self.pixels.setFocusPolicy(Qt.FocusPolicy.ClickFocus)

    def _move_border(self, text: str, move: Callable[[NDArray[np.bool_], float], NDArray[np.bool_]]) -> None:
        self.pixels.clearFocus()
        distance = self.pixels.value()
        self.edit_mask(f"{text} by {distance} px", lambda mask: move(mask, distance))

    def _lay_out(self) -> None:
        grid = QGridLayout()
        grid.setVerticalSpacing(4)
        rows = (
            (self.fill_button, self.smooth_button, self.largest_button),
            (self.grow_button, self.shrink_button, self.pixels),
            (self.undo_button, self.redo_button, self.clear_button),
        )
        for row, widgets in enumerate(rows):
            for column, widget in enumerate(widgets):
                widget.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
                grid.addWidget(widget, row, column)
                grid.setColumnStretch(column, 1)
        brush = QHBoxLayout()
        for widget in (QLabel("Brush"), self.smaller_button, self.brush_size, self.larger_button, self.same_on_screen):
            brush.addWidget(widget)
        brush.addStretch(1)
        folded = QCollapsible("Scale in millimetres", expandedIcon="▾", collapsedIcon="▸")
        folded.addWidget(self.scale)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.refine)
        layout.addLayout(grid)
        layout.addLayout(brush)
        layout.addWidget(self.message)
        layout.addWidget(folded)


def set_mask_style(labels: Labels, filled: bool) -> None:
    """Draw `labels` filled and see-through, or as an outline."""
    style = outline_style(labels.data.shape)
    contour, opacity = (0, FILLED_STYLE["opacity"]) if filled else (style["contour"], style["opacity"])
    if labels.contour != contour:  # napari computes outlines anew even if nothing changes
        labels.contour = contour
    labels.opacity = opacity


def _button(text: str, tooltip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tooltip)
    return button


def _small_button(text: str, tooltip: str) -> QToolButton:
    button = QToolButton()
    button.setText(text)
    button.setToolTip(tooltip)
    return button
