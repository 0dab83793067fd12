"""An instrumented copy of the package, built beside the sources: what the other tools run the tests on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSTRUCTION_SETS = ("neon",) if platform.machine() in ("aarch64", "arm64") else ("baseline", "v3", "v4")


def build(
    folder: Path, instrument: str = "", instruction_sets: Sequence[str] = INSTRUCTION_SETS, *, source: Path = ROOT
) -> Path:
    """Compile the cores of `source` in a folder and return where a package with them is: a value for PYTHONPATH."""
    import cython_cmake

    build_folder, package = folder / "build", folder / "python"
    configure = [
        "cmake", "-S", source, "-B", build_folder, "-DCMAKE_BUILD_TYPE=Release", f"-DBPCORE_INSTRUMENT={instrument}",
        f"-DPython_EXECUTABLE={sys.executable}", f"-DCMAKE_MODULE_PATH={Path(cython_cmake.__file__).parent / 'cmake'}",
    ]  # fmt: skip
    if shutil.which("ninja") and not (build_folder / "Makefile").exists():
        configure.append("-GNinja")
    run(configure, quiet=True)
    targets = ["_cpu", *(f"_core_{isa}_f{bits}" for isa in instruction_sets for bits in (32, 64))]
    run(["cmake", "--build", build_folder, "--parallel", str(os.cpu_count()), "--target", *targets], quiet=True)
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(source / "python", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for target in targets:
        for module in build_folder.glob(f"{target}.*.so"):
            shutil.copy2(module, package / "backprop")
    shutil.copy2(ROOT / "tools/only_built.py", package)  # where pytest finds it as a plugin
    return package


def run(command: Sequence[object], *, quiet: bool = False, **environment: object) -> None:
    """Run a command, with what it prints shown or, if `quiet`, shown where it fails; its failure ends the program."""
    print("+", *(f"{name}={value}" for name, value in environment.items()), *command, flush=True)
    result = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=os.environ | {name: str(value) for name, value in environment.items()},
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
    )
    if result.returncode != 0:
        print(result.stdout or "", end="", file=sys.stderr)
        sys.exit(f"{command[0]} failed ({result.returncode})")
