"""FleetSearchCV finds what scikit-learn's searches find, to the last digit; and what it can do beside that."""

import pickle

import numpy as np
import pytest
import sklearn
from backprop.backends import choice
from backprop.sklearn import FleetSearchCV, MLPClassifier, MLPRegressor
from backprop.sklearn.fleets import Together
from scipy.stats import loguniform
from sklearn import config_context, set_config
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    RandomizedSearchCV,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.fixes import parse_version

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IRIS = load_iris(return_X_y=True)
CANCER = load_breast_cancer(return_X_y=True)
DIABETES = load_diabetes().data * 20, (load_diabetes().target - 150) / 75
WEIGHTS = np.random.default_rng(0).uniform(0.1, 2, 150)


@pytest.fixture(params=[choice.available()[0], choice.REFERENCE])
def computed_by(request, monkeypatch):
    """The best backend and the reference, in turn the default."""
    monkeypatch.setattr(choice, "default", lambda: choice.load(request.param))
    return request.param


def network(kind=MLPClassifier, **settings):
    return kind(**{"hidden_layer_sizes": (5,), "max_iter": 12, "random_state": 0, **settings})


def pipeline(**settings):
    return Pipeline([("scale", StandardScaler()), ("reduce", PCA()), ("net", network(**settings))])


def assert_same(ours, theirs):
    """The results of two searches, without the times."""
    results = [
        {name: values for name, values in each.cv_results_.items() if "time" not in name}  #
        for each in (ours, theirs)
    ]
    assert list(results[0]) == list(results[1])
    for name, values in results[1].items():
        if name == "params":
            assert list(map(repr, results[0][name])) == list(map(repr, values))
        elif values.dtype == object:
            assert repr(results[0][name]) == repr(values)
        else:
            np.testing.assert_array_equal(results[0][name], values, name)
            assert results[0][name].dtype == values.dtype
    for name in ("best_index_", "best_params_", "best_score_", "n_splits_", "multimetric_"):
        assert repr(getattr(ours, name, None)) == repr(getattr(theirs, name, None)), name


def both(estimator, grid, rows=IRIS, fit_params=None, **settings):
    """Our search and scikit-learn's, fitted."""
    settings = {"cv": 3, **settings}
    ours = FleetSearchCV(estimator, grid, **settings).fit(*rows, **(fit_params or {}))
    theirs = GridSearchCV(estimator, grid, **settings).fit(*rows, **(fit_params or {}))
    assert_same(ours, theirs)
    if settings.get("refit", True) is not False:
        np.testing.assert_array_equal(ours.predict(rows[0]), theirs.predict(rows[0]))
        assert ours.score(*rows) == theirs.score(*rows)
    return ours, theirs


NETWORK_GRID = {"alpha": [1e-4, 1.0], "learning_rate_init": [0.01, 0.1]}


def test_networks(computed_by):
    both(network(), NETWORK_GRID)
    both(network(MLPRegressor, early_stopping=True), NETWORK_GRID, DIABETES)


def test_pipelines(computed_by):
    grid = {"net__alpha": [1e-4, 1.0], "reduce__n_components": [2, 3], "net__hidden_layer_sizes": [(5,), (4, 3)]}
    both(pipeline(), grid, return_train_score=True)


def test_all_networks_of_a_shape_are_one_fleet(monkeypatch):
    sizes = []
    train = Together.train
    monkeypatch.setattr(
        Together,
        "train",
        lambda self, share: sizes.extend(len(group) for group, _ in self.fleets) or train(self, share),
    )
    grid = {"net__alpha": [1e-4, 1.0], "reduce__n_components": [2, 3], "net__random_state": [0, 1, 2]}
    FleetSearchCV(pipeline(), grid, cv=3, refit=False).fit(*IRIS)
    assert sizes == [18, 18]


def test_transformers_are_fitted_once_for_a_fold_and_a_setting(monkeypatch):
    fits = []
    fit = PCA._fit
    monkeypatch.setattr(PCA, "_fit", lambda self, X: fits.append(self.n_components) or fit(self, X))
    grid = {"net__alpha": [1e-4, 1.0, 2.0], "reduce__n_components": [2, 3]}
    FleetSearchCV(pipeline(), grid, cv=3, refit=False).fit(*IRIS)
    assert sorted(fits) == [2] * 3 + [3] * 3


@pytest.mark.parametrize(
    "grid",
    [
        {"scale": [StandardScaler(), MinMaxScaler(), "passthrough"], "net__solver": ["adam", "sgd", "lbfgs"]},
        {"net": [network(), network(alpha=1.0), LogisticRegression()]},
        [{"net__activation": ["tanh", "relu"]}, {"net__early_stopping": [True], "net__batch_size": [8, 16]}],
        {"net__learning_rate": ["constant", "invscaling", "adaptive"], "net__solver": ["sgd"], "net__tol": [0.1]},
        {"net__class_weight": [None, "balanced", {0: 2.0, 1: 1.0, 2: 1.0}]},
        {"net__random_state": [0, np.random.RandomState(0)]},
    ],
    ids=["steps", "estimators", "several grids", "schedules", "class weights", "random states"],
)
def test_grids(grid):
    both(pipeline(), grid)


@pytest.mark.parametrize(
    "settings",
    [
        {"scoring": "neg_log_loss"},
        {"scoring": ["accuracy", "f1_macro"], "refit": "f1_macro", "return_train_score": True},
        {"scoring": {"one": make_scorer(accuracy_score), "two": "roc_auc_ovr"}, "refit": False},
        {"scoring": lambda estimator, X, y: float(estimator.score(X, y) + len(estimator.named_steps))},
        {"scoring": lambda estimator, X, y: {"a": estimator.score(X, y), "b": 1.0}, "refit": "a"},
        {"refit": lambda results: int(results["rank_test_score"].argmax())},
        {"refit": False},
        {"cv": ShuffleSplit(4, random_state=0)},
        {"cv": list(KFold(3, shuffle=True, random_state=0).split(IRIS[0]))},
        {"n_jobs": 2},
    ],
    ids=[
        "log loss", "several", "a dictionary", "a function", "a function of several", "refit by a function", "no refit",
        "splitter", "splits", "jobs",
    ],
)  # fmt: skip
def test_settings(settings):
    both(pipeline(), {"net__alpha": [1e-4, 1.0, 10.0]}, **settings)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_what_is_not_ours_is_fitted_one_by_one(n_jobs):
    both(LogisticRegression(), {"C": [0.1, 1.0]}, n_jobs=n_jobs)
    both(pipeline(), {"net__solver": ["lbfgs"], "net__alpha": [1e-4, 1.0]}, n_jobs=n_jobs)


def test_a_subclass_with_a_fit_of_its_own_is_fitted_by_it():
    class Reversed(MLPClassifier):
        def fit(self, X, y):
            return super().fit(X[::-1], y[::-1])

    both(Reversed(5, max_iter=12, batch_size=16, random_state=0), {"alpha": [1e-4, 1.0]})


def test_parameters_of_fit():
    both(network(), NETWORK_GRID, fit_params={"sample_weight": WEIGHTS})
    both(pipeline(), {"net__alpha": [1e-4, 1.0]}, fit_params={"net__sample_weight": WEIGHTS})
    both(network(), NETWORK_GRID, fit_params={"X_val": IRIS[0][:30], "y_val": IRIS[1][:30]})
    both(network(), NETWORK_GRID, fit_params={"groups": np.arange(150) % 4}, cv=GroupKFold(4))


def test_metadata_routing():
    with config_context(enable_metadata_routing=True):
        net = network().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        weighted = {"sample_weight": WEIGHTS}
        both(net, NETWORK_GRID, fit_params=weighted)
        scale = StandardScaler().set_fit_request(sample_weight=True)
        grid = {"mlpclassifier__alpha": [1e-4, 1.0]}
        if parse_version(sklearn.__version__) >= parse_version("1.8"):  # before, it refuses weights for a pipeline
            both(make_pipeline(scale, net), grid, fit_params=weighted)
        validated = network().set_fit_request(X_val=True, y_val=True)
        held_out = {"X_val": IRIS[0][:30], "y_val": IRIS[1][:30]}
        both(Pipeline([("s", StandardScaler()), ("mlpclassifier", validated)], transform_input=["X_val"]), grid,
             fit_params=held_out)  # fmt: skip


def test_data_frames_and_sparse_transformers():
    pandas = pytest.importorskip("pandas")
    X, y = pandas.DataFrame(IRIS[0], columns=list("abcd")), pandas.Series(np.array(["x", "y", "z"])[IRIS[1]])
    ours, _ = both(pipeline(), {"net__alpha": [1e-4, 1.0]}, (X, y))
    assert list(ours.feature_names_in_) == list("abcd")
    encode = OneHotEncoder(handle_unknown="ignore")
    both(make_pipeline(encode, network()), {"mlpclassifier__alpha": [1e-4, 1.0]}, (IRIS[0].round(), IRIS[1]))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_fits_that_fail():
    grid = {"alpha": [1e-4, -1.0], "learning_rate_init": [0.01, 1e200], "solver": ["sgd"]}
    with pytest.warns(FitFailedWarning, match="9 fits failed out of a total of 12"):
        ours = FleetSearchCV(network(), grid, cv=3, error_score=-1.0).fit(*IRIS)
    with pytest.warns(FitFailedWarning):
        theirs = GridSearchCV(network(), grid, cv=3, error_score=-1.0).fit(*IRIS)
    assert_same(ours, theirs)
    with pytest.raises(ValueError, match="alpha: needs"):
        FleetSearchCV(network(), {"alpha": [1.0, -1.0]}, cv=3, error_score="raise").fit(*IRIS)
    with pytest.raises(ValueError, match="All the 3 fits failed"):
        FleetSearchCV(network(), {"alpha": [-1.0]}, cv=3).fit(*IRIS)
    several = {"scoring": ["accuracy", "f1_macro"], "refit": "accuracy", "error_score": 0.0}
    for more in (several, {"scoring": lambda *_: {"a": 1.0}, "refit": "a", "error_score": 0.0}):
        with pytest.warns(FitFailedWarning):
            both(network(), {"alpha": [1e-4, -1.0]}, return_train_score=True, **more)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_fit_whose_held_out_rows_count_for_nothing(monkeypatch):
    monkeypatch.setattr(MLPClassifier, "_split", lambda _, n_rows, *__: (np.arange(10, n_rows), np.arange(10)))
    weight = np.repeat([0.0, 1.0], [10, len(IRIS[0]) - 10])
    model = network().set_params(early_stopping=True)
    cv = [(np.arange(100), np.arange(100, 150)), (np.arange(50, 150), np.arange(50))]
    search = FleetSearchCV(model, {"alpha": [1e-4, 1.0]}, cv=cv, error_score=-1.0, refit=False)
    with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 4"):
        search.fit(*IRIS, sample_weight=weight)
    assert (search.cv_results_["split0_test_score"] == -1).all()
    assert (search.cv_results_["split1_test_score"] >= 0).all()


def test_transformers_that_fail():
    grid = {"reduce__n_components": [2, 50], "net__alpha": [1e-4, 1.0]}
    with pytest.warns(FitFailedWarning, match="6 fits failed out of a total of 12"):
        both(pipeline(), grid, error_score=0.0)


def test_scores_that_fail():
    def fails(estimator, X, y):
        raise RuntimeError("no score")

    with pytest.warns(UserWarning, match="Scoring failed"):
        search = FleetSearchCV(network(), NETWORK_GRID, cv=3, scoring=fails, error_score=0.5, refit=False).fit(*IRIS)
    assert (search.cv_results_["mean_test_score"] == 0.5).all()


def test_randomized_search(computed_by):
    settings = {"n_iter": 5, "random_state": 3, "cv": 3}
    distributions = {"net__alpha": loguniform(1e-4, 1), "net__activation": ["tanh", "relu"]}
    ours = FleetSearchCV(pipeline(), param_distributions=distributions, **settings).fit(*IRIS)
    assert_same(ours, RandomizedSearchCV(pipeline(), distributions, **settings).fit(*IRIS))


@pytest.mark.parametrize("grids", [{}, {"param_grid": NETWORK_GRID, "param_distributions": NETWORK_GRID}])
def test_one_of_grid_and_distributions(grids):
    with pytest.raises(ValueError, match="param_grid: needs to be given, or else param_distributions, got"):
        FleetSearchCV(network(), **grids).fit(*IRIS)


@pytest.mark.parametrize(
    "wrong", [{"n_iter": 0}, {"factor": 1}, {"cv": "x"}, {"scoring": 3}, {"param_grid": 3}], ids=str
)
def test_parameters_are_checked(wrong):
    with pytest.raises(ValueError, match=f"The '{next(iter(wrong))}' parameter of FleetSearchCV"):
        FleetSearchCV(network(), **{"param_grid": NETWORK_GRID, **wrong}).fit(*IRIS)


def test_what_is_printed(capsys):
    FleetSearchCV(network(), {"alpha": [1.0]}, cv=3, verbose=1).fit(*IRIS)
    assert capsys.readouterr().out == "Fitting 3 folds for each of 1 candidates, totalling 3 fits\n"
    FleetSearchCV(network(), {"alpha": [1.0]}, cv=3, verbose=2).fit(*IRIS)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("[CV] alpha=1.0; 0.")


def test_times_are_shares():
    results = FleetSearchCV(pipeline(), {"net__alpha": [1e-4, 1.0]}, cv=3).fit(*IRIS).cv_results_
    assert (results["mean_fit_time"] > 0).all()
    assert (results["mean_score_time"] > 0).all()


# --- successive halving --------------------------------------------------------------------------------------------


def test_the_worst_are_dropped(computed_by):
    rates = [1e-6, 1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3]
    grid = {"net__learning_rate_init": rates}
    search = FleetSearchCV(pipeline(max_iter=90), grid, cv=3, successive_halving=True).fit(*IRIS)
    results = search.cv_results_
    assert sorted(results["iter"]) == [0] * 6 + [1, 1, 2]
    np.testing.assert_allclose(sorted(results["resources"]), [1 / 9] * 6 + [1 / 3] * 2 + [1])
    assert results["iter"][search.best_index_] == 2
    assert results["rank_test_score"][search.best_index_] == 1
    assert sorted(results["rank_test_score"])[:3] == [1, 2, 3] or sorted(results["rank_test_score"])[1:3] == [2, 2]
    whole = GridSearchCV(pipeline(max_iter=90), grid, cv=3).fit(*IRIS).cv_results_["mean_test_score"]
    assert results["mean_test_score"][search.best_index_] == whole[search.best_index_]  # it was trained as if alone
    assert whole[search.best_index_] > np.median(whole)
    dropped = [k for k in range(9) if results["iter"][k] == 0]
    short = GridSearchCV(pipeline(max_iter=10), grid, cv=3).fit(*IRIS).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(results["mean_test_score"][dropped], short[dropped])


def test_halving_with_other_factors_and_few_candidates():
    grid = {"alpha": [1e-4, 1e-3, 1e-2, 1e-1, 1.0]}
    results = FleetSearchCV(network(), grid, cv=3, successive_halving=True, factor=2).fit(*IRIS).cv_results_
    assert sorted(results["iter"]) == [0, 0, 1, 2, 2]
    results = FleetSearchCV(network(), {"alpha": [1.0, 2.0]}, cv=3, successive_halving=True).fit(*IRIS).cv_results_
    assert list(results["iter"]) == [0, 0]
    assert list(results["resources"]) == [1, 1]


def test_halving_by_one_of_several_scores():
    grid = {"alpha": [1e-4, 1e-2, 1.0]}
    settings = {"cv": 3, "successive_halving": True, "scoring": ["accuracy", "neg_log_loss"]}
    search = FleetSearchCV(network(), grid, refit="neg_log_loss", **settings).fit(*IRIS)
    assert sorted(search.cv_results_["rank_test_accuracy"])[0] == 1
    with pytest.raises(ValueError, match="refit: needs the name of a score for successive_halving"):
        FleetSearchCV(network(), grid, refit=False, **settings).fit(*IRIS)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_halving_with_fits_that_fail_or_are_fitted_alone():
    grid = {"learning_rate_init": [1e-3, 1e-2, 1e200], "solver": ["sgd", "adam", "lbfgs"]}
    with pytest.warns(FitFailedWarning):
        search = FleetSearchCV(network(), grid, cv=3, successive_halving=True).fit(*IRIS)
    failed = search.cv_results_["params"].index({"learning_rate_init": 1e200, "solver": "sgd"})
    assert np.isnan(search.cv_results_["mean_test_score"][failed])
    assert search.cv_results_["iter"][failed] == 0


# --- an estimator like others --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [
        FleetSearchCV(MLPClassifier(20, max_iter=100, random_state=0), {"learning_rate_init": [0.01, 0.03]}, cv=2),
        FleetSearchCV(MLPRegressor(max_iter=40, random_state=0), {"alpha": [1e-4, 1e-2]}, cv=2, error_score="raise"),
    ]
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_it_is_an_estimator():
    search = FleetSearchCV(pipeline(), {"net__alpha": [1e-4, 1.0]}, cv=3)
    assert is_classifier(search)
    assert repr(clone(search)) == repr(search)
    with pytest.raises(NotFittedError):
        search.predict(IRIS[0])
    search.fit(*IRIS)
    same = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(same.predict_proba(IRIS[0]), search.predict_proba(IRIS[0]))
    assert cross_val_score(search, *IRIS, cv=StratifiedKFold(2)).shape == (2,)
    set_config()


def test_breast_cancer_in_24_candidates_and_5_folds():
    grid = {
        "net__alpha": [1e-4, 1e-2],
        "net__learning_rate_init": [1e-3, 1e-2],
        "net__activation": ["relu", "tanh"],
        "net__hidden_layer_sizes": [(8,), (16,), (8, 4)],
    }
    estimator = Pipeline([("scale", StandardScaler()), ("net", network(max_iter=10))])
    ours, _ = both(estimator, grid, CANCER, cv=5)
    assert len(ours.cv_results_["params"]) == 24
