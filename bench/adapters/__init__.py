"""One file per library. Each has `prepare(workload, rows, weights, n_threads)`, which gives a `Trainer`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import NamedTuple, Protocol

from bench.workloads import Rows, Weights, Workload


class Unsupported(Exception):
    """The library cannot do this workload, or is not there; the message says which."""


class Run(NamedTuple):
    seconds: float
    weights: Weights
    """after the run; the loss is computed from them, in the same way for every library"""


class Trainer(Protocol):
    """One library, ready for one workload.

    It may have `compile_seconds`, and a `note` for the report.
    """

    def run(self, epochs: int, *, shuffle: bool) -> Run:
        """Train from the initial weights. The time includes shuffling and gathering, not conversion or compiling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    module: str
    title: str
    """in tables and charts"""
    environment: tuple[tuple[str, str], ...] = ()
    """what its process needs"""
    tolerance: float = 0.0
    """how far its loss may be from the expected one where it computes by another formula"""


PEERS: Mapping[str, Peer] = {
    "backprop": Peer(module="ours", title="backprop"),
    "reference": Peer(module="ours", title="its reference", environment=(("BACKPROP_BACKEND", "reference"),)),
    "numpy": Peer(module="plain_numpy", title="NumPy"),
    # Its Adam adds epsilon before the bias correction.
    "sklearn": Peer(module="scikit_learn", title="scikit-learn", tolerance=5e-4),
    "torch": Peer(module="torch_eager", title="PyTorch"),
    "torch-compiled": Peer(module="torch_compiled", title="PyTorch, compiled"),
    "jax": Peer(module="jax_scan", title="JAX"),
    "jax-tuned": Peer(module="jax_scan", title="JAX, tuned", environment=(("BENCH_JAX_TUNED", "1"),)),
}


def prepare(name: str, workload: Workload, rows: Rows, weights: Weights, n_threads: int) -> Trainer:
    try:
        module = import_module(f"bench.adapters.{PEERS[name].module}")
    except ImportError as error:
        raise Unsupported(f"not installed ({error})") from error
    trainer: Trainer = module.prepare(workload, rows, weights, n_threads)
    return trainer
