"""What a member's bits must not depend on: who is in the other lanes, and what happens between calls."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
from backends import each_compiled, each_dtype, module
from backprop.base import random as words
from backprop.base.fleet import AVERAGED, DIVERGED, MEMBER, RUNNING, TOLERANCE, FleetData, FleetRates, FleetState
from backprop.base.types import Average, TrainingSettings
from backprop.layers import Dense
from backprop.losses import Poisson, SquaredError
from backprop.optimizers import SGD, Adam
from backprop.reference.layout import parameter_count
from test_fleet_bits import Case, Run, assert_same

each_way = pytest.mark.parametrize("in_lanes", [True, False, None], ids=["in lanes", "one by one", "as it pays"])
WIDE = (Dense(96, "tanh"), Dense(1))  # few rows in a chunk


def made(
    core, dtype, layers, n_rows, seed=0, *, loss=None, optimizer=None, weights=None, rate=0.01, epochs=3, **settings
):
    """Members with so many rows each, and their state."""
    rng = np.random.default_rng(seed)
    size, n_inputs, n = len(n_rows), 2, parameter_count(2, layers)
    X = [rng.normal(size=(rows, n_inputs)).astype(dtype) for rows in n_rows]
    targets = [rng.random((rows, layers[-1].units)).astype(dtype) for rows in n_rows]
    optimizer = optimizer or SGD(learning_rate=0.01)
    case = Case(
        n_inputs, [layers], loss or SquaredError(), [optimizer], TrainingSettings(**settings),
        FleetData(size, X, targets, weights), None, FleetRates(np.full(size, rate)), epochs,
    )  # fmt: skip
    parameters = (rng.normal(size=(size, n)) / 4).astype(dtype)
    slots = np.zeros((size, optimizer.n_slots, n), dtype)
    average = parameters.copy() if case.settings.average is not None else np.empty((0, n), dtype)
    averaged = np.full(len(average), AVERAGED, np.int8)
    state = FleetState(parameters, slots, np.zeros(size, MEMBER), np.empty((0, n), dtype), average, averaged)
    state.members["random"] = [words.words(np.random.PCG64(100 * seed + k)) for k in range(size)]
    state.members["best_loss"], state.members["rate_scale"] = np.inf, 1.0
    return case, state


def runs(case, core, state):
    while True:
        yield Run(case, core, copy.deepcopy(state))


@each_dtype
@each_compiled
def test_members_with_more_rows_drop_no_units_of_others(backend, dtype):
    """About every second draw overflows: that of a row that a member does not have must not matter."""
    core = module(backend, dtype)
    layers = (Dense(16, "identity", bias=False, dropout=0.5), Dense(1, "exp", bias=False))
    for seed in range(8):
        case, state = made(core, dtype, layers, [1] * 9 + [40] * 9, seed, loss=Poisson(), rate=0.0, epochs=1)
        for X in case.data.X:
            X[...] = 1
        state.parameters[:, :32] = 0.5
        state.parameters[:, 32:] = np.log(np.finfo(dtype).max) / 16
        run = runs(case, core, state)
        alone = next(run).one_by_one()
        assert 0 < (alone.state.members["status"][:9] == RUNNING).sum() < 9
        assert_same(next(run).at_once(True), alone)


@each_dtype
@each_compiled
def test_zeros_keep_their_sign_where_a_penalty_counts_for_nothing(backend, dtype):
    core, layers = module(backend, dtype), (Dense(1, l1=0.1, l2=0.1),)
    weights = [np.full(3, k % 2, dtype) for k in range(20)]
    case, state = made(
        core, dtype, layers, [3] * 20, weights=weights, batch_size=1, shuffle=False, penalty_per_row=True, epochs=1
    )
    state.parameters[...] = -0.0
    run = runs(case, core, state)
    assert_same(next(run).at_once(True), next(run).one_by_one())


@each_way
@each_dtype
@each_compiled
def test_members_changed_between_calls_are_trained_in_the_next(backend, dtype, in_lanes):
    core = module(backend, dtype)
    case, state = made(core, dtype, WIDE, [50, 60, 70] * 12, batch_size=8, n_threads=3)
    run = Run(case, core, state)
    training = run.fleet(in_lanes)
    assert not run.train(training, 0.0)
    members = state.members
    members["epoch"] += 5
    members["first_epoch"] += 5
    members["cursor"] = 0
    assert run.train(training, 1e9)
    np.testing.assert_array_equal(members["epoch"], 5 + case.epochs)


@each_way
@each_compiled
def test_members_behind_the_first_epoch_whose_losses_have_room(backend, in_lanes):
    core = module(backend, np.float64)
    case, state = made(core, np.float64, WIDE, [5, 5, 5])
    training = Run(case, core, state).fleet(in_lanes)
    state.members["epoch"], state.members["status"][0] = [0, 1, 2], TOLERANCE
    with pytest.raises(ValueError, match="first: needs at most 1, where member 1 is, got 2"):
        training.run(2, 3, 1e9, np.empty((1, 3)))


@each_way
@each_dtype
@each_compiled
def test_what_is_left_in_the_middle_of_a_step_has_not_begun(backend, dtype, in_lanes):
    """A call of no time ends between two chunks; another object takes over."""
    core = module(backend, dtype)
    layers = (Dense(96, "tanh", dropout=0.3), Dense(1))
    case, state = made(
        core, dtype, layers, [2500, 2400, 1300], optimizer=Adam(learning_rate=0.01), batch_size=1200, epochs=2
    )
    run = runs(case, core, state)
    alone, sliced = next(run).one_by_one(), next(run)
    training, calls = sliced.fleet(in_lanes), 0
    while not sliced.train(training, 0.0):
        calls += 1
        if calls % 5 == 0:  # fewer calls than a step takes in the lanes, one by one a step is two of them
            sliced.train(sliced.fleet(in_lanes), 0.0)
            training = sliced.fleet(in_lanes and calls % 2 == 0)
        if calls % 50 == 0:
            sliced.train(training, 0.05)
    assert calls > 5
    assert_same(sliced, alone)


@pytest.mark.parametrize("average", [None, Average(decay=0.9, start=1), Average(every=7)])
@each_way
@each_dtype
@each_compiled
def test_what_a_diverged_member_goes_back_to(backend, dtype, in_lanes, average):
    """It has what training alone has after as many epochs, and is finite; its neighbours go on."""
    core = module(backend, dtype)
    optimizer = SGD(learning_rate=0.01, momentum=0.5)
    case, state = made(
        core, dtype, WIDE, [40] * 20, optimizer=optimizer, batch_size=4, epochs=40, n_threads=2, average=average
    )
    case.rates.base[::3] = 3.0
    case.rates.base[3] = 0.6
    run = runs(case, core, state)
    alone, together = next(run).one_by_one(), next(run).at_once(in_lanes)
    assert_same(together, alone)
    lost = np.flatnonzero(together.state.members["status"] == DIVERGED)
    assert 0 < len(lost) < 20
    assert np.isfinite(together.state.parameters).all()
    for k in lost:
        again = next(run)
        again.state.members["status"][np.arange(20) != k] = TOLERANCE
        again.case = copy.copy(case)
        again.case.epochs = int(together.state.members["epoch"][k])
        again.one_by_one()
        assert again.state.parameters[k].tobytes() == together.state.parameters[k].tobytes()
        assert again.state.slots[k].tobytes() == together.state.slots[k].tobytes()
        assert average is None or again.state.average[k].tobytes() == together.state.average[k].tobytes()
        for name in ("random", "step", "epoch", "cursor", "best_loss", "best_epoch", "loss_sum"):
            np.testing.assert_array_equal(again.state.members[name][k], together.state.members[name][k], name)


@each_way
@each_dtype
@each_compiled
def test_calls_of_no_time_come_to_an_end(backend, dtype, in_lanes):
    """However few members are left at work."""
    core = module(backend, dtype)
    case, state = made(core, dtype, (Dense(8, "tanh"), Dense(1)), [5, 6, 7] * 8 + [300], batch_size=8)
    run = runs(case, core, state)
    alone, sliced = next(run).one_by_one(), next(run)
    training = sliced.fleet(in_lanes)
    assert any(sliced.train(training, 0.0) for _ in range(10_000))
    assert_same(sliced, alone)


@each_dtype
@each_compiled
def test_steps_of_one_member_that_are_longer_than_a_call(backend, dtype):
    """They go on in the next call, and so does the validation, where a fleet is trained member by member."""
    core = module(backend, dtype)
    case, state = made(core, dtype, WIDE, [5000, 20, 4900], batch_size=4900, epochs=2)
    case = replace(case, validation=case.data)
    run = runs(case, core, state)
    alone, sliced = next(run).one_by_one(), next(run)
    loop = sliced.loop()
    assert any(sliced.train(loop, 0.0) for _ in range(10_000))
    assert_same(sliced, alone)


@each_dtype
@each_compiled
def test_batches_of_more_chunks_than_blocks(backend, dtype):
    """Beside batches of few chunks, and of one."""
    core = module(backend, dtype)
    case, state = made(core, dtype, WIDE, [4000, 3900, 2500, 700, 30, 1], batch_size=3900)
    run = runs(case, core, state)
    assert_same(next(run).at_once(True), next(run).one_by_one())


@each_dtype
@each_compiled
def test_weights_of_single_rows(backend, dtype):
    core, rng = module(backend, dtype), np.random.default_rng(0)
    weights = [rng.random(7).astype(dtype) for _ in range(20)]
    case, state = made(core, dtype, WIDE, [7] * 20, weights=weights, batch_size=1)
    run = runs(case, core, state)
    assert_same(next(run).at_once(True), next(run).one_by_one())


@each_dtype
@each_compiled
def test_optimizers_of_members_at_the_same_rate(backend, dtype):
    core = module(backend, dtype)
    case, state = made(core, dtype, WIDE, [20] * 20, optimizer=SGD(learning_rate=0.01, momentum=0.5), batch_size=8)
    case.optimizers = [SGD(learning_rate=0.01, momentum=0.04 * k + 0.1) for k in range(20)]
    run = runs(case, core, state)
    assert_same(next(run).at_once(True), next(run).one_by_one())


@each_way
@each_dtype
@each_compiled
def test_rates_and_parameters_that_change_in_the_middle_of_an_epoch(backend, dtype, in_lanes):
    """Members that are at work go on as others would that begin there."""
    core = module(backend, dtype)
    case, state = made(core, dtype, WIDE, [50] * 20, batch_size=8)
    run = Run(case, core, state)
    training = run.fleet(in_lanes)
    assert not run.train(training, 0.0)
    assert state.members["cursor"].any()
    state.parameters *= dtype(0.5)
    state.members["rate_scale"] = 0.25
    case.rates = FleetRates(np.linspace(0.01, 0.1, 20))
    alone = next(runs(case, core, state)).one_by_one()
    training.set_rates(case.rates)
    assert run.train(training, 1e9)
    assert_same(run, alone)
