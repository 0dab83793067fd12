"""Change the sources and see whether the tests notice: python tools/mutate.py reference|compiled|systematic.

``reference``   every operator, comparison, constant, argument and statement of the formulas in
                python/backprop/reference (activations, losses, optimizers, step), changed one at a time
``compiled``    the faults of tools/faults, planted in the compiled core, the one for any CPU where it has the code;
                with --check, only whether each of them has its one place in the sources
``systematic``  operators, comparisons, constants and statements in the .pxd files, a random sample of all changes;
                gives a score, the share of them that the tests notice

A fault is noticed when a test fails that passes without it. One that goes unnoticed makes the program fail, but not in
a systematic run. Those in tools/mutation/equivalent.toml compute the same and are left out. The tests are collected
once; each fault is planted in a fork, which runs them up to the first that fails.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from build import ROOT, build
from mutation import planted, reference, systematic
from mutation.running import Fault, missed, report

EQUIVALENT = set(tomllib.loads(systematic.EQUIVALENT.read_text())["reference"])


def check_reference(only: Sequence[str], listed: bool) -> list[str]:
    faults = [
        fault
        for module in reference.TESTS
        for fault in reference.mutants(module)
        if fault.what not in EQUIVALENT and is_asked_for(f"{module} {fault.what}", only)
    ]
    if listed:
        return show(faults)
    os.environ["BACKPROP_BACKEND"] = "reference"
    with tempfile.TemporaryDirectory() as name:
        package = Path(name) / "python"
        shutil.copytree(ROOT / "python", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        return report("reference", faults, missed(package, faults))


def check_compiled(only: Sequence[str], listed: bool, first_only: bool) -> list[str]:
    core = planted.planted_faults()
    of_isa: dict[str, list[Fault]] = {}
    for place, fault in zip(core, planted.faults_to_run(core, first_only), strict=True):
        if is_asked_for(fault.what, only):
            of_isa.setdefault(place.isa, []).append(fault)
    if listed:
        return show([fault for faults in of_isa.values() for fault in faults])
    source, wrong = planted.plant_all(core, SOURCE), []
    for isa, faults in of_isa.items():  # each in a process of its own, which can import one core
        run = multiprocessing.get_context("fork").Process(target=check_core, args=(source, isa, faults))
        run.start()
        run.join()
        wrong += [isa] * (run.exitcode != 0)
    return wrong


def check_core(source: Path, isa: str, faults: Sequence[Fault]) -> None:
    """End the process, with an exit code that is not 0 if a fault of this core goes unnoticed."""
    sys.exit(bool(report(f"compiled, {isa}", faults, run_compiled(source, isa, faults))))


def check_places() -> list[str]:
    wrong = planted.misplaced(planted.planted_faults())
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return wrong


def check_systematic(only: Sequence[str], listed: bool, size: int | None, seed: int) -> list[str]:
    found = systematic.all_mutants(planted.sources())
    some = systematic.sample([mutant for mutant in found if is_asked_for(mutant.what, only)], size, seed)
    core = systematic.without_equivalent(some)
    faults = systematic.mutants_to_run(core)
    if listed:
        return show(faults)
    unnoticed = report("systematic", faults, run_compiled(systematic.plant_all(core, SOURCE), "v3", faults))
    score = 1 - len(unnoticed) / len(faults)
    print(
        f"score: {score:.1%} of a sample of {len(faults)} (seed {seed}), {len(some) - len(core)} equivalent ones apart"
    )
    return []


# Tests whose outcome depends on the time that a slow build takes.
TIMED = ("progress", "ctrl_c", "interrupt")
SOURCE = ROOT / "build/mutate/source"


def run_compiled(source: Path, isa: str, faults: Sequence[Fault]) -> list[str]:
    """Build a core with switchable faults and return those that no test notices."""
    os.environ["BACKPROP_BACKEND"] = isa
    os.environ["OMP_NUM_THREADS"] = "1"  # PyTorch's OpenMP hangs in a fork once it has had a team
    package = build(source.parent, "debug", [isa], source=source)
    if isa not in available(package):
        print(f"skipped: {len(faults)} faults of the core {isa}, which this CPU cannot run")
        sys.exit()
    return missed(package, faults, f"not reference and not {' and not '.join(TIMED)}")


def available(package: Path) -> list[str]:
    """The cores of a package that this CPU can run."""
    program = "from backprop.backends import choice; print(*choice.available())"
    environment = {**os.environ, "PYTHONPATH": str(package)}
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return found.stdout.split()


def is_asked_for(text: str, only: Sequence[str]) -> bool:
    return any(part in text for part in only)


def show(faults: Sequence[Fault]) -> list[str]:
    print(*(fault.what for fault in faults), sep="\n")
    return []


def main() -> bool:
    """Whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["reference", "compiled", "systematic"])
    parser.add_argument("--only", nargs="+", default=[""], help="only faults with one of these in their file or name")
    parser.add_argument("--list", action="store_true", help="only name them")
    parser.add_argument("--check", action="store_true", help="compiled: only whether every fault has its place")
    parser.add_argument("--first-only", action="store_true", help="compiled: only the tests most likely to notice it")
    parser.add_argument("--sample", type=int, metavar="N", help="systematic: N random changes, else all")
    parser.add_argument("--seed", type=int, default=0, help="systematic: of the sample")
    arguments = parser.parse_args()
    only, listed = arguments.only, arguments.list
    if arguments.check:
        return not check_places()
    if arguments.what == "systematic":
        return not check_systematic(only, listed, arguments.sample, arguments.seed)
    if arguments.what == "compiled":
        return not check_compiled(only, listed, arguments.first_only)
    return not check_reference(only, listed)


if __name__ == "__main__":
    sys.exit(not main())
