"""What a dense layer takes in from models of ONNX: scalers, batch normalisation, and columns that move."""

import tracemalloc

import backprop as bp
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

ML = ("Scaler", "ArrayFeatureExtractor", "LinearRegressor", "LinearClassifier")
W, B = np.array([[1, 2], [3, -4], [5, 6]]) / 4, np.array([0.1, -0.2])


def run(model, **inputs):
    """Return the first output of a model as onnxruntime computes it."""
    path = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, inputs or None)


def chain(*nodes, shape=("n", 3), dtype=np.float32, **constants):
    """Return a model of nodes (operator, inputs with `*` for what the one before gave, attributes)."""
    found, current, kind = [], "X", helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for k, (op, inputs, attributes) in enumerate(nodes):
        domain = "ai.onnx.ml" if op in ML else ""
        names = [current if name == "*" else name for name in inputs.split()]
        found.append(helper.make_node(op, names, [f"t{k}"], name=f"n{k}", domain=domain, **attributes))
        current = f"t{k}"
    arrays = {name: np.asarray(array) for name, array in constants.items()}
    graph = helper.make_graph(
        found,
        "g",
        [helper.make_tensor_value_info("X", kind, shape)],
        [helper.make_tensor_value_info(current, kind, None)],
        [
            numpy_helper.from_array(array if array.dtype == np.int64 else array.astype(dtype), name)
            for name, array in arrays.items()
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


GEMM = ("Gemm", "* W b", {})
MEAN, STD = np.array([1.5, -2, 30]), np.array([0.5, 3, 8])
NORM = {"s": [0.5, 2], "t": [0.1, -1], "m": [0.3, 2], "v": [0.2, 4]}

CASES = {
    "sub and div": [("Sub", "* mean", {}), ("Div", "* std", {}), GEMM],
    "mul and add": [("Mul", "* std", {}), ("Add", "mean *", {}), GEMM],
    "constant first": [("Sub", "mean *", {}), ("Mul", "half *", {}), ("Neg", "*", {}), GEMM],
    "one number for all": [("Div", "* c", {}), ("Sub", "* c", {}), GEMM],
    "Scaler": [("Scaler", "*", {"offset": MEAN.tolist(), "scale": (1 / STD).tolist()}), GEMM],
    "Scaler with one number": [("Scaler", "*", {"offset": [2.0], "scale": [0.5]}), GEMM],
    "Cast, Identity and Dropout": [("Cast", "*", {"to": 1}), ("Identity", "*", {}), ("Dropout", "*", {}), GEMM],
    "Flatten": [("Flatten", "*", {}), ("Sub", "* mean", {}), GEMM],
    "alpha and beta": [("Gemm", "* W b", {"alpha": 0.5, "beta": 3.0}), ("Tanh", "*", {})],
    "transB": [("Gemm", "* V b", {"transB": 1}), ("Relu", "*", {})],
    "constants of constants": [("Transpose", "V", {"perm": [1, 0]}), ("MatMul", "X *", {}), ("Add", "* b", {})],
    "scaled scores": [GEMM, ("Mul", "* s", {}), ("Add", "* t", {}), ("Sigmoid", "*", {})],
    "MatMul, Add, Mul": [("MatMul", "* W", {}), ("Add", "* b", {}), ("Mul", "* s", {}), ("Softmax", "*", {})],
    "batch norm of scores": [GEMM, ("BatchNormalization", "* s t m v", {}), ("Relu", "*", {}), ("Gemm", "* U", {})],
    "batch norm of outputs": [GEMM, ("Relu", "*", {}), ("BatchNormalization", "* s t m v", {"epsilon": 0.1}),
                              ("Gemm", "* U b", {})],
    "outputs in units": [GEMM, ("Sigmoid", "*", {}), ("Mul", "* s", {}), ("Add", "* t", {})],
    "columns picked": [("Gather", "* places", {"axis": 1}), ("Sub", "* mean", {}), GEMM],
    "scores picked": [GEMM, ("Gather", "* two", {"axis": 1}), ("Tanh", "*", {})],
    "a reversed product": [("Sub", "* mean", {}), ("MatMul", "* W", {}), ("Neg", "*", {}), ("Add", "b *", {})],
    "relu by Clip": [GEMM, ("Clip", "* zero", {}), ("Gemm", "* U b", {})],
    "relu by Max": [GEMM, ("Max", "zero *", {}), ("Gemm", "* U b", {})],
    "relu6 by Clip": [GEMM, ("Clip", "* zero six", {}), ("Gemm", "* U b", {})],
    "normalised inputs": [("BatchNormalization", "* std mean mean std", {}), GEMM, ("Tanh", "*", {})],
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_linear_goes_into_the_weights(case, dtype, rng):
    if dtype == "float64" and ("Scaler" in case or "Cast" in case):
        pytest.skip("makes float32")
    constants = {
        "mean": MEAN,
        "std": STD,
        "c": 4.0,
        "half": 0.5,
        "zero": 0.0,
        "six": 6.0,
        "W": W,
        "V": W.T,
        "b": B,
        "U": [[1.0, 2], [3, 4]],
    }
    places = {"places": np.array([2, 0, 1]), "two": np.array([1, 1, 0])}
    model = chain(*CASES[case], dtype=dtype, **constants, **places, **NORM)
    X = (rng.normal(size=(20, 3)) * 3).astype(dtype)
    (wanted,) = run(model, X=X)
    net = bp.from_onnx(model)
    assert net.dtype == dtype
    tolerance = 3e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(net.predict(X), wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("bounds", "activation"),
    [({"min": 0.0}, "relu"), ({"min": 0.0, "max": 6.0}, "relu6"), ({"min": -1.0, "max": 1.0}, "hard_tanh")],
)
def test_bounds_as_attributes_of_older_operators(bounds, activation, rng):
    model = chain(GEMM, ("Clip", "*", bounds), W=W, b=B)
    model.opset_import[0].version = 9
    assert bp.from_onnx(model).layers == (bp.Dense(2, activation),)
    X = rng.normal(size=(20, 3)).astype(np.float32) * 3
    np.testing.assert_allclose(bp.from_onnx(model).predict(X), run(model, X=X)[0], rtol=3e-6, atol=3e-6)


def test_no_layer_is_added_where_none_is_needed():
    constants = {"mean": MEAN, "std": STD, "W": W, "b": B, "U": [[1.0, 2], [3, 4]], **NORM}
    nodes = (
        ("Sub", "* mean", {}),
        GEMM,
        ("Mul", "* s", {}),
        ("Tanh", "*", {}),
        ("Div", "* t", {}),
        ("Gemm", "* U b", {}),
    )
    assert bp.from_onnx(chain(*nodes, **constants)).layers == (bp.Dense(2, "tanh"), bp.Dense(2))
    assert bp.from_onnx(chain(*nodes[:-1], **constants)).layers == (bp.Dense(2, "tanh"), bp.Dense(2, bias=False))


def test_a_product_after_a_product_is_a_layer_of_its_own():
    model = chain(("MatMul", "* W", {}), ("MatMul", "* U", {}), W=W, U=[[1.0, 2], [3, 4]])
    net = bp.from_onnx(model)
    assert net.layers == (bp.Dense(2, bias=False), bp.Dense(2, bias=False))
    assert (net.weights[0] == W).all()


def test_columns_far_from_zero_are_scaled_in_float64(rng):
    """The year, in float32: (2001 - 2000) / 5 loses nothing, 2001 * w - 2000 * w does."""
    X = (np.array([2000.0, 0, 5]) + rng.integers(-10, 10, (50, 3))).astype(np.float32)
    nodes = ("Sub", "* mean", {}), ("Div", "* std", {}), GEMM, ("Tanh", "*", {})
    model = chain(*nodes, mean=[2000.0, 0, 5], std=[5.0, 5, 5], W=W, b=B)
    net = bp.from_onnx(model)
    assert net.dtype == "float64"
    np.testing.assert_allclose(net.predict(X), run(model, X=X)[0], rtol=2e-6, atol=1e-6)
    assert bp.from_onnx(chain(*nodes, mean=[200.0, 0, 5], std=[5.0, 5, 5], W=W, b=B)).dtype == "float32"


def test_pictures_and_their_channels(rng):
    """Rows of several dimensions are flat in a network; a Transpose moves their numbers."""
    model = chain(
        ("Sub", "* half", {}),
        ("BatchNormalization", "* s t m v", {}),
        ("Transpose", "*", {"perm": [0, 2, 3, 1]}),
        ("Flatten", "*", {}),
        ("Gemm", "* W", {}),
        shape=("n", 2, 2, 3),
        half=0.5,
        W=rng.normal(size=(12, 4)),
        **NORM,
    )
    X = rng.normal(size=(5, 2, 2, 3)).astype(np.float32)
    np.testing.assert_allclose(bp.from_onnx(model).predict(X.reshape(5, 12)), run(model, X=X)[0], rtol=1e-5, atol=1e-6)


def test_several_inputs_are_columns_in_their_order(rng):
    parts = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1]) for name in ("b", "a", "id")]
    nodes = [
        helper.make_node("Sub", ["a", "c"], ["centred"]),
        helper.make_node("Concat", ["centred", "b", "a"], ["X"], axis=1),
        helper.make_node("Gemm", ["X", "W", "bias"], ["Y"]),
    ]
    constants = [numpy_helper.from_array(np.float32(v), k) for k, v in {"c": [[3.0]], "W": W, "bias": B}.items()]
    output = helper.make_tensor_value_info("Y", onnx.TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph(nodes, "g", parts, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    X = rng.normal(size=(6, 2)).astype(np.float32)
    net = bp.from_onnx(model)
    assert net.feature_names == ("b", "a")
    wanted = run(model, b=X[:, :1], a=X[:, 1:], id=X[:, :1])[0]
    np.testing.assert_allclose(net.predict(X), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([("Clip", "* c", {}), GEMM], r"node 'n0' \(Clip\): .*; export the network alone, without the steps of a pi"),
        ([GEMM, ("Cos", "*", {})], r"node 'n1' \(Cos\): needs .*; got nodes that are none of them$"),
        (
            [GEMM, ("LogSoftmax", "*", {})],
            r"node 'n1' \(LogSoftmax\): .*; give the model without it, and output='softm",
        ),
        ([("Div", "c *", {}), GEMM], r"node 'n0' \(Div\): needs rows divided by constants"),
        ([("Mul", "* X", {}), GEMM], r"node 'n0' \(Mul\): needs constant numbers as input 1, got 'X'"),
        ([("Add", "* two", {}), GEMM], r"node 'n0' \(Add\): needs a number for each of 3 columns, or one"),
        ([("Gemm", "* U", {})], r"node 'n0' \(Gemm\): needs weights \(3, n\) for flat rows, got \(2, 2\)"),
        ([("Gemm", "W *", {})], r"node 'n0' \(Gemm\): needs rows times weights"),
        ([("Cast", "*", {"to": 7})], r"node 'n0' \(Cast\): needs a cast to float32 or float64"),
        ([("Reshape", "* places", {}), GEMM], r"node 'n0' \(Reshape\): needs rows that stay apart"),
        ([("Transpose", "*", {}), GEMM], r"node 'n0' \(Transpose\): needs rows that stay apart"),
        ([("BatchNormalization", "* s t m v", {})], r"node 'n0' \(BatchNormalization\): needs a number for each of"),
        ([GEMM, ("Relu", "*", {}), ("Concat", "* X", {"axis": 1})], r"node 'n2' \(Concat\): needs columns that one l"),
        ([("Shape", "*", {}), ("Cast", "*", {"to": 1})], "needs an output that depends on the numbers of inputs"),
        ([("Identity", "W", {})], "needs an output that depends on the numbers of inputs, got 't0'"),
    ],
)
def test_what_is_not_linear_is_named(nodes, message):
    constants = {"c": 4.0, "W": W, "b": B, "U": [[1.0, 2], [3, 4]], "two": [1.0, 2], "places": np.array([3, -1])}
    with pytest.raises(ValueError, match=message):
        bp.from_onnx(chain(*nodes, **constants, **NORM))


def test_inputs_that_are_no_numbers_are_named():
    model = chain(GEMM, W=W, b=B)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    with pytest.raises(ValueError, match="needs numbers as inputs, got 'X' of type string"):
        bp.from_onnx(model)


def test_a_damaged_array_is_named():
    model = chain(GEMM, W=W, b=B)
    model.graph.initializer[0].dims[0] = 7
    with pytest.raises(ValueError, match="from_onnx: 'W': needs an array that is whole, got a damaged one"):
        bp.from_onnx(model)


def test_numbers_in_another_file_need_the_path(tmp_path, rng):
    weights = rng.normal(size=(3, 500)).astype(np.float32)
    model = chain(("MatMul", "* W", {}), W=weights)
    for name in ("n", "m"):
        model.graph.output[0].type.tensor_type.shape.dim.add().dim_param = name
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=100)
    assert (bp.from_onnx(tmp_path / "m.onnx").weights[0] == weights).all()
    with pytest.raises(
        ValueError, match="'W': needs its numbers in the model, got them in another file; give the path"
    ):
        bp.from_onnx((tmp_path / "m.onnx").read_bytes())
    (tmp_path / "m.data").unlink()
    with pytest.raises(ValueError, match=r"m\.onnx: not a valid model of ONNX: .*m\.data"):
        bp.from_onnx(tmp_path / "m.onnx")


def test_the_number_of_columns_is_found_in_the_constants():
    model = chain(("Cast", "*", {"to": 1}), ("Sub", "* mean", {}), GEMM, shape=("n", None), mean=MEAN, W=W, b=B)
    assert bp.from_onnx(model).n_inputs == 3
    model = chain(("Slice", "* zero two", {}), GEMM, shape=("n", None), zero=[0], two=[2], W=W, b=B)
    with pytest.raises(ValueError, match="needs the number of columns of 'X' in the file"):
        bp.from_onnx(model)


def doubled(n_times, axis, first):
    return [("Concat", f"{first} {first}", {"axis": axis}), *[("Concat", "* *", {"axis": axis})] * n_times]


LARGE = {
    "constants that double": (
        [*doubled(25, 0, "c"), ("Add", "X *", {})],
        r"node 'n23' \(Concat\): needs a result of at most 10,000,000 numbers, got one of 16,777,216",
    ),
    "columns that double": (
        doubled(25, 1, "X"),
        r"node 'n18' \(Concat\): needs a result of at most 1,428,571 columns, got 1,572,864",
    ),
    "a sum": (
        [("Add", "tall wide", {}), ("Add", "X *", {})],
        r"node 'n0' \(Add\): needs a result of at most 10,000,000 numbers, got one of 400,000,000",
    ),
    "a product": (
        [("MatMul", "tall wide", {}), ("Add", "X *", {})],
        r"node 'n0' \(MatMul\): needs a result of at most 10,000,000 numbers, got one of 400,000,000",
    ),
    "rows of a table": (
        [("Gather", "wide zeros", {}), ("Add", "X *", {})],
        r"node 'n0' \(Gather\): needs a result of at most 10,000,000 numbers, got one of 20,000,000",
    ),
    "columns picked again": (
        [("Gather", "* many", {"axis": 1}), ("Unsqueeze", "* one", {}), ("Gather", "* zeros", {"axis": 1})],
        r"node 'n2' \(Gather\): needs a result of at most 1,428,571 columns, got 2,000,000",
    ),
    "integers scaled": (
        [("DequantizeLinear", "bytes scales", {"axis": 0}), ("Add", "X *", {})],
        r"node 'n0' \(DequantizeLinear\): needs a result of at most 10,000,000 numbers, got one of 400,000,000",
    ),
    "an array repeated": (
        [("Tile", "wide sizes", {}), ("Add", "X *", {})],
        r"node 'n0' \(Tile\): needs a result of at most 10,000,000 numbers, got one of 2,000,000,000,000,000",
    ),
    "an array expanded": (
        [("Expand", "tall sizes", {}), ("Add", "X *", {})],
        r"node 'n0' \(Expand\): needs a result of at most 10,000,000 numbers, got one of 100,000,000,000",
    ),
    "a shape": (
        [("ConstantOfShape", "sizes", {}), ("Add", "X *", {})],
        r"node 'n0' \(ConstantOfShape\): needs a result of at most 10,000,000 numbers, got one of 100,000,000,000",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LARGE)
def test_a_result_that_is_too_large_is_refused_before_it_is_computed(case):
    nodes, message = LARGE[case]
    tall = np.zeros((20_000, 1))
    whole = {"zeros": np.zeros(1000, int), "many": np.zeros(2000, int), "one": [1], "sizes": [100_000, 1_000_000]}
    whole = {name: np.array(value, np.int64) for name, value in whole.items()}
    model = chain(*nodes, c=[1.0], tall=tall, wide=tall.T, scales=np.ones(20_000), **whole)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 20_000), np.int8), "bytes"))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            bp.from_onnx(model)
        assert tracemalloc.get_traced_memory()[1] < 400e6
    finally:
        tracemalloc.stop()


def test_constants_that_lead_to_no_output_are_not_computed():
    model = chain(GEMM, W=W, b=B, tall=np.zeros((20_000, 1)), wide=np.zeros((1, 20_000)))
    model.graph.node.insert(0, helper.make_node("Add", ["tall", "wide"], ["dead"]))
    assert bp.from_onnx(model).layers == (bp.Dense(2),)


def test_constants_whose_shapes_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"node 'n0' \(Add\): needs arrays whose shapes fit, got \(3, 2\), \(3,\)"):
        bp.from_onnx(chain(("Add", "W mean", {}), ("MatMul", "X *", {}), W=W, mean=MEAN))


@pytest.mark.parametrize(
    "node", [("Gather", "* rows", {"axis": 0}), ("Slice", "* zero two zero", {}), ("Slice", "* zero one zero", {})]
)
def test_the_first_rows_are_not_taken_for_all(node):
    whole = {name: np.array(value) for name, value in {"rows": [0, 1], "zero": [0], "one": [1], "two": [2]}.items()}
    with pytest.raises(ValueError, match=rf"node 'n0' \({node[0]}\): needs rows that stay apart"):
        bp.from_onnx(chain(node, GEMM, W=W, b=B, **whole))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (("Concat", "* mean", {"axis": 1}), r"columns that inputs decide, moved by constants, got 'mean', a constant"),
        (("Gather", "mean *", {}), r"columns that inputs decide, moved by constants, got 'mean', a constant"),
        (("Div", "* zeros", {}), r"numbers to divide by whose inverses are finite, got 0"),
    ],
)
def test_constants_that_no_weights_can_be_are_refused_at_their_node(node, message):
    with pytest.raises(ValueError, match=rf"node 'n0' \({node[0]}\): needs {message}"):
        bp.from_onnx(chain(node, GEMM, W=W, b=B, mean=[MEAN], zeros=[1.0, 0, 2]))


@pytest.mark.parametrize(
    ("least", "message"),
    [
        (0.0, r"node 'n2' \(Clip\): needs what the inputs decide"),
        (2.5, "needs an output that depends on the numbers of"),
    ],
)
def test_bounds_as_attributes_for_a_shape_that_is_computed(least, message):
    model = chain(("Shape", "*", {}), ("Cast", "*", {"to": 1}), ("Clip", "*", {"min": least}))
    model.opset_import[0].version = 9
    with pytest.raises(ValueError, match=message):
        bp.from_onnx(model)


def test_a_quotient_of_constants_that_is_not_finite_is_named():
    with pytest.raises(ValueError, match=r"node 'n0' \(Div\): cannot be run: divide by zero"):
        bp.from_onnx(chain(("Div", "mean zeros", {}), ("Mul", "X *", {}), GEMM, W=W, b=B, mean=MEAN, zeros=[1.0, 0, 2]))


def test_the_operators_of_a_message_are_those_that_are_read():
    wanted = "one of Sub, Mul, Div, Neg, Scaler, BatchNormalization, Cast, Dropout, Array"
    with pytest.raises(ValueError, match=wanted):
        bp.from_onnx(chain(GEMM, ("Cos", "*", {}), W=W, b=B))


# --- linear models in one node, and rows without or with more axes ---------------------------------------------------


def regressor(coefficients, **attributes):
    """As skl2onnx writes linear models in float32."""
    return "LinearRegressor", "*", {"coefficients": np.ravel(coefficients).tolist(), **attributes}


SCALER = ("Scaler", "*", {"offset": MEAN.tolist(), "scale": (1 / STD).tolist()})
REGRESSORS = {
    "alone": [regressor(W.T[0], intercepts=[0.5])],
    "without intercepts": [regressor(W.T[0])],
    "two targets": [regressor(W.T, intercepts=B.tolist(), targets=2)],
    "behind a scaler": [SCALER, regressor(W.T, intercepts=B.tolist(), targets=2)],
    "before others": [regressor(W.T, targets=2), ("Mul", "* s", {}), ("Tanh", "*", {}), ("Gemm", "* U b", {})],
}


@pytest.mark.parametrize("width", [3, None], ids=["in the file", "from the node"])
@pytest.mark.parametrize("case", REGRESSORS)
def test_linear_regressors(case, width, rng):
    used = " ".join(each[1] for each in REGRESSORS[case]).split()
    constants = {name: array for name, array in {"s": NORM["s"], "U": W[:2], "b": B}.items() if name in used}
    model = chain(*REGRESSORS[case], shape=("n", width), **constants)
    net, X = bp.from_onnx(model), rng.normal(size=(9, 3)).astype(np.float32)
    assert net.dtype == np.float32
    assert net.layers[0].bias is (case not in ("without intercepts", "before others"))
    # float32 sums of a few numbers around 1, in another order
    np.testing.assert_allclose(net.predict(X), run(model, X=X)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "attributes",
    [
        {"coefficients": [1.0] * 3, "targets": 0},
        {"coefficients": [1.0] * 5, "targets": 2},
        {"coefficients": [1.0] * 6, "targets": 2, "intercepts": [1.0]},  # which onnxruntime leaves out
        {"coefficients": [1.0] * 3, "post_transform": "PROBIT"},
    ],
)
def test_linear_regressors_that_are_none(attributes):
    with pytest.raises(ValueError, match=r"node 'n0' \(LinearRegressor\): needs Gemm, MatMul"):
        bp.from_onnx(chain(("LinearRegressor", "*", attributes)))


def test_linear_regressors_of_other_rows():
    with pytest.raises(ValueError, match=r"node 'n0' \(Gemm\): needs weights \(3, n\) for flat rows, got \(2, 1\)"):
        bp.from_onnx(chain(regressor([1.0, 2.0])))


def test_a_classifier_in_one_node_is_refused_by_its_name():
    model = chain(("LinearClassifier", "*", {"coefficients": [1.0] * 6, "classlabels_ints": [0, 1]}))
    with pytest.raises(ValueError, match=r"node 'n0' \(LinearClassifier\): needs Gemm or MatMul and act"):
        bp.from_onnx(model)


ROWS = {
    "a vector of weights": [("MatMul", "* w", {}), ("Add", "* c", {}), ("Exp", "*", {}), ("Reshape", "* column", {})],
    "an output without an axis": [("MatMul", "* W", {}), ("Tanh", "*", {}), ("MatMul", "* u", {})],
    "squeezed": [("MatMul", "* V", {}), ("Relu", "*", {}), ("Squeeze", "* one", {})],
    "a part of a picture": [("MatMul", "* P", {}), ("Reshape", "* square", {}), ("Relu", "*", {}),
                            ("Gather", "* last", {"axis": 1}), ("Gemm", "* U", {})],
    "a picture that turns": [("MatMul", "* P", {}), ("Reshape", "* square", {}), ("Tanh", "*", {}),
                             ("Transpose", "*", {"perm": [0, 2, 1]}), ("Add", "* u", {}), ("Flatten", "*", {})],
}  # fmt: skip


@pytest.mark.parametrize("case", ROWS)
def test_activations_keep_the_axes_of_rows(case, dtype, rng):
    constants = {
        "w": W[:, 0], "c": [0.5], "column": np.array([-1, 1]), "W": W, "u": [0.5, -2], "V": W[:, :1], "U": W[:2],
        "one": np.array([1]), "P": rng.normal(size=(3, 4)), "square": np.array([0, 2, 2]), "last": np.array(1),
    }  # fmt: skip
    used = " ".join(each[1] for each in ROWS[case]).split()
    model = chain(*ROWS[case], dtype=dtype, **{name: each for name, each in constants.items() if name in used})
    X = rng.normal(size=(9, 3)).astype(dtype)
    wanted = run(model, X=X)[0]
    found = bp.from_onnx(model).predict(X).reshape(wanted.shape)
    # a few sums of numbers around 1, in another order, and exp and tanh of onnxruntime
    np.testing.assert_allclose(found, wanted, rtol=2e-5 if dtype == "float32" else 1e-12, atol=1e-6)


@pytest.mark.parametrize("axis", [1, -1])
def test_a_softmax_over_a_part_of_a_row_is_refused(axis, rng):
    """That of a whole row is another one."""
    picture = [("MatMul", "* P", {}), ("Reshape", "* square", {}), ("Softmax", "*", {"axis": axis})]
    model = chain(*picture, P=rng.normal(size=(3, 4)), square=np.array([0, 2, 2]))
    with pytest.raises(ValueError, match=r"node 'n2' \(Softmax\): needs flat rows, got rows \(2, 2"):
        bp.from_onnx(model)


# --- files of others -----------------------------------------------------------------------------------------------


def written_by_torch(torch, module, X, path, **how):
    torch.onnx.export(module, (X,), path, **how)
    with torch.no_grad():
        return module(X).numpy()


HOW = {
    "fixed rows": {"dynamo": False},
    "any rows": {"dynamo": False, "input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}},
    "unfolded": {"dynamo": False, "do_constant_folding": False},
    "dynamo": {"dynamo": True, "verbose": False},
    "dynamo, any rows": {"dynamo": True, "verbose": False, "dynamic_shapes": ({0: "n"},)},
}


@pytest.mark.filterwarnings("ignore")  # PyTorch calls its shorter exporter old, and its own libraries by old names
@pytest.mark.parametrize("how", HOW)
def test_a_module_of_pytorch_with_scaler_and_batch_norm(how, tmp_path):
    torch = pytest.importorskip("torch")
    if HOW[how]["dynamo"]:
        pytest.importorskip("onnxscript")
    nn = torch.nn
    torch.manual_seed(0)

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.randn(6))
            self.register_buffer("std", torch.rand(6) + 1)
            self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 5, bias=False), nn.Linear(5, 2)
            self.norm, self.drop, self.before = nn.BatchNorm1d(8), nn.Dropout(0.5), nn.BatchNorm1d(5)

        def forward(self, x):
            x = (x - self.mean) / self.std
            x = x.view(x.size(0), -1)
            x = self.drop(self.norm(torch.relu(self.a(x))))
            return 10 * torch.sigmoid(self.c(nn.functional.gelu(self.before(self.b(x))))) - 5

    module = Module()
    for _ in range(20):  # so that the norms have statistics
        module(torch.randn(64, 6) * 3 + 1)
    X = torch.randn(7, 3, 2)
    wanted = written_by_torch(torch, module.eval(), X.reshape(7, 6), tmp_path / "m.onnx", **HOW[how])
    net = bp.from_onnx(tmp_path / "m.onnx")
    assert [layer.activation for layer in net.layers] == ["relu", "gelu", "sigmoid", "identity"]
    np.testing.assert_allclose(net.predict(X.reshape(7, 6)), wanted, rtol=3e-6, atol=3e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    ["GELU", "SiLU", "Mish", "Softplus", "PReLU", "Hardswish", "ReLU6", "ELU", "Softsign", "SELU", "Hardsigmoid"],
)
def test_activations_of_the_other_exporter_of_pytorch(name, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), getattr(torch.nn, name)(), torch.nn.Linear(4, 2)).eval()
    X = torch.randn(5, 3)
    wanted = written_by_torch(torch, module, X, tmp_path / "m.onnx", dynamo=True, verbose=False)
    net = bp.from_onnx(tmp_path / "m.onnx")
    assert len(net.layers) == 2
    np.testing.assert_allclose(net.predict(X), wanted, rtol=1e-5, atol=1e-6)


def pipelines():
    sklearn = pytest.importorskip("sklearn")
    from sklearn import preprocessing as steps
    from sklearn.compose import make_column_transformer
    from sklearn.decomposition import PCA
    from sklearn.impute import SimpleImputer

    assert sklearn
    columns = (steps.StandardScaler(), [2]), (steps.MinMaxScaler(), [0])
    return {
        "StandardScaler": steps.StandardScaler(),
        "without a mean": steps.StandardScaler(with_mean=False),
        "MinMaxScaler": steps.MinMaxScaler(),
        "MaxAbsScaler": steps.MaxAbsScaler(),
        "RobustScaler": steps.RobustScaler(),
        "SimpleImputer": SimpleImputer(),
        "FunctionTransformer": steps.FunctionTransformer(),
        "PCA": PCA(2),
        "ColumnTransformer": make_column_transformer(*columns, remainder="passthrough"),
    }


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("n_columns", [3, None])
@pytest.mark.parametrize("kind", ["classes", "two classes", "numbers"])
@pytest.mark.parametrize(
    "step", ["StandardScaler", "without a mean", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "FunctionTransformer",
             "SimpleImputer", "PCA", "ColumnTransformer"]
)  # fmt: skip
def test_pipelines_of_skl2onnx(step, kind, n_columns, dtype, rng):
    skl2onnx = pytest.importorskip("skl2onnx")
    if n_columns is None and step == "ColumnTransformer":
        pytest.skip("skl2onnx needs the number")
    if dtype == "float64" and step == "SimpleImputer":
        pytest.skip("onnxruntime has it in float32 only")
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline

    X = (rng.normal(size=(60, 3)) * [1, 5, 0.1] + [3, -2, 0.2]).astype(dtype)
    y = {"classes": rng.integers(0, 3, 60), "two classes": X[:, 0] > 3, "numbers": X[:, 1]}[kind]
    made = MLPRegressor if kind == "numbers" else MLPClassifier
    pipeline = make_pipeline(pipelines()[step], made(hidden_layer_sizes=(5,), max_iter=5, random_state=0)).fit(X, y)
    tensor = (FloatTensorType if dtype == "float32" else DoubleTensorType)([None, n_columns])
    options = {} if kind == "numbers" else {"options": {"zipmap": False}}
    model = skl2onnx.to_onnx(pipeline, initial_types=[("X", tensor)], **options)
    net = bp.from_onnx(model)
    wanted = run(model, X=X)[-1]
    wanted = wanted[:, 1:] if kind == "two classes" else wanted
    assert net.dtype == dtype
    assert len(net.layers) == 2 + (step == "PCA")
    tolerance = 3e-6 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(net.predict(X), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_a_pipeline_over_named_columns(rng):
    skl2onnx, pandas = pytest.importorskip("skl2onnx"), pytest.importorskip("pandas")
    from sklearn.compose import ColumnTransformer
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    X = rng.normal(size=(60, 3)).astype(np.float32)
    frame = pandas.DataFrame(X, columns=list("abc"))
    columns = ColumnTransformer([("s", StandardScaler(), ["c", "a"]), ("m", MinMaxScaler(), ["b"])])
    pipeline = make_pipeline(columns, MLPClassifier((4,), max_iter=5, random_state=0)).fit(frame, X[:, 0] > 0)
    net = bp.from_onnx(skl2onnx.to_onnx(pipeline, frame[:1], options={"zipmap": False}))
    assert net.feature_names == ("a", "b", "c")
    np.testing.assert_allclose(net.predict(X)[:, 0], pipeline.predict_proba(frame)[:, 1], rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_a_step_that_no_layer_has_is_refused_with_a_way(rng):
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    X = rng.normal(size=(60, 3)).astype(np.float32)
    pipeline = make_pipeline(MinMaxScaler(clip=True), MLPRegressor(hidden_layer_sizes=(4,), max_iter=3)).fit(X, X[:, 0])
    with pytest.raises(ValueError, match=r"\(Clip\): .*; export the network alone, without the steps of a pipeline"):
        bp.from_onnx(skl2onnx.to_onnx(pipeline, X[:1]))
    found = bp.from_onnx(skl2onnx.to_onnx(pipeline[-1], X[:1]))
    np.testing.assert_allclose(found.predict(X)[:, 0], pipeline[-1].predict(X), rtol=1e-5, atol=1e-6)


# --- activations as PyTorch spells them out --------------------------------------------------------------------------

SPELT_OUT = {
    "gelu_tanh": [
        ("Mul", "t0 t0", {}), ("Mul", "t0 t1", {}), ("Mul", "cubic t2", {}), ("Add", "t0 t3", {}),
        ("Mul", "root t4", {}), ("Tanh", "t5", {}), ("Add", "one t6", {}), ("Mul", "t0 t7", {}), ("Mul", "half t8", {}),
    ],
    "hard_swish": [("HardSigmoid", "t0", {"alpha": 1 / 6}), ("Mul", "t0 t1", {})],
}  # fmt: skip


@pytest.mark.parametrize("activation", SPELT_OUT)
def test_activations_that_pytorch_spells_out(activation, rng):
    constants = {"cubic": 0.044715, "root": np.sqrt(2 / np.pi), "one": 1.0, "half": 0.5}
    used = " ".join(inputs for _, inputs, _ in SPELT_OUT[activation]).split()
    model = chain(
        GEMM, *SPELT_OUT[activation], W=W, b=B, **{name: constants[name] for name in used if name in constants}
    )
    net, X = bp.from_onnx(model), rng.normal(size=(9, 3)).astype(np.float32)
    assert [layer.activation for layer in net.layers] == [activation]
    # float32 sums and products of numbers around 1, in another order
    np.testing.assert_allclose(net.predict(X), run(model, X=X)[0], rtol=1e-5, atol=1e-6)
