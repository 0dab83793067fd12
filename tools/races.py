"""Races that are there on purpose: what ThreadSanitizer must report before its silence means anything.

Some are planted in the core, each switched on by its number in BACKPROP_FAULT, and off while the tests run; one is a
misuse that any build allows. Each comes with a program that runs into it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mutation.planted import Planted

START = """
import only_built; only_built.enforce()
import threading
import numpy as np, backprop as bp
X = np.random.default_rng(0).standard_normal((200, 5))
y = np.sin(X).sum(axis=1)
"""
TRAIN = """
bp.mlp([5, 200, 200, 1], dtype=DTYPE, seed=0).fit(X, y, epochs=3, batch_size=100, n_threads=2, progress=False)
"""
TRAIN_FLEET = """
fleet = bp.Fleet.of([bp.mlp([5, 16, 1], dtype=DTYPE, seed=k) for k in range(200)])
fleet.fit(X, y, epochs=10, batch_size=10, n_threads=2, progress=False)
"""
ONE_OUT = """
net, rows = bp.mlp(SIZES, dtype=DTYPE, seed=0), np.ones((N_ROWS, SIZES[0]), DTYPE)
out, together = np.empty((N_ROWS, SIZES[-1]), DTYPE), threading.Barrier(2)

def work():
    together.wait(60)
    for _ in range(N_CALLS):
        net.predict(rows, out=out)

threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """What races, the fault that it takes, counted from 1 as they are planted (0: none), and a program for a dtype."""

    what: str
    fault: int
    program: str

    def code(self, dtype: str) -> str:
        return START + self.program.replace("DTYPE", repr(dtype))


FAULTS = [
    Planted(
        what="no barrier between the deltas of a chunk and the gradient of its weights",
        old="        chunk_deltas(member, first)\n        barrier_wait(&run.team.barrier)\n",
        new="        chunk_deltas(member, first)\n        if not FAULT:\n            barrier_wait(&run.team.barrier)\n",
        group="races",
        first="",
    ),
    Planted(
        what="two threads of a fleet count its queue without an atomic operation",
        old="        at = fetch_add(&fleet.next, 1)\n",
        new="        if FAULT:\n            at = fleet.next\n            fleet.next = at + 1\n"
        "        else:\n            at = fetch_add(&fleet.next, 1)\n",
        group="races",
        first="",
    ),
    Planted(
        what="a thread claims one row of weights more than it sums, which is the next thread's",
        old="                    claim_block(changes + (row - first_row) * n_out + first, n_out, height, n_columns)\n",
        new="                    claim_block(changes + (row - first_row) * n_out + first, n_out, height + FAULT, "
        "n_columns)\n",
        group="races",
        first="",
    ),
]
RACES = [
    Race(what=FAULTS[0].what, fault=1, program=TRAIN),
    Race(what=FAULTS[1].what, fault=2, program=TRAIN_FLEET),
    Race(what=FAULTS[2].what, fault=3, program=TRAIN),
    Race(
        what="two threads of Python predict into one array, where the core stores parts of vectors",
        fault=0,
        program="SIZES, N_ROWS, N_CALLS = [5, 64, 1], 10000, 20" + ONE_OUT,
    ),
    Race(
        what="two threads of Python predict into one array, where the core calls memcpy",
        fault=0,
        program="SIZES, N_ROWS, N_CALLS = [1, 4096], 1, 2000" + ONE_OUT,
    ),
]
