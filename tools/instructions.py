"""Compare the instructions that training takes with those of another commit: python tools/instructions.py [--base REV].

Builds the AVX2 cores of the base and of the work tree and trains the workloads of `bench` under callgrind, for two
numbers of epochs: the difference is training alone. Fails where a workload takes over 2 % more than in the base. The
base is the parent commit, or HEAD where the work tree has changes. What a change may cost on purpose stands in
tools/accepted_instructions.toml.

Needs valgrind with its headers and an x86-64 processor with AVX2. Without them it says so and succeeds. What is built
and counted for a base is kept in build/instructions, for the last three.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from build import ROOT, build

sys.path.insert(0, str(ROOT))
from bench.workloads import TABLE

FOLDER = ROOT / "build/instructions"
ACCEPTED = "tools/accepted_instructions.toml"
PROGRAM = ROOT / "tools/counted_training.py"
NAMES = [workload.name for workload in TABLE]
LIMIT = 0.02
N_BASES = 3  # kept in FOLDER
# What decides the counts beside the commit.
INPUTS = (PROGRAM, ROOT / "tools/callgrind.c", ROOT / "bench/workloads.py", ROOT / "bench/adapters/ours.py")


class Count(NamedTuple):
    """Instructions."""

    epoch: float
    """of an epoch of training"""
    call: float
    """of a network and a call of `fit`, without its epochs"""


Counts = dict[str, Count]


# ---- the two sides ----


def git(*arguments: str) -> str:
    """What git prints; CalledProcessError where it fails."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def default_base() -> str:
    return "HEAD" if git("status", "--porcelain", "--untracked-files=no") else "HEAD^"


def build_commit(commit: str) -> Path:
    """The package of a commit, built by its own tools/build.py: its sources may lie elsewhere than those here."""
    folder = FOLDER / commit
    package = folder / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        source = folder / "source"
        source.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
        call = f"from pathlib import Path; import build; build.build(Path({str(folder)!r}), instruction_sets=['v3'])"
        subprocess.run([sys.executable, "-c", call], cwd=source, env=os.environ | {"PYTHONPATH": "tools"}, check=True)
    (folder / "complete").touch()
    forget_old_bases()
    return package


def forget_old_bases() -> None:
    """Keep the bases that were used last."""
    used = sorted(FOLDER.glob("*/complete"), key=lambda path: path.stat().st_mtime)
    for path in used[:-N_BASES]:
        shutil.rmtree(path.parent)


# ---- counting ----


def why_not() -> str | None:
    """What is missing here."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return "it compares AVX2 cores, and this is not an x86-64 processor"
    if shutil.which("valgrind") is None:
        return "valgrind is not installed"
    if subprocess.run(["cc", "-E", ROOT / "tools/callgrind.c"], capture_output=True).returncode != 0:
        return "there is no C compiler with valgrind's headers"
    return None


def library() -> Path:
    """What starts and stops callgrind, compiled."""
    path = FOLDER / "callgrind.so"
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", path, ROOT / "tools/callgrind.c"], check=True)
    return path


def count(package: Path, folder: Path, name: str) -> Count:
    """Train one workload with a package under callgrind."""
    out = folder / f"callgrind.{name}"
    for old in folder.glob(f"{out.name}*"):
        old.unlink()
    settings = {
        "PYTHONPATH": f"{package}{os.pathsep}{ROOT}", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1",
        "BACKPROP_BACKEND": "v3", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    }  # fmt: skip
    valgrind = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
    subprocess.run(
        [*valgrind, sys.executable, PROGRAM, FOLDER / "callgrind.so", name], env=os.environ | settings, check=True
    )
    (first, begin), (last, end) = sorted(read_dump(path) for path in folder.glob(f"{out.name}.*"))
    epoch = (end - begin) / (last - first)
    return Count(epoch, begin - first * epoch)


def read_dump(path: Path) -> tuple[int, int]:
    """Epochs and instructions of a dump of callgrind."""
    fields = dict(line.split(":", 1) for line in path.read_text().splitlines() if line.startswith(("desc: Tr", "tot")))
    return int(fields["desc"].split()[-1]), int(fields["totals"])


def count_sides(sides: Mapping[str, Path], names: Sequence[str]) -> dict[str, Counts]:
    """Count each side, a process for each processor; the longest workloads, which are the last ones, first."""
    library()
    kept = {side: FOLDER / side / f"counts.{fingerprint()}.json" for side in sides}
    counts = {side: read_counts(path) if side != "tree" else {} for side, path in kept.items()}
    jobs = [(side, name) for name in reversed(names) for side in sides if name not in counts[side]]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda job: count(sides[job[0]], FOLDER / job[0], job[1]), jobs)
        for (side, name), what in zip(jobs, found, strict=True):
            print(f"  {side[:10]:10} {name:12} {what.epoch:14,.0f}", flush=True)
            counts[side][name] = what
    for side, path in kept.items():
        path.write_text(json.dumps(counts[side], indent=1))
    return counts


def fingerprint() -> str:
    """Of everything but the sides that decides what is counted."""
    import numpy as np

    parts = [*(path.read_bytes() for path in INPUTS), f"{sys.version} {np.__version__}".encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def read_counts(path: Path) -> Counts:
    return {name: Count(*pair) for name, pair in json.loads(path.read_text()).items()} if path.exists() else {}


# ---- the comparison ----


def accepted_factors(base: str) -> dict[str, float]:
    """By which factor each workload may be slower: the product of the entries that are not in the base's file."""
    old: list[Any] = []
    if git("ls-tree", "--name-only", base, ACCEPTED):
        old = read_accepted(git("show", f"{base}:{ACCEPTED}"))
    new = [entry for entry in read_accepted((ROOT / ACCEPTED).read_text()) if entry not in old]
    return {name: math.prod(entry["factor"] for entry in new if entry["workload"] == name) for name in NAMES}


def read_accepted(text: str) -> list[Any]:
    entries: list[Any] = tomllib.loads(text).get("accepted", [])
    for entry in entries:
        if set(entry) != {"workload", "factor", "date", "reason"} or entry["workload"] not in NAMES:
            sys.exit(f"{ACCEPTED}: needs a workload ({', '.join(NAMES)}), factor, date and reason, got {entry}")
    return entries


def compare(before: Counts, after: Counts, accepted: Mapping[str, float]) -> list[str]:
    """Print the table and return the workloads that take too many instructions."""
    print(f"{'':12} {'an epoch':>28} {'change':>9} {'a call of fit':>28} {'change':>9}")
    print(f"{'workload':12} {'base':>14} {'tree':>13} {'':>9} {'base':>14} {'tree':>13}")
    slower = []
    for name, old in before.items():
        new, allowed = after[name], accepted.get(name, 1.0)
        too_many = new.epoch > old.epoch * allowed * (1 + LIMIT)
        note = "  TOO MANY" if too_many else f"  accepted: {allowed - 1:+.2%}" if allowed != 1 else ""
        columns = [
            f"{a:14,.0f} {b:13,.0f} {b / a - 1:+9.2%}" for a, b in ((old.epoch, new.epoch), (old.call, new.call))
        ]
        print(f"{name:12}", *columns, note)
        if too_many:
            slower.append(name)
    return slower


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="the commit to compare with")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="WORKLOAD", help=" ".join(NAMES))
    arguments = parser.parse_args()
    if reason := why_not():
        print(f"instructions: not counted, {reason}")
        return
    try:
        base = git("rev-parse", "--verify", f"{arguments.base or default_base()}^{{commit}}")
    except subprocess.CalledProcessError as error:
        if arguments.base:
            sys.exit(f"--base: {error.stderr.strip()}")
        print("instructions: not counted, there is no parent commit here to compare with")
        return
    accepted = accepted_factors(base)
    sides = {base: build_commit(base), "tree": build(FOLDER / "tree", instruction_sets=["v3"])}
    counts = count_sides(sides, arguments.only)
    before, after = ({name: counts[side][name] for name in arguments.only} for side in sides)
    if slower := compare(before, after, accepted):
        sys.exit(f"more than {LIMIT:.0%} more instructions than in {base[:10]}: {', '.join(slower)}")


if __name__ == "__main__":
    main()
