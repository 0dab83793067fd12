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
from backprop.tables.preparing import Plan
from backprop.tables.preprocessing import Inputs, Preprocessing
from backprop.tables.scores import Scores
from backprop.tables.table import Table
from backprop.tables.targets import Labels, Target, said_unknown, truth_of

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
class Sample:
    """Rows with the truth."""

    name: str
    X: NDArray[Any]
    """(n, n_inputs)"""
    truths: Mapping[str, tuple[NDArray[np.int64], NDArray[Any]]]
    """for each target the rows whose truth is known, and this truth"""
    weight: NDArray[np.float64] | None
    notes: Sequence[str]


def held_out(plan: Plan) -> Sample:
    """Return the rows held out from a training, or those that it was about where there are none."""
    rows = plan.split.scored
    where = "rows held out" if len(plan.split.held_out) else "rows trained on"
    truths = {target.name: (np.arange(len(rows)), truth[rows])
              for target, truth in zip(plan.preprocessing.targets, plan.truths, strict=True)}  # fmt: skip
    weight = scores.some_weights(plan.weight, rows)
    return Sample(f"{plan.name}, {len(rows):,} {where}", plan.X[rows], truths, weight, plan.notes)


def rows_of(table: Table, fitted: Preprocessing, encoded: Inputs, training: Mapping[str, Any]) -> Sample:
    """Return the rows of a table that has the targets."""
    truths, notes = {}, [*encoded.notes]
    if table.name == training.get("data") != "data":
        notes.append("The model was trained on some of these rows: on new ones, scores are lower.")
    for target in fitted.targets:
        truth = truth_of(table, target)
        rows = np.flatnonzero(truth.known)
        if not len(rows):
            raise ValueError(f"{table.name}: no row has a known value of {target.name!r}")
        truths[target.name] = (rows, truth.encoded[rows])
        if truth.unknown:
            notes.append(said_unknown(target.name, truth.unknown, truth.first_unknown))
    return Sample(f"{table.name}, {len(encoded.X):,} rows", encoded.X, truths, None, notes)


def found(
    networks: Mapping[str, Network],
    fitted: Preprocessing,
    rows: Sample,
    threshold: float | None,
    training: Mapping[str, Any],
    curves: Mapping[str, Mapping[str, Sequence[float]]],
) -> Findings:
    """Return what is found out on encoded rows; curves has the losses of the epochs for each target."""
    parts, notes = [], [*rows.notes]
    for target in fitted.targets:
        known, truth = rows.truths[target.name]
        weight = None if rows.weight is None else rows.weight[known]
        losses = curves.get(target.name, {})
        parts.append(_part(networks[target.name], fitted, target, threshold, losses, rows.X[known], truth, weight))
        if text := scores.undefined(target, truth):
            notes.append(f"{target.name}: {text}")
    columns = [
        (column.name, column.meaning + (f" ({column.why})" if column.why else ""), ", ".join(how.inputs[:6])
         + (f", ... ({len(how.inputs)})" if len(how.inputs) > 6 else ""))
        for column, how in zip(fitted.columns, fitted.inputs, strict=True)
    ]  # fmt: skip
    return Findings(rows.name, columns, fitted.left_out, notes, training, parts)


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
