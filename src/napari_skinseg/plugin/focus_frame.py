"""A frame around the widget that has the keyboard focus, which napari's themes do not show."""

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QApplication, QWidget

_WIDTH = 2


class FocusFrame(QWidget):
    """Shown around the focus widget within `area`, unless a mouse button gave it the focus."""

    def __init__(self, area: QWidget) -> None:
        super().__init__(area)
        self._area = area
        self._framed: QWidget | None = None
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(Qt.WidgetAttribute.WA_NoSystemBackground)
        self.hide()
        application = QApplication.instance()
        assert isinstance(application, QApplication)
        application.focusChanged.connect(self._on_focus)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Follow the framed widget."""
        if watched is self._framed:
            if event.type() in (QEvent.Type.Move, QEvent.Type.Resize):
                self._place()
            elif event.type() == QEvent.Type.Hide:
                self._leave()
        return False

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the frame in the colour of the text."""
        painter = QPainter(self)
        painter.setPen(QPen(self._area.palette().windowText().color(), _WIDTH))
        painter.drawRect(self.rect().adjusted(1, 1, -1, -1))
        painter.end()

    def _on_focus(self, old: QWidget | None, new: QWidget | None) -> None:
        self._leave()
        is_by_key = QApplication.mouseButtons() == Qt.MouseButton.NoButton
        parent = None if new is None else new.parentWidget()
        if new is not None and parent is not None and is_by_key and self._contains(new):
            self._framed = new
            new.installEventFilter(self)
            self.setParent(parent)  # so that it scrolls with the widget
            self._place()
            self.show()
            self.raise_()

    def _contains(self, widget: QWidget) -> bool:
        """Return whether the widget is in the area, or in a menu of the area."""
        parent: QWidget | None = widget
        while parent is not None and parent is not self._area:
            parent = parent.parentWidget()
        return parent is not None

    def _leave(self) -> None:
        """Become a child of the area again, because the parent of the framed widget may be deleted."""
        framed, self._framed = self._framed, None
        if framed is not None:
            if isalive(framed):
                framed.removeEventFilter(self)
            self.setParent(self._area)
            self.hide()

    def _place(self) -> None:
        assert self._framed is not None
        around = self._framed.geometry().adjusted(-_WIDTH, -_WIDTH, _WIDTH, _WIDTH)
        self.setGeometry(around.intersected(self._framed.parentWidget().rect()))
