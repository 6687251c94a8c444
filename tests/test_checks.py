"""Networks that researchers have train; what cannot be taken is refused by name."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import struct

from cnnjax.errors import UserError
from cnnjax.training import Devices, Plan, fit
from tests.norm_task import Hparams, OurNet, PlainNet, task_of
from tests.training_task import small_splits

PLAN = Plan(epochs=1, batch_size=16)
SPLITS = small_splits()


class Net(nn.Module):
    """A linear classifier whose outputs take many shapes."""

    returns: str = "logits"

    @nn.compact
    def __call__(self, x):
        y = nn.Dense(3)(x.reshape(x.shape[0], -1))
        return {"logits": y, "sum": y.sum(), "dict": {"l": y}, "maps": y[:, None]}[self.returns]


class WithMode(nn.Module):
    """Told by an argument of its own whether it is trained."""

    @nn.compact
    def __call__(self, x, mode):
        x = nn.Dropout(0.5, deterministic=mode == "test")(x.reshape(x.shape[0], -1))
        return nn.Dense(3)(x)


class Noisy(nn.Module):
    """Draws from a stream of its own."""

    @nn.compact
    def __call__(self, x):
        y = nn.Dense(3)(x.reshape(x.shape[0], -1))
        return y + jax.random.normal(self.make_rng("noise"), y.shape)


class Convolution(nn.Module):
    """Flax's convolution takes [N, H, W] for one image of W channels."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.Conv(4, (3, 3))(x).reshape(x.shape[0], -1))


class Sower(nn.Module):
    """Its collection grows with every call."""

    @nn.compact
    def __call__(self, x):
        y = nn.Dense(3)(x.reshape(x.shape[0], -1))
        self.sow("losses", "mean", y.mean())
        return y


@struct.dataclass
class OnlyRate:
    """Without a rate of dropout."""

    learning_rate: float = 0.1


def a_task(model, **changes):
    return dataclasses.replace(task_of(model), **changes)


def splits(**changes):
    """The small ones, with another training split."""
    return {**SPLITS, "train": {**SPLITS["train"], **changes}}


def mean_loss(logits, labels, hparams):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def warmed_up(hparams):
    return optax.sgd(optax.warmup_cosine_decay_schedule(0.0, hparams.learning_rate, 2, 10))


def without_channels(splits):
    return {name: {**s, "inputs": s["inputs"][..., 0]} for name, s in splits.items()}


def empty(splits):
    return {name: {key: array[:0] for key, array in s.items()} for name, s in splits.items()}


TRAIN = SPLITS["train"]
MISUSES = {
    "outputs summed": (a_task(Net("sum")), SPLITS, Hparams(), "Net returns float32[] for 2 inputs"),
    "outputs a dict": (a_task(Net("dict")), SPLITS, Hparams(), "returns a dict of 1 arrays"),
    "outputs maps": (a_task(Net("maps")), SPLITS, Hparams(), "must return logits float[2, K]"),
    "labels outside": (
        a_task(Net()), splits(labels=TRAIN["labels"] + 5), Hparams(),
        "splits['train']['labels'] are from 5 to 7; the model has 3 outputs",
    ),
    "fewer labels": (
        a_task(Net()), splits(labels=TRAIN["labels"][1:]), Hparams(), "and 89 labels",
    ),
    "one-hot labels": (
        a_task(Net()), splits(labels=np.eye(3)[TRAIN["labels"]]), Hparams(),
        "of one-hot labels take labels.argmax(-1)",
    ),
    "no validation": (
        a_task(Net()), {"train": TRAIN}, Hparams(), "no 'validation', which is needed",
    ),
    "no inputs": (
        a_task(Net()), {**SPLITS, "train": {"labels": TRAIN["labels"]}}, Hparams(),
        "must have 'inputs' and 'labels'",
    ),
    "lists": (
        a_task(Net()), splits(inputs=TRAIN["inputs"].tolist()), Hparams(),
        "splits['train']['inputs'] is a list; it must be an array",
    ),
    "no channels": (
        a_task(Convolution()), without_channels(SPLITS), Hparams(), "inputs[..., None]",
    ),
    "a mean as loss": (a_task(Net(), loss=mean_loss), SPLITS, Hparams(), "one number an example"),
    "nothing": (a_task(Net()), empty(SPLITS), Hparams(), "splits['train'] is empty"),
    "an optimiser": (
        a_task(Net(), optimizer=optax.sgd(0.1)), SPLITS, Hparams(), "must be a function of hparams",
    ),
    "optax's schedule": (
        a_task(Net(), optimizer=warmed_up), SPLITS, Hparams(),
        "value of hparams.learning_rate, which is traced; of schedules take those of "
        "cnnjax.training.schedules",
    ),
    "an argument": (a_task(WithMode()), SPLITS, Hparams(), "Task(call=lambda training: {...})"),
    "a stream": (a_task(Noisy()), SPLITS, Hparams(), 'PRNG for "noise"'),
    "growing state": (a_task(Sower()), SPLITS, Hparams(), "changes the structure"),
    "a text": (a_task(Net()), SPLITS, {"learning_rate": "0.1"}, "'0.1'; it must be a number"),
    "no dropout": (a_task(OurNet()), SPLITS, OnlyRate(), "needs hparams.dropout"),
    "a function": (a_task(lambda x: x), SPLITS, Hparams(), "must be a flax.linen.Module"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISUSES)
def test_misuse_is_refused_by_name(name, monkeypatch):
    """In one line, and before anything is compiled."""
    task, given, hparams, message = MISUSES[name]
    monkeypatch.setattr("cnnjax.training.loop.Batches", None)  # what comes after the checks
    with pytest.raises(UserError) as caught:
        fit(task, given, hparams, PLAN, devices=Devices("single"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changes", [{"epochs": 0}, {"batch_size": 0}])
def test_a_plan_of_nothing_is_refused(changes):
    with pytest.raises(UserError, match="must be at least 1"):
        dataclasses.replace(PLAN, **changes)


def test_batches_by_length_need_lengths():
    plan = dataclasses.replace(PLAN, batches="by_length")
    with pytest.raises(UserError, match=r"plan\.batches is 'by_length'"):
        fit(a_task(Net()), SPLITS, Hparams(), plan, devices=Devices("single"))


def test_parameters_are_no_variables():
    fitted = fit(a_task(Net()), SPLITS, Hparams(), PLAN, devices=Devices("single"))
    with pytest.raises(ValueError, match="give all of a model's variables"):
        a_task(Net()).logits(fitted.params, TRAIN["inputs"])


def test_without_selection_no_validation_is_needed():
    plan = dataclasses.replace(PLAN, select="last", epochs=2)
    fitted = fit(a_task(Net()), {"train": TRAIN}, Hparams(), plan, devices=Devices("single"))
    assert (fitted.epochs, fitted.selected_epoch) == (2, 2)


@pytest.mark.parametrize(
    "task",
    [
        task_of(PlainNet()),
        a_task(WithMode(), call=lambda training: {"mode": "train" if training else "test"}),
    ],
)
def test_a_network_of_ones_own_learns(task):
    plan = Plan(epochs=12, batch_size=16)
    fitted = fit(task, SPLITS, Hparams(), plan, devices=Devices("single"))
    logits = task.logits(fitted.variables, SPLITS["validation"]["inputs"])
    right = np.mean(np.argmax(logits, -1) == SPLITS["validation"]["labels"])
    assert right > 0.8
    assert jnp.array_equal(logits, task.logits(fitted.variables, SPLITS["validation"]["inputs"]))
