"""The held-out photos of a run with three outlines each: of the person, of the base and of the candidate."""

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from PIL import Image
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QDialog, QLabel, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, raise_if_cancelled
from napari_skinseg.finetuning.verdict import ComparedPhoto
from napari_skinseg.pixels.image import read_image
from napari_skinseg.pixels.mask import CYAN, draw_overlay, read_mask, resize_mask
from napari_skinseg.plugin.background import Background, Job, Outcome, Report
from napari_skinseg.plugin.forms import WrappingText
from napari_skinseg.plugin.session import report_failure

YOURS, BASE, CANDIDATE = (255, 255, 255), (255, 214, 0), CYAN
"""Colours of the outlines, which differ from all colours of skin; yellow is the model's colour in the Review tab
too."""

_SMALL, _LARGE = (120, 90), (1000, 750)
_MOST = 60


class ComparisonStrip(QWidget):
    """Small pictures of the photos, the greatest change first; a click on one opens it in a larger size."""

    def __init__(self, background: Background) -> None:
        super().__init__()
        self._background = background
        self._cases: list[ComparedPhoto] = []
        self._job: Job | None = None
        self.title, self.legend = WrappingText(), QLabel()
        self.list = QListWidget()
        self.list.setFlow(QListWidget.Flow.LeftToRight)
        self.list.setWrapping(False)
        self.list.setViewMode(QListWidget.ViewMode.IconMode)
        self.list.setMovement(QListWidget.Movement.Static)
        self.list.setIconSize(QSize(*_SMALL))
        self.list.setFixedHeight(_SMALL[1] + 42)
        self.list.setHorizontalScrollMode(QListWidget.ScrollMode.ScrollPerPixel)
        self.list.itemClicked.connect(self._enlarge)
        self.large = _LargePhoto(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.title)
        layout.addWidget(self.list)
        layout.addWidget(self.legend)

    def show_cases(self, compared: Sequence[ComparedPhoto], before: str = "base", after: str = "new") -> None:
        """Show the photos, new failures first; a worker draws their pictures one by one.

        Args:
            compared: the photos.
            before: name of what is used now.
            after: name of what is new.
        """
        self.clear_cases()
        cases = sorted(compared, key=lambda case: (not case.newly_failed, -abs(case.gain)))[:_MOST]
        self._cases = cases
        failures = sum(case.newly_failed for case in cases)
        first = f"the {failures} new failure{'s' * (failures != 1)} first, then " if failures else ""
        self.title.setText(
            f"Dice of {before} → {after}: {first}the greatest change first. Click a photo to enlarge it."
        )
        self.legend.setText(_legend(before, after))
        self.setVisible(bool(cases))
        blank = QPixmap(*_SMALL)
        blank.fill(Qt.GlobalColor.transparent)
        for case in cases:
            item = QListWidgetItem(QIcon(blank), f"{case.base_dice:.2f} → {case.candidate_dice:.2f}", self.list)
            item.setToolTip(f"{case.image.name} ({case.status})")

        def work(report: Report, cancel: CancelToken) -> None:
            for number, case in enumerate(cases):
                raise_if_cancelled(cancel)
                with suppress(BadInput):  # a deleted photo stays blank; a click on it shows the reason
                    report((number, draw_comparison(case, (2 * _SMALL[0], 2 * _SMALL[1]))))

        if cases:
            self._job = self._background.start(
                "drawing held-out photos", work, lambda outcome: None, self._show_picture
            )

    def clear_cases(self) -> None:
        """Remove all photos."""
        if self._job is not None:
            self._job.abandon()
            self._job = None
        self._cases = []
        self.list.clear()
        self.large.hide()

    def _show_picture(self, item: tuple[int, QImage]) -> None:
        number, picture = item
        picture.setDevicePixelRatio(2)
        self.list.item(number).setIcon(QIcon(QPixmap.fromImage(picture)))

    def _enlarge(self, item: QListWidgetItem) -> None:
        case = self._cases[self.list.row(item)]

        def on_end(outcome: Outcome) -> None:
            if outcome.error is not None:
                report_failure(outcome.error, f"Opening {case.image.name}")
            elif outcome.state == "done":
                self.large.show_case(case, outcome.result, self.legend.text())

        self._background.start(
            f"opening {case.image.name}", lambda report, cancel: draw_comparison(case, _LARGE), on_end
        )


class _LargePhoto(QDialog):
    """One photo with its outlines, in a window that does not block the main window."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.picture, self.caption = QLabel(), QLabel()
        self.caption.setTextFormat(Qt.TextFormat.RichText)
        layout = QVBoxLayout(self)
        layout.addWidget(self.picture)
        layout.addWidget(self.caption)

    def show_case(self, case: ComparedPhoto, picture: QImage, legend: str) -> None:
        """Show a photo instead of the last one."""
        self.setWindowTitle(case.image.name)
        self.picture.setPixmap(QPixmap.fromImage(picture))
        self.caption.setText(f"Dice {case.base_dice:.3f} → {case.candidate_dice:.3f}. {legend}")
        self.adjustSize()
        self.show()
        self.raise_()


def _legend(before: str, after: str) -> str:
    return " · ".join(
        f'<span style="color: rgb{colour}; background: #333333">&nbsp;{words}&nbsp;</span>'
        for words, colour in (("yours", YOURS), (before, BASE), (after, CANDIDATE))
    )


def draw_comparison(case: ComparedPhoto, size: tuple[int, int]) -> QImage:
    """Draw the photo with its three outlines, at most `size` (width, height) pixels; for workers.

    Raises:
        BadInput: the photo or a mask cannot be read.
    """
    photo = Image.fromarray(read_image(case.image))
    photo.thumbnail(size, reducing_gap=2.0)
    pixels = np.asarray(photo)
    for path, colour in ((case.mask, YOURS), (case.base_mask, BASE), (case.candidate_mask, CANDIDATE)):
        mask = resize_mask(read_mask(path), (photo.height, photo.width))  # the masks have different sizes
        pixels = draw_overlay(pixels, mask, colour)
    pixels = np.ascontiguousarray(pixels)
    return QImage(pixels.data, photo.width, photo.height, pixels.strides[0], QImage.Format.Format_RGB888).copy()
