"""The flags of the command line: what there is, what was given, and how it is explained."""

import textwrap
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from absl import flags

from cnnjax import config as configuration
from cnnjax.command import sweep
from cnnjax.errors import UserError, reason
from cnnjax.experiment import record
from cnnjax.experiment.provenance import command
from cnnjax.experiment.record import Experiment

MODES = ("train", "evaluate", "predict", "report")
CONFIG = "config."
"""Before the names of flags that change the experiment's configuration."""


def value_of(name: str, argv: Sequence[str]) -> str | None:
    """The value of one flag, before the others are known."""
    for argument, following in zip(argv, [*argv[1:], ""], strict=False):
        flag, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and flag == name:
            return value if equals else following
    return None


def define(config: configuration.Config | None) -> flags.FlagValues:
    """The flags: our own set, free of those that imported libraries define."""
    values = flags.FlagValues()
    values.set_gnu_getopt()  # flags may follow a sentence
    own: Any = {"flag_values": values}
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
    sweep.define_flags(values)
    for path, setting in configuration.settings(config).items() if config is not None else ():
        flags.DEFINE_string(CONFIG + path, str(setting.value), _explained(setting), **own)
    return values


def parse(values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    """Give the flags their values; return what is no flag.

    Raises:
        UserError: a flag that does not exist, or a value that it cannot have.
    """
    try:
        return values(["launch.py", *argv])[1:]
    except flags.UnrecognizedFlagError as error:
        flag = error.flagname
        if flag.startswith(CONFIG):
            valid = [name.removeprefix(CONFIG) for name in values if name.startswith(CONFIG)]
            raise UserError(
                configuration.unknown_field(flag.removeprefix(CONFIG), valid)
                if valid
                else "--experiment is missing, so --config has no fields yet"
            ) from None
        valid = ", ".join(f"--{name}" for name in values if not name.startswith(CONFIG))
        raise UserError(f"there is no flag --{flag}; valid: {valid}, --config.FIELD") from None
    except flags.Error as error:
        raise UserError(reason(error)) from None


def changes(values: flags.FlagValues) -> dict[str, Any]:
    """What the flags change of the configuration: dotted path -> text."""
    given = (flag for flag in values if flag.startswith(CONFIG) and values[flag].present)
    return {flag.removeprefix(CONFIG): values[flag].value for flag in given}


def refuse(words: Sequence[str]) -> None:
    """Raise UserError if anything on the command line was no flag."""
    if words:
        raise UserError(f"{words[0]!r} is no flag; flags are written --name=value")


def overview(package: ModuleType) -> str:
    """The experiments there are, and what to type first.  A file that is not finished is said."""
    lines = [
        "cnnjax: the convolutional networks of the primary sources, in JAX.",
        "",
        "experiments:",
    ]
    first = None
    for name in record.names(package):
        try:
            summary = record.load(package, name).summary
            first = first or command([f"--experiment={name}"])
        except UserError as error:
            summary = f"cannot be used: {error}"
        lines.append(f"  {name:12} {summary}")
    return "\n".join([*lines, "", f"try first:  {first}", f"its flags:  {first} --help"])


def manual(experiment: Experiment, values: flags.FlagValues) -> str:
    """The help of an experiment: what it is, all flags, and its configuration."""
    lines = [experiment.details, "", "flags (--name=value):"]
    for flag in values:
        if not flag.startswith(CONFIG) and flag != "experiment":
            lines += _entry(flag, values[flag])
    lines += ["", "the experiment's configuration:"]
    for path in configuration.settings(experiment.config()):
        lines += _entry(CONFIG + path, values[CONFIG + path])
    return "\n".join(lines)


def _explained(setting: configuration.Setting) -> str:
    """A setting's help, what its values may be, and on which choices it depends."""
    text = f"{setting.metadata['help']}; {setting.expected}"
    for other, table in setting.metadata.get("follows", {}).items():
        for choice, default in table.items():
            text += f"; {configuration.to_text(default)} by default with {other}={choice}"
    only = setting.metadata.get("only", {})
    conditions = [
        f"{other} {'given' if values is configuration.GIVEN else _alternatives(values)}"
        for other, values in only.items()
    ]
    return text + (f"; only with {', '.join(conditions)}" if conditions else "")


def _alternatives(values: Iterable[Any]) -> str:
    return " or ".join(map(configuration.to_text, values))


def _entry(name: str, flag: flags.Flag) -> list[str]:
    default = "" if flag.default in (None, []) else f" [{flag.default}]"
    text = textwrap.wrap(flag.help + default, 60)
    return [f"  --{name:30} {text[0]}", *(" " * 35 + line for line in text[1:])]
