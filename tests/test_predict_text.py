"""--mode=predict for sentences, and the n-grams that decided, with a small model of its own."""

import dataclasses
import io
import json
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import struct

from benchmarks.bag_of_words import bag_of_words, baselines
from cnnjax import config as configuration
from cnnjax import data
from cnnjax.command import main
from cnnjax.config import setting
from cnnjax.data import text
from cnnjax.experiment import record, run
from cnnjax.experiment.places import Places
from cnnjax.experiment.prediction import classify_sentences
from cnnjax.experiment.record import Experiment
from cnnjax.models.evidence import deciding_ngrams
from cnnjax.training import Plan, Task
from tests import mistakes
from tests.data_files import refused

VOCABULARY = (text.PADDING, text.UNKNOWN, "a", "bad", "good", "film")


def test_the_deciding_ngrams_by_hand():
    """Two windows of 1 with two filters, one of 2 with one; two classes; shares are added up."""
    ids = np.int32([[0, 0, 4, 5, 0, 0]])  # good film
    features = {
        "winners": {1: np.int32([[2, 2]]), 2: np.int32([[3]])},
        "pooled": np.float32([[2.0, 3.0, 5.0]]),
    }
    kernel = np.float32([[1.0, 0.0], [0.5, -0.5], [0.0, 0.2]])
    # Against the mean weight of the classes: ±0.5, ±0.5 and ∓0.1.
    (first,) = deciding_ngrams(ids, VOCABULARY, features, kernel, np.array([0]))
    assert first == [("good", pytest.approx(2 * 0.5 + 3 * 0.5))]
    (second,) = deciding_ngrams(ids, VOCABULARY, features, kernel, np.array([1]))
    assert second == [("film", pytest.approx(5 * 0.1))]


def test_only_the_three_largest_and_none_in_padding():
    ids = np.int32([[0, 2, 3, 4, 5, 0, 0]])
    features = {
        "winners": {2: np.int32([[0, 1, 2, 3, 4, -1]])},
        "pooled": np.float32([[1, 5, 2, 4, 3, 9]]),
    }
    kernel = np.stack([np.ones(6), -np.ones(6)], 1).astype(np.float32)
    (ngrams,) = deciding_ngrams(ids, VOCABULARY, features, kernel, np.array([0]))
    assert [words for words, _ in ngrams] == ["a bad", "good film", "film"]
    assert [share for _, share in ngrams] == [5, 4, 3]


def test_windows_with_the_same_words_are_one_ngram():
    """At the end of a sentence a longer window sees the same words, and padding."""
    ids = np.array([[0, 3, 4, 0, 0]])
    winners = {2: np.array([[1, 2]]), 3: np.array([[0, 1]]), 4: np.array([[1, 0]])}
    features = {"winners": winners, "pooled": np.ones((1, 6), np.float32)}
    kernel = np.array([[1, -1], [16, -16], [2, -2], [4, -4], [8, -8], [0, 0]], np.float32)
    (ngrams,) = deciding_ngrams(ids, VOCABULARY, features, kernel, np.array([0]))
    both, last = " ".join(VOCABULARY[3:5]), VOCABULARY[4]
    assert ngrams == [(last, 16), (both, 15)]


@pytest.mark.parametrize("shift", [0.0, 3.5])
def test_what_is_added_to_every_class_decides_nothing(shift):
    random = np.random.RandomState(0)
    ids = random.randint(2, 6, (4, 9)).astype(np.int32)
    winners = {w: random.randint(0, 9 - w, (4, 6)).astype(np.int32) for w in (3, 4)}
    features = {"winners": winners, "pooled": random.rand(4, 12).astype(np.float32)}
    kernel, classes = random.randn(12, 3), np.array([0, 1, 2, 0])
    added = kernel + shift * random.randn(12, 1)
    first = deciding_ngrams(ids, VOCABULARY, features, kernel, classes)
    second = deciding_ngrams(ids, VOCABULARY, features, added, classes)
    assert [[words for words, _ in one] for one in first] == [
        [words for words, _ in one] for one in second
    ]


class Small(nn.Module):
    """Embedding, one window of 2 with 8 maps, maximum over time, softmax."""

    vocabulary: int
    classes: int
    pooling: str = "max"
    windows: tuple[int, ...] = (2,)

    @nn.compact
    def __call__(self, inputs, *, dropout=None):
        x = nn.Embed(self.vocabulary, 8, name="embedding")(inputs)
        maps = nn.relu(nn.Conv(8, (2,), padding="VALID", name="conv")(x))
        at = jnp.argmax(maps, axis=1).astype(jnp.int32)
        words = jnp.take_along_axis(inputs[:, :-1] + inputs[:, 1:], at, axis=1)
        pooled = maps.max(axis=1)
        logits = nn.Dense(self.classes, name="output")(pooled)
        winners = {2: jnp.where(words > 0, at, -1)}
        return logits, {"winners": winners, "pooled": pooled, "logits": logits}


@struct.dataclass
class Hparams:
    learning_rate: float = setting(0.02, "of Adam")


@dataclasses.dataclass(frozen=True)
class Config(configuration.Config):
    pooling: str = setting("max", "over time")
    hparams: Hparams = setting(Hparams(), "hyperparameters")


MODULE = types.ModuleType("few.sentence", "A small experiment on sentences.")
MODULE.EXPERIMENT = Experiment(
    summary="small",
    config=Config,
    plan=lambda config: Plan(epochs=8, batch_size=16, seed=config.seed),
    task=lambda config, spec: Task(
        model=Small(len(spec.vocabulary), len(spec.classes), config.pooling),
        optimizer=lambda hparams: optax.adam(hparams.learning_rate),
    ),
)


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    """A package with the small experiment."""
    folder = tmp_path_factory.mktemp("few")
    (folder / "sentence.py").write_text("")
    package = types.ModuleType("few")
    package.__path__ = [str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "few", package)
        patch.setitem(sys.modules, "few.sentence", MODULE)
        yield package


@pytest.fixture(scope="module")
def finished(tmp_path_factory, kept_programs, experiments):
    """A run on sentences in which "good" and "bad" say everything: what it was asked."""
    folder = tmp_path_factory.mktemp("sentences")
    for word in ("good", "bad"):
        lines = "".join(f"Number {i} is a {word} film\n" for i in range(60))
        (folder / f"{word}.txt").write_text(lines)
    config = Config(dataset=f"text:{folder}")
    places = Places(workdir=tmp_path_factory.mktemp("run") / "run")
    experiment = record.load(experiments, "sentence")
    result = run.train(experiment, config, places, say=lambda line: None)
    assert result["test"]["accuracy"] == 1
    return experiment, config, places


def test_a_run_keeps_its_vocabulary_beside_its_result(finished):
    _, config, places = finished
    dataset = data.load(config.dataset)
    stored = (places.workdir / "vocabulary.txt").read_text().splitlines()
    assert tuple(stored) == dataset.vocabulary
    result = json.loads((places.workdir / "result.json").read_text())
    assert "vocabulary" not in result["data"]
    assert result["data"]["cleaning"] == "unicode"
    assert run.load_model(*finished).spec == dataset.spec


def test_evaluating_again_needs_the_same_words(finished):
    _, config, _ = finished
    assert run.evaluate(*finished)["test"]["accuracy"] == 1
    folder = Path(config.dataset.removeprefix("text:"))
    whole = (folder / "good.txt").read_text()
    (folder / "good.txt").write_text(whole.replace("film", "picture"))
    try:
        message = refused(lambda: run.evaluate(*finished), "other words")
    finally:
        (folder / "good.txt").write_text(whole)
    assert len(message) < 500


def test_a_damaged_vocabulary_is_refused(finished):
    path = finished[-1].workdir / "vocabulary.txt"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"good", b"gold"))
    try:
        refused(lambda: run.load_model(*finished), f"{path}: is missing or damaged")
    finally:
        path.write_bytes(whole)


def test_sentences_are_classified_and_explained(finished):
    model = run.load_model(*finished)
    sentences = ["A GOOD film!", "bad", "it is " * 40 + "bad indeed", "", "good"]
    answers = classify_sentences(model, sentences, explain=True)
    assert [answer.sentence for answer in answers] == sentences
    best = [answer.classes[0][0] for answer in answers]
    assert best[:3] == ["good", "bad", "bad"]
    assert best[4] == "good"
    for answer in answers:
        assert sum(probability for _, probability in answer.classes) == pytest.approx(1)
        assert answer.classes[0][1] >= answer.classes[1][1]
        assert len(answer.ngrams) <= 3
    assert answers[0].unknown == ("!",)
    assert answers[2].unknown == ("it", "indeed")
    assert "good" in answers[0].ngrams[0][0].split()
    assert "bad" in answers[1].ngrams[0][0].split()
    assert answers[3].ngrams == []  # of an empty sentence every window is padding
    plain = classify_sentences(model, sentences)
    assert [answer.classes for answer in plain] == [answer.classes for answer in answers]


def test_shares_and_bias_are_the_difference_of_logits(finished):
    """Of two classes the shares of all n-grams are half the logits' difference, without bias."""
    model = run.load_model(*finished)
    task, spec, params = model.task, model.spec, model.variables["params"]
    ids = text.encode(["a good film", "Number 3 is bad"], spec.vocabulary, 12, "unicode")
    logits, features = jax.device_get(task.model.apply({"params": params}, ids))
    kernel, bias = params["output"]["kernel"], params["output"]["bias"]
    for k in (0, 1):
        rest = (features["pooled"] * (kernel[:, k] - kernel[:, 1 - k]) / 2).sum(1)
        expected = (logits[:, k] - logits[:, 1 - k] - bias[k] + bias[1 - k]) / 2
        assert np.allclose(rest, expected, atol=1e-5)
        features["winners"] = {2: np.maximum(features["winners"][2], 0)}
        shares = deciding_ngrams(ids, spec.vocabulary, features, kernel, np.array([k, k]), 99)
        negative = deciding_ngrams(ids, spec.vocabulary, features, -kernel, np.array([k, k]), 99)
        total = [
            sum(share for _, share in a) - sum(share for _, share in b)
            for a, b in zip(shares, negative, strict=True)
        ]
        assert np.allclose(total, expected, atol=1e-5)


def arguments(finished, *more):
    _, config, places = finished
    where = [f"--workdir={places.workdir}", "--experiment=sentence", "--mode=predict"]
    return [*where, f"--config.dataset={config.dataset}", *map(str, more)]


def test_sentences_from_arguments_files_and_standard_input(
    finished, experiments, tmp_path, capsys, monkeypatch
):
    (tmp_path / "s.txt").write_text("a bad film\n\nbad bad\n")
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"good one\n")))
    argv = arguments(finished, "A good film.", f"--inputs={tmp_path / 's.txt'},-")
    assert main(experiments, argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        "A good film.: good",
        "a bad film: bad",
        "bad bad: bad",
        "good one: good",
    ]
    assert "%), then bad (" in lines[0]
    assert lines[3].endswith("(unknown: one)")


def test_explaining_at_the_command_line(finished, experiments, capsys):
    assert main(experiments, arguments(finished, "--explain", "A good film.")) == 0
    first, *ngrams = capsys.readouterr().out.splitlines()
    assert first.startswith("A good film.: good (")
    assert 1 <= len(ngrams) <= 3
    assert "good" in ngrams[0]
    assert float(ngrams[0].split()[0]) > 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], ["--inputs", "quotation marks"]),
        (["--inputs=no.txt"], ["--inputs=no.txt", "No such file"]),
    ],
)
def test_nothing_to_classify_is_refused(finished, experiments, capsys, more, words):
    message = mistakes.refused_by(experiments, capsys, *arguments(finished, *more))
    assert all(word in message for word in words)


@pytest.mark.parametrize(
    ("content", "words"), [(b"\n", ["holds no sentence"]), (b"a\nb\xff\n", ["line 2 is not UTF-8"])]
)
def test_files_that_will_not_do(finished, experiments, capsys, tmp_path, content, words):
    (tmp_path / "s.txt").write_bytes(content)
    argv = arguments(finished, f"--inputs={tmp_path / 's.txt'}")
    message = mistakes.refused_by(experiments, capsys, *argv)
    assert all(word in message for word in words)


def test_only_the_maximum_can_be_explained(finished):
    experiment, config, places = finished
    model = run.load_model(experiment, dataclasses.replace(config, pooling="mean"), places)
    call = lambda: classify_sentences(model, ["good"], explain=True)
    refused(call, "explain=True: ", "pooling is mean")


def test_which_words_a_sentence_has():
    rows = np.int32([[0, 2, 3, 2, 0], [0, 0, 0, 0, 0], [0, 1, 4, 0, 0]])
    assert bag_of_words(rows, 6).toarray().tolist() == [
        [0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 1, 0],
    ]


def test_the_baselines_know_words_but_no_order(finished):
    _, config, _ = finished
    found = baselines(data.load(config.dataset))
    assert found == {"majority": 0.5, "naive_bayes": 1.0, "logistic_regression": 1.0}
    texts = ["good not bad", "bad not good"] * 30
    splits, _ = text.three_splits({"undivided": (texts, np.arange(60) % 2)})
    order = text.text_dataset("order", splits, ("a", "b"), "kim", {})
    assert all(accuracy <= 0.5 for accuracy in baselines(order).values())
