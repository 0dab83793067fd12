"""Checkpoints: a run that was cut anywhere and goes on is, bit for bit, the run that was not."""

from __future__ import annotations

import errno
import itertools
import os
import re
import signal
import subprocess
import sys
import time

import backprop as bp
import numpy as np
import pytest
from backends import BACKENDS, OPTIMIZER_VARIANTS, each_backend, each_dtype, label
from backprop.callbacks import Checkpoint, EarlyStopping, ReduceLROnPlateau
from backprop.learn import pace, run
from backprop.schedules import Cosine

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 3))
Y = np.sin(X.sum(axis=1))
X_VAL, Y_VAL = RNG.normal(size=(9, 3)), RNG.normal(size=9)


def network(backend=None, dtype="float32", **settings):
    layers = [bp.Dense(9, "tanh", **settings), bp.Dense(1)]
    return bp.Network(3, layers, dtype=dtype, seed=1, backend=backend)


def numbers(net):
    """Every number of a network's training, as bytes."""
    state, history = net._state, net.history
    arrays = [net.parameters, state.slots, state.permutation, *(history[name] for name in history)]
    counters = (state.step, state.epoch, state.cursor, state.loss_sum, state.best_loss, state.best_epoch)
    return [array.tobytes() for array in arrays], (*counters, state.stale_epochs, state.bit_generator.state)


def cut_after(monkeypatch, looks):
    """Let training be interrupted when it has returned to Python so many times, which is after each step."""
    count = itertools.count(1)

    def once_per_slice(self, now):
        if next(count) == looks:
            raise KeyboardInterrupt

    monkeypatch.setattr(pace, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(run.Run, "once_per_slice", once_per_slice)


SETTINGS = {
    "full": {"batch_size": None},
    "in order": {"batch_size": 7, "shuffle": False},
    "mini": {"batch_size": 7},
    "online": {"batch_size": 1},
    "validated": {"batch_size": 8, "validation_data": (X_VAL, Y_VAL), "metrics": ["r2"]},
    "schedule": {"batch_size": 8, "schedule": Cosine(length=20)},
    "clipped": {"batch_size": 8, "clip_norm": 0.1},
}


def callbacks_of(kind):
    return {
        "none": lambda: [],
        "stopping": lambda: [EarlyStopping("val_loss", patience=3, min_delta=0.02, restore_best=True)],
        "in Python": lambda: [EarlyStopping("val_r2", patience=3, min_delta=0.1, restore_best=True)],
        "rate": lambda: [ReduceLROnPlateau("loss", patience=2, min_delta=0.05, factor=0.5, cooldown=1)],
        "both": lambda: [
            ReduceLROnPlateau("val_loss", patience=2, min_delta=0.05, factor=0.5),
            EarlyStopping("loss", patience=5, min_delta=0.01, restore_best=True),
        ],
    }[kind]()


def cut_and_resumed(monkeypatch, path, net, looks, fit, fit_rest=None, backend=None):
    """Train until the cut, save, read the file, and train the rest."""
    with monkeypatch.context() as patch:
        cut_after(patch, looks)
        with pytest.raises(KeyboardInterrupt):
            fit(net)
    net.save_checkpoint(path)
    resumed = bp.resume(path, backend=backend)
    assert numbers(resumed) == numbers(net)
    (fit_rest or fit)(resumed)
    return resumed


@each_backend
@each_dtype
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_cut_anywhere(monkeypatch, tmp_path, backend, dtype, settings):
    def fit(net):
        return net.fit(X, Y, epochs=6, resume=True, **settings)

    whole = network(backend, dtype)
    fit(whole)
    for looks in (1, 3, 5):
        resumed = cut_and_resumed(monkeypatch, tmp_path / "run", network(backend, dtype), looks, fit, backend=backend)
        assert numbers(resumed) == numbers(whole)
        assert resumed.history.stop_reason == "epochs"


@each_backend
@pytest.mark.parametrize("kind", ["stopping", "in Python", "rate", "both"])
def test_cut_with_callbacks_and_dropout(monkeypatch, tmp_path, backend, kind):
    def fit(net):
        net.fit(
            X, Y, epochs=40, batch_size=10, validation_data=(X_VAL, Y_VAL), metrics=["r2"],
            optimizer=bp.Adam(learning_rate=0.05), callbacks=callbacks_of(kind), resume=True,
        )  # fmt: skip

    whole = network(backend, dropout=0.3, max_norm=2.0)
    fit(whole)
    for looks in (2, 7, 10):
        net = network(backend, dropout=0.3, max_norm=2.0)
        resumed = cut_and_resumed(monkeypatch, tmp_path / "run", net, looks, fit, backend=backend)
        assert numbers(resumed) == numbers(whole)
        assert resumed.history.stop_reason == whole.history.stop_reason


@pytest.mark.parametrize("optimizer", OPTIMIZER_VARIANTS, ids=label)
def test_every_optimizer(monkeypatch, tmp_path, optimizer):
    def fit(net):
        net.fit(X, Y, epochs=4, batch_size=8, optimizer=optimizer, resume=True)

    whole = network()
    fit(whole)
    resumed = cut_and_resumed(monkeypatch, tmp_path / "run", network(), 6, fit)
    assert numbers(resumed) == numbers(whole)
    assert resumed._optimizer == optimizer


def test_settings_of_numpy(tmp_path):
    """NumPy's scalars in an optimizer are what a file can hold."""
    sgd = bp.SGD(learning_rate=np.float32(0.125), momentum=np.float32(0.5), nesterov=np.bool_(True))
    net = network()
    net.fit(X, Y, epochs=2, optimizer=sgd)
    net.save_checkpoint(tmp_path / "run")
    assert bp.resume(tmp_path / "run")._optimizer == bp.SGD(learning_rate=0.125, momentum=0.5, nesterov=True)


def test_with_other_threads_and_instruction_sets(monkeypatch, tmp_path):
    def fit(n_threads):
        return lambda net: net.fit(X, Y, epochs=5, batch_size=16, n_threads=n_threads, resume=True)

    whole = network()
    fit(1)(whole)
    net = network()
    other = "v3" if net.backend == "v4" and "v3" in BACKENDS else None
    resumed = cut_and_resumed(monkeypatch, tmp_path / "run", net, 5, fit(2), fit(3), backend=other)
    assert numbers(resumed) == numbers(whole)


def test_in_a_new_process(tmp_path):
    script = """
import sys
import numpy as np
import backprop as bp
path, epochs = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(0)
X = rng.normal(size=(30, 3))
import os
net = bp.resume(path) if os.path.exists(path) else bp.mlp([3, 9, 1], seed=1)
net.fit(X, X[:, 0], epochs=epochs, batch_size=7, callbacks=[bp.callbacks.Checkpoint(path, every=2)], resume=True)
print(net.parameters.tobytes().hex())
"""

    def run(path, epochs):
        command = [sys.executable, "-c", script, str(path), str(epochs)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    whole = run(tmp_path / "whole", 9)
    run(tmp_path / "cut", 4)
    assert run(tmp_path / "cut", 9) == whole
    assert run(tmp_path / "cut", 9) == whole  # nothing is left to do


@pytest.mark.parametrize("kills", [3, pytest.param(300, marks=pytest.mark.slow)])
def test_killed_at_random_moments(tmp_path, kills):
    """Whenever the process is killed, the file is whole, and its training goes on."""
    path = tmp_path / "run.safetensors"
    script = """
import sys
import numpy as np
import backprop as bp
X = np.random.default_rng(0).normal(size=(64, 32))
net = bp.mlp([32, 200, 1], seed=1)
print("ready", flush=True)
net.fit(X, X[:, 0], epochs=10**9, callbacks=[bp.callbacks.Checkpoint(sys.argv[1])], progress=False)
"""
    rng = np.random.default_rng(kills)
    found = 0
    for kill in range(kills):
        child = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(rng.uniform(0, 0.2))
        while kill == kills - 1 and not path.exists() and child.poll() is None:  # none was so fast, where all is slow
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        if path.exists():
            net = bp.resume(path)
            found += net._state.epoch > 0
            assert net.history.epochs == net._state.epoch
    assert found
    assert len(list(tmp_path.iterdir())) <= 1 + kills  # a kill may leave a temporary file behind, never two


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(monkeypatch, tmp_path, call):
    path = tmp_path / "run.safetensors"
    net = network()
    net.fit(X, Y, epochs=2)
    net.save_checkpoint(path)
    before = path.read_bytes()
    net.fit(X, Y, epochs=2)

    def fails(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(OSError, match="No space"):
            net.save_checkpoint(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.safetensors"]


def test_numbers_that_are_not_finite_never_replace_a_checkpoint(tmp_path):
    path = tmp_path / "run.safetensors"
    net = network()
    net.fit(X, Y, epochs=2, callbacks=[Checkpoint(path)])
    with pytest.raises(bp.DivergedError):
        net.fit(X, Y, epochs=50, optimizer=bp.SGD(learning_rate=1e6), callbacks=[Checkpoint(path)])
    assert np.isfinite(bp.resume(path).parameters).all()
    before = path.read_bytes()
    net.parameters[0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        net.save_checkpoint(path)
    assert path.read_bytes() == before


@each_dtype
@pytest.mark.parametrize("make", [lambda net: net, lambda net: bp.Fleet.of([net, net.copy()])], ids=["alone", "fleet"])
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "muon", "nadam"])
def test_squares_of_gradients_may_be_infinite(optimizer, make, dtype, tmp_path):
    """Such a run goes on, with small steps or none; so does its checkpoint."""
    path, large = tmp_path / "run.safetensors", 1e25 if np.dtype(dtype) == np.float32 else 1e200
    net = make(bp.Network(3, [bp.Dense(1)], dtype=dtype, seed=1))
    settings = {"loss": "absolute_error", "optimizer": optimizer}
    net.fit(X * large, Y, epochs=2, **settings)
    net.save_checkpoint(path)
    resumed = bp.resume(path)
    for each in (net, resumed):
        each.fit(X * large, Y, epochs=4, resume=True, **settings)
    slots = (net[0] if isinstance(net, bp.Fleet) else net)._state.slots
    assert np.isinf(slots).any()
    np.testing.assert_array_equal(resumed.parameters, net.parameters)
    np.testing.assert_array_equal(resumed.history["loss"], net.history["loss"])


def test_a_model_is_no_checkpoint(tmp_path):
    path = tmp_path / "model.safetensors"
    network().save(path)
    for name in (path, os.fsencode(path)):
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: not a valid checkpoint: it holds no training"):
            bp.resume(name)


def test_a_damaged_file_is_seen(tmp_path):
    path = tmp_path / "run.safetensors"
    net = network(dropout=0.1)
    net.fit(X, Y, epochs=3, batch_size=7, validation_data=(X_VAL, Y_VAL), callbacks=callbacks_of("both"))
    net.save_checkpoint(path)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(len(data), size=300):
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << rng.integers(8))]) + data[at + 1 :])
        with pytest.raises(ValueError, match=r"run\.safetensors"):
            bp.resume(path)
    for end in rng.integers(len(data), size=50):
        path.write_bytes(data[:end])
        with pytest.raises(ValueError, match=r"run\.safetensors"):
            bp.resume(path)


def test_load_takes_the_network_alone(tmp_path):
    net = network()
    net.fit(X, Y, epochs=2)
    net.save_checkpoint(tmp_path / "run")
    loaded = bp.load(tmp_path / "run")
    assert loaded.parameters.tobytes() == net.parameters.tobytes()
    assert loaded._state is None
    net.save(tmp_path / "model")
    with pytest.raises(ValueError, match="not a valid checkpoint"):
        bp.resume(tmp_path / "model")


def test_a_network_that_was_never_trained(tmp_path):
    net = network()
    net.save_checkpoint(tmp_path / "run")
    assert bp.resume(tmp_path / "run")._state is None
    assert net.fit(X, Y, epochs=3, resume=True).epochs == 3


def test_before_the_first_step(tmp_path):
    class Save(bp.callbacks.Callback):
        def on_train_begin(self, network, logs):
            network.save_checkpoint(tmp_path / "run")

    whole = network()
    whole.fit(X, Y, epochs=2, batch_size=7, callbacks=[Save()])
    net = bp.resume(tmp_path / "run")
    net.fit(X, Y, epochs=2, batch_size=7, resume=True)
    assert numbers(net) == numbers(whole)


def test_what_does_not_fit_the_run(monkeypatch):
    net = network()
    with monkeypatch.context() as patch:
        cut_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            net.fit(X, Y, epochs=4, batch_size=7)
    before = numbers(net)
    for change, message in (
        ({"optimizer": "sgd"}, "optimizer: needs that of the run"),
        ({"batch_size": None}, "resume: needs the data and the batch_size"),
        ({"shuffle": False}, "resume: needs the data"),
        ({"initial_epoch": 3}, "initial_epoch: needs to be None"),
        ({"resume": 1}, "resume: needs True or False"),
        ({"callbacks": [EarlyStopping("loss", restore_best=True)]}, "resume: needs the callbacks"),
    ):
        arguments = {"epochs": 4, "batch_size": 7, "resume": True, **change}
        with pytest.raises((TypeError, ValueError), match=message):
            net.fit(X, Y, **arguments)
        assert numbers(net) == before
    with pytest.raises(ValueError, match="resume: needs the data"):
        net.fit(X[:-1], Y[:-1], epochs=4, batch_size=7, resume=True)


def test_a_run_that_is_over_stays_so():
    net = network()
    net.fit(X, Y, epochs=3)
    before = numbers(net)
    net.fit(X, Y, epochs=3, resume=True)
    assert numbers(net) == before
    net.fit(X, Y, epochs=5, resume=True)  # two more
    assert net.history.epochs == 5


# --- files from the end of an epoch ----------------------------------------------------------------------------------


def _rules(kind):
    early = bp.callbacks.EarlyStopping
    return {
        "none": lambda: [],
        "stops": lambda: [early("val_loss", patience=2, min_delta=0.5, restore_best=True)],
        "stops in Python": lambda: [early("val_loss", patience=3, mode="max", restore_best=True)],
        "best loss": lambda: [early("loss", patience=100, restore_best=True)],
        "two": lambda: [early("loss", patience=100), early("val_loss", patience=4, min_delta=0.01, restore_best=True)],
        "rate": lambda: [bp.callbacks.ReduceLROnPlateau("loss", patience=2, min_delta=0.1, factor=0.5)],
        "average": lambda: [bp.callbacks.ExponentialMovingAverage(0.9)],
    }[kind]()


class _Saves(bp.callbacks.Callback):
    """Writes a file at the end of every epoch."""

    def __init__(self, folder):
        self.folder = folder

    def of_member(self, k):
        return self if k == 1 else bp.callbacks.Callback()

    def on_epoch_end(self, network, epoch, logs):
        network.save_checkpoint(self.folder / f"{epoch}.safetensors")


@pytest.mark.parametrize("first", [False, True], ids=["after the rules", "before them"])
@pytest.mark.parametrize("kind", ["none", "stops", "stops in Python", "best loss", "two", "rate", "average"])
@pytest.mark.parametrize("how", ["batches", "all rows", "member", "minimize"])
def test_every_file_from_the_end_of_an_epoch_leads_to_the_same_end(how, kind, first, backend, tmp_path):
    """Also that of the last epoch, after which the best parameters come back, and what a rule has stopped."""
    if how == "minimize" and kind in ("rate", "average"):
        pytest.skip("minimize has neither rates nor steps")
    rng = np.random.default_rng(0)
    X = rng.random((40, 3))
    y = np.sin(5 * X.sum(axis=1))
    settings = {"epochs": 6, "batch_size": 8 if how == "batches" else None}
    if how == "minimize":
        settings = {"max_iter": 6, "n_threads": 1}

    def run(net, saves, **more):
        callbacks = [saves, *_rules(kind)] if first else [*_rules(kind), saves]
        call = net.minimize if how == "minimize" else net.fit
        call(X, y, validation_data=(X[:10], y[:10]), callbacks=callbacks, progress=False, **settings, **more)

    whole = bp.mlp([3, 4, 1], hidden="tanh", seed=0, backend=backend)
    if how == "member":
        fleet = bp.Fleet(3, whole.layers, size=2, seed=0, backend=backend)
        run(fleet, _Saves(tmp_path))
        whole = fleet[1]
    else:
        run(whole, _Saves(tmp_path))
    files = sorted(tmp_path.iterdir())
    assert len(files) == whole.history.epochs
    (tmp_path / "again").mkdir()
    for path in files:
        again = bp.resume(path, backend=backend)
        run(again, _Saves(tmp_path / "again"), resume=True)
        assert again.history.stop_reason == whole.history.stop_reason
        np.testing.assert_array_equal(again.parameters, whole.parameters)
        for name in whole.history:
            np.testing.assert_array_equal(again.history[name], whole.history[name])


@pytest.mark.parametrize("how", ["fit", "minimize"])
def test_what_raises_before_a_run_goes_on_leaves_its_end_to_do(how, tmp_path):
    """A file says that a callback has asked for the end: not even a callback that fails to begin takes that away."""
    X = np.random.default_rng(0).random((20, 2))

    def run(net, *callbacks, **more):
        more |= {"max_iter": 9} if how == "minimize" else {"epochs": 9}
        (net.minimize if how == "minimize" else net.fit)(X, X[:, 0], callbacks=callbacks, progress=False, **more)

    def fail(*_):
        raise ZeroDivisionError

    stops = bp.callbacks.LambdaCallback(on_epoch_end=lambda net, epoch, _: net.stop("enough") if epoch == 4 else None)
    net = bp.mlp([2, 2, 1], seed=0)
    run(net, stops, _Saves(tmp_path))
    again = bp.resume(tmp_path / "4.safetensors")
    with pytest.raises(ZeroDivisionError):
        run(again, bp.callbacks.LambdaCallback(on_train_begin=fail), resume=True)
    run(again, resume=True)
    assert (again.history.stop_reason, again.history.epochs) == ("enough", 4)
    np.testing.assert_array_equal(again.parameters, net.parameters)


def test_a_checkpoint_has_what_is_restored_at_the_end(tmp_path):
    """Wherever it stands: it is the last to hear of the end."""
    X = np.random.default_rng(0).random((20, 2))
    for order in (1, -1):
        path = tmp_path / f"{order}.safetensors"
        stopping = bp.callbacks.EarlyStopping("loss", patience=3, mode="max", restore_best=True)
        net = bp.mlp([2, 2, 1], seed=0)
        net.fit(X, X[:, 0], epochs=9, callbacks=[bp.callbacks.Checkpoint(path, every=100), stopping][::order])
        assert net.history.epochs == 4
        np.testing.assert_array_equal(bp.load(path).parameters, net.parameters)
