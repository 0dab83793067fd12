"""Metrics beside scikit-learn's, and how they are named."""

import re

import backprop as bp
import numpy as np
import pytest
from backprop import metrics
from backprop.metrics import CLASSIFICATION, HIGHER_IS_BETTER, METRICS

sklearn_metrics = pytest.importorskip("sklearn.metrics")

N = 40
ALIKE = {
    "accuracy": lambda true, predicted, w: sklearn_metrics.accuracy_score(true, predicted, sample_weight=w),
    "balanced_accuracy": lambda true, predicted, w: sklearn_metrics.balanced_accuracy_score(
        true, predicted, sample_weight=w
    ),
    "precision": lambda true, predicted, w: sklearn_metrics.precision_score(
        true, predicted, average=average(true), sample_weight=w, zero_division=0
    ),
    "recall": lambda true, predicted, w: sklearn_metrics.recall_score(
        true, predicted, average=average(true), sample_weight=w, zero_division=0
    ),
    "f1": lambda true, predicted, w: sklearn_metrics.f1_score(
        true, predicted, average=average(true), sample_weight=w, zero_division=0
    ),
    "r2": lambda true, predicted, w: sklearn_metrics.r2_score(true, predicted, sample_weight=w),
    "mean_squared_error": lambda true, predicted, w: sklearn_metrics.mean_squared_error(
        true, predicted, sample_weight=w
    ),
    "root_mean_squared_error": lambda true, predicted, w: sklearn_metrics.root_mean_squared_error(
        true, predicted, sample_weight=w
    ),
    "mean_absolute_error": lambda true, predicted, w: sklearn_metrics.mean_absolute_error(
        true, predicted, sample_weight=w
    ),
}
RANKING = {"roc_auc", "average_precision"}  # see test_ranking.py
OF_CLASSES, OF_NUMBERS = sorted(CLASSIFICATION - RANKING), sorted(METRICS.keys() - CLASSIFICATION)


def average(true):
    """One yes-or-no output has one figure; labels and several outputs have the mean."""
    return "binary" if true.dtype == bool and true.ndim == 1 else "macro"


def test_each_has_its_like():
    assert ALIKE.keys() | RANKING == METRICS.keys()
    assert RANKING < CLASSIFICATION < HIGHER_IS_BETTER


@pytest.fixture(params=[False, True], ids=["", "weighted"])
def weight(request, rng):
    return rng.uniform(0, 2, N) if request.param else None


@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize("classes", [2, 3, 9])
def test_labels(name, classes, weight, rng):
    outputs = rng.dirichlet(np.ones(classes), N).astype(np.float32)
    # Some classes in neither, some in the outputs only, some in the targets only.
    true = rng.integers(0, max(2, classes - 3), N)
    with np.errstate(all="raise"):
        value = METRICS[name](outputs, true, weight)
    if name == "balanced_accuracy":  # scikit-learn warns of classes that are in the outputs only
        scores = [ALIKE["recall"](true == k, outputs.argmax(axis=1) == k, weight) for k in np.unique(true)]
        assert value == pytest.approx(np.mean(scores), rel=1e-12)
    else:
        assert value == pytest.approx(ALIKE[name](true, outputs.argmax(axis=1), weight), rel=1e-12)


@pytest.mark.parametrize("name", OF_CLASSES)
def test_yes_or_no(name, weight, rng):
    outputs, true = rng.uniform(size=(N, 1)), rng.integers(0, 2, (N, 1)).astype(float)
    expected = ALIKE[name](true[:, 0] == 1, outputs[:, 0] >= 0.5, weight)
    assert METRICS[name](outputs, true, weight) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", sorted(set(OF_CLASSES) - {"balanced_accuracy"}))
def test_several_outputs(name, weight, rng):
    outputs, true = rng.uniform(size=(N, 3)), rng.integers(0, 2, (N, 3))
    true[:, 2] = 0
    expected = ALIKE[name](true == 1, outputs >= 0.5, weight)
    assert METRICS[name](outputs, true.astype(float), weight) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", OF_NUMBERS)
@pytest.mark.parametrize("columns", [1, 3])
def test_numbers(name, columns, weight, dtype, rng):
    outputs, true = rng.normal(size=(N, columns)).astype(dtype), rng.normal(size=(N, columns)).astype(dtype)
    expected = ALIKE[name](true.astype(float), outputs.astype(float), weight)
    assert METRICS[name](outputs, true, weight) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("outputs", [np.full((5, 1), 2.0), np.full((5, 1), 3.0)])
def test_r2_of_constant_targets(outputs):
    true = np.full((5, 1), 2.0)
    assert metrics.r2(outputs, true) == sklearn_metrics.r2_score(true, outputs)


# --- names ------------------------------------------------------------------------------------------------------------

SQUARED, CROSS, BINARY = bp.losses.SquaredError(), bp.losses.CrossEntropy(), bp.losses.BinaryCrossEntropy()


def of_targets(asked, loss, targets):
    return metrics.bound(metrics.resolved(asked), loss, targets, None)


def largest(outputs, targets):
    return outputs.max()


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ((), []),
        ("accuracy", ["accuracy"]),
        (["accuracy", "f1"], ["accuracy", "f1"]),
        (largest, ["largest"]),
        ([metrics.accuracy, largest], ["accuracy", "largest"]),
        ({"top": lambda outputs, targets: 1.0}, ["top"]),
    ],
)
def test_ways_to_name_them(asked, names):
    functions = of_targets(asked, CROSS, np.array([0, 1]))
    assert list(functions) == names
    assert all(isinstance(function(np.eye(2)), float) for function in functions.values())


def test_class_probabilities_stand_for_the_likeliest_class():
    targets = np.array([[0.6, 0.3, 0.1], [0.2, 0.4, 0.4]])
    outputs = np.array([[0.4, 0.3, 0.3], [0.3, 0.3, 0.4]])
    assert of_targets("accuracy", CROSS, targets)["accuracy"](outputs) == 0.5


BAD = [
    ("accurracy", SQUARED, ValueError, "metrics: needs one of 'accuracy', 'balanced_accuracy', "),
    (["r2", "mse"], SQUARED, ValueError, "metrics[1]: needs one of 'accuracy', "),
    (3, SQUARED, TypeError, "metrics: needs names, functions or a mapping from names to functions, got 3"),
    ([3], SQUARED, TypeError, "metrics[0]: needs a name or a function of outputs and targets, got 3"),
    ([lambda a, y: 1], SQUARED, ValueError, "metrics[0]: needs a name; write metrics={'name': function}"),
    ({"mine": 3}, SQUARED, TypeError, "metrics['mine']: needs a function of outputs and targets, got 3"),
    ({3: largest}, SQUARED, TypeError, "metrics: needs names that are text, got 3"),
    (["r2", "r2"], SQUARED, ValueError, "metrics: needs different names, got 'r2' twice"),
    ({"val_loss": largest}, SQUARED, ValueError, "metrics: needs another name than 'val_loss'"),
    ("accuracy", SQUARED, ValueError, "metrics: accuracy needs class labels or targets that are 0 or 1, got real"),
]


@pytest.mark.parametrize(("asked", "loss", "error", "message"), BAD)
def test_bad_names(asked, loss, error, message):
    with pytest.raises(error, match=re.escape(message)):
        of_targets(asked, loss, np.array([[0.5], [1.0]]))


def test_metrics_that_do_not_suit_the_targets():
    with pytest.raises(ValueError, match=r"metrics: r2 needs real targets \(n, n_outputs\), got class labels"):
        of_targets("r2", CROSS, np.array([0, 1]))
    with pytest.raises(ValueError, match=r"metrics: balanced_accuracy needs class labels or one output, got 2 outputs"):
        of_targets("balanced_accuracy", BINARY, np.eye(2))
    with pytest.raises(ValueError, match=r"balanced_accuracy: needs class labels or one output, got 2 outputs"):
        metrics.balanced_accuracy(np.eye(2), np.eye(2))


def test_a_metric_that_gives_no_number():
    measured = of_targets({"mine": lambda outputs, targets: None}, SQUARED, np.zeros((2, 1)))["mine"]
    with pytest.raises(TypeError, match=re.escape("metrics: mine needs to return a number, got None (NoneType)")):
        measured(np.zeros((2, 1)))
