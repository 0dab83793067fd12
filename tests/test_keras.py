"""Networks through Keras itself, where it is installed: there, back, and trained on."""

import json

import backprop as bp
import numpy as np
import pytest
from backprop.export import keras as of_keras
from backprop.reference.activations import ACTIVATIONS

keras = pytest.importorskip("keras", exc_type=ImportError)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras", "ignore::DeprecationWarning:torch")

NAMES = [*of_keras.NAMES, *of_keras.LAYERS]
KINDS = {
    "plain": {},
    "without biases": {"bias": False},
    "dropout": {"dropout": 0.25},
    "penalties": {"l1": 0.25, "l2": 0.5},
    "bound": {"max_norm": 2.0},
    "frozen": {"trainable": False},
    "all": {"bias": False, "dropout": 0.5, "l1": 0.5, "l2": 0.25, "max_norm": 1.5, "trainable": False},
}


def network(name, kind, dtype):
    alpha = 0.3 if ACTIVATIONS[name].alpha is not None and not ACTIVATIONS[name].slopes else None
    layers = [
        bp.Dense(5, name, alpha=alpha, **KINDS[kind]),
        bp.Dense(4, "tanh"),
        bp.Dense(2, name, alpha=alpha, **{**KINDS[kind], "dropout": 0.0}),
    ]
    net = bp.Network(3, layers, dtype=dtype, seed=0)
    net.parameters += np.random.default_rng(1).normal(0, 0.1, net.parameters.shape)
    return net


def close(found, wanted):
    """Keras multiplies in float32 whatever the dtype of its layers, but for TensorFlow."""
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=2e-6 * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_there_and_back(name, kind, dtype, rng):
    net = network(name, kind, dtype)
    model = net.to_keras()
    X = rng.normal(size=(20, 3)).astype("float32")
    close(model.predict(X, verbose=0), net.predict(X))
    again = bp.from_keras(model)
    assert again.layers == net.layers
    assert again.dtype == net.dtype
    assert (again.parameters == net.parameters).all()
    assert (again.predict(X) == net.predict(X)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_frozen_stays_frozen(kind):
    net = network("prelu", kind, "float32")
    frozen = not net.layers[0].trainable
    assert len(net.to_keras().non_trainable_weights) == frozen * sum(
        array is not None for arrays in (net.weights, net.biases, net.slopes) for array in arrays[::2]
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_keras_keeps_it(name, tmp_path, rng):
    net = network(name, "all", "float32")
    net.to_keras().save(tmp_path / "net.keras")
    again = bp.from_keras(keras.models.load_model(tmp_path / "net.keras"))
    assert again.layers == net.layers
    assert (again.parameters == net.parameters).all()


def test_keras_trains_what_is_not_frozen(rng):
    net = bp.Network(3, [bp.Dense(5, "prelu"), bp.Dense(4, "prelu", trainable=False), bp.Dense(2)], seed=0)
    model = net.to_keras()
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    X, y = rng.normal(size=(32, 3)).astype("float32"), rng.normal(size=(32, 2)).astype("float32")
    model.fit(X, y, epochs=2, batch_size=32, shuffle=False, verbose=0)
    net.fit(X, y, epochs=2, batch_size=32, shuffle=False, optimizer=bp.SGD(0.1), progress=False)
    again = bp.from_keras(model)
    assert again.layers == net.layers
    np.testing.assert_allclose(again.parameters, net.parameters, rtol=1e-4, atol=1e-6)


def test_the_recorded_layers_are_those_of_keras():
    """`data/to_keras.json`, for machines without Keras, says what this Keras says."""
    from test_frameworks import keras_network, recorded_layers

    for name in NAMES:
        found = [
            [type(layer).__name__, layer.get_config()] for layer in keras_network(name, "float32").to_keras().layers
        ]
        for (kind, config), (was_kind, was, _) in zip(
            json.loads(json.dumps(found)), recorded_layers(name), strict=True
        ):
            assert kind == was_kind
            assert {k: v for k, v in was.items() if k != "name"}.items() <= config.items()


def test_slopes_that_are_frozen_alone_are_refused():
    model = bp.mlp([3, 4, 2], hidden="prelu").to_keras()
    model.layers[1].trainable = False
    with pytest.raises(ValueError, match=r"model.layers\[1\]: needs slopes that are frozen as the weights are"):
        bp.from_keras(model)
    model.layers[0].trainable = False
    assert not bp.from_keras(model).layers[0].trainable


def test_chains_that_keras_builds(rng):
    inputs = keras.Input((2, 3))
    hidden = keras.layers.Dense(5, keras.activations.gelu)(keras.layers.Flatten()(inputs))
    hidden = keras.layers.LeakyReLU()(keras.layers.Dense(4)(keras.layers.Dropout(0.2)(hidden)))
    block = keras.Sequential([keras.layers.Dense(3, "swish"), keras.layers.Dense(3, "softmax")])
    model = keras.Model(inputs, block(hidden))
    X = rng.normal(size=(9, 2, 3)).astype("float32")
    net = bp.from_keras(model)
    assert [layer.activation for layer in net.layers] == ["gelu", "leaky_relu", "silu", "softmax"]
    close(net.predict(X.reshape(9, 6)), model.predict(X, verbose=0))


@pytest.mark.filterwarnings("ignore")  # PyTorch says that Keras calls its older exporter
@pytest.mark.parametrize("name", ["relu", "elu", "selu", "softplus", "softsign", "hard_sigmoid", "hard_silu", "relu6",
                                  "leaky_relu", "mish", "gelu", "silu", "hard_tanh"])  # fmt: skip
def test_a_file_of_onnx_that_keras_writes(name, tmp_path, rng):
    """Scalers and norms among the layers go into the weights."""
    onnx = pytest.importorskip("onnx")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras on PyTorch needs no more packages for that")
    X = (rng.normal(size=(50, 4)) * 3 + 5).astype("float32")
    scaler = keras.layers.Normalization()
    scaler.adapt(X)
    hidden = [keras.layers.Dense(8, name), keras.layers.BatchNormalization(), keras.layers.Dropout(0.2)]
    last = [keras.layers.Rescaling(2.0, 1.0), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential([keras.Input((4,)), scaler, *hidden, *last])
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    model.fit(X, rng.integers(0, 3, 50), epochs=2, verbose=0)
    model.predict(X, verbose=0)
    model.export(tmp_path / "net.onnx", format="onnx", verbose=False)
    assert onnx.load(tmp_path / "net.onnx").graph.node
    net = bp.from_onnx(tmp_path / "net.onnx")
    assert len(net.layers) == 2
    np.testing.assert_allclose(net.predict(X), model.predict(X, verbose=0), rtol=1e-5, atol=2e-6)
