"""Training: what a call of fit does, what it leaves behind and what the next one continues from."""

import _thread
import math
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import backprop as bp
import numpy as np
import pytest
from backprop.backends import choice
from backprop.base.types import TrainingSettings
from backprop.learn import fit, pace
from backprop.learn.start import begin
from backprop.optimizers import OPTIMIZERS
from hypothesis import given, settings
from hypothesis import strategies as st

N = 50


@pytest.fixture
def data(rng):
    X = rng.normal(size=(N, 3))
    return X, np.sin(X.sum(axis=1))


def make(backend, dtype="float64", **layer):
    layers = [bp.Dense(5, "tanh", **layer), bp.Dense(1, **layer)]
    return bp.Network(3, layers, dtype=dtype, seed=0, backend=backend)


def same(a, b):
    """Whether two networks are equal, bit for bit, in all that training changes."""
    np.testing.assert_array_equal(a.parameters, b.parameters)
    np.testing.assert_array_equal(a.history.loss, b.history.loss)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [None, 1, 8, N, 10 * N])
def test_the_loss_falls(optimizer, batch_size, backend, dtype, data):
    net = make(backend, dtype)
    before = net.loss(*data)
    rate = 0.05 if batch_size in (None, N, 10 * N) else 0.01
    if optimizer == "adadelta":
        rate *= 200  # its steps begin at the root of its epsilon
    history = net.fit(*data, optimizer=OPTIMIZERS[optimizer](learning_rate=rate), batch_size=batch_size, epochs=30)
    assert net.loss(*data) < 0.8 * before
    assert history is net.history
    assert history.loss.shape == (30,)
    assert history.loss[-1] < 0.8 * history.loss[0]


def test_full_batch_history_is_the_loss_before_each_step(backend, data):
    net = make(backend, l1=0.01, l2=0.1)
    expected = []
    for _ in range(5):
        expected.append(net.loss(*data))
        net.fit(*data, epochs=1, batch_size=None)
    np.testing.assert_allclose(net.history.loss, expected, rtol=1e-12)


def test_one_step_of_gradient_descent(backend, data):
    net = make(backend, l1=0.01, l2=0.1)
    _, gradients = net.loss_and_gradients(*data)
    expected = [W - 0.1 * dW for W, (dW, _) in zip(net.weights, gradients, strict=True)]
    net.fit(*data, optimizer=bp.SGD(learning_rate=0.1), epochs=1, batch_size=None)
    for W, wanted in zip(net.weights, expected, strict=True):
        np.testing.assert_allclose(W, wanted, rtol=1e-12, atol=1e-15)


# --- data, weights, settings ------------------------------------------------------------------------------------------


def test_weights_count_rows(backend, data):
    """A row of weight 2 is two rows, a row of weight 0 is none."""
    X, y = data
    weighted, repeated = make(backend), make(backend)
    counts = np.arange(N) % 3
    weighted.fit(X, y, sample_weight=counts, epochs=5, batch_size=None)
    repeated.fit(np.repeat(X, counts, axis=0), np.repeat(y, counts), epochs=5, batch_size=None)
    np.testing.assert_allclose(weighted.parameters, repeated.parameters, rtol=1e-10)
    np.testing.assert_allclose(weighted.history.loss, repeated.history.loss, rtol=1e-12)


def test_a_batch_as_large_as_the_data_is_the_full_batch(backend, data):
    nets = [make(backend) for _ in range(3)]
    for net, batch_size in zip(nets, (None, N, np.int64(N + 1)), strict=True):
        net.fit(*data, epochs=3, batch_size=batch_size)
    same(nets[0], nets[1])
    same(nets[0], nets[2])


def test_shuffling(backend, data):
    ordered, again, shuffled, reshuffled = (make(backend) for _ in range(4))
    for net, shuffle in ((ordered, False), (again, False), (shuffled, True), (reshuffled, True)):
        net.fit(*data, epochs=2, batch_size=8, shuffle=shuffle)
    same(ordered, again)
    same(shuffled, reshuffled)
    assert (ordered.history.loss != shuffled.history.loss).all()

    by_hand = make(backend)
    X, y = data
    for _ in range(2):
        for start in range(0, N, 8):
            by_hand.fit(X[start : start + 8], y[start : start + 8], epochs=1, batch_size=None)
    np.testing.assert_allclose(ordered.parameters, by_hand.parameters, rtol=1e-10)


def test_backends_see_the_same_batches(data):
    nets = [make(name) for name in choice.available()]
    for net in nets:
        net.fit(*data, epochs=3, batch_size=7)
    for net in nets:
        np.testing.assert_allclose(net.parameters, nets[-1].parameters, rtol=1e-9)


def test_what_is_frozen_stays(backend, data):
    layers = [bp.Dense(5, "tanh", trainable=False), bp.Dense(1, bias_trainable=False, bias_init=0.25)]
    net = bp.Network(3, layers, seed=0, backend=backend)
    before = net.parameters.copy()
    net.fit(*data, optimizer=bp.AdamW(weight_decay=0.5), epochs=3)
    W, b = net.weights, net.biases
    np.testing.assert_array_equal(W[0].ravel(), before[:15])
    np.testing.assert_array_equal(b[1], [0.25])
    np.testing.assert_array_equal(b[0], before[15:20])
    assert (W[1].ravel() != before[20:25]).all()


def test_clipping(backend, data):
    X, y = data
    rate = 0.1
    by_norm, by_value = make(backend), make(backend)
    start = by_norm.parameters.copy()
    _, gradients = by_norm.loss_and_gradients(X, 100 * y)
    gradient = np.concatenate([part.ravel() for pair in gradients for part in pair])
    sgd = bp.SGD(learning_rate=rate)
    by_norm.fit(X, 100 * y, optimizer=sgd, epochs=1, batch_size=None, clip_norm=0.5)
    by_value.fit(X, 100 * y, optimizer=sgd, epochs=1, batch_size=None, clip_value=0.01)
    assert np.linalg.norm((start - by_norm.parameters) / rate) == pytest.approx(0.5, rel=1e-5)
    np.testing.assert_allclose(by_value.parameters, start - rate * gradient.clip(-0.01, 0.01), rtol=1e-9)


@pytest.mark.parametrize("loss", bp.losses.LOSSES)
def test_every_loss_by_name(loss, backend, data):
    X, y = data
    kind = bp.losses.LOSSES[loss]
    targets = (y > 0).astype(int)
    if kind.target_values == (-1, 1):
        targets = 2 * targets - 1
    elif kind.targets_above:
        targets = targets + 1
    net = bp.mlp([3, 4, 1 if kind.elementwise else 2], output=kind.scores_of or "identity", seed=0, backend=backend)
    before = net.loss(X, targets, loss=loss)
    net.fit(X, targets, loss=loss, optimizer=bp.Adam(learning_rate=0.02), epochs=20)
    assert net.loss(X, targets, loss=loss) < before


# --- validation, class weights, metrics, schedules, losses of one's own -----------------------------------------------


def test_validation_loss(backend, dtype, data):
    X, y = data
    net = make(backend, dtype, l2=0.1)
    expected = []
    note = bp.callbacks.LambdaCallback(
        on_epoch_end=lambda network, *_: expected.append(network.loss(X[40:], y[40:], sample_weight=np.arange(1, 11)))
    )
    history = net.fit(
        X[:40], y[:40], validation_data=(X[40:], y[40:], np.arange(1, 11)), epochs=5, batch_size=8, callbacks=[note]
    )
    np.testing.assert_allclose(history["val_loss"], expected, rtol=1e-6 if dtype == "float32" else 1e-13)


def test_validation_split_takes_the_last_rows(backend, data):
    X, y = data
    weight = np.linspace(0, 1, N)
    split, by_hand = make(backend), make(backend)
    split.fit(X, y, sample_weight=weight, validation_split=0.3, epochs=3, metrics="r2")
    validation = (X[35:], y[35:], weight[35:])
    by_hand.fit(X[:35], y[:35], sample_weight=weight[:35], validation_data=validation, epochs=3, metrics="r2")
    np.testing.assert_array_equal(split.parameters, by_hand.parameters)
    for name in ("loss", "val_loss", "r2", "val_r2"):
        np.testing.assert_array_equal(split.history[name], by_hand.history[name])


def test_validation_changes_no_bit(backend, data):
    with_it, without = make(backend), make(backend)
    with_it.fit(*data, validation_data=data, epochs=4, batch_size=8)
    without.fit(*data, epochs=4, batch_size=8)
    same(with_it, without)


def test_a_series_that_is_not_always_recorded(backend, data):
    net = make(backend)
    net.fit(*data, epochs=2)
    net.fit(*data, epochs=2, validation_split=0.2)
    net.fit(*data, epochs=1, metrics={"zero": lambda outputs, targets: 0})
    np.testing.assert_array_equal(np.isnan(net.history["val_loss"]), [True, True, False, False, True])
    np.testing.assert_array_equal(net.history["zero"], [np.nan] * 4 + [0])
    assert not np.isnan(net.history.loss).any()


def test_metrics(backend, rng):
    X = rng.normal(size=(N, 3))
    y = (X[:, 0] > 0).astype(int)
    net = bp.mlp([3, 4, 2], output="softmax", dtype="float64", seed=0, backend=backend)

    def sure(outputs, targets):
        assert targets.dtype == np.int64
        return outputs.max(axis=1).mean()

    history = net.fit(X, y, validation_split=0.5, epochs=3, metrics=["accuracy", sure], class_weight="balanced")
    assert list(history) == ["loss", "val_loss", "accuracy", "sure", "val_accuracy", "val_sure"]
    for rows, prefix in ((slice(25), ""), (slice(25, None), "val_")):
        outputs = net.predict(X[rows])
        assert history[prefix + "accuracy"][-1] == (outputs.argmax(axis=1) == y[rows]).mean()
        assert history[prefix + "sure"][-1] == outputs.max(axis=1).mean()


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("class_weight", ["balanced", {0: 0.5, 1: 3.0}, {1: 2}], ids=str)
def test_class_weight(class_weight, weighted, output, backend, rng):
    X = rng.normal(size=(N, 3))
    y = (X[:, 0] > 1).astype(int)
    weight = rng.integers(0, 3, N) if weighted else np.ones(N)
    if class_weight == "balanced":
        totals = np.array([weight[y == k].sum() for k in (0, 1)])
        of_class = weight.sum() / (2 * totals)
        if not weighted:
            theirs = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight
            np.testing.assert_allclose(of_class, theirs("balanced", classes=np.array([0, 1]), y=y))
    else:
        of_class = np.array([class_weight.get(k, 1.0) for k in (0, 1)])
    nets = [
        bp.mlp([3, 4, 2 if output == "softmax" else 1], output=output, dtype="float64", seed=0, backend=backend)
        for _ in range(2)
    ]
    nets[0].fit(X, y, class_weight=class_weight, sample_weight=weight if weighted else None, epochs=3, batch_size=10)
    nets[1].fit(X, y, sample_weight=weight * of_class[y], epochs=3, batch_size=10)
    np.testing.assert_allclose(nets[0].parameters, nets[1].parameters, rtol=1e-12)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 0.5, 2: 3.0}], ids=str)
@pytest.mark.parametrize("loss", ["cross_entropy", "kullback_leibler", bp.losses.CrossEntropy(label_smoothing=0.1)])
def test_class_weight_of_rows_of_one_class(class_weight, loss, backend, rng):
    X, y = rng.normal(size=(N, 3)), rng.integers(0, 3, N)
    weight = rng.uniform(size=N)
    nets = [bp.mlp([3, 3], output="softmax", dtype="float64", seed=0, backend=backend) for _ in range(2)]
    for net, targets in zip(nets, (y, np.eye(3)[y]), strict=True):
        net.fit(X, targets, loss=loss, class_weight=class_weight, sample_weight=weight, epochs=3, batch_size=10)
    np.testing.assert_allclose(nets[0].parameters, nets[1].parameters, rtol=1e-12)
    targets = np.eye(3)[y]
    targets[1] = [0.5, 0.5, 0]
    with pytest.raises(ValueError, match="class_weight: needs class labels: integers or rows of one 1"):
        nets[0].fit(X, targets, loss=loss, class_weight=class_weight)


@pytest.mark.parametrize("every", ["step", "epoch"])
def test_schedules_step_by_step(every, backend, data, monkeypatch):
    X, y = data
    schedule = bp.schedules.Warmup(length=3, start=0.1, every=every) * bp.schedules.Exponential(decay=0.9)
    for window in (65_536, 4):
        monkeypatch.setattr(pace, "WINDOW", window)
        net, by_hand = make(backend), make(backend)
        history = net.fit(
            X, y, optimizer=bp.SGD(learning_rate=0.1), schedule=schedule, epochs=3, batch_size=8, shuffle=False
        )
        factors = schedule.factors(np.arange(21), 7)
        for step in range(21):
            rows = slice(8 * (step % 7), 8 * (step % 7) + 8)
            sgd = bp.SGD(learning_rate=0.1 * factors[step])
            by_hand.fit(X[rows], y[rows], optimizer=sgd, epochs=1, batch_size=None)
        np.testing.assert_allclose(net.parameters, by_hand.parameters, rtol=1e-10)
        np.testing.assert_array_equal(history["learning_rate"], 0.1 * factors[6::7])


def test_schedules_go_on_or_start_again(backend, data):
    schedule = bp.schedules.Exponential(decay=0.5, every="epoch")
    parts, whole = make(backend), make(backend)
    for epochs in (2, 1, 2):
        parts.fit(*data, schedule=schedule, epochs=epochs)
    whole.fit(*data, schedule=schedule, epochs=5)
    same(parts, whole)
    whole.fit(*data, schedule=schedule, epochs=2, initial_epoch=0)
    np.testing.assert_array_equal(whole.history["learning_rate"], 1e-3 * 0.5 ** np.array([0, 1, 2, 3, 4, 0, 1]))


def test_rates_of_numpy(backend, data):
    """NumPy's numbers are numbers."""
    for schedule in (None, bp.schedules.Constant()):
        sgd = bp.SGD(learning_rate=np.float32(0.125))
        found, expected = make(backend), make(backend)
        found.fit(*data, optimizer=sgd, schedule=schedule, epochs=2)
        expected.fit(*data, optimizer=bp.SGD(learning_rate=0.125), schedule=schedule, epochs=2)
        np.testing.assert_array_equal(found.parameters, expected.parameters)


def test_a_function_as_a_schedule(backend, data):
    history = make(backend).fit(*data, schedule=lambda step: 1 / (1 + step), epochs=3, batch_size=None)
    np.testing.assert_allclose(history["learning_rate"], 1e-3 / np.arange(1, 4))


@pytest.mark.parametrize("window", [3, 7])
def test_windows_do_not_show(window, backend, data, rng, monkeypatch):
    """Losses and rates pass between core and Python piece by piece, also while the validation rows are gone over."""
    X = rng.normal(size=(2000, 3))
    nets = [make(backend) for _ in range(2)]
    for net in nets:
        net.fit(
            *data,
            validation_data=(X, X[:, 0]),
            schedule=bp.schedules.Cosine(length=50),
            epochs=10,
            batch_size=8,
        )
        monkeypatch.setattr(pace, "WINDOW", window)
        monkeypatch.setattr(pace, "SLICE_SECONDS", 0.0)
    same(*nets)
    assert nets[0].history.epochs == 10
    for name in ("val_loss", "learning_rate"):
        np.testing.assert_array_equal(nets[0].history[name], nets[1].history[name])


def test_epochs_without_end_cost_no_memory(backend, data):
    net = make(backend)
    tracemalloc.start()
    try:
        history = net.fit(*data, optimizer=bp.SGD(learning_rate=1e-9), epochs=10**12, tolerance=1.0, patience=5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (history.epochs, history.stop_reason) == (6, "tolerance")
    assert peak < 2**21  # a window of losses is half a MiB


def test_a_loss_of_ones_own(backend, dtype, data):
    X, y = data

    def squared(outputs, targets):
        error = outputs - targets
        return np.mean(error**2), 2 * error / error.size

    custom, ours = make(backend, dtype, l2=0.1), make(backend, dtype, l2=0.1)
    settings = {"epochs": 5, "batch_size": 8, "validation_split": 0.2, "metrics": "r2"}
    for net, loss in ((custom, squared), (ours, "squared_error")):
        net.fit(X, y, loss=loss, **settings)
    tolerance = 1e-4 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(custom.parameters, ours.parameters, rtol=tolerance, atol=tolerance)
    for name in ours.history:
        np.testing.assert_allclose(custom.history[name], ours.history[name], rtol=tolerance)


def test_a_loss_of_ones_own_that_raises(backend, data):
    net, twin = make(backend), make(backend)

    def fragile(outputs, targets):
        fragile.calls += 1
        if fragile.calls == 12:
            raise ZeroDivisionError
        return np.mean(outputs**2), 2 * outputs / outputs.size

    fragile.calls = 0
    with pytest.raises(ZeroDivisionError):
        net.fit(*data, loss=fragile, epochs=5, batch_size=10)
    assert (net.history.epochs, net._state.epoch, net._state.step) == (2, 2, 11)
    twin.fit(*data, loss=lambda outputs, targets: fragile(outputs, targets), epochs=2, batch_size=10)
    np.testing.assert_array_equal(twin.history.loss, net.history.loss)


def test_penalties_for_each_row(backend, data):
    """What estimators after scikit-learn ask for."""
    X, y = data
    per_row, plain = make(backend, l2=0.5), make(backend, l2=0.5 / N)
    for net in (per_row, plain):
        loss, rows = net._data(X, y, "squared_error", None)
        fit.fit_rows(net, rows, loss, "sgd", epochs=3, batch_size=None, penalty_per_row=net is per_row)
    np.testing.assert_allclose(per_row.parameters, plain.parameters, rtol=1e-12)


BAD = [
    ({"validation_data": (np.zeros((2, 4)), np.zeros(2))}, ValueError, "validation_data[0]: needs 3 columns, got 4"),
    ({"validation_data": (np.zeros((2, 3)), np.zeros(3))}, ValueError, "validation_data[1]: needs one row for each"),
    (
        {"validation_data": (np.zeros((2, 3)), np.zeros(2), [1, -1])},
        ValueError,
        "validation_data[2]: needs weights >= 0",
    ),
    ({"validation_data": np.zeros((2, 3))}, TypeError, "validation_data: needs (X, y) or (X, y, sample_weight), got"),
    ({"validation_split": 1.0}, ValueError, "validation_split: needs a number >= 0 and < 1, got 1.0"),
    ({"validation_split": 0.999}, ValueError, "validation_split: needs at least one row on either side, got 0 and 50"),
    (
        {"validation_split": 0.2, "sample_weight": np.arange(N) < 40},
        ValueError,
        "validation_split: needs a weight > 0 among the validation rows",
    ),
    (
        {"validation_split": 0.2, "validation_data": (np.zeros((2, 3)), np.zeros(2))},
        ValueError,
        "validation_split: needs to be 0 where there is validation_data",
    ),
    ({"class_weight": "balanced"}, ValueError, "class_weight: needs class labels: integers or rows of one 1 and"),
    ({"schedule": 0.1}, TypeError, "schedule: needs None, a function of the step number or one of Constant, StepDecay"),
    (
        {"metrics": ["accuracy"]},
        ValueError,
        "metrics: accuracy needs class labels or targets that are 0 or 1, got real",
    ),
    ({"on_divergence": "ignore"}, ValueError, "on_divergence: needs one of 'raise', 'stop', got 'ignore'"),
    ({"initial_epoch": -1}, ValueError, "initial_epoch: needs an integer >= 0, got -1"),
    (
        {"initial_epoch": 1, "resume": True},
        ValueError,
        "initial_epoch: needs to be None where a run is resumed, got 1",
    ),
]


@pytest.mark.parametrize(("settings", "error", "message"), BAD)
def test_wrong_combinations_leave_everything_untouched(settings, error, message, backend, data):
    net, twin = make(backend), make(backend)
    for each in (net, twin):
        each.fit(*data, epochs=2, batch_size=8)
    with pytest.raises(error, match=re.escape(message)):
        net.fit(*data, **settings)
    for each in (net, twin):
        each.fit(*data, epochs=2, batch_size=8)
    same(net, twin)


BAD_CLASS_WEIGHTS = [
    ({2: 1.0}, ValueError, "label in class_weight: needs an integer >= 0 and <= 1, got 2"),
    ({"0": 1.0}, TypeError, "label in class_weight: needs an integer, got '0'"),
    ({0: -1}, ValueError, "class_weight[0]: needs a number >= 0, got -1"),
    ({0: 0, 1: 0}, ValueError, "class_weight: needs at least one weight > 0"),
    ("equal", TypeError, "class_weight: needs a mapping from class labels to weights or 'balanced', got 'equal'"),
]


@pytest.mark.parametrize(("class_weight", "error", "message"), BAD_CLASS_WEIGHTS)
def test_bad_class_weights(class_weight, error, message, backend, data):
    net = bp.mlp([3, 2], output="softmax", backend=backend)
    with pytest.raises(error, match=re.escape(message)):
        net.fit(data[0], np.arange(N) % 2, class_weight=class_weight)


# --- continuing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [None, 8])
def test_five_and_five_are_ten(optimizer, batch_size, backend, dtype, data):
    halves, whole = make(backend, dtype), make(backend, dtype)
    for net, calls in ((halves, (2, 1, 2)), (whole, (5,))):
        for epochs in calls:
            history = net.fit(*data, optimizer=optimizer, epochs=epochs, batch_size=batch_size)
    assert history.epochs == 5
    same(halves, whole)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 12), st.booleans())
def test_any_split_of_the_epochs_is_the_same(split, batch_size, shuffle):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(11, 3)), rng.normal(size=11)
    for name in choice.available():
        parts, whole = make(name), make(name)
        for epochs in split:
            parts.fit(X, y, epochs=epochs, batch_size=batch_size, shuffle=shuffle)
        whole.fit(X, y, epochs=sum(split), batch_size=batch_size, shuffle=shuffle)
        same(parts, whole)


def test_time_slices_do_not_show(backend, data, monkeypatch):
    sliced, whole = make(backend), make(backend)
    whole.fit(*data, epochs=5, batch_size=4)
    monkeypatch.setattr(pace, "SLICE_SECONDS", 0.0)
    sliced.fit(*data, epochs=5, batch_size=4)
    same(sliced, whole)


def test_another_learning_rate_keeps_what_the_optimizer_remembers(backend, data):
    net = make(backend)
    net.fit(*data, optimizer=bp.Adam(learning_rate=0.01), epochs=3, batch_size=None)
    slots = net._state.slots.copy()
    net.fit(*data, optimizer=bp.Adam(learning_rate=1e-30), epochs=1, batch_size=None)
    assert net._state.step == 4
    assert (net._state.slots != slots).any()
    np.testing.assert_allclose(net._state.slots[0], slots[0], atol=0.2)


@pytest.mark.parametrize("other", [bp.Adam(beta_1=0.8), bp.AdamW(), bp.SGD(), "rmsprop"])
def test_another_optimizer_starts_afresh(other, backend, data):
    net, fresh = make(backend), make(backend)
    net.fit(*data, optimizer="adam", epochs=3, batch_size=None)
    fresh.parameters = net.parameters
    for each in (net, fresh):
        each.fit(*data, optimizer=other, epochs=3, batch_size=None)
    np.testing.assert_array_equal(net.parameters, fresh.parameters)
    assert net._state.step == 3
    assert net.history.epochs == 6


def test_other_data_can_follow(backend, data):
    X, y = data
    net = make(backend)
    for n in (N, 10, 30, 1):
        net.fit(X[:n], y[:n], epochs=2, batch_size=4)
    assert net.history.epochs == 8
    assert np.isfinite(net.parameters).all()


def test_the_weights_may_change_in_between(backend, data):
    net = make(backend)
    net.fit(*data, epochs=2)
    flat = net.parameters
    net.weights[0][...] = 0.5
    net.fit(*data, epochs=1)
    assert net.parameters is flat
    np.testing.assert_allclose(net.weights[0], 0.5, atol=0.05)


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_tolerance(backend, data):
    net = make(backend)
    history = net.fit(*data, optimizer=bp.SGD(learning_rate=0.1), epochs=100_000, batch_size=None, tolerance=1e-5)
    assert history.stop_reason == "tolerance"
    loss = history.loss
    assert 10 < len(loss) < 100_000
    stale, best = 0, np.inf
    for k, value in enumerate(loss):
        stale = stale + 1 if value > best - 1e-5 else 0
        best = min(best, value)
        assert (stale >= 10) == (k == len(loss) - 1)


def test_patience_counts_afresh_in_each_call(backend, data):
    net = make(backend)
    for calls in (1, 2):
        history = net.fit(*data, optimizer=bp.SGD(learning_rate=1e-12), epochs=99, tolerance=1.0, patience=3)
        assert history.epochs == calls * 4  # the first epoch of a call is never stale
        assert history.stop_reason == "tolerance"


def test_all_epochs_without_a_tolerance(backend, data):
    history = make(backend).fit(*data, optimizer=bp.SGD(learning_rate=1e-12), epochs=50)
    assert (history.epochs, history.stop_reason) == (50, "epochs")


def test_divergence(backend, dtype, data):
    net = make(backend, dtype)
    net.fit(*data, epochs=2)
    with pytest.raises(bp.DivergedError, match=r"the loss of epoch \d+ is (nan|inf): try a learning_rate below 1e\+20"):
        net.fit(*data, optimizer=bp.SGD(learning_rate=1e20), epochs=100, batch_size=10)
    assert net.history.stop_reason == "diverged"
    assert 3 <= net.history.epochs < 102
    assert np.isfinite(net.history.loss[:-1]).all()
    assert not np.isfinite(net.history.loss[-1])
    assert np.isfinite(net.parameters).all()
    assert net._state.epoch == net.history.epochs


@pytest.mark.parametrize("size", [1, 20])
def test_a_run_that_diverged_is_over(backend, size, data):
    """A fleet's member or alone, it is not resumed."""
    networks = [make(backend) for _ in range(size)]
    fleet = bp.Fleet.of(networks)
    stop = {"optimizer": bp.SGD(learning_rate=1e20), "epochs": 50, "on_divergence": "stop"}
    for each in [fleet, *networks]:
        each.fit(*data, **stop)
        epochs, parameters = each.history["loss"].shape, each.parameters.copy()
        each.fit(*data, resume=True, **stop)
        assert each.history["loss"].shape == epochs
        np.testing.assert_array_equal(each.parameters, parameters)
    assert set(fleet.history.stop_reason) == {net.history.stop_reason for net in networks} == {"diverged"}


def trained_for(net, steps, data, optimizer, schedule=None, **settings):
    """The state after this many steps of a fresh run, by the backend's own loop."""
    loss, rows = net._data(*data, "auto", None)
    state = begin(net, optimizer, TrainingSettings(**settings), len(rows.X), None)
    factors = np.ones(steps) if schedule is None else schedule.factors(np.arange(steps), 7)
    rates = optimizer.learning_rate * factors
    run = net._core.Training(net._plan, loss, optimizer, TrainingSettings(**settings), rows, state, rates).run
    run(200, math.inf, np.empty(200), None, steps)
    assert state.step == steps
    return state


@pytest.mark.parametrize("often", [False, True], ids=["", "snapshots"])
@pytest.mark.parametrize("layer", [{}, {"dropout": 0.3}], ids=str)
@pytest.mark.parametrize("kind", [bp.SGD, bp.Adam])
def test_back_to_the_last_finite_parameters(kind, layer, often, backend, dtype, data, monkeypatch):
    """To the bit those of the step before the one that is named."""
    if often:  # from the middle of the run, not from its beginning
        monkeypatch.setattr(pace, "SLICE_SECONDS", 0.0)
        monkeypatch.setattr(pace, "SNAPSHOT_SHARE", math.inf)
    layers = [bp.Dense(5, "relu", **layer), bp.Dense(1, "exp")]
    nets = [bp.Network(3, layers, dtype=dtype, seed=0, backend=backend) for _ in range(3)]
    data = (data[0], np.abs(data[1]))
    schedule = bp.schedules.Exponential(decay=1.3)
    optimizer = kind(learning_rate=1e-3)
    with pytest.raises(bp.DivergedError) as caught:
        nets[0].fit(*data, loss="poisson", optimizer=optimizer, schedule=schedule, epochs=100, batch_size=8)
    error = caught.value
    assert error.epoch == nets[0].history.epochs > 1
    assert 1 <= error.batch <= 7
    assert error.layer in (0, 1)
    assert f"in batch {error.batch} " in str(error)
    assert f"layers[{error.layer}]" in str(error)
    steps = 7 * (error.epoch - 1) + error.batch
    before = trained_for(nets[1], steps - 1, data, optimizer, schedule, batch_size=8)
    np.testing.assert_array_equal(nets[0].parameters, before.parameters)
    np.testing.assert_array_equal(nets[0]._state.slots, before.slots)
    assert np.isfinite(before.parameters).all()
    assert np.isfinite(before.loss_sum)
    after = trained_for(nets[2], steps, data, optimizer, schedule, batch_size=8)
    assert not (np.isfinite(after.parameters).all() and np.isfinite(after.loss_sum) and after.cursor)


PLACES = {
    # name: initial weights, target, learning rate; what the message says, which layer
    "outputs": ((1e200, 1e200), 1.0, 0.1, "the outputs of", 1),
    "loss": ((1.0, 1.0), 1e200, 0.1, "the loss, from the outputs of", 1),
    "gradients": ((1e-200, 1e160), 1e150, 0.1, "the gradients of", 0),
    "parameters": ((1.0, 1.0), 1e150, 1e200, "the new parameters of", 0),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("batch_size", [None, 4])
def test_where_the_first_number_was_that_is_not_finite(place, batch_size, backend):
    weights, target, rate, text, layer = PLACES[place]
    net = bp.Network(
        1, [bp.Dense(1, weight_init=weight) for weight in weights], dtype="float64", seed=0, backend=backend
    )
    start = net.parameters.copy()
    X, y = np.ones((8, 1)), np.full(8, target)
    with pytest.raises(bp.DivergedError) as caught:
        net.fit(X, y, loss="squared_error", optimizer=bp.SGD(learning_rate=rate), batch_size=batch_size)
    assert (caught.value.epoch, caught.value.batch, caught.value.layer) == (1, 1, layer)
    assert f"in batch 1 {text} layers[{layer}]" in str(caught.value)
    np.testing.assert_array_equal(net.parameters, start)


def test_divergence_that_a_callback_made(backend, data):
    """It does not come again in a replay; the network goes back to its last copy."""
    net = make(backend)
    start = net.parameters.copy()

    def break_it(network, epoch, logs):
        network.parameters[...] = 1e300

    breaker = bp.callbacks.LambdaCallback(on_epoch_end=break_it, every=3)
    with pytest.raises(bp.DivergedError, match="the loss of epoch 4 is") as caught:
        net.fit(*data, epochs=10, callbacks=[breaker])
    assert caught.value.batch is None
    assert caught.value.layer is None
    np.testing.assert_array_equal(net.parameters, start)
    assert net.history.epochs == 4


def test_divergence_of_a_loss_of_ones_own(backend, data):
    net = make(backend)

    def wild(outputs, targets):
        wild.calls += 1
        return (math.nan if wild.calls == 9 else 1.0), np.zeros_like(outputs)

    wild.calls = 0
    with pytest.raises(bp.DivergedError, match="the loss of epoch 2 is nan"):
        net.fit(*data, loss=wild, batch_size=10)


def test_diverged_error():
    error = bp.DivergedError(3, float("nan"), 0.5, 2, 1, "the outputs of layers[1]")
    assert isinstance(error, ArithmeticError)
    assert (error.epoch, error.batch, error.layer, str(error)[:43]) == (
        3,
        2,
        1,
        "the loss of epoch 3 is nan: try a learning_",
    )
    assert str(error).endswith("; in batch 2 the outputs of layers[1] were the first numbers that are not finite")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(bp.DivergedError(3, 0.5, 0.1)).startswith("the loss of epoch 3 is 0.5, but its last parameters are not")


class Interrupting:
    """Sends Ctrl-C a moment after the block is entered, or after the training of a network in it has begun."""

    def __init__(self, net=None):
        self.net, self.over = net, threading.Event()
        self.thread = threading.Thread(target=self.interrupt)

    def __enter__(self):
        self.thread.start()

    def interrupt(self):
        while self.net is not None and self.net._run is None and not self.over.wait(0.001):
            pass
        if not self.over.wait(0.2):
            self.time = time.perf_counter()
            _thread.interrupt_main()

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


@pytest.mark.parametrize("batch_size", [None, 5])
def test_ctrl_c(batch_size, backend, data):
    net, twin = make(backend), make(backend)
    interrupting = Interrupting(net)
    with pytest.raises(KeyboardInterrupt), interrupting:
        net.fit(*data, epochs=10**7, batch_size=batch_size)
    assert time.perf_counter() - interrupting.time < 0.5  # a slice, and room for a busy machine
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert net.history.stop_reason == "interrupted"
    epochs = net.history.epochs
    assert 0 < epochs < 10**7
    assert net._state.epoch == epochs

    twin.fit(*data, epochs=epochs, batch_size=batch_size)
    np.testing.assert_array_equal(twin.history.loss, net.history.loss)
    if batch_size is None:  # an epoch is a step
        same(net, twin)
    net.fit(*data, epochs=1, batch_size=batch_size)
    assert net.history.epochs == epochs + 1
    assert net.history.stop_reason == "epochs"


def test_a_handler_that_does_not_raise_does_not_stop_training(backend, data):
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with Interrupting():
            history = make(backend).fit(*data, epochs=10**7, batch_size=None, tolerance=1e-6)
            while not seen:  # a fast core may be done before the signal comes
                time.sleep(0.01)
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]
    assert history.stop_reason in {"tolerance", "epochs"}


def test_training_in_another_thread(backend, data):
    net, twin = make(backend), make(backend)
    thread = threading.Thread(target=net.fit, args=data, kwargs={"epochs": 3})
    thread.start()
    thread.join()
    twin.fit(*data, epochs=3)
    same(net, twin)


@pytest.mark.parametrize("batch_size", [None, 5])
def test_stop_from_another_thread(batch_size, backend, data):
    net, twin = make(backend), make(backend)
    timer = threading.Timer(0.2, lambda: times.append(time.perf_counter()) or net.stop())
    times = []
    timer.start()
    history = net.fit(*data, epochs=10**7, batch_size=batch_size)
    assert time.perf_counter() - times[0] < 0.5  # a slice, and room for a busy machine
    assert history.stop_reason == "stopped"
    twin.fit(*data, epochs=history.epochs, batch_size=batch_size)
    np.testing.assert_array_equal(twin.history.loss, history.loss)
    if batch_size is None:
        same(net, twin)


def test_one_thread_at_a_time(backend, data):
    net = make(backend)
    begun = threading.Event()
    callback = bp.callbacks.LambdaCallback(on_train_begin=lambda *_: begun.set())
    thread = threading.Thread(target=net.fit, args=data, kwargs={"epochs": 10**7, "callbacks": [callback]})
    thread.start()
    begun.wait()
    try:
        for call in (net.predict, net.fit):
            with pytest.raises(RuntimeError, match="the network is being trained"):
                call(*(data if call == net.fit else data[:1]))
        assert make(backend).fit(*data, epochs=2).epochs == 2  # others are free
    finally:
        assert net.stop()
        thread.join()
    assert net.history.stop_reason == "stopped"
    assert net.predict(data[0]).shape == (N, 1)
    assert not net.stop()


def test_fit_within_a_callback(backend, data):
    net = make(backend)
    again = bp.callbacks.LambdaCallback(on_epoch_end=lambda network, *_: network.fit(*data))
    with pytest.raises(RuntimeError, match="the network is being trained: this call comes in a callback of a fit"):
        net.fit(*data, callbacks=[again])
    assert net.history.epochs == 1
    net.fit(*data, epochs=1)


def test_training_that_begins_while_another_thread_predicts(backend, data):
    """The one that predicts is told: its parameters may have moved."""
    net = make(backend)
    forward = net._forward

    def slow(*arguments):
        thread = threading.Thread(target=net.fit, args=data, kwargs={"epochs": 1})
        thread.start()
        thread.join()
        return forward(*arguments)

    net._forward = slow
    with pytest.raises(RuntimeError, match="its parameters do not stand still"):
        net.predict(data[0])
    assert net.history.epochs == 1


def test_many_predict_at_once(backend, data):
    net = make(backend)
    expected = net.predict(data[0])
    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(net.predict, [data[0]] * 200):
            np.testing.assert_array_equal(result, expected)


def test_fork_and_train_in_the_child(backend, data):
    net, twin = make(backend), make(backend)
    net.fit(*data, epochs=2)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, net.fit(*data, epochs=1).loss.tobytes())
        os._exit(0)
    os.waitpid(child, 0)
    twin.fit(*data, epochs=3)
    assert os.read(read, 1000) == twin.history.loss.tobytes()


def test_ctrl_c_in_a_callback(backend, data):
    """Code that is not ours is not protected from it."""
    net = make(backend)
    interrupting = Interrupting(net)
    sleep = bp.callbacks.LambdaCallback(on_epoch_end=lambda *_: [time.sleep(0.01) for _ in range(1000)])
    with pytest.raises(KeyboardInterrupt), interrupting:
        net.fit(*data, callbacks=[sleep])
    assert time.perf_counter() - interrupting.time < 0.5
    assert (net.history.epochs, net.history.stop_reason) == (1, "interrupted")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# --- what is shown and recorded ---------------------------------------------------------------------------------------


def test_a_short_run_prints_nothing(backend, data, capfd):
    make(backend).fit(*data, epochs=5)
    assert capfd.readouterr() == ("", "")


def test_a_short_run_does_not_import_tqdm():
    code = "import sys, backprop as bp; bp.mlp([1, 1]).fit([[0.0]], [1.0]); print('tqdm' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_a_bar_that_is_asked_for_appears_even_in_a_short_run(backend, data, capfd):
    make(backend).fit(*data, epochs=5, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "5/5" in err


@pytest.mark.parametrize(("progress", "shown"), [("auto", True), (True, True), (False, False)])
def test_a_long_run_shows_its_progress_on_stderr(progress, shown, backend, data, capfd, monkeypatch):
    monkeypatch.setattr(pace, "SLICE_SECONDS", 0.001)
    monkeypatch.setattr(pace, "PROGRESS_AFTER_SECONDS", 0.01)
    net = make(backend)
    with pytest.raises(KeyboardInterrupt), Interrupting(net):
        net.fit(*data, epochs=10**7, progress=progress)
    out, err = capfd.readouterr()
    assert out == ""
    assert ("epoch/s" in err and "loss=" in err) == shown
    if not shown:
        assert err == ""


def test_history(backend, data):
    net = make(backend)
    assert repr(net.history) == "History(epochs=0)"
    assert (net.history.epochs, net.history.stop_reason, net.history.elapsed) == (0, None, 0.0)
    history = net.fit(*data, epochs=3)
    elapsed = history.elapsed
    assert elapsed > 0
    net.fit(*data, epochs=2)
    assert history.elapsed > elapsed
    assert history.epochs == 5
    assert list(history) == ["loss"]
    assert history["loss"] is history.loss
    assert "loss" in history
    assert "accuracy" not in history
    assert repr(history).startswith("History(epochs=5, loss=")
    with pytest.raises(KeyError, match="name: needs one that was recorded, 'loss'; got 'accuracy'"):
        history["accuracy"]
    with pytest.raises(ValueError, match="read-only"):
        history.loss[0] = 0
    assert history == history
    assert history != make(backend).history
