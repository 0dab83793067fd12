"""Every operator, comparison, constant, argument and statement of the reference's formulas, changed one at a time."""

from __future__ import annotations

import ast
import copy
import importlib
from collections.abc import Callable, Iterator
from operator import attrgetter
from types import CodeType

from build import ROOT
from mutation.running import Fault

REFERENCE = ROOT / "python/backprop/reference"
# In the order in which they run: first what is most likely to notice.
_OF_ACTIVATIONS = ["test_activations.py", "test_gradients.py", "test_extremes.py"]
_OF_LOSSES = ["test_losses.py", "test_extremes.py", "test_gradients.py"]
_OF_OPTIMIZERS = ["test_optimizers.py", "test_runs.py"]


def _modules(folder: str) -> list[str]:
    """The modules of a folder of the reference that have formulas."""
    paths = sorted((REFERENCE / folder).glob("*.py"))
    return [f"{folder}.{path.stem}" for path in paths if path.stem != "__init__"]


TESTS = {
    **dict.fromkeys(("activation_functions", "activations"), _OF_ACTIVATIONS),
    **dict.fromkeys(_modules("losses"), _OF_LOSSES),
    **dict.fromkeys(_modules("optimizers"), _OF_OPTIMIZERS),
    "step": _OF_OPTIMIZERS,
}

OTHER_OPERATOR: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
}  # fmt: skip
AT_THE_BOUND: dict[type, type] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}


def mutants(module: str) -> Iterator[Fault]:
    """Every change of a module, function by function."""
    for name, function in functions(ast.parse((REFERENCE / f"{module.replace('.', '/')}.py").read_text())):
        original = ast.unparse(function)
        for node, change in changes(function):
            saved = copy.copy(node.__dict__)
            change()
            if (what := difference(original, ast.unparse(function))) is not None:
                plant = exchange(module, name, compiled(function))
                yield Fault(what=f"{name}: {what}", plant=plant, tests=TESTS[module])
            node.__dict__.clear()
            node.__dict__.update(saved)


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions and methods of a module with their qualified names."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            methods = (part for part in node.body if isinstance(part, ast.FunctionDef) and not part.decorator_list)
            # What __post_init__ refuses is no formula.
            yield from ((f"{node.name}.{part.name}", part) for part in methods if part.name != "__post_init__")


def difference(old: str, new: str) -> str | None:
    """The first line that is new."""
    return next((b.strip() for a, b in zip(old.splitlines(), new.splitlines(), strict=True) if a != b), None)


def compiled(function: ast.FunctionDef) -> CodeType:
    tree = ast.fix_missing_locations(ast.Module([function], []))
    return next(code for code in compile(tree, function.name, "exec").co_consts if isinstance(code, CodeType))


def exchange(module: str, name: str, code: CodeType) -> Callable[[], None]:
    """What gives a function other code: wherever it is used, it is the changed one."""

    def plant() -> None:
        attrgetter(name)(importlib.import_module(f"backprop.reference.{module}")).__code__ = code

    return plant


def changes(function: ast.FunctionDef) -> Iterator[tuple[ast.AST, Callable[[], None]]]:
    """Each node of a function's body that can be changed, and what changes it."""
    for statement in function.body:
        for node in ast.walk(statement):
            if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in OTHER_OPERATOR:
                yield node, lambda node=node: setattr(node, "op", OTHER_OPERATOR[type(node.op)]())
            if isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER_OPERATOR:
                for table in (OTHER_OPERATOR, AT_THE_BOUND):
                    if (new := table.get(type(node.ops[0]))) is not None:
                        yield node, lambda node=node, new=new: setattr(node, "ops", [new()])
            if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
                new_value = not node.value if isinstance(node.value, bool) else node.value + 1
                yield node, lambda node=node, new=new_value: setattr(node, "value", new)
            if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
                yield node, lambda node=node: setattr(node, "op", ast.UAdd())
            if isinstance(node, ast.Call) and len(node.args) > 1:
                yield node, lambda node=node: setattr(node, "args", [*node.args[:-2], *node.args[:-3:-1]])
            if isinstance(node, ast.IfExp | ast.If):
                test = ast.UnaryOp(ast.Not(), node.test)
                yield node, lambda node=node, test=test: setattr(node, "test", test)
            if isinstance(node, ast.AugAssign):
                target = ast.unparse(node.target)
                nothing = ast.parse(f"{target} - {target}", mode="eval").body
                yield node, lambda node=node, nothing=nothing: setattr(node, "value", nothing)
