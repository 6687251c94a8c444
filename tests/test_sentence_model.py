"""Kim's network: convolution over time by hand, variants, padding, pooling, winners, counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.models import SentenceCNN
from cnnjax.models.sentence import ACTIVATIONS
from experiments.sentence import Hparams, constrain
from tests.agreement import quickly
from tests.sentence_task import small_task

IDS = np.array([[0, 0, 2, 3, 4, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0]])


def initial(model, ids=IDS, seed=0):
    return quickly(model.init)(jax.random.key(seed), ids)["params"]


def features_of(model, params, ids=IDS):
    return quickly(lambda params, ids: model.apply({"params": params}, ids)[1])(params, ids)


def network(**changes):
    return SentenceCNN(**({"vocabulary": 6, "classes": 2, "embedding": 1, "maps": 2} | changes))


def by_hand(windows=(2,), **changes):
    """Words with the vectors 0, 1, 2, ...; filters of the given weights; softmax (1, -1)."""
    model = network(windows=windows, **changes)
    params = initial(model)
    params["embedding"]["table"] = jnp.arange(6.0)[:, None]
    for window in windows:
        kernel = np.zeros((window, 1, 2), np.float32)
        kernel[0, 0, 0], kernel[-1, 0, 0] = -1, 1  # the last word less the first
        kernel[0, 0, 1] = -2  # minus twice the first word
        params[f"conv{window}"] = {"kernel": jnp.asarray(kernel), "bias": jnp.array([0.5, 1.0])}
    return model, params


def test_convolution_over_time_by_hand():
    model, params = by_hand()
    features = features_of(model, params)
    # 0 0 2 3 4 0 0 0: differences 0 2 1 1 -4 0 0; -2x: 0 0 -4 -6 -8 0 0.
    np.testing.assert_allclose(features["pooled"], [[2.5, 1.0], [0.5, 1.0], [1.5, 1.0]])
    # The winner of the second map is padding: 1 at position 0.
    np.testing.assert_array_equal(features["winners"][2], [[1, -1], [-1, -1], [1, -1]])
    assert features["winners"][2].dtype == jnp.int32


@pytest.mark.parametrize(
    ("changes", "pooled"),
    [
        ({"pooling": "k_max", "k": 3}, [2.5, 1.5, 1.5, 1.0, 1.0, 1.0]),
        ({"pooling": "local_max", "pool_size": 3}, [2.5, 1.5, 0.5, 1.0, 1.0, 1.0]),
        ({"pooling": "mean"}, [(0.5 + 2.5 + 1.5 + 1.5 + 0.5 + 0.5) / 7, 4 / 7]),
        ({"activation": "identity", "pooling": "mean"}, [0.5, 1 - 18 / 7]),
        ({"activation": "cube"}, [2.5**3, 1.0]),
        ({"activation": "tanh"}, [np.tanh(2.5), np.tanh(1)]),
    ],
)
def test_pooling_and_functions_by_hand(changes, pooled):
    model, params = by_hand(**changes)
    features = features_of(model, params, IDS[:1])
    np.testing.assert_allclose(features["pooled"][0], pooled, rtol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_maximum_may_be_taken_before_the_function(name):
    """1-max, which does so, is k-max with k = 1, which does not."""
    model, params = by_hand(windows=(2, 3), activation=name)
    other, _ = by_hand(windows=(2, 3), activation=name, pooling="k_max")
    found, expected = features_of(model, params), features_of(other, params)
    np.testing.assert_allclose(found["pooled"], expected["pooled"], rtol=1e-6)
    for window in (2, 3):
        np.testing.assert_array_equal(found["winners"][window], expected["winners"][window])


def test_a_window_longer_than_the_sentence_and_one_as_long_as_the_row():
    model, params = by_hand(windows=(4, 8))
    features = features_of(model, params)
    # Windows of 4: 0 0 2 3, 0 2 3 4, 2 3 4 0, 3 4 0 0, 4 0 0 0: last less first 3 4 -2 -3 -4.
    np.testing.assert_allclose(features["pooled"][0], [4.5, 1.0, 0.5, 1.0])
    assert features["winners"][4][0, 0] == 1
    np.testing.assert_array_equal(features["winners"][8], [[0, 0], [-1, -1], [0, 0]])


def test_sizes_and_initial_weights_are_the_authors():
    model = SentenceCNN(vocabulary=1000, classes=2)
    params = initial(model, np.zeros((1, 64), np.int32))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == 1000 * 300 + (3 + 4 + 5) * 300 * 100 + 3 * 100 + 300 * 2 + 2
    for window in (3, 4, 5):
        assert 0.0099 < np.abs(params[f"conv{window}"]["kernel"]).max() <= 0.01
        assert not params[f"conv{window}"]["bias"].any()
    assert not params["output"]["kernel"].any() and not params["output"]["bias"].any()
    assert 0.2499 < np.abs(params["embedding"]["table"]).max() <= 0.25


def gradients(model, params):
    loss = lambda params: jnp.square(model.apply({"params": params}, IDS)[1]["pooled"]).sum()
    return quickly(jax.grad(loss))(params)


def test_variants_train_what_they_should():
    found = {}
    for variant in ("rand", "static", "nonstatic", "multichannel"):
        model = network(variant=variant, windows=(2, 3), embedding=4)
        params = initial(model, seed=1)
        found[variant] = params, gradients(model, params)
    params, gradient = found["multichannel"]
    np.testing.assert_array_equal(params["embedding"]["static"], params["embedding"]["table"])
    assert np.abs(gradient["embedding"]["table"]).max() > 0
    assert not np.any(gradient["embedding"]["static"]), "its other channel is not trained"
    assert not np.any(found["static"][1]["embedding"]["table"])
    assert np.abs(found["nonstatic"][1]["embedding"]["table"]).max() > 0
    for _, gradient in found.values():
        assert np.abs(gradient["conv2"]["kernel"]).max() > 0


def test_multichannel_adds_up_what_the_same_filters_make_of_both_channels():
    model = network(variant="multichannel", windows=(2,), activation="identity", pooling="mean")
    params = initial(model, seed=1)
    params["embedding"]["static"] = 3 - params["embedding"]["table"]
    one = network(windows=(2,), activation="identity", pooling="mean")
    channel = lambda table: params | {"embedding": {"table": table}}
    run = lambda model, params: features_of(model, params)["pooled"]
    separate = [run(one, channel(table)) for table in params["embedding"].values()]
    np.testing.assert_allclose(run(model, params), sum(separate), rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"windows": (3, 0)}, r"windows is \(3, 0\); it must be different integers of at least 1"),
        ({"windows": (3, 3)}, "different integers"),
        ({"windows": ()}, "different integers"),
        ({"windows": (9,)}, "a window of 9 does not fit into the data's 8 ids"),
        ({"windows": (3,), "pooling": "k_max", "k": 7}, "a window of 3 at 7 positions does not"),
        ({"activation": "sine"}, "activation is 'sine'; it must be one of relu"),
    ],
)
def test_attributes_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        network(**changes).init(jax.random.key(0), IDS)


def test_inputs_that_are_no_ids():
    with pytest.raises(ValueError, match="ids of words; these are float32"):
        network().init(jax.random.key(0), np.zeros((2, 8), np.float32))


# --- the constraint -----------------------------------------------------------------------------


def test_only_columns_beyond_the_bound_are_shortened():
    """Norms 5, 1 and 0 with the bound 3 (no dropout); the padding row becomes zero."""
    kernel = jnp.array([[3.0, 1.0, 0.0], [4.0, 0.0, 0.0]])
    params = {
        "output": {"kernel": kernel, "bias": jnp.array([9.0, 9.0, 9.0])},
        "embedding": {"table": jnp.ones((3, 2))},
    }
    after = constrain(params, Hparams(dropout=0.0))
    np.testing.assert_allclose(after["output"]["kernel"][:, 0], [1.8, 2.4], rtol=1e-6)
    np.testing.assert_array_equal(after["output"]["kernel"][:, 1:], kernel[:, 1:])
    np.testing.assert_array_equal(after["output"]["bias"], params["output"]["bias"])
    np.testing.assert_array_equal(after["embedding"]["table"], [[0, 0], [1, 1], [1, 1]])
    free = constrain(params, Hparams(norm=np.inf))
    np.testing.assert_array_equal(free["output"]["kernel"], kernel)


def test_the_bound_is_of_the_weights_before_dropouts_scale():
    params = {
        "output": {"kernel": jnp.full((1, 2), 2.0)}, "embedding": {"table": jnp.ones((2, 1))},
    }  # fmt: skip
    after = constrain(params, Hparams(norm=3.0, dropout=0.5))
    np.testing.assert_allclose(after["output"]["kernel"], 1.5)


def test_a_task_has_the_network_of_its_configuration():
    model = small_task(windows=(2, 7), activation="tanh", pooling="k_max", k=2).model
    assert (model.windows, model.activation, model.pooling, model.k) == ((2, 7), "tanh", "k_max", 2)
