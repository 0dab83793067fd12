"""The chain rule spelled out: the derivative with respect to one parameter, factor by factor."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backprop.base.text import aligned, count, decimals, markdown
from backprop.reference.activation_functions import prelu_slope_derivative
from backprop.reference.activations import ACTIVATIONS

if TYPE_CHECKING:
    from backprop.model.records import StepRecord

MAX_SHOWN = 40
"""How many paths are printed before the rest is only added up."""
MAX_PATHS = 200
"""Up to how many paths are followed one by one."""


@dataclass(frozen=True, slots=True)
class Factor:
    """One partial derivative of a chain: its symbol, its formula, the formula with numbers, its value."""

    symbol: str
    formula: str
    numbers: str
    value: float


@dataclass(frozen=True, slots=True)
class Path:
    """One way from the loss back to a parameter, through one row: its factors, whose product it contributes."""

    row: int
    name: str
    factors: tuple[Factor, ...]

    @property
    def product(self) -> float:
        """The product of the factors."""
        return math.prod(factor.value for factor in self.factors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The derivative of the loss with respect to one parameter, as a sum of products of partial derivatives.

    Attributes
    ----------
    parameter : str
        Which one, as in ``weights[0][0, 1]``.
    paths : tuple of Path
        One for each row and each way through the network; one for each row where there are very many ways.
    penalty : float
        What the layer's own l1 and l2 add.
    total : float
        The products and the penalty added up.
    gradient : float
        What backpropagation gives; 0 where the parameter is not trainable.
    numerical : float
        What a central difference gives; NaN where none was asked for.
    trainable : bool
        Whether the optimizer may change it.
    """

    parameter: str
    paths: tuple[Path, ...]
    penalty: float
    total: float
    gradient: float
    numerical: float
    trainable: bool

    def _sums(self) -> list[tuple[str, float]]:
        rows = [(f"sum of {count(len(self.paths), 'product')}", math.fsum(path.product for path in self.paths))]
        if self.penalty:
            rows += [("penalty", self.penalty), ("total", self.total)]
        if self.trainable:
            rows.append(("by backpropagation", self.gradient))
            if not math.isnan(self.numerical):
                rows.append(("by a central difference", self.numerical))
        else:
            rows.append(("not trainable: used as", self.gradient))
        return rows

    def _shown(self) -> Iterator[tuple[str, list[list[str]]]]:
        for path in self.paths[:MAX_SHOWN]:
            values = decimals([*(factor.value for factor in path.factors), path.product])
            rows = [
                [factor.symbol, factor.formula, factor.numbers, value]
                for factor, value in zip(path.factors, values, strict=False)
            ]
            yield f"row {path.row}, {path.name}", [*rows, ["product", "", "", values[-1]]]

    def _more(self) -> list[str]:
        hidden = self.paths[MAX_SHOWN:]
        if not hidden:
            return []
        return [f"... and {len(hidden)} more, which add up to {math.fsum(path.product for path in hidden):.10g}"]

    def __str__(self) -> str:
        header = ["factor", "formula", "with numbers", "value"]
        parts = [f"dL/d {self.parameter}"]
        parts += [f"{title}\n{_indented(aligned(header, rows, left=3))}" for title, rows in self._shown()]
        sums = self._sums()
        values = decimals([value for _, value in sums])
        parts += self._more()
        parts.append(
            aligned(["dL/d " + self.parameter, "value"], [[n, v] for (n, _), v in zip(sums, values, strict=True)])
        )
        return "\n\n".join(parts)

    def _repr_markdown_(self) -> str:
        parts = [f"**The derivative of the loss with respect to `{self.parameter}`**"]
        for title, rows in self._shown():
            cells = [
                [f"`{cell}`" if cell and cell != "product" else cell for cell in row[:3]] + row[3:] for row in rows
            ]
            parts.append(f"{title}\n\n" + markdown(["factor", "formula", "with numbers", "value"], cells, left=3))
        sums = self._sums()
        values = decimals([value for _, value in sums])
        parts += self._more()
        parts.append(markdown(["", "value"], [[name, value] for (name, _), value in zip(sums, values, strict=True)]))
        return "\n\n".join(parts)


class Chains:
    """The paths from the loss back to a parameter, and the factors on them."""

    def __init__(self, trace: StepRecord) -> None:
        self.trace = trace
        self.layers = trace.layers
        self.last = len(trace.layers) - 1
        self.joint = trace.loss.from_scores(self.layers[-1].layer.activation)

    def input_name(self, k: int, i: int) -> str:
        """Name input i of layer k."""
        return f"x[{i}]" if k == 0 else f"a{k - 1}[{i}]"

    def start(self, k: int, kind: str, i: int | None) -> list[str]:
        """Name what a path to a parameter of layer k begins with."""
        return [self.input_name(k, i)] if i is not None else [{"biases": "b", "slopes": "alpha"}[kind]]

    def end(self, k: int, kind: str, i: int | None, j: int, b: int) -> Factor:
        """Return the last factor: of z with respect to a weight or bias, of a with respect to a slope."""
        layer = self.layers[k]
        if kind == "slopes":
            value = float(prelu_slope_derivative(layer.z[b, j]))
            return Factor(f"da{k}[{j}]/dslopes[{k}][{j}]", "min(z, 0)", f"min({_number(layer.z[b, j])}, 0)", value)
        if i is None:
            return Factor(f"dz{k}[{j}]/dbiases[{k}][{j}]", "1", "1", 1.0)
        value = float(layer.inputs[b, i])
        return Factor(f"dz{k}[{j}]/dweights[{k}][{i}, {j}]", self.input_name(k, i), _number(value), value)

    def of(self, k: int, kind: str, i: int | None, j: int, b: int) -> Iterator[tuple[list[str], tuple[Factor, ...]]]:
        """Return the units on each path from unit j of layer k, and its factors from the loss to the parameter."""
        layer, end = self.layers[k], self.end(k, kind, i, j, b)
        through = -1 if kind == "slopes" else None  # a slope acts on a, behind da/dz
        reached = self.reached(k, j)
        n_paths = math.prod(
            layer.layer.units * len(self.reached(m, 0)) for m, layer in enumerate(self.layers[k + 1 :], k + 1)
        )
        if n_paths * len(reached) * len(self.trace.X) <= MAX_PATHS or k == self.last:
            for names, factors in self.above(k, j, b):
                yield names, (*factors[:through], end)
            return
        for output in reached:
            value = float(layer.gradient[b, output])
            together = Factor(f"dL/da{k}[{output}]", f"sum over {n_paths} paths", "", value)
            yield [f"a{k}[{output}]", "..."], (*(together, self.slope(k, output, j, b))[:through], end)

    def reached(self, k: int, j: int) -> Sequence[int]:
        """Return the outputs of layer k on which score j has an influence of its own: with softmax all of them."""
        layer = self.layers[k].layer
        alone = ACTIVATIONS[layer.activation].elementwise or (k == self.last and self.joint)
        return (j,) if alone else range(layer.units)

    def above(self, k: int, j: int, b: int) -> Iterator[tuple[list[str], tuple[Factor, ...]]]:
        """Return the paths from z of unit j in layer k to the loss, with their factors from the loss on."""
        if k == self.last:
            yield from self.output(j, b)
            return
        for i in self.reached(k, j):
            slope = self.slope(k, i, j, b)
            for m in range(self.layers[k + 1].layer.units):
                value = float(self.layers[k + 1].weights[i, m])
                weight = Factor(f"dz{k + 1}[{m}]/da{k}[{i}]", f"weights[{k + 1}][{i}, {m}]", _number(value), value)
                for names, factors in self.above(k + 1, m, b):
                    yield [f"a{k}[{i}]", *names], (*factors, weight, slope)

    def output(self, j: int, b: int) -> Iterator[tuple[list[str], tuple[Factor, ...]]]:
        """Return the factors from the loss to z of output j."""
        trace, layer, k = self.trace, self.layers[-1], self.last
        scale = float(trace.factors[b])
        prefix = "" if scale == 1 else f"{_number(scale)} * "
        targets = trace.loss.smoothed(trace.targets[b])
        if self.joint:
            formula, numbers = _formula(trace.loss.gradient_from_scores, z=layer.z[b, j], a=layer.a[b, j], y=targets[j])
            if "sum_j" in formula:  # softmax: its rows of targets add up to 1
                formula, numbers = "a - y", f"{_number(layer.a[b, j])} - {_number(targets[j])}"
            value = float(layer.delta[b, j])
            yield [f"a{k}[{j}]"], (Factor(f"dL/dz{k}[{j}]", _times(prefix, formula), _times(prefix, numbers), value),)
            return
        for i in self.reached(k, j):
            value = float(layer.gradient[b, i])
            formula, numbers = _formula(trace.loss.gradient, a=layer.a[b, i], y=targets[i])
            first = Factor(f"dL/da{k}[{i}]", _times(prefix, formula), _times(prefix, numbers), value)
            yield [f"a{k}[{i}]"], (first, self.slope(k, i, j, b))

    def slope(self, k: int, i: int, j: int, b: int) -> Factor:
        """Return da_i / dz_j of layer k."""
        layer = self.layers[k]
        activation = ACTIVATIONS[layer.layer.activation]
        symbol = f"da{k}[{i}]/dz{k}[{j}]"
        alpha = layer.layer.slope if layer.slopes is None else float(layer.slopes[j])
        if not activation.elementwise:
            a, other = float(layer.a[b, i]), float(layer.a[b, j])
            same = 1.0 if i == j else 0.0
            name = f"a{k}[{i}] ({same:g} - a{k}[{j}])"
            return Factor(symbol, name, f"{_number(a)} ({same:g} - {_number(other)})", a * (same - other))
        z, a_ = layer.z[b : b + 1, j].astype(np.float64), layer.a[b : b + 1, j].astype(np.float64)
        with np.errstate(all="ignore"):
            value = float(activation.derivative(z, a_, alpha)[0])
        formula, numbers = _formula(activation.derivative, z=z[0], a=a_[0], alpha=alpha)
        return Factor(symbol, formula, numbers, value)


def _formula(function: Callable[..., Any], **values: float) -> tuple[str, str]:
    """Return the formula that stands in a function's docstring, and the same with numbers for its letters."""
    text = " ".join((function.__doc__ or function.__name__).split())
    if (only := re.fullmatch(r"``([^`]+)``\.?", text)) is None:
        return text.replace("``", "").rstrip("."), ""
    numbers = re.sub(
        r"(?<![\w.])[a-z]+(?![\w(.])",
        lambda letter: _bracketed(values[letter[0]]) if letter[0] in values else letter[0],
        only[1],
    )
    return only[1], numbers


def _times(prefix: str, formula: str) -> str:
    """Put a factor before a formula, in brackets where it is a sum."""
    return f"{prefix}({formula})" if prefix and re.match(r"[^()]* [-+] ", formula) else prefix + formula


def _number(value: Any) -> str:
    return f"{float(value):.10g}"


def _bracketed(value: Any) -> str:
    return f"({_number(value)})" if float(value) < 0 else _number(value)


def _indented(text: str) -> str:
    return "\n".join("  " + line for line in text.splitlines())
