"""The Refine tool: the user clicks where the mask is wrong, or drags a box, and the model corrects the mask."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import QTimer, Signal
from qtpy.QtGui import QHideEvent
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_skinseg.errors import BadInput
from napari_skinseg.models.click_channels import Click
from napari_skinseg.plugin.background import Outcome
from napari_skinseg.plugin.forms import Message
from napari_skinseg.plugin.keys import preferred_keys
from napari_skinseg.plugin.layers import LayerPhoto
from napari_skinseg.plugin.mask_layers import UNDO_KEYS
from napari_skinseg.plugin.session import Session, preferred_device, report_failure
from napari_skinseg.segmentation.box import Box

from .mask_edit import Tile, changed_tiles, lesion_label
from .outline_tool import OutlineTool
from .refine_session import Prompt, PromptMarkers, RefineSession

if TYPE_CHECKING:
    from napari_skinseg.segmentation.options import SegmentOptions
    from napari_skinseg.segmentation.segmenter import Refiner

_CLICK_RADIUS = 4.0
"""Pixels of the screen that the mouse may move during a click; a longer movement pans the view."""


class RefineTool(QWidget):
    """The Refine and the Box button, and the clicks and boxes on the photo while Refine is on.

    Refine stays on until the user presses the button again, or chooses another tool or layer. The Box button switches
    Refine on, and the next drag is a box. The model answers one prompt after the other, each from the current mask.
    Each answer is one undoable step; undo removes the marker, too.

    Args:
        session: viewer, workers and models.
        get_target: returns the photo to click on and its mask layer, which it makes if there is none; raises `BadInput`
            if there is no photo, or the model must not help with this photo.
        get_options: returns how to make a mask from the model's probability; None for the model's own options.
        get_mask: the same as `get_target` for the Outline tool beside, which needs no model.
    """

    changed = Signal()
    """A click, undo or redo changed the mask."""

    def __init__(
        self,
        session: Session,
        get_target: Callable[[], tuple[LayerPhoto, Labels]],
        get_options: Callable[[], "SegmentOptions | None"] = lambda: None,
        get_mask: Callable[[], tuple[LayerPhoto, Labels]] | None = None,
    ) -> None:
        super().__init__()
        self._session, self._viewer = session, session.viewer
        self._get_target, self._get_options = get_target, get_options
        self._model = ""
        self._markers = PromptMarkers(session.viewer)
        self._refinement: RefineSession | None = None
        self._refiner: Refiner | None = None
        self._job_id: object | None = None  # of the job whose outcome is expected
        self._tool_before: str | None = None
        self._double_click_callbacks: list[Any] = []
        self._keys_before: dict[Any, Any] = {}
        self._after_answers: list[Callable[[], object]] = []
        self.button, self.box_button = QPushButton("Refine"), QPushButton("Box")
        self.state, self.message = QLabel(), Message()
        self._say = self.message.say
        self.outline = OutlineTool(session, get_mask or get_target, self._say)
        self._leave_check = QTimer(self, singleShot=True, interval=0)
        self._leave_check.timeout.connect(self._switch_off_if_left)
        self._lay_out()
        self.button.toggled.connect(self._switch)
        self.box_button.toggled.connect(self._prepare_box)
        self._say("")
        self._show_state()

    @property
    def is_on(self) -> bool:
        """Whether clicks on the photo refine the mask."""
        return self.button.isChecked()

    @property
    def has_clicks(self) -> bool:
        """Whether the user clicked on the current mask."""
        return self._refinement is not None and bool(self._refinement.pending or self._refinement.answered)

    @property
    def photo(self) -> LayerPhoto | None:
        """The photo that the user clicks on; None while Refine is off."""
        return None if self._refinement is None else self._refinement.photo

    def toggle(self) -> None:
        """Switch Refine on or off."""
        self.switch(not self.is_on)

    def toggle_box(self) -> None:
        """Let the next drag be a box, or not."""
        self.box_button.toggle()

    def switch(self, on: bool) -> None:
        """Switch Refine on or off; if the mask cannot be refined, a message says why and Refine stays off."""
        self.button.setChecked(on)

    def use_model(self, name: str) -> None:
        """Let this model answer from now on; an empty name means that there is no model."""
        if name != self._model:
            self._model = name
            if name:
                self.restart()
            else:
                self.switch(False)

    def restart(self) -> None:
        """Start without clicks on the present target, which may be another mask; Refine stays on or off."""
        self.outline.switch(False)
        self._stop_clicks()
        if self.is_on:
            self._start_clicks()
        self._show_state()

    def undo_or_redo(self, redo: bool) -> bool:
        """Undo or redo one step of the mask, with its marker; False if Refine is off."""
        refinement = self._refinement
        if refinement is None:
            return False
        self._say("")
        (refinement.redo if redo else refinement.undo)()
        self.changed.emit()
        self._next()
        return True

    def when_answered(self, then: Callable[[], object]) -> None:
        """Call `then` when no prompt is pending; until then, new ones are ignored."""
        if self._refinement is None or not self._refinement.pending:
            then()
        else:
            self._after_answers.append(then)

    def hideEvent(self, event: QHideEvent) -> None:
        """Switch Refine off when the tab is left, and remove the markers' layer."""
        super().hideEvent(event)
        if not event.spontaneous():
            self.switch(False)
            self._markers.on_photo.remove()

    # On and off

    def _switch(self, on: bool) -> None:
        if on:
            self._start_clicks()
            if self._refinement is None:
                self.switch(False)
        else:
            refinement, tool = self._refinement, self._tool_before
            self._stop_clicks()
            self.box_button.setChecked(False)
            self._tool_before = None
            if refinement is not None:
                self._say("")
                if refinement.labels.editable and refinement.labels.mode == "pan_zoom":
                    refinement.labels.mode = tool
        self._show_state()

    def _start_clicks(self) -> None:
        """Accept clicks on the target, or show why it cannot be refined."""
        try:
            if not self._model:
                raise BadInput("There is no model on this computer; add one: napari-skinseg models add FILE.")
            photo, labels = self._get_target()
        except BadInput as error:
            self._say(str(error), is_problem=True)
            return
        self._say("")
        if self._tool_before is None:
            self._tool_before = str(labels.mode)
        self._refinement = RefineSession(photo, labels, self._markers)
        labels.mode = "pan_zoom"
        self._viewer.layers.selection.active = labels
        self._keys_before = {
            key: labels.bind_key(key, lambda layer, redo=redo: self.undo_or_redo(redo=redo), overwrite=True)
            for key, redo in UNDO_KEYS.items()
        }
        labels.mouse_drag_callbacks.append(self._on_press)
        labels.mouse_double_click_callbacks.append(self._on_second_press)
        # A double click is two clicks, and does not zoom as it does in napari.
        self._double_click_callbacks = list(self._viewer.mouse_double_click_callbacks)
        self._viewer.mouse_double_click_callbacks.clear()
        for event in self._leave_events(labels):
            event.connect(self._check_soon)
        _hold_photo(labels, self.box_button.isChecked())
        self._next()

    def _stop_clicks(self) -> None:
        refinement, self._refinement = self._refinement, None
        self._refiner = self._job_id = None
        if refinement is not None:
            labels = refinement.labels
            _hold_photo(labels, False)
            refinement.close()
            for event in self._leave_events(labels):
                event.disconnect(self._check_soon)
            self._viewer.mouse_double_click_callbacks.extend(self._double_click_callbacks)
            labels.mouse_double_click_callbacks.remove(self._on_second_press)
            labels.mouse_drag_callbacks.remove(self._on_press)
            for key, before in self._keys_before.items():
                labels.bind_key(key, before, overwrite=True)
        self._run_after_answers()

    def _leave_events(self, labels: Labels) -> tuple[Any, ...]:
        layers = self._viewer.layers
        return labels.events.mode, labels.events.selected_label, layers.selection.events.active, layers.events.removed

    def _check_soon(self) -> None:
        # Later, because the active layer changes for a moment while napari inserts a layer.
        self._leave_check.start()

    def _switch_off_if_left(self) -> None:
        """Switch off if the user chose another tool or layer, or removed a layer."""
        refinement = self._refinement
        if refinement is not None:
            labels, layers = refinement.labels, self._viewer.layers
            layers_exist = labels in layers and refinement.photo.layer in layers and self._markers.on_photo.is_in_viewer
            if not layers_exist or layers.selection.active != labels or labels.mode != "pan_zoom":
                self.switch(False)
            elif lesion_label(labels) != refinement.label:
                self.restart()

    # Clicks and boxes

    def _prepare_box(self, on: bool) -> None:
        if on:
            self.switch(True)
        if self._refinement is None:
            self.box_button.setChecked(False)
        else:
            _hold_photo(self._refinement.labels, on)
        self._show_state()

    def _on_press(self, layer: Labels, event: Any) -> Iterator[None]:
        if self.box_button.isChecked() and event.button == 1:
            yield from self._drag_box(event)
            return
        start, position, button, modifiers = np.array(event.pos), event.position, event.button, set(event.modifiers)
        farthest = 0.0
        yield
        while event.type == "mouse_move":
            farthest = max(farthest, math.dist(start, event.pos))
            yield
        if max(farthest, math.dist(start, event.pos)) <= _CLICK_RADIUS:
            self._add_click(position, button, modifiers)

    def _drag_box(self, event: Any) -> Iterator[None]:
        """Show the box while the user drags it, and add it at the end."""
        refinement, corner = self._refinement, self._pixel_at(event.position)
        yield
        while event.type == "mouse_move":
            if refinement is not None and refinement is self._refinement:
                refinement.show(unfinished=[Box(*corner, *self._pixel_at(event.position))])
            yield
        if refinement is None or refinement is not self._refinement:
            return
        box = Box(*corner, *self._pixel_at(event.position))
        try:
            box.window(refinement.photo.shape)
        except BadInput as error:
            self._say(str(error), is_problem=True)
            refinement.show()
        else:
            self.box_button.setChecked(False)
            self._add(box)

    def _pixel_at(self, position: tuple[float, ...]) -> tuple[float, float]:
        """Return the row and the column of the photo at a position in the world."""
        assert self._refinement is not None
        labels = self._refinement.labels
        row, column = (float(at) for at in labels.world_to_data(position[-labels.ndim :])[-2:])
        return row, column

    def _on_second_press(self, layer: Labels, event: Any) -> None:
        """Take the second click of a double click, for which Qt sends an event of its own without an end."""
        self._add_click(event.position, event.button, set(event.modifiers))

    def _add_click(self, position: tuple[float, ...], button: int, modifiers: set[Any]) -> None:
        refinement = self._refinement
        if refinement is None or button not in (1, 2) or not modifiers <= {"Shift"}:
            return
        (row, column), (height, width) = self._pixel_at(position), refinement.photo.shape
        if -0.5 <= row < height - 0.5 and -0.5 <= column < width - 0.5:
            self._add(Click(row, column, include=button == 1 and not modifiers))
        else:
            self._say("This click is outside the photo; click on the photo.", is_problem=True)

    def _add(self, prompt: Prompt) -> None:
        refinement = self._refinement
        if refinement is None or self._after_answers:
            return
        if self._viewer.dims.ndisplay != 2:
            self._say("Refine works in the 2D view only; switch the viewer back to 2D.", is_problem=True)
        elif not refinement.labels.editable:
            self._say(f"{refinement.labels.name} is locked; unlock it to refine it.", is_problem=True)
        else:
            self._say("")
            refinement.add(prompt)
            self._next()
            refinement.show()  # while the model computes the answer

    # Answers

    def _next(self) -> None:
        """Start the next job if no job runs: prepare the photo, or answer the first pending click."""
        refinement = self._refinement
        if refinement is not None and self._job_id is None:
            if self._refiner is None:
                self._prepare(refinement)
            elif refinement.pending:
                self._answer(refinement, self._refiner)
        self._show_state()
        self._run_after_answers()

    def _prepare(self, refinement: RefineSession) -> None:
        photo, model, device = refinement.photo, self._model, preferred_device()
        before, segmenters, options = (
            np.array(refinement.current_labels == refinement.label),
            self._session.segmenters,
            self._get_options(),
        )

        def work() -> "Refiner":
            refiner = segmenters.get(model, device).refiner(photo.read(), name=photo.name)
            # The first run of a network is slow, and so is the first enlarged crop: make both before the first click.
            inside = np.argwhere(before)
            row, column = inside[len(inside) // 2] if len(inside) else (0, 0)
            refiner.refine([Click(float(row), float(column))], before, options)
            return refiner

        self._start(f"preparing to refine {photo.name}", work, self._on_prepared)

    def _on_prepared(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self.switch(False)
            self._say(report_failure(outcome.error, "Refining"), is_problem=True)
        self._refiner = outcome.result

    def _answer(self, refinement: RefineSession, refiner: "Refiner") -> None:
        prompt, before, options = refinement.pending[0], np.array(refinement.current_labels), self._get_options()
        label = refinement.label
        box, clicks = (prompt, []) if isinstance(prompt, Box) else (None, [*refinement.clicks, prompt])

        def work() -> list[Tile] | None:
            mask = refiner.refine(clicks, before == label, options, box).mask
            return changed_tiles(before, lambda lesion: mask, label)[0] if mask.any() or box is None else None

        self._start(f"refining {refinement.photo.name}", work, partial(self._on_answer, refinement, prompt, before))

    def _on_answer(
        self, refinement: RefineSession, prompt: Prompt, before: np.ndarray[Any, Any], outcome: Outcome
    ) -> None:
        self._switch_off_if_left()
        if refinement is not self._refinement or not refinement.pending or refinement.pending[0] is not prompt:
            return  # the prompt was undone before its answer
        if outcome.error is not None:
            refinement.drop_first_pending()
            self._say(report_failure(outcome.error, "Refining"), is_problem=True)
        elif outcome.result is None:
            refinement.drop_first_pending()
            self._say("The model finds no lesion in this box; click into the lesion instead.", is_problem=True)
        elif np.array_equal(before, refinement.current_labels):  # else the mask changed: compute the answer again
            refinement.write_answer(outcome.result)
            self.changed.emit()
            if not outcome.result:
                self._say("The model agrees with the mask at this point; nothing changed.")

    def _start(self, title: str, work: Callable[[], Any], take: Callable[[Outcome], None]) -> None:
        job_id = self._job_id = object()

        def on_end(outcome: Outcome) -> None:
            if job_id is not self._job_id:
                return  # Refine was restarted or switched off
            take(outcome)
            if job_id is self._job_id:
                self._job_id = None
            self._next()

        self._session.background.start(title, lambda report, cancel: work(), on_end)

    def _run_after_answers(self) -> None:
        if self._refinement is None or not self._refinement.pending:
            waiting, self._after_answers = self._after_answers, []
            for then in waiting:
                then()

    # Display

    def _show_state(self) -> None:
        refinement = self._refinement
        if refinement is None:
            text = ""
        elif refinement.pending:
            text = "Computing…" if len(refinement.pending) == 1 else f"Computing… {len(refinement.pending)} clicks"
        elif self.box_button.isChecked():
            text = "Drag a box"
        elif self._refiner is None:
            text = "Preparing…"
        else:
            text = "Left: + · right: −"
        self.state.setText(text)
        self.state.setToolTip(
            "A left click adds to the mask. A right click, or Shift+click, removes. Box: drag around the whole lesion."
        )

    def _lay_out(self) -> None:
        keys = preferred_keys()
        for button in (self.button, self.box_button):
            button.setCheckable(True)
        self.button.setToolTip(
            "Click where the mask misses lesion. Right-click, or Shift+click, where the mask covers skin.\n"
            f"Ctrl+Z undoes a click. ({keys['refine'].text})"
        )
        self.box_button.setToolTip(
            "Drag a rectangle around the whole lesion; the model outlines what is in it.\n"
            f"Ctrl+Z undoes it. ({keys['box'].text})"
        )
        self.state.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        row = QHBoxLayout()
        row.addWidget(self.button, 2)
        row.addWidget(self.box_button, 1)
        row.addWidget(self.outline, 1)
        row.addWidget(self.state, 3)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(row)
        layout.addWidget(self.message)


def _hold_photo(labels: Labels, hold: bool) -> None:
    """Let a drag not move the photo; if the user chose another tool than Refine, nothing changes."""
    if labels.mode == "pan_zoom":
        labels.mouse_pan = not hold
        labels.cursor = "cross" if hold else "standard"
