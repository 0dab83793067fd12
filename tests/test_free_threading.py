"""Python's own threads at once: equal bits, a clear error on misuse, and without the GIL it stays off."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor

import backprop as bp
import numpy as np
import pytest
from backprop.base.guard import Guard

N_THREADS = 4
RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 5))
Y = np.sin(X).sum(axis=1)
FIT = {"epochs": 5, "batch_size": 16, "n_threads": 1, "progress": False}
HAS_GIL = not sysconfig.get_config_var("Py_GIL_DISABLED")


def fitted(seed, optimizer="adam"):
    net = bp.mlp([5, 8, 1], seed=seed)
    net.fit(X, Y, optimizer=optimizer, **FIT)
    return net.parameters.tobytes() + net.history.loss.tobytes()


def minimized(seed, method):
    net = bp.mlp([5, 4, 1], seed=seed, dtype="float64")
    net.minimize(X, Y, method=method, max_iter=5)
    return net.parameters.tobytes()


def fleet(seed, n_threads=1):
    members = bp.Fleet.of([bp.mlp([5, 6, 1], seed=k) for k in range(seed, seed + 40)])
    members.fit(X, Y, **FIT | {"n_threads": n_threads})
    return members.predict(X).tobytes()


def team(seed, **options):
    """Threads of the core in each thread of Python: they share samples, or units where there are few rows."""
    net = bp.mlp([5, 200, 200, 1], seed=seed)
    net.fit(X, Y, **FIT | {"n_threads": 2 + seed % 3, "batch_size": (100, 2)[seed % 2], "epochs": 2}, **options)
    return net.parameters.tobytes()


KINDS = {
    "fit": lambda k: fitted(k, ("sgd", "adam", "rprop", "muon")[k % 4]),
    "fit on the reference": lambda k: (
        bp.mlp([5, 8, 1], seed=k, backend="reference").fit(X, Y, epochs=2, progress=False).loss.tobytes()
    ),
    "lbfgs": lambda k: minimized(k, "lbfgs"),
    "lm": lambda k: minimized(k, "lm"),
    "fleet": fleet,
    "team": team,
    "fleet with a team": lambda k: fleet(k, 2 + k % 3),
}


def at_once(calls):
    """What each call returns or raises; all begin together, in threads of their own."""
    together = threading.Barrier(len(calls))

    def begin(call):
        together.wait(60)
        try:
            return call()
        except RuntimeError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(begin, call) for call in calls]
        return [future.result(60) for future in futures]


@pytest.mark.parametrize("kind", KINDS)
def test_each_thread_trains_its_own(kind):
    calls = [lambda k=k: KINDS[kind](k) for k in range(N_THREADS)]
    expected = [call() for call in calls]
    for _ in range(5):
        assert at_once(calls) == expected


@pytest.fixture(scope="module")
def squared_error(tmp_path_factory):
    """A loss that a C compiler made."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler is here")
    folder = tmp_path_factory.mktemp("loss")
    (folder / "loss.c").write_text("""
#include <stddef.h>
double squared_error(const float *a, const float *y, float *g, ptrdiff_t n, void *user) {
    g[0] = a[0] - y[0];
    return 0.5 * g[0] * g[0];
}
""")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", folder / "loss.so", folder / "loss.c"], check=True)
    return bp.losses.Compiled(ctypes.CDLL(str(folder / "loss.so")).squared_error, dtype="float32")


def test_all_train_with_one_compiled_loss(squared_error):
    calls = [lambda k=k: team(k, loss=squared_error) for k in range(N_THREADS)]
    expected = [call() for call in calls]
    assert at_once(calls) == expected


def test_all_predict_with_one_network():
    net = bp.mlp([5, 8, 1], seed=0)
    calls = [lambda k=k: b"".join(net.predict(X[k:]).tobytes() for _ in range(50)) for k in range(N_THREADS)]
    expected = [call() for call in calls]
    assert at_once(calls) == expected


def test_two_fit_the_same_network():
    """Each trains as if it were alone, or is told that another one trains; nothing in between."""
    parts = {0: bp.mlp([5, 8, 1], seed=0).parameters.tobytes()}
    alone = bp.mlp([5, 8, 1], seed=0)
    for n_fits in range(1, N_THREADS + 1):
        alone.fit(X, Y, **FIT)
        parts[n_fits] = alone.parameters.tobytes()
    for _ in range(10):
        net = bp.mlp([5, 8, 1], seed=0)
        results = at_once([lambda net=net: net.fit(X, Y, **FIT)] * N_THREADS)
        refused = [result for result in results if isinstance(result, RuntimeError)]
        assert {str(error) for error in refused} <= {
            "the network is being trained: this call comes in another thread during a fit that has not returned"
        }
        assert net.parameters.tobytes() == parts[N_THREADS - len(refused)]


def test_the_guard_lets_one_in():
    guard, inside, most, refusals = Guard(), [], [], []

    def enter_often():
        for _ in range(2000):
            try:
                with guard:
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
            except RuntimeError as error:
                refusals.append(str(error))

    at_once([enter_often] * N_THREADS)
    assert set(most) == {1}
    assert len(most) + len(refusals) == N_THREADS * 2000
    assert guard.count == 2 * len(most)
    # a thread that was inside before is not told that it still is
    assert not any("callback" in text for text in refusals)


FIRST = """
import sys, threading
import numpy as np
together, errors, results = threading.Barrier(8), [], []

def work():
    try:
        together.wait(60)
        import backprop as bp
        net = bp.mlp([3, 4, 1], seed=0)
        net.fit(np.ones((8, 3)), np.ones(8), epochs=2, optimizer="adam", progress=False)
        fleet = bp.Fleet.of([bp.mlp([3, 4, 1], seed=k) for k in range(3)])
        fleet.fit(np.ones((8, 3)), np.ones(8), epochs=2, progress=False)
        results.append(net.parameters.tobytes())
    except BaseException as error:
        errors.append(repr(error))

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not errors, errors
assert len(set(results)) == 1 and len(results) == 8
print(getattr(sys, "_is_gil_enabled", lambda: True)())
"""


def test_the_first_import_in_eight_threads():
    """What is imported and remembered at the first use, is so by all of them at the same moment."""
    done = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    # a module that does not declare that it does without the GIL turns it on
    assert done.stdout.strip() == str(HAS_GIL)
