"""Refine: a click on what the mask misses, or has too much of, and the model draws it anew."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from app_model.types import KeyCode, KeyMod
from napari.layers import Labels
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_skinseg.errors import BadInput
from napari_skinseg.models.guidance import Click
from napari_skinseg.plugin import keys as review_keys
from napari_skinseg.plugin.background import Outcome
from napari_skinseg.plugin.forms import Message
from napari_skinseg.plugin.layers import LayerPhoto
from napari_skinseg.plugin.mask_layers import LESION
from napari_skinseg.plugin.session import Session, preferred_device, report_failure

from .mask_edit import Tile, changed_tiles
from .refine_session import Dots, Round

if TYPE_CHECKING:
    from napari_skinseg.segmentation.options import SegmentOptions
    from napari_skinseg.segmentation.segmenter import Refiner

_A_CLICK = 4.0
"""Pixels of the screen that the mouse may move in a click; farther, the view was moved."""

_UNDO = KeyMod.CtrlCmd | KeyCode.KeyZ
_REDO = KeyMod.CtrlCmd | KeyMod.Shift | KeyCode.KeyZ


class RefineTool(QWidget):
    """The button, and what clicks do while it is down.

    It stays down until it is pressed again, or the person takes another tool or layer. Clicks are answered one after
    the other, each from the mask as it then is; an answer is one step for Ctrl+Z, which takes the dot along.

    Args:
        session: viewer, workers and models.
        in_hand: the photo to click on and the layer of its mask, made if there is none; raises `BadInput` if there is
            no photo, or the model must keep its hands off it.
        options: how a mask is made from what the network says; None for the model's own way.
    """

    changed = Signal()
    """A click changed the mask, or a step to or fro did."""

    def __init__(
        self,
        session: Session,
        in_hand: Callable[[], tuple[LayerPhoto, Labels]],
        options: Callable[[], "SegmentOptions | None"] = lambda: None,
    ) -> None:
        super().__init__()
        self._session, self._viewer, self._in_hand, self._options = session, session.viewer, in_hand, options
        self._model = ""
        self._dots = Dots(session.viewer)
        self._round: Round | None = None
        self._refiner: Refiner | None = None
        self._ticket: object | None = None  # of the job whose outcome is waited for
        self._tool_before: str | None = None
        self._held_callbacks: list[Any] = []
        self._once_answered: list[Callable[[], object]] = []
        self.button = QPushButton("Refine")
        self.state, self.message = QLabel(), Message()
        self._say = self.message.say
        self._look = QTimer(self, singleShot=True, interval=0)
        self._look.timeout.connect(self._leave_if_left)
        self._lay_out()
        self.button.toggled.connect(self._switch)
        self._say("")
        self._show()

    @property
    def is_on(self) -> bool:
        """Whether clicks refine."""
        return self.button.isChecked()

    @property
    def has_clicks(self) -> bool:
        """Whether any click was made on the mask in hand."""
        return self._round is not None and bool(self._round.asked or self._round.answered)

    @property
    def photo(self) -> LayerPhoto | None:
        """What is clicked on while it is on."""
        return None if self._round is None else self._round.photo

    def toggle(self) -> None:
        """On or off, for a key."""
        self.switch(not self.is_on)

    def switch(self, on: bool) -> None:
        """On or off; what cannot be refined says why, and it stays off."""
        self.button.setChecked(on)

    def use_model(self, name: str) -> None:
        """Have this model answer from now on; an empty name: none."""
        if name != self._model:
            self._model = name
            if name:
                self.restart()
            else:
                self.switch(False)

    def restart(self) -> None:
        """Forget the clicks: another mask is in hand now, or none. If on it stays on, ready for clicks on that one."""
        self._end_round()
        if self.is_on:
            self._begin_round()
        self._show()

    def step(self, forwards: bool) -> bool:
        """Undo or redo on the mask, dots included; False if the mask in hand has nothing to do with clicks."""
        round_ = self._round
        if round_ is None:
            return False
        self._say("")
        (round_.step_forward if forwards else round_.step_back)()
        self.changed.emit()
        self._next()
        return True

    def when_answered(self, then: Callable[[], object]) -> None:
        """Go on with `then` once no click waits for its answer; until then, none is taken."""
        if self._round is None or not self._round.asked:
            then()
        else:
            self._once_answered.append(then)

    # A round: from the first click on a mask to the last

    def _switch(self, on: bool) -> None:
        if on:
            self._begin_round()
            if self._round is None:
                self.switch(False)
        else:
            round_, tool = self._round, self._tool_before
            self._end_round()
            self._dots.remove()
            self._tool_before = None
            if round_ is not None:
                self._say("")
                if round_.labels.editable and round_.labels.mode == "pan_zoom":
                    round_.labels.mode = tool
        self._show()

    def _begin_round(self) -> None:
        """Be ready for clicks on the photo in hand, or say why not."""
        try:
            if not self._model:
                raise BadInput("There is no model on this computer; add one: napari-skinseg models add FILE.")
            photo, labels = self._in_hand()
        except BadInput as error:
            self._dots.remove()
            self._say(str(error), is_problem=True)
            return
        self._say("")
        if self._tool_before is None:
            self._tool_before = str(labels.mode)
        self._round = Round(photo, labels, self._dots)
        labels.mode = "pan_zoom"
        self._viewer.layers.selection.active = labels
        labels.bind_key(_UNDO, lambda layer: self.step(forwards=False), overwrite=True)
        labels.bind_key(_REDO, lambda layer: self.step(forwards=True), overwrite=True)
        labels.mouse_drag_callbacks.append(self._on_press)
        labels.mouse_double_click_callbacks.append(self._on_second_press)
        # Two quick clicks are two clicks, and not napari's zoom.
        self._held_callbacks = list(self._viewer.mouse_double_click_callbacks)
        self._viewer.mouse_double_click_callbacks.clear()
        for event in self._signs_of_leaving(labels):
            event.connect(self._look_soon)
        self._next()

    def _end_round(self) -> None:
        round_, self._round = self._round, None
        self._refiner = self._ticket = None
        if round_ is not None:
            labels = round_.labels
            round_.end()
            for event in self._signs_of_leaving(labels):
                event.disconnect(self._look_soon)
            self._viewer.mouse_double_click_callbacks.extend(self._held_callbacks)
            labels.mouse_double_click_callbacks.remove(self._on_second_press)
            labels.mouse_drag_callbacks.remove(self._on_press)
            for key in (_UNDO, _REDO):
                labels.bind_key(key, None, overwrite=True)
        self._go_on()

    def _signs_of_leaving(self, labels: Labels) -> tuple[Any, ...]:
        layers = self._viewer.layers
        return labels.events.mode, layers.selection.events.active, layers.events.removed

    def _look_soon(self) -> None:
        # Not at once: another layer is the active one while some layer is inserted.
        self._look.start()

    def _leave_if_left(self) -> None:
        """Another tool, another layer, a layer removed: the person has something else in mind."""
        round_ = self._round
        if round_ is not None:
            labels, layers = round_.labels, self._viewer.layers
            are_there = labels in layers and round_.photo.layer in layers and self._dots.are_there
            if not are_there or layers.selection.active != labels or labels.mode != "pan_zoom":
                self.switch(False)

    # Clicks

    def _on_press(self, layer: Labels, event: Any) -> Iterator[None]:
        start, position, button, modifiers = np.array(event.pos), event.position, event.button, set(event.modifiers)
        farthest = 0.0
        yield
        while event.type == "mouse_move":
            farthest = max(farthest, math.dist(start, event.pos))
            yield
        if max(farthest, math.dist(start, event.pos)) <= _A_CLICK:
            self._click(position, button, modifiers)

    def _on_second_press(self, layer: Labels, event: Any) -> None:
        """Qt calls the second of two quick clicks a double click, and does not say where it ends."""
        self._click(event.position, event.button, set(event.modifiers))

    def _click(self, position: tuple[float, ...], button: int, modifiers: set[Any]) -> None:
        round_ = self._round
        if round_ is None or self._once_answered or button not in (1, 2) or not modifiers <= {"Shift"}:
            return
        labels, (height, width) = round_.labels, round_.photo.shape
        row, column = (float(at) for at in labels.world_to_data(position[-labels.ndim :])[-2:])
        if self._viewer.dims.ndisplay != 2:
            self._say("Refine works on the flat photo; switch the viewer back to 2D.", is_problem=True)
        elif not labels.editable:
            self._say(f"{labels.name} is locked; unlock it to refine it.", is_problem=True)
        elif not (-0.5 <= row < height - 0.5 and -0.5 <= column < width - 0.5):
            self._say("That click is outside the photo.", is_problem=True)
        else:
            self._say("")
            round_.ask(Click(row, column, include=button == 1 and not modifiers))
            self._next()
            round_.show()  # while the network is at work

    # Answers

    def _next(self) -> None:
        """Have done what is to be done next, if nothing is being done."""
        round_ = self._round
        if round_ is not None and self._ticket is None:
            if self._refiner is None:
                self._get_ready(round_)
            elif round_.asked:
                self._answer(round_, self._refiner)
        self._show()
        self._go_on()

    def _get_ready(self, round_: Round) -> None:
        photo, model, device = round_.photo, self._model, preferred_device()
        before, segmenters, options = np.array(round_.labels_now == LESION), self._session.segmenters, self._options()

        def work() -> "Refiner":
            refiner = segmenters.get(model, device).refiner(photo.read(), name=photo.name)
            # The first run of a network is slow, and so is looking closer at a mask for the first time: not at a click.
            inside = np.argwhere(before)
            row, column = inside[len(inside) // 2] if len(inside) else (0, 0)
            refiner.refine([Click(float(row), float(column))], before, options)
            return refiner

        self._start(f"getting ready to refine {photo.name}", work, self._on_ready)

    def _on_ready(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self.switch(False)
            self._say(report_failure(outcome.error, "Refining"), is_problem=True)
        self._refiner = outcome.result

    def _answer(self, round_: Round, refiner: "Refiner") -> None:
        click, before, options = round_.asked[0], np.array(round_.labels_now), self._options()
        clicks = [*round_.answered, click]

        def work() -> list[Tile]:
            mask = refiner.refine(clicks, before == LESION, options).mask
            return changed_tiles(before, lambda lesion: mask)[0]

        self._start(f"refining {round_.photo.name}", work, partial(self._on_answer, round_, click, before))

    def _on_answer(self, round_: Round, click: Click, before: np.ndarray[Any, Any], outcome: Outcome) -> None:
        self._leave_if_left()
        if round_ is not self._round or not round_.asked or round_.asked[0] is not click:
            return  # it was taken back meanwhile
        if outcome.error is not None:
            round_.drop()
            self._say(report_failure(outcome.error, "Refining"), is_problem=True)
        elif np.array_equal(before, round_.labels_now):  # else the mask was changed meanwhile: asked again
            round_.write(outcome.result)
            self.changed.emit()
            if not outcome.result:
                self._say("The model sees it like that already; nothing changed.")

    def _start(self, title: str, work: Callable[[], Any], take: Callable[[Outcome], None]) -> None:
        ticket = self._ticket = object()

        def on_end(outcome: Outcome) -> None:
            if ticket is not self._ticket:
                return  # the round has ended
            take(outcome)
            if ticket is self._ticket:
                self._ticket = None
            self._next()

        self._session.background.start(title, lambda report, cancel: work(), on_end)

    def _go_on(self) -> None:
        if self._round is None or not self._round.asked:
            waiting, self._once_answered = self._once_answered, []
            for then in waiting:
                then()

    # What is seen

    def _show(self) -> None:
        round_ = self._round
        if round_ is None:
            text = ""
        elif round_.asked:
            text = "Thinking…" if len(round_.asked) == 1 else f"Thinking… {len(round_.asked)} clicks"
        elif self._refiner is None:
            text = "Getting ready…"
        else:
            text = "Left: lesion · right: not"
        self.state.setText(text)

    def _lay_out(self) -> None:
        key = review_keys.chosen()["refine"].shown
        self.button.setCheckable(True)
        self.button.setToolTip(
            "Click on what the mask misses; right click, or Shift and click, on what it has too much of.\n"
            f"Ctrl+Z takes a click back. ({key})"
        )
        self.state.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        row = QHBoxLayout()
        row.addWidget(self.button, 1)
        row.addWidget(self.state, 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(row)
        layout.addWidget(self.message)
