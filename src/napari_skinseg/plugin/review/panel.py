"""The Review tab: a folder of photos, gone through one by one, every mask saved by itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari.layers import Labels
from qtpy.QtCore import QTimer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QFileDialog

from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, Event
from napari_skinseg.models import store
from napari_skinseg.plugin.background import Job, Outcome, Report, Work
from napari_skinseg.plugin.close_guard import Door
from napari_skinseg.plugin.layers import find_photo_layer, photo_from_layer
from napari_skinseg.plugin.mask_layers import find_mask, is_edited
from napari_skinseg.plugin.session import Session, report_failure, usable_model
from napari_skinseg.project.export import ExportOutcome, export_project
from napari_skinseg.project.project import Photo, Project, ProjectDamaged, ProjectInUse

from .form import ReviewForm
from .menu import BLIND_SHARE
from .navigator import Walk
from .opening import How, Listing, NoPlace, Opened, listed, may_be_gone, open_folder
from .photo_list import FILTERS, ReviewList
from .shutdown import Shutter, close_at_end

_POLL = 100  # ms


class ReviewPanel(ReviewForm):
    """Opens and closes projects, has workers run, and hands the photos to a `Walk`."""

    title = "Review"

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session, self._viewer = session, session.viewer
        self.walk = Walk(session, self)
        self.project: Project | None = None
        self._read_only = False
        self._job: Job | None = None
        self._opened: list[Project] = []  # by workers; closed even if nobody takes them
        self._door = Door(self, self.walk.saver.finish, self._save_elsewhere, self.close_project)
        self.model = ""
        self._connect()

    # The project

    def open_folder(self, folder: Path, how: How | None = None) -> None:
        """Open the project of a folder of photos, or make it; what runs is stopped first."""
        if self._job is None:
            self.close_project(lambda: self._open(folder, how or How()))
        else:
            self._job.cancel()
            QTimer.singleShot(_POLL, lambda: self.open_folder(folder, how))

    def close_project(self, then: Callable[[], None] = lambda: None) -> None:
        """Save and close; stays open if the saving fails."""
        project = self.project
        if project is None:
            then()
            return

        def close() -> None:
            self.project = self._session.project = None
            self.photos.load(None)
            self.thumbnails.clear()
            self.show_counts(None)
            self.show_project(False, may_edit=False)
            self.say("")
            self.predict_button.setEnabled(False)
            self.walk.writes.ask("closing the project", project.close, lambda outcome: then())

        self.cancel()
        self.walk.stop(close)

    def cancel(self) -> None:
        """Stop what runs; what is done stays."""
        if self._job is not None:
            self._job.cancel()

    def predict_all(self) -> None:
        """Have the model draw every photo that it has not seen yet."""
        waiting = [] if self.photos.list is None else self.photos.list.to_predict()
        if waiting:
            self.run_long("Predicting %v of %m", self.walk.ahead.prediction_of(waiting), self._on_predicted)
        else:
            self.say("The model has seen every photo.")

    def run_long(self, title: str, work: Work, on_end: Callable[[Outcome], None]) -> None:
        """Have one long thing done, with its progress and a button that stops it; `on_end` says how it ended."""
        if self._job is not None:
            return
        self.say("")
        self.show_running(title)

        def ended(outcome: Outcome) -> None:
            self._job = None
            self.show_running("")
            on_end(outcome)

        self._job = self._session.background.start(title.split(":")[0].lower(), work, ended, self._on_report)

    def list_again(self, *, keep_order: bool = True, then: str = "", go_first: bool = False) -> None:
        """Take the project's photos anew, in the present order or in one that follows what is known by now."""
        project = self.project
        if project is None:
            return
        order = self.menu.order

        def on_end(outcome: Outcome) -> None:
            if outcome.error is not None:
                self.say(report_failure(outcome.error, "Reading the project"), is_problem=True)
            elif outcome.state == "done" and self.project is project:
                self._list(outcome.result, keep_order=keep_order)
                if go_first:
                    self.walk.go_first()
                if then:
                    self.say(then)

        self._session.background.start("listing photos", lambda report, cancel: listed(project, order), on_end)

    def ask_project(self, title: str, work: Callable[[Project], Any], then: Callable[[Any], None]) -> None:
        """Have something else written to the project, in its turn."""
        project = self.project
        if project is None or self._read_only:
            return

        def on_end(outcome: Outcome) -> None:
            if outcome.error is not None:
                self.say(report_failure(outcome.error, title), is_problem=True)
            elif self.project is project:
                then(outcome.result)

        self.walk.writes.ask(title, lambda: work(project), on_end)

    def add_current_layer(self) -> None:
        """Take the photo of the chosen layer into the project, with the mask that was drawn on it."""
        active = self._viewer.layers.selection.active
        layer = find_photo_layer(self._viewer.layers, active)
        path = None if layer is None or layer.source.path is None else Path(layer.source.path)
        if layer is None or path is None or not path.is_file():
            name = "No layer" if active is None else active.name
            self.say(f"{name} is no photo from a file; choose the layer of one, or save it first.", is_problem=True)
            return
        if self.project is None:
            self.say("Open a folder first: the one to keep the photo's mask in.", is_problem=True)
            return
        image = photo_from_layer(layer, self._viewer.dims.point)
        mask_layer = find_mask(self._viewer.layers, image)
        drawn = isinstance(mask_layer, Labels) and is_edited(mask_layer, image)
        mask = mask_layer.data != 0 if mask_layer is not None and drawn else None

        def work(project: Project) -> Photo:
            outcome = project.add([path])
            if outcome.unreadable:
                raise BadInput(outcome.unreadable[0][1])
            photo = project.find(path)
            assert photo is not None
            return photo if mask is None or photo.has_mask else project.save_mask(photo.id, mask)

        def added(photo: Photo) -> None:
            assert self.photos.list is not None
            self.photos.add(photo)
            self.show_counts(self.photos.list.counts())
            self.say(f"{photo.name} is in the project.")
            self.walk.go(photo.id)

        self.ask_project(f"Adding {path.name}", work, added)

    def find_moved(self, folder: Path) -> None:
        """Search `folder` and its sub-folders for the missing photos of the project."""
        project = self.project
        if project is None:
            return

        def on_end(outcome: Outcome) -> None:
            if outcome.error is not None:
                self.say(report_failure(outcome.error, "Finding moved photos"), is_problem=True)
            else:
                found = 0 if outcome.result is None else len(outcome.result.relinked)
                self.list_again(then=f"{found:,} of the missing photos found again.")

        self.run_long(
            "Looking for photos: %v of %m", lambda report, cancel: project.relink(folder, report, cancel), on_end
        )

    def export(self, folder: Path) -> None:
        """Write masks, overlays, a table, COCO files and a training folder, after the current mask is saved."""
        project = self.project
        if project is None:
            return

        def work(report: Report, cancel: CancelToken) -> ExportOutcome:
            return export_project(project, folder, None, report, cancel)

        self.walk.saver.save(lambda: self.run_long("Exporting %v of %m", work, self._on_exported))

    def use_scale_for_all(self) -> None:
        """Give the scale of the current photo to all photos of the same size without a ruler line."""
        photo = self.walk.desk.photo
        if photo is not None:
            self.ask_project(
                "Using the scale",
                lambda project: project.spread_scale(photo.id),
                lambda number: self.list_again(then=f"{number:,} more photos have this scale now."),
            )

    def use_model(self, name: str) -> None:
        """Predict with the model `name`; with an empty name, predict nothing."""
        self.model = name
        self.walk.ahead.use_model(name)
        self.tools.refine.use_model(name)
        self.predict_button.setToolTip(
            f"Outline every photo that has no prediction yet with the model {name}."
            if name
            else "There is no model on this computer. Add one with: napari-skinseg models add FILE."
        )

    # Qt

    def showEvent(self, event: QShowEvent) -> None:
        """Have the keys, and an eye on the window: neither it nor the dock must close before all is saved."""
        super().showEvent(event)
        self.walk.watch(True)
        self._door.watch()

    def hideEvent(self, event: QHideEvent) -> None:
        """Save, and give the keys back: they hold only while they are seen."""
        super().hideEvent(event)
        if not event.spontaneous():
            self.tools.refine.switch(False)
            self.walk.saver.save()
            self.walk.watch(False)

    # Opening

    def _open(self, folder: Path, how: How) -> None:
        self.ask("", {})
        order = self.menu.order

        def work(report: Callable[[Any], None], cancel: Any) -> Listing | None:
            return open_folder(folder, how, order, report, cancel, self._opened)

        def on_end(outcome: Outcome) -> None:
            if outcome.error is not None:
                self._ask_how(folder, how, outcome.error)
            elif outcome.state == "cancelled":
                self.list_again(then="Cancelled; the photos found by then are listed.")
            elif outcome.result is not None:
                self._list(outcome.result, keep_order=True)

        self.run_long(f"Opening {folder.name}…", work, on_end)

    def _ask_how(self, folder: Path, how: How, error: Exception) -> None:
        """Say why a project was not opened, and offer what can be done about it."""
        answers: dict[str, Callable[[], object]] = {}
        if isinstance(error, ProjectInUse):
            answers["Open read-only"] = lambda: self.open_folder(folder, How(read_only=True, place=how.place))
            if may_be_gone(error.owner):
                answers["Take it over"] = lambda: self.open_folder(folder, How(take_over=True, place=how.place))
        elif isinstance(error, ProjectDamaged) and error.backup is not None:
            answers["Restore the backup"] = lambda: self.open_folder(folder, How(restore=True, place=how.place))
        elif isinstance(error, NoPlace):
            answers["Choose a folder for the masks…"] = lambda: self._choose_place(folder)
        if answers:
            self.ask(str(error), {**answers, "Leave it": lambda: None})
        else:
            self.say(report_failure(error, f"Opening {folder.name}"), is_problem=True)

    def _on_report(self, item: Any) -> None:
        if isinstance(item, Opened):
            self._take_project(item)
        elif isinstance(item, Event):
            self.show_progress(item)
        elif self.project is None:
            pass  # it was closed meanwhile
        elif isinstance(item, Photo):
            self.walk.refresh(item)
        else:
            self.say(item, is_problem=True)

    def _take_project(self, opened: Opened) -> None:
        self.project, self._read_only = opened.project, opened.read_only
        self._session.project = opened.project.folder
        self.show_running("Looking for photos: %v of %m")
        news = list(opened.news)
        if opened.is_new:
            news.append(f"Masks and decisions are kept in {opened.project.folder}; the photos are not changed.")
        if opened.read_only:
            news.append("Read only: you can look, and nothing is written.")
        self.say("\n".join(news))
        self.show_project(True, may_edit=not opened.read_only)
        self.use_model("" if opened.read_only else usable_model())
        if opened.listing.photos:
            self._list(opened.listing, keep_order=False)

    def _list(self, listing: Listing, *, keep_order: bool) -> None:
        """Show photos; where some were shown before, what is in hand stays, and news do not get lost."""
        assert self.project is not None
        old, wanted = self.photos.list, FILTERS[self.filter.currentIndex()]
        queue = listing.queue
        if old is not None and keep_order:
            queue = old.queue.with_more([item.photo for item in queue.items])
        new = ReviewList(listing.photos, queue)
        if old is not None:
            new.learn_from(old)
        new.show(wanted)
        self.photos.load(new)
        self.show_counts(new.counts())
        self.predict_button.setEnabled(bool(self.model) and not self._read_only)
        if old is None:
            self.walk.start(self.project, listing.last, may_edit=not self._read_only)
        else:
            self.table.point_at(self.walk.photo)

    def _on_predicted(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self.say(report_failure(outcome.error, "Predicting"), is_problem=True)
        elif outcome.state == "cancelled":
            self.say("Cancelled; what the model drew by then stays.")
        elif self.walk.has_decided:
            self.say("The model has seen every photo. More > Order sorts them anew.")
        else:
            self.list_again(
                keep_order=False, then="The model has seen every photo; the least certain come first.", go_first=True
            )

    def _on_exported(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self.say(report_failure(outcome.error, "Exporting"), is_problem=True)
            return
        done: ExportOutcome = outcome.result
        sentences = [f"{len(done.done):,} masks are in {done.folder}."]
        sentences += ["Stopped; the rest is missing."] * done.cancelled
        sentences += [sentence for _, sentence in done.failed[:3]]
        self.say(" ".join([*sentences, done.blind.in_words()]).strip(), is_problem=bool(done.failed))

    # Menu

    def _prepare_menu(self) -> None:
        photos, photo = self.photos.list, self.walk.desk.photo
        self.menu.show_state(
            is_open=self.project is not None and photos is not None,
            has_scale=photo is not None and photo.mm_per_px is not None,
            has_blind=photos is not None and photos.has_blind(),
        )

    def _sample_blind(self, samples: bool) -> None:
        def show_number(number: int) -> None:
            self.list_again(
                then=f"{number:,} photos are in the blind sample."
                if samples
                else "No further photo is in the blind sample."
            )

        share = BLIND_SHARE if samples else 0.0
        self.ask_project("Choosing the blind sample", lambda project: project.set_blind_sample(share), show_number)

    def _keep_zoom(self, keeps: bool) -> None:
        self.walk.keeps_zoom = keeps

    # Dialogs

    def _choose_moved(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "The folder that the photos were moved to")
        if folder:
            self.find_moved(Path(folder))

    def _choose_export(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "An empty folder for the export")
        if folder:
            self.export(Path(folder))

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "A folder of photos, or a project")
        if folder:
            self.open_folder(Path(folder))

    def _choose_place(self, folder: Path) -> None:
        place = QFileDialog.getExistingDirectory(self, "An empty folder for masks and decisions")
        if place:
            self.open_folder(folder, How(place=Path(place)))

    def _save_elsewhere(self) -> None:
        photo = self.walk.desk.photo
        stem = photo.path.stem if photo is not None else "mask"
        path, _ = QFileDialog.getSaveFileName(self, "Save this mask", f"{stem}_segmentation.png", "PNG (*.png)")
        if path:
            self.walk.saver.save_elsewhere(Path(path))

    # Wiring

    def _connect(self) -> None:
        walk = self.walk
        self.open_button.clicked.connect(self._choose_folder)
        self.predict_button.clicked.connect(self.predict_all)
        self.predict_button.setEnabled(False)
        self.cancel_button.clicked.connect(self.cancel)
        self.filter.activated.connect(self._on_filter)
        self.table.chosen.connect(walk.go)
        walk.saver.told.connect(self.show_state)
        self.retry_button.clicked.connect(walk.saver.retry)
        self.elsewhere_button.clicked.connect(self._save_elsewhere)
        for button, action in (
            (self.accept_button, walk.accept),
            (self.skip_button, walk.skip),
            (self.issue_button, walk.open_issue),
            (self.previous_button, walk.previous),
            (self.next_button, walk.next),
            (self.back_button, walk.take_back),
            (self.model_button, walk.model_mask),
        ):
            button.clicked.connect(lambda _=False, action=action: action())
        self.note.returnPressed.connect(self._on_note)
        self.hide_button.pressed.connect(lambda: walk.look.hold(True))
        self.hide_button.released.connect(lambda: walk.look.hold(False))
        for mode, button in self.look.items():
            button.clicked.connect(lambda _=False, mode=mode: walk.look.set_mode(mode))
        self.model_outline.toggled.connect(walk.look.show_model)
        self.tools.scale.scale_set.connect(self._on_scale)
        self.tools.scale.scale_cleared.connect(self._on_scale_cleared)
        menu = self.menu
        menu.aboutToShow.connect(self._prepare_menu)
        menu.models.aboutToShow.connect(lambda: menu.show_models(store.list_models(), self.model))
        menu.model_chosen.connect(self.use_model)
        menu.order_chosen.connect(lambda _: self.list_again(keep_order=False))
        menu.keep_zoom.toggled.connect(self._keep_zoom)
        menu.blind.triggered.connect(self._sample_blind)
        menu.add_layer.triggered.connect(self.add_current_layer)
        menu.find_moved.triggered.connect(self._choose_moved)
        menu.spread_scale.triggered.connect(self.use_scale_for_all)
        menu.export.triggered.connect(self._choose_export)
        menu.close_project.triggered.connect(lambda: self.close_project())
        self._session.models_changed.connect(self._on_models)
        close_at_end(self, Shutter(walk, self._opened))

    def _on_models(self, name: str) -> None:
        if self.project is not None and not self._read_only:
            self.use_model(name)

    def _on_filter(self, index: int) -> None:
        self.photos.filter(FILTERS[index])
        self.table.point_at(self.walk.photo)

    def _on_note(self) -> None:
        note = self.note.text()
        self.note.close_field()
        self.walk.issue(note)

    def _on_scale(self, mm_per_px: float, line: Any, uncertainty: float) -> None:
        photo = self.walk.desk.photo
        if photo is not None:
            (top, left), (bottom, right) = line
            mm = mm_per_px * ((bottom - top) ** 2 + (right - left) ** 2) ** 0.5
            self.ask_project(
                "Keeping the scale", lambda project: project.set_scale(photo.id, line, mm), self.walk.learn
            )

    def _on_scale_cleared(self) -> None:
        photo = self.walk.desk.photo
        if photo is not None:
            self.ask_project("Clearing the scale", lambda project: project.clear_scale(photo.id), self.walk.learn)
