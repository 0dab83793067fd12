"""The cores touch no memory but what they are given: arrays that end, or begin, at a page that nobody may touch."""

import ctypes
import mmap
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from backends import COMPILED, DTYPES, OPTIMIZER_VARIANTS, Problem, each_compiled, make_problem, module, new_state
from backprop.base.types import Data, TrainingSettings
from backprop.layers import Dense
from backprop.losses import CrossEntropy, SquaredError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="maps pages as Linux does")

PAGE = mmap.PAGESIZE
# Widths about the number of lanes, and single ones, which have paths of their own.
NETWORKS = [
    (1, [Dense(1)]),
    (5, [Dense(1)]),
    (19, [Dense(3, "gelu", bias=False), Dense(1)]),
    (3, [Dense(1, "tanh"), Dense(17, "relu")]),
    (17, [Dense(33, "tanh"), Dense(8, "relu"), Dense(9)]),
    (7, [Dense(9, "tanh", dropout=0.3, max_norm=0.5), Dense(1, "silu", dropout=0.3), Dense(17, max_norm=0.5, l2=0.01)]),
]
# (rows, batch size): fewer than a vector has lanes, about as many, several chunks, a last batch in one long chunk.
BATCHES = [(1, None), (2, 1), (5, 1), (3, None), (17, 5), (33, 16), (241, None), (490, 250), (500, 480)]


def guarded(array, where):
    """A copy of an array that ends at the page behind it, or begins at the page before it, which is protected."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    array = np.ascontiguousarray(array)
    size = -(-array.nbytes // PAGE) * PAGE
    pages = mmap.mmap(-1, size + PAGE)
    start = np.frombuffer(pages, np.uint8).ctypes.data
    first = size - array.nbytes if where == "end" else PAGE
    if libc.mprotect(start + (size if where == "end" else 0), PAGE, 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    copy = np.frombuffer(pages, array.dtype, array.size, first).reshape(array.shape)
    copy[...] = array
    return copy


def use(backend, dtype, where):
    """Call everything that a backend offers, on guarded arrays."""
    core, k = module(backend, dtype), 0
    for n_inputs, dense in NETWORKS:
        for n_rows, batch_size in BATCHES:
            for loss in (SquaredError(), CrossEntropy()):
                last = replace(dense[-1], activation="softmax") if loss.name == "cross_entropy" else dense[-1]
                problem = make_problem(n_inputs, [*dense[:-1], last], loss, n_rows, labels=k % 4 < 2).cast(dtype)
                optimizer = OPTIMIZER_VARIANTS[k % len(OPTIMIZER_VARIANTS)]
                use_on(core, problem, optimizer, TrainingSettings(batch_size=batch_size, n_threads=k % 4 + 1), where)
                k += 1


def use_on(core, problem: Problem, optimizer, settings, where):
    data = Data(*(guarded(array, where) for array in problem.data))
    state = new_state(problem, optimizer)
    state.parameters, state.slots = guarded(state.parameters, where), guarded(state.slots, where)
    state.permutation = guarded(np.zeros(len(data.X), np.int64), where)
    gradient, losses = guarded(state.parameters, where), guarded(np.zeros(2), where)
    rates = guarded(np.array([0.001]), where)
    plan = core.Plan(problem.n_inputs, problem.dense)
    out = guarded(np.zeros((len(data.X), problem.dense[-1].units), problem.parameters.dtype), where)
    assert core.forward(plan, state.parameters, data.X, out)
    input_gradient = guarded(np.zeros_like(data.X), where)
    core.loss_and_gradient(plan, problem.loss, state.parameters, data, gradient)
    core.loss_and_gradient(plan, problem.loss, state.parameters, data, gradient, input_gradient)
    core.loss_and_gradient(plan, problem.loss, state.parameters, data, None, input_gradient)
    for key in (None, 2**64 - 1):
        core.backward(plan, state.parameters, data.X, lambda outputs: out, gradient, input_gradient, key)
    core.update(plan, optimizer, state.parameters, gradient, state.slots, 1, 0.001)
    core.Training(plan, problem.loss, optimizer, settings, data, state, rates).run(2, float("inf"), losses)
    assert np.isfinite(losses).all()
    state.best_parameters = guarded(np.zeros_like(state.parameters), where)
    validation, validation_losses = (
        Data(*(guarded(array[:-1], where) for array in problem.data)),
        guarded(losses, where),
    )
    if len(validation.X) > 0:
        settings = replace(settings, keep_best=True, monitor="val_loss", penalty_per_row=True)
        run = core.Training(plan, problem.loss, optimizer, settings, data, state, rates, validation)
        run.run(4, float("inf"), losses, validation_losses)
        assert np.isfinite(validation_losses).all()


@each_compiled
@pytest.mark.parametrize("where", ["end", "start"])
def test_nothing_beyond_the_arrays_is_touched(backend, where):
    # In a process of its own, which a touch would end.
    command = [sys.executable, "-X", "faulthandler", __file__, backend, where]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr


@pytest.mark.parametrize("where", ["end", "start"])
def test_a_touch_would_be_noticed(where):
    reach = "array.__array_interface__['data'][0] + " + ("array.nbytes" if where == "end" else "-1")
    code = f"""
import ctypes, sys
sys.path.insert(0, {str(__file__.rpartition("/")[0])!r})
import numpy as np
from test_memory import guarded
array = guarded(np.ones(7), {where!r})
print(array.sum(), flush=True)
ctypes.string_at({reach}, 1)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "7.0\n"
    assert result.returncode < 0  # ended by a signal


if __name__ == "__main__":
    assert sys.argv[1] in COMPILED
    for dtype in DTYPES:
        use(sys.argv[1], dtype, sys.argv[2])
    print("done")
