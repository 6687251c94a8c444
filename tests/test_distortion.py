"""Images under affine maps: by hand, and random ones within their bounds."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import ops
from tests.agreement import assert_is_plain, lowered

SIZE = 9
IMAGES = np.random.default_rng(0).uniform(0, 1, (3, SIZE, SIZE, 2)).astype(np.float32)
KEYS = jax.random.split(jax.random.key(0), 3)


def under(matrix, shift, images=IMAGES, **arguments):
    count = len(images)
    matrices = jnp.broadcast_to(jnp.asarray(matrix, jnp.float32), (count, 2, 2))
    shifts = jnp.broadcast_to(jnp.asarray(shift, jnp.float32), (count, 2))
    return ops.warp(images, matrices, shifts, **arguments)


def test_the_identity_changes_nothing():
    np.testing.assert_allclose(under(np.eye(2), (0, 0)), IMAGES, atol=1e-6)


def test_a_shift_by_whole_pixels_moves_and_fills_with_background():
    """t = (1, -2): each pixel comes from one row below and two columns to the left."""
    expected = np.full_like(IMAGES, -1)
    expected[:, :-1, 2:] = IMAGES[:, 1:, :-2]
    np.testing.assert_allclose(under(np.eye(2), (1, -2), background=-1), expected, atol=1e-5)


def test_half_a_pixel_is_the_mean_of_two():
    found = under(np.eye(2), (0, 0.5))[:, :, :-1]
    np.testing.assert_allclose(found, (IMAGES[:, :, :-1] + IMAGES[:, :, 1:]) / 2, atol=1e-5)


def test_a_quarter_turn_is_exact():
    found = under([[0, 1], [-1, 0]], (0, 0))
    np.testing.assert_allclose(found, np.rot90(IMAGES, 1, axes=(1, 2)), atol=1e-5)


def test_shearing_moves_rows_against_each_other():
    """Rows at a distance d from the centre come from d columns further right."""
    found = np.asarray(under([[1, 0], [1, 1]], (0, 0)))
    for row, d in ((4, 0), (5, 1), (2, -2)):
        kept = slice(max(0, -d), SIZE - max(0, d))
        source = slice(max(0, d), SIZE - max(0, -d))
        np.testing.assert_allclose(found[:, row, kept], IMAGES[:, row, source], atol=1e-5)


def test_the_lowering_for_the_cpu_is_the_plain_one_image_after_another():
    matrices = np.eye(2) + np.random.default_rng(1).normal(0, 0.1, (3, 2, 2))
    distort = lambda images: ops.warp(images, matrices.astype(images.dtype), jnp.ones((3, 2)))
    assert_is_plain(distort, IMAGES.shape)
    assert "while" in lowered(distort, (IMAGES,), "cpu")
    assert "while" not in lowered(distort, (IMAGES,), "cuda")


@pytest.mark.parametrize(
    "amount", ["shift", "scaling", "squeezing", "shearing", "rotation", "bending"]
)
def test_each_amount_does_something_to_each_image_and_zero_nothing(amount):
    changed = ops.random_warp(KEYS, IMAGES, **{amount: 0.5})
    assert (np.abs(changed - IMAGES).max((1, 2, 3)) > 0.01).all()
    same = ops.random_warp(KEYS, IMAGES, **{amount: 0.0})
    np.testing.assert_allclose(same, IMAGES, atol=1e-5)


def test_an_image_depends_on_its_own_key_alone_also_with_traced_amounts():
    together = ops.random_warp(KEYS, IMAGES, shift=2.0, rotation=0.3)
    traced = jax.jit(
        lambda shift: ops.random_warp(KEYS[1:2], IMAGES[1:2], shift=shift, rotation=0.3)
    )
    np.testing.assert_allclose(traced(2.0)[0], together[1], atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 0.1


def moments(images):
    """Total, centre (rows, columns) and second moments of each image's one channel."""
    x = np.asarray(images)[..., 0]
    rows, columns = np.mgrid[: x.shape[1], : x.shape[2]]
    total = x.sum((1, 2))
    centre = [(x * axis).sum((1, 2)) / total for axis in (rows, columns)]
    second = [
        (x * (axis - c[:, None, None]) ** 2).sum((1, 2)) / total
        for axis, c in zip((rows, columns), centre, strict=True)
    ]
    return total, np.stack(centre, -1), np.stack(second, -1)


def blobs(count):
    """A Gaussian of standard deviation 4 in the middle of 41x41 pixels."""
    rows, columns = np.mgrid[:41, :41] - 20.0
    blob = np.exp(-(rows**2 + columns**2) / (2 * 4.0**2)).astype(np.float32)
    return np.broadcast_to(blob[None, ..., None], (count, 41, 41, 1))


def test_amounts_bound_what_is_drawn_and_are_reached():
    keys = jax.random.split(jax.random.key(1), 200)
    _, centres, _ = moments(ops.random_warp(keys, blobs(200), shift=2.0))
    distance = np.abs(centres - 20)
    assert distance.max() < 2.01 and (distance.max(0) > 1.9).all()
    _, _, second = moments(ops.random_warp(keys, blobs(200), scaling=0.2))
    np.testing.assert_allclose(second[:, 0], second[:, 1], rtol=0.01)  # both axes alike
    sizes = np.log(second[:, 0] / 16) / 2
    assert 0.18 < sizes.max() < 0.22 and -0.22 < sizes.min() < -0.17
    _, _, second = moments(ops.random_warp(keys, blobs(200), squeezing=0.2))
    ratios = np.log(second[:, 0] / second[:, 1]) / 2
    assert 0.37 < ratios.max() < 0.41 and -0.41 < ratios.min() < -0.37
    np.testing.assert_allclose(second.prod(1), 16**2, rtol=0.03)  # the area stays


def test_random_shifts_are_whole_pixels_and_all_of_them_happen():
    x = np.zeros((200, 5, 5, 1), np.float32)
    x[:, 2, 2] = 1
    keys = jax.random.split(jax.random.key(0), 200)
    moved = np.asarray(ops.random_shift(keys, x, 1, background=-1.0))
    places = [tuple(np.argwhere(image[..., 0] == 1)[0] - 2) for image in moved]
    assert set(places) == set(itertools.product((-1, 0, 1), repeat=2))
    for image, (down, right) in zip(moved, places, strict=True):
        expected = np.full((7, 7), -1.0)
        expected[1 + down : 6 + down, 1 + right : 6 + right] = x[0, ..., 0]
        np.testing.assert_array_equal(image[..., 0], expected[1:6, 1:6])


def test_bending_moves_controls_and_what_is_between_them_smoothly():
    """A ramp of columns shows each pixel's displacement: at most the amount, and smooth."""
    ramp = np.broadcast_to(np.arange(32.0, dtype=np.float32), (1, 32, 32))[..., None]
    bent = ops.random_warp(KEYS[:1], ramp, bending=1.5)
    moved = np.asarray(bent - ramp)[0, 2:-2, 2:-2, 0]
    assert np.abs(moved).max() < 1.51 and moved.std() > 0.2
    assert max(np.abs(np.diff(moved, axis=axis)).max() for axis in (0, 1)) < 0.8
