"""Derivatives of the outputs with respect to the inputs, against complex steps and PyTorch."""

import backprop as bp
import numpy as np
import pytest
from backends import BACKENDS, COMPILED
from backprop.reference.activations import ACTIVATIONS
from backprop.reference.passes import Plan, forward_pass

SMOOTH = [name for name, activation in ACTIVATIONS.items() if not activation.kinks and not activation.slopes]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activation", SMOOTH)
def test_the_jacobian_is_that_of_complex_steps(activation, backend, rng):
    net = bp.Network(
        3, [bp.Dense(7, activation), bp.Dense(4, "tanh"), bp.Dense(5, activation)],
        dtype="float64", seed=0, backend=backend,
    )  # fmt: skip
    X, h = rng.normal(size=(33, 3)), 1e-100
    J = net.jacobian(X)
    assert J.shape == (33, 5, 3)
    plan = Plan(3, net.layers)
    for i in range(3):
        moved = X.astype(complex)
        moved[:, i] += 1j * h
        expected = forward_pass(plan, net.parameters.astype(complex), moved).outputs[-1].imag / h
        np.testing.assert_allclose(J[:, :, i], expected, rtol=1e-10, atol=1e-10)


def test_the_jacobian_is_that_of_torch(rng):
    torch = pytest.importorskip("torch")
    net = bp.mlp([3, 8, 2], hidden="tanh", dtype="float64", seed=0)
    X = rng.normal(size=(20, 3))
    W1, b1, W2, b2 = (torch.tensor(each.copy()) for k in range(2) for each in (net.weights[k], net.biases[k]))
    jacobian = torch.func.vmap(torch.func.jacrev(lambda x: torch.tanh(x @ W1 + b1) @ W2 + b2))
    np.testing.assert_allclose(net.jacobian(X), jacobian(torch.tensor(X)).numpy(), rtol=1e-10, atol=1e-12)


def test_the_jacobian_in_float32_is_near(rng):
    X = rng.normal(size=(20, 3)).astype(np.float32)
    nets = [bp.mlp([3, 8, 2], hidden="tanh", dtype=dtype, seed=0) for dtype in ("float32", "float64")]
    nets[1].parameters = nets[0].parameters
    assert nets[0].jacobian(X).dtype == np.float32
    # a few roundings of float32
    np.testing.assert_allclose(nets[0].jacobian(X), nets[1].jacobian(X), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(len(COMPILED) < 2, reason="needs two compiled cores")
def test_the_jacobian_has_the_same_bits_on_avx2_and_avx_512(rng):
    X = rng.normal(size=(301, 3))
    found = [
        bp.mlp([3, 20, 2], hidden="tanh", dtype="float64", seed=0, backend=backend).jacobian(X).tobytes()
        for backend in COMPILED
        if backend != "baseline"
    ]
    assert len(set(found)) == 1


def test_rows_that_are_wrong(rng):
    with pytest.raises(ValueError, match="X: needs"):
        bp.mlp([3, 8, 2], seed=0).jacobian(np.zeros((4, 2)))
