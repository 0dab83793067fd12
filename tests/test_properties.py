"""What must hold for every network and all data, whatever the formulas: on every backend, by hypothesis."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import backprop as bp
import numpy as np
import pytest
from backends import BACKENDS, LOSS_VARIANTS, distance, hidden_activations, label, make_problem, outputs_of
from backprop.layers import Dense
from backprop.losses import Loss
from backprop.reference.activations import ACTIVATIONS
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

each_backend = pytest.mark.parametrize("backend", BACKENDS)

# On a busy machine nothing is slow.
SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Sums of at most some hundred products, each with a few roundings: 1e-12 is some 5,000 of them in float64.
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Case:
    """A network with one or two hidden layers, and data for it."""

    n_inputs: int
    dense: tuple[Dense, ...]
    loss: Loss
    n_rows: int
    labels: bool
    seed: int

    def problem(self, weighted: bool = False) -> Any:
        problem = make_problem(
            self.n_inputs,
            list(self.dense),
            self.loss,
            self.n_rows,
            weighted=weighted,
            labels=self.labels,
            seed=self.seed,
        )
        if "exp" in (layer.activation for layer in self.dense):
            problem.parameters *= 0.25  # its outputs grow beyond all bounds
        return problem

    def network(self, backend: str, parameters: np.ndarray, dense: tuple[Dense, ...] | None = None) -> bp.Network:
        net = bp.Network(self.n_inputs, dense or self.dense, dtype="float64", seed=0, backend=backend)
        net.parameters = parameters
        return net

    def __repr__(self) -> str:
        layers = ", ".join(f"{layer.units} {layer.activation}" for layer in self.dense)
        return f"{self.n_inputs} -> {layers}; {label(self.loss)} {self.loss.reduction}; {self.n_rows} rows, {self.seed}"


@st.composite
def cases(draw, losses=LOSS_VARIANTS, reductions=("mean", "sum"), min_rows=2) -> Case:
    loss = replace(draw(st.sampled_from(losses)), reduction=draw(st.sampled_from(reductions)))
    hidden = st.builds(
        Dense,
        st.integers(1, 20),
        st.sampled_from(hidden_activations()),
        bias=st.booleans(),
        l1=st.sampled_from([0.0, 0.01]),
        l2=st.sampled_from([0.0, 0.1]),
    )
    outputs = [name for name in outputs_of(loss) if name != "exp" or loss.outputs is not None]
    output = draw(st.sampled_from(outputs))
    last = Dense(draw(st.integers(2 if output == "softmax" else 1, 10)), output)
    return Case(
        n_inputs=draw(st.integers(1, 20)),
        dense=(*draw(st.lists(hidden, min_size=1, max_size=2)), last),
        loss=loss,
        n_rows=draw(st.integers(min_rows, 60)),
        labels=draw(st.booleans()),
        seed=draw(st.integers(0, 2**32)),
    )


def value_and_gradient(net: bp.Network, loss: Loss, X: Any, y: Any, weight: Any = None) -> tuple[float, np.ndarray]:
    value, gradients = net.loss_and_gradients(X, y, loss, weight)
    return value, np.concatenate([part.ravel() for pair in gradients for part in pair if part is not None])


def without_penalties(case: Case) -> Case:
    return replace(case, dense=tuple(replace(layer, l1=0.0, l2=0.0) for layer in case.dense))


def assert_close(actual: Any, expected: Any, size: float = 0.0) -> None:
    """Equal but for rounding, which is relative to what was added up: the numbers themselves, or `size` if larger."""
    assert np.linalg.norm(np.subtract(actual, expected)) <= TOLERANCE * max(np.linalg.norm(expected), size)


@each_backend
@settings(SETTINGS, max_examples=25, derandomize=True)
@given(case=cases(), data=st.data())
def test_permuting_hidden_units_permutes_the_gradients(backend, case, data):
    problem = case.problem(weighted=True)
    k = data.draw(st.integers(0, len(case.dense) - 2))
    order = np.array(data.draw(st.permutations(range(case.dense[k].units))))
    net, moved = case.network(backend, problem.parameters), case.network(backend, problem.parameters)
    moved.weights[k] = net.weights[k][:, order]
    moved.weights[k + 1] = net.weights[k + 1][order]
    if net.biases[k] is not None:
        moved.biases[k] = net.biases[k][order]
    if net.slopes[k] is not None:
        moved.slopes[k] = net.slopes[k][order]
    X, y, weight = problem.data
    value, gradients = net.loss_and_gradients(X, y, case.loss, weight)
    moved_value, moved_gradients = moved.loss_and_gradients(X, y, case.loss, weight)
    assert_close(moved_value, value)
    size = np.sqrt(sum(np.square(part).sum() for pair in gradients for part in pair if part is not None))
    for layer, ((dW, *others), (moved_dW, *moved_others)) in enumerate(zip(gradients, moved_gradients, strict=True)):
        dW = dW[:, order] if layer == k else dW[order] if layer == k + 1 else dW
        assert_close(moved_dW, dW, size)
        for part, moved_part in zip(others, moved_others, strict=True):  # biases, slopes
            if part is not None:
                assert_close(moved_part, part[order] if layer == k else part, size)


@each_backend
@settings(SETTINGS, max_examples=25, derandomize=True)
@given(case=cases(reductions=["sum"]), data=st.data())
def test_gradients_of_the_parts_of_a_batch_add_up(backend, case, data):
    case = without_penalties(case)
    problem = case.problem(weighted=True)
    net = case.network(backend, problem.parameters)
    cut = data.draw(st.integers(1, case.n_rows - 1))
    X, y, weight = problem.data
    whole = value_and_gradient(net, case.loss, X, y, weight)
    parts = [
        value_and_gradient(net, case.loss, X[rows], y[rows], weight[rows]) for rows in (slice(cut), slice(cut, None))
    ]
    for total, *terms in zip(whole, *parts, strict=True):
        assert_close(sum(terms), total, max(map(np.linalg.norm, terms)))


@each_backend
@settings(SETTINGS, max_examples=25, derandomize=True)
@given(case=cases(), data=st.data())
def test_whole_sample_weights_are_repeated_rows(backend, case, data):
    """A weight of zero is a row left out."""
    problem = case.problem()
    net = case.network(backend, problem.parameters)
    counts = np.array(data.draw(st.lists(st.integers(0, 3), min_size=case.n_rows, max_size=case.n_rows)))
    assume(counts.any())
    X, y, _ = problem.data
    value, gradient = value_and_gradient(net, case.loss, X, y, counts)
    repeated, repeated_gradient = value_and_gradient(net, case.loss, np.repeat(X, counts, 0), np.repeat(y, counts, 0))
    assert_close(value, repeated)
    assert_close(gradient, repeated_gradient, terms(net, case.loss, X, y, counts))


def terms(net: bp.Network, loss: Loss, X: Any, y: Any, weight: Any) -> float:
    """The size of what is added up to a gradient: where terms cancel, rounding is relative to them."""
    loss = replace(loss, reduction="sum")
    rows = [
        np.linalg.norm(value_and_gradient(net, loss, X[k : k + 1], y[k : k + 1], weight[k : k + 1].astype(float))[1])
        for k in range(len(X))
        if weight[k] > 0
    ]
    return float(sum(rows))


@each_backend
@settings(SETTINGS, max_examples=15, derandomize=True)
@given(case=cases(reductions=["sum"]), batch_size=st.integers(1, 40), zero=st.integers(0, 2**60))
def test_training_passes_over_a_row_of_weight_zero(backend, case, batch_size, zero):
    """In a full batch the row might as well not be there; in mini-batches another row of it might be anything."""
    problem = case.problem(weighted=True)
    X, y, weight = (array.copy() for array in problem.data)
    weight[zero % case.n_rows] = 0
    assume(weight.max() > 0)
    kept = np.arange(case.n_rows) != zero % case.n_rows
    rate = bp.SGD(learning_rate=1e-4)
    for rows, size in ((kept, None), (slice(None), batch_size)):
        nets = [case.network(backend, problem.parameters) for _ in range(2)]
        nets[0].fit(X, y, loss=case.loss, sample_weight=weight, epochs=2, batch_size=size, optimizer=rate)
        other = X.copy()
        other[zero % case.n_rows] = 1 - X[zero % case.n_rows]
        nets[1].fit(
            other[rows], y[rows], loss=case.loss, sample_weight=weight[rows], epochs=2, batch_size=size, optimizer=rate
        )
        assert_close(nets[0].parameters, nets[1].parameters)


@each_backend
@settings(SETTINGS, max_examples=25, derandomize=True)
@given(
    n=st.integers(2, 12),
    n_rows=st.integers(1, 40),
    shift=st.floats(-1e4, 1e4),
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_softmax_does_not_see_a_shift(backend, n, n_rows, shift, seed, dtype):
    """One number added to every score: to the biases of the last layer."""
    rng = np.random.default_rng(seed)
    net = bp.Network(3, [Dense(n, "softmax")], dtype=dtype, seed=0, backend=backend)
    X = rng.normal(size=(n_rows, 3))
    y = rng.integers(n, size=n_rows)
    results = []
    for added in (0, shift):
        net.biases[0] = np.full(n, added)
        results.append((net.predict(X), *value_and_gradient(net, bp.losses.CrossEntropy(), X, y)))
    # a score of 1 beside a shift of 1e4 keeps four digits fewer
    bound = 20 * (1 + abs(shift)) * float(np.finfo(dtype).eps)
    for actual, expected in zip(*results, strict=True):
        assert np.abs(np.subtract(actual, expected)).max() <= bound


SMOOTH = tuple(
    loss for loss in LOSS_VARIANTS if loss.name in ("squared_error", "binary_cross_entropy", "cross_entropy", "poisson")
)


@each_backend
@settings(SETTINGS, max_examples=25, derandomize=True)
@given(case=cases(losses=SMOOTH, reductions=["mean"]))
def test_a_small_step_lowers_the_loss_as_the_gradient_says(backend, case):
    """|dL + rate |g|^2| <= C rate^2: the remainder of the first order falls with the square of the step."""
    smooth = [name for name in hidden_activations() if ACTIVATIONS[name].smooth]
    dense = tuple(
        layer
        if layer.activation in smooth or k == len(case.dense) - 1
        else replace(layer, activation="tanh", alpha=None)
        for k, layer in enumerate(case.dense)
    )
    outputs = [name for name in outputs_of(case.loss) if name in (*smooth, "softmax")]
    last = dense[-1] if dense[-1].activation in outputs else replace(dense[-1], activation=outputs[0], alpha=None)
    case = without_penalties(replace(case, dense=(*dense[:-1], last)))
    problem = case.problem(weighted=True)
    X, y, weight = problem.data
    net = case.network(backend, problem.parameters)
    before, gradient = value_and_gradient(net, case.loss, X, y, weight)
    slope = float(gradient @ gradient)
    assume(np.isfinite(slope) and 1e-6 < slope < 1e4)
    remainders = []
    for step in (1e-3, 1e-4):
        net.parameters = problem.parameters
        rate = step / np.sqrt(slope)  # a step of this length, whatever the gradient
        net.fit(
            X, y, loss=case.loss, sample_weight=weight, batch_size=None, epochs=1, optimizer=bp.SGD(learning_rate=rate)
        )
        remainders.append(abs(net.loss(X, y, case.loss, weight) - before + rate * slope))
    # a tenth of the step leaves a hundredth of the remainder, but for higher orders and rounding
    assert remainders[1] <= remainders[0] / 30 + 1e-13 * (1 + abs(before))


@each_backend
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(SETTINGS, max_examples=3, derandomize=True)
@given(seed=st.integers(0, 2**32), task=st.sampled_from(["regression", "binary", "classes"]))
def test_twenty_rows_can_be_fitted(backend, dtype, seed, task):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(20, 5))
    y = {
        "regression": rng.normal(size=20),
        "binary": rng.integers(2, size=20).astype(float),
        "classes": rng.integers(3, size=20),
    }[task]
    last = {"regression": Dense(1), "binary": Dense(1, "sigmoid"), "classes": Dense(3, "softmax")}[task]
    net = bp.Network(5, [Dense(40, "tanh"), last], dtype=dtype, seed=seed % 1000, backend=backend)
    net.fit(X, y, optimizer=bp.Adam(learning_rate=0.01), epochs=600, batch_size=None)
    assert net.loss(X, y) < 0.01
    assert distance(net.predict(X).shape, (20, last.units)) == 0
