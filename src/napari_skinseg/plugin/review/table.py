"""The table of photos: thumbnail, name, status and confidence. Qt asks only for the visible rows, so it stays fast."""

from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSize, Qt, Signal
from qtpy.QtGui import QColor, QKeyEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from napari_skinseg.project.project import Photo

from .photo_list import PhotoList
from .thumbnails import SIZE, Thumbnails

_COLUMNS = ("", "Photo", "Status")
_THUMBNAIL, _NAME, _STATUS = range(3)
_COLOURS = {"accepted": "#2fa866", "corrected": "#19a7b8", "skipped": "#909090", "issue": "#e07b00"}
"""Readable on napari's dark and light themes; open photos have the text colour of the theme."""

_TOOLTIPS = (
    "",
    "The file of the photo. Rest the mouse on a row to read why it has its place.",
    "First line: the status (new, predicted, corrected, accepted, skipped or issue).\n"
    "Second line: the expected overlap (Jaccard) of the predicted mask with an expert's outline,\n"
    "or “no lesion” if the model predicted an empty mask.",
)

Role = Qt.ItemDataRole


class PhotoModel(QAbstractTableModel):
    """The Qt model of a `PhotoList`.

    Attributes:
        list: the photos; None if no project is open.
    """

    def __init__(self, thumbnails: Thumbnails) -> None:
        super().__init__()
        self.list: PhotoList | None = None
        self._thumbnails = thumbnails
        thumbnails.loaded.connect(self._on_thumbnail)

    def set_list(self, photos: PhotoList | None) -> None:
        """Show another list; None for an empty table."""
        self.beginResetModel()
        self.list = photos
        self.endResetModel()

    def set_filter(self, name: str) -> None:
        """Show the photos that pass the filter `name`."""
        if self.list is not None:
            self.beginResetModel()
            self.list.set_filter(name)
            self.endResetModel()

    def update(self, photo: Photo) -> None:
        """Show the new state of a photo; its row appears or disappears if the filter requires this."""
        if self.list is None or not self.list.update(photo):
            return
        row = self.list.row(photo.id)
        is_shown = self.list.is_shown(photo.id)
        if self.list.passes(photo.id) and is_shown:
            self.dataChanged.emit(self.index(row, 0), self.index(row, len(_COLUMNS) - 1))
        elif is_shown:
            self.beginRemoveRows(QModelIndex(), row, row)
            del self.list.shown[row]
            self.endRemoveRows()
        elif self.list.passes(photo.id):
            self.beginInsertRows(QModelIndex(), row, row)
            self.list.shown.insert(row, photo.id)
            self.endInsertRows()

    def add(self, photo: Photo) -> None:
        """Append a photo that is new to the project, or show the new state of a known photo."""
        if self.list is not None and photo.id not in self.list:
            self.beginResetModel()
            self.list.add([photo])
            self.endResetModel()
        else:
            self.update(photo)

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802, the name is Qt's
        return 0 if self.list is None or (parent is not None and parent.isValid()) else len(self.list.shown)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        return len(_COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Role.DisplayRole) -> Any:  # noqa: N802
        if orientation == Qt.Orientation.Horizontal:
            return {Role.DisplayRole: _COLUMNS, Role.ToolTipRole: _TOOLTIPS}.get(Role(role), (None,) * 3)[section]
        return None

    def data(self, index: QModelIndex, role: int = Role.DisplayRole) -> Any:
        assert self.list is not None
        photo, column = self.list[self.list.shown[index.row()]], index.column()
        if role == Role.DisplayRole:
            return (None, photo.name, f"{_status(photo)}\n{_confidence(photo)}".strip())[column]
        if role == Role.DecorationRole and column == _THUMBNAIL:
            return self._thumbnails.get(photo.id, photo.path)
        if role == Role.ForegroundRole and column == _STATUS and photo.reviewed and photo.status in _COLOURS:
            return QColor(_COLOURS[photo.status])
        if role == Role.ToolTipRole:
            return _tooltip(photo, self.list.reason(photo.id))
        return None

    def _on_thumbnail(self, photo: str) -> None:
        if self.list is not None and photo in self.list and self.list.is_shown(photo):
            index = self.index(self.list.row(photo), 0)
            self.dataChanged.emit(index, index, [Role.DecorationRole])


_MOVES = (
    Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_PageUp, Qt.Key.Key_PageDown, Qt.Key.Key_Home, Qt.Key.Key_End,
)  # fmt: skip


class PhotoTable(QTableView):
    """Selects one row at a time; a click leaves the focus to the canvas. With Tab, arrows and Enter choose a photo."""

    chosen = Signal(str)
    """The id of the photo that was clicked, or chosen with Enter."""

    def __init__(self, model: PhotoModel) -> None:
        super().__init__()
        self._photos = model
        self.setModel(model)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setWordWrap(False)
        self.setShowGrid(False)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # so that P, E and Ctrl+Z act on the mask after a click here
        self.setTabKeyNavigation(False)
        self.setIconSize(QSize(*SIZE))
        self.verticalHeader().hide()
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)  # otherwise Qt measures every row
        self.verticalHeader().setDefaultSectionSize(SIZE[1] + 4)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        header.setHighlightSections(False)
        self.setColumnWidth(_STATUS, self.fontMetrics().horizontalAdvance("not finished •") + 14)
        self.setColumnWidth(_THUMBNAIL, SIZE[0] + 8)
        self.setMinimumHeight(round(2.5 * (SIZE[1] + 4)) + header.sizeHint().height())
        self.clicked.connect(self._on_clicked)

    def select(self, photo: str | None) -> None:
        """Select the row of a photo and scroll to it; clear the selection if the photo is not shown."""
        photos = self._photos.list
        if photos is None or photo is None or not photos.is_shown(photo):
            self.clearSelection()
            return
        row = photos.row(photo)
        self.selectRow(row)
        self.scrollTo(self._photos.index(row, _NAME))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Move with the arrows, choose with Enter; leave all other keys to napari: Qt would search for a letter."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self._on_clicked(self.currentIndex())
        elif event.key() in _MOVES:
            super().keyPressEvent(event)
        else:
            event.ignore()

    def _on_clicked(self, index: QModelIndex) -> None:
        if self._photos.list is not None and index.isValid():
            self.chosen.emit(self._photos.list.shown[index.row()])


def _status(photo: Photo) -> str:
    if photo.state != "here":
        return "not found"
    status = "not finished" if photo.unfinished else photo.status
    return f"{status} •" if photo.stale or photo.note else status


def _confidence(photo: Photo) -> str:
    if photo.hides_prediction:
        return "blind"
    if photo.lesion_share == 0:
        return "no lesion"
    return "" if photo.confidence is None else f"{100 * photo.confidence:.0f} %"


def _tooltip(photo: Photo, reason: str) -> str:
    lines = [photo.relative, photo.note and f"Note: {photo.note}"]
    if photo.unfinished:
        lines.append("Correction not finished: check the mask, then accept it.")
    if photo.hides_prediction:
        lines.append("Blind sample: outline the lesion without seeing the mask of the model.")
    else:
        lines.append(reason and f"Why here: {reason}")
    lines.append(photo.stale and f"A newer model ({photo.stale}) could predict this mask again; your work was kept.")
    return "\n".join(filter(None, lines))
