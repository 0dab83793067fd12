"""Losses: each value with its gradient beside it.

All are written per output: ``a`` and ``y`` are the outputs and the targets, arrays (rows, units), and so are the
results; what a sample weight, a scale or a reduction does to them stands in `row_factors`. ``parameter`` is the
``delta`` of ``huber`` and the ``quantile`` of ``quantile``. As in `backprop.reference.activations`, values also take
complex ``a`` or ``z``.
"""

# A docstring here is a formula, and NumPy's ufuncs are typed as returning Any:
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from backprop.reference.activations import Array, softplus

if TYPE_CHECKING:
    from backprop import losses


def squared_error(a: Array, y: Array, parameter: float) -> Array:
    """``(a - y)**2``."""
    return (a - y) * (a - y)


def squared_error_gradient(a: Array, y: Array, parameter: float) -> Array:
    """``2 (a - y)``."""
    return 2 * (a - y)


def absolute_error(a: Array, y: Array, parameter: float) -> Array:
    """``abs(a - y)``."""
    return np.where((a - y).real < 0, y - a, a - y)


def absolute_error_gradient(a: Array, y: Array, parameter: float) -> Array:
    """The sign of ``a - y``: at the kink, 0."""
    return np.sign(a - y)


def huber(a: Array, y: Array, parameter: float) -> Array:
    """``(a - y)**2 / 2`` up to ``delta``, from there on the straight line that continues it."""
    distance = absolute_error(a, y, 0)
    return np.where(distance.real <= parameter, 0.5 * distance * distance, parameter * (distance - 0.5 * parameter))


def huber_gradient(a: Array, y: Array, parameter: float) -> Array:
    """``a - y``, clipped to ``-delta .. delta``."""
    return np.clip(a - y, -parameter, parameter)


def quantile(a: Array, y: Array, parameter: float) -> Array:
    """``q (y - a)`` where the target is above the output, ``(1 - q) (a - y)`` where it is below."""
    return np.where((a - y).real < 0, parameter * (y - a), (1 - parameter) * (a - y))


def quantile_gradient(a: Array, y: Array, parameter: float) -> Array:
    """``-q`` where ``y > a``, ``1 - q`` where ``y < a``: at the kink, 0."""
    return np.where(y > a, -parameter, np.where(y < a, 1 - parameter, 0)).astype(a.dtype)


def x_log_y(x: Array, y: Array) -> Array:
    """``x log(y)``, and 0 where ``x`` is 0, its limit."""
    return np.where(x == 0, 0, x * np.log(np.where(x == 0, 1, y)))


def poisson(a: Array, y: Array, parameter: float) -> Array:
    """``a - y + y log(y / a)``: minus the log-likelihood of the rate ``a`` after ``y`` events, and 0 at ``a = y``."""
    return a - y + x_log_y(y, y / np.where(y == 0, 1, a))


def poisson_gradient(a: Array, y: Array, parameter: float) -> Array:
    """``1 - y / a``."""
    return 1 - y / a


def poisson_exp(z: Array, y: Array) -> Array:
    """`poisson` of ``a = exp(z)``."""
    return np.exp(z) - y + y * (np.log(np.where(y == 0, 1, y)) - z)


def poisson_exp_gradient(z: Array, a: Array, y: Array) -> Array:
    """``a - y``."""
    return a - y


def binary_cross_entropy(a: Array, y: Array, parameter: float) -> Array:
    """``-(y log(a) + (1 - y) log(1 - a))``."""
    return -(x_log_y(y, a) + x_log_y(1 - y, 1 - a))


def binary_cross_entropy_gradient(a: Array, y: Array, parameter: float) -> Array:
    """``(a - y) / (a (1 - a))``."""
    return (a - y) / (a * (1 - a))


def binary_cross_entropy_sigmoid(z: Array, y: Array) -> Array:
    """`binary_cross_entropy` of ``a = sigmoid(z)``: ``log(1 + exp(z)) - y z``, finite for every ``z``."""
    # the same as softplus(z) - y z, which would cancel for large z and y = 1
    return (1 - y) * softplus(z) + y * softplus(-z)


def binary_cross_entropy_sigmoid_gradient(z: Array, a: Array, y: Array) -> Array:
    """``a - y``."""
    return a - y


def cross_entropy(a: Array, y: Array, parameter: float) -> Array:
    """``-y log(a)``."""
    return -x_log_y(y, a)


def cross_entropy_gradient(a: Array, y: Array, parameter: float) -> Array:
    """``-y / a``."""
    return -y / a


def cross_entropy_softmax(z: Array, y: Array) -> Array:
    """`cross_entropy` of ``a = softmax(z)``: ``y (log(sum_j exp(z_j)) - z)``, finite for every ``z``."""
    z = z - z.real.max(axis=1, keepdims=True)
    return y * (np.log(np.exp(z).sum(axis=1, keepdims=True)) - z)


def cross_entropy_softmax_gradient(z: Array, a: Array, y: Array) -> Array:
    """``a sum_j y_j - y``, which is ``a - y`` when the targets of a row add up to 1."""
    return a * y.sum(axis=1, keepdims=True) - y


@dataclass(frozen=True, slots=True, kw_only=True)
class LossFunction:
    """A loss and its gradient with respect to the outputs."""

    formula: str
    value: Callable[[Array, Array, float], Array]
    """``value(a, y, parameter)``"""
    gradient: Callable[[Array, Array, float], Array]
    """``gradient(a, y, parameter)``"""
    smooth: bool = True
    """whether one smooth formula holds everywhere; False where two meet"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreLoss:
    """A loss of an activation as one function of the raw scores, and its gradient with respect to them."""

    value: Callable[[Array, Array], Array]
    """``value(z, y)``"""
    gradient: Callable[[Array, Array, Array], Array]
    """``gradient(z, a, y)``"""


LOSSES: Mapping[str, LossFunction] = MappingProxyType(
    {
        "squared_error": LossFunction(formula="(a - y)**2", value=squared_error, gradient=squared_error_gradient),
        "absolute_error": LossFunction(
            formula="abs(a - y)", value=absolute_error, gradient=absolute_error_gradient, smooth=False
        ),
        "huber": LossFunction(
            formula="(a - y)**2 / 2 if abs(a - y) <= delta else delta * (abs(a - y) - delta / 2)",
            value=huber,
            gradient=huber_gradient,
            smooth=False,
        ),
        "quantile": LossFunction(
            formula="max(q * (y - a), (q - 1) * (y - a))", value=quantile, gradient=quantile_gradient, smooth=False
        ),
        "poisson": LossFunction(formula="a - y + y * log(y / a)", value=poisson, gradient=poisson_gradient),
        "binary_cross_entropy": LossFunction(
            formula="-(y * log(a) + (1 - y) * log(1 - a))",
            value=binary_cross_entropy,
            gradient=binary_cross_entropy_gradient,
        ),
        "cross_entropy": LossFunction(
            formula="-sum_o y_o * log(a_o)", value=cross_entropy, gradient=cross_entropy_gradient
        ),
    }
)

FROM_SCORES: Mapping[tuple[str, str], ScoreLoss] = MappingProxyType(
    {
        ("exp", "poisson"): ScoreLoss(value=poisson_exp, gradient=poisson_exp_gradient),
        ("sigmoid", "binary_cross_entropy"): ScoreLoss(
            value=binary_cross_entropy_sigmoid, gradient=binary_cross_entropy_sigmoid_gradient
        ),
        ("softmax", "cross_entropy"): ScoreLoss(value=cross_entropy_softmax, gradient=cross_entropy_softmax_gradient),
    }
)
"""The pairs (activation, loss) whose logarithm undoes the exponential: composed, they lose neither digits nor range."""


def as_rows(targets: Array, n_outputs: int, dtype: np.dtype[Any]) -> Array:
    """Class labels (n,) as rows with a single 1; real targets (n, n_outputs) as they are."""
    return targets if targets.ndim == 2 else np.eye(n_outputs, dtype=dtype)[targets]


def denominator(loss: losses.Loss | losses.Custom, sample_weight: Array | None, n_rows: int, n_outputs: int) -> float:
    """What the sum over the rows is divided by; with "mean" 0 where no row has a weight."""
    if loss.reduction == "sum":
        return 1.0
    weight = float(n_rows) if sample_weight is None else float(sample_weight.sum(dtype=np.float64))
    return weight * n_outputs if loss.elementwise else weight


def row_factors(
    loss: losses.Loss, sample_weight: Array | None, n_rows: int, n_outputs: int, dtype: np.dtype[Any]
) -> Array:
    """What each row's loss is multiplied by, (rows, 1): ``scale / denominator * sample weight``."""
    divisor = denominator(loss, sample_weight, n_rows, n_outputs)
    if divisor == 0:
        return np.zeros((n_rows, 1), dtype)
    weights = np.ones(n_rows, dtype) if sample_weight is None else sample_weight
    return weights[:, None] * float(loss.scale / divisor)
