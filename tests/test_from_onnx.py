"""Models of ONNX as networks, our own and those of others."""

import importlib

import backprop as bp
import numpy as np
import pytest
from backprop.reference.activations import ACTIVATIONS

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper


def network(name, dtype):
    alpha = 0.3 if ACTIVATIONS[name].alpha is not None else None
    layers = [bp.Dense(5, name, alpha=alpha), bp.Dense(4, bias=False), bp.Dense(3, name, alpha=alpha), bp.Dense(2)]
    net = bp.Network(3, layers, dtype=dtype, seed=0)
    for slopes in net.slopes:
        if slopes is not None:
            slopes += np.arange(len(slopes)) / 10
    return net


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_round_trip_gives_the_same_bits(name, dtype, rng, tmp_path):
    net = network(name, dtype)
    net.feature_names = ["a", "b", "c"]
    net.to_onnx(tmp_path / "net.onnx")
    again = bp.from_onnx(tmp_path / "net.onnx")
    for one, other in zip(again.layers, net.layers, strict=True):
        assert (one.units, one.activation, one.bias) == (other.units, other.activation, other.bias)
    assert again.dtype == net.dtype
    assert again.feature_names == ("a", "b", "c")
    assert (again.parameters == net.parameters).all()
    X = rng.normal(size=(10, 3)) * 3
    if name in ("leaky_relu", "elu") and dtype == "float32":  # alpha is a float32 in the file
        np.testing.assert_allclose(again.predict(X), net.predict(X), rtol=1e-6)
    else:
        assert (again.predict(X) == net.predict(X)).all()


def chain(*nodes, n=2, **constants):
    """Return a model of nodes (operator, more inputs, attributes), each of which reads what the one before gave."""
    found, current = [], "X"
    for k, (op, inputs, attributes) in enumerate(nodes):
        found.append(helper.make_node(op, [current, *inputs], [f"t{k}"], name=f"n{k}", **attributes))
        current = f"t{k}"
    real = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        found,
        "g",
        [helper.make_tensor_value_info("X", real, ["n", n])],
        [helper.make_tensor_value_info(current, real, None)],
        [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


W, B = [[1, 2, 3], [4, 5, 6]], [0.1, 0.2, 0.3]


def test_products_of_others():
    for model in (
        chain(("Gemm", ["W", "b"], {"transB": 1}), W=np.transpose(W), b=B),
        chain(("MatMul", ["W"], {}), ("Add", ["b"], {}), W=W, b=[B]),
        chain(
            ("Flatten", [], {}),
            ("Gemm", ["W", "b"], {"alpha": 2.0, "beta": 0.5}),
            W=np.divide(W, 2),
            b=np.multiply(B, 2),
        ),
    ):
        net = bp.from_onnx(model)
        assert (net.weights[0] == W).all()
        np.testing.assert_allclose(net.biases[0], B, rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "attributes", "layer"),
    [
        ("Elu", {}, bp.Dense(3, "elu")),
        ("Elu", {"alpha": 0.5}, bp.Dense(3, "elu", alpha=0.5)),
        ("LeakyRelu", {"alpha": 0.25}, bp.Dense(3, "leaky_relu", alpha=0.25)),
        ("Selu", {}, bp.Dense(3, "selu")),
        ("Gelu", {}, bp.Dense(3, "gelu")),
        ("Gelu", {"approximate": "tanh"}, bp.Dense(3, "gelu_tanh")),
        ("Softplus", {}, bp.Dense(3, "softplus")),
        ("Softsign", {}, bp.Dense(3, "softsign")),
        ("Mish", {}, bp.Dense(3, "mish")),
        ("HardSwish", {}, bp.Dense(3, "hard_swish")),
        ("HardSigmoid", {"alpha": 1 / 6}, bp.Dense(3, "hard_sigmoid")),
        ("Softmax", {}, bp.Dense(3, "softmax")),
        ("Softmax", {"axis": 1}, bp.Dense(3, "softmax")),
    ],
)
def test_operators_of_others(op, attributes, layer):
    assert bp.from_onnx(chain(("Gemm", ["W", "b"], {}), (op, [], attributes), W=W, b=B)).layers == (layer,)


def test_numbers_do_not_depend_on_how_numpy_prints():
    """NumPy's oldest way drops digits."""
    net = bp.Network(2, [bp.Dense(2, "leaky_relu", alpha=0.0123456789)], seed=0)
    with np.printoptions(legacy="1.13"):
        (layer,) = bp.from_onnx(net.to_onnx()).layers
    assert np.float32(layer.alpha) == np.float32(0.0123456789)


def test_an_output_for_scores():
    model = chain(("Gemm", ["W"], {}), W=W)
    assert bp.from_onnx(model, output="softmax", seed=3).layers == (bp.Dense(3, "softmax", bias=False),)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([("Gemm", ["W"], {}), ("Cos", [], {})], r"node 'n1' \(Cos\): needs Gemm, MatMul and Add"),
        ([("Gemm", ["W"], {}), ("HardSigmoid", [], {})], r"node 'n1' \(HardSigmoid\)"),
        ([("Relu", [], {})], r"node 'n0' \(Relu\): needs a dense layer before it"),
        ([("Gemm", ["W"], {}), ("Relu", [], {}), ("Tanh", [], {})], r"node 'n2' \(Tanh\): needs a dense layer between"),
        ([("Gemm", ["W"], {"transA": 1})], r"node 'n0' \(Gemm\): needs rows times weights"),
        ([("MatMul", ["X"], {})], r"node 'n0' \(MatMul\): needs constant weights"),
        ([("Gemm", ["W"], {}), ("Mul", ["W"], {})], r"node 'n1' \(Mul\)"),
    ],
)
def test_the_message_names_the_node(nodes, message):
    with pytest.raises(ValueError, match=message):
        bp.from_onnx(chain(*nodes, W=W))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_the_bytes_of_a_file(kind):
    net = bp.mlp([4, 5, 3], output="softmax", seed=0)
    again = bp.from_onnx(kind(net.to_onnx().SerializeToString()))
    assert np.array_equal(again.parameters, net.parameters)


def test_files_that_are_no_models(tmp_path):
    path = tmp_path / "x.onnx"
    with pytest.raises(FileNotFoundError):
        bp.from_onnx(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"x.onnx: not a valid model of ONNX"):
        bp.from_onnx(path)
    with pytest.raises(ValueError, match=r"model: not a valid model of ONNX"):
        bp.from_onnx(b"nothing of the kind")
    with pytest.raises(TypeError, match=r"model: needs a path, the bytes of a file or an onnx\.ModelProto"):
        bp.from_onnx(3)
    two = chain(("Gemm", ["W"], {}), W=W)
    two.graph.output.append(helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, None))
    with pytest.raises(ValueError, match="needs a model with one output, got 2"):
        bp.from_onnx(two)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch calls its shorter exporter old
@pytest.mark.parametrize("name", ["ReLU", "GELU", "SiLU", "Mish", "Softplus", "PReLU", "Hardswish", "ReLU6", "ELU"])
def test_what_pytorch_writes(name, rng, tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), getattr(torch.nn, name)(), torch.nn.Linear(4, 2)).eval()
    X = torch.tensor(rng.normal(size=(5, 3)), dtype=torch.float32)
    torch.onnx.export(module, (X,), tmp_path / "net.onnx", dynamo=False)
    with torch.no_grad():
        wanted = module(X).numpy()
    np.testing.assert_allclose(bp.from_onnx(tmp_path / "net.onnx").predict(X), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_what_skl2onnx_writes(n_outputs, rng):
    skl2onnx = pytest.importorskip("skl2onnx")
    X = rng.normal(size=(50, 3)).astype(np.float32)
    net = bp.Network(3, [bp.Dense(4, "tanh"), bp.Dense(n_outputs)], seed=0)
    if n_outputs == 1:  # skl2onnx makes one column of several outputs
        found = bp.from_onnx(skl2onnx.to_onnx(net.to_sklearn(), X[:1]))
        np.testing.assert_allclose(found.predict(X), net.predict(X), rtol=1e-6)
    from backprop.sklearn import MLPRegressor

    estimator = MLPRegressor(hidden_layer_sizes=(4,), solver="sgd", max_iter=3, dtype="float32").fit(
        X, net.predict(X).squeeze()
    )
    again = bp.from_onnx(skl2onnx.to_onnx(estimator, X[:1]))
    np.testing.assert_allclose(again.predict(X).squeeze(), estimator.predict(X), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("module", ["sklearn.neural_network", "backprop.sklearn"])
@pytest.mark.parametrize("options", [{}, {"zipmap": False}, {"zipmap": "columns"}, {"nocl": True, "zipmap": False}])
@pytest.mark.parametrize("classes", [["no", "yes"], [0, 1], [3, 5, 8], ["a", "b", "c"], "several"])
def test_classifiers_of_skl2onnx(module, options, classes, rng):
    skl2onnx = pytest.importorskip("skl2onnx")
    X = rng.normal(size=(60, 3)).astype(np.float32)
    y = rng.integers(0, 2, (60, 3)) if classes == "several" else np.array(classes)[rng.integers(0, len(classes), 60)]
    if options.get("zipmap", True) is not False and classes == "several":
        pytest.skip("labels of their own have no map")
    if "nocl" in options and module == "sklearn.neural_network":
        pytest.skip("makes a file that is none")
    estimator = importlib.import_module(module).MLPClassifier((4,), max_iter=3, random_state=0).fit(X, y)
    net = bp.from_onnx(skl2onnx.to_onnx(estimator, X[:1], options=options))
    wanted = np.asarray(estimator.predict_proba(X))
    wanted = wanted[:, 1:] if wanted.shape[1] == 2 else wanted
    np.testing.assert_allclose(net.predict(X), wanted, rtol=1e-5, atol=1e-6)
    assert net.layers[-1].activation == ("softmax" if len(classes) == 3 else "sigmoid")
