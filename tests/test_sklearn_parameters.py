"""Parameters that were checked are not checked again until one of them changes; messages about them are short."""

from __future__ import annotations

import numpy as np
import pytest
from backprop import callbacks
from backprop.sklearn import InvalidParameterError, MLPClassifier, MLPEnsembleClassifier, MLPRegressor
from sklearn.base import clone

X, y = np.eye(6), np.arange(6) % 2


def fit(**settings):
    return MLPRegressor(**{"hidden_layer_sizes": (3,), "max_iter": 1, "solver": "lbfgs", **settings}).fit(X, y)


@pytest.mark.filterwarnings("ignore:.*converge")
def test_the_same_objects_are_checked_once(monkeypatch):
    calls = []
    monkeypatch.setattr(MLPRegressor, "_check_each_parameter", lambda self: calls.append(self.max_iter))
    for max_iter in (2, 2, 3, 3):
        fit(max_iter=max_iter)
    assert calls == [2, 3]


@pytest.mark.filterwarnings("ignore:.*converge")
@pytest.mark.parametrize("wrong", [-1, 1.5, "0", 2**32, (1, 2)])
def test_seeds_are_checked_each_time_and_the_rest_once(wrong, monkeypatch):
    calls, check = [], MLPRegressor._check_each_parameter
    monkeypatch.setattr("backprop.sklearn.parameters._passed", {})
    monkeypatch.setattr(MLPRegressor, "_check_each_parameter", lambda self: (calls.append(self.max_iter), check(self)))
    model = fit(hidden_layer_sizes=4, random_state=0)
    right = model.tol
    for _ in range(2):
        with pytest.raises(ValueError, match="random_state"):
            clone(model.set_params(random_state=wrong)).fit(X, y)
        with pytest.raises(InvalidParameterError, match="tol"):
            model.set_params(random_state=0, tol=-1.0).fit(X, y)
        model.set_params(random_state=np.random.RandomState(0), tol=right).fit(X, y)
    assert len(calls) == 3


@pytest.mark.filterwarnings("ignore:.*converge")
@pytest.mark.parametrize("wrong", [{"max_iter": True}, {"hidden_layer_sizes": (3.0,)}, {"tol": "0"}])
def test_equal_values_of_another_type_are_checked(wrong):
    fit()
    with pytest.raises(InvalidParameterError):
        fit(**wrong)
    fit()


@pytest.mark.filterwarnings("ignore:.*converge")
def test_what_may_change_is_checked_each_time():
    sizes = [3]
    fit(hidden_layer_sizes=sizes)
    sizes[0] = -1
    with pytest.raises(InvalidParameterError, match="hidden_layer_sizes"):
        fit(hidden_layer_sizes=sizes)


@pytest.mark.filterwarnings("ignore:.*converge")
def test_a_class_of_ones_own_checks_each_time():
    class Own(MLPClassifier):
        def _check_each_parameter(self):
            super()._check_each_parameter()
            raise ValueError("no")

    MLPClassifier(solver="lbfgs", max_iter=1).fit(X, y)
    for _ in range(2):
        with pytest.raises(InvalidParameterError, match="no"):
            Own(solver="lbfgs", max_iter=1).fit(X, y)


@pytest.mark.filterwarnings("ignore:.*converge")
def test_what_another_thread_sets_during_a_check_is_not_noted_as_checked(monkeypatch):
    """The check sees the new value, and what would be noted is the old one."""
    check, wrong = MLPRegressor._check_each_parameter, -5.0

    def meanwhile(estimator):
        estimator.alpha = 0.5
        check(estimator)

    monkeypatch.setattr(MLPRegressor, "_check_each_parameter", meanwhile)
    fit(alpha=wrong)
    monkeypatch.setattr(MLPRegressor, "_check_each_parameter", check)
    with pytest.raises(InvalidParameterError, match="alpha: needs a number >= 0"):
        fit(alpha=wrong)


@pytest.mark.parametrize(
    "estimator",
    [
        MLPClassifier(3, activation=["relu"] * 10_000),
        MLPEnsembleClassifier(3, callbacks=[callbacks.EarlyStopping("loss")] * 1000),
    ],
    ids=["activation", "callbacks"],
)
def test_messages_do_not_hold_all_that_was_given(estimator):
    with pytest.raises(InvalidParameterError) as info:
        estimator.fit([[0.0], [1.0]], [0, 1])
    assert len(str(info.value)) < 300
