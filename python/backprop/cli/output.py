"""What the command line prints."""

from __future__ import annotations

import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.cli.defaults import MAX_CLASSES_SHOWN, METRICS
from backprop.network import Network
from backprop.tables.csv import shorten
from backprop.tables.preprocessing import Column, Labels, NumericColumn, Preprocessing, Target

Scores = dict[str, float]
Say = Callable[[str, str], None]


def measured(target: Target, outputs: NDArray[Any], truth: NDArray[Any]) -> Scores:
    """Return how well the network's outputs, (n, n_outputs), hit the encoded target."""
    if isinstance(target, Labels):
        return {"accuracy": float(np.mean(outputs.argmax(axis=1) == truth))}
    errors = outputs.astype(np.float64) - truth
    scores = {"mean_absolute_error": float(np.mean(np.abs(errors)) * target.scale)}
    spread = float(np.sum(np.square(truth - truth.mean())))
    if spread > 0:  # R² of a single row, or of equal ones, does not exist
        scores = {"r2": 1 - float(np.sum(np.square(errors))) / spread, **scores}
    return scores


def baseline_scores(target: Target, train_truth: NDArray[Any], truth: NDArray[Any]) -> tuple[str, Scores]:
    """Return how well one does without looking at the inputs."""
    outputs = np.zeros((len(truth), target.n_outputs))
    if not isinstance(target, Labels):
        return "always the mean", measured(target, outputs, truth)  # which is 0, standardised
    majority = int(np.bincount(train_truth).argmax())
    outputs[:, majority] = 1
    return f"always {target.labels[majority]!r}", measured(target, outputs, truth)


def show_scores(scores: Scores, baseline: tuple[str, Scores] | None = None) -> str:
    """Return the scores as text, perhaps beside those of the baseline."""
    text = ", ".join(f"{METRICS[name][0]} {value:{METRICS[name][1]}}" for name, value in scores.items())
    if baseline is None:
        return text
    how, theirs = baseline
    return f"{text} ({how}: {', '.join(f'{value:{METRICS[name][1]}}' for name, value in theirs.items())})"


def confusion_table(target: Labels, outputs: NDArray[Any], truth: NDArray[Any]) -> str:
    """Return how often each class was taken for which, as text."""
    counts = np.zeros((target.n_outputs, target.n_outputs), int)
    np.add.at(counts, (truth, outputs.argmax(axis=1)), 1)
    names = [textwrap.shorten(label, 16, placeholder="...") or label[:16] for label in target.labels]
    first = max(len("actual"), *map(len, names))
    widths = [max(len(name), 4) for name in names]
    lines = [" " * first + "  predicted", "  ".join(["actual".ljust(first), *map(str.rjust, names, widths)])]
    for name, row in zip(names, counts, strict=True):
        lines.append(
            "  ".join([name.ljust(first), *(str(n).rjust(width) for n, width in zip(row, widths, strict=True))])
        )
    return "\n".join(lines)


def describe_target(target: Target, labels: Sequence[str] | None = None) -> str:
    """Return what is predicted, as text."""
    if not isinstance(target, Labels):
        return f"{target.name}: regression (mean {target.center:.4g}, standard deviation {target.scale:.4g})"
    counts = Counter(labels)
    names = [f"{label} {counts[label]:,}" if counts else label for label in target.labels]
    shown = ", ".join(names[:MAX_CLASSES_SHOWN]) + (", ..." if len(names) > MAX_CLASSES_SHOWN else "")
    return f"{target.name}: classification, {target.n_outputs} classes ({shown})"


def say_left_out(say: Say, fitted: Preprocessing) -> None:
    """Print which columns were not used, and why."""
    for reason in dict.fromkeys(fitted.left_out.values()):
        names = ", ".join(name for name, why in fitted.left_out.items() if why == reason)
        say("left out", f"{names}: {reason}")


def describe_column(column: Column) -> str:
    """Return a column of the inputs, as text."""
    if isinstance(column, NumericColumn):
        how = f"numeric; mean {column.mean:.4g}, standard deviation {column.scale:.4g}, median {column.median:.4g}"
    else:
        names = shorten(category or "(missing)" for category in column.categories)
        how = f"{column.n_inputs} categories: {names}"
    return f"{column.name}: {how}"


def describe_network(network: Network) -> str:
    """Return the layers, as text."""
    layers = " -> ".join(f"{layer.units} {layer.activation}" for layer in network.layers)
    how = f"{network.n_parameters:,} parameters, {network.dtype}, backend {network.backend}"
    return f"{network.n_inputs} -> {layers}; {how}"


# --- what is printed -----------------------------------------------------------------------------------------------

_WIDTH = 100
_INDENT = 11


def print_line(label: str, text: str) -> None:
    """Print a labelled line, wrapped; a text of several lines stays as it is."""
    text = "".join(
        c if c.isprintable() or c == "\n" else "?" for c in text
    )  # a file's names are not to steer the terminal
    indent = " " * _INDENT
    if "\n" in text:
        text = label.ljust(_INDENT) + text.replace("\n", "\n" + indent).rstrip()
    else:
        text = textwrap.fill(
            text,
            _WIDTH,
            initial_indent=label.ljust(_INDENT),
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    print(text, flush=True)  # what was found is to be read while the network trains, through a pipe as well


def print_nothing(label: str, text: str) -> None:
    """Print nothing."""


def note(label: str, text: str) -> None:
    """Print a line to stderr."""
    print(f"backprop: {label}" + (f": {' '.join(text.split())}" if text else ""), file=sys.stderr)


def fail(message: str) -> int:
    """Print an error and return the exit status for it."""
    note("error", message)
    return 2


def show_warning(message: Warning | str, *details: Any, **more: Any) -> None:
    """Print a warning as one line."""
    note("warning", str(message))
