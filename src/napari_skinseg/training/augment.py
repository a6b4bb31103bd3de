"""Data augmentation: random views of a photo, artefacts and colours.

Each transform works like those of MONAI (dictionary in, dictionary out, seeded with `set_random_state`), so that
MONAI's `Compose`, `Dataset` and `DataLoader` can use it. `RandomView` makes all geometric changes in one resampling,
because MONAI's `RandAffined` takes five times as long on a CPU: on two cores, augmentation must not take longer than
the network.
"""

import io
from typing import Any, Literal

import numpy as np
import torch
from monai.transforms import Compose, RandomizableTransform, Transform
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.ndimage import binary_dilation
from torch.nn import functional

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.phantoms.artefacts import ARTEFACTS, add_artefact
from napari_skinseg.pixels.image import read_image
from napari_skinseg.pixels.mask import read_mask, resize_mask
from napari_skinseg.segmentation.preprocess import resize_to_input

Sample = dict[str, Any]
"""{"image": uint8 `[H, W, 3]`, "mask": bool `[H, W]`}; the result of `ToTensors` holds tensors instead."""

MARGIN = 1.25
"""Photos are kept this many times larger than the network's input, so that an enlarged view still shows detail."""

MELANIN = np.array([0.45, 0.75, 0.95])
"""How much melanin absorbs of red, green and blue, as exponents of e: turns the light skin of HAM10000 brown. Melanin
absorbs more at shorter wavelengths (Jacques 1998); here about twice as much of blue as of red."""


def training_transform(size: tuple[int, int], artefacts: float, plain: float = 0.0, mild: float = 0.5) -> Compose:
    """The transform from a result of `Read` to a random training sample.

    Args:
        size: (height, width) of the network's input.
        artefacts: probability that artefacts are added to a photo, in [0, 1].
        plain: probability that only skin beside the lesion is shown, in [0, 1].
        mild: probability of a mild change of the view, in [0, 1]; see `RandomView`.

    Returns:
        A transform with the result {"image": uint8 tensor `[3, h, w]`, "mask": uint8 tensor `[1, h, w]`}.
    """
    return Compose(
        [RandomPlainSkin(plain), RandomView(size, mild), RandomArtefacts(artefacts), RandomColour(), ToTensors()]
    )


class Read(Transform):
    """Read photo and mask of a case and resize both to `MARGIN` times the network's input, as segmentation does."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = (round(size[0] * MARGIN), round(size[1] * MARGIN))

    def __call__(self, case: Case) -> Sample:
        image = read_image(case.image)
        mask = read_mask(case.mask, image.shape[:2]) if case.mask else np.zeros(image.shape[:2], dtype=bool)
        return {"image": resize_to_input(image, self.size), "mask": resize_mask(mask, self.size)}


class RandomPlainSkin(RandomizableTransform):
    """Show a part of the photo without lesion, so that "no lesion" is learned.

    The part fills the frame: mirrored again and again if `fill` is "mirror", resized if it is "enlarge". The photo
    stays unchanged if 20 random rectangles, with sides from 0.2 to 0.5 of the frame's, all touch the lesion.
    """

    def __init__(self, probability: float, fill: Literal["mirror", "enlarge"] = "mirror") -> None:
        super().__init__(prob=probability)
        self.fill = fill

    def __call__(self, sample: Sample) -> Sample:
        self.randomize(None)
        if not self._do_transform:
            return sample
        image, mask = sample["image"], sample["mask"]
        height, width = mask.shape
        # Skin close to a lesion is often discoloured, so the rectangle must keep a distance from it.
        near = binary_dilation(mask, iterations=max(2, height // 24))
        for _ in range(20):
            rows, columns = (int(side * self.R.uniform(0.2, 0.5)) for side in (height, width))
            top, left = self.R.randint(height - rows), self.R.randint(width - columns)
            place = np.s_[top : top + rows, left : left + columns]
            if not near[place].any():
                if self.fill == "mirror":
                    filler = ((0, height - rows), (0, width - columns), (0, 0))
                    skin = np.pad(image[place], filler, mode="symmetric")
                else:
                    skin = np.asarray(Image.fromarray(image[place]).resize((width, height), Image.Resampling.BICUBIC))
                return {"image": skin, "mask": np.zeros_like(mask)}
        return sample


class RandomView(RandomizableTransform):
    """Rotate, mirror, shift, shear and scale the photo by random amounts, in one resampling.

    A share `mild` of the views is close to real photos: quarter turns and a scale near 1. The other views have any
    rotation, and a scale from half to twice. Outside the frame the photo is mirrored.
    """

    def __init__(self, size: tuple[int, int], mild: float = 0.5) -> None:
        super().__init__(prob=1.0)
        self.size, self.mild = size, mild

    def __call__(self, sample: Sample) -> Sample:
        self.randomize(None)
        height, width = sample["image"].shape[:2]
        stack = np.concatenate([sample["image"], sample["mask"][..., None] * np.uint8(255)], axis=-1)
        pixels = torch.from_numpy(stack).permute(2, 0, 1)[None].float()
        matrix = torch.from_numpy(self._matrix(width / height)[None])
        grid = functional.affine_grid(matrix, [1, 4, *self.size], align_corners=False)
        view = functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        turned = view[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()
        return {"image": np.ascontiguousarray(turned[..., :3]), "mask": turned[..., 3] >= 128}

    def _matrix(self, aspect: float) -> NDArray[np.float32]:
        """A random matrix `[2, 3]` from output to input coordinates, both in [-1, 1] (`functional.affine_grid`).

        Args:
            aspect: width divided by height of the photo.
        """
        random = self.R
        mild = random.uniform() < self.mild
        angle = random.randint(4) * np.pi / 2 + (random.uniform(-0.2, 0.2) if mild else random.uniform(-np.pi, np.pi))
        zoom = np.exp(random.uniform(-0.1, 0.1) if mild else random.uniform(np.log(0.5), np.log(2.0)))
        stretch = np.exp(random.uniform(-0.1, 0.1) if mild else random.uniform(-0.25, 0.25))
        shear = 0 if mild else random.uniform(-0.1, 0.1)
        shift = random.uniform(-0.08, 0.08, 2) if mild else random.uniform(-0.3, 0.3, 2)
        mirror = random.choice([-1, 1])
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        deform = np.array([[stretch * mirror, shear], [0, 1 / stretch]]) * zoom
        # The frame is wider than high: rotation and shear are applied in square coordinates, so that they do not
        # distort.
        to_square, from_square = np.diag([aspect, 1.0]), np.diag([1 / aspect, 1.0])
        turn = from_square @ rotation @ deform @ to_square
        return np.concatenate([turn, shift[:, None]], axis=1).astype(np.float32)


class RandomArtefacts(RandomizableTransform):
    """Add up to three of `phantoms.artefacts` to the photo."""

    def __init__(self, probability: float) -> None:
        super().__init__(prob=probability)

    def __call__(self, sample: Sample) -> Sample:
        self.randomize(None)
        if not self._do_transform:
            return sample
        image, mask = sample["image"], sample["mask"]
        random = np.random.default_rng(self.R.randint(2**31))
        # A dark field of view causes most errors of networks, so it is added as often as all others together.
        others = [name for name in ARTEFACTS if name != "dark_field"]
        names = list(random.choice(others, size=random.integers(0, 3), replace=False))
        if not names or random.random() < 0.5:
            names.append("dark_field")
        for name in names:
            image, mask = add_artefact(str(name), image, mask, random)
        return {"image": image, "mask": mask}


class RandomColour(RandomizableTransform):
    """Change the tone of the skin (very light to brown), exposure, white balance, gamma, contrast, saturation, noise,
    blur and JPEG quality by random amounts.
    """

    def __init__(self) -> None:
        super().__init__(prob=1.0)

    def __call__(self, sample: Sample) -> Sample:
        self.randomize(None)
        random = self.R
        image = sample["image"]
        # Exposure, white balance and gamma change each channel separately: one table of 256 values per channel.
        levels = np.linspace(0, 1, 256)[:, None] ** np.exp(random.normal(0, 0.2))
        gains = np.exp(random.normal(0, 0.1) + random.normal(0, 0.08, 3))
        if random.uniform() < 0.25:
            gains = gains * np.exp(-random.uniform(-0.2, 1.0) * MELANIN)
        contrast, offset = np.exp(random.normal(0, 0.12)), random.normal(0, 0.04)
        table = ((levels * gains - 0.5) * contrast + 0.5 + offset).clip(0, 1).astype(np.float32)
        colour = np.stack([table[:, channel][image[..., channel]] for channel in range(3)], axis=-1)
        gray = colour.mean(axis=-1, keepdims=True)
        colour = gray + (colour - gray) * np.float32(random.uniform(0.5, 1.5) if random.uniform() < 0.95 else 0)
        if random.uniform() < 0.2:
            colour = colour + np.random.default_rng(random.randint(2**31)).normal(
                0, random.uniform(0.005, 0.04), colour.shape
            ).astype(np.float32)
        image = (colour.clip(0, 1) * 255 + 0.5).astype(np.uint8)
        if random.uniform() < 0.25:
            blur = ImageFilter.GaussianBlur(random.uniform(0.3, 1.6) * len(image) / 192)
            image = np.asarray(Image.fromarray(image).filter(blur))
        if random.uniform() < 0.15:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "JPEG", quality=int(random.randint(25, 85)))
            image = np.asarray(Image.open(buffer))
        return {**sample, "image": image}


class ToTensors(Transform):
    """Convert to uint8 tensors, channels first; float32 tensors would be four times as large."""

    def __call__(self, sample: Sample) -> dict[str, torch.Tensor]:
        image = torch.from_numpy(np.ascontiguousarray(sample["image"].transpose(2, 0, 1)))
        return {"image": image, "mask": torch.from_numpy(sample["mask"][None].astype(np.uint8))}
