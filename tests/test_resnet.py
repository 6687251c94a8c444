"""ResNets and SqueezeNet: the published counts, names and figures, and PyTorch's arithmetic."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from cnnjax.layers import BatchNorm, WholeBatch
from cnnjax.models import CifarResNet, ResNet, SqueezeNet, summarize
from cnnjax.pretrained import weights
from cnnjax.pretrained.merge import TORCH, merge
from cnnjax.training.variables import flat, nested
from tests.data_files import refused

COUNTS = {
    "ResNet-18": (ResNet(18), 11_689_512),
    "ResNet-34": (ResNet(34), 21_797_672),
    "ResNet-50": (ResNet(50), 25_557_032),
    "SqueezeNet": (SqueezeNet(), 1_235_496),
    # He et al. 2015, Table 6: 0.27, 0.46, 0.66 and 0.85 million.
    "ResNet-20": (CifarResNet(20), 269_722),
    "ResNet-32": (CifarResNet(32), 464_154),
    "ResNet-44": (CifarResNet(44), 658_586),
    "ResNet-56": (CifarResNet(56), 853_018),
}


def traced(model, size):
    """The shapes of variables, logits and features; nothing is computed."""
    x = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    (logits, features), variables = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x), x
    )
    return variables, logits, features


def drawn(variables, seed=0):
    """Values for every variable; a network of them neither dies nor explodes."""
    random = np.random.RandomState(seed)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            return random.randn(*leaf.shape) * math.sqrt(2 / math.prod(leaf.shape[:-1]))
        low, high = {"var": (0.5, 2), "scale": (0.3, 1)}.get(name, (-0.3, 0.3))
        return random.uniform(low, high, leaf.shape)

    values = jax.tree_util.tree_map_with_path(draw, variables)
    return jax.tree.map(lambda value: value.astype(np.float32), values)


def merged(template, arrays, source, **options):
    """Collections like the template's, of the values in a file."""
    tree = unflatten_dict(flat(template), sep="/")
    return nested(flatten_dict(merge(tree, arrays, source, **options), sep="/"), template)


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_the_published_number(name):
    model, expected = COUNTS[name]
    variables, _, _ = traced(model, 64)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == expected
    averages = flatten_dict(variables.get("batch_stats", {}))
    assert {path[-1] for path in averages} == (set() if name == "SqueezeNet" else {"mean", "var"})


@pytest.mark.parametrize("depth, widest", [(18, 512), (34, 512), (50, 2048)])
def test_every_stage_of_a_resnet(depth, widest):
    _, logits, features = traced(ResNet(depth, classes=7), 224)
    shapes = {name: leaf.shape[1:] for name, leaf in features.items()}
    assert shapes == {
        "stem": (56, 56, 64),
        "layer1": (56, 56, widest // 8),
        "layer2": (28, 28, widest // 4),
        "layer3": (14, 14, widest // 2),
        "layer4": (7, 7, widest),
        "pooled": (widest,),
        "logits": (7,),
    }
    assert logits.shape == (2, 7)


def test_every_stage_of_a_cifar_resnet():
    _, _, features = traced(CifarResNet(20), 32)
    shapes = {name: leaf.shape[1:] for name, leaf in features.items()}
    assert shapes == {
        "stem": (32, 32, 16), "layer1": (32, 32, 16), "layer2": (16, 16, 32),
        "layer3": (8, 8, 64), "pooled": (64,), "logits": (10,),
    }  # fmt: skip


def test_every_stage_of_squeezenet():
    """Iandola et al. 2016, Table 1, with the earlier pooling of release 1.1."""
    _, _, features = traced(SqueezeNet(), 224)
    shapes = {name: leaf.shape[1:] for name, leaf in features.items()}
    sizes = {"stem": (55, 64), "fire2": (55, 128), "fire3": (55, 128), "fire4": (27, 256)}
    sizes |= {"fire5": (27, 256), "fire6": (13, 384), "fire7": (13, 384), "fire8": (13, 512)}
    sizes |= {"fire9": (13, 512)}
    expected = {name: (size, size, maps) for name, (size, maps) in sizes.items()}
    assert shapes == expected | {"pooled": (512,), "logits": (1000,)}


def test_impossible_networks_and_inputs_are_named():
    with pytest.raises(ValueError, match="depth is 19; it must be one of 18, 34, 50"):
        traced(ResNet(19), 32)
    with pytest.raises(ValueError, match="depth is 18; it must be one of 20, 32, 44, 56"):
        traced(CifarResNet(18), 32)
    with pytest.raises(ValueError, match=r"17x17.*16, 16, 3"):
        traced(SqueezeNet(), 16)


def test_frozen_batch_normalisation_by_hand():
    """scale (x - mean) / sqrt(var + eps) + bias; the statistics stay, also in training."""
    layer = BatchNorm(frozen=True, epsilon=1.0)
    of_one = lambda **values: {name: jnp.full(1, value) for name, value in values.items()}
    params, averages = of_one(scale=2.0, bias=5.0), of_one(mean=1.0, var=3.0)
    assert jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros((1, 1))).keys() == {
        "params", "batch_stats"
    }  # fmt: skip
    x = jnp.array([[3.0], [-1.0]])

    def output(params, x):
        y, changed = layer.apply(
            {"params": params, "batch_stats": averages}, x, WholeBatch(jnp.ones(2)),
            mutable=["batch_stats"],
        )  # fmt: skip
        return y, changed["batch_stats"]

    y, after = output(params, x)
    assert y.ravel().tolist() == [7, 3]
    assert {name: after[name].tolist() for name in after} == {"mean": [1.0], "var": [3.0]}
    alone = layer.apply({"params": params, "batch_stats": averages}, x)
    np.testing.assert_array_equal(alone, y)
    loss = lambda params, x: (output(params, x)[0] ** 2).sum()
    of_params, of_x = jax.grad(loss, argnums=(0, 1))(params, x)
    assert of_x.ravel().tolist() == [14, 6]
    gradients = {name: float(leaf[0]) for name, leaf in of_params.items()}
    # 2 y times (x - mean) / 2 and times 1, summed over the batch.
    assert gradients == {"scale": 14 - 6, "bias": 20}


def test_connections_and_trained_parameters_are_counted():
    """A batch normalisation makes two connections a unit, and trains neither mean nor variance."""
    layers = summarize(CifarResNet(20), (32, 32, 3))
    first, second, last = layers[0], layers[1], layers[-1]
    assert (first.name, first.parameters, first.connections) == ("conv1", 432, 32 * 32 * 16 * 27)
    assert (second.name, second.parameters, second.connections) == ("bn1", 32, 32 * 32 * 16 * 2)
    assert (last.name, last.parameters, last.connections) == ("linear", 650, 650)
    assert sum(layer.parameters for layer in layers) == 269_722


def written_as_torch(variables):
    """The variables under torchvision's names, as it lays them out."""
    back = {2: (1, 0), 4: (3, 2, 0, 1)}
    return {
        TORCH.name(path): leaf.transpose(back[leaf.ndim]) if path.endswith("kernel") else leaf
        for path, leaf in flat(variables).items()
    }


@pytest.mark.parametrize(
    "model, size",
    [
        (ResNet(18, 6), 40), (ResNet(34, 6), 33), (ResNet(50, 6), 38), (CifarResNet(20), 18),
        (SqueezeNet(6), 34), (SqueezeNet(6), 37),
    ],
)  # fmt: skip
def test_parity_with_torch(model, size):
    """The same weights under torchvision's names in PyTorch's own layers, all features."""
    torch = pytest.importorskip("torch")
    from benchmarks import torch_backbones

    template, _, _ = traced(model, size)
    state = written_as_torch(drawn(template))
    x = np.random.RandomState(1).randn(2, size, size, 3).astype(np.float32)
    theirs = torch_backbones.like(model)
    tensors = {name: torch.tensor(np.ascontiguousarray(a)) for name, a in state.items()}
    theirs.load_state_dict(tensors, strict=False)
    lacking = set(theirs.state_dict()) ^ set(tensors)
    assert all(name.endswith("num_batches_tracked") for name in lacking)
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor(x.transpose(0, 3, 1, 2)))
    arrays = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    logits, features = jax.jit(model.apply)(merged(template, arrays, "torch"), x)
    assert np.ptp(logits) > 1e-2
    for name, tensor in expected.items():
        theirs = tensor.numpy()
        theirs = theirs.transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs
        scale = max(1, np.abs(theirs).max())
        assert np.abs(features[name] - theirs).max() < 1e-4 * scale, name


def test_folded_weights_compute_the_same():
    """Conv and batch normalisation in one, as files for inference have it."""
    model = CifarResNet(20)
    template, _, _ = traced(model, 16)
    variables = drawn(template)
    state = written_as_torch(variables)
    folded = {name: state[name] for name in ("linear.weight", "linear.bias")}
    for path in flat(variables):
        conv = path.removesuffix("/kernel").replace("/", ".")
        norm = TORCH.norm(conv)
        if path.endswith("/kernel") and norm:
            weight, bias, mean, var = (
                state[f"{norm}.{name}"]
                for name in ("weight", "bias", "running_mean", "running_var")
            )
            factor = weight / np.sqrt(var + 1e-5)
            folded[f"{conv}.weight"] = state[f"{conv}.weight"] * factor.reshape(-1, 1, 1, 1)
            folded[f"{conv}.bias"] = bias - mean * factor
    assert len(folded) == 2 + 2 * 19
    x = np.random.RandomState(1).randn(2, 16, 16, 3).astype(np.float32)
    forward = jax.jit(model.apply)
    expected, _ = forward(variables, x)
    logits, _ = forward(merged(template, folded, "folded"), x)
    assert np.abs(logits - expected).max() < 1e-4 * max(1, np.abs(expected).max())


def test_the_published_resnet20_on_real_images(real_data):
    """91.5 % of the first 1,000 test images of CIFAR-10: an independent forward pass says so."""
    file = real_data / "weights" / "resnet_cifar10" / "resnet20-12fca82f.th"
    model = CifarResNet(20)
    template, _, _ = traced(model, 32)
    variables = merged(template, weights.read(file), file)
    records = np.fromfile(real_data / "cifar10" / "test_batch_first1000.bin", np.uint8)
    records = records.reshape(1000, 3073)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) / np.float32(255)
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    predict = jax.jit(lambda x: model.apply(variables, x)[0].argmax(-1))
    normalised = (images - mean.reshape(1, 1, 1, 3)) / std.reshape(1, 1, 1, 3)
    answers = np.concatenate([predict(part) for part in np.split(normalised, 10)])
    assert (answers == records[:, 0]).sum() == 915


def test_partial_folded_imagenet_weights_fit_up_to_layer3(real_data):
    folder = real_data / "weights" / "resnet18_imagenet_partial"
    template, _, _ = traced(ResNet(18), 64)
    arrays = weights.read(folder)
    lacking = "4 of the network's", "layer4.0/conv1/kernel"
    refused(lambda: merged(template, arrays, folder), folder, *lacking)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), template)
    params = merged(zeros, arrays, folder, keep=["layer4.*"])["params"]
    assert params["layer3.1"]["conv2"]["kernel"].any()
    assert not params["layer4.0"]["conv1"]["kernel"].any()
    bias = arrays["layer2.0.downsample.0.bias"]
    assert np.array_equal(params["layer2.0"]["downsample.1"]["bias"], bias)
    # Most are missing: some are named, and how many more.
    few = weights.read(folder / "resnet18-5c106cde.first16tensors.npz")
    refused(lambda: merged(template, few, "few"), "does not fit", "86 of the network's", "83 more")
