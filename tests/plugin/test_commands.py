"""The commands of the plugin in napari's command palette."""

import pytest
from napari._app_model import get_app_model
from napari._qt.widgets.qt_command_palette import _enabled
from qtpy.QtWidgets import QApplication


@pytest.fixture
def palette(make_napari_viewer):
    """The commands of this plugin that the palette of a new window offers, by their titles."""
    viewer = make_napari_viewer()
    dialog = viewer.window._qt_window._command_palette
    dialog.update_context(viewer.window._qt_window)
    commands = (command for command in dialog._list.all_commands if _enabled(command, dialog._list._app_model_context))
    found = {command.title: command.id for command in commands if command.id.startswith("napari-skinseg")}
    return viewer, found


def test_every_action_without_a_photo_is_a_palette_command_that_says_so(palette, qtbot):
    viewer, found = palette
    for words in (
        "outline the lesion",
        "Segment all",
        "Refine",
        "Save the mask",
        "Review a folder",
        "Fine-tune",
        "Sample photo",
    ):
        assert [title for title in found if words in title], words
    assert "napari-skinseg.read_mask" not in found.values()
    assert "napari-skinseg.write_mask" not in found.values()
    for name, sentence in {
        "segment": "There is no photo",
        "refine": "There is no photo",
        "save_mask": "no mask",
    }.items():
        get_app_model().commands.execute_command(f"napari-skinseg.{name}").result()
        _, widget = viewer.window.add_plugin_dock_widget("napari-skinseg")
        panel = widget.panels[0]
        assert sentence in panel.message.text() + panel.refine.message.text()
    for name, tab in {"review": 1, "fine_tune": 2, "segment_all": 0}.items():
        get_app_model().commands.execute_command(f"napari-skinseg.{name}").result()
        assert widget.tabs.currentIndex() == tab
    widget.session.close()
    QApplication.processEvents()
