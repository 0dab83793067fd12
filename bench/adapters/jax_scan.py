"""JAX with the whole run, all its epochs, inside one jit: a scan over epochs, and in it a scan over steps.

No loss is recorded: on the tiniest networks that alone would make JAX three times slower.

`BENCH_JAX_TUNED=1` adds what was found to help the smallest networks and what few people write: unrolled steps, and
products of tiny matrices as multiply-and-sum, which XLA fuses with their neighbours.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bench.adapters import Run
from bench.workloads import Rows, Weights, Workload

ACTIVATIONS = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}

HEADS = {
    "half_sse_sigmoid": lambda z, y: 0.5 * jnp.sum((jax.nn.sigmoid(z) - y) ** 2),
    "mse": lambda z, y: jnp.mean((z - y) ** 2),
    "binary_cross_entropy": lambda z, y: jnp.mean(jax.nn.softplus(z) - y * z),
    "cross_entropy": lambda z, y: jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.sum(y * z, axis=1)),
}

TUNED = os.environ.get("BENCH_JAX_TUNED") == "1"
SMALL_STEP = 100_000
"""Flops of a step below which unrolling pays: above, the overhead between steps is lost in their arithmetic."""
UNROLL = 8
TINY_PRODUCT = 64
"""Multiplications up to which multiply-and-sum is faster than a call of the matrix product."""


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    if TUNED and a.size * b.shape[1] <= TINY_PRODUCT:
        return jnp.sum(a[:, :, None] * b[None], axis=1)
    return a @ b


Train = Callable[[Any, Any, jax.Array, jax.Array, jax.Array], Any]
"""the run of a network: weights, slots of the optimizer, X, y, key of the shuffling -> trained weights and slots"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the arrays of the workload lie, and the matrix product of two of a network's."""

    name: str
    product: Callable[[jax.Array, jax.Array], jax.Array] = product
    members: Callable[[Train], Train] = lambda train: train
    """makes the run of a network that of a fleet"""
    split: Callable[[Any], Any] = lambda values: values
    """brings an array into this layout"""
    join: Callable[[Any], Any] = np.asarray
    """the way back"""


class JaxScan:
    def __init__(self, workload: Workload, rows: Rows, weights: Weights, layout: Layout) -> None:
        self.workload, self.layout = workload, layout
        self.X, self.y = jnp.asarray(layout.split(rows.X)), jnp.asarray(layout.split(rows.y))
        if self.X.dtype != workload.dtype:
            raise RuntimeError("float64 needs JAX_ENABLE_X64=1 in the environment")
        self.initial = jax.tree.map(layout.split, weights)
        self.unroll = UNROLL if TUNED and not workload.members and workload.flops_per_step < SMALL_STEP else 1
        self.train = jax.jit(self._train, static_argnames=("epochs", "shuffle"), donate_argnums=(0, 1))
        self.programs: dict[tuple[int, bool], Any] = {}
        self.compile_seconds = 0.0

    def loss(self, weights: Any, X: jax.Array, y: jax.Array) -> jax.Array:
        activation, product = ACTIVATIONS[self.workload.activation], self.layout.product
        *hidden, (W, b) = weights
        for V, c in hidden:
            X = activation(product(X, V) + c)
        return HEADS[self.workload.head](product(X, W) + b, y)

    def update(self, parameters: Any, slots: Any, gradients: Any, t: jax.Array) -> tuple[Any, Any]:
        """One optimizer step over trees of the same structure, as PyTorch defines it."""
        rate, momentum = self.workload.learning_rate, self.workload.momentum

        def leafwise(function: Any, *trees: Any) -> Any:
            return jax.tree.map(function, *trees)

        match self.workload.optimizer:
            case "sgd" if momentum:
                slots = leafwise(lambda m, g: momentum * m + g, slots, gradients)
                return leafwise(lambda p, m: p - rate * m, parameters, slots), slots
            case "sgd":
                return leafwise(lambda p, g: p - rate * g, parameters, gradients), slots
            case "adam" | "adamw":
                if self.workload.optimizer == "adamw":
                    parameters = leafwise(lambda p: p * (1 - rate * 0.01), parameters)
                power = t.astype(self.X.dtype)
                size = rate / (1 - 0.9**power)
                correction = 1 / jnp.sqrt(1 - 0.999**power)
                m = leafwise(lambda m, g: m + 0.1 * (g - m), slots[0], gradients)
                v = leafwise(lambda v, g: 0.999 * v + (1 - 0.999) * g * g, slots[1], gradients)
                moved = leafwise(lambda p, m, v: p - size * m / (jnp.sqrt(v) * correction + 1e-8), parameters, m, v)
                return moved, (m, v)
            case "rmsprop":
                v = leafwise(lambda v, g: 0.99 * v + 0.01 * g * g, slots, gradients)
                return leafwise(lambda p, g, v: p - rate * g / (jnp.sqrt(v) + 1e-8), parameters, gradients, v), v
            case "adagrad":
                v = leafwise(lambda v, g: v + g * g, slots, gradients)
                return leafwise(lambda p, g, v: p - rate * g / (jnp.sqrt(v) + 1e-10), parameters, gradients, v), v
        raise AssertionError(self.workload.optimizer)

    def step(self, carry: Any, X: jax.Array, y: jax.Array) -> tuple[Any, None]:
        weights, slots, t = carry
        gradients = jax.grad(self.loss)(weights, X, y)
        t = t + 1
        weights, slots = self.update(weights, slots, gradients, t)
        return (weights, slots, t), None

    def epoch(self, carry: Any, order: jax.Array, X: jax.Array, y: jax.Array) -> tuple[Any, None]:
        batch = self.workload.batch
        full = len(order) // batch * batch
        batches = order[:full].reshape(-1, batch)
        carry, _ = lax.scan(lambda c, rows: self.step(c, X[rows], y[rows]), carry, batches, unroll=self.unroll)
        if full < len(order):
            rest = order[full:]
            carry, _ = self.step(carry, X[rest], y[rest])
        return carry, None

    def _train(
        self, weights: Any, slots: Any, X: jax.Array, y: jax.Array, key: jax.Array, epochs: int, shuffle: bool
    ) -> Any:
        def train(weights: Any, slots: Any, X: jax.Array, y: jax.Array, key: jax.Array) -> Any:
            carry = (weights, slots, jnp.zeros((), jnp.int32))
            n = len(X)
            if self.workload.batch == n:
                carry, _ = lax.scan(lambda c, _: self.step(c, X, y), carry, length=epochs, unroll=self.unroll)
            elif shuffle:
                keys = jax.random.split(key, epochs)
                carry, _ = lax.scan(lambda c, key: self.epoch(c, jax.random.permutation(key, n), X, y), carry, keys)
            else:
                carry, _ = lax.scan(lambda c, _: self.epoch(c, jnp.arange(n), X, y), carry, length=epochs)
            return carry[:2]

        return self.layout.members(train)(weights, slots, X, y, key)

    def program(self, epochs: int, *, shuffle: bool) -> Callable[[], Any]:
        """A run, compiled, with new arguments, which can be called once: it gives the trained weights and slots."""
        weights = jax.tree.map(jnp.array, self.initial)
        zeros = jax.tree.map(jnp.zeros_like, weights)
        match self.workload.optimizer:
            case "adam" | "adamw":
                slots: Any = (zeros, jax.tree.map(jnp.copy, zeros))
            case "sgd" if not self.workload.momentum:
                slots = ()
            case _:
                slots = zeros
        arguments = jax.block_until_ready((weights, slots, self.X, self.y, jax.random.key(0)))
        if (epochs, shuffle) not in self.programs:
            start = perf_counter()
            self.programs[epochs, shuffle] = self.train.lower(*arguments, epochs=epochs, shuffle=shuffle).compile()
            self.compile_seconds = perf_counter() - start
        program = self.programs[epochs, shuffle]
        return lambda: jax.block_until_ready(program(*arguments))

    def joined(self, trained: Any) -> Weights:
        return jax.tree.map(self.layout.join, trained)

    def run(self, epochs: int, *, shuffle: bool) -> Run:
        program = self.program(epochs, shuffle=shuffle)
        start = perf_counter()
        trained, _ = program()
        seconds = perf_counter() - start
        return Run(seconds, self.joined(trained))


def prepare(workload: Workload, rows: Rows, weights: Weights, n_threads: int) -> JaxScan:
    # One thread or several: XLA_FLAGS and the affinity, which the runner sets before this process starts.
    return JaxScan(workload, rows, weights, Layout(name="one network"))
