"""Keep the canvas from a crash after a layer was removed.

vispy 0.17 leaves the vertex attribute arrays of a visual enabled after it was drawn. When the layer of the visual is
removed, their buffers are deleted, and the next draw of another layer can read the deleted buffers: a segmentation
fault in OpenGL, seen with Mesa in `glDrawArrays` after a Points layer was removed.
"""

from typing import Any

from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QApplication

_ARRAYS = 16
"""Number of vertex attribute arrays that every OpenGL has."""


def guard_canvas(viewer: Any) -> None:
    """Disable the vertex attribute arrays when a layer is removed; vispy enables those that it needs at each draw."""
    viewer.layers.events.removed.connect(_disable_arrays)


def _disable_arrays(event: Any = None) -> None:
    from vispy.gloo import gl

    for window in QApplication.topLevelWidgets():
        for canvas in window.findChildren(QOpenGLWidget):
            if not canvas.isValid():  # it was never drawn
                continue
            canvas.makeCurrent()
            for number in range(_ARRAYS):
                gl.glDisableVertexAttribArray(number)
            canvas.doneCurrent()
