"""The penalty for a small table, chosen by cross-validation: all candidates on all folds are one fleet.

How smooth a function is and how noisy its values are cannot be seen from a table's shape, and no single penalty suits
both a law of nature and a hundred patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.tables import recipe
from backprop.tables.recipe import Settings
from backprop.tables.splitting import folds
from backprop.tables.targets import Labels, Target

CANDIDATES = ((None, None), ("silu", 0.01), ("silu", 0.002))
"""Activation and penalty; None: as `recipe` has it."""
FOLDS = 4
MIN_ROWS = {"regression": recipe.MIN_ROWS_TO_SPLIT, "classification": 200}
SMALLEST = 1e-7  # a probability


def chosen(settings: Settings, target: Target, X: NDArray[Any], y: NDArray[Any], weight: Any, groups: Any) -> Settings:
    """Return settings with the activation and the penalty that did best on held-out training rows.

    Only for fewer than `recipe.VALIDATED_ROWS` rows, at least `MIN_ROWS`, and where the user has set neither of them.
    """
    free = settings.l2 is None and settings.activation is None and settings.hidden is None and settings.loss is None
    few = MIN_ROWS[target.task] <= len(X) < recipe.VALIDATED_ROWS
    if not (free and few) or settings.tolerance is not None:
        return settings
    candidates = [replace(settings, activation=activation, l2=l2) for activation, l2 in CANDIDATES]
    errors = _errors(candidates, target, X, y, weight, groups)
    return candidates[int(np.argmin(errors))]


def _errors(
    candidates: Sequence[Settings], target: Target, X: NDArray[Any], y: NDArray[Any], weight: Any, groups: Any
) -> NDArray[np.float64]:
    """Return the squared error of each candidate over the rows of all folds."""
    shares = [(train, rows) for train, rows in folds(len(X), FOLDS, candidates[0].seed, groups=groups) if len(rows)]
    from backprop.fleet import Fleet

    members = [(candidate, train) for candidate in candidates for train, _ in shares]
    fleet = Fleet.of([recipe.network_for(each, target, X.shape[1], len(train)) for each, train in members])
    settings = recipe.fit_settings(candidates[0], target, min(len(train) for train, _ in shares), validated=False)
    kept = {name: settings[name] for name in ("loss", "optimizer", "epochs", "batch_size", "n_threads")}
    fleet.fit(
        [X[train] for _, train in members], [y[train] for _, train in members],
        sample_weight=None if weight is None else [weight[train] for _, train in members], progress=False, **kept,
    )  # fmt: skip
    errors = np.zeros(len(candidates))
    for k in range(len(members)):
        rows = shares[k % len(shares)][1]
        outputs = fleet[k].predict(X[rows]).astype(np.float64)
        if isinstance(target, Labels):
            missed = -np.log(np.maximum(outputs[np.arange(len(rows)), y[rows]], SMALLEST))
        else:
            missed = np.square(outputs - y[rows])[:, 0]
        errors[k // len(shares)] += float(missed.sum() if weight is None else (missed * weight[rows]).sum())
    return np.where(np.isfinite(errors), errors, np.inf)
