"""Levenberg-Marquardt: Gauss-Newton steps, shortened as far as the model of the loss has to be mistrusted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from backprop.base import checks as check
from backprop.base.solving import SolveReason, SolverState
from backprop.reference.solvers.solver import Function, LeastSquares, Solver, Vector, enter, is_flat

ROUNDING = float(np.finfo(np.float64).eps)
"""A step that promises a smaller fall, relative to the loss, cannot be told from none."""
MAX_TRIALS = 30
"""Steps that an iteration may try; each is shorter than the one before by a factor that doubles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevenbergMarquardt(Solver):
    """The Levenberg-Marquardt method: ``(M + damping D) d = -gradient``, with the Gauss-Newton matrix M of the loss.

    From D. Marquardt, "An algorithm for least-squares estimation of nonlinear parameters", SIAM Journal 11 (1963). A
    step is taken where the loss falls. With ``gain``, its fall over the one that ``g.d + d.M.d / 2`` promises, the
    damping follows H. Nielsen, "Damping parameter in Marquardt's method" (1999):

        taken:      damping *= max(1/3, 1 - (2 gain - 1)**3),    growth = 2
        refused:    damping *= growth,    growth *= 2

    Parameters
    ----------
    tolerance
        Stop when no element of the gradient is larger, >= 0.
    loss_tolerance
        Stop when an iteration lowers the loss by at most this, relative to the loss or to 1, whichever is larger.
    max_evaluations
        Stop after the iteration in which the loss is computed for this time.
    damping
        The first damping, > 0; with D the identity relative to the largest diagonal element of M.
    scaling
        D: ``"identity"``, or ``"marquardt"`` for the diagonal of M.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.solvers.LevenbergMarquardt(damping=1.0).scaling
    'identity'
    """

    name: ClassVar[str] = "lm"

    damping: float = 0.1
    scaling: Literal["identity", "marquardt"] = "identity"

    def __post_init__(self) -> None:
        Solver.__post_init__(self)
        object.__setattr__(self, "damping", check.number("damping", self.damping, above=0))
        check.choice("scaling", self.scaling, ("identity", "marquardt"))

    def steps(self, function: Function | LeastSquares, state: SolverState) -> Iterator[SolveReason | None]:
        """As `Solver.steps`; the function is a `LeastSquares`."""
        assert isinstance(function, LeastSquares)
        x, g = state.point.copy(), np.empty_like(state.point)
        value = function.loss(x)
        M = function.gauss_newton(x, g)
        state.evaluations += 1
        enter(state, x, value, g)
        if not (math.isfinite(value) and math.isfinite(state.slope)):
            yield "not finite"
        damping, growth = self._first_damping(M), 2.0
        state.damping = damping
        yield None
        while True:
            if (reason := self.reason_to_stop(state)) is not None:
                yield reason
            before, taken = value, False
            for _ in range(MAX_TRIALS):
                scale = np.diag(M).copy() if self.scaling == "marquardt" else np.ones_like(g)
                scale[np.diag(M) == 0] = 1  # what is not trainable, or has no influence
                d = _step(M, damping * scale, g)
                tried = x + d
                value = function.loss(tried)
                state.evaluations += 1
                promised = 0.5 * float(d @ (damping * scale * d) - g @ d)
                if value < before:
                    gain = (before - value) / promised
                    damping *= max(1 / 3, 1 - (2 * gain - 1) ** 3)
                    growth, taken = 2.0, True
                    break
                damping *= growth
                growth *= 2
                yield "loss" if promised <= ROUNDING * abs(before) else None
            if not taken:
                value = before
                yield "stuck"
                continue
            x = tried
            M = function.gauss_newton(x, g)
            state.iteration += 1
            state.damping = damping
            enter(state, x, value, g)
            yield self.reason_to_stop(state) or ("loss" if is_flat(self, before, value) else None)

    def _first_damping(self, M: Vector) -> float:
        return self.damping if self.scaling == "marquardt" else self.damping * float(np.diag(M).max(initial=0.0))


def _step(M: Vector, damping: Vector, g: Vector) -> Vector:
    """Return the step; NaN where the matrix is not positive definite to rounding."""
    try:
        L = np.linalg.cholesky(M + np.diag(damping))
    except np.linalg.LinAlgError:
        return np.full_like(g, np.nan)
    return -np.linalg.solve(L.T, np.linalg.solve(L, g))
