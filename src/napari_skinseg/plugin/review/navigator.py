"""Go from photo to photo and decide on each. The person can leave a photo only after its mask is saved."""

from collections.abc import Callable

from qtpy.QtCore import QTimer

from napari_skinseg.plugin.background import Outcome
from napari_skinseg.plugin.keys import KeyBindings
from napari_skinseg.plugin.session import Session, report_failure
from napari_skinseg.project.project import Photo, Project, Status

from .autosave import Autosave
from .current_photo import CurrentPhoto
from .form import ReviewForm
from .mask_display import MaskDisplay
from .photo_list import PhotoList
from .prefetch import LoadedPhoto, Prefetch
from .write_queue import WriteQueue

_SHORTLY = 50  # ms; prefetching starts after napari has rendered the current photo


class Navigator:
    """Shows the photos of one project at a time, between `start` and `stop`.

    Attributes:
        current: the photo that is shown.
        autosave: saves its mask.
        display: how its mask is displayed.
        prefetch: loads the next photos.
        write_queue: all writes to the project.
        keep_zoom: do not fit the view to each photo.
    """

    def __init__(self, session: Session, form: ReviewForm) -> None:
        self._viewer, self._activity, self._form = session.viewer, session.activity, form
        self.write_queue = WriteQueue(session.background)
        self.current = CurrentPhoto(session.viewer)
        self.autosave = Autosave(self.current, self.write_queue)
        self.display = MaskDisplay(session.viewer, session.background, form.tools.show_filled, form.show_display_mode)
        self.prefetch = Prefetch(session, self._on_loaded)
        self.keep_zoom = False
        self._project: Project | None = None
        self._may_edit = False
        self._target: str | None = None
        self._visited: list[str] = []
        self._next_message = ""  # shown together with the next photo
        self._soon = QTimer(singleShot=True, interval=_SHORTLY)
        self._soon.timeout.connect(self._after_showing)
        self._is_leaving = self._is_shut_down = self._has_keys = False
        actions: dict[str, Callable[[], object]] = {
            "accept": self.accept,
            "skip": self.skip,
            "issue": self.open_issue_note,
            "next": self.next,
            "previous": self.previous,
            "take_back": self.take_back,
            "next_alike": self.next_with_status,
            "look": self.display.next_mode,
            "model": self.restore_prediction,
            "refine": form.tools.refine.toggle,
            "box": form.tools.refine.toggle_box,
            "edit_outline": form.tools.refine.outline.toggle,
            "smaller": form.tools.brush_smaller,
            "larger": form.tools.brush_larger,
        }
        self._key_bindings = KeyBindings(form.keys, actions, self.display.hide_while_pressed)
        self.autosave.photo_saved.connect(self.update_photo)
        self.current.other_layer_hidden.connect(self._on_other_layer_hidden)  # a function would never be freed
        self.current.layers_removed.connect(self._on_layers_removed)
        self.current.mask_changed.connect(self._on_mask_changed)

    @property
    def photo(self) -> str | None:
        """Id of the photo that is shown or is being loaded."""
        return self._target

    @property
    def _list(self) -> PhotoList | None:
        return self._form.photos.list

    # Start and end

    def start(self, project: Project, photo: str | None, *, may_edit: bool) -> None:
        """Review `project`, whose photos the table shows, beginning with `photo`; None if all are reviewed."""
        self._project, self._may_edit, self._visited = project, may_edit, []
        self.prefetch.open(project)
        self.autosave.open(project if may_edit else None)
        self.current.show_only_review()
        if photo is not None:
            self._show(photo)
        elif self._list is not None and self._list.shown:
            self._show(self._list.last_changed())
            self._show_summary()

    def stop(self, then: Callable[[], None]) -> None:
        """Save, remove the layers and call `then`; if saving fails, the photo stays open."""
        if self._is_leaving:
            QTimer.singleShot(_SHORTLY, lambda: self.stop(then))
            return

        def end() -> None:
            self._is_leaving = False
            if self._is_shut_down:
                return
            if self._soon.isActive():
                self._after_showing()
            self._show_no_photo()
            self.prefetch.open(None)
            self.display.remove_layer()
            self.current.remove_layers()
            self.autosave.open(None)
            self._project = self._target = None
            self._bind_keys()
            then()

        def end_soon() -> None:
            # Not while napari handles an event: removing a layer that still gets an event can crash in OpenGL.
            self._is_leaving = True
            QTimer.singleShot(0, end)

        self._leave(end_soon)

    def shut_down(self) -> None:
        """Save before returning and show nothing more: the window or the widget is being deleted."""
        if not self._is_shut_down:
            self.autosave.blockSignals(True)
            self.autosave.save_now()
            self._is_shut_down = True
            self.current.stop_watching()
            self._soon.stop()
            self._key_bindings.release()

    def set_active(self, is_active: bool) -> None:
        """While the tab is shown, bind the keys and show only the layers of the review."""
        self._has_keys = is_active
        self._bind_keys()
        if self._project is not None:
            (self.current.show_only_review if is_active else self.current.hide_review)()

    # From photo to photo

    def go_to(self, photo: str) -> None:
        """Save the current photo and show another one."""
        is_shown = self.current.photo is not None and self.current.photo.id == photo
        if not is_shown and self._list is not None and photo in self._list:
            self._leave(lambda: self._show(photo))

    def next(self) -> None:
        """Go to the next photo of the table; after the last one, to the next open photo."""
        if self._list is None or self._target is None:
            return
        following = self._list.step(self._target, 1) or self._list.next_open(self._target)
        if following is None:
            self._leave(self._show_summary)
        else:
            self.go_to(following)

    def go_to_first(self) -> None:
        """Go to the first photo of the table."""
        if self._list is not None and self._list.shown:
            self.go_to(self._list.shown[0])

    def previous(self) -> None:
        """Go back to the photo that was shown before, or else to the one above in the table."""
        if self._list is None or self._target is None:
            return
        if self._visited:
            self._leave(lambda: self._show(self._visited.pop(), remember=False))
        elif (above := self._list.step(self._target, -1)) is not None:
            self._leave(lambda: self._show(above, remember=False))

    def next_with_status(self) -> None:
        """Go to the next photo with the same status."""
        if self._list is not None and self._target is not None:
            following = self._list.next_with_status(self._target)
            if following is None:
                self._form.say(f"No other photo is {self._list[self._target].status}.")
            else:
                self.go_to(following)

    def show_prediction(self, photo: Photo) -> None:
        """Take over a prediction of *Predict all*; show it if the person has not begun to correct the photo."""
        self.update_photo(photo)
        self.prefetch.discard(photo.id)
        loaded = self.current.loaded
        if loaded is not None and photo.id == self._target and self.current.is_unchanged and not photo.has_mask:
            self.current.unload()
            self.current.lock()
        self._request_photos()

    def update_photo(self, photo: Photo) -> None:
        """Show the new record of a photo in the table and in the counts."""
        if self._list is not None and not self._is_shut_down:
            self._form.photos.update(photo)
            self._form.show_counts(self._list.counts())
        self.current.update_photo(photo)

    # Decisions

    def accept(self) -> None:
        """Accept the current mask and go on."""
        loaded, project = self.current.loaded, self._editable_project()
        if loaded is None or project is None:
            return
        if loaded.awaits_prediction and self.current.is_unchanged:
            self._form.say(
                f"The model has not finished {loaded.photo.name}. Wait a moment, or outline the lesion yourself."
            )
            return
        photo, mask, seconds = loaded.photo, self.current.mask(), self.autosave.take_seconds()
        message = "" if mask.any() else f"{photo.name} was accepted without a lesion. Shift+W takes this back."
        self._decide(
            f"accepting {photo.name}", lambda project: project.accept(photo.id, mask, seconds=seconds), message
        )

    def skip(self) -> None:
        """Mark the current photo as skipped and go on."""
        self._set_status("skipped", "skipping")

    def open_issue_note(self) -> None:
        """Ask for the note of an issue."""
        if self._editable_project() is not None and self.current.photo is not None:
            self._form.note.open(self.current.photo.note)

    def report_issue(self, note: str) -> None:
        """Mark the current photo as an issue, with a note, and go on."""
        self._set_status("issue", "noting an issue of", note.strip())

    def take_back(self) -> None:
        """Undo the last decision and show its photo."""
        project = self._editable_project(needs_photo=False)
        if project is None:
            return

        def on_end(outcome: Outcome) -> None:
            if self._is_shut_down:
                return
            if outcome.error is not None:
                self._form.say(report_failure(outcome.error, "Taking back the decision"), is_problem=True)
            elif outcome.result is None:
                self._form.say("There is no decision to take back.")
            else:
                photo = outcome.result
                self.update_photo(photo)
                self.prefetch.discard(photo.id)
                self._next_message = f"{photo.name} is {photo.status} again."
                self._leave(lambda: self._reload(photo.id))

        self._leave(lambda: self.write_queue.add("taking back the decision", project.take_back, on_end))

    def restore_prediction(self) -> None:
        """Replace the mask by the prediction, as one step that Ctrl+Z undoes."""
        loaded = self.current.loaded
        if loaded is not None and loaded.prediction is not None and self._may_edit:
            prediction = loaded.prediction
            self._form.tools.edit_mask("Back to the model's mask", lambda mask: prediction)

    # Leave and show

    def _leave(self, then: Callable[[], None]) -> None:
        """Finish the clicks of Refine, save the mask, then call `then`."""
        if self._is_leaving or self._is_shut_down:
            return
        self._is_leaving = True

        def go_on() -> None:
            self._is_leaving = False
            if not self._is_shut_down:
                then()

        self._form.tools.refine.when_answered(lambda: self.autosave.save(go_on, self._stay))

    def _stay(self) -> None:
        self._is_leaving = False
        if not self._is_shut_down:
            self._form.table.select(self._target)

    def _show(self, photo: str, *, remember: bool = True) -> None:
        """Show a photo, at once if it is loaded, or as soon as it is."""
        self._activity.note()
        left = self.current.unload()
        if left is not None:
            self.prefetch.put(left)
        if remember and self._target not in (None, photo):
            self._visited = [*self._visited[-999:], str(self._target)]
        if self._target is not None:
            self._form.say(self._next_message)
        self._target, self._next_message = photo, ""
        self._form.note.close_field()
        self._form.table.select(photo)
        loaded = self.prefetch.get(photo)
        if loaded is not None and self._list is not None and not loaded.is_current(self._list[photo]):
            self.prefetch.discard(photo)
            loaded = None
        if loaded is not None:
            self._show_loaded(loaded)
            self._soon.start()
        elif self._list is not None:
            self.current.lock()
            self._form.name.setText(f"Opening {self._list[photo].name}…")
            self._request_photos()

    def _reload(self, photo: str) -> None:
        self.current.unload()
        self.prefetch.discard(photo)
        self._show(photo)

    def _show_loaded(self, loaded: LoadedPhoto) -> None:
        form = self._form
        if loaded.rgb is None:
            self._show_no_photo()
            self.current.clear()
            form.say(loaded.problem, is_problem=True)
            return
        self.current.show(loaded, keep_zoom=self.keep_zoom, may_edit=self._may_edit)
        self.autosave.start_photo()
        layers = (self.current.labels, self.current.image) if self._may_edit else (None, None)
        form.tools.set_layer(*layers, is_blind=loaded.photo.blind)
        self.display.set_mask(self.current.labels, loaded.prediction)
        self._bind_keys()
        form.show_photo(loaded, may_edit=self._may_edit)
        self._soon.start()

    def _after_showing(self) -> None:
        """Store that the photo was shown, and prefetch the next photos."""
        self._soon.stop()
        project, photo = self._project, self.current.photo
        if self._may_edit and project is not None and photo is not None:
            self.write_queue.add(f"visiting {photo.name}", lambda: project.visit(photo.id), self._on_visited)
        self._request_photos()

    def _on_visited(self, outcome: Outcome) -> None:
        if outcome.error is not None and not self._is_shut_down:
            self._form.say(report_failure(outcome.error, "Storing the current photo"), is_problem=True)

    def _on_loaded(self, loaded: LoadedPhoto) -> None:
        if self._list is None or loaded.photo.id not in self._list:
            return
        self.update_photo(loaded.photo)
        if loaded.photo.id != self._target:
            return
        if self.current.loaded is None:
            self._show_loaded(loaded)
        elif self.current.loaded.awaits_prediction and not loaded.awaits_prediction:
            is_begun = not self.current.is_unchanged or self._form.tools.refine.has_clicks
            if not is_begun and not loaded.photo.has_mask and loaded.prediction is not None:
                self._show_loaded(loaded)
            else:  # the person has begun to correct the mask, or must not see the prediction
                self.current.add_prediction(loaded)
                self.display.set_mask(self.current.labels, loaded.prediction)
                self._form.show_photo(self.current.loaded, may_edit=self._may_edit)
            if loaded.problem:
                self._form.say(loaded.problem, is_problem=True)

    def _request_photos(self) -> None:
        if self._list is not None and self._target is not None:
            before = self._visited[-1] if self._visited else self._list.step(self._target, -1)
            photos = [*self._list.likely_next(self._target)[:4], before]
            self.prefetch.request([self._target, *(one for one in photos if one is not None and one in self._list)])

    def _editable_project(self, *, needs_photo: bool = True) -> Project | None:
        """The project, if the person may decide now."""
        if self._is_leaving or not self._may_edit or (self.current.photo is None and needs_photo):
            return None
        return self._project

    def _set_status(self, status: Status, doing: str, note: str | None = None) -> None:
        photo = self.current.photo
        if photo is None or self._editable_project() is None:
            return
        seconds, text = self.autosave.take_seconds(), photo.note if note is None else note
        self._leave(
            lambda: self._decide(
                f"{doing} {photo.name}",
                lambda project: project.decide(photo.id, status, text, seconds=seconds),
            )
        )

    def _decide(self, title: str, work: Callable[[Project], Photo], message: str = "") -> None:
        project = self._project
        assert project is not None
        self._is_leaving = True

        def on_decided(photo: Photo) -> None:
            self._is_leaving = False
            if self._is_shut_down or self._list is None:
                return
            self._next_message = message
            following = self._list.next_open(photo.id)
            if following is None or following == photo.id:
                self._leave(self._show_summary)
            else:
                self.go_to(following)

        self.autosave.write(title, lambda: work(project), on_decided, self._stay)

    def _show_summary(self) -> None:
        assert self._list is not None
        assert self._project is not None
        self._form.show_summary(self._list.counts(), self._list.filter, self._project.folder)

    def _show_no_photo(self) -> None:
        self._form.tools.set_layer(None, None)
        self.display.set_mask(None, None)
        self._form.show_photo(None, may_edit=False)

    def _on_other_layer_hidden(self, name: str) -> None:
        self._form.say(f"{name} was opened and is hidden during the review. The Segment tab shows it.")

    def _on_layers_removed(self) -> None:
        """The person removed a layer: save the mask, and show no photo."""
        self.autosave.save()
        if not self._is_shut_down:
            self._show_no_photo()
            self._form.say("The layers of the photo were removed. Your changes are saved. Choose a photo to continue.")

    def _on_mask_changed(self) -> None:
        if self.display.mode == "difference":
            self.display.refresh()

    def _bind_keys(self) -> None:
        self._key_bindings.release()
        if self._has_keys and self._project is not None:
            self._key_bindings.bind(*(target for target in (self.current.labels, self._viewer) if target is not None))
