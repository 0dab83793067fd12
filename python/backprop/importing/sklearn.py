"""Estimators of scikit-learn as networks."""

from __future__ import annotations

from typing import Any

from backprop.base import checks as check
from backprop.importing.stack import Stack, named
from backprop.network import Network

_WAYS = {
    "steps": "; of a pipeline, give the last step, or let skl2onnx and from_onnx put its scalers into the weights",
    "best_estimator_": "; of a search, give best_estimator_",
    "estimators_": "; of an ensemble, give one of its estimators_",
}
_SKLEARN_NAMES = {"logistic": "sigmoid"}


def from_sklearn(estimator: Any, *, seed: int | None = None, backend: str | None = None) -> Network:
    """Return a network with the weights of a fitted scikit-learn ``MLPClassifier`` or ``MLPRegressor``.

    Parameters
    ----------
    estimator
        Anything fitted that has ``coefs_``, ``intercepts_``, ``activation`` and ``out_activation_``.
    seed, backend
        See `Network`. The seed decides the order of the rows in further training.

    Returns
    -------
    Network
        It predicts what the estimator's ``predict_proba`` or ``predict`` gives, one column per output; a binary
        classifier has one, the probability of its second class. The dtype is that of the coefficients. It knows the
        names of the columns that the estimator knows. How that was trained (``alpha``, ``solver``) is not taken over.

    Raises
    ------
    TypeError
        If it is not such an estimator, or not fitted.

    Examples
    --------
    >>> import backprop as bp
    >>> from sklearn.neural_network import MLPClassifier
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
    >>> estimator = MLPClassifier((3,), "tanh", solver="lbfgs", random_state=0).fit(X, y)
    >>> net = bp.from_sklearn(estimator, seed=0)
    >>> net
    Network(1, [Dense(3, 'tanh'), Dense(1, 'sigmoid')], dtype='float64', seed=0)
    >>> bool(abs(net.predict(X)[:, 0] - estimator.predict_proba(X)[:, 1]).max() < 1e-14)
    True
    """
    missing = [
        name for name in ("coefs_", "intercepts_", "activation", "out_activation_") if not hasattr(estimator, name)
    ]
    if missing:
        raise TypeError(
            f"estimator: needs a fitted MLPClassifier or MLPRegressor, got {check.shown(estimator)} "
            f"without {', '.join(missing)}{next((way for name, way in _WAYS.items() if hasattr(estimator, name)), '')}"
        )
    hidden = estimator.activation
    names = [hidden] * (len(estimator.coefs_) - 1) if isinstance(hidden, str) else list(hidden)
    stack = Stack()
    for k, (name, W, b) in enumerate(
        zip([*names, estimator.out_activation_], estimator.coefs_, estimator.intercepts_, strict=True)
    ):
        stack.dense(f"coefs_[{k}]", W, b)
        slopes = estimator.slopes_[k] if hasattr(estimator, "slopes_") else None
        stack.activation(f"layer {k}", named(f"layer {k}", name, _SKLEARN_NAMES, None), slopes)
    network = stack.network(None, seed, backend)
    network.feature_names = getattr(estimator, "feature_names_in_", None)
    return network
