"""Colours, axes and legends, which all pictures share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg", ".pdf")
BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
GREY = "#8C8C8C"
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 1)))


def require(module: str = "matplotlib.pyplot", extra: str = "plot") -> Any:
    """Import what draws, or say what to install."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = {"sklearn": "scikit-learn"}.get(package := module.partition(".")[0], package)
        raise ImportError(f"plot: needs {name}; install it with: pip install 'bpcore[{extra}]' ({error})") from error


def axes_or_new(ax: Axes | None, size: tuple[float, float] = (6.4, 4.4)) -> Axes:
    """Return the Axes given, or that of a new figure."""
    plt = require()
    if ax is None:
        return plt.subplots(figsize=size, layout="constrained")[1]  # type: ignore[no-any-return]
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise TypeError(f"ax: needs a matplotlib Axes or None, got {check.shown(ax)}")
    return ax


Beside: TypeAlias = WeakKeyDictionary[Any, ref[Any]]
_BARS: Beside = WeakKeyDictionary()
_RIGHT: Beside = WeakKeyDictionary()
"""The colour bar and the right axis that belong to an Axes, so that drawing again uses them again"""


def _beside(ax: Axes, known: Beside) -> Any:
    """Return what stands beside an Axes since the last time; None where there is nothing, or not any more."""
    found = known[ax]() if ax in known else None
    return found if found in ax.figure.axes else None


def colour_bar(ax: Axes, colours: Any, label: str, **settings: Any) -> Any:
    """Draw a colour bar beside an Axes, in the place of that from the last time."""
    place = _beside(ax, _BARS)
    if place is None:
        bar: Any = ax.figure.colorbar(colours, ax=ax, **settings)
        _BARS[ax] = ref(bar.ax)
    else:
        place.clear()
        place.set_axes_locator(None)  # each bar puts its own around the one that it finds
        place.set_visible(True)
        bar = ax.figure.colorbar(colours, cax=place, format=settings.get("format"))
    bar.set_label(label)
    return bar


def no_colour_bar(ax: Axes) -> None:
    """Hide the colour bar from the last time; its place is kept."""
    if (place := _beside(ax, _BARS)) is not None:
        place.set_visible(False)


def right_axis(ax: Axes, is_new: bool) -> Axes:
    """Return the Axes with the right vertical axis: that from the last time, unless what it belonged to is gone."""
    if is_new:
        no_right_axis(ax)
    right: Axes | None = _beside(ax, _RIGHT)
    if right is None:
        right = ax.twinx()
        _RIGHT[ax] = ref(right)
    return right


def no_right_axis(ax: Axes) -> None:
    """Take away the right axis from the last time."""
    if (right := _beside(ax, _RIGHT)) is not None:
        right.remove()


def tidy(ax: Axes, *, grid: bool = True) -> None:
    """Take away what does not carry information."""
    ax.spines[["top", "right"]].set_visible(False)
    if grid:
        ax.grid(alpha=0.3)


def text_colour(ax: Axes) -> Any:
    """Return the colour of the text, dark or light as the style has it."""
    return ax.xaxis.label.get_color()


def signed_colours() -> Any:
    """Return colours from vermilion (negative) over grey (0) to blue (positive), visible on black and on white."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("backprop", [VERMILION, "#B0A8A0", BLUE])


def emptiest_corner(ax: Axes, points: NDArray[Any]) -> Any:
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


def legend_on_colours(ax: Axes, points: NDArray[np.float64]) -> None:
    """Put a legend that can be read on any colour where it hides the fewest of the points."""
    legend = ax.legend(loc=emptiest_corner(ax, points), facecolor="#404040", edgecolor="none", framealpha=0.85)
    for text in legend.get_texts():
        text.set_color("white")


def log_scale(ax: Axes, values: NDArray[np.float64]) -> None:
    """Make the vertical axis logarithmic, with labels that can be read."""
    from matplotlib.ticker import LogLocator, NullFormatter

    ax.set_yscale("log")
    positive = values[values > 0]
    few = positive.size and positive.max() < 1000 * positive.min()
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
