"""Try the library without the GIL, here: python3.13t tools/free_threading.py [--isa v4].

Run it with a Python that was built without the GIL, 3.13 or later. It builds the cores for that Python, which has no
limited API, and runs the tests of Python's own threads: each trains its own network, fleet or minimiser, all predict
with one, several train the same one, all import at once; the bits are those of one thread, and the GIL stays off.

Such a Python comes from CPython's sources in some minutes (`./configure --disable-gil`). It needs numpy, narwhals,
tqdm, pytest, cython and cython-cmake, and cmake and ninja on PATH; what is built is kept in build/free-threading.
"""

from __future__ import annotations

import argparse
import sys
import sysconfig

from build import INSTRUCTION_SETS, ROOT, build, run

TESTS = ("tests/test_free_threading.py", "tests/test_processes.py")
NAMES = "free_threading or several_threads or beside"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", nargs="+", choices=INSTRUCTION_SETS, default=list(INSTRUCTION_SETS))
    arguments = parser.parse_args()
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        sys.exit(f"it needs a Python that was built without the GIL, got {sys.version}")
    package = build(ROOT / "build/free-threading", instruction_sets=arguments.isa)
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "only_built"]
    run([*pytest, *TESTS, "-k", NAMES], PYTHONPATH=package)


if __name__ == "__main__":
    main()
