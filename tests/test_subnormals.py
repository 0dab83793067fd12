"""Subnormal numbers: they slow no training down, and the caller's floating-point state is its own."""

from __future__ import annotations

import ctypes
import inspect
import mmap
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from statistics import median

import backprop as bp
import numpy as np
import pytest
from backends import COMPILED, each_backend, each_compiled, each_dtype

RNG = np.random.default_rng(0)
X = RNG.standard_normal((16, 4))
Y = X.sum(axis=1)
ADAM = bp.Adam(learning_rate=1e-4)


def network(dead, dtype="float32", backend=None):
    """A network that has been trained for ten epochs; then its hidden units died, if so wanted."""
    net = bp.mlp([4, 16, 16, 1], hidden="relu", dtype=dtype, seed=0, backend=backend)
    net.fit(X, Y, optimizer=ADAM, epochs=10, batch_size=None)
    if dead:
        for b in net.biases[:-1]:
            b[:] = -100.0
    return net


def has_subnormals(numbers):
    return bool(((numbers != 0) & (np.abs(numbers) < np.finfo(numbers.dtype).tiny)).any())


@each_compiled
def test_moments_of_dead_units_are_never_subnormal(backend):
    """The first ones lose a tenth with each step: after 1,000 steps they are as small as they get.

    That is zero; without a fused multiply-add it is ten times the smallest normal number, of which a tenth is zero.
    """
    net = network(dead=True, backend=backend)
    for _ in range(20):
        net.fit(X, Y, optimizer=ADAM, epochs=50, batch_size=None)
        assert not has_subnormals(net._state.slots)
    first, second = net._state.slots
    of_dead = slice(4 * 16 + 16 + 16 * 16 + 16)
    assert np.abs(first[of_dead]).max() < 20 * np.finfo(np.float32).tiny
    assert second[of_dead].any()


def test_what_the_core_is_spared():
    """Rounded to nearest, a number that is multiplied with 0.9 again and again stays a subnormal one for ever."""
    net = network(dead=True, backend="reference")
    net.fit(X, Y, optimizer=ADAM, epochs=1100, batch_size=None)
    assert has_subnormals(net._state.slots)


@pytest.mark.slow
@pytest.mark.skipif(not COMPILED, reason="needs a compiled core")
def test_a_million_steps_of_adam_with_dead_units():
    """In turns, and by the process's own time, so that other programs do not count."""
    nets = {dead: network(dead) for dead in (False, True)}
    times = {False: [], True: []}
    ratios = []
    for turn in range(100):
        for dead in (False, True) if turn % 2 else (True, False):
            start = time.process_time()
            nets[dead].fit(X, Y, optimizer=ADAM, epochs=10_000, batch_size=None, n_threads=1, progress=False)
            times[dead].append(time.process_time() - start)
        ratios.append(times[True][-1] / times[False][-1])
    assert not nets[True].activations(X)[0].any()
    assert nets[False].activations(X)[0].any()
    assert nets[True]._state.step == nets[False]._state.step == 1_000_010
    assert not has_subnormals(nets[True]._state.slots)
    whole = sum(times[True]) / sum(times[False])
    last = median(ratios[50:])  # by then both moments have decayed to nothing
    print(f"\ndead units take {whole:.3f} of the time of live ones in all, {last:.3f} in the second half (median)")
    assert whole <= 1.05
    assert last <= 1.05


# --- the caller's floating-point state ------------------------------------------------------------------------------

CONTROL = 0xFFC0  # of MXCSR; the six bits below say what has happened, not what is to happen
NORMAL = 0x1F80
STATES = {
    "normal": NORMAL,
    "subnormals are zero": NORMAL | 0x8040,
    "only results are": NORMAL | 0x8000,
    "rounding up": NORMAL | 0x4000,
}
needs_mxcsr = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or sys.platform == "win32", reason="reads a register of x86-64"
)


class Registers:
    """The floating-point control state of the thread: MXCSR, and the control word of the x87."""

    # stmxcsr [rdi]; fnstcw [rsi]; ret   and   ldmxcsr [rdi]; ret
    READ, WRITE = bytes.fromhex("0fae1f d93e c3"), bytes.fromhex("0fae17 c3")

    def __init__(self):
        try:
            self.code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        except OSError:
            pytest.skip("memory cannot be both written and run here")
        self.code.write(self.READ + self.WRITE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.code))
        pointer = ctypes.c_void_p
        self._read = ctypes.CFUNCTYPE(None, pointer, pointer)(start)
        self._write = ctypes.CFUNCTYPE(None, pointer)(start + len(self.READ))

    def read(self):
        mxcsr, x87 = ctypes.c_uint32(), ctypes.c_uint16()
        self._read(ctypes.addressof(mxcsr), ctypes.addressof(x87))
        return mxcsr.value & CONTROL, x87.value

    def write(self, mxcsr):
        self._write(ctypes.addressof(ctypes.c_uint32(mxcsr)))


@pytest.fixture(scope="module")
def registers():
    return Registers()


@pytest.fixture
def in_state(registers):
    """Puts the thread into a state; it is put back after the test."""
    yield registers.write
    registers.write(NORMAL)


def fails(*_):
    raise ZeroDivisionError


def interrupts(*_):
    signal.raise_signal(signal.SIGINT)


def squared(outputs, targets):
    return np.mean((outputs - targets) ** 2), 2 * (outputs - targets) / outputs.size


def failing_callback(function):
    return [bp.callbacks.LambdaCallback(on_epoch_end=function)]


CALLS = {
    "predict": lambda net: net.predict(X),
    "activations": lambda net: net.activations(X),
    "loss": lambda net: net.loss(X, Y),
    "gradients": lambda net: net.loss_and_gradients(X, Y),
    "input gradients": lambda net: net.input_gradients(X, Y),
    "a loss of one's own": lambda net: net.fit(X, Y, loss=squared, epochs=2),
    "evaluate": lambda net: net.evaluate(X, Y),
    "a step": lambda net: net.train_on_batch(X, Y),
    "full batch": lambda net: net.fit(X, Y, batch_size=None, epochs=2),
    "mini-batches": lambda net: net.fit(X, Y, batch_size=5, epochs=2, validation_split=0.2),
    "row by row": lambda net: net.fit(X, Y, batch_size=1, epochs=2),
    "check": lambda net: bp.check_gradients(net, X, Y),
    "copy": lambda net: net.copy().fit(X, Y, epochs=1),
}
ERRORS = {
    "not finite": (ValueError, lambda net: net.predict(np.full((3, 4), np.nan))),
    "wrong shape": (ValueError, lambda net: net.fit(X[:, :2], Y)),
    "diverged": (bp.DivergedError, lambda net: net.fit(X, Y, optimizer=bp.SGD(learning_rate=1e30), epochs=20)),
    "a callback": (ZeroDivisionError, lambda net: net.fit(X, Y, callbacks=failing_callback(fails))),
    "a loss": (ZeroDivisionError, lambda net: net.fit(X, Y, loss=fails)),
    "a loss in a step": (ZeroDivisionError, lambda net: net.train_on_batch(X, Y, loss=fails)),
    "Ctrl-C": (KeyboardInterrupt, lambda net: net.fit(X, Y, epochs=10**9, callbacks=failing_callback(interrupts))),
}


@needs_mxcsr
@each_backend
@each_dtype
@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_every_call_leaves_the_state_alone(state, dtype, backend, registers, in_state):
    net = bp.mlp([4, 16, 1], dtype=dtype, seed=0, backend=backend)
    in_state(state)
    before = registers.read()
    assert before[0] == state & CONTROL
    for name, call in CALLS.items():
        call(net)
        assert registers.read() == before, name


@needs_mxcsr
@each_backend
@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
@pytest.mark.parametrize(("error", "call"), ERRORS.values(), ids=ERRORS)
def test_errors_leave_the_state_alone(error, call, state, backend, registers, in_state):
    net = bp.mlp([4, 16, 1], seed=0, backend=backend)
    in_state(state)
    before = registers.read()
    with pytest.raises(error):
        call(net)
    assert registers.read() == before


@needs_mxcsr
@each_compiled
def test_two_threads_and_ctrl_c_within_the_core(backend, registers):
    before = registers.read()
    net = bp.mlp([4, 64, 64, 1], seed=0, backend=backend)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, batch_size=None, epochs=10**9, n_threads=2, progress=False)
    timer.join()
    assert registers.read() == before


@needs_mxcsr
@each_compiled
def test_in_a_thread_of_ones_own(backend, registers):
    """A new thread begins with the state of the one that made it, and has the same after training."""
    seen = []

    def train():
        seen.append(registers.read())
        bp.mlp([4, 64, 64, 1], seed=0, backend=backend).fit(X, Y, epochs=2, n_threads=2)
        seen.append(registers.read())

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [registers.read()] * 2


@each_backend
def test_subnormal_arithmetic_of_the_caller(backend, dtype):
    """The same without a look at registers; NumPy's own sum is the oracle for what the processor does."""
    tiny = np.finfo(dtype).tiny

    def arithmetic():
        small = np.full(64, tiny) * np.array(0.25, dtype)
        return small, small + small, tiny / np.array(3, dtype), np.geterr()

    before = arithmetic()
    assert has_subnormals(before[0])
    assert has_subnormals(before[1])
    net = bp.mlp([4, 16, 1], dtype=dtype, seed=0, backend=backend)
    net.fit(X, Y, epochs=2)
    net.predict(X)
    with pytest.raises(bp.DivergedError):
        net.fit(X, Y, optimizer=bp.SGD(learning_rate=1e30), epochs=20)
    for ours, theirs in zip(arithmetic(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@needs_mxcsr
def test_importing_changes_nothing():
    """A shared object that was linked with -ffast-math would: also each compiled core, when it is loaded."""
    code = f"""
import ctypes, mmap, sys
CONTROL = {CONTROL}
class pytest: skip = sys.exit
{inspect.getsource(Registers)}
registers = Registers()
before = registers.read()
import backprop
assert registers.read() == before, "backprop"
from backprop.backends import choice
from backprop import checkpoints, cli, minimize, plotting
for name in choice.available():
    for dtype in ("float32", "float64"):
        choice.load(name).module(dtype)
        assert registers.read() == before, name
print("same")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout == "same\n"
