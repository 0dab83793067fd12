"""`jax.vmap` over the members of a fleet: the program of `jax_scan`, all epochs of all members inside one jit.

`BENCH_JAX_TUNED=1` takes the fastest of what was found to help: one random order of rows for all members; blocks of
members that stay in the cache; where the networks are small, members in the last axis, so that they lie in the lanes of
vectors, and products written out as sums. With several threads, each runs a program for its part of the members.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bench.adapters import Run
from bench.adapters.jax_scan import SMALL_STEP, TUNED, JaxScan, Layout, Train
from bench.workloads import Real, Rows, Weights, Workload

BLOCK = 128
"""Members at a time, about: their rows of a step and their parameters stay in the cache."""
WRITTEN_OUT = 32
"""Terms up to which a sum is written out, which the compiler fuses with its neighbours; longer ones are reductions."""
TRIAL_STEPS = 50
"""Steps of the runs by which the fastest layout is found."""


def own_orders(train: Train) -> Train:
    """Each member takes its rows in an order of its own."""

    def whole(weights: Any, slots: Any, X: jax.Array, y: jax.Array, key: jax.Array) -> Any:
        return jax.vmap(train)(weights, slots, X, y, jax.random.split(key, len(X)))

    return whole


def one_order(train: Train) -> Train:
    return jax.vmap(train, in_axes=(0, 0, 0, 0, None))


def in_blocks(train: Train) -> Train:
    def whole(weights: Any, slots: Any, X: jax.Array, y: jax.Array, key: jax.Array) -> Any:
        return lax.map(lambda member: train(*member, key), (weights, slots, X, y), batch_size=min(BLOCK, len(X)))

    return whole


def in_lanes(train: Train) -> Train:
    """Blocks in the first axis, the members of a block in the last."""

    def whole(weights: Any, slots: Any, X: jax.Array, y: jax.Array, key: jax.Array) -> Any:
        block = jax.vmap(lambda *member: train(*member, key), in_axes=-1, out_axes=-1)
        return lax.map(lambda members: block(*members), (weights, slots, X, y))

    return whole


def summed(a: jax.Array, b: jax.Array, axis_a: int, axis_b: int) -> jax.Array:
    """The products of two matrices with one axis to sum over and, in each other's place, one of length 1."""
    length = a.shape[axis_a]
    if length > WRITTEN_OUT:
        return jnp.sum(a * b, axis=axis_a)
    terms = [
        lax.index_in_dim(a, k, axis_a, keepdims=False) * lax.index_in_dim(b, k, axis_b, keepdims=False)
        for k in range(length)
    ]
    while len(terms) > 1:
        terms = [sum(terms[k + 1 : k + 2], terms[k]) for k in range(0, len(terms), 2)]
    return terms[0]


@jax.custom_vjp
def written_out(a: jax.Array, b: jax.Array) -> jax.Array:
    """The matrix product, and its gradients, as sums of products."""
    return summed(a[:, :, None], b[None], 1, 1)


def _forward(a: jax.Array, b: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return written_out(a, b), (a, b)


def _backward(factors: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    a, b = factors
    return summed(gradient[:, None], b[None], 2, 2), summed(a[:, :, None], gradient[:, None], 0, 0)


written_out.defvjp(_forward, _backward)


def lanes(n_members: int) -> Layout:
    """The layout for `in_lanes`: (blocks, ..., members of a block), the last block being filled up."""
    n_blocks = -(-n_members // BLOCK)
    block = -(-n_members // n_blocks)

    def split(values: Real) -> Real:
        filled = np.concatenate([values, values[: n_blocks * block - n_members]])
        return np.ascontiguousarray(np.moveaxis(filled.reshape(n_blocks, block, *values.shape[1:]), 1, -1))

    def join(values: Any) -> Real:
        moved = np.moveaxis(np.asarray(values), -1, 1)
        return moved.reshape(-1, *moved.shape[2:])[:n_members]

    return Layout(name="members in the lanes", product=written_out, members=in_lanes, split=split, join=join)


class Tuned:
    """The fastest of the layouts, by as many programs side by side as there are threads."""

    def __init__(self, workload: Workload, rows: Rows, weights: Weights, n_threads: int) -> None:
        n_members = len(rows.X)
        cuts = np.linspace(0, n_members, min(n_threads, n_members) + 1).astype(int)
        parts = [slice(*cut) for cut in pairwise(cuts)]
        self.pool = ThreadPoolExecutor(len(parts))
        candidates: list[Callable[[int], Layout]] = [
            lambda n: Layout(name="one order", product=jnp.matmul, members=one_order),
            lambda n: Layout(name="one order, in blocks", product=jnp.matmul, members=in_blocks),
        ]
        if workload.flops_per_step < SMALL_STEP:
            candidates.append(lanes)

        def scans(layout: Callable[[int], Layout]) -> list[JaxScan]:
            return [
                JaxScan(
                    workload,
                    Rows(rows.X[part], rows.y[part], None),
                    [(W[part], b[part]) for W, b in weights],
                    layout(part.stop - part.start),
                )
                for part in parts
            ]

        trials = -(-TRIAL_STEPS // workload.steps_per_epoch)
        self.scans: list[JaxScan] = []
        best = np.inf
        for candidate in candidates:
            self.scans, before = scans(candidate), self.scans
            seconds = min(self.run(trials, shuffle=workload.shuffled).seconds for _ in range(3))
            if seconds < best:
                best = seconds
            else:
                self.scans = before
        self.note = f"{workload.name}: {self.scans[0].layout.name}"

    @property
    def compile_seconds(self) -> float:
        return sum(scan.compile_seconds for scan in self.scans)

    def run(self, epochs: int, *, shuffle: bool) -> Run:
        programs = [scan.program(epochs, shuffle=shuffle) for scan in self.scans]
        start = perf_counter()
        trained = list(self.pool.map(lambda program: program(), programs))
        seconds = perf_counter() - start
        parts = [scan.joined(weights) for scan, (weights, _) in zip(self.scans, trained, strict=True)]
        return Run(seconds, jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts))


def prepare(workload: Workload, rows: Rows, weights: Weights, n_threads: int) -> JaxScan | Tuned:
    if TUNED:
        return Tuned(workload, rows, weights, n_threads)
    return JaxScan(workload, rows, weights, Layout(name="own orders", product=jnp.matmul, members=own_orders))
