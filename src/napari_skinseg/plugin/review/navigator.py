"""From photo to photo: showing, leaving, deciding, taking back. Nobody leaves a photo whose mask is not on disk."""

from collections.abc import Callable

from qtpy.QtCore import QTimer

from napari_skinseg.plugin.background import Outcome
from napari_skinseg.plugin.keys import Bindings
from napari_skinseg.plugin.session import Session, report_failure
from napari_skinseg.project.project import Photo, Project, Status

from .autosave import Saver
from .current_photo import Desk
from .form import ReviewForm
from .mask_display import Look
from .photo_list import ReviewList
from .prefetch import Ahead, Ready
from .write_queue import Writes

_SOON = 50  # ms; what is done for later waits until what is wanted now has been drawn


class Walk:
    """Through one project at a time; `start` and `stop`.

    Attributes:
        has_decided: whether anything was decided since the start.
        keeps_zoom: do not fit the view to each photo.
    """

    def __init__(self, session: Session, form: ReviewForm) -> None:
        self._viewer, self._form = session.viewer, form
        self.writes = Writes(session.background)
        self.desk = Desk(session.viewer)
        self.saver = Saver(self.desk, self.writes)
        self.look = Look(session.viewer, session.background, form.tools.show_filled, form.show_look)
        self.ahead = Ahead(session, self._on_ready)
        self.has_decided = self.keeps_zoom = False
        self._project: Project | None = None
        self._may_edit = False
        self._target: str | None = None
        self._visited: list[str] = []
        self._word = ""  # what to say once the next photo is shown
        self._soon = QTimer(singleShot=True, interval=_SOON)
        self._soon.timeout.connect(self._look_ahead)
        self._is_leaving = self._is_shut = self._is_watched = False
        actions: dict[str, Callable[[], object]] = {
            "accept": self.accept,
            "skip": self.skip,
            "issue": self.open_issue,
            "next": self.next,
            "previous": self.previous,
            "take back": self.take_back,
            "next alike": self.next_alike,
            "look": self.look.cycle,
            "model": self.model_mask,
            "refine": form.tools.refine.toggle,
            "smaller": form.tools.brush_smaller,
            "larger": form.tools.brush_larger,
        }
        self._bindings = Bindings(form.keys, actions, self.look.hold)
        self.saver.learned.connect(self.learn)
        self.desk.lost.connect(self._on_lost)
        self.desk.changed.connect(self._on_changed)

    @property
    def photo(self) -> str | None:
        """Id of the photo that is shown, or on its way."""
        return self._target

    @property
    def _list(self) -> ReviewList | None:
        return self._form.photos.list

    # Beginning and end

    def start(self, project: Project, at: str | None, *, may_edit: bool) -> None:
        """Review a project whose photos the table shows, beginning with the photo `at`."""
        self._project, self._may_edit, self.has_decided, self._visited = project, may_edit, False, []
        self.ahead.open(project)
        self.saver.open(project if may_edit else None)
        self.desk.hide_others()
        if at is not None:
            self._fetch(at)
        elif self._list is not None and len(self._list):
            self._finish_queue()

    def stop(self, then: Callable[[], None]) -> None:
        """Save, take the layers away and go on with `then`; stays if the saving fails."""
        if self._is_leaving:
            QTimer.singleShot(_SOON, lambda: self.stop(then))
            return

        def put_away() -> None:
            if self._soon.isActive():
                self._look_ahead()
            self._forget_photo()
            self.ahead.open(None)
            self.look.remove()
            self.desk.remove()
            self.saver.open(None)
            self._project = self._target = None
            self._bind()
            then()

        self._leave(put_away)

    def shut(self) -> None:
        """Save on the spot, for a window that has gone; nothing is shown any more."""
        if not self._is_shut:
            self.saver.blockSignals(True)
            self.saver.finish()
            self._is_shut = True
            self._soon.stop()
            self._bindings.release()

    def watch(self, watched: bool) -> None:
        """Have the keys, as long as the tab is seen."""
        self._is_watched = watched
        self._bind()

    # From photo to photo

    def go(self, photo: str) -> None:
        """Show a photo, once the one in hand is saved."""
        in_hand = self.desk.photo is not None and self.desk.photo.id == photo
        if not in_hand and self._list is not None and photo in self._list:
            self._leave(lambda: self._fetch(photo))

    def next(self) -> None:
        """On to the next photo of the table; from the last to what is still open."""
        if self._list is None or self._target is None:
            return
        following = self._list.step(self._target, 1) or self._list.next_open(self._target)
        if following is None:
            self._leave(self._finish_queue)
        else:
            self.go(following)

    def go_first(self) -> None:
        """To the head of the queue, if nothing was begun on the photo in hand."""
        if self._list is not None and self._list.shown and self.desk.photo is not None and not self.desk.photo.reviewed:
            self.go(self._list.shown[0])

    def previous(self) -> None:
        """Back to the photo looked at before, or to the one above."""
        if self._list is None or self._target is None:
            return
        if self._visited:
            self._leave(lambda: self._fetch(self._visited.pop(), remember=False))
        elif (above := self._list.step(self._target, -1)) is not None:
            self._leave(lambda: self._fetch(above, remember=False))

    def next_alike(self) -> None:
        """On to the next photo of the same status."""
        if self._list is not None and self._target is not None:
            alike = self._list.next_alike(self._target)
            if alike is None:
                self._form.say(f"No other photo is {self._list[self._target].status}.")
            else:
                self.go(alike)

    def refresh(self, photo: Photo) -> None:
        """Take news of a photo that came from outside, and show them unless a person has drawn on it."""
        self.learn(photo)
        self.ahead.forget(photo.id)
        ready = self.desk.ready
        if ready is not None and photo.id == self._target and self.desk.is_untouched and not photo.has_mask:
            self.desk.put_away()
            self.desk.freeze()
        self._want()

    def learn(self, photo: Photo) -> None:
        """Take what the project says of a photo by now."""
        if self._list is not None and not self._is_shut:
            self._form.photos.put(photo)
            self._form.show_counts(self._list.counts())
        self.desk.learn(photo)

    # Decisions

    def accept(self) -> None:
        """Approve the mask in hand and go on."""
        ready, project = self.desk.ready, self._may_decide()
        if ready is None or project is None:
            return
        if ready.awaits_model and self.desk.is_untouched:
            self._form.say(f"The model is still at {ready.photo.name}; wait a moment, or draw the lesion yourself.")
            return
        photo, mask, seconds = ready.photo, self.desk.mask(), self.saver.seconds()
        note = "" if mask.any() else f"{photo.name} was accepted as a photo without a lesion; Shift+W takes it back."
        self._decide(f"accepting {photo.name}", lambda project: project.accept(photo.id, mask, seconds=seconds), note)

    def skip(self) -> None:
        """Leave the photo out and go on."""
        self._decide_status("skipped", "skipping")

    def open_issue(self) -> None:
        """Ask for a note."""
        if self._may_decide() is not None and self.desk.photo is not None:
            self._form.note.open(self.desk.photo.note)

    def issue(self, note: str) -> None:
        """Note that something is wrong with the photo and go on."""
        self._decide_status("issue", "noting an issue of", note.strip())

    def take_back(self) -> None:
        """Undo the last decision and show its photo."""
        project = self._may_decide(without_photo=True)
        if project is None:
            return

        def on_end(outcome: Outcome) -> None:
            if self._is_shut:
                return
            if outcome.error is not None:
                self._form.say(report_failure(outcome.error, "Taking back"), is_problem=True)
            elif outcome.result is None:
                self._form.say("There is no decision to take back.")
            else:
                photo = outcome.result
                self.learn(photo)
                self.ahead.forget(photo.id)
                self._word = f"{photo.name} is {photo.status} again."
                self._leave(lambda: self._show_anew(photo.id))

        self._leave(lambda: self.writes.ask("taking back", project.take_back, on_end))

    # What is seen

    def model_mask(self) -> None:
        """Put the model's own mask back, as one step that Ctrl+Z takes back."""
        ready = self.desk.ready
        if ready is not None and ready.prediction is not None and self._may_edit:
            prediction = ready.prediction
            self._form.tools.edit_mask("Back to the model's mask", lambda mask: prediction)

    # Leaving and showing

    def _leave(self, then: Callable[[], None]) -> None:
        if self._is_leaving or self._is_shut:
            return
        self._is_leaving = True

        def go_on() -> None:
            self._is_leaving = False
            if not self._is_shut:
                then()

        self._form.tools.refine.when_answered(lambda: self.saver.save(go_on, self._stay))

    def _stay(self) -> None:
        self._is_leaving = False
        if not self._is_shut:
            self._form.table.point_at(self._target)

    def _fetch(self, photo: str, *, remember: bool = True) -> None:
        """Show a photo as soon as it is ready."""
        left = self.desk.put_away()
        if left is not None:
            self.ahead.put(left)
        if remember and self._target not in (None, photo):
            self._visited = [*self._visited[-999:], str(self._target)]
        if self._target is not None:
            self._form.say(self._word)
        self._target, self._word = photo, ""
        self._form.note.close_field()
        self._form.table.point_at(photo)
        ready = self.ahead.get(photo)
        if ready is not None and self._list is not None and not ready.is_current(self._list[photo]):
            self.ahead.forget(photo)
            ready = None
        if ready is not None:
            self._put(ready)
            self._soon.start()
        elif self._list is not None:
            self.desk.freeze()
            self._form.name.setText(f"Opening {self._list[photo].name}…")
            self._want()

    def _show_anew(self, photo: str) -> None:
        self.desk.put_away()
        self.ahead.forget(photo)
        self._fetch(photo)

    def _put(self, ready: Ready) -> None:
        form = self._form
        if ready.rgb is None:
            self._forget_photo()
            self.desk.clear()
            form.say(ready.problem, is_problem=True)
            return
        self.desk.show(ready, keep_zoom=self.keeps_zoom, may_edit=self._may_edit)
        self.saver.begin()
        layers = (self.desk.labels, self.desk.image) if self._may_edit else (None, None)
        form.tools.set_layer(*layers, is_blind=ready.photo.blind)
        self.look.take(self.desk.labels, ready.prediction)
        self._bind()
        form.show_photo(ready, may_edit=self._may_edit)
        self._soon.start()

    def _look_ahead(self) -> None:
        """Once the photo is drawn: note that it was looked at, and get the next ones ready."""
        self._soon.stop()
        project, photo = self._project, self.desk.photo
        if self._may_edit and project is not None and photo is not None:
            self.writes.ask(f"visiting {photo.name}", lambda: project.visit(photo.id), self._on_visited)
        self._want()

    def _on_visited(self, outcome: Outcome) -> None:
        if outcome.error is not None and not self._is_shut:
            self._form.say(report_failure(outcome.error, "Remembering this place"), is_problem=True)

    def _on_ready(self, ready: Ready) -> None:
        if self._list is None or ready.photo.id not in self._list:
            return
        self.learn(ready.photo)
        if ready.photo.id != self._target:
            return
        if self.desk.ready is None:
            self._put(ready)
        elif self.desk.ready.awaits_model and not ready.awaits_model:
            is_begun = not self.desk.is_untouched or self._form.tools.refine.has_clicks
            if not is_begun and not ready.photo.has_mask and ready.prediction is not None:
                self._put(ready)
            else:  # somebody draws already, or must not see it
                self.desk.learn_prediction(ready)
                self.look.take(self.desk.labels, ready.prediction)
                self._form.show_photo(self.desk.ready, may_edit=self._may_edit)
            if ready.problem:
                self._form.say(ready.problem, is_problem=True)

    def _want(self) -> None:
        if self._list is not None and self._target is not None:
            before = self._visited[-1] if self._visited else self._list.step(self._target, -1)
            ahead = [*self._list.ahead(self._target)[:4], before]
            self.ahead.want([self._target, *(one for one in ahead if one is not None and one in self._list)])

    def _may_decide(self, *, without_photo: bool = False) -> Project | None:
        """The project, if something may be decided now."""
        if self._is_leaving or not self._may_edit or (self.desk.photo is None and not without_photo):
            return None
        return self._project

    def _decide_status(self, status: Status, doing: str, note: str | None = None) -> None:
        photo = self.desk.photo
        if photo is None or self._may_decide() is None:
            return
        seconds, words = self.saver.seconds(), photo.note if note is None else note
        self._leave(
            lambda: self._decide(
                f"{doing} {photo.name}",
                lambda project: project.decide(photo.id, status, words, seconds=seconds),
            )
        )

    def _decide(self, title: str, work: Callable[[Project], Photo], note: str = "") -> None:
        project = self._project
        assert project is not None
        self._is_leaving = True

        def decided(photo: Photo) -> None:
            self._is_leaving = False
            if self._is_shut or self._list is None:
                return
            self.has_decided = True
            self._word = note
            following = self._list.next_open(photo.id)
            if following is None or following == photo.id:
                self._leave(self._finish_queue)
            else:
                self.go(following)

        self.saver.write(title, lambda: work(project), decided, self._stay)

    def _finish_queue(self) -> None:
        """Say what was done, at the end."""
        assert self._list is not None
        assert self._project is not None
        self._form.say_end(self._list.counts(), self._list.wanted, self._project.folder)

    def _forget_photo(self) -> None:
        self._form.tools.set_layer(None, None)
        self.look.take(None, None)
        self._form.show_photo(None, may_edit=False)

    def _on_lost(self) -> None:
        """A person removed a layer: keep what is drawn, and have no photo in hand."""
        self.saver.save()
        if not self._is_shut:
            self._forget_photo()
            self._form.say("The photo's layers were removed; what you drew is saved. Choose a photo to go on.")

    def _on_changed(self) -> None:
        if self.look.mode == "difference":
            self.look.refresh()

    def _bind(self) -> None:
        self._bindings.release()
        if self._is_watched and self._project is not None:
            self._bindings.bind(*(target for target in (self.desk.labels, self._viewer) if target is not None))
