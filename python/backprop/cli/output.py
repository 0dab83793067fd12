"""What the command line prints."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.network import Network
from backprop.tables import scores
from backprop.tables.columns import Column
from backprop.tables.encoders import BooleanInput, CategoryInput, DateInput, Input, NumberInput
from backprop.tables.preparing import Plan
from backprop.tables.preprocessing import Preprocessing
from backprop.tables.table import shorten
from backprop.tables.targets import Labels, Target

Say = Callable[[str, str], None]

MAX_CLASSES_SHOWN = 12
MAX_COLUMNS_SHOWN = 40


def confusion_table(target: Labels, predicted: NDArray[Any], truth: NDArray[Any]) -> str:
    """Return how often each class was taken for which, as text."""
    counts = scores.confusion(target, predicted, truth)
    names = [textwrap.shorten(label, 16, placeholder="...") or label[:16] for label in target.labels]
    first = max(len("actual"), *map(len, names))
    widths = [max(len(name), 4) for name in names]
    lines = [" " * first + "  predicted", "  ".join(["actual".ljust(first), *map(str.rjust, names, widths)])]
    for name, row in zip(names, counts, strict=True):
        lines.append(
            "  ".join([name.ljust(first), *(str(n).rjust(width) for n, width in zip(row, widths, strict=True))])
        )
    return "\n".join(lines)


def describe_target(target: Target, counts: Mapping[str, int] | None = None) -> str:
    """Return what is predicted, as text."""
    if not isinstance(target, Labels):
        return f"{target.name}: regression (mean {target.center:.4g}, standard deviation {target.scale:.4g})"
    names = [f"{label} {counts[label]:,}" if counts else label for label in target.labels]
    shown = ", ".join(names[:MAX_CLASSES_SHOWN]) + (", ..." if len(names) > MAX_CLASSES_SHOWN else "")
    return f"{target.name}: classification, {target.n_outputs} classes ({shown})"


def describe_columns(fitted: Preprocessing) -> str:
    """Return what the columns mean, by which rule, and what becomes of them: one line each."""
    pairs = list(zip(fitted.columns, fitted.inputs, strict=True))
    lines = [describe_column(column, how) for column, how in pairs[:MAX_COLUMNS_SHOWN]]
    if len(pairs) > MAX_COLUMNS_SHOWN:
        lines.append(f"... ({len(pairs):,} in all)")
    return "\n".join(lines)


def describe_column(column: Column, how: Input) -> str:
    """Return a column of the inputs, as text."""
    if isinstance(how, NumberInput):
        text = f"mean {how.center:.4g}, standard deviation {how.scale:.4g}, median {how.fill:.4g}"
        if how.bounded:
            text = f"median {how.center:.4g}, scale {how.scale:.4g}, softly bounded"
        text += "; an input tells where it is missing" if how.tells_missing else ""
    elif isinstance(how, BooleanInput):
        text = "1 and -1"
    elif isinstance(how, CategoryInput):
        names = shorten([*how.categories, *(["(missing)"] if how.tells_missing else [])], 8)
        text = f"{len(how.inputs)} categories: {names}" + (
            f"; {len(how.rare):,} rare ones share one" if how.rare else ""
        )
    else:
        assert isinstance(how, DateInput)
        text = ", ".join({"elapsed": "elapsed time"}.get(part, part) for part in how.parts)
    why = f" ({column.why})" if column.why and column.why not in ("numbers", "yes and no") else ""
    return f"{column.name}: {column.meaning}{why}; {text}"


def say_left_out(say: Say, fitted: Preprocessing) -> None:
    """Print which columns were not used, and why."""
    for reason in dict.fromkeys(fitted.left_out.values()):
        names = ", ".join(name for name, why in fitted.left_out.items() if why == reason)
        say("left out", f"{names}: {reason}")


def describe_missing(plan: Plan) -> list[str]:
    """Return what was done about missing cells, as lines."""
    treatments: dict[str, list[str]] = {}
    for how in plan.preprocessing.inputs:
        if n := plan.missing.get(how.name):
            what = {"number": "taken as the median of the training rows", "category": "a category"}
            treatments.setdefault(what.get(how.kind, "taken as neither"), []).append(f"{how.name} {n:,}")
    return [f"{', '.join(names)}: {treatment}" for treatment, names in treatments.items()]


def describe_network(network: Network) -> str:
    """Return the layers, as text."""
    layers = " -> ".join(f"{layer.units} {layer.activation}" for layer in network.layers)
    how = f"{network.n_parameters:,} parameters, {network.dtype}, backend {network.backend}"
    return f"{network.n_inputs} -> {layers}; {how}"


def describe_training(network: Network, settings: Mapping[str, Any], n_validation: int) -> str:
    """Return the arguments of a training, as text."""
    up_to = "up to " if settings["tolerance"] is not None or settings["callbacks"] else ""
    optimizer = settings["optimizer"]
    falling = " and falling" if settings["schedule"] is not None else ""
    watched = f", the best one on {n_validation:,} validation rows" if n_validation else ""
    return (
        f"{settings['loss']} + l2 {network.layers[-1].l2:.3g}, {optimizer.name}, "
        f"learning rate {optimizer.learning_rate:g}{falling}, batches of {settings['batch_size']:,}, "
        f"{up_to}{settings['epochs']:,} epochs{watched}"
    )


def describe_folds(found: list[scores.Scores]) -> str:
    """Return the scores of a cross-validation as mean and standard deviation over the folds."""
    texts = []
    for name in dict.fromkeys(name for each in found for name in each):
        values = np.array([each[name] for each in found if name in each])
        what, form = scores.NAMES[name]
        texts.append(f"{what} {values.mean():{form}} ± {values.std():{form}}")
    return f"{len(found)} folds: {', '.join(texts)}"


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
