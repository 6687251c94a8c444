"""The data sets of Kim 2014: found in every form, prepared once, refused if they are not whole."""

import dataclasses
import functools
import http.server
import shutil
import threading

import numpy as np
import pytest
from tensorflow_datasets.core.download.checksums import compute_url_info

from cnnjax import data
from cnnjax.data import sentence_sources, sentences, text
from cnnjax.data.text import readers
from tests.data_files import config_of, nothing_prepared, refused, same

SIZE = 40  # of every small file


def resize(monkeypatch, name, size=SIZE):
    """Take small files for those of the paper."""
    source = sentence_sources.SOURCES[name]
    sizes = dict.fromkeys(source.sizes, size * (2 if name == "mr" else 1))
    small = dataclasses.replace(source, sizes=sizes)
    monkeypatch.setitem(sentence_sources.SOURCES, name, small)
    return small


def lines(count=SIZE, mark=""):
    return "".join(f"{mark}sentence number {i} caf\xe9\n" for i in range(count))


def numbered(classes, count=SIZE):
    return "".join(f"{i % classes} sentence number {i}\n" for i in range(count))


def write(folder, contents, encoding="latin-1"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content.encode(encoding))
    return folder


POLARITY = {"rt-polarity.neg": lines(mark="bad "), "rt-polarity.pos": lines(mark="good\x85 ")}


@pytest.fixture
def mr(tmp_path, monkeypatch):
    resize(monkeypatch, "mr")
    return write(tmp_path / "files", POLARITY)


@pytest.mark.parametrize("subfolder", ["", "mr"])
def test_mr_is_found_and_cleaned(tmp_path, monkeypatch, subfolder):
    resize(monkeypatch, "mr")
    write(tmp_path / "files" / subfolder, POLARITY)
    dataset = data.load("mr", tmp_path / "data", tmp_path / "files")
    sizes = {split: len(part["labels"]) for split, part in dataset.splits.items()}
    assert sizes == {"train": 65, "validation": 7, "test": 8}
    assert dataset.classes == ("negative", "positive")
    words = dict(zip(dataset.vocabulary, range(99), strict=False))
    assert set(words) == {
        *(text.PADDING, text.UNKNOWN, "bad", "good", "sentence", "number", "caf"),
        *map(str, range(SIZE)),
    }
    for part in dataset.splits.values():
        assert ((part["inputs"] == words["good"]).any(1) == (part["labels"] == 1)).all()
    assert dataset.provenance["cleaning"] == "kim"
    assert dataset.spec.shape == (5 + 8,)


def test_other_files_than_the_published_are_prepared_once_under_another_name(tmp_path, mr, capsys):
    first = data.load("mr", tmp_path / "data", mr)
    assert "preparing sentences/mr-" in capsys.readouterr().err
    assert str(mr) in first.provenance["source"]
    assert same(first, data.load("mr", tmp_path / "data", mr))
    assert capsys.readouterr().err == ""
    write(mr, {"rt-polarity.neg": lines(mark="changed ")})
    second = data.load("mr", tmp_path / "data", mr)
    assert config_of(first) != config_of(second)
    assert "changed" in second.vocabulary


def test_the_published_files_are_downloaded_once(tmp_path, mr, monkeypatch):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=mr)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        source = sentence_sources.SOURCES["mr"]
        form = dataclasses.replace(source.forms[0], address=address)
        source = dataclasses.replace(source, forms=(form, *source.forms[1:]))
        monkeypatch.setitem(sentence_sources.SOURCES, "mr", source)
        config = sentences.Sentences.builder_configs["mr"]
        monkeypatch.setattr(config, "source", source)
        monkeypatch.setattr(config, "form", form)
        infos = {address + path.name: compute_url_info(path) for path in mr.iterdir()}
        monkeypatch.setattr(sentences.Sentences, "url_infos", infos)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            first = data.load("mr", tmp_path / "data")
        finally:
            server.shutdown()
            thread.join()
    assert config_of(first) == "mr"
    assert first.provenance["source"].startswith("Pang and Lee 2005")
    given = data.load("mr", tmp_path / "data", mr)  # the same files, recognised
    assert config_of(given) == "mr"
    shutil.rmtree(mr)
    assert same(first, given)
    assert same(first, data.load("mr", tmp_path / "data"))


@pytest.mark.parametrize("name", ["mr", "sst2", "trec"])
def test_without_network_the_message_says_what_to_put_where(tmp_path, name):
    message = refused(
        lambda: data.load(name, tmp_path / "data"), "cannot reach", "name it as manual_dir"
    )
    form = sentence_sources.SOURCES[name].forms[0]
    assert all(file in message for names in form.parts.values() for file in names)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["sst1", "sst1_phrases", "sst2_phrases", "subj", "cr", "mpqa"])
def test_what_is_not_published_is_asked_for(tmp_path, name):
    message = refused(
        lambda: data.load(name, tmp_path / "data"), "not published", "name it as manual_dir"
    )
    for form in sentence_sources.SOURCES[name].forms:
        assert all(file in message for names in form.parts.values() for file in names)


def test_a_missing_file_is_named_with_both_places(tmp_path):
    folder = write(tmp_path / "files", {"rt-polarity.pos": "good\n"})
    message = refused(lambda: data.load("mr", tmp_path / "data", folder), folder / "mr")
    assert "rt-polarity.neg, rt-polarity.pos, or rt-polarity.all" in message
    assert not (tmp_path / "data").exists()


TREE = "(3 (2 The) ({label} (2 ({inner} film) (2 number)) (2 {i})))\n"


def trees(count=SIZE, labels=(0, 1, 3, 4)):
    return "".join(
        TREE.format(i=i, label=2, inner=(i + 1) % 5).replace("(3", f"({labels[i % len(labels)]}", 1)
        for i in range(count)
    )


STANFORD = {"train.txt": trees(), "dev.txt": trees(), "test.txt": trees()}
FORMS = [
    ("mr", {"rt-polarity.all": numbered(2, 2 * SIZE)}, "1/2"),
    ("subj", {"plot.tok.gt9.5000": lines(20), "quote.tok.gt9.5000": lines(20)}, "1/2"),
    ("subj", {"subj.objective": lines(20), "subj.subjective": lines(20)}, "1/2"),
    ("subj", {"subj.all": numbered(2)}, "1/2"),
    ("cr", {"custrev.neg": lines(20), "custrev.pos": lines(20)}, "1/2"),
    ("cr", {"custrev.all": numbered(2)}, "1/2"),
    ("mpqa", {"mpqa.neg": lines(20), "mpqa.pos": lines(20)}, "1/2"),
    ("mpqa", {"mpqa.all": numbered(2)}, "1/2"),
    ("trec", {"TREC.train.all": numbered(6), "TREC.test.all": numbered(6)}, "36,4/40"),
    (
        "trec",
        {
            "train_5500.label": lines(mark="HUM:ind Who is "),
            "TREC_10.label": lines(20, mark="NUM:count How many ")
            + lines(20, mark="DESC:def What is "),
        },
        "36,4/40",
    ),
    ("sst1", {f"stsa.fine.{s}": numbered(5) for s in ("train", "dev", "test")}, "40,40/40"),
    ("sst1", STANFORD, "40,40/40"),
    ("sst2", {f"stsa.binary.{s}": numbered(2) for s in ("train", "dev", "test")}, "40,40/40"),
    ("sst2", STANFORD, "40,40/40"),
    (
        "sst2_phrases",
        {"stsa.binary.phrases.train": numbered(2, 90)}
        | {f"stsa.binary.{s}": numbered(2) for s in ("dev", "test")},
        "90,40/40",
    ),
]


@pytest.mark.parametrize(("name", "contents", "sizes"), FORMS)
def test_every_form_is_read(tmp_path, monkeypatch, name, contents, sizes):
    source = resize(monkeypatch, name)
    encoding = "utf-8" if name.startswith("sst") else "latin-1"
    write(tmp_path / "files", contents, encoding)
    dataset = data.load(name, tmp_path / "data", tmp_path / "files")
    assert dataset.classes == source.classes
    counts = [len(part["labels"]) for part in dataset.splits.values()]
    if sizes == "1/2":
        total = 2 * SIZE if name == "mr" else SIZE
        validation = round(0.1 * 0.9 * total)
        assert counts == [total * 9 // 10 - validation, validation, total // 10]
    else:
        train, test = sizes.split("/")
        expected = [*map(int, train.split(",")), int(test)]
        assert counts == expected
    labels = np.concatenate([part["labels"] for part in dataset.splits.values()])
    assert 0 <= labels.min() < labels.max() < len(dataset.classes)
    assert {"number"} < set(dataset.vocabulary)


def test_labels_of_the_treebank_and_of_trec(tmp_path, monkeypatch):
    resize(monkeypatch, "sst1")
    folder = write(tmp_path / "files" / "sst1" / "trees", STANFORD)
    fine = data.load("sst1", tmp_path / "data", tmp_path / "files").splits["test"]
    assert fine["labels"].tolist() == [(0, 1, 3, 4)[i % 4] for i in range(SIZE)]
    resize(monkeypatch, "sst2")
    binary = data.load("sst2", tmp_path / "data", folder).splits["test"]
    assert binary["labels"].tolist() == [i % 4 // 2 for i in range(SIZE)]
    resize(monkeypatch, "trec")
    trec = dict(FORMS[9][1])
    dataset = data.load("trec", tmp_path / "data", write(tmp_path / "trec", trec))
    names = [dataset.classes[label] for label in dataset.splits["test"]["labels"]]
    assert names == ["number"] * 20 + ["description"] * 20
    assert {"How", "Who", "caf"} < set(dataset.vocabulary)  # TREC keeps its capitals


def test_phrases_are_for_training_only(tmp_path, monkeypatch):
    resize(monkeypatch, "sst1_phrases")
    folder = write(tmp_path / "files" / "sst1", STANFORD)
    dataset = data.load("sst1_phrases", tmp_path / "data", folder.parent)
    counts = [len(part["labels"]) for part in dataset.splits.values()]
    # Of every tree: the whole, (film number i), i; once each: The, number; of (film number) and
    # film one for each label.
    assert counts == [3 * SIZE + 2 + 1 + 5, SIZE, SIZE]


@pytest.mark.parametrize(
    ("line", "phrases", "expected"),
    [
        ("(3 (2 a) (4 (1 b) (0 c)))", False, [("a b c", 3)]),
        (
            "(3 (2 a) (4 (1 b) (0 c)))",
            True,
            [("a b c", 3), ("b c", 4), ("c", 0), ("b", 1), ("a", 2)],
        ),
        ("(2 word)", True, [("word", 2)]),
        ("(1 (1 x) (1 x))", True, [("x x", 1), ("x", 1)]),
    ],
)
def test_a_tree(tmp_path, line, phrases, expected):
    (tmp_path / "t").write_text(line + "\n\n")
    assert readers.trees(tmp_path / "t", phrases) == expected


@pytest.mark.parametrize(
    "line", ["(3 (2 a)", "(3 a))", "a", "(7 a)", "(3 (2 a) b) (1 c)", "()", "(3 )", "3 (2 a)"]
)
def test_what_is_no_tree_is_named(tmp_path, line):
    (tmp_path / "t").write_text(f"(2 fine)\n{line}\n")
    refused(lambda: readers.trees(tmp_path / "t"), tmp_path / "t", "line 2 is no tree")


@pytest.mark.parametrize(
    ("name", "contents", "encoding", "words"),
    [
        ("mr", POLARITY | {"rt-polarity.pos": ""}, "latin-1", ["rt-polarity.pos: holds no"]),
        ("mr", POLARITY | {"rt-polarity.neg": lines(39)}, "latin-1", ["79 sentences", "has 80"]),
        ("cr", {"custrev.all": numbered(2) + "2 more\n"}, "latin-1", ["line 41", "'2'", "0, 1"]),
        ("cr", {"custrev.all": numbered(2) + "\n0 x\n"}, "latin-1", ["line 41", "''"]),
        ("sst2", dict(FORMS[12][1]) | {"stsa.binary.dev": "1 caf\xe9\n"}, "latin-1",
         ["stsa.binary.dev: line 1 is not UTF-8", "0xe9"]),
        ("trec", dict(FORMS[9][1]) | {"TREC_10.label": "HUM:x a\nWHO b\n"}, "latin-1",
         ["line 2 starts with 'WHO'", "DESC"]),
        ("sst1", STANFORD | {"dev.txt": "(2 a\n"}, "utf-8", ["dev.txt: line 1 is no tree"]),
    ],
)  # fmt: skip
def test_a_defect_leaves_nothing_prepared(tmp_path, monkeypatch, name, contents, encoding, words):
    resize(monkeypatch, name)
    folder = write(tmp_path / "files", contents, encoding)
    refused(lambda: data.load(name, tmp_path / "data", folder), folder, *words)
    assert nothing_prepared(tmp_path / "data")


@pytest.fixture(scope="module")
def real(real_data, tmp_path_factory):
    return lambda name: data.load(name, tmp_path_factory.mktemp(name), real_data / "sentences")


def test_the_real_mr(real):
    """10,662 sentences of up to 56 words; 18,765 word types (Kim 2014, table 1)."""
    mr = real("mr")
    assert config_of(mr) == "mr"
    assert len(mr.vocabulary) - 2 == 18765
    assert mr.spec.shape == (64,)
    labels = np.concatenate([part["labels"] for part in mr.splits.values()])
    assert np.bincount(labels).tolist() == [5331, 5331]
    longest = max(text.lengths(part["inputs"]).max() for part in mr.splits.values())
    assert longest == 56


def test_the_real_trec(real):
    """5,452 + 500 questions of six classes; 9,592 word types (Kim 2014, table 1)."""
    trec = real("trec")
    assert config_of(trec) == "trec"
    assert len(trec.vocabulary) - 2 == 9592
    sizes = {split: len(part["labels"]) for split, part in trec.splits.items()}
    assert sizes == {"train": 4907, "validation": 545, "test": 500}
    assert len(trec.classes) == 6


def test_the_real_sst2(real):
    """6,920 / 872 / 1,821 sentences (Kim 2014, table 1)."""
    sst2 = real("sst2")
    assert config_of(sst2) == "sst2"
    sizes = {split: len(part["labels"]) for split, part in sst2.splits.items()}
    assert sizes == {"train": 6920, "validation": 872, "test": 1821}
    assert np.bincount(sst2.splits["test"]["labels"]).tolist() == [912, 909]
