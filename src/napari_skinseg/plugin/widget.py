"""The dock widget: one tab per step of the work."""

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QFrame, QLabel, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from napari_skinseg.plugin.finetune.panel import FineTunePanel
from napari_skinseg.plugin.review.panel import ReviewPanel
from napari_skinseg.plugin.segment.panel import SegmentPanel

from .session import Session

PANELS = (SegmentPanel, ReviewPanel, FineTunePanel)
"""The steps, in order: QWidgets made from a `Session`, with a `title`. A new step is one module and one entry here."""


class SkinSegWidget(QWidget):
    """What the Plugins menu opens."""

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
            # Never scroll sideways: the dock cannot be made narrower than what is in it.
            scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
            scroll.setMinimumWidth(panel.minimumSizeHint().width() + scroll.verticalScrollBar().sizeHint().width())
            self.tabs.addTab(scroll, panel.title)
        note = QLabel("Research tool, not a medical device.")
        note.setEnabled(False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(note)
        # Not a method of this widget: when it is destroyed, its own methods are gone.
        self.destroyed.connect(self.session.close)

    def sizeHint(self) -> QSize:
        """Wide enough for every line of text."""
        return QSize(340, 640)
