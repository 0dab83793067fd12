"""Tables into the estimators, and out of them."""

import pickle
import re
import warnings

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")
duckdb = pytest.importorskip("duckdb")
pytest.importorskip("sklearn")

from backprop.base import frames  # noqa: E402
from backprop.sklearn import (  # noqa: E402
    FleetSearchCV,
    MLPClassifier,
    MLPEnsembleClassifier,
    MLPEnsembleRegressor,
    MLPRegressor,
)
from sklearn.base import clone  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N = 30
RNG = np.random.default_rng(0)
COLUMNS = {"size": RNG.normal(size=N), "n": RNG.integers(0, 9, N), "is_new": RNG.integers(0, 2, N) == 1}
X = np.column_stack([column.astype(float) for column in COLUMNS.values()])
NUMBER = X @ [1.0, 0.5, -1.0]
LABEL = np.where(NUMBER > 1.5, "yes", "no")
TABLES = {
    "pandas": pd.DataFrame,
    "nullable": lambda columns: pd.DataFrame(columns).convert_dtypes(),
    "Arrow": lambda columns: pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype),
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
    "DuckDB": lambda columns: duckdb.from_arrow(pa.table(columns)),
}
SERIES = {
    **dict.fromkeys(("nullable", "Arrow"), lambda values: pd.Series(values, name="target").convert_dtypes()),
    "pandas": lambda values: pd.Series(values, name="target"),
    "polars": lambda values: pl.Series("target", values),
    "pyarrow": lambda values: pa.chunked_array([values]),
    "DuckDB": lambda values: duckdb.from_arrow(pa.table({"target": values})),
}
SETTINGS = {"hidden_layer_sizes": 5, "max_iter": 5, "random_state": 0}
ESTIMATORS = {
    "classifier": (lambda: MLPClassifier(**SETTINGS), LABEL),
    "regressor": (lambda: MLPRegressor(**SETTINGS), NUMBER),
    "classifiers": (lambda: MLPEnsembleClassifier(**SETTINGS, n_estimators=2, members="fold"), LABEL),
    "regressors": (lambda: MLPEnsembleRegressor(**SETTINGS, n_estimators=2), NUMBER),
    "bagging": (lambda: MLPClassifier(**SETTINGS, bagging=2), LABEL),
    "L-BFGS": (lambda: MLPRegressor(**SETTINGS, solver="lbfgs"), NUMBER),
    "early stopping": (lambda: MLPClassifier(**SETTINGS, early_stopping=True), LABEL),
    "search": (lambda: FleetSearchCV(MLPRegressor(**SETTINGS), {"alpha": [0.0, 0.1]}, cv=2), NUMBER),
    "pipeline": (lambda: make_pipeline(StandardScaler(), MLPClassifier(**SETTINGS)), LABEL),
}


def taken(kind, estimator):
    """Whether other code of scikit-learn than ours sees the table first."""
    return not (estimator == "pipeline" and kind in ("pyarrow", "DuckDB"))


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")  # a table of one column as y
def test_a_table_is_the_array_of_its_numbers(name, kind):
    if not taken(kind, name):
        pytest.skip("scikit-learn's own steps take other tables")
    make, y = ESTIMATORS[name]
    table, target = TABLES[kind](COLUMNS), SERIES[kind](y)
    estimator, plain = make().fit(table, target), make().fit(X, y)
    assert np.array_equal(estimator.predict(table), plain.predict(X))
    assert estimator.feature_names_in_.tolist() == list(COLUMNS)
    if kind != "DuckDB" or name != "search":  # whose score is scikit-learn's own
        assert estimator.score(table, target) == plain.score(X, y)


@pytest.mark.parametrize("kind", TABLES)
def test_validation_rows_and_weights_from_tables(kind):
    table, target, weight = TABLES[kind](COLUMNS), SERIES[kind](NUMBER), SERIES[kind](np.arange(1.0, N + 1))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A column-vector y")
        estimator = MLPRegressor(**SETTINGS).fit(table, target, weight, X_val=table, y_val=target)
    weights = np.arange(1.0, N + 1)
    plain = MLPRegressor(**SETTINGS).fit(X, NUMBER, weights, X_val=X, y_val=NUMBER)
    assert estimator.validation_loss_curve_ == plain.validation_loss_curve_


def test_a_table_of_arrays_is_taken_at_once(monkeypatch):
    estimator = MLPRegressor(**SETTINGS).fit(pd.DataFrame(COLUMNS), NUMBER)
    expected = estimator.predict(pl.DataFrame(COLUMNS))
    monkeypatch.setattr(frames, "numbers", None)  # which goes column by column
    assert np.array_equal(estimator.predict(pd.DataFrame(COLUMNS)), expected)


def test_a_table_without_names():
    weights = np.arange(1.0, N + 1)
    estimator = MLPRegressor(**SETTINGS).fit(pd.DataFrame(X), NUMBER, pd.DataFrame(weights))
    assert not hasattr(estimator, "feature_names_in_")
    plain = MLPRegressor(**SETTINGS).fit(X, NUMBER, weights)
    assert np.array_equal(estimator.predict(pd.DataFrame(X)), plain.predict(X))
    with pytest.raises(TypeError, match="needs names that are all texts"):
        estimator.fit(pd.DataFrame(X, columns=["a", 1, "c"]), NUMBER)


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("name", ["classifier", "regressors"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
def test_names_are_compared_in_the_words_of_scikit_learn(name, kind):
    make, y = ESTIMATORS[name]
    estimator = make().fit(TABLES[kind](COLUMNS), SERIES[kind](y))
    others = TABLES[kind]({"n": COLUMNS["n"], "size": COLUMNS["size"], "is_new": COLUMNS["is_new"]})
    with pytest.raises(ValueError, match="Feature names must be in the same order as they were in fit"):
        estimator.predict(others)
    others = TABLES[kind]({"size": COLUMNS["size"], "m": COLUMNS["n"], "is_new": COLUMNS["is_new"]})
    with pytest.raises(ValueError, match="Feature names unseen at fit time:\n- m"):
        estimator.predict(others)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        estimator.predict(X)
    estimator.fit(X, y)
    assert not hasattr(estimator, "feature_names_in_")
    with pytest.warns(UserWarning, match="X has feature names, but"):
        estimator.predict(TABLES[kind](COLUMNS))


@pytest.mark.parametrize("kind", TABLES)
def test_columns_of_other_things_are_named(kind):
    odd = TABLES[kind]({**COLUMNS, "city": ["a"] * N})
    estimator = MLPRegressor(**SETTINGS)
    with pytest.raises(TypeError, match=r"X: needs columns of numbers, got 'city' \("):
        estimator.fit(odd, NUMBER)
    missing = TABLES[kind]({**COLUMNS, "age": [None, 3] * (N // 2)})
    with pytest.raises(ValueError, match=re.escape(f"got missing values: {N // 2} in column 'age'")):
        estimator.fit(missing, NUMBER)
    with pytest.raises(ValueError, match=re.escape(f"got missing values: {N // 2} in column 'age'")):
        MLPEnsembleRegressor(**SETTINGS).fit(missing, NUMBER)


def test_tensors():
    torch = pytest.importorskip("torch")
    tensor, target = torch.tensor(X, requires_grad=True), torch.tensor(NUMBER, requires_grad=True)
    estimator, plain = MLPRegressor(**SETTINGS).fit(tensor, target), MLPRegressor(**SETTINGS).fit(X, NUMBER)
    assert np.array_equal(estimator.predict(tensor), plain.predict(X))
    assert estimator.score(tensor, target) == plain.score(X, NUMBER)


def test_sparse_columns_stay_sparse():
    sparse = pd.DataFrame(X, columns=list("abc")).astype(pd.SparseDtype(float, 0.0))
    estimator = MLPRegressor(**SETTINGS).fit(sparse, NUMBER)
    assert np.array_equal(estimator.predict(sparse), MLPRegressor(**SETTINGS).fit(X, NUMBER).predict(X))
    assert estimator.feature_names_in_.tolist() == list("abc")


# --- predictions as tables --------------------------------------------------------------------------------------------

PANDAS = pd.DataFrame(COLUMNS, index=[f"row {k}" for k in range(N)])


def test_predictions_as_tables_of_pandas():
    y = pd.Series(NUMBER, index=PANDAS.index, name="price")
    estimator = MLPRegressor(**SETTINGS).set_output(transform="pandas").fit(PANDAS, y)
    predicted = estimator.predict(PANDAS[3:])
    assert isinstance(predicted, pd.Series)
    assert (predicted.name, predicted.index.tolist()) == ("price", PANDAS.index[3:].tolist())
    assert np.array_equal(predicted, MLPRegressor(**SETTINGS).fit(X, NUMBER).predict(X[3:]))
    several = pd.DataFrame({"a": NUMBER, "b": -NUMBER})
    predicted = MLPRegressor(**SETTINGS).set_output(transform="pandas").fit(X, several).predict(X)
    assert (predicted.columns.tolist(), predicted.index.tolist()) == (["a", "b"], list(range(N)))
    assert MLPRegressor(**SETTINGS).set_output(transform="pandas").fit(X, NUMBER).predict(X).name == "y"


@pytest.mark.parametrize("method", ["predict_proba", "predict_log_proba"])
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_probabilities_as_tables(method, library):
    estimator = MLPClassifier(**SETTINGS).fit(PANDAS, LABEL)
    plain = getattr(estimator, method)(PANDAS)
    table = getattr(estimator.set_output(transform=library), method)(PANDAS)
    assert type(table).__module__.split(".")[0] == library
    assert list(table.columns) == ["no", "yes"]
    assert np.array_equal(table, plain)
    assert estimator.score(PANDAS, LABEL) == np.mean(np.asarray(estimator.predict(PANDAS)) == LABEL)


def test_several_labels_have_the_names_of_y():
    labels = pd.DataFrame({"new": COLUMNS["is_new"] * 1, "large": (COLUMNS["size"] > 0) * 1})
    for estimator in (MLPClassifier(**SETTINGS), MLPEnsembleClassifier(**SETTINGS, n_estimators=2)):
        estimator.set_output(transform="polars").fit(PANDAS, labels)
        assert estimator.predict(PANDAS).columns == estimator.predict_proba(PANDAS).columns == ["new", "large"]


@pytest.mark.parametrize("name", ["classifiers", "regressors"])
def test_ensembles_give_tables(name):
    make, y = ESTIMATORS[name]
    estimator = make().set_output(transform="pandas").fit(PANDAS, pd.Series(y, index=PANDAS.index, name="target"))
    columns = {"classifiers": ["no", "yes"], "regressors": ["target"]}[name]
    spread = estimator.predict_std(PANDAS)
    assert (list(spread.columns) if spread.ndim == 2 else [spread.name]) == columns
    assert spread.index.tolist() == estimator.predict(PANDAS).index.tolist() == PANDAS.index.tolist()
    estimator.score(PANDAS, y)


def test_who_decides_about_tables():
    import sklearn

    estimator = MLPRegressor(**SETTINGS).fit(X, NUMBER)
    with sklearn.config_context(transform_output="pandas"):  # it is for transformers
        assert isinstance(estimator.predict(X), np.ndarray)
    pipeline = make_pipeline(StandardScaler(), MLPRegressor(**SETTINGS)).set_output(transform="pandas")
    assert isinstance(pipeline.fit(X, NUMBER).predict(X), np.ndarray)
    estimator.set_output(transform="polars").set_output()
    for each in (estimator, clone(estimator).fit(X, NUMBER), pickle.loads(pickle.dumps(estimator))):
        assert isinstance(each.predict(X), pl.Series)
    assert isinstance(estimator.set_output(transform="default").predict(X), np.ndarray)
    with pytest.raises(ValueError, match="transform: needs one of 'default', 'pandas', 'polars', got 'arrow'"):
        estimator.set_output(transform="arrow")
