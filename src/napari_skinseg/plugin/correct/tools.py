"""The tools below the photo list of the Review tab: Refine, buttons for the whole mask, brush size, scale."""

from collections.abc import Callable
from functools import partial

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
    QWidgetAction,
)

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels import cleaning
from napari_skinseg.plugin.background import Outcome
from napari_skinseg.plugin.forms import Message
from napari_skinseg.plugin.layers import LayerPhoto
from napari_skinseg.plugin.mask_layers import FILLED_STYLE, outline_style, undo_or_redo
from napari_skinseg.plugin.session import Session, report_failure

from .brush import Brush, explain_blocked_strokes
from .mask_edit import Tile, changed_tiles, lesion_label, write_tiles
from .refine_tool import RefineTool
from .scale_tool import ScaleTool

Change = Callable[[NDArray[np.bool_]], NDArray[np.bool_]]


class CorrectTools(QWidget):
    """Changes the selected lesion of the layer given to `set_layer`; each change is one undoable step."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session, self._viewer = session, session.viewer
        self._labels: Labels | None = None
        self._explained: Labels | None = None  # the mask whose blocked strokes are explained
        self._is_running = self._is_filled = False
        self._image: Image | None = None
        self._is_blind = False
        self.refine = RefineTool(session, self._refine_target, get_mask=self._target)
        self.fill_button = QPushButton("Fill holes", toolTip="Fill the holes in the lesion.")
        self.smooth_button = QPushButton("Smooth", toolTip="Smooth the border; press again for more.")
        self.largest_button = QPushButton(
            "Keep largest", toolTip="Keep the largest connected piece of the lesion and remove the others."
        )
        self.grow_button = QPushButton("Grow", toolTip="Move the border outwards by this many pixels.")
        self.shrink_button = QPushButton("Shrink", toolTip="Move the border inwards by this many pixels.")
        self.clear_button = QPushButton("Clear", toolTip="Remove the whole lesion from the mask.")
        self.undo_button = QPushButton("Undo", toolTip="Undo the last change of this mask (Ctrl+Z).")
        self.redo_button = QPushButton("Redo", toolTip="Redo the change (Ctrl+Shift+Z).")
        self.pixels = QSpinBox()
        self.pixels.setRange(1, 200)
        self.pixels.setValue(3)
        self.pixels.setSuffix(" px")
        self.pixels.setToolTip("The distance that Grow and Shrink move the border, in pixels of the photo.")
        self.smaller_button = QToolButton(text="−", toolTip="Smaller brush (,)")
        self.larger_button = QToolButton(text="+", toolTip="Larger brush (.)")
        self.brush_size = QLabel()
        self.same_on_screen = QCheckBox("Same size on screen")
        self.same_on_screen.setToolTip("The brush keeps its size on the screen, so that zooming in makes it finer.")
        self.same_on_screen.setChecked(True)
        self.message = Message()
        self.say = self.message.say
        self.scale = ScaleTool(session)
        self.brush = Brush(self._viewer.scene.camera, self._show_brush_size)
        self._lay_out()
        self._connect()
        self.set_layer(None, None)

    def set_layer(self, labels: Labels | None, image: Image | None, *, is_blind: bool = False) -> None:
        """Work on the mask `labels` of the photo `image` from now on; None if there is no photo.

        Call this when the view already shows the photo, because the brush size depends on the zoom. If `is_blind`, the
        photo belongs to the blind sample and cannot be refined by the model.
        """
        self.refine.outline.switch(False)
        self._labels, self._image, self._is_blind = labels, image, is_blind
        self.refine.restart()
        self.brush.set_layer(labels)
        self.scale.set_layer(image)
        if labels is not None and labels is not self._explained:
            self._explained = labels
            explain_blocked_strokes(labels, self.say)
        if labels is not None:
            self.show_filled(self._is_filled)
        self.say("")
        self._enable()

    def brush_smaller(self) -> None:
        """Make the brush one step smaller."""
        self.brush.make_smaller()

    def brush_larger(self) -> None:
        """Make the brush one step larger."""
        self.brush.make_larger()

    def show_filled(self, filled: bool) -> None:
        """Show this mask and the next masks filled, or as an outline."""
        self._is_filled = filled
        if self._labels is not None:
            set_mask_style(self._labels, filled)

    def edit_mask(self, what: str, change: Change) -> None:
        """Compute `change` in a worker and write it as one undoable step; `what` names the change in messages."""
        labels = self._labels
        if labels is None or self._is_running:
            return
        if labels not in self._viewer.layers:
            self.say(f"{labels.name} was removed; choose another photo.", is_problem=True)
        elif labels.ndim != 2 or labels.multiscale:
            self.say(
                f"{labels.name} is not a mask of one photo; these tools work on one photo at a time.", is_problem=True
            )
        elif not labels.editable:
            self.say(f"{labels.name} is locked; unlock it to change it.", is_problem=True)
        else:
            before, label = np.array(labels.data), lesion_label(labels)
            self._is_running = True
            self._enable()
            self._session.background.start(
                what.lower(),
                lambda report, cancel: changed_tiles(before, change, label),
                partial(self._on_computed, what, labels, before),
            )

    def _on_computed(self, what: str, labels: Labels, before: NDArray[np.integer], outcome: Outcome) -> None:
        self._is_running = False
        if outcome.error is not None:
            self.say(report_failure(outcome.error, what), is_problem=True)
        elif outcome.state == "done":
            self._write(what, labels, before, *outcome.result)
        self._enable()

    def _write(
        self, what: str, labels: Labels, before: NDArray[np.integer], tiles: list[Tile], has_lesion: bool
    ) -> None:
        if labels not in self._viewer.layers:
            self.say(f"{labels.name} was closed before {what} was ready; the mask did not change.", is_problem=True)
        elif not np.array_equal(labels.data, before):
            self.say(
                f"You changed {labels.name} before {what} was ready, so your change stays; press the button again.",
                is_problem=True,
            )
        elif not tiles:
            self.say(f"{what} found nothing to change.")
        else:
            write_tiles(labels, tiles)
            if labels is self._labels:
                self._viewer.layers.selection.active = labels  # so that Ctrl+Z acts on this layer
            self.say(f"{what}: done." if has_lesion else f"{what}: no lesion is left. Ctrl+Z undoes this.")

    def _undo_or_redo(self, redo: bool) -> None:
        if self._labels is not None:
            self.say("")
            if not self.refine.undo_or_redo(redo):
                undo_or_redo(self._labels, redo=redo)

    def _refine_target(self) -> tuple[LayerPhoto, Labels]:
        if self._is_blind:
            raise BadInput("This photo belongs to the blind sample; draw the lesion by hand, without the model.")
        return self._target()

    def _target(self) -> tuple[LayerPhoto, Labels]:
        labels, image = self._labels, self._image
        if labels is None or image is None:
            raise BadInput("There is no photo to refine; choose one in the list.")
        height, width = image.data.shape[:2]
        return LayerPhoto(image, image.name.lstrip("· "), (), (height, width), image.data), labels

    def _show_brush_size(self) -> None:
        self.brush_size.setText("" if self.brush.size is None else f"{self.brush.size} px")

    def _set_same_on_screen(self, keeps_size: bool) -> None:
        self.brush.keeps_on_screen = keeps_size

    def _enable(self) -> None:
        for button in (*self._edits, self.undo_button, self.redo_button):
            button.setEnabled(self._labels is not None and not self._is_running)
        for widget in (self.smaller_button, self.larger_button):
            widget.setEnabled(self._labels is not None)

    def _connect(self) -> None:
        by_pixels = {self.grow_button: cleaning.grow, self.shrink_button: cleaning.shrink}
        whole = {
            self.fill_button: cleaning.fill_holes,
            self.smooth_button: cleaning.smooth_border,
            self.largest_button: cleaning.keep_largest,
            self.clear_button: np.zeros_like,
        }
        self._edits = (*by_pixels, *whole)
        for button, move in by_pixels.items():
            button.clicked.connect(lambda _=False, button=button, move=move: self._move_border(button.text(), move))
        for button, change in whole.items():
            button.clicked.connect(lambda _=False, button=button, change=change: self.edit_mask(button.text(), change))
        self.undo_button.clicked.connect(lambda: self._undo_or_redo(redo=False))
        self.redo_button.clicked.connect(lambda: self._undo_or_redo(redo=True))
        self.smaller_button.clicked.connect(self.brush_smaller)
        self.larger_button.clicked.connect(self.brush_larger)
        self.same_on_screen.toggled.connect(self._set_same_on_screen)

    def _move_border(self, text: str, move: Callable[[NDArray[np.bool_], float], NDArray[np.bool_]]) -> None:
        self.pixels.clearFocus()
        distance = self.pixels.value()
        self.edit_mask(f"{text} by {distance} px", lambda mask: move(mask, distance))

    def _lay_out(self) -> None:
        menu = QMenu(self)
        content = _MenuContent(menu)
        grid = QGridLayout(content)
        rows = (
            (self.fill_button, self.smooth_button),
            (self.largest_button, self.clear_button),
            (self.grow_button, self.shrink_button),
        )
        for row, widgets in enumerate(rows):
            for column, widget in enumerate(widgets):
                grid.addWidget(widget, row, column)
        grid.addWidget(self.pixels, len(rows), 0, 1, 2)
        content.order = (*(widget for row in rows for widget in row), self.pixels)
        menu.aboutToShow.connect(lambda: QTimer.singleShot(0, self.fill_button.setFocus))
        action = QWidgetAction(menu)
        action.setDefaultWidget(content)
        menu.addAction(action)
        self.edit_button = QPushButton(
            "Edit mask", toolTip="Fill holes, smooth, keep the largest piece, clear, grow, shrink."
        )
        self.edit_button.setMenu(menu)
        edit = QHBoxLayout()
        for widget in (self.edit_button, self.undo_button, self.redo_button, self.scale.button):
            widget.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            edit.addWidget(widget)
        brush = QHBoxLayout()
        for widget in (QLabel("Brush"), self.smaller_button, self.brush_size, self.larger_button, self.same_on_screen):
            brush.addWidget(widget)
        brush.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.refine)
        layout.addLayout(edit)
        layout.addLayout(brush)
        layout.addWidget(self.message)


class _MenuContent(QWidget):
    """Widgets in a menu; Tab and the arrows go through them, where a menu would go to its next entry.

    Attributes:
        order: the widgets.
    """

    order: tuple[QWidget, ...] = ()

    def focusNextPrevChild(self, forwards: bool) -> bool:  # noqa: N802, the name is Qt's
        """Give the focus to the next or the previous widget."""
        enabled = [widget for widget in self.order if widget.isEnabled()]
        focused = self.focusWidget()
        if enabled:
            at = enabled.index(focused) if focused in enabled else -1
            enabled[(at + (1 if forwards else -1)) % len(enabled)].setFocus(Qt.FocusReason.TabFocusReason)
        return bool(enabled)


def set_mask_style(labels: Labels, filled: bool) -> None:
    """Show `labels` filled and transparent, or as an outline."""
    style = outline_style(labels.data.shape)
    contour, opacity = (0, FILLED_STYLE["opacity"]) if filled else (style.get("contour", 0), style["opacity"])
    if labels.contour != contour:  # napari recomputes outlines even if the value is the same
        labels.contour = contour
    labels.opacity = opacity
