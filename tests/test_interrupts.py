"""Ctrl-C and `stop`: they take effect soon, whenever they come, and training can go on as if they had not come."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
from pathlib import Path

import backprop as bp
import numpy as np
import pytest
from backprop.base.fleet import DIVERGING
from backprop.base.interrupts import HeldInterrupts
from backprop.learn import pace
from backprop.learn.fleet_run import PartRun
from backprop.learn.run import Run

pytestmark = pytest.mark.skipif(not hasattr(os, "kill") or sys.platform == "win32", reason="needs POSIX signals")

# sizes, rows, batch size: a step of half a microsecond, one of twenty milliseconds, and one of a quarter of a second
RUNS = {
    "small": ([2, 2, 1], 4, None),
    "wide": ([256, 1024, 1024, 10], 1024, 256),
    "all rows": ([64, 256, 256, 1], 60_000, None),
}
LIMIT = 0.1


@pytest.fixture(autouse=True)
def numpy_errors():
    """Ctrl-C at the last line of a `with` leaves NumPy's errors hidden: Python ends the block without its end."""
    before = np.geterr()
    yield
    np.seterr(**before)


def begin(case):
    """A network that was not trained yet, and the arguments of its `fit`."""
    sizes, n_rows, batch_size = RUNS[case]
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, sizes[0]), np.float32)
    y = rng.standard_normal((n_rows, sizes[-1]), np.float32)
    return bp.mlp(sizes, hidden="tanh", seed=0), {"X": X, "y": y, "batch_size": batch_size, "resume": True}


def numbers(net):
    """Every number of a network's training."""
    state, history = net._state, net.history
    arrays = (net.parameters, state.slots, state.permutation, history.loss)
    counters = (state.step, state.epoch, state.cursor, state.loss_sum, state.weight_sum, state.bit_generator.state)
    return [array.tobytes() for array in arrays], counters, history.epochs


class While:
    """Does something in another thread while a network is trained within the block; `time` is when."""

    def __init__(self, net, seconds, action):
        self.net, self.seconds, self.action = net, seconds, action
        self.thread = threading.Thread(target=self.act)

    def act(self):
        while self.net._run is None:
            time.sleep(0.001)
        time.sleep(self.seconds)
        self.time = time.perf_counter()
        self.action()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.thread.join()


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def stopped_after(seconds, how, net, arguments, n_threads):
    """Seconds from Ctrl-C, or from the call of `stop`, to the return of `fit`."""
    with While(net, seconds, net.stop if how == "stop" else interrupt) as meanwhile:
        try:
            net.fit(**arguments, epochs=10**9, n_threads=n_threads, progress=False)
        except KeyboardInterrupt:
            assert how != "stop"
        else:
            assert how == "stop"
        ended = time.perf_counter()
    assert net.history.stop_reason == ("stopped" if how == "stop" else "interrupted")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert net.history.epochs == net._state.epoch
    assert np.isfinite(net.history.loss).all()
    return ended - meanwhile.time


def stopped_again_and_again(case, n_threads, how, tries, rng):
    """Times of `stopped_after` for one network, which goes on each time and ends as one that was not stopped."""
    net, arguments = begin(case)
    times = [stopped_after(rng.uniform(0, 0.15), how, net, arguments, n_threads) for _ in range(tries)]
    epochs = net.history.epochs + 1
    net.fit(**arguments, epochs=epochs)
    twin, arguments = begin(case)
    twin.fit(**arguments, epochs=epochs)
    assert numbers(net) == numbers(twin)
    return times


each_case = pytest.mark.parametrize("case", RUNS)
each_number_of_threads = pytest.mark.parametrize("n_threads", [1, 2])
each_way = pytest.mark.parametrize("how", ["Ctrl-C", "stop"])


@each_way
@each_number_of_threads
@each_case
def test_training_ends_soon_and_goes_on_with_the_same_bits(case, n_threads, how):
    times = stopped_again_and_again(case, n_threads, how, 2, np.random.default_rng(n_threads))
    assert min(times) < 1  # that it is far sooner is for the long version to show: here other tests may run


@pytest.mark.slow
@each_way
@each_number_of_threads
@each_case
def test_two_hundred_times(case, n_threads, how):
    rng = np.random.default_rng(0)
    times = []
    while len(times) < 200:
        times += stopped_again_and_again(case, n_threads, how, 10, rng)
    middle, late, latest = 1000 * np.quantile(times, [0.5, 0.99, 1])
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    print(
        f"\n{how}, {case}, {n_threads} threads: median {middle:.0f} ms, p99 {late:.0f} ms, latest {latest:.0f} ms of "
        f"{len(times)}; load {load:.1f} for each CPU"
    )
    assert late <= 1000 * LIMIT


# --- at every line --------------------------------------------------------------------------------------------------

PACKAGE = str(Path(bp.__file__).parent)


class AtLine:
    """Has Ctrl-C come just before the n-th line that the package runs within the block."""

    def __init__(self, n):
        self.left = n
        self.place = None

    def trace(self, frame, event, _):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                self.place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                signal.raise_signal(signal.SIGINT)
        return self.trace

    def __enter__(self):
        self.before = sys.gettrace()  # of who counts lines
        sys.settrace(self.trace)
        return self

    def __exit__(self, *_):
        sys.settrace(self.before)


def interrupted_at(line, call):
    """Where the signal came and whether `call` raised KeyboardInterrupt."""
    at = AtLine(line)
    try:
        with at:
            call()
    except KeyboardInterrupt:
        return at.place, True
    return at.place, False


RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((4, 2)), RNG.standard_normal(4)


def fit(net):
    """Two epochs of two steps, with validation and a callback in Python."""
    note = bp.callbacks.LambdaCallback(on_epoch_end=lambda *_: None, on_train_end=lambda *_: None)
    net.fit(X, Y, epochs=2, batch_size=2, validation_data=(X, Y), callbacks=[note], resume=True, progress=False)


def step(net):
    net.train_on_batch(X, Y)


def minimize(net):
    net.minimize(X, Y, max_iter=1)


def interrupted_at_every_line(call, make):
    """For every line that `call` runs: where Ctrl-C came, and the network that it left behind."""
    for line in range(1, 100_000):
        net = make()
        place, raised = interrupted_at(line, lambda net=net: call(net))
        assert raised == (place is not None), place
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, place
        if place is None:
            assert line > 20
            return
        yield place, net


def test_ctrl_c_at_every_line_of_fit(monkeypatch):
    """Wherever it comes, it is not lost, the network is not locked, and training goes on as if it had not come."""
    monkeypatch.setattr(pace, "SLICE_SECONDS", 0.0)
    whole = bp.mlp([2, 2, 1], seed=0)
    fit(whole)
    for place, net in interrupted_at_every_line(fit, lambda: bp.mlp([2, 2, 1], seed=0)):
        assert net.history.epochs == (net._state.epoch if net._state else 0), place
        fit(net)
        assert numbers(net) == numbers(whole), place


def test_ctrl_c_at_every_line_of_a_step():
    """It is done, or it is not."""

    def trained():
        net = bp.mlp([2, 2, 1], seed=0)
        fit(net)
        return net

    not_done, done = trained(), trained()
    step(done)
    for place, net in interrupted_at_every_line(step, trained):
        assert numbers(net) in (numbers(not_done), numbers(done)), place
        step(net)


def test_ctrl_c_at_every_line_of_minimize():
    for place, net in interrupted_at_every_line(minimize, lambda: bp.mlp([2, 2, 1], seed=0)):
        assert net.history.epochs <= 1, place
        fit(net)


def rules(*averages):
    """What counts epochs, in the core and in Python, and what belongs to the end of training."""
    note = bp.callbacks.LambdaCallback(**dict.fromkeys(("on_train_begin", "on_epoch_end", "on_train_end"), nothing))
    stopping = bp.callbacks.EarlyStopping("val_loss", patience=2, min_delta=10, restore_best=True)
    return [note, stopping, bp.callbacks.EarlyStopping("loss", patience=9, restore_best=True), *averages]


def nothing(*_):
    """Code of a user's."""


ENDS = {
    "rules": lambda net: net.fit(
        X, Y, epochs=5, batch_size=2, validation_data=(X, Y), callbacks=rules(), resume=True, progress=False
    ),
    "average": lambda net: net.fit(
        X, Y, epochs=2, batch_size=2, resume=True, progress=False,
        callbacks=[bp.callbacks.LambdaCallback(on_epoch_end=nothing), bp.callbacks.ExponentialMovingAverage(0.9)],
    ),
    "minimize": lambda net: net.minimize(
        X, Y, max_iter=5, validation_data=(X, Y), callbacks=rules(), resume=True, progress=False
    ),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_ctrl_c_at_every_line_leaves_a_run_that_comes_to_its_own_end(end, monkeypatch):
    """With the same stop reason and what its callbacks leave, also where it came at the end, or before the start."""
    monkeypatch.setattr(pace, "SLICE_SECONDS", 0.0)
    whole, reasons = bp.mlp([2, 2, 1], seed=0), set()
    ENDS[end](whole)
    for place, net in interrupted_at_every_line(ENDS[end], lambda: bp.mlp([2, 2, 1], seed=0)):
        reason, epochs = net.history.stop_reason, net.history.epochs
        reasons.add(reason)
        assert reason in (None, "interrupted", whole.history.stop_reason), place
        if reason is None:
            assert (epochs, net._state, net._solved) == (0, None, None), place
        elif reason != "interrupted":
            assert epochs == whole.history.epochs, place
            np.testing.assert_array_equal(net.parameters, whole.parameters, place)
        ENDS[end](net)
        assert net.history.stop_reason == whole.history.stop_reason, place
        np.testing.assert_array_equal(net.parameters, whole.parameters, place)
        for name in whole.history:
            np.testing.assert_array_equal(net.history[name], whole.history[name], place)
    assert len(reasons) == 3


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
def test_ctrl_c_at_every_line_leaves_a_fleet_that_comes_to_its_own_end(end, monkeypatch):
    monkeypatch.setattr(pace, "SLICE_SECONDS", 0.0)

    def made():
        return bp.Fleet(2, [bp.Dense(2, "tanh"), bp.Dense(1)], size=2, seed=0)

    whole = made()
    ENDS[end](whole)
    for place, fleet in interrupted_at_every_line(ENDS[end], made):
        ENDS[end](fleet)
        assert fleet.history.stop_reason.tolist() == whole.history.stop_reason.tolist(), place
        np.testing.assert_array_equal(fleet.parameters, whole.parameters, place)
        for name in whole.history:
            np.testing.assert_array_equal(fleet.history[name], whole.history[name], place)


def test_ctrl_c_at_every_line_of_append():
    """The members are added, or they are not, and the fleet is not locked."""

    def made():
        return bp.Fleet(2, [bp.Dense(1)], size=2, seed=0)

    sizes = set()
    for place, fleet in interrupted_at_every_line(lambda fleet: fleet.append(bp.mlp([2, 1], seed=5)), made):
        sizes.add(len(fleet))
        assert len(fleet) == len(fleet.seeds) == len(fleet.history.epochs) == len(fleet.predict(X)), place
        fleet.fit(X, Y, epochs=1, batch_size=None)
    assert sizes == {2, 3}


class RaisesAt(bp.callbacks.Callback):
    """Raises once, in a method and after so many epochs; in a fleet, for its second member."""

    def __init__(self, error, name, epoch=0):
        self.error = error
        setattr(self, name, lambda *given: self.act(given[1] if len(given) == 3 else 0, epoch))

    def of_member(self, k):
        return self if k == 1 else bp.callbacks.Callback()

    def act(self, epoch, at):
        if epoch == at and self.error is not None:
            error, self.error = self.error, None
            raise error


@pytest.mark.parametrize("first", [False, True], ids=["after the rules", "before them"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("kind", ["network", "fleet", "minimize"])
def test_what_a_callback_raises_takes_nothing_from_the_rules(kind, error, first, backend):
    """At the last epoch training is over with its own reason; before, the resumed run has counted all epochs."""

    def made():
        if kind == "fleet":
            return bp.Fleet(2, [bp.Dense(2, "tanh"), bp.Dense(1)], size=3, seed=0, backend=backend)
        return bp.mlp([2, 2, 1], seed=0, backend=backend)

    def run(net, raising=None):
        callbacks = [*rules()[1:], bp.callbacks.ReduceLROnPlateau("loss", patience=2)][: 2 if kind == "minimize" else 3]
        # Of two plateaus the core has the first, and Python the others.
        callbacks[0].min_delta, callbacks[0].patience = 0, 9
        settings = {"validation_data": (X, Y), "resume": True, "progress": False, "n_threads": 1}
        settings |= {"max_iter": 6} if kind == "minimize" else {"epochs": 6, "batch_size": 2}
        if raising is not None:
            callbacks.insert(0 if first else len(callbacks), raising)
        (net.minimize if kind == "minimize" else net.fit)(X, Y, callbacks=callbacks, **settings)

    whole = made()
    run(whole)
    for name, epoch in (("on_train_begin", 0), ("on_epoch_begin", 4), ("on_epoch_end", 3), ("on_epoch_end", 6)):
        net = made()
        with pytest.raises(error):
            run(net, RaisesAt(error, name, epoch))
        if epoch == 6:
            assert np.all(np.asarray(net.history.stop_reason) == "epochs")
        else:
            with pytest.raises(error):
                run(net, RaisesAt(error, "on_train_begin"))
        run(net)
        np.testing.assert_array_equal(net.history.stop_reason, whole.history.stop_reason)
        np.testing.assert_array_equal(net.parameters, whole.parameters)
        for each in whole.history:
            np.testing.assert_array_equal(net.history[each], whole.history[each])


def test_ctrl_c_is_not_lost_in_another_error():
    """It comes while it is held back, and then something else ends the block."""
    with pytest.raises(KeyboardInterrupt) as caught, HeldInterrupts():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError
    assert isinstance(caught.value.__context__, ZeroDivisionError)


# --- where training diverges: Ctrl-C and `stop` between the step that did it and the end of its epoch ----------------


class Looks:
    """Does something at one of the moments at which a run lets Ctrl-C through, all of which come after a step."""

    def __init__(self, monkeypatch):
        self.left, self.act = 0, None
        monkeypatch.setattr(pace, "SLICE_SECONDS", 0.0)
        monkeypatch.setattr(HeldInterrupts, "deliver", self.deliver)

    def at(self, look, act):
        self.left, self.act = look, act

    def deliver(self):
        self.left -= 1
        if self.left == 0:
            self.act()


def press():
    raise KeyboardInterrupt


def diverging(kind, backend, rate, epochs=6):
    """A network or a fleet of so many, a callback, and the `fit` that makes all of it diverge."""
    X = np.random.default_rng(0).normal(size=(20, 3))
    layers = [bp.Dense(4, "relu"), bp.Dense(1)]
    if kind is bp.Network:
        net = bp.Network(3, layers, seed=0, backend=backend)
    else:
        net = bp.Fleet(3, layers, seed=0, backend=backend, size=int(kind))
    settings = {"optimizer": bp.SGD(learning_rate=rate, momentum=0.9), "batch_size": 4, "epochs": epochs}
    stopping = bp.callbacks.EarlyStopping("loss", patience=1000, mode="max")  # it is not the core's
    settings |= {"on_divergence": "stop", "resume": True, "callbacks": [stopping], "n_threads": 1}
    return net, stopping, lambda: net.fit(X, X[:, :1] * 100, **settings)


@pytest.mark.parametrize("rate", [1e20, 0.3])
@pytest.mark.parametrize("kind", [bp.Network, "3", "17"])  # 17: more than a vector has lanes
def test_nothing_that_is_not_finite_is_left(kind, rate, backend, monkeypatch):
    whole, watched, fit = diverging(kind, backend, rate)
    fit()
    assert np.all(np.asarray(whole.history.stop_reason) == "diverged")
    looks = Looks(monkeypatch)
    for look in itertools.count(1):
        net, stopping, fit = diverging(kind, backend, rate)
        looks.at(look, press)
        try:
            fit()
        except KeyboardInterrupt:
            pass
        else:
            break
        assert np.isfinite(net.parameters).all()
        if kind is bp.Network and net.history.stop_reason == "interrupted":
            assert net.history.epochs == net._state.epoch
            assert np.isfinite(net.history.loss).all()
        fit()
        np.testing.assert_array_equal(net.parameters, whole.parameters)
        np.testing.assert_array_equal(net.history["loss"], whole.history["loss"])
        np.testing.assert_array_equal(net.history.stop_reason, whole.history.stop_reason)
        if kind is bp.Network:
            assert (stopping.best_epoch, stopping.stale_epochs) == (watched.best_epoch, watched.stale_epochs)
    assert look > 5


@pytest.mark.parametrize("kind", ["network", "fleet", "minimize"])
def test_as_many_epochs_as_were_done_bring_an_interrupted_run_to_its_end(kind):
    """With its reason, the best parameters restored, and callbacks that are told."""
    if kind == "fleet":
        net = bp.Fleet(2, [bp.Dense(2, "tanh"), bp.Dense(1)], size=3, seed=0)
    else:
        net = bp.mlp([2, 2, 1], seed=0)
    told = []

    def run(epochs, *more):
        stopping = bp.callbacks.EarlyStopping("loss", mode="max", patience=99, restore_best=True)  # the first is best
        settings = {"max_iter": epochs} if kind == "minimize" else {"epochs": epochs, "batch_size": 2}
        call = net.minimize if kind == "minimize" else net.fit
        call(X, Y, callbacks=[stopping, *more], resume=True, progress=False, **settings)

    run(1)
    first = net.parameters.copy()
    with pytest.raises(ZeroDivisionError):
        run(9, RaisesAt(ZeroDivisionError(), "on_epoch_end", 4))
    assert not np.array_equal(net.parameters, first)
    run(4, bp.callbacks.LambdaCallback(on_train_end=lambda *_: told.append(kind)))
    assert told == [kind] * (3 if kind == "fleet" else 1)
    assert np.all(np.asarray(net.history.stop_reason) == "epochs")
    assert np.all(np.asarray(net.history.epochs) == 4)
    np.testing.assert_array_equal(net.parameters, first)


def test_fewer_epochs_than_a_run_has_begun_leave_it_in_the_middle_of_one(monkeypatch):
    """There is nothing to do until more are asked for."""
    whole, net = bp.mlp([2, 2, 1], seed=0), bp.mlp([2, 2, 1], seed=0)
    settle, begun = Run.settle, []

    def interrupt_in_the_third(run, *given):
        settle(run, *given)
        if (run.state.epoch, run.state.cursor) == (2, 2):
            raise KeyboardInterrupt

    def fit(net, epochs):
        note = bp.callbacks.LambdaCallback(on_epoch_begin=lambda _, epoch, logs: begun.append(epoch))
        net.fit(X, Y, epochs=epochs, batch_size=2, callbacks=[note], resume=True, progress=False)

    with monkeypatch.context() as patched:
        patched.setattr(pace, "SLICE_SECONDS", 0.0)
        patched.setattr(Run, "settle", interrupt_in_the_third)
        with pytest.raises(KeyboardInterrupt):
            fit(net, 5)
    before = numbers(net)
    begun.clear()
    fit(net, 2)
    assert (net.history.stop_reason, begun) == ("interrupted", [])
    assert numbers(net) == before
    fit(net, 5)
    fit(whole, 5)
    assert numbers(net) == numbers(whole)


@pytest.mark.parametrize("size", ["3", "17"])  # 17: more than a vector has lanes
def test_members_that_are_stopped_in_the_middle_of_an_epoch_have_not_diverged(size, backend, monkeypatch):
    """As a network, they go back, and say what was asked for."""
    whole, _, fit = diverging(size, backend, 1e20)
    fit()
    net, _, fit = diverging(size, backend, 1e20)
    settle, seen = PartRun.settle, []

    def stop_first(part, last):
        if diverging_ones := np.flatnonzero(part.state.members["status"] == DIVERGING).tolist():
            seen.extend(diverging_ones)
            net.stop()
        settle(part, last)

    with monkeypatch.context() as patched:
        patched.setattr(pace, "SLICE_SECONDS", 0.0)
        patched.setattr(PartRun, "settle", stop_first)
        fit()
    assert seen
    assert (net.history.stop_reason == "stopped").all()
    assert (net.history.epochs == 0).all()
    assert np.isfinite(net.parameters).all()
    fit()
    np.testing.assert_array_equal(net.parameters, whole.parameters)
    np.testing.assert_array_equal(net.history["loss"], whole.history["loss"])
    assert (net.history.stop_reason == "diverged").all()


@pytest.mark.parametrize("kind", [bp.Network, "3", "17"])  # 17: more than a vector has lanes
def test_stop_leaves_nothing_that_is_not_finite(kind, backend, monkeypatch):
    looks = Looks(monkeypatch)
    for look in range(1, 6):
        net, _, fit = diverging(kind, backend, 1e20)
        looks.at(look, net.stop)
        fit()
        assert np.isfinite(net.parameters).all()
        assert np.isin(net.history.stop_reason, ["stopped", "diverged"]).all()
