"""A fleet in the core has the bits of its members trained one by one through `Training`, in the lanes and out of them.

Every case draws what the fleet is made of from the registries: shapes, activations, losses, optimizers, penalties,
dropout, weights, unequal rows, validation, stop rules, schedules; members with settings of their own; calls cut into
slices of no time, and runs taken up by another object in between.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from backends import COMPILED, each_compiled, each_dtype, module
from backprop.base import random as words
from backprop.base.fleet import AVERAGED, DIVERGED, MEMBER, FleetData, FleetRates, FleetState
from backprop.base.types import Average, TrainingSettings, new_parameters
from backprop.layers import Dense
from backprop.losses import LOSSES, Tweedie
from backprop.optimizers import OPTIMIZERS
from backprop.reference.activations import ACTIVATIONS
from backprop.reference.fleet import FleetLoop
from backprop.reference.layout import parameter_count

N_CASES = 40  # each activation, loss and optimizer twice or more often
WIDTHS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 20, 33)
SPECIAL = ("softmax", "prelu")  # which small batches leave to the general pass
NUMBERS = ("random", "step", "epoch", "cursor", "best_loss", "best_epoch", "stale_epochs", "position")


@dataclass
class Case:
    """What a fleet is trained on."""

    n_inputs: int
    layers: list[tuple[Dense, ...]]
    loss: Any
    optimizers: list[Any]
    settings: TrainingSettings
    data: FleetData
    validation: FleetData | None
    rates: FleetRates
    epochs: int

    def arguments(self, state):
        return (self.n_inputs, self.layers, self.loss, self.optimizers, self.settings, self.data, state, self.rates)


def pick(rng, choices):
    return choices[int(rng.integers(len(choices)))]


def take_turns(registry, seed):
    """Every name comes up among the cases."""
    return list(registry.values())[seed % len(registry)]


def draw_layers(rng, size, loss, seed):
    """The layers of each member, or one for all; which settings are 0 is the same in all of them."""
    n_layers = pick(rng, (1, 2, 2, 2, 3, 3))
    hidden = (
        list(ACTIVATIONS) if rng.random() < 0.4 else [name for name in ACTIVATIONS if name not in ("softmax", "prelu")]
    )
    activations = [pick(rng, hidden) for _ in range(n_layers - 1)] + [pick(rng, loss.outputs or list(ACTIVATIONS))]
    if n_layers > 1:
        activations[0] = list(ACTIVATIONS)[seed % len(ACTIVATIONS)]
    widths = [pick(rng, WIDTHS) for _ in range(n_layers)]
    widths[-1] = max(2, widths[-1]) if activations[-1] == "softmax" else min(9, widths[-1])
    drops, penalised, own = rng.random() < 0.25, rng.random() < 0.3, rng.random() < 0.5
    common = [
        {"bias": rng.random() < 0.8, "trainable": rng.random() < 0.9, "bias_trainable": rng.random() < 0.9,
         "max_norm": 1.5 if rng.random() < 0.2 else None}
        for _ in range(n_layers)
    ]  # fmt: skip

    def of_member():
        return tuple(
            Dense(
                widths[k],
                activations[k],
                l1=0.01 * rng.random() if penalised and k % 2 == 0 else 0.0,
                l2=0.1 * rng.random() if penalised else 0.0,
                dropout=0.1 + 0.5 * rng.random() if drops and k < n_layers - 1 and k % 2 == 0 else 0.0,
                **common[k],
            )
            for k in range(n_layers)
        )

    return [of_member() for _ in range(size if own else 1)]


def draw_optimizers(rng, size, seed):
    kind = take_turns(OPTIMIZERS, seed)
    sgd = kind is OPTIMIZERS["sgd"]
    nesterov, momentum, decay = rng.random() < 0.5, sgd and rng.random() < 0.6, rng.random() < 0.5

    def of_member():
        settings = {"momentum": 0.5 + 0.4 * rng.random(), "nesterov": nesterov} if momentum else {}
        if kind.name in ("adam", "adamw", "nadam", "radam"):
            settings = {"beta_1": 0.8 + 0.1 * rng.random(), "weight_decay": 0.01 if decay else 0.0}
        return kind(learning_rate=0.01, **settings)

    return [of_member() for _ in range(size if rng.random() < 0.5 else 1)]


def draw_targets(rng, loss, n, n_outputs, labels, dtype):
    if labels:
        return rng.integers(0, n_outputs, n)
    if not loss.elementwise:
        shares = rng.random((n, n_outputs))
        return (shares / shares.sum(axis=1, keepdims=True)).astype(dtype)
    if loss.target_values is not None:
        return rng.choice(loss.target_values, (n, n_outputs)).astype(dtype)
    low, high = loss.target_range
    numbers = rng.random((n, n_outputs)) if high == 1 else rng.gamma(1.0, 1.0, (n, n_outputs)) if low >= 0 else (
        rng.normal(size=(n, n_outputs))
    )  # fmt: skip
    return (numbers + (0.1 if loss.targets_above else 0)).astype(dtype)


def draw_rows(rng, size, n_rows, loss, layers, n_inputs, labels, dtype, form):
    """Rows for each member: of their own, stacked where they are as many, or shared."""
    X = [rng.normal(size=(n, n_inputs)).astype(dtype) for n in n_rows]
    targets = [draw_targets(rng, loss, n, layers[-1].units, labels, dtype) for n in n_rows]
    weights = [rng.random(n).astype(dtype) for n in n_rows] if rng.random() < 0.3 else None
    if form == "shared":
        return FleetData(size, X[0], targets[0], None if weights is None else weights[0])
    if form == "stacked":
        return FleetData(size, np.stack(X), np.stack(targets), None if weights is None else np.stack(weights))
    return FleetData(size, X, targets, weights)


def draw_case(seed, dtype):
    rng = np.random.default_rng(seed)
    size, n_inputs = pick(rng, (1, 5, 16, 17, 35, 40)), pick(rng, (1, 2, 3, 4, 8, 9, 17, 33))
    kind = take_turns(LOSSES, seed)
    loss = kind(power=1.5) if kind is Tweedie else kind(reduction=pick(rng, ("mean", "sum")))
    layers, optimizers = draw_layers(rng, size, loss, seed), draw_optimizers(rng, size, seed)
    most = pick(rng, (1, 2, 4, 7, 16, 33, 100, 300, 700))
    form = pick(rng, ("own", "own", "stacked", "shared"))
    n_rows = rng.integers(1, most + 1, size).tolist() if form == "own" else [most] * size
    labels = not loss.elementwise and rng.random() < 0.5
    draw = (loss, layers[0], n_inputs, labels, dtype, form)
    data = draw_rows(rng, size, n_rows, *draw)
    validation = None
    if rng.random() < 0.4:
        n_validation = rng.integers(1, 60, size).tolist() if form == "own" else [pick(rng, (1, 5, 40, 400))] * size
        validation = draw_rows(rng, size, n_validation, *draw)
    batch_size = pick(rng, (None, 1, 2, 3, 5, 8, 32, 64, 500))
    settings = TrainingSettings(
        batch_size=32 if most > 100 and batch_size in (1, 2, 3) else batch_size,
        shuffle=rng.random() < 0.8,
        clip_norm=1.0 if rng.random() < 0.2 else None,
        clip_value=0.1 if rng.random() < 0.2 else None,
        penalty_per_row=rng.random() < 0.3,
        monitor="val_loss" if validation is not None and rng.random() < 0.5 else "loss",
        tolerance=pick(rng, (0.0, 1e-3, 0.1)) if rng.random() < 0.4 else None,
        equal_is_progress=rng.random() < 0.2,
        patience=int(rng.integers(1, 3)),
        keep_best=rng.random() < 0.3,
        n_threads=int(rng.integers(1, 4)),
    )
    rates = FleetRates(rng.random(size) * 0.05)
    if rng.random() < 0.3:
        tables = [np.linspace(1.0, 0.1, int(rng.integers(1, 9))) for _ in range(2)]
        rates = FleetRates(rates.base, tables, rng.integers(0, 2, size))
    epochs = int(rng.integers(1, 5))
    if rng.random() < 0.4:
        decay, every = pick(rng, (None, 0.5, 0.9)), pick(rng, (None, 1, 2, 5))
        average = Average(decay=decay, start=int(rng.integers(0, 3)), every=every, measured=rng.random() < 0.7)
        settings = replace(settings, average=average)
    if most <= 33 and (batch_size is None or batch_size >= most):  # steps that repeat, past several copies of members
        epochs *= 50
    return Case(n_inputs, layers, loss, optimizers, settings, data, validation, rates, epochs)


def draw_state(seed, case, dtype):
    rng = np.random.default_rng(seed)
    size, n = case.data.size, parameter_count(case.n_inputs, case.layers[0])
    parameters = new_parameters(size * n, np.dtype(dtype)).reshape(size, n)
    parameters[...] = rng.normal(size=(size, n)) / 2
    slots = np.zeros((size, case.optimizers[0].n_slots, n), dtype)
    best = parameters.copy() if case.settings.keep_best else np.empty((0, n), dtype)
    average = parameters.copy() if case.settings.average is not None else np.empty((0, n), dtype)
    averaged = np.full(len(average), AVERAGED, np.int8)
    state = FleetState(parameters, slots, np.zeros(size, MEMBER), best, average, averaged)
    state.members["random"] = [words.words(np.random.PCG64(seed * 100 + k)) for k in range(size)]
    state.members["best_loss"], state.members["rate_scale"] = np.inf, 1.0
    return state


class Run:
    """A fleet's training, by the core's fleet or one by one."""

    def __init__(self, case, core, state):
        self.case, self.core, self.state = case, core, state
        self.losses = np.full((case.epochs, case.data.size), np.nan)
        self.validation_losses = None if case.validation is None else self.losses.copy()

    def fleet(self, in_lanes):
        return self.core.FleetTraining(*self.case.arguments(self.state), self.case.validation, in_lanes=in_lanes)

    def train(self, training, seconds):
        return training.run(0, self.case.epochs, seconds, self.losses, self.validation_losses)

    def loop(self):
        case = self.case

        def make(k, state, learning_rates):
            layers = case.layers[k % len(case.layers)]
            validation = None if case.validation is None else case.validation.of(k)
            rest = (case.settings, case.data.of(k), state, learning_rates, validation)
            plan = self.core.Plan(case.n_inputs, layers)
            return self.core.Training(plan, case.loss, case.optimizers[k % len(case.optimizers)], *rest)

        return FleetLoop(make, case.settings, case.data, self.state, case.rates)

    def one_by_one(self):
        self.train(self.loop(), 1e9)
        return self

    def one_by_one_in_slices(self, rng):
        loop = self.loop()
        while not self.train(loop, float(pick(rng, (0.0, 1e-4, 1e-3)))):
            if rng.random() < 0.01:  # another object takes over
                loop = self.loop()
        return self

    def at_once(self, in_lanes):
        assert self.train(self.fleet(in_lanes), 1e9)
        return self

    def in_slices(self, rng):
        training, n = self.fleet(pick(rng, (True, None))), 0
        while not self.train(training, float(pick(rng, (0.0, 1e-5, 1e-4)))):
            n += 1
            if n % 5 == 4:  # another object takes over, side by side or one by one
                training = self.fleet(pick(rng, (True, False, None)))
        return self


def assert_same(run, alone):
    # In the middle of an epoch members are diverging.
    status, found = (np.minimum(each.state.members["status"], DIVERGED) for each in (alone, run))
    np.testing.assert_array_equal(found, status)
    np.testing.assert_array_equal(run.losses, alone.losses)
    if alone.validation_losses is not None:
        np.testing.assert_array_equal(run.validation_losses, alone.validation_losses)
    np.testing.assert_array_equal(run.state.members["diverged_epoch"], alone.state.members["diverged_epoch"])
    whole = status != DIVERGED  # what a diverged member goes back to may be an earlier epoch
    for name in NUMBERS:
        np.testing.assert_array_equal(run.state.members[name][whole], alone.state.members[name][whole], err_msg=name)
    assert run.state.parameters[whole].tobytes() == alone.state.parameters[whole].tobytes()
    assert run.state.slots[whole].tobytes() == alone.state.slots[whole].tobytes()
    if alone.case.settings.keep_best:
        assert run.state.best_parameters[whole].tobytes() == alone.state.best_parameters[whole].tobytes()
    if alone.case.settings.average is not None:
        assert run.state.average[whole].tobytes() == alone.state.average[whole].tobytes()


def check(seed, core, dtype):
    case = draw_case(seed, dtype)
    state = draw_state(seed, case, dtype)

    def run():
        return Run(case, core, copy.deepcopy(state))

    alone = run().one_by_one()
    assert_same(run().at_once(True), alone)
    assert_same(run().at_once(False), alone)
    assert_same(run().at_once(None), alone)
    assert_same(run().in_slices(np.random.default_rng(seed)), alone)
    assert_same(run().one_by_one_in_slices(np.random.default_rng(seed)), alone)


@each_dtype
@each_compiled
@pytest.mark.parametrize("seed", range(N_CASES))
def test_bits_of_a_fleet(seed, backend, dtype):
    check(seed, module(backend, dtype), dtype)


def draw_repeating(seed, dtype):
    """A fleet whose steps are epochs, for more of them than go by between two copies of a member; its state, in which
    some members have just ended an epoch."""
    rng = np.random.default_rng(seed)
    size, most, n_inputs = pick(rng, (17, 20, 33, 40)), pick(rng, (1, 2, 4, 9, 20)), pick(rng, (1, 2, 3, 8))
    n_rows = [most] * size if rng.random() < 0.5 else rng.integers(1, most + 1, size).tolist()
    loss, layers = LOSSES["squared_error"](), [(Dense(pick(rng, (1, 4, 5, 16)), "tanh"), Dense(1))]
    optimizers = [OPTIMIZERS[pick(rng, ("sgd", "adam"))](learning_rate=0.01)]
    data = draw_rows(rng, size, n_rows, loss, layers[0], n_inputs, False, dtype, "own")
    settings = TrainingSettings(
        batch_size=None,
        shuffle=rng.random() < 0.5,
        tolerance=pick(rng, (None, 0.0, 1e-5, 1e-3)),
        patience=pick(rng, (1, 5, 30)),
        keep_best=rng.random() < 0.3,
        n_threads=int(rng.integers(1, 3)),
    )
    case = Case(n_inputs, layers, loss, optimizers, settings, data, None, FleetRates(rng.random(size) * 0.05), 200)
    state = draw_state(seed, case, dtype)
    for k in np.flatnonzero(rng.random(size) < pick(rng, (0.0, 0.1))):
        state.members["cursor"][k], state.members["step"][k] = n_rows[k], 1
        state.members["loss_sum"][k], state.members["weight_sum"][k] = rng.random(), 1.0
    return case, state


@each_dtype
@each_compiled
@pytest.mark.parametrize("seed", range(20))
def test_bits_where_steps_are_epochs(seed, backend, dtype):
    core = module(backend, dtype)
    case, state = draw_repeating(seed, dtype)

    def run():
        return Run(case, core, copy.deepcopy(state))

    alone = run().one_by_one()
    assert_same(run().at_once(True), alone)
    assert_same(run().in_slices(np.random.default_rng(seed)), alone)


def draw_long(seed, dtype):
    """A fleet of batches whose lowest delta is made some units at a time; every activation comes up."""
    rng = np.random.default_rng(seed)
    size, n_inputs = pick(rng, (17, 20)), pick(rng, (1, 3, 8, 17))
    n_rows = [100] * size if rng.random() < 0.5 else rng.integers(40, 130, size).tolist()
    hidden = Dense(
        pick(rng, (5, 13, 24, 33)),
        list(ACTIVATIONS)[seed % len(ACTIVATIONS)],
        trainable=rng.random() < 0.8,
        dropout=pick(rng, (0.0, 0.3)),
    )
    between = [Dense(pick(rng, (7, 20)), "tanh")] if rng.random() < 0.4 else []
    layers, loss = [(hidden, *between, Dense(pick(rng, (1, 3))))], LOSSES["squared_error"]()
    optimizers = [OPTIMIZERS[pick(rng, ("sgd", "adam"))](learning_rate=0.01)]
    data = draw_rows(rng, size, n_rows, loss, layers[0], n_inputs, False, dtype, "own")
    settings = TrainingSettings(batch_size=pick(rng, (None, 32, 45)), n_threads=int(rng.integers(1, 3)))
    return Case(n_inputs, layers, loss, optimizers, settings, data, None, FleetRates(rng.random(size) * 0.05), 3)


@each_dtype
@each_compiled
@pytest.mark.parametrize("seed", range(len(ACTIVATIONS)))
def test_bits_of_long_deltas(seed, backend, dtype):
    case = draw_long(seed, dtype)
    state = draw_state(seed, case, dtype)
    alone, lanes = (Run(case, module(backend, dtype), copy.deepcopy(state)) for _ in range(2))
    assert_same(lanes.at_once(True), alone.one_by_one())


@pytest.mark.skipif(len(COMPILED) < 2, reason="needs two compiled cores")
@each_dtype
@pytest.mark.parametrize("seed", range(0, N_CASES, 4))
def test_bits_of_two_instruction_sets(seed, dtype):
    case = draw_case(seed, dtype)
    state = draw_state(seed, case, dtype)
    runs = [
        Run(case, module(name, dtype), copy.deepcopy(state)).at_once(True) for name in COMPILED if name != "baseline"
    ]
    for other in runs[1:]:
        assert_same(other, runs[0])


if __name__ == "__main__":  # more of them: python tests/test_fleet_bits.py v4 0 1000
    import sys

    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        for numbers in (np.float32, np.float64):
            try:
                check(number, module(sys.argv[1], numbers), numbers)
            except AssertionError as error:
                print(number, numbers.__name__, str(error)[:400])
