"""What training cannot take is refused by name, before anything is compiled.

A network, a loss or a data set that does not fit would end in an error from deep inside of JAX or
Flax, or worse, train something else.
"""

import contextlib
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cnnjax.data.dataset import Split
from cnnjax.errors import UserError, reason
from cnnjax.training.calling import apply
from cnnjax.training.plan import Plan
from cnnjax.training.step import init_state, prepared
from cnnjax.training.task import Hparams, Task

_EXAMPLES = 2


def require_sound(task: Task, splits: Mapping[str, Split], hparams: Hparams, plan: Plan) -> None:
    """Check all that :func:`cnnjax.training.fit` is given but the model (:func:`outputs_of`).

    Raises:
        UserError: says which argument it is, what was found there and what it must be.
    """
    if not isinstance(task.model, nn.Module):
        raise UserError(f"task.model is {_kind(task.model)}; it must be a flax.linen.Module")
    if not callable(task.optimizer):
        raise UserError(
            f"task.optimizer is {_kind(task.optimizer)}; it must be a function of hparams that "
            f"returns an optax.GradientTransformation, as lambda h: optax.sgd(h.learning_rate)"
        )
    for path, leaf in jax.tree.leaves_with_path(hparams):
        if not jnp.issubdtype(jnp.result_type(leaf) if _is_number(leaf) else object, jnp.number):
            raise UserError(f"hparams{jax.tree_util.keystr(path)} is {leaf!r}; it must be a number")
    needed = ["train"]
    if plan.select == "best" or plan.patience is not None:
        needed.append("validation")
    for name in needed:
        if name not in splits:
            why = " (plan.select is 'best', or there is patience)" if name == "validation" else ""
            raise UserError(f"splits has {_names(splits)}, but no {name!r}, which is needed{why}")
    for name in ("train", "validation"):
        if name in splits:
            _require_split(name, splits[name])


def _require_split(name: str, split: Split) -> None:
    where = f"splits[{name!r}]"
    for key in ("inputs", "labels"):
        if key not in split:
            raise UserError(f"{where} has {_names(split)}; it must have 'inputs' and 'labels'")
        if not all(hasattr(split[key], attribute) for attribute in ("shape", "dtype")):
            raise UserError(f"{where}[{key!r}] is {_kind(split[key])}; it must be an array")
    inputs, labels = split["inputs"], split["labels"]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        hint = "; of one-hot labels take labels.argmax(-1)" if labels.ndim == 2 else ""
        raise UserError(
            f"{where}['labels'] is {labels.dtype}{list(labels.shape)}; it must be int[N], the "
            f"number of each example's class{hint}"
        )
    if not inputs.shape or inputs.shape[0] != len(labels):
        raise UserError(
            f"{where} has inputs {list(inputs.shape)} and {len(labels)} labels; there must be as "
            f"many"
        )
    if not len(labels):
        raise UserError(f"{where} is empty; it must have an example")


def outputs_of(task: Task, inputs: Any, hparams: Hparams) -> int:
    """How many classes the model tells apart: K of its logits float[N, K].

    Args:
        task: whose model, loss and optimiser are traced; nothing is computed.
        inputs: stored inputs [N, ...], of which shape and type matter.
        hparams: the hyperparameters of the run; they may be traced.

    Raises:
        UserError: a model, a loss or an optimiser that training cannot take.
    """
    like = lambda shape, dtype: jax.ShapeDtypeStruct(shape, dtype)
    hparams = jax.tree.map(lambda _: like((), jnp.float32), hparams)
    some = like((_EXAMPLES, *inputs.shape[1:]), inputs.dtype)
    batch = {
        "inputs": some,
        "labels": like((_EXAMPLES,), jnp.int32),
        "weights": like((_EXAMPLES,), jnp.float32),
    }

    def outputs(state: Any, batch: Any, hparams: Hparams) -> Any:
        inputs, training = prepared(task, state, batch, hparams)
        logits, _, collections = apply(task.model, state.variables, inputs, training, task.call)
        return logits, collections

    with explained(task, inputs.shape), nn.intercept_methods(_refuse_unbatched):
        start = functools.partial(init_state, task)
        state = jax.eval_shape(start, like((), jnp.uint32), some, hparams)
        logits, collections = jax.eval_shape(outputs, state, batch, hparams)
    if not hasattr(logits, "shape") or len(logits.shape) != 2 or logits.shape[0] != _EXAMPLES:
        raise UserError(
            f"{_model(task)} returns {_shown(logits)} for {_EXAMPLES} inputs "
            f"{list(inputs.shape[1:])}; it must return logits float[{_EXAMPLES}, K], or "
            f"(logits, features)"
        )
    with explained(task, inputs.shape):
        losses = jax.eval_shape(task.loss, logits, batch["labels"], hparams)
    if getattr(losses, "shape", None) != (_EXAMPLES,):
        raise UserError(
            f"task.loss returns {_shown(losses)} for {_EXAMPLES} examples; it must return one "
            f"number an example, float[{_EXAMPLES}] (no mean, no sum)"
        )
    before, after = (jax.tree.structure(dict(tree)) for tree in (state.collections, collections))
    if before != after:
        raise UserError(
            f"{_model(task)} changes the structure of its collections in a step, from {before} to "
            f"{after}; sow into 'intermediates', which is not kept"
        )
    return logits.shape[1]


def require_labels(splits: Mapping[str, Split], classes: int) -> None:
    """Check that every label is the number of one of the model's outputs.

    Raises:
        UserError: one is not.
    """
    for name in ("train", "validation"):
        if name in splits:
            labels = np.asarray(splits[name]["labels"])
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= classes:
                raise UserError(
                    f"splits[{name!r}]['labels'] are from {low} to {high}; the model has {classes} "
                    f"outputs, so they must be from 0 to {classes - 1}"
                )


@contextlib.contextmanager
def explained(task: Task, inputs: tuple[int, ...]) -> Iterator[None]:
    """Inside, what goes wrong while ``task`` is traced is said in the words of who wrote it.

    Args:
        task: that is traced.
        inputs: shape of the stored inputs.
    """
    try:
        yield
    except UserError:
        raise
    except jax.errors.ConcretizationTypeError as error:
        found = re.search(r"value of the argument (\S+?)\.?(\s|$)", str(error))
        raise UserError(
            f"the task asks in Python for the value of {found[1] if found else 'a number'}, which "
            f"is traced; of schedules take those of cnnjax.training.schedules, of conditions "
            f"jnp.where"
        ) from error
    except flax.errors.InvalidRngError as error:
        raise UserError(
            f"{_model(task)} draws from a random stream that training does not give "
            f"({_first_line(error)}); it has 'params' and 'dropout'"
        ) from error
    except (TypeError, ValueError, AttributeError, KeyError, flax.errors.FlaxError) as error:
        hint = ""
        if isinstance(error, TypeError) and "argument" in str(error):
            hint = "; Task(call=lambda training: {...}) says which arguments it is called with"
        if isinstance(error, AttributeError) and "dropout" in str(error):
            hint = "; a model that drops needs hparams.dropout"
        if len(inputs) == 3:
            hint += "; images need an axis of channels: inputs[..., None]"
        raise UserError(
            f"{_model(task)} cannot be trained on inputs {list(inputs)}: {_first_line(error)}{hint}"
        ) from error


def _refuse_unbatched(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Flax's convolution takes a batch of images without channels for one image: refused."""
    module = context.module
    if isinstance(module, nn.Conv) and context.method_name == "__call__":
        window = module.kernel_size
        spatial = 1 if isinstance(window, int) else len(window)
        if args[0].ndim < spatial + 2:
            raise ValueError(
                f"a convolution with windows {window} is given an array {list(args[0].shape)}, "
                f"which lacks the axis of examples or that of channels"
            )
    return call(*args, **kwargs)


def _first_line(error: BaseException) -> str:
    return reason(error).split(" See ")[0].split(" (https://")[0][:300]


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, int | float | complex | np.generic | np.ndarray | jax.Array)


def _model(task: Task) -> str:
    return f"the model {type(task.model).__name__}"


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def _names(mapping: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, mapping)) or "nothing"


def _shown(tree: Any) -> str:
    if hasattr(tree, "shape"):
        return f"{tree.dtype}{list(tree.shape)}"
    return f"{_kind(tree)} of {len(jax.tree.leaves(tree))} arrays"
