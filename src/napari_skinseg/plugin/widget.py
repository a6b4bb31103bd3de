"""The dock widget, with one tab per action."""

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QFrame, QLabel, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from napari_skinseg.plugin.finetune.panel import FineTunePanel
from napari_skinseg.plugin.review.panel import ReviewPanel
from napari_skinseg.plugin.segment.panel import SegmentPanel

from .session import Session

PANELS = (SegmentPanel, ReviewPanel, FineTunePanel)
"""The tabs in order: QWidgets made from a `Session`, with a `title`."""


class SkinSegWidget(QWidget):
    """The widget that the Plugins menu opens."""

    def __init__(self, napari_viewer: "napari.viewer.Viewer") -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__()
        self.session = Session(napari_viewer)
        self.tabs = QTabWidget()
        self.panels = [panel(self.session) for panel in PANELS]
        for panel in self.panels:
            scroll = QScrollArea()
            scroll.setWidget(panel)
            scroll.setWidgetResizable(True)
            scroll.setFrameShape(QFrame.Shape.NoFrame)
            # No horizontal scroll bar: the dock cannot be narrower than its contents.
            scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
            scroll.setMinimumWidth(panel.minimumSizeHint().width() + scroll.verticalScrollBar().sizeHint().width())
            self.tabs.addTab(scroll, panel.title)
        note = QLabel("Research tool, not a medical device.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(note)
        # Not a method of this widget: the methods of a destroyed widget are not called.
        self.destroyed.connect(self.session.close)

    def sizeHint(self) -> QSize:
        """Return a size that is wide enough for every line of text."""
        return QSize(340, 640)
