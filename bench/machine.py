"""The machine: which processors are used, what it is, and the peak of its multiply-add units."""

from __future__ import annotations

import atexit
import os
import platform
import re
import subprocess
import tempfile
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

VECTOR_BYTES = (64, 32, 16)
LIBRARIES = ("bpcore", "numpy", "scikit-learn", "torch", "jax", "jaxlib")


def pin(n_threads: int) -> list[int]:
    """Bind this process, and those it starts, to as many processors as there are threads; returns which.

    The last ones are taken: the first one serves most interrupts.
    """
    if not hasattr(os, "sched_setaffinity"):
        return []
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < n_threads:
        raise SystemExit(f"bench: {n_threads} threads wanted, but only {len(cpus)} processors may be used")
    os.sched_setaffinity(0, cpus[-n_threads:])
    return cpus[-n_threads:]


def describe() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        pairs = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
        facts = {key.strip(): value.strip() for key, _, value in pairs}
        model = f"{facts.get('model name', model)} (family {facts.get('cpu family')}, model {facts.get('model')})"
    versions: dict[str, str | None] = {}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = None
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": versions,
    }


def slug(n_threads: int) -> str:
    """The processor and the number of threads as a file's name."""
    words = re.findall("[a-z0-9]+", describe()["cpu"].lower())
    return "-".join([*words, str(n_threads), "threads" if n_threads > 1 else "thread"])


@cache
def _peak_program(dtype: str) -> Path | None:
    """peak.c, compiled for the vector width that is fastest here; None without a C compiler that knows vectors."""
    folder = tempfile.TemporaryDirectory(prefix="bench-peak-")
    atexit.register(folder.cleanup)
    best, fastest = None, 0.0
    for size in VECTOR_BYTES:
        program = Path(folder.name) / f"peak{size}"
        real = {"float32": "float", "float64": "double"}[dtype]
        source = Path(__file__).with_name("peak.c")
        options = ["-O3", "-march=native", "-ffp-contract=fast", "-Wno-psabi", f"-DBYTES={size}", f"-DREAL={real}"]
        command = [os.environ.get("CC", "cc"), *options, str(source), "-o", str(program)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        rate = _rate(program, 1)
        if rate > fastest:
            best, fastest = program, rate
    return best


def _rate(program: Path, n_threads: int) -> float:
    command = [str(program), "0.05"]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(n_threads)]
    return sum(float(run.communicate()[0]) for run in runs)


def peak(dtype: str, n_threads: int) -> float | None:
    """GFLOP/s of independent multiply-adds on all the threads' processors together, measured now."""
    program = _peak_program(dtype)
    return None if program is None else _rate(program, n_threads)
