"""Bayesian regularisation: Levenberg-Marquardt that finds the penalty, and the noise, by the evidence of the data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol, cast

import numpy as np

from backprop.base.solving import SolverState
from backprop.reference.solvers.levenberg_marquardt import Fit, LevenbergMarquardt
from backprop.reference.solvers.solver import LeastSquares, Vector
from backprop.reference.solvers.triangular import inverse_of

FIRST_PENALTY = 1e-2
"""The l2 of the first step, relative to the mean of the diagonal of the Gauss-Newton matrix."""
SETTLED = 1e-3
"""Precisions that a step has changed by no more than this, relative to them, hardly change any more."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BayesianRegularization(LevenbergMarquardt):
    """Levenberg-Marquardt with a penalty that comes from the data, by the evidence.

    From D. MacKay, "A practical Bayesian framework for backpropagation networks", Neural Computation 4 (1992), and
    F. Foresee and M. Hagan, "Gauss-Newton approximation to Bayesian learning" (1997). Targets are outputs plus Gaussian
    noise of the precision beta; parameters have a Gaussian prior of the precision alpha. With the sum of squared errors
    ``S`` over N targets and ``P``, that of the parameters, what is minimised is ``beta S / 2 + alpha P / 2``. After
    each step, with the Jacobian J of the outputs and ``A = beta J^T J + alpha I``,

        gamma = n - alpha trace(A^-1)        alpha = gamma / P        beta = (N - gamma - f) / S

    gamma is the effective number of parameters: how many of the n the data determine. The f biases of the last layer
    have no prior, as the intercept of a ridge regression, and their rows of I are 0. Where A is not positive definite,
    or beta not finite and positive, alpha and beta stay as they were; so does alpha alone where no parameter has an
    influence. All outputs have the same noise. The weight of a row counts it as often: N is the sum of the weights
    times the outputs. What is not trainable has no prior and does not count.

    Parameters
    ----------
    tolerance, loss_tolerance, max_evaluations, damping, scaling
        As for `LevenbergMarquardt`. The loss there is that with the penalty, ``alpha / beta`` times the factor of S in
        the loss; `History` has the loss without it. A small gradient ends it only where the last step has changed alpha
        and beta by 0.1 % at most, or could not change them.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.solvers.BayesianRegularization().damping
    0.1
    """

    name: ClassVar[str] = "bayesian"

    def fit(self, function: LeastSquares, state: SolverState) -> Fit:
        """As `LevenbergMarquardt.fit`."""
        assert hasattr(function, "gaussian")
        return Evidence(function, state, cast("Gaussian", function).gaussian())


class Terms(NamedTuple):
    """What the loss and the parameters are to the evidence."""

    factor: float
    """what half of the sum of squared errors is multiplied by in the loss"""
    n_targets: float
    prior: Vector
    """(n_parameters,): 1 for the parameters with a prior, else 0"""
    trainable: Vector
    """(n_parameters,): likewise"""

    @property
    def n_flat(self) -> float:
        """How many of the trainable parameters have no prior."""
        return float((self.trainable - self.prior).sum())

    def agree(self, state: SolverState) -> bool:
        """Return whether the precision of the noise is, to 1 %, the one that the evidence asks for."""
        rest = self.n_targets - state.gamma - self.n_flat
        return abs(state.beta * 2 * state.loss / self.factor - rest) <= 0.01 * rest


class Gaussian(Protocol):
    """A loss that is a sum of squared errors."""

    def gaussian(self) -> Terms:
        """Return what it is to the evidence."""


@dataclass(slots=True)
class Evidence(Fit):
    """The loss with a penalty that follows the evidence; alpha, beta and gamma are those of the state."""

    state: SolverState
    terms: Terms
    data: float = math.nan
    """the loss without the penalty where it was computed last"""
    bare: tuple[Vector, Vector] = field(init=False)
    """the diagonal of the matrix and the gradient without the penalty, likewise"""

    def __post_init__(self) -> None:
        self.settled = False

    @property
    def penalty(self) -> float:
        """The l2 of the loss."""
        return self.terms.factor * self.state.alpha / self.state.beta

    def shown(self, point: Vector, value: float) -> float:
        """Return the loss without the penalty."""
        return self.data

    def loss(self, point: Vector) -> float:
        """Return the loss with the penalty, once there is one."""
        self.data = self.function.loss(point)
        return self.data if math.isnan(self.state.alpha) else self.data + self._penalty_of(point)

    def gauss_newton(self, point: Vector, gradient: Vector) -> Vector:
        """Return the matrix with the penalty, once there is one; put the gradient into the other vector."""
        M = self.function.gauss_newton(point, gradient)
        self.bare = np.diag(M).copy(), gradient.copy()
        if not math.isnan(self.state.alpha):
            self._add(point, gradient, M)
        return M

    def begin(self, point: Vector, value: float, gradient: Vector, M: Vector) -> float:
        """Return the loss with the first penalty."""
        if not math.isnan(self.state.alpha):
            return value
        n = float(self.terms.prior.sum())
        total = float(np.diag(M) @ self.terms.prior)
        mean = total / n if total > 0 else 1.0  # none of them may have an influence
        self.state.beta = 1 / self.terms.factor
        self.state.alpha = FIRST_PENALTY * mean / self.terms.factor * self.state.beta
        self.state.gamma = n
        self._add(point, gradient, M)
        return value + self._penalty_of(point)

    def follow(self, point: Vector, value: float, gradient: Vector, M: Vector) -> float:
        """Return the loss with the penalty by the evidence."""
        prior, trainable, state, before = self.terms.prior, self.terms.trainable, self.state, self.penalty
        self.settled = True
        try:
            L = np.linalg.cholesky(M + np.diag(1 - trainable))
        except np.linalg.LinAlgError:
            return value
        inverse = inverse_of(L)
        gamma = float(prior.sum() - before * (prior @ (inverse * inverse).sum(axis=0)))
        gamma = 0.0 if gamma <= 1e-12 * prior.sum() else gamma  # what rounding leaves: it would decide alpha
        squares, errors = float(prior @ (point * point)), 2 * self.data / self.terms.factor
        rest = self.terms.n_targets - gamma - self.terms.n_flat
        alpha = gamma / squares if squares > 0 else math.inf
        beta = rest / errors if errors > 0 else math.inf
        if not 0 < beta < math.inf:
            return value
        if not 0 < alpha < math.inf:
            alpha = state.alpha
        self.settled = _is_near(alpha, state.alpha) and _is_near(beta, state.beta)
        state.alpha, state.beta, state.gamma = alpha, beta, gamma
        self._add(point, gradient, M)
        return self.data + self._penalty_of(point)

    def _penalty_of(self, point: Vector) -> float:
        return 0.5 * self.penalty * float(self.terms.prior @ (point * point))

    def _add(self, point: Vector, gradient: Vector, M: Vector) -> None:
        """Add the penalty to what there is without one."""
        diagonal, slopes = self.bare
        gradient[:] = slopes + self.penalty * self.terms.prior * point
        np.einsum("ii->i", M)[...] = diagonal + self.penalty * self.terms.prior


def _is_near(after: float, before: float) -> bool:
    return abs(after - before) <= SETTLED * before
