"""One training step, number by number: what goes forward, what comes back, and what it does to each parameter.

Notation, in what is printed: layers, units and rows count from 0, as in Python. ``x`` are the inputs, ``zk[j]`` and
``ak[j]`` the score and the output of unit j of layer k, ``delta`` is ``dL/dz``, and ``weights[k][i, j]`` leads from
input i of layer k to its unit j.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backprop.base import checks as check
from backprop.base.text import aligned, count, decimals, markdown
from backprop.explain.chains import Chains, Explanation, Path
from backprop.explain.latex import Latex, optimizer_text
from backprop.model.records import StepRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MAX_ROWS = 40
"""How many lines of a table are printed before the rest is counted only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parameter:
    """One parameter of a traced step."""

    name: str
    kind: str
    i: int | None
    """its input, of a weight"""
    j: int
    """its unit"""
    gradient: float
    numerical: float
    trainable: bool
    penalty: float = 0.0
    """what the penalties add to the gradient"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Trace(StepRecord):
    """One full-batch training step, as `Network.trace` found it. Printed, it is a set of tables.

    Attributes
    ----------
    layers : tuple of LayerTrace
        From input to output.
    loss : Loss
        Which loss.
    optimizer : Optimizer
        Which optimizer.
    X, targets : ndarray
        The rows, (n, n_inputs), and their targets as rows, (n, n_outputs): for class labels a single 1 in each.
    terms : ndarray
        What each output of each row adds to the loss, (n, n_outputs), float64: scale, sample weight and reduction
        included.
    penalty : float
        What the layers' l1 and l2 add to the loss.
    value, new_value : float
        The loss over all rows, penalties included, before and after the step.
    step : int
        Which step of the optimizer it is, counted from 1.
    dtype, backend : str
        What computed it.
    has_finite_differences : bool
        Whether they were asked for.

    Examples
    --------
    >>> import backprop as bp
    >>> net = bp.Network(1, [bp.Dense(1, weight_init=0.5, bias=False)], dtype="float64")
    >>> step = net.trace([[1.0]], [0.25], loss="squared_error", optimizer=bp.SGD(learning_rate=0.1))
    >>> step.value, step.layers[0].dW
    (0.0625, array([[0.5]]))
    >>> print(step)
    one step of SGD(learning_rate=0.1) on SquaredError(scale=1.0, reduction='mean')
    1 row, 1 parameter, float64
    <BLANKLINE>
    layer  activation  row  unit             z             a  delta = dL/dz
        0    identity    0     0  0.5000000000  0.5000000000   0.5000000000
    <BLANKLINE>
    row  output        target    prediction  term of the loss
      0       0  0.2500000000  0.5000000000      0.0625000000
    <BLANKLINE>
    parameter                value      gradient  finite difference     new value
    weights[0][0, 0]  0.5000000000  0.5000000000       0.5000000000  0.4500000000
    <BLANKLINE>
    loss before the step  0.0625000000
    loss after it         0.0400000000
    """

    @property
    def optimizer_text(self) -> str:
        """The optimizer with its learning rate and what else is not at its default."""
        return optimizer_text(self.optimizer)

    # --- text ------------------------------------------------------------------------------------------------------

    def _title(self) -> list[str]:
        n_parameters = sum(
            array.size
            for layer in self.layers
            for array in (layer.weights, layer.biases, layer.slopes)
            if array is not None
        )
        return [
            f"one step of {self.optimizer_text} on {self.loss!r}",
            f"{count(len(self.X), 'row')}, {count(n_parameters, 'parameter')}, {self.dtype}",
        ]

    def _units(self, row: int | None = None) -> list[list[str]]:
        """Return layer, activation, row, unit, z, a, delta of every unit."""
        where, numbers = [], []
        for k, layer in enumerate(self.layers):
            for b in range(len(self.X)) if row is None else (row,):
                for j in range(layer.layer.units):
                    where.append([str(k), layer.layer.activation, str(b), str(j)])
                    numbers.append((layer.z[b, j], layer.a[b, j], layer.delta[b, j]))
        columns = [decimals(column) for column in zip(*numbers, strict=True)]
        return [left + list(right) for left, right in zip(where, zip(*columns, strict=True), strict=True)]

    def _terms(self) -> list[list[str]]:
        n, m = self.terms.shape
        columns = [decimals(array) for array in (self.targets, self.outputs, self.terms)]
        where = [[str(b), str(o)] for b in range(n) for o in range(m)]
        return [left + list(right) for left, right in zip(where, zip(*columns, strict=True), strict=True)]

    def _parameters(self) -> list[list[str]]:
        """Return name, value, gradient, finite difference and new value of every parameter."""
        names, numbers, frozen = [], [], []
        for k, layer in enumerate(self.layers):
            for index in np.ndindex(layer.weights.shape):
                names.append(f"weights[{k}][{index[0]}, {index[1]}]")
                numbers.append(
                    [array[index] for array in (layer.weights, layer.dW, layer.numerical_dW, layer.new_weights)]
                )
                frozen.append(not layer.layer.trainable)
            biases = (layer.biases, layer.db, layer.numerical_db, layer.new_biases)
            slopes = (layer.slopes, layer.dslopes, layer.numerical_dslopes, layer.new_slopes)
            for name, arrays, trainable in (
                ("biases", biases, layer.layer.trains_biases),
                ("slopes", slopes, layer.layer.trainable),
            ):
                for j in range(0 if arrays[0] is None else len(arrays[0])):
                    names.append(f"{name}[{k}][{j}]")
                    numbers.append([array[j] for array in arrays if array is not None])
                    frozen.append(not trainable)
        values, gradients, numerical, new = zip(*numbers, strict=True)
        columns = [
            decimals(values),
            decimals(gradients),
            # its last digits are noise, and must not decide
            decimals(numerical, like=gradients) if self.has_finite_differences else ["-"] * len(names),
            decimals(new),
        ]
        rows = [[name, *cells] for name, cells in zip(names, zip(*columns, strict=True), strict=True)]
        return [
            [name, value, "frozen", "frozen", changed] if still else [name, value, gradient, difference, changed]
            for (name, value, gradient, difference, changed), still in zip(rows, frozen, strict=True)
        ]

    def _totals(self) -> list[tuple[str, str]]:
        rows = [("loss before the step", self.value), ("loss after it", self.new_value)]
        if self.penalty:
            rows.insert(1, ("penalties in it", self.penalty))
        return list(zip([name for name, _ in rows], decimals([value for _, value in rows]), strict=True))

    def to_text(self, max_rows: int | None = MAX_ROWS) -> str:
        """Return the tables; of each at most `max_rows` lines, None for all. ``str(trace)`` takes 40."""
        if max_rows is not None:
            max_rows = check.integer("max_rows", max_rows, at_least=1)
        tables = (
            (["layer", "activation", "row", "unit", "z", "a", "delta = dL/dz"], self._units(), 0),
            (["row", "output", "target", "prediction", "term of the loss"], self._terms(), 0),
            (["parameter", "value", "gradient", "finite difference", "new value"], self._parameters(), 1),
        )
        parts = ["\n".join(self._title())]
        for header, rows, left in tables:
            text = aligned(header, rows[:max_rows], left=left)
            if max_rows is not None and len(rows) > max_rows:
                text += f"\n... and {len(rows) - max_rows} more"
            parts.append(text)
        width = max(len(name) for name, _ in self._totals())
        parts.append("\n".join(f"{name:<{width}}  {value}" for name, value in self._totals()))
        return "\n\n".join(parts)

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return f"<Trace of {' '.join(self._title())}: loss {self.value:.10g} -> {self.new_value:.10g}>"

    # --- Markdown --------------------------------------------------------------------------------------------------

    def to_markdown(self, row: int = 0, digits: int = 6) -> str:
        """Return the step as Markdown: LaTeX formulas with the numbers of one row filled in, and a table.

        Parameters
        ----------
        row
            Which row's numbers go into the formulas; the gradients are sums over all rows.
        digits
            Significant digits in the formulas.
        """
        row = check.integer("row", row, at_least=0, at_most=len(self.X) - 1)
        digits = check.integer("digits", digits, at_least=1)
        latex = Latex(self, row, digits)
        title = self._title()
        parts = [f"**{title[0][0].upper()}{title[0][1:]}**  \n{title[1]}"]
        parts += [f"*Forward, row {row}*", *latex.forward(), f"*Loss, row {row}*", *latex.loss()]
        parts += [f"*Backward, row {row}*: $\\delta = \\partial L / \\partial z$", *latex.backward()]
        parts += ["*Gradients, over all rows*", *latex.gradients(), "*Update*", latex.update()]
        rows = self._parameters()
        header = ["parameter", "value", "gradient", "finite difference", "new value"]
        table = markdown(header, [[f"`{name}`", *cells] for name, *cells in rows[:MAX_ROWS]])
        if len(rows) > MAX_ROWS:
            table += f"\n\n... and {len(rows) - MAX_ROWS} more"
        parts.append(table)
        parts.append("  \n".join(f"{name}: {value}" for name, value in self._totals()))
        return "\n\n".join(parts)

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    # --- the chain rule --------------------------------------------------------------------------------------------

    def explain(
        self,
        layer: int,
        weight: tuple[int, int] | None = None,
        *,
        bias: int | None = None,
        slope: int | None = None,
    ) -> Explanation:
        """Spell out the derivative of the loss with respect to one weight, bias or slope.

        It is the sum, over the rows and over the paths from the loss back to the parameter, of the products of the
        partial derivatives along the path:
        ``dL/da * da/dz * dz/da * ... * da/dz * dz/dw``. Where activation and loss are computed as one, ``dL/dz`` takes
        the place of the first two.

        Parameters
        ----------
        layer
            Which layer, counted from 0.
        weight
            ``(i, j)``: the weight from input i to unit j.
        bias
            ``j``: the bias of unit j; instead of `weight`.
        slope
            ``j``: the slope of unit j of a ``prelu`` layer; instead of `weight`.

        Returns
        -------
        Explanation
            Each factor with its formula and its value, the products, and their sum. With more than 200 paths, those
            of a row are put together: ``dL/da`` of the layer is then one factor.

        Raises
        ------
        TypeError, ValueError
            If there is no such parameter, or not just one of weight, bias and slope is given.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1, "sigmoid", weight_init=0.5, bias=False),
        ...                      bp.Dense(1, weight_init=0.3, bias=False)], dtype="float64")
        >>> step = net.trace([[2.0]], [0.5], loss=bp.losses.SquaredError(scale=0.5), optimizer="sgd")
        >>> print(step.explain(layer=0, weight=(0, 0)))
        dL/d weights[0][0, 0]
        <BLANKLINE>
        row 0, x[0] -> a0[0] -> a1[0] -> L
          factor                  formula          with numbers                        value
          dL/da1[0]               0.5 * 2 (a - y)  0.5 * 2 (0.2193175736 - 0.5)  -0.2806824264
          da1[0]/dz1[0]           1                1                              1.0000000000
          dz1[0]/da0[0]           weights[1][0, 0]  0.3                            0.3000000000
          da0[0]/dz0[0]           a (1 - a)        0.7310585786 (1 - 0.7310585786)  0.1966119332
          dz0[0]/dweights[0][0, 0]  x[0]             2                              2.0000000000
          product                                                                -0.0331113087
        <BLANKLINE>
        dL/d weights[0][0, 0]              value
        sum of 1 product           -0.0331113087
        by backpropagation         -0.0331113087
        by a central difference    -0.0331113087
        """
        k = check.integer("layer", layer, at_least=0, at_most=len(self.layers) - 1)
        given = {"weight": weight, "bias": bias, "slope": slope}
        if sum(index is not None for index in given.values()) != 1:
            shown = ", ".join(f"{name}={index!r}" for name, index in given.items())
            raise ValueError(
                f"weight: needs weight=(i, j) or bias=j, or slope=j of a prelu layer, just one; got {shown}"
            )
        at = self._parameter(k, weight, bias, slope)
        chains = Chains(self)
        paths = tuple(
            Path(b, " -> ".join([*chains.start(k, at.kind, at.i), *names, "L"]), factors)
            for b in range(len(self.X))
            for names, factors in chains.of(k, at.kind, at.i, at.j, b)
        )
        return Explanation(
            parameter=at.name,
            paths=paths,
            penalty=at.penalty,
            total=math.fsum(path.product for path in paths) + at.penalty,
            gradient=at.gradient,
            numerical=at.numerical,
            trainable=at.trainable,
        )

    def _parameter(self, k: int, weight: tuple[int, int] | None, bias: int | None, slope: int | None) -> _Parameter:
        """Look one parameter of layer k up."""
        at = self.layers[k]
        if weight is None:
            kind, index = ("biases", bias) if slope is None else ("slopes", slope)
            return self._unit_parameter(k, kind, index)
        if not isinstance(weight, (tuple, list)) or len(weight) != 2:
            raise TypeError(f"weight: needs a pair (input, unit), got {check.shown(weight)}")
        i = check.integer("weight[0]", weight[0], at_least=0, at_most=at.weights.shape[0] - 1)
        j = check.integer("weight[1]", weight[1], at_least=0, at_most=at.weights.shape[1] - 1)
        w = float(at.weights[i, j])
        return _Parameter(
            name=f"weights[{k}][{i}, {j}]",
            kind="weights",
            i=i,
            j=j,
            gradient=float(at.dW[i, j]),
            numerical=float(at.numerical_dW[i, j]),
            trainable=at.layer.trainable,
            penalty=at.layer.l1 * float(np.sign(w)) + at.layer.l2 * w,
        )

    def _unit_parameter(self, k: int, kind: str, index: Any) -> _Parameter:
        """Look one bias or one slope of layer k up."""
        at, name = self.layers[k], {"biases": "bias", "slopes": "slope"}[kind]
        if kind == "biases":
            gradient, numerical, trainable = at.db, at.numerical_db, at.layer.trains_biases
        else:
            gradient, numerical, trainable = at.dslopes, at.numerical_dslopes, at.layer.trainable
        if gradient is None or numerical is None:
            raise ValueError(f"{name}: needs a layer that has {kind}, layer {k} has none")
        j = check.integer(name, index, at_least=0, at_most=gradient.size - 1)
        return _Parameter(
            name=f"{kind}[{k}][{j}]",
            kind=kind,
            i=None,
            j=j,
            gradient=float(gradient[j]),
            numerical=float(numerical[j]),
            trainable=trainable,
        )

    # --- the graph -------------------------------------------------------------------------------------------------

    def to_dot(self, row: int = 0, digits: int = 4) -> str:
        """Return the computation graph of one row in Graphviz's DOT language.

        Nodes carry z, a and delta of that row, edges the weights and their gradients over all rows.

        Parameters
        ----------
        row
            Which row of X.
        digits
            Significant digits.
        """
        row = check.integer("row", row, at_least=0, at_most=len(self.X) - 1)
        digits = check.integer("digits", digits, at_least=1)

        def number(value: Any) -> str:
            return f"{float(value):.{digits}g}"

        lines = ["digraph backprop {", "  rankdir=LR;", '  node [shape=box, style=rounded, fontname="sans-serif"];']
        lines.append('  edge [fontname="sans-serif", fontsize=10];')
        lines += [f'  "x[{i}]" [label="x[{i}] = {number(x)}"];' for i, x in enumerate(self.X[row])]
        for k, layer in enumerate(self.layers):
            for j in range(layer.layer.units):
                lines.append(
                    f'  "a{k}[{j}]" [label="z{k}[{j}] = {number(layer.z[row, j])}\\n'
                    f"a{k}[{j}] = {layer.layer.activation}(z) = {number(layer.a[row, j])}\\n"
                    f'delta = {number(layer.delta[row, j])}"];'
                )
        lines.append(f'  "L" [shape=oval, label="{self.loss.name}\\nrow {row}: {number(self.terms[row].sum())}"];')
        for k, layer in enumerate(self.layers):
            for i, j in np.ndindex(layer.weights.shape):
                source = f"x[{i}]" if k == 0 else f"a{k - 1}[{i}]"
                label = f"w = {number(layer.weights[i, j])}\\ndL/dw = {number(layer.dW[i, j])}"
                lines.append(f'  "{source}" -> "a{k}[{j}]" [label="{label}"];')
            if layer.biases is not None and layer.db is not None:
                for j, (b, db) in enumerate(zip(layer.biases, layer.db, strict=True)):
                    lines.append(f'  "b{k}[{j}]" [shape=plaintext, label="b = {number(b)}\\ndL/db = {number(db)}"];')
                    lines.append(f'  "b{k}[{j}]" -> "a{k}[{j}]" [style=dashed];')
            if layer.slopes is not None and layer.dslopes is not None:
                for j, (alpha, d) in enumerate(zip(layer.slopes, layer.dslopes, strict=True)):
                    label = f"alpha = {number(alpha)}\\ndL/dalpha = {number(d)}"
                    lines.append(f'  "alpha{k}[{j}]" [shape=plaintext, label="{label}"];')
                    lines.append(f'  "alpha{k}[{j}]" -> "a{k}[{j}]" [style=dashed];')
        lines += [f'  "a{len(self.layers) - 1}[{o}]" -> "L";' for o in range(self.terms.shape[1])]
        return "\n".join([*lines, "}"]) + "\n"

    def plot_graph(self, ax: Axes | None = None, *, row: int = 0) -> Axes:
        """Draw the computation graph of one row; see `backprop.plotting.plot_trace`."""
        from backprop.plotting import plot_trace

        return plot_trace(self, ax, row=row)
