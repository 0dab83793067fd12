"""Predictions for rows by networks that have not learned from them."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import StratifiedKFold, check_cv
from sklearn.utils import _safe_indexing, indexable
from sklearn.utils.validation import _num_samples

from backprop.base.types import RealArray
from backprop.sklearn.fleets import Fit, fit_together


def labels_of(probabilities: RealArray, classes: NDArray[Any], multilabel: bool) -> NDArray[Any]:
    """Return the most probable class of each row, or for several labels those that are more probable than not."""
    return (probabilities > 0.5).astype(int) if multilabel else classes.take(probabilities.argmax(axis=1))


def split(estimator: Any, name: str, y: Any, random_state: Any) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return rows to learn from and rows left out, for each of the folds whose number the estimator has by that name.

    Each row is left out once, in which fold is random; for one class per sample, each has the same share of each class.
    """
    n_folds = getattr(estimator, name)
    kind = type(check_cv(n_folds, y, classifier=is_classifier(estimator)))
    n_rows = _num_samples(y)
    if n_folds > n_rows:
        raise ValueError(f"{name}: needs at most a fold for each row (n_samples={n_rows}), got {n_folds}")
    if kind is StratifiedKFold and n_folds > (most := int(np.unique(y, return_counts=True)[1].max())):
        raise ValueError(f"{name}: needs a class with a row for each fold, got {n_folds} folds and at most {most} rows")
    folds = kind(n_folds, shuffle=True, random_state=random_state)
    return list(folds.split(np.empty((n_rows, 0)), y))


def predictions_of(estimator: Any, X: Any, classes: Any) -> RealArray:
    """Return what an estimator says of rows: a regressor's predictions, a classifier's probabilities of `classes`."""
    if classes is None:
        predicted: RealArray = np.asarray(estimator.predict(X))
        return predicted
    probabilities: RealArray = np.asarray(estimator.predict_proba(X))
    if len(estimator.classes_) == len(classes):
        return probabilities
    of_all = np.zeros((len(probabilities), len(classes)), probabilities.dtype)
    of_all[:, np.searchsorted(classes, estimator.classes_)] = probabilities
    return of_all


def keep_left_out(
    estimator: Any, left_out: Iterable[tuple[NDArray[Any], RealArray]], y: Any, sample_weight: Any
) -> None:
    """Set ``oof_prediction_``, the means of what was predicted for rows that were left out, and ``oof_score_``."""
    y = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
    total, count = None, np.zeros(len(y))
    for rows, predicted in left_out:
        if total is None:
            total = np.zeros((len(y), *predicted.shape[1:]))
        total[rows] += predicted
        count[rows] += 1
    assert total is not None
    with np.errstate(invalid="ignore"):  # 0 / 0 where a row was never left out
        mean = total / count.reshape(-1, *[1] * (total.ndim - 1))
    known = count > 0
    weight = None if sample_weight is None else np.asarray(sample_weight)[known]
    estimator.oof_prediction_ = mean
    if not (known if weight is None else weight).any():  # every row that counts was drawn by all
        estimator.oof_score_ = np.nan
    elif is_classifier(estimator):
        decided = labels_of(mean[known], estimator.classes_, estimator._multilabel)
        estimator.oof_score_ = float(accuracy_score(y[known], decided, sample_weight=weight))
    else:
        estimator.oof_score_ = float(r2_score(y[known], mean[known], sample_weight=weight))


def fit_with_folds(estimator: Any, X: Any, y: Any, sample_weight: Any, validation: tuple[Any, Any, Any]) -> None:
    """Fit an estimator and, for each of its `bagging` folds, a clone without these rows, all together."""
    estimator._check_parameters()
    X, y, sample_weight = indexable(X, y, sample_weight)
    whole = clone(estimator)  # before the fit draws from its random state
    fits = [Fit(estimator, X, y, sample_weight, validation)]
    folds = split(estimator, "bagging", y, deepcopy(estimator.random_state))
    for rows, _ in folds:
        member = clone(whole).set_params(bagging=None, verbose=False)
        weight = None if sample_weight is None else _safe_indexing(sample_weight, rows)
        fits.append(Fit(member, _safe_indexing(X, rows), _safe_indexing(y, rows), weight, validation))
    fit_together(fits)
    classes = getattr(estimator, "classes_", None)
    left_out = [
        (rows, predictions_of(fit.estimator, _safe_indexing(X, rows), classes))
        for (_, rows), fit in zip(folds, fits[1:], strict=True)
    ]
    keep_left_out(estimator, left_out, y, sample_weight)
