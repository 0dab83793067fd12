"""Derivatives of second order, and gradients row by row: against complex steps, differences and PyTorch; and twins."""

from __future__ import annotations

import backprop as bp
import numpy as np
import pytest
from backends import (
    BACKENDS,
    COMPILED,
    LOSS_VARIANTS,
    distance,
    each_backend,
    each_compiled,
    each_dtype,
    hidden_activations,
    label,
    make_problem,
    module,
    outputs_of,
)
from backprop import reference
from backprop.backends import choice
from backprop.layers import Dense
from backprop.losses import LOSSES, CrossEntropy, SquaredError
from backprop.reference import derivatives
from backprop.reference.activations import ACTIVATIONS
from backprop.reference.losses.loss import as_rows, row_factors
from backprop.reference.passes import add_penalty_gradient, data_loss, forward_pass

H = 1e-100
SMOOTH = [name for name, activation in ACTIVATIONS.items() if activation.smooth]
FUSED = [name for name in choice.FUSED if name in choice.available()]
each_pair = pytest.mark.parametrize(
    ("hidden", "loss"),
    [
        pytest.param(hidden, loss, id=f"{hidden}-{label(loss)}")
        for hidden in hidden_activations()
        for loss in LOSS_VARIANTS
    ],
)


def problems(hidden, loss, n_rows=7):
    """Networks with this hidden activation and some of the outputs that the loss accepts."""
    outputs = [hidden] if hidden in outputs_of(loss) else []
    outputs += [output for output in outputs_of(loss) if output in ("softmax", *(loss.outputs or ()))]
    for k, output in enumerate(dict.fromkeys([*outputs, outputs_of(loss)[0]])):
        dense = [Dense(4, hidden, bias=False, l2=0.1), Dense(9, hidden, l1=0.05), Dense(3, output, l2=0.02)]
        problem = make_problem(3, dense, loss, n_rows, weighted=k == 0, labels=k % 2 == 0, seed=k)
        if hidden == "exp":  # three of them on top of each other
            problem.parameters *= 0.3
        yield problem


def product(backend, problem, vector, gauss_newton=False):
    """The Hessian, or the Gauss-Newton matrix, times a vector."""
    core = module(backend, problem.parameters.dtype)
    plan = core.Plan(problem.n_inputs, problem.dense)
    out = np.full_like(problem.parameters, np.nan)
    vector = vector.astype(out.dtype)
    core.curvature_product(plan, problem.loss, problem.parameters, problem.data, vector, out, gauss_newton)
    return out


def gradient_at(problem, parameters):
    """The gradient of the data loss; of complex parameters too."""
    plan = reference.Plan(problem.n_inputs, problem.dense)
    gradient = np.empty_like(parameters)
    with np.errstate(all="ignore"):
        data_loss(plan, problem.loss, parameters, problem.data, gradient)
    return gradient


def l2_product(problem, vector):
    """What the penalties add: l2 times the weights' part of the vector."""
    plan = reference.Plan(problem.n_inputs, problem.dense)
    zero = np.zeros_like(vector)
    add_penalty_gradient(plan, vector, zero)
    for array in plan.arrays:
        if array.penalised:
            array.of(zero)[...] -= plan.layers[array.layer].settings.l1 * np.sign(array.of(vector))
    return zero


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_second_derivatives_of_activations(name, rng):
    """By complex steps of the first derivative; by differences where two formulas meet."""
    activation, alpha = ACTIVATIONS[name], 0.3
    z = rng.normal(size=(50, 4)) * 3
    second = activation.second_derivative(z, activation.value(z, alpha), alpha)
    for k in range(4):
        steps = np.zeros(4)
        steps[k] = 1
        found = second[..., k] if name == "softmax" else second * steps
        if activation.smooth:
            moved = z + 1j * H * steps
            expected = activation.derivative(moved, activation.value(moved, alpha), alpha).imag / H
        else:
            h = 1e-6
            ends = [activation.derivative(x, activation.value(x, alpha), alpha) for x in (z + h * steps, z - h * steps)]
            expected = (ends[0] - ends[1]) / (2 * h)
        np.testing.assert_allclose(found, expected, rtol=1e-12 if activation.smooth else 1e-6, atol=1e-9)


@each_backend
@each_dtype
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in ("exp", "softmax")])
def test_second_derivatives_far_from_zero(name, backend, dtype):
    """All of them are 0 there, but for those that bend little: no square of a score may overflow."""
    far = np.float64(np.finfo(dtype).max) ** np.array([0.55, 0.75, 0.95])
    X = np.concatenate([-far, far])[:, np.newaxis].astype(dtype)
    layer = Dense(1, name, weight_init=1.0, bias=False)
    net = bp.Network(1, [layer], dtype=np.dtype(dtype).name, backend=backend)
    np.testing.assert_allclose(net.hessian(X).ravel(), 0, atol=1e-15)
    np.testing.assert_allclose(net.laplacian(X).ravel(), 0, atol=1e-15)


@each_pair
def test_the_product_with_the_hessian(hidden, loss, rng):
    """Of the reference, with complex steps of the gradient where all is smooth, else with differences of it."""
    for problem in problems(hidden, loss):
        vector = rng.normal(size=problem.parameters.size)
        found = product("reference", problem, vector) - l2_product(problem, vector)
        output = problem.dense[-1].activation
        if ACTIVATIONS[hidden].smooth and ACTIVATIONS[output].smooth and loss.smooth:
            expected = gradient_at(problem, problem.parameters + 1j * H * vector).imag / H
            assert distance(found, expected) < 1e-12
        else:
            h = 1e-7
            ends = [gradient_at(problem, problem.parameters + step * vector) for step in (h, -h)]
            np.testing.assert_allclose(found, (ends[0] - ends[1]) / (2 * h), rtol=1e-5, atol=1e-6)


@each_compiled
@each_pair
@each_dtype
def test_the_twins_have_the_same_products(backend, dtype, hidden, loss, rng):
    for problem in problems(hidden, loss, 37):
        vector = rng.normal(size=problem.parameters.size)
        for gauss_newton in (False, True):
            expected = product("reference", problem, vector, gauss_newton)
            found = product(backend, problem.cast(dtype), vector, gauss_newton)
            # float32: some hundred roundings of 6e-8, more where steep activations stand on top of each other
            assert np.abs(found - expected).max() <= (1e-12 if dtype == np.float64 else 2e-4) * np.abs(expected).max()


@pytest.mark.parametrize("loss", LOSS_VARIANTS, ids=label)
def test_the_product_with_the_gauss_newton_matrix(loss, rng):
    """The matrix itself is made of the Jacobian and of the curvature of the loss."""
    for problem in problems("tanh", loss):
        *rest, last = problem.dense
        scores = loss.from_scores(last.activation)
        below = Dense(3, "identity", l2=0.02) if scores else last
        plan = reference.Plan(3, [*rest, below])
        J = np.empty((7, 3, plan.n_parameters))
        reference.parameter_jacobian(plan, problem.parameters, problem.data.X, J)
        run = forward_pass(reference.Plan(3, problem.dense), problem.parameters, problem.data.X)
        Z, A, Y = run.scores[-1], run.outputs[-1], as_rows(problem.data.targets, 3, np.dtype(float))
        factors = row_factors(loss, problem.data.sample_weight, 7, 3, np.dtype(float))
        C = np.zeros((7, 3, 3))
        for k in range(3):
            dZ = np.zeros_like(Z)
            dZ[:, k] = 1
            dA = last.function.backward(Z, A, dZ, last.slope)
            C[:, :, k] = factors * (loss.score_tangent(Z, A, Y, dZ, dA) if scores else loss.curvature(A, Y) * dZ)
        vector = rng.normal(size=problem.parameters.size)
        expected = np.einsum("rop,roq,rqs,s->p", J, C, J, vector) + l2_product(problem, vector)
        np.testing.assert_allclose(product("reference", problem, vector, gauss_newton=True), expected, atol=1e-12)


# --- of the outputs ------------------------------------------------------------------------------------------------


def network(activation, output="identity", dtype="float64", backend=None, n_inputs=3):
    net = bp.Network(
        n_inputs, [Dense(7, activation), Dense(9, "tanh"), Dense(4, output)], dtype=dtype, seed=0, backend=backend
    )
    net.parameters = (net.parameters + np.random.default_rng(0).normal(scale=0.1, size=net.n_parameters)).astype(dtype)
    return net


def complex_hessian(net, X):
    """Complex steps of the reference's Jacobian."""
    plan = reference.Plan(net.n_inputs, net.layers)
    columns = []
    for i in range(net.n_inputs):
        moved = X.astype(complex)
        moved[:, i] += 1j * H
        out = np.empty((len(X), net.n_outputs, net.n_inputs), complex)
        derivatives.jacobian(plan, net.parameters.astype(complex), moved, out)
        columns.append(out.imag / H)
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("output", ["identity", "softmax", "gelu"])
@pytest.mark.parametrize("activation", SMOOTH)
def test_second_derivatives_of_outputs(activation, output, backend, rng):
    net = network(activation, output, backend=backend)
    X = rng.normal(size=(33, 3))
    H = net.hessian(X)
    np.testing.assert_allclose(H, complex_hessian(net, X), rtol=1e-10, atol=1e-10)
    assert (H.swapaxes(2, 3) == H).all()
    np.testing.assert_allclose(net.laplacian(X), np.trace(H, axis1=2, axis2=3), rtol=1e-10, atol=1e-10)


@each_compiled
@each_dtype
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("output", ["identity", "softmax", "prelu"])
def test_the_twins_have_the_same_derivatives_of_outputs(activation, output, backend, dtype, rng):
    X = rng.normal(size=(300, 3)).astype(dtype)  # more than one chunk
    nets = [network(activation, output, dtype, name) for name in (backend, "reference")]
    for name in ("jacobian", "parameter_jacobian", "hessian", "laplacian"):
        found, expected = (getattr(net, name)(X) for net in nets)
        assert found.dtype == dtype
        assert np.abs(found - expected).max() <= (1e-11 if dtype == np.float64 else 3e-4) * np.abs(expected).max()


@each_backend
@each_dtype
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_gradients_of_rows_add_up(backend, dtype, loss):
    for problem in problems("prelu", loss(), 50):
        problem = problem.cast(dtype)
        net = bp.Network(3, [*problem.dense], dtype=dtype, backend=backend)
        net.parameters = problem.parameters
        rows = net.gradients_per_row(*problem.data[:2], loss=loss(), sample_weight=problem.data.sample_weight)
        expected = gradient_at(problem, problem.parameters)
        assert rows.shape == (50, net.n_parameters)
        np.testing.assert_allclose(rows.sum(axis=0), expected, atol=1e-12 if dtype == np.float64 else 1e-4)


@each_backend
def test_a_sum_has_the_gradient_of_each_row(backend, rng):
    net = network("prelu", "softmax", backend=backend)
    X, y = rng.normal(size=(5, 3)), rng.integers(4, size=5)
    loss = CrossEntropy(reduction="sum")
    rows = net.gradients_per_row(X, y, loss=loss)
    for r in range(5):
        _, layers = net.loss_and_gradients(X[r : r + 1], y[r : r + 1], loss)
        expected = np.concatenate([array.ravel() for arrays in layers for array in arrays])
        np.testing.assert_allclose(rows[r], expected, atol=1e-14)


@each_backend
def test_what_is_frozen(backend, rng):
    """Its derivatives are 0, and its part of the vector does not count."""
    layers = [Dense(5, "prelu", trainable=False), Dense(9, "tanh", bias_trainable=False), Dense(2, l2=0.1)]
    net = bp.Network(3, layers, dtype="float64", seed=0, backend=backend)
    free = bp.Network(3, [Dense(5, "prelu"), Dense(9, "tanh"), Dense(2, l2=0.1)], dtype="float64", seed=0)
    trainable = np.concatenate([np.full(array.size, array.trainable) for array in net._layout])
    X, y, v = rng.normal(size=(20, 3)), rng.normal(size=(20, 2)), rng.normal(size=net.n_parameters)
    for name in ("hessian_vector_product", "gauss_newton_vector_product"):
        found = getattr(net, name)(X, y, v)
        assert not found[~trainable].any()
        expected = getattr(free, name)(X, y, np.where(trainable, v, 0))
        np.testing.assert_allclose(found[trainable], expected[trainable], atol=1e-13)
    np.testing.assert_allclose(
        net.parameter_jacobian(X), np.where(trainable, free.parameter_jacobian(X), 0), atol=1e-13
    )
    np.testing.assert_allclose(
        net.gradients_per_row(X, y), np.where(trainable, free.gradients_per_row(X, y), 0), atol=1e-13
    )


@pytest.mark.skipif(len(FUSED) < 2, reason="needs two cores that round alike")
@each_dtype
def test_the_bits_are_the_same_on_every_core(dtype, rng):
    X, y = rng.normal(size=(301, 3)), rng.integers(4, size=301)
    for activation in ACTIVATIONS:
        found = set()
        for backend in FUSED:
            net = network(activation, "softmax", dtype, backend)
            v = np.linspace(-1, 1, net.n_parameters)
            results = [
                net.jacobian(X), net.parameter_jacobian(X), net.hessian(X), net.laplacian(X),
                net.gradients_per_row(X, y), net.hessian_vector_product(X, y, v),
                net.gauss_newton_vector_product(X, y, v),
            ]  # fmt: skip
            found.add(b"".join(each.tobytes() for each in results))
        assert len(found) == 1, activation


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_derivatives_are_those_of_torch(backend, rng):
    torch = pytest.importorskip("torch")
    net = bp.Network(3, [Dense(6, "tanh"), Dense(5, "softplus"), Dense(4)], dtype="float64", seed=1, backend=backend)
    X, y, v = rng.normal(size=(12, 3)), rng.normal(size=(12, 4)), rng.normal(size=net.n_parameters)
    tX, ty = torch.tensor(X), torch.tensor(y)
    start = [(array.part, array.shape) for array in net._layout]

    def outputs(p, x):
        W1, b1, W2, b2, W3, b3 = (p[part].reshape(shape) for part, shape in start)
        return torch.nn.functional.softplus(torch.tanh(x @ W1 + b1) @ W2 + b2) @ W3 + b3

    def loss(p):
        return ((outputs(p, tX) - ty) ** 2).mean()

    def loss_of_row(p, x, target):
        return ((outputs(p, x) - target) ** 2).sum() / ty.numel()

    p, func = torch.tensor(net.parameters.copy()), torch.func
    hessian = func.vmap(func.jacrev(func.jacrev(outputs, argnums=1), argnums=1), in_dims=(None, 0))(p, tX).numpy()
    pairs = [
        (net.jacobian(X), func.vmap(func.jacrev(outputs, argnums=1), in_dims=(None, 0))(p, tX).numpy()),
        (net.parameter_jacobian(X), func.vmap(func.jacrev(outputs), in_dims=(None, 0))(p, tX).numpy()),
        (net.hessian(X), hessian),
        (net.laplacian(X), np.trace(hessian, axis1=2, axis2=3)),
        (net.gradients_per_row(X, y), func.vmap(func.grad(loss_of_row), in_dims=(None, 0, 0))(p, tX, ty).numpy()),
        (net.hessian_vector_product(X, y, v), func.grad(lambda p: func.grad(loss)(p) @ torch.tensor(v))(p).numpy()),
    ]
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@each_compiled
def test_many_rows_and_wide_layers(backend, rng):
    """Several chunks, tiles of every width, and one row."""
    for n_rows, units in ((1, 300), (1000, 33), (5, 600), (257, 8)):
        layers = [Dense(units, "silu"), Dense(units, "tanh"), Dense(2)]
        nets = [bp.Network(4, layers, dtype="float64", seed=0, backend=name) for name in (backend, "reference")]
        X, y = rng.normal(size=(n_rows, 4)), rng.normal(size=(n_rows, 2))
        v = rng.normal(size=nets[0].n_parameters)
        for name, rest in (
            ("hessian_vector_product", (X, y, v)), ("hessian", (X,)), ("laplacian", (X,)), ("jacobian", (X,)),
            ("gradients_per_row", (X, y)), ("parameter_jacobian", (X,)),
        ):  # fmt: skip
            found, expected = (getattr(net, name)(*rest) for net in nets)
            assert distance(found.ravel(), expected.ravel()) < 1e-11


def test_what_is_wrong(rng):
    net = bp.mlp([3, 4, 2], seed=0)
    X, y, v = rng.normal(size=(5, 3)), rng.normal(size=(5, 2)), np.zeros(net.n_parameters)
    holes = X.copy()
    holes[2, 1] = np.nan
    for name in ("jacobian", "parameter_jacobian", "hessian", "laplacian"):
        for wrong in (X[:, :2], X[:0], holes, "text"):
            with pytest.raises((TypeError, ValueError), match=r"^X: needs"):
                getattr(net, name)(wrong)
    for name in ("hessian_vector_product", "gauss_newton_vector_product"):
        for wrong in (v[:-1], v[:, None], np.full_like(v, np.nan), None):
            with pytest.raises((TypeError, ValueError), match=r"^v: needs"):
                getattr(net, name)(X, y, wrong)
        with pytest.raises(ValueError, match=r"^X: needs at least one row"):
            getattr(net, name)(X[:0], y[:0], v)
        with pytest.raises((TypeError, ValueError), match=r"^loss: needs"):
            getattr(net, name)(X, y, v, loss=lambda outputs, targets: (0.0, outputs))
    with pytest.raises(ValueError, match=r"^sample_weight: needs one weight per row"):
        net.gradients_per_row(X, y, sample_weight=rng.uniform(size=(5, 2)))
    with pytest.raises(ValueError, match=r"^y: needs"):
        net.gradients_per_row(X, y[:3])


def test_nothing_changes_the_network(rng):
    net = bp.Network(3, [Dense(4, "tanh"), Dense(1)], seed=0)
    X, y, v = rng.normal(size=(5, 3)), rng.normal(size=5), rng.normal(size=net.n_parameters).astype(np.float32)
    before = net.parameters.copy(), X.copy(), v.copy()
    net.hessian_vector_product(X, y, v, loss=SquaredError())
    net.hessian(X)
    assert all((was == now).all() for was, now in zip(before, (net.parameters, X, v), strict=True))


@pytest.mark.skipif(not COMPILED, reason="needs a compiled core")
def test_the_product_is_symmetric(rng):
    net = network("gelu", "softmax")
    X, y = rng.normal(size=(100, 3)), rng.integers(4, size=100)
    v, w = rng.normal(size=(2, net.n_parameters))
    assert np.isclose(v @ net.hessian_vector_product(X, y, w), w @ net.hessian_vector_product(X, y, v), rtol=1e-10)


@pytest.mark.parametrize("product", ["hessian_vector_product", "gauss_newton_vector_product"])
def test_a_vector_layer_by_layer(product, backend):
    net = bp.mlp([2, 3, 1], hidden="tanh", dtype="float64", seed=0, backend=backend)
    X, y = [[0.5, 1.0], [1.0, -1.0]], [1.0, 0.0]
    _, layers = net.loss_and_gradients(X, y)
    vector = np.concatenate([array.ravel() for arrays in layers for array in arrays])
    multiply = getattr(net, product)
    np.testing.assert_array_equal(multiply(X, y, layers), multiply(X, y, vector))
    with pytest.raises(ValueError, match=r"v\[0\]\[1\]: needs shape \(3,\), got shape \(2,\)"):
        multiply(X, y, [(layers[0][0], np.ones(2)), layers[1]])
