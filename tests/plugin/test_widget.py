"""The widget as a whole: device, preferences and closing."""

import gc
import weakref

import pytest
from napari.components import ViewerModel
from napari.settings import get_plugin_settings
from npe2 import PluginManifest
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_skinseg.plugin.session import preferred_device, preferred_model
from napari_skinseg.plugin.widget import SkinSegWidget


@pytest.fixture
def preferences(plugin_settings, npe2pm):
    npe2pm.register(PluginManifest.from_distribution("napari-skinseg"))
    return get_plugin_settings("napari-skinseg").segment


def test_preferences_are_read_and_have_defaults(preferences):
    assert preferred_model() == ""
    assert preferred_device() == "auto"
    preferences.model, preferences.device = "lesion-unet", "cpu"
    assert preferred_model() == "lesion-unet"
    assert preferred_device() == "cpu"


def test_the_message_names_a_preferred_model_that_is_missing(qtbot, preferences):
    preferences.model = "gone"
    widget = SkinSegWidget(ViewerModel())
    qtbot.addWidget(widget)
    panel = widget.panels[0]
    assert "The model gone cannot be used here" in panel.message.text()
    assert panel.model.currentText()
    widget.session.close()


def test_the_widget_shows_its_device(qtbot, make_napari_viewer_proxy):
    _, widget = make_napari_viewer_proxy(show=True).window.add_plugin_dock_widget("napari-skinseg")
    device = widget.panels[0].device
    qtbot.waitUntil(lambda: "CPU" in device.text() or "GPU" in device.text(), timeout=60_000)
    widget.session.close()
    QApplication.processEvents()


def test_closing_the_widget_stops_its_run(qtbot, make_napari_viewer_proxy, spot):
    viewer = make_napari_viewer_proxy()
    for number in range(5):
        viewer.add_image(spot(60, 80 + number, 30, (120, 160))[0], rgb=True)
    dock, widget = viewer.window.add_plugin_dock_widget("napari-skinseg")
    background, panel = widget.session.background, widget.panels[0]
    panel.segment_all()
    assert background.is_busy
    dock.destroyOnClose()
    del dock, panel
    widget.deleteLater()
    del widget
    qtbot.waitUntil(lambda: not background.is_busy, timeout=60_000)
    QApplication.processEvents()
    assert len(viewer.layers) <= 10


def test_a_closed_widget_is_freed_while_its_viewer_stays_open(qtbot, spot, tmp_path):
    Image.fromarray(spot(50, 60, 20, (96, 128))[0]).save(tmp_path / "arm.png")
    viewer = ViewerModel()
    widget = SkinSegWidget(viewer)
    widget.tabs.setCurrentIndex(1)
    widget.panels[1].open_folder(tmp_path)
    qtbot.waitUntil(lambda: bool(viewer.layers), timeout=60_000)
    parts = [weakref.ref(one) for one in (*widget.panels, widget.panels[0]._monitor, widget.panels[1].project)]
    widget.session.close()
    widget.deleteLater()
    del widget

    def is_freed() -> bool:
        gc.collect()
        return not any(part() for part in parts)

    qtbot.waitUntil(is_freed, timeout=60_000)
