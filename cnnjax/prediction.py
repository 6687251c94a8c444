"""Labels for a user's pictures and sentences, by a finished run's model."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np

from cnnjax import run
from cnnjax.data import pictures, text
from cnnjax.data.text import files
from cnnjax.errors import UserError, reason
from cnnjax.models.evidence import NGram, deciding_ngrams
from cnnjax.run_directory import RunDirectory
from cnnjax.training import Devices, predict

STANDARD_INPUT = "-"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the model says about a sentence.

    Attributes:
        sentence: as it was given.
        classes: (class, probability) pairs, most probable first.
        unknown: its words that the vocabulary does not have.
        ngrams: the three that spoke most for the first class, and what they add to its logit;
            empty unless asked for.
    """

    sentence: str
    classes: list[tuple[str, float]]
    unknown: tuple[str, ...]
    ngrams: list[NGram]


def classify(
    experiment: ModuleType, config: Any, places: run.Places, inputs: Sequence[Path]
) -> list[tuple[str, list[tuple[str, float]]]]:
    """Class probabilities for a user's pictures, by a finished run's model.

    Args:
        experiment, config, places: of the run.
        inputs: image or array files.

    Returns:
        For every picture its name and its (class, probability) pairs, most probable first.

    Raises:
        UserError: the run is not finished, or a file is no suitable picture.
    """
    params, spec, _ = run.load_model(RunDirectory(places.workdir))
    task = experiment.task(config, spec)
    names, batches = [], []
    for path in inputs:
        batch = pictures.read(path, spec.shape)
        batches.append(batch)
        names += [str(path)] if len(batch) == 1 else [f"{path}[{i}]" for i in range(len(batch))]
    logits = predict(task, Devices("single"))(params, np.concatenate(batches))
    answers = []
    for name, probabilities in zip(names, np.asarray(jax.nn.softmax(logits)), strict=True):
        order = np.argsort(-probabilities)
        answers.append((name, [(spec.classes[k], float(probabilities[k])) for k in order]))
    return answers


def classify_sentences(
    experiment: ModuleType,
    config: Any,
    places: run.Places,
    sentences: Sequence[str],
    explain: bool = False,
) -> list[Answer]:
    """Class probabilities of sentences of any length.

    Args:
        experiment, config, places: of the run.
        sentences: N texts.
        explain: whether to find the n-grams that decided.

    Raises:
        UserError: the run is not finished or is no model of sentences, or there is nothing to
            explain because the model does not pool by the maximum.
    """
    params, spec, result = run.load_model(RunDirectory(places.workdir))
    if not spec.vocabulary:
        raise UserError(f"{places.workdir}: holds a model of images; give it files with --inputs")
    task = experiment.task(config, spec)
    if explain and getattr(task.model, "pooling", "max") != "max":
        raise UserError(
            f"--explain: finds the n-grams that win the maximum over time; this model's pooling is "
            f"{task.model.pooling}"
        )
    cleaning = result["data"]["cleaning"]
    ids = text.encode(sentences, spec.vocabulary, spec.shape[0], cleaning)
    logits = predict(task, Devices("single"))(params, ids)
    ngrams = _explain(task, params, ids, spec.vocabulary, logits) if explain else [[]] * len(ids)
    known, answers = set(spec.vocabulary), []
    for sentence, probabilities, why in zip(
        sentences, np.asarray(jax.nn.softmax(logits)), ngrams, strict=True
    ):
        order = np.argsort(-probabilities)
        words = text.tokens(sentence, cleaning)
        answers.append(
            Answer(
                sentence,
                [(spec.classes[k], float(probabilities[k])) for k in order],
                tuple(word for word in dict.fromkeys(words) if word not in known),
                why,
            )
        )
    return answers


def read_sentences(inputs: Sequence[str]) -> list[str]:
    """The sentences in text files, or ("-") standard input: one a line, UTF-8.

    Raises:
        UserError: a file that is missing, has no sentence or a line that is not UTF-8.
    """
    sentences = []
    for place in inputs:
        if place == STANDARD_INPUT:
            lines = files.decode("standard input", sys.stdin.buffer.read(), "utf-8-sig").split("\n")
        else:
            try:
                lines = files.lines(Path(place).expanduser())
            except OSError as error:
                raise UserError(f"--inputs={place}: {error.strerror or reason(error)}") from None
            except RuntimeError as error:  # no such home
                raise UserError(f"--inputs={place}: {reason(error)}") from None
        found = [line.strip() for line in lines if line.strip()]
        if not found:
            raise UserError(f"--inputs={place}: holds no sentence; one a line is expected")
        sentences += found
    return sentences


def _explain(
    task: Any, params: Any, ids: np.ndarray, vocabulary: Sequence[str], logits: np.ndarray
) -> list[list[NGram]]:
    features_of = jax.jit(
        lambda params, inputs: task.model.apply({"params": params}, task.prepare(inputs))[1]
    )
    answers = []
    for start in range(0, len(ids), 512):
        rows = slice(start, start + 512)
        features = jax.device_get(features_of(params, ids[rows]))
        # jit returns dicts in the order of their keys; the model names the windows' own.
        features["winners"] = {w: features["winners"][w] for w in task.model.windows}
        kernel = np.asarray(params["output"]["kernel"])
        classes = np.argmax(logits[rows], axis=1)
        answers += deciding_ngrams(ids[rows], vocabulary, features, kernel, classes)
    return answers
