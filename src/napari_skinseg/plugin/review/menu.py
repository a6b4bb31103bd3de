"""What is behind *More* in the Review tab: the model, the blind sample, moved photos, the scale of many photos."""

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtGui import QAction, QActionGroup
from qtpy.QtWidgets import QFileDialog

from napari_skinseg.events import CancelToken
from napari_skinseg.models import store
from napari_skinseg.plugin.background import Outcome, Report
from napari_skinseg.plugin.session import tell_failure
from napari_skinseg.project.export import ExportOutcome, export_project
from napari_skinseg.project.project import Order

if TYPE_CHECKING:
    from .panel import ReviewPanel

BLIND_SHARE = 0.05

ORDERS: dict[Order, str] = {
    "least certain": "Least certain first",
    "mixed": "Least certain, mixed with random ones",
    "random": "At random",
    "file": "In file order",
}


class ReviewMenu:
    """Fills the panel's menu."""

    def __init__(self, panel: "ReviewPanel") -> None:
        self._panel = panel
        self.model = ""
        self.order: Order = "least certain"
        menu = panel.menu
        self.models = menu.addMenu("Model")
        self.models.aboutToShow.connect(self._list_models)
        self.orders = menu.addMenu("Order")
        self.orders.setToolTip("The order stays as it is until one is chosen here; the same one again sorts anew.")
        self._list_orders()
        self.keep_zoom = self._switch(
            "Keep the zoom from photo to photo", "Otherwise each photo is fitted to the window.", self._keep_zoom
        )
        self.blind = self._switch(
            f"Blind sample of {100 * BLIND_SHARE:.0f} %",
            "Some photos, drawn by lot, are outlined without seeing what the model drew:\n"
            "the export then says how far the two differ, which is the honest measure of being swayed.",
            self._sample_blind,
        )
        menu.addSeparator()
        self.add_layer = self._action(
            "Add current layer to project", "Take the photo that is open in napari into this project.",
            panel.add_current_layer,
        )  # fmt: skip
        self.relink = self._action(
            "Find moved photos…", "Look in another folder for photos that were moved; known by their content.",
            self._find_moved,
        )  # fmt: skip
        self.spread = self._action(
            "Use this scale for all photos of this size",
            "Photos from one camera and lens have one scale; those with a ruler line of their own keep it.",
            self._spread_scale,
        )
        menu.addSeparator()
        self.export_action = self._action(
            "Export…",
            "Masks, overlays, a table with measurements, COCO files, and a folder to train with.",
            self._export,
        )
        self.close = self._action("Close project", "Save and close.", lambda: panel.close_project())
        menu.aboutToShow.connect(self._enable)

    def use_model(self, name: str) -> None:
        """Have this model draw; an empty name: none."""
        self.model = name
        self._panel.walk.ahead.use_model(name)
        self._panel.tools.refine.use_model(name)
        self._panel.predict_button.setToolTip(
            f"Have the model {name} outline every photo that it has not seen yet."
            if name
            else "There is no model on this computer; add one: napari-skinseg models add FILE."
        )

    def _list_models(self) -> None:
        self.models.clear()
        group = QActionGroup(self.models)
        for stored in store.list_models():
            action = self.models.addAction(stored.name)
            action.setCheckable(True)
            action.setChecked(stored.name == self.model)
            action.setEnabled(stored.problem is None)
            action.setToolTip(stored.problem or "")
            action.triggered.connect(lambda _=False, name=stored.name: self.use_model(name))
            group.addAction(action)

    def _list_orders(self) -> None:
        group = QActionGroup(self.orders)
        for order, words in ORDERS.items():
            action = self.orders.addAction(words)
            action.setCheckable(True)
            action.setChecked(order == self.order)
            action.triggered.connect(lambda _=False, order=order: self.sort(order))
            group.addAction(action)

    def sort(self, order: Order) -> None:
        """Put the photos in this order, by what is known by now."""
        self.order = order
        self._panel.list_again(keep_order=False)

    def _enable(self) -> None:
        photos = self._panel.photos.list
        is_open = self._panel.project is not None and photos is not None
        self.orders.setEnabled(is_open)
        for action in (self.blind, self.add_layer, self.relink, self.export_action, self.close):
            action.setEnabled(is_open)
        photo = self._panel.walk.desk.photo
        self.spread.setEnabled(photo is not None and photo.mm_per_px is not None)
        self.blind.blockSignals(True)
        self.blind.setChecked(photos is not None and photos.has_blind())
        self.blind.blockSignals(False)

    def _keep_zoom(self, keeps: bool) -> None:
        self._panel.walk.keeps_zoom = keeps

    def _sample_blind(self, samples: bool) -> None:
        panel = self._panel

        def told(number: int) -> None:
            words = f"{number:,} photos are drawn blind." if samples else "No further photo is drawn blind."
            panel.list_again(then=words)

        share = BLIND_SHARE if samples else 0.0
        panel.ask_project("Drawing the blind sample", lambda project: project.set_blind_sample(share), told)

    def _find_moved(self) -> None:
        folder = QFileDialog.getExistingDirectory(self._panel, "The folder that the photos were moved to")
        if folder:
            self.find_moved(Path(folder))

    def find_moved(self, folder: Path) -> None:
        """Look below `folder` for photos that are missing."""
        panel, project = self._panel, self._panel.project
        if project is None:
            return

        def on_end(outcome: Outcome) -> None:
            if outcome.error is not None:
                panel.say(tell_failure(outcome.error, "Finding moved photos"), is_problem=True)
            else:
                found = 0 if outcome.result is None else len(outcome.result.relinked)
                panel.list_again(then=f"{found:,} of the missing photos found again.")

        panel.run_long(
            "Looking for photos: %v of %m", lambda report, cancel: project.relink(folder, report, cancel), on_end
        )

    def _export(self) -> None:
        folder = QFileDialog.getExistingDirectory(self._panel, "An empty folder for the export")
        if folder:
            self.export(Path(folder))

    def export(self, folder: Path) -> None:
        """Write masks, overlays, a table, COCO files and a training folder, once the mask in hand is saved."""
        panel, project = self._panel, self._panel.project
        if project is None:
            return

        def work(report: Report, cancel: CancelToken) -> ExportOutcome:
            return export_project(project, folder, None, report, cancel)

        panel.walk.saver.save(lambda: panel.run_long("Exporting %v of %m", work, self._on_exported))

    def _on_exported(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self._panel.say(tell_failure(outcome.error, "Exporting"), is_problem=True)
            return
        done: ExportOutcome = outcome.result
        sentences = [f"{len(done.done):,} masks are in {done.folder}."]
        sentences += ["Stopped; the rest is missing."] * done.cancelled
        sentences += [sentence for _, sentence in done.failed[:3]]
        self._panel.say(" ".join([*sentences, done.blind.in_words()]).strip(), is_problem=bool(done.failed))

    def _spread_scale(self) -> None:
        panel, photo = self._panel, self._panel.walk.desk.photo
        if photo is not None:
            panel.ask_project(
                "Using the scale",
                lambda project: project.spread_scale(photo.id),
                lambda number: panel.list_again(then=f"{number:,} more photos have this scale now."),
            )

    def _action(self, text: str, tooltip: str, call: object) -> QAction:
        action = self._panel.menu.addAction(text)
        action.setToolTip(tooltip)
        action.triggered.connect(call)
        return action

    def _switch(self, text: str, tooltip: str, call: object) -> QAction:
        action = self._panel.menu.addAction(text)
        action.setToolTip(tooltip)
        action.setCheckable(True)
        action.toggled.connect(call)
        return action
