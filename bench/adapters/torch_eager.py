"""PyTorch, eager: the usual loop, with `randperm` and indexing (a DataLoader is slower) and the fused optimizers."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

import torch
from torch import nn
from torch.nn import functional as F

from bench.adapters import Run
from bench.workloads import Rows, Weights, Workload

ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}

HEADS = {
    "half_sse_sigmoid": lambda z, y: 0.5 * F.mse_loss(torch.sigmoid(z), y, reduction="sum"),
    "mse": F.mse_loss,
    "binary_cross_entropy": F.binary_cross_entropy_with_logits,
    "cross_entropy": F.cross_entropy,
}

OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}


def tensors(rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(rows.X), torch.from_numpy(rows.y if rows.labels is None else rows.labels)


def batches(workload: Workload, shuffle: bool) -> Iterable[torch.Tensor | None]:
    """The row numbers of an epoch's batches; None stands for all rows as they are."""
    if workload.batch == workload.rows:
        return (None,)
    return (torch.randperm(workload.rows) if shuffle else torch.arange(workload.rows)).split(workload.batch)


def optimizer_of(workload: Workload, parameters: Iterable[torch.Tensor]) -> torch.optim.Optimizer:
    options = {"momentum": workload.momentum} if workload.momentum else {}
    if workload.optimizer != "rmsprop":  # the one that has no fused form
        options["fused"] = True
    return OPTIMIZERS[workload.optimizer](parameters, lr=workload.learning_rate, **options)


class TorchEager:
    def __init__(self, workload: Workload, rows: Rows, weights: Weights) -> None:
        self.workload, self.initial = workload, weights
        self.X, self.y = tensors(rows)

    def run(self, epochs: int, *, shuffle: bool) -> Run:
        workload, X, y = self.workload, self.X, self.y
        layers = []
        for W, b in self.initial:
            linear = nn.Linear(*W.shape, dtype=X.dtype)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(W.T))
                linear.bias.copy_(torch.from_numpy(b))
            layers += [linear, ACTIVATIONS[workload.activation]()]
        net = nn.Sequential(*layers[:-1])
        head = HEADS[workload.head]
        optimizer = optimizer_of(workload, net.parameters())
        start = perf_counter()
        for _ in range(epochs):
            for rows in batches(workload, shuffle):
                optimizer.zero_grad()
                inputs, targets = (X, y) if rows is None else (X[rows], y[rows])
                head(net(inputs), targets).backward()
                optimizer.step()
        seconds = perf_counter() - start
        linears = [layer for layer in net if isinstance(layer, nn.Linear)]
        return Run(seconds, [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in linears])


def prepare(workload: Workload, rows: Rows, weights: Weights, n_threads: int) -> TorchEager:
    torch.set_num_threads(n_threads)
    return TorchEager(workload, rows, weights)
