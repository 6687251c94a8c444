"""The same three networks in PyTorch, as its users write them, from cnnjax's parameters."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.contestants import ALONE, Contestant, Data, Order, Trial, hparams, parameters
from cnnjax.models.bitmaps import DIGITS
from cnnjax.models.lenet import C3_CONNECTIONS


def scaled_tanh(x: torch.Tensor) -> torch.Tensor:
    """LeCun's squashing function."""
    return 1.7159 * torch.tanh(2 / 3 * x)


class LeNet1(nn.Module):
    """As :class:`cnnjax.models.LeNet1`."""

    def __init__(self) -> None:
        super().__init__()
        self.C1, self.C3, self.output = nn.Conv2d(1, 4, 5), nn.Conv2d(4, 12, 5), nn.Linear(192, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.avg_pool2d(scaled_tanh(self.C1(x)), 2)
        x = F.avg_pool2d(scaled_tanh(self.C3(x)), 2)
        return self.output(x.permute(0, 2, 3, 1).flatten(1))


class Subsample(nn.Module):
    """As :class:`cnnjax.layers.Subsample`."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.coefficient, self.bias = (nn.Parameter(torch.zeros(maps, 1, 1)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 2, divisor_override=1) * self.coefficient + self.bias


class LeNet5(nn.Module):
    """As :class:`cnnjax.models.LeNet5`; the table of C3 as a mask on its kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.C1, self.S2 = nn.Conv2d(1, 6, 5), Subsample(6)
        self.C3, self.S4 = nn.Conv2d(6, 16, 5), Subsample(16)
        self.C5, self.F6 = nn.Conv2d(16, 120, 5), nn.Linear(120, 84)
        mask = torch.zeros(16, 6, 1, 1)
        for output, inputs in enumerate(C3_CONNECTIONS):
            mask[output, list(inputs)] = 1
        self.register_buffer("mask", mask)
        codes = torch.tensor(np.asarray(DIGITS.reshape(10, -1)), dtype=torch.float32)
        self.register_buffer("codes", codes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = scaled_tanh(self.S2(scaled_tanh(self.C1(x))))
        x = F.conv2d(x, self.C3.weight * self.mask, self.C3.bias)
        x = scaled_tanh(self.S4(scaled_tanh(x)))
        x = scaled_tanh(self.F6(scaled_tanh(self.C5(x)).flatten(1)))
        # |x|^2 - 2 x.c + |c|^2: the fastest way to write the distances.
        return 2 * x @ self.codes.T - (x**2).sum(1, keepdim=True) - (self.codes**2).sum(1)


class ModernLeNet(nn.Module):
    """As :class:`cnnjax.models.ModernLeNet`, with dropout at ``rate``."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.C1, self.C3 = nn.Conv2d(1, 32, 5), nn.Conv2d(32, 64, 5)
        self.F5, self.output = nn.Linear(1024, 256), nn.Linear(256, 10)
        self.dropout = nn.Dropout(rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.C1(x)), 2)
        x = F.max_pool2d(F.relu(self.C3(x)), 2)
        return self.output(self.dropout(F.relu(self.F5(x.permute(0, 2, 3, 1).flatten(1)))))


def build(name: str, params: Any, rate: float = 0.0) -> nn.Module:
    """The network ``name`` ("lenet1", "lenet5" or "modern") with cnnjax's ``params``."""
    network = {"lenet1": LeNet1, "lenet5": LeNet5, "modern": lambda: ModernLeNet(rate)}[name]()
    with torch.no_grad():
        for layer, leaves in params.items():
            module = getattr(network, layer)
            for leaf, value in leaves.items():
                value = np.asarray(value)
                if leaf == "kernel":
                    value = _kernel(layer, value)
                target = getattr(module, "weight" if leaf == "kernel" else leaf)
                target.copy_(torch.tensor(value).reshape(target.shape))
    return network


def _kernel(layer: str, kernel: np.ndarray) -> np.ndarray:
    if kernel.ndim == 2:
        return kernel.T
    if kernel.ndim == 3:  # one kernel per connected pair of maps
        dense = np.zeros((16, 6, *kernel.shape[:2]), np.float32)
        pairs = [(o, i) for o, inputs in enumerate(C3_CONNECTIONS) for i in inputs]
        for at, (o, i) in enumerate(pairs):
            dense[o, i] = kernel[..., at]
        return dense
    return kernel.transpose(3, 2, 0, 1)


def loss(name: str, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean loss: cross-entropy, or equation 9 for LeNet-5 with j = 1."""
    if name != "lenet5":
        return F.cross_entropy(logits, labels)
    right = logits.gather(1, labels[:, None])[:, 0]
    garbage = logits.new_full((), -1.0)
    return (torch.logaddexp(torch.logsumexp(logits, 1), garbage) - right).mean()


def prepare(name: str, images: torch.Tensor) -> torch.Tensor:
    """uint8[N, 1, 28, 28] -> float32, scaled and, for LeNet-5, padded to 32x32."""
    x = images.float() * (1.275 / 255) - 0.1
    return F.pad(x, (2, 2, 2, 2), value=-0.1) if name == "lenet5" else x


def contestant(
    network: str,
    batch: int,
    data: Data,
    *,
    variant: str = "eager",
    dropout: bool = True,
    trial: Trial = ALONE,
    device: str = "cpu",
) -> Contestant:
    """PyTorch, its data indexed in the device's memory.

    ``variant`` is "eager", "channels_last", "compiled", or, on a GPU, "graphed": eager, the whole
    step of a full batch captured once as a CUDA graph.
    """
    values = hparams(network, dropout, trial)
    model = build(network, parameters(network, trial.seed), values.dropout).to(device)
    # Not copied: trials share the data.
    inputs = torch.from_numpy(data["inputs"]).permute(0, 3, 1, 2).contiguous().to(device)
    labels = torch.from_numpy(data["labels"].astype(np.int64)).to(device)
    layout = torch.channels_last if variant == "channels_last" else torch.contiguous_format
    model = model.to(memory_format=layout)
    call = torch.compile(model) if variant == "compiled" else model
    graphed = variant == "graphed"
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=values.learning_rate,
        weight_decay=values.weight_decay,
        fused=True,
        capturable=graphed,
    )
    order = Order(
        len(labels), batch, trial.seed, place=lambda rows: torch.from_numpy(rows).to(device)
    )
    losses = torch.zeros((), device=device)

    def step(rows: torch.Tensor) -> None:
        x = prepare(network, inputs[rows]).contiguous(memory_format=layout)
        mean = loss(network, call(x), labels[rows])
        optimizer.zero_grad(set_to_none=True)
        mean.backward()
        optimizer.step()
        losses.add_(mean.detach())

    once = _Graphed(step, batch) if graphed else step

    def run(steps: int) -> float:
        losses.zero_()
        for _ in range(steps):
            once(order.next())
        return losses.item() / steps

    return run


class _Graphed:
    """``step(rows)``, replayed as a CUDA graph for batches of ``size`` rows.

    Source: PyTorch's notes on CUDA, "whole-network capture": some steps first, on a side stream.
    """

    _FIRST = 3

    def __init__(self, step: Callable[[torch.Tensor], None], size: int):
        self._step, self._size, self._done = step, size, 0
        self._graph, self._rows = torch.cuda.CUDAGraph(), None

    def __call__(self, rows: torch.Tensor) -> None:
        if len(rows) < self._size:
            self._step(rows)
        elif self._done < self._FIRST:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._step(rows)
            torch.cuda.current_stream().wait_stream(side)
            self._done += 1
        else:
            if self._rows is None:
                self._rows = rows.clone()
                with torch.cuda.graph(self._graph):
                    self._step(self._rows)
            self._rows.copy_(rows)
            self._graph.replay()
