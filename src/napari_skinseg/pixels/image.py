"""The one gate: anything a person can open -> `uint8` RGB `[H, W, 3]`, or one sentence that says why not.

Only this module knows colour modes, bit depths, EXIF and alpha. Two choices hold everywhere in the package:

* Pixels keep their *stored* frame. An EXIF or TIFF orientation tag is deliberately not applied: napari does not apply
  it either, and a mask must lie on the photo as napari shows it.
* Nothing is guessed about what the picture is. An array or file that could be a stack of planes is refused.
"""

import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tifffile
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from napari_skinseg.errors import BadInput

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"})

MAX_PIXELS = 200_000_000
"""Largest photo taken, in pixels: no dermatoscope comes near it, and 0.6 GB as RGB still fits a small computer."""
MIN_SIDE = 32
"""Shortest side taken, in pixels: below it no lesion border can be seen."""
MAX_ASPECT = 8
"""Longest over shortest side: beyond it the file is a strip or a plot, and resizing would tear the lesion apart."""

# Pillow warns of "decompression bombs" from 89 megapixels on; real mosaics are larger. Our own limit stands instead.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

# By content, never by suffix; the list also keeps Pillow from trying formats that start programs (EPS).
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")  # a phone's MPO opens as JPEG
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BIT_DEPTHS = (8, 10, 12, 14, 16)
_ROUNDING = 1e-3  # how far resampling may push floats out of [0, 1]
_OURS = ("_segmentation", "_overlay", "_probability")

Result = TypeVar("Result")


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read a photo from a JPEG, PNG, TIFF, BMP or WebP file as writable `uint8` RGB `[H, W, 3]`.

    Gray, palette, 16-bit, alpha (composited over black, as napari shows it) and CMYK (through the colour profile in the
    file, where there is one) are converted; other colour profiles are not applied, as napari does not. The orientation
    tag is not applied either, see the module. Of a phone's MPO the photo is taken and the preview left.

    Raises:
        BadInput: the file is missing, empty, damaged, not a photo, a stack or animation, or refused by `to_rgb`.
    """
    return to_rgb(read_pixels(path), name=str(path))


def read_pixels(path: str | Path) -> NDArray[Any]:
    """Read an image file as it is stored: gray, gray and alpha, RGB or RGBA, in its own depth; for masks and `to_rgb`.

    Raises:
        BadInput: the file is missing, empty, damaged, not an image, a stack or animation, tiny, huge or a strip.
    """
    return _guarded(_decode, Path(path))


def read_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of an image file in pixels, from its header alone: a tenth of a millisecond.

    Raises:
        BadInput: as `read_pixels`, as far as the header tells.
    """
    return _guarded(_header_size, Path(path))


def check_readable(path: str | Path) -> tuple[int, int]:
    """(height, width) of a photo that `read_image` would read, found out four times as fast for JPEG files.

    Raises:
        BadInput: as `read_image`.
    """
    size, few = _guarded(_glance, Path(path))
    if few is None or _one_colour(few):
        return read_image(path).shape[:2]
    return size


def to_rgb(array: ArrayLike, *, name: str = "image") -> NDArray[np.uint8]:
    """Turn an array into `uint8` RGB `[H, W, 3]`, C-contiguous.

    Shapes: `[H, W]` and `[H, W, 1]` are gray, `[H, W, 2]` gray and alpha, `[H, W, 3]` RGB, `[H, W, 4]` RGB and alpha.
    Alpha is composited over black. Anything lazy with a shape (dask) is computed only once its shape is accepted.

    Values, by dtype:
        bool: black and white.
        uint8: as they are. A C-contiguous `uint8` RGB array is returned itself, **without a copy**: do not write to it.
        other integers: scaled by the camera's bit depth, taken as the smallest of 8, 10, 12, 14 and 16 bits that holds
            the highest value, because cameras store 12 bits in 16-bit files unscaled and would come out black.
        floats: in [0, 1] if none exceeds 1, in [0, 255] if the highest is between 16 and 255; else refused.

    Raises:
        BadInput: not a photo (stack, strip, tiny, huge, a single colour), or values as above that cannot be placed
            (negative, NaN, infinite, too high, not numbers). `name` starts the sentence.
    """
    _check_shape(np.shape(array), name)
    pixels = np.asarray(array)
    if pixels.ndim == 2:
        pixels = pixels[..., np.newaxis]
    if pixels.shape[2] in (2, 4):
        rgb = _over_black(_to_bytes(pixels[..., :-1], name), _to_bytes(pixels[..., -1:], name))
    else:
        rgb = _to_bytes(pixels, name)
    if rgb.shape[2] == 1:
        rgb = np.repeat(rgb, 3, axis=2)
    rgb = np.ascontiguousarray(rgb)
    if _one_colour(rgb):
        raise BadInput(f"{name} is a single colour throughout; give a photo that shows something.")
    return rgb


def find_images(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """The photos among `paths`: files as given, folders searched with all their subfolders; sorted, each once.

    Our own results (`*_segmentation`, `*_overlay`, `*_probability`) and hidden files are skipped, so that a folder can
    be run again. A file that was named is kept whatever its suffix: reading it tells what is wrong with it.

    Raises:
        BadInput: a path does not exist, or there is no photo at all.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    found: set[Path] = set()
    for path in map(Path, paths):
        if path.is_dir():
            found.update(file for file in _walk(path) if file.suffix.lower() in IMAGE_SUFFIXES)
        elif path.exists():
            found.add(path)
        else:
            raise BadInput(f"{path} does not exist; check the name.")
    photos = sorted(path for path in found if not path.stem.lower().endswith(_OURS))
    if not photos:
        where = ", ".join(map(str, paths)) or "the list of paths"
        raise BadInput(f"{where} holds no photo; give JPEG, PNG, TIFF, BMP or WebP files, or a folder of them.")
    return photos


def _walk(folder: Path) -> Iterable[Path]:
    for here, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        yield from (Path(here, name) for name in names if not name.startswith("."))


def _guarded(read: Callable[[Path], Result], path: Path) -> Result:
    """`read(path)`, with whatever goes wrong in one sentence."""
    try:
        return read(path)
    except (BadInput, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BadInput(f"{path} is not a photo that can be read; save it as JPEG, PNG, TIFF, BMP or WebP.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInput(_too_large(str(path))) from error
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise BadInput(f"{path} is damaged or cut short ({error}); copy or export it again.") from error


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be opened ({error.strerror or error}); check the name and its rights."
        ) from error
    if not head:
        raise BadInput(f"{path} is empty (zero bytes); copy it again from the camera.")
    return head


def _header_size(path: Path) -> tuple[int, int]:
    if _head(path).startswith(_TIFF_HEADS):
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            size = (page.imagelength, page.imagewidth)
    else:
        with Image.open(path, formats=_FORMATS) as image:
            size = (image.height, image.width)
    _check_shape(size, str(path))
    return size


def _glance(path: Path) -> tuple[tuple[int, int], NDArray[np.uint8] | None]:
    """The size, and of a JPEG its pixels at an eighth of it: to compute those, all bytes must be there."""
    size = _header_size(path)
    if not _head(path).startswith(b"\xff\xd8\xff"):
        return size, None
    with Image.open(path, formats=_FORMATS) as image:
        image.draft("RGB", (image.width // 8, image.height // 8))
        return size, np.asarray(image.convert("RGB"))


def _decode(path: Path) -> NDArray[Any]:
    """The pixels of a file in a shape and with values that `to_rgb` knows."""
    head = _head(path)
    orientation = 1
    if head.startswith(_TIFF_HEADS):
        deep, orientation = _look_at_tiff(path)
        if deep is not None:
            return deep
    with Image.open(path, formats=_FORMATS) as image:
        _check_shape((image.height, image.width), str(path))
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format in ("PNG", "WEBP"):
            raise BadInput(f"{path} holds {frames} frames; save the one to use as a photo of its own.")
        if head.startswith(b"\x89PNG") and head[24] == 16:
            return _deep_png(path)
        return _pixels(image, orientation, str(path))


def _pixels(image: Image.Image, orientation: int, name: str) -> NDArray[Any]:
    """What Pillow decoded, in a mode that NumPy knows; `orientation` is the one that Pillow applied and we undo."""
    if image.mode == "CMYK":
        image = _rgb_from_cmyk(image)
    elif image.mode in ("P", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode == "YCbCr":
        image = image.convert("RGB")
    elif image.mode in ("LAB", "HSV"):
        raise BadInput(f"{name} uses the colour mode {image.mode}; save it as RGB.")
    image.load()
    if orientation in _UNDO:
        image = image.transpose(_UNDO[orientation])
    return np.array(image)  # np.asarray would be read-only, which torch warns of


# Pillow applies the orientation tag of TIFF files alone, at load and without asking.
_UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def _rgb_from_cmyk(image: Image.Image) -> Image.Image:
    """Through the ink profile in the file, else by the plain formula, which is what viewers do."""
    profile = image.info.get("icc_profile")
    if profile:
        try:
            inks = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, inks, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError):
            pass  # a broken profile is no reason to refuse the photo
    return image.convert("RGB")


def _deep_png(path: Path) -> NDArray[Any]:
    """A PNG of 16 bits per channel, of which Pillow would keep 8."""
    import imagecodecs

    return np.asarray(imagecodecs.png_decode(path.read_bytes()))


def _look_at_tiff(path: Path) -> tuple[NDArray[Any] | None, int]:
    """The pixels, if Pillow would not read them whole (more than 8 bits, thumbnail first), and the orientation tag."""
    with tifffile.TiffFile(path) as tiff:
        whole = [series for series in tiff.series if not series.keyframe.is_reduced]  # thumbnails do not count
        if len(whole) != 1 or whole[0].axes not in ("YX", "YXS", "SYX"):
            raise BadInput(f"{path} holds a stack of images; save the plane to use as a photo of its own.")
        page = whole[0].keyframe
        orientation = int(page.tags.valueof("Orientation", 1))
        if page.bitspersample <= 8 and page.index == 0:
            return None, orientation
        _check_shape((page.imagelength, page.imagewidth), str(path))
        if page.photometric.name not in ("MINISBLACK", "MINISWHITE", "RGB"):
            raise BadInput(f"{path} is {page.bitspersample}-bit {page.photometric.name}; save it as RGB.")
        pixels = whole[0].asarray()
        if whole[0].axes == "SYX":
            pixels = np.moveaxis(pixels, 0, -1)
        if page.photometric.name == "MINISWHITE":
            pixels = pixels.max() - pixels
        return pixels, orientation


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 2, 3, 4)):
        raise BadInput(
            f"{name} has the shape {tuple(shape)}, which is no photo of [height, width] or [height, width, 3 or 4]; "
            "choose one plane of a stack, and put colours last."
        )
    height, width = shape[:2]
    if height * width > MAX_PIXELS:
        raise BadInput(_too_large(name))
    if min(height, width) < MIN_SIDE:
        raise BadInput(
            f"{name} is {width} x {height} pixels, too small to show a lesion; "
            f"give a photo of at least {MIN_SIDE} pixels on its shorter side."
        )
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise BadInput(f"{name} is {width} x {height} pixels, a strip rather than a photo; crop it around the lesion.")


def _too_large(name: str) -> str:
    return f"{name} has more than {MAX_PIXELS // 1_000_000} million pixels; scale it down or crop it around the lesion."


def _to_bytes(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """`values` of any dtype as `uint8` of the same shape; the rules are in `to_rgb`."""
    kind = values.dtype.kind
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint8:
        return values
    if kind in "ui":
        return _integers_to_bytes(values, name)
    if kind == "f":
        return _floats_to_bytes(values, name)
    raise BadInput(f"{name} holds {values.dtype} values; give whole numbers or floats.")


def _integers_to_bytes(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    low, high = int(values.min()), int(values.max())
    if low < 0:
        raise BadInput(f"{name} has negative values (down to {low}); give a photo, with values from 0.")
    bits = next((bits for bits in _BIT_DEPTHS if high < 2**bits), None)
    if bits is None:
        raise BadInput(f"{name} has values up to {high}, more than 16 bits; scale it to [0, 255].")
    return _scaled(values, 255 / (2**bits - 1))


def _floats_to_bytes(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():  # min and max carry any NaN along
        raise BadInput(f"{name} has values that are not numbers (NaN or infinite); replace them first.")
    if high <= 1 + _ROUNDING:
        scale = 255.0
    elif 16 <= high <= 255 * (1 + _ROUNDING):
        scale = 1.0
    else:
        raise BadInput(f"{name} has floats up to {high:g}, neither in [0, 1] nor in [0, 255]; scale it to [0, 1].")
    if low * scale < -255 * _ROUNDING:
        raise BadInput(f"{name} has negative values (down to {low:g}); scale it to [0, 1].")
    return _scaled(values, scale)


def _scaled(values: NDArray[Any], factor: float) -> NDArray[np.uint8]:
    scaled: NDArray[np.float32] = np.multiply(values, np.float32(factor), dtype=np.float32, casting="same_kind")
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0, 255, out=scaled)
    return scaled.astype(np.uint8)


def _over_black(colour: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if alpha.min() == 255:
        return colour
    return ((colour.astype(np.uint16) * alpha + 127) // 255).astype(np.uint8)


def _one_colour(rgb: NDArray[np.uint8]) -> bool:
    first = rgb[0, 0]
    # A few pixels settle it for any real photo; only a suspect is searched whole.
    return bool((rgb[::31, ::31] == first).all() and (rgb == first).all())
