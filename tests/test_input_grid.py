"""Arrays of every kind into every public function: the right result or a documented exception, and no input changed.

The functions are found by their annotations: whatever takes an ``ArrayLike`` is tested, with an argument from
`arguments` for each parameter. What is added later is tested at once, or fails here for want of an argument.
scikit-learn annotates nothing, and so do its estimators here: `UNTYPED` has the parameters of theirs that are arrays.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle, pairwise, product
from types import ModuleType
from typing import Any
from unittest import mock

import backprop as bp
import numpy as np
import pytest
from backprop.backends import choice
from backprop.history import History
from backprop.model.views import Views
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

try:
    from backprop.sklearn import MLPClassifier, MLPEnsembleClassifier, MLPEnsembleRegressor, MLPRegressor
    from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, UndefinedMetricWarning
except ImportError:
    ESTIMATORS: tuple[type, ...] = ()
    ENSEMBLES: tuple[type, ...] = ()
    IGNORED: tuple[type[Warning], ...] = (PendingDeprecationWarning,)  # numpy.matrix
else:
    ESTIMATORS = MLPClassifier, MLPRegressor
    ENSEMBLES = MLPEnsembleClassifier, MLPEnsembleRegressor
    # short runs; columns where rows were meant; R² of one row
    IGNORED = PendingDeprecationWarning, ConvergenceWarning, DataConversionWarning, UndefinedMetricWarning

# On a busy machine nothing is slow.
SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

EXPECTED = (TypeError, ValueError, bp.DivergedError)
N = 7
SIZE = 3  # of a fleet
BASES = *bp.Network.__mro__[1:], *bp.Fleet.__mro__[1:]  # networks and fleets have their methods


# ---- the functions ----


def modules() -> Iterator[ModuleType]:
    """The package's own modules; those that need what is not installed are left out.

    Also private ones: their objects may be handed out, as `Network.weights` is.
    """
    for info in pkgutil.walk_packages(bp.__path__, "backprop."):
        if not info.name.startswith(("backprop._core", "backprop._cpu", "backprop.__", "backprop.reference")):
            try:
                yield importlib.import_module(info.name)
            except ImportError as error:
                if (error.name or "").startswith("backprop"):
                    raise


@dataclass(frozen=True)
class Entry:
    """A public function, or a method of `owner`, and one of its parameters that takes arrays."""

    name: str
    function: Callable[..., Any]
    owner: type | None
    parameter: str

    def __str__(self) -> str:
        return f"{self.name}({self.parameter})"


# Packages whose functions users do not call by these names; public modules list in __all__ what is made of them.
INNER = ("base", "backends", "model", "files", "learn", "explain", "export")


def functions() -> Iterator[tuple[str, Callable[..., Any], type | None]]:
    for module in modules():
        if module.__name__.startswith("backprop.sklearn."):  # what is public of them, the package has
            continue
        for name, thing in vars(module).items():
            own = getattr(thing, "__module__", None) == module.__name__
            if name.startswith("_") or not (own or name in getattr(module, "__all__", ())):
                continue
            if inspect.isfunction(thing) and module.__name__.split(".")[1] not in INNER and "._" not in module.__name__:
                yield f"{module.__name__}.{name}", thing, None
            elif inspect.isclass(thing) and own and thing not in BASES:
                for method, function in inspect.getmembers(thing):
                    if isinstance(function, property):
                        function, method = function.fset, f"{method}="
                    public = not method.startswith("_") or method in ("__init__", "__call__", "__setitem__")
                    if public and inspect.isfunction(function) and function.__module__.startswith("backprop"):
                        yield f"{module.__name__}.{name}.{method}", function, thing


# Of an estimator that classifies, they may be anything that has an order.
LABELS = ("y", "y_val", "classes")

UNTYPED = {
    "fit": ("X", "y", "sample_weight", "X_val", "y_val", "sample_weight_val"),
    "partial_fit": ("X", "y", "sample_weight", "classes"),
    "predict": ("X",),
    "predict_proba": ("X",),
    "predict_log_proba": ("X",),
    "score": ("X",),  # the others go to scikit-learn as they are
}

ENTRIES = [
    Entry(name, function, owner, parameter.name)
    for name, function, owner in functions()
    for parameter in inspect.signature(function).parameters.values()
    if any(word in str(parameter.annotation) for word in ("ArrayLike", "Rows"))
] + [
    Entry(f"{owner.__module__}.{owner.__name__}.{method}", getattr(owner, method), owner, parameter)
    for owner in ESTIMATORS
    for method, parameters in UNTYPED.items()
    if hasattr(owner, method)
    for parameter in parameters
    if parameter in inspect.signature(getattr(owner, method)).parameters
]


# ---- their arguments ----


def network(backend: str, dtype: str, task: str, hidden: str = "tanh") -> bp.Network:
    output = {"regression": bp.Dense(1), "classification": bp.Dense(3, "softmax")}[task]
    return bp.Network(2, [bp.Dense(4, hidden), output], dtype=dtype, seed=1, backend=backend)


def arguments(net: bp.Network, owner: type | None, task: str) -> dict[str, Any]:
    """An argument for every parameter that has no default, for every one that takes arrays, and for what takes long.

    The numbers are such that float16 and int8 hold them: multiples of 1/4, and whole ones where labels are meant.
    """
    X = np.array([[(5 * i + 3 * j) % 9 - 4 for j in range(2)] for i in range(N)]) / 4
    labels = np.arange(N) % 3
    y = labels if is_classification(owner, task) else X.sum(axis=1)
    weight = np.arange(1.0, N + 1) / 4
    values: Any = net.weights[0] * 0 + 0.25 if owner is Views else net.parameters * 0 + 0.25
    return {
        "X": X,
        "y": y,
        "sample_weight": weight,
        "X_val": X,
        "y_val": y,
        "sample_weight_val": weight,
        "classes": np.arange(3),
        "head": np.arange(N * net.n_outputs).reshape(N, -1) / 4 - 1,
        "values": np.asarray(values, np.float64),
        "v": np.full(net.n_parameters, 0.25),
        "gradients": np.full(net.n_parameters, 0.25),
        "learning_rate": np.arange(1.0, SIZE + 1) / 4,
        "l1": np.arange(1.0, SIZE + 1) / 4,
        "l2": np.arange(1.0, SIZE + 1) / 4,
        "dropout": np.arange(1.0, SIZE + 1) / 4,
        "q": np.array([0.25, 0.5, 0.75]),
        "x0": np.array([0.5, -0.25]),
        "f": lambda x: (x * x).sum(),
        "k": 0,
        "net": net,
        "network": net,
        "history": np.arange(N, 0, -1) / 4,
        "validation_data": X,
        "outputs": np.arange(N) % 5 / 4,  # of curves
        "targets": np.arange(N) % 2,
        "path": np.outer(np.arange(4) / 4, np.ones(net.n_parameters)),
        "loss": "auto",
        "optimizer": "adam",
        "finite_differences": True,
        "epochs": 2,
        "steps": 10,
        "batch_sizes": (2, N),
        "resolution": 10,
        "progress": False,
        "n_threads": 1,
        "random_state": 0,
        "seed": 0,
    }


def is_classification(owner: type | None, task: str) -> bool:
    """An estimator has its own task, and a posterior is one of real targets."""
    if owner is bp.Laplace:
        return False
    known = owner in (*ESTIMATORS, *ENSEMBLES)
    return "Classifier" in owner.__name__ if known and owner is not None else task == "classification"


def instance(owner: type, net: bp.Network, method: str, given: Mapping[str, Any]) -> Any:
    """An object whose method is to be called; what learns has learned before it predicts."""
    if owner is bp.Network:
        return net
    if owner is Views:
        return net.weights
    if owner is bp.Fleet:
        return bp.Fleet.of([net] * SIZE)
    if owner is bp.Laplace:
        return bp.Laplace(net, given["X"], given["y"], alpha=1.0, beta=4.0)
    known = inspect.signature(owner).parameters
    if owner in (*ESTIMATORS, *ENSEMBLES):
        given = {name: value for name, value in given.items() if name not in ("learning_rate", "dropout")}
        given = {**given, "loss": known["loss"].default, "hidden_layer_sizes": 4, "max_iter": 3, "dtype": net.dtype}
    made = owner(**{name: value for name, value in given.items() if name in known and name not in ("X", "y")})
    if hasattr(made, "fit") and method not in ("fit", "partial_fit"):
        made.fit(given["X"], given["y"])
    return made


def hidden_for(entry: Entry) -> str:
    """The activation of the hidden layer: one with slopes where they are meant."""
    return "prelu" if "slopes" in entry.name else "tanh"


def of_layers(entry: Entry, net: bp.Network) -> Any:
    """The arrays, one for each layer, that a function takes new values for."""
    thing = bp.Fleet.of([net] * SIZE) if entry.owner is bp.Fleet else net
    return next((getattr(thing, name) for name in ("biases", "slopes") if name in entry.name), thing.weights)


def call(entry: Entry, value: Any, backend: str, dtype: str, task: str) -> Any:
    """What the function makes of the value: what it returns, and the parameters of the network after it."""
    net = network(backend, dtype, "regression" if entry.owner is bp.Laplace else task, hidden_for(entry))
    known = inspect.signature(entry.function).parameters
    given = arguments(net, entry.owner, task)
    needed = {name for name, p in known.items() if p.default is p.empty and name != "self" and p.kind != p.VAR_KEYWORD}
    assert needed - {entry.parameter} <= given.keys(), f"{entry}: `arguments` has none for {needed - given.keys()}"
    chosen = {name: value for name, value in given.items() if name in needed or name in ("epochs", "steps")}
    beside = ("X_val", "y_val") if entry.parameter.endswith("_val") else ()
    for name in ("batch_sizes", "resolution", "progress", "y", "classes", *beside):  # shorter than by default, needed
        chosen[name] = given[name]
    chosen = {name: value for name, value in chosen.items() if name in known}
    if "Iterable" in str(known[entry.parameter].annotation):  # one array for each layer
        value = [value, *of_layers(entry, net)[1:]]
    elif "Rows" in str(known[entry.parameter].annotation):  # X and what belongs to it
        value = (value, given["y"])
    chosen[entry.parameter] = value
    method = entry.name.rpartition(".")[2]
    with warnings.catch_warnings(), mock.patch.object(choice, "default", return_value=choice.load(backend)):
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="sklearn")  # labels too large for an integer
        for ignored in IGNORED:
            warnings.simplefilter("ignore", ignored)
        if entry.owner is None:
            result = entry.function(**chosen)
        elif method == "__init__":
            result = entry.owner(
                **{name: value for name, value in chosen.items() if name in (*needed, entry.parameter)}
            )
        else:
            result = entry.function(instance(entry.owner, net, method, given), **chosen)
    return result, net.parameters


def good_value(entry: Entry, task: str) -> np.ndarray:
    """The argument in its plainest form."""
    net = network(choice.REFERENCE, "float64", task, hidden_for(entry))
    given = arguments(net, entry.owner, task)
    assert entry.parameter in given, f"{entry}: `arguments` has none for {entry.parameter}"
    value = given[entry.parameter]
    annotation = str(inspect.signature(entry.function).parameters[entry.parameter].annotation)
    if "Iterable" in annotation:
        return np.full(of_layers(entry, net)[0].shape, 0.25)
    return np.array(value)


# ---- the values ----

REAL = ("?", "i1", "i2", "i4", "i8", "u1", "u4", "u8", "f2", "f4", "f8", "g")
OTHER = ("F", "D", "O", "U8", "S8", "M8[s]", "m8[s]", "V4")
LAYOUTS = (
    "plain", "Fortran", "rows backwards", "columns backwards", "every other row", "every third column", "no strides",
    "read-only", "memory-mapped", "byte-swapped", "unaligned", "list", "masked", "matrix", "object with __array__",
)  # fmt: skip
CONTENTS = (
    "as it is", "nan", "inf", "-inf", "too large for float32", "no rows", "one row", "one row more", "no columns",
    "one column more", "one axis more", "one axis less", "a number",
)  # fmt: skip


class Wrapped:
    """What turns into an array when it is asked to."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array if dtype is None else self.array.astype(dtype)


def with_content(array: np.ndarray, content: str) -> np.ndarray:
    special = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "too large for float32": 1e300}
    if content in special:
        array = array.astype(float)
        array.flat[array.size // 2] = special[content]
    elif content in ("no rows", "one row"):
        array = array[: content == "one row"]
    elif content == "one row more":
        array = np.concatenate([array, array[:1]])
    elif content == "no columns":
        array = array[..., :0]
    elif content == "one column more":
        array = np.concatenate([array, array[..., :1]], axis=-1)
    elif content == "one axis more":
        array = array[..., None]
    elif content == "one axis less":
        array = array[0]
    elif content == "a number":
        array = array.reshape(-1)[0]
    return np.array(array)


def with_dtype(array: np.ndarray, dtype: str) -> np.ndarray:
    if dtype in ("M8[s]", "m8[s]", "V4"):
        return np.zeros(array.shape, dtype)
    with np.errstate(all="ignore"):
        array = array.astype(dtype)
        return array + array.dtype.type(1j) if dtype in "FD" else array  # what loses the imaginary part is wrong


def laid_out(array: np.ndarray, layout: str) -> tuple[Any, np.ndarray]:
    """The same numbers in another way, and the memory that holds them, to see whether it changes."""
    base = np.array(array, order="C")
    if layout == "Fortran":
        base = np.asfortranarray(array)
    elif layout == "rows backwards" and array.ndim:
        base = base[::-1].copy()
        return base[::-1], base
    elif layout == "columns backwards" and array.ndim:
        base = base[..., ::-1].copy()
        return base[..., ::-1], base
    elif layout == "every other row" and array.ndim:
        base = np.repeat(base, 2, axis=0)
        return base[::2], base
    elif layout == "every third column" and array.ndim:
        base = np.repeat(base, 3, axis=-1)
        return base[..., ::3], base
    elif layout == "no strides" and array.size:
        base = base.reshape(-1)[:1].reshape(())
        return np.broadcast_to(base, array.shape), base
    elif layout == "read-only":
        base.flags.writeable = False
    elif layout == "memory-mapped" and array.nbytes and array.dtype != object:
        with tempfile.TemporaryFile() as file:
            base.tofile(file)
            base = np.memmap(file, array.dtype, "r", shape=array.shape)
    elif layout == "byte-swapped":
        base = array.astype(array.dtype.newbyteorder())
    elif layout == "unaligned" and array.dtype != object:
        memory = np.zeros(array.nbytes + 1, np.uint8)
        memory[1:] = np.frombuffer(base.tobytes(), np.uint8)
        return memory[1:].view(array.dtype).reshape(array.shape), memory
    elif layout == "list":
        return base.tolist(), base
    elif layout == "masked":
        return np.ma.MaskedArray(base), base
    elif layout == "matrix" and array.ndim == 2:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            return np.asmatrix(base), base
    elif layout == "object with __array__":
        return Wrapped(base), base
    return base, base


# ---- the test ----


def outcome(*args: Any) -> Any:
    """What `call` returns, or the exception that it raises, which must be one that is documented."""
    try:
        return call(*args)
    except EXPECTED as error:
        return error
    finally:
        if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
            pyplot.close("all")  # or a grid would keep hundreds of pictures


def plain_outcome(entry: Entry, numbers: np.ndarray, *where: str) -> Any:
    """What the plainest array with these numbers gives."""
    return _outcome_of_bytes(entry, numbers.tobytes(), numbers.dtype, numbers.shape, *where)


@lru_cache(maxsize=8)  # one layout after another has the same numbers
def _outcome_of_bytes(entry: Entry, raw: bytes, dtype: np.dtype, shape: tuple[int, ...], *where: str) -> Any:
    return outcome(entry, np.ndarray(shape, dtype, raw).copy(), *where)


def same(a: Any, b: Any) -> bool:
    """Whether two results are equal, to the last bit where they are numbers."""
    if isinstance(a, History):
        a, b = a.loss, b.loss
    if isinstance(a, bp.Network):
        a, b = a.parameters, b.parameters
    if isinstance(a, ESTIMATORS):
        a, b = (model.coefs_ + model.intercepts_ for model in (a, b))
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
    if isinstance(a, Sequence) and not isinstance(a, str):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, int | float | str | None):
        return a == b or a != a
    return type(a) is type(b)


def check(entry: Entry, backend: str, net_dtype: str, task: str, dtype: str, layout: str, content: str) -> None:
    value = with_dtype(with_content(good_value(entry, task), content), dtype)
    given, memory = laid_out(value, layout)
    before, writeable = memory.tobytes(), memory.flags.writeable
    where = backend, net_dtype, task
    result = outcome(entry, given, *where)
    assert (memory.tobytes(), memory.flags.writeable) == (before, writeable)
    if entry.owner in ESTIMATORS and layout in ("matrix", "list") and isinstance(result, Exception):
        return  # scikit-learn takes no matrix, and of a list only what NumPy makes of it
    if entry.owner in ESTIMATORS and layout == "list" and not value.ndim:
        return  # a number is the weight of every sample, an array without an axis is none
    if entry.parameter == "gradients" and layout == "list":
        return  # a list has an entry for each layer
    numbers = value if layout == "list" and value.size else np.array(given)  # an empty list has no dtype
    if numbers.dtype.kind in "fiub":
        plain = plain_outcome(entry, np.array(numbers, numbers.dtype.newbyteorder("=")), *where)
        assert same_outcome(entry, result, plain), (result, plain)
    if isinstance(result, Exception):
        return
    labels = entry.owner in ESTIMATORS and is_classification(entry.owner, task) and entry.parameter in LABELS
    if labels and numbers.dtype.kind not in "fiub":
        return
    kinds = "fiubOUSmM" if entry.owner in ESTIMATORS else "fiubOUS"  # times are numbers to scikit-learn
    assert numbers.dtype.kind in kinds, "these are no real numbers"
    try:
        wide = np.array(numbers, np.float64)
    except ValueError:
        return  # labels may be text
    assert entry.parameter == "history" or np.isfinite(wide).all()
    if net_dtype == "float64" or (wide == wide.astype(np.float32)).all():  # else it is rounded on the way
        double = plain_outcome(entry, wide, *where)
        assert isinstance(double, Exception) or same(result, double), (result, double)


def same_outcome(entry: Entry, a: Any, b: Any) -> bool:
    if isinstance(a, Exception) and isinstance(b, Exception):
        return type(a) is type(b) or entry.owner in ESTIMATORS  # scikit-learn has others for lists than for arrays
    return not isinstance(a, Exception) and not isinstance(b, Exception) and same(a, b)


def test_the_functions_are_found():
    found = {entry.name.rpartition(".")[2] for entry in ENTRIES}
    assert {"predict", "fit", "loss", "__setitem__", "assign", "parameters=", "descend", "plot_history"} <= found


def is_slow(entry: Entry) -> bool:
    return "plot" in entry.name


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_the_plain_argument_is_taken(entry, task):
    result = outcome(entry, good_value(entry, task), choice.available()[0], "float32", task)
    assert not isinstance(result, Exception), result


CASES = st.tuples(
    st.sampled_from(choice.available()),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from(["regression", "classification"]),
    st.sampled_from(REAL) | st.sampled_from(OTHER),
    st.sampled_from(LAYOUTS),
    st.just("as it is") | st.sampled_from(CONTENTS),
)


@pytest.mark.parametrize("entry", [e for e in ENTRIES if not is_slow(e)], ids=str)
@settings(SETTINGS, max_examples=25, derandomize=True)
@given(case=CASES)
def test_grid(entry, case):
    check(entry, *case)


@pytest.mark.parametrize("entry", [e for e in ENTRIES if is_slow(e)], ids=str)
@settings(SETTINGS, max_examples=4, derandomize=True)
@given(case=CASES)
def test_grid_of_pictures(entry, case):
    check(entry, *case)


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_whole_grid(entry):
    """Every dtype with every content in every layout; the backend, its dtype and the task take turns."""
    dtypes = ("i8", "f4", "D") if is_slow(entry) else (*REAL, *OTHER)
    where = cycle(product(choice.available(), ("float32", "float64"), ("regression", "classification")))
    for dtype, content in product(dtypes, CONTENTS):
        here = next(where)
        for layout in LAYOUTS:
            check(entry, *here, dtype, layout, content)


# ---- sizes ----

HUGE = [2**40, 2**62, 2**63 - 1]


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
@pytest.mark.parametrize("size", HUGE)
@pytest.mark.parametrize("dtype", ["?", "f8"])
def test_arrays_larger_than_memory(entry, size, dtype):
    """They have no memory of their own: every stride is zero. NumPy itself refuses to make some of them."""
    good = good_value(entry, "regression")
    try:
        array = np.broadcast_to(np.zeros((), dtype), (size, *good.shape[1:]))
    except ValueError:
        return
    assert isinstance(outcome(entry, array, choice.available()[0], "float32", "regression"), EXPECTED)


sizes = st.integers(1, 2**70) | st.sampled_from([1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64])


@settings(SETTINGS, max_examples=200)
@given(st.lists(sizes, min_size=2, max_size=5), st.sampled_from(["float32", "float64"]))
def test_layers_larger_than_memory(widths, dtype):
    if sum(a * b for a, b in pairwise(widths)) < 2**44:
        return
    with pytest.raises(ValueError, match="layers: needs parameters that fit into memory"):
        bp.mlp(widths, dtype=dtype)


@pytest.mark.parametrize("name", ["epochs", "batch_size", "patience"])
@pytest.mark.parametrize("value", [2**31, 2**62, 2**63 - 1, 2**63, 2**64, 2**100])
def test_numbers_larger_than_any_integer_of_the_processor(name, value):
    net = network(choice.available()[0], "float32", "regression")
    options = {"epochs": 1, "batch_size": 2, "tolerance": 0.0} | {name: value}
    if name == "epochs":
        if value < 2**40:
            return  # they would take a while
        with pytest.raises(ValueError, match="epochs: needs at most 1,000,000,000,000 in all"):
            net.fit(np.ones((4, 2)), np.ones(4), **options)
    else:
        assert net.fit(np.ones((4, 2)), np.ones(4), **options).epochs == 1
