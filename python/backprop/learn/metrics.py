"""Metrics by name: what `fit` measures after each epoch beside the loss.

Each is a function of the outputs, (n, n_outputs), the targets and, if wanted, the weights of the rows, (n,), or of each
row's outputs, (n, n_outputs). Values are those of scikit-learn's functions of the same name. What counts as a class:

- integer labels (n,): the class is the output that is largest;
- targets 0 and 1, (n, n_outputs): each output says yes when it is at least 0.5.

Outputs that have no weight in any row are left out; where nothing has weight, a metric is NaN.

`roc_auc` and `average_precision` look at the order of the outputs alone. `backprop.metrics` also has the points of the
curves of a report: `roc_curve`, `precision_recall_curve` and `calibration_curve`.

>>> import numpy as np
>>> accuracy(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
0.5
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.learn.ranking import average_precision, of_what_has_weight, roc_auc

if TYPE_CHECKING:
    from backprop.backends.custom import Custom
    from backprop.model.model import Model
    from backprop.reference.losses import Loss

__all__ = [
    "CLASSIFICATION",
    "HIGHER_IS_BETTER",
    "METRICS",
    "accuracy",
    "balanced_accuracy",
    "bound",
    "f1",
    "mean_absolute_error",
    "mean_squared_error",
    "precision",
    "r2",
    "recall",
    "resolved",
    "root_mean_squared_error",
]

Array: TypeAlias = NDArray[Any]
Metric: TypeAlias = Callable[[Array, Array], float]


# --- classes -------------------------------------------------------------------------------------------------------


@of_what_has_weight
def accuracy(outputs: Array, targets: Array, sample_weight: Array | None = None) -> float:
    """Return the share of rows that are right: with several yes-or-no outputs, in all of them that have weight.

    With weights of outputs, (n, n_outputs), a row has the mean of those that are not 0.

    Examples
    --------
    >>> accuracy(np.array([[0.7], [0.2], [0.6]]), np.array([[1.0], [0.0], [0.0]])).__round__(3)
    0.667
    """
    predicted, true = _classes(outputs, targets)
    right = predicted == true
    if sample_weight is not None and sample_weight.ndim == 2:
        there = sample_weight > 0
        right |= ~there
        sample_weight = sample_weight.sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return float(np.average(right if right.ndim == 1 else right.all(axis=1), weights=sample_weight))


@of_what_has_weight
def balanced_accuracy(outputs: Array, targets: Array, sample_weight: Array | None = None) -> float:
    """Return the mean over the classes that occur of the share of their rows that are right.

    Raises
    ------
    ValueError
        If there are several yes-or-no outputs.

    Examples
    --------
    >>> balanced_accuracy(np.array([[0.7], [0.2], [0.6]]), np.array([[1.0], [0.0], [0.0]]))
    0.75
    """
    predicted, true = _classes(outputs, targets)
    if predicted.ndim == 2:
        if predicted.shape[1] > 1:
            raise ValueError(f"balanced_accuracy: needs class labels or one output, got {predicted.shape[1]} outputs")
        predicted, true = predicted[:, 0], true[:, 0]
    right, _, there = _counts(predicted.astype(np.int64), true.astype(np.int64), sample_weight)
    return float(np.mean(right[there > 0] / there[there > 0]))


@of_what_has_weight
def precision(outputs: Array, targets: Array, sample_weight: Array | None = None) -> float:
    """Return the share of what was called a class that is one; 0 where nothing was.

    With one output that of class 1, else the mean over classes or outputs (scikit-learn's ``average="macro"``).

    Examples
    --------
    >>> precision(np.array([[0.7], [0.2], [0.6]]), np.array([[1.0], [0.0], [0.0]]))
    0.5
    """
    right, called, _ = _hits(outputs, targets, sample_weight)
    return _mean_ratio(right, called)


@of_what_has_weight
def recall(outputs: Array, targets: Array, sample_weight: Array | None = None) -> float:
    """Return the share of a class that was called it; 0 where there is none. Averaged as `precision`.

    Examples
    --------
    >>> recall(np.array([[0.7], [0.2], [0.6]]), np.array([[1.0], [0.0], [0.0]]))
    1.0
    """
    right, _, there = _hits(outputs, targets, sample_weight)
    return _mean_ratio(right, there)


@of_what_has_weight
def f1(outputs: Array, targets: Array, sample_weight: Array | None = None) -> float:
    """Return the harmonic mean of precision and recall. Averaged as `precision`.

    Examples
    --------
    >>> f1(np.array([[0.7], [0.2], [0.6]]), np.array([[1.0], [0.0], [0.0]])).__round__(3)
    0.667
    """
    right, called, there = _hits(outputs, targets, sample_weight)
    return _mean_ratio(2 * right, called + there)


def _classes(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """Return predicted and true: labels (n,), or truth values (n, n_outputs)."""
    if targets.ndim == 1:
        return outputs.argmax(axis=1), targets
    return outputs >= 0.5, targets >= 0.5


def _hits(outputs: Array, targets: Array, weights: Array | None) -> tuple[Array, Array, Array]:
    """Return, for each class or output, the weights of the rows that are right in it, called it, and of it."""
    predicted, true = _classes(outputs, targets)
    if predicted.ndim == 1:
        right, called, there = _counts(predicted, true, weights)
        occur = _counts(predicted, true, None)
        classes = (occur[1] > 0) | (occur[2] > 0)
        return right[classes], called[classes], there[classes]
    each = np.ones((len(true), 1)) if weights is None else weights.astype(float).reshape(len(true), -1)
    right, called, there = ((each * which).sum(axis=0) for which in (predicted & true, predicted, true))
    return right, called, there


def _counts(predicted: Array, true: Array, weights: Array | None) -> tuple[Array, Array, Array]:
    """Return, for each label, the weights of the rows that are right in it, called it, and of it."""
    n = max(int(predicted.max()), int(true.max())) + 1
    right = predicted == true
    right_weights = None if weights is None else weights[right]
    return (
        np.bincount(true[right], right_weights, n),
        np.bincount(predicted, weights, n),
        np.bincount(true, weights, n),
    )


def _mean_ratio(part: Array, whole: Array) -> float:
    """Return the mean of part / whole, which is 0 where the whole is."""
    return float(np.mean(np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)))


# --- numbers -------------------------------------------------------------------------------------------------------


@of_what_has_weight
def mean_squared_error(outputs: Array, targets: Array, sample_weight: Array | None = None) -> float:
    """Return the mean of ``(a - y)**2`` over rows and outputs.

    Examples
    --------
    >>> mean_squared_error(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
    2.0
    """
    return float(np.mean(_column_means(_errors(outputs, targets) ** 2, sample_weight)))


@of_what_has_weight
def root_mean_squared_error(outputs: Array, targets: Array, sample_weight: Array | None = None) -> float:
    """Return the root of the mean squared error of each output, averaged over the outputs.

    Examples
    --------
    >>> root_mean_squared_error(np.array([[1.0], [3.0]]), np.array([[3.0], [5.0]]))
    2.0
    """
    return float(np.mean(np.sqrt(_column_means(_errors(outputs, targets) ** 2, sample_weight))))


@of_what_has_weight
def mean_absolute_error(outputs: Array, targets: Array, sample_weight: Array | None = None) -> float:
    """Return the mean of ``abs(a - y)`` over rows and outputs.

    Examples
    --------
    >>> mean_absolute_error(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
    1.0
    """
    return float(np.mean(_column_means(np.abs(_errors(outputs, targets)), sample_weight)))


@of_what_has_weight
def r2(outputs: Array, targets: Array, sample_weight: Array | None = None) -> float:
    """Return the coefficient of determination, ``1 - sum (a - y)**2 / sum (y - mean(y))**2``.

    It is averaged over the outputs. For targets that are all the same it is 1 where every output is right, else 0.

    Examples
    --------
    >>> r2(np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [2.0], [4.0]])).__round__(3)
    0.786
    """
    targets = targets.astype(float)
    left = _column_means(_errors(outputs, targets) ** 2, sample_weight)
    spread = _column_means((targets - _column_means(targets, sample_weight)) ** 2, sample_weight)
    share = np.divide(left, spread, out=(left > 0).astype(float), where=spread > 0)
    return float(np.mean(1 - share))


def _errors(outputs: Array, targets: Array) -> Array:
    return np.subtract(outputs, targets, dtype=float)


def _column_means(values: Array, weights: Array | None) -> Array:
    # A plain mean gives the same numbers in half the time.
    means: Array = values.mean(axis=0) if weights is None else np.average(values, axis=0, weights=weights)
    return means


# --- by name -------------------------------------------------------------------------------------------------------

_OF_CLASSES = (accuracy, balanced_accuracy, precision, recall, f1, roc_auc, average_precision)
_OF_NUMBERS = (r2, mean_squared_error, root_mean_squared_error, mean_absolute_error)

METRICS: Mapping[str, Callable[[Array, Array, Array | None], float]] = MappingProxyType(
    {metric.__name__: metric for metric in (*_OF_CLASSES, *_OF_NUMBERS)}
)
CLASSIFICATION = frozenset(metric.__name__ for metric in _OF_CLASSES)
HIGHER_IS_BETTER = CLASSIFICATION | {"r2"}


def evaluate(model: Model, X: Any, y: Any, *, loss: Any, metrics: Any, sample_weight: Any) -> dict[str, float]:
    """Return the loss and the metrics over all rows; `backprop.Network.evaluate` documents it."""
    from backprop.model.objective import Objective
    from backprop.model.rows import of_outputs

    wanted = resolved(metrics)
    checked, data = model._data(X, y, loss, sample_weight, custom=True)
    measured = bound(wanted, checked, of_outputs(model, checked, data.targets), data.sample_weight)
    outputs = model.predict(data.X)
    value = Objective(model._core, model._plan, model._layers, checked, data)(model._parameters)
    return {"loss": value, **{name: metric(outputs) for name, metric in measured.items()}}


def bound(
    metrics: Mapping[str, Metric | None], loss: Loss | Custom, targets: Array, sample_weight: Array | None
) -> dict[str, Callable[[Array], float]]:
    """Return what `resolved` gave as functions of the outputs for these rows.

    Our metrics weigh the rows, and take rows of class probabilities for the likeliest class; other functions get the
    targets as `fit` has them.
    """
    return {
        name: _ours(name, loss, targets, sample_weight) if function is None else _custom(name, function, targets)
        for name, function in metrics.items()
    }


def resolved(metrics: Any) -> dict[str, Metric | None]:
    """Return the names of the metrics, with a function for those that are not ours.

    `metrics` is a name or a function ``(outputs, targets) -> float``, or a sequence of them, or a mapping from names to
    functions.
    """
    if isinstance(metrics, Mapping):
        pairs = list(metrics.items())
    elif isinstance(metrics, str) or callable(metrics):
        pairs = [_pair("metrics", metrics)]
    elif isinstance(metrics, Iterable):
        pairs = [_pair(f"metrics[{k}]", metric) for k, metric in enumerate(metrics)]
    else:
        raise TypeError(
            f"metrics: needs names, functions or a mapping from names to functions, got {check.shown(metrics)}"
        )
    found: dict[str, Metric | None] = {}
    for name, function in pairs:
        if not isinstance(name, str):
            raise TypeError(f"metrics: needs names that are text, got {check.shown(name)}")
        if function is not None and not callable(function):
            raise TypeError(f"metrics[{name!r}]: needs a function of outputs and targets, got {check.shown(function)}")
        if name in found:
            raise ValueError(f"metrics: needs different names, got {name!r} twice")
        if name in ("loss", "learning_rate", "epoch", "member") or name.startswith("val_"):
            raise ValueError(f"metrics: needs another name than {name!r}, which has a meaning of its own")
        found[name] = function
    return found


def _pair(argument: str, metric: Any) -> tuple[str, Metric | None]:
    """Return name and function; None for a function that is ours."""
    if isinstance(metric, str):
        return check.choice(argument, metric, METRICS), None
    if not callable(metric):
        raise TypeError(f"{argument}: needs a name or a function of outputs and targets, got {check.shown(metric)}")
    name = getattr(metric, "__name__", "<lambda>")
    if name == "<lambda>":
        raise ValueError(f"{argument}: needs a name; write metrics={{'name': function}}")
    return name, None if METRICS.get(name) is metric else metric


def _ours(name: str, loss: Loss | Custom, targets: Array, sample_weight: Array | None) -> Callable[[Array], float]:
    metric = METRICS[name]
    if name in CLASSIFICATION:
        if targets.ndim == 2 and targets.shape[1] > 1 and not loss.elementwise:
            targets = targets.argmax(axis=1)
        if targets.ndim == 2 and not ((targets == 0) | (targets == 1)).all():
            raise ValueError(f"metrics: {name} needs class labels or targets that are 0 or 1, got real numbers")
        if name == "balanced_accuracy" and targets.ndim == 2 and targets.shape[1] > 1:
            raise ValueError(f"metrics: {name} needs class labels or one output, got {targets.shape[1]} outputs")
    elif targets.ndim == 1:
        raise ValueError(f"metrics: {name} needs real targets (n, n_outputs), got class labels")
    return lambda outputs: metric(outputs, targets, sample_weight)


def _custom(name: str, function: Metric, targets: Array) -> Callable[[Array], float]:
    def measured(outputs: Array) -> float:
        value = function(outputs, targets)
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise TypeError(f"metrics: {name} needs to return a number, got {check.shown(value)}") from error

    return measured
