"""Every way to run the step agrees with one device, to 1e-6, in a child with 8 devices."""

import functools

import jax
import numpy as np
import pytest

from cnnjax.errors import UserError
from cnnjax.training import Devices
from cnnjax.training.devices import repeat
from tests.child_process import rows_of_module


@pytest.fixture(scope="module")
def rows():
    return rows_of_module("tests.devices_child")


@pytest.mark.parametrize("way", ["sharded", "shard_map", "pmap"])
@pytest.mark.parametrize("dropout, batch_size", [(0.0, 16), (0.5, 13)])
def test_five_steps_agree_with_one_device(rows, way, dropout, batch_size):
    """With dropout too: an example's mask comes from its position in the whole batch.  13: a
    batch that 8 does not divide is padded with weight 0, on every device that runs short."""
    (row,) = [
        row
        for row in rows
        if (row["way"], row["dropout"], row["batch_size"]) == (way, dropout, batch_size)
        and not row["one_program"]
        and not row["grouped"]
    ]
    assert row["params"] < 1e-6
    assert row["totals"] < 1e-4  # sums over 5 batches, not means
    assert row["logits"] < 1e-6


@pytest.mark.parametrize("way", ["single", "sharded", "shard_map"])
def test_an_epoch_in_one_program_agrees_with_a_loop_of_steps(rows, way):
    (row,) = [row for row in rows if row["one_program"] and row["way"] == way]
    assert row["params"] < 1e-6


@pytest.mark.parametrize("steps", [0, 1, 15, 16, 17, 35])
def test_repeat_takes_as_many_steps(steps):
    step, expected = lambda x: (3 * x + 1) % 1009, 7
    for _ in range(steps):
        expected = step(expected)
    assert jax.jit(functools.partial(repeat, step))(steps, 7) == expected


@pytest.mark.parametrize(
    ("steps_an_epoch", "steps", "calls"),
    [(512, 14, [4, 4, 4, 1, 1]), (512, 3, [1, 1, 1]), (511, 5, [1] * 5)],
)
def test_of_many_steps_four_are_one_call(monkeypatch, steps_an_epoch, steps, calls):
    compiled = []

    def jit(function, **place):
        def run(carry, *arguments):
            after = function(carry, *arguments)
            compiled.append(after - carry)
            return after

        return run

    monkeypatch.setattr("cnnjax.training.devices.jit", jit)
    devices = Devices("single", one_program=False)
    advance = devices.program(lambda carry, *arguments: carry + 1, grouped=True)
    assert advance(0, None, np.zeros((steps_an_epoch, 1)), None, None, steps) == steps
    assert compiled == calls


@pytest.mark.parametrize("way", ["single", "sharded"])
def test_four_steps_in_one_call_agree_with_single_calls(rows, way):
    (row,) = [row for row in rows if row["grouped"] and row["way"] == way]
    assert row["params"] < 1e-6
    assert row["totals"] < 1e-4


def test_an_unknown_way_is_refused():
    with pytest.raises(UserError, match=r"^parallel=ddp.*single, sharded, shard_map, pmap"):
        Devices("ddp")


def test_width_is_a_multiple_of_the_devices():
    devices = Devices("single")
    assert devices.width(13) == 13
    assert devices.way == "single"
    assert devices.describe() == "1 cpu device (single)"
