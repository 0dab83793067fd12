"""PyTorch, compiled: gather, forward, backward and update of one step in one `torch.compile`d function.

A fleet is one network with stacked products (`baddbmm`) by hand, all members taking their rows in the same random
order, which is much cheaper than one order for each.

`BENCH_TORCH_TUNED=1` lets the compiler choose each product by trial, among oneDNN, MKL and templates of its own, and
wraps the program in C++ instead of Python.
"""

from __future__ import annotations

import os
from time import perf_counter

import torch
from torch import Tensor

from bench.adapters import Run
from bench.adapters.torch_eager import HEADS, batches, tensors
from bench.workloads import Rows, Weights, Workload

ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}

TUNED = os.environ.get("BENCH_TORCH_TUNED") == "1"
OPTIONS = {"max_autotune": True, "max_autotune_gemm_backends": "ATEN,CPP", "cpp_wrapper": True} if TUNED else None


class TorchCompiled:
    def __init__(self, workload: Workload, rows: Rows, weights: Weights) -> None:
        self.workload, self.initial = workload, weights
        self.X, self.y = tensors(rows)
        self.affine = torch.addmm if workload.members is None else torch.baddbmm
        # Static shapes: a short last batch becomes a second program.
        self.step = torch.compile(self._step, fullgraph=True, dynamic=False, options=OPTIONS)
        self.compile_seconds = self._compile()

    def _loss(self, parameters: tuple[Tensor, ...], X: Tensor, y: Tensor) -> Tensor:
        *hidden, W, b = parameters
        for V, c in zip(hidden[::2], hidden[1::2], strict=True):
            X = ACTIVATIONS[self.workload.activation](self.affine(c, X, V))
        z = self.affine(b, X, W)
        if self.workload.members is None:
            return HEADS[self.workload.head](z, y)
        # The mean of all members times their number is the sum of the members' means: each gets its own gradient.
        return HEADS[self.workload.head](z.flatten(0, 1), y.flatten(0, 1)) * self.workload.members

    def _rows(self, values: Tensor, rows: Tensor) -> Tensor:
        return values[rows] if self.workload.members is None else values[:, rows]

    def _step(
        self,
        parameters: tuple[Tensor, ...],
        first: list[Tensor],
        second: list[Tensor],
        adam: Tensor,
        rows: Tensor | None,
    ) -> None:
        """One optimizer step, in place."""
        X, y = (self.X, self.y) if rows is None else (self._rows(self.X, rows), self._rows(self.y, rows))
        gradients = torch.func.grad(self._loss)(parameters, X, y)
        rate, momentum = self.workload.learning_rate, self.workload.momentum
        for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
            match self.workload.optimizer:
                case "sgd" if momentum:
                    p.sub_(rate * m.mul_(momentum).add_(g))
                case "sgd":
                    p.sub_(rate * g)
                case "adam" | "adamw":
                    if self.workload.optimizer == "adamw":
                        p.mul_(1 - rate * 0.01)
                    m.add_(0.1 * (g - m))
                    v.mul_(0.999).add_((1 - 0.999) * g * g)
                    p.sub_(adam[0] * m / (v.sqrt() * adam[1] + 1e-8))
                case "rmsprop":
                    v.mul_(0.99).add_(0.01 * g * g)
                    p.sub_(rate * g / (v.sqrt() + 1e-8))
                case "adagrad":
                    v.add_(g * g)
                    p.sub_(rate * g / (v.sqrt() + 1e-10))

    def _fresh(self) -> tuple[tuple[Tensor, ...], list[Tensor], list[Tensor], Tensor]:
        parameters = tuple(torch.tensor(p) for layer in self.initial for p in layer)
        zeros = [[torch.zeros_like(p) for p in parameters] for _ in range(2)]
        return parameters, zeros[0], zeros[1], torch.zeros(2, dtype=self.X.dtype)

    @torch.no_grad()
    def _compile(self) -> float:
        start = perf_counter()
        by_size = {0 if rows is None else len(rows): rows for rows in batches(self.workload, shuffle=False)}
        for rows in by_size.values():
            self.step(*self._fresh(), rows)
        return perf_counter() - start

    @torch.no_grad()
    def run(self, epochs: int, *, shuffle: bool) -> Run:
        state = self._fresh()
        workload, step = self.workload, self.step
        # Adam's corrections: numbers would be compiled in, and as a formula of a counter the compiled code evaluates
        # its powers for every parameter.
        adam, t = state[-1], 0
        corrected = workload.optimizer in ("adam", "adamw")
        start = perf_counter()
        for _ in range(epochs):
            for rows in batches(workload, shuffle):
                if corrected:
                    t += 1
                    adam[0] = workload.learning_rate / (1 - 0.9**t)
                    adam[1] = (1 - 0.999**t) ** -0.5
                step(*state, rows)
        seconds = perf_counter() - start
        trained = [p.numpy() for p in state[0]]
        return Run(seconds, list(zip(trained[::2], trained[1::2], strict=True)))


def prepare(workload: Workload, rows: Rows, weights: Weights, n_threads: int) -> TorchCompiled:
    torch.set_num_threads(n_threads)
    return TorchCompiled(workload, rows, weights)
