"""What ``--mode=predict`` prints: labels for a user's pictures or sentences."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from cnnjax import run
from cnnjax.errors import UserError
from cnnjax.run_directory import RunDirectory
from cnnjax.sentence_prediction import classify_sentences, read_sentences


def print_answers(
    experiment: ModuleType,
    config: Any,
    places: run.Places,
    inputs: Sequence[str],
    words: Sequence[str],
    explain: bool,
) -> None:
    """Label ``inputs`` by the finished run's model, one line each.

    Args:
        experiment, config, places: of the run.
        inputs: files; where the model is one of sentences, text files or "-".
        words: what else stands on the command line: sentences.
        explain: print the three n-grams that decided, and what they add to the class's logit.

    Raises:
        UserError: nothing to label, or what the model cannot take.
    """
    _, spec, _ = run.load_model(RunDirectory(places.workdir))
    if spec.vocabulary:
        _sentences(experiment, config, places, [*words, *read_sentences(inputs)], explain)
        return
    if words:
        raise UserError(f"{words[0]!r} is no flag; flags are written --name=value")
    if explain:
        raise UserError("--explain: finds n-grams of sentences; this is a model of images")
    if not inputs:
        raise UserError("--mode=predict needs --inputs=FILE[,FILE...]: images, .npy or .npz")
    for picture, classes in run.classify(experiment, config, places, list(map(Path, inputs))):
        print(f"{picture}: {_ranked(classes)}")


def _sentences(
    experiment: ModuleType,
    config: Any,
    places: run.Places,
    sentences: Sequence[str],
    explain: bool,
) -> None:
    if not sentences:
        raise UserError(
            "--mode=predict needs sentences: in quotation marks, or --inputs=FILE, one a line, or "
            "--inputs=- for standard input"
        )
    for answer in classify_sentences(experiment, config, places, sentences, explain):
        unknown = f" (unknown: {', '.join(answer.unknown)})" if answer.unknown else ""
        print(f"{answer.sentence}: {_ranked(answer.classes)}{unknown}")
        for ngram, share in answer.ngrams:
            print(f"  {share:+7.2f}  {ngram}")


def _ranked(classes: Sequence[tuple[str, float]]) -> str:
    best, *others = [f"{label} ({probability:.1%})" for label, probability in classes[:3]]
    return f"{best}, then {', '.join(others)}"
