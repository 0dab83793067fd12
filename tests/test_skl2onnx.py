"""Our estimators through skl2onnx, in either order of the imports."""

import subprocess
import sys

import numpy as np
import pytest

skl2onnx = pytest.importorskip("skl2onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from backprop.sklearn import (  # noqa: E402
    FleetSearchCV,
    MLPClassifier,
    MLPEnsembleClassifier,
    MLPEnsembleRegressor,
    MLPRegressor,
)
from sklearn.datasets import load_diabetes, load_iris  # noqa: E402
from sklearn.ensemble import VotingClassifier  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")

FEW = {"max_iter": 30, "random_state": 0}


def run(model, X):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: X})


@pytest.fixture
def rows(dtype):
    X, y = load_iris(return_X_y=True)
    return X.astype(dtype), y


def same(found, wanted):
    """As equal as onnxruntime in the dtype of X and the estimator, which may compute in float64, can be."""
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_the_line_of_the_case():
    X, y = load_iris(return_X_y=True)
    estimator = MLPClassifier((5,), **FEW).fit(X, y)
    label, maps = run(skl2onnx.to_onnx(estimator, X[:1]), X)
    assert (label == estimator.predict(X)).all()
    same([[row[k] for k in range(3)] for row in maps], estimator.predict_proba(X))


ORDERS = [
    "import skl2onnx; from backprop.sklearn import MLPClassifier",
    "from backprop.sklearn import MLPClassifier; import skl2onnx",
]


@pytest.mark.parametrize("imports", ORDERS)
@pytest.mark.parametrize("options", [None, {"zipmap": False}, "of the class"])
def test_either_order_of_imports(imports, options):
    options = "{MLPClassifier: {'zipmap': False}}" if options == "of the class" else repr(options)
    code = f"""
import warnings; warnings.simplefilter("ignore")
{imports}
from sklearn.datasets import load_iris
X, y = load_iris(return_X_y=True)
model = MLPClassifier((5,), max_iter=2).fit(X, y)
for _ in range(2):
    print([each.name for each in skl2onnx.to_onnx(model, X[:1], options={options}).graph.output])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = ["output_label", "output_probability"] if options == "None" else ["label", "probabilities"]
    assert done.stdout.splitlines() == [str(names)] * 2


def test_importing_the_estimators_does_not_import_skl2onnx():
    code = "import sys, backprop.sklearn; print('skl2onnx' in sys.modules, 'onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


LABELS = {
    "integers": lambda y: y,
    "two": lambda y: (y > 0) * 3 - 1,
    "texts": lambda y: np.array(["setosa", "versicolor", "größer"])[y],
    "two texts": lambda y: np.where(y == 1, "yes", "no"),
    "objects": lambda y: np.array(["a", "b", "c"], object)[y],
    "booleans": lambda y: y == 2,
    "floats": lambda y: y.astype(float),
    "one": lambda y: y * 0 + 7,
    "multilabel": lambda y: np.stack([y == 0, y == 1, y > 0], axis=1).astype(int),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("Estimator", [MLPClassifier, MLPEnsembleClassifier])
def test_classifiers(rows, kind, Estimator):
    X, y = rows[0], LABELS[kind](rows[1])
    if Estimator is MLPClassifier:
        estimator = MLPClassifier((5, 4), "tanh", **FEW).fit(X, y)
    else:
        estimator = MLPEnsembleClassifier(hidden_layer_sizes=(5,), n_estimators=3, members="bootstrap", **FEW).fit(X, y)
    label, probabilities = run(skl2onnx.to_onnx(estimator, X[:1], options={"zipmap": False}), X)
    wanted = estimator.predict(X)
    assert label.shape == wanted.shape
    assert (label == wanted).all()
    assert probabilities.dtype == X.dtype
    same(probabilities, estimator.predict_proba(X))


@pytest.mark.parametrize("zipmap", [True, False, "columns"])
@pytest.mark.parametrize("texts", [False, True])
def test_the_option_zipmap_is_that_of_scikit_learns_estimator(rows, zipmap, texts):
    from sklearn.neural_network import MLPClassifier as Theirs

    X, y = rows[0].astype(np.float32), LABELS["texts" if texts else "integers"](rows[1])
    models = [
        skl2onnx.to_onnx(make_pipeline(StandardScaler(), E((5,), **FEW)).fit(X, y), X[:1], options={"zipmap": zipmap})
        for E in (MLPClassifier, Theirs)
    ]
    ours, theirs = ([(each.name, each.type.WhichOneof("value")) for each in model.graph.output] for model in models)
    assert ours == theirs
    for one, other in zip(*(run(model, X) for model in models), strict=True):
        assert type(one) is type(other)
        if isinstance(one, list):
            assert [list(row) for row in one] == [list(row) for row in other]


def test_classes_by_number(rows):
    X, y = rows[0], LABELS["texts"](rows[1])
    estimator = MLPClassifier((5,), **FEW).fit(X, y)
    label, _ = run(skl2onnx.to_onnx(estimator, X[:1], options={"nocl": True, "zipmap": False}), X)
    assert (estimator.classes_[label] == estimator.predict(X)).all()


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("Estimator", [MLPRegressor, MLPEnsembleRegressor])
def test_regressors(dtype, n_outputs, Estimator):
    X, y = load_diabetes(return_X_y=True)
    X, y = X.astype(dtype) * 10, y if n_outputs == 1 else np.stack([y, y / 2, -y], axis=1)
    more = {"n_estimators": 3} if Estimator is MLPEnsembleRegressor else {}
    estimator = Estimator(hidden_layer_sizes=(6,), activation="gelu", scale_targets=True, **more, **FEW).fit(X, y)
    (found,) = run(skl2onnx.to_onnx(estimator, X[:1]), X)
    assert found.shape == (len(X), n_outputs)
    same(found / 100, estimator.predict(X).reshape(found.shape) / 100)


def test_pipelines_and_searches(rows):
    X, y = rows
    inner = make_pipeline(StandardScaler(), MLPClassifier((5,), **FEW))
    for estimator in (
        inner,
        GridSearchCV(inner, {"mlpclassifier__alpha": [0.1, 0.01]}, cv=2),
        FleetSearchCV(MLPClassifier((5,), **FEW), {"alpha": [0.1, 0.01]}, cv=2),
        VotingClassifier([("a", MLPClassifier((5,), **FEW)), ("b", inner)], voting="soft", flatten_transform=False),
    ):
        estimator.fit(X, y)
        label, probabilities = run(skl2onnx.to_onnx(estimator, X[:1], options={"zipmap": False}), X)
        assert (label == estimator.predict(X)).mean() > 0.99  # float32 and float64 may decide a tie otherwise
        same(probabilities, estimator.predict_proba(X))


@pytest.mark.parametrize("activation", ["logistic", "elu", "prelu", "softplus", ["relu", "mish"]])
def test_activations(rows, activation):
    X, y = rows
    estimator = MLPClassifier((5, 4), activation, **FEW).fit(X, y)
    _, probabilities = run(skl2onnx.to_onnx(estimator, X[:1], options={"zipmap": False}), X)
    same(probabilities, estimator.predict_proba(X))


def test_what_cannot_be_converted_says_why(rows):
    X, y = rows
    estimator = MLPClassifier((5,), **FEW).fit(X, y)
    estimator.classes_ = estimator.classes_ + 0.5
    with pytest.raises(ValueError, match="needs classes that are integers or texts for ONNX"):
        skl2onnx.to_onnx(estimator, X[:1])
    search = FleetSearchCV(make_pipeline(StandardScaler(), MLPClassifier((5,), **FEW)), {}, cv=2).fit(X, y)
    with pytest.raises(ValueError, match=r"convert search.best_estimator_ itself"):
        skl2onnx.to_onnx(search, X[:1])
