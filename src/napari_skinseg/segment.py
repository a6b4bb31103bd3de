"""Image in, lesion out: the one path from pixels to a mask, used by every face and every other verb.

To RGB, shrink to the model's input, normalise, U-Net, probability at the image's own size, threshold, clean up.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import BadInput
from .events import CancelToken, NeverCancelled, check
from .models.bundle import Model, ModelSpec
from .models.device import Runner, choose_device
from .models.guidance import guidance
from .models.store import load_model
from .pixels.image import to_rgb
from .pixels.mask import CleanUp, binarise

if TYPE_CHECKING:
    import torch

Verdict = Literal["good", "check", "poor", "empty"]


@dataclass(frozen=True)
class SegmentOptions:
    """How a mask is made from an image.

    Attributes:
        threshold: Probability from which a pixel is lesion, between 0 and 1; the model's own when not given.
        tta: Average over the four mirror images (test-time augmentation): a little more accurate, four times slower.
        clean_up: What is done to the mask after the threshold.
    """

    threshold: float | None = None
    tta: bool = False
    clean_up: CleanUp = field(default_factory=CleanUp)

    def validate(self) -> None:
        """Raise `BadInput` if a value is out of its range."""
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise BadInput(f"The threshold is {self.threshold}; it is a probability between 0 and 1, such as 0.5.")
        self.clean_up.validate()


@dataclass(frozen=True)
class Segmentation:
    """What the model found in one image of height H and width W.

    Attributes:
        probability: float32 `[H, W]` in [0, 1], at the image's own size.
        mask: bool `[H, W]`, lesion = True; `binarise(probability, threshold, clean_up)`.
        confidence: the Jaccard that the model expects this mask to have, in [0, 1].
        threshold: the one that was used.
        model: name of the model.
        timings: seconds spent to "prepare" the input, in the "network", and to "finish" the mask.
    """

    probability: NDArray[np.float32]
    mask: NDArray[np.bool_]
    confidence: float
    threshold: float
    model: str
    timings: dict[str, float]


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
                check(cancel or NeverCancelled())
                yield from self._segment_batch(batch, options or SegmentOptions())
                batch = []
        if batch:
            check(cancel or NeverCancelled())
            yield from self._segment_batch(batch, options or SegmentOptions())

    def close(self) -> None:
        """Give the device's memory back; the segmenter can still be used and takes it again."""
        self._runner.close()

    def _segment_batch(self, images: list[NDArray[np.uint8]], options: SegmentOptions) -> Iterator[Segmentation]:
        import torch

        options.validate()
        threshold = self.spec.threshold if options.threshold is None else options.threshold
        start = time.perf_counter()
        batch = torch.from_numpy(np.stack([network_input(image, self.spec) for image in images]))
        prepared = time.perf_counter()
        small = self._probability(batch, options.tta)
        per_image = {
            "prepare": (prepared - start) / len(images),
            "network": (time.perf_counter() - prepared) / len(images),
        }
        for image, answer in zip(images, small, strict=True):
            start = time.perf_counter()
            probability = enlarge(answer, image.shape[:2])
            mask = binarise(probability, threshold, options.clean_up)
            confidence = confidence_of(answer.numpy(), threshold, options.clean_up, self.spec.confidence)
            timings = {**per_image, "finish": time.perf_counter() - start}
            yield Segmentation(probability, mask, confidence, threshold, self.spec.name, timings)

    def _probability(self, batch: "torch.Tensor", tta: bool) -> "torch.Tensor":
        """float32 [N, h, w] for the network's input [N, 6, h, w]."""
        import torch

        if not tta:
            return self._runner(batch).sigmoid()[:, 0]
        mirrors: list[list[int]] = [[], [2], [3], [2, 3]]
        answers = self._runner(torch.cat([batch.flip(mirror) for mirror in mirrors])).sigmoid().chunk(4)
        turned_back = [answer.flip(mirror) for answer, mirror in zip(answers, mirrors, strict=True)]
        return torch.stack(turned_back).mean(dim=0)[:, 0]


def shrink(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize uint8 `[H, W, 3]` to `size` = (height, width) with an antialiasing triangle filter.

    `reducing_gap` lets Pillow average whole pixels first, which makes a 12-megapixel photo four times faster at no
    visible difference.
    """
    return np.asarray(Image.fromarray(rgb).resize(size[::-1], Image.Resampling.BILINEAR, reducing_gap=3.0))


def network_input(rgb: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.float32]:
    """float32 `[6, h, w]` for uint8 `[H, W, 3]`: shrunk, normalised, with guidance channels that say nothing."""
    small = shrink(rgb, spec.input_size).astype(np.float32) / 255
    normal = (small - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
    return np.concatenate([normal.transpose(2, 0, 1), guidance(spec.input_size, (rgb.shape[0], rgb.shape[1]))])


def enlarge(probability: "torch.Tensor", shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Resize float32 `[h, w]` to `shape` bilinearly: thresholding afterwards gives a border without steps."""
    from torch.nn import functional

    large = functional.interpolate(probability[None, None], size=shape, mode="bilinear", align_corners=False)
    return np.asarray(large[0, 0].numpy())


def expected_jaccard(probability: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """The Jaccard that `mask` would have if each pixel were lesion with its own `probability`.

    Ratio of expectations: sum of p inside, over the mask's area plus the sum of p outside. In (0, 1), never 0 or 1, so
    that its logit is finite; an empty mask scores as low as can be.
    """
    inside = float(probability[mask].sum())
    union = float(mask.sum()) + float(probability[~mask].sum())
    return float(np.clip(inside / max(union, 1e-6), 1e-4, 1 - 1e-4))


def confidence_of(
    probability: NDArray[np.float32], threshold: float, clean_up: CleanUp, calibration: tuple[float, float]
) -> float:
    """The calibrated expected Jaccard of a mask, from the probability at the network's size.

    `calibration` = (intercept, slope) act on the logit of `expected_jaccard`, fitted on validation photos by
    `train.calibrate`; (0, 1) leaves it as it is.
    """
    expected = expected_jaccard(probability, binarise(probability, threshold, clean_up))
    logit = calibration[0] + calibration[1] * np.log(expected / (1 - expected))
    return float(1 / (1 + np.exp(-logit)))


def confidence_in_words(
    confidence: float, mask: NDArray[np.bool_], highest: float | None = None
) -> tuple[str, Verdict]:
    """What to tell a person about a mask, and how loudly.

    Args:
        confidence: see `Segmentation.confidence`.
        mask: bool `[H, W]`.
        highest: largest probability in the image, told when the mask is empty.
    """
    if not mask.any():
        seen = "" if highest is None else f" (highest probability seen: {highest:.2f})"
        return f"No lesion found{seen}. Check the photo, or lower the threshold.", "empty"
    percent = f"{100 * confidence:.0f} %"
    if confidence >= 0.8:
        return f"Good: expected overlap {percent}.", "good"
    if confidence >= 0.65:
        return f"Check the border: expected overlap {percent}.", "check"
    return f"Likely wrong: expected overlap {percent}. Correct it by hand.", "poor"
