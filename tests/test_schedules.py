"""Schedules beside PyTorch's, their composition, and their checks."""

import math
import pickle
import re
from dataclasses import dataclass

import numpy as np
import pytest
from backprop.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    Custom,
    Exponential,
    InverseScaling,
    OneCycle,
    Product,
    Schedule,
    Sequential,
    StepDecay,
    Warmup,
    as_schedule,
)

STEPS = np.arange(60)
# PyTorch works most of its rates out from the last one, which adds up roundings.
CLOSE = {"rtol": 1e-10, "atol": 1e-13}

BESIDE_PYTORCH = {
    "StepLR": (StepDecay(length=7, decay=0.3), {"step_size": 7, "gamma": 0.3}),
    "ExponentialLR": (Exponential(decay=0.9), {"gamma": 0.9}),
    "CosineAnnealingLR": (Cosine(length=59, end=0.05), {"T_max": 59, "eta_min": 0.05}),
    "LinearLR": (Warmup(length=20, start=0.2), {"start_factor": 0.2, "end_factor": 1.0, "total_iters": 20}),
    "CosineAnnealingWarmRestarts": (
        Cosine(length=5, end=0.1, restarts=True, growth=2),
        {"T_0": 5, "T_mult": 2, "eta_min": 0.1},
    ),
    "OneCycleLR": (OneCycle(length=60), {"max_lr": 1.0, "total_steps": 60}),
}


def pytorchs(name, settings):
    """PyTorch's rates, for an optimizer of rate 1."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, dtype=torch.float64)], lr=1.0)
    scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **settings)
    rates = []
    for _ in STEPS:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < len(STEPS):
            scheduler.step()
    return rates


@pytest.mark.parametrize("name", BESIDE_PYTORCH)
def test_beside_pytorch(name):
    schedule, settings = BESIDE_PYTORCH[name]
    np.testing.assert_allclose(schedule.factors(STEPS), pytorchs(name, settings), **CLOSE)


def test_restarts_of_the_same_length_beside_pytorch():
    schedule = Cosine(length=7, restarts=True)
    np.testing.assert_allclose(schedule.factors(STEPS), pytorchs("CosineAnnealingWarmRestarts", {"T_0": 7}), **CLOSE)


@pytest.mark.parametrize("peak", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("shape", ["cosine", "linear"])
def test_one_cycle_beside_pytorch(peak, shape):
    schedule = OneCycle(length=60, peak=peak, start=0.1, end=0.02, shape=shape)
    settings = {"max_lr": 1.0, "total_steps": 60, "pct_start": peak, "div_factor": 10, "final_div_factor": 5}
    if peak * 60 < 1:  # PyTorch's rate at the very first step is then beyond its highest one
        assert schedule.factors(STEPS)[0] == 1
        return
    expected = pytorchs("OneCycleLR", {**settings, "anneal_strategy": shape.replace("cosine", "cos")})
    np.testing.assert_allclose(schedule.factors(STEPS), expected, **CLOSE)


def test_sequential_beside_pytorch():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, dtype=torch.float64)], lr=1.0)
    kinds = torch.optim.lr_scheduler
    parts = [kinds.LinearLR(optimizer, 0.25, total_iters=5), kinds.ExponentialLR(optimizer, 0.8)]
    scheduler = kinds.SequentialLR(optimizer, parts, milestones=[5])
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    schedule = Sequential(parts=(Warmup(length=5, start=0.25), Exponential(decay=0.8)), lengths=(5,))
    np.testing.assert_allclose(schedule.factors(np.arange(20)), rates, **CLOSE)


def test_inverse_scaling_is_scikit_learns():
    sgd = pytest.importorskip("sklearn.neural_network._stochastic_optimizers").SGDOptimizer
    n_rows, optimizer = 37, sgd([np.zeros(1)], 0.2, "invscaling", power_t=0.3)
    rates = []
    for epoch in range(1, 6):
        rates.append(optimizer.learning_rate)
        optimizer.iteration_ends(epoch * n_rows)
    schedule = InverseScaling(power=0.3, rate=n_rows, every="epoch")
    np.testing.assert_allclose(0.2 * schedule.factors(np.arange(5)), rates, rtol=1e-14)


EXAMPLES = {
    "constant": Constant(factor=0.5),
    "step_decay": StepDecay(length=3),
    "exponential": Exponential(decay=0.9),
    "inverse_scaling": InverseScaling(),
    "cosine": Cosine(length=3, restarts=True, growth=3),
    "warmup": Warmup(length=4),
    "one_cycle": OneCycle(length=20),
    "product": Product(parts=(Warmup(length=4), StepDecay(length=1, every="epoch"))),
    "sequential": Sequential(parts=(Warmup(length=4), Cosine(length=9)), lengths=(2,), every="epoch"),
    "custom": Custom(function=abs),
}


def test_each_has_an_example():
    assert EXAMPLES.keys() == SCHEDULES.keys()
    assert all(type(EXAMPLES[name]) is kind for name, kind in SCHEDULES.items())


@pytest.mark.parametrize("name", SCHEDULES)
def test_in_windows_or_whole(name):
    """The core gets the factors piece by piece."""
    schedule = EXAMPLES[name]
    whole = schedule.factors(STEPS, 7)
    assert whole.shape == STEPS.shape
    assert whole.dtype == np.float64
    pieces = [schedule.factors(STEPS[start : start + 11], 7) for start in range(0, 60, 11)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert schedule.factors(STEPS[:0], 7).shape == (0,)


@pytest.mark.parametrize("name", SCHEDULES)
def test_copies_and_pickles(name):
    assert pickle.loads(pickle.dumps(EXAMPLES[name])) == EXAMPLES[name]


def test_counting_epochs():
    factors = Exponential(decay=0.5, every="epoch").factors(np.arange(7), steps_per_epoch=3)
    np.testing.assert_array_equal(factors, [1, 1, 1, 0.5, 0.5, 0.5, 0.25])


def test_parts_count_in_their_own_units():
    warm, stairs = Warmup(length=4, start=0.0), StepDecay(length=1, every="epoch")
    np.testing.assert_allclose((warm * stairs).factors(np.arange(6), 2), [0, 0.25, 0.05, 0.075, 0.01, 0.01])
    in_turn = Sequential(parts=(stairs, warm), lengths=(2,), every="epoch")
    np.testing.assert_allclose(in_turn.factors(np.arange(9), 2), [1, 1, 0.1, 0.1, 0, 0.25, 0.5, 0.75, 1])


def test_far_out():
    """After a hundred million epochs nothing overflows, takes long, or falls below its end."""
    steps = np.array([10**14, 10**14 + 1])
    np.testing.assert_array_equal(Cosine(length=3, end=0.25).factors(steps), [0.25, 0.25])
    np.testing.assert_array_equal(Exponential(decay=0.9).factors(steps), [0, 0])
    restarts = Cosine(length=3, restarts=True, growth=2).factors(steps)
    assert ((restarts >= 0) & (restarts <= 1)).all()


def test_numbers_of_numpy_are_plain_numbers():
    """Small types would overflow: descents of 100, 200 and then 144 steps, and so on without end."""
    small = Cosine(length=np.uint8(100), restarts=True, growth=np.uint8(2), end=np.float32(0.25))
    assert repr(small) == repr(Cosine(length=100, restarts=True, growth=2, end=0.25))
    assert repr(StepDecay(length=np.int64(3), decay=np.float32(0.5))) == repr(StepDecay(length=3, decay=0.5))


@pytest.mark.parametrize(("lengths", "steps_per_epoch"), [((10**17,), 100), ((10**17,) * 99 + (1,), 1)])
def test_lengths_that_are_never_over(lengths, steps_per_epoch):
    """Not even where there are more steps in them than 64 bits count."""
    parts = (Constant(), *[Constant(factor=0.5)] * len(lengths))
    schedule = Sequential(parts=parts, lengths=lengths, every="epoch")
    np.testing.assert_array_equal(schedule.factors(np.array([0, 1, 10**15]), steps_per_epoch), [1, 1, 1])


def test_a_class_of_ones_own():
    @dataclass(frozen=True, kw_only=True)
    class Half(Schedule):
        def formula(self, t):
            return np.full(t.shape, 0.5)

    np.testing.assert_array_equal((Half() * Half()).factors(STEPS), 0.25)
    with pytest.raises(TypeError):
        Half() * 2


def test_functions():
    schedule = as_schedule("schedule", lambda step: 1 / (1 + step))
    assert schedule.every == "step"
    np.testing.assert_array_equal(schedule.factors(STEPS, 4), 1 / (1 + STEPS))
    calls = []
    Custom(function=lambda t: calls.append(t) or 1.0, every="epoch").factors(np.arange(10), 4)
    assert calls == [0, 1, 2]
    assert all(type(t) is int for t in calls)


BAD = [
    (lambda: StepDecay(length=0), ValueError, "length: needs an integer >= 1, got 0"),
    (lambda: Exponential(decay=0.0), ValueError, "decay: needs a number > 0, got 0"),
    (lambda: Exponential(decay=0.5, every="batch"), ValueError, "every: needs one of 'step', 'epoch', got 'batch'"),
    (lambda: Cosine(length=5, growth=2), ValueError, "growth: needs restarts=True, got 2"),
    (lambda: OneCycle(length=1), ValueError, "length: needs an integer >= 2, got 1"),
    (lambda: Warmup(length=2.0), TypeError, "length: needs an integer, got 2.0"),
    (lambda: Product(parts=()), TypeError, "parts: needs a sequence of at least one schedule, got ()"),
    (lambda: Product(parts=(Constant(), 1)), TypeError, "parts[1]: needs a schedule, got 1"),
    (lambda: Sequential(parts=(Constant(),), lengths=(1,)), ValueError, "lengths: needs 0, one for each part but the"),
    (lambda: Sequential(parts=(Constant(),), lengths=3), TypeError, "lengths: needs a sequence of integers, got 3"),
    (lambda: Custom(function=3), TypeError, "function: needs a function, got 3"),
    (lambda: Custom(function=lambda t: -1).factors(STEPS), ValueError, "schedule(0): needs a number >= 0, got -1"),
    (lambda: Custom(function=lambda t: math.nan).factors(STEPS), ValueError, "schedule(0): needs a finite number"),
    (lambda: as_schedule("schedule", 0.1), TypeError, "got 0.1 (float); a rate itself is the learning_rate of an opt"),
    (lambda: as_schedule("schedule", Cosine), TypeError, "schedule: needs an object, got the class Cosine; write"),
    (
        lambda: as_schedule("schedule", "cosine"),
        TypeError,
        "schedule: needs None, a function of the step number or one",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD)
def test_bad_ones(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()
