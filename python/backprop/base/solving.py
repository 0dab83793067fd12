"""What a minimisation over all rows changes, and why it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

SolveReason: TypeAlias = Literal["iterations", "gradient", "loss", "evaluations", "stuck", "not finite", "time"]
"""Why a call ends: all iterations are done; the gradient or the fall of the loss is small enough; no evaluation of the
loss is left; no step makes the loss fall; the loss at the start is not finite; the time is over."""


@dataclass(slots=True)
class SolverState:
    """Where a minimisation is: as its last whole iteration left it."""

    point: NDArray[np.float64]
    """(n_parameters,)"""
    iteration: int = 0
    """whole iterations done"""
    evaluations: int = 0
    """how often the loss was computed"""
    counted: int = 0
    """how often when the last whole iteration was done; a minimisation that goes on from here counts on from it"""
    loss: float = math.nan
    """at the point"""
    slope: float = math.nan
    """the largest element of the gradient there, without its sign"""
    damping: float = math.nan
    """of the next step, where the method has one"""
    alpha: float = math.nan
    """the precision of the prior of the parameters, where the method finds one"""
    beta: float = math.nan
    """the precision of the noise"""
    gamma: float = math.nan
    """the effective number of parameters"""
    pairs: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=list)
    """the last steps, oldest first, and what each changed in the gradient, as `Solving.remember` has left them"""
    scale: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """(n_parameters,): what Levenberg-Marquardt scales the damping by, 0 for 1; (0,) for 1 everywhere"""

    def __setstate__(self, values: tuple[None, dict[str, Any]]) -> None:
        self.scale = np.empty(0)  # older pickles have none
        for name, value in values[1].items():
            setattr(self, name, value)


@dataclass(slots=True)
class SolverRun:
    """A minimisation, as it was left: what another call needs to go on with it."""

    solver: Any
    """its settings"""
    state: SolverState
    reason: str = "interrupted"
    """why it ended"""
    callbacks: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """class and state of each callback"""
    n_rows: int | None = None
    """of its data; None where a file does not say it"""
    loss: str | None = None
    """the name of its loss; None where a file does not say it"""
    asked: str | None = None
    """the stop reason that a callback had asked for when a checkpoint was written, before anything else was done"""
    ended: str = "time"
    """what the backend had said by then"""
