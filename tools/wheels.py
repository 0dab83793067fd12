"""Build wheels and try them: python tools/wheels.py [--arch x86_64 aarch64 any] [--out dist].

For each processor: built for every Python from 3.11 on (the limited API), with symbols that an old glibc has; labelled
by auditwheel; held against the sources by check_wheel.py and against 3 MB. The one for this machine is then installed
into an empty virtual environment, with no compiler on PATH: `backprop train` on the bundled table, with the seconds
that installing and training take together, and the bits of `python -m backprop.bits`. The one for the other is
cross-compiled, by aarch64-linux-gnu-gcc or x86_64-linux-gnu-gcc, and tried by tools/arm.py.

`any` is the wheel of pure Python, for browsers and for machines that have no other: NumPy computes, and the first
network says so. It is installed and trains as well.

With a Python without the GIL, the wheels are for that Python alone, and what is trained is no table.

It takes two minutes for each processor, and needs auditwheel, patchelf, a network and what pyproject.toml asks for to
build. Options of CMake in CMAKE_ARGS are passed on.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import sys
import sysconfig
import tempfile
import time
import tomllib
import venv
from pathlib import Path

import check_wheel

from build import ROOT, run

MAX_BYTES = 3_000_000
# Without the GIL there is no limited API: a wheel for the Python that runs this.
HAS_GIL = not sysconfig.get_config_var("Py_GIL_DISABLED")
TAG = "-cp311-abi3-" if HAS_GIL else "-cp{0}{1}-cp{0}{1}t-".format(*sys.version_info)
TRAIN = """
import sys, backprop
network = backprop.mlp([2, 4, 1])
network.fit([[0.0, 1.0]], [1.0], epochs=100, progress=False)
if network.backend == "reference" or sys._is_gil_enabled():
    sys.exit(f"needs a compiled core that leaves the GIL off, got {network.backend}")
"""
POLICY = re.compile(r"-manylinux_2_17_\w+\.manylinux2014_\w+\.whl$|-manylinux2014_\w+\.manylinux_2_17_\w+\.whl$")


def build_pure(folder: Path) -> Path:
    """The wheel without modules."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "pure"]
    run([*pip, "--config-settings=wheel.cmake=false", "--config-settings=wheel.py-api=py3", ROOT])
    (wheel,) = (folder / "pure").glob("*.whl")
    return wheel


def build(arch: str, folder: Path) -> Path:
    """Compile for a processor and return the wheel that has auditwheel's label."""
    options, environment = [os.environ.get("CMAKE_ARGS", ""), "-DBPCORE_OLD_GLIBC=ON"], {}
    raw, labelled = folder / f"raw-{arch}", folder / f"labelled-{arch}"
    pip = [sys.executable, "-m", "pip"]
    make = ["wheel", "--quiet", "--no-deps", "--wheel-dir", raw, f"--config-settings=build-dir={folder / arch}", ROOT]
    if arch != platform.machine():
        # pip, told of the other processor, would fetch the tools for that one: here they are at hand before.
        tools = folder / "tools"
        venv.create(tools)
        pip += ["--python", tools / "bin/python"]
        needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
        run([*pip, "install", "--quiet", *needed, "cmake", "ninja"])
        make.append("--no-build-isolation")
        environment["PATH"] = f"{tools / 'bin'}{os.pathsep}{os.environ['PATH']}"
        options += ["-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={arch}"]
        options += [f"-DCMAKE_C_COMPILER={arch}-linux-gnu-gcc"]
        environment["_PYTHON_HOST_PLATFORM"] = f"linux-{arch}"
    run([*pip, *make], CMAKE_ARGS=" ".join(options), **environment)
    (wheel,) = raw.glob("*.whl")
    # The cores for AVX2 and AVX-512 are loaded only where the processor has it.
    repair = [sys.executable, "-m", "auditwheel", "repair", "-z9", "--disable-isa-ext-check", "--wheel-dir", labelled]
    run([*repair, wheel], quiet=True)
    (wheel,) = labelled.glob("*.whl")
    return wheel


def problems(wheel: Path) -> list[str]:
    """What is wrong with a wheel, without running it."""
    found = list(check_wheel.problems(wheel))
    if wheel.stat().st_size >= MAX_BYTES:
        found.append(f"size: needs less than {MAX_BYTES:,} bytes, got {wheel.stat().st_size:,}")
    if wheel.name.endswith("-py3-none-any.whl"):
        return found
    if TAG not in wheel.name:
        found.append(f"name: needs the tag {TAG.strip('-')}, got {wheel.name}")
    if not POLICY.search(wheel.name):
        found.append(f"name: needs auditwheel's manylinux2014, got {wheel.name}")
    return found


def try_out(wheel: Path, folder: Path, *, has_bits: bool) -> float:
    """Install into an empty environment without a compiler, train, compare the bits; seconds until it has trained."""
    folder = folder / wheel.stem
    folder.mkdir()
    venv.create(folder / "venv")
    scripts = folder / "venv/bin"  # all that is on PATH
    environment = {"PATH": scripts, "CC": "false", "PYTHONPATH": ""}
    python = scripts / "python"
    start = time.perf_counter()
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--only-binary=:all:"]
    if HAS_GIL:
        run([*install, f"{wheel}[tables]"], **environment)
        run([scripts / "backprop", "train", "--out", folder / "iris.safetensors"], quiet=True, **environment)
    else:  # DuckDB, which reads tables, has no wheels there
        run([*install, wheel], **environment)
        run([python, "-c", TRAIN], **environment)
    seconds = time.perf_counter() - start
    if has_bits:
        run([python, "-m", "backprop.bits"], quiet=True, **environment)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", choices=["x86_64", "aarch64", "any"], default=[platform.machine()])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the wheels go")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for arch in arguments.arch:
            wheel = build_pure(Path(scratch)) if arch == "any" else build(arch, Path(scratch))
            if found := problems(wheel):
                sys.exit("\n".join([f"{wheel.name}:", *found]))
            print(f"{wheel.name}: {wheel.stat().st_size:,} bytes, complete, and nothing that does not belong there")
            if arch in (platform.machine(), "any"):
                seconds = try_out(wheel, Path(scratch), has_bits=arch != "any")
                of_bits = "" if arch == "any" else "; the bits are those of the table"
                print(f"installed and trained in {seconds:.1f} s without a compiler{of_bits}")
            shutil.copy2(wheel, arguments.out)


if __name__ == "__main__":
    main()
