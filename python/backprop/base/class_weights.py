"""Class weights as weights of rows, or of outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.base.types import Data, Named


def of_rows(name: str, value: Any, loss: Named, data: Data, n_outputs: int) -> NDArray[np.float64]:
    """Return the weights of the rows, times those of their classes: a mapping from labels to weights, or "balanced".

    "balanced" is n / (number of classes * n of the class), where n counts rows or, if there are any, adds up weights.
    Several yes-or-no outputs have weights of their own, (n, n_outputs), by one such value for all or one for each.
    """
    columns = _columns_of_labels(loss, data.targets, n_outputs)
    if columns is not None:
        return _weights_of_outputs(name, value, data, columns)
    found = _labels_of(loss, data.targets, n_outputs)
    if found is None:
        apart = data.targets.ndim == 2 and data.targets.shape[1] != n_outputs  # they came in several arrays
        targets = "" if apart else f" and targets of shape {data.targets.shape}"
        raise ValueError(
            f"{name}: needs class labels: integers or rows of one 1 and else 0 with cross_entropy, or targets 0 and 1 "
            f"with binary_cross_entropy; got {loss.name}{targets}"
        )
    labels, n_classes = found
    rows = np.ones(len(labels)) if data.sample_weight is None else data.sample_weight.astype(np.float64)
    weights: NDArray[np.float64] = rows * _of_class(name, value, labels, rows, n_classes)[labels]
    return weights


def _weights_of_outputs(name: str, value: Any, data: Data, columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the weights of outputs (n, n_outputs), whose labels are 0 and 1."""
    n_outputs = columns.shape[1]
    each = [value] * n_outputs if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable) else list(value)
    if len(each) != n_outputs:
        raise ValueError(f"{name}: needs one for all outputs, or one for each of the {n_outputs}, got {len(each)}")
    weights = np.ones(columns.shape)
    if data.sample_weight is not None:
        weights *= data.sample_weight.reshape(len(weights), -1)
    for k, own in enumerate(each):
        label = name if own is value else f"{name}[{k}]"
        weights[:, k] *= _of_class(label, own, columns[:, k], weights[:, k], 2)[columns[:, k]]
    return weights


def _of_class(
    name: str, value: Any, labels: NDArray[np.int64], rows: NDArray[np.float64], n_classes: int
) -> NDArray[np.float64]:
    """Return the weight of each class."""
    of_class = np.ones(n_classes)
    if isinstance(value, Mapping):
        for label, weight in value.items():
            label = check.integer(f"label in {name}", label, at_least=0, at_most=n_classes - 1)
            of_class[label] = check.number(f"{name}[{label}]", weight, at_least=0)
    elif isinstance(value, str) and value == "balanced":
        totals = np.bincount(labels, rows, n_classes)
        there = totals > 0
        of_class = np.divide(totals.sum(), there.sum() * totals, out=np.zeros(n_classes), where=there)
    else:
        raise TypeError(f"{name}: needs a mapping from class labels to weights or 'balanced', got {check.shown(value)}")
    return of_class


def _columns_of_labels(loss: Named, targets: NDArray[Any], n_outputs: int) -> NDArray[np.int64] | None:
    """Return the labels 0 and 1 of several yes-or-no outputs, (n, n_outputs); None where there are none."""
    if loss.name not in ("binary_cross_entropy", "focal") or n_outputs == 1:
        return None
    return targets.astype(np.int64) if ((targets == 0) | (targets == 1)).all() else None


def _labels_of(loss: Named, targets: NDArray[Any], n_outputs: int) -> tuple[NDArray[np.int64], int] | None:
    """Return the class of each row and how many classes there are; None where rows are of no single class."""
    if loss.name in ("cross_entropy", "kullback_leibler"):
        if targets.ndim == 1:
            return targets, n_outputs
        if (targets.max(axis=1) == 1).all() and np.count_nonzero(targets) == len(targets):
            return targets.argmax(axis=1), n_outputs
    elif loss.name in ("binary_cross_entropy", "focal") and n_outputs == 1 and ((targets == 0) | (targets == 1)).all():
        return targets[:, 0].astype(np.int64), 2
    return None
