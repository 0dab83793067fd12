import copy
import pickle
import subprocess
import sys
from dataclasses import replace

import backprop as bp
import numpy as np
import pytest
from backprop.backends import choice


@pytest.fixture
def net(backend):
    layers = [bp.Dense(4, "tanh"), bp.Dense(3, "relu", bias=False), bp.Dense(2)]
    return bp.Network(5, layers, dtype="float64", seed=1, backend=backend)


def test_attributes(net, backend):
    assert (net.n_inputs, net.n_outputs, net.n_parameters) == (5, 2, 5 * 4 + 4 + 4 * 3 + 3 * 2 + 2)
    assert net.layers == (bp.Dense(4, "tanh"), bp.Dense(3, "relu", bias=False), bp.Dense(2))
    assert net.dtype == np.float64
    assert net.seed == 1
    assert net.backend == backend
    assert net.parameters.shape == (net.n_parameters,)
    assert [W.shape for W in net.weights] == [(5, 4), (4, 3), (3, 2)]
    assert [None if b is None else b.shape for b in net.biases] == [(4,), None, (2,)]


def test_a_network_computes_what_its_weights_say(net, rng):
    X = rng.normal(size=(7, 5))
    (W1, W2, W3), (b1, _, b3) = net.weights, net.biases
    b1[...] = [1, 2, 3, 4]
    expected = np.maximum(np.tanh(X @ W1 + b1) @ W2, 0) @ W3 + b3
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-12)


def test_layout_of_the_flat_vector(net):
    net.parameters = np.arange(net.n_parameters)
    np.testing.assert_array_equal(net.weights[0], np.arange(20).reshape(5, 4))
    np.testing.assert_array_equal(net.biases[0], np.arange(20, 24))
    np.testing.assert_array_equal(net.weights[1], np.arange(24, 36).reshape(4, 3))
    np.testing.assert_array_equal(net.weights[2], np.arange(36, 42).reshape(3, 2))
    np.testing.assert_array_equal(net.biases[2], [42, 43])


def test_views_are_writable(net):
    net.weights[0][1, 2] = 7
    assert net.parameters[6] == 7
    net.weights[0] *= 2
    assert net.parameters[6] == 14
    net.biases[2] = [8, 9]
    np.testing.assert_array_equal(net.parameters[-2:], [8, 9])
    net.parameters[0] = 5
    assert net.weights[0][0, 0] == 5
    net.biases = [np.ones(4), None, np.zeros(2)]
    np.testing.assert_array_equal(net.biases[0], np.ones(4))
    net.weights = [W + 1 for W in net.weights]
    assert net.weights[0][1, 2] == 15
    assert len(net.weights) == 3
    assert "array" in repr(net.weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda net: net.weights.__setitem__(0, np.ones((4, 5))),
            r"weights\[0\]: needs shape \(5, 4\), got .*\(4, 5\)",
        ),
        (lambda net: net.weights.__setitem__(0, np.nan * np.ones((5, 4))), r"weights\[0\]: needs finite numbers"),
        (lambda net: net.biases.__setitem__(1, np.ones(3)), r"biases\[1\]: needs None, the layer has none"),
        (lambda net: setattr(net, "biases", [np.ones(4), None]), "biases: needs one array for each of the 3 layers"),
        (lambda net: setattr(net, "biases", [np.ones(4), None, np.ones(3)]), r"biases\[2\]: needs shape \(2,\)"),
        (lambda net: setattr(net, "parameters", [1.0]), r"parameters: needs shape \(44,\), got shape \(1,\)"),
    ],
)
def test_wrong_values_change_nothing(net, change, message):
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=message):
        change(net)
    np.testing.assert_array_equal(net.parameters, before)


def test_attributes_that_cannot_be_set(net):
    for name in ("n_inputs", "n_outputs", "layers", "dtype", "seed", "n_parameters", "backend"):
        with pytest.raises(AttributeError):
            setattr(net, name, 1)


def test_repr_makes_the_network_again(net):
    names = {"Network": bp.Network, "Dense": bp.Dense}
    again = eval(repr(net), names)
    np.testing.assert_array_equal(again.parameters, net.parameters)
    assert again.layers == net.layers
    assert again.dtype == net.dtype


def test_repr_of_layers():
    for layer in (
        bp.Dense(3),
        bp.Dense(3, "leaky_relu"),
        bp.Dense(3, "elu", alpha=0.5, bias=False, l1=1e-3, l2=0.5),
        bp.Dense(np.int64(2), weight_init="ones", bias_init=0.5, trainable=False, bias_trainable=False),
    ):
        assert eval(repr(layer), {"Dense": bp.Dense}) == layer


def test_mlp():
    net = bp.mlp([4, 8, 6, 3], hidden="elu", output="softmax", l1=0.1, l2=0.2, dtype="float64", seed=5)
    layers = (
        bp.Dense(8, "elu", l1=0.1, l2=0.2),
        bp.Dense(6, "elu", l1=0.1, l2=0.2),
        bp.Dense(3, "softmax", l1=0.1, l2=0.2),
    )
    assert (net.n_inputs, net.layers, net.seed, net.dtype) == (4, layers, 5, np.float64)
    assert bp.mlp([4, 1]).layers == (bp.Dense(1),)
    assert bp.mlp(np.array([4, 2])).n_outputs == 2


def test_predict_gives_a_new_array_of_the_network_s_dtype(dtype, backend):
    net = bp.mlp([3, 2], dtype=dtype, seed=0, backend=backend)
    X = np.ones((4, 3), dtype)
    first, second = net.predict(X), net.predict(X)
    assert first.shape == (4, 2)
    assert first.dtype == dtype
    assert first is not second
    first[...] = 0
    assert second.any()


def test_one_row_at_a_time_gives_the_same_bits(dtype, backend, rng):
    net = bp.mlp([7, 9, 3], hidden="tanh", output="softmax", dtype=dtype, seed=0, backend=backend)
    X = rng.normal(size=(13, 7)).astype(dtype)
    rows = np.concatenate([net.predict(X[k : k + 1]) for k in range(len(X))])
    if backend == choice.REFERENCE:  # BLAS sums in another order for another shape
        np.testing.assert_allclose(rows, net.predict(X), rtol=2e-6)
    else:
        np.testing.assert_array_equal(rows, net.predict(X))


def test_loss_and_gradients(net, rng):
    X, y = rng.normal(size=(6, 5)), rng.normal(size=(6, 2))
    weight = rng.uniform(size=6)
    value, gradients = net.loss_and_gradients(X, y, sample_weight=weight)
    assert value == net.loss(X, y, sample_weight=weight)
    expected = (weight[:, None] * (net.predict(X) - y) ** 2).sum() / weight.sum() / 2
    assert value == pytest.approx(expected, rel=1e-12)
    assert [dW.shape for dW, _ in gradients] == [W.shape for W in net.weights]
    assert gradients[1][1] is None

    step = 1e-6
    for k in range(3):
        W, dW = net.weights[k], gradients[k][0]
        for index in np.ndindex(*W.shape):
            W[index] += step
            above = net.loss(X, y, sample_weight=weight)
            W[index] -= 2 * step
            below = net.loss(X, y, sample_weight=weight)
            W[index] += step
            assert dW[index] == pytest.approx((above - below) / (2 * step), rel=1e-6, abs=1e-9)


def test_loss_and_gradients_change_nothing(net, rng):
    X, y = rng.normal(size=(6, 5)), rng.normal(size=(6, 2))
    before = net.parameters.copy()
    net.loss_and_gradients(X, y)
    np.testing.assert_array_equal(net.parameters, before)
    assert net.history.epochs == 0


@pytest.mark.parametrize(
    ("output", "loss"),
    [
        ("softmax", "cross_entropy"),
        ("sigmoid", "binary_cross_entropy"),
        ("exp", "poisson"),
        ("identity", "squared_error"),
        ("relu", "squared_error"),
        ("softplus", "squared_error"),
    ],
)
def test_loss_auto_goes_by_the_output(output, loss, backend):
    net = bp.mlp([2, 2], output=output, dtype="float64", seed=0, backend=backend)
    X, y = [[0.0, 1.0], [1.0, 0.0]], np.eye(2)
    assert net.loss(X, y) == net.loss(X, y, loss=loss)
    assert net.loss(X, y, loss=bp.losses.LOSSES[loss](scale=2.0)) == pytest.approx(2 * net.loss(X, y), rel=1e-12)


def test_one_output_takes_flat_targets(backend):
    net = bp.mlp([2, 1], dtype="float64", seed=0, backend=backend)
    X = np.ones((3, 2))
    assert net.loss(X, [1.0, 2.0, 3.0]) == net.loss(X, [[1.0], [2.0], [3.0]])


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_train_on_alike_and_apart(duplicate, backend, dtype, rng):
    X, y = rng.normal(size=(20, 3)), rng.integers(0, 2, 20)
    net = bp.mlp([3, 4, 2], output="softmax", dtype=dtype, seed=0, backend=backend)
    untrained = duplicate(net)
    net.fit(X, y, epochs=3, batch_size=8)
    twin = duplicate(net)
    assert twin.dtype is net.dtype
    assert twin.history.epochs == 3
    assert untrained.history.epochs == 0
    assert twin.backend == net.backend
    assert not np.shares_memory(twin.parameters, net.parameters)
    for each in (net, twin):
        each.fit(X, y, epochs=2, batch_size=8)
    np.testing.assert_array_equal(twin.parameters, net.parameters)
    np.testing.assert_array_equal(twin.history.loss, net.history.loss)


class Tagged(bp.Network):
    """What a user adds to a network."""

    def __init__(self, tag):
        super().__init__(2, [bp.Dense(1)], seed=0)
        self.tag = tag


class Slotted(bp.Network):
    __slots__ = ("tag",)


class TaggedFleet(bp.Fleet):
    pass


class SlottedFleet(bp.Fleet):
    __slots__ = ("tag",)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
@pytest.mark.parametrize("cls", [Tagged, Slotted, TaggedFleet, SlottedFleet])
def test_copies_of_subclasses_have_their_attributes(cls, duplicate):
    layers = [bp.Dense(1)]
    model = cls(None) if cls is Tagged else cls(2, layers, seed=0, **({"size": 3} if issubclass(cls, bp.Fleet) else {}))
    model.tag = ["mine", model]
    twin = duplicate(model)
    assert type(twin) is cls
    assert twin.tag == ["mine", twin]
    twin.fit([[1.0, 2.0]], [1.0], epochs=2)
    assert len(twin.history["loss"]) == 2
    assert len(model.history["loss"]) == 0


def test_layers_that_are_replaced_have_what_was_given():
    for biases in (True, False):
        frozen = bp.Dense(2, trainable=False, bias_trainable=biases)
        assert not any(array.trainable for array in bp.Network(3, [frozen])._layout)
        assert replace(frozen, trainable=True) == bp.Dense(2, bias_trainable=biases)


def test_summary(net):
    lines = net.summary().splitlines()
    assert len(lines) == 5
    assert lines[2].split() == ["Dense(3,", "'relu',", "bias=False)", "4", "->", "3", "12"]
    assert lines[-1].split() == ["total", "5", "->", "2", "44"]


def test_importing_is_light():
    code = (
        "import sys, backprop; print(*(m for m in ('tqdm', 'safetensors', 'importlib.metadata') if m in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_no_file_is_read_in_the_encoding_of_the_locale():
    code = "import backprop as bp; bp.mlp([1, 1], seed=0).to_c(); bp.show_config()"
    options = ["-X", "warn_default_encoding", "-W", "error::EncodingWarning"]
    subprocess.run([sys.executable, *options, "-c", code], capture_output=True, check=True)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda huge: bp.Network(huge, [bp.Dense(1)]), "n_inputs: needs an integer of at most"),
        (lambda huge: bp.mlp([1, 1], seed=huge), "seed: needs an integer of at most"),
        (lambda huge: bp.Dense(-huge), "units: needs an integer >= 1, got"),
        (lambda huge: bp.SGD(huge), "learning_rate: needs a finite number, got"),
        (lambda huge: bp.mlp([1, 1]).predict(huge), "X: needs an array of real numbers, got"),
    ],
)
def test_integers_that_python_does_not_write(make, name):
    """The message is about the argument, and not about the digits of a message."""
    with pytest.raises((TypeError, ValueError), match=f"^{name}"):
        make(10**5000)


def test_public_names():
    assert all(hasattr(bp, name) for name in bp.__all__ if name != "__version__")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bp.nothing


@pytest.mark.parametrize("hidden", [1, 3, 16, 1000])
def test_parameters_begin_where_a_cache_line_does(hidden, dtype, tmp_path):
    net = bp.mlp([2, hidden, 1], dtype=dtype)
    net.fit([[0, 1], [1, 0]], [[1], [0]], epochs=1, progress=False)
    net.save(tmp_path / "net.safetensors")
    for each in (net, net.copy(), pickle.loads(pickle.dumps(net)), bp.load(tmp_path / "net.safetensors")):
        assert each.parameters.ctypes.data % 64 == 0
        assert each.parameters.shape == (4 * hidden + 1,)
        assert each.parameters.dtype == dtype
        assert each.parameters.flags.carray
