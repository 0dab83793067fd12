"""A training step in LaTeX: formulas with the numbers of one row filled in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from backprop.explain.chains import Chains
from backprop.reference.activations import ACTIVATIONS
from backprop.reference.optimizers import OPTIMIZERS, SGD, Optimizer

if TYPE_CHECKING:
    from backprop.model.records import StepRecord

MAX_TERMS = 6
"""How many terms of a sum, and units of a layer, a formula shows."""


_VALUE = {
    "sigmoid": r"\frac{{1}}{{1 + e^{{-({z})}}}}",
    "tanh": r"\tanh({z})",
    "relu": r"\max({z}, 0)",
    "identity": "{z}",
    "exp": r"e^{{{z}}}",
    "softplus": r"\ln(1 + e^{{{z}}})",
}
_SLOPE = {
    "sigmoid": (r"a (1 - a)", r"{a} \cdot (1 - {a})"),
    "tanh": (r"(1 - a^2)", r"(1 - {a}^2)"),
    "exp": ("a", "{a}"),
    "identity": ("1", "1"),
}


class Latex:
    """The formulas of a step, with the numbers of one row."""

    def __init__(self, trace: StepRecord, row: int, digits: int) -> None:
        self.trace, self.row, self.digits = trace, row, digits
        self.last = len(trace.layers) - 1

    def number(self, value: Any) -> str:
        """Write a number."""
        text = f"{float(value):.{self.digits}g}"
        if "e" in text:
            mantissa, exponent = text.split("e")
            return rf"{mantissa} \cdot 10^{{{int(exponent)}}}"
        return text

    def bracketed(self, value: Any) -> str:
        """Write a number, in brackets if it has a sign."""
        return f"({self.number(value)})" if float(value) < 0 else self.number(value)

    def sum(self, pairs: list[tuple[Any, Any]]) -> str:
        """Write a sum of products with its numbers."""
        products = [rf"{self.bracketed(u)} \cdot {self.bracketed(v)}" for u, v in pairs]
        return " + ".join(products if len(products) <= MAX_TERMS else [*products[: MAX_TERMS - 1], r"\dots"])

    def units(self, k: int) -> range:
        """Return the units of a layer that are shown."""
        return range(min(self.trace.layers[k].layer.units, MAX_TERMS))

    def forward(self) -> Iterator[str]:
        """Write z and a of every unit."""
        for k, layer in enumerate(self.trace.layers):
            x = layer.inputs[self.row]
            source = "x" if k == 0 else f"a^{{({k - 1})}}"
            for j in self.units(k):
                z, a = layer.z[self.row, j], layer.a[self.row, j]
                bias = "" if layer.biases is None else f" + b^{{({k})}}_{{{j}}}"
                numbers = self.sum([(x[i], layer.weights[i, j]) for i in range(len(x))])
                if layer.biases is not None:
                    numbers += f" + {self.bracketed(layer.biases[j])}"
                yield (
                    rf"$$z^{{({k})}}_{{{j}}} = \sum_i {source}_i W^{{({k})}}_{{i{j}}}{bias} = "
                    rf"{numbers} = {self.number(z)}$$"
                )
                name = layer.layer.activation
                if not ACTIVATIONS[name].elementwise:
                    value = rf"\frac{{e^{{{self.number(z)}}}}}{{\sum_i e^{{z_i}}}}"
                else:
                    default = rf"\mathrm{{{name}}}({{z}})".replace("_", r"\_")
                    value = _VALUE.get(name, default.replace("mathrm{", "mathrm{{").replace("}({", "}}({")).format(
                        z=self.number(z)
                    )
                label = rf"\mathrm{{{name}}}".replace("_", r"\_")
                yield (rf"$$a^{{({k})}}_{{{j}}} = {label}(z^{{({k})}}_{{{j}}}) = {value} = {self.number(a)}$$")

    def loss(self) -> Iterator[str]:
        """Write the row's part of the loss and the whole."""
        trace = self.trace
        name = trace.loss.name.replace("_", r"\_")
        for o in self.units(self.last):
            a, y = trace.outputs[self.row, o], trace.loss.smoothed(trace.targets[self.row])[o]
            scale = float(trace.factors[self.row])
            factor = "" if scale == 1 else rf"{self.number(scale)} \cdot "
            formula = rf"\mathrm{{{name}}}({self.number(a)}, {self.number(y)})"
            if trace.loss.name == "squared_error":
                formula = rf"({self.number(a)} - {self.bracketed(y)})^2"
            elif trace.loss.name == "cross_entropy":
                formula = rf"(-{self.number(y)} \cdot \ln {self.number(a)})"
            elif trace.loss.name == "absolute_error":
                formula = rf"|{self.number(a)} - {self.bracketed(y)}|"
            yield rf"$$L_{{{o}}} = {factor}{formula} = {self.number(trace.terms[self.row, o])}$$"
        penalties = "" if not trace.penalty else rf" + {self.number(trace.penalty)}\;(\text{{penalties}})"
        yield (rf"$$L = \sum_{{\text{{rows}}}} \sum_o L_o{penalties} = {self.number(trace.value)}$$")

    def backward(self) -> Iterator[str]:
        """Write the deltas, from the last layer down."""
        for k in reversed(range(len(self.trace.layers))):
            layer = self.trace.layers[k]
            for j in self.units(k):
                delta = self.number(layer.delta[self.row, j])
                yield rf"$$\delta^{{({k})}}_{{{j}}} = {self.delta(k, j)} = {delta}$$"

    def delta(self, k: int, j: int) -> str:
        """Write one delta in symbols and numbers."""
        trace, layer, row = self.trace, self.trace.layers[k], self.row
        activation, a = layer.layer.activation, layer.a[row, j]
        symbol, slope = _SLOPE.get(activation, ("f'(z)", ""))
        if not slope:
            slope = self.bracketed(Chains(trace).slope(k, j, j, row).value)
        slope = slope.format(a=self.bracketed(a))
        if k < self.last and activation == "softmax":
            above_delta = rf"\sum_m \delta^{{({k + 1})}}_m W^{{({k + 1})}}_{{im}}"
            return rf"\sum_i a_i ([i = {j}] - a_{{{j}}}) {above_delta}"
        if k < self.last:
            above = trace.layers[k + 1]
            pairs = [(above.delta[row, m], above.weights[j, m]) for m in range(above.layer.units)]
            numbers = self.sum(pairs)
            numbers = f"({numbers})" if len(pairs) > 1 else numbers
            return rf"{symbol} \sum_m \delta^{{({k + 1})}}_m W^{{({k + 1})}}_{{{j}m}} = {slope} \cdot {numbers}"
        if trace.loss.from_scores(activation):
            scale = float(trace.factors[row])
            factor = "" if scale == 1 else rf"{self.number(scale)} \cdot "
            (_, (first,)) = next(Chains(trace).output(j, row))
            if not first.formula.endswith("a - y") and "(a - y)" not in first.formula:
                return rf"\frac{{\partial L}}{{\partial z_{j}}}"
            y = trace.loss.smoothed(trace.targets[row])[j]
            return rf"{factor}(a_{j} - y_{j}) = {factor}({self.number(a)} - {self.bracketed(y)})"
        if activation == "softmax":
            return r"\sum_i \frac{\partial L}{\partial a_i} a_i ([i = " + str(j) + f"] - a_{j})"
        gradient = self.bracketed(layer.gradient[row, j])
        return rf"\frac{{\partial L}}{{\partial a_{j}}} {symbol} = {gradient} \cdot {slope}"

    def gradients(self) -> Iterator[str]:
        """Write the gradient of every weight as the sum over rows that it is."""
        for k in reversed(range(len(self.trace.layers))):
            layer = self.trace.layers[k]
            if not layer.layer.trainable:
                yield f"Layer {k} is not trainable."
                continue
            source = "x" if k == 0 else f"a^{{({k - 1})}}"
            for i in range(min(layer.weights.shape[0], MAX_TERMS)):
                for j in self.units(k):
                    rows = range(len(self.trace.X))
                    numbers = self.sum([(layer.inputs[b, i], layer.delta[b, j]) for b in rows])
                    w = float(layer.weights[i, j])
                    own = layer.layer.l1 * float(np.sign(w)) + layer.layer.l2 * w
                    numbers += f" + {self.bracketed(own)}" if own else ""
                    yield (
                        rf"$$\frac{{\partial L}}{{\partial W^{{({k})}}_{{{i}{j}}}}} = "
                        rf"\sum_{{\text{{rows}}}} {source}_{{{i}}} \delta^{{({k})}}_{{{j}}} = "
                        rf"{numbers} = {self.number(layer.dW[i, j])}$$"
                    )

            for j in self.units(k):
                if layer.dslopes is None:
                    break
                numbers = self.sum([(g, min(z, 0)) for g, z in zip(layer.gradient[:, j], layer.z[:, j], strict=True)])
                yield (
                    rf"$$\frac{{\partial L}}{{\partial \alpha^{{({k})}}_{{{j}}}}} = \sum_{{\text{{rows}}}} "
                    rf"\frac{{\partial L}}{{\partial a^{{({k})}}_{{{j}}}}} \min(z^{{({k})}}_{{{j}}}, 0) = "
                    rf"{numbers} = {self.number(layer.dslopes[j])}$$"
                )
            if layer.db is None or not layer.layer.trains_biases:
                continue
            for j in self.units(k):
                numbers = " + ".join(self.bracketed(delta) for delta in layer.delta[:MAX_TERMS, j])
                numbers += r" + \dots" if len(self.trace.X) > MAX_TERMS else ""
                yield (
                    rf"$$\frac{{\partial L}}{{\partial b^{{({k})}}_{{{j}}}}} = \sum_{{\text{{rows}}}} "
                    rf"\delta^{{({k})}}_{{{j}}} = {numbers} = {self.number(layer.db[j])}$$"
                )

    def update(self) -> str:
        """Write what the optimizer does, with the first weight's numbers where it is plain gradient descent."""
        trace, optimizer = self.trace, self.trace.optimizer
        if not (isinstance(optimizer, SGD) and optimizer.momentum == 0 and optimizer.weight_decay == 0):
            return f"`{optimizer_text(trace.optimizer)}`, step {trace.step}"
        for k in reversed(range(len(trace.layers))):
            layer = trace.layers[k]
            if layer.layer.trainable and layer.layer.max_norm is not None:
                return f"`{optimizer_text(trace.optimizer)}`, step {trace.step}, then max_norm"
            if layer.layer.trainable:
                w, g, new = layer.weights[0, 0], layer.dW[0, 0], layer.new_weights[0, 0]
                rate = self.number(optimizer.learning_rate)
                return (
                    rf"$$W^{{({k})}}_{{00}} \leftarrow W^{{({k})}}_{{00}} - \eta \frac{{\partial L}}"
                    rf"{{\partial W^{{({k})}}_{{00}}}} = {self.number(w)} - {rate} \cdot {self.bracketed(g)} = "
                    rf"{self.number(new)}$$"
                )
        return "Nothing is trainable."


def optimizer_text(optimizer: Optimizer) -> str:
    """Return the optimizer without what is at its default, but always with its learning rate."""
    default: Any = OPTIMIZERS[optimizer.name]()  # type: ignore[call-arg]
    names = [name for name in optimizer.__dataclass_fields__ if name != "learning_rate"]
    changed = [name for name in names if getattr(optimizer, name) != getattr(default, name)]
    settings = ", ".join(f"{name}={getattr(optimizer, name)!r}" for name in ["learning_rate", *changed])
    return f"{type(optimizer).__name__}({settings})"
