"""A widget, opened through the manifest in a real viewer, with the small real model that finds dark spots."""

import gc
import importlib
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from unittest.mock import patch

import napari
import numpy as np
import pytest
from napari._app_model._app import NapariApplication, _napari_names
from napari._qt._qapp_model.qactions import init_qactions
from napari._qt.threads.status_checker import StatusChecker
from napari.plugins import _initialize_plugins
from napari.utils._proxies import PublicOnlyProxy
from npe2 import PluginManager
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_skinseg.files import write_json
from napari_skinseg.plugin.segment import mask_monitor


@pytest.fixture(scope="session", autouse=True)
def windows_open_quickly() -> Iterator[None]:
    """Read all manifests once: without this, each of a hundred windows reads them again."""
    for module in ("matplotlib.figure", "napari.window", "napari_skinseg.finetuning.run"):
        importlib.import_module(module)
    plugins = PluginManager.instance()
    plugins.discover()
    with patch.object(plugins, "discover", return_value=0):
        yield


@pytest.fixture(autouse=True)
def quick_garbage_collection() -> None:
    """napari collects garbage when a layer or a window is removed: leave out the 600,000 objects of earlier tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch) -> None:
    """Measure a mask soon after a change; a person needs longer between two strokes."""
    monkeypatch.setattr(mask_monitor, "_SOON", 10)
    monkeypatch.setattr(mask_monitor, "_PAUSE", 40)


@pytest.fixture(autouse=True)
def models_here(tmp_path, monkeypatch, spot_finder):
    """A computer with the models of the package and the spot finder, which is the default."""
    home = tmp_path / "skinseg-home"
    monkeypatch.setenv("NAPARI_SKINSEG_HOME", str(home))
    shutil.copytree(spot_finder, home / "models" / spot_finder.name)
    write_json(home / "settings.json", {"default_model": spot_finder.name})
    return home


@pytest.fixture
def blind_model(models_here, spot_finder):
    """The name of a model that never finds a lesion, added to `models_here`."""
    from dataclasses import replace

    from napari_skinseg.models import bundle

    model = bundle.load(spot_finder)
    for parameter in model.network.parameters():
        parameter.data.zero_()
    list(model.network.parameters())[-1].data.fill_(-3)
    bundle.save(
        models_here / "models" / "blind", replace(model.spec, name="blind"), model.network, presence=model.presence
    )
    return "blind"


class SharedWindow:
    """One napari window for many tests, because opening and closing a window takes as long as most tests.

    It is either on the screen or not, from the beginning to the end: a canvas that is painted, hidden and painted again
    makes the process crash.
    """

    def __init__(self) -> None:
        self._viewer: napari.Viewer | None = None
        self._is_shown = False
        self._app = ExitStack()

    @property
    def is_open(self) -> bool:
        return self._viewer is not None and hasattr(self._viewer.window, "_qt_window")

    def open(self, *, shown: bool) -> napari.Viewer:
        """Open the window in the same way as napari's `make_napari_viewer`."""
        if not self.is_open or shown != self._is_shown:
            self.close()
            app = NapariApplication("shared-window")
            app.injection_store.namespace = _napari_names
            self._app.callback(NapariApplication.destroy, app.name)
            self._app.enter_context(patch.object(NapariApplication, "get_app_model", return_value=app))
            self._app.enter_context(patch.object(StatusChecker, "start"))
            self._viewer, self._is_shown = napari.Viewer(show=shown, show_welcome_screen=False), shown
            window = self._viewer.window._qt_window
            window.setStyleSheet("")  # Qt applies that of napari to each new widget, which takes longer than the widget
            if shown:
                window.resize(1366, 768)
                assert QTest.qWaitForWindowExposed(window, 60_000)
        return self._viewer

    def clear(self) -> None:
        """Remove the widgets and layers of a test."""
        if self.is_open:
            for widget in list(self._viewer.window.dock_widgets.values()):
                self._viewer.window.remove_dock_widget(widget)
                widget.deleteLater()
            self._viewer.layers.clear()
        QApplication.processEvents()

    def close(self) -> None:
        """Close the window before a test that opens other windows, because napari allows no other window there."""
        if self._viewer is None:
            return
        if self.is_open:
            self._viewer.close()
        self._viewer = None
        self._app.close()
        init_qactions.cache_clear()
        _initialize_plugins.cache_clear()
        QApplication.processEvents()
        gc.unfreeze()
        gc.collect()


@pytest.fixture(scope="session")
def shared_window(qapp) -> Iterator[SharedWindow]:
    window = SharedWindow()
    yield window
    window.close()


@pytest.fixture
def no_shared_window(shared_window) -> None:
    shared_window.close()


@pytest.fixture
def make_napari_viewer(no_shared_window, make_napari_viewer):
    """napari's fixture, for tests that close a window or need a new one."""
    return make_napari_viewer


@pytest.fixture
def empty_viewer(shared_window, qtbot, monkeypatch) -> Iterator[PublicOnlyProxy]:
    """A viewer as plugins get it, in a window that is not on the screen."""
    monkeypatch.setenv("NAPARI_ENSURE_PLUGIN_MAIN_THREAD", "True")
    yield PublicOnlyProxy(shared_window.open(shown=False))
    shared_window.clear()


@pytest.fixture
def shown_viewer(shared_window, qtbot) -> Iterator[napari.Viewer]:
    """A viewer in a window on the screen."""
    yield shared_window.open(shown=True)
    shared_window.clear()


@pytest.fixture
def viewer(empty_viewer, spot):
    """A viewer with a photo of a dark spot."""
    empty_viewer.add_image(spot(60, 80, 30, (120, 160))[0], rgb=True, name="arm")
    return empty_viewer


@pytest.fixture
def panel(viewer) -> Iterator[object]:
    """The Segment tab of the widget, opened as the Plugins menu does; its workers are waited for."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-skinseg")
    yield widget.panels[0]
    widget.session.close()
    QApplication.processEvents()


@pytest.fixture
def settled(qtbot):
    """Wait until no job of a panel runs or is planned."""

    def wait(panel, timeout: int = 60_000) -> None:
        QApplication.processEvents()
        qtbot.waitUntil(
            lambda: not panel._pause.isActive() and not panel._session.background.is_busy and panel._monitor.is_idle,
            timeout=timeout,
        )

    return wait


@pytest.fixture
def truth(spot) -> np.ndarray:
    """The mask of the viewer's spot."""
    return spot(60, 80, 30, (120, 160))[1]
