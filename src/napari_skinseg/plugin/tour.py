"""The tour: five steps through the tabs, with generated photos. It works offline and can be left at any time."""

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from qtpy.QtWidgets import QFrame, QHBoxLayout, QPushButton, QTabWidget, QVBoxLayout

from napari_skinseg.events import CancelToken, raise_if_cancelled
from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.plugin.background import Outcome, Report
from napari_skinseg.plugin.finetune.panel import FineTunePanel
from napari_skinseg.plugin.forms import WrappingText
from napari_skinseg.plugin.manifest.samples import clear_lesion
from napari_skinseg.plugin.review.panel import ReviewPanel
from napari_skinseg.plugin.segment.panel import SegmentPanel
from napari_skinseg.plugin.session import Session, report_failure

_PHOTOS = 6


class _Step(NamedTuple):
    """One step: its title, what to do in words, its tab, and the action of *Show me*."""

    title: str
    text: str
    tab: int
    action: Callable[[], None]


class Tour(QFrame):
    """The box above the tabs; hidden while no tour goes on.

    Args:
        session: viewer and workers.
        tabs: the tabs of the widget.
        panels: their contents: Segment, Review, Fine-tune.
    """

    def __init__(
        self, session: Session, tabs: QTabWidget, panels: tuple[SegmentPanel, ReviewPanel, FineTunePanel]
    ) -> None:
        super().__init__()
        self._session, self._tabs = session, tabs
        self._folder: Path | None = None
        segment, self._review, finetune = panels
        self._steps = (
            _Step("Segment", "Press Segment: the model outlines the lesion.", 0, segment.segment_selected),
            _Step(
                "Refine",
                "Press Refine, then click on the photo: left where lesion is missing, right where the outline holds "
                "skin. Ctrl+Z undoes a click. Space and drag moves the photo.",
                0,
                lambda: segment.refine.switch(True),
            ),
            _Step(
                "Save",
                "Press Save mask… and choose a file. Black is skin, white is lesion; a JSON file beside it holds the "
                "measurements.",
                0,
                segment.save_mask,
            ),
            _Step(
                "Review",
                "Open folder… shows the photos of a folder, the least certain first. W accepts a mask, N goes on, and "
                "every change is saved at once. Show me opens a folder of generated photos.",
                1,
                self._open_photos,
            ),
            _Step(
                "Fine-tune",
                "When some masks of your own photos are corrected and accepted, Fine-tune trains a copy of the model "
                "on them, and compares both models. You decide which one to keep.",
                2,
                finetune.start_button.setFocus,
            ),
        )
        self._at = 0
        self.text = WrappingText()
        self.show_button = QPushButton("Show me", toolTip="Do what this step describes.")
        self.next_button = QPushButton("&Next step", toolTip="Go to the next step. (Alt+N)")
        self.leave_button = QPushButton("Leave the tour", toolTip="Close the tour; layers and files stay.")
        buttons = QHBoxLayout()
        for button in (self.show_button, self.next_button, self.leave_button):
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.addWidget(self.text)
        layout.addLayout(buttons)
        self.show_button.clicked.connect(lambda: self._steps[self._at].action())
        self.next_button.clicked.connect(lambda: self._go(self._at + 1))
        self.leave_button.clicked.connect(self.leave)
        self.hide()

    def start(self) -> None:
        """Show the first step, with a generated photo."""
        self._go(0)
        self.show()
        self._session.background.start("making a sample photo", lambda report, cancel: clear_lesion(), self._on_sample)

    def leave(self) -> None:
        """Hide the tour; its layers stay, and its files until napari is closed."""
        self.hide()

    def _go(self, step: int) -> None:
        if step >= len(self._steps):
            self.leave()
            return
        self._at = step
        title, text, tab, _ = self._steps[step]
        self.text.setText(f"Tour, step {step + 1} of {len(self._steps)}: {title}. {text}")
        self.next_button.setText("&Next step" if step + 1 < len(self._steps) else "E&nd")
        self._tabs.setCurrentIndex(tab)

    def _on_sample(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            report_failure(outcome.error, "Making a sample photo")
        elif not self._session.is_closed:
            image, options, _ = outcome.result[0]
            self._session.viewer.add_image(image, **options)

    def _open_photos(self) -> None:
        """Write some generated photos to a temporary folder in a worker, and open it in the Review tab."""

        def on_end(outcome: Outcome) -> None:
            if outcome.error is not None:
                report_failure(outcome.error, "Making the photos of the tour")
            elif outcome.state == "done" and not self._session.is_closed:
                self._folder = outcome.result
                self._review.open_folder(outcome.result)

        if self._folder is None:
            self._session.background.start("making the photos of the tour", _write_photos, on_end)
        else:
            self._review.open_folder(self._folder)


def _write_photos(report: Report, cancel: CancelToken) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="napari-skinseg-tour-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for seed in range(_PHOTOS):
        raise_if_cancelled(cancel)
        Image.fromarray(phantom(seed, artefacts=("hair",) if seed % 2 else ()).image).save(folder / f"tour-{seed}.png")
    return folder
