"""Ensembles: their members are plain estimators, their predictions means; and out-of-fold predictions of estimators."""

import pickle

import numpy as np
import pytest
from backprop.backends import choice
from backprop.callbacks import LambdaCallback
from backprop.sklearn import (
    FleetSearchCV,
    InvalidParameterError,
    MLPClassifier,
    MLPEnsembleClassifier,
    MLPEnsembleRegressor,
    MLPRegressor,
)
from scipy import sparse
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.datasets import load_diabetes, load_iris, make_multilabel_classification
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IRIS = StandardScaler().fit_transform(load_iris().data), load_iris().target
DIABETES = load_diabetes().data * 20, (load_diabetes().target - 150) / 75
MULTILABEL = make_multilabel_classification(80, 6, n_classes=3, random_state=0)
MULTIOUTPUT = DIABETES[0], np.column_stack([DIABETES[1], DIABETES[0][:, 2]])
SETTINGS = {"hidden_layer_sizes": (5,), "max_iter": 15, "batch_size": 32, "random_state": 7}
PROBLEMS = {
    "classes": (MLPEnsembleClassifier, MLPClassifier, *IRIS),
    "names": (MLPEnsembleClassifier, MLPClassifier, IRIS[0][:100], np.array(["no", "yes"])[IRIS[1][:100]]),
    "labels": (MLPEnsembleClassifier, MLPClassifier, *MULTILABEL),
    "numbers": (MLPEnsembleRegressor, MLPRegressor, *DIABETES),
    "several numbers": (MLPEnsembleRegressor, MLPRegressor, *MULTIOUTPUT),
}
each_problem = pytest.mark.parametrize("problem", PROBLEMS)
each_kind = pytest.mark.parametrize("members", ["seed", "bootstrap", "fold"])


@pytest.fixture(params=[choice.available()[0], choice.REFERENCE])
def computed_by(request, monkeypatch):
    """The best backend and the reference, in turn the default."""
    monkeypatch.setattr(choice, "default", lambda: choice.load(request.param))
    return request.param


def output(estimator, X):
    """Probabilities or predictions."""
    return estimator.predict_proba(X) if is_classifier(estimator) else estimator.predict(X)


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [
        MLPEnsembleClassifier(n_estimators=2),
        MLPEnsembleRegressor(n_estimators=2, hidden_layer_sizes=50, learning_rate_init=0.01),
        MLPEnsembleClassifier(n_estimators=3, members="bootstrap"),
        MLPClassifier(bagging=2),
        MLPRegressor(bagging=2),
    ],
    expected_failed_checks=lambda estimator: {
        f"check_sample_weight_equivalence_on_{kind}_data": "which rows are drawn does not depend on their weights"
        for kind in ("dense", "sparse")
        if getattr(estimator, "members", None) == "bootstrap"
    },
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


# --- ensembles -----------------------------------------------------------------------------------------------------


@each_problem
def test_members_by_seed_are_plain_estimators_with_these_seeds(problem, computed_by):
    Ensemble, Plain, X, y = PROBLEMS[problem]
    ensemble = Ensemble(**SETTINGS, n_estimators=3).fit(X, y)
    outputs = []
    for k, member in enumerate(ensemble.estimators_):
        alone = Plain(**{**SETTINGS, "random_state": 7 + k}).fit(X, y)
        assert type(member) is Plain
        assert member.loss_curve_ == alone.loss_curve_
        np.testing.assert_array_equal(member.coefs_[0], alone.coefs_[0])
        outputs.append(output(alone, X))
    np.testing.assert_array_equal(ensemble.predict_members(X), outputs)
    np.testing.assert_array_equal(output(ensemble, X), np.mean(outputs, axis=0))
    np.testing.assert_array_equal(ensemble.predict_std(X), np.std(outputs, axis=0))
    assert ensemble.predict(X).shape == y.shape
    assert not hasattr(ensemble, "oof_score_")


def test_members_by_bootstrap_learn_from_rows_drawn_with_replacement(computed_by):
    ensemble = MLPEnsembleRegressor(**SETTINGS, n_estimators=3, members="bootstrap").fit(*DIABETES)
    random, n = np.random.RandomState(7), len(DIABETES[1])
    total, count = np.zeros(n), np.zeros(n)
    for k, member in enumerate(ensemble.estimators_):
        rows = random.randint(0, n, n)
        alone = MLPRegressor(**{**SETTINGS, "random_state": 7 + k}).fit(DIABETES[0][rows], DIABETES[1][rows])
        assert member.loss_curve_ == alone.loss_curve_
        out = np.setdiff1d(np.arange(n), rows)
        total[out] += alone.predict(DIABETES[0][out])
        count[out] += 1
    known = count > 0
    assert 0 < (~known).sum() < n
    np.testing.assert_array_equal(np.isnan(ensemble.oof_prediction_), ~known)
    np.testing.assert_allclose(ensemble.oof_prediction_[known], total[known] / count[known], rtol=1e-12)
    assert ensemble.oof_score_ == r2_score(DIABETES[1][known], ensemble.oof_prediction_[known])


def test_members_by_fold_learn_from_all_but_their_fold(computed_by):
    ensemble = MLPEnsembleClassifier(**SETTINGS, n_estimators=3, members="fold").fit(*IRIS)
    for k, (rows, out) in enumerate(StratifiedKFold(3, shuffle=True, random_state=7).split(*IRIS)):
        alone = MLPClassifier(**{**SETTINGS, "random_state": 7 + k}).fit(IRIS[0][rows], IRIS[1][rows])
        assert ensemble.estimators_[k].loss_curve_ == alone.loss_curve_
        np.testing.assert_array_equal(ensemble.oof_prediction_[out], alone.predict_proba(IRIS[0][out]))
    assert ensemble.oof_score_ == accuracy_score(IRIS[1], ensemble.oof_prediction_.argmax(axis=1))


@each_problem
@each_kind
def test_every_kind_suits_every_problem(problem, members):
    Ensemble, _, X, y = PROBLEMS[problem]
    weight = np.linspace(0.5, 1.5, len(X))
    ensemble = Ensemble(**SETTINGS, n_estimators=3, members=members).fit(X, y, weight)
    mean = output(ensemble, X)
    assert ensemble.predict(X).shape == y.shape
    assert ensemble.predict_members(X).shape == (3, *mean.shape)
    assert ensemble.predict_std(X).shape == mean.shape
    assert hasattr(ensemble, "oof_score_") == (members != "seed")
    if members != "seed":
        assert ensemble.oof_prediction_.shape == mean.shape
        assert np.isfinite(ensemble.oof_score_)
    assert is_classifier(ensemble) or is_regressor(ensemble)
    other = ensemble.fit(X, y, weight[::-1])
    assert not np.array_equal(output(other, X), mean)


def test_quantiles():
    ensemble = MLPEnsembleRegressor(**SETTINGS, n_estimators=5).fit(*DIABETES)
    members = ensemble.predict_members(DIABETES[0])
    np.testing.assert_array_equal(ensemble.predict_quantiles(DIABETES[0], 0.5), np.median(members, axis=0))
    low, high = ensemble.predict_quantiles(DIABETES[0], [0, 1])
    np.testing.assert_array_equal(low, members.min(axis=0))
    np.testing.assert_array_equal(high, members.max(axis=0))
    for wrong in (1.5, [-0.1, 0.5], np.nan, [[0.5]], "a", None, [0.1, [0.2]]):
        with pytest.raises((TypeError, ValueError), match="q: needs"):
            ensemble.predict_quantiles(DIABETES[0], wrong)


def test_classes_that_a_member_has_not_seen():
    X, y = np.vstack([IRIS[0][:60], IRIS[0][100:101]]), np.append(IRIS[1][:60], 2)
    ensemble = MLPEnsembleClassifier(**SETTINGS, n_estimators=8, members="bootstrap").fit(X, y)
    assert {len(each.classes_) for each in ensemble.estimators_} == {2, 3}
    np.testing.assert_allclose(ensemble.predict_proba(X).sum(axis=1), 1)
    unseen = next(k for k, each in enumerate(ensemble.estimators_) if len(each.classes_) == 2)
    assert (ensemble.predict_members(X)[unseen, :, 2] == 0).all()


def test_random_states():
    ensembles = [MLPEnsembleRegressor(**{**SETTINGS, "random_state": state}, n_estimators=2).fit(*DIABETES)
                 for state in (np.random.RandomState(3), np.random.RandomState(3), None)]  # fmt: skip
    one, other, third = (each.predict(DIABETES[0]) for each in ensembles)
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, third)
    last = MLPEnsembleRegressor(**{**SETTINGS, "random_state": 2**32 - 1}, n_estimators=2).fit(*DIABETES)
    assert [each.random_state for each in last.estimators_] == [2**32 - 1, 0]


def test_what_a_fleet_cannot_train():
    ensemble = MLPEnsembleClassifier(**{**SETTINGS, "solver": "lbfgs"}, n_estimators=2).fit(*IRIS)
    alone = MLPClassifier(**{**SETTINGS, "solver": "lbfgs", "random_state": 8}).fit(*IRIS)
    np.testing.assert_array_equal(ensemble.estimators_[1].coefs_[0], alone.coefs_[0])


def test_sparse_rows_and_labels_and_data_frames():
    pandas = pytest.importorskip("pandas")
    X, y = MULTILABEL
    ensemble = MLPEnsembleClassifier(**SETTINGS, n_estimators=2, members="bootstrap")
    dense = ensemble.fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(ensemble.fit(sparse.csr_matrix(X), y).predict_proba(sparse.csc_matrix(X)), dense)
    assert sparse.issparse(ensemble.fit(X, sparse.csr_matrix(y)).predict(X))
    frame = pandas.DataFrame(IRIS[0], columns=list("abcd"))
    ensemble.fit(frame, IRIS[1])
    assert list(ensemble.feature_names_in_) == list("abcd")
    with pytest.raises(ValueError, match="feature names should match"):
        ensemble.predict(frame[list("dcba")])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"members": "rows"}, "members: needs"),
        ({"n_estimators": 0}, "n_estimators: needs an integer >= 1"),
        ({"n_estimators": 1, "members": "fold"}, "n_estimators: needs an integer >= 2"),
        ({"alpha": -1.0}, "alpha: needs"),
    ],
    ids=str,
)
def test_parameters_are_checked(wrong, message):
    with pytest.raises(InvalidParameterError, match=f"MLPEnsembleClassifier: {message}"):
        MLPEnsembleClassifier(**wrong).fit(*IRIS)
    with pytest.raises(TypeError, match=r"MLPEnsembleClassifier: .*verbose"):
        MLPEnsembleClassifier(verbose=True)
    with pytest.raises(ValueError, match="Seed must be between 0"):
        MLPEnsembleClassifier(random_state=-1).fit(*IRIS)
    with pytest.raises(NotFittedError):
        MLPEnsembleRegressor().predict(DIABETES[0])


def test_it_is_an_estimator():
    ensemble = MLPEnsembleClassifier((5,), "tanh", n_estimators=2, max_iter=20, random_state=0)
    assert repr(clone(ensemble)) == repr(ensemble)
    assert "n_estimators=2" in repr(ensemble)
    parameters = set(ensemble.get_params())
    assert parameters == set(MLPClassifier().get_params()) - {"bagging", "verbose", "warm_start"} | {
        "n_estimators", "members",
    }  # fmt: skip
    model = make_pipeline(StandardScaler(), ensemble).fit(*IRIS)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(IRIS[0]), model.predict(IRIS[0]))
    assert cross_val_score(ensemble, *IRIS, cv=2).shape == (2,)
    search = FleetSearchCV(ensemble, {"alpha": [1e-4, 1.0]}, cv=2).fit(*IRIS)
    assert len(search.best_estimator_.estimators_) == 2


# --- out-of-fold predictions of the plain estimators ---------------------------------------------------------------


@each_problem
def test_the_model_is_what_it_would_be_without_folds(problem, computed_by):
    _, Plain, X, y = PROBLEMS[problem]
    for state in (7, np.random.RandomState(3)):
        settings = {**SETTINGS, "random_state": state}
        plain = clone(Plain(**settings)).fit(X, y)
        model = clone(Plain(**settings, bagging=3)).fit(X, y)
        assert model.loss_curve_ == plain.loss_curve_
        np.testing.assert_array_equal(model.coefs_[0], plain.coefs_[0])
        assert model.oof_prediction_.shape == output(plain, X).shape
        assert not hasattr(plain, "oof_score_")


def test_out_of_fold_predictions(computed_by):
    model = MLPClassifier(**SETTINGS, bagging=3).fit(*IRIS)
    for rows, out in StratifiedKFold(3, shuffle=True, random_state=7).split(*IRIS):
        alone = MLPClassifier(**SETTINGS).fit(IRIS[0][rows], IRIS[1][rows])
        np.testing.assert_array_equal(model.oof_prediction_[out], alone.predict_proba(IRIS[0][out]))
    assert model.oof_score_ == accuracy_score(IRIS[1], model.oof_prediction_.argmax(axis=1))

    weight = np.linspace(0.5, 1.5, len(DIABETES[1]))
    regressor = MLPRegressor(**SETTINGS, bagging=3).fit(*DIABETES, weight)
    for rows, out in KFold(3, shuffle=True, random_state=7).split(*DIABETES):
        alone = MLPRegressor(**SETTINGS).fit(DIABETES[0][rows], DIABETES[1][rows], weight[rows])
        np.testing.assert_array_equal(regressor.oof_prediction_[out], alone.predict(DIABETES[0][out]))
    assert regressor.oof_score_ == r2_score(DIABETES[1], regressor.oof_prediction_, sample_weight=weight)


def test_folds_of_what_is_no_array():
    pandas = pytest.importorskip("pandas")
    frame, series = pandas.DataFrame(IRIS[0], columns=list("abcd")), pandas.Series(IRIS[1], index=np.arange(150) + 5)
    model = MLPClassifier(**SETTINGS, bagging=3)
    plain = model.fit(*IRIS).oof_prediction_
    np.testing.assert_array_equal(model.fit(frame, series).oof_prediction_, plain)
    np.testing.assert_array_equal(model.fit(IRIS[0].tolist(), IRIS[1].tolist()).oof_prediction_, plain)
    np.testing.assert_array_equal(model.fit(sparse.csr_matrix(IRIS[0]), IRIS[1]).oof_prediction_, plain)
    X, y = MULTILABEL
    assert MLPClassifier(**SETTINGS, bagging=2).fit(X, sparse.csr_matrix(y)).oof_prediction_.shape == y.shape


def test_they_go_with_the_next_fit():
    model = MLPClassifier(**SETTINGS, bagging=2).fit(*IRIS)
    assert 0 <= model.oof_score_ <= 1
    model.set_params(bagging=None).fit(*IRIS)
    assert not hasattr(model, "oof_score_")
    assert not hasattr(model, "oof_prediction_")


def test_only_the_model_prints(capsys):
    MLPClassifier(**{**SETTINGS, "max_iter": 3}, bagging=2, verbose=True).fit(*IRIS)
    assert capsys.readouterr().out.count("Iteration") == 3


@pytest.mark.parametrize("wrong", [{"bagging": 1}, {"bagging": 2.0}, {"bagging": True}], ids=str)
def test_bagging_is_checked(wrong):
    with pytest.raises(InvalidParameterError, match="bagging: needs"):
        MLPClassifier(**wrong).fit(*IRIS)


@pytest.mark.parametrize("other", [{"warm_start": True}, {"callbacks": [LambdaCallback()]}], ids=["warm", "callbacks"])
def test_what_does_not_go_with_bagging(other):
    with pytest.raises(InvalidParameterError, match="bagging: needs callbacks=None, or averages, and warm_start=False"):
        MLPRegressor(bagging=2, **other).fit(*DIABETES)


@pytest.mark.filterwarnings("ignore:R.2 score is not well-defined")
@pytest.mark.parametrize("weight", [None, [2.0, 1.0]], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    ("Ensemble", "y", "shape"),
    [
        (MLPEnsembleRegressor, [1.0, 2.0], (2,)),
        (MLPEnsembleRegressor, [[1.0, 2.0], [3.0, 4.0]], (2, 2)),
        (MLPEnsembleClassifier, ["a", "b"], (2, 2)),
        (MLPEnsembleClassifier, [[0, 1, 1], [1, 0, 1]], (2, 3)),
    ],
    ids=["regressor", "outputs", "classes", "labels"],
)
def test_rows_that_all_members_have_drawn_have_no_prediction(Ensemble, y, shape, weight):
    settings = SETTINGS | {"max_iter": 2, "batch_size": 1}
    known = {}
    for random_state in range(12):
        model = Ensemble(**settings | {"random_state": random_state}, n_estimators=1, members="bootstrap")
        model.fit([[0.0], [1.0]], y, sample_weight=weight)
        assert model.oof_prediction_.shape == shape
        missing = np.isnan(model.oof_prediction_).reshape(2, -1)
        assert (missing.all(axis=1) == missing.any(axis=1)).all()
        assert model.oof_score_ == model.oof_score_ or missing.all() or Ensemble is MLPEnsembleRegressor
        known[(~missing.all(axis=1)).sum().item()] = np.isnan(model.oof_score_)
    assert known[0]
    assert known.keys() == {0, 1}


def test_every_bootstrap_has_a_row_with_weight():
    """Of ten rows drawn, three in eight have not the only one."""
    X, weight = np.eye(10), np.eye(10)[3]
    settings = SETTINGS | {"batch_size": 5}
    ensemble = MLPEnsembleRegressor(**settings, n_estimators=20, members="bootstrap").fit(X, np.arange(10.0), weight)
    assert len(ensemble.estimators_) == 20
    assert np.isnan(ensemble.oof_score_)
    with pytest.raises(ValueError, match="sample_weight: needs at least one weight > 0"):
        ensemble.fit(X, np.arange(10.0), 0 * weight)


@pytest.mark.parametrize(
    "model", [MLPEnsembleClassifier(members="fold", n_estimators=20), MLPClassifier(bagging=20)], ids=type
)
def test_more_folds_than_there_are_rows_or_rows_of_a_class(model):
    name = "bagging" if hasattr(model, "bagging") else "n_estimators"
    X = np.arange(30.0).reshape(-1, 1)
    with pytest.raises(ValueError, match=rf"{name}: needs at most a fold for each row \(n_samples=19\), got 20"):
        model.fit(X[:19], np.arange(19) % 2)
    with pytest.raises(
        ValueError, match=f"{name}: needs a class with a row for each fold, got 20 folds and at most 15"
    ):
        model.fit(X, np.arange(30) % 2)


@pytest.mark.parametrize(("unit", "dtype"), [(2.0**100, "float32"), (2.0**-70, "float32"), (2.0**600, "float64")])
def test_the_spread_of_large_and_small_predictions(unit, dtype):
    X, y = DIABETES
    spreads = [
        MLPEnsembleRegressor(**{**SETTINGS, "scale_targets": True, "dtype": dtype}, n_estimators=3)
        .fit(X, by * (y - 150))
        .predict_std(X)
        for by in (unit, 1.0)
    ]
    np.testing.assert_allclose(spreads[0] / unit, spreads[1], rtol=1e-5)


def test_the_spread_of_targets_in_units_of_their_own():
    """That of the small one does not drown beside the large one."""
    X, y = DIABETES
    targets = np.stack([1e25 * (y - 150), 1e-5 * (y - 150)], axis=1)
    model = MLPEnsembleRegressor(**{**SETTINGS, "scale_targets": True, "dtype": "float32"}, n_estimators=3)
    members = model.fit(X, targets).predict_members(X)
    np.testing.assert_allclose(model.predict_std(X), members.astype(np.float64).std(axis=0), rtol=1e-4)
