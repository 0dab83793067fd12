"""Pictures of training, drawn by matplotlib (the extra ``plot``)."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backprop.io import write_atomically

FORMATS = (".png", ".svg", ".pdf")
BLUE = "#0072B2"  # of Okabe and Ito's palette, told apart by everyone


def check_path(path: str | os.PathLike[str]) -> None:
    """Raise unless a picture could be drawn to this file: ValueError for its ending, ImportError without matplotlib."""
    if Path(path).suffix.lower() not in FORMATS:
        raise ValueError(f"plot: needs a file name that ends in {', '.join(FORMATS)}; got {os.fspath(path)!r}")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(f"plot: needs matplotlib; install it with: pip install 'bpcore[plot]' ({error})") from error


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
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    values = np.asarray(loss, np.float64)
    figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    # A single epoch is a point: a line would not show.
    axes.plot(np.arange(1, len(values) + 1), values, color=BLUE, linewidth=2, marker="o" if len(values) == 1 else None)
    axes.set_xlim(0, 1.02 * len(values))
    axes.set_title(title, loc="left", wrap=True, parse_math=False)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if values.min() > 0 and values.max() > 10 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if values.max() < 1000 * values.min() else (1,)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format=Path(path).suffix[1:].lower())
    write_atomically(path, picture.getvalue())
