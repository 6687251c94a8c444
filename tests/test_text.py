"""Cleaning, vocabulary, rows of ids, drawn splits, and data sets of one's own."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax import data
from cnnjax.data import text
from cnnjax.data.text import MARGIN, PADDING, UNKNOWN
from tests.data_files import in_order, refused

properties = settings(database=None, derandomize=True, deadline=None)
sentences = st.text(alphabet="abnst'dlrevNTS ,!?()`éß-.0\n", max_size=40)


@pytest.mark.parametrize(
    ("sentence", "cleaning", "words"),
    [
        ("it's (not) made, is it?", "kim", "it 's ( not ) made , is it ?"),
        ("I don't", "kim", "i do n't"),
        ("they've we're he'd she'll!", "kim", "they 've we 're he 'd she 'll !"),
        ("j.r.r. Tolkien's middle-earth", "kim", "j r r tolkien 's middle earth"),
        ("Amélie", "kim", "am lie"),
        ("Amélie, größer_x", "unicode", "amélie , größer_x"),
        ("What's NASA ?", "kim_trec", "What 's NASA ?"),
        ("ca n't (x) , it's", "kim_sst", "ca n't (x) , it's"),
        (" \n\t...", "kim", ""),
        ("", "kim", ""),
    ],
)
def test_what_a_rule_keeps_and_where_it_cuts(sentence, cleaning, words):
    assert text.tokens(sentence, cleaning) == words.split()


def kims_regular_expressions(sentence):
    """One substitution after the other, as in the author's code."""
    sentence = re.sub(r"[^A-Za-z0-9(),!?'`]", " ", sentence)
    for contraction in ("'s", "'ve", "n't", "'re", "'d", "'ll"):
        sentence = sentence.replace(contraction, f" {contraction}")
    for mark in ",!()?":
        sentence = sentence.replace(mark, f" {mark} ")
    return sentence.lower().split()


@properties
@given(sentences)
def test_cutting_at_once_is_cutting_one_after_the_other(sentence):
    assert text.tokens(sentence) == kims_regular_expressions(sentence)


@properties
@given(st.text(alphabet="abS'nt,!? -.0", max_size=40))
def test_the_rule_for_any_language_is_kims_on_ascii(sentence):
    assert text.tokens(sentence, "unicode") == text.tokens(sentence)


def test_the_vocabulary_is_in_falling_order_of_counts():
    assert text.build([["b", "a"], [], ["c", "a", "b", "é"]]) == (
        *(PADDING, UNKNOWN),
        *("a", "b", "c", "é"),
    )


def test_rows_are_laid_out_as_in_kims_code():
    vocabulary = text.build([["good", "film"]])  # ids: film 2, good 3
    rows = text.encode(["Good film!", "", "film film film"], vocabulary)
    assert rows.dtype == np.int32
    assert rows.tolist() == [
        [0, 0, 0, 0, 3, 2, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 2, 2, 2, 0, 0, 0, 0],
    ]
    assert text.lengths(rows).tolist() == [3, 0, 3]
    assert text.lengths(rows).dtype == np.int32
    assert np.array_equal(text.encode(["Good film!"], vocabulary, 15)[:, :11], rows[:1])
    assert text.encode(["film " * 20], vocabulary, 15).shape == (1, 28)
    assert text.encode([], vocabulary, 15).shape == (0, 15)


@properties
@given(st.lists(sentences, min_size=1, max_size=6), st.integers(0, 20))
def test_a_row_gives_its_words_back(texts, length):
    words = [text.tokens(sentence) for sentence in texts]
    vocabulary = text.build(words)
    rows = text.encode(texts, vocabulary, length)
    assert rows.shape[1] == max(length, max(map(len, words)) + 2 * MARGIN)
    assert [[vocabulary[i] for i in row if i] for row in rows] == words
    assert not rows[:, :MARGIN].any()
    assert not rows[:, rows.shape[1] - MARGIN :].any()
    assert text.lengths(rows).tolist() == list(map(len, words))


def small(**changed):
    splits = {
        "train": (["a good film", "a bad one", ""], np.array([1, 0, 0])),
        "validation": (["bad"], np.array([0])),
        "test": (["a most unseen film"], np.array([1])),
    }
    arguments = {"classes": ("bad", "good"), "cleaning": "kim", "provenance": {"source": "here"}}
    return text.text_dataset("small", splits, **(arguments | changed))


def test_a_data_set_of_sentences():
    dataset = small()
    assert dataset.vocabulary == (
        *(PADDING, UNKNOWN, "a", "bad", "film"),
        *("good", "most", "one", "unseen"),
    )
    spec = dataset.spec
    assert (spec.shape, spec.classes, spec.examples) == ((12,), ("bad", "good"), 3)
    assert spec.vocabulary == dataset.vocabulary
    assert "unseen" not in repr(spec)
    assert {split["labels"].dtype for split in dataset.splits.values()} == {np.dtype(np.int32)}
    assert {split["inputs"].shape[1:] for split in dataset.splits.values()} == {(12,)}
    assert dataset.provenance == {"source": "here", "cleaning": "kim"}
    assert dataset.describe() == (
        "small: 3 train / 1 validation / 1 test sentences (rows of 12, 7 different words) in "
        "2 classes, from here"
    )


def test_images_have_no_vocabulary_and_their_old_checksum():
    digits = data.load("digits")
    assert digits.vocabulary == digits.spec.vocabulary == ()
    assert "examples of 8x8x1 in" in digits.describe()


def test_other_words_have_another_checksum():
    first = small()
    words = tuple(word.replace("good", "fine") for word in first.vocabulary)
    other = dataclasses.replace(first, vocabulary=words)
    assert all(map(np.array_equal, in_order(first), in_order(other)))
    assert first.with_checksum().provenance["sha256"] != other.with_checksum().provenance["sha256"]


def test_one_class_and_no_word_are_refused():
    refused(lambda: small(classes=("bad",)), "data set small", "one class only (bad)")
    splits = {name: (["...", ""], np.array([0, 1])) for name in ("train", "validation", "test")}
    call = lambda: text.text_dataset("dots", splits, ("a", "b"), "kim", {})
    refused(call, "data set dots", "no word in its 6 sentences")


def test_sentences_are_divided_into_folds_like_images():
    examples = [f"word{i} {'good' if i % 3 else 'bad'}" for i in range(60)]
    labels = np.array([int(i % 3 > 0) for i in range(60)])
    splits, how = text.three_splits({"undivided": (examples, labels)})
    assert how == "test: 10 % of all, validation: 10 % of train; stratified, seed 2014"
    dataset = text.text_dataset("folded", splits, ("bad", "good"), "kim", {"source": "here"})

    @dataclasses.dataclass(frozen=True)
    class Config:
        fold: int
        folds: int = 5
        fold_seed: int = 0

    folds = [data.divide(dataset, Config(fold)) for fold in range(5)]
    assert {fold.vocabulary for fold in folds} == {dataset.vocabulary}
    assert {fold.spec.shape for fold in folds} == {dataset.spec.shape}
    tested = np.concatenate([fold.splits["test"]["inputs"] for fold in folds])
    assert sorted(dataset.vocabulary[row.max()] for row in tested) == sorted(
        f"word{i}" for i in range(60)
    )


def test_drawn_splits_are_disjoint_complete_and_stratified():
    examples, labels = [str(i) for i in range(200)], np.arange(200) % 4
    splits, _ = text.three_splits({"undivided": (examples, labels)})
    assert {name: len(texts) for name, (texts, _) in splits.items()} == {
        "train": 162, "validation": 18, "test": 20,
    }  # fmt: skip
    assert list(splits) == ["train", "validation", "test"]
    assert sorted(t for texts, _ in splits.values() for t in texts) == sorted(examples)
    for texts, part in splits.values():
        assert [int(t) % 4 for t in texts] == part.tolist()
        assert np.ptp(np.bincount(part)) <= 1


def test_published_splits_are_kept():
    found = {name: (["x"] * n, np.zeros(n, int)) for name, n in (("test", 3), ("train", 20))}
    splits, how = text.three_splits(found)
    assert [len(texts) for texts, _ in splits.values()] == [18, 2, 3]
    assert how == "validation: 10 % of train; stratified, seed 2014"
    _, how = text.three_splits(found | {"validation": (["x"], np.zeros(1, int))})
    assert how == "as published"


def folder_of(tmp_path, **files):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, content in files.items():
        (folder / f"{name}.txt").write_bytes(content)
    return f"text:{folder}"


LINES = b"".join(b"line %d\n" % i for i in range(20))


def test_a_folder_with_a_file_a_class(tmp_path):
    name = folder_of(tmp_path, yes=LINES, no="\ufeffgrößer Fisch\r\n\r\n".encode() + LINES)
    dataset = data.load(name)
    assert dataset.classes == ("no", "yes")
    sizes = {split: len(part["labels"]) for split, part in dataset.splits.items()}
    assert sizes == {"train": 33, "validation": 4, "test": 4}
    assert {"größer", "fisch"} < set(dataset.vocabulary)
    labels = np.concatenate([part["labels"] for part in dataset.splits.values()])
    assert np.bincount(labels).tolist() == [21, 20]
    assert dataset.provenance["cleaning"] == "unicode"
    assert dataset.provenance["sha256"] == data.load(name).provenance["sha256"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, ["holds no file", "one text file a class"]),
        ({"a": LINES, "b": b"\n \n"}, ["b.txt: holds no sentence"]),
        ({"a": LINES}, ["one class only (a)"]),
        ({"a": LINES, "b": b"fine\nbad \xff\xfe\n"}, ["b.txt: line 2 is not UTF-8", "0xff"]),
        ({"a": b"one\n", "b": b"two\n"}, ["split is empty", "2 examples"]),
    ],
)
def test_a_folder_that_will_not_do(tmp_path, files, words):
    name = folder_of(tmp_path, **files)
    refused(lambda: data.load(name), tmp_path / "mine", *words)


@pytest.mark.parametrize("place", ["", "/no/such/folder"])
def test_a_folder_that_is_missing(place):
    refused(lambda: data.load(f"text:{place}"), f"no folder {place!r}", "text:FOLDER")


ROWS = [(f'a "word{i}"', "spam" if i % 2 else "ham") for i in range(40)]
TSV = "id\ttext\tkind\n" + "".join(f"{i}\t{t}\t{k}\n" for i, (t, k) in enumerate(ROWS))
CSV = "kind,text\n" + "".join('{},"{}"\n'.format(k, t.replace('"', '""')) for t, k in ROWS)


@pytest.mark.parametrize(("ending", "content"), [("tsv", TSV), ("csv", CSV)])
def test_a_table(tmp_path, ending, content):
    path = tmp_path / f"a:b.{ending}"
    path.write_text(content)
    dataset = data.load(f"table:{path}:text:kind")
    assert dataset.classes == ("ham", "spam")
    found = {
        (dataset.vocabulary[row.max()], dataset.classes[label])
        for part in dataset.splits.values()
        for row, label in zip(part["inputs"], part["labels"], strict=True)
    }
    assert found == {(f"word{i}", kind) for i, (_, kind) in enumerate(ROWS)}


def test_a_csv_field_may_have_commas_and_line_ends(tmp_path):
    lines = [f'"one, two\nthree {i}",{"x" if i % 2 else "y"}\n' for i in range(40)]
    (tmp_path / "t.csv").write_text("text,kind\n" + "".join(lines))
    dataset = data.load(f"table:{tmp_path / 't.csv'}:text:kind")
    assert {",", "three", "39"} < set(dataset.vocabulary)
    assert text.lengths(dataset.splits["train"]["inputs"]).tolist() == [5] * 32


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.tsv", b"a\tkind\n1\tx\n", ["no column 'text'", "there are a, kind"]),
        ("t.tsv", b"text\tlabel\n1\tx\n", ["no column 'kind'", "there are text, label"]),
        ("t.tsv", b"text\tkind\n1\tx\n2\n", ["line 3 has 1 fields", "header has 2"]),
        ("t.csv", b"text,kind\na,b,c\n", ["line 2 has 3 fields", "header has 2"]),
        ("t.csv", b"text,kind\na, \n", ["line 2 has no 'kind'"]),
        ("t.csv", b'text,kind\n"a,x\n', ["cannot be read"]),
        ("t.tsv", b"text\tkind\na\tx\nb\t\xe9\n", ["line 3 is not UTF-8", "0xe9"]),
        ("t.tsv", b"text\tkind\n" + b"a\tx\n" * 30, ["one class only (x)"]),
        ("t.tsv", b"text\tkind\n", ["no row below its header"]),
        ("t.tsv", b"", ["no column 'text'", "there are none"]),
        ("t.xls", b"text\tkind\na\tx\n", [".tsv", ".csv"]),
    ],
)
def test_a_table_that_will_not_do(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    refused(lambda: data.load(f"table:{tmp_path / name}:text:kind"), tmp_path / name, *words)


def test_a_table_that_is_missing_or_not_named_whole(tmp_path):
    refused(lambda: data.load("table:file.tsv:text"), "table:FILE:TEXT_COLUMN:LABEL_COLUMN")
    missing = tmp_path / "no.tsv"
    refused(lambda: data.load(f"table:{missing}:text:kind"), missing, "No such file")
