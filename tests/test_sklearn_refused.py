"""A fit that is refused leaves the estimator as it was, and says which argument is wrong."""

import pickle

import numpy as np
import pytest
from backprop import callbacks
from backprop.backends import choice
from backprop.base.interrupts import HeldInterrupts
from backprop.learn import pace
from backprop.sklearn import (
    FleetSearchCV,
    MLPClassifier,
    MLPEnsembleClassifier,
    MLPEnsembleRegressor,
    MLPRegressor,
    draws,
)
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:The least populated class"
)

IRIS = load_iris(return_X_y=True)
X, Y = IRIS[0][::5], IRIS[1][::5]  # 30 rows, 10 of each class
NUMBERS = load_diabetes().data[:30, :4] * 20, np.linspace(-1, 1, 30)
ZEROS, ONES = np.zeros(30), np.ones(30)
SETTINGS = {"hidden_layer_sizes": 3, "max_iter": 3, "random_state": 0}
AVERAGE = callbacks.ExponentialMovingAverage(0.9)


def with_nan(array):
    array = np.array(array, np.float64)
    array[3] = np.nan
    return array


def state_of(estimator):
    """All attributes, and what they hold; callbacks keep records of their own."""
    content = {name: pickle.dumps(value) for name, value in vars(estimator).items() if name != "callbacks"}
    return dict(vars(estimator)), content


def assert_unchanged(estimator, state):
    attributes, content = state
    assert vars(estimator).keys() == attributes.keys()
    assert all(vars(estimator)[name] is value for name, value in attributes.items())
    assert state_of(estimator)[1] == content


def assert_refused(estimator, call, *arguments, **named):
    state = state_of(estimator)
    with pytest.raises((TypeError, ValueError, OSError)):
        getattr(estimator, call)(*arguments, **named)
    assert_unchanged(estimator, state)


# What is set, and the arguments that differ from X and y.
WRONG = {
    "alpha": ({"alpha": -1.0}, {}),
    "layers": ({"hidden_layer_sizes": 0}, {}),
    "loss": ({"loss": "no such"}, {}),
    "solver and dropout": ({"solver": "lbfgs", "dropout": 0.5}, {}),
    "bagging and warm_start": ({"bagging": 2, "warm_start": True}, {}),
    "folds": ({"bagging": 31}, {}),
    "a fold without weight": ({"bagging": 30}, {"sample_weight": np.eye(30)[3]}),
    "a fold without weight, lbfgs": ({"bagging": 30, "solver": "lbfgs"}, {"sample_weight": np.eye(30)[3]}),
    "monitor": ({"callbacks": [callbacks.EarlyStopping("val_loss")]}, {}),
    "no such folder": ({"callbacks": [callbacks.CSVLogger("/no/such/folder/log.csv")]}, {}),
    "two averages": ({"callbacks": [AVERAGE, callbacks.ExponentialMovingAverage(0.5)]}, {}),
    "X has no numbers": ({}, {"X": np.full((30, 4), "a")}),
    "X is not finite": ({}, {"X": with_nan(X)}),
    "X has one axis": ({}, {"X": X[:, 0]}),
    "X has no rows": ({}, {"X": X[:0], "y": Y[:0]}),
    "X has other rows": ({}, {"X": X[:-1]}),
    "X does not fit": ({"dtype": "float32"}, {"X": X * 1e300}),
    "no y": ({}, {"y": None}),
    "weights below 0": ({}, {"sample_weight": -ONES}),
    "weights of 0": ({}, {"sample_weight": ZEROS}),
    "weights not finite": ({}, {"sample_weight": with_nan(ONES)}),
    "too few weights": ({}, {"sample_weight": ONES[:-1]}),
    "weights of 0, lbfgs": ({"solver": "lbfgs"}, {"sample_weight": ZEROS}),
    "validation without y": ({}, {"X_val": X}),
    "validation with lbfgs": ({"solver": "lbfgs"}, {"X_val": X, "y_val": Y}),
    "validation not finite": ({}, {"X_val": with_nan(X), "y_val": Y}),
    "validation columns": ({}, {"X_val": X[:, :2], "y_val": Y}),
    "validation rows": ({}, {"X_val": X, "y_val": Y[:-1]}),
    "validation weights": ({}, {"X_val": X, "y_val": Y, "sample_weight_val": ZEROS}),
    "early stopping, few rows": ({"early_stopping": True}, {"X": X[:4], "y": Y[:4]}),
    "early stopping, weights": ({"early_stopping": True}, {"sample_weight": np.eye(30)[3]}),
    "warm start, layers": ({"warm_start": True, "hidden_layer_sizes": (3, 2)}, {}),
    "warm start, columns": ({"warm_start": True}, {"X": X[:, :3]}),
}
CLASSES = WRONG | {
    "y is continuous": ({}, {"y": np.linspace(0, 1, 30)}),
    "y has columns of classes": ({}, {"y": np.column_stack([Y, Y])}),
    "loss and classes": ({"loss": "binary_cross_entropy"}, {}),
    "classes without weight": ({"class_weight": {0: 0.0, 1: 0.0, 2: 0.0}}, {}),
    "class_weight": ({"class_weight": "fair"}, {}),
    "class_weight of no class": ({"class_weight": {7: 1.0}}, {}),
    "validation classes": ({}, {"X_val": X, "y_val": Y + 1}),
    "warm start, classes": ({"warm_start": True}, {"y": Y % 2}),
}
REGRESSION = WRONG | {
    "y is not finite": ({}, {"y": with_nan(ONES)}),
    "y does not suit the loss": ({"loss": "poisson"}, {"y": -ONES}),
    "y does not fit": ({"dtype": "float32"}, {"y": ONES * 1e300}),
    "scale_targets and loss": ({"scale_targets": True, "loss": "poisson"}, {}),
    "scale_targets and y": ({"scale_targets": True, "dtype": "float32"}, {"y": ONES * 1e300}),
    "validation targets": ({"loss": "poisson"}, {"y": ONES, "X_val": X, "y_val": -ONES}),
    "bayesian, parameters": ({"solver": "bayesian", "hidden_layer_sizes": 2000}, {}),
    "bayesian, loss": ({"solver": "bayesian", "loss": "huber"}, {}),
}
REFUSED = [pytest.param(MLPClassifier, (X, Y), *case, id=f"classifier, {name}") for name, case in CLASSES.items()] + [
    pytest.param(MLPRegressor, NUMBERS, *case, id=f"regressor, {name}") for name, case in REGRESSION.items()
]


@pytest.mark.parametrize(("Estimator", "rows", "settings", "wrong"), REFUSED)
@pytest.mark.parametrize("before", ["new", "adam", "lbfgs", "early stopping", "bagging"])
def test_a_refused_fit_leaves_the_estimator_as_it_was(Estimator, rows, settings, wrong, before):
    model = Estimator(**SETTINGS)
    if before == "new":
        if settings.get("warm_start") and "bagging" not in settings:
            return  # goes on with nothing
    else:
        earlier = {"lbfgs": {"solver": "lbfgs"}, "early stopping": {"early_stopping": True}, "bagging": {"bagging": 2}}
        model.set_params(**earlier.get(before, {})).fit(*rows)
        model.set_params(**Estimator(**SETTINGS).get_params())
    arguments = {"X": rows[0], "y": rows[1]} | wrong
    model.set_params(**settings)
    assert_refused(model, "fit", **arguments)


@pytest.mark.parametrize("before", ["new", "partial_fit", "fit"])
@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({}, {"X": with_nan(X)}),
        ({}, {"X": X[:, :3]}),
        ({}, {"y": Y[:-1]}),
        ({}, {"y": np.full(30, 3)}),
        ({}, {"classes": [0, 1, 5]}),
        ({}, {"sample_weight": ZEROS}),
        ({}, {"sample_weight": -ONES}),
        ({}, {"y": np.column_stack([Y == 0, Y == 1])}),
        ({"class_weight": "balanced"}, {}),
        ({"early_stopping": True}, {}),
        ({"hidden_layer_sizes": 5}, {}),
        ({"alpha": -1.0}, {}),
        ({"callbacks": [AVERAGE]}, {}),
    ],
    ids=str,
)
def test_a_refused_partial_fit_leaves_the_estimator_as_it_was(settings, wrong, before):
    model = MLPClassifier(**SETTINGS)
    if before == "new":
        if (
            wrong.keys() & {"classes"}
            or (wrong.get("X") is not None and wrong["X"].shape[1] == 3)
            or ("hidden_layer_sizes" in settings)
            or wrong.get("y", Y).ndim == 2
        ):
            return  # right as the first call
    else:
        model.fit(X, Y)
        if before == "partial_fit":
            model.partial_fit(X, Y)
    model.set_params(**settings)
    assert_refused(model, "partial_fit", **{"X": X, "y": Y, "classes": [0, 1, 2]} | wrong)


def test_a_refused_first_partial_fit_knows_no_classes():
    model = MLPClassifier(**SETTINGS)
    assert_refused(model, "partial_fit", with_nan(X), Y, classes=[0, 1, 2, 3])
    model.partial_fit(X, Y, classes=[0, 1, 2])
    assert model.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [({"early_stopping": True}, {"sample_weight": np.eye(30)[3]}), ({}, {"X_val": X}), ({"bagging": 31}, {})],
    ids=str,
)
def test_a_refused_fit_draws_nothing(settings, wrong):
    random = np.random.RandomState(0)
    model = MLPRegressor(**SETTINGS | {"random_state": random} | settings)
    assert_refused(model, "fit", **{"X": X, "y": ONES} | wrong)
    assert random.randint(1 << 30) == np.random.RandomState(0).randint(1 << 30)


def test_a_refused_fit_leaves_the_average_of_the_one_before():
    average = callbacks.ExponentialMovingAverage(0.9)
    model = MLPClassifier(**SETTINGS, callbacks=[average]).fit(X, Y)
    assert (count := average.n_averaged) > 0
    with pytest.raises(ValueError, match="callbacks: needs none that averages for partial_fit"):
        model.partial_fit(X, Y)
    with pytest.raises(ValueError, match="sample_weight: needs at least one weight > 0"):
        model.fit(X, Y, ZEROS)
    assert average.n_averaged == count


@pytest.mark.parametrize("members", ["seed", "bootstrap", "fold"])
@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"n_estimators": 0}, {}),
        ({"members": "fold", "n_estimators": 31}, {}),
        ({}, {"X": with_nan(X)}),
        ({}, {"y": np.linspace(0, 1, 30)}),
        ({}, {"sample_weight": ZEROS}),
        ({"loss": "binary_cross_entropy"}, {}),
        ({"class_weight": {0: 0.0, 1: 0.0, 2: 0.0}}, {}),
        ({"early_stopping": True, "validation_fraction": 0.01}, {}),
    ],
    ids=str,
)
def test_a_refused_fit_leaves_the_ensemble_as_it_was(members, settings, wrong):
    for model in (MLPEnsembleClassifier(**SETTINGS), MLPEnsembleClassifier(**SETTINGS, n_estimators=2).fit(X, Y)):
        model.set_params(**{"members": members, "n_estimators": 3} | settings)
        assert_refused(model, "fit", **{"X": X, "y": Y} | wrong)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.parametrize(
    ("settings", "arguments"),
    [({}, (X * np.nan, Y)), ({}, (X, Y[:-1])), ({"param_grid": {"alpha": [-1.0]}}, (X, Y)), ({"cv": 1}, (X, Y))],
    ids=["X", "y", "alpha", "cv"],
)
def test_a_refused_search_leaves_the_search_as_it_was(settings, arguments):
    search = FleetSearchCV(MLPClassifier(**SETTINGS), {"alpha": [0.1, 0.2]}, cv=2).fit(X, Y)
    assert_refused(search.set_params(**settings), "fit", *arguments)


def interrupted(monkeypatch):
    def deliver(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(HeldInterrupts, "deliver", deliver)
    monkeypatch.setattr(pace, "SLICE_SECONDS", 0.0)


@pytest.mark.parametrize(
    "model",
    [
        MLPClassifier(**SETTINGS, solver="lbfgs"),
        MLPClassifier(**SETTINGS, bagging=2),
        MLPEnsembleClassifier(**SETTINGS),
    ],
    ids=["lbfgs", "bagging", "ensemble"],
)
def test_ctrl_c_where_no_network_can_be_kept_leaves_the_estimator_as_it_was(model, monkeypatch):
    model = clone(model).fit(X, Y)
    state = state_of(model)
    interrupted(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    assert_unchanged(model, state)


def test_what_a_callback_stops_after_the_first_step_is_kept():
    def fail(network, epoch, logs):
        raise ValueError("enough")

    model = MLPClassifier(**SETTINGS).fit(X, Y)
    first = model.coefs_[0]
    with pytest.raises(ValueError, match="enough"):
        model.set_params(callbacks=[callbacks.LambdaCallback(on_epoch_end=fail)]).fit(X, Y)
    assert model.n_iter_ == 1
    assert not np.array_equal(model.coefs_[0], first)


def test_a_later_fit_says_nothing_of_what_was_learned_before():
    model = MLPRegressor(**SETTINGS, solver="bayesian", warm_start=True).fit(*NUMBERS)
    model.predict(NUMBERS[0], return_std=True)
    model.set_params(solver="adam").fit(*NUMBERS)
    with pytest.raises(ValueError, match="return_std: needs to be fitted with solver='bayesian'"):
        model.predict(NUMBERS[0], return_std=True)
    model = MLPRegressor(**SETTINGS, bagging=2).fit(*NUMBERS)
    assert not hasattr(model.partial_fit(*NUMBERS), "oof_score_")


# --- which argument is wrong -----------------------------------------------------------------------------------------


SAYS = {
    "no y_val": ({"X_val": X}, "y_val: needs to be given where X_val is, got None"),
    "no X_val": ({"y_val": Y}, "X_val: needs to be given where y_val is, got None"),
    "weights only": ({"sample_weight_val": ONES}, "X_val: needs to be given where sample_weight_val is, got None"),
    "columns": ({"X_val": X[:, :2]}, r"X_val: needs 4 columns, got 2 \(shape \(30, 2\)\)"),
    "sparse columns": ({"X_val": sparse.csr_matrix(X[:, :2])}, "X_val: needs 4 columns, got 2"),
    "one axis": ({"X_val": X[:, 0]}, r"X_val: needs a 2-D array of shape \(n, 4\), got shape \(30,\)"),
    "no rows": ({"X_val": X[:0], "y_val": Y[:0]}, r"X_val: needs at least one row, got shape \(0, 4\)"),
    "NaN": ({"X_val": with_nan(X)}, r"X_val: needs finite numbers, got nan at X_val\[3, 0\]"),
    "sparse NaN": ({"X_val": sparse.csc_matrix(with_nan(X))}, r"X_val: needs finite numbers, got nan at X_val\[3, 0\]"),
    "list with NaN": ({"X_val": with_nan(X).tolist()}, r"X_val: needs finite numbers, got nan at X_val\[3, 0\]"),
    "text": ({"X_val": np.full((30, 4), "a")}, "X_val: needs real numbers, got "),
    "complex": ({"X_val": X + 1j}, "X_val: needs real numbers, got "),
    "rows": ({"y_val": Y[:-1]}, "y_val: needs one row for each of the 30 rows of X_val, got 29"),
    "no array": ({"y_val": 1}, "y_val: needs one row for each of the 30 rows of X_val, got a single number"),
    "negative": ({"sample_weight_val": -ONES}, r"sample_weight_val: needs weights >= 0, got -1.0 at sample_weight_val"),
    "zeros": ({"sample_weight_val": ZEROS}, "sample_weight_val: needs at least one weight > 0"),
    "one zero": ({"sample_weight_val": 0.0}, "sample_weight_val: needs at least one weight > 0"),
    "not finite": (
        {"sample_weight_val": with_nan(ONES)},
        r"sample_weight_val: needs finite numbers, got nan at sample",
    ),
    "too few": ({"sample_weight_val": ONES[:-1]}, "sample_weight_val: needs one row for each of the 30 rows of X_val"),
    "two axes": (
        {"sample_weight_val": np.ones((30, 2))},
        r"sample_weight_val: needs one weight per row, shape \(30,\)",
    ),
    "words": ({"sample_weight_val": ["a"] * 30}, "sample_weight_val: needs real numbers, got "),
    "complex weights": ({"sample_weight_val": 1j}, "sample_weight_val: needs real numbers, got "),
    "sparse weights": ({"sample_weight_val": sparse.csr_matrix(ONES)}, "sample_weight_val: needs real numbers, got "),
    "huge": ({"sample_weight_val": 10**400}, "sample_weight_val: needs numbers that float64 can hold"),
}
OF_CLASSES = {
    "classes": ({"y_val": Y + 1}, r"y_val: needs the classes \[0 1 2\], got \[3\] too"),
    "continuous": ({"y_val": np.linspace(0, 1, 30)}, "y_val: Unknown label type: continuous"),
    "NaN as class": ({"y_val": with_nan(Y)}, r"y_val: needs finite numbers, got nan at y_val\[3\]"),
    "labels": (
        {"y_val": np.column_stack([Y == 0, Y == 1])},
        r"y_val: needs one column of classes, as .* shape \(30, 2\)",
    ),
    "columns of classes": (
        {"y_val": np.column_stack([Y, Y])},
        "y_val: needs one column of classes, or columns of zeros",
    ),
}
OF_NUMBERS = {
    "targets": ({"y_val": with_nan(ONES)}, r"y_val: needs finite numbers, got nan at y_val\[3\]"),
    "columns of y": ({"y_val": np.ones((30, 2))}, r"y_val: needs 1 columns, as y has, got shape \(30, 2\)"),
    "words as y": ({"y_val": ["a"] * 30}, "y_val: needs real numbers, got dtype <U1"),
    "sparse y": ({"y_val": sparse.csr_matrix(ONES).T}, "y_val: needs a dense array, got csr_matrix"),
}


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize(
    ("Estimator", "rows", "given", "message"),
    [pytest.param(MLPClassifier, (X, Y), *case, id=f"classes, {name}") for name, case in (SAYS | OF_CLASSES).items()]
    + [pytest.param(MLPRegressor, NUMBERS, *case, id=f"numbers, {name}") for name, case in (SAYS | OF_NUMBERS).items()],
)
def test_errors_in_validation_samples_name_their_argument(Estimator, rows, given, message, early_stopping):
    alone = not {"no y_val", "no X_val"} & given.keys() and ("to be given" in message)
    arguments = given if alone else {"X_val": X, "y_val": rows[1]} | given
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        Estimator(**SETTINGS, early_stopping=early_stopping).fit(*rows, **arguments)


def test_errors_in_validation_targets_name_their_argument():
    with pytest.raises(ValueError, match=r"^y_val: needs values >= 0 for poisson, got -1.0 at y_val\[0, 0\]"):
        MLPRegressor(**SETTINGS, loss="poisson").fit(X, ONES, X_val=X, y_val=-ONES)
    with pytest.raises(ValueError, match=r"^X_val: needs numbers that fit into float32, got .* at X_val\[0, 0\]"):
        MLPRegressor(**SETTINGS, dtype="float32").fit(X, ONES, X_val=X * 1e300, y_val=ONES)
    two = np.column_stack([ONES, NUMBERS[1]])
    for scaled in (False, True):  # of which one column would be made two
        with pytest.raises(ValueError, match=r"^y_val: needs 2 columns, as y has, got shape \(30,\)"):
            MLPRegressor(**SETTINGS, scale_targets=scaled).fit(X, two, X_val=X, y_val=ONES)
    with pytest.raises(ValueError, match=r"^y_val: needs finite numbers, got nan at y_val\[3\]"):
        MLPRegressor(**SETTINGS, scale_targets=True).fit(*NUMBERS, X_val=X, y_val=with_nan(ONES))
    labels = np.column_stack([Y == 0, Y == 1, Y == 2])
    with pytest.raises(ValueError, match=r"^y_val: needs columns of zeros and ones, as what was learned from"):
        MLPClassifier(**SETTINGS).fit(X, labels, X_val=X, y_val=Y)
    with pytest.raises(ValueError, match=r"^y_val: needs 3 columns, as y has, got shape \(30, 2\)"):
        MLPClassifier(**SETTINGS).fit(X, labels, X_val=X, y_val=labels[:, :2])


def test_targets_are_named_by_their_own_row_where_some_are_held_out():
    y = ONES.copy()
    y[17] = -1
    with pytest.raises(ValueError, match=r"^y: needs values >= 0 for poisson, got -1.0 at y\[17, 0\]"):
        MLPRegressor(**SETTINGS, loss="poisson", early_stopping=True).fit(X, y)


@pytest.mark.parametrize(
    ("settings", "given", "names"),
    [
        ({}, {"sample_weight": np.eye(30)[3]}, "sample_weight: needs"),
        ({"class_weight": {0: 0.0, 1: 1.0, 2: 1.0}}, {"X_val": X[:2], "y_val": Y[:2]}, "class_weight: needs"),
        (
            {"class_weight": {0: 0.0, 1: 1.0, 2: 1.0}},
            {"X_val": X[:2], "y_val": Y[:2], "sample_weight_val": [1, 2]},
            "sample_weight_val, class_weight: need",
        ),
    ],
    ids=str,
)
def test_weights_of_zero_are_named_by_the_arguments_that_weigh(settings, given, names):
    with pytest.raises(ValueError, match=f"^{names} at least one weight > 0 among the samples that are validated with"):
        MLPClassifier(**SETTINGS, **settings, early_stopping=True).fit(X, Y, **given)


def test_weights_of_validation_that_overflow_with_those_of_classes():
    with pytest.raises(ValueError, match=r"^class_weight times sample_weight_val: needs finite numbers"):
        MLPClassifier(**SETTINGS, class_weight={0: 1e300}).fit(X, Y, X_val=X, y_val=Y, sample_weight_val=1e300)


def test_class_weights_of_rows_that_lack_a_class():
    """The weights are those of the classes that the estimator knows, not of the rows at hand."""
    some = Y > 0
    model = MLPClassifier(**SETTINGS, class_weight={0: 2.0})
    model.fit(X, Y, X_val=X[some], y_val=Y[some])
    model.partial_fit(X[some], Y[some])


@pytest.mark.parametrize("Estimator", [MLPClassifier, MLPRegressor])
def test_y_of_another_kind_than_what_was_learned_from(Estimator):
    columns = np.column_stack([Y == 0, Y == 1, Y == 2]).astype(int)
    model = Estimator(**SETTINGS, warm_start=True).fit(X, Y)
    with pytest.raises(ValueError, match="y: needs one column of classes" if Estimator is MLPClassifier else "hidden"):
        model.fit(X, columns)


DAYS = np.arange(30).astype("datetime64[D]")
MASKED = np.ma.masked_greater(X, 3)
WORDS = np.array(["a", "b", "c"])[Y].astype(object)


@pytest.mark.parametrize("Estimator", [MLPClassifier, MLPRegressor, MLPEnsembleClassifier, MLPEnsembleRegressor])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"X": np.column_stack([DAYS, DAYS])}, r"X: needs real numbers, got dtype datetime64\[D\]"),
        ({"X": (DAYS - DAYS[0])[:, None]}, r"X: needs real numbers, got dtype timedelta64\[D\]"),
        ({"X": MASKED}, r"X: needs an array without masked values; fill them first \(X.filled"),
        ({"y": np.ma.masked_equal(Y, 1)}, "y: needs an array without masked values"),
        ({"sample_weight": DAYS}, r"sample_weight: needs real numbers, got dtype datetime64\[D\]"),
        ({"sample_weight": np.ma.masked_equal(Y, 1)}, "sample_weight: needs an array without masked values"),
        ({"X_val": np.column_stack([DAYS] * 4)}, r"X_val: needs real numbers, got dtype datetime64\[D\]"),
        ({"X_val": MASKED}, "X_val: needs an array without masked values"),
        ({"y_val": np.ma.masked_equal(Y, 1)}, "y_val: needs an array without masked values"),
        ({"X": [[day, day] for day in DAYS]}, r"X: needs real numbers, got dtype datetime64\[D\]"),
        ({"X": [[day - DAYS[0]] for day in DAYS]}, r"X: needs real numbers, got dtype timedelta64\[D\]"),
        ({"X": [[0.5, day] for day in DAYS]}, "X: needs real numbers, got datetime64"),
        ({"X": np.array([[b"1", 2.0]] * 30, object)}, "X: needs real numbers, got bytes"),
        ({"X": [["1", "2"]] * 30}, "X: needs real numbers, got dtype <U1"),
        ({"X": [[b"1"]] * 30}, r"X: needs real numbers, got dtype \|S1"),
        ({"X": list(MASKED)}, r"X\[\d+\]: needs an array without masked values"),
        ({"y": tuple(np.ma.masked_equal(Y, 1))}, r"y\[\d+\]: needs an array without masked values"),
        ({"sample_weight": list(DAYS)}, r"sample_weight: needs real numbers, got dtype datetime64\[D\]"),
        ({"sample_weight": [b"1"] * 30}, r"sample_weight: needs real numbers, got dtype \|S1"),
        ({"X_val": [[day] * 4 for day in DAYS]}, r"X_val: needs real numbers, got dtype datetime64\[D\]"),
    ],
)
def test_dates_and_masked_values_are_no_numbers(Estimator, given, message):
    """scikit-learn takes them for the numbers behind them; so it does with what lists hold."""
    if any(name.endswith("_val") for name in given):
        if "Ensemble" in Estimator.__name__:
            return
        given = {"X_val": X, "y_val": Y} | given
    with pytest.raises(TypeError, match=f"^{message}"):
        Estimator(**{"loss": "log_loss" if "Class" in Estimator.__name__ else "squared_error"}, **SETTINGS).fit(
            **{"X": X, "y": Y} | given
        )


@pytest.mark.parametrize("X_new", [MASKED, np.column_stack([DAYS] * 4)], ids=["masked", "dates"])
def test_dates_and_masked_values_are_not_predicted_from(X_new):
    for estimator in (MLPClassifier(**SETTINGS).fit(X, Y), MLPEnsembleClassifier(**SETTINGS).fit(X, Y)):
        with pytest.raises(TypeError, match=r"^X: needs "):
            estimator.predict(X_new)


def missing(labels, label):
    labels = list(labels)
    labels[3] = label
    return labels


@pytest.mark.parametrize("in_validation", [False, True])
@pytest.mark.parametrize("kind", ["list", "array", "pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("label", [None, np.nan])
@pytest.mark.parametrize("labels", [WORDS, WORDS == "a"], ids=["words", "truth"])
def test_a_missing_label_is_named(labels, label, kind, in_validation):
    """It is neither a class of its own, as in a list of words, nor compared with others, which has no result."""
    y = missing(labels, label)
    if kind in ("polars", "pyarrow"):
        library = pytest.importorskip(kind)
        y = library.Series(missing(labels, None)) if kind == "polars" else library.array(missing(labels, None))
    elif kind == "pandas":
        y = pytest.importorskip("pandas").Series(y)
    elif kind == "array":
        y = np.array(y, object)
    name = "y_val" if in_validation else "y"
    arguments = {"X": X, "y": labels.astype(str), "X_val": X, "y_val": y} if in_validation else {"X": X, "y": y}
    with pytest.raises(ValueError, match=rf"^{name}: needs a label for each row, got \S+ at {name}\[3\]; leave "):
        MLPClassifier(**SETTINGS).fit(**arguments)


@pytest.mark.parametrize("dtype", ["string", "Int64", "boolean", "category"])
def test_a_missing_label_of_pandas_is_named(dtype):
    pandas = pytest.importorskip("pandas")
    y = pandas.Series(missing(WORDS if dtype in ("string", "category") else Y > 0, None)).astype(dtype)
    for each in (y, y.array):
        if dtype == "category" and each is not y:
            continue
        with pytest.raises(ValueError, match=r"^y: needs a label for each row|^Input y contains NaN"):
            MLPClassifier(**SETTINGS).fit(X, each)


@pytest.mark.parametrize("classes", [[0, 1, None], ["a", 1]], ids=str)
def test_classes_that_are_none_name_their_argument(classes):
    with pytest.raises((TypeError, ValueError), match=r"^classes: "):
        MLPClassifier(**SETTINGS).partial_fit(X, Y, classes=classes)


# --- draws without weight --------------------------------------------------------------------------------------------


@pytest.fixture(params=[choice.available()[0], choice.REFERENCE])
def computed_by(request, monkeypatch):
    monkeypatch.setattr(choice, "default", lambda: choice.load(request.param))


ONE_OF_TEN = np.eye(10)[3]
TEN = np.arange(20.0).reshape(10, 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sample_weight", [None, np.linspace(1, 2, 10)], ids=["", "sample_weight"])
def test_every_bootstrap_has_a_class_with_weight(sample_weight, dtype, computed_by):
    settings = SETTINGS | {"class_weight": {"a": 0.0, "b": 1.0}, "dtype": dtype, "batch_size": 5}
    y = np.where(ONE_OF_TEN, "b", "a")
    one, other = (
        MLPEnsembleClassifier(**settings, members="bootstrap", n_estimators=20).fit(TEN, y, sample_weight)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.predict_members(TEN), other.predict_members(TEN))
    assert all("b" in each.classes_ for each in one.estimators_)
    random, drawn = np.random.RandomState(0), []
    while len(drawn) < 20:
        rows = random.randint(0, 10, 10)
        if 3 in rows:
            drawn.append(rows)
    for k, (member, rows) in enumerate(zip(one.estimators_, drawn, strict=True)):
        weight = None if sample_weight is None else sample_weight[rows]
        alone = MLPClassifier(**settings | {"random_state": k}).fit(TEN[rows], y[rows], weight)
        assert alone.loss_curve_ == member.loss_curve_


def test_a_weight_that_the_dtype_of_the_members_holds_for_zero_is_none():
    weight = np.where(ONE_OF_TEN, 1.0, 1e-300)
    settings = SETTINGS | {"dtype": "float32", "members": "bootstrap", "n_estimators": 20, "batch_size": 5}
    assert len(MLPEnsembleRegressor(**settings).fit(TEN, np.arange(10.0), weight).estimators_) == 20


def test_every_bootstrap_has_weight_in_both_parts_of_early_stopping():
    weight = np.arange(30) % 5 == 0
    settings = SETTINGS | {"early_stopping": True, "members": "bootstrap", "n_estimators": 20, "batch_size": 5}
    one, other = (MLPEnsembleRegressor(**settings).fit(*NUMBERS, weight) for _ in range(2))
    np.testing.assert_array_equal(one.predict_members(X), other.predict_members(X))
    alone = clone(one.estimators_[0])
    refused = 0
    for seed in range(20):
        try:
            alone.set_params(random_state=seed).fit(*NUMBERS, weight)
        except ValueError:
            refused += 1
    assert 0 < refused < 20


def test_bootstraps_that_lack_a_class_of_class_weight():
    model = MLPEnsembleClassifier(**SETTINGS, class_weight={2: 0.0}, members="bootstrap", n_estimators=30)
    assert len(model.fit(X[::5], Y[::5]).estimators_) == 30  # of two rows of each class


def test_bootstraps_where_no_draw_can_work(monkeypatch):
    model = MLPEnsembleClassifier(**SETTINGS, members="bootstrap", class_weight={0: 0.0, 1: 0.0, 2: 0.0})
    with pytest.raises(
        ValueError, match=r"^class_weight: needs at least one weight > 0 among the samples that are learned"
    ):
        model.fit(X, Y)
    with pytest.raises(ValueError, match=r"^class_weight: .* not in class_weight"):
        model.set_params(class_weight={7: 1.0}).fit(X, Y)
    nobody = np.arange(0)
    monkeypatch.setattr(draws, "MOST_DRAWS", 3)
    monkeypatch.setattr(MLPClassifier, "_split", lambda self, n_rows, *_: (np.arange(n_rows), nobody))
    model.set_params(class_weight=None, early_stopping=True)
    with pytest.raises(
        ValueError, match=r"^members: needs draws of 30 rows with a weight > 0 for 'bootstrap', got none in 3 draws"
    ):
        model.fit(X, Y, ONES)


def test_what_the_bayesian_solver_refuses_has_the_names_of_the_estimator():
    X, y = np.arange(12.0).reshape(4, 3), np.arange(4.0)
    for settings, rows, message in [
        ({"loss": "huber"}, 4, "^loss: needs 'squared_error' for solver='bayesian', got 'huber'$"),
        ({}, 1, "^X: needs more than one sample for solver='bayesian' .* got 1$"),
        ({"hidden_layer_sizes": (200, 200)}, 4, "^hidden_layer_sizes: needs at most 5000 .* use solver='lbfgs'$"),
    ]:
        with pytest.raises(ValueError, match=message):
            MLPRegressor(solver="bayesian", **settings).fit(X[:rows], y[:rows])
