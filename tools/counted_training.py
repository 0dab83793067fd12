"""Train the benchmark workloads under callgrind: run by tools/instructions.py as LIBRARY WORKLOAD ...

Each workload is trained for two numbers of epochs, and callgrind writes what either takes under `WORKLOAD EPOCHS`.
Only training is counted, so imports and data cost little time.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import replace

import only_built

only_built.enforce()

from bench.adapters import ours  # noqa: E402
from bench.workloads import WORKLOADS, Workload, make_rows, make_weights  # noqa: E402

# How many epochs more the longer run has. Valgrind computes FMA in software: these are a few seconds each.
EPOCHS = {
    "xor": 50_000, "iris": 300, "online": 20, "digits": 2, "deep": 1, "mnist": 1, "wide": 1, "simplechains": 2,
    "higgs": 1,
}  # fmt: skip
# Where an epoch of the benchmark takes too long, what makes a shorter one.
SHORTER = {"deep": {"rows": 1024}, "mnist": {"rows": 256}, "wide": {"rows": 64, "batch": 64}, "higgs": {"rows": 100}}


def main() -> None:
    callgrind = ctypes.CDLL(sys.argv[1])
    for name in sys.argv[2:]:
        workload = replace(WORKLOADS[name], **SHORTER.get(name, {}))
        # What is imported or cached at the first use, with few units because valgrind is slow.
        hidden = [2] * (len(workload.sizes) - 2)
        prepared(replace(workload, sizes=(workload.sizes[0], *hidden, workload.sizes[-1]))).run(1, shuffle=False)
        ignore_the_clock()
        trainer = prepared(workload)
        for epochs in (1, 1 + EPOCHS[name]):
            count(callgrind, trainer, workload, epochs)


def prepared(workload: Workload) -> ours.Backprop:
    return ours.prepare(workload, make_rows(workload), make_weights(workload), n_threads=1)


def ignore_the_clock() -> None:
    """Make training look for Ctrl-C only once in an hour: how often it looks depends on how slow valgrind is."""
    modules = [module for name, module in sys.modules.items() if name.startswith("backprop.")]
    looking = [module for module in modules if hasattr(module, "SLICE_SECONDS")]
    if not looking:
        raise AttributeError("SLICE_SECONDS: no module of backprop has it")
    for module in looking:
        module.SLICE_SECONDS = 3600.0


def count(callgrind: ctypes.CDLL, trainer: ours.Backprop, workload: Workload, epochs: int) -> None:
    callgrind.start()
    trainer.run(epochs, shuffle=workload.shuffled)
    callgrind.stop(f"{workload.name} {epochs}".encode())


if __name__ == "__main__":
    main()
