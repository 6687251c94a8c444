"""Train or evaluate in a folder: what ``launch.py`` does, to be called from anywhere."""

import dataclasses
import functools
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnnjax import config as configuration
from cnnjax import data
from cnnjax.config import Config
from cnnjax.data.dataset import checksum
from cnnjax.errors import UserError
from cnnjax.experiment.observers import RunObserver, Signals
from cnnjax.experiment.places import Execution, Places
from cnnjax.experiment.provenance import provenance
from cnnjax.experiment.record import Experiment
from cnnjax.experiment.run_directory import RunDirectory
from cnnjax.experiment.trial import Trained, Trainer, open_trainer, train_trial
from cnnjax.runtime import processes
from cnnjax.training import Devices, Interrupted, Task, evaluator
from cnnjax.training.calling import Variables
from cnnjax.training.checkpoints import Checkpoints
from cnnjax.training.step import draw
from cnnjax.training.variables import flat, nested

Say = Callable[[str], None]


class Stopped(Exception):
    """Training was stopped by a signal and saved; ``exit_code`` is the conventional one."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


def train(
    experiment: Experiment,
    config: Config,
    places: Places,
    execution: Execution | None = None,
    argv: Sequence[str] = (),
    say: Say = print,
) -> dict[str, Any]:
    """Train from the start, or from where the run in ``places.workdir`` ended.

    Of several processes (:mod:`cnnjax.runtime.processes`), all call it; only the leader needs
    ``workdir``.

    Args:
        experiment: what is trained.
        config: its configuration.
        places: the folders to read from and to write to.
        execution: on which devices, and how often it is saved.
        argv: recorded in config.json.
        say: receives lines for the user.

    Returns:
        The content of result.json.

    Raises:
        UserError: anything that is wrong with data, configuration or run directory.
        Stopped: a signal arrived; the run was saved.
    """
    execution = execution or Execution()
    say = say if processes.is_leader() else lambda line: None
    devices, run = Devices(execution.parallel), RunDirectory(places.workdir)
    run.check(experiment.name, config)
    if run.finished():
        say(f"{run.path}: this run is finished already")
        return run.result()
    dataset, trainer = _prepare(experiment, config, places, devices, say)
    made_by = _provenance(dataset, trainer)
    with run.open(experiment.name, config, argv, made_by, say):
        if not run.finished():  # by another process, meanwhile
            trained = _train(run, trainer, config, execution, say)
            result = {
                "experiment": experiment.name,
                **dataclasses.asdict(trained.outcome),
                "config": configuration.to_dict(config),
                **made_by,
                "data": {**_described(dataset.spec), **dataset.provenance},
            }
            answers = {
                "labels": dataset.splits["test"]["labels"],
                "logits": trained.logits["test"],
            }
            model = {path: np.asarray(leaf) for path, leaf in flat(trained.variables).items()}
            run.finish(result, model, answers, dataset.vocabulary)
    return run.result()


def _prepare(
    experiment: Experiment, config: Config, places: Places, devices: Devices, say: Say
) -> tuple[data.DataSet, Trainer]:
    """The data as ``config`` divides them, and the trainer on them; the same in all processes."""
    load = functools.partial(data.load, config.dataset, places.data_dir, places.manual_dir)
    dataset = processes.leader_first(load)
    divided = data.divide(dataset, config, experiment.divide)
    processes.require_same(
        experiment=experiment.name,
        config=configuration.to_dict(config),
        data=divided.provenance["sha256"],
    )
    say(divided.describe())
    for line in experiment.remarks(config, divided):
        say(line)
    # Processes of several machines would have to find the same files.
    keep = not processes.several()
    trainer = open_trainer(
        experiment, config, dataset, divided.spec, devices, places.data_dir,
        keep=keep, configs=[config],
    )  # fmt: skip
    return divided, trainer


def _provenance(dataset: data.DataSet, trainer: Trainer) -> dict[str, Any]:
    """On what the result's bits depend, beside the configuration."""
    given = {"data": {"sha256": dataset.provenance["sha256"]}}
    if initial := trainer.initial:
        given["initial"] = {"sha256": checksum(*(initial[path] for path in sorted(initial)))}
    return {**given, "devices": trainer.devices.describe(), **provenance()}


def _train(
    run: RunDirectory, trainer: Trainer, config: Config, execution: Execution, say: Say
) -> Trained:
    """:func:`train_trial` with the run's checkpoints, observed, and stopped by signals."""
    checkpoints = Checkpoints(
        run.checkpoints,
        every_seconds=execution.checkpoint_seconds,
        warn=lambda message: say(f"warning: {message}"),
    )
    say(f"training on {trainer.devices.describe()}, in {run.path}")
    examples = len(trainer.rows(config)["train"])
    with (
        Signals() as signals,
        RunObserver(run, trainer.plan.epochs, examples, signals, say) as observer,
    ):
        try:
            return train_trial(trainer, config, checkpoints=checkpoints, observer=observer)
        except Interrupted as stop:
            (number,) = processes.largest(signals.received or 0)
            received = signal.Signals(number)
            raise Stopped(
                f"{received.name}: saved at step {stop.step:,} in {run.checkpoints}; "
                f"the same command goes on from there",
                128 + received,
            ) from None


def _described(spec: data.Spec) -> dict[str, Any]:
    """What result.json says of the data; a vocabulary has a file of its own."""
    return {"shape": spec.shape, "classes": spec.classes, "examples": spec.examples}


def load_data(experiment: Experiment, config: Config, places: Places) -> data.DataSet:
    """The data set that ``config`` names, divided as it says.

    Raises:
        UserError: as :func:`cnnjax.data.load` and :func:`cnnjax.data.divide`.
    """
    dataset = data.load(config.dataset, places.data_dir, places.manual_dir)
    return data.divide(dataset, config, experiment.divide)


def evaluate(
    experiment: Experiment, config: Config, places: Places, parallel: str = "auto"
) -> dict[str, Mapping[str, float]]:
    """Measure a finished run's model again, on every split.

    Returns:
        split -> {"accuracy", "loss", "count"}.

    Raises:
        UserError: the run is not finished or its model is damaged.
    """
    dataset = load_data(experiment, config, places)
    model = load_model(experiment, config, places)
    if model.spec != dataset.spec:
        words = " with other words" * (model.spec.vocabulary != dataset.vocabulary)
        raise UserError(
            f"{places.workdir}: the model was trained on {model.spec}{words}, not {dataset.spec}"
        )
    evaluate = evaluator(model.task, Devices(parallel))
    measured = evaluate(model.variables, config.hparams, dataset.splits)
    return {split: means for split, (_, means) in measured.items()}


@dataclasses.dataclass(frozen=True)
class Model:
    """A finished run's model.

    Attributes:
        task: what it learned; has the module.
        variables: the module's.
        spec: of the data that it learned from.
        result: the content of result.json.
        path: of the run directory.
    """

    task: Task
    variables: Variables
    spec: data.Spec
    result: Mapping[str, Any]
    path: Path


def load_model(experiment: Experiment, config: Config, places: Places) -> Model:
    """The model of the finished run in ``places.workdir``.

    Raises:
        UserError: there is no finished run, or one of its files is damaged.
    """
    run = RunDirectory(places.workdir)
    result, arrays = run.result(), run.model()
    stored = result["data"]
    try:
        shape, classes, examples = (stored[key] for key in ("shape", "classes", "examples"))
        spec = data.Spec(tuple(shape), tuple(classes), examples, run.words())
    except (KeyError, TypeError) as error:
        raise UserError(f"{run.path / 'result.json'}: is damaged in 'data' ({error})") from None
    task = experiment.task(config, spec)
    inputs = jax.ShapeDtypeStruct((1, *spec.shape), np.int32 if spec.vocabulary else np.uint8)
    like = jax.eval_shape(functools.partial(draw, task), jax.random.key(0), inputs)
    try:
        return Model(task, nested(arrays, like), spec, result, run.path)
    except ValueError as error:
        raise UserError(
            f"{run.path}: its model is not that of this configuration ({error})"
        ) from None
