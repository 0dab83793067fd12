"""`restore_best` gives the parameters that have the number that is reported, whenever that number is measured."""

import contextlib
import functools
from concurrent.futures import ThreadPoolExecutor

import backprop as bp
import numpy as np
import pytest
from backprop.base.interrupts import HeldInterrupts
from backprop.callbacks import EarlyStopping, LambdaCallback
from backprop.learn import pace

X = np.arange(20.0)[:, None]
Y = 3 * X[:, 0] + 2
FAST = bp.Adam(learning_rate=2.0)  # so that a step may make it worse


class Mine(EarlyStopping):
    """A class of the user's own, whose rule runs in the core too."""


def stopping(monitor="loss", kind=EarlyStopping, **settings):
    return kind(monitor, patience=2, restore_best=True, **settings)


def second(monitor):
    """The core has the rule of the first; the second is called."""
    return [EarlyStopping("loss", patience=1000), stopping(monitor)]


def every_other(monitor):
    callback = stopping(monitor)
    callback.every = 2
    return [callback]


CALLBACKS = {
    "in the core": lambda monitor: [stopping(monitor)],
    "in the core, a class of one's own": lambda monitor: [stopping(monitor, Mine)],
    "called": second,
    "called every other epoch": every_other,
    "beside another": lambda monitor: [LambdaCallback(on_epoch_end=lambda *given: None), stopping(monitor)],
}


def fitted(net, callbacks, **settings):
    settings = {"optimizer": FAST, "batch_size": None, "epochs": 50} | settings
    net.fit(X, Y, callbacks=callbacks, **settings)
    return callbacks[-1]


@pytest.mark.parametrize("kind", CALLBACKS)
@pytest.mark.parametrize("batch_size", [None, 20, 1000])
def test_a_full_batch(kind, batch_size, backend, dtype):
    net = bp.mlp([1, 1], seed=1, backend=backend, dtype=dtype)
    callback = fitted(net, CALLBACKS[kind]("loss"), batch_size=batch_size)
    assert net.history.stop_reason == "tolerance"
    assert callback.best == net.history["loss"][callback.best_epoch - 1]
    # The loss of training and that of `loss` add the same terms, in different orders in float32.
    assert net.loss(X, Y) == pytest.approx(callback.best, rel=1e-6)


@pytest.mark.parametrize("kind", CALLBACKS)
def test_a_full_batch_with_validation_rows(kind, backend):
    """What is measured at the end of an epoch belongs to its last parameters."""
    net = bp.mlp([1, 1], seed=1, backend=backend)
    callback = fitted(net, CALLBACKS[kind]("val_loss"), validation_data=(X[:5], Y[:5]))
    assert net.loss(X[:5], Y[:5]) == pytest.approx(callback.best, rel=1e-6)
    net = bp.mlp([1, 1], seed=1, backend=backend)
    callback = fitted(net, CALLBACKS[kind]("loss"), validation_data=(X[:5], Y[:5]))
    assert net.loss(X, Y) == pytest.approx(callback.best, rel=1e-6)
    net = bp.mlp([1, 1], seed=1, backend=backend)
    callback = fitted(net, CALLBACKS[kind]("mean_absolute_error"), metrics="mean_absolute_error")
    assert net.evaluate(X, Y, metrics="mean_absolute_error")["mean_absolute_error"] == callback.best


def test_two_that_restore_what_they_have_measured(backend):
    """One has the loss from before the step, the other the validation loss from after it."""
    net = bp.mlp([1, 1], seed=1, backend=backend)
    before, after = stopping("loss"), stopping("val_loss")
    fitted(net, [after, before], validation_data=(X, Y))
    assert net.loss(X, Y) == pytest.approx(after.best, rel=1e-6)  # that which comes first ends last
    net.parameters = before.best_parameters
    assert net.loss(X, Y) == pytest.approx(before.best, rel=1e-6)


def test_several_steps_keep_the_end_of_the_best_epoch(backend):
    net, whole = (bp.mlp([1, 1], seed=1, backend=backend) for _ in range(2))
    callback = fitted(net, [stopping()], batch_size=7)
    whole.fit(X, Y, optimizer=FAST, batch_size=7, epochs=callback.best_epoch)
    assert np.array_equal(net.parameters, whole.parameters)


def test_the_best_is_the_start(backend):
    net = bp.mlp([1, 1], seed=1, backend=backend)
    start = net.parameters.copy()
    callback = fitted(net, [stopping()], optimizer=bp.SGD(learning_rate=0.01))
    assert callback.best_epoch == 1
    assert np.array_equal(net.parameters, start)


def test_dropout_and_several_calls(backend):
    """The restored parameters are those of a run that ends before the best step."""
    settings = {"optimizer": bp.Adam(learning_rate=0.3), "batch_size": None}

    def start():
        net = bp.Network(1, [bp.Dense(8, "relu", dropout=0.3), bp.Dense(1)], seed=3, backend=backend)
        net.fit(X, Y, epochs=5, **settings)
        return net

    net, whole = start(), start()
    callback = stopping(min_delta=0.0)
    net.fit(X, Y, epochs=60, callbacks=[callback], **settings)
    if callback.best_epoch > 6:
        whole.fit(X, Y, epochs=callback.best_epoch - 6, **settings)
    assert np.array_equal(net.parameters, whole.parameters)


def test_a_loss_of_ones_own(backend):
    def loss(outputs, targets):
        return float(np.mean((outputs - targets) ** 2)), 2 * (outputs - targets) / len(outputs)

    net = bp.mlp([1, 1], seed=1, backend=backend)
    callback = fitted(net, [stopping()], loss=loss)
    assert net.loss(X, Y) == pytest.approx(callback.best, rel=1e-5)


@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
def test_interrupted_and_resumed(epochs, backend, tmp_path):
    whole = bp.mlp([1, 1], seed=1, backend=backend)
    expected = fitted(whole, [stopping()])
    path = tmp_path / "run.safetensors"

    def save(network, epoch, logs):
        if epoch == epochs:
            network.save_checkpoint(path)
            raise KeyboardInterrupt

    net = bp.mlp([1, 1], seed=1, backend=backend)
    with pytest.raises(KeyboardInterrupt):
        fitted(net, [LambdaCallback(on_epoch_end=save), stopping()])
    for again in (net, bp.resume(path, backend=backend)):
        callback = fitted(again, [LambdaCallback(on_epoch_end=lambda *given: None), stopping()], resume=True)
        assert (callback.best, callback.best_epoch) == (expected.best, expected.best_epoch)
        assert np.array_equal(again.parameters, whole.parameters)


@pytest.mark.parametrize("in_core", [True, False])
@pytest.mark.parametrize("epoch", [2, 3])
def test_interrupted_between_the_step_and_the_validation(in_core, epoch, backend, tmp_path, monkeypatch):
    many = np.tile(X, (2000, 1)), np.tile(Y, 2000)  # so many that the core looks at the clock in between
    settings = {"validation_data": many}
    whole = bp.mlp([1, 1], seed=1, backend=backend)
    callbacks = [stopping()] if in_core else second("loss")
    fitted(whole, callbacks, **settings)
    net = bp.mlp([1, 1], seed=1, backend=backend)
    monkeypatch.setattr(pace, "SLICE_SECONDS", 0.0)

    def deliver(self):
        if net._state.epoch == epoch - 1 and net._state.cursor:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(HeldInterrupts, "deliver", deliver)
        with contextlib.suppress(KeyboardInterrupt):  # the reference does not stop there
            fitted(net, [stopping()] if in_core else second("loss"), **settings)
    if net.history.stop_reason != "interrupted":
        assert backend == "reference"
        return
    net.save_checkpoint(tmp_path / "run")
    for again in (net, bp.resume(tmp_path / "run", backend=backend)):
        own = [stopping()] if in_core else second("loss")
        fitted(again, own, resume=True, **settings)
        assert own[-1].best_epoch == callbacks[-1].best_epoch
        assert np.array_equal(again.parameters, whole.parameters)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_metric_that_raises_takes_nothing_away(error, backend):
    net = bp.mlp([1, 1], seed=1, backend=backend, dtype="float64")
    best = int(np.argmin(fitted_losses(backend))) + 1
    epochs = []

    def metric(outputs, targets):
        epochs.append(len(epochs))
        if len(epochs) == best:
            raise error
        return 0.0

    callback = stopping()
    with pytest.raises(error):
        fitted(net, [callback], metrics={"own": metric})
    assert len(net.history["loss"]) == best
    fitted(net, [callback], metrics={"own": metric}, resume=True)
    assert callback.best_epoch == best
    assert net.loss(X, Y) == pytest.approx(callback.best, rel=1e-9)


def fitted_losses(backend):
    net = bp.mlp([1, 1], seed=1, backend=backend, dtype="float64")
    fitted(net, [stopping()])
    return net.history["loss"]


@pytest.mark.parametrize("in_core", [True, False])
def test_a_run_that_diverges_has_the_best_before(in_core, backend):
    net = bp.mlp([1, 1], seed=1, backend=backend)
    callbacks = [stopping()] if in_core else second("loss")
    settings = {"optimizer": bp.SGD(learning_rate=10.0), "on_divergence": "stop", "callbacks": callbacks}
    callbacks[-1].patience = 1000
    net.fit(X, Y, batch_size=None, epochs=1000, **settings)
    assert net.history.stop_reason == "diverged"
    assert net.loss(X, Y) == pytest.approx(callbacks[-1].best, rel=1e-6)


# --- fleets -----------------------------------------------------------------------------------------------------------


def members(backend, size=20):
    return [bp.mlp([1, 1], seed=k, backend=backend) for k in range(size)]


@pytest.mark.parametrize("kind", CALLBACKS)
@pytest.mark.parametrize("rows", ["shared", "of each"])
def test_members_restore_what_networks_do(kind, rows, backend):
    fleet = bp.Fleet.of(members(backend))
    callbacks = CALLBACKS[kind]("loss")
    some = [20, 20, 13, 7] * 5
    data = (X, Y) if rows == "shared" else ([X[:n] for n in some], [Y[:n] for n in some])
    fleet.fit(*data, optimizer=FAST, batch_size=15, epochs=50, callbacks=callbacks)
    for k, net in enumerate(members(backend)):
        alone, own = CALLBACKS[kind]("loss"), data if rows == "shared" else (data[0][k], data[1][k])
        net.fit(*own, optimizer=FAST, batch_size=15, epochs=50, callbacks=alone)
        assert np.array_equal(fleet.parameters[k], net.parameters)
        assert (callbacks[-1].best[k], callbacks[-1].best_epoch[k]) == (alone[-1].best, alone[-1].best_epoch)
        if len(own[0]) <= 15:
            assert net.loss(*own) == pytest.approx(alone[-1].best, rel=1e-5)


@pytest.mark.parametrize("rate", [2.0, 1e20])
def test_members_that_diverge_have_the_best_before(rate, backend):
    fleet = bp.Fleet.of(members(backend, 3))
    callback, settings = stopping(), {"optimizer": bp.SGD(), "batch_size": None, "epochs": 400}
    callback.patience = 1000
    rates = [0.001, rate, 0.002]
    fleet.fit(X, Y, learning_rate=rates, callbacks=[callback], on_divergence="stop", **settings)
    assert fleet.history.stop_reason.tolist() == ["epochs", "diverged", "epochs"]
    for k in range(3):
        assert fleet.loss(X, Y)[k] == pytest.approx(callback.best[k], rel=1e-5)


def test_workers_restore_the_same(backend):
    fleets = [bp.Fleet.of(members(backend)) for _ in range(2)]
    callbacks = [stopping() for _ in fleets]
    settings = {"optimizer": FAST, "batch_size": None, "epochs": 50}
    with ThreadPoolExecutor(2) as executor:
        for fleet, callback, own in zip(fleets, callbacks, (None, executor), strict=True):
            fleet.fit(X, Y, callbacks=[callback], executor=own, **settings)
    assert np.array_equal(fleets[0].parameters, fleets[1].parameters)
    assert np.array_equal(callbacks[0].best, callbacks[1].best)


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_fleet_interrupted_and_resumed(epochs, backend, tmp_path):
    whole = bp.Fleet.of(members(backend, 5))
    fit = functools.partial(bp.Fleet.fit, X=X, y=Y, optimizer=FAST, batch_size=None, epochs=50)
    quiet = LambdaCallback(on_epoch_end=lambda *given: None)
    fit(whole, callbacks=[quiet, stopping()])
    path = tmp_path / "run.safetensors"
    fleet = bp.Fleet.of(members(backend, 5))

    def save(network, epoch, logs):
        if epoch == epochs:
            fleet.save_checkpoint(path)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(fleet, callbacks=[LambdaCallback(on_epoch_end=save), stopping()])
    for again in (fleet, bp.resume(path, backend=backend)):
        fit(again, callbacks=[quiet, stopping()], resume=True)
        assert np.array_equal(again.parameters, whole.parameters)


# --- estimators -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_callbacks_of_an_estimator():
    from backprop.sklearn import MLPRegressor

    seen = []
    watch = LambdaCallback(on_epoch_end=lambda network, epoch, logs: seen.append(logs["loss"]))
    callback = stopping()
    settings = {"hidden_layer_sizes": (), "solver": FAST, "alpha": 0.0, "max_iter": 50, "random_state": 0}
    estimator = MLPRegressor(**settings, callbacks=[watch, callback]).fit(X, Y)
    assert callback.best == min(seen)
    error = np.mean((estimator.predict(X) - Y) ** 2) / 2  # scikit-learn's squared error
    assert error == pytest.approx(callback.best, rel=1e-9)
