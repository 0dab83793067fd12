"""ROC, precision-recall and calibration beside scikit-learn's, with ties, weights and single classes."""

import contextlib
import re
import warnings

import backprop as bp
import numpy as np
import pytest
from backprop import metrics

sklearn_metrics = pytest.importorskip("sklearn.metrics")

N = 60
FIGURES = {"roc_auc": sklearn_metrics.roc_auc_score, "average_precision": sklearn_metrics.average_precision_score}
# Sums in another order: a few ulp of numbers up to N.
CLOSE = {"rtol": 1e-12, "atol": 1e-14}


@pytest.fixture(params=["none", "weights", "zeros"])
def weight(request, rng):
    if request.param == "none":
        return None
    return rng.uniform(0.1, 2, N) * (1 if request.param == "weights" else rng.integers(0, 2, N))


@pytest.fixture(params=[np.float32, np.float64])
def scores(request, rng):
    return np.round(rng.uniform(size=(N, 3)), 1).astype(request.param)  # many ties


@contextlib.contextmanager
def one_class_warns():
    """scikit-learn warns where only one class is there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# --- figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIGURES)
def test_one_output(name, scores, weight, rng):
    true = rng.integers(0, 2, (N, 1))
    expected = FIGURES[name](true[:, 0], scores[:, 0], sample_weight=weight)
    np.testing.assert_allclose(metrics.METRICS[name](scores[:, :1], true.astype(float), weight), expected, **CLOSE)


@pytest.mark.parametrize("name", FIGURES)
def test_several_outputs(name, scores, weight, rng):
    true = rng.integers(0, 2, (N, 3))
    expected = FIGURES[name](true, scores, sample_weight=weight)
    np.testing.assert_allclose(metrics.METRICS[name](scores, true.astype(float), weight), expected, **CLOSE)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_labels_are_one_against_the_rest(name, n_classes, weight, rng):
    outputs, labels = rng.dirichlet(np.ones(n_classes), N), rng.integers(0, n_classes, N)
    if name == "roc_auc" and n_classes > 2:
        expected = FIGURES[name](labels, outputs, sample_weight=weight, multi_class="ovr")
    else:  # macro: scikit-learn wants a column for each class
        expected = FIGURES[name](np.eye(n_classes)[labels], outputs, sample_weight=weight)
    np.testing.assert_allclose(metrics.METRICS[name](outputs, labels, weight), expected, **CLOSE)


def test_classes_that_do_not_occur_do_not_count(rng):
    outputs, labels = rng.dirichlet(np.ones(4), N), rng.integers(0, 2, N)
    for name, figure in FIGURES.items():
        expected = np.mean([figure(labels == k, outputs[:, k]) for k in (0, 1)])
        np.testing.assert_allclose(metrics.METRICS[name](outputs, labels), expected, **CLOSE)
    # Nor does a class that has rows, but no weight.
    weight = np.where(labels == 0, 1.0, 0.0)
    assert np.isnan(metrics.roc_auc(outputs, labels, weight))
    assert metrics.average_precision(outputs, labels, weight) == 1


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("name", FIGURES)
def test_a_single_class(name, value, rng):
    outputs, true = rng.uniform(size=(N, 2)), np.full((N, 2), value)
    true[0, 1] = 1 - value
    with one_class_warns():
        of_one, of_both = FIGURES[name](true[:, 0], outputs[:, 0]), FIGURES[name](true, outputs)
    np.testing.assert_allclose(metrics.METRICS[name](outputs[:, :1], true[:, :1].astype(float)), of_one, **CLOSE)
    np.testing.assert_allclose(metrics.METRICS[name](outputs, true.astype(float)), of_both, **CLOSE)


@pytest.mark.parametrize("name", FIGURES)
def test_never_above_1_whatever_the_size_of_the_weights(name):
    """Sums of weights are rounded, and products of large or small ones leave float64."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        scores, weight = rng.uniform(size=(30, 1)), rng.uniform(size=30)
        true = (scores > 0.5).astype(int)
        found = getattr(metrics, name)(scores, true, weight)
        assert 1 - 1e-14 < found <= 1
        assert [getattr(metrics, name)(scores, true, weight * 2.0**k) for k in (-900, 900)] == [found] * 2


@pytest.mark.parametrize("name", bp.metrics.METRICS)
def test_the_size_of_weights_does_not_matter(name, rng):
    """Not even where weights times errors leave float64."""
    outputs, targets = rng.uniform(size=(20, 1)), rng.integers(0, 2, (20, 1))
    size = 1e100 if name in ("mean_absolute_error", "mean_squared_error", "root_mean_squared_error", "r2") else 1
    weight, metric = rng.uniform(0.1, 1, 20), getattr(metrics, name)
    found = [metric(size * outputs, size * targets, weight * 2.0**k) for k in (0, -900, 900)]
    assert np.isfinite(found[0])
    assert found == [found[0]] * 3


def test_scores_that_are_all_the_same():
    outputs, true = np.full((4, 1), 0.5), np.array([[0.0], [1.0], [1.0], [1.0]])
    assert (metrics.roc_auc(outputs, true), metrics.average_precision(outputs, true)) == (0.5, 0.75)


@pytest.mark.parametrize("labels", [False, True], ids=["yes-or-no", "labels"])
def test_in_fit_and_evaluate_and_as_monitor(labels, backend, rng):
    X = rng.normal(size=(N, 2))
    y = (X[:, 0] + rng.normal(size=N) > 0).astype(int)
    net = bp.mlp([2, 4, 2 if labels else 1], output="softmax" if labels else "sigmoid", seed=1, backend=backend)
    stopping = bp.callbacks.EarlyStopping("val_roc_auc", patience=3)
    history = net.fit(X, y, epochs=9, metrics=list(FIGURES), validation_data=(X, y), callbacks=[stopping])
    assert stopping.best == history["val_roc_auc"].max()
    found = net.evaluate(X, y, metrics=[metrics.roc_auc, "average_precision"])
    outputs = net.predict(X)
    assert found["roc_auc"] == history["roc_auc"][-1] == pytest.approx(sklearn_metrics.roc_auc_score(y, outputs[:, -1]))
    assert found["average_precision"] == history["average_precision"][-1]


def test_members_of_a_fleet_have_them(backend, rng):
    X = rng.normal(size=(N, 2))
    y = (X[:, 0] + rng.normal(size=N) > 0).astype(int)
    fleet = bp.Fleet.of([bp.mlp([2, 3, 1], output="sigmoid", seed=k, backend=backend) for k in range(3)])
    history = fleet.fit(X, y, epochs=2, metrics=["roc_auc"])
    expected = [sklearn_metrics.roc_auc_score(y, fleet[k].predict(X)[:, 0]) for k in range(3)]
    np.testing.assert_allclose(history["roc_auc"][-1], expected, **CLOSE)


# --- curves -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("true", ["both", "none", "all"])
def test_roc_curve(true, scores, weight, rng):
    true = {"both": rng.integers(0, 2, N), "none": np.zeros(N, int), "all": np.ones(N, int)}[true]
    curve = metrics.roc_curve(scores[:, 0], true, weight)
    with one_class_warns():
        expected = sklearn_metrics.roc_curve(true, scores[:, 0], sample_weight=weight)
    for ours, theirs in zip(curve, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, **CLOSE)


@pytest.mark.parametrize("true", ["both", "none", "all"])
def test_precision_recall_curve(true, scores, weight, rng):
    true = {"both": rng.integers(0, 2, N), "none": np.zeros(N, int), "all": np.ones(N, int)}[true]
    curve = metrics.precision_recall_curve(scores[:, :1], true[:, None], weight)
    with one_class_warns():
        expected = sklearn_metrics.precision_recall_curve(true, scores[:, 0], sample_weight=weight)
    for ours, theirs in zip(curve, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, **CLOSE)


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("n_bins", [1, 5, 10])
def test_calibration_curve(strategy, n_bins, scores, rng):
    from sklearn.calibration import calibration_curve

    true, scores = rng.uniform(size=N) < scores[:, 0], scores[:, 0].astype(float)
    curve = metrics.calibration_curve(scores, true, n_bins=n_bins, strategy=strategy)
    observed, predicted = calibration_curve(true, scores, n_bins=n_bins, strategy=strategy)
    np.testing.assert_allclose(curve.observed, observed, **CLOSE)
    np.testing.assert_allclose(curve.predicted, predicted, **CLOSE)
    assert curve.weight.sum() == N


def test_calibration_with_whole_weights_is_that_of_repeated_rows(rng):
    scores, times = rng.uniform(size=N), rng.integers(0, 4, N)
    true = rng.uniform(size=N) < scores
    weighted = metrics.calibration_curve(scores, true, times)
    repeated = metrics.calibration_curve(np.repeat(scores, times), np.repeat(true, times))
    for ours, theirs in zip(weighted, repeated, strict=True):
        np.testing.assert_allclose(ours, theirs, **CLOSE)


SCORES, TRUE = [0.1, 0.4, 0.8], [0, 1, 1]
BAD = [
    ((np.ones((3, 2)), TRUE), "outputs: needs one number for each row, shape (n,) or (n, 1), got shape (3, 2)"),
    (([], []), "outputs: needs one number for each row, shape (n,) or (n, 1), got shape (0,)"),
    ((SCORES, [0, 1]), "targets: needs one for each of the 3 outputs, got 2"),
    ((SCORES, [0, 1, 2]), "targets: needs values 0 or 1, which say what is of the class, got others"),
    (([0.1, np.nan, 1], TRUE), "outputs: needs finite numbers, got nan at outputs[1]"),
    ((SCORES, TRUE, [1, 1]), "sample_weight: needs one row for each of the 3 rows of X, got 2"),
    ((SCORES, TRUE, [1, -1, 1]), "sample_weight: needs weights >= 0, got -1.0 at sample_weight[1]"),
]


@pytest.mark.parametrize("curve", [metrics.roc_curve, metrics.precision_recall_curve, metrics.calibration_curve])
@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments(curve, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        curve(*arguments)


def test_bad_bins():
    with pytest.raises(ValueError, match=r"outputs: needs probabilities in \[0, 1\], got -1 to 0.8"):
        metrics.calibration_curve([-1, 0.4, 0.8], TRUE)
    with pytest.raises(ValueError, match=r"n_bins: needs an integer >= 1, got 0"):
        metrics.calibration_curve(SCORES, TRUE, n_bins=0)
    with pytest.raises(ValueError, match=r"strategy: needs one of 'uniform', 'quantile', got 'equal'"):
        metrics.calibration_curve(SCORES, TRUE, strategy="equal")
