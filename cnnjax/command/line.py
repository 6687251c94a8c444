"""Flags -> configuration -> run, with messages a newcomer understands."""

import functools
import importlib
import pkgutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags

from cnnjax import config as configuration
from cnnjax.command import sweep as sweeps
from cnnjax.errors import UserError, reason, system_reason
from cnnjax.experiment.run_directory import RunDirectory, command, default_path
from cnnjax.runtime import processes

MODES = ("train", "evaluate", "predict", "report")
_CONFIG = "config."


def main(experiments: ModuleType, argv: Sequence[str]) -> int:
    """Run the command line ``argv`` (without the program's name); return the exit status.

    Args:
        experiments: the package whose modules are the experiments.
        argv: the arguments.
    """
    try:
        return _run(experiments, list(argv))
    except UserError as error:
        _complain(f"error: {error}")
        return 2
    except OSError as error:  # a full disk, a folder without permission
        _complain(f"error: {system_reason(error)}")
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _run(experiments: ModuleType, argv: list[str]) -> int:
    name = _value_of("experiment", argv)
    wants_help = any(argument in ("--help", "-help", "-h") for argument in argv)
    if name is None:
        if argv and not wants_help:
            _refuse(_parse(_define(None), argv))  # a misspelt flag is the likelier mistake
            raise UserError(f"--experiment is missing; valid: {', '.join(_names(experiments))}")
        print(_overview(experiments))
        return 0
    experiment = load_experiment(experiments, name)
    default = experiment.Config()
    values = _define(default)
    if wants_help:
        print(_help(name, experiment, values))
        return 0
    words = _parse(values, argv)
    if values.mode != "predict":
        _refuse(words)
    changes = {
        flag.removeprefix(_CONFIG): values[flag].value
        for flag in values
        if flag.startswith(_CONFIG) and values[flag].present
    }
    mode = values.mode
    if mode != "train" and values.coordinator:
        raise UserError(f"--coordinator: is for --mode=train; --mode={mode} needs one process")
    if values.sweep and values.coordinator:
        raise UserError("--coordinator: is for one training; a sweep on a cluster has --engine=ray")
    config = configuration.override(default, changes)
    if values.dry_run and not values.sweep:
        raise UserError("--dry_run: is for a sweep; name one with --sweep")
    if values.sweep:
        if mode not in ("train", "report"):
            raise UserError(f"--mode={mode}: of a sweep there are train and report")
        places = _places(values, name, config)
        return sweeps.run(values, name, experiment, config, places, argv, prepare_process)
    if mode == "report" and sweeps.is_sweep(values.workdir):
        return sweeps.report_again(Path(values.workdir), name, experiment)
    if mode != "train" and values.workdir:
        config = _config_of_run(Path(values.workdir), name, config, changes)
    places = _places(values, name, config)
    processes.join(values.coordinator, values.num_processes, values.process_id)
    prepare_process(places)
    if mode == "report":
        return _report(places)
    if mode == "train":
        return _train(name, experiment, config, places, argv)
    if mode == "evaluate":
        return _evaluate(experiment, config, places)
    from cnnjax.command.predict import print_answers

    print_answers(experiment, config, places, values.inputs, words, values.explain)
    return 0


def load_experiment(experiments: ModuleType, name: str) -> ModuleType:
    """The module of experiment ``name``.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    if name not in _names(experiments):
        raise UserError(f"there is no --experiment={name}; valid: {', '.join(_names(experiments))}")
    return importlib.import_module(f"{experiments.__name__}.{name}")


def _names(experiments: ModuleType) -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(experiments.__path__))


def _value_of(name: str, argv: Sequence[str]) -> str | None:
    """The value of one flag, before the others are known."""
    for argument, following in zip(argv, [*argv[1:], ""], strict=False):
        flag, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and flag == name:
            return value if equals else following
    return None


def _define(config: Any) -> flags.FlagValues:
    """The flags: our own set, free of those that imported libraries define."""
    values = flags.FlagValues()
    values.set_gnu_getopt()  # flags may follow a sentence
    own = {"flag_values": values}
    flags.DEFINE_string("experiment", None, "which experiment", **own)
    flags.DEFINE_enum(
        "mode",
        "train",
        MODES,
        "train (or go on), evaluate, predict for --inputs (or sentences in quotation marks), or "
        "report: make tables and pictures again",
        **own,
    )
    flags.DEFINE_string("workdir", None, "run directory (default: runs/EXPERIMENT-DIGEST)", **own)
    flags.DEFINE_string("data_dir", None, "prepared data sets (default: TFDS's own)", **own)
    flags.DEFINE_string("manual_dir", None, "data files that you have, as MNIST's four", **own)
    flags.DEFINE_list(
        "inputs",
        [],
        "predict: image, .npy or .npz files or folders of images, by commas; of sentences text "
        "files with one a line, or - for standard input",
        **own,
    )
    flags.DEFINE_bool("explain", False, "predict: the three n-grams that decided", **own)
    flags.DEFINE_string(
        "parallel", "auto", "auto (every device), single, sharded, shard_map or pmap", **own
    )
    flags.DEFINE_float(
        "checkpoint_seconds", 30.0, "time between checkpoints", lower_bound=0.0, **own
    )
    flags.DEFINE_string(
        "coordinator",
        None,
        "several processes: HOST:PORT of process 0, or auto (SLURM, TPU)",
        **own,
    )
    flags.DEFINE_integer("num_processes", None, "several processes: how many", **own)
    flags.DEFINE_integer("process_id", None, "several processes: which this is, from 0", **own)
    sweeps.define_flags(values)
    for path, setting in configuration.settings(config).items() if config is not None else ():
        text = f"{setting.metadata['help']}; {setting.expected}"
        flags.DEFINE_string(_CONFIG + path, str(setting.value), text, **own)
    return values


def _parse(values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    """Give the flags their values; return what is no flag."""
    try:
        return values(["launch.py", *argv])[1:]
    except flags.UnrecognizedFlagError as error:
        flag = error.flagname
        if flag.startswith(_CONFIG):
            valid = [name.removeprefix(_CONFIG) for name in values if name.startswith(_CONFIG)]
            raise UserError(
                configuration.unknown_field(flag.removeprefix(_CONFIG), valid)
                if valid
                else "--experiment is missing, so --config has no fields yet"
            ) from None
        valid = ", ".join(f"--{name}" for name in values if not name.startswith(_CONFIG))
        raise UserError(f"there is no flag --{flag}; valid: {valid}, --config.FIELD") from None
    except flags.Error as error:
        raise UserError(reason(error)) from None


def _refuse(words: Sequence[str]) -> None:
    if words:
        raise UserError(f"{words[0]!r} is no flag; flags are written --name=value")


def _config_of_run(path: Path, name: str, config: Any, changes: dict[str, Any]) -> Any:
    """The configuration stored in a run directory; flags may repeat but not change it."""
    stored = RunDirectory(path).read("config.json")
    if stored["experiment"] != name:
        raise UserError(f"--workdir={path}: holds a run of --experiment={stored['experiment']}")
    ours = configuration.override(type(config)(), configuration.flatten(stored["config"]))
    changed = configuration.differences(configuration.override(ours, changes), stored["config"])
    if changed:
        raise UserError(f"--workdir={path}: holds another configuration: {'; '.join(changed)}")
    return ours


def _places(values: flags.FlagValues, name: str, config: Any) -> Any:
    from cnnjax.experiment.run import Places

    return Places(
        workdir=Path(values.workdir) if values.workdir else default_path(name, config),
        data_dir=values.data_dir,
        manual_dir=values.manual_dir,
        parallel=values.parallel,
        checkpoint_seconds=values.checkpoint_seconds,
    )


def prepare_process(places: Any) -> None:
    """What concerns the whole process, which here is ours."""
    from cnnjax import data
    from cnnjax.runtime.allocator import keep_memory
    from cnnjax.runtime.compilation import cache_programs, run_where_called

    keep_memory()
    run_where_called()
    cache_programs(data.data_folder(places.data_dir) / "compiled")


def _train(name: str, experiment: ModuleType, config: Any, places: Any, argv: Sequence[str]) -> int:
    from cnnjax.experiment import run
    from cnnjax.reports.figures import write_report

    try:
        result = run.train(
            name, experiment, config, places, argv, say=functools.partial(print, flush=True)
        )
    except run.Stopped as stop:
        _complain(str(stop))
        return stop.exit_code
    directory = RunDirectory(places.workdir)
    processes.from_leader(lambda: [path.name for path in write_report(directory)])
    if not processes.is_leader():
        return 0
    test = result["test"]
    again = [f"--experiment={name}", f"--workdir={places.workdir}", "--mode=predict"]
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


def _evaluate(experiment: ModuleType, config: Any, places: Any) -> int:
    from cnnjax.experiment import run

    for split, means in run.evaluate(experiment, config, places).items():
        print(
            f"{split:10} accuracy {means['accuracy']:.4f}  loss {means['loss']:.4f}  "
            f"{means['count']:,} examples"
        )
    return 0


def _report(places: Any) -> int:
    from cnnjax.reports.figures import write_report

    print("\n".join(map(str, write_report(RunDirectory(places.workdir)))))
    return 0


def _overview(experiments: ModuleType) -> str:
    lines = [
        "cnnjax: the convolutional networks of the primary sources, in JAX.",
        "",
        "experiments:",
    ]
    for name in _names(experiments):
        lines.append(f"  {name:12} {load_experiment(experiments, name).SUMMARY}")
    first = command(["--experiment=" + _names(experiments)[0]])
    return "\n".join([*lines, "", f"try first:  {first}", f"its flags:  {first} --help"])


def _help(name: str, experiment: ModuleType, values: flags.FlagValues) -> str:
    lines = [experiment.__doc__.strip(), "", "flags (--name=value):"]
    for flag in values:
        if not flag.startswith(_CONFIG) and flag != "experiment":
            lines += _entry(flag, values[flag])
    lines += ["", "the experiment's configuration:"]
    for path in configuration.settings(experiment.Config()):
        lines += _entry(_CONFIG + path, values[_CONFIG + path])
    return "\n".join(lines)


def _entry(name: str, flag: flags.Flag) -> list[str]:
    default = "" if flag.default in (None, []) else f" [{flag.default}]"
    text = textwrap.wrap(flag.help + default, 60)
    return [f"  --{name:30} {text[0]}", *(" " * 35 + line for line in text[1:])]
