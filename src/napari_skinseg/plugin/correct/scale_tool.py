"""The photo's scale: read off a ruler in the photo by a line that the person draws, shown, or taken away."""

import math

import numpy as np
from napari.layers import Image, Layer, Shapes
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QDoubleSpinBox, QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_skinseg.errors import BadInput
from napari_skinseg.measurement.ruler import RulerLine
from napari_skinseg.plugin.forms import WrappingText
from napari_skinseg.plugin.layers import KEY, mm_per_px, placement, store_scale
from napari_skinseg.plugin.session import Session
from napari_skinseg.project.project import LEAST_MM

_YELLOW = "#ffe600"


class ScaleTool(QWidget):
    """Keeps the scale with the image layer, where every measurement looks for it; the layer itself stays in place."""

    scale_set = Signal(float, object, float)
    """Millimetres per pixel, the line ((row, column), (row, column)) in pixels, and its uncertainty as a fraction."""

    scale_cleared = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._viewer = session.viewer
        self._image: Image | None = None
        self._ruler: Shapes | None = None
        self._active_before: Layer | None = None
        self.state = WrappingText()
        self.draw_button = QPushButton("Set scale from ruler")
        self.draw_button.setToolTip("Draw a line between two ticks of a ruler in the photo.")
        self.clear_button = QPushButton("Clear scale")
        self.clear_button.setToolTip("Forget what was read off the ruler; sizes are in pixels again.")
        self.distance = QDoubleSpinBox()
        self.distance.setRange(LEAST_MM, 100)
        self.distance.setDecimals(1)
        self.distance.setValue(10)
        self.distance.setSuffix(" mm")
        self.distance.setToolTip(f"How far the two ticks are apart: at least {LEAST_MM:g} mm, the farther the better.")
        self.preview, self.warning = WrappingText(), WrappingText()
        self.warning.setStyleSheet("QLabel { color: #e07b00; font-weight: bold; }")
        self.set_button = QPushButton("Set")
        self.cancel_button = QPushButton("Cancel")
        self._lay_out()
        self.draw_button.clicked.connect(self.draw)
        self.clear_button.clicked.connect(self.clear)
        self.set_button.clicked.connect(self.set_scale)
        self.cancel_button.clicked.connect(self.cancel)
        self.distance.valueChanged.connect(self._show)
        self._viewer.layers.events.removed.connect(self._on_removed)
        self.set_layer(None)

    @property
    def line(self) -> RulerLine | None:
        """The line as it is drawn now, with the length that is typed.

        Raises:
            BadInput: it is too short.
        """
        if self._ruler is None or not len(self._ruler.data):
            return None
        (row, column), (other_row, other_column) = np.asarray(self._ruler.data[-1], float)[:2].tolist()
        return RulerLine(((row, column), (other_row, other_column)), self.distance.value())

    def set_layer(self, image: Image | None) -> None:
        """Work on the photo `image` from now on; a line that was being drawn goes."""
        self._image = image
        self._remove_ruler()
        self._show()

    def draw(self) -> None:
        """Let the person drag a line on the photo, in a layer that lies on it until the scale is set."""
        image = self._image
        if image is None or self._ruler is not None:
            return
        self._active_before = self._viewer.layers.selection.active
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
        self._ruler.events.data.connect(self._on_drawn)
        self._show()

    def set_scale(self) -> None:
        """Keep the scale that the line gives; the line's layer goes."""
        line = self.line
        if self._image is None or line is None:
            return
        store_scale(self._image, line.mm_per_px, line.ends, line.mm)
        self._remove_ruler()
        self._show()
        self.scale_set.emit(line.mm_per_px, line.ends, line.uncertainty)

    def cancel(self) -> None:
        """Leave the scale as it was."""
        self._remove_ruler()
        self._show()

    def clear(self) -> None:
        """Forget what was read off the ruler."""
        if self._image is not None:
            store_scale(self._image, None)
            self._show()
            self.scale_cleared.emit()

    def _on_drawn(self) -> None:
        # A moment later, because napari is still at work on the shape that it tells about.
        QTimer.singleShot(0, self._after_drawing)

    def _after_drawing(self) -> None:
        """Leave one line, whose ends can now be dragged to where the ticks are."""
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
            self._ruler = None  # the person deleted it, which is a way to cancel
            self._show()

    def _remove_ruler(self) -> None:
        ruler, self._ruler = self._ruler, None
        if ruler is None:
            return
        ruler.events.data.disconnect(self._on_drawn)
        if ruler in self._viewer.layers:
            self._viewer.layers.remove(ruler)
        if self._active_before in self._viewer.layers:
            self._viewer.layers.selection.active = self._active_before

    def _show(self) -> None:
        """Say what the scale is, or what the line being drawn would make it."""
        image, is_drawing = self._image, self._ruler is not None
        self._form.setVisible(is_drawing)
        self.draw_button.setVisible(not is_drawing)
        self.draw_button.setEnabled(image is not None and image.ndim == 2)
        from_ruler = image is not None and "mm_per_px" in image.metadata.get(KEY, {})
        self.clear_button.setVisible(from_ruler and not is_drawing)
        self.state.setVisible(not is_drawing)
        self.state.setText("" if image is None else _scale_in_words(image))
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
            self.preview.setText("Drag a line from one tick of the ruler to another, the farther the better.")
        else:
            self.preview.setText(
                f"{line.pixels:.0f} px: {line.mm_per_px:.3g} mm per pixel, ±{line.uncertainty:.1%} if each end is one "
                "pixel off. Drag the ends to the ticks; zoom in for this."
            )
            warning = line.doubt(shape)
        self.warning.setText(warning)
        self.warning.setVisible(bool(warning))

    def _lay_out(self) -> None:
        self._form = QFrame()
        typed = QHBoxLayout()
        typed.addWidget(QLabel("Its length on the ruler"))
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


def _scale_in_words(image: Image) -> str:
    scale = mm_per_px(image)
    if scale is None:
        return "No scale: sizes are in pixels. With a ruler in the photo they can be in millimetres."
    facts = image.metadata.get(KEY, {})
    width = scale * max(_shape(image))
    words = f"{scale:.3g} mm per pixel; the photo is {width:.3g} mm wide"
    if "scale_line" in facts:
        ends = tuple((row, column) for row, column in facts["scale_line"])
        return f"{words}. From a ruler, ±{RulerLine(ends, facts['scale_mm']).uncertainty:.1%}."  # type: ignore[arg-type]
    return f"{words}. " + ("From another photo's ruler." if "mm_per_px" in facts else "From the layer's own scale.")


def _shape(image: Image) -> tuple[int, int]:
    data = image.data[0] if image.multiscale else image.data
    height, width = data.shape[image.ndim - 2 : image.ndim]
    return int(height), int(width)
