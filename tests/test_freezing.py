"""What is trained, how fast and from when on: by hand on small problems."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax.transfer.freezing import FROZEN, by_depth, described

PARAMS = {"top": {"w": jnp.array([1.0])}, "low": {"w": jnp.array([-2.0])}, "fix": jnp.array([3.0])}
DEPTHS = {"top/w": 0, "low/w": 2, "fix": FROZEN}
GRADIENTS = jax.tree.map(jnp.ones_like, PARAMS)


def updates_of(transformation, steps, gradients=GRADIENTS, params=PARAMS):
    """The updates of every step."""
    state, found = transformation.init(params), []
    for _ in range(steps):
        updates, state = transformation.update(gradients, state, params)
        found.append(jax.tree.map(float, jax.tree.map(lambda u: u[0], updates)))
    return found


def test_rates_by_hand():
    """-0.1 g at the top, 0.5^2 of it two stages below, nothing where it is frozen."""
    rule = optax.chain(by_depth(optax.identity(), DEPTHS, decay=0.5), optax.scale(-0.1))
    (found,) = updates_of(rule, 1)
    assert found["top"]["w"] == pytest.approx(-0.1)
    assert found["low"]["w"] == pytest.approx(-0.025)
    assert found["fix"] == 0


def test_weight_decay_leaves_what_is_frozen():
    rule = by_depth(optax.add_decayed_weights(0.5), DEPTHS, decay=0.5)
    (found,) = updates_of(rule, 1)
    assert found == {"top": {"w": 1.5}, "low": {"w": 0.0}, "fix": 0.0}  # 1 - 2 / 2 = 0
    frozen = by_depth(optax.add_decayed_weights(0.5), DEPTHS | {"low/w": FROZEN})
    (found,) = updates_of(frozen, 1)
    assert found["low"]["w"] == 0


def test_what_is_frozen_has_no_state():
    leaves = jax.tree.leaves(by_depth(optax.scale_by_adam(), DEPTHS).init(PARAMS))
    # First and second moment of two parameters, and a count for each of the two depths.
    assert len(leaves) == 2 * 2 + 2


def test_a_stage_waits_with_its_state():
    """Two steps of momentum 0.5 late: what accumulates begins at the start, not before."""
    rule = by_depth(optax.trace(0.5), DEPTHS, starts=[0, 1, 2])
    found = updates_of(rule, 4)
    assert [step["top"]["w"] for step in found] == [1, 1.5, 1.75, 1.875]
    assert [step["low"]["w"] for step in found] == [0, 0, 1, 1.5]
    assert [step["fix"] for step in found] == [0, 0, 0, 0]


def test_starts_and_decay_are_traced():
    def update(decay, start):
        rule = by_depth(optax.identity(), DEPTHS, decay=decay, starts=[0, 0, start])
        return rule.update(GRADIENTS, rule.init(PARAMS), PARAMS)[0]["low"]["w"]

    traced = jax.vmap(update)(jnp.array([0.5, 0.5, 2.0]), jnp.array([0.0, 1.0, 0.0]))
    np.testing.assert_array_equal(traced.ravel(), [0.25, 0, 4])


@pytest.mark.parametrize("depths", [{"top/w": 0, "low/w": 1}, DEPTHS | {"other": 0}])
def test_every_parameter_needs_a_depth(depths):
    with pytest.raises(ValueError, match=r"parameters without depth: .*depths without"):
        by_depth(optax.identity(), depths).init(PARAMS)


def test_description():
    stages = {"top": ("top/w",), "low": ("low/w",), "fix": ("fix",)}
    assert described(stages, DEPTHS, PARAMS) == (
        "trained top, low (2 parameters); frozen fix (1 parameters)"
    )
    everything = dict.fromkeys(DEPTHS, 0)
    assert described(stages, everything, PARAMS).endswith("frozen nothing (0 parameters)")


def test_gradients_that_nobody_uses_are_not_computed():
    """The program with a frozen lower layer has less arithmetic than the one that trains it."""

    def arithmetic(low):
        rule = by_depth(optax.sgd(0.1), {"low": low, "top": 0})

        def step(params, x):
            loss = lambda p: jnp.square(jnp.tanh(x @ p["low"]) @ p["top"]).sum()
            return rule.update(jax.grad(loss)(params), rule.init(params), params)[0]["top"]

        params = {"low": jnp.ones((64, 64)), "top": jnp.ones((64, 64))}
        compiled = jax.jit(step).lower(params, jnp.ones((64, 64))).compile()
        return compiled.cost_analysis()["flops"]

    product = 2 * 64**3
    assert arithmetic(FROZEN) == pytest.approx(3 * product, rel=0.1)
