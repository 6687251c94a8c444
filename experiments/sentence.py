"""Sentence classification by a convolutional network (Kim 2014), its four variants.

    python launch.py --experiment=sentence

trains CNN-rand on the first sentences of the docstrings of installed packages: from which package
is a sentence?  Movie reviews, with rt-polarity.pos and rt-polarity.neg in some folder, ten folds:

    python launch.py --experiment=sentence --manual_dir=FOLDER --config.dataset=mr --sweep=fold=0:10

and the other variants with word2vec or GloVe vectors: --config.variant=nonstatic
--config.vectors=FILE.

Expected on docstrings: 81.6 ± 0.4 % of the test sentences right (5 seeds), where the most frequent
class has 49.4, multinomial naive Bayes 81.5 and logistic regression 82.1 %
(benchmarks/bag_of_words.py): convolution adds nothing to the words themselves.  CNN-rand, % right,
mean (min, max) (--sweep=rand):

    MR, three repetitions of ten folds    76.0 (75.7, 76.2)    Kim: 76.1
    MR, seven                             76.2 (75.7, 76.6)
    TREC, five seeds                      91.0 (90.0, 91.8)         91.2
    SST-2, five seeds                     80.2 (79.2, 81.6)         82.7, trained on phrases, too

With vectors of 8,007 words (a third of the words, three fifths of what is read), ten folds or three
seeds (--sweep=vectors):

                     MR      SST-2    TREC
    static           75.0    79.9     90.6
    nonstatic        78.2    82.3     92.1
    multichannel     76.8    81.5     91.3

CNN-rand's ten folds of MR take 7 minutes on two cores, the sweep of vectors 50.

Known deviations
* Dropout scales what it keeps up in training, by 1 / (1 - rate); the author scales the softmax
  weights down for testing instead.  Ours are his scaled ones: their columns' norm is bounded by
  norm * (1 - dropout), 1.5 by default, and their updates are scaled too: given the batch, a step
  is his.
* Two faults of the author's code are mended.  --config.as_published=true has them back: what
  remains beside the test fold is filled up to whole batches with copies of its own sentences before
  a tenth of it becomes the development split, so that some are in both; and which sentences share a
  batch is drawn once, not in every epoch.
* Batches are of sentences of similar length, drawn anew in every epoch: less padding is convolved.
  A sentence's output does not depend on it.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from flax.traverse_util import path_aware_map

from cnnjax.config import GIVEN, Replication, setting
from cnnjax.data import DataSet, Rows, Spec, cross_validation
from cnnjax.errors import UserError
from cnnjax.experiment.record import Experiment
from cnnjax.layers import symmetric_uniform
from cnnjax.models import SentenceCNN
from cnnjax.models.sentence import ActivationName, Pooling, Variant, window_problem
from cnnjax.sweeps import axis, chain, grid, product, zipped
from cnnjax.training import Lookup, Plan, Task

PUBLISHED = {  # accuracy, %: Kim 2014, Table 2
    "mr": {"rand": 76.1, "static": 81.0, "nonstatic": 81.5, "multichannel": 81.1},
    "sst1": {"rand": 45.0, "static": 45.5, "nonstatic": 48.0, "multichannel": 47.4},
    "sst2": {"rand": 82.7, "static": 86.8, "nonstatic": 87.2, "multichannel": 88.1},
    "subj": {"rand": 89.6, "static": 93.0, "nonstatic": 93.4, "multichannel": 93.2},
    "trec": {"rand": 91.2, "static": 92.8, "nonstatic": 93.6, "multichannel": 92.2},
    "cr": {"rand": 79.8, "static": 84.7, "nonstatic": 84.3, "multichannel": 85.0},
    "mpqa": {"rand": 83.4, "static": 89.6, "nonstatic": 89.5, "multichannel": 89.4},
}

_VECTORS = ("static", "nonstatic", "multichannel")
_TEN_FOLDS = grid(dataset=("mr",), fold=range(10))
_WITH_TEST_SPLIT = ("sst2", "trec")

# Kim's Table 2 on the data set that is set, then two of its parts on three data sets; the other
# axes are those of Zhang and Wallace 2015.
SWEEPS = {
    "table2": grid(variant=("rand", *_VECTORS), seed=range(3)),
    "rand": product(
        grid(variant=("rand",)),
        chain(
            product(zipped(axis("seed", range(3)), axis("fold_seed", range(3))), _TEN_FOLDS),
            grid(dataset=_WITH_TEST_SPLIT, seed=range(5)),
        ),
    ),
    "vectors": product(
        grid(variant=_VECTORS),
        chain(_TEN_FOLDS, grid(dataset=_WITH_TEST_SPLIT, seed=range(3))),
    ),
    "region": grid(
        windows=((1,), (3,), (5,), (7,), (10,), (15,), (20,), (25,), (30,)), seed=range(3)
    ),
    "maps": grid(maps=(10, 50, 100, 200, 400, 600, 1000, 2000), seed=range(3)),
    "activation": grid(
        activation=("relu", "tanh", "sigmoid", "softplus", "cube", "identity"), seed=range(3)
    ),
    "pooling": tuple(
        changes | {"seed": seed}
        for changes in chain(
            axis("pooling", ("max", "mean")),
            grid(pooling=("k_max",), k=(5, 10, 15, 20)),
            grid(pooling=("local_max",), pool_size=(3, 10, 20, 30)),
        )
        for seed in range(3)
    ),
    "dropout": grid({"hparams.dropout": (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)}, seed=range(3)),
    "norm": grid({"hparams.norm": (1, 2, 3, 4, 5, 10, 15, 20, 25, 30, math.inf)}, seed=range(3)),
}

_TABLE = "embedding/table"


@struct.dataclass
class Hparams:
    """What a trial may vary without a new program."""

    learning_rate: float = setting(1.0, "factor of Adadelta's updates", above=0)
    rho: float = setting(0.95, "of Adadelta's averages: what an update leaves", minimum=0, below=1)
    epsilon: float = setting(1e-6, "of Adadelta", above=0)
    dropout: float = setting(0.5, "rate before the softmax", minimum=0, below=1)
    norm: float = setting(3.0, "bound of a softmax column, before dropout's scale; inf", above=0)


@dataclasses.dataclass(frozen=True)
class Config(Replication):
    """Everything that the result depends on; defaults are those of the author's code."""

    dataset: str = setting("docstrings", "docstrings, mr, sst1, sst2, subj, trec, cr, mpqa, ...")
    variant: Variant = setting("rand", "of the words' vectors")
    vectors: str = setting("", "file of word vectors: word2vec (binary or text) or GloVe")
    unknown: Literal["uniform", "variance"] = setting(
        "uniform",
        "words without vector: uniform in ±0.25, or with the variance of the others",
        only={"vectors": GIVEN},
    )
    embedding: int = setting(300, "elements of a word's vector", minimum=1)
    windows: tuple[int, ...] = setting((3, 4, 5), "words that a filter sees")
    maps: int = setting(100, "filters of every window", minimum=1)
    activation: ActivationName = setting("relu", "function of a feature")
    pooling: Pooling = setting("max", "over time")
    k: int = setting(1, "how many values are kept", minimum=1, only={"pooling": ("k_max",)})
    pool_size: int = setting(
        10, "positions that share a maximum", minimum=1, only={"pooling": ("local_max",)}
    )
    epochs: int = setting(25, "passes over the training split", minimum=1)
    batch_size: int = setting(50, "sentences in an update", minimum=1)
    patience: int | None = setting(None, "stop after so many epochs without progress", minimum=1)
    select: Literal["best", "last"] = setting("best", "which epoch's parameters, by development")
    as_published: bool = setting(False, "with the two faults of the author's code")
    hparams: Hparams = setting(Hparams(), "hyperparameters that are traced")


def plan(config: Config) -> Plan:
    """How long to train and what to keep."""
    return Plan(
        epochs=config.epochs,
        batch_size=config.batch_size,
        seed=config.seed,
        patience=config.patience,
        select=config.select,
        ties="latest",
        batches="by_length",
        regroup=not config.as_published,
    )


def task(config: Config, spec: Spec) -> Task:
    """The network for sentences of this kind, and how it is trained.

    Raises:
        UserError: data that are no sentences, windows that do not fit them, or a variant that
            needs vectors without any.
    """
    if not spec.vocabulary:
        raise UserError(f"data set {config.dataset} has no sentences; take another or lenet")
    (length,), k = spec.shape, config.k if config.pooling == "k_max" else 1
    if problem := window_problem(config.windows, length, k):
        raise UserError(f"config.{problem}")
    if config.variant != "rand" and not config.vectors:
        raise UserError(
            f"config.variant={config.variant} starts from word vectors; name their file: "
            f"--config.vectors=FILE"
        )
    return assemble(config, spec)


def assemble(config: Config, spec: Spec) -> Task:
    """:func:`task` unchecked; without a file of vectors all words' are drawn, in every variant."""
    k = config.k if config.pooling == "k_max" else 1
    fixed = {"static": _TABLE, "multichannel": "embedding/static"}.get(config.variant)
    return Task(
        model=SentenceCNN(
            vocabulary=len(spec.vocabulary),
            classes=len(spec.classes),
            embedding=config.embedding,
            variant=config.variant,
            windows=config.windows,
            maps=config.maps,
            activation=config.activation,
            pooling=config.pooling,
            k=config.k,
            pool_size=config.pool_size,
            table_init=functools.partial(_initial_table, config, spec.vocabulary),
        ),
        optimizer=functools.partial(_optimizer, fixed),
        constrain=constrain,
        lookup=Lookup(
            trained=() if fixed == _TABLE else (_TABLE,),
            fixed=(fixed,) if fixed else (),
            idle=lambda average, steps, hparams: average * hparams.rho**steps,
            columns=None
            if config.pooling in ("mean", "local_max")
            else functools.partial(_columns, max(config.windows) + k - 1),
        ),
    )


def remarks(config: Config, dataset: DataSet) -> list[str]:
    """How many words of the data have a vector.

    Raises:
        UserError: a file of vectors that is missing or damaged.
    """
    if not config.vectors:
        return []
    from cnnjax.pretrained.vectors import coverage

    known = _vectors(config.vectors, dataset.vocabulary)
    return [f"vectors of {known.source}: {coverage(known, dataset.splits)}"]


def constrain(params: Any, hparams: Hparams) -> Any:
    """Softmax columns no longer than their bound, and a padding row of zeros."""
    output, embedding = params["output"], params["embedding"]
    kernel = output["kernel"]
    norms = jnp.sqrt(jnp.square(kernel).sum(0, keepdims=True))
    bound = hparams.norm * (1 - hparams.dropout)
    kernel = kernel * jnp.where(norms > bound, bound / norms, 1)
    table = embedding["table"].at[0].set(0)
    return params | {
        "output": output | {"kernel": kernel},
        "embedding": embedding | {"table": table},
    }


def rows(config: Config, labels: np.ndarray, splits: Rows) -> Rows | None:
    """Cross-validation; with ``as_published`` the development split overlaps the training split.

    Raises:
        UserError: a fold that does not exist.
    """
    found = cross_validation(config, labels, splits)
    if found is None or not config.as_published:
        return found
    others = np.concatenate([found["train"], found["validation"]])
    random = np.random.RandomState(config.fold_seed)
    copies = random.permutation(others)[: -len(others) % config.batch_size]
    others = random.permutation(np.concatenate([others, copies]))
    batches = len(others) // config.batch_size
    train = round(0.9 * batches) * config.batch_size
    return {"train": others[:train], "validation": others[train:], "test": found["test"]}


def report(trials: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write mean (min, max) over repetitions of every setting, beside Kim's Table 2."""
    from cnnjax.reports.repetitions import write_repetitions  # SciPy takes long to import

    def published(config: Mapping[str, Any]) -> float | None:
        return PUBLISHED.get(config["dataset"], {}).get(config["variant"])

    return write_repetitions(folder, trials, published)


def _optimizer(fixed: str | None, hparams: Hparams) -> optax.GradientTransformation:
    """Adadelta on all but the fixed table; on the author's softmax weights, not on ours.

    Ours are his times 1 - dropout, so his gradient is ours times that, and our update his times it.
    """
    name = lambda path: "/".join(map(str, path))
    softmax = functools.partial(path_aware_map, lambda path, _: name(path) == "output/kernel")
    scaled = optax.masked(optax.scale(1 - hparams.dropout), softmax)
    adadelta = optax.chain(
        scaled,
        optax.scale_by_adadelta(hparams.rho, hparams.epsilon),
        optax.scale_by_learning_rate(hparams.learning_rate),
        scaled,
    )
    if fixed is None:
        return adadelta
    trained = functools.partial(path_aware_map, lambda path, _: name(path) != fixed)
    return optax.masked(adadelta, trained)


def _columns(reach: int, inputs: np.ndarray) -> np.ndarray:
    """The columns up to ``reach`` ids behind the last word: what comes then is seen there, too.

    Windows wholly in padding are all alike; they are in what is left as often as they may win.
    """
    ends = inputs.shape[1] - np.argmax(inputs[:, ::-1] != 0, axis=1)
    ends = np.where(inputs.any(1), ends, 0)
    return np.minimum(ends + reach, inputs.shape[1])


def _initial_table(
    config: Config, vocabulary: Sequence[str], key: jax.Array, shape: Any, dtype: Any
) -> jax.Array:
    """The vectors of the file, those of other words drawn, padding zero: float[V, E]."""
    from cnnjax.pretrained.vectors import range_of_unknown

    known = _vectors(config.vectors, vocabulary) if config.vectors else None
    if known is not None and known.table.shape[1] != config.embedding:
        raise UserError(
            f"{config.vectors}: its vectors have {known.table.shape[1]} elements and "
            f"config.embedding is {config.embedding}"
        )
    table = symmetric_uniform(range_of_unknown(known, config.unknown))(key, shape, dtype)
    if known is not None:
        table = jnp.where(known.found[:, None], known.table.astype(dtype), table)
    return table.at[0].set(0)


@functools.lru_cache(maxsize=1)
def _vectors(path: str, vocabulary: tuple[str, ...]) -> Any:
    from cnnjax.pretrained import vectors

    return vectors.read(path, vocabulary)


EXPERIMENT = Experiment(
    summary="convolution over words (Kim 2014): rand, static, nonstatic, multichannel",
    config=Config,
    plan=plan,
    task=task,
    sweeps=SWEEPS,
    divide=rows,
    remarks=remarks,
    report=report,
)
