"""Pictures of what a network has learned and of the loss around its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backprop.base import checks as check
from backprop.model.rows import opened
from backprop.plotting._style import (
    BLUE,
    COLOURS,
    VERMILION,
    axes_or_new,
    colour_bar,
    emptiest_corner,
    legend_on_colours,
    no_colour_bar,
    require,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from backprop.model.model import Model
    from backprop.reference.losses import Loss


def plot_decision_boundary(
    net: Model,
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
    X, columns = opened(net, "X", X)
    rows = check.features("X", X, np.dtype(np.float64), 2)
    labels = None
    if y is not None:
        labels = check.array("y", y, np.dtype(np.float64))
        if labels.ndim not in (1, 2) or len(labels) != len(rows) or not labels.size:
            raise ValueError(f"y: needs one class for each of the {len(rows)} rows of X, got shape {labels.shape}")
        labels = labels.reshape(len(rows), -1)
        labels = labels.argmax(axis=1) if labels.shape[1] > 1 else labels[:, 0]
        labels = (labels > level).astype(int) if net.n_outputs == 1 else labels.astype(int)
    display = require("sklearn.inspection", "sklearn").DecisionBoundaryDisplay
    ax = axes_or_new(ax, (5.6, 4.6))
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
        colour_bar(ax, shown.surface_, "output of the network", pad=0.02)
        if shown.response.min() < level < shown.response.max():
            ax.contour(shown.xx0, shown.xx1, shown.response, [level], colors="black", linewidths=2)
        palette: tuple[str, ...] = (BLUE, VERMILION)
    else:
        no_colour_bar(ax)
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
        _scatter(ax, rows, labels, palette)
    names = columns or ("x[0]", "x[1]")
    ax.set_xlabel(names[0])
    ax.set_ylabel(names[1])
    return ax


def _scatter(ax: Axes, rows: NDArray[Any], labels: NDArray[Any], palette: tuple[str, ...]) -> None:
    """Draw the rows, with a colour and a marker for each class."""
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
    ax.legend(loc=emptiest_corner(ax, rows), framealpha=0.85)


def _estimator(net: Model, classes: NDArray[Any] | None) -> Any:
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
    net: Model,
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

    ax = axes_or_new(ax, (6.2, 4.8))
    _draw_surface(ax, first + offset[0], second + offset[1], heights)
    if walked is not None:
        _draw_path(ax, walked + offset)
    ax.set_xlabel(names[0])
    ax.set_ylabel(names[1])
    return ax


def _draw_surface(ax: Axes, x: NDArray[Any], y: NDArray[Any], heights: NDArray[Any]) -> None:
    """Draw the heights over a grid in colours, on a logarithmic scale where they span much."""
    from matplotlib.colors import LogNorm

    finite = heights[np.isfinite(heights)]
    log = finite.size and finite.min() > 0 and finite.max() > 20 * finite.min()
    settings: dict[str, Any] = {"cmap": "cividis"}
    levels: Any = 24
    if log:
        levels = np.geomspace(finite.min(), finite.max(), 25)
        settings["norm"] = LogNorm()
    surface = ax.contourf(x, y, heights, levels, **settings)
    bar = colour_bar(ax, surface, "loss", pad=0.02)
    if log:
        from matplotlib.ticker import LogLocator, NullFormatter

        few = finite.max() < 1000 * finite.min()
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.yaxis.set_minor_formatter(NullFormatter())


def _draw_path(ax: Axes, walked: NDArray[Any]) -> None:
    """Draw the way that training took, (n, 2)."""
    ax.plot(*walked.T, color="white", linewidth=3.5)
    ax.plot(*walked.T, color=VERMILION, linewidth=2, label="training")
    ax.plot(*walked[0], "o", color="white", markeredgecolor="black", markersize=8, label="start")
    ax.plot(*walked[-1], "*", color="white", markeredgecolor="black", markersize=14, label="end")
    legend_on_colours(ax, walked)


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


def _random_directions(net: Model, seed: int) -> NDArray[np.float64]:
    """Return two random directions whose part for each array is as long as the array, (2, n)."""
    rng = np.random.default_rng(check.integer("seed", seed, at_least=0))
    directions = rng.normal(size=(2, net.n_parameters))
    for direction in directions:
        for array in net._layout:
            part = array.of(direction)
            part *= np.linalg.norm(array.of(net.parameters)) / np.linalg.norm(part)
    return directions
