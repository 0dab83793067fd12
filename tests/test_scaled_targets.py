"""`scale_targets`: training sees scaled targets, and everybody else those in their own units."""

import pickle
import warnings

import backprop as bp
import numpy as np
import pytest
from backprop.learn import metrics
from backprop.model.target_scale import TargetScale
from backprop.sklearn import (
    FleetSearchCV,
    InvalidParameterError,
    MLPClassifier,
    MLPEnsembleRegressor,
    MLPRegressor,
)
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import make_regression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Z = make_regression(80, 4, n_targets=2, random_state=0)
X = StandardScaler().fit_transform(X)
TWO = 3e5 + 2e4 * Z / Z.std(axis=0) * [1.0, 0.01]  # prices, and what changes a hundred times less
ONE = TWO[:, 0]
SETTINGS = {"hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 30}
# Sums in another order: both go the same way for thirty epochs.
CLOSE = {"rtol": 1e-9}


def scaled(**settings):
    return MLPRegressor(**SETTINGS | settings, scale_targets=True)


@parametrize_with_checks([MLPRegressor(scale_targets=True)])
@pytest.mark.filterwarnings("ignore")
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("y", [ONE, TWO], ids=["one", "two"])
@pytest.mark.parametrize("settings", [{}, {"solver": "lbfgs"}, {"solver": "sgd", "learning_rate": "adaptive"}], ids=str)
def test_it_is_what_scikit_learns_wrapper_does(y, settings):
    wrapped = TransformedTargetRegressor(MLPRegressor(**SETTINGS | settings), transformer=StandardScaler()).fit(X, y)
    ours = scaled(**settings).fit(X, y)
    np.testing.assert_allclose(ours.predict(X), wrapped.predict(X), **CLOSE)
    np.testing.assert_allclose(ours.loss_, wrapped.regressor_.loss_, **CLOSE)
    assert ours.score(X, y) == pytest.approx(wrapped.score(X, y), rel=1e-7)
    np.testing.assert_allclose(ours.target_mean_, wrapped.transformer_.mean_, rtol=1e-12)
    np.testing.assert_allclose(ours.target_scale_, wrapped.transformer_.scale_, rtol=1e-12)


def test_it_helps():
    settings = {"max_iter": 500, "learning_rate_init": 0.01}
    assert scaled(**settings).fit(X, ONE).score(X, ONE) > 0.95
    assert MLPRegressor(**SETTINGS | settings).fit(X, ONE).score(X, ONE) < 0


def test_what_was_learned_is_in_the_units_of_y():
    estimator = scaled().fit(X, TWO)
    hidden = np.maximum(X @ estimator.coefs_[0] + estimator.intercepts_[0], 0)
    np.testing.assert_allclose(hidden @ estimator.coefs_[1] + estimator.intercepts_[1], estimator.predict(X), **CLOSE)
    np.testing.assert_allclose(bp.from_sklearn(estimator).predict(X), estimator.predict(X), **CLOSE)


def test_the_scores_of_early_stopping_are_those_of_y():
    estimator = scaled(early_stopping=True).fit(X, ONE, X_val=X[:20], y_val=ONE[:20])
    best = int(np.argmax(estimator.validation_scores_))
    assert best == len(estimator.validation_scores_) - 1  # so the restored network is that of the end
    expected = metrics.r2(estimator.predict(X[:20])[:, None], ONE[:20, None])
    assert estimator.validation_scores_[best] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("weight", [None, np.arange(80) % 3])
def test_weights_are_repeated_rows(weight):
    # One step for all rows, whatever their number; the penalty counts rows.
    settings = {"batch_size": 10_000, "shuffle": False, "alpha": 0.0}
    times = np.ones(80, int) if weight is None else weight
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Got `batch_size`")
        weighted = scaled(**settings).fit(X, TWO, weight)
        repeated = scaled(**settings).fit(np.repeat(X, times, axis=0), np.repeat(TWO, times, axis=0))
    np.testing.assert_allclose(weighted.target_scale_, repeated.target_scale_, rtol=1e-12)
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-6)


def test_going_on_keeps_the_scale():
    whole = scaled(max_iter=6, shuffle=False, solver="sgd", momentum=0.0).fit(X, ONE)
    parts = scaled(max_iter=3, shuffle=False, solver="sgd", momentum=0.0, warm_start=True).fit(X, ONE)
    mean = parts.target_mean_
    parts.fit(X, ONE)
    np.testing.assert_allclose(parts.predict(X), whole.predict(X), **CLOSE)
    parts.partial_fit(X[:10], ONE[:10])
    assert parts.target_mean_ is mean
    online = scaled()
    for _ in range(3):
        online.partial_fit(X, TWO)
    assert np.array_equal(online.target_scale_, scaled().fit(X, TWO).target_scale_)


@pytest.mark.parametrize("value", [0.0, 0.1, 3e5, -1e-20])
def test_constant_targets(value):
    estimator = scaled().fit(X, np.full(80, value))
    assert estimator.target_scale_[0] == 1
    assert np.abs(estimator.predict(X) - value).max() < 3  # what a network gives for targets of 0


@pytest.mark.parametrize("n", [1_000, 100_000])
@pytest.mark.parametrize("value", [0.1, 3e5, -1e-20, 1e-310])
def test_constants_of_many_rows(n, value):
    targets = np.full((n, 2), value)
    targets[:, 1] = np.arange(n)
    for weight in (None, np.linspace(0.1, 1, n)):
        scale = TargetScale.of(targets, weight)
        assert scale.deviation[0] == 1
        assert scale.deviation[1] > n / 10
    # What differs has no weight.
    targets[0, 0], weight = 1e9, np.arange(n) > 0
    assert TargetScale.of(targets, weight).deviation[0] == 1


@pytest.mark.parametrize("offset", [0, 1e6, 1e12])
def test_what_is_constant_is_what_is_so_for_scikit_learn(offset):
    targets = offset + np.arange(100.0)[:, None] * [0, 1e-7, 1e-4, 1.0]
    expected = StandardScaler().fit(targets).scale_
    np.testing.assert_allclose(TargetScale.of(targets).deviation, expected, rtol=1e-6)  # rounding, beside an offset


@pytest.mark.parametrize("unit", [1e-300, 1e-170, 1e160, 1e290])
@pytest.mark.parametrize("weight", [None, np.arange(80) % 3])
def test_tiny_and_huge_targets(unit, weight):
    scale, expected = TargetScale.of(TWO * unit, weight), TargetScale.of(TWO, weight)
    np.testing.assert_allclose(scale.deviation / unit, expected.deviation, rtol=1e-12)
    estimator = scaled().fit(X, ONE * unit, weight)
    np.testing.assert_allclose(estimator.predict(X) / unit, scaled().fit(X, ONE, weight).predict(X), rtol=1e-6)


def test_float32():
    estimator = scaled(max_iter=300, learning_rate_init=0.01).fit(X.astype(np.float32), ONE)
    assert estimator.predict(X[:1].astype(np.float32)).dtype == estimator.coefs_[-1].dtype == np.float32
    assert estimator.score(X.astype(np.float32), ONE) > 0.95


def test_it_goes_with_clones_pickles_ensembles_folds_and_searches():
    estimator = scaled().fit(X, ONE)
    for other in (clone(estimator).fit(X, ONE), pickle.loads(pickle.dumps(estimator))):
        assert np.array_equal(other.predict(X), estimator.predict(X))
    settings = SETTINGS | {"scale_targets": True, "max_iter": 300, "learning_rate_init": 0.01}
    assert MLPEnsembleRegressor(**settings, n_estimators=2).fit(X, ONE).score(X, ONE) > 0.9
    assert MLPRegressor(**settings, bagging=3).fit(X, ONE).oof_score_ > 0.5
    grid = {"alpha": [0.0, 0.1], "scale_targets": [True, False]}
    found = [search(MLPRegressor(**SETTINGS), grid, cv=2).fit(X, ONE) for search in (FleetSearchCV, GridSearchCV)]
    names = ["mean_test_score", "std_test_score"]
    assert all(np.array_equal(found[0].cv_results_[name], found[1].cv_results_[name]) for name in names)
    assert found[0].best_params_["scale_targets"]


def test_it_can_be_taken_back():
    estimator = scaled().fit(X, ONE)
    estimator.set_params(scale_targets=False).fit(X, ONE)
    assert not hasattr(estimator, "target_scale_")
    assert np.array_equal(estimator.predict(X), MLPRegressor(**SETTINGS).fit(X, ONE).predict(X))


BAD = [
    ({"loss": "poisson"}, "scale_targets: needs a loss with the identity as output and .* any size, got poisson"),
    ({"loss": "binary_cross_entropy"}, "any size, got binary_cross_entropy"),
    ({"loss": "hinge"}, "any size, got hinge"),
    ({"loss": "gamma"}, "any size, got gamma"),
    ({"scale_targets": 1}, "scale_targets: needs True or False, got 1"),
]


@pytest.mark.parametrize(("settings", "message"), BAD)
def test_what_is_refused(settings, message):
    with pytest.raises(InvalidParameterError, match=message):
        MLPRegressor(**{**SETTINGS, "scale_targets": True, **settings}).fit(X, np.abs(ONE))


@pytest.mark.parametrize("loss", ["absolute_error", "huber", "log_cosh"])
def test_other_losses(loss):
    estimator = scaled(loss=loss, max_iter=300, learning_rate_init=0.01).fit(X, ONE)
    assert np.abs(estimator.predict(X) - ONE).mean() < 0.5 * np.abs(ONE - ONE.mean()).mean()


def test_quantiles():
    loss = bp.losses.Quantile(quantile=0.9)
    estimator = scaled(loss=loss, max_iter=1000, learning_rate_init=0.01).fit(X, ONE)
    assert (estimator.predict(X) > ONE).mean() > 0.8


def test_classifiers_have_no_such_thing():
    assert "scale_targets" not in MLPClassifier().get_params()


def test_targets_in_units_that_do_not_fit_into_float32():
    model = scaled(max_iter=2, dtype="float32")
    with pytest.raises(ValueError, match=r"y: needs numbers that fit into float32, got .*; scale them or use dtype"):
        model.fit(X, 1e40 * ONE)
