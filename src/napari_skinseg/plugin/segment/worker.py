"""The work of the Segment tab that runs in a worker, without Qt: photos and options in, results out."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.errors import Cancelled
from napari_skinseg.events import CancelToken, Event, raise_if_cancelled
from napari_skinseg.measurement.measure import measure
from napari_skinseg.models.bundle import ModelSpec
from napari_skinseg.plugin.background import Report
from napari_skinseg.plugin.first_layer import prepare_first_layer
from napari_skinseg.plugin.layers import LayerPhoto
from napari_skinseg.plugin.session import Segmenters
from napari_skinseg.segmentation.border import Border
from napari_skinseg.segmentation.confidence import MaskDecision, decide_mask
from napari_skinseg.segmentation.options import SegmentOptions
from napari_skinseg.segmentation.segmenter import Segmenter


@dataclass(frozen=True)
class Result:
    """The mask of one photo.

    Attributes:
        photo: the photo.
        spec: the description of the model.
        probability: float32 `[H, W]`, kept so that another threshold needs no network.
        mask: bool `[H, W]`.
        withheld: the mask is empty although the probability gives an outline, see `Segmentation.withheld`.
        options: how the mask was made; the threshold is always given.
        provenance: plain JSON types, with the keys that the command line records.
    """

    photo: LayerPhoto
    spec: ModelSpec
    probability: NDArray[np.float32]
    mask: NDArray[np.bool_]
    withheld: bool
    options: SegmentOptions
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """A photo that could not be segmented."""

    photo: LayerPhoto
    error: Exception


def segment_photos(
    photos: Sequence[LayerPhoto],
    options: SegmentOptions,
    segmenters: Segmenters,
    model: str,
    device: str,
    report: Report,
    cancel: CancelToken,
) -> str:
    """Segment `photos` one by one and return the device in words.

    This reports an `Event` before each photo, and its `Result` or `Failure` after it.

    Raises:
        BadInput: the model or the device cannot be used.
        Cancelled: the results that were reported before stay valid.
    """
    report(Event("load", message=f"Loading {model}…"))
    segmenter = segmenters.get(model, device)
    for done, photo in enumerate(photos):
        raise_if_cancelled(cancel)
        report(Event("segment", done, len(photos), f"Segmenting {photo.name}…"))
        try:
            result = _segment(photo, options, segmenter)
            raise_if_cancelled(cancel)
            report(result)
        except Cancelled:
            raise
        except Exception as error:
            report(Failure(photo, error))
    return segmenter.device_line


def change_options(result: Result, options: SegmentOptions) -> Result:
    """Return the result that other options give, from the kept probability; `tta` and `second_look` stay."""
    options = replace(options, tta=result.options.tta, second_look=result.options.second_look)
    border = options.border or Border.of_model(result.spec)
    threshold = options.threshold or border.threshold or result.spec.threshold
    clean_up, always, presence = options.clean_up, options.always_outline, result.provenance["presence"]
    found = decide_mask(result.probability, result.spec, threshold, clean_up, always, border=border, presence=presence)
    return _result(result.photo, result.spec, result.probability, found, options, result.provenance)


@cache
def prepare_first_mask() -> None:
    """Load what the first photo and its mask need, seconds of work, so that the window does not wait for it later."""
    prepare_first_layer()
    lesion = np.zeros((32, 32), bool)
    lesion[8:24, 8:24] = True
    measure(np.full((32, 32, 3), (225, 180, 165), np.uint8), lesion, None)


class ResultStore:
    """The last result of each photo; drops the oldest when the probabilities take more than half a gigabyte."""

    _LIMIT = 2**29

    def __init__(self) -> None:
        self._results: OrderedDict[str, Result] = OrderedDict()

    def put(self, result: Result) -> None:
        """Store `result` in place of an earlier one of the same photo."""
        results = self._results
        results[result.photo.key] = result
        results.move_to_end(result.photo.key)
        while len(results) > 1 and sum(stored.probability.nbytes for stored in results.values()) > self._LIMIT:
            results.popitem(last=False)

    def get(self, photo: LayerPhoto | None) -> Result | None:
        """Return the result of `photo`; None if there is none."""
        return None if photo is None else self._results.get(photo.key)

    def remove_layer(self, layer: object) -> None:
        """Remove the results of the photos in a layer that was removed from the viewer."""
        for key in [key for key, stored in self._results.items() if stored.photo.layer is layer]:
            del self._results[key]


def _segment(photo: LayerPhoto, options: SegmentOptions, segmenter: Segmenter) -> Result:
    found = segmenter.segment(photo.read(), options, name=photo.name)
    provenance = {
        "photo": photo.name,
        "model": found.model,
        "weights_sha256": segmenter.sha256,
        "computed_by": dict(segmenter.engine),
        "tta": options.tta,
        "second_look": options.second_look,
        "napari_skinseg": version("napari-skinseg"),
        **({"guarded": True} if found.guarded else {}),
    }
    options = replace(options, threshold=found.threshold)
    shown = MaskDecision(found.mask, found.confidence, found.withheld, found.presence)
    return _result(photo, segmenter.spec, found.probability, shown, options, provenance)


def _result(
    photo: LayerPhoto,
    spec: ModelSpec,
    probability: NDArray[np.float32],
    found: MaskDecision,
    options: SegmentOptions,
    provenance: dict[str, Any],
) -> Result:
    provenance = {
        **provenance,
        "threshold": options.threshold,
        "clean_up": asdict(options.clean_up),
        "border": None if options.border is None else asdict(options.border),
        "always_outline": options.always_outline,
        "confidence": round(found.confidence, 4),
        "withheld": found.withheld,
        "presence": found.presence,
    }
    return Result(photo, spec, probability, found.mask, found.withheld, options, provenance)
