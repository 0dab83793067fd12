"""Minimisers as `fit`: validation, metrics, callbacks, checkpoints, resuming bit for bit, threads, interrupts."""

import csv
import pickle
import signal
import threading
import time
from dataclasses import fields

import backprop as bp
import numpy as np
import pytest
from backprop.base.solving import SolverState
from backprop.callbacks import (
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    ExponentialMovingAverage,
    LambdaCallback,
    ReduceLROnPlateau,
)

METHODS = ("lbfgs", "lm", "bayesian")
each_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture
def data(rng):
    X = rng.uniform(-1, 1, (60, 2))
    return X, np.sin(3 * X[:, :1]) * X[:, 1:] + 0.1 * rng.normal(size=(60, 1))


def network(backend=None, dtype="float64", units=6):
    return bp.mlp([2, units, 1], hidden="tanh", dtype=dtype, seed=0, backend=backend)


def same(a, b):
    np.testing.assert_array_equal(a.parameters, b.parameters)
    assert list(a.history) == list(b.history)
    for name in a.history:
        np.testing.assert_array_equal(a.history[name], b.history[name])


@each_method
def test_validation_and_metrics_are_those_of_the_network(method, data, backend):
    X, y = data
    net, seen = network(backend), []
    watch = LambdaCallback(on_epoch_end=lambda net, epoch, logs: seen.append((epoch, net.loss(X[40:], y[40:]), logs)))
    net.minimize(X[:40], y[:40], method=method, validation_data=(X[40:], y[40:]), metrics="r2", max_iter=6,
                 callbacks=[watch])  # fmt: skip
    assert [epoch for epoch, _, _ in seen] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(net.history["val_loss"], [loss for _, loss, _ in seen])
    assert net.history["val_r2"][-1] == net.evaluate(X[40:], y[40:], metrics="r2")["r2"]
    assert seen[-1][2]["loss"] == net.history.loss[-1]
    other = network(backend)
    other.minimize(X, y, method=method, validation_split=1 / 3, metrics="r2", max_iter=6)
    same(net, other)


@each_method
def test_early_stopping_restores_the_best(method, data, backend):
    X, y = data
    net, points = network(backend, units=25), []
    stop = EarlyStopping("val_loss", patience=5, restore_best=True)
    watch = LambdaCallback(on_epoch_end=lambda net, epoch, logs: points.append(net.parameters.copy()))
    result = net.minimize(X[:30], y[:30], method=method, validation_data=(X[30:], y[30:]), max_iter=500, tolerance=0,
                          callbacks=[stop, watch])  # fmt: skip
    if net.history.epochs < 500 and result.reason == "stopped":
        assert net.history.stop_reason == "tolerance"
        assert len(points) == stop.best_epoch + 5
    np.testing.assert_array_equal(net.parameters, points[stop.best_epoch - 1])
    assert stop.best == net.history["val_loss"].min()


def test_files_that_callbacks_write(data, tmp_path):
    X, y = data
    net, lines = network(), []
    net.minimize(X, y, method="bayesian", max_iter=4, callbacks=[CSVLogger(tmp_path / "log.csv")],
                 log=lambda step, logs: lines.append((step, logs["gamma"])))  # fmt: skip
    with open(tmp_path / "log.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["epoch"] for row in found] == ["1", "2", "3", "4"]
    assert [float(row["gamma"]) for row in found] == net.history["gamma"].tolist()
    assert lines == [(k + 1, gamma) for k, gamma in enumerate(net.history["gamma"])]


@pytest.mark.parametrize("options", [None, {"max_evaluations": 25}])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_method
def test_a_resumed_run_has_the_bits_of_a_whole_one(method, dtype, options, data, tmp_path, backend):
    X, y = data
    settings = {"method": method, "tolerance": 0, "options": options}
    whole = network(backend, dtype)
    expected = whole.minimize(X, y, max_iter=30, **settings)
    for stop in (1, 7, 13):
        net = network(backend, dtype)
        path = tmp_path / "run.safetensors"
        end = LambdaCallback(on_epoch_end=lambda net, epoch, logs, stop=stop: net.stop() if epoch == stop else None)
        net.minimize(X, y, max_iter=30, callbacks=[end, Checkpoint(path, every=3)], **settings)
        for again in (bp.resume(path, backend=backend), pickle.loads(pickle.dumps(net)), net.copy()):
            result = again.minimize(X, y, max_iter=30, resume=True, **settings)
            same(again, whole)
            assert (result.nit, result.nfev, result.fun) == (expected.nit, expected.nfev, expected.fun)
            assert (result.alpha, result.slope, result.reason) == (expected.alpha, expected.slope, expected.reason)


def test_resuming_what_callbacks_had_counted(data, tmp_path):
    X, y = data
    settings = {"method": "lm", "validation_data": (X[30:], y[30:]), "max_iter": 300, "tolerance": 0}

    def callbacks(path=None):
        stop = EarlyStopping("val_loss", patience=6, restore_best=True)
        return [stop] if path is None else [stop, Checkpoint(path)]

    whole = network(units=25)
    whole.minimize(X[:30], y[:30], callbacks=callbacks(), **settings)
    assert whole.history.stop_reason == "tolerance"
    net, path = network(units=25), tmp_path / "run.safetensors"
    with pytest.raises(RuntimeError, match="enough"):
        net.minimize(X[:30], y[:30], callbacks=[*callbacks(path), LambdaCallback(on_epoch_end=fail_at(4))], **settings)
    resumed = bp.resume(path)
    assert resumed.history.epochs == 4
    resumed.minimize(X[:30], y[:30], callbacks=callbacks(), resume=True, **settings)
    same(resumed, whole)
    resumed.minimize(X[:30], y[:30], callbacks=callbacks(), resume=True, **settings)  # it is over
    same(resumed, whole)


def fail_at(iteration):
    def fail(network, epoch, logs):
        if epoch == iteration:
            raise RuntimeError("enough")

    return fail


def test_what_cannot_be_resumed(data):
    X, y = data
    net = network()
    net.minimize(X, y, method="lm", max_iter=3, tolerance=0, resume=True)  # there is nothing: it begins
    with pytest.raises(ValueError, match="resume: needs the method and the options of the run to be resumed, Lev"):
        net.minimize(X, y, method="lbfgs", resume=True)
    net.parameters[0] += 1
    with pytest.raises(ValueError, match="resume: needs the parameters that minimize has left"):
        net.minimize(X, y, method="lm", max_iter=5, tolerance=0, resume=True)
    net.fit(X, y, epochs=1)
    net.minimize(X, y, method="lm", max_iter=2, tolerance=0, resume=True)
    assert net.history.epochs == 3 + 1 + 2


def test_other_rows_or_another_loss_cannot_be_resumed(data, tmp_path):
    X, y = data
    net = network()
    net.minimize(X, y, max_iter=3, tolerance=0)
    net.save_checkpoint(tmp_path / "run.safetensors")
    for each in (net, bp.resume(tmp_path / "run.safetensors"), net.copy(), pickle.loads(pickle.dumps(net))):
        before = each.parameters.copy()
        with pytest.raises(ValueError, match=rf"^resume: needs the data .* resumed, {len(X)} rows; got {len(X) - 1}$"):
            each.minimize(X[1:], y[1:], max_iter=6, tolerance=0, resume=True)
        with pytest.raises(ValueError, match=r"^resume: needs the loss .* resumed, 'squared_error'; got 'huber'$"):
            each.minimize(X, y, loss="huber", max_iter=6, tolerance=0, resume=True)
        np.testing.assert_array_equal(each.parameters, before)
        assert each.minimize(X, y, max_iter=6, tolerance=0, resume=True).iterations == 6


def test_a_checkpoint_that_does_not_say_its_rows(data, tmp_path, monkeypatch):
    from backprop.files import checkpoints

    X, y = data
    net, original = network(), checkpoints._solving

    def older(left):
        tensors, metadata = original(left)
        return tensors, {key: value for key, value in metadata.items() if key not in ("n_rows", "loss_name")}

    net.minimize(X, y, max_iter=3, tolerance=0)
    monkeypatch.setattr(checkpoints, "_solving", older)
    net.save_checkpoint(tmp_path / "run.safetensors")
    again = bp.resume(tmp_path / "run.safetensors")
    assert again.minimize(X, y, max_iter=6, tolerance=0, resume=True).iterations == 6


@each_method
def test_pickles_from_before_dampings_had_a_scale(method, data, tmp_path, monkeypatch):
    def older(state):
        values = {each.name: getattr(state, each.name) for each in fields(state) if each.name != "scale"}
        return None, values

    X, y = data
    net = network()
    net.minimize(X, y, method=method, max_iter=3, tolerance=0)
    with monkeypatch.context() as patch:
        patch.setattr(SolverState, "__getstate__", older)
        again = pickle.loads(pickle.dumps(net))
    again.save_checkpoint(tmp_path / "run.safetensors")
    for each in (net, again):
        each.minimize(X, y, method=method, max_iter=6, tolerance=0, resume=True)
    same(again, net)


def test_a_checkpoint_after_fit_and_minimize(data, tmp_path):
    X, y = data
    net = network()
    net.fit(X, y, epochs=2)
    net.minimize(X, y, max_iter=3, tolerance=0)
    net.save_checkpoint(tmp_path / "run.safetensors")
    again = bp.resume(tmp_path / "run.safetensors")
    same(again, net)
    for each in (net, again):
        each.minimize(X, y, max_iter=6, tolerance=0, resume=True)
        each.fit(X, y, epochs=2)
    same(again, net)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"callbacks": [ReduceLROnPlateau("loss")]}, ValueError, "callbacks: needs such as scale no learning rate"),
        ({"callbacks": [ExponentialMovingAverage()]}, ValueError, "callbacks: needs such as average no steps"),
        ({"callbacks": [EarlyStopping("val_loss")]}, ValueError, "callbacks: .* needs a monitor that is recorded"),
        ({"callbacks": 3}, TypeError, "callbacks: needs a sequence of Callback"),
        ({"log": 3}, TypeError, "log: needs a function of iteration and metrics, got 3"),
        ({"resume": 1}, TypeError, "resume: needs True or False"),
        ({"n_threads": 0}, ValueError, "n_threads: needs an integer >= 1"),
        ({"metrics": "no"}, ValueError, "metrics: needs"),
        ({"validation_split": 1.0}, ValueError, "validation_split: needs a number"),
        ({"method": "BFGS", "metrics": "r2"}, ValueError, "metrics: needs method='lbfgs', 'lm' or 'bayesian', got"),
        ({"method": "CG", "validation_split": 0.5}, ValueError, "validation_data: needs method='lbfgs'"),
        ({"method": "CG", "resume": True}, ValueError, "resume: needs method='lbfgs'"),
    ],
)
def test_wrong_arguments(settings, error, message, data):
    net = network()
    with pytest.raises(error, match=message):
        net.minimize(*data, **settings)
    assert net.history.epochs == 0


def test_a_callback_that_scales_learning_rates_all_the_same(data):
    with pytest.raises(ValueError, match="learning_rate: minimize has none"):
        network().minimize(
            *data, callbacks=[LambdaCallback(on_epoch_end=lambda net, epoch, logs: net.scale_learning_rate(0.5))]
        )


# --- options ---------------------------------------------------------------------------------------------------------

BAD = {
    "history": (0, -1, 2.5, 10**20, "ten", None, True, float("nan")),
    "damping": (0, -1.0, float("nan"), float("inf"), "much", None, 10**400),
    "loss_tolerance": (-1e-9, float("nan"), float("inf"), "no", None, 10**400),
    "max_evaluations": (0, -3, 1.5, "many", None, 10**20),
    "scaling": ("none", None, 3),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_option_is_checked(method, data):
    known = {field.name for field in fields(bp.solvers.SOLVERS[method])} - {"tolerance"}
    assert known <= BAD.keys()
    for name in known:
        for value in BAD[name]:
            with pytest.raises((TypeError, ValueError), match=name):
                network().minimize(*data, method=method, options={name: value})
    for value in (-1.0, float("nan"), float("inf"), "no", None, 10**400):
        with pytest.raises((TypeError, ValueError), match="tolerance"):
            network().minimize(*data, method=method, tolerance=value)


@pytest.mark.parametrize("scaling", ["identity", "marquardt"])
@pytest.mark.parametrize("damping", [1e-300, 1e-30, 1e-3, 1e3, 1e16, 1e30, 1e300])
@pytest.mark.parametrize("method", ["lm", "bayesian"])
def test_any_first_damping_comes_to_a_minimum(method, damping, scaling, data, rng, backend):
    X = data[0]
    y = np.tanh(X @ [1.5, -1.0]) - 0.5 * np.tanh(X @ [0.2, 2.0] + 0.5) + 0.01 * rng.normal(size=60)
    net = network(backend, units=2)
    result = net.minimize(X, y, method=method, max_iter=400, options={"damping": damping, "scaling": scaling})
    assert result.success
    assert result.slope <= 1e-4
    assert result.fun < 0.05


def test_no_loss_is_computed_where_the_matrix_has_no_factors(rng, backend):
    """Two equal columns, and a damping that is nothing."""
    X = np.repeat(rng.normal(size=(20, 1)), 2, axis=1)
    net = bp.Network(2, [bp.Dense(1)], dtype="float64", seed=0, backend=backend)
    result = net.minimize(X, X[:, 0], method="lm", max_iter=1, tolerance=0, options={"damping": 1e-300})
    assert result.nfev <= 3


# --- threads and interrupts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [90, 3000])
@each_method
def test_any_number_of_threads_has_the_same_bits(method, rows, rng, monkeypatch):
    monkeypatch.setenv("BACKPROP_THREADS", "fixed")
    X = rng.uniform(-1, 1, (rows, 3))
    y = np.stack([np.sin(3 * X[:, 0]) * X[:, 1], X[:, 2] ** 2], axis=1)
    found = set()
    for n_threads in (1, 2, 3, 5):
        net = bp.mlp([3, 30, 10, 2], hidden="tanh", dtype="float64", seed=0)
        net.minimize(X, y, method=method, max_iter=4, tolerance=0, n_threads=n_threads)
        found.add(net.parameters.tobytes())
    assert len(found) == 1


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals between threads")
def test_ctrl_c_comes_between_chunks_of_the_matrix(rng):
    """An iteration takes seconds; the interrupt does not wait for it."""
    X, y = rng.normal(size=(20_000, 20)), rng.normal(size=(20_000, 4))
    net = bp.mlp([20, 50, 4], hidden="tanh", dtype="float64", seed=0)
    before = net.parameters.copy()
    main = threading.get_ident()
    sent = []

    def interrupt():
        while net._run is None:
            time.sleep(0.001)
        time.sleep(0.2)
        sent.append(time.perf_counter())
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        net.minimize(X, y, method="lm", max_iter=100, tolerance=0, n_threads=1)
    thread.join()
    assert net.history.stop_reason == "interrupted"
    if net.history.epochs == 0:
        np.testing.assert_array_equal(net.parameters, before)
