"""Pictures of a network, its units and numbers, and of one step through it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backprop.base import checks as check
from backprop.plotting._style import (
    BLUE,
    COLOURS,
    DASHES,
    GREY,
    VERMILION,
    axes_or_new,
    colour_bar,
    signed_colours,
    text_colour,
    tidy,
)
from backprop.reference.activations import ACTIVATIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from backprop.model.model import Model
    from backprop.model.records import StepRecord
    from backprop.reference.losses import Loss


MAX_LABELLED_EDGES = 24
"""Up to how many edges of a graph have their numbers written beside them."""


def plot_network(net: Model, ax: Axes | None = None, *, max_units: int = 12) -> Axes:
    """Draw a network, with weights as the colour and width of its lines and biases as the colour of its units.

    Parameters
    ----------
    net
        The network.
    ax
        Where to draw; None makes a figure.
    max_units
        Of larger layers only this many units are drawn, and the rest is counted.

    Examples
    --------
    >>> import backprop as bp
    >>> ax = bp.plotting.plot_network(bp.mlp([3, 5, 2], seed=0))
    >>> [text.get_text().split() for text in ax.texts]
    [['input', '3'], ['relu', '5'], ['identity', '2']]
    """
    max_units = check.integer("max_units", max_units, at_least=2)
    sizes = [net.n_inputs, *(layer.units for layer in net.layers)]
    tallest = min(max(sizes), max_units)
    radius, wide = 0.33, max(2.2, 0.45 * tallest)
    ax = axes_or_new(ax, (0.45 * ((len(sizes) - 1) * wide + 1.8) + 1.3, 0.45 * (tallest + 1.5)))
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize
    from matplotlib.patches import Circle

    shown = [size if size <= max_units else max_units - 1 for size in sizes]
    arrays = [*net.weights, *(biases for biases in net.biases if biases is not None)]
    largest = max((float(np.abs(array).max()) for array in arrays), default=1.0) or 1.0
    norm, colours = Normalize(-largest, largest), signed_colours()

    def place(k: int, i: int) -> tuple[float, float]:
        slots = shown[k] + (sizes[k] > shown[k])
        return k * wide, (slots - 1) / 2 - i

    for k, weights in enumerate(net.weights):
        edges = [(i, j) for i in range(shown[k]) for j in range(shown[k + 1])]
        values = np.array([float(weights[edge]) for edge in edges])
        ax.add_collection(
            LineCollection(
                [(place(k, i), place(k + 1, j)) for i, j in edges],
                colors=colours(norm(values)),
                linewidths=0.5 + 3.5 * np.abs(values) / largest,
                zorder=1,
            )
        )
    for k, size in enumerate(sizes):
        biases = None if k == 0 else net.biases[k - 1]
        for i in range(shown[k]):
            fill = GREY if biases is None else colours(norm(float(biases[i])))
            ax.add_patch(Circle(place(k, i), radius, facecolor=fill, edgecolor=text_colour(ax), linewidth=1, zorder=2))
        if size > shown[k]:
            x, y = place(k, shown[k])
            ax.text(x, y, f"+ {size - shown[k]:,} more", ha="center", va="center", fontsize="small")
        name = "input" if k == 0 else net.layers[k - 1].activation.replace("_", " ")
        ax.text(k * wide, -(tallest - 1) / 2 - 1.1, f"{name}\n{size:,}", ha="center", va="center", fontsize="small")
    ax.set_xlim(-0.9, (len(sizes) - 1) * wide + 0.9)
    ax.set_ylim(-(tallest - 1) / 2 - 1.7, (tallest - 1) / 2 + 0.7)
    ax.set_aspect("equal")
    ax.set_axis_off()
    colour_bar(ax, ScalarMappable(norm, colours), "weight (lines), bias (units)", shrink=0.75, pad=0.02)
    return ax


def plot_activation(
    name: str,
    ax: Axes | None = None,
    *,
    alpha: float | None = None,
    span: tuple[float, float] = (-4.0, 4.0),
) -> Axes:
    """Draw an activation and its derivative.

    Parameters
    ----------
    name
        One of `backprop.ACTIVATIONS`, but for softmax, whose outputs depend on all scores of a layer.
    ax
        Where to draw; None makes a figure.
    alpha
        The parameter of ``leaky_relu`` and ``elu``; None for their default.
    span
        From where to where.

    Examples
    --------
    >>> import backprop as bp
    >>> ax = bp.plotting.plot_activation("tanh")
    >>> ax.get_legend_handles_labels()[1]
    ['tanh(z)', 'its derivative']
    """
    check.choice("name", name, [name for name, function in ACTIVATIONS.items() if function.elementwise])
    low, high = check.span("span", span)
    function = ACTIVATIONS[name]
    parameter = (function.alpha or 0.0) if alpha is None else check.number("alpha", alpha, at_least=0)
    ax = axes_or_new(ax)
    z = np.linspace(low, high, 801)
    a = function.value(z, parameter)
    slope = function.derivative(z, a, parameter)
    jumps = np.r_[np.abs(np.diff(slope)) > 0.25, False]  # a line there would be no part of the function
    ax.axhline(0, color=GREY, linewidth=0.8, zorder=0, label="_zero")
    ax.axvline(0, color=GREY, linewidth=0.8, zorder=0, label="_zero")
    ax.plot(z, a, color=BLUE, linewidth=2.5, label=f"{name}(z)")
    ax.plot(z, np.where(jumps, np.nan, slope), color=VERMILION, linestyle="--", linewidth=2, label="its derivative")
    ax.set_xlim(low, high)
    ax.set_xlabel("z")
    ax.legend(frameon=False)
    tidy(ax)
    return ax


def plot_weights(net: Model, ax: Axes | None = None, *, bins: int = 30) -> Axes:
    """Draw a histogram of the weights of each layer, without the biases.

    Parameters
    ----------
    net
        The network.
    ax
        Where to draw; None makes a figure.
    bins
        How many bars.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.plotting.plot_weights(bp.mlp([8, 16, 3], seed=0)).get_xlabel()
    'weight'
    """
    return _histograms([np.asarray(weights) for weights in net.weights], net, ax, bins, "weight")


def plot_gradients(
    net: Model,
    X: ArrayLike,
    y: ArrayLike,
    ax: Axes | None = None,
    *,
    loss: str | Loss = "auto",
    bins: int = 30,
) -> Axes:
    """Draw a histogram of the gradient of the weights of each layer: one that is all near 0 learns nothing.

    Parameters
    ----------
    net
        The network.
    X, y, loss
        As in `Network.fit`; the gradient is that over all rows.
    ax
        Where to draw; None makes a figure.
    bins
        How many bars.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.plotting.plot_gradients(bp.mlp([2, 16, 1], seed=0), [[0.0, 1.0]], [1.0]).get_xlabel()
    'gradient of the loss'
    """
    _, gradients = net.loss_and_gradients(X, y, loss)
    return _histograms([arrays[0] for arrays in gradients], net, ax, bins, "gradient of the loss")


def _histograms(arrays: Sequence[NDArray[Any]], net: Model, ax: Axes | None, bins: int, label: str) -> Axes:
    """Draw one outline of a histogram per layer, each with area 1, over the same bins."""
    bins = check.integer("bins", bins, at_least=1)
    ax = axes_or_new(ax)
    low, high = min(float(array.min()) for array in arrays), max(float(array.max()) for array in arrays)
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    for k, (array, layer) in enumerate(zip(arrays, net.layers, strict=True)):
        colour = COLOURS[k % 6]
        heights, _ = np.histogram(array, edges)
        text = f"layer {k}, {layer.activation.replace('_', ' ')} ({array.size:,})"
        ax.stairs(heights / array.size, edges, color=colour, linestyle=DASHES[k % 6], linewidth=2, label=text)
        ax.stairs(heights / array.size, edges, color=colour, fill=True, alpha=0.15)
    ax.set_xlabel(label)
    ax.set_ylabel("share of the layer's weights")
    ax.legend(frameon=False)
    tidy(ax)
    return ax


def plot_trace(trace: StepRecord, ax: Axes | None = None, *, row: int = 0, max_units: int = 6) -> Axes:
    """Draw a training step as a graph: z, a and delta in each unit, weights and their gradients on the lines.

    Parameters
    ----------
    trace
        What `Network.trace` returned.
    ax
        Where to draw; None makes a figure.
    row
        Whose numbers stand in the units; the gradients are those over all rows.
    max_units
        Of larger layers only this many units are drawn.

    Examples
    --------
    >>> import backprop as bp
    >>> ax = bp.mlp([2, 2, 1], seed=0).trace([[1.0, 0.5]], [1.0]).plot_graph()
    """
    row = check.integer("row", row, at_least=0, at_most=len(trace.X) - 1)
    max_units = check.integer("max_units", max_units, at_least=2)
    sizes = [trace.X.shape[1], *(layer.layer.units for layer in trace.layers)]
    shown = [min(size, max_units) for size in sizes]
    tallest = max(shown)
    ax = axes_or_new(ax, (3.0 * (len(sizes) + 0.35), 0.5 + 1.45 * max(tallest, 1.1)))
    from matplotlib.colors import Normalize

    largest = max(float(np.abs(layer.weights).max()) for layer in trace.layers) or 1.0
    norm, colours = Normalize(-largest, largest), signed_colours()
    ink, paper = text_colour(ax), ax.get_facecolor()
    n_edges = sum(below * above for below, above in pairwise(shown))
    labelled = n_edges <= MAX_LABELLED_EDGES

    def place(k: int, i: int) -> tuple[float, float]:
        return float(k), (shown[k] - 1) / 2 - i + (0.0 if sizes[k] == shown[k] else 0.25)

    def box(x: float, y: float, text: str, colour: str, style: str = "round") -> None:
        frame = {"boxstyle": f"{style},pad=0.45", "facecolor": paper, "edgecolor": colour, "linewidth": 1.8}
        ax.text(x, y, text, ha="center", va="center", fontsize=9.5, color=ink, bbox=frame, zorder=3)

    for k, layer in enumerate(trace.layers):
        for i in range(shown[k]):
            for j in range(shown[k + 1]):
                (x0, y0), (x1, y1) = place(k, i), place(k + 1, j)
                w, dw = float(layer.weights[i, j]), float(layer.dW[i, j])
                ax.plot([x0, x1], [y0, y1], color=colours(norm(w)), linewidth=0.8 + 3 * abs(w) / largest, zorder=1)
                if labelled:  # beside the middle, where lines cross
                    t = 0.5 if i == j else 0.38 if (i - j) % 2 else 0.62
                    text = f"w {w:.4g}\ndL/dw {dw:.3g}" if layer.layer.trainable else f"w {w:.4g}\nfrozen"
                    back = {"boxstyle": "round,pad=0.15", "facecolor": paper, "edgecolor": "none", "alpha": 0.85}
                    where = (x0 + t * (x1 - x0), y0 + t * (y1 - y0))
                    ax.text(*where, text, ha="center", va="center", fontsize=8, color=ink, bbox=back, zorder=2)
    for i in range(shown[0]):
        box(*place(0, i), f"x[{i}]\n{float(trace.X[row, i]):.5g}", GREY)
    for k, layer in enumerate(trace.layers):
        for j in range(shown[k + 1]):
            z, a, delta = (float(array[row, j]) for array in (layer.z, layer.a, layer.delta))
            lines = [f"z{k}[{j}] = {z:.5g}", f"{layer.layer.activation.replace('_', ' ')}: a = {a:.5g}"]
            lines.append(f"delta = {delta:.4g}")
            if layer.biases is not None:
                lines.insert(0, f"b = {float(layer.biases[j]):.4g}")
            box(*place(k + 1, j), "\n".join(lines), BLUE)
    last = float(len(sizes))
    for o in range(shown[-1]):
        x, y = place(len(sizes) - 1, o)
        ax.plot([x, last], [y, 0.0], color=GREY, linewidth=1, linestyle="--", zorder=1)
    name = trace.loss.name.replace("_", " ")
    ending = f"\nafter the step {trace.new_value:.6g}"
    box(last, 0.0, f"{name}\nrow {row}: {float(trace.terms[row].sum()):.6g}\nL = {trace.value:.6g}{ending}", VERMILION)
    for k, size in enumerate(sizes):
        if size > shown[k]:
            x, y = place(k, shown[k] - 1)
            ax.text(x, y - 0.62, f"+ {size - shown[k]:,} more", ha="center", va="center", fontsize=9)
    ax.set_xlim(-0.2, last + 0.35)
    ax.set_ylim(-(tallest - 1) / 2 - 0.65, (tallest - 1) / 2 + 0.65)
    ax.set_axis_off()
    return ax
