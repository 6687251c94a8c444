"""Run in a child process with 8 simulated devices: batch statistics in every way, as JSON lines."""

import functools
import json
import sys

import jax
import numpy as np

from cnnjax.data.order import epoch_rows
from cnnjax.training import Devices, stream
from cnnjax.training.progress import init_progress, step_on_rows
from tests.devices_child import difference
from tests.norm_task import Hparams, OurNet, PlainNet, task_of, traced
from tests.training_task import small_splits


def five_steps(task, way: str, batch_size: int):
    """Parameters, running averages and sums after five steps; the last batch has what is left."""
    devices = Devices(way, one_program=False)
    train = small_splits(count=5 * batch_size - 3)["train"]
    start = jax.jit(functools.partial(init_progress, task))
    progress = devices.replicate(start(train["inputs"][:1], traced(Hparams()), np.uint32(7)))
    shape = {"batch_size": batch_size, "width": devices.width(batch_size)}
    order = epoch_rows(stream(7, "order"), 0, count=len(train["labels"]), **shape)
    rows, weights = devices.divide(order)
    advance = devices.program(functools.partial(step_on_rows, task))
    carry = progress.state, progress.totals
    data, hparams = devices.replicate(train), devices.replicate(traced(Hparams()))
    state, totals = advance(carry, data, rows, weights, hparams, 5)
    return jax.device_get((state.params, dict(state.collections), totals))


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    for name, net in (("ours", OurNet()), ("flax", PlainNet())):
        for batch_size in (16, 13):
            reference = five_steps(task_of(net), "single", batch_size)
            for way in ("sharded", "shard_map", "pmap"):
                found = five_steps(task_of(net), way, batch_size)
                parts = zip(("params", "averages", "totals"), reference, found, strict=True)
                row = {part: difference(r, f) for part, r, f in parts}
                print(json.dumps(row | {"net": name, "way": way, "batch_size": batch_size}))
    sys.exit(0)
