"""What the Segment tab has done in a worker, without any Qt: photos and options in, results out."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.errors import Cancelled
from napari_skinseg.events import CancelToken, Event, raise_if_cancelled
from napari_skinseg.measurement.measure import measure
from napari_skinseg.models.bundle import ModelSpec
from napari_skinseg.pixels.cleaning import CleanUp
from napari_skinseg.plugin.background import Report
from napari_skinseg.plugin.layers import LayerPhoto
from napari_skinseg.plugin.session import Segmenters
from napari_skinseg.segmentation.confidence import ConfidenceLevel, MaskDecision, decide_mask, describe_confidence
from napari_skinseg.segmentation.options import SegmentOptions
from napari_skinseg.segmentation.segmenter import Segmenter


@dataclass(frozen=True)
class Result:
    """The mask of one photo, and what is said about it.

    Attributes:
        image: the photo.
        spec: what the model is.
        probability: float32 `[H, W]`, kept so that another threshold needs no network.
        mask: bool `[H, W]`.
        withheld: the mask is empty although there is an outline, see `Segmentation.withheld`.
        options: how the mask was made; the threshold is always given.
        words: the confidence as a sentence.
        verdict: how loudly to say it.
        provenance: plain JSON types, with the keys that the command line records.
    """

    image: LayerPhoto
    spec: ModelSpec
    probability: NDArray[np.float32]
    mask: NDArray[np.bool_]
    withheld: bool
    options: SegmentOptions
    words: str
    verdict: ConfidenceLevel
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """The measurements of a result's mask; they come later, because nobody should wait for them to see the mask."""

    result: Result
    values: dict[str, float | int | bool | str | None]


@dataclass(frozen=True)
class Failure:
    """A photo that could not be segmented; the others go on."""

    image: LayerPhoto
    error: Exception


def segment_photos(
    images: Sequence[LayerPhoto],
    options: SegmentOptions,
    segmenters: Segmenters,
    model: str,
    device: str,
    report: Report,
    cancel: CancelToken,
) -> str:
    """Segment `images` one by one and return the device in words.

    Reports an `Event` before each photo, its `Result` or `Failure` as soon as it is there, and then its `Measured`.

    Raises:
        BadInput: the model or the device cannot be used.
        Cancelled: what was reported stands.
    """
    report(Event("load", message=f"Loading {model}…"))
    segmenter = segmenters.get(model, device)
    for done, image in enumerate(images):
        raise_if_cancelled(cancel)
        report(Event("segment", done, len(images), f"Segmenting {image.name}…"))
        try:
            rgb = image.read()
            result = _segment(image, rgb, options, segmenter)
            raise_if_cancelled(cancel)
            report(result)
            report(measured(result, rgb))
        except Cancelled:
            raise
        except Exception as error:
            report(Failure(image, error))
    return segmenter.device_line


def outline_again(result: Result, threshold: float, clean_up: CleanUp, always_outline: bool) -> Result:
    """The result that other options give, from the kept probability."""
    options = replace(result.options, threshold=threshold, clean_up=clean_up, always_outline=always_outline)
    found = decide_mask(result.probability, result.spec, threshold, clean_up, always_outline)
    return _result(result.image, result.spec, result.probability, found, options, result.provenance)


def measured(result: Result, rgb: NDArray[np.uint8] | None = None) -> Measured:
    """Measure a result's mask on its photo, which is read again unless it is given."""
    return Measured(result, measure(result.image.read() if rgb is None else rgb, result.mask, result.image.mm_per_px))


class Kept:
    """The last result of each photo, the oldest dropped once the probabilities take more than half a gigabyte."""

    _LIMIT = 2**29

    def __init__(self) -> None:
        self._results: OrderedDict[str, Result] = OrderedDict()
        self._measured: dict[str, Measured] = {}

    def put(self, result: Result) -> None:
        """Keep `result` instead of an earlier one of the same photo."""
        self._results[result.image.key] = result
        self._results.move_to_end(result.image.key)
        while len(self._results) > 1 and sum(kept.probability.nbytes for kept in self._results.values()) > self._LIMIT:
            self._forget(next(iter(self._results)))

    def put_measured(self, found: Measured) -> None:
        """Keep the measurements of a kept result."""
        self._measured[found.result.image.key] = found

    def get(self, image: LayerPhoto | None) -> Result | None:
        """The result of `image`, if it is kept."""
        return None if image is None else self._results.get(image.key)

    def get_measured(self, result: Result) -> Measured | None:
        """The measurements of exactly this result, if there are any yet."""
        found = self._measured.get(result.image.key)
        return found if found is not None and found.result is result else None

    def drop_layer(self, layer: object) -> None:
        """Forget the photos of a layer that was removed."""
        for key in [key for key, kept in self._results.items() if kept.image.layer is layer]:
            self._forget(key)

    def _forget(self, key: str) -> None:
        del self._results[key]
        self._measured.pop(key, None)


def _segment(image: LayerPhoto, rgb: NDArray[np.uint8], options: SegmentOptions, segmenter: Segmenter) -> Result:
    found = segmenter.segment(rgb, options, name=image.name)
    provenance = {
        "photo": image.name,
        "model": found.model,
        "weights_sha256": segmenter.model.sha256,
        "tta": options.tta,
        "second_look": options.second_look,
        "napari_skinseg": version("napari-skinseg"),
    }
    options = replace(options, threshold=found.threshold)
    drawn = MaskDecision(found.mask, found.confidence, found.withheld)
    return _result(image, segmenter.spec, found.probability, drawn, options, provenance)


def _result(
    image: LayerPhoto,
    spec: ModelSpec,
    probability: NDArray[np.float32],
    found: MaskDecision,
    options: SegmentOptions,
    provenance: dict[str, Any],
) -> Result:
    words, verdict = describe_confidence(found, spec.no_lesion)
    if not found.mask.any() and not found.withheld:
        highest = float(probability.max())
        words += f" The highest probability in it is {highest:.2f}, the threshold {options.threshold:.2f}."
    provenance = {
        **provenance,
        "threshold": options.threshold,
        "clean_up": asdict(options.clean_up),
        "always_outline": options.always_outline,
        "confidence": round(found.confidence, 4),
        "withheld": found.withheld,
    }
    return Result(image, spec, probability, found.mask, found.withheld, options, words, verdict, provenance)
