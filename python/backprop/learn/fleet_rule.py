"""The stop rule that the core applies to each member, and what is done where it fires."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base.fleet import FleetState
from backprop.learn.callbacks import EarlyStopping, Plateau, ReduceLROnPlateau


def acts_in_arrays(rule: Plateau) -> bool:
    """Whether `stopped_by` knows what the rule does, for all members at once."""
    return type(rule) in (EarlyStopping, ReduceLROnPlateau)


def stopped_by(
    rule: Plateau, state: FleetState, rows: NDArray[np.int64], rates: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Do what the rule does for members without progress; return which of them stop.

    rates: the learning rates of their last steps.
    """
    state.members["stale_epochs"][rows] = 0
    if isinstance(rule, EarlyStopping):
        return np.ones(len(rows), np.bool_)
    assert isinstance(rule, ReduceLROnPlateau)
    stops = np.zeros(len(rows), np.bool_) if rule.stop_rate is None else rates <= rule.stop_rate
    lowered = ~stops & (rates > rule.min_rate)
    low = rows[lowered]
    state.members["stale_epochs"][low] = -rule.cooldown
    state.members["rate_scale"][low] *= np.maximum(rule.factor, rule.min_rate / rates[lowered])
    return stops


def report(rule: Plateau, state: FleetState, row: int) -> None:
    """Tell one member's rule what the core has found to be the best."""
    record = state.members[row]
    if record["best_epoch"]:
        rule.best, rule.best_epoch = record["best_loss"].item(), record["best_epoch"].item()
        rule.stale_epochs = record["stale_epochs"].item()
        if rule.keeps_best:
            rule.best_parameters = state.best_parameters[row]


def of_member(rule: Plateau, state: FleetState, row: int) -> Plateau:
    """Return the rule as one member has it."""
    own = copy.copy(rule)
    own.forget()
    report(own, state, row)
    return own


def report_all(rule: Plateau, state: FleetState, members: NDArray[np.int64], size: int) -> None:
    """Let the user's object have arrays (size,) of what the core has found."""
    own: Any = rule
    for name, dtype, none in (("best", np.float64, math.inf), ("best_epoch", np.int64, 0)):
        values = getattr(own, name)
        if not (isinstance(values, np.ndarray) and len(values) == size):
            values = np.full(size, none, dtype)
            setattr(own, name, values)
    found = state.members["best_epoch"] > 0
    own.best[members] = np.where(found, state.members["best_loss"], math.inf)
    own.best_epoch[members] = np.where(found, state.members["best_epoch"], 0)
