"""How many threads a run uses."""

from __future__ import annotations

import math
import os
import sys
import threading
from pathlib import Path

# A step with less arithmetic than this is over sooner than two threads have met: 40 microseconds of one core.
FLOPS_PER_STEP = 8e6


# What users, joblib and loky set where a process is to use fewer CPUs than there are. Dask's workers get the first one.
_LIMITS = ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "LOKY_MAX_CPU_COUNT")


def choose(n_threads: int | None, flops_per_step: float, most: int) -> int:
    """The threads for a run: as many as asked for, or, for None, what its steps can keep busy."""
    if n_threads is not None:
        return n_threads
    return 1 if are_few(flops_per_step) else min(allowed(), most)


def are_few(flops_per_step: float) -> bool:
    """Whether a step has too little to do for more than one thread."""
    return flops_per_step < FLOPS_PER_STEP


def allowed() -> int:
    """How many threads a run may have that was given no number.

    One for each usable CPU, or in a thread of a pool, whose other threads may train as well, for each of its share; at
    most as many as the environment allows.
    """
    limits = [usable_cpus() // _pool_size()]
    for name in _LIMITS:
        first = os.environ.get(name, "").split(",")[0].strip()  # "4,2": 4 threads, each of which may have 2
        if first.isascii() and first.isdigit():
            limits.append(int(first))
    return max(1, min(limits))


def are_fixed() -> bool:
    """Whether all threads of a run take part in every step: the variable BACKPROP_THREADS says "fixed".

    Otherwise a run leaves threads out while their CPUs are busy with something else.
    """
    wanted = os.environ.get("BACKPROP_THREADS", "")
    if wanted not in ("", "auto", "fixed"):
        raise ValueError(f"the environment variable BACKPROP_THREADS: needs auto or fixed, got {wanted!r}")
    return wanted == "fixed"


def _pool_size() -> int:
    """How many threads the pool has in which this function is called; 1 outside of pools.

    Known are those of joblib's backend "threading", which are a `multiprocessing.pool.ThreadPool`, and of Dask's
    workers. Neither says so in the environment. What was not imported has started no thread.
    """
    dummy = sys.modules.get("multiprocessing.dummy")
    if dummy is not None and isinstance(threading.current_thread(), dummy.DummyProcess):
        return sum(isinstance(thread, dummy.DummyProcess) for thread in threading.enumerate())
    distributed = sys.modules.get("distributed")
    if distributed is not None:
        try:
            return int(distributed.get_worker().state.nthreads)
        except (AttributeError, ValueError):  # not in a task, or not imported to the end
            return 1
    return 1


def usable_cpus() -> int:
    """The CPUs this process may use: its affinity, cut down to its control group's quota (Linux)."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cpus = os.cpu_count() or 1
    quota = _quota()
    return cpus if quota is None else max(1, min(cpus, math.ceil(quota)))


def _quota(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """CPUs that the control groups above this process grant it; None where they set no limit."""
    quotas = []
    for line in _text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2: every group up to the root may set a limit
            group = root / path.lstrip("/")
            for folder in (group, *group.parents):
                quotas += _ratio(_text(folder / "cpu.max").split())
                if folder == root:
                    break
        elif "cpu" in controllers.split(","):
            folder = root / "cpu" / path.lstrip("/")
            if not folder.is_dir():  # inside a container the own group is mounted as the root
                folder = root / "cpu"
            quotas += _ratio([_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")])
    return min(quotas, default=None)


def _ratio(words: list[str]) -> list[float]:
    """Quota by period as a list of one number; empty for "no limit"."""
    try:
        quota, period = (int(word) for word in words)
    except ValueError:
        return []
    return [quota / period] if quota > 0 and period > 0 else []


def _text(path: Path) -> str:
    try:
        return os.fsdecode(path.read_bytes())
    except OSError:
        return ""
