"""Pictures of networks and of their training, drawn by matplotlib (the extra ``plot``).

Every function takes an Axes, or makes a figure of its own for None, and returns the Axes, on which more can be drawn.
Colours are of Okabe and Ito's palette, which everyone can tell apart, and lines differ in their dashes as well; what
has no colour of its own takes matplotlib's, so that dark styles work.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backprop import _validation as check
from backprop.io import write_atomically
from backprop.reference.activations import ACTIVATIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from backprop.descent import Descent
    from backprop.history import History
    from backprop.losses import Loss
    from backprop.network import Network
    from backprop.optimizers import Optimizer
    from backprop.trace import Trace

FORMATS = (".png", ".svg", ".pdf")
BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
GREY = "#8C8C8C"
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 1)))

MAX_LABELLED_EDGES = 24
"""Up to how many edges of a graph have their numbers written beside them."""


# --- what all share ------------------------------------------------------------------------------------------------


def _require(module: str = "matplotlib.pyplot", extra: str = "plot") -> Any:
    """Import what draws, or say what to install."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = {"sklearn": "scikit-learn"}.get(package := module.partition(".")[0], package)
        raise ImportError(f"plot: needs {name}; install it with: pip install 'bpcore[{extra}]' ({error})") from error


def _axes(ax: Axes | None, size: tuple[float, float] = (6.4, 4.4)) -> Axes:
    """Return the Axes given, or that of a new figure."""
    plt = _require()
    if ax is None:
        return plt.subplots(figsize=size, layout="constrained")[1]  # type: ignore[no-any-return]
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise TypeError(f"ax: needs a matplotlib Axes or None, got {check.shown(ax)}")
    return ax


def _tidy(ax: Axes, *, grid: bool = True) -> None:
    """Take away what does not carry information."""
    ax.spines[["top", "right"]].set_visible(False)
    if grid:
        ax.grid(alpha=0.3)


def _ink(ax: Axes) -> Any:
    """Return the colour of the text, dark or light as the style has it."""
    return ax.xaxis.label.get_color()


def _signed_colours() -> Any:
    """Return colours from vermilion (negative) over grey (0) to blue (positive), visible on black and on white."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("backprop", [VERMILION, "#B0A8A0", BLUE])


def _emptiest_corner(ax: Axes, points: NDArray[Any]) -> Any:
    """Name the corner where a legend hides the fewest of the points (n, 2)."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    x, y = (points[:, 0] - left) / (right - left), (points[:, 1] - bottom) / (top - bottom)
    corners = {
        "upper right": (x > 0.45) & (y > 0.8),
        "upper left": (x < 0.55) & (y > 0.8),
        "lower right": (x > 0.45) & (y < 0.2),
        "lower left": (x < 0.55) & (y < 0.2),
    }
    return min(corners, key=lambda name: int(corners[name].sum()))


def _legend_on_colours(ax: Axes, points: NDArray[np.float64]) -> None:
    """Put a legend that can be read on any colour where it hides the fewest of the points."""
    legend = ax.legend(loc=_emptiest_corner(ax, points), facecolor="#404040", edgecolor="none", framealpha=0.85)
    for text in legend.get_texts():
        text.set_color("white")


def _log_scale(ax: Axes, values: NDArray[np.float64]) -> None:
    """Make the vertical axis logarithmic, with labels that can be read."""
    from matplotlib.ticker import LogLocator, NullFormatter

    ax.set_yscale("log")
    positive = values[values > 0]
    few = positive.size and positive.max() < 1000 * positive.min()
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


# --- training ------------------------------------------------------------------------------------------------------


def plot_history(
    history: History | Mapping[str, ArrayLike] | ArrayLike,
    ax: Axes | None = None,
    *,
    log: bool | None = None,
    label: str = "loss",
) -> Axes:
    """Draw the losses over the epochs, and the learning rate where one was recorded.

    Parameters
    ----------
    history
        What `Network.fit` returns, another mapping from names to one number per epoch, or the losses alone, (epochs,).
        Names with "loss" share the left axis; ``"learning_rate"`` has the right one; others are left out.
    ax
        Where to draw; None makes a figure.
    log
        Whether the losses have a logarithmic axis; None decides by their range.
    label
        What the vertical axis shows.

    Returns
    -------
    Axes
        That of the losses.

    Raises
    ------
    TypeError, ValueError
        If what is to be drawn is not one number per epoch, or there is no epoch.

    Examples
    --------
    >>> import backprop as bp
    >>> net = bp.mlp([1, 4, 1], seed=0)
    >>> history = net.fit([[0.0], [1.0]], [0.0, 1.0], epochs=20)
    >>> bp.plotting.plot_history(history).get_xlabel()
    'epoch'
    """
    series = history if isinstance(history, Mapping) else {"loss": history}
    shown = [name for name in series if "loss" in name or name == "learning_rate"]
    curves = {name: check.curve("history", series[name]) for name in shown}
    losses = {name: values for name, values in curves.items() if "loss" in name and values.size}
    if not losses:
        raise ValueError(f"history: needs at least one epoch with a loss, got {check.shown(history)}")
    ax = _axes(ax)
    from matplotlib.ticker import MaxNLocator

    for k, (name, values) in enumerate(losses.items()):
        # A single epoch is a point: a line would not show.
        marker = "o" if len(values) == 1 else None
        epochs = np.arange(1, len(values) + 1)
        text = name.replace("val_", "validation ").replace("_", " ")
        ax.plot(epochs, values, color=COLOURS[k % 6], linestyle=DASHES[k % 6], linewidth=2, marker=marker, label=text)
    longest = max(map(len, losses.values()))
    ax.set_xlim(0, 1.02 * longest)
    ax.set_xlabel("epoch")
    ax.set_ylabel(label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    together = np.concatenate(list(losses.values()))
    together = together[np.isfinite(together)]
    if log is None:
        log = bool(together.size and together.min() > 0 and together.max() > 10 * together.min())
    if log:
        _log_scale(ax, together)
    _tidy(ax)
    rate = curves.get("learning_rate")
    if rate is not None and rate.size:
        right = ax.twinx()
        right.plot(np.arange(1, len(rate) + 1), rate, color=GREY, linestyle=":", linewidth=2, label="learning rate")
        right.set_ylabel("learning rate")
        right.spines[["top"]].set_visible(False)
        right.set_ylim(bottom=0)
        lines = [*ax.get_lines(), *right.get_lines()]
        ax.legend(lines, [str(line.get_label()) for line in lines], frameon=False)
    elif len(losses) > 1:
        ax.legend(frameon=False)
    return ax


def check_path(path: str | os.PathLike[str]) -> None:
    """Raise unless a picture could be drawn to this file: ValueError for its ending, ImportError without matplotlib."""
    if Path(path).suffix.lower() not in FORMATS:
        raise ValueError(f"plot: needs a file name that ends in {', '.join(FORMATS)}; got {os.fspath(path)!r}")
    _require("matplotlib.figure")


def plot_loss(
    loss: Sequence[float] | NDArray[np.float64], path: str | os.PathLike[str], title: str, label: str = "loss"
) -> None:
    """Draw the loss over the epochs into a PNG, SVG or PDF file, by its ending.

    Parameters
    ----------
    loss
        The loss of each epoch; see `History`.
    path
        The file, replaced if it is there.
    title
        Written above.
    label
        What the vertical axis shows.
    """
    check_path(path)
    from matplotlib.figure import Figure  # not pyplot: no window, no state that others share

    figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
    axes = plot_history(np.asarray(loss, np.float64), figure.add_subplot(), label=label)
    axes.set_title(title, loc="left", wrap=True, parse_math=False)
    picture = io.BytesIO()
    figure.savefig(picture, format=Path(path).suffix[1:].lower())
    write_atomically(path, picture.getvalue())


def plot_batch_sizes(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    batch_sizes: Sequence[int | None] = (None, 16, 1),
    ax: Axes | None = None,
    *,
    loss: str | Loss = "auto",
    optimizer: str | Optimizer = "sgd",
    epochs: int = 30,
) -> Axes:
    """Train copies of a network with full batch, mini-batches and online, and draw their losses in one picture.

    Parameters
    ----------
    net
        The network all start from; it is not changed.
    X, y, loss, optimizer, epochs
        As in `Network.fit`.
    batch_sizes
        One line each; None is the full batch, 1 online.
    ax
        Where to draw; None makes a figure.

    Returns
    -------
    Axes
        The loss over all rows, measured after each epoch, so that the lines can be compared.

    Examples
    --------
    >>> import numpy as np
    >>> import backprop as bp
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> ax = bp.plotting.plot_batch_sizes(bp.mlp([1, 4, 1], seed=0), X, X**2, epochs=3)
    >>> [line.get_label() for line in ax.get_lines()]
    ['full batch (40 rows)', 'mini-batches of 16', 'online (1 row)']
    """
    epochs = check.integer("epochs", epochs, at_least=1)
    if not isinstance(batch_sizes, Sequence) or not batch_sizes:
        raise TypeError(f"batch_sizes: needs a sequence of batch sizes, got {check.shown(batch_sizes)}")
    import copy

    ax = _axes(ax)
    everything: list[float] = []
    for k, batch_size in enumerate(batch_sizes):
        own = copy.deepcopy(net)
        losses = [own.loss(X, y, loss)]
        for _ in range(epochs):
            own.fit(X, y, loss=loss, optimizer=optimizer, epochs=1, batch_size=batch_size, progress=False)
            losses.append(own.loss(X, y, loss))
        n = len(np.asarray(X))
        if batch_size is None or batch_size >= n:
            text = f"full batch ({n:,} rows)"
        else:
            text = "online (1 row)" if batch_size == 1 else f"mini-batches of {batch_size:,}"
        ax.plot(losses, color=COLOURS[k % 6], linestyle=DASHES[k % 6], linewidth=2, label=text)
        everything += losses
    values = np.array(everything)
    if values.min() > 0 and values.max() > 10 * values.min():
        _log_scale(ax, values)
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlim(0, epochs)
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss over all rows")
    ax.legend(frameon=False)
    _tidy(ax)
    return ax


# --- networks ------------------------------------------------------------------------------------------------------


def plot_network(net: Network, ax: Axes | None = None, *, max_units: int = 12) -> Axes:
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
    ax = _axes(ax, (0.45 * ((len(sizes) - 1) * wide + 1.8) + 1.3, 0.45 * (tallest + 1.5)))
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize
    from matplotlib.patches import Circle

    shown = [size if size <= max_units else max_units - 1 for size in sizes]
    arrays = [*net.weights, *(biases for biases in net.biases if biases is not None)]
    largest = max((float(np.abs(array).max()) for array in arrays), default=1.0) or 1.0
    norm, colours = Normalize(-largest, largest), _signed_colours()

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
            ax.add_patch(Circle(place(k, i), radius, facecolor=fill, edgecolor=_ink(ax), linewidth=1, zorder=2))
        if size > shown[k]:
            x, y = place(k, shown[k])
            ax.text(x, y, f"+ {size - shown[k]:,} more", ha="center", va="center", fontsize="small")
        name = "input" if k == 0 else net.layers[k - 1].activation.replace("_", " ")
        ax.text(k * wide, -(tallest - 1) / 2 - 1.1, f"{name}\n{size:,}", ha="center", va="center", fontsize="small")
    ax.set_xlim(-0.9, (len(sizes) - 1) * wide + 0.9)
    ax.set_ylim(-(tallest - 1) / 2 - 1.7, (tallest - 1) / 2 + 0.7)
    ax.set_aspect("equal")
    ax.set_axis_off()
    bar = ax.figure.colorbar(ScalarMappable(norm, colours), ax=ax, shrink=0.75, pad=0.02)
    bar.set_label("weight (lines), bias (units)")
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
    low, high = _span("span", span)
    function = ACTIVATIONS[name]
    parameter = (function.alpha or 0.0) if alpha is None else check.number("alpha", alpha, at_least=0)
    ax = _axes(ax)
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
    _tidy(ax)
    return ax


def plot_weights(net: Network, ax: Axes | None = None, *, bins: int = 30) -> Axes:
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
    net: Network,
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
    return _histograms([weights for weights, _ in gradients], net, ax, bins, "gradient of the loss")


def _histograms(arrays: Sequence[NDArray[Any]], net: Network, ax: Axes | None, bins: int, label: str) -> Axes:
    """Draw one outline of a histogram per layer, each with area 1, over the same bins."""
    bins = check.integer("bins", bins, at_least=1)
    ax = _axes(ax)
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
    _tidy(ax)
    return ax


# --- what a network has learned ------------------------------------------------------------------------------------


def plot_decision_boundary(
    net: Network,
    X: ArrayLike,
    y: ArrayLike | None = None,
    ax: Axes | None = None,
    *,
    level: float = 0.5,
    resolution: int = 200,
) -> Axes:
    """Draw what a network with two inputs says everywhere, and the rows of X, through scikit-learn's display.

    Parameters
    ----------
    net
        A network with two inputs. One output is drawn as a height, with a line at `level`; of several, the largest
        decides and its value gives the depth of the colour.
    X
        The rows, (n, 2); the picture reaches a little beyond them.
    y
        Their classes, (n,): labels, or numbers on one side of `level` or the other; None draws no rows.
    ax
        Where to draw; None makes a figure.
    level
        Where the boundary is, for one output.
    resolution
        Points of the grid along each axis.

    Raises
    ------
    ImportError
        Without scikit-learn (the extra ``sklearn``) or matplotlib (``plot``).
    ValueError
        If the network has not two inputs.

    Examples
    --------
    >>> import backprop as bp
    >>> net = bp.mlp([2, 4, 1], hidden="tanh", output="sigmoid", seed=0)
    >>> ax = bp.plotting.plot_decision_boundary(net, [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0])
    """
    if net.n_inputs != 2:
        raise ValueError(f"net: needs a network with 2 inputs, got one with {net.n_inputs}")
    level = check.number("level", level)
    resolution = check.integer("resolution", resolution, at_least=2)
    rows = check.features("X", X, np.dtype(np.float64), 2)
    labels = None
    if y is not None:
        labels = check.array("y", y, np.dtype(np.float64))
        if labels.ndim not in (1, 2) or len(labels) != len(rows) or not labels.size:
            raise ValueError(f"y: needs one class for each of the {len(rows)} rows of X, got shape {labels.shape}")
        labels = labels.reshape(len(rows), -1)
        labels = labels.argmax(axis=1) if labels.shape[1] > 1 else labels[:, 0]
        labels = (labels > level).astype(int) if net.n_outputs == 1 else labels.astype(int)
    display = _require("sklearn.inspection", "sklearn").DecisionBoundaryDisplay
    ax = _axes(ax, (5.6, 4.6))
    margin = 0.08 * float(np.ptp(rows, axis=0).max() or 1.0)
    settings: dict[str, Any] = {"ax": ax, "eps": margin, "grid_resolution": resolution}
    if net.n_outputs == 1:
        from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm

        outputs = net.predict(rows)
        low, high = min(float(outputs.min()), level - 1e-3), max(float(outputs.max()), level + 1e-3)
        if net.layers[-1].activation == "sigmoid":
            low, high = min(0.0, level - 1e-3), max(1.0, level + 1e-3)
        colours = LinearSegmentedColormap.from_list("heights", [BLUE, "#F2EFEA", VERMILION])
        shown = display.from_estimator(
            _estimator(net, None),
            rows,
            response_method="predict",
            plot_method="contourf",
            levels=np.r_[np.linspace(low, level, 11), np.linspace(level, high, 11)[1:]],
            cmap=colours,
            norm=TwoSlopeNorm(level, low, high),
            extend="both",
            **settings,
        )
        bar = ax.figure.colorbar(shown.surface_, ax=ax, pad=0.02)
        bar.set_label("output of the network")
        if shown.response.min() < level < shown.response.max():
            ax.contour(shown.xx0, shown.xx1, shown.response, [level], colors="black", linewidths=2)
        palette: tuple[str, ...] = (BLUE, VERMILION)
    else:
        classes = np.arange(net.n_outputs)
        palette = tuple(COLOURS[k % 6] for k in classes)
        method = {"response_method": "predict_proba", "plot_method": "pcolormesh"}
        if net.n_outputs == 2:
            from matplotlib.colors import LinearSegmentedColormap

            colours = LinearSegmentedColormap.from_list("classes", [palette[0], "#F2EFEA", palette[1]])
            display.from_estimator(_estimator(net, classes), rows, cmap=colours, vmin=0, vmax=1, **method, **settings)
        else:
            extra = {"multiclass_colors": list(palette), "vmin": 0, "vmax": 1}
            display.from_estimator(_estimator(net, classes), rows, **method, **extra, **settings)
    if labels is not None:
        for k, label in enumerate(np.unique(labels)):
            chosen = labels == label
            colour = palette[int(label) % len(palette)]
            marker = "os^DvP"[k % 6]
            ax.scatter(
                rows[chosen, 0],
                rows[chosen, 1],
                c=colour,
                marker=marker,
                edgecolors="white",
                s=45,
                label=f"class {label}",
            )
        ax.legend(loc=_emptiest_corner(ax, rows), framealpha=0.85)
    ax.set_xlabel("x[0]")
    ax.set_ylabel("x[1]")
    return ax


def _estimator(net: Network, classes: NDArray[Any] | None) -> Any:
    """Return the network as the little of an estimator that scikit-learn's display asks for."""
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

    class Fitted(BaseEstimator):  # type: ignore[misc]
        def fit(self, X: ArrayLike, y: ArrayLike) -> Fitted:
            return self

        def __sklearn_is_fitted__(self) -> bool:
            return True

    class Regressor(RegressorMixin, Fitted):  # type: ignore[misc]
        def predict(self, X: ArrayLike) -> NDArray[Any]:
            return net.predict(X)[:, 0]

    class Classifier(ClassifierMixin, Fitted):  # type: ignore[misc]
        classes_ = classes

        def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
            return net.predict(X)

    return Regressor() if classes is None else Classifier()


def plot_loss_surface(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    ax: Axes | None = None,
    *,
    loss: str | Loss = "auto",
    directions: tuple[Any, Any] | None = None,
    path: ArrayLike | None = None,
    span: float = 1.0,
    resolution: int = 41,
    seed: int = 0,
) -> Axes:
    """Draw the loss over a plane through the parameters, with the path of training in it.

    Parameters
    ----------
    net
        The network, whose parameters are the middle of the picture where no path is given; it is not changed.
    X, y, loss
        As in `Network.fit`.
    ax
        Where to draw; None makes a figure.
    directions
        Two vectors (n_parameters,), or two indices of single parameters. None takes those in which the path spreads
        most (its first two principal components), or, without a path, two random ones, scaled weight array by weight
        array to the norms of the network's own.
    path
        Parameter vectors in the order of training, (steps, n_parameters): collect ``net.parameters.copy()``.
    span
        How far the picture reaches from the middle, in lengths of the directions; with a path, how far beyond it, as a
        share of its size.
    resolution
        Points of the grid along each axis.
    seed
        Of the random directions.

    Notes
    -----
    After H. Li et al., "Visualizing the loss landscape of neural nets", NeurIPS 2018. The path's points are projected
    on the plane at right angles: the loss drawn under them is that of the plane.

    Examples
    --------
    >>> import backprop as bp
    >>> net = bp.mlp([1, 3, 1], dtype="float64", seed=0)
    >>> ax = bp.plotting.plot_loss_surface(net, [[0.0], [1.0]], [0.0, 1.0], directions=(0, 3), resolution=11)
    """
    span = check.number("span", span, above=0)
    resolution = check.integer("resolution", resolution, at_least=3)
    here = net.parameters.astype(np.float64)
    points = None
    if path is not None:
        points = check.array("path", path, np.dtype(np.float64)).astype(np.float64)
        if points.ndim != 2 or points.shape[1] != here.size or len(points) < 2:
            raise ValueError(f"path: needs at least two rows of {here.size} parameters, got shape {points.shape}")
        here = points[-1]
    names = ["along the first direction", "along the second direction"]
    if directions is None:
        one, two = _principal(points) if points is not None else _random_directions(net, seed)
    else:
        if not isinstance(directions, Sequence) or len(directions) != 2:
            raise TypeError(f"directions: needs two vectors or two indices, got {check.shown(directions)}")
        one, two = (_direction(f"directions[{k}]", d, here.size) for k, d in enumerate(directions))
        if all(isinstance(d, (int, np.integer)) for d in directions):
            names = [f"parameters[{int(d)}]" for d in directions]
    basis = np.stack([one, two], axis=1)
    if np.linalg.matrix_rank(basis) < 2:
        raise ValueError("directions: needs two that are not on one line")
    own = names[0].startswith("parameters[")
    offset = here[[int(d) for d in directions]] if own and directions is not None else np.zeros(2)

    low, high = np.full(2, -span), np.full(2, span)
    walked = None
    if points is not None:
        walked = np.linalg.lstsq(basis, (points - here).T, rcond=None)[0].T
        extent = np.maximum(np.ptp(walked, axis=0), 0.25 * np.ptp(walked, axis=0).max()) + 1e-12
        middle = (walked.min(axis=0) + walked.max(axis=0)) / 2
        low, high = middle - (0.5 + 0.35 * span) * extent, middle + (0.5 + 0.35 * span) * extent
    first, second = (np.linspace(low[d], high[d], resolution) for d in range(2))
    prepared, data = net._data(X, y, loss, None)
    heights = np.empty((resolution, resolution))
    for i, v in enumerate(second):
        for j, u in enumerate(first):
            point = (here + u * one + v * two).astype(net.dtype)
            heights[i, j] = net._core.loss_and_gradient(net._plan, prepared, point, data, None)

    ax = _axes(ax, (6.2, 4.8))
    from matplotlib.colors import LogNorm

    finite = heights[np.isfinite(heights)]
    log = finite.size and finite.min() > 0 and finite.max() > 20 * finite.min()
    settings: dict[str, Any] = {"cmap": "cividis"}
    levels: Any = 24
    if log:
        levels = np.geomspace(finite.min(), finite.max(), 25)
        settings["norm"] = LogNorm()
    surface = ax.contourf(first + offset[0], second + offset[1], heights, levels, **settings)
    bar = ax.figure.colorbar(surface, ax=ax, pad=0.02)
    bar.set_label("loss")
    if log:
        from matplotlib.ticker import LogLocator, NullFormatter

        few = finite.max() < 1000 * finite.min()
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
    if walked is not None:
        walked = walked + offset
        ax.plot(*walked.T, color="white", linewidth=3.5)
        ax.plot(*walked.T, color=VERMILION, linewidth=2, label="training")
        ax.plot(*walked[0], "o", color="white", markeredgecolor="black", markersize=8, label="start")
        ax.plot(*walked[-1], "*", color="white", markeredgecolor="black", markersize=14, label="end")
        _legend_on_colours(ax, walked)
    ax.set_xlabel(names[0])
    ax.set_ylabel(names[1])
    return ax


def _direction(name: str, value: Any, size: int) -> NDArray[np.float64]:
    """Return a direction in parameter space: a vector, or the axis of one parameter."""
    if isinstance(value, (int, np.integer)):
        result = np.zeros(size)
        result[check.integer(name, value, at_least=0, at_most=size - 1)] = 1
        return result
    return check.array(name, value, np.dtype(np.float64), (size,)).astype(np.float64)


def _principal(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the two directions in which points spread most, (2, n), of length 1."""
    _, _, directions = np.linalg.svd(points - points.mean(axis=0), full_matrices=len(points) < 3)
    two: NDArray[np.float64] = directions[:2]
    return two * np.where(two[np.arange(2), np.abs(two).argmax(axis=1)] < 0, -1, 1)[:, None]


def _random_directions(net: Network, seed: int) -> NDArray[np.float64]:
    """Return two random directions whose part for each array is as long as the array, (2, n)."""
    rng = np.random.default_rng(check.integer("seed", seed, at_least=0))
    directions = rng.normal(size=(2, net.n_parameters))
    for direction in directions:
        for pair, own in zip(net._views(direction), zip(net.weights, net.biases, strict=True), strict=True):
            for part, array in zip(pair, own, strict=True):
                if part is not None and part.size:
                    part *= np.linalg.norm(array) / np.linalg.norm(part)
    return directions


# --- descent and traces --------------------------------------------------------------------------------------------


def plot_descent(
    result: Descent,
    ax: Axes | None = None,
    *,
    span: tuple[float, float] | None = None,
    tangents: int = 6,
    resolution: int = 120,
) -> Axes:
    """Draw a descent: the curve with tangents for one variable, contours with the path for two, the values for more.

    Parameters
    ----------
    result
        What `backprop.descend` returned.
    ax
        Where to draw; None makes a figure.
    span
        From where to where the curve of one variable goes; None shows the path and a little more.
    tangents
        At how many points, from the first on, the tangent is drawn, one variable only.
    resolution
        Points of the grid along each axis.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.descend(lambda x: x**2, 2.0).plot().get_ylabel()
    'f(x)'
    """
    tangents = check.integer("tangents", tangents, at_least=0)
    resolution = check.integer("resolution", resolution, at_least=3)
    n = result.path.shape[1]
    whole = np.isfinite(result.path).all(axis=1) & np.isfinite(result.values)
    ax = _axes(ax, (6.4, 4.6))
    state = "converged" if result.converged else "diverged" if result.diverged else "not converged"
    steps = "1 step" if result.steps == 1 else f"{result.steps:,} steps"
    ax.set_title(f"{steps}, learning rate {result.learning_rate:g}: {state}", fontsize="medium")
    if n == 1:
        _plot_curve(result, ax, whole, None if span is None else _span("span", span), tangents, resolution)
    elif n == 2:
        _plot_contours(result, ax, whole, resolution)
    else:
        values = result.values[whole]
        ax.plot(values, color=BLUE, linewidth=2, marker="o" if len(values) < 30 else None)
        if values.min() > 0 and values.max() > 10 * values.min():
            _log_scale(ax, values)
        ax.set_xlabel("step")
        ax.set_ylabel("f(x)")
        _tidy(ax)
    return ax


def _plot_curve(
    result: Descent,
    ax: Axes,
    whole: NDArray[np.bool_],
    span: tuple[float, float] | None,
    tangents: int,
    resolution: int,
) -> None:
    """Draw a function of one variable, the points, and tangents at the first of them."""
    x, values, slopes = result.path[whole, 0], result.values[whole], result.gradients[whole, 0]
    if span is None:
        # A descent that has run away would flatten everything else.
        far = 10 * float(np.abs(x[1] - x[0])) if result.diverged and len(x) > 1 else np.inf
        near = np.abs(x - x[0]) <= far
        reach = float(np.ptp(x[near])) or 1.0
        span = float(x[near].min()) - 0.25 * reach, float(x[near].max()) + 0.25 * reach
    inside = (x >= span[0]) & (x <= span[1])
    grid = np.linspace(*span, 4 * resolution)
    with np.errstate(all="ignore"):
        points = grid if np.ndim(result.x) == 0 else grid[:, None]  # what f is used to
        curve = np.array([float(np.squeeze(result.function(point))) for point in points])
    ax.plot(grid, curve, color=BLUE, linewidth=2.5, label="f(x)")
    height = float(np.ptp(curve[np.isfinite(curve)])) or 1.0
    for k in range(min(tangents, len(x))):
        if inside[k]:
            # Equally long on paper, whatever the slope.
            half = 0.16 * (span[1] - span[0]) / np.hypot(1, slopes[k] * (span[1] - span[0]) / height)
            ends = np.array([x[k] - half, x[k] + half])
            line = values[k] + slopes[k] * (ends - x[k])
            ax.plot(ends, line, color=GREEN, linewidth=1.6, zorder=3, label="tangents" if k == 0 else None)
    ax.plot(x[inside], values[inside], "--", color=VERMILION, linewidth=1, zorder=3)
    ax.plot(x[inside], values[inside], "o", color=VERMILION, markersize=5, zorder=4, label="the points, from x0 on")
    ax.set_xlim(*span)
    ax.margins(y=0.08)
    ax.set_xlabel("x")
    ax.set_ylabel("f(x)")
    ax.legend(frameon=False)
    _tidy(ax)


def _plot_contours(result: Descent, ax: Axes, whole: NDArray[np.bool_], resolution: int) -> None:
    """Draw the contours of a function of two variables, and the path."""
    path = result.path[whole]
    start = path[0]
    first_step = float(np.linalg.norm(path[min(1, len(path) - 1)] - start))
    far = 10 * first_step if result.diverged else np.inf
    near = np.linalg.norm(path - start, axis=1) <= far
    path = path[near]
    reach = np.maximum(np.ptp(path, axis=0), 0.4 * np.ptp(path, axis=0).max() or 1.0)
    middle = (path.min(axis=0) + path.max(axis=0)) / 2
    axes = [np.linspace(middle[d] - 0.75 * reach[d], middle[d] + 0.75 * reach[d], resolution) for d in range(2)]
    with np.errstate(all="ignore"):
        heights = np.array([[float(np.squeeze(result.function(np.array([u, v])))) for u in axes[0]] for v in axes[1]])
    # Closer together towards the bottom, where the path ends.
    bottom, top = float(np.nanmin(heights)), float(np.nanmax(heights[np.isfinite(heights)]))
    levels = bottom + (top - bottom) * np.linspace(0, 1, 22) ** 2
    surface = ax.contourf(*axes, heights, np.unique(levels), cmap="cividis")
    ax.contour(*axes, heights, np.unique(levels), colors="white", linewidths=0.4, alpha=0.5)
    bar = ax.figure.colorbar(surface, ax=ax, pad=0.02, format="%.3g")
    bar.set_label("f(x)")
    ax.plot(*path.T, color="white", linewidth=3)
    ax.plot(*path.T, color=VERMILION, linewidth=1.5, marker="o", markersize=4, label="the points, from x0 on")
    ax.plot(*path[0], "o", color="white", markeredgecolor="black", markersize=8, label="x0")
    _legend_on_colours(ax, path)
    ax.set_xlabel("x[0]")
    ax.set_ylabel("x[1]")


def plot_trace(trace: Trace, ax: Axes | None = None, *, row: int = 0, max_units: int = 6) -> Axes:
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
    ax = _axes(ax, (3.0 * (len(sizes) + 0.35), 0.5 + 1.45 * max(tallest, 1.1)))
    from matplotlib.colors import Normalize

    largest = max(float(np.abs(layer.weights).max()) for layer in trace.layers) or 1.0
    norm, colours = Normalize(-largest, largest), _signed_colours()
    ink, paper = _ink(ax), ax.get_facecolor()
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


def _span(name: str, value: Any) -> tuple[float, float]:
    """Return a pair (from, to)."""
    if isinstance(value, str) or not isinstance(value, Iterable) or len(ends := list(value)) != 2:
        raise TypeError(f"{name}: needs a pair of numbers (from, to), got {check.shown(value)}")
    low, high = (check.number(f"{name}[{k}]", end) for k, end in enumerate(ends))
    if low >= high:
        raise ValueError(f"{name}: needs from < to, got {low:g} and {high:g}")
    return low, high
