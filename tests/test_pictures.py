"""A user's own pictures and arrays."""

import io

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import pictures
from tests.data_files import refused

STROKE = np.zeros((20, 20), np.uint8)
STROKE[4:16, 8:12] = 255


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("ink", [STROKE, 255 - STROKE], ids=["light ink", "dark ink"])
def test_pictures_are_resized_and_turned_to_light_ink_on_black(tmp_path, ink, mode):
    Image.fromarray(ink).convert(mode).save(tmp_path / "a.png")
    (found,) = pictures.read(tmp_path / "a.png", (10, 10, 1))
    assert found.dtype == np.uint8
    assert np.array_equal(found[..., 0], STROKE[::2, ::2])


def test_colour_pictures_are_not_turned(tmp_path):
    color = np.stack([255 - STROKE, STROKE, STROKE // 3], -1)
    Image.fromarray(color).save(tmp_path / "a.png")
    found = pictures.read(tmp_path / "a.png", (20, 20, 3))
    assert np.array_equal(found, color[None])


def written(tmp_path, image, name="a.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pictures_lie_on_white(tmp_path, mode):
    picture = Image.new("L", STROKE.shape, 0).convert(mode)
    picture.putalpha(Image.fromarray(STROKE))
    path = written(tmp_path, picture)
    assert np.array_equal(pictures.read(path, (20, 20, 1))[0, ..., 0], STROKE)
    assert np.array_equal(pictures.read(path, (20, 20, 3))[0, ..., 2], 255 - STROKE)


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_a_transparent_palette_colour_is_white(tmp_path, name):
    picture = Image.fromarray(STROKE // 255)
    picture.putpalette([0, 0, 0, 0, 0, 0])
    path = written(tmp_path, picture, name, transparency=0)
    assert np.array_equal(pictures.read(path, (20, 20, 1))[0, ..., 0], STROKE)


RAMP = np.linspace(0, 128, 400).reshape(20, 20).astype(np.uint8)
RAMP[0] = RAMP[-1] = 0


@pytest.mark.parametrize(
    ("levels", "name"),
    [
        (RAMP.astype(np.uint16) * 257, "a.png"),
        (RAMP.astype(np.uint16) * 257, "a.tiff"),
        (RAMP.astype(np.int32) * 257, "a.tiff"),
        (RAMP.astype(np.int32), "a.tiff"),
        (RAMP.astype(np.float32) / 255, "a.tiff"),
    ],
    ids=["16 bit png", "16 bit tiff", "32 bit tiff", "32 bit tiff of bytes", "float tiff"],
)
def test_grey_levels_of_more_bits_are_scaled(tmp_path, levels, name):
    path = written(tmp_path, Image.fromarray(levels), name)
    assert np.array_equal(pictures.read(path, (20, 20, 1))[0, ..., 0], RAMP)


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        (np.full((4, 4), 65536, np.int32), ["65536..65536", "0..65535"]),
        (np.full((4, 4), -1, np.int32), ["-1..-1", "0..255"]),
        (np.full((4, 4), 255, np.float32), ["255..255", "0..1"]),
        (np.full((4, 4), np.nan, np.float32), ["nan", "0..1"]),
    ],
)
def test_grey_levels_without_a_scale_are_refused(tmp_path, levels, words):
    path = written(tmp_path, Image.fromarray(levels), "a.tiff")
    refused(lambda: pictures.read(path, (4, 4, 1)), f"inputs={path}", "grey levels", *words)


@pytest.mark.parametrize("end", [".npy", ".npz"])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1),
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.arange(24).reshape(2, 3, 4) / 255,
        (np.arange(12).reshape(3, 4) / 255).astype(np.float32),
    ],
    ids=["NHWC", "NHW", "HW", "float64", "float32"],
)
def test_arrays_are_taken_in_every_form(tmp_path, array, end):
    path = tmp_path / f"a{end}"
    np.save(path, array) if end == ".npy" else np.savez(path, array)
    found = pictures.read(path, (3, 4, 1))
    assert found.dtype == np.uint8
    assert np.array_equal(found, np.arange(array.size).reshape(-1, 3, 4, 1))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 4, 3), np.uint8), ["(2, 4, 3)", "N x 3 x 4 x 1"]),
        (np.zeros((2, 3, 4, 3), np.uint8), ["(2, 3, 4, 3)", "N x 3 x 4 x 1"]),
        (np.zeros((0, 3, 4), np.uint8), ["(0, 3, 4)", "N x 3 x 4 x 1"]),
        (np.zeros((2, 0, 4), np.uint8), ["(2, 0, 4)", "N x 3 x 4 x 1"]),
        (np.zeros((2, 3, 4, 0)), ["(2, 3, 4, 0)", "N x 3 x 4 x 1"]),
        (np.zeros(0), ["(0,)", "N x 3 x 4 x 1"]),
        (np.uint8(3), ["()", "N x 3 x 4 x 1"]),
        (np.full((3, 4), 255.0), ["0..1", "255..255"]),
        (np.full((3, 4), -0.1), ["0..1", "-0.1"]),
        (np.full((3, 4), np.nan), ["0..1", "nan"]),
        (np.array([0.5] * 11 + [np.nan]).reshape(3, 4), ["0..1", "nan"]),
        (np.array([0.5] * 11 + [np.inf]).reshape(3, 4), ["0..1", "inf"]),
        (np.zeros((3, 4), np.int64), ["int64", "uint8 or float"]),
        (np.zeros((3, 4), bool), ["bool", "uint8 or float"]),
        (np.full((3, 4), None), ["cannot be read as an array"]),
    ],
)
def test_unsuitable_arrays_are_refused(tmp_path, array, words):
    path = tmp_path / "a.npy"
    np.save(path, array, allow_pickle=True)
    refused(lambda: pictures.read(path, (3, 4, 1)), f"inputs={path}", *words)


def as_file(kind):
    """The bytes of a good file of one 20x20 picture."""
    file = io.BytesIO()
    if kind == "png":
        Image.fromarray(STROKE).save(file, "PNG")
    else:
        save = {"npy": np.save, "npz": np.savez, "packed npz": np.savez_compressed}[kind]
        save(file, STROKE)
    return file.getvalue()


def overwritten(content, start, new):
    return content[:start] + new + content[start + len(new) :]


PNG, NPZ = as_file("png"), as_file("npz")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.png", None, ["no such file"]),
        ("a.npy", None, ["no such file"]),
        ("a.png", b"a text", ["cannot be read as an image"]),
        ("a.npy", b"a text", ["cannot be read as an array"]),
        ("a.npz", b"a text", ["cannot be read as an array"]),
        ("a.npy", b"", ["cannot be read as an array"]),
        ("a.npy", as_file("npy")[:-1], ["cannot be read as an array"]),
        ("a.png", as_file("png")[:-30], ["cannot be read as an image"]),
        ("a.npz", as_file("npz")[:-1], ["cannot be read as an array"]),
        ("a.npy", as_file("npz"), ["a.npy"]),
        ("a.npz", as_file("npy"), ["a.npz"]),
        # IHDR: a wrong length, no bit depth 3, cut short; IDAT: a broken stream.
        ("a.png", overwritten(PNG, 8, b"\0\0\0\1"), ["cannot be read as an image"]),
        ("a.png", overwritten(PNG, 24, b"\3"), ["cannot be read as an image"]),
        ("a.png", PNG[:20], ["cannot be read as an image"]),
        ("a.png", overwritten(PNG, PNG.index(b"IDAT") + 6, b"\xff\xff"), ["as an image"]),
        ("a.ppm", b"P6 2 x 255 ", ["cannot be read as an image"]),
        ("a.ppm", b"P3 2 2 255 256 0 0 0", ["cannot be read as an image"]),
        ("a.npz", overwritten(as_file("packed npz"), 59, b"\xff"), ["as an array"]),
        ("a.npz", overwritten(NPZ, NPZ.index(b"PK\1\2") + 10, b"\x63"), ["as an array"]),
        ("a.npy", overwritten(as_file("npy"), 10, b"(" * 40), ["as an array"]),
    ],
)
def test_unreadable_pictures_are_refused(tmp_path, name, content, words):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    refused(lambda: pictures.read(path, (3, 4, 1)), f"inputs={path}", *words)


def test_a_folder_is_no_picture(tmp_path):
    refused(lambda: pictures.read(tmp_path, (3, 4, 1)), f"inputs={tmp_path}: is a folder")


@pytest.mark.parametrize("end", [".png", ".npy"])
def test_files_that_the_system_refuses_are_named(tmp_path, end):
    path = tmp_path / ("a" * 300 + end)
    refused(lambda: pictures.read(path, (3, 4, 1)), f"inputs={path}: File name too long")
