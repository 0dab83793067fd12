"""softmax in a hidden layer: the one activation whose outputs depend on all scores, everywhere that layers go."""

import backprop as bp
import numpy as np
import pytest
from backends import each_backend, each_dtype, each_settings, make_problem, train
from backprop.base.types import TrainingSettings
from backprop.layers import Dense
from backprop.losses import SquaredError
from backprop.optimizers import SGD

LAYERS = {
    "tiny": [Dense(3, "softmax"), Dense(2)],
    "narrow": [Dense(6, "softmax"), Dense(5, "softmax"), Dense(1)],
    "wide": [Dense(19, "softmax"), Dense(33, "tanh"), Dense(17, "softmax"), Dense(9)],
    "dropout": [Dense(12, "softmax", dropout=0.3), Dense(4)],
}


@each_backend
@each_dtype
@each_settings
@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_training_is_that_of_the_reference(backend, dtype, settings, layers):
    problem = make_problem(4, layers, SquaredError(), 20)
    expected, losses, _ = train("reference", problem, SGD(learning_rate=0.1), settings, 3)
    state, own, _ = train(backend, problem.cast(dtype), SGD(learning_rate=0.1), settings, 3)
    # 60 steps at most, each of which adds a few roundings of numbers of about 1.
    bound = 500 * np.finfo(dtype).eps
    np.testing.assert_allclose(state.parameters, expected.parameters, rtol=0, atol=bound)
    np.testing.assert_allclose(own, losses, rtol=bound)


@each_backend
@pytest.mark.parametrize("n_rows", [1, 5, 8, 700])
def test_threads_and_batches_do_not_show(backend, n_rows):
    problem = make_problem(4, LAYERS["wide"], SquaredError(), n_rows)
    results = [
        train(backend, problem, SGD(), TrainingSettings(n_threads=n_threads), 3)[0].parameters for n_threads in (1, 2)
    ]
    np.testing.assert_array_equal(*results)


@each_backend
@pytest.mark.parametrize("n_layers", [1, 2])
def test_chains_add_up_to_the_gradient(backend, n_layers):
    net = bp.mlp([2, *[3] * n_layers, 2], hidden="softmax", dtype="float64", seed=0, backend=backend)
    step = net.trace([[0.5, -1.0], [1.0, 2.0]], [[0.0, 1.0], [1.0, 0.5]], loss="squared_error")
    for i in range(2):
        for j in range(3):
            explanation = step.explain(0, (i, j))
            total = sum(np.prod([factor.value for factor in path.factors]) for path in explanation.paths)
            assert total == pytest.approx(step.layers[0].dW[i, j], rel=1e-12, abs=1e-16)
            assert step.layers[0].dW[i, j] == pytest.approx(step.layers[0].numerical_dW[i, j], rel=1e-6, abs=1e-9)
    assert "sum_i" in step.to_markdown()


@each_backend
def test_files_checks_and_activations(backend, tmp_path):
    X, y = np.random.default_rng(0).normal(size=(2, 9, 2))
    net = bp.mlp([2, 4, 2], hidden="softmax", dtype="float64", seed=0, backend=backend)
    assert bp.check_gradients(net, X, y).passed
    net.fit(X, y, epochs=2, progress=False)
    net.save(tmp_path / "model")
    np.testing.assert_array_equal(bp.load(tmp_path / "model", backend=backend).predict(X), net.predict(X))
    np.testing.assert_allclose(net.activations(X)[0].sum(axis=1), 1, rtol=1e-15)
    bp.plotting.plot_network(net)
