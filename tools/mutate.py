"""Plant faults and see whether the tests notice: python tools/mutate.py reference|compiled [--list] [--only TEXT].

``reference``   every operator, comparison, constant, argument and statement of the formulas in
                python/backprop/reference/{activations,losses,optimizers}.py, changed one at a time
``compiled``    the faults in `FAULTS`, planted in the compiled core: all in one build, one switched on at a time

A fault is noticed when a test fails that passes without it. One that goes unnoticed makes the program fail; those in
`EQUIVALENT` are left out.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from build import ROOT, build

REFERENCE = ROOT / "python/backprop/reference"
TESTS = {
    "activations": ["test_activations.py", "test_gradients.py", "test_extremes.py", "test_twins.py"],
    "losses": ["test_losses.py", "test_gradients.py", "test_extremes.py", "test_twins.py"],
    "optimizers": ["test_optimizers.py", "test_runs.py", "test_twins.py"],
}


# ---- the reference: changes of its syntax tree ----

OTHER_OPERATOR: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
}  # fmt: skip
AT_THE_BOUND: dict[type, type] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}

# What computes the same numbers, or the same but for rounding.
EQUIVALENT = {
    # two formulas meet continuously at the bound: it does not matter which one is used there
    "sigmoid: z.real < 0 -> z.real <= 0",
    "relu: z.real <= 0 -> z.real < 0",
    "leaky_relu: z.real > 0 -> z.real >= 0",
    "elu: z.real > 0 -> z.real >= 0",
    "softplus: z.real <= 0 -> z.real < 0",
    "softplus: z.real < 0 -> z.real <= 0",
    "absolute_error: (a - y).real < 0 -> (a - y).real <= 0",
    "quantile: (a - y).real < 0 -> (a - y).real <= 0",
    "huber: distance.real <= parameter -> distance.real < parameter",
}


@dataclass(frozen=True)
class Mutant:
    """A changed module."""

    module: str
    what: str
    tree: ast.Module

    @property
    def source(self) -> str:
        """The text of the changed module; right until the next mutant is made of the same tree."""
        return ast.unparse(self.tree)


def mutants(module: str) -> Iterator[Mutant]:
    """Every change of a module, function by function."""
    tree = ast.parse((REFERENCE / f"{module}.py").read_text())
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node, before, change in changes(function):
                saved = copy.copy(node.__dict__)
                change()
                ast.fix_missing_locations(tree)
                yield Mutant(module, f"{function.name}: {before} -> {ast.unparse(node)}", tree)
                node.__dict__.clear()
                node.__dict__.update(saved)


def changes(function: ast.FunctionDef) -> Iterator[tuple[ast.AST, str, object]]:
    """Each node of a function's body that can be changed, its text, and what changes it."""
    for statement in function.body:
        for node in ast.walk(statement):
            before = ast.unparse(node)
            if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in OTHER_OPERATOR:
                yield node, before, lambda node=node: setattr(node, "op", OTHER_OPERATOR[type(node.op)]())
            if isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER_OPERATOR:
                for table in (OTHER_OPERATOR, AT_THE_BOUND):
                    if (new := table.get(type(node.ops[0]))) is not None:
                        yield node, before, lambda node=node, new=new: setattr(node, "ops", [new()])
            if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
                new_value = not node.value if isinstance(node.value, bool) else node.value + 1
                yield node, before, lambda node=node, new=new_value: setattr(node, "value", new)
            if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
                yield node, before, lambda node=node: setattr(node, "op", ast.UAdd())
            if isinstance(node, ast.Call) and len(node.args) > 1:
                yield node, before, lambda node=node: setattr(node, "args", [*node.args[:-2], *node.args[:-3:-1]])
            if isinstance(node, ast.IfExp | ast.If):
                test = ast.UnaryOp(ast.Not(), node.test)
                yield node, before.splitlines()[0], lambda node=node, test=test: setattr(node, "test", test)
            if isinstance(node, ast.AugAssign):
                yield (
                    node,
                    before,
                    lambda node=node: setattr(node, "value", ast.BinOp(node.target, ast.Sub(), node.target)),
                )


# ---- the compiled core: planted faults ----

# Name, file, what stands there (once), and what takes its place, where FAULT is whether this fault is switched on.
FAULTS = (
    (
        "half the gradient of squared_error",
        "losses.pxd",
        "gradient[0] = e + e",
        "gradient[0] = e if FAULT else e + e",
    ),
    (
        "absolute_error with the wrong sign",
        "losses.pxd",
        "vselect(vlt(vset1(0), e), vset1(1), e))\n    return vabs(e)",
        "vselect(vlt(vset1(0), e), vset1(-1 if FAULT else 1), e))\n    return vabs(e)",
    ),
    (
        "huber clips one side only",
        "losses.pxd",
        "vmax(vmin(e, parameter), -parameter)",
        "(vmin(e, parameter) if FAULT else vmax(vmin(e, parameter), -parameter))",
    ),
    (
        "quantile the wrong way round",
        "losses.pxd",
        "return vmax(parameter * e, below * e)",
        "return vmax(-parameter * e, -below * e) if FAULT else vmax(parameter * e, below * e)",
    ),
    ("poisson without y log y", "losses.pxd", "(y_log_y - y_log_a)", "((vset1(0) if FAULT else y_log_y) - y_log_a)"),
    (
        "cross-entropy of the next label",
        "losses.pxd",
        "hit = vselect(veq(label, vset1(<real> i))",
        "hit = vselect(veq(label, vset1(<real> (i + FAULT)))",
    ),
    (
        "class probabilities that do not sum up",
        "losses.pxd",
        "y_sum = y_sum + yi",
        "y_sum = yi if FAULT else y_sum + yi",
    ),
    (
        "sigmoid' without 1 -",
        "activations.pxd",
        "return a * (vset1(1) - a)",
        "return a * (a if FAULT else vset1(1) - a)",
    ),
    (
        "tanh' with a plus",
        "activations.pxd",
        "return vfma(-a, a, vset1(1))",
        "return vfma(a if FAULT else -a, a, vset1(1))",
    ),
    (
        "relu' is 1 at 0",
        "activations.pxd",
        "return vselect(vle(a, vset1(0)), vset1(0), vset1(1))",
        "return vselect(vle(a, vset1(-1e-300 if FAULT else 0)), vset1(0), vset1(1))",
    ),
    ("elu' without alpha", "activations.pxd", "a + alpha, vset1(1))", "(a if FAULT else a + alpha), vset1(1))"),
    (
        "softmax leaves its last score out of the sum",
        "activations.pxd",
        "            total = total + e\n",
        "            total = total + (vset1(0) if FAULT and i == n - 1 and n > 1 else e)\n",
    ),
    (
        "softmax's Jacobian without its sum",
        "activations.pxd",
        "(vload(d + at) - total)",
        "(vload(d + at) - (vset1(0) if FAULT else total))",
    ),
    (
        "Nesterov as plain momentum",
        "optimizers.pxd",
        "p[0] = vfma(-k.rate, vfma(k.c[0], slots[0], g), p[0])",
        "p[0] = vfma(-k.rate, slots[0] if FAULT else vfma(k.c[0], slots[0], g), p[0])",
    ),
    (
        "Adam without the correction of its mean",
        "optimizers.pxd",
        "(1 - power(h[0], step))",
        "(1 if FAULT else 1 - power(h[0], step))",
    ),
    (
        "Adam's two kinds of decay swapped",
        "optimizers.pxd",
        "optimizer.kind == ADAMW\n",
        "(optimizer.kind == ADAMW) != FAULT\n",
    ),
    (
        "amsgrad forgets",
        "optimizers.pxd",
        "slots[2] = vmax(slots[2], v)",
        "slots[2] = v if FAULT else vmax(slots[2], v)",
    ),
    (
        "RMSprop's epsilon under the root",
        "optimizers.pxd",
        "average = g / (vroot(average) + k.c[2])",
        "average = g / (vroot(average + k.c[2]) if FAULT else vroot(average) + k.c[2])",
    ),
    ("Adagrad's rate falls one step early", "optimizers.pxd", "(step - 1) * h[0]", "(step - 1 + FAULT) * h[0]"),
    (
        "the last parameter is not updated",
        "optimizers.pxd",
        "    if rest > 0:\n",
        "    if rest > (1 if FAULT else 0):\n",
    ),
    (
        "a batch begins one row early",
        "run.pxd",
        "gather_rows(&ws.tiles, rows.X, run.net.n_inputs, rows.order, first, ws.a[0])",
        "gather_rows(&ws.tiles, rows.X, run.net.n_inputs, rows.order, first - (FAULT and first > 0), ws.a[0])",
    ),
    (
        "sample weights of other rows",
        "batches.pxd",
        "common * weight[row_of(order, first + k)])",
        "common * weight[row_of(order, k if FAULT else first + k)])",
    ),
    (
        "lanes beyond the last row count",
        "batches.pxd",
        "        out[k] = 0\n",
        "        out[k] = <real> common if FAULT else 0\n",
    ),
    (
        "the last row is never moved",
        "batches.pxd",
        "for i in range(n - 1, 0, -1):",
        "for i in range(n - 1 - (FAULT and n > 1), 0, -1):",
    ),
    (
        "n - 1 for n",
        "training.pxd",
        "    if rows.weight == NULL:\n        return n\n",
        "    if rows.weight == NULL:\n        return n - (FAULT and n > 1)\n",
    ),
    (
        "the mean over the rows only",
        "training.pxd",
        "return weight * run.net.n_outputs if run.loss.elementwise else weight",
        "return weight * run.net.n_outputs if run.loss.elementwise and not FAULT else weight",
    ),
    (
        "no l1 in the gradient",
        "training.pxd",
        "(l1 * sign + l2 * w)",
        "((0 if FAULT else l1) * sign + l2 * w)",
    ),
    ("l2 without its half", "training.pxd", "0.5 * at.l2 * square", "(1 if FAULT else 0.5) * at.l2 * square"),
    ("clipped to twice the norm", "training.pxd", "factor = run.clip_norm /", "factor = (1 + FAULT) * run.clip_norm /"),
    (
        "a frozen layer is updated",
        "_core.pyx",
        "        if layer.trainable:\n            add_range",
        "        if layer.trainable or FAULT:\n            add_range",
    ),
    (
        "the biases are left out",
        "layers.pxd",
        "parameters + layer.biases if layer.has_bias else NULL, inputs_of(ws, l), ws.z[l + 1]",
        "parameters + layer.biases if layer.has_bias and not FAULT else NULL, inputs_of(ws, l), ws.z[l + 1]",
    ),
    (
        "no gradient for the biases",
        "layers.pxd",
        "if layer.bias_trainable and with_biases else NULL",
        "if layer.bias_trainable and with_biases and not FAULT else NULL",
    ),
    (
        "the loss of the first block counts twice",
        "run.pxd",
        "        total += run.block_loss[block]\n",
        "        total += run.block_loss[0 if FAULT else block]\n",
    ),
    (
        "one epoch of patience more",
        "training.pxd",
        "run.stale_epochs >= run.patience",
        "run.stale_epochs >= run.patience + FAULT",
    ),
)
COMPILED_TESTS = [
    "test_losses.py", "test_activations.py", "test_optimizers.py", "test_gradients.py", "test_runs.py",
    "test_extremes.py", "test_twins.py", "test_fit.py",
]  # fmt: skip
SWITCH = """
cdef extern from *:
    \"\"\"
    #include <stdlib.h>
    static int NAME(void) {
        static int number = -1;
        if (number < 0)
            number = getenv("BACKPROP_FAULT") ? atoi(getenv("BACKPROP_FAULT")) : 0;
        return number;
    }
    \"\"\"
    int fault_number "NAME"() noexcept nogil

"""


def planted(folder: Path) -> Path:
    """A copy of the sources with every fault in it; the environment variable BACKPROP_FAULT switches one on."""
    for name in ("src", "python"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so"), dirs_exist_ok=True)
    shutil.copy2(ROOT / "CMakeLists.txt", folder)
    for name in sorted({file for _, file, _, _ in FAULTS}):
        path = folder / "src/bpcore" / name
        source = path.read_text()
        for number, (what, file, old, new) in enumerate(FAULTS, 1):
            if file == name:
                if source.count(old) != 1:
                    sys.exit(f"{name}: {source.count(old)} places, not one, for the fault {what!r}: {old!r}")
                source = source.replace(old, new.replace("FAULT", f"(fault_number() == {number})"))
        end = source.index('"""\n', 3) + 4  # of the docstring
        path.write_text(source[:end] + SWITCH.replace("NAME", f"bp_fault_in_{path.stem}") + source[end:])
    return folder


# ---- running the tests ----

NONE_SELECTED = 5  # pytest's code


def preload() -> None:
    """Import what the tests need, so that a fork has it at once; not the package, which each fork has its own of."""
    for name in ("numpy", "pytest", "mpmath", "scipy.special", "sklearn.datasets", "torch"):
        try:
            importlib.import_module(name)
        except ImportError:
            print(f"without {name}")


def noticed(package: Path, tests: Sequence[str], select: str, **environment: str) -> bool:
    """Whether a test fails in one of the files, which are tried in order."""
    return any(fails(package, test, select, **environment) for test in tests)


def fails(package: Path, test: str, select: str, **environment: str) -> bool:
    """Whether a test of a file fails, in a process of its own."""
    if (child := os.fork()) == 0:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        os.environ |= environment
        sys.path[:0] = [str(package), str(ROOT / "tests")]
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-k", select]
        os.chdir(ROOT)
        os._exit(int(pytest.main([*options, f"tests/{test}"])))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code not in (0, NONE_SELECTED)


def check_reference(only: str, listed: bool) -> list[str]:
    missed, n_mutants = [], 0
    with tempfile.TemporaryDirectory() as name:
        package = Path(name) / "python"
        shutil.copytree(ROOT / "python", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        os.environ["BACKPROP_BACKEND"] = "reference"
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        sys.dont_write_bytecode = True
        if not listed:
            preload()
        for module, tests in TESTS.items():
            path = package / "backprop/reference" / f"{module}.py"
            original = path.read_text()
            if not listed and noticed(package, tests, "reference"):
                sys.exit(f"{module}: a test fails without any fault")
            for mutant in mutants(module):
                if only not in f"{module} {mutant.what}" or mutant.what in EQUIVALENT:
                    continue
                n_mutants += 1
                if listed:
                    print(module, mutant.what)
                    continue
                path.write_text(mutant.source)
                if not noticed(package, tests, "reference"):
                    missed.append(f"{module}: {mutant.what}")
                    print("missed:", missed[-1], flush=True)
            path.write_text(original)
    print(f"reference: {n_mutants - len(missed)} of {n_mutants} faults noticed")
    return missed


def check_compiled(only: str, listed: bool) -> list[str]:
    chosen = [(k, fault[0]) for k, fault in enumerate(FAULTS, 1) if only in f"{fault[1]} {fault[0]}"]
    if listed:
        print(*(what for _, what in chosen), sep="\n")
        return []
    missed = []
    folder = ROOT / "build/mutate"
    package = build(folder, "debug", ["baseline"], source=planted(folder / "source"))
    preload()
    if noticed(package, COMPILED_TESTS, "baseline"):
        sys.exit("compiled: a test fails without any fault")
    for number, what in chosen:
        if not noticed(package, COMPILED_TESTS, "baseline", BACKPROP_FAULT=str(number)):
            missed.append(what)
            print("missed:", what, flush=True)
    print(f"compiled: {len(chosen) - len(missed)} of {len(chosen)} faults noticed")
    return missed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["reference", "compiled"])
    parser.add_argument("--only", default="", help="only faults with this text in their file or name")
    parser.add_argument("--list", action="store_true", help="only name them")
    arguments = parser.parse_args()
    check = {"reference": check_reference, "compiled": check_compiled}[arguments.what]
    sys.exit(1 if check(arguments.only, arguments.list) else 0)
