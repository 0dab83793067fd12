"""Names of parameters that a function does not have: the message says what to write instead."""

import inspect
import re

import backprop as bp
import backprop.sklearn as estimators
import numpy as np
import pytest
from backprop.base import keywords
from backprop.learn.metrics import METRICS
from backprop.reference import activations

X, Y = np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 3.0, 5.0])


def network(**settings):
    return bp.Network(1, [bp.Dense(1)], seed=0, **settings)


def fleet():
    return bp.Fleet(1, [bp.Dense(1)], size=2, seed=0)


MISTAKES = [
    (lambda: network().fit(X, Y, learning_rate=0.1), "fit", "learning_rate", "optimizer=bp.Adam(learning_rate=...)"),
    (lambda: network().fit(X, Y, lr=0.1), "fit", "lr", "optimizer=bp.Adam(learning_rate=...)"),
    (lambda: network().fit(X, Y, n_epochs=3), "fit", "n_epochs", "epochs=..."),
    (lambda: network().fit(X, Y, max_iter=3), "fit", "max_iter", "epochs=..."),
    (lambda: network().fit(X, Y, callback=print), "fit", "callback", "callbacks=[...]"),
    (lambda: network().fit(X, Y, verbose=0), "fit", "verbose", "progress=..."),
    (lambda: network().fit(X, Y, batchsize=2), "fit", "batchsize", "batch_size=..."),
    (lambda: network().fit(X, Y, eval_set=(X, Y)), "fit", "eval_set", "validation_data=(X, y)"),
    (lambda: network().fit(X, Y, solver="adam"), "fit", "solver", "optimizer=..."),
    (lambda: network().fit(X, Y, l2=0.1), "fit", "l2", "bp.Dense(..., l2=...)"),
    (lambda: network().fit(X, Y, seed=1), "fit", "seed", "bp.Network(..., seed=...)"),
    (lambda: fleet().fit(X, Y, lr=0.1), "fit", "lr", "learning_rate=..."),
    (lambda: fleet().fit(X, Y, max_epochs=2), "fit", "max_epochs", "epochs=..."),
    (lambda: fleet().minimize(X, Y, epochs=2), "minimize", "epochs", "max_iter=..."),
    (lambda: network().minimize(X, Y, epochs=2), "minimize", "epochs", "max_iter=..."),
    (lambda: network().minimize(X, Y, maxiter=2), "minimize", "maxiter", "max_iter=..."),
    (lambda: network().minimize(X, Y, solver="lm"), "minimize", "solver", "method=..."),
    (lambda: network().minimize(X, Y, gtol=1e-8), "minimize", "gtol", "tolerance=..."),
    (lambda: network().minimize(X, Y, ftol=1e-8), "minimize", "ftol", "options={'loss_tolerance': ...}"),
    (lambda: network().train_on_batch(X, Y, lr=1), "train_on_batch", "lr", "optimizer=bp.Adam(learning_rate=...)"),
    (lambda: network(random_state=0), "Network", "random_state", "seed=..."),
    (lambda: bp.mlp([1, 2, 1], activation="tanh"), "mlp", "activation", "hidden=..."),
    (lambda: bp.Dense(1, use_bias=False), "Dense", "use_bias", "bias=..."),
    (lambda: bp.Dense(1, kernel_initializer="zeros"), "Dense", "kernel_initializer", "weight_init=..."),
    (lambda: bp.SGD(lr=0.1), "SGD", "lr", "learning_rate=..."),
    (lambda: bp.Adam(betas=(0.9, 0.99)), "Adam", "betas", "beta_1=..., beta_2=..."),
    (lambda: bp.Adam(eps=1e-7), "Adam", "eps", "epsilon=..."),
    (lambda: bp.losses.Huber(detla=1.0), "Huber", "detla", "delta=..."),
    (
        lambda: bp.callbacks.EarlyStopping(restore_best_weights=True),
        "EarlyStopping",
        "restore_best_weights",
        "restore_best=...",
    ),
    (lambda: estimators.MLPClassifier(lr=0.1), "MLPClassifier", "lr", "learning_rate_init=..."),
    (lambda: estimators.MLPClassifier(n_epochs=3), "MLPClassifier", "n_epochs", "max_iter=..."),
    (lambda: estimators.MLPClassifier(patience=3), "MLPClassifier", "patience", "n_iter_no_change=..."),
    (lambda: estimators.MLPClassifier(tolerance=0), "MLPClassifier", "tolerance", "tol=..."),
    (lambda: estimators.MLPRegressor(optimizer="adam"), "MLPRegressor", "optimizer", "solver=..."),
    (lambda: estimators.MLPRegressor(weight_decay=1), "MLPRegressor", "weight_decay", "solver=bp.AdamW(weight_decay"),
    (
        lambda: estimators.MLPRegressor(validation_split=0.1),
        "MLPRegressor",
        "validation_split",
        "validation_fraction=..., early_stopping=True",
    ),
    (lambda: estimators.MLPRegressor().fit(X, Y, epochs=3), "fit", "epochs", "MLPRegressor(max_iter=...)"),
    (lambda: estimators.MLPRegressor().fit(X, Y, seed=3), "fit", "seed", "MLPRegressor(random_state=...)"),
    (lambda: estimators.MLPRegressor().fit(X, Y, eval_set=(X, Y)), "fit", "eval_set", "X_val=..., y_val=..."),
    (lambda: estimators.MLPClassifier().partial_fit(X, Y, lr=1), "partial_fit", "lr", "MLPClassifier(learning_rate_i"),
    (lambda: estimators.MLPEnsembleClassifier(lr=1), "MLPEnsembleClassifier", "lr", "learning_rate_init=..."),
    (lambda: estimators.MLPEnsembleRegressor().fit(X, Y, lr=1), "fit", "lr", "MLPEnsembleRegressor(learning_rate_i"),
    (lambda: estimators.FleetSearchCV(None, param_gird={}), "FleetSearchCV", "param_gird", "param_grid=..."),
    (lambda: bp.find_learning_rate(network(), X, Y, n_steps=20), "find_learning_rate", "n_steps", "steps=..."),
]


@pytest.mark.parametrize(
    ("call", "function", "name", "meant"), MISTAKES, ids=lambda value: value[:30] if isinstance(value, str) else "call"
)
def test_what_was_meant(call, function, name, meant):
    with pytest.raises(TypeError, match=re.escape(f"{function}: needs names that it has, got {name}: write {meant}")):
        call()


def test_nothing_near_lists_what_there_is():
    with pytest.raises(TypeError, match=r"ExponentialMovingAverage: needs .*, got alpha: it takes decay, start, "):
        bp.callbacks.ExponentialMovingAverage(alpha=0.9)  # not the penalty of a layer
    with pytest.raises(TypeError, match=r"SGD: needs names that it has, got zzz: it takes learning_rate, momentum, "):
        bp.SGD(zzz=1)


def test_values_without_names():
    with pytest.raises(
        TypeError,
        match=re.escape(
            "fit: needs a name for each value after X, y: loss, optimizer, schedule, epochs, batch_size, shuffle, "
            "sample_weight, class_weight, ... (22 in all); got 100 (int) without one"
        ),
    ):
        network().fit(X, Y, 100)
    with pytest.raises(TypeError, match=re.escape("SGD: needs a name for each value after learning_rate: momentum")):
        bp.SGD(0.1, 0.9)
    for Stopped in (bp.callbacks.Plateau, bp.callbacks.EarlyStopping, bp.callbacks.ReduceLROnPlateau):
        with pytest.raises(TypeError, match=f"{Stopped.__name__}: needs a name for each value after monitor: patience"):
            Stopped("loss", 5)
    with pytest.raises(TypeError, match="MLPClassifier: needs a name for each value after hidden_layer_sizes, act"):
        estimators.MLPClassifier((5,), "relu", "adam")
    with pytest.raises(TypeError, match=re.escape("Huber: needs a name for each value: scale, reduction, delta; got")):
        bp.losses.Huber(1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: network().fit(X), "fit: needs X, y, got no y"),
        (lambda: network().minimize(), "minimize: needs X, y, got no X, y"),
        (lambda: network().fit(y=Y), "fit: needs X, y, got no X"),
        (lambda: bp.Network([bp.Dense(1)]), "Network: needs n_inputs, layers, got no layers"),
        (lambda: bp.schedules.StepDecay(every=3), "StepDecay: needs length, got no length"),
        (lambda: bp.callbacks.Checkpoint(), "Checkpoint: needs path, got no path"),
    ],
)
def test_what_is_missing(call, message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        call()
    assert network().fit(y=Y, X=X, epochs=1).epochs == 1


@pytest.mark.parametrize(
    ("call", "end"),
    [
        (lambda: network().fit(X, Y, loss="mse"), "got 'mse'; write 'squared_error'"),
        (lambda: network().fit(X, Y, metrics="mse"), "got 'mse'; write 'mean_squared_error'"),
        (lambda: network().fit(X, Y, optimizer="Adam"), "got 'Adam'; write 'adam'"),
        (lambda: network().minimize(X, Y, method="levenberg-marquardt"), "got 'levenberg-marquardt'; write 'lm'"),
        (lambda: network().minimize(X, Y, method="L-BFGS"), "got 'L-BFGS'; write 'lbfgs'"),
        (lambda: bp.Dense(1, "swish"), "got 'swish'; write 'silu'"),
        (lambda: bp.Dense(1, "sigmiod"), "got 'sigmiod'; write 'sigmoid'"),
        (lambda: bp.Dense(1, "zzz"), "got 'zzz'"),
    ],
)
def test_which_name_of_a_setting_was_meant(call, end):
    with pytest.raises(ValueError, match=f"{re.escape(end)}$"):
        call()


def test_nothing_happens_to_the_network():
    net = network()
    before = net.parameters.copy()
    with pytest.raises(TypeError):
        net.fit(X, Y, lr=0.1)
    np.testing.assert_array_equal(net.parameters, before)
    assert net.history.epochs == 0


ESTIMATORS = [estimators.MLPClassifier, estimators.MLPEnsembleRegressor, estimators.FleetSearchCV]


@pytest.mark.parametrize(
    "function", [bp.Network.fit, bp.Fleet.minimize, bp.mlp, bp.SGD, bp.Dense, bp.Network, *ESTIMATORS]
)
def test_signatures_stay(function):
    names = inspect.signature(function).parameters
    assert "args" not in names
    assert "kwargs" not in names
    assert inspect.getdoc(function)


def test_every_meaning_is_the_name_of_something():
    """A parameter that was renamed would be advised in vain."""
    functions = [
        bp.Network, bp.Network.fit, bp.Network.minimize, bp.Fleet, bp.Fleet.fit, bp.mlp, bp.Dense, bp.descend,
        bp.find_learning_rate, bp.callbacks.EarlyStopping, bp.callbacks.ReduceLROnPlateau,
        bp.callbacks.Checkpoint, estimators.MLPClassifier, estimators.MLPClassifier.fit,
        estimators.MLPEnsembleClassifier, *bp.optimizers.OPTIMIZERS.values(), *bp.losses.LOSSES.values(),
        *bp.solvers.SOLVERS.values(),
    ]  # fmt: skip
    names = {name for function in functions for name in inspect.signature(function).parameters}
    options = {*bp.losses.LOSSES, *bp.solvers.SOLVERS, *activations.ACTIVATIONS, *METRICS}
    assert {value for _, *values in keywords._VALUES for value in values} <= options
    for _, *meanings in keywords._MEANINGS:
        for meaning in meanings:
            assert meaning.startswith("bp.") or meaning.partition("=")[0] in names, meaning
            assert names.issuperset(re.findall(r"(\w+)=\.\.\.", meaning) + re.findall(r"'(\w+)'", meaning)), meaning


def test_a_pair_of_targets_is_for_a_loss_with_derivatives():
    with pytest.raises(TypeError, match=re.escape("y: needs one array for squared_error, got a pair; losses.With")):
        network().fit(X, (Y, np.ones((3, 1))))
    with pytest.raises(TypeError, match=re.escape("y: needs one array for a custom loss, got a pair; losses.With")):
        network().fit(X, (Y, np.ones((3, 1, 1))), loss=lambda outputs, targets: (0.0, outputs))
    network().fit(X[:2], (1.0, 3.0), epochs=1)  # two targets


def test_what_refuses_names_already_is_left_as_it_is():
    """A module whose import Ctrl-C has ended comes back with the same classes."""

    class Settings:
        def __init__(self, *, rate=0.1):
            self.rate = rate

    keywords.explain(Settings)
    keywords.explain(Settings)
    assert Settings(rate=0.2).rate == 0.2
    with pytest.raises(TypeError, match="write rate="):
        Settings(rates=0.2)
