"""Run in a child process with 4 simulated devices: epochs of sentences in every way, as JSON."""

import json

import jax
import numpy as np

from cnnjax.training import Devices, fit
from experiments.sentence import plan
from tests.devices_child import difference
from tests.sentence_task import small_config, small_task, splits


def trained(way: str):
    """Parameters after two epochs of batches of 10, by length: 4 devices share 12 rows."""
    config = small_config(epochs=2, batch_size=10)
    fitted = fit(small_task(), splits(count=30), config.hparams, plan(config), devices=Devices(way))
    return jax.device_get(fitted.params)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 4)
    reference = trained("single")
    assert np.abs(reference["output"]["kernel"]).max() > 0
    for way in ("sharded", "shard_map", "pmap"):
        print(json.dumps({"way": way, "difference": difference(reference, trained(way))}))
