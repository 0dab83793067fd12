"""Whether the house is in order: python tools/house.py.

No file of the package or of the core is longer than 550 lines, no function longer than 60 lines of code. No two modules
import each other, directly or round a corner, imports in functions and for annotations included; nor do two files of
the core, whose folders import downwards only. What is longer for a reason stands in `EXCEPTIONS`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, CORE = ROOT / "python/backprop", ROOT / "src/bpcore"
MOST_LINES, MOST_LINES_OF_CODE, MOST_EXCEPTIONS = 550, 60, 5

# The folders of the core, each above those that it may import from.
CORE_LAYERS = ("fleet", "derivatives", "solve", "run", "passes", "products", "formulas", "machine")

EXCEPTIONS: dict[str, str] = {}


def main() -> int:
    """Print what is out of order; 1 if anything is."""
    found = [*long_files(), *long_functions(), *circles(package_imports()), *circles(core_imports()), *upward_imports()]
    known = {where for where, _ in found} & EXCEPTIONS.keys()
    complaints = [f"{where}: {what}" for where, what in found if where not in EXCEPTIONS]
    complaints += [f"{where}: needs no exception" for where in EXCEPTIONS.keys() - known]
    if len(EXCEPTIONS) > MOST_EXCEPTIONS:
        complaints.append(f"{len(EXCEPTIONS)} exceptions: needs at most {MOST_EXCEPTIONS}")
    print(*complaints or ["the house is in order"], sep="\n")
    return bool(complaints)


def sources() -> list[Path]:
    """The files of the package and of the core."""
    core = [path for path in CORE.rglob("*") if path.suffix in (".pyx", ".pxd", ".pxi", ".h")]
    return sorted([*PACKAGE.rglob("*.py"), *core])


def long_files() -> Iterator[tuple[str, str]]:
    for path in sources():
        n_lines = len(path.read_text().splitlines())
        if n_lines > MOST_LINES:
            yield name(path), f"{n_lines} lines, needs at most {MOST_LINES}"


def long_functions() -> Iterator[tuple[str, str]]:
    for path in sources():
        text = path.read_text()
        found = (
            python_functions(text) if path.suffix == ".py" else cython_functions(text) if path.suffix != ".h" else ()
        )
        for function, n_lines in found:
            if n_lines > MOST_LINES_OF_CODE:
                yield f"{name(path)}:{function}", f"{n_lines} lines of code, needs at most {MOST_LINES_OF_CODE}"


def python_functions(text: str) -> Iterator[tuple[str, int]]:
    """Each function with its lines from the first statement to the last, docstring apart."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            yield node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def cython_functions(text: str) -> Iterator[tuple[str, int]]:
    """Each function with the lines of its body that are neither empty nor comment nor docstring."""
    lines = re.sub(r'"""(?:.|\n)*?"""', "", text).splitlines()
    starts = re.compile(r"( *)(?:cdef|cpdef|def)\b.*?\b(\w+)\((?!.*\)\s*$)")
    for k, line in enumerate(lines):
        if (match := starts.match(line)) is None or line.rstrip().endswith("extern from"):
            continue
        end = k + 1
        while end < len(lines) and not lines[end - 1].rstrip().endswith(":"):  # to the end of the signature
            end += 1
        count = 0
        for later in lines[end:]:
            if later.strip() and len(later) - len(later.lstrip()) <= len(match[1]):
                break
            count += bool(later.strip()) and not later.lstrip().startswith("#")
        yield match[2], count


Imports = dict[Path, set[Path]]


def circles(imports: Imports) -> Iterator[tuple[str, str]]:
    """The files that reach themselves."""
    for path in imports:
        reached: set[Path] = set()
        todo = [path]
        while todo:
            new = imports[todo.pop()] - reached
            reached |= new
            todo.extend(new)
        if path in reached:
            yield name(path), "imports itself, by way of others"


def core_imports() -> Imports:
    """What each file of the core imports."""
    found: Imports = {}
    for path in CORE.rglob("*.p*"):
        found_here = re.findall(r"^from bpcore\.([\w.]+) cimport (\([^)]*\)|.*)", path.read_text(), re.MULTILINE)
        dotted = [module for module, _ in found_here]
        for folder, names in found_here:  # of a folder: modules
            dotted += [f"{folder}.{part.split()[0]}" for part in names.strip("()").split(",") if part.strip()]
        files = (CORE / f"{module.replace('.', '/')}.pxd" for module in dotted)
        found[path] = {file for file in files if file.exists()}
    return found


def upward_imports() -> Iterator[tuple[str, str]]:
    """The files of the core that import from a folder above their own."""
    for path, files in core_imports().items():
        below = CORE_LAYERS[CORE_LAYERS.index(path.parent.name) :] if path.parent != CORE else CORE_LAYERS
        for file in sorted(files):
            if file.parent.name not in below:
                yield name(path), f"imports {name(file)}, which lies above it"


def package_imports() -> Imports:
    """What each module of the package imports."""
    return {path: {modules()[module] for module in imported(path)} for path in modules().values()}


def modules() -> dict[str, Path]:
    """The package's modules by name; the package itself imports everything for its users and is left out."""
    dotted = {path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    return {module.removesuffix(".__init__"): path for path, module in dotted.items() if module != "backprop.__init__"}


def imported(path: Path) -> Iterator[str]:
    """The package's modules that a file imports anywhere in it."""
    known, own = modules(), next(module for module, other in modules().items() if other == path)
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level:
            sys.exit(f"{name(path)}:{node.lineno}: needs imports by full names, got a relative one")
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for each in names:
            while each and each not in known:
                each = each.rpartition(".")[0]
            if each and each != own:
                yield each


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


if __name__ == "__main__":
    sys.exit(main())
