"""The dock widget, with one tab per action."""

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import QFrame, QHBoxLayout, QPushButton, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from napari_skinseg.plugin.finetune.panel import FineTunePanel
from napari_skinseg.plugin.manifest.writers import offer_masks_first
from napari_skinseg.plugin.review.panel import ReviewPanel
from napari_skinseg.plugin.segment.panel import SegmentPanel

from .about import show_about
from .canvas_guard import guard_canvas
from .focus_frame import FocusFrame
from .forms import WrappingText
from .session import Session
from .tour import Tour


class SkinSegWidget(QWidget):
    """The widget that the Plugins menu opens."""

    def __init__(self, napari_viewer: "napari.viewer.Viewer") -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__()
        offer_masks_first()
        self.session = Session(napari_viewer)
        guard_canvas(napari_viewer)
        self.tabs = QTabWidget()
        self.panels = SegmentPanel(self.session), ReviewPanel(self.session), FineTunePanel(self.session)
        for panel in self.panels:
            self.tabs.addTab(_VerticalScroll(panel), panel.title)
        self.tour = Tour(self.session, self.tabs, self.panels)
        self.tour_button = QPushButton("To&ur", toolTip="Learn the tabs in five steps, with generated photos. (Alt+U)")
        self.about_button = QPushButton(
            "A&bout", toolTip="Versions, device, model and licence; copies a bug report. (Alt+B)"
        )
        self.tour_button.clicked.connect(self.tour.start)
        self.about_button.clicked.connect(self.show_about)
        note = WrappingText()
        note.setText("Research tool, not a medical device.")
        footer = QHBoxLayout()
        footer.addWidget(note, 1)
        footer.addWidget(self.tour_button)
        footer.addWidget(self.about_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.tour)
        layout.addWidget(self.tabs, 1)
        layout.addLayout(footer)
        self.focus_frame = FocusFrame(self)
        for button in self.findChildren(QPushButton):
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # after a click, the canvas keeps the keyboard
        # Not a method of this widget: the methods of a destroyed widget are not called.
        self.destroyed.connect(self.session.close)

    def show_about(self) -> None:
        """Show versions, device, model and licence."""
        segment = self.panels[0]
        device = segment.device.toolTip() or segment.device.text()
        show_about(self, segment.model.currentData(), device, self.session.viewer.layers)

    def sizeHint(self) -> QSize:
        """Return a size that is wide enough for every line of text."""
        return QSize(340, 640)


class _VerticalScroll(QScrollArea):
    """Scrolls up and down; never narrower than its content, whose width depends on the theme and the text size."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def minimumSizeHint(self) -> QSize:
        """Return the width of the content and of the scroll bar."""
        bar = self.verticalScrollBar().sizeHint().width()
        return QSize(self.widget().minimumSizeHint().width() + bar, super().minimumSizeHint().height())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Tell the dock when the content needs another width."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))
