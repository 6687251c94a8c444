"""Run in a child process with 8 simulated devices: five steps in every way, as JSON lines."""

import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data.order import epoch_rows
from cnnjax.training import Devices, stream
from cnnjax.training import devices as devices_module
from cnnjax.training.progress import init_progress, step_on_rows
from tests.training_task import Hparams, small_splits, small_task, traced

start = jax.jit(functools.partial(init_progress, small_task()))


def five_steps(
    way: str, dropout: float, batch_size: int, one_program: bool = False, grouped: bool = False
):
    """Parameters and sums after five steps, one of which is a call of its own if ``grouped``."""
    devices = Devices(way, one_program=one_program)
    train = small_splits(count=5 * batch_size - 3)["train"]
    hparams = devices.replicate(jax.tree.map(jnp.asarray, traced(Hparams(dropout=dropout))))
    data = devices.replicate(train)
    progress = devices.replicate(start(train["inputs"][:1], Hparams(), np.uint32(7)))
    rows, weights = devices.divide(
        epoch_rows(
            stream(7, "order"),
            0,
            count=len(train["labels"]),
            batch_size=batch_size,
            width=devices.width(batch_size),
        )
    )
    advance = devices.program(functools.partial(step_on_rows, small_task()), grouped=grouped)
    state, totals = advance((progress.state, progress.totals), data, rows, weights, hparams, 5)
    assert int(state.step) == 5
    logits = devices.apply(small_task().logits)(state.variables, train["inputs"], 13)
    return jax.device_get((state.params, totals, logits))


def difference(a, b) -> float:
    """The largest difference between two trees."""
    return max(
        jax.tree.leaves(jax.tree.map(lambda x, y: float(np.abs(x - y).max(initial=0)), a, b))
    )


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    assert len(jax.local_devices()) == 8
    devices_module._MANY_STEPS = 5
    for dropout, batch_size in ((0.0, 16), (0.5, 13)):
        reference = five_steps("single", dropout, batch_size)
        cases = [(way, False, False) for way in ("sharded", "shard_map", "pmap")]
        if dropout:
            cases += [(way, True, False) for way in ("single", "sharded", "shard_map")]
            cases += [(way, False, True) for way in ("single", "sharded")]
        for way, one_program, grouped in cases:
            found = five_steps(way, dropout, batch_size, one_program, grouped)
            names = ("params", "totals", "logits")
            row = {
                name: difference(r, f) for name, r, f in zip(names, reference, found, strict=True)
            }
            row |= {"way": way, "one_program": one_program, "grouped": grouped}
            row |= {"dropout": dropout, "batch_size": batch_size}
            print(json.dumps(row))
    sys.exit(0)
