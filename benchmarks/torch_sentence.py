"""The same network in PyTorch, as its users write it, from cnnjax's parameters.

Its embedding is dense: ``torch.optim.Adadelta`` refuses sparse gradients.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.contestants import Order
from benchmarks.sentence_steps import BATCH, Contestant, Data, hparams

# The usual two ways to write the convolution, and the optimiser's two implementations.
VARIANTS = ("conv1d", "conv1d, foreach", "conv2d")


class Kim(nn.Module):
    """Embedding, convolutions over time, maximum over time, dropout, output."""

    def __init__(self, params: Any, static: bool, two_dimensional: bool, rate: float) -> None:
        super().__init__()
        table = torch.tensor(np.asarray(params["embedding"]["table"]))
        self.embedding = nn.Embedding.from_pretrained(table, freeze=static)
        convolutions = []
        for name in sorted(name for name in params if name.startswith("conv")):
            kernel = torch.tensor(np.asarray(params[name]["kernel"]))  # [w, E, F]
            window, size, maps = kernel.shape
            if two_dimensional:
                layer = nn.Conv2d(1, maps, (window, size))
                weight = kernel.permute(2, 0, 1)[:, None]
            else:
                layer, weight = nn.Conv1d(size, maps, window), kernel.permute(2, 1, 0)
            with torch.no_grad():
                layer.weight.copy_(weight)
                layer.bias.zero_()
            convolutions.append(layer)
        self.convolutions = nn.ModuleList(convolutions)
        self.two_dimensional, self.dropout = two_dimensional, nn.Dropout(rate)
        self.output = nn.Linear(*params["output"]["kernel"].shape)
        with torch.no_grad():
            self.output.weight.copy_(torch.tensor(np.asarray(params["output"]["kernel"])).T)
            self.output.bias.zero_()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids)
        if self.two_dimensional:
            maps = [F.relu(layer(x[:, None])).squeeze(3) for layer in self.convolutions]
        else:
            x = x.transpose(1, 2)
            maps = [F.relu(layer(x)) for layer in self.convolutions]
        return self.output(self.dropout(torch.cat([m.amax(2) for m in maps], 1)))


def contestant(
    params: Any,
    examples: Data,
    *,
    static: bool,
    variant: str = "conv1d",
    dropout: bool = True,
    batches: Callable[[int], Iterator[tuple[np.ndarray, int]]] | None = None,
) -> Contestant:
    """PyTorch's training step.

    Args:
        params: cnnjax's.
        examples: "inputs" int32[N, T] and "labels" int32[N].
        static: whether the embedding is frozen.
        variant: one of :data:`VARIANTS`.
        dropout: with or without.
        batches: epoch -> rows and columns of its batches; by default any rows, all columns.
    """
    values = hparams(dropout)
    model = Kim(params, static, variant == "conv2d", values.dropout)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adadelta(
        trained,
        lr=values.learning_rate,
        rho=values.rho,
        eps=values.epsilon,
        foreach=variant.endswith("foreach"),
    )
    inputs = torch.from_numpy(examples["inputs"].astype(np.int64))
    labels = torch.from_numpy(examples["labels"].astype(np.int64))
    bound = values.norm * (1 - values.dropout)
    stream = _endless(batches) if batches else _shuffled(len(labels), inputs.shape[1])

    def run(steps: int) -> float:
        losses = torch.zeros(())
        for _ in range(steps):
            rows, columns = next(stream)
            rows = torch.from_numpy(rows)
            loss = F.cross_entropy(model(inputs[rows, :columns]), labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                weight = model.output.weight
                norms = weight.norm(dim=1, keepdim=True)
                weight.mul_(torch.clamp(bound / norms.clamp_min(1e-12), max=1.0))
                model.embedding.weight[0].zero_()
            losses += loss.detach()
        return losses.item() / steps

    return run


def _shuffled(count: int, length: int) -> Iterator[tuple[np.ndarray, int]]:
    order = Order(count, BATCH)
    while True:
        yield order.next(), length


def _endless(batches: Callable[[int], Iterator[tuple[np.ndarray, int]]]) -> Any:
    epoch = 0
    while True:
        yield from batches(epoch)
        epoch += 1
