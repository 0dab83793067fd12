"""Networks as models of ONNX, run by onnxruntime."""

import json
import os
import subprocess
import sys

import backprop as bp
import numpy as np
import pytest
from backprop.export.graph import Graph
from backprop.export.nodes import ACTIVATION_NODES
from backprop.export.onnx import Port, finished
from backprop.reference.activations import ACTIVATIONS

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def run(model, **inputs):
    """Return the outputs of a model, one each."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def random_network(rng, dtype, n_layers=None, activation=None):
    """Return a network of 1 to 5 layers with any settings, and biases that are not 0."""
    n_layers = n_layers or int(rng.integers(1, 6))
    names = list(ACTIVATIONS)
    layers = []
    for k in range(n_layers):
        name = activation or names[rng.integers(len(names))]
        alpha = float(rng.uniform(0.05, 1.5)) if ACTIVATIONS[name].alpha is not None else None
        dropout = 0.3 if k < n_layers - 1 and rng.random() < 0.2 else 0.0
        layers.append(bp.Dense(int(rng.integers(1, 20)), name, alpha=alpha, bias=rng.random() < 0.8, dropout=dropout))
    net = bp.Network(int(rng.integers(1, 12)), layers, dtype=dtype, seed=int(rng.integers(1000)))
    for arrays in (net.biases, net.slopes):
        for array in arrays:
            if array is not None:
                array[...] = rng.normal(0, 0.3, array.shape)
    return net


def test_every_activation_has_its_nodes():
    assert list(ACTIVATION_NODES) == list(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_each_activation_is_within_units_of_the_last_place(name, dtype):
    z = np.concatenate([np.linspace(-40, 40, 40001), np.linspace(-1e-3, 1e-3, 401)])
    z = np.stack([z, z[::-1], np.roll(z, 100)], axis=1).astype(dtype)
    alpha = np.array([0.3, 0.2, -0.1], dtype) if name == "prelu" else ACTIVATIONS[name].alpha
    graph = Graph(dtype)
    outputs = graph.add("Identity", ACTIVATION_NODES[name](graph, graph.add("Identity", "X"), alpha))
    graph.rename(outputs, "outputs")
    ports = ([Port("X", dtype, (None, 3))], [Port("outputs", dtype, (None, 3))])
    (found,) = run(finished(graph, *ports, None, {}), X=z)
    wanted = ACTIVATIONS[name].value(z.astype(np.float64), alpha)
    # of the size 1, or of the output where that is larger; onnxruntime's tanh of float64 is off by 4
    units = 2 if dtype == "float32" else 6
    assert (np.abs(found - wanted) <= units * np.finfo(dtype).eps * np.maximum(np.abs(wanted), 1)).all()


def test_random_networks_of_every_kind(dtype):
    rng = np.random.default_rng(5)
    for _ in range(100):
        net = random_network(rng, dtype)
        X = rng.normal(size=(20, net.n_inputs)).astype(dtype)
        wanted = net.predict(X)
        (found,) = run(net.to_onnx(), X=X)
        assert found.dtype == wanted.dtype
        assert found.shape == wanted.shape
        # each layer gives some units of the last place, which the next ones may enlarge
        tolerance = 1e-6 if dtype == "float32" else 1e-12
        assert np.abs(found - wanted).max() <= tolerance * max(1, np.abs(wanted).max()), net


def test_any_number_of_rows():
    net = bp.mlp([3, 4, 2], seed=0)
    model = net.to_onnx()
    for n in (1, 7):
        X = np.ones((n, 3), np.float32)
        np.testing.assert_allclose(run(model, X=X)[0], net.predict(X), rtol=1e-6)


def test_a_file_is_the_model_and_is_written_whole(tmp_path):
    net = bp.mlp([3, 4, 2], seed=0)
    path = tmp_path / "net.onnx"
    net.to_onnx(path)
    model = net.to_onnx()
    assert path.read_bytes() == model.SerializeToString()
    assert onnx.load(path) == model
    assert model.ir_version <= 8
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 17)]
    with pytest.raises(OSError, match="missing"):
        net.to_onnx(tmp_path / "missing" / "net.onnx")
    assert os.listdir(tmp_path) == ["net.onnx"]


def test_names_of_columns_go_along():
    net = bp.mlp([2, 1], seed=0)
    net.feature_names = ["age", "size, in m"]
    (entry,) = net.to_onnx().metadata_props
    assert (entry.key, json.loads(entry.value)) == ("feature_names", ["age", "size, in m"])


def test_parameters_that_are_not_finite_are_refused(tmp_path):
    net = bp.mlp([2, 1], seed=0)
    net.weights[0][0, 0] = np.nan
    with pytest.raises(ValueError, match="to_onnx: needs parameters that are finite"):
        net.to_onnx(tmp_path / "net.onnx")
    assert not os.listdir(tmp_path)


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'bpcore\[onnx\]'"):
        bp.mlp([2, 1], seed=0).to_onnx()


def test_predicting_and_importing_load_no_onnx():
    code = "import sys, backprop as bp; bp.mlp([2, 1]).predict([[0.0, 1.0]]); print('onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
