"""What is found out about a model and some rows with the truth, as plain records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.learn import ranking
from backprop.network import Network
from backprop.tables import explaining, scores
from backprop.tables.preprocessing import Preprocessing
from backprop.tables.scores import Scores
from backprop.tables.targets import Labels, Target

MAX_POINTS = 300  # of a curve, or of a cloud
MAX_CLASSES = 20  # of a confusion matrix


@dataclass(frozen=True, slots=True)
class TargetFindings:
    """How well one target is predicted.

    Parameters
    ----------
    target
        What is predicted.
    n_rows
        On how many rows.
    scores, baseline
        By the names of `backprop.metrics`; how one does without the inputs, and how well.
    confusion
        How often each class (row) was taken for which (column), None for a number.
    roc, precision_recall, calibration
        The points of the curves by the name of the class: x and y. Empty for a number.
    actual, predicted
        Numbers and what was predicted for them, at most `MAX_POINTS`; empty for labels.
    importance_of, importance
        Which score falls by how much when a column is shuffled, the most important first.
    losses
        ``"loss"`` and perhaps ``"val_loss"`` of the epochs.
    """

    target: Target
    n_rows: int
    scores: Scores
    baseline: tuple[str, Scores]
    confusion: NDArray[np.int64] | None
    roc: Mapping[str, tuple[list[float], list[float]]]
    precision_recall: Mapping[str, tuple[list[float], list[float]]]
    calibration: Mapping[str, tuple[list[float], list[float]]]
    actual: list[float]
    predicted: list[float]
    importance_of: str
    importance: Mapping[str, float]
    losses: Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Findings:
    """What is found out about a model.

    Parameters
    ----------
    data
        What the rows are called, and whether the model was trained on them.
    columns
        Name, meaning with the rule that decided it, and encoding of each column that the network sees.
    left_out
        Columns that it does not see, with the reason.
    notes
        What should be looked at.
    training
        A summary of the training.
    targets
        One part for each target.
    """

    data: str
    columns: Sequence[tuple[str, str, str]]
    left_out: Mapping[str, str]
    notes: Sequence[str]
    training: Mapping[str, Any]
    targets: Sequence[TargetFindings] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Said:
    """What is known about rows and model before they are looked at: fields of `Findings`, and the losses."""

    data: str
    notes: Sequence[str]
    training: Mapping[str, Any]
    curves: Mapping[str, Mapping[str, Sequence[float]]]


def found(
    networks: Mapping[str, Network],
    fitted: Preprocessing,
    threshold: float | None,
    X: NDArray[Any],
    truths: Mapping[str, tuple[NDArray[np.int64], NDArray[Any]]],
    weight: NDArray[np.float64] | None,
    said: Said,
) -> Findings:
    """Return what is found out on encoded rows.

    Parameters
    ----------
    networks
        The network of each target.
    fitted
        How the rows were encoded.
    threshold
        From which probability on the positive class is predicted.
    X
        The inputs, (n, n_inputs).
    truths
        For each target the rows whose truth is known, and this truth.
    weight
        Their weights, (n,), or None.
    said
        What is known already.
    """
    parts = [
        _part(
            networks[target.name],
            fitted,
            target,
            threshold,
            said.curves.get(target.name, {}),
            X[rows],
            truth,
            None if weight is None else weight[rows],
        )
        for target in fitted.targets
        for rows, truth in [truths[target.name]]
    ]
    columns = [
        (column.name, column.meaning + (f" ({column.why})" if column.why else ""), ", ".join(how.inputs[:6])
         + (f", ... ({len(how.inputs)})" if len(how.inputs) > 6 else ""))
        for column, how in zip(fitted.columns, fitted.inputs, strict=True)
    ]  # fmt: skip
    return Findings(said.data, columns, fitted.left_out, said.notes, said.training, parts)


def _part(
    network: Network,
    fitted: Preprocessing,
    target: Target,
    threshold: float | None,
    losses: Mapping[str, Sequence[float]],
    X: NDArray[Any],
    truth: NDArray[Any],
    weight: NDArray[np.float64] | None,
) -> TargetFindings:
    outputs = network.predict(X)
    measured = scores.measured(target, outputs, truth, weight, threshold)
    baseline = scores.baseline(target, truth, truth)
    importance_of, importance = explaining.importance(network, fitted, target, X, truth)
    curves: dict[str, dict[str, tuple[list[float], list[float]]]] = {"roc": {}, "pr": {}, "calibration": {}}
    confusion, actual, predicted = None, [], []
    if isinstance(target, Labels):
        classes = scores.classes(target, outputs, threshold)
        confusion = scores.confusion(target, classes, truth)
        curves = _curves(target, outputs, truth, weight)
    else:
        rows = np.random.default_rng(0).permutation(len(truth))[:MAX_POINTS]
        actual, predicted = target.decoded(truth[rows]).tolist(), target.decoded(outputs[rows]).tolist()
    return TargetFindings(
        target,
        len(truth),
        measured,
        baseline,
        confusion,
        curves["roc"],
        curves["pr"],
        curves["calibration"],
        actual,
        predicted,
        importance_of,
        importance,
        losses,
    )


def _curves(
    target: Labels, outputs: NDArray[Any], truth: NDArray[Any], weight: NDArray[np.float64] | None
) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    """Return the curves of the positive class of two, else of the most frequent ones."""
    counts = np.bincount(truth, minlength=target.n_outputs)
    shown = [target.positive] if target.n_outputs == 2 else np.argsort(-counts, kind="stable")[:4].tolist()
    found: dict[str, dict[str, tuple[list[float], list[float]]]] = {"roc": {}, "pr": {}, "calibration": {}}
    for k in shown:
        if not 0 < counts[k] < len(truth):
            continue
        label, chances, true = target.labels[k], outputs[:, k].astype(np.float64), truth == k
        roc = ranking.roc_curve(chances, true, weight)
        found["roc"][label] = _thinned(roc.false_positive_rate, roc.true_positive_rate)
        pr = ranking.precision_recall_curve(chances, true, weight)
        found["pr"][label] = _thinned(pr.recall, pr.precision)
        calibration = ranking.calibration_curve(np.clip(chances, 0, 1), true, weight, strategy="quantile")
        found["calibration"][label] = _thinned(calibration.predicted, calibration.observed)
    return found


def _thinned(xs: NDArray[Any], ys: NDArray[Any]) -> tuple[list[float], list[float]]:
    rows = np.unique(np.linspace(0, len(xs) - 1, min(len(xs), MAX_POINTS)).round().astype(int))
    return xs[rows].astype(float).tolist(), ys[rows].astype(float).tolist()
