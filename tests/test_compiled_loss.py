"""Losses that other compilers made: they train as the library's own do, on every backend, in threads and in fleets."""

from __future__ import annotations

import copy
import ctypes
import gc
import pickle
import shutil
import subprocess
import sys
import weakref
from dataclasses import replace
from functools import partial

import backprop as bp
import numpy as np
import pytest
from backends import (
    COMPILED,
    N_ROWS,
    SETTINGS,
    distance,
    each_backend,
    each_dtype,
    each_settings,
    make_problem,
    module,
    train_and_validate,
)
from backprop.layers import Dense
from backprop.losses import BinaryCrossEntropy, Compiled, CrossEntropy, Custom, Huber, SquaredError
from backprop.optimizers import SGD, Adam

SOURCE = r"""
#include <math.h>
#include <stddef.h>
#define MANY_ROWS(real, name) /* the same for many rows, output by output */ \
    void name##_batch( \
        const real *a, const real *y, real *v, real *g, ptrdiff_t n_rows, ptrdiff_t n, void *user \
    ) { \
        for (ptrdiff_t r = 0; r < n_rows; r++) { \
            real one[3][32] = {{0}}; \
            for (ptrdiff_t i = 0; i < n; i++) \
                one[0][i] = a[i * n_rows + r], one[1][i] = y[i * n_rows + r]; \
            v[r] += name(one[0], one[1], one[2], n, user); \
            for (ptrdiff_t i = 0; i < n; i++) \
                g[i * n_rows + r] += one[2][i]; \
        } \
    }
#define LOSSES(real, name) \
    double squared_error_##name(const real *a, const real *y, real *g, ptrdiff_t n, void *user) { \
        double total = 0; \
        for (ptrdiff_t i = 0; i < n; i++) { \
            g[i] = 2 * (a[i] - y[i]) / n; \
            total += (double)(a[i] - y[i]) * (a[i] - y[i]) / n; \
        } \
        return total; \
    } \
    double cross_entropy_##name(const real *a, const real *y, real *g, ptrdiff_t n, void *user) { \
        double total = 0; \
        for (ptrdiff_t i = 0; i < n; i++) \
            if (y[i] > 0) { /* gradient is 0 when the function is called */ \
                g[i] = -y[i] / a[i]; \
                total -= y[i] * log(a[i]); \
            } \
        return total; \
    } \
    double binary_cross_entropy_##name(const real *a, const real *y, real *g, ptrdiff_t n, void *user) { \
        double total = 0; \
        for (ptrdiff_t i = 0; i < n; i++) { \
            g[i] = (a[i] - y[i]) / (a[i] * (1 - a[i])) / n; \
            total -= (y[i] * log(a[i]) + (1 - y[i]) * log(1 - a[i])) / n; \
        } \
        return total; \
    } \
    double scaled_##name(const real *a, const real *y, real *g, ptrdiff_t n, void *user) { \
        double total = 0; \
        for (ptrdiff_t i = 0; i < n; i++) { \
            g[i] = 2 * *(double *)user * (a[i] - y[i]); \
            total += *(double *)user * (a[i] - y[i]) * (a[i] - y[i]); \
        } \
        return total; \
    } \
    double nan_where_y_is_7_##name(const real *a, const real *y, real *g, ptrdiff_t n, void *user) { \
        g[0] = a[0]; \
        return y[0] == 7 ? NAN : 0.5 * a[0] * a[0]; \
    } \
    double nan_where_y_is_0_##name(const real *a, const real *y, real *g, ptrdiff_t n, void *user) { \
        g[0] = y[0] == 0 ? NAN : a[0] - y[0]; \
        return 0.5 * g[0] * g[0]; \
    } \
    double watching_##name(const real *a, const real *y, real *g, ptrdiff_t n, void *user) { \
        if (!isfinite(a[0])) *(int *)user = 1; \
        g[0] = -1e30; \
        return -1e30 * a[0]; \
    } \
    MANY_ROWS(real, squared_error_##name) \
    MANY_ROWS(real, cross_entropy_##name) \
    MANY_ROWS(real, binary_cross_entropy_##name) \
    MANY_ROWS(real, scaled_##name) \
    MANY_ROWS(real, nan_where_y_is_7_##name) \
    MANY_ROWS(real, nan_where_y_is_0_##name) \
    MANY_ROWS(real, watching_##name)
LOSSES(float, float32)
LOSSES(double, float64)
"""
REALS = {"float32": ctypes.c_float, "float64": ctypes.c_double}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler is here")
    folder = tmp_path_factory.mktemp("losses")
    (folder / "losses.c").write_text(SOURCE)
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", folder / "losses.so", folder / "losses.c", "-lm"]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(folder / "losses.so"))


@pytest.fixture(params=["", "_batch"], ids=["a row", "many rows"])
def compiled(library, request):
    """The loss of a name for both dtypes, with signatures."""
    return lambda name, **options: loss_of(library, name, request.param, **options)


def loss_of(library, name, way="", **options):
    functions = {dtype: typed(library, f"{name}_{dtype}{way}", real) for dtype, real in REALS.items()}
    return Compiled(functions, **options)


def typed(library, name, real):
    function = library[name]  # by item: a new object, so that others keep theirs without a signature
    array, size = ctypes.POINTER(real), ctypes.c_ssize_t
    if name.endswith("_batch"):
        function.argtypes, function.restype = [array] * 4 + [size, size, ctypes.c_void_p], None
    else:
        function.argtypes, function.restype = [array] * 3 + [size, ctypes.c_void_p], ctypes.c_double
    return function


@pytest.fixture
def pointer(library):
    return ctypes.cast(library.squared_error_float64, ctypes.c_void_p).value


# ---- training ----

PAIRS = [
    (SquaredError(), "tanh"),
    (SquaredError(reduction="sum", scale=3 * 0.01), "softmax"),
    (SquaredError(), "prelu"),
    (CrossEntropy(), "softmax"),
    (BinaryCrossEntropy(), "sigmoid"),
]
each_pair = pytest.mark.parametrize(("loss", "output"), PAIRS, ids=[f"{loss.name}-{output}" for loss, output in PAIRS])


def some(loss, output, **options):
    dense = [
        Dense(8, "tanh", l2=0.01, dropout=0.3),
        Dense(17, "silu", l1=0.01, max_norm=1.5),
        Dense(3, output, l2=0.1),
    ]
    problem = make_problem(3, dense, loss, N_ROWS, **options)
    return problem, make_problem(3, dense, loss, 13, **options, seed=1).data


def own(compiled, loss):
    """The compiled loss of that name, which is a mean over outputs by itself."""
    scale = loss.scale * (3 if loss.reduction == "sum" else 1)
    return compiled(loss.name, reduction=loss.reduction, scale=scale)


@each_backend
@each_pair
@each_settings
@pytest.mark.parametrize("weighted", [True, False])
def test_trains_as_the_librarys_own(backend, compiled, loss, output, settings, weighted):
    """Parameters, slots, losses and validation losses: rounding only, as with custom losses."""
    settings = replace(settings, clip_norm=0.7, penalty_per_row=weighted, monitor="val_loss", keep_best=True)
    optimizer = Adam(epsilon=1e-2)
    for labels in (True, False):
        problem, validation = some(loss, output, weighted=weighted, labels=labels)
        state, losses, validated, _ = train_and_validate(backend, problem, optimizer, settings, 4, validation)
        problem = replace(problem, loss=own(compiled, loss))
        other, *others, _ = train_and_validate(backend, problem, optimizer, settings, 4, validation)
        assert distance(others[0], losses) <= 1e-12
        assert distance(others[1], validated) <= 1e-12
        for name in ("parameters", "slots", "best_parameters"):
            assert distance(getattr(other, name), getattr(state, name)) <= 1e-11, name


@each_backend
@each_pair
def test_in_float32(backend, compiled, loss, output):
    """Some hundred operations with an error of 1e-7 each."""
    problem, validation = some(loss, output)
    problem, validation = problem.cast(np.float32), replace(problem, data=validation).cast(np.float32).data
    state, *losses, _ = train_and_validate(backend, problem, SGD(), SETTINGS["3"], 3, validation)
    problem = replace(problem, loss=own(compiled, loss))
    other, *others, _ = train_and_validate(backend, problem, SGD(), SETTINGS["3"], 3, validation)
    assert distance(other.parameters, state.parameters) <= 1e-5
    assert distance(others, losses) <= 1e-5


@each_backend
@each_settings
@pytest.mark.parametrize("sizes", [[2, 2, 1], [3, 20, 1], [2, 3, 20]])
@pytest.mark.parametrize(("n_rows", "n_others"), [(5, 2), (1, 1)])
def test_every_pass(backend, compiled, settings, sizes, n_rows, n_others):
    """Tiny networks, one row, a few rows, wide ones, and validation rows in the lanes that a tiny batch leaves free."""
    dense = [Dense(units, "tanh") for units in sizes[1:]]
    problem = make_problem(sizes[0], dense, SquaredError(), n_rows)
    validation = make_problem(sizes[0], dense, SquaredError(), n_others, seed=1).data
    one, *losses, _ = train_and_validate(backend, problem, SGD(), settings, 5, validation)
    other, *others, _ = train_and_validate(
        backend, replace(problem, loss=compiled("squared_error")), SGD(), settings, 5, validation
    )
    assert distance(other.parameters, one.parameters) <= 1e-13
    assert distance(others, losses) <= 1e-13


@each_dtype
def test_same_bits_for_threads_and_instruction_sets(compiled, dtype):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(3000, 5)).astype(dtype), rng.integers(4, size=3000)
    found = set()
    for backend in COMPILED:
        if backend == "baseline":  # it has no fused multiply-add
            continue
        for n_threads in (1, 2, 3):
            net = bp.mlp([5, 40, 4], output="softmax", dtype=dtype, backend=backend, seed=0)
            loss = compiled("cross_entropy")
            net.fit(X, y, loss=loss, batch_size=1000, epochs=3, n_threads=n_threads, progress=False)
            found.add(net.parameters.tobytes())
    assert len(found) <= 1


@each_backend
@each_dtype
@pytest.mark.parametrize("batch_size", [1, 4, None])
@pytest.mark.parametrize("own_rows", [True, False])
def test_a_fleet_has_the_bits_of_each_alone(backend, compiled, dtype, batch_size, own_rows):
    """In lanes and one by one; unequal rows fill lanes up with samples that the function must not count."""
    loss = compiled("cross_entropy")
    rng = np.random.default_rng(1)
    n_rows = [5 + k % 3 if own_rows else 6 for k in range(35)]
    X = [rng.normal(size=(n, 3)) for n in n_rows] if own_rows else rng.normal(size=(6, 3))
    y = [rng.integers(3, size=n) for n in n_rows] if own_rows else rng.integers(3, size=6)
    dense = [Dense(6, "tanh"), Dense(3, "softmax")]
    fleet = bp.Fleet(3, dense, size=35, seed=0, dtype=dtype, backend=backend)
    fleet.fit(X, y, loss=loss, optimizer="adam", batch_size=batch_size, epochs=3, progress=False)
    for k in (0, 7, 34):
        net = bp.Network(3, dense, seed=k, dtype=dtype, backend=backend)
        rows = (X[k], y[k]) if own_rows else (X, y)
        net.fit(*rows, loss=loss, optimizer="adam", batch_size=batch_size, epochs=3, progress=False)
        np.testing.assert_array_equal(fleet[k].parameters, net.parameters)
        np.testing.assert_array_equal(fleet[k].history["loss"], net.history["loss"])


@each_backend
def test_loss_gradients_and_minimize(backend, compiled):
    rng = np.random.default_rng(2)
    X, Y, weight = rng.normal(size=(12, 3)), rng.normal(size=(12, 2)), rng.uniform(0, 1, 12)
    net = bp.mlp([3, 4, 2], dtype="float64", seed=0, backend=backend)
    loss = compiled("squared_error")
    value, gradients = net.loss_and_gradients(X, Y, loss=loss, sample_weight=weight)
    expected, others = net.loss_and_gradients(X, Y, loss="squared_error", sample_weight=weight)
    assert value == pytest.approx(expected, rel=1e-13)
    for ours, theirs in zip(gradients, others, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)
    ours = net.input_gradients(X, Y, loss=loss)
    np.testing.assert_allclose(ours, net.input_gradients(X, Y, loss="squared_error"), rtol=1e-12, atol=1e-15)
    assert net.evaluate(X, Y, loss=loss, metrics="r2")["loss"] == pytest.approx(net.loss(X, Y, loss="squared_error"))
    other = copy.deepcopy(net)
    net.minimize(X, Y, loss=loss, max_iter=20, progress=False)
    other.minimize(X, Y, loss="squared_error", max_iter=20, progress=False)
    np.testing.assert_allclose(net.parameters, other.parameters, rtol=1e-6)
    with pytest.raises(ValueError, match=r"loss: needs one of .* for method='lm', got 'compiled'"):
        net.minimize(X, Y, loss=loss, method="lm")


@pytest.mark.parametrize("way", ["", "_batch"], ids=["a row", "many rows"])
@each_backend
def test_minimize_needs_a_function_for_float64(backend, library, way):
    """Whatever the network's dtype: it computes in float64."""
    X, y = np.random.default_rng(2).normal(size=(12, 3)), np.random.default_rng(3).normal(size=(12, 2))
    both = loss_of(library, "squared_error", way)
    single, double = (Compiled(typed(library, f"squared_error_{dtype}{way}", real)) for dtype, real in REALS.items())
    net, twin = (bp.mlp([3, 4, 2], seed=0, backend=backend) for _ in range(2))
    fleet = bp.Fleet(3, [bp.Dense(4, "tanh"), bp.Dense(2)], size=2, seed=0, backend=backend)
    calls = (
        partial(net.minimize, X, y, max_iter=3, validation_data=(X, y)),
        partial(net.minimize, X, y, max_iter=3, method="L-BFGS-B"),
        partial(fleet.minimize, X, y, max_iter=3, validation_data=(X, y)),
    )
    for call in calls:
        with pytest.raises(ValueError, match="loss: needs a function for float64, got one for float32"):
            call(loss=single)
        call(loss=double)
    for method in ("lbfgs", "L-BFGS-B"):
        twin.minimize(X, y, loss=both, max_iter=3, method=method)
    np.testing.assert_array_equal(net.parameters, twin.parameters)
    for call in (net.fit, partial(bp.check_gradients, net, method="central_difference")):
        with pytest.raises(ValueError, match="loss: needs a function for float32, got one for float64"):
            call(X, y, loss=double)


@each_backend
def test_gradient_check(backend, compiled):
    X, y = np.random.default_rng(3).normal(size=(6, 2)), [0, 1, 2, 0, 1, 2]
    net = bp.mlp([2, 4, 3], hidden="tanh", output="softmax", dtype="float64", seed=0, backend=backend)
    loss = compiled("cross_entropy")
    assert bp.check_gradients(net, X, y, loss=loss, method="central_difference").passed
    with pytest.raises(ValueError, match="method: needs 'central_difference' for a loss of your own"):
        bp.check_gradients(net, X, y, loss=loss)
    with pytest.raises(ValueError, match="loss: needs one of the library for trace"):
        net.trace(X, y, loss=loss)
    with pytest.raises(ValueError, match="loss: needs one of the library, whose second derivatives are known"):
        net.hessian_vector_product(X, y, np.ones(net.n_parameters), loss=loss)
    rows = net.gradients_per_row(X, y, loss=loss)
    np.testing.assert_allclose(rows, net.gradients_per_row(X, y, loss="cross_entropy"), rtol=1e-10, atol=1e-14)


@each_backend
@pytest.mark.parametrize("sizes", [[1, 1], [1, 20, 1]])
def test_nan_is_divergence(backend, compiled, sizes):
    net = bp.mlp(sizes, dtype="float64", seed=0, backend=backend)
    with pytest.raises(bp.DivergedError):
        net.fit([[1.0], [2.0]], [0.0, 7.0], loss=compiled("nan_where_y_is_7"), epochs=3, progress=False)


@each_backend
@each_dtype
@pytest.mark.parametrize("batch_size", [1, 3, None])
@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("n_rows", [21, 300])
def test_many_rows_at_once_have_the_bits_of_each(backend, library, dtype, batch_size, labels, n_rows):
    rng = np.random.default_rng(8)
    X, y = rng.normal(size=(n_rows, 3)), rng.integers(4, size=n_rows)
    found = []
    for way in ("", "_batch"):
        net = bp.mlp([3, 9, 4], output="softmax", dtype=dtype, backend=backend, seed=0)
        net.fit(
            X, y if labels else np.eye(4)[y], loss=loss_of(library, "cross_entropy", way), batch_size=batch_size,
            validation_data=(X[:5], y[:5] if labels else np.eye(4)[y[:5]]), epochs=3, progress=False,
        )  # fmt: skip
        found.append((net.parameters.tobytes(), *(net.history[name].tobytes() for name in ("loss", "val_loss"))))
    assert found[0] == found[1]


@pytest.mark.parametrize("backend", COMPILED)
@each_dtype
@pytest.mark.parametrize("n_rows", [3, 70])
def test_rows_of_weight_0_and_rows_that_nobody_asked_for_add_nothing(backend, compiled, dtype, n_rows):
    """Whatever the function finds for them, which here is NaN."""
    rng = np.random.default_rng(9)
    X, y, weight = rng.normal(size=(n_rows, 2)), np.ones(n_rows), np.ones(n_rows)
    y[1] = weight[1] = 0
    loss = compiled("nan_where_y_is_0")
    net = bp.mlp([2, 5, 1], dtype=dtype, backend=backend, seed=0)
    net.fit(X, y, loss=loss, sample_weight=weight, batch_size=n_rows // 2, epochs=3, progress=False)
    fleet = bp.Fleet(2, [Dense(5, "tanh"), Dense(1)], size=3, seed=0, dtype=dtype, backend=backend)
    fleet.fit([X, X[:2], X], [y, y[:2], y], loss=loss, sample_weight=[weight, weight[:2], weight], epochs=3)
    for one in (net, *fleet):
        assert np.isfinite(one.parameters).all()
        assert np.isfinite(one.history["loss"]).all()


@each_backend
@pytest.mark.parametrize("batch_size", [1, None])
def test_sees_finite_outputs_only(backend, library, batch_size):
    """Row by row; among many rows at once, it has to stand them."""
    seen = np.zeros(1, np.int32)
    net = bp.mlp([1, 1], dtype="float64", seed=0, backend=backend)
    loss = loss_of(library, "watching", user=seen)
    with pytest.raises(bp.DivergedError):
        net.fit([[1e300], [1e300]], [0.0, 7.0], loss=loss, optimizer="sgd", batch_size=batch_size, progress=False)
    assert not seen[0]


@each_backend
@pytest.mark.parametrize("way", ["", "_batch"])
def test_the_loss_of_outputs_that_are_not_finite_is_nan(backend, library, way):
    """Whatever the function makes of them, here -inf; its finite gradient does not count, either."""
    net = bp.mlp([1, 1], dtype="float64", seed=0, backend=backend)
    net.parameters[:] = 1e200
    loss = loss_of(library, "watching", way, user=np.zeros(1, np.int32))
    value, gradients = net.loss_and_gradients([[1e200], [1.0]], [0.0, 0.0], loss=loss)
    assert np.isnan(value)
    assert all(np.isnan(array).all() for array in gradients[0])


def test_estimators(compiled):
    sklearn = pytest.importorskip("sklearn")
    from backprop.sklearn import MLPClassifier, MLPRegressor

    rng = np.random.default_rng(4)
    X = rng.normal(size=(60, 3))
    for y in (np.where(X[:, 0] > 0, "a", "b"), rng.choice(["a", "b", "c"], 60)):
        name = "cross_entropy" if len(np.unique(y)) > 2 else "binary_cross_entropy"
        one = MLPClassifier(hidden_layer_sizes=(5,), loss=compiled(name), max_iter=20, random_state=0, tol=0)
        other = sklearn.clone(one).set_params(loss="log_loss")
        with pytest.warns(sklearn.exceptions.ConvergenceWarning):
            np.testing.assert_allclose(one.fit(X, y).predict_proba(X), other.fit(X, y).predict_proba(X), atol=1e-6)
    regressor = MLPRegressor(hidden_layer_sizes=(5,), loss=compiled("squared_error"), max_iter=5, random_state=0)
    with pytest.warns(sklearn.exceptions.ConvergenceWarning):
        assert np.isfinite(regressor.fit(X, X[:, 0]).predict(X)).all()


def test_metrics_and_history(compiled):
    X, y = np.random.default_rng(5).normal(size=(20, 2)), np.arange(20) % 2
    net = bp.mlp([2, 3, 1], output="sigmoid", seed=0)
    loss = compiled("binary_cross_entropy")
    one = net.fit(X, y, loss=loss, metrics="accuracy", validation_split=0.2, epochs=2, progress=False)
    other = bp.mlp([2, 3, 1], output="sigmoid", seed=0).fit(
        X, y, metrics="accuracy", validation_split=0.2, epochs=2, progress=False
    )
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-5)


# ---- what it takes ----


@each_backend
def test_user_data(backend, library, compiled):
    """An array, a ctypes object, a pointer, an address: the same numbers."""
    factor = np.array([0.5])
    number = ctypes.c_double(0.5)
    users = [factor, factor.ctypes.data, number, ctypes.pointer(number), ctypes.c_void_p(ctypes.addressof(number))]
    net = bp.mlp([1, 1], dtype="float64", seed=0, backend=backend)
    values = {net.loss([[1.0]], [3.0], loss=compiled("scaled", user=user)) for user in users}
    assert values == {net.loss([[1.0]], [3.0], loss=SquaredError(scale=0.5))}


def test_keeps_what_it_needs_alive(compiled):
    user = np.array([2.0])
    alive = weakref.ref(user)
    loss = compiled("scaled", user=user)
    del user
    gc.collect()
    assert alive() is not None
    assert loss.value(np.array([[1.0]]), np.array([[0.0]])) == 2


def test_low_level_callable(library):
    scipy = pytest.importorskip("scipy")
    function = typed(library, "scaled_float64", ctypes.c_double)
    number = ctypes.c_double(0.25)
    user = ctypes.cast(ctypes.pointer(number), ctypes.c_void_p)
    called = scipy.LowLevelCallable(function, user)
    net = bp.mlp([1, 1], dtype="float64", seed=0)
    expected = net.loss([[1.0]], [3.0], loss=SquaredError(scale=0.25))
    assert net.loss([[1.0]], [3.0], loss=Compiled(called)) == expected
    assert net.loss([[1.0]], [3.0], loss=Compiled(tuple.__getitem__(called, 0))) == expected  # a capsule
    with pytest.raises(ValueError, match="user: needs None beside a LowLevelCallable"):
        Compiled(called, user=user)


@pytest.mark.parametrize(
    "signature",
    [
        "double (double const *, double const *, double *, Py_ssize_t, void *)",
        "double (double *, double *, double *, ptrdiff_t, void *)",
        "void (const double *, const double *, double *, double *, ptrdiff_t, ptrdiff_t, void *)",
    ],
)
def test_capsule_of_cython(pointer, signature):
    name = signature.encode()
    new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    capsule = new(("PyCapsule_New", ctypes.pythonapi))(pointer, name, None)
    loss = Compiled(capsule)
    assert loss.pointers("float64") == (pointer, 0, signature.startswith("void"))
    with pytest.raises(ValueError, match="needs a function for float32, got one for float64"):
        Compiled(capsule, dtype="float32")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numba(dtype):
    numba = pytest.importorskip("numba")
    real = numba.types.CPointer(getattr(numba.types, dtype))
    signature = numba.types.double(real, real, real, numba.types.intp, numba.types.voidptr)

    @numba.cfunc(signature)
    def huber(outputs, targets, gradient, n, user):
        total = 0.0
        for i in range(n):
            error = outputs[i] - targets[i]
            clipped = min(max(error, -1), 1)
            gradient[i] = clipped
            total += clipped * (error - 0.5 * clipped)
        return total

    X = np.random.default_rng(6).normal(size=(20, 2))
    nets = [bp.mlp([2, 4, 1], dtype=dtype, seed=0) for _ in range(2)]
    for net, loss in zip(nets, (Compiled(huber), Huber()), strict=True):
        net.fit(X, 3 * X[:, 0], loss=loss, epochs=20, progress=False)
    np.testing.assert_allclose(nets[0].parameters, nets[1].parameters, rtol=1e-4 if dtype == "float32" else 1e-12)
    other = bp.mlp([2, 1], dtype="float64" if dtype == "float32" else "float32")
    with pytest.raises(ValueError, match=rf"loss: needs a function for {other.dtype}, got one for {dtype}; Compiled\("):
        other.loss(X, X[:, 0], loss=Compiled(huber))
    with pytest.raises(TypeError, match=r"cfunc\(signature\) makes one, njit does not"):
        Compiled(numba.njit(lambda x: x))


def test_by_numba(monkeypatch):
    """A function of one output and its target: a mean over the outputs, or a sum, as the library's."""
    pytest.importorskip("numba")

    def huber(output, target):
        error = output - target
        clipped = min(max(error, -1), 1)
        return clipped * (error - 0.5 * clipped), clipped

    X, Y = np.random.default_rng(6).normal(size=(2, 70, 2))
    for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-12)):
        for reduction, scale in (("mean", 2.0), ("sum", 0.01)):
            loss = Compiled.by_numba(huber, scale=scale, reduction=reduction)
            nets = [bp.mlp([2, 4, 2], dtype=dtype, seed=0) for _ in range(2)]
            for net, each in zip(nets, (loss, Huber(scale=scale, reduction=reduction)), strict=True):
                net.fit(X, Y, loss=each, epochs=20, batch_size=32, progress=False)
            np.testing.assert_allclose(nets[0].parameters, nets[1].parameters, rtol=tolerance, atol=tolerance)
    for wrong in (lambda output, target: output - target, lambda output: (output, 1.0)):
        with pytest.raises(TypeError, match=r"^function: needs a function of an output and its target that returns"):
            Compiled.by_numba(wrong)
    with pytest.raises(TypeError, match=r"^function: needs a function of an output and its target, got 'huber'"):
        Compiled.by_numba("huber")
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ImportError, match=r"Compiled\.by_numba: needs numba, pip install numba"):
        Compiled.by_numba(huber)


def test_what_it_refuses(library, pointer):
    assert Compiled(pointer, "float64").pointers(np.float64) == (pointer, 0, False)
    with pytest.raises(ValueError, match="dtype: needs 'float32' or 'float64', as function does not say"):
        Compiled(pointer)
    with pytest.raises(ValueError, match="dtype: needs 'float32' or 'float64', as function does not say"):
        Compiled(library["squared_error_float64"])
    with pytest.raises(ValueError, match="function: needs an address other than 0, got 0"):
        Compiled(0, dtype="float64")
    with pytest.raises(TypeError, match=r"function: needs a function pointer: .* see losses\.Custom"):
        Compiled(lambda outputs, targets: 0)
    with pytest.raises(TypeError, match="function: needs a function pointer"):
        Compiled(None)
    with pytest.raises(ValueError, match="dtype: needs None beside functions for each dtype"):
        Compiled({"float64": pointer}, dtype="float64")
    with pytest.raises(ValueError, match="function: needs a function for 'float32' or 'float64', got none"):
        Compiled({})
    with pytest.raises(ValueError, match="function: needs 'float32' or 'float64', got 'int8'"):
        Compiled({"int8": pointer})
    with pytest.raises(TypeError, match="user: needs an address, a ctypes object, an array or None, got 'here'"):
        Compiled(pointer, dtype="float64", user="here")
    with pytest.raises(ValueError, match="user: needs a C-contiguous array"):
        Compiled(pointer, dtype="float64", user=np.zeros((4, 4))[:, 0])
    with pytest.raises(ValueError, match="scale: needs a number > 0"):
        Compiled(pointer, dtype="float64", scale=0)
    with pytest.raises(TypeError, match="batched: needs True or False"):
        Compiled(pointer, dtype="float64", batched="yes")


def test_how_many_rows_is_said_or_read_off_the_signature(library, pointer):
    assert Compiled(pointer, "float64", batched=True).pointers("float64").batched
    one, many = (typed(library, f"scaled_float64{way}", ctypes.c_double) for way in ("", "_batch"))
    assert not Compiled(one, batched=False).pointers("float64").batched
    assert Compiled(many, batched=True).pointers("float64").batched
    with pytest.raises(ValueError, match=r"function: needs the signature `void f\(.* for batched=True, got the other"):
        Compiled(one, batched=True)
    with pytest.raises(
        ValueError, match=r"function: needs the signature `double f\(.* for batched=False, got the other"
    ):
        Compiled(many, batched=False)


@pytest.mark.parametrize(
    ("result", "arguments"),
    [
        (ctypes.c_double, ["double*", "double*", "double*", "long"]),
        (ctypes.c_float, ["double*", "double*", "double*", "long", "void*"]),
        (ctypes.c_double, ["double*", "float*", "double*", "long", "void*"]),
        (ctypes.c_double, ["long*", "long*", "long*", "long", "void*"]),
        (ctypes.c_double, ["double*", "double*", "double*", "int", "void*"]),
        (ctypes.c_double, ["double*", "double*", "double*", "long", "double"]),
        (None, ["double*", "double*", "double*", "long", "void*"]),
        (None, ["double*", "double*", "double*", "float*", "long", "long", "void*"]),
        (ctypes.c_double, ["double*", "double*", "double*", "double*", "long", "long", "void*"]),
    ],
)
def test_signatures_are_checked(library, result, arguments):
    kinds = {
        "double*": ctypes.POINTER(ctypes.c_double), "float*": ctypes.POINTER(ctypes.c_float), "int": ctypes.c_int32,
        "long*": ctypes.POINTER(ctypes.c_long), "long": ctypes.c_ssize_t, "void*": ctypes.c_void_p,
        "double": ctypes.c_double,
    }  # fmt: skip
    function = library["squared_error_float64"]
    function.restype, function.argtypes = result, [kinds[argument] for argument in arguments]
    with pytest.raises(TypeError, match=r"function: needs the signature `double f\(const real \*outputs, .* got `"):
        Compiled(function)


def test_targets(compiled):
    net = bp.mlp([1, 3], seed=0)
    loss = compiled("squared_error")
    for y in ([[1.0, -2.0, 7.5]], [2]):
        assert np.isfinite(net.loss([[1.0]], y, loss=loss))
    assert net.loss([[1.0]], [2], loss=loss) == net.loss([[1.0]], [[0.0, 0.0, 1.0]], loss=loss)
    with pytest.raises(ValueError, match=r"y: needs shape \(n, 3\) or integer class labels of shape \(n,\)"):
        net.loss([[1.0]], [[1.0]], loss=loss)
    with pytest.raises(ValueError, match=r"y: needs class labels in 0 \.\. 2"):
        net.loss([[1.0]], [3], loss=loss)


# ---- copies and files ----


def test_copies_are_itself_and_pickles_refused(compiled, tmp_path):
    loss = compiled("squared_error")
    assert copy.copy(loss) is loss
    assert copy.deepcopy(loss) is loss
    assert replace(loss, scale=2.0).pointers("float32") == loss.pointers("float32")
    assert loss != replace(loss, scale=2.0)
    with pytest.raises(TypeError, match=r"losses\.Compiled: cannot be pickled or sent to another process"):
        pickle.dumps(loss)
    net = bp.mlp([1, 2, 1], seed=0)
    net.fit([[1.0]], [2.0], loss=loss, epochs=2, progress=False)
    net.save(tmp_path / "net.bp")  # without the loss
    np.testing.assert_array_equal(bp.load(tmp_path / "net.bp").parameters, net.parameters)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(net)).parameters, net.parameters)


def test_against_a_function_of_python(compiled):
    """The same loss as a function of Python: the same numbers, rounding apart."""
    X, y = np.random.default_rng(7).normal(size=(10, 2)), np.zeros((10, 1))
    nets = [bp.mlp([2, 3, 1], dtype="float64", seed=0) for _ in range(2)]
    function = Custom(lambda a, y: (np.mean((a - y) ** 2), 2 * (a - y) / len(a)))
    for net, loss in zip(nets, (compiled("squared_error"), function), strict=True):
        net.fit(X, y, loss=loss, batch_size=3, epochs=5, progress=False)
    np.testing.assert_allclose(nets[0].parameters, nets[1].parameters, rtol=1e-12)


def test_dtype_is_found_for_the_module(compiled):
    """The core asks for the function of its own dtype."""
    for dtype in (np.float32, np.float64):
        assert module("reference", dtype).LOSSES == bp.backends.choice.default().module(dtype).LOSSES
        assert compiled("scaled", user=1).pointers(dtype)[1] == 1
