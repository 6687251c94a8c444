"""What ``--mode=predict`` prints: labels for a user's pictures or sentences."""

import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from cnnjax.config import Config
from cnnjax.errors import UserError
from cnnjax.experiment.places import Places
from cnnjax.experiment.prediction import (
    classify,
    classify_sentences,
    ranked,
    read_sentences,
)
from cnnjax.experiment.record import Experiment
from cnnjax.experiment.run import Model, load_model
from cnnjax.experiment.run_directory import RunDirectory


def print_answers(
    experiment: Experiment,
    config: Config,
    places: Places,
    inputs: Sequence[str],
    words: Sequence[str],
    explain: bool,
) -> None:
    """Label ``inputs`` by the finished run's model, one line each; of pictures, with a report.

    Args:
        experiment: that was run.
        config: its configuration.
        places: the folders to read from and to write to.
        inputs: files, or folders of images; where the model is one of sentences, text files or "-".
        words: what else stands on the command line: sentences.
        explain: print the three n-grams that decided, and what they add to the class's logit.

    Raises:
        UserError: nothing to label, or what the model cannot take.
    """
    if not inputs and not words:
        raise UserError(
            "--mode=predict needs --inputs=FILE[,FILE...] (images, folders of them, .npy or .npz; "
            "of sentences text files with one a line, or - for standard input), or sentences in "
            "quotation marks"
        )
    model = load_model(experiment, config, places)
    if model.spec.vocabulary:
        _sentences(model, [*words, *read_sentences(inputs)], explain)
        return
    if words:
        raise UserError(f"{words[0]!r} is no flag; flags are written --name=value")
    if explain:
        raise UserError("--explain: finds n-grams of sentences; this is a model of images")
    _pictures(model, list(map(Path, inputs)))


def _pictures(model: Model, inputs: Sequence[Path]) -> None:
    """A line each; a table and a contact sheet of them in the run's report."""
    from cnnjax.reports import contact_sheet

    classes, labelled = model.spec.classes, []
    warn = functools.partial(print, file=sys.stderr)
    for one in classify(model, inputs, warn):
        print(f"{one.name}: {_ranked(ranked(classes, one.probabilities))}")
        shown = len(labelled) < contact_sheet.MOST
        labelled.append(one if shown else dataclasses.replace(one, seen=None))
    if not labelled:
        raise UserError("--inputs: not one of these pictures can be read")
    for path in contact_sheet.write(RunDirectory(model.path).report, classes, labelled):
        print(path, file=sys.stderr)


def _sentences(model: Model, sentences: Sequence[str], explain: bool) -> None:
    for answer in classify_sentences(model, sentences, explain):
        unknown = f" (unknown: {', '.join(answer.unknown)})" if answer.unknown else ""
        print(f"{answer.sentence}: {_ranked(answer.classes)}{unknown}")
        for ngram, share in answer.ngrams:
            print(f"  {share:+7.2f}  {ngram}")


def _ranked(classes: Sequence[tuple[str, float]]) -> str:
    best, *others = [f"{label} ({probability:.1%})" for label, probability in classes[:3]]
    return f"{best}, then {', '.join(others)}"
