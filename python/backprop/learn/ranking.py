"""How well outputs rank the rows, and the curves of a report: ROC, precision and recall, calibration.

Figures and points are those of scikit-learn's functions of the same name, sample weights and ties included. A curve
belongs to one class: it takes the probabilities (or any scores) of the rows, and which of them are of the class.

>>> import numpy as np
>>> curve = roc_curve([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
>>> float(np.diff(curve.false_positive_rate) @ curve.true_positive_rate[1:])
0.75
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backprop.base import checks as check

__all__ = [
    "CalibrationCurve",
    "PrecisionRecallCurve",
    "RocCurve",
    "average_precision",
    "calibration_curve",
    "precision_recall_curve",
    "roc_auc",
    "roc_curve",
]

Array: TypeAlias = NDArray[Any]
Reals: TypeAlias = NDArray[np.floating[Any]]
FLOAT = np.dtype(np.float64)
Figure = TypeVar("Figure", bound=Callable[..., float])


def of_what_has_weight(metric: Figure) -> Figure:
    """Leave outputs out of a metric that have no weight in any row; it is NaN where none is left.

    The size of the weights does not matter: with their largest near 1, sums and products of them are finite.
    """

    @functools.wraps(metric)
    def measured(outputs: Array, targets: Array, sample_weight: Array | None = None) -> float:
        if sample_weight is not None:
            there = np.any(sample_weight, axis=0)
            if not there.any():
                return math.nan
            if not there.all():
                outputs, targets, sample_weight = outputs[:, there], targets[:, there], sample_weight[:, there]
            if np.asarray(sample_weight).dtype.kind == "f":  # times a power of two, which changes no digit
                sample_weight = np.ldexp(sample_weight, -np.frexp(np.max(sample_weight))[1])
        return metric(outputs, targets, sample_weight)

    return cast(Figure, measured)


# --- figures -------------------------------------------------------------------------------------------------------


@of_what_has_weight
def roc_auc(outputs: Array, targets: Array, sample_weight: Array | None = None) -> float:
    """Return the area under the ROC curve: the chance that a row of the class scores higher than one that is not.

    A tie counts one half. With one output it is that of class 1. With several yes-or-no outputs it is their mean. For
    integer labels it is the mean over the classes, each against the rest (scikit-learn's ``multi_class="ovr"``).

    Returns
    -------
    float
        In [0, 1]; NaN where the rows of an output are all of one class. Of integer labels, only classes count that
        occur and that are not all there is.

    Examples
    --------
    >>> roc_auc(np.array([[0.1], [0.4], [0.35], [0.8]]), np.array([[0], [0], [1], [1]]))
    0.75
    >>> roc_auc(np.array([[0.1], [0.4]]), np.array([[1], [1]]))
    nan
    """
    return _mean(_area, outputs, targets, sample_weight)


@of_what_has_weight
def average_precision(outputs: Array, targets: Array, sample_weight: Array | None = None) -> float:
    """Return the mean of the precisions at all thresholds, each weighted by the recall that it adds.

    ``sum_k (recall_k - recall_(k-1)) * precision_k``. With one output it is that of class 1. With several yes-or-no
    outputs it is their mean. For integer labels it is the mean over the classes that occur.

    Returns
    -------
    float
        In [0, 1]; 0 for an output that has no row of class 1.

    Examples
    --------
    >>> average_precision(np.array([[0.1], [0.4], [0.35], [0.8]]), np.array([[0], [0], [1], [1]])).__round__(4)
    0.8333
    """
    return _mean(_average_precision, outputs, targets, sample_weight)


def _mean(figure: Any, outputs: Array, targets: Array, sample_weight: Array | None) -> float:
    """Return the figure of one output, the mean over outputs, or over the classes of labels for which it is defined."""
    weights = None if sample_weight is None else np.asarray(sample_weight, FLOAT)
    if targets.ndim == 2:
        each = [weights] * outputs.shape[1] if weights is None or weights.ndim == 1 else weights.T
        columns = zip(outputs.T, targets.T >= 0.5, each, strict=True)
        return float(np.mean([figure(*_steps(*column)[:2]) for column in columns]))
    # What has no weight is not there. Without counts, numpy.unique would import numpy.ma.
    there, _ = np.unique(targets if weights is None else targets[weights > 0], return_counts=True)
    values = [figure(*_steps(outputs[:, k], targets == k, weights)[:2]) for k in there.tolist()]
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def _area(true: Reals, false: Reals) -> float:
    if not len(true) or not (true[-1] and false[-1]):
        return math.nan
    # The area of each step, a trapezium; in units of all pairs of rows.
    wide, high = np.diff(false, prepend=0.0), true - np.diff(true, prepend=0.0) / 2
    return min(float((wide * high).sum() / (true[-1] * false[-1])), 1.0)


def _average_precision(true: Reals, false: Reals) -> float:
    if not len(true):
        return math.nan
    if not true[-1]:
        return 0.0
    return min(float((np.diff(true, prepend=0.0) * (true / (true + false))).sum() / true[-1]), 1.0)


def _steps(scores: Array, true: Array, weights: Reals | None) -> tuple[Reals, Reals, Array]:
    """Return, for each different score from the highest on, the weights of the rows at or above it, and the score.

    First those of the class, then the others; rows without weight are left out.
    """
    if weights is not None and not weights.all():
        there = weights != 0
        scores, true, weights = scores[there], true[there], weights[there]
    order = np.argsort(-scores, kind="stable")
    scores, true = scores[order], true[order].astype(FLOAT)
    weights = np.ones(len(true)) if weights is None else weights[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    return np.cumsum(true * weights)[last], np.cumsum((1 - true) * weights)[last], scores[last]


# --- curves --------------------------------------------------------------------------------------------------------


class RocCurve(NamedTuple):
    """The points of a ROC curve, from (0, 0) to (1, 1)."""

    false_positive_rate: Reals
    """The share of the other rows that score at least the threshold, (n_points,)."""
    true_positive_rate: Reals
    """The share of the rows of the class that do, (n_points,)."""
    thresholds: Reals
    """From infinity, above all scores, to the lowest score, (n_points,)."""


class PrecisionRecallCurve(NamedTuple):
    """The points of a precision-recall curve, to (recall 0, precision 1)."""

    precision: Reals
    """The share of the rows at or above the threshold that are of the class, (n_points,); the last one is 1."""
    recall: Reals
    """The share of the rows of the class that are at or above it, (n_points,); the last one is 0."""
    thresholds: Reals
    """The different scores, from the lowest to the highest, (n_points - 1,)."""


class CalibrationCurve(NamedTuple):
    """Predicted probabilities beside what came true, bin by bin; empty bins are left out."""

    observed: Reals
    """The share of the rows of a bin that are of the class, (n,)."""
    predicted: Reals
    """The mean of their predicted probabilities, (n,)."""
    weight: Reals
    """The weight of the rows of a bin: their number, without weights, (n,)."""


def roc_curve(outputs: ArrayLike, targets: ArrayLike, sample_weight: ArrayLike | None = None) -> RocCurve:
    """Return the true positive rate over the false positive rate, for all thresholds.

    Points on a straight line between two others are left out, as in scikit-learn.

    Parameters
    ----------
    outputs
        Probabilities or other scores of the class, (n,) or (n, 1); for class k of several, ``outputs[:, k]``.
    targets
        Which rows are of the class: 0 and 1, or booleans, (n,) or (n, 1); for class k of several, ``labels == k``.
    sample_weight
        Weights >= 0 of the rows, (n,).

    Returns
    -------
    RocCurve
        A rate is NaN where there is no row that it could count.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, shape or range; the message says which.

    Examples
    --------
    >>> roc_curve([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]).thresholds
    array([ inf, 0.8 , 0.4 , 0.35, 0.1 ])
    """
    true, false, thresholds = _steps(*_rows(outputs, targets, sample_weight))
    if len(true) > 2:
        bends = np.diff(true, 2).astype(bool) | np.diff(false, 2).astype(bool)
        keep = np.concatenate([[True], bends, [True]])
        true, false, thresholds = true[keep], false[keep], thresholds[keep]
    true, false = np.insert(true, 0, 0.0), np.insert(false, 0, 0.0)
    return RocCurve(_share(false), _share(true), np.insert(thresholds, 0, math.inf))


def precision_recall_curve(
    outputs: ArrayLike, targets: ArrayLike, sample_weight: ArrayLike | None = None
) -> PrecisionRecallCurve:
    """Return precision and recall for all thresholds; parameters and errors as in `roc_curve`.

    Returns
    -------
    PrecisionRecallCurve
        Where no row is of the class, recall is 1 at every threshold, as in scikit-learn.

    Examples
    --------
    >>> precision_recall_curve([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]).recall
    array([1. , 1. , 0.5, 0.5, 0. ])
    """
    true, false, thresholds = _steps(*_rows(outputs, targets, sample_weight))
    precision, recall = true / (true + false), true / true[-1] if true[-1] else np.ones(len(true))
    return PrecisionRecallCurve(np.append(precision[::-1], 1.0), np.append(recall[::-1], 0.0), thresholds[::-1])


def calibration_curve(
    outputs: ArrayLike,
    targets: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    n_bins: int = 10,
    strategy: str = "uniform",
) -> CalibrationCurve:
    """Return how often what was predicted with a probability has come true.

    Parameters
    ----------
    outputs, targets, sample_weight
        As in `roc_curve`, but the outputs have to be probabilities, in [0, 1].
    n_bins
        How many bins the probabilities are put into, >= 1.
    strategy
        ``"uniform"``: bins of one width; ``"quantile"``: bins with as many rows each.

    Returns
    -------
    CalibrationCurve

    Raises
    ------
    TypeError, ValueError
        As in `roc_curve`.

    Examples
    --------
    >>> calibration_curve([0.2, 0.2, 0.9, 0.9], [0, 1, 1, 1], n_bins=2)
    CalibrationCurve(observed=array([0.5, 1. ]), predicted=array([0.2, 0.9]), weight=array([2., 2.]))
    """
    scores, true, weights = _rows(outputs, targets, sample_weight)
    if scores.min() < 0 or scores.max() > 1:
        raise ValueError(f"outputs: needs probabilities in [0, 1], got {scores.min():g} to {scores.max():g}")
    edges = np.linspace(0.0, 1.0, check.integer("n_bins", n_bins, at_least=1) + 1)
    if check.choice("strategy", strategy, ("uniform", "quantile")) == "quantile":
        edges = np.quantile(scores, edges)
    bins = np.searchsorted(edges[1:-1], scores)
    weights = np.ones(len(scores)) if weights is None else weights
    total: Array = np.bincount(bins, weights, n_bins)
    there = total > 0
    observed = np.bincount(bins, weights * true, n_bins)[there] / total[there]
    return CalibrationCurve(observed, np.bincount(bins, weights * scores, n_bins)[there] / total[there], total[there])


def _rows(outputs: Any, targets: Any, sample_weight: Any) -> tuple[Reals, NDArray[np.bool_], Reals | None]:
    """Return scores, which rows are of the class, and weights, (n,) each."""
    scores, true = check.array("outputs", outputs, FLOAT), check.array("targets", targets, FLOAT)
    for name, array in (("outputs", scores), ("targets", true)):
        if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)) or not array.size:
            raise ValueError(f"{name}: needs one number for each row, shape (n,) or (n, 1), got shape {array.shape}")
    if len(scores) != len(true):
        raise ValueError(f"targets: needs one for each of the {len(scores)} outputs, got {len(true)}")
    if not ((true == 0) | (true == 1)).all():
        raise ValueError("targets: needs values 0 or 1, which say what is of the class, got others")
    weights = check.weights("sample_weight", sample_weight, FLOAT, len(scores))
    return scores.reshape(-1), true.reshape(-1).astype(bool), weights


def _share(counts: Reals) -> Reals:
    """Return counts as shares of the last one, which is the whole; NaN where that is 0."""
    shares: Reals = counts / counts[-1] if counts[-1] else np.full(len(counts), math.nan)
    return shares
