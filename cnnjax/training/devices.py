"""The ways to run the one step on the devices there are."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cnnjax.errors import ArgumentError
from cnnjax.runtime import processes
from cnnjax.runtime.compilation import jit

WAYS = ("auto", "single", "sharded", "shard_map", "pmap")
_AXIS = "data"
_WAITING = 3  # batches of an evaluation that are under way, at most
_LOOP = 16  # steps of a loop whose length XLA knows
STEPS_A_CALL, _MANY_STEPS = 4, 512  # so many steps are one call in epochs of so many and more

Step = Callable[..., Any]
"""``step(carry, data, rows, weights, hparams, *, axis_name=None) -> carry``."""


class Devices:
    """Where a program runs, and how a batch is divided.

    Args:
        parallel: ``"single"``: one device; ``"sharded"``: jit with the batch sharded over a mesh;
            ``"shard_map"`` and ``"pmap"``: the same step inside these transformations;
            ``"auto"``: sharded where there is more than one device, else single.
        devices: by default all, those of other processes included; each of several processes
            must then have the same data, and make the same calls (only ``"sharded"`` can).
        one_program: run all steps of a call in one program instead of a loop of calls.  By default
            on accelerators, where a call costs more than a small step; not on CPU, where XLA has
            only a naive kernel for convolution gradients inside a loop.  ``pmap`` always loops.

    All ways compute the same update to float tolerance, with the same dropout masks.
    """

    def __init__(
        self,
        parallel: str = "auto",
        devices: Sequence[jax.Device] | None = None,  # pyright: ignore[reportInvalidTypeForm]
        one_program: bool | None = None,
    ):
        if parallel not in WAYS:
            raise ArgumentError("parallel", parallel, f"valid are {', '.join(WAYS)}")
        devices = list(devices or jax.devices())
        if processes.several() and parallel not in ("auto", "sharded"):
            raise ArgumentError("parallel", parallel, "runs in one process; several need sharded")
        if parallel == "auto":
            parallel = "sharded" if len(devices) > 1 else "single"
        self.way = parallel
        self.devices = devices[:1] if parallel == "single" else devices
        if one_program is None:
            one_program = self.platform != "cpu"
        self.one_program = one_program and parallel != "pmap"
        self._mesh = jax.make_mesh(
            (len(self.devices),), (_AXIS,), axis_types=(AxisType.Auto,), devices=self.devices
        )

    @property
    def platform(self) -> str:
        """``"cpu"``, ``"gpu"`` or ``"tpu"``."""
        return self.devices[0].platform

    def describe(self) -> str:
        """One phrase for the log, as "8 cpu devices (sharded)"."""
        count = len(self.devices)
        where = f" in {jax.process_count()} processes" if processes.several() else ""
        return f"{count} {self.platform} device{'s' * (count > 1)}{where} ({self.way})"

    def width(self, batch_size: int) -> int:
        """``batch_size`` rounded up to a multiple of the number of devices."""
        return -(-batch_size // len(self.devices)) * len(self.devices)

    def replicate(self, tree: Any) -> Any:
        """``tree`` on every device."""
        return self._put(tree, self._sharding())

    def divide(self, rows: Any) -> Any:
        """Arrays [S, W] with their columns divided among the devices, as programs expect them."""
        if self.way == "pmap":
            count = len(self.devices)
            rows = jax.tree.map(lambda r: r.reshape(r.shape[0], count, -1), rows)
        return self._put(rows, self._sharding(None, _AXIS))

    def program(self, step: Step, *, grouped: bool = False) -> Callable[..., Any]:
        """Compile ``advance(carry, data, rows, weights, hparams, steps) -> carry``.

        The pure ``step`` selects its own columns of ``rows`` by the carry's step.  ``carry`` is
        donated; ``advance`` may return before the device has finished.

        ``grouped``: where steps are calls, and ``rows`` are of an epoch of 512 or more, a call is
        of four.  Between calls the cores wait for each other, a tenth of a LeNet's step; but the
        program of four has to be compiled, too.
        """
        if self.way == "pmap":
            # The data axis leads the columns and the carry, of which every device has its own.
            once = jax.pmap(
                functools.partial(step, axis_name=_AXIS),
                _AXIS,
                in_axes=(0, None, 1, 1, None),
                devices=self.devices,
                donate_argnums=0,
            )
            return self._with_own_carry(_loop(once))
        if self.way == "shard_map":
            spec, columns = PartitionSpec(), PartitionSpec(None, _AXIS)
            step = jax.shard_map(
                functools.partial(step, axis_name=_AXIS),
                mesh=self._mesh,
                in_specs=(spec, spec, columns, columns, spec),
                out_specs=spec,
                # The step sums gradients itself, as pmap wants it.
                check_vma=False,
            )
        place = {"donate_argnums": 0, "out_shardings": self._sharding()}
        if not self.one_program:
            group = jit(_grouped(step), **place) if grouped else None
            return _loop(jit(step, **place), group)

        def advance(carry, data, rows, weights, hparams, steps):
            return repeat(lambda carry: step(carry, data, rows, weights, hparams), steps, carry)

        return jit(advance, **place)

    def _with_own_carry(self, advance: Callable[..., Any]) -> Callable[..., Any]:
        """``advance`` on a carry with a leading axis of devices, as ``pmap`` wants it.

        Each keeps its own between steps; before the first and after the last nothing is moved.
        """
        replicated, own = PartitionSpec(), PartitionSpec(_AXIS)

        def on_each(change: Callable[[Any], Any], before: Any, after: Any) -> Callable[[Any], Any]:
            change = functools.partial(jax.tree.map, change)
            mapped = jax.shard_map(
                change, mesh=self._mesh, in_specs=(before,), out_specs=after, check_vma=False
            )
            return jit(mapped, seldom=True, donate_argnums=0)

        spread = on_each(lambda leaf: leaf[None], replicated, own)
        gather = on_each(lambda leaf: leaf[0], own, replicated)

        def run(carry: Any, *arguments: Any) -> Any:
            return gather(advance(spread(carry), *arguments))

        return run

    def apply(self, function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
        """``run(params, rows, batch_size) -> arrays``: ``function(params, batch)`` on all rows.

        ``rows`` and what the function returns are arrays, or trees of arrays, whose first axis is
        the examples'.  Every batch has ``batch_size`` rows, or some more where devices need an even
        share; the last one's padding is cut off again.
        """
        compiled = jit(function, out_shardings=self._sharding())

        def run(params: Any, rows: Any, batch_size: int) -> Any:
            width, count = self.width(batch_size), len(jax.tree.leaves(rows)[0])
            outputs = []
            for start in range(0, count, width):
                batch = jax.tree.map(functools.partial(_padded, start, width), rows)
                outputs.append(compiled(params, self._put(batch, self._sharding(_AXIS))))
                if len(outputs) > _WAITING:
                    jax.block_until_ready(outputs[-_WAITING])  # else inputs pile up
            return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *outputs)

        return run

    def _put(self, tree: Any, sharding: NamedSharding) -> Any:
        if processes.several():
            return jax.tree.map(functools.partial(_share_of, sharding), tree)
        return jax.device_put(tree, sharding)

    def _sharding(self, *axes: str | None) -> NamedSharding:
        return NamedSharding(self._mesh, PartitionSpec(*axes))


def repeat(step: Callable[[Any], Any], steps: int | jax.Array, carry: Any) -> Any:
    """``steps`` times ``step(carry) -> carry``, in one program for any number of steps.

    Before every turn of a loop whose length XLA does not know, its GPU runtime waits for the device
    to say whether there is another.  Hence loops of a known length within that loop; the step is
    compiled twice for it, here and for the rest.
    """
    once = lambda _, carry: step(carry)
    several = lambda _, carry: lax.fori_loop(0, _LOOP, once, carry)
    carry = lax.fori_loop(0, steps // _LOOP, several, carry)
    return lax.fori_loop(0, steps % _LOOP, once, carry)


def _padded(start: int, width: int, rows: np.ndarray) -> np.ndarray:
    """``width`` rows from ``start``, zeros where there are no more.

    On the host: for jax, every length would be a program of its own.
    """
    batch = np.asarray(rows[start : start + width])
    return np.pad(batch, ((0, width - len(batch)),) + ((0, 0),) * (batch.ndim - 1))


def _share_of(sharding: NamedSharding, whole: Any) -> jax.Array:
    """A global array of which this process holds its part; ``whole`` is the same in all."""
    if isinstance(whole, jax.Array) and not whole.is_fully_addressable:  # global already
        return jax.device_put(whole, sharding)
    whole = np.asarray(whole)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def _loop(once: Callable[..., Any], group: Callable[..., Any] | None = None) -> Callable[..., Any]:
    def advance(carry, data, rows, weights, hparams, steps):
        if group and len(rows) >= _MANY_STEPS:
            for _ in range(steps // STEPS_A_CALL):
                carry = group(carry, data, rows, weights, hparams)
            steps %= STEPS_A_CALL
        for _ in range(steps):
            carry = once(carry, data, rows, weights, hparams)
        return carry

    return advance


def _grouped(step: Step) -> Step:
    """Unrolled: inside a loop XLA's convolution gradients on CPU are naive."""
    step = jax.jit(step)  # traced once

    def group(carry, *arguments):
        for _ in range(STEPS_A_CALL):
            carry = step(carry, *arguments)
        return carry

    return group
