"""How many members a team has at the moment follows what its steps cost. Times are made up here, so none depends on the
machine."""

import importlib
import time

import backprop as bp
import numpy as np
import pytest
from backprop.backends import choice
from backprop.base import threads
from backprop.base.state import TrainingState
from backprop.base.types import Data, TrainingSettings
from backprop.layers import Dense

COMPILED = [name for name in choice.available() if name != "reference"]
pytestmark = pytest.mark.skipif(not COMPILED, reason="needs a compiled core")

STEP = 0.0004  # seconds of one thread


def sizes_of(seconds, **settings):
    """The team's sizes over steps that take seconds[k][size - 1]."""
    rule = importlib.import_module("backprop._cpu")
    return np.array(rule.team_sizes([list(map(float, row)) for row in seconds], **settings))


def total(seconds, sizes):
    return sum(row[size - 1] for row, size in zip(seconds, sizes, strict=True))


def idle(n_steps, most=2, step=STEP):
    """A machine with nothing else to do: a barrier and the caches cost a tenth of a step."""
    return np.tile(step * (1 / np.arange(1, most + 1) + 0.1), (n_steps, 1))


def busy(n_steps, most=2, step=STEP, free=1, stall=0.004, every=0.004):
    """Other processes take the CPUs beyond `free`: after `every` seconds of work, larger teams wait for `stall` seconds
    until whoever has lost its CPU is back."""
    seconds = idle(n_steps, most, step)
    waits = np.floor(np.cumsum(seconds, axis=0) / every) - np.floor((np.cumsum(seconds, axis=0) - seconds) / every)
    seconds[:, free:] += stall * waits[:, free:]
    return seconds


@pytest.mark.parametrize("most", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("step", [0.00005, STEP, 0.01, 0.2])
def test_an_idle_machine_has_the_whole_team(most, step):
    seconds = idle(int(4 / step), most, step)
    sizes = sizes_of(seconds)
    assert sizes[0] == most
    most_lost = 0.02 if step < 0.1 else 0.05
    assert total(seconds, sizes) < (1 + most_lost) * seconds[:, most - 1].sum()


@pytest.mark.parametrize("step", [0.00005, STEP, 0.01])
def test_a_busy_machine_is_hardly_slower_than_one_thread(step):
    seconds = busy(int(2 / step), step=step, every=min(0.004, 2 * step))
    sizes = sizes_of(seconds)
    assert total(seconds, sizes) < 1.06 * seconds[:, 0].sum()
    assert np.mean(sizes == 1) > 0.85


def test_one_member_is_left_out_where_one_of_many_cpus_is_busy():
    seconds = busy(20_000, most=8, free=7)
    sizes = sizes_of(seconds)
    assert sizes[-1] == 7
    assert total(seconds, sizes) < 0.75 * seconds[:, 7].sum()


@pytest.mark.parametrize("most", [4, 7, 16])
def test_more_threads_than_cpus(most):
    """Two CPUs: every further thread has to be put aside and taken up again."""
    seconds = idle(20_000, most)
    seconds[:, 2:] = seconds[:, 1:2] + 0.0001 * np.arange(1, most - 1)
    assert total(seconds, sizes_of(seconds)) < 1.1 * seconds[:, 1].sum()


def test_load_that_comes_and_goes():
    """A second of each: never slower than one thread, and the free seconds are used."""
    parts = [busy(2500), idle(5000)] * 4
    seconds = np.concatenate(parts)
    sizes = sizes_of(seconds)
    assert total(seconds, sizes) < 1.0 * seconds[:, 0].sum()
    ends = np.cumsum([len(part) for part in parts])
    for first, end in zip(ends[::2], ends[1::2], strict=True):
        assert np.mean(sizes[first:end] == 2) > 0.5


def test_a_team_that_gains_nothing_is_not_kept():
    seconds = np.tile([STEP, 1.05 * STEP], (5000, 1))
    assert np.mean(sizes_of(seconds)) < 1.1


def test_long_steps_of_a_large_team_wait_for_their_first_trial():
    """One thread takes sixteen times as long."""
    seconds = np.tile(16 / np.arange(1, 17), (60, 1))
    assert set(sizes_of(seconds)) == {16}


def test_steps_that_are_cut_by_the_ends_of_calls_are_measured():
    """A trial whose steps take several calls ends like any other."""
    core = choice.load(COMPILED[0]).module(np.float32)
    plan = core.Plan(32, [Dense(64, "relu"), Dense(64, "relu"), Dense(1)])
    rng, optimizer = np.random.default_rng(0), bp.SGD(learning_rate=0.001)
    data = Data(*(rng.standard_normal((20_000, n), dtype=np.float32) for n in (32, 1)))
    state = TrainingState(
        np.zeros(plan.n_parameters, np.float32), np.empty((0, plan.n_parameters), np.float32), np.random.PCG64(0)
    )
    loss, rates, settings = bp.losses.SquaredError(), np.array([0.001]), TrainingSettings(n_threads=2)
    training = core.Training(plan, loss, optimizer, settings, data, state, rates)
    losses, sizes, end = np.empty(10_000), [2], time.monotonic() + 60
    while len(sizes) < 3 and time.monotonic() < end:
        training.run(10_000, 0.0005, losses[state.epoch :])
        if training.n_threads != sizes[-1]:
            sizes.append(training.n_threads)
    assert sizes == [2, 1, 2]


@pytest.mark.parametrize("most", [2, 3, 8])
@pytest.mark.parametrize("step", [0.00001, 0.00005, STEP])
def test_a_member_that_begins_alone(most, step):
    """Others join it where they help, and only try to where they do not."""
    seconds = idle(int(1 / step), most, step)
    sizes = sizes_of(seconds, one_alone=True)
    assert sizes[0] == 1
    assert np.mean(sizes[len(sizes) // 2 :] == most) > 0.95
    assert total(seconds, sizes) < 0.6 * seconds[:, 0].sum()
    small = np.tile(step * np.arange(1, most + 1), (int(1 / step), 1))  # barriers are all there is
    sizes = sizes_of(small, one_alone=True)
    assert (sizes[: int(0.02 / step)] == 1).all()
    assert total(small, sizes) < 1.01 * small[:, 0].sum()


@pytest.mark.parametrize("most", [2, 3, 8, 16])
@pytest.mark.parametrize("step", [0.00005, STEP, 0.001])
def test_all_are_tried_as_soon_as_one_has_shown_its_cost(most, step):
    seconds = idle(int(0.5 / step), most, step)
    sizes = sizes_of(seconds, one_at_first=True)
    first = int(np.argmax(sizes > 1))
    assert 0.0015 <= seconds[:first, 0].sum() <= 0.0015 + 1.5 * step
    assert sizes[first] == most
    assert total(seconds, sizes) < total(seconds, sizes_of(seconds)) + 0.0015 + step


@pytest.mark.parametrize("step", [0.00005, STEP, 0.001])
def test_a_short_run_on_a_busy_machine_is_hardly_slower_than_one_thread(step):
    for duration in (0.03, 0.1, 0.3):
        seconds = busy(int(duration / step), step=step, every=min(0.004, 2 * step))
        sizes = sizes_of(seconds, one_at_first=True)
        assert total(seconds, sizes) < 1.04 * seconds[:, 0].sum() + 0.008, duration


@pytest.fixture
def teams_of_minimizers(monkeypatch):
    """How many threads each minimisation begins with."""
    seen = []
    core = choice.load(COMPILED[0]).module(np.float64)

    class Solving(core.Solving):
        def __init__(self, *settings, **others):
            super().__init__(*settings, **others)
            seen.append(self.n_threads)

    monkeypatch.setattr(core, "Solving", Solving)
    return seen


@pytest.mark.parametrize("rows", [200, 20_000, 300_000])
@pytest.mark.parametrize("fixed", [False, True])
def test_a_minimisation_of_short_steps_begins_alone(rows, fixed, teams_of_minimizers, monkeypatch):
    monkeypatch.setenv("BACKPROP_THREADS", "fixed" if fixed else "auto")
    net = bp.mlp([2, 20, 1], seed=0, dtype="float64", backend=COMPILED[0])
    net.minimize(np.zeros((rows, 2)), np.zeros(rows), max_iter=1, n_threads=2)
    assert teams_of_minimizers == [2 if rows == 300_000 or fixed else 1]


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize("rows", [100, 10_000])
@pytest.mark.parametrize("n_threads", [1, 2, "auto"])
def test_threads_of_an_estimator_reach_its_minimizer(rows, n_threads, teams_of_minimizers, monkeypatch):
    """ "auto" takes all where an evaluation is long enough for its two meetings."""
    estimators = pytest.importorskip("backprop.sklearn")
    monkeypatch.setenv("BACKPROP_BACKEND", COMPILED[0])
    monkeypatch.setenv("BACKPROP_THREADS", "fixed")
    monkeypatch.setattr(threads, "allowed", lambda: 2)
    X = np.linspace(0, 1, 2 * rows).reshape(rows, 2)
    coefs = []
    for wanted in (n_threads, 1):
        model = estimators.MLPRegressor(
            hidden_layer_sizes=20, solver="lbfgs", max_iter=3, random_state=0, n_threads=wanted
        )
        coefs.append(model.fit(X, X[:, 0]).coefs_)
    assert teams_of_minimizers == [1 if n_threads == "auto" and rows == 100 else 2 if n_threads != 1 else 1, 1]
    for ours, alone in zip(*coefs, strict=True):
        assert ours.tobytes() == alone.tobytes()


def test_a_team_of_one():
    assert set(sizes_of(np.full((100, 1), STEP))) == {1}


def test_fixed_threads(monkeypatch):
    monkeypatch.setenv("BACKPROP_THREADS", "fixed")
    assert threads.are_fixed()
    monkeypatch.setenv("BACKPROP_THREADS", "auto")
    assert not threads.are_fixed()
    monkeypatch.delenv("BACKPROP_THREADS")
    assert not threads.are_fixed()
    monkeypatch.setenv("BACKPROP_THREADS", "Fixed")
    with pytest.raises(ValueError, match="BACKPROP_THREADS: needs auto or fixed, got 'Fixed'"):
        threads.are_fixed()


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("wanted", [True, False])
def test_fixed_threads_reach_the_core(wanted, monkeypatch):
    """Of networks and of estimators."""
    estimators = pytest.importorskip("backprop.sklearn")
    seen = []

    def noting(core):
        class Training(core.Training):
            def __init__(self, plan, loss, optimizer, settings, *others):
                seen.append(settings.fixed_threads)
                super().__init__(plan, loss, optimizer, settings, *others)

        return Training

    for core in (choice.load(name).module(np.float32) for name in COMPILED):
        monkeypatch.setattr(core, "Training", noting(core))
    monkeypatch.setenv("BACKPROP_THREADS", "fixed" if wanted else "auto")
    X, y = np.zeros((8, 2), "f4"), np.arange(8.0)
    bp.mlp([2, 3, 1], seed=0).fit(X, y, epochs=1, n_threads=2)
    estimators.MLPRegressor(hidden_layer_sizes=(3,), max_iter=1, tol=0, dtype="float32").fit(X, y)
    assert seen == [wanted, wanted]
