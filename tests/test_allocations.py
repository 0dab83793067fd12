"""What a run allocates, counted by a library that stands before the C library's `malloc`."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from backprop.backends import choice

COMPILER = shutil.which("cc") or shutil.which("gcc")
pytestmark = [
    pytest.mark.skipif(COMPILER is None or platform.libc_ver()[0] != "glibc", reason="needs a C compiler and glibc"),
    pytest.mark.skipif(choice.default().name == choice.REFERENCE, reason="no compiled core is installed"),
]

SCRIPT = """
import ctypes, json, sys
import numpy as np
import backprop as bp
from backprop.base.types import Data, TrainingSettings
from backprop.base.state import TrainingState

counter = ctypes.CDLL(None)
for name in ("bp_calls", "bp_live", "bp_peak"):
    getattr(counter, name).restype = ctypes.c_longlong
sizes, n_rows, batch_size, n_threads = json.loads(sys.argv[1])
rng = np.random.default_rng(0)
X = rng.normal(size=(n_rows, sizes[0])).astype(np.float32)
y = rng.normal(size=(n_rows, sizes[-1])).astype(np.float32)
net, adam, loss = bp.mlp(sizes, seed=0), bp.Adam(), bp.losses.SquaredError()
net.fit(X[:2], y[:2], epochs=1)  # whatever is allocated once

# the core: what `run` allocates, for few epochs and for many
state = TrainingState(net.parameters, adam.new_slots(net.n_parameters, net.dtype), np.random.PCG64(0))
settings = TrainingSettings(batch_size=batch_size, n_threads=n_threads, fixed_threads=True)
losses = np.empty(100)
training = net._core.Training(net._plan, loss, adam, settings, Data(X, y), state, np.array([0.001]))
calls = []
for epochs in (1, 2, 40):  # the first call with threads also makes what the C library keeps for the next
    counter.bp_start()
    training.run(state.epoch + epochs, float("inf"), losses)
    calls.append(counter.bp_calls())

# fit: the most that is alive at any moment
del training, state
net = bp.mlp(sizes, seed=0)
counter.bp_start()
before = counter.bp_live()
net.fit(X, y, optimizer=adam, loss=loss, epochs=3, batch_size=batch_size, n_threads=n_threads, progress=False)
print(json.dumps({"calls": calls, "peak": counter.bp_peak() - before, "parameters": net.n_parameters}))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("allocations") / "allocations.so"
    source = Path(__file__).with_name("allocations.c")
    subprocess.run([COMPILER, "-O1", "-shared", "-fPIC", "-o", str(path), str(source)], check=True)
    return path


def workspace(sizes, batch_size, n_rows, n_threads):
    """An upper bound for the buffers of a run, in bytes: what `take_memory` in run/run.pxd adds up, scores included.

    It exceeds the truth by less than one copy of the parameters of the larger networks below, so that one copy more
    than there should be is seen.
    """
    lanes = -(-min(batch_size or n_rows, 288) // 16) * 16
    units, widest = sum(sizes[1:]), max(sizes) + 16
    chunk = lanes * (sizes[0] + sizes[-1] + 3 + widest + 3 * units)
    gathered = 0 if batch_size else (n_rows + 15) * (sizes[0] + sizes[-1] + 1)
    team = 0
    if n_threads > 1:
        shares_blocks = (batch_size or n_rows) > 96
        team = n_threads * (lanes * widest + chunk * shares_blocks) + lanes * (units + 16 * len(sizes))
    reals = chunk + gathered + team
    # Large workspaces begin at a page of 2 MiB; what the C library maps behind them counts here, but is never touched.
    return 4 * reals + (2**21 if 4 * reals >= 2**22 else 0)


STEPS = """
import ctypes, json, sys
import numpy as np
import backprop as bp
from backprop.base.state import TrainingState
from backprop.base.types import Data, TrainingSettings

counter = ctypes.CDLL(None)
counter.bp_calls.restype = ctypes.c_longlong
sizes, n_rows, batch_size, n_threads, options = json.loads(sys.argv[1])
rng = np.random.default_rng(0)
dropout = {"dropout": 0.3} if options["dropout"] else {}
layers = [*(bp.Dense(n, options["activation"], **dropout) for n in sizes[1:-1]), bp.Dense(sizes[-1])]
X = rng.normal(size=(n_rows, sizes[0])).astype(np.float32)
y = rng.normal(size=(n_rows, sizes[-1])).astype(np.float32)
validation = Data(X[::2].copy(), y[::2].copy()) if options["validation"] else None
net, optimizer, loss = bp.Network(sizes[0], layers, seed=0), bp.Adam(), bp.losses.SquaredError()
state = TrainingState(net.parameters, optimizer.new_slots(net.n_parameters, net.dtype), np.random.PCG64(0))
team = {"n_threads": n_threads, "fixed_threads": True}  # a team that varies makes new threads
settings = TrainingSettings(batch_size=batch_size, keep_best=options["keep_best"], **team)
losses = np.empty((2, 200))
training = net._core.Training(net._plan, loss, optimizer, settings, Data(X, y), state, np.array([0.001]), validation)
steps, calls = [], []
for epochs in (1, 2, 80):  # the first call with threads also makes what the C library keeps for the next
    before = state.step
    counter.bp_start()
    training.run(state.epoch + epochs, float("inf"), *losses)
    calls.append(counter.bp_calls())
    steps.append(state.step - before)
print(json.dumps({"calls": calls, "steps": steps}))
"""

OPTIONS = {"validation": False, "dropout": False, "keep_best": False, "activation": "tanh"}


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    "options",
    [{}, {"validation": True}, {"dropout": True}, {"validation": True, "keep_best": True}, {"activation": "prelu"}],
    ids=lambda options: "-".join(options) or "plain",
)
@pytest.mark.parametrize(
    ("sizes", "n_rows", "batch_size"),
    [
        *(([9, 40, 3], 48, rows) for rows in (2, 3, 4, 5, 6, 7, 8)),
        ([9, 40, 3], 48, 1),
        ([2, 3, 1], 8, None),
        ([64, 300, 10], 200, 64),
        ([8, 32, 4], 2000, None),
    ],
    ids=str,
)
def test_a_step_allocates_nothing(library, sizes, n_rows, batch_size, n_threads, options):
    """More steps in a call make no more calls of `malloc`: zero a step, whatever the batch and the options."""
    arguments = json.dumps([sizes, n_rows, batch_size, n_threads, OPTIONS | options])
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    command = [sys.executable, "-c", STEPS, arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(result.stdout)
    _, few, many = found["calls"]
    _, few_steps, many_steps = found["steps"]
    assert many_steps > few_steps
    assert (many - few) / (many_steps - few_steps) == 0


@pytest.mark.parametrize(
    ("sizes", "n_rows", "batch_size", "n_threads"),
    [
        ([2, 2, 1], 4, None, 1),
        ([30, 16, 1], 100, 1, 1),
        ([64, 300, 300, 10], 500, 64, 1),
        ([64, 300, 300, 10], 500, 64, 2),
        ([16, 1000, 1000, 3], 300, None, 1),
        ([8, 32, 4], 5000, None, 2),
    ],
)
def test_what_a_run_allocates(library, sizes, n_rows, batch_size, n_threads):
    arguments = json.dumps([sizes, n_rows, batch_size, n_threads])
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    command = [sys.executable, "-c", SCRIPT, arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(result.stdout)
    # Nothing per epoch and nothing per step: a call takes its few objects, and the C library one block a thread.
    _, few, many = found["calls"]
    assert few == many <= 4 + 2 * n_threads
    # The parameters are there already. To them come gradient and two moments: 4 copies, and one workspace. `fit` keeps
    # three more (parameters and moments) to go back to if training diverges. Small sums of the blocks of a large batch:
    copies = 3 + 3
    blocks = 15 * found["parameters"] if (batch_size or n_rows) > 96 and found["parameters"] <= 16384 else 0
    bound = 4 * (copies * found["parameters"] + blocks) + workspace(sizes, batch_size, n_rows, n_threads)
    assert found["peak"] <= bound + 100_000  # objects of Python
