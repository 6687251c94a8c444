"""Labels for a user's pictures and sentences, by a finished run's model."""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from cnnjax.data import pictures, text
from cnnjax.data.images.folders import listed
from cnnjax.data.images.image_files import threads
from cnnjax.data.text import readers
from cnnjax.errors import ArgumentError, UserError, reason
from cnnjax.experiment.run import Model
from cnnjax.models.evidence import NGram, deciding_ngrams
from cnnjax.training import Devices, predict
from cnnjax.training.calling import apply

STANDARD_INPUT = "-"


_FILES_AT_ONCE = 256  # are in memory


@dataclasses.dataclass(frozen=True)
class Labelled:
    """What the model says about a picture.

    Attributes:
        name: of its file, and of its place in that where it is an array.
        seen: what the network sees of it, [H, W, C]; None where that is not kept.
        probabilities: float32[K].
    """

    name: str
    seen: np.ndarray | None
    probabilities: np.ndarray


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
    model: Model,
    inputs: Sequence[Path],
    warn: Callable[[str], None] = lambda line: None,
) -> Iterator[Labelled]:
    """Class probabilities for a user's pictures, by a finished run's model.

    They are seen as the pictures of the data set that it was trained on.

    Args:
        model: of a finished run.
        inputs: image or array files, or folders of images.
        warn: is told of a file in a folder that cannot be read, which is skipped.

    Yields:
        Every picture, as soon as it is labelled.

    Raises:
        UserError: a file named in ``inputs`` is no suitable picture.
    """
    view = model.result["data"].get("view", "stretched")
    logits_of = predict(model.task, Devices("single"))

    def read(path: Path) -> np.ndarray | UserError:
        try:
            return pictures.read(path, model.spec.shape, view)
        except UserError as error:
            return error

    files: list[tuple[Path, bool]] = []  # and whether it was named itself
    for path in inputs:
        if not pictures.is_folder(path):
            files.append((path, True))
            continue
        images, others = pictures.expand(path)
        files += [(image, False) for image in images]
        if others:
            warn(f"{path}: {listed('skipped, as no image by its name', others)}")
    for first in range(0, len(files), _FILES_AT_ONCE):
        names, batches = [], []
        chunk = files[first : first + _FILES_AT_ONCE]
        read_in_turn = threads().map(read, [path for path, _ in chunk])
        for (path, is_named), batch in zip(chunk, read_in_turn, strict=True):
            if isinstance(batch, UserError):
                if is_named:
                    raise batch
                warn(f"skipped: {str(batch).removeprefix('inputs=')}")
                continue
            batches.append(batch)
            names += [str(path)] if len(batch) == 1 else [f"{path}[{i}]" for i in range(len(batch))]
        if names:
            seen = np.concatenate(batches)
            probabilities = np.asarray(jax.nn.softmax(logits_of(model.variables, seen)))
            yield from map(Labelled, names, seen, probabilities)


def classify_sentences(
    model: Model,
    sentences: Sequence[str],
    explain: bool = False,
) -> list[Answer]:
    """Class probabilities of sentences of any length.

    Args:
        model: of a finished run.
        sentences: N texts.
        explain: whether to find the n-grams that decided.

    Raises:
        UserError: it is no model of sentences, or there is nothing to explain because it does not
            pool by the maximum.
    """
    task, spec = model.task, model.spec
    if not spec.vocabulary:
        raise UserError(f"{model.path}: holds a model of images, which takes files, not sentences")
    if explain and getattr(task.model, "pooling", "max") != "max":
        raise ArgumentError(
            "explain",
            explain,
            f"finds the n-grams that win the maximum over time; this model's pooling is "
            f"{task.model.pooling}",
        )
    cleaning = model.result["data"]["cleaning"]
    ids = text.encode(sentences, spec.vocabulary, spec.shape[0], cleaning)
    if getattr(task.model, "pooling", "max") == "local_max" and ids.shape[1] > spec.shape[0]:
        raise UserError(
            f"a sentence is longer than the model's {spec.shape[0]} positions, margins included: "
            f"with pooling=local_max a model takes none longer than those of its data"
        )
    logits = predict(task, Devices("single"))(model.variables, ids)
    ngrams = _explain(model, ids, logits) if explain else [[]] * len(ids)
    known, answers = set(spec.vocabulary), []
    for sentence, probabilities, why in zip(
        sentences, np.asarray(jax.nn.softmax(logits)), ngrams, strict=True
    ):
        words = text.tokens(sentence, cleaning)
        answers.append(
            Answer(
                sentence,
                ranked(spec.classes, probabilities),
                tuple(word for word in dict.fromkeys(words) if word not in known),
                why,
            )
        )
    return answers


def ranked(classes: Sequence[str], probabilities: np.ndarray) -> list[tuple[str, float]]:
    """(class, probability) pairs, most probable first."""
    return [(classes[int(k)], float(probabilities[k])) for k in np.argsort(-probabilities)]


def read_sentences(inputs: Sequence[str]) -> list[str]:
    """The sentences in text files, or ("-") standard input: one a line, UTF-8.

    Raises:
        UserError: a file that is missing, has no sentence or a line that is not UTF-8.
    """
    sentences = []
    for place in inputs:
        if place == STANDARD_INPUT:
            lines = readers.decode("standard input", sys.stdin.buffer.read(), "utf-8-sig").split(
                "\n"
            )
        else:
            try:
                lines = readers.lines(Path(place).expanduser())
            except OSError as error:
                raise ArgumentError("inputs", place, f"{error.strerror or reason(error)}") from None
            except RuntimeError as error:  # no such home
                raise ArgumentError("inputs", place, f"{reason(error)}") from None
        found = [line.strip() for line in lines if line.strip()]
        if not found:
            raise ArgumentError("inputs", place, "holds no sentence; one a line is expected")
        sentences += found
    return sentences


def _explain(model: Model, ids: np.ndarray, logits: np.ndarray) -> list[list[NGram]]:
    task, variables = model.task, model.variables
    features_of = jax.jit(
        lambda variables, inputs: apply(task.model, variables, task.prepare(inputs))[1]
    )
    kernel = np.asarray(variables["params"]["output"]["kernel"])
    answers = []
    for start in range(0, len(ids), 512):
        rows = slice(start, start + 512)
        features = dict(jax.device_get(features_of(variables, ids[rows])))
        # jit returns dicts in the order of their keys; the model names the windows' own.
        features["winners"] = {w: features["winners"][w] for w in task.model.windows}
        classes = np.argmax(logits[rows], axis=1)
        answers += deciding_ngrams(ids[rows], model.spec.vocabulary, features, kernel, classes)
    return answers
