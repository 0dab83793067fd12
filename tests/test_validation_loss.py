"""Validation data in a run: their loss after each epoch, and the stop rule and the best parameters that go by it."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
from backends import (
    INFINITE,
    LOSS_VARIANTS,
    N_ROWS,
    SETTINGS,
    Problem,
    distance,
    each_backend,
    each_compiled,
    each_dtype,
    each_settings,
    in_pieces,
    label,
    make_problem,
    module,
    new_state,
    numbers,
    outputs_of,
    start,
    train,
    train_and_validate,
)
from backprop.base.types import Data, TrainingSettings
from backprop.layers import Dense
from backprop.losses import AbsoluteError, CrossEntropy, SquaredError
from backprop.optimizers import SGD, Adam

# The same sums, in double, of numbers computed in the same way: what may differ is where a sum is cut.
TOLERANCES = {np.float64: 1e-14, np.float32: 1e-6}


def both(
    dtype=np.float64, n_validation=11, loss=None, output="identity", dense=None, **options
) -> tuple[Problem, Data]:
    """A problem, and validation data for it."""
    dense = dense or [Dense(8, "tanh", l2=0.01), Dense(17, "sigmoid", l1=0.001), Dense(3, output)]
    loss = loss or SquaredError()
    problem = make_problem(3, dense, loss, N_ROWS, **options).cast(dtype)
    return problem, make_problem(3, dense, loss, n_validation, **options, seed=1).cast(dtype).data


def loss_of(backend, problem, parameters, data) -> float:
    core = module(backend, parameters.dtype)
    return core.loss_and_gradient(core.Plan(problem.n_inputs, problem.dense), problem.loss, parameters, data, None)


# ---- the loss ----


@each_backend
@each_dtype
@each_settings
@pytest.mark.parametrize("n_validation", [1, 7, 8, 100, 5000])
@pytest.mark.parametrize("dense", [None, [Dense(3, "tanh"), Dense(3)]], ids=["wide", "tiny"])
def test_it_is_the_loss_of_the_parameters_after_the_epoch(backend, dtype, settings, n_validation, dense):
    """For any number of rows, in the middle of the run and at its end."""
    problem, validation = both(dtype, n_validation, dense=dense)
    settings = replace(settings, penalty_per_row=True)  # concerns the training loss alone
    state = new_state(problem, Adam())
    run = start(backend, problem, Adam(), settings, state, validation=validation)
    expected, pieces = [], np.empty((2, 1))
    for epoch in range(3):
        assert run.run(epoch + 1, INFINITE, *pieces) == "epochs"
        expected.append(loss_of(backend, problem, state.parameters, validation))
        assert pieces[1, 0] == pytest.approx(expected[-1], rel=TOLERANCES[dtype])
    whole, _, losses, reason = train_and_validate(backend, problem, Adam(), settings, 3, validation)
    assert reason == "epochs"
    assert losses == pytest.approx(expected, rel=TOLERANCES[dtype])
    assert numbers(whole) == numbers(state)


@each_backend
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("loss", LOSS_VARIANTS, ids=label)
def test_every_loss(backend, loss, weighted, reduction):
    loss = replace(loss, reduction=reduction, scale=0.3)
    for labels in (True, False):
        problem, validation = both(loss=loss, output=outputs_of(loss)[0], weighted=weighted, labels=labels)
        optimizer = SGD(learning_rate=1e-3)
        state, _, losses, _ = train_and_validate(backend, problem, optimizer, SETTINGS["3"], 2, validation)
        expected = loss_of(backend, problem, state.parameters, validation)
        assert losses[1] == pytest.approx(expected, rel=1e-14)
        assert expected == pytest.approx(loss_of("reference", problem, state.parameters, validation), rel=1e-13)


@each_backend
def test_weights_of_one_set_alone(backend):
    problem, validation = both()
    unweighted = problem.data._replace(sample_weight=None)
    for data, other in ((problem.data, validation._replace(sample_weight=None)), (unweighted, validation)):
        state, _, losses, _ = train_and_validate(backend, replace(problem, data=data), SGD(), SETTINGS["3"], 2, other)
        assert losses[1] == pytest.approx(loss_of(backend, problem, state.parameters, other), rel=1e-14)


@each_backend
@each_dtype
@each_settings
def test_training_does_not_notice(backend, dtype, settings):
    """Parameters, losses, random numbers and all are those without validation data, with dropout too."""
    dense = [Dense(8, "tanh", dropout=0.5), Dense(3)]
    problem, validation = both(dtype, 300, dense=dense)
    for p in (problem, replace(problem, dense=[Dense(8, "tanh"), Dense(3)])):
        plain, losses, _ = train(backend, p, Adam(), settings, 5)
        state, same, _, _ = train_and_validate(backend, p, Adam(), settings, 5, validation)
        assert numbers(state) == numbers(plain)
        assert same.tobytes() == losses.tobytes()


@each_backend
@each_dtype
@pytest.mark.parametrize(("n_rows", "n_validation"), [(3, 1), (2, 2), (3, 4), (3, 5), (3, 13)])
@pytest.mark.parametrize("loss", LOSS_VARIANTS, ids=label)
def test_rows_that_fit_beside_the_training_rows(backend, dtype, loss, n_rows, n_validation):
    """A tiny full batch takes them along into the next step: the bits are those of epochs run one by one."""
    for hidden, weighted in (("tanh", True), ("gelu", False), ("softmax", False)):
        dense = [Dense(4, hidden, max_norm=0.9), Dense(2, "silu", l2=0.01), Dense(3, outputs_of(loss)[0])]
        problem, other = (
            make_problem(3, dense, loss, n, weighted=weighted, seed=k).cast(dtype)
            for k, n in enumerate((n_rows, n_validation))
        )
        settings = TrainingSettings(monitor="val_loss", keep_best=True)
        for optimizer in (SGD(), Adam(learning_rate=0.1)):
            state = new_state(problem, optimizer)
            run = start(backend, problem, optimizer, settings, state, validation=other.data)
            losses, validated, _ = in_pieces(run, state, 6, steps=1)
            whole, *found, _ = train_and_validate(backend, problem, optimizer, settings, 6, other.data)
            assert numbers(whole) == numbers(state)
            assert [x.tolist() for x in found] == [losses, validated]


@each_backend
@each_dtype
def test_validation_data_stay_as_they_are_and_may_be_read_only(backend, dtype):
    problem, validation = both(dtype, loss=CrossEntropy(), output="softmax")
    for array in validation:
        array.flags.writeable = False
    before = [array.tobytes() for array in validation]
    train_and_validate(backend, problem, Adam(), SETTINGS["3"], 2, validation)
    assert [array.tobytes() for array in validation] == before


@each_compiled
@each_dtype
@each_settings
@pytest.mark.parametrize("n_validation", [11, 5000])
def test_threads_change_nothing(backend, dtype, settings, n_validation):
    problem, validation = both(dtype, n_validation)
    settings = replace(settings, monitor="val_loss", keep_best=True)
    runs = []
    for n_threads in (1, 2, 3, 7):
        state, *losses, _ = train_and_validate(
            backend, problem, Adam(), replace(settings, n_threads=n_threads), 4, validation
        )
        runs.append((numbers(state), [a.tobytes() for a in losses]))
    assert all(run == runs[0] for run in runs)


@each_compiled
@each_dtype
@each_settings
@pytest.mark.parametrize("n_validation", [1, 11, 5000])
def test_twins(backend, dtype, settings, n_validation):
    """Rounding only: as in test_twins.py; in float32 some 1e-7 in each of some hundred operations."""
    problem, validation = both(dtype, n_validation, loss=CrossEntropy(), output="softmax")
    settings = replace(settings, monitor="val_loss", keep_best=True)
    (state, losses, validated, _), (twin, *expected, _) = (
        train_and_validate(name, problem, SGD(momentum=0.5), settings, 5, validation) for name in (backend, "reference")
    )
    tolerance = 1e-12 if dtype is np.float64 else 1e-4
    assert distance(losses, expected[0]) <= tolerance
    assert distance(validated, expected[1]) <= tolerance
    assert distance(state.best_parameters, twin.best_parameters) <= tolerance
    assert (state.best_epoch, state.step) == (twin.best_epoch, twin.step)


# ---- what goes by it ----


def follow(losses, tolerance=None):
    """stale_epochs, best_loss and best_epoch after these epochs, as the design has them."""
    best, best_epoch, stale = INFINITE, 0, 0
    for epoch, loss in enumerate(losses, 1):
        if tolerance is not None:
            stale = 0 if loss <= best - tolerance else stale + 1
        if loss < best:
            best, best_epoch = loss, epoch
    return stale, best, best_epoch


def overfitting(dtype=np.float64) -> tuple[Problem, Data]:
    """Noise to learn by heart, so that the validation loss falls and then rises."""
    problem, validation = both(dtype, 40, dense=[Dense(16, "tanh"), Dense(3)], weighted=False)
    problem.parameters *= 0.1
    return problem, validation


@each_backend
@each_dtype
@each_settings
@pytest.mark.parametrize("monitor", ["loss", "val_loss"])
@pytest.mark.parametrize(("tolerance", "patience"), [(None, 10), (1e-3, 3), (0.0, 5)])
def test_stop_rule_and_best_epoch(backend, dtype, settings, monitor, tolerance, patience):
    problem, validation = overfitting(dtype)
    settings = replace(settings, monitor=monitor, tolerance=tolerance, patience=patience, keep_best=True)
    epochs = 60
    state, losses, validated, reason = train_and_validate(
        backend, problem, Adam(learning_rate=0.05), settings, epochs, validation
    )
    done = (losses if monitor == "loss" else validated)[: state.epoch].tolist()
    assert (state.stale_epochs, state.best_loss, state.best_epoch) == follow(done, tolerance)
    # it stopped at the first epoch at which it had to, and not before
    stale = [follow(done[:k], tolerance)[0] for k in range(1, len(done) + 1)]
    assert reason == ("tolerance" if stale[-1] == patience else "epochs")
    assert reason == "tolerance" or state.epoch == epochs
    assert max(stale[:-1]) < patience
    for array in (losses, validated):
        assert np.isnan(array).tolist() == [False] * state.epoch + [True] * (epochs - state.epoch)
    # the parameters are those of a run of that many epochs
    best, *_ = train_and_validate(backend, problem, Adam(learning_rate=0.05), settings, state.best_epoch, validation)
    assert best.parameters.tobytes() == state.best_parameters.tobytes() == best.best_parameters.tobytes()
    if monitor == "val_loss":
        assert state.best_epoch < state.epoch or tolerance is not None
        expected = loss_of(backend, problem, state.best_parameters, validation)
        assert state.best_loss == pytest.approx(expected, rel=TOLERANCES[dtype])


@each_backend
@each_settings
def test_the_rule_goes_on_where_it_was(backend, settings):
    """A state that was copied between two epochs stops at the same one, with the same best parameters."""
    problem, validation = overfitting()
    optimizer = Adam(learning_rate=0.05)
    settings = replace(settings, monitor="val_loss", tolerance=1e-3, patience=4, keep_best=True)
    whole, _, _, reason = train_and_validate(backend, problem, optimizer, settings, 200, validation)
    assert reason == "tolerance"
    state = new_state(problem, optimizer)
    while reason != "done":
        state = copy.deepcopy(state)
        run = start(backend, problem, optimizer, settings, state, validation=validation)
        if run.run(state.epoch + 1, INFINITE, *np.empty((2, 1))) == "tolerance":
            reason = "done"
    assert numbers(state) == numbers(whole)


@each_backend
@each_dtype
@each_settings
@pytest.mark.parametrize("n_validation", [11, 5000])
@pytest.mark.parametrize("steps", [None, 1, 4])
def test_pieces_change_nothing(backend, dtype, settings, n_validation, steps):
    """With all that a run can have: dropout, norms, penalties, clipping, validation, a stop rule, the best kept."""
    dense = [Dense(8, "tanh", l2=0.01, dropout=0.3), Dense(9, "relu", max_norm=1.0, dropout=0.1), Dense(3)]
    problem, validation = both(dtype, n_validation, dense=dense)
    settings = replace(settings, monitor="val_loss", tolerance=0.0, keep_best=True, clip_norm=0.5, penalty_per_row=True)
    whole, *expected, why = train_and_validate(backend, problem, Adam(), settings, 5, validation)
    state = new_state(problem, Adam())
    run = start(backend, problem, Adam(), settings, state, validation=validation)
    *losses, reasons = in_pieces(run, state, 5, steps=steps)
    assert reasons[-1] == why
    assert numbers(state) == numbers(whole)
    assert losses == [array.tolist() for array in expected]


@each_compiled
def test_a_piece_of_a_large_network_is_a_chunk(backend):
    """What comes between two looks at the clock is no more than in a step."""
    dense, n = [Dense(200, "tanh"), Dense(200, "relu"), Dense(2)], 3000
    problem, other = (make_problem(3, dense, SquaredError(), n) for n in (10, n))
    state = new_state(problem, SGD())
    run = start(backend, problem, SGD(), TrainingSettings(), state, validation=other.data)
    *losses, reasons = in_pieces(run, state, 2)
    assert len(reasons) >= 2 * (n // 288)
    whole, *found, _ = train_and_validate(backend, problem, SGD(), TrainingSettings(), 2, other.data)
    assert numbers(whole) == numbers(state)
    assert [x.tolist() for x in found] == losses


@each_backend
def test_no_time_at_all_still_comes_to_an_end_with_new_runs(backend):
    """Each call makes some progress, however large the validation data are; what is over is never lost for good."""
    problem, validation = both(n_validation=20_000)
    settings = SETTINGS["7, in order"]
    whole, _, expected, _ = train_and_validate(backend, problem, SGD(), settings, 2, validation)
    state = new_state(problem, SGD())
    run, calls, reason = start(backend, problem, SGD(), settings, state, validation=validation), 0, ""
    losses = []
    while reason != "epochs":
        epoch, pieces = state.epoch, np.full((2, 2), np.nan)
        reason = run.run(2, 0.0, *pieces)
        losses += pieces[1, : state.epoch - epoch].tolist()
        calls += 1
        assert calls <= 1000
    assert calls >= whole.step
    assert losses == expected.tolist()
    assert numbers(state) == numbers(whole)


# ---- losses that are not finite ----


def overflowing(weight: float, target: float) -> tuple[Problem, Data]:
    """The output is (100 - 99) times w x, and w moves towards the target by the learning rate in each epoch.

    The validation loss is w times a large number for w < 1.027, and infinity minus infinity for w > 1.038, where 99 w x
    is beyond all numbers.
    """
    frozen = {"bias": False, "trainable": False}
    problem = Problem(
        1,
        [Dense(1, bias=False), Dense(2, **frozen), Dense(1, **frozen)],
        AbsoluteError(),
        np.array([weight, 100.0, 99.0, 1.0, -1.0]),
        Data(np.array([[1.0]]), np.array([[target]])),
    )
    return problem, Data(np.array([[1.75e306]]), np.array([[0.0]]))


@each_backend
def test_a_validation_loss_of_nan_is_no_progress(backend):
    """Neither divergence nor a new best loss, but a stale epoch."""
    problem, validation = overflowing(1.35, -100.0)
    settings = TrainingSettings(monitor="val_loss", tolerance=0.0, patience=3, keep_best=True)
    state, losses, validated, reason = train_and_validate(
        backend, problem, SGD(learning_rate=0.01), settings, 10, validation
    )
    assert (reason, state.epoch, state.stale_epochs) == ("tolerance", 3, 3)
    assert np.isnan(validated).all()
    assert np.isfinite(losses[:3]).all()
    assert (state.best_loss, state.best_epoch) == (INFINITE, 0)


@each_backend
@pytest.mark.parametrize("tolerance", [None, 0.0])
def test_nan_at_first(backend, tolerance):
    """Weights of 1.25, 1.15, 1.05, and then ones that are small enough."""
    problem, validation = overflowing(1.35, -100.0)
    settings = TrainingSettings(monitor="val_loss", tolerance=tolerance, patience=4, keep_best=True)
    state, _, validated, reason = train_and_validate(backend, problem, SGD(learning_rate=0.1), settings, 6, validation)
    assert np.isnan(validated).tolist() == [True] * 3 + [False] * 3
    assert (reason, state.best_epoch, state.stale_epochs) == ("epochs", 6, 0)
    assert state.best_loss == validated[5] == pytest.approx(0.75 * 1.75e306)
    assert state.best_parameters[0] == pytest.approx(0.75)


@each_backend
def test_nan_later(backend):
    """Weights of 0.85, 0.95, 1.05, 1.15 ...: what was best before stays best."""
    problem, validation = overflowing(0.75, 100.0)
    settings = TrainingSettings(monitor="val_loss", tolerance=0.0, patience=4, keep_best=True)
    state, _, validated, reason = train_and_validate(backend, problem, SGD(learning_rate=0.1), settings, 20, validation)
    assert reason == "tolerance"
    assert np.isnan(validated[:5]).tolist() == [False] * 2 + [True] * 3
    assert (state.epoch, state.best_epoch, state.best_loss) == (5, 1, validated[0])
    assert state.best_parameters[0] == pytest.approx(0.85)


@each_backend
def test_nan_does_not_matter_where_the_training_loss_is_monitored(backend):
    problem, validation = overflowing(1.35, -100.0)
    settings = TrainingSettings(monitor="loss", tolerance=0.0, patience=2, keep_best=True)
    state, losses, validated, reason = train_and_validate(
        backend, problem, SGD(learning_rate=0.01), settings, 3, validation
    )
    assert np.isnan(validated).all()
    assert (reason, state.best_epoch, state.best_loss) == ("epochs", 3, losses[2])


@each_backend
@each_dtype
@each_settings
@pytest.mark.parametrize("monitor", ["loss", "val_loss"])
def test_divergence(backend, dtype, settings, monitor):
    """Both losses of that epoch are there, and the best parameters are those of an epoch before."""
    problem, validation = both(dtype, dense=[Dense(4), Dense(3)])
    settings = replace(settings, monitor=monitor, keep_best=True, tolerance=0.0, patience=10_000)
    steps = math.ceil(N_ROWS / (settings.batch_size or N_ROWS))
    rates = np.full(2 * steps + 1, 1e-3)
    rates[-1] = 1e4
    state, losses = new_state(problem, SGD()), np.full((2, 1000), np.nan)
    run = start(backend, problem, SGD(), settings, state, rates, validation)
    assert run.run(1000, INFINITE, *losses) == "diverged"
    assert 2 < state.epoch < 1000
    assert np.isnan(losses[:, state.epoch :]).all()
    assert not np.isfinite(losses[:, state.epoch - 1]).all() or not np.isfinite(state.parameters).all()
    assert np.isfinite(losses[0, : state.epoch - 1]).all()
    expected = loss_of(backend, problem, state.parameters, validation)
    np.testing.assert_allclose(losses[1, state.epoch - 1], expected, rtol=1e-6)
    assert state.best_epoch == np.nanargmin(losses[int(monitor == "val_loss"), : state.epoch - 1]) + 1
    assert np.isfinite(state.best_parameters).all()
    assert state.stale_epochs == state.epoch - 1 - state.best_epoch
