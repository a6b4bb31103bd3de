"""Icons of the display buttons, drawn in the text colour of the theme."""

from typing import Literal

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPen, QPixmap, QPolygonF

IconName = Literal["outline", "filled", "difference", "hide", "prediction_outline", "prediction_mask"]

_SIZE = 64  # px; Qt scales the icon down
_CYAN, _YELLOW, _GREEN, _PINK = "#00c8e0", "#e0b000", "#33cc55", "#ff3399"


def icon(name: IconName, text_colour: QColor) -> QIcon:
    """The icon `name`; `text_colour` is used where the colour has no meaning."""
    pixmap = QPixmap(_SIZE, _SIZE)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    lesion = QRectF(8, 14, 48, 36)
    if name in ("outline", "prediction_outline"):
        painter.setPen(QPen(QColor(_CYAN if name == "outline" else _YELLOW), 7))
        painter.drawEllipse(lesion)
    elif name == "filled":
        _fill(painter, lesion, _CYAN)
    elif name == "difference":
        _fill(painter, lesion.adjusted(0, 0, -14, 0), _PINK)
        _fill(painter, lesion.adjusted(14, 0, 0, 0), _GREEN)
    elif name == "prediction_mask":
        _fill(painter, lesion.adjusted(12, 0, 0, 0), _YELLOW)
        painter.setPen(QPen(text_colour, 6))
        painter.drawPolyline(QPolygonF([QPointF(24, 18), QPointF(6, 32), QPointF(24, 46)]))
        painter.drawLine(QPointF(6, 32), QPointF(38, 32))
    else:
        painter.setPen(QPen(text_colour, 6))
        painter.drawEllipse(lesion)
        painter.drawEllipse(QRectF(25, 25, 14, 14))
        painter.drawLine(QPointF(8, 58), QPointF(56, 6))
    painter.end()
    return QIcon(pixmap)


def _fill(painter: QPainter, area: QRectF, colour: str) -> None:
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(colour))
    painter.drawEllipse(area)
    painter.setBrush(Qt.BrushStyle.NoBrush)
