"""Training: what a call of fit does, what it leaves behind and what the next one continues from."""

import _thread
import signal
import subprocess
import sys
import threading
import time

import backprop as bp
import numpy as np
import pytest
from backprop import _backend, training
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
    nets = [make(name) for name in _backend.available()]
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
    output = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid", "poisson": "exp"}.get(loss, "identity")
    targets = (y > 0).astype(int)
    net = bp.mlp([3, 4, 2 if loss == "cross_entropy" else 1], output=output, seed=0, backend=backend)
    before = net.loss(X, targets, loss=loss)
    net.fit(X, targets, loss=loss, optimizer=bp.Adam(learning_rate=0.02), epochs=20)
    assert net.loss(X, targets, loss=loss) < before


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
    for name in _backend.available():
        parts, whole = make(name), make(name)
        for epochs in split:
            parts.fit(X, y, epochs=epochs, batch_size=batch_size, shuffle=shuffle)
        whole.fit(X, y, epochs=sum(split), batch_size=batch_size, shuffle=shuffle)
        same(parts, whole)


def test_time_slices_do_not_show(backend, data, monkeypatch):
    sliced, whole = make(backend), make(backend)
    whole.fit(*data, epochs=5, batch_size=4)
    monkeypatch.setattr(training, "SLICE_SECONDS", 0.0)
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


def test_diverged_error():
    error = bp.DivergedError(3, float("nan"), 0.5)
    assert isinstance(error, ArithmeticError)
    assert (error.epoch, str(error)[:43]) == (3, "the loss of epoch 3 is nan: try a learning_")


class Interrupting:
    """Sends Ctrl-C a moment after the block is entered."""

    def __enter__(self):
        self.timer = threading.Timer(0.2, self.interrupt)
        self.timer.start()

    def interrupt(self):
        self.time = time.perf_counter()
        _thread.interrupt_main()

    def __exit__(self, *_):
        self.timer.cancel()
        self.timer.join()


@pytest.mark.parametrize("batch_size", [None, 5])
def test_ctrl_c(batch_size, backend, data):
    net, twin = make(backend), make(backend)
    interrupting = Interrupting()
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
    monkeypatch.setattr(training, "SLICE_SECONDS", 0.001)
    monkeypatch.setattr(training, "PROGRESS_AFTER_SECONDS", 0.01)
    net = make(backend)
    with pytest.raises(KeyboardInterrupt), Interrupting():
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
    with pytest.raises(KeyError):
        history["accuracy"]
    with pytest.raises(ValueError, match="read-only"):
        history.loss[0] = 0
    assert history == history
    assert history != make(backend).history
