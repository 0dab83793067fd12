"""Estimators that are fitted together end as if each had been fitted alone, to the last bit."""

import warnings

import numpy as np
import pytest
from backprop.backends import choice
from backprop.callbacks import LambdaCallback
from backprop.losses import Custom
from backprop.optimizers import AdamW
from backprop.schedules import StepDecay
from backprop.sklearn import MLPClassifier, MLPRegressor
from backprop.sklearn.fleets import Fit, Together, fit_together
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IRIS = StandardScaler().fit_transform(load_iris().data), load_iris().target
BINARY = IRIS[0][:100], IRIS[1][:100]
DIABETES = load_diabetes().data * 20, (load_diabetes().target - 150) / 75
MULTILABEL = make_multilabel_classification(80, 6, n_classes=3, random_state=0)


@pytest.fixture(params=[choice.available()[0], choice.REFERENCE])
def computed_by(request, monkeypatch):
    """The best backend and the reference, in turn the default."""
    monkeypatch.setattr(choice, "default", lambda: choice.load(request.param))
    return request.param


def equal(one, other):
    """Whether two attributes are the same, to the last bit."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and (one == other or (one != one and other != other))


def outcome(function):
    """The error of a call, and the texts of its warnings."""
    error = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            function()
        except Exception as raised:
            error = repr(raised)
    return error, sorted(str(each.message) for each in caught)


def assert_as_alone(fits):
    """Fit all together, and each alone; compare everything that the estimators have got."""
    alone = [fit._replace(estimator=clone(fit.estimator)) for fit in fits]
    expected = [outcome(lambda fit=fit: fit.estimator._fit(*fit[1:], incremental=False)) for fit in alone]
    together = None

    def carry_out():
        nonlocal together
        together = Together(fits)
        together.train()
        together.finish()

    _, messages = outcome(carry_out)
    assert [None if error is None else repr(error) for error in together.errors] == [error for error, _ in expected]
    assert messages == sorted(message for _, each in expected for message in each)
    for one, other in zip(fits, alone, strict=True):
        found, wanted = vars(one.estimator), vars(other.estimator)
        assert found.keys() == wanted.keys()
        for name in wanted:
            if name not in other.estimator.get_params():
                assert equal(found[name], wanted[name]), (other.estimator, name)
    return together


def estimators(kind, **settings):
    """Estimators with two seeds."""
    settings = {"hidden_layer_sizes": (6,), "max_iter": 30, **settings}
    return [kind(**settings, random_state=seed) for seed in (0, 1)]


SETTINGS = {
    "plain": {},
    "penalty": {"alpha": 0.1, "learning_rate_init": 0.01},
    "batches": {"batch_size": 16},
    "in order": {"batch_size": 16, "shuffle": False},
    "few epochs": {"max_iter": 3},
    "early end": {"tol": 0.05, "n_iter_no_change": 2},
    "early stopping": {"early_stopping": True},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 1e-2, "n_iter_no_change": 2},
    "adaptive and early stopping": {
        "solver": "sgd", "learning_rate": "adaptive", "early_stopping": True, "n_iter_no_change": 1, "tol": 1e-2,
    },
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.3},
    "schedule": {"learning_rate": StepDecay(length=7, decay=0.5, every="epoch"), "learning_rate_init": 0.01},
    "dropout": {"dropout": 0.2, "batch_size": 16},
    "two layers": {"hidden_layer_sizes": (5, 4), "activation": ("tanh", "prelu")},
    "no layer": {"hidden_layer_sizes": ()},
    "an optimizer": {"solver": AdamW(learning_rate=0.02, weight_decay=0.1)},
    "float32": {"dtype": "float32"},
    "lbfgs": {"solver": "lbfgs"},
    "diverges": {"solver": "sgd", "learning_rate_init": 1e200},
    "diverges later": {"solver": "sgd", "learning_rate_init": 1e5, "batch_size": 20},
    "wrong": {"alpha": -1.0},
    "callbacks": {"callbacks": [LambdaCallback(on_epoch_end=lambda network, epoch, logs: None)]},
    "warm start": {"warm_start": True},
}  # fmt: skip


def test_settings_of_all_kinds(computed_by):
    fits = [
        Fit(estimator, IRIS[0][k % 2 :: 2], IRIS[1][k % 2 :: 2])
        for k, settings in enumerate(SETTINGS.values())
        for estimator in estimators(MLPClassifier, **settings)
    ]
    together = assert_as_alone(fits)
    assert max(len(group) for group, _ in together.fleets) > 2


@pytest.mark.parametrize("settings", [{}, {"early_stopping": True}, {"batch_size": 32, "solver": "sgd"}], ids=str)
def test_rows_of_all_kinds(computed_by, settings):
    weights = np.random.default_rng(0).uniform(0, 2, 442)
    fits = []
    for one, other in [
        estimators(MLPRegressor, **settings),
        estimators(MLPClassifier, **settings),
        estimators(MLPClassifier, **settings),
    ]:
        kind = type(one)
        X, y = DIABETES if kind is MLPRegressor else IRIS
        fits += [Fit(one, X, y), Fit(other, X, y), Fit(clone(one), X[:90], y[:90])]
        fits += [Fit(clone(one), X, y, weights[: len(y)]), Fit(clone(other), X[::-1], y[::-1], weights[: len(y)])]
        fits += [Fit(clone(other), X, y, None, (X[:30], y[:30], weights[:30]))]
        fits += [Fit(clone(one), sparse.csr_matrix(X), y)]
    fits += [Fit(each, *BINARY) for each in estimators(MLPClassifier, class_weight="balanced", **settings)]
    fits += [Fit(each, *MULTILABEL) for each in estimators(MLPClassifier, **settings)]
    fits += [
        Fit(each, DIABETES[0], np.column_stack([DIABETES[1], DIABETES[0][:, 2]]))
        for each in estimators(MLPRegressor, loss="huber", **settings)
    ]
    assert_as_alone(fits)


def test_sparse_rows_in_pieces_are_fitted_alone(computed_by, monkeypatch):
    monkeypatch.setattr("backprop.sklearn.rows._MOST_DENSE_NUMBERS", 0)
    together = assert_as_alone([Fit(each, sparse.csr_matrix(IRIS[0]), IRIS[1]) for each in estimators(MLPClassifier)])
    assert together.fleets == []


def test_custom_losses_are_fitted_alone(computed_by):
    def squared(outputs, targets):
        return ((outputs - targets) ** 2).sum(axis=1), 2 * (outputs - targets)

    for loss in (squared, Custom(squared)):
        together = assert_as_alone([Fit(each, *DIABETES) for each in estimators(MLPRegressor, loss=loss, max_iter=3)])
        assert together.fleets == []


def test_a_second_fit_goes_on_with_warm_start(computed_by):
    fits = [Fit(each, *IRIS) for each in estimators(MLPClassifier, warm_start=True, batch_size=32)]
    alone = [clone(fit.estimator).fit(*IRIS).fit(*IRIS) for fit in fits]
    fit_together(fits)
    fit_together(fits)
    for one, other in zip(fits, alone, strict=True):
        assert one.estimator.loss_curve_ == other.loss_curve_
        assert len(other.loss_curve_) == 60


def test_small_windows_change_nothing(computed_by, monkeypatch):
    monkeypatch.setattr("backprop.sklearn.fleets._NUMBERS_AT_ONCE", 50)
    kinds = ["plain", "few epochs", "early end", "adaptive", "invscaling", "diverges later"]
    assert_as_alone([Fit(each, *IRIS) for kind in kinds for each in estimators(MLPClassifier, **SETTINGS[kind])])


def test_short_slices_of_time_change_nothing(computed_by, monkeypatch):
    monkeypatch.setattr("backprop.learn.pace.SLICE_SECONDS", 0.0)
    kinds = ["batches", "early end", "early stopping", "dropout", "diverges later"]
    assert_as_alone([Fit(each, *IRIS) for kind in kinds for each in estimators(MLPClassifier, **SETTINGS[kind])])


def test_training_in_shares_comes_to_the_same(computed_by):
    ours = [*estimators(MLPClassifier), *estimators(MLPClassifier, max_iter=11, learning_rate="invscaling")]
    alone = [clone(each).fit(*IRIS) for each in ours]
    together = Together([Fit(each, *IRIS) for each in ours])
    for share in (0.1, 0.5, 1.0):
        together.train(share)
        together.show()
        assert [each.n_iter_ for each in ours] == [int(np.ceil(share * each.max_iter)) for each in ours]
    assert together.finish() == [None] * 4
    for one, other in zip(ours, alone, strict=True):
        assert one.loss_curve_ == other.loss_curve_
        np.testing.assert_array_equal(one.coefs_[0], other.coefs_[0])


def test_the_dropped_ones_stop():
    ours = estimators(MLPClassifier)
    together = Together([Fit(each, *IRIS) for each in ours])
    together.train(0.5)
    together.drop({1})
    together.train()
    with pytest.warns(ConvergenceWarning):
        together.finish()
    assert [each.n_iter_ for each in ours] == [30, 15]


def test_the_first_error_is_raised():
    fits = [Fit(each, *IRIS) for each in [*estimators(MLPClassifier), MLPClassifier(alpha=-1.0)]]
    with pytest.raises(ValueError, match="alpha: needs"):
        fit_together(fits)


def test_an_estimator_keeps_no_array_of_the_fleet():
    ours = estimators(MLPClassifier)
    fit_together([Fit(each, *IRIS) for each in ours])
    for each in ours:
        base = each.coefs_[0]
        while base.base is not None:
            base = base.base
        assert base.nbytes < 2 * each.coefs_[0].nbytes + sum(map(np.size, each.coefs_)) * 8 + 1000


def test_ctrl_c_is_raised(monkeypatch):
    together = Together([Fit(each, *IRIS) for each in estimators(MLPClassifier)])
    monkeypatch.setattr(
        "backprop.base.interrupts.HeldInterrupts.deliver", lambda self: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        together.train()
