"""State, step, loop, checkpoints, devices.  Knows no particular model and no particular data.

Everything turns around one pure function, ``train_step(task, state, batch, hparams)``: it is
jitted on one device, jitted with a sharded batch, put under ``shard_map`` or ``pmap``, and
vmapped over trials, always the same function.
"""

from cnnjax.training import schedules
from cnnjax.training.devices import Devices
from cnnjax.training.evaluation import evaluator, measure, predict
from cnnjax.training.loop import Fitted, fit
from cnnjax.training.observer import Diverged, Interrupted, Observer
from cnnjax.training.plan import Plan
from cnnjax.training.programs import Programs
from cnnjax.training.sparse.lookup import Lookup
from cnnjax.training.step import TrainState, calibrate, init_state, stream, train_step
from cnnjax.training.task import Task, cross_entropy, squared_error

__all__ = [
    "Devices",
    "Diverged",
    "Fitted",
    "Interrupted",
    "Lookup",
    "Observer",
    "Plan",
    "Programs",
    "Task",
    "TrainState",
    "calibrate",
    "cross_entropy",
    "evaluator",
    "fit",
    "init_state",
    "measure",
    "predict",
    "schedules",
    "squared_error",
    "stream",
    "train_step",
]
