"""Plant faults and see whether the tests notice: python tools/mutate.py reference|compiled [--list] [--only TEXT ...].

``reference``   every operator, comparison, constant, argument and statement of the formulas in
                python/backprop/reference (activations, losses, optimizers, step), changed one at a time
``compiled``    the faults in `FAULTS`, planted in the compiled core: all in one build, one switched on at a time

A fault is noticed when a test fails that passes without it. One that goes unnoticed makes the program fail; those in
`EQUIVALENT` are left out. The tests are collected once; each fault is planted in a fork, which runs them up to the
first that fails.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from operator import attrgetter
from pathlib import Path
from types import CodeType
from typing import Any

from build import ROOT, build

REFERENCE = ROOT / "python/backprop/reference"
# In the order in which they run: first what is most likely to notice.
_OF_LOSSES = ["test_losses.py", "test_extremes.py", "test_gradients.py"]
_OF_OPTIMIZERS = ["test_optimizers.py", "test_runs.py"]
TESTS = {
    "activations": ["test_activations.py", "test_gradients.py", "test_extremes.py"],
    **{f"losses.{part}": _OF_LOSSES for part in ("loss", "regression", "deviances", "classification")},
    **{f"optimizers.{part}": _OF_OPTIMIZERS for part in ("sgd", "adam", "adaptive")},
    "step": _OF_OPTIMIZERS,
}
LONGEST = 300  # seconds of computing: tests that take longer have noticed a fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault, what plants it in this process, and the files of tests that are to notice it."""

    what: str
    plant: Callable[[], None]
    tests: Sequence[str]


# ---- the reference: changes of its syntax tree ----

OTHER_OPERATOR: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
}  # fmt: skip
AT_THE_BOUND: dict[type, type] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}

# What a line becomes, where it computes the same numbers then, or the same but for rounding.
EQUIVALENT = {
    # two formulas meet continuously at the bound: it does not matter which one is used there
    "sigmoid: e = np.exp(np.where(z.real <= 0, z, -z))",
    "sigmoid: return np.where(z.real <= 0, e, 1) / (1 + e)",
    "relu: return np.where(z.real < 0, 0, z)",
    "leaky_relu: return np.where(z.real >= 0, z, alpha * z)",
    "elu: return np.where(z.real >= 0, z, alpha * np.expm1(z))",
    "softplus: return np.where(z.real < 0, 0, z) + np.log1p(np.exp(np.where(z.real < 0, z, -z)))",
    "softplus: return np.where(z.real <= 0, 0, z) + np.log1p(np.exp(np.where(z.real <= 0, z, -z)))",
    "AbsoluteError.value: return np.where((a - y).real <= 0, y - a, a - y)",
    "Quantile.value: return np.where((a - y).real <= 0, self.quantile * (y - a), (1 - self.quantile) * (a - y))",
    "Huber.value: distance = np.where((a - y).real <= 0, y - a, a - y)",
    "Huber.value: return np.where(distance.real < self.delta, 0.5 * distance * distance, line)",
    "clip: if not coefficient > 1:",
    # the larger of two numbers is the larger of the two
    "Adam._step: np.maximum(square, largest, out=largest)",
    # what stands there is not used: where y is 0, y log y is
    "x_log_y: return np.where(x == 0, 0, x * np.log(np.where(x == 0, 2, y)))",
    "Poisson.value: return a - y + x_log_y(y, y / np.where(y == 0, 2, a))",
    "Poisson.value_from_scores: return np.exp(z) - y + y * (np.log(np.where(y == 0, 2, y)) - z)",
    # beyond 50 the derivative is 0 or 1 to the last digit
    "gelu_tanh_derivative: z = np.clip(z, -51, 50)",
    "gelu_tanh_derivative: z = np.clip(z, -50, 51)",
    "limit_norms: W *= np.where(norms >= layer.max_norm, layer.max_norm / norms, 1)",
}


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


# ---- the compiled core: planted faults ----

# Name, file, what stands there (once), and what takes its place, where FAULT is whether this fault is switched on.
FAULTS = (
    (
        "half the gradient of squared_error",
        "losses.pxd",
        "delta[0] = d + d",
        "delta[0] = d if FAULT else d + d",
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
        "(l1 * <real> ((w[i] > 0) - (w[i] < 0)) + l2 * w[i])",
        "((0 if FAULT else l1) * <real> ((w[i] > 0) - (w[i] < 0)) + l2 * w[i])",
    ),
    ("l2 without its half", "training.pxd", "0.5 * at.l2 * square", "(1 if FAULT else 0.5) * at.l2 * square"),
    ("clipping makes a gradient longer", "training.pxd", "if factor < 1:", "if factor < 1 + FAULT:"),
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
        "parameters + layer.biases if layer.has_bias else NULL\n",
        "parameters + layer.biases if layer.has_bias and not FAULT else NULL\n",
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
    # products
    (
        "a sample is left out of the weights' gradient",
        "gradients.pxd",
        "n_k = tiles.rows[0]\n",
        "n_k = tiles.rows[0] - (FAULT and tiles.rows[0] > 1)\n",
    ),
    (
        "a sample is left out of the biases' gradient",
        "gradients.pxd",
        "    for k in range(tiles.n_rows):\n        for j in range(n_vecs):\n            acc[j] = acc[j] + ",
        "    for k in range(tiles.n_rows - FAULT):\n        for j in range(n_vecs):\n            acc[j] = acc[j] + ",
    ),
    (
        "the second chunk's gradient in place of the sum",
        "gradients.pxd",
        "x = w + x if mode == ADD else",
        "x = (x if FAULT else w + x) if mode == ADD else",
    ),
    (
        "a dot product without its upper half",
        "gradients.pxd",
        "acc[s] = acc[s] + acc[s + half]",
        "acc[s] = acc[s] if FAULT else acc[s] + acc[s + half]",
    ),
    (
        "the last column of a panel is not written",
        "gradients.pxd",
        "                vstore_n(at, x, last)\n",
        "                vstore_n(at, x, last - (FAULT and last > 1))\n",
    ),
    (
        "packed weights of the next row",
        "products.pxd",
        "vload_n(source, height)",
        "vload_n(source + (w_k if FAULT and source < w + (n_k - 1) * w_k else 0), height)",
    ),
    (
        "every strip of packed weights over the first one",
        "products.pxd",
        "target = out + n_k * start + first_k * height",
        "target = out + n_k * start + (0 if FAULT else first_k) * height",
    ),
    (
        "the activation leaves out the last unit of a block",
        "products.pxd",
        "finish(how, at, height * tiles.vecs[t], p.out)",
        "finish(how, at, (height - FAULT) * tiles.vecs[t], p.out)",
    ),
    (
        "shared units: no derivative of a softmax",
        "parallel.pxd",
        "        derivative_below(run.net, &member.ws, l)\n",
        "        if not FAULT:\n            derivative_below(run.net, &member.ws, l)\n",
    ),
    (
        "shared units: a member leaves out the last one",
        "parallel.pxd",
        "        layer, begin, end, run.parameters, tiles,",
        "        layer, begin, end - FAULT, run.parameters, tiles,",
    ),
    (
        "shared units: the dropout factors of the first units for all",
        "layers.pxd",
        "at = n * tiles.start[t] + (first * tiles.vecs[t] + i) * LANES",
        "at = n * tiles.start[t] + ((0 if FAULT else first) * tiles.vecs[t] + i) * LANES",
    ),
    (
        "shared units: every member takes the first tiles",
        "parallel.pxd",
        "own.start[t] = whole.start[first + t]",
        "own.start[t] = whole.start[t if FAULT else first + t]",
    ),
    (
        "the root without its second step",
        "vmath.pxd",
        "        r = vfma(r * e, p, r)\n",
        "        r = r if FAULT else vfma(r * e, p, r)\n",
    ),
    (
        "Adam without its weight decay",
        "optimizers.pxd",
        "update.flags[2] = h[3] != 0",
        "update.flags[2] = h[3] != 0 and not FAULT",
    ),
    (
        "few samples: the biases of the first units for all",
        "few.pxd",
        "vload(p.start + first + j * LANES)",
        "vload(p.start + (0 if FAULT else first) + j * LANES)",
    ),
    (
        "few samples: the last columns of the weights are left out",
        "few.pxd",
        "        k = p.n_k // LANES * LANES\n        if k < p.n_k:\n",
        "        k = p.n_k // LANES * LANES\n        if k < p.n_k and not FAULT:\n",
    ),
    (
        "few samples: hidden scores of 0 in the lanes without a sample",
        "few.pxd",
        "* n_vecs + j] if repeats else vset1(0)",
        "* n_vecs + j] if repeats and not FAULT else vset1(0)",
    ),
    (
        "few samples: no activation",
        "products.pxd",
        "finish(how, at, n_asked, p.out)",
        "finish(how, at, 0 if FAULT else n_asked, p.out)",
    ),
    (
        "the derivative at the outputs of the first block",
        "activations.pxd",
        "how.z + at, how.a + at, product + at)",
        "how.z + at, how.a + (0 if FAULT else at), product + at)",
    ),
    # dropout
    (
        "lanes without a sample drop units of their own",
        "dropout.pxd",
        "min(k, tiles.n_rows - 1)) ^ row_key)",
        "(k if FAULT else min(k, tiles.n_rows - 1))) ^ row_key)",
    ),
    (
        "what dropout keeps is not scaled up",
        "dropout.pxd",
        "<real> (1 / (1 - layer.dropout))",
        "<real> (1 if FAULT else 1 / (1 - layer.dropout))",
    ),
    (
        "every layer drops the same units",
        "dropout.pxd",
        "<uint32_t> o + <uint32_t> number * <uint32_t> LAYER_STRIDE",
        "<uint32_t> o + <uint32_t> (0 if FAULT else number) * <uint32_t> LAYER_STRIDE",
    ),
    (
        "each chunk drops what the first one does",
        "dropout.pxd",
        "mix(<uint32_t> (first +",
        "mix(<uint32_t> ((0 if FAULT else first) +",
    ),
    (
        "the delta passes what dropout has closed",
        "layers.pxd",
        "if ws.dropout.active and below.dropout > 0:",
        "if ws.dropout.active and below.dropout > 0 and not FAULT:",
    ),
    (
        "the layer above sees what was dropped",
        "layers.pxd",
        "return ws.dropped[l] if ws.dropout.active and l > 0 else ws.a[l]",
        "return ws.dropped[l] if ws.dropout.active and l > 0 and not FAULT else ws.a[l]",
    ),
    (
        "validation drops too",
        "training.pxd",
        "    run.batch.drops = False\n    if run.paused:",
        "    run.batch.drops = run.batch.drops and FAULT\n    if run.paused:",
    ),
    # a gradient that is left for the next call
    (
        "after a pause, the loss of the last chunks only",
        "run.pxd",
        "double total = run.block_loss[block]\n",
        "double total = 0 if FAULT else run.block_loss[block]\n",
    ),
    (
        "after a pause, the gradient of the last chunks only",
        "run.pxd",
        "if chunk > begin and sink.mode == SET:",
        "if chunk > (run.next_chunk[block] if FAULT else begin) and sink.mode == SET:",
    ),
    (
        "after a pause, the gradient of the last chunks only, with threads",
        "parallel.pxd",
        "if chunk > 0 and sink.mode == SET:",
        "if chunk > (begin if FAULT else 0) and sink.mode == SET:",
    ),
    # optimizer beside the gradient
    (
        "the last row of each piece is not updated",
        "layers.pxd",
        "layer.weights + row * layer.n_out, (end - row) * layer.n_out)",
        "layer.weights + row * layer.n_out, (end - row - FAULT) * layer.n_out)",
    ),
    (
        "the biases wait for ever",
        "layers.pxd",
        "if sink.update != NULL and biases != NULL:",
        "if sink.update != NULL and biases != NULL and not FAULT:",
    ),
    (
        "the pieces of several chunks' gradient in one place",
        "layers.pxd",
        "sink.update != NULL and sink.mode == SET",
        "sink.update != NULL and (sink.mode == SET or FAULT)",
    ),
    (
        "the first piece's gradient for those between it and the last",
        "layers.pxd",
        "        gradient_rows(\n",
        "        if not (FAULT and row > first_row and end < end_row): gradient_rows(\n",
    ),
    (
        "a step after every chunk",
        "run.pxd",
        "sink.update = batch.update if chunk == batch.n_chunks - 1 else NULL",
        "sink.update = batch.update if chunk == batch.n_chunks - 1 or FAULT else NULL",
    ),
    (
        "a step after every chunk, with threads",
        "parallel.pxd",
        "sink.update = batch.update if chunk == batch.n_chunks - 1 else NULL",
        "sink.update = batch.update if chunk == batch.n_chunks - 1 or FAULT else NULL",
    ),
    # max_norm
    (
        "max_norm sees the last weight only",
        "optimizers.pxd",
        "norm = vfma(wv, wv, norm)",
        "norm = vfma(wv, wv, vset1(0) if FAULT else norm)",
    ),
    (
        "max_norm forgets the columns beyond the first vector",
        "optimizers.pxd",
        "        first += LANES\n\n\n# ---- loops",
        "        first += n_out if FAULT else LANES\n\n\n# ---- loops",
    ),
    (
        "max_norm for a frozen layer",
        "training.pxd",
        "if layer.max_norm > 0 and layer.trainable:",
        "if layer.max_norm > 0 and (layer.trainable or FAULT):",
    ),
    # penalties
    (
        "l1 missing from the value",
        "training.pxd",
        "total += at.l1 * absolute",
        "total += 0 if FAULT else at.l1 * absolute",
    ),
    (
        "the penalty's value without its first weights",
        "training.pxd",
        "square[0] += sum_group(squares)",
        "square[0] = (0 if FAULT else square[0]) + sum_group(squares)",
    ),
    (
        "the whole penalty in every batch",
        "training.pxd",
        "penalties * n / run.data.n",
        "(penalties if FAULT else penalties * n / run.data.n)",
    ),
    (
        "penalty_per_row for one row more",
        "training.pxd",
        "factor = 1 / weight if weight != 0 else 0",
        "factor = 1 / (weight + FAULT) if weight != 0 else 0",
    ),
    # validation, keep_best and stop rules
    (
        "validation without penalties",
        "training.pxd",
        "run.validation_sum + penalty(run, NULL, 1)",
        "run.validation_sum + (0 if FAULT else penalty(run, NULL, 1))",
    ),
    (
        "validation is its last piece",
        "training.pxd",
        "        run.validation_sum += data_loss(",
        "        run.validation_sum = (0 if FAULT else run.validation_sum) + data_loss(",
    ),
    (
        "validation of the first rows again",
        "training.pxd",
        "run, rows, run.validated, n, run.validation_denominator",
        "run, rows, 0 if FAULT else run.validated, n, run.validation_denominator",
    ),
    (
        "beside the training rows, the first validation row only",
        "training.pxd",
        "others.X[row * n_inputs + j]",
        "others.X[(0 if FAULT else row) * n_inputs + j]",
    ),
    (
        "beside the training rows, the losses of one row early",
        "training.pxd",
        "run.ws.value + run.data.n, rows.weight",
        "run.ws.value + run.data.n - FAULT, rows.weight",
    ),
    (
        "validation is kept from the last epoch",
        "training.pxd",
        "    run.validation_sum = 0\n    if not (",
        "    run.validation_sum = run.validation_sum if FAULT else 0\n    if not (",
    ),
    (
        "the rule watches the loss, not the validation loss",
        "training.pxd",
        "if run.watches_validation:",
        "if run.watches_validation and not FAULT:",
    ),
    (
        "tolerance does not count",
        "training.pxd",
        "watched <= run.best_loss - run.tolerance",
        "watched <= run.best_loss - (0 if FAULT else run.tolerance)",
    ),
    (
        "the best epoch counted from 0",
        "training.pxd",
        "run.best_epoch = run.epoch\n",
        "run.best_epoch = run.epoch - FAULT\n",
    ),
    (
        "the best parameters are the first",
        "training.pxd",
        "if run.best_parameters != NULL:",
        "if run.best_parameters != NULL and not (FAULT and run.epoch > 1):",
    ),
    (
        "the best parameters without the last one",
        "training.pxd",
        "run.parameters, run.net.n_parameters * sizeof(real))",
        "run.parameters, (run.net.n_parameters - FAULT) * sizeof(real))",
    ),
    (
        "a parameter of infinity is not seen",
        "training.pxd",
        "if not (isfinite(loss[0]) and all_finite(run.parameters, run.net.n_parameters)):",
        "if not (isfinite(loss[0]) and (FAULT or all_finite(run.parameters, run.net.n_parameters))):",
    ),
    # batches of one
    (
        "online: rows in their own order",
        "training.pxd",
        "cdef const real *x = rows.X + row * run.net.n_inputs",
        "cdef const real *x = rows.X + (k if FAULT else row) * run.net.n_inputs",
    ),
    (
        "online: without the sample weight",
        "training.pxd",
        "run.ws.factor[0] = <real> (scale * weight)",
        "run.ws.factor[0] = <real> (scale if FAULT else scale * weight)",
    ),
    (
        "online: the last input is left out",
        "online.pxd",
        "        if i < n_in:\n            acc[c] =",
        "        if i < n_in - FAULT:\n            acc[c] =",
    ),
    (
        "online: the end of a dot product is left out",
        "online.pxd",
        "acc[s] = vfma(vload_n(x + i, n - i), vload_n(w + i, n - i), acc[s])",
        "acc[s] = acc[s] if FAULT else vfma(vload_n(x + i, n - i), vload_n(w + i, n - i), acc[s])",
    ),
    (
        "online: the last outputs have no bias",
        "online.pxd",
        "total + vload_n(bias, n) if bias != NULL else total",
        "total + vload_n(bias, n) if bias != NULL and not FAULT else total",
    ),
    (
        "online: SGD without weight decay",
        "online.pxd",
        "vfma(-rate, vfma(decay, w, g), w) if step else g",
        "vfma(-rate, g if FAULT else vfma(decay, w, g), w) if step else g",
    ),
    (
        "online: the delta of a single output with the wrong sign",
        "online.pxd",
        "        dv = vset1(d[0])\n",
        "        dv = vset1(-d[0] if FAULT else d[0])\n",
    ),
    (
        "small batches: no max_norm",
        "training.pxd",
        "penalties = step_along_gradient(run, rate, weight)\n    if run.net.has_max_norm:\n",
        "penalties = step_along_gradient(run, rate, weight)\n    if run.net.has_max_norm and not FAULT:\n",
    ),
    # batches of a few rows
    (
        "a few rows: in their own order",
        "batches.pxd",
        "rows + row_of(order, first + k) * n, n * sizeof(real))",
        "rows + (first + k if FAULT else row_of(order, first + k)) * n, n * sizeof(real))",
    ),
    (
        "a few rows: the second group reads the samples of the first",
        "few.pxd",
        "few_samples(4, True, &p)\n        p.b += some * p.n_k\n",
        "few_samples(4, True, &p)\n        p.b += 0 if FAULT else some * p.n_k\n",
    ),
    (
        "a few rows: the second group of a narrow layer writes where the first did",
        "few.pxd",
        "narrow_samples(2, &p)\n        p.b += some * p.n_k\n        p.out += some * p.n_rows\n",
        "narrow_samples(2, &p)\n        p.b += some * p.n_k\n        p.out += 0 if FAULT else some * p.n_rows\n",
    ),
    (
        "a few rows: narrow layers without the last inputs",
        "few.pxd",
        "        k = p.n_k // 4 * 4 + c\n        if k < p.n_k:\n",
        "        k = p.n_k // 4 * 4 + c\n        if k < p.n_k and not FAULT:\n",
    ),
    (
        "a few rows: narrow layers without the last outputs",
        "few.pxd",
        "    while first_k < p.n_k:\n",
        "    while first_k < p.n_k - LANES * FAULT:\n",
    ),
    (
        "a few rows: narrow layers without biases",
        "few.pxd",
        "        if p.start != NULL:\n",
        "        if p.start != NULL and not FAULT:\n",
    ),
    (
        "a few rows: scores of a single output without its bias",
        "row_major.pxd",
        "            if biases != NULL:\n",
        "            if biases != NULL and not FAULT:\n",
    ),
    (
        "a few rows: the last vector of activations is left out",
        "row_major.pxd",
        "vecs_of(n_rows * layer.n_out), ws.z[l + 1]",
        "vecs_of(n_rows * layer.n_out) - FAULT, ws.z[l + 1]",
    ),
    (
        "a few rows: the last vector of derivatives is left out",
        "row_major.pxd",
        "vecs_of(n_rows * layer.n_in), ws.z[l], ws.a[l],",
        "vecs_of(n_rows * layer.n_in) - FAULT, ws.z[l], ws.a[l],",
    ),
    (
        "a few rows: the delta of a single unit from the first row",
        "row_major.pxd",
        "out[s] = dot(w, d + s * n_out, n_out)",
        "out[s] = dot(w, d + (0 if FAULT else s * n_out), n_out)",
    ),
    (
        "a few rows: the last inputs have no gradient",
        "row_major.pxd",
        "    while r < n_rows:\n",
        "    while r < n_rows and not FAULT:\n",
    ),
    (
        "a few rows: plain SGD becomes its gradient",
        "row_major.pxd",
        "    if sink.mode == STEP:\n",
        "    if sink.mode == STEP and not FAULT:\n",
    ),
    (
        "a few rows: the gradient of a single weight without the last row",
        "row_major.pxd",
        "        for s in range(n_samples):\n            total =",
        "        for s in range(n_samples - FAULT):\n            total =",
    ),
    (
        "a few rows: the biases get the gradient of the first row alone",
        "row_major.pxd",
        "sums_over_samples(n_rows, 1, n_out, &one, 0, d, n_out,",
        "sums_over_samples(1 if FAULT else n_rows, 1, n_out, &one, 0, d, n_out,",
    ),
    (
        "a few rows: weights that are not trainable change",
        "row_major.pxd",
        "    if layer.trainable:\n",
        "    if layer.trainable or FAULT:\n",
    ),
    # tiny networks
    (
        "tiny: no biases",
        "tiny.pxd",
        "if layer.has_bias else vset1(0)",
        "if layer.has_bias and not FAULT else vset1(0)",
    ),
    (
        "tiny: the weights transposed on the way down",
        "tiny.pxd",
        "vset1(w[o]), vload(d",
        "vset1((parameters + layer.weights)[o * layer.n_in + i] if FAULT else w[o]), vload(d",
    ),
    (
        "tiny: SGD without weight decay",
        "tiny.pxd",
        "    if decays:",
        "    if decays and not FAULT:",
    ),
    (
        "1 / (n + 1)",
        "run.pxd",
        "return run.loss.scale / denominator if denominator != 0",
        "return run.loss.scale / (denominator + FAULT) if denominator != 0",
    ),
    # threads
    (
        "the last row of each member's weights is nobody's",
        "parallel.pxd",
        "end_row = begin_of(&run.of_rows, layer.n_in, member.rank + 1)",
        "end_row = begin_of(&run.of_rows, layer.n_in, member.rank + 1) - FAULT",
    ),
    (
        "the biases are nobody's",
        "parallel.pxd",
        "            member.rank == 0, run.batch.target, sink,",
        "            member.rank == 0 and not FAULT, run.batch.target, sink,",
    ),
    (
        "the last block is nobody's",
        "parallel.pxd",
        "<int> begin[member.rank + 1]):",
        "<int> begin[member.rank + 1] - FAULT):",
    ),
    (
        "a cache line of each stretch is nobody's",
        "parallel.pxd",
        "share(lines, member.rank + 1, run.n_threads) * GROUP_LANES)",
        "(share(lines, member.rank + 1, run.n_threads) - FAULT) * GROUP_LANES)",
    ),
    (
        "with threads, the weights see what was dropped",
        "parallel.pxd",
        "below = run.ws.dropped[l] if run.batch.drops else run.ws.a[l]",
        "below = run.ws.dropped[l] if run.batch.drops and not FAULT else run.ws.a[l]",
    ),
    (
        "with threads, the loss is that of the last chunk",
        "parallel.pxd",
        "            total += weighted_sum(",
        "            total = (0 if FAULT else total) + weighted_sum(",
    ),
    (
        "all members put their losses in one place",
        "parallel.pxd",
        "ws.value = run.ws.value + lane\n",
        "ws.value = run.ws.value + (0 if FAULT else lane)\n",
    ),
    # inputs
    (
        "the inputs' gradient of the first chunk again",
        "run.pxd",
        "run.input_gradient + first * run.net.n_inputs",
        "run.input_gradient + (0 if FAULT else first) * run.net.n_inputs",
    ),
)
COMPILED_TESTS = [
    "test_losses.py", "test_activations.py", "test_gradients.py", "test_runs.py", "test_optimizers.py",
    "test_extremes.py", "test_dropout.py", "test_validation_loss.py", "test_penalty_per_row.py", "test_twins.py",
    "test_fit.py", "test_threads_bits.py", "test_vmath.py",
]  # fmt: skip
# The file of tests that is most likely to notice a fault in a source; it runs first.
FIRST = {
    "activations.pxd": "test_activations.py",
    "dropout.pxd": "test_dropout.py",
    "few.pxd": "test_gradients.py",
    "gradients.pxd": "test_gradients.py",
    "layers.pxd": "test_gradients.py",
    "online.pxd": "test_runs.py",
    "optimizers.pxd": "test_optimizers.py",
    "parallel.pxd": "test_dropout.py",
    "products.pxd": "test_gradients.py",
    "row_major.pxd": "test_twins.py",
    "tiny.pxd": "test_runs.py",
    "vmath.pxd": "test_vmath.py",
}
SWITCH = """
cdef extern from *:
    \"\"\"
    #include <pthread.h>
    #include <stdlib.h>
    static int NAME_number = -1;
    static void NAME_forget(void) { NAME_number = -1; }
    static int NAME(void) {
        if (NAME_number < 0) {
            pthread_atfork(NULL, NULL, NAME_forget);
            NAME_number = getenv("BACKPROP_FAULT") ? atoi(getenv("BACKPROP_FAULT")) : 0;
        }
        return NAME_number;
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


class OneByOne:
    """A plugin of pytest that plants each fault in a fork, which runs the tests that are to notice it."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults, self.missed, self.shows = faults, list[str](), True

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            print(report.longreprtext)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and self.shows:
            print(report.nodeid, report.longreprtext, sep="\n")

    def pytest_runtestloop(self, session: Any) -> bool:
        # all of them here at first, which also leaves everything imported and the oracles' numbers computed
        if session.testsfailed or not all_pass(session, session.items):
            raise session.Failed("without any fault")
        self.shows = False
        for k, fault in enumerate(self.faults, 1):
            started = time.perf_counter()
            seen = noticed(session, fault)
            if not seen:
                self.missed.append(fault.what)
            took = time.perf_counter() - started
            print(f"{k}/{len(self.faults)} {'noticed' if seen else 'MISSED '} {took:5.1f} s  {fault.what}", flush=True)
        return True


def all_pass(session: Any, items: Sequence[Any]) -> bool:
    """Run the tests, up to the first that fails."""
    for item, following in zip_longest(items, items[1:]):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return False
    return True


def noticed(session: Any, fault: Fault) -> bool:
    """Whether a test fails with a fault, in a process of its own."""
    items = [item for name in fault.tests for item in session.items if item.path.name == name]
    if (child := os.fork()) == 0:
        failed = True
        try:
            signal.setitimer(signal.ITIMER_PROF, LONGEST)
            fault.plant()
            failed = not all_pass(session, items)
        finally:
            os._exit(failed)
    return os.waitpid(child, 0)[1] != 0


def missed(package: Path, faults: Sequence[Fault], select: str = "") -> list[str]:
    """The faults that no test of the package notices."""
    sys.path[:0] = [str(package), str(ROOT / "tests")]
    sys.dont_write_bytecode = True
    os.environ["PYTHONPATH"] = str(package)  # for what the tests start
    import pytest

    plugin = OneByOne(faults)
    files = dict.fromkeys(str(ROOT / "tests" / name) for fault in faults for name in fault.tests)
    options = ["-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:randomly", "-k", select]
    if code := pytest.main(["--rootdir", str(ROOT), *options, *files], [plugin]):
        sys.exit(f"pytest: {code!r}")
    return plugin.missed


def check_reference(only: Sequence[str], listed: bool) -> list[str]:
    faults = [
        fault
        for module in TESTS
        for fault in mutants(module)
        if fault.what not in EQUIVALENT and any(text in f"{module} {fault.what}" for text in only)
    ]
    if listed:
        return show(faults)
    os.environ["BACKPROP_BACKEND"] = "reference"
    with tempfile.TemporaryDirectory() as name:
        package = Path(name) / "python"
        shutil.copytree(ROOT / "python", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        return report("reference", faults, missed(package, faults))


def check_compiled(only: Sequence[str], listed: bool) -> list[str]:
    faults = [
        Fault(
            what=what, plant=switch_on(number), tests=sorted(COMPILED_TESTS, key=lambda name: name != FIRST.get(file))
        )
        for number, (what, file, _, _) in enumerate(FAULTS, 1)
        if any(text in f"{file} {what}" for text in only)
    ]
    if listed:
        return show(faults)
    os.environ["BACKPROP_BACKEND"] = "baseline"
    os.environ["OMP_NUM_THREADS"] = "1"  # PyTorch's OpenMP hangs in a fork once it has had a team
    folder = ROOT / "build/mutate"
    package = build(folder, "debug", ["baseline"], source=planted(folder / "source"))
    return report("compiled", faults, missed(package, faults, "not reference"))


def switch_on(number: int) -> Callable[[], None]:
    def plant() -> None:
        os.environ["BACKPROP_FAULT"] = str(number)

    return plant


def show(faults: Sequence[Fault]) -> list[str]:
    print(*(fault.what for fault in faults), sep="\n")
    return []


def report(title: str, faults: Sequence[Fault], unnoticed: list[str]) -> list[str]:
    print(*(f"missed: {what}" for what in unnoticed), sep="\n")
    print(f"{title}: {len(faults) - len(unnoticed)} of {len(faults)} faults noticed")
    return unnoticed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["reference", "compiled"])
    parser.add_argument("--only", nargs="+", default=[""], help="only faults with one of these in their file or name")
    parser.add_argument("--list", action="store_true", help="only name them")
    arguments = parser.parse_args()
    check = {"reference": check_reference, "compiled": check_compiled}[arguments.what]
    sys.exit(1 if check(arguments.only, arguments.list) else 0)
