"""Reading of photos: every accepted kind of file and array, and every refused kind."""

import io
import os

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms

from napari_skinseg.errors import BadInput
from napari_skinseg.pixels.image import MAX_PIXELS, check_readable, find_images, read_image, read_size, to_rgb


def photo(height=48, width=64):
    """A smooth photo for lossy formats, with four different corners to detect a rotation."""
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    return np.rint(np.stack([60 + 150 * x, 200 - 120 * y, 90 + 60 * x * y], axis=-1)).astype(np.uint8)


def refusal(function, *args, **kwargs):
    with pytest.raises(BadInput) as caught:
        function(*args, **kwargs)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert ";" in sentence, "a refusal says what to do"
    return sentence


@pytest.fixture
def save(tmp_path):
    def save(name, image, **options):
        path = tmp_path / name
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        image.save(path, **options)
        return path

    return save


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.webp", "A.TIFF", "a.PNG"])
def test_a_lossless_file_returns_the_saved_pixels(save, name):
    path = save(name, photo(), **({"lossless": True} if name.endswith("webp") else {}))
    rgb = read_image(path)
    assert np.array_equal(rgb, photo())
    assert rgb.flags.writeable
    assert rgb.flags.c_contiguous


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.webp"])
def test_a_lossy_file_returns_nearly_the_saved_pixels(save, name):
    assert np.abs(read_image(save(name, photo(), quality=95)).astype(int) - photo()).max() < 12


def test_the_content_decides_the_format_and_not_the_suffix(tmp_path, save):
    path = save("a.png", photo()).rename(tmp_path / "a.jpg")
    assert np.array_equal(read_image(path), photo())


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp", "jpg"])
def test_a_gray_file_becomes_three_equal_channels(save, suffix):
    gray = photo()[..., 0]
    rgb = read_image(save(f"a.{suffix}", gray, **({"lossless": True} if suffix == "webp" else {})))
    assert rgb.shape == (48, 64, 3)
    assert np.array_equal(rgb[..., 0], rgb[..., 2])
    assert np.abs(rgb[..., 0].astype(int) - gray).max() < 6


def test_a_1_bit_file_is_read(save):
    black_and_white = photo()[..., 0] > 130
    assert np.array_equal(read_image(save("a.png", Image.fromarray(black_and_white)))[..., 1], black_and_white * 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_transparent_pixels_turn_black_as_in_napari(save, mode, suffix):
    image = Image.fromarray(photo()).convert(mode)
    alpha = np.full((48, 64), 255, dtype=np.uint8)
    alpha[:20] = 0
    alpha[20:30] = 128
    image.putalpha(Image.fromarray(alpha))
    rgb = read_image(save(f"a.{suffix}", image))
    whole = np.array(Image.fromarray(photo()).convert(mode).convert("RGB"))
    assert (rgb[:20] == 0).all()
    assert np.array_equal(rgb[30:], whole[30:])
    assert np.abs(rgb[20:30].astype(float) - whole[20:30] * (128 / 255)).max() <= 0.51


def test_a_palette_file_returns_the_palette_colours(save):
    image = Image.fromarray(photo()).quantize(64)
    assert np.array_equal(read_image(save("a.png", image)), np.array(image.convert("RGB")))


def test_a_palette_file_with_a_transparent_colour_is_composited_over_black(save):
    image = Image.fromarray(photo()).quantize(8)
    index = int(np.array(image)[0, 0])
    rgb = read_image(save("a.png", image, transparency=index))
    hidden = np.array(image) == index
    assert (rgb[hidden] == 0).all()
    assert np.array_equal(rgb[~hidden], np.array(image.convert("RGB"))[~hidden])


def test_an_rgb_file_with_a_transparent_colour_is_composited_over_black(save):
    pixels = photo()
    pixels[:10, :10] = (1, 2, 3)
    rgb = read_image(save("a.png", pixels, transparency=(1, 2, 3)))
    assert (rgb[:10, :10] == 0).all()
    assert np.array_equal(rgb[10:], photo()[10:])


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_a_cmyk_file_returns_the_printed_colours(save, name):
    rgb = read_image(save(name, Image.fromarray(photo()).convert("CMYK")))
    assert np.abs(rgb.astype(int) - photo()).max() < 16


def test_an_inverted_cmyk_jpeg_of_adobe_is_read_correctly(tmp_path):
    inks = np.array(Image.fromarray(photo()).convert("CMYK"))
    plain = io.BytesIO()
    Image.fromarray(inks, "CMYK").save(plain, "JPEG", quality=95)
    # Pillow writes and reads Adobe's convention: the stored inks are inverted and the marker says so.
    assert b"Adobe" in plain.getvalue()
    (tmp_path / "a.jpg").write_bytes(plain.getvalue())
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - photo()).max() < 16


def test_a_cmyk_file_with_a_damaged_profile_is_read(save):
    path = save("a.jpg", Image.fromarray(photo()).convert("CMYK"), icc_profile=b"no profile at all")
    assert np.abs(read_image(path).astype(int) - photo()).max() < 16


def test_an_rgb_profile_is_not_applied(save):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(read_image(save("a.png", photo(), icc_profile=profile)), photo())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_an_orientation_tag_is_not_applied(save, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(f"a.{suffix}", photo(), exif=exif)
    rgb = read_image(path)
    assert rgb.shape == (48, 64, 3)
    assert read_size(path) == check_readable(path) == (48, 64)
    assert np.abs(rgb.astype(int) - photo()).max() < 24


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["tif", "planar tif", "compressed tif", "png"])
def test_a_16_bit_colour_file_is_scaled_by_the_camera_bit_depth(tmp_path, kind, bits):
    deep = np.rint(photo() / 255 * (2**bits - 1)).astype(np.uint16)
    deep[0, 0] = 2**bits - 1
    path = tmp_path / f"a.{kind[-3:]}"
    if kind == "png":
        path.write_bytes(imagecodecs.png_encode(deep))
    elif kind == "planar tif":
        tifffile.imwrite(path, np.moveaxis(deep, -1, 0), photometric="rgb", planarconfig="separate")
    else:
        tifffile.imwrite(path, deep, photometric="rgb", compression="zlib" if "compressed" in kind else None)
    rgb = read_image(path)
    assert np.abs(rgb.astype(int) - photo())[1:].max() <= 1


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_16_bit_gray_file_is_read(tmp_path, suffix):
    deep = photo()[..., 0].astype(np.uint16) * 257
    path = tmp_path / f"a.{suffix}"
    if suffix == "png":
        Image.fromarray(deep).save(path)
    else:
        tifffile.imwrite(path, deep)
    full = np.rint(deep / (2 ** int(deep.max()).bit_length() - 1) * 255)
    assert np.abs(read_image(path)[..., 0] - full).max() <= 1


def test_a_tiff_with_white_as_zero_is_read_correctly(tmp_path):
    gray = photo()[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", 255 - gray, photometric="miniswhite")
    assert np.array_equal(read_image(tmp_path / "a.tif")[..., 0], gray)


def test_a_float_tiff_from_0_to_1_is_read(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", (photo() / 255).astype(np.float32), photometric="rgb")
    assert np.array_equal(read_image(tmp_path / "a.tif"), photo())


@pytest.mark.parametrize("first", ["photo", "thumbnail"])
def test_a_tiff_thumbnail_is_ignored(tmp_path, first):
    pages = [(photo(), 0), (photo()[::2, ::2], 1)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for pixels, reduced in pages if first == "photo" else pages[::-1]:
            writer.write(pixels, photometric="rgb", subfiletype=reduced)
    assert np.array_equal(read_image(tmp_path / "a.tif"), photo())


def test_the_preview_in_a_phone_photo_is_ignored(save):
    preview = Image.fromarray(photo()[::2, ::2].copy())
    rgb = read_image(save("a.jpg", photo(), format="MPO", save_all=True, append_images=[preview], quality=95))
    assert np.abs(rgb.astype(int) - photo()).max() < 12


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.webp"])
def test_a_file_with_several_frames_raises(save, name):
    other = Image.fromarray(photo()[::-1].copy())
    path = save(name, photo(), save_all=True, append_images=[other])
    assert str(path) in refusal(read_image, path)


def test_a_16_bit_stack_raises(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 48, 64), dtype=np.uint16))
    assert "stack" in refusal(read_image, tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp", "webp"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_truncated_file_raises(save, suffix, share):
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = save(f"a.{suffix}", noise)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert str(path) in refusal(read_image, path)
    assert str(path) in refusal(check_readable, path)


def test_a_truncated_16_bit_png_raises(tmp_path):
    whole = imagecodecs.png_encode(np.random.default_rng(1).integers(0, 65535, (64, 64, 3), dtype=np.uint16))
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    refusal(read_image, tmp_path / "a.png")


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "zero bytes"), (b"patient,age\n1,50\n", "not a photo"), (b"GIF89a" + bytes(50), "not a photo")],
)
def test_a_file_that_is_not_an_image_raises(tmp_path, content, says):
    path = tmp_path / "notes.jpg"
    path.write_bytes(content)
    sentence = refusal(read_image, path)
    assert says in sentence
    assert str(path) in sentence


def test_a_missing_file_and_a_folder_raise(tmp_path):
    assert "No such file" in refusal(read_image, tmp_path / "none.jpg")
    assert str(tmp_path) in refusal(read_image, tmp_path)


@pytest.mark.parametrize(
    ("width", "height", "says"), [(1, 1, "too small"), (20_000, 10, "too small"), (400, 40, "strip")]
)
def test_a_file_of_impossible_size_raises(save, width, height, says):
    assert says in refusal(read_image, save("a.png", np.zeros((height, width, 3), dtype=np.uint8)))


def test_a_huge_file_raises_before_decoding(save):
    path = save("a.png", Image.new("1", (30_000, 15_000)))
    assert "million pixels" in refusal(read_image, path)


def test_a_black_file_raises(save):
    assert "single colour" in refusal(read_image, save("a.png", np.zeros((48, 64, 3), dtype=np.uint8)))


# --- arrays ----------------------------------------------------------------------------------------------------------


def test_a_contiguous_uint8_rgb_array_is_not_copied():
    array = photo()
    assert to_rgb(array) is array


def test_a_strided_view_becomes_contiguous():
    assert to_rgb(photo()[:, ::-1]).flags.c_contiguous
    assert np.array_equal(to_rgb(photo()[:, ::-1]), photo()[:, ::-1])


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 1)])
def test_a_gray_array_becomes_three_equal_channels(shape):
    gray = photo()[..., 0]
    assert np.array_equal(to_rgb(gray.reshape(shape)), np.stack([gray] * 3, axis=-1))


@pytest.mark.parametrize("channels", [2, 4])
def test_the_last_of_two_or_four_channels_is_alpha(channels):
    array = np.concatenate([photo()[..., : channels - 1], np.full((48, 64, 1), 255, dtype=np.uint8)], axis=-1)
    array[:10, ..., -1] = 0
    rgb = to_rgb(array)
    assert (rgb[:10] == 0).all()
    assert np.array_equal(rgb[10:], np.broadcast_to(array[10:, :, : channels - 1], (38, 64, 3)))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "int64", "uint64", ">u2", "float32", "float64"])
def test_values_up_to_255_keep_their_value_in_every_dtype(dtype):
    assert np.array_equal(to_rgb(photo().astype(dtype)), photo())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_up_to_1_are_scaled_to_255(dtype):
    assert np.abs(to_rgb((photo() / 255).astype(dtype)).astype(int) - photo()).max() <= (1 if dtype == "float16" else 0)


def test_floats_slightly_outside_0_to_1_are_clipped():
    array = photo() / 255
    array[0, 0] = (-1e-4, 1 + 1e-4, 0.5)
    assert np.array_equal(to_rgb(array)[0, 0], (0, 255, 128))


def test_a_bool_array_is_black_and_white():
    assert set(np.unique(to_rgb(photo()[..., 0] > 130))) == {0, 255}


def test_a_dask_array_is_read():
    dask = pytest.importorskip("dask.array")
    assert np.array_equal(to_rgb(dask.from_array(photo(), chunks=16)), photo())


@pytest.mark.parametrize(
    "shape", [(), (64,), (5, 48, 64), (48, 64, 5), (2, 48, 64, 3), (0, 0), (0, 64, 3), (48, 64, 0), (3, 48, 64)]
)
def test_an_array_without_the_shape_of_a_photo_raises(shape):
    refusal(to_rgb, np.zeros(shape, dtype=np.uint8))


def test_a_too_large_array_raises_before_values_are_read():
    side = int(MAX_PIXELS**0.5) + 1
    assert "million pixels" in refusal(to_rgb, np.broadcast_to(np.uint8(0), (side, side, 3)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_values_raise(value):
    array = photo() / 255
    array[3, 4, 1] = value
    assert "NaN or infinite" in refusal(to_rgb, array)


@pytest.mark.parametrize(
    ("value", "dtype"), [(-1, "int16"), (-0.5, "float32"), (70_000, "int32"), (3.0, "float32"), (4000.0, "float64")]
)
def test_values_out_of_range_raise(value, dtype):
    array = photo() / 255 if dtype.startswith("float") else photo()
    array = array.astype(dtype)
    array[3, 4, 1] = value
    refusal(to_rgb, array)


@pytest.mark.parametrize("dtype", ["complex64", "U3", "datetime64[s]", "O"])
def test_arrays_without_numbers_raise(dtype):
    assert "values" in refusal(to_rgb, np.zeros((48, 64, 3), dtype=dtype))


def test_one_colour_raises_but_one_different_pixel_is_accepted():
    array = np.full((100, 100, 3), 7, dtype=np.uint8)
    assert refusal(to_rgb, array, name="my layer").startswith("my layer has a single colour")
    array[50, 50, 2] = 8
    assert to_rgb(array) is array


DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(),
    hnp.unsigned_integer_dtypes(),
    hnp.floating_dtypes(),
    hnp.complex_number_dtypes(),
)
SHAPES = st.one_of(
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=40),
    st.tuples(st.integers(30, 70), st.integers(30, 70)),
    st.tuples(st.integers(30, 70), st.integers(30, 70), st.integers(1, 5)),
)


@settings(max_examples=150, deadline=None)
@given(array=hnp.arrays(DTYPES, SHAPES))
def test_every_array_gives_a_photo_or_a_bad_input(array):
    try:
        rgb = to_rgb(array, name="it")
    except BadInput as error:
        rgb, sentence = None, str(error)
    if rgb is None:
        assert sentence.startswith("it ")
    else:
        assert rgb.dtype == np.uint8
        assert rgb.shape == (*array.shape[:2], 3)
        assert rgb.flags.c_contiguous


@settings(max_examples=100, deadline=None)
@given(
    content=st.binary(max_size=200), head=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"BM"])
)
def test_random_bytes_raise_bad_input(content, head, tmp_path_factory):
    path = tmp_path_factory.mktemp("bytes") / "a.jpg"
    path.write_bytes(head + content)
    for read in (read_image, read_size, check_readable):
        refusal(read, path)


# --- finding ---------------------------------------------------------------------------------------------------------


def test_found_photos_are_sorted_unique_and_without_results(tmp_path):
    (tmp_path / "sub" / ".hidden").mkdir(parents=True)
    wanted = ["b.JPG", "a.png", "sub/c.tiff"]
    others = ["a_segmentation.png", "a_overlay.png", "table.csv", "._a.png", "sub/.hidden/d.png"]
    for name in wanted + others:
        (tmp_path / name).touch()
    found = find_images([tmp_path, tmp_path / "a.png", tmp_path / "a_segmentation.png"])
    assert found == sorted(tmp_path / name for name in wanted)
    assert find_images(tmp_path / "a.png") == [tmp_path / "a.png"]


def test_a_named_file_with_an_unknown_suffix_is_kept(tmp_path):
    (tmp_path / "a.heic").touch()
    assert find_images([tmp_path / "a.heic"]) == [tmp_path / "a.heic"]


def test_a_missing_path_and_an_empty_folder_raise(tmp_path):
    assert "does not exist" in refusal(find_images, tmp_path / "none")
    assert "no photo" in refusal(find_images, tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root can read every file")
def test_a_file_without_read_permission_raises(save):
    path = save("a.png", photo())
    path.chmod(0)
    assert "Permission denied" in refusal(read_image, path)
