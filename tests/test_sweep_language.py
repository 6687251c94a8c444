"""The text of --sweep flags: what it means, and what a mistake in it is told."""

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from cnnjax.errors import UserError
from cnnjax.sweeps.axes import axis, chain, grid, product, subsample, zipped
from cnnjax.sweeps.language import parse

NAMES = {
    "no_dropout": ({"hparams.dropout": 0.0},),
    "all_networks": axis("model", ["lenet1", "lenet5"]),
}
quick = effort(database=None, derandomize=True, deadline=None, max_examples=50)


@pytest.mark.parametrize(
    ("text", "sweep"),
    [
        ("hparams.rate=0.01", axis("hparams.rate", ["0.01"])),
        ("hparams.rate=0.01,1e-1", axis("hparams.rate", ["0.01", "1e-1"])),
        ("config.hparams.rate=1", axis("hparams.rate", ["1"])),
        (" config.model = lenet1 , lenet5 ", axis("model", ["lenet1", "lenet5"])),
        ("patience=none,3", axis("patience", ["none", "3"])),
        ("seed=0:3", axis("seed", [0, 1, 2])),
        ("seed=0:10:4", axis("seed", [0, 4, 8])),
        ("seed=-1:+2", axis("seed", [-1, 0, 1])),
        ("seed=4:0:-2", axis("seed", [4, 2])),
        ("seed=100,0:2,7:9", axis("seed", ["100", 0, 1, 7, 8])),
        ("dataset=digits,tfds:mnist", axis("dataset", ["digits", "tfds:mnist"])),
        ("folder=/a:b,e:5", axis("folder", ["/a:b", "e:5"])),
        ("maps=(32,64),(8,16)", axis("maps", ["(32,64)", "(8,16)"])),
        ("maps=[(1,2),{3,4}],()", axis("maps", ["[(1,2),{3,4}]", "()"])),
        ("name=a=b,(c;d)", axis("name", ["a=b", "(c;d)"])),
        ("no_dropout", NAMES["no_dropout"]),
        (" all_networks ", NAMES["all_networks"]),
        ("product(a=1,2; b=3,4)", grid(a=["1", "2"], b=["3", "4"])),
        ("zip(a=1,2; b=3:5)", zipped(axis("a", ["1", "2"]), axis("b", [3, 4]))),
        ("chain(no_dropout; seed=0:2)", chain(NAMES["no_dropout"], axis("seed", [0, 1]))),
        ("chain(seed=1)", axis("seed", ["1"])),
        (
            "zip ( maps=(1,2),(3,4);b=5,6 )",
            zipped(axis("maps", ["(1,2)", "(3,4)"]), axis("b", ["5", "6"])),
        ),
        ("sample(5, 3; a=0:4; b=0:4)", subsample(grid(a=range(4), b=range(4)), 5, 3)),
        ("sample(2,0;all_networks)", NAMES["all_networks"]),
        (
            "product(zip(all_networks; epochs=20,30); chain(no_dropout; sample(2, 1; seed=0:9)))",
            product(
                zipped(NAMES["all_networks"], axis("epochs", ["20", "30"])),
                chain(NAMES["no_dropout"], subsample(axis("seed", range(9)), 2, 1)),
            ),
        ),
    ],
)
def test_a_text_means_a_sweep(text, sweep):
    assert parse([text], NAMES) == sweep


def test_the_trials_of_a_nested_text_by_hand():
    assert parse(["chain(zip(a=1,2; b=3,4); product(no_dropout; seed=0:2))"], NAMES) == (
        {"a": "1", "b": "3"},
        {"a": "2", "b": "4"},
        {"hparams.dropout": 0.0, "seed": 0},
        {"hparams.dropout": 0.0, "seed": 1},
    )


def test_several_flags_are_one_product():
    assert parse(["all_networks", "seed=0:2"], NAMES) == (
        {"model": "lenet1", "seed": 0},
        {"model": "lenet1", "seed": 1},
        {"model": "lenet5", "seed": 0},
        {"model": "lenet5", "seed": 1},
    )


def test_no_flag_is_one_trial_without_changes():
    assert parse([], NAMES) == ({},)


def test_the_trials_of_an_ablation_are_not_handed_out():
    parse(["no_dropout"], NAMES)[0]["seed"] = 1
    assert NAMES["no_dropout"] == ({"hparams.dropout": 0.0},)


words = st.text("abcxyz_", min_size=1, max_size=5)
scalars = st.one_of(
    words, st.integers().map(str), st.floats(allow_nan=False).map(str), st.booleans().map(str)
)
values = st.one_of(scalars, st.lists(st.integers(0, 99), max_size=3).map(lambda v: str(tuple(v))))


@quick
@given(st.lists(words, min_size=1, max_size=3), st.lists(values, min_size=1, unique=True))
def test_a_printed_axis_is_read_back(path, values):
    path = ".".join(path)
    assert parse([f"{path}={','.join(values)}"], {}) == axis(path, values)


@quick
@given(st.integers(-50, 50), st.integers(1, 50), st.integers(1, 9))
def test_a_range_is_python_s(start, extent, step):
    sweep = parse([f"seed={start}:{start + extent}:{step}"], {})
    assert sweep == axis("seed", range(start, start + extent, step))


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("", ["nothing stands where a sweep should", "write PATH=V1,V2,..."]),
        ("zip()", ["nothing stands where a sweep should"]),
        ("zip(a=1;)", ["nothing stands where a sweep should"]),
        ("no_dropuot", ["'no_dropuot' is neither", "did you mean no_dropout?"]),
        ("chain(seed=1; x)", ["'x' is neither", "valid names: no_dropout, all_networks"]),
        ("=1,2", ["no path stands before '=' in '=1,2'"]),
        ("config.=1", ["no path stands before '='"]),
        ("a=", ["a has an empty value in 'a='; write a=V1,V2,..."]),
        ("a=1,,2", ["a has an empty value in 'a=1,,2'"]),
        ("config.a=1,", ["a has an empty value"]),
        ("a=1,2,1", ["the trial a=1 is in the sweep twice"]),
        ("a=0:3,2", ["the trial a=2 is in the sweep twice"]),
        ("a=5:5", ["the range '5:5' is empty: it starts at 5 and ends before 5"]),
        ("a=0:9:-1", ["the range '0:9:-1' is empty", "in steps of -1"]),
        ("a=0:9:0", ["the range '0:9:0' has step 0"]),
        ("a=0:", ["'0:' is no range; it must be START:STOP or START:STOP:STEP, integers"]),
        ("a=:9", ["':9' is no range"]),
        ("a=1:2:3:4", ["'1:2:3:4' is no range"]),
        ("a=0.1:1", ["'0.1:1' is no range"]),
        ("a=1e-3:1e-1", ["'1e-3:1e-1' is no range"]),
        ("a=0:1000000000000", ["more than 1,000,000 trials"]),
        ("a=1;b=2", ["'a=1;b=2' has a ';' outside of brackets", "product(X; Y)"]),
        ("zip(a=1,2; b=3,4", ["'zip(a=1,2; b=3,4' has no ')' to close a bracket; add it"]),
        ("a=(1,2", ["has no ')' to close a bracket"]),
        ("a=[1,2", ["has no ']' to close a bracket"]),
        ("a=1)", ["'a=1)' has a ')' that closes nothing; leave it out"]),
        ("a=(1]", ["has a ']' that closes nothing"]),
        ("zip(a=1)b", ["'b' follows the ')' of zip(...); leave it out"]),
        ("chain(a=1)(b=2)", ["'(b=2)' follows the ')' of chain(...)"]),
        ("zap(a=1)", ["'zap' is not a function of sweeps; valid: product, zip, chain, sample"]),
        ("(a=1)", ["'' is not a function of sweeps"]),
        ("zip(a=1,2; b=1,2,3)", ["sweeps of 2 and 3 trials cannot be zipped"]),
        ("product(a=1; a=2)", ["a is set by 2 of the sweeps"]),
        ("chain(a=1; a=1)", ["the trial a=1 is in the sweep twice"]),
        ("sample(x, 0; a=1)", ["sample begins with 'x, 0'; it must be COUNT, SEED, two integers"]),
        ("sample(1.5, 0; a=1)", ["sample begins with '1.5, 0'"]),
        ("sample(2; a=1)", ["sample begins with '2'"]),
        ("sample(1,2,3; a=1)", ["sample begins with '1,2,3'"]),
        ("sample(a=1)", ["sample begins with 'a=1'", "as in sample(20, 0; X; Y)"]),
        ("sample()", ["sample begins with ''"]),
        ("sample(2, 0)", ["sample has no sweep to draw from; write sample(COUNT, SEED; X; Y)"]),
        ("sample(9, 0; a=1:4)", ["9 trials cannot be drawn from 3"]),
        ("sample(1, -1; a=1:4)", ["the seed of a subsample is -1"]),
    ],
)
def test_a_mistake_is_told_in_one_line_that_quotes_the_flag(text, messages):
    with pytest.raises(UserError) as caught:
        parse(["b=7", text], NAMES)
    told = str(caught.value)
    assert told.startswith(f"--sweep={text}: ")
    assert all(message in told for message in messages), told


def test_a_mistake_between_flags_quotes_them_all():
    with pytest.raises(UserError) as caught:
        parse(["seed=1,2", "no_dropout", "config.seed=3"], NAMES)
    assert str(caught.value).startswith(
        "--sweep=seed=1,2 --sweep=no_dropout --sweep=config.seed=3: seed is set by 2 of the sweeps"
    )


def test_a_text_of_several_lines_is_quoted_in_one():
    with pytest.raises(UserError) as caught:
        parse(["zip(a=1;\n  b=2,\n3)"], NAMES)
    assert str(caught.value).startswith("--sweep=zip(a=1; b=2, 3): sweeps of 1 and 2 trials")
    assert parse(["zip(a=1,\n  2;\n  b=3,\n4)"], NAMES) == (
        {"a": "1", "b": "3"},
        {"a": "2", "b": "4"},
    )


def test_an_experiment_without_ablations_says_so():
    with pytest.raises(UserError, match="this experiment names none"):
        parse(["no_dropout"], {})
