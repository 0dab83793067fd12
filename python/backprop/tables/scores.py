"""How well predictions hit: the figures that fit a target, and what one has without looking at the inputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.learn import metrics
from backprop.tables.table import shorten
from backprop.tables.targets import Labels, Target

Scores = dict[str, float]

NAMES = {
    "accuracy": ("accuracy", ".4f"),
    "balanced_accuracy": ("balanced accuracy", ".4f"),
    "precision": ("precision", ".4f"),
    "recall": ("recall", ".4f"),
    "f1": ("F1", ".4f"),
    "roc_auc": ("ROC AUC", ".4f"),
    "average_precision": ("average precision", ".4f"),
    "r2": ("R²", ".4f"),
    "mean_absolute_error": ("mean absolute error", ".4g"),
    "root_mean_squared_error": ("root mean squared error", ".4g"),
}
FIRST = {"classification": ("accuracy",), "regression": ("r2", "mean_absolute_error")}


def classes(target: Labels, outputs: NDArray[Any], threshold: float | None = None) -> NDArray[np.int64]:
    """Return the class that is predicted for each row, (n,).

    With a threshold, which needs two classes, it is the positive one where its probability reaches the threshold.

    Examples
    --------
    >>> target = Labels("y", ("no", "yes"))
    >>> classes(target, np.array([[0.6, 0.4], [0.8, 0.2]]), threshold=0.3)
    array([1, 0])
    """
    if threshold is None or target.n_outputs != 2:
        likeliest: NDArray[np.int64] = outputs.argmax(axis=1)
        return likeliest
    said: NDArray[np.int64] = np.where(outputs[:, target.positive] >= threshold, target.positive, 1 - target.positive)
    return said


def decoded(target: Target, outputs: NDArray[Any], threshold: float | None) -> NDArray[Any]:
    """Return what the outputs say, (n,): labels, or numbers."""
    if isinstance(target, Labels):
        return target.decoded(classes(target, outputs, threshold))
    return target.decoded(outputs).astype(target.dtype(outputs.dtype))


def measured(
    target: Target,
    outputs: NDArray[Any],
    truth: NDArray[Any],
    weight: NDArray[np.float64] | None = None,
    threshold: float | None = None,
) -> Scores:
    """Return how well the network's outputs, (n, n_outputs), hit the encoded target.

    Figures that do not exist for these rows are left out: R² of equal numbers, ROC AUC of one class, and what is about
    a positive class that has no row. Precision, recall, F1, ROC AUC and average precision are those of the positive
    class where there are two, else means over the classes.
    """
    if not isinstance(target, Labels):
        errors = {"r2": metrics.r2(outputs, truth, weight)} if np.ptp(truth) > 0 else {}
        for name in ("mean_absolute_error", "root_mean_squared_error"):
            errors[name] = metrics.METRICS[name](outputs, truth, weight) * target.scale
        return errors
    predicted = classes(target, outputs, threshold)
    said = np.eye(target.n_outputs)[predicted]
    found = {"accuracy": metrics.accuracy(said, truth, weight),
             "balanced_accuracy": metrics.balanced_accuracy(said, truth, weight)}  # fmt: skip
    true, chances = truth, outputs
    if target.n_outputs == 2:
        one = target.positive
        true, chances, said = (truth == one)[:, None].astype(float), outputs[:, one : one + 1], said[:, one : one + 1]
        if not (true[:, 0] if weight is None else true[:, 0] * weight).any():
            return found
    for name, given in (("precision", said), ("recall", said), ("f1", said), ("roc_auc", chances),
                        ("average_precision", chances)):  # fmt: skip
        found[name] = metrics.METRICS[name](given, true, weight)
    return {name: value for name, value in found.items() if not math.isnan(value)}


def some_weights(weight: NDArray[np.float64] | None, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Return the weights of some rows; None where there are none, or all are 0."""
    return None if weight is None or not weight[rows].any() else weight[rows]


def baseline(target: Target, train_truth: NDArray[Any], truth: NDArray[Any]) -> tuple[str, Scores]:
    """Return how well one does without looking at the inputs, and how one does it."""
    outputs = np.zeros((len(truth), target.n_outputs))
    if not isinstance(target, Labels):
        return "always the mean", measured(target, outputs, truth)  # which is 0, standardised
    majority = int(np.bincount(train_truth).argmax())
    outputs[:, majority] = 1
    return f"always {target.labels[majority]!r}", measured(target, outputs, truth)


def worse(found: Scores, baseline: tuple[str, Scores]) -> str | None:
    """Return a sentence where a model hits less well than one does without looking at the inputs.

    Examples
    --------
    >>> worse({"accuracy": 0.4}, ("always 'a'", {"accuracy": 0.5}))
    "worse than always 'a': the model has learned nothing that holds for new rows"
    """
    how, theirs = baseline
    lost = any(found[name] < theirs[name] for name in ("accuracy", "r2") if name in found and name in theirs)
    return f"worse than {how}: the model has learned nothing that holds for new rows" if lost else None


def undefined(target: Target, truth: NDArray[Any]) -> str | None:
    """Return a sentence about the classes that no row has, so that no score tells how well they are found.

    Examples
    --------
    >>> undefined(Labels("y", ("fraud", "ok"), positive_label="fraud"), np.array([1, 1]))
    "no row of 'fraud': its precision, recall and F1 are undefined"
    >>> undefined(Labels("y", ("a", "b", "c")), np.array([0, 2]))
    "no row of 'b': the scores do not tell how well it is found"
    """
    if not isinstance(target, Labels):
        return None
    absent = np.flatnonzero(np.bincount(truth, minlength=target.n_outputs) == 0)
    if not len(absent):
        return None
    if target.n_outputs == 2 and target.positive in absent:
        return f"no row of {target.labels[target.positive]!r}: its precision, recall and F1 are undefined"
    them = "it is" if len(absent) == 1 else "they are"
    names = shorten((target.labels[k] for k in absent), 5)
    return f"no row of {names}: the scores do not tell how well {them} found"


def confusion(target: Labels, predicted: NDArray[np.int64], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how often each class (row) was taken for which (column), (n_classes, n_classes)."""
    counts = np.zeros((target.n_outputs, target.n_outputs), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    return counts


def shown(scores: Scores, baseline: tuple[str, Scores] | None = None, names: tuple[str, ...] | None = None) -> str:
    """Return scores as text, perhaps beside those of the baseline.

    Examples
    --------
    >>> shown({"accuracy": 0.975}, ("always 'a'", {"accuracy": 0.5}))
    "accuracy 0.9750 (always 'a': 0.5000)"
    """
    chosen = [name for name in (names or scores) if name in scores]
    text = ", ".join(f"{NAMES[name][0]} {scores[name]:{NAMES[name][1]}}" for name in chosen)
    if baseline is None:
        return text
    how, theirs = baseline
    others = ", ".join(f"{theirs[name]:{NAMES[name][1]}}" for name in chosen if name in theirs)
    return f"{text} ({how}: {others})"
