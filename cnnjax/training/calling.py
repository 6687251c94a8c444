"""How a model is called: in training with what it needs of the batch, elsewhere on inputs alone.

Any Linen module will do.  One that takes ``dropout`` is given the function that drops; one that
takes ``train``, ``training``, ``is_training``, ``deterministic`` or ``use_running_average`` is told
by it whether it is trained; :attr:`cnnjax.training.Task.call` says it for all others.

Layers that look at the whole batch, or draw at random, are told of the batch here, by Flax's
interception of their calls, so that networks need not hand it through: our own
:class:`~cnnjax.layers.BatchNorm` and Flax's normalise by the whole batch without its padding, and
Flax's ``nn.Dropout`` draws an example's mask from the example's own key.  What they compute is thus
the same however the batch is padded, and divided among devices.
"""

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax import ops
from cnnjax.layers import BatchNorm, WholeBatch

Variables = Mapping[str, Any]
"""A model's Flax collections: "params", and others, as "batch_stats", where it has any."""

# Argument -> its value in training; elsewhere it is the other one.
_FLAGS = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}


@dataclasses.dataclass(frozen=True)
class InTraining:
    """What a model, and the layers in it, may need to know in a training step.

    Attributes:
        dropout: ``(x, site=0) -> x``, which drops with the rate ``hparams.dropout``.
        keys: ``(name, site=0) -> key[N]``: an example's own keys, by its place in the whole batch.
        key: of the step; for layers that draw from Flax's stream "dropout" themselves.
        batch: its weights, and the devices that share it.
    """

    dropout: Callable[..., jax.Array]
    keys: Callable[..., jax.Array]
    key: jax.Array
    batch: WholeBatch


Call = Callable[[InTraining | None], Mapping[str, Any]]
"""``training or None -> keyword arguments`` of a model's call beside its inputs."""


def apply(
    model: nn.Module,
    variables: Variables,
    inputs: jax.Array,
    training: InTraining | None = None,
    call: Call | None = None,
) -> tuple[jax.Array, Mapping[str, jax.Array], Variables]:
    """The model's logits and features, and what training made of its collections.

    Args:
        model: a Linen module; it returns ``(logits, features)`` or logits alone.
        variables: its collections.
        inputs: prepared [N, ...].
        training: in a training step only.
        call: how it is called; by default as its signature says.

    Returns:
        Logits, features by name, and the collections other than "params", changed in training.

    Raises:
        ValueError: variables without "params".
    """
    if "params" not in variables:
        raise ValueError(
            f"variables have {', '.join(map(repr, variables)) or 'nothing'}, but not 'params'; "
            f"give all of a model's variables (fitted.variables), not its parameters alone"
        )
    arguments = (call or default_call(model))(training)
    others = {name: tree for name, tree in variables.items() if name != "params"}
    if training is None:
        return *_named(model.apply(variables, inputs, **arguments)), others
    with nn.intercept_methods(_told_of(training)):
        found = model.apply(
            variables, inputs, **arguments, mutable=list(others) or False,
            rngs={"dropout": training.key},
        )  # fmt: skip
    outputs, others = found if others else (found, others)
    return *_named(outputs), others


def default_call(model: nn.Module) -> Call:
    """How the signature of ``model`` says that it is called."""
    parameters = inspect.signature(type(model).__call__).parameters

    def call(training: InTraining | None) -> Mapping[str, Any]:
        told: dict[str, Any] = {
            flag: _FLAGS[flag] == (training is not None) for flag in _FLAGS.keys() & parameters
        }
        if training is not None and "dropout" in parameters:
            told["dropout"] = training.dropout
        return told

    return call


def _named(outputs: Any) -> tuple[jax.Array, Mapping[str, jax.Array]]:
    """``(logits, features)``, also of a model that returns its logits alone."""
    if isinstance(outputs, tuple) and len(outputs) == 2 and isinstance(outputs[1], Mapping):
        return outputs
    logits: Any = outputs
    return logits, {"logits": logits}


def _told_of(training: InTraining) -> Callable[..., Any]:
    """The interceptor that gives layers their batch and their keys."""
    sites = itertools.count()

    def intercept(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        match context.module:
            case BatchNorm() if len(args) == 1:
                _require_examples_first(args[0], training, context.module)
                return call(*args, **{"batch": training.batch, **kwargs})
            case nn.BatchNorm() as norm if not _told(norm, "use_running_average", args, kwargs):
                _require_examples_first(args[0], training, norm)
                return _by_whole_batch(norm, args[0], training.batch)
            case nn.Dropout() as dropout if not _told(dropout, "deterministic", args, kwargs):
                return _dropped(dropout, args[0], training, sites, lambda: call(*args, **kwargs))
        return call(*args, **kwargs)

    return intercept


def _told(module: nn.Module, flag: str, args: Any, kwargs: Any) -> Any:
    """The value of a flag that Flax's layers take as an attribute or as their second argument."""
    given = kwargs.get(flag, args[1] if len(args) > 1 else None)
    return getattr(module, flag) if given is None else given


def _require_examples_first(x: jax.Array, training: InTraining, module: nn.Module) -> None:
    examples = len(training.batch.weights)
    if x.shape[0] != examples:
        raise ValueError(
            f"the batch normalisation {module.name} sees an array {x.shape} where the batch has "
            f"{examples} examples; their axis must be the first, so that padding can be left out"
        )


def _by_whole_batch(norm: nn.BatchNorm, x: jax.Array, batch: WholeBatch) -> jax.Array:
    """What Flax's layer does in training, by the moments of the whole batch.

    It is made to normalise by them as by its running averages, which are then brought up to date
    with its own momentum and, as it does, the biased variance.
    """
    axes = (norm.axis,) if isinstance(norm.axis, int) else norm.axis
    mean, var, _ = batch.moments(x, axes)
    averages = {name: norm.get_variable("batch_stats", name) for name in ("mean", "var")}
    for name, value in (("mean", mean), ("var", var)):
        norm.put_variable("batch_stats", name, value.astype(averages[name].dtype))
    same = norm.clone(parent=norm.scope, use_running_average=True)
    y = same(x)
    for name, value in (("mean", mean), ("var", var)):
        average = norm.momentum * averages[name] + (1 - norm.momentum) * value
        norm.put_variable("batch_stats", name, average.astype(averages[name].dtype))
    return y


def _dropped(
    layer: nn.Dropout,
    x: jax.Array,
    training: InTraining,
    sites: Iterator[int],
    flaxs: Callable[[], jax.Array],
) -> jax.Array:
    """Flax's dropout with a key an example; its own where examples are not apart."""
    shared = {axis % x.ndim for axis in layer.broadcast_dims}
    examples = len(training.batch.weights)
    if layer.rate in (0.0, 1.0) or 0 in shared or x.shape[0] != examples:
        return flaxs()
    keys = training.keys("linen dropout", next(sites))
    if not shared:
        return ops.dropout(x, keys, layer.rate)
    shape = tuple(1 if axis in shared else size for axis, size in enumerate(x.shape))
    return x * ops.dropout(jnp.ones(shape, x.dtype), keys, layer.rate)
