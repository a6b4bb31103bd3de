"""Keep the canvas from a crash after a layer was removed or its data changed.

vispy 0.17 leaves the vertex attribute arrays of a visual enabled after it was drawn. When the buffers of the visual are
deleted, the next draw of another visual can read them: a segmentation fault in OpenGL, seen with Mesa in `glDrawArrays`
after a Points layer was removed. So the arrays are disabled after each frame and when a layer is removed; vispy enables
those that it needs at each draw.
"""

from typing import Any

from qtpy.compat import isalive
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QApplication

_ARRAYS = 16
"""Number of vertex attribute arrays that every OpenGL has."""

_guarded: list[QOpenGLWidget] = []


def guard_canvas(viewer: Any) -> None:
    """Guard the canvases that exist now; `viewer` is the napari viewer."""
    _guarded[:] = [canvas for canvas in _guarded if isalive(canvas)]
    for window in QApplication.topLevelWidgets():
        for canvas in window.findChildren(QOpenGLWidget):
            if canvas not in _guarded:
                _guarded.append(canvas)
                canvas.frameSwapped.connect(_disable_all_arrays)
    viewer.layers.events.removed.connect(_disable_all_arrays)


def _disable_all_arrays(event: Any = None) -> None:
    from vispy.gloo import gl

    for canvas in _guarded:
        if not isalive(canvas) or not canvas.isValid():  # it was closed, or never drawn
            continue
        canvas.makeCurrent()  # not undone, because napari calls OpenGL between frames
        for number in range(_ARRAYS):
            gl.glDisableVertexAttribArray(number)
