"""Tables and tensors of other libraries: what networks and fleets make of them, and what they refuse."""

import copy
import pickle
import re
import subprocess
import sys
from types import SimpleNamespace

import backprop as bp
import numpy as np
import pytest
from backprop.base import frames

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")
duckdb = pytest.importorskip("duckdb")

COLUMNS = {"size": [1.0, 2.5, -3.0, 0.5], "n": [1, 2, 3, 4], "is_new": [True, False, True, True]}
NAMES = tuple(COLUMNS)
X = np.array([[float(value) for value in column] for column in COLUMNS.values()]).T
Y = np.array([1.0, 0.0, 2.0, 1.0])
PANDAS = pd.DataFrame(COLUMNS)


def record_batches():
    return pa.table(COLUMNS).to_reader()


def relation(columns=COLUMNS):
    return duckdb.from_arrow(pa.table(columns))


TABLES = {
    "pandas": lambda: PANDAS,
    "pandas, nullable": lambda: PANDAS.convert_dtypes(),
    "pandas, nullable floats": lambda: PANDAS.astype({"size": "Float32", "n": "UInt8", "is_new": "boolean"}),
    "pandas, Arrow": lambda: PANDAS.astype(
        {"size": "double[pyarrow]", "n": "int16[pyarrow]", "is_new": "bool[pyarrow]"}
    ),
    "pandas, categories of numbers": lambda: PANDAS.astype({"n": "category", "is_new": "category"}),
    "pandas, objects": lambda: PANDAS.astype(object),
    "pandas, another index": lambda: PANDAS.set_index(pd.Index(list("dcba"))),
    "polars": lambda: pl.DataFrame(COLUMNS),
    "polars, lazy": lambda: pl.LazyFrame(COLUMNS),
    "polars, small dtypes": lambda: pl.DataFrame(COLUMNS).cast({"size": pl.Float32, "n": pl.Int8}),
    "pyarrow": lambda: pa.table(COLUMNS),
    "pyarrow, chunks": lambda: pa.concat_tables([pa.table(COLUMNS)[:3], pa.table(COLUMNS)[3:]]),
    "pyarrow, one batch": lambda: pa.RecordBatch.from_pydict(COLUMNS),
    "pyarrow, batches": record_batches,
    "DuckDB": relation,
    "DuckDB, decimals": lambda: duckdb.sql(
        "select size::decimal(9, 2) as size, n::hugeint as n, is_new from (select unnest([1, 2.5, -3, 0.5]) as size, "
        "unnest([1, 2, 3, 4]) as n, unnest([true, false, true, true]) as is_new)"
    ),
}


@pytest.fixture(params=TABLES, ids=str)
def make(request):
    """What makes a table of any kind, as one may be read once only."""
    return TABLES[request.param]


def network(**settings):
    return bp.mlp([3, 4, 1], seed=1, **settings)


def trained(table, y=Y, **settings):
    net = network()
    net.fit(table, y, epochs=3, **settings)
    return net


def fleet(size=2):
    return bp.Fleet(3, [bp.Dense(4, "tanh"), bp.Dense(1)], size=size, seed=0)


# --- values -----------------------------------------------------------------------------------------------------------


def test_a_table_is_the_array_of_its_numbers(make, backend):
    net = network(backend=backend)
    assert np.array_equal(net.predict(make()), net.predict(X))
    assert net.evaluate(make(), Y, metrics="r2") == net.evaluate(X, Y, metrics="r2")
    loss, gradients = net.loss_and_gradients(make(), Y)
    expected = net.loss_and_gradients(X, Y)
    assert loss == expected[0]
    assert all(
        np.array_equal(a, b)
        for own, other in zip(gradients, expected[1], strict=True)
        for a, b in zip(own, other, strict=True)
    )
    assert net.feature_names is None


def test_the_frame_of_a_newcomer():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [True, False]})
    net = bp.mlp([2, 1])
    assert net.fit(frame, [1, 2], epochs=1).epochs == 1
    assert net.feature_names == ("a", "b")
    assert net.predict(frame).shape == (2, 1)


def test_training_on_a_table_has_the_bits_of_training_on_an_array(make):
    net, other = trained(make()), trained(X)
    assert np.array_equal(net.parameters, other.parameters)
    assert (net.feature_names, other.feature_names) == (NAMES, None)


@pytest.mark.parametrize("kind", ["pandas", "nullable", "polars", "pyarrow", "DuckDB"])
def test_targets_weights_and_validation_rows_are_taken_from_tables_too(kind):
    def column(values, name):
        return {
            "pandas": lambda: pd.Series(values, index=[7, 5, 3, 1], name=name),
            "nullable": lambda: pd.Series(values, name=name, dtype="Float64"),
            "polars": lambda: pl.Series(name, values),
            "pyarrow": lambda: pa.chunked_array([values]),
            "DuckDB": lambda: relation({name: values}),
        }[kind]()

    def fitted(table, y, weight):
        net = network()
        history = net.fit(table, y, sample_weight=weight, validation_data=(table, y, weight), epochs=3, batch_size=2)
        return net.parameters, history["val_loss"]

    weight = [1.0, 2.0, 0.5, 1.0]
    found = fitted(pa.table(COLUMNS), column(Y.tolist(), "y"), column(weight, "w"))
    for ours, plain in zip(found, fitted(X, Y, weight), strict=True):
        assert np.array_equal(ours, plain)


def test_labels_and_several_targets(backend):
    labels, targets = [0, 2, 1, 2], np.arange(8.0).reshape(4, 2)
    net = bp.mlp([3, 3], output="softmax", seed=0, backend=backend)
    for y in (
        pd.Series(labels, dtype="Int8"),
        pl.Series(labels),
        pl.DataFrame({"y": labels}),
        pd.Series(labels, dtype="category"),
    ):
        assert net.loss(PANDAS, y) == net.loss(X, labels)
    net = bp.mlp([3, 2], seed=0, backend=backend)
    for y in (pd.DataFrame(targets), pl.DataFrame(targets), relation({"a": targets[:, 0], "b": targets[:, 1]})):
        assert net.loss(PANDAS, y) == net.loss(X, targets)


def test_a_loss_of_ones_own_gets_whatever_a_table_holds():
    seen = []

    def loss(outputs, targets):
        seen.append(targets)
        return 0.0, np.zeros_like(outputs)

    network().loss(PANDAS, pl.Series(["a", "b", "c", "d"]), loss)
    assert seen[0][:, 0].tolist() == ["a", "b", "c", "d"]


def test_a_table_of_one_column_and_of_none():
    net = bp.mlp([1, 1], seed=0)
    assert np.array_equal(net.predict(pl.DataFrame({"a": [1, 2]})), net.predict([[1], [2]]))
    with pytest.raises(ValueError, match=r"X: needs 1 columns, got 0 \(shape \(0, 0\)\)"):
        net.predict(pl.DataFrame())
    with pytest.raises(ValueError, match=r"X: needs at least one row, got shape \(0, 1\)"):
        net.predict(pd.DataFrame({"a": []}, dtype=float))


@pytest.mark.parametrize("name", ["w", 0, None, ("a", 1)])
def test_targets_and_weights_of_one_column_whatever_its_name(name, backend):
    def column(values):
        return pd.DataFrame(np.array(values)[:, None], columns=pd.Index([name], tupleize_cols=False))

    labels, weights = [0, 1, 1, 0], [1.0, 2.0, 3.0, 4.0]
    fits = []
    for y, w in ((column(labels), column(weights)), (labels, weights)):
        net = bp.mlp([3, 2], output="softmax", seed=0, backend=backend)
        net.fit(X, y, sample_weight=w, epochs=2, validation_data=(X, y, w))
        many = fleet()
        many.fit(X, y, sample_weight=w, epochs=2)
        many.fit([X, X], [y, y], sample_weight=[w, w], epochs=2)
        fits.append((net, many))
    for ours, plain in zip(*fits, strict=True):
        assert np.array_equal(ours.parameters, plain.parameters)


def test_narwhals_itself_and_sparse_columns():
    import narwhals

    net = network()
    assert np.array_equal(net.predict(narwhals.from_native(PANDAS)), net.predict(X))
    sparse = PANDAS.astype(float).astype(pd.SparseDtype(float, 0.0))
    assert np.array_equal(net.predict(sparse), net.predict(X))


# --- what is refused --------------------------------------------------------------------------------------------------

FOREIGN = {
    "text": (["a", "b", "c", "d"], "String|str"),
    "date": (np.array(["2024-01-01"] * 4, "M8[us]"), "Datetime"),
    "duration": (np.array([1, 2, 3, 4], "m8[us]"), "Duration|month_day_nano_interval"),
    "list": ([[1], [2], [3], [4]], "List|Object"),
    "bytes": ([b"1", b"2", b"3", b"4"], "bytes, to be decoded first"),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize(
    "library", [pd.DataFrame, pl.DataFrame, pa.table, relation], ids=["pandas", "polars", "pyarrow", "DuckDB"]
)
def test_a_column_of_other_things_is_named(kind, library):
    values, dtype = FOREIGN[kind]
    table = library({"size": COLUMNS["size"], "odd": values, "n": COLUMNS["n"]})
    message = rf"X: needs columns of numbers, got 'odd' \(({dtype}).*\); make numbers of them first"
    for take in (network().predict, lambda table: network().fit(table, Y), fleet().predict):
        with pytest.raises(TypeError, match=message):
            take(table)


def test_all_columns_of_other_things_are_named():
    table = pd.DataFrame({"a": [1.0], "b": ["x"], "c": [pd.Timestamp(0)], "d": pd.Categorical(["x"]), "e": [1j]})
    with pytest.raises(
        TypeError, match=r"got 'b' \(String\), 'c' \(Datetime.*\), 'd' \(Categorical\), 'e' \(complex128\); make"
    ):
        network().predict(table)


MISSING = {
    "pandas": pd.DataFrame({"a": [1, np.nan, np.nan], "b": [1, 2, 3], "c": [1.0, 2.0, np.nan]}),
    "nullable": pd.DataFrame(
        {"a": pd.array([1, None, None], "Int64"), "b": [1, 2, 3], "c": pd.array([True, False, None], "boolean")}
    ),
    "objects": pd.DataFrame({"a": [1, None, None], "b": [1, 2, 3], "c": [True, False, None]}, dtype=object),
    "categories": pd.DataFrame({"a": pd.Categorical([1, None, None]), "b": [1, 2, 3], "c": [1, 2, None]}),
    "Arrow": pd.DataFrame({"a": pd.array([1, None, None], "int8[pyarrow]"), "b": [1, 2, 3], "c": [1, 2, None]}),
    "polars": pl.DataFrame({"a": [1, None, None], "b": [1, 2, 3], "c": [1.0, 2.0, float("nan")]}),
    "pyarrow": pa.table({"a": [1, None, None], "b": [1, 2, 3], "c": [True, None, False]}),
    "DuckDB": relation({"a": [1, None, None], "b": [1, 2, 3], "c": [1.0, 2.0, None]}),
}


@pytest.mark.parametrize("kind", MISSING)
def test_missing_values_are_counted_by_column(kind):
    message = "X: needs a number in every place, got missing values: 2 in column 'a', 1 in column 'c'"
    for take in (network().predict, lambda table: network().fit(table, Y[:3]), fleet().predict):
        with pytest.raises(ValueError, match=re.escape(message)):
            take(MISSING[kind])


@pytest.mark.parametrize("series", [pd.Series([1, None, 2, 3], dtype="Int64"), pl.Series([1, None, 2, 3])])
def test_missing_targets_and_weights(series):
    with pytest.raises(ValueError, match="y: needs a number in every place, got 1 missing values"):
        network().fit(X, series)
    with pytest.raises(ValueError, match="sample_weight: needs a number in every place, got 1 missing values"):
        network().fit(X, Y, sample_weight=series)


@pytest.mark.parametrize(
    "series",
    [pd.Series(["a", "b", "a", "b"]), pd.Series(list("abab"), dtype="category"), pl.Series(["a", "b", "a", "b"])],
)
def test_labels_that_are_text(series):
    with pytest.raises(
        TypeError, match=re.escape("y: needs integer class labels, got dtype <U1; numpy.unique(y, return_inverse=True)")
    ):
        bp.mlp([3, 2], output="softmax").fit(X, series)


def test_numbers_that_are_not_finite():
    with pytest.raises(ValueError, match=r"X: needs finite numbers, got inf at X\[1, 1\]"):
        network().predict(pl.DataFrame({"a": [1, 2], "b": [1.0, np.inf], "c": [0, 0]}))
    with pytest.raises(ValueError, match="X: needs numbers that fit into float32, got 1e\\+300"):
        network().predict(pl.DataFrame({"a": [1, 2], "b": [1.0, 1e300], "c": [0, 0]}))


def test_names_of_columns_that_are_none():
    assert trained(pd.DataFrame(X)).feature_names is None  # numbers
    assert (
        trained(pd.DataFrame(X, columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)]))).feature_names
        is None
    )
    with pytest.raises(TypeError, match=r"X: needs names that are all texts, or none of them, got 1 \(int\) too"):
        network().predict(pd.DataFrame(X, columns=["a", 1, "c"]))
    with pytest.raises(ValueError, match=r"X: needs columns with different names; .*'a' 2 times"):
        network().predict(pd.DataFrame(X, columns=["a", "b", "a"]))


# --- names ------------------------------------------------------------------------------------------------------------

OTHER_ORDER = re.escape("needs the columns 'size', 'n', 'is_new', got 'is_new', 'size', 'n': the same in another order")


def reordered(make):
    table = make()
    order = ["is_new", "size", "n"]
    return (
        table.project(", ".join(order))
        if hasattr(table, "project")
        else table.select(order)
        if hasattr(table, "select")
        else table[order]
    )


@pytest.mark.parametrize("make", [TABLES[kind] for kind in ("pandas", "polars", "polars, lazy", "pyarrow", "DuckDB")])
def test_another_order_is_refused_wherever_rows_come_in(make):
    net = trained(make())
    calls = [
        net.predict,
        net.activations,
        lambda X: net.loss(X, Y),
        lambda X: net.evaluate(X, Y),
        lambda X: net.loss_and_gradients(X, Y),
        lambda X: net.input_gradients(X, Y),
        lambda X: net.backward(X, np.ones((4, 1))),
        lambda X: net.fit(X, Y),
        lambda X: net.partial_fit(X, Y),
        lambda X: net.train_on_batch(X, Y),
        lambda X: net.minimize(X, Y),
        lambda X: net.trace(X, Y),
        lambda X: bp.check_gradients(net, X, Y),
    ]
    before = net.parameters.copy()
    for call in calls:
        with pytest.raises(ValueError, match=rf"X: {OTHER_ORDER}; X\[list\(net\.feature_names\)\] has the right one$"):
            call(reordered(make))
    with pytest.raises(ValueError, match=rf"validation_data\[0\]: {OTHER_ORDER}; validation_data\[0\]\[list\(net"):
        net.fit(make(), Y, validation_data=(reordered(make), Y))
    assert np.array_equal(net.parameters, before)
    net.predict(X)  # an array has no names


def test_other_columns_are_told_apart():
    net = trained(PANDAS)
    message = re.escape(
        "X: needs the columns 'size', 'n', 'is_new', got 'size', 'm', 'is_new'; missing: 'n'; unknown: 'm'"
    )
    with pytest.raises(ValueError, match=message):
        net.predict(PANDAS.rename(columns={"n": "m"}))
    with pytest.raises(ValueError, match=r"got 'size', 'n'; missing: 'is_new'$"):
        net.predict(PANDAS[["size", "n"]])
    wide = bp.mlp([30, 1], seed=0)
    wide.feature_names = [f"c{k}" for k in range(30)]
    with pytest.raises(ValueError, match=r"needs the columns 'c0', .*'c7', \.\.\. \(30 in all\), got 'a'"):
        wide.predict(pl.DataFrame({"a": [1]}))


def test_validation_rows_are_compared_with_the_rows_that_come_with_them():
    net = network()  # has no names that could help
    with pytest.raises(ValueError, match=r"validation_data\[0\]: " + OTHER_ORDER + "$"):
        net.fit(PANDAS, Y, validation_data=(PANDAS[["is_new", "size", "n"]], Y))
    assert net.feature_names is None


def test_names_are_learned_by_whatever_trains():
    for train in ("partial_fit", "train_on_batch", "minimize"):
        net = network()
        getattr(net, train)(PANDAS, Y)
        assert net.feature_names == NAMES
    net = network()
    net.fit(X, Y, epochs=1)
    assert net.feature_names is None
    net.fit(PANDAS, Y, epochs=1)
    net.fit(X, Y, epochs=1)
    assert net.feature_names == NAMES


@pytest.mark.parametrize("wrong", [{"optimizer": "adamm"}, {"epochs": 0}, {"metrics": "accuracy"}, {"callbacks": 3}])
def test_a_call_that_fails_leaves_no_names(wrong):
    net, many = network(), fleet()
    for each in (net, many):
        with pytest.raises((TypeError, ValueError)):
            each.fit(PANDAS, Y, **wrong)
        assert each.feature_names is None


def test_names_can_be_assigned_and_forgotten():
    net = network()
    net.feature_names = ["a", "b", "c"]
    with pytest.raises(ValueError, match="X: needs the columns 'a', 'b', 'c'"):
        net.predict(PANDAS)
    net.feature_names = None
    net.predict(PANDAS)


BAD_NAMES = [
    (["a", "b"], ValueError, "feature_names: needs 3 different names, got 'a', 'b'"),
    (["a", "b", "a"], ValueError, "feature_names: needs 3 different names, got 'a', 'b', 'a'"),
    (["a", "b", 3], TypeError, "feature_names[2]: needs a name that is text, got 3 (int)"),
    ("abc", TypeError, "feature_names: needs a sequence of 3 names or None, got 'abc' (str)"),
    (3, TypeError, "feature_names: needs a sequence of 3 names or None, got 3 (int)"),
]


@pytest.mark.parametrize(("names", "error", "message"), BAD_NAMES)
def test_bad_names(names, error, message):
    for each in (network(), fleet()):
        with pytest.raises(error, match=re.escape(message)):
            each.feature_names = names


@pytest.mark.parametrize("make", [lambda: trained(PANDAS), lambda: network()])
def test_names_go_with_files_pickles_and_copies(make, tmp_path):
    net = make()
    path = tmp_path / "net.safetensors"
    net.save(path)
    others = [bp.load(path), pickle.loads(pickle.dumps(net)), copy.deepcopy(net), net.copy()]
    net.save_checkpoint(path)
    others.append(bp.resume(path))
    assert all(each.feature_names == net.feature_names for each in others)


def test_pickles_of_older_versions_have_no_names():
    state = network().__getstate__()
    del state["_feature_names"]
    net = bp.Network.__new__(bp.Network)
    net.__setstate__(state)
    assert net.feature_names is None


@pytest.mark.parametrize("names", [["a", "b"], "abc", [1, 2, 3], ["a", "a", "b"], {"a": 1}])
def test_a_file_with_wrong_names_is_refused(names, tmp_path):
    from backprop.files import models

    net, path = trained(PANDAS), tmp_path / "net.safetensors"
    tensors, metadata = models.contents(net, None)
    models.write(path, tensors, {**metadata, "feature_names": names})
    with pytest.raises(ValueError, match="not a valid model file: feature_names"):
        bp.load(path)


def test_names_come_with_an_estimator():
    from backprop.sklearn import MLPRegressor

    assert bp.from_sklearn(MLPRegressor(hidden_layer_sizes=4, tol=10).fit(PANDAS[["n"]], Y)).feature_names == ("n",)


# --- fleets -----------------------------------------------------------------------------------------------------------


def test_a_fleet_takes_one_table_for_all(make):
    many, plain = fleet(), fleet()
    many.fit(make(), pl.Series(Y), epochs=3, validation_data=(make(), pd.Series(Y)))
    plain.fit(X, Y, epochs=3, validation_data=(X, Y))
    assert np.array_equal(many.parameters, plain.parameters)
    assert np.array_equal(many.predict(make()), plain.predict(X))
    assert np.array_equal(many.evaluate(make(), Y)["loss"], plain.evaluate(X, Y)["loss"])
    assert many.feature_names == many[1].feature_names == NAMES


def test_a_fleet_takes_a_table_for_each():
    tables = [PANDAS, pl.DataFrame(COLUMNS)[:3]]
    many, plain = fleet(), fleet()
    many.fit(
        tables,
        [pd.Series(Y), pl.Series(Y[:3])],
        epochs=3,
        sample_weight=[pl.Series([1, 2, 1, 1]), pd.Series([1, 1, 2])],
    )
    plain.fit([X, X[:3]], [Y, Y[:3]], epochs=3, sample_weight=[[1, 2, 1, 1], [1, 1, 2]])
    assert np.array_equal(many.parameters, plain.parameters)
    assert many.feature_names == NAMES
    for call in (many.predict, lambda X: many.fit(X, [Y, Y]), lambda X: many.loss(X, [Y, Y])):
        with pytest.raises(ValueError, match=r"X\[1\]: " + OTHER_ORDER):
            call([PANDAS, PANDAS[["is_new", "size", "n"]]])
    fresh = fleet()
    with pytest.raises(ValueError, match=r"X\[1\]: " + OTHER_ORDER):
        fresh.fit([PANDAS, PANDAS[["is_new", "size", "n"]]], [Y, Y])
    with pytest.raises(ValueError, match=r"validation_data\[0\]: " + OTHER_ORDER):
        fresh.fit(PANDAS, Y, validation_data=(PANDAS[["is_new", "size", "n"]], Y))
    with pytest.raises(TypeError, match=r"X\[1\]: needs columns of numbers, got 'n' \(String\)"):
        fresh.fit([PANDAS, PANDAS.astype({"n": str})], [Y, Y])
    assert fresh.feature_names is None


def test_each_of_several_rows_is_looked_at():
    """A table is a table after an array, too."""
    many = fleet()
    many.fit([PANDAS, PANDAS], [Y, Y], epochs=1)
    swapped = PANDAS[["is_new", "size", "n"]]
    for others in ([X, swapped], (X, pl.from_pandas(swapped)), [X.tolist(), swapped]):
        with pytest.raises(ValueError, match=r"X\[1\]: " + OTHER_ORDER + "$"):
            many.predict(others)
    fresh, plain = fleet(), fleet()
    fresh.fit([X, PANDAS], [Y, pd.DataFrame(Y)], sample_weight=[Y, pl.Series(Y)], epochs=2)
    plain.fit([X, X], [Y, Y], sample_weight=[Y, Y], epochs=2)
    assert np.array_equal(fresh.parameters, plain.parameters)
    assert fresh.feature_names == NAMES


def test_the_names_of_a_member_are_those_of_the_fleet(tmp_path):
    many = fleet()
    many.fit(PANDAS, Y, epochs=1)
    for member in (many[0], many.best(), *many):
        with pytest.raises(ValueError, match=r"feature_names: needs a network of its own, got a member of a fleet"):
            member.feature_names = ["a", "b", "c"]
    many[0].save(tmp_path / "one")
    for own in (many[0].copy(), pickle.loads(pickle.dumps(many[0])), bp.load(tmp_path / "one")):
        own.feature_names = ["a", "b", "c"]
        assert own.feature_names == ("a", "b", "c")


def test_names_go_with_a_fleet(tmp_path):
    many = fleet(3)
    many.fit(PANDAS, Y, epochs=2)
    path = tmp_path / "fleet.safetensors"
    many.save(path)
    others = [bp.load(path), pickle.loads(pickle.dumps(many)), many.copy(), many[:2], many[[0, 2]]]
    many.save_checkpoint(path)
    others.append(bp.resume(path))
    assert all(each.feature_names == NAMES for each in others)
    joined = bp.Fleet.of([*many, network(hidden="tanh")])
    assert joined.feature_names == NAMES
    stranger = network(hidden="tanh")
    stranger.feature_names = ["a", "b", "c"]
    with pytest.raises(
        ValueError, match=r"networks\[3\]\.feature_names: needs the columns 'size', 'n', 'is_new', got 'a'"
    ):
        bp.Fleet.of([*many, stranger])


def test_a_fleet_of_several_shapes_has_names_for_each():
    small = bp.mlp([2, 1], seed=0)
    small.feature_names = ["a", "b"]
    many = bp.Fleet.of([trained(PANDAS), small])
    assert [each.feature_names for each in many] == [NAMES, ("a", "b")]
    with pytest.raises(ValueError, match=r"feature_names: needs members of one shape"):
        many.feature_names  # noqa: B018
    many.predict([PANDAS, pl.DataFrame({"a": [1], "b": [2]})])
    with pytest.raises(ValueError, match=r"X\[1\]: needs the columns 'a', 'b', got 'b', 'a'"):
        many.predict([PANDAS, pl.DataFrame({"b": [1], "a": [2]})])


# --- tensors ----------------------------------------------------------------------------------------------------------


class Speaking:
    """What speaks DLPack and nothing else."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **settings):
        return self.array.__dlpack__(**settings)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_what_speaks_dlpack():
    net = network()
    assert np.array_equal(net.predict(Speaking(X)), net.predict(X))
    assert trained(Speaking(X), Speaking(Y)).loss(X, Y) == trained(X, Y).loss(X, Y)


def test_tensors_of_another_device_are_refused_by_name():
    class Elsewhere(Speaking):
        def __dlpack_device__(self):
            return (2, 0)

        def __dlpack__(self, **settings):
            raise BufferError("only the CPU can have it")

    with pytest.raises(TypeError, match=r"X: needs a dense array of numbers in memory, got .*only the CPU can have it"):
        network().predict(Elsewhere(X))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_tensors_of_pytorch(grad, dtype):
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(X, dtype=getattr(torch, dtype), requires_grad=grad)
    target = torch.tensor(Y, dtype=torch.float32, requires_grad=grad)
    net, plain = trained(tensor, target), trained(X, Y)
    assert np.array_equal(net.parameters, plain.parameters)
    assert np.array_equal(net.predict(tensor), net.predict(X))
    assert np.array_equal(net.predict(list(tensor)), net.predict(X))
    many = fleet()
    assert np.array_equal(many.predict(tensor), many.predict(X))
    assert np.array_equal(many.predict([tensor, tensor[:2]])[1], many.predict([X, X[:2]])[1])
    net.parameters = torch.tensor(plain.parameters, requires_grad=grad)
    assert tensor.requires_grad is grad


def test_sparse_tensors_of_pytorch_are_refused_by_name():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"X: needs a dense array of numbers in memory, got .*to_dense"):
        network().predict(torch.tensor(X).to_sparse())


# --- records as tables ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", frames.LIBRARIES)
def test_a_history_as_a_table(backend):
    net = network()
    net.fit(X, Y, epochs=2)
    net.fit(X, Y, epochs=1, validation_data=(X, Y), metrics="r2")
    table = net.history.to_frame(backend=backend)
    assert type(table).__module__.split(".")[0] == backend
    columns = {name: np.array(table[name]) for name in ("epoch", "loss", "val_loss", "r2", "val_r2")}
    assert columns["epoch"].tolist() == [1, 2, 3]
    for name in net.history:
        assert np.array_equal(columns[name], net.history[name], equal_nan=True)


@pytest.mark.parametrize("backend", frames.LIBRARIES)
def test_the_history_of_a_fleet_as_a_table(backend):
    many = fleet(3)
    many.fit(X, Y, epochs=5, callbacks=[bp.callbacks.EarlyStopping("loss", patience=1, min_delta=0.05)])
    table = many.history.to_frame(backend)
    member, epoch, loss = (np.array(table[name]) for name in ("member", "epoch", "loss"))
    assert len(member) == many.history.epochs.sum()
    for k in range(3):
        assert np.array_equal(loss[member == k], many.history.of(k)["loss"])
        assert np.array_equal(epoch[member == k], np.arange(1, many.history.epochs[k] + 1))


def test_histories_of_nothing():
    assert len(network().history.to_frame()) == len(fleet().history.to_frame()) == 0


def test_tables_of_other_libraries_and_of_none(monkeypatch):
    history = network().history
    with pytest.raises(
        ValueError, match=re.escape("backend: needs one of 'pandas', 'polars', 'pyarrow', got 'duckdb' (str)")
    ):
        history.to_frame("duckdb")
    monkeypatch.setattr(frames, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="backend: needs polars, which is not installed"):
        history.to_frame("polars")
    with pytest.raises(
        ImportError, match="X: a DuckDBPyRelation needs one of pandas, polars, pyarrow to become an array"
    ):
        network().predict(relation())


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_relations_without_pyarrow(library, monkeypatch):
    monkeypatch.setattr(frames, "find_spec", lambda name: SimpleNamespace() if name == library else None)
    assert np.array_equal(network().predict(relation()), network().predict(X))


# --- and what they cost -----------------------------------------------------------------------------------------------


def test_narwhals_is_imported_for_tables_only():
    code = """
import sys
import numpy as np
import backprop as bp
net = bp.mlp([2, 1], seed=0)
net.fit([[1, 2]], [3], epochs=1)
net.predict(np.ones((2, 2)))
assert "narwhals" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
