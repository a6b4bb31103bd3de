"""The commands of the plugin in napari's command palette: each opens the widget at its tab and starts the action."""

import napari

from napari_skinseg.plugin.widget import SkinSegWidget


def segment() -> None:
    """Segment the chosen photo."""
    _open_tab("Segment").panels[0].segment_selected()


def segment_all() -> None:
    """Segment all open photos."""
    _open_tab("Segment").panels[0].segment_all()


def segment_folder() -> None:
    """Segment the photos of a folder into files."""
    _open_tab("Segment").panels[0].segment_folder()


def refine() -> None:
    """Switch Refine on for the chosen photo."""
    _open_tab("Segment").panels[0].refine.switch(True)


def save_mask() -> None:
    """Save the mask of the chosen photo."""
    _open_tab("Segment").panels[0].save_mask()


def review() -> None:
    """Open the Review tab."""
    _open_tab("Review")


def fine_tune() -> None:
    """Open the Fine-tune tab."""
    _open_tab("Fine-tune")


def tour() -> None:
    """Start the tour."""
    _open_tab("Segment").tour.start()


def about() -> None:
    """Show versions, device, model and licence."""
    _open_tab("Segment").show_about()


def _open_tab(title: str) -> SkinSegWidget:
    """Open the widget, or show the open one, at the tab with this title."""
    viewer = napari.current_viewer()
    _, widget = viewer.window.add_plugin_dock_widget("napari-skinseg")
    assert isinstance(widget, SkinSegWidget)
    widget.tabs.setCurrentIndex([panel.title for panel in widget.panels].index(title))
    return widget
