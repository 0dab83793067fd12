"""The estimators beside scikit-learn's: the same numbers, attributes and errors; and what they have more."""

import importlib
import pickle
import warnings

import backprop as bp
import joblib
import numpy as np
import pytest
from backprop.backends import choice
from backprop.base.interrupts import HeldInterrupts
from backprop.learn import pace
from backprop.optimizers import OPTIMIZERS
from backprop.sklearn import FleetSearchCV, InvalidParameterError, MLPClassifier, MLPRegressor
from backprop.sklearn.descent import Descent
from scipy import sparse
from sklearn import config_context, neural_network
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_iris,
    make_multilabel_classification,
    make_regression,
)
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, FitFailedWarning, NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IRIS = StandardScaler().fit_transform(load_iris().data), load_iris().target
CANCER = StandardScaler().fit_transform(load_breast_cancer().data), load_breast_cancer().target
DIABETES = load_diabetes().data * 20, (load_diabetes().target - 150) / 75
MULTILABEL = make_multilabel_classification(80, 6, n_classes=3, random_state=0)
MULTIOUTPUT = DIABETES[0], np.column_stack([DIABETES[1], DIABETES[0][:, 2:4]])
PROBLEMS = {
    "multiclass": ("MLPClassifier", *IRIS),
    "binary": ("MLPClassifier", *CANCER),
    "multilabel": ("MLPClassifier", *MULTILABEL),
    "regression": ("MLPRegressor", *DIABETES),
    "multioutput": ("MLPRegressor", *MULTIOUTPUT),
}
each_problem = pytest.mark.parametrize("problem", PROBLEMS)
each_estimator = pytest.mark.parametrize("Estimator", [MLPClassifier, MLPRegressor])


def kind(name):
    return {"MLPClassifier": MLPClassifier, "MLPRegressor": MLPRegressor}[name]


@pytest.fixture(params=[choice.available()[0], choice.REFERENCE])
def computed_by(request, monkeypatch):
    """The best backend and the reference, in turn the default."""
    monkeypatch.setattr(choice, "default", lambda: choice.load(request.param))
    return request.param


def pair(problem, sample_weight=None, fits=1, **settings):
    """scikit-learn's estimator and ours, fitted with the same settings; rows are not shuffled unless they say so."""
    name, X, y = PROBLEMS[problem]
    settings = {"random_state": 0, "hidden_layer_sizes": (12,), "shuffle": False, "max_iter": 50, **settings}
    theirs, ours = getattr(neural_network, name)(**settings), kind(name)(**settings)
    for _ in range(fits):
        for estimator in (theirs, ours):
            estimator.fit(X, y, sample_weight=sample_weight)
    return theirs, ours


def assert_same(theirs, ours, tolerance=1e-9, losses=True):
    """Losses to `tolerance` (rounding, which some hundred steps amplify; asked for are 1e-6), the rest as it should."""
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.t_ == theirs.t_
    if losses:
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=tolerance)
    for name in ("coefs_", "intercepts_"):
        for one, other in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-7)
    for name in ("validation_scores_", "best_validation_score_", "best_loss_"):
        if losses and getattr(theirs, name, None) is not None:
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-6)
        else:
            assert (getattr(ours, name, 0) is None) == (getattr(theirs, name, 0) is None)
    for name in ("n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name)


# --- scikit-learn's own checks -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([
    MLPClassifier(), MLPClassifier(solver="lbfgs", max_iter=20),  # more would make probabilities of 1 in float32
    MLPRegressor(), MLPRegressor(solver="lbfgs"),
    MLPRegressor(solver="bayesian", hidden_layer_sizes=(8,)),
])  # fmt: skip
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


# These look at private attributes of scikit-learn's estimators, or at the words of a message that here names the label;
# the last one wants a model of a training that has diverged.
NOT_OURS = {
    "test_gradient",
    "test_adaptive_learning_rate",
    "test_learning_rate_warmstart",
    "test_early_stopping_stratified",
    "test_mlp_diverging_loss",
}


def own_tests_of_scikit_learn():
    """The tests that scikit-learn has for its own estimators, with the arguments that it runs them with."""
    module = importlib.import_module("sklearn.neural_network.tests.test_mlp")
    for name, function in vars(module).items():
        if not name.startswith("test_") or name in NOT_OURS:
            continue
        cases = [{}]
        for mark in getattr(function, "pytestmark", []):
            if mark.name == "parametrize":
                names = mark.args[0] if isinstance(mark.args[0], (list, tuple)) else mark.args[0].split(",")
                names = [part.strip() for part in names]
                rows = [row if len(names) > 1 else (row,) for row in mark.args[1]]
                cases = [case | dict(zip(names, row, strict=True)) for case in cases for row in rows]
        for k, case in enumerate(cases):
            yield pytest.param(module, function, case, id=f"{name}-{k}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("module", "function", "arguments"), list(own_tests_of_scikit_learn()))
def test_tests_of_scikit_learn(module, function, arguments, monkeypatch, request):
    for estimator in (MLPClassifier, MLPRegressor):
        monkeypatch.setattr(module, estimator.__name__, estimator)
    arguments = {name: kind(value.__name__) if hasattr(value, "fit") else value for name, value in arguments.items()}
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    for name in set(names) - set(arguments):
        arguments[name] = 0 if name == "global_random_seed" else request.getfixturevalue(name)
    function(**arguments)


# --- the same numbers ----------------------------------------------------------------------------------------------


@each_problem
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"batch_size": 32, "alpha": 1.0, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3},
        *(
            {
                "solver": "sgd",
                "learning_rate": rate,
                "nesterovs_momentum": nesterov,
                "momentum": momentum,
                "batch_size": 64,
                "alpha": 0.1,
                "learning_rate_init": 0.01,
            }
            for rate in ("constant", "invscaling", "adaptive")
            for nesterov, momentum in ((True, 0.9), (False, 0.9), (True, 0.0))
        ),
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_losses_follow_those_of_scikit_learn(problem, settings, computed_by):
    theirs, ours = pair(problem, **settings)
    # The penalty in the reported loss of several outputs is divided by their number.
    assert_same(theirs, ours, losses=problem != "multioutput")


def test_losses_of_several_outputs_without_penalty(computed_by):
    assert_same(*pair("multioutput", alpha=0, batch_size=64))


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("problem", ["multiclass", "regression"])
def test_activations_and_depths(problem, activation):
    for sizes in ((), 7, [5, 4, 3]):
        assert_same(*pair(problem, activation=activation, hidden_layer_sizes=sizes))


@pytest.mark.parametrize("problem", ["multiclass", "binary", "multilabel", "regression"])
def test_weights_of_samples(problem):
    n = len(PROBLEMS[problem][1])
    weight = np.random.default_rng(0).uniform(0, 2, n)
    weight[:5] = 0
    assert_same(*pair(problem, weight, batch_size=n, alpha=0.1))
    # In batches the steps are the same; an epoch's loss weighs its batches by weight, not by rows.
    assert_same(*pair(problem, weight, batch_size=50, alpha=0.1), losses=False)


def test_poisson_loss():
    X, y = MULTIOUTPUT
    for targets in (np.exp(y[:, 0]), np.exp(y)):
        settings = {"loss": "poisson", "random_state": 0, "shuffle": False, "max_iter": 50}
        assert_same(neural_network.MLPRegressor(**settings).fit(X, targets), MLPRegressor(**settings).fit(X, targets))


@each_problem
@pytest.mark.parametrize("shuffle", [False, True])
def test_initial_weights_are_the_same(problem, shuffle):
    theirs, ours = pair(problem, learning_rate_init=1e-300, max_iter=1, shuffle=shuffle, activation="logistic")
    for one, other in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_array_equal(one, other)


@each_problem
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("schedule", ["constant", "adaptive"])
def test_stop_on_a_plateau(problem, solver, schedule):
    theirs, ours = pair(
        problem, max_iter=3000, tol=1e-3, n_iter_no_change=3, solver=solver, learning_rate=schedule, alpha=0
    )
    assert theirs.n_iter_ < 3000
    # Over hundreds of epochs rounding grows a little.
    assert_same(theirs, ours, tolerance=1e-6)
    assert ours._no_improvement_count == theirs._no_improvement_count


@each_problem
@pytest.mark.parametrize("schedule", ["constant", "adaptive"])
def test_early_stopping(problem, schedule):
    theirs, ours = pair(
        problem, max_iter=1000, early_stopping=True, solver="sgd", learning_rate=schedule, learning_rate_init=0.01
    )
    assert theirs.n_iter_ < 1000
    assert_same(theirs, ours, losses=problem != "multioutput")
    np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, rtol=1e-6)


@pytest.mark.parametrize("problem", ["multiclass", "regression"])
@pytest.mark.parametrize("settings", [{}, {"early_stopping": True}, {"solver": "sgd", "learning_rate": "invscaling"}])
def test_warm_start(problem, settings):
    theirs, ours = pair(problem, fits=3, warm_start=True, max_iter=20, **settings)
    # scikit-learn goes on writing into the best weights of the call before, so that they are not the best any more.
    if "early_stopping" not in settings:
        assert_same(theirs, ours)
        assert len(ours.loss_curve_) == 60


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("settings", [{}, *({"solver": "sgd", "learning_rate": rate} for rate in ("invscaling",))])
def test_partial_fit(problem, settings):
    name, X, y = PROBLEMS[problem]
    settings = {"random_state": 0, "hidden_layer_sizes": (12,), "shuffle": False, **settings}
    theirs, ours = getattr(neural_network, name)(**settings), kind(name)(**settings)
    classes = {"classes": np.unique(y)} if name == "MLPClassifier" and y.ndim == 1 else {}
    if y.dtype.kind == "i" and y.ndim == 2:
        classes = {"classes": np.arange(3)}
    for estimator in (theirs, ours):
        for start in (0, 40, 20, 0, 20):
            estimator.partial_fit(X[start : start + 60], y[start : start + 60], **classes)
    assert_same(theirs, ours, losses=problem != "multioutput")


def test_partial_fit_goes_on_from_fit():
    for name, X, y in (PROBLEMS["multiclass"], PROBLEMS["regression"]):
        models = getattr(neural_network, name), kind(name)
        theirs, ours = (model(random_state=0, shuffle=False, max_iter=5).fit(X, y) for model in models)
        for estimator in (theirs, ours):
            for _ in range(3):
                estimator.partial_fit(X, y)
        assert_same(theirs, ours)


@each_problem
def test_lbfgs_reaches_the_same_minimum(problem):
    """From the same start; where scikit-learn's value and gradient do not belong together, at least as low."""
    theirs, ours = pair(problem, solver="lbfgs", max_iter=30, alpha=0.1, activation="tanh")
    if problem == "multioutput":
        X, y = MULTIOUTPUT
        assert ours.score(X, y) > theirs.score(X, y) - 0.02
        return
    # A different last digit may send the line search another way; seen up to 2e-4.
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=1e-2)
    assert not hasattr(ours, "loss_curve_")
    assert not hasattr(ours, "best_loss_")


@each_problem
def test_predictions(problem):
    """With scikit-learn's own weights, whatever the dtype and layout of X."""
    name, X, _y = PROBLEMS[problem]
    theirs, ours = pair(problem, max_iter=5)
    ours.coefs_, ours.intercepts_ = theirs.coefs_, theirs.intercepts_
    for rows in (X, X.astype(np.float32), np.asfortranarray(X), X.tolist(), sparse.csr_array(X), sparse.csc_array(X)):
        for method in ("predict", "predict_proba", "predict_log_proba") if name == "MLPClassifier" else ("predict",):
            one, other = getattr(ours, method)(rows), getattr(theirs, method)(rows)
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-12)


def test_the_logarithm_of_a_probability_of_zero():
    X, y = IRIS
    model = MLPClassifier(activation="relu", max_iter=5, random_state=0).fit(X, y)
    impossible = model.predict_proba(X * 1e9) == 0
    assert impossible.any()
    np.testing.assert_array_equal(model.predict_log_proba(X * 1e9) == -np.inf, impossible)


@each_estimator
def test_dtypes(Estimator):
    X, y = IRIS
    for dtype in (np.float32, np.float64):
        model = Estimator(max_iter=2, random_state=0).fit(X.astype(dtype), y)
        theirs = getattr(neural_network, Estimator.__name__)(max_iter=2, random_state=0).fit(X.astype(dtype), y)
        assert {part.dtype for part in model.coefs_ + model.intercepts_} == {np.dtype(dtype)}
        for other in (np.float32, np.float64, int):
            one = model.predict_proba if is_classifier(model) else model.predict
            two = theirs.predict_proba if is_classifier(model) else theirs.predict
            assert one(X.astype(other)).dtype == two(X.astype(other)).dtype
    model = Estimator(max_iter=2, dtype="float32").fit(X, y)
    assert model.coefs_[0].dtype == np.float32
    assert Estimator(max_iter=2, dtype="float32", solver="lbfgs").fit(X, y).coefs_[0].dtype == np.float32
    with pytest.raises(ValueError, match="fit into float32"):
        model.predict(X * 1e300)


def test_weights_changed_by_hand_count():
    X, y = IRIS
    model = MLPClassifier(max_iter=2).fit(X, y)
    model.coefs_[-1][...] = 0
    model.intercepts_[-1][...] = [0, 1000, 0]
    assert (model.predict(X) == 1).all()
    model.intercepts_ = [np.zeros_like(b) for b in model.intercepts_]
    np.testing.assert_allclose(model.predict_proba(X), 1 / 3)


# --- labels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "y",
    [
        np.array(["no", "yes"] * 20),
        np.array(["no", "yes", "maybe", "no"] * 10),
        np.array(["no", "yes", "maybe", "no"] * 10, dtype=object),
        np.array([True, False] * 20),
        np.array([3.0, -1.0, 7.0, 3.0] * 10),
        np.array([3, -1, 7, 3] * 10, dtype=np.int8),
        ["b", "a"] * 20,
    ],
    ids=str,
)
def test_labels(y):
    X = np.random.default_rng(0).normal(size=(40, 3))
    theirs, ours = neural_network.MLPClassifier(max_iter=3), MLPClassifier(max_iter=3)
    theirs.fit(X, y)
    ours.fit(X, y)
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    assert ours.classes_.dtype == theirs.classes_.dtype
    assert ours.predict(X).dtype == theirs.predict(X).dtype
    assert set(ours.predict(X)) <= set(y)


def test_one_class():
    model = MLPClassifier(max_iter=3).fit([[0.0], [1.0]], ["only", "only"])
    assert model.predict([[5.0]]).tolist() == ["only"]
    assert model.predict_proba([[5.0]]).tolist() == [[1.0]]


def test_sparse_labels():
    X, y = MULTILABEL
    model = MLPClassifier(max_iter=3, random_state=0).fit(X, sparse.csr_matrix(y))
    assert sparse.issparse(model.predict(X))
    dense = MLPClassifier(max_iter=3, random_state=0).fit(X, y).predict(X)
    np.testing.assert_array_equal(model.predict(X).toarray(), dense)


def test_targets_that_are_none():
    X = np.zeros((4, 2))
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        MLPClassifier().fit(X, [0.5, 1.5, 2.5, 3.5])
    with pytest.raises(ValueError, match="one column of classes"):
        MLPClassifier().fit(X, [[0, 1], [2, 3], [4, 5], [6, 7]])
    with pytest.warns(DataConversionWarning):
        MLPClassifier(max_iter=1).fit(X, [[0], [1], [0], [1]])
    with pytest.raises(ValueError, match=">= 0 for poisson"):
        MLPRegressor("poisson").fit(X, [1, 2, 3, -1])


def test_partial_fit_and_its_classes():
    X, y = IRIS
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        MLPClassifier().partial_fit(X, y)
    model = MLPClassifier().partial_fit(X[:100], y[:100], classes=[0, 1, 2])
    assert model.n_outputs_ == 3
    with pytest.raises(ValueError, match="what it was in the first call"):
        model.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="has classes not in"):
        model.partial_fit(X, y + 1)
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")
    with pytest.raises(ValueError, match="class_weight"):
        MLPClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])


def test_partial_fit_goes_on_from_lbfgs():
    X, y = IRIS
    model = MLPClassifier(5, solver="lbfgs", max_iter=5, random_state=0).fit(X, y)
    weights, loss = model.coefs_[0].copy(), model.loss_
    model.set_params(solver="sgd", learning_rate_init=1e-4).partial_fit(X, y)
    assert model.loss_curve_ == [model.loss_]
    assert model.loss_ == pytest.approx(loss, rel=1e-2)
    np.testing.assert_allclose(model.coefs_[0], weights, atol=1e-2)


def test_early_stopping_may_change_between_warm_starts():
    X, y = IRIS
    model = MLPClassifier(5, warm_start=True, max_iter=2, random_state=0).fit(X, y)
    assert model.validation_scores_ is None
    model.set_params(early_stopping=True).fit(X, y)
    assert len(model.validation_scores_) == 2
    assert model.best_loss_ is None
    model.set_params(early_stopping=False).fit(X, y)
    assert model.validation_scores_ is None
    assert model.best_loss_ == min(model.loss_curve_[-2:])


# --- what there is more --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in bp.ACTIVATIONS if name not in ("softmax", "exp")])
def test_any_activation(name):
    X, y = IRIS
    assert MLPClassifier(20, name, max_iter=400, learning_rate_init=0.01, random_state=0).fit(X, y).score(X, y) > 0.9


def test_activations_by_layer():
    X, y = IRIS
    model = MLPClassifier((8, 6), ("tanh", "relu"), random_state=0, max_iter=3).fit(X, y)
    hidden = np.maximum(np.tanh(X @ model.coefs_[0] + model.intercepts_[0]) @ model.coefs_[1] + model.intercepts_[1], 0)
    scores = np.exp(hidden @ model.coefs_[2] + model.intercepts_[2])
    np.testing.assert_allclose(model.predict_proba(X), scores / scores.sum(axis=1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(bp.from_sklearn(model).predict(X), model.predict_proba(X), rtol=1e-12)


def test_dropout():
    X, y = IRIS
    one, other = (MLPClassifier(30, dropout=rate, random_state=0, max_iter=50).fit(X, y) for rate in (0.0, 0.5))
    assert other.loss_curve_[-1] > one.loss_curve_[-1]
    again = MLPClassifier((30,), dropout=[0.5], random_state=0, max_iter=50).fit(X, y)
    assert again.loss_curve_ == other.loss_curve_
    assert MLPClassifier(30, dropout=0.5, random_state=1, max_iter=50).fit(X, y).loss_curve_ != other.loss_curve_


@pytest.mark.parametrize("problem", ["multiclass", "binary", "multilabel"])
def test_class_weight(problem):
    _, X, y = PROBLEMS[problem]
    if y.ndim == 1:
        weights = {0: 2.0, 1: 0.5, 2: 1.0} if problem == "multiclass" else {0: 3.0, 1: 0.5}
        by_hand = np.array([weights[label] for label in y])
    else:
        weights = [{0: 1.0, 1: 2.0}, {0: 0.5, 1: 1.0}, {0: 1.0, 1: 1.0}]
        by_hand = np.prod([[w[label] for label in column] for w, column in zip(weights, y.T, strict=True)], axis=0)
    settings = {"random_state": 0, "max_iter": 10}
    sample_weight = np.linspace(0.5, 1, len(X))
    one = MLPClassifier(class_weight=weights, **settings).fit(X, y, sample_weight)
    other = MLPClassifier(**settings).fit(X, y, sample_weight * by_hand)
    np.testing.assert_allclose(one.loss_curve_, other.loss_curve_, rtol=1e-12)
    assert MLPClassifier(class_weight="balanced", **settings).fit(X, y).n_iter_ == 10


@pytest.mark.parametrize(
    ("class_weight", "error"),
    [
        ({0: -1.0, 1: 1.0}, r"class_weight\[0\]: needs a number >= 0"),
        ({0: np.nan}, r"class_weight\[0\]: needs a finite number"),
        ({1: "a"}, r"class_weight\[1\]: needs a number"),
        ("fair", "class_weight: needs a dictionary, 'balanced' or None"),
        ([1.0, 2.0], "class_weight: needs a dictionary, 'balanced' or None"),
        ({0: 0.0, 1: 0.0}, "class_weight: need at least one weight > 0 among the samples that are learned from"),
        ({0: 1e308}, "class_weight times sample_weight: needs finite numbers"),
    ],
)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_class_weights_are_checked(class_weight, error, solver):
    _, X, y = PROBLEMS["binary"]
    model = MLPClassifier(class_weight=class_weight, solver=solver, max_iter=2)
    with pytest.raises((TypeError, ValueError), match=error):
        model.fit(X, y, np.full(len(X), 10.0))


@pytest.mark.parametrize("held_out", [True, False], ids=["held out", "learned from"])
@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_weights_of_zero_in_one_part_of_early_stopping(cls, held_out, monkeypatch):
    X, y = IRIS
    first = np.arange(len(X)) < 10
    monkeypatch.setattr(cls, "_split", lambda *_: (np.flatnonzero(~first), np.flatnonzero(first)))
    with pytest.raises(ValueError, match="validated with" if held_out else "learned from"):
        cls(early_stopping=True, max_iter=3).fit(X, y, np.where(first == held_out, 0.0, 1.0))


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_a_classifier_refuses_losses_of_other_targets(loss):
    with pytest.raises(ValueError, match=f"loss: {loss} needs targets of "):
        MLPClassifier(loss=loss).fit(IRIS[0][:100], 2 * IRIS[1][:100] - 1)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", bp.losses.Huber(delta=0.5), "log_loss"])
def test_losses_of_classifiers(loss):
    for X, y in (IRIS, CANCER, MULTILABEL):
        model = MLPClassifier(20, loss=loss, random_state=0, max_iter=300, learning_rate_init=0.01).fit(X, y)
        assert model.score(X, y) > (0.5 if y.ndim == 2 else 0.8)


@pytest.mark.parametrize("loss", ["absolute_error", "huber", "quantile", bp.losses.Quantile(quantile=0.9)])
def test_losses_of_regressors(loss):
    X, y = DIABETES
    model = MLPRegressor(loss, 20, random_state=0, max_iter=300).fit(X, y)
    below = np.mean(y < model.predict(X))
    assert abs(below - getattr(loss, "quantile", 0.5)) < 0.1
    assert model.out_activation_ == "identity"


def test_regression_of_shares():
    X, y = DIABETES
    shares = 1 / (1 + np.exp(-y))
    model = MLPRegressor("binary_cross_entropy", random_state=0, max_iter=50).fit(X, shares)
    assert model.out_activation_ == "logistic"
    assert 0 < model.predict(X).min() < model.predict(X).max() < 1
    both = np.column_stack([shares, 1 - shares])
    model = MLPRegressor("cross_entropy", random_state=0, max_iter=50).fit(X, both)
    np.testing.assert_allclose(model.predict(X).sum(axis=1), 1)


def test_losses_of_ones_own():
    def half_squared_error(outputs, targets):
        error = outputs - targets
        return 0.5 * np.mean(error**2), error / error.size

    X, y = DIABETES
    settings = {"random_state": 0, "max_iter": 5, "shuffle": False}
    one, other = MLPRegressor(half_squared_error, **settings).fit(X, y), MLPRegressor(**settings).fit(X, y)
    np.testing.assert_allclose(one.loss_curve_, other.loss_curve_, rtol=1e-9)
    same = MLPRegressor(bp.losses.Custom(half_squared_error), **settings).fit(X, y)
    assert same.loss_curve_ == one.loss_curve_
    with pytest.raises(ValueError, match="solver='lbfgs'"):
        MLPRegressor(half_squared_error, solver="lbfgs").fit(X, y)


@pytest.mark.parametrize("solver", [*OPTIMIZERS, bp.SGD(learning_rate=0.1, momentum=0.5), bp.Adam()])
def test_any_optimizer(solver):
    X, y = IRIS
    rate = 1.0 if solver == "adadelta" else 0.01
    settings = {"random_state": 0, "max_iter": 400, "learning_rate_init": rate}
    model = MLPClassifier(20, solver=solver, **settings).fit(X, y)
    assert model.loss_curve_[-1] < model.loss_curve_[0] / 2
    model.partial_fit(X, y)
    assert clone(model).fit(X, y).loss_curve_ == model.loss_curve_[:-1]


def test_learning_rates():
    X, y = IRIS
    model = MLPClassifier(5, solver="sgd", learning_rate="invscaling", max_iter=2, batch_size=50).fit(X, y)
    assert model.learning_rate_ == 0.001 / (300 + 1) ** 0.5
    falling = bp.schedules.Exponential(decay=0.5, every="epoch")
    model = MLPClassifier(5, solver="sgd", learning_rate=falling, max_iter=3, batch_size=50).fit(X, y)
    assert model.learning_rate_ == 0.001 / 8
    same = MLPClassifier(5, solver="adam", learning_rate=lambda step: 1.0, random_state=0, max_iter=3).fit(X, y)
    assert same.loss_curve_ == MLPClassifier(5, random_state=0, max_iter=3).fit(X, y).loss_curve_


def test_long_runs_come_in_pieces(monkeypatch):
    """Neither the slices of time nor the pieces of the record show."""
    X, y = IRIS
    settings = {"random_state": 0, "max_iter": 30, "batch_size": 20, "solver": "sgd", "learning_rate": "invscaling"}
    whole = MLPClassifier(5, **settings).fit(X, y)
    monkeypatch.setattr(pace, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr("backprop.sklearn.descent._EPOCHS_AT_ONCE", 7)
    assert MLPClassifier(5, **settings).fit(X, y).loss_curve_ == whole.loss_curve_


@pytest.mark.parametrize("schedule", ["constant", "invscaling", "adaptive"])
def test_many_epochs_pass_in_one_call_of_the_core(schedule, monkeypatch):
    X, y = IRIS
    calls = []
    advance = Descent.advance
    monkeypatch.setattr(pace, "SLICE_SECONDS", 1e9)
    monkeypatch.setattr(Descent, "advance", lambda self, last: calls.append(last) or advance(self, last))
    settings = {"solver": "sgd", "learning_rate": schedule, "n_iter_no_change": np.inf, "max_iter": 3000}
    MLPClassifier(5, **settings).fit(X, y, X_val=X, y_val=y)
    assert calls == [1000, 2000, 3000]


@pytest.mark.parametrize("problem", ["multiclass", "binary", "multilabel", "regression", "multioutput"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_validation_samples(problem, early_stopping):
    name, X, y = PROBLEMS[problem]
    learn, hold = slice(0, None, 2), slice(1, None, 2)
    settings = {"random_state": 0, "max_iter": 30, "alpha": 0, "early_stopping": early_stopping}
    weight = np.linspace(1, 2, len(X[hold]))
    model = kind(name)(**settings).fit(X[learn], y[learn], X_val=X[hold], y_val=y[hold], sample_weight_val=weight)
    assert len(model.validation_loss_curve_) == model.n_iter_
    if early_stopping:
        assert model.best_validation_score_ == max(model.validation_scores_)
        assert model.score(X[hold], y[hold], weight) == pytest.approx(model.best_validation_score_)
    else:
        assert model.validation_scores_ is None
        outputs = bp.from_sklearn(model).predict(X[hold])
        expected = {
            "multiclass": lambda a, t: -np.log(a[np.arange(len(a)), t]),
            "binary": lambda a, t: -np.log(np.where(t == 1, a[:, 0], 1 - a[:, 0])),
            "multilabel": lambda a, t: -np.log(np.where(t == 1, a, 1 - a)).sum(axis=1),
            "regression": lambda a, t: (a[:, 0] - t) ** 2 / 2,
            "multioutput": lambda a, t: ((a - t) ** 2 / 2).mean(axis=1),
        }[problem](outputs, y[hold])
        assert model.validation_loss_curve_[-1] == pytest.approx(np.average(expected, weights=weight), rel=1e-9)


def test_validation_samples_in_a_pipeline():
    X, y = load_iris(return_X_y=True)
    with config_context(enable_metadata_routing=True):
        model = MLPClassifier(20, early_stopping=True, max_iter=20).set_fit_request(X_val=True, y_val=True)
        pipeline = Pipeline([("scale", StandardScaler()), ("model", model)], transform_input=["X_val"])
        pipeline.fit(X[::2], y[::2], X_val=X[1::2], y_val=y[1::2])
    scaled = pipeline.named_steps["scale"].transform(X[1::2])
    fitted = pipeline.named_steps["model"]
    assert fitted.score(scaled, y[1::2]) == pytest.approx(fitted.best_validation_score_)


def test_metadata_routing():
    with config_context(enable_metadata_routing=True):
        model = MLPClassifier(20, max_iter=5, random_state=0)
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        X, y = IRIS
        scores = cross_val_score(model, X, y, params={"sample_weight": np.ones(len(X))})
    assert len(scores) == 5


@pytest.mark.parametrize("n_threads", [1, 2, "auto"])
def test_threads(n_threads):
    X, y = IRIS
    settings = {"hidden_layer_sizes": 300, "batch_size": 150, "random_state": 0, "max_iter": 5}
    model = MLPClassifier(n_threads=n_threads, **settings).fit(X, y)
    assert model.loss_curve_ == MLPClassifier(n_threads=1, **settings).fit(X, y).loss_curve_


def test_verbose(capsys):
    X, y = IRIS
    for module in (neural_network, bp.sklearn):
        for settings in (
            {"solver": "sgd", "learning_rate": "adaptive", "max_iter": 60, "n_iter_no_change": 3, "tol": 0.01},
            {"early_stopping": True, "tol": 0.1, "max_iter": 30},
        ):
            module.MLPClassifier(verbose=True, random_state=0, shuffle=False, **settings).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    half = len(lines) // 2
    assert lines[:half] == lines[half:]
    MLPClassifier(verbose="progress", max_iter=3).fit(X, y)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3/3" in captured.err


def test_callbacks():
    X, y = IRIS
    seen = []

    class Tell(bp.callbacks.Callback):
        every = 3

        def on_train_begin(self, network, logs):
            seen.append("begin")

        def on_epoch_begin(self, network, epoch, logs):
            seen.append(-epoch)

        def on_epoch_end(self, network, epoch, logs):
            assert set(logs) == {"loss", "val_loss", "val_accuracy", "learning_rate"}
            seen.append(epoch)

        def on_train_end(self, network, logs):
            seen.append(network.history.stop_reason)

    settings = {"early_stopping": True, "random_state": 0}
    plain = MLPClassifier(5, max_iter=7, **settings).fit(X, y)
    model = MLPClassifier(5, max_iter=7, callbacks=[Tell()], **settings).fit(X, y)
    assert seen == ["begin", -1, 3, -4, 6, -7, "epochs"]
    assert model.loss_curve_ == plain.loss_curve_
    assert model.validation_scores_ == plain.validation_scores_
    # They are told apart from the rule of the estimator.
    best = bp.callbacks.EarlyStopping("val_accuracy", patience=3, restore_best=True)
    model = MLPClassifier(5, max_iter=1000, n_iter_no_change=100, callbacks=[best], **settings).fit(X, y)
    assert model.n_iter_ < 1000
    assert best.best == model.best_validation_score_


def test_an_epoch_begins_once(monkeypatch):
    """Also where its first step takes longer than a call of the core."""
    monkeypatch.setattr(pace, "SLICE_SECONDS", 0.0)
    seen = []
    tell = bp.callbacks.LambdaCallback(on_epoch_begin=lambda network, epoch, logs: seen.append(epoch))
    X = np.random.default_rng(0).normal(size=(1000, 3))
    settings = {"hidden_layer_sizes": (150, 150), "batch_size": 1000, "max_iter": 3, "random_state": 0}
    MLPRegressor(callbacks=[tell], **settings).fit(X, X[:, 0])
    assert seen == [1, 2, 3]


def test_callbacks_steer(tmp_path):
    X, y = IRIS
    settings = {"max_iter": 30, "random_state": 0, "solver": "sgd"}

    class Steer(bp.callbacks.Callback):
        scales_learning_rate = True

        def on_epoch_end(self, network, epoch, logs):
            network.scale_learning_rate(0.5)
            if epoch == 4:
                network.stop()

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that training was stopped is not a failure to converge
        model = MLPClassifier(5, callbacks=[Steer()], **settings).fit(X, y)
    assert (model.n_iter_, model.learning_rate_) == (4, 0.001 / 16)
    halved = bp.schedules.Exponential(decay=0.5, every="epoch")
    same = MLPClassifier(5, learning_rate=halved, **{**settings, "max_iter": 4}).fit(X, y)
    np.testing.assert_allclose(model.loss_curve_, same.loss_curve_, rtol=1e-12)

    path = tmp_path / "net.safetensors"
    model = MLPClassifier(5, callbacks=[bp.callbacks.Checkpoint(path)], **settings).fit(X, y)
    np.testing.assert_array_equal(bp.load(path).predict(X), model.predict_proba(X))


def test_callbacks_that_are_wrong():
    X, y = IRIS
    for settings, message in (
        ({"callbacks": [bp.callbacks.EarlyStopping("val_loss")]}, "needs a monitor that is recorded, 'loss'"),
        ({"callbacks": [print]}, "needs a Callback"),
        ({"callbacks": [bp.callbacks.Callback()], "solver": "lbfgs"}, "need a stochastic solver"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            MLPClassifier(**settings).fit(X, y)

    class Broken(bp.callbacks.Callback):
        def on_epoch_end(self, network, epoch, logs):
            if epoch == 3:
                raise RuntimeError("broken")

    model = MLPClassifier(5, callbacks=[Broken()], random_state=0)
    with pytest.raises(RuntimeError, match="broken"):
        model.fit(X, y)
    same = MLPClassifier(5, max_iter=3, random_state=0).fit(X, y)
    np.testing.assert_array_equal(model.coefs_[0], same.coefs_[0])


# --- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_layer_sizes": (5, 0)}, r"hidden_layer_sizes\[1\]: needs an integer >= 1, got 0"),
        ({"hidden_layer_sizes": "5"}, "hidden_layer_sizes: needs an integer"),
        ({"activation": "rely"}, "activation: needs one of 'logistic', 'identity'"),
        ({"activation": "softmax"}, "activation: needs one of"),
        ({"activation": ["relu"] * 2}, "activation: needs one value for each of the 1 hidden layers, got 2"),
        ({"activation": 3}, "activation: needs one value, or a sequence with one per hidden layer, got 3"),
        ({"solver": "bfgs"}, "solver: needs one of 'lbfgs', "),
        ({"solver": bp.AdamW}, r"solver: needs an object, got the class AdamW; write AdamW\(\)"),
        ({"alpha": -1}, "alpha: needs a number >= 0"),
        ({"batch_size": 0}, "batch_size: needs an integer >= 1"),
        ({"batch_size": None}, "batch_size: needs an integer"),
        ({"learning_rate": "cosine"}, "learning_rate: needs one of 'constant', 'invscaling', 'adaptive'"),
        ({"learning_rate": 0.1}, "learning_rate: needs"),
        ({"learning_rate_init": 0}, "learning_rate_init: needs a number > 0"),
        ({"power_t": -1}, "power_t"),
        ({"max_iter": 0}, "max_iter: needs an integer >= 1"),
        ({"tol": -1}, "tol"),
        ({"momentum": 1.5}, "momentum"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"beta_1": 1}, "beta_1"),
        ({"beta_2": -1}, "beta_2"),
        ({"epsilon": 0}, "epsilon"),
        ({"n_iter_no_change": 0}, "n_iter_no_change"),
        ({"max_fun": 0}, "max_fun"),
        ({"shuffle": "yes"}, "shuffle: needs True or False"),
        ({"warm_start": 1}, "warm_start"),
        ({"nesterovs_momentum": None}, "nesterovs_momentum"),
        ({"early_stopping": 1}, "early_stopping"),
        ({"verbose": "loud"}, "verbose: needs True, False, an integer >= 0 or 'progress'"),
        ({"dropout": 1.0}, "dropout: needs a number >= 0 and < 1"),
        ({"dropout": [0.1, 0.2]}, "dropout: needs one value for each of the 1 hidden layers"),
        ({"dropout": 0.1, "solver": "lbfgs"}, "dropout: needs a stochastic solver"),
        ({"n_threads": 0}, "n_threads"),
        ({"dtype": "float16"}, "dtype: needs 'float32' or 'float64'"),
        ({"loss": "epsilon_insensitive"}, "loss: needs"),
    ],
    ids=str,
)
@each_estimator
def test_parameters_that_are_wrong(Estimator, settings, message):
    X, y = IRIS
    model = Estimator(**settings)
    for expected in (ValueError, TypeError, InvalidParameterError):
        with pytest.raises(expected, match=message):
            model.fit(X, y)
    assert not hasattr(model, "coefs_")


def test_losses_that_do_not_go_with_the_classes():
    X, y = IRIS
    for loss in ("poisson", "binary_cross_entropy"):
        with pytest.raises(InvalidParameterError, match="'log_loss' suits all"):
            MLPClassifier(loss=loss).fit(X, y)
    with pytest.raises(InvalidParameterError, match="'log_loss' suits all"):
        MLPClassifier(loss="cross_entropy").fit(X, y > 0)


def test_other_errors():
    X, y = IRIS
    with pytest.raises(NotFittedError):
        MLPClassifier().predict(X)
    with pytest.raises(ValueError, match=r"sample_weight: needs weights >= 0, got -1.0 at sample_weight\[0\]"):
        MLPClassifier().fit(X, y, sample_weight=-np.ones(len(X)))
    with pytest.raises(ValueError, match="sample_weight: needs at least one weight > 0"):
        MLPClassifier().fit(X, y, sample_weight=np.zeros(len(X)))
    with pytest.raises(ValueError, match=r"sample_weight: needs real numbers, .*Complex"):
        MLPClassifier().fit(X, y, sample_weight=np.complex128(0.25 + 1j))
    with pytest.raises(ValueError, match="sample_weight: needs numbers that fit into float32"):
        MLPClassifier(dtype="float32").fit(X, y, sample_weight=1e300)
    for weights in (10**400, [10**400] * len(y)):
        with pytest.raises(ValueError, match="sample_weight: needs numbers that float64 can hold"):
            MLPClassifier().fit(X, y, sample_weight=weights)
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        MLPRegressor(early_stopping=True).partial_fit(X, y)
    with pytest.raises(ValueError, match="X_val: needs a stochastic solver"):
        MLPRegressor(solver="lbfgs").fit(X, y, X_val=X, y_val=y)
    with pytest.raises(ValueError, match=r"y_val: needs the classes \[0 1 2\], got \[3\] too"):
        MLPClassifier().fit(X, y, X_val=X, y_val=y + 1)
    model = MLPClassifier(5, warm_start=True, max_iter=1).fit(X, y)
    with pytest.raises(ValueError, match=r"hidden_layer_sizes: needs layers of \[4, 5, 3\] units"):
        model.set_params(hidden_layer_sizes=6).fit(X, y)
    with pytest.warns(UserWarning, match="batch_size"):
        MLPClassifier(batch_size=500, max_iter=1).fit(X, y)
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
        MLPClassifier(max_iter=2).fit(X, y)
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge"):
        MLPClassifier(solver="lbfgs", max_iter=2).fit(X, y)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_divergence(early_stopping):
    settings = {"solver": "sgd", "activation": "identity", "learning_rate_init": 1e6, "early_stopping": early_stopping}
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        MLPRegressor(**settings, random_state=0).fit(*DIABETES)


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_divergence_of_a_loss_that_stays_finite_for_some_epochs():
    X, y = make_regression(100, 5, random_state=1)
    settings = {"solver": "sgd", "early_stopping": True, "max_iter": 50, "random_state": 0}
    model = MLPRegressor(learning_rate_init=10, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no word of the epochs, which are not what ended it
        with pytest.raises(ValueError, match="non-finite parameter weights"):
            model.fit(X, y)
    searched = FleetSearchCV(MLPRegressor(**settings), {"learning_rate_init": [10.0, 1e-4]}, cv=2)
    with pytest.warns(FitFailedWarning, match="non-finite parameter weights"):
        searched.fit(X, y)
    assert searched.best_params_ == {"learning_rate_init": 1e-4}


def test_interrupted(monkeypatch):
    X, y = IRIS

    def deliver(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(HeldInterrupts, "deliver", deliver)
    monkeypatch.setattr(pace, "SLICE_SECONDS", 0.0)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model = MLPClassifier(max_iter=1000).fit(X, y)
    assert model.n_iter_ == 1
    assert model.predict(X).shape == (150,)


# --- with the rest of scikit-learn -------------------------------------------------------------------------------


@each_estimator
def test_with_the_tools_of_scikit_learn(Estimator):
    X, y = IRIS
    model = Estimator(10, max_iter=20, random_state=0) if is_classifier(Estimator()) else Estimator(max_iter=20)
    assert is_classifier(model) != is_regressor(model)
    assert len(cross_val_score(make_pipeline(StandardScaler(), model), X, y)) == 5
    grid = {"hidden_layer_sizes": [3, (4, 4)], "solver": ["adam", bp.RMSprop()], "alpha": [0.1]}
    assert GridSearchCV(model, grid, cv=2).fit(X, y).best_params_["alpha"] == 0.1
    assert permutation_importance(model.fit(X, y), X, y, n_repeats=2, random_state=0).importances.shape == (4, 2)
    if is_classifier(model):
        calibrated = CalibratedClassifierCV(model, cv=2).fit(X, y)
        np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)


def test_data_frames():
    pandas = pytest.importorskip("pandas")
    X, y = load_iris(as_frame=True, return_X_y=True)
    model = MLPClassifier(max_iter=2, random_state=0, early_stopping=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y, X_val=X, y_val=y).predict(X)
    assert model.feature_names_in_.tolist() == X.columns.tolist()
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X.rename(columns=str.upper))
    assert (model.fit(X, pandas.Series(y.map(str))).classes_ == ["0", "1", "2"]).all()


@each_problem
def test_sparse_and_read_only_input(problem, monkeypatch):
    name, X, y = PROBLEMS[problem]
    monkeypatch.setattr("backprop.sklearn.perceptron.DENSE_NUMBERS", 50)  # so that prediction goes piece by piece
    settings = {"random_state": 0, "max_iter": 3}
    dense = kind(name)(**settings).fit(X, y)
    for rows in (sparse.csr_matrix(X), sparse.csc_array(X)):
        model = kind(name)(**settings).fit(rows, y)
        assert model.loss_curve_ == dense.loss_curve_
        np.testing.assert_allclose(model.predict(rows), dense.predict(X), rtol=1e-12, atol=1e-12)
    X, y = X.copy(), y.copy()
    X.setflags(write=False)
    y.setflags(write=False)
    assert kind(name)(**settings).fit(X, y).loss_curve_ == dense.loss_curve_


@each_problem
@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 7, "shuffle": False},
        {"batch_size": 16, "dropout": 0.3, "solver": "sgd", "learning_rate": "invscaling"},
        {"batch_size": 16, "early_stopping": True, "max_iter": 300, "tol": 1e-3, "n_iter_no_change": 2},
        {"batch_size": 16, "max_iter": 300, "solver": "sgd", "learning_rate": "adaptive", "tol": 0.01},
        {"batch_size": 500},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Got `batch_size`")
def test_large_sparse_rows_are_made_dense_piece_by_piece(problem, settings, monkeypatch):
    """The same steps to the last bit; losses are added up in another order."""
    name, X, y = PROBLEMS[problem]
    weight = np.linspace(0, 1, len(X))
    settings = {"hidden_layer_sizes": 5, "random_state": 0, "max_iter": 3, **settings}
    validation = {} if "early_stopping" in settings else {"X_val": X[:20], "y_val": y[:20]}
    dense = kind(name)(**settings).fit(X, y, weight, **validation)
    monkeypatch.setattr("backprop.sklearn.rows._MOST_DENSE_NUMBERS", 0)
    monkeypatch.setattr("backprop.sklearn.sparse.DENSE_NUMBERS", 40 * X.shape[1])
    model = kind(name)(**settings).fit(sparse.csc_matrix(X), y, weight, **validation)
    assert model.n_iter_ == dense.n_iter_
    np.testing.assert_allclose(model.loss_curve_, dense.loss_curve_, rtol=1e-12)
    assert model.validation_loss_curve_ == dense.validation_loss_curve_
    for one, other in zip(model.coefs_ + model.intercepts_, dense.coefs_ + dense.intercepts_, strict=True):
        np.testing.assert_array_equal(one, other)


def layouts(array):
    """The same numbers, laid out otherwise."""
    unaligned = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    unaligned[...] = array
    yield unaligned
    yield np.asfortranarray(array)
    yield array.astype(array.dtype.newbyteorder())
    yield np.repeat(array, 2, axis=0)[::2]
    yield array[::-1].copy()[::-1]
    yield array.tolist()


@each_problem
def test_layouts_of_the_input(problem):
    name, X, y = PROBLEMS[problem]
    weight = np.linspace(1, 2, len(X))
    settings = {"random_state": 0, "max_iter": 2}
    model = kind(name)(**settings).fit(X, y, weight)
    for rows, targets, weights in zip(layouts(X), layouts(y), layouts(weight), strict=True):
        assert kind(name)(**settings).fit(rows, targets, weights).loss_curve_ == model.loss_curve_
        np.testing.assert_array_equal(model.predict(rows), model.predict(X))


@each_problem
@pytest.mark.parametrize("way", ["pickle", "joblib", "mmap", "skops"])
def test_persistence(problem, way, tmp_path):
    name, X, y = PROBLEMS[problem]
    model = kind(name)(random_state=0, max_iter=3, shuffle=False).fit(X, y)
    path = tmp_path / "model"
    if way == "pickle":
        again = pickle.loads(pickle.dumps(model))
    elif way == "skops":
        skops = pytest.importorskip("skops.io")
        skops.dump(model, path)
        unknown = skops.get_untrusted_types(file=path)
        assert unknown == [f"backprop.sklearn.{name}"]
        again = skops.load(path, trusted=unknown)
    else:
        joblib.dump(model, path)
        again = joblib.load(path, mmap_mode="r" if way == "mmap" else None)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    for estimator in (model, again):  # training goes on, optimizer and all
        estimator.partial_fit(X, y)
    assert again.loss_curve_ == model.loss_curve_
    np.testing.assert_array_equal(again.coefs_[0], model.coefs_[0])


def test_state_is_plain():
    for name, X, y in PROBLEMS.values():
        model = kind(name)(early_stopping=True, max_iter=2).fit(X, y)
        values = [value for key, value in vars(model).items() if key not in model.get_params()]
        for value in values:
            parts = value if isinstance(value, list) else [value]
            assert all(isinstance(part, (np.ndarray, int, float, str, bool, type(None))) for part in parts), value


def test_parameters_are_those_of_scikit_learn_and_more():
    for Estimator in (MLPClassifier, MLPRegressor):
        theirs = getattr(neural_network, Estimator.__name__)()
        ours = Estimator()
        assert theirs.get_params().items() <= ours.get_params().items()
        assert list(theirs.get_params()) == [name for name in ours.get_params() if name in theirs.get_params()]
        assert set(ours.get_params()) - set(theirs.get_params()) <= {
            "loss", "dropout", "class_weight", "callbacks", "bagging", "n_threads", "dtype", "scale_targets",
        }  # fmt: skip
        for X, y in (IRIS, DIABETES) if is_regressor(ours) else (IRIS, CANCER, MULTILABEL):
            for settings in ({}, {"early_stopping": True}, {"solver": "lbfgs"}):
                theirs.set_params(max_iter=2, **settings).fit(X, y)
                fitted = {name for name in vars(theirs) if name.endswith("_") and not name.startswith("_")}
                assert fitted <= set(vars(ours.set_params(max_iter=2, **settings).fit(X, y)))


def test_parameters_begin_where_a_cache_line_does():
    X = np.random.default_rng(0).random((50, 3))
    for hidden in range(1, 9):  # NumPy's own arrays begin there by chance only
        net = MLPRegressor(hidden_layer_sizes=(hidden,), max_iter=2).fit(X, X.sum(axis=1))
        assert net.coefs_[0].ctypes.data % 64 == 0
        net.partial_fit(X, X.sum(axis=1))
        assert net.coefs_[0].ctypes.data % 64 == 0
