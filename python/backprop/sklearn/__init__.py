"""scikit-learn's multi-layer perceptrons on this library's core: change one import line.

``from sklearn.neural_network import MLPClassifier, MLPRegressor`` becomes ``from backprop.sklearn import MLPClassifier,
MLPRegressor``: the same parameters, attributes, initial weights, steps and stop rules, and more of each. Beside them
are ensembles and a search, whose networks are trained side by side. The page ``docs/estimators.md`` has what is more
and what differs.
"""

try:
    from sklearn.utils.validation import validate_data  # noqa: F401, since 1.6
except ImportError as error:
    raise ImportError(
        f"backprop.sklearn: needs scikit-learn 1.7 or later, pip install 'bpcore[sklearn]' ({error})"
    ) from error

from backprop.base.keywords import explain
from backprop.sklearn.classifier import MLPClassifier
from backprop.sklearn.converting import register_if_imported, register_skl2onnx
from backprop.sklearn.ensembles import MLPEnsembleClassifier, MLPEnsembleRegressor
from backprop.sklearn.parameters import InvalidParameterError
from backprop.sklearn.regressor import MLPRegressor
from backprop.sklearn.search import FleetSearchCV

__all__ = [
    "FleetSearchCV", "InvalidParameterError", "MLPClassifier", "MLPEnsembleClassifier", "MLPEnsembleRegressor",
    "MLPRegressor", "register_skl2onnx",
]  # fmt: skip

for _public in (FleetSearchCV, MLPClassifier, MLPEnsembleClassifier, MLPEnsembleRegressor, MLPRegressor):
    _public.__module__ = __name__  # by this name files find them, wherever they stand
explain(FleetSearchCV, MLPClassifier, MLPRegressor)
register_skl2onnx.__module__ = __name__

register_if_imported()
