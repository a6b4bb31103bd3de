"""Read photos and convert arrays to `uint8` RGB `[H, W, 3]`; raise `BadInput` with a reason for everything else.

Only this module handles colour modes, bit depths, EXIF and alpha. Two rules apply in the whole package:

* Pixels keep the orientation in which they are *stored*. An EXIF or TIFF orientation tag is not applied, because napari
  does not apply it either, and a mask must match the photo that napari shows.
* An array or file that could be a stack of planes is refused; the module does not guess.
"""

import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from napari_skinseg.errors import BadInput

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"})

MAX_PIXELS = 200_000_000
"""Largest accepted photo in pixels: far above any dermatoscope, and its 0.6 GB as RGB fit into a small computer."""
MIN_SIDE = 32
"""Smallest accepted side in pixels: a smaller photo shows no lesion border."""
MAX_ASPECT = 8
"""Largest accepted ratio of the sides: a longer file is a strip or a plot, and resizing would distort the lesion."""

# Pillow warns of "decompression bombs" above 89 megapixels; real mosaics are larger. MAX_PIXELS replaces this limit.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

# The content decides the format, not the suffix. The list also excludes formats for which Pillow starts programs (EPS).
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")  # a phone's MPO opens as JPEG
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BIT_DEPTHS = (8, 10, 12, 14, 16)
_ROUNDING = 1e-3  # resampling may produce floats this far outside [0, 1]
_RESULT_ENDINGS = ("_segmentation", "_overlay", "_probability")

Result = TypeVar("Result")


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read a photo from a JPEG, PNG, TIFF, BMP or WebP file as writable `uint8` RGB `[H, W, 3]`.

    Gray, palette, 16-bit, alpha (composited over black, as napari shows it) and CMYK (with the colour profile of the
    file, if it has one) are converted. Other colour profiles and the orientation tag are not applied, as in napari.
    In an MPO file, which phones write, the photo is read and the preview is ignored.

    Raises:
        BadInput: the file is missing, empty, damaged, not a photo, a stack or animation, or refused by `to_rgb`.
    """
    return to_rgb(read_pixels(path), name=str(path))


def read_pixels(path: str | Path) -> NDArray[Any]:
    """Read an image file as stored: gray, gray and alpha, RGB or RGBA, with the bit depth of the file.

    Raises:
        BadInput: the file is missing, empty, damaged, not an image, a stack or animation, tiny, huge or a strip.
    """
    return _with_readable_errors(_decode, Path(path))


def read_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) of an image file in pixels from its header, in a tenth of a millisecond.

    Raises:
        BadInput: see `read_pixels`; errors after the header are not detected.
    """
    return _with_readable_errors(_header_size, Path(path))


def check_readable(path: str | Path) -> tuple[int, int]:
    """Return (height, width) in pixels of a photo that `read_image` can read; four times as fast for JPEG files.

    Raises:
        BadInput: see `read_image`.
    """
    size, thumbnail = _with_readable_errors(_size_and_thumbnail, Path(path))
    if thumbnail is None or _has_one_colour(thumbnail):
        return read_image(path).shape[:2]
    return size


def to_rgb(array: ArrayLike, *, name: str = "image") -> NDArray[np.uint8]:
    """Convert an array to `uint8` RGB `[H, W, 3]`, C-contiguous.

    Shapes: `[H, W]` and `[H, W, 1]` are gray, `[H, W, 2]` gray and alpha, `[H, W, 3]` RGB, `[H, W, 4]` RGB and alpha.
    Alpha is composited over black. A lazy array (dask) is computed after its shape has been accepted.

    Values, by dtype:
        bool: black and white.
        uint8: unchanged. A C-contiguous `uint8` RGB array is returned itself, **without a copy**: do not write to it.
        other integers: scaled by the bit depth of the camera, the smallest of 8, 10, 12, 14 and 16 bits that holds the
            highest value. Cameras store 12 bits in 16-bit files without scaling; scaled by 16 bits they would be black.
        floats: range [0, 1] if the highest value is at most 1, [0, 255] if it is from 16 to 255; others are refused.

    Raises:
        BadInput: the array is not a photo (stack, strip, tiny, huge, a single colour), or its values are negative, NaN,
            infinite, too high or not numbers. The sentence starts with `name`.
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
    if _has_one_colour(rgb):
        raise BadInput(f"{name} has a single colour; give a photo that shows a lesion.")
    return rgb


OnUnreadable = Callable[[Path, str], None]
"""Receives a folder that cannot be read, and a sentence."""


def find_images(
    paths: str | Path | Iterable[str | Path], on_unreadable: OnUnreadable = lambda folder, sentence: None
) -> list[Path]:
    """Return the photos among `paths`, sorted, each once; folders are searched with their subfolders.

    Hidden files and results of napari-skinseg (`*_segmentation`, `*_overlay`, `*_probability`) are skipped, so that a
    folder with results can be segmented again. A file in `paths` may have any suffix; reading it reports its error.

    Args:
        paths: photos, and folders.
        on_unreadable: called for each subfolder that cannot be read; its photos are not in the result.

    Raises:
        BadInput: a path does not exist, or no photo was found.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    found: set[Path] = set()
    for path in map(Path, paths):
        if path.is_dir():
            found.update(file for file in _visible_files(path, on_unreadable) if file.suffix.lower() in IMAGE_SUFFIXES)
        elif path.exists():
            found.add(path)
        else:
            raise BadInput(f"{path} does not exist; check the name.")
    photos = sorted(path for path in found if not path.stem.lower().endswith(_RESULT_ENDINGS))
    if not photos:
        where = ", ".join(map(str, paths)) or "the list of paths"
        raise BadInput(f"{where} contains no photo; give JPEG, PNG, TIFF, BMP or WebP files, or a folder of them.")
    return photos


def is_photo_name(name: str) -> bool:
    """Return whether `find_images` finds a file of this name, a path with "/" below the folder that is searched."""
    path = PurePosixPath(name)
    is_photo = path.suffix.lower() in IMAGE_SUFFIXES and not path.stem.lower().endswith(_RESULT_ENDINGS)
    return is_photo and not any(part.startswith(".") for part in path.parts)


def _visible_files(folder: Path, on_unreadable: OnUnreadable) -> Iterable[Path]:
    def report(error: OSError) -> None:
        place = Path(error.filename)
        on_unreadable(place, f"{place} cannot be read ({error.strerror}), so its photos are missing; allow reading it.")

    for here, subfolders, names in os.walk(folder, onerror=report):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        yield from (Path(here, name) for name in names if not name.startswith("."))


def _with_readable_errors(read: Callable[[Path], Result], path: Path) -> Result:
    """Return `read(path)`; convert every error of a decoder to a `BadInput` with one sentence."""
    try:
        return read(path)
    except (BadInput, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BadInput(f"{path} is not a photo that can be read; save it as JPEG, PNG, TIFF, BMP or WebP.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInput(_too_large(str(path))) from error
    except Exception as error:  # decoders raise many kinds of errors on damaged files
        raise BadInput(f"{path} is damaged or cut short ({error}); copy or export it again.") from error


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be opened ({error.strerror or error}); check its name and permissions."
        ) from error
    if not head:
        raise BadInput(f"{path} is empty (zero bytes); copy it again from the camera.")
    return head


def _header_size(path: Path) -> tuple[int, int]:
    if _first_bytes(path).startswith(_TIFF_SIGNATURES):
        import tifffile

        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            size = (page.imagelength, page.imagewidth)
    else:
        with Image.open(path, formats=_FORMATS) as image:
            size = (image.height, image.width)
    _check_shape(size, str(path))
    return size


def _size_and_thumbnail(path: Path) -> tuple[tuple[int, int], NDArray[np.uint8] | None]:
    """Return the size, and for a JPEG the pixels at an eighth of the size; a truncated JPEG raises an error here."""
    size = _header_size(path)
    if not _first_bytes(path).startswith(b"\xff\xd8\xff"):
        return size, None
    with Image.open(path, formats=_FORMATS) as image:
        image.draft("RGB", (image.width // 8, image.height // 8))
        return size, np.asarray(image.convert("RGB"))


def _decode(path: Path) -> NDArray[Any]:
    """Return the pixels in a shape and with values that `to_rgb` accepts."""
    head = _first_bytes(path)
    orientation = 1
    if head.startswith(_TIFF_SIGNATURES):
        pixels, orientation = _read_tiff(path)
        if pixels is not None:
            return pixels
    with Image.open(path, formats=_FORMATS) as image:
        _check_shape((image.height, image.width), str(path))
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format in ("PNG", "WEBP"):
            raise BadInput(f"{path} contains {frames} frames; save the frame to use as a separate photo.")
        if head.startswith(b"\x89PNG") and head[24] == 16:
            return _read_16_bit_png(path)
        return _to_array(image, orientation, str(path))


def _to_array(image: Image.Image, orientation: int, name: str) -> NDArray[Any]:
    """Convert a Pillow image to an array with the stored orientation; `orientation` is the tag that Pillow applied."""
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
    if orientation in _INVERSE_TRANSPOSE:
        image = image.transpose(_INVERSE_TRANSPOSE[orientation])
    return np.array(image)  # np.asarray returns a read-only array, and torch warns about it


# Pillow applies the orientation tag of TIFF files, and only of TIFF files, when it loads them.
_INVERSE_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def _rgb_from_cmyk(image: Image.Image) -> Image.Image:
    """Convert with the colour profile of the file, or without one by the simple formula, as image viewers do."""
    profile = image.info.get("icc_profile")
    if profile:
        try:
            inks = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, inks, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError):
            pass  # a photo with a damaged profile is still readable
    return image.convert("RGB")


def _read_16_bit_png(path: Path) -> NDArray[Any]:
    """Read a PNG with 16 bits per channel; Pillow would keep 8 of them."""
    import imagecodecs

    return np.asarray(imagecodecs.png_decode(path.read_bytes()))


def _read_tiff(path: Path) -> tuple[NDArray[Any] | None, int]:
    """Return the pixels, or None if Pillow can read them completely (8 bits, first page), and the orientation tag."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        whole = [series for series in tiff.series if not series.keyframe.is_reduced]  # ignore thumbnails
        if len(whole) != 1 or whole[0].axes not in ("YX", "YXS", "SYX"):
            raise BadInput(f"{path} contains a stack of images; save the plane to use as a separate photo.")
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
            f"{name} has the shape {tuple(shape)}, which is not [height, width] or [height, width, 3 or 4]; "
            "choose one plane of a stack, and make colour the last axis."
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
        raise BadInput(f"{name} is {width} x {height} pixels, a strip and not a photo; crop it around the lesion.")


def _too_large(name: str) -> str:
    return f"{name} has more than {MAX_PIXELS // 1_000_000} million pixels; scale it down or crop it around the lesion."


def _to_bytes(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Convert values of any dtype to `uint8` by the rules of `to_rgb`."""
    kind = values.dtype.kind
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint8:
        return values
    if kind in "ui":
        return _integers_to_bytes(values, name)
    if kind == "f":
        return _floats_to_bytes(values, name)
    raise BadInput(f"{name} contains {values.dtype} values; give integers or floats.")


def _integers_to_bytes(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    low, high = int(values.min()), int(values.max())
    if low < 0:
        raise BadInput(f"{name} has negative values (down to {low}); give a photo with values from 0.")
    bits = next((bits for bits in _BIT_DEPTHS if high < 2**bits), None)
    if bits is None:
        raise BadInput(f"{name} has values up to {high}, more than 16 bits; scale it to [0, 255].")
    return _scaled(values, 255 / (2**bits - 1))


def _floats_to_bytes(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():  # min and max of an array with NaN are NaN
        raise BadInput(f"{name} has values that are not numbers (NaN or infinite); replace these values.")
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


def _has_one_colour(rgb: NDArray[np.uint8]) -> bool:
    first = rgb[0, 0]
    # A few pixels are enough for most photos; all pixels are compared only if these few are equal.
    return bool((rgb[::31, ::31] == first).all() and (rgb == first).all())
