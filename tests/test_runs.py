"""What `Training.run` promises, on every backend: batches, time slices, resuming, stop rules, side effects."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
from backends import (
    INFINITE,
    N_ROWS,
    OPTIMIZER_VARIANTS,
    Problem,
    distance,
    each_backend,
    each_dtype,
    each_settings,
    in_pieces,
    label,
    make_problem,
    module,
    new_state,
    numbers,
    start,
    train,
)
from backprop.base.types import Data, TrainingSettings
from backprop.layers import Dense
from backprop.losses import AbsoluteError, CrossEntropy, SquaredError
from backprop.optimizers import SGD, Adam
from backprop.reference.training import shuffled

MINI = TrainingSettings(batch_size=6)


def small(dtype=np.float64, **options) -> Problem:
    return make_problem(3, [Dense(4, "tanh", l2=0.01), Dense(2)], SquaredError(), N_ROWS, **options).cast(dtype)


# ---- batches ----


def test_shuffle_by_the_letter():
    """For i = n-1 down to 1: one raw draw r, j = ((r >> 32) (i + 1)) >> 32, swap."""
    for n in (2, 3, 10, 1000):
        draws, order = np.random.PCG64(7), list(range(n))
        i = n - 1
        while i >= 1:
            j = int(draws.random_raw()) // 2**32 * (i + 1) // 2**32
            order[i], order[j] = order[j], order[i]
            i -= 1
        other = np.random.PCG64(7)
        assert shuffled(n, other).tolist() == order
        assert other.state == draws.state


@each_backend
@pytest.mark.parametrize("batch_size", [1, 6, 14])
def test_every_epoch_sees_every_row_once(backend, batch_size):
    """Row k holds 10**k and adds it to the gradient: its digits tell which rows were in a batch."""
    n = 15
    # the output is always above its target, where the absolute error has the slope 1
    data = Data(10.0 ** np.arange(n)[:, None], np.zeros((n, 1)))
    problem = Problem(1, [Dense(1, bias=False)], AbsoluteError(reduction="sum"), np.array([1e16]), data)
    settings, optimizer = TrainingSettings(batch_size=batch_size), SGD(learning_rate=1.0, momentum=0.5)
    state, losses, orders = new_state(problem, optimizer, seed=3), np.empty(4), []
    for epoch in range(4):
        seen = np.zeros(n)
        while state.epoch == epoch:
            cursor = state.cursor
            state.step, state.slots[:], state.parameters[:] = 0, 0, 1e16
            start(backend, problem, optimizer, settings, state).run(epoch + 1, 0.0, losses)
            rows = state.permutation[cursor : state.cursor or n]
            digits = f"{int(state.slots[0, 0]):0{n}d}"[::-1]  # the first velocity is the gradient
            assert {row for row in range(n) if digits[row] == "1"} == set(rows.tolist())
            seen[rows] += 1
        assert (seen == 1).all()
        orders.append(state.permutation.copy())
    expected = np.random.PCG64(3)
    for order in orders:
        np.testing.assert_array_equal(order, shuffled(n, expected))


@each_backend
@pytest.mark.parametrize(
    "settings",
    [
        TrainingSettings(),
        TrainingSettings(batch_size=N_ROWS),
        TrainingSettings(batch_size=10 * N_ROWS),
        TrainingSettings(batch_size=6, shuffle=False),
        TrainingSettings(shuffle=False),
    ],
    ids=str,
)
def test_what_is_not_shuffled_draws_nothing(backend, settings):
    state, _, _ = train(backend, small(), SGD(), settings, 3)
    assert state.bit_generator.state == np.random.PCG64(0).state
    assert state.permutation.size == 0


@each_backend
@each_dtype
def test_a_batch_as_large_as_the_data_is_the_full_batch(backend, dtype):
    runs = [
        train(backend, small(dtype), Adam(), TrainingSettings(batch_size=batch_size), 5)
        for batch_size in (None, N_ROWS, N_ROWS + 1)
    ]
    assert len({state.parameters.tobytes() for state, _, _ in runs}) == 1


@each_backend
@each_settings
def test_steps_and_learning_rates(backend, settings):
    """The k-th step has learning_rates[k], the last of them for good: the same bits as one run for each step."""
    problem, optimizer, epochs = small(), SGD(momentum=0.5), 3
    count = epochs * math.ceil(N_ROWS / (settings.batch_size or N_ROWS))
    rates = np.geomspace(0.1, 0.01, max(2, count - 1))
    first, _, _ = train(backend, problem, optimizer, settings, 1)  # the rates begin with the run, not with the state
    state, losses = copy.deepcopy(first), np.empty(epochs)
    start(backend, problem, optimizer, settings, state, rates).run(1 + epochs, INFINITE, losses)
    assert state.step == first.step + count

    single, books = copy.deepcopy(first), np.empty(1)
    for k in range(count):
        rate = rates[min(k, len(rates) - 1)]
        start(backend, problem, optimizer, settings, single, [rate]).run(single.epoch + 1, 0.0, books)
        assert single.step == first.step + k + 1
    assert numbers(state) == numbers(single)


@each_backend
@each_settings
def test_set_learning_rates(backend, settings):
    """The rates begin with the next step, in the middle of an epoch too: as in a run that begins there."""
    problem, optimizer = small(), SGD(momentum=0.5)
    first, second = np.geomspace(0.1, 0.01, 5), np.geomspace(0.2, 0.05, 3)
    states = []
    for anew in (False, True):
        state, losses = new_state(problem, optimizer), np.empty(20)
        run = start(backend, problem, optimizer, settings, state, first)
        run.run(20, INFINITE, losses, last_step=7)
        if anew:
            run = start(backend, problem, optimizer, settings, state, second)
        else:
            run.set_learning_rates(second.copy())  # nobody else holds that copy
        run.run(20, INFINITE, losses, last_step=12)
        run.run(20, INFINITE, losses)
        states.append(state)
    assert numbers(states[0]) == numbers(states[1])


@each_backend
def test_one_step_by_hand(backend):
    """y = w x for x = 2, y = 3, w = 1: loss (2 - 3)**2 = 1, slope 2 (2 - 3) 2 = -4."""
    problem = Problem(
        1, [Dense(1, bias=False)], SquaredError(), np.array([1.0]), Data(np.array([[2.0]]), np.array([[3.0]]))
    )
    state, losses, reason = train(backend, problem, SGD(learning_rate=0.25), TrainingSettings(), 2)
    assert losses.tolist() == [1.0, 1.0]  # w = 1, then w = 2: the other side of the valley
    assert state.parameters[0] == 1.0
    assert reason == "epochs"
    assert state.step == state.epoch == 2
    assert state.best_loss == 1.0


# ---- time slices, resuming ----


@each_backend
@each_dtype
@each_settings
@pytest.mark.parametrize("optimizer", [SGD(momentum=0.9), Adam(amsgrad=True)], ids=label)
def test_time_slices_change_nothing(backend, dtype, settings, optimizer):
    problem = small(dtype)
    whole, expected, _ = train(backend, problem, optimizer, settings, 4)
    state = new_state(problem, optimizer)
    losses, _, reasons = in_pieces(start(backend, problem, optimizer, settings, state), state, 4)
    assert reasons[-1] == "epochs"
    # no time at all is one step
    assert len(reasons) == whole.step
    assert numbers(state) == numbers(whole)
    assert losses == expected.tolist()


@each_backend
@each_dtype
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_time_may_be_over_within_a_step(backend, dtype, n_threads, dropout):
    """A step of several chunks may take several calls; its bits are the same."""
    dense = [Dense(150, "tanh", dropout=dropout), Dense(150, "relu"), Dense(2)]
    problem, optimizer = make_problem(3, dense, SquaredError(), 1000).cast(dtype), Adam()
    settings = TrainingSettings(batch_size=600, n_threads=n_threads)
    whole, expected, _ = train(backend, problem, optimizer, settings, 2)
    state = new_state(problem, optimizer)
    losses, _, reasons = in_pieces(start(backend, problem, optimizer, settings, state), state, 2)
    assert len(reasons) >= whole.step
    assert numbers(state) == numbers(whole)
    assert losses == expected.tolist()


@each_backend
def test_a_call_that_may_not_do_a_step_leaves_one_in_the_middle_alone(backend):
    """Nothing is done and no random number drawn, neither for the order of the rows nor for dropout."""
    dense = [Dense(150, "tanh", dropout=0.3), Dense(150, "relu"), Dense(2)]
    problem, optimizer = make_problem(3, dense, SquaredError(), 1000), Adam()
    settings, losses = TrainingSettings(batch_size=600), np.full(1, np.nan)
    state = new_state(problem, optimizer)
    run = start(backend, problem, optimizer, settings, state)
    run.run(1, 0.0, losses)
    before = numbers(state)
    assert run.run(1, INFINITE, losses, last_step=state.step) == "time"
    assert run.run(0, INFINITE, losses) == "epochs"
    with pytest.raises((IndexError, ValueError)):
        run.run(1, INFINITE, losses[:0])
    if backend != "reference":
        assert numbers(state) == before
        run.run(1, INFINITE, losses)
        whole, expected, _ = train(backend, problem, optimizer, settings, 1)
        assert numbers(state) == numbers(whole)
        assert losses.tolist() == expected.tolist()


@each_backend
@each_dtype
@each_settings
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 1000])
def test_runs_of_a_number_of_steps_change_nothing(backend, dtype, settings, steps):
    problem, optimizer = small(dtype), Adam(amsgrad=True)
    whole, expected, _ = train(backend, problem, optimizer, settings, 5)
    state = new_state(problem, optimizer)
    losses, _, reasons = in_pieces(start(backend, problem, optimizer, settings, state), state, 5, steps=steps)
    assert reasons == ["time"] * (math.ceil(whole.step / steps) - 1) + ["epochs"]
    assert numbers(state) == numbers(whole)
    assert losses == expected.tolist()


@each_backend
@each_settings
def test_last_step_in_reach_already(backend, settings):
    """Nothing is done and no random number drawn; the epoch comes before the step where both are reached."""
    problem = small()
    state, losses = new_state(problem, SGD()), np.full(3, np.nan)
    run = start(backend, problem, SGD(), settings, state)
    run.run(2, INFINITE, losses)
    before = numbers(state)
    for last_step in (state.step, 0):
        assert run.run(3, INFINITE, losses, last_step=last_step) == "time"
        assert run.run(2, INFINITE, losses, last_step=last_step) == "epochs"
    assert numbers(state) == before
    assert np.isnan(losses[2])


@each_backend
@pytest.mark.parametrize("seconds", [0.0, INFINITE])
def test_last_step_where_an_epoch_ends(backend, seconds):
    """The epoch is closed, by its step: 4 steps are an epoch."""
    problem = small()
    state, losses = new_state(problem, SGD()), np.full(3, np.nan)
    run = start(backend, problem, SGD(), MINI, state)
    while state.step < 4:
        assert run.run(3, seconds, losses, last_step=4) == "time"
    assert (state.epoch, state.cursor, state.step) == (1, 0, 4)
    assert np.isfinite(losses).tolist() == [True, False, False]
    assert run.run(2, INFINITE, losses, last_step=8) == "epochs"
    assert state.step == 8


@each_backend
@each_dtype
@pytest.mark.parametrize("optimizer", OPTIMIZER_VARIANTS, ids=label)
def test_resuming_from_a_copy_in_the_middle_of_an_epoch(backend, dtype, optimizer):
    problem = small(dtype)
    whole, expected, _ = train(backend, problem, optimizer, MINI, 4)
    state, losses = new_state(problem, optimizer), np.empty(4)
    run = start(backend, problem, optimizer, MINI, state)
    for _ in range(6):  # 4 steps make an epoch
        run.run(4, 0.0, losses)
    assert (state.epoch, state.cursor) == (1, 12)
    resumed = copy.deepcopy(state)
    frozen = numbers(state)
    rest = np.empty(3)
    assert start(backend, problem, optimizer, MINI, resumed).run(4, INFINITE, rest) == "epochs"
    assert numbers(resumed) == numbers(whole)
    assert rest.tobytes() == expected[1:].tobytes()
    assert numbers(state) == frozen  # the copy shares nothing with it


@each_backend
def test_a_run_can_go_on_where_another_backend_stopped(backend):
    problem, optimizer = small(), Adam(epsilon=1e-2)
    whole, expected, _ = train("reference", problem, optimizer, MINI, 4)
    state, losses = new_state(problem, optimizer), np.empty(4)
    run = start(backend, problem, optimizer, MINI, state)
    for _ in range(6):
        run.run(4, 0.0, losses)
    rest = np.empty(3)
    start("reference", problem, optimizer, MINI, state).run(4, INFINITE, rest)
    # as in test_twins.py
    assert distance(state.parameters, whole.parameters) <= 1e-12
    assert distance(rest, expected[1:]) <= 1e-12


@each_backend
@each_settings
def test_some_epochs_and_then_some_more(backend, settings):
    problem, optimizer = small(), SGD(momentum=0.9)
    whole, expected, _ = train(backend, problem, optimizer, settings, 7)
    state, losses = new_state(problem, optimizer), np.full((3, 4), np.nan)
    run = start(backend, problem, optimizer, settings, state)
    assert run.run(2, INFINITE, losses[0]) == "epochs"
    assert run.run(5, INFINITE, losses[1]) == "epochs"  # the same run: each call begins at losses[0]
    run = start(backend, problem, optimizer, settings, state)
    assert run.run(7, INFINITE, losses[2]) == "epochs"
    assert np.isfinite(losses).sum(axis=1).tolist() == [2, 3, 2]
    assert numbers(state) == numbers(whole)
    assert [*losses[0, :2], *losses[1, :3], *losses[2, :2]] == expected.tolist()


@each_backend
def test_nothing_left_to_do(backend):
    problem = small()
    state, losses = new_state(problem, SGD()), np.full(3, np.nan)
    run = start(backend, problem, SGD(), MINI, state)
    run.run(3, INFINITE, losses)
    before, kept = numbers(state), losses.copy()
    assert run.run(3, INFINITE, losses) == "epochs"
    assert numbers(state) == before
    assert losses.tobytes() == kept.tobytes()


@each_backend
def test_an_epoch_in_progress_counts_as_a_whole_one_when_it_ends(backend):
    """The loss of an epoch that was resumed has all its batches in it."""
    problem = small()
    _, expected, _ = train(backend, problem, SGD(), MINI, 1)
    state, losses = new_state(problem, SGD()), np.empty(1)
    start(backend, problem, SGD(), MINI, state).run(1, 0.0, losses)
    assert state.cursor == 6
    start(backend, problem, SGD(), MINI, copy.deepcopy(state)).run(1, INFINITE, losses)
    assert losses.tobytes() == expected.tobytes()


# ---- stop rules ----


def count_stale(losses, tolerance):
    """stale_epochs and best_loss after these epochs, as the design has them."""
    best, stale = math.inf, 0
    for loss in losses:
        stale = stale + 1 if loss > best - tolerance or loss == best else 0
        best = min(best, loss)
    return stale, best


@each_backend
@each_settings
@pytest.mark.parametrize(("tolerance", "patience"), [(1e-3, 3), (1e-2, 1), (0.0, 2), (1e-6, 4)])
def test_tolerance(backend, settings, tolerance, patience):
    problem, optimizer = small(), SGD(learning_rate=0.3)
    settings = replace(settings, tolerance=tolerance, patience=patience)
    state, losses, reason = train(backend, problem, optimizer, settings, 2000)
    done = losses[: state.epoch].tolist()
    assert (state.stale_epochs, state.best_loss) == count_stale(done, tolerance)
    # it stopped at the first epoch at which it had to, and not before
    stale = [count_stale(done[:k], tolerance)[0] for k in range(1, len(done) + 1)]
    assert reason == "tolerance"
    assert stale[-1] == patience
    assert max(stale[:-1]) < patience
    assert np.isnan(losses[state.epoch :]).all()


@each_backend
@pytest.mark.parametrize("tolerance", [0.0, 1e-9])
@pytest.mark.parametrize("equal_is_progress", [False, True])
def test_a_loss_that_stays_the_same(backend, tolerance, equal_is_progress):
    """A dead network stops, but not by scikit-learn's rule. (As in test_one_step_by_hand, the loss is 1 for ever.)"""
    problem = Problem(
        1, [Dense(1, bias=False)], SquaredError(), np.array([1.0]), Data(np.array([[2.0]]), np.array([[3.0]]))
    )
    settings = TrainingSettings(tolerance=tolerance, equal_is_progress=equal_is_progress, patience=3)
    state, _, reason = train(backend, problem, SGD(learning_rate=0.25), settings, 10)
    goes_on = equal_is_progress and tolerance == 0
    assert (reason, state.stale_epochs) == (("epochs", 0) if goes_on else ("tolerance", 3))
    assert (state.best_loss, state.best_epoch) == (1.0, 1)  # the first of equal ones


@each_backend
def test_tolerance_is_the_reason_even_in_the_last_epoch(backend):
    settings = TrainingSettings(tolerance=1e9, patience=1)
    _, _, reason = train(backend, small(), SGD(), settings, 2)
    assert reason == "tolerance"


@each_backend
def test_without_tolerance_the_best_loss_is_kept_too(backend):
    state, losses, _ = train(backend, small(), SGD(learning_rate=0.3), MINI, 20)
    assert state.best_loss == losses.min()
    assert state.stale_epochs == 0


@each_backend
@each_dtype
@each_settings
def test_divergence(backend, dtype, settings):
    problem = small(dtype)
    settings = replace(settings, tolerance=0.0, patience=10_000)
    problem = replace(problem, dense=[Dense(4), Dense(2)])
    state, losses, reason = train(backend, problem, SGD(learning_rate=1e3), settings, 1000)
    assert reason == "diverged"
    assert 0 < state.epoch < 1000
    assert not np.isfinite(losses[state.epoch - 1])
    assert np.isfinite(losses[: state.epoch - 1]).all()
    assert np.isnan(losses[state.epoch :]).all()
    assert state.cursor == 0
    assert not np.isnan(state.best_loss)


@each_backend
@each_dtype
@each_settings
def test_parameters_that_are_not_finite_are_divergence(backend, dtype, settings):
    """They are found at the end of the epoch, whose losses are all from before the step that made them."""
    problem = replace(small(dtype), dense=[Dense(4), Dense(2)], loss=SquaredError(scale=1e6))
    steps = math.ceil(N_ROWS / (settings.batch_size or N_ROWS))
    for epoch in (1, 3):
        rates = np.full(epoch * steps, 1e-8)
        rates[-1] = np.finfo(dtype).max  # the last step of that epoch
        state, losses = new_state(problem, SGD()), np.full(5, np.nan)
        settings = replace(settings, tolerance=0.0, keep_best=True)
        reason = start(backend, problem, SGD(), settings, state, rates).run(5, INFINITE, losses)
        assert (reason, state.epoch, state.cursor) == ("diverged", epoch, 0)
        assert not np.isfinite(state.parameters).all()
        assert np.isfinite(losses).tolist() == [True] * epoch + [False] * (5 - epoch)
        # that epoch does not count as the best one
        assert (state.best_epoch, state.stale_epochs) == (epoch - 1, 0)
        assert state.best_loss == (losses[epoch - 2] if epoch > 1 else INFINITE)
        assert np.isfinite(state.best_parameters).all()


@each_backend
@each_dtype
@each_settings
def test_keep_best(backend, dtype, settings):
    """A loss that goes up and down: the copy is of the parameters after the epoch that had the lowest."""
    problem = small(dtype)
    rates = np.full(100, 0.01)
    rates[60:80] = -0.05  # away from the minimum for a while
    per_epoch = math.ceil(N_ROWS / (settings.batch_size or N_ROWS))
    epochs = math.ceil(100 / per_epoch)
    settings = replace(settings, keep_best=True)
    state, seen, losses = new_state(problem, SGD()), [], []
    run = start(backend, problem, SGD(), settings, state, rates)
    for epoch in range(epochs):
        one = np.empty(1)
        run.run(epoch + 1, INFINITE, one)
        losses.append(one[0])
        seen.append(state.parameters.tobytes())
        best = int(np.argmin(losses))
        assert (state.best_loss, state.best_epoch) == (losses[best], best + 1)
        assert state.best_parameters.tobytes() == seen[best]
    assert state.best_parameters.dtype == dtype
    if per_epoch < 20:
        assert state.best_epoch < epochs
    whole = new_state(problem, SGD())
    start(backend, problem, SGD(), settings, whole, rates).run(epochs, INFINITE, np.empty(epochs))
    assert numbers(whole) == numbers(state)


@each_backend
def test_what_is_not_kept(backend):
    state, losses, _ = train(backend, small(), SGD(learning_rate=0.3), MINI, 20)
    assert state.best_epoch == np.argmin(losses) + 1
    assert state.best_parameters.size == 0


# ---- side effects ----


@each_backend
@each_dtype
@pytest.mark.parametrize("labels", [True, False])
def test_inputs_stay_as_they_are_and_may_be_read_only(backend, dtype, labels):
    dense = [Dense(4, "tanh", l2=0.1), Dense(3, "softmax")]
    problem = make_problem(3, dense, CrossEntropy(), N_ROWS, labels=labels).cast(dtype)
    core = module(backend, dtype)
    for array in (*problem.data, problem.parameters):
        array.flags.writeable = False
    before = [array.tobytes() for array in (*problem.data, problem.parameters)]
    plan, out = core.Plan(3, dense), np.empty((N_ROWS, 3), dtype)
    assert core.forward(plan, problem.parameters, problem.data.X, out)
    problem.loss_and_gradient(backend)
    rates = np.array([0.01])
    rates.flags.writeable = False
    train(backend, problem, Adam(), MINI, 3, learning_rates=rates)
    assert [array.tobytes() for array in (*problem.data, problem.parameters)] == before


@each_backend
def test_the_state_keeps_its_arrays(backend):
    """The parameters are the network's own vector: training changes it in place."""
    problem = small()
    state = new_state(problem, Adam())
    parameters, slots = state.parameters, state.slots
    start(backend, problem, Adam(), MINI, state).run(2, INFINITE, np.empty(2))
    assert state.parameters is parameters
    assert state.slots is slots


@each_backend
@each_dtype
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 57, 99 * 3 + 2])
def test_forward_refuses_what_is_not_finite(backend, dtype, bad, where):
    core = module(backend, dtype)
    problem = make_problem(3, [Dense(4, "tanh"), Dense(2)], SquaredError(), 100).cast(dtype)
    plan, out = core.Plan(3, problem.dense), np.empty((100, 2), dtype)
    assert core.forward(plan, problem.parameters, problem.data.X, out) is True
    problem.data.X.flat[where] = bad
    assert core.forward(plan, problem.parameters, problem.data.X, out) is False


@each_backend
def test_forward_takes_large_finite_numbers(backend):
    """Their sum may overflow; they are finite all the same."""
    core = module(backend, float)
    X = np.full((10, 3), 1e308)
    out = np.empty((10, 3))
    assert core.forward(core.Plan(3, [Dense(3, bias=False)]), np.eye(3).ravel(), X, out)
    np.testing.assert_array_equal(out, X)


@each_backend
def test_plan(backend):
    plan = module(backend, float).Plan(3, [Dense(4, "tanh"), Dense(5, bias=False), Dense(2)])
    assert (plan.n_inputs, plan.n_outputs, plan.n_parameters) == (3, 2, 3 * 4 + 4 + 4 * 5 + 5 * 2 + 2)
