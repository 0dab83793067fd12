"""Levenberg-Marquardt: Gauss-Newton steps, shortened as far as the model of the loss has to be mistrusted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from backprop.base import checks as check
from backprop.base.solving import SolveReason, SolverState
from backprop.reference.solvers.solver import Function, LeastSquares, Solver, Vector, enter, is_flat
from backprop.reference.solvers.triangular import solve_factorised

ROUNDING = float(np.finfo(np.float64).eps)
"""A step that promises a smaller fall, relative to the loss, cannot be told from none."""
MAX_TRIALS = 30
"""Steps that an iteration may try; each is shorter than the one before by a factor that doubles."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LevenbergMarquardt(Solver):
    """The Levenberg-Marquardt method: ``(M + damping D) d = -gradient``, with the Gauss-Newton matrix M of the loss.

    From D. Marquardt, "An algorithm for least-squares estimation of nonlinear parameters", SIAM Journal 11 (1963). A
    step is taken where the loss falls. With ``gain``, its fall over the one that ``g.d + d.M.d / 2`` promises, the
    damping follows H. Nielsen, "Damping parameter in Marquardt's method" (1999):

        taken:      damping *= max(1/3, 1 - (2 gain - 1)**3),    growth = 2
        refused:    damping *= growth,    growth *= 2

    A damping outside of [eps, 1 / eps] times the largest diagonal element of M is as good as the nearer end. Where a
    step promises less than rounding shows, damping that is larger than this element is to blame: it is lowered to it.

    Parameters
    ----------
    tolerance
        Stop when no element of the gradient is larger, >= 0.
    loss_tolerance
        Stop when an iteration lowers the loss by at most this, relative to the loss or to 1, whichever is larger.
    max_evaluations
        Stop after the iteration in which the loss is computed for this time.
    damping
        The first damping, > 0; relative to the largest diagonal element of M over that of D.
    scaling
        D: ``"identity"``, but for the weights of inputs far from a scale of 1, which have their mean square, or l2
        where that is larger, to a power of 16; or ``"marquardt"``: the diagonal of M, each element the largest so far,
        as in MINPACK.

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
        fit = self.fit(function, state)
        x, g = state.point.copy(), np.empty_like(state.point)
        value = fit.loss(x)
        M = fit.gauss_newton(x, g)
        value = fit.begin(x, value, g, M)
        state.evaluations = state.counted + (state.iteration == 0)
        scale = self._scale(state, M)
        if state.iteration == 0:
            state.damping = min(max(self.damping, ROUNDING), 1 / ROUNDING) * self._unit(M, scale)
        enter(state, x, fit.shown(x, value), g)
        if not (math.isfinite(value) and math.isfinite(state.slope)):
            yield "not finite"
        yield None
        while True:
            if (reason := self.reason_to_stop(state, fit.settled)) is not None:
                yield reason
            damping, growth = state.damping, 2.0
            before, taken, refused, unit = value, False, False, self._unit(M, scale)
            for _ in range(MAX_TRIALS):
                d = _step(M, damping * scale, g)
                promised = math.inf
                if d is not None:
                    tried = x + d
                    value = fit.loss(tried)
                    state.evaluations += 1
                    promised = 0.5 * float(d @ (damping * scale * d) - g @ d)
                    if value < before:
                        if promised > 0:  # unless rounding hides it
                            share = 2 * ((before - value) / promised) - 1
                            damping *= max(1 / 3, 1 - share * share * share)
                        taken = True
                        break
                if not promised <= ROUNDING * abs(before):
                    damping, refused = max(damping * growth, ROUNDING * unit), True
                    growth *= 2
                    yield None
                elif damping <= unit:
                    yield "loss"
                elif refused:
                    break
                else:
                    damping = unit
                    yield None
            if not taken:
                value = before
                yield "stuck"
                continue
            x = tried
            M = fit.gauss_newton(x, g)
            after, value = value, fit.follow(x, value, g, M)
            state.iteration += 1
            state.damping, scale = damping, self._scale(state, M)
            enter(state, x, fit.shown(x, value), g)
            yield self.reason_to_stop(state, fit.settled) or ("loss" if is_flat(self, before, after) else None)

    def fit(self, function: LeastSquares, state: SolverState) -> Fit:
        """Return what the method minimises."""
        return Fit(function)

    def _scale(self, state: SolverState, M: Vector) -> Vector:
        """Return D; 1 for what is not trainable, or has had no influence."""
        known, diagonal = state.scale if len(state.scale) else np.zeros(len(M)), np.diag(M)
        if self.scaling == "marquardt":
            known = state.scale = np.where((diagonal > known) & np.isfinite(diagonal), diagonal, known)
        return np.where(known > 0, known, 1.0)

    def _unit(self, M: Vector, scale: Vector) -> float:
        """Return the damping of a step of the size of one along the gradient."""
        return 1.0 if self.scaling == "marquardt" else float((np.diag(M) / scale).max(initial=0.0))


@dataclass(slots=True)
class Fit:
    """A loss of residuals that stays the same from step to step."""

    function: LeastSquares
    settled: bool = field(init=False, default=True)
    """whether what is minimised hardly changes any more"""

    def loss(self, point: Vector) -> float:
        """Return the loss."""
        return self.function.loss(point)

    def gauss_newton(self, point: Vector, gradient: Vector) -> Vector:
        """Return the Gauss-Newton matrix; put the gradient into the other vector."""
        return self.function.gauss_newton(point, gradient)

    def begin(self, point: Vector, value: float, gradient: Vector, M: Vector) -> float:
        """Return the loss at the start; change what depends on the loss."""
        return value

    def follow(self, point: Vector, value: float, gradient: Vector, M: Vector) -> float:
        """Return the loss with which the next step begins; change what depends on the loss."""
        return value

    def shown(self, point: Vector, value: float) -> float:
        """Return the loss that users see."""
        return value


def _step(M: Vector, damping: Vector, g: Vector) -> Vector | None:
    """Return the step; None where the matrix is not positive definite to rounding."""
    try:
        L = np.linalg.cholesky(M + np.diag(damping))
    except np.linalg.LinAlgError:
        return None
    return solve_factorised(L, -g)
