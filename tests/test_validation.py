"""What bad input gets: an error that names the argument, what it needs and what came; nothing else changes."""

import re

import backprop as bp
import numpy as np
import pytest
from backprop.base import checks as check
from backprop.optimizers import OPTIMIZERS
from hypothesis import given
from hypothesis import strategies as st

X = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
LABELS = np.array([0, 1, 2])
NUMBERS = np.array([0.0, 0.5, 1.0])
NAN_X, INF_X = X.copy(), X.copy()
NAN_X[1, 0] = np.nan
INF_X[2, 1] = -np.inf


def classifier(**settings):
    return bp.mlp([2, 4, 3], output="softmax", seed=0, backend="reference", **settings)


def regressor(output="identity", **settings):
    return bp.mlp([2, 4, 1], output=output, seed=0, backend="reference", **settings)


BAD_X = [
    (NAN_X, ValueError, "X: needs finite numbers, got nan at X[1, 0]"),
    (INF_X, ValueError, "X: needs finite numbers, got -inf at X[2, 1]"),
    (X * 1e300, ValueError, "X: needs numbers that fit into float32, got 1e+300 at X[0, 1]"),
    (X[0], ValueError, "X: needs a 2-D array of shape (n, 2), got shape (2,); X.reshape(1, -1) is one row"),
    (X[None], ValueError, "X: needs a 2-D array of shape (n, 2), got shape (1, 3, 2)"),
    (5.0, ValueError, "X: needs a 2-D array of shape (n, 2), got shape ()"),
    (X[:, :1], ValueError, "X: needs 2 columns, got 1"),
    (X[:0], ValueError, "X: needs at least one row, got shape (0, 2)"),
    ([], ValueError, "X: needs a 2-D array"),
    ([[1.0, 2.0], [3.0]], ValueError, "X: needs a rectangular array of numbers"),
    ([[1.0, None]], TypeError, "X: needs real numbers, got dtype object"),
    (X.astype(object), TypeError, "X: needs real numbers, got dtype object"),
    (X + 1j, TypeError, "X: needs real numbers, got dtype complex128"),
    (X.astype(str), TypeError, "X: needs real numbers, got dtype <U"),
    (X.astype("datetime64[s]"), TypeError, "X: needs real numbers, got dtype datetime64[s]"),
    (np.ma.masked_equal(X, 0.0), TypeError, "X: needs an array without masked values"),
    (list(np.ma.masked_equal(X, 0.0)), TypeError, "X[0]: needs an array without masked values"),
    (None, TypeError, "X: needs an array of real numbers, got None (NoneType)"),
    ((row for row in X), TypeError, "X: needs an array of real numbers, got <generator"),
]


@pytest.mark.parametrize("how", ["predict", "fit", "loss"])
@pytest.mark.parametrize(("bad", "error", "message"), BAD_X)
def test_bad_features(bad, error, message, how):
    net = classifier()
    arguments = (bad,) if how == "predict" else (bad, LABELS)
    with pytest.raises(error, match=re.escape(message)):
        getattr(net, how)(*arguments)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_features_where_nothing_is_converted(bad, dtype, backend):
    """The fast path leaves the search for NaN and infinity to the backend."""
    net = bp.mlp([2, 4, 1], dtype=dtype, backend=backend)
    for n in (1, 2, 33):
        batch = np.zeros((n, 2), dtype)
        batch[-1, 1] = bad
        with pytest.raises(ValueError, match=re.escape(f"X: needs finite numbers, got {bad} at X[{n - 1}, 1]")):
            net.predict(batch)


def test_sparse_matrices_get_a_hint():
    class Sparse:
        def toarray(self): ...

    with pytest.raises(TypeError, match=r"X: needs a dense array, got Sparse; use X\.toarray\(\)"):
        classifier().predict(Sparse())


BAD_LABELS = [
    ([0, 1, 3], ValueError, "y: needs class labels in 0 .. 2 (3 outputs), got 3 at y[2]"),
    ([0, -1, 2], ValueError, "y: needs class labels in 0 .. 2 (3 outputs), got -1 at y[1]"),
    (np.array([0, 1, 2**64 - 1], np.uint64), ValueError, "y: needs class labels in 0 .. 2"),
    ([0.0, 1.0, 2.0], TypeError, "y: needs integer class labels, got dtype float64; y.astype(int)"),
    (
        ["a", "b", "c"],
        TypeError,
        "y: needs integer class labels, got dtype <U1; numpy.unique(y, return_inverse=True)[1] makes some",
    ),
    ([0, 1], ValueError, "y: needs one row for each of the 3 rows of X, got 2"),
    ([[0], [1], [2]], ValueError, "y: needs class labels of shape (n,) or class probabilities of shape (n, 3)"),
    (np.eye(3)[:2], ValueError, "y: needs one row for each of the 3 rows of X, got 2"),
    (np.eye(3) * 0.9, ValueError, "y: needs rows of class probabilities that sum to 1"),
    (np.eye(3) * 2 - 1, ValueError, "y: needs values in [0, 1] for cross_entropy, got -1.0 at y[0, 1]"),
    (np.full((3, 3), np.nan), ValueError, "y: needs finite numbers, got nan at y[0, 0]"),
    (None, TypeError, "y: needs an array of integer class labels, got None (NoneType)"),
]


@pytest.mark.parametrize(("bad", "error", "message"), BAD_LABELS)
def test_bad_labels(bad, error, message):
    with pytest.raises(error, match=re.escape(message)):
        classifier().fit(X, bad)


BAD_NUMBERS = [
    ("identity", "squared_error", [0.0, 1.0], "y: needs one row for each of the 3 rows of X, got 2"),
    ("identity", "squared_error", np.ones((3, 2)), "y: needs shape (n, 1) or (n,) for squared_error, got shape (3, 2)"),
    ("identity", "huber", [0.0, np.nan, 1.0], "y: needs finite numbers, got nan at y["),
    ("identity", "squared_error", [0.0, 1e39, 1.0], "y: needs numbers that fit into float32, got 1e+39"),
    ("sigmoid", "binary_cross_entropy", [0.0, 1.0, 2.0], "y: needs values in [0, 1] for binary_cross_entropy, got 2.0"),
    ("sigmoid", "binary_cross_entropy", [-1, 1, 1], "y: needs values in [0, 1] for binary_cross_entropy, got -1.0"),
    ("exp", "poisson", [1.0, 2.0, -3.0], "y: needs values >= 0 for poisson, got -3.0 at y[2, 0]"),
    ("exp", "gamma", [1.0, 0.0, 3.0], "y: needs values > 0 for gamma, got 0.0 at y[1, 0]"),
    ("exp", "gamma", [1.0, 1.0, 1e-60], "y: needs values > 0 for gamma, got 0.0 at y[2, 0]"),  # in float32
    ("exp", "tweedie", [1.0, 0.0, -3.0], "y: needs values >= 0 for tweedie, got -3.0 at y[2, 0]"),
    ("sigmoid", "focal", [0, 1, 0.5], "y: needs values 0 or 1 for focal, got 0.5 at y[2, 0]"),
    ("identity", "hinge", [1, -1, 0], "y: needs values -1 or 1 for hinge, got 0.0 at y[2, 0]"),
    ("tanh", "squared_hinge", [1, 2, 1], "y: needs values -1 or 1 for squared_hinge, got 2.0 at y[1, 0]"),
]


@pytest.mark.parametrize(("output", "loss", "bad", "message"), BAD_NUMBERS)
def test_bad_targets(output, loss, bad, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        regressor(output).fit(X, bad, loss=loss)


BAD_SETTINGS = [
    ({"loss": "mse"}, ValueError, "loss: needs one of 'squared_error', 'absolute_error', 'huber'"),
    ({"loss": bp.losses.Huber}, TypeError, "loss: needs an object, got the class Huber; write Huber()"),
    ({"loss": bp.losses.Loss()}, TypeError, "loss: needs one of the kinds 'squared_error', 'absolute_error'"),
    ({"loss": 3}, TypeError, "loss: needs an object of class Loss or one of 'squared_error'"),
    ({"loss": "cross_entropy"}, ValueError, "loss: cross_entropy needs a last layer with activation softmax"),
    ({"loss": "binary_cross_entropy"}, ValueError, "loss: binary_cross_entropy needs a last layer with"),
    ({"loss": "poisson"}, ValueError, "loss: poisson needs a last layer with activation exp"),
    ({"optimizer": "adma"}, ValueError, "optimizer: needs one of 'sgd', 'adam', 'adamw', 'adamax'"),
    ({"optimizer": bp.SGD}, TypeError, "optimizer: needs an object, got the class SGD; write SGD()"),
    (
        {"optimizer": bp.optimizers.Optimizer(learning_rate=0.1)},
        TypeError,
        f"optimizer: needs one of the kinds {', '.join(map(repr, OPTIMIZERS))}, got Optimizer(",
    ),
    ({"epochs": 10**20}, ValueError, "epochs: needs at most 1,000,000,000,000 in all, got 100,000,000,"),
    ({"epochs": 0}, ValueError, "epochs: needs an integer >= 1, got 0"),
    ({"epochs": 1.5}, TypeError, "epochs: needs an integer, got 1.5"),
    ({"epochs": True}, TypeError, "epochs: needs an integer, got True"),
    ({"batch_size": 0}, ValueError, "batch_size: needs an integer >= 1, got 0"),
    ({"batch_size": "all"}, TypeError, "batch_size: needs an integer, got 'all'"),
    ({"shuffle": 1}, TypeError, "shuffle: needs True or False, got 1"),
    ({"sample_weight": [1.0, 1.0]}, ValueError, "sample_weight: needs one row for each of the 3 rows of X, got 2"),
    (
        {"sample_weight": [1.0, -1.0, 1.0]},
        ValueError,
        "sample_weight: needs weights >= 0, got -1.0 at sample_weight[1]",
    ),
    ({"sample_weight": np.zeros(3)}, ValueError, "sample_weight: needs at least one weight > 0"),
    ({"sample_weight": np.full(3, 1e-40)}, ValueError, "sample_weight: needs at least one weight > 0 (float32), got"),
    ({"sample_weight": np.ones((3, 1))}, ValueError, "sample_weight: needs one weight per row, shape (3,), got"),
    ({"sample_weight": [1.0, np.nan, 1.0]}, ValueError, "sample_weight: needs finite numbers, got nan"),
    ({"sample_weight": 1.0}, ValueError, "sample_weight: needs one weight per row, shape (3,), got shape ()"),
    ({"clip_norm": 0.0}, ValueError, "clip_norm: needs a number > 0, got 0.0"),
    ({"clip_value": -1}, ValueError, "clip_value: needs a number > 0, got -1"),
    ({"tolerance": -1e-9}, ValueError, "tolerance: needs a number >= 0, got -1e-09"),
    ({"tolerance": np.nan}, ValueError, "tolerance: needs a finite number, got nan"),
    ({"patience": 0}, ValueError, "patience: needs an integer >= 1, got 0"),
    ({"n_threads": 0}, ValueError, "n_threads: needs an integer >= 1 and <= 16, got 0"),
    ({"n_threads": "all"}, ValueError, "n_threads: needs an integer >= 1 or 'auto', got 'all'"),
    ({"progress": "yes"}, ValueError, "progress: needs True, False or 'auto', got 'yes'"),
    ({"progress": 1}, TypeError, "progress: needs True or False, got 1"),
]


@pytest.mark.parametrize(("settings", "error", "message"), BAD_SETTINGS)
def test_bad_settings_leave_everything_untouched(settings, error, message, backend):
    net = bp.mlp([2, 4, 1], seed=0, backend=backend)
    twin = bp.mlp([2, 4, 1], seed=0, backend=backend)
    for each in (net, twin):
        each.fit(X, NUMBERS, epochs=2, batch_size=2)
    before = net.parameters.copy()
    with pytest.raises(error, match=re.escape(message)):
        net.fit(X, NUMBERS, **settings)
    np.testing.assert_array_equal(net.parameters, before)
    assert net.history.epochs == 2
    for each in (net, twin):
        each.fit(X, NUMBERS, epochs=2, batch_size=2)
    np.testing.assert_array_equal(net.parameters, twin.parameters)


BAD_NETWORKS = [
    (lambda: bp.Network(0, [bp.Dense(1)]), ValueError, "n_inputs: needs an integer >= 1, got 0"),
    (lambda: bp.Network(2.0, [bp.Dense(1)]), TypeError, "n_inputs: needs an integer, got 2.0"),
    (lambda: bp.Network(2, []), ValueError, "layers: needs at least one Dense"),
    # 2**64 weights, and a C integer would count none
    (lambda: bp.Network(2**40, [bp.Dense(2**24, bias=False)]), ValueError, "layers: needs parameters that fit into"),
    (lambda: bp.mlp([2, 2**63]), ValueError, "layers: needs parameters that fit into memory, got 27,670,116,110,"),
    (lambda: bp.Network(2, bp.Dense(1)), TypeError, "layers: needs a sequence of Dense, got Dense(1, 'identity')"),
    (lambda: bp.Network(2, [3, 1]), TypeError, "layers[0]: needs a Dense, got 3"),
    (lambda: bp.Network(2, [bp.Dense(1)], dtype="float16"), ValueError, "dtype: needs 'float32' or 'float64', got"),
    (lambda: bp.Network(2, [bp.Dense(1)], dtype=None), ValueError, "dtype: needs 'float32' or 'float64', got None"),
    (lambda: bp.Network(2, [bp.Dense(1)], dtype="real"), ValueError, "dtype: needs 'float32' or 'float64', got 'real'"),
    (lambda: bp.Network(2, [bp.Dense(1)], seed=-1), ValueError, "seed: needs an integer >= 0, got -1"),
    (lambda: bp.Network(2, [bp.Dense(1)], seed="1"), TypeError, "seed: needs an integer, got '1'"),
    (lambda: bp.Network(2, [bp.Dense(1)], backend="gpu"), ValueError, "backend: 'gpu'"),
    (
        lambda: bp.Network(2, [bp.Dense(1, weight_init=np.ones((1, 2)))]),
        ValueError,
        "layers[0].weight_init: needs shape",
    ),
    (lambda: bp.Network(2, [bp.Dense(1, bias_init=[1, 2])]), ValueError, "layers[0].bias_init: needs shape (1,), got"),
    (
        lambda: bp.Network(2, [bp.Dense(1, weight_init=1e300)]),
        ValueError,
        "layers[0].weight_init: needs numbers that fit",
    ),
    (lambda: bp.mlp([2]), ValueError, "sizes: needs at least the numbers of inputs and outputs, got [2]"),
    (lambda: bp.mlp(2), TypeError, "sizes: needs a sequence of integers, got 2"),
    (lambda: bp.mlp([2, 0, 1]), ValueError, "sizes[1]: needs an integer >= 1, got 0"),
    (lambda: bp.mlp([2, 3, 1], hidden="linear"), ValueError, "hidden: needs one of 'identity'"),
    (lambda: bp.mlp([2, 3, 1], output="linear"), ValueError, "output: needs one of 'identity'"),
    (lambda: bp.Dense(0), ValueError, "units: needs an integer >= 1, got 0"),
    (lambda: bp.Dense(1.0), TypeError, "units: needs an integer, got 1.0"),
    (lambda: bp.Dense(1, "rleu"), ValueError, "activation: needs one of 'identity', 'sigmoid', 'tanh', 'relu'"),
    (lambda: bp.Dense(1, None), TypeError, "activation: needs one of 'identity'"),
    (lambda: bp.Dense(1, "relu", alpha=0.1), ValueError, "alpha: needs to be left out, 'relu' has none; got 0.1"),
    (lambda: bp.Dense(1, "elu", alpha=-1), ValueError, "alpha: needs a number >= 0, got -1"),
    (lambda: bp.Dense(1, bias=0), TypeError, "bias: needs True or False, got 0"),
    (lambda: bp.Dense(1, l1=-1), ValueError, "l1: needs a number >= 0, got -1"),
    (lambda: bp.Dense(1, l2=np.inf), ValueError, "l2: needs a finite number, got inf"),
    (lambda: bp.Dense(1, weight_init="he"), ValueError, "weight_init: needs one of 'auto', 'glorot_uniform'"),
    (lambda: bp.Dense(1, weight_init=None), TypeError, "weight_init: needs an array of real numbers, got None"),
    (lambda: bp.Dense(1, weight_init=[[np.nan]]), ValueError, "weight_init: needs finite numbers, got nan"),
    (lambda: bp.Dense(1, bias_init="he_normal"), ValueError, "bias_init: needs one of 'auto', 'zeros', 'ones', got"),
    (lambda: bp.SGD(learning_rate=0), ValueError, "learning_rate: needs a number > 0, got 0"),
    (lambda: bp.Adam(learning_rate=-1e-3), ValueError, "learning_rate: needs a number > 0, got -0.001"),
    (lambda: bp.Adam(learning_rate="fast"), TypeError, "learning_rate: needs a number, got 'fast'"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD_NETWORKS)
def test_bad_networks(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_a_subclass_of_a_loss_is_that_loss():
    class Mine(bp.losses.Huber):
        pass

    assert regressor().loss(X, NUMBERS, Mine(delta=0.3)) == regressor().loss(X, NUMBERS, bp.losses.Huber(delta=0.3))


def test_patience_without_end(backend):
    net = bp.mlp([2, 4, 1], seed=0, backend=backend)
    assert net.fit(X, NUMBERS, epochs=3, tolerance=1e9, patience=10**30).stop_reason == "epochs"


def test_counts_without_end(backend):
    """Of what no run comes to."""
    fleet = bp.Fleet(2, [bp.Dense(1)], size=2, seed=0, backend=backend)
    assert fleet.fit(X, NUMBERS, epochs=2, batch_size=10**30).epochs.tolist() == [2, 2]
    for averaging in (bp.callbacks.ExponentialMovingAverage, bp.callbacks.StochasticWeightAveraging):
        for never in (averaging(start=10**30), averaging(start=0, every_steps=10**30)):
            fleet.fit(X, NUMBERS, epochs=2, callbacks=[never])
            assert never.n_averaged.tolist() == [0, 0]


COUNTS = {
    "batch_size": lambda n: {"batch_size": n},
    "patience": lambda n: {"tolerance": 1.0, "patience": n},
    "EarlyStopping": lambda n: {"callbacks": [bp.callbacks.EarlyStopping("loss", patience=n)]},
    "cooldown": lambda n: {
        "callbacks": [bp.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=9.0, cooldown=n)]
    },
    "every": lambda n: {"callbacks": [bp.callbacks.LambdaCallback(on_epoch_end=print, every=n)]},
    "every_steps": lambda n: {"callbacks": [bp.callbacks.ExponentialMovingAverage(every_steps=n)]},
}


@pytest.mark.parametrize("n", [2**63, 10**400, 10**5000], ids=["64 bits", "no float", "too long to be written"])
@pytest.mark.parametrize("count", COUNTS)
def test_counts_that_no_run_comes_to_may_be_of_any_size(count, n, capsys):
    fleet = bp.Fleet(2, [bp.Dense(1)], size=2, seed=0)
    for model in (bp.mlp([2, 4, 1], seed=0), fleet):
        model.fit(X, NUMBERS, epochs=4, **COUNTS[count](n))
        assert np.all(model.history.epochs == 4)
        model.minimize(X, NUMBERS, max_iter=n)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "schedule",
    [
        lambda length: bp.schedules.StepDecay(length=length),
        lambda length: bp.schedules.Cosine(length=length),
        lambda length: bp.schedules.Warmup(length=length),
        lambda length: bp.schedules.OneCycle(length=length),
        lambda length: bp.schedules.Sequential(parts=[bp.schedules.Constant()] * 2, lengths=[length]),
    ],
)
def test_schedules_are_as_long_as_steps_can_be_counted(schedule):
    regressor().fit(X, NUMBERS, epochs=2, schedule=schedule(10**17))
    with pytest.raises(ValueError, match=r"length.*: needs an integer .* got 1000000000000000000000000000000$"):
        schedule(10**30)


def test_arrays_are_set_one_by_one():
    net = regressor()
    with pytest.raises(TypeError, match=r"index of weights: needs an integer, got slice"):
        net.weights[:] = [1, 2]
    net.weights[-1] = np.ones((4, 1))
    assert (net.weights[1] == 1).all()


# --- good input in any layout -----------------------------------------------------------------------------------------


def layouts(array, folder):
    """The same numbers in every kind of array."""
    yield "as it is", array
    yield "a list", array.tolist()
    yield "Fortran order", np.asfortranarray(array)
    wide = np.repeat(array, 2, axis=0)
    yield "every other row", wide[::2]
    wide = np.repeat(array, 3, axis=-1)
    yield "every third column", wide[..., ::3]
    yield "negative strides", array[::-1].copy()[::-1]
    yield "negative strides both ways", array[..., ::-1].copy()[..., ::-1]
    frozen = array.copy()
    frozen.flags.writeable = False
    yield "read-only", frozen
    yield "byte-swapped", array.astype(array.dtype.newbyteorder())
    unaligned = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    unaligned[...] = array
    assert array.itemsize == 1 or not unaligned.flags.aligned
    yield "unaligned", unaligned
    mapped = np.memmap(folder / "array.bin", array.dtype, "w+", shape=array.shape)
    mapped[...] = array
    mapped.flush()
    yield "memory-mapped", np.memmap(folder / "array.bin", array.dtype, "r", shape=array.shape)
    yield "a subclass", array.view(type("Mine", (np.ndarray,), {}))


@pytest.mark.parametrize("given", [np.float16, np.float32, np.float64, np.longdouble, np.int8, np.uint64, bool])
@pytest.mark.parametrize("rows", [1, 11])
def test_any_layout_gives_the_same_bits(given, rows, dtype, backend, tmp_path):
    rng = np.random.default_rng(0)
    X = (rng.integers(0, 2, (rows, 3)) if given in (bool, np.uint64) else rng.integers(-3, 4, (rows, 3))).astype(given)
    y = rng.integers(0, 2, (rows, 2)).astype(given)
    weight = np.arange(1, rows + 1).astype(given)

    def results(X, y, weight):
        net = bp.mlp([3, 5, 2], hidden="tanh", dtype=dtype, seed=1, backend=backend)
        first = net.predict(X)
        history = net.fit(X, y, sample_weight=weight, epochs=2, batch_size=4)
        return [first, net.parameters, history.loss, net.loss(X, y, sample_weight=weight)]

    plain = results(X.astype(dtype), y.astype(dtype), weight.astype(dtype))
    folders = [tmp_path / name for name in "Xyw"]
    for folder in folders:
        folder.mkdir()
    kinds = zip(layouts(X, folders[0]), layouts(y, folders[1]), layouts(weight, folders[2]), strict=True)
    for (kind, a), (_, b), (_, c) in kinds:
        # as float64, in which all of them are exact: the last bytes of a long double are padding, which may be anything
        before = [np.array(each, np.float64).tobytes() for each in (a, b, c)]
        for expected, got in zip(plain, results(a, b, c), strict=True):
            np.testing.assert_array_equal(got, expected, err_msg=kind)
        assert [np.array(each, np.float64).tobytes() for each in (a, b, c)] == before, kind


@pytest.mark.parametrize("given", [np.int8, np.uint8, np.int64, np.uint64, ">i4", bool])
def test_labels_in_any_layout(given, backend, tmp_path):
    labels = np.array([0, 1, 1, 0, 1]).astype(given)
    X = np.arange(10.0).reshape(5, 2)

    def trained(y):
        net = bp.mlp([2, 3, 2], output="softmax", seed=0, backend=backend)
        net.fit(X, y, epochs=2, batch_size=2)
        return net.parameters

    one_hot = np.eye(2)[labels.astype(int)]
    np.testing.assert_allclose(trained(one_hot), trained(labels), rtol=1e-6)
    for kind, y in layouts(labels, tmp_path):
        np.testing.assert_array_equal(trained(y), trained(labels), err_msg=kind)


# --- the checks themselves --------------------------------------------------------------------------------------------


@given(st.integers(-(10**30), 10**30))
def test_integers_pass_unchanged(value):
    assert check.integer("n", value) == value


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64, np.uint64])
def test_numpy_integers_are_integers(kind):
    result = check.integer("n", kind(7))
    assert result == 7
    assert type(result) is int


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_bounds(value, bound):
    for keyword, holds, sign in (
        ("above", value > bound, ">"),
        ("at_least", value >= bound, ">="),
        ("below", value < bound, "<"),
        ("at_most", value <= bound, "<="),
    ):
        if holds:
            assert check.number("x", value, **{keyword: bound}) == value
        else:
            with pytest.raises(ValueError, match=re.escape(f"x: needs a number {sign} {bound}, got {value}")):
                check.number("x", value, **{keyword: bound})


@given(st.floats(width=64))
def test_number_takes_every_finite_float_and_no_other(value):
    for number in (value, np.float64(value)):
        if np.isfinite(value):
            assert check.number("x", number) == value
        else:
            with pytest.raises(ValueError, match="x: needs a finite number"):
                check.number("x", number)


@pytest.mark.parametrize("value", [True, "1", None, 1j, [1.0], np.ones(1)])
def test_number_refuses_what_is_none(value):
    with pytest.raises(TypeError, match="x: needs a number, got"):
        check.number("x", value)


def test_a_huge_integer_is_not_a_finite_number():
    with pytest.raises(ValueError, match="x: needs a finite number, got 1000"):
        check.number("x", 10**400)


def test_an_array_in_the_right_form_is_not_copied():
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        array = np.ones((3, 2), dtype)
        assert check.features("X", array, dtype, 2) is array
