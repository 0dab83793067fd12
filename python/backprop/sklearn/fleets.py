"""Fitting many estimators together: those whose networks are of one kind are trained as one fleet.

Each ends as if it had been fitted alone, to the last bit: weights, records, stop epoch, warnings and errors.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Container, Hashable, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from backprop.base import threads
from backprop.base.fleet import (
    AVERAGED,
    DIVERGED,
    DIVERGING,
    MEMBER,
    RUNNING,
    TOLERANCE,
    FleetData,
    FleetRates,
    FleetState,
)
from backprop.base.interrupts import HeldInterrupts
from backprop.base.types import Data
from backprop.learn import pace
from backprop.learn.callbacks import Callback
from backprop.learn.callbacks.averages import only_averages
from backprop.reference.losses import Loss
from backprop.reference.optimizers import Optimizer
from backprop.sklearn.before import Before
from backprop.sklearn.descent import Descent
from backprop.sklearn.rows import fits_dense

T = TypeVar("T")

# Losses and learning rates of all members are made room for, so many numbers in one go.
_NUMBERS_AT_ONCE = 1 << 20
# What a member's record in the fleet and its `TrainingState` both have, and change with every epoch.
_COUNTERS = ("epoch", "step", "best_loss", "stale_epochs")


class Fit(NamedTuple):
    """A call of an estimator's `fit`."""

    estimator: Any
    """of the class `backprop.sklearn.perceptron.Perceptron`"""
    X: Any
    y: Any
    sample_weight: Any = None
    validation: tuple[Any, Any, Any] = (None, None, None)

    @classmethod
    def of(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Fit:
        """Return the call with these arguments."""
        return cls(estimator, X, y, sample_weight, (X_val, y_val, sample_weight_val))


def fit_together(fits: Sequence[Fit], n_threads: int | None = None) -> None:
    """Fit estimators; raises the first error that one of them raises alone."""
    together = Together(fits, n_threads)
    _raise_first(together.errors)  # of those that were refused, before any is trained
    together.train()
    _raise_first(together.finish())


def _raise_first(errors: Iterable[Exception | None]) -> None:
    for error in errors:
        if error is not None:
            raise error


class Together:
    """Fits that are carried out together, and can be looked at and given up on the way.

    n_threads: how many threads may train; None for what the estimators say.
    """

    def __init__(self, fits: Sequence[Fit], n_threads: int | None = None) -> None:
        self.fits = fits
        self.errors: list[Exception | None] = [None] * len(fits)
        self.alone = [k for k, fit in enumerate(fits) if not (can_join(fit.estimator) and fits_dense(fit.X))]
        """fits that have yet to be carried out one by one"""
        self.descents: dict[int, Descent] = {}
        for k in sorted(set(range(len(fits))) - set(self.alone)):
            estimator, *arguments = fits[k]
            try:
                with Before(estimator):
                    self.descents[k] = estimator._ready(*arguments, False)
            except Exception as error:
                self.errors[k] = error
        groups: dict[Hashable, list[int]] = defaultdict(list)
        for k, descent in self.descents.items():
            groups[kind_of(descent)].append(k)
        self.fleets = [(group, FleetDescent([self.descents[k] for k in group], n_threads)) for group in groups.values()]

    def train(self, share: float = 1.0) -> None:
        """Train up to that share of each estimator's epochs; those that cannot join the others do all of theirs."""
        with HeldInterrupts() as interrupts:
            for _, fleet in self.fleets:
                fleet.train(share, interrupts)
        for k in self.alone:
            estimator, *arguments = self.fits[k]
            try:
                estimator._fit(*arguments, incremental=False)
            except Exception as error:
                self.errors[k] = error
        self.alone = []

    def drop(self, dropped: Container[int]) -> None:
        """Train these no further."""
        for group, fleet in self.fleets:
            for position, k in enumerate(group):
                if k in dropped:
                    fleet.going[position] = False
                    self.descents[k].stopped = True

    def show(self) -> list[Exception | None]:
        """Give the estimators what their networks have learned so far; returns the error of each fit, or None."""
        return self._keep(goes_on=True)

    def _keep(self, *, goes_on: bool) -> list[Exception | None]:
        for k, descent in self.descents.items():
            learned = descent.estimator._keep(descent, goes_on=goes_on)
            try:
                descent.estimator._check_learned(learned)
            except Exception as error:
                self.errors[k] = error
        return self.errors

    def finish(self) -> list[Exception | None]:
        """Bring every fit to its end; returns the error of each, or None."""
        for _, fleet in self.fleets:
            fleet.disband()
        for descent in self.descents.values():
            descent.finish()
            descent.close()
        return self._keep(goes_on=False)


def can_join(estimator: Any) -> bool:
    """Return whether an estimator can be trained beside others: no L-BFGS, and nothing that needs Python on the way."""
    is_plain = isinstance(estimator.loss, (str, Loss)) and average_only(estimator.callbacks) and not estimator.verbose
    return is_plain and not estimator._is_full_batch()


def average_only(callbacks: Any) -> bool:
    """Return whether the callbacks of an estimator, if there are any, do nothing but average the parameters."""
    if callbacks is not None and not isinstance(callbacks, (list, tuple)):
        return False
    return all(isinstance(each, Callback) and only_averages(each) for each in callbacks or ())


def kind_of(descent: Descent) -> Hashable:
    """Return what descents that one fleet can train have in common."""
    problem = descent.problem
    return (
        id(problem.core),
        problem.parameters.dtype,
        problem.plan.n_inputs,
        tuple((layer.units, layer.activation, layer.l2 > 0, layer.dropout > 0) for layer in problem.layers),
        problem.objective.loss,
        _pattern(descent.optimizer),
        replace(descent.settings, n_threads=1),
        problem.data.sample_weight is None,
        None if problem.validation is None else problem.validation.sample_weight is None,
        problem.score is None,
    )


def _pattern(optimizer: Optimizer) -> Hashable:
    """Return what optimizers of one fleet have in common: all but numbers, and which of these are 0."""
    values = [getattr(optimizer, field.name) for field in fields(optimizer)]
    return type(optimizer), *(value > 0 if isinstance(value, float) else value for value in values)


def _once(settings: Sequence[T]) -> Sequence[T]:
    """Return the settings of all members, or one for all where they are equal."""
    return settings[:1] if all(each == settings[0] for each in settings) else settings


def _rows_of(rows: Sequence[Data]) -> FleetData:
    """Return the rows of all members; X once where all learn from the same."""
    X, targets, weights = zip(*rows, strict=True)
    if weights[0] is not None:
        return FleetData(len(rows), X, targets, weights)
    return FleetData(len(rows), X[0] if all(each is X[0] for each in X) else X, targets)


class FleetDescent:
    """Descents of one kind, trained as one fleet; each keeps its estimator's records as if it were alone."""

    def __init__(self, descents: Sequence[Descent], n_threads: int | None) -> None:
        self.descents = descents
        self.going = [True] * len(descents)
        """which members are to be trained on"""
        self.inside = [True] * len(descents)
        """whose state is the fleet's"""
        first, size = descents[0], len(descents)
        problem, slots, loss = first.problem, first.state.slots, first.problem.objective.loss
        n_averages = size * (first.averaging is not None)
        assert isinstance(loss, Loss)  # estimators with others do not join
        n_parameters = len(problem.parameters)
        self.state = FleetState(
            np.empty((size, n_parameters), slots.dtype),
            np.empty((size, *slots.shape), slots.dtype),
            np.zeros(size, MEMBER),
            np.empty((0, n_parameters), slots.dtype),
            np.empty((n_averages, n_parameters), slots.dtype),
            np.full(n_averages, AVERAGED, np.int8),
        )
        for k, descent in enumerate(descents):
            own = descent.state
            self.state.put(k, own, None)
            own.parameters, own.slots = self.state.parameters[k], self.state.slots[k]
            if n_averages:
                own.average = self.state.average[k]
            descent.move(own)
        self.has_windows = any(each.has_windows() for each in descents)
        numbers = size * (max(each.steps_per_epoch for each in descents) if self.has_windows else 1)
        self.epochs_at_once = max(1, min(_NUMBERS_AT_ONCE // numbers, *(each.epochs_at_once for each in descents)))
        self.losses = np.empty((self.epochs_at_once, size))
        self.validation_losses = None if problem.validation is None else np.empty_like(self.losses)
        validation = [each.problem.validation for each in descents if each.problem.validation is not None]
        self.run = problem.core.FleetTraining(
            problem.plan.n_inputs,
            _once([each.problem.layers for each in descents]),
            loss,
            _once([each.optimizer for each in descents]),
            replace(first.settings, n_threads=self.threads(n_threads)),
            _rows_of([each.problem.data for each in descents]),
            self.state,
            FleetRates(np.array([each.rate() for each in descents])),
            _rows_of(validation) if validation else None,
        )

    def threads(self, n_threads: int | None) -> int:
        """Return how many threads train; None for as many as the members ask for."""
        asked = [each.estimator.n_threads for each in self.descents]
        if n_threads is None and not any(isinstance(each, str) for each in asked):
            n_threads = max(map(int, asked))
        epoch = sum(6.0 * len(each.problem.parameters) * each.n_rows for each in self.descents)
        return threads.choose(n_threads, epoch, self.descents[0].problem.core.MAX_THREADS)

    def train(self, share: float, interrupts: HeldInterrupts) -> None:
        """Train until each member has done that share of its epochs, or stops."""
        ends = [math.ceil(share * each.last_epoch) for each in self.descents]
        while members := [k for k, each in enumerate(self.descents) if self.going[k] and each.state.epoch < ends[k]]:
            first = min(self.descents[k].state.epoch for k in members)
            last = min(first + self.epochs_at_once, *(ends[k] for k in members))
            self.advance([k for k in members if self.descents[k].state.epoch < last], first, last, interrupts)

    def advance(self, members: list[int], first: int, last: int, interrupts: HeldInterrupts) -> None:
        """Train these members, the least advanced of which has done `first` epochs, until all have done `last`."""
        status = self.state.members["status"]
        status[...] = TOLERANCE
        status[members] = RUNNING
        if self.has_windows:
            self.run.set_rates(self.rates(members, last))
        while members:
            while not self.run.run(first, last, pace.SLICE_SECONDS, self.losses, self.validation_losses):
                interrupts.deliver()
            interrupts.deliver()
            members = [k for k in members if self.note(k, first)]
            if members:
                self.run.set_rates(self.rates(range(len(self.descents)), last))
                status[members] = RUNNING

    def rates(self, members: Iterable[int], last: int) -> FleetRates:
        """Return the learning rates of members up to the end of an epoch, those that change by themselves as tables."""
        base = np.ones(len(self.descents))
        tables, table_of = [np.ones(1)], np.zeros(len(self.descents), np.int64)
        for k in members:
            descent = self.descents[k]
            if descent.has_windows():
                table_of[k] = len(tables)
                tables.append(descent.rates(last))
                self.state.members["position"][k] = 0
            else:
                base[k] = descent.rate()
        return FleetRates(base, tables, table_of) if self.has_windows else FleetRates(base)

    def note(self, k: int, first: int) -> bool:
        """Keep the records of a member; returns whether it was stopped only to go on at a lower learning rate."""
        descent, member = self.descents[k], self.state.members[k]
        begun = descent.state.epoch
        for name in _COUNTERS:
            setattr(descent.state, name, member[name].item())
        if descent.state.epoch > begun:
            done = slice(begun - first, descent.state.epoch - first)
            validation_losses = None if self.validation_losses is None else self.validation_losses[done, k]
            descent.record(self.losses[done, k], validation_losses)
        if member["status"] in (DIVERGED, DIVERGING):  # it comes to its end alone, from where all was finite
            self.leave(k)
            descent.start()
            descent.train()
            return False
        reductions = descent.estimator._n_reductions
        descent.stopped = descent.ends()
        self.going[k] = not descent.stopped
        member["stale_epochs"] = descent.state.stale_epochs
        return bool(descent.estimator._n_reductions > reductions)

    def disband(self) -> None:
        """Let all members go."""
        for k in range(len(self.descents)):
            if self.inside[k]:
                self.leave(k)

    def leave(self, k: int) -> None:
        """Let a member go, with what is its own."""
        descent, settings = self.descents[k], self.descents[k].settings
        state = self.state.of(k, descent.n_rows if settings.shuffle and settings.batch_size is not None else 0)
        state.parameters, state.slots, state.average = (
            array.copy() for array in (state.parameters, state.slots, state.average)
        )
        descent.move(state)
        self.going[k] = self.inside[k] = False
