"""The photo's scale: measured on a ruler in the photo, shown, or cleared."""

import math

import numpy as np
from napari.layers import Image, Layer, Shapes
from qtpy.QtCore import QEvent, QObject, QPoint, Qt, QTimer, Signal
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QDoubleSpinBox, QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_skinseg.errors import BadInput
from napari_skinseg.measurement.ruler import RulerLine
from napari_skinseg.plugin.forms import WrappingText
from napari_skinseg.plugin.layers import KEY, mm_per_px, placement, store_scale
from napari_skinseg.plugin.session import Session
from napari_skinseg.project.project import LEAST_MM

_YELLOW = "#ffe600"


class ScaleTool(QWidget):
    """Stores the scale in the metadata of the image layer, where every measurement reads it.

    Attributes:
        button: shows the tool in a small window of its own, so that no button of a tab moves.
        image: the photo; None if there is none.
    """

    scale_set = Signal(float, object, float)
    """Millimetres per pixel; the line ((row, column), (row, column)) in pixels; the uncertainty as a fraction."""

    scale_cleared = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._viewer = session.viewer
        self.image: Image | None = None
        self._ruler: Shapes | None = None
        self._previous_active: Layer | None = None
        self.state = WrappingText()
        self.draw_button = QPushButton(
            "Set scale from ruler", toolTip="Draw a line between two ticks of a ruler in the photo."
        )
        self.clear_button = QPushButton("Clear scale")
        self.clear_button.setToolTip("Remove the scale that was measured on the ruler; sizes are in pixels again.")
        self.distance = QDoubleSpinBox()
        self.distance.setRange(LEAST_MM, 100)
        self.distance.setDecimals(1)
        self.distance.setValue(10)
        self.distance.setSuffix(" mm")
        self.distance.setToolTip(
            f"The distance between the two ticks: at least {LEAST_MM:g} mm. A longer line is more precise."
        )
        self.preview, self.warning = WrappingText(), WrappingText()
        self.warning.setStyleSheet("QLabel { color: #e07b00; font-weight: bold; }")
        self.set_button = QPushButton("Set")
        self.cancel_button = QPushButton("Cancel")
        self.button = QPushButton(
            "Scale…", toolTip="Show or set how many millimetres a pixel is, with a ruler in the photo."
        )
        self.setWindowTitle("Scale in millimetres")
        self.setMinimumWidth(300)
        self._lay_out()
        self.button.clicked.connect(self.open)
        self.button.installEventFilter(self)
        self.draw_button.clicked.connect(self.start_line)
        self.clear_button.clicked.connect(self.clear)
        self.set_button.clicked.connect(self.set_scale)
        self.cancel_button.clicked.connect(self.cancel)
        self.distance.valueChanged.connect(self._show)
        self._viewer.layers.events.removed.connect(self._on_removed)
        self.set_layer(None)

    @property
    def line(self) -> RulerLine | None:
        """The present line with the length in the field; None without a line.

        Raises:
            BadInput: the line is too short.
        """
        if self._ruler is None or not len(self._ruler.data):
            return None
        (row, column), (other_row, other_column) = np.asarray(self._ruler.data[-1], float)[:2].tolist()
        return RulerLine(((row, column), (other_row, other_column)), self.distance.value())

    def open(self) -> None:
        """Show the tool beside its button, above the window of napari."""
        if self.parentWidget() is None:
            self.setParent(self.button.window(), Qt.WindowType.Tool)
        self._show()
        self.adjustSize()
        self.move(self.button.mapToGlobal(QPoint(-self.width() - 8, 0)))
        self.show()
        self.raise_()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Close the window when the tab with the button is left."""
        if event.type() == QEvent.Type.Hide and not event.spontaneous():
            self.close()
        return False

    def closeEvent(self, event: QCloseEvent) -> None:
        """Remove an unfinished line."""
        super().closeEvent(event)
        self.cancel()

    def set_layer(self, image: Image | None) -> None:
        """Work on the photo `image` from now on; an unfinished line is removed."""
        self.image = image
        self._remove_ruler()
        self._show()

    def start_line(self) -> None:
        """Let the user draw a line, in a layer on the photo that exists until the scale is set."""
        image = self.image
        if image is None or self._ruler is not None:
            return
        self._previous_active = self._viewer.layers.selection.active
        self._ruler = Shapes(
            ndim=2,
            name="↔ ruler",
            edge_color=_YELLOW,
            edge_width=max(1.0, math.hypot(*_shape(image)) / 500),
            **placement(image),
        )
        self._viewer.layers.append(self._ruler)
        self._viewer.layers.selection.active = self._ruler
        self._ruler.mode = "add_line"
        self._ruler.events.data.connect(self._on_shape)
        self._show()

    def set_scale(self) -> None:
        """Store the scale that the line gives, and remove the line's layer."""
        line = self.line
        if self.image is None or line is None:
            return
        store_scale(self.image, line.mm_per_px, line.ends, line.mm)
        self._remove_ruler()
        self._show()
        self.scale_set.emit(line.mm_per_px, line.ends, line.uncertainty)

    def cancel(self) -> None:
        """Remove the line; the scale does not change."""
        self._remove_ruler()
        self._show()

    def clear(self) -> None:
        """Remove the scale that was measured on a ruler."""
        if self.image is not None:
            store_scale(self.image, None)
            self._show()
            self.scale_cleared.emit()

    def _on_shape(self) -> None:
        # Later, because napari is still changing the shape when it sends this event.
        QTimer.singleShot(0, self._keep_last_line)

    def _keep_last_line(self) -> None:
        """Keep only the last line, and let the user drag its ends onto the ticks."""
        ruler = self._ruler
        if ruler is None:
            return
        if ruler.mode == "add_line" and len(ruler.data):
            with ruler.events.data.blocker():
                ruler.selected_data = set(range(len(ruler.data) - 1))
                ruler.remove_selected()
            ruler.mode = "direct"
            ruler.selected_data = {0}
        self._show()

    def _on_removed(self, event: object) -> None:
        if self._ruler is not None and self._ruler not in self._viewer.layers:
            self._ruler = None  # the user deleted the layer, which cancels
            self._show()

    def _remove_ruler(self) -> None:
        ruler, self._ruler = self._ruler, None
        if ruler is None:
            return
        ruler.events.data.disconnect(self._on_shape)
        if ruler in self._viewer.layers:
            self._viewer.layers.remove(ruler)
        if self._previous_active in self._viewer.layers:
            self._viewer.layers.selection.active = self._previous_active

    def _show(self) -> None:
        """Show the scale, or the scale that the unfinished line gives."""
        image, is_drawing = self.image, self._ruler is not None
        self._form.setVisible(is_drawing)
        self.draw_button.setVisible(not is_drawing)
        self.draw_button.setEnabled(image is not None and image.ndim == 2)
        from_ruler = image is not None and "mm_per_px" in image.metadata.get(KEY, {})
        self.clear_button.setVisible(from_ruler and not is_drawing)
        self.state.setVisible(not is_drawing)
        self.state.setText("" if image is None else _describe_scale(image))
        if image is not None and is_drawing:
            self._preview(_shape(image))

    def _preview(self, shape: tuple[int, int]) -> None:
        warning = ""
        try:
            line = self.line
        except BadInput as error:
            line, warning = None, str(error)
        self.set_button.setEnabled(line is not None)
        if line is None:
            self.preview.setText("Drag a line from one tick of the ruler to another. A longer line is more precise.")
        else:
            self.preview.setText(
                f"{line.pixels:.0f} px: {line.mm_per_px:.3g} mm per pixel, ±{line.uncertainty:.1%} if each end is one "
                "pixel off. Zoom in and drag the ends onto the ticks."
            )
            warning = line.plausibility_warning(shape)
        self.warning.setText(warning)
        self.warning.setVisible(bool(warning))

    def _lay_out(self) -> None:
        self._form = QFrame()
        typed = QHBoxLayout()
        typed.addWidget(QLabel("Length on the ruler"))
        typed.addWidget(self.distance, 1)
        ends = QHBoxLayout()
        ends.addWidget(self.set_button)
        ends.addWidget(self.cancel_button)
        form = QVBoxLayout(self._form)
        form.setContentsMargins(0, 0, 0, 0)
        form.addWidget(self.preview)
        form.addLayout(typed)
        form.addWidget(self.warning)
        form.addLayout(ends)
        buttons = QHBoxLayout()
        buttons.addWidget(self.draw_button)
        buttons.addWidget(self.clear_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.state)
        layout.addLayout(buttons)
        layout.addWidget(self._form)


def _describe_scale(image: Image) -> str:
    scale = mm_per_px(image)
    if scale is None:
        return "No scale: sizes are in pixels. If the photo shows a ruler, set the scale from it."
    facts = image.metadata.get(KEY, {})
    width = scale * max(_shape(image))
    words = f"{scale:.3g} mm per pixel; the photo is {width:.3g} mm wide"
    if "scale_line" in facts:
        ends = tuple((row, column) for row, column in facts["scale_line"])
        return f"{words}. From a ruler, ±{RulerLine(ends, facts['scale_mm']).uncertainty:.1%}."  # type: ignore[arg-type]
    return f"{words}. " + (
        "From the ruler in another photo." if "mm_per_px" in facts else "From the layer's own scale."
    )


def _shape(image: Image) -> tuple[int, int]:
    data = image.data[0] if image.multiscale else image.data
    height, width = data.shape[image.ndim - 2 : image.ndim]
    return int(height), int(width)
