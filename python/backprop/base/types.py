"""What passes between the Python face and a backend; what training changes is in `state`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[Any]
RealArray: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
Rows: TypeAlias = tuple[ArrayLike, ArrayLike] | tuple[ArrayLike, ArrayLike, ArrayLike]
"""X and y, and perhaps the weights of the rows, as users give them"""
ClassWeight: TypeAlias = (
    Mapping[int, float] | Literal["balanced"] | Sequence[Mapping[int, float] | Literal["balanced"]] | None
)
"""Weights of class labels, as users give them"""
StopReason: TypeAlias = Literal["epochs", "tolerance", "diverged", "time"]

CACHE_LINE = 64
"""Bytes"""


def new_parameters(n_parameters: int, dtype: np.dtype[Any]) -> RealArray:
    """Return zeros that begin where a cache line does: a core that loads a whole line at a time then meets each once.

    Training 30-16-1 row by row took 10 to 16 % longer from other places.
    """
    size = n_parameters * dtype.itemsize
    memory = np.zeros(size + CACHE_LINE, np.uint8)
    start = -memory.__array_interface__["data"][0] % CACHE_LINE
    return memory[start : start + size].view(dtype)


def new_block(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> RealArray:
    """Return `new_parameters` in this shape; ValueError where they do not fit into memory."""
    n = math.prod(shape)
    try:
        return new_parameters(n, dtype).reshape(shape)
    except (MemoryError, ValueError) as error:
        raise ValueError(f"{name}: needs parameters that fit into memory, got {n:,} of them") from error


class Data(NamedTuple):
    """Rows to learn from; checked, C-contiguous, of the network's dtype."""

    X: RealArray
    """(n, n_inputs)"""
    targets: Any
    """(n, n_outputs) real, or (n,) int64 class labels"""
    sample_weight: RealArray | None = None
    """(n,), or (n, n_outputs) for element-wise losses"""

    @property
    def weighs_outputs(self) -> bool:
        """Whether each output of a row has a weight of its own; see `backprop.backends.output_weights`."""
        return self.sample_weight is not None and self.sample_weight.ndim == 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """Which average of the parameters a run keeps: ``average += w (parameters - average)`` after steps that count.

    The n-th that counts has w = 1 for n = 1, else ``1 - decay``, or ``1 / n`` where all count the same.
    """

    decay: float | None = None
    """in (0, 1); None: all count the same"""
    start: int = 0
    """epochs of the run before the first step that counts"""
    every: int | None = 1
    """steps from one that counts to the next; None for the last one of each epoch"""
    measured: bool = True
    """Whether the validation loss is that of the average, once there is one, and not that of the parameters"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How a run goes over its data and when it stops."""

    batch_size: int | None = None
    shuffle: bool = True
    clip_norm: float | None = None
    clip_value: float | None = None
    penalty_per_row: bool = False
    """Whether the penalties of a batch are divided by what its data loss is divided by, as scikit-learn does."""
    monitor: Literal["loss", "val_loss"] = "loss"
    """The loss that the stop rule and `keep_best` look at."""
    tolerance: float | None = None
    equal_is_progress: bool = False
    """Whether the stop rule, with tolerance 0, lets an epoch pass that equals the best one, as scikit-learn does."""
    patience: int = 10
    keep_best: bool = False
    """Whether `TrainingState.best_parameters` gets a copy whenever the monitored loss is the lowest yet."""
    average: Average | None = None
    n_threads: int = 1
    fixed_threads: bool = False
    """Whether all of them take part in every step, even while fewer would be faster."""


class Named(Protocol):
    """What has a name."""

    @property
    def name(self) -> str:
        """Its name."""


class TargetRules(Named, Protocol):
    """What a loss says about its targets."""

    @property
    def elementwise(self) -> bool:
        """Whether targets are numbers, one for each output; else they are classes."""

    @property
    def any_targets(self) -> bool:
        """Whether they may be either."""

    @property
    def target_range(self) -> tuple[float, float]:
        """The numbers that it accepts, ends included."""

    @property
    def targets_above(self) -> bool:
        """Whether the lower end itself is left out."""

    @property
    def target_values(self) -> tuple[float, ...] | None:
        """The only numbers that it accepts; None for all in the range."""
