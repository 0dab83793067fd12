"""Gradients of whole networks against complex-step differentiation, for every activation with every loss it can have.

The derivative of f at x is Im f(x + ih) / h up to an error of h**2: with h = 1e-100 there is neither cancellation nor a
step to choose. The reference's loss takes complex parameters; its value is tested elsewhere (test_losses.py), and its
gradient has no part in this.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from backends import (
    COMPILED,
    LOSS_VARIANTS,
    Problem,
    distance,
    each_backend,
    each_dtype,
    hidden_activations,
    label,
    layers,
    make_problem,
    module,
    outputs_of,
)
from backprop import reference
from backprop.layers import Dense
from backprop.losses import CrossEntropy, Poisson, SquaredError
from backprop.reference.activations import ACTIVATIONS
from backprop.reference.passes import objective

H = 1e-100
# Each side makes tens of roundings for each number on these sizes, of either sign: in all about 10 times eps = 2e-16.
TOLERANCE = 1e-14


def complex_step_gradient(problem: Problem) -> np.ndarray:
    """The gradient, one parameter at a time."""
    plan = reference.Plan(problem.n_inputs, problem.dense)
    gradient = np.empty_like(problem.parameters)
    for i in range(gradient.size):
        parameters = problem.parameters.astype(complex)
        parameters[i] += 1j * H
        gradient[i] = sum(objective(plan, problem.loss, parameters, problem.data, None)).imag / H
    return gradient


def complex_step_input_gradient(problem: Problem) -> np.ndarray:
    """The gradient with respect to X, one number at a time."""
    plan = reference.Plan(problem.n_inputs, problem.dense)
    gradient = np.empty_like(problem.data.X)
    for i in range(gradient.size):
        X = problem.data.X.astype(complex)
        X.flat[i] += 1j * H
        data = problem.data._replace(X=X)
        gradient.flat[i] = sum(objective(plan, problem.loss, problem.parameters, data, None)).imag / H
    return gradient


def all_gradients(problem: Problem, backend: str, *, parameters=True, inputs=True):
    """The loss, and its gradients with respect to the parameters and to X, where they are wanted."""
    core = module(backend, problem.parameters.dtype)
    plan = core.Plan(problem.n_inputs, problem.dense)
    gradient = np.full_like(problem.parameters, np.nan) if parameters else None
    input_gradient = np.full_like(problem.data.X, np.nan) if inputs else None
    value = core.loss_and_gradient(plan, problem.loss, problem.parameters, problem.data, gradient, input_gradient)
    return value, gradient, input_gradient


def central_differences(problem: Problem, backend: str) -> np.ndarray:
    """The gradient from values of the loss only."""
    h = 1e-5
    gradient = np.empty_like(problem.parameters)
    for i in range(gradient.size):
        values = []
        for step in (h, -h):
            parameters = problem.parameters.copy()
            parameters[i] += step
            values.append(replace(problem, parameters=parameters).loss_and_gradient(backend)[0])
        gradient[i] = (values[0] - values[1]) / (2 * h)
    return gradient


def trainable(problem: Problem) -> np.ndarray:
    """Which parameters the optimizer may change."""
    parts = []
    for n, layer in layers(problem.n_inputs, problem.dense):
        parts.append(np.full(n * layer.units, layer.trainable))
        if layer.bias:
            parts.append(np.full(layer.units, layer.trainable and layer.bias_trainable))
    return np.concatenate(parts)


def smallest_gap(problem: Problem) -> float:
    """How near a score comes to a kink, or a weight with an l1 penalty, or an output to its target's kinks."""
    plan = reference.Plan(problem.n_inputs, problem.dense)
    A, gaps = problem.data.X, []
    for layer in plan.layers:
        arrays = layer.views(problem.parameters)
        Z, A = layer.settings.forward(arrays, A)
        if not layer.settings.function.smooth:
            gaps.append(np.abs(layer.settings.function.kink_distance(Z)).min())
        if layer.settings.l1:
            gaps.append(np.abs(arrays["weights"]).min())
    if not problem.loss.smooth:
        distances = np.abs(problem.loss.kink_distance(A, problem.data.targets))
        if layer.settings.function.elementwise:
            # where hard_tanh is flat, its output sits on the hinge's kink and stays there
            distances[layer.settings.score_gradient(arrays, Z, A, np.ones_like(A)) == 0] = np.inf
        gaps.append(distances.min())
    return min(gaps, default=np.inf)


def problems(hidden: str, loss):
    """Networks with this hidden activation, as the output too where the loss accepts it; other settings in turn."""
    outputs = [hidden] if hidden in outputs_of(loss) else []
    outputs += [output for output in outputs_of(loss) if output in ("softmax", *(loss.outputs or ()))]
    for k, output in enumerate(dict.fromkeys([*outputs, outputs_of(loss)[0]])):
        alpha = 0.3 if ACTIVATIONS[hidden].alpha is not None and k == 0 else None
        dense = [
            Dense(4, hidden, alpha=alpha, bias=False, l2=0.1),
            Dense(3, hidden, l1=0.05, l2=0.02),
            Dense(2, output, l1=0.03),
        ]
        for seed, reduction in enumerate(("mean", "sum")):
            variant = replace(loss, reduction=reduction, scale=1.3)
            problem = make_problem(3, dense, variant, 7, weighted=seed == k % 2, labels=k % 2 == 0, seed=seed)
            if hidden == "exp":  # three of them on top of each other
                problem.parameters *= 0.3
            yield problem


each_pair = pytest.mark.parametrize(
    ("hidden", "loss"),
    [
        pytest.param(hidden, loss, id=f"{hidden}-{label(loss)}")
        for hidden in hidden_activations()
        for loss in LOSS_VARIANTS
    ],
)


@each_backend
@each_pair
def test_against_complex_step(backend, hidden, loss):
    for problem in problems(hidden, loss):
        assert smallest_gap(problem) > 0
        _, gradient = problem.loss_and_gradient(backend)
        assert distance(gradient, complex_step_gradient(problem)) <= TOLERANCE, problem.dense[-1].activation


@pytest.mark.parametrize("backend", [*COMPILED[:1], "reference"])
@pytest.mark.parametrize(
    ("hidden", "loss"),
    [
        pytest.param(hidden, loss, id=f"{hidden}-{label(loss)}")
        for hidden in hidden_activations()
        for loss in LOSS_VARIANTS
        if not (ACTIVATIONS[hidden].smooth and loss.smooth)
    ],
)
def test_against_central_differences(backend, hidden, loss):
    """Where formulas meet, complex steps take the code's word for where that is; differences of values do not."""
    for problem in problems(hidden, loss):
        while smallest_gap(problem) < 1e-3:  # 1e-5 in a parameter moves a score by less than 1e-3
            problem = replace(problem, parameters=problem.parameters + 0.01)
        _, gradient = problem.loss_and_gradient(backend)
        # error of the values, about 1e-15, over 2 h = 2e-5; and h**2 / 6 times the third derivative, about 1e-10
        assert distance(gradient, central_differences(problem, backend)) <= 1e-8


@each_backend
def test_what_is_not_trainable_has_gradient_zero(backend):
    dense = [
        Dense(4, "tanh", bias_trainable=False, l2=0.1),
        Dense(5, "sigmoid", trainable=False, bias_trainable=False, l1=0.2),
        Dense(3, "silu", trainable=False, l2=0.1),
        Dense(2),
    ]
    for frozen_from in range(3):  # also with nothing trainable at the bottom, and in the end nothing at all
        dense = [replace(layer, trainable=False, bias_trainable=False) for layer in dense[:frozen_from]] + dense[
            frozen_from:
        ]
        problem = make_problem(3, dense, SquaredError(), 11)
        _, gradient = problem.loss_and_gradient(backend)
        learns = trainable(problem)
        assert not gradient[~learns].any()
        assert distance(gradient, np.where(learns, complex_step_gradient(problem), 0)) <= TOLERANCE
    frozen = [replace(layer, trainable=False, bias_trainable=False) for layer in dense]
    _, gradient = make_problem(3, frozen, SquaredError(), 11).loss_and_gradient(backend)
    assert not gradient.any()


@each_backend
@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("sizes", [(1, 1, 2), (2, 1, 7), (7, 17, 3), (3, 33, 7), (17, 3, 33), (33, 7, 3)])
@pytest.mark.parametrize("n_rows", [1, 2, 5, 32, 100])
def test_odd_shapes(backend, n_rows, sizes, labels):
    n_inputs, hidden, n_outputs = sizes
    problem = make_problem(
        n_inputs, [Dense(hidden, "tanh"), Dense(n_outputs, "softmax")], CrossEntropy(), n_rows, labels=labels
    )
    _, gradient = problem.loss_and_gradient(backend)
    assert distance(gradient, complex_step_gradient(problem)) <= TOLERANCE


@each_backend
def test_without_gradient(backend):
    problem = make_problem(3, [Dense(4, "tanh"), Dense(2)], SquaredError(), 11)
    core = module(backend, float)
    value = core.loss_and_gradient(core.Plan(3, problem.dense), problem.loss, problem.parameters, problem.data, None)
    assert value == problem.loss_and_gradient(backend)[0]


# ---- with respect to the inputs ----


@each_backend
@each_pair
def test_inputs_against_complex_step(backend, hidden, loss):
    for problem in problems(hidden, loss):
        _, _, input_gradient = all_gradients(problem, backend)
        assert distance(input_gradient, complex_step_input_gradient(problem)) <= TOLERANCE, problem.dense[-1].activation


@each_backend
@pytest.mark.parametrize("sizes", [(1, 1, 2), (2, 1, 7), (7, 17, 3), (3, 33, 7), (8, 16, 9), (17, 3, 33), (33, 7, 3)])
@pytest.mark.parametrize("n_rows", [1, 2, 5, 8, 33])
def test_inputs_of_odd_shapes(backend, n_rows, sizes):
    n_inputs, hidden, n_outputs = sizes
    dense = [Dense(hidden, "tanh", bias=False, l2=0.1), Dense(n_outputs, "softmax")]
    problem = make_problem(n_inputs, dense, CrossEntropy(), n_rows)
    _, _, input_gradient = all_gradients(problem, backend)
    assert distance(input_gradient, complex_step_input_gradient(problem)) <= TOLERANCE


def torch_outputs(torch, problem, X):
    """The outputs as PyTorch computes them, for layers of tanh and a last one of raw scores; and the parameters."""
    parameters, at = [], 0
    for n, layer in layers(problem.n_inputs, problem.dense):
        for shape in ((n, layer.units), (layer.units,)):
            size = int(np.prod(shape))
            part = problem.parameters[at : at + size].reshape(shape)
            parameters.append(torch.tensor(part, requires_grad=True))
            at += size
        X = X @ parameters[-2] + parameters[-1]
        if layer.activation == "tanh":
            X = torch.tanh(X)
    return X, parameters


# One row, about as many as lanes, several chunks and blocks; one network with too many parameters for blocks, and one
# with so many that the core copies them into panels. Then those whose last vector holds few samples.
ROWS_AND_WIDTHS = [(1, 5), (7, 8), (8, 9), (9, 16), (239, 17), (241, 5), (1000, 7), (5000, 5), (700, 150), (70, 700)]
ROWS_AND_WIDTHS += [(1, 24), (2, 40), (3, 33), (4, 95), (5, 97), (8, 70), (18, 65), (33, 80), (34, 64), (100, 110)]


@each_backend
@each_dtype
@pytest.mark.parametrize(("n_rows", "width"), ROWS_AND_WIDTHS)
def test_against_pytorch(backend, dtype, n_rows, width):
    """autograd's gradients with respect to everything, in float64; of some hundred terms in float32."""
    torch = pytest.importorskip("torch")
    dense = [Dense(width, "tanh"), Dense(width, "tanh"), Dense(4, "softmax")]
    problem = make_problem(6, dense, CrossEntropy(), n_rows, weighted=False).cast(dtype)
    X = torch.tensor(problem.data.X.astype(float), requires_grad=True)
    scores, parameters = torch_outputs(torch, problem.cast(float), X)
    expected = torch.nn.functional.cross_entropy(scores, torch.tensor(problem.data.targets))
    expected.backward()
    value, gradient, input_gradient = all_gradients(problem, backend)
    tolerance = 1e-13 if dtype is np.float64 else 1e-5
    assert value == pytest.approx(expected.item(), rel=tolerance)
    assert distance(input_gradient, X.grad.numpy()) <= tolerance
    assert distance(gradient, np.concatenate([p.grad.numpy().ravel() for p in parameters])) <= tolerance


@each_backend
@each_dtype
@pytest.mark.parametrize(("n_rows", "width"), ROWS_AND_WIDTHS)
def test_either_gradient_without_the_other(backend, dtype, n_rows, width):
    """The same bits."""
    problem = make_problem(6, [Dense(width, "elu", l1=0.1), Dense(3)], SquaredError(), n_rows).cast(dtype)
    value, gradient, input_gradient = all_gradients(problem, backend)
    for parameters, inputs in ((True, False), (False, True), (False, False)):
        other = all_gradients(problem, backend, parameters=parameters, inputs=inputs)
        assert other[0] == value
        assert other[1] is None or other[1].tobytes() == gradient.tobytes()
        assert other[2] is None or other[2].tobytes() == input_gradient.tobytes()


@each_backend
@each_dtype
@pytest.mark.parametrize(("n_inputs", "width"), [(24, 16), (25, 31), (47, 65), (64, 100)])
def test_a_row_is_computed_alike_beside_any_others(backend, dtype, n_inputs, width):
    """The same bits of its outputs and of what flows back, whichever lanes the batch leaves empty."""
    dense = [Dense(width, "tanh"), Dense(width, "gelu", bias=False), Dense(width, "softplus")]
    problem = make_problem(n_inputs, dense, SquaredError(reduction="sum"), 40, weighted=False).cast(dtype)
    core, plan = module(backend, dtype), module(backend, dtype).Plan(n_inputs, dense)
    outputs = np.empty((40, width), dtype)
    core.forward(plan, problem.parameters, problem.data.X, outputs)
    _, _, input_gradient = all_gradients(problem, backend)
    for n_rows in (*range(1, 21), 32, 33, 34, 36, 40):
        data = problem.data._replace(X=problem.data.X[:n_rows], targets=problem.data.targets[:n_rows])
        some = replace(problem, data=data)
        out = np.full((n_rows, width), np.nan, dtype)
        core.forward(plan, some.parameters, some.data.X, out)
        if backend == "reference":  # NumPy cuts its sums of up to a hundred terms as it likes
            assert distance(out, outputs[:n_rows]) <= (1e-13 if dtype is np.float64 else 1e-5)
        else:
            assert out.tobytes() == outputs[:n_rows].tobytes()
            assert all_gradients(some, backend)[2].tobytes() == input_gradient[:n_rows].tobytes()


@each_backend
@each_dtype
def test_lanes_without_a_sample_do_not_count(backend, dtype):
    """Each sample is finite here; a state that no sample has, such as hidden scores of 0, would overflow."""
    dense = [Dense(40, "sigmoid"), Dense(1, "exp")]
    weight = 8.0 if dtype is np.float32 else 60.0
    rng = np.random.default_rng(0)
    parameters = np.concatenate([rng.normal(size=24 * 40) / 100, np.full(40, -6.0), np.full(40, weight), [0.0]])
    for n_rows in range(1, 37):
        problem = make_problem(24, dense, Poisson(), n_rows)
        problem = replace(problem, parameters=parameters).cast(dtype)
        value, gradient, input_gradient = all_gradients(problem, backend)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        assert np.isfinite(input_gradient).all()


@each_backend
@each_dtype
def test_lanes_without_a_sample_drop_nothing_else(backend, dtype):
    """How many of the equal hidden units are kept decides whether a row overflows; only what rows keep may count."""
    dense = [Dense(40, "sigmoid", dropout=0.5), Dense(1, "exp")]
    most = np.log(np.finfo(dtype).max)
    parameters = np.concatenate([np.zeros(24 * 40 + 40), np.full(40, most / 20), [0.0]]).astype(dtype)
    core, seen = module(backend, dtype), 0
    for n_rows in (1, 2, 3):
        X, gradient = np.zeros((n_rows, 24), dtype), np.empty_like(parameters)
        for key in range(40):
            outputs = []

            def head(a, outputs=outputs):
                outputs.append(np.isfinite(a).all())
                return np.zeros_like(a)

            core.backward(core.Plan(24, dense), parameters, X, head, gradient, np.empty_like(X), key)
            if outputs[0]:
                seen += 1
                assert np.isfinite(gradient).all()
    assert 10 < seen < 110  # of 120: some rows overflow, and some do not


@each_backend
def test_inputs_do_not_need_anything_trainable(backend):
    dense = [Dense(5, "tanh"), Dense(3, "silu"), Dense(2)]
    problem = make_problem(4, dense, SquaredError(), 11)
    _, _, expected = all_gradients(problem, backend)
    for frozen in range(4):
        some = [replace(layer, trainable=k >= frozen, bias_trainable=k >= frozen) for k, layer in enumerate(dense)]
        _, _, input_gradient = all_gradients(replace(problem, dense=some), backend)
        assert input_gradient.tobytes() == expected.tobytes()


# ---- of any function of the outputs ----


@each_backend
@each_dtype
@pytest.mark.parametrize(("n_rows", "width"), ROWS_AND_WIDTHS)
def test_backward_against_pytorch(backend, dtype, n_rows, width):
    """A product of a vector and the Jacobian: no loss, and penalties do not count."""
    torch = pytest.importorskip("torch")
    dense = [Dense(width, "tanh", l2=0.3), Dense(width, "tanh", l1=0.1), Dense(4)]
    problem = make_problem(6, dense, SquaredError(), n_rows).cast(dtype)
    vector = np.random.default_rng(0).normal(size=(n_rows, 4)).astype(dtype)
    X = torch.tensor(problem.data.X.astype(float), requires_grad=True)
    outputs, parameters = torch_outputs(torch, problem.cast(float), X)
    expected = torch.autograd.grad(outputs, [X, *parameters], torch.tensor(vector.astype(float)))
    core, seen = module(backend, dtype), []

    def head(outputs):
        seen.append(outputs.copy())
        outputs[:] = np.nan  # the backend does not need them any more
        return vector

    gradient, input_gradient = np.full_like(problem.parameters, np.nan), np.full_like(problem.data.X, np.nan)
    plan, out = core.Plan(6, dense), np.empty((n_rows, 4), dtype)
    core.backward(plan, problem.parameters, problem.data.X, head, gradient, input_gradient)
    core.forward(plan, problem.parameters, problem.data.X, out)
    tolerance = 1e-13 if dtype is np.float64 else 1e-5
    assert len(seen) == 1
    assert seen[0].dtype == dtype
    assert distance(seen[0], out) <= tolerance
    assert distance(input_gradient, expected[0].numpy()) <= tolerance
    assert distance(gradient, np.concatenate([p.numpy().ravel() for p in expected[1:]])) <= tolerance


@each_backend
@each_dtype
@pytest.mark.parametrize("output", [name for name in ACTIVATIONS if name != "exp"])
@pytest.mark.parametrize("n_rows", [1, 9, 1000])
def test_backward_of_a_loss(backend, dtype, n_rows, output):
    """Through every output activation: with the gradient of a loss it is that of `loss_and_gradient`."""
    problem = make_problem(5, [Dense(9, "tanh"), Dense(3, output)], SquaredError(reduction="sum"), n_rows).cast(dtype)
    core = module(backend, dtype)
    _, targets, weight = problem.data
    expected = all_gradients(problem, backend)[1:]
    plan = core.Plan(5, problem.dense)
    for wanted in ((True, True), (True, False), (False, True)):
        actual = [np.full_like(array, np.nan) if want else None for want, array in zip(wanted, expected, strict=True)]
        core.backward(
            plan,
            problem.parameters,
            problem.data.X,
            lambda outputs: 2 * weight[:, None] * (outputs - targets),
            *actual,
        )
        for array, other in zip(actual, expected, strict=True):
            assert array is None or distance(array, other) <= (1e-13 if dtype is np.float64 else 1e-5)


@each_backend
def test_backward_of_what_is_not_trainable(backend):
    dense = [Dense(4, "tanh", bias_trainable=False), Dense(3, "tanh", trainable=False), Dense(2)]
    problem = make_problem(3, dense, SquaredError(), 11)
    core, gradient = module(backend, float), np.full_like(problem.parameters, np.nan)
    core.backward(core.Plan(3, dense), problem.parameters, problem.data.X, np.ones_like, gradient, None)
    assert (gradient != 0).tolist() == trainable(problem).tolist()


@each_backend
def test_what_the_head_raises_comes_through(backend):
    problem = make_problem(3, [Dense(4, "tanh"), Dense(2)], SquaredError(), 11)
    core = module(backend, float)

    def head(outputs):
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        core.backward(core.Plan(3, problem.dense), problem.parameters, problem.data.X, head, None, None)
