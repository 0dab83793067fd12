"""PyTorch's own way for many networks: `torch.func` over stacked modules, and a fused optimizer over the stacks."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from bench.adapters import Run
from bench.adapters.torch_eager import ACTIVATIONS, HEADS, optimizer_of, tensors
from bench.workloads import Rows, Weights, Workload


def batches(workload: Workload, shuffle: bool) -> Iterable[Tensor | None]:
    """The row numbers of an epoch's batches, (members, batch); None stands for all rows as they are."""
    if workload.batch == workload.rows:
        return (None,)
    if shuffle:
        order = torch.rand(*workload.stack, workload.rows).argsort(dim=1)
    else:
        order = torch.arange(workload.rows).expand(*workload.stack, -1)
    return order.split(workload.batch, dim=1)


class TorchFunc:
    def __init__(self, workload: Workload, rows: Rows, weights: Weights) -> None:
        self.workload, self.initial = workload, weights
        self.X, self.y = tensors(rows)
        layers = []
        for W, _ in weights:
            layers += [nn.Linear(*W.shape[1:], dtype=self.X.dtype, device="meta"), ACTIVATIONS[workload.activation]()]
        self.network = nn.Sequential(*layers[:-1])
        self.gradients = vmap(grad(self._loss))
        self.members = torch.arange(len(self.X))[:, None]

    def _loss(self, parameters: dict[str, Tensor], X: Tensor, y: Tensor) -> Tensor:
        return HEADS[self.workload.head](functional_call(self.network, parameters, (X,)), y)

    def run(self, epochs: int, *, shuffle: bool) -> Run:
        X, y = self.X, self.y
        parameters = {}
        for layer, (W, b) in enumerate(self.initial):
            parameters[f"{2 * layer}.weight"] = torch.tensor(W).mT.contiguous()
            parameters[f"{2 * layer}.bias"] = torch.tensor(b[:, 0])
        optimizer = optimizer_of(self.workload, parameters.values())
        start = perf_counter()
        for _ in range(epochs):
            for rows in batches(self.workload, shuffle):
                inputs, targets = (X, y) if rows is None else (X[self.members, rows], y[self.members, rows])
                gradients = self.gradients(parameters, inputs, targets)
                for name, parameter in parameters.items():
                    parameter.grad = gradients[name]
                optimizer.step()
        seconds = perf_counter() - start
        trained = [parameter.numpy() for parameter in parameters.values()]
        return Run(seconds, [(W.swapaxes(1, 2), b[:, None]) for W, b in zip(trained[::2], trained[1::2], strict=True)])


def prepare(workload: Workload, rows: Rows, weights: Weights, n_threads: int) -> TorchFunc:
    torch.set_num_threads(n_threads)
    return TorchFunc(workload, rows, weights)
