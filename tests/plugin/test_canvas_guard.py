"""After a layer was removed, no vertex attribute array of its visual stays enabled (segmentation fault in OpenGL)."""

import numpy as np
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QApplication
from vispy.gloo import gl

from napari_skinseg.plugin.canvas_guard import guard_canvas


def enabled_arrays(canvas: QOpenGLWidget) -> set[int]:
    canvas.makeCurrent()
    found = {number for number in range(16) if np.any(gl.glGetVertexAttrib(number, gl.GL_VERTEX_ATTRIB_ARRAY_ENABLED))}
    canvas.doneCurrent()
    return found


def test_removing_a_layer_disables_the_arrays_of_its_visual(qtbot, make_napari_viewer_proxy):
    viewer = make_napari_viewer_proxy(show=True)
    viewer.add_image(np.zeros((60, 80, 3), np.uint8), rgb=True)
    points = viewer.add_points([[20, 20], [30, 40]])
    (canvas,) = (one for window in QApplication.topLevelWidgets() for one in window.findChildren(QOpenGLWidget))
    qtbot.waitUntil(lambda: bool(enabled_arrays(canvas)), timeout=30_000)
    guard_canvas(viewer)
    viewer.layers.remove(points)
    assert enabled_arrays(canvas) == set()
    qtbot.wait(100)
    assert viewer.screenshot(flash=False).shape[2] == 4, "the canvas still draws"
    assert gl.glGetError() == 0
