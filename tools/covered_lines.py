"""Which lines the tests run: python tools/covered_lines.py [--isa v4 ...] [--append] [arguments of pytest].

Lines of Python by coverage.py. Lines of Cython by the C compiler's own counters (gcov), in a build of their own whose
C code names the lines of the .pyx and .pxd files that it is made from: they count in functions without the GIL, in
inlined ones and in every thread, where Cython's own tracing would need the GIL. A line counts as run when it ran in any
of the modules, whatever their instruction set or dtype.

Prints a table and fails below 95 %. Needs GCC, coverage.py and `pip install .[test]`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from build import ROOT, build, run

NEEDED = 95.0


def python_lines(data: Path, package: Path) -> dict[str, tuple[int, int, list[int]]]:
    """For each module, lines run, all lines, and those that did not run."""
    from coverage import Coverage

    found = Coverage(data_file=str(data), source=[str(package / "backprop")])
    found.load()
    lines = {}
    for path in sorted((package / "backprop").rglob("*.py")):
        _, statements, _, missing, _ = found.analysis2(str(path))
        lines[str(path.relative_to(package))] = (len(statements) - len(missing), len(statements), missing)
    return lines


def cython_sources() -> dict[str, Path]:
    """The .pyx and .pxd files by their names alone: Cython gives them with and without their folders."""
    paths = [path for ending in ("pyx", "pxd") for path in sorted((ROOT / "src/bpcore").rglob(f"*.{ending}"))]
    with_code = [path for path in paths if path.stem != "__init__"]
    found = {path.name: path for path in with_code}
    if len(found) < len(with_code):
        raise ValueError(f"src/bpcore: needs files of different names, got {', '.join(p.name for p in with_code)}")
    return found


def cython_lines(build_folder: Path) -> dict[str, tuple[int, int, list[int]]]:
    """The same for the .pyx and .pxd files, from the counters that the modules left in their build folder."""
    sources = cython_sources()
    counts: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for counters in build_folder.rglob("*.gcda"):
        report = subprocess.run(
            ["gcov", "--json-format", "--stdout", counters.name], cwd=counters.parent, capture_output=True, check=True
        )
        for file in json.loads(report.stdout)["files"]:
            if (path := sources.get(Path(file["file"]).name)) is not None:
                code = path.read_text().splitlines()
                for line in file["lines"]:
                    # some of Cython's own code goes by numbers that are not of this file, or of its blank lines
                    number = line["line_number"]
                    if (
                        number <= len(code)
                        and code[number - 1].strip()
                        and not code[number - 1].strip().startswith("#")
                    ):
                        counts[path.relative_to(ROOT).as_posix()][number] += line["count"]
    return {
        name: (sum(map(bool, lines.values())), len(lines), sorted(line for line, count in lines.items() if not count))
        for name, lines in sorted(counts.items())
    }


def ranges(lines: list[int]) -> str:
    """The numbers, with neighbours as one range."""
    parts: list[list[int]] = []
    for line in lines:
        if parts and line == parts[-1][-1] + 1:
            parts[-1][1:] = [line]
        else:
            parts.append([line])
    return ", ".join("-".join(map(str, part)) for part in parts)


def show(title: str, files: Mapping[str, tuple[int, int, list[int]]]) -> float:
    """Print the files, those with gaps with the lines that did not run, and return the percentage of all."""
    print(f"\n{title}")
    for name, (run_lines, total, missing) in files.items():
        print(f"{100 * run_lines / max(total, 1):6.1f} %  {name:<44} {ranges(missing)}".rstrip())
    share = 100 * sum(f[0] for f in files.values()) / max(1, sum(f[1] for f in files.values()))
    print(f"{share:6.1f} %  all {sum(f[1] for f in files.values()):,} lines")
    return share


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", nargs="+", default=["baseline", "v3", "v4"])
    parser.add_argument("--append", action="store_true", help="add to what earlier runs counted, in the same build")
    parser.add_argument("--report", action="store_true", help="only report what the last run counted")
    arguments, for_pytest = parser.parse_known_args()

    folder = ROOT / "build/coverage"
    data, package = folder / "python.coverage", folder / "python"
    failure = ""
    if not arguments.report:
        if not arguments.append:
            package = build(folder, "coverage", arguments.isa)
            for counters in [data, *folder.rglob("*.gcda")]:
                counters.unlink(missing_ok=True)
        count = ["coverage", "run", "--append", "--data-file", data, "--source", package / "backprop"]
        tests = ["pytest", "-q", "-p", "no:cacheprovider", "-p", "only_built", *for_pytest]
        try:
            run([sys.executable, "-m", *count, "-m", *tests], PYTHONPATH=package)
        except SystemExit as error:  # what was counted is worth a report all the same
            failure = str(error)
    shares = [show("Python", python_lines(data, package)), show("Cython", cython_lines(folder / "build"))]
    sys.exit(failure or (min(shares) < NEEDED and f"below {NEEDED} %"))
