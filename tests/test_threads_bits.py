"""The same bits for any number of threads and on every instruction set with a fused multiply-add."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from backprop import losses, optimizers
from backprop.backends import choice
from backprop.base import threads
from backprop.base.state import TrainingState
from backprop.base.types import Data, TrainingSettings
from backprop.layers import Dense

FUSED = [name for name in choice.FUSED if name in choice.available()]
THREADS = (1, 2, 3, 4, 7)

# sizes, hidden activation, output activation, loss, optimizer, rows, batch size: one of each way to share a batch out,
# and the shapes of the benchmark's workloads
CASES = {
    "xor": ([2, 2, 1], "sigmoid", "sigmoid", losses.SquaredError(), optimizers.SGD(), 4, None),
    "iris": ([4, 16, 3], "tanh", "softmax", losses.CrossEntropy(), optimizers.SGD(), 150, None),
    "online": ([30, 16, 1], "tanh", "sigmoid", losses.BinaryCrossEntropy(), optimizers.SGD(), 569, 1),
    "digits": ([64, 64, 10], "relu", "softmax", losses.CrossEntropy(), optimizers.Adam(), 500, 32),
    "deep": ([32, 64, 64, 64, 1], "tanh", "identity", losses.SquaredError(), optimizers.Adam(), 512, 64),
    "mnist": ([784, 128, 10], "relu", "softmax", losses.CrossEntropy(), optimizers.Adam(), 400, 64),
    "wide": ([256, 600, 600, 10], "relu", "softmax", losses.CrossEntropy(), optimizers.SGD(), 512, 256),
    "wide, units": ([64, 800, 800, 10], "relu", "softmax", losses.CrossEntropy(), optimizers.SGD(), 512, 96),
    "simplechains": ([4, 32, 16, 4], "tanh", "identity", losses.SquaredError(), optimizers.Adam(), 10_000, None),
    "higgs": ([28, 300, 300, 1], "tanh", "sigmoid", losses.BinaryCrossEntropy(), optimizers.Adam(), 300, 100),
    "blocks, short last batch": ([7, 33, 3], "gelu", "softmax", losses.CrossEntropy(), optimizers.RMSprop(), 1950, 900),
    "chunks, no blocks": ([28, 150, 150, 1], "silu", "exp", losses.Poisson(), optimizers.SGD(), 1000, 700),
    "chunks, fewer rows": ([28, 150, 150, 1], "silu", "exp", losses.Poisson(), optimizers.SGD(), 300, 200),
    "chunks, full batch": ([28, 150, 150, 1], "tanh", "identity", losses.SquaredError(), optimizers.Adam(), 300, None),
    "momentum, few rows": ([5, 200, 100, 2], "elu", "softplus", losses.Huber(), optimizers.SGD(momentum=0.9), 40, 17),
    "wide, by units, chunks": ([16, 1000, 1000, 1], "tanh", "exp", losses.Poisson(), optimizers.Adam(), 300, None),
    "units": ([40, 640, 520, 3], "softmax", "softmax", losses.CrossEntropy(), optimizers.Adam(), 80, 33),
    "dropout, units": ([40, 700, 600, 3], "gelu", "softmax", losses.CrossEntropy(), optimizers.RMSprop(), 120, 50),
    "units, softmax": ([40, 700, 600, 3], "softmax", "sigmoid", losses.SquaredError(), optimizers.Adam(), 50, 50),
    "few rows at the end": ([40, 70, 90, 3], "tanh", "softmax", losses.CrossEntropy(), optimizers.Adam(), 207, 100),
    "dropout, few rows": ([5, 200, 100, 2], "elu", "softplus", losses.Huber(), optimizers.Adam(), 40, 17),
    "dropout, blocks": ([7, 33, 3], "gelu", "softmax", losses.CrossEntropy(), optimizers.RMSprop(), 1950, 900),
    "dropout, chunks": ([28, 150, 150, 1], "silu", "exp", losses.Poisson(), optimizers.SGD(), 1000, 700),
    "dropout, chunks, fewer rows": ([28, 150, 150, 1], "silu", "exp", losses.Poisson(), optimizers.SGD(), 300, 200),
    "dropout, online": ([9, 16, 7, 1], "tanh", "sigmoid", losses.BinaryCrossEntropy(), optimizers.SGD(), 50, 1),
    "norms, online": ([9, 16, 7, 1], "tanh", "sigmoid", losses.BinaryCrossEntropy(), optimizers.SGD(), 50, 1),
    "tiny, sixes": ([3, 5, 2], "tanh", "sigmoid", losses.SquaredError(), optimizers.Adam(), 20, 6),
    "pairs": ([5, 200, 100, 2], "elu", "softplus", losses.Huber(), optimizers.SGD(momentum=0.9), 41, 2),
    "norms, fours": ([30, 15, 33, 1], "gelu", "exp", losses.Poisson(), optimizers.Adam(), 51, 4),
    "norms, sevens": ([9, 40, 1, 17, 20], "tanh", "softmax", losses.CrossEntropy(), optimizers.SGD(), 50, 7),
    "mish": ([28, 70, 40, 3], "mish", "softmax", losses.CrossEntropy(label_smoothing=0.1), optimizers.Adam(), 300, 100),
    "selu": ([5, 90, 20, 2], "selu", "identity", losses.LogCosh(), optimizers.SGD(), 150, 33),
    "softsign": ([9, 40, 33, 2], "softsign", "exp", losses.Tweedie(), optimizers.SGD(), 120, 8),
    "relu6": ([9, 40, 33, 1], "relu6", "exp", losses.Gamma(), optimizers.SGD(), 120, 3),
    "hard swish": ([12, 30, 30, 1], "hard_swish", "sigmoid", losses.Focal(alpha=0.25), optimizers.Adam(), 200, 64),
    "hard sigmoid": ([30, 20, 4], "hard_sigmoid", "softmax", losses.KullbackLeibler(), optimizers.Adam(), 90, 40),
    "hard tanh": ([30, 20, 4], "hard_tanh", "softplus", losses.Gamma(), optimizers.SGD(), 60, 1),
    "nadam, pieces": ([28, 300, 300, 1], "tanh", "sigmoid", losses.BinaryCrossEntropy(), optimizers.NAdam(), 200, 100),
    "muon": ([150, 70, 130, 1, 7, 2], "tanh", "identity", losses.SquaredError(), optimizers.Muon(), 150, 50),
    "muon, wide": ([64, 300, 260, 10], "relu", "softmax", losses.CrossEntropy(), optimizers.Muon(), 200, 100),
    "prelu, blocks": ([7, 33, 3], "prelu", "softmax", losses.CrossEntropy(), optimizers.RMSprop(), 1950, 900),
    "prelu, chunks, straight": ([28, 150, 150, 1], "prelu", "exp", losses.Poisson(), optimizers.SGD(), 1000, 200),
    "prelu, units": ([40, 640, 520, 3], "prelu", "prelu", losses.SquaredError(), optimizers.Adam(), 80, 33),
    "prelu, dropout, units": ([40, 700, 600, 3], "prelu", "softmax", losses.CrossEntropy(), optimizers.Adam(), 120, 50),
    "prelu, online": ([9, 16, 7, 1], "prelu", "sigmoid", losses.BinaryCrossEntropy(), optimizers.SGD(), 50, 1),
    "prelu, fours": ([9, 16, 7, 1], "prelu", "identity", losses.Huber(), optimizers.Adam(), 50, 4),
    "rows in place": ([150, 30, 20, 3], "tanh", "softmax", losses.CrossEntropy(), optimizers.Adam(), 300, 100),
    "rows in place, straight": ([200, 48, 2], "gelu", "identity", losses.SquaredError(), optimizers.SGD(), 150, 41),
    "rows in place, blocks": ([130, 16, 1], "prelu", "identity", losses.Huber(), optimizers.Adam(), 1000, 500),
    "rows in place, chunks": ([350, 64, 1], "relu", "exp", losses.Poisson(), optimizers.SGD(momentum=0.9), 400, 200),
    "rows in place, dropout": ([100, 28, 5], "silu", "softmax", losses.CrossEntropy(), optimizers.NAdam(), 120, 50),
    "rows in place, far": ([620, 432, 2], "tanh", "identity", losses.SquaredError(), optimizers.Adam(), 150, 70),
    "muon, dropout": ([40, 70, 90, 3], "tanh", "softmax", losses.CrossEntropy(), optimizers.Muon(), 60, 20),
}
# What hidden layers have beside it; these cases have validation data too.
OPTIONS = {
    "dropout, few rows": {"dropout": 0.4, "l1": 1e-3, "max_norm": 0.5},
    "dropout, blocks": {"dropout": 0.3, "l2": 1e-3},
    "dropout, chunks": {"dropout": 0.1, "max_norm": 0.8},
    "dropout, chunks, fewer rows": {"dropout": 0.1, "max_norm": 0.8},
    "dropout, units": {"dropout": 0.3, "l2": 1e-3},
    "units, softmax": {"dropout": 0.2, "max_norm": 0.9},
    "dropout, online": {"dropout": 0.2, "max_norm": 0.5},
    "norms, online": {"max_norm": 0.3},
    "norms, fours": {"max_norm": 0.7, "l1": 1e-3},
    "norms, sevens": {"max_norm": 0.9},
    "prelu, dropout, units": {"dropout": 0.3, "l2": 1e-3},
    "rows in place, dropout": {"dropout": 0.3, "max_norm": 0.9},
    "muon, dropout": {"l2": 1e-3, "dropout": 0.1},
}

# 1,000 steps of these, 200 times over, would take hours: they run once, and 20 times what has fewer rows.
LONG = ("wide", "wide, by units, chunks", "chunks, no blocks", "dropout, chunks", "rows in place, far")


@pytest.mark.parametrize("case", [name for name in CASES if "units" in name])
def test_cases_by_units(case):
    """Their members share units, and not samples, by the rule of `shares_units`; in float64 even more so."""
    source = Path(__file__).parents[1] / "src/bpcore/run/shared_gradient.pxd"
    least = int(re.search(r"SHARED_BYTES = (\d+)", source.read_text())[1])
    sizes, *_, n_rows, batch_size = CASES[case]
    weights = sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
    rows = batch_size or n_rows // 2  # of a chunk: of 300 rows there are two
    assert 4 * weights * weights / (sum(sizes) * rows) >= least


def digest(case, dtype, backend, n_threads, epochs, seconds=1e9, fixed=True):
    """SHA-256 of losses, parameters and the best parameters after some epochs, in calls of so many seconds.

    fixed: whether all threads take part in every step.
    """
    sizes, hidden, output, loss, optimizer, n_rows, batch_size = CASES[case]
    rng = np.random.default_rng(0)
    core = choice.load(backend).module(dtype)
    options = OPTIONS.get(case, {})
    plan = core.Plan(sizes[0], [*(Dense(units, hidden, **options) for units in sizes[1:-1]), Dense(sizes[-1], output)])
    parameters = (rng.standard_normal(plan.n_parameters) / 8).astype(dtype)
    X = rng.standard_normal((n_rows, sizes[0])).astype(dtype)
    labels = loss.name == "cross_entropy"
    y = rng.integers(0, sizes[-1], n_rows) if labels else rng.random((n_rows, sizes[-1])).astype(dtype)
    state = TrainingState(parameters, optimizer.new_slots(parameters.size, dtype), np.random.PCG64(1))
    data, validation = Data(X, y), None
    settings = TrainingSettings(batch_size=batch_size, n_threads=n_threads, fixed_threads=fixed)
    if options:
        settings = replace(settings, monitor="val_loss", keep_best=True)
        validation = Data(np.tile(X[::-1], (2, 1)), np.concatenate([y, y]))
    curves = np.zeros((2, epochs))
    rates = np.array([optimizer.learning_rate])
    training = core.Training(plan, loss, optimizer, settings, data, state, rates, validation)
    while training.run(epochs, seconds, *curves[:, state.epoch :]) == "time":
        pass
    assert np.isfinite(curves).all()
    return hashlib.sha256(curves.tobytes() + parameters.tobytes() + state.best_parameters.tobytes()).hexdigest()


def epochs_for(case, n_steps):
    *_, n_rows, batch_size = CASES[case]
    return -(-n_steps // -(-n_rows // (batch_size or n_rows)))


@pytest.mark.skipif(not FUSED, reason="needs a core with fused multiply-add")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_same_bits(case, dtype):
    epochs = epochs_for(case, 12)
    seen = {(name, n): digest(case, dtype, name, n, epochs) for name in FUSED for n in THREADS}
    assert len(set(seen.values())) == 1, seen


@pytest.mark.skipif(not FUSED, reason="needs a core with fused multiply-add")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_same_bits_in_calls_of_no_time(case, dtype):
    """A step of many chunks is left between two of them and gone on with in the next call."""
    epochs = epochs_for(case, 5)
    expected = digest(case, dtype, FUSED[0], 1, epochs)
    for name in FUSED:
        for n_threads in THREADS:
            assert digest(case, dtype, name, n_threads, epochs, seconds=0) == expected


@cache
def expected_digest(case, dtype):
    """What every instruction set and any number of threads must give after 1,000 steps."""
    return digest(case, dtype, FUSED[0], 1, epochs_for(case, 1000))


# A process that computes and sleeps by turns of random length, so that threads are put aside anywhere; it ends with
# its parent.
BUSY = """
import os, random, time
parent = os.getppid()
while os.getppid() == parent:
    end = time.perf_counter() + random.uniform(0.0005, 0.02)
    while time.perf_counter() < end:
        pass
    time.sleep(random.uniform(0, 0.04))
"""


@pytest.fixture(scope="module")
def load():
    """Keep every CPU busy beside the test."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(threads.usable_cpus())]
    yield
    for process in busy:
        process.kill()
        process.wait()


def assert_same_bits_under_load(case, dtype, steps, expected, fixed=True):
    epochs = epochs_for(case, steps)
    seen = {(name, n): digest(case, dtype, name, n, epochs, fixed=fixed) for name in FUSED for n in THREADS}
    assert seen == dict.fromkeys(seen, expected)


@pytest.mark.skipif(not FUSED, reason="needs a core with fused multiply-add")
@pytest.mark.usefixtures("load")
@pytest.mark.parametrize(
    "case", ["digits", "blocks, short last batch", "momentum, few rows", "dropout, few rows", "units, softmax"]
)
def test_same_bits_under_load(case):
    expected = digest(case, "float32", FUSED[0], 1, epochs_for(case, 5))
    assert_same_bits_under_load(case, "float32", 5, expected)


@pytest.mark.usefixtures("load")
@pytest.mark.parametrize("backend", [name for name in choice.available() if name != "reference"])
@pytest.mark.parametrize("case", ["chunks, full batch", "deep", "simplechains", "dropout, units", "units, softmax"])
def test_same_bits_while_shares_change(case, backend):
    """Members take work in proportion to their measured speeds, which beside other load differ all the time."""
    epochs = epochs_for(case, 300)
    expected = digest(case, "float32", backend, 1, epochs)
    for n_threads in (3, 7):
        assert digest(case, "float32", backend, n_threads, epochs) == expected


@pytest.mark.usefixtures("load")
@pytest.mark.parametrize("backend", [name for name in choice.available() if name != "reference"])
@pytest.mark.parametrize("case", ["chunks, full batch", "deep", "simplechains", "dropout, units", "units, softmax"])
@pytest.mark.parametrize("seconds", [1e9, 0.002])
def test_same_bits_while_the_team_changes(case, backend, seconds):
    """Beside other load, and with more threads than CPUs, the team has another size every few steps."""
    epochs = epochs_for(case, 300)
    expected = digest(case, "float32", backend, 1, epochs)
    for n_threads in (2, 7):
        assert digest(case, "float32", backend, n_threads, epochs, seconds, fixed=False) == expected


@pytest.mark.slow
@pytest.mark.skipif(not FUSED, reason="needs a core with fused multiply-add")
@pytest.mark.usefixtures("load")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("repeat", "case"), [(repeat, case) for repeat in range(20) for case in CASES if repeat == 0 or case not in LONG]
)
def test_same_bits_after_a_thousand_steps(repeat, case, dtype):
    assert_same_bits_under_load(case, dtype, 1000, expected_digest(case, dtype), fixed=repeat % 2 == 0)


REFUSED = """
import resource, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from backends import make_problem, new_state, start
from backprop.base.types import TrainingSettings
from backprop.layers import Dense
from backprop.losses import SquaredError
from backprop.optimizers import Adam

def run(n_threads, slices):
    dense = [Dense(200, "tanh"), Dense(200, "tanh"), Dense(3)]
    problem, other = (make_problem(20, dense, SquaredError(), n).cast(np.float32) for n in (700, 500))
    state, settings, losses = new_state(problem, Adam()), TrainingSettings(n_threads=n_threads), np.zeros((2, 3))
    training, k = start(sys.argv[2], problem, Adam(), settings, state, validation=other.data), 0
    reason, limits = "time", resource.getrlimit(resource.RLIMIT_AS)
    while reason == "time":
        seconds, refuses = slices[min(k, len(slices) - 1)]
        if refuses:  # no room for the stack of a thread
            size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + 2**20, limits[1]))
        reason = training.run(3, seconds, *losses[:, state.epoch:])
        resource.setrlimit(resource.RLIMIT_AS, limits)
        k += 1
    return state.parameters.tobytes() + losses.tobytes()

expected = run(1, [(1e9, False)])
for n_refused in (1, 2, 3, 4, 6, 8, 9, 14):
    assert run(3, [(0.0, True)] * n_refused + [(0.0, False)]) == expected, n_refused
"""


@pytest.mark.skipif(not FUSED, reason="needs a core with fused multiply-add")
@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the memory of a process")
def test_threads_that_are_refused_for_some_calls():
    """How samples lie in a chunk depends on how many threads there are, and a full batch stays there over the calls."""
    command = [sys.executable, "-c", REFUSED, str(Path(__file__).parent), FUSED[0]]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
