"""Run the tests on cores that look for their own mistakes: python tools/sanitize.py address|thread|valgrind ...

``address``   AddressSanitizer and UndefinedBehaviorSanitizer, on the tests that compute
``thread``    ThreadSanitizer: first on planted races, each of which it must report, then on the tests of threads. Also
              without the GIL, with a Python that was built with --with-thread-sanitizer
``valgrind``  memcheck on a short run of everything that a core offers (no AVX-512: valgrind does not know it)

Needs GCC or Clang with their sanitizer libraries, and valgrind. The builds are kept in build/sanitize.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from build import INSTRUCTION_SETS, ROOT, build, run
from mutation import planted
from races import FAULTS, RACES

# -s: what a sanitizer says before it ends the process must not be lost
PYTEST = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-p", "only_built"]
# The computing tests, and no test of pictures, pages or files. New files belong to them until they are named here.
# What counts allocations stands before malloc, where AddressSanitizer is.
NOT_COMPUTING = (
    "allocations", "cli", "docs", "docstrings", "examples", "fuzz", "importing", "io", "lessons", "plotting",
    "real_data", "tables_cases", "tables_columns", "tables_docs", "tables_model", "tables_orders", "tables_reading",
    "tables_report", "threads_bits", "tools", "trace",
)  # fmt: skip
# Nor what NumPy computes, what takes all memory or time, or scikit-learn's own tests, which train and train again.
NOT_ADDRESS = ("pictures", "larger_than", "wide", "reference", "of_scikit_learn")
FIXED_ADDRESSES = ["setarch", "-R"]  # ThreadSanitizer wants certain ones for itself
# Python and NumPy keep memory until they end, which is no leak of ours.
ASAN = "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1"
# On Linux ThreadSanitizer takes no module for instrumented: it would leave out memcpy and memset in the core, too.
TSAN = "halt_on_error=1:ignore_noninstrumented_modules=0:report_signal_unsafe=0:exitcode=66"
REPORTED = 66


def library(name: str) -> str:
    """Where the compiler has a sanitizer's library, which must be loaded before Python is."""
    return subprocess.run(["cc", f"-print-file-name=lib{name}.so"], capture_output=True, text=True).stdout.strip()


def address(isas: list[str]) -> None:
    package = build(ROOT / "build/sanitize/address", "address", isas)
    tests = [
        path
        for path in sorted(ROOT.glob("tests/test_*.py"))
        if not path.stem.endswith(tuple(f"_{n}" for n in NOT_COMPUTING))
    ]
    run(
        [*PYTEST, *tests, "tests/test_threads_bits.py", "-k", " and ".join(f"not {name}" for name in NOT_ADDRESS)],
        LD_PRELOAD=f"{library('asan')} {library('ubsan')} {library('stdc++')}",
        ASAN_OPTIONS=ASAN,
        UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1",
        PYTHONMALLOC="malloc",
        PYTHONPATH=package,
    )  # fmt: skip


def thread(isas: list[str]) -> None:
    folder = ROOT / "build/sanitize/thread"
    package = build(folder, "thread", isas, source=planted.plant_all(FAULTS, folder / "source"))
    # threads of NumPy's own, which are not instrumented, would be reported
    settings = {"TSAN_OPTIONS": TSAN, "PYTHONPATH": package, "OPENBLAS_NUM_THREADS": "1"}
    if not is_instrumented():
        settings["LD_PRELOAD"] = library("tsan")
    for isa in isas:
        for dtype in ("float32", "float64"):
            check_races(isa, dtype, settings)
    fleets = [ROOT / f"tests/test_fleet_{name}.py" for name in ("lanes", "minimize")]
    tests = [*sorted(ROOT.glob("tests/test_*thread*.py")), *fleets]
    run([*FIXED_ADDRESSES, *PYTEST, *tests, "-k", "not wide and not (shares_change and dropout)"], **settings)


def is_instrumented() -> bool:
    """Whether this Python has ThreadSanitizer in it. Without the GIL it must: its own locks order what threads do."""
    instrumented = "--with-thread-sanitizer" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    if sysconfig.get_config_var("Py_GIL_DISABLED") and not instrumented:
        sys.exit("thread: a Python without the GIL needs to be built with --with-thread-sanitizer")
    return instrumented


def check_races(isa: str, dtype: str, settings: dict[str, str | Path]) -> None:
    """End the program unless each of the planted races is reported, as one of the core."""
    for race in RACES:
        switches = {"BACKPROP_BACKEND": isa, "BACKPROP_FAULT": race.fault, "BACKPROP_THREADS": "fixed"}
        result = subprocess.run(
            [*FIXED_ADDRESSES, sys.executable, "-c", race.code(dtype)],
            env=os.environ | {name: str(value) for name, value in (settings | switches).items()},
            capture_output=True,
            text=True,
        )
        if result.returncode != REPORTED or f"_core_{isa}_f" not in result.stderr:
            sys.exit(f"thread: {isa}, {dtype}: needs a report, and got none, where {race.what}\n{result.stderr}")
        print(f"{isa}, {dtype}: reported, as it should be: {race.what}", flush=True)


def valgrind(isas: list[str]) -> None:
    isas = [isa for isa in isas if isa != "v4"]
    package = build(ROOT / "build/sanitize/valgrind", "debug", isas)
    for isa in isas:
        run(
            ["valgrind", "--error-exitcode=9", "--quiet", f"--suppressions={ROOT / 'tools/valgrind.supp'}",
             sys.executable, ROOT / "tools/short_run.py", isa],
            PYTHONMALLOC="malloc", PYTHONPATH=package,
        )  # fmt: skip


CHECKS = {"address": address, "thread": thread, "valgrind": valgrind}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("check", nargs="+", choices=CHECKS)
    parser.add_argument("--isa", nargs="+", choices=INSTRUCTION_SETS, default=list(INSTRUCTION_SETS))
    arguments = parser.parse_args()
    for name in arguments.check:
        CHECKS[name](arguments.isa)
        print(f"{name}: nothing found")
