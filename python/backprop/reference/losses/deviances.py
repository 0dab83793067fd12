"""Losses of positive outputs: deviances of counts and of amounts."""

# NumPy's ufuncs are typed as returning Any:
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from backprop.base import checks as check
from backprop.base.types import Array
from backprop.reference.losses.loss import Loss, finite, positive, x_log_y

__all__ = ["Gamma", "Poisson", "Tweedie"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisson(Loss):
    """``a - y + y * log(y / a)``, without the logarithm where ``y == 0``: fits rates ``a`` of counts ``y >= 0``.

    Half of scikit-learn's ``mean_poisson_deviance``; PyTorch's ``PoissonNLLLoss`` differs from it by a term that
    depends on the targets only. Needs an output that is positive: ``exp``, with which it is computed from the raw
    scores, or ``softplus``.

    Parameters
    ----------
    scale, reduction
        As of `SquaredError`.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.Poisson().outputs
    ('exp', 'softplus')
    """

    name: ClassVar[str] = "poisson"
    formula: ClassVar[str] = "a - y + y * log(y / a)"
    scores_of: ClassVar[str | None] = "exp"
    outputs: ClassVar[tuple[str, ...] | None] = ("exp", "softplus")
    target_range: ClassVar[tuple[float, float]] = (0.0, math.inf)

    def value(self, a: Array, y: Array) -> Array:
        """``a - y + y log(y / a)``: minus the log-likelihood of the rate ``a`` after ``y`` events, 0 at ``a = y``."""
        return a - y + x_log_y(y, y / np.where(y == 0, 1, positive(a)))

    def gradient(self, a: Array, y: Array) -> Array:
        """``1 - y / a``."""
        return finite(1 - y / positive(a))

    def curvature(self, a: Array, y: Array) -> Array:
        """``y / a**2``."""
        a = positive(a)
        return finite(y / a / a)

    def value_from_scores(self, z: Array, y: Array) -> Array:
        """``exp(z) - y + y (log(y) - z)``."""
        return np.exp(z) - y + y * (np.log(np.where(y == 0, 1, y)) - z)

    def gradient_from_scores(self, z: Array, a: Array, y: Array) -> Array:
        """``a - y``."""
        return a - y

    def score_tangent(self, z: Array, a: Array, y: Array, dz: Array, da: Array) -> Array:
        """``da``."""
        return da


@dataclass(frozen=True, slots=True, kw_only=True)
class Gamma(Loss):
    """``y / a - 1 - log(y / a)`` for targets > 0: fits means ``a`` of amounts whose spread grows with their mean.

    Half of scikit-learn's ``mean_gamma_deviance``: twice this is the deviance of the gamma distribution (P. McCullagh
    and J. Nelder, "Generalized linear models", 1989). Needs an output that is positive: ``exp``, with which it is
    computed from the raw scores, or ``softplus``.

    Parameters
    ----------
    scale, reduction
        As of `SquaredError`.

    Raises
    ------
    TypeError, ValueError
        If a setting is of the wrong type or out of its range.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.Gamma().outputs
    ('exp', 'softplus')
    """

    name: ClassVar[str] = "gamma"
    formula: ClassVar[str] = "y / a - 1 - log(y / a)"
    scores_of: ClassVar[str | None] = "exp"
    outputs: ClassVar[tuple[str, ...] | None] = ("exp", "softplus")
    target_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    targets_above: ClassVar[bool] = True

    def value(self, a: Array, y: Array) -> Array:
        """``y / a - 1 - log(y / a)``: 0 at ``a = y``."""
        ratio = y / positive(a)
        ratio = np.where(np.isinf(ratio), np.finfo(a.real.dtype).max, ratio)
        return ratio - 1 - np.log(ratio)

    def gradient(self, a: Array, y: Array) -> Array:
        """``(1 - y / a) / a``."""
        return finite((1 - y / positive(a)) / positive(a))

    def curvature(self, a: Array, y: Array) -> Array:
        """``(2 y / a - 1) / a**2``."""
        a = positive(a)
        return finite((2 * y / a - 1) / a / a)

    def value_from_scores(self, z: Array, y: Array) -> Array:
        """``y exp(-z) - 1 + z - log(y)``."""
        return y * np.exp(-z) - 1 + (z - np.log(y))

    def gradient_from_scores(self, z: Array, a: Array, y: Array) -> Array:
        """``1 - y / a``."""
        return finite(1 - y / positive(a))

    def score_tangent(self, z: Array, a: Array, y: Array, dz: Array, da: Array) -> Array:
        """``y / a dz``."""
        return finite(y / positive(a)) * dz


@dataclass(frozen=True, slots=True, kw_only=True)
class Tweedie(Loss):
    """``a**(2 - p) / (2 - p) + y * a**(1 - p) / (p - 1) - y**(2 - p) / ((p - 1) * (2 - p))`` for 1 < p < 2.

    Fits means ``a`` of amounts ``y >= 0`` many of which are exactly 0, such as claims: sums of a Poisson number of
    gamma amounts. Half of scikit-learn's ``mean_tweedie_deviance(power=p)``; towards p = 1 it goes to `Poisson`,
    towards 2 to `Gamma`. Needs an output that is positive: ``exp``, with which it is computed from the raw scores, or
    ``softplus``.
    From B. Jorgensen, "Exponential dispersion models" (1987).

    Parameters
    ----------
    power
        ``p``: the variance of the targets is proportional to ``a**p``; 1 < p < 2.
    scale, reduction
        As of `SquaredError`.

    Raises
    ------
    TypeError, ValueError
        If a setting is of the wrong type or out of its range.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.Tweedie(power=1.2)
    Tweedie(scale=1.0, reduction='mean', power=1.2)
    """

    name: ClassVar[str] = "tweedie"
    formula: ClassVar[str] = "a**(2 - p) / (2 - p) + y * a**(1 - p) / (p - 1) - y**(2 - p) / ((p - 1) * (2 - p))"
    scores_of: ClassVar[str | None] = "exp"
    outputs: ClassVar[tuple[str, ...] | None] = ("exp", "softplus")
    target_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    power: float = 1.5

    def __post_init__(self) -> None:
        Loss.__post_init__(self)
        check.number("power", self.power, above=1, below=2)

    @property
    def parameters(self) -> tuple[float, ...]:
        """``p - 1`` and ``2 - p``, which are exact and have all their digits in float32 too."""
        return (self.power - 1, 2 - self.power)

    def value(self, a: Array, y: Array) -> Array:
        """``a**(2 - p) / (2 - p) + y a**(1 - p) / (p - 1) - y**(2 - p) / ((p - 1) (2 - p))``: 0 at ``a = y``."""
        return self._value(np.log(positive(a)), y)

    def gradient(self, a: Array, y: Array) -> Array:
        """``a**(1 - p) (1 - y / a)``."""
        a = positive(a)
        return finite(a ** (1 - self.power) * (1 - y / a))

    def curvature(self, a: Array, y: Array) -> Array:
        """``a**(-p) (1 - p + p y / a)``."""
        a = positive(a)
        return finite(a**-self.power * (1 - self.power + self.power * y / a))

    def value_from_scores(self, z: Array, y: Array) -> Array:
        """``exp((2 - p) z) / (2 - p) + y exp((1 - p) z) / (p - 1) - y**(2 - p) / ((p - 1) (2 - p))``."""
        return self._value(z, y)

    def gradient_from_scores(self, z: Array, a: Array, y: Array) -> Array:
        """``exp((2 - p) z) - y exp((1 - p) z)``."""
        above, below = self.parameters
        return np.exp(below * z) - np.where(y == 0, 0, y * np.exp(-above * z))

    def score_tangent(self, z: Array, a: Array, y: Array, dz: Array, da: Array) -> Array:
        """``((2 - p) exp((2 - p) z) + (p - 1) y exp((1 - p) z)) dz``."""
        above, below = self.parameters
        return (below * np.exp(below * z) + above * np.where(y == 0, 0, y * np.exp(-above * z))) * dz

    def _value(self, log_a: Array, y: Array) -> Array:
        above, below = self.parameters
        low = np.where(y == 0, 0, y * np.exp(-above * log_a))  # the exponential may be infinite
        return np.exp(below * log_a) / below + (low - y**below / below) / above
