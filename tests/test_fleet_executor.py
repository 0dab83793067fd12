"""Fleets on executors: whoever trains a member, and however often, the bits are the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import backprop as bp
import numpy as np
import pytest
from backends import NO_DASHBOARD
from backprop.base import executors
from backprop.callbacks import Callback, Checkpoint, EarlyStopping, LambdaCallback, ReduceLROnPlateau
from backprop.learn import fleet_executor

RNG = np.random.default_rng(0)
SIZE = 9
X = RNG.normal(size=(SIZE, 20, 3))
Y = np.sin(X.sum(axis=2))
X_VAL, Y_VAL = RNG.normal(size=(7, 3)), RNG.normal(size=7)
SECONDS = 60


def fleet_of():
    return bp.Fleet(3, [bp.Dense(5, "tanh", dropout=0.1), bp.Dense(1)], size=SIZE, seed=1)


def mixed_fleet():
    """Members of two shapes."""
    shapes = [bp.Dense(5, "tanh"), bp.Dense(4, "prelu")]
    return bp.Fleet.of([bp.Network(3, [shapes[k % 3 == 0], bp.Dense(1)], seed=k) for k in range(SIZE)])


def numbers(fleet):
    """Every number of a fleet's training, as bytes."""
    history = fleet.history
    found = [(name, history[name].tobytes()) for name in history]
    found += [history.epochs.tobytes(), history.stop_reason.tolist()]
    for group in fleet._groups:
        state = group.state
        arrays = [group.parameters, state.slots, state.best_parameters]
        arrays += [state.members[name] for name in ("random", "step", "epoch", "cursor", "rate_scale", "best_loss")]
        found += [array.tobytes() for array in arrays]
    return found


class Inline(Executor):
    """Does each task at once, in this process; `at` says what happens before some of them."""

    def __init__(self, at=None, workers=2):
        self.at, self.count = at or {}, 0
        self._max_workers = workers

    def submit(self, function, *args):
        self.count += 1
        if self.count in self.at:
            self.at[self.count]()
        future = Future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future


def processes():
    return ProcessPoolExecutor(2, mp_context=get_context("spawn"))


@pytest.fixture(scope="module")
def dask():
    """A Dask cluster of two worker processes."""
    distributed = pytest.importorskip("distributed")
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "scheduler_kwargs": NO_DASHBOARD}
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        yield client


KINDS = ["inline", "threads", "processes", "loky", "dask"]


@pytest.fixture(scope="module", params=KINDS)
def executor(request):
    """Each kind of executor in turn."""
    if request.param == "inline":
        yield Inline()
    elif request.param == "threads":
        with ThreadPoolExecutor(2) as pool:
            yield pool
    elif request.param == "processes":
        with processes() as pool:
            yield pool
    elif request.param == "loky":
        with pytest.importorskip("loky").ProcessPoolExecutor(2) as pool:
            yield pool
    else:
        yield request.getfixturevalue("dask").get_executor()


def stopping():
    return [
        EarlyStopping("val_loss", patience=2, min_delta=0.02, restore_best=True),
        ReduceLROnPlateau("val_loss", patience=1, min_delta=0.05),
    ]


def squared(outputs, targets):
    """A loss and its gradient."""
    difference = outputs - np.reshape(targets, outputs.shape)
    return float((difference**2).mean()), 2 * difference / difference.size


CASES = {
    "each": lambda: (X, Y, {"batch_size": 7}),
    "shared": lambda: (X[0], Y[0], {"batch_size": None, "sample_weight": np.linspace(0, 1, 20)}),
    "own targets": lambda: (X[0], Y, {"batch_size": 8, "sample_weight": np.abs(Y)}),
    "list": lambda: ([X[k, : 9 + k] for k in range(SIZE)], [Y[k, : 9 + k] for k in range(SIZE)], {"batch_size": 4}),
    "validated": lambda: (X, Y, {"validation_data": (X_VAL, Y_VAL), "callbacks": stopping(), "metrics": "r2"}),
    "split": lambda: (X, Y, {"validation_split": 0.3, "tolerance": 1e-3, "patience": 2, "batch_size": 5}),
    "hyperparameters": lambda: (
        X,
        Y,
        {"learning_rate": np.linspace(0.001, 0.1, SIZE), "l2": np.linspace(0, 0.1, SIZE), "dropout": 0.2},
    ),
    "optimizers": lambda: (X, Y, {"optimizer": [bp.SGD(momentum=0.3 * (k % 3)) for k in range(SIZE)]}),
    "schedule": lambda: (X, Y, {"schedule": bp.schedules.Cosine(length=20), "batch_size": 8}),
    "custom": lambda: (X[0], Y, {"loss": squared, "batch_size": 8}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("make", [fleet_of, mixed_fleet])
def test_the_same_bits(executor, case, make):
    fleets = make(), make()
    found = []
    for fleet, who in zip(fleets, (None, executor), strict=True):
        rows, targets, arguments = CASES[case]()
        if case == "hyperparameters" and make is mixed_fleet:
            del arguments["dropout"]
        for epochs in (4, 3):
            fleet.fit(rows, targets, epochs=epochs, executor=who, **arguments)
        found.append([(each.best, each.best_epoch) for each in arguments.get("callbacks", [])])
    assert numbers(fleets[1]) == numbers(fleets[0])
    np.testing.assert_array_equal(*found)
    assert fleets[1]._callbacks == fleets[0]._callbacks or case == "validated"


def test_labels_that_look_like_probabilities():
    """Labels (size, n) of shared rows are cut into pieces that have as many members as rows."""
    labels = RNG.integers(0, 3, (SIZE, 3))
    fleets = [bp.Fleet(3, [bp.Dense(3, "softmax")], size=SIZE, seed=1) for _ in range(2)]
    for fleet, who in zip(fleets, (None, Inline(workers=3)), strict=True):
        fleet.fit(X[0, :3], labels, epochs=3, executor=who)
    assert numbers(fleets[1]) == numbers(fleets[0])


def test_a_run_that_was_cut_goes_on(executor, monkeypatch):
    whole, fleet = fleet_of(), fleet_of()
    whole.fit(X, Y, epochs=6, batch_size=7)
    fleet.fit(X, Y, epochs=2, batch_size=7)
    fleet.fit(X, Y, epochs=6, batch_size=7, resume=True, executor=executor)
    assert numbers(fleet) == numbers(whole)


class Saves(Callback):
    """Saves the whole fleet when the training of a member ends."""

    def __init__(self, fleet, path):
        self.fleet, self.path = fleet, path

    def of_member(self, member):
        return self

    def on_train_end(self, network, logs):
        self.fleet.save_checkpoint(self.path)


def fail(network, logs):
    raise OSError("full")


@pytest.mark.parametrize("who", [None, Inline()], ids=["here", "executor"])
@pytest.mark.parametrize("fails", [False, True])
def test_members_that_were_saved_at_their_end_come_to_it(fails, who, tmp_path):
    """Not to another epoch; even if a run before it fails as it begins."""
    arguments = {"epochs": 6, "batch_size": 7, "learning_rate": 0.02}
    stops = EarlyStopping("loss", patience=1, min_delta=0.1, restore_best=True)
    fleet = fleet_of()
    fleet.fit(X, Y, callbacks=[Saves(fleet, tmp_path / "run"), stops], **arguments)
    assert fleet.history.epochs.min() < 6
    resumed = bp.resume(tmp_path / "run")
    if fails:
        with pytest.raises(OSError, match="full"):
            resumed.fit(X, Y, callbacks=[LambdaCallback(on_train_begin=fail), stops], resume=True, **arguments)
    resumed.fit(X, Y, callbacks=[Callback(), stops], resume=True, executor=who, **arguments)
    assert numbers(resumed) == numbers(fleet)


def log(member, step, logs):
    Path(os.environ["BACKPROP_TEST_LOG"], f"{member}-{step}").touch()


def test_callbacks_and_logs_know_the_members(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKPROP_TEST_LOG", str(tmp_path))
    fleet = mixed_fleet()
    with processes() as pool:
        fleet.fit(X, Y, epochs=2, callbacks=[Checkpoint(tmp_path / "run-{member}")], log=log, executor=pool)
    expected = {f"run-{k}" for k in range(SIZE)} | {f"{k}-{step}" for k in range(SIZE) for step in (1, 2)}
    assert set(os.listdir(tmp_path)) == expected
    for k in range(SIZE):
        assert bp.resume(tmp_path / f"run-{k}").parameters.tobytes() == fleet[k].parameters.tobytes()


def test_members_that_diverge(executor):
    rates = np.where(np.arange(SIZE) % 4 == 1, 1e30, 0.01)
    fleets = fleet_of(), fleet_of()
    errors = []
    for fleet, who in zip(fleets, (None, executor), strict=True):
        with pytest.raises(bp.FleetDivergedError) as info:
            fleet.fit(X, Y, epochs=3, optimizer="sgd", learning_rate=rates, executor=who)
        errors.append(info.value)
    assert errors[1].members == errors[0].members == (1, 5)
    assert str(errors[1]) == str(errors[0])
    assert numbers(fleets[1]) == numbers(fleets[0])
    fleets[0].fit(X, Y, optimizer="sgd", learning_rate=rates, executor=executor, on_divergence="stop")


# --- workers that die -------------------------------------------------------------------------------------------------


class Dies(Callback):
    """Kills the process that trains some member, once."""

    def __init__(self, marker):
        self.marker, self.member = marker, None

    def of_member(self, member):
        own = type(self)(self.marker)
        own.member = member
        return own

    def on_epoch_end(self, network, epoch, logs):
        if self.member == 5 and epoch == 2 and not os.path.exists(self.marker):
            Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def whole():
    fleet = fleet_of()
    fleet.fit(X, Y, epochs=4, batch_size=7)
    return numbers(fleet)


def test_a_dask_worker_dies(dask, whole, tmp_path):
    fleet = fleet_of()
    fleet.fit(X, Y, epochs=4, batch_size=7, callbacks=[Dies(str(tmp_path / "dead"))], executor=dask.get_executor())
    assert (tmp_path / "dead").exists()
    assert numbers(fleet) == whole


@pytest.mark.parametrize("kind", ["processes", "loky"])
def test_an_executor_breaks(kind, whole, tmp_path):
    fleet = fleet_of()
    make = processes if kind == "processes" else lambda: pytest.importorskip("loky").ProcessPoolExecutor(2)
    with make() as pool:
        for _ in range(2):  # it stays broken
            fleet = fleet_of()
            with pytest.warns(RuntimeWarning, match="executor: it broke, so this process does the rest itself"):
                fleet.fit(X, Y, epochs=4, batch_size=7, callbacks=[Dies(str(tmp_path / "dead"))], executor=pool)
            assert numbers(fleet) == whole
    assert (tmp_path / "dead").exists()


# --- Ctrl-C, stop, errors ---------------------------------------------------------------------------------------------


def test_ctrl_c_leaves_what_can_be_resumed(whole):
    fleet = fleet_of()
    with pytest.raises(KeyboardInterrupt):
        fleet.fit(X, Y, epochs=4, batch_size=7, executor=Inline({1: lambda: signal.raise_signal(signal.SIGINT)}))
    assert set(fleet.history.stop_reason) == {"interrupted"}
    assert not fleet.history.epochs.any()
    fleet.fit(X, Y, epochs=4, batch_size=7, resume=True, executor=Inline())
    assert numbers(fleet) == whole


class Loses(Inline):
    """Does each task at once, in this process, and breaks before it hands back the second one."""

    def submit(self, function, *args):
        future = Inline.submit(self, function, *args)
        if self.count > 1:
            future = Future()
            future.set_exception(BrokenExecutor("lost"))
        return future


def test_what_a_thread_has_trained_and_not_handed_back_is_trained_again():
    whole, fleet = fleet_of(), fleet_of()
    stops = [EarlyStopping("loss", patience=2) for _ in range(2)]
    whole.fit(X, Y, epochs=6, batch_size=7, callbacks=[stops[0]])
    with pytest.warns(RuntimeWarning, match="it broke"):
        fleet.fit(X, Y, epochs=6, batch_size=7, callbacks=[stops[1]], executor=Loses())
    assert numbers(fleet) == numbers(whole)
    np.testing.assert_array_equal(stops[1].best, stops[0].best)


class Fails(Callback):
    """Raises for one member."""

    def __init__(self, member=None):
        self.member = member

    def of_member(self, member):
        return type(self)(member)

    def on_epoch_end(self, network, epoch, logs):
        if self.member == 7:
            raise ZeroDivisionError("of the user's")


def test_an_error_in_a_worker(executor, whole):
    fleet = fleet_of()
    with pytest.raises(ZeroDivisionError, match="of the user's"):
        fleet.fit(X, Y, epochs=4, batch_size=7, callbacks=[Fails()], executor=executor)
    fleet.fit(X, Y, epochs=4, batch_size=7, resume=True)
    assert numbers(fleet) == whole
    assert fleet._run is None


def test_stop_ends_it_with_what_has_come_back():
    fleets = [bp.Fleet(3, [bp.Dense(1)], size=100, seed=1) for _ in range(2)]
    pool = Inline({5: lambda: fleets[1].stop(reason="enough")})  # pieces of 16, four ahead
    for fleet, who in zip(fleets, (None, pool), strict=True):
        fleet.fit(X[0], Y[0], epochs=4, executor=who)
    done = fleets[1].history.stop_reason == "epochs"
    assert 16 <= done.sum() < 100
    assert set(fleets[1].history.stop_reason[~done]) == {"enough"}
    np.testing.assert_array_equal(fleets[1].parameters[done], fleets[0].parameters[done])
    assert not fleets[1].history.epochs[~done].any()
    assert not fleets[1].stop()


INTERRUPTED = """
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import numpy as np
import backprop as bp

if __name__ == "__main__":
    fleet = bp.Fleet(3, [bp.Dense(1)], size=100, seed=1)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        fleet.copy().fit(np.zeros((20, 3)), np.ones(20), epochs=1, executor=pool, progress=False)  # all is imported
        print("ready", flush=True)
        try:
            fleet.fit(np.zeros((20, 3)), np.ones(20), epochs=10**7, executor=pool, progress=False)
        except KeyboardInterrupt:
            print(set(fleet.history.stop_reason), fleet._run, flush=True)
"""


def test_ctrl_c_in_a_terminal_reaches_the_workers_too(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, str(script)], start_new_session=True, text=True, **pipes) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.5)
        os.killpg(child.pid, signal.SIGINT)
        try:
            out, _ = child.communicate(timeout=SECONDS)
        finally:
            child.kill()
    assert out == "{'interrupted'} None\n"


def test_stop_of_some_members():
    fleet = fleet_of()
    pool = Inline({1: lambda: fleet.stop(members=[1])})
    with pytest.raises(ValueError, match="members: needs None with an executor"):
        fleet.fit(X, Y, epochs=4, executor=pool)


def test_wrong_arguments_are_seen_before_anything_is_sent():
    fleet = fleet_of()
    before = fleet.parameters.tobytes()
    pool = Inline()
    for arguments, message in (
        ({"executor": 3}, r"executor: needs a concurrent.futures.Executor, got 3 \(int\)"),
        ({"learning_rate": [1.0]}, "learning_rate"),
        ({"callbacks": 3}, "callbacks: needs a sequence"),
        ({"callbacks": [Checkpoint("same")]}, "needs a path with the field"),
        ({"n_threads": 0}, "n_threads: needs"),
        ({"metrics": "nonsense"}, "metrics"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            fleet.fit(X, Y, **{"executor": pool, **arguments})
    with pytest.raises(ValueError, match=r"X\[8\]: needs"):
        fleet.fit(np.where(np.arange(SIZE)[:, None, None] == 8, np.nan, X), Y, executor=pool)
    assert pool.count == 0
    assert fleet.parameters.tobytes() == before


def test_what_cannot_be_sent(whole):
    fleet = fleet_of()
    given = {
        "metrics": {"nothing": lambda outputs, targets: 0.0},
        "log": lambda *_: None,
        "schedule": lambda step: 1.0,
        "callbacks": [bp.callbacks.LambdaCallback(on_epoch_end=lambda *_: None)],
    }
    with processes() as pool:
        for name, value in given.items():
            with pytest.raises(TypeError, match=f"^{name}: needs what the executor can pickle: .*, got .*<"):
                fleet.fit(X, Y, **{name: value}, executor=pool)
        fleet.fit(X, Y, epochs=4, batch_size=7, executor=pool)
    assert numbers(fleet) == whole
    with pytest.raises(RuntimeError, match="executor: needs one that takes tasks, got <"):
        fleet.fit(X, Y, executor=pool)


def test_what_is_given_once(whole):
    """Callbacks and metrics may be iterators."""
    fleet = fleet_of()
    calls = (LambdaCallback(on_epoch_end=print_nothing) for _ in range(2))
    fleet.fit(X, Y, epochs=4, batch_size=7, callbacks=calls, metrics=iter(["r2"]), executor=Inline())
    assert fleet.history["r2"].shape == (4, SIZE)
    assert numbers(fleet)[1:][-9:] == whole[-9:]


def print_nothing(network, epoch, logs):
    """A callback."""


# --- pieces -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "workers", "of_each", "size"),
    [
        (1000, 2, 0, 128),  # four for each worker, of full vectors
        (64, 2, 0, 16),
        (24, 2, 0, 12),  # both workers have something to do
        (9, 2, 0, 5),
        (1, 8, 0, 1),
        (100_000, 2, 1 << 20, 8),  # not more at a time than is good for the way
        (4, 2, 1 << 30, 1),
    ],
)
def test_the_size_of_pieces(members, workers, of_each, size):
    assert fleet_executor.piece_size(members, workers, of_each) == size


def test_how_many_workers_there_are(dask):
    with ThreadPoolExecutor(3) as pool:
        assert executors.n_workers(pool) == 3
    assert executors.n_workers(dask.get_executor()) == 2
    assert executors.n_workers(Inline()) == 2
    silent = Inline()
    del silent._max_workers
    assert executors.n_workers(silent) >= 1
    with pytest.raises(TypeError, match=r"of a Dask client give client\.get_executor\(\)"):
        executors.checked("executor", dask)


def test_tasks_are_made_when_there_is_a_worker_for_them():
    """So the pieces of a large fleet do not lie in memory all at once."""
    made, taken = [], []

    def tasks():
        for k in range(50):
            made.append(k)
            assert len(made) - len(taken) <= 5
            yield k

    with ThreadPoolExecutor(2) as pool:
        executors.run(pool, str, tasks(), taken.append, lambda: None, lambda function, task: function(task))
    assert sorted(taken, key=int) == [str(k) for k in range(50)]


# --- MPI --------------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
import numpy as np
import backprop as bp
from mpi4py.futures import MPIPoolExecutor

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 20, 3))
    fleets = [bp.Fleet(3, [bp.Dense(5, "tanh"), bp.Dense(1)], size=40, seed=1) for _ in range(2)]
    with MPIPoolExecutor() as pool:
        for fleet, who in zip(fleets, (None, pool)):
            fleet.fit(X, X[:, :, 0], epochs=3, batch_size=7, executor=who)
    print(pool is not None, (fleets[0].parameters == fleets[1].parameters).all(), fleets[1].history.epochs.sum())
"""


def test_two_ranks_of_mpi(tmp_path):
    pytest.importorskip("mpi4py")
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))
    if mpiexec is None:
        pytest.skip("needs mpiexec")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [mpiexec, "-n", "2", sys.executable, "-m", "mpi4py.futures", str(script)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert result.stdout.split() == ["True", "True", "120"], result.stderr
