"""Averages of the parameters in the estimators: as `Network.fit` has them, alone, in ensembles and in searches."""

import numpy as np
import pytest
from backprop.backends import choice
from backprop.callbacks import EarlyStopping, LambdaCallback
from backprop.callbacks import ExponentialMovingAverage as EMA
from backprop.callbacks import StochasticWeightAveraging as SWA
from backprop.optimizers import SGD
from backprop.sklearn import FleetSearchCV, MLPClassifier, MLPEnsembleClassifier, MLPEnsembleRegressor, MLPRegressor
from backprop.sklearn.fleets import Fit, Together
from backprop.sklearn.parameters import InvalidParameterError
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IRIS = StandardScaler().fit_transform(load_iris().data), load_iris().target
DIABETES = load_diabetes().data * 20, (load_diabetes().target - 150) / 75


@pytest.fixture(params=[choice.available()[0], choice.REFERENCE])
def computed_by(request, monkeypatch):
    """The best backend and the reference, in turn the default."""
    monkeypatch.setattr(choice, "default", lambda: choice.load(request.param))
    return request.param


def regressor(average=None, **settings):
    callbacks = None if average is None else [average]
    defaults = {"hidden_layer_sizes": (5,), "solver": SGD(learning_rate=0.02), "max_iter": 12, "random_state": 0}
    return MLPRegressor(**defaults | {"callbacks": callbacks, "batch_size": 50, "shuffle": False} | settings)


def steps_of(**settings):
    """The parameters at the end of each epoch."""
    found = []
    look = LambdaCallback(on_epoch_end=lambda network, epoch, logs: found.append(network.parameters.copy()))
    regressor(callbacks=[look], **settings).fit(*DIABETES)
    return np.array(found)


def learned(estimator):
    return np.concatenate([np.ravel(part) for pair in zip(estimator.coefs_, estimator.intercepts_) for part in pair])  # noqa: B905


def test_what_is_learned_is_the_average(computed_by):
    callback = SWA(start=4)
    estimator = regressor(callback).fit(*DIABETES)
    np.testing.assert_allclose(learned(estimator), steps_of()[4:].mean(axis=0), rtol=1e-12, atol=1e-14)
    assert (callback.n_averaged, callback.swapped) == (8, True)
    last = regressor(SWA(start=4, restore=False)).fit(*DIABETES)
    np.testing.assert_array_equal(learned(last), steps_of()[-1])
    np.testing.assert_array_equal(last.loss_curve_, estimator.loss_curve_)


def test_scores_are_of_the_average(computed_by):
    """Early stopping keeps the average that had the best one."""
    held_out = {"X_val": DIABETES[0][:80], "y_val": DIABETES[1][:80]}
    estimator = regressor(EMA(decay=0.8), early_stopping=True, max_iter=40).fit(*DIABETES, **held_out)
    score = estimator.score(held_out["X_val"], held_out["y_val"])
    assert score == pytest.approx(estimator.best_validation_score_, rel=1e-12)
    plain = regressor(EMA(decay=0.8, evaluate=False), early_stopping=True, max_iter=40).fit(*DIABETES, **held_out)
    alone = regressor(early_stopping=True, max_iter=40).fit(*DIABETES, **held_out)
    assert plain.validation_scores_ == alone.validation_scores_ != estimator.validation_scores_
    assert plain.validation_loss_curve_ == alone.validation_loss_curve_ != estimator.validation_loss_curve_


def test_other_callbacks_see_it(computed_by):
    """The best of `EarlyStopping` are averages, and come after the last one."""
    held_out = {"X_val": DIABETES[0][:80], "y_val": DIABETES[1][:80]}
    stopping = EarlyStopping("val_loss", patience=2, min_delta=0.01, restore_best=True)
    estimator = regressor(callbacks=[EMA(decay=0.8), stopping], max_iter=200).fit(*DIABETES, **held_out)
    assert estimator.n_iter_ < 200
    errors = estimator.predict(held_out["X_val"]) - held_out["y_val"]
    penalty = estimator.alpha * sum((part**2).sum() for part in estimator.coefs_)
    assert stopping.best == pytest.approx(((errors**2).mean() + penalty) / 2, rel=1e-12)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interruption_keeps_the_last_parameters(computed_by, error):
    """As in `Network.fit`, where the average then waits in the callback."""

    def interrupt(network, epoch, logs):
        if epoch == 5:
            raise error

    callback = EMA(decay=0.9)
    estimator = regressor(callbacks=[callback, LambdaCallback(on_epoch_end=interrupt)])
    if error is KeyboardInterrupt:
        with pytest.warns(UserWarning, match="interrupted by user"):
            estimator.fit(*DIABETES)
    else:
        with pytest.raises(error):
            estimator.fit(*DIABETES)
    np.testing.assert_array_equal(learned(estimator), steps_of()[4])
    assert (callback.n_averaged, callback.swapped) == (5 * -(-len(DIABETES[0]) // 50), False)


@pytest.mark.parametrize("make", [lambda: EMA(decay=0.9), lambda: SWA(start=0.5, every_steps=2)])
def test_together_as_alone(make, computed_by):
    settings = {"callbacks": [make()], "hidden_layer_sizes": (6,), "max_iter": 15, "batch_size": 20}
    fits = [
        Fit(MLPClassifier(**settings, **more, random_state=seed), *IRIS)
        for seed in range(3)
        for more in ({}, {"early_stopping": True}, {"tol": 0.05, "n_iter_no_change": 2})
    ]
    for fit in fits:
        fit.estimator.callbacks = [make()]
    alone = [clone(fit.estimator).fit(*IRIS) for fit in fits]
    together = Together(fits)
    assert not together.alone
    together.train(0.5)
    together.show()
    together.train()
    assert together.finish() == [None] * len(fits)
    for one, other in zip((fit.estimator for fit in fits), alone, strict=True):
        np.testing.assert_array_equal(learned(one), learned(other))
        assert one.validation_scores_ == other.validation_scores_
        assert one.callbacks[0].n_averaged == other.callbacks[0].n_averaged
        assert one.callbacks[0].swapped == other.callbacks[0].swapped


def test_ensembles():
    settings = {"hidden_layer_sizes": (5,), "n_estimators": 3, "max_iter": 20, "random_state": 0}
    ensemble = MLPEnsembleClassifier(callbacks=[EMA(decay=0.9)], **settings).fit(*IRIS)
    del settings["n_estimators"]
    for k, member in enumerate(ensemble.estimators_):
        alone = MLPClassifier(callbacks=[EMA(decay=0.9)], **settings | {"random_state": k}).fit(*IRIS)
        np.testing.assert_array_equal(learned(member), learned(alone))
    for wrong in ([LambdaCallback()], EMA(), [3]):
        with pytest.raises(InvalidParameterError, match="callbacks: needs averages of the parameters only"):
            MLPEnsembleRegressor(callbacks=wrong).fit(*DIABETES)


def test_folds_and_searches():
    average = [SWA(start=0.5)]
    settings = {"hidden_layer_sizes": (5,), "max_iter": 20, "random_state": 0}
    model = MLPClassifier(callbacks=average, bagging=3, **settings).fit(*IRIS)
    np.testing.assert_array_equal(learned(model), learned(MLPClassifier(callbacks=average, **settings).fit(*IRIS)))
    assert np.isfinite(model.oof_score_)
    grid = {"callbacks": [None, average], "alpha": [1e-4, 1.0]}
    search = FleetSearchCV(MLPClassifier(**settings), grid, cv=2).fit(*IRIS)
    train, test = next(StratifiedKFold(2).split(*IRIS))
    for parameters, score in zip(search.cv_results_["params"], search.cv_results_["split0_test_score"], strict=True):
        alone = MLPClassifier(**settings | parameters).fit(IRIS[0][train], IRIS[1][train])
        assert alone.score(IRIS[0][test], IRIS[1][test]) == score


def test_what_cannot_be_averaged(monkeypatch):
    with pytest.raises(ValueError, match="callbacks: needs none that averages for partial_fit"):
        regressor(EMA()).partial_fit(*DIABETES)
    with pytest.raises(ValueError, match="callbacks: needs at most one that averages"):
        regressor(callbacks=[EMA(), SWA()]).fit(*DIABETES)
    sparse = pytest.importorskip("scipy.sparse")
    monkeypatch.setattr("backprop.sklearn.rows._MOST_DENSE_NUMBERS", 0)
    with pytest.raises(ValueError, match="callbacks: needs none that averages for sparse rows"):
        regressor(EMA()).fit(sparse.csr_array(DIABETES[0]), DIABETES[1])
