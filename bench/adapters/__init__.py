"""One file per library. Each has `prepare(workload, rows, weights, n_threads)`, which gives a `Trainer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import NamedTuple, Protocol

import numpy as np

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


FEWEST = 4
"""members of a fleet for a peer that gets a fraction"""


def member_of(workload: Workload, rows: Rows, weights: Weights, k: int) -> tuple[Workload, Rows, Weights]:
    """Member k of a fleet, as a network by itself."""
    own = Rows(*(None if values is None else values[k] for values in rows))
    return replace(workload, members=None), own, [(W[k], b[k, 0]) for W, b in weights]


def stacked(members: Sequence[Weights]) -> Weights:
    """The weights of a fleet from those of its members."""
    layers = zip(*members, strict=True)
    return [(np.stack([W for W, _ in layer]), np.stack([b for _, b in layer])[:, None]) for layer in layers]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    module: str
    title: str
    """in tables and charts"""
    environment: tuple[tuple[str, str], ...] = ()
    """what its process needs"""
    tolerance: float = 0.0
    """how far its loss may be from the expected one where it computes by another formula"""
    fraction: int = 1
    """It gets one in so many of a fleet's members, but at least `FEWEST`: one call for each network, whose time is the
    same among few. A run of the usual length is then one of many steps, beside which the fixed cost of a call is small.
    """

    def share(self, workload: Workload) -> Workload:
        """What of the workload it trains."""
        if workload.members is None:
            return workload
        return replace(workload, members=max(workload.members // self.fraction, min(FEWEST, workload.members)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Who is compared on one kind of workload."""

    peers: Mapping[str, Peer]
    ours: str
    """the ratios' denominator"""
    against: tuple[str, ...]
    """the ratios' numerators"""
    unit: str
    """what the times are: those of a run divided by the steps of all its networks"""


_TUNED = ("BENCH_JAX_TUNED", "1")
_TORCH_TUNED = ("BENCH_TORCH_TUNED", "1")
# Each of its threads is a program of its own.
_ONE_THREAD_PROGRAMS = ("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
# scikit-learn's Adam adds epsilon before the bias correction.
_OTHER_EPSILON = 5e-4

NETWORKS = Suite(
    peers={
        "backprop": Peer(module="ours", title="backprop"),
        "reference": Peer(module="ours", title="its reference", environment=(("BACKPROP_BACKEND", "reference"),)),
        "numpy": Peer(module="plain_numpy", title="NumPy"),
        "sklearn": Peer(module="scikit_learn", title="scikit-learn", tolerance=_OTHER_EPSILON),
        "torch": Peer(module="torch_eager", title="PyTorch"),
        "torch-compiled": Peer(module="torch_compiled", title="PyTorch, compiled"),
        "torch-tuned": Peer(module="torch_compiled", title="PyTorch, tuned", environment=(_TORCH_TUNED,)),
        "jax": Peer(module="jax_scan", title="JAX"),
        "jax-tuned": Peer(module="jax_scan", title="JAX, tuned", environment=(_TUNED,)),
    },
    ours="backprop",
    against=("jax", "jax-tuned"),
    unit="µs per optimizer step",
)

FLEETS = Suite(
    peers={
        "fleet": Peer(module="ours_fleet", title="backprop's fleet"),
        "loop": Peer(module="ours_loop", title="backprop, a loop", fraction=50),
        "numpy-stacked": Peer(module="plain_numpy", title="NumPy, stacked"),
        "sklearn-joblib": Peer(
            module="scikit_learn_joblib", title="scikit-learn, joblib", tolerance=_OTHER_EPSILON, fraction=50
        ),
        "torch-func": Peer(module="torch_func", title="PyTorch, torch.func"),
        "torch-stacked": Peer(module="torch_compiled", title="PyTorch, stacked, compiled"),
        "vmap": Peer(module="jax_vmap", title="jax.vmap"),
        "vmap-tuned": Peer(module="jax_vmap", title="jax.vmap, tuned", environment=(_TUNED, _ONE_THREAD_PROGRAMS)),
    },
    ours="fleet",
    against=("vmap", "vmap-tuned", "loop"),
    unit="µs per network and optimizer step",
)

PEERS: Mapping[str, Peer] = {**NETWORKS.peers, **FLEETS.peers}


def prepare(name: str, workload: Workload, rows: Rows, weights: Weights, n_threads: int) -> Trainer:
    try:
        module = import_module(f"bench.adapters.{PEERS[name].module}")
    except ImportError as error:
        raise Unsupported(f"not installed ({error})") from error
    trainer: Trainer = module.prepare(workload, rows, weights, n_threads)
    return trainer
