"""The experiment of sentences: settings, mistakes, divisions, named sweeps, one small run."""

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import load_file

import experiments
from cnnjax.command import main
from cnnjax.data import DataSet, Spec
from cnnjax.errors import UserError
from cnnjax.training import init_state
from experiments import sentence
from experiments.sentence import Config
from tests.sentence_task import SPEC, VOCABULARY, small_config, small_task, splits
from tests.training_task import traced

LABELS = np.repeat([0, 1], [530, 536]).astype(np.int32)


def test_defaults_are_the_authors():
    config = Config()
    assert (config.windows, config.maps, config.embedding) == ((3, 4, 5), 100, 300)
    assert (config.epochs, config.batch_size) == (25, 50)
    assert dataclasses.astuple(config.hparams) == (1.0, 0.95, 1e-6, 0.5, 3.0)
    assert sentence.plan(config).ties == "latest"


@pytest.mark.parametrize("name", sentence.SWEEPS)
def test_every_named_sweep_can_be_planned(name, tmp_path, capsys):
    flags = ["--experiment=sentence", f"--workdir={tmp_path}", f"--sweep={name}", "--dry_run"]
    assert main(experiments, flags) == 0
    assert f"{len(sentence.SWEEPS[name])} trials" in capsys.readouterr().out


def test_named_sweeps_are_the_papers_grids():
    sizes = {name: len(sweep) for name, sweep in sentence.SWEEPS.items()}
    assert sizes.pop("rand") == 3 * 10 + 2 * 5
    assert sizes.pop("vectors") == 3 * (10 + 2 * 3)
    assert {name: size // 3 for name, size in sizes.items()} == {
        "table2": 4, "region": 9, "maps": 8, "activation": 6, "pooling": 10, "dropout": 6,
        "norm": 11,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "spec", "message"),
    [
        ({"windows": (3, 0)}, SPEC, r"config.windows is \(3, 0\); it must be different integers"),
        ({"windows": (3, 29)}, SPEC, "a window of 29 does not fit into the data's 28 ids"),
        ({"variant": "static"}, SPEC, "config.variant=static starts from word vectors; name"),
        ({}, Spec((8, 8, 1), ("a", "b"), 9), "data set docstrings has no sentences"),
    ],
)
def test_mistakes(changes, spec, message):
    with pytest.raises(UserError, match=message):
        sentence.task(Config(**changes), spec)


def vectors_file(folder, size=6):
    """Text vectors of half the words: word i is i, i, i, ..."""
    path = folder / "vectors.txt"
    words = VOCABULARY[2::2]
    lines = [f"{w} {' '.join([str(float(w[4:]))] * size)}" for w in words]
    path.write_text(f"{len(lines)} {size}\n" + "\n".join(lines) + "\n")
    return str(path)


@pytest.mark.parametrize("variant", ["static", "nonstatic", "multichannel"])
def test_words_start_with_their_vectors_and_others_differ_by_seed(variant, tmp_path):
    task = small_task(variant=variant, vectors=vectors_file(tmp_path))
    inputs = np.zeros((1, 28), np.int32)
    tables = [
        init_state(task, seed, inputs, traced(small_config().hparams)).params["embedding"]
        for seed in (0, 1)
    ]
    first, second = (np.asarray(embedding["table"]) for embedding in tables)
    np.testing.assert_array_equal(first[2::2], np.repeat(np.arange(0, 148, 2.0)[:, None], 6, 1))
    np.testing.assert_array_equal(first[2::2], second[2::2])
    others = first[1::2]
    assert 0.2 < np.abs(others).max() <= 0.25 and not np.array_equal(others, second[1::2])
    assert not first[0].any()
    if variant == "multichannel":
        np.testing.assert_array_equal(tables[0]["static"], first)


def test_coverage_is_said(tmp_path):
    dataset = DataSet("d", splits(), ("a", "b"), {}, VOCABULARY)
    (line,) = sentence.remarks(small_config(vectors=vectors_file(tmp_path)), dataset)
    assert "vectors.txt" in line and " of " in line and "tokens" in line
    assert sentence.remarks(small_config(), dataset) == []


def test_unknown_words_may_have_the_variance_of_the_known(tmp_path):
    changes = {"variant": "static", "vectors": vectors_file(tmp_path), "unknown": "variance"}
    task, inputs = small_task(**changes), np.zeros((1, 28), np.int32)
    table = init_state(task, 0, inputs, traced(small_config().hparams)).params["embedding"]["table"]
    assert np.asarray(table)[1::2].std() == pytest.approx(np.arange(0, 148, 2.0).std(), rel=0.1)


def test_vectors_of_another_size_are_refused(tmp_path):
    task = small_task(variant="static", vectors=vectors_file(tmp_path, size=5))
    with pytest.raises(UserError, match=r"have 5 elements and config\.embedding is 6"):
        init_state(task, 0, np.zeros((1, 28), np.int32), traced(small_config().hparams))


def test_cross_validation_and_the_authors_leak():
    mended = sentence.rows(Config(fold=3), LABELS, {})
    assert len(np.unique(np.concatenate(list(mended.values())))) == len(LABELS)
    published = sentence.rows(Config(fold=3, as_published=True), LABELS, {})
    np.testing.assert_array_equal(published["test"], mended["test"])
    train, development = published["train"], published["validation"]
    assert len(train) % 50 == 0 and (len(train) + len(development)) % 50 == 0
    # 959 or 960 sentences beside the fold become 1,000: 20 batches, 18 of them to train on.
    assert (len(train), len(development)) == (900, 100)
    assert len(np.intersect1d(train, development)) > 0, "copies are in both"
    assert not np.intersect1d(np.concatenate([train, development]), published["test"]).size
    assert sentence.rows(Config(as_published=True), LABELS, {}) is None, "published splits stay"


def test_batches_stay_together_as_published():
    assert sentence.plan(Config()).regroup
    assert not sentence.plan(Config(as_published=True)).regroup


def row(seed, fold, accuracy, **changes):
    config = {"dataset": "mr", "variant": "rand", "seed": seed, "fold_seed": 0, "fold": fold}
    return {
        "changes": {"seed": seed, "fold": fold} | changes,
        "config": config | changes,
        "status": "failed" if accuracy is None else "finished",
        "test": None if accuracy is None else {"accuracy": accuracy},
    }


def test_report_of_repetitions(tmp_path):
    """Folds are averaged, then repetitions compared; one with a failed fold does not count."""
    trials = [row(0, 0, 0.7), row(0, 1, 0.8), row(1, 0, 0.74), row(1, 1, 0.72), row(2, 0, 0.9)]
    trials += [row(2, 1, None), row(0, 0, 0.8, variant="static"), row(0, 1, 0.81, variant="static")]
    (path,) = sentence.report(trials, tmp_path)
    lines = path.read_text().splitlines()
    assert lines[2] == "| mr | 74.00 (73.00, 75.00) | 2 | 2 | 76.1 |"
    assert lines[3] == "| variant=static | 80.50 (80.50, 80.50) | 1 | 2 | 81.0 |"
    assert sentence.report([], tmp_path) == []


def test_optimiser_by_hand():
    """Adadelta's first update: -sqrt(eps) / sqrt((1 - rho) g^2 + eps) g."""
    hparams = traced(small_config().hparams)
    optimizer = small_task().optimizer(hparams)
    params = {"x": np.float32([1.0])}
    updates, _ = optimizer.update({"x": np.float32([0.2])}, optimizer.init(params), params)
    expected = -np.sqrt(1e-6) / np.sqrt(0.05 * 0.04 + 1e-6) * 0.2
    np.testing.assert_allclose(updates["x"], [expected], rtol=1e-5)


def test_softmax_weights_take_the_authors_steps():
    """His are ours divided by 1 - dropout; so is his update, and his gradient is ours times it."""
    hparams = traced(dataclasses.replace(small_config().hparams, dropout=0.75))
    optimizer = small_task().optimizer(hparams)
    ours = {"output": {"kernel": np.float32([1.0]), "bias": np.float32([1.0])}}
    gradients = {"output": {"kernel": np.float32([0.8]), "bias": np.float32([0.2])}}
    updates, _ = optimizer.update(gradients, optimizer.init(ours), ours)
    np.testing.assert_allclose(
        updates["output"]["kernel"] / 0.25, updates["output"]["bias"], rtol=1e-6
    )


def test_a_small_run_by_the_command_line(tmp_path):
    """From a table of one's own to the words' vectors in the model's file."""
    kinds = {"animal": "cat dog cow hen", "plant": "oak elm fir yew"}
    lines = [
        f"see the {word} {i}\t{kind}"
        for kind in kinds
        for word in kinds[kind].split()
        for i in range(8)
    ]
    table = tmp_path / "kinds.tsv"
    table.write_text("\n".join(["text\tlabel", *lines]) + "\n")
    flags = ["--config.epochs=1", "--config.embedding=4", "--config.maps=3", "--config.windows=1,2"]
    flags += [f"--config.dataset=table:{table}:text:label", f"--workdir={tmp_path / 'run'}"]
    assert main(experiments, ["--experiment=sentence", *flags]) == 0
    model = load_file(tmp_path / "run" / "model.safetensors")
    words = (tmp_path / "run" / "vocabulary.txt").read_text().split()
    assert model["embedding/table"].shape == (len(words), 4)
    assert model["conv2/kernel"].shape == (2, 4, 3)
    assert not model["embedding/table"][0].any(), "padding"
