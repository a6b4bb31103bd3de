"""Thumbnails of photos; a worker reads them when their rows become visible."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
from PIL import Image
from qtpy.QtCore import QObject, Signal
from qtpy.QtGui import QImage, QPixmap

from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, raise_if_cancelled
from napari_skinseg.pixels.image import read_image
from napari_skinseg.plugin.background import Background, Outcome, Report

SIZE = (56, 42)
"""Width and height in pixels of the screen. Images have twice as many pixels, for high-resolution screens."""

_KEPT = 400
_WAITING = 24  # rows of older requests are no longer visible


class Thumbnails(QObject):
    """Keeps the thumbnails that were used last."""

    loaded = Signal(str)
    """The id of the photo whose thumbnail was read."""

    def __init__(self, background: Background) -> None:
        super().__init__()
        self._background = background
        self._kept: OrderedDict[str, QPixmap | None] = OrderedDict()
        self._waiting: OrderedDict[str, Path] = OrderedDict()
        self._is_running = False

    def get(self, photo: str, path: Path) -> QPixmap | None:
        """The thumbnail if it is loaded; otherwise None, and it is requested. A photo that cannot be read has none."""
        if photo in self._kept:
            self._kept.move_to_end(photo)
            return self._kept[photo]
        self._waiting[photo] = path
        self._waiting.move_to_end(photo)
        while len(self._waiting) > _WAITING:
            self._waiting.popitem(last=False)
        if not self._is_running:
            self._is_running = True
            self._background.start("reading thumbnails", self._read_all, self._ended, self._deliver)
        return None

    def clear(self) -> None:
        """Discard all thumbnails and requests, before another project is opened."""
        self._waiting.clear()
        self._kept.clear()

    def _read_all(self, report: Report, cancel: CancelToken) -> None:
        while True:
            raise_if_cancelled(cancel)
            try:
                photo, path = self._waiting.popitem()  # the newest request first
            except KeyError:
                return
            report((photo, _read(path)))

    def _deliver(self, item: tuple[str, QImage | None]) -> None:
        photo, image = item
        # As a pixmap: of an image, Qt would make a new pixmap at each repaint, and fill its cache of 10 MB with them.
        self._kept[photo] = None if image is None else QPixmap.fromImage(image)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        self.loaded.emit(photo)

    def _ended(self, outcome: Outcome) -> None:
        self._is_running = False
        if self._waiting and outcome.state == "done":
            self.get(*next(reversed(self._waiting.items())))


def _read(path: Path) -> QImage | None:
    try:
        small = Image.fromarray(read_image(path))
    except BadInput:
        return None
    small.thumbnail((2 * SIZE[0], 2 * SIZE[1]), reducing_gap=2.0)
    pixels = np.ascontiguousarray(small)
    image = QImage(pixels.data, small.width, small.height, pixels.strides[0], QImage.Format.Format_RGB888).copy()
    image.setDevicePixelRatio(2)
    return image
