"""Losses: settings only. Each formula stands in `backprop.reference.losses`; reductions in `docs/design.md`.

Conventions differ from text to text by factors of 1/2, 1/n and 2. Here, with the outputs ``a``, the targets ``y``,
sample weights ``w`` (1 where none are given) and ``value(a, y)`` as each class states it:

    reduction="mean":  scale * sum of w * value  /  (sum of w * number of outputs)     (cross-entropy: / sum of w)
    reduction="sum":   scale * sum of w * value

The sums go over the samples of a batch and over the outputs. The penalties of the layers are added to that unscaled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias

from numpy.typing import NDArray

from backprop import _validation as check
from backprop._types import RealArray

Reduction = Literal["mean", "sum"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What the losses share: a factor and a reduction.

    Parameters
    ----------
    scale
        Factor on the loss (not on the penalties), > 0.
    reduction
        ``"mean"`` over samples and, for element-wise losses, outputs; weighted by the sample weights where
        there are any. ``"sum"`` adds everything up.
    """

    name: ClassVar[str]
    elementwise: ClassVar[bool] = True
    outputs: ClassVar[tuple[str, ...] | None] = None
    """the output activations that the loss accepts; None for any"""
    target_range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    """the targets that the loss accepts, ends included"""

    scale: float = 1.0
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        check.make_plain(self)
        check.number("scale", self.scale, above=0)
        check.choice("reduction", self.reduction, ("mean", "sum"))

    @property
    def parameter(self) -> float:
        """The loss's own parameter, 0 where it has none."""
        return 0.0


# dataclass(slots=True) makes a second class, which super() without arguments does not know before Python 3.14;
# therefore the __post_init__ of the base class is called by its name.


@dataclass(frozen=True, slots=True, kw_only=True)
class SquaredError(Loss):
    """``(a - y)**2``: fits the mean of the targets.

    With the defaults PyTorch's ``MSELoss``. Half the summed squared error of many textbooks is
    ``SquaredError(scale=0.5, reduction="sum")``; scikit-learn's MLPRegressor minimises ``SquaredError(scale=0.5)``.

    Parameters
    ----------
    scale
        Factor on the loss (not on the penalties), > 0.
    reduction
        ``"mean"`` over samples and outputs, weighted by the sample weights, or ``"sum"``.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.SquaredError(scale=0.5)
    SquaredError(scale=0.5, reduction='mean')
    """

    name: ClassVar[str] = "squared_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsoluteError(Loss):
    """``abs(a - y)``, with derivative 0 at ``a == y``: fits the median of the targets.

    With the defaults PyTorch's ``L1Loss``.

    Parameters
    ----------
    scale
        Factor on the loss (not on the penalties), > 0.
    reduction
        ``"mean"`` over samples and outputs, weighted by the sample weights, or ``"sum"``.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.AbsoluteError()
    AbsoluteError(scale=1.0, reduction='mean')
    """

    name: ClassVar[str] = "absolute_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Huber(Loss):
    """``(a - y)**2 / 2`` where ``abs(a - y) <= delta``, else ``delta * (abs(a - y) - delta / 2)``.

    Squared error near the target, absolute error far from it, so that outliers count less. With the defaults PyTorch's
    ``HuberLoss``. From P. J. Huber, "Robust estimation of a location parameter" (1964).

    Parameters
    ----------
    delta
        Distance from which on the loss is a straight line, > 0.
    scale
        Factor on the loss (not on the penalties), > 0.
    reduction
        ``"mean"`` over samples and outputs, weighted by the sample weights, or ``"sum"``.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.Huber(delta=2.0)
    Huber(scale=1.0, reduction='mean', delta=2.0)
    """

    name: ClassVar[str] = "huber"
    delta: float = 1.0

    def __post_init__(self) -> None:
        Loss.__post_init__(self)
        check.number("delta", self.delta, above=0)

    @property
    def parameter(self) -> float:
        """`delta`."""
        return self.delta


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantile(Loss):
    """``max(q * (y - a), (q - 1) * (y - a))``: the pinball loss, which fits the q-quantile of the targets.

    At ``a == y`` its derivative is taken as 0. With the defaults half of `AbsoluteError`; the mean is scikit-learn's
    ``mean_pinball_loss(alpha=q)``. From R. Koenker and G. Bassett, "Regression quantiles" (1978).

    Parameters
    ----------
    quantile
        ``q``: the share of the targets that should lie below the output, 0 < q < 1.
    scale
        Factor on the loss (not on the penalties), > 0.
    reduction
        ``"mean"`` over samples and outputs, weighted by the sample weights, or ``"sum"``.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.Quantile(quantile=0.9)
    Quantile(scale=1.0, reduction='mean', quantile=0.9)
    """

    name: ClassVar[str] = "quantile"
    quantile: float = 0.5

    def __post_init__(self) -> None:
        Loss.__post_init__(self)
        check.number("quantile", self.quantile, above=0, below=1)

    @property
    def parameter(self) -> float:
        """`quantile`."""
        return self.quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisson(Loss):
    """``a - y + y * log(y / a)``, without the logarithm where ``y == 0``: fits rates ``a`` of counts ``y >= 0``.

    Half of scikit-learn's ``mean_poisson_deviance``; PyTorch's ``PoissonNLLLoss`` differs from it by a term that
    depends on the targets only. Needs an output that is positive: ``exp``, with which it is computed from the raw
    scores, or ``softplus``.

    Parameters
    ----------
    scale
        Factor on the loss (not on the penalties), > 0.
    reduction
        ``"mean"`` over samples and outputs, weighted by the sample weights, or ``"sum"``.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.Poisson().outputs
    ('exp', 'softplus')
    """

    name: ClassVar[str] = "poisson"
    outputs: ClassVar[tuple[str, ...] | None] = ("exp", "softplus")
    target_range: ClassVar[tuple[float, float]] = (0.0, math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryCrossEntropy(Loss):
    """``-(y * log(a) + (1 - y) * log(1 - a))`` for targets in [0, 1]: fits probabilities, one for each output.

    Needs the output ``sigmoid`` and is computed from the raw scores, so that it stays finite and exact however sure the
    network is. With the defaults PyTorch's ``BCEWithLogitsLoss``.

    Parameters
    ----------
    scale
        Factor on the loss (not on the penalties), > 0.
    reduction
        ``"mean"`` over samples and outputs, weighted by the sample weights, or ``"sum"``.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.BinaryCrossEntropy(reduction="sum")
    BinaryCrossEntropy(scale=1.0, reduction='sum')
    """

    name: ClassVar[str] = "binary_cross_entropy"
    outputs: ClassVar[tuple[str, ...] | None] = ("sigmoid",)
    target_range: ClassVar[tuple[float, float]] = (0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEntropy(Loss):
    """``-sum_o y_o * log(a_o)`` for integer labels or rows of class probabilities: fits one probability per class.

    Needs the output ``softmax`` and is computed from the raw scores, so that it stays finite and exact however sure the
    network is. With the defaults PyTorch's ``CrossEntropyLoss``.

    Parameters
    ----------
    scale
        Factor on the loss (not on the penalties), > 0.
    reduction
        ``"mean"`` over samples (not over outputs), weighted by the sample weights, or ``"sum"``.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.CrossEntropy().elementwise
    False
    """

    name: ClassVar[str] = "cross_entropy"
    elementwise: ClassVar[bool] = False
    outputs: ClassVar[tuple[str, ...] | None] = ("softmax",)
    target_range: ClassVar[tuple[float, float]] = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Custom:
    """A loss of your own: a function that returns its value and its gradient.

    Parameters
    ----------
    function
        ``function(outputs, targets)``, or ``function(outputs, targets, sample_weight)`` where there are sample weights,
        returns ``(value, gradient)``: the loss of these rows, a mean over them, and its derivative with respect to the
        outputs. ``outputs`` is (rows, n_outputs) in the network's dtype and always finite; ``targets`` and
        ``sample_weight`` (rows,) are these rows of what `fit` was given, all three copies that the function may change.
        ``gradient`` is shaped like ``outputs``.

    Notes
    -----
    In the loss of an epoch, the mean over its batches, a batch counts as often as it has rows, or with the sum of its
    weights. Rows whose weights are all 0 have the loss 0, without a call. The penalties of the layers are added. Where
    the value is not finite, training diverges as it does with any loss.

    Raises
    ------
    TypeError, ValueError
        If `function` cannot be called or, when it has been, if it did not return a number and an array of real numbers,
        of the shape of the outputs and finite where the value is.

    Examples
    --------
    >>> import backprop as bp
    >>> import numpy as np
    >>> def half_squared_error(outputs, targets):
    ...     error = outputs - targets
    ...     return 0.5 * np.mean(error**2), error / error.size
    >>> loss = bp.losses.Custom(half_squared_error)
    >>> loss(np.array([[1.0], [3.0]]), np.array([[0.0], [3.0]]))
    (0.25, array([[0.5],
           [0. ]]))
    """

    name: ClassVar[str] = "custom"
    elementwise: ClassVar[bool] = False
    """the mean is over rows"""
    reduction: ClassVar[Reduction] = "mean"

    function: Callable[..., tuple[Any, Any]]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(
                "function: needs a function of (outputs, targets) that returns (value, gradient), "
                f"got {check.shown(self.function)}"
            )

    def __call__(
        self, outputs: RealArray, targets: NDArray[Any], sample_weight: RealArray | None = None
    ) -> tuple[float, RealArray]:
        """Call the function and check what it returns; the gradient has the dtype of the outputs."""
        shape, dtype = outputs.shape, outputs.dtype
        weights = () if sample_weight is None else (sample_weight,)
        return check.value_and_gradient("function", self.function(outputs, targets, *weights), dtype, shape)


LossLike: TypeAlias = str | Loss | Custom | Callable[..., tuple[Any, Any]]
"""what users may give: a name, an object, or a function for `Custom`"""

LOSSES: Mapping[str, type[Loss]] = MappingProxyType(
    {cls.name: cls for cls in (SquaredError, AbsoluteError, Huber, Quantile, Poisson, BinaryCrossEntropy, CrossEntropy)}
)
