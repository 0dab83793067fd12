"""Try a wheel on 64-bit Arm, here: python tools/arm.py WHEEL [--root FOLDER].

It makes a Debian for arm64 in a folder with debootstrap, which qemu runs in user mode; installs the wheel there; then
`backprop.show_config()` must say neon, the bits must be those of the table, those of every network of
tests/test_threads_bits.py must be the ones of this machine, with 1 and 2 threads, and every tenth numerical test must
pass. The wheel is one that `python tools/wheels.py --arch aarch64` has made.

It takes some minutes for the root, which is kept, and half an hour for the rest. It needs to be root, Debian's packages
debootstrap, qemu-user-static and arch-test, a network, and on this machine a `backprop` that can be imported, with an
AVX2 or AVX-512 core.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from build import ROOT, run

PACKAGES = ("numpy", "narwhals", "safetensors", "tqdm", "pytest", "hypothesis", "mpmath")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
PYTHON = "3.11"  # Debian bookworm's
TESTS = [f"tests/test_{name}.py" for name in (
    "activations", "dropout", "extremes", "fleet_bits", "gradients", "losses", "optimizers", "predict_rows", "runs",
    "subnormals", "twins", "validation_loss", "vmath",
)]  # fmt: skip
REGISTER = (
    "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc; "  # where it is mounted, this only says so
    "cat /usr/lib/binfmt.d/qemu-aarch64.conf > /proc/sys/fs/binfmt_misc/register"
)

# Run here and there, in a folder with the tests: the digests of all networks that test_threads_bits.py knows.
DIGESTS = """
import json, sys
sys.path.insert(0, "tests")
import test_threads_bits as t
name = t.FUSED[0]
print(json.dumps({f"{case}, {dtype}, {n} threads": t.digest(case, dtype, name, n, t.epochs_for(case, 3))
                  for case in t.CASES for dtype in ("float32", "float64") for n in (1, 2)}))
"""
# A plugin of pytest.
TENTH = """
def pytest_collection_modifyitems(config, items):
    config.hook.pytest_deselected(items=[item for k, item in enumerate(items) if k % 10])
    items[:] = items[::10]
"""


def make_root(root: Path) -> None:
    """A Debian with Python, if it is not there yet."""
    if (root / "complete").exists():
        return
    if subprocess.run(["arch-test", "arm64"], capture_output=True).returncode != 0:
        sys.exit(f"programs for arm64 do not run here; with qemu-user-static, as root: {REGISTER}")
    options = ["--arch=arm64", "--variant=minbase", "--include=python3-venv"]
    run(["debootstrap", *options, "bookworm", root, "http://deb.debian.org/debian"], quiet=True)
    run(["chroot", root, "python3", "-m", "venv", "/venv"])
    (root / "complete").touch()


def install(wheel: Path, root: Path) -> None:
    """Fetch what the wheel needs with the pip of this machine, so that the root needs no network; install it there."""
    wheels, work = root / "wheels", root / "work"
    target = ["--only-binary=:all:", f"--python-version={PYTHON}", *(f"--platform={name}" for name in PLATFORMS)]
    run([sys.executable, "-m", "pip", "download", "--quiet", "--dest", wheels, *target, *PACKAGES], quiet=True)
    shutil.copy2(wheel, wheels)
    pip = ["/venv/bin/pip", "install", "--quiet", "--no-index", "--find-links=/wheels"]
    run(["chroot", root, *pip, *PACKAGES])
    run(["chroot", root, *pip, "--no-deps", "--force-reinstall", f"/wheels/{wheel.name}"])
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(ROOT / "tests", work / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "pyproject.toml", work)
    (work / "tenth.py").write_text(TENTH)


def there(root: Path, *arguments: str) -> str:
    """What Python prints there; its failure ends the program."""
    program = ["chroot", str(root), "/usr/bin/env", "-C", "/work", "PYTHONPATH=/work", "PYTHONDONTWRITEBYTECODE=1"]
    done = subprocess.run([*program, "/venv/bin/python", *arguments], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\n{' '.join(arguments)[:80]} failed ({done.returncode})")
    return done.stdout


def compare_digests(root: Path) -> None:
    """Every network of test_threads_bits.py, here and there."""
    here = subprocess.run([sys.executable, "-c", DIGESTS], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    ours, theirs = json.loads(here), json.loads(there(root, "-c", DIGESTS))
    differing = [name for name in ours if ours[name] != theirs.get(name)]
    if differing:
        sys.exit("\n".join(["other bits than on this machine:", *differing]))
    print(f"{len(ours)} trainings of tests/test_threads_bits.py: the bits of this machine", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--root", type=Path, default=ROOT / "build/arm64", help="where the Debian is, or is made")
    arguments = parser.parse_args()
    if os.geteuid() != 0 or sysconfig.get_platform() != "linux-x86_64":
        sys.exit("it needs to be root, on Linux on x86-64")
    make_root(arguments.root)
    install(arguments.wheel, arguments.root)
    config = there(arguments.root, "-c", "import backprop; backprop.show_config()")
    print(config)
    if "NEON" not in config:
        sys.exit("the backend is not neon")
    print(*there(arguments.root, "-m", "backprop.bits").splitlines()[-2:], sep="\n", flush=True)
    compare_digests(arguments.root)
    print(there(arguments.root, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tenth", *TESTS))


if __name__ == "__main__":
    main()
