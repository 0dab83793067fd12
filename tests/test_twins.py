"""The compiled cores against their NumPy twin: values, gradients, and parameters and slots after training."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from backends import (
    COMPILED,
    LOSS_VARIANTS,
    OPTIMIZER_VARIANTS,
    distance,
    each_compiled,
    each_dtype,
    hidden_activations,
    label,
    make_problem,
    module,
    outputs_of,
    parameter_parts,
    train,
    train_and_validate,
)
from backprop.base.types import TrainingSettings
from backprop.layers import Dense
from backprop.losses import CrossEntropy, SquaredError
from backprop.optimizers import OPTIMIZERS, SGD, Adagrad, Adam, RMSprop

# float64: the twins round differently, by about 1e-16 in each of some thousand operations, and 50 steps of training
# amplify that somewhat. (float32 has a bound of its own, see `assert_as_good`.)
TOLERANCE = 1e-12
EPSILONS = ("epsilon", "adamw_epsilon")


def tamed(optimizer):
    """What makes little of a rounding; test_optimizers.py compares the usual ones with PyTorch.

    Where a gradient is 0 but for rounding, an optimizer that divides it by its own size makes a full step of that. An
    epsilon above all rounding leaves such steps small. Adadelta's own rate is ten times any other.
    """
    changed = {name: max(getattr(optimizer, name), 1e-2) for name in EPSILONS if hasattr(optimizer, name)}
    return replace(optimizer, **changed, learning_rate=min(optimizer.learning_rate, 0.1))


OPTIMIZER_CASES = [tamed(optimizer) for optimizer in OPTIMIZER_VARIANTS]
# Steps along a sign are full steps for any epsilon. Losses whose slopes take a few values only make gradients that are
# 0 but for rounding.
SIGNED, STEPWISE = ("lion", "rprop"), ("absolute_error", "quantile", "huber", "hinge")
BATCHES = {
    "full": TrainingSettings(),
    "shuffled": TrainingSettings(batch_size=8),  # 8 and 8 and 1 rows
    "in order": TrainingSettings(batch_size=6, shuffle=False),  # 6, 6 and 5 rows
    "online": TrainingSettings(batch_size=1),
}
N_ROWS = 17
PAIRS = [(hidden, loss) for hidden in hidden_activations() for loss in LOSS_VARIANTS]
each_pair = pytest.mark.parametrize(
    "pair", range(len(PAIRS)), ids=[f"{hidden}-{label(loss)}" for hidden, loss in PAIRS]
)


def steps(n_steps, settings, n_rows):
    """How many epochs make at least that many steps."""
    per_epoch = -(-n_rows // (settings.batch_size or n_rows))
    return -(-n_steps // per_epoch)


def cases(pair):
    """For a hidden activation and a loss: each optimizer with another output, batch, and set of options."""
    hidden, loss = PAIRS[pair]
    # exp is its own derivative and soon beyond all numbers; as an output the losses made for it have it
    outputs = [output for output in outputs_of(loss) if output != "exp" or loss.outputs is not None]
    for k, name in enumerate(OPTIMIZERS):
        if name in SIGNED and loss.name in STEPWISE:
            continue
        variants = [optimizer for optimizer in OPTIMIZER_CASES if optimizer.name == name]
        optimizer = variants[pair % len(variants)]
        output = outputs[(pair // len(LOSS_VARIANTS) * len(OPTIMIZERS) + k) % len(outputs)]
        dense = [Dense(5, hidden, l2=0.01 * (k % 2)), Dense(3, output, l1=0.01 * (pair % 2))]
        variant = replace(loss, reduction=("mean", "sum")[(pair + k) // 4 % 2], scale=0.5)
        seed = pair + (100 if loss.name == "hinge" else 0)  # rows none of which comes within rounding of the kink
        problem = make_problem(3, dense, variant, N_ROWS, weighted=(pair + k) % 3 > 0, labels=pair % 2 == 0, seed=seed)
        if "exp" in (hidden, output):
            problem.parameters *= 0.25
        if variant.reduction == "sum":
            optimizer = replace(optimizer, learning_rate=optimizer.learning_rate / 10)
        yield problem.cast(np.float32).cast(np.float64), optimizer, list(BATCHES.values())[(pair + k) % len(BATCHES)]


@cache
def reference_runs(pair):
    """What the twin makes of the cases of a pair, in float64 and in float32."""
    runs = []
    for problem, optimizer, settings in cases(pair):
        # Where the gradient jumps, a rounding can become a step of another size: few steps have few jumps.
        epochs = steps(20 if problem.loss.name in STEPWISE else 50, settings, N_ROWS)
        both = [
            (p.loss_and_gradient("reference"), train("reference", p, optimizer, settings, epochs))
            for p in (problem, problem.cast(np.float32))
        ]
        runs.append((problem, optimizer, settings, epochs, *both))
    return runs


def arrays(problem, vector):
    """The parts of a parameter vector, or of each slot: weights and biases of each layer."""
    parts = [part for part in parameter_parts(problem.n_inputs, problem.dense) if part.start < part.stop]
    return [row[part] for row in np.atleast_2d(vector) for part in parts]


def assert_twins(problem, actual, expected, tolerance=TOLERANCE):
    """Two training runs in float64: the same batches, and numbers that differ by rounding only."""
    (state, losses, reason), (twin, twin_losses, twin_reason) = actual, expected
    assert np.isfinite(twin_losses).all()
    assert reason == twin_reason
    assert distance(losses, twin_losses) <= tolerance
    for array, twin_array in zip(
        arrays(problem, state.parameters) + arrays(problem, state.slots),
        arrays(problem, twin.parameters) + arrays(problem, twin.slots),
        strict=True,
    ):
        assert distance(array, twin_array) <= tolerance
    assert_same_books(state, twin)


def assert_same_books(state, twin):
    """What must not depend on rounding."""
    np.testing.assert_array_equal(state.permutation, twin.permutation)
    assert state.bit_generator.state == twin.bit_generator.state
    for name in ("step", "epoch", "cursor", "loss_sum", "weight_sum", "stale_epochs"):
        assert getattr(state, name) == getattr(twin, name), name


def assert_all_as_good(actual, twin, truth, what):
    """In float32 a core may be off the float64 run by as much as its twin is, times 4, and by 10 roundings.

    Both go through the same number of roundings in another order; how much training amplifies them is a property of the
    problem, which the twin's own error shows: the largest of what is compared, as one of them may be small by luck. A
    wrong term in a formula would be an error of 1e-2 and more.
    """
    bound = 4 * max(map(distance, twin, truth)) + 10 * float(np.finfo(np.float32).eps)
    errors = list(map(distance, actual, truth))
    assert max(errors) <= bound, (what, errors)


def assert_as_good(actual, twin, truth, what):
    """The same for one of them."""
    assert_all_as_good((actual,), (twin,), (truth,), what)


def learned(run):
    """What a training leaves: losses, parameters and slots."""
    state, losses, _ = run
    return losses, state.parameters, state.slots


@each_compiled
@each_pair
def test_float64(backend, pair):
    for problem, optimizer, settings, epochs, (gradient, run), _ in reference_runs(pair):
        value, actual = problem.loss_and_gradient(backend)
        assert value == pytest.approx(gradient[0], rel=1e-13)
        for array, expected in zip(arrays(problem, actual), arrays(problem, gradient[1]), strict=True):
            assert distance(array, expected) <= 1e-13
        assert_twins(problem, train(backend, problem, optimizer, settings, epochs), run)


@each_compiled
@each_pair
def test_float32(backend, pair):
    for problem, optimizer, settings, epochs, (truth, true_run), (twin, twin_run) in reference_runs(pair):
        single = problem.cast(np.float32)
        value, gradient = single.loss_and_gradient(backend)
        assert_all_as_good((value, gradient), twin, truth, "value, gradient")
        run = train(backend, single, optimizer, settings, epochs)
        state, _, reason = run
        assert reason == "epochs"
        assert_all_as_good(learned(run), learned(twin_run), learned(true_run), "losses, parameters, slots")
        assert state.parameters.dtype == state.slots.dtype == np.float32


# ---- shapes ----

WIDTHS = (1, 3, 7, 17, 33)
# Widths of two layers, number of inputs, rows and batch: all sizes in all places, each with many others.
SHAPES = [
    (WIDTHS[i], WIDTHS[(i + j) % 5], WIDTHS[(i + 2 * j) % 5], n_rows, batch)
    for i in range(5)
    for j, (n_rows, batch) in enumerate([(5, 1), (37, 5), (97, 32), (131, 100), (100, 100)])
]


@each_compiled
@each_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape)))
def test_odd_shapes(backend, dtype, shape):
    n_inputs, hidden, n_outputs, n_rows, batch = shape
    activation = hidden_activations()[SHAPES.index(shape) % len(hidden_activations())]
    dense = [Dense(hidden, activation), Dense(hidden, "tanh", l2=0.01), Dense(n_outputs, "identity")]
    problem = make_problem(n_inputs, dense, SquaredError(), n_rows, seed=n_inputs)
    if activation == "exp":
        problem.parameters *= 0.25
    problem = problem.cast(np.float32).cast(float)
    settings = TrainingSettings(batch_size=batch)
    optimizer = Adam(epsilon=1e-2)
    epochs = min(5, steps(20, settings, n_rows))
    gradient, run = problem.loss_and_gradient("reference"), train("reference", problem, optimizer, settings, epochs)
    if dtype is np.float64:
        value, actual = problem.loss_and_gradient(backend)
        assert value == pytest.approx(gradient[0], rel=1e-13)
        assert distance(actual, gradient[1]) <= 1e-13
        assert_twins(problem, train(backend, problem, optimizer, settings, epochs), run)
    else:
        single = problem.cast(dtype)
        twin, twin_run = single.loss_and_gradient("reference"), train("reference", single, optimizer, settings, epochs)
        value, actual = single.loss_and_gradient(backend)
        state, losses, _ = train(backend, single, optimizer, settings, epochs)
        assert_as_good(actual, twin[1], gradient[1], "gradient")
        assert_as_good(losses, twin_run[1], run[1], "losses")
        assert_as_good(state.parameters, twin_run[0].parameters, run[0].parameters, "parameters")


# Batches of a few rows: widths about where one way to add up follows another, and options that take a way of their own.
FEW_ROWS = [
    ((6, 16, 1), 2, Adam(epsilon=1e-2), {}),
    ((1, 17, 1), 3, SGD(), {"bias": False}),
    ((70, 1, 16, 3), 4, SGD(weight_decay=0.05), {}),
    ((9, 2, 33, 15, 8), 5, SGD(momentum=0.9), {"bias_trainable": False}),
    ((33, 15, 18, 16), 6, RMSprop(epsilon=1e-2), {"l1": 0.01, "l2": 0.02}),
    ((8, 100, 2), 7, SGD(), {"trainable": False}),
    ((3, 40, 40, 1), 8, Adagrad(epsilon=1e-2), {"max_norm": 0.8}),
    ((21, 49, 31), 4, Adam(epsilon=1e-2), {"dropout": 0.2}),
    ((12, 8, 14, 9), 7, SGD(weight_decay=0.1), {}),
    ((5, 6, 40, 7, 9), 4, SGD(weight_decay=0.1), {}),
    ((19, 3, 2, 64), 3, Adam(epsilon=1e-2), {}),
]


@each_compiled
@each_dtype
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("case", FEW_ROWS, ids=lambda case: f"{'-'.join(map(str, case[0]))} by {case[1]}")
def test_few_rows(backend, dtype, case, weighted):
    (n_inputs, first, *others), batch, optimizer, options = case
    k = FEW_ROWS.index(case)
    hidden = hidden_activations()[k % len(hidden_activations())]
    *between, n_outputs = others
    output, loss = ("softmax", CrossEntropy()) if n_outputs > 1 else ("identity", SquaredError())
    between = [Dense(n, "tanh", trainable=k % 4 != 2) for n in between]
    dense = [Dense(first, hidden, **options), *between, Dense(n_outputs, output)]
    problem = make_problem(n_inputs, dense, loss, 2 * batch + 1, weighted=weighted, labels=k % 2 == 0, seed=k)
    if hidden == "exp":
        problem.parameters *= 0.25
    problem = problem.cast(np.float32).cast(float)
    settings = TrainingSettings(batch_size=batch)
    run = train("reference", problem, optimizer, settings, 7)
    if dtype is np.float64:
        assert_twins(problem, train(backend, problem, optimizer, settings, 7), run)
        return
    single = problem.cast(dtype)
    twin_run = train("reference", single, optimizer, settings, 7)
    state, losses, _ = train(backend, single, optimizer, settings, 7)
    assert_as_good(losses, twin_run[1], run[1], "losses")
    assert_as_good(state.parameters, twin_run[0].parameters, run[0].parameters, "parameters")


@each_compiled
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("hidden", [5, 20])
def test_hidden_softmax_in_small_batches(backend, batch, hidden):
    """The core takes it, though `Network` does not: it mixes features, over which the lanes of small batches run."""
    problem = make_problem(3, [Dense(hidden, "softmax"), Dense(3)], SquaredError(), 9)
    settings = TrainingSettings(batch_size=batch)
    assert_twins(problem, *(train(b, problem, SGD(), settings, 3) for b in (backend, "reference")))


@each_compiled
@pytest.mark.parametrize("n_rows", [1, 47, 48, 49, 95, 97, 239, 241, 481, 1000, 2500])
def test_many_rows_go_through_in_chunks(backend, n_rows):
    """Every row once, wherever a core cuts them: forward, gradient and full-batch training."""
    core, twin = module(backend, float), module("reference", float)
    problem = make_problem(9, [Dense(21, "tanh"), Dense(11, "softmax")], CrossEntropy(), n_rows)
    outs = []
    for backend_module in (core, twin):
        out = np.full((n_rows, 11), np.nan)
        plan = backend_module.Plan(9, problem.dense)
        assert backend_module.forward(plan, problem.parameters, problem.data.X, out)
        outs.append(out)
    np.testing.assert_allclose(outs[0], outs[1], rtol=0, atol=1e-15 * 10)  # probabilities: sums of 21 terms of about 1
    (value, gradient), (expected, expected_gradient) = (problem.loss_and_gradient(b) for b in (backend, "reference"))
    assert value == pytest.approx(expected, rel=1e-13)
    assert distance(gradient, expected_gradient) <= 1e-13
    settings = TrainingSettings()
    assert_twins(problem, *(train(b, problem, SGD(momentum=0.9), settings, 5) for b in (backend, "reference")))


@each_compiled
@each_dtype
@pytest.mark.parametrize("hidden", hidden_activations())
def test_forward(backend, dtype, hidden):
    problem = make_problem(3, [Dense(7, hidden), Dense(5, hidden, bias=False), Dense(4)], SquaredError(), 33)
    if hidden == "exp":
        problem.parameters *= 0.25
    problem = problem.cast(np.float32)
    results = []
    for name, precision in ((backend, dtype), ("reference", dtype), ("reference", np.float64)):
        core, p = module(name, precision), problem.cast(precision)
        out = np.full((33, 4), np.nan, precision)
        assert core.forward(core.Plan(3, p.dense), p.parameters, p.data.X, out)
        results.append(out)
    if dtype is np.float64:
        assert distance(results[0], results[2]) <= 1e-13
    else:
        assert_as_good(*results, "outputs")


# ---- settings ----

PARTLY_FROZEN = [
    [Dense(5, "tanh", trainable=False, bias_trainable=False), Dense(4, "relu"), Dense(3)],
    [Dense(5, "tanh", bias_trainable=False, l2=0.1), Dense(4, "relu", bias=False), Dense(3, trainable=False)],
    [
        Dense(5, "tanh", bias=False),
        Dense(4, "relu", trainable=False, bias_trainable=False, l1=0.1),
        Dense(3, bias=False),
    ],
    [Dense(5, "tanh", l1=0.05), Dense(3, trainable=False, bias_trainable=False)],
    [Dense(3, trainable=False, bias_trainable=False)],
]


@each_compiled
@pytest.mark.parametrize("dense", PARTLY_FROZEN, ids=range(len(PARTLY_FROZEN)))
@pytest.mark.parametrize(
    "optimizer", [SGD(momentum=0.9, weight_decay=0.1), Adam(epsilon=1e-2, weight_decay=0.1)], ids=label
)
@pytest.mark.parametrize(
    "clipping", [{}, {"clip_norm": 0.1}, {"clip_value": 0.02}, {"clip_value": 0.02, "clip_norm": 0.1}], ids=str
)
def test_frozen_layers_and_clipping(backend, dense, optimizer, clipping):
    problem = make_problem(4, dense, SquaredError(), 20)
    settings = TrainingSettings(batch_size=8, **clipping)
    runs = [train(name, problem, optimizer, settings, 10) for name in (backend, "reference")]
    assert_twins(problem, *runs)


def everything(shape, k, **options):
    """A network with dropout, bounds of norms and penalties, and validation data for it."""
    n_inputs, hidden, n_outputs, n_rows, _ = shape
    names = [name for name in hidden_activations() if name != "exp"]
    dense = [
        Dense(hidden, names[k % len(names)], dropout=0.3, max_norm=1.0, l2=0.01),
        Dense(hidden + 1, names[(k + 4) % len(names)], l1=0.001, bias=k % 3 > 0, dropout=0.2 * (k % 2)),
        Dense(n_outputs, max_norm=0.7, l2=0.02),
    ]
    problem = make_problem(n_inputs, dense, SquaredError(reduction=("mean", "sum")[k % 2]), n_rows, seed=k, **options)
    return problem, make_problem(n_inputs, dense, problem.loss, n_rows // 2 + 1, seed=k + 1, **options).data


# Widths of a layer, number of inputs and outputs, rows and batch: about 8 and 16, one row, all sizes of batches.
DROPPED_SHAPES = [
    (inputs, hidden, outputs, n_rows, batch)
    for i, (inputs, hidden, outputs) in enumerate(
        [(1, 1, 1), (3, 7, 8), (8, 8, 3), (9, 15, 1), (5, 16, 17), (16, 17, 9)]
    )
    for n_rows, batch in [(1, 1), (7, 3), (20, (1, 7)[i % 2]), (20, 20), (131, 48), (600, (100, 600)[i % 2])]
]


@each_compiled
@each_dtype
@pytest.mark.parametrize("shape", DROPPED_SHAPES, ids=lambda shape: "-".join(map(str, shape)))
def test_everything_at_once(backend, dtype, shape):
    """Dropout, norms, penalties for each row, clipping, validation, the best kept: equal but for rounding."""
    k = DROPPED_SHAPES.index(shape)
    problem, validation = everything(shape, k, weighted=k % 3 > 0)
    optimizer = (SGD(learning_rate=1e-3, momentum=0.5), Adam(epsilon=1e-2))[k // 2 % 2]
    settings = TrainingSettings(
        batch_size=shape[-1],
        penalty_per_row=k % 2 == 0,
        clip_norm=1.0 if k % 4 < 2 else None,
        monitor="val_loss",
        keep_best=True,
    )
    epochs = min(5, steps(20, settings, shape[3]))
    wide = train_and_validate("reference", problem, optimizer, settings, epochs, validation)
    if dtype is np.float64:
        state, *losses, reason = train_and_validate(backend, problem, optimizer, settings, epochs, validation)
        twin, *twin_losses, twin_reason = wide
        assert_twins(problem, (state, losses[0], reason), (twin, twin_losses[0], twin_reason))
        assert distance(losses[1], twin_losses[1]) <= TOLERANCE
        assert distance(state.best_parameters, twin.best_parameters) <= TOLERANCE
        assert state.best_epoch == twin.best_epoch
    else:
        single, validation = problem.cast(dtype), replace(problem, data=validation).cast(dtype).data
        runs = [
            train_and_validate(name, single, optimizer, settings, epochs, validation) for name in (backend, "reference")
        ]
        for what in ("parameters", "slots"):
            assert_as_good(*(getattr(run[0], what) for run in (*runs, wide)), what)
        for i in (1, 2):
            assert_as_good(*(run[i] for run in (*runs, wide)), "losses")
        assert runs[0][0].bit_generator.state == wide[0].bit_generator.state


@each_compiled
def test_learning_rates(backend):
    problem = make_problem(4, [Dense(5, "tanh"), Dense(2)], SquaredError(), 20)
    rates = np.geomspace(0.1, 0.001, 13)  # fewer than the 15 steps
    settings = TrainingSettings(batch_size=8)
    runs = [
        train(name, problem, SGD(momentum=0.5), settings, 5, learning_rates=rates) for name in (backend, "reference")
    ]
    assert_twins(problem, *runs)


@each_compiled
def test_diverging(backend):
    """The loss grows beyond all numbers after the same number of epochs."""
    problem = make_problem(4, [Dense(5), Dense(2)], SquaredError(), 20)
    runs = [train(name, problem, SGD(learning_rate=10.0), TrainingSettings(), 200) for name in (backend, "reference")]
    (state, losses, reason), (twin, twin_losses, twin_reason) = runs
    assert reason == twin_reason == "diverged"
    assert state.epoch == twin.epoch
    np.testing.assert_array_equal(np.isfinite(losses), np.isfinite(twin_losses))


# ---- the same bits ----


@pytest.mark.skipif(not {"v3", "v4"} <= set(COMPILED), reason="needs the cores for AVX2 and for AVX-512")
@each_dtype
@pytest.mark.parametrize("shape", SHAPES[::2], ids=lambda shape: "-".join(map(str, shape)))
def test_avx2_and_avx512_give_the_same_bits(dtype, shape):
    n_inputs, hidden, n_outputs, n_rows, batch = shape
    k = SHAPES.index(shape)
    names = hidden_activations()
    dense = [
        Dense(hidden, names[k % len(names)]),
        Dense(hidden, names[(k + 5) % len(names)], l1=0.01),
        Dense(n_outputs),
    ]
    problem = make_problem(n_inputs, dense, SquaredError(), n_rows, seed=k)
    problem.parameters *= 0.25
    problem = problem.cast(dtype)
    # small steps, or units with exp run away
    optimizer = replace(OPTIMIZER_VARIANTS[k % len(OPTIMIZER_VARIANTS)], learning_rate=1e-3)
    digests = []
    for name in ("v3", "v4"):
        state, losses, _ = train(name, problem, optimizer, TrainingSettings(batch_size=batch, clip_norm=1.0), 10)
        assert np.isfinite(losses).all()
        data = state.parameters.tobytes() + state.slots.tobytes() + losses.tobytes()
        digests.append(hashlib.sha256(data).hexdigest())
    assert digests[0] == digests[1]


@pytest.mark.skipif(not {"v3", "v4"} <= set(COMPILED), reason="needs the cores for AVX2 and for AVX-512")
@each_dtype
@pytest.mark.parametrize("shape", DROPPED_SHAPES[1::2], ids=lambda shape: "-".join(map(str, shape)))
def test_the_same_bits_with_everything_at_once(dtype, shape):
    k = DROPPED_SHAPES.index(shape)
    problem, validation = everything(shape, k)
    problem, validation = problem.cast(dtype), replace(problem, data=validation).cast(dtype).data
    settings = TrainingSettings(batch_size=shape[-1], penalty_per_row=True, monitor="val_loss", keep_best=True)
    results, X = [], problem.data.X
    for name in ("v3", "v4"):
        core = module(name, dtype)
        state, *losses, _ = train_and_validate(name, problem, Adam(), settings, 5, validation)
        arrays = [state.parameters, state.slots, state.best_parameters, *losses]
        for key in (None, 12345):
            gradient, input_gradient = np.empty_like(state.parameters), np.empty_like(X)
            plan = core.Plan(problem.n_inputs, problem.dense)
            core.backward(plan, state.parameters, X, lambda outputs: outputs.copy(), gradient, input_gradient, key)
            arrays += [gradient, input_gradient]
        results.append([array.tobytes() for array in arrays])
    assert results[0] == results[1]
