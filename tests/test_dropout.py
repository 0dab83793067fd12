"""Dropout: the masks as docs/design.md defines them, the same on every backend, and what is computed with them."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from backends import (
    DTYPES,
    Problem,
    distance,
    each_backend,
    each_compiled,
    each_dtype,
    hidden_activations,
    in_pieces,
    make_problem,
    module,
    new_state,
    numbers,
    start,
    train,
)
from backprop import reference
from backprop.base.random import shuffled
from backprop.base.types import Data, TrainingSettings
from backprop.layers import Dense
from backprop.losses import AbsoluteError, CrossEntropy, SquaredError
from backprop.optimizers import SGD, Adam
from backprop.reference import dropout
from backprop.reference.passes import data_loss

INFINITE = float("inf")
KEYS = (0, 1, 2**32, 2**64 - 1, 0x0123456789ABCDEF, 0xFEDCBA9876543210)
RATES = (0.5, 0.25, 0.1, 0.9, 1e-3, 1e-12)


# ---- the definition ----


def mix(x: int) -> int:
    x ^= x >> 16
    x = x * 0x21F0AAAD % 2**32
    x ^= x >> 15
    x = x * 0x735A2D97 % 2**32
    return x ^ x >> 15


def is_kept(key: int, rate: float, row: int, layer: int, unit: int) -> bool:
    """The definition in Python's integers."""
    high, low = divmod(key, 2**32)
    h = mix((mix(row ^ low) + mix((unit + layer * 0x9E3779B9) % 2**32 ^ high)) % 2**32)
    return h // 2 >= math.floor(rate * 2**31)


def mask(key, rate, n_rows, layer, n_units):
    return np.array([[is_kept(key, rate, p, layer, u) for u in range(n_units)] for p in range(n_rows)])


def factor(rate, dtype):
    return np.dtype(dtype).type(1 / (1 - rate))


def test_mix_is_a_permutation_of_bits_that_are_well_mixed():
    """One bit in changes each bit out with probability one half, within 5 standard deviations of 20,000 tries."""
    rng = np.random.default_rng(0)
    x = rng.integers(2**32, size=20_000, dtype=np.uint32)
    assert dropout.mix(x[:100]).tolist() == [mix(int(k)) for k in x[:100]]
    for bit in range(32):
        changed = dropout.mix(x) ^ dropout.mix(x ^ np.uint32(1 << bit))
        shares = [(changed >> np.uint32(out) & 1).mean() for out in range(32)]
        assert max(abs(share - 0.5) for share in shares) <= 5 * 0.5 / math.sqrt(len(x))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("layer", [0, 1, 5])
def test_the_reference_keeps_what_the_definition_keeps(rate, layer):
    for key in KEYS:
        expected = mask(key, rate, 19, layer, 17)
        np.testing.assert_array_equal(dropout.kept(key, layer, rate, 19, 17), expected)
        for dtype in map(np.dtype, DTYPES):
            factors = dropout.factors(key, layer, rate, 19, 17, dtype)
            assert factors.dtype == dtype
            np.testing.assert_array_equal(factors, np.where(expected, factor(rate, dtype), 0))


@pytest.mark.parametrize("rate", [0.5, 0.2, 0.9, 0.01])
def test_the_share_that_is_kept_and_its_independence(rate):
    """Over rows, units, layers and keys that follow each other; within 5 standard deviations."""
    keys = [int(k) for k in np.random.PCG64(1).random_raw(20)]
    kept = np.array([[dropout.kept(key, layer, rate, 100, 50) for layer in range(3)] for key in keys])
    deviation = math.sqrt(rate * (1 - rate))
    for axes in ((0, 1, 2, 3), (0, 2, 3), (0, 1, 2), (0, 1, 3), (1, 2, 3)):
        n = math.prod(kept.shape[axis] for axis in axes)
        assert np.abs(kept.mean(axis=axes) - (1 - rate)).max() <= 5 * deviation / math.sqrt(n)
    centered = (kept - (1 - rate)) / deviation
    for axis in range(4):
        first, second = (np.take(centered, range(a, kept.shape[axis] + a - 1), axis) for a in (0, 1))
        assert abs((first * second).mean()) <= 5 / math.sqrt(first.size)


def test_each_bit_of_the_key_changes_half_of_the_mask():
    for bit in range(64):
        differs = dropout.kept(0, 0, 0.5, 100, 100) != dropout.kept(1 << bit, 0, 0.5, 100, 100)
        assert differs.mean() == pytest.approx(0.5, abs=0.05)  # 10 standard deviations of independent bits


# ---- the masks of every backend ----


def layers_of_ones(units, rates):
    """Layers whose outputs are all 1, so that the last of them shows its mask, and its parameters."""
    dense = [Dense(units, dropout=rate) for rate in rates] + [Dense(units, bias=False)]
    zeros_and_ones = [np.concatenate([np.zeros(units * n), np.ones(units)]) for n in [1] + [units] * (len(rates) - 1)]
    return dense, np.concatenate([*zeros_and_ones, np.eye(units).ravel()])


@each_backend
@each_dtype
@pytest.mark.parametrize("units", [1, 3, 7, 8, 9, 16, 17])
@pytest.mark.parametrize("n_rows", [1, 2, 7, 8, 33])
def test_masks(backend, dtype, units, n_rows):
    core, seen = module(backend, dtype), []
    for k, (key, rate) in enumerate(itertools.product(KEYS, (0.5, 0.1, 1e-12))):
        rates = [*(0.3, 0.0, 0.7)[: k % 3], rate]
        dense, parameters = layers_of_ones(units, rates)

        def head(outputs):
            seen.append(outputs.copy())
            return np.zeros_like(outputs)

        core.backward(
            core.Plan(1, dense), parameters.astype(dtype), np.zeros((n_rows, 1), dtype), head, None, None, key
        )
        expected = np.where(mask(key, rate, n_rows, k % 3, units), factor(rate, dtype), 0)
        np.testing.assert_array_equal(seen.pop(), expected)


@each_backend
@each_dtype
@pytest.mark.parametrize(("n_rows", "units"), [(239, 5), (241, 17), (1000, 9), (5000, 3), (700, 150)])
def test_masks_of_many_rows(backend, dtype, n_rows, units):
    """A row's place in the batch counts, not its place in a chunk."""
    core, seen = module(backend, dtype), []
    dense, parameters = layers_of_ones(units, [0.0, 0.4])

    def head(outputs):
        seen.append(outputs.copy())
        return np.zeros_like(outputs)

    gradient = np.empty(parameters.size, dtype)
    plan = core.Plan(1, dense)
    core.backward(plan, parameters.astype(dtype), np.zeros((n_rows, 1), dtype), head, gradient, None, KEYS[-1])
    np.testing.assert_array_equal(seen[0], dropout.factors(KEYS[-1], 1, 0.4, n_rows, units, np.dtype(dtype)))


def visible_masks(units, n_rows, weights, rate):
    """A network whose first gradient of its last weights, (units, 1), is the sum of weight times factor over the rows.

    Its output is above its targets for these weights, 0, where the absolute error has the slope 1.
    """
    dense = [
        Dense(units, trainable=False, bias_trainable=False, dropout=rate),
        Dense(1, bias=False),
    ]
    parameters = np.concatenate([np.zeros(units), np.ones(units), np.zeros(units)])
    data = Data(np.zeros((n_rows, 1)), np.full((n_rows, 1), -1.0), weights)
    return Problem(1, dense, AbsoluteError(reduction="sum"), parameters, data)


@each_backend
@each_dtype
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 20])
def test_masks_of_training(backend, dtype, batch_size, shuffle, weighted):
    """Row k weighs 2**k: the binary digits of a gradient tell which rows of the batch were kept."""
    n, units, rate = 20, 5, 0.5
    weights = 2.0 ** np.arange(n) if weighted else None
    problem = visible_masks(units, n, weights, rate).cast(dtype)
    settings = TrainingSettings(batch_size=batch_size, shuffle=shuffle)
    state, losses = new_state(problem, SGD(), seed=5), np.empty(3)
    run = start(backend, problem, SGD(), settings, state, [1.0])
    bits = np.random.PCG64(5)
    order = np.arange(n)
    for _ in range(3):
        for first in range(0, n, batch_size):
            state.parameters[-units:] = 0
            run.run(3, 0.0, losses)
            if first == 0 and shuffle and batch_size < n:
                order = shuffled(n, bits)
            rows = order[first : first + batch_size]
            kept = mask(int(bits.random_raw()), rate, len(rows), 0, units)
            expected = (kept * 2 * (1 if weights is None else weights[rows, None])).sum(axis=0)
            np.testing.assert_array_equal(-state.parameters[-units:], expected)
    assert state.bit_generator.state == bits.state


@each_backend
@each_dtype
@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize(("units", "batch_size"), [(7, 1000), (7, 480), (33, 2500), (150, 1000), (150, 700)])
def test_masks_of_large_batches(backend, dtype, units, batch_size, n_threads):
    """In chunks and blocks, by several threads, and a last batch that is short: sums of whole numbers, so exact."""
    n, rate = 2500, 0.5
    weights = np.random.default_rng(0).integers(1, 9, n).astype(float)
    problem = visible_masks(units, n, weights, rate).cast(dtype)
    if units > 100:  # more parameters than a batch is cut into blocks for
        wide = Dense(units, trainable=False, bias_trainable=False, dropout=rate)
        first = np.concatenate([np.zeros(units), np.ones(units)])
        second = np.concatenate([np.zeros(units * units), np.ones(units)])
        parameters = np.concatenate([first, second, np.zeros(units)]).astype(dtype)
        problem = replace(problem, dense=[wide, wide, problem.dense[-1]], parameters=parameters)
    state, losses = new_state(problem, SGD()), np.empty(1)
    run = start(backend, problem, SGD(), TrainingSettings(batch_size=batch_size, n_threads=n_threads), state, [1.0])
    bits = np.random.PCG64(0)
    order = shuffled(n, bits) if batch_size < n else np.arange(n)
    for first in range(0, n, batch_size):
        state.parameters[-units:] = 0
        run.run(1, INFINITE, losses, last_step=state.step + 1)
        rows = order[first : first + batch_size]
        key, last = int(bits.random_raw()), len(problem.dense) - 2
        factors = dropout.factors(key, last, rate, len(rows), units, np.dtype(float))
        np.testing.assert_array_equal(-state.parameters[-units:], weights[rows] @ factors)
    assert state.bit_generator.state == bits.state


# ---- what is computed with them ----


def dropping(hidden, loss, output, n_rows=9, seed=0, **options):
    dense = [
        Dense(7, hidden, dropout=0.4),
        Dense(9, hidden, bias=False),
        Dense(8, hidden, dropout=0.25),
        Dense(3, output),
    ]
    problem = make_problem(5, dense, loss, n_rows, seed=seed, **options)
    if hidden == "exp":
        problem.parameters *= 0.2
    return problem


@each_backend
@pytest.mark.parametrize("hidden", hidden_activations())
def test_gradients_against_complex_steps(backend, hidden):
    """With respect to parameters and inputs; as in test_gradients.py, with the mask of a key."""
    key, h = KEYS[-2], 1e-100
    problem = dropping(hidden, SquaredError(reduction="sum"), "tanh", weighted=False)
    core, twin = module(backend, float), reference.Plan(problem.n_inputs, problem.dense)
    gradient, input_gradient = np.full_like(problem.parameters, np.nan), np.full_like(problem.data.X, np.nan)
    core.backward(
        core.Plan(problem.n_inputs, problem.dense),
        problem.parameters,
        problem.data.X,
        lambda outputs: 2 * (outputs - problem.data.targets),
        gradient,
        input_gradient,
        key,
    )
    for array, actual in ((problem.parameters, gradient), (problem.data.X, input_gradient)):
        expected = np.empty_like(array)
        for i in range(array.size):
            point = array.astype(complex)
            point.flat[i] += 1j * h
            parameters = point if array is problem.parameters else problem.parameters
            data = problem.data if array is problem.parameters else problem.data._replace(X=point)
            expected.flat[i] = data_loss(twin, problem.loss, parameters, data, dropout_key=key).imag / h
        assert distance(actual, expected) <= 1e-14


@each_backend
@pytest.mark.parametrize("batch_size", [1, 3, 7, None])
@pytest.mark.parametrize("loss", [SquaredError(), CrossEntropy()], ids=lambda loss: loss.name)
def test_training_against_pytorch(backend, loss, batch_size):
    """PyTorch's own forward pass, with the masks of the definition, its losses and its optimizer."""
    torch = pytest.importorskip("torch")
    labels = loss.name == "cross_entropy"
    torchs_loss = torch.nn.functional.cross_entropy if labels else torch.nn.functional.mse_loss
    problem = dropping("tanh", loss, "softmax" if labels else "identity", 17, weighted=False)
    settings = TrainingSettings(batch_size=batch_size, shuffle=False)
    state, losses, _ = train(backend, problem, SGD(learning_rate=0.1, momentum=0.5), settings, 3)

    X, y = torch.tensor(problem.data.X), torch.tensor(problem.data.targets)
    at, weights = 0, []
    for n, layer in zip([5, 7, 9, 8], problem.dense, strict=True):
        for shape in [(n, layer.units)] + [(layer.units,)] * layer.bias:
            size = math.prod(shape)
            weights.append(torch.tensor(problem.parameters[at : at + size].reshape(shape), requires_grad=True))
            at += size
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.5)
    bits = np.random.PCG64(0)
    step = 17 if batch_size is None else batch_size

    def outputs(x, key):
        rest = iter(weights)
        for k, layer in enumerate(problem.dense):
            x = x @ next(rest)
            x = x + next(rest) if layer.bias else x
            if k < 3:
                x = torch.tanh(x)
            if layer.dropout:
                x = x * torch.tensor(mask(key, layer.dropout, len(x), k, layer.units)) / (1 - layer.dropout)
        return x

    for epoch in range(3):
        total = 0.0
        for first in range(0, 17, step):
            rows = slice(first, first + step)
            optimizer.zero_grad()
            value = torchs_loss(outputs(X[rows], int(bits.random_raw())), y[rows])
            total += value.item() * len(X[rows])
            value.backward()
            optimizer.step()
        assert losses[epoch] == pytest.approx(total / 17, rel=1e-12)
    assert distance(state.parameters, np.concatenate([w.detach().numpy().ravel() for w in weights])) <= 1e-12


@each_backend
@each_dtype
def test_only_training_drops(backend, dtype):
    """Outputs, losses and gradients are those of a network without dropout, bit for bit."""
    core, problem = module(backend, dtype), dropping("tanh", SquaredError(), "identity").cast(dtype)
    plain = replace(problem, dense=[replace(layer, dropout=0.0) for layer in problem.dense])
    results = []
    for p in (problem, plain):
        plan, out = core.Plan(5, p.dense), np.empty((9, 3), dtype)
        core.forward(plan, p.parameters, p.data.X, out)
        gradients = [np.full_like(array, np.nan) for array in (p.parameters, p.data.X, p.parameters, p.data.X)]
        value = core.loss_and_gradient(plan, p.loss, p.parameters, p.data, gradients[0], gradients[1])
        core.backward(plan, p.parameters, p.data.X, lambda outputs: outputs.copy(), *gradients[2:])
        results.append([value, out.tobytes(), *(g.tobytes() for g in gradients)])
    assert results[0] == results[1]


@each_backend
@pytest.mark.parametrize("batch_size", [1, 4, None])
def test_a_rate_of_zero_draws_nothing(backend, batch_size):
    problem = dropping("tanh", SquaredError(), "identity")
    settings = TrainingSettings(batch_size=batch_size, shuffle=False)
    plain = replace(problem, dense=[replace(layer, dropout=0.0) for layer in problem.dense])
    assert train(backend, plain, SGD(), settings, 2)[0].bit_generator.state == np.random.PCG64(0).state
    bits = np.random.PCG64(0)
    bits.random_raw(2 * math.ceil(9 / (batch_size or 9)))  # one number for each step
    assert train(backend, problem, SGD(), settings, 2)[0].bit_generator.state == bits.state


@each_backend
@each_dtype
@pytest.mark.parametrize("batch_size", [1, 3, 7, None])
def test_pieces_and_copies_change_nothing(backend, dtype, batch_size):
    problem = dropping("relu", CrossEntropy(), "softmax", 20).cast(dtype)
    settings = TrainingSettings(batch_size=batch_size)
    whole, expected, _ = train(backend, problem, Adam(), settings, 4)
    for steps in (None, 1, 5):
        state = new_state(problem, Adam())
        losses, _, _ = in_pieces(start(backend, problem, Adam(), settings, state), state, 4, steps=steps)
        assert numbers(state) == numbers(whole)
        assert losses == expected.tolist()
    state = new_state(problem, Adam())
    start(backend, problem, Adam(), settings, state).run(4, INFINITE, np.empty(4), last_step=whole.step // 2)
    state = copy.deepcopy(state)
    start(backend, problem, Adam(), settings, state).run(4, INFINITE, np.empty(4))
    assert numbers(state) == numbers(whole)


@each_compiled
@each_dtype
@pytest.mark.parametrize("n_rows", [20, 1000])
def test_threads_change_nothing(backend, dtype, n_rows):
    problem = dropping("relu", CrossEntropy(), "softmax", n_rows).cast(dtype)
    runs = [
        train(backend, problem, Adam(), TrainingSettings(batch_size=n_rows // 2 + 3, n_threads=n_threads), 3)[0]
        for n_threads in (1, 2, 3, 7)
    ]
    assert len({state.parameters.tobytes() for state in runs}) == 1


@each_backend
@each_dtype
def test_the_mean_over_masks_is_the_network_without(backend, dtype):
    """With identities everywhere: the mean over the masks of many rows, within 5 of its own standard errors."""
    core, seen = module(backend, dtype), []
    problem = make_problem(3, [Dense(50, dropout=0.3), Dense(2)], SquaredError(), 1).cast(dtype)
    plan, X = core.Plan(3, problem.dense), np.repeat(problem.data.X, 2000, axis=0)

    def head(outputs):
        seen.append(outputs.copy())
        return outputs

    core.backward(plan, problem.parameters, X, head, None, None, 12345)
    expected = np.empty((1, 2), dtype)
    core.forward(plan, problem.parameters, problem.data.X, expected)
    error = seen[0].std(axis=0) / math.sqrt(2000)
    assert (np.abs(seen[0].mean(axis=0) - expected[0]) <= 5 * error).all()
