"""Image in, lesion out: the one path from pixels to a mask, used by every face and every other verb.

To RGB, shrink to the model's input, normalise, U-Net, a second and closer look where the lesion is small, probability
at the image's own size, threshold, clean up. With clicks the same network corrects a mask (`Segmenter.refine`).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_skinseg.device import Runner, choose_device
from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, NeverCancelled, raise_if_cancelled
from napari_skinseg.models.bundle import Model, ModelSpec
from napari_skinseg.models.click_channels import Click, encode_clicks
from napari_skinseg.models.store import load_model
from napari_skinseg.pixels.cleaning import CleanUp, binarise, clean_mask, keep_pieces
from napari_skinseg.pixels.image import to_rgb
from napari_skinseg.pixels.mask import Window, bounding_box

from .confidence import confidence_of, decide_mask
from .preprocess import window_around

if TYPE_CHECKING:
    import torch
from napari_skinseg.segmentation.options import Segmentation, SegmentOptions
from napari_skinseg.segmentation.preprocess import (
    enlarge,
    fading_weights,
    network_input,
    normalise,
    resize_to_input,
    whole_window,
)

SECOND_LOOK = 0.5
"""A lesion narrower than this share of the frame is looked at again, in a window of which it takes as much."""
SHARPER = 2
"""So many times the pixels of the network's input must a photo have, else a second look shows nothing new."""
REFINE_SHARE = 0.8
"""Share of the window's sides that mask and clicks take while a mask is refined."""


class Segmenter:
    """A model on a device, ready to segment any number of images.

    Args:
        model: name of a stored model, folder of a bundle, a loaded `Model`, or None for the default model.
        device: "auto", "cuda", "mps" or "cpu".
        on_message: told, in a sentence, when a run had to step down (GPU out of memory).

    Raises:
        BadInput: there is no such model or device.
    """

    def __init__(
        self,
        model: str | Path | Model | None = None,
        device: str = "auto",
        on_message: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.model = model if isinstance(model, Model) else load_model(model)
        self._runner = Runner(self.model.network, choose_device(device), on_message)

    @property
    def spec(self) -> ModelSpec:
        """What the model is."""
        return self.model.spec

    @property
    def device_line(self) -> str:
        """The device in words, and why it was chosen."""
        return self._runner.choice.reason

    def segment(
        self, image: NDArray[Any], options: SegmentOptions | None = None, *, name: str = "image"
    ) -> Segmentation:
        """Segment one image.

        Args:
            image: anything `pixels.image.to_rgb` takes, usually uint8 `[H, W, 3]`.
            options: see `SegmentOptions`.
            name: what error sentences call the image.

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
        """Segment images in batches, one `Segmentation` each, in their order; same results as `segment`.

        Raises:
            BadInput: an image or an option cannot be used.
            Cancelled: `cancel` was set; it is looked at before each batch.
        """
        batch: list[NDArray[np.uint8]] = []
        for image in images:
            batch.append(to_rgb(image))
            if len(batch) == batch_size:
                raise_if_cancelled(cancel or NeverCancelled())
                yield from self._segment_batch(batch, options or SegmentOptions())
                batch = []
        if batch:
            raise_if_cancelled(cancel or NeverCancelled())
            yield from self._segment_batch(batch, options or SegmentOptions())

    def refine(
        self,
        image: NDArray[Any],
        clicks: Sequence[Click],
        previous: NDArray[np.bool_] | None = None,
        options: SegmentOptions | None = None,
        *,
        name: str = "image",
    ) -> Segmentation:
        """Correct a mask by clicks; see `Refiner.refine`. For several rounds on one image `refiner` is quicker."""
        return self.refiner(image, name=name).refine(clicks, previous, options)

    def refiner(self, image: NDArray[Any], *, name: str = "image") -> "Refiner":
        """Get ready to correct masks of one image by clicks.

        Args:
            image: anything `pixels.image.to_rgb` takes.
            name: what error sentences call the image.

        Raises:
            BadInput: the image cannot be used.
        """
        return Refiner(self, to_rgb(image, name=name), name)

    def close(self) -> None:
        """Give the device's memory back; the segmenter can still be used and takes it again."""
        self._runner.close()

    def _segment_batch(self, images: list[NDArray[np.uint8]], options: SegmentOptions) -> Iterator[Segmentation]:
        options.validate()
        threshold = self.spec.threshold if options.threshold is None else options.threshold
        start = time.perf_counter()
        batch = np.stack([network_input(image, self.spec) for image in images])
        prepared = time.perf_counter()
        looks = [
            [(whole_window(image), answer)] for image, answer in zip(images, self._run(batch, options.tta), strict=True)
        ]
        if options.second_look:
            self._look_again(images, looks, options.tta)
        per_image = {
            "prepare": (prepared - start) / len(images),
            "network": (time.perf_counter() - prepared) / len(images),
        }
        for image, seen in zip(images, looks, strict=True):
            start = time.perf_counter()
            answer = self._answer(image, seen, threshold, options)
            timings = {**per_image, "finish": time.perf_counter() - start}
            yield replace(answer, timings=timings)

    def _look_again(
        self, images: list[NDArray[np.uint8]], looks: "list[list[tuple[Window, torch.Tensor]]]", tta: bool
    ) -> None:
        """Add a second look to those of `looks` whose lesion is small.

        What is small is decided by the model's own threshold, so that the probability is the same for all thresholds.
        """
        small: list[tuple[int, Window]] = []
        for number, (image, ((_, answer),)) in enumerate(zip(images, looks, strict=True)):
            shape = (image.shape[0], image.shape[1])
            found = np.argwhere(binarise(answer.numpy(), self.spec.threshold))
            if len(found) and answer.numel() * SHARPER <= shape[0] * shape[1]:
                window = window_around(found * np.array(shape) / np.array(answer.shape), shape, SECOND_LOOK)
                if window != whole_window(image):
                    small.append((number, window))
        if small:
            batch = np.stack([network_input(images[number][window], self.spec) for number, window in small])
            for (number, window), answer in zip(small, self._run(batch, tta), strict=True):
                looks[number].append((window, answer))

    def _answer(
        self,
        image: NDArray[np.uint8],
        looks: "list[tuple[Window, torch.Tensor]]",
        threshold: float,
        options: SegmentOptions,
    ) -> Segmentation:
        """From what the network said about the whole image, and maybe about a window of it, to a mask."""
        (_, first), *others = looks
        probability = enlarge(first, image.shape[:2])
        for window, answer in others:
            part = probability[window]
            # The window's border is where the second look knows less than the first, which saw what is outside.
            weight = fading_weights(part.shape)
            part += weight * (enlarge(answer, part.shape) - part)
        small = None if others else first.numpy()
        found = decide_mask(probability, self.spec, threshold, options.clean_up, options.always_outline, small)
        return Segmentation(probability, *found, threshold, self.spec.name, {})

    def _run(self, batch: NDArray[np.float32], tta: bool = False) -> "torch.Tensor":
        """Probability float32 [N, h, w] for the network's input [N, 6, h, w]."""
        import torch

        inputs = torch.from_numpy(batch)
        if not tta:
            return self._runner(inputs).sigmoid()[:, 0]
        # Left and right are enough: turned upside down as well, no more photos of val came out better.
        straight, mirrored = self._runner(torch.cat([inputs, inputs.flip(3)])).sigmoid().chunk(2)
        return (straight + mirrored.flip(3))[:, 0] / 2


class Refiner:
    """One image, ready to have its mask corrected by clicks, any number of times; made by `Segmenter.refiner`."""

    def __init__(self, segmenter: Segmenter, rgb: NDArray[np.uint8], name: str) -> None:
        self._segmenter, self._rgb, self._name = segmenter, rgb, name
        self._shape = (rgb.shape[0], rgb.shape[1])
        self._shrunk: tuple[Window, NDArray[np.uint8]] | None = None

    def refine(
        self,
        clicks: Sequence[Click],
        previous: NDArray[np.bool_] | None = None,
        options: SegmentOptions | None = None,
    ) -> Segmentation:
        """Let clicks correct a mask.

        The network looks at a window around mask and clicks. What it says is obeyed but at the clicks themselves, whose
        own small discs are in the mask or out of it as the person said; a later click overrules an earlier one.

        Args:
            clicks: all clicks so far on this image, oldest first; at least one.
            previous: bool `[H, W]`, the mask so far, whoever drew it; None for none.
            options: see `SegmentOptions`; only `threshold` and `clean_up` have a say: who clicks sees a lesion.

        Raises:
            BadInput: there is no click, or the mask has another size than the image.
        """
        start = time.perf_counter()
        options = options or SegmentOptions()
        options.validate()
        if not clicks:
            raise BadInput(f"There is no click on {self._name} to refine its mask by; click where the mask is wrong.")
        if previous is not None and previous.shape != self._shape:
            raise BadInput(
                f"The mask to refine is {previous.shape[1]} x {previous.shape[0]} pixels, but {self._name} "
                f"{self._shape[1]} x {self._shape[0]}; give the mask of this image."
            )
        before = np.zeros(self._shape, dtype=bool) if previous is None else previous
        window = self._window(clicks, before)
        spec = self._segmenter.spec
        batch = self._input(clicks, before, window, spec)[None]
        prepared = time.perf_counter()
        answer = self._segmenter._run(batch)[0]
        answered = time.perf_counter()
        probability = np.zeros(self._shape, np.float32)  # the window holds all of the mask
        probability[window] = enlarge(answer, probability[window].shape)
        threshold = spec.threshold if options.threshold is None else options.threshold
        mask = self._obeyed(probability, threshold, clicks, options.clean_up)
        confidence = confidence_of(answer.numpy(), threshold, options.clean_up, spec.confidence)
        timings = {
            "prepare": prepared - start,
            "network": answered - prepared,
            "finish": time.perf_counter() - answered,
        }
        return Segmentation(probability, mask, confidence, False, threshold, spec.name, timings)

    def _window(self, clicks: Sequence[Click], before: NDArray[np.bool_]) -> Window:
        box = bounding_box(before)
        if box is None:
            return whole_window(self._rgb)
        corners = [(box[0].start, box[1].start), (box[0].stop - 1, box[1].stop - 1)]
        places = [(min(max(c.row, 0), self._shape[0] - 1), min(max(c.column, 0), self._shape[1] - 1)) for c in clicks]
        return window_around(np.array([*corners, *places]), self._shape, REFINE_SHARE)

    def _input(
        self, clicks: Sequence[Click], before: NDArray[np.bool_], window: Window, spec: ModelSpec
    ) -> NDArray[np.float32]:
        if self._shrunk is None or self._shrunk[0] != window:
            self._shrunk = window, resize_to_input(self._rgb[window], spec.input_size)
        part = Image.fromarray(before[window].astype(np.uint8) * 255)
        small = np.asarray(part.resize(spec.input_size[::-1], Image.Resampling.BOX)) >= 128
        inside = [replace(c, row=c.row - window[0].start, column=c.column - window[1].start) for c in clicks]
        channels = encode_clicks(spec.input_size, before[window].shape, inside, small.astype(np.float32))
        return np.concatenate([normalise(self._shrunk[1], spec), channels])

    def _obeyed(
        self, probability: NDArray[np.float32], threshold: float, clicks: Sequence[Click], clean_up: CleanUp
    ) -> NDArray[np.bool_]:
        """The mask, with every click obeyed; pieces that a person clicked are kept however small."""
        obeyed = _clicked(probability >= threshold, clicks)
        mask = clean_mask(obeyed, replace(clean_up, keep="all"))
        if clean_up.keep == "largest":
            mask = keep_pieces(mask, [(click.row, click.column) for click in clicks if click.include])
        return _clicked(mask, clicks)


def _clicked(mask: NDArray[np.bool_], clicks: Sequence[Click]) -> NDArray[np.bool_]:
    """A copy of the mask in which each click's own disc, a hundredth of the frame wide, is as the click says."""
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
