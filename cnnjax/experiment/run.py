"""Train or evaluate: what ``launch.py`` does, to be called from anywhere.

An experiment is a module with ``Config`` (a frozen dataclass), ``plan(config) -> Plan`` and
``task(config, spec) -> Task``; its config has the fields ``dataset``, ``seed`` and ``hparams``, and
for cross-validation ``fold``, ``folds`` and ``fold_seed``.  The task is the same for every seed,
fold and value of a number in ``hparams``: a sweep trains them all by one program.

It may have ``ABLATIONS``, named sweeps; ``rows(config, labels, splits)``, a division of all
examples of its own (:data:`cnnjax.data.Division`) instead of cross-validation;
``initial(config, spec, data_dir)``, values that parameters start from (:class:`Task`), which it may
keep in the data directory; ``remarks(config, dataset)``, lines to be said before training; and
``report(rows, folder)``, which adds files to the report of a sweep and returns them.
"""

import contextlib
import dataclasses
import hashlib
import json
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load_file, save_file

from cnnjax import config as configuration
from cnnjax import data
from cnnjax.data.dataset import checksum
from cnnjax.errors import UserError
from cnnjax.experiment.observers import RunObserver, Signals
from cnnjax.experiment.run_directory import RunDirectory, source_revision, versions
from cnnjax.runtime import processes
from cnnjax.runtime.durable import write_json, write_text
from cnnjax.training import Devices, Task, evaluator
from cnnjax.training.checkpoints import Checkpoints
from cnnjax.training.loop import Fitted, Interrupted, Plan, Programs, fit
from cnnjax.transfer.precomputed import Precomputed, precompute


@dataclasses.dataclass(frozen=True)
class Places:
    """Where a run reads and writes, and on what it runs; nothing that the result depends on.

    Attributes:
        workdir: the run directory.
        data_dir, manual_dir: as in :func:`cnnjax.data.load`.
        parallel: as in :class:`cnnjax.training.Devices`.
        checkpoint_seconds: time between checkpoints.
    """

    workdir: Path
    data_dir: Path | None = None
    manual_dir: Path | None = None
    parallel: str = "auto"
    checkpoint_seconds: float = 30.0


class Stopped(Exception):
    """Training was stopped by a signal and saved; ``exit_code`` is the conventional one."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


def train(
    name: str,
    experiment: ModuleType,
    config: Any,
    places: Places,
    argv: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train from the start, or from where the run in ``places.workdir`` ended.

    Of several processes (:mod:`cnnjax.runtime.processes`), all call it; only the leader needs
    ``workdir``.

    Args:
        name: of the experiment.
        experiment: its module.
        config: its configuration.
        places: where.
        argv: recorded in config.json.
        say: receives lines for the user.

    Returns:
        The content of result.json.

    Raises:
        UserError: anything that is wrong with data, configuration or run directory.
        Stopped: a signal arrived; the run was saved.
    """
    devices = Devices(places.parallel)
    run = RunDirectory(places.workdir)
    if not processes.is_leader():
        say = lambda line: None
    processes.from_leader(lambda: run.check(name, config))
    if not processes.from_leader(run.finished):
        dataset = processes.leader_first(lambda: load_data(experiment, config, places))
        processes.require_same(
            experiment=name,
            config=configuration.to_dict(config),
            data=dataset.provenance["sha256"],
        )
        say(dataset.describe())
        for line in getattr(experiment, "remarks", lambda config, dataset: ())(config, dataset):
            say(line)
        task = task_to_train(experiment, config, dataset.spec, places)
        provenance = {
            "data": {"sha256": dataset.provenance["sha256"]},
            "devices": devices.describe(),
            **_checksum_of(task.initial),
            "source": source_revision(),
            "versions": versions(),
        }
        with contextlib.ExitStack() as opened:
            holding = run.open(name, config, argv, provenance, say)
            processes.from_leader(lambda: opened.enter_context(holding))
            # Another run may have finished it meanwhile.
            if not processes.from_leader(run.finished):
                plan = experiment.plan(config)
                # Processes of several machines would have to find the same files.
                kept_in = None if processes.several() else data.data_folder(places.data_dir)
                once = precompute(task, dataset.splits, devices, kept_in)
                programs = Programs(once.task, devices)
                fitted = _fit(run, once, dataset.spec, config.hparams, plan, programs, places, say)
                figures = _figures(run, once, config.hparams, fitted, programs)
                result = {
                    "experiment": name,
                    **figures,
                    "config": configuration.to_dict(config),
                    **provenance,
                    "data": {**dataclasses.asdict(dataset.spec), **dataset.provenance},
                }
                vocabulary = result["data"].pop("vocabulary")
                processes.from_leader(lambda: _finish(run, result, vocabulary))
                return processes.from_leader(lambda: run.read("result.json"))
    say(f"{run.path}: this run is finished already")
    return processes.from_leader(lambda: run.read("result.json"))


def task_to_train(experiment: ModuleType, config: Any, spec: data.Spec, places: Places) -> Task:
    """The experiment's task, with the values that it lets parameters start from.

    Raises:
        UserError: what the experiment finds wrong.
    """
    task = experiment.task(config, spec)
    if not hasattr(experiment, "initial"):
        return task
    initial = experiment.initial(config, spec, data.data_folder(places.data_dir))
    return dataclasses.replace(task, initial=initial)


def load_data(experiment: ModuleType, config: Any, places: Places) -> data.DataSet:
    """The data set that ``config`` names, divided as it says.

    Raises:
        UserError: as :func:`cnnjax.data.load` and :func:`cnnjax.data.divide`.
    """
    dataset = data.load(config.dataset, places.data_dir, places.manual_dir)
    return data.divide(dataset, config, division_of(experiment))


def division_of(experiment: ModuleType) -> data.Division:
    """How the configurations of ``experiment`` divide a data set."""
    return getattr(experiment, "rows", data.cross_validation)


def evaluate(experiment: ModuleType, config: Any, places: Places) -> dict[str, dict[str, float]]:
    """Measure a finished run's model again, on every split.

    Returns:
        split -> {"accuracy", "loss", "count"}.

    Raises:
        UserError: the run is not finished or its model is damaged.
    """
    dataset = load_data(experiment, config, places)
    params, spec, _ = load_model(RunDirectory(places.workdir))
    if spec != dataset.spec:
        words = " with other words" * (spec.vocabulary != dataset.vocabulary)
        raise UserError(
            f"{places.workdir}: the model was trained on {spec}{words}, not {dataset.spec}"
        )
    task = experiment.task(config, spec)
    found = evaluator(task, Devices(places.parallel))(params, config.hparams, dataset.splits)
    return {split: means for split, (_, means) in found.items()}


def load_model(run: RunDirectory) -> tuple[Any, data.Spec, dict[str, Any]]:
    """A finished run's parameters, what they were trained on, and the result.

    Raises:
        UserError: there is no finished run, or its model file is damaged.
    """
    if not run.finished():
        raise UserError(f"{run.path}: holds no finished run; train it first (--mode=train)")
    result = run.read("result.json")
    path = run.path / "model.safetensors"
    _require_whole(path, result["model_sha256"])
    params = unflatten_dict(load_file(path), sep="/")
    stored = result["data"]
    vocabulary = ()
    if "vocabulary_sha256" in stored:
        _require_whole(run.vocabulary, stored["vocabulary_sha256"])
        vocabulary = tuple(run.vocabulary.read_text(encoding="utf-8").splitlines())
    try:
        spec = data.Spec(
            tuple(stored["shape"]), tuple(stored["classes"]), stored["examples"], vocabulary
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"{run.path / 'result.json'}: is damaged in 'data' ({error})") from None
    return params, spec, result


def _require_whole(path: Path, digest: str) -> None:
    if not path.exists() or _sha256(path) != digest:
        raise UserError(f"{path}: is missing or damaged (its checksum is not that of the result)")


def _checksum_of(initial: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What a result says of the values that parameters started from, if there are any."""
    if not initial:
        return {}
    return {"initial": {"sha256": checksum(*(initial[path] for path in sorted(initial)))}}


def _fit(
    run: RunDirectory,
    once: Precomputed,
    spec: data.Spec,
    hparams: Any,
    plan: Plan,
    programs: Programs,
    places: Places,
    say: Callable[[str], None],
) -> Fitted:
    """:func:`fit`, with the run's checkpoints, observed, and stopped by signals."""
    checkpoints = Checkpoints(
        run.checkpoints,
        every_seconds=places.checkpoint_seconds,
        warn=lambda message: say(f"warning: {message}"),
    )
    say(f"training on {programs.devices.describe()}, in {run.path}")
    with Signals() as signals:
        observer = RunObserver(run, plan.epochs, spec.examples, signals, say)
        try:
            return fit(
                once.task,
                once.splits,
                hparams,
                plan,
                programs=programs,
                checkpoints=checkpoints,
                observer=observer,
            )
        except Interrupted as stop:
            received = signal.Signals(*processes.largest(signals.received or 0))
            raise Stopped(
                f"{received.name}: saved at step {stop.step:,} in {run.checkpoints}; "
                f"the same command goes on from there",
                128 + received,
            ) from None
        finally:
            observer.close()


def _figures(
    run: RunDirectory,
    once: Precomputed,
    hparams: Any,
    fitted: Fitted,
    programs: Programs,
) -> dict[str, Any]:
    """Measure the selected parameters on every split; keep them and the test predictions."""
    measured = programs.evaluate(fitted.params, hparams, once.splits)
    params = once.whole(jax.device_get(fitted.params))
    answers = {"labels": once.splits["test"]["labels"], "logits": measured["test"][0]}
    processes.from_leader(lambda: _save_outcome(run, params, answers))
    return {
        **{split: measured[split][1] for split in ("test", "validation", "train")},
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "epochs": fitted.epochs,
        "selected_epoch": fitted.selected_epoch,
        "seconds": round(fitted.seconds, 2),
    }


def _finish(run: RunDirectory, result: dict[str, Any], vocabulary: Sequence[str]) -> None:
    """Write result.json, and before it the vocabulary, where there is one, into its own file."""
    if vocabulary:
        write_text(run.vocabulary, "".join(f"{word}\n" for word in vocabulary))
        result["data"]["vocabulary_sha256"] = _sha256(run.vocabulary)
    digest = _sha256(run.path / "model.safetensors")
    write_json(run.path / "result.json", {**result, "model_sha256": digest})


def _save_outcome(run: RunDirectory, params: Any, answers: dict[str, np.ndarray]) -> None:
    np.savez(run.path / "predictions.npz", **answers)
    path = run.path / "model.safetensors"
    temporary = path.with_name("model.safetensors.tmp")
    flat = {name: np.asarray(leaf) for name, leaf in flatten_dict(params, sep="/").items()}
    save_file(flat, temporary, metadata={"config": json.dumps(run.read("config.json")["config"])})
    temporary.replace(path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
