"""A widget opened through the manifest in a real viewer, with the small real model that finds dark spots."""

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_skinseg.files import write_json


@pytest.fixture(autouse=True)
def models_here(tmp_path, monkeypatch, spot_finder):
    """This computer's models are those of the package and the spot finder, which is the default."""
    home = tmp_path / "skinseg-home"
    monkeypatch.setenv("NAPARI_SKINSEG_HOME", str(home))
    shutil.copytree(spot_finder, home / "models" / spot_finder.name)
    write_json(home / "settings.json", {"default_model": spot_finder.name})
    return home


@pytest.fixture
def blind_model(models_here, spot_finder):
    """A model that finds lesion nowhere, added to those here."""
    from dataclasses import replace

    from napari_skinseg.models import bundle

    model = bundle.load(spot_finder)
    for parameter in model.network.parameters():
        parameter.data.zero_()
    list(model.network.parameters())[-1].data.fill_(-3)
    bundle.save(models_here / "models" / "blind", replace(model.spec, name="blind"), model.network)
    return "blind"


@pytest.fixture
def viewer(make_napari_viewer_proxy, spot):
    """A viewer as plugins get it, with a photo of a dark spot."""
    viewer = make_napari_viewer_proxy()
    viewer.add_image(spot(60, 80, 30, (120, 160))[0], rgb=True, name="arm")
    return viewer


@pytest.fixture
def panel(viewer) -> Iterator[object]:
    """The Segment tab of the widget, opened as the Plugins menu does; its workers are waited for."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-skinseg")
    yield widget.panels[0]
    widget.session.close()
    QApplication.processEvents()


@pytest.fixture
def settled(qtbot):
    """Wait until nothing runs in the background of a panel and nothing is about to."""

    def wait(panel, timeout: int = 60_000) -> None:
        QApplication.processEvents()
        qtbot.waitUntil(lambda: not panel._pause.isActive() and not panel._session.background.is_busy, timeout=timeout)

    return wait


@pytest.fixture
def truth(spot) -> np.ndarray:
    """The mask of the viewer's spot."""
    return spot(60, 80, 30, (120, 160))[1]
