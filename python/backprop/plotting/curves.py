"""Pictures of training: losses and metrics over the epochs."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backprop.base import checks as check
from backprop.base.atomic import write_atomically
from backprop.model.rows import opened
from backprop.plotting._style import (
    COLOURS,
    DASHES,
    FORMATS,
    GREY,
    axes_or_new,
    log_scale,
    no_right_axis,
    require,
    right_axis,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from backprop.base.history import History
    from backprop.model.model import Model
    from backprop.model.records import RangeRecord
    from backprop.reference.losses import Loss
    from backprop.reference.optimizers import Optimizer


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
    for name, way in (("history", "history"), ("loss_curve_", "loss_curve_"), ("of", "of(k)")):
        if hasattr(history, name):
            raise TypeError(f"history: needs losses over epochs, got {check.shown(history)}; give its .{way}")
    series = history if isinstance(history, Mapping) else {"loss": history}
    shown = [name for name in series if "loss" in name or name == "learning_rate"]
    curves = {name: check.curve("history", series[name]) for name in shown}
    losses = {name: values for name, values in curves.items() if "loss" in name and values.size}
    if not losses:
        raise ValueError(f"history: needs at least one epoch with a loss, got {check.shown(history)}")
    ax = axes_or_new(ax)
    is_new = not ax.has_data()
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
        log_scale(ax, together)
    tidy(ax)
    rate = curves.get("learning_rate")
    if rate is not None and rate.size:
        right = right_axis(ax, is_new)
        right.plot(np.arange(1, len(rate) + 1), rate, color=GREY, linestyle=":", linewidth=2, label="learning rate")
        right.set_ylabel("learning rate")
        right.spines[["top"]].set_visible(False)
        right.set_ylim(bottom=0)
        lines = [*ax.get_lines(), *right.get_lines()]
        ax.legend(lines, [str(line.get_label()) for line in lines], frameon=False)
    else:
        if is_new:
            no_right_axis(ax)
        if len(losses) > 1:
            ax.legend(frameon=False)
    return ax


def check_path(path: str | os.PathLike[str]) -> None:
    """Raise unless a picture could be drawn to this file: ValueError for its ending, ImportError without matplotlib."""
    if Path(path).suffix.lower() not in FORMATS:
        raise ValueError(f"plot: needs a file name that ends in {', '.join(FORMATS)}; got {os.fspath(path)!r}")
    require("matplotlib.figure")


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
    net: Model,
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

    from backprop.learn.fit import fit

    X, _ = opened(net, "X", X)
    ax = axes_or_new(ax)
    everything: list[float] = []
    for k, batch_size in enumerate(batch_sizes):
        own = copy.deepcopy(net)
        losses = [own.loss(X, y, loss)]
        for _ in range(epochs):
            settings = {"optimizer": optimizer, "epochs": 1, "batch_size": batch_size, "progress": False}
            fit(own, X, y, settings, loss=loss)
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
        log_scale(ax, values)
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlim(0, epochs)
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss over all rows")
    ax.legend(frameon=False)
    tidy(ax)
    return ax


def plot_range_test(test: RangeRecord, ax: Axes | None = None) -> Axes:
    """Draw a learning-rate range test: each step's loss and their moving average over the rates, and the suggestion.

    Parameters
    ----------
    test
        What `backprop.find_learning_rate` returned.
    ax
        Where to draw; None makes a figure.

    Returns
    -------
    Axes
        With a logarithmic axis of rates. Losses far above where the test began are left out.

    Examples
    --------
    >>> import numpy as np
    >>> import backprop as bp
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> bp.find_learning_rate(bp.mlp([1, 4, 1], seed=0), X, X**2).plot().get_xlabel()
    'learning rate'
    """
    ax = axes_or_new(ax)
    low, smoothed = float(test.losses.min()), test.smoothed
    ax.plot(test.rates, test.losses, ".", color=GREY, markersize=4, label="loss of a batch")
    ax.plot(test.rates, smoothed, color=COLOURS[0], linewidth=2, label="smoothed")
    text = f"suggestion {test.suggestion:.2g}"
    ax.axvline(test.suggestion, color=COLOURS[1], linestyle="--", linewidth=2, label=text)
    ax.set_xscale("log")
    # What explodes in the end would press the rest flat.
    high = max(float(np.quantile(test.losses, 0.8)), float(smoothed[: int(smoothed.argmin()) + 1].max()))
    margin = 0.1 * (high - low)
    if high > low:
        ax.set_ylim(low - margin, high + 3 * margin)
    ax.set_xlabel("learning rate")
    ax.set_ylabel("loss")
    ax.legend(frameon=False)
    tidy(ax)
    return ax
