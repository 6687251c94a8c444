"""Flags -> configuration -> run, with messages a newcomer understands."""

import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags

from cnnjax import config as configuration
from cnnjax.command import options, sweep
from cnnjax.config import Config
from cnnjax.errors import ArgumentError, UserError, system_reason
from cnnjax.experiment import record
from cnnjax.experiment.places import Execution, Places
from cnnjax.experiment.provenance import command
from cnnjax.experiment.record import Experiment
from cnnjax.experiment.run_directory import RunDirectory, default_path
from cnnjax.runtime import processes


def main(experiments: ModuleType, argv: Sequence[str]) -> int:
    """Run the command line ``argv`` (without the program's name); return the exit status.

    Args:
        experiments: the package whose modules are the experiments.
        argv: the arguments.
    """
    try:
        return _run(experiments, list(argv))
    except UserError as error:
        flag = "--" if isinstance(error, ArgumentError) else ""
        _complain(f"error: {flag}{error}")
        return 2
    except OSError as error:  # a full disk, a folder without permission
        _complain(f"error: {system_reason(error)}")
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _run(experiments: ModuleType, argv: list[str]) -> int:
    name = options.value_of("experiment", argv)
    wants_help = any(argument in ("--help", "-help", "-h") for argument in argv)
    if name is None:
        if argv and not wants_help:
            # A misspelt flag is the likelier mistake.
            options.refuse(options.parse(options.define(None), argv))
            valid = ", ".join(record.names(experiments))
            raise UserError(f"--experiment is missing; valid: {valid}")
        print(options.overview(experiments))
        return 0
    experiment = record.load(experiments, name)
    default = experiment.config()
    values = options.define(default)
    if wants_help:
        print(options.manual(experiment, values))
        return 0
    words = options.parse(values, argv)
    if values.mode != "predict":
        options.refuse(words)
    _refuse_contradictions(values)
    changes = options.changes(values)
    config = configuration.override(default, changes)
    if values.sweep:
        places = _places(values, experiment, config)
        return sweep.run(values, experiment, config, changes, places, argv, prepare_process)
    if values.mode == "report" and sweep.is_sweep(values.workdir):
        return sweep.report_again(Path(values.workdir), experiment)
    if values.mode != "train" and values.workdir:
        config = _config_of_run(Path(values.workdir), experiment, config, changes)
    else:
        configuration.require_effect(config, changes)
    places = _places(values, experiment, config)
    processes.join(values.coordinator, values.num_processes, values.process_id)
    prepare_process(places)
    match values.mode:
        case "train":
            execution = Execution(values.parallel, values.checkpoint_seconds)
            return _train(experiment, config, places, execution, argv)
        case "evaluate":
            return _evaluate(experiment, config, places, values.parallel)
        case "report":
            return _report(places)
        case _:
            from cnnjax.command.predict import print_answers

            print_answers(experiment, config, places, values.inputs, words, values.explain)
            return 0


def _refuse_contradictions(values: flags.FlagValues) -> None:
    """Raise UserError if flags were given that do not go together."""
    mode = values.mode
    if mode != "train" and values.coordinator:
        raise UserError(f"--coordinator: is for --mode=train; --mode={mode} needs one process")
    if values.coordinator != "auto":
        three = {"coordinator=HOST:PORT": "coordinator", "num_processes=N": "num_processes"}
        three |= {"process_id=I": "process_id"}
        missing = [f"--{flag}" for flag, name in three.items() if values[name].value is None]
        if 0 < len(missing) < len(three):
            raise UserError(f"{' and '.join(missing)}: missing; the three flags go together")
    if values.sweep and values.coordinator:
        raise UserError("--coordinator: is for one training; a sweep on a cluster has --engine=ray")
    if values.dry_run and not values.sweep:
        raise UserError("--dry_run: is for a sweep; name one with --sweep")
    if values.sweep and mode not in ("train", "report"):
        raise UserError(f"--mode={mode}: of a sweep there are train and report")


def _config_of_run(
    path: Path, experiment: Experiment, config: Config, changes: Mapping[str, Any]
) -> Config:
    """The configuration stored in a run directory; flags may repeat but not change it."""
    run = RunDirectory(path)
    stored = run.read("config.json")
    if stored["experiment"] != experiment.name:
        raise run.refused(f"holds a run of --experiment={stored['experiment']}")
    ours = configuration.override(type(config)(), configuration.flatten(stored["config"]))
    changed = configuration.differences(configuration.override(ours, changes), stored["config"])
    if changed:
        raise run.refused(f"holds another configuration: {'; '.join(changed)}")
    return ours


def _places(values: flags.FlagValues, experiment: Experiment, config: Config) -> Places:
    workdir = Path(values.workdir) if values.workdir else default_path(experiment.name, config)
    return Places(workdir, values.data_dir, values.manual_dir)


def prepare_process(places: Places) -> None:
    """What concerns the whole process, which here is ours."""
    from cnnjax import data
    from cnnjax.runtime.allocator import keep_memory
    from cnnjax.runtime.compilation import cache_programs, run_where_called

    keep_memory()
    run_where_called()
    cache_programs(data.data_folder(places.data_dir) / "compiled")


def _train(
    experiment: Experiment,
    config: Config,
    places: Places,
    execution: Execution,
    argv: Sequence[str],
) -> int:
    from cnnjax.experiment import run
    from cnnjax.reports.figures import write_report

    say = functools.partial(print, flush=True)
    try:
        result = run.train(experiment, config, places, execution, argv, say)
    except run.Stopped as stop:
        _complain(str(stop))
        return stop.exit_code
    directory = RunDirectory(places.workdir)
    processes.from_leader(lambda: [path.name for path in write_report(directory)])
    if not processes.is_leader():
        return 0
    test = result["test"]
    again = [f"--experiment={experiment.name}", f"--workdir={places.workdir}", "--mode=predict"]
    if directory.vocabulary.exists():
        again += ["--explain", "A sentence of yours."]
    else:
        again += ["--inputs=YOUR_IMAGE.png"]
    print(
        f"\ntest accuracy {test['accuracy']:.4f} "
        f"({round(test['accuracy'] * test['count']):,} of {test['count']:,}), "
        f"loss {test['loss']:.4f}\n"
        f"parameters of epoch {result['selected_epoch']} of {result['epochs']}, "
        f"{result['parameters']:,} in all, trained in {result['seconds']:.1f} s\n"
        f"figures    {directory.path / 'result.json'}\n"
        f"pictures   {directory.report}\n"
        f"model      {directory.path / 'model.safetensors'}\n"
        f"next       {command(again)}"
    )
    return 0


def _complain(message: str) -> None:
    """Of several processes, which share their errors, one says it."""
    if processes.is_leader():
        print(message, file=sys.stderr)


def _evaluate(experiment: Experiment, config: Config, places: Places, parallel: str) -> int:
    from cnnjax.experiment import run

    for split, means in run.evaluate(experiment, config, places, parallel).items():
        print(
            f"{split:10} accuracy {means['accuracy']:.4f}  loss {means['loss']:.4f}  "
            f"{means['count']:,} examples"
        )
    return 0


def _report(places: Places) -> int:
    from cnnjax.reports.figures import write_report

    print("\n".join(map(str, write_report(RunDirectory(places.workdir)))))
    return 0
