"""Random views of images: their boxes against the definition, their pixels against Pillow's."""

import collections
import concurrent.futures

import numpy as np
import pytest
from PIL import Image

from cnnjax import data
from cnnjax.data.images import image_files as image_files
from cnnjax.data.images import views
from tests import image_folders
from tests.data_files import refused


def boxes(width, height, count):
    return np.array([views.random_box(np.random.RandomState([7, i]), width, height)
                     for i in range(count)])  # fmt: skip


def test_areas_and_ratios_are_uniform_where_they_fit():
    """Of (area, log ratio), uniform on a rectangle, those are kept whose box fits: shares of cells.

    In 4000x3000 pixels rounding moves nothing, and ten draws are always enough.
    """
    width, height, cells, count = 4000, 3000, 6, 6000
    area = np.linspace(0.08, 1, 1201)[:-1] + 0.92 / 2400
    ratio = np.linspace(*np.log([3 / 4, 4 / 3]), 1201)[:-1] + np.log(16 / 9) / 2400
    a, r = np.meshgrid(area, np.exp(ratio), indexing="ij")
    fits = (a * width * height * r <= width**2) & (a * width * height / r <= height**2)
    shares = fits.reshape(cells, 1200 // cells, cells, 1200 // cells).sum((1, 3)) / fits.sum()
    _, _, across, down = boxes(width, height, count).T
    found, _, _ = np.histogram2d(
        across * down / (width * height), np.log(across / down), cells,
        ((0.08, 1), np.log([3 / 4, 4 / 3])),
    )  # fmt: skip
    many = count * shares > 20
    assert many.sum() > 25
    squares = (found[many] - count * shares[many]) ** 2 / (count * shares[many])
    assert squares.sum() < 65  # of chi-squared with some 34 degrees of freedom 0.1 % are larger
    assert np.all(found[shares == 0] <= 2)


def test_places_are_uniform():
    width, height = 400, 300
    left, top, across, down = boxes(width, height, 4000).T
    for start, side, whole in ((left, across, width), (top, down, height)):
        free = whole - side
        assert start.min() == 0
        assert np.all(start <= free)
        share = (start + 0.5)[free > 20] / (free[free > 20] + 1)  # uniform in 0..1
        counts, _ = np.histogram(share, 10, (0, 1))
        expected = len(share) / 10
        assert ((counts - expected) ** 2 / expected).sum() < 27.9  # 9 degrees of freedom, 0.1 %


@pytest.mark.parametrize(
    ("size", "middle"),
    [((1000, 100), (433, 0, 133, 100)), ((90, 1200), (0, 540, 90, 120)), ((1, 1), (0, 0, 1, 1))],
)
def test_a_long_picture_gives_its_middle_where_no_box_fits(size, middle):
    found = collections.Counter(map(tuple, boxes(*size, 300).tolist()))
    assert found.most_common(1)[0][0] == middle
    for left, top, across, down in found:
        assert 0 <= left <= left + across <= size[0]
        assert 0 <= top <= top + down <= size[1]


BOXES = [(257, 102, 218, 215), (175, 66, 261, 285), (212, 104, 215, 239)]


def test_the_boxes_are_those_of_all_versions():
    assert [views.random_box(np.random.RandomState([0, 1, i]), 500, 375) for i in range(3)] == BOXES


def crop(path, shape, seed, **box):
    with Image.open(path) as image:
        return views.random_crop(image, shape, np.random.RandomState(seed))


def test_pixels_are_those_of_pillows_crop_and_resize(tmp_path, monkeypatch):
    picture = image_folders.picture((90, 120, 30), 200, 150)
    picture.save(tmp_path / "a.png")
    for box in ((0, 0, 200, 150), (31, 17, 64, 77), (3, 5, 11, 9), (199, 149, 1, 1)):
        monkeypatch.setattr(views, "random_box", lambda random, w, h, box=box: box)
        left, top, across, down = box
        cut = picture.crop((left, top, left + across, top + down))
        expected = np.asarray(cut.resize((32, 24), Image.Resampling.BILINEAR))
        found = [crop(tmp_path / "a.png", (24, 32, 3), seed) for seed in range(8)]
        plain = [np.array_equal(one, expected) for one in found]
        mirrored = [np.array_equal(one, expected[:, ::-1]) for one in found]
        assert all(np.logical_or(plain, mirrored))
        assert across == 1 or 0 < sum(plain) < 8


def test_reduced_jpegs_give_nearly_the_same_pixels(tmp_path, monkeypatch):
    random = np.random.RandomState(0)
    coarse = Image.fromarray(random.randint(0, 256, (30, 40, 3)).astype(np.uint8))
    smooth = coarse.resize((800, 600), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "a.jpg", quality=95)
    for box in ((0, 0, 800, 600), (101, 53, 517, 401), (333, 222, 467, 377)):
        monkeypatch.setattr(views, "random_box", lambda random, w, h, box=box: box)
        left, top, across, down = box
        cut = Image.open(tmp_path / "a.jpg").crop((left, top, left + across, top + down))
        expected = np.asarray(cut.resize((48, 48), Image.Resampling.BILINEAR)).astype(int)
        for seed in range(4):
            found = crop(tmp_path / "a.jpg", (48, 48, 3), seed)
            differences = [np.abs(found - whole) for whole in (expected, expected[:, ::-1])]
            assert min(difference.mean() for difference in differences) < 0.8
            assert min(difference.max() for difference in differences) <= 14


def test_half_are_mirrored(tmp_path):
    ramp = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], 50, 0).repeat(3, 2)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    seen = [crop(tmp_path / "a.png", (8, 8, 3), i)[0, :, 0].astype(int) for i in range(600)]
    mirrored = sum(row[-1] < row[0] for row in seen)
    assert abs(mirrored - 300) < 41  # 3.3 standard deviations


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = image_folders.write(tmp_path_factory.mktemp("shapes"), {"train": 6, "test": 2})
    found = data.load(f"folder:{folder}:24", tmp_path_factory.mktemp("data"))
    return found.splits["train"]["inputs"]


def test_a_view_is_a_function_of_seed_epoch_and_file(inputs, monkeypatch):
    whole = np.asarray(inputs.random_crops(3, 5))
    assert whole.shape == (16, 24, 24, 3)
    assert np.array_equal(np.asarray(inputs.random_crops(3, 5)), whole)
    rows = np.array([11, 2, 2, 7])
    assert np.array_equal(np.asarray(inputs[rows].random_crops(3, 5)), whole[rows])
    assert np.array_equal(np.asarray(inputs.random_crops(3, 5)[rows]), whole[rows])
    with concurrent.futures.ThreadPoolExecutor(1) as one, monkeypatch.context() as patch:
        patch.setattr(image_files, "threads", lambda: one)
        assert np.array_equal(np.asarray(inputs.random_crops(3, 5)), whole)
    for other in (inputs.random_crops(3, 6), inputs.random_crops(4, 5), inputs):
        different = (np.asarray(other) != whole).any((1, 2, 3))
        assert different.sum() >= 15
    assert len({view.tobytes() for view in whole}) == 16


def test_the_checksum_tells_views_apart(inputs):
    sums = {view.sha256 for view in (inputs, inputs.random_crops(0, 0), inputs.random_crops(0, 1))}
    assert len(sums) == 3


def test_arrays_have_no_random_crops():
    digits = data.load("digits").splits["train"]["inputs"]
    refused(lambda: data.random_crops(digits, 0, 0), "image files", "folder:PATH")
