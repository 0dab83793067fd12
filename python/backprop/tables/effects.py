"""What is known of each category about the target, as one input beside those of the categories.

A large table has categories whose rows are few, and a network learns of each by itself what it does to the target.
Their smoothed log odds, or means, say it at once. The value of a training row is learned from rows of other folds, so
that no row sees its own target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.tables import recipe
from backprop.tables.encoders import CategoryInput
from backprop.tables.preprocessing import Preprocessing
from backprop.tables.reading import Values
from backprop.tables.splitting import folds
from backprop.tables.targets import Labels, Target

MIN_CATEGORIES = 20
ROWS_OF_PRIOR = 20.0  # which every category has of the overall mean
FOLDS = 5


def applies(fitted_targets: tuple[Target, ...], n_rows: int) -> bool:
    """Tell whether there are such inputs: in large tables, for one target that is a number or has two classes."""
    one = len(fitted_targets) == 1 and (not isinstance(fitted_targets[0], Labels) or fitted_targets[0].n_outputs == 2)
    return one and n_rows >= recipe.VALIDATED_ROWS


def added(
    fitted: Preprocessing, found: Mapping[str, Values], truth: NDArray[Any], rows: NDArray[np.int64], seed: int
) -> tuple[Preprocessing, dict[str, NDArray[np.float64]]]:
    """Return the preprocessing with the effects, and for each column with one its values for the training rows.

    Parameters
    ----------
    fitted
        The preprocessing without them.
    found
        The values of the columns.
    truth
        The encoded target.
    rows
        The training rows.
    seed
        Of the folds.
    """
    if not applies(fitted.targets, len(rows)):
        return fitted, {}
    inputs, values = list(fitted.inputs), {}
    labels = isinstance(fitted.targets[0], Labels)
    y = np.asarray(truth, np.float64).reshape(-1)[rows]
    for k, how in enumerate(inputs):
        if isinstance(how, CategoryInput) and len(how.categories) >= MIN_CATEGORIES:
            places = how.places(found[how.name])[rows]
            n = len(how.categories) + bool(how.rare)
            effects = _effects(places, y, n, labels)
            own = np.zeros(len(rows))
            for train, held_out in folds(len(rows), FOLDS, seed):
                own[held_out] = np.append(_effects(places[train], y[train], n, labels), 0.0)[places[held_out]]
            scale = float(own.std()) or 1.0
            inputs[k] = replace(how, effects=tuple((effects / scale).tolist()))
            values[how.name] = own / scale
    return replace(fitted, inputs=tuple(inputs)), values


def _effects(places: NDArray[np.int64], y: NDArray[np.float64], n: int, labels: bool) -> NDArray[np.float64]:
    """Return the effect of each category: its smoothed log odds, or mean, beside those of all rows."""
    there = places >= 0
    counts = np.bincount(places[there], minlength=n)
    overall = float(y.mean())
    means = (np.bincount(places[there], y[there], n) + ROWS_OF_PRIOR * overall) / (counts + ROWS_OF_PRIOR)
    if not labels:
        return means - overall
    low = 1 / (len(y) + 1)
    p, q = np.clip(means, low, 1 - low), min(max(overall, low), 1 - low)
    odds: NDArray[np.float64] = np.log(p / (1 - p)) - np.log(q / (1 - q))
    return odds
