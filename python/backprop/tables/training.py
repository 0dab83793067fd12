"""Training: the network of each target on the rows of a plan, its record and scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backprop.base.history import History
from backprop.network import Network
from backprop.tables import choosing, recipe, scores
from backprop.tables.preparing import Plan, fold_plans
from backprop.tables.scores import Scores
from backprop.tables.targets import Target

OnStart: TypeAlias = Callable[[Target, Network, Mapping[str, Any]], None]
MAX_KEPT_EPOCHS = 500
DIVERGED = 10.0
"""A loss that grew by this factor tells of a training that went wrong, not of one that learned little."""


def all_trained(plan: Plan, threshold: float | None, progress: Any, on_start: OnStart | None) -> dict[str, Any]:
    """Return what a `TableModel` keeps of a training, by the names of its attributes."""
    fold_scores: dict[str, list[Scores]] = {}
    for fold in fold_plans(plan):
        for name, found in _trained_once(fold, threshold, progress, None)["scores"].items():
            fold_scores.setdefault(name, []).append(found)
    whole = _trained_once(plan, threshold, progress, on_start)
    history = whole["history"]
    whole |= {"plan": plan, "preprocessing": plan.preprocessing, "fold_scores": fold_scores, "curves": curves(history)}
    return whole | {"training": summary(plan, history, whole["scores"])}


def _trained_once(plan: Plan, threshold: float | None, progress: Any, on_start: OnStart | None) -> dict[str, Any]:
    """Return networks and records of all targets, and their scores on the rows held out."""
    networks, history, measured = {}, {}, {}
    rows = plan.split.scored
    weights = scores.some_weights(plan.weight, rows)
    for target, truth in zip(plan.preprocessing.targets, plan.truths, strict=True):
        network, history[target.name] = trained(plan, target, truth, progress, on_start)
        networks[target.name], outputs = network, network.predict(plan.X[rows])
        measured[target.name] = scores.measured(target, outputs, truth[rows], weights, threshold)
    return {"networks": networks, "history": history, "scores": measured}


def trained(
    plan: Plan, target: Target, truth: NDArray[Any], progress: Any, on_start: OnStart | None = None
) -> tuple[Network, History]:
    """Return the network for a target, trained on the rows of a plan, and its record."""
    rows, watching, weight = plan.split.fit, plan.split.validation, plan.weight
    weights = None if weight is None else weight[rows]
    groups = None if plan.groups is None else plan.groups[rows]
    own = choosing.chosen(plan.settings, target, plan.X[rows], truth[rows], weights, groups)
    network = recipe.network_for(own, target, plan.preprocessing.n_inputs, len(rows))
    settings = recipe.fit_settings(own, target, len(rows), validated=bool(len(watching)))
    if on_start is not None:
        on_start(target, network, settings)
    validation: Any = None
    if len(watching):
        validation = (plan.X[watching], truth[watching], scores.some_weights(weight, watching))
    X, y = plan.X[rows], truth[rows]
    # Without the weights of classes, and with those of rows: the same measure before and after.
    before = network.evaluate(X, y, loss=settings["loss"], sample_weight=weights)["loss"]
    history = network.fit(X, y, sample_weight=weights, validation_data=validation, progress=progress, **settings)
    _check_learned(
        target, before, network.evaluate(X, y, loss=settings["loss"], sample_weight=weights)["loss"], settings
    )
    return network, history


def _check_learned(target: Target, before: float, after: float, settings: Mapping[str, Any]) -> None:
    """Raise where the training loss ended far above its start."""
    if not after <= DIVERGED * before:
        rate = settings["optimizer"].learning_rate
        raise ValueError(
            f"learning_rate: {rate:g} is too high to learn {target.name!r}: the training loss went from "
            f"{before:.4g} to {after:.4g}"
        )


def summary(plan: Plan, histories: Mapping[str, History], found_scores: Mapping[str, Scores]) -> dict[str, Any]:
    """Return what a model file tells about its training, by names for people."""
    where = "held out" if len(plan.split.held_out) else "trained on"
    first = plan.preprocessing.targets[0]
    settings = recipe.fit_settings(
        plan.settings, first, len(plan.split.fit), validated=bool(len(plan.split.validation))
    )
    found: dict[str, Any] = {
        "data": plan.name,
        "rows trained on": len(plan.split.fit),
        "rows held out": len(plan.split.held_out),
        "loss": settings["loss"],
        "optimizer": settings["optimizer"].name,
        "learning rate": settings["optimizer"].learning_rate,
        "batch size": settings["batch_size"],
    }
    if len(plan.split.validation):
        found["rows for validation"] = len(plan.split.validation)
    for name, history in histories.items():
        prefix = "" if len(histories) == 1 else f"{name}: "
        found[f"{prefix}epochs"] = history.epochs
        found[f"{prefix}final training loss"] = float(history.loss[-1])
        for score, value in found_scores[name].items():
            found[f"{prefix}{scores.NAMES[score][0]}, {where}"] = value
    return found


def curves(histories: Mapping[str, History]) -> dict[str, dict[str, list[float]]]:
    """Return the losses of the trainings, thinned out where there are many epochs."""
    return {
        name: {key: _thinned(history[key]) for key in ("loss", "val_loss") if key in list(history)}
        for name, history in histories.items()
    }


def _thinned(values: Any) -> list[float]:
    """Return at most `MAX_KEPT_EPOCHS` of the values of a curve, the first and the last one among them."""
    places = np.linspace(0, len(values) - 1, min(len(values), MAX_KEPT_EPOCHS)).round().astype(int)
    rows, _ = np.unique(places, return_counts=True)  # without counts, it would import numpy.ma
    return [float(f"{value:.6g}") for value in np.asarray(values)[rows]]
