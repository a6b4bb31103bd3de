"""The menu of the *More* button in the Review tab. It holds the entries; the panel does the work."""

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtGui import QAction, QActionGroup
from qtpy.QtWidgets import QMenu, QWidget

from napari_skinseg.models.store import StoredModel
from napari_skinseg.project.project import Order

BLIND_SHARE = 0.05

ORDERS: dict[Order, str] = {
    "least certain": "Least certain first",
    "mixed": "Least certain, mixed with random ones",
    "random": "Random",
    "file": "In file order",
}


class ReviewMenu(QMenu):
    """Recent folders, model, order, blind sample, moved photos, scale, export, close.

    Attributes:
        recent: submenu that `show_recent` fills.
        models, orders: submenus; `show_models` fills `models`.
        order: the chosen order of review.
    """

    model_chosen = Signal(str)
    """The name of the chosen model."""

    order_chosen = Signal(str)
    """The chosen order; also emitted when the person chooses the present order again."""

    folder_chosen = Signal(object)
    """The recent folder (`Path`) to open."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setToolTipsVisible(True)
        self.recent = self.addMenu("Recent folders")
        self.recent.setToolTipsVisible(True)
        self.order: Order = "least certain"
        self.models = self.addMenu("Model")
        self.orders = self.addMenu("Order")
        self.orders.setToolTip("The order stays until you choose one here. Choose the same order again to sort again.")
        self._add_orders()
        self.keep_zoom = self._add(
            "Keep the zoom from photo to photo", "If off, each photo is fitted to the window.", is_switch=True
        )
        self.blind = self._add(
            f"Blind sample of {100 * BLIND_SHARE:.0f} %",
            "You outline some randomly chosen photos without seeing the mask of the model.\n"
            "The export then reports how much your masks differ from the model with and without seeing its mask.",
            is_switch=True,
        )
        self.addSeparator()
        self.add_layer = self._add("Add current layer to project", "Add the photo that is open in napari.")
        self.find_moved = self._add(
            "Find moved photos…", "Search another folder for photos that were moved; their content identifies them."
        )
        self.unreadable = self._add(
            "Unreadable files…", "List the files of the folder that cannot be read as photos, with the reasons."
        )
        self.spread_scale = self._add(
            "Use this scale for all photos of this size",
            "Photos from one camera and lens have one scale. Photos with their own ruler line keep their scale.",
        )
        self.addSeparator()
        self.export = self._add(
            "Export…", "Masks, overlays, a table with measurements, COCO files, and a folder for training."
        )
        self.close_project = self._add("Close project", "Save and close.")

    def set_order(self, order: Order) -> None:
        """Mark `order` as chosen, without a signal."""
        self.order = order
        for action, name in zip(self.orders.actions(), ORDERS, strict=True):
            action.setChecked(name == order)

    def show_recent(self, folders: Sequence[Path]) -> None:
        """List the recent folders, the last one first."""
        self.recent.clear()
        self.recent.setEnabled(bool(folders))
        for folder in folders:
            action = self.recent.addAction(folder.name.replace("&", "&&"))
            action.setToolTip(str(folder))
            action.triggered.connect(lambda _=False, folder=folder: self.folder_chosen.emit(folder))

    def show_models(self, models: Sequence[StoredModel], chosen: str) -> None:
        """List the models of this computer; a model with a problem cannot be chosen."""
        self.models.clear()
        group = QActionGroup(self.models)
        for stored in models:
            action = self._add_choice(self.models, group, stored.name, is_chosen=stored.name == chosen)
            action.setEnabled(stored.problem is None)
            action.setToolTip(stored.problem or "")
            action.triggered.connect(lambda _=False, name=stored.name: self.model_chosen.emit(name))

    def show_state(self, *, is_open: bool, has_scale: bool, has_blind: bool, has_unreadable: bool) -> None:
        """Enable the entries that can be used now.

        Args:
            is_open: whether a project is open.
            has_scale: whether the current photo has a scale.
            has_blind: whether the project has a blind sample.
            has_unreadable: whether the folder has unreadable files.
        """
        for entry in (self.orders, self.blind, self.add_layer, self.find_moved, self.export, self.close_project):
            entry.setEnabled(is_open)
        self.spread_scale.setEnabled(has_scale)
        self.blind.setChecked(has_blind)
        self.unreadable.setEnabled(has_unreadable)

    def _add_orders(self) -> None:
        group = QActionGroup(self.orders)
        for order, text in ORDERS.items():
            action = self._add_choice(self.orders, group, text, is_chosen=order == self.order)
            action.triggered.connect(lambda _=False, order=order: self._choose_order(order))

    def _choose_order(self, order: Order) -> None:
        self.order = order
        self.order_chosen.emit(order)

    def _add(self, text: str, tooltip: str, *, is_switch: bool = False) -> QAction:
        action = self.addAction(text)
        action.setToolTip(tooltip)
        action.setCheckable(is_switch)
        return action

    @staticmethod
    def _add_choice(menu: QMenu, group: QActionGroup, text: str, *, is_chosen: bool) -> QAction:
        action = menu.addAction(text)
        action.setCheckable(True)
        action.setChecked(is_chosen)
        group.addAction(action)
        return action
