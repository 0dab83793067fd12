"""Networks of other libraries: the same outputs, the same settings, and clear words for what cannot be taken over."""

from dataclasses import replace
from types import SimpleNamespace

import backprop as bp
import backprop.sklearn
import numpy as np
import pytest
from backprop.importing.stack import Stack
from backprop.reference.activations import ACTIVATIONS
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

# Two libraries add up in different orders: a few roundings for each layer, relative to outputs of size 1.
ROUNDING = {"float32": 2e-6, "float64": 2e-14}


def assert_same(net, X, expected, looser=1.0):
    expected = np.asarray(expected)
    np.testing.assert_allclose(
        net.predict(X), expected, rtol=looser * ROUNDING[net.dtype.name], atol=looser * ROUNDING[net.dtype.name]
    )


# --- scikit-learn --------------------------------------------------------------------------------------------------


def fitted(estimator, X, y):
    with pytest.warns(ConvergenceWarning):
        return estimator.fit(X, y)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_sklearn_regressors(activation, backend, dtype, rng):
    X = rng.normal(size=(30, 4)).astype(dtype)
    y = np.c_[X.sum(axis=1), X[:, 0] * X[:, 1]]
    for targets in (y, y[:, 0]):
        estimator = fitted(
            MLPRegressor(hidden_layer_sizes=(5, 3), activation=activation, max_iter=3, random_state=0), X, targets
        )
        net = bp.from_sklearn(estimator, backend=backend)
        assert (net.dtype, net.backend) == (dtype, backend)
        assert_same(net, X, estimator.predict(X).reshape(30, -1))


@pytest.mark.parametrize("classes", [2, 3])
def test_sklearn_classifiers(classes, backend, dtype, rng):
    X, y = rng.normal(size=(30, 4)).astype(dtype), np.arange(30) % classes
    estimator = fitted(MLPClassifier((5,), max_iter=3, random_state=0), X, y)
    net = bp.from_sklearn(estimator, backend=backend)
    assert net.layers[-1].activation == ("sigmoid" if classes == 2 else "softmax")
    assert_same(net, X, estimator.predict_proba(X)[:, -net.n_outputs :])


def test_sklearn_counts_and_labels(backend, rng):
    X = rng.normal(size=(30, 4))
    multilabel = fitted(MLPClassifier((), max_iter=3, random_state=0), X, X[:, :2] > 0)
    assert_same(bp.from_sklearn(multilabel, backend=backend), X, multilabel.predict_proba(X))
    counts = fitted(MLPRegressor("poisson", (3,), max_iter=3, random_state=0), X, rng.poisson(1.0, 30))
    net = bp.from_sklearn(counts, backend=backend)
    assert net.layers[-1].activation == "exp"
    assert_same(net, X, counts.predict(X)[:, None])


def test_our_own_estimators(rng):
    estimators = pytest.importorskip("backprop.sklearn")
    X, y = rng.normal(size=(30, 4)), np.arange(30) % 3
    estimator = fitted(estimators.MLPClassifier((5, 4), ("logistic", "gelu"), max_iter=3, random_state=0), X, y)
    net = bp.from_sklearn(estimator)
    assert [layer.activation for layer in net.layers] == ["sigmoid", "gelu", "softmax"]
    assert_same(net, X, estimator.predict_proba(X))


def test_what_is_no_fitted_mlp():
    with pytest.raises(TypeError, match=r"estimator: needs a fitted MLPClassifier .* without coefs_, intercepts_"):
        bp.from_sklearn(MLPClassifier())
    for made_of, way in {
        "steps": "of a pipeline, give the last step",
        "best_estimator_": "of a search, give best_estimator_",
        "estimators_": "of an ensemble, give one of its estimators_",
    }.items():
        with pytest.raises(TypeError, match=f"estimator: needs a fitted .* without coefs_, .*; {way}"):
            bp.from_sklearn(SimpleNamespace(**{made_of: []}))
    odd = SimpleNamespace(coefs_=[np.eye(2)], intercepts_=[np.ones(2)], activation="relu", out_activation_="cubic")
    with pytest.raises(ValueError, match=r"layer 0: needs an activation among .*logistic.*, got 'cubic'"):
        bp.from_sklearn(odd)


def test_wrong_arrays():
    def stack(*coefs, intercepts=None):
        intercepts = [np.zeros(W.shape[1]) for W in coefs] if intercepts is None else intercepts
        return SimpleNamespace(coefs_=coefs, intercepts_=intercepts, activation="relu", out_activation_="identity")

    with pytest.raises(ValueError, match=r"layers\[1\]: needs 3 inputs, got weights for 2"):
        bp.from_sklearn(stack(np.ones((4, 3)), np.ones((2, 1))))
    with pytest.raises(ValueError, match="parameters: needs finite numbers"):
        bp.from_sklearn(stack(np.full((4, 3), np.nan)))
    with pytest.raises(ValueError, match=r"coefs_\[0\]: needs biases of shape \(3,\), got shape \(2,\)"):
        bp.from_sklearn(stack(np.ones((4, 3)), intercepts=[np.zeros(2)]))
    with pytest.raises(ValueError, match=r"coefs_\[0\]: needs an array of 2 dimensions, got shape \(4,\)"):
        bp.from_sklearn(stack(np.ones(4), intercepts=[np.zeros(1)]))
    with pytest.raises(TypeError, match=r"coefs_\[0\]: needs weights in float32 or float64, got float16"):
        bp.from_sklearn(stack(np.ones((4, 3), np.float16)))


# --- PyTorch -------------------------------------------------------------------------------------------------------


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    return torch


def outputs(torch, module, X):
    module.eval()
    with torch.no_grad():
        return module(torch.from_numpy(X)).numpy()


TORCH_ACTIVATIONS = {
    "Identity": {},
    "Sigmoid": {},
    "Tanh": {},
    "ReLU": {},
    "LeakyReLU": {"negative_slope": 0.2},
    "ELU": {"alpha": 0.5},
    "GELU": {"approximate": "tanh"},
    "SiLU": {},
    "Softplus": {},
    "SELU": {},
    "Mish": {},
    "Softsign": {},
    "ReLU6": {},
    "Hardtanh": {"min_val": 0.0, "max_val": 6.0},
    "Hardsigmoid": {},
    "Hardswish": {},
}


@pytest.mark.parametrize("name", TORCH_ACTIVATIONS)
def test_torch_activations(name, torch, backend, dtype, rng):
    nn, X = torch.nn, rng.normal(size=(20, 4)).astype(dtype)
    for settings in ({}, TORCH_ACTIVATIONS[name]):
        activation = getattr(nn, name)(**settings)
        module = nn.Sequential(nn.Linear(4, 6), activation, nn.Linear(6, 3, bias=False), activation)
        module.to(getattr(torch, dtype))
        net = bp.from_torch(module, backend=backend)
        assert (net.dtype, net.n_parameters) == (dtype, 30 + 18)
        assert_same(net, X, outputs(torch, module, X))


def test_torch_nested_with_dropout(torch, backend, rng):
    nn, X = torch.nn, rng.normal(size=(20, 4)).astype(np.float32)
    body = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Dropout(0.25))
    module = nn.Sequential(nn.Flatten(), body, nn.Identity(), nn.Linear(6, 3), nn.Softmax(dim=1))
    module[1][0].bias.requires_grad_(False)
    net = bp.from_torch(module, seed=3, backend=backend)
    assert net.layers == (bp.Dense(6, "gelu", dropout=0.25, bias_trainable=False), bp.Dense(3, "softmax"))
    assert net.seed == 3
    assert_same(net, X, outputs(torch, module, X))
    module[1][0].weight.requires_grad_(False)
    assert not bp.from_torch(module).layers[0].trainable


@pytest.mark.parametrize(("output", "loss"), [("softmax", "CrossEntropyLoss"), ("sigmoid", "BCEWithLogitsLoss")])
def test_torch_scores_and_their_loss(output, loss, torch, backend, rng):
    module = torch.nn.Linear(4, 3).double()
    X = torch.from_numpy(rng.normal(size=(20, 4)))
    y = torch.arange(20) % 3 if output == "softmax" else torch.from_numpy(rng.uniform(size=(20, 3)))
    net = bp.from_torch(module, output=output, backend=backend)
    expected = getattr(torch.nn, loss)()(module(X), y).item()
    assert net.loss(X.numpy(), y.numpy()) == pytest.approx(expected, rel=1e-14)


def test_torch_softmax_between_layers(torch, backend, rng):
    nn, X = torch.nn, rng.normal(size=(20, 4)).astype(np.float32)
    module = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1), nn.Linear(3, 3))
    assert_same(bp.from_torch(module, backend=backend), X, outputs(torch, module, X))


def test_training_goes_on_as_in_torch(torch, backend, rng):
    """The same steps from the imported weights: the import misses nothing that training depends on."""
    nn, X = torch.nn, rng.normal(size=(20, 4))
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    net = bp.from_torch(module, backend=backend)
    inputs, y = torch.from_numpy(X), torch.from_numpy(X.sum(axis=1, keepdims=True))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(10):
        optimizer.zero_grad()
        nn.MSELoss()(module(inputs), y).backward()
        optimizer.step()
    net.fit(X, y.numpy(), optimizer=bp.Adam(learning_rate=0.01), epochs=10, batch_size=None)
    assert_same(net, X, outputs(torch, module, X), looser=100)


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        (
            lambda nn: [nn.Linear(4, 3), nn.BatchNorm1d(3)],
            TypeError,
            r"module\[1\]: .*, got BatchNorm1d; torch.onnx.export",
        ),
        (lambda nn: [nn.ReLU(), nn.Linear(4, 3)], ValueError, r"module\[0\]: needs a dense layer before it, got relu"),
        (lambda nn: [nn.Dropout(), nn.Linear(4, 3)], ValueError, "needs a dense layer before it, got dropout"),
        (lambda nn: [nn.Linear(4, 3), nn.ReLU(), nn.Tanh()], ValueError, "between two activations, got relu and tanh"),
        (
            lambda nn: [nn.Linear(4, 3), nn.Dropout(), nn.ELU()],
            ValueError,
            r"needs dropout behind the activation, got elu behind dropout, whose zeros and",
        ),
        (lambda nn: [nn.Linear(4, 3), nn.Dropout(), nn.Dropout()], ValueError, "got dropout twice"),
        (lambda nn: [nn.Linear(4, 3), nn.Dropout()], ValueError, r"layers\[0\]: needs dropout=0"),
        (lambda nn: [nn.Linear(4, 3), nn.Softmax(0)], ValueError, r"module\[1\]: needs dim=1 or -1 or None, got 0"),
        (lambda nn: [nn.Linear(4, 3), nn.Softplus(2)], ValueError, r"module\[1\]: needs beta=1, got 2"),
        (
            lambda nn: [nn.Linear(4, 3), nn.Hardtanh(-2, 2)],
            ValueError,
            r"module\[1\]: needs \(min_val, max_val\)=\(-1, 1\) or \(0, 6\), got \(-2, 2\)",
        ),
        (lambda nn: [nn.Linear(4, 3), nn.Linear(2, 3)], ValueError, r"layers\[1\]: needs 3 inputs, got weights for 2"),
        (
            lambda nn: [nn.Linear(4, 3).half()],
            TypeError,
            r"module\[0\].weight: needs torch.float32 .*, got torch.float1",
        ),
        (lambda nn: [nn.LazyLinear(3)], TypeError, r"module\[0\]: needs one of .*, got LazyLinear"),
        (lambda nn: [], ValueError, "layers: needs at least one Dense"),
    ],
)
def test_what_torch_has_and_a_dense_network_has_not(parts, error, message, torch):
    with pytest.raises(error, match=message):
        bp.from_torch(torch.nn.Sequential(*parts(torch.nn)))


@pytest.mark.parametrize("activation", bp.ACTIVATIONS)
def test_dropout_before_an_activation(activation):
    """It is the same behind one for which kept outputs may be scaled before or after, and dropped ones stay 0."""
    stack = Stack()
    stack.dense("first", np.ones((2, 3)), None)
    stack.dropout("dropout", 0.25)
    function = ACTIVATIONS[activation]
    z = np.array([[-2.0, -0.5, 0.0, 0.7, 5.0]])
    alpha = np.full(5, 0.3) if function.slopes else 0.3
    value = [function.value(factor * z, alpha) for factor in (0, 1, 4 / 3)]
    if (value[0] == 0).all() and np.allclose(value[2], 4 / 3 * value[1], rtol=1e-14):  # one rounding of a product
        stack.activation("activation", (activation, None), np.ones(3))
        expected = bp.Dense(3, activation, bias=False, dropout=0.25)
        assert stack.layers == [expected]
    else:
        with pytest.raises(ValueError, match=f"activation: needs dropout behind the activation, got {activation}"):
            stack.activation("activation", (activation, None))


def test_dropout_before_relu_in_torch(torch, rng):
    nn, X = torch.nn, rng.normal(size=(20, 4)).astype(np.float32)
    module = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.25), nn.LeakyReLU(0.2), nn.Linear(6, 1))
    net = bp.from_torch(module)
    assert net.layers == (bp.Dense(6, "leaky_relu", alpha=0.2, dropout=0.25), bp.Dense(1))
    assert_same(net, X, outputs(torch, module.eval(), X))


def test_frozen_layers_thaw_as_a_whole(torch):
    """A layer whose arrays are all frozen says so once."""
    linear = torch.nn.Linear(2, 1).requires_grad_(False)
    (layer,) = bp.from_torch(linear).layers
    assert layer == bp.Dense(1, trainable=False)
    assert replace(layer, trainable=True) == bp.Dense(1)


def test_a_module_of_one_s_own_and_frozen_weights(torch):
    with pytest.raises(TypeError, match=r"module: needs one of Sequential, Linear, .*, got ModuleList"):
        bp.from_torch(torch.nn.ModuleList([torch.nn.Linear(2, 1)]))
    linear = torch.nn.Linear(2, 1)
    linear.weight.requires_grad_(False)
    with pytest.raises(ValueError, match="module: needs biases that are frozen as the weights are"):
        bp.from_torch(linear)
    with pytest.raises(ValueError, match="output: needs a dense layer between two activations"):
        bp.from_torch(torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.ReLU()), output="sigmoid")


def test_a_pipeline_of_scikit_learn_is_told_the_way(rng):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X = rng.normal(size=(30, 2))
    pipeline = make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(3,), max_iter=2))
    with pytest.raises(TypeError, match="of a pipeline, give the last step, or let skl2onnx and from_onnx put its"):
        bp.from_sklearn(fitted(pipeline, X, X[:, 0]))


# --- Keras ---------------------------------------------------------------------------------------------------------
# Stand-ins that describe themselves as the layers of Keras 3 do. Where Keras is installed, it is asked as well.


class Layer:
    def __init__(self, *weights, **config):
        self.weights, self.config = weights, config

    def get_config(self):
        return {"name": type(self).__name__.lower(), "trainable": True, "dtype": {"module": "keras"}, **self.config}

    def get_weights(self):
        return list(self.weights)


def kind(name):
    return type(name, (Layer,), {})


def dense(rng, n_in, units, activation="linear", *, dtype="float32", bias=True, **config):
    arrays = [rng.normal(size=(n_in, units)).astype(dtype), rng.normal(size=units).astype(dtype)]
    config = {
        "units": units,
        "activation": activation,
        "use_bias": bias,
        "kernel_regularizer": None,
        "bias_regularizer": None,
        "kernel_constraint": None,
        "bias_constraint": None,
        **config,
    }
    return kind("Dense")(*arrays[: 1 + bias], **config)


def sequential(*layers):
    model = kind("Sequential")()
    model.layers = list(layers)
    return model


def described(name, **config):
    """As Keras writes an object into a configuration."""
    return {"module": "keras", "class_name": name, "config": config, "registered_name": None}


def test_keras_settings(rng, backend, dtype):
    model = sequential(
        kind("InputLayer")(batch_shape=(None, 4)),
        kind("Flatten")(),
        dense(rng, 4, 6, "relu", dtype=dtype, kernel_regularizer=described("L1L2", l1=0.5, l2=0.25)),
        kind("Dropout")(rate=0.5, seed=None, noise_shape=None),
        dense(rng, 6, 5, dtype=dtype, bias=False, kernel_constraint=described("MaxNorm", max_value=2, axis=0)),
        kind("Activation")(activation="gelu"),
        sequential(dense(rng, 5, 4, described("LeakyReLU", negative_slope=0.3), dtype=dtype, trainable=False)),
        dense(rng, 4, 3, dtype=dtype, kernel_regularizer=described("L2", l2=0.01)),
        kind("Softmax")(axis=-1),
    )
    net = bp.from_keras(model, seed=0, backend=backend)
    assert net.layers == (
        bp.Dense(6, "relu", l1=0.5, l2=0.5, dropout=0.5),
        bp.Dense(5, "gelu", bias=False, max_norm=2.0),
        bp.Dense(4, "leaky_relu", alpha=0.3, trainable=False),
        bp.Dense(3, "softmax", l2=0.02),
    )
    assert net.dtype == dtype
    np.testing.assert_array_equal(net.weights[1], model.layers[4].weights[0])
    np.testing.assert_array_equal(net.biases[3], model.layers[7].weights[1])


KERAS_ACTIVATIONS = {
    "linear": bp.Dense(2),
    "exponential": bp.Dense(2, "exp"),
    "swish": bp.Dense(2, "silu"),
    "silu": bp.Dense(2, "silu"),
    "sigmoid": bp.Dense(2, "sigmoid"),
    "tanh": bp.Dense(2, "tanh"),
    "relu": bp.Dense(2, "relu"),
    "elu": bp.Dense(2, "elu", alpha=1.0),
    "leaky_relu": bp.Dense(2, "leaky_relu", alpha=0.2),
    "gelu": bp.Dense(2, "gelu"),
    "softplus": bp.Dense(2, "softplus"),
    "selu": bp.Dense(2, "selu"),
    "mish": bp.Dense(2, "mish"),
    "softsign": bp.Dense(2, "softsign"),
    "relu6": bp.Dense(2, "relu6"),
    "hard_tanh": bp.Dense(2, "hard_tanh"),
    "hard_sigmoid": bp.Dense(2, "hard_sigmoid"),
    "hard_silu": bp.Dense(2, "hard_swish"),
    "softmax": bp.Dense(2, "softmax"),
}


@pytest.mark.parametrize("name", KERAS_ACTIVATIONS)
def test_keras_activations(name, rng):
    assert bp.from_keras(sequential(dense(rng, 3, 2, name))).layers == (KERAS_ACTIVATIONS[name],)


def test_keras_activation_layers(rng):
    for layer, expected in (
        (kind("ReLU")(max_value=None, negative_slope=0.0, threshold=0.0), bp.Dense(2, "relu")),
        (kind("ReLU")(max_value=None, negative_slope=0.1, threshold=0.0), bp.Dense(2, "leaky_relu", alpha=0.1)),
        (kind("ReLU")(max_value=6.0, negative_slope=0.0, threshold=0.0), bp.Dense(2, "relu6")),
        (kind("LeakyReLU")(negative_slope=0.3), bp.Dense(2, "leaky_relu", alpha=0.3)),
        (kind("ELU")(alpha=0.5), bp.Dense(2, "elu", alpha=0.5)),
    ):
        assert bp.from_keras(sequential(dense(rng, 3, 2), layer)).layers == (expected,)
    assert bp.from_keras(sequential(dense(rng, 3, 2)), output="softmax").layers == (bp.Dense(2, "softmax"),)


def functional(layers, sources):
    model = kind("Functional")()
    model.layers = layers
    model.get_config = lambda: {
        "layers": [
            {
                "name": f"layer_{k}",
                "inbound_nodes": [
                    {
                        "args": [
                            {"class_name": "__keras_tensor__", "config": {"keras_history": [f"layer_{j}", 0, 0]}}
                            for j in inputs
                        ],
                        "kwargs": {},
                    }
                ]
                * bool(inputs),
            }
            for k, inputs in enumerate(sources)
        ]
    }
    return model


@pytest.mark.parametrize(
    "wrong", ["model.keras", None, dict, bp.mlp([2, 1], seed=0)], ids=["path", "none", "class", "network"]
)
def test_what_is_no_keras_model(wrong):
    with pytest.raises(
        TypeError, match=r"^model: needs a model of Keras, got .*; keras\.models\.load_model reads a file$"
    ):
        bp.from_keras(wrong)


def test_keras_functional_models(rng):
    layers = [kind("InputLayer")(), dense(rng, 4, 4, "tanh"), dense(rng, 4, 2)]
    assert bp.from_keras(functional(layers, [[], [0], [1]])).layers == (bp.Dense(4, "tanh"), bp.Dense(2))
    for sources in ([[], [0], [0]], [[], [0], [0, 1]], [[], [0], [1, 1]]):
        with pytest.raises(TypeError, match="model: needs a Sequential model or a chain of layers, got Functional"):
            bp.from_keras(functional(layers, sources))


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        (lambda rng: [kind("Rescaling")()], TypeError, r"got Rescaling; model.export\(format='onnx'\) and from_onnx"),
        (lambda rng: [kind("Conv2D")()], TypeError, r"model.layers\[0\]: needs one of Dense, .*, got Conv2D"),
        (
            lambda rng: [dense(rng, 3, 2, "celu")],
            ValueError,
            r"model.layers\[0\]: needs an activation among .*swish.*, got",
        ),
        (lambda rng: [dense(rng, 3, 2, described("Custom"))], ValueError, "needs an activation among"),
        (
            lambda rng: [dense(rng, 3, 2), kind("ReLU")(max_value=5.0)],
            ValueError,
            r"model.layers\[1\]: needs max_value=None or 6, got 5.0",
        ),
        (
            lambda rng: [dense(rng, 3, 2, bias_regularizer=described("L2", l2=0.1))],
            ValueError,
            r"model.layers\[0\]: needs bias_regularizer=None, got",
        ),
        (
            lambda rng: [dense(rng, 3, 2, kernel_regularizer=described("OrthogonalRegularizer"))],
            ValueError,
            r"needs kernel_regularizer='L1' or 'L2' or 'L1L2', got 'Orthogonal",
        ),
        (
            lambda rng: [dense(rng, 3, 2, kernel_constraint=described("NonNeg"))],
            ValueError,
            "needs kernel_constraint='MaxNorm', got 'NonNeg'",
        ),
        (
            lambda rng: [dense(rng, 3, 2, kernel_constraint=described("MaxNorm", max_value=2, axis=1))],
            ValueError,
            "needs axis=0, got 1",
        ),
        (
            lambda rng: [kind("Dense")(use_bias=True, activation="linear")],
            ValueError,
            r"needs a kernel and a bias, got 0 arrays; a model that is not built yet has none",
        ),
        (
            lambda rng: [dense(rng, 3, 2), kind("Dropout")(rate=0.5, noise_shape=(1, 2)), dense(rng, 2, 2)],
            ValueError,
            "needs noise_shape=None",
        ),
    ],
)
def test_what_keras_has_and_a_dense_network_has_not(layers, error, message, rng):
    with pytest.raises(error, match=message):
        bp.from_keras(sequential(*layers(rng)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")
@pytest.mark.parametrize("name", [name for name in KERAS_ACTIVATIONS if name != "softmax"])
def test_keras_itself(name, backend, rng):
    keras = pytest.importorskip("keras")
    layers = keras.layers
    stack = [
        layers.Flatten(),
        layers.Dense(6, name, kernel_regularizer="l2", kernel_constraint=keras.constraints.MaxNorm(2)),
        layers.Dropout(0.5),
        layers.Dense(5, use_bias=False),
        layers.Activation(name),
        layers.Dense(5, layers.ReLU(negative_slope=0.1)),
        layers.Dense(3, "softmax"),
    ]
    sequential = keras.Sequential([keras.Input((4,)), *stack])
    start = end = keras.Input((4,))
    for layer in stack:
        end = layer(end)
    X = rng.normal(size=(20, 4)).astype("float32")  # on PyTorch, Keras multiplies in float32 whatever its dtype
    for model in (sequential, keras.Model(start, end), keras.Model(start, sequential(start))):
        net = bp.from_keras(model, backend=backend)
        assert (net.dtype, net.layers[0].max_norm) == ("float32", 2)
        assert net.layers[0].l2 == pytest.approx(0.02)
        assert_same(net, X, keras.ops.convert_to_numpy(model(X)))


# ---- prelu: slopes beside weights and biases ----


@pytest.mark.parametrize("hidden", [1, 5])
def test_prelu_from_torch(hidden, rng):
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(
        torch.nn.Linear(4, 5), torch.nn.PReLU(hidden, init=0.4), torch.nn.Linear(5, 3), torch.nn.PReLU(3)
    )
    with torch.no_grad():
        module[3].weight.copy_(torch.tensor([0.1, -0.5, 2.0]))
    X = rng.normal(size=(50, 4)).astype(np.float32)
    net = bp.from_torch(module)
    np.testing.assert_allclose(net.slopes[0], np.full(5, 0.4), rtol=1e-7)
    np.testing.assert_allclose(net.slopes[1], [0.1, -0.5, 2.0], rtol=1e-7)
    with torch.no_grad():
        expected = module(torch.tensor(X)).numpy()
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-5, atol=1e-6)  # some 5 roundings of sums


def test_prelu_with_another_number_of_slopes():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"module\[1\]: needs 1 slope or 5, got 3"):
        bp.from_torch(torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.PReLU(3)))


def test_slopes_of_pytorch_are_frozen_as_their_weights_are(torch):
    module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.PReLU(5))
    module[1].weight.requires_grad_(False)
    with pytest.raises(ValueError, match=r"module\[1\]: needs slopes that are frozen as the weights are, got one"):
        bp.from_torch(module)
    assert not bp.from_torch(module.requires_grad_(False)).layers[0].trainable


def test_prelu_from_our_estimator(rng):
    X = rng.normal(size=(200, 4))
    y = np.abs(X[:, 0]) - X[:, 1]
    estimator = backprop.sklearn.MLPRegressor(
        hidden_layer_sizes=(8, 6), activation=("prelu", "tanh"), solver="lbfgs", max_iter=5000, random_state=0
    ).fit(X, y)
    assert [slopes is None for slopes in estimator.slopes_] == [False, True, True]
    assert not (estimator.slopes_[0] == 0.25).any()  # they are trained
    net = bp.from_sklearn(estimator)
    np.testing.assert_array_equal(net.slopes[0], estimator.slopes_[0])
    np.testing.assert_allclose(net.predict(X)[:, 0], estimator.predict(X), rtol=1e-14)
    estimator.set_params(activation="tanh", solver="sgd", learning_rate_init=0.01, tol=1).fit(X, y)
    assert not hasattr(estimator, "slopes_")
