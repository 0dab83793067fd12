"""Layers that read the rows of data where they lie have the bits of those whose rows are gathered first."""

from __future__ import annotations

import re
from pathlib import Path

import backprop as bp
import numpy as np
import pytest
from backends import DTYPES, each_compiled, module
from backprop import losses, optimizers
from backprop.base.state import TrainingState
from backprop.base.types import Data, TrainingSettings
from backprop.layers import Dense

SOURCE = Path(__file__).parents[1] / "src/bpcore/products/rows_in_place.pxd"
# sizes, activation of the lowest layer, rows in a batch: batches of less than a vector, of vectors, and of some more;
# units that are no whole vectors; several chunks, with blocks and without; weights that outgrow the caches
CASES = [
    ([64, 16, 1], "tanh", 9),
    ([64, 16, 1], "relu", 64),
    ([130, 30, 3], "relu", 50),
    ([130, 31, 20, 3], "gelu", 33),
    ([200, 48, 2], "softmax", 100),
    ([256, 64, 9, 2], "prelu", 47),
    ([128, 32, 1], "identity", 500),
    ([350, 64, 1], "sigmoid", 217),
    ([620, 432, 2], "relu", 70),
    ([300, 32, 8], "elu", 21),
    *(([130, n_out, 1], "prelu", n) for n_out in (10, 20, 64) for n in (2, 3, 4, 5, 7)),
]
OPTIMIZERS = [optimizers.SGD(0.05), optimizers.Adam(0.01), optimizers.SGD(0.05, momentum=0.9, weight_decay=0.01)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}")
def test_cases_suit(case):
    (n_in, n_out, *_), _, n_rows = case
    limits = dict(re.findall(r"    ([A-Z_]+) = (\d+)", SOURCE.read_text()))
    few = n_out <= int(limits["FEW_UNITS"]) and n_in >= int(limits["INPUTS_PER_UNIT"]) * n_out
    far = n_rows >= int(limits["MANY_ROWS"]) and n_in > n_out and 4 * n_in * n_out >= int(limits["FAR_BYTES"])
    assert few or far


@each_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_out", [10, 20, 32, 64])
def test_predictions_for_any_number_of_rows(backend, dtype, n_out):
    """Those for each row alone; the second number of rows is a little more than a chunk."""
    rng = np.random.default_rng(n_out)
    net = bp.Network(150, [Dense(n_out, "relu"), Dense(2)], dtype=dtype, backend=backend, seed=0)
    X = rng.standard_normal((300, 150)).astype(dtype)
    alone = np.concatenate([net.predict(X[k : k + 1]) for k in range(len(X))])
    for n in (*range(2, 20), *range(94, 102), *range(190, 198), *range(286, 293)):
        np.testing.assert_array_equal(net.predict(X[:n]), alone[:n])


@each_compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}")
def test_same_bits_as_rows_that_are_gathered(backend, dtype, case):
    sizes, activation, n = case
    core, rng = module(backend, dtype), np.random.default_rng(n)
    layers = [Dense(sizes[1], activation, bias=n % 3 > 0), *(Dense(size, "tanh") for size in sizes[2:])]
    plan = core.Plan(sizes[0], layers)
    start = (rng.standard_normal(plan.n_parameters) / 8).astype(dtype)
    X = rng.standard_normal((2 * n, sizes[0])).astype(dtype)
    y = rng.standard_normal((2 * n, sizes[-1])).astype(dtype)
    for optimizer in OPTIMIZERS:
        results = []
        # a full batch is gathered once, transposed; batches are read where they lie
        for parts in ([slice(0, 2 * n)], [slice(0, n), slice(n, 2 * n)]):
            parameters = start.copy()
            slots = optimizer.new_slots(parameters.size, dtype)
            state = TrainingState(parameters, slots, np.random.PCG64(1))
            for epoch, part in enumerate(parts, 1):
                settings = TrainingSettings(batch_size=n, shuffle=False)
                rates = np.array([optimizer.learning_rate])
                data = Data(X[part], y[part])
                training = core.Training(plan, losses.SquaredError(), optimizer, settings, data, state, rates, None)
                assert training.run(epoch, 1e9, *np.zeros((2, 1))) == "epochs"
                assert state.epoch == epoch
            results.append((parameters, *state.slots))
        for in_place, gathered in zip(*results, strict=True):
            np.testing.assert_array_equal(in_place, gathered)
