"""Losses of class probabilities, and of scores whose sign is the class."""

# NumPy's ufuncs are typed as returning Any:
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from backprop.base import checks as check
from backprop.base.types import Array
from backprop.reference.activation_functions import sigmoid, softplus
from backprop.reference.losses.loss import Loss, x_log_y

__all__ = ["BinaryCrossEntropy", "CrossEntropy", "Focal", "Hinge", "KullbackLeibler", "SquaredHinge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryCrossEntropy(Loss):
    """``-(y * log(a) + (1 - y) * log(1 - a))`` for targets in [0, 1]: fits probabilities, one for each output.

    Needs the output ``sigmoid`` and is computed from the raw scores, so that it stays finite and exact however sure the
    network is. With the defaults PyTorch's ``BCEWithLogitsLoss``.

    Parameters
    ----------
    scale, reduction
        As of `SquaredError`.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.BinaryCrossEntropy(reduction="sum")
    BinaryCrossEntropy(scale=1.0, reduction='sum')
    """

    name: ClassVar[str] = "binary_cross_entropy"
    formula: ClassVar[str] = "-(y * log(a) + (1 - y) * log(1 - a))"
    scores_of: ClassVar[str | None] = "sigmoid"
    outputs: ClassVar[tuple[str, ...] | None] = ("sigmoid",)
    target_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def value(self, a: Array, y: Array) -> Array:
        """``-(y log(a) + (1 - y) log(1 - a))``."""
        return -(x_log_y(y, a) + x_log_y(1 - y, 1 - a))

    def gradient(self, a: Array, y: Array) -> Array:
        """``(a - y) / (a (1 - a))``."""
        return (a - y) / (a * (1 - a))

    def value_from_scores(self, z: Array, y: Array) -> Array:
        """``log(1 + exp(z)) - y z``, finite for every ``z``."""
        # the same as softplus(z) - y z, which would cancel for large z and y = 1
        return (1 - y) * softplus(z) + y * softplus(-z)

    def gradient_from_scores(self, z: Array, a: Array, y: Array) -> Array:
        """``a - y``."""
        return a - y

    def score_tangent(self, z: Array, a: Array, y: Array, dz: Array, da: Array) -> Array:
        """``da``."""
        return da


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEntropy(Loss):
    """``-sum_o y_o * log(a_o)`` for integer labels or rows of class probabilities: fits one probability per class.

    Needs the output ``softmax`` and is computed from the raw scores, so that it stays finite and exact however sure the
    network is. With the defaults PyTorch's ``CrossEntropyLoss``, and so with ``label_smoothing``.

    Parameters
    ----------
    label_smoothing
        ``s``: in place of each row ``y`` of probabilities, or of 0 and a single 1 for a label, the targets are
        ``(1 - s) y + s / n_outputs``, so that no class is certain; 0 <= s <= 1. From C. Szegedy et al., "Rethinking
        the Inception architecture for computer vision" (2016).
    scale
        Factor on the loss (not on the penalties), > 0.
    reduction
        ``"mean"`` over samples (not over outputs), weighted by the sample weights, or ``"sum"``.

    Raises
    ------
    TypeError, ValueError
        If a setting is of the wrong type or out of its range.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.CrossEntropy(label_smoothing=0.1)
    CrossEntropy(scale=1.0, reduction='mean', label_smoothing=0.1)
    """

    name: ClassVar[str] = "cross_entropy"
    formula: ClassVar[str] = "-sum_o y_o * log(a_o)"
    scores_of: ClassVar[str | None] = "softmax"
    elementwise: ClassVar[bool] = False
    outputs: ClassVar[tuple[str, ...] | None] = ("softmax",)
    target_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        Loss.__post_init__(self)
        check.number("label_smoothing", self.label_smoothing, at_least=0, at_most=1)

    @property
    def parameters(self) -> tuple[float, ...]:
        """`label_smoothing`."""
        return (self.label_smoothing,)

    def smoothed(self, y: Array) -> Array:
        """Return the targets that count: ``(1 - s) y + s / n_outputs``."""
        return (1 - self.label_smoothing) * y + self.label_smoothing / y.shape[-1] if self.label_smoothing else y

    def value(self, a: Array, y: Array) -> Array:
        """``-y log(a)``."""
        return -x_log_y(self.smoothed(y), a)

    def gradient(self, a: Array, y: Array) -> Array:
        """``-y / a``."""
        return -self.smoothed(y) / a

    def value_from_scores(self, z: Array, y: Array) -> Array:
        """``y (log(sum_j exp(z_j)) - z)``, finite for every ``z``."""
        z = z - z.real.max(axis=1, keepdims=True)
        return self.smoothed(y) * (np.log(np.exp(z).sum(axis=1, keepdims=True)) - z)

    def gradient_from_scores(self, z: Array, a: Array, y: Array) -> Array:
        """``a sum_j y_j - y``, which is ``a - y`` when the targets of a row add up to 1."""
        y = self.smoothed(y)
        return a * y.sum(axis=1, keepdims=True) - y

    def score_tangent(self, z: Array, a: Array, y: Array, dz: Array, da: Array) -> Array:
        """``da sum_j y_j``."""
        return da * self.smoothed(y).sum(axis=1, keepdims=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class KullbackLeibler(Loss):
    """``sum_o y_o * log(y_o / a_o)``: how far the probabilities ``a`` are from the probabilities ``y``, 0 where equal.

    `CrossEntropy` less the entropy of the targets: the same gradient. Needs the output ``softmax`` and is computed from
    the raw scores. Targets are rows of probabilities, or integer labels, for which it is the cross-entropy. PyTorch's
    ``KLDivLoss(reduction="batchmean")`` of the logarithms of the outputs, Keras's ``KLDivergence``, SciPy's
    ``rel_entr``. From S. Kullback and R. Leibler, "On information and sufficiency" (1951).

    Parameters
    ----------
    scale
        Factor on the loss (not on the penalties), > 0.
    reduction
        ``"mean"`` over samples (not over outputs), weighted by the sample weights, or ``"sum"``.

    Raises
    ------
    TypeError, ValueError
        If a setting is of the wrong type or out of its range.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.KullbackLeibler().outputs
    ('softmax',)
    """

    name: ClassVar[str] = "kullback_leibler"
    formula: ClassVar[str] = "sum_o y_o * log(y_o / a_o)"
    scores_of: ClassVar[str | None] = "softmax"
    elementwise: ClassVar[bool] = False
    outputs: ClassVar[tuple[str, ...] | None] = ("softmax",)
    target_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def value(self, a: Array, y: Array) -> Array:
        """``y log(y / a)``."""
        return x_log_y(y, y) - x_log_y(y, a)

    def gradient(self, a: Array, y: Array) -> Array:
        """``-y / a``."""
        return -y / a

    def value_from_scores(self, z: Array, y: Array) -> Array:
        """``y (log(y) + log(sum_j exp(z_j)) - z)``, finite for every ``z``."""
        z = z - z.real.max(axis=1, keepdims=True)
        return x_log_y(y, y) + y * (np.log(np.exp(z).sum(axis=1, keepdims=True)) - z)

    def gradient_from_scores(self, z: Array, a: Array, y: Array) -> Array:
        """``a sum_j y_j - y``, which is ``a - y`` when the targets of a row add up to 1."""
        return a * y.sum(axis=1, keepdims=True) - y

    def score_tangent(self, z: Array, a: Array, y: Array, dz: Array, da: Array) -> Array:
        """``da sum_j y_j``."""
        return da * y.sum(axis=1, keepdims=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Focal(Loss):
    """``-w * (1 - p)**gamma * log(p)`` with ``p = a if y == 1 else 1 - a``: rows that are right already count less.

    For targets 0 and 1, one for each output. Needs the output ``sigmoid`` and is computed from the raw scores. With
    ``alpha=0.25`` torchvision's ``sigmoid_focal_loss``; with the defaults Keras's ``BinaryFocalCrossentropy``; with
    ``gamma=0.0`` it is `BinaryCrossEntropy`. From T.-Y. Lin et al., "Focal loss for dense object detection"
    (2017), eq. 5.

    Parameters
    ----------
    gamma
        How much less rows count that are right already, >= 0.
    alpha
        The weight ``w`` of targets 1; targets 0 have ``1 - alpha``; 0 <= alpha <= 1. None: all have the weight 1.
    scale, reduction
        As of `SquaredError`.

    Raises
    ------
    TypeError, ValueError
        If a setting is of the wrong type or out of its range.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.Focal(alpha=0.25)
    Focal(scale=1.0, reduction='mean', gamma=2.0, alpha=0.25)
    """

    name: ClassVar[str] = "focal"
    formula: ClassVar[str] = "-w * (1 - p)**gamma * log(p), p = a if y == 1 else 1 - a"
    scores_of: ClassVar[str | None] = "sigmoid"
    outputs: ClassVar[tuple[str, ...] | None] = ("sigmoid",)
    target_values: ClassVar[tuple[float, ...] | None] = (0.0, 1.0)
    gamma: float = 2.0
    alpha: float | None = None

    def __post_init__(self) -> None:
        Loss.__post_init__(self)
        check.number("gamma", self.gamma, at_least=0)
        if self.alpha is not None:
            check.number("alpha", self.alpha, at_least=0, at_most=1)

    @property
    def parameters(self) -> tuple[float, ...]:
        """`gamma`, and `alpha` or -1 where it is None."""
        return (self.gamma, -1.0 if self.alpha is None else self.alpha)

    def value(self, a: Array, y: Array) -> Array:
        """``-w (1 - p)**gamma log(p)`` with ``p = a`` where ``y = 1``, else ``1 - a``."""
        p, q = np.where(y == 1, a, 1 - a), np.where(y == 1, 1 - a, a)
        return -self._weights(y) * q**self.gamma * np.log(p)

    def gradient(self, a: Array, y: Array) -> Array:
        """``w (1 - p)**gamma (gamma log(p) / (1 - p) - 1 / p)``, with the other sign where ``y = 0``."""
        p, q = np.where(y == 1, a, 1 - a), np.where(y == 1, 1 - a, a)
        return np.where(y == 1, 1, -1) * self._weights(y) * q**self.gamma * (self.gamma * np.log(p) / q - 1 / p)

    def value_from_scores(self, z: Array, y: Array) -> Array:
        """``w exp(-gamma softplus(s)) softplus(-s)`` with ``s = z`` where ``y = 1``, else ``-z``."""
        s = np.where(y == 1, z, -z)
        return self._weights(y) * np.exp(-self.gamma * softplus(s)) * softplus(-s)

    def gradient_from_scores(self, z: Array, a: Array, y: Array) -> Array:
        """``-w (1 - p)**gamma (1 - p - gamma p log(p))``, with the other sign where ``y = 0``."""
        s = np.where(y == 1, z, -z)
        scaled = self._weights(y) * np.exp(-self.gamma * softplus(s))
        return np.where(y == 1, -1, 1) * scaled * (sigmoid(-s) + self.gamma * sigmoid(s) * softplus(-s))

    def score_tangent(self, z: Array, a: Array, y: Array, dz: Array, da: Array) -> Array:
        """``w (1 - p)**gamma p ((1 + 2 gamma) (1 - p) - gamma (gamma p - 1 + p) log(p)) dz``."""
        s = np.where(y == 1, z, -z)
        p, q, entropy = sigmoid(s), sigmoid(-s), softplus(-s)
        scaled = self._weights(y) * np.exp(-self.gamma * softplus(s))
        return scaled * p * ((1 + 2 * self.gamma) * q + self.gamma * (self.gamma * p - q) * entropy) * dz

    def _weights(self, y: Array) -> Array:
        return np.ones_like(y) if self.alpha is None else np.where(y == 1, self.alpha, 1 - self.alpha).astype(y.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hinge(Loss):
    """``max(1 - y * a, 0)`` for targets -1 and 1: the sign of ``a`` is the class, and a margin of 1 is enough.

    At ``y * a == 1`` its derivative is taken as 0. Keras's ``Hinge``, scikit-learn's ``hinge_loss`` of two classes. The
    output is usually ``identity`` or ``tanh``; any is accepted. From C. Cortes and V. Vapnik, "Support-vector networks"
    (1995).

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
    >>> bp.losses.Hinge().target_values
    (-1.0, 1.0)
    """

    name: ClassVar[str] = "hinge"
    formula: ClassVar[str] = "max(1 - y * a, 0)"
    smooth: ClassVar[bool] = False
    target_values: ClassVar[tuple[float, ...] | None] = (-1.0, 1.0)

    def value(self, a: Array, y: Array) -> Array:
        """``1 - y a`` where that is positive, else 0."""
        margin = 1 - y * a
        return np.where(margin.real <= 0, 0, margin)

    def gradient(self, a: Array, y: Array) -> Array:
        """``-y`` where ``y a < 1``, else 0: at the kink, 0."""
        margin = 1 - y * a
        return np.where(margin > 0, -y, np.where(margin <= 0, 0, margin)).astype(a.dtype)

    def curvature(self, a: Array, y: Array) -> Array:
        """0, at the kink too."""
        return np.zeros_like(a)

    def kink_distance(self, a: Array, y: Array) -> Array:
        """``1 - y a``."""
        return 1 - y * a


@dataclass(frozen=True, slots=True, kw_only=True)
class SquaredHinge(Loss):
    """``max(1 - y * a, 0)**2`` for targets -1 and 1: `Hinge` with a continuous derivative.

    Keras's ``SquaredHinge``, and the ``squared_hinge`` of scikit-learn's linear models. The output is usually
    ``identity`` or ``tanh``; any is accepted. From Y. Tang, "Deep learning using linear support vector machines"
    (2013).

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
    >>> bp.losses.SquaredHinge(reduction="sum")
    SquaredHinge(scale=1.0, reduction='sum')
    """

    name: ClassVar[str] = "squared_hinge"
    formula: ClassVar[str] = "max(1 - y * a, 0)**2"
    smooth: ClassVar[bool] = False
    target_values: ClassVar[tuple[float, ...] | None] = (-1.0, 1.0)

    def value(self, a: Array, y: Array) -> Array:
        """``(1 - y a)**2`` where ``y a < 1``, else 0."""
        margin = np.where((1 - y * a).real <= 0, 0, 1 - y * a)
        return margin * margin

    def gradient(self, a: Array, y: Array) -> Array:
        """``-2 y (1 - y a)`` where ``y a < 1``, else 0."""
        return -2 * y * np.where(1 - y * a <= 0, 0, 1 - y * a)

    def curvature(self, a: Array, y: Array) -> Array:
        """2 where ``y a < 1``, else 0: ``y**2`` is 1."""
        return np.where(y * a < 1, 2, 0).astype(a.dtype)

    def kink_distance(self, a: Array, y: Array) -> Array:
        """``1 - y a``."""
        return 1 - y * a
