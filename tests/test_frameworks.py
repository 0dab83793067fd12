"""Networks as models of other libraries, and back."""

import json
import warnings
from pathlib import Path

import backprop as bp
import numpy as np
import pytest
from backprop.export import jax as of_jax
from backprop.export import keras as of_keras
from backprop.export import torch as of_torch
from backprop.reference.activations import ACTIVATIONS


def network(name, dtype, output="identity"):
    alpha = 0.3 if ACTIVATIONS[name].alpha is not None and name != "prelu" else None
    layers = [
        bp.Dense(5, name, alpha=alpha, dropout=0.25),
        bp.Dense(4, bias=False, trainable=False),
        bp.Dense(3, name, alpha=alpha),
        bp.Dense(2, output),
    ]
    net = bp.Network(3, layers, dtype=dtype, seed=0)
    for arrays in (net.biases, net.slopes):
        for array in arrays:
            if array is not None:
                array += np.arange(array.size) / 10
    return net


def close(found, wanted):
    wanted = np.asarray(wanted)
    bound = 2e-6 if wanted.dtype == np.float32 else 1e-8  # PyTorch's softplus is the line from 20 on
    np.testing.assert_allclose(found, wanted, rtol=bound, atol=bound)


def test_every_activation_is_made_or_refused():
    assert {*of_torch.MODULES, *of_torch.REFUSED} == set(ACTIVATIONS)
    assert {*of_keras.NAMES, *of_keras.LAYERS, *of_keras.REFUSED} == set(ACTIVATIONS)
    assert set(of_jax.FUNCTIONS) == set(ACTIVATIONS)


# --- PyTorch -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", of_torch.MODULES)
def test_pytorch_and_back(name, dtype, rng):
    torch = pytest.importorskip("torch")
    net = network(name, dtype)
    module = net.to_torch()
    X = rng.normal(size=(20, 3)).astype(dtype) * 3
    with torch.no_grad():
        close(module(torch.from_numpy(X)).numpy(), net.predict(X))
    again = bp.from_torch(module)
    assert again.layers == net.layers
    assert (again.predict(X) == net.predict(X)).all()
    module[0].weight.data.zero_()
    assert net.weights[0].all()


def test_pytorch_refuses_what_it_has_not():
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"layers\[0\]: exp: torch.nn has no module of it.*to_onnx"):
        bp.mlp([2, 1], output="exp").to_torch()


def test_a_forward_of_ones_own(rng):
    torch = pytest.importorskip("torch")
    nn, F = torch.nn, torch.nn.functional

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.rest = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh())
            self.last = nn.Linear(4, 2)

        def forward(self, x):
            x = F.leaky_relu(self.first(torch.flatten(x, 1)), 0.2)
            x = F.dropout(x, p=0.1, training=self.training)
            return self.last(self.rest(x)).sigmoid()

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.own = Own()

        def forward(self, x):
            return self.own(x)

    module = Outer().eval()
    net = bp.from_torch(module)
    assert net.layers == (
        bp.Dense(4, "leaky_relu", alpha=0.2, dropout=0.1), bp.Dense(4, "tanh"), bp.Dense(2, "sigmoid"),
    )  # fmt: skip
    X = torch.tensor(rng.normal(size=(5, 3)), dtype=torch.float32)
    with torch.no_grad():
        close(net.predict(X.numpy()), module(X).numpy())


def test_a_forward_that_is_no_chain_is_named():
    torch = pytest.importorskip("torch")

    class Base(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one = torch.nn.Linear(3, 3)

    class Skip(Base):
        def forward(self, x):
            return x + self.one(x)

    class Branch(Base):
        def forward(self, x):
            return self.one(x) if x.sum() > 0 else x

    class Cosine(Base):
        def forward(self, x):
            return torch.cos(self.one(x))

    with pytest.raises(TypeError, match=r"module.add: needs a chain"):
        bp.from_torch(Skip())
    with pytest.raises(TypeError, match=r"forward that torch.fx can follow, got Branch.*from_onnx"):
        bp.from_torch(Branch())
    with pytest.raises(TypeError, match=r"module.cos: needs one of sigmoid, .*got cos"):
        bp.from_torch(Cosine())


def test_logarithms_of_probabilities_are_told_the_way():
    torch = pytest.importorskip("torch")

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one = torch.nn.Linear(3, 3)

        def forward(self, x):
            return torch.nn.functional.log_softmax(self.one(x), dim=1)

    for module in (Module(), torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LogSoftmax(dim=1))):
        with pytest.raises(
            TypeError, match=r"got (log_softmax|LogSoftmax); give the model without it, and output='softm"
        ):
            bp.from_torch(module)


# --- scikit-learn --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["identity", "sigmoid", "tanh", "relu"])
@pytest.mark.parametrize(
    ("output", "units", "classes"),
    [
        ("identity", 1, None),
        ("identity", 3, None),
        ("sigmoid", 1, ["no", "yes"]),
        ("sigmoid", 3, None),
        ("softmax", 3, [2, 5, 7]),
        ("softmax", 4, None),
    ],
)
def test_scikit_learn_and_back(activation, output, units, classes, dtype, rng):
    net = bp.Network(3, [bp.Dense(5, activation), bp.Dense(units, output)], dtype=dtype, seed=0)
    estimator = net.to_sklearn(classes)
    X = rng.normal(size=(20, 3)).astype(dtype)
    wanted = net.predict(X)
    if output == "identity":
        close(estimator.predict(X).reshape(wanted.shape), wanted)
    elif units == 1:
        close(estimator.predict_proba(X)[:, 1], wanted[:, 0])
        assert (estimator.predict(X) == np.array(classes)[(wanted[:, 0] > 0.5).astype(int)]).all()
    else:
        close(estimator.predict_proba(X), wanted)
        found = estimator.predict(X)
        if output == "sigmoid":
            assert (found == (wanted > 0.5)).all()
        else:
            assert (found == np.array(classes or range(units))[wanted.argmax(axis=1)]).all()
    again = bp.from_sklearn(estimator)
    assert again.layers == net.layers
    assert (again.predict(X) == wanted).all()


@pytest.mark.parametrize("way", ["partial_fit", "warm_start"])
@pytest.mark.parametrize(("output", "units"), [("identity", 1), ("sigmoid", 1), ("softmax", 3)])
def test_scikit_learn_goes_on_training(output, units, way, rng):
    net = bp.Network(3, [bp.Dense(5, "tanh"), bp.Dense(units, output)], dtype="float64", seed=0)
    estimator = net.to_sklearn()
    X = rng.normal(size=(40, 3))
    y = X[:, 0] if output == "identity" else np.arange(40) % max(2, units)
    estimator.set_params(learning_rate_init=1e-9, max_iter=1, warm_start=way == "warm_start")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged
        (estimator.partial_fit if way == "partial_fit" else estimator.fit)(X, y)
    close(bp.from_sklearn(estimator).parameters, net.parameters)
    assert len(estimator.loss_curve_) == 1


@pytest.mark.parametrize(
    ("net", "classes", "message"),
    [
        (bp.mlp([2, 3, 1], hidden="gelu"), None, "needs one activation among identity, sigmoid, tanh, relu"),
        (bp.mlp([2, 1], output="exp"), None, "needs an output of identity, sigmoid, softmax, got exp"),
        (bp.mlp([2, 2], output="softmax"), None, "needs softmax for 3 classes or more, got 2"),
        (bp.mlp([2, 3], output="softmax"), ["a", "b"], "classes: needs 3 different ones in ascending order"),
        (bp.mlp([2, 1]), [0, 1], "classes: needs None for a network with the identity"),
    ],
)
def test_scikit_learn_refuses_what_it_has_not(net, classes, message):
    with pytest.raises(ValueError, match=message):
        net.to_sklearn(classes)


# --- JAX and Keras -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_jax(name, rng):
    jax = pytest.importorskip("jax")
    net = network(name, "float32", "softmax")
    predict, parameters = net.to_jax()
    X = rng.normal(size=(20, 3)).astype(np.float32)
    close(np.asarray(jax.jit(predict)(parameters, X)), net.predict(X))
    gradient = jax.grad(lambda parameters: predict(parameters, X).sum())(parameters)
    assert [sorted(each) for each in gradient] == [sorted(each) for each in parameters]


def test_jax_computes_in_the_dtype_of_the_parameters(dtype, rng):
    jax = pytest.importorskip("jax")
    net = network("tanh", dtype, "softmax")
    predict, parameters = net.to_jax()
    rows = rng.integers(-3, 3, (20, 3))
    with jax.enable_x64(True):
        for X in (rows, rows.astype(np.float32), rows.astype(np.float64)):
            found = np.asarray(predict(parameters, X))
            assert found.dtype == dtype
            close(found, net.predict(X))
    assert predict(parameters, rows.astype(np.float64)).dtype == "float32"


KERAS = [*of_keras.NAMES, *of_keras.LAYERS]


def keras_network(name, dtype):
    alpha = 0.3 if ACTIVATIONS[name].alpha is not None and name != "prelu" else None
    layers = [
        bp.Dense(5, name, alpha=alpha, dropout=0.25, l1=0.25, l2=0.5, max_norm=2.0),
        bp.Dense(4, bias=False, trainable=False),
        bp.Dense(2, "softmax"),
    ]
    return bp.Network(3, layers, dtype=dtype, seed=0)


def recorded_layers(name):
    """The layers of `to_keras`, each a kind, a configuration and weights, as Keras 3.15 describes them."""
    return json.loads((Path(__file__).parent / "data" / "to_keras.json").read_text())[name]


@pytest.mark.parametrize("name", KERAS)
def test_what_keras_was_given_gives_the_network_back(name, rng):
    """Recorded for where Keras is not installed."""
    layers = []
    for kind, config, weights in recorded_layers(name):
        layer = type(kind, (), {})()
        layer.get_config = lambda config=config: config
        layer.get_weights = lambda weights=weights: [np.array(each, np.float32) for each in weights]
        layers.append(layer)
    model = type("Sequential", (), {"layers": layers})()
    net, again = keras_network(name, "float32"), bp.from_keras(model)
    X = rng.normal(size=(20, 3))
    assert again.layers == net.layers
    assert (again.predict(X) == net.predict(X)).all()


@pytest.mark.parametrize(("method", "package"), [("to_torch", "torch"), ("to_jax", "jax"), ("to_keras", "keras")])
def test_what_is_not_installed_is_said(method, package, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ImportError, match=f"{method}: needs .*pip install {package}"):
        getattr(bp.mlp([2, 1]), method)()
