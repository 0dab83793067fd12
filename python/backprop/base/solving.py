"""What a minimisation over all rows changes, and why it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

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
    loss: float = math.nan
    """at the point"""
    slope: float = math.nan
    """the largest element of the gradient there, without its sign"""
    damping: float = math.nan
    """of the last step, where the method has one"""
