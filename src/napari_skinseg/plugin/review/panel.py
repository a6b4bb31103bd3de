"""The Review tab: review the photos of a folder one by one; every change of a mask is saved automatically."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari.layers import Labels
from napari.utils.history import get_open_history
from qtpy.QtCore import QTimer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QFileDialog

from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, Event
from napari_skinseg.models import store
from napari_skinseg.plugin.background import Job, Outcome, Report, Work
from napari_skinseg.plugin.close_guard import CloseGuard
from napari_skinseg.plugin.layers import find_photo_layer, photo_from_layer
from napari_skinseg.plugin.mask_layers import find_mask, is_edited
from napari_skinseg.plugin.session import Session, report_failure, usable_model
from napari_skinseg.project.export import ExportOutcome, export_project
from napari_skinseg.project.project import Photo, Project, ProjectDamaged, ProjectInUse

from .form import ReviewForm
from .menu import BLIND_SHARE
from .navigator import Navigator
from .opening import (
    FolderNotWritable,
    OpenedProject,
    OpenOptions,
    ProjectContents,
    may_take_over,
    open_folder,
    read_contents,
    recent_folders,
    remember_folder,
)
from .photo_list import FILTERS, PhotoList
from .shutdown import ProjectCloser, close_project_at_exit
from .unreadable import UnreadableFiles

_POLL = 100  # ms


class ReviewPanel(ReviewForm):
    """Opens and closes projects and runs the work on a whole project; the `Navigator` shows the photos.

    Attributes:
        navigator: shows the photos.
        project: the open project; None if there is none.
        model: name of the model that predicts; empty if there is none.
    """

    title = "Review"

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session, self._viewer = session, session.viewer
        self.navigator = Navigator(session, self)
        self.project: Project | None = None
        self.model = ""
        self._read_only = False
        self._job: Job | None = None
        self._unreadable: list[tuple[Path, str]] = []
        self._open_projects: list[Project] = []  # closed at exit
        autosave = self.navigator.autosave
        self._close_guard = CloseGuard(self, autosave.save_now, self._save_elsewhere, self.close_project)
        self._closer = ProjectCloser(self.navigator.shut_down, self._open_projects)
        close_project_at_exit(self, self._closer)
        self._connect()
        self._connect_menu()

    # Project

    def open_folder(self, folder: Path, options: OpenOptions | None = None) -> None:
        """Open or create the project of a folder of photos; a running job is cancelled first."""
        if self._job is None:
            self.close_project(lambda: self._open(folder, options or OpenOptions()))
        else:
            self._job.cancel()
            QTimer.singleShot(_POLL, lambda: self.open_folder(folder, options))

    def close_project(self, then: Callable[[], None] = lambda: None) -> None:
        """Save and close the project, then call `then`; if saving fails, the project stays open."""
        project = self.project
        if project is None:
            then()
            return

        def close() -> None:
            self.project = self._session.project = None
            self.photos.set_list(None)
            self.thumbnails.clear()
            self.show_counts(None)
            self.show_project(False, may_edit=False)
            self.say("")
            self.predict_button.setEnabled(False)
            self.navigator.write_queue.add("closing the project", project.close, closed)

        def closed(outcome: Outcome) -> None:
            if outcome.error is None and project in self._open_projects:
                self._open_projects.remove(project)  # else its last mask would stay in memory
            then()

        self.cancel()
        self.navigator.stop(close)

    def cancel(self) -> None:
        """Cancel the running job; finished photos are kept."""
        if self._job is not None:
            self._job.cancel()

    def run_job(self, title: str, work: Work, on_end: Callable[[Outcome], None]) -> None:
        """Run a long `work` with a progress bar and Cancel, unless a job is running; `on_end` shows its outcome.

        Args:
            title: text of the progress bar; "%v of %m" is replaced by the numbers.
            work: runs in a worker.
            on_end: called on the GUI thread.
        """
        if self._job is not None:
            return
        self.say("")
        self.show_running(title)

        def ended(outcome: Outcome) -> None:
            self._job = None
            self.show_running("")
            on_end(outcome)

        self._job = self._session.background.start(title.split(":")[0].lower(), work, ended, self._on_report)

    def write_to_project(self, title: str, work: Callable[[Project], Any], then: Callable[[Any], None]) -> None:
        """Run `work` on the project in the write queue, then call `then` with its result."""
        project = self.project
        if project is None or self._read_only:
            return

        def on_end(outcome: Outcome) -> None:
            if outcome.error is not None:
                self.say(report_failure(outcome.error, title), is_problem=True)
            elif self.project is project:
                then(outcome.result)

        self.navigator.write_queue.add(title, lambda: work(project), on_end)

    def reload_list(self, *, keep_order: bool = True, then: Callable[[], None] = lambda: None) -> None:
        """Read the photos of the project again, in the present order or sorted again, then call `then`."""
        project = self.project
        if project is None:
            return
        order = self.menu.order

        def on_end(outcome: Outcome) -> None:
            if outcome.error is not None:
                self.say(report_failure(outcome.error, "Reading the project"), is_problem=True)
            elif outcome.state == "done" and self.project is project:
                self._show_contents(outcome.result, keep_order=keep_order)
                then()

        self._session.background.start("listing photos", lambda report, cancel: read_contents(project, order), on_end)

    # Actions on the project

    def predict_all(self) -> None:
        """Predict the masks of all photos that have no prediction of this model and on which nobody has worked."""
        if self.photos.list is not None:
            work = self.navigator.prefetch.prediction_work(self.photos.list.existing())
            self.run_job("Predicting %v of %m", work, self._on_predicted)

    def add_current_layer(self) -> None:
        """Add the photo of the active layer to the project, with its mask if a person edited it."""
        active = self._viewer.layers.selection.active
        layer = find_photo_layer(self._viewer.layers, active)
        path = None if layer is None or layer.source.path is None else Path(layer.source.path)
        if layer is None or path is None or not path.is_file():
            name = "No layer" if active is None else active.name
            self.say(
                f"{name} is not a photo from a file. Choose the layer of a photo, or save it to a file first.",
                is_problem=True,
            )
            return
        if self.project is None:
            self.say("No project is open. Open the folder that the mask is to be saved in first.", is_problem=True)
            return
        photo = photo_from_layer(layer, self._viewer.dims.point)
        mask_layer = find_mask(self._viewer.layers, photo)
        has_edits = isinstance(mask_layer, Labels) and is_edited(mask_layer, photo)
        mask = mask_layer.data != 0 if mask_layer is not None and has_edits else None

        def work(project: Project) -> Photo:
            outcome = project.add([path])
            if outcome.unreadable:
                raise BadInput(outcome.unreadable[0][1])
            added = project.find(path)
            assert added is not None
            return added if mask is None or added.has_mask else project.save_mask(added.id, mask)

        def on_added(added: Photo) -> None:
            assert self.photos.list is not None
            self.photos.add(added)
            self.show_counts(self.photos.list.counts())
            self.say(f"{added.name} is in the project.")
            self.navigator.go_to(added.id)

        self.write_to_project(f"Adding {path.name}", work, on_added)

    def find_moved(self, folder: Path) -> None:
        """Search `folder` and its sub-folders for the missing photos of the project."""
        project = self.project
        if project is None:
            return

        def on_end(outcome: Outcome) -> None:
            if outcome.error is not None:
                self.say(report_failure(outcome.error, "Searching for moved photos"), is_problem=True)
            else:
                number = 0 if outcome.result is None else len(outcome.result.relinked)
                self.reload_list(then=lambda: self.say(f"Missing photos found: {number:,}."))

        self.run_job(
            "Searching for photos: %v of %m", lambda report, cancel: project.relink(folder, report, cancel), on_end
        )

    def export(self, folder: Path) -> None:
        """Save the current mask, then write masks, overlays, a table, COCO files and a training folder."""
        project = self.project
        if project is None:
            return

        def work(report: Report, cancel: CancelToken) -> ExportOutcome:
            return export_project(project, folder, None, report, cancel)

        self.navigator.autosave.save(lambda: self.run_job("Exporting %v of %m", work, self._on_exported))

    def use_scale_for_all(self) -> None:
        """Give the scale of the current photo to all photos of the same size without their own ruler line."""
        photo = self.navigator.current.photo
        if photo is not None:
            self.write_to_project(
                "Using the scale for other photos",
                lambda project: project.spread_scale(photo.id),
                lambda number: self.reload_list(
                    then=lambda: self.say(f"Other photos that have this scale now: {number:,}.")
                ),
            )

    def use_model(self, name: str) -> None:
        """Predict with the model `name`; an empty name means no model."""
        self.model = name
        self.navigator.prefetch.use_model(name)
        self.tools.refine.use_model(name)
        self.predict_button.setToolTip(
            f"Predict the masks of all photos with the model {name}. Photos that you have worked on are left out, and "
            "those that it has predicted."
            if name
            else "There is no model on this computer. Add one with: napari-skinseg models add FILE."
        )

    def show_unreadable(self) -> None:
        """List the files that cannot be read as photos."""
        UnreadableFiles(self._unreadable, self).open()

    # Qt

    def showEvent(self, event: QShowEvent) -> None:
        """Bind the keys, and make sure that everything is saved before the window or the dock closes."""
        super().showEvent(event)
        self.navigator.set_active(True)
        self._close_guard.watch()

    def hideEvent(self, event: QHideEvent) -> None:
        """Save, and unbind the keys."""
        super().hideEvent(event)
        if not event.spontaneous():
            self.tools.refine.switch(False)
            self.navigator.autosave.save()
            self.navigator.set_active(False)

    # Opening

    def _open(self, folder: Path, options: OpenOptions) -> None:
        self.ask("", {})
        order = self.menu.order

        def work(report: Report, cancel: CancelToken) -> ProjectContents | None:
            return open_folder(folder, options, order, report, cancel, self._open_projects)

        def on_end(outcome: Outcome) -> None:
            if outcome.error is not None:
                self._ask_how_to_open(folder, options, outcome.error)
            elif outcome.state == "cancelled":
                self.reload_list(then=lambda: self.say("Cancelled. The photos found so far are listed."))
            elif outcome.result is not None:
                self._show_contents(outcome.result, keep_order=True)
                if not_searched := outcome.result.not_searched:
                    search = replace(options, search_elsewhere=True)
                    self.ask(
                        f"The project names photos outside its folder: {', '.join(map(str, not_searched))}. "
                        "Search there for new photos?",
                        {"Search": lambda: self.open_folder(folder, search), "Do not search": lambda: None},
                    )
                elif number := len(self._unreadable):
                    self.ask(
                        f"Files that cannot be read as photos: {number:,}.",
                        {"Show unreadable files…": self.show_unreadable, "OK": lambda: None},
                    )

        self.run_job(f"Opening {folder.name}…", work, on_end)

    def _ask_how_to_open(self, folder: Path, options: OpenOptions, error: Exception) -> None:
        """Show why a project was not opened, with a button for each possible solution."""
        location = options.location
        answers: dict[str, Callable[[], object]] = {}
        if isinstance(error, ProjectInUse):
            answers["Open read-only"] = lambda: self.open_folder(folder, OpenOptions(read_only=True, location=location))
            if may_take_over(error.owner):
                answers["Take over"] = lambda: self.open_folder(folder, OpenOptions(take_over=True, location=location))
        elif isinstance(error, ProjectDamaged) and error.backup is not None:
            answers["Restore the backup"] = lambda: self.open_folder(
                folder, OpenOptions(restore=True, location=location)
            )
        elif isinstance(error, FolderNotWritable):
            answers["Choose a folder for the masks…"] = lambda: self._choose_location(folder)
        if answers:
            self.ask(str(error), {**answers, "Do not open": lambda: None})
        else:
            self.say(report_failure(error, f"Opening {folder.name}"), is_problem=True)

    def _on_report(self, item: Any) -> None:
        if isinstance(item, OpenedProject):
            self._on_opened(item)
        elif isinstance(item, Event):
            self.show_progress(item)
        elif self.project is None:
            pass  # it was closed before the report arrived
        elif isinstance(item, Photo):
            self.navigator.show_prediction(item)
        else:
            self.say(item, is_problem=True)

    def _on_opened(self, opened: OpenedProject) -> None:
        self.project, self._read_only = opened.project, opened.read_only
        self._session.project = opened.project.folder
        remember_folder(opened.project)
        self.show_running("Searching for photos: %v of %m")
        messages = list(opened.messages)
        if opened.is_new:
            messages.append(f"Masks and decisions are saved in {opened.project.folder}. The photos are not changed.")
        if opened.read_only:
            messages.append("Read only: nothing can be changed or saved.")
        self.say("\n".join(messages))
        self.show_project(True, may_edit=not opened.read_only)
        self.use_model("" if opened.read_only else usable_model())
        if opened.contents.photos:
            self._show_contents(opened.contents, keep_order=False)

    def _show_contents(self, contents: ProjectContents, *, keep_order: bool) -> None:
        """Show the photos; a list that was shown before keeps its current photo and its newer records."""
        assert self.project is not None
        self._unreadable = contents.unreadable
        old, queue = self.photos.list, contents.queue
        if old is not None and keep_order:
            queue = old.queue.with_more([item.photo for item in queue.items])
        new = PhotoList(contents.photos, queue)
        if old is not None:
            new.update_from(old)
        new.set_filter(FILTERS[self.filter.currentIndex()])
        self.photos.set_list(new)
        self.show_counts(new.counts())
        self.predict_button.setEnabled(bool(self.model) and not self._read_only)
        if old is None:
            self.navigator.start(self.project, contents.resume_at, may_edit=not self._read_only)
        else:
            self.table.select(self.navigator.photo)

    # Outcomes

    def _on_predicted(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self.say(report_failure(outcome.error, "Predicting"), is_problem=True)
        elif outcome.state == "cancelled":
            self.say("Cancelled. The finished predictions are kept.")
        else:
            self.ask(
                "All photos have a prediction.",
                {"Go to least certain": self.go_to_least_certain, "Stay on this photo": lambda: None},
            )

    def go_to_least_certain(self) -> None:
        """Sort the open photos by their predictions, the least certain first, and show the first one."""
        self.menu.set_order("least certain")
        self.reload_list(keep_order=False, then=self.navigator.go_to_first)

    def _on_exported(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self.say(report_failure(outcome.error, "Exporting"), is_problem=True)
            return
        export: ExportOutcome = outcome.result
        problems = [sentence for _, sentence in export.failed[:3]]
        self.say(" ".join([export.in_words(), *problems]), is_problem=bool(problems))

    # Dialogs

    def _choose_folder(self) -> None:
        recent = get_open_history()[0]
        folder = QFileDialog.getExistingDirectory(self, "A folder of photos, or a project", recent)
        if folder:
            self.open_folder(Path(folder))

    def _choose_location(self, folder: Path) -> None:
        location = QFileDialog.getExistingDirectory(self, "An empty folder for masks and decisions")
        if location:
            self.open_folder(folder, OpenOptions(location=Path(location)))

    def _choose_moved(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "The folder that the photos were moved to")
        if folder:
            self.find_moved(Path(folder))

    def _choose_export(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "An empty folder for the export")
        if folder:
            self.export(Path(folder))

    def _save_elsewhere(self) -> None:
        photo = self.navigator.current.photo
        stem = photo.path.stem if photo is not None else "mask"
        path, _ = QFileDialog.getSaveFileName(self, "Save this mask", f"{stem}_segmentation.png", "PNG (*.png)")
        if path:
            self.navigator.autosave.save_elsewhere(Path(path))

    # Connections

    def _connect(self) -> None:
        navigator = self.navigator
        self.open_button.clicked.connect(self._choose_folder)
        self.predict_button.clicked.connect(self.predict_all)
        self.predict_button.setEnabled(False)
        self.cancel_button.clicked.connect(self.cancel)
        self.filter.activated.connect(self._on_filter)
        self.table.chosen.connect(navigator.go_to)
        navigator.autosave.state_changed.connect(self.show_save_state)
        self.retry_button.clicked.connect(navigator.autosave.retry)
        self.elsewhere_button.clicked.connect(self._save_elsewhere)
        for button, action in (
            (self.accept_button, navigator.accept),
            (self.skip_button, navigator.skip),
            (self.issue_button, navigator.open_issue_note),
            (self.previous_button, navigator.previous),
            (self.next_button, navigator.next),
            (self.back_button, navigator.take_back),
            (self.prediction_button, navigator.restore_prediction),
        ):
            button.clicked.connect(lambda _=False, action=action: action())
        self.note.returnPressed.connect(self._on_note)
        self.hide_button.pressed.connect(lambda: navigator.display.hide_while_pressed(True))
        self.hide_button.released.connect(lambda: navigator.display.hide_while_pressed(False))
        for mode, button in self.display_modes.items():
            button.clicked.connect(lambda _=False, mode=mode: navigator.display.set_mode(mode))
        self.prediction_outline.toggled.connect(navigator.display.show_prediction)
        self.tools.scale.scale_set.connect(self._on_scale)
        self.tools.scale.scale_cleared.connect(self._on_scale_cleared)
        self._session.models_changed.connect(self._on_models)

    def _connect_menu(self) -> None:
        menu = self.menu
        menu.aboutToShow.connect(self._prepare_menu)
        menu.models.aboutToShow.connect(lambda: menu.show_models(store.list_models(), self.model))
        menu.folder_chosen.connect(self.open_folder)
        menu.model_chosen.connect(self._change_model)
        menu.order_chosen.connect(lambda _: self.reload_list(keep_order=False))
        menu.keep_zoom.toggled.connect(self._keep_zoom)
        menu.blind.triggered.connect(self._set_blind_sample)
        menu.add_layer.triggered.connect(self.add_current_layer)
        menu.find_moved.triggered.connect(self._choose_moved)
        menu.unreadable.triggered.connect(self.show_unreadable)
        menu.spread_scale.triggered.connect(self.use_scale_for_all)
        menu.export.triggered.connect(self._choose_export)
        menu.close_project.triggered.connect(lambda: self.close_project())

    def _prepare_menu(self) -> None:
        photos, photo = self.photos.list, self.navigator.current.photo
        self.menu.show_recent(recent_folders())
        self.menu.show_state(
            is_open=self.project is not None and photos is not None,
            has_scale=photo is not None and photo.mm_per_px is not None,
            has_blind=photos is not None and photos.has_blind(),
            has_unreadable=self.project is not None and bool(self._unreadable),
        )

    def _set_blind_sample(self, is_on: bool) -> None:
        def show_number(number: int) -> None:
            message = f"Photos in the blind sample: {number:,}." if is_on else "The blind sample is off."
            self.reload_list(then=lambda: self.say(message))

        share = BLIND_SHARE if is_on else 0.0
        self.write_to_project("Choosing the blind sample", lambda project: project.set_blind_sample(share), show_number)

    def _keep_zoom(self, keeps: bool) -> None:
        self.navigator.keep_zoom = keeps

    def _on_models(self, name: str) -> None:
        if self.project is not None and not self._read_only:
            self._change_model(name)

    def _change_model(self, name: str) -> None:
        self.use_model(name)
        photos = () if self.photos.list is None else self.photos.list.existing()
        others = sum(
            bool(photo.predicted_file) and photo.awaits_prediction(name, photo.model_version) for photo in photos
        )
        if name and others:
            self.say(
                f"{others:,} photos that you have not worked on have a mask of another model. "
                f"Predict all replaces these masks by those of {name}."
            )

    def _on_filter(self, index: int) -> None:
        self.photos.set_filter(FILTERS[index])
        self.table.select(self.navigator.photo)

    def _on_note(self) -> None:
        note = self.note.text()
        self.note.close_field()
        self.navigator.report_issue(note)

    def _on_scale(self, mm_per_px: float, line: Any, uncertainty: float) -> None:
        photo = self.navigator.current.photo
        if photo is not None:
            (top, left), (bottom, right) = line
            mm = mm_per_px * ((bottom - top) ** 2 + (right - left) ** 2) ** 0.5
            self.write_to_project(
                "Saving the scale",
                lambda project: project.set_scale(photo.id, line, mm),
                self.navigator.update_photo,
            )

    def _on_scale_cleared(self) -> None:
        photo = self.navigator.current.photo
        if photo is not None:
            self.write_to_project(
                "Removing the scale", lambda project: project.clear_scale(photo.id), self.navigator.update_photo
            )
