"""Training beside other threads and in other processes: it does not hang, and the bits stay the same."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback

import backprop as bp
import numpy as np
import pytest
from backprop.base import threads

# Newer Pythons warn of forks beside threads; that they go well is what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
needs_tasks = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads as Linux shows them")

SECONDS = 60  # what takes longer hangs
REPETITIONS = [5, pytest.param(200, marks=pytest.mark.slow)]

RNG = np.random.default_rng(0)
X = RNG.standard_normal((600, 20), np.float32)
Y = X.sum(axis=1)
SHAPES = {"blocks": ([20, 30, 1], None), "chunks": ([20, 200, 200, 1], 100), "tiny": ([20, 3, 1], 10)}


def digest(net):
    return hashlib.sha256(net.parameters.tobytes() + net.history.loss.tobytes()).hexdigest()


def trained(shape, n_threads=2, epochs=2, seed=0):
    """A network that has been trained."""
    net = bp.mlp(SHAPES[shape][0], seed=seed)
    return go_on(net, shape, n_threads, epochs)


def go_on(net, shape, n_threads=2, epochs=2):
    net.fit(X, Y, epochs=epochs, batch_size=SHAPES[shape][1], n_threads=n_threads, progress=False)
    return net


def train_digest(shape, n_threads=2):
    """For other processes: numbers alone pass between them."""
    return digest(trained(shape, n_threads))


def go_on_digest(net, shape):
    return digest(go_on(net, shape))


@pytest.fixture(scope="module")
def alone():
    """What each shape gives in one thread, with nothing beside it: after two epochs and after four."""
    return {shape: (digest(net := trained(shape, 1)), digest(go_on(net, shape, 1))) for shape in SHAPES}


each_shape = pytest.mark.parametrize("shape", SHAPES)


# --- processes ------------------------------------------------------------------------------------------------------


def in_a_fork(function, *args):
    """What a function returns, a text, in a child of this process; a test fails if it takes too long."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(write, function(*args).encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(write)
    try:
        if not select.select([read], [], [], SECONDS)[0]:
            os.kill(child, signal.SIGKILL)
            pytest.fail("the child hangs")
        return os.read(read, 1000).decode()
    finally:
        os.close(read)
        assert os.waitpid(child, 0)[1] == 0


@needs_fork
@each_shape
@pytest.mark.parametrize("repetitions", REPETITIONS)
def test_train_then_fork_then_train(repetitions, shape, alone):
    """In turns: parent, child, parent, child."""
    for _ in range(repetitions):
        net = trained(shape)
        assert in_a_fork(go_on_digest, net, shape) == alone[shape][1]
        assert in_a_fork(train_digest, shape) == alone[shape][0]
        assert go_on_digest(net, shape) == alone[shape][1]


@needs_fork
@pytest.mark.parametrize("repetitions", REPETITIONS)
def test_fork_while_other_threads_train(repetitions, alone):
    """Those threads are not in the child: the network that they trained is locked there, every other is free."""
    net = trained("chunks")
    thread = threading.Thread(target=go_on, args=(net, "chunks"), kwargs={"epochs": 10**9})
    thread.start()
    while net._run is None:
        time.sleep(0.001)

    def of_the_child():
        with pytest.raises(RuntimeError, match="the network is being trained"):
            net.fit(X, Y)
        with pytest.raises(RuntimeError, match="the network is being trained"):
            net.predict(X)
        return train_digest("chunks")

    try:
        for _ in range(repetitions):
            time.sleep(RNG.uniform(0, 0.01))
            assert in_a_fork(of_the_child) == alone["chunks"][0]
    finally:
        net.stop()
        thread.join()


@pytest.mark.parametrize("repetitions", [2, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_multiprocessing(method, repetitions, alone):
    """Each worker does two tasks and makes way for a new one."""
    net = trained("chunks")
    with multiprocessing.get_context(method).Pool(2, maxtasksperchild=2) as pool:
        shapes = [list(SHAPES)[k % 3] for k in range(repetitions)]
        fresh = [pool.apply_async(train_digest, (shape,)) for shape in shapes]
        continued = [pool.apply_async(go_on_digest, (net, "chunks")) for _ in range(repetitions)]
        for shape, result in zip(shapes, fresh, strict=True):
            assert result.get(timeout=SECONDS) == alone[shape][0]
        for result in continued:
            assert result.get(timeout=SECONDS) == alone["chunks"][1]
    assert go_on_digest(net, "chunks") == alone["chunks"][1]


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
@pytest.mark.parametrize("repetitions", [3, pytest.param(200, marks=pytest.mark.slow)])
def test_joblib(repetitions, backend, alone):
    joblib = pytest.importorskip("joblib")
    joblib.externals.loky.get_reusable_executor().shutdown()  # workers of an earlier test may be about to end
    trained("chunks")
    shapes = [list(SHAPES)[k % 3] for k in range(repetitions)]
    parallel = joblib.Parallel(n_jobs=2, backend=backend, timeout=SECONDS)
    results = parallel(joblib.delayed(train_digest)(shape) for shape in shapes)
    assert results == [alone[shape][0] for shape in shapes]


# --- threads --------------------------------------------------------------------------------------------------------


def all_at_once(calls):
    """What the calls return, each in a thread of its own; those are given up if they take too long."""
    results = [None] * len(calls)

    def fill(k, call):
        results[k] = call()

    threads = [threading.Thread(target=fill, args=job, daemon=True) for job in enumerate(calls)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + SECONDS
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), "threads hang"
    return results


@pytest.mark.parametrize("repetitions", [2, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_different_networks_in_several_threads(n_threads, repetitions):
    """More threads than there are processors, all shapes at once."""
    calls = [
        lambda shape=shape, seed=seed: digest(trained(shape, n_threads, seed=seed))
        for shape in SHAPES
        for seed in range(3)
    ]
    expected = [call() for call in calls]
    for _ in range(repetitions):
        assert all_at_once(calls) == expected


@pytest.mark.parametrize("repetitions", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_predict_beside_predict_while_others_train(repetitions):
    net = trained("chunks")
    calls = [lambda k=k: net.predict(X[k::7]).tobytes() for k in range(7)]
    calls += [lambda seed=seed: digest(trained("blocks", seed=seed)) for seed in range(2)]
    expected = [call() for call in calls]
    for _ in range(repetitions):
        assert all_at_once(calls) == expected


# --- processors -----------------------------------------------------------------------------------------------------


class MostThreads:
    """Counts the threads that come to this process within the block; `more` is how many there were at most.

    By their numbers: those that were joined before are still there for a moment.
    """

    def __enter__(self):
        self.over = threading.Event()
        self.before, self.more = self.numbers(), 0
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def numbers(self):
        return {int(name) for name in os.listdir("/proc/self/task")}

    def look(self):
        self.before.add(threading.get_native_id())
        while not self.over.wait(0.0005):
            self.more = max(self.more, len(self.numbers() - self.before))

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def wide_run(n_threads):
    """A run whose steps are worth two threads; returns its digest and how many threads came."""
    rng = np.random.default_rng(0)
    data = rng.standard_normal((512, 200), np.float32)
    net = bp.mlp([200, 300, 300, 1], seed=0)
    with MostThreads() as threads:
        net.fit(data, data[:, 0], epochs=20, batch_size=256, n_threads=n_threads, progress=False)
    return digest(net), threads.more


@needs_tasks
def test_a_quota_of_one_processor(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setenv("BACKPROP_THREADS", "fixed")  # other load would have threads left out
    for name in threads._LIMITS:  # Dask sets one where it starts workers, and leaves it
        monkeypatch.delenv(name, raising=False)
    expected, more = wide_run(1)
    assert more == 0
    assert wide_run(2) == (expected, 1)
    monkeypatch.setattr(threads, "_quota", lambda: None)
    assert wide_run("auto") == (expected, 1)
    monkeypatch.setattr(threads, "_quota", lambda: 1.0)
    assert wide_run("auto") == (expected, 0)


ON_ONE = """
import os, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ["BACKPROP_THREADS"] = "fixed"
sys.path.insert(0, sys.argv[1])
from backprop.base import threads
from test_processes import SHAPES, train_digest, wide_run
assert threads.usable_cpus() == 1
assert threads.choose(None, 1e12, 16) == 1
(one, none), (auto, more), (two, another) = wide_run(1), wide_run("auto"), wide_run(2)
assert none == more == 0 and another == 1, (none, more, another)
assert one == auto == two
for shape in SHAPES:
    assert train_digest(shape, 1) == train_digest(shape, 2) == train_digest(shape, 7), shape
print("same")
"""


@needs_tasks
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs an affinity to set")
@pytest.mark.parametrize("repetitions", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_on_one_processor(repetitions):
    """`auto` takes one thread; two of them wait for each other on the only one there is, and end."""
    for _ in range(repetitions):
        command = [sys.executable, "-c", ON_ONE, os.path.dirname(__file__)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        assert result.stdout == "same\n", result.stderr
