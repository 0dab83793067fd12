"""Pictures of a descent on a function of one or two variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.plotting._style import BLUE, GREEN, VERMILION, axes_or_new, colour_bar, legend_on_colours, log_scale, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from backprop.model.records import DescentRecord


def plot_descent(
    result: DescentRecord,
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
    ax = axes_or_new(ax, (6.4, 4.6))
    state = "converged" if result.converged else "diverged" if result.diverged else "not converged"
    steps = "1 step" if result.steps == 1 else f"{result.steps:,} steps"
    how = f"learning rate {result.learning_rate:g}" if result.solver == "gradient descent" else result.solver
    ax.set_title(f"{steps}, {how}: {state}", fontsize="medium")
    if n == 1:
        _plot_curve(result, ax, whole, None if span is None else check.span("span", span), tangents, resolution)
    elif n == 2:
        _plot_contours(result, ax, whole, resolution)
    else:
        values = result.values[whole]
        ax.plot(values, color=BLUE, linewidth=2, marker="o" if len(values) < 30 else None)
        if values.min() > 0 and values.max() > 10 * values.min():
            log_scale(ax, values)
        ax.set_xlabel("step")
        ax.set_ylabel("f(x)")
        tidy(ax)
    return ax


def _plot_curve(
    result: DescentRecord,
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
    tidy(ax)


def _plot_contours(result: DescentRecord, ax: Axes, whole: NDArray[np.bool_], resolution: int) -> None:
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
    colour_bar(ax, surface, "f(x)", pad=0.02, format="%.3g")
    ax.plot(*path.T, color="white", linewidth=3)
    ax.plot(*path.T, color=VERMILION, linewidth=1.5, marker="o", markersize=4, label="the points, from x0 on")
    ax.plot(*path[0], "o", color="white", markeredgecolor="black", markersize=8, label="x0")
    legend_on_colours(ax, path)
    ax.set_xlabel("x[0]")
    ax.set_ylabel("x[1]")
