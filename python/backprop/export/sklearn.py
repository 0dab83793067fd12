"""Networks as fitted estimators of scikit-learn."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from backprop.base import checks as check
from backprop.reference.layout import by_layer, layout

if TYPE_CHECKING:
    from backprop.model.model import Model

HIDDEN = MappingProxyType({"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"})
"""scikit-learn's names of the activations of hidden layers"""
OUTPUTS = MappingProxyType({"identity": "identity", "sigmoid": "logistic", "softmax": "softmax"})
_WAYS = "backprop.sklearn has estimators for all activations, and to_onnx takes any network"


def to_sklearn(model: Model, classes: Any) -> Any:
    """Return a fitted ``MLPClassifier`` or ``MLPRegressor`` of scikit-learn; see `Network.to_sklearn`."""
    try:
        from sklearn.neural_network import MLPClassifier, MLPRegressor
    except ImportError as error:
        raise ImportError(f"to_sklearn: needs scikit-learn, pip install scikit-learn ({error})") from error
    *hidden, output = (layer.activation for layer in model.layers)
    if len(set(hidden)) > 1 or not HIDDEN.keys() >= set(hidden):
        raise ValueError(
            f"to_sklearn: needs one activation among {', '.join(HIDDEN)} in all hidden layers, got "
            f"{', '.join(hidden)}; {_WAYS}"
        )
    if output not in OUTPUTS:
        raise ValueError(f"to_sklearn: needs an output of {', '.join(OUTPUTS)}, got {output}; {_WAYS}")
    if output == "softmax" and model.n_outputs < 3:
        raise ValueError(
            f"to_sklearn: needs softmax for 3 classes or more, got {model.n_outputs}: for two scikit-learn has one "
            f"output with sigmoid, so train one; or {_WAYS}"
        )
    kind = MLPRegressor if output == "identity" else MLPClassifier
    estimator = kind(
        hidden_layer_sizes=tuple(layer.units for layer in model.layers[:-1]),
        activation=HIDDEN[hidden[0]] if hidden else "relu",
    )
    estimator.coefs_, estimator.intercepts_ = [], []
    for own in by_layer(layout(model.n_inputs, model.layers), len(model.layers)):
        arrays = {each.name: each.of(model.parameters).copy() for each in own}
        estimator.coefs_.append(arrays["weights"])
        estimator.intercepts_.append(arrays.get("biases", np.zeros(arrays["weights"].shape[1], model.dtype)))
    estimator.n_features_in_, estimator.n_outputs_ = model.n_inputs, model.n_outputs
    estimator.n_layers_, estimator.out_activation_ = len(model.layers) + 1, OUTPUTS[output]
    estimator.n_iter_, estimator.t_ = model.history.epochs, 0
    # What partial_fit and warm_start go on from: no loss so far.
    estimator.loss_curve_, estimator.best_loss_, estimator._no_improvement_count = [], np.inf, 0
    estimator.validation_scores_, estimator.best_validation_score_ = [], -np.inf
    if model.feature_names is not None:
        estimator.feature_names_in_ = np.array(model.feature_names, object)
    if kind is MLPClassifier:
        _set_classes(estimator, output, model.n_outputs, classes)
    elif classes is not None:
        raise ValueError("classes: needs None for a network with the identity as output, which is a regression")
    return estimator


def _set_classes(estimator: Any, output: str, n_outputs: int, classes: Any) -> None:
    """Let a classifier know its classes: those of softmax, the two of one sigmoid, or several labels."""
    from sklearn.preprocessing import LabelBinarizer

    several = output == "sigmoid" and n_outputs > 1
    n = n_outputs if output == "softmax" or several else 2
    known = np.arange(n) if classes is None else np.asarray(classes)
    if known.shape != (n,) or len(set(known.tolist())) != n or (known != np.sort(known)).any():
        raise ValueError(f"classes: needs {n} different ones in ascending order, got {check.shown(classes)}")
    if several and classes is not None:
        raise ValueError("classes: needs None for several outputs with sigmoid, which are labels of their own")
    rows = np.vstack([np.eye(n, dtype=int), np.ones((1, n), int)]) if several else known
    estimator._label_binarizer = LabelBinarizer().fit(rows)
    estimator.classes_ = known
