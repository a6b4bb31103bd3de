"""Segment images, and correct masks by clicks; the plugin, the command line and all actions use this module.

Steps: convert to RGB, resize to the input size of the model, normalise, run the network, run it again on a closer crop
if the lesion is small, resize the probability to the size of the image, threshold, clean up. The same network corrects
a mask by clicks (`Segmenter.refine`).
"""

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_skinseg.device import check_choice
from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, NeverCancelled, raise_if_cancelled
from napari_skinseg.models.bundle import Model, ModelSpec, load, read_spec
from napari_skinseg.models.click_channels import Click, encode_clicks
from napari_skinseg.models.store import default_name, find
from napari_skinseg.pixels.cleaning import CleanUp, binarise, clean_mask, keep_pieces
from napari_skinseg.pixels.image import to_rgb
from napari_skinseg.pixels.mask import Window, bounding_box, resize_mask
from napari_skinseg.pixels.metrics import jaccard
from napari_skinseg.read_ahead import in_batches

from .border import Border, change_border
from .box import Box
from .confidence import confidence_of, decide_mask
from .engine import open_engine
from .options import Segmentation, SegmentOptions
from .preprocess import (
    enlarge,
    fading_weights,
    network_input,
    normalise,
    resize_to_input,
    whole_window,
    window_around,
)

SMALL_LESION_SHARE = 0.5
"""A lesion that takes less than this share of the sides is segmented again in a window where it takes this share."""
CROP_WEIGHT = 0.35
"""Weight of the result of the window; the rest is that of the whole photo, which shows more skin."""
MIN_PIXEL_RATIO = 2
"""A photo with fewer pixels than the input of the network times this ratio shows no more detail in a closer crop."""
GROSS_DISAGREEMENT = 0.5
"""With a Jaccard below this, a fine-tuned model and its base do not outline the same thing."""
REFINE_SHARE = 0.8
"""Share of the sides of the window that mask and clicks take when a mask is refined."""
BOX_SHARE = 0.65
"""The same share for a box that the user dragged; the skin around the lesion helps."""


class Answer(NamedTuple):
    """The answer of the network for a window of an image.

    Attributes:
        window: the window.
        probability: float32 `[h, w]`, the probability of each pixel to be lesion.
        presence: the probability that the window shows a lesion; None for a model without a presence head.
    """

    window: Window
    probability: NDArray[np.float32]
    presence: float | None


class Segmenter:
    """Segments images with one model on one device.

    Args:
        model: name of a stored model, path of a bundle folder, a loaded `Model`, or None for the default model.
        device: "auto", "cuda", "mps" or "cpu".
        on_message: called with a sentence when memory runs out and the batch size or the device changes, and when the
            ONNX file of the model cannot be used.
        precision: "auto", "float32" or "bfloat16"; "auto" is float32 on a CPU, and the fastest format that gives
            correct numbers on a GPU.

    Attributes:
        spec: description of the model.
        sha256: hash of the weights of the model.

    Raises:
        BadInput: the model, the device or the precision does not exist or cannot be used.
    """

    def __init__(
        self,
        model: str | Path | Model | None = None,
        device: str = "auto",
        on_message: Callable[[str], None] = lambda message: None,
        precision: str = "auto",
    ) -> None:
        check_choice(device, precision)
        self._source: Model | Path = (
            model if isinstance(model, Model) else find(default_name() if model is None else model).folder
        )
        self.spec: ModelSpec = self._source.spec if isinstance(self._source, Model) else read_spec(self._source)
        self._engine, self.sha256 = open_engine(self._source, device, precision, on_message)
        self._base: Segmenter | None = None
        if self.spec.guarded:
            self._base = copy.copy(self)
            self._base.spec = replace(self.spec, border=None, guarded=False)
            self._base._engine, _ = open_engine(self._source, device, precision, on_message, base=True)

    @property
    def model(self) -> Model:
        """The model with its network in torch; the segmenter itself may use ONNX Runtime."""
        return self._source if isinstance(self._source, Model) else load(self._source)

    @property
    def device_line(self) -> str:
        """The device, the program that runs the network, its precision and the reason for the choice, in words."""
        return self._engine.in_words

    @property
    def engine(self) -> Mapping[str, str]:
        """The values for records: "engine", "engine_version", "device" and "precision"."""
        return self._engine.facts

    def segment(
        self, image: NDArray[Any], options: SegmentOptions | None = None, *, name: str = "image"
    ) -> Segmentation:
        """Segment one image.

        A model that was fine-tuned and is guarded (`ModelSpec.guarded`) is compared with its base on each image. Where
        the two masks disagree grossly and the base is more confident, the result is that of the base.

        Args:
            image: an array that `pixels.image.to_rgb` accepts, usually uint8 `[H, W, 3]`.
            options: see `SegmentOptions`.
            name: name of the image in error messages.

        Raises:
            BadInput: the image or an option cannot be used.
        """
        return next(self._segment_batch([to_rgb(image, name=name)], options or SegmentOptions()))

    def segment_many(
        self,
        images: Iterable[NDArray[Any]],
        options: SegmentOptions | None = None,
        *,
        batch_size: int = 8,
        cancel: CancelToken | None = None,
    ) -> Iterator[Segmentation]:
        """Segment images in batches; yield one `Segmentation` per image, in order, equal to that of `segment`.

        Raises:
            BadInput: an image or an option cannot be used.
            Cancelled: `cancel` was set; it is checked before each batch.
        """
        for batch in in_batches(map(to_rgb, images), batch_size):
            raise_if_cancelled(cancel or NeverCancelled())
            yield from self._segment_batch(batch, options or SegmentOptions())

    def refine(
        self,
        image: NDArray[Any],
        clicks: Sequence[Click],
        previous: NDArray[np.bool_] | None = None,
        options: SegmentOptions | None = None,
        *,
        box: Box | None = None,
        name: str = "image",
    ) -> Segmentation:
        """Correct a mask by clicks or a box; see `Refiner.refine`. `refiner` is faster for several calls."""
        return self.refiner(image, name=name).refine(clicks, previous, options, box)

    def refiner(self, image: NDArray[Any], *, name: str = "image") -> "Refiner":
        """Return an object that corrects masks of one image by clicks.

        Args:
            image: an array that `pixels.image.to_rgb` accepts.
            name: name of the image in error messages.

        Raises:
            BadInput: the image cannot be used.
        """
        return Refiner(self, to_rgb(image, name=name), name)

    def close(self) -> None:
        """Free the memory of the device; the segmenter can still be used and allocates memory again."""
        self._engine.close()
        if self._base is not None:
            self._base.close()

    def _segment_batch(self, images: list[NDArray[np.uint8]], options: SegmentOptions) -> Iterator[Segmentation]:
        options.validate()
        border, threshold = self._style(options)
        start = time.perf_counter()
        batch = np.stack([network_input(image, self.spec) for image in images])
        prepared = time.perf_counter()
        windows = [whole_window(image) for image in images]
        answers = [[answer] for answer in self._run(windows, batch, options.tta)]
        if options.second_look:
            self._segment_small_lesions_again(images, answers, options.tta)
        per_image = {
            "prepare": (prepared - start) / len(images),
            "network": (time.perf_counter() - prepared) / len(images),
        }
        results = []
        for image, of_image in zip(images, answers, strict=True):
            start = time.perf_counter()
            result = self._combine(image, of_image, threshold, border, options)
            results.append(replace(result, timings={**per_image, "finish": time.perf_counter() - start}))
        if self._base is None:
            yield from results
            return
        for result, base in zip(results, self._base._segment_batch(images, options), strict=True):
            yield choose_guarded(result, base)

    def _segment_small_lesions_again(
        self, images: list[NDArray[np.uint8]], answers: list[list[Answer]], tta: bool
    ) -> None:
        """Run the network on a closer crop of images with a small lesion, and append the result to `answers`.

        The threshold of the model decides what is small, so that the probability is the same for every threshold of the
        user.
        """
        small: list[tuple[int, Window]] = []
        for number, (image, (first,)) in enumerate(zip(images, answers, strict=True)):
            shape, answer = (image.shape[0], image.shape[1]), first.probability
            lesion = np.argwhere(binarise(answer, self.spec.threshold))
            if len(lesion) and answer.size * MIN_PIXEL_RATIO <= shape[0] * shape[1]:
                window = window_around(lesion * np.array(shape) / np.array(answer.shape), shape, SMALL_LESION_SHARE)
                if window != whole_window(image):
                    small.append((number, window))
        if small:
            batch = np.stack([network_input(images[number][window], self.spec) for number, window in small])
            closer = self._run([window for _, window in small], batch, tta)
            for (number, _), again in zip(small, closer, strict=True):
                answers[number].append(again)

    def _combine(
        self,
        image: NDArray[np.uint8],
        answers: list[Answer],
        threshold: float,
        border: Border,
        options: SegmentOptions,
    ) -> Segmentation:
        """Make the mask from the probability of the whole image, and of the closer crop if there is one."""
        first, *crops = answers
        probability = enlarge(first.probability, image.shape[:2])
        for crop in crops:
            part = probability[crop.window]
            weight = CROP_WEIGHT * fading_weights(part.shape)
            part += weight * (enlarge(crop.probability, part.shape) - part)
        small = None if crops else first.probability
        # A lesion is present if it is seen in the whole photo or in the closer crop.
        presence = max((answer.presence for answer in answers if answer.presence is not None), default=None)
        clean_up, always = options.clean_up, options.always_outline
        decision = decide_mask(probability, self.spec, threshold, clean_up, always, small, border, presence)
        return Segmentation(probability, *decision, threshold, self.spec.name, {})

    def _style(self, options: SegmentOptions) -> tuple[Border, float]:
        """Return the border and the threshold: those of the options, else those of the model."""
        border = Border.of_model(self.spec) if options.border is None else options.border
        threshold = options.threshold or border.threshold or self.spec.threshold
        return border, threshold

    def _run(self, windows: Sequence[Window], batch: NDArray[np.float32], tta: bool = False) -> list[Answer]:
        """Return the answer for each window of an image; `batch` is the input `[N, 6, h, w]` of the network."""
        # One mirror image is enough: adding vertical mirror images did not improve more validation photos.
        outputs = self._engine(np.concatenate([batch, batch[..., ::-1]]) if tta else batch)
        probability, *presence = map(_sigmoid, outputs)
        if tta:
            straight, mirrored = np.split(probability, 2)
            probability = np.asarray((straight + mirrored[..., ::-1]) / 2, dtype=np.float32)
            presence = [one.reshape(2, -1).mean(axis=0) for one in presence]
        lesion = presence[0].tolist() if presence else [None] * len(windows)
        return list(map(Answer, windows, probability[:, 0], lesion))


def choose_guarded(result: Segmentation, base: Segmentation) -> Segmentation:
    """Return the result of a fine-tuned model, or that of its base.

    The result of the base is returned where the Jaccard of both masks is below `GROSS_DISAGREEMENT` and the base is
    more confident.
    """
    if jaccard(result.mask, base.mask) < GROSS_DISAGREEMENT and base.confidence > result.confidence:
        return replace(base, guarded=True)
    return result


class Refiner:
    """Corrects masks of one image by clicks; created by `Segmenter.refiner`."""

    def __init__(self, segmenter: Segmenter, rgb: NDArray[np.uint8], name: str) -> None:
        self._segmenter, self._rgb, self._name = segmenter, rgb, name
        self._shape = (rgb.shape[0], rgb.shape[1])
        self._resized: tuple[Window, NDArray[np.uint8]] | None = None

    def refine(
        self,
        clicks: Sequence[Click],
        previous: NDArray[np.bool_] | None = None,
        options: SegmentOptions | None = None,
        box: Box | None = None,
    ) -> Segmentation:
        """Correct a mask by clicks, or make a new one in a box.

        The network runs on a window around mask and clicks. A small disc around each click is then added to the mask or
        removed from it, as the user clicked; a later click overrides an earlier one.

        Args:
            clicks: all clicks on this image, in the order in which they were made; at least one, or a box.
            previous: the mask to correct, bool `[H, W]`, or None; a box replaces it.
            options: only `threshold`, `clean_up` and `border` are used. The mask is never withheld, because a user who
                clicks sees a lesion.
            box: the whole lesion is in this box. The network runs on a window around the box, and the mask is cut a
                little outside it.

        Raises:
            BadInput: there is neither click nor box, the box is too small or outside the image, or the mask and the
                image differ in size.
        """
        start = time.perf_counter()
        options = options or SegmentOptions()
        options.validate()
        if not clicks and box is None:
            raise BadInput(f"There is no click on {self._name}; click where the mask is wrong.")
        if previous is not None and previous.shape != self._shape:
            raise BadInput(
                f"The mask to refine is {previous.shape[1]} x {previous.shape[0]} pixels, but {self._name} "
                f"{self._shape[1]} x {self._shape[0]}; give the mask of this image."
            )
        before = np.zeros(self._shape, dtype=bool) if previous is None else previous
        prompts, share = list(clicks), REFINE_SHARE
        if box is not None:
            before, of_box = box.prompts(self._shape)
            prompts, share = [*of_box, *clicks], BOX_SHARE
        window = self._window(prompts, before, share)
        spec = self._segmenter.spec
        batch = self._input(prompts, before, window, spec)[None]
        prepared = time.perf_counter()
        answer = self._segmenter._run([window], batch)[0].probability
        answered = time.perf_counter()
        probability = np.zeros(self._shape, np.float32)  # the window contains the whole mask
        probability[window] = enlarge(answer, probability[window].shape)
        if box is not None:
            probability = box.cut(probability)
        border, threshold = self._segmenter._style(options)
        mask = self._mask_with_clicks(probability, threshold, clicks, options.clean_up, border)
        at = spec.threshold if threshold == border.threshold else threshold  # as in `decide_mask`
        confidence = confidence_of(answer, at, options.clean_up, spec.confidence)
        timings = {
            "prepare": prepared - start,
            "network": answered - prepared,
            "finish": time.perf_counter() - answered,
        }
        return Segmentation(probability, mask, confidence, False, 1.0, threshold, spec.name, timings)

    def _window(self, clicks: Sequence[Click], before: NDArray[np.bool_], share: float) -> Window:
        box = bounding_box(before)
        if box is None:
            return whole_window(self._rgb)
        corners = [(box[0].start, box[1].start), (box[0].stop - 1, box[1].stop - 1)]
        places = [(min(max(c.row, 0), self._shape[0] - 1), min(max(c.column, 0), self._shape[1] - 1)) for c in clicks]
        return window_around(np.array([*corners, *places]), self._shape, share)

    def _input(
        self, clicks: Sequence[Click], before: NDArray[np.bool_], window: Window, spec: ModelSpec
    ) -> NDArray[np.float32]:
        if self._resized is None or self._resized[0] != window:
            self._resized = window, resize_to_input(self._rgb[window], spec.input_size)
        small = resize_mask(before[window], spec.input_size)
        inside = [replace(c, row=c.row - window[0].start, column=c.column - window[1].start) for c in clicks]
        channels = encode_clicks(spec.input_size, before[window].shape, inside, small.astype(np.float32))
        return np.concatenate([normalise(self._resized[1], spec), channels])

    def _mask_with_clicks(
        self,
        probability: NDArray[np.float32],
        threshold: float,
        clicks: Sequence[Click],
        clean_up: CleanUp,
        border: Border,
    ) -> NDArray[np.bool_]:
        """Return the cleaned mask with the disc of every click; clicked pieces are kept, however small they are."""
        clicked = _apply_clicks(probability >= threshold, clicks)
        mask = clean_mask(clicked, replace(clean_up, keep="all"))
        if clean_up.keep == "largest":
            mask = keep_pieces(mask, [(click.row, click.column) for click in clicks if click.include])
        return _apply_clicks(change_border(mask, border), clicks)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # exp() of a large number is infinity, and 1 / infinity is 0
        return np.asarray(1 / (1 + np.exp(-logits)))


def _apply_clicks(mask: NDArray[np.bool_], clicks: Sequence[Click]) -> NDArray[np.bool_]:
    """Return a copy of the mask with a disc of 1/100 of the frame added or removed at each click."""
    result = mask.copy()
    height, width = mask.shape
    radius = max(1.0, max(height, width) / 200)
    for click in clicks:
        row, column = min(max(click.row, 0), height - 1), min(max(click.column, 0), width - 1)
        window = tuple(slice(max(0, int(at - radius)), int(at + radius) + 2) for at in (row, column))
        rows, columns = np.ogrid[window]
        near = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
        part = result[window]
        part[near[: part.shape[0], : part.shape[1]]] = click.include
    return result
