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
        (np.uint8(3), ["()", "N x 3 x 4 x 1"]),
        (np.full((3, 4), 255.0), ["0..1", "255..255"]),
        (np.full((3, 4), -0.1), ["0..1", "-0.1"]),
        (np.full((3, 4), np.nan), ["0..1", "nan"]),
        (np.zeros((3, 4), np.int64), ["int64", "uint8 or float"]),
        (np.zeros((3, 4), bool), ["bool", "uint8 or float"]),
        (np.full((3, 4), None), ["cannot be read as an array"]),
    ],
)
def test_unsuitable_arrays_are_refused(tmp_path, array, words):
    path = tmp_path / "a.npy"
    np.save(path, array, allow_pickle=True)
    refused(lambda: pictures.read(path, (3, 4, 1)), f"--inputs={path}", *words)


def as_file(kind):
    """The bytes of a good file of one 20x20 picture."""
    file = io.BytesIO()
    if kind == "png":
        Image.fromarray(STROKE).save(file, "PNG")
    else:
        {"npy": np.save, "npz": np.savez}[kind](file, STROKE)
    return file.getvalue()


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
    ],
)
def test_unreadable_pictures_are_refused(tmp_path, name, content, words):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    refused(lambda: pictures.read(path, (3, 4, 1)), f"--inputs={path}", *words)
